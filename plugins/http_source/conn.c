/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection's turns. It is always in one phase, and conn_work goes from phase to phase until it
 * would have to wait. One request is under way at a time; what a client sends meanwhile stays in
 * its socket, which is all the back-pressure there is.
 *
 * Every connection has one deadline: between requests, in a request, while the answer is sent, or
 * while its end is waited for. They run from the phase's beginning, so that a client which drips
 * gains nothing. A request that a client gave up while it was with the pipeline goes on; that is
 * found out when it is answered. A closed connection is freed at the end of the turn.
 */
#include "http_source.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <string.h>
#include <unistd.h>

#define READS_A_TURN 16 /* of a connection, so that the others have theirs */
#define LINGER_BYTES (UINT64_C(64) << 20)

/* What a step of a phase found. */
enum go { GO_ON, GO_WAIT, GO_LATER, GO_CLOSE };

/* ---- Deadlines ---- */

static void deadline_clear(struct conn *c)
{
    struct conn_list *list = &c->lane->deadlines[c->deadline];
    if (!c->linked)
        return;
    *(c->prev != NULL ? &c->prev->next : &list->head) = c->next;
    *(c->next != NULL ? &c->next->prev : &list->tail) = c->prev;
    c->linked = false;
    reading_end(c);
}

static void deadline_set(struct conn *c, enum deadline deadline)
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
    if (deadline == DEADLINE_REQUEST)
        reading_begin(c);
}

/* ---- Work lists ---- */

void conn_later(struct conn *c)
{
    struct lane *s = c->lane;
    if (c->queued || c->phase == PHASE_CLOSED)
        return;
    c->queued = true;
    c->work_prev = s->work.tail;
    c->work_next = NULL;
    *(s->work.tail != NULL ? &s->work.tail->work_next : &s->work.head) = c;
    s->work.tail = c;
}

static void work_remove(struct conn *c)
{
    struct lane *s = c->lane;
    if (!c->queued)
        return;
    *(c->work_prev != NULL ? &c->work_prev->work_next : &s->work.head) = c->work_next;
    *(c->work_next != NULL ? &c->work_next->work_prev : &s->work.tail) = c->work_prev;
    c->queued = false;
}

/* ---- What was read ---- */

static enum go fill(struct conn *c)
{
    ssize_t n = net_read(c, c->in->data + c->in->len, c->in->cap - c->in->len);
    if (n == NET_EOF) {
        c->eof = true;
        return GO_CLOSE;
    }
    c->in->len += (size_t)n;
    return n > 0 ? GO_ON : GO_WAIT;
}

/* ---- Ends ---- */

/* An answer that is not read counts as its request did. */
static void out_charge(struct conn *c, int64_t bytes)
{
    atomic_fetch_add_explicit(&c->lane->shared->in_flight, bytes, memory_order_relaxed);
}

static void out_free(struct conn *c)
{
    if (c->out != NULL)
        out_charge(c, -(int64_t)c->out->cap);
    body_free(c->out);
    c->out = NULL;
}

void conn_close(struct conn *c)
{
    struct lane *s = c->lane;
    if (c->phase == PHASE_CLOSED)
        return;
    deadline_clear(c);
    work_remove(c);
    if (c->request != NULL)
        request_leave(c->request);
    if (c->ssl != NULL)
        SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd); /* this also takes it out of epoll */
    c->phase = PHASE_CLOSED;
    inbuf_free(s, c->in);
    inbuf_free(s, c->behind);
    out_free(c);
    c->next = s->dead;
    s->dead = c;
    atomic_fetch_sub_explicit(&s->n_conns, 1, memory_order_relaxed);
    listen_release(s);
}

void conn_free_dead(struct lane *s)
{
    while (s->dead != NULL) {
        struct conn *c = s->dead;
        s->dead = c->next;
        s->h->free(c);
    }
}

/* The last answer is out. A reset would take it away from a client that still sends: what comes is
 * thrown away for a moment. */
static enum go linger_begin(struct conn *c)
{
    if (c->eof)
        return GO_CLOSE;
    inbuf_free(c->lane, c->in); /* nothing is read into it any more, and none of it counts when the client
                                   hears the end and comes again */
    c->in = NULL;
    net_end(c);
    c->phase = PHASE_LINGER;
    deadline_set(c, DEADLINE_LINGER);
    return GO_ON;
}

static enum go linger_step(struct conn *c)
{
    ssize_t n = net_read(c, c->lane->scratch, SCRATCH_CAP);
    if (n == NET_EOF)
        return GO_CLOSE;
    c->lingered += (uint64_t)n;
    if (c->lingered > LINGER_BYTES)
        return GO_CLOSE;
    return n > 0 ? GO_ON : GO_WAIT;
}

