/* SPDX-License-Identifier: Apache-2.0
 *
 * condition.h: the service weir.condition/1 and the types that are made of it.
 */
#ifndef LUA_CONDITION_H
#define LUA_CONDITION_H

#include <weir/plugin.h>

extern const struct weir_condition_service condition_service;
extern const struct weir_type filter_type;
extern const struct weir_type route_type;
extern const struct weir_type script_type;

#endif
