/* SPDX-License-Identifier: Apache-2.0
 *
 * Records: see disk_record.h for their form. Knows nothing of files.
 */
#include <engine/disk_record.h>

#include <base/crc32c.h>
#include <base/str.h>
#include <engine/runtime.h>

#define FLAG_RAW 1u
#define FLAG_TOMB 2u
#define FLAG_DEAD 4u     /* an envelope of a dead letter */
#define FLAG_ITEM 8u     /* position is the item of a request */
#define FLAG_KEY 16u     /* there is a key, be it empty */
#define FLAG_ORIGIN 32u
#define FLAG_SOURCE 64u  /* the source payload differs from the payload */
#define FLAG_PAYLOAD 128u
#define FLAG_NO_SOURCE 256u /* what the source gave was a tombstone, which the payload is not */
#define FLAGS_KNOWN 511u
#define NO_TEXT UINT32_MAX /* length of a header's value that is NULL */

enum { AT_MARKER = 0, AT_LENGTH = 4, AT_CRC = 8, AT_FLAGS = 12, AT_SEQ = 16, AT_TIME = 24,
       AT_ENTERED = 32, AT_POSITION = 40, AT_PARTITION = 48, AT_LENGTHS = 52 };
enum { PAYLOAD, SOURCE, KEY, ID, ORIGIN, HEADERS, N_LENGTHS };

static uint32_t crc_of(const uint8_t *record, size_t length, uint32_t marker)
{
    uint32_t crc = wr_crc32c(marker, record, AT_CRC);
    return wr_crc32c(crc, record + AT_FLAGS, length - AT_FLAGS);
}

/* ---- Writing ---- */

static bool is_same(struct weir_str a, struct weir_str b)
{
    if (a.ptr == b.ptr)
        return a.len == b.len;
    return a.ptr != NULL && b.ptr != NULL && wr_str_eq(a, b); /* none and an empty one are two things */
}

/* The source payload where it is to be kept and is another one; else, and where it is a tombstone, none. */
static struct weir_str source_of(const struct weir_event *ev, bool keep_source, uint32_t *ret_flag)
{
    struct weir_str source = keep_source ? wr_event_source_payload(ev) : ev->payload;
    bool same = is_same(source, ev->payload);
    *ret_flag = same ? 0 : source.ptr != NULL ? FLAG_SOURCE : FLAG_NO_SOURCE;
    return same ? weir_str_n(NULL, 0) : source;
}

static size_t padded(size_t size)
{
    return (size + WR_RECORD_ALIGN - 1) & ~(size_t)(WR_RECORD_ALIGN - 1);
}

size_t wr_record_size(const struct weir_event *ev, bool keep_source)
{
    uint32_t flag;
    size_t size = WR_RECORD_HEAD + ev->payload.len + source_of(ev, keep_source, &flag).len + ev->key.len +
                  ev->id.len + (ev->origin != NULL ? ev->origin->name.len : 0);
    for (uint32_t i = 0; i < ev->n_headers && size <= WR_RECORD_MAX; i++)
        size += 8 + ev->headers[i].name.len + ev->headers[i].value.len;
    size = padded(size);
    return size <= WR_RECORD_MAX ? size : 0;
}

