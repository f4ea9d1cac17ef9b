/* SPDX-License-Identifier: Apache-2.0
 *
 * model/units.c: reading and writing of numbers with units, in whole numbers, so that nothing is
 * rounded on the way.
 */
#include <base/check.h>
#include <base/str.h>
#include <math.h>
#include <model/units.h>
#include <stdlib.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400 * WEIR_NS_PER_S}, {"h", 3600 * WEIR_NS_PER_S},
    {"m", 60 * WEIR_NS_PER_S},    {"s", WEIR_NS_PER_S},
    {"ms", WEIR_NS_PER_MS},       {"us", 1000},
    {"\xc2\xb5s", 1000},          {"ns", 1},
};

static const struct unit sizes[] = {
    {"TiB", INT64_C(1) << 40},
    {"GiB", INT64_C(1) << 30},
    {"MiB", INT64_C(1) << 20},
    {"KiB", INT64_C(1) << 10},
    {"B", 1},
    {"TB", INT64_C(1000000000000)},
    {"GB", INT64_C(1000000000)},
    {"MB", 1000000},
    {"kB", 1000},
    {"KB", 1000},
};

static bool read_digits(struct weir_str s, unsigned base, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                            : 99;
        if (d >= base || __builtin_mul_overflow(v, (uint64_t)base, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v))
            return false;
    }
    *ret = v;
    return true;
}

/* Sign and magnitude. */
static bool read_whole(struct weir_str s, bool *ret_negative, uint64_t *ret)
{
    *ret_negative = false;
    if (s.len > 2 && s.ptr[0] == '0' && (s.ptr[1] == 'x' || s.ptr[1] == 'o'))
        return read_digits(weir_str_n(s.ptr + 2, s.len - 2), s.ptr[1] == 'x' ? 16 : 8, ret);
    if (s.len > 1 && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        *ret_negative = s.ptr[0] == '-';
        s = weir_str_n(s.ptr + 1, s.len - 1);
    }
    return read_digits(s, 10, ret);
}

bool wr_read_int(struct weir_str s, int64_t *ret)
{
    uint64_t v;
    bool negative;

    if (!read_whole(s, &negative, &v) || v > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool wr_read_uint(struct weir_str s, uint64_t *ret)
{
    uint64_t v;
    bool negative;

    if (!read_whole(s, &negative, &v) || (negative && v != 0))
        return false;
    *ret = v;
    return true;
}

bool wr_read_float(struct weir_str s, double *ret)
{
    char text[400], *end;
    double v;

    if (s.len == 0 || s.len >= sizeof(text) || strchr("+-.0123456789", s.ptr[0]) == NULL ||
        memchr(s.ptr, '\0', s.len) != NULL || memchr(s.ptr, 'x', s.len) != NULL)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    v = strtod(text, &end);
    if (*end != '\0' || !isfinite(v))
        return false;
    *ret = v;
    return true;
}

static size_t span_digits(struct weir_str s, size_t at)
{
    while (at < s.len && s.ptr[at] >= '0' && s.ptr[at] <= '9')
        at++;
    return at;
}

/* whole.fraction times factor; what is finer than one of the smallest unit is cut. */
static bool scale(struct weir_str whole, struct weir_str fraction, int64_t factor, int64_t *ret)
{
    uint64_t v, part;
    int64_t sum;
    __int128 ten = 1;

    if (fraction.len > 18)
        fraction.len = 18;
    for (size_t i = 0; i < fraction.len; i++)
        ten *= 10;
    if (!read_digits(whole, 10, &v) || v > INT64_MAX ||
        __builtin_mul_overflow((int64_t)v, factor, &sum))
        return false;
    if (fraction.len > 0 &&
        (!read_digits(fraction, 10, &part) ||
         __builtin_add_overflow(sum, (int64_t)((__int128)part * factor / ten), &sum)))
        return false;
    *ret = sum;
    return true;
}

static bool read_scaled(struct weir_str s, const struct unit *units, size_t n, int64_t *ret)
{
    size_t dot = span_digits(s, 0), end = dot;
    struct weir_str unit;

    if (dot < s.len && s.ptr[dot] == '.')
        end = span_digits(s, dot + 1);
    if (dot == 0 || end == dot + 1)
        return false;
    unit = weir_str_n(s.ptr + end, s.len - end);
    while (unit.len > 0 && unit.ptr[0] == ' ')
        unit = weir_str_n(unit.ptr + 1, unit.len - 1);
    for (size_t i = 0; i < n; i++) {
        if (wr_str_is(unit, units[i].name))
            return scale(weir_str_n(s.ptr, dot),
                         end > dot ? weir_str_n(s.ptr + dot + 1, end - dot - 1)
                                   : weir_str_n(NULL, 0),
                         units[i].factor, ret);
    }
    return false;
}

bool wr_read_duration(struct weir_str s, int64_t *ret_ns)
{
    if (wr_str_is(s, "0")) {
        *ret_ns = 0;
        return true;
    }
    return read_scaled(s, durations, WR_COUNT(durations), ret_ns);
}

bool wr_read_size(struct weir_str s, int64_t *ret_bytes)
{
    uint64_t v;

    if (read_digits(s, 10, &v)) {
        if (v > INT64_MAX)
            return false;
        *ret_bytes = (int64_t)v;
        return true;
    }
    return read_scaled(s, sizes, WR_COUNT(sizes), ret_bytes);
}

/* In the largest unit that divides it. */
static void write_scaled(struct wr_buf *b, int64_t v, const struct unit *units, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v % units[i].factor == 0) {
            wr_buf_printf(b, "%lld%s", (long long)(v / units[i].factor), units[i].name);
            return;
        }
    }
}

void wr_write_duration(struct wr_buf *b, int64_t ns)
{
    if (ns == 0)
        wr_buf_text(b, "0s");
    else
        write_scaled(b, ns, durations, WR_COUNT(durations));
}

void wr_write_size(struct wr_buf *b, int64_t bytes)
{
    if (bytes == 0)
        wr_buf_text(b, "0");
    else
        write_scaled(b, bytes, sizes, WR_COUNT(sizes));
}