/* The answer is out: the next request, or the end. */
static enum go answered(struct conn *c)
{
    struct lane *s = c->lane;
    if (c->request != NULL)
        request_leave(c->request);
    out_free(c);
    if (c->close)
        return linger_begin(c);
    if (c->behind != NULL) {
        inbuf_free(s, c->in);
        c->in = c->behind;
        c->behind = NULL;
    }
    inbuf_drop_empty(c);
    c->scanned = 0;
    c->used = true;
    c->phase = PHASE_HEAD;
    deadline_set(c, DEADLINE_IDLE);
    return GO_LATER;
}

/* ---- Answers ---- */

static enum go send_step(struct conn *c)
{
    struct weir_str rest = weir_str_n(c->out->data + c->out_at, c->out->len - c->out_at);
    ssize_t n = net_write(c, weir_str_n(NULL, 0), rest);
    if (n == NET_EOF)
        return GO_CLOSE;
    c->out_at += (size_t)n;
    if (c->out_at == c->out->len)
        return answered(c);
    return n > 0 ? GO_ON : GO_WAIT;
}

/* What the socket did not take is kept. */
static bool keep_rest(struct conn *c, struct weir_str head, struct weir_str body, size_t sent)
{
    size_t left = head.len + body.len - sent, of_head = sent < head.len ? head.len - sent : 0;
    c->out = body_grow(c->lane->h, NULL, left);
    if (c->out == NULL)
        return false;
    out_charge(c, (int64_t)left);
    memcpy(c->out->data, head.ptr + (head.len - of_head), of_head);
    if (left != of_head)
        memcpy(c->out->data + of_head, body.ptr + (body.len - (left - of_head)), left - of_head);
    c->out->len = left;
    c->out_at = 0;
    return true;
}

static void leave(struct conn *c, enum go go)
{
    if (go == GO_CLOSE)
        conn_close(c);
    else if (c->phase == PHASE_LINGER || (c->phase == PHASE_HEAD && (c->in != NULL || c->readable)))
        conn_later(c);
}

void conn_answer(struct conn *c, struct weir_str head, struct weir_str body)
{
    ssize_t n = net_write(c, head, body);
    if (n == NET_EOF) {
        conn_close(c);
        return;
    }
    if ((size_t)n == head.len + body.len) {
        leave(c, answered(c));
        return;
    }
    if (!keep_rest(c, head, body, (size_t)n)) {
        conn_close(c);
        return;
    }
    if (c->request != NULL)
        request_leave(c->request);
    c->phase = PHASE_SEND;
    deadline_set(c, DEADLINE_SEND);
    if (c->writable)
        conn_later(c);
}

/* ---- Heads ---- */

/* A request that is refused is read to its end, so that the client keeps its connection; but no
 * more than this. */
static uint64_t drain_max(const struct lane *s)
{
    return (uint64_t)s->config->max_body + (1u << 20);
}

/* Answers before the body has come: there can be no request behind it. */
static enum go refuse_now(struct request *q)
{
    q->conn->close = true;
    reply_refusal(q);
    return GO_WAIT;
}

/* Does the client wait for a word before it sends the body? */
static bool continue_wanted(const struct request *q)
{
    const struct inbuf *in = q->conn->in;
    return q->head.expect.ptr != NULL && !q->head.http_1_0 && q->content_length != 0 &&
           in->at == in->len;
}

/* Whole or not at all: the answer comes right behind it. */
static enum go send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t len = sizeof(text) - 1;
    ssize_t n = net_write(c, weir_str_n(text, len), weir_str_n(NULL, 0));
    return n == (ssize_t)len ? GO_ON : GO_CLOSE; /* it has not read what it was sent before */
}

static enum go head_done(struct conn *c, size_t len)
{
    struct request *q = request_new(c);
    struct weir_str text = weir_str_n(c->in->data + c->in->at, len);
    if (q == NULL)
        return GO_CLOSE;
    c->in->at += len;
    c->body_at = c->in->at;
    bool now = !head_parse(text, &q->head, &q->refusal) || head_check(q);
    bool too_long = q->content_length != UINT64_MAX && q->content_length > drain_max(c->lane);
    if (q->refusal.status != 0 && (now || too_long))
        return refuse_now(q);
    c->phase = PHASE_BODY;
    if (q->refusal.status == 0 && q->content_length <= COPY_MAX &&
        q->content_length <= c->in->cap - c->body_at)
        q->in_place = true;
    return continue_wanted(q) ? send_continue(c) : GO_ON;
}

/* A head that is none, or that never ends. */
static enum go head_bad(struct conn *c, unsigned status, const char *code, const char *message)
{
    struct request *q = request_new(c);
    if (q == NULL)
        return GO_CLOSE;
    refuse(&q->refusal, status, code, "%s", message);
    return refuse_now(q);
}

