/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a connection, sending and receiving. Contracts in conn.h.
 *
 * All bytes go through transport_send and transport_recv, with TLS or without.
 */
#include "conn.h"

#include "connect.h"
#include "login.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEP_BYTES ((size_t)8 << 20) /* a larger send buffer is freed when it is empty */

static void name_place(struct conn *c)
{
    const struct address *a = &c->address;
    bool v6 = strchr(a->host, ':') != NULL;
    if (a->host[0] == '\0')
        snprintf(c->where, sizeof(c->where), "%s", a->path);
    else
        snprintf(c->where, sizeof(c->where), v6 ? "[%s]:%s" : "%s:%s", a->host, a->port);
}

void conn_init(struct conn *c, const struct weir_host *h, const struct conn_config *config,
               struct tls *tls, size_t reply_limit, bool keep_replies)
{
    size_t offset;
    *c = (struct conn){
        .h = h, .config = config, .tls = tls, .fd = -1, .login = {.h = h}, .out = {.h = h}};
    (void)address_parse(config->url, &c->address, &offset); /* check() has refused wrong ones */
    replies_init(&c->in, h, reply_limit, keep_replies);
    name_place(c);
}

void conn_set_node(struct conn *c, const char *host, const char *port)
{
    snprintf(c->address.host, sizeof(c->address.host), "%s", host);
    snprintf(c->address.port, sizeof(c->address.port), "%s", port);
    resolve_drop(c->resolve); /* it asks for another name */
    c->resolve = NULL;
    c->error = (struct weir_result){0};
    name_place(c);
}

void conn_use_host(struct conn *c, const struct weir_host *h)
{
    c->h = h;
    c->login.h = h;
    c->out.h = h;
    replies_use_host(&c->in, h);
}

void conn_close(struct conn *c)
{
    connect_close_socket(c);
    if (c->infos != NULL)
        freeaddrinfo(c->infos);
    c->infos = NULL;
    c->info = NULL;
    c->out.len = 0;
    c->out.failed = false;
    c->out_at = 0;
    c->send_error = 0;
    c->login.len = 0;
    replies_reset(&c->in);
    c->state = CONN_DOWN;
}

void conn_done(struct conn *c)
{
    if (c->h == NULL)
        return;
    conn_close(c);
    resolve_drop(c->resolve);
    c->resolve = NULL;
    replies_done(&c->in);
    bytes_done(&c->out);
    if (c->login.ptr != NULL)
        explicit_bzero(c->login.ptr, c->login.cap); /* it held the password */
    bytes_done(&c->login);
    explicit_bzero(c->address.password, sizeof(c->address.password));
}

void conn_break(struct conn *c, const char *code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->text, sizeof(c->text), fmt, args);
    va_end(args);
    connect_close_socket(c);
    if (c->state != CONN_READY)
        replies_reset(&c->in); /* replies to the login: nobody else may take them for theirs */
    c->error = (struct weir_result){
        .verdict = WEIR_VERDICT_UNAVAILABLE, .code = code, .message = weir_cstr(c->text)};
    c->state = CONN_BROKEN;
}

void conn_open(struct conn *c)
{
    conn_close(c);
    c->n_opened++;
    c->deadline_ns = c->h->now(c->h) + c->config->connect_timeout_ns;
    connect_begin(c);
}

/* ---- Transport ------------------------------------------------------------------------------- */

/* As send(2) and recv(2) on a non-blocking socket. */
static ssize_t transport_send(const struct conn *c, const char *ptr, size_t len)
{
    if (c->link != NULL)
        return tls_send(c->link, ptr, len);
    return send(c->fd, ptr, len, MSG_NOSIGNAL);
}

static ssize_t transport_recv(const struct conn *c, char *ptr, size_t len)
{
    if (c->link != NULL)
        return tls_recv(c->link, ptr, len);
    return recv(c->fd, ptr, len, 0);
}

static const char *transport_error(const struct conn *c, int error)
{
    return c->link != NULL && error == EPROTO ? tls_error(c->link) : strerror(error);
}

static void shake_hands(struct conn *c)
{
    int result = tls_handshake(c->link);
    if (result > 0)
        login_begin(c);
    else if (result < 0)
        conn_break(c, "tls_failed", "TLS with redis at %s failed: %s", c->where,
                   tls_error(c->link));
}

static void connected(struct conn *c)
{
    if (c->tls == NULL) {
        login_begin(c);
        return;
    }
    c->state = CONN_HANDSHAKE;
    c->link = tls_open(c->tls, c->fd, c->address.host);
    if (c->link == NULL)
        conn_break(c, "no_memory", "no memory for TLS with redis at %s", c->where);
    else
        shake_hands(c);
}

/* ---- Sending and receiving ------------------------------------------------------------------- */

static void lost(struct conn *c, int error)
{
    if (error == 0)
        conn_break(c, "connection_lost", "redis at %s closed the connection", c->where);
    else
        conn_break(c, "connection_lost", "connection to redis at %s lost: %s", c->where,
                   transport_error(c, error));
    c->error.number = error;
}

