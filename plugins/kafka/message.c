/* SPDX-License-Identifier: Apache-2.0
 *
 * A message of librdkafka → an event. Messages up to 4 KiB are copied into the batch, because one
 * pins the whole fetch that it came with; larger ones are attached and copied never.
 */
#include "source.h"

#include <string.h>

#define COPY_MOST 4096
/* A longer `weir-id` header is no id of ours. */
#define ID_MOST 512

/* An attached message: `m` is set once the batch has it, so that a refused attachment gives it
 * back. May outlive the instance's host. */
struct attached {
    struct source *source;
    void (*free)(void *);
    rd_kafka_message_t *m;
};

static void dispose(void *arg)
{
    struct attached *a = arg;
    if (a->m != NULL) {
        atomic_fetch_sub(&a->source->n_attached, 1);
        rd_kafka_message_destroy(a->m); /* the source may go with the last one */
    }
    a->free(a);
}

static bool attach(struct source *s, struct weir_batch *b, rd_kafka_message_t *m, size_t bytes)
{
    const struct weir_host *h = s->client.host;
    struct attached *a = h->alloc(sizeof(*a));
    if (a == NULL)
        return false;
    a->source = s;
    a->free = h->free;
    if (!h->batch_attach(b, dispose, a, bytes))
        return false;
    a->m = m;
    atomic_fetch_add(&s->n_attached, 1);
    return true;
}

/* Text that can be an id everywhere: valid UTF-8 without control characters. */
static bool id_valid(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (n == 0 || n > ID_MOST)
        return false;
    for (size_t i = 0; i < n;) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4 || i + more >= n)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) ||
            (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

/* A view of the bytes, or with `copy` a copy in the arena. A NULL pointer stays one; the empty text
 * does not become one. False when memory is used up. */
static bool keep(const struct weir_host *h, struct weir_arena *a, bool copy, const void *ptr,
                 size_t n, struct weir_str *ret)
{
    if (ptr == NULL || !copy) {
        *ret = weir_str_n(ptr, ptr != NULL ? n : 0);
        return true;
    }
    char *to = h->arena_alloc(a, n > 0 ? n : 1);
    if (to == NULL)
        return false;
    if (n > 0)
        memcpy(to, ptr, n);
    *ret = weir_str_n(to, n);
    return true;
}

/* Bytes of the message's headers; *ret is NULL where it has none. */
static size_t header_bytes(rd_kafka_message_t *m, rd_kafka_headers_t **ret)
{
    const char *name;
    const void *value;
    size_t size, bytes = 0;
    *ret = NULL;
    if (rd_kafka_message_headers(m, ret) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    for (size_t i = 0;
         rd_kafka_header_get_all(*ret, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
        bytes += strlen(name) + size;
    return bytes;
}

/* Headers of the event: all but `weir-id`, which gives its id. */
static bool add_headers(const struct weir_host *h, struct weir_arena *a, bool copy,
                        const rd_kafka_headers_t *headers, struct weir_event *ev)
{
    const char *name;
    const void *value;
    size_t size, n = rd_kafka_header_cnt(headers);
    struct weir_header *out = h->arena_alloc(a, n * sizeof(*out) + 1);
    if (out == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (rd_kafka_header_get_all(headers, i, &name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        bool is_id = strcmp(name, "weir-id") == 0 && value != NULL && id_valid(value, size);
        struct weir_header *to = &out[ev->n_headers];
        if (!keep(h, a, copy, value, size, is_id ? &ev->id : &to->value))
            return false;
        if (is_id)
            continue;
        if (!keep(h, a, copy, name, strlen(name), &to->name))
            return false;
        ev->n_headers++;
    }
    ev->headers = out;
    return true;
}

/* Payload, key and headers. Attaches last: nothing can fail behind it. */
static bool fill(struct source *s, struct weir_batch *b, struct weir_event *ev,
                 rd_kafka_message_t *m, size_t *ret_bytes)
{
    const struct weir_host *h = s->client.host;
    rd_kafka_headers_t *headers;
    size_t bytes = m->len + m->key_len + header_bytes(m, &headers);
    bool copy = bytes <= COPY_MOST;
    *ret_bytes = bytes;
    if (m->payload == NULL)
        ev->flags |= WEIR_EVENT_TOMB;
    return keep(h, b->arena, copy, m->payload, m->len, &ev->payload) &&
           keep(h, b->arena, copy, m->key, m->key_len, &ev->key) &&
           (headers == NULL || add_headers(h, b->arena, copy, headers, ev)) &&
           (copy || attach(s, b, m, bytes));
}

bool message_emit(struct source *s, struct weir_batch *b, struct part *p,
                  const struct weir_origin *origin, rd_kafka_message_t *take_m, size_t *ret_bytes)
{
    const struct weir_host *h = s->client.host;
    uint32_t before = b->n_events;
    struct weir_event *ev = h->event_add(b);
    if (ev == NULL)
        return false;
    rd_kafka_timestamp_type_t kind;
    int64_t time_ms = rd_kafka_message_timestamp(take_m, &kind);
    bool known = time_ms > 0 && time_ms < INT64_MAX / WEIR_NS_PER_MS;
    ev->time_ns = known ? time_ms * WEIR_NS_PER_MS : 0;
    ev->origin = origin;
    ev->stream = p->stream;
    ev->position = take_m->offset;
    ev->next = take_m->offset + 1;
    if (!mark_event(s, b, p, time_ms, ev) || !fill(s, b, ev, take_m, ret_bytes)) {
        h->batch_truncate(b, before);
        return false;
    }
    if (p->first_offset == NO_OFFSET)
        p->first_offset = take_m->offset;
    p->poll = s->n_polls;
    p->last_offset = take_m->offset;
    p->last_time_ms = time_ms;
    p->last_len = take_m->len;
    mark_emitted(s, p, take_m->offset, time_ms);
    if (*ret_bytes <= COPY_MOST)
        rd_kafka_message_destroy(take_m);
    return true;
}
