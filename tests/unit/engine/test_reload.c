/* SPDX-License-Identifier: Apache-2.0
 *
 * Reloads of a running pipeline: what two plans have in common, and that a failure at any step takes all of it
 * back. Real threads; a source of numbers that goes on where the one before ended, and sinks that write
 * down what they got.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/buf.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/reload_impl.h>

#include <unistd.h>

#include "../model/fake_loader.h"

#define NUMBERS_MAX 2000000
#define WAIT_NS (20 * WEIR_NS_PER_S)

/* ---- What the components do ---- */

static struct {
    _Atomic int live, live_sinks, most_sinks; /* instances */
    _Atomic int n_opens, fail_at;             /* the open of that number fails; 0: none */
    enum weir_status fail_with;
    _Atomic int n_stops;
    _Atomic int n_alone; /* that a source of type `alone` has: one at most */
    _Atomic uint32_t next, n_seen;
    _Atomic uint8_t seen[NUMBERS_MAX];
} world;

struct part {
    const struct weir_host *h;
    struct weir_stream *stream;
    bool stopped;
};

static enum weir_status part_open(const struct weir_host *h, struct part **ret, struct weir_error *err)
{
    int n = ++world.n_opens;
    if (n == world.fail_at)
        return h->error(err, world.fail_with, "refused", "open %d is refused", n);
    struct part *part = h->alloc(sizeof(*part));
    part->h = h;
    world.live++;
    *ret = part;
    return WEIR_OK;
}

static enum weir_status any_open(const struct weir_host *h, const void *config, void **ret_self,
                                 struct weir_error *err)
{
    struct part *part = NULL;
    (void)config;
    enum weir_status status = part_open(h, &part, err);
    *ret_self = part;
    return status;
}

static void any_close(void *take_self)
{
    struct part *part = take_self;
    if (part == NULL)
        return;
    world.live--;
    part->h->free(part);
}

static enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    static const struct weir_origin origin = {{"numbers", 7}, 0};
    enum weir_status status = any_open(h, config, ret_self, err);
    if (status == WEIR_OK)
        ((struct part *)*ret_self)->stream = h->stream_open(h, &origin, NULL);
    return status;
}

static void *alone_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    (void)config;
    if (world.n_alone == 0) {
        world.n_alone++;
        return &world;
    }
    (void)h->error(err, WEIR_E_RETRY, "taken", "it is taken");
    return NULL;
}

static void alone_free(void *take_world)
{
    (void)take_world;
    world.n_alone--;
}

/* Its lanes share what is there once, such as a lock. */
static enum weir_status alone_open(const struct weir_host *h, const void *config, void **ret_self,
                                   struct weir_error *err)
{
    return h->shared(h, alone_new, alone_free, err) != NULL ? source_open(h, config, ret_self, err)
                                                            : WEIR_E_RETRY;
}

static enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                    struct weir_error *err)
{
    struct part *part = self;
    (void)err;
    if (part->stopped)
        return WEIR_END;
    int64_t soon = part->h->now(part->h) + WEIR_NS_PER_MS;
    part->h->wait(part->h, soon < until ? soon : until);
    for (uint32_t i = 0; i < 8 && i < room && world.next < NUMBERS_MAX; i++) {
        uint32_t n = world.next++;
        struct weir_event *ev = part->h->event_add(b);
        ev->payload = part->h->arena_printf(b->arena, "%u", n);
        ev->stream = part->stream;
        ev->position = n;
        ev->next = n + 1;
    }
    return b->n_events != 0 ? WEIR_OK : WEIR_AGAIN;
}

static void source_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self;
    (void)s;
    (void)user;
    (void)next;
    (void)final;
}

static void source_stop(void *self)
{
    ((struct part *)self)->stopped = true;
    world.n_stops++;
}

static enum weir_status apply(void *self, struct weir_batch *b, int64_t *again, struct weir_error *err)
{
    (void)self;
    (void)b;
    (void)again;
    (void)err;
    return WEIR_OK;
}

static enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    enum weir_status status = any_open(h, config, ret_self, err);
    if (status == WEIR_OK && ++world.live_sinks > world.most_sinks)
        world.most_sinks = world.live_sinks;
    return status;
}

