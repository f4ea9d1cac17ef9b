/* SPDX-License-Identifier: Apache-2.0
 *
 * validate/number.h: JSON numbers compared and divided exactly, whatever their types.
 */
#ifndef VALIDATE_NUMBER_H
#define VALIDATE_NUMBER_H

#include <weir/plugin.h>

enum number_kind { NUMBER_NONE, NUMBER_INT, NUMBER_UINT, NUMBER_REAL };

/* What lies beyond uint64 and beyond a double is the nearest double, or an infinity. */
struct number {
    enum number_kind kind;
    int64_t i;
    uint64_t u;
    double d;
};

bool value_is_number(enum weir_value_type type);
struct number number_of(const struct weir_host *h, const struct weir_value *v);
/* Below 0, 0, above 0, as a is less than, equal to, greater than b. */
int number_compare(struct number a, struct number b);
/* 12, -3, 1.0, 1e3: as JSON Schema counts integers. */
bool value_is_integer(const struct weir_host *h, const struct weir_value *v);

/* digits x 10^exponent, without zeros at the end of the digits. */
struct divisor {
    uint64_t digits; /* 0: none */
    int64_t exponent;
};

/* False where v is no number above 0 with up to 19 digits. */
bool divisor_of(const struct weir_host *h, const struct weir_value *v, struct divisor *ret);
/* Decimal arithmetic: 19.99 is a multiple of 0.01. */
bool number_is_multiple(const struct weir_host *h, const struct weir_value *v, struct divisor of);

#endif
