/* SPDX-License-Identifier: Apache-2.0
 *
 * What the client hears.
 *
 *   {"accepted":3,"items":[{"item":1,"status":"dead_lettered","code":"...","message":"..."}]}
 *   {"accepted":2,"rejected":1,"items":[{"item":1,"status":"rejected","code":"...",...}]}
 *   {"error":{"code":"bad_json","message":"...","item":4,"offset":120}}
 *
 * Items that are not named were delivered, but for as many as "more" says. `offset` is a position in the (decompressed) body. Once
 * an answer is sent its request may be gone.
 */
#include "http_source.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define MESSAGE_MAX 300
#define TEXT_KEEP_MAX (256u << 10)

static const struct {
    unsigned status;
    const char *reason;
} statuses[N_STATUSES] = {
    {HTTP_OK, "OK"},
    {HTTP_ACCEPTED, "Accepted"},
    {HTTP_NO_CONTENT, "No Content"},
    {HTTP_MULTI_STATUS, "Multi-Status"},
    {HTTP_BAD_REQUEST, "Bad Request"},
    {HTTP_UNAUTHORIZED, "Unauthorized"},
    {HTTP_FORBIDDEN, "Forbidden"},
    {HTTP_NOT_FOUND, "Not Found"},
    {HTTP_METHOD_NOT_ALLOWED, "Method Not Allowed"},
    {HTTP_REQUEST_TIMEOUT, "Request Timeout"},
    {HTTP_CONTENT_TOO_LARGE, "Content Too Large"},
    {HTTP_URI_TOO_LONG, "URI Too Long"},
    {HTTP_UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"},
    {HTTP_EXPECTATION_FAILED, "Expectation Failed"},
    {HTTP_TOO_MANY_REQUESTS, "Too Many Requests"},
    {HTTP_HEADERS_TOO_LARGE, "Request Header Fields Too Large"},
    {HTTP_UNAVAILABLE, "Service Unavailable"},
    {HTTP_VERSION_NOT_SUPPORTED, "HTTP Version Not Supported"},
    {0, "Refused"}, /* the others */
};

static int status_index(unsigned status)
{
    int i = 0;
    while (statuses[i].status != status && statuses[i].status != 0)
        i++;
    return i;
}

/* ---- Sending ---- */

/* Made once a second. */
static const char *date_of(struct lane *s)
{
    int64_t now = s->h->wall(s->h) / WEIR_NS_PER_S;
    if (now == s->date_s)
        return s->date;
    static const char days[] = "SunMonTueWedThuFriSat",
                      months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    time_t t = now;
    if (gmtime_r(&t, &tm) == NULL)
        return s->date;
    (void)snprintf(s->date, sizeof(s->date), "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
                   days + 3 * tm.tm_wday, (unsigned)tm.tm_mday % 100u, months + 3 * tm.tm_mon,
                   (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)tm.tm_hour % 100u,
                   (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u);
    s->date_s = now;
    return s->date;
}

static struct text *text_begin(struct text *t)
{
    if (t->cap > TEXT_KEEP_MAX)
        text_done(t);
    t->len = 0;
    t->failed = false;
    return t;
}

static void add_challenges(const struct request *q, struct text *t)
{
    const struct config *cf = q->lane->config;
    if (strcmp(q->refusal.code, "bad_signature") == 0) {
        text_cstr(t, "WWW-Authenticate: HMAC realm=\"weir\", header=\"");
        text_add(t, cf->hmac.header);
        text_cstr(t, "\"\r\n");
        return;
    }
    if (cf->tokens.n != 0 || cf->token_file.len != 0) {
        text_cstr(t, "WWW-Authenticate: Bearer realm=\"weir\"");
        text_cstr(t, q->had_token ? ", error=\"invalid_token\"\r\n" : "\r\n");
    }
    if (cf->basic.n != 0)
        text_cstr(t, "WWW-Authenticate: Basic realm=\"weir\", charset=\"UTF-8\"\r\n");
}

static void add_methods(const struct request *q, struct text *t)
{
    const struct config *cf = q->lane->config;
    const int *methods = cf->methods.items;
    text_cstr(t, "Allow: ");
    for (uint32_t i = 0; i < cf->methods.n; i++) {
        text_cstr(t, i != 0 ? ", " : "");
        text_cstr(t, method_words[methods[i]]);
    }
    text_cstr(t, cf->cors.origins.n != 0 ? ", OPTIONS\r\n" : "\r\n");
}

/* The headers that an answer of this status has besides the usual ones. */
static void add_special(const struct request *q, unsigned status, struct text *t)
{
    switch (status) {
    case HTTP_NO_CONTENT:
        cors_preflight_headers(q, t);
        break;
    case HTTP_UNAUTHORIZED:
        add_challenges(q, t);
        break;
    case HTTP_METHOD_NOT_ALLOWED:
        add_methods(q, t);
        break;
    case HTTP_TOO_MANY_REQUESTS:
    case HTTP_UNAVAILABLE:
        text_cstr(t, "Retry-After: ");
        text_int(t, drain_retry_after(q->lane));
        text_cstr(t, "\r\n");
        break;
    case HTTP_UNSUPPORTED_MEDIA_TYPE:
        text_cstr(t, strcmp(q->refusal.code, "unsupported_type") == 0
                         ? "Accept: application/json, application/x-ndjson, "
                           "application/x-weir+ndjson\r\n"
                         : "Accept-Encoding: gzip, deflate, zstd, identity\r\n");
        break;
    default:
        break;
    }
}

static void add_head(struct request *q, unsigned status, size_t body_len, struct text *t)
{
    struct lane *s = q->lane;
    text_cstr(t, "HTTP/1.1 ");
    text_int(t, status);
    text_cstr(t, " ");
    text_cstr(t, statuses[status_index(status)].reason);
    text_cstr(t, "\r\nDate: ");
    text_cstr(t, date_of(s));
    text_cstr(t, "\r\n");
    if (status != HTTP_NO_CONTENT) {
        text_cstr(t, "Content-Type: application/json\r\nContent-Length: ");
        text_int(t, (int64_t)body_len);
        text_cstr(t, "\r\n");
    }
    add_special(q, status, t);
    cors_headers(q, t);
    if (q->conn->close)
        text_cstr(t, "Connection: close\r\n");
    else if (q->head.http_1_0)
        text_cstr(t, "Connection: keep-alive\r\n");
    text_cstr(t, "\r\n");
}

/* Sends s->text as the body. */
static void send_text(struct request *q, unsigned status)
{
    struct lane *s = q->lane;
    struct conn *c = q->conn;
    struct text *head = text_begin(&s->head_text);
    c->close = c->close || s->stopping;
    add_head(q, status, s->text.len, head);
    s->h->metric_add(s->by_status[status_index(status)], 1);
    q->state = REQUEST_REPLIED;
    if (q->parts == NULL) /* else the rest of it is still to come */
        request_drop_body(q);
    if (head->failed || s->text.failed) {
        conn_close(c);
        return;
    }
    bool bare = status == HTTP_NO_CONTENT || method_is(&q->head, "HEAD");
    conn_answer(c, weir_str_n(head->ptr, head->len),
                weir_str_n(s->text.ptr, bare ? 0 : s->text.len));
}

/* ---- Items ---- */

static const char *const outcome_words[] = {"filtered",      "delivered", "dropped",
                                            "dead_lettered", "abandoned", "failed"};

static void add_member(struct text *t, const char *name, struct weir_str value)
{
    if (value.len == 0)
        return;
    text_cstr(t, ",\"");
    text_cstr(t, name);
    text_cstr(t, "\":");
    text_json(t, weir_str_n(value.ptr, value.len < MESSAGE_MAX ? value.len : MESSAGE_MAX));
}

static void add_item_head(struct text *t, bool *first, uint32_t item, const char *status)
{
    text_cstr(t, *first ? ",\"items\":[" : ",");
    *first = false;
    text_cstr(t, "{\"item\":");
    text_int(t, item);
    text_cstr(t, ",\"status\":\"");
    text_cstr(t, status);
    text_cstr(t, "\"");
}

static void add_rejected(struct text *t, bool *first, const struct rejected *r)
{
    add_item_head(t, first, r->item, "rejected");
    add_member(t, "code", weir_cstr(r->code));
    add_member(t, "message", weir_cstr(r->message));
    if (r->offset >= 0) {
        text_cstr(t, ",\"offset\":");
        text_int(t, r->offset);
    }
    text_cstr(t, "}");
}

static void add_end(struct text *t, bool *first, uint32_t item, const struct weir_end *end)
{
    if (end->outcome == WEIR_DELIVERED)
        return;
    add_item_head(t, first, item, outcome_words[end->outcome]);
    add_member(t, "component", end->component);
    add_member(t, "code", weir_cstr(end->code));
    add_member(t, "message", end->message);
    text_cstr(t, "}");
}

/* An answer may be many times as long as its request: it takes no more than this. */
static size_t list_max(const struct request *q)
{
    return (size_t)q->lane->config->max_in_flight / 4;
}

/* Every item that was not plainly delivered, by its place in the body; how many of them had no place in
 * the list. ends may be NULL. */
static void add_items(struct text *t, const struct request *q, const struct weir_ends *ends)
{
    uint32_t left_out = 0, n_ends = ends != NULL ? ends->n : 0, more = 0;
    bool first = true;
    for (uint32_t i = 0; i < n_ends + q->n_rejects; i++) {
        bool full = t->len >= list_max(q);
        if (left_out < q->n_rejects && q->rejects[left_out].item == i) {
            if (!full)
                add_rejected(t, &first, &q->rejects[left_out]);
            left_out++;
            more += full;
        } else if (i - left_out < n_ends) {
            const struct weir_end *end = weir_end_at(ends, i - left_out);
            if (!full)
                add_end(t, &first, i, end);
            more += full && end->outcome != WEIR_DELIVERED;
        }
    }
    if (!first)
        text_cstr(t, "]");
    if (more == 0)
        return;
    text_cstr(t, ",\"more\":");
    text_int(t, more);
}

/* ---- Answers ---- */

static void add_error(struct text *t, const struct refusal *r)
{
    text_cstr(t, "\"error\":{\"code\":\"");
    text_cstr(t, r->code);
    text_cstr(t, "\",\"message\":");
    text_json(t, weir_cstr(r->message));
    if (r->item >= 0) {
        text_cstr(t, ",\"item\":");
        text_int(t, r->item);
    }
    if (r->offset >= 0) {
        text_cstr(t, ",\"offset\":");
        text_int(t, r->offset);
    }
    text_cstr(t, "}");
}

void reply_refusal(struct request *q)
{
    struct text *t = text_begin(&q->lane->text);
    text_cstr(t, "{");
    add_error(t, &q->refusal);
    add_items(t, q, NULL);
    text_cstr(t, "}");
    send_text(q, q->refusal.status);
}

void reply_preflight(struct request *q)
{
    (void)text_begin(&q->lane->text);
    send_text(q, HTTP_NO_CONTENT);
}

static void add_accepted(struct text *t, const struct request *q, uint32_t n)
{
    text_cstr(t, "{\"accepted\":");
    text_int(t, n);
    if (q->n_rejects == 0)
        return;
    text_cstr(t, ",\"rejected\":");
    text_int(t, q->n_rejects);
}

void reply_accepted(struct request *q, uint32_t n)
{
    struct text *t = text_begin(&q->lane->text);
    add_accepted(t, q, n);
    text_cstr(t, "}");
    send_text(q, HTTP_OK);
}

static void count_ends(const struct weir_ends *ends, uint32_t *ret_counts)
{
    for (uint32_t i = 0; i < ends->n; i++)
        ret_counts[weir_end_at(ends, i)->outcome]++;
}

void reply_ends(struct request *q, const struct weir_ends *ends)
{
    uint32_t counts[WEIR_FAILED + 1] = {0};
    count_ends(ends, counts);
    if (counts[WEIR_DELIVERED] == ends->n && q->n_rejects == 0) {
        reply_accepted(q, ends->n);
        return;
    }
    struct text *t = text_begin(&q->lane->text);
    uint32_t failed = counts[WEIR_FAILED] + counts[WEIR_ABANDONED];
    unsigned status = counts[WEIR_DEAD_LETTERED] != 0 ? HTTP_ACCEPTED : HTTP_OK;
    add_accepted(t, q, ends->n - failed);
    if (q->n_rejects != 0)
        status = HTTP_MULTI_STATUS;
    if (failed != 0) {
        refuse(&q->refusal, status = HTTP_UNAVAILABLE, "failed",
               "%u of %u events were not delivered: send them again", failed, ends->n);
        text_cstr(t, ",");
        add_error(t, &q->refusal);
    }
    add_items(t, q, ends);
    text_cstr(t, "}");
    send_text(q, status);
}

/* ---- Opening and closing ---- */

void answer_open(struct lane *s)
{
    s->text.h = s->head_text.h = s->h;
    for (int i = 0; i < N_STATUSES; i++) {
        char word[16] = "other";
        if (statuses[i].status != 0)
            (void)snprintf(word, sizeof(word), "%u", statuses[i].status);
        const char *labels[] = {"code", word, NULL};
        s->by_status[i] = s->h->counter(s->h, "http_responses_total",
                                        "Answers of the http source, by status code.", labels);
    }
    s->connections = s->h->gauge(s->h, "http_connections", "Open client connections.", NULL);
    s->in_flight = s->h->gauge(
        s->h, "http_in_flight_bytes",
        "Bytes of requests that are not answered and of answers that are not read.", NULL);
}

void answer_close(struct lane *s)
{
    text_done(&s->text);
    text_done(&s->head_text);
}
