/* SPDX-License-Identifier: Apache-2.0
 *
 * What meta.x and meta.headers.x read and write. Key and headers are written at once; where the
 * hook fails, the host puts them back as they entered.
 */
#include "handle.h"

#include <string.h>

static const struct weir_event *event_of(const struct vm *vm, const struct slot *s)
{
    return s->held != NULL ? s->held : slot_event(vm, s);
}

static void push_str(lua_State *L, struct weir_str s)
{
    if (s.ptr == NULL)
        lua_pushnil(L);
    else
        lua_pushlstring(L, s.ptr, s.len);
}

/* ---- Reading ---- */

static void push_id(lua_State *L, const struct slot *s)
{
    const struct vm *vm = vm_of(L);
    struct weir_str id = event_of(vm, s)->id;
    if (id.len == 0 && s->held == NULL)
        id = vm->h->event_id(vm->h, vm->b, slot_event(vm, s));
    push_str(L, id);
}

/* The bytes as they are now; those of an event that was changed are written anew. */
static void push_payload(lua_State *L, const struct slot *s)
{
    struct vm *vm = vm_of(L);
    const struct weir_event *ev = event_of(vm, s);
    if ((ev->flags & WEIR_EVENT_TOMB) != 0) {
        lua_pushnil(L);
        return;
    }
    if ((ev->flags & WEIR_EVENT_EDITED) == 0) {
        lua_pushlstring(L, ev->payload.ptr != NULL ? ev->payload.ptr : "", ev->payload.len);
        return;
    }
    struct weir_str text = vm->h->value_write(vm_tmp(vm), ev->value);
    if (text.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    vm_written(L, text.len);
    lua_pushlstring(L, text.ptr, text.len);
}

static void push_time(lua_State *L, int64_t ns, bool exact)
{
    if (ns == 0)
        lua_pushnil(L);
    else if (exact)
        lua_pushinteger(L, ns);
    else
        lua_pushnumber(L, (lua_Number)ns / 1e9);
}

static void push_origin(lua_State *L, const struct weir_event *ev)
{
    if (ev->origin == NULL || ev->origin->name.len == 0)
        lua_pushnil(L);
    else
        push_str(L, ev->origin->name);
}

static void push_position(lua_State *L, const struct weir_event *ev, bool partition)
{
    if (ev->stream == NULL || (partition && (ev->origin == NULL || ev->origin->partition < 0)))
        lua_pushnil(L);
    else
        lua_pushinteger(L, partition ? ev->origin->partition : ev->position);
}

int meta_index(lua_State *L, struct slot *s)
{
    const struct weir_event *ev = event_of(vm_of(L), s);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "key") == 0)
        push_str(L, ev->key);
    else if (strcmp(name, "headers") == 0)
        handle_push(L, HANDLE_HEADERS, (uint32_t)(s - vm_of(L)->slots));
    else if (strcmp(name, "id") == 0)
        push_id(L, s);
    else if (strcmp(name, "time") == 0)
        push_time(L, ev->time_ns, false);
    else if (strcmp(name, "time_ns") == 0)
        push_time(L, ev->time_ns, true);
    else if (strcmp(name, "topic") == 0)
        push_origin(L, ev);
    else if (strcmp(name, "partition") == 0)
        push_position(L, ev, true);
    else if (strcmp(name, "offset") == 0)
        push_position(L, ev, false);
    else if (strcmp(name, "payload") == 0)
        push_payload(L, s);
    else
        return luaL_error(L,
                          "unknown metadata '%s': expected key, id, time, time_ns, topic, "
                          "partition, offset, payload or headers",
                          luaL_tolstring(L, 2, NULL));
    return 1;
}

int headers_index(lua_State *L, struct slot *s)
{
    struct vm *vm = vm_of(L);
    struct weir_str name;
    if (lua_type(L, 2) != LUA_TSTRING) {
        lua_pushnil(L);
        return 1;
    }
    name.ptr = lua_tolstring(L, 2, &name.len);
    const struct weir_header *header = vm->h->event_header(event_of(vm, s), name);
    if (header == NULL)
        lua_pushnil(L);
    else
        lua_pushlstring(L, header->value.ptr != NULL ? header->value.ptr : "", header->value.len);
    return 1;
}

/* ---- Writing ---- */

static struct weir_event *begin_write(lua_State *L, struct slot *s)
{
    const struct vm *vm = vm_of(L);
    if (vm->opt.condition)
        (void)luaL_error(L, "a condition cannot change the event");
    if (s->held != NULL)
        (void)luaL_error(L, "a held event cannot be changed: make a new one with weir.join");
    return slot_event(vm, s);
}

/* Argument 3 as text: strings and numbers; nil is the empty view. */
static struct weir_str text_arg(lua_State *L, const char *what)
{
    struct weir_str text = {NULL, 0};
    if (lua_isnil(L, 3))
        return text;
    if (!lua_isstring(L, 3))
        (void)luaL_error(L, "%s takes a string, a number or nil, not a %s value", what,
                         luaL_typename(L, 3));
    text.ptr = lua_tolstring(L, 3, &text.len);
    vm_written(L, text.len);
    return text;
}

int meta_newindex(lua_State *L, struct slot *s)
{
    struct vm *vm = vm_of(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "key") != 0)
        return luaL_error(L, "metadata '%s' cannot be set: only key and headers can",
                          luaL_tolstring(L, 2, NULL));
    struct weir_event *ev = begin_write(L, s);
    if (!vm->h->event_set_key(vm->h, vm->b, ev, text_arg(L, "meta.key")))
        vm_stop(L, VM_STOP_MEMORY);
    return 0;
}

int headers_newindex(lua_State *L, struct slot *s)
{
    struct vm *vm = vm_of(L);
    struct weir_str name;
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "header names are strings, not %s values", luaL_typename(L, 2));
    name.ptr = lua_tolstring(L, 2, &name.len);
    struct weir_event *ev = begin_write(L, s);
    struct weir_str text = text_arg(L, "a header");
    vm_written(L, name.len + ((size_t)ev->n_headers + 1) * sizeof(struct weir_header));
    if (!vm->h->event_set_header(vm->h, vm->b, ev, name, text))
        vm_stop(L, VM_STOP_MEMORY);
    return 0;
}
