/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold however the threads run: no event is lost or told of twice, keys keep their order, a
 * frozen batch can be read by all sinks at once. TSan is the other half of these tests.
 */
#include "threads_rig.h"

#include <sched.h>

/* ---- One batch, three sinks that read fields of its values ---- */

static struct {
    _Atomic uint64_t events, sum;
    _Atomic int wrong;
} readers[3];

static const struct weir_value *field(const struct weir_host *h, const struct weir_value *v,
                                      const char *name)
{
    return h->value_get(v, weir_cstr(name));
}

/* Every kind of look that a sink can take at an event. */
static bool read_event(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev)
{
    char text[64];
    const struct weir_value *v = h->event_value(h, b, ev);
    uint32_t i = (uint32_t)ev->position, n = 0;
    snprintf(text, sizeof(text), "event %u", i);
    bool ok = h->value_int(field(h, v, "i")) == i && h->value_real(field(h, v, "half")) == i + 0.5;
    ok &= wr_str_is(h->value_str(field(h, v, "name")), text);
    ok &= h->value_int(field(h, field(h, field(h, v, "in"), "deep"), "i")) == i;
    ok &= h->value_type(h->value_at(field(h, v, "tags"), 1)) == WEIR_NULL;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    while (h->value_next(&it, &key) != NULL)
        n += key.len != 0;
    ok &= n == h->value_count(v) && h->value_equal(v, ev->value);
    if (i % 3 == 0) /* what the transform has changed */
        ok &= h->value_int(field(h, v, "third")) == i / 3;
    struct weir_str written = h->value_write(h->scratch(h), v);
    ok &= written.ptr != NULL && h->event_payload(h, b, ev).len == written.len;
    const struct weir_header *header = h->event_header(ev, weir_cstr("n"));
    return ok && header != NULL && wr_str_is(header->value, "1") && ev->id.len != 0;
}

struct reader {
    const struct weir_host *h;
    int number;
};

static enum weir_status reader_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct reader *self = h->alloc(sizeof(*self));
    (void)err;
    self->h = h;
    self->number = *(const int *)config;
    *ret_self = self;
    return WEIR_OK;
}

static void reader_close(void *take_self)
{
    struct reader *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

static void reader_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    const struct reader *r = self;
    (void)until;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if (!read_event(r->h, b, ev))
            atomic_fetch_add(&readers[r->number].wrong, 1);
        atomic_fetch_add(&readers[r->number].sum, (uint64_t)ev->position);
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
    }
    atomic_fetch_add(&readers[r->number].events, b->n_events);
}

static const struct weir_sink reader_calls = {.size = sizeof(reader_calls), .write = reader_write};
static const struct weir_type reader_type = {.size = sizeof(reader_type),
                                             .kind = WEIR_SINK,
                                             .name = "reader",
                                             .sink = &reader_calls,
                                             .open = reader_open,
                                             .close = reader_close};

static enum weir_status change_some(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    const struct weir_host *h = s->h;
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        bool ok = h->event_set_header(h, b, ev, weir_cstr("n"), weir_cstr("1"));
        if (ev->position % 3 == 0)
            ok &= h->object_set(b->arena, h->event_edit(h, b, ev), weir_cstr("third"),
                                h->make_int(b->arena, ev->position / 3));
        assert_true(ok);
    }
    return WEIR_OK;
}

static void test_three_sinks_read_one_batch(void **state)
{
    static const int numbers[3] = {0, 1, 2};
    static const char *const ids[3] = {"one", "two", "three"};
    uint32_t in = add_source(N_EVENTS), t = rig_add(&rig, WEIR_TRANSFORM, "change");
    (void)state;
    memset(readers, 0, sizeof(readers));
    rig.script[t].apply = change_some;
    rig_wire(&rig, in, t);
    for (int i = 0; i < 3; i++) {
        uint32_t c = rig_add(&rig, WEIR_SINK, ids[i]);
        rig.comps[c].type = &reader_type;
        rig.comps[c].config = (void *)(uintptr_t)&numbers[i];
        rig.comps[c].needs = WEIR_NEEDS_VALUE | WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID;
        rig.comps[c].opt.sink.concurrency = i + 1;
        rig.comps[c].opt.sink.batch.events = 50 + 30 * i;
        rig_wire(&rig, t, c);
    }
    open_rig();
    struct wr_pipeline_left left = close_rig();
    assert_int_equal(left.events, 0);
    assert_int_equal(source.committed, N_EVENTS);
    assert_true(source.final);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&readers[i].wrong), 0);
        assert_int_equal(atomic_load(&readers[i].events), N_EVENTS);
        assert_int_equal(atomic_load(&readers[i].sum), (uint64_t)N_EVENTS * (N_EVENTS - 1) / 2);
    }
}

