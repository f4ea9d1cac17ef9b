/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `lua`: runs the hooks of a script over batches. Options, check, and the calls of the
 * host.
 *
 * A hook that fails fails its events: they leave as they entered, and the state goes on. One that
 * used up its memory is cleared of garbage; where the script itself holds too much, the state is
 * made anew.
 */
#include "condition.h"

#include "cache.h"
#include "handle.h"
#include "hold.h"
#include "output.h"
#include "script.h"

#include <stdio.h>
#include <string.h>

struct lua {
    const struct weir_host *h;
    const struct script_config *cf;
    struct cache *cache;
    struct script script; /* vm NULL: it could not be made anew */
    struct weir_metric *seconds, *memory;
    const struct weir_memory_extension *process; /* its memory; NULL: the host does not count it */
};

/* ---- Options ---- */

static const char *const allow_words[] = {"io", "os", "debug", "loadlib", NULL}; /* VM_ALLOW_* */

static const struct weir_option options[] = {
    {.name = "script",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT | WEIR_OPT_MODULES,
     .offset = offsetof(struct script_config, script),
     .doc = "File with the hooks; `require` finds modules beside it. Either this or `code`.",
     .example = "../scripts/lua/enrich.lua"},
    {.name = "code",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_MULTILINE,
     .offset = offsetof(struct script_config, code),
     .doc = "The hooks themselves, as a block of text. Either this or `script`.",
     .example = "\"function process(event) event.seen = true return event end\""},
    {.name = "config",
     .type = WEIR_OPT_VALUE,
     .offset = offsetof(struct script_config, config),
     .doc = "Any value; the script's init(config) gets it.",
     .example = "{threshold: 10}"},
    {.name = "interval",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct script_config, interval),
     .min = WEIR_NS_PER_MS,
     .max = INT64_C(86400) * WEIR_NS_PER_S,
     .doc = "How often tick() is called; not given: only once, at the end.",
     .example = "1s"},
    {.name = "ports",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct script_config, ports),
     .doc = "Named ways out beside the plain one: a hook returns event, \"port\".",
     .example = "[late, invalid]"},
    {.name = "memory",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_MEMORY,
     .offset = offsetof(struct script_config, memory),
     .def = "64MiB",
     .min = 1 << 20,
     .max = INT64_C(1) << 40,
     .doc = "Most memory of one Lua state (there is one a lane), and most that one call writes, "
            "or takes out of weir.cache.",
     .example = "256MiB"},
    {.name = "instructions",
     .type = WEIR_OPT_INT,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct script_config, instructions),
     .def = "10000000",
     .min = 1000,
     .max = INT64_C(1) << 50,
     .doc = "Most Lua instructions of one call of a hook: an endless loop is an error, not a hang. "
            "Making an object of a table with n fields counts as n * n / 32 of them, and slow ones "
            "by their time: one each 0.25 µs.",
     .example = "50000000"},
    {.name = "cache",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_MEMORY | WEIR_OPT_SHARED,
     .offset = offsetof(struct script_config, cache),
     .def = "16MiB",
     .min = 4096,
     .max = INT64_C(1) << 40,
     .doc = "Bound of weir.cache, which all lanes share; the least used entries go first.",
     .example = "128MiB"},
    {.name = "allow",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_ENUM,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct script_config, allow),
     .choices = allow_words,
     .doc =
         "Libraries beyond the safe ones: io (files), os (commands, environment), debug, loadlib "
         "(package.loadlib). A script with them can block its lane and leave its limits.",
     .example = "[io]"},
};

/* ---- check ---- */

static void check_script(const struct script_config *cf, const struct weir_report *report)
{
    struct script s;
    struct script_error why;
    const char *path = cf->script.len != 0 ? "script" : "code";
    bool run = cf->allow.n == 0; /* what leaves the sandbox does not run in a check */
    if (!script_load(&s, report->host, cf, NULL, run, &why))
        report->error(report, path, why.offset, "%s", why.text);
    else if (run && cf->interval != 0 && !s.has[HOOK_FN_TICK])
        report->error(report, "interval", -1,
                      "there is an interval, but the script defines no tick()");
    else if (run && cf->interval == 0 && s.has[HOOK_FN_TICK])
        report->warning(report, path, -1, "tick() is called only once, at the end: no 'interval'");
    script_done(&s, report->host);
}

