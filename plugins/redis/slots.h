/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash slots of a Redis Cluster.
 */
#ifndef REDIS_SLOTS_H
#define REDIS_SLOTS_H

#include <weir/plugin.h>

#define N_SLOTS 16384

/* What decides a key's slot: what stands between its first { and the next }, else all of it. */
struct weir_str slot_part(struct weir_str key);
unsigned slot_of(struct weir_str key);

#endif
