/* SPDX-License-Identifier: Apache-2.0
 *
 * A body's compression undone: gzip, deflate and zstd. What comes out has two bounds, bytes and the
 * ratio to what was sent; the ratio counts from FREE_BYTES on, as small bodies may be all alike. A
 * bomb costs no more than one of the bounds. It counts in shared->in_flight as it grows, so that
 * lanes which decompress at the same time know of each other. Contexts are made once a lane, when
 * first needed.
 */
#include "http_source.h"

#include <string.h>
#include <strings.h>
#include <zstd.h>
#include <zstd_errors.h>

#define FREE_BYTES (1u << 20)
#define ZSTD_WINDOW_LOG_MAX 23 /* 8 MiB, what RFC 9659 allows for Content-Encoding */

/* Where a stream's bytes come from and go to. */
struct stream {
    struct request *q;
    const char *name, *bad; /* of the encoding; the code of what is none */
    struct weir_str in;
    size_t used; /* of in */
    struct body *out;
    size_t max;       /* beyond it the body is too large */
    bool ratio_first; /* max is what the ratio allows */
    bool busy;        /* other requests leave no room for it */
};

enum step { STEP_MORE, STEP_END, STEP_BAD, STEP_MEMORY };

/* ---- Bounds ---- */

static size_t bound(struct weir_str in, const struct config *cf, bool *ret_ratio)
{
    size_t max = (size_t)cf->max_decompressed, max_ratio = (size_t)cf->max_ratio;
    size_t by_ratio = in.len > max / max_ratio ? max : in.len * max_ratio;
    if (by_ratio < FREE_BYTES)
        by_ratio = FREE_BYTES;
    *ret_ratio = by_ratio < max;
    return *ret_ratio ? by_ratio : max;
}

/* As much of `want` bytes as other requests leave: all of it where there are none. */
static size_t room_beside(const struct stream *st, size_t want)
{
    const struct request *q = st->q;
    int64_t others = request_others(q), out = st->out != NULL ? (int64_t)st->out->cap : 0;
    int64_t left = q->lane->config->max_in_flight - others - (q->charged - out);
    if (others == 0 || left >= (int64_t)want)
        return want;
    return left > 0 ? (size_t)left : 0;
}

/* False: there is no room, or no memory (then out is NULL). */
static bool grow(struct stream *st, size_t want)
{
    size_t old = st->out != NULL ? st->out->cap : 0, cap = room_beside(st, want);
    st->busy = cap <= old;
    if (st->busy)
        return false;
    request_charge(st->q, (int64_t)(cap - old));
    st->busy = !request_is_within(st->q); /* another lane was faster */
    if (st->busy)
        return false;
    st->out = body_grow(st->q->lane->h, st->out, cap);
    return st->out != NULL;
}

/* Room for more; false: it is as large as it may be, or as `grow` says. One byte more than allowed
 * tells too long from just fitting. */
static bool make_room(struct stream *st)
{
    if (st->out->len < st->out->cap)
        return true;
    if (st->out->cap > st->max)
        return false;
    return grow(st, st->out->cap > st->max / 2 ? st->max + 1 : st->out->cap * 2);
}

