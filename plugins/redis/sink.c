/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `redis`: a command an event, always pipelined.
 *
 * write() encodes a whole batch behind what is still being sent and leaves its events pending;
 * progress() sends and receives, and settles events as their replies come. So the next pipeline is
 * written while the replies of the last one are read:
 *
 *   held ─▶ sent, a queue a server, in the order of the replies ─▶ settled
 *    ▲          │ MOVED, ASK, NOSCRIPT
 *    └ moved ◀──┘
 *
 * An event whose key has moved to another node goes there once all replies under way have come
 * (`barrier`), and what was written meanwhile behind it (`held`): so events of one key keep their
 * order. An error reply is the verdict of its event alone. When a connection ends, or a write's
 * deadline comes, everything on it that has no reply yet is unavailable.
 */
#include "sink_parts.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)16 << 20) /* what a reply says is of interest only in an error */
/* ---- Opening and closing --------------------------------------------------------------------- */

static void free_ops(struct sink *self, struct queue *q)
{
    while (q->n > 0) {
        struct op *op = queue_pop(q).op;
        if (--op->n_left == 0)
            self->h->free(op);
    }
    queue_done(q, self->h);
}

void sink_close(void *take_self)
{
    struct sink *self = take_self;
    if (self == NULL)
        return;
    for (uint32_t i = 0; i < self->servers.n; i++) {
        struct pipe *p = self->servers.items[i]->user;
        if (p == NULL)
            continue;
        free_ops(self, &p->sent);
        self->h->free(p);
    }
    free_ops(self, &self->held);
    free_ops(self, &self->moved);
    servers_done(&self->servers);
    command_done(&self->command);
    bytes_done(&self->one);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    self->h->free(self);
}

enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err)
{
    const struct sink_config *cf = config;
    struct sink *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the redis sink");
    self->h = h;
    self->one.h = h;
    self->cluster = cf->conn.cluster;
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct weir_error why = {0};
    if (!servers_init(&self->servers, h, &cf->conn, REPLY_LIMIT, false, &why)) {
        sink_close(self);
        return h->error(err, why.status, why.code, "%s", why.text);
    }
    if (self->wake_fd < 0 || !sink_build_command(&self->command, h, cf)) {
        sink_close(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory",
                        "no memory or descriptor for the redis sink");
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void refuse(const struct weir_batch *b, struct weir_results *results, struct weir_result why)
{
    for (uint32_t i = 0; i < b->n_events; i++)
        *weir_result_at(results, i) = why;
}

/* Drops connections that the servers have closed while nothing was under way, so that the next
 * write does not fail for it. */
static void renew_idle(struct sink *self)
{
    for (uint32_t i = 0; i < self->servers.n; i++) {
        struct conn *c = &self->servers.items[i]->conn;
        conn_check_idle(c);
        if (c->state != CONN_BROKEN)
            continue;
        conn_close(c);
        servers_forget(&self->servers);
    }
}

static bool must_wait(const struct sink *self, enum servers_state state)
{
    return self->barrier || self->held.n > 0 || self->moved.n > 0 || state == SERVERS_ASKING;
}

static void sink_write(void *self_, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    struct sink *self = self_;
    if (atomic_load(&self->canceled)) {
        refuse(b, results,
               (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "canceled"});
        return;
    }
    if (self->n_sent == 0)
        renew_idle(self);
    enum servers_state state = servers_want(&self->servers);
    if (state == SERVERS_UNKNOWN && self->held.n + self->moved.n == 0) {
        refuse(b, results, self->servers.error);
        return;
    }
    struct op *op = self->h->alloc(sizeof(*op));
    if (op == NULL) {
        refuse(b, results, sink_no_memory);
        return;
    }
    *op = (struct op){
        .batch = b, .ticket = b->ticket, .deadline_ns = deadline_ns, .n_left = b->n_events};
    if (!must_wait(self, state)) {
        sink_send_batch(self, op, results);
    } else if (!sink_hold(self, op, results)) {
        self->h->free(op);
        refuse(b, results, sink_no_memory);
    }
}

/* What waits to be sent has a deadline as well. */
static void end_waiting(struct sink *self, struct queue *q)
{
    static const struct weir_result late = {
        .verdict = WEIR_VERDICT_UNAVAILABLE,
        .code = "timeout",
        .message = {"the servers of redis were not found in time", 43}};
    bool canceled = atomic_load(&self->canceled);
    while (q->n > 0 && (canceled || self->h->now(self->h) >= queue_first(q)->op->deadline_ns))
        sink_settle(self, queue_pop(q), &late);
}

/* A reply such as READONLY: everything that was under way has ended, so begin anew. */
static void reconnect(struct sink *self)
{
    self->reconnect = false;
    for (uint32_t i = 0; i < self->servers.n; i++)
        conn_close(&self->servers.items[i]->conn);
    servers_forget(&self->servers);
}

static int64_t earliest(const struct sink *self, int64_t until_ns)
{
    const struct queue *waiting = self->moved.n > 0 ? &self->moved : &self->held;
    if (waiting->n > 0 && queue_first(waiting)->op->deadline_ns < until_ns)
        until_ns = queue_first(waiting)->op->deadline_ns;
    for (uint32_t i = 0; i < self->servers.n; i++) {
        const struct pipe *p = self->servers.items[i]->user;
        if (p != NULL && p->sent.n > 0 && queue_first(&p->sent)->op->deadline_ns < until_ns)
            until_ns = queue_first(&p->sent)->op->deadline_ns;
    }
    return until_ns;
}

static void sink_progress(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    servers_wait(&self->servers, self->wake_fd, earliest(self, deadline_ns));
    for (uint32_t i = 0; i < self->servers.n; i++)
        sink_take_replies(self, self->servers.items[i]);
    if (self->reconnect && self->n_sent == 0)
        reconnect(self);
    sink_send_waiting(self);
    end_waiting(self, &self->moved);
    end_waiting(self, &self->held);
}

static void sink_flush(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    while (self->n_sent + self->held.n + self->moved.n > 0 && self->h->now(self->h) < deadline_ns)
        sink_progress(self, deadline_ns);
}

static void sink_wake(void *self_)
{
    struct sink *self = self_;
    const uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

static void sink_cancel(void *self_)
{
    struct sink *self = self_;
    atomic_store(&self->canceled, true);
    sink_wake(self);
}

const struct weir_sink sink_calls = {
    .size = sizeof(sink_calls),
    .batch_events = 1000,
    .batch_bytes = 1 << 20,
    .in_flight = 4,
    .write = sink_write,
    .progress = sink_progress,
    .wake = sink_wake,
    .flush = sink_flush,
    .cancel = sink_cancel,
};