static uint8_t *put_text(uint8_t *at, struct weir_str s)
{
    if (s.len != 0)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

static uint8_t *put_headers(uint8_t *at, const struct weir_event *ev)
{
    for (uint32_t i = 0; i < ev->n_headers; i++) {
        struct weir_str name = ev->headers[i].name, value = ev->headers[i].value;
        wr_put32(at, (uint32_t)name.len);
        wr_put32(at + 4, value.ptr != NULL ? (uint32_t)value.len : NO_TEXT);
        at = put_text(put_text(at + 8, name), value);
    }
    return at;
}

static uint32_t flags_of(const struct weir_event *ev)
{
    return ((ev->flags & WEIR_EVENT_RAW) != 0 ? FLAG_RAW : 0) |
           ((ev->flags & WEIR_EVENT_TOMB) != 0 ? FLAG_TOMB : 0) |
           ((ev->flags & WR_EVENT_DEAD) != 0 ? FLAG_DEAD : 0) | (wr_event_is_item(ev) ? FLAG_ITEM : 0) |
           (ev->key.ptr != NULL ? FLAG_KEY : 0) | (ev->origin != NULL ? FLAG_ORIGIN : 0) |
           (ev->payload.ptr != NULL ? FLAG_PAYLOAD : 0);
}

size_t wr_record_write(uint8_t *out, const struct weir_event *ev, bool keep_source, uint32_t marker,
                       uint64_t seq, int64_t entered_ns)
{
    static const struct weir_origin nowhere = {{NULL, 0}, -1};
    const struct weir_origin *origin = ev->origin != NULL ? ev->origin : &nowhere;
    uint32_t source_flag;
    struct weir_str source = source_of(ev, keep_source, &source_flag);
    const struct weir_str texts[] = {ev->payload, source, ev->key, ev->id, origin->name};
    wr_put32(out + AT_MARKER, marker);
    wr_put32(out + AT_FLAGS, flags_of(ev) | source_flag);
    wr_put64(out + AT_SEQ, seq);
    wr_put64(out + AT_TIME, (uint64_t)ev->time_ns);
    wr_put64(out + AT_ENTERED, (uint64_t)entered_ns);
    wr_put64(out + AT_POSITION, (uint64_t)ev->position);
    wr_put32(out + AT_PARTITION, (uint32_t)origin->partition);
    uint8_t *at = out + WR_RECORD_HEAD;
    for (int i = PAYLOAD; i <= ORIGIN; i++) {
        wr_put32(out + AT_LENGTHS + 4 * i, (uint32_t)texts[i].len);
        at = put_text(at, texts[i]);
    }
    wr_put32(out + AT_LENGTHS + 4 * HEADERS, ev->n_headers);
    at = put_headers(at, ev);
    size_t len = (size_t)(at - out), size = padded(len);
    memset(at, 0, size - len);
    wr_put32(out + AT_LENGTH, (uint32_t)size);
    wr_put32(out + AT_CRC, crc_of(out, size, marker));
    return size;
}

/* ---- Reading ---- */

/* Where the texts lie adds up to what there is: looked at behind the CRC, against records that were made
 * to deceive. */
static bool texts_fit(const uint8_t *record, size_t length)
{
    size_t left = length - WR_RECORD_HEAD;
    for (int i = PAYLOAD; i <= ORIGIN; i++) {
        uint32_t len = wr_get32(record + AT_LENGTHS + 4 * i);
        if (len > left)
            return false;
        left -= len;
    }
    const uint8_t *at = record + length - left;
    uint32_t n = wr_get32(record + AT_LENGTHS + 4 * HEADERS);
    for (uint32_t i = 0; i < n; i++) {
        if (left < 8)
            return false;
        uint32_t name = wr_get32(at), value = wr_get32(at + 4);
        left -= 8;
        if (name > left || (value != NO_TEXT && value > left - name))
            return false;
        size_t len = (size_t)name + (value != NO_TEXT ? value : 0);
        left -= len;
        at += 8 + len;
    }
    return left < WR_RECORD_ALIGN;
}

enum wr_record_state wr_record_read(const uint8_t *p, size_t len, uint32_t marker,
                                    struct wr_record *ret, size_t *ret_need)
{
    *ret_need = WR_RECORD_HEAD;
    if (len >= 4 && wr_get32(p) != marker)
        return WR_RECORD_BAD;
    if (len < WR_RECORD_HEAD)
        return WR_RECORD_SHORT;
    uint32_t length = wr_get32(p + AT_LENGTH);
    if (length < WR_RECORD_HEAD || length > WR_RECORD_MAX || length % WR_RECORD_ALIGN != 0)
        return WR_RECORD_BAD;
    *ret_need = length;
    if (length > len)
        return WR_RECORD_SHORT;
    uint64_t seq = wr_get64(p + AT_SEQ);
    if (wr_get32(p + AT_CRC) != crc_of(p, length, marker) || seq >= WR_SEQ_MAX ||
        (wr_get32(p + AT_FLAGS) & ~FLAGS_KNOWN) != 0 || !texts_fit(p, length))
        return WR_RECORD_BAD;
    *ret = (struct wr_record){p, length, seq, (int64_t)wr_get64(p + AT_ENTERED)};
    return WR_RECORD_OK;
}

static bool read_headers(const uint8_t *at, uint32_t n, struct weir_arena *a, struct weir_event *ev)
{
    struct weir_header *headers = n != 0 ? wr_arena_alloc(a, n * sizeof(*headers)) : NULL;
    if (n != 0 && headers == NULL)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t name = wr_get32(at), value = wr_get32(at + 4);
        bool any = value != NO_TEXT;
        at += 8;
        headers[i].name = weir_str_n((const char *)at, name);
        headers[i].value = weir_str_n(any ? (const char *)at + name : NULL, any ? value : 0);
        at += (size_t)name + headers[i].value.len;
    }
    ev->headers = headers;
    ev->n_headers = n;
    return true;
}

