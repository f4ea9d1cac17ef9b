/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection's bytes, plain or through TLS. The sockets are watched edge-triggered and once for
 * all, so that a request costs one read and one write: a read that was not filled has emptied the
 * socket, and what comes later tells itself.
 */
#include "http_source.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#define TLS_RECORD 16384u

/* ---- TLS ---- */

/* What a call that did not go through means: 0 later, else NET_EOF. */
static int tls_failed(struct conn *c, int rc)
{
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        c->readable = false;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        c->writable = false;
        return 0;
    default:
        return NET_EOF;
    }
}

static void log_handshake(struct conn *c)
{
    const struct weir_host *h = c->lane->h;
    unsigned long error = ERR_peek_error();
    char text[160] = "the connection ended";
    if (!h->log_enabled(h, WEIR_LOG_DEBUG))
        return;
    if (error != 0)
        ERR_error_string_n(error, text, sizeof(text));
    struct weir_kv kv[] = {weir_kv_text("error", text)};
    h->log(h, WEIR_LOG_DEBUG, "TLS handshake failed", kv, 1);
}

int net_handshake(struct conn *c)
{
    static const char plain[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: 82\r\n\r\n"
        "{\"error\":{\"code\":\"tls_needed\",\"message\":\"this port speaks TLS: send to "
        "https://\"}}";
    ERR_clear_error();
    int rc = SSL_accept(c->ssl);
    if (rc == 1)
        return 1;
    if (tls_failed(c, rc) == 0)
        return 0;
    log_handshake(c);
    if (ERR_GET_REASON(ERR_peek_error()) != SSL_R_HTTP_REQUEST)
        return NET_EOF;
    SSL_free(c->ssl);
    c->ssl = NULL;
    (void)!send(c->fd, plain, sizeof(plain) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return NET_EOF;
}

static ssize_t tls_read(struct conn *c, void *to, size_t cap)
{
    ERR_clear_error();
    int n = SSL_read(c->ssl, to, cap < INT32_MAX ? (int)cap : INT32_MAX);
    c->n_read += n > 0 ? (uint64_t)n : 0;
    return n > 0 ? n : tls_failed(c, n);
}

static ssize_t tls_write_some(struct conn *c, const char *from, size_t len)
{
    ERR_clear_error();
    int n = SSL_write(c->ssl, from, len < INT32_MAX ? (int)len : INT32_MAX);
    return n > 0 ? n : tls_failed(c, n);
}

/* Head and body in one record where they fit. */
static ssize_t tls_write(struct conn *c, struct weir_str head, struct weir_str body)
{
    char *both = c->lane->scratch;
    if (head.len == 0 || head.len + body.len > TLS_RECORD)
        return head.len != 0 ? tls_write_some(c, head.ptr, head.len)
                             : tls_write_some(c, body.ptr, body.len);
    memcpy(both, head.ptr, head.len);
    if (body.len != 0)
        memcpy(both + head.len, body.ptr, body.len);
    return tls_write_some(c, both, head.len + body.len);
}

/* ---- Both ---- */

ssize_t net_read(struct conn *c, void *to, size_t cap)
{
    if (!c->readable)
        return 0;
    if (c->ssl != NULL)
        return tls_read(c, to, cap);
    ssize_t n;
    do
        n = recv(c->fd, to, cap, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        c->n_read += (uint64_t)n;
        c->readable = (size_t)n == cap || c->hung_up;
        return n;
    }
    if (n == 0 || errno != EAGAIN)
        return NET_EOF;
    c->readable = false;
    return 0;
}

ssize_t net_write(struct conn *c, struct weir_str head, struct weir_str body)
{
    if (!c->writable || head.len + body.len == 0)
        return 0;
    if (c->ssl != NULL)
        return tls_write(c, head, body);
    struct iovec parts[] = {{(void *)(uintptr_t)head.ptr, head.len},
                            {(void *)(uintptr_t)body.ptr, body.len}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;
    do
        n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    c->writable = false;
    return errno == EAGAIN ? 0 : NET_EOF;
}

void net_end(struct conn *c)
{
    if (c->ssl != NULL) {
        ERR_clear_error();
        (void)SSL_shutdown(c->ssl);
    }
    (void)shutdown(c->fd, SHUT_WR);
}
