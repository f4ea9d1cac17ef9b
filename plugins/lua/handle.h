/* SPDX-License-Identifier: Apache-2.0
 *
 * handle.h: events as scripts see them: lazy, converted by the field.
 *
 * A handle is a light userdata whose bits are a generation, a kind and an index into tables of the
 * state, so that making one allocates nothing and one that is kept past its call is recognized by
 * its generation, never followed:
 *
 *      63        24 23  22 21      0
 *      generation    kind   index           all zero: JSON null (weir.null)
 *
 *   slot   one event of the call: where it is in the batch, what the script wants of it
 *   node   one array or object in it that the script has touched; node 0 of a slot is its root
 *
 * The first write of an event makes the host copy its value; all of its nodes are then resolved
 * anew in the copy (same shape, nothing written yet), so that a handle taken before the write is
 * the same thing after it.
 */
#ifndef LUA_HANDLE_H
#define LUA_HANDLE_H

#include "vm.h"

#define NODES_MAX (1u << 22)

enum handle_kind { HANDLE_VALUE = 0, HANDLE_META = 1, HANDLE_HEADERS = 2 };

/* What the script asked for; done when its call has succeeded. */
enum slot_wish { WISH_NONE = 0, WISH_HOLD, WISH_DROP, WISH_FAIL };

struct slot {
    uint32_t event;                /* index in the batch */
    const struct weir_event *held; /* not in the batch: kept from an earlier call, read only */
    uint32_t first_node, last_node;
    uint32_t version; /* goes up with each change of its value */
    bool edited;
    bool taken; /* it goes on, as some output */
    enum slot_wish wish;
    const char *reason;    /* of a drop; the code of a failure */
    struct weir_str text;  /* why it fails; in the memory of the call */
    struct holder *holder; /* of a hold, or of the event held */
};

struct node {
    const struct weir_value *v; /* NULL: a root that nobody asked for yet */
    uint32_t slot;
    uint32_t parent, next;   /* next: of the same slot, in the order of their making; 0 = none */
    uint32_t child, sibling; /* newest first; 0 = none */
    struct weir_str key;     /* in its parent; ptr NULL: at `index` */
    uint32_t index;
    /* Where a walk over the elements stands: `it` is in front of element `at`. */
    uint32_t version, at;
    const struct weir_value *last; /* element at - 1 */
    struct weir_value_iter it;
};

/* Metatables; once a state. */
void handles_open(lua_State *L);
/* No handle is good any more. */
void handles_clear(struct vm *vm);

/* A slot for event i of the batch, or for a held one. Its root is node slot->first_node. */
uint32_t slot_add(lua_State *L, uint32_t event, const struct weir_event *held);
struct weir_event *slot_event(const struct vm *vm, const struct slot *s);
void handle_push(lua_State *L, enum handle_kind kind, uint32_t index);

/* The node of a live event or value handle; NULL where it is anything else. Raises for a dead one.
 */
struct node *handle_node(lua_State *L, int arg);
/* The slot of an event (its root), of something in it, or of its metadata; raises for others. */
struct slot *handle_slot(lua_State *L, int arg);
bool handle_is_null(lua_State *L, int arg);
bool handle_is_root(const struct vm *vm, const struct node *n);

/* The value, read from the event on first touch. Raises where the event has none. */
const struct weir_value *node_value(lua_State *L, struct node *n);
/* The same to be changed. */
struct weir_value *node_edit(lua_State *L, uint32_t node);
/* Element i, NULL behind the end; a walk in order is O(1) a step. */
const struct weir_value *node_element(struct vm *vm, struct node *n, uint32_t i);
/* Pushes a member: scalars as Lua values, arrays and objects as handles. */
void node_push(lua_State *L, uint32_t parent, const struct weir_value *v, struct weir_str key,
               uint32_t index);

/* meta.c: what meta.x and meta.headers.x read and write; the handle at 1, the key at 2. */
int meta_index(lua_State *L, struct slot *s);
int meta_newindex(lua_State *L, struct slot *s);
int headers_index(lua_State *L, struct slot *s);
int headers_newindex(lua_State *L, struct slot *s);

#endif
