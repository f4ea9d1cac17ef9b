/* SPDX-License-Identifier: Apache-2.0
 *
 * weir.join and weir.derive: new events with named parents. What they give is a userdata that means
 * nothing until a hook returns it; everything that can be wrong is said here, at the script's line.
 */
#include "convert.h"
#include "handle.h"
#include "hold.h"
#include "output.h"

#include <string.h>

#define MADE "weir.output"
#define OPTIONS "options of a new event"

struct made {
    uint64_t generation;
    struct output out;
};

static struct made *made_new(lua_State *L, enum output_kind kind)
{
    struct vm *vm = vm_of(L);
    if (vm->b == NULL)
        (void)luaL_error(L, "new events can be made in process, process_batch and tick only");
    struct made *m = lua_newuserdatauv(L, sizeof(*m), 0);
    *m = (struct made){.generation = vm->generation, .out = {.kind = kind, .port = NO_PORT}};
    luaL_setmetatable(L, MADE);
    return m;
}

const struct output *made_at(lua_State *L, int arg)
{
    const struct made *m = luaL_testudata(L, arg, MADE);
    if (m != NULL && m->generation != vm_of(L)->generation)
        (void)luaL_error(L, "an event of weir.join or weir.derive was kept past its call");
    return m != NULL ? &m->out : NULL;
}

/* ---- Options: {key = , headers = {}, port = } ---- */

static struct weir_str text_copy(lua_State *L, int idx, const char *what)
{
    struct vm *vm = vm_of(L);
    struct weir_str s;
    if (!lua_isstring(L, idx))
        (void)luaL_error(L, "%s is a string or a number, not a %s value", what,
                         luaL_typename(L, idx));
    lua_pushvalue(L, idx); /* a number is not to be changed in place */
    s.ptr = lua_tolstring(L, -1, &s.len);
    vm_written(L, s.len);
    s = vm->h->arena_copy(vm_tmp(vm), s);
    if (s.ptr == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    lua_pop(L, 1);
    return s;
}

static void read_headers(lua_State *L, int idx, struct output *out)
{
    struct vm *vm = vm_of(L);
    uint32_t n = 0, at = 0;
    luaL_argexpected(L, lua_istable(L, idx), 3, OPTIONS ": a table as 'headers'");
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1))
        n++;
    vm_written(L, n * sizeof(struct weir_header));
    struct weir_header *headers = vm->h->arena_alloc(vm_tmp(vm), (n + 1) * sizeof(*headers));
    if (headers == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1), at++) {
        int top = lua_gettop(L);
        if (lua_type(L, top - 1) != LUA_TSTRING)
            (void)luaL_error(L, "header names are strings");
        headers[at].name = text_copy(L, top - 1, "a header's name");
        headers[at].value = text_copy(L, top, "a header");
    }
    out->headers = headers;
    out->n_headers = n;
}

static void read_options(lua_State *L, int idx, struct output *out)
{
    if (lua_isnoneornil(L, idx))
        return;
    luaL_checktype(L, idx, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
        int value = lua_gettop(L);
        const char *name = lua_type(L, value - 1) == LUA_TSTRING ? lua_tostring(L, value - 1) : "";
        if (strcmp(name, "key") == 0)
            out->key = text_copy(L, value, "key");
        else if (strcmp(name, "headers") == 0)
            read_headers(L, value, out);
        else if (strcmp(name, "port") == 0)
            out->port = port_at(L, value);
        else
            (void)luaL_error(L, OPTIONS ": unknown '%s', expected key, headers or port", name);
    }
}

/* ---- Parents ---- */

static uint32_t batch_slot(lua_State *L, int idx)
{
    struct vm *vm = vm_of(L);
    struct slot *s = handle_slot(L, idx);
    if (s->held != NULL)
        (void)luaL_error(L, "a held event has no children: use weir.join");
    return (uint32_t)(s - vm->slots);
}

static void read_parents(lua_State *L, int list, struct output *out)
{
    struct vm *vm = vm_of(L);
    uint32_t n = (uint32_t)lua_rawlen(L, list);
    vm_written(L, (size_t)n * (sizeof(uint32_t) + sizeof(struct holder *)));
    uint32_t *parents = vm->h->arena_alloc(vm_tmp(vm), (n + 1) * sizeof(*parents));
    struct holder **held = vm->h->arena_alloc(vm_tmp(vm), (n + 1) * sizeof(struct holder *));
    if (parents == NULL || held == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    for (uint32_t i = 0; i < n; i++) {
        (void)lua_rawgeti(L, list, (lua_Integer)i + 1);
        struct holder *holder = hold_at(L, -1);
        if (holder == NULL) {
            parents[out->n_parents++] = batch_slot(L, lua_gettop(L));
        } else if (holder->state != HOLD_OVER) {
            hold_use(L, holder, HOLD_JOINED);
            held[out->n_held_parents++] = holder;
        } /* else its hook failed: that event has ended by itself */
        lua_pop(L, 1);
    }
    out->parents = parents;
    out->held_parents = held;
}

int made_join(lua_State *L)
{
    lua_settop(L, 3);
    struct made *m = made_new(L, OUTPUT_JOIN);
    if (!lua_istable(L, 1)) { /* one parent */
        lua_createtable(L, 1, 0);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_replace(L, 1);
    }
    read_parents(L, 1, &m->out);
    hold_resolve(L, 2);
    m->out.value = convert_from(L, 2, vm_of(L)->b->arena, "joined event");
    read_options(L, 3, &m->out);
    lua_settop(L, 4);
    return 1;
}

int made_derive(lua_State *L)
{
    lua_settop(L, 3);
    struct made *m = made_new(L, OUTPUT_CHILD);
    hold_resolve(L, 1);
    m->out.slot = batch_slot(L, 1);
    if (!lua_isnil(L, 2))
        m->out.value = convert_from(L, 2, vm_of(L)->b->arena, "derived event");
    read_options(L, 3, &m->out);
    lua_settop(L, 4);
    return 1;
}

void made_open(lua_State *L)
{
    (void)luaL_newmetatable(L, MADE);
    lua_pushliteral(L, MADE);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
