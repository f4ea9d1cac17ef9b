/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane: one thread, one source instance, the transforms behind it. Each step hears the acks that came
 * home, runs due ticks, goes on with parked work, and polls the source. It never blocks but in poll,
 * and there only until the next thing it has to do.
 *
 * Its end: the source is stopped or read to its end ─▶ nothing on the stack ─▶ final ticks, in the order
 * of the flow ─▶ no open ack ─▶ last commits.
 */
#include <engine/lane_impl.h>

#include <base/budget.h>
#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/reload_impl.h>
#include <engine/transform_host.h>

#include <stdio.h>

#define ROOM_EVENTS 256u /* so that a batch goes through while it is in the cache */
#define UNTOLD_MAX 4u    /* full batches on which an outlet is woken once */
#define ROOM_MIN 8u /* places of a batch that is only begun: few events must not pin much memory */
#define SERVE_ENDED_NS (100 * WEIR_NS_PER_MS) /* how often an ended source is still polled */
#define SPINS_MAX 64u                         /* polls that came back at once with nothing */
#define SPARE_MAX (64u * 1024u)
#define SPIN_SLEEP_NS (1 * WEIR_NS_PER_MS)

void wr_lane_wake(void *lane)
{
    wr_wake_signal(&((struct wr_lane *)lane)->wake);
}

static void wake_source(void *arg)
{
    struct wr_lane *lane = arg;
    lane->type->wake(lane->src->self);
}

static void tell_settled(void *arg, void *watcher, uint64_t cookie, enum weir_outcome outcome)
{
    struct wr_instance *inst = watcher;
    const struct weir_transform *type = inst->unit->comp->type->transform;
    (void)arg;
    if (inst->self != NULL && type->settled != NULL)
        type->settled(inst->self, &cookie, &outcome, 1);
    wr_instance_unwatch(inst);
}

struct wr_acks *wr_lane_acks(struct wr_lane *lane)
{
    return lane->acks;
}

int64_t wr_lane_idle(const struct wr_lane *lane, int64_t now)
{
    return wr_idle_total(&lane->idle, now);
}

uint32_t wr_lane_source(const struct wr_lane *lane)
{
    return lane->source;
}

bool wr_lane_is_here(const struct wr_lane *lane)
{
    return !lane->owned || pthread_equal(lane->owner, pthread_self());
}

/* ---- Opening ---- */

bool wr_plan_reads_ids(const struct wr_plan *plan)
{
    bool any = false;
    for (uint32_t i = 0; i < plan->n_components; i++)
        any |= (plan->components[i].needs & WEIR_NEEDS_ID) != 0;
    return any;
}

bool wr_plan_reaches(const struct wr_plan *plan, uint32_t from, uint32_t to)
{
    const struct wr_component *comp = &plan->components[from];
    for (uint32_t i = 0; i < comp->n_outs; i++)
        if (comp->outs[i].to == to || wr_plan_reaches(plan, comp->outs[i].to, to))
            return true;
    return false;
}

bool wr_lane_has(const struct wr_plan *plan, uint32_t source, uint32_t transform)
{
    return plan->components[transform].type->kind == WEIR_TRANSFORM &&
           wr_plan_reaches(plan, source, transform);
}

static bool open_instances(struct wr_lane *lane, const struct wr_graph *g, struct weir_error *err)
{
    for (uint32_t i = 0; i < g->plan->n_components; i++) {
        if (i != lane->source && !wr_lane_has(g->plan, lane->source, i))
            continue;
        lane->inst[i] = wr_instance_open(g->units[i], lane->index, lane->count, lane, NULL, err);
        if (lane->inst[i] == NULL)
            return false;
        if (i == lane->source)
            lane->src = lane->inst[i];
    }
    wr_acks_source(lane->acks, lane->src->self);
    return true;
}

static uint32_t room_of(const struct wr_component *comp)
{
    return comp->opt.source.room != 0 ? comp->opt.source.room : ROOM_EVENTS;
}

struct wr_lane *wr_lane_new(struct wr_pipeline *p, const struct wr_graph *g, uint32_t component,
                            uint32_t index, uint32_t count, struct weir_error *err)
{
    static const struct wr_acks_ops ops = {wr_lane_wake, tell_settled};
    struct wr_lane *lane = wr_xalloc(sizeof(*lane));
    lane->p = p;
    lane->source = component;
    lane->index = index;
    lane->count = count;
    lane->type = g->plan->components[component].type->source;
    lane->inst = wr_xalloc(g->plan->n_components * sizeof(struct wr_instance *));
    lane->n_inst = g->plan->n_components;
    lane->make_ids = wr_plan_reads_ids(g->plan);
    lane->acks = wr_acks_new(lane->type, &ops, lane);
    if (g->plan->replay == NULL)
        wr_acks_name(lane->acks, g->units[component]->id);
    lane->waiter.wake = wr_lane_wake;
    lane->waiter.arg = lane;
    lane->waiter.tells = true;
    lane->room = room_of(g->plan->components + component);
    wr_wake_init(&lane->wake, lane->type->wake != NULL ? wake_source : NULL, lane);
    if (!open_instances(lane, g, err)) {
        wr_lane_free(lane);
        return NULL;
    }
    return lane;
}

