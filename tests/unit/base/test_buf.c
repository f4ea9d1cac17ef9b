/* SPDX-License-Identifier: Apache-2.0
 *
 * Text buffers, hashes and UTF-8.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>

#include <cmocka.h>

#include <base/buf.h>
#include <base/str.h>

static void grows_with_a_nul_behind(void **state)
{
    struct wr_buf b = {0};
    (void)state;

    for (int i = 0; i < 1000; i++) {
        wr_buf_printf(&b, "%03d,", i);
        assert_int_equal(b.ptr[b.len], '\0');
    }
    assert_int_equal(b.len, 4000);
    assert_memory_equal(b.ptr + 3996, "999,", 4);
    wr_buf_done(&b);
    assert_null(b.ptr);
}

static void base64_of(const char *text, const char *expected)
{
    struct wr_buf b = {0};
    wr_buf_base64(&b, weir_cstr(text));
    assert_string_equal(b.ptr != NULL ? b.ptr : "", expected);
    wr_buf_done(&b);
}

/* The examples of RFC 4648. */
static void base64(void **state)
{
    (void)state;
    base64_of("", "");
    base64_of("f", "Zg==");
    base64_of("fo", "Zm8=");
    base64_of("foo", "Zm9v");
    base64_of("foob", "Zm9vYg==");
    base64_of("fooba", "Zm9vYmE=");
    base64_of("foobar", "Zm9vYmFy");
}

static void prints_what_is_longer_than_its_room(void **state)
{
    struct wr_buf b = {0};
    char long_text[5000];
    (void)state;

    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    wr_buf_text(&b, "a");
    wr_buf_printf(&b, "%s!", long_text);
    assert_int_equal(b.len, 5001);
    assert_int_equal(b.ptr[5000], '!');
    wr_buf_done(&b);
}

static void json_strings_are_escaped(void **state)
{
    struct wr_buf b = {0};
    (void)state;

    wr_buf_json(&b,
                weir_str_n("a\"\\\b\t\n\f\r\0\x1f\x7f/\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\x8a", 21));
    assert_string_equal(b.ptr,
                        "\"a\\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\\u007f/\xc3\xa9\xe2\x82\xac"
                        "\xf0\x9f\x8c\x8a\"");
    b.len = 0;
    wr_buf_json(&b, weir_str_n("\xff\xc3(\xed\xa0\x80", 6));
    assert_string_equal(b.ptr, "\"\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    b.len = 0;
    wr_buf_json(&b, weir_str_n(NULL, 0));
    assert_string_equal(b.ptr, "\"\"");
    wr_buf_done(&b);
}

static void utf8_is_checked(void **state)
{
    static const struct {
        const char *text;
        size_t valid; /* bytes before the first mistake */
    } cases[] = {
        {"plain text longer than eight bytes", 34},
        {"\xc3\xa9", 2},
        {"\xe2\x82\xac", 3},
        {"\xf4\x8f\xbf\xbf", 4},
        {"eight..!\xff", 8},
        {"a\x80", 1},            /* a lone continuation */
        {"ab\xc0\x80", 2},       /* overlong */
        {"\xe0\x9f\xbf", 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
        {"\xed\xa0\x80", 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
        {"abc\xe2\x82", 3},      /* cut */
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(wr_utf8_check(weir_cstr(cases[i].text)), cases[i].valid);
}

static void code_points_are_read(void **state)
{
    struct weir_str s = weir_cstr("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\x8a\xff");
    static const uint32_t expected[] = {'a', 0xe9, 0x20ac, 0x1f30a, WR_UTF8_BAD};
    size_t at = 0;
    (void)state;

    for (size_t i = 0; i < 5; i++)
        assert_int_equal(wr_utf8_next(s, &at), expected[i]);
    assert_int_equal(at, s.len);
}

static void hashes_spread(void **state)
{
    unsigned buckets[16] = {0};
    (void)state;

    for (int i = 0; i < 16000; i++) {
        char key[16];
        int n = snprintf(key, sizeof(key), "user-%d", i);
        buckets[wr_str_hash(weir_str_n(key, (size_t)n), 0) % 16]++;
    }
    for (int i = 0; i < 16; i++)
        assert_in_range(buckets[i], 800, 1200);
    assert_int_not_equal(wr_str_hash(weir_cstr("a"), 0), wr_str_hash(weir_cstr("a"), 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_with_a_nul_behind),
        cmocka_unit_test(base64),
        cmocka_unit_test(prints_what_is_longer_than_its_room),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(utf8_is_checked),
        cmocka_unit_test(code_points_are_read),
        cmocka_unit_test(hashes_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
