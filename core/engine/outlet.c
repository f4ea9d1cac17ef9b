/* SPDX-License-Identifier: Apache-2.0
 *
 * An outlet: what stands in front of a sink. Each of its shards is a thread with a sink instance; it
 * takes batches from the buffer, gathers events into writes of the size that the user chose, and drives
 * the sink. What a result means is decided in outlet_results.c.
 *
 * A shard writes when it has a full batch, or what it has is old enough, or nothing more will come.
 */
#include <engine/outlet_impl.h>

#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <model/template.h>

#include <stdio.h>

#define GIVE_UP_NS (2 * WEIR_NS_PER_S) /* after cancel: how long pending writes may take to end */
#define REOPEN_NS (1 * WEIR_NS_PER_S)

static const struct wr_sink_options *opt_of(const struct wr_outlet *o)
{
    return &o->unit->comp->opt.sink;
}

/* ---- Opening and closing ---- */

static void wake_sink(void *arg)
{
    struct wr_shard *s = arg;
    s->outlet->type->wake(s->inst->self);
}

static void wake_shard(void *arg)
{
    wr_wake_signal(&((struct wr_shard *)arg)->wake);
}

void wr_outlet_wake(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        wake_shard(&o->shards[i]);
}

static void buffer_filled(void *arg)
{
    wr_outlet_wake(arg);
}

static bool shard_open(struct wr_shard *s, struct weir_error *err)
{
    struct wr_outlet *o = s->outlet;
    bool shared = (o->unit->comp->traits & WEIR_TRAIT_SHARED) != 0;
    if (shared && s->index != 0) {
        s->inst = o->shards[0].inst;
        return true;
    }
    s->inst = wr_instance_open(o->unit, s->index, shared ? 1 : o->n_shards, NULL, s, err);
    s->owns_inst = s->inst != NULL;
    return s->inst != NULL;
}

static void shard_init(struct wr_outlet *o, uint32_t index)
{
    struct wr_shard *s = &o->shards[index];
    s->outlet = o;
    s->index = index;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->inst_mutex, NULL);
    wr_wake_init(&s->wake, o->type->wake != NULL ? wake_sink : NULL, s);
    s->dead_waiter.wake = wake_shard;
    s->dead_waiter.arg = s;
    s->n_writes = (uint32_t)opt_of(o)->in_flight;
    s->writes = wr_xalloc(s->n_writes * sizeof(struct wr_write));
}

static struct weir_metric *unit_metric(struct wr_unit *unit, enum wr_metric_type type,
                                       const char *name, const char *help)
{
    struct wr_label labels[] = {{"pipeline", unit->pipeline->plan->name},
                                {"component", unit->comp->id},
                                {"kind", weir_cstr("sink")},
                                {"type", weir_cstr(unit->comp->type->name)}};
    return wr_metric(unit->pipeline->rt.metrics, type, name, help, labels, WR_COUNT(labels));
}

struct wr_outlet *wr_outlet_new(struct wr_unit *unit, struct weir_error *err)
{
    struct wr_outlet *o = wr_xalloc(sizeof(*o));
    o->unit = unit;
    o->p = unit->pipeline;
    o->type = unit->comp->type->sink;
    o->buffer = wr_buffer_memory((size_t)opt_of(o)->buffer.size, buffer_filled, o);
    pthread_mutex_init(&o->take_mutex, NULL);
    o->retries = unit_metric(unit, WR_COUNTER, "sink_retries_total",
                             "Events that were written again after a retryable failure.");
    o->latency = unit_metric(unit, WR_HISTOGRAM, "e2e_latency_seconds",
                             "From an event's entry to its delivery by this sink.");
    o->writes = unit_metric(unit, WR_COUNTER, "sink_writes_total", "Writes that have ended.");
    o->n_shards = (uint32_t)opt_of(o)->concurrency;
    o->shards = wr_xalloc(o->n_shards * sizeof(struct wr_shard));
    for (uint32_t i = 0; i < o->n_shards; i++)
        shard_init(o, i);
    for (uint32_t i = 0; i < o->n_shards; i++)
        if (!shard_open(&o->shards[i], err)) {
            wr_outlet_free(o);
            return NULL;
        }
    return o;
}

static void write_free(struct wr_write *w)
{
    wr_batch_free(w->b);
    wr_free(w->meta);
    wr_free(w->results);
    wr_arena_done(&w->texts);
}

