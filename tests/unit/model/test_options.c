/* SPDX-License-Identifier: Apache-2.0
 *
 * Option tables: defaults, every type, ranges, and what is said of a mistake.
 */
#include "conf_rig.h"

#include <model/options.h>
#include <model/template.h>
#include <model/value.h>
#include <weir/plugin.h>

#include "fake_loader.h"

struct bind_rig {
    struct conf_rig r;
    struct fake_config c;
    struct wr_binder b;
};

static void bind_options(struct bind_rig *t, const char *yaml)
{
    static const struct weir_options table = WEIR_OPTIONS(fake_options, struct fake_config);
    struct wr_target target = {table, &t->c};

    t->c = (struct fake_config){0};
    conf_read(&t->r, yaml);
    assert_true(t->r.ok);
    (void)wr_conf_interpolate(&t->r.a, &t->r.conf, "/pipes", t->r.d, NULL);
    t->b = (struct wr_binder){
        .arena = &t->r.a, .diags = t->r.d, .dir = "/pipes", .origin = t->r.conf.root->pos};
    t->r.ok = wr_options_bind(&t->b, &target, 1, t->r.conf.root, NULL, t->r.conf.root->pos);
    assert_int_equal(t->r.ok, t->b.n_errors == 0);
}

static void bound(struct bind_rig *t, const char *yaml)
{
    bind_options(t, yaml);
    if (!t->r.ok) {
        struct wr_buf b = {0};
        wr_diags_print(t->r.d, &b, false);
        fail_msg("%s", b.ptr);
    }
}

/* The mistakes of a text: "code line:col", each with expected and found where they are given. */
static void refused(const char *yaml, const char *expected)
{
    struct bind_rig t;
    struct wr_buf b = {0};

    bind_options(&t, yaml);
    for (uint32_t i = 0; i < wr_diags_count(t.r.d, WR_ERROR) + wr_diags_count(t.r.d, WR_WARNING);
         i++) {
        const struct wr_diag *d = wr_diags_at(t.r.d, i);
        wr_buf_printf(&b, "%s %u:%u %.*s", d->code, d->pos.line, d->pos.col, WR_STR(d->path));
        if (d->found.len > 0)
            wr_buf_printf(&b, "; found %.*s", WR_STR(d->found));
        if (d->hint.len > 0)
            wr_buf_printf(&b, "; %.*s", WR_STR(d->hint));
        wr_buf_text(&b, "\n");
    }
    assert_string_equal(b.ptr ? b.ptr : "", expected);
    wr_buf_done(&b);
    conf_done(&t.r);
}

static void defaults_come_from_the_table(void **state)
{
    struct bind_rig t;
    const struct weir_str *words;
    (void)state;

    bound(&t, "{}");
    assert_int_equal(t.c.count, 7);
    assert_true(t.c.ratio > 0.49 && t.c.ratio < 0.51);
    assert_string_equal(t.c.text.ptr, "{plain: {{ text"); /* a scalar's default is no YAML */
    assert_int_equal(t.c.wait, 1500 * WEIR_NS_PER_MS);
    assert_int_equal(t.c.size, 4096);
    assert_int_equal(t.c.level, FAKE_MIDDLE);
    assert_int_equal(t.c.words.n, 2);
    words = t.c.words.items;
    assert_string_equal(words[1].ptr, "b c");
    assert_true(t.c.tls.on); /* of a table that is not there */
    assert_int_equal(t.c.tls.depth, 3);
    assert_null(t.c.topic);
    assert_null(t.c.any);
    assert_null(t.c.secret.ptr);
    assert_int_equal(t.c.routes.n, 0);
    conf_done(&t.r);
}

