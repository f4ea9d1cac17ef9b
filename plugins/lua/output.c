/* SPDX-License-Identifier: Apache-2.0
 *
 * What a hook gives back; see output.h.
 */
#include "output.h"

#include "convert.h"
#include "handle.h"
#include "hold.h"

#include <string.h>

/* ---- Reading ---- */

uint32_t port_at(lua_State *L, int arg)
{
    const struct vm_options *opt = &vm_of(L)->opt;
    if (lua_isnoneornil(L, arg))
        return NO_PORT;
    size_t len;
    const char *name = lua_type(L, arg) == LUA_TSTRING ? lua_tolstring(L, arg, &len) : NULL;
    if (name == NULL) {
        (void)luaL_error(L, "a port is a string, not a %s value", luaL_typename(L, arg));
        return NO_PORT;
    }
    for (uint32_t i = 0; i < opt->n_ports; i++)
        if (opt->ports[i].len == len && memcmp(opt->ports[i].ptr, name, len) == 0)
            return i;
    (void)luaL_error(L,
                     opt->n_ports == 0 ? "no port '%s': option 'ports' names none"
                                       : "no port '%s': option 'ports' does not name it",
                     name);
    return NO_PORT;
}

static struct output *add(lua_State *L, struct outputs *o, enum output_kind kind, uint32_t port)
{
    struct vm *vm = vm_of(L);
    struct output *out = vm->h->arena_alloc(vm_tmp(vm), sizeof(*out));
    if (out == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    vm_written(L, sizeof(*out));
    *out = (struct output){.kind = kind, .port = port};
    *o->end = out;
    o->end = &out->next;
    o->n++;
    return out;
}

static void add_value(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    struct weir_value *v = convert_from(L, idx, vm_of(L)->b->arena, "returned event");
    add(L, o, OUTPUT_VALUE, port)->value = v;
}

static void refuse_twice(lua_State *L, enum slot_wish wish)
{
    (void)luaL_error(L, wish == WISH_FAIL
                            ? "an event that was failed cannot be returned as well"
                            : "an event that is held or dropped cannot be returned as well");
}

static void add_handle(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    const struct vm *vm = vm_of(L);
    struct node *n = handle_node(L, idx);
    if (n == NULL)
        (void)luaL_error(L, "a hook returns events, not %s",
                         handle_is_null(L, idx) ? "JSON null" : "metadata");
    else if (!handle_is_root(vm, n))
        add_value(L, o, idx, port);
    else if (vm->slots[n->slot].wish != WISH_NONE)
        refuse_twice(L, vm->slots[n->slot].wish);
    else
        add(L, o, OUTPUT_EVENT, port)->slot = n->slot;
}

static void add_userdata(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    const struct output *made = made_at(L, idx);
    struct holder *holder = made == NULL ? hold_at(L, idx) : NULL;
    if (made != NULL) {
        struct output *out = add(L, o, made->kind, port), *next = out->next;
        *out = *made;
        out->next = next;
        out->port = port != NO_PORT ? port : made->port;
    } else if (holder != NULL) {
        hold_use(L, holder, HOLD_GIVEN);
        add(L, o, OUTPUT_HELD, port)->holder = holder;
    } else {
        (void)luaL_error(L, "a hook returns events, not a %s", luaL_tolstring(L, idx, NULL));
    }
}

/* Anything that stands for one event. */
static void add_one(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    switch (lua_type(L, idx)) {
    case LUA_TLIGHTUSERDATA:
        add_handle(L, o, idx, port);
        return;
    case LUA_TUSERDATA:
        add_userdata(L, o, idx, port);
        return;
    case LUA_TTABLE:
        add_value(L, o, idx, port);
        return;
    default:
        (void)luaL_error(L, "a hook returns events, tables, a list of them, or nil, not a %s value",
                         luaL_typename(L, idx));
    }
}

/* Is the table at idx one event's value, and no list? */
static bool is_value(lua_State *L, int idx)
{
    bool array;
    if (convert_is_marked(L, idx, &array))
        return true;
    int type = lua_rawgeti(L, idx, 1);
    lua_pop(L, 1);
    return type == LUA_TNIL;
}

/* An element of a returned list: an event, or {event, "port"}. */
static void add_element(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    if (!lua_istable(L, idx) || is_value(L, idx)) {
        add_one(L, o, idx, port);
        return;
    }
    if (lua_rawlen(L, idx) != 2 || lua_rawgeti(L, idx, 2) != LUA_TSTRING)
        (void)luaL_error(L, "an element of a returned list is an event, a table for a new one, or "
                            "{event, \"port\"}; an array value needs weir.array");
    port = port_at(L, -1);
    lua_pop(L, 1);
    (void)lua_rawgeti(L, idx, 1);
    add_one(L, o, lua_gettop(L), port);
    lua_pop(L, 1);
}

static void add_list(lua_State *L, struct outputs *o, int idx, uint32_t port)
{
    lua_Unsigned n = lua_rawlen(L, idx);
    for (lua_Unsigned i = 1; i <= n; i++) {
        int type = lua_rawgeti(L, idx, (lua_Integer)i);
        if (type != LUA_TTABLE && type != LUA_TLIGHTUSERDATA && type != LUA_TUSERDATA)
            (void)luaL_error(L,
                             "element %d of the returned list is a %s value, not an event; to "
                             "return an array as a value, use weir.array; to name a port, "
                             "return event, \"port\"",
                             (int)i, lua_typename(L, type));
        add_element(L, o, lua_gettop(L), port);
        lua_pop(L, 1);
    }
}

static bool is_empty(lua_State *L, int idx)
{
    lua_pushnil(L);
    if (lua_next(L, idx) == 0)
        return true;
    lua_pop(L, 2);
    return false;
}

void outputs_read(lua_State *L, enum hook_mode mode, struct outputs *ret)
{
    bool array;
    *ret = (struct outputs){.end = &ret->first};
    uint32_t port = port_at(L, 2);
    if (!lua_toboolean(L, 1))
        return;
    if (lua_istable(L, 1) && !convert_is_marked(L, 1, &array) &&
        (!is_value(L, 1) || is_empty(L, 1))) {
        add_list(L, ret, 1, port);
        return;
    }
    add_one(L, ret, 1, port);
    if (mode != HOOK_PROCESS || ret->first->kind != OUTPUT_VALUE)
        return;
    ret->first->kind = OUTPUT_EVENT; /* its new value */
    if (vm_of(L)->slots[0].wish != WISH_NONE)
        refuse_twice(L, vm_of(L)->slots[0].wish);
}

/* ---- Doing ---- */

static uint32_t join_slots(struct vm *vm, const struct output *out)
{
    const struct weir_host *h = vm->h;
    bool all = out->kind == OUTPUT_VALUE; /* of a batch: all that came, and that are still there */
    uint32_t max = all ? vm->n_slots : out->n_parents, n = 0;
    uint32_t *parents = h->arena_alloc(vm_tmp(vm), (max + 1) * sizeof(*parents));
    struct weir_held **held =
        h->arena_alloc(vm_tmp(vm), (out->n_held_parents + 1) * sizeof(struct weir_held *));
    if (parents == NULL || held == NULL)
        return UINT32_MAX;
    for (uint32_t i = 0; i < max; i++) {
        const struct slot *s = &vm->slots[all ? i : out->parents[i]];
        if (s->held == NULL && (slot_event(vm, s)->flags & WEIR_EVENT_GONE) == 0)
            parents[n++] = s->event;
    }
    for (uint32_t i = 0; i < out->n_held_parents; i++)
        held[i] = out->held_parents[i]->held;
    return h->event_join(h, vm->b, parents, n, held, out->n_held_parents);
}

/* The event that the output becomes; UINT32_MAX: memory is used up. */
static uint32_t make(struct vm *vm, enum hook_mode mode, struct output *out)
{
    const struct weir_host *h = vm->h;
    struct slot *s = &vm->slots[out->slot];
    uint32_t i;
    switch (out->kind) {
    case OUTPUT_EVENT:
        if (s->taken)
            return h->event_derive(h, vm->b, s->event);
        s->taken = true;
        return s->event;
    case OUTPUT_CHILD:
        return h->event_derive(h, vm->b, s->event);
    case OUTPUT_VALUE:
        if (mode == HOOK_PROCESS)
            return h->event_derive(h, vm->b, vm->slots[0].event);
        return join_slots(vm, out);
    case OUTPUT_JOIN:
        return join_slots(vm, out);
    default:
        i = h->held_release(h, vm->b, out->holder->held);
        if (i != UINT32_MAX)
            out->holder->state = HOLD_OVER;
        return i;
    }
}

static bool finish(struct vm *vm, struct output *out, uint32_t i)
{
    const struct weir_host *h = vm->h;
    struct weir_event *ev = weir_event_at(vm->b, i);
    if (out->value != NULL)
        h->event_set_value(h, vm->b, ev, out->value);
    if (out->key.ptr != NULL && !h->event_set_key(h, vm->b, ev, out->key))
        return false;
    for (uint32_t k = 0; k < out->n_headers; k++)
        if (!h->event_set_header(h, vm->b, ev, out->headers[k].name, out->headers[k].value))
            return false;
    if (out->port != NO_PORT)
        h->event_send(h, ev, out->port);
    return true;
}

/* Memory ran out half way: what was made goes, what was given out of the held ones fails. */
static void undo(struct vm *vm, uint32_t first_new, const struct outputs *o)
{
    static const struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                                         .code = "no_memory",
                                         .message = {"no memory for the outputs of a hook", 35}};
    bool given = false;
    for (const struct output *out = o->first; out != NULL; out = out->next)
        given = given || out->kind == OUTPUT_HELD;
    for (uint32_t i = first_new; i < vm->b->n_events; i++) {
        if (given)
            vm->h->event_fail(vm->h, vm->b, weir_event_at(vm->b, i), &r);
        else
            vm->h->event_drop(vm->h, vm->b, weir_event_at(vm->b, i), NULL);
    }
}