static void sink_close(void *take_self)
{
    world.live_sinks -= take_self != NULL;
    any_close(take_self);
}

static void sink_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    (void)self;
    (void)until;
    for (uint32_t i = 0; i < b->n_events; i++) {
        world.seen[strtoul(weir_event_at(b, i)->payload.ptr, NULL, 10)]++;
        world.n_seen++;
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
    }
}

/* ---- The types ---- */

struct config {
    int64_t v;
    struct weir_str file;
};

static const struct weir_option options[] = {
    {.name = "v", .type = WEIR_OPT_INT, .offset = offsetof(struct config, v), .doc = "A number."},
    {.name = "file",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct config, file),
     .doc = "A file."},
};

static uint32_t beside(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_BESIDE;
}

static const struct weir_source source_calls = {
    .size = sizeof(source_calls), .poll = source_poll, .commit = source_commit, .stop = source_stop};
static const struct weir_transform transform_calls = {.size = sizeof(transform_calls), .apply = apply};
static const struct weir_sink sink_calls = {.size = sizeof(sink_calls), .write = sink_write,
                                            .batch_events = 100, .batch_bytes = 1 << 20, .in_flight = 1};

static const struct weir_type types[] = {
    {.size = sizeof(struct weir_type), .kind = WEIR_SOURCE, .name = "numbers", .summary = "Numbers.",
     .options = WEIR_OPTIONS(options, struct config), .source = &source_calls, .open = source_open,
     .close = any_close},
    {.size = sizeof(struct weir_type), .kind = WEIR_SOURCE, .name = "beside", .summary = "Numbers.",
     .options = WEIR_OPTIONS(options, struct config), .source = &source_calls, .open = source_open,
     .close = any_close, .traits = beside},
    {.size = sizeof(struct weir_type), .kind = WEIR_SOURCE, .name = "alone", .summary = "Numbers.",
     .options = WEIR_OPTIONS(options, struct config), .source = &source_calls, .open = alone_open,
     .close = any_close},
    {.size = sizeof(struct weir_type), .kind = WEIR_TRANSFORM, .name = "pass", .summary = "Nothing.",
     .options = WEIR_OPTIONS(options, struct config), .transform = &transform_calls, .open = any_open,
     .close = any_close},
    {.size = sizeof(struct weir_type), .kind = WEIR_SINK, .name = "out", .summary = "Notes.",
     .needs_always = WEIR_NEEDS_PAYLOAD, .options = WEIR_OPTIONS(options, struct config),
     .sink = &sink_calls, .open = sink_open, .close = sink_close},
    {.size = sizeof(struct weir_type), .kind = WEIR_SINK, .name = "parsed", .summary = "Notes.",
     .needs_always = WEIR_NEEDS_VALUE, .options = WEIR_OPTIONS(options, struct config),
     .sink = &sink_calls, .open = sink_open, .close = sink_close},
};

/* ---- Plans ---- */

static const struct wr_plan *planned(const char *yaml)
{
    fake_more = types;
    fake_n_more = sizeof(types) / sizeof(types[0]);
    struct wr_diags *d = wr_diags_new();
    struct wr_plan *plan = wr_plan_parse("p.yaml", "/tmp", weir_cstr(yaml), NULL, d);
    struct wr_buf b = {0};
    if (plan == NULL) {
        wr_diags_print(d, &b, false);
        fail_msg("%s", b.ptr);
    }
    wr_diags_free(d);
    return plan;
}

static const struct wr_component *component(const struct wr_plan *plan, const char *id)
{
    for (uint32_t i = 0; i < plan->n_components; i++)
        if (wr_str_is(plan->components[i].id, id))
            return &plan->components[i];
    fail_msg("there is no %s", id);
    return NULL;
}

/* Of a source `in`, a transform `t` and a sink `out`. */
static const char *pipeline(const char *in, const char *t, const char *out)
{
    static char text[4][1024];
    static int turn;
    char *to = text[turn++ % 4];
    snprintf(to, sizeof(text[0]),
             "name: p\nsources: {in: {%s}}\ntransforms: {t: {%s}}\nsinks: {out: {on_reject: drop, %s}}\n", in, t,
             out);
    return to;
}

#define IN "type: numbers"
#define T "type: pass"
#define OUT "type: out"

