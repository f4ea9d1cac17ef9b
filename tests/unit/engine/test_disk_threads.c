/* SPDX-License-Identifier: Apache-2.0
 *
 * Disk buffers between real threads: a lane that pushes, the buffer's thread, outlets that take and settle.
 * What one run leaves in the folder, the next one gives. TSan is the other half of these tests.
 */
#include "threads_rig.h"

#include <dirent.h>
#include <unistd.h>

static char folder[256];

static struct {
    _Atomic uint32_t got[N_EVENTS];
    uint32_t last_of_key[N_KEYS]; /* number + 1, of the run */
    uint32_t fails_every;
    int64_t pause_ns; /* of each write */
} sink;

static enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    (void)h;
    (void)config;
    (void)err;
    *ret_self = &sink;
    return WEIR_OK;
}

static void sink_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    (void)self;
    (void)until;
    for (uint32_t i = 0; i < b->n_events; i++) {
        const struct weir_event *ev = weir_event_at(b, i);
        uint32_t number = (uint32_t)strtoul(ev->payload.ptr + 5, NULL, 10);
        assert_true(number < N_EVENTS);
        assert_int_equal(ev->position, number);
        struct weir_result *r = weir_result_at(results, i);
        r->verdict = sink.fails_every != 0 && mix(number) % sink.fails_every == 0 && atomic_load(&sink.got[number]) == 0
                         ? WEIR_VERDICT_UNAVAILABLE
                         : WEIR_VERDICT_OK;
        r->message = weir_cstr("");
        atomic_fetch_add(&sink.got[number], 1);
        if (r->verdict != WEIR_VERDICT_OK)
            continue;
        uint32_t *last = &sink.last_of_key[number % N_KEYS]; /* a key has one shard */
        assert_true(*last <= number || sink.fails_every != 0);
        *last = number + 1;
    }
    struct timespec ts = {0, sink.pause_ns};
    nanosleep(&ts, NULL);
}

static const struct weir_sink sink_calls = {.size = sizeof(sink_calls), .write = sink_write};
static const struct weir_type sink_type = {.size = sizeof(sink_type), .kind = WEIR_SINK, .name = "counts",
                                           .sink = &sink_calls, .open = sink_open, .close = close_nothing};

static struct wr_sink_options *add_sink(uint32_t from, const char *id)
{
    uint32_t c = rig_add(&rig, WEIR_SINK, id);
    struct wr_sink_options *opt = &rig.comps[c].opt.sink;
    static char path[300];
    snprintf(path, sizeof(path), "%.250s/%s", folder, id);
    rig_wire(&rig, from, c);
    rig.comps[c].type = &sink_type;
    rig.comps[c].needs = WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID;
    opt->buffer.type = WR_BUFFER_DISK;
    opt->buffer.path = weir_cstr(path);
    opt->buffer.size = 64 << 20;
    opt->buffer.memory = 32 << 20;
    opt->buffer.sync = WEIR_NS_PER_MS;
    opt->buffer.keep_source = true;
    opt->batch.events = 50;
    opt->retry.initial = WEIR_NS_PER_MS;
    opt->retry.max = 2 * WEIR_NS_PER_MS;
    return opt;
}

static void begin(uint32_t fails_every, int64_t pause_ns)
{
    memset(sink.last_of_key, 0, sizeof(sink.last_of_key));
    sink.fails_every = fails_every;
    sink.pause_ns = pause_ns;
}

static void clear_got(void)
{
    for (uint32_t i = 0; i < N_EVENTS; i++)
        atomic_store(&sink.got[i], 0);
}

static uint32_t count_got(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_EVENTS; i++)
        n += atomic_load(&sink.got[i]) != 0;
    return n;
}

static int new_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/weir-disk-XXXXXX", base != NULL ? base : "/tmp");
    clear_got();
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[600], name[900];
    snprintf(path, sizeof(path), "%.250s/out", folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        snprintf(name, sizeof(name), "%.500s/%.300s", path, e->d_name);
        (void)unlink(name);
    }
    if (d != NULL)
        closedir(d);
    (void)rmdir(path);
    return rmdir(folder);
}

static void all_of_it_is_given_when_the_end_waits_for_it(void **state)
{
    (void)state;
    begin(0, 0);
    add_sink(add_source(N_EVENTS), "out")->buffer.drain_on_stop = true;
    open_rig();
    struct wr_pipeline_left left = close_rig();
    assert_int_equal(left.events, 0);
    assert_int_equal(source.committed, N_EVENTS);
    assert_int_equal(count_got(), N_EVENTS);
    for (uint32_t i = 0; i < N_EVENTS; i++)
        assert_int_equal(atomic_load(&sink.got[i]), 1);
}

static void what_one_run_keeps_the_next_one_gives(void **state)
{
    (void)state;
    begin(0, WEIR_NS_PER_MS);
    (void)add_sink(add_source(N_EVENTS), "out");
    open_rig();
    struct wr_pipeline_left left = close_rig();
    assert_int_equal(left.events, 0);
    assert_int_equal(source.committed, N_EVENTS);
    uint32_t before = count_got();
    assert_true(before < N_EVENTS); /* the source was through first */
    begin(0, 0);
    add_sink(add_source(0), "out")->buffer.drain_on_stop = true;
    open_rig();
    (void)close_rig();
    assert_int_equal(count_got(), N_EVENTS);
}

static void shards_that_fail_give_all_of_it(void **state)
{
    (void)state;
    begin(40, 0);
    struct wr_sink_options *opt = add_sink(add_source(N_EVENTS), "out");
    opt->buffer.drain_on_stop = true;
    opt->concurrency = 4;
    open_rig();
    struct wr_pipeline_left left = close_rig();
    assert_int_equal(left.events, 0);
    assert_int_equal(source.committed, N_EVENTS);
    assert_int_equal(count_got(), N_EVENTS);
}

static void a_deadline_ends_it_and_keeps_the_rest(void **state)
{
    (void)state;
    begin(0, 5 * WEIR_NS_PER_MS);
    add_sink(add_source(N_EVENTS), "out")->buffer.drain_on_stop = true;
    open_rig();
    struct timespec pause = {0, 50 * 1000000};
    nanosleep(&pause, NULL);
    wr_pipeline_drain(rig.p, wr_now(wr_clock_system()) + 100 * WEIR_NS_PER_MS);
    (void)close_rig();
    uint32_t committed = (uint32_t)source.committed;
    begin(0, 0);
    add_sink(add_source(0), "out")->buffer.drain_on_stop = true;
    open_rig();
    (void)close_rig();
    for (uint32_t i = 0; i < committed; i++)
        assert_true(atomic_load(&sink.got[i]) != 0);
}

/* What is pushed does not fit: the lane waits again and again. */
static void a_small_one_makes_the_lane_wait(void **state)
{
    (void)state;
    begin(0, 0);
    struct wr_sink_options *opt = add_sink(add_source(N_EVENTS), "out");
    opt->buffer.drain_on_stop = true;
    opt->buffer.size = 100000;
    open_rig();
    struct wr_pipeline_left left = close_rig();
    assert_int_equal(left.events, 0);
    assert_int_equal(count_got(), N_EVENTS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_of_it_is_given_when_the_end_waits_for_it),
        TEST(what_one_run_keeps_the_next_one_gives),
        TEST(shards_that_fail_give_all_of_it),
        TEST(a_deadline_ends_it_and_keeps_the_rest),
        TEST(a_small_one_makes_the_lane_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
