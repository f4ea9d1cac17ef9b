/* SPDX-License-Identifier: Apache-2.0
 *
 * The moment of a reload in which nothing moves: every lane and shard rests, and one thread puts the new
 * graph in the place of the old one.
 */
#include <engine/reload_impl.h>

#include <base/mem.h>
#include <engine/disk_buffer.h>

#define TAKE_OVER_NS (5 * WEIR_NS_PER_S) /* until a changed sink's old writes are cancelled */

struct wr_swap_look wr_swap_look(struct wr_pipeline *p)
{
    struct wr_swap_look look = {NULL, 0};
    if (atomic_load(&p->swap) == NULL)
        return look;
    pthread_mutex_lock(&p->swap_mutex);
    look = (struct wr_swap_look){atomic_load(&p->swap), p->n_swaps};
    if (look.swap != NULL)
        look.swap->refs++;
    pthread_mutex_unlock(&p->swap_mutex);
    return look;
}

void wr_swap_look_done(struct wr_pipeline *p, struct wr_swap_look look)
{
    if (look.swap != NULL)
        wr_swap_unref(p, look.swap);
}

/* Under the mutex. NULL once it is over. */
static struct wr_swap *swap_of(const struct wr_pipeline *p, uint64_t number)
{
    return p->n_swaps == number ? atomic_load(&p->swap) : NULL;
}

void wr_swap_wait(struct wr_pipeline *p, uint64_t number)
{
    pthread_mutex_lock(&p->swap_mutex);
    if (swap_of(p, number) != NULL) {
        swap_of(p, number)->n_resting++;
        pthread_cond_broadcast(&p->swap_changed);
    }
    while (swap_of(p, number) != NULL)
        pthread_cond_wait(&p->swap_changed, &p->swap_mutex);
    pthread_mutex_unlock(&p->swap_mutex);
}

void wr_swap_wait_awhile(struct wr_pipeline *p, uint64_t number)
{
    struct wr_clock *clock = p->rt.clock;
    int64_t until = wr_now(clock) + WR_SWAP_LOOK_NS;
    pthread_mutex_lock(&p->swap_mutex);
    struct wr_swap *swap = swap_of(p, number);
    if (swap != NULL) {
        swap->n_resting++;
        pthread_cond_broadcast(&p->swap_changed);
    }
    while ((swap = swap_of(p, number)) != NULL && (swap->lanes_rest || wr_now(clock) < until)) {
        if (swap->lanes_rest)
            pthread_cond_wait(&p->swap_changed, &p->swap_mutex);
        else
            clock->wait(clock, &p->swap_changed, &p->swap_mutex, until);
    }
    if (swap != NULL)
        swap->n_resting--;
    pthread_mutex_unlock(&p->swap_mutex);
}

void wr_swap_over(struct wr_pipeline *p)
{
    pthread_mutex_lock(&p->swap_mutex);
    atomic_store(&p->swap, NULL);
    p->n_swaps++;
    pthread_cond_broadcast(&p->swap_changed);
    pthread_mutex_unlock(&p->swap_mutex);
}

struct wr_lane_swap *wr_swap_of_lane(const struct wr_swap *swap, const struct wr_lane *lane)
{
    for (uint32_t i = 0; i < swap->n_lanes; i++)
        if (swap->lanes[i].lane == lane)
            return &swap->lanes[i];
    return NULL;
}

/* Its dead letters have a sink after the swap, too: of one that goes the one that they had, which goes after it
 * where the plan has it no more. */
static bool has_dead_letter(const struct wr_swap *swap, const struct wr_outlet *o)
{
    for (uint32_t i = 0; i < swap->old.plan->n_components; i++) {
        uint32_t is = swap->new_of[i];
        if (swap->old.units[i]->outlet == o)
            return is == WR_NOWHERE || swap->sinks[is].outlet != NULL ||
                   swap->new.plan->components[is].dead_letter >= 0;
    }
    return true; /* of an earlier reload */
}

bool wr_shard_rests(const struct wr_shard *s, const struct wr_swap *swap)
{
    enum wr_swap_rest turn = s->outlet->is_dead_letter ? WR_REST_DEAD : WR_REST_SINKS;
    return atomic_load(&swap->rest) >= (int)turn && (s->dead == NULL || has_dead_letter(swap, s->outlet));
}

/* ---- Lanes ---- */

static void close_going(struct wr_lane *lane, const bool *goes)
{
    for (uint32_t i = 0; i < lane->n_inst; i++)
        if (lane->inst[i] != NULL && lane->inst[i] != lane->src && (goes == NULL || goes[i])) {
            wr_instance_close(lane->inst[i]);
            lane->inst[i] = NULL;
        }
}

static void swap_lane(const struct wr_swap *swap, const struct wr_lane_swap *mine)
{
    struct wr_lane *lane = mine->lane;
    uint32_t n = swap->new.plan->n_components;
    close_going(lane, mine->goes);
    for (uint32_t i = 0; i < lane->n_inst; i++)
        if (lane->inst[i] != NULL)
            mine->inst[swap->new_of[i]] = lane->inst[i];
    for (uint32_t i = 0; i < lane->n_work; i++) {
        struct wr_work *w = &lane->stack[i];
        w->component = swap->new_of[w->component];
    }
    wr_free(lane->inst);
    lane->inst = wr_xalloc(n * sizeof(struct wr_instance *));
    for (uint32_t i = 0; i < n; i++)
        lane->inst[i] = mine->inst[i];
    lane->n_inst = n;
    lane->source = swap->new_of[lane->source];
    lane->make_ids = wr_plan_reads_ids(swap->new.plan);
    lane->final_at = 0;
}

