/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON values: exact types, hostile texts, changes in place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/arena.h>
#include <base/str.h>
#include <model/value.h>

static struct weir_arena arena;

static int setup(void **state)
{
    (void)state;
    wr_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wr_arena_done(&arena);
    return 0;
}

static const struct weir_value *parse(const char *text)
{
    struct weir_error err = {0};
    const struct weir_value *v = wr_value_parse(&arena, weir_cstr(text), &err);
    if (v == NULL)
        fail_msg("%s: %s", text, err.text);
    return v;
}

static const struct weir_value *field(const struct weir_value *v, const char *name)
{
    return wr_value_get(v, weir_cstr(name));
}

static void assert_json(const struct weir_value *v, const char *expected)
{
    struct weir_str text = wr_value_write(&arena, v);
    assert_non_null(text.ptr);
    assert_string_equal(text.ptr, expected);
    assert_int_equal(text.len, strlen(expected));
}

static void test_types_are_exact(void **state)
{
    (void)state;
    const char *text = "{\"min\":-9223372036854775808,\"max\":9223372036854775807,"
                       "\"uint\":18446744073709551615,\"big\":18446744073709551616,"
                       "\"huge\":1e999,\"real\":0.1,\"zero\":-0.0,\"null\":null,\"yes\":true,"
                       "\"a\":[],\"o\":{},\"s\":\"a\\u0000b\"}";
    const struct weir_value *v = parse(text);
    assert_true(wr_value_int(field(v, "min")) == INT64_MIN);
    assert_true(wr_value_int(field(v, "max")) == INT64_MAX);
    assert_int_equal(wr_value_type(field(v, "max")), WEIR_INT);
    assert_int_equal(wr_value_type(field(v, "uint")), WEIR_UINT);
    assert_true(wr_value_uint(field(v, "uint")) == UINT64_MAX);
    assert_int_equal(wr_value_type(field(v, "big")), WEIR_BIGNUM);
    assert_string_equal(wr_value_str(field(v, "big")).ptr ? "18446744073709551616" : "",
                        "18446744073709551616");
    assert_int_equal(wr_value_str(field(v, "big")).len, 20);
    assert_int_equal(wr_value_type(field(v, "huge")), WEIR_BIGNUM);
    assert_int_equal(wr_value_type(field(v, "real")), WEIR_REAL);
    assert_int_equal(wr_value_type(field(v, "null")), WEIR_NULL);
    assert_true(wr_value_bool(field(v, "yes")));
    assert_int_equal(wr_value_type(field(v, "a")), WEIR_ARRAY);
    assert_int_equal(wr_value_type(field(v, "o")), WEIR_OBJECT);
    assert_int_equal(wr_value_count(field(v, "o")), 0);
    assert_memory_equal(wr_value_str(field(v, "s")).ptr, "a\0b", 3);
    assert_null(field(v, "none"));
    assert_json(v, text);                       /* as parsed */
    assert_json(wr_make_edit(&arena, v), text); /* and as a copy that can be changed */
    assert_json(wr_make_copy(&arena, v), text);
    assert_json(wr_make_copy(&arena, wr_make_edit(&arena, v)), text);
}

static void test_null_reads_as_nothing(void **state)
{
    (void)state;
    assert_int_equal(wr_value_type(NULL), WEIR_NULL);
    assert_int_equal(wr_value_count(NULL), 0);
    assert_null(wr_value_get(NULL, weir_cstr("x")));
    assert_null(wr_value_at(NULL, 0));
    assert_null(wr_value_str(NULL).ptr);
    assert_false(wr_value_bool(NULL));
    assert_true(wr_value_real(NULL) == 0);
    struct weir_value_iter it = wr_value_iter(NULL);
    assert_null(wr_value_next(&it, NULL));
}

static void refuse(const char *text, size_t len)
{
    struct weir_error err = {0};
    assert_null(wr_value_parse(&arena, weir_str_n(text, len), &err));
    assert_string_equal(err.code, "bad_json");
    assert_true(err.text[0] != '\0');
}

