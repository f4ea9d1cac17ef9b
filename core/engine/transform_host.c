/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transform does to events: change, drop, fail, send, derive, join, hold, watch. An event that is
 * taken out is only marked GONE here; the chain driver (chain.c) ends it when the call is over, so that
 * indexes stay what they are during the call.
 */
#include <engine/transform_host.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/runtime.h>

static struct wr_instance *inst_of(const struct weir_host *h)
{
    return (struct wr_instance *)h->priv;
}

/* For functions tagged [lane]: a call from another thread is a bug of the plugin. */
static struct wr_instance *here(const struct weir_host *h)
{
    struct wr_instance *inst = inst_of(h);
    WR_DEBUG_ON(inst->lane != NULL && !wr_lane_is_here(inst->lane));
    return inst;
}

static void fail_with(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                      const struct weir_error *err)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                            .code = err->code,
                            .message = weir_cstr(err->text)};
    wr_host_event_fail(h, b, ev, &r);
}

/* Only a transform's own call fails events by itself; sources and sinks see NULL. */
static bool in_transform(const struct weir_host *h)
{
    (void)here(h);
    return inst_of(h)->unit->comp->type->kind == WEIR_TRANSFORM;
}

/* ---- Data ---- */

struct weir_str wr_host_event_id(const struct weir_host *h, struct weir_batch *b,
                                 struct weir_event *ev)
{
    return wr_event_id(wr_batch_of(b), ev, inst_of(h)->clock);
}

const struct weir_value *wr_host_event_value(const struct weir_host *h, struct weir_batch *b,
                                             struct weir_event *ev)
{
    if (ev->value != NULL)
        return ev->value;
    struct weir_error err = {0};
    const struct weir_value *v = wr_event_value(wr_batch_of(b), ev, &err);
    if (v == NULL && in_transform(h))
        fail_with(h, b, ev, &err);
    return v;
}

struct weir_value *wr_host_event_edit(const struct weir_host *h, struct weir_batch *b,
                                      struct weir_event *ev)
{
    (void)here(h);
    struct weir_error err = {0};
    struct weir_value *v = wr_event_edit(wr_batch_of(b), ev, &err);
    if (v == NULL && in_transform(h))
        fail_with(h, b, ev, &err);
    return v;
}

static void no_memory(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED,
                            .code = "no_memory",
                            .message = weir_cstr("no memory to change the event")};
    wr_host_event_fail(h, b, ev, &r);
}

void wr_host_event_set_value(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                             const struct weir_value *v)
{
    (void)here(h);
    if (v == NULL || !wr_event_set_value(wr_batch_of(b), ev, v))
        no_memory(h, b, ev);
}

void wr_host_event_set_payload(const struct weir_host *h, struct weir_batch *b,
                               struct weir_event *ev, struct weir_str payload)
{
    (void)here(h);
    if (!wr_event_set_payload(wr_batch_of(b), ev, payload))
        no_memory(h, b, ev);
}

struct weir_str wr_host_event_payload(const struct weir_host *h, struct weir_batch *b,
                                      struct weir_event *ev)
{
    struct weir_str text = wr_event_payload(wr_batch_of(b), ev);
    if (text.ptr == NULL && (ev->flags & WEIR_EVENT_EDITED) != 0 && in_transform(h))
        no_memory(h, b, ev);
    return text;
}

bool wr_host_event_set_header(const struct weir_host *h, struct weir_batch *b,
                              struct weir_event *ev, struct weir_str name, struct weir_str value)
{
    (void)here(h);
    return wr_event_set_header(wr_batch_of(b), ev, name, value);
}

bool wr_host_event_set_key(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                           struct weir_str key)
{
    (void)here(h);
    return wr_event_set_key(wr_batch_of(b), ev, key);
}

/* ---- Out of the batch ---- */

static struct wr_gone *mark_gone(struct weir_batch *b, struct weir_event *ev)
{
    ev->flags |= WEIR_EVENT_GONE;
    struct wr_gone *gone = b->arena != NULL ? wr_arena_alloc(b->arena, sizeof(*gone)) : NULL;
    if (gone != NULL)
        *gone = (struct wr_gone){0};
    ev->host_why = gone;
    return gone;
}

void wr_host_event_drop(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                        const char *reason)
{
    (void)here(h);
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return;
    if (reason == NULL) {
        ev->flags |= WEIR_EVENT_GONE;
        ev->host_why = NULL;
        return;
    }
    struct wr_gone *gone = mark_gone(b, ev);
    if (gone != NULL)
        gone->result.code = reason;
}

/* What stands for a failure when there is no memory to say more. */
static const struct wr_gone failed_without_memory = {
    .failed = true, .result = {.verdict = WEIR_VERDICT_REJECTED, .code = "no_memory"}};

void wr_host_event_fail(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                        const struct weir_result *result)
{
    (void)h;
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return;
    struct wr_gone *gone = mark_gone(b, ev);
    if (gone == NULL) {
        ev->host_why = &failed_without_memory;
        return;
    }
    gone->failed = true;
    gone->result = *result;
    gone->result.message = wr_arena_copy(b->arena, result->message);
}

void wr_host_event_send(const struct weir_host *h, struct weir_event *ev, uint32_t port)
{
    WR_DEBUG_ON(port >= inst_of(h)->unit->comp->n_ports);
    ev->host_port = port < inst_of(h)->unit->comp->n_ports ? port + 1 : 0;
}

