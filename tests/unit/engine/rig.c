/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

struct rig *rig_now;

static int64_t clock_now(struct wr_clock *c)
{
    (void)c;
    return rig_now->now;
}

static int64_t clock_wall(struct wr_clock *c)
{
    (void)c;
    return INT64_C(1700000000000000000) + rig_now->now;
}

static uint64_t clock_random(struct wr_clock *c)
{
    static uint64_t x;
    (void)c;
    return x += 7;
}

/* Nobody else runs: a wait passes the time. */
static void clock_wait(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held, int64_t until)
{
    (void)c;
    (void)cond;
    (void)held;
    if (until != INT64_MAX && until > rig_now->now)
        rig_now->now = until;
}

/* ---- Scripted types ---- */

static enum weir_status open_script(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct rig_script *s = *(struct rig_script *const *)config;
    (void)err;
    s->h = h;
    *ret_self = s;
    if (s->poll != NULL) {
        struct weir_origin origin = {weir_cstr("rig"), 0};
        s->stream = h->stream_open(h, &origin, s);
    }
    return WEIR_OK;
}

static void close_script(void *self)
{
    (void)self;
}

static enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                    struct weir_error *err)
{
    struct rig_script *s = self;
    (void)until;
    (void)err;
    if (room == 0) {
        s->n_empty_polls++;
        return s->poll_full != NULL ? s->poll_full(s, b) : WEIR_AGAIN;
    }
    s->n_polls++;
    return s->poll(s, b, room);
}

static void source_wake(void *self)
{
    (void)self;
}

static void source_commit(void *self, struct weir_stream *st, void *user, int64_t next, bool final)
{
    struct rig_script *s = self;
    assert_ptr_equal(user, s);
    assert_ptr_equal(st, s->stream);
    s->committed = next;
    s->final = final;
}

static void source_answer(void *self, void *user, const struct weir_ends *ends)
{
    struct rig_script *s = self;
    size_t at = strlen(s->answers);
    (void)user;
    for (uint32_t i = 0; i < ends->n; i++)
        s->answers[at++] = (char)('0' + weir_end_at(ends, i)->outcome);
    s->answers[at] = '|';
}

static enum weir_status transform_apply(void *self, struct weir_batch *b, int64_t *again,
                                        struct weir_error *err)
{
    struct rig_script *s = self;
    (void)err;
    return s->apply(s, b, again);
}

static enum weir_status transform_tick(void *self, struct weir_batch *b, bool final,
                                       struct weir_error *err)
{
    struct rig_script *s = self;
    (void)err;
    return s->tick != NULL ? s->tick(s, b, final) : WEIR_OK;
}

static void transform_settled(void *self, const uint64_t *cookies, const enum weir_outcome *outcomes,
                              uint32_t n)
{
    struct rig_script *s = self;
    assert_int_equal(cookies[0], 42);
    s->n_settled += n;
    s->settled = outcomes[0];
}

static void sink_write(void *self, struct weir_batch *b, int64_t until, struct weir_results *results)
{
    struct rig_script *s = self;
    uint32_t write = s->n_writes++;
    (void)until;
    s->last_ticket = b->ticket;
    for (uint32_t i = 0; i < b->n_events; i++) {
        const struct weir_event *ev = weir_event_at(b, i);
        size_t at = strlen(s->seen);
        snprintf(s->seen + at, sizeof(s->seen) - at, "%.*s,", WR_STR(ev->payload));
        struct weir_result *r = weir_result_at(results, i);
        r->verdict = s->verdict != NULL ? s->verdict(s, ev, write) : WEIR_VERDICT_OK;
        if (r->verdict != WEIR_VERDICT_OK && r->verdict != WEIR_VERDICT_PENDING) {
            r->code = "scripted";
            r->message = weir_cstr("as the test says");
        }
    }
    size_t at = strlen(s->seen);
    snprintf(s->seen + at, sizeof(s->seen) - at, "|");
}

static const struct weir_source source_calls = {
    sizeof(source_calls), source_poll, source_wake, source_commit, source_answer, NULL};
static const struct weir_transform transform_calls = {sizeof(transform_calls), transform_apply,
                                                      transform_tick, transform_settled};
static const struct weir_sink sink_calls = {.size = sizeof(sink_calls), .write = sink_write};

/* ---- The rig ---- */

void rig_init(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    rig_now = r;
    r->now = WEIR_NS_PER_S;
    r->clock = (struct wr_clock){clock_now, clock_wall, clock_random, clock_wait};
    r->metrics = wr_metrics_new(1000);
    atomic_init(&r->plan.refs, 1);
    r->plan.name = weir_cstr("rig");
    r->plan.components = r->comps;
}

