/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/decimal.h: the text of a JSON number as an IEEE 754 decimal128 (binary integer coding).
 */
#ifndef MONGODB_DECIMAL_H
#define MONGODB_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decimal128 {
    uint64_t low, high;
};

/* False where the number is not exact in 34 digits and an exponent of -6176 to 6111. `text` is a
 * JSON number. */
bool decimal128_from_text(const char *text, size_t len, struct decimal128 *ret);
struct decimal128 decimal128_from_uint(uint64_t v);

#endif
