/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers, durations and sizes as people write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <base/check.h>
#include <model/units.h>

static void integers(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"+4", 4},
                {"010", 10},
                {"0x1F", 31},
                {"0o17", 15},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    static const char *const bad[] = {"",
                                      "-",
                                      "+",
                                      "1.0",
                                      "1e3",
                                      "0x",
                                      "0xg",
                                      "0o8",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999",
                                      "1 ",
                                      " 1",
                                      "--1"};
    int64_t v;
    (void)state;

    for (size_t i = 0; i < WR_COUNT(good); i++) {
        assert_true(wr_read_int(weir_cstr(good[i].text), &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < WR_COUNT(bad); i++) {
        v = 42;
        assert_false(wr_read_int(weir_cstr(bad[i]), &v));
        assert_int_equal(v, 42);
    }
}

static void unsigned_integers(void **state)
{
    uint64_t v;
    (void)state;

    assert_true(wr_read_uint(weir_cstr("18446744073709551615"), &v));
    assert_true(v == UINT64_MAX);
    assert_false(wr_read_uint(weir_cstr("18446744073709551616"), &v));
    assert_false(wr_read_uint(weir_cstr("-1"), &v));
}

static void floats(void **state)
{
    double v;
    (void)state;

    assert_true(wr_read_float(weir_cstr("-1.25e2"), &v));
    assert_true(v > -125.001 && v < -124.999);
    assert_true(wr_read_float(weir_cstr(".5"), &v));
    assert_false(wr_read_float(weir_cstr("1e999"), &v));
    assert_false(wr_read_float(weir_cstr(".inf"), &v));
    assert_false(wr_read_float(weir_cstr("nan"), &v));
    assert_false(wr_read_float(weir_cstr("0x10"), &v));
    assert_false(wr_read_float(weir_cstr("1.5x"), &v));
    assert_false(wr_read_float(weir_cstr(""), &v));
}

static void durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"0", 0},
                {"0s", 0},
                {"50ms", 50 * WEIR_NS_PER_MS},
                {"1.5s", 1500 * WEIR_NS_PER_MS},
                {"2m", 120 * WEIR_NS_PER_S},
                {"1h", 3600 * WEIR_NS_PER_S},
                {"7d", 604800 * WEIR_NS_PER_S},
                {"3us", 3000},
                {"3\xc2\xb5s", 3000},
                {"9ns", 9},
                {"0.000000001s", 1},
                {"0.1234567890123456789s", 123456789},
                {"1 s", WEIR_NS_PER_S}};
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "-1s",
                                      "1.s",
                                      ".5s",
                                      "1w",
                                      "1S",
                                      "1hour",
                                      "106752d",
                                      "99999999999999999999s",
                                      "1s ",
                                      "1m30s",
                                      "1..5s"};
    int64_t v;
    (void)state;

    for (size_t i = 0; i < WR_COUNT(good); i++) {
        assert_true(wr_read_duration(weir_cstr(good[i].text), &v));
        assert_true(v == good[i].ns);
    }
    for (size_t i = 0; i < WR_COUNT(bad); i++)
        assert_false(wr_read_duration(weir_cstr(bad[i]), &v));
}

static void sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"512", 512},
                {"64KiB", 65536},
                {"4MiB", 4194304},
                {"1GiB", 1073741824},
                {"10MB", 10000000},
                {"1.5KiB", 1536},
                {"2kB", 2000},
                {"2KB", 2000},
                {"3B", 3},
                {"0.5MiB", 524288},
                {"1TiB", INT64_C(1) << 40},
                {"9223372036854775807", INT64_MAX}};
    static const char *const bad[] = {"",   "K",   "1K",   "1k",         "1M",
                                      "-1", "1.5", "1kib", "8388608TiB", "9223372036854775808"};
    int64_t v;
    (void)state;

    for (size_t i = 0; i < WR_COUNT(good); i++) {
        assert_true(wr_read_size(weir_cstr(good[i].text), &v));
        assert_true(v == good[i].bytes);
    }
    for (size_t i = 0; i < WR_COUNT(bad); i++)
        assert_false(wr_read_size(weir_cstr(bad[i]), &v));
}

static void what_is_written_reads_back(void **state)
{
    static const int64_t values[] = {0,
                                     1,
                                     999,
                                     1000,
                                     1500000,
                                     90 * WEIR_NS_PER_S,
                                     7200 * WEIR_NS_PER_S,
                                     INT64_C(123456789012),
                                     INT64_MAX};
    (void)state;

    for (size_t i = 0; i < WR_COUNT(values); i++) {
        struct wr_buf b = {0};
        int64_t v;
        wr_write_duration(&b, values[i]);
        assert_true(wr_read_duration(wr_buf_view(&b), &v) && v == values[i]);
        b.len = 0;
        wr_write_size(&b, values[i]);
        assert_true(wr_read_size(wr_buf_view(&b), &v) && v == values[i]);
        wr_buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers), cmocka_unit_test(unsigned_integers),
        cmocka_unit_test(floats),   cmocka_unit_test(durations),
        cmocka_unit_test(sizes),    cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
