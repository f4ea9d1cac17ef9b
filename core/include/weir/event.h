/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/event.h: events, batches and values as a plugin sees them.
 *
 * A batch is an event array of its own plus references to the memory behind it. Everything that an
 * event points to lives as long as the batch does. Read any field directly. Write through the host
 * (weir/host.h); only a source writes the fields of events that it has just added.
 */
#ifndef WEIR_EVENT_H
#define WEIR_EVENT_H

#include <weir/base.h>

/* A JSON value. Opaque: the pointer is a handle and must never be followed. Read with the host's
 * value functions. Values of a frozen batch may be read from several threads at once. */
struct weir_value;

/* A bump allocator. What it gives is freed with it, all at once. One thread at a time. */
struct weir_arena;

/* One ordered stream of a position source: a partition's assignment, a file. See weir/host.h. */
struct weir_stream;

/* One request of a request source, from begin to answer. See weir/host.h. */
struct weir_request;

/* Types are exact through every hop. An integer is INT where it fits int64, else UINT where it fits
 * uint64; a number beyond both or beyond a double is BIGNUM and keeps its text. Of duplicate keys
 * reads see the first; an untouched payload passes byte for byte all the same. */
enum weir_value_type {
    WEIR_NULL,
    WEIR_BOOL,
    WEIR_INT,
    WEIR_UINT,
    WEIR_REAL,
    WEIR_BIGNUM,
    WEIR_STRING,
    WEIR_ARRAY,
    WEIR_OBJECT
};

/* Walks an array or object in its order. Make with value_iter, step with value_next. */
struct weir_value_iter {
    const void *priv[4];
    size_t left;
};

struct weir_header {
    struct weir_str name;
    struct weir_str value;
};

/* Where an event came from. Lives in the batch's memory; shared by the events of one partition. */
struct weir_origin {
    struct weir_str name; /* topic, path, or remote address */
    int32_t partition;    /* -1 where there is none */
};

/* Event flags; a plugin reads them, the host sets them. */
#define WEIR_EVENT_RAW 1u     /* the payload is opaque: no value can be had from it */
#define WEIR_EVENT_EDITED 2u  /* the value was changed; event_payload() serializes it */
#define WEIR_EVENT_GONE 4u    /* dropped, failed or held in this call; skip it */
#define WEIR_EVENT_TOMB 8u    /* a tombstone: there is no payload, which is not an empty one */
#define WEIR_EVENT_PASSED 16u /* event_pass() let it go in this call, and it is still here */

/* One record on its way.
 *
 * payload   the bytes as they came or as last written; out of date while EDITED is set
 * value     parsed payload, or NULL while nobody asked; use event_value(). A source that checks its
 *           payloads sets it to what value_parse(b->arena, payload) gave, so that the work is kept
 * key       key of the message, empty view where there is none (ptr NULL) or it is empty (ptr set)
 * time_ns   when the event happened or was received, ns since the epoch, 0 = not known
 * id        what makes redelivery harmless; empty until made, use event_id()
 * stream + position, or request + position: which source entry this event is part of */
struct weir_event {
    struct weir_str payload;
    const struct weir_value *value;
    struct weir_str key;
    int64_t time_ns;
    struct weir_str id;
    const struct weir_header *headers;
    const struct weir_origin *origin;
    struct weir_stream *stream;
    struct weir_request *request;
    int64_t position; /* offset in the stream, or item number in the request */
    int64_t next;     /* the stream's position once this event is done; position + 1 for most */
    uint32_t n_headers;
    uint32_t flags;
    /* The rest belongs to the host. */
    void *host_ack;
    const void *host_trace;
    const void *host_why;
    uint32_t host_port;
    uint32_t host_order;
    uint32_t host_seal;
    uint32_t host_child;
};

/* Events that move together. `stride` is the distance of two events in bytes. */
struct weir_batch {
    uint32_t size; /* of this struct as the host made it */
    uint32_t stride;
    uint32_t n_events;
    uint32_t cap_events;
    void *events;
    struct weir_arena *arena; /* memory for what is written into this batch; NULL once frozen */
    uint64_t ticket;          /* of this write; complete() takes it */
};

/* i < b->n_events. The pointer is good until an event is added to this batch. */
static inline struct weir_event *weir_event_at(const struct weir_batch *b, uint32_t i)
{
    return (struct weir_event *)(void *)((char *)b->events + (size_t)i * b->stride);
}

#endif
