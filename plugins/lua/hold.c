/* SPDX-License-Identifier: Apache-2.0
 *
 * Events kept past their call; see hold.h.
 */
#include "hold.h"

#include "handle.h"

#define HELD "weir.held"

static void unlink_holder(struct vm *vm, struct holder *take_holder)
{
    if (take_holder->prev != NULL)
        take_holder->prev->next = take_holder->next;
    else
        vm->holders = take_holder->next;
    if (take_holder->next != NULL)
        take_holder->next->prev = take_holder->prev;
    vm->h->free(take_holder);
}

void hold_free(struct vm *vm)
{
    while (vm->holders != NULL)
        unlink_holder(vm, vm->holders);
}

struct holder *hold_at(lua_State *L, int arg)
{
    struct holder **ud = luaL_testudata(L, arg, HELD);
    return ud != NULL ? *ud : NULL;
}

/* weir.hold(event): only notes the wish; hold_commit does it. */
int hold_new(lua_State *L)
{
    struct vm *vm = vm_of(L);
    hold_resolve(L, 1);
    struct slot *s = handle_slot(L, 1);
    if (s->held != NULL)
        return luaL_error(L, "the event is held already");
    if (s->wish != WISH_NONE)
        return luaL_error(L, s->wish == WISH_FAIL ? "the event was failed already"
                                                  : "the event is held or dropped already");
    struct holder **ud = lua_newuserdatauv(L, sizeof(struct holder *), 0);
    *ud = vm->h->alloc(sizeof(struct holder));
    if (*ud == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    (*ud)->next = vm->holders;
    if (vm->holders != NULL)
        vm->holders->prev = *ud;
    vm->holders = *ud;
    (*ud)->generation = vm->generation;
    (*ud)->slot = (uint32_t)(s - vm->slots);
    s->holder = *ud;
    s->wish = WISH_HOLD;
    luaL_setmetatable(L, HELD);
    return 1;
}

void hold_commit(struct vm *vm, uint32_t slot)
{
    struct slot *s = &vm->slots[slot];
    struct weir_event *ev = slot_event(vm, s);
    if ((ev->flags & (WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) == 0)
        (void)vm->h->event_value(vm->h, vm->b, ev); /* it will be read after its batch is gone */
    (void)vm->h->event_id(vm->h, vm->b, ev);
    if ((ev->flags & WEIR_EVENT_GONE) == 0) /* else it was not JSON, and has failed */
        s->holder->held = vm->h->event_hold(vm->h, vm->b, ev);
    if (s->holder->held != NULL)
        s->holder->state = HOLD_KEPT;
    else
        hold_cancel(vm, slot);
}

void hold_cancel(struct vm *vm, uint32_t slot)
{
    struct slot *s = &vm->slots[slot];
    if (s->holder != NULL)
        s->holder->state = HOLD_OVER;
    s->holder = NULL;
}

void hold_fail(struct vm *vm, struct weir_batch *b, bool all)
{
    static const struct weir_result lost = {
        .verdict = WEIR_VERDICT_REJECTED,
        .code = "lua_held",
        .message = {"the script lost this held event: nothing refers to it any more", 62}};
    static const struct weir_result left = {
        .verdict = WEIR_VERDICT_REJECTED,
        .code = "lua_held",
        .message = {"the script still held this event after its last tick", 52}};
    if (vm->n_lost == 0 && !all)
        return;
    for (struct holder *at = vm->holders, *next; at != NULL; at = next) {
        next = at->next;
        if (at->state == HOLD_KEPT && (at->lost || all)) {
            uint32_t i = vm->h->held_release(vm->h, b, at->held);
            if (i == UINT32_MAX)
                return; /* no memory now; the next call tries again */
            vm->h->event_fail(vm->h, b, weir_event_at(b, i), at->lost ? &lost : &left);
            at->state = HOLD_OVER;
        }
        if (at->lost && at->state == HOLD_OVER)
            unlink_holder(vm, at);
    }
    vm->n_lost = 0;
}

/* ---- What a script does with it ---- */

static int held_gc(lua_State *L)
{
    struct vm *vm = vm_of(L);
    struct holder **ud = lua_touserdata(L, 1);
    if (*ud != NULL && (*ud)->state == HOLD_OVER) {
        unlink_holder(vm, *ud);
    } else if (*ud != NULL) {
        (*ud)->lost = true;
        vm->n_lost++;
    }
    *ud = NULL;
    return 0;
}

static void check_alive(lua_State *L, const struct holder *holder)
{
    if (holder == NULL || holder->state == HOLD_OVER)
        (void)luaL_error(L, "this held event is over: it was given out, joined or dropped, or the "
                            "hook that held it failed");
}

/* Pushes a handle on the held event that is good in this call. */
static void push_event(lua_State *L, struct holder *holder)
{
    struct vm *vm = vm_of(L);
    check_alive(L, holder);
    if (holder->generation != vm->generation) {
        holder->slot = slot_add(L, UINT32_MAX, vm->h->held_event(holder->held));
        vm->slots[holder->slot].holder = holder;
        holder->generation = vm->generation;
        holder->use = HOLD_UNUSED;
    }
    handle_push(L, HANDLE_VALUE, vm->slots[holder->slot].first_node);
}

void hold_resolve(lua_State *L, int arg)
{
    struct holder *holder = hold_at(L, arg);
    if (holder == NULL)
        return;
    push_event(L, holder);
    lua_replace(L, arg);
}

void hold_use(lua_State *L, struct holder *holder, enum hold_use use)
{
    struct vm *vm = vm_of(L);
    check_alive(L, holder);
    if (holder->state == HOLD_WANTED)
        (void)luaL_error(L, "an event cannot be held and given out in the same call");
    if (holder->generation != vm->generation)
        holder->use = HOLD_UNUSED;
    if (holder->use != HOLD_UNUSED && (use == HOLD_GIVEN || holder->use == HOLD_GIVEN))
        (void)luaL_error(L, "a held event is given out twice in one call, or given out and joined");
    push_event(L, holder);
    lua_pop(L, 1);
    holder->use = use;
}

static int held_index(lua_State *L)
{
    push_event(L, hold_at(L, 1));
    lua_pushvalue(L, 2);
    lua_gettable(L, -2);
    return 1;
}

static int held_newindex(lua_State *L)
{
    return luaL_error(L, "a held event cannot be changed: make a new one with weir.join");
}

static int held_len(lua_State *L)
{
    push_event(L, hold_at(L, 1));
    lua_pushinteger(L, luaL_len(L, -1));
    return 1;
}

static int held_tostring(lua_State *L)
{
    push_event(L, hold_at(L, 1));
    (void)luaL_tolstring(L, -1, NULL);
    return 1;
}

static int held_pairs(lua_State *L)
{
    push_event(L, hold_at(L, 1));
    luaL_getmetafield(L, -1, "__pairs");
    lua_pushvalue(L, -2);
    lua_call(L, 1, 3);
    return 3;
}

void hold_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"__gc", held_gc},   {"__index", held_index}, {"__newindex", held_newindex},
        {"__len", held_len}, {"__pairs", held_pairs}, {"__tostring", held_tostring},
        {NULL, NULL}};
    (void)luaL_newmetatable(L, HELD);
    luaL_setfuncs(L, methods, 0);
    lua_pushliteral(L, "held event");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
