/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform `redis`: its configuration, and what type and calls know of each other.
 */
#ifndef REDIS_LOOKUP_CONFIG_H
#define REDIS_LOOKUP_CONFIG_H

#include "conn_config.h"

#define TARGET_MAX 16 /* names in a path */

enum lookup { LOOKUP_GET, LOOKUP_HGETALL };
enum on_missing { MISSING_PASS, MISSING_DROP, MISSING_ERROR };
enum on_unavailable { UNAVAILABLE_WAIT, UNAVAILABLE_PASS, UNAVAILABLE_ERROR };

struct lookup_config {
    struct conn_config conn;
    struct weir_template *key;
    int lookup;
    struct weir_list command;
    struct weir_str target;
    int parse;
    int on_missing;
    const struct weir_value *fallback;
    int on_unavailable;
    int64_t timeout_ns;
    struct {
        int64_t entries, bytes, ttl_ns, missing_ttl_ns;
    } cache;
};

struct target_path {
    struct weir_str names[TARGET_MAX];
    uint32_t n;
};

/* Splits "a.b.c"; false where a name is empty or there are too many. */
bool split_path(struct weir_str text, struct target_path *ret);

/* lookup.c: the calls of the type, whose table stands in lookup_config.c. */
extern const struct weir_transform lookup_calls;
enum weir_status lookup_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err);
void lookup_close(void *take_self);

#endif
