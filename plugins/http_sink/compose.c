/* SPDX-License-Identifier: Apache-2.0
 *
 * The body of a request. A payload goes in byte for byte, but that newlines between the tokens of a
 * JSON text become spaces where a newline ends an item. The line of application/x-weir+ndjson is
 * described with the http source, which reads it.
 */
#include "http_sink.h"

#include <stdio.h>
#include <string.h>

#define KEEP_MAX (8u << 20)

/* ---- A growing buffer ---- */

static bool text_reserve(struct text *t, size_t more)
{
    if (t->failed)
        return false;
    if (more <= t->cap - t->len)
        return true;
    size_t cap = t->cap < 4096 ? 4096 : t->cap * 2;
    if (cap < t->len + more)
        cap = t->len + more;
    char *grown = t->h->realloc(t->ptr, cap);
    if (grown == NULL) {
        t->failed = true;
        return false;
    }
    t->ptr = grown;
    t->cap = cap;
    return true;
}

void text_add(struct text *t, struct weir_str s)
{
    if (s.len == 0 || !text_reserve(t, s.len))
        return;
    memcpy(t->ptr + t->len, s.ptr, s.len);
    t->len += s.len;
}

void text_cstr(struct text *t, const char *s)
{
    text_add(t, weir_cstr(s));
}

void text_base64(struct text *t, struct weir_str in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)(unsigned char)in.ptr[i] << 16;
        if (left > 1)
            bits |= (uint32_t)(unsigned char)in.ptr[i + 1] << 8;
        if (left > 2)
            bits |= (unsigned char)in.ptr[i + 2];
        char out[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                       left > 1 ? digits[bits >> 6 & 63] : '=', left > 2 ? digits[bits & 63] : '='};
        text_add(t, weir_str_n(out, 4));
    }
}

void text_clear(struct text *t)
{
    if (t->cap > KEEP_MAX)
        text_done(t);
    t->len = 0;
    t->failed = false;
}

void text_done(struct text *t)
{
    if (t->h != NULL)
        t->h->free(t->ptr);
    *t = (struct text){.h = t->h};
}

/* ---- What can be sent ---- */

const char *payload_refused(const struct weir_host *h, enum format format,
                            const struct weir_event *ev, struct weir_str payload,
                            struct weir_arena *arena, struct weir_str *ret_message)
{
    struct weir_error err = {.offset = -1};
    bool raw = (ev->flags & WEIR_EVENT_RAW) != 0;
    if ((ev->flags & WEIR_EVENT_TOMB) != 0) {
        *ret_message = weir_cstr("the event is a tombstone: only format weir can carry it");
        return format == FORMAT_WEIR ? NULL : "no_payload";
    }
    if (raw) {
        *ret_message = weir_cstr("the payload is not JSON (codec: raw): only formats single and "
                                 "weir can carry it");
        return format == FORMAT_WEIR || format == FORMAT_SINGLE ? NULL : "not_json";
    }
    if (format == FORMAT_SINGLE || ev->value != NULL)
        return NULL;
    /* Untouched until here: unchecked bytes among others could pass for several events. */
    h->arena_clear(arena);
    if (h->value_parse(arena, payload, &err) != NULL)
        return NULL;
    *ret_message = h->arena_printf(h->scratch(h), "the payload is not JSON: %s", err.text);
    return "bad_json";
}

/* ---- Formats ---- */

/* A JSON text without newlines; they can only stand between its tokens. */
static void add_line(struct text *t, struct weir_str payload)
{
    size_t from = t->len;
    text_add(t, payload);
    if (t->failed)
        return;
    char *at = t->ptr + from, *end = t->ptr + t->len;
    if (memchr(at, '\n', payload.len) == NULL && memchr(at, '\r', payload.len) == NULL)
        return;
    for (; at < end; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
}

static void add_base64(struct text *t, struct weir_str in)
{
    text_cstr(t, "\"");
    text_base64(t, in);
    text_cstr(t, "\"");
}

static bool is_plain(struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < ' ' || s.ptr[i] > '~' || s.ptr[i] == '"' || s.ptr[i] == '\\')
            return false;
    return true;
}

/* s as a JSON string; false where it is not UTF-8. */
static bool add_string(struct text *t, struct weir_str s, struct weir_arena *arena)
{
    if (is_plain(s)) {
        text_cstr(t, "\"");
        text_add(t, s);
        text_cstr(t, "\"");
        return true;
    }
    t->h->arena_clear(arena);
    const struct weir_value *v = t->h->make_str(arena, s);
    struct weir_str json = v != NULL ? t->h->value_write(arena, v) : weir_str_n(NULL, 0);
    text_add(t, json);
    return json.ptr != NULL;
}

