/* SPDX-License-Identifier: Apache-2.0
 *
 * The located tree: places of nodes and of bytes inside scalars, the rules, the limits.
 */
#include "conf_rig.h"

static void is_text(const struct conf_rig *r, const char *path, const char *text, uint32_t line,
                    uint32_t col, uint32_t width)
{
    const struct wr_node *n = conf_at(r, path);

    assert_int_equal(n->kind, WR_NODE_SCALAR);
    assert_string_equal(n->text.ptr, text);
    assert_int_equal(n->pos.line, line);
    assert_int_equal(n->pos.col, col);
    assert_int_equal(n->pos.width, width);
}

static void every_node_has_its_place(void **state)
{
    struct conf_rig r;
    const struct wr_field *f;
    (void)state;

    conf_read(&r, "a: one\n"
                  "list:\n"
                  "  - 'x y'\n"
                  "  - {k: \"v\", \xc3\xa9\xe6\x97\xa5: \xc3\xbc}\n"
                  "empty:\n"
                  "last: [1, 2]\n");
    assert_true(r.ok);
    is_text(&r, "a", "one", 1, 4, 3);
    is_text(&r, "list.0", "x y", 3, 5, 5);
    is_text(&r, "list.1.k", "v", 4, 9, 3);
    is_text(&r, "list.1.\xc3\xa9\xe6\x97\xa5", "\xc3\xbc", 4, 18, 1);
    is_text(&r, "last.1", "2", 6, 11, 1);
    assert_int_equal(wr_scalar_type(conf_at(&r, "empty")), WR_SCALAR_NULL);
    assert_int_equal(conf_at(&r, "list.1")->pos.line, 4);
    assert_int_equal(conf_at(&r, "list.1")->pos.col, 5);
    f = wr_node_field(r.conf.root, weir_cstr("list"));
    assert_int_equal(f->pos.line, 2);
    assert_int_equal(f->pos.col, 1);
    assert_int_equal(f->pos.width, 4);
    assert_int_equal(r.conf.root->weight, 11);
    assert_int_equal(r.conf.root->height, 3);
    conf_done(&r);
}

static void byte_ranges_hold_the_source(void **state)
{
    static const char text[] = "\xc3\xa9: 'quoted'\nb: &x !!str plain # no\nc: |\n  block\n";
    struct conf_rig r;
    const struct wr_node *n;
    (void)state;

    conf_read(&r, text);
    assert_true(r.ok);
    n = conf_at(&r, "\xc3\xa9");
    assert_memory_equal(text + n->start, "'quoted'", n->end - n->start);
    n = conf_at(&r, "b");
    assert_int_equal(n->end - n->start, 5);
    assert_memory_equal(text + n->start, "plain", 5);
    assert_int_equal(n->pos.col, 13);
    assert_int_equal(n->pos.width, 5);
    assert_int_equal(wr_scalar_type(n), WR_SCALAR_STRING);
    n = conf_at(&r, "c");
    assert_memory_equal(text + n->start, "|\n  block\n", n->end - n->start);
    conf_done(&r);
}

static void bytes_inside_scalars_have_places(void **state)
{
    static const struct {
        const char *yaml;
        const char *find; /* in the text of `k` */
        uint32_t line, col;
    } cases[] = {
        {"k: abc def", "def", 1, 8},
        {"k: abc\n  def\n\n  ghi", "ghi", 4, 3},
        {"k: 'it''s X'", "X", 1, 11},
        {"k: \"a\\tb\\\"\\u00e9X\"", "X", 1, 17},
        {"k: \"a \\\n   b X\"", "X", 2, 6},
        {"k: \"a\\x20\\x41X\"", "X", 1, 14},
        {"k: |\n  one\n    two X\n", "X", 3, 9},
        {"k: |2 # note\n    one\n  X\n", "X", 3, 3},
        {"k: >-\n  one\n  two X\n\n  three Y\n", "Y", 5, 9},
        {"k: |\n  \xe6\x97\xa5 X\n", "X", 2, 5},
        {"k: |\n  a\n\n\n  X\n", "X", 5, 3},
        {"k: &anchor\n  abc X", "X", 2, 7},
        {"k: |\r\n  one\r\n  X\r\n", "X", 3, 3},
    };
    (void)state;

    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        struct conf_rig r;
        const struct wr_node *n;
        struct wr_pos pos;
        conf_read(&r, cases[i].yaml);
        assert_true(r.ok);
        n = conf_at(&r, "k");
        pos = wr_node_pos_at(n, (size_t)(strstr(n->text.ptr, cases[i].find) - n->text.ptr));
        if (pos.line != cases[i].line || pos.col != cases[i].col)
            fail_msg("case %zu: %u:%u", i, pos.line, pos.col);
        conf_done(&r);
    }
}

