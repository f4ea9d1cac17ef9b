/* SPDX-License-Identifier: Apache-2.0
 *
 * convert.h: whole values between Lua and JSON.
 *
 * Lua integers are INT, floats REAL, weir.null null; tables are arrays where their keys are 1..n,
 * or where weir.array marked them, else objects. Of JSON numbers, what does not fit an int64
 * becomes the nearest float. Object keys are written in the order of their bytes, so that the same
 * table is the same text every time.
 */
#ifndef LUA_CONVERT_H
#define LUA_CONVERT_H

#include "vm.h"

#define DEPTH_MAX 128

/* Metatables of weir.array and weir.object; once a state. */
void convert_open(lua_State *L);
/* weir.array(t) and weir.object(t). */
int convert_mark_array(lua_State *L);
int convert_mark_object(lua_State *L);
/* True where the table at idx is marked: is it an array? */
bool convert_is_marked(lua_State *L, int idx, bool *ret_array);

/* The Lua value at idx as a value in `a`; `what` names it in errors ("event.props"). Never NULL:
 * raises. */
struct weir_value *convert_from(lua_State *L, int idx, struct weir_arena *a, const char *what);
/* Pushes v as plain Lua values, arrays marked as such. */
void convert_push(lua_State *L, const struct weir_value *v);

#endif
