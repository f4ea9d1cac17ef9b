/* SPDX-License-Identifier: Apache-2.0
 *
 * How mistakes are kept, ordered, shown and hidden.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <base/check.h>
#include <base/str.h>
#include <model/diag.h>

static void add(struct wr_diags *d, const struct wr_text *text, uint32_t line, uint32_t col,
                uint32_t width, const char *message)
{
    wr_diags_add(d, &(struct wr_diag){.code = "wrong-type",
                                      .pos = {text, line, col, width},
                                      .message = weir_cstr(message)});
}

static void prints_as(struct wr_diags *d, const char *expected)
{
    struct wr_buf b = {0};

    wr_diags_print(d, &b, false);
    assert_string_equal(b.ptr ? b.ptr : "", expected);
    wr_buf_done(&b);
}

static void all_facts_are_printed(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a.yaml"), weir_cstr("one\ntwo: three\n"));
    (void)state;

    wr_diags_add(d, &(struct wr_diag){.code = "unknown-option",
                                      .severity = WR_WARNING,
                                      .pos = {t, 2, 6, 5},
                                      .path = weir_cstr("sinks.x"),
                                      .message = weir_cstr("a message"),
                                      .expected = weir_cstr("this"),
                                      .found = weir_cstr("that"),
                                      .hint = weir_cstr("do it")});
    prints_as(d, "a.yaml:2:6: warning[unknown-option]: a message\n"
                 "    2 | two: three\n"
                 "      |      ^^^^^\n"
                 "      = at sinks.x\n"
                 "      = expected this\n"
                 "      = found that\n"
                 "      = hint: do it\n");
    wr_diags_free(d);
}

static void order_is_that_of_files_and_places(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *a = wr_diags_text(d, weir_cstr("a"), weir_cstr("x\ny\n"));
    const struct wr_text *b = wr_diags_text(d, weir_cstr("b"), weir_cstr("x\n"));
    static const char *const expected[] = {"first", "second", "third", "fourth", "fifth", "last"};
    (void)state;

    add(d, b, 1, 1, 1, "fifth");
    wr_diags_add(d, &(struct wr_diag){.code = "wrong-type", .message = weir_cstr("last")});
    add(d, a, 2, 1, 1, "third");
    add(d, a, 2, 1, 1, "fourth");
    add(d, a, 1, 2, 1, "second");
    add(d, a, 1, 1, 1, "first");
    for (uint32_t i = 0; i < 6; i++)
        assert_string_equal(wr_diags_at(d, i)->message.ptr, expected[i]);
    assert_int_equal(wr_diags_count(d, WR_ERROR), 6);
    assert_int_equal(wr_diags_count(d, WR_WARNING), 0);
    wr_diags_free(d);
}

static void a_file_as_a_whole_has_no_line(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a.yaml"), weir_cstr(""));
    (void)state;

    add(d, t, 0, 0, 0, "empty");
    prints_as(d, "a.yaml: error[wrong-type]: empty\n");
    wr_diags_free(d);
}

static void carets_follow_tabs_wide_letters_and_ends(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t =
        wr_diags_text(d, weir_cstr("a"), weir_cstr("\tk\xe6\x97\xa5 v\r\nend"));
    (void)state;

    add(d, t, 1, 5, 1, "behind a wide letter");
    add(d, t, 2, 4, 1, "behind the end");
    add(d, t, 9, 1, 1, "behind the file");
    prints_as(d, "a:1:5: error[wrong-type]: behind a wide letter\n"
                 "    1 |  k\xe6\x97\xa5 v\n"
                 "      |      ^\n"
                 "a:2:4: error[wrong-type]: behind the end\n"
                 "    2 | end\n"
                 "      |    ^\n"
                 "a:9:1: error[wrong-type]: behind the file\n"
                 "    9 | \n"
                 "      | ^\n");
    wr_diags_free(d);
}

static void secrets_are_masked(void **state)
{
    struct wr_diags *d = wr_diags_new();
    struct weir_str text = weir_cstr("a: {pw: hunter2, x: 1}\nb: |\n  line1\n  line2\nc: d\n");
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a"), text);
    size_t block = (size_t)(strchr(text.ptr, '|') - text.ptr);
    (void)state;

    wr_diags_mask(d, t, 8, 15);
    wr_diags_mask(d, t, block, block + 17);
    add(d, t, 1, 21, 1, "behind it");
    add(d, t, 1, 9, 7, "on it");
    add(d, t, 4, 5, 1, "in a block");
    add(d, t, 5, 4, 1, "after all");
    prints_as(d, "a:1:9: error[wrong-type]: on it\n"
                 "    1 | a: {pw: ***, x: 1}\n"
                 "      |         ^^^\n"
                 "a:1:21: error[wrong-type]: behind it\n"
                 "    1 | a: {pw: ***, x: 1}\n"
                 "      |                 ^\n"
                 "a:4:5: error[wrong-type]: in a block\n"
                 "    4 | ***\n"
                 "      | ^^^\n"
                 "a:5:4: error[wrong-type]: after all\n"
                 "    5 | c: d\n"
                 "      |    ^\n");
    wr_diags_free(d);
}

static void secrets_are_guessed_where_nothing_is_known(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a"),
                                            weir_cstr("password: \"hunter2\n"
                                                      "{user: me, 'api_token': abc}\n"
                                                      "plain: \"text\n"));
    struct wr_buf b = {0};
    (void)state;

    wr_diags_mask_guess(d, t);
    for (uint32_t line = 1; line <= 3; line++)
        add(d, t, line, 1, 1, "x");
    wr_diags_print(d, &b, false);
    assert_null(strstr(b.ptr, "hunter2"));
    assert_null(strstr(b.ptr, "abc"));
    assert_non_null(strstr(b.ptr, "password:***"));
    assert_non_null(strstr(b.ptr, "user: me, 'api_token':***"));
    assert_non_null(strstr(b.ptr, "plain: \"text"));
    wr_buf_done(&b);
    wr_diags_free(d);
}

static void long_lines_are_cut_round_the_caret(void **state)
{
    struct wr_diags *d = wr_diags_new();
    struct wr_buf text = {0}, b = {0};
    const struct wr_text *t;
    const char *line, *caret;
    (void)state;

    for (int i = 0; i < 1000; i++)
        wr_buf_printf(&text, "%04d.", i);
    t = wr_diags_text(d, weir_cstr("a"), wr_buf_view(&text));
    add(d, t, 1, 2501, 4, "in the middle");
    wr_diags_print(d, &b, false);
    line = strstr(b.ptr, "1 | ");
    caret = strchr(line, '^');
    assert_true(strchr(line, '\n') - line < 140);
    assert_memory_equal(caret, "^^^^\n", 5);
    assert_memory_equal(line + (caret - strchr(line, '\n') - 7 + 2), "0500", 4);
    wr_buf_done(&text);
    wr_buf_done(&b);
    wr_diags_free(d);
}

static void terminals_are_safe(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a\033[31m"),
                                            weir_cstr("x \033[2J \xc2\x9b \xff \xe2\x80\xae y"));
    (void)state;

    wr_diags_add(d, &(struct wr_diag){.code = "wrong-type",
                                      .pos = {t, 1, 1, 1},
                                      .message = weir_cstr("line one\nline two\033[0m")});
    prints_as(d, "a?[31m:1:1: error[wrong-type]: line one line two?[0m\n"
                 "    1 | x ?[2J ? ? ? y\n"
                 "      | ^\n");
    wr_diags_free(d);
}

static void color_is_only_added(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a"), weir_cstr("x"));
    struct wr_buf b = {0};
    (void)state;

    add(d, t, 1, 1, 1, "m");
    wr_diags_print(d, &b, true);
    assert_string_equal(b.ptr, "a:1:1: \033[1;31merror[wrong-type]\033[0m: m\n    1 | x\n"
                               "      | \033[1;31m^\033[0m\n");
    wr_buf_done(&b);
    wr_diags_free(d);
}

static void json_has_the_same_facts(void **state)
{
    struct wr_diags *d = wr_diags_new();
    const struct wr_text *t = wr_diags_text(d, weir_cstr("a\"b"), weir_cstr("x"));
    struct wr_buf b = {0};
    (void)state;

    wr_diags_json(d, &b);
    assert_string_equal(b.ptr, "[]\n");
    b.len = 0;
    wr_diags_add(d, &(struct wr_diag){.code = "wrong-type",
                                      .pos = {t, 1, 1, 0},
                                      .path = weir_cstr("p"),
                                      .message = weir_cstr("m"),
                                      .expected = weir_cstr("e"),
                                      .found = weir_cstr("f"),
                                      .hint = weir_cstr("h")});
    wr_diags_add(d,
                 &(struct wr_diag){.code = "no-sinks", .severity = WR_WARNING, .pos = {.text = t}});
    wr_diags_json(d, &b);
    assert_string_equal(
        b.ptr, "[{\"code\":\"no-sinks\",\"severity\":\"warning\",\"file\":\"a\\\"b\"},"
               "{\"code\":\"wrong-type\",\"severity\":\"error\",\"file\":\"a\\\"b\",\"line\":1,"
               "\"column\":1,\"width\":1,\"path\":\"p\",\"message\":\"m\",\"expected\":\"e\","
               "\"found\":\"f\",\"hint\":\"h\"}]\n");
    wr_buf_done(&b);
    wr_diags_free(d);
}

static void too_many_are_counted_not_kept(void **state)
{
    struct wr_diags *d = wr_diags_new();
    (void)state;

    for (int i = 0; i < 500; i++)
        wr_diags_add(d, &(struct wr_diag){.code = "deprecated-option", .severity = WR_WARNING});
    wr_diags_add(d, &(struct wr_diag){.code = "deprecated-option", .severity = WR_WARNING});
    assert_int_equal(wr_diags_count(d, WR_WARNING), 501);
    assert_int_equal(wr_diags_count(d, WR_ERROR), 0);
    for (int i = 0; i < 10; i++)
        wr_diags_add(d, &(struct wr_diag){.code = "wrong-type"});
    assert_int_equal(wr_diags_count(d, WR_WARNING), 500);
    assert_int_equal(wr_diags_count(d, WR_ERROR), 1);
    assert_int_equal(wr_diags_errors_seen(d), 10);
    assert_string_equal(wr_diags_at(d, 500)->code, "too-many-problems");
    wr_diags_free(d);
}

static void every_code_is_explained_once(void **state)
{
    uint32_t n = 0;
    (void)state;

    for (; wr_diag_code(n) != NULL; n++) {
        struct weir_str code = weir_cstr(wr_diag_code(n));
        struct weir_str text = weir_cstr(wr_diag_explain(code));
        assert_true(text.len > 20 && text.ptr[text.len - 1] == '.');
        for (size_t i = 0; i < code.len; i++)
            assert_true((code.ptr[i] >= 'a' && code.ptr[i] <= 'z') || code.ptr[i] == '-');
        for (uint32_t k = 0; k < n; k++)
            assert_string_not_equal(wr_diag_code(k), code.ptr);
    }
    assert_true(n > 50);
    assert_null(wr_diag_explain(weir_cstr("no-such-code")));
}

static void the_nearest_word(void **state)
{
    static const char *const words[] = {"brokers", "topic", "key", "batch_size", "on_reject"};
    static const struct {
        const char *word, *nearest;
    } cases[] = {{"broker", "brokers"},
                 {"borkers", "brokers"},
                 {"Topic", "topic"},
                 {"topci", "topic"},
                 {"batch-size", "batch_size"},
                 {"kay", "key"},
                 {"ky", "key"},
                 {"x", NULL},
                 {"", NULL},
                 {"zzzzzzz", NULL},
                 {"onreject", "on_reject"},
                 {"brookres", "brokers"}};
    (void)state;

    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        const char *nearest = wr_nearest_word(weir_cstr(cases[i].word), words, WR_COUNT(words));
        if (cases[i].nearest == NULL)
            assert_null(nearest);
        else
            assert_string_equal(nearest ? nearest : "(none)", cases[i].nearest);
    }
}

static void words_that_sound_secret(void **state)
{
    (void)state;
    assert_true(wr_sounds_secret(weir_cstr("sasl_Password")));
    assert_true(wr_sounds_secret(weir_cstr("client-secret")));
    assert_true(wr_sounds_secret(weir_cstr("pass")));
    assert_false(wr_sounds_secret(weir_cstr("key")));
    assert_false(wr_sounds_secret(weir_cstr("user")));
    assert_false(wr_sounds_secret(weir_cstr("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_facts_are_printed),
        cmocka_unit_test(order_is_that_of_files_and_places),
        cmocka_unit_test(a_file_as_a_whole_has_no_line),
        cmocka_unit_test(carets_follow_tabs_wide_letters_and_ends),
        cmocka_unit_test(secrets_are_masked),
        cmocka_unit_test(secrets_are_guessed_where_nothing_is_known),
        cmocka_unit_test(long_lines_are_cut_round_the_caret),
        cmocka_unit_test(terminals_are_safe),
        cmocka_unit_test(color_is_only_added),
        cmocka_unit_test(json_has_the_same_facts),
        cmocka_unit_test(too_many_are_counted_not_kept),
        cmocka_unit_test(every_code_is_explained_once),
        cmocka_unit_test(the_nearest_word),
        cmocka_unit_test(words_that_sound_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
