/* SPDX-License-Identifier: Apache-2.0
 *
 * What a write's results mean. Rejected and unavailable are kept apart: a rejected event goes where the
 * user chose and never comes back; an unavailable server makes the whole shard wait, for ever if need be,
 * and costs no event an attempt. After a retryable failure the events to repeat come first and alone, in
 * their order, so that the order of a key is kept.
 */
#include <engine/broken.h>
#include <engine/outlet_impl.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>

#include <stdlib.h>

#define WISH_MAX_NS (3600 * WEIR_NS_PER_S) /* of a server's Retry-After */
#define VERDICT_OUTAGE_USED_UP 100u        /* of ours: attempts of on_unavailable: dead_letter are over */

/* What of a write failed and will be repeated. */
struct failed {
    const struct weir_result *worst; /* NULL: nothing is repeated */
    int64_t retry_after_ns;
    uint32_t n;
    bool any; /* retryable failures, those whose attempts are used up included */
};

/* ---- Ends ---- */

/* The event is gone from its entry. */
static void settle_entry(struct wr_entry *entry, const struct weir_event *ev)
{
    if (entry != NULL)
        wr_buffer_settle(entry, 1, wr_event_cost(ev));
}

void wr_shard_end(struct wr_shard *s, const struct weir_event *ev, struct wr_entry *entry,
                  enum weir_outcome outcome, const struct wr_why *why)
{
    wr_ack_settle(ev->host_ack, outcome, why, &s->ended);
    settle_entry(entry, ev);
}

/* ---- Dead letters ---- */

bool wr_shard_push_dead(struct wr_shard *s, int64_t now)
{
    struct wr_batch *b = s->dead;
    if (b == NULL)
        return true;
    struct wr_unit *unit = s->outlet->dead;
    struct wr_body *own = b->own;
    uint32_t n = b->pub.n_events;
    for (uint32_t i = 0; i < n && (unit->comp->needs & WEIR_NEEDS_VALUE) != 0; i++)
        (void)wr_event_value(b, &wr_batch_events(b)[i], NULL); /* cannot fail: we wrote the text */
    wr_batch_freeze(b);
    if (!wr_buffer_push(wr_outlet_buffer(unit->outlet), b, now, &s->dead_waiter)) {
        /* Still ours: other writes in flight may add to it. */
        b->own = own;
        b->pub.arena = &own->arena;
        return false;
    }
    wr_metric_add(unit->received_events, n);
    s->dead = NULL;
    return true;
}

static bool add_dead(struct wr_shard *s, const struct weir_event *ev, const struct wr_meta *meta,
                     const struct weir_result *r)
{
    struct wr_clock *clock = s->outlet->p->rt.clock;
    int64_t wall = clock->wall(clock);
    struct wr_failure failure = {s->outlet->unit, r, meta->attempts + 1,
                                 meta->first_ns != 0 ? meta->first_ns : wall, wall};
    return wr_dead_letter_add(&s->dead, ev, &failure);
}

static void reject(struct wr_shard *s, struct weir_event *ev, const struct wr_meta *meta,
                   const struct weir_result *r, int policy)
{
    struct wr_outlet *o = s->outlet;
    const char *code = r->code != NULL ? r->code : "rejected";
    struct wr_why why = wr_why_of(o->unit, WEIR_DROPPED, code, r->message);
    wr_unit_count_error(o->unit, "write", code, 1);
    wr_unit_log_failure(o->unit, "event rejected", ev, r, meta->attempts + 1);
    if (policy == WR_ON_DEAD_LETTER && o->dead == NULL)
        policy = WR_ON_STOP; /* the plan refuses it; never drop in its place */
    switch (policy) {
    case WR_ON_DEAD_LETTER:
        if (add_dead(s, ev, meta, r)) {
            settle_entry(meta->entry, ev); /* the ack went along */
            return;
        }
        why.outcome = WEIR_FAILED;
        wr_pipeline_fail(o->p, "no memory for a dead letter of '%.*s'", WR_STR(o->unit->comp->id));
        break;
    case WR_ON_DROP:
        wr_unit_count_discard(o->unit, code, 1);
        break;
    default:
        why.outcome = WEIR_FAILED;
        wr_pipeline_fail(o->p, "sink '%.*s' rejected an event: %s: %.*s",
                         WR_STR(o->unit->comp->id), code, WR_STR(r->message));
    }
    wr_shard_end(s, ev, meta->entry, why.outcome, &why);
}

