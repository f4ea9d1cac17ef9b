/* SPDX-License-Identifier: Apache-2.0
 *
 * The component types of the plugin `redis`.
 */
#ifndef REDIS_H
#define REDIS_H

#include <weir/plugin.h>

extern const struct weir_type type_redis_sink;
extern const struct weir_type type_redis_lookup;
extern const struct weir_type type_redis_dedupe;

#endif
