/* SPDX-License-Identifier: Apache-2.0
 *
 * The chain driver: takes batches through the transforms of a lane, to the buffers of the sinks. It does
 * what no transform should: ending the events that were dropped or failed, dead letters, ports, fan-out,
 * counting. One stack of (batch, component); a place where a batch cannot go on parks the lane, which
 * comes back to the same place later.
 */
#include <engine/lane_impl.h>

#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>

#include <stdlib.h>

#define ENDED_BEFORE "the pipeline ended before this event could"

static const struct wr_component *comp_at(const struct wr_lane *lane, uint32_t i)
{
    return &lane->p->plan->components[i];
}

static void push_work(struct wr_lane *lane, struct wr_batch *take_b, uint32_t component)
{
    if (lane->n_work == lane->cap_work) {
        lane->cap_work = lane->cap_work != 0 ? lane->cap_work * 2 : 16;
        lane->stack = wr_xrealloc(lane->stack, lane->cap_work * sizeof(struct wr_work));
    }
    lane->stack[lane->n_work++] = (struct wr_work){take_b, component, false};
}

/* ---- Ends of events ---- */

static void fail_all(struct wr_batch *take_b, const struct wr_unit *unit,
                     const char *code, const char *text)
{
    struct wr_ended ended = {0};
    struct wr_why why = wr_why_of(unit, WEIR_FAILED, code, weir_cstr(text));
    for (uint32_t i = 0; i < take_b->pub.n_events; i++) {
        const struct weir_event *ev = &wr_batch_events(take_b)[i];
        const struct wr_gone *gone = ev->host_why;
        if ((ev->flags & WEIR_EVENT_GONE) == 0 || gone == NULL || !gone->held)
            wr_ack_settle(ev->host_ack, WEIR_FAILED, &why, &ended);
    }
    wr_ended_flush(&ended);
    wr_batch_free(take_b);
}

static void no_memory(struct wr_lane *lane, struct wr_batch *take_b, struct wr_unit *unit)
{
    wr_pipeline_fail(lane->p, "no memory for a batch of %u events at '%.*s'",
                     take_b->pub.n_events, WR_STR(unit->comp->id));
    fail_all(take_b, unit, "no_memory", "no memory for the batch");
}

/* What one component call leaves behind: dead letters and counts. */
struct leftovers {
    struct wr_lane *lane;
    struct wr_unit *unit;
    int policy; /* enum wr_on_failure */
    struct wr_ended ended;
    struct wr_batch *dead;
    const char *discard_reason; /* counted together while it stays the same */
    uint64_t n_discarded;
};

static void count_discards(struct leftovers *l)
{
    if (l->n_discarded != 0)
        wr_unit_count_discard(l->unit, l->discard_reason, l->n_discarded);
    l->n_discarded = 0;
}

static void discard(struct leftovers *l, const char *reason)
{
    if (reason != l->discard_reason)
        count_discards(l);
    l->discard_reason = reason;
    l->n_discarded++;
}

static bool dead_letter(struct leftovers *l, const struct weir_event *ev,
                        const struct weir_result *result)
{
    struct wr_clock *clock = l->lane->p->rt.clock;
    int64_t now = clock->wall(clock);
    struct wr_failure failure = {l->unit, result, 1, now, now};
    return wr_dead_letter_add(&l->dead, ev, &failure);
}

static const char *kind_word(enum weir_kind kind)
{
    return kind == WEIR_SOURCE ? "source" : kind == WEIR_SINK ? "sink" : "transform";
}

