/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes an event's line: the payload as it is, or an object of payload and metadata, whose members
 * have the names that application/x-weir+ndjson gives them.
 *
 * A line holds no line break. In JSON a raw one can stand between tokens only (strings escape it),
 * so it becomes a space there and every other byte stays; in an opaque payload it could be
 * anything, so that event is refused. Called by sink.c, under its lock.
 */
#include "format.h"

#include <string.h>

#define MIN_CAP ((size_t)256 << 10)

const char *const format_words[] = {"payload", "full", NULL};

void text_put(struct text *t, const char *ptr, size_t len)
{
    if (t->cap - t->len < len) {
        size_t cap = t->cap == 0 ? MIN_CAP : t->cap;
        while (cap - t->len < len)
            cap *= 2;
        char *grown = t->h->realloc(t->ptr, cap);
        if (grown == NULL) {
            t->failed = true;
            return;
        }
        t->ptr = grown;
        t->cap = cap;
    }
    if (len > 0)
        memcpy(t->ptr + t->len, ptr, len);
    t->len += len;
}

void text_done(struct text *t)
{
    if (t->ptr != NULL)
        t->h->free(t->ptr);
    t->ptr = NULL;
    t->len = 0;
    t->cap = 0;
}

static void put_str(struct text *t, struct weir_str s)
{
    text_put(t, s.ptr, s.len);
}

/* JSON text with its line breaks, which are white space there, as spaces. */
static void put_json(struct text *t, struct weir_str json)
{
    size_t start = t->len;
    put_str(t, json);
    if (t->failed)
        return;
    char *p = t->ptr + start;
    char *end = p + json.len;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL)
        *p++ = ' ';
}

/* ---- Full ------------------------------------------------------------------------------------ */

static struct weir_str base64(struct weir_arena *a, const struct weir_host *h, struct weir_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = (s.len + 2) / 3 * 4;
    char *out = h->arena_alloc(a, len + 1);
    if (out == NULL)
        return weir_str_n(NULL, 0);
    const unsigned char *in = (const unsigned char *)s.ptr;
    char *p = out;
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)in[i] << 16;
        v |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        v |= n > 2 ? in[i + 2] : 0;
        *p++ = digits[v >> 18];
        *p++ = digits[v >> 12 & 63];
        *p++ = n > 1 ? digits[v >> 6 & 63] : '=';
        *p++ = n > 2 ? digits[v & 63] : '=';
    }
    return weir_str_n(out, len);
}

/* Sets obj[name] to s; bytes that are no UTF-8 go as base64 to obj[name + "_base64"]. */
static bool set_bytes(const struct weir_host *h, struct weir_arena *a, struct weir_value *obj,
                      const char *name, struct weir_str s)
{
    struct weir_value *v = h->make_str(a, s);
    if (v != NULL)
        return h->object_set(a, obj, weir_cstr(name), v);
    v = h->make_str(a, base64(a, h, s));
    return h->object_set(a, obj, h->arena_printf(a, "%s_base64", name), v);
}

static bool set_origin(const struct weir_host *h, struct weir_arena *a, struct weir_value *obj,
                       const struct weir_event *ev)
{
    if (ev->origin == NULL)
        return true;
    struct weir_value *origin = h->make_object(a);
    bool ok = set_bytes(h, a, origin, "name", ev->origin->name);
    if (ev->origin->partition >= 0)
        ok = ok && h->object_set(a, origin, weir_cstr("partition"),
                                 h->make_int(a, ev->origin->partition));
    ok = ok && h->object_set(a, origin, weir_cstr("position"), h->make_int(a, ev->position));
    return ok && h->object_set(a, obj, weir_cstr("origin"), origin);
}

static bool set_headers(const struct weir_host *h, struct weir_arena *a, struct weir_value *obj,
                        const struct weir_event *ev)
{
    if (ev->n_headers == 0)
        return true;
    struct weir_value *list = h->make_array(a);
    bool ok = list != NULL;
    for (uint32_t i = 0; ok && i < ev->n_headers; i++) {
        struct weir_value *header = h->make_object(a);
        ok = set_bytes(h, a, header, "name", ev->headers[i].name) &&
             set_bytes(h, a, header, "value", ev->headers[i].value) &&
             h->array_append(a, list, header);
    }
    return ok && h->object_set(a, obj, weir_cstr("headers"), list);
}

