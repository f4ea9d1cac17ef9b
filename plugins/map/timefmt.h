/* SPDX-License-Identifier: Apache-2.0
 *
 * map/timefmt.h: times in formats like strftime's, read and written.
 */
#ifndef MAP_TIMEFMT_H
#define MAP_TIMEFMT_H

#include "cast.h"

enum time_kind { TIME_RFC3339, TIME_EPOCH, TIME_PIECES };

/* A directive, by its letter, or literal text (letter 0). */
struct time_piece {
    char letter;
    struct weir_str text;
};

struct time_format {
    enum time_kind kind;
    struct weir_str text; /* as written */
    int64_t per_second;   /* of an epoch */
    struct time_piece *pieces;
    uint32_t n;
};

struct time_change {
    struct time_format from, to;
};

/* rfc3339 (also where text is empty), epoch_s, epoch_ms, epoch_us, or directives: `ret` is made in
 * `a`, and points into text. NULL, or what is wrong at byte *ret_offset. */
const char *time_format_parse(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                              bool to_read, struct time_format *ret, size_t *ret_offset);

/* null stays null. */
enum cast_result time_convert(const struct weir_host *h, struct weir_arena *a,
                              const struct time_change *change, const struct weir_value *v,
                              struct weir_value **ret, const char **ret_expected);

#endif