/* An event that this component cannot handle, by the policy the user chose. */
static void give_up(struct leftovers *l, struct weir_event *ev, const struct weir_result *r,
                    const char *stage)
{
    const char *code = r->code != NULL ? r->code : "rejected";
    struct wr_why why = wr_why_of(l->unit, WEIR_DROPPED, code, r->message);
    wr_unit_count_error(l->unit, stage, code, 1);
    wr_unit_log_failure(l->unit, "event failed", ev, r, 1);
    switch (l->policy) {
    case WR_ON_DEAD_LETTER:
        if (dead_letter(l, ev, r))
            return;
        why.outcome = WEIR_FAILED;
        wr_pipeline_fail(l->lane->p, "no memory for a dead letter of '%.*s'",
                         WR_STR(l->unit->comp->id));
        break;
    case WR_ON_DROP:
        discard(l, code);
        break;
    default:
        why.outcome = WEIR_FAILED;
        wr_pipeline_fail(l->lane->p, "%s '%.*s' could not handle an event: %s: %.*s",
                         kind_word(l->unit->comp->type->kind), WR_STR(l->unit->comp->id), code,
                         WR_STR(r->message));
    }
    wr_ack_settle(ev->host_ack, why.outcome, &why, &l->ended);
}

static void leave(struct leftovers *l)
{
    count_discards(l);
    wr_ended_flush(&l->ended);
    if (l->dead == NULL)
        return;
    if (l->dead->pub.n_events == 0)
        wr_batch_free(l->dead);
    else
        push_work(l->lane, l->dead, (uint32_t)l->unit->comp->dead_letter);
}

/* ---- Behind a source's or transform's call ---- */

/* A source has no option for it: the dead letter where the file names one, else the end. */
static int policy_of(const struct wr_component *comp)
{
    if (comp->type->kind == WEIR_SOURCE)
        return comp->dead_letter >= 0 ? WR_ON_DEAD_LETTER : WR_ON_STOP;
    return comp->opt.transform.on_error;
}

static const char *stage_of(const struct wr_unit *unit)
{
    return unit->comp->type->kind == WEIR_SOURCE ? "poll" : "apply";
}

static void end_gone(struct leftovers *l, const struct wr_batch *b, struct weir_event *ev)
{
    const struct wr_gone *gone = ev->host_why;
    ev->host_why = NULL;
    ev->flags &= ~WEIR_EVENT_GONE;
    if (gone == NULL) {
        discard(l, "filtered");
        wr_ack_settle(ev->host_ack, WEIR_FILTERED, NULL, &l->ended);
    } else if (gone->failed) {
        wr_event_restore(b, ev);
        give_up(l, ev, &gone->result, stage_of(l->unit));
    } else if (!gone->held) {
        enum weir_outcome outcome = gone->filtered ? WEIR_FILTERED : WEIR_DROPPED;
        struct wr_why why = wr_why_of(l->unit, outcome, gone->result.code, weir_cstr(NULL));
        discard(l, gone->result.code);
        wr_ack_settle(ev->host_ack, outcome, &why, &l->ended);
    }
}

static int by_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Children behind their parents: a stable sort by the place each was given. */
static bool put_in_order(struct wr_batch *b)
{
    uint32_t n = b->pub.n_events;
    struct weir_event *events = wr_batch_events(b);
    uint64_t *order = wr_alloc(n * sizeof(*order));
    struct weir_event *sorted = wr_alloc((size_t)n * sizeof(*sorted));
    bool ok = order != NULL && sorted != NULL;
    for (uint32_t i = 0; ok && i < n; i++)
        order[i] = (uint64_t)events[i].host_order << 32 | i;
    if (ok) {
        qsort(order, n, sizeof(*order), by_order);
        for (uint32_t i = 0; i < n; i++)
            sorted[i] = events[(uint32_t)order[i]];
        memcpy(events, sorted, (size_t)n * sizeof(*sorted));
    }
    wr_free(order);
    wr_free(sorted);
    return ok;
}

/* What a transform put together by itself may be nested too deep for those behind it. */
static bool too_deep(const struct wr_batch *b, const struct weir_event *ev)
{
    return b->own->arena.nested && ev->host_seal == b->seal && !wr_value_depth_ok(ev->value);
}

static void refuse_depth(struct leftovers *l, const struct wr_batch *b, struct weir_event *ev)
{
    static const struct weir_result result = {
        .verdict = WEIR_VERDICT_REJECTED,
        .code = "too_deep",
        .message = {WR_VALUE_TOO_DEEP, sizeof(WR_VALUE_TOO_DEEP) - 1}};
    wr_event_restore(b, ev);
    give_up(l, ev, &result, stage_of(l->unit));
}

