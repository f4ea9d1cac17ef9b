/* SPDX-License-Identifier: Apache-2.0
 *
 * Times as text: exact both ways, over all that 64 bits of ns reach, and nothing else is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <base/check.h>
#include <base/date.h>

static void writes(int64_t ns, const char *expected)
{
    char text[WR_DATE_MAX];
    int64_t back = ~ns;
    assert_int_equal(wr_date_write(ns, text), weir_cstr(expected).len);
    assert_string_equal(text, expected);
    assert_true(wr_date_read(weir_cstr(text), &back));
    assert_int_equal(back, ns);
}

static void exact_both_ways(void **state)
{
    (void)state;
    writes(0, "1970-01-01T00:00:00.000Z");
    writes(1, "1970-01-01T00:00:00.000000001Z");
    writes(-1, "1969-12-31T23:59:59.999999999Z");
    writes(-1000000, "1969-12-31T23:59:59.999Z");
    writes(INT64_C(1769857200250000000), "2026-01-31T11:00:00.250Z");
    writes(INT64_C(1769857200000001000), "2026-01-31T11:00:00.000001Z");
    writes(INT64_C(951782399) * WEIR_NS_PER_S, "2000-02-28T23:59:59.000Z");
    writes(INT64_C(951868799) * WEIR_NS_PER_S, "2000-02-29T23:59:59.000Z");
    writes(INT64_MAX, "2262-04-11T23:47:16.854775807Z");
    writes(INT64_MIN, "1677-09-21T00:12:43.145224192Z");
}

static void any_time_comes_back(void **state)
{
    uint64_t x = 1;
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char text[WR_DATE_MAX];
        int64_t back = 0;
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t ns = (int64_t)(x >> (i % 3 == 0 ? 0 : i % 40));
        (void)wr_date_write(ns, text);
        assert_true(wr_date_read(weir_cstr(text), &back));
        assert_int_equal(back, ns);
    }
}

static void offsets_and_short_forms(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {{"1970-01-01T01:00:00+01:00", 0},
                {"1969-12-31t18:30:00-05:30", 0},
                {"1970-01-01T00:00:00z", 0},
                {"1970-01-01T00:00:00.5Z", 500000000},
                {"1970-01-01T00:00:00.1234567899Z", 123456789}};
    (void)state;
    for (size_t i = 0; i < WR_COUNT(rows); i++) {
        int64_t ns = -1;
        assert_true(wr_date_read(weir_cstr(rows[i].text), &ns));
        assert_int_equal(ns, rows[i].ns);
    }
}

static void nothing_else(void **state)
{
    static const char *const rows[] = {
        "",
        "2026",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-01-31 12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:60",
        "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00ZZ",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z ",
        "-026-01-31T12:00:00Z",
        "1500-01-31T12:00:00Z",
        "2262-04-11T23:47:16.854775808Z",
        "9999-12-31T23:59:59Z",
    };
    (void)state;
    for (size_t i = 0; i < WR_COUNT(rows); i++) {
        int64_t ns = 42;
        if (wr_date_read(weir_cstr(rows[i]), &ns) || ns != 42)
            fail_msg("%s was taken", rows[i]);
    }
    int64_t ns = 42;
    assert_false(wr_date_read(weir_str_n(NULL, 0), &ns));
    assert_false(wr_date_read(weir_str_n("2026-01-31T12:00:00Z\0", 21), &ns));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_both_ways),
        cmocka_unit_test(any_time_comes_back),
        cmocka_unit_test(offsets_and_short_forms),
        cmocka_unit_test(nothing_else),
    };
    return cmocka_run_group_tests_name("date", tests, NULL, NULL);
}
