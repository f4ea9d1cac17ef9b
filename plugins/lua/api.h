/* SPDX-License-Identifier: Apache-2.0
 *
 * api.h: the global table `weir` that scripts use. README.md is its manual.
 */
#ifndef LUA_API_H
#define LUA_API_H

#include "vm.h"

/* Makes the global. */
void api_open(lua_State *L);
/* Parts of it: each leaves the table `weir` on top as it found it. */
void api_events_open(lua_State *L);
void api_observe_open(lua_State *L);
void api_cache_open(lua_State *L);

#endif
