/* SPDX-License-Identifier: Apache-2.0
 *
 * The standard libraries as scripts see them; see sandbox.h.
 */
#include "sandbox.h"

#include <math.h>
#include <string.h>
#include <time.h>

/* ---- What could catch the end of the budget ---- */

static int guard_after(lua_State *L, int status, lua_KContext ctx)
{
    struct vm *vm = vm_of(L);
    (void)status;
    (void)ctx;
    if (vm->stop != VM_GO_ON)
        vm_stop(L, vm->stop);
    return lua_gettop(L);
}

int sandbox_guarded(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, guard_after);
    return guard_after(L, LUA_OK, 0);
}

void sandbox_wrap(lua_State *L, const char *name, lua_CFunction fn)
{
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, -2, name);
}

static void put(lua_State *L, const char *name, lua_CFunction fn)
{
    lua_pushcfunction(L, fn);
    lua_setfield(L, -2, name);
}

static void take_away(lua_State *L, const char *name)
{
    lua_pushnil(L);
    lua_setfield(L, -2, name);
}

/* ---- Base ---- */

static int base_load(lua_State *L)
{
    if (lua_gettop(L) < 3)
        lua_settop(L, 3);
    lua_pushliteral(L, "t"); /* bytecode can break the interpreter */
    lua_replace(L, 3);
    int64_t begin = vm_cpu(L);
    int n = sandbox_guarded(L);
    vm_charge_cpu(L, begin); /* a compiler runs no instructions */
    return n;
}

/* A handler runs inside the hook that ends a script, where nothing could end the handler. */
static int careful_handler(lua_State *L)
{
    lua_settop(L, 1);
    if (vm_of(L)->stop == VM_GO_ON) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_call(L, 1, 1);
    }
    return 1;
}

static int base_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, careful_handler, 1);
    lua_replace(L, 2);
    return sandbox_guarded(L);
}

static int base_setmetatable(lua_State *L)
{
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L,
                              "__gc is not available in hooks: finalizers run outside the limits");
        lua_pop(L, 1);
    }
    return sandbox_guarded(L);
}

/* As Lua's; the work of a long text is counted. */
static int base_tonumber(lua_State *L)
{
    size_t len;
    if (lua_gettop(L) != 1 || lua_type(L, 1) != LUA_TSTRING)
        return sandbox_guarded(L);
    const char *text = lua_tolstring(L, 1, &len);
    if (len > 64)
        vm_charge(L, len / 8);
    if (lua_stringtonumber(L, text) != len + 1)
        lua_pushnil(L);
    return 1;
}

static int base_collectgarbage(lua_State *L)
{
    static const char *const words[] = {"collect", "count", "step", "isrunning", NULL};
    switch (luaL_checkoption(L, 1, "collect", words)) {
    case 1:
        lua_pushnumber(L, (lua_Number)vm_of(L)->mem_used / 1024);
        return 1;
    case 3:
        lua_pushboolean(L, 1);
        return 1;
    default:
        vm_charge(L, vm_of(L)->mem_used / 16);
        lua_gc(L, LUA_GCCOLLECT);
        lua_pushinteger(L, 0);
        return 1;
    }
}

static int base_print(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    int n = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
        if (i < n)
            luaL_addchar(&b, '\t');
    }
    luaL_pushresult(&b);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    struct weir_kv kv = weir_kv_str("text", weir_str_n(text, len < 1024 ? len : 1024));
    h->log(h, WEIR_LOG_INFO, "script prints", &kv, 1);
    return 0;
}

static void open_base(lua_State *L)
{
    luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
    take_away(L, "dofile");
    take_away(L, "loadfile");
    take_away(L, "warn");
    sandbox_wrap(L, "pcall", sandbox_guarded);
    sandbox_wrap(L, "xpcall", base_xpcall);
    sandbox_wrap(L, "load", base_load);
    sandbox_wrap(L, "setmetatable", base_setmetatable);
    sandbox_wrap(L, "tonumber", base_tonumber);
    put(L, "collectgarbage", base_collectgarbage);
    put(L, "print", base_print);
    lua_pop(L, 1);
}

/* ---- Chance ---- */

static uint64_t host_random(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    return h->random(h);
}

