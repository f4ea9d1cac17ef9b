/* SPDX-License-Identifier: Apache-2.0
 *
 * One line of application/x-weir+ndjson: an event with what a plain JSON text cannot carry. It is
 * what weir's http sink writes with `format: weir`; both sides describe it in their docs. The
 * members have the names that dead letters and the file sink's `format: full` give them.
 *
 *   {"id":"a1","key":"u7","time_ns":1700000000000000000,"headers":[{"name":"h","value":"v"}],
 *    "payload":{...}}
 *
 * payload stays byte for byte as it stands in the line. Bytes that are not UTF-8, or no JSON, come
 * as base64: payload_base64, key_base64, name_base64, value_base64. "tombstone":true stands where
 * there is no payload. Members that are not known are passed over.
 */
#include "http_source.h"

#include <string.h>

struct reader {
    struct lane *lane;
    struct weir_arena *arena;
    struct weir_event *ev;
    struct refusal *why;
    bool has_payload, tombstone;
    bool no_memory; /* nothing is wrong with the item */
};

static bool bad_member(struct reader *rd, const char *name, const char *expected)
{
    if (rd->no_memory)
        return refuse_memory(rd->why);
    refuse(rd->why, HTTP_BAD_REQUEST, "bad_item", "member %s of the item is not %s", name,
           expected);
    return false;
}

/* A short JSON text as a value; NULL where it is none, or there is no memory. */
static const struct weir_value *parse(struct reader *rd, struct weir_str text)
{
    struct weir_error err = {.offset = -1};
    const struct weir_value *v = rd->lane->h->value_parse(rd->arena, text, &err);
    rd->no_memory = v == NULL && err.status == WEIR_E_NOMEM;
    return v;
}

static void *alloc(struct reader *rd, size_t size)
{
    void *p = rd->lane->h->arena_alloc(rd->arena, size);
    rd->no_memory = p == NULL;
    return p;
}

/* The JSON string `text` without quotes and escapes, good as long as the batch. */
static bool read_string(struct reader *rd, struct weir_str text, struct weir_str *ret)
{
    bool plain = text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"';
    for (size_t i = 1; plain && i + 1 < text.len; i++)
        plain =
            text.ptr[i] >= ' ' && text.ptr[i] <= '~' && text.ptr[i] != '"' && text.ptr[i] != '\\';
    if (plain) {
        *ret = weir_str_n(text.ptr + 1, text.len - 2);
        return true;
    }
    const struct weir_value *v = parse(rd, text);
    if (v == NULL || rd->lane->h->value_type(v) != WEIR_STRING)
        return false;
    *ret = rd->lane->h->value_str(v);
    return true;
}

static bool base64_read(struct reader *rd, struct weir_str in, struct weir_str *ret)
{
    char *out = alloc(rd, in.len / 4 * 3 + 1);
    size_t len = 0;
    if (out == NULL || !base64_decode(in, out, &len))
        return false;
    *ret = weir_str_n(out, len);
    return true;
}

static bool read_base64(struct reader *rd, struct weir_str text, struct weir_str *ret)
{
    struct weir_str in;
    return read_string(rd, text, &in) && base64_read(rd, in, ret);
}

/* ---- Members ---- */

static bool read_id(struct reader *rd, struct weir_str text)
{
    struct weir_str id;
    if (!read_string(rd, text, &id) || id.len == 0 || id.len > ITEM_ID_MAX)
        return bad_member(rd, "id", "a string of 1 to 1024 bytes");
    rd->ev->id = id;
    return true;
}

static bool read_key(struct reader *rd, struct weir_str text)
{
    return read_string(rd, text, &rd->ev->key) || bad_member(rd, "key", "a string");
}

static bool read_key_base64(struct reader *rd, struct weir_str text)
{
    return read_base64(rd, text, &rd->ev->key) || bad_member(rd, "key_base64", "a base64 string");
}

static bool read_time(struct reader *rd, struct weir_str text)
{
    const struct weir_host *h = rd->lane->h;
    const struct weir_value *v = parse(rd, text);
    if (v == NULL || h->value_type(v) != WEIR_INT || h->value_int(v) < 0)
        return bad_member(rd, "time_ns", "an integer: nanoseconds since 1970");
    rd->ev->time_ns = h->value_int(v);
    return true;
}