/* Ends the events that are gone and closes the gaps. */
static void border(struct wr_lane *lane, struct wr_instance *inst, struct wr_batch *b)
{
    struct leftovers l = {.lane = lane,
                          .unit = inst->unit,
                          .policy = policy_of(inst->unit->comp)};
    struct weir_event *events = wr_batch_events(b);
    uint32_t n = b->pub.n_events, kept = 0;
    if (b->n_derived != 0 && !put_in_order(b))
        WR_LOG(inst->unit->log, WEIR_LOG_WARN, "no memory to put derived events in order");
    for (uint32_t i = 0; i < n; i++) {
        if ((events[i].flags & WEIR_EVENT_GONE) != 0)
            end_gone(&l, b, &events[i]);
        else if (too_deep(b, &events[i]))
            refuse_depth(&l, b, &events[i]);
        else if (kept++ != i)
            events[kept - 1] = events[i];
    }
    b->pub.n_events = kept;
    b->n_derived = 0;
    leave(&l);
}

/* ---- Readers ---- */

static uint32_t readers_of(const struct wr_component *comp, uint32_t port)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < comp->n_outs; i++)
        n += comp->outs[i].port == port;
    return n;
}

static void end_unread(struct wr_lane *lane, uint32_t component, struct wr_batch *take_b)
{
    struct wr_ended ended = {0};
    for (uint32_t i = 0; i < take_b->pub.n_events; i++)
        wr_ack_settle(wr_batch_events(take_b)[i].host_ack, WEIR_FILTERED, NULL, &ended);
    wr_ended_flush(&ended);
    wr_unit_count_discard(lane->p->units[component], "port_not_read", take_b->pub.n_events);
    wr_batch_free(take_b);
}

/* Where several sinks want the value, or the payload, it is made once, before the copies part. */
static void prepare_for_all(struct wr_lane *lane, const struct wr_component *comp, uint32_t port,
                            struct wr_batch *b)
{
    uint32_t once = 0, twice = 0;
    for (uint32_t i = 0; i < comp->n_outs; i++) {
        const struct wr_component *reader = comp_at(lane, comp->outs[i].to);
        if (comp->outs[i].port != port || reader->type->kind != WEIR_SINK)
            continue;
        twice |= once & reader->needs;
        once |= reader->needs;
    }
    for (uint32_t i = 0; twice != 0 && i < b->pub.n_events; i++) {
        struct weir_event *ev = &wr_batch_events(b)[i];
        if ((twice & WEIR_NEEDS_VALUE) != 0)
            (void)wr_event_value(b, ev, NULL); /* what fails here fails at its sinks */
        if ((twice & WEIR_NEEDS_PAYLOAD) != 0)
            (void)wr_event_payload(b, ev);
        if ((twice & WEIR_NEEDS_ID) != 0)
            (void)wr_event_id(b, ev, lane->p->rt.clock);
    }
}

/* One batch, all of it for one port, to all readers; the last one gets the batch itself. */
static void to_readers(struct wr_lane *lane, uint32_t component, uint32_t port,
                       struct wr_batch *take_b)
{
    const struct wr_component *comp = comp_at(lane, component);
    uint32_t n_readers = readers_of(comp, port);
    if (n_readers == 0) {
        end_unread(lane, component, take_b);
        return;
    }
    if (n_readers > 1)
        prepare_for_all(lane, comp, port, take_b);
    for (uint32_t i = comp->n_outs; i-- > 0;) {
        if (comp->outs[i].port != port)
            continue;
        if (--n_readers == 0) {
            push_work(lane, take_b, comp->outs[i].to);
            return;
        }
        struct wr_batch *copy = wr_batch_clone(take_b);
        if (copy == NULL) {
            no_memory(lane, take_b, lane->p->units[component]);
            return;
        }
        for (uint32_t e = 0; e < copy->pub.n_events; e++)
            wr_ack_ref(wr_batch_events(copy)[e].host_ack);
        copy->entered_ns = take_b->entered_ns;
        push_work(lane, copy, comp->outs[i].to);
    }
}