/* {"a":1,"b":2}: the member's name, behind a comma where it is not the first. */
static void add_name(struct text *t, const char *name, bool *first)
{
    text_cstr(t, *first ? "{\"" : ",\"");
    *first = false;
    text_cstr(t, name);
    text_cstr(t, "\":");
}

/* A member of bytes: as text where they are UTF-8, else as base64 by its other name. */
static void add_bytes(struct text *t, const char *name, const char *name_base64,
                      struct weir_str bytes, bool *first, struct weir_arena *arena)
{
    size_t before = t->len;
    bool was_first = *first;
    if (bytes.ptr == NULL)
        return;
    add_name(t, name, first);
    if (add_string(t, bytes, arena))
        return;
    t->len = before;
    *first = was_first;
    add_name(t, name_base64, first);
    add_base64(t, bytes);
}

static void add_headers(struct text *t, const struct weir_event *ev, struct weir_arena *arena)
{
    for (uint32_t i = 0; i < ev->n_headers; i++) {
        bool first = true;
        text_cstr(t, i == 0 ? "[" : ",");
        add_bytes(t, "name", "name_base64", ev->headers[i].name, &first, arena);
        add_bytes(t, "value", "value_base64", ev->headers[i].value, &first, arena);
        text_cstr(t, first ? "{}" : "}");
    }
    text_cstr(t, "]");
}

static void add_weir(struct text *t, const struct item *it, struct weir_arena *arena)
{
    const struct weir_event *ev = it->ev;
    bool first = true;
    if (ev->id.len != 0)
        add_bytes(t, "id", "id_base64", ev->id, &first, arena);
    add_bytes(t, "key", "key_base64", ev->key, &first, arena);
    if (ev->time_ns > 0) {
        char digits[24];
        int n = snprintf(digits, sizeof(digits), "%lld", (long long)ev->time_ns);
        add_name(t, "time_ns", &first);
        text_add(t, weir_str_n(digits, (size_t)n));
    }
    if (ev->n_headers != 0) {
        add_name(t, "headers", &first);
        add_headers(t, ev, arena);
    }
    if ((ev->flags & WEIR_EVENT_RAW) != 0) {
        add_name(t, "payload_base64", &first);
        add_base64(t, it->payload);
    } else if ((ev->flags & WEIR_EVENT_TOMB) == 0) {
        add_name(t, "payload", &first);
        add_line(t, it->payload);
    } else {
        add_name(t, "tombstone", &first);
        text_cstr(t, "true");
    }
    text_cstr(t, "}\n");
}

void compose(struct text *out, enum format format, const struct item *items, uint32_t n,
             struct weir_arena *arena)
{
    text_clear(out);
    if (format == FORMAT_ARRAY)
        text_cstr(out, "[");
    for (uint32_t i = 0; i < n; i++) {
        switch (format) {
        case FORMAT_NDJSON:
            add_line(out, items[i].payload);
            text_cstr(out, "\n");
            break;
        case FORMAT_ARRAY:
            text_cstr(out, i == 0 ? "" : ",");
            text_add(out, items[i].payload);
            break;
        case FORMAT_SINGLE:
            text_add(out, items[i].payload);
            break;
        case FORMAT_WEIR:
            add_weir(out, &items[i], arena);
            break;
        }
    }
    if (format == FORMAT_ARRAY)
        text_cstr(out, "]");
}

/* ---- Compression ---- */

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

bool compress_body(struct text *out, z_stream *z, bool *z_ready, const struct text *in)
{
    if (!*z_ready) {
        *z = (z_stream){
            .zalloc = zlib_alloc, .zfree = zlib_free, .opaque = (void *)(uintptr_t)in->h};
        *z_ready =
            deflateInit2(z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    } else if (deflateReset(z) != Z_OK) {
        return false;
    }
    text_clear(out);
    if (!*z_ready || !text_reserve(out, deflateBound(z, (uLong)in->len)))
        return false;
    z->next_in = (Bytef *)in->ptr;
    z->avail_in = (uInt)in->len;
    z->next_out = (Bytef *)out->ptr;
    z->avail_out = (uInt)out->cap;
    if (deflate(z, Z_FINISH) != Z_STREAM_END)
        return false;
    out->len = out->cap - z->avail_out;
    return true;
}
