/* SPDX-License-Identifier: Apache-2.0
 *
 * A request from its first line to its end, and the queue of those that are complete and wait for
 * room in the pipeline. It outlives its connection while its events are on their way.
 */
#include "http_source.h"

#include <string.h>

#define FREE_REQUESTS_MAX 256

struct request *request_new(struct conn *c)
{
    struct lane *s = c->lane;
    struct request *q = s->free_requests;
    if (q != NULL) {
        s->free_requests = q->next;
        s->n_free_requests--;
        q->next = NULL;
    } else {
        q = s->h->alloc(sizeof(*q));
    }
    if (q == NULL)
        return NULL;
    q->lane = s;
    q->conn = c;
    q->path = -1;
    c->request = q;
    return q;
}

void request_free(struct request *take_q)
{
    struct lane *s = take_q->lane;
    parts_free(take_q);
    request_drop_body(take_q);
    request_charge(take_q, -take_q->charged);
    values_give_back(take_q);
    s->h->free(take_q->rejects);
    if (s->n_free_requests == FREE_REQUESTS_MAX) {
        s->h->free(take_q);
        return;
    }
    memset(take_q, 0, sizeof(*take_q));
    take_q->next = s->free_requests;
    s->free_requests = take_q;
    s->n_free_requests++;
}

void requests_close(struct lane *s)
{
    while (s->free_requests != NULL) {
        struct request *q = s->free_requests;
        s->free_requests = q->next;
        s->h->free(q);
    }
}

void request_charge(struct request *q, int64_t bytes)
{
    if (bytes == 0)
        return;
    q->charged += bytes;
    atomic_fetch_add_explicit(&q->lane->shared->in_flight, bytes, memory_order_relaxed);
}

int64_t request_others(const struct request *q)
{
    int64_t in_flight = atomic_load_explicit(&q->lane->shared->in_flight, memory_order_relaxed);
    int64_t own = q->charged + (q->conn != NULL ? inbuf_charge(q->conn->in) : 0);
    return in_flight > own ? in_flight - own : 0;
}

bool request_is_within(const struct request *q)
{
    int64_t others = request_others(q);
    return others == 0 ||
           (!q->lane->memory_short && others + q->charged <= q->lane->config->max_in_flight);
}

void request_drop_body(struct request *q)
{
    body_free(q->body);
    q->body = NULL;
}

struct weir_str request_bytes(const struct request *q)
{
    if (q->in_place)
        return weir_str_n(q->conn->in->data + q->conn->body_at, (size_t)q->content_length);
    return q->body != NULL ? weir_str_n(q->body->data, q->body->len) : weir_str_n("", 0);
}

void request_queue(struct request *q)
{
    struct lane *s = q->lane;
    if (q->in_place)
        request_charge(q, (int64_t)q->content_length);
    q->state = REQUEST_QUEUED;
    q->queued_ns = s->now;
    q->prev = s->ready.tail;
    q->next = NULL;
    *(s->ready.tail != NULL ? &s->ready.tail->next : &s->ready.head) = q;
    s->ready.tail = q;
}

void request_unqueue(struct request *q)
{
    struct lane *s = q->lane;
    *(q->prev != NULL ? &q->prev->next : &s->ready.head) = q->next;
    *(q->next != NULL ? &q->next->prev : &s->ready.tail) = q->prev;
    q->prev = q->next = NULL;
    q->state = REQUEST_REPLIED;
}

void request_leave(struct request *q)
{
    q->conn->request = NULL;
    q->conn = NULL;
    if (q->state == REQUEST_QUEUED)
        request_unqueue(q);
    if (!q->open)
        request_free(q);
}
