/* SPDX-License-Identifier: Apache-2.0
 *
 * libmicrohttpd's callbacks, connections, requests and their deadlines.
 *
 * libmicrohttpd's own timeout counts from the last byte, so that a client which drips can hold a
 * connection for ever, and does not run while a connection is suspended. So it is off, and each
 * connection has one deadline of ours: between requests, in a request, or while the answer is sent.
 * A request that a client gave up while it was suspended is found out when it is answered; its
 * events go on. A conn lives until libmicrohttpd says that it is closed, which never happens while
 * it is suspended.
 */
#include "http_source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FREE_REQUESTS_MAX 256
#define LINGER_BYTES (UINT64_C(64) << 20)

/* ---- Deadlines ---- */

static void deadline_clear(struct conn *c)
{
    struct conn_list *list = &c->lane->deadlines[c->deadline];
    if (!c->linked)
        return;
    *(c->prev != NULL ? &c->prev->next : &list->head) = c->next;
    *(c->next != NULL ? &c->next->prev : &list->tail) = c->prev;
    c->linked = false;
}

void conn_deadline(struct conn *c, enum deadline deadline)
{
    deadline_clear(c);
    struct conn_list *list = &c->lane->deadlines[deadline];
    c->deadline = deadline;
    c->deadline_ns = c->lane->now + list->ttl_ns;
    c->prev = list->tail;
    c->next = NULL;
    *(list->tail != NULL ? &list->tail->next : &list->head) = c;
    list->tail = c;
    c->linked = true;
}

void conn_shut(struct conn *c)
{
    deadline_clear(c);
    (void)shutdown(c->fd, SHUT_RDWR);
}

/* ---- Requests ---- */

static struct request *request_new(struct lane *s)
{
    struct request *q = s->free_requests;
    if (q == NULL)
        return s->h->alloc(sizeof(*q));
    s->free_requests = q->next;
    q->next = NULL;
    s->n_free_requests--;
    return q;
}

void request_free(struct request *take_q)
{
    struct lane *s = take_q->lane;
    request_drop_body(take_q);
    request_charge(take_q, -take_q->charged);
    s->h->free(take_q->rejects);
    if (s->n_free_requests == FREE_REQUESTS_MAX) {
        s->h->free(take_q);
        return;
    }
    memset(take_q, 0, sizeof(*take_q));
    take_q->next = s->free_requests;
    s->free_requests = take_q;
    s->n_free_requests++;
}

void request_charge(struct request *q, int64_t bytes)
{
    if (bytes == 0)
        return;
    q->charged += bytes;
    atomic_fetch_add_explicit(&q->lane->shared->in_flight, bytes, memory_order_relaxed);
}

void request_drop_body(struct request *q)
{
    body_free(q->body);
    q->body = NULL;
}

/* Complete: it waits, suspended, until the pipeline has room for it. */
void request_queue(struct request *q)
{
    struct lane *s = q->lane;
    MHD_suspend_connection(q->conn->mhd);
    q->conn->suspended = true;
    q->state = REQUEST_QUEUED;
    q->queued_ns = s->now;
    q->prev = s->ready.tail;
    q->next = NULL;
    *(s->ready.tail != NULL ? &s->ready.tail->next : &s->ready.head) = q;
    s->ready.tail = q;
}

void request_unqueue(struct request *q)
{
    struct lane *s = q->lane;
    *(q->prev != NULL ? &q->prev->next : &s->ready.head) = q->next;
    *(q->next != NULL ? &q->next->prev : &s->ready.tail) = q->prev;
    q->prev = q->next = NULL;
}

/* ---- Callbacks ---- */

static struct conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static void conn_started(struct lane *s, struct MHD_Connection *mhd, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct conn *c = s->h->alloc(sizeof(*c));
    *context = c;
    if (c == NULL) {
        (void)shutdown(info->connect_fd, SHUT_RDWR);
        return;
    }
    *c = (struct conn){.lane = s, .mhd = mhd, .fd = info->connect_fd};
    conn_deadline(c, DEADLINE_IDLE);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct lane *s = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        s->n_started++;
        atomic_fetch_add_explicit(&s->n_conns, 1, memory_order_relaxed);
        conn_started(s, mhd, context);
        return;
    }
    atomic_fetch_sub_explicit(&s->n_conns, 1, memory_order_relaxed);
    listen_release(s);
    if (*context == NULL)
        return;
    deadline_clear(*context);
    s->h->free(*context);
    *context = NULL;
}