static void shard_done(struct wr_shard *s)
{
    wr_shard_fail_queued(s);
    if (s->owns_inst)
        wr_instance_close(s->inst);
    for (uint32_t i = 0; i < s->n_writes; i++)
        if (!s->writes[i].active) /* a sink that never completed may still look at it */
            write_free(&s->writes[i]);
    for (uint32_t i = 0; i < s->n_completions; i++)
        wr_free((void *)(uintptr_t)s->completions[i].result.message.ptr);
    wr_batch_free(s->dead);
    wr_free(s->completions);
    wr_free(s->writes);
    wr_free(s->again);
    wr_free(s->runs);
    wr_wake_done(&s->wake);
    pthread_mutex_destroy(&s->inst_mutex);
    pthread_mutex_destroy(&s->mutex);
}

void wr_outlet_free(struct wr_outlet *take_o)
{
    if (take_o == NULL)
        return;
    for (uint32_t i = take_o->n_shards; i-- > 0;)
        shard_done(&take_o->shards[i]);
    take_o->buffer->ops->free(take_o->buffer);
    pthread_mutex_destroy(&take_o->take_mutex);
    wr_free(take_o->shards);
    wr_free(take_o);
}

struct wr_buffer *wr_outlet_buffer(struct wr_outlet *o)
{
    return o->buffer;
}

uint32_t wr_outlet_shards(const struct wr_outlet *o)
{
    return o->n_shards;
}

int64_t wr_outlet_idle(const struct wr_outlet *o, int64_t now)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < o->n_shards; i++)
        total += wr_idle_total(&o->shards[i].idle, now);
    return total;
}

struct wr_shard *wr_outlet_shard(struct wr_outlet *o, uint32_t i)
{
    return &o->shards[i];
}

static void cancel(struct wr_shard *s)
{
    pthread_mutex_lock(&s->inst_mutex);
    if (s->owns_inst && s->inst != NULL && s->outlet->type->cancel != NULL)
        s->outlet->type->cancel(s->inst->self);
    pthread_mutex_unlock(&s->inst_mutex);
}

void wr_outlet_cancel(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        cancel(&o->shards[i]);
    wr_outlet_wake(o);
}

/* ---- Taking from the buffer, sharding ---- */

uint64_t wr_outlet_order(const struct wr_outlet *o, struct weir_event *ev)
{
    const struct weir_template *by = opt_of(o)->shard_by;
    if (by != NULL) {
        struct weir_arena a = {0};
        struct weir_str text = wr_template_render(by, ev, &a, NULL);
        uint64_t hash = text.ptr != NULL ? wr_str_hash(text, 1) | 1 : 0;
        wr_arena_done(&a);
        return hash;
    }
    if (ev->key.len != 0)
        return wr_str_hash(ev->key, 2) | 1;
    const void *from = ev->stream != NULL ? (const void *)ev->stream : (const void *)ev->request;
    return from != NULL ? wr_str_hash(weir_str_n((const char *)&from, sizeof(from)), 3) | 1 : 0;
}

/* A place for one more run; under the mutex. */
static void reserve_run(struct wr_shard *s)
{
    if (s->n_runs < s->cap_runs)
        return;
    uint32_t cap = s->cap_runs != 0 ? s->cap_runs * 2 : 64;
    struct wr_run *runs = wr_xalloc(cap * sizeof(*runs));
    for (uint32_t i = 0; i < s->n_runs; i++)
        runs[i] = s->runs[(s->first_run + i) % s->cap_runs];
    wr_free(s->runs);
    s->runs = runs;
    s->first_run = 0;
    s->cap_runs = cap;
}

static void add_run(struct wr_shard *s, struct wr_entry *entry, uint32_t from, uint32_t to)
{
    pthread_mutex_lock(&s->mutex);
    reserve_run(s);
    s->runs[(s->first_run + s->n_runs++) % s->cap_runs] = (struct wr_run){entry, from, to};
    s->queued_events += to - from;
    pthread_mutex_unlock(&s->mutex);
}

bool wr_shard_next_run(struct wr_shard *s, struct wr_run *ret)
{
    pthread_mutex_lock(&s->mutex);
    bool any = s->n_runs != 0;
    if (any) {
        *ret = s->runs[s->first_run];
        s->first_run = (s->first_run + 1) % s->cap_runs;
        s->n_runs--;
        s->queued_events -= ret->to - ret->from;
    }
    pthread_mutex_unlock(&s->mutex);
    return any;
}

static void give_back_run(struct wr_shard *s, struct wr_run run)
{
    pthread_mutex_lock(&s->mutex);
    reserve_run(s); /* another shard may have filled the place it came from */
    s->first_run = (s->first_run + s->cap_runs - 1) % s->cap_runs;
    s->n_runs++;
    s->runs[s->first_run] = run;
    s->queued_events += run.to - run.from;
    pthread_mutex_unlock(&s->mutex);
}

