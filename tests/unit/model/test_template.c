/* SPDX-License-Identifier: Apache-2.0
 *
 * Templates: what compiles, where mistakes are, what is written for an event.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <base/arena.h>
#include <base/buf.h>
#include <base/check.h>
#include <base/str.h>
#include <model/template.h>
#include <model/value.h>
#include <weir/plugin.h>

static struct weir_arena arena;

static struct weir_template *compile(const char *text)
{
    struct weir_error err = {.offset = -1};
    struct weir_template *t = wr_template_compile(&arena, weir_cstr(text), &err);

    if (t == NULL)
        fail_msg("%s: %s at %lld", text, err.text, (long long)err.offset);
    return t;
}

static struct weir_event event_of(const char *json)
{
    static const struct weir_header headers[] = {
        {{"type", 4}, {"login", 5}}, {{"x-request.id", 12}, {"", 0}}, {{"empty", 5}, {NULL, 0}}};
    static const struct weir_origin origin = {{"user-events", 11}, 3};
    struct weir_event ev = {.key = {"k1", 2},
                            .id = {"id-7", 4},
                            .time_ns = INT64_C(1767225599123456789),
                            .headers = headers,
                            .n_headers = 3,
                            .origin = &origin,
                            .stream = (struct weir_stream *)(void *)&arena,
                            .position = 42};

    if (json != NULL) {
        ev.value = wr_value_parse(&arena, weir_cstr(json), NULL);
        assert_non_null(ev.value);
    }
    return ev;
}

static void renders(const char *text, const char *json, const char *expected)
{
    struct weir_event ev = event_of(json);
    struct weir_error err = {.offset = -1};
    struct weir_str s = wr_template_render(compile(text), &ev, &arena, &err);

    if (s.ptr == NULL)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(s.ptr, expected);
    assert_int_equal(s.len, strlen(expected));
}

static void misses(const char *text, const char *json, const char *path)
{
    struct weir_event ev = event_of(json);
    struct weir_error err = {.offset = -1};

    assert_null(wr_template_render(compile(text), &ev, &arena, &err).ptr);
    assert_int_equal(err.status, WEIR_E_REJECTED);
    assert_string_equal(err.code, "missing_field");
    assert_non_null(strstr(err.text, path));
}

static void wrong(const char *text, int64_t offset)
{
    struct weir_error err = {.offset = -1};

    assert_null(wr_template_compile(&arena, weir_cstr(text), &err));
    assert_int_equal(err.status, WEIR_E_CONFIG);
    if (err.offset != offset)
        fail_msg("%s: %s at %lld", text, err.text, (long long)err.offset);
}

static void literals(void **state)
{
    struct weir_str s;
    (void)state;

    renders("", NULL, "");
    renders("plain } }} { text", NULL, "plain } }} { text");
    renders("a {{ '{{' }} b {{ \"}}\" }} c", NULL, "a {{ b }} c");
    assert_true(wr_template_is_literal(compile("x{{ '{{' }}y"), &s));
    assert_string_equal(s.ptr, "x{{y");
    assert_true(wr_template_is_literal(compile(""), &s));
    assert_int_equal(s.len, 0);
    assert_false(wr_template_is_literal(compile("x{{ a }}"), &s));
}

static void fields(void **state)
{
    static const char *const json =
        "{\"user\":{\"id\":7,\"tags\":[\"a\",\"b\"],\"x y\":true},\"n\":null,"
        "\"big\":18446744073709551615,\"real\":1.5,\"text\":\"\xc3\xa9\","
        "\"empty\":\"\",\"list\":[],\"map\":{},\"a-b\":1,\"$t\":2}";
    (void)state;

    renders("u:{{ user.id }}", json, "u:7");
    renders("{{user.tags[1]}}", json, "b");
    renders("{{ user[\"x y\"] }}", json, "true");
    renders("{{ ['text'] }}", json, "\xc3\xa9");
    renders("{{ user.tags }}", json, "[\"a\",\"b\"]");
    renders("{{ list }}{{ map }}", json, "[]{}");
    renders("{{ big }}/{{ real }}", json, "18446744073709551615/1.5");
    renders("<{{ empty }}>", json, "<>");
    renders("{{ a-b }}{{ $t }}", json, "12");
    misses("{{ user.name }}", json, "user.name");
    misses("{{ user.tags[2] }}", json, "user.tags[2]");
    misses("{{ user[0] }}", json, "user[0]");
    misses("{{ n }}", json, "field n");
    misses("{{ text.x }}", json, "text.x");
    misses("{{ a }}", NULL, "field a");
}

static void defaults(void **state)
{
    (void)state;
    renders("{{ type | other }}", "{}", "other");
    renders("{{ type | other words  }}", "{}", "other words");
    renders("{{ type | 'a | }} b' }}", "{}", "a | }} b");
    renders("{{ type | '' }}", "{}", "");
    renders("{{ type|x}}", "{\"type\":\"\"}", "");
    renders("{{ type | x }}", "{\"type\":null}", "x");
    renders("{{ @header.none | x }}", "{}", "x");
}

static void metadata(void **state)
{
    struct weir_event bare = {.origin = NULL}, ev;
    struct weir_error err = {.offset = -1};
    struct weir_origin no_partition = {{"path", 4}, -1};
    static const char *const all[] = {"{{ @key }}",        "{{ @id }}",     "{{ @topic }}",
                                      "{{ @partition }}",  "{{ @offset }}", "{{ @time }}",
                                      "{{ @header.type }}"};
    (void)state;

    renders("{{ @key }}|{{ @id }}|{{ @topic }}|{{ @partition }}|{{ @offset }}", NULL,
            "k1|id-7|user-events|3|42");
    renders("{{ @time }}", NULL, "2025-12-31T23:59:59.123Z");
    renders("{{ @header.type }}{{ @header.x-request.id }}{{ @header.empty }}.", NULL, "login.");
    for (size_t i = 0; i < WR_COUNT(all); i++) {
        assert_null(wr_template_render(compile(all[i]), &bare, &arena, &err).ptr);
        assert_string_equal(err.code, "missing_field");
    }
    ev = event_of(NULL);
    ev.origin = &no_partition;
    assert_null(wr_template_render(compile("{{ @partition }}"), &ev, &arena, NULL).ptr);
    ev.key = weir_str_n("", 0); /* an empty key is a key */
    assert_non_null(wr_template_render(compile("{{ @key }}"), &ev, &arena, NULL).ptr);
    ev.time_ns = -1;
    assert_string_equal(wr_template_render(compile("{{ @time }}"), &ev, &arena, NULL).ptr,
                        "1969-12-31T23:59:59.999Z");
}