void wr_shard_reject(struct wr_shard *s, struct weir_event *ev, const struct wr_meta *meta,
                     const struct weir_result *r)
{
    reject(s, ev, meta, r, wr_outlet_options(s->outlet)->on_reject);
}

/* ---- Repeating ---- */

static bool keep_again(struct wr_shard *s, const struct weir_event *ev, const struct wr_meta *meta)
{
    if (s->n_again == s->cap_again) {
        uint32_t cap = s->cap_again != 0 ? s->cap_again * 2 : 64;
        struct wr_again *grown = wr_realloc(s->again, cap * sizeof(*grown));
        if (grown == NULL)
            return false;
        s->again = grown;
        s->cap_again = cap;
    }
    struct wr_again *again = &s->again[s->n_again++];
    *again = (struct wr_again){*ev, *meta, 0};
    again->order = wr_shard_order(s, &again->ev);
    return true;
}

static int by_seq(const void *a, const void *b)
{
    const struct wr_again *x = a, *y = b;
    return x->meta.seq < y->meta.seq ? -1 : x->meta.seq > y->meta.seq;
}

static void repeat(struct wr_shard *s, const struct weir_event *ev, const struct wr_meta *meta)
{
    if (keep_again(s, ev, meta))
        return;
    wr_pipeline_fail(s->outlet->p, "no memory to keep an event for its retry at '%.*s'",
                     WR_STR(s->outlet->unit->comp->id));
    wr_shard_end(s, ev, meta->entry, WEIR_FAILED, NULL);
}

static bool is_retryable(const struct weir_result *r)
{
    return r->verdict == WEIR_VERDICT_RETRY || r->verdict == WEIR_VERDICT_UNAVAILABLE ||
           r->verdict == WEIR_VERDICT_REOPEN || r->verdict == WEIR_VERDICT_BEHIND;
}

/* Whether it tells more of what is wrong: what waits behind another event tells nothing of its own. */
static bool tells_more(const struct weir_result *r, const struct weir_result *than)
{
    if (than == NULL || r->verdict == WEIR_VERDICT_BEHIND)
        return than == NULL;
    return than->verdict == WEIR_VERDICT_BEHIND || r->verdict > than->verdict;
}

/* A failure by verdict RETRY is one always, an outage only where the user asked for it. */
static bool is_attempt(const struct wr_shard *s, const struct weir_result *r)
{
    if (r->verdict == WEIR_VERDICT_BEHIND)
        return false;
    return r->verdict == WEIR_VERDICT_RETRY ||
           wr_outlet_options(s->outlet)->on_unavailable == WR_UNAVAILABLE_DEAD_LETTER;
}

/* An event of this key, before this one, is to be repeated. */
static bool follows_failed(struct wr_shard *s, struct weir_event *ev, uint64_t seq)
{
    uint64_t order = s->n_again != 0 ? wr_shard_order(s, ev) : 0;
    for (uint32_t i = 0; order != 0 && i < s->n_again; i++)
        if (s->again[i].meta.seq < seq && s->again[i].order == order)
            return true;
    return false;
}

static bool used_up(const struct wr_shard *s, uint32_t attempts)
{
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    return opt->retry.attempts != 0 && (int64_t)attempts >= opt->retry.attempts;
}

