/* SPDX-License-Identifier: Apache-2.0
 *
 * weir.cache: get, set, add and delete over the cache that the lanes share. Values are copied:
 * scalars as they are, tables and events as JSON.
 */
#include "api.h"

#include "cache.h"
#include "convert.h"
#include "handle.h"
#include "hold.h"

static struct weir_str key_arg(lua_State *L)
{
    struct weir_str key;
    key.ptr = luaL_checklstring(L, 1, &key.len);
    return key;
}

/* When an entry with the ttl (seconds) at arg is too old. */
static int64_t until_arg(lua_State *L, int arg)
{
    const struct weir_host *h = vm_of(L)->h;
    if (lua_isnoneornil(L, arg))
        return WEIR_NEVER;
    lua_Number ttl = luaL_checknumber(L, arg);
    luaL_argcheck(L, ttl > 0, arg, "a time to live above 0, in seconds, expected");
    return ttl >= 1e9 ? WEIR_NEVER : h->now(h) + (int64_t)(ttl * 1e9);
}

static void push_value(lua_State *L, const struct cache_value *v)
{
    struct vm *vm = vm_of(L);
    switch (v->type) {
    case CACHE_BOOL:
        lua_pushboolean(L, v->u.num != 0);
        return;
    case CACHE_INT:
        lua_pushinteger(L, v->u.num);
        return;
    case CACHE_FLOAT:
        lua_pushnumber(L, v->u.real);
        return;
    default:
        break;
    }
    vm_written(L, v->text.len);
    if (v->text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    if (v->type == CACHE_JSON)
        vm_written(L, v->text.len * 4); /* as for json.decode */
    if (v->type == CACHE_STRING)
        lua_pushlstring(L, v->text.ptr, v->text.len);
    else
        convert_push(L, vm->h->value_parse(vm_tmp(vm), v->text, NULL));
}

/* weir.cache.get(key): the value, or nil */
static int cache_get_call(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct weir_str key = key_arg(L);
    struct cache_value v;
    uint64_t memory = (uint64_t)vm->opt.memory;
    size_t room = vm->written < memory ? (size_t)(memory - vm->written) : 0;
    if (vm->opt.cache != NULL &&
        cache_get(vm->opt.cache, key, vm->h->now(vm->h), vm_tmp(vm), room, &v))
        push_value(L, &v);
    else
        lua_pushnil(L);
    return 1;
}

static struct cache_value value_arg(lua_State *L, int arg)
{
    struct vm *vm = vm_of(L);
    struct cache_value v = {.type = CACHE_JSON};
    switch (lua_type(L, arg)) {
    case LUA_TBOOLEAN:
        v.type = CACHE_BOOL;
        v.u.num = lua_toboolean(L, arg);
        break;
    case LUA_TNUMBER:
        v.type = lua_isinteger(L, arg) ? CACHE_INT : CACHE_FLOAT;
        if (v.type == CACHE_INT)
            v.u.num = lua_tointeger(L, arg);
        else
            v.u.real = lua_tonumber(L, arg);
        break;
    case LUA_TSTRING:
        v.type = CACHE_STRING;
        v.text.ptr = lua_tolstring(L, arg, &v.text.len);
        break;
    default:
        v.text = vm->h->value_write(vm_tmp(vm), convert_from(L, arg, vm_tmp(vm), "weir.cache.set"));
        if (v.text.ptr == NULL)
            vm_stop(L, VM_STOP_MEMORY);
    }
    return v;
}

/* weir.cache.set(key, value, ttl): true, or false where it cannot be kept; nil takes it away */
static int cache_set_call(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct weir_str key = key_arg(L);
    int64_t until = until_arg(L, 3);
    bool ok = true;
    luaL_checkany(L, 2);
    hold_resolve(L, 2);
    if (vm->opt.cache == NULL) {
        ok = false;
    } else if (lua_isnil(L, 2)) {
        (void)cache_remove(vm->opt.cache, key);
    } else {
        struct cache_value v = value_arg(L, 2);
        vm_charge(L, v.text.len / 16);
        ok = cache_set(vm->opt.cache, key, &v, until);
    }
    lua_pushboolean(L, ok);
    return 1;
}

/* weir.cache.add(key, n, ttl): the sum, or nil where the entry is no integer */
static int cache_add_call(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct weir_str key = key_arg(L);
    lua_Integer n = luaL_optinteger(L, 2, 1);
    int64_t until = until_arg(L, 3), sum;
    if (vm->opt.cache != NULL && cache_add(vm->opt.cache, key, n, vm->h->now(vm->h), until, &sum))
        lua_pushinteger(L, sum);
    else
        lua_pushnil(L);
    return 1;
}

/* weir.cache.delete(key): was it there? */
static int cache_delete_call(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct weir_str key = key_arg(L);
    lua_pushboolean(L, vm->opt.cache != NULL && cache_remove(vm->opt.cache, key));
    return 1;
}

void api_cache_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"get", cache_get_call},
                                         {"set", cache_set_call},
                                         {"add", cache_add_call},
                                         {"delete", cache_delete_call},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "cache");
}
