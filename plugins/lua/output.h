/* SPDX-License-Identifier: Apache-2.0
 *
 * output.h: what a hook gives back, and what becomes of its events.
 *
 * Two steps, so that a hook that fails half way has changed nothing: outputs_read (inside the
 * protected call) looks at what was returned, converts tables and raises for what makes no sense;
 * outputs_apply (outside) does what cannot fail but for memory: derive, join, send, drop, hold.
 */
#ifndef LUA_OUTPUT_H
#define LUA_OUTPUT_H

#include "vm.h"

enum hook_mode {
    HOOK_PROCESS, /* one event, slot 0; tables become its new value, in a list its children */
    HOOK_BATCH,   /* slots are the batch; tables are joins of all of them */
    HOOK_TICK     /* no events; tables are events of their own */
};

enum output_kind { OUTPUT_EVENT, OUTPUT_HELD, OUTPUT_VALUE, OUTPUT_CHILD, OUTPUT_JOIN };

#define NO_PORT UINT32_MAX

/* Memory: the state's tmp arena. */
struct output {
    struct output *next;
    enum output_kind kind;
    uint32_t slot; /* EVENT, CHILD: of the parent */
    uint32_t port;
    struct holder *holder;    /* HELD */
    struct weir_value *value; /* VALUE, CHILD, JOIN; of a CHILD NULL: as its parent */
    const uint32_t *parents;  /* JOIN: slots */
    struct holder *const *held_parents;
    uint32_t n_parents, n_held_parents;
    const struct weir_header *headers; /* to be set */
    uint32_t n_headers;
    struct weir_str key; /* to be set where ptr is not NULL */
};

struct outputs {
    struct output *first, **end;
    uint32_t n;
};

void outputs_open(lua_State *L);
/* The results of a hook at stack 1 and 2 (a port or nil). */
void outputs_read(lua_State *L, enum hook_mode mode, struct outputs *ret);
/* False: memory is used up; every event of the call is to be failed. */
bool outputs_apply(struct vm *vm, enum hook_mode mode, struct outputs *o);
/* The call failed: all of its events leave as they entered, with this result. */
void outputs_fail(struct vm *vm, const struct weir_result *result);

/* made.c: weir.join(parents, value, options) and weir.derive(event, value, options). */
int made_join(lua_State *L);
int made_derive(lua_State *L);
/* The output that such a call made, at arg; NULL where it is none. Raises for one of another call.
 */
const struct output *made_at(lua_State *L, int arg);
void made_open(lua_State *L);
/* The port of that name at arg, NO_PORT for nil; raises for others. */
uint32_t port_at(lua_State *L, int arg);

#endif