static void every_scalar_type(void **state)
{
    struct bind_rig t;
    struct weir_str s;
    (void)state;

    bound(&t, "flag: True\ncount: -5\nratio: 1\ntext: 12\nsecret: 's'\npath: ./a/b.txt\nwait: 2m\n"
              "size: \"64KiB\"\nlevel: high\ntopic: events.{{ type }}\n");
    assert_true(t.c.flag);
    assert_int_equal(t.c.count, -5);
    assert_true(t.c.ratio > 0.99);
    assert_string_equal(t.c.text.ptr, "12");
    assert_string_equal(t.c.secret.ptr, "s");
    assert_string_equal(t.c.path.ptr, "/pipes/a/b.txt");
    assert_int_equal(t.c.wait, 120 * WEIR_NS_PER_S);
    assert_int_equal(t.c.size, 65536);
    assert_int_equal(t.c.level, FAKE_HIGH);
    assert_string_equal(wr_template_prefix(t.c.topic).ptr, "events.");
    assert_int_equal(t.b.needs, WEIR_NEEDS_VALUE);
    conf_done(&t.r);
    bound(&t, "path: /abs\ntopic: plain\ntext: \"\"\n");
    assert_string_equal(t.c.path.ptr, "/abs");
    assert_true(wr_template_is_literal(t.c.topic, &s));
    assert_int_equal(t.c.text.len, 0);
    conf_done(&t.r);
    bound(&t, "path: '-'\n");
    assert_string_equal(t.c.path.ptr, "-");
    conf_done(&t.r);
}

static void values_are_json(void **state)
{
    struct bind_rig t;
    struct weir_str s;
    (void)state;

    bound(&t, "any:\n  a: [1, -2, 1.5, 0x10, 18446744073709551615, 1e3, 1e16, -0.0]\n  b: {t: true, n: ~, e: , "
              "s: '1'}\n"
              "  c: []\n  d: {}\n  \xc3\xa9: \"\\0x\"\n  f: 2026-01-01\n");
    s = wr_value_write(&t.r.a, t.c.any);
    assert_string_equal(
        s.ptr, "{\"a\":[1,-2,1.5,16,18446744073709551615,1000.0,10000000000000000.0,"
               "-0.0],\"b\":{\"t\":true,\"n\":null,"
               "\"e\":null,\"s\":\"1\"},\"c\":[],\"d\":{},\"\xc3\xa9\":\"\\u0000x\","
               "\"f\":\"2026-01-01\"}");
    conf_done(&t.r);
    refused(
        "any: [1, .inf, 99999999999999999999]\n",
        "bad-value 1:10 any[1]; found the number .inf; put quotes round it to keep its text\n"
        "bad-value 1:16 any[2]; found the number 99999999999999999999; put quotes round it to keep "
        "its text\n");
}

struct document {
    const struct weir_value *doc;
};

/* Binds {doc: ...} of which each text is a template. */
static void bind_document(struct bind_rig *t, struct document *c, const char *yaml)
{
    static const struct weir_option option = {.name = "doc",
                                              .type = WEIR_OPT_VALUE,
                                              .flags = WEIR_OPT_TEMPLATES,
                                              .offset = offsetof(struct document, doc),
                                              .doc = "a document"};
    struct wr_target target = {{&option, 1, sizeof(option), sizeof(*c)}, c};

    *c = (struct document){0};
    conf_read(&t->r, yaml);
    assert_true(t->r.ok);
    (void)wr_conf_interpolate(&t->r.a, &t->r.conf, "/pipes", t->r.d, NULL);
    t->b = (struct wr_binder){.arena = &t->r.a, .diags = t->r.d, .dir = "/pipes"};
    t->r.ok = wr_options_bind(&t->b, &target, 1, t->r.conf.root, NULL, t->r.conf.root->pos);
}