/* ---- Shards and a sink that fails at random ---- */

/* What the store behind the sink saw, and what was said of it. */
static struct {
    pthread_mutex_t mutex;
    uint32_t clock;
    struct {
        uint32_t writes, oks, last_ok; /* last_ok: the store's clock */
        enum weir_verdict last;
    } of[N_EVENTS];
    uint32_t dead[N_EVENTS], dead_attempts[N_EVENTS];
    bool whole_keys; /* once an event fails, so do the later ones of its key in that write */
    bool async, always_away;
    uint64_t salt;
    _Atomic int shards_writing, most_writing;
} store = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Always fails: its attempts are used up. */
static bool is_poison(uint32_t i)
{
    return i % 997 == 5;
}

static enum weir_verdict mishap(uint32_t i, uint32_t writes)
{
    unsigned x = mix(store.salt ^ (uint64_t)i << 20 ^ writes) % 100;
    if (is_poison(i) || x < 5)
        return WEIR_VERDICT_RETRY;
    if (x < 7)
        return WEIR_VERDICT_REJECTED;
    return x < 8 ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_OK;
}

/* With the mutex held. */
static enum weir_verdict apply_event(uint32_t i, bool away, bool *key_failed)
{
    enum weir_verdict v = away ? WEIR_VERDICT_UNAVAILABLE : mishap(i, store.of[i].writes);
    if (store.whole_keys && key_failed[i % N_KEYS] && v == WEIR_VERDICT_OK)
        v = WEIR_VERDICT_RETRY;
    key_failed[i % N_KEYS] |= v == WEIR_VERDICT_RETRY || v == WEIR_VERDICT_UNAVAILABLE;
    store.of[i].writes++;
    store.of[i].last = v;
    if (v == WEIR_VERDICT_OK) {
        store.of[i].oks++;
        store.of[i].last_ok = ++store.clock;
    }
    return v;
}

/* Completions that another thread is to tell, in the order of the writes. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct later {
        struct later *next;
        const struct weir_host *h;
        uint64_t ticket;
        uint32_t i;
        enum weir_verdict verdict;
    } *first, **last;
    bool stop, busy;
} completer = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void *complete_all(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&completer.mutex);
    for (;;) {
        struct later *l = completer.first;
        if (l == NULL && completer.stop)
            break;
        if (l == NULL) {
            pthread_cond_wait(&completer.cond, &completer.mutex);
            continue;
        }
        completer.first = l->next;
        if (completer.first == NULL)
            completer.last = &completer.first;
        completer.busy = true;
        pthread_mutex_unlock(&completer.mutex);
        struct weir_result r = {.verdict = l->verdict, .code = "later",
                                .message = weir_cstr("told later")};
        l->h->complete(l->h, l->ticket, l->i, &r);
        wr_free(l);
        pthread_mutex_lock(&completer.mutex);
        completer.busy = false;
        pthread_cond_broadcast(&completer.cond);
    }
    pthread_mutex_unlock(&completer.mutex);
    return NULL;
}

/* The host is there until close returns: nobody may be in it any more then. */
static void store_close(void *self)
{
    (void)self;
    pthread_mutex_lock(&completer.mutex);
    while (completer.busy)
        pthread_cond_wait(&completer.cond, &completer.mutex);
    pthread_mutex_unlock(&completer.mutex);
}

static void tell_later(const struct weir_host *h, uint64_t ticket, uint32_t i, enum weir_verdict v)
{
    struct later *l = wr_xalloc(sizeof(*l));
    *l = (struct later){NULL, h, ticket, i, v};
    pthread_mutex_lock(&completer.mutex);
    *completer.last = l;
    completer.last = &l->next;
    pthread_cond_broadcast(&completer.cond);
    pthread_mutex_unlock(&completer.mutex);
}

static enum weir_status store_open(const struct weir_host *h, const void *config, void **ret_self,
                                   struct weir_error *err)
{
    (void)config;
    (void)err;
    *ret_self = (void *)(uintptr_t)h;
    return WEIR_OK;
}

