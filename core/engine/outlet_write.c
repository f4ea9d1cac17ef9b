/* SPDX-License-Identifier: Apache-2.0
 *
 * A shard's writes: gathered into the size that the user chose, given to the sink, ended when every event
 * has its verdict, be it from write() or from a completion later. A shard writes when it has a full batch,
 * or what it has is old enough, or nothing more will come. What a verdict means is in outlet_results.c.
 */
#include <engine/broken.h>
#include <engine/outlet_impl.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>

#define REOPEN_NS (1 * WEIR_NS_PER_S)
#define LEASE_LOOK_NS (10 * WEIR_NS_PER_MS) /* how often a source that was not heard of is looked at */
#define AHEAD 4u

/* ---- Gathering ---- */

static struct wr_write *free_slot(struct wr_shard *s)
{
    for (uint32_t i = 0; i < s->n_writes; i++)
        if (!s->writes[i].active)
            return &s->writes[i];
    return NULL;
}

static bool write_reserve(struct wr_write *w, uint32_t cap)
{
    if (w->b == NULL && (w->b = wr_batch_new(NULL, cap)) == NULL)
        return false;
    if (cap <= w->cap)
        return true;
    struct wr_meta *meta = wr_realloc(w->meta, cap * sizeof(*meta));
    if (meta != NULL)
        w->meta = meta;
    struct weir_result *results = wr_realloc(w->results, cap * sizeof(*results));
    if (results != NULL)
        w->results = results;
    if (meta == NULL || results == NULL || !wr_batch_reserve(w->b, cap))
        return false;
    w->cap = cap;
    return true;
}

/* Events and their acks were written by the lane, on another core: they are asked for some events before
 * they are looked at. */
static inline void fetch_ahead(const struct weir_event *ev, uint32_t n)
{
    if (n <= 2 * AHEAD)
        return;
    const char *event = (const char *)(ev + 2 * AHEAD);
    __builtin_prefetch(event);
    __builtin_prefetch(event + 64);
    __builtin_prefetch(event + 128);
    __builtin_prefetch(ev[AHEAD].host_ack, 1);
}

/* What a lane would have refused: a buffer on disk may have been filled in front of another sink. */
static void reject_no_value(struct wr_shard *s, const struct weir_event *ev, const struct wr_meta *meta)
{
    struct weir_event rejected = *ev;
    struct weir_error err = {.code = "not_json", .text = "the payload is no JSON, so it has no fields"};
    wr_arena_clear(&s->order, 64 * 1024);
    if ((ev->flags & (WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) == 0)
        (void)wr_value_parse(&s->order, ev->payload, &err);
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED, .code = err.code,
                            .message = weir_cstr(err.text)};
    wr_shard_reject(s, &rejected, meta, &r);
}

/* Adds the event unless nobody counts it any more. False: it cannot be written now, nor what is behind it,
 * because its partition may have another owner. */
static bool gather(struct wr_shard *s, struct wr_write *w, const struct weir_event *ev,
                   const struct wr_meta *meta, int64_t now)
{
    enum wr_fate fate = wr_ack_fate(ev->host_ack, now);
    if (fate == WR_FATE_WAIT)
        return false;
    if (fate == WR_FATE_GONE) {
        wr_unit_count_discard(s->outlet->unit, "abandoned", 1); /* its new owner reads it again */
        wr_shard_end(s, ev, meta->entry, WEIR_ABANDONED, NULL);
        return true;
    }
    if (ev->value == NULL && s->outlet->buffer->durable &&
        (s->outlet->unit->comp->needs & WEIR_NEEDS_VALUE) != 0) {
        reject_no_value(s, ev, meta);
        return true;
    }
    uint32_t i = w->b->pub.n_events++; /* reserved before */
    wr_batch_events(w->b)[i] = *ev;
    wr_break_gathered(&wr_batch_events(w->b)[i], &s->ended);
    w->meta[i] = *meta;
    w->results[i] = (struct weir_result){0};
    return true;
}

/* Events to repeat come alone: the ones behind them follow when they are through. False as gather(). */
static bool gather_again(struct wr_shard *s, struct wr_write *w, int64_t now)
{
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    uint32_t n = 0, max = (uint32_t)opt->batch.events;
    bool may = true;
    for (size_t bytes = 0; n < s->n_again && n < max; n++) {
        bytes += wr_event_cost(&s->again[n].ev);
        if (n != 0 && bytes > (size_t)opt->batch.bytes)
            break;
        may = gather(s, w, &s->again[n].ev, &s->again[n].meta, now);
        if (!may)
            break;
    }
    s->repeating = true;
    s->n_again -= n;
    memmove(s->again, s->again + n, s->n_again * sizeof(*s->again));
    wr_metric_add(s->outlet->retries, w->b->pub.n_events);
    return may;
}

