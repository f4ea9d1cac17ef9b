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

/* A batch that only the old graph can take. */
static bool stack_is_bound(const struct wr_lane *lane, const struct wr_swap *swap,
                           const struct wr_lane_swap *mine)
{
    for (uint32_t i = 0; i < lane->n_work; i++) {
        const struct wr_work *w = &lane->stack[i];
        uint32_t is = swap->new_of[w->component];
        if (is == WR_NOWHERE || swap->sinks[is].outlet != NULL ||
            (w->again && goes(mine, w->component)))
            return true;
    }
    return false;
}

/* False while there is more to come. */
static bool final_ticks(struct wr_lane *lane, const struct wr_lane_swap *mine, int64_t now)
{
    for (; lane->swap_at < lane->n_inst; lane->swap_at++) {
        struct wr_instance *inst = lane->inst[lane->swap_at];
        if (inst == NULL || inst == lane->src || !goes(mine, lane->swap_at) ||
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

static bool holds(const struct wr_lane *lane, const struct wr_lane_swap *mine)
{
    for (uint32_t i = 0; i < lane->n_inst; i++)
        if (lane->inst[i] != NULL && goes(mine, i) && lane->inst[i]->held != NULL)
            return true;
    return false;
}

bool wr_lane_rests(struct wr_lane *lane, const struct wr_swap *swap, int64_t now)
{
    const struct wr_lane_swap *mine = wr_swap_of_lane(swap, lane);
    if (atomic_load(&lane->leaves))
        return atomic_load(&lane->flushed);
    if (lane->early != NULL || stack_is_bound(lane, swap, mine) || !final_ticks(lane, mine, now))
        return false;
    return !holds(lane, mine) && !stack_is_bound(lane, swap, mine);
}