/* The path of a target in absolute form (http://host/path), as proxies send it. */
static const char *path_of(const char *uri)
{
    size_t scheme = strncasecmp(uri, "http://", 7) == 0    ? 7
                    : strncasecmp(uri, "https://", 8) == 0 ? 8
                                                           : 0;
    if (scheme == 0)
        return uri;
    uri += scheme + strcspn(uri + scheme, "/?#");
    return *uri == '/' ? uri : "/";
}

/* Index of the path that the request line names, -1 where it is none of ours. */
static int32_t path_find(const struct config *cf, const char *uri)
{
    uri = path_of(uri);
    size_t len = strcspn(uri, "?#");
    for (uint32_t i = 0; i < cf->paths.n; i++) {
        struct weir_str path = list_str(&cf->paths, i);
        if (path.len == len && memcmp(path.ptr, uri, len) == 0)
            return (int32_t)i;
    }
    return -1;
}

/* The request line has been read: the request begins. What is returned is its context. */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct lane *s = cls;
    struct conn *c = conn_of(mhd);
    struct request *q = c != NULL ? request_new(s) : NULL;
    if (q == NULL)
        return NULL;
    q->lane = s;
    q->conn = c;
    q->state = REQUEST_HEAD;
    q->path = path_find(s->config, uri);
    c->request = q;
    conn_deadline(c, DEADLINE_REQUEST);
    return q;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct request *q = *context;
    (void)cls;
    (void)mhd;
    (void)code;
    *context = NULL;
    if (q == NULL)
        return;
    struct conn *c = q->conn;
    q->conn = NULL;
    if (q->state == REQUEST_QUEUED)
        request_unqueue(q);
    if (!q->open)
        request_free(q);
    c->request = NULL;
    conn_deadline(c, DEADLINE_IDLE);
}

/* Content-Length and chunked bodies that are refused are read to their end, so that the client
 * hears the answer and keeps its connection; but no more than this. */
static uint64_t drain_max(const struct lane *s)
{
    return (uint64_t)s->config->max_body + (1u << 20);
}

static enum MHD_Result request_head(struct request *q, const char *method, const char *version)
{
    q->state = REQUEST_BODY;
    bool now = head_check(q, method, version);
    bool too_long = q->content_length != UINT64_MAX && q->content_length > drain_max(q->lane);
    if (q->refusal.status != 0 && now)
        reply_refusal(q);
    else if (q->refusal.status != 0 && too_long)
        reply_cut(q);
    return MHD_YES;
}

static enum MHD_Result request_body(struct request *q, const char *data, size_t n)
{
    q->received += n;
    if (q->refusal.status == 0)
        body_append(q, data, n);
    if (q->refusal.status == 0 || q->received <= drain_max(q->lane))
        return MHD_YES;
    reply_cut(q);
    return MHD_YES;
}

/* What comes behind a cut is thrown away, until the client has ended or its moment is over. */
static enum MHD_Result cut_body(struct request *q, size_t n)
{
    q->received += n;
    if (q->received > drain_max(q->lane) + LINGER_BYTES)
        conn_shut(q->conn);
    return n != 0 ? MHD_YES : MHD_NO;
}

static enum MHD_Result request_complete(struct request *q)
{
    if (q->refusal.status == 0 && q->lane->stopping)
        refuse(&q->refusal, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
    if (q->refusal.status != 0)
        reply_refusal(q);
    else
        request_queue(q);
    return MHD_YES;
}

/* Called with the head, with each part of the body, and at the end. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n_data, void **context)
{
    struct request *q = *context;
    (void)cls;
    (void)mhd;
    (void)url;
    if (q == NULL)
        return MHD_NO; /* no memory for it */
    if (q->state == REQUEST_HEAD)
        return request_head(q, method, version);
    size_t n = *n_data;
    *n_data = 0;
    if (q->conn->cut)
        return cut_body(q, n);
    if (q->state >= REQUEST_QUEUED)
        return MHD_NO; /* shut down with nothing to say */
    return n == 0 ? request_complete(q) : request_body(q, data, n);
}