/* Texts are checked where they stand, and braces from outside are none of the file's. */
static void values_of_templates(void **state)
{
    struct bind_rig t;
    struct document c;
    struct weir_str s;
    (void)state;

    bind_document(&t, &c, "doc: {a: '{{ x }}', b: [1, plain, {c: '{{ @key }}'}]}");
    assert_true(t.r.ok);
    assert_int_equal(t.b.needs, WEIR_NEEDS_VALUE);
    s = wr_value_write(&t.r.a, c.doc);
    assert_string_equal(s.ptr, "{\"a\":\"{{ x }}\",\"b\":[1,\"plain\",{\"c\":\"{{ @key }}\"}]}");
    conf_done(&t.r);

    bind_document(&t, &c, "doc:\n  a: {b: ['{{ @id }}', 'x {{ y']}\n  c: '{{ @odd }}'\n");
    assert_false(t.r.ok);
    assert_int_equal(wr_diags_count(t.r.d, WR_ERROR), 2);
    assert_string_equal(wr_diags_at(t.r.d, 0)->code, "bad-template");
    assert_string_equal(wr_diags_at(t.r.d, 0)->path.ptr, "doc.a.b[1]");
    assert_int_equal(wr_diags_at(t.r.d, 0)->pos.line, 2);
    assert_int_equal(wr_diags_at(t.r.d, 0)->pos.col, 27);
    conf_done(&t.r);

    assert_int_equal(setenv("WEIR_TEST_BRACES", "{{ @key }}{", 1), 0);
    bind_document(&t, &c,
                  "doc: ['${env:WEIR_TEST_BRACES}', '{${env:WEIR_TEST_BRACES}{ {{ @id }}']");
    assert_true(t.r.ok);
    assert_int_equal(t.b.needs, WEIR_NEEDS_ID);
    static const char *const expected[] = {"{{ @key }}{", "{{{ @key }}{{ the-id"};
    for (uint32_t i = 0; i < 2; i++) {
        struct weir_error err = {0};
        const struct weir_event ev = {.id = {"the-id", 6}, .key = {"key", 3}};
        struct weir_template *made =
            wr_template_compile(&t.r.a, wr_value_str(wr_value_at(c.doc, i)), &err);
        assert_non_null(made);
        s = wr_template_render(made, &ev, &t.r.a, &err);
        assert_int_equal(s.len, strlen(expected[i]));
        assert_memory_equal(s.ptr, expected[i], s.len);
    }
    conf_done(&t.r);
}

static void lists(void **state)
{
    struct bind_rig t;
    const struct fake_route *routes;
    (void)state;

    bound(&t, "words: one\nnumbers: [1, 10]\nlevels: [high, low]\nflags: [true, false, true]\n"
              "waits: [1s]\nroutes:\n  - to: a\n  - {to: b, weight: 5}\n");
    assert_int_equal(t.c.words.n, 1);
    assert_string_equal(((struct weir_str *)t.c.words.items)->ptr, "one");
    assert_int_equal(((int64_t *)t.c.numbers.items)[1], 10);
    assert_int_equal(((int *)t.c.levels.items)[0], FAKE_HIGH);
    assert_int_equal(((int *)t.c.levels.items)[1], FAKE_LOW);
    assert_true(((bool *)t.c.flags.items)[2]);
    assert_false(((bool *)t.c.flags.items)[1]);
    assert_int_equal(((int64_t *)t.c.waits.items)[0], WEIR_NS_PER_S);
    routes = t.c.routes.items;
    assert_int_equal(t.c.routes.n, 2);
    assert_string_equal(routes[1].to.ptr, "b");
    assert_int_equal(routes[0].weight, 1);
    assert_int_equal(routes[1].weight, 5);
    conf_done(&t.r);
}

static void maps(void **state)
{
    struct bind_rig t;
    const struct weir_pair *p;
    (void)state;

    bound(&t, "settings: {b.c: x, a: 5}\nlimits: {one: 1}\nswitches: {on: true, off: false}\n"
              "by_name: {x: high}\ntables: {first: {to: t, weight: 3}}\n");
    p = t.c.settings.items;
    assert_int_equal(t.c.settings.n, 2);
    assert_string_equal(p[0].key.ptr, "b.c"); /* in the order of the file */
    assert_string_equal(p[1].value.str.ptr, "5");
    assert_int_equal(((struct weir_pair *)t.c.limits.items)->value.num, 1);
    p = t.c.switches.items;
    assert_int_equal(p[0].value.num, 1);
    assert_int_equal(p[1].value.num, 0);
    assert_int_equal(((struct weir_pair *)t.c.by_name.items)->value.num, FAKE_HIGH);
    p = t.c.tables.items;
    assert_int_equal(((const struct fake_route *)p->value.ptr)->weight, 3);
    conf_done(&t.r);
}

static void tables_nest(void **state)
{
    struct bind_rig t;
    (void)state;

    bound(&t, "tls: {on: false, ca: ca.pem}\n");
    assert_false(t.c.tls.on);
    assert_string_equal(t.c.tls.ca.ptr, "/pipes/ca.pem");
    assert_int_equal(t.c.tls.depth, 3);
    conf_done(&t.r);
    refused("tls: {on: maybe, dept: 3}\n",
            "missing-option 1:1 tls.ca\nwrong-type 1:11 tls.on; found the text \"maybe\"\n"
            "unknown-option 1:18 tls.dept; did you mean \"depth\"?\n");
    refused("tls: yes\nroutes: [x, {weight: a}]\ntables: {k: 1}\n",
            "wrong-type 1:6 tls; found the text \"yes\"\n"
            "wrong-type 2:10 routes[0]; found the text \"x\"\n"
            "missing-option 2:13 routes[1].to\n"
            "wrong-type 2:22 routes[1].weight; found the text \"a\"\n"
            "wrong-type 3:13 tables.k; found the number 1\n");
}