void conn_send(struct conn *c)
{
    struct bytes *from = c->state == CONN_LOGIN ? &c->login : &c->out;
    if ((c->state != CONN_LOGIN && c->state != CONN_READY) || c->send_error != 0)
        return;
    while (c->out_at < from->len) {
        ssize_t n = transport_send(c, from->ptr + c->out_at, from->len - c->out_at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            c->send_error = errno;
            return;
        }
        c->out_at += (size_t)n;
    }
    if (c->state != CONN_READY)
        return;
    c->out.len = 0;
    c->out_at = 0;
    if (c->out.cap > KEEP_BYTES)
        bytes_done(&c->out);
}

#define STILL_OPEN (-1)

/* STILL_OPEN, or why there is no more to come: 0 = the server closed it, else an errno value. */
static int receive(struct conn *c)
{
    size_t room;
    char *p = replies_space(&c->in, &room);
    if (p == NULL)
        return ENOMEM;
    if (room == 0)
        return STILL_OPEN;
    ssize_t n;
    do
        n = transport_recv(c, p, room);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return STILL_OPEN;
    if (n <= 0)
        return n == 0 ? c->send_error : errno;
    replies_filled(&c->in, (size_t)n);
    return STILL_OPEN;
}

static bool linking(const struct conn *c)
{
    return c->state > CONN_DOWN && c->state < CONN_READY;
}

static short wanted_events(const struct conn *c)
{
    if (c->state == CONN_RESOLVING)
        return POLLIN;
    if (c->state == CONN_CONNECTING)
        return POLLOUT;
    if (c->state == CONN_HANDSHAKE)
        return tls_wants_write(c->link) ? POLLOUT : POLLIN;
    size_t len = c->state == CONN_LOGIN ? c->login.len : c->out.len;
    bool write = c->out_at < len && c->send_error == 0;
    return write || (c->link != NULL && tls_wants_write(c->link)) ? POLLIN | POLLOUT : POLLIN;
}

int conn_poll(const struct conn *c, short *ret_events, int64_t *deadline_ns)
{
    if (linking(c) && c->deadline_ns < *deadline_ns)
        *deadline_ns = c->deadline_ns;
    if (c->state == CONN_BROKEN || (c->link != NULL && tls_has_more(c->link)))
        *deadline_ns = 0;
    if (c->state == CONN_DOWN || c->state == CONN_BROKEN)
        return -1;
    *ret_events = wanted_events(c);
    return c->state == CONN_RESOLVING ? resolve_fd(c->resolve) : c->fd;
}

void conn_step(struct conn *c, short events)
{
    int end = STILL_OPEN;
    bool more = c->link != NULL && tls_has_more(c->link);
    if (c->state == CONN_HANDSHAKE && events != 0)
        shake_hands(c);
    else if ((c->state == CONN_RESOLVING || c->state == CONN_CONNECTING) && events != 0 &&
             connect_go_on(c))
        connected(c);
    bool readable = (events & ~POLLOUT) != 0 || more || (c->link != NULL && events != 0);
    if ((c->state == CONN_LOGIN || c->state == CONN_READY) && readable)
        end = receive(c);
    conn_send(c);
    if (c->state == CONN_LOGIN)
        login_go_on(c); /* before the end is looked at: they may say why */
    if (end != STILL_OPEN && c->state != CONN_BROKEN)
        lost(c, end);
    if (linking(c) && c->h->now(c->h) >= c->deadline_ns)
        conn_break(c, "connect_timeout", "redis at %s let no connection in within %lld ms",
                   c->where, (long long)(c->config->connect_timeout_ns / WEIR_NS_PER_MS));
}

void conn_check_idle(struct conn *c)
{
    if (c->state != CONN_READY)
        return;
    int end = receive(c);
    if (replies_pending(&c->in))
        conn_break(c, "protocol", "redis at %s sent a reply that nobody asked for", c->where);
    else if (end != STILL_OPEN)
        lost(c, end);
}

bool conn_next(struct conn *c, struct reply *ret)
{
    if (c->state != CONN_READY && c->state != CONN_BROKEN)
        return false;
    enum reply_result result = replies_next(&c->in, ret);
    if (result == REPLY_MALFORMED && c->in.failed)
        conn_break(c, "no_memory", "no memory for a reply of redis at %s", c->where);
    else if (result == REPLY_MALFORMED)
        conn_break(c, "protocol", "%s does not speak Redis's protocol", c->where);
    if (result != REPLY_READ)
        return false;
    if (ret->type == REPLY_TOO_LARGE)
        conn_break(c, "reply_too_large", "redis at %s sent a reply of more than %zu MiB", c->where,
                   c->in.limit >> 20);
    else if (ret->type == REPLY_TOO_DEEP)
        conn_break(c, "reply_too_deep", "redis at %s sent a reply of arrays nested deeper than %d",
                   c->where, REPLY_DEPTH_MAX);
    return true;
}