static bool one_port(const struct wr_batch *b)
{
    const struct weir_event *events = wr_batch_events(b);
    for (uint32_t i = 1; i < b->pub.n_events; i++)
        if (events[i].host_port != events[0].host_port)
            return false;
    return true;
}

/* The events of one port, taken out into a batch of their own. NULL on no memory. */
static struct wr_batch *split_port(const struct wr_batch *b, uint32_t port)
{
    const struct weir_event *events = wr_batch_events(b);
    struct wr_batch *part = wr_batch_new(b->own, 8);
    if (part == NULL || !wr_batch_add_bodies(part, b)) {
        wr_batch_free(part);
        return NULL;
    }
    part->entered_ns = b->entered_ns;
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        if (events[i].host_port != port)
            continue;
        struct weir_event *copy = wr_batch_append(part, &events[i]);
        if (copy == NULL) {
            wr_batch_free(part);
            return NULL;
        }
        copy->host_port = 0;
    }
    return part;
}

void wr_chain_emit(struct wr_lane *lane, uint32_t component, struct wr_batch *take_b)
{
    const struct wr_component *comp = comp_at(lane, component);
    uint32_t n = take_b->pub.n_events;
    if (n == 0) {
        wr_batch_free(take_b);
        return;
    }
    wr_metric_add(lane->p->units[component]->sent_events, n);
    if (one_port(take_b)) {
        uint32_t port = wr_batch_events(take_b)[0].host_port;
        for (uint32_t i = 0; port != 0 && i < n; i++)
            wr_batch_events(take_b)[i].host_port = 0;
        to_readers(lane, component, port, take_b);
        return;
    }
    for (uint32_t port = comp->n_ports + 1; port-- > 0;) {
        struct wr_batch *part = split_port(take_b, port);
        if (part == NULL) {
            wr_pipeline_fail(lane->p, "no memory to route a batch at '%.*s'", WR_STR(comp->id));
            struct wr_ended ended = {0};
            for (uint32_t i = 0; i < n; i++)
                if (wr_batch_events(take_b)[i].host_port == port)
                    wr_ack_settle(wr_batch_events(take_b)[i].host_ack, WEIR_FAILED, NULL, &ended);
            wr_ended_flush(&ended);
        } else if (part->pub.n_events == 0) {
            wr_batch_free(part);
        } else {
            to_readers(lane, component, port, part);
        }
    }
    wr_batch_free(take_b);
}

void wr_chain_leave(struct wr_lane *lane, uint32_t component, struct wr_batch *take_b)
{
    uint32_t below = lane->n_work;
    border(lane, lane->inst[component], take_b); /* may put dead letters on the stack */
    struct wr_work dead = lane->n_work > below ? lane->stack[--lane->n_work] : (struct wr_work){0};
    wr_chain_emit(lane, component, take_b);
    if (dead.b != NULL)
        push_work(lane, dead.b, dead.component);
}

/* ---- Running ---- */

static void fail_rest(struct wr_instance *inst, struct wr_batch *b, const struct weir_error *err)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                            .code = err->code != NULL ? err->code : "transform_error",
                            .message = weir_cstr(err->text)};
    for (uint32_t i = 0; i < b->pub.n_events; i++)
        inst->host.event_fail(&inst->host, &b->pub, &wr_batch_events(b)[i], &r);
}

static void begin_call(struct wr_lane *lane, struct wr_batch *b)
{
    b->seal = ++lane->seal != 0 ? lane->seal : ++lane->seal;
    b->n_derived = 0;
}

static void forget_passed(struct wr_batch *b)
{
    for (uint32_t i = 0; b->n_passed != 0 && i < b->pub.n_events; i++)
        wr_batch_events(b)[i].flags &= ~WEIR_EVENT_PASSED;
    b->n_passed = 0;
}

