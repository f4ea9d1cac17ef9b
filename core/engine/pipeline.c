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

static void unit_init(struct wr_pipeline *p, struct wr_unit *unit, const struct wr_component *comp)
{
    struct wr_label labels[WR_UNIT_LABELS];
    struct weir_kv fields[WR_UNIT_LABELS];
    uint32_t n = WR_UNIT_LABELS;
    unit->comp = comp;
    unit->pipeline = p;
    wr_unit_labels(unit, labels);
    for (uint32_t i = 0; i < n; i++)
        fields[i] = weir_kv_str(labels[i].name, labels[i].value);
    unit->log = wr_log_scope_new(p->rt.log, fields, WR_COUNT(fields));
    wr_log_scope_hide(unit->log, p->plan->secrets);
    pthread_mutex_init(&unit->shared.mutex, NULL);
    unit->received_events = wr_metric(p->rt.metrics, WR_COUNTER, "component_received_events_total",
                                      "Events that entered a component.", labels, n);
    unit->sent_events = wr_metric(p->rt.metrics, WR_COUNTER, "component_sent_events_total",
                                  "Events that left a component, of a sink: delivered.", labels, n);
    if (comp->type->kind == WEIR_SOURCE)
        unit->received_bytes = wr_metric(p->rt.metrics, WR_COUNTER, "component_received_bytes_total",
                                         "Payload bytes that entered a source.", labels, n);
    if (comp->type->kind == WEIR_SINK)
        unit->sent_bytes = wr_metric(p->rt.metrics, WR_COUNTER, "component_sent_bytes_total",
                                     "Payload bytes of events that a sink delivered.", labels, n);
}

static bool open_sinks(struct wr_pipeline *p, struct weir_error *err)
{
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        const struct wr_component *comp = &p->plan->components[i];
        if (comp->type->kind != WEIR_SINK)
            continue;
        p->units[i].outlet = wr_outlet_new(&p->units[i], err);
        if (p->units[i].outlet == NULL)
            return false;
        uint32_t n = wr_outlet_shards(p->units[i].outlet);
        atomic_fetch_add(comp->is_dead_letter ? &p->dead_sinks_left : &p->sinks_left, n);
    }
    return true;
}

static bool open_lanes(struct wr_pipeline *p, struct weir_error *err)
{
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        const struct wr_component *comp = &p->plan->components[i];
        if (comp->type->kind != WEIR_SOURCE)
            continue;
        uint32_t count = wr_lanes_of(comp);
        for (uint32_t k = 0; k < count; k++) {
            struct wr_lane *lane = wr_lane_new(p, i, k, count, err);
            if (lane == NULL)
                return false;
            p->lanes = wr_xrealloc(p->lanes, (p->n_lanes + 1) * sizeof(struct wr_lane *));
            p->lanes[p->n_lanes++] = lane;
        }
    }
    atomic_store(&p->lanes_left, p->n_lanes);
    atomic_store(&p->lanes_flowing, p->n_lanes);
    return true;
}

