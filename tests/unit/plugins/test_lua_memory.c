/* SPDX-License-Identifier: Apache-2.0
 *
 * The lua plugin when memory runs out: the n-th thing that needs memory fails, for each n, until a run
 * gets through; Lua's own allocations as well, for which the program stands between Lua and the plugin's
 * allocator. No event may be lost or end twice, and nothing may leak or crash.
 */
#include <base/str.h>
#include <dlfcn.h>
#include <engine/host.h>
#include <lua.h>
#include <model/batch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weir/plugin.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define EVENTS 6
#define BATCHES 4
#define PATH_SIZE 64

struct weir_held {
    struct weir_event ev;
};

struct fake {
    struct weir_host host; /* first */
    const struct weir_type *type;
    void *config;
    void *self;
    void *object; /* of shared() */
    void (*destroy)(void *take_shared);
    uint32_t calls, fail_at; /* the fail_at-th call for memory fails, and so do the next `run` - 1 */
    uint32_t run;
    bool lua_too;    /* Lua's own allocations count */
    uint32_t n_live; /* blocks of memory that the plugin has */
    uint32_t n_failed;
    struct wr_batch *batches[BATCHES];
    uint32_t n_batches;
    int ends[EVENTS]; /* how often event i ended: passed on, dropped or failed */
    bool failed[EVENTS];
    int made;         /* children and joins that passed on */
    int held;
};

static struct fake *now;

static bool no_memory(void)
{
    uint32_t call = ++now->calls;
    return call >= now->fail_at && call < now->fail_at + now->run;
}

/* ---- Memory ---- */

static void *take(size_t size)
{
    now->n_live++;
    return wr_host_control()->alloc(size);
}

static void *fake_alloc(size_t size)
{
    return no_memory() ? NULL : take(size);
}

static void *fake_realloc(void *p, size_t size)
{
    if (no_memory())
        return NULL;
    now->n_live += p == NULL;
    return wr_host_control()->realloc(p, size);
}

static void fake_free(void *p)
{
    now->n_live -= p != NULL;
    wr_host_control()->free(p);
}

static void *fake_arena_alloc(struct weir_arena *a, size_t size)
{
    return no_memory() ? NULL : wr_arena_alloc(a, size);
}

static struct weir_str fake_arena_copy(struct weir_arena *a, struct weir_str s)
{
    return no_memory() ? weir_str_n(NULL, 0) : wr_arena_copy(a, s);
}

static struct weir_arena *fake_arena_new(const struct weir_host *h)
{
    return no_memory() ? NULL : wr_host_control()->arena_new(h);
}

static struct weir_value *fake_make_str(struct weir_arena *a, struct weir_str s)
{
    return no_memory() ? NULL : wr_make_str(a, s);
}

static struct weir_value *fake_make_object(struct weir_arena *a)
{
    return no_memory() ? NULL : wr_make_object(a);
}

static struct weir_value *fake_make_copy(struct weir_arena *a, const struct weir_value *v)
{
    return no_memory() ? NULL : wr_make_copy(a, v);
}

static bool fake_object_set(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                            struct weir_value *take_v)
{
    return !no_memory() && wr_object_set(a, obj, key, take_v);
}

static bool fake_array_append(struct weir_arena *a, struct weir_value *arr,
                              struct weir_value *take_v)
{
    return !no_memory() && wr_array_append(a, arr, take_v);
}

static struct weir_str fake_value_write(struct weir_arena *a, const struct weir_value *v)
{
    return no_memory() ? weir_str_n(NULL, 0) : wr_value_write(a, v);
}

static const struct weir_value *fake_value_parse(struct weir_arena *a, struct weir_str text,
                                                 struct weir_error *err)
{
    return no_memory() ? NULL : wr_value_parse(a, text, err);
}

/* ---- Lua's memory ---- */

static lua_State *(*true_newstate)(lua_Alloc alloc, void *ud);
static lua_Alloc plugin_alloc;

/* Lua counts on it that shrinking cannot fail. */
static void *lua_alloc(void *ud, void *p, size_t before, size_t size)
{
    bool grows = size > (p != NULL ? before : 0);
    return now->lua_too && grows && no_memory() ? NULL : plugin_alloc(ud, p, before, size);
}

__attribute__((visibility("default"))) LUA_API lua_State *lua_newstate(lua_Alloc alloc, void *ud)
{
    plugin_alloc = alloc;
    return true_newstate(lua_alloc, ud);
}

/* ---- Events ---- */

