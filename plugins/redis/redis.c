/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `redis`: sink (sink.c), look-ups (lookup.c) and deduplication (dedupe.c).
 */
#include "redis.h"

static const struct weir_type *const types[] = {&type_redis_sink, &type_redis_lookup,
                                                &type_redis_dedupe, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "redis", "0.1.0", "Writes to Redis, looks up and deduplicates in it.",
               "Apache-2.0",    types,   NULL};
