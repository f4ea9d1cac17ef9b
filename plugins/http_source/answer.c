/* SPDX-License-Identifier: Apache-2.0
 *
 * What the client hears. The usual answer, {"accepted":n}, is made once for each n and shared by
 * all connections; every other one is written anew.
 *
 *   {"accepted":3,"items":[{"item":1,"status":"dead_lettered","code":"...","message":"..."}]}
 *   {"error":{"code":"bad_json","message":"...","item":4,"offset":120}}
 *
 * Items that are not named were delivered. `offset` is a position in the (decompressed) body.
 */
#include "http_source.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX 300
#define TEXT_COPY_MAX (32u << 10)

static const unsigned statuses[N_STATUSES] = {200, 202, 400, 401, 404, 405,
                                              408, 413, 415, 429, 503, 0};

static void count(struct lane *s, unsigned status)
{
    int i = 0;
    while (statuses[i] != status && statuses[i] != 0)
        i++;
    s->h->metric_add(s->by_status[i], 1);
}

/* ---- Sending ---- */

/* libmicrohttpd copies the text. NULL on no memory. */
static struct MHD_Response *response_of(struct weir_str text)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(text.len, (void *)(uintptr_t)text.ptr,
                                                             MHD_RESPMEM_MUST_COPY);
    if (r != NULL)
        (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    return r;
}

/* Queues the response and lets the connection go on. r NULL: there was no memory for it. */
static void send_response(struct request *q, unsigned status, struct MHD_Response *r)
{
    struct conn *c = q->conn;
    q->state = REQUEST_REPLIED;
    if (r != NULL && MHD_queue_response(c->mhd, status, r) == MHD_YES) {
        count(q->lane, status);
        conn_deadline(c, DEADLINE_SEND);
    } else {
        conn_shut(c);
    }
    if (c->suspended) {
        c->suspended = false;
        q->lane->resumed = true;
        MHD_resume_connection(c->mhd);
    }
}

/* A long text goes to libmicrohttpd as it is, so that the process's budget counts it until it is
 * sent. */
static struct MHD_Response *response_of_text(struct lane *s)
{
    struct text *t = &s->text;
    struct MHD_Response *r = NULL;
    if (t->failed || t->len <= TEXT_COPY_MAX)
        return t->failed ? NULL : response_of(weir_str_n(t->ptr, t->len));
    r = MHD_create_response_from_buffer_with_free_callback(t->len, t->ptr, s->h->free);
    if (r == NULL)
        return NULL;
    *t = (struct text){.h = t->h};
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    return r;
}