static void check(const void *config, const struct weir_report *report)
{
    const struct script_config *cf = config;
    bool script = cf->script.len != 0, code = cf->code.len != 0;
    if (script == code) {
        report->error(report, script ? "code" : "", -1,
                      script
                          ? "'script' and 'code' are both given: keep one of them"
                          : "neither 'script' nor 'code' is given: a file or inline code expected");
        return;
    }
    if (report->size > offsetof(struct weir_report, host) && report->host != NULL)
        check_script(cf, report);
}

static void ports(const struct weir_host *h, const void *config,
                  void (*add)(void *arg, struct weir_str name), void *arg)
{
    (void)h;
    const struct script_config *cf = config;
    const struct weir_str *names = cf->ports.items;
    for (uint32_t i = 0; i < cf->ports.n; i++)
        add(arg, names[i]);
    if (cf->ports.n != 0)
        add(arg, weir_str_n("", 0)); /* the plain way out */
}

static int64_t interval(const struct weir_host *h, const void *config)
{
    (void)h;
    return ((const struct script_config *)config)->interval;
}

/* ---- The state ---- */

static void *make_cache(const struct weir_host *h, const void *config, struct weir_error *err)
{
    struct cache *c = cache_new(h, ((const struct script_config *)config)->cache);
    if (c == NULL)
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for weir.cache");
    return c;
}

static void drop_cache(void *take_cache)
{
    cache_free(take_cache);
}

static enum weir_status start(struct lua *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    struct script_error why;
    if (!script_load(&self->script, h, self->cf, self->cache, true, &why)) {
        script_done(&self->script, h);
        return h->error(err, WEIR_E_CONFIG, "lua_script", "%s", why.text);
    }
    if (script_init(&self->script, self->cf))
        return WEIR_OK;
    enum weir_status status = h->error(err, WEIR_E_CONFIG, self->script.vm->code,
                                       "init(config) failed: %s", self->script.vm->text);
    script_done(&self->script, h);
    return status;
}

static void close_instance(void *take_self)
{
    struct lua *self = take_self;
    if (self == NULL)
        return;
    struct vm *vm = self->script.vm;
    if (vm != NULL && self->script.has[HOOK_FN_SHUTDOWN]) {
        vm_begin(vm, NULL);
        script_push(&self->script, HOOK_FN_SHUTDOWN);
        if (!vm_call(vm, 0, 0)) {
            struct weir_kv kv = weir_kv_text("reason", vm->text);
            self->h->log(self->h, WEIR_LOG_WARN, "shutdown() failed", &kv, 1);
        }
    }
    script_done(&self->script, self->h);
    self->h->free(self);
}

static enum weir_status open_instance(const struct weir_host *h, const void *config,
                                      void **ret_self, struct weir_error *err)
{
    struct lua *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the lua transform");
    self->h = h;
    self->cf = config;
    self->process = h->extension(h, WEIR_MEMORY_EXTENSION);
    self->cache = h->shared(h, make_cache, drop_cache, err);
    enum weir_status status = self->cache != NULL ? start(self, err) : WEIR_E_NOMEM;
    if (status != WEIR_OK) {
        h->free(self);
        return status;
    }
    char lane[16];
    (void)snprintf(lane, sizeof(lane), "%u", h->index);
    const char *labels[] = {"lane", lane, NULL};
    self->seconds = h->histogram(h, "lua_seconds", "Time in Lua hooks, by batch.", NULL);
    self->memory = h->gauge(h, "lua_memory_bytes", "Memory of a Lua state.", labels);
    *ret_self = self;
    return WEIR_OK;
}

/* The script holds more than its limit leaves room for: a new state, and what it held has failed.
 */
static bool start_anew(struct lua *self, struct weir_batch *b)
{
    const struct weir_host *h = self->h;
    struct weir_error err = {0};
    struct vm *vm = self->script.vm;
    vm_close_state(vm);
    hold_fail(vm, b, true);
    script_done(&self->script, h);
    if (start(self, &err) != WEIR_OK) {
        struct weir_kv kv = weir_kv_text("reason", err.text);
        h->log(h, WEIR_LOG_ERROR, "the Lua state cannot be made anew", &kv, 1);
        return false;
    }
    h->log(h, WEIR_LOG_WARN, "the Lua state was full and has been made anew", NULL, 0);
    return true;
}

