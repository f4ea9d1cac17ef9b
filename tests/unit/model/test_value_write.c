/* SPDX-License-Identifier: Apache-2.0
 *
 * What was read, changed and written: the same as if the library had written all of it, with the members
 * that nobody changed byte for byte as they came.
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

static struct weir_str key(const char *name)
{
    return weir_cstr(name);
}

struct editing {
    struct weir_str text;
    const struct weir_value *from;
    struct weir_value *v;
};

static struct editing begin(const char *text)
{
    struct weir_error err = {0};
    struct editing e = {.text = weir_cstr(text)};
    e.from = wr_value_parse(&arena, e.text, &err);
    if (e.from == NULL)
        fail_msg("%s: %s", text, err.text);
    e.v = wr_make_edit(&arena, e.from);
    assert_non_null(e.v);
    return e;
}

static void assert_written(const struct editing *e, const char *expected)
{
    struct weir_str text = wr_value_write_edited(&arena, e->v, e->from, e->text);
    assert_non_null(text.ptr);
    assert_string_equal(text.ptr, expected);
    assert_int_equal(text.len, strlen(expected));
}

static void set(struct editing *e, const char *name, int64_t n)
{
    assert_true(wr_object_set(&arena, e->v, key(name), wr_make_int(&arena, n)));
}

static struct weir_value *member(struct editing *e, const char *name)
{
    return (struct weir_value *)(uintptr_t)wr_value_get(e->v, key(name));
}

static void test_what_is_not_changed_stays_as_it_came(void **state)
{
    (void)state;
    struct editing e = begin(" { \"a\" : 1.50 ,\n\t\"b\":[ 1, 2 ], \"c\" :\"\\u0041\\/\" , \"d\":{ } } \n");
    assert_written(&e, "{\"a\" : 1.50 ,\n\t\"b\":[ 1, 2 ], \"c\" :\"\\u0041\\/\" , \"d\":{ }}");
    set(&e, "z", -5);
    assert_written(&e, "{\"a\" : 1.50 ,\n\t\"b\":[ 1, 2 ], \"c\" :\"\\u0041\\/\" , \"d\":{ },\"z\":-5}");
    assert_true(wr_object_remove(e.v, key("b")));
    assert_written(&e, "{\"a\" : 1.50,\"c\" :\"\\u0041\\/\" , \"d\":{ },\"z\":-5}");
    assert_true(wr_object_rename(&arena, e.v, key("c"), key("C\"")));
    assert_written(&e, "{\"a\" : 1.50,\"C\\\"\":\"A/\",\"d\":{ },\"z\":-5}");
    assert_true(wr_object_remove(e.v, key("a")));
    set(&e, "d", 1);
    assert_written(&e, "{\"C\\\"\":\"A/\",\"d\":1,\"z\":-5}");
    assert_true(wr_object_remove(e.v, key("C\"")) && wr_object_remove(e.v, key("d")) &&
                wr_object_remove(e.v, key("z")));
    assert_written(&e, "{}");
    set(&e, "a", 0);
    assert_written(&e, "{\"a\":0}");
}

static void test_a_change_further_down_is_seen(void **state)
{
    (void)state;
    struct editing e = begin("{\"a\": 1, \"o\": {\"p\": {\"q\": [1, [2]]}}, \"z\": [ ]}");
    struct weir_value *p = (struct weir_value *)(uintptr_t)wr_value_get(member(&e, "o"), key("p"));
    struct weir_value *q = (struct weir_value *)(uintptr_t)wr_value_get(p, key("q"));
    struct weir_value *inner = (struct weir_value *)(uintptr_t)wr_value_at(q, 1);
    assert_true(wr_array_append(&arena, inner, wr_make_int(&arena, 3)));
    assert_written(&e, "{\"a\": 1,\"o\":{\"p\":{\"q\":[1,[2,3]]}},\"z\": [ ]}");
    assert_true(wr_array_remove(member(&e, "z"), 0) || true);
    assert_true(wr_array_set(&arena, q, 0, wr_make_str(&arena, key("x"))));
    assert_true(wr_object_rename(&arena, p, key("q"), key("r")));
    assert_written(&e, "{\"a\": 1,\"o\":{\"p\":{\"r\":[\"x\",[2,3]]}},\"z\":[]}");
    assert_true(wr_object_remove(member(&e, "o"), key("p")));
    assert_written(&e, "{\"a\": 1,\"o\":{},\"z\":[]}");
}

/* An item of a list that was read in one piece, with its own text. */
static void test_a_part_of_what_was_read(void **state)
{
    (void)state;
    struct editing e = begin("[{\"x\":\"\\u0041\"}, { \"a\" : \"\\u0042\", \"b\":2, \"c\":[ ] }]");
    e.text = weir_cstr("{ \"a\" : \"\\u0042\", \"b\":2, \"c\":[ ] }");
    e.from = wr_value_at(e.from, 1);
    e.v = wr_make_edit(&arena, e.from);
    set(&e, "b", 3);
    assert_written(&e, "{\"a\" : \"\\u0042\",\"b\":3,\"c\":[ ]}");
}