/* The bytes of member `name`, or of `name_base64`; false where they are neither. Missing: ptr NULL.
 */
static bool read_bytes(struct reader *rd, const struct weir_value *v, const char *name,
                       const char *name_base64, struct weir_str *ret)
{
    const struct weir_host *h = rd->lane->h;
    const struct weir_value *text = h->value_get(v, weir_cstr(name));
    const struct weir_value *base64 = h->value_get(v, weir_cstr(name_base64));
    *ret = weir_str_n(NULL, 0);
    if (text != NULL && h->value_type(text) == WEIR_STRING)
        *ret = h->value_str(text);
    else if (base64 != NULL && h->value_type(base64) == WEIR_STRING)
        return base64_read(rd, h->value_str(base64), ret);
    else
        return text == NULL && base64 == NULL;
    return true;
}

static bool read_headers(struct reader *rd, struct weir_str text)
{
    const struct weir_host *h = rd->lane->h;
    const struct weir_value *v = parse(rd, text);
    if (v == NULL || h->value_type(v) != WEIR_ARRAY)
        return bad_member(rd, "headers", "an array");
    uint32_t n = h->value_count(v);
    struct weir_header *headers = alloc(rd, (n + 1) * sizeof(*headers));
    if (headers == NULL)
        return bad_member(rd, "headers", "an array");
    struct weir_value_iter it = h->value_iter(v);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_str none;
        const struct weir_value *header = h->value_next(&it, &none);
        if (!read_bytes(rd, header, "name", "name_base64", &headers[i].name) ||
            !read_bytes(rd, header, "value", "value_base64", &headers[i].value) ||
            headers[i].name.ptr == NULL)
            return bad_member(rd, "headers", "an array of {\"name\":\"...\",\"value\":\"...\"}");
    }
    rd->ev->headers = headers;
    rd->ev->n_headers = n;
    return true;
}

static bool read_payload(struct reader *rd, struct weir_str text)
{
    if (rd->has_payload)
        return bad_member(rd, "payload", "there only once, nor together with payload_base64");
    rd->has_payload = true;
    rd->ev->payload = text;
    return true;
}

static bool read_payload_base64(struct reader *rd, struct weir_str text)
{
    struct weir_str bytes;
    if (!read_base64(rd, text, &bytes))
        return bad_member(rd, "payload_base64", "a base64 string");
    return read_payload(rd, bytes);
}

static bool read_tombstone(struct reader *rd, struct weir_str text)
{
    rd->tombstone = text.len == 4 && memcmp(text.ptr, "true", 4) == 0;
    return rd->tombstone || (text.len == 5 && memcmp(text.ptr, "false", 5) == 0) ||
           bad_member(rd, "tombstone", "true or false");
}

static const struct {
    const char *name;
    bool (*read)(struct reader *rd, struct weir_str text);
} members[] = {
    {"payload", read_payload},
    {"id", read_id},
    {"key", read_key},
    {"time_ns", read_time},
    {"headers", read_headers},
    {"key_base64", read_key_base64},
    {"payload_base64", read_payload_base64},
    {"tombstone", read_tombstone},
};

static bool read_member(struct reader *rd, struct weir_str name, struct weir_str value)
{
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (strlen(members[i].name) == name.len && memcmp(members[i].name, name.ptr, name.len) == 0)
            return members[i].read(rd, value);
    return parse(rd, value) != NULL || bad_member(rd, "(unknown)", "JSON");
}

bool weir_item_read(struct lane *s, struct weir_arena *a, struct weir_str line,
                    struct weir_event *ev, struct refusal *why)
{
    struct reader rd = {.lane = s, .arena = a, .ev = ev, .why = why};
    struct weir_str name, value;
    const char *wrong = NULL;
    size_t at = 0;
    while (member_next(line, &at, &name, &value, &wrong))
        if (!read_member(&rd, name, value))
            return false;
    if (wrong == NULL && rd.has_payload != rd.tombstone)
        return true;
    if (wrong == NULL)
        wrong = rd.tombstone ? "a tombstone has no payload"
                             : "it has no payload, and does not say \"tombstone\":true";
    refuse(why, HTTP_BAD_REQUEST, "bad_item",
           "the line is not an item {\"id\", \"key\", \"headers\", \"payload\"}: %s", wrong);
    why->offset = (int64_t)at;
    return false;
}
