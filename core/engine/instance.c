/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing one component instance.
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
        inst->plan->condition_service;
    return service->open(&inst->host, comp->conditions, comp->n_conditions, &inst->conditions,
                         err) == WEIR_OK;
}

struct wr_instance *wr_instance_open(struct wr_unit *unit, uint32_t index, uint32_t count,
                                     struct wr_lane *lane, struct wr_shard *shard,
                                     struct weir_error *err)
{
    const struct weir_type *type = unit->comp->type;
    struct wr_instance *inst = wr_xalloc(sizeof(*inst));
    inst->unit = wr_unit_ref(unit);
    inst->plan = wr_plan_ref(unit->plan);
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
                     WR_STR(unit->pipeline->name), wr_kind_name(type->kind),
                     WR_STR(unit->comp->id), type->name);
    wr_instance_close(inst);
    return NULL;
}

static void instance_free(struct wr_instance *inst)
{
    struct wr_unit *unit = inst->unit;
    wr_plan_free(inst->plan);
    wr_free(inst);
    wr_unit_unref(unit);
}

void wr_instance_unwatch(struct wr_instance *inst)
{
    if (--inst->n_watched == 0 && inst->self == NULL)
        instance_free(inst);
}

void wr_instance_close(struct wr_instance *take_inst)
{
    if (take_inst == NULL)
        return;
    struct wr_unit *unit = take_inst->unit;
    if (take_inst->self != NULL)
        unit->comp->type->close(take_inst->self);
    take_inst->self = NULL;
    while (take_inst->held != NULL) /* what it forgot: its ack was ended by the lane */
        take_inst->host.held_drop(&take_inst->host, take_inst->held);
    wr_held_next_call(take_inst);
    if (take_inst->conditions != NULL)
        take_inst->plan->condition_service->close(take_inst->conditions);
    wr_arena_done(&take_inst->scratch);
    if (take_inst->memory_bytes != 0)
        wr_budget_charge(take_inst->memory_use, -(int64_t)take_inst->memory_bytes);
    take_inst->memory_bytes = 0;
    if (take_inst->n_watched == 0) /* else the last of them frees it */
        instance_free(take_inst);
}
