/* SPDX-License-Identifier: Apache-2.0
 *
 * A dead letter's envelope read back; see envelope.h. The text may have been anywhere meanwhile,
 * and may have been changed: nothing of it is believed before it was looked at. One member after
 * the other; the first that is wrong ends it and is named.
 */
#include <engine/envelope.h>

#include <base/date.h>
#include <base/str.h>

struct reader {
    struct weir_arena *a;
    const struct weir_value *root;
    struct weir_error *err;
    bool ok;
};

static void bad(struct reader *rd, const char *name, const char *what)
{
    if (rd->ok)
        (void)wr_error(rd->err, WEIR_E_REJECTED, "bad_envelope", "member \"%s\" %s", name, what);
    rd->ok = false;
}

/* The member of that name and type, NULL where there is none; one of another type is a mistake. */
static const struct weir_value *member(struct reader *rd, const struct weir_value *in,
                                       const char *name, enum weir_value_type type,
                                       const char *expected)
{
    const struct weir_value *v = rd->ok ? wr_value_get(in, weir_cstr(name)) : NULL;
    if (v == NULL || wr_value_type(v) == type)
        return v;
    bad(rd, name, expected);
    return NULL;
}

/* ---- Base64 ---- */

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits, the last `n_pad` of them '=': 3 - n_pad bytes. */
static bool decode_four(const char *in, size_t n_pad, char *out)
{
    uint32_t v = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i < 4 - n_pad ? digit_of(in[i]) : in[i] == '=' ? 0 : -1;
        if (digit < 0)
            return false;
        v = v << 6 | (uint32_t)digit;
    }
    for (size_t i = 0; i < 3 - n_pad; i++)
        out[i] = (char)(v >> (16 - 8 * i));
    return true;
}

static bool decode(struct weir_arena *a, struct weir_str in, struct weir_str *ret)
{
    size_t n_pad = 0;
    while (n_pad < 2 && n_pad < in.len && in.ptr[in.len - 1 - n_pad] == '=')
        n_pad++;
    char *out = in.len % 4 == 0 ? wr_arena_alloc(a, in.len / 4 * 3 + 1) : NULL;
    bool ok = out != NULL;
    for (size_t i = 0; ok && i < in.len; i += 4)
        ok = decode_four(in.ptr + i, i + 4 == in.len ? n_pad : 0, out + i / 4 * 3);
    if (ok)
        *ret = weir_str_n(out, in.len / 4 * 3 - n_pad);
    return ok;
}

/* ---- Members ---- */

/* Bytes that stand as "name" or as "name_base64". NULL where there are none. */
static struct weir_str read_bytes(struct reader *rd, const struct weir_value *in, const char *name,
                                  const char *name_base64)
{
    struct weir_str bytes = {NULL, 0};
    const struct weir_value *text = member(rd, in, name, WEIR_STRING, "is no string");
    const struct weir_value *base64 = member(rd, in, name_base64, WEIR_STRING, "is no string");
    if (text != NULL && base64 != NULL)
        bad(rd, name, "is there twice: as text and in base64");
    else if (text != NULL)
        bytes = wr_value_str(text);
    else if (base64 != NULL && !decode(rd->a, wr_value_str(base64), &bytes))
        bad(rd, name_base64, "is no base64");
    return bytes;
}

/* A text of 1 to `max` bytes. */
static struct weir_str read_text(struct reader *rd, const char *name, size_t max, bool required)
{
    const struct weir_value *v = member(rd, rd->root, name, WEIR_STRING, "is no string");
    struct weir_str s = v != NULL ? wr_value_str(v) : weir_str_n(NULL, 0);
    if (v == NULL && required)
        bad(rd, name, "is missing");
    if (s.len > max)
        bad(rd, name, "is too long");
    if (v != NULL && required && s.len == 0)
        bad(rd, name, "is empty");
    return s;
}

static int64_t read_int(struct reader *rd, const struct weir_value *in, const char *name,
                        int64_t min, int64_t max, int64_t absent)
{
    const struct weir_value *v = member(rd, in, name, WEIR_INT, "is no whole number");
    if (v == NULL)
        return absent;
    int64_t n = wr_value_int(v);
    if (n < min || n > max)
        bad(rd, name, "is out of range");
    return n;
}

static bool read_flag(struct reader *rd, const char *name)
{
    const struct weir_value *v = member(rd, rd->root, name, WEIR_BOOL, "is neither true nor false");
    return v != NULL && wr_value_bool(v);
}

static int64_t read_time(struct reader *rd, const char *name)
{
    const struct weir_value *v = member(rd, rd->root, name, WEIR_STRING, "is no string");
    int64_t ns = 0;
    if (v != NULL && !wr_date_read(wr_value_str(v), &ns))
        bad(rd, name, "is no time such as 2026-01-31T12:00:00.000Z");
    return ns;
}

static void read_origin(struct reader *rd, struct wr_envelope *e)
{
    const struct weir_value *v = member(rd, rd->root, "origin", WEIR_OBJECT, "is no object");
    e->origin.partition = -1;
    if (v == NULL)
        return;
    e->has_origin = true;
    e->origin.name = read_bytes(rd, v, "name", "name_base64");
    e->origin.partition = (int32_t)read_int(rd, v, "partition", 0, INT32_MAX, -1);
    e->is_item = wr_value_get(v, weir_cstr("item")) != NULL;
    e->position =
        read_int(rd, v, e->is_item ? "item" : "offset", e->is_item ? 0 : INT64_MIN, INT64_MAX, 0);
}