static void text_may_hold_nul(void **state)
{
    struct weir_event ev = event_of("{\"a\":\"x\\u0000y\"}");
    struct weir_str s = wr_template_render(compile("<{{ a }}>"), &ev, &arena, NULL);
    (void)state;

    assert_int_equal(s.len, 5);
    assert_memory_equal(s.ptr, "<x\0y>", 6);
}

static void many_parts(void **state)
{
    struct wr_buf text = {0}, expected = {0};
    (void)state;

    for (int i = 0; i < 100; i++) {
        wr_buf_printf(&text, "%d={{ a }};", i);
        wr_buf_printf(&expected, "%d=x;", i);
    }
    renders(text.ptr, "{\"a\":\"x\"}", expected.ptr);
    wr_buf_done(&text);
    wr_buf_done(&expected);
}

static void mistakes_have_offsets(void **state)
{
    (void)state;
    wrong("a {{ b", 2);
    wrong("a {{ b }", 7);
    wrong("{{ }}", 3);
    wrong("{{}}", 2);
    wrong("x{{ a b }}", 6);
    wrong("{{ a. }}", 5);
    wrong("{{ a..b }}", 5);
    wrong("{{ a[ }}", 4);
    wrong("{{ a[x] }}", 4);
    wrong("{{ a[99999999999] }}", 4);
    wrong("{{ a | }}", 7);
    wrong("{{ a | 'x }}", 7);
    wrong("{{ a | 'x' y }}", 11);
    wrong("{{ @keys }}", 3);
    wrong("{{ @header. }}", 3);
    wrong("{{ 'x }}", 3);
    wrong("{{ a {{ b }} }}", 5);
    wrong("{{ .a }}", 3);
    wrong("{{ a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a }}", 67);
}