void wr_lane_close_transforms(struct wr_lane *lane)
{
    for (uint32_t i = 0; i < lane->n_inst; i++) {
        if (lane->inst[i] == lane->src || lane->inst[i] == NULL)
            continue;
        wr_instance_close(lane->inst[i]);
        lane->inst[i] = NULL;
    }
    while (lane->n_late != 0)
        wr_instance_close(lane->late[--lane->n_late]);
}

void wr_lane_free(struct wr_lane *take_lane)
{
    if (take_lane == NULL)
        return;
    struct wr_lane *lane = take_lane;
    wr_chain_abort(lane);
    wr_lane_close_transforms(lane);
    wr_batch_free(lane->spare); /* what the source attached goes before the source */
    wr_instance_close(lane->src);
    wr_acks_free(lane->acks);
    wr_wake_done(&lane->wake);
    wr_free(lane->stack);
    wr_free(lane->late);
    wr_free(lane->inst);
    wr_free(lane);
}

/* ---- Polling ---- */

/* For sources without a wake of their own, inside their poll. */
void wr_host_wait(const struct weir_host *h, int64_t deadline_ns)
{
    struct wr_instance *inst = (struct wr_instance *)h->priv;
    wr_wake_wait(&inst->lane->wake, inst->clock, deadline_ns);
}

static void tell_outlets(struct wr_lane *lane)
{
    lane->n_untold = 0;
    for (uint32_t i = 0; i < lane->p->plan->n_components; i++)
        if (lane->p->units[i]->outlet != NULL)
            wr_buffer_tell(wr_outlet_buffer(lane->p->units[i]->outlet));
}

/* A source that filled its last batch is likely to have the next one at once: the outlets are told of
 * both together. Whatever waits, or finds no room, is preceded by a tell_outlets. */
static bool may_put_off(const struct wr_lane *lane, uint32_t room)
{
    return lane->n_untold != 0 && lane->n_untold < UNTOLD_MAX && lane->last_polled == lane->room &&
           room == lane->room;
}

static void plan_unref(void *take_plan)
{
    wr_plan_free(take_plan);
}

/* What the source puts into its events may be texts of its options: the plan that has them stays as long as the
 * events, which outlive the lane in a durable buffer. */
static struct wr_batch *poll_batch(struct wr_lane *lane)
{
    if (lane->spare != NULL)
        return lane->spare;
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = NULL;
    if (body != NULL)
        b = wr_batch_new(body, lane->last_polled < ROOM_MIN ? ROOM_MIN : lane->last_polled);
    wr_body_unref(body);
    if (b != NULL &&
        !wr_batch_attach(&b->pub, plan_unref, (void *)(uintptr_t)wr_plan_ref(lane->src->plan), 0)) {
        wr_batch_free(b);
        b = NULL;
    }
    lane->spare = b;
    return b;
}

/* What every event gets on its way in. False when memory is used up. */
static bool enter(struct wr_lane *lane, struct wr_batch *b, int64_t now)
{
    struct wr_clock *clock = lane->p->rt.clock;
    struct wr_unit *unit = lane->src->unit;
    uint32_t raw = unit->comp->opt.source.codec == WR_CODEC_RAW ? WEIR_EVENT_RAW : 0;
    int64_t wall = clock->wall(clock);
    size_t bytes = 0;
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        struct weir_event *ev = &wr_batch_events(b)[i];
        ev->flags |= raw;
        bytes += ev->payload.len;
        if (ev->time_ns == 0)
            ev->time_ns = wall;
        if (lane->make_ids && ev->stream == NULL && wr_event_id(b, ev, clock).ptr == NULL)
            return false;
    }
    b->entered_ns = now;
    wr_metric_add(unit->received_events, b->pub.n_events);
    wr_metric_add(unit->received_bytes, bytes);
    return wr_acks_enter(lane->acks, b, now);
}