static void wrong_types(void **state)
{
    (void)state;
    refused(
        "flag: yes\ncount: \"5\"\nratio: [1]\ntext: {}\npath: ~\nwait: 5\nsize: 1K\nlevel: hihg\n",
        "wrong-type 1:7 flag; found the text \"yes\"; write true\n"
        "wrong-type 2:8 count; found the text \"5\"; take the quotes away\n"
        "wrong-type 3:8 ratio; found a list\n"
        "wrong-type 4:7 text; found an empty map\n"
        "wrong-type 5:7 path; found nothing (null); put quotes round the word if it is meant as "
        "text\n"
        "bad-duration 6:7 wait; found the number 5; did you mean 5s?\n"
        "bad-size 7:7 size; found the text \"1K\"\n"
        "bad-choice 8:8 level; found the text \"hihg\"; did you mean \"high\"?\n");
    refused("flag: \"true\"\ncount: 1.5\nratio: \"0.5\"\ntext:\nwait: soon\nsettings: [1]\nwords: "
            "{a: b}\n",
            "wrong-type 1:7 flag; found the text \"true\"; take the quotes away\n"
            "wrong-type 2:8 count; found the number 1.5\n"
            "wrong-type 3:8 ratio; found the text \"0.5\"; take the quotes away\n"
            "wrong-type 4:6 text; found nothing (null); write \"\" for an empty text\n"
            "bad-duration 5:7 wait; found the text \"soon\"\n"
            "wrong-type 6:11 settings; found a list\n"
            "wrong-type 7:8 words; found a map\n");
    refused("text: \"a\\0b\"\nsettings: {\"\\0\": x}\n",
            "bad-text 1:7 text; found the text \"a\\x00b\"\n"
            "bad-text 2:12 settings.\n");
}

static void ranges(void **state)
{
    (void)state;
    refused(
        "count: 101\nratio: -0.1\nwait: 10us\nsize: 2MiB\nnumbers: [0, 5, 11]\nlimits: {a: 100}\n",
        "out-of-range 1:8 count; found the number 101\n"
        "out-of-range 2:8 ratio; found the number -0.1\n"
        "out-of-range 3:7 wait; found the text \"10us\"\n"
        "out-of-range 4:7 size; found the text \"2MiB\"\n"
        "out-of-range 5:11 numbers[0]; found the number 0\n"
        "out-of-range 5:17 numbers[2]; found the number 11\n"
        "out-of-range 6:13 limits.a; found the number 100\n");
    refused("count: 99999999999999999999\n",
            "bad-number 1:8 count; found the number 99999999999999999999\n");
}

static void expectations_name_the_range(void **state)
{
    struct bind_rig t;
    static const char *const expected[] = {
        "a whole number, -5 to 100", "a duration such as 50ms, 1.5s, 2m, at least 1ms",
        "a size such as 512, 64KiB, 4MiB, 0 to 1MiB", "one of low, middle, high",
        "a list; each item a whole number, 1 to 10"};
    (void)state;

    bind_options(&t, "count: x\nwait: x\nsize: x\nlevel: x\nnumbers: {}\n");
    for (uint32_t i = 0; i < WR_COUNT(expected); i++)
        assert_string_equal(wr_diags_at(t.r.d, i)->expected.ptr, expected[i]);
    conf_done(&t.r);
}

static void emptiness(void **state)
{
    (void)state;
    refused("secret: ''\nwords: []\n", "empty-value 1:9 secret; found a secret text\n"
                                       "empty-value 2:8 words\n");
}

static void old_names_work_with_a_warning(void **state)
{
    struct bind_rig t;
    (void)state;

    bound(&t, "number: 9\n");
    assert_int_equal(t.c.count, 9);
    assert_int_equal(wr_diags_count(t.r.d, WR_WARNING), 1);
    assert_string_equal(wr_diags_at(t.r.d, 0)->code, "deprecated-option");
    assert_string_equal(wr_diags_at(t.r.d, 0)->hint.ptr, "use \"count\"");
    conf_done(&t.r);
    refused("number: 9\ncount: 1\n", "option-twice 1:1 number; take the old one out\n");
}

