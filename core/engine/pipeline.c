/* SPDX-License-Identifier: Apache-2.0
 *
 * A running pipeline: opens what the plan names, starts a thread a lane and a shard, and sees them end in
 * order: lanes (their acks are home by then), sinks, dead-letter sinks. There is no thread of its own:
 * whoever ends last in a phase begins the next one.
 */
#include <engine/runtime.h>

#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/shares.h>

#include <stdarg.h>
#include <stdio.h>

/* ---- Opening ---- */

void wr_pipeline_add_outlet(struct wr_pipeline *p, struct wr_outlet *take_o)
{
    pthread_mutex_lock(&p->parts);
    p->outlets = wr_xrealloc(p->outlets, (p->n_outlets + 1) * sizeof(struct wr_outlet *));
    p->outlets[p->n_outlets++] = take_o;
    pthread_mutex_unlock(&p->parts);
    atomic_fetch_add(wr_outlet_is_dead_letter(take_o) ? &p->dead_sinks_left : &p->sinks_left,
                     wr_outlet_shards(take_o));
}

void wr_pipeline_add_lane(struct wr_pipeline *p, struct wr_lane *take_lane)
{
    pthread_mutex_lock(&p->parts);
    p->lanes = wr_xrealloc(p->lanes, (p->n_lanes + 1) * sizeof(struct wr_lane *));
    p->lanes[p->n_lanes++] = take_lane;
    pthread_mutex_unlock(&p->parts);
    atomic_fetch_add(&p->lanes_left, 1);
    atomic_fetch_add(&p->lanes_flowing, 1);
}

void wr_pipeline_bind_dead_letters(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        int32_t to = p->plan->components[i].dead_letter;
        if (p->units[i]->outlet != NULL)
            wr_outlet_dead_letters_to(p->units[i]->outlet, to >= 0 ? p->units[to] : NULL);
    }
}

static bool open_sinks(struct wr_pipeline *p, struct weir_error *err)
{
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        if (p->plan->components[i].type->kind != WEIR_SINK)
            continue;
        p->units[i]->outlet = wr_outlet_new(p->units[i], false, err);
        if (p->units[i]->outlet == NULL)
            return false;
        wr_pipeline_add_outlet(p, p->units[i]->outlet);
    }
    wr_pipeline_bind_dead_letters(p);
    return true;
}

static bool open_lanes(struct wr_pipeline *p, struct weir_error *err)
{
    const struct wr_graph g = {p->plan, p->units};
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        const struct wr_component *comp = &p->plan->components[i];
        if (comp->type->kind != WEIR_SOURCE)
            continue;
        uint32_t count = wr_lanes_of(comp);
        for (uint32_t k = 0; k < count; k++) {
            struct wr_lane *lane = wr_lane_new(p, &g, i, k, count, err);
            if (lane == NULL)
                return false;
            wr_pipeline_add_lane(p, lane);
        }
    }
    return true;
}

struct wr_pipeline *wr_pipeline_new(const struct wr_plan *plan, const struct wr_runtime *rt,
                                    struct weir_error *err)
{
    struct wr_pipeline *p = wr_xalloc(sizeof(*p));
    struct weir_kv field = weir_kv_str("pipeline", plan->name);
    p->plan = wr_plan_ref(plan);
    p->born = wr_plan_ref(plan);
    p->name = weir_str_n(wr_xmemdup(plan->name.ptr, plan->name.len), plan->name.len);
    p->rt = *rt;
    p->log = wr_log_scope_new(rt->log, &field, 1);
    wr_log_scope_hide(p->log, plan->secrets);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_mutex_init(&p->parts, NULL);
    pthread_mutex_init(&p->swap_mutex, NULL);
    wr_cond_init(&p->swap_changed);
    atomic_store(&p->deadline, INT64_MAX);
    p->units = wr_xalloc(plan->n_components * sizeof(struct wr_unit *));
    for (uint32_t i = 0; i < plan->n_components; i++)
        p->units[i] = wr_unit_new(p, plan, i);
    if (!open_sinks(p, err) || !open_lanes(p, err)) {
        wr_pipeline_free(p);
        return NULL;
    }
    return p;
}

