/* SPDX-License-Identifier: Apache-2.0
 *
 * Casts of the transform `map`. No cast loses anything: what cannot be the other type exactly is
 * refused, but for the digits of a float and what is finer than the unit of an epoch.
 */
#include "cast.h"

#include <math.h>
#include <string.h>

const char *const cast_words[] = {
    "string",       "int",          "float",   "bool",     "json",     "time", "time_from_s",
    "time_from_ms", "time_from_us", "epoch_s", "epoch_ms", "epoch_us", NULL};

struct job {
    const struct weir_host *h;
    struct weir_arena *a;
    struct weir_value **ret;
    const char **expected;
};

static enum cast_result wrong(const struct job *j, const char *expected)
{
    *j->expected = expected;
    return CAST_WRONG;
}

static enum cast_result done(const struct job *j, struct weir_value *v)
{
    *j->ret = v;
    return v != NULL ? CAST_DONE : CAST_NO_MEMORY;
}

static bool is_number(enum weir_value_type type)
{
    return type == WEIR_INT || type == WEIR_UINT || type == WEIR_REAL || type == WEIR_BIGNUM;
}

/* v, or the number that a string holds. NULL: neither. */
static const struct weir_value *number_in(const struct job *j, const struct weir_value *v)
{
    enum weir_value_type type = j->h->value_type(v);
    struct weir_str s = j->h->value_str(v);
    if (is_number(type))
        return v;
    if (type != WEIR_STRING || s.len == 0 || s.len > 400)
        return NULL;
    /* The parser skips blanks around it, a cast does not. */
    char last = s.ptr[s.len - 1];
    if ((s.ptr[0] != '-' && (s.ptr[0] < '0' || s.ptr[0] > '9')) || last < '0' || last > '9')
        return NULL;
    const struct weir_value *n = j->h->value_parse(j->a, s, NULL);
    return n != NULL && is_number(j->h->value_type(n)) ? n : NULL;
}

static enum cast_result to_text(const struct job *j, const struct weir_value *v)
{
    struct weir_str text = j->h->value_write(j->a, v);
    return text.ptr == NULL ? CAST_NO_MEMORY : done(j, j->h->make_str(j->a, text));
}

static enum cast_result to_string(const struct job *j, const struct weir_value *v)
{
    switch (j->h->value_type(v)) {
    case WEIR_STRING:
        return CAST_SAME;
    case WEIR_ARRAY:
    case WEIR_OBJECT:
        return wrong(j, "a string, a number or a boolean (cast json writes arrays and objects)");
    default:
        return to_text(j, v);
    }
}

static enum cast_result real_to_int(const struct job *j, double d)
{
    static const char expected[] = "a number without a fraction that fits 64 bits";
    if (d != floor(d) || d < -9223372036854775808.0 || d >= 18446744073709551616.0)
        return wrong(j, expected);
    if (d < 9223372036854775808.0)
        return done(j, j->h->make_int(j->a, (int64_t)d));
    return done(j, j->h->make_uint(j->a, (uint64_t)d));
}

static enum cast_result to_int(const struct job *j, const struct weir_value *v)
{
    const struct weir_host *h = j->h;
    if (h->value_type(v) == WEIR_BOOL)
        return done(j, h->make_int(j->a, h->value_bool(v) ? 1 : 0));
    const struct weir_value *n = number_in(j, v);
    if (n == NULL)
        return wrong(j, "an integer, a boolean, or a string such as \"-12\"");
    switch (h->value_type(n)) {
    case WEIR_INT:
        return n == v ? CAST_SAME : done(j, h->make_int(j->a, h->value_int(n)));
    case WEIR_UINT:
        return n == v ? CAST_SAME : done(j, h->make_uint(j->a, h->value_uint(n)));
    case WEIR_REAL:
        return real_to_int(j, h->value_real(n));
    default:
        return wrong(j, "a number that fits 64 bits");
    }
}

static enum cast_result to_float(const struct job *j, const struct weir_value *v)
{
    const struct weir_host *h = j->h;
    const struct weir_value *n = number_in(j, v);
    if (n == NULL)
        return wrong(j, "a number, or a string such as \"1.5\"");
    if (h->value_type(n) == WEIR_REAL && n == v)
        return CAST_SAME;
    if (!isfinite(h->value_real(n)))
        return wrong(j, "a number that fits a double");
    return done(j, h->make_real(j->a, h->value_real(n)));
}

static enum cast_result to_bool(const struct job *j, const struct weir_value *v)
{
    const struct weir_host *h = j->h;
    static const char expected[] = "a boolean, 0, 1, \"true\", \"false\", \"0\" or \"1\"";
    enum weir_value_type type = h->value_type(v);
    struct weir_str s = h->value_str(v);
    if (type == WEIR_BOOL)
        return CAST_SAME;
    if (type == WEIR_INT && (h->value_int(v) == 0 || h->value_int(v) == 1))
        return done(j, h->make_bool(j->a, h->value_int(v) == 1));
    if (type != WEIR_STRING)
        return wrong(j, expected);
    if ((s.len == 4 && memcmp(s.ptr, "true", 4) == 0) || (s.len == 1 && s.ptr[0] == '1'))
        return done(j, h->make_bool(j->a, true));
    if ((s.len == 5 && memcmp(s.ptr, "false", 5) == 0) || (s.len == 1 && s.ptr[0] == '0'))
        return done(j, h->make_bool(j->a, false));
    return wrong(j, expected);
}

