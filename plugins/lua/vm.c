/* SPDX-License-Identifier: Apache-2.0
 *
 * One Lua state under limits; see vm.h.
 *
 * The budget: a count hook adds up instructions, the allocator and long-running C functions add
 * charges. An instruction can take long all the same, one that compares two texts of megabytes say: where
 * instructions are slow, the quarters of a microsecond that they compute are counted in their place. When the
 * budget is used up the hook raises an error at every further instruction, and what could catch errors
 * (sandbox.c: pcall, xpcall, coroutine.resume, coroutine.close, load) raises it again, so that nothing of the
 * script runs on.
 */
#include "vm.h"

#include "api.h"
#include "handle.h"
#include "hold.h"
#include "sandbox.h"

#include <stdio.h>
#include <string.h>
#include <text.h>

#define HOOK_STEP 1000
#define HOOK_STEP_SLOW 50
#define NS_PER_CHARGE 250 /* an instruction takes some 10 */
#define LONG_TEXT ((size_t)1 << 20)
#define LARGE_BLOCK ((size_t)256 << 10)
#define TRACE_LEVELS 6

/* ---- Memory ---- */

static void on_count(lua_State *L, lua_Debug *ar);

static void set_step(struct vm *vm, int step)
{
    vm->hook_step = step;
    lua_sethook(vm->L, on_count, LUA_MASKCOUNT, step);
}

/* From now on an instruction may take milliseconds. */
static void look_closely(struct vm *vm)
{
    vm->long_texts = true;
    if (vm->L != NULL && vm->hook_step == HOOK_STEP)
        set_step(vm, HOOK_STEP_SLOW);
}

static int64_t thread_cpu(const struct vm *vm)
{
    return vm->cpu != NULL ? vm->cpu->thread(vm->h) : 0;
}

static void count_cpu(struct vm *vm, int64_t since, int64_t now)
{
    if (since != 0 && now > since)
        vm->used += (uint64_t)(now - since) / NS_PER_CHARGE;
}

/* Lua's own loops run no hook: a table that is its own __call moves a stack that grows, again and again. What
 * happens between two growths of something large counts by its time. */
static bool has_time(struct vm *vm)
{
    int64_t cpu = thread_cpu(vm);
    count_cpu(vm, vm->cpu_at, cpu);
    vm->cpu_at = cpu;
    if (vm->used <= (uint64_t)vm->opt.instructions || vm->L == NULL)
        return true;
    vm->stop = VM_STOP_BUDGET;
    set_step(vm, 1);
    return false;
}

static void *vm_realloc(void *ud, void *p, size_t old_size, size_t size)
{
    struct vm *vm = ud;
    size_t before = p != NULL ? old_size : 0; /* else it is a type tag */
    if (size == 0) {
        heap_free(&vm->heap, p, before);
        vm->mem_used -= before;
        return NULL;
    }
    if (size > before && vm->mem_used + (size - before) > (size_t)vm->opt.memory)
        return NULL;
    if (size > before && size >= LARGE_BLOCK && !has_time(vm))
        return NULL;
    void *grown = heap_realloc(&vm->heap, p, before, size);
    if (grown == NULL && size > before) {
        if (!heap_trim(&vm->heap) || (grown = heap_realloc(&vm->heap, p, before, size)) == NULL)
            return NULL;
    }
    if (grown == NULL)
        grown = p; /* Lua counts on it that shrinking cannot fail */
    vm->mem_used += size;
    vm->mem_used -= before;
    vm->used += size / BYTES_PER_CHARGE;
    if (size >= LONG_TEXT && p == NULL && old_size == LUA_TSTRING)
        look_closely(vm);
    return grown;
}

void *vm_grow(lua_State *L, void *take_p, uint32_t *cap, size_t size)
{
    struct vm *vm = vm_of(L);
    uint32_t more = *cap != 0 ? *cap * 2 : 64;
    void *grown = vm_realloc(vm, take_p, *cap * size, more * size);
    if (grown == NULL)
        vm_stop(L, VM_STOP_MEMORY);
    *cap = more;
    return grown;
}

bool vm_recover(struct vm *vm)
{
    lua_gc(vm->L, LUA_GCCOLLECT);
    (void)heap_trim(&vm->heap);
    return vm->heap.taken <= (size_t)vm->opt.memory / 4 * 3;
}

/* ---- Budget ---- */

int64_t vm_cpu(lua_State *L)
{
    return thread_cpu(vm_of(L));
}

/* The processor's time costs a system call, and so is asked for only where the clock says that instructions
 * may be slow, from the second look on; it does not count what others computed meanwhile. */
