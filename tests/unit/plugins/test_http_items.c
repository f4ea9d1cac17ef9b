/* SPDX-License-Identifier: Apache-2.0
 *
 * How the http source cuts bodies into items: against expected cuts, and, on bytes of every kind,
 * against a walk that looks at one byte after the other. The file is compiled in, as it is part of
 * a plugin that exports nothing.
 */
#include "../../../plugins/http_source/items.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* All items with '|' between them; "!why@offset" where it goes wrong. */
static const char *cuts(const char *body, enum media media, bool opaque)
{
    static char out[4096];
    struct weir_str text = weir_cstr(body), item;
    struct items it;
    const char *why = "";
    size_t n = 0;
    out[0] = '\0';
    items_begin(&it, text, media, opaque);
    for (;;) {
        enum items_step step = items_next(&it, &item, &why);
        if (step == ITEMS_BAD)
            (void)snprintf(out + n, sizeof(out) - n, "!%zu", (size_t)(item.ptr - text.ptr));
        if (step != ITEMS_ONE)
            return out;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%.*s|", (int)item.len, item.ptr);
    }
}

static void cuts_arrays(void **state)
{
    (void)state;
    assert_string_equal(cuts("[]", MEDIA_JSON, false), "");
    assert_string_equal(cuts(" [ ] ", MEDIA_JSON, false), "");
    assert_string_equal(cuts("[1]", MEDIA_JSON, false), "1|");
    assert_string_equal(cuts(" [ {\"a\":1} ,\n{\"b\":[2,3]},\t\"x,]\" ] ", MEDIA_JSON, false),
                        "{\"a\":1}|{\"b\":[2,3]}|\"x,]\"|");
    assert_string_equal(cuts("[\"\\\"]\",\"\\\\\",[[]],{}]", MEDIA_JSON, false),
                        "\"\\\"]\"|\"\\\\\"|[[]]|{}|");
}

static void finds_broken_arrays(void **state)
{
    (void)state;
    assert_string_equal(cuts("[", MEDIA_JSON, false), "!1");
    assert_string_equal(cuts("[1", MEDIA_JSON, false), "!2");
    assert_string_equal(cuts("[1,", MEDIA_JSON, false), "1|!3");
    assert_string_equal(cuts("[1,]", MEDIA_JSON, false), "1|!3");
    assert_string_equal(cuts("[,1]", MEDIA_JSON, false), "!1");
    assert_string_equal(cuts("[1,,2]", MEDIA_JSON, false), "1|!3");
    assert_string_equal(cuts("[1}", MEDIA_JSON, false), "!2");
    assert_string_equal(cuts("[1] x", MEDIA_JSON, false), "1|!4");
    assert_string_equal(cuts("[\"a", MEDIA_JSON, false), "!3");
    assert_string_equal(cuts("[\"a\\", MEDIA_JSON, false), "!4");
    assert_string_equal(cuts("[{\"a\":1]", MEDIA_JSON, false), "!8");
}

static void cuts_single_and_lines(void **state)
{
    (void)state;
    assert_string_equal(cuts("  {\"a\":1}\n", MEDIA_JSON, false), "{\"a\":1}|");
    assert_string_equal(cuts(" \n", MEDIA_JSON, false), "");
    assert_string_equal(cuts("", MEDIA_JSON, false), "");
    assert_string_equal(cuts("1\n\n 2 \r\n3", MEDIA_NDJSON, false), "1|2|3|");
    assert_string_equal(cuts("[1,2]\n[3]\n", MEDIA_NDJSON, false), "[1,2]|[3]|");
    assert_string_equal(cuts("\r\n\n", MEDIA_NDJSON, false), "");
}

static void keeps_opaque_bytes(void **state)
{
    (void)state;
    assert_string_equal(cuts(" [1, x \n", MEDIA_JSON, true), " [1, x \n|");
    assert_string_equal(cuts(" a \r\n\n b", MEDIA_NDJSON, true), " a | b|");
}

static void walks_members(void **state)
{
    static const char text[] = " {\"a\" : 1 ,\"b\":{\"c\":\"}\"}, \"d\":[] } ";
    struct weir_str key, value, whole = weir_cstr(text);
    const char *why = NULL;
    size_t at = 0;
    (void)state;
    const char *want[] = {"a", "1", "b", "{\"c\":\"}\"}", "d", "[]"};
    for (size_t i = 0; i < 6; i += 2) {
        assert_true(member_next(whole, &at, &key, &value, &why));
        assert_int_equal(key.len, strlen(want[i]));
        assert_memory_equal(key.ptr, want[i], key.len);
        assert_int_equal(value.len, strlen(want[i + 1]));
        assert_memory_equal(value.ptr, want[i + 1], value.len);
    }
    assert_false(member_next(whole, &at, &key, &value, &why));
    assert_null(why);
}

static void refuses_what_is_no_object(void **state)
{
    static const char *const bad[] = {
        "",          " ",       "1",         "[1]",       "{",         "{\"",        "{\"a",
        "{\"a\"",    "{\"a\":", "{\"a\":1",  "{\"a\":,}", "{\"a\":1,", "{\"a\":1,}", "{a:1}",
        "{\"a\":1]", "{} x",    "{\"a\" 1}", "{,}",       "{\"a\":}",  "{\"\\"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct weir_str key, value;
        const char *why = NULL;
        size_t at = 0;
        while (member_next(weir_cstr(bad[i]), &at, &key, &value, &why))
            ;
        if (why == NULL)
            fail_msg("'%s' was taken for an object", bad[i]);
    }
}

/* The same by one byte after the other. */
static size_t plain_end(struct weir_str text, size_t at)
{
    uint32_t depth = 0;
    bool in_string = false;
    for (; at < text.len; at++) {
        char c = text.ptr[at];
        if (in_string) {
            at += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ']' || c == '}')) {
            return at;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return text.len;
}

static void walks_blocks_as_it_walks_bytes(void **state)
{
    static const char letters[] = "\"\"\"\\{}[],:a1 \n{{[[\xc3\xbc"
                                  "bcdefghijklmnop";
    uint64_t seed = 0x9e3779b97f4a7c15u;
    (void)state;
    for (int round = 0; round < 200000; round++) {
        char bytes[400];
        size_t len = (size_t)(round % (int)sizeof(bytes));
        size_t n_letters = round % 3 == 0 ? sizeof(letters) - 1 : 16 + (size_t)(round % 7);
        for (size_t i = 0; i < len; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = letters[(seed >> 33) % n_letters];
        }
        if (len != 0 && round % 2 == 0)
            bytes[0] = '{';
        char *exact = malloc(len != 0 ? len : 1); /* so that a read beyond the end is seen */
        memcpy(exact, bytes, len);
        struct weir_str text = weir_str_n(exact, len);
        assert_int_equal(value_end(text, 0), plain_end(text, 0));
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_arrays),
        cmocka_unit_test(finds_broken_arrays),
        cmocka_unit_test(cuts_single_and_lines),
        cmocka_unit_test(keeps_opaque_bytes),
        cmocka_unit_test(walks_members),
        cmocka_unit_test(refuses_what_is_no_object),
        cmocka_unit_test(walks_blocks_as_it_walks_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