/* The metadata as an object's text; empty on no memory. */
static struct weir_str metadata(const struct weir_host *h, struct weir_batch *b,
                                struct weir_event *ev, struct weir_arena *a)
{
    struct weir_value *obj = h->make_object(a);
    bool ok = set_bytes(h, a, obj, "id", h->event_id(h, b, ev));
    if (ok && ev->time_ns != 0)
        ok = h->object_set(a, obj, weir_cstr("time_ns"), h->make_int(a, ev->time_ns));
    if (ok && ev->key.ptr != NULL)
        ok = set_bytes(h, a, obj, "key", ev->key);
    ok = ok && set_origin(h, a, obj, ev) && set_headers(h, a, obj, ev);
    return ok ? h->value_write(a, obj) : weir_str_n(NULL, 0);
}

/* FORMAT_OK where the payload is JSON, FORMAT_LINE_BREAK where it is not. */
static enum format_result look_at_json(const struct weir_host *h, const struct weir_event *ev,
                                       struct weir_str payload, struct weir_arena *a)
{
    struct weir_error err = {0};
    if ((ev->flags & WEIR_EVENT_RAW) != 0)
        return FORMAT_LINE_BREAK;
    if (ev->value != NULL || h->value_parse(a, payload, &err) != NULL)
        return FORMAT_OK;
    return err.status == WEIR_E_NOMEM ? FORMAT_NO_MEMORY : FORMAT_LINE_BREAK;
}

static enum format_result put_full(struct text *t, struct weir_batch *b, struct weir_event *ev,
                                   struct weir_arena *a)
{
    const struct weir_host *h = t->h;
    struct weir_str head = metadata(h, b, ev, a);
    if (head.len < 2)
        return FORMAT_NO_MEMORY;
    text_put(t, head.ptr, head.len - 1);
    struct weir_str payload = h->event_payload(h, b, ev);
    if ((ev->flags & WEIR_EVENT_TOMB) != 0) {
        put_str(t, weir_cstr(",\"tombstone\":true}\n"));
        return FORMAT_OK;
    }
    enum format_result json = look_at_json(h, ev, payload, a);
    if (json == FORMAT_NO_MEMORY)
        return json;
    if (json == FORMAT_OK) {
        put_str(t, weir_cstr(",\"payload\":"));
        put_json(t, payload);
        put_str(t, weir_cstr("}\n"));
        return FORMAT_OK;
    }
    struct weir_str text = base64(a, h, payload);
    if (text.ptr == NULL)
        return FORMAT_NO_MEMORY;
    put_str(t, weir_cstr(",\"payload_base64\":\""));
    put_str(t, text);
    put_str(t, weir_cstr("\"}\n"));
    return FORMAT_OK;
}

/* ---- Payload --------------------------------------------------------------------------------- */

static enum format_result put_payload(struct text *t, struct weir_batch *b, struct weir_event *ev,
                                      struct weir_arena *a)
{
    if ((ev->flags & WEIR_EVENT_TOMB) != 0)
        return FORMAT_TOMBSTONE;
    struct weir_str payload = t->h->event_payload(t->h, b, ev);
    if (payload.len == 0 || memchr(payload.ptr, '\n', payload.len) == NULL) {
        put_str(t, payload);
    } else { /* perhaps nobody has looked at it yet */
        enum format_result json = look_at_json(t->h, ev, payload, a);
        if (json != FORMAT_OK)
            return json;
        put_json(t, payload);
    }
    text_put(t, "\n", 1);
    return FORMAT_OK;
}

enum format_result format_event(struct text *t, enum format format, struct weir_batch *b,
                                struct weir_event *ev, struct weir_arena *a)
{
    size_t before = t->len;
    t->failed = false;
    enum format_result result =
        format == FORMAT_FULL ? put_full(t, b, ev, a) : put_payload(t, b, ev, a);
    if (result == FORMAT_OK && t->failed)
        result = FORMAT_NO_MEMORY;
    if (result != FORMAT_OK)
        t->len = before;
    return result;
}
