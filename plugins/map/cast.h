/* SPDX-License-Identifier: Apache-2.0
 *
 * map/cast.h: values of one type made from values of another, exactly or not at all.
 */
#ifndef MAP_CAST_H
#define MAP_CAST_H

#include "../common/rfc3339.h"

#include <weir/plugin.h>

enum cast {
    CAST_STRING,
    CAST_INT,
    CAST_FLOAT,
    CAST_BOOL,
    CAST_JSON,
    CAST_TIME,
    CAST_TIME_FROM_S,
    CAST_TIME_FROM_MS,
    CAST_TIME_FROM_US,
    CAST_EPOCH_S,
    CAST_EPOCH_MS,
    CAST_EPOCH_US
};

/* The words of the option, NULL at the end. */
extern const char *const cast_words[];

enum cast_result {
    CAST_SAME,  /* it has that type already */
    CAST_DONE,  /* *ret is the new value, in `a` */
    CAST_WRONG, /* it cannot be: `expected` says what can */
    CAST_NO_MEMORY
};

/* null stays null. */
enum cast_result cast_value(const struct weir_host *h, struct weir_arena *a, enum cast to,
                            const struct weir_value *v, struct weir_value **ret,
                            const char **ret_expected);

/* A number, or a string that holds one, of so many units a second since 1970. False: neither, or
 * out of the years 0 to 9999. */
bool epoch_read(const struct weir_host *h, struct weir_arena *a, const struct weir_value *v,
                int64_t per_second, struct rfc3339 *ret);

#endif
