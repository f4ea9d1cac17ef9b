/* SPDX-License-Identifier: Apache-2.0
 *
 * What Lua's operators do with a handle: read, write, length, pairs, text. All light userdata of a
 * state share one metatable; JSON null is one of them.
 */
#include "convert.h"
#include "handle.h"

#include <string.h>

#define ITERATOR "weir.iterator"

static enum handle_kind handle_kind(lua_State *L, int arg)
{
    return (enum handle_kind)((uintptr_t)lua_touserdata(L, arg) >> 22 & 3);
}

static uint32_t node_index(lua_State *L, const struct node *n)
{
    return (uint32_t)(n - vm_of(L)->nodes);
}

/* ---- Reading ---- */

static int null_index(lua_State *L)
{
    if (!vm_of(L)->opt.condition)
        return luaL_error(L, "attempt to index JSON null (field '%s')", luaL_tolstring(L, 2, NULL));
    lua_pushnil(L);
    return 1;
}

static bool element_index(lua_State *L, int arg, uint32_t *ret)
{
    int is_integer;
    lua_Integer i = lua_tointegerx(L, arg, &is_integer);
    if (!is_integer || i < 1 || i > UINT32_MAX)
        return false;
    *ret = (uint32_t)i - 1;
    return true;
}

static int value_index(lua_State *L, struct node *n)
{
    const struct weir_host *h = vm_of(L)->h;
    const struct weir_value *v = node_value(L, n), *member = NULL;
    struct weir_str key = {NULL, 0};
    uint32_t i = 0;
    if (lua_type(L, 2) == LUA_TSTRING) {
        key.ptr = lua_tolstring(L, 2, &key.len);
        member = h->value_get(v, key);
    } else if (h->value_type(v) == WEIR_ARRAY && element_index(L, 2, &i)) {
        member = node_element(vm_of(L), n, i);
    }
    if (member == NULL)
        lua_pushnil(L);
    else
        node_push(L, node_index(L, n), member, key, i);
    return 1;
}

static int handle_index(lua_State *L)
{
    struct node *n = handle_node(L, 1);
    if (n != NULL)
        return value_index(L, n);
    if (handle_is_null(L, 1))
        return null_index(L);
    struct slot *s = handle_slot(L, 1);
    return handle_kind(L, 1) == HANDLE_META ? meta_index(L, s) : headers_index(L, s);
}

/* ---- Writing ---- */

static bool is_handle_of(lua_State *L, int arg, const struct weir_value *v)
{
    if (!lua_islightuserdata(L, arg) || handle_is_null(L, arg))
        return false;
    const struct node *n = handle_node(L, arg);
    return n != NULL && n->v == v && v != NULL;
}

static struct weir_value *new_value(lua_State *L, const char *what)
{
    return convert_from(L, 3, vm_of(L)->b->arena, what);
}

/* Where memory ran out half way, or the key is no UTF-8. */
static void check_set(lua_State *L, bool ok)
{
    if (!ok)
        (void)luaL_error(L, "cannot set the field: its name is not UTF-8, or memory is used up");
}

static void set_member(lua_State *L, uint32_t node)
{
    struct vm *vm = vm_of(L);
    const struct weir_host *h = vm->h;
    struct weir_str key;
    if (lua_type(L, 2) != LUA_TSTRING)
        (void)luaL_error(L, "an object's field names are strings, not %s values",
                         luaL_typename(L, 2));
    key.ptr = lua_tolstring(L, 2, &key.len);
    int type = lua_type(L, 3);
    const struct weir_value *before = NULL; /* of interest where nothing may change */
    if (type == LUA_TNIL || type == LUA_TLIGHTUSERDATA)
        before = h->value_get(vm->nodes[node].v, key);
    if (type == LUA_TNIL) {
        if (before != NULL)
            (void)h->object_remove(node_edit(L, node), key);
    } else if (!is_handle_of(L, 3, before)) {
        struct weir_value *v = new_value(L, key.ptr);
        vm_written(L, key.len);
        check_set(L, h->object_set(vm->b->arena, node_edit(L, node), key, v));
    }
    vm_charge(L, h->value_count(vm->nodes[node].v) / 8);
}