static void distribute(struct wr_outlet *o, struct wr_entry *entry, const struct wr_shard *mine)
{
    uint32_t n = entry->batch->pub.n_events, from = 0, to_shard = 0;
    uint64_t woken = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t shard = 0;
        if (i < n)
            shard = (uint32_t)(wr_outlet_order(o, &wr_batch_events(entry->batch)[i]) >> 8) %
                    o->n_shards;
        if (i != 0 && (i == n || shard != to_shard)) {
            add_run(&o->shards[to_shard], entry, from, i);
            woken |= UINT64_C(1) << (to_shard % 64);
            from = i;
        }
        to_shard = shard;
    }
    for (uint32_t i = 0; i < o->n_shards; i++)
        if (&o->shards[i] != mine && (woken >> (i % 64) & 1) != 0)
            wake_shard(&o->shards[i]);
}

static uint64_t queued(struct wr_shard *s)
{
    pthread_mutex_lock(&s->mutex);
    uint64_t n = s->queued_events;
    pthread_mutex_unlock(&s->mutex);
    return n;
}

/* Takes entries until this shard has a batch of its own waiting, or nothing is left. True: took some. */
static bool refill(struct wr_shard *s)
{
    struct wr_outlet *o = s->outlet;
    bool any = false;
    uint64_t want = (uint64_t)opt_of(o)->batch.events;
    pthread_mutex_lock(&o->take_mutex);
    while (queued(s) < want) {
        struct wr_entry *entry = wr_buffer_take(o->buffer);
        if (entry == NULL)
            break;
        any = true;
        if (o->n_shards == 1)
            add_run(s, entry, 0, entry->batch->pub.n_events);
        else
            distribute(o, entry, s);
    }
    pthread_mutex_unlock(&o->take_mutex);
    return any;
}

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

/* Adds the event unless nobody counts it any more. */
static void gather(struct wr_shard *s, struct wr_write *w, const struct weir_event *ev,
                   const struct wr_meta *meta)
{
    if (wr_ack_is_abandoned(ev->host_ack)) {
        wr_unit_count_discard(s->outlet->unit, "abandoned", 1); /* its new owner reads it again */
        wr_shard_end(s, ev, meta->entry, WEIR_ABANDONED, NULL);
        return;
    }
    uint32_t i = w->b->pub.n_events++; /* reserved before */
    wr_batch_events(w->b)[i] = *ev;
    w->meta[i] = *meta;
    w->results[i] = (struct weir_result){0};
}

/* Events to repeat come alone: the ones behind them follow when they are through. */
static void gather_again(struct wr_shard *s, struct wr_write *w, uint32_t max, size_t max_bytes)
{
    uint32_t n = 0;
    for (size_t bytes = 0; n < s->n_again && n < max; n++) {
        bytes += wr_event_cost(&s->again[n].ev);
        if (n != 0 && bytes > max_bytes)
            break;
        gather(s, w, &s->again[n].ev, &s->again[n].meta);
    }
    s->repeating = true;
    s->n_again -= n;
    memmove(s->again, s->again + n, s->n_again * sizeof(*s->again));
    wr_metric_add(s->outlet->retries, w->b->pub.n_events);
}

static void gather_new(struct wr_shard *s, struct wr_write *w, uint32_t max, size_t max_bytes)
{
    struct wr_run run;
    size_t bytes = 0;
    while (w->b->pub.n_events < max && wr_shard_next_run(s, &run)) {
        const struct weir_event *events = wr_batch_events(run.entry->batch);
        while (run.from < run.to && w->b->pub.n_events < max) {
            size_t cost = wr_event_cost(&events[run.from]);
            if (bytes != 0 && bytes + cost > max_bytes)
                break;
            bytes += cost;
            struct wr_meta meta = {.entry = run.entry, .seq = s->next_seq++};
            gather(s, w, &events[run.from++], &meta);
        }
        if (run.from < run.to) {
            give_back_run(s, run);
            return;
        }
    }
}

/* When what is queued may be written; INT64_MAX: nothing is queued. Bytes are looked at too, so that
 * few big events do not wait for the time-out. */
static int64_t ready_at(struct wr_shard *s, int64_t now)
{
    const struct wr_sink_options *opt = opt_of(s->outlet);
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
    if (at != INT64_MAX && (atomic_load(&p->draining) || atomic_load(&p->flushing)))
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
    return verdict != WEIR_VERDICT_NONE && verdict <= WEIR_VERDICT_REOPEN;
}