static void end(struct weir_event *ev)
{
    ev->flags |= WEIR_EVENT_GONE;
    if (ev->position >= 0)
        now->ends[ev->position]++;
}

static void fake_drop(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                      const char *reason)
{
    (void)h;
    (void)b;
    (void)reason;
    if ((ev->flags & WEIR_EVENT_GONE) == 0)
        end(ev);
}

static void fake_fail(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                      const struct weir_result *r)
{
    (void)h;
    assert_non_null(r->code);
    assert_true(r->message.len > 0);
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return;
    wr_event_restore(wr_batch_of(b), ev);
    assert_memory_equal(ev->payload.ptr, "{\"n\":", 5);
    now->n_failed++;
    if (ev->position >= 0)
        now->failed[ev->position] = true;
    end(ev);
}

static const struct weir_result could_not = {
    .verdict = WEIR_VERDICT_REJECTED, .code = "no_memory", .message = {"none", 4}};

static const struct weir_value *fake_value(const struct weir_host *h, struct weir_batch *b,
                                           struct weir_event *ev)
{
    const struct weir_value *v = no_memory() ? NULL : wr_event_value(wr_batch_of(b), ev, NULL);
    if (v == NULL)
        fake_fail(h, b, ev, &could_not);
    return v;
}

static struct weir_value *fake_edit(const struct weir_host *h, struct weir_batch *b,
                                    struct weir_event *ev)
{
    struct weir_value *v = no_memory() ? NULL : wr_event_edit(wr_batch_of(b), ev, NULL);
    if (v == NULL)
        fake_fail(h, b, ev, &could_not);
    return v;
}

static void fake_set_value(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                           const struct weir_value *v)
{
    if (no_memory() || !wr_event_set_value(wr_batch_of(b), ev, v))
        fake_fail(h, b, ev, &could_not);
}

static bool fake_set_key(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                         struct weir_str key)
{
    (void)h;
    return !no_memory() && wr_event_set_key(wr_batch_of(b), ev, key);
}

static bool fake_set_header(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                            struct weir_str name, struct weir_str value)
{
    (void)h;
    return !no_memory() && wr_event_set_header(wr_batch_of(b), ev, name, value);
}

static struct weir_str fake_id(const struct weir_host *h, struct weir_batch *b,
                               struct weir_event *ev)
{
    (void)h;
    return no_memory() ? ev->id : wr_event_id(wr_batch_of(b), ev, wr_clock_system());
}

static uint32_t append(struct weir_batch *b, const struct weir_event *ev)
{
    if (no_memory())
        return UINT32_MAX;
    assert_non_null(wr_batch_append(wr_batch_of(b), ev));
    return b->n_events - 1;
}

/* The place of event i in the children's. */
static int64_t child_of(uint32_t i)
{
    return -2 - (int64_t)i;
}

static uint32_t fake_derive(const struct weir_host *h, struct weir_batch *b, uint32_t parent)
{
    (void)h;
    struct weir_event copy = *weir_event_at(b, parent);
    copy.position = child_of((uint32_t)copy.position);
    copy.flags &= ~WEIR_EVENT_GONE;
    return append(b, &copy);
}

static uint32_t fake_join(const struct weir_host *h, struct weir_batch *b, const uint32_t *parents,
                          uint32_t n, struct weir_held *const *held, uint32_t n_held)
{
    (void)h;
    for (uint32_t i = 0; i < n; i++)
        assert_true(parents[i] < b->n_events);
    for (uint32_t i = 0; i < n_held; i++)
        assert_non_null(held[i]->ev.payload.ptr);
    return append(b, &(struct weir_event){.payload = weir_cstr("{\"n\":0}"), .position = -1});
}

static struct weir_held *fake_hold(const struct weir_host *h, struct weir_batch *b,
                                   struct weir_event *ev)
{
    assert_true((ev->flags & WEIR_EVENT_GONE) == 0);
    if (no_memory()) {
        fake_fail(h, b, ev, &could_not);
        return NULL;
    }
    struct weir_held *held = take(sizeof(*held));
    held->ev = *ev;
    ev->flags |= WEIR_EVENT_GONE;
    now->held++;
    return held;
}

static uint32_t fake_release(const struct weir_host *h, struct weir_batch *b,
                             struct weir_held *take_held)
{
    uint32_t i = append(b, &take_held->ev);
    if (i == UINT32_MAX)
        return i;
    h->free(take_held);
    now->held--;
    return i;
}