/* ---- Times ---- */

static bool read_time(const struct job *j, const struct weir_value *v, struct rfc3339 *ret)
{
    struct weir_str s = j->h->value_str(v);
    return j->h->value_type(v) == WEIR_STRING && rfc3339_parse(s.ptr, s.len, ret);
}

static enum cast_result write_time(const struct job *j, const struct weir_value *v,
                                   struct rfc3339 t)
{
    char text[RFC3339_MAX];
    size_t n = rfc3339_format(t, text);
    struct weir_str s = j->h->value_str(v);
    if (n == 0)
        return wrong(j, "a time in the years 0 to 9999");
    if (s.len == n && memcmp(s.ptr, text, n) == 0)
        return CAST_SAME;
    return done(j, j->h->make_str(j->a, weir_str_n(text, n)));
}

static enum cast_result to_time(const struct job *j, const struct weir_value *v)
{
    struct rfc3339 t;
    if (!read_time(j, v, &t))
        return wrong(j, "an RFC 3339 string such as \"2026-01-31T12:00:00+01:00\"");
    return write_time(j, v, t);
}

static struct rfc3339 from_units(int64_t n, int64_t per_second)
{
    int64_t s = n / per_second, rest = n % per_second;
    if (rest < 0) {
        s--;
        rest += per_second;
    }
    return (struct rfc3339){s, (int32_t)(rest * (1000000000 / per_second))};
}

bool epoch_read(const struct weir_host *h, struct weir_arena *a, const struct weir_value *v,
                int64_t per_second, struct rfc3339 *ret)
{
    const struct job j = {.h = h, .a = a};
    const struct weir_value *n = number_in(&j, v);
    if (n != NULL && h->value_type(n) == WEIR_INT) {
        *ret = from_units(h->value_int(n), per_second);
        return ret->s >= RFC3339_S_MIN && ret->s <= RFC3339_S_MAX;
    }
    double real = n != NULL ? h->value_real(n) / (double)per_second : NAN;
    if (!(real >= (double)RFC3339_S_MIN && real <= (double)RFC3339_S_MAX))
        return false;
    /* A double holds microseconds for now and the next centuries; more digits would be noise. */
    double whole = floor(real);
    int32_t us = (int32_t)lround((real - whole) * 1e6);
    *ret = us == 1000000 ? (struct rfc3339){(int64_t)whole + 1, 0}
                         : (struct rfc3339){(int64_t)whole, us * 1000};
    return true;
}

static enum cast_result from_epoch(const struct job *j, const struct weir_value *v,
                                   int64_t per_second)
{
    struct rfc3339 t;
    if (!epoch_read(j->h, j->a, v, per_second, &t))
        return wrong(j, "a number since 1970, of the unit named, in the years 0 to 9999");
    return write_time(j, v, t);
}

static enum cast_result to_epoch(const struct job *j, const struct weir_value *v,
                                 int64_t per_second)
{
    struct rfc3339 t;
    if (!read_time(j, v, &t))
        return wrong(j, "an RFC 3339 string such as \"2026-01-31T12:00:00Z\"");
    return done(j, j->h->make_int(j->a, t.s * per_second + t.ns / (1000000000 / per_second)));
}

enum cast_result cast_value(const struct weir_host *h, struct weir_arena *a, enum cast to,
                            const struct weir_value *v, struct weir_value **ret,
                            const char **ret_expected)
{
    const struct job j = {h, a, ret, ret_expected};
    if (h->value_type(v) == WEIR_NULL)
        return CAST_SAME;
    switch (to) {
    case CAST_STRING:
        return to_string(&j, v);
    case CAST_INT:
        return to_int(&j, v);
    case CAST_FLOAT:
        return to_float(&j, v);
    case CAST_BOOL:
        return to_bool(&j, v);
    case CAST_JSON:
        return to_text(&j, v);
    case CAST_TIME:
        return to_time(&j, v);
    case CAST_TIME_FROM_S:
        return from_epoch(&j, v, 1);
    case CAST_TIME_FROM_MS:
        return from_epoch(&j, v, 1000);
    case CAST_TIME_FROM_US:
        return from_epoch(&j, v, 1000000);
    case CAST_EPOCH_S:
        return to_epoch(&j, v, 1);
    case CAST_EPOCH_MS:
        return to_epoch(&j, v, 1000);
    case CAST_EPOCH_US:
        return to_epoch(&j, v, 1000000);
    }
    return CAST_SAME;
}