static void count_time(lua_State *L, struct vm *vm, int step)
{
    int64_t now = vm->h->now(vm->h), took = vm->hook_at != 0 ? now - vm->hook_at : 0;
    vm->hook_at = now;
    if (took < (int64_t)step * NS_PER_CHARGE && !vm->long_texts) {
        vm->cpu_at = 0;
        return;
    }
    int64_t cpu = thread_cpu(vm);
    count_cpu(vm, vm->cpu_at, cpu);
    vm->cpu_at = cpu;
    if (step == HOOK_STEP)
        lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_STEP_SLOW);
    if (step == HOOK_STEP && L == vm->L)
        vm->hook_step = HOOK_STEP_SLOW;
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    struct vm *vm = vm_of(L);
    int step = lua_gethookcount(L);
    (void)ar;
    if (vm->stop != VM_GO_ON)
        vm_stop(L, vm->stop);
    vm->used += (uint64_t)step;
    if (step == 1) /* left over from a call that was stopped */
        lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_STEP);
    else
        count_time(L, vm, step);
    if (vm->used > (uint64_t)vm->opt.instructions)
        vm_stop(L, VM_STOP_BUDGET);
}

/* "script.lua:12: " of the innermost Lua function. */
static void push_place(lua_State *L)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar) != 0; level++) {
        if (lua_getinfo(L, "Sl", &ar) != 0 && ar.currentline > 0) {
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

static void used_up(const struct vm *vm, enum vm_stop why, char ret[VM_TEXT])
{
    if (why == VM_STOP_BUDGET)
        (void)snprintf(ret, VM_TEXT,
                       "the budget of %lld instructions for one call is used up: an endless loop? "
                       "(option 'instructions')",
                       (long long)vm->opt.instructions);
    else
        (void)snprintf(ret, VM_TEXT, "the memory limit of %lld bytes is reached (option 'memory')",
                       (long long)vm->opt.memory);
}

_Noreturn void vm_stop(lua_State *L, enum vm_stop why)
{
    struct vm *vm = vm_of(L);
    char text[VM_TEXT];
    vm->stop = why;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    set_step(vm, 1);
    used_up(vm, why, text);
    push_place(L);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    (void)lua_error(L);
    for (;;) /* lua_error does not return, and does not say so */
        continue;
}

void vm_charge(lua_State *L, uint64_t n)
{
    struct vm *vm = vm_of(L);
    vm->used += n;
    if (vm->used > (uint64_t)vm->opt.instructions)
        vm_stop(L, VM_STOP_BUDGET);
}

void vm_charge_cpu(lua_State *L, int64_t since)
{
    count_cpu(vm_of(L), since, vm_cpu(L));
    vm_charge(L, 0);
}

void vm_written(lua_State *L, size_t n)
{
    struct vm *vm = vm_of(L);
    vm->written += n;
    vm->used += n / BYTES_PER_CHARGE;
    if (vm->written > (uint64_t)vm->opt.memory)
        vm_stop(L, VM_STOP_MEMORY);
}

/* ---- Failures ---- */

static void add_text(struct vm *vm, size_t *at, const char *s, size_t len)
{
    size_t room = sizeof(vm->text) - 1 - *at;
    size_t n = len < room ? len : room;
    for (size_t i = 0; i < n; i++)
        vm->text[*at + i] = s[i] != '\0' ? s[i] : ' ';
    *at += n;
    vm->text[*at] = '\0';
}

/* What the error object says, without calling anything of the script. */
static void add_message(struct vm *vm, lua_State *L, size_t *at)
{
    char number[64];
    int n = 0;
    size_t len;
    const char *s;
    switch (lua_type(L, 1)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, 1, &len);
        add_text(vm, at, s, utf8_cut(s, len, VM_TEXT - 90));
        return;
    case LUA_TNUMBER:
        n = lua_isinteger(L, 1) != 0
                ? snprintf(number, sizeof(number), "%lld", (long long)lua_tointeger(L, 1))
                : snprintf(number, sizeof(number), "%.14g", lua_tonumber(L, 1));
        break;
    default:
        n = snprintf(number, sizeof(number), "the error object is a %s value", luaL_typename(L, 1));
    }
    add_text(vm, at, number, (size_t)n);
}

/* The callers: "(called from a.lua:12, a.lua:30)". The place of the error itself is in its message.
 */
static void add_trace(struct vm *vm, lua_State *L, size_t *at)
{
    lua_Debug ar;
    int shown = 0;
    for (int level = 1, n = 0; n < TRACE_LEVELS && lua_getstack(L, level, &ar) != 0; level++) {
        if (lua_getinfo(L, "Sl", &ar) == 0 || ar.currentline <= 0)
            continue;
        char place[LUA_IDSIZE + 16];
        int len = snprintf(place, sizeof(place), "%s:%d", ar.short_src, ar.currentline);
        if (n++ == 0 && strncmp(vm->text, place, (size_t)len) == 0 && vm->text[len] == ':')
            continue;
        add_text(vm, at, shown == 0 ? " (called from " : ", ", shown == 0 ? 14 : 2);
        add_text(vm, at, place, (size_t)len);
        shown++;
    }
    if (shown > 0)
        add_text(vm, at, ")", 1);
}

static int on_error(lua_State *L)
{
    struct vm *vm = vm_of(L);
    size_t at = 0;
    add_message(vm, L, &at);
    add_trace(vm, L, &at);
    return 1;
}

static void set_text(struct vm *vm, const char *text)
{
    size_t at = 0;
    vm->text[0] = '\0';
    add_text(vm, &at, text, strlen(text));
}

static void explain(struct vm *vm, int status)
{
    vm->code = "lua_error";
    if (status == LUA_ERRERR)
        set_text(vm, "an error in the handling of an error (stack overflow?)");
    if (status == LUA_ERRMEM || vm->stop == VM_STOP_MEMORY)
        vm->code = "lua_memory";
    if (status == LUA_ERRMEM)
        used_up(vm, vm->stop == VM_STOP_BUDGET ? VM_STOP_BUDGET : VM_STOP_MEMORY, vm->text);
    if (vm->stop == VM_STOP_BUDGET)
        vm->code = "lua_timeout";
}

bool vm_call(struct vm *vm, int n_args, int n_results)
{
    int status = lua_pcall(vm->L, n_args, n_results, 1);
    if (status == LUA_OK)
        return true;
    explain(vm, status);
    lua_pop(vm->L, 1);
    return false;
}

struct weir_result vm_result(const struct vm *vm)
{
    return (struct weir_result){
        .verdict = WEIR_VERDICT_REJECTED, .code = vm->code, .message = weir_cstr(vm->text)};
}

/* ---- Calls ---- */

void vm_next(struct vm *vm)
{
    vm->used = 0;
    vm->written = 0;
    vm->hook_at = 0;
    vm->cpu_at = 0;
    vm->long_texts = vm->long_texts && vm->mem_used >= LONG_TEXT;
    int step = vm->long_texts ? HOOK_STEP_SLOW : HOOK_STEP;
    if (vm->hook_step != step) {
        vm->stop = VM_GO_ON;
        set_step(vm, step);
    }
    if (vm->tmp_used) {
        vm->h->arena_clear(vm->tmp);
        vm->tmp_used = false;
    }
    handles_clear(vm);
}

void vm_begin(struct vm *vm, struct weir_batch *b)
{
    vm->b = b;
    vm_next(vm);
}

void vm_end(struct vm *vm)
{
    vm->b = NULL;
    handles_clear(vm);
}

/* ---- Loading ---- */

struct reader {
    struct weir_str text;
    size_t at;
};

/* A byte at a time, so that the lexer's place is known when it stops. */
static const char *read_byte(lua_State *L, void *arg, size_t *ret_len)
{
    struct reader *r = arg;
    (void)L;
    *ret_len = r->at < r->text.len ? 1 : 0;
    return *ret_len != 0 ? r->text.ptr + r->at++ : NULL;
}

bool vm_load(lua_State *L, struct weir_str text, const char *chunk, size_t *ret_at)
{
    struct reader r = {text, 0};
    int status = lua_load(L, read_byte, &r, chunk, "t");
    if (ret_at != NULL)
        *ret_at = r.at;
    if (status == LUA_ERRMEM)
        (void)lua_error(L);
    return status == LUA_OK;
}

/* ---- A state ---- */

static int set_up(lua_State *L)
{
    sandbox_open(L);
    handles_open(L);
    hold_open(L);
    api_open(L);
    (void)slot_add(L, 0, NULL); /* so that adding the first one never fails */
    return 0;
}

struct vm *vm_new(const struct weir_host *h, const struct vm_options *opt, struct weir_error *err)
{
    struct vm *vm = h->alloc(sizeof(*vm));
    if (vm == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for a Lua state");
        return NULL;
    }
    vm->h = h;
    vm->opt = *opt;
    vm->cpu = h->extension != NULL ? h->extension(h, WEIR_CPU_EXTENSION) : NULL;
    vm->heap = (struct heap){.h = h, .limit = (size_t)opt->memory};
    vm->generation = 1;
    vm->tmp = h->arena_new(h);
    vm->L = vm->tmp != NULL && heap_init(&vm->heap) ? lua_newstate(vm_realloc, vm) : NULL;
    if (vm->L == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "lua_memory", "no memory for a Lua state");
        vm_free(vm);
        return NULL;
    }
    *(struct vm **)lua_getextraspace(vm->L) = vm;
    lua_pushcfunction(vm->L, on_error);
    lua_pushcfunction(vm->L, set_up);
    if (!vm_call(vm, 0, 0)) {
        (void)h->error(err, WEIR_E_NOMEM, vm->code, "cannot make a Lua state: %s", vm->text);
        vm_free(vm);
        return NULL;
    }
    set_step(vm, HOOK_STEP);
    return vm;
}

void vm_close_state(struct vm *vm)
{
    if (vm->L != NULL)
        lua_close(vm->L);
    vm->L = NULL;
}

void vm_free(struct vm *take_vm)
{
    if (take_vm == NULL)
        return;
    const struct weir_host *h = take_vm->h;
    vm_close_state(take_vm);
    heap_free(&take_vm->heap, take_vm->slots, take_vm->cap_slots * sizeof(struct slot));
    heap_free(&take_vm->heap, take_vm->nodes, take_vm->cap_nodes * sizeof(struct node));
    heap_done(&take_vm->heap);
    hold_free(take_vm);
    h->arena_free(take_vm->tmp);
    h->free(take_vm);
}