static void any_offset_gives_a_place_in_the_scalar(void **state)
{
    struct conf_rig r;
    const struct wr_node *n;
    (void)state;

    conf_read(&r, "k: \"a \\n \\t b\"\nz: 1");
    n = conf_at(&r, "k");
    for (size_t i = 0; i < n->text.len + 9; i++) {
        struct wr_pos pos = wr_node_pos_at(n, i);
        assert_int_equal(pos.line, 1);
        assert_in_range(pos.col, 4, 15);
    }
    conf_done(&r);
}

static void types_are_those_of_the_core_schema(void **state)
{
    static const struct {
        const char *yaml;
        enum wr_scalar_type type;
    } cases[] = {{"~", WR_SCALAR_NULL},          {"null", WR_SCALAR_NULL},
                 {"Null", WR_SCALAR_NULL},       {"nULL", WR_SCALAR_STRING},
                 {"true", WR_SCALAR_BOOL},       {"False", WR_SCALAR_BOOL},
                 {"yes", WR_SCALAR_STRING},      {"on", WR_SCALAR_STRING},
                 {"12", WR_SCALAR_INT},          {"-12", WR_SCALAR_INT},
                 {"0x1f", WR_SCALAR_INT},        {"0o17", WR_SCALAR_INT},
                 {"0x", WR_SCALAR_STRING},       {"1_000", WR_SCALAR_STRING},
                 {"1.5", WR_SCALAR_FLOAT},       {".5", WR_SCALAR_FLOAT},
                 {"1.", WR_SCALAR_FLOAT},        {"1e3", WR_SCALAR_FLOAT},
                 {"-1.5E-3", WR_SCALAR_FLOAT},   {".inf", WR_SCALAR_FLOAT},
                 {"-.INF", WR_SCALAR_FLOAT},     {".nan", WR_SCALAR_FLOAT},
                 {".", WR_SCALAR_STRING},        {"1e", WR_SCALAR_STRING},
                 {"+", WR_SCALAR_STRING},        {"1.2.3", WR_SCALAR_STRING},
                 {"12s", WR_SCALAR_STRING},      {"\"12\"", WR_SCALAR_STRING},
                 {"'null'", WR_SCALAR_STRING},   {"|\n  12", WR_SCALAR_STRING},
                 {"!!str 12", WR_SCALAR_STRING}, {"2026-01-01", WR_SCALAR_STRING}};
    (void)state;

    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        struct wr_buf b = {0};
        struct conf_rig r;
        wr_buf_printf(&b, "k: %s\n", cases[i].yaml);
        conf_read(&r, b.ptr);
        if (!r.ok || wr_scalar_type(conf_at(&r, "k")) != cases[i].type)
            fail_msg("%s", cases[i].yaml);
        conf_done(&r);
        wr_buf_done(&b);
    }
}

static void aliases_share_their_node(void **state)
{
    struct conf_rig r;
    (void)state;

    conf_read(&r, "a: &x [1, 2]\nb: *x\nc: {d: *x}\ne: &x 5\nf: *x\n");
    assert_true(r.ok);
    assert_ptr_equal(conf_at(&r, "a"), conf_at(&r, "b"));
    assert_ptr_equal(conf_at(&r, "a"), conf_at(&r, "c.d"));
    assert_string_equal(conf_at(&r, "f")->text.ptr, "5");
    conf_done(&r);
}