static void send_text(struct request *q, unsigned status, const char *header, const char *value)
{
    struct MHD_Response *r = response_of_text(q->lane);
    if (r != NULL && header != NULL)
        (void)MHD_add_response_header(r, header, value);
    if (r != NULL && q->lane->stopping)
        (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    send_response(q, status, r);
    if (r != NULL)
        MHD_destroy_response(r);
}

static struct text *text_begin(struct lane *s)
{
    if (s->text.cap > TEXT_COPY_MAX)
        text_done(&s->text);
    s->text.len = 0;
    s->text.failed = false;
    return &s->text;
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

/* Every item that was not plainly delivered, by its place in the body. ends may be NULL. */
static void add_items(struct text *t, const struct request *q, const struct weir_ends *ends)
{
    uint32_t left_out = 0, n_ends = ends != NULL ? ends->n : 0;
    bool first = true;
    for (uint32_t i = 0; i < n_ends + q->n_rejects; i++) {
        if (left_out < q->n_rejects && q->rejects[left_out].item == i)
            add_rejected(t, &first, &q->rejects[left_out++]);
        else if (i - left_out < n_ends)
            add_end(t, &first, i, weir_end_at(ends, i - left_out));
    }
    if (!first)
        text_cstr(t, "]");
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

static const char *retry_after(const struct lane *s, char *out, size_t cap)
{
    int64_t seconds = (s->config->retry_after + WEIR_NS_PER_S - 1) / WEIR_NS_PER_S;
    (void)snprintf(out, cap, "%lld", (long long)(seconds > 0 ? seconds : 1));
    return out;
}

/* The header that an error answer has besides the usual ones, NULL for none. */
static const char *extra_header(struct request *q, unsigned status, char *out, size_t cap,
                                const char **ret_value)
{
    switch (status) {
    case MHD_HTTP_UNAUTHORIZED:
        *ret_value = "Bearer realm=\"weir\"";
        return MHD_HTTP_HEADER_WWW_AUTHENTICATE;
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        *ret_value = MHD_HTTP_METHOD_POST;
        return MHD_HTTP_HEADER_ALLOW;
    case MHD_HTTP_TOO_MANY_REQUESTS:
    case MHD_HTTP_SERVICE_UNAVAILABLE:
        *ret_value = retry_after(q->lane, out, cap);
        return MHD_HTTP_HEADER_RETRY_AFTER;
    case MHD_HTTP_UNSUPPORTED_MEDIA_TYPE:
        if (strcmp(q->refusal.code, "unsupported_type") == 0) {
            *ret_value = "application/json, application/x-ndjson, application/x-weir+ndjson";
            return MHD_HTTP_HEADER_ACCEPT;
        }
        *ret_value = "gzip, identity";
        return MHD_HTTP_HEADER_ACCEPT_ENCODING;
    default:
        return NULL;
    }
}

void reply_refusal(struct request *q)
{
    struct text *t = text_begin(q->lane);
    char number[24];
    const char *value = NULL;
    const char *name = extra_header(q, q->refusal.status, number, sizeof(number), &value);
    text_cstr(t, "{");
    add_error(t, &q->refusal);
    add_items(t, q, NULL);
    text_cstr(t, "}");
    send_text(q, q->refusal.status, name, value);
}

static void write_accepted(struct text *t, uint32_t n)
{
    text_cstr(t, "{\"accepted\":");
    text_int(t, n);
}

void reply_accepted(struct request *q, uint32_t n)
{
    struct lane *s = q->lane;
    uint32_t slot = n % N_CACHED;
    struct text *t = text_begin(s);
    if (s->stopping || s->accepted[slot].response == NULL || s->accepted[slot].n != n) {
        write_accepted(t, n);
        text_cstr(t, "}");
    }
    if (s->stopping) { /* with Connection: close */
        send_text(q, MHD_HTTP_OK, NULL, NULL);
        return;
    }
    if (t->len != 0) {
        if (s->accepted[slot].response != NULL)
            MHD_destroy_response(s->accepted[slot].response);
        s->accepted[slot].response = t->failed ? NULL : response_of(weir_str_n(t->ptr, t->len));
        s->accepted[slot].n = n;
    }
    send_response(q, MHD_HTTP_OK, s->accepted[slot].response);
}

static void count_ends(const struct weir_ends *ends, uint32_t *ret_counts)
{
    for (uint32_t i = 0; i < ends->n; i++)
        ret_counts[weir_end_at(ends, i)->outcome]++;
}

void reply_ends(struct request *q, const struct weir_ends *ends)
{
    uint32_t counts[WEIR_FAILED + 1] = {0};
    char number[24];
    count_ends(ends, counts);
    if (counts[WEIR_DELIVERED] == ends->n && q->n_rejects == 0) {
        reply_accepted(q, ends->n);
        return;
    }
    struct text *t = text_begin(q->lane);
    uint32_t failed = counts[WEIR_FAILED] + counts[WEIR_ABANDONED];
    write_accepted(t, ends->n - failed);
    if (failed != 0) {
        refuse(&q->refusal, MHD_HTTP_SERVICE_UNAVAILABLE, "failed",
               "%u of %u events were not delivered: send them again", failed, ends->n);
        text_cstr(t, ",");
        add_error(t, &q->refusal);
    }
    add_items(t, q, ends);
    text_cstr(t, "}");
    if (failed != 0)
        send_text(q, MHD_HTTP_SERVICE_UNAVAILABLE, MHD_HTTP_HEADER_RETRY_AFTER,
                  retry_after(q->lane, number, sizeof(number)));
    else
        send_text(q, counts[WEIR_DEAD_LETTERED] != 0 ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK, NULL, NULL);
}

void reply_cut(struct request *q)
{
    struct text *t = text_begin(q->lane);
    char head[200];
    text_cstr(t, "{");
    add_error(t, &q->refusal);
    text_cstr(t, "}");
    const char *reason = q->refusal.status == MHD_HTTP_REQUEST_TIMEOUT     ? "Request Timeout"
                         : q->refusal.status == MHD_HTTP_CONTENT_TOO_LARGE ? "Content Too Large"
                                                                           : "Refused";
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     q->refusal.status, reason, t->len);
    if (!t->failed) {
        struct iovec parts[] = {{head, (size_t)n}, {t->ptr, t->len}};
        struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
        (void)!sendmsg(q->conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    count(q->lane, q->refusal.status);
    q->state = REQUEST_REPLIED;
    request_drop_body(q);
    q->conn->cut = true;
    (void)shutdown(q->conn->fd, SHUT_WR);
    conn_deadline(q->conn, DEADLINE_LINGER);
}

void answer_open(struct lane *s)
{
    s->text.h = s->h;
    for (int i = 0; i < N_STATUSES; i++) {
        char word[16] = "other";
        if (statuses[i] != 0)
            (void)snprintf(word, sizeof(word), "%u", statuses[i]);
        const char *labels[] = {"code", word, NULL};
        s->by_status[i] = s->h->counter(s->h, "http_responses_total",
                                        "Answers of the http source, by status code.", labels);
    }
    s->connections = s->h->gauge(s->h, "http_connections", "Open client connections.", NULL);
    s->in_flight = s->h->gauge(s->h, "http_in_flight_bytes",
                               "Bytes of request bodies that are not answered.", NULL);
}

void answer_close(struct lane *s)
{
    for (int i = 0; i < N_CACHED; i++)
        if (s->accepted[i].response != NULL)
            MHD_destroy_response(s->accepted[i].response);
    text_done(&s->text);
}
