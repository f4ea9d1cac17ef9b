/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's body, collected as it comes, within bounds whatever the head had promised: memory
 * grows with what has arrived, never with what was announced.
 */
#include "http_source.h"

#include <string.h>

#define FIRST_CAP (64u * 1024u)

void body_free(void *take_body)
{
    struct body *body = take_body;
    if (body != NULL)
        body->free(body);
}

struct body *body_grow(const struct weir_host *h, struct body *take_old, size_t cap)
{
    struct body *body = h->realloc(NULL, sizeof(*body) + cap); /* not zeroed */
    if (body != NULL) {
        body->free = h->free;
        body->cap = cap;
        body->len = take_old != NULL ? take_old->len : 0;
        if (body->len != 0)
            memcpy(body->data, take_old->data, body->len);
    }
    body_free(take_old);
    return body;
}

static size_t next_cap(size_t cap, size_t need, size_t max)
{
    cap = cap > max / 2 ? max : cap * 2;
    return cap < need ? need : cap;
}

static bool body_reserve(struct request *q, size_t n)
{
    size_t cap = q->body != NULL ? q->body->cap : 0;
    size_t need = (q->body != NULL ? q->body->len : 0) + n;
    if (need <= cap)
        return true;
    size_t max = q->chunked ? (size_t)q->lane->config->max_body : (size_t)q->content_length;
    size_t grown = next_cap(cap, need, max);
    if (cap == 0 && !q->chunked)
        grown = max < FIRST_CAP ? max : next_cap(FIRST_CAP / 2, need, max);
    q->body = body_grow(q->lane->h, q->body, grown);
    request_charge(q, q->body != NULL ? (int64_t)(grown - cap) : -q->charged);
    if (q->body == NULL)
        (void)refuse_memory(&q->refusal);
    return q->body != NULL;
}

static bool has_room(struct request *q, size_t n)
{
    if (!body_reserve(q, n))
        return false;
    if (request_is_within(q))
        return true;
    refuse(&q->refusal, HTTP_TOO_MANY_REQUESTS, "busy",
           "requests of %lld bytes wait for their delivery: send the request again later",
           (long long)request_others(q));
    request_drop_body(q);
    request_charge(q, -q->charged);
    return false;
}

size_t body_room(struct request *q, size_t want, char **ret)
{
    if (!has_room(q, 1))
        return 0;
    size_t room = q->body->cap - q->body->len;
    *ret = q->body->data + q->body->len;
    return room < want ? room : want;
}

void body_came(struct request *q, size_t n)
{
    q->body->len += n;
    q->received += n;
}

void body_append(struct request *q, const char *data, size_t n)
{
    int64_t max = q->lane->config->max_body;
    q->received += n;
    if (q->refusal.status != 0)
        return;
    if (q->received > (uint64_t)max) {
        refuse(&q->refusal, HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has more than the %lld bytes that are taken", (long long)max);
        request_drop_body(q);
        request_charge(q, -q->charged);
    } else if (has_room(q, n)) {
        memcpy(q->body->data + q->body->len, data, n);
        q->body->len += n;
    }
}
