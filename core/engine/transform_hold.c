/* SPDX-License-Identifier: Apache-2.0
 *
 * Events that a transform keeps past its call. What is held is copied out of its batch, so that a few
 * events kept for long do not keep a whole batch alive: the held events of one call share a body of their
 * own. That body's memory counts as held until the last of them has left, and a component holds a bounded
 * amount of it.
 */
#include <engine/transform_impl.h>

#include <base/budget.h>
#include <base/mem.h>
#include <base/str.h>

#define HOLD_CHUNK 1024u /* the body's first; it doubles */

/* The held events of one call. */
struct wr_hold {
    struct wr_body *body;
    uint32_t n_held; /* and one while more may come */
    size_t charged;
};

static void hold_unref(struct wr_unit *unit, struct wr_hold *take_hold)
{
    if (take_hold == NULL || --take_hold->n_held != 0)
        return;
    atomic_fetch_sub_explicit(&unit->held_bytes, take_hold->charged, memory_order_relaxed);
    wr_body_unref(take_hold->body);
    wr_free(take_hold);
}

void wr_held_next_call(struct wr_instance *inst)
{
    hold_unref(inst->unit, inst->hold);
    inst->hold = NULL;
}

static struct wr_hold *hold_of_call(struct wr_instance *inst)
{
    if (inst->hold != NULL)
        return inst->hold;
    struct wr_hold *hold = wr_alloc(sizeof(*hold));
    struct wr_body *body = hold != NULL ? wr_body_new() : NULL;
    if (body == NULL) {
        wr_free(hold);
        return NULL;
    }
    wr_arena_init(&body->arena, HOLD_CHUNK);
    *hold = (struct wr_hold){.body = body, .n_held = 1};
    return inst->hold = hold;
}

/* Counts what the body has grown by. */
static void charge(struct wr_unit *unit, struct wr_hold *hold)
{
    wr_body_charge(hold->body);
    size_t now = wr_body_footprint(hold->body) +
                 hold->n_held * (sizeof(struct weir_held) + sizeof(struct wr_batch) +
                                 sizeof(struct weir_event));
    if (now <= hold->charged)
        return;
    atomic_fetch_add_explicit(&unit->held_bytes, now - hold->charged, memory_order_relaxed);
    hold->charged = now;
}

static bool has_room(struct wr_unit *unit)
{
    size_t bytes = atomic_load_explicit(&unit->held_bytes, memory_order_relaxed);
    size_t max = wr_budget_held_max();
    if (bytes < max)
        return true;
    WR_LOG(unit->log, WEIR_LOG_WARN, "held events have used up their room",
           weir_kv_u64("bytes", bytes), weir_kv_u64("limit", max));
    return false;
}

/* One event in a batch of its own over the body of this call. */
static struct weir_held *held_new(struct wr_instance *inst, const struct weir_event *ev)
{
    struct weir_held *held = wr_alloc(sizeof(*held));
    struct wr_hold *hold = held != NULL ? hold_of_call(inst) : NULL;
    struct wr_batch *b = hold != NULL ? wr_batch_new(NULL, 1) : NULL;
    if (b == NULL) {
        wr_free(held);
        return NULL;
    }
    struct weir_event *copy = wr_batch_append(b, ev);
    if (!wr_batch_add_body(b, hold->body) || !wr_event_copy_out(hold->body, copy)) {
        wr_batch_free(b);
        wr_free(held);
        return NULL;
    }
    hold->n_held++;
    charge(inst->unit, hold);
    *held = (struct weir_held){.next = inst->held, .inst = inst, .b = b, .hold = hold};
    if (held->next != NULL)
        held->next->prev = held;
    return inst->held = held;
}

static void fail_as(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                    const char *code, const char *text)
{
    struct weir_result r = {
        .verdict = WEIR_VERDICT_REJECTED, .code = code, .message = weir_cstr(text)};
    wr_host_event_fail(h, b, ev, &r);
}

struct weir_held *wr_host_event_hold(const struct weir_host *h, struct weir_batch *pub,
                                     struct weir_event *ev)
{
    static const struct wr_gone is_held = {.held = true};
    struct wr_instance *inst = here(h);
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return NULL;
    if (!wr_value_depth_ok(ev->value)) {
        fail_as(h, pub, ev, "too_deep", WR_VALUE_TOO_DEEP);
        return NULL;
    }
    if (!has_room(inst->unit)) {
        fail_as(h, pub, ev, "held_full", "the component holds as many bytes of events as it may");
        return NULL;
    }
    struct weir_held *held = held_new(inst, ev);
    if (held == NULL) {
        fail_as(h, pub, ev, "no_memory", "no memory to hold the event");
        return NULL;
    }
    ev->flags |= WEIR_EVENT_GONE;
    ev->host_why = &is_held;
    atomic_fetch_add_explicit(&inst->unit->held_events, 1, memory_order_relaxed);
    return held;
}

static void held_free(struct weir_held *held)
{
    struct wr_unit *unit = held->inst->unit;
    if (held->prev != NULL)
        held->prev->next = held->next;
    else
        held->inst->held = held->next;
    if (held->next != NULL)
        held->next->prev = held->prev;
    atomic_fetch_sub_explicit(&unit->held_events, 1, memory_order_relaxed);
    wr_batch_free(held->b);
    hold_unref(unit, held->hold);
    wr_free(held);
}

uint32_t wr_host_held_release(const struct weir_host *h, struct weir_batch *pub,
                              struct weir_held *take_held)
{
    struct wr_batch *b = wr_batch_of(pub);
    (void)here(h);
    number_events(b);
    if (!wr_batch_add_bodies(b, take_held->b))
        return UINT32_MAX;
    struct weir_event *ev = wr_batch_append(b, &wr_batch_events(take_held->b)[0]);
    if (ev == NULL)
        return UINT32_MAX;
    ev->host_order = UINT32_MAX;
    b->n_derived++;
    held_free(take_held);
    return pub->n_events - 1;
}

void wr_host_held_drop(const struct weir_host *h, struct weir_held *take_held)
{
    struct wr_ended ended = {0};
    (void)here(h);
    wr_ack_settle(wr_batch_events(take_held->b)[0].host_ack, WEIR_FILTERED, NULL, &ended);
    wr_ended_flush(&ended);
    held_free(take_held);
}

const struct weir_event *wr_host_held_event(const struct weir_held *held)
{
    return &wr_batch_events(held->b)[0];
}
