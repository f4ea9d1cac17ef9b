/* SPDX-License-Identifier: Apache-2.0
 *
 * One turn of a shard: what has completed, what can be written, what ends here; then a wait. Its thread is
 * a loop round it, and a test turns it by hand. Never decides about an event: see outlet_results.c.
 */
#include <engine/outlet_impl.h>
#include <engine/reload_impl.h>

#define GIVE_UP_NS (2 * WEIR_NS_PER_S) /* after cancel: how long pending writes may take to end */

/* The end leaves in the buffer what is there, for the next start. One whose sink the plan has no more is emptied:
 * no later run would. */
static bool keeps(const struct wr_outlet *o)
{
    return wr_buffer_keeps(o->buffer) && !o->going;
}

bool wr_shard_leaves(const struct wr_shard *s)
{
    const struct wr_pipeline *p = s->outlet->p;
    bool ends = atomic_load(s->outlet->is_dead_letter ? &p->finish_dead : &p->finish_sinks) != 0;
    return (ends && keeps(s->outlet)) ||
           (s->outlet->buffer->durable && atomic_load(&p->aborting) != 0);
}

/* Nothing of this shard's is left, nor anything that it is to take. */
static bool idle(struct wr_shard *s)
{
    if (s->n_active != 0 || s->n_again != 0 || s->dead != NULL)
        return false;
    if (!wr_shard_leaves(s))
        (void)wr_shard_refill(s);
    if (wr_shard_queued(s) != 0)
        return false;
    /* What a durable one has and does not give now may come later. */
    const struct wr_buffer *buffer = s->outlet->buffer;
    return wr_shard_leaves(s) || !buffer->durable || keeps(s->outlet) || atomic_load(&buffer->events) == 0;
}

/* A durable buffer is not emptied at the end, unless the user wants it or its sink goes: what is under way ends,
 * the rest stays in it. */
static bool left_the_rest(struct wr_shard *s)
{
    if (s->n_active != 0 || s->dead != NULL)
        return false;
    wr_shard_fail_queued(s);
    return true;
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
    wr_pipeline_shard_ended(o->p, o->is_dead_letter);
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
        if (s->outlet->buffer->ops->give_up != NULL)
            s->outlet->buffer->ops->give_up(s->outlet->buffer);
    }
    do
        wr_shard_fail_queued(s);
    while (!s->outlet->buffer->durable && wr_shard_refill(s));
    if (now >= s->give_up_at && s->n_active != 0 && !s->told_cancel) {
        /* A pipeline that stopped by itself let its writes go on until now. */
        s->told_cancel = true;
        s->give_up_at = now + GIVE_UP_NS / 4;
        wr_shard_cancel(s);
    }
    for (uint32_t i = 0; now >= s->give_up_at && i < s->n_writes; i++)
        if (s->writes[i].active && !s->writes[i].given_up)
            give_up(s, &s->writes[i]);
    wr_ended_flush(&s->ended);
    const struct wr_pipeline *p = s->outlet->p;
    bool feeders = atomic_load(&p->lanes_left) != 0 ||
                   (s->outlet->is_dead_letter && atomic_load(&p->sinks_left) != 0);
    /* Nobody feeds one that goes. Lanes may wait for what waits for its end. */
    return (!feeders || atomic_load(&s->outlet->leaves)) && idle(s);
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
    wr_shard_clear_scratch(s);
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
    struct wr_swap_look look = wr_swap_look(p);
    bool rests = look.swap != NULL && wr_shard_rests(s, look.swap);
    wr_swap_look_done(p, look);
    if (rests) {
        wr_swap_wait(p, look.number);
        return 0;
    }
    wr_shard_take_completions(s);
    if (atomic_load(&p->aborting)) {
        next = s->n_active != 0 ? now + GIVE_UP_NS / 20 : INT64_MAX;
        if (abort_step(s, now)) {
            finish_shard(s, now);
            return -1;
        }
    } else {
        bool ends = atomic_load(s->outlet->is_dead_letter ? &p->finish_dead : &p->finish_sinks) != 0 ||
                    atomic_load(&s->outlet->leaves);
        bool leaves = wr_shard_leaves(s);
        bool clear = wr_shard_push_dead(s, now);
        next = clear && !leaves ? wr_shard_start_writes(s, now) : INT64_MAX;
        if (leaves ? left_the_rest(s) : ends && idle(s)) {
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