uint32_t rig_add(struct rig *r, enum weir_kind kind, const char *id)
{
    uint32_t i = r->plan.n_components++;
    struct weir_type *t = &r->types[i];
    struct wr_component *c = &r->comps[i];
    *t = (struct weir_type){.size = sizeof(*t), .kind = kind, .name = "script"};
    t->open = open_script;
    t->close = close_script;
    t->source = kind == WEIR_SOURCE ? &source_calls : NULL;
    t->transform = kind == WEIR_TRANSFORM ? &transform_calls : NULL;
    t->sink = kind == WEIR_SINK ? &sink_calls : NULL;
    r->config[i] = &r->script[i];
    r->script[i].committed = -1;
    c->id = weir_cstr(id);
    c->type = t;
    c->config = &r->config[i];
    c->outs = r->edges[i];
    c->dead_letter = -1;
    c->needs = kind == WEIR_SINK ? WEIR_NEEDS_PAYLOAD : 0;
    if (kind == WEIR_SOURCE)
        c->opt.source.lanes = 1;
    if (kind == WEIR_TRANSFORM)
        c->opt.transform.on_error = WR_ON_DROP;
    if (kind == WEIR_SINK) {
        c->opt.sink.batch.events = 100;
        c->opt.sink.batch.bytes = 1 << 20;
        c->opt.sink.buffer.size = 1 << 20;
        c->opt.sink.concurrency = c->opt.sink.in_flight = 1;
        c->opt.sink.retry.initial = WEIR_NS_PER_S;
        c->opt.sink.retry.max = 8 * WEIR_NS_PER_S;
        c->opt.sink.timeout = WEIR_NS_PER_S;
        c->opt.sink.on_reject = WR_ON_DROP;
    }
    return i;
}

void rig_wire(struct rig *r, uint32_t from, uint32_t to)
{
    r->comps[from].outs[r->comps[from].n_outs++] = (struct wr_edge){to, 0};
    r->comps[to].n_ins++;
}

void rig_open(struct rig *r)
{
    struct wr_runtime rt = {&r->clock, NULL, r->metrics};
    struct weir_error err = {0};
    r->p = wr_pipeline_new(&r->plan, &rt, &err);
    if (r->p == NULL)
        fail_msg("%s", err.text);
}

void rig_step(struct rig *r, uint32_t n)
{
    for (; n > 0; n--) {
        for (uint32_t i = 0; i < r->p->n_lanes; i++)
            (void)wr_lane_step(r->p->lanes[i], r->now);
        for (uint32_t i = 0; i < r->plan.n_components; i++) {
            struct wr_outlet *o = r->p->units[i]->outlet;
            for (uint32_t k = 0; o != NULL && k < wr_outlet_shards(o); k++)
                (void)wr_shard_step(wr_outlet_shard(o, k), r->now);
        }
    }
}

void rig_advance(struct rig *r, int64_t ns)
{
    r->now += ns;
    rig_step(r, 4);
}

void rig_done(struct rig *r)
{
    wr_pipeline_drain(r->p, r->now); /* ends whatever a test left */
    for (uint32_t i = 0; i < 100 && !atomic_load(&r->p->done); i++)
        rig_advance(r, WEIR_NS_PER_S);
    assert_true(atomic_load(&r->p->done));
    wr_pipeline_free(r->p);
    wr_metrics_free(r->metrics);
}

struct weir_event *rig_emit(struct rig_script *s, struct weir_batch *b, const char *payload,
                            int64_t position)
{
    static struct weir_origin origin = {{"rig", 3}, 0};
    struct weir_event *ev = s->h->event_add(b);
    ev->payload = s->h->arena_copy(b->arena, weir_cstr(payload));
    ev->stream = s->stream;
    ev->position = position;
    ev->next = position + 1;
    ev->origin = &origin;
    return ev;
}

/* ---- Ready-made scripts ---- */

enum weir_status rig_poll_words(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    const char *words = s->arg;
    uint32_t n = 0;
    while (*words != '\0' && n < room) {
        char word[64];
        size_t len = strcspn(words, " ");
        snprintf(word, sizeof(word), "%.*s", (int)len, words);
        struct weir_event *ev = rig_emit(s, b, word, (int64_t)(s->n_polls * 1000 + n++));
        ev->key = s->h->arena_copy(b->arena, weir_str_n(word, 1));
        words += len + (words[len] == ' ');
    }
    s->arg = (void *)(uintptr_t)words;
    return n != 0 ? WEIR_OK : WEIR_AGAIN;
}

void rig_words(struct rig *r, const char *words)
{
    r->script[0].arg = (void *)(uintptr_t)words;
}

static struct rig *line(uint32_t n, const char *words)
{
    static struct rig r;
    rig_init(&r);
    (void)rig_add(&r, WEIR_SOURCE, "in");
    if (n == 3)
        (void)rig_add(&r, WEIR_TRANSFORM, "t");
    (void)rig_add(&r, WEIR_SINK, "out");
    for (uint32_t i = 1; i < n; i++)
        rig_wire(&r, i - 1, i);
    r.script[0].poll = rig_poll_words;
    rig_words(&r, words);
    return &r;
}

struct rig *rig_pair(const char *words)
{
    return line(2, words);
}

struct rig *rig_triple(const char *words)
{
    return line(3, words);
}

enum weir_verdict rig_pending(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_PENDING;
}

void rig_complete_as(struct rig_script *s, uint64_t ticket, uint32_t i, uint32_t verdict,
                     int64_t retry_after)
{
    struct weir_result result = {.verdict = verdict, .code = "scripted", .retry_after_ns = retry_after};
    s->h->complete(s->h, ticket, i, &result);
}

void rig_complete(struct rig_script *s, uint32_t i)
{
    rig_complete_as(s, s->last_ticket, i, WEIR_VERDICT_OK, 0);
}