/* It has given everything, and only hears what becomes of it: so do its transforms, which others may wait
 * for. */
static void leave_graph(struct wr_lane *lane)
{
    if (lane->source == WR_NOWHERE)
        return;
    lane->late = wr_xalloc(lane->n_inst * sizeof(struct wr_instance *));
    for (uint32_t i = 0; i < lane->n_inst; i++)
        if (lane->inst[i] != NULL && lane->inst[i] != lane->src && lane->inst[i]->n_watched != 0) {
            lane->late[lane->n_late++] = lane->inst[i];
            lane->inst[i] = NULL;
        }
    close_going(lane, NULL);
    lane->source = WR_NOWHERE;
    lane->n_inst = 1;
    lane->inst[0] = lane->src;
}

static void swap_lanes(const struct wr_swap *swap)
{
    struct wr_pipeline *p = swap->p;
    for (uint32_t i = 0; i < p->n_lanes; i++) {
        struct wr_lane *lane = p->lanes[i];
        const struct wr_lane_swap *mine = wr_swap_of_lane(swap, lane);
        bool owned = lane->owned;
        lane->owned = false; /* its transforms close on this thread */
        if (mine != NULL)
            swap_lane(swap, mine);
        else
            leave_graph(lane);
        lane->owned = owned;
    }
}

/* ---- Sinks ---- */

/* The unit before still names its outlet: sinks that go hand it their dead letters by that. */
static void change_sink(struct wr_outlet *o, struct wr_unit *unit, struct wr_instance **inst, int64_t now)
{
    struct wr_unit *before = o->unit;
    o->unit = wr_unit_ref(unit);
    unit->outlet = o;
    wr_unit_unref(before);
    for (uint32_t i = 0; i < o->n_shards; i++) {
        struct wr_shard *s = &o->shards[i];
        wr_instance_close(s->next_inst); /* of a reload before that has not taken over yet */
        s->next_inst = inst[i];
        s->replaced = true;
        s->cancel_at = now + TAKE_OVER_NS;
        inst[i] = NULL;
    }
}

static void change_buffer(struct wr_buffer *buf, const struct wr_sink_options *opt)
{
    const struct wr_disk_limits limits = {.size = (size_t)opt->buffer.size,
                                          .sync_ns = opt->buffer.sync,
                                          .when_full = opt->buffer.when_full,
                                          .keep_source = opt->buffer.keep_source,
                                          .drains = opt->buffer.drain_on_stop};
    if (buf->durable)
        wr_disk_change(buf, &limits);
    else
        buf->cap_bytes = limits.size;
}

static void go(struct wr_outlet *o)
{
    o->going = true;
    if (o->buffer->durable)
        wr_disk_last(o->buffer);
}

static void swap_sinks(const struct wr_swap *swap, int64_t now)
{
    for (uint32_t i = 0; i < swap->new.plan->n_components; i++) {
        struct wr_sink_swap *to = &swap->sinks[i];
        uint32_t was = swap->old_of[i];
        if (swap->new.plan->components[i].type->kind != WEIR_SINK)
            continue;
        if (to->outlet != NULL) {
            swap->new.units[i]->outlet = to->outlet;
            continue; /* what was there of that id leaves */
        }
        struct wr_outlet *o = swap->old.units[was]->outlet;
        if (!swap->same[i])
            change_sink(o, swap->new.units[i], to->inst, now);
        change_buffer(o->buffer, &swap->new.plan->components[i].opt.sink);
    }
    for (uint32_t i = 0; i < swap->old.plan->n_components; i++) {
        struct wr_unit *unit = swap->old.units[i];
        uint32_t is = swap->new_of[i];
        if (unit->outlet != NULL && unit->outlet->unit == unit &&
            (is == WR_NOWHERE || swap->new.units[is]->outlet != unit->outlet))
            go(unit->outlet);
    }
}

/* ---- All of it ---- */

void wr_swap_apply(struct wr_swap *swap)
{
    struct wr_pipeline *p = swap->p;
    const struct wr_plan *new = swap->new.plan, *old = swap->old.plan;
    pthread_mutex_lock(&p->parts);
    swap_lanes(swap);
    swap_sinks(swap, wr_now(p->rt.clock));
    for (uint32_t i = 0; i < new->n_components; i++)
        if (swap->same[i])
            wr_unit_follow(swap->new.units[i], new, i);
    p->plan = wr_plan_ref(new);
    p->units = swap->new.units;
    wr_pipeline_bind_dead_letters(p);
    pthread_mutex_unlock(&p->parts);
    for (uint32_t i = 0; i < old->n_components; i++)
        if (swap->new_of[i] == WR_NOWHERE || !swap->same[swap->new_of[i]])
            wr_unit_unref(swap->old.units[i]);
    wr_free(swap->old.units);
    wr_plan_free(old);
    swap->old.units = swap->new.units = NULL;
}