/* ---- What is the same ---- */

static void compare(const char *id, const char *a, const char *b, bool same, const char *misfit)
{
    const struct wr_plan *x = planned(a), *y = planned(b);
    const struct wr_component *of_x = component(x, id), *of_y = component(y, id);
    if (wr_component_same(of_x, of_y) != same)
        fail_msg("%s\n%s\nexpected: %s", a, b, same ? "the same" : "another one");
    if (of_x->type->kind == WEIR_SINK) {
        const char *found = wr_outlet_misfit(of_x, of_y);
        assert_string_equal(found != NULL ? found : "fits", misfit != NULL ? misfit : "fits");
        assert_int_equal(wr_outlet_fits(of_x, of_y), misfit == NULL);
    }
    wr_plan_free(x);
    wr_plan_free(y);
}

static void sink(const char *a, const char *b, bool same, const char *misfit)
{
    compare("out", pipeline(IN, T, a), pipeline(IN, T, b), same, misfit);
}

static void test_what_the_core_decides_is_no_part_of_a_component(void **state)
{
    (void)state;
    sink(OUT, OUT, true, NULL);
    sink(OUT, OUT ", batch: {events: 7}, retry: {initial: 1s}", true, NULL);
    sink(OUT, OUT ", buffer: {size: 1MiB}", true, NULL);
    compare("t", pipeline(IN, T, OUT), pipeline(IN, T ", on_error: drop", OUT), true, NULL);
    compare("in", pipeline(IN, T, OUT), pipeline(IN ", codec: raw", T, OUT), false, NULL);
    compare("in", pipeline(IN ", lanes: 1", T, OUT), pipeline(IN ", lanes: 2", T, OUT), false, NULL);
}

static void test_options_are_compared_as_they_were_written(void **state)
{
    (void)state;
    sink(OUT ", v: 1", OUT ", v: 2", false, NULL);
    sink(OUT, OUT ", v: 0", false, NULL);
    sink(OUT ", v: 1, batch: {events: 9}", "batch: {events: 8}, " OUT ", v: 1", true, NULL);
    compare("t", pipeline(IN, T ", v: 1", OUT), pipeline(IN, T ", v: 3", OUT), false, NULL);
    compare("t", pipeline(IN, T ", v: 1", OUT), pipeline(IN, T ", v: 1", OUT ", v: 3"), true, NULL);
}

static void test_what_an_outlet_is_built_for(void **state)
{
    (void)state;
    sink(OUT, OUT ", concurrency: 2", true, "concurrency");
    sink(OUT, "type: parsed", false, "type");
    sink(OUT, OUT ", buffer: {type: disk, path: one}", true, "buffer");
    sink(OUT ", buffer: {type: disk, path: one}", OUT ", buffer: {type: disk, path: two}", true, "buffer");
    sink(OUT ", buffer: {type: disk, path: one}", OUT ", buffer: {type: disk, path: ./x/../one}", true, NULL);
    sink(OUT ", buffer: {type: disk, path: one}",
         OUT ", buffer: {type: disk, path: one, size: 9MiB, sync: 1s, when_full: drop_oldest, keep_source: false, "
             "drain_on_stop: true}",
         true, NULL);
}

static void test_what_a_file_holds_is_part_of_it(void **state)
{
    (void)state;
    char path[] = "/tmp/weir-reload-XXXXXX", options_text[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "one", 3) == 3);
    snprintf(options_text, sizeof(options_text), T ", file: %s", path);
    const struct wr_plan *a = planned(pipeline(IN, options_text, OUT));
    const struct wr_plan *b = planned(pipeline(IN, options_text, OUT));
    assert_true(pwrite(fd, "two", 3, 0) == 3);
    const struct wr_plan *c = planned(pipeline(IN, options_text, OUT));
    assert_true(wr_component_same(component(a, "t"), component(b, "t")));
    assert_false(wr_component_same(component(a, "t"), component(c, "t")));
    assert_true(wr_component_same(component(a, "in"), component(c, "in")));
    wr_plan_free(a);
    wr_plan_free(b);
    wr_plan_free(c);
    close(fd);
    unlink(path);
}

/* ---- A running one ---- */

static struct {
    struct wr_metrics *metrics;
    struct wr_pipeline *p;
} run;

