/* SPDX-License-Identifier: Apache-2.0
 *
 * reload_rig.h: plans of the rig between which a pipeline on real threads is reloaded. A part says what a
 * component does, whichever plan it is in; a test changes that while the pipeline runs.
 */
#ifndef RELOAD_RIG_H
#define RELOAD_RIG_H

#include "rig.h"

#include <engine/outlet_impl.h>
#include <engine/reload.h>

#include <time.h>

#define SECONDS_MAX 30

/* What a component does and has seen, in whatever plan it is. All but its type under `lock`. */
struct part {
    struct weir_type type;
    const char *id;
    const char *words;   /* of a source: an event each, one a poll */
    bool rude;           /* of a source: it gives them also where there is no room */
    int64_t committed;   /* of all that its instances were told */
    bool away, refuses;  /* of a sink: its server */
    bool stuck;          /* of a transform: its final tick does not return */
    bool tells_origin;   /* a sink sees the origin's name, too */
    uint32_t n_opened, n_final, n_seen;
    char seen[256];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct part in, in2, t1, t2, out, other, dead;
static struct rig first, second, third;
static struct wr_pipeline *p;

static inline int begin(void **state)
{
    (void)state;
    rig_init(&first);
    rig_init(&second);
    rig_init(&third);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    wr_metrics_free(first.metrics);
    wr_metrics_free(second.metrics);
    wr_metrics_free(third.metrics);
    return 0;
}

static inline void nap(void)
{
    struct timespec ts = {0, 1000 * 1000};
    nanosleep(&ts, NULL);
}

#define EVENTUALLY(what)                                   \
    for (int naps = 0; !(what); naps++) {                  \
        if (naps == SECONDS_MAX * 1000)                    \
            fail_msg("%s: not in %d s", #what, SECONDS_MAX); \
        nap();                                             \
    }

/* ---- Components ---- */

struct from {
    const struct weir_host *h;
    struct weir_stream *stream;
    struct part *part;
    int64_t position;
};

static inline enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct from *f = h->alloc(sizeof(*f));
    struct weir_origin origin = {weir_cstr("words"), 0};
    (void)err;
    f->h = h;
    f->part = (struct part *)(uintptr_t)config;
    f->part->n_opened++;
    f->stream = h->stream_open(h, &origin, f);
    *ret_self = f;
    return WEIR_OK;
}

static inline void source_close(void *take_self)
{
    struct from *f = take_self;
    f->h->free(f);
}

static inline void emit(struct from *f, struct weir_batch *b, struct weir_str word)
{
    struct weir_event *ev = f->h->event_add(b);
    struct weir_origin *origin = f->h->arena_alloc(b->arena, sizeof(*origin));
    ev->payload = f->h->arena_copy(b->arena, word);
    *origin = (struct weir_origin){word, 0}; /* a text of its options */
    ev->origin = origin;
    ev->stream = f->stream;
    ev->position = f->position++;
    ev->next = f->position;
}

static inline enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                    struct weir_error *err)
{
    struct from *f = self;
    (void)err;
    pthread_mutex_lock(&lock);
    const char *word = room != 0 || f->part->rude ? f->part->words : "";
    size_t len = strcspn(word, " ");
    if (len != 0)
        f->part->words += len + (word[len] == ' ');
    pthread_mutex_unlock(&lock);
    if (len != 0) {
        emit(f, b, weir_str_n(word, len));
        return WEIR_OK;
    }
    int64_t soon = wr_now(wr_clock_system()) + WEIR_NS_PER_MS;
    f->h->wait(f->h, until < soon ? until : soon);
    return WEIR_AGAIN;
}

static inline void source_commit(void *self, struct weir_stream *st, void *user, int64_t next, bool final)
{
    struct from *f = self;
    (void)st;
    (void)user;
    (void)final;
    pthread_mutex_lock(&lock);
    f->part->committed = next;
    pthread_mutex_unlock(&lock);
}

static inline enum weir_status part_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    (void)h;
    (void)err;
    *ret_self = (void *)(uintptr_t)config;
    return WEIR_OK;
}

static inline void part_close(void *self)
{
    (void)self;
}

static inline enum weir_status transform_apply(void *self, struct weir_batch *b, int64_t *again,
                                        struct weir_error *err)
{
    (void)self;
    (void)b;
    (void)again;
    (void)err;
    return WEIR_OK;
}

static inline bool is_stuck(void *part)
{
    pthread_mutex_lock(&lock);
    bool stuck = ((struct part *)part)->stuck && ((struct part *)part)->n_final != 0;
    pthread_mutex_unlock(&lock);
    return stuck;
}

static inline enum weir_status transform_tick(void *self, struct weir_batch *b, bool final,
                                       struct weir_error *err)
{
    struct part *part = self;
    (void)b;
    (void)err;
    pthread_mutex_lock(&lock);
    part->n_final += final;
    pthread_mutex_unlock(&lock);
    EVENTUALLY(!is_stuck(part));
    return WEIR_OK;
}

static inline void see(struct part *part, const struct weir_event *ev)
{
    size_t at = strlen(part->seen);
    part->n_seen++;
    if (part->tells_origin)
        snprintf(part->seen + at, sizeof(part->seen) - at, "%.*s from %.*s,", WR_STR(ev->payload),
                 WR_STR(ev->origin->name));
    else if (ev->payload.len < 8) /* no dead letter */
        snprintf(part->seen + at, sizeof(part->seen) - at, "%.*s,", WR_STR(ev->payload));
}

