/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `redis`: what replies mean for their events. Contracts in sink_parts.h, the picture in
 * sink.c.
 */
#include "errors.h"
#include "sink_parts.h"

#include <stdio.h>
#include <string.h>

#define REDIRECTS_MAX 16

static void note_error(struct sink *self, struct server *server, struct weir_str text)
{
    struct pipe *p = server->user;
    bool reconnect = false;
    struct weir_result r = redis_error_result(text, &reconnect);
    self->reconnect = self->reconnect || reconnect;
    if (p->worst.verdict != WEIR_VERDICT_NONE)
        return;
    if (r.verdict == WEIR_VERDICT_RETRY)
        r.verdict = WEIR_VERDICT_UNAVAILABLE; /* a move takes as long as it takes: no attempt */
    bool moved = strcmp(r.code, "moved") == 0 || strcmp(r.code, "ask") == 0;
    const char *hint =
        moved && !self->cluster ? "; this is a node of a cluster: say `cluster: true`" : "";
    snprintf(p->text, sizeof(p->text), "%.*s%s", (int)r.message.len, r.message.ptr, hint);
    r.message = weir_cstr(p->text); /* the reply is dead before the next one may come */
    p->worst = r;
}

/* An event that is to go out again, elsewhere or in another way; false where it ends here. */
static bool send_again(struct sink *self, struct server *server, struct item *item,
                       struct weir_str text)
{
    static const char no_script[] = "NOSCRIPT";
    bool ask = false;
    if (item->n_redirects >= REDIRECTS_MAX)
        return false;
    if (self->command.once_ms > 0 && !item->whole_script && text.len >= sizeof(no_script) - 1 &&
        memcmp(text.ptr, no_script, sizeof(no_script) - 1) == 0) {
        item->whole_script = true;
        ((struct pipe *)server->user)->knows_script = 0;
    } else {
        struct server *to = servers_redirect(&self->servers, text, server, &ask);
        if (to == NULL)
            return false;
        item->target = ask ? to : NULL;
    }
    item->n_redirects++;
    return true;
}

static void take_reply(struct sink *self, struct server *server, const struct reply *reply)
{
    static const struct weir_result ok = {.verdict = WEIR_VERDICT_OK};
    struct pipe *p = server->user;
    if (p == NULL || p->sent.n == 0) {
        conn_break(&server->conn, "protocol", "redis at %s sent a reply that nobody asked for",
                   server->conn.where);
        return;
    }
    struct item *item = queue_first(&p->sent);
    unsigned per_part = item->asking ? 2 : 1;
    if (p->got == 0)
        p->first_part = item->first_part;
    unsigned n_replies = (command_n_parts(&self->command) - p->first_part) * per_part;
    unsigned part = p->first_part + p->got++ / per_part;
    bool first = p->worst.verdict == WEIR_VERDICT_NONE;
    if (reply->type == REPLY_ERROR && first && send_again(self, server, item, reply->text)) {
        item->first_part = (uint8_t)part;
        p->worst.verdict = WEIR_VERDICT_PENDING;
        self->barrier = true; /* from now on later events of its key would overtake it */
    } else if (reply->type == REPLY_ERROR && p->worst.verdict != WEIR_VERDICT_PENDING) {
        note_error(self, server, reply->text);
    }
    if (reply->type != REPLY_ERROR && p->got % per_part == 0) /* not that of ASKING */
        p->knows_script = server->conn.n_opened;
    if (p->got < n_replies)
        return;
    struct item done = queue_pop(&p->sent);
    self->n_sent--;
    p->got = 0;
    if (p->worst.verdict != WEIR_VERDICT_PENDING)
        sink_settle(self, done, p->worst.verdict == WEIR_VERDICT_NONE ? &ok : &p->worst);
    else if (queue_reserve(&self->moved, self->h, 1))
        queue_push(&self->moved, done);
    else
        sink_settle(self, done, &sink_no_memory);
    p->worst.verdict = WEIR_VERDICT_NONE;
}

/* Everything without a reply is unavailable; the next write connects anew. */
static void give_up(struct sink *self, struct server *server)
{
    struct weir_result error = server->conn.error;
    struct pipe *p = server->user;
    if (p != NULL) {
        self->n_sent -= p->sent.n;
        sink_settle_all(self, &p->sent, &error);
        p->got = 0;
        p->worst.verdict = WEIR_VERDICT_NONE;
    }
    conn_close(&server->conn);
    servers_forget(&self->servers);
}

void sink_take_replies(struct sink *self, struct server *server)
{
    struct reply reply;
    struct conn *c = &server->conn;
    while (conn_next(c, &reply))
        take_reply(self, server, &reply);
    struct pipe *p = server->user;
    bool waits = p != NULL && p->sent.n > 0;
    if (c->state != CONN_BROKEN && waits && atomic_load(&self->canceled))
        conn_break(c, "canceled", "given up at the end of the shutdown");
    if (c->state != CONN_BROKEN && waits &&
        self->h->now(self->h) >= queue_first(&p->sent)->op->deadline_ns)
        conn_break(c, "timeout", "redis at %s did not answer in time", c->where);
    if (c->state == CONN_BROKEN)
        give_up(self, server);
}
