/* SPDX-License-Identifier: Apache-2.0
 *
 * Exact comparison and divisibility. A double divides as the shortest decimal that reads as it,
 * which is what a person wrote.
 */
#include "number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef __int128 wide;
__extension__ typedef unsigned __int128 wide_unsigned;

#define TWO_TO_64 18446744073709551616.0

bool value_is_number(enum weir_value_type type)
{
    return type == WEIR_INT || type == WEIR_UINT || type == WEIR_REAL || type == WEIR_BIGNUM;
}

struct number number_of(const struct weir_host *h, const struct weir_value *v)
{
    switch (h->value_type(v)) {
    case WEIR_INT:
        return (struct number){.kind = NUMBER_INT, .i = h->value_int(v)};
    case WEIR_UINT:
        return (struct number){.kind = NUMBER_UINT, .u = h->value_uint(v)};
    case WEIR_REAL:
    case WEIR_BIGNUM:
        return (struct number){.kind = NUMBER_REAL, .d = h->value_real(v)};
    default:
        return (struct number){.kind = NUMBER_NONE};
    }
}

static wide whole(struct number n)
{
    return n.kind == NUMBER_INT ? (wide)n.i : (wide)n.u;
}

static int compare_whole_real(wide a, double b)
{
    if (b >= TWO_TO_64)
        return -1;
    if (b <= -TWO_TO_64)
        return 1;
    wide cut = (wide)b;
    if (a != cut)
        return a < cut ? -1 : 1;
    double rest = b - (double)cut;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

int number_compare(struct number a, struct number b)
{
    if (a.kind == NUMBER_REAL && b.kind == NUMBER_REAL)
        return a.d < b.d ? -1 : a.d > b.d ? 1 : 0;
    if (a.kind == NUMBER_REAL)
        return -compare_whole_real(whole(b), a.d);
    if (b.kind == NUMBER_REAL)
        return compare_whole_real(whole(a), b.d);
    wide x = whole(a), y = whole(b);
    return x < y ? -1 : x > y ? 1 : 0;
}

/* ---- Decimals ---- */

/* A number as text: its digits without sign, point and exponent, and without zeros at the end. */
struct decimal {
    const char *p;
    uint32_t n_digits;
    int64_t exponent; /* of the last of these digits */
    bool is_zero;
};

#define EXPONENT_FAR INT64_C(1000000000)

static int64_t read_exponent(const char *p, const char *end)
{
    bool negative = p < end && *p == '-';
    int64_t e = 0;
    for (; p < end; p++)
        if (*p >= '0' && *p <= '9' && e < EXPONENT_FAR)
            e = e * 10 + (*p - '0');
    return negative ? -e : e;
}

/* `text` is a JSON number and outlives *ret. */
static void read_decimal(struct weir_str text, struct decimal *ret)
{
    const char *p = text.ptr, *end = text.ptr + text.len;
    uint32_t n_zeros = 0;
    int64_t fraction = 0;
    bool behind_point = false;
    if (p < end && *p == '-')
        p++;
    *ret = (struct decimal){.p = p, .is_zero = true};
    for (; p < end && ((*p >= '0' && *p <= '9') || *p == '.'); p++) {
        if (*p == '.') {
            behind_point = true;
            continue;
        }
        fraction += behind_point;
        ret->n_digits++;
        n_zeros = *p == '0' ? n_zeros + 1 : 0;
        if (*p != '0')
            ret->is_zero = false;
    }
    ret->n_digits -= n_zeros;
    ret->exponent = n_zeros - fraction;
    if (p < end)
        ret->exponent += read_exponent(p + 1, end);
}

static unsigned next_digit(const char **p)
{
    if (**p == '.')
        (*p)++;
    return (unsigned)(*(*p)++ - '0');
}

/* Shortest text that reads as d. */
static void real_text(double d, char text[40])
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, 40, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            return;
    }
}

/* A JSON number's text: in `buffer`, or the value's own. ptr NULL where it is no number. */
static struct weir_str number_text(const struct weir_host *h, const struct weir_value *v,
                                   char buffer[40])
{
    switch (h->value_type(v)) {
    case WEIR_INT:
        (void)snprintf(buffer, 40, "%lld", (long long)h->value_int(v));
        break;
    case WEIR_UINT:
        (void)snprintf(buffer, 40, "%llu", (unsigned long long)h->value_uint(v));
        break;
    case WEIR_REAL:
        real_text(h->value_real(v), buffer);
        break;
    case WEIR_BIGNUM:
        return h->value_str(v);
    default:
        return weir_str_n(NULL, 0);
    }
    return weir_cstr(buffer);
}

bool value_is_integer(const struct weir_host *h, const struct weir_value *v)
{
    struct decimal d;
    switch (h->value_type(v)) {
    case WEIR_INT:
    case WEIR_UINT:
        return true;
    case WEIR_REAL: {
        double real = h->value_real(v);
        return real == floor(real);
    }
    case WEIR_BIGNUM:
        read_decimal(h->value_str(v), &d);
        return d.is_zero || d.exponent >= 0;
    default:
        return false;
    }
}

static uint64_t digits_modulo(const struct decimal *d, uint64_t m)
{
    wide_unsigned r = 0;
    const char *p = d->p;
    for (uint32_t i = 0; i < d->n_digits; i++)
        r = (r * 10 + next_digit(&p)) % m;
    return (uint64_t)r;
}

static uint64_t power_of_ten_modulo(int64_t e, uint64_t m)
{
    wide_unsigned result = 1 % m, base = 10 % m;
    for (; e > 0; e >>= 1) {
        if (e & 1)
            result = result * base % m;
        base = base * base % m;
    }
    return (uint64_t)result;
}

bool divisor_of(const struct weir_host *h, const struct weir_value *v, struct divisor *ret)
{
    char buffer[40];
    struct decimal d;
    struct weir_str text = number_text(h, v, buffer);
    if (text.ptr == NULL || text.ptr[0] == '-')
        return false;
    read_decimal(text, &d);
    if (d.is_zero)
        return false;
    wide_unsigned digits = 0;
    const char *p = d.p;
    for (uint32_t i = 0; i < d.n_digits; i++) {
        digits = digits * 10 + next_digit(&p);
        if (digits > UINT64_MAX)
            return false;
    }
    *ret = (struct divisor){(uint64_t)digits, d.exponent};
    return true;
}

/* The digits of v x 10^e are a multiple of those of the divisor x 10^f. Neither has zeros at its
 * end, so with e < f the quotient is no whole number. */
bool number_is_multiple(const struct weir_host *h, const struct weir_value *v, struct divisor of)
{
    char buffer[40];
    struct decimal d;
    struct weir_str text = number_text(h, v, buffer);
    if (text.ptr == NULL)
        return false;
    read_decimal(text, &d);
    if (d.is_zero)
        return true;
    if (d.exponent < of.exponent)
        return false;
    wide_unsigned r = digits_modulo(&d, of.digits);
    return r * power_of_ten_modulo(d.exponent - of.exponent, of.digits) % of.digits == 0;
}