/* After a failed call. False: there is no state any more. */
static bool mend(struct lua *self, struct weir_batch *b)
{
    struct vm *vm = self->script.vm;
    if (strcmp(vm->code, "lua_memory") != 0 || vm_recover(vm))
        return true;
    return start_anew(self, b);
}

/* ---- Calls of hooks ---- */

struct read_call {
    enum hook_mode mode;
    struct outputs outputs;
};

/* Protected: the results of a hook and a struct read_call. */
static int read_results(lua_State *L)
{
    struct read_call *call = lua_touserdata(L, 3);
    lua_settop(L, 2);
    outputs_read(L, call->mode, &call->outputs);
    return 0;
}

static const struct weir_result *no_memory(void)
{
    static const struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                                         .code = "no_memory",
                                         .message = {"no memory for the outputs of a hook", 35}};
    return &r;
}

/* Two results are on the stack: takes them, and does with the events of the call what they say. */
static bool take_results(struct vm *vm, enum hook_mode mode)
{
    struct read_call call = {.mode = mode};
    lua_pushcfunction(vm->L, read_results);
    lua_insert(vm->L, -3);
    lua_pushlightuserdata(vm->L, &call);
    if (!vm_call(vm, 3, 0))
        return false;
    if (!outputs_apply(vm, mode, &call.outputs))
        outputs_fail(vm, no_memory());
    return true;
}

/* The common answers, without a second call: the event itself, or nothing; where no other event took part. */
static bool take_simple(struct vm *vm, const void *handle)
{
    lua_State *L = vm->L;
    struct slot *s = &vm->slots[0];
    if (!lua_isnil(L, -1) || s->wish != WISH_NONE || vm->n_slots != 1)
        return false;
    if (!lua_toboolean(L, -2))
        vm->h->event_drop(vm->h, vm->b, slot_event(vm, s), NULL);
    else if (lua_touserdata(L, -2) != handle)
        return false;
    lua_pop(L, 2);
    return true;
}

static bool process_one(struct lua *self, uint32_t i)
{
    struct vm *vm = self->script.vm;
    lua_State *L = vm->L;
    vm_next(vm);
    script_push(&self->script, HOOK_FN_PROCESS);
    uint32_t slot = slot_add(L, i, NULL); /* room for the first one is always there */
    handle_push(L, HANDLE_VALUE, vm->slots[slot].first_node);
    const void *handle = lua_touserdata(L, -1);
    handle_push(L, HANDLE_META, slot);
    bool ok = vm_call(vm, 2, 2);
    if ((weir_event_at(vm->b, i)->flags & WEIR_EVENT_GONE) != 0) { /* it is not JSON, and failed */
        hold_cancel(vm, slot);
        lua_settop(L, 1 + SCRIPT_HOOKS);
        return true;
    }
    return ok && (take_simple(vm, handle) || take_results(vm, HOOK_PROCESS));
}

static void run_process(struct lua *self, struct weir_batch *b)
{
    static const struct weir_result gone = {
        .verdict = WEIR_VERDICT_REJECTED,
        .code = "lua_memory",
        .message = {"the Lua state used up its memory and could not be made anew", 59}};
    uint32_t n = b->n_events;
    vm_begin(self->script.vm, b);
    for (uint32_t i = 0; i < n; i++) {
        if ((weir_event_at(b, i)->flags & WEIR_EVENT_GONE) != 0)
            continue;
        if (self->script.vm == NULL) {
            self->h->event_fail(self->h, b, weir_event_at(b, i), &gone);
            continue;
        }
        if (process_one(self, i))
            continue;
        struct weir_result r = vm_result(self->script.vm);
        outputs_fail(self->script.vm, &r);
        if (mend(self, b) && self->script.vm->b == NULL)
            vm_begin(self->script.vm, b); /* a new one */
    }
}

/* Protected: process_batch and the batch's size. Leaves the results of the hook. */
static int call_batch(lua_State *L)
{
    struct vm *vm = vm_of(L);
    uint32_t n = vm->b->n_events;
    lua_Integer at = 0;
    lua_settop(L, 1);
    lua_createtable(L, n < (1u << 24) ? (int)n : 0, 0);
    for (uint32_t i = 0; i < n; i++) {
        if ((weir_event_at(vm->b, i)->flags & WEIR_EVENT_GONE) != 0)
            continue;
        uint32_t slot = slot_add(L, i, NULL);
        handle_push(L, HANDLE_VALUE, vm->slots[slot].first_node);
        lua_rawseti(L, 2, ++at);
    }
    lua_call(L, 1, 2);
    return 2;
}

