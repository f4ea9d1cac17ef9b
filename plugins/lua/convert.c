/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole values between Lua and JSON; see convert.h.
 */
#include "convert.h"

#include "handle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_MARK "weir.array"
#define OBJECT_MARK "weir.object"
#define TOO_DEEP "nested deeper than 128 levels, or a table that holds itself"
#define VALUE_COST 48u /* bytes of arena that a value takes beside its text */

/* ---- Marks ---- */

void convert_open(lua_State *L)
{
    static const char *const marks[] = {ARRAY_MARK, OBJECT_MARK};
    for (size_t i = 0; i < 2; i++) {
        (void)luaL_newmetatable(L, marks[i]);
        lua_pushstring(L, marks[i]);
        lua_setfield(L, -2, "__metatable"); /* a __gc put there would run outside the limits */
        lua_pop(L, 1);
    }
}

static int mark(lua_State *L, const char *name)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_setmetatable(L, name);
    return 1;
}

int convert_mark_array(lua_State *L)
{
    return mark(L, ARRAY_MARK);
}

int convert_mark_object(lua_State *L)
{
    return mark(L, OBJECT_MARK);
}

bool convert_is_marked(lua_State *L, int idx, bool *ret_array)
{
    if (!lua_getmetatable(L, idx))
        return false;
    (void)luaL_getmetatable(L, ARRAY_MARK);
    (void)luaL_getmetatable(L, OBJECT_MARK);
    bool array = lua_rawequal(L, -3, -2) != 0, object = lua_rawequal(L, -3, -1) != 0;
    lua_pop(L, 3);
    if (array || object)
        *ret_array = array;
    return array || object;
}

/* ---- From Lua ---- */

/* One conversion. `path` are the keys on the way, for messages: strings on the Lua stack. */
struct from {
    lua_State *L;
    const struct weir_host *h;
    struct weir_arena *a;
    const char *what;
    int depth;
    struct {
        const char *key; /* NULL: at index */
        uint32_t index;
    } path[DEPTH_MAX];
};

static struct weir_value *from_any(struct from *f, int idx);

_Noreturn static void fail(struct from *f, const char *problem)
{
    luaL_Buffer b;
    char index[16];
    luaL_where(f->L, 1);
    luaL_buffinit(f->L, &b);
    luaL_addstring(&b, f->what);
    for (int i = 0; i < f->depth && i < 8; i++) {
        if (f->path[i].key != NULL) {
            luaL_addchar(&b, '.');
            luaL_addlstring(&b, f->path[i].key, strnlen(f->path[i].key, 40));
        } else {
            int n = snprintf(index, sizeof(index), "[%u]", f->path[i].index);
            luaL_addlstring(&b, index, (size_t)n);
        }
    }
    luaL_addstring(&b, f->depth > 8 ? "...: " : ": ");
    luaL_addstring(&b, problem);
    luaL_pushresult(&b);
    lua_concat(f->L, 2);
    (void)lua_error(f->L);
    for (;;)
        continue;
}

static struct weir_value *made(struct from *f, struct weir_value *v)
{
    if (v == NULL)
        vm_stop(f->L, VM_STOP_MEMORY);
    return v;
}

static struct weir_value *from_string(struct from *f, int idx)
{
    struct weir_str s;
    s.ptr = lua_tolstring(f->L, idx, &s.len);
    vm_written(f->L, s.len + VALUE_COST);
    struct weir_value *v = f->h->make_str(f->a, s);
    if (v == NULL)
        fail(f, "the string is not UTF-8 (and JSON text must be), or memory is used up");
    return v;
}

static struct weir_value *from_number(struct from *f, int idx)
{
    vm_written(f->L, VALUE_COST);
    if (lua_isinteger(f->L, idx))
        return made(f, f->h->make_int(f->a, lua_tointeger(f->L, idx)));
    lua_Number n = lua_tonumber(f->L, idx);
    if (!isfinite(n))
        fail(f, "NaN and infinity have no JSON form");
    return made(f, f->h->make_real(f->a, n));
}

