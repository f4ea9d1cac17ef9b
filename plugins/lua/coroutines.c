/* SPDX-License-Identifier: Apache-2.0
 *
 * coroutine.resume, close and wrap under the limits.
 *
 * A coroutine that the budget ended has died inside its hook, and Lua runs no hook in it any more:
 * its variables to be closed would run without limits. So such a one is never closed; it is dead,
 * and its memory goes with the next collection.
 */
#include "sandbox.h"

/* vm_stop leaves this count behind. */
static bool was_stopped(lua_State *co)
{
    return lua_status(co) > LUA_YIELD && lua_gethookcount(co) == 1;
}

static int close_one(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    if (co == NULL || !was_stopped(co))
        return sandbox_guarded(L);
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "the coroutine was stopped by a limit");
    return 2;
}

/* The error of a coroutine that is over, as Lua's coroutine.wrap gives it. */
static int raise_of(lua_State *L, lua_State *co)
{
    int status = lua_status(co);
    if (status > LUA_YIELD && !was_stopped(co))
        status = lua_resetthread(co); /* runs what is to be closed */
    lua_xmove(co, L, 1);
    if (vm_of(L)->stop == VM_GO_ON && status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_step(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int n = lua_gettop(L), n_results;
    if (!lua_checkstack(co, n))
        return luaL_error(L, "too many arguments to resume");
    lua_xmove(L, co, n);
    int status = lua_resume(co, L, n, &n_results);
    if (status != LUA_OK && status != LUA_YIELD)
        return raise_of(L, co);
    if (!lua_checkstack(L, n_results + 1)) {
        lua_pop(co, n_results);
        return luaL_error(L, "too many results to resume");
    }
    lua_xmove(co, L, n_results);
    return n_results;
}

static int wrap_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrap_step, 1);
    return 1;
}

void coroutines_open(lua_State *L)
{
    luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 1);
    sandbox_wrap(L, "resume", sandbox_guarded);
    sandbox_wrap(L, "close", close_one);
    lua_pushcfunction(L, wrap_new);
    lua_setfield(L, -2, "wrap");
    lua_pop(L, 1);
}
