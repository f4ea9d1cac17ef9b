/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `redis`: a command an event, always pipelined.
 *
 * write() encodes a whole batch behind what is still being sent and leaves its events pending;
 * progress() sends and receives, and settles events as their replies come. So the next pipeline is
 * written while the replies of the last one are read:
 *
 *   ops: [write 7: 40 of 100 settled] ─▶ [write 8] ─▶ [write 9]      replies come in this order
 *
 * An error reply is the verdict of its event alone. When the connection ends or a write's deadline
 * comes, everything that has no reply yet is unavailable, and the next write connects anew.
 */
#include "conn.h"
#include "errors.h"
#include "sink_config.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)16 << 20) /* what a reply says is of interest only in an error */

/* A write whose events wait for replies. */
struct op {
    struct op *next;
    uint64_t ticket;
    int64_t deadline_ns;
    uint32_t n, at;           /* events in all, and the one whose reply is next */
    unsigned got;             /* replies of that event so far */
    struct weir_result worst; /* of that event; verdict 0 = no error yet */
    char text[320];           /* its message */
    uint32_t index[];         /* of the events in the batch */
};

struct sink {
    const struct weir_host *h;
    struct conn conn;
    struct command command;
    struct op *first, **last;
    int wake_fd;
    bool reconnect; /* a reply said that another connection may do better */
    atomic_bool canceled;
};

/* ---- Opening and closing --------------------------------------------------------------------- */

void sink_close(void *take_self)
{
    struct sink *self = take_self;
    if (self == NULL)
        return;
    while (self->first != NULL) {
        struct op *op = self->first;
        self->first = op->next;
        self->h->free(op);
    }
    conn_done(&self->conn);
    command_done(&self->command);
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
    self->last = &self->first;
    conn_init(&self->conn, h, &cf->conn, REPLY_LIMIT, false);
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0 || !sink_build_command(&self->command, h, cf)) {
        sink_close(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory",
                        "no memory or descriptor for the redis sink");
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static struct op *op_new(struct sink *self, uint64_t ticket, int64_t deadline_ns, uint32_t n_events)
{
    struct op *op = self->h->alloc(sizeof(*op) + sizeof(op->index[0]) * n_events);
    if (op == NULL)
        return NULL;
    op->ticket = ticket;
    op->deadline_ns = deadline_ns;
    return op;
}

static void op_push(struct sink *self, struct op *op)
{
    *self->last = op;
    self->last = &op->next;
}

static void op_pop(struct sink *self)
{
    struct op *op = self->first;
    self->first = op->next;
    if (self->first == NULL)
        self->last = &self->first;
    self->h->free(op);
}

static void refuse(const struct weir_batch *b, struct weir_results *results, struct weir_result why)
{
    for (uint32_t i = 0; i < b->n_events; i++)
        *weir_result_at(results, i) = why;
}

/* Sees to it that there is a connection, or one under way; false where there is none. */
static bool connection_wanted(struct sink *self)
{
    struct conn *c = &self->conn;
    if (self->first == NULL)
        conn_check_idle(c);
    if (c->state == CONN_DOWN || (c->state == CONN_BROKEN && self->first == NULL))
        conn_open(c);
    return c->state != CONN_BROKEN;
}

/* Encodes the batch; events that cannot be have their verdict then, the others are PENDING. */
static void encode(struct sink *self, struct weir_batch *b, struct op *op,
                   struct weir_results *results)
{
    struct weir_arena *a = self->h->scratch(self->h);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_result *r = weir_result_at(results, i);
        if (command_put(&self->command, b, weir_event_at(b, i), &self->conn.out, a, r) !=
            WEIR_VERDICT_OK)
            continue;
        r->verdict = WEIR_VERDICT_PENDING;
        op->index[op->n++] = i;
    }
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
    if (!connection_wanted(self)) {
        refuse(b, results, self->conn.error);
        return;
    }
    struct op *op = op_new(self, b->ticket, deadline_ns, b->n_events);
    if (op == NULL) {
        refuse(b, results,
               (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "no_memory"});
        return;
    }
    encode(self, b, op, results);
    if (op->n == 0) {
        self->h->free(op);
        return;
    }
    op_push(self, op);
    conn_send(&self->conn);
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* Gives the event whose reply is next its result, and goes to the one behind it. */
static void settle(struct sink *self, struct op *op, const struct weir_result *result)
{
    self->h->complete(self->h, op->ticket, op->index[op->at], result);
    op->at++;
    op->got = 0;
    op->worst.verdict = WEIR_VERDICT_NONE;
    if (op->at == op->n)
        op_pop(self);
}

static void note_error(struct sink *self, struct op *op, struct weir_str text)
{
    bool reconnect = false;
    struct weir_result r = redis_error_result(text, &reconnect);
    self->reconnect = self->reconnect || reconnect;
    if (op->worst.verdict != WEIR_VERDICT_NONE)
        return;
    size_t n = r.message.len < sizeof(op->text) ? r.message.len : sizeof(op->text);
    memcpy(op->text, r.message.ptr, n); /* the view is dead before the second reply may come */
    r.message = weir_str_n(op->text, n);
    op->worst = r;
}

static void take_reply(struct sink *self, const struct reply *reply)
{
    static const struct weir_result ok = {.verdict = WEIR_VERDICT_OK};
    struct op *op = self->first;
    if (op == NULL) {
        conn_break(&self->conn, "protocol", "redis at %s sent a reply that nobody asked for",
                   self->conn.where);
        return;
    }
    if (reply->type == REPLY_ERROR)
        note_error(self, op, reply->text);
    op->got++;
    if (op->got < command_n_replies(&self->command))
        return;
    settle(self, op, op->worst.verdict == WEIR_VERDICT_NONE ? &ok : &op->worst);
}

/* Everything without a reply is unavailable; the next write connects anew. */
static void give_up(struct sink *self)
{
    struct weir_result error = self->conn.error;
    while (self->first != NULL)
        settle(self, self->first, &error);
    self->reconnect = false;
    conn_close(&self->conn);
}

static void take_replies(struct sink *self)
{
    struct reply reply;
    while (conn_next(&self->conn, &reply))
        take_reply(self, &reply);
    if (self->conn.state != CONN_BROKEN && atomic_load(&self->canceled) && self->first != NULL)
        conn_break(&self->conn, "canceled", "given up at the end of the shutdown");
    if (self->conn.state != CONN_BROKEN && self->first != NULL &&
        self->h->now(self->h) >= self->first->deadline_ns)
        conn_break(&self->conn, "timeout", "redis at %s did not answer in time", self->conn.where);
    if (self->conn.state == CONN_BROKEN)
        give_up(self);
    if (self->reconnect && self->first == NULL) {
        self->reconnect = false;
        conn_close(&self->conn);
    }
}

static void sink_progress(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    int64_t until_ns = deadline_ns;
    if (self->first != NULL && self->first->deadline_ns < until_ns)
        until_ns = self->first->deadline_ns;
    conn_step(&self->conn, conn_wait(&self->conn, self->wake_fd, until_ns));
    take_replies(self);
}

static void sink_flush(void *self_, int64_t deadline_ns)
{
    struct sink *self = self_;
    while (self->first != NULL && self->h->now(self->h) < deadline_ns)
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