static enum go head_too_long(struct conn *c, struct weir_str in)
{
    bool line = memchr(in.ptr, '\n', in.len) == NULL;
    return head_bad(c, line ? HTTP_URI_TOO_LONG : HTTP_HEADERS_TOO_LARGE,
                    line ? "target_too_long" : "head_too_long",
                    "the request line and headers are longer than max_head");
}

/* Some clients send them behind a body. */
static void skip_empty_lines(struct conn *c)
{
    struct inbuf *in = c->in;
    while (in->len - in->at >= 2 && in->data[in->at] == '\r' && in->data[in->at + 1] == '\n') {
        in->at += 2;
        c->scanned = 0;
    }
}

/* What is longer than usual counts as bodies do, and takes no more than half of what there is for them:
 * anybody can send a head. */
static bool head_has_room(const struct conn *c)
{
    const struct lane *s = c->lane;
    int64_t in_flight = atomic_load_explicit(&s->shared->in_flight, memory_order_relaxed);
    int64_t others = in_flight - inbuf_charge(c->in);
    return !inbuf_is_full(c->in) || others <= 0 ||
           (!s->memory_short && in_flight + (int64_t)c->in->cap <= s->config->max_in_flight / 2);
}

static enum go head_step(struct conn *c)
{
    size_t len = 0, max = (size_t)c->lane->config->max_head;
    if (c->in != NULL)
        skip_empty_lines(c);
    struct weir_str in = inbuf_view(c->in);
    if (in.len != 0 && c->deadline != DEADLINE_REQUEST)
        deadline_set(c, DEADLINE_REQUEST);
    enum found found = head_find(in, &c->scanned, &len);
    if (found == FOUND_BAD)
        return head_bad(c, HTTP_BAD_REQUEST, "bad_request",
                        "a line of the request's head ends in a bare LF instead of CR LF: is this "
                        "HTTP?");
    if ((found == FOUND_HEAD ? len : in.len) > max)
        return head_too_long(c, in);
    if (found == FOUND_HEAD)
        return head_done(c, len);
    if (!c->readable)
        return GO_WAIT;
    if (!head_has_room(c))
        return head_bad(c, HTTP_TOO_MANY_REQUESTS, "busy",
                        "other requests wait for their delivery, and a head as long as this one has "
                        "no room beside them: send it again later");
    enum go go = inbuf_room(c) ? fill(c) : GO_CLOSE;
    if (go == GO_WAIT)
        inbuf_drop_empty(c);
    return go;
}

/* ---- Bodies ---- */

static enum go body_done(struct conn *c)
{
    struct request *q = c->request;
    c->phase = PHASE_WAIT;
    reading_end(c);
    if (q->refusal.status == 0 && !lane_takes(c->lane))
        refuse(&q->refusal, HTTP_UNAVAILABLE, "stopping",
               "this server is stopping: send the request again, on a new connection");
    if (q->refusal.status == 0 && cors_is_preflight(q))
        reply_preflight(q);
    else if (q->refusal.status == 0 && signature_check(q))
        request_queue(q);
    else
        reply_refusal(q);
    return GO_WAIT;
}

static enum go in_place_step(struct conn *c)
{
    struct request *q = c->request;
    size_t end = c->body_at + (size_t)q->content_length;
    if (c->in->len < end)
        return fill(c);
    c->in->at = end;
    return body_done(c);
}

/* To the body's own memory, or nowhere where it is refused; never more than is its own. */
static enum go length_step(struct conn *c)
{
    struct request *q = c->request;
    uint64_t left = q->content_length - q->received;
    struct weir_str have = inbuf_view(c->in);
    if (left == 0)
        return body_done(c);
    if (have.len != 0) {
        size_t n = have.len < left ? have.len : (size_t)left;
        body_append(q, have.ptr, n);
        c->in->at += n;
        return GO_ON;
    }
    char *to = c->lane->scratch;
    size_t want = left < SCRATCH_CAP ? (size_t)left : SCRATCH_CAP;
    size_t room = q->refusal.status == 0 ? body_room(q, (size_t)left, &to) : 0;
    if (room == 0) /* refused, now or before */
        to = c->lane->scratch;
    ssize_t n = net_read(c, to, room != 0 ? room : want);
    if (n == NET_EOF)
        return GO_CLOSE;
    if (room != 0)
        body_came(q, (size_t)n);
    else
        q->received += (uint64_t)n;
    return n > 0 ? GO_ON : GO_WAIT;
}

/* Keeps what was read behind the body's end, for the next request. */
static bool keep_behind(struct conn *c, struct weir_str rest)
{
    c->behind = inbuf_new(c->lane, rest.len);
    if (c->behind == NULL)
        return false;
    memcpy(c->behind->data, rest.ptr, rest.len);
    c->behind->len = rest.len;
    return true;
}