static void fake_held_drop(const struct weir_host *h, struct weir_held *take_held)
{
    end(&take_held->ev);
    h->free(take_held);
    now->held--;
}

static const struct weir_event *fake_held_event(const struct weir_held *held)
{
    return &held->ev;
}

static struct weir_metric *no_metric(const struct weir_host *h, const char *name, const char *help,
                                     const char *const *labels)
{
    (void)h;
    (void)name;
    (void)help;
    (void)labels;
    return NULL;
}

static void no_set(struct weir_metric *m, double v)
{
    (void)m;
    (void)v;
}

static void *fake_shared(const struct weir_host *h,
                         void *(*create)(const struct weir_host *h, const void *config,
                                         struct weir_error *err),
                         void (*destroy)(void *take_shared), struct weir_error *err)
{
    now->object = create(h, now->config, err);
    now->destroy = destroy;
    return now->object;
}

/* ---- One run ---- */

static void set_option(struct fake *f, const char *name, const void *value, size_t size)
{
    for (uint32_t i = 0; i < f->type->options.n; i++) {
        const struct weir_option *o = &f->type->options.items[i];
        if (strcmp(o->name, name) == 0)
            memcpy((char *)f->config + o->offset, value, size);
    }
}

/* `code`: the hooks; or, where it begins with /, the path of a file with them. */
static void set_up(struct fake *f, const struct weir_plugin *plugin, const char *code)
{
    int64_t memory = 8 << 20, instructions = 1000000, cache = 1 << 16;
    struct weir_str text = weir_cstr(code);
    *f = (struct fake){.type = plugin->types[0], .run = 1};
    struct weir_host *h = &f->host;
    *h = *wr_host_control();
    h->count = 1;
    h->alloc = fake_alloc;
    h->realloc = fake_realloc;
    h->free = fake_free;
    h->arena_alloc = fake_arena_alloc;
    h->arena_copy = fake_arena_copy;
    h->arena_new = fake_arena_new;
    h->make_str = fake_make_str;
    h->make_object = fake_make_object;
    h->make_copy = fake_make_copy;
    h->object_set = fake_object_set;
    h->array_append = fake_array_append;
    h->value_write = fake_value_write;
    h->value_parse = fake_value_parse;
    h->event_value = fake_value;
    h->event_edit = fake_edit;
    h->event_set_value = fake_set_value;
    h->event_set_key = fake_set_key;
    h->event_set_header = fake_set_header;
    h->event_id = fake_id;
    h->event_drop = fake_drop;
    h->event_fail = fake_fail;
    h->event_derive = fake_derive;
    h->event_join = fake_join;
    h->event_hold = fake_hold;
    h->held_release = fake_release;
    h->held_drop = fake_held_drop;
    h->held_event = fake_held_event;
    h->counter = h->gauge = h->histogram = no_metric;
    h->metric_set = h->metric_observe = no_set;
    h->shared = fake_shared;
    f->config = calloc(1, f->type->options.config_size);
    set_option(f, code[0] == '/' ? "script" : "code", &text, sizeof(text));
    set_option(f, "memory", &memory, sizeof(memory));
    set_option(f, "instructions", &instructions, sizeof(instructions));
    set_option(f, "cache", &cache, sizeof(cache));
}

static struct wr_batch *new_batch(struct fake *f)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 8);
    wr_body_unref(body);
    f->batches[f->n_batches++] = b;
    b->seal = f->n_batches;
    return b;
}

/* What is left in the batch goes on. */
static void pass_on(struct fake *f, struct wr_batch *b)
{
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        const struct weir_event *ev = weir_event_at(&b->pub, i);
        if ((ev->flags & WEIR_EVENT_GONE) != 0)
            continue;
        f->made += ev->position < 0;
        for (uint32_t k = 0; k < EVENTS; k++)
            assert_false(ev->position == child_of(k) && f->failed[k]);
        if (ev->position >= 0)
            f->ends[ev->position]++;
    }
}

static void apply(struct fake *f)
{
    static const char *const payloads[EVENTS] = {"{\"n\":1}", "{\"n\":2,\"l\":[1,{\"x\":2}]}",
                                                 "{\"n\":3}", "{\"n\":4,\"o\":{\"k\":\"v\"}}",
                                                 "{\"n\":5}", "{\"n\":6}"};
    struct wr_batch *b = new_batch(f);
    struct weir_error err = {0};
    int64_t again = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct weir_event *ev = wr_event_add(&b->pub);
        ev->payload = weir_cstr(payloads[i]);
        ev->position = i;
    }
    if (f->type->transform->apply(f->self, &b->pub, &again, &err) < 0)
        for (uint32_t i = 0; i < b->pub.n_events; i++)
            fake_fail(&f->host, &b->pub, weir_event_at(&b->pub, i), &could_not);
    pass_on(f, b);
}

