/* SPDX-License-Identifier: Apache-2.0
 *
 * The head of a request: everything that can be refused before the body is read, in the order in
 * which a client would want to hear of it.
 */
#include "http_source.h"

#include <string.h>
#include <strings.h>

#define ID_MAX 256

const char *const method_words[] = {"POST", "PUT", "PATCH", NULL};

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
    type = str_trim(type);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        *ret = types[i].media;
        if (str_is(type, types[i].name))
            return true;
    }
    *ret = MEDIA_JSON; /* application/cloudevents+json and the like */
    return type.len > 5 && strncasecmp(type.ptr + type.len - 5, "+json", 5) == 0;
}

/* A header that becomes an event's id: visible ASCII, without the quotes that a structured header
 * has. */
static bool id_read(struct weir_str value, struct weir_str *ret)
{
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = weir_str_n(value.ptr + 1, value.len - 2);
    *ret = value;
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= ' ' || value.ptr[i] > '~')
            return false;
    return value.len != 0 && value.len <= ID_MAX;
}

/* A number too large to be one is as large as can be. */
static bool number_read(struct weir_str s, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        *ret = *ret > INT64_MAX / 16 ? INT64_MAX : *ret * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    return s.len != 0;
}

/* ---- Framing ---- */

/* How long the body is must be beyond doubt, or what follows on this connection is not. */
static const char *framing_fault(struct request *q, const struct head *head)
{
    bool chunked = head->transfer_encoding.ptr != NULL;
    q->chunked = chunked;
    q->content_length = chunked ? UINT64_MAX : 0;
    if (chunked && head->http_1_0)
        return "HTTP/1.0 has no Transfer-Encoding: send Content-Length";
    if (chunked && head->content_length.ptr != NULL)
        return "both Transfer-Encoding and Content-Length are given: send one of them";
    if (chunked && !str_is(head->transfer_encoding, "chunked"))
        return "Transfer-Encoding is something else than chunked; compress with Content-Encoding";
    if (head->content_length.ptr != NULL && !number_read(head->content_length, &q->content_length))
        return "Content-Length is not a number of bytes";
    return NULL;
}

/* What may stand in a Host: name or address and port; RFC 9112 wants anything else refused. */
static bool is_host(struct weir_str host)
{
    for (size_t i = 0; i < host.len; i++)
        if (host.ptr[i] <= ' ' || host.ptr[i] > '~' ||
            strchr("\"/\\<>?#@,^`{|}", host.ptr[i]) != NULL)
            return false;
    return true;
}

static bool framing_check(struct request *q, const struct head *head)
{
    struct refusal *r = &q->refusal;
    const char *fault = framing_fault(q, head);
    if (head->repeated != NULL)
        refuse(r, HTTP_BAD_REQUEST, "bad_header", "the header %s is there twice", head->repeated);
    else if (head->host.ptr == NULL && !head->http_1_0)
        refuse(r, HTTP_BAD_REQUEST, "bad_header", "a request of HTTP/1.1 needs the header Host");
    else if (!is_host(head->host))
        refuse(r, HTTP_BAD_REQUEST, "bad_header", "the header Host is no host:port");
    else if (fault != NULL)
        refuse(r, HTTP_BAD_REQUEST, "bad_framing", "%s", fault);
    return r->status == 0;
}

/* ---- The checks ---- */

static bool method_known(const struct config *cf, const struct head *head)
{
    const int *methods = cf->methods.items;
    for (uint32_t i = 0; i < cf->methods.n; i++)
        if (method_is(head, method_words[methods[i]]))
            return true;
    return false;
}

static bool target_check(struct request *q, const struct head *head)
{
    struct refusal *r = &q->refusal;
    if (!lane_takes(q->lane))
        refuse(r, HTTP_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
    else if (q->path < 0)
        refuse(r, HTTP_NOT_FOUND, "not_found", "events are not taken at this path");
    else if (!cors_allows(q))
        refuse(r, HTTP_FORBIDDEN, "origin_not_allowed",
               "pages of this origin may not send events here: it is none of cors.origins");
    else if (!method_known(q->lane->config, head) && !cors_is_preflight(q))
        refuse(r, HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
               "events are not sent with this method: the header Allow lists those that are");
    return r->status == 0;
}

static bool content_check(struct request *q, const struct head *head)
{
    struct refusal *r = &q->refusal;
    struct weir_str encoding = head->content_encoding;
    if (head->content_type.ptr != NULL && !media_find(head->content_type, &q->media) &&
        !lane_is_raw(q->lane))
        refuse(r, HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_type",
               "the Content-Type is none of application/json (an object or an array), "
               "application/x-ndjson (a JSON text a line), application/x-weir+ndjson");
    else if (encoding.len != 0 && !str_is(encoding, "identity") &&
             (q->decoder = decoder_find(encoding)) == NULL)
        refuse(r, HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding",
               "the Content-Encoding is none of gzip, deflate, zstd, identity");
    else if ((head->idempotency_key.ptr != NULL &&
              !id_read(head->idempotency_key, &q->idempotency_key)) ||
             (head->weir_id.ptr != NULL && !id_read(head->weir_id, &q->weir_id)))
        refuse(r, HTTP_BAD_REQUEST, "bad_header",
               "Idempotency-Key and weir-id hold 1 to %d visible ASCII characters", ID_MAX);
    else if (head->expect.ptr != NULL && !str_is(head->expect, "100-continue"))
        refuse(r, HTTP_EXPECTATION_FAILED, "bad_expectation",
               "Expect is something else than 100-continue");
    return r->status == 0;
}

static void room_check(struct request *q)
{
    const struct config *cf = q->lane->config;
    uint64_t length = q->content_length == UINT64_MAX ? 0 : q->content_length;
    int64_t others = request_others(q);
    if (length > (uint64_t)cf->max_body)
        refuse(&q->refusal, HTTP_CONTENT_TOO_LARGE, "body_too_large",
               "the body has %llu bytes, and no more than %lld are taken",
               (unsigned long long)length, (long long)cf->max_body);
    else if (others > 0 && (q->lane->memory_short || others + (int64_t)length > cf->max_in_flight))
        refuse(&q->refusal, HTTP_TOO_MANY_REQUESTS, "busy",
               "requests of %lld bytes wait for their delivery: send the request again later",
               (long long)others);
}

bool head_check(struct request *q)
{
    const struct head *head = &q->head;
    q->conn->close = head->close || (head->http_1_0 && !head->keep_alive);
    if (!framing_check(q, head))
        return true;
    q->path = target_find(q->lane->config, head->target, &q->params, &q->query);
    if (!target_check(q, head))
        return head->expect.ptr != NULL;
    bool preflight = cors_is_preflight(q);
    /* A page is never told why a preflight failed, so that one that brings nothing does not. */
    if (preflight ? q->content_length != 0 : auth_check(q) && content_check(q, head))
        room_check(q);
    return head->expect.ptr != NULL;
}