/* What need not wait with the rest of the batch, in a batch of its own. NULL on no memory: it waits. */
static struct wr_batch *split_passed(struct wr_batch *b)
{
    const uint32_t leaves = WEIR_EVENT_PASSED | WEIR_EVENT_GONE;
    struct weir_event *events = wr_batch_events(b);
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < b->pub.n_events; i++)
        n += (events[i].flags & leaves) != 0;
    struct wr_batch *part = wr_batch_new(b->own, n);
    if (part == NULL || !wr_batch_add_bodies(part, b)) {
        wr_batch_free(part);
        return NULL;
    }
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        if ((events[i].flags & leaves) != 0)
            (void)wr_batch_append(part, &events[i]); /* there is room */
        else
            events[kept++] = events[i];
    }
    b->pub.n_events = kept;
    part->n_passed = b->n_passed;
    part->n_derived = b->n_derived;
    part->seal = b->seal;
    part->entered_ns = b->entered_ns;
    b->n_passed = 0;
    forget_passed(part);
    return part;
}

/* False: the lane is parked in front of it. */
static bool run_transform(struct wr_lane *lane, struct wr_work *w)
{
    struct wr_instance *inst = lane->inst[w->component];
    struct wr_batch *b = w->b;
    struct weir_error err = {0};
    int64_t again = INT64_MAX;
    wr_arena_clear(&inst->scratch, 64 * 1024);
    if (!w->again) {
        begin_call(lane, b);
        wr_metric_add(inst->unit->received_events, b->pub.n_events);
    }
    atomic_store(&inst->wanted, 0);
    enum weir_status status =
        inst->unit->comp->type->transform->apply(inst->self, &b->pub, &again, &err);
    if (status == WEIR_AGAIN) {
        struct wr_batch *part = b->n_passed != 0 ? split_passed(b) : NULL;
        lane->parked = part == NULL;
        lane->resume_at = again;
        if (comp_at(lane, lane->source)->opt.source.room == 0)
            lane->room = WR_ROOM_WAITING;
        push_work(lane, b, w->component);
        lane->stack[lane->n_work - 1].again = true;
        if (part != NULL)
            wr_chain_leave(lane, w->component, part); /* it goes first; then the rest is asked again */
        return part != NULL;
    }
    forget_passed(b);
    if (status < 0)
        fail_rest(inst, b, &err);
    wr_held_next_call(inst);
    wr_chain_leave(lane, w->component, b);
    return true;
}

/* What the sink reads is made now; afterwards the batch is frozen. */
static void freeze(struct wr_lane *lane, struct wr_unit *unit, struct wr_batch *b)
{
    struct leftovers l = {.lane = lane, .unit = unit, .policy = unit->comp->opt.sink.on_reject};
    uint32_t needs = unit->comp->needs, kept = 0;
    size_t max_event = wr_outlet_buffer(unit->outlet)->max_event;
    struct weir_event *events = wr_batch_events(b);
    struct weir_error err; /* written where something fails */
    if (needs == 0) {
        wr_batch_freeze(b);
        return;
    }
    for (uint32_t i = 0; i < b->pub.n_events; i++) {
        struct weir_event *ev = &events[i];
        bool ok = true;
        if ((needs & WEIR_NEEDS_VALUE) != 0 && ev->value == NULL)
            ok = wr_event_value(b, ev, &err) != NULL;
        if (ok && (needs & WEIR_NEEDS_PAYLOAD) != 0 && (ev->flags & WEIR_EVENT_EDITED) != 0 &&
            wr_event_payload(b, ev).ptr == NULL)
            ok = wr_error(&err, WEIR_E_NOMEM, "no_memory", "no memory to serialize the event") == 0;
        if (ok && (needs & WEIR_NEEDS_ID) != 0 && ev->id.len == 0 &&
            wr_event_id(b, ev, lane->p->rt.clock).ptr == NULL)
            ok = wr_error(&err, WEIR_E_NOMEM, "no_memory", "no memory for the event's id") == 0;
        if (ok && max_event != 0 && wr_event_cost(ev) > max_event)
            ok = wr_error(&err, WEIR_E_REJECTED, "too_large",
                          "the event has more bytes than its buffer takes") == 0;
        if (!ok) {
            struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                                    .code = err.code,
                                    .message = weir_cstr(err.text)};
            give_up(&l, ev, &r, "read");
            continue;
        }
        if (kept++ != i)
            events[kept - 1] = *ev;
    }
    b->pub.n_events = kept;
    wr_batch_freeze(b);
    leave(&l);
}

