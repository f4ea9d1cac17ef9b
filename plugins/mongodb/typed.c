/* SPDX-License-Identifier: Apache-2.0
 *
 * Strings and numbers from outside as dates, ObjectIds, decimals and bytes: exactly, or refused
 * with what was expected and what was found.
 */
#include "typed.h"
#include "../common/rfc3339.h"
#include "../common/text.h"

#define SHOW 60 /* bytes of a refused text */

const char *const typed_words[] = {"date",       "date_ms", "date_s", "object_id",
                                   "decimal128", "binary",  "uuid",   NULL};

static const struct {
    const char *code, *expected;
} rules[] = {
    [TYPE_DATE] = {"bad_date", "an RFC 3339 date-time such as \"2026-01-31T12:00:00Z\""},
    [TYPE_DATE_MS] = {"bad_date", "milliseconds since 1970 as an integer"},
    [TYPE_DATE_S] = {"bad_date", "seconds since 1970 as a number"},
    [TYPE_OBJECT_ID] = {"bad_object_id",
                        "24 hex digits as a string such as \"65f0c0ffee0123456789abcd\""},
    [TYPE_DECIMAL] = {"bad_number", "a number, or a string that is one such as \"12.50\", exact in "
                                    "34 digits"},
    [TYPE_BINARY] = {"bad_binary", "a string of base64"},
    [TYPE_UUID] = {"bad_uuid", "a UUID such as \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""},
};

static bool refuse(struct doc_writer *w, enum doc_type type, const struct weir_value *v)
{
    static const char *const words[] = {"null",     "a boolean", "",         "",         "",
                                        "a number", "",          "an array", "an object"};
    const struct weir_host *h = w->h;
    enum weir_value_type found = h->value_type(v);
    if (found == WEIR_STRING || found == WEIR_BIGNUM) {
        struct weir_str s = h->value_str(v);
        return put_fail(w, rules[type].code, "expected %s, found \"%.*s%s\"", rules[type].expected,
                        (int)utf8_cut(s.ptr, s.len, SHOW), s.ptr, s.len > SHOW ? "..." : "");
    }
    if (found == WEIR_INT)
        return put_fail(w, rules[type].code, "expected %s, found %lld", rules[type].expected,
                        (long long)h->value_int(v));
    if (found == WEIR_UINT || found == WEIR_REAL)
        return put_fail(w, rules[type].code, "expected %s, found %.17g", rules[type].expected,
                        h->value_real(v));
    return put_fail(w, rules[type].code, "expected %s, found %s", rules[type].expected,
                    words[found]);
}

/* ---- dates ---- */

static bool put_ms(struct doc_writer *w, struct weir_str key, int64_t ms)
{
    return put_64(w, BSON_DATE, key, (uint64_t)ms);
}

static bool put_date(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    struct weir_str s = w->h->value_str(v);
    struct rfc3339 t;
    if (w->h->value_type(v) != WEIR_STRING || !rfc3339_parse(s.ptr, s.len, &t))
        return refuse(w, TYPE_DATE, v);
    return put_ms(w, key, t.s * 1000 + t.ns / 1000000);
}

static bool put_date_number(struct doc_writer *w, enum doc_type type, struct weir_str key,
                            const struct weir_value *v)
{
    const int64_t scale = type == TYPE_DATE_S ? 1000 : 1;
    enum weir_value_type found = w->h->value_type(v);
    if (found == WEIR_INT) {
        int64_t n = w->h->value_int(v);
        if (n >= INT64_MIN / scale && n <= INT64_MAX / scale)
            return put_ms(w, key, n * scale);
    }
    double s = found == WEIR_REAL && type == TYPE_DATE_S ? w->h->value_real(v) * 1000 : 1e300;
    if (s < -9e18 || s > 9e18)
        return refuse(w, type, v);
    int64_t ms = (int64_t)s;
    return put_ms(w, key, (double)ms > s ? ms - 1 : ms);
}

/* ---- numbers ---- */

bool typed_put_bignum(struct doc_writer *w, struct weir_str key, struct weir_str text)
{
    struct decimal128 v;
    if (!decimal128_from_text(text.ptr, text.len, &v))
        return put_fail(
            w, "bad_number",
            "the number %.*s%s is not exact in a decimal128 (34 digits); send it as a string",
            (int)utf8_cut(text.ptr, text.len, SHOW), text.ptr, text.len > SHOW ? "..." : "");
    return put_decimal(w, key, v);
}

static size_t count_digits(const char *p, const char *end)
{
    const char *from = p;
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return (size_t)(p - from);
}

/* A number as in JSON; also 007, which has one meaning. */
static bool is_number(struct weir_str s)
{
    const char *p = s.ptr, *end = s.ptr + s.len;
    if (p < end && *p == '-')
        p++;
    size_t n = count_digits(p, end);
    p += n;
    if (n > 0 && p < end && *p == '.') {
        size_t fraction = count_digits(p + 1, end);
        if (fraction == 0)
            return false;
        p += 1 + fraction;
    }
    if (n > 0 && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        size_t exponent = count_digits(p, end);
        if (exponent == 0)
            return false;
        p += exponent;
    }
    return n > 0 && p == end;
}

static bool put_exact(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    enum weir_value_type found = w->h->value_type(v);
    struct weir_str text = w->h->value_str(v);
    struct decimal128 d;
    if (found == WEIR_INT || found == WEIR_UINT || found == WEIR_REAL)
        text = w->h->value_write(w->scratch, v);
    else if (found != WEIR_BIGNUM && (found != WEIR_STRING || !is_number(text)))
        return refuse(w, TYPE_DECIMAL, v);
    if (text.ptr == NULL)
        return put_fail(w, "no_memory", "no memory for a number");
    if (!decimal128_from_text(text.ptr, text.len, &d))
        return refuse(w, TYPE_DECIMAL, v);
    return put_decimal(w, key, d);
}

/* ---- bytes ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads 2 * n hex digits; dashes are allowed at the places of a UUID's. */
static bool read_hex(struct weir_str s, uint8_t *out, size_t n, bool dashes)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (dashes && (i == 4 || i == 6 || i == 8 || i == 10)) {
            if (at >= s.len || s.ptr[at++] != '-')
                return false;
        }
        if (at + 2 > s.len)
            return false;
        int high = hex_digit(s.ptr[at]), low = hex_digit(s.ptr[at + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high * 16 + low);
        at += 2;
    }
    return at == s.len;
}