/* Events that are not JSON fail alone, not with their whole batch. */
static void parse_all(const struct weir_host *h, struct weir_batch *b)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if ((ev->flags & (WEIR_EVENT_GONE | WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) == 0)
            (void)h->event_value(h, b, ev);
    }
}

/* Where a call failed before it had made slots for all of them. */
static void fail_all(struct lua *self, struct weir_batch *b, uint32_t n,
                     const struct weir_result *r)
{
    outputs_fail(self->script.vm, r);
    for (uint32_t i = 0; i < n; i++)
        self->h->event_fail(self->h, b, weir_event_at(b, i), r);
}

static void run_batch(struct lua *self, struct weir_batch *b)
{
    struct vm *vm = self->script.vm;
    uint32_t n = b->n_events;
    parse_all(self->h, b);
    vm_begin(vm, b);
    lua_pushcfunction(vm->L, call_batch);
    script_push(&self->script, HOOK_FN_BATCH);
    if (vm_call(vm, 1, 2) && take_results(vm, HOOK_BATCH))
        return;
    struct weir_result r = vm_result(vm);
    fail_all(self, b, n, &r);
    (void)mend(self, b);
}

/* The first lane tells of the cache, which all of them share. */
static void tell_memory(struct lua *self, const struct vm *vm)
{
    const struct weir_host *h = self->h;
    h->metric_set(self->memory, (double)vm->mem_used);
    if (self->process != NULL)
        self->process->report(h, "lua",
                              vm->heap.taken + (h->index == 0 ? cache_used(self->cache) : 0));
}

static enum weir_status apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                              struct weir_error *err)
{
    struct lua *self = self_arg;
    const struct weir_host *h = self->h;
    int64_t begin = h->now(h);
    (void)ret_again_ns;
    if (self->script.vm == NULL && start(self, err) != WEIR_OK)
        return WEIR_E_RETRY;
    if (self->script.has[HOOK_FN_BATCH])
        run_batch(self, b);
    else if (self->script.has[HOOK_FN_PROCESS])
        run_process(self, b);
    struct vm *vm = self->script.vm;
    if (vm != NULL) {
        vm_end(vm);
        hold_fail(vm, b, false);
        tell_memory(self, vm);
    }
    h->metric_observe(self->seconds, (double)(h->now(h) - begin) / 1e9);
    return WEIR_OK;
}

static enum weir_status run_tick(struct lua *self, struct weir_batch *b, bool final,
                                 struct weir_error *err)
{
    struct vm *vm = self->script.vm;
    vm_begin(vm, b);
    script_push(&self->script, HOOK_FN_TICK);
    lua_pushboolean(vm->L, final);
    if (vm_call(vm, 1, 2) && take_results(vm, HOOK_TICK)) {
        vm_end(vm);
        return WEIR_OK;
    }
    enum weir_status status =
        self->h->error(err, WEIR_E_REJECTED, vm->code, "tick() failed: %s", vm->text);
    vm_end(vm);
    (void)mend(self, b);
    return status;
}

static enum weir_status tick(void *self_arg, struct weir_batch *b, bool final,
                             struct weir_error *err)
{
    struct lua *self = self_arg;
    enum weir_status status = WEIR_OK;
    if (self->script.vm == NULL)
        return final ? WEIR_OK : start(self, err);
    if (self->script.has[HOOK_FN_TICK])
        status = run_tick(self, b, final, err);
    if (self->script.vm != NULL)
        hold_fail(self->script.vm, b, final);
    return status;
}

static const struct weir_transform calls = {.size = sizeof(calls), .apply = apply, .tick = tick};

const struct weir_type script_type = {
    .size = sizeof(script_type),
    .kind = WEIR_TRANSFORM,
    .name = "lua",
    .summary = "Changes, splits, joins, routes and drops events by Lua hooks.",
    .doc =
        "Hooks are global functions of the script: `init(config)`, `process(event, meta)` or "
        "`process_batch(events)`, `tick(final)`, `shutdown()`. A hook that raises an error fails "
        "its events: they go to `on_error` as they entered. See plugins/lua/README.md.",
    .options = WEIR_OPTIONS(options, struct script_config),
    .transform = &calls,
    .check = check,
    .ports = ports,
    .interval = interval,
    .open = open_instance,
    .close = close_instance,
};
