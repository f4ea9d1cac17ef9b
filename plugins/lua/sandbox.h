/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.h: which standard libraries a script sees, and in what form.
 *
 * Safe ones are there always, with the holes closed that could hang or leave the process; io, os,
 * debug and package.loadlib only where option `allow` names them. `require` finds modules beside
 * the script and nowhere else. Called once a state.
 */
#ifndef LUA_SANDBOX_H
#define LUA_SANDBOX_H

#include "vm.h"

#define SCRIPT_BYTES_MAX (4u * 1024u * 1024u)

/* Fills the globals. */
void sandbox_open(lua_State *L);
/* `require`, where opt.dir is set. */
void require_open(lua_State *L);
/* string.find, match, gmatch and gsub with work that is counted; the string table is on top. */
void pattern_open(lua_State *L);

/* string, utf8 and table, and coroutine, likewise (lists.c, coroutines.c). */
void lists_open(lua_State *L);
void coroutines_open(lua_State *L);

/* Calls the function in the upvalue; what stopped the script stays an error. */
int sandbox_guarded(lua_State *L);
/* Replaces table[name] (table on top) by a closure over the original. */
void sandbox_wrap(lua_State *L, const char *name, lua_CFunction fn);

/* Reads a whole script into malloc'ed host memory. NULL with the reason in `why`. */
char *script_read(const struct weir_host *h, const char *path, size_t *ret_len, char *why,
                  size_t why_size);

#endif