static void tick(struct fake *f, bool final)
{
    struct wr_batch *b = new_batch(f);
    struct weir_error err = {0};
    (void)f->type->transform->tick(f->self, &b->pub, final, &err);
    pass_on(f, b);
}

/* True where the failure was never reached. */
static bool run(const struct weir_plugin *plugin, const char *code, bool lua_too, uint32_t fail_at,
                uint32_t length)
{
    struct fake f;
    struct weir_error err = {0};
    set_up(&f, plugin, code);
    now = &f;
    f.lua_too = lua_too;
    f.fail_at = fail_at;
    f.run = length;
    if (f.type->open(&f.host, f.config, &f.self, &err) == WEIR_OK) {
        apply(&f);
        tick(&f, false);
        f.fail_at = UINT32_MAX; /* at the end there is memory again */
        bool reached = f.calls >= fail_at;
        tick(&f, true);
        f.type->close(f.self);
        assert_int_equal(f.held, 0);
        for (uint32_t i = 0; i < EVENTS; i++)
            if (f.ends[i] != 1)
                fail_msg("call %u failing: event %u ended %d times", fail_at, i, f.ends[i]);
        if (!reached && length == 1)
            assert_int_equal(f.made, 4);
        f.calls = reached ? fail_at : 0;
    } else {
        assert_true(err.text[0] != '\0');
    }
    if (f.object != NULL)
        f.destroy(f.object);
    assert_int_equal(f.n_live, 0);
    for (uint32_t i = 0; i < f.n_batches; i++)
        wr_batch_free(f.batches[i]);
    free(f.config);
    return f.calls < fail_at;
}

