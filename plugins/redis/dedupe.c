/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `redis_dedupe`: the first event with a key passes, by keys in Redis.
 *
 *   batch ─▶ lane_sort ─▶ GET of each first ─again─▶ found: a duplicate
 *                                                └─▶ nothing: passes ─▶ … ended well ─▶ SET NX PX
 *
 * A key stays known here until its SET is answered: what comes meanwhile is a duplicate without a question.
 */
#include "client.h"
#include "dedupe_config.h"
#include "redis.h"
#include "reply.h"
#include "slots.h"

#include "../common/event_key.h"
#include <stdio.h>
#include <string.h>

#define BUSY_MAX (1u << 20) /* keys on their way, or on theirs to Redis */
#define WRITES_MAX 64u /* keys that are written together */

/* Of all lanes of a component. */
struct shared {
    struct keys *keys;
    struct client *client;
    void (*free)(void *take_p);
    _Atomic int64_t flush_until_ns; /* those that close wait until then, all together; 0: none has so far */
};

/* Keys that are written, or to be. */
struct writes {
    struct writes *next;
    struct group *group;
    struct key *keys[WRITES_MAX];
};

struct dedupe {
    struct lane lane;
    const struct dedupe_config *config;
    struct shared *shared;
    char *key; /* the prefix, and room for what comes behind it */
    size_t prefix_len;
    char ttl_ms[24];
    struct group *asked;          /* look-ups of the batch at hand, in the order of its firsts */
    struct writes *open;          /* not submitted yet */
    struct writes *first, **last; /* submitted */
    struct weir_metric *looked_up, *unavailable, *races, *unwritten;
};

/* ---- Opening --------------------------------------------------------------------------------- */

static void shared_free(void *take_shared)
{
    struct shared *s = take_shared;
    if (s == NULL)
        return;
    client_free(s->client);
    keys_free(s->keys);
    s->free(s);
}

static void *shared_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct dedupe_config *cf = config;
    const struct keys_config kc = {BUSY_MAX, (size_t)cf->memory, cf->lane.ttl_ns,
                                   (uint32_t)cf->lane.held};
    const struct client_config cc = {.conn = &cf->conn,
                                     .timeout_ns = cf->timeout_ns,
                                     .wait = cf->on_unavailable == AWAY_WAIT};
    struct shared *s = h->alloc(sizeof(*s));
    if (s != NULL) {
        s->free = h->free;
        s->keys = keys_new(h, &kc);
        s->client = client_new(h, &cc);
        if (s->keys != NULL && s->client != NULL)
            return s;
    }
    shared_free(s);
    h->error(err, WEIR_E_NOMEM, "no_memory", "no memory or descriptor for the redis client");
    return NULL;
}

static void make_metrics(struct dedupe *self)
{
    const struct weir_host *h = self->lane.h;
    self->looked_up = h->counter(h, "dedupe_lookups_total", "Keys that Redis was asked for.", NULL);
    self->unavailable = h->counter(
        h, "dedupe_unavailable_total", "Events that passed because Redis gave no answer.", NULL);
    self->races = h->counter(
        h, "dedupe_races_total",
        "Keys that were there already when they were written: their events passed twice.", NULL);
    self->unwritten =
        h->counter(h, "dedupe_unwritten_total", "Keys that could not be written.", NULL);
}

/* The prefix, in front of room for an event's own text. */
static bool make_prefix(struct dedupe *self)
{
    const struct weir_host *h = self->lane.h;
    const struct weir_str given = self->config->prefix;
    struct weir_str parts[] = {given, weir_cstr(""), weir_cstr(""), weir_cstr(""), weir_cstr("")};
    if (given.ptr == NULL) {
        parts[0] = weir_cstr("weir:dedupe:");
        parts[1] = h->pipeline;
        parts[2] = parts[4] = weir_cstr(":");
        parts[3] = h->component;
    }
    for (size_t i = 0; i < 5; i++)
        self->prefix_len += parts[i].len;
    self->key = h->alloc(self->prefix_len + EVENT_KEY_MAX);
    if (self->key == NULL)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < 5; at += parts[i++].len)
        memcpy(self->key + at, parts[i].ptr, parts[i].len);
    return true;
}

static enum weir_status setup(struct dedupe *self, struct weir_error *err)
{
    const struct weir_host *h = self->lane.h;
    self->shared = h->shared(h, shared_new, shared_free, err);
    if (self->shared == NULL)
        return WEIR_E_NOMEM;
    if (!make_prefix(self))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to deduplicate");
    snprintf(self->ttl_ms, sizeof(self->ttl_ms), "%lld",
             (long long)(self->config->lane.ttl_ns / WEIR_NS_PER_MS));
    lane_open(&self->lane, h, &self->config->lane, self->shared->keys);
    make_metrics(self);
    return client_join(self->shared->client, h, err);
}