static bool gather_new(struct wr_shard *s, struct wr_write *w, int64_t now)
{
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    uint32_t max = (uint32_t)opt->batch.events;
    struct wr_run run;
    size_t bytes = 0;
    bool may = true;
    while (w->b->pub.n_events < max && wr_shard_next_run(s, &run)) {
        const struct weir_event *events = wr_batch_events(run.entry->batch);
        while (run.from < run.to && w->b->pub.n_events < max) {
            size_t cost = wr_event_cost(&events[run.from]);
            if (bytes != 0 && bytes + cost > (size_t)opt->batch.bytes)
                break;
            bytes += cost;
            fetch_ahead(&events[run.from], run.to - run.from);
            struct wr_meta meta = {.entry = run.entry, .seq = s->next_seq};
            may = gather(s, w, &events[run.from], &meta, now);
            if (!may)
                break;
            s->next_seq++;
            run.from++;
        }
        if (run.from < run.to) {
            wr_shard_give_back_run(s, run);
            break;
        }
    }
    return may;
}

/* When what is queued may be written; INT64_MAX: nothing is queued. Bytes are looked at too, so that
 * few big events do not wait for the time-out. */
static int64_t ready_at(struct wr_shard *s, int64_t now)
{
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    pthread_mutex_lock(&s->mutex);
    int64_t at = INT64_MAX;
    size_t bytes = 0;
    if (s->n_runs != 0) {
        at = s->runs[s->first_run].entry->pushed_ns + opt->batch.timeout;
        if (s->queued_events >= (uint64_t)opt->batch.events)
            at = now;
        for (uint32_t i = 0; at > now && i < s->n_runs; i++) {
            const struct wr_run *run = &s->runs[(s->first_run + i) % s->cap_runs];
            for (uint32_t e = run->from; e < run->to; e++)
                bytes += wr_event_cost(&wr_batch_events(run->entry->batch)[e]);
            if (bytes >= (size_t)opt->batch.bytes)
                at = now;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    const struct wr_pipeline *p = s->outlet->p;
    if (at != INT64_MAX && (atomic_load(&p->draining) || atomic_load(&p->flushing) ||
                            atomic_load(&s->outlet->leaves) ||
                            atomic_load(&s->outlet->buffer->wanted)))
        at = now; /* nothing comes that it could wait for */
    return at;
}

/* ---- Writing ---- */

static uint64_t ticket_of(const struct wr_shard *s, const struct wr_write *w)
{
    return (uint64_t)w->generation << 32 | (uint64_t)s->index << 16 | (uint64_t)(w - s->writes);
}

static bool verdict_is_known(uint32_t verdict)
{
    return verdict != WEIR_VERDICT_NONE && verdict <= WEIR_VERDICT_BEHIND;
}

/* An event without a verdict is not lost: it is written again. */
static void no_verdict(struct wr_shard *s, struct weir_result *r, uint32_t n)
{
    *r = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                              .code = "no_verdict",
                              .message = weir_cstr("the sink gave no verdict (a bug of the plugin)")};
    struct weir_kv kv = weir_kv_u64("events", n);
    wr_unit_plugin_bug(s->outlet->unit, "plugin bug: no verdict", &kv, 1);
}

static void check_verdicts(struct wr_shard *s, struct wr_write *w)
{
    for (uint32_t i = 0; i < w->b->pub.n_events; i++) {
        struct weir_result *r = &w->results[i];
        if (r->verdict == WEIR_VERDICT_PENDING)
            w->n_pending++;
        else if (!verdict_is_known(r->verdict))
            no_verdict(s, r, 1);
    }
}

/* A shared instance has callbacks on several threads: nothing of its own to clear. */
void wr_shard_clear_scratch(struct wr_shard *s)
{
    if ((s->outlet->unit->comp->traits & WEIR_TRAIT_SHARED) == 0)
        wr_arena_clear(&s->inst->scratch, 256 * 1024);
}

/* Ends the writes whose results are all known. Where a repeated write overwrites, in the order of their
 * start: a later one must not be counted as through while an earlier one may still fail. */
static void finish_writes(struct wr_shard *s)
{
    bool in_order = (s->outlet->unit->comp->traits & WEIR_TRAIT_OVERWRITES) != 0;
    int64_t now = wr_now(s->outlet->p->rt.clock);
    for (;;) {
        struct wr_write *oldest = NULL;
        for (uint32_t i = 0; i < s->n_writes && s->n_active != 0; i++) {
            struct wr_write *w = &s->writes[i];
            if (w->active && !w->given_up && (in_order || w->n_pending == 0) &&
                (oldest == NULL || w->number < oldest->number))
                oldest = w;
        }
        if (oldest == NULL || oldest->n_pending != 0)
            return;
        wr_shard_finish(s, oldest, now);
    }
}

/* What write() said at once of events beside pending ones: its texts live until it returns. */
static void keep_messages(struct wr_write *w)
{
    for (uint32_t i = 0; i < w->b->pub.n_events; i++)
        w->results[i].message = wr_arena_copy(&w->texts, w->results[i].message);
}

static void start_write(struct wr_shard *s, struct wr_write *w, int64_t now)
{
    struct wr_outlet *o = s->outlet;
    uint32_t n = w->b->pub.n_events;
    struct weir_results results = {n, sizeof(struct weir_result), w->results};
    w->generation++;
    w->number = s->next_write++;
    w->active = true;
    w->n_pending = 0; /* a completion before write() returns waits in the queue */
    w->b->pub.ticket = ticket_of(s, w);
    s->n_active++;
    wr_shard_clear_scratch(s);
    o->type->write(s->inst->self, &w->b->pub, now + wr_outlet_options(o)->timeout, &results);
    check_verdicts(s, w);
    if (w->n_pending == 0)
        finish_writes(s);
    if (w->active)
        keep_messages(w);
}

/* A new instance that comes after the shutdown's deadline is cancelled like the others. */
static struct wr_instance *swap_instance(struct wr_shard *s, struct wr_instance *inst)
{
    pthread_mutex_lock(&s->inst_mutex);
    struct wr_instance *old = s->inst;
    s->inst = inst;
    pthread_mutex_unlock(&s->inst_mutex);
    if (atomic_load(&s->outlet->p->aborting))
        wr_shard_cancel(s);
    return old;
}

/* Closes and opens the sink after a fatal client error. */
static bool reopen(struct wr_shard *s, int64_t now)
{
    struct weir_error err = {0};
    if ((s->outlet->unit->comp->traits & WEIR_TRAIT_SHARED) != 0 && s->outlet->n_shards > 1) {
        s->reopen = false; /* other shards write through it: it must help itself */
        return true;
    }
    wr_instance_close(swap_instance(s, NULL));
    struct wr_instance *inst =
        wr_instance_open(s->outlet->unit, s->index, s->outlet->n_shards, NULL, s, &err);
    (void)swap_instance(s, inst);
    if (inst == NULL) {
        WR_LOG(s->outlet->unit->log, WEIR_LOG_ERROR, "sink cannot be opened again",
               weir_kv_text("reason", err.text));
        s->hold_until = now + REOPEN_NS;
        return false;
    }
    s->reopen = false;
    return true;
}

/* By a reload: another instance takes over when the last write of this one has ended. */
static bool take_over(struct wr_shard *s, int64_t now)
{
    if (s->n_active != 0 && now >= s->cancel_at) {
        s->cancel_at = INT64_MAX;
        wr_shard_cancel(s); /* what its server owes us is written again by the new one */
    }
    if (s->n_active != 0)
        return false;
    s->replaced = s->reopen = false;
    s->hold_until = 0;
    s->fail_streak = 0;
    if (s->next_inst != NULL)
        wr_instance_close(swap_instance(s, s->next_inst));
    else
        s->reopen = !reopen(s, now);
    s->next_inst = NULL;
    return true;
}

int64_t wr_shard_start_writes(struct wr_shard *s, int64_t now)
{
    const struct wr_sink_options *opt = wr_outlet_options(s->outlet);
    struct wr_write *w;
    for (;;) {
        if (s->replaced && !take_over(s, now))
            return s->cancel_at;
        if (s->dead != NULL || wr_shard_leaves(s))
            return INT64_MAX; /* the dead-letter buffer calls; or this is the end */
        if (s->n_active == 0)
            s->repeating = false;
        if ((s->n_again != 0 || s->repeating) && s->n_active != 0)
            return INT64_MAX; /* all in flight end first, and what is repeated is alone */
        (void)wr_shard_refill(s);
        int64_t at = s->n_again != 0 ? now : ready_at(s, now);
        if (at == INT64_MAX || at < s->hold_until)
            at = at == INT64_MAX ? at : s->hold_until;
        if (at > now)
            return at;
        if ((s->reopen && s->n_active == 0 && !reopen(s, now)) || s->reopen)
            return s->hold_until > now ? s->hold_until : now + REOPEN_NS;
        if ((w = free_slot(s)) == NULL)
            return INT64_MAX;
        if (!write_reserve(w, (uint32_t)opt->batch.events))
            return now + REOPEN_NS;
        w->b->pub.n_events = 0;
        bool may = s->n_again != 0 ? gather_again(s, w, now) : gather_new(s, w, now);
        if (w->b->pub.n_events != 0)
            start_write(s, w, now);
        if (!may)
            return now + LEASE_LOOK_NS;
        now = wr_now(s->outlet->p->rt.clock);
        if (atomic_load(&s->outlet->p->swap) != NULL)
            return now; /* a reload may want it to rest before all is written */
    }
}

/* ---- Completions ---- */

static void not_pending(struct wr_shard *s, uint64_t ticket, uint32_t i)
{
    struct weir_kv kv[] = {weir_kv_u64("ticket", ticket), weir_kv_u64("event", i)};
    wr_unit_plugin_bug(s->outlet->unit, "plugin bug: completion of an event that is not pending", kv,
                       WR_COUNT(kv));
}

static void apply_completion(struct wr_shard *s, const struct wr_completion *c)
{
    uint32_t slot = (uint32_t)(c->ticket & 0xffff);
    struct wr_write *w = slot < s->n_writes ? &s->writes[slot] : NULL;
    if (w != NULL && w->given_up)
        return;
    bool known = w != NULL && w->active && ticket_of(s, w) == c->ticket &&
                 c->i < w->b->pub.n_events &&
                 w->results[c->i].verdict == WEIR_VERDICT_PENDING && w->n_pending != 0;
    if (!known) {
        not_pending(s, c->ticket, c->i);
        return;
    }
    w->results[c->i] = c->result;
    w->results[c->i].message = wr_arena_copy(&w->texts, c->result.message);
    w->n_pending--;
    if (c->result.verdict == WEIR_VERDICT_PENDING || !verdict_is_known(c->result.verdict))
        no_verdict(s, &w->results[c->i], 1);
}

/* A completion inside write() finds its event's verdict not said yet, so it waits in the queue until
 * the step looks: always queued, one lock for a burst. */
void wr_shard_complete(struct wr_shard *s, uint64_t ticket, uint32_t i,
                       const struct weir_result *result)
{
    uint32_t shard = ticket >> 16 & 0xffff;
    if (shard >= s->outlet->n_shards) {
        not_pending(s, ticket, i);
        return;
    }
    struct wr_shard *to = &s->outlet->shards[shard];
    struct wr_completion c = {ticket, i, *result};
    if (result->message.len != 0)
        c.result.message.ptr = wr_xmemdup(result->message.ptr, result->message.len);
    else
        c.result.message = weir_str_n(NULL, 0);
    pthread_mutex_lock(&to->mutex);
    if (to->n_completions == to->cap_completions) {
        to->cap_completions = to->cap_completions != 0 ? to->cap_completions * 2 : 256;
        to->completions = wr_xrealloc(to->completions,
                                      to->cap_completions * sizeof(struct wr_completion));
    }
    to->completions[to->n_completions++] = c;
    bool first = to->n_completions == 1;
    pthread_mutex_unlock(&to->mutex);
    if (first)
        wr_shard_wake(to);
}

void wr_shard_take_completions(struct wr_shard *s)
{
    pthread_mutex_lock(&s->mutex);
    struct wr_completion *list = s->completions;
    uint32_t n = s->n_completions, cap = s->cap_completions;
    s->completions = NULL;
    s->n_completions = s->cap_completions = 0;
    pthread_mutex_unlock(&s->mutex);
    for (uint32_t i = 0; i < n; i++) {
        apply_completion(s, &list[i]);
        wr_free((void *)(uintptr_t)list[i].result.message.ptr);
    }
    pthread_mutex_lock(&s->mutex);
    if (s->completions == NULL && list != NULL) { /* keep the memory for the next burst */
        s->completions = list;
        s->cap_completions = cap;
        list = NULL;
    }
    pthread_mutex_unlock(&s->mutex);
    wr_free(list);
    finish_writes(s);
}