static void test_what_no_object_can_be_patched_from_is_written_whole(void **state)
{
    (void)state;
    struct editing e = begin(" [ 1 ] ");
    assert_true(wr_array_append(&arena, e.v, wr_make_null(&arena)));
    assert_written(&e, "[1,null]");
    e = begin(" { } ");
    set(&e, "a", 7);
    assert_written(&e, "{\"a\":7}");
    e = begin("{\"a\" : 1}");
    e.v = wr_make_object(&arena); /* no copy of what was read */
    set(&e, "b", INT64_MIN);
    assert_written(&e, "{\"b\":-9223372036854775808}");
}

/* ---- Against the library ---- */

static unsigned seed = 1;

static unsigned any(unsigned below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static const char *const names[] = {"a", "bb", "a", "\\u0061\\n", "\xc3\xa9", "k\\\"", "long name", ""};
static const char *const spaces[] = {"", "", "", " ", "\n\t", "\r\n  "};

static void add(char *out, const char *text)
{
    size_t at = strlen(out);
    snprintf(out + at, 8192 - at, "%s", text);
}

static void add_value(char *out, int depth)
{
    static const char *const scalars[] = {"1", "-2", "1.50", "1e3", "true", "false", "null",
                                          "\"x\"", "\"\\u20ac\\\\\"", "123456789012345678901234567890",
                                          "18446744073709551615", "\"\xe2\x82\xac\""};
    unsigned kind = any(depth > 2 ? 4 : 6), n = any(4);
    if (kind < 4) {
        add(out, scalars[any(12)]);
        return;
    }
    add(out, kind == 4 ? "[" : "{");
    for (unsigned i = 0; i < n; i++) {
        add(out, spaces[any(6)]);
        if (kind == 5) {
            add(out, "\"");
            add(out, names[any(8)]);
            add(out, "\"");
            add(out, spaces[any(6)]);
            add(out, ":");
        }
        add_value(out, depth + 1);
        add(out, spaces[any(6)]);
        add(out, i + 1 < n ? "," : "");
    }
    add(out, kind == 4 ? "]" : "}");
}

static struct weir_str some_key(void)
{
    static const char *const plain[] = {"a", "bb", "a\n", "\xc3\xa9", "k\"", "long name", "", "new"};
    return key(plain[any(8)]);
}

static struct weir_value *some_value(void)
{
    switch (any(5)) {
    case 0:
        return wr_make_str(&arena, some_key());
    case 1:
        return wr_make_real(&arena, 0.5);
    case 2:
        return wr_make_array(&arena);
    case 3:
        return wr_make_bool(&arena, any(2) != 0);
    default:
        return wr_make_int(&arena, (int64_t)any(1000) - 500);
    }
}

static struct weir_value *somewhere(struct weir_value *v)
{
    while (any(3) != 0 && wr_value_count(v) != 0) {
        struct weir_value_iter it = wr_value_iter(v);
        const struct weir_value *at = NULL;
        for (unsigned i = any(wr_value_count(v)) + 1; i > 0; i--)
            at = wr_value_next(&it, NULL);
        if (wr_value_type(at) != WEIR_ARRAY && wr_value_type(at) != WEIR_OBJECT)
            return v;
        v = (struct weir_value *)(uintptr_t)at;
    }
    return v;
}

static void change(struct weir_value *v)
{
    struct weir_value *at = somewhere(v);
    uint32_t n = wr_value_count(at);
    switch (any(4)) {
    case 0:
        (void)(wr_object_remove(at, some_key()) || (n != 0 && wr_array_remove(at, any(n))));
        break;
    case 1:
        (void)wr_object_rename(&arena, at, some_key(), some_key());
        break;
    default:
        (void)(wr_object_set(&arena, at, some_key(), some_value()) ||
               wr_array_append(&arena, at, some_value()) ||
               (n != 0 && wr_array_set(&arena, at, any(n), some_value())));
    }
}

static void test_it_says_what_the_library_says(void **state)
{
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[8192] = "";
        add(text, spaces[any(6)]);
        do
            text[strspn(text, " \n\t\r")] = '\0', add_value(text, 0);
        while (strlen(text) > 7000);
        add(text, spaces[any(6)]);
        struct editing e = begin(text);
        for (unsigned i = any(6); i > 0; i--)
            change(e.v);
        struct weir_str mine = wr_value_write_edited(&arena, e.v, e.from, e.text);
        struct weir_str whole = wr_value_write(&arena, e.v);
        const struct weir_value *read = wr_value_parse(&arena, mine, NULL);
        if (read == NULL)
            fail_msg("%s became %s", text, mine.ptr);
        assert_string_equal(wr_value_write(&arena, read).ptr,
                            wr_value_write(&arena, wr_value_parse(&arena, whole, NULL)).ptr);
        wr_arena_clear(&arena, 1 << 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_not_changed_stays_as_it_came, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_change_further_down_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_part_of_what_was_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_no_object_can_be_patched_from_is_written_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_it_says_what_the_library_says, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