/* Below or at `max`, each as likely. */
static uint64_t random_up_to(lua_State *L, uint64_t max)
{
    uint64_t mask = max, r;
    for (unsigned shift = 1; shift < 64; shift *= 2)
        mask |= mask >> shift;
    do
        r = host_random(L) & mask;
    while (r > max);
    return r;
}

static int math_random(lua_State *L)
{
    lua_Integer low = 1, high;
    switch (lua_gettop(L)) {
    case 0:
        lua_pushnumber(L, (lua_Number)(host_random(L) >> 11) * 0x1p-53);
        return 1;
    case 1:
        high = luaL_checkinteger(L, 1);
        if (high == 0) {
            lua_pushinteger(L, (lua_Integer)host_random(L));
            return 1;
        }
        break;
    case 2:
        low = luaL_checkinteger(L, 1);
        high = luaL_checkinteger(L, 2);
        break;
    default:
        return luaL_error(L, "wrong number of arguments");
    }
    luaL_argcheck(L, low <= high, lua_gettop(L), "interval is empty");
    lua_pushinteger(L,
                    (lua_Integer)((uint64_t)low + random_up_to(L, (uint64_t)high - (uint64_t)low)));
    return 1;
}

/* Chance comes from the host, which alone can be seeded. */
static int math_randomseed(lua_State *L)
{
    (void)L;
    return 0;
}

static void open_math(lua_State *L)
{
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
    put(L, "random", math_random);
    put(L, "randomseed", math_randomseed);
    lua_pop(L, 1);
}

/* ---- Time ---- */

static int os_clock(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    lua_pushnumber(L, (lua_Number)h->now(h) / 1e9);
    return 1;
}

static lua_Integer wall_seconds(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    int64_t ns = h->wall(h);
    return ns / WEIR_NS_PER_S - (ns % WEIR_NS_PER_S < 0 ? 1 : 0);
}

static int os_time(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
        return sandbox_guarded(L);
    lua_pushinteger(L, wall_seconds(L));
    return 1;
}

static int os_date(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_pushliteral(L, "%c");
        lua_replace(L, 1);
    }
    if (lua_isnil(L, 2)) {
        lua_pushinteger(L, wall_seconds(L));
        lua_replace(L, 2);
    }
    return sandbox_guarded(L);
}

/* os whole, less what ends or changes the process; else time alone. */
static void open_os(lua_State *L, bool allowed)
{
    static const char *const beyond[] = {"execute", "getenv", "remove", "rename", "tmpname", NULL};
    luaL_requiref(L, LUA_OSLIBNAME, luaopen_os, 1);
    take_away(L, "exit");
    take_away(L, "setlocale");
    for (const char *const *name = beyond; *name != NULL && !allowed; name++)
        take_away(L, *name);
    put(L, "clock", os_clock);
    sandbox_wrap(L, "time", os_time);
    sandbox_wrap(L, "date", os_date);
    lua_pop(L, 1);
}

/* ---- All of them ---- */

static void open_package(lua_State *L, bool loadlib)
{
    lua_newtable(L);
    if (loadlib) {
        luaL_requiref(L, LUA_LOADLIBNAME, luaopen_package, 0);
        lua_getfield(L, -1, "loadlib");
        lua_setfield(L, -3, "loadlib");
        lua_pop(L, 1);
        lua_pushnil(L);
        lua_setglobal(L, "require");
    }
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, LUA_LOADLIBNAME);
    lua_setfield(L, -2, "loaded");
    lua_setglobal(L, LUA_LOADLIBNAME);
}

static void open_debug(lua_State *L)
{
    luaL_requiref(L, LUA_DBLIBNAME, luaopen_debug, 1);
    take_away(L, "sethook"); /* the budget's */
    take_away(L, "debug");   /* reads the terminal */
    lua_pop(L, 1);
}

void sandbox_open(lua_State *L)
{
    const struct vm_options *opt = &vm_of(L)->opt;
    open_base(L);
    lists_open(L);
    coroutines_open(L);
    open_math(L);
    open_os(L, (opt->allow & VM_ALLOW_OS) != 0);
    if ((opt->allow & VM_ALLOW_IO) != 0)
        luaL_requiref(L, LUA_IOLIBNAME, luaopen_io, 1);
    if ((opt->allow & VM_ALLOW_DEBUG) != 0)
        open_debug(L);
    open_package(L, (opt->allow & VM_ALLOW_LOADLIB) != 0);
    if (!opt->condition)
        require_open(L);
    lua_settop(L, 0);
}