static enum go chunks_use(struct conn *c, struct weir_str *in)
{
    struct request *q = c->request;
    struct weir_str data;
    while (chunk_next(&q->chunks, in, &data))
        body_append(q, data.ptr, data.len);
    if (q->chunks.state == CHUNK_BROKEN) {
        refuse(&q->refusal, HTTP_BAD_REQUEST, "bad_framing",
               "the chunks of the body are broken behind its byte %llu",
               (unsigned long long)q->received);
        return refuse_now(q);
    }
    if (q->refusal.status != 0 && q->received > drain_max(c->lane))
        return refuse_now(q);
    return GO_ON;
}

static enum go chunked_step(struct conn *c)
{
    struct request *q = c->request;
    struct weir_str in = inbuf_view(c->in);
    bool first = in.len != 0;
    if (!first) {
        ssize_t n = net_read(c, c->lane->scratch, SCRATCH_CAP);
        if (n <= 0)
            return n == NET_EOF ? GO_CLOSE : GO_WAIT;
        in = weir_str_n(c->lane->scratch, (size_t)n);
    }
    enum go go = chunks_use(c, &in);
    if (go != GO_ON)
        return go;
    if (first)
        c->in->at = c->in->len - in.len;
    if (q->chunks.state != CHUNK_OVER)
        return GO_ON;
    if (!first && in.len != 0 && !keep_behind(c, in))
        return GO_CLOSE;
    return body_done(c);
}

static enum go body_step(struct conn *c)
{
    if (c->request->in_place)
        return in_place_step(c);
    return c->request->chunked ? chunked_step(c) : length_step(c);
}

/* ---- All phases ---- */

static enum go tls_step(struct conn *c)
{
    int rc = net_handshake(c);
    if (rc == NET_EOF)
        return c->ssl == NULL ? linger_begin(c) : GO_CLOSE;
    if (rc == 1) {
        c->phase = PHASE_HEAD;
        deadline_set(c, DEADLINE_IDLE);
    }
    return rc == 1 ? GO_ON : GO_WAIT;
}

static enum go step(struct conn *c)
{
    switch (c->phase) {
    case PHASE_TLS:
        return tls_step(c);
    case PHASE_HEAD:
        return head_step(c);
    case PHASE_BODY:
        return body_step(c);
    case PHASE_SEND:
        return send_step(c);
    case PHASE_LINGER:
        return linger_step(c);
    default:
        return GO_WAIT;
    }
}

void conn_work(struct conn *c)
{
    for (int i = 0; i < READS_A_TURN; i++) {
        enum go go = step(c);
        if (go == GO_WAIT)
            return;
        if (go == GO_CLOSE) {
            conn_close(c);
            return;
        }
        if (go == GO_LATER)
            break;
    }
    conn_later(c);
}

/* ---- Lanes ---- */

void conn_discard(struct conn *take_c, void (*give_back)(void *take_p))
{
    if (take_c->ssl != NULL)
        SSL_free(take_c->ssl);
    close(take_c->fd);
    give_back(take_c->in);
    give_back(take_c);
}

void conn_leave(struct conn *c)
{
    struct lane *s = c->lane;
    deadline_clear(c);
    work_remove(c);
    (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    atomic_fetch_sub_explicit(&s->n_conns, 1, memory_order_relaxed);
    listen_release(s);
    c->lane = NULL;
}

/* It has its place among the shared->connections. */
static void enter(struct lane *s, struct conn *take_c)
{
    struct conn *c = take_c;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        conn_discard(c, s->h->free);
        listen_release(s);
        return;
    }
    c->lane = s;
    c->home = s->h->index;
    c->readable = c->writable = true;
    atomic_fetch_add_explicit(&s->n_conns, 1, memory_order_relaxed);
    deadline_set(c, c->phase == PHASE_TLS || c->in != NULL ? DEADLINE_REQUEST : DEADLINE_IDLE);
    conn_later(c);
}

void conn_enter(struct lane *s, struct conn *take_c)
{
    atomic_fetch_add_explicit(&s->shared->connections, 1, memory_order_relaxed);
    enter(s, take_c);
}

void conn_add(struct lane *s, int take_fd)
{
    struct conn *c = s->h->alloc(sizeof(*c));
    int on = 1;
    bool tls = s->shared->tls != NULL;
    if (c != NULL)
        *c = (struct conn){.fd = take_fd, .phase = tls ? PHASE_TLS : PHASE_HEAD};
    if (c == NULL || (tls && (c->ssl = tls_session(s->shared->tls, s->h, take_fd)) == NULL)) {
        s->h->free(c);
        close(take_fd);
        listen_release(s);
        return;
    }
    (void)setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* for pipelines */
    enter(s, c);
}

void conn_end(struct conn *c)
{
    leave(c, linger_begin(c));
}
