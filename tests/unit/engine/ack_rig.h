/* SPDX-License-Identifier: Apache-2.0
 *
 * ack_rig.h: acks by themselves. No lane: the test is the lane's thread, and a source that writes down
 * what it hears.
 */
#ifndef ACK_RIG_H
#define ACK_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/mem.h>
#include <base/pool.h>
#include <base/str.h>
#include <base/wake.h>
#include <engine/ack.h>

#define MAX_STREAMS 8
#define MAX_REQUESTS 4000
#define WATCHER ((void *)&rig)

/* What the source hears. */
struct heard_stream {
    struct weir_stream *s;
    int64_t committed; /* -1: nothing yet */
    int n_commits, n_final;
};

struct heard_request {
    struct weir_request *r;
    int n_answers;
    uint32_t n;
    enum weir_outcome *ends;
    char text[80]; /* code, component and message of the first end that has any */
};

static struct {
    struct wr_acks *acks;
    struct wr_wake wake;
    struct heard_stream streams[MAX_STREAMS];
    struct heard_request requests[MAX_REQUESTS];
    void (*in_commit)(struct heard_stream *hs);
    uint8_t *settled; /* by cookie: outcome + 1 */
    int n_settled;
    int64_t now;
    size_t mem;
    unsigned seed;
} rig;

static inline bool is_gone(const struct wr_ack *ack)
{
    return wr_ack_fate(ack, 0) == WR_FATE_GONE;
}

static inline unsigned any(unsigned below)
{
    rig.seed = rig.seed * 1664525u + 1013904223u;
    return (rig.seed >> 8) % below;
}

static inline void commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    struct heard_stream *hs = user;
    assert_ptr_equal(self, &rig);
    assert_ptr_equal(s, hs->s);
    assert_true(next > hs->committed || (final && next == hs->committed));
    hs->committed = next;
    hs->n_commits++;
    hs->n_final += final;
    if (rig.in_commit != NULL)
        rig.in_commit(hs);
}

static inline void answer(void *self, void *user, const struct weir_ends *ends)
{
    struct heard_request *hr = user;
    assert_ptr_equal(self, &rig);
    hr->n_answers++;
    hr->r = NULL;
    hr->n = ends->n;
    hr->ends = wr_xalloc(ends->n * sizeof(*hr->ends));
    for (uint32_t i = 0; i < ends->n; i++) {
        const struct weir_end *e = weir_end_at(ends, i);
        hr->ends[i] = e->outcome;
        if (hr->text[0] == '\0' && e->code != NULL)
            snprintf(hr->text, sizeof(hr->text), "%s %.*s %.*s", e->code, WR_STR(e->component),
                     WR_STR(e->message));
    }
}

static inline void count_wake(void *arg)
{
    (void)arg;
    wr_wake_signal(&rig.wake);
}

static inline void note_settled(void *arg, void *watcher, uint64_t cookie, enum weir_outcome outcome)
{
    (void)arg;
    assert_ptr_equal(watcher, WATCHER);
    assert_int_equal(rig.settled[cookie], 0); /* each is heard of once */
    rig.settled[cookie] = (uint8_t)(outcome + 1);
    rig.n_settled++;
}

static inline int begin(void **state)
{
    static const struct weir_source type = {
        .size = sizeof(type), .commit = commit, .answer = answer};
    static const struct wr_acks_ops ops = {count_wake, note_settled};
    (void)state;
    memset(&rig, 0, sizeof(rig));
    wr_pool_trim();
    rig.mem = wr_mem_used();
    rig.seed = 1;
    wr_wake_init(&rig.wake, NULL, NULL);
    rig.acks = wr_acks_new(&type, &ops, NULL);
    wr_acks_source(rig.acks, &rig);
    for (int i = 0; i < MAX_STREAMS; i++)
        rig.streams[i].committed = -1;
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    assert_int_equal(wr_acks_open(rig.acks), 0);
    wr_acks_free(rig.acks);
    for (int i = 0; i < MAX_REQUESTS; i++)
        wr_free(rig.requests[i].ends);
    wr_free(rig.settled);
    wr_wake_done(&rig.wake);
    wr_pool_trim();
    assert_int_equal(wr_mem_used(), rig.mem);
    return 0;
}

static inline struct heard_stream *open_stream(int i)
{
    struct weir_origin origin = {weir_cstr("topic"), i};
    rig.streams[i].s = wr_stream_open(rig.acks, &origin, &rig.streams[i]);
    assert_non_null(rig.streams[i].s);
    return &rig.streams[i];
}

static inline struct weir_request *begin_request(int i)
{
    return rig.requests[i].r = wr_request_begin(rig.acks, &rig.requests[i]);
}

/* n events of a stream (positions from `at`, `step` apart) or of a request (items from `at`) come in;
 * their nodes go to ret. */
static inline void enter(struct weir_stream *s, struct weir_request *r, int64_t at, uint32_t n, int64_t step,
                  struct wr_ack **ret)
{
    struct wr_batch *b = wr_batch_new(NULL, n);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_event *ev = wr_event_add(&b->pub);
        ev->stream = s;
        ev->request = r;
        ev->position = at + (int64_t)i * step;
        ev->next = ev->position + step;
    }
    assert_true(wr_acks_enter(rig.acks, b, ++rig.now));
    for (uint32_t i = 0; i < n; i++)
        ret[i] = wr_batch_events(b)[i].host_ack;
    wr_batch_free(b);
}

static inline void settle(struct wr_ack *ack, enum weir_outcome outcome)
{
    struct wr_ended ended = {0};
    wr_ack_settle(ack, outcome, NULL, &ended);
    wr_ended_flush(&ended);
}

static inline void shuffle(uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = any(i), swap = order[k];
        order[k] = order[i - 1];
        order[i - 1] = swap;
    }
}

#define ACKS(test) cmocka_unit_test_setup_teardown(test, begin, end)

#endif