static void test_hostile_texts_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       " ",       "{",          "{\"a\":}",  "[1,]",
                                      "nul",    "{'a':1}", "\"\x01\"",   "1 2",       "\"\\ud800\"",
                                      "[1 2]",  "01",      "+1",         "NaN",       "\"\xff\"",
                                      "\xef\xbb\xbf{}", "{\"a\" 1}", "\"\xed\xa0\x80\"", "/**/1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuse(bad[i], strlen(bad[i]));
    refuse("{\"a\":1}\0", 8);
    refuse("\0", 1);
    refuse(NULL, 0);
}

static void test_error_has_its_position(void **state)
{
    struct weir_error err = {0};
    (void)state;
    assert_null(wr_value_parse(&arena, weir_cstr("{\"a\":1,\"b\":x}"), &err));
    assert_int_equal(err.offset, 11);
    assert_int_equal(err.status, WEIR_E_REJECTED);
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    static char text[2 * 100000 + 1];
    static const int depths[] = {127, 128, 129, 100000};
    for (size_t i = 0; i < 4; i++) {
        memset(text, '[', (size_t)depths[i]);
        memset(text + depths[i], ']', (size_t)depths[i]);
        size_t len = 2 * (size_t)depths[i];
        if (depths[i] <= WR_VALUE_DEPTH_MAX)
            assert_non_null(wr_value_parse(&arena, weir_str_n(text, len), NULL));
        else
            refuse(text, len);
    }
    /* Wide is not deep, and siblings do not add up. */
    char *wide = malloc(400000);
    size_t n = 0;
    wide[n++] = '[';
    for (int i = 0; i < 50000; i++) {
        memcpy(wide + n, i != 0 ? ",[[0]]" : "[[0]]", i != 0 ? 6 : 5);
        n += i != 0 ? 6 : 5;
    }
    wide[n++] = ']';
    assert_non_null(wr_value_parse(&arena, weir_str_n(wide, n), NULL));
    free(wide);
}

static void test_memory_is_trimmed_but_not_shared(void **state)
{
    (void)state;
    /* What the parser gives back must not be the next value's memory while it is still used. */
    const struct weir_value *values[200];
    char text[64];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof(text), "{\"n\":%d,\"s\":\"value %d\",\"a\":[%d]}", i, i, i);
        values[i] = parse(text);
    }
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof(text), "{\"n\":%d,\"s\":\"value %d\",\"a\":[%d]}", i, i, i);
        assert_json(values[i], text);
    }
}

static void test_iteration(void **state)
{
    (void)state;
    const struct weir_value *v = parse("{\"a\":1,\"b\":[1,[2],3],\"c\":{}}");
    for (int edited = 0; edited < 2; edited++) {
        struct weir_value_iter it = wr_value_iter(v);
        struct weir_str key;
        assert_int_equal(wr_value_int(wr_value_next(&it, &key)), 1);
        assert_true(wr_str_is(key, "a"));
        const struct weir_value *arr = wr_value_next(&it, &key);
        assert_true(wr_str_is(key, "b"));
        struct weir_value_iter inner = wr_value_iter(arr);
        assert_int_equal(wr_value_int(wr_value_next(&inner, NULL)), 1);
        assert_int_equal(wr_value_count(wr_value_next(&inner, NULL)), 1);
        assert_int_equal(wr_value_int(wr_value_next(&inner, NULL)), 3);
        assert_null(wr_value_next(&inner, NULL));
        assert_int_equal(wr_value_int(wr_value_at(arr, 2)), 3);
        assert_null(wr_value_at(arr, 3));
        assert_int_equal(wr_value_type(wr_value_next(&it, &key)), WEIR_OBJECT);
        assert_null(wr_value_next(&it, &key));
        v = wr_make_edit(&arena, v);
    }
}