/* A source fails an event seldom: only then there is something to end. */
static void emit_polled(struct wr_lane *lane, struct wr_batch *take_b)
{
    uint32_t flags = 0;
    for (uint32_t i = 0; i < take_b->pub.n_events; i++)
        flags |= wr_batch_events(take_b)[i].flags;
    if ((flags & WEIR_EVENT_GONE) != 0)
        wr_chain_leave(lane, lane->source, take_b);
    else
        wr_chain_emit(lane, lane->source, take_b);
}

static void take_polled(struct wr_lane *lane, int64_t now)
{
    struct wr_batch *b = lane->spare;
    lane->spare = NULL;
    lane->idle_spins = 0;
    lane->last_polled = b->pub.n_events; /* the next one is likely to be like it */
    if (!enter(lane, b, now))
        wr_pipeline_fail(lane->p, "no memory for %u new events", b->pub.n_events);
    emit_polled(lane, b);
    if (atomic_load(&lane->p->aborting))
        wr_chain_abort(lane);
    else
        wr_chain_run(lane, now);
}

/* A source that comes back at once with nothing must not make the lane spin. */
static void damp(struct wr_lane *lane, int64_t before, int64_t deadline)
{
    struct wr_clock *clock = lane->p->rt.clock;
    if (deadline - before < SPIN_SLEEP_NS || wr_now(clock) - before >= SPIN_SLEEP_NS / 10) {
        lane->idle_spins = 0;
        return;
    }
    if (++lane->idle_spins > SPINS_MAX)
        wr_wake_wait(&lane->wake, clock, before + SPIN_SLEEP_NS);
}

/* A source must add nothing where there is no room. What it added all the same is kept, and goes on
 * once the lane has got through with what was there before. */
static void keep_early(struct wr_lane *lane, int64_t now)
{
    struct wr_batch *b = lane->spare;
    struct weir_kv kv = weir_kv_u64("events", b->pub.n_events);
    lane->spare = NULL;
    wr_unit_plugin_bug(lane->src->unit,
                       "plugin bug: the source added events to a poll that had no room", &kv, 1);
    if (!enter(lane, b, now))
        wr_pipeline_fail(lane->p, "no memory for %u new events", b->pub.n_events);
    b->next = NULL;
    if (lane->early == NULL)
        lane->early = b;
    else
        lane->last_early->next = b;
    lane->last_early = b;
}

static void take_early(struct wr_lane *lane, int64_t now)
{
    while (lane->early != NULL && lane->n_work == 0) {
        struct wr_batch *b = lane->early;
        lane->early = b->next;
        lane->final_at = 0; /* a transform may have kept something of it again */
        emit_polled(lane, b);
        wr_chain_run(lane, now);
    }
}

/* Near the process's limit of memory nothing more comes in. A lane that has nothing under way goes on
 * all the same, a batch at a time, or all might wait for ever for what the others keep. */
static bool memory_is_short(struct wr_lane *lane, int64_t now)
{
    bool waits = wr_budget_short(now) && wr_acks_open(lane->acks) != 0;
    if (waits && !lane->waits_for_memory)
        WR_LOG(lane->src->unit->log, WEIR_LOG_WARN,
               "memory is short: the source waits until events have ended",
               weir_kv_u64("resident_bytes", wr_budget_resident()),
               weir_kv_u64("limit_bytes", wr_budget_limit()),
               weir_kv_u64("event_bytes", wr_budget_used(WR_USE_EVENTS)));
    lane->waits_for_memory = waits;
    return waits;
}

static void poll_source(struct wr_lane *lane, uint32_t room, int64_t deadline)
{
    struct wr_clock *clock = lane->p->rt.clock;
    bool put_off = may_put_off(lane, room);
    struct wr_batch *b = poll_batch(lane);
    if (!put_off || b == NULL)
        tell_outlets(lane);
    if (b == NULL) {
        wr_wake_wait(&lane->wake, clock, wr_now(clock) + SPIN_SLEEP_NS); /* memory may come back */
        return;
    }
    struct weir_error err = {0};
    int64_t before = wr_now(clock);
    bool has_wake = lane->wake.hook != NULL;
    wr_arena_clear(&lane->src->scratch, 64 * 1024);
    if ((has_wake && !wr_wake_enter(&lane->wake)) || put_off)
        deadline = before;
    wr_idle_begin(&lane->idle, before);
    enum weir_status status = lane->type->poll(lane->src->self, &b->pub, room, deadline,
                                                      &err);
    if (has_wake)
        wr_wake_leave(&lane->wake);
    wr_idle_end(&lane->idle, wr_now(clock), b->pub.n_events == 0);
    wr_body_charge(b->own);
    if (b->pub.n_events != 0 && room == 0) {
        keep_early(lane, wr_now(clock));
    } else if (b->pub.n_events != 0) {
        take_polled(lane, wr_now(clock));
        lane->n_untold++;
    } else if (put_off) {
        tell_outlets(lane); /* it has no more: the next poll waits */
    } else if (b->own->arena.footprint + b->own->attached_bytes > SPARE_MAX) {
        /* What the source put in and took back goes with the body. */
        wr_batch_free(b);
        lane->spare = NULL;
    } else if (status >= 0 && status != WEIR_END)
        damp(lane, before, deadline);
    if (status == WEIR_END)
        lane->ended = true;
    if (status < 0) {
        wr_unit_count_error(lane->src->unit, "poll", err.code, 1);
        lane->ended = true;
        wr_pipeline_fail_source(lane->p, "source '%.*s': %s",
                                WR_STR(lane->src->unit->id), err.text);
    }
}

