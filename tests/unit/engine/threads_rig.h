/* SPDX-License-Identifier: Apache-2.0
 *
 * threads_rig.h: the rig's plan on real threads and the real clock, and a source of numbered events with
 * keys, all of one stream.
 */
#ifndef THREADS_RIG_H
#define THREADS_RIG_H

#include "rig.h"

#include <time.h>

#define N_EVENTS 12000
#define N_KEYS 61
#define SECONDS_MAX 60

static struct rig rig;

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool told;
} news = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

static inline void tell(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&news.mutex);
    news.told = true;
    pthread_cond_signal(&news.cond);
    pthread_mutex_unlock(&news.mutex);
}

static inline void open_rig(void)
{
    struct wr_runtime rt = {wr_clock_system(), NULL, rig.metrics};
    struct weir_error err = {0};
    rig.p = wr_pipeline_new(&rig.plan, &rt, &err);
    if (rig.p == NULL)
        fail_msg("%s", err.text);
    news.told = false;
    wr_pipeline_start(rig.p, tell, NULL);
}

static inline struct wr_pipeline_left close_rig(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += SECONDS_MAX;
    pthread_mutex_lock(&news.mutex);
    while (wr_pipeline_state(rig.p) < WR_PIPELINE_STOPPED)
        if (pthread_cond_timedwait(&news.cond, &news.mutex, &ts) != 0)
            fail_msg("still in state %d after %d s", wr_pipeline_state(rig.p), SECONDS_MAX);
    pthread_mutex_unlock(&news.mutex);
    if (wr_pipeline_state(rig.p) != WR_PIPELINE_DONE)
        fail_msg("stopped: %s", wr_pipeline_reason(rig.p));
    struct wr_pipeline_left left = wr_pipeline_close(rig.p);
    wr_pipeline_free(rig.p);
    wr_metrics_free(rig.metrics);
    return left;
}

/* splitmix64: the same events and mishaps in every run of one seed, whatever the threads do. */
static inline unsigned mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (unsigned)(x ^ (x >> 31));
}

/* ---- The source: numbered events, some keys, one stream ---- */

static struct {
    const struct weir_host *h;
    struct weir_stream *stream;
    uint32_t next, end;
    int64_t committed;
    bool final;
} source;

static inline enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct weir_origin origin = {weir_cstr("numbers"), 0};
    (void)config;
    (void)err;
    source.h = h;
    source.stream = h->stream_open(h, &origin, NULL);
    source.committed = 0;
    *ret_self = &source;
    return WEIR_OK;
}

static inline void close_nothing(void *self)
{
    (void)self;
}

static inline void emit(struct weir_batch *b, uint32_t i)
{
    const struct weir_host *h = source.h;
    struct weir_event *ev = h->event_add(b);
    static const struct weir_origin origin = {{"numbers", 7}, 0};
    ev->payload = h->arena_printf(b->arena,
                                  "{\"i\":%u,\"half\":%u.5,\"name\":\"event %u\",\"tags\":[\"a\",null,%u],"
                                  "\"in\":{\"deep\":{\"i\":%u}}}",
                                  i, i, i, i, i);
    ev->key = h->arena_printf(b->arena, "key-%u", i % N_KEYS);
    ev->origin = &origin;
    ev->stream = source.stream;
    ev->position = i;
    ev->next = i + 1;
}

static inline enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                    struct weir_error *err)
{
    (void)self;
    (void)err;
    if (source.next == source.end)
        return WEIR_END;
    if (room == 0) {
        source.h->wait(source.h, until);
        return WEIR_AGAIN;
    }
    uint32_t n = 1 + mix(source.next) % 100;
    for (uint32_t k = 0; k < n && k < room && source.next < source.end; k++)
        emit(b, source.next++);
    return WEIR_OK;
}

static inline void source_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self;
    (void)s;
    (void)user;
    assert_true(next >= source.committed);
    source.committed = next;
    source.final = final;
}

static const struct weir_source source_calls = {
    .size = sizeof(source_calls), .poll = source_poll, .commit = source_commit};
static const struct weir_type source_type = {.size = sizeof(source_type),
                                             .kind = WEIR_SOURCE,
                                             .name = "numbers",
                                             .source = &source_calls,
                                             .open = source_open,
                                             .close = close_nothing};

static inline uint32_t add_source(uint32_t end)
{
    rig_init(&rig);
    memset(&source, 0, sizeof(source));
    source.end = end;
    uint32_t c = rig_add(&rig, WEIR_SOURCE, "in");
    rig.comps[c].type = &source_type;
    return c;
}

#endif