static void rules_are_told_all_at_once(void **state)
{
    (void)state;
    conf_fails(
        "a: 1\nb: 2\na: 3\n<<: 4\n\"a\": 5\nc: !mine 6\nd: *none\n? [x]\n: 1\n&k e: 1\nf: !!int "
        "7\n",
        "duplicate-key 3:1\nyaml-merge 4:1\nduplicate-key 5:1\nyaml-tag 6:4\nyaml-alias 7:4\n"
        "yaml-key 8:3\nyaml-key 10:1\nyaml-tag 11:4\n");
    conf_fails("a: &x [*x]\n", "yaml-alias 1:8\n");
    conf_fails("a: 1\n---\nb: 2\n", "yaml-documents 2:1\n");
    conf_fails("k: {{ field }}\n", "yaml-key 1:5\n");
    conf_fails("*x : 1\n", "yaml-key 1:1\n");
}

static void a_quoted_merge_key_is_a_key(void **state)
{
    struct conf_rig r;
    (void)state;

    conf_read(&r, "\"<<\": 1\n!!map k: 2\n");
    assert_false(r.ok); /* the tag on a key */
    conf_says(&r, "yaml-key 2:1\n");
    conf_done(&r);
    conf_read(&r, "'<<': 1\nm: !!map {a: !!seq [b]}\n");
    assert_true(r.ok);
    conf_done(&r);
}

static void syntax_errors_are_located_and_explained(void **state)
{
    static const struct {
        const char *yaml, *says, *hint;
    } cases[] = {
        {"a:\n\t- b\n", "yaml-syntax 2:1\n", "indent with spaces: YAML does not allow tabs there"},
        {"a: @b\n", "yaml-syntax 1:4\n", "put quotes round a text that begins with this character"},
        {"a: b: c\n", "yaml-syntax 1:5\n",
         "put quotes round a text that holds \": \", or check the indentation"},
        {"a:\n    b: 1\n  c: 2\n", "yaml-syntax 3:3\n",
         "check the indentation (keys of one map begin in one column) and the quotes"},
        {"a: \"open\n", "yaml-syntax 2:1\n", ""},
        {"a: [1, 2\n", "yaml-syntax 2:1\n", ""},
    };
    (void)state;

    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        struct conf_rig r;
        conf_read(&r, cases[i].yaml);
        assert_false(r.ok);
        assert_null(r.conf.root);
        conf_says(&r, cases[i].says);
        assert_string_equal(wr_diags_at(r.d, 0)->hint.ptr ? wr_diags_at(r.d, 0)->hint.ptr : "",
                            cases[i].hint);
        conf_done(&r);
    }
}

static void encodings(void **state)
{
    struct conf_rig r;
    (void)state;

    conf_fails("a: b\nc: \xff\n", "file-encoding 2:4\n");
    conf_fails("a: \xc3\xa9\x1b[0m\n", "file-encoding 1:5\n");
    conf_fails("\xff\xfe"
               "a\x01",
               "file-encoding 1:1\n");
    conf_read_n(&r, weir_str_n("a: b\0c", 6));
    assert_false(r.ok);
    conf_says(&r, "file-encoding 1:5\n");
    conf_done(&r);
    conf_read(&r, "\xef\xbb\xbf"
                  "a: b\n");
    assert_true(r.ok);
    assert_string_equal(conf_at(&r, "a")->text.ptr, "b");
    conf_done(&r);
}

static void an_empty_text_has_no_root(void **state)
{
    static const char *const texts[] = {"", "\n\n", "# only a comment\n"};
    (void)state;

    for (size_t i = 0; i < WR_COUNT(texts); i++) {
        struct conf_rig r;
        conf_read(&r, texts[i]);
        assert_true(r.ok);
        assert_null(r.conf.root);
        conf_done(&r);
    }
}