bool typed_put_object_id(struct doc_writer *w, struct weir_str key, const uint8_t bytes[12])
{
    uint8_t *at = put_head(w, BSON_OBJECT_ID, key, 12);
    if (at == NULL)
        return false;
    memcpy(at, bytes, 12);
    return true;
}

static bool put_object_id(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    uint8_t bytes[12];
    if (w->h->value_type(v) != WEIR_STRING ||
        !read_hex(w->h->value_str(v), bytes, sizeof(bytes), false))
        return refuse(w, TYPE_OBJECT_ID, v);
    return typed_put_object_id(w, key, bytes);
}

static bool put_uuid(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    uint8_t bytes[16];
    struct weir_str s = w->h->value_str(v);
    if (w->h->value_type(v) != WEIR_STRING || !read_hex(s, bytes, sizeof(bytes), s.len == 36))
        return refuse(w, TYPE_UUID, v);
    return put_binary(w, key, 4, bytes, sizeof(bytes));
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

/* Of the standard alphabet or that of URLs, with or without its padding. */
static bool put_base64(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    struct weir_str s = w->h->value_str(v);
    size_t len = s.len, n = 0;
    while (len > 0 && s.len - len < 2 && s.len % 4 == 0 && s.ptr[len - 1] == '=')
        len--;
    uint8_t *out = w->h->arena_alloc(w->scratch, len / 4 * 3 + 3);
    if (out == NULL)
        return put_fail(w, "no_memory", "no memory for %zu bytes of base64", len);
    uint32_t bits = 0;
    bool good = w->h->value_type(v) == WEIR_STRING && len % 4 != 1;
    for (size_t i = 0; i < len && good; i++) {
        int d = base64_digit(s.ptr[i]);
        good = d >= 0;
        bits = bits << 6 | (uint32_t)(d & 63);
        if (i % 4 != 0)
            out[n++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return good ? put_binary(w, key, 0, out, n) : refuse(w, TYPE_BINARY, v);
}

bool typed_put(struct doc_writer *w, enum doc_type type, struct weir_str key,
               const struct weir_value *v)
{
    if (w->h->value_type(v) == WEIR_NULL)
        return put_null(w, key);
    switch (type) {
    case TYPE_DATE:
        return put_date(w, key, v);
    case TYPE_DATE_MS:
    case TYPE_DATE_S:
        return put_date_number(w, type, key, v);
    case TYPE_OBJECT_ID:
        return put_object_id(w, key, v);
    case TYPE_DECIMAL:
        return put_exact(w, key, v);
    case TYPE_BINARY:
        return put_base64(w, key, v);
    case TYPE_UUID:
        return put_uuid(w, key, v);
    case TYPE_PLAIN:
        break;
    }
    return put_fail(w, "bad_value", "a value of unknown type %d", (int)type);
}

enum doc_type typed_of_wrapper(struct weir_str key)
{
    static const struct {
        const char *name;
        enum doc_type type;
    } wrappers[] = {{"$date", TYPE_DATE},
                    {"$oid", TYPE_OBJECT_ID},
                    {"$numberDecimal", TYPE_DECIMAL},
                    {"$binary", TYPE_BINARY},
                    {"$uuid", TYPE_UUID}};
    for (size_t i = 0; i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
        if (strlen(wrappers[i].name) == key.len && memcmp(wrappers[i].name, key.ptr, key.len) == 0)
            return wrappers[i].type;
    return TYPE_PLAIN;
}