static void pause_ms(void)
{
    usleep(1000);
}

static void start(const char *yaml)
{
    memset(&world, 0, sizeof(world));
    run.metrics = wr_metrics_new(1000);
    struct wr_runtime rt = {wr_clock_system(), NULL, run.metrics};
    struct weir_error err = {0};
    const struct wr_plan *plan = planned(yaml);
    run.p = wr_pipeline_new(plan, &rt, &err);
    if (run.p == NULL)
        fail_msg("%s", err.text);
    wr_plan_free(plan);
    wr_pipeline_start(run.p, NULL, NULL);
}

/* Events get through, as before. */
static void flows(void)
{
    int64_t end = wr_now(wr_clock_system()) + WAIT_NS;
    for (uint32_t from = world.n_seen; world.n_seen < from + 30; pause_ms()) {
        wr_pipeline_reap(run.p); /* as whoever hears of a pipeline's news does */
        if (wr_now(wr_clock_system()) > end)
            fail_msg("nothing gets through after %u events", world.n_seen);
    }
}

/* All that is to be closed is. */
static void settles(int live)
{
    wr_pipeline_reap(run.p);
    int64_t end = wr_now(wr_clock_system()) + WAIT_NS;
    for (; world.live != live; pause_ms()) {
        wr_pipeline_reap(run.p);
        if (wr_now(wr_clock_system()) > end)
            fail_msg("%d instances are open, expected %d", world.live, live);
    }
}

static bool reload(const char *yaml, struct wr_reloaded *ret)
{
    struct weir_error err = {0};
    const struct wr_reload_wait wait = {wr_now(wr_clock_system()) + WAIT_NS, NULL, NULL};
    const struct wr_plan *plan = planned(yaml);
    world.n_opens = 0;
    bool ok = wr_pipeline_reload(run.p, plan, &wait, ret, &err);
    if (!ok)
        assert_true(err.text[0] != '\0');
    wr_plan_free(plan);
    return ok;
}

/* Every number that was given was delivered, once. */
static void end(void)
{
    wr_pipeline_drain(run.p, wr_now(wr_clock_system()) + WAIT_NS);
    for (; wr_pipeline_state(run.p) < WR_PIPELINE_STOPPED; pause_ms())
        wr_pipeline_reap(run.p);
    assert_int_equal(wr_pipeline_state(run.p), WR_PIPELINE_DONE);
    struct wr_pipeline_left left = wr_pipeline_close(run.p);
    assert_int_equal(left.events, 0);
    wr_pipeline_free(run.p);
    wr_metrics_free(run.metrics);
    assert_int_equal(world.live, 0);
    assert_int_equal(world.n_alone, 0);
    for (uint32_t i = 0; i < world.next; i++)
        if (world.seen[i] != 1)
            fail_msg("number %u came %u times", i, world.seen[i]);
}

/* From `a` to `b`, with each open failing once: then it is all as it was. */
static void every_open_fails(const char *a, const char *b, int live_a, int live_b, int least)
{
    struct wr_reloaded done;
    int n = 1;
    start(a);
    flows();
    world.fail_with = WEIR_E_FATAL;
    for (;; n++) {
        world.fail_at = n;
        bool ok = reload(b, &done);
        bool failed = world.n_opens >= n;
        world.fail_at = 0;
        assert_int_equal(ok, !failed);
        settles(ok ? live_b : live_a);
        flows();
        if (ok)
            break;
    }
    assert_true(n > least);
    end();
}

static void test_each_open_that_fails_takes_all_back(void **state)
{
    (void)state;
    every_open_fails(pipeline(IN, T, OUT), pipeline(IN ", v: 1", T ", v: 1", OUT ", v: 1"), 3, 3, 3);
    every_open_fails(pipeline("type: beside", T, OUT), pipeline("type: beside, v: 1", T, OUT ", concurrency: 3"),
                     3, 5, 5);
    every_open_fails(pipeline(IN ", lanes: 2", T, OUT), pipeline(IN ", lanes: 3", T, "type: parsed"), 5, 7, 7);
}