static void test_changes(void **state)
{
    (void)state;
    const struct weir_value *sealed = parse("{\"a\":1,\"b\":2,\"a\":3,\"c\":[1,2,3]}");
    struct weir_value *v = wr_make_edit(&arena, sealed);
    assert_true(wr_object_set(&arena, v, weir_cstr("a"), wr_make_int(&arena, 9)));
    assert_json(v, "{\"a\":9,\"b\":2,\"c\":[1,2,3]}"); /* in its place, duplicates gone */
    assert_true(wr_object_set(&arena, v, weir_cstr("d"), wr_make_null(&arena)));
    assert_true(wr_object_rename(&arena, v, weir_cstr("b"), weir_cstr("d")));
    assert_json(v, "{\"a\":9,\"d\":2,\"c\":[1,2,3]}");
    assert_false(wr_object_rename(&arena, v, weir_cstr("none"), weir_cstr("x")));
    assert_true(wr_object_remove(v, weir_cstr("a")));
    assert_false(wr_object_remove(v, weir_cstr("a")));
    struct weir_value *arr = (struct weir_value *)(uintptr_t)field(v, "c");
    assert_true(wr_array_set(&arena, arr, 1, wr_make_str(&arena, weir_cstr("x"))));
    assert_true(wr_array_append(&arena, arr, wr_make_real(&arena, 0.5)));
    assert_true(wr_array_remove(arr, 0));
    assert_json(v, "{\"d\":2,\"c\":[\"x\",3,0.5]}");
    assert_true(wr_object_remove(v, weir_cstr("c")));
    assert_true(wr_object_remove(v, weir_cstr("d")));
    assert_json(v, "{}");
    assert_true(wr_object_set(&arena, v, weir_cstr("again"), wr_make_bool(&arena, true)));
    assert_json(v, "{\"again\":true}");
    assert_json(sealed, "{\"a\":1,\"b\":2,\"a\":3,\"c\":[1,2,3]}"); /* untouched */
}

static void test_last_pair_removed_and_added(void **state)
{
    (void)state;
    struct weir_value *v = wr_make_edit(&arena, parse("{\"a\":1,\"b\":2,\"c\":3}"));
    assert_true(wr_object_remove(v, weir_cstr("c")));
    assert_true(wr_object_set(&arena, v, weir_cstr("d"), wr_make_int(&arena, 4)));
    assert_true(wr_object_remove(v, weir_cstr("a")));
    assert_json(v, "{\"b\":2,\"d\":4}");
}

static void test_what_cannot_be_made(void **state)
{
    (void)state;
    struct weir_value *obj = wr_make_object(&arena);
    assert_null(wr_make_str(&arena, weir_str_n("\xff", 1)));
    assert_null(wr_make_real(&arena, 1.0 / 0.0));
    assert_false(wr_object_set(&arena, obj, weir_cstr("x"), NULL));
    assert_false(wr_object_set(&arena, NULL, weir_cstr("x"), wr_make_null(&arena)));
    assert_false(wr_array_append(&arena, obj, wr_make_null(&arena)));
    /* A parsed value cannot be changed. */
    struct weir_value *sealed = (struct weir_value *)(uintptr_t)parse("{}");
    assert_false(wr_object_set(&arena, sealed, weir_cstr("x"), wr_make_null(&arena)));
    assert_false(wr_value_is_mutable(sealed));
    assert_true(wr_value_is_mutable(obj));
}

static void test_equality(void **state)
{
    (void)state;
    assert_true(wr_value_equal(parse("{\"a\":1,\"b\":[1.0,\"x\"]}"), parse("{\"b\":[1,\"x\"],\"a\":1.0}")));
    assert_false(wr_value_equal(parse("[]"), parse("{}")));
    assert_false(wr_value_equal(parse("{\"a\":null}"), parse("{}")));
    assert_false(wr_value_equal(parse("18446744073709551615"), parse("-1")));
    assert_false(wr_value_equal(parse("\"1\""), parse("1")));
    assert_true(wr_value_equal(parse("123456789012345678901234567890"),
                               parse("123456789012345678901234567890")));
    assert_false(wr_value_equal(parse("9007199254740993"), parse("9007199254740992")));
    assert_false(wr_value_equal(parse("9007199254740993"), parse("9007199254740992.0")));
    assert_false(wr_value_equal(parse("18446744073709551616.0"), parse("18446744073709551615")));
    assert_true(wr_value_equal(parse("9007199254740992.0"), parse("9007199254740992")));
    assert_false(wr_value_equal(parse("[1,2]"), parse("[1]")));
}

static void assert_equal_both_ways(bool equal, const char *a, const char *b)
{
    assert_int_equal(wr_value_equal(parse(a), parse(b)), equal);
    assert_int_equal(wr_value_equal(parse(b), parse(a)), equal);
}

