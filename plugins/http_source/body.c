/* SPDX-License-Identifier: Apache-2.0
 *
 * A request's body: collected as it comes, then its compression undone. Both within bounds,
 * whatever the head had promised: memory grows with what has arrived, never with what was
 * announced.
 */
#include "http_source.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FIRST_CAP (64u * 1024u)

void refuse(struct refusal *r, unsigned status, const char *code, const char *fmt, ...)
{
    va_list ap;
    r->status = status;
    r->code = code;
    r->item = -1;
    r->offset = -1;
    va_start(ap, fmt);
    (void)vsnprintf(r->message, sizeof(r->message), fmt, ap);
    va_end(ap);
}

static void refuse_memory(struct refusal *r)
{
    refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, "no_memory",
           "this server has no memory for the request now: send it again later");
}

void body_free(void *take_body)
{
    struct body *body = take_body;
    if (body != NULL)
        body->free(body);
}

/* A block with room for cap bytes that holds what `take_old` held. NULL on no memory: then
 * `take_old` is gone too. */
static struct body *body_grow(const struct weir_host *h, struct body *take_old, size_t cap)
{
    struct body *body = h->alloc(sizeof(*body) + cap);
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
    bool known = q->content_length != UINT64_MAX;
    size_t max = known ? (size_t)q->content_length : (size_t)q->lane->config->max_body;
    size_t grown = next_cap(cap, need, max);
    if (cap == 0 && known)
        grown = max < FIRST_CAP ? max : next_cap(FIRST_CAP / 2, need, max);
    q->body = body_grow(q->lane->h, q->body, grown);
    request_charge(q, q->body != NULL ? (int64_t)(grown - cap) : -q->charged);
    if (q->body == NULL)
        refuse_memory(&q->refusal);
    return q->body != NULL;
}

/* True while this request fits into what all requests together may hold; one alone always does. */
static bool within_flight(struct request *q)
{
    int64_t in_flight = atomic_load_explicit(&q->lane->shared->in_flight, memory_order_relaxed);
    return in_flight <= q->lane->config->max_in_flight || in_flight <= q->charged;
}

void body_append(struct request *q, const char *data, size_t n)
{
    int64_t max = q->lane->config->max_body;
    if (q->received > (uint64_t)max)
        refuse(&q->refusal, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has more than the %lld bytes that are taken", (long long)max);
    else if (body_reserve(q, n) && !within_flight(q))
        refuse(&q->refusal, MHD_HTTP_TOO_MANY_REQUESTS, "busy",
               "%lld bytes of requests wait for their delivery: send the request again later",
               (long long)q->lane->config->max_in_flight);
    if (q->refusal.status == 0) {
        memcpy(q->body->data + q->body->len, data, n);
        q->body->len += n;
        return;
    }
    request_drop_body(q);
    request_charge(q, -q->charged);
}

/* ---- gzip ---- */

static void *zlib_alloc(void *opaque, unsigned n, unsigned size)
{
    const struct weir_host *h = opaque;
    return h->alloc((size_t)n * size);
}

static void zlib_free(void *opaque, void *p)
{
    const struct weir_host *h = opaque;
    h->free(p);
}

/* One decompressor a lane, made when first needed. */
static bool inflate_start(struct lane *s)
{
    if (s->inflate_ready)
        return inflateReset(&s->inflate) == Z_OK;
    s->inflate =
        (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = (void *)(uintptr_t)s->h};
    s->inflate_ready = inflateInit2(&s->inflate, 15 + 16) == Z_OK; /* 16: a gzip header, checked */
    return s->inflate_ready;
}

static void refuse_gzip(struct refusal *why, size_t offset)
{
    refuse(why, MHD_HTTP_BAD_REQUEST, "bad_gzip",
           "the body is not a whole gzip stream (Content-Encoding: gzip): it breaks at byte %zu",
           offset);
    why->offset = (int64_t)offset;
}

/* A step of inflate; several gzip members in a row are one stream. Z_OK: more comes, Z_STREAM_END:
 * nothing does; else an error. */
static int inflate_more(z_stream *z)
{
    int rc = inflate(z, Z_NO_FLUSH);
    if (rc == Z_STREAM_END && z->avail_in != 0)
        rc = inflateReset(z);
    if (rc == Z_OK && z->avail_in == 0 && z->avail_out != 0)
        return Z_DATA_ERROR; /* it ends in the middle */
    return rc;
}

static struct body *gzip_decode(struct lane *s, struct weir_str in, size_t max, struct refusal *why)
{
    z_stream *z = &s->inflate;
    size_t guess = in.len < max / 4 ? in.len * 4 : max;
    struct body *out = inflate_start(s) ? body_grow(s->h, NULL, guess < 256 ? 256 : guess) : NULL;
    if (out == NULL) {
        refuse_memory(why);
        return NULL;
    }
    int rc = in.len != 0 ? Z_OK : Z_DATA_ERROR;
    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)in.len;
    while (rc == Z_OK) {
        if (out->len == out->cap && out->cap > max)
            break;
        if (out->len == out->cap) /* one byte more than allowed tells too long from just fitting */
            out = body_grow(s->h, out, next_cap(out->cap, out->cap + 1, max + 1));
        if (out == NULL) {
            refuse_memory(why);
            return NULL;
        }
        z->next_out = (Bytef *)out->data + out->len;
        z->avail_out = (uInt)(out->cap - out->len);
        rc = inflate_more(z);
        out->len = out->cap - z->avail_out;
    }
    if (rc == Z_STREAM_END && out->len <= max)
        return out;
    body_free(out);
    if (rc == Z_MEM_ERROR)
        refuse_memory(why);
    else if (rc != Z_OK && rc != Z_STREAM_END)
        refuse_gzip(why, in.len - z->avail_in);
    else
        refuse(why, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has more than %zu bytes when it is decompressed", max);
    return NULL;
}

/* Another encoding is a row here and its function above. */
static const struct decoder decoders[] = {
    {"gzip", gzip_decode},
    {"x-gzip", gzip_decode},
};

const struct decoder *decoder_find(struct weir_str name)
{
    for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++)
        if (name.len == strlen(decoders[i].name) &&
            strncasecmp(name.ptr, decoders[i].name, name.len) == 0)
            return &decoders[i];
    return NULL;
}