static struct body *finish(struct stream *st, enum step step, struct refusal *why)
{
    if (st->busy) {
        body_free(st->out);
        refuse(why, HTTP_TOO_MANY_REQUESTS, "busy",
               "other requests wait for their delivery, and this one decompressed has no room "
               "beside them: send it again later");
        return NULL;
    }
    if (st->out == NULL || step == STEP_MEMORY) {
        body_free(st->out);
        (void)refuse_memory(why);
        return NULL;
    }
    if (step == STEP_END && st->out->len <= st->max)
        return st->out;
    body_free(st->out);
    if (step == STEP_BAD) {
        refuse(why, HTTP_BAD_REQUEST, st->bad,
               "the body is not one whole %s stream (Content-Encoding): it breaks at byte %zu",
               st->name, st->used);
        why->offset = (int64_t)st->used;
    } else if (st->ratio_first) {
        refuse(why, HTTP_CONTENT_TOO_LARGE, "ratio_too_high",
               "the body grows to more than %lld times of what was sent when it is decompressed",
               (long long)st->q->lane->config->max_ratio);
    } else {
        refuse(why, HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has more than %zu bytes when it is decompressed", st->max);
    }
    return NULL;
}

static bool stream_begin(struct stream *st, struct request *q, struct weir_str in,
                         struct refusal *why)
{
    *st = (struct stream){.q = q, .in = in};
    st->max = bound(in, q->lane->config, &st->ratio_first);
    size_t guess = in.len < st->max / 4 ? in.len * 4 : st->max;
    return grow(st, guess < 256 ? 256 : guess) || finish(st, STEP_MORE, why) != NULL;
}

/* ---- zlib ---- */

enum wrapper { WRAPPER_GZIP, WRAPPER_ZLIB, WRAPPER_NONE };

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

static z_stream *inflate_start(struct lane *s, enum wrapper wrapper)
{
    static const int bits[] = {[WRAPPER_GZIP] = 15 + 16, [WRAPPER_ZLIB] = 15, [WRAPPER_NONE] = -15};
    z_stream *z = &s->inflate[wrapper];
    if (s->inflate_ready[wrapper])
        return inflateReset(z) == Z_OK ? z : NULL;
    *z = (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = (void *)(uintptr_t)s->h};
    s->inflate_ready[wrapper] = inflateInit2(z, bits[wrapper]) == Z_OK;
    return s->inflate_ready[wrapper] ? z : NULL;
}

/* Several gzip members in a row are one stream; nothing may follow the others. */
static enum step inflate_step(struct stream *st, z_stream *z, bool members)
{
    z->next_out = (Bytef *)st->out->data + st->out->len;
    z->avail_out = (uInt)(st->out->cap - st->out->len);
    int rc = inflate(z, Z_NO_FLUSH);
    st->out->len = st->out->cap - z->avail_out;
    st->used = st->in.len - z->avail_in;
    if (rc == Z_STREAM_END && z->avail_in == 0)
        return STEP_END;
    if (rc == Z_STREAM_END)
        return members && inflateReset(z) == Z_OK ? STEP_MORE : STEP_BAD;
    if (rc == Z_MEM_ERROR)
        return STEP_MEMORY;
    if (rc != Z_OK || (z->avail_in == 0 && z->avail_out != 0))
        return STEP_BAD;
    return STEP_MORE;
}

static struct body *inflate_body(struct request *q, struct weir_str in, enum wrapper wrapper,
                                 struct refusal *why)
{
    struct stream st;
    z_stream *z = inflate_start(q->lane, wrapper);
    if (z == NULL) {
        (void)refuse_memory(why);
        return NULL;
    }
    if (!stream_begin(&st, q, in, why))
        return NULL;
    st.name = wrapper == WRAPPER_GZIP ? "gzip" : "deflate";
    st.bad = wrapper == WRAPPER_GZIP ? "bad_gzip" : "bad_deflate";
    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)in.len;
    enum step step = in.len != 0 ? STEP_MORE : STEP_BAD;
    while (step == STEP_MORE && make_room(&st))
        step = inflate_step(&st, z, wrapper == WRAPPER_GZIP);
    return finish(&st, step, why);
}

static struct body *gzip_decode(struct request *q, struct weir_str in, struct refusal *why)
{
    return inflate_body(q, in, WRAPPER_GZIP, why);
}

/* RFC 9110 means a zlib stream; some clients send it without zlib's head. */
static struct body *deflate_decode(struct request *q, struct weir_str in, struct refusal *why)
{
    const unsigned char *p = (const unsigned char *)in.ptr;
    bool zlib = in.len >= 2 && (p[0] & 0x0f) == 8 && (p[0] * 256 + p[1]) % 31 == 0;
    return inflate_body(q, in, zlib ? WRAPPER_ZLIB : WRAPPER_NONE, why);
}

/* ---- zstd ---- */

static ZSTD_DCtx *zstd_start(struct lane *s)
{
    if (s->zstd == NULL) {
        s->zstd = ZSTD_createDCtx();
        if (s->zstd != NULL)
            (void)ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    } else {
        (void)ZSTD_DCtx_reset(s->zstd, ZSTD_reset_session_only);
    }
    return s->zstd;
}

static enum step zstd_step(struct stream *st, ZSTD_DCtx *z)
{
    ZSTD_inBuffer in = {st->in.ptr, st->in.len, st->used};
    ZSTD_outBuffer out = {st->out->data, st->out->cap, st->out->len};
    size_t rc = ZSTD_decompressStream(z, &out, &in);
    st->out->len = out.pos;
    st->used = in.pos;
    if (ZSTD_isError(rc))
        return ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation ? STEP_MEMORY : STEP_BAD;
    if (in.pos < in.size || out.pos == out.size)
        return rc == 0 && in.pos == in.size ? STEP_END : STEP_MORE;
    return rc == 0 ? STEP_END : STEP_BAD; /* it ends in the middle */
}

static struct body *zstd_decode(struct request *q, struct weir_str in, struct refusal *why)
{
    struct stream st;
    ZSTD_DCtx *z = zstd_start(q->lane);
    if (z == NULL) {
        (void)refuse_memory(why);
        return NULL;
    }
    if (!stream_begin(&st, q, in, why))
        return NULL;
    st.name = "zstd";
    st.bad = "bad_zstd";
    enum step step = in.len != 0 ? STEP_MORE : STEP_BAD;
    while (step == STEP_MORE && make_room(&st))
        step = zstd_step(&st, z);
    return finish(&st, step, why);
}

/* ---- All ---- */

static const struct decoder decoders[] = {
    {"gzip", gzip_decode},
    {"x-gzip", gzip_decode},
    {"deflate", deflate_decode},
    {"zstd", zstd_decode},
};

const struct decoder *decoder_find(struct weir_str name)
{
    for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++)
        if (str_is(name, decoders[i].name))
            return &decoders[i];
    return NULL;
}

void decoders_close(struct lane *s)
{
    for (size_t i = 0; i < sizeof(s->inflate) / sizeof(s->inflate[0]); i++)
        if (s->inflate_ready[i])
            (void)inflateEnd(&s->inflate[i]);
    (void)ZSTD_freeDCtx(s->zstd);
}
