/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform `redis_dedupe`: its configuration, and what type and calls know of each other.
 */
#ifndef REDIS_DEDUPE_CONFIG_H
#define REDIS_DEDUPE_CONFIG_H

#include "../dedupe/lane.h"
#include "conn_config.h"

#define DEDUPE_PREFIX_MAX 256u

enum dedupe_away { AWAY_WAIT, AWAY_PASS };

struct dedupe_config {
    struct lane_config lane;
    struct conn_config conn;
    struct weir_str prefix;
    int on_unavailable;
    int64_t timeout_ns;
    int64_t memory; /* of keys on their way, or on theirs to Redis */
};

/* dedupe.c: the calls of the type, whose table stands in dedupe_config.c. */
extern const struct weir_transform dedupe_calls;
enum weir_status dedupe_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err);
void dedupe_close(void *take_self);

#endif