/* Counts a whole value before it is copied: an event may hold itself many times over. */
static void count_copy(struct from *f, const struct weir_value *v, int depth)
{
    const struct weir_host *h = f->h;
    enum weir_value_type type = h->value_type(v);
    vm_written(f->L, VALUE_COST + (type == WEIR_STRING ? h->value_str(v).len : 0));
    if (type != WEIR_ARRAY && type != WEIR_OBJECT)
        return;
    if (depth >= DEPTH_MAX)
        fail(f, TOO_DEEP);
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    const struct weir_value *member;
    while ((member = h->value_next(&it, &key)) != NULL) {
        vm_written(f->L, key.len);
        count_copy(f, member, depth + 1);
    }
}

static struct weir_value *from_handle(struct from *f, int idx)
{
    if (handle_is_null(f->L, idx))
        return made(f, f->h->make_null(f->a));
    struct node *n = handle_node(f->L, idx);
    if (n == NULL)
        fail(f, "metadata has no JSON form: take single fields of it");
    const struct weir_value *v = node_value(f->L, n);
    count_copy(f, v, f->depth);
    return made(f, f->h->make_copy(f->a, v));
}

/* ---- Tables ---- */

static void down(struct from *f)
{
    if (f->depth == DEPTH_MAX - 1)
        fail(f, TOO_DEEP);
    luaL_checkstack(f->L, 8, "the value is nested too deep");
}

static struct weir_value *from_array(struct from *f, int idx, lua_Unsigned n)
{
    struct weir_value *array = made(f, f->h->make_array(f->a));
    down(f);
    for (lua_Unsigned i = 1; i <= n; i++) {
        f->path[f->depth].key = NULL;
        f->path[f->depth].index = (uint32_t)i;
        f->depth++;
        if (lua_rawgeti(f->L, idx, (lua_Integer)i) == LUA_TNIL)
            fail(f, "the array has a hole: use weir.null for an empty place");
        struct weir_value *v = from_any(f, lua_gettop(f->L));
        f->depth--;
        lua_pop(f->L, 1);
        if (!f->h->array_append(f->a, array, v))
            vm_stop(f->L, VM_STOP_MEMORY);
    }
    return array;
}

