/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transform does to events: change, drop, fail, send, derive, join, watch; holding them is in
 * transform_hold.c. An event that is taken out is only marked GONE here; the chain driver (chain.c) ends
 * it when the call is over, so that indexes stay what they are during the call.
 */
#include <engine/broken.h>
#include <engine/transform_impl.h>

#include <base/mem.h>
#include <base/str.h>

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
    struct weir_error err; /* written where it fails */
    const struct weir_value *v = wr_event_value(wr_batch_of(b), ev, &err);
    if (v == NULL && in_transform(h))
        fail_with(h, b, ev, &err);
    return v;
}

struct weir_value *wr_host_event_edit(const struct weir_host *h, struct weir_batch *b,
                                      struct weir_event *ev)
{
    (void)here(h);
    struct weir_error err; /* written where it fails */
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

void wr_host_event_filter(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                          const char *reason)
{
    (void)here(h);
    if ((ev->flags & WEIR_EVENT_GONE) != 0)
        return;
    struct wr_gone *gone = mark_gone(b, ev);
    if (gone == NULL)
        return;
    gone->filtered = true;
    gone->result.code = reason;
}

void wr_host_event_pass(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev)
{
    (void)here(h);
    ev->flags |= WEIR_EVENT_PASSED;
    wr_batch_of(b)->n_passed++;
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
    wr_break_derived(&copy);
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
    inst->n_watched++;
    return true;
}

/* ---- Waking and waiting ---- */

void wr_host_wake(const struct weir_host *h)
{
    struct wr_instance *inst = inst_of(h);
    atomic_store(&inst->wanted, 1);
    wr_lane_wake(inst->lane);
}
