/* SPDX-License-Identifier: Apache-2.0
 *
 * ${env:...} and ${file:...} in scalars.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "conf_rig.h"

static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/weir-interpolate-XXXXXX");
    setenv("WT_WORD", "word", 1);
    setenv("WT_EMPTY", "", 1);
    setenv("WT_PORT", "8080", 1);
    setenv("WT_TRICK", "{{ x }} ${env:WT_WORD} : [#", 1);
    setenv("WT_BYTES", "\xff", 1);
    unsetenv("WT_UNSET");
    return mkdtemp(folder) == NULL;
}

static void put_file(const char *name, const char *bytes, size_t n)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static int teardown(void **state)
{
    static const char *const names[] = {"secret", "large", "binary", "nul", "crlf", "fifo", "max"};
    (void)state;

    for (size_t i = 0; i < WR_COUNT(names); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static void fill(struct conf_rig *r, const char *yaml)
{
    conf_read(r, yaml);
    assert_true(r->ok);
    r->ok = wr_conf_interpolate(&r->a, &r->conf, folder, r->d, NULL);
}

static void gives(const char *yaml, const char *text)
{
    struct conf_rig r;

    fill(&r, yaml);
    assert_true(r.ok);
    assert_string_equal(conf_at(&r, "k")->text.ptr, text);
    conf_done(&r);
}

static void complains(const char *yaml, const char *says)
{
    struct conf_rig r;

    fill(&r, yaml);
    assert_false(r.ok);
    assert_true(conf_at(&r, "k")->broken);
    conf_says(&r, says);
    conf_done(&r);
}

static void environment(void **state)
{
    (void)state;
    gives("k: ${env:WT_WORD}", "word");
    gives("k: a-${env:WT_WORD}-b-${env:WT_WORD}", "a-word-b-word");
    gives("k: ${env:WT_UNSET:-fall back}", "fall back");
    gives("k: ${env:WT_EMPTY:-fall}", "fall");
    gives("k: ${env:WT_EMPTY}", "");
    gives("k: ${env:WT_UNSET:-}", "");
    gives("k: '${env:WT_UNSET:-{\"a\": {}}}!'", "{\"a\": {}}!");
    gives("k: ${env:WT_WORD:?needed}", "word");
    gives("k: |\n  one ${env:WT_WORD}\n", "one word\n");
}

static void dollars_that_are_none(void **state)
{
    (void)state;
    gives("k: $5 and $", "$5 and $");
    gives("k: $${env:WT_WORD}", "${env:WT_WORD}");
    gives("k: $$${env:WT_WORD}", "$${env:WT_WORD}");
    gives("k: $HOME $(x) {}$", "$HOME $(x) {}$");
    gives("k: a$${b}c${env:WT_WORD}", "a${b}cword");
}

static void what_is_put_in_is_text(void **state)
{
    struct conf_rig r;
    const struct wr_node *n;
    (void)state;

    fill(&r, "k: \"<${env:WT_TRICK}>\"\n");
    assert_true(r.ok);
    n = conf_at(&r, "k");
    assert_string_equal(n->text.ptr, "<{{ x }} ${env:WT_WORD} : [#>");
    assert_int_equal(n->n_segments, 3);
    assert_false(n->segments[0].foreign);
    assert_true(n->segments[1].foreign);
    assert_int_equal(n->segments[1].at, 1);
    assert_int_equal(n->segments[1].len, n->text.len - 2);
    assert_false(n->segments[2].foreign);
    conf_done(&r);
}

static void types_come_afterwards(void **state)
{
    struct conf_rig r;
    (void)state;

    fill(&r, "k: ${env:WT_PORT}\nq: \"${env:WT_PORT}\"\ne: ${env:WT_EMPTY}\n${env:WT_WORD}: 1\n");
    assert_true(r.ok);
    assert_int_equal(wr_scalar_type(conf_at(&r, "k")), WR_SCALAR_INT);
    assert_int_equal(wr_scalar_type(conf_at(&r, "q")), WR_SCALAR_STRING);
    assert_int_equal(wr_scalar_type(conf_at(&r, "e")), WR_SCALAR_NULL);
    assert_non_null(wr_node_field(r.conf.root, weir_cstr("${env:WT_WORD}"))); /* keys stay */
    conf_done(&r);
}

static void places_behind_what_was_put_in(void **state)
{
    struct conf_rig r;
    const struct wr_node *n;
    struct wr_pos pos;
    (void)state;

    fill(&r, "k: |\n  a ${env:WT_WORD} X $${ Y\n");
    n = conf_at(&r, "k");
    assert_string_equal(n->text.ptr, "a word X ${ Y\n");
    pos = wr_node_pos_at(n, 4);
    assert_int_equal(pos.line, 2);
    assert_int_equal(pos.col, 5);
    assert_int_equal(wr_node_pos_at(n, 7).col, 20);
    assert_int_equal(wr_node_pos_at(n, 12).col, 26);
    conf_done(&r);
}