static int by_bytes(const void *a, const void *b)
{
    const struct weir_str *x = a, *y = b;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* The keys of a table of n entries, all strings, sorted. They stay valid while the table has them.
 */
static struct weir_str *sorted_keys(struct from *f, int idx, uint32_t n)
{
    struct weir_str *keys = f->h->arena_alloc(vm_tmp(vm_of(f->L)), n * sizeof(*keys));
    uint32_t at = 0;
    if (keys == NULL)
        vm_stop(f->L, VM_STOP_MEMORY);
    vm_written(f->L, n * sizeof(*keys));
    for (lua_pushnil(f->L); lua_next(f->L, idx) != 0; lua_pop(f->L, 1), at++) {
        if (lua_type(f->L, -2) != LUA_TSTRING)
            fail(f, "the table has keys that are neither all strings nor 1, 2, 3 and so on");
        keys[at].ptr = lua_tolstring(f->L, -2, &keys[at].len);
    }
    qsort(keys, n, sizeof(*keys), by_bytes);
    return keys;
}

static struct weir_value *from_object(struct from *f, int idx, uint32_t n)
{
    struct weir_value *object = made(f, f->h->make_object(f->a));
    if (n == 0)
        return object;
    down(f);
    struct weir_str *keys = sorted_keys(f, idx, n);
    for (uint32_t i = 0; i < n; i++) {
        f->path[f->depth].key = keys[i].ptr;
        f->depth++;
        lua_pushlstring(f->L, keys[i].ptr, keys[i].len);
        (void)lua_rawget(f->L, idx);
        struct weir_value *v = from_any(f, lua_gettop(f->L));
        vm_written(f->L, keys[i].len);
        vm_charge(f->L, i / 16); /* it is looked for among those that are there */
        if (!f->h->object_set(f->a, object, keys[i], v))
            fail(f, "the key is not UTF-8, or memory is used up");
        f->depth--;
        lua_pop(f->L, 1);
    }
    return object;
}

static uint32_t count_entries(struct from *f, int idx)
{
    uint32_t n = 0;
    for (lua_pushnil(f->L); lua_next(f->L, idx) != 0; lua_pop(f->L, 1))
        n++;
    vm_charge(f->L, n);
    return n;
}

static struct weir_value *from_table(struct from *f, int idx)
{
    vm_written(f->L, VALUE_COST);
    uint32_t n = count_entries(f, idx);
    lua_Unsigned len = lua_rawlen(f->L, idx);
    bool array = len != 0;
    bool marked = convert_is_marked(f->L, idx, &array);
    if (!array)
        return from_object(f, idx, n);
    if (n != len)
        fail(f, marked || n < len ? "the array has holes or keys besides 1, 2, 3 and so on: use "
                                    "weir.null for an empty place"
                                  : "the table has keys that are neither all strings nor 1, 2, 3 "
                                    "and so on");
    return from_array(f, idx, len);
}

static struct weir_value *from_any(struct from *f, int idx)
{
    char problem[64];
    switch (lua_type(f->L, idx)) {
    case LUA_TBOOLEAN:
        vm_written(f->L, VALUE_COST);
        return made(f, f->h->make_bool(f->a, lua_toboolean(f->L, idx) != 0));
    case LUA_TNUMBER:
        return from_number(f, idx);
    case LUA_TSTRING:
        return from_string(f, idx);
    case LUA_TTABLE:
        return from_table(f, idx);
    case LUA_TLIGHTUSERDATA:
        return from_handle(f, idx);
    default:
        (void)snprintf(problem, sizeof(problem), "a %s has no JSON form", luaL_typename(f->L, idx));
        fail(f, problem);
    }
}

struct weir_value *convert_from(lua_State *L, int idx, struct weir_arena *a, const char *what)
{
    struct from f; /* its path is long, and empty: not to be zeroed for every number */
    f.L = L;
    f.h = vm_of(L)->h;
    f.a = a;
    f.what = what;
    f.depth = 0;
    luaL_checkstack(L, 8, NULL);
    return from_any(&f, lua_absindex(L, idx));
}

/* ---- To Lua ---- */

static void push_members(lua_State *L, const struct weir_value *v, bool array)
{
    const struct weir_host *h = vm_of(L)->h;
    uint32_t n = h->value_count(v);
    int size = n < (1u << 26) ? (int)n : 0;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    const struct weir_value *member;
    luaL_checkstack(L, 4, "the value is nested too deep");
    lua_createtable(L, array ? size : 0, array ? 0 : size);
    for (lua_Integer i = 1; (member = h->value_next(&it, &key)) != NULL; i++) {
        if (array) {
            convert_push(L, member);
            lua_rawseti(L, -2, i);
            continue;
        }
        lua_pushlstring(L, key.ptr, key.len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TNIL) { /* of duplicate keys the first counts */
            lua_pop(L, 2);
            continue;
        }
        lua_pop(L, 1);
        convert_push(L, member);
        lua_rawset(L, -3);
    }
    if (array)
        luaL_setmetatable(L, ARRAY_MARK);
}

void convert_push(lua_State *L, const struct weir_value *v)
{
    const struct weir_host *h = vm_of(L)->h;
    enum weir_value_type type = h->value_type(v);
    if (type == WEIR_ARRAY || type == WEIR_OBJECT)
        push_members(L, v, type == WEIR_ARRAY);
    else
        node_push(L, 0, v, weir_str_n(NULL, 0), 0);
}
