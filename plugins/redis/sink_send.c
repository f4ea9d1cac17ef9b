/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `redis`: events into the pipelines of their servers, at once or when they need not wait any
 * longer. Contracts in sink_parts.h, the picture in sink.c.
 */
#include "sink_parts.h"

#define ONE_KEEP ((size_t)8 << 20) /* a larger buffer is not kept for the next event */

/* ---- Results --------------------------------------------------------------------------------- */

const struct weir_result sink_no_memory = {.verdict = WEIR_VERDICT_UNAVAILABLE,
                                           .code = "no_memory",
                                           .message = {"no memory for the write", 23}};

void sink_settle(struct sink *self, struct item item, const struct weir_result *result)
{
    struct op *op = item.op;
    self->h->complete(self->h, op->ticket, item.index, result);
    if (--op->n_left == 0)
        self->h->free(op);
}

void sink_settle_all(struct sink *self, struct queue *q, const struct weir_result *result)
{
    while (q->n > 0)
        sink_settle(self, queue_pop(q), result);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static struct pipe *pipe_of(struct sink *self, struct server *server)
{
    if (server->user == NULL)
        server->user = self->h->alloc(sizeof(struct pipe));
    return server->user;
}

/* Whether the event can go to that server now; else *ret says why not. */
static bool can_send(struct sink *self, struct server *server, struct weir_result *ret)
{
    if (server == NULL) {
        *ret = self->servers.error;
        return false;
    }
    if (server->conn.state == CONN_DOWN)
        conn_open(&server->conn);
    if (server->conn.state != CONN_BROKEN)
        return true;
    *ret = server->conn.error;
    return false;
}

/* Until the server has shown that it knows the guard's script every event brings it. Of those that
 * do not, another client could let the later ones pass while the first is sent back by NOSCRIPT. */
static void bring_script(const struct sink *self, const struct server *server, struct item *item)
{
    const struct pipe *p = server->user;
    bool known = p != NULL && p->knows_script == server->conn.n_opened;
    item->whole_script = item->whole_script || (self->command.once_ms > 0 && !known);
}

static bool encode_one(struct sink *self, const struct item *item, struct weir_arena *a,
                       struct command_put *ret_put)
{
    *ret_put = (struct command_put){.out = &self->one,
                                    .whole_script = item->whole_script,
                                    .asking = item->target != NULL,
                                    .first_part = item->first_part};
    struct weir_event *ev = weir_event_at(item->op->batch, item->index);
    self->one.len = 0;
    if (self->one.cap > ONE_KEEP)
        bytes_done(&self->one);
    return command_put(&self->command, item->op->batch, ev, ret_put, a) == WEIR_VERDICT_OK;
}

/* In a cluster the command says by its key which server it is for, and so how it is to be written. */
static struct server *encode_apart(struct sink *self, struct item *item, struct weir_arena *a,
                                   struct weir_result *ret)
{
    for (;;) {
        struct command_put put;
        if (!encode_one(self, item, a, &put)) {
            *ret = put.ret_result;
            return NULL;
        }
        struct server *server = item->target != NULL
                                    ? item->target
                                    : servers_for(&self->servers, slot_of(put.ret_route));
        if (!can_send(self, server, ret))
            return NULL;
        bool whole = item->whole_script;
        bring_script(self, server, item);
        if (item->whole_script == whole)
            return server;
    }
}

static bool put_apart(struct sink *self, struct item *item, struct conn *c)
{
    item->asking = item->target != NULL;
    item->target = NULL;
    c->out.failed = false;
    size_t before = c->out.len;
    bytes_put(&c->out, self->one.ptr, self->one.len);
    if (c->out.failed)
        c->out.len = before;
    return !c->out.failed;
}

/* Puts the event into its server's pipeline. OK, or *ret has its result. */
static bool send_item(struct sink *self, struct item item, struct weir_arena *a,
                      struct weir_result *ret)
{
    struct server *server;
    if (self->cluster) {
        server = encode_apart(self, &item, a, ret);
        if (server == NULL)
            return false;
    } else {
        server = servers_for(&self->servers, 0);
        if (!can_send(self, server, ret))
            return false;
    }
    *ret = sink_no_memory;
    struct pipe *p = pipe_of(self, server);
    if (p == NULL || !queue_reserve(&p->sent, self->h, 1))
        return false;
    if (self->cluster) {
        if (!put_apart(self, &item, &server->conn))
            return false;
    } else {
        bring_script(self, server, &item);
        struct command_put put = {.out = &server->conn.out, .whole_script = item.whole_script};
        struct weir_event *ev = weir_event_at(item.op->batch, item.index);
        if (command_put(&self->command, item.op->batch, ev, &put, a) != WEIR_VERDICT_OK) {
            *ret = put.ret_result;
            return false;
        }
    }
    queue_push(&p->sent, item);
    self->n_sent++;
    return true;
}

static void send_queue(struct sink *self, struct queue *q, struct weir_arena *a)
{
    struct weir_result result;
    while (q->n > 0) {
        struct item item = queue_pop(q);
        if (!send_item(self, item, a, &result))
            sink_settle(self, item, &result);
    }
}

static void flush_out(struct sink *self)
{
    for (uint32_t i = 0; i < self->servers.n; i++)
        conn_send(&self->servers.items[i]->conn);
}

void sink_send_waiting(struct sink *self)
{
    if (self->n_sent == 0)
        self->barrier = false;
    if (self->barrier || self->held.n + self->moved.n == 0)
        return;
    enum servers_state state = servers_want(&self->servers);
    if (state == SERVERS_ASKING)
        return;
    if (state == SERVERS_UNKNOWN) {
        struct weir_result error = self->servers.error;
        sink_settle_all(self, &self->moved, &error);
        sink_settle_all(self, &self->held, &error);
        return;
    }
    struct weir_arena *a = self->h->scratch(self->h);
    send_queue(self, &self->moved, a);
    send_queue(self, &self->held, a);
    flush_out(self);
}

bool sink_hold(struct sink *self, struct op *op, struct weir_results *results)
{
    if (!queue_reserve(&self->held, self->h, op->n_left))
        return false;
    for (uint32_t i = 0; i < op->batch->n_events; i++) {
        weir_result_at(results, i)->verdict = WEIR_VERDICT_PENDING;
        queue_push(&self->held, (struct item){.op = op, .index = i});
    }
    return true;
}

void sink_send_batch(struct sink *self, struct op *op, struct weir_results *results)
{
    struct weir_arena *a = self->h->scratch(self->h);
    uint32_t n = op->n_left;
    for (uint32_t i = 0; i < n; i++) {
        struct weir_result *r = weir_result_at(results, i);
        struct item item = {.op = op, .index = i};
        if (send_item(self, item, a, r))
            *r = (struct weir_result){.verdict = WEIR_VERDICT_PENDING};
        else
            op->n_left--;
    }
    if (op->n_left == 0)
        self->h->free(op);
    flush_out(self);
}
