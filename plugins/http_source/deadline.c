/* SPDX-License-Identifier: Apache-2.0
 *
 * What time and the end bring to connections: deadlines that pass, requests that waited too long
 * for room, and what is left when the source closes.
 */
#include "http_source.h"

#include <stdio.h>

static void end_now(struct conn *c, unsigned status, const char *code, const char *message)
{
    struct request *q = c->request;
    if (c->phase != PHASE_TLS && q == NULL)
        q = request_new(c);
    if (c->phase == PHASE_TLS || q == NULL) {
        conn_close(c);
        return;
    }
    c->close = true;
    refuse(&q->refusal, status, code, "%s", message);
    reply_refusal(q);
}

void conn_cut(struct conn *c, const char *code, const char *message)
{
    end_now(c, HTTP_REQUEST_TIMEOUT, code, message);
}

static void request_expired(struct conn *c)
{
    struct request *q = c->request;
    int64_t ms = c->lane->config->request_timeout / WEIR_NS_PER_MS;
    char text[80];
    if (c->phase != PHASE_WAIT) { /* in its head or its body */
        (void)snprintf(text, sizeof(text), "the request was not complete within %lld ms",
                       (long long)ms);
        conn_cut(c, "request_timeout", text);
        return;
    }
    if (q->state == REQUEST_QUEUED)
        request_unqueue(q);
    refuse(&q->refusal, HTTP_UNAVAILABLE, "timeout",
           "%s within %lld ms; send the request again, best with the same Idempotency-Key",
           q->open ? "it is not known whether the events were delivered"
                   : "the pipeline had no room for the request",
           (long long)ms);
    reply_refusal(q);
}

/* Nobody reads the answer: the kernel shall not keep it either. */
static void abort_send(struct conn *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    conn_close(c);
}

static struct conn *expired(const struct lane *s, enum deadline deadline)
{
    struct conn *c = s->deadlines[deadline].head;
    return c != NULL && c->deadline_ns <= s->now ? c : NULL;
}

void conn_expire(struct lane *s)
{
    struct conn *c;
    crowd_expire(s);
    while ((c = expired(s, DEADLINE_IDLE)) != NULL || (c = expired(s, DEADLINE_LINGER)) != NULL)
        conn_close(c);
    while ((c = expired(s, DEADLINE_SEND)) != NULL)
        abort_send(c);
    while ((c = expired(s, DEADLINE_REQUEST)) != NULL)
        request_expired(c);
    struct request *q;
    while ((q = s->ready.head) != NULL && q->queued_ns + s->config->max_wait <= s->now) {
        request_unqueue(q);
        refuse(&q->refusal, HTTP_TOO_MANY_REQUESTS, "busy",
               "the pipeline had no room for the request within %lld ms; nothing of it was taken",
               (long long)(s->config->max_wait / WEIR_NS_PER_MS));
        reply_refusal(q);
    }
}

int64_t conn_next_deadline(const struct lane *s)
{
    int64_t next = WEIR_NEVER;
    for (int i = 0; i < N_DEADLINES; i++) {
        const struct conn *c = s->deadlines[i].head;
        if (c != NULL && c->deadline_ns < next)
            next = c->deadline_ns;
    }
    if (s->ready.head != NULL && s->ready.head->queued_ns + s->config->max_wait < next)
        next = s->ready.head->queued_ns + s->config->max_wait;
    return next;
}

void conn_release_all(struct lane *s)
{
    struct conn *next = NULL;
    for (struct conn *c = s->deadlines[DEADLINE_REQUEST].head; c != NULL; c = next) {
        struct request *q = c->request;
        next = c->next;
        if (c->phase != PHASE_WAIT || q == NULL) {
            end_now(c, HTTP_UNAVAILABLE, "stopping",
                    "this server is stopping: send the request again, on a new connection");
            continue;
        }
        if (q->state == REQUEST_QUEUED)
            request_unqueue(q);
        refuse(&q->refusal, HTTP_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
        reply_refusal(q);
    }
}

bool conn_sending(const struct lane *s)
{
    return s->deadlines[DEADLINE_SEND].head != NULL || s->deadlines[DEADLINE_LINGER].head != NULL;
}

void conn_close_all(struct lane *s)
{
    for (int i = 0; i < N_DEADLINES; i++)
        while (s->deadlines[i].head != NULL)
            conn_close(s->deadlines[i].head);
    conn_free_dead(s);
}