/* False: the lane is parked in front of the sink's buffer. */
static bool run_sink(struct wr_lane *lane, const struct wr_work *w, int64_t now)
{
    struct wr_unit *unit = lane->p->units[w->component];
    if (w->b->own != NULL) {
        wr_metric_add(unit->received_events, w->b->pub.n_events);
        uint32_t below = lane->n_work;
        freeze(lane, unit, w->b);
        if (w->b->pub.n_events == 0) {
            wr_batch_free(w->b);
            return true;
        }
        if (lane->n_work > below) { /* dead letters go first */
            struct wr_work dead = lane->stack[--lane->n_work];
            push_work(lane, w->b, w->component);
            push_work(lane, dead.b, dead.component);
            return true;
        }
    }
    if (wr_buffer_push(wr_outlet_buffer(unit->outlet), w->b, now, &lane->waiter))
        return true;
    push_work(lane, w->b, w->component);
    lane->parked = true;
    lane->resume_at = INT64_MAX;
    return false;
}

void wr_chain_run(struct wr_lane *lane, int64_t now)
{
    lane->parked = false;
    while (lane->n_work != 0) {
        struct wr_work w = lane->stack[--lane->n_work];
        bool sink = comp_at(lane, w.component)->type->kind == WEIR_SINK;
        if (!(sink ? run_sink(lane, &w, now) : run_transform(lane, &w)))
            return;
    }
}

bool wr_chain_tick(struct wr_lane *lane, struct wr_instance *inst, bool final)
{
    const struct weir_transform *type = inst->unit->comp->type->transform;
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = body != NULL ? wr_batch_new(body, 8) : NULL;
    wr_body_unref(body);
    if (b == NULL)
        return false;
    b->entered_ns = wr_now(lane->p->rt.clock);
    struct weir_error err = {0};
    wr_arena_clear(&inst->scratch, 64 * 1024);
    begin_call(lane, b);
    atomic_store(&inst->wanted, 0);
    if (type->tick(inst->self, &b->pub, final, &err) < 0) {
        wr_unit_count_error(inst->unit, "tick", err.code, 1);
        WR_LOG(inst->unit->log, WEIR_LOG_ERROR, "tick failed", weir_kv_text("reason", err.text));
    }
    wr_held_next_call(inst);
    border(lane, inst, b);
    wr_chain_emit(lane, inst->unit->index, b);
    return true;
}

static void fail_held(struct wr_instance *inst)
{
    struct wr_ended ended = {0};
    struct wr_why why = wr_why_of(inst->unit, WEIR_FAILED, "shutdown", weir_cstr(ENDED_BEFORE));
    for (const struct weir_held *h = inst->held; h != NULL; h = h->next) {
        struct weir_event *ev = &wr_batch_events(h->b)[0];
        wr_ack_settle(ev->host_ack, WEIR_FAILED, &why, &ended);
        ev->host_ack = NULL; /* the transform may still drop or release it */
    }
    wr_ended_flush(&ended);
}

void wr_chain_abort(struct wr_lane *lane)
{
    while (lane->n_work != 0) {
        struct wr_work w = lane->stack[--lane->n_work];
        fail_all(w.b, lane->p->units[w.component], "shutdown", ENDED_BEFORE);
    }
    lane->parked = false;
    for (struct wr_batch *b; (b = lane->early) != NULL;) {
        lane->early = b->next;
        fail_all(b, lane->src->unit, "shutdown", ENDED_BEFORE);
    }
    for (uint32_t i = 0; i < lane->n_inst; i++)
        if (lane->inst[i] != NULL)
            fail_held(lane->inst[i]);
}
