/* SPDX-License-Identifier: Apache-2.0
 *
 * A component gives up on an event: what the envelope (envelope.h) says of both, and the event that
 * carries it to the dead-letter sink.
 */
#include <engine/runtime.h>

#include <base/secret.h>
#include <base/str.h>
#include <engine/envelope.h>

static struct wr_batch *batch_new(struct wr_clock *clock)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = body != NULL ? wr_batch_new(body, 8) : NULL;
    wr_body_unref(body);
    if (b != NULL)
        b->entered_ns = wr_now(clock);
    return b;
}

/* The event as it entered the component, where it is no longer what its source gave. */
static void set_payloads(struct wr_envelope *e, struct weir_arena *a, const struct weir_event *ev)
{
    e->payload = wr_event_source_payload(ev);
    e->tombstone = (ev->flags & WEIR_EVENT_TOMB) != 0;
    e->raw = (ev->flags & WEIR_EVENT_RAW) != 0;
    if (e->tombstone)
        return;
    struct weir_str entered = ev->payload;
    if ((ev->flags & WEIR_EVENT_EDITED) != 0)
        entered = wr_value_write(a, ev->value);
    if (entered.ptr == NULL)
        entered = weir_str_n("", 0); /* no tombstone: there is a payload, and it is empty */
    if (e->payload.ptr == NULL || !wr_str_eq(entered, e->payload))
        e->entered = entered;
}

/* Without what must not be shown: a server may have repeated a password. */
static struct weir_str reason_of(struct weir_arena *a, const struct wr_failure *f)
{
    struct wr_buf text = {0};
    struct weir_str message = f->result->message;
    if (message.ptr == NULL)
        return message;
    wr_buf_str(&text, message);
    wr_secrets_scrub(f->unit->plan->secrets, &text);
    message = wr_arena_copy(a, wr_buf_view(&text));
    wr_buf_done(&text);
    return message;
}

static void set_failure(struct wr_envelope *e, struct weir_arena *a, const struct wr_failure *f)
{
    e->reason = reason_of(a, f);
    e->code = weir_cstr(f->result->code != NULL ? f->result->code : "rejected");
    e->number = f->result->number;
    e->attempts = f->attempts;
    e->first_ns = f->first_ns;
    e->last_ns = f->last_ns;
    e->pipeline = f->unit->pipeline->name;
    e->component = f->unit->id;
    e->type = weir_cstr(f->unit->comp->type->name);
}

/* Where it came from. What was sent through again came from where it had come from first. */
static void set_origin(struct wr_envelope *e, const struct weir_event *ev)
{
    const struct wr_replayed *replayed = wr_event_replayed(ev);
    e->source = replayed != NULL ? replayed->source : wr_ack_source(ev->host_ack);
    e->replays = replayed != NULL ? replayed->times : 0;
    e->has_origin = ev->origin != NULL;
    if (!e->has_origin)
        return;
    e->origin = *ev->origin;
    e->position = ev->position;
    e->is_item = replayed != NULL ? replayed->is_item : wr_event_is_item(ev);
}

static void set_rest(struct wr_envelope *e, const struct weir_event *ev)
{
    e->key = ev->key;
    e->time_ns = ev->time_ns;
    e->headers = ev->headers;
    e->n_headers = ev->n_headers;
}

/* A letter is a thing of its own. A store that knows ids keeps one for each component that gave up
 * on the event, and for each time it was sent through again; what is only redelivered has the same
 * one. */
static struct weir_str letter_id(struct weir_arena *a, const struct wr_envelope *e)
{
    if (e->replays == 0)
        return wr_arena_printf(a, "%.*s@%.*s", WR_STR(e->id), WR_STR(e->component));
    return wr_arena_printf(a, "%.*s@%.*s/%u", WR_STR(e->id), WR_STR(e->component), e->replays);
}

bool wr_dead_letter_add(struct wr_batch **io_out, const struct weir_event *ev,
                        const struct wr_failure *failure)
{
    struct wr_clock *clock = failure->unit->pipeline->rt.clock;
    if (*io_out == NULL && (*io_out = batch_new(clock)) == NULL)
        return false;
    struct wr_batch *out = *io_out;
    struct weir_arena *a = &out->own->arena;
    struct weir_event dead = *ev;
    struct wr_envelope e = {0};
    /* The copies first: the original's memory may go while the dead letter waits. */
    e.id = wr_arena_copy(a, wr_event_id(out, &dead, clock));
    dead.key = wr_arena_copy(a, ev->key);
    set_payloads(&e, a, ev);
    set_failure(&e, a, failure);
    set_origin(&e, ev);
    set_rest(&e, ev);
    dead.id = letter_id(a, &e);
    struct wr_buf text = {0};
    wr_envelope_write(&e, &text);
    dead.payload = wr_arena_copy(a, wr_buf_view(&text));
    wr_buf_done(&text);
    dead.value = NULL;
    dead.headers = NULL;
    dead.n_headers = 0;
    dead.origin = NULL;
    dead.host_trace = NULL;
    dead.host_why = NULL;
    dead.host_port = 0;
    dead.flags = WR_EVENT_DEAD;
    if (dead.payload.ptr == NULL || e.id.ptr == NULL || dead.id.ptr == NULL ||
        wr_batch_append(out, &dead) == NULL)
        return false;
    struct wr_why why = wr_why_of(failure->unit, WEIR_DEAD_LETTERED, failure->result->code,
                                  failure->result->message);
    wr_ack_note(dead.host_ack, &why);
    wr_unit_count_dead(failure->unit, 1);
    return true;
}
