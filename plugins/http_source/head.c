/* SPDX-License-Identifier: Apache-2.0
 *
 * The head of a request: everything that can be refused before the body is read.
 */
#include "http_source.h"

#include <string.h>
#include <strings.h>

#define ID_MAX 256

/* The headers that matter, in one walk over all of them. */
struct head {
    const char *line; /* where the next header's line must begin */
    bool odd;         /* a line that others may read differently */
    struct weir_str host;
    struct weir_str content_type;
    struct weir_str content_length;
    struct weir_str content_encoding;
    struct weir_str transfer_encoding;
    struct weir_str authorization;
    struct weir_str expect;
    struct weir_str idempotency_key;
    struct weir_str weir_id;
    const char *repeated; /* one that must not come twice */
};

static const struct {
    struct weir_str name;
    size_t offset;
} known[] = {
#define KNOWN(text, member)                                                                        \
    {                                                                                              \
        {text, sizeof(text) - 1}, offsetof(struct head, member)                                    \
    }
    KNOWN("Host", host),
    KNOWN("Content-Type", content_type),
    KNOWN("Content-Length", content_length),
    KNOWN("Content-Encoding", content_encoding),
    KNOWN("Transfer-Encoding", transfer_encoding),
    KNOWN("Authorization", authorization),
    KNOWN("Expect", expect),
    KNOWN("Idempotency-Key", idempotency_key),
    KNOWN("weir-id", weir_id),
#undef KNOWN
};

bool is_name_char(char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return letter || c == '-' || (c != '\0' && strchr(others, c) != NULL);
}

bool head_stays_in_place(void)
{
    const char *version = MHD_get_version();
    return strncmp(version, "0.9.", 4) == 0 && strverscmp(version, "0.9.77") < 0;
}

/* libmicrohttpd up to 0.9.76 leaves each header where it came, NUL in place of ':' and of the
 * line's CR and LF. It takes a folded line for a part of the name before it, ends a value at a NUL,
 * and a head at a line that begins with one; then the next line is not where it should be. */
static bool in_place(struct head *head, const char *key, size_t key_len, const char *value,
                     size_t value_len)
{
    const char *gap = value;
    bool starts = key == head->line;
    while (starts && gap > key + key_len + 1 && (gap[-1] == ' ' || gap[-1] == '\t'))
        gap--;
    head->line = value + value_len + 2;
    return starts && gap == key + key_len + 1;
}

/* Behind the empty line that ends the head. */
static const char *head_end(struct MHD_Connection *mhd, const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info != NULL ? method + info->header_size : NULL;
}

/* What others may read as another name, or as several lines. */
static bool line_is_odd(const char *key, size_t key_len, const char *value, size_t value_len)
{
    for (size_t i = 0; i < key_len; i++)
        if (!is_name_char(key[i]))
            return true;
    return key_len == 0 || value == NULL || memchr(value, '\r', value_len) != NULL;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                 size_t key_len, const char *value, size_t value_len)
{
    struct head *head = cls;
    (void)kind;
    head->odd = head->odd || line_is_odd(key, key_len, value, value_len) ||
                (head->line != NULL && !in_place(head, key, key_len, value, value_len));
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].name.len != key_len || strncasecmp(known[i].name.ptr, key, key_len) != 0)
            continue;
        struct weir_str *to = (struct weir_str *)(void *)((char *)head + known[i].offset);
        if (to->ptr != NULL)
            head->repeated = known[i].name.ptr;
        *to = value != NULL ? weir_str_n(value, value_len) : weir_str_n("", 0);
        break;
    }
    return MHD_YES;
}

static struct weir_str trim(struct weir_str s)
{
    while (s.len != 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = weir_str_n(s.ptr + 1, s.len - 1);
    while (s.len != 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static bool is_word(struct weir_str s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

/* ---- Who may ---- */

/* Takes as long for every given token of one length, whatever is right in it. */
static bool token_equal(struct weir_str given, struct weir_str token)
{
    volatile unsigned char differs = given.len != token.len;
    for (size_t i = 0; i < given.len; i++)
        differs |= (unsigned char)(given.ptr[i] ^ token.ptr[i % token.len]);
    return differs == 0;
}

static bool authorized(const struct config *cf, struct weir_str authorization)
{
    bool found = cf->tokens.n == 0;
    struct weir_str given = {"", 0};
    if (authorization.len > 7 && strncasecmp(authorization.ptr, "Bearer ", 7) == 0)
        given = trim(weir_str_n(authorization.ptr + 7, authorization.len - 7));
    for (uint32_t i = 0; i < cf->tokens.n; i++)
        found |= token_equal(given, list_str(&cf->tokens, i));
    return found;
}

/* ---- What it is ---- */

static bool media_find(struct weir_str type, enum media *ret)
{
    static const struct {
        const char *name;
        enum media media;
    } types[] = {{"application/json", MEDIA_JSON},
                 {"application/x-ndjson", MEDIA_NDJSON},
                 {"application/ndjson", MEDIA_NDJSON},
                 {"application/jsonl", MEDIA_NDJSON},
                 {"application/x-weir+ndjson", MEDIA_WEIR}};
    const char *end = type.len != 0 ? memchr(type.ptr, ';', type.len) : NULL;
    if (end != NULL)
        type.len = (size_t)(end - type.ptr);
    type = trim(type);
    *ret = MEDIA_JSON;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        *ret = types[i].media;
        if (is_word(type, types[i].name))
            return true;
    }
    *ret = MEDIA_JSON; /* application/cloudevents+json and the like */
    return type.len > 5 && strncasecmp(type.ptr + type.len - 5, "+json", 5) == 0;
}

/* A header that becomes an event's id: visible ASCII, without the quotes that a structured header
 * has. */
static bool id_read(struct weir_str value, struct weir_str *ret)
{
    value = trim(value);
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = weir_str_n(value.ptr + 1, value.len - 2);
    *ret = value;
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= ' ' || value.ptr[i] > '~')
            return false;
    return value.len != 0 && value.len <= ID_MAX;
}

static bool number_read(struct weir_str s, uint64_t *ret)
{
    *ret = 0;
    if (s.len == 0 || s.len > 18)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        *ret = *ret * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    return true;
}

/* ---- The checks, in the order in which a client would want to hear of them ---- */

/* Whoever stood between may have read another head than this one. */
static bool lines_check(struct refusal *r, const struct head *head, bool http_1_0)
{
    if (head->odd)
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_header",
               "a header is not a line `Name: value` that ends in CR LF: no space before the "
               "colon, no folded line, no NUL, CR or LF inside");
    else if (head->repeated != NULL)
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_header", "the header %s is there twice",
               head->repeated);
    else if (head->host.ptr == NULL && !http_1_0)
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_header",
               "a request of HTTP/1.1 needs the header Host");
    return r->status == 0;
}