static void unknown_options_get_a_suggestion(void **state)
{
    (void)state;
    refused("cuont: 1\nzzz: 2\nTLS: 1\n", "unknown-option 1:1 cuont; did you mean \"count\"?\n"
                                          "unknown-option 2:1 zzz\n"
                                          "unknown-option 3:1 TLS; did you mean \"tls\"?\n");
}

static void templates_are_compiled(void **state)
{
    struct bind_rig t;
    (void)state;

    setenv("WT_TEMPLATE", "x{{ y }}", 1);
    refused("topic: \"{{ type }}\"\n", "template-prefix 1:8 topic; found the text \"{{ type }}\"; "
                                       "put a fixed prefix in front, such as "
                                       "events.{{ type }}\n");
    refused("topic: |\n  events\n  .{{ type\n", "bad-template 3:4 topic\n");
    refused("topic: 'it''s {{ @what }}'\n", "bad-template 1:18 topic\n");
    refused("topic: \"a{{ ${env:WT_TEMPLATE} }}\"\n", "bad-template 1:10 topic\n");
    bound(&t, "topic: a.${env:WT_TEMPLATE}\n");
    struct weir_str s;
    assert_true(wr_template_is_literal(t.c.topic, &s));
    assert_string_equal(s.ptr, "a.x{{ y }}");
    conf_done(&t.r);
}

static void interpolated_values_are_typed(void **state)
{
    struct bind_rig t;
    (void)state;

    setenv("WT_COUNT", "12", 1);
    setenv("WT_NONE", "", 1);
    bound(&t, "count: ${env:WT_COUNT}\ntext: ${env:WT_NONE}\nwait: ${env:WT_UNSET:-3s}\n");
    assert_int_equal(t.c.count, 12);
    assert_int_equal(t.c.text.len, 0); /* left empty by ${...}: text, not null */
    assert_int_equal(t.c.wait, 3 * WEIR_NS_PER_S);
    conf_done(&t.r);
    refused("count: ${env:WT_MISSING}\nany: [\"${env:WT_MISSING}\"]\nwords: [\"${x}\"]\n",
            "env-unset 1:8 ; set it, or write a default: ${env:NAME:-default}\n"
            "env-unset 2:8 ; set it, or write a default: ${env:NAME:-default}\n"
            "bad-interpolation 3:10 ; did you mean ${env:x}? write $${ for the characters "
            "themselves\n");
}

static void secrets_are_never_printed(void **state)
{
    struct bind_rig t;
    struct wr_buf b = {0};
    (void)state;

    setenv("WT_PW", "", 1);
    bind_options(&t, "{secret: [hunter2, {x: hunter3}], cuont: 1, secret2: \"hunter4\"}\n");
    wr_diags_print(t.r.d, &b, false);
    wr_diags_json(t.r.d, &b);
    assert_non_null(strstr(b.ptr, "{secret: [***, {x: ***}], cuont: 1"));
    assert_null(strstr(b.ptr, "hunter2"));
    assert_null(strstr(b.ptr, "hunter3"));
    conf_done(&t.r);
    b.len = 0;
    bind_options(&t, "secret: \"a\\0hunter\"\n");
    wr_diags_print(t.r.d, &b, false);
    assert_string_equal(b.ptr, "f:1:9: error[bad-text]: the text holds a NUL character\n"
                               "    1 | secret: ***\n"
                               "      |         ^^^\n"
                               "      = at secret\n"
                               "      = expected text\n"
                               "      = found a secret text\n");
    conf_done(&t.r);
    b.len = 0; /* a reference holds no secret and is shown, its default may be one */
    bind_options(&t, "secret: ${env:WT_PW}\n");
    wr_diags_print(t.r.d, &b, false);
    assert_non_null(strstr(b.ptr, "| secret: ${env:WT_PW}\n"));
    conf_done(&t.r);
    b.len = 0;
    bind_options(&t, "{secret: '${env:WT_PW:-}', flag: 1}\n");
    wr_diags_print(t.r.d, &b, false);
    assert_non_null(strstr(b.ptr, "| {secret: ***, flag: 1}\n"));
    conf_done(&t.r);
    b.len = 0; /* under a name that was misspelled */
    bind_options(&t, "{sercet: hunter5, cuont: 1}\n");
    wr_diags_print(t.r.d, &b, false);
    assert_non_null(strstr(b.ptr, "| {sercet: ***, cuont: 1}\n"));
    conf_done(&t.r);
    wr_buf_done(&b);
}

