/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers beyond 64 bits for the sink `mongodb`: exact, or not at all.
 */
#include "decimal.h"

#define DIGITS_MAX 34
#define EXPONENT_MIN (-6176)
#define EXPONENT_MAX 6111
#define EXPONENT_BIAS 6176
/* Far beyond what can be exact, and far from overflow. */
#define EXPONENT_CLAMP 100000000

__extension__ typedef unsigned __int128 coefficient;

struct number {
    bool negative;
    coefficient digits;
    int n_digits;  /* significant ones in `digits` */
    int64_t zeros; /* zeros seen behind them, not yet in `digits` */
    int64_t exponent;
};

/* Zeros are kept back until a digit follows: at the end they can raise the exponent instead. */
static bool push_digit(struct number *n, unsigned d)
{
    if (d == 0) {
        if (n->n_digits > 0)
            n->zeros++;
        return true;
    }
    if (n->n_digits + n->zeros + 1 > DIGITS_MAX)
        return false;
    for (; n->zeros > 0; n->zeros--, n->n_digits++)
        n->digits *= 10;
    n->digits = n->digits * 10 + d;
    n->n_digits++;
    return true;
}

static int64_t read_exponent(const char *p, const char *end)
{
    bool negative = p < end && *p == '-';
    int64_t e = 0;
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        if (e < EXPONENT_CLAMP)
            e = e * 10 + (*p - '0');
    return negative ? -e : e;
}

static bool read_number(const char *p, const char *end, struct number *n)
{
    bool fraction = false;
    if (p < end && *p == '-') {
        n->negative = true;
        p++;
    }
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (*p < '0' || *p > '9' || !push_digit(n, (unsigned)(*p - '0')))
            return false;
        if (fraction)
            n->exponent--;
    }
    if (p < end)
        n->exponent += read_exponent(p + 1, end);
    return true;
}

bool decimal128_from_text(const char *text, size_t len, struct decimal128 *ret)
{
    struct number n = {0};
    if (len == 0 || !read_number(text, text + len, &n))
        return false;
    for (; n.zeros > 0 && n.n_digits < DIGITS_MAX && n.exponent >= EXPONENT_MIN;
         n.zeros--, n.n_digits++)
        n.digits *= 10; /* as it was written */
    int64_t exponent = n.exponent + n.zeros;
    if (n.n_digits == 0)
        exponent = 0;
    for (; exponent > EXPONENT_MAX && n.n_digits < DIGITS_MAX; exponent--, n.n_digits++)
        n.digits *= 10;
    if (exponent > EXPONENT_MAX || exponent < EXPONENT_MIN)
        return false;
    ret->low = (uint64_t)n.digits;
    ret->high = (uint64_t)(n.digits >> 64) | (uint64_t)(exponent + EXPONENT_BIAS) << 49 |
                (n.negative ? UINT64_C(1) << 63 : 0);
    return true;
}

struct decimal128 decimal128_from_uint(uint64_t v)
{
    return (struct decimal128){v, (uint64_t)EXPONENT_BIAS << 49};
}