static void needs_and_prefix(void **state)
{
    (void)state;
    assert_int_equal(wr_template_needs(compile("x{{ @key }}")), 0);
    assert_int_equal(wr_template_needs(compile("{{ a }}")), WEIR_NEEDS_VALUE);
    assert_int_equal(wr_template_needs(compile("{{ @id }}-{{ a }}")),
                     WEIR_NEEDS_VALUE | WEIR_NEEDS_ID);
    assert_string_equal(wr_template_prefix(compile("events.{{ a }}")).ptr, "events.");
    assert_int_equal(wr_template_prefix(compile("{{ a }}x")).len, 0);
    assert_int_equal(wr_template_prefix(compile("")).len, 0);
}

static void a_bare_field_gives_its_value(void **state)
{
    struct weir_event ev = event_of("{\"a\":{\"b\":[1]}}");
    const struct weir_value *v = wr_template_value(compile("{{ a.b }}"), &ev);
    (void)state;

    assert_int_equal(wr_value_type(v), WEIR_ARRAY);
    assert_null(wr_template_value(compile("{{ a.b | x }}"), &ev));
    assert_null(wr_template_value(compile(" {{ a.b }}"), &ev));
    assert_null(wr_template_value(compile("{{ a.c }}"), &ev));
    assert_null(wr_template_value(compile("{{ @key }}"), &ev));
}

static struct weir_template *with_foreign(const char *text, size_t start, size_t end,
                                          struct weir_error *err)
{
    struct wr_text_range range = {start, end};

    return wr_template_compile_ranges(&arena, weir_cstr(text), &range, 1, err);
}

static void foreign_braces_are_text(void **state)
{
    struct weir_event ev = event_of("{\"a\":1}");
    struct weir_error err = {.offset = -1};
    struct weir_template *t;
    struct weir_str s;
    (void)state;

    t = with_foreign("<{{ a }}>{{ a }}", 1, 8, &err);
    s = wr_template_render(t, &ev, &arena, &err);
    assert_string_equal(s.ptr, "<{{ a }}>1");
    /* half of the braces is enough to make them text */
    assert_true(wr_template_is_literal(with_foreign("{{ a }}", 0, 1, &err), &s));
    assert_string_equal(s.ptr, "{{ a }}");
    assert_true(wr_template_is_literal(with_foreign("{{ a }}", 1, 2, &err), &s));
    /* a field cannot come from outside */
    assert_null(with_foreign("x{{ a }}", 4, 5, &err));
    assert_int_equal(err.offset, 1);
    assert_null(with_foreign("{{ a | xx }}", 7, 9, &err));
    assert_int_equal(err.offset, 0);
}

/* What the event puts in is escaped; what the author wrote is not. */
static void fields_in_urls(void **state)
{
    struct weir_event ev = event_of("{\"a\":\"x/y?z&%\\u0000\\u00e4-._~\",\"n\":-1.5}");
    struct weir_error err = {.offset = -1};
    struct weir_str s;
    (void)state;

    s = wr_template_render_with(compile("/%2F/{{ a }}/{{ n }}?{{ b | x=/1 }}&{{ '/' }}"), &ev,
                                &arena, WEIR_ESCAPE_URL, &err);
    assert_string_equal(s.ptr, "/%2F/x%2Fy%3Fz%26%25%00%C3%A4-._~/-1.5?x=/1&/");
    s = wr_template_render_with(compile("/a/b?c"), &ev, &arena, WEIR_ESCAPE_URL, &err);
    assert_string_equal(s.ptr, "/a/b?c");
    assert_null(
        wr_template_render_with(compile("/{{ b }}"), &ev, &arena, WEIR_ESCAPE_URL, &err).ptr);
    assert_string_equal(err.code, "missing_field");
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals),
        cmocka_unit_test(fields),
        cmocka_unit_test(defaults),
        cmocka_unit_test(metadata),
        cmocka_unit_test(text_may_hold_nul),
        cmocka_unit_test(many_parts),
        cmocka_unit_test(mistakes_have_offsets),
        cmocka_unit_test(needs_and_prefix),
        cmocka_unit_test(a_bare_field_gives_its_value),
        cmocka_unit_test(foreign_braces_are_text),
        cmocka_unit_test(fields_in_urls),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
