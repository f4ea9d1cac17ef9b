/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the sink `redis` share: sink.c, sink_send.c, sink_reply.c.
 */
#ifndef REDIS_SINK_PARTS_H
#define REDIS_SINK_PARTS_H

#include "queue.h"
#include "sink_config.h"

#include <stdatomic.h>

/* What is under way to one server. */
struct pipe {
    struct queue sent;
    unsigned got;             /* replies to the first of them so far */
    unsigned first_part;      /* of it, as it was sent */
    uint64_t knows_script;    /* the connection (n_opened) that has shown that its server does */
    struct weir_result worst; /* of these; verdict 0 = no error yet */
    char text[320];           /* its message */
};

struct sink {
    const struct weir_host *h;
    struct servers servers;
    struct command command;
    struct queue held, moved;
    uint32_t n_sent; /* in all pipes */
    bool barrier;    /* nothing is sent until n_sent is 0 */
    bool reconnect;  /* a reply said that another connection may do better */
    bool cluster;
    struct bytes one; /* an event's command, where only it says which server is its */
    int wake_fd;
    atomic_bool canceled;
};

extern const struct weir_result sink_no_memory;

/* sink_send.c */

/* Gives the event its result; its write is gone with the last one. */
void sink_settle(struct sink *self, struct item item, const struct weir_result *result);
void sink_settle_all(struct sink *self, struct queue *q, const struct weir_result *result);
/* Encodes all events of the write; those that cannot be have their verdict then, the others are
 * PENDING. */
void sink_send_batch(struct sink *self, struct op *op, struct weir_results *results);
/* Puts all events into the queue of what has to wait; false when memory is used up. */
bool sink_hold(struct sink *self, struct op *op, struct weir_results *results);
/* Sends what had to wait, as far as it need not wait any longer. */
void sink_send_waiting(struct sink *self);

/* sink_reply.c */

/* Settles events by the replies that have come, or where the connection has ended. */
void sink_take_replies(struct sink *self, struct server *server);

#endif