struct wr_pipeline *wr_pipeline_new(const struct wr_plan *plan, const struct wr_runtime *rt,
                                    struct weir_error *err)
{
    struct wr_pipeline *p = wr_xalloc(sizeof(*p));
    struct weir_kv field = weir_kv_str("pipeline", plan->name);
    p->plan = plan;
    p->rt = *rt;
    p->log = wr_log_scope_new(rt->log, &field, 1);
    wr_log_scope_hide(p->log, plan->secrets);
    pthread_mutex_init(&p->mutex, NULL);
    atomic_store(&p->deadline, INT64_MAX);
    p->units = wr_xalloc(plan->n_components * sizeof(*p->units));
    for (uint32_t i = 0; i < plan->n_components; i++)
        unit_init(p, &p->units[i], &plan->components[i]);
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
        if (wr_lane_source(p->lanes[i]) == (uint32_t)(unit - p->units)) {
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
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        int64_t of_lane = wr_acks_oldest(wr_lane_acks(p->lanes[i]));
        oldest = of_lane < oldest ? of_lane : oldest;
    }
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        const struct wr_component *comp = &p->plan->components[i];
        if (comp->type->kind != WEIR_TRANSFORM)
            utilization(p, &p->units[i], now);
        else if (comp->type->transform->tick != NULL)
            held(&p->units[i]);
        if (comp->type->kind != WEIR_SINK)
            continue;
        const struct wr_buffer *buf = wr_outlet_buffer(p->units[i].outlet);
        gauge(&p->units[i], "buffer_bytes", "Bytes of events between the lanes and this sink.",
              (double)atomic_load_explicit(&buf->bytes, memory_order_relaxed));
        gauge(&p->units[i], "buffer_events", "Events between the lanes and this sink.",
              (double)atomic_load_explicit(&buf->events, memory_order_relaxed));
        gauge(&p->units[i], "buffer_limit_bytes", "Room of this sink's buffer.",
              (double)buf->cap_bytes);
    }
    struct wr_label label = {"pipeline", p->plan->name};
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
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        if (p->units[i].outlet != NULL)
            wr_outlet_start(p->units[i].outlet);
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
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_wake(p->lanes[i]);
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        if (p->units[i].outlet != NULL)
            wr_outlet_wake(p->units[i].outlet);
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
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        if (p->units[i].outlet != NULL)
            wr_outlet_cancel(p->units[i].outlet);
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

static void end_phase(struct wr_pipeline *p)
{
    if (atomic_load(&p->lanes_left) != 0)
        return;
    atomic_store(&p->finish_sinks, 1);
    if (atomic_load(&p->sinks_left) == 0)
        atomic_store(&p->finish_dead, 1);
    bool over = atomic_load(&p->sinks_left) == 0 && atomic_load(&p->dead_sinks_left) == 0;
    wake_all(p);
    if (over && atomic_exchange(&p->done, 1) == 0)
        tell(p);
}

void wr_pipeline_lane_flushed(struct wr_pipeline *p)
{
    if (atomic_fetch_sub(&p->lanes_flowing, 1) != 1)
        return;
    atomic_store(&p->flushing, 1);
    wake_all(p);
}

void wr_pipeline_lane_ended(struct wr_pipeline *p)
{
    /* Sources that all ended by themselves begin the drain of the rest. */
    if (atomic_fetch_sub(&p->lanes_left, 1) == 1)
        atomic_store(&p->draining, 1);
    end_phase(p);
}

void wr_pipeline_shard_ended(struct wr_pipeline *p, bool dead_letter)
{
    atomic_fetch_sub(dead_letter ? &p->dead_sinks_left : &p->sinks_left, 1);
    end_phase(p);
}

/* ---- Closing ---- */

static void free_outlets(struct wr_pipeline *p, bool dead_letter)
{
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        if (p->plan->components[i].is_dead_letter != dead_letter)
            continue;
        wr_outlet_free(p->units[i].outlet);
        p->units[i].outlet = NULL;
    }
}

struct wr_pipeline_left wr_pipeline_close(struct wr_pipeline *p)
{
    for (uint32_t i = 0; i < p->n_lanes; i++)
        wr_lane_join(p->lanes[i]);
    for (uint32_t i = 0; i < p->plan->n_components; i++)
        if (p->units[i].outlet != NULL)
            wr_outlet_join(p->units[i].outlet);
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
    return (struct wr_pipeline_left){.events = atomic_load(&p->n_left),
                                     .timed_out = atomic_load(&p->aborting) != 0 &&
                                                  atomic_load(&p->failed) == 0};
}

void wr_pipeline_free(struct wr_pipeline *p)
{
    if (p == NULL)
        return;
    (void)wr_pipeline_close(p);
    for (uint32_t i = 0; i < p->plan->n_components; i++) {
        struct wr_shared *shared = &p->units[i].shared;
        if (shared->object != NULL && shared->destroy != NULL)
            shared->destroy(shared->object);
        pthread_mutex_destroy(&shared->mutex);
        wr_log_scope_free(p->units[i].log);
    }
    wr_pipeline_free_unready(p);
    pthread_mutex_destroy(&p->mutex);
    wr_log_scope_free(p->log);
    wr_free(p->lanes);
    wr_free(p->units);
    wr_free(p);
}
