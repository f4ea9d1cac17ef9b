/* SPDX-License-Identifier: Apache-2.0
 *
 * hold.h: events that a script keeps past its call, for tick to make something of.
 *
 * weir.hold(event) gives a full userdata that reads like the event. The event is taken out of its
 * batch when the hook has succeeded; its ack stays open until the event is given out, joined or
 * dropped. A held event that the script lost (nothing refers to it any more) is never forgotten: it
 * is failed at the next call.
 */
#ifndef LUA_HOLD_H
#define LUA_HOLD_H

#include "vm.h"

enum hold_state {
    HOLD_WANTED = 0, /* its hook has not ended yet */
    HOLD_KEPT,       /* `held` is ours */
    HOLD_OVER        /* given out, joined or dropped; or its hook failed */
};

/* Lives until both the script and the state are done with it. */
struct holder {
    struct holder *next, *prev;
    struct weir_held *held;
    enum hold_state state;
    bool lost;           /* no script refers to it */
    uint64_t generation; /* of the call that `slot` and `use` are of */
    uint32_t slot;
    enum hold_use { HOLD_UNUSED, HOLD_JOINED, HOLD_GIVEN } use; /* by the outputs of that call */
};

void hold_open(lua_State *L);
/* Frees what is left of the list. */
void hold_free(struct vm *vm);
/* weir.hold(event). */
int hold_new(lua_State *L);
/* The holder at arg, NULL where it is none. */
struct holder *hold_at(lua_State *L, int arg);
/* Where a held event stands at arg, puts in its place a handle that is good in this call. */
void hold_resolve(lua_State *L, int arg);
/* Notes what an output of this call makes of it. Raises where that cannot be. */
void hold_use(lua_State *L, struct holder *holder, enum hold_use use);
/* Takes the event of that slot out of the batch. Where there is no memory or room for it, it alone has failed. */
void hold_commit(struct vm *vm, uint32_t slot);
void hold_cancel(struct vm *vm, uint32_t slot);
/* Events that the script lost, and with `all` every other too, go back into the batch as failed. */
void hold_fail(struct vm *vm, struct weir_batch *b, bool all);

#endif