static void repeat(struct wr_buf *b, const char *text, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        wr_buf_text(b, text);
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    for (uint32_t depth = 64; depth <= 65; depth++) {
        struct wr_buf b = {0};
        struct conf_rig r;
        repeat(&b, "[", depth);
        repeat(&b, "]", depth);
        conf_read(&r, b.ptr);
        assert_int_equal(r.ok, depth == 64);
        if (depth == 65)
            conf_says(&r, "yaml-depth 1:65\n");
        conf_done(&r);
        wr_buf_done(&b);
    }
}

static void depth_counts_through_aliases(void **state)
{
    struct wr_buf b = {0};
    struct conf_rig r;
    (void)state;

    wr_buf_text(&b, "a: &a ");
    repeat(&b, "[", 40);
    repeat(&b, "]", 40);
    wr_buf_text(&b, "\nb: ");
    repeat(&b, "[", 30);
    wr_buf_text(&b, "*a");
    repeat(&b, "]", 30);
    conf_read(&r, b.ptr);
    assert_false(r.ok);
    conf_says(&r, "yaml-depth 2:34\n");
    conf_done(&r);
    wr_buf_done(&b);
}

static void nodes_count_through_aliases(void **state)
{
    struct wr_buf b = {0};
    struct conf_rig r;
    (void)state;

    wr_buf_text(&b, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++) {
        wr_buf_printf(&b, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            wr_buf_printf(&b, "*a%d,", i - 1);
        wr_buf_text(&b, "]\n");
    }
    conf_read(&r, b.ptr);
    assert_false(r.ok);
    assert_null(r.conf.root);
    assert_string_equal(wr_diags_at(r.d, 0)->code, "yaml-nodes");
    assert_int_equal(wr_diags_at(r.d, 0)->pos.line, 5);
    conf_done(&r);
    wr_buf_done(&b);
}

static void plain_nodes_have_a_limit(void **state)
{
    struct wr_buf b = {0};
    struct conf_rig r;
    (void)state;

    wr_buf_text(&b, "[");
    repeat(&b, "1,", 99999);
    wr_buf_text(&b, "]");
    conf_read(&r, b.ptr);
    assert_true(r.ok);
    assert_int_equal(r.conf.root->weight, 100000);
    conf_done(&r);
    b.ptr[b.len - 1] = ' ';
    wr_buf_text(&b, "1]");
    conf_read(&r, b.ptr);
    assert_false(r.ok);
    conf_says(&r, "yaml-nodes 1:200001\n");
    conf_done(&r);
    wr_buf_done(&b);
}

static void bytes_have_a_limit(void **state)
{
    struct wr_buf b = {0};
    struct conf_rig r;
    (void)state;

    wr_buf_text(&b, "a: ");
    repeat(&b, "xxxxxxxxxxxxxxxx", 65536);
    conf_read(&r, b.ptr);
    assert_false(r.ok);
    conf_says(&r, "file-too-large 0:0\n");
    conf_done(&r);
    wr_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_has_its_place),
        cmocka_unit_test(byte_ranges_hold_the_source),
        cmocka_unit_test(bytes_inside_scalars_have_places),
        cmocka_unit_test(any_offset_gives_a_place_in_the_scalar),
        cmocka_unit_test(types_are_those_of_the_core_schema),
        cmocka_unit_test(aliases_share_their_node),
        cmocka_unit_test(rules_are_told_all_at_once),
        cmocka_unit_test(a_quoted_merge_key_is_a_key),
        cmocka_unit_test(syntax_errors_are_located_and_explained),
        cmocka_unit_test(encodings),
        cmocka_unit_test(an_empty_text_has_no_root),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(depth_counts_through_aliases),
        cmocka_unit_test(nodes_count_through_aliases),
        cmocka_unit_test(plain_nodes_have_a_limit),
        cmocka_unit_test(bytes_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