static void test_what_a_source_shares_goes_before_the_next_one_opens(void **state)
{
    (void)state;
    every_open_fails(pipeline("type: alone, lanes: 2", T, OUT), pipeline("type: alone, lanes: 2, v: 1", T, OUT), 5,
                     5, 3);
    every_open_fails("name: p\nsources: {in: {type: alone}}\nsinks: {out: {type: out, on_reject: drop}}\n",
                     "name: p\nsources: {renamed: {type: alone}}\nsinks: {out: {type: out, on_reject: drop}}\n", 2, 2,
                     1);
}

/* It may start again while this one is still there to be asked. */
static void test_what_a_source_shares_goes_when_the_pipeline_closes(void **state)
{
    (void)state;
    start(pipeline("type: alone", T, OUT));
    flows();
    wr_pipeline_drain(run.p, wr_now(wr_clock_system()) + WAIT_NS);
    while (wr_pipeline_state(run.p) < WR_PIPELINE_STOPPED)
        pause_ms();
    assert_int_equal(world.n_alone, 1);
    (void)wr_pipeline_close(run.p);
    assert_int_equal(world.n_alone, 0);
    end();
}

static void test_what_did_not_change_is_not_opened(void **state)
{
    struct wr_reloaded done;
    (void)state;
    start(pipeline(IN, T, OUT));
    flows();
    assert_true(reload(pipeline(IN, T, OUT ", batch: {events: 3}, buffer: {size: 1MiB}"), &done));
    assert_int_equal(world.n_opens, 0);
    assert_int_equal(done.kept, 3);
    assert_true(reload(pipeline(IN, T ", v: 2", OUT), &done));
    assert_int_equal(world.n_opens, 1);
    assert_int_equal(done.kept, 2);
    assert_int_equal(done.changed, 1);
    assert_int_equal(world.n_stops, 0);
    flows();
    end();
}

static void test_a_sink_that_cannot_be_open_twice_comes_after_the_old_one(void **state)
{
    char disk[128], remove[64];
    const char *const after[] = {OUT ", v: 1", disk};
    struct wr_reloaded done;
    (void)state;
    snprintf(disk, sizeof(disk), OUT ", v: 2, buffer: {type: disk, path: weir-reload-%d, drain_on_stop: true}",
             (int)getpid());
    snprintf(remove, sizeof(remove), "rm -rf /tmp/weir-reload-%d", (int)getpid());
    start(pipeline(IN, T, OUT));
    for (size_t i = 0; i < 2; i++) {
        flows();
        world.fail_at = 1;
        world.fail_with = WEIR_E_RETRY;
        assert_true(reload(pipeline(IN, T, after[i]), &done));
        world.fail_at = 0;
        settles(3);
    }
    flows();
    assert_int_equal(world.most_sinks, 1);
    end();
    assert_int_equal(system(remove), 0);
}

static void test_a_source_that_takes_over_is_open_before_the_old_one_stops(void **state)
{
    struct wr_reloaded done;
    (void)state;
    start(pipeline("type: beside", T, OUT));
    flows();
    world.fail_at = 1;
    world.fail_with = WEIR_E_FATAL;
    assert_false(reload(pipeline("type: beside, v: 1", T, OUT), &done));
    assert_int_equal(world.n_stops, 0);
    world.fail_with = WEIR_E_RETRY; /* it can, once that has ended */
    assert_true(reload(pipeline("type: beside, v: 2", T, OUT), &done));
    assert_int_equal(world.n_stops, 1);
    world.fail_at = 0;
    settles(3);
    flows();
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_core_decides_is_no_part_of_a_component),
        cmocka_unit_test(test_options_are_compared_as_they_were_written),
        cmocka_unit_test(test_what_an_outlet_is_built_for),
        cmocka_unit_test(test_what_a_file_holds_is_part_of_it),
        cmocka_unit_test(test_what_did_not_change_is_not_opened),
        cmocka_unit_test(test_each_open_that_fails_takes_all_back),
        cmocka_unit_test(test_what_a_source_shares_goes_before_the_next_one_opens),
        cmocka_unit_test(test_what_a_source_shares_goes_when_the_pipeline_closes),
        cmocka_unit_test(test_a_sink_that_cannot_be_open_twice_comes_after_the_old_one),
        cmocka_unit_test(test_a_source_that_takes_over_is_open_before_the_old_one_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
