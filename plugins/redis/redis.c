/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin `redis`: sink (sink.c) and transform (lookup.c).
 */
#include "redis.h"

static const struct weir_type *const types[] = {&type_redis_sink, &type_redis_lookup, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "redis", "0.1.0", "Writes to Redis, and looks up in it.",
               "Apache-2.0",    types,   NULL};