static void older_tables_are_read(void **state)
{
    /* As a plugin built before `example` was there would hand it over. */
    struct short_option {
        char bytes[offsetof(struct weir_option, example)];
    } table[2];
    struct weir_options options = {(const struct weir_option *)(const void *)table, 2,
                                   sizeof(table[0]), 0};
    struct weir_option o;
    (void)state;

    for (size_t i = 0; i < 2; i++)
        memcpy(table[i].bytes, &fake_options[i], sizeof(table[i].bytes));
    o = wr_option_at(&options, 1);
    assert_string_equal(o.name, "count");
    assert_int_equal(o.max, 100);
    assert_null(o.example);
}

static void a_wrong_default_is_the_plugins_fault(void **state)
{
    static const struct weir_option table[] = {
        {.name = "a", .type = WEIR_OPT_INT, .def = "x", .doc = "A."},
        {.name = "b",
         .type = WEIR_OPT_LIST,
         .of = WEIR_OPT_INT,
         .offset = 8,
         .def = "[1",
         .doc = "B."},
        {.name = "c", .type = (enum weir_option_type)77, .offset = 8, .def = "[1", .doc = "C."}};
    struct weir_options options = WEIR_OPTIONS(table, int64_t[4]);
    int64_t config[4];
    struct conf_rig r;
    struct wr_target target = {options, config};
    (void)state;

    conf_read(&r, "x: 1\n");
    r.conf.root->n = 0;
    struct wr_binder b = {.arena = &r.a, .diags = r.d, .dir = "", .origin = {NULL, 3, 4, 1}};
    assert_false(wr_options_bind(&b, &target, 1, r.conf.root, NULL, r.conf.root->pos));
    conf_says(&r, "bad-plugin 3:4\nbad-plugin 3:4\nbad-plugin 3:4\n");
    conf_done(&r);
}

static void report_paths_find_their_place(void **state)
{
    static const struct {
        const char *path;
        int64_t offset;
        uint32_t line, col;
    } cases[] = {
        {"a", -1, 1, 4},        {"a", 2, 1, 6},       {"b.c", -1, 3, 6},     {"b.c", 1, 3, 7},
        {"b.d.e", -1, 4, 8},    {"l[1]", -1, 5, 8},   {"l[1]", 1, 5, 9},     {"l[7]", -1, 5, 4},
        {"a[0]", 1, 1, 5},      {"m[0].x", -1, 7, 8}, {"nothing", -1, 9, 9}, {"", -1, 9, 9},
        {"b.none.x", -1, 3, 3}, {"l[x]", -1, 5, 4},   {"b..c", -1, 3, 6},    {"a.b", 0, 1, 4},
    };
    struct conf_rig r;
    (void)state;

    conf_read(&r, "a: one\nb:\n  c: two\n  d.e: three\nl: [x, yz]\nm:\n  - x: 1\n");
    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        struct wr_pos pos = wr_node_resolve(r.conf.root, (struct wr_pos){NULL, 9, 9, 1},
                                            cases[i].path, cases[i].offset);
        if (pos.line != cases[i].line || pos.col != cases[i].col)
            fail_msg("%s: %u:%u", cases[i].path, pos.line, pos.col);
    }
    conf_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(every_scalar_type),
        cmocka_unit_test(values_are_json),
        cmocka_unit_test(values_of_templates),
        cmocka_unit_test(lists),
        cmocka_unit_test(maps),
        cmocka_unit_test(tables_nest),
        cmocka_unit_test(wrong_types),
        cmocka_unit_test(ranges),
        cmocka_unit_test(expectations_name_the_range),
        cmocka_unit_test(emptiness),
        cmocka_unit_test(old_names_work_with_a_warning),
        cmocka_unit_test(unknown_options_get_a_suggestion),
        cmocka_unit_test(templates_are_compiled),
        cmocka_unit_test(interpolated_values_are_typed),
        cmocka_unit_test(secrets_are_never_printed),
        cmocka_unit_test(older_tables_are_read),
        cmocka_unit_test(a_wrong_default_is_the_plugins_fault),
        cmocka_unit_test(report_paths_find_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
