/* SPDX-License-Identifier: Apache-2.0
 *
 * A sink whose client breaks again and again: closed and opened anew while lanes wake it, results come
 * and the shutdown's deadline cancels it. What nobody may touch any more is freed at once, so that
 * ASan and TSan see who does.
 */
#include "threads_rig.h"

#define PENDING_MAX 64

static struct {
    pthread_mutex_t mutex;
    uint64_t salt;
    uint32_t writes, opens, refused;
    bool refuse; /* to be opened again */
    bool ok[N_EVENTS];
} broken = {.mutex = PTHREAD_MUTEX_INITIALIZER};

struct client {
    const struct weir_host *h;
    struct wr_wake wake;
    uint64_t ticket;
    uint32_t n_pending;
    uint32_t pending[PENDING_MAX];
    bool broke;
};

static enum weir_status client_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    (void)config;
    pthread_mutex_lock(&broken.mutex);
    bool refuse = broken.refuse && broken.opens >= 2; /* the first time all is well */
    broken.opens += !refuse;
    broken.refused += refuse;
    pthread_mutex_unlock(&broken.mutex);
    if (refuse)
        return h->error(err, WEIR_E_FATAL, "broken", "the client cannot be made");
    struct client *c = h->alloc(sizeof(*c));
    c->h = h;
    wr_wake_init(&c->wake, NULL, NULL);
    *ret_self = c;
    return WEIR_OK;
}

static void client_close(void *take_self)
{
    struct client *c = take_self;
    if (c == NULL)
        return;
    assert_int_equal(c->n_pending, 0); /* all in flight have ended before */
    wr_wake_done(&c->wake);
    c->h->free(c);
}

static void client_write(void *self, struct weir_batch *b, int64_t until,
                         struct weir_results *results)
{
    struct client *c = self;
    (void)until;
    assert_false(c->broke);
    assert_in_range(b->n_events, 1, PENDING_MAX);
    pthread_mutex_lock(&broken.mutex);
    unsigned luck = mix(broken.salt ^ ++broken.writes) % 4;
    for (uint32_t k = 0; luck == 2 && k < b->n_events; k++)
        broken.ok[weir_event_at(b, k)->position] = true;
    pthread_mutex_unlock(&broken.mutex);
    c->broke = luck == 0;
    c->ticket = b->ticket;
    for (uint32_t k = 0; k < b->n_events; k++) {
        struct weir_result *r = weir_result_at(results, k);
        r->verdict = luck == 0 ? WEIR_VERDICT_REOPEN
                     : luck == 2 ? WEIR_VERDICT_OK
                                 : WEIR_VERDICT_PENDING;
        r->code = "broke";
        if (r->verdict == WEIR_VERDICT_PENDING)
            c->pending[c->n_pending++] = k;
    }
}

static void client_progress(void *self, int64_t until)
{
    struct client *c = self;
    int64_t soon = c->h->now(c->h) + WEIR_NS_PER_MS / 2;
    wr_wake_wait(&c->wake, wr_clock_system(), soon < until ? soon : until);
    wr_wake_clear(&c->wake);
    pthread_mutex_lock(&broken.mutex);
    c->broke = mix(broken.salt ^ ++broken.writes) % 5 == 0;
    pthread_mutex_unlock(&broken.mutex);
    struct weir_result r = {.verdict = c->broke ? WEIR_VERDICT_REOPEN : WEIR_VERDICT_RETRY,
                            .code = "broke"};
    while (c->n_pending != 0)
        c->h->complete(c->h, c->ticket, c->pending[--c->n_pending], &r);
}

static void client_wake(void *self)
{
    wr_wake_signal(&((struct client *)self)->wake);
}

static const struct weir_sink client_calls = {.size = sizeof(client_calls),
                                              .write = client_write,
                                              .progress = client_progress,
                                              .wake = client_wake,
                                              .cancel = client_wake};
static const struct weir_type client_type = {.size = sizeof(client_type),
                                             .kind = WEIR_SINK,
                                             .name = "client",
                                             .sink = &client_calls,
                                             .open = client_open,
                                             .close = client_close};

static void run_for(uint64_t salt, int64_t ms, int64_t drain_ms)
{
    uint32_t in = add_source(N_EVENTS), c = rig_add(&rig, WEIR_SINK, "client");
    struct wr_sink_options *opt = &rig.comps[c].opt.sink;
    rig_wire(&rig, in, c);
    rig.comps[c].type = &client_type;
    opt->concurrency = 2;
    opt->batch.events = 20;
    opt->buffer.size = 30000;
    opt->retry.initial = opt->retry.max = WEIR_NS_PER_MS / 10;
    memset(broken.ok, 0, sizeof(broken.ok));
    broken.opens = broken.refused = 0;
    broken.salt = salt;
    open_rig();
    struct timespec pause = {0, ms * 1000000};
    nanosleep(&pause, NULL);
    wr_pipeline_drain(rig.p, wr_now(wr_clock_system()) + drain_ms * WEIR_NS_PER_MS);
    struct wr_pipeline_left left = close_rig();
    uint32_t ended = 0;
    for (uint32_t i = 0; i < source.next; i++)
        ended += broken.ok[i];
    assert_int_equal(left.events, source.next - ended);
    for (int64_t i = 0; i < source.committed; i++)
        assert_true(broken.ok[i]);
}

static void test_a_client_that_breaks_is_opened_anew(void **state)
{
    (void)state;
    broken.refuse = false;
    for (uint64_t round = 0; round < 10; round++) {
        run_for(round, 60, (int64_t)round * 3);
        assert_true(broken.opens > 2);
    }
}

/* At the deadline there is no instance to cancel. */
static void test_a_client_that_cannot_be_opened_again_does_not_hold_the_stop(void **state)
{
    (void)state;
    broken.refuse = true;
    for (uint64_t round = 0; round < 4; round++) {
        run_for(round + 100, 60, 20);
        assert_true(broken.refused > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_that_breaks_is_opened_anew),
        cmocka_unit_test(test_a_client_that_cannot_be_opened_again_does_not_hold_the_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