/* ---- A turn ---- */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A lane that is parked ticks when it goes on. But where a transform has it wait, those behind that one do
 * not: what they hold may be what it waits for. In the order of components none of them leads to it. */
static bool may_tick(const struct wr_lane *lane, uint32_t component)
{
    if (lane->n_work == 0)
        return true;
    uint32_t at = lane->stack[lane->n_work - 1].component;
    return lane->inst[at] != NULL && component > at;
}

static void tick(struct wr_lane *lane, uint32_t component, int64_t now)
{
    uint32_t before = lane->n_work;
    /* Without memory it does nothing; the next one may find some. */
    (void)wr_chain_tick(lane, lane->inst[component], lane->final_at > component);
    if (lane->n_work == before)
        return;
    if (lane->final_at > component)
        lane->final_at = component + 1; /* a transform behind it may have kept something again */
    wr_chain_run(lane, now);
}

/* Runs what is due; returns when the next one is. */
static int64_t run_ticks(struct wr_lane *lane, int64_t now)
{
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < lane->n_inst; i++) {
        struct wr_instance *inst = lane->inst[i];
        if (inst == NULL || inst == lane->src || inst->unit->comp->type->transform->tick == NULL)
            continue;
        bool due = atomic_load(&inst->wanted) != 0 || (inst->tick_ns != 0 && now >= inst->next_tick);
        if (due && may_tick(lane, i)) {
            if (inst->tick_ns != 0)
                inst->next_tick = now + inst->tick_ns;
            tick(lane, i, now);
        }
        if (inst->tick_ns != 0 && may_tick(lane, i))
            next = min64(next, inst->next_tick);
    }
    return next;
}

static bool wanted_by_parked(const struct wr_lane *lane)
{
    if (lane->n_work == 0)
        return false;
    struct wr_instance *inst = lane->inst[lane->stack[lane->n_work - 1].component];
    return inst != NULL && atomic_load(&inst->wanted) != 0;
}

static void go_on(struct wr_lane *lane, int64_t now)
{
    if (lane->n_work == 0)
        return;
    /* Behind a full buffer the waiter tells: it is out of the queue once there is room. */
    bool room = lane->inst[lane->stack[lane->n_work - 1].component] == NULL;
    if (!lane->parked || room || now >= lane->resume_at || wanted_by_parked(lane))
        wr_chain_run(lane, now);
}

static void stop_source(struct wr_lane *lane)
{
    lane->stopped = true;
    if (lane->type->stop != NULL)
        lane->type->stop(lane->src->self);
    else
        lane->ended = true;
}

/* The final ticks, each with the stack empty; false while there is more to come. */
static bool final_ticks(struct wr_lane *lane, int64_t now)
{
    while (lane->final_at < lane->n_inst) {
        if (lane->n_work != 0)
            return false;
        uint32_t i = lane->final_at;
        struct wr_instance *inst = lane->inst[i];
        bool ticks = inst != NULL && inst != lane->src &&
                     inst->unit->comp->type->transform->tick != NULL;
        if (ticks && !wr_chain_tick(lane, inst, true))
            return false; /* without it what is held would stay: the next turn may find memory */
        lane->final_at++;
        wr_chain_run(lane, now);
    }
    return lane->n_work == 0;
}

static void finish(struct wr_lane *lane)
{
    struct wr_why why = {.outcome = WEIR_FAILED,
                         .code = "shutdown",
                         .message = weir_cstr("the pipeline ended before this event could")};
    wr_acks_fail_requests(lane->acks, &why);
    wr_acks_final(lane->acks);
    atomic_fetch_add(&lane->p->n_left, wr_acks_failed(lane->acks));
    lane->finished = true;
    lane->owned = false; /* what closes its instances is another thread */
    if (lane->polling)
        atomic_fetch_sub(&lane->p->lanes_polling, 1);
    wr_pipeline_lane_ended(lane->p);
}