static void fail_event(struct vm *vm, const struct slot *s, uint32_t event)
{
    struct weir_result r = {
        .verdict = WEIR_VERDICT_REJECTED, .code = s->reason, .message = s->text};
    vm->h->event_fail(vm->h, vm->b, weir_event_at(vm->b, event), &r);
}

/* Those that were held in an earlier call and fail in this one come back into the batch. False: no memory. */
static bool fail_held(struct vm *vm)
{
    for (uint32_t i = 0; i < vm->n_slots; i++) {
        const struct slot *s = &vm->slots[i];
        if (s->held == NULL || s->wish != WISH_FAIL)
            continue;
        uint32_t event = vm->h->held_release(vm->h, vm->b, s->holder->held);
        if (event == UINT32_MAX)
            return false;
        fail_event(vm, s, event);
        s->holder->state = HOLD_OVER;
    }
    return true;
}

static void drop_held(struct vm *vm, struct holder *holder)
{
    if (holder->state != HOLD_KEPT)
        return; /* parent of two */
    vm->h->held_drop(vm->h, holder->held);
    holder->state = HOLD_OVER;
}

/* An event that does not go on itself. */
static void settle(struct vm *vm, uint32_t slot)
{
    struct slot *s = &vm->slots[slot];
    if (s->held != NULL && s->wish == WISH_DROP)
        drop_held(vm, s->holder);
    if (s->held != NULL || s->taken)
        return;
    if (s->wish == WISH_HOLD)
        hold_commit(vm, slot);
    else if (s->wish == WISH_FAIL)
        fail_event(vm, s, s->event);
    else
        vm->h->event_drop(vm->h, vm->b, slot_event(vm, s),
                          s->wish == WISH_DROP ? s->reason : NULL);
}

/* What needs memory comes first: behind it nothing fails any more. */
bool outputs_apply(struct vm *vm, enum hook_mode mode, struct outputs *o)
{
    uint32_t first_new = vm->b->n_events;
    bool ok = fail_held(vm);
    for (struct output *out = o->first; ok && out != NULL; out = out->next) {
        uint32_t i = make(vm, mode, out);
        ok = i != UINT32_MAX && finish(vm, out, i);
    }
    if (!ok) {
        undo(vm, first_new, o);
        return false;
    }
    for (uint32_t i = 0; i < vm->n_slots; i++)
        settle(vm, i);
    for (const struct output *out = o->first; out != NULL; out = out->next)
        for (uint32_t i = 0; i < out->n_held_parents; i++)
            drop_held(vm, out->held_parents[i]);
    return true;
}

void outputs_fail(struct vm *vm, const struct weir_result *result)
{
    for (uint32_t i = 0; i < vm->n_slots; i++) {
        struct slot *s = &vm->slots[i];
        if (s->held != NULL)
            continue;
        hold_cancel(vm, i);
        vm->h->event_fail(vm->h, vm->b, slot_event(vm, s), result);
    }
}

void outputs_open(lua_State *L)
{
    made_open(L);
}