/* ---- Gauges, read at each scrape ---- */

static void gauge(const struct wr_unit *unit, const char *name, const char *help, double v)
{
    struct wr_label labels[WR_UNIT_LABELS];
    wr_unit_labels(unit, labels);
    wr_metric_set(wr_metric(unit->pipeline->rt.metrics, WR_GAUGE, name, help, labels, WR_UNIT_LABELS),
                  v);
}

/* The share of the time since the last scrape in which its threads were not waiting for work. */
static void utilization(struct wr_pipeline *p, struct wr_unit *unit, int64_t now)
{
    int64_t idle = 0, threads = 0;
    for (uint32_t i = 0; i < p->n_lanes; i++)
        if (wr_lane_source(p->lanes[i]) == unit->index) {
            idle += wr_lane_idle(p->lanes[i], now);
            threads++;
        }
    if (unit->outlet != NULL) {
        idle += wr_outlet_idle(unit->outlet, now);
        threads += wr_outlet_shards(unit->outlet);
    }
    double waited = (double)(idle - unit->idle_before), could = (double)((now - unit->scraped_at) * threads);
    if (unit->scraped_at != 0 && could > 0)
        gauge(unit, "utilization", "Share of the time since the last scrape spent on work: of a "
              "source with its transforms, of a sink with writes under way.",
              waited >= could ? 0 : waited <= 0 ? 1 : 1 - waited / could);
    unit->idle_before = idle;
    unit->scraped_at = now;
}

static void held(const struct wr_unit *unit)
{
    gauge(unit, "held_events", "Events that a transform keeps for later.",
          (double)atomic_load_explicit(&unit->held_events, memory_order_relaxed));
    gauge(unit, "held_bytes", "Memory of the events that a transform keeps for later.",
          (double)atomic_load_explicit(&unit->held_bytes, memory_order_relaxed));
}

static void scrape(void *arg)
{
    struct wr_pipeline *p = arg;
    int64_t now = wr_now(p->rt.clock), oldest = INT64_MAX;
    pthread_mutex_lock(&p->parts);
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        int64_t of_lane = wr_acks_oldest(wr_lane_acks(p->lanes[i]));
        oldest = of_lane < oldest ? of_lane : oldest;
    }
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        const struct wr_component *comp = &p->plan->components[i];
        if (comp->type->kind != WEIR_TRANSFORM)
            utilization(p, p->units[i], now);
        else if (comp->type->transform->tick != NULL)
            held(p->units[i]);
        if (comp->type->kind != WEIR_SINK)
            continue;
        const struct wr_buffer *buf = wr_outlet_buffer(p->units[i]->outlet);
        gauge(p->units[i], "buffer_bytes", "Bytes of events between the lanes and this sink.",
              (double)atomic_load_explicit(&buf->bytes, memory_order_relaxed));
        gauge(p->units[i], "buffer_events", "Events between the lanes and this sink.",
              (double)atomic_load_explicit(&buf->events, memory_order_relaxed));
        gauge(p->units[i], "buffer_limit_bytes", "Room of this sink's buffer.",
              (double)buf->cap_bytes);
    }
    pthread_mutex_unlock(&p->parts);
    struct wr_label label = {"pipeline", p->name};
    wr_metric_set(wr_metric(p->rt.metrics, WR_GAUGE, "oldest_unacked_seconds",
                            "Age of the oldest event that has not ended.", &label, 1),
                  oldest == INT64_MAX || oldest > now ? 0 : (double)(now - oldest) / 1e9);
}

/* ---- Running ---- */

void wr_pipeline_start(struct wr_pipeline *p, void (*notify)(void *arg), void *arg)
{
    p->notify = notify;
    p->notify_arg = arg;
    p->started = true;
    wr_metrics_on_scrape(p->rt.metrics, scrape, p);
    for (uint32_t i = 0; i < p->n_outlets; i++)
        wr_outlet_start(p->outlets[i]);
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_start(p->lanes[i]);
}

