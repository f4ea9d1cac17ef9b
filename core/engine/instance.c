/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing one component instance, and the counters that all of them share.
 */
#include <engine/runtime.h>

#include <base/budget.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/host.h>

#define SCRATCH_CHUNK (16u * 1024u)

static bool open_conditions(struct wr_instance *inst, struct weir_error *err)
{
    const struct wr_component *comp = inst->unit->comp;
    if (comp->n_conditions == 0)
        return true;
    const struct weir_condition_service *service =
        inst->unit->pipeline->plan->condition_service;
    return service->open(&inst->host, comp->conditions, comp->n_conditions, &inst->conditions,
                         err) == WEIR_OK;
}

struct wr_instance *wr_instance_open(struct wr_unit *unit, uint32_t index, uint32_t count,
                                     struct wr_lane *lane, struct wr_shard *shard,
                                     struct weir_error *err)
{
    const struct weir_type *type = unit->comp->type;
    struct wr_instance *inst = wr_xalloc(sizeof(*inst));
    inst->unit = unit;
    inst->clock = unit->pipeline->rt.clock;
    inst->lane = lane;
    inst->shard = shard;
    inst->host.index = index;
    inst->host.count = count;
    wr_arena_init(&inst->scratch, SCRATCH_CHUNK);
    wr_host_init(inst);
    (void)wr_error(err, WEIR_E_FATAL, NULL, "it gave no reason");
    if (open_conditions(inst, err) &&
        type->open(&inst->host, unit->comp->config, &inst->self, err) == WEIR_OK) {
        if (type->interval != NULL && type->transform != NULL && type->transform->tick != NULL)
            inst->tick_ns = type->interval(wr_host_control(), unit->comp->config);
        return inst;
    }
    wr_error_context(err, "pipeline '%.*s': %s '%.*s' (%s) cannot open",
                     WR_STR(unit->pipeline->plan->name), wr_kind_name(type->kind),
                     WR_STR(unit->comp->id), type->name);
    wr_instance_close(inst);
    return NULL;
}

void wr_instance_close(struct wr_instance *take_inst)
{
    if (take_inst == NULL)
        return;
    struct wr_unit *unit = take_inst->unit;
    if (take_inst->self != NULL)
        unit->comp->type->close(take_inst->self);
    while (take_inst->held != NULL) /* what it forgot: its ack was ended by the lane */
        take_inst->host.held_drop(&take_inst->host, take_inst->held);
    wr_held_next_call(take_inst);
    if (take_inst->conditions != NULL)
        unit->pipeline->plan->condition_service->close(take_inst->conditions);
    wr_arena_done(&take_inst->scratch);
    if (take_inst->memory_bytes != 0)
        wr_budget_charge(take_inst->memory_use, -(int64_t)take_inst->memory_bytes);
    wr_free(take_inst);
}

/* ---- What the metrics of a component say of it ---- */

const char *wr_kind_name(enum weir_kind kind)
{
    static const char *const names[] = {"", "source", "transform", "sink"};
    return names[kind];
}

void wr_unit_labels(const struct wr_unit *unit, struct wr_label ret[WR_UNIT_LABELS])
{
    ret[0] = (struct wr_label){"pipeline", unit->pipeline->plan->name};
    ret[1] = (struct wr_label){"component", unit->comp->id};
    ret[2] = (struct wr_label){"kind", weir_cstr(wr_kind_name(unit->comp->type->kind))};
    ret[3] = (struct wr_label){"type", weir_cstr(unit->comp->type->name)};
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
    wr_unit_count_error(unit, stages[unit->comp->type->kind], "plugin_bug", 1);
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
    return (struct wr_why){outcome, unit->comp->id, code, message, unit->pipeline->plan->secrets};
}