static void set_element(lua_State *L, uint32_t node)
{
    struct vm *vm = vm_of(L);
    const struct weir_host *h = vm->h;
    uint32_t i = 0, n = h->value_count(vm->nodes[node].v);
    bool found = element_index(L, 2, &i);
    if (found && i >= n && lua_isnil(L, 3))
        return;
    if (!found || i > n)
        (void)luaL_error(L, "an array of %d elements takes indexes from 1 to %d here", (int)n,
                         (int)n + 1);
    vm_charge(L, i / 8);
    if (lua_isnil(L, 3)) {
        if (i + 1 != n)
            (void)luaL_error(L, "an array cannot have holes: use table.remove, or weir.null");
        (void)h->array_remove(node_edit(L, node), i);
        return;
    }
    if (i < n && is_handle_of(L, 3, node_element(vm, &vm->nodes[node], i)))
        return;
    struct weir_value *v = new_value(L, "element"), *array = node_edit(L, node);
    check_set(L, i == n ? h->array_append(vm->b->arena, array, v)
                        : h->array_set(vm->b->arena, array, i, v));
}

static void value_newindex(lua_State *L, struct node *n)
{
    struct vm *vm = vm_of(L);
    uint32_t node = node_index(L, n);
    struct slot *s = &vm->slots[n->slot];
    enum weir_value_type type = vm->h->value_type(node_value(L, n));
    if (vm->opt.condition || s->held != NULL)
        (void)node_edit(L, node); /* says why not */
    if (type == WEIR_OBJECT)
        set_member(L, node);
    else if (type == WEIR_ARRAY)
        set_element(L, node);
    else
        (void)luaL_error(L,
                         "the event is neither an object nor an array: return a new value for it");
    vm->slots[vm->nodes[node].slot].version++;
}

static int handle_newindex(lua_State *L)
{
    struct node *n = handle_node(L, 1);
    if (n != NULL) {
        value_newindex(L, n);
        return 0;
    }
    if (handle_is_null(L, 1))
        return luaL_error(L, "attempt to set a field of JSON null");
    struct slot *s = handle_slot(L, 1);
    return handle_kind(L, 1) == HANDLE_META ? meta_newindex(L, s) : headers_newindex(L, s);
}

/* ---- Length and text ---- */

static int handle_len(lua_State *L)
{
    const struct weir_host *h = vm_of(L)->h;
    struct node *n = handle_node(L, 1);
    if (n != NULL) {
        const struct weir_value *v = node_value(L, n);
        lua_pushinteger(L, h->value_type(v) == WEIR_ARRAY ? (lua_Integer)h->value_count(v) : 0);
        return 1;
    }
    if (handle_is_null(L, 1) && vm_of(L)->opt.condition) {
        lua_pushnil(L);
        return 1;
    }
    return luaL_error(L, "attempt to get the length of %s",
                      handle_is_null(L, 1) ? "JSON null" : "event metadata");
}

