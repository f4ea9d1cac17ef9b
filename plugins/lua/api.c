/* SPDX-License-Identifier: Apache-2.0
 *
 * weir.now, weir.time, weir.uuid, weir.hash, weir.json: what needs no event. All time and chance
 * are the host's.
 */
#include "api.h"

#include "convert.h"
#include "handle.h"
#include "output.h"
#include "sha256.h"

#include <math.h>
#include <rfc3339.h>
#include <string.h>

#define NS INT64_C(1000000000)

/* ---- Time ---- */

static const char *const units[] = {"s", "ms", "us", "ns", NULL};
static const int64_t unit_ns[] = {NS, 1000000, 1000, 1};

static int weir_now(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    int unit = luaL_checkoption(L, 1, "s", units);
    int64_t ns = h->wall(h);
    if (unit == 0)
        lua_pushnumber(L, (lua_Number)(ns / 1000) / 1e6);
    else
        lua_pushinteger(L, ns / unit_ns[unit]);
    return 1;
}

static struct rfc3339 split_ns(int64_t ns)
{
    struct rfc3339 t = {ns / NS, (int32_t)(ns % NS)};
    if (t.ns < 0) {
        t.s--;
        t.ns += (int32_t)NS;
    }
    return t;
}

/* A float of seconds is good to the microsecond in our century. */
static struct rfc3339 split_seconds(lua_State *L, lua_Number s)
{
    lua_Number whole = floor(s), us = nearbyint((s - whole) * 1e6);
    if (!(whole >= (lua_Number)RFC3339_S_MIN && whole <= (lua_Number)RFC3339_S_MAX))
        (void)luaL_argerror(L, 1, "a time of the years 0000 to 9999 expected");
    if (us >= 1e6) {
        whole += 1;
        us = 0;
    }
    return (struct rfc3339){(int64_t)whole, (int32_t)us * 1000};
}

static int time_format(lua_State *L)
{
    int unit = luaL_checkoption(L, 2, "s", units);
    struct rfc3339 t;
    char text[RFC3339_MAX];
    if (unit == 0) {
        t = split_seconds(L, luaL_checknumber(L, 1));
    } else {
        lua_Integer n = luaL_checkinteger(L, 1);
        int64_t a_second = NS / unit_ns[unit];
        t = split_ns(n % a_second * unit_ns[unit]);
        t.s += n / a_second;
    }
    size_t len = rfc3339_format(t, text);
    luaL_argcheck(L, len != 0, 1, "a time of the years 0000 to 9999 expected");
    lua_pushlstring(L, text, len);
    return 1;
}

/* Seconds as a float, and exact nanoseconds where an integer holds them. */
static int time_parse(lua_State *L)
{
    struct weir_str text;
    struct rfc3339 t;
    int64_t ns;
    text.ptr = luaL_checklstring(L, 1, &text.len);
    if (!rfc3339_parse(text.ptr, text.len, &t)) {
        lua_pushnil(L);
        lua_pushliteral(L, "not a date-time of RFC 3339, such as 2026-01-31T12:00:00Z");
        return 2;
    }
    lua_pushnumber(L, (lua_Number)t.s + (lua_Number)t.ns / 1e9);
    if (__builtin_mul_overflow(t.s, NS, &ns) || __builtin_add_overflow(ns, (int64_t)t.ns, &ns))
        return 1;
    lua_pushinteger(L, ns);
    return 2;
}

/* ---- Ids and hashes ---- */

static char *put_hex(char *out, uint64_t v, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; v >>= 4)
        out[i] = "0123456789abcdef"[v & 15];
    return out + digits;
}

/* UUIDv7 (RFC 9562): sorts by the time it was made. */
static int weir_uuid(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    uint64_t ms = (uint64_t)(h->wall(h) / WEIR_NS_PER_MS);
    uint64_t r1 = h->random(h), r2 = h->random(h);
    char text[36], *at = put_hex(text, ms >> 16, 8);
    *at++ = '-';
    at = put_hex(at, ms & 0xffff, 4);
    *at++ = '-';
    at = put_hex(at, 0x7000 | (r1 & 0xfff), 4);
    *at++ = '-';
    at = put_hex(at, 0x8000 | (r1 >> 12 & 0x3fff), 4);
    *at++ = '-';
    (void)put_hex(at, r2 & UINT64_C(0xffffffffffff), 12);
    lua_pushlstring(L, text, sizeof(text));
    return 1;
}

static uint64_t fnv1a64(const char *p, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static int weir_hash(lua_State *L)
{
    static const char *const algorithms[] = {"sha256", "fnv1a64", NULL};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    int algorithm = luaL_checkoption(L, 2, "sha256", algorithms);
    char hex[64];
    vm_charge(L, len / 4);
    if (algorithm == 1) {
        (void)put_hex(hex, fnv1a64(text, len), 16);
        lua_pushlstring(L, hex, 16);
        return 1;
    }
    uint8_t digest[32];
    sha256(text, len, digest);
    for (unsigned i = 0; i < 32; i++)
        (void)put_hex(hex + (size_t)2 * i, digest[i], 2);
    lua_pushlstring(L, hex, sizeof(hex));
    return 1;
}

/* ---- JSON ---- */

static int json_encode(lua_State *L)
{
    struct vm *vm = vm_of(L);
    luaL_checkany(L, 1);
    struct weir_value *v = convert_from(L, 1, vm_tmp(vm), "weir.json.encode");
    struct weir_str text = vm->h->value_write(vm_tmp(vm), v);
    if (text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    vm_written(L, text.len);
    lua_pushlstring(L, text.ptr, text.len);
    return 1;
}

static int json_decode(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct weir_str text;
    struct weir_error err = {0};
    text.ptr = luaL_checklstring(L, 1, &text.len);
    vm_written(L, text.len * 4);
    const struct weir_value *v = vm->h->value_parse(vm_tmp(vm), text, &err);
    if (v == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, err.text);
        return 2;
    }
    convert_push(L, v);
    return 1;
}

/* ---- The table ---- */

static void put_table(lua_State *L, const char *name, const luaL_Reg *functions)
{
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, name);
}

void api_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"now", weir_now},
                                         {"uuid", weir_uuid},
                                         {"hash", weir_hash},
                                         {"array", convert_mark_array},
                                         {"object", convert_mark_object},
                                         {NULL, NULL}};
    static const luaL_Reg time_functions[] = {
        {"format", time_format}, {"parse", time_parse}, {NULL, NULL}};
    static const luaL_Reg json_functions[] = {
        {"encode", json_encode}, {"decode", json_decode}, {NULL, NULL}};
    luaL_newlib(L, functions);
    put_table(L, "time", time_functions);
    put_table(L, "json", json_functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    api_events_open(L);
    if (!vm_of(L)->opt.condition) {
        outputs_open(L);
        api_observe_open(L);
        api_cache_open(L);
    }
    lua_setglobal(L, "weir");
}
