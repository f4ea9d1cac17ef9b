/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane that gets one full batch after the other wakes the outlets once for several of them: nothing may
 * stay untold when the source has no more, or waits. Real threads, no transform, a source that waits for
 * ever.
 */
#include "threads_rig.h"

static struct {
    _Atomic uint32_t polls_left; /* full ones; then `rest` events, then nothing */
    _Atomic uint32_t rest;
    _Atomic uint32_t given;
} script;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint32_t n;
} written = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static enum weir_status burst_open(const struct weir_host *h, const void *config, void **ret_self,
                                   struct weir_error *err)
{
    struct weir_origin origin = {weir_cstr("burst"), 0};
    (void)config;
    (void)err;
    source.h = h;
    source.stream = h->stream_open(h, &origin, NULL);
    *ret_self = &source;
    return WEIR_OK;
}

static void burst_close(void *self)
{
    (void)self;
}

static enum weir_status burst_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                   struct weir_error *err)
{
    uint32_t n = script.polls_left != 0 ? room : script.rest < room ? script.rest : room;
    (void)self;
    (void)err;
    for (uint32_t i = 0; i < n; i++) {
        struct weir_event *ev = source.h->event_add(b);
        ev->payload = weir_cstr("1");
        ev->stream = source.stream;
        ev->position = script.given++;
        ev->next = script.given;
    }
    if (script.polls_left != 0 && n != 0)
        script.polls_left--;
    else
        script.rest -= n;
    if (n == 0)
        source.h->wait(source.h, until);
    return n != 0 ? WEIR_OK : WEIR_AGAIN;
}

static void burst_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self;
    (void)s;
    (void)user;
    (void)next;
    (void)final;
}

static void count_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    (void)self;
    (void)until;
    for (uint32_t i = 0; i < b->n_events; i++)
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
    pthread_mutex_lock(&written.mutex);
    written.n += b->n_events;
    pthread_cond_signal(&written.cond);
    pthread_mutex_unlock(&written.mutex);
}

static void wait_for_all(uint32_t n_polls)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += SECONDS_MAX;
    pthread_mutex_lock(&written.mutex);
    while (script.polls_left != 0 || script.rest != 0 || written.n < script.given)
        if (pthread_cond_timedwait(&written.cond, &written.mutex, &ts) != 0)
            fail_msg("%u of %u events after %d s (%u full polls)", written.n, script.given, SECONDS_MAX,
                     n_polls);
    pthread_mutex_unlock(&written.mutex);
}

static void burst(uint32_t n_polls, uint32_t rest)
{
    static const struct weir_source burst_calls = {
        .size = sizeof(burst_calls), .poll = burst_poll, .commit = burst_commit};
    static const struct weir_sink count_calls = {.size = sizeof(count_calls), .write = count_write};
    rig_init(&rig);
    uint32_t in = rig_add(&rig, WEIR_SOURCE, "in"), out = rig_add(&rig, WEIR_SINK, "out");
    rig_wire(&rig, in, out);
    rig.types[in].open = burst_open;
    rig.types[in].close = burst_close;
    rig.types[in].source = &burst_calls;
    rig.types[out].sink = &count_calls;
    script.polls_left = n_polls;
    script.rest = rest;
    script.given = written.n = 0;
    open_rig();
    wait_for_all(n_polls);
    wr_pipeline_drain(rig.p, INT64_MAX);
    assert_int_equal(close_rig().events, 0);
}

static void test_full_batches_are_told_of(void **state)
{
    (void)state;
    for (uint32_t n_polls = 1; n_polls <= 11; n_polls++)
        burst(n_polls, 0);
}

static void test_a_rest_is_told_of(void **state)
{
    (void)state;
    burst(0, 1);
    for (uint32_t n_polls = 1; n_polls <= 5; n_polls++)
        burst(n_polls, n_polls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_batches_are_told_of),
        cmocka_unit_test(test_a_rest_is_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
