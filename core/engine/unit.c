/* SPDX-License-Identifier: Apache-2.0
 *
 * The run-time side of one component: what its instances share, and the counters that all of them have.
 */
#include <engine/runtime.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>

struct wr_unit *wr_unit_new(struct wr_pipeline *p, const struct wr_plan *plan, uint32_t index)
{
    const struct wr_component *comp = &plan->components[index];
    struct wr_unit *unit = wr_xalloc(sizeof(*unit));
    struct wr_label labels[WR_UNIT_LABELS];
    struct weir_kv fields[WR_UNIT_LABELS];
    uint32_t n = WR_UNIT_LABELS;
    atomic_init(&unit->refs, 1);
    unit->type = comp->type;
    unit->comp = comp;
    unit->plan = wr_plan_ref(plan);
    unit->pipeline = p;
    unit->index = index;
    unit->id = weir_str_n(wr_xmemdup(comp->id.ptr, comp->id.len), comp->id.len);
    wr_unit_labels(unit, labels);
    for (uint32_t i = 0; i < n; i++)
        fields[i] = weir_kv_str(labels[i].name, labels[i].value);
    unit->log = wr_log_scope_new(p->rt.log, fields, WR_COUNT(fields));
    unit->born = wr_plan_ref(plan);
    wr_log_scope_hide(unit->log, plan->secrets);
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
    return unit;
}

struct wr_unit *wr_unit_ref(struct wr_unit *unit)
{
    atomic_fetch_add(&unit->refs, 1);
    return unit;
}

bool wr_unit_end_shared(struct wr_unit *unit)
{
    struct wr_shared *shared = &unit->shared;
    void *object = shared->object;
    shared->object = NULL;
    if (object != NULL && shared->destroy != NULL)
        shared->destroy(object);
    return object != NULL;
}

void wr_unit_unref(struct wr_unit *take_unit)
{
    if (take_unit == NULL || atomic_fetch_sub(&take_unit->refs, 1) != 1)
        return;
    (void)wr_unit_end_shared(take_unit);
    pthread_mutex_destroy(&take_unit->shared.mutex);
    wr_unit_forget_unready(take_unit);
    wr_log_scope_free(take_unit->log);
    wr_plan_free(take_unit->born);
    wr_plan_free(take_unit->plan);
    wr_free((void *)(uintptr_t)take_unit->id.ptr);
    wr_free(take_unit);
}

void wr_unit_follow(struct wr_unit *unit, const struct wr_plan *plan, uint32_t index)
{
    const struct wr_plan *before = unit->plan;
    unit->plan = wr_plan_ref(plan);
    unit->comp = &plan->components[index];
    unit->index = index;
    wr_plan_free(before);
}

/* ---- What the metrics of a component say of it ---- */

const char *wr_kind_name(enum weir_kind kind)
{
    static const char *const names[] = {"", "source", "transform", "sink"};
    return names[kind];
}

void wr_unit_labels(const struct wr_unit *unit, struct wr_label ret[WR_UNIT_LABELS])
{
    ret[0] = (struct wr_label){"pipeline", unit->pipeline->name};
    ret[1] = (struct wr_label){"component", unit->id};
    ret[2] = (struct wr_label){"kind", weir_cstr(wr_kind_name(unit->type->kind))};
    ret[3] = (struct wr_label){"type", weir_cstr(unit->type->name)};
}

/* ---- Counting what went wrong: rare, so the series are looked up ---- */

static void count(struct wr_unit *unit, const char *name, const char *help, const char *l1,
                  const char *v1, const char *l2, const char *v2, uint64_t n)
{
    struct wr_label labels[WR_UNIT_LABELS + 2];
    uint32_t n_labels = WR_UNIT_LABELS;
    wr_unit_labels(unit, labels);
    if (l1 != NULL)
        labels[n_labels++] = (struct wr_label){l1, weir_cstr(v1)};
    if (l2 != NULL)
        labels[n_labels++] = (struct wr_label){l2, weir_cstr(v2)};
    wr_metric_add(wr_metric(unit->pipeline->rt.metrics, WR_COUNTER, name, help, labels, n_labels), n);
}

void wr_unit_count_error(struct wr_unit *unit, const char *stage, const char *code, uint64_t n)
{
    count(unit, "component_errors_total", "Events that a component could not handle.", "stage", stage,
          "error_type", code != NULL ? code : "unknown", n);
}

void wr_unit_plugin_bug(struct wr_unit *unit, const char *message, const struct weir_kv *kv,
                        uint32_t n_kv)
{
    static const char *const stages[] = {"", "poll", "apply", "write"};
    wr_log_write(unit->log, WEIR_LOG_ERROR, message, kv, n_kv);
    wr_unit_count_error(unit, stages[unit->type->kind], "plugin_bug", 1);
}

void wr_unit_count_discard(struct wr_unit *unit, const char *reason, uint64_t n)
{
    count(unit, "component_discarded_events_total", "Events dropped, as the user chose.", "reason",
          reason != NULL ? reason : "unknown", NULL, NULL, n);
}

void wr_unit_count_dead(struct wr_unit *unit, uint64_t n)
{
    count(unit, "dead_letters_total", "Events handed to the dead-letter sink.", NULL, NULL, NULL,
          NULL, n);
}

void wr_unit_log_failure(struct wr_unit *unit, const char *message, const struct weir_event *ev,
                         const struct weir_result *r, uint32_t attempts)
{
    const struct weir_origin *origin = ev->origin;
    struct weir_kv kv[8] = {weir_kv_text("code", r->code != NULL ? r->code : "rejected"),
                            weir_kv_str("reason", r->message), weir_kv_u64("attempts", attempts)};
    uint32_t n = 3;
    if (ev->id.len != 0)
        kv[n++] = weir_kv_str("id", ev->id);
    if (origin != NULL)
        kv[n++] = weir_kv_str("origin", origin->name);
    if (origin != NULL && origin->partition >= 0)
        kv[n++] = weir_kv_i64("partition", origin->partition);
    if (origin != NULL)
        kv[n++] = weir_kv_i64(wr_event_is_item(ev) ? "item" : "offset", ev->position);
    wr_log_write(unit->log, WEIR_LOG_WARN, message, kv, n);
}

struct wr_why wr_why_of(const struct wr_unit *unit, enum weir_outcome outcome, const char *code,
                        struct weir_str message)
{
    return (struct wr_why){outcome, unit->id, code, message, unit->plan->secrets};
}