static int handle_tostring(lua_State *L)
{
    struct vm *vm = vm_of(L);
    if (handle_is_null(L, 1)) {
        lua_pushliteral(L, "null");
        return 1;
    }
    struct node *n = handle_node(L, 1);
    if (n == NULL) {
        lua_pushstring(L, handle_kind(L, 1) == HANDLE_META ? "event metadata" : "event headers");
        return 1;
    }
    struct weir_str text = vm->h->value_write(vm_tmp(vm), node_value(L, n));
    if (text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    vm_written(L, text.len);
    lua_pushlstring(L, text.ptr, text.len);
    return 1;
}

static int handle_compare(lua_State *L)
{
    bool null = handle_is_null(L, 1) || handle_is_null(L, 2);
    if (!null || !vm_of(L)->opt.condition)
        return luaL_error(L, "attempt to compare %s with a %s value",
                          null ? "JSON null" : "an event's object or array",
                          luaL_typename(L, lua_islightuserdata(L, 1) ? 2 : 1));
    lua_pushboolean(L, 0);
    return 1;
}

/* ---- pairs ---- */

struct iterator {
    uint32_t node;
    uint64_t generation;
    bool headers;
    bool array;
    uint32_t i;
    uint32_t version;
    const struct weir_value *v;
    struct weir_value_iter it;
};

/* The object was changed under the walk: finds the place again by the key that comes next. */
static bool find_place(struct vm *vm, struct iterator *w, const struct weir_value *v)
{
    struct weir_str wanted, key;
    while (vm->h->value_next(&w->it, &wanted) != NULL) {
        struct weir_value_iter it = vm->h->value_iter(v), before = it;
        vm->used += vm->h->value_count(v) / 8;
        for (; vm->h->value_next(&it, &key) != NULL; before = it) {
            if (key.len != wanted.len || memcmp(key.ptr, wanted.ptr, key.len) != 0)
                continue;
            w->it = before;
            w->v = v;
            w->version = vm->slots[vm->nodes[w->node].slot].version;
            return true;
        }
    }
    return false;
}

static int next_member(lua_State *L, struct iterator *w)
{
    struct vm *vm = vm_of(L);
    struct node *n = &vm->nodes[w->node];
    struct weir_str key;
    if ((w->v != n->v || w->version != vm->slots[n->slot].version) && !find_place(vm, w, n->v))
        return 0;
    const struct weir_value *v = vm->h->value_next(&w->it, &key);
    if (v == NULL)
        return 0;
    lua_pushlstring(L, key.ptr, key.len);
    node_push(L, w->node, v, key, 0);
    return 2;
}

static int next_element(lua_State *L, struct iterator *w)
{
    struct vm *vm = vm_of(L);
    const struct weir_value *v = node_element(vm, &vm->nodes[w->node], w->i);
    if (v == NULL)
        return 0;
    lua_pushinteger(L, (lua_Integer)w->i + 1);
    node_push(L, w->node, v, weir_str_n(NULL, 0), w->i);
    w->i++;
    return 2;
}

static int next_header(lua_State *L, struct iterator *w)
{
    const struct vm *vm = vm_of(L);
    const struct slot *s = &vm->slots[w->node];
    const struct weir_event *ev = s->held != NULL ? s->held : slot_event(vm, s);
    if (w->i >= ev->n_headers)
        return 0;
    const struct weir_header *header = &ev->headers[w->i++];
    lua_pushlstring(L, header->name.ptr, header->name.len);
    lua_pushlstring(L, header->value.ptr, header->value.len);
    return 2;
}

static int iterator_next(lua_State *L)
{
    struct iterator *w = luaL_checkudata(L, 1, ITERATOR);
    if (w->generation != vm_of(L)->generation)
        return luaL_error(L, "event used after its call ended: keep weir.copy(event) or "
                             "weir.hold(event) instead");
    if (w->headers)
        return next_header(L, w);
    return w->array ? next_element(L, w) : next_member(L, w);
}

static int handle_pairs(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct node *n = handle_node(L, 1);
    if (n == NULL && (handle_is_null(L, 1) || handle_kind(L, 1) != HANDLE_HEADERS))
        return luaL_error(L, "pairs works on an event's objects, arrays and headers, not on %s",
                          handle_is_null(L, 1) ? "JSON null" : "its metadata");
    lua_pushcfunction(L, iterator_next);
    struct iterator *w = lua_newuserdatauv(L, sizeof(*w), 0);
    *w = (struct iterator){.generation = vm->generation, .headers = n == NULL};
    if (n == NULL) {
        w->node = (uint32_t)(handle_slot(L, 1) - vm->slots);
    } else {
        w->v = node_value(L, n);
        w->node = node_index(L, n);
        w->version = vm->slots[n->slot].version;
        w->array = vm->h->value_type(w->v) == WEIR_ARRAY;
        if (!w->array)
            w->it = vm->h->value_iter(w->v);
    }
    luaL_setmetatable(L, ITERATOR);
    lua_pushnil(L);
    return 3;
}

void handles_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__index", handle_index},       {"__newindex", handle_newindex},
        {"__len", handle_len},           {"__pairs", handle_pairs},
        {"__tostring", handle_tostring}, {"__lt", handle_compare},
        {"__le", handle_compare},        {NULL, NULL}};
    (void)luaL_newmetatable(L, ITERATOR);
    lua_pop(L, 1);
    convert_open(L);
    lua_pushlightuserdata(L, NULL);
    luaL_newlib(L, methods);
    lua_pushliteral(L, "weir.event");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "weir.event");
    lua_setfield(L, -2, "__metatable");
    (void)lua_setmetatable(L, -2); /* of all light userdata */
    lua_pop(L, 1);
}