static inline void sink_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    struct part *part = self;
    (void)until;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_result *r = weir_result_at(results, i);
        r->verdict = part->away      ? WEIR_VERDICT_UNAVAILABLE
                     : part->refuses ? WEIR_VERDICT_REJECTED
                                     : WEIR_VERDICT_OK;
        r->message = weir_cstr("as the test says");
        if (r->verdict == WEIR_VERDICT_OK)
            see(part, weir_event_at(b, i));
    }
    pthread_mutex_unlock(&lock);
}

/* ---- Plans and pipelines ---- */

static inline void is_source(struct part *part, const char *id, const char *words)
{
    static const struct weir_source calls = {
        .size = sizeof(calls), .poll = source_poll, .commit = source_commit};
    *part = (struct part){.id = id, .words = words};
    part->type = (struct weir_type){.size = sizeof(struct weir_type), .kind = WEIR_SOURCE, .name = "words",
                                    .source = &calls, .open = source_open, .close = source_close};
}

static inline void is_transform(struct part *part, const char *id)
{
    static const struct weir_transform calls = {
        .size = sizeof(calls), .apply = transform_apply, .tick = transform_tick};
    *part = (struct part){.id = id};
    part->type = (struct weir_type){.size = sizeof(struct weir_type), .kind = WEIR_TRANSFORM, .name = "passes",
                                    .transform = &calls, .open = part_open, .close = part_close};
}

static inline void is_sink(struct part *part, const char *id)
{
    static const struct weir_sink calls = {.size = sizeof(calls), .write = sink_write};
    *part = (struct part){.id = id};
    part->type = (struct weir_type){.size = sizeof(struct weir_type), .kind = WEIR_SINK, .name = "sees",
                                    .sink = &calls, .open = part_open, .close = part_close};
}

static inline uint32_t add(struct rig *r, struct part *part)
{
    static const struct wr_node no_options;
    uint32_t i = rig_add(r, part->type.kind, part->id);
    struct wr_component *c = &r->comps[i];
    c->type = &part->type;
    c->config = part;
    c->node = &no_options;
    if (part->type.kind == WEIR_SINK) {
        c->opt.sink.batch.events = 1;
        c->opt.sink.retry.initial = c->opt.sink.retry.max = 2 * WEIR_NS_PER_MS;
    }
    return i;
}

static inline uint32_t add_behind(struct rig *r, uint32_t from, struct part *part)
{
    uint32_t i = add(r, part);
    rig_wire(r, from, i);
    return i;
}

/* In front of that sink one batch waits, and the next one has no room. */
static inline void has_no_room(struct rig *r, uint32_t sink)
{
    r->comps[sink].opt.sink.buffer.size = 1;
}

static inline void dead_letters_to(struct rig *r, uint32_t from, uint32_t to)
{
    r->comps[from].opt.sink.on_reject = WR_ON_DEAD_LETTER;
    r->comps[from].dead_letter = (int32_t)to;
    r->comps[to].is_dead_letter = true;
}

static inline void told(void *arg)
{
    (void)arg;
}

static inline void start(struct rig *r)
{
    struct wr_runtime rt = {wr_clock_system(), NULL, r->metrics};
    struct weir_error err = {0};
    p = wr_pipeline_new(&r->plan, &rt, &err);
    if (p == NULL)
        fail_msg("%s", err.text);
    wr_pipeline_start(p, told, NULL);
}

static inline bool try_reload(const struct rig *to, bool (*give_up)(void *arg), void *arg)
{
    struct wr_reload_wait wait = {wr_now(wr_clock_system()) + SECONDS_MAX * WEIR_NS_PER_S, give_up, arg};
    struct wr_reloaded done;
    struct weir_error err = {0};
    bool ok = wr_pipeline_reload(p, &to->plan, &wait, &done, &err);
    if (!ok)
        print_message("no reload: %s\n", err.text);
    return ok;
}

/* For a reload that waits: its server is there again, and the tick goes on. */
static inline bool let_go_on(void *part)
{
    pthread_mutex_lock(&lock);
    ((struct part *)part)->away = ((struct part *)part)->stuck = false;
    pthread_mutex_unlock(&lock);
    return false;
}

static inline bool never(void *arg)
{
    (void)arg;
    return false;
}

static inline bool is_full(uint32_t component)
{
    return atomic_load(&wr_outlet_buffer(p->units[component]->outlet)->wanted) != 0;
}

static inline bool has_seen(const struct part *part, const char *seen)
{
    pthread_mutex_lock(&lock);
    bool same = strcmp(part->seen, seen) == 0;
    pthread_mutex_unlock(&lock);
    return same;
}

static inline uint32_t n_seen(const struct part *part)
{
    pthread_mutex_lock(&lock);
    uint32_t n = part->n_seen;
    pthread_mutex_unlock(&lock);
    return n;
}

static inline int64_t committed(const struct part *part)
{
    pthread_mutex_lock(&lock);
    int64_t next = part->committed;
    pthread_mutex_unlock(&lock);
    return next;
}

static inline bool has_outlets(uint32_t n)
{
    wr_pipeline_reap(p);
    return p->n_outlets == n;
}

static inline bool has_lanes(uint32_t n)
{
    wr_pipeline_reap(p);
    return p->n_lanes == n;
}

/* All that came in has ended, in order. */
static inline void finish(void)
{
    wr_pipeline_drain(p, wr_now(wr_clock_system()) + SECONDS_MAX * WEIR_NS_PER_S);
    EVENTUALLY(wr_pipeline_state(p) == WR_PIPELINE_DONE || wr_pipeline_state(p) == WR_PIPELINE_STOPPED);
    assert_string_equal(wr_pipeline_reason(p), "");
    struct wr_pipeline_left left = wr_pipeline_close(p);
    assert_int_equal(left.events, 0);
    assert_false(left.timed_out);
    wr_pipeline_free(p);
}

#endif