static void store_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    const struct weir_host *h = self;
    bool key_failed[N_KEYS] = {false};
    (void)until;
    int writing = atomic_fetch_add(&store.shards_writing, 1) + 1;
    int most = atomic_load(&store.most_writing);
    while (writing > most && !atomic_compare_exchange_weak(&store.most_writing, &most, writing))
        continue;
    pthread_mutex_lock(&store.mutex);
    bool away = mix(store.salt ^ ++store.clock) % 20 == 0 || store.always_away;
    for (uint32_t k = 0; k < b->n_events; k++) {
        uint32_t i = (uint32_t)weir_event_at(b, k)->position;
        enum weir_verdict v = apply_event(i, away, key_failed);
        struct weir_result *r = weir_result_at(results, k);
        r->verdict = store.async ? WEIR_VERDICT_PENDING : v;
        r->code = "mishap";
        r->message = weir_cstr("as the dice fell");
        if (store.async)
            tell_later(h, b->ticket, k, v);
    }
    pthread_mutex_unlock(&store.mutex);
    sched_yield();
    atomic_fetch_sub(&store.shards_writing, 1);
}

static const struct weir_sink store_calls = {.size = sizeof(store_calls), .write = store_write};
static const struct weir_type store_type = {.size = sizeof(store_type),
                                            .kind = WEIR_SINK,
                                            .name = "store",
                                            .sink = &store_calls,
                                            .open = store_open,
                                            .close = store_close};

/* The dead-letter sink: away now and then, and counts who it got. */
static void graveyard_write(void *self, struct weir_batch *b, int64_t until,
                            struct weir_results *results)
{
    const struct weir_host *h = self;
    (void)until;
    pthread_mutex_lock(&store.mutex);
    bool away = mix(store.salt ^ ++store.clock) % 3 == 0;
    for (uint32_t k = 0; k < b->n_events; k++) {
        struct weir_event *ev = weir_event_at(b, k);
        weir_result_at(results, k)->verdict = away ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_OK;
        if (away)
            continue;
        struct weir_error err = {0};
        const struct weir_value *v = h->value_parse(h->scratch(h), ev->payload, &err);
        int64_t i = h->value_int(field(h, field(h, v, "origin"), "offset"));
        assert_in_range(i, 0, N_EVENTS - 1);
        store.dead[i]++;
        store.dead_attempts[i] = (uint32_t)h->value_int(field(h, v, "attempts"));
    }
    pthread_mutex_unlock(&store.mutex);
}

static const struct weir_sink graveyard_calls = {.size = sizeof(graveyard_calls),
                                                 .write = graveyard_write};
static const struct weir_type graveyard_type = {.size = sizeof(graveyard_type),
                                                .kind = WEIR_SINK,
                                                .name = "graveyard",
                                                .sink = &graveyard_calls,
                                                .open = store_open,
                                                .close = close_nothing};

static struct wr_sink_options *add_store(uint32_t in, uint32_t traits, uint64_t salt)
{
    uint32_t c = rig_add(&rig, WEIR_SINK, "store"), dead = rig_add(&rig, WEIR_SINK, "dead");
    struct wr_sink_options *opt = &rig.comps[c].opt.sink;
    rig_wire(&rig, in, c);
    rig.comps[c].type = &store_type;
    rig.comps[c].traits = traits;
    rig.comps[c].dead_letter = (int32_t)dead;
    rig.comps[dead].type = &graveyard_type;
    rig.comps[dead].is_dead_letter = true;
    rig.comps[dead].opt.sink.buffer.size = 2000; /* often full: shards wait for it */
    rig.comps[dead].opt.sink.retry.initial = rig.comps[dead].opt.sink.retry.max = WEIR_NS_PER_MS;
    opt->on_reject = WR_ON_DEAD_LETTER;
    opt->concurrency = 4;
    opt->batch.events = 40;
    opt->buffer.size = 100000;
    opt->retry.attempts = 4;
    opt->retry.initial = WEIR_NS_PER_MS / 10;
    opt->retry.max = WEIR_NS_PER_MS;
    memset(store.of, 0, sizeof(store.of));
    memset(store.dead, 0, sizeof(store.dead));
    store.clock = 0;
    store.salt = salt;
    store.whole_keys = (traits & WEIR_TRAIT_OVERWRITES) == 0;
    store.async = false;
    return opt;
}

/* Each event was delivered or is a dead letter; of a key the delivered ones lie in their order. */
static void check_store(uint32_t n, bool overwrites)
{
    uint32_t last_of_key[N_KEYS] = {0}, poisoned = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_in_range(store.dead[i], 0, 1);
        if (store.dead[i] != 0) {
            assert_true(store.of[i].last != WEIR_VERDICT_OK);
            poisoned += is_poison(i);
            if (store.of[i].last == WEIR_VERDICT_RETRY)
                assert_int_equal(store.dead_attempts[i], 4);
        } else {
            assert_int_equal(store.of[i].last, WEIR_VERDICT_OK);
            if (store.of[i].last_ok <= last_of_key[i % N_KEYS])
                fail_msg("event %u of key %u was overtaken by a later one", i, i % N_KEYS);
            last_of_key[i % N_KEYS] = store.of[i].last_ok;
        }
        if (!overwrites) /* nothing twice that had succeeded */
            assert_int_equal(store.of[i].oks, store.dead[i] == 0);
    }
    assert_true(poisoned > 0);
}