/* Full jitter over an exponential bound, at least a tenth of it, so that a wait is a wait. */
static int64_t backoff(struct wr_shard *s, int64_t wish)
{
    if (wish > WISH_MAX_NS)
        wish = WISH_MAX_NS;
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    struct wr_clock *clock = s->outlet->p->rt.clock;
    int64_t bound = opt->retry.initial;
    for (uint32_t i = 1; i < s->fail_streak && bound < opt->retry.max; i++)
        bound *= 2;
    if (bound > opt->retry.max)
        bound = opt->retry.max;
    int64_t least = bound / 10;
    int64_t wait = least + (int64_t)(clock->random(clock) % (uint64_t)(bound - least + 1));
    return wish > wait ? wish : wait;
}

static void count_retryable(struct wr_shard *s, const struct weir_result *r)
{
    wr_unit_count_error(s->outlet->unit, "write",
                        r->code != NULL ? r->code
                        : r->verdict == WEIR_VERDICT_RETRY ? "retry"
                                                           : "unavailable",
                        1);
}

static void begin_backoff(struct wr_shard *s, const struct failed *f, int64_t now)
{
    struct wr_clock *clock = s->outlet->p->rt.clock;
    const struct weir_result *r = f->worst;
    if (now >= s->hold_until)
        s->fail_streak++; /* writes that were under way together fail together: one try */
    int64_t wait = backoff(s, f->retry_after_ns);
    s->hold_until = now + wait;
    if (s->away_since == 0)
        s->away_since = clock->wall(clock);
    WR_LOG(s->outlet->unit->log, WEIR_LOG_WARN,
           r->verdict == WEIR_VERDICT_UNAVAILABLE || r->verdict == WEIR_VERDICT_REOPEN
               ? "sink unavailable, will try again"
               : "events will be written again",
           weir_kv_u64("events", f->n),
           weir_kv_text("code", r->code != NULL ? r->code : "unavailable"),
           weir_kv_str("reason", r->message), weir_kv_f64("retry_in_s", (double)wait / 1e9),
           weir_kv_u64("tries", s->fail_streak));
}

static void end_backoff(struct wr_shard *s)
{
    struct wr_clock *clock = s->outlet->p->rt.clock;
    if (s->away_since != 0)
        WR_LOG(s->outlet->unit->log, WEIR_LOG_INFO, "sink takes events again",
               weir_kv_f64("after_s", (double)(clock->wall(clock) - s->away_since) / 1e9));
    s->away_since = 0;
    s->fail_streak = 0;
    s->hold_until = 0;
}

/* The failures of a write: what is to be repeated goes to the list, what is used up is marked for the
 * pass behind this one. */
static struct failed keep_failed(struct wr_shard *s, struct wr_write *w, int64_t wall)
{
    struct failed f = {0};
    for (uint32_t i = 0; i < w->b->pub.n_events; i++) {
        struct weir_result *r = &w->results[i];
        if (!is_retryable(r) || wr_break_retry(r))
            continue;
        struct wr_meta *meta = &w->meta[i];
        bool counts = is_attempt(s, r);
        if (meta->first_ns == 0 && r->verdict != WEIR_VERDICT_BEHIND)
            meta->first_ns = wall;
        f.any = true;
        s->reopen |= r->verdict == WEIR_VERDICT_REOPEN;
        if (counts && used_up(s, meta->attempts + 1)) {
            r->verdict = r->verdict == WEIR_VERDICT_RETRY ? (uint32_t)WEIR_VERDICT_REJECTED
                                                          : VERDICT_OUTAGE_USED_UP;
            continue;
        }
        meta->attempts += counts;
        count_retryable(s, r);
        f.n++;
        if (tells_more(r, f.worst))
            f.worst = r;
        if (r->retry_after_ns > f.retry_after_ns)
            f.retry_after_ns = r->retry_after_ns;
        repeat(s, &wr_batch_events(w->b)[i], meta);
    }
    return f;
}

/* Events that got through: one settle call and one observation an entry, not an event. */
struct through {
    struct weir_metric *latency;
    int64_t now;
    struct wr_entry *entry;
    uint32_t n;
    size_t bytes;
};

