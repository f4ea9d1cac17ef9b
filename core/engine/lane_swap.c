/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane's part in a reload: what has to come before it can rest. Transforms that go give what they hold
 * by their final tick; batches in front of components that the new plan has no more are delivered.
 */
#include <engine/lane_impl.h>
#include <engine/reload_impl.h>

static bool goes(const struct wr_lane_swap *mine, uint32_t i)
{
    return mine != NULL && mine->goes[i];
}

/* A batch that only the old graph can take: its sink goes, or a transform that this lane has no more, or that
 * has begun with it. */
static bool stack_is_bound(const struct wr_lane *lane, const struct wr_swap *swap,
                           const struct wr_lane_swap *mine)
{
    for (uint32_t i = 0; i < lane->n_work; i++) {
        const struct wr_work *w = &lane->stack[i];
        uint32_t is = swap->new_of[w->component];
        if (is == WR_NOWHERE || swap->sinks[is].outlet != NULL ||
            (goes(mine, w->component) && (w->again || mine->inst[is] == NULL)))
            return true;
    }
    return false;
}

/* False while there is more to come. */
static bool final_ticks(struct wr_lane *lane, struct wr_lane_swap *mine, int64_t now)
{
    for (; mine->ticked < lane->n_inst; mine->ticked++) {
        struct wr_instance *inst = lane->inst[mine->ticked];
        if (inst == NULL || inst == lane->src || !goes(mine, mine->ticked) ||
            inst->unit->comp->type->transform->tick == NULL)
            continue;
        if (lane->n_work != 0) {
            if (inst->held != NULL)
                return false;
            continue; /* behind a sink that takes nothing, and nothing would come of it */
        }
        if (!wr_chain_tick(lane, inst, true))
            return false;
        wr_chain_run(lane, now);
    }
    return true;
}

/* The component is no more, or another one, in all lanes. */
static bool is_replaced(const struct wr_swap *swap, uint32_t i)
{
    uint32_t is = swap->new_of[i];
    return is == WR_NOWHERE || !swap->same[is];
}

/* Something that goes holds events; or does so in another lane, where they may wait for what this one hears. */
static bool holds(const struct wr_lane *lane, const struct wr_swap *swap, const struct wr_lane_swap *mine)
{
    for (uint32_t i = 0; i < lane->n_inst; i++) {
        const struct wr_instance *inst = lane->inst[i];
        if (inst == NULL || inst == lane->src || lane->source == WR_NOWHERE)
            continue;
        if ((goes(mine, i) && inst->held != NULL) ||
            (is_replaced(swap, i) && atomic_load(&inst->unit->held_events) != 0))
            return true;
    }
    return false;
}

static bool is_empty(const struct wr_lane *lane)
{
    bool holds_any = lane->n_work != 0 || lane->early != NULL;
    for (uint32_t i = 0; i < lane->n_inst; i++)
        holds_any |= lane->inst[i] != NULL && lane->inst[i]->held != NULL;
    return !holds_any;
}

/* One that has left still ticks, for what its transforms hear: that may give something again. */
bool wr_lane_rests(struct wr_lane *lane, const struct wr_swap *swap, int64_t now)
{
    struct wr_lane_swap *mine = wr_swap_of_lane(swap, lane);
    if (atomic_load(&lane->leaves))
        return atomic_load(&lane->left) && is_empty(lane) && !holds(lane, swap, NULL);
    if (lane->early != NULL || stack_is_bound(lane, swap, mine) || !final_ticks(lane, mine, now))
        return false;
    mine->ticked = 0; /* of what comes to it until all rest */
    return !holds(lane, swap, mine) && !stack_is_bound(lane, swap, mine);
}

void wr_lane_has_left(struct wr_lane *lane)
{
    if (is_empty(lane) && !atomic_exchange(&lane->left, true))
        wr_pipeline_tell_swap(lane->p);
}