static void run_store(uint32_t traits, bool async, int64_t in_flight, uint64_t salt)
{
    pthread_t thread;
    struct wr_sink_options *opt = add_store(add_source(N_EVENTS), traits, salt);
    opt->in_flight = in_flight;
    store.async = async;
    completer.stop = false;
    completer.last = &completer.first;
    if (async)
        assert_int_equal(pthread_create(&thread, NULL, complete_all, NULL), 0);
    open_rig();
    struct wr_pipeline_left left = close_rig();
    pthread_mutex_lock(&completer.mutex);
    completer.stop = true;
    pthread_cond_broadcast(&completer.cond);
    pthread_mutex_unlock(&completer.mutex);
    if (async)
        pthread_join(thread, NULL);
    assert_int_equal(left.events, 0);
    assert_int_equal(source.committed, N_EVENTS);
    assert_true(source.final);
    check_store(N_EVENTS, (traits & WEIR_TRAIT_OVERWRITES) != 0);
}

static void test_a_sink_that_fails_gets_nothing_twice(void **state)
{
    (void)state;
    run_store(0, false, 1, 1);
    assert_true(atomic_load(&store.most_writing) > 1); /* the shards did write at the same time */
}

static void test_an_overwriting_sink_ends_with_the_last_of_each_key(void **state)
{
    (void)state;
    run_store(WEIR_TRAIT_OVERWRITES, false, 1, 2);
}

static void test_results_that_come_later_from_another_thread(void **state)
{
    (void)state;
    run_store(0, true, 1, 3);
}

static void test_several_writes_in_flight_keep_the_order(void **state)
{
    (void)state;
    run_store(WEIR_TRAIT_OVERWRITES | WEIR_TRAIT_ORDERED, true, 5, 4);
}

static void test_one_instance_for_all_shards(void **state)
{
    (void)state;
    run_store(WEIR_TRAIT_SHARED, false, 1, 5);
}

/* ---- A stop in the middle ---- */

static void test_a_deadline_leaves_everything_counted(void **state)
{
    for (uint64_t round = 0; round < 6; round++) {
        (void)state;
        (void)add_store(add_source(N_EVENTS), 0, 100 + round);
        open_rig();
        struct timespec pause = {0, 20 * 1000000};
        nanosleep(&pause, NULL);
        wr_pipeline_drain(rig.p, wr_now(wr_clock_system()) + (int64_t)round * WEIR_NS_PER_MS);
        struct wr_pipeline_left left = close_rig();
        uint32_t ended = 0, first_left = source.next;
        for (uint32_t i = source.next; i-- > 0;) {
            bool over = store.dead[i] != 0 || store.of[i].last == WEIR_VERDICT_OK;
            ended += over;
            first_left = over ? first_left : i;
        }
        assert_int_equal(left.events, source.next - ended);
        assert_int_equal(source.committed, first_left);
        assert_true(left.timed_out || left.events == 0);
    }
}

/* Many times what a shard takes at once. */
static void test_a_deadline_empties_full_buffers(void **state)
{
    struct wr_sink_options *opt = add_store(add_source(N_EVENTS), 0, 7);
    (void)state;
    opt->batch.events = 2;
    opt->retry.initial = opt->retry.max = WEIR_NS_PER_S;
    opt->buffer.size = 1 << 30;
    store.always_away = true;
    open_rig();
    while (atomic_load(&wr_outlet_buffer(rig.p->units[1]->outlet)->events) != N_EVENTS)
        sched_yield();
    wr_pipeline_drain(rig.p, wr_now(wr_clock_system()) + 10 * WEIR_NS_PER_MS);
    struct wr_pipeline_left left = close_rig();
    store.always_away = false;
    assert_int_equal(left.events, N_EVENTS);
    assert_true(left.timed_out);
    assert_int_equal(source.committed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_sinks_read_one_batch),
        cmocka_unit_test(test_a_sink_that_fails_gets_nothing_twice),
        cmocka_unit_test(test_an_overwriting_sink_ends_with_the_last_of_each_key),
        cmocka_unit_test(test_results_that_come_later_from_another_thread),
        cmocka_unit_test(test_several_writes_in_flight_keep_the_order),
        cmocka_unit_test(test_one_instance_for_all_shards),
        cmocka_unit_test(test_a_deadline_leaves_everything_counted),
        cmocka_unit_test(test_a_deadline_empties_full_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