static bool read_origin(struct weir_str name, int32_t partition, struct weir_arena *a,
                        const struct weir_event *before, struct weir_event *ev)
{
    const struct weir_origin *last = before != NULL ? before->origin : NULL;
    if (last != NULL && last->partition == partition && wr_str_eq(last->name, name)) {
        ev->origin = last;
        return true;
    }
    struct weir_origin *origin = wr_arena_alloc(a, sizeof(*origin));
    if (origin == NULL)
        return false;
    *origin = (struct weir_origin){name, partition};
    ev->origin = origin;
    return true;
}

static bool read_source(struct weir_str source, struct weir_arena *a, struct weir_event *ev)
{
    struct wr_trace *trace = wr_arena_alloc(a, sizeof(*trace));
    if (trace == NULL)
        return false;
    *trace = (struct wr_trace){.source = source};
    ev->host_trace = trace;
    return true;
}

bool wr_record_event(const struct wr_record *r, struct weir_arena *a, const struct weir_event *before,
                     struct weir_event *ret_ev)
{
    uint32_t flags = wr_get32(r->bytes + AT_FLAGS);
    struct weir_str texts[ORIGIN + 1];
    const uint8_t *at = r->bytes + WR_RECORD_HEAD;
    for (int i = PAYLOAD; i <= ORIGIN; i++) {
        texts[i] = weir_str_n((const char *)at, wr_get32(r->bytes + AT_LENGTHS + 4 * i));
        at += texts[i].len;
    }
    struct weir_event ev = {
        .time_ns = (int64_t)wr_get64(r->bytes + AT_TIME),
        .position = (int64_t)wr_get64(r->bytes + AT_POSITION),
        .flags = ((flags & FLAG_RAW) != 0 ? WEIR_EVENT_RAW : 0) |
                 ((flags & FLAG_TOMB) != 0 ? WEIR_EVENT_TOMB : 0) |
                 ((flags & FLAG_DEAD) != 0 ? WR_EVENT_DEAD : 0) |
                 ((flags & FLAG_ITEM) != 0 ? WR_EVENT_ITEM : 0)};
    if ((flags & FLAG_PAYLOAD) != 0)
        ev.payload = texts[PAYLOAD];
    if ((flags & FLAG_KEY) != 0)
        ev.key = texts[KEY];
    if (texts[ID].len != 0)
        ev.id = texts[ID];
    int32_t partition = (int32_t)wr_get32(r->bytes + AT_PARTITION);
    if (((flags & FLAG_ORIGIN) != 0 && !read_origin(texts[ORIGIN], partition, a, before, &ev)) ||
        ((flags & FLAG_NO_SOURCE) != 0 && !read_source(weir_str_n(NULL, 0), a, &ev)) ||
        ((flags & (FLAG_SOURCE | FLAG_NO_SOURCE)) == FLAG_SOURCE && !read_source(texts[SOURCE], a, &ev)) ||
        !read_headers(at, wr_get32(r->bytes + AT_LENGTHS + 4 * HEADERS), a, &ev))
        return false;
    *ret_ev = ev;
    return true;
}
