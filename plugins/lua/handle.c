/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables behind handles, and reading and changing through them; see handle.h. What Lua
 * operators do with a handle is in proxy.c.
 */
#include "handle.h"

#include <string.h>

#define INDEX_BITS 22
#define KIND_BITS 2
#define SIBLINGS_SEEN 4

_Static_assert(sizeof(void *) == 8, "handles need 64 bits");

/* ---- The bits ---- */

static uint64_t bits_of(lua_State *L, int arg)
{
    return (uint64_t)(uintptr_t)lua_touserdata(L, arg);
}

static uint32_t index_of(uint64_t bits)
{
    return (uint32_t)(bits & ((1u << INDEX_BITS) - 1));
}

static enum handle_kind kind_of(uint64_t bits)
{
    return (enum handle_kind)(bits >> INDEX_BITS & ((1u << KIND_BITS) - 1));
}

static bool is_live(const struct vm *vm, uint64_t bits)
{
    return bits >> (INDEX_BITS + KIND_BITS) == vm->generation;
}

void handle_push(lua_State *L, enum handle_kind kind, uint32_t index)
{
    uint64_t bits =
        vm_of(L)->generation << (INDEX_BITS + KIND_BITS) | (uint64_t)kind << INDEX_BITS | index;
    lua_pushlightuserdata(L, (void *)(uintptr_t)bits);
}

bool handle_is_null(lua_State *L, int arg)
{
    return lua_islightuserdata(L, arg) && bits_of(L, arg) == 0;
}

static void raise_dead(lua_State *L)
{
    (void)luaL_error(L, "event used after its call ended: keep weir.copy(event) or "
                        "weir.hold(event) instead");
}

void handles_clear(struct vm *vm)
{
    const uint64_t max = (UINT64_C(1) << (64 - INDEX_BITS - KIND_BITS)) - 1;
    vm->generation = vm->generation == max ? 1 : vm->generation + 1;
    vm->n_slots = 0;
    vm->n_nodes = 0;
}

struct node *handle_node(lua_State *L, int arg)
{
    struct vm *vm = vm_of(L);
    uint64_t bits = bits_of(L, arg);
    if (!lua_islightuserdata(L, arg) || bits == 0)
        return NULL;
    if (!is_live(vm, bits))
        raise_dead(L);
    return kind_of(bits) == HANDLE_VALUE ? &vm->nodes[index_of(bits)] : NULL;
}

struct slot *handle_slot(lua_State *L, int arg)
{
    struct vm *vm = vm_of(L);
    uint64_t bits = bits_of(L, arg);
    if (!lua_islightuserdata(L, arg) || bits == 0) {
        (void)luaL_argerror(L, arg, "expected an event");
        return NULL;
    }
    if (!is_live(vm, bits))
        raise_dead(L);
    uint32_t i = index_of(bits);
    return &vm->slots[kind_of(bits) == HANDLE_VALUE ? vm->nodes[i].slot : i];
}

bool handle_is_root(const struct vm *vm, const struct node *n)
{
    return vm->slots[n->slot].first_node == (uint32_t)(n - vm->nodes);
}

/* ---- Slots and nodes ---- */

static uint32_t node_add(lua_State *L, uint32_t slot)
{
    struct vm *vm = vm_of(L);
    if (vm->n_nodes == NODES_MAX)
        (void)luaL_error(L, "more than %d objects and arrays touched in one call", (int)NODES_MAX);
    if (vm->n_nodes == vm->cap_nodes)
        vm->nodes = vm_grow(L, vm->nodes, &vm->cap_nodes, sizeof(struct node));
    uint32_t i = vm->n_nodes++;
    struct node *n = &vm->nodes[i];
    n->v = NULL;
    n->slot = slot;
    n->parent = n->next = n->child = n->sibling = 0;
    n->at = 0;
    n->version = 0;
    n->last = NULL;
    n->it.left = 0;
    return i;
}

uint32_t slot_add(lua_State *L, uint32_t event, const struct weir_event *held)
{
    struct vm *vm = vm_of(L);
    if (vm->n_slots == vm->cap_slots)
        vm->slots = vm_grow(L, vm->slots, &vm->cap_slots, sizeof(struct slot));
    uint32_t root = node_add(L, vm->n_slots), i = vm->n_slots++;
    vm->slots[i] = (struct slot){
        .event = event, .held = held, .first_node = root, .last_node = root, .version = 1};
    return i;
}

struct weir_event *slot_event(const struct vm *vm, const struct slot *s)
{
    return weir_event_at(vm->b, s->event);
}

/* ---- Reading ---- */