enum weir_status dedupe_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err)
{
    struct dedupe *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to deduplicate");
    self->lane.h = h;
    self->config = config;
    self->last = &self->first;
    enum weir_status st = setup(self, err);
    if (st != WEIR_OK) {
        dedupe_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Commands -------------------------------------------------------------------------------- */

/* Adds a question about the key to the group, which has room. False: no memory. */
static bool add_question(struct dedupe *self, struct group *g, struct weir_str text, bool set)
{
    size_t at = g->commands.len;
    memcpy(self->key + self->prefix_len, text.ptr, text.len);
    const struct weir_str key = {self->key, self->prefix_len + text.len};
    const struct weir_str args[] = {weir_cstr(set ? "SET" : "GET"), key, weir_cstr("1"),
                                    weir_cstr("NX"), weir_cstr("PX"), weir_cstr(self->ttl_ms)};
    bytes_put_command(&g->commands, set ? 6 : 2, args);
    if (g->commands.failed) {
        g->commands.failed = false;
        g->commands.len = at;
        return false;
    }
    struct question *q = &g->questions[g->n++];
    q->at = at;
    q->len = g->commands.len - at;
    if (self->config->conn.cluster)
        q->slot = (uint16_t)slot_of(key);
    return true;
}

/* The server counts as hostile: what is no answer to the question is none. */
static bool is_reply(const struct answer *a, enum reply_type type)
{
    struct reply reply;
    const char *at = a->blob->data;
    return record_next(&at, at + a->blob->len, &reply) && reply.type == type;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void give_up_write(struct dedupe *self, struct key *take_key)
{
    self->lane.h->metric_add(self->unwritten, 1);
    lane_written(&self->lane, take_key);
}

static void submit_writes(struct dedupe *self)
{
    struct writes *w = self->open;
    if (w == NULL)
        return;
    self->open = NULL;
    *self->last = w;
    self->last = &w->next;
    client_submit(self->shared->client, w->group);
}

static struct writes *open_writes(struct dedupe *self)
{
    const struct weir_host *h = self->lane.h;
    if (self->open != NULL)
        return self->open;
    struct writes *w = h->alloc(sizeof(*w));
    struct group *g = w != NULL ? group_new(h, WRITES_MAX) : NULL;
    if (g == NULL) {
        if (w != NULL)
            h->free(w);
        return NULL;
    }
    w->group = g;
    h->wake(h); /* they go out in the next tick, unless there are enough before */
    return self->open = w;
}

static void write_key(struct dedupe *self, struct key *key)
{
    struct writes *w = open_writes(self);
    if (w == NULL || !add_question(self, w->group, weir_str_n(key->text, key->len), true)) {
        give_up_write(self, key);
        return;
    }
    w->keys[w->group->n - 1] = key;
    if (w->group->n == WRITES_MAX)
        submit_writes(self);
}

static void take_written(struct dedupe *self, struct key *key, const struct answer *a)
{
    const struct weir_host *h = self->lane.h;
    const char *code = a->code, *error = a->message;
    switch (a->state) {
    case ANSWER_MISSING:
        h->metric_add(self->races, 1);
        lane_written(&self->lane, key);
        return;
    case ANSWER_FOUND:
        if (is_reply(a, REPLY_STATUS)) {
            lane_written(&self->lane, key);
            return;
        }
        code = "unexpected_reply";
        error = "the reply is not that of SET";
        break;
    case ANSWER_WAITING:
        code = "stopped";
        error = "redis did not answer before the end";
        break;
    default:
        break;
    }
    const struct weir_kv kv[] = {weir_kv_text("code", code), weir_kv_text("error", error)};
    h->log(h, WEIR_LOG_WARN, "a key was not written", kv, 2);
    give_up_write(self, key);
}

/* Takes what is answered; `all`: nothing more is waited for. */
static void collect_writes(struct dedupe *self, bool all)
{
    struct writes *w;
    while ((w = self->first) != NULL && (all || atomic_load(&w->group->n_waiting) == 0)) {
        self->first = w->next;
        if (self->first == NULL)
            self->last = &self->first;
        bool answered = atomic_load(&w->group->n_waiting) == 0;
        static const struct answer none = {.state = ANSWER_WAITING};
        for (uint32_t i = 0; i < w->group->n; i++)
            take_written(self, w->keys[i], answered ? &w->group->questions[i].answer : &none);
        client_release(self->shared->client, w->group);
        self->lane.h->free(w);
    }
}

/* The last keys are written, as long as Redis may take for an answer. */
static void flush_writes(struct dedupe *self)
{
    struct shared *s = self->shared;
    const struct weir_host *h = self->lane.h;
    submit_writes(self);
    if (self->first != NULL && atomic_load(&s->flush_until_ns) == 0)
        atomic_store(&s->flush_until_ns, h->now(h) + self->config->timeout_ns);
    for (const struct writes *w = self->first; w != NULL; w = w->next)
        client_flush(s->client, w->group, atomic_load(&s->flush_until_ns));
    collect_writes(self, true);
}

void dedupe_close(void *take_self)
{
    struct dedupe *self = take_self;
    if (self == NULL)
        return;
    if (self->lane.keys != NULL) {
        flush_writes(self);
        client_release(self->shared->client, self->asked);
        client_leave(self->shared->client, self->lane.h);
    }
    lane_close(&self->lane);
    if (self->key != NULL)
        self->lane.h->free(self->key);
    self->lane.h->free(self);
}

/* ---- Looking up ------------------------------------------------------------------------------ */

/* Asks for the firsts of the batch. False: no memory. */
static bool ask(struct dedupe *self, uint32_t n_events)
{
    const struct lane *l = &self->lane;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_events; i++)
        n += l->items[i].first != NULL;
    if (n == 0)
        return true;
    self->asked = group_new(l->h, n);
    if (self->asked == NULL)
        return false;
    for (uint32_t i = 0; i < n_events; i++) {
        if (l->items[i].first == NULL || add_question(self, self->asked, l->items[i].text, false))
            continue;
        client_release(self->shared->client, self->asked);
        self->asked = NULL;
        return false;
    }
    l->h->metric_add(self->looked_up, n);
    client_submit(self->shared->client, self->asked);
    return true;
}

static void fail_firsts(struct dedupe *self, uint32_t n_events)
{
    for (uint32_t i = 0; i < n_events; i++)
        if (self->lane.items[i].first != NULL)
            lane_end(&self->lane, self->lane.items[i].first, END_FAILED);
}

static void take_answer(struct dedupe *self, struct weir_batch *b, struct weir_event *ev,
                        struct key *key, const struct answer *a)
{
    const struct weir_host *h = self->lane.h;
    switch (a->state) {
    case ANSWER_FOUND:
        if (is_reply(a, REPLY_STRING)) {
            h->event_filter(h, b, ev, "duplicate");
            lane_end(&self->lane, key, END_DUPLICATE);
            break;
        }
        event_fail_as(h, b, ev, "unexpected_reply", weir_cstr("the reply is not that of GET"));
        lane_end(&self->lane, key, END_REFUSED);
        break;
    case ANSWER_REJECTED:
        event_fail_as(h, b, ev, a->code, weir_cstr(a->message));
        lane_end(&self->lane, key, END_REFUSED);
        break;
    default:
        if (a->state == ANSWER_UNAVAILABLE)
            h->metric_add(self->unavailable, 1);
        lane_pass(&self->lane, b, ev, key);
    }
}

/* Lanes that closed in a reload have waited; those that close later do it anew, now that Redis is there. */
static void redis_answered(struct shared *s)
{
    if (atomic_load(&s->flush_until_ns) != 0)
        atomic_store(&s->flush_until_ns, 0);
}

static void take_answers(struct dedupe *self, struct weir_batch *b)
{
    uint32_t q = 0;
    if (self->asked->questions[0].answer.state != ANSWER_UNAVAILABLE)
        redis_answered(self->shared);
    for (uint32_t i = 0; q < self->asked->n; i++)
        if (self->lane.items[i].first != NULL)
            take_answer(self, b, weir_event_at(b, i), self->lane.items[i].first,
                        &self->asked->questions[q++].answer);
    client_release(self->shared->client, self->asked);
    self->asked = NULL;
}

/* ---- The calls ------------------------------------------------------------------------------- */

static enum weir_status dedupe_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                     struct weir_error *err)
{
    struct dedupe *self = self_arg;
    struct lane *l = &self->lane;
    (void)ret_again_ns;
    submit_writes(self);
    collect_writes(self, false);
    if (self->asked == NULL) {
        if (lane_is_full(l)) {
            lane_give_out(l, b, true); /* that makes room */
            return WEIR_AGAIN;
        }
        if (!lane_sort(l, b))
            return l->h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the keys");
        if (!ask(self, b->n_events)) {
            fail_firsts(self, b->n_events);
            return l->h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the look-ups");
        }
    }
    if (self->asked != NULL && atomic_load(&self->asked->n_waiting) > 0)
        return WEIR_AGAIN;
    if (self->asked != NULL)
        take_answers(self, b);
    lane_give_out(l, b, false);
    return WEIR_OK;
}

static enum weir_status dedupe_tick(void *self_arg, struct weir_batch *b, bool final,
                                    struct weir_error *err)
{
    struct dedupe *self = self_arg;
    (void)final; /* a duplicate waits for its first then as well, which ends before the lane does */
    (void)err;
    submit_writes(self);
    collect_writes(self, false);
    lane_tick(&self->lane, b);
    return WEIR_OK;
}

static void dedupe_settled(void *self_arg, const uint64_t *cookies,
                           const enum weir_outcome *outcomes, uint32_t n)
{
    struct dedupe *self = self_arg;
    for (uint32_t i = 0; i < n; i++) {
        struct key *key = lane_key_of(cookies[i]);
        bool well = lane_ended_well(outcomes[i]);
        lane_end(&self->lane, key, well ? END_WRITING : END_FAILED);
        if (well)
            write_key(self, key);
    }
}

const struct weir_transform dedupe_calls = {
    .size = sizeof(dedupe_calls),
    .apply = dedupe_apply,
    .tick = dedupe_tick,
    .settled = dedupe_settled,
};
