/* SPDX-License-Identifier: Apache-2.0
 *
 * vm.h: one Lua state under limits, and the events that its running call may see.
 *
 *   host calls apply ─▶ vm_begin(batch) ─▶ vm_call(process) ─▶ vm_end: every handle is dead
 *
 * Owns the Lua state, its memory (capped), its instruction budget (a count hook, and charges by C
 * functions whose work grows with their input) and the table of handles (handle.h). Knows nothing
 * of options, outputs or conditions. One thread at a time.
 */
#ifndef LUA_VM_H
#define LUA_VM_H

#include "heap.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

struct cache;
struct node;
struct slot;
struct holder;

/* Standard libraries beyond the safe ones (option `allow`). */
#define VM_ALLOW_IO 1u
#define VM_ALLOW_OS 2u
#define VM_ALLOW_DEBUG 4u
#define VM_ALLOW_LOADLIB 8u

#define VM_TEXT 320
#define BYTES_PER_CHARGE 64u /* that are allocated, written or compared */

struct vm_options {
    int64_t memory;       /* bytes a state, and bytes that one call may write into events */
    int64_t instructions; /* a call */
    uint32_t allow;
    bool condition;      /* expressions over events: read only, nil-safe */
    const char *dir;     /* where `require` looks; NULL: nowhere */
    struct cache *cache; /* of weir.cache; NULL: none */
    const struct weir_str *ports;
    uint32_t n_ports;
};

/* Why nothing of the script runs any more until its call is over. Lua code cannot catch it. */
enum vm_stop { VM_GO_ON = 0, VM_STOP_BUDGET, VM_STOP_MEMORY };

struct vm {
    const struct weir_host *h;
    lua_State *L; /* at 1: the message handler; from 2 on what the owner keeps there */
    struct vm_options opt;
    struct heap heap;
    size_t mem_used;
    uint64_t used;    /* instructions and charges of this call */
    uint64_t written; /* bytes that this call put into arenas */
    enum vm_stop stop;
    int hook_step;          /* instructions from one hook of L to the next */
    bool long_texts;        /* the state has, or had, texts with which one instruction takes long */
    int64_t hook_at;        /* when the hook of this call ran last; 0: not yet */
    int64_t cpu_at;         /* what the thread had computed then; 0: nobody asked */
    const struct weir_cpu_extension *cpu; /* NULL: the host cannot tell */
    struct weir_arena *tmp; /* use vm_tmp(); emptied at vm_begin and vm_next */
    bool tmp_used;

    /* The running call; see handle.h. */
    struct weir_batch *b;
    uint64_t generation;
    struct slot *slots;
    uint32_t n_slots, cap_slots;
    struct node *nodes;
    uint32_t n_nodes, cap_nodes;

    struct holder *holders; /* events held across calls; see hold.c */
    uint32_t n_lost;        /* of them, those that the script lost since the last look */
    uint32_t n_modules;
    const char *loading[16]; /* names of modules that are being loaded */
    const char *code; /* why the last vm_call failed: "lua_error", "lua_timeout", "lua_memory" */
    char text[VM_TEXT];
};

/* A state with its libraries. NULL with err. The host may be the one of check(). */
struct vm *vm_new(const struct weir_host *h, const struct vm_options *opt, struct weir_error *err);
void vm_free(struct vm *take_vm);
/* Ends the Lua state alone: held events stay, all of them lost. */
void vm_close_state(struct vm *vm);

static inline struct vm *vm_of(lua_State *L)
{
    return *(struct vm **)lua_getextraspace(L);
}

/* A new call of the host: fresh budgets, no handles. b: NULL where there is no batch. */
void vm_begin(struct vm *vm, struct weir_batch *b);
/* All handles of the call are dead. */
void vm_end(struct vm *vm);
/* The next event inside one call of the host: fresh budgets, and the handles so far are dead. */
void vm_next(struct vm *vm);

static inline struct weir_arena *vm_tmp(struct vm *vm)
{
    vm->tmp_used = true;
    return vm->tmp;
}

/* Calls the function below its n_args, with the message handler. False: vm->code and vm->text say
 * why, and nothing is left on the stack. */
bool vm_call(struct vm *vm, int n_args, int n_results);
/* After an out-of-memory failure: collects garbage. False where the state stays too full to go on.
 */
bool vm_recover(struct vm *vm);
/* What event_fail wants, of the last failure. Good until the next call. */
struct weir_result vm_result(const struct vm *vm);

/* Ends this call of the script for good, whatever it catches. */
_Noreturn void vm_stop(lua_State *L, enum vm_stop why);
/* Counts work of a C function as n instructions. */
void vm_charge(lua_State *L, uint64_t n);
/* The same for work that only its time tells: vm_cpu before it, what that gave to vm_charge_cpu behind it. */
int64_t vm_cpu(lua_State *L);
void vm_charge_cpu(lua_State *L, int64_t since);
/* Counts bytes written into arenas. */
void vm_written(lua_State *L, size_t n);
/* Grows an array of the call; counted against the cap. Raises a Lua error, or returns. */
void *vm_grow(lua_State *L, void *take_p, uint32_t *cap, size_t size);

/* Compiles a text (never bytecode): pushes its function and returns true, or pushes the message.
 * ret_at: bytes read by then, the place of a syntax error; may be NULL. Not protected against
 * memory errors by itself. */
bool vm_load(lua_State *L, struct weir_str text, const char *chunk, size_t *ret_at);

#endif