static const struct weir_plugin *load(void)
{
    void *object = dlopen(WEIR_PLUGIN_BUILD_DIR "/lua.so", RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        fail_msg("%s", dlerror());
    true_newstate = (lua_State * (*)(lua_Alloc, void *))dlsym(object, "lua_newstate");
    assert_non_null(true_newstate);
    return dlsym(object, "weir_plugin");
}

/* Each makes four new events. */
static const char by_event[] =
    "local held = {}\n"
    "function init(c) assert(type(c) == 'table') end\n"
    "function process(event, meta)\n"
    "  if event.n == 1 then return {event, {child = 'one'}} end\n"
    "  if event.n == 2 then event.l[2].x = 'text' event.l[3] = {1, 2, {a = 'b'}}\n"
    "    meta.key = 'k' meta.headers.h = 'v' return event end\n"
    "  if event.n == 3 then held[#held + 1] = weir.hold(event) return end\n"
    "  if event.n == 4 then weir.cache.set('key', event) weir.cache.get('key')\n"
    "    weir.rename(event.o, 'k', 'renamed') return weir.copy(event) end\n"
    "  if event.n == 5 then held[#held + 1] = weir.hold(event) return end\n"
    "  return {weir.join({event, held[1]}, {j = tostring(event)}, {key = 'k', headers = {a = 'b'}}),\n"
    "          weir.derive(event, {d = weir.json.encode({x = event})})}\n"
    "end\n"
    "function tick(final)\n"
    "  if final then return held[2] end\n"
    "  return {{tick = weir.uuid() .. ('x'):rep(1000)}}\n"
    "end\n"
    "function shutdown() held = nil end\n";

static const char by_batch[] =
    "local kept, other\n"
    "function process_batch(events)\n"
    "  local out = {}\n"
    "  for i, event in ipairs(events) do\n"
    "    if event.n == 1 then kept = weir.hold(event)\n"
    "    elseif event.n == 2 then weir.drop(event, 'why')\n"
    "    elseif event.n == 3 then event.x = {1, 'two'} weir.meta(event).key = 'k' out[#out + 1] = event\n"
    "    elseif event.n == 4 then out[#out + 1] = weir.derive(event) out[#out + 1] = event\n"
    "    elseif event.n == 5 then out[#out + 1] = event\n"
    "    elseif event.n == 6 then other = weir.hold(event) end\n"
    "  end\n"
    "  out[#out + 1] = {all = #events}\n"
    "  out[#out + 1] = weir.join({events[1], events[2]}, {two = true})\n"
    "  return out\n"
    "end\n"
    "function tick(final)\n"
    "  local k, o = kept, other\n"
    "  if k and o and final then kept, other = nil return weir.join({k, o}, {n = k.n}) end\n"
    "end\n";

/* The hook that fails a held event makes new ones, too; it needs a module to begin with. */
static const char fails_held[] =
    "local split = require('split')\n"
    "local held = {}\n"
    "function process(event)\n"
    "  if event.n == 1 or event.n == 3 then held[#held + 1] = weir.hold(event) return end\n"
    "  if event.n == 2 or event.n == 4 then\n"
    "    weir.fail(held[1], 'because')\n"
    "    table.remove(held, 1)\n"
    "    return split(event)\n"
    "  end\n"
    "  return event\n"
    "end\n";

static const char split[] =
    "local function half(event, x) return weir.derive(event, {x = x, y = {n = event.n}}) end\n"
    "return function(event) return {event, half(event, 'left'), half(event, 'right')} end\n";

static void each_failure(const char *code, bool lua_too, uint32_t length)
{
    const struct weir_plugin *plugin = load();
    uint32_t n = 1;
    while (!run(plugin, code, lua_too, n, length))
        n++;
    print_message("%u places\n", (unsigned)n);
    assert_true(n > (lua_too ? 500 : 50)); /* small objects share chunks: it asks the host less often */
}

static void test_one_failure(void **state)
{
    (void)state;
    each_failure(by_event, false, 1);
    each_failure(by_batch, false, 1);
}

static void test_failures_in_a_row(void **state)
{
    (void)state;
    each_failure(by_event, false, 7);
    each_failure(by_batch, false, 7);
    each_failure(by_event, false, UINT32_MAX / 2);
    each_failure(by_batch, false, UINT32_MAX / 2);
}

static void put(char *ret_path, const char *dir, const char *name, const char *text)
{
    snprintf(ret_path, PATH_SIZE, "%s/%s", dir, name);
    FILE *f = fopen(ret_path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_failures_around_a_module_and_failed_events(void **state)
{
    char dir[] = "/tmp/weir-lua-XXXXXX", script[PATH_SIZE], module[PATH_SIZE];
    (void)state;
    assert_non_null(mkdtemp(dir));
    put(script, dir, "hooks.lua", fails_held);
    put(module, dir, "split.lua", split);
    each_failure(script, false, 1);
    each_failure(script, false, 7);
    each_failure(script, true, 1);
    each_failure(script, true, 2);
    each_failure(script, true, UINT32_MAX / 2);
    assert_int_equal(unlink(script) + unlink(module) + rmdir(dir), 0);
}

/* Lua collects its garbage and tries once more: of one failure the script hears nothing. */
static void test_one_failure_of_lua(void **state)
{
    (void)state;
    each_failure(by_event, true, 1);
    each_failure(by_batch, true, 1);
}

static void test_failures_of_lua_in_a_row(void **state)
{
    (void)state;
    each_failure(by_event, true, 2);
    each_failure(by_batch, true, 2);
    each_failure(by_event, true, UINT32_MAX / 2);
    each_failure(by_batch, true, UINT32_MAX / 2);
}

/* One event fills the state with small objects; when it has failed, the others find room for large ones. */
static const char fills_up[] =
    "function process(event)\n"
    "  local chain\n"
    "  while event.n == 1 do chain = {chain} end\n"
    "  for i = 1, 10 do event['long' .. i] = ('x'):rep(400000 + i) end\n"
    "  return event\n"
    "end\n";

static void test_small_objects_leave_room_for_large_ones(void **state)
{
    struct fake f;
    struct weir_error err = {0};
    int64_t instructions = INT64_C(1) << 40;
    (void)state;
    set_up(&f, load(), fills_up);
    now = &f;
    f.fail_at = UINT32_MAX;
    set_option(&f, "instructions", &instructions, sizeof(instructions));
    assert_int_equal(f.type->open(&f.host, f.config, &f.self, &err), WEIR_OK);
    apply(&f);
    assert_int_equal(f.n_failed, 1);
    f.type->close(f.self);
    f.destroy(f.object);
    assert_int_equal(f.n_live, 0);
    wr_batch_free(f.batches[0]);
    free(f.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_failure),
        cmocka_unit_test(test_failures_in_a_row),
        cmocka_unit_test(test_failures_around_a_module_and_failed_events),
        cmocka_unit_test(test_one_failure_of_lua),
        cmocka_unit_test(test_failures_of_lua_in_a_row),
        cmocka_unit_test(test_small_objects_leave_room_for_large_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