/* How long the body is must be beyond doubt, or what follows on this connection is not. */
static bool framing_check(struct request *q, const struct head *head, bool http_1_0)
{
    struct refusal *r = &q->refusal;
    if (head->transfer_encoding.ptr != NULL && http_1_0)
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_framing",
               "HTTP/1.0 has no Transfer-Encoding: send Content-Length");
    else if (head->transfer_encoding.ptr != NULL && head->content_length.ptr != NULL)
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_framing",
               "both Transfer-Encoding and Content-Length are given: send one of them");
    else if (head->transfer_encoding.ptr != NULL && !is_word(head->transfer_encoding, "chunked"))
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_framing",
               "Transfer-Encoding is something else than chunked; compress with Content-Encoding");
    q->content_length = head->transfer_encoding.ptr != NULL ? UINT64_MAX : 0;
    if (r->status == 0 && head->content_length.ptr != NULL &&
        !number_read(trim(head->content_length), &q->content_length))
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_framing", "Content-Length is not a number of bytes");
    return r->status == 0;
}

static bool target_check(struct request *q, const struct head *head, const char *method)
{
    struct refusal *r = &q->refusal;
    if (q->lane->stopping)
        refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
    else if (q->path < 0)
        refuse(r, MHD_HTTP_NOT_FOUND, "not_found", "events are not taken at this path");
    else if (strcmp(method, MHD_HTTP_METHOD_POST) != 0)
        refuse(r, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
               "events are sent with POST, not with this method");
    else if (!authorized(q->lane->config, head->authorization))
        refuse(r, MHD_HTTP_UNAUTHORIZED, "unauthorized",
               "%s: send Authorization: Bearer and a token that this server knows",
               head->authorization.ptr == NULL ? "there is no Authorization header"
                                               : "the token is not known");
    return r->status == 0;
}

static bool content_check(struct request *q, const struct head *head)
{
    struct refusal *r = &q->refusal;
    struct weir_str encoding = trim(head->content_encoding);
    if (head->content_type.ptr != NULL && !media_find(head->content_type, &q->media) &&
        !lane_is_raw(q->lane))
        refuse(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_type",
               "the Content-Type is none of application/json (an object or an array), "
               "application/x-ndjson (a JSON text a line), application/x-weir+ndjson");
    else if (encoding.len != 0 && !is_word(encoding, "identity") &&
             (q->decoder = decoder_find(encoding)) == NULL)
        refuse(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding",
               "the Content-Encoding is something else than gzip or identity");
    else if ((head->idempotency_key.ptr != NULL &&
              !id_read(head->idempotency_key, &q->idempotency_key)) ||
             (head->weir_id.ptr != NULL && !id_read(head->weir_id, &q->weir_id)))
        refuse(r, MHD_HTTP_BAD_REQUEST, "bad_header",
               "Idempotency-Key and weir-id hold 1 to %d visible ASCII characters", ID_MAX);
    return r->status == 0;
}

static void room_check(struct request *q)
{
    const struct config *cf = q->lane->config;
    uint64_t length = q->content_length == UINT64_MAX ? 0 : q->content_length;
    int64_t in_flight = atomic_load_explicit(&q->lane->shared->in_flight, memory_order_relaxed);
    if (length > (uint64_t)cf->max_body)
        refuse(&q->refusal, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has %llu bytes, and no more than %lld are taken",
               (unsigned long long)length, (long long)cf->max_body);
    else if (in_flight > 0 && in_flight + (int64_t)length > cf->max_in_flight)
        refuse(&q->refusal, MHD_HTTP_TOO_MANY_REQUESTS, "busy",
               "%lld bytes of requests wait for their delivery: send the request again later",
               (long long)in_flight);
}

bool head_check(struct request *q, const char *method, const char *version)
{
    bool http_1_0 = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
    struct head head = {.line = q->lane->headers_in_place ? version + strlen(version) + 2 : NULL};
    (void)MHD_get_connection_values_n(q->conn->mhd, MHD_HEADER_KIND, on_header, &head);
    if (head.line != NULL && head.line + 2 != head_end(q->conn->mhd, method))
        head.odd = true;
    if (!lines_check(&q->refusal, &head, http_1_0) || !framing_check(q, &head, http_1_0))
        return true;
    if (target_check(q, &head, method) && content_check(q, &head))
        room_check(q);
    return head.expect.ptr != NULL;
}
