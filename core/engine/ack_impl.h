/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/ack_impl.h: what ack.c and ack_source.c share. Nobody else includes it.
 */
#ifndef WR_ENGINE_ACK_IMPL_H
#define WR_ENGINE_ACK_IMPL_H

#include <engine/ack.h>

#include <stdatomic.h>

enum wr_ack_kind { WR_ACK_NONE, WR_ACK_STREAM, WR_ACK_REQUEST, WR_ACK_CHILD };

/* Parents of a joined or watched event. */
struct wr_child {
    void *watcher;
    uint64_t cookie;
    uint32_t n;
    struct wr_ack *parents[];
};

/* Why a branch did not get through, with its texts behind it. `next` is not as bad, and came before. */
struct wr_reason {
    struct wr_why why; /* first */
    struct wr_reason *next;
};

struct wr_ack {
    _Atomic uint32_t refs;
    _Atomic uint32_t outcomes; /* bit i: some branch ended with outcome i */
    _Atomic(struct wr_reason *) reason; /* the worst */
    struct wr_acks *home;
    struct wr_block *block;
    struct wr_ack *next; /* in a chain home */
    union {
        struct weir_stream *stream;
        struct weir_request *request;
        struct wr_child *child;
    } of;
    uint64_t number; /* in the stream's ring, or item of the request */
    enum wr_ack_kind kind;
};

/* The nodes of one batch. Open blocks stand in a list in the order they came. */
struct wr_block {
    struct wr_block *next, *prev;
    int64_t entered_ns;
    uint32_t cap, n_open;
    struct wr_ack nodes[];
};

/* Entries [head, tail) of a ring of cap places (a power of two); head is the first not ended, or where
 * the stream is stuck: one that ended in a way behind which no watermark goes. */
#define WR_ACK_NOWHERE UINT64_MAX /* the number of an event that came behind a stuck head */
struct weir_stream {
    struct wr_acks *acks;
    struct weir_stream *next, *prev;
    struct weir_origin origin;
    void *user;
    _Atomic bool closed;
    _Atomic int64_t lease; /* until then its events may be written */
    bool moved;        /* the watermark, since the last commit() */
    bool stuck;        /* it moves no more: what comes is only counted */
    int64_t watermark; /* `next` of the last entry that left the ring */
    uint64_t head, tail, cap;
    uint64_t n_pending;
    int64_t *ring_next;
    uint8_t *ring_done;
};

/* What is known of a request's item besides what its source will read. */
struct wr_item {
    struct wr_why *why; /* owner of the texts in its end; NULL for most */
    bool ended;
};

struct weir_request {
    struct wr_acks *acks;
    struct weir_request *next, *prev;
    void *user;
    struct weir_end *ends; /* by item */
    struct wr_item *items;
    uint32_t cap, n_items; /* until the seal says it, n_items is one more than the largest that came */
    uint32_t n_entered, n_ended;
    bool sealed, answered, due;
    struct weir_request *next_due;
};

struct wr_acks {
    const struct weir_source *type;
    struct weir_str name; /* of the source's component */
    void *self;
    struct wr_acks_ops ops;
    void *arg;
    _Atomic(struct wr_ack *) inbox;
    _Atomic uint32_t n_sending; /* threads that are not through with it, though their nodes may be home */
    _Atomic int64_t oldest;
    uint64_t n_open;
    struct wr_block *first_block, *last_block, *free_blocks;
    uint32_t n_free_blocks;
    struct weir_stream *streams;
    struct weir_stream *closed; /* by prev: to be freed once nobody walks over the streams */
    struct weir_request *requests;
    struct weir_request *due; /* to be answered in the next report */
    uint64_t n_unanswered;
    uint64_t n_failed;
    bool any_moved, collecting;
};

/* Ties a node to the event's stream or request. False when memory is used up. */
bool wr_ack_enter_source(struct wr_ack *ack, const struct weir_event *ev);
void wr_stream_end(struct weir_stream *s, uint64_t number, enum weir_outcome outcome);
void wr_request_end(struct weir_request *r, uint32_t item, enum weir_outcome outcome,
                    struct wr_why *take_why);
void wr_request_free(struct weir_request *take_r);
/* Frees what was closed from inside a commit. */
void wr_streams_free_closed(struct wr_acks *acks);
/* Calls commit and answer for what has moved. */
void wr_acks_report(struct wr_acks *acks);

#endif