static void flush_through(struct through *t)
{
    if (t->n == 0)
        return;
    double took = (double)(t->now - t->entry->batch->entered_ns) / 1e9;
    wr_metric_observe_n(t->latency, took, t->n);
    wr_buffer_settle(t->entry, t->n, t->bytes);
    t->n = 0;
    t->bytes = 0;
}

static void deliver(struct wr_shard *s, struct weir_event *ev, const struct wr_meta *meta,
                    struct through *t)
{
    bool dead = (ev->flags & WR_EVENT_DEAD) != 0;
    wr_ack_settle(ev->host_ack, dead ? WEIR_DEAD_LETTERED : WEIR_DELIVERED, NULL, &s->ended);
    if (t->entry != meta->entry) {
        flush_through(t);
        t->entry = meta->entry;
    }
    t->n++;
    t->bytes += wr_event_cost(ev);
}

void wr_shard_finish(struct wr_shard *s, struct wr_write *w, int64_t now)
{
    struct wr_outlet *o = s->outlet;
    struct wr_clock *clock = o->p->rt.clock;
    bool overwrites = (o->unit->comp->traits & WEIR_TRAIT_OVERWRITES) != 0;
    uint32_t delivered = 0;
    size_t bytes = 0;
    struct through t = {.latency = o->latency, .now = now};
    struct failed f = keep_failed(s, w, clock->wall(clock));
    if (f.worst != NULL)
        begin_backoff(s, &f, now);
    for (uint32_t i = 0; i < w->b->pub.n_events; i++) {
        struct weir_event *ev = &wr_batch_events(w->b)[i];
        const struct weir_result *r = &w->results[i];
        if (r->verdict == WEIR_VERDICT_REJECTED) {
            wr_shard_reject(s, ev, &w->meta[i], r);
        } else if (r->verdict == VERDICT_OUTAGE_USED_UP) {
            reject(s, ev, &w->meta[i], r, WR_ON_DEAD_LETTER); /* as on_unavailable says */
        } else if (r->verdict == WEIR_VERDICT_OK) {
            if (overwrites && follows_failed(s, ev, w->meta[i].seq)) {
                repeat(s, ev, &w->meta[i]);
                continue;
            }
            delivered++;
            bytes += ev->payload.len;
            deliver(s, ev, &w->meta[i], &t);
        }
    }
    flush_through(&t);
    if (s->n_again > 1)
        qsort(s->again, s->n_again, sizeof(*s->again), by_seq);
    if (!f.any && s->n_again == 0)
        end_backoff(s);
    wr_metric_add(o->unit->sent_events, delivered);
    wr_metric_add(o->unit->sent_bytes, bytes);
    wr_metric_add(o->writes, 1);
    w->active = false;
    s->n_active--;
    w->b->pub.n_events = 0;
    wr_arena_clear(&w->texts, 64 * 1024);
    wr_ended_flush(&s->ended);
    (void)wr_shard_push_dead(s, now);
}

/* ---- The end of everything ---- */

void wr_shard_fail_queued(struct wr_shard *s)
{
    struct wr_why why = wr_why_of(s->outlet->unit, WEIR_FAILED, "shutdown",
                                  weir_cstr("the pipeline ended before this event could"));
    for (uint32_t i = 0; i < s->n_again; i++)
        wr_shard_end(s, &s->again[i].ev, s->again[i].meta.entry, WEIR_FAILED, &why);
    s->n_again = 0;
    struct wr_run run;
    while (wr_shard_next_run(s, &run)) {
        /* Read before the last event of the entry is settled and its memory goes. */
        for (uint32_t i = run.from; i < run.to; i++) {
            struct weir_event ev = wr_batch_events(run.entry->batch)[i];
            wr_shard_end(s, &ev, run.entry, WEIR_FAILED, &why);
        }
    }
    if (s->dead != NULL) {
        for (uint32_t i = 0; i < s->dead->pub.n_events; i++)
            wr_ack_settle(wr_batch_events(s->dead)[i].host_ack, WEIR_FAILED, &why, &s->ended);
        wr_batch_free(s->dead);
        s->dead = NULL;
    }
    wr_ended_flush(&s->ended);
}