static const struct weir_value *root_value(lua_State *L, struct node *n)
{
    struct vm *vm = vm_of(L);
    const struct slot *s = &vm->slots[n->slot];
    if (s->held != NULL) {
        n->v = s->held->value;
        if (n->v == NULL)
            (void)luaL_error(L, "a held event that is not JSON has no fields");
        return n->v;
    }
    n->v = vm->h->event_value(vm->h, vm->b, slot_event(vm, s));
    if (n->v == NULL)
        (void)luaL_error(L, "the payload of this event cannot be read as JSON");
    return n->v;
}

const struct weir_value *node_value(lua_State *L, struct node *n)
{
    return n->v != NULL ? n->v : root_value(L, n);
}

const struct weir_value *node_element(struct vm *vm, struct node *n, uint32_t i)
{
    const struct weir_host *h = vm->h;
    uint32_t version = vm->slots[n->slot].version;
    if (n->version != version || i + 1 < n->at || n->at == 0) {
        n->it = h->value_iter(n->v);
        n->at = 0;
        n->last = NULL;
        n->version = version;
    }
    if (i >= n->at)
        vm->used += (i - n->at) / 8;
    while (n->at <= i) {
        struct weir_str key;
        const struct weir_value *v = h->value_next(&n->it, &key);
        if (v == NULL)
            return NULL; /* `last` stays what it is */
        n->last = v;
        n->at++;
    }
    return n->last;
}

/* ---- Members ---- */

/* The node of v below parent, made where it is not one of the last few that were asked for. */
static uint32_t child_of(lua_State *L, uint32_t parent, const struct weir_value *v,
                         struct weir_str key, uint32_t index)
{
    struct vm *vm = vm_of(L);
    uint32_t at = vm->nodes[parent].child;
    for (int seen = 0; at != 0 && seen < SIBLINGS_SEEN; seen++, at = vm->nodes[at].sibling)
        if (vm->nodes[at].v == v)
            return at;
    if (key.ptr != NULL) {
        vm_written(L, key.len);
        key = vm->h->arena_copy(vm_tmp(vm), key);
        if (key.ptr == NULL)
            vm_stop(L, VM_STOP_MEMORY);
    }
    at = node_add(L, vm->nodes[parent].slot);
    struct node *n = &vm->nodes[at], *p = &vm->nodes[parent];
    struct slot *s = &vm->slots[n->slot];
    n->v = v;
    n->parent = parent;
    n->key = key;
    n->index = index;
    n->sibling = p->child;
    p->child = at;
    vm->nodes[s->last_node].next = at;
    s->last_node = at;
    return at;
}

void node_push(lua_State *L, uint32_t parent, const struct weir_value *v, struct weir_str key,
               uint32_t index)
{
    const struct weir_host *h = vm_of(L)->h;
    struct weir_str s;
    switch (h->value_type(v)) {
    case WEIR_BOOL:
        lua_pushboolean(L, h->value_bool(v));
        return;
    case WEIR_INT:
        lua_pushinteger(L, h->value_int(v));
        return;
    case WEIR_UINT:
    case WEIR_REAL:
    case WEIR_BIGNUM:
        lua_pushnumber(L, h->value_real(v));
        return;
    case WEIR_STRING:
        s = h->value_str(v);
        lua_pushlstring(L, s.ptr, s.len);
        return;
    case WEIR_ARRAY:
    case WEIR_OBJECT:
        handle_push(L, HANDLE_VALUE, child_of(L, parent, v, key, index));
        return;
    default:
        lua_pushlightuserdata(L, NULL);
    }
}

/* ---- Changing ---- */

/* The nodes of an event whose value has just been copied, parents before children. */
static void resolve(struct vm *vm, struct slot *s, const struct weir_value *root)
{
    vm->nodes[s->first_node].v = root;
    for (uint32_t i = vm->nodes[s->first_node].next; i != 0; i = vm->nodes[i].next) {
        struct node *n = &vm->nodes[i], *parent = &vm->nodes[n->parent];
        n->v = n->key.ptr != NULL ? vm->h->value_get(parent->v, n->key)
                                  : node_element(vm, parent, n->index);
    }
}

struct weir_value *node_edit(lua_State *L, uint32_t node)
{
    struct vm *vm = vm_of(L);
    struct slot *s = &vm->slots[vm->nodes[node].slot];
    if (s->held != NULL)
        (void)luaL_error(L, "a held event cannot be changed: make a new one with weir.join");
    if (vm->opt.condition)
        (void)luaL_error(L, "a condition cannot change the event");
    if (!s->edited) {
        struct weir_event *ev = slot_event(vm, s);
        vm_written(L, ev->payload.len);
        struct weir_value *root = vm->h->event_edit(vm->h, vm->b, ev);
        if (root == NULL)
            (void)luaL_error(L,
                             "the event cannot be changed: it is not JSON, or memory is used up");
        s->edited = true;
        s->version++;
        resolve(vm, s, root);
    }
    return (struct weir_value *)(uintptr_t)vm->nodes[node].v;
}