static void test_equality_of_numbers_is_exact(void **state)
{
    (void)state;
    assert_equal_both_ways(true, "9007199254740992", "9007199254740992.0");
    assert_equal_both_ways(false, "9007199254740993", "9007199254740992.0");
    assert_equal_both_ways(true, "-9223372036854775808", "-9223372036854775808.0");
    assert_equal_both_ways(false, "9223372036854775807", "9223372036854775808.0");
    assert_equal_both_ways(false, "18446744073709551615", "18446744073709551616.0");
    assert_equal_both_ways(true, "9223372036854775808", "9223372036854775808.0");
    assert_equal_both_ways(true, "18446744073709551616", "18446744073709551616.0");
    assert_equal_both_ways(false, "18446744073709551617", "18446744073709551616.0");
    assert_equal_both_ways(true, "100000000000000000000", "1e20");
    assert_equal_both_ways(false, "1e400", "1.7976931348623157e308");
    assert_equal_both_ways(true, "0", "-0.0");
    assert_equal_both_ways(false, "0", "0.5");
    assert_equal_both_ways(false, "-1", "-1.5");
}

static void test_equality_of_duplicate_keys_is_that_of_reading(void **state)
{
    (void)state;
    assert_equal_both_ways(true, "{\"a\":1,\"a\":2}", "{\"a\":1}");
    assert_equal_both_ways(true, "{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":3}");
    assert_equal_both_ways(false, "{\"a\":1,\"a\":2}", "{\"a\":2}");
    assert_equal_both_ways(false, "{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":1}");
    assert_equal_both_ways(false, "{\"a\":1,\"b\":1}", "{\"a\":1,\"c\":1}");
    assert_equal_both_ways(false, "{\"a\":1}", "{\"a\":1,\"b\":1}");
}

/* [[...[]...]] of so many levels, put together from the inside or from the outside. */
static struct weir_value *nested(uint32_t levels, bool inside_first)
{
    struct weir_value *top = wr_make_array(&arena), *at = top;
    for (uint32_t i = 1; i < levels; i++) {
        struct weir_value *next = wr_make_array(&arena);
        assert_true(wr_array_append(&arena, inside_first ? next : at, inside_first ? top : next));
        at = next;
        top = inside_first ? next : top;
    }
    return top;
}

static void test_what_is_put_together_is_as_deep_as_what_is_parsed_or_refused(void **state)
{
    enum { BOMB = 1000000 };
    (void)state;
    assert_false(arena.nested);
    for (int inside_first = 0; inside_first < 2; inside_first++) {
        struct weir_value *most = nested(WR_VALUE_DEPTH_MAX, inside_first);
        assert_true(wr_value_depth_ok(most));
        struct weir_value *copy = wr_make_copy(&arena, most);
        assert_non_null(copy);
        assert_true(wr_value_equal(most, copy));
        struct weir_str text = wr_value_write(&arena, most);
        assert_non_null(wr_value_parse(&arena, text, NULL));
        struct weir_value *over = nested(WR_VALUE_DEPTH_MAX + 1, inside_first);
        assert_false(wr_value_depth_ok(over));
        struct weir_value *bomb = nested(BOMB, inside_first);
        assert_false(wr_value_depth_ok(bomb));
        assert_null(wr_make_copy(&arena, bomb));
        assert_null(wr_make_edit(&arena, bomb));
        assert_false(wr_value_equal(bomb, nested(BOMB, inside_first)));
    }
    assert_true(arena.nested);
}

static void test_depth_is_found_in_any_member(void **state)
{
    (void)state;
    struct weir_value *v = wr_make_object(&arena);
    wr_object_set(&arena, v, weir_cstr("a"), nested(WR_VALUE_DEPTH_MAX - 1, true));
    wr_object_set(&arena, v, weir_cstr("n"), wr_make_int(&arena, 1));
    wr_object_set(&arena, v, weir_cstr("e"), wr_make_object(&arena));
    assert_true(wr_value_depth_ok(v));
    wr_object_set(&arena, v, weir_cstr("z"), nested(WR_VALUE_DEPTH_MAX, true));
    assert_false(wr_value_depth_ok(v));
    assert_true(wr_object_remove(v, weir_cstr("z")));
    assert_true(wr_value_depth_ok(v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_null_reads_as_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_texts_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error_has_its_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_is_trimmed_but_not_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iteration, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_pair_removed_and_added, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equality, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equality_of_numbers_is_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equality_of_duplicate_keys_is_that_of_reading, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_what_is_put_together_is_as_deep_as_what_is_parsed_or_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth_is_found_in_any_member, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