static void read_headers(struct reader *rd, struct wr_envelope *e)
{
    const struct weir_value *list = member(rd, rd->root, "headers", WEIR_ARRAY, "is no array");
    uint32_t n = list != NULL ? wr_value_count(list) : 0;
    if (n > WR_ENVELOPE_HEADERS_MAX)
        bad(rd, "headers", "has more than 10000 entries");
    if (n == 0 || !rd->ok)
        return;
    struct weir_header *headers = wr_arena_alloc(rd->a, n * sizeof(*headers));
    if (headers == NULL) {
        bad(rd, "headers", "does not fit into memory");
        return;
    }
    struct weir_value_iter it = wr_value_iter(list);
    struct weir_str none;
    for (uint32_t i = 0; i < n && rd->ok; i++) {
        const struct weir_value *one = wr_value_next(&it, &none);
        if (wr_value_type(one) != WEIR_OBJECT)
            bad(rd, "headers", "holds what is no object");
        headers[i].name = read_bytes(rd, one, "name", "name_base64");
        headers[i].value = read_bytes(rd, one, "value", "value_base64");
        if (headers[i].name.ptr == NULL)
            bad(rd, "headers", "holds one without a name");
    }
    e->headers = headers;
    e->n_headers = n;
}

static void read_payloads(struct reader *rd, struct wr_envelope *e)
{
    e->payload = read_bytes(rd, rd->root, "payload", "payload_base64");
    e->entered = read_bytes(rd, rd->root, "entered", "entered_base64");
    e->tombstone = read_flag(rd, "tombstone");
    e->raw = read_flag(rd, "raw");
    if (e->tombstone && e->entered.ptr != NULL)
        bad(rd, "tombstone", "is true, and there is \"entered\": it cannot be both");
    if (!e->tombstone && e->entered.ptr == NULL && e->payload.ptr == NULL)
        bad(rd, "payload", "is missing, and there is neither \"entered\" nor \"tombstone\"");
}

static void read_failure(struct reader *rd, struct wr_envelope *e)
{
    e->reason = read_text(rd, "reason", WR_ENVELOPE_REASON_MAX, false);
    e->code = read_text(rd, "code", WR_ENVELOPE_NAME_MAX, true);
    e->number = (int32_t)read_int(rd, rd->root, "number", INT32_MIN, INT32_MAX, 0);
    e->attempts = (uint32_t)read_int(rd, rd->root, "attempts", 0, UINT32_MAX, 0);
    e->first_ns = read_time(rd, "first_time");
    e->last_ns = read_time(rd, "last_time");
    e->pipeline = read_text(rd, "pipeline", SIZE_MAX, true);
    e->component = read_text(rd, "component", WR_ENVELOPE_NAME_MAX, true);
    e->type = read_text(rd, "type", WR_ENVELOPE_NAME_MAX, false);
    e->source = read_text(rd, "source", WR_ENVELOPE_NAME_MAX, false);
    e->replays = (uint32_t)read_int(rd, rd->root, "replays", 0, UINT32_MAX, 0);
}

/* Which form it has, before anything else is read by it. */
static void read_version(struct reader *rd)
{
    int64_t version = read_int(rd, rd->root, "version", 1, INT64_MAX, -1);
    if (version == -1)
        bad(rd, "version", "is missing: this is no dead letter of weir");
    if (version > WR_ENVELOPE_VERSION)
        bad(rd, "version", "is of a newer weir than this one");
}

static const struct weir_value *read_root(struct weir_arena *a, struct weir_str text,
                                          struct weir_error *err)
{
    if (text.len > WR_ENVELOPE_BYTES_MAX) {
        (void)wr_error(err, WEIR_E_REJECTED, "too_large", "it has more than 256 MiB");
        return NULL;
    }
    const struct weir_value *root = wr_value_parse(a, text, err);
    if (root == NULL || wr_value_type(root) == WEIR_OBJECT)
        return root;
    (void)wr_error(err, WEIR_E_REJECTED, "bad_envelope", "it is no JSON object");
    return NULL;
}

bool wr_envelope_read(struct weir_arena *a, struct weir_str text, struct wr_envelope *ret,
                      struct weir_error *err)
{
    struct reader rd = {.a = a, .root = read_root(a, text, err), .err = err};
    struct wr_envelope e = {0};
    rd.ok = rd.root != NULL;
    if (!rd.ok)
        return false;
    read_version(&rd);
    read_payloads(&rd, &e);
    read_failure(&rd, &e);
    e.id = read_bytes(&rd, rd.root, "id", "id_base64");
    if (rd.ok && (e.id.len == 0 || e.id.len > WR_ENVELOPE_ID_MAX))
        bad(&rd, "id", e.id.len == 0 ? "is missing or empty" : "is too long");
    e.key = read_bytes(&rd, rd.root, "key", "key_base64");
    e.time_ns = read_time(&rd, "time");
    read_origin(&rd, &e);
    read_headers(&rd, &e);
    if (rd.ok)
        *ret = e;
    return rd.ok;
}
