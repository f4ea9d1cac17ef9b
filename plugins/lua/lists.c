/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of table, utf8 and string whose work grows with what they are given: as Lua's, but
 * each counts its work before it does it, for no instruction is counted while C code runs. Lengths
 * are asked for once: a __len that answers differently the second time is not to pass by the count.
 */
#include "sandbox.h"

#include <string.h>

#define PER_CHARGE 8u /* elements or bytes */
#define BYTES_COMPARED 64u

static void check_list(lua_State *L)
{
    if (!lua_isuserdata(L, 1)) /* an event's array is one */
        luaL_checktype(L, 1, LUA_TTABLE);
}

/* Charges for the places from..to; nothing where there are none. */
static void charge_range(lua_State *L, lua_Integer from, lua_Integer to)
{
    if (to > from)
        vm_charge(L, ((uint64_t)to - (uint64_t)from) / PER_CHARGE);
}

/* ---- table ---- */

static int table_insert(lua_State *L)
{
    if (lua_gettop(L) != 3)
        return sandbox_guarded(L); /* at the end; what is wrong is said there */
    check_list(L);
    lua_Unsigned end = (lua_Unsigned)luaL_len(L, 1) + 1;
    lua_Integer pos = luaL_checkinteger(L, 2);
    luaL_argcheck(L, (lua_Unsigned)pos - 1u < end, 2, "position out of bounds");
    charge_range(L, pos, (lua_Integer)end);
    for (lua_Integer i = (lua_Integer)end; i > pos; i--) {
        (void)lua_geti(L, 1, i - 1);
        lua_seti(L, 1, i);
    }
    lua_seti(L, 1, pos);
    return 0;
}

static int table_remove(lua_State *L)
{
    check_list(L);
    lua_Integer size = luaL_len(L, 1), pos = luaL_optinteger(L, 2, size);
    luaL_argcheck(L, pos == size || (lua_Unsigned)pos - 1u <= (lua_Unsigned)size, 2,
                  "position out of bounds");
    charge_range(L, pos, size);
    (void)lua_geti(L, 1, pos);
    for (; pos < size; pos++) {
        (void)lua_geti(L, 1, pos + 1);
        lua_seti(L, 1, pos);
    }
    lua_pushnil(L);
    lua_seti(L, 1, pos);
    return 1;
}

/* Puts the list's length into the argument where none is given. */
static lua_Integer last_of(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg)) {
        check_list(L);
        lua_pushinteger(L, luaL_len(L, 1));
        lua_replace(L, arg);
    }
    return luaL_checkinteger(L, arg);
}

static int table_concat(lua_State *L)
{
    lua_settop(L, 4);
    charge_range(L, luaL_optinteger(L, 3, 1), last_of(L, 4));
    return sandbox_guarded(L);
}

static int table_unpack(lua_State *L)
{
    lua_settop(L, 3);
    if (!lua_isnil(L, 1))
        charge_range(L, luaL_optinteger(L, 2, 1), last_of(L, 3));
    return sandbox_guarded(L);
}

static int table_move(lua_State *L)
{
    charge_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return sandbox_guarded(L);
}

/* What it is to compare the elements of a table: texts are compared byte by byte, in C. */
static uint64_t bytes_of(lua_State *L, uint64_t n)
{
    uint64_t bytes = 0;
    for (uint64_t i = 1; i <= n; i++) {
        if (lua_rawgeti(L, 1, (lua_Integer)i) == LUA_TSTRING)
            bytes += lua_rawlen(L, -1);
        lua_pop(L, 1);
    }
    return bytes;
}

/* n log n comparisons, where they are made in C. It asks for the length itself. */
static int table_sort(lua_State *L)
{
    check_list(L);
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        return luaL_error(L, "table.sort of a table with __len is not available in hooks");
    uint64_t n = (uint64_t)luaL_len(L, 1), log_n = 1;
    while (n >> log_n != 0)
        log_n++;
    vm_charge(L, n * log_n);
    if (lua_istable(L, 1) && lua_isnoneornil(L, 2))
        vm_charge(L, bytes_of(L, n) / BYTES_COMPARED * log_n);
    return sandbox_guarded(L);
}

/* ---- utf8 and string ---- */

/* The length of the first argument, for functions that go through all of it. */
static int charged(lua_State *L)
{
    vm_charge(L, lua_rawlen(L, 1) / PER_CHARGE);
    return sandbox_guarded(L);
}

/* (s, n, i): goes over n characters. */
static int utf8_offset(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 2), len = (lua_Integer)lua_rawlen(L, 1);
    charge_range(L, 0, n > len || n < -len ? len : (n < 0 ? -n : n));
    return sandbox_guarded(L);
}

/* (s, i, j): gives back as many values. */
static int values_of(lua_State *L)
{
    lua_Integer len = (lua_Integer)lua_rawlen(L, 1), from = luaL_optinteger(L, 2, 1);
    lua_Integer to = luaL_optinteger(L, 3, from);
    from = from < 0 ? from + len : from;
    to = to < 0 ? to + len : to;
    charge_range(L, from > 0 ? from : 0, to < len ? to : len);
    return sandbox_guarded(L);
}

/* The memory limit bounds it, but for nothing many times. */
static int string_rep(lua_State *L)
{
    size_t len, sep_len;
    (void)luaL_checklstring(L, 1, &len);
    (void)luaL_checkinteger(L, 2);
    (void)luaL_optlstring(L, 3, "", &sep_len);
    if (len == 0 && sep_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    return sandbox_guarded(L);
}

/* ---- All of them ---- */

struct wrapped {
    const char *name;
    lua_CFunction fn;
};

/* For the table on top. */
static void wrap_all(lua_State *L, const struct wrapped *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sandbox_wrap(L, list[i].name, list[i].fn);
}

#define WRAP(L, ...)                                                                               \
    wrap_all(L, (const struct wrapped[]){__VA_ARGS__},                                             \
             sizeof((const struct wrapped[]){__VA_ARGS__}) / sizeof(struct wrapped))

void lists_open(lua_State *L)
{
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    WRAP(L, {"rep", string_rep}, {"byte", values_of}, {"pack", charged}, {"unpack", charged},
         {"packsize", charged});
    pattern_open(L);
    luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 1);
    WRAP(L, {"len", charged}, {"codepoint", values_of}, {"offset", utf8_offset});
    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
    WRAP(L, {"insert", table_insert}, {"remove", table_remove}, {"concat", table_concat},
         {"unpack", table_unpack}, {"move", table_move}, {"sort", table_sort});
    lua_pop(L, 3);
}
