/* SPDX-License-Identifier: Apache-2.0
 *
 * Connecting: name, address, socket, TLS. Addresses are tried one after the other.
 */
#include "net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_MS 5000

/* One question to the resolver, which may outlive who asked it. */
struct question {
    void (*free_memory)(void *p);
    char host[256], port[8];
    int family, answer;
    struct addrinfo *list;
};

static void ask(void *arg)
{
    struct question *q = arg;
    const struct addrinfo hints = {.ai_family = q->family, .ai_socktype = SOCK_STREAM};
    q->answer = getaddrinfo(q->host, q->port, &hints, &q->list);
}

static void forget(void *take_arg)
{
    struct question *q = take_arg;
    if (q->list != NULL)
        freeaddrinfo(q->list);
    q->free_memory(q);
}

static void fail(bson_error_t *error, uint32_t code, const mongoc_host_list_t *host,
                 const char *what, const char *why)
{
    bson_set_error(error, MONGOC_ERROR_STREAM, code, "%s %.280s: %s", what, host->host_and_port,
                   why);
}

static struct question *question_new(const struct patience *p, const mongoc_host_list_t *host)
{
    struct question *q = p->h->alloc(sizeof(*q));
    if (q == NULL)
        return NULL;
    q->free_memory = p->h->free;
    q->family = host->family;
    (void)snprintf(q->host, sizeof(q->host), "%s", host->host);
    (void)snprintf(q->port, sizeof(q->port), "%u", (unsigned)host->port);
    return q;
}

/* The addresses of a host; NULL: error says why there are none. */
static struct question *resolve(const struct patience *p, const mongoc_host_list_t *host,
                                bson_error_t *error)
{
    const struct addrinfo numeric = {.ai_family = host->family,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct question *q = question_new(p, host);
    if (q == NULL) {
        fail(error, MONGOC_ERROR_STREAM_NAME_RESOLUTION, host, "cannot resolve", "no memory");
        return NULL;
    }
    if (getaddrinfo(q->host, q->port, &numeric, &q->list) == 0)
        return q;
    q->list = NULL;
    int left = later_run(p, ask, forget, q);
    if (left == 0 && q->answer == 0)
        return q;
    fail(error, MONGOC_ERROR_STREAM_NAME_RESOLUTION, host, "cannot resolve",
         left != 0 ? strerror(left) : gai_strerror(q->answer));
    if (left == 0)
        forget(q);
    return NULL;
}

static int connect_ms(const mongoc_uri_t *uri)
{
    int32_t ms = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    return ms > 0 ? ms : CONNECT_MS;
}

static void set_options(int fd)
{
    const int on = 1, idle_s = 120, interval_s = 10, probes = 9;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* 0, or why the connection that was begun is none. */
static int await_connection(const struct patience *p, int fd, int ms)
{
    int error = patience_wait(p, fd, POLLOUT, ms);
    socklen_t len = sizeof(error);
    if (error == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    return error;
}

/* A connected socket, or -errno. */
static int dial(const struct patience *p, int family, const struct sockaddr *to, socklen_t len,
                int ms)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (family != AF_UNIX)
        set_options(fd);
    int error = connect(fd, to, len) == 0 ? 0 : errno;
    if (error == EINPROGRESS)
        error = await_connection(p, fd, ms);
    if (error == 0)
        return fd;
    (void)close(fd);
    return -error;
}

static int dial_unix(const struct patience *p, const mongoc_host_list_t *host, int ms)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(host->host);
    if (len >= sizeof(to.sun_path))
        return -ENAMETOOLONG;
    memcpy(to.sun_path, host->host, len + 1);
    return dial(p, AF_UNIX, (const struct sockaddr *)(const void *)&to, sizeof(to), ms);
}

static int dial_host(const struct patience *p, const mongoc_uri_t *uri,
                     const mongoc_host_list_t *host, bson_error_t *error)
{
    int fd = -EADDRNOTAVAIL;
    if (host->family == AF_UNIX) {
        fd = dial_unix(p, host, connect_ms(uri));
    } else {
        struct question *q = resolve(p, host, error);
        if (q == NULL)
            return -1;
        for (const struct addrinfo *at = q->list; at != NULL && fd < 0; at = at->ai_next)
            fd = dial(p, at->ai_family, at->ai_addr, at->ai_addrlen, connect_ms(uri));
        forget(q);
    }
    if (fd < 0)
        fail(error, MONGOC_ERROR_STREAM_CONNECT, host, "cannot connect to", strerror(-fd));
    return fd;
}

static bool says(const mongoc_uri_t *uri, const char *option)
{
    return mongoc_uri_get_option_as_bool(uri, option, false);
}

static mongoc_stream_t *add_tls(mongoc_stream_t *take_stream, const mongoc_uri_t *uri,
                                const mongoc_host_list_t *host, bson_error_t *error)
{
    mongoc_ssl_opt_t opt = *mongoc_ssl_opt_get_default();
    bool insecure = says(uri, MONGOC_URI_TLSINSECURE);
    opt.pem_file = mongoc_uri_get_option_as_utf8(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE, NULL);
    opt.pem_pwd =
        mongoc_uri_get_option_as_utf8(uri, MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD, NULL);
    opt.ca_file = mongoc_uri_get_option_as_utf8(uri, MONGOC_URI_TLSCAFILE, NULL);
    opt.weak_cert_validation = insecure || says(uri, MONGOC_URI_TLSALLOWINVALIDCERTIFICATES);
    opt.allow_invalid_hostname = insecure || says(uri, MONGOC_URI_TLSALLOWINVALIDHOSTNAMES);
    mongoc_stream_t *tls = mongoc_stream_tls_new_with_hostname(take_stream, host->host, &opt, 1);
    if (tls == NULL) {
        mongoc_stream_destroy(take_stream);
        fail(error, MONGOC_ERROR_STREAM_SOCKET, host, "no TLS with",
             "its certificate files cannot be used");
        return NULL;
    }
    if (mongoc_stream_tls_handshake_block(tls, host->host, connect_ms(uri), error))
        return tls;
    mongoc_stream_destroy(tls);
    return NULL;
}

mongoc_stream_t *net_connect(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
                             void *user_data, bson_error_t *error)
{
    const struct patience *p = user_data;
    int fd = dial_host(p, uri, host, error);
    if (fd < 0)
        return NULL;
    mongoc_stream_t *stream = net_stream(p, fd);
    if (mongoc_uri_get_tls(uri))
        stream = add_tls(stream, uri, host, error);
    /* Not buffered: the library polls the socket, and would wait for what a buffer has already. */
    return stream;
}
