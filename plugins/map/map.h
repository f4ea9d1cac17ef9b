/* SPDX-License-Identifier: Apache-2.0
 *
 * map/map.h: the steps of one transform `map`, between map.c, which reads them from the options,
 * and apply.c, which takes events through them.
 */
#ifndef MAP_MAP_H
#define MAP_MAP_H

#include "cast.h"
#include "keep.h"
#include "path.h"
#include "redact.h"
#include "timefmt.h"

/* One entry of one of the lists. */
struct edit {
    struct path path;
    union {
        struct path to;
        const struct weir_value *value;
        const struct weir_template *template;
        enum cast cast;
        struct time_change time;
        enum mask mask;
    } by;
};

struct edits {
    struct edit *items;
    uint32_t n;
};

struct map {
    const struct weir_host *h;
    struct weir_arena *arena;
    struct edits rename, defaults, values, set, cast, time, hash, mask, remove;
    struct weir_str hash_key;
    struct keep_node keep;
    bool keeps;
};

/* ---- apply.c: the call of weir/plugin.h ---- */

enum weir_status map_apply(void *self, struct weir_batch *b, int64_t *ret_again_ns,
                           struct weir_error *err);

#endif
