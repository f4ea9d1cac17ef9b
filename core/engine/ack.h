/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/ack.h: the promise kept. Every event carries a node; whoever ends an event settles it; when
 * its last reference is settled the node goes home to its lane, which tells the source.
 *
 *   event ──host_ack──▶ node ──refs──▶ 0 ──▶ inbox of the lane ──▶ stream: watermark ──▶ commit
 *                        │                                   └──▶ request: all items ──▶ answer
 *                        └─parents (join, watch): settled by the lane with the node's outcome
 *
 * Settling is for any thread and takes no lock: several ended nodes travel as one chain, pushed at
 * once. All else here belongs to the lane's thread. A fan-out and a derived event are references on
 * the same node; only join and watch make nodes of their own.
 */
#ifndef WR_ENGINE_ACK_H
#define WR_ENGINE_ACK_H

#include <base/secret.h>
#include <model/batch.h>
#include <weir/plugin.h>

struct wr_ack;
struct wr_acks;

/* Why an event did not get through: an owned copy of texts. */
struct wr_why {
    enum weir_outcome outcome;
    struct weir_str component;
    const char *code;
    struct weir_str message;
    const struct wr_secret *secrets; /* that the copy of the message does not show */
};

/* Nodes that ended together on one thread, on their way home. Zero it, settle, flush. */
struct wr_ended {
    struct wr_acks *home;
    struct wr_ack *first, *last;
};

/* What the lane does with ends. */
struct wr_acks_ops {
    void (*wake)(void *arg); /* [any]: ends are waiting */
    /* Of a watched event: transform `watcher` hears. [lane] */
    void (*settled)(void *arg, void *watcher, uint64_t cookie, enum weir_outcome outcome);
};

/* One lane's side: all its nodes, streams and requests. */
struct wr_acks *wr_acks_new(const struct weir_source *type, const struct wr_acks_ops *ops, void *arg);
/* Closes streams and frees; every node must have come home. */
void wr_acks_free(struct wr_acks *acks);
/* The source's self, once it is open. */
void wr_acks_source(struct wr_acks *acks, void *self);
/* The id of the source's component, kept as it is: before the first event. */
void wr_acks_name(struct wr_acks *acks, struct weir_str id);
/* That id; empty for NULL and where there is none. [any] */
struct weir_str wr_ack_source(const struct wr_ack *ack);

/* Gives each event of a polled batch its node. False when memory is used up: some of them are then
 * not known to their streams, and nothing more may enter. [lane] */
bool wr_acks_enter(struct wr_acks *acks, struct wr_batch *b, int64_t now);

/* One more reference for a copy of the event. NULL is allowed everywhere: an event nobody waits for.
 * Only by a holder of a reference. [any] */
void wr_ack_ref(struct wr_ack *ack);
/* Gives one reference back with how it ended. why: NULL, or texts that are copied. [any] */
void wr_ack_settle(struct wr_ack *ack, enum weir_outcome outcome, const struct wr_why *why,
                   struct wr_ended *ended);
/* Gives a reason now, for a reference that will be settled later. Copied. [any] */
void wr_ack_note(struct wr_ack *ack, const struct wr_why *why);
/* Sends the chain home. [any] */
void wr_ended_flush(struct wr_ended *ended);
/* What may become of an event that is about to be written. GONE: its stream has been closed, nobody counts
 * it any more. WAIT: its stream's lease has run out; the source will renew it or close the stream. [any] */
enum wr_fate { WR_FATE_WRITE, WR_FATE_WAIT, WR_FATE_GONE };
enum wr_fate wr_ack_fate(const struct wr_ack *ack, int64_t now);

/* A node whose end settles each parent; takes one reference of each. NULL when memory is used
 * up: nothing is taken then. watcher NULL: nobody else hears. [lane] */
struct wr_ack *wr_acks_child(struct wr_acks *acks, struct wr_ack *const *take_parents, uint32_t n,
                             void *watcher, uint64_t cookie);

/* Takes what came home, moves watermarks, calls commit, answer, settled. [lane] */
void wr_acks_collect(struct wr_acks *acks);
/* Nodes under way. [lane] */
uint64_t wr_acks_open(const struct wr_acks *acks);
/* Events that ended as failed so far. [lane] */
uint64_t wr_acks_failed(const struct wr_acks *acks);
/* When the oldest open node came in (monotonic ns), INT64_MAX if there is none. [any] */
int64_t wr_acks_oldest(const struct wr_acks *acks);
/* A stream's window is used up: counts as a full buffer. [lane] */
bool wr_acks_full(const struct wr_acks *acks);
/* Requests that are not answered yet. [lane] */
uint64_t wr_acks_requests(const struct wr_acks *acks);
/* The last commit of each stream, final. [lane] */
void wr_acks_final(struct wr_acks *acks);
/* Answers every open request now, what did not end as failed: the deadline of the shutdown. [lane] */
void wr_acks_fail_requests(struct wr_acks *acks, const struct wr_why *why);

/* As the host's functions of these names. [lane] */
struct weir_stream *wr_stream_open(struct wr_acks *acks, const struct weir_origin *origin,
                                   void *user);
void wr_stream_lease(struct weir_stream *s, int64_t until_ns);
uint64_t wr_stream_pending(struct weir_stream *s);
void wr_stream_close(struct weir_stream *take_s);
struct weir_request *wr_request_begin(struct wr_acks *acks, void *user);
void wr_request_seal(struct weir_request *r, uint32_t n);

#endif