/* An event without a verdict is not lost: it is written again. */
static void no_verdict(struct wr_shard *s, struct weir_result *r, uint32_t n)
{
    *r = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                              .code = "no_verdict",
                              .message = weir_cstr("the sink gave no verdict (a bug of the plugin)")};
    WR_LOG(s->outlet->unit->log, WEIR_LOG_ERROR, "plugin bug: no verdict", weir_kv_u64("events", n));
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

/* Before each call of the sink. A shared instance has callbacks on several threads: nothing of its own to
 * clear. */
static void clear_scratch(struct wr_shard *s)
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
    /* Held up until all verdicts are in: a completion may come before write() returns. */
    w->n_pending = 0;
    w->b->pub.ticket = ticket_of(s, w);
    s->n_active++;
    clear_scratch(s);
    o->type->write(s->inst->self, &w->b->pub, now + opt_of(o)->timeout, &results);
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
        cancel(s);
    return old;
}

/* Closes and opens the sink after a fatal client error. */
static bool reopen(struct wr_shard *s, int64_t now)
{
    struct weir_error err = {0};
    if ((s->outlet->unit->comp->traits & WEIR_TRAIT_SHARED) != 0) {
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

/* Starts what can be started. Returns when to look again. */
static int64_t start_writes(struct wr_shard *s, int64_t now)
{
    const struct wr_sink_options *opt = opt_of(s->outlet);
    struct wr_write *w;
    for (;;) {
        if (s->dead != NULL)
            return INT64_MAX; /* the dead-letter buffer calls */
        if (s->n_active == 0)
            s->repeating = false;
        if ((s->n_again != 0 || s->repeating) && s->n_active != 0)
            return INT64_MAX; /* all in flight end first, and what is repeated is alone */
        (void)refill(s);
        int64_t at = s->n_again != 0 ? now : ready_at(s, now);
        if (at == INT64_MAX || at < s->hold_until)
            at = at == INT64_MAX ? at : s->hold_until;
        if (at > now)
            return at;
        if ((s->reopen && s->n_active == 0 && !reopen(s, now)) || s->reopen)
            return s->hold_until > now ? s->hold_until : now + REOPEN_NS;
        if ((w = free_slot(s)) == NULL)
            return INT64_MAX;
        uint32_t max = (uint32_t)opt->batch.events;
        if (!write_reserve(w, max))
            return now + REOPEN_NS;
        w->b->pub.n_events = 0;
        if (s->n_again != 0)
            gather_again(s, w, max, (size_t)opt->batch.bytes);
        else
            gather_new(s, w, max, (size_t)opt->batch.bytes);
        if (w->b->pub.n_events != 0)
            start_write(s, w, now);
        now = wr_now(s->outlet->p->rt.clock);
    }
}

/* ---- Completions ---- */

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
        WR_LOG(s->outlet->unit->log, WEIR_LOG_ERROR,
               "plugin bug: completion of an event that is not pending",
               weir_kv_u64("ticket", c->ticket), weir_kv_u64("event", c->i));
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
    struct wr_shard *to = &s->outlet->shards[ticket >> 16 & 0xffff];
    if ((ticket >> 16 & 0xffff) >= s->outlet->n_shards)
        return;
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
        wake_shard(to);
}

static void take_completions(struct wr_shard *s)
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

/* ---- A turn ---- */

/* Nothing of this shard's is left, nor anything that it could take. */
static bool idle(struct wr_shard *s)
{
    if (s->n_active != 0 || s->n_again != 0 || s->dead != NULL)
        return false;
    (void)refill(s);
    return queued(s) == 0;
}

static void finish_shard(struct wr_shard *s, int64_t now)
{
    struct wr_outlet *o = s->outlet;
    int64_t deadline = atomic_load(&o->p->deadline);
    if (deadline > now + GIVE_UP_NS)
        deadline = now + GIVE_UP_NS; /* nothing is pending any more */
    if (o->type->flush != NULL && s->owns_inst && s->inst != NULL)
        o->type->flush(s->inst->self, deadline);
    wr_ended_flush(&s->ended);
    s->finished = true;
    wr_pipeline_shard_ended(o->p, o->unit->comp->is_dead_letter);
}

/* The sink may still look at the memory of a write that it did not end: that stays for ever. */
static void give_up(struct wr_shard *s, struct wr_write *w)
{
    w->given_up = true;
    s->n_active--;
    WR_LOG(s->outlet->unit->log, WEIR_LOG_ERROR, "sink did not end its writes in time",
           weir_kv_u64("events", w->n_pending));
    for (uint32_t e = 0; e < w->b->pub.n_events; e++) {
        const struct weir_event *ev = &wr_batch_events(w->b)[e];
        bool delivered = w->results[e].verdict == WEIR_VERDICT_OK && (ev->flags & WR_EVENT_DEAD) == 0;
        wr_shard_end(s, ev, NULL, delivered ? WEIR_DELIVERED : WEIR_FAILED, NULL);
    }
}

/* After the deadline: what is queued fails, what is under way may end for a moment more. */
static bool abort_step(struct wr_shard *s, int64_t now)
{
    if (!s->cancelled) {
        s->cancelled = true;
        s->give_up_at = now + GIVE_UP_NS;
    }
    do
        wr_shard_fail_queued(s);
    while (refill(s));
    if (now >= s->give_up_at && s->n_active != 0 && !s->told_cancel) {
        /* A pipeline that stopped by itself let its writes go on until now. */
        s->told_cancel = true;
        s->give_up_at = now + GIVE_UP_NS / 4;
        cancel(s);
    }
    for (uint32_t i = 0; now >= s->give_up_at && i < s->n_writes; i++)
        if (s->writes[i].active && !s->writes[i].given_up)
            give_up(s, &s->writes[i]);
    wr_ended_flush(&s->ended);
    const struct wr_pipeline *p = s->outlet->p;
    bool feeders = atomic_load(&p->lanes_left) != 0 ||
                   (s->outlet->unit->comp->is_dead_letter && atomic_load(&p->sinks_left) != 0);
    return !feeders && idle(s);
}

static void wait_turn(struct wr_shard *s, int64_t until)
{
    struct wr_outlet *o = s->outlet;
    struct wr_clock *clock = o->p->rt.clock;
    if (s->n_active == 0 || o->type->progress == NULL) {
        bool idle_now = s->n_active == 0;
        wr_idle_begin(&s->idle, wr_now(clock));
        wr_wake_wait(&s->wake, clock, until);
        wr_idle_end(&s->idle, wr_now(clock), idle_now);
        return;
    }
    if (!wr_wake_enter(&s->wake))
        return;
    clear_scratch(s);
    o->type->progress(s->inst->self, until);
    wr_wake_leave(&s->wake);
}

int64_t wr_shard_step(struct wr_shard *s, int64_t wait_until)
{
    struct wr_pipeline *p = s->outlet->p;
    if (s->finished)
        return -1;
    int64_t now = wr_now(p->rt.clock), next;
    wr_wake_clear(&s->wake);
    take_completions(s);
    if (atomic_load(&p->aborting)) {
        next = s->n_active != 0 ? now + GIVE_UP_NS / 20 : INT64_MAX;
        if (abort_step(s, now)) {
            finish_shard(s, now);
            return -1;
        }
    } else {
        bool clear = wr_shard_push_dead(s, now);
        next = clear ? start_writes(s, now) : INT64_MAX;
        bool dead_letter = s->outlet->unit->comp->is_dead_letter;
        if (atomic_load(dead_letter ? &p->finish_dead : &p->finish_sinks) && idle(s)) {
            finish_shard(s, now);
            return -1;
        }
        if (atomic_load(&p->draining)) {
            int64_t deadline = atomic_load(&p->deadline);
            if (now >= deadline)
                wr_pipeline_abort(p);
            next = next < deadline ? next : deadline;
        }
    }
    wr_ended_flush(&s->ended);
    wait_turn(s, next < wait_until ? next : wait_until);
    return next;
}

static void *run(void *arg)
{
    struct wr_shard *s = arg;
    while (wr_shard_step(s, INT64_MAX) >= 0)
        continue;
    return NULL;
}

void wr_outlet_start(struct wr_outlet *o)
{
    char name[16];
    struct weir_str id = o->unit->comp->id;
    for (uint32_t i = 0; i < o->n_shards; i++) {
        snprintf(name, sizeof(name), "sink-%.*s-%u", (int)(id.len > 7 ? 7 : id.len), id.ptr, i % 100);
        WR_BUG_ON(pthread_create(&o->shards[i].thread, NULL, run, &o->shards[i]) != 0);
        (void)pthread_setname_np(o->shards[i].thread, name);
        o->shards[i].has_thread = true;
    }
}

void wr_outlet_join(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++) {
        if (o->shards[i].has_thread)
            pthread_join(o->shards[i].thread, NULL);
        o->shards[i].has_thread = false;
    }
}