/* ---- New events ---- */

/* From the first derived event on, each event carries the place it will leave in. */
static void number_events(struct wr_batch *b)
{
    if (b->n_derived != 0)
        return;
    for (uint32_t i = 0; i < b->pub.n_events; i++)
        wr_batch_events(b)[i].host_order = i;
}

uint32_t wr_host_event_derive(const struct weir_host *h, struct weir_batch *pub, uint32_t parent)
{
    (void)here(h);
    struct wr_batch *b = wr_batch_of(pub);
    if (parent >= pub->n_events || wr_host_event_id(h, pub, weir_event_at(pub, parent)).len == 0)
        return UINT32_MAX;
    number_events(b);
    struct weir_event copy = *weir_event_at(pub, parent);
    uint32_t n = ++weir_event_at(pub, parent)->host_child;
    copy.id = wr_arena_printf(pub->arena, "%.*s/%u", WR_STR(copy.id), n);
    copy.flags &= ~WEIR_EVENT_GONE;
    copy.host_why = NULL;
    copy.host_child = 0;
    copy.host_port = 0;
    if (copy.host_seal == b->seal && wr_value_is_mutable(copy.value)) {
        copy.value = wr_make_edit(pub->arena, copy.value); /* each of them may be changed further */
        if (copy.value == NULL)
            return UINT32_MAX;
    }
    if (copy.id.ptr == NULL || wr_batch_append(b, &copy) == NULL)
        return UINT32_MAX;
    wr_ack_ref(copy.host_ack);
    b->n_derived++;
    return pub->n_events - 1;
}

uint32_t wr_host_event_join(const struct weir_host *h, struct weir_batch *pub,
                            const uint32_t *parents, uint32_t n, struct weir_held *const *held,
                            uint32_t n_held)
{
    struct wr_instance *inst = here(h);
    struct wr_batch *b = wr_batch_of(pub);
    struct wr_ack *some[16], **acks = some;
    if (n + n_held > WR_COUNT(some) &&
        (acks = wr_alloc((n + (size_t)n_held) * sizeof(struct wr_ack *))) == NULL)
        return UINT32_MAX;
    for (uint32_t i = 0; i < n; i++)
        acks[i] = weir_event_at(pub, parents[i])->host_ack;
    for (uint32_t i = 0; i < n_held; i++)
        acks[n + i] = wr_batch_events(held[i]->b)[0].host_ack;
    struct wr_ack *child = NULL;
    number_events(b);
    struct weir_event ev = {.time_ns = inst->clock->wall(inst->clock), .host_order = UINT32_MAX};
    ev.id = wr_uuid7(pub->arena, inst->clock);
    uint32_t index = UINT32_MAX;
    bool ok = ev.id.ptr != NULL && wr_batch_reserve(b, pub->n_events + 1);
    if (ok && n + n_held != 0) {
        child = wr_acks_child(wr_lane_acks(inst->lane), acks, n + n_held, NULL, 0);
        ok = child != NULL;
    }
    if (ok) {
        for (uint32_t i = 0; i < n + n_held; i++)
            wr_ack_ref(acks[i]);
        ev.host_ack = child;
        (void)wr_batch_append(b, &ev);
        b->n_derived++;
        index = pub->n_events - 1;
    }
    if (acks != some)
        wr_free(acks);
    return index;
}

bool wr_host_event_watch(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                         uint64_t cookie)
{
    struct wr_instance *inst = here(h);
    (void)b;
    struct wr_ack *parent = ev->host_ack;
    struct wr_ack *child = wr_acks_child(wr_lane_acks(inst->lane), &parent, 1, inst, cookie);
    if (child == NULL)
        return false;
    ev->host_ack = child; /* the event's reference on its parent is the child's now */
    return true;
}

/* ---- Held events ---- */

struct weir_held *wr_host_event_hold(const struct weir_host *h, struct weir_batch *pub,
                                     struct weir_event *ev)
{
    struct wr_instance *inst = here(h);
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return NULL;
    struct weir_held *held = wr_alloc(sizeof(*held));
    struct wr_batch *b = held != NULL ? wr_batch_new(NULL, 1) : NULL;
    struct wr_gone *gone =
        b != NULL ? wr_arena_alloc(pub->arena, sizeof(struct wr_gone)) : NULL;
    if (gone == NULL || !wr_batch_add_bodies(b, wr_batch_of(pub))) {
        wr_batch_free(b);
        wr_free(held);
        return NULL;
    }
    (void)wr_batch_append(b, ev);
    *gone = (struct wr_gone){.held = true};
    ev->flags |= WEIR_EVENT_GONE;
    ev->host_why = gone;
    held->inst = inst;
    held->b = b;
    held->next = inst->held;
    if (held->next != NULL)
        held->next->prev = held;
    inst->held = held;
    return held;
}

static void held_free(struct weir_held *held)
{
    if (held->prev != NULL)
        held->prev->next = held->next;
    else
        held->inst->held = held->next;
    if (held->next != NULL)
        held->next->prev = held->prev;
    wr_batch_free(held->b);
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

/* ---- Waking and waiting ---- */

void wr_host_wake(const struct weir_host *h)
{
    struct wr_instance *inst = inst_of(h);
    atomic_store(&inst->wanted, 1);
    wr_lane_wake(inst->lane);
}