enum wr_pipeline_state wr_pipeline_state(struct wr_pipeline *p)
{
    if (atomic_load(&p->done))
        return atomic_load(&p->failed) ? WR_PIPELINE_STOPPED : WR_PIPELINE_DONE;
    return atomic_load(&p->draining) ? WR_PIPELINE_DRAINING : WR_PIPELINE_RUNNING;
}

const char *wr_pipeline_reason(struct wr_pipeline *p)
{
    return atomic_load(&p->failed) ? p->reason : "";
}

bool wr_pipeline_ready(struct wr_pipeline *p)
{
    return !atomic_load(&p->failed) && !atomic_load(&p->draining) &&
           !atomic_load(&p->any_unready) && atomic_load(&p->lanes_polling) == atomic_load(&p->lanes_left);
}

static void tell(struct wr_pipeline *p)
{
    if (p->notify != NULL)
        p->notify(p->notify_arg);
}

static void wake_all(struct wr_pipeline *p)
{
    pthread_mutex_lock(&p->parts);
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_wake(p->lanes[i]);
    for (uint32_t i = 0; i < p->n_outlets; i++)
        wr_outlet_wake(p->outlets[i]);
    pthread_mutex_unlock(&p->parts);
}

void wr_pipeline_drain(struct wr_pipeline *p, int64_t deadline_ns)
{
    int64_t before = atomic_load(&p->deadline);
    while (deadline_ns < before && !atomic_compare_exchange_weak(&p->deadline, &before, deadline_ns))
        continue;
    atomic_store(&p->draining, 1);
    if (deadline_ns <= wr_now(p->rt.clock))
        wr_pipeline_abort(p); /* the caller may be the only thread that does not hang in a sink */
    wake_all(p);
}

void wr_pipeline_abort(struct wr_pipeline *p)
{
    atomic_store(&p->aborting, 1);
    if (atomic_exchange(&p->cancelled, 1) != 0)
        return;
    pthread_mutex_lock(&p->parts);
    for (uint32_t i = 0; i < p->n_outlets; i++)
        wr_outlet_cancel(p->outlets[i]);
    pthread_mutex_unlock(&p->parts);
    wake_all(p);
}

/* The first reason is the one that is kept. */
WEIR_PRINTF(2, 0)
static bool set_failed(struct wr_pipeline *p, const char *fmt, va_list ap)
{
    pthread_mutex_lock(&p->mutex);
    bool first = atomic_load(&p->failed) == 0;
    if (first) {
        vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
        wr_secrets_hide(p->plan->secrets, p->reason, strlen(p->reason));
        atomic_store(&p->failed, 1);
    }
    pthread_mutex_unlock(&p->mutex);
    if (first)
        WR_LOG(p->log, WEIR_LOG_ERROR, "pipeline stops", weir_kv_text("reason", p->reason));
    return first;
}

void wr_pipeline_fail_source(struct wr_pipeline *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool first = set_failed(p, fmt, ap);
    va_end(ap);
    if (!first)
        return;
    int64_t now = wr_now(p->rt.clock), timeout = p->plan->shutdown_timeout;
    wr_pipeline_drain(p, timeout < WEIR_NEVER - now ? now + timeout : WEIR_NEVER);
    tell(p);
}

void wr_pipeline_fail(struct wr_pipeline *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool first = set_failed(p, fmt, ap);
    va_end(ap);
    if (!first && atomic_load(&p->aborting))
        return;
    /* No cancel: what is under way may end well; what is queued fails now. */
    atomic_store(&p->draining, 1);
    atomic_store(&p->aborting, 1);
    wake_all(p);
    tell(p);
}

void wr_pipeline_tell_swap(struct wr_pipeline *p)
{
    pthread_mutex_lock(&p->swap_mutex);
    pthread_cond_broadcast(&p->swap_changed);
    pthread_mutex_unlock(&p->swap_mutex);
}