static void mistakes_are_located(void **state)
{
    (void)state;
    complains("k: ${env:WT_UNSET}", "env-unset 1:4\n");
    complains("k: x ${env:WT_UNSET:?set it}", "env-unset 1:6\n");
    complains("k: ${env:WT_EMPTY:?set it}", "env-unset 1:4\n");
    complains("k: ${env:}", "bad-interpolation 1:4\n");
    complains("k: ${env:A-B}", "bad-interpolation 1:4\n");
    complains("k: ${env:WT_WORD:+x}", "bad-interpolation 1:4\n");
    complains("k: ${HOME}", "bad-interpolation 1:4\n");
    complains("k: ${", "bad-interpolation 1:4\n");
    complains("k: ${}", "bad-interpolation 1:4\n");
    complains("k: |\n  a\n  ${env:WT_WORD\n", "bad-interpolation 3:3\n");
    complains("k: ${env:WT_BYTES}", "env-value 1:4\n");
    complains("k: ${file:}", "bad-interpolation 1:4\n");
    complains("k: ${file:missing}", "file-value 1:4\n");
    complains("k: ${file:.}", "file-value 1:4\n");
}

static void hints_name_the_variable(void **state)
{
    struct conf_rig r;
    (void)state;

    fill(&r, "k: ${HOME:-x}");
    assert_string_equal(wr_diags_at(r.d, 0)->hint.ptr,
                        "did you mean ${env:HOME:-x}? write $${ for the characters themselves");
    conf_done(&r);
    fill(&r, "k: ${env:WT_UNSET:?the port of the shop}");
    assert_string_equal(wr_diags_at(r.d, 0)->message.ptr,
                        "the environment variable WT_UNSET is not set: the port of the shop");
    conf_done(&r);
}

static void files(void **state)
{
    struct conf_rig r;
    char absolute[128];
    (void)state;

    put_file("secret", "hunter2\n", 8);
    put_file("crlf", "line one\nline two\r\n", 19);
    gives("k: ${file:secret}", "hunter2");
    gives("k: ${file:crlf}", "line one\nline two");
    snprintf(absolute, sizeof(absolute), "k: mongodb://u:${file:%s/secret}@h\n", folder);
    fill(&r, absolute);
    assert_string_equal(conf_at(&r, "k")->text.ptr, "mongodb://u:hunter2@h");
    assert_true(conf_at(&r, "k")->secret);
    conf_done(&r);
    fill(&r, "k: ${env:WT_WORD}");
    assert_false(conf_at(&r, "k")->secret);
    conf_done(&r);
}

static void files_that_are_refused(void **state)
{
    char path[128], *large = calloc(1, (1 << 20) + 1);
    (void)state;

    assert_non_null(large);
    memset(large, 'x', (1 << 20) + 1);
    put_file("large", large, (1 << 20) + 1);
    put_file("max", large, 1 << 20);
    put_file("binary", "\xff\xfe", 2);
    put_file("nul", "a\0b", 3);
    snprintf(path, sizeof(path), "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    complains("k: ${file:large}", "file-value 1:4\n");
    complains("k: ${file:binary}", "file-value 1:4\n");
    complains("k: ${file:nul}", "file-value 1:4\n");
    complains("k: ${file:fifo}", "file-value 1:4\n");
    large[1 << 20] = '\0';
    gives("k: ${file:max}", large);
    free(large);
}

static void all_together_has_a_limit(void **state)
{
    struct wr_buf b = {0};
    struct conf_rig r;
    (void)state;

    for (int i = 0; i < 9; i++)
        wr_buf_printf(&b, "k%d: ${file:max}\n", i);
    fill(&r, b.ptr);
    assert_false(r.ok);
    assert_string_equal(wr_diags_at(r.d, 0)->code, "interpolation-size");
    assert_int_equal(wr_diags_count(r.d, WR_ERROR), 1);
    conf_done(&r);
    wr_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment),
        cmocka_unit_test(dollars_that_are_none),
        cmocka_unit_test(what_is_put_in_is_text),
        cmocka_unit_test(types_come_afterwards),
        cmocka_unit_test(places_behind_what_was_put_in),
        cmocka_unit_test(mistakes_are_located),
        cmocka_unit_test(hints_name_the_variable),
        cmocka_unit_test(files),
        cmocka_unit_test(files_that_are_refused),
        cmocka_unit_test(all_together_has_a_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
