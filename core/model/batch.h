/* SPDX-License-Identifier: Apache-2.0
 *
 * model/batch.h: bodies, batches, and what can be done to an event's data.
 *
 *      batch ──▶ event array (its own)
 *        └─────▶ bodies (shared, counted) ──▶ arena: payloads, values, keys, headers
 *                                        └──▶ attachments: foreign memory with its dispose callback
 *
 * Routing, fan-out, gathering and retry copy event structs and take body references; they never copy
 * what events point to. A body is written by one lane only, while its batches may already be read by
 * outlets: an arena only ever adds.
 */
#ifndef WR_MODEL_BATCH_H
#define WR_MODEL_BATCH_H

#include <base/arena.h>
#include <base/clock.h>
#include <model/value.h>

struct wr_attachment {
    struct wr_attachment *next;
    weir_dispose_fn dispose;
    void *arg;
};

struct wr_body {
    _Atomic uint32_t refs;
    struct weir_arena arena;
    struct wr_attachment *attachments;
    size_t attached_bytes;
    size_t charged; /* of its footprint, to the process's budget */
};

/* One reference, the caller's. NULL when memory is used up. */
struct wr_body *wr_body_new(void);
void wr_body_ref(struct wr_body *body);
/* Thread: any. The last one disposes of attachments and frees. NULL is allowed. */
void wr_body_unref(struct wr_body *take_body);
static inline size_t wr_body_footprint(const struct wr_body *body)
{
    return body->arena.footprint + body->attached_bytes;
}

/* Charges what it has grown by to the budget; it is paid back with the body. By its writer. */
void wr_body_charge(struct wr_body *body);

#define WR_BATCH_BODIES_INLINE 3

struct wr_batch {
    struct weir_batch pub; /* first: the ABI's pointer is this one's */
    struct wr_body *own;   /* what is written goes here: bodies[0] while not frozen, then NULL */
    struct wr_body **bodies;
    struct wr_body *bodies_inline[WR_BATCH_BODIES_INLINE];
    uint32_t n_bodies, cap_bodies;
    size_t events_bytes;   /* of the event array's block */
    uint32_t seal;         /* of the component call that is running; 0 = none */
    uint32_t n_derived;    /* events added by derive in this call: the driver puts them in order */
    uint32_t n_passed;     /* events that may leave though the call is not over */
    int64_t entered_ns;    /* monotonic: when its events came in */
    struct wr_batch *next; /* for whoever owns it: a stack, a queue */
};

static inline struct wr_batch *wr_batch_of(struct weir_batch *b)
{
    return (struct wr_batch *)(void *)b;
}

static inline struct weir_event *wr_batch_events(const struct wr_batch *b)
{
    return b->pub.events;
}

/* An empty batch that writes into `own` (a reference is taken; NULL: read only). */
struct wr_batch *wr_batch_new(struct wr_body *own, uint32_t cap_events);
void wr_batch_free(struct wr_batch *take_b);
/* Room for n events in all; false when memory is used up. */
bool wr_batch_reserve(struct wr_batch *b, uint32_t n);
/* Takes a reference, once a body. */
bool wr_batch_add_body(struct wr_batch *b, struct wr_body *body);
bool wr_batch_add_bodies(struct wr_batch *b, const struct wr_batch *from);
/* Appends a copy of the event struct; the bodies are the caller's matter. NULL on no memory. */
struct weir_event *wr_batch_append(struct wr_batch *b, const struct weir_event *ev);
/* Its own event array over the same bodies. */
struct wr_batch *wr_batch_clone(const struct wr_batch *b);
/* Nothing is written to it any more. */
void wr_batch_freeze(struct wr_batch *b);

/* Bytes that a buffer charges for an event. */
static inline size_t wr_event_cost(const struct weir_event *ev)
{
    return ev->payload.len + ev->key.len + sizeof(*ev);
}

/* What is known of an event that was dead and is sent through again. */
struct wr_replayed {
    struct weir_str source; /* id of the source that it had come from first; empty: not known */
    uint32_t times;         /* how often it was sent through again, this time included */
    bool is_item;           /* its position counts the items of a request */
};

/* What the event was when it came: kept from its first change on. */
struct wr_trace {
    struct weir_str source; /* payload as its source gave it */
    const struct wr_replayed *replayed; /* NULL: it comes from its source */
    struct weir_str payload; /* as it entered the component that changed it last */
    const struct weir_value *value;
    struct weir_str key;
    const struct weir_header *headers;
    uint32_t n_headers;
    uint32_t flags;
    /* The value that was made to be changed, what it was copied from, and the text of that. */
    const struct weir_value *edited, *from;
    struct weir_str text;
};

/* As the functions of struct weir_host with these names. */
struct weir_event *wr_event_add(struct weir_batch *b);
void wr_batch_truncate(struct weir_batch *b, uint32_t n);
bool wr_batch_attach(struct weir_batch *b, weir_dispose_fn dispose, void *take_arg, size_t size);
/* Unlike the host's it only says what is wrong. */
const struct weir_value *wr_event_value(struct wr_batch *b, struct weir_event *ev,
                                        struct weir_error *err);
struct weir_value *wr_event_edit(struct wr_batch *b, struct weir_event *ev,
                                 struct weir_error *err);
/* False when memory is used up: nothing has changed then. */
bool wr_event_set_value(struct wr_batch *b, struct weir_event *ev, const struct weir_value *v);
bool wr_event_set_payload(struct wr_batch *b, struct weir_event *ev, struct weir_str payload);
struct weir_str wr_event_payload(struct wr_batch *b, struct weir_event *ev);
struct weir_str wr_event_id(struct wr_batch *b, struct weir_event *ev, struct wr_clock *clock);
const struct weir_header *wr_event_header(const struct weir_event *ev, struct weir_str name);
bool wr_event_set_header(struct wr_batch *b, struct weir_event *ev, struct weir_str name,
                         struct weir_str value);
bool wr_event_set_key(struct wr_batch *b, struct weir_event *ev, struct weir_str key);

/* Moves all that the event points to into `to`, so that its batch can go. False when memory is used up:
 * the event is then of no use. */
bool wr_event_copy_out(struct wr_body *to, struct weir_event *ev);
/* Payload as its source gave it. */
struct weir_str wr_event_source_payload(const struct weir_event *ev);
/* NULL where it comes from its source. */
const struct wr_replayed *wr_event_replayed(const struct weir_event *ev);
/* From now on its source gave it with that payload, and `replayed` is known of it; both are kept as they
 * are. False when memory is used up. */
bool wr_event_set_replayed(struct wr_batch *b, struct weir_event *ev, struct weir_str source_payload,
                           const struct wr_replayed *replayed);
/* Puts back payload, value, key and headers as they entered the component whose call is running. */
void wr_event_restore(const struct wr_batch *b, struct weir_event *ev);
/* 36 characters of a UUIDv7 (RFC 9562) in `a`. */
struct weir_str wr_uuid7(struct weir_arena *a, struct wr_clock *clock);

#endif