/* The last part of a lane's life; true when it is over. */
static bool wind_down(struct wr_lane *lane, int64_t now)
{
    bool aborting = atomic_load(&lane->p->aborting) != 0;
    if (aborting) {
        lane->ended = true;
        wr_chain_abort(lane);
    } else if (!lane->ended || lane->early != NULL || !final_ticks(lane, now)) {
        return false;
    }
    if (!lane->flushed) {
        lane->flushed = true;
        wr_pipeline_lane_flushed(lane->p);
    }
    if (atomic_load(&lane->leaves))
        wr_lane_has_left(lane);
    if (wr_acks_open(lane->acks) != 0 || (!aborting && wr_acks_requests(lane->acks) != 0))
        return false;
    finish(lane);
    return true;
}

static void wait_ended(struct wr_lane *lane, int64_t now, int64_t until)
{
    if (now >= lane->next_serve) {
        lane->next_serve = now + SERVE_ENDED_NS;
        poll_source(lane, 0, now);
    }
    wr_idle_begin(&lane->idle, now);
    wr_wake_wait(&lane->wake, lane->p->rt.clock, min64(until, lane->next_serve));
    wr_idle_end(&lane->idle, wr_now(lane->p->rt.clock), true);
}

int64_t wr_lane_step(struct wr_lane *lane, int64_t wait_until)
{
    struct wr_clock *clock = lane->p->rt.clock;
    if (lane->finished)
        return -1;
    if (!lane->polling) {
        lane->owner = pthread_self();
        lane->owned = true;
        lane->polling = true;
        atomic_fetch_add(&lane->p->lanes_polling, 1);
    }
    int64_t now = wr_now(clock);
    wr_wake_clear(&lane->wake);
    wr_acks_collect(lane->acks);
    int64_t deadline = INT64_MAX;
    if (atomic_load(&lane->p->draining)) {
        deadline = atomic_load(&lane->p->deadline);
        if (now >= deadline) {
            wr_pipeline_abort(lane->p);
            deadline = INT64_MAX; /* what is left is waited for, not spun for */
        }
        if (!lane->stopped)
            stop_source(lane);
    }
    if (atomic_load(&lane->leaves) && !lane->stopped)
        stop_source(lane);
    if (!atomic_load(&lane->p->aborting)) {
        go_on(lane, now);
        take_early(lane, now);
    }
    struct wr_swap_look look = wr_swap_look(lane->p);
    bool rests = look.swap != NULL && wr_lane_rests(lane, look.swap, now);
    wr_swap_look_done(lane->p, look);
    if (rests) {
        tell_outlets(lane);
        wr_swap_wait_awhile(lane->p, look.number);
        (void)run_ticks(lane, wr_now(clock)); /* of what it has heard before */
        return 0;
    }
    int64_t next = min64(deadline, run_ticks(lane, now));
    if (lane->ended || lane->last_polled < lane->room)
        tell_outlets(lane);
    if (wind_down(lane, now))
        return -1;
    if (lane->parked)
        next = min64(next, lane->resume_at);
    if (lane->ended) {
        wait_ended(lane, now, min64(next, wait_until));
        return 0;
    }
    bool may = look.swap == NULL || lane->stopped;
    bool room = may && lane->n_work == 0 && lane->early == NULL && !wr_acks_full(lane->acks);
    if (room && memory_is_short(lane, now)) {
        room = false;
        next = min64(next, now + WR_BUDGET_LOOK_NS);
    }
    poll_source(lane, room ? lane->room : 0, min64(next, wait_until));
    return min64(next, wr_wake_is_pending(&lane->wake) ? 0 : next);
}

static void *run(void *arg)
{
    struct wr_lane *lane = arg;
    while (wr_lane_step(lane, INT64_MAX) >= 0)
        continue;
    return NULL;
}

void wr_lane_leave(struct wr_lane *lane)
{
    atomic_store(&lane->leaves, true);
    wr_lane_wake(lane);
}

void wr_lane_start(struct wr_lane *lane)
{
    char name[16];
    struct weir_str id = lane->src->unit->id;
    snprintf(name, sizeof(name), "lane-%.*s-%u",
             (int)(id.len > 7 ? 7 : id.len), id.ptr, lane->index);
    WR_BUG_ON(pthread_create(&lane->thread, NULL, run, lane) != 0);
    (void)pthread_setname_np(lane->thread, name);
    lane->has_thread = true;
}

void wr_lane_join(struct wr_lane *lane)
{
    if (lane->has_thread)
        pthread_join(lane->thread, NULL);
    lane->has_thread = false;
}
