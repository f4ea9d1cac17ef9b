/* SPDX-License-Identifier: Apache-2.0
 *
 * The script behind `once`. For command.c alone.
 */
#ifndef REDIS_GUARD_H
#define REDIS_GUARD_H

#include <weir/plugin.h>

/* KEYS: the guard, and the command's own key where it has one. ARGV: for how many ms; then for each
 * command how many arguments it has, and these. */
extern const char guard_script[];
/* Its SHA-1 in hexadecimal. */
void guard_hash(char ret_hex[41]);

/* The guard's key of this component for this event, in the slot of `route` where that matters.
 * {NULL, 0} where such a key cannot be, or memory is used up (ret_memory). */
struct weir_str guard_key(const struct weir_host *h, struct weir_arena *a, struct weir_str route,
                          bool cluster, struct weir_str id, bool *ret_memory);

#endif