/* Nothing here is logged a request: only what needs an operator's eye. */
static void on_log(void *cls, const char *fmt, va_list ap) WEIR_PRINTF(2, 0);
static void on_log(void *cls, const char *fmt, va_list ap)
{
    struct lane *s = cls;
    enum weir_log_level level = WEIR_LOG_DEBUG;
    if (strncmp(fmt, "Hit process", 11) == 0 || strncmp(fmt, "Call to epoll", 13) == 0)
        level = WEIR_LOG_WARN;
    if (!s->h->log_enabled(s->h, level))
        return;
    char text[256];
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    while (n > 0 && (n >= (int)sizeof(text) || text[n - 1] == '\n'))
        n = n >= (int)sizeof(text) ? (int)sizeof(text) - 1 : n - 1;
    struct weir_kv kv[] = {weir_kv_str("detail", weir_str_n(text, n > 0 ? (size_t)n : 0))};
    s->h->log(s->h, level, "libmicrohttpd", kv, 1);
}

struct MHD_Daemon *conn_daemon_start(struct lane *s)
{
    const struct config *cf = s->config;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0,
        NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        s, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)cf->connection_memory, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)cf->max_connections + MAX_LANES * INBOX_CAP, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_END);
}

void conn_add(struct lane *s, int take_fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    s->n_taken++;
    if (getpeername(take_fd, (struct sockaddr *)&ss, &len) != 0)
        close(take_fd); /* gone already */
    else
        (void)MHD_add_connection(s->daemon, take_fd, (struct sockaddr *)&ss, len);
}

/* libmicrohttpd starts what is added at once (0.9) or in its next turn (1.0); what has not begun after
 * that never will. */
void conn_missed(struct lane *s)
{
    for (; s->n_taken != s->n_started; s->n_taken--)
        listen_release(s);
}

/* ---- What time brings ---- */

static void request_expired(struct request *q)
{
    int64_t ms = q->lane->config->request_timeout / WEIR_NS_PER_MS;
    if (q->state < REQUEST_QUEUED) {
        refuse(&q->refusal, MHD_HTTP_REQUEST_TIMEOUT, "request_timeout",
               "the request was not complete within %lld ms", (long long)ms);
        reply_cut(q);
        return;
    }
    if (q->state == REQUEST_QUEUED)
        request_unqueue(q);
    refuse(&q->refusal, MHD_HTTP_SERVICE_UNAVAILABLE, "timeout",
           "%s within %lld ms; send the request again, best with the same Idempotency-Key",
           q->open ? "it is not known whether the events were delivered"
                   : "the pipeline had no room for the request",
           (long long)ms);
    reply_refusal(q);
}

void conn_expire(struct lane *s)
{
    struct conn *c;
    while ((c = s->deadlines[DEADLINE_IDLE].head) != NULL && c->deadline_ns <= s->now)
        conn_shut(c);
    while ((c = s->deadlines[DEADLINE_SEND].head) != NULL && c->deadline_ns <= s->now)
        conn_shut(c);
    while ((c = s->deadlines[DEADLINE_LINGER].head) != NULL && c->deadline_ns <= s->now)
        conn_shut(c);
    while ((c = s->deadlines[DEADLINE_REQUEST].head) != NULL && c->deadline_ns <= s->now)
        request_expired(c->request);
    struct request *q;
    while ((q = s->ready.head) != NULL && q->queued_ns + s->config->max_wait <= s->now) {
        request_unqueue(q);
        refuse(&q->refusal, MHD_HTTP_TOO_MANY_REQUESTS, "busy",
               "the pipeline had no room for the request within %lld ms; nothing of it was taken",
               (long long)(s->config->max_wait / WEIR_NS_PER_MS));
        reply_refusal(q);
    }
}

int64_t conn_next_deadline(const struct lane *s)
{
    int64_t next = WEIR_NEVER;
    for (int i = 0; i < N_DEADLINES; i++) {
        const struct conn *c = s->deadlines[i].head;
        if (c != NULL && c->deadline_ns < next)
            next = c->deadline_ns;
    }
    if (s->ready.head != NULL && s->ready.head->queued_ns + s->config->max_wait < next)
        next = s->ready.head->queued_ns + s->config->max_wait;
    return next;
}

void conn_release_all(struct lane *s)
{
    struct conn *next = NULL;
    for (struct conn *c = s->deadlines[DEADLINE_REQUEST].head; c != NULL; c = next) {
        struct request *q = c->request;
        next = c->next;
        if (q == NULL || !c->suspended)
            continue;
        if (q->state == REQUEST_QUEUED)
            request_unqueue(q);
        refuse(&q->refusal, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
        reply_refusal(q);
    }
}