static void end_phase(struct wr_pipeline *p)
{
    wr_pipeline_tell_swap(p);
    if (atomic_load(&p->reloading) || atomic_load(&p->lanes_left) != 0)
        return;
    atomic_store(&p->finish_sinks, 1);
    if (atomic_load(&p->sinks_left) == 0)
        atomic_store(&p->finish_dead, 1);
    bool over = atomic_load(&p->sinks_left) == 0 && atomic_load(&p->dead_sinks_left) == 0;
    wake_all(p);
    if (over && atomic_exchange(&p->done, 1) == 0)
        tell(p);
}

static void begin_flush(struct wr_pipeline *p)
{
    atomic_store(&p->flushing, 1);
    wake_all(p);
}

void wr_pipeline_lane_flushed(struct wr_pipeline *p)
{
    if (atomic_fetch_sub(&p->lanes_flowing, 1) == 1 && !atomic_load(&p->reloading))
        begin_flush(p);
    wr_pipeline_tell_swap(p);
}

void wr_pipeline_lane_ended(struct wr_pipeline *p)
{
    /* Sources that all ended by themselves begin the drain of the rest. */
    if (atomic_fetch_sub(&p->lanes_left, 1) == 1 && !atomic_load(&p->reloading))
        atomic_store(&p->draining, 1);
    end_phase(p);
    tell(p); /* one that a reload has ended is to be closed */
}

void wr_pipeline_lanes_changed(struct wr_pipeline *p)
{
    if (atomic_load(&p->lanes_flowing) == 0)
        begin_flush(p);
    if (atomic_load(&p->lanes_left) == 0)
        atomic_store(&p->draining, 1);
    end_phase(p);
}

void wr_pipeline_shard_ended(struct wr_pipeline *p, bool dead_letter)
{
    atomic_fetch_sub(dead_letter ? &p->dead_sinks_left : &p->sinks_left, 1);
    end_phase(p);
    tell(p); /* of a sink that the plan has no more somebody waits for the end */
}

/* ---- Closing ---- */

static void free_outlets(struct wr_pipeline *p, bool dead_letter)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->n_outlets; i++) {
        if (wr_outlet_is_dead_letter(p->outlets[i]) == dead_letter)
            wr_outlet_free(p->outlets[i]);
        else
            p->outlets[kept++] = p->outlets[i];
    }
    p->n_outlets = kept;
}

struct wr_pipeline_left wr_pipeline_close(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_join(p->lanes[i]);
    for (uint32_t i = 0; i < p->n_outlets; i++)
        wr_outlet_join(p->outlets[i]);
    if (p->started)
        wr_metrics_off_scrape(p->rt.metrics, p);
    p->started = false;
    /* In this order, so that a source outlives what it attached to its events: transforms (held
     * events), outlets (buffers, writes, dead letters), lanes (parked work) and with each its source. A
     * dead-letter outlet goes before those whose buffers may wait for its acks. */
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_close_transforms(p->lanes[i]);
    free_outlets(p, true);
    free_outlets(p, false);
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_free(p->lanes[i]);
    p->n_lanes = 0;
    /* A lock on a file, say: one that stopped may start again before this is freed. */
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        (void)wr_unit_end_shared(p->units[i]);
    return (struct wr_pipeline_left){.events = atomic_load(&p->n_left),
                                     .timed_out = atomic_load(&p->aborting) != 0 &&
                                                  atomic_load(&p->failed) == 0};
}

void wr_pipeline_free(struct wr_pipeline *p)
{
    if (p == NULL)
        return;
    (void)wr_pipeline_close(p);
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        wr_unit_unref(p->units[i]);
    wr_pipeline_free_unready(p);
    pthread_mutex_destroy(&p->mutex);
    pthread_mutex_destroy(&p->parts);
    pthread_mutex_destroy(&p->swap_mutex);
    pthread_cond_destroy(&p->swap_changed);
    wr_log_scope_free(p->log);
    wr_free(p->lanes);
    wr_free(p->outlets);
    wr_free(p->units);
    wr_plan_free(p->plan);
    wr_plan_free(p->born);
    wr_free((void *)(uintptr_t)p->name.ptr);
    wr_free(p);
}
