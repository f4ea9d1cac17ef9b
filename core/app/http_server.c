/* SPDX-License-Identifier: Apache-2.0
 *
 * app/http_server.c: answers scrapes and probes with libmicrohttpd's own thread. The socket is made
 * here, so that a wrong or taken address is told in plain words.
 */
#include <app/http_server.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define IDLE_SECONDS 15
#define BACKLOG 64

struct wr_http_server {
    struct wr_http_answers answers;
    struct MHD_Daemon *daemon;
    char addr[NI_MAXHOST + 32];
};

/* ---- Answers ---- */

struct answer {
    unsigned status;
    const char *type;
    struct wr_buf body;
};

static const char text_plain[] = "text/plain; charset=utf-8";
static const char text_json[] = "application/json";

static void make_answer(const struct wr_http_server *s, const char *path, struct answer *a)
{
    a->status = MHD_HTTP_OK;
    a->type = text_plain;
    if (strcmp(path, "/metrics") == 0) {
        a->type = "text/plain; version=0.0.4; charset=utf-8";
        s->answers.metrics(s->answers.arg, &a->body);
    } else if (strcmp(path, "/livez") == 0) {
        wr_buf_text(&a->body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        a->type = text_json;
        if (!s->answers.ready(s->answers.arg, &a->body))
            a->status = MHD_HTTP_SERVICE_UNAVAILABLE;
        wr_buf_text(&a->body, "\n");
    } else {
        a->status = MHD_HTTP_NOT_FOUND;
        wr_buf_text(&a->body, "nothing here: expected /metrics, /livez or /readyz\n");
    }
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *take_a)
{
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(
        take_a->body.len, take_a->body.ptr, wr_free);
    if (r == NULL) {
        wr_buf_done(&take_a->body);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", take_a->type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (take_a->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, "Allow", "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, take_a->status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    (void)version;
    (void)upload;
    struct answer a = {0};
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        a.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        a.type = text_plain;
        wr_buf_text(&a.body, "only GET and HEAD\n");
        return send_answer(connection, &a);
    }
    if (*state == NULL) { /* the first call: answering here would end the connection */
        *state = cls;
        return MHD_YES;
    }
    if (*upload_size != 0) { /* a GET's body is read over */
        *upload_size = 0;
        return MHD_YES;
    }
    make_answer(cls, path, &a);
    return send_answer(connection, &a);
}

/* ---- The socket ---- */

/* Splits host:port. host is empty for all addresses. */
static bool split_addr(const char *addr, struct weir_str *ret_host, const char **ret_port)
{
    const char *colon = strrchr(addr, ':');
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) > 5)
        return false;
    unsigned port = 0;
    for (const char *c = colon + 1; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return false;
        port = port * 10 + (unsigned)(*c - '0');
    }
    struct weir_str host = weir_str_n(addr, (size_t)(colon - addr));
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = weir_str_n(host.ptr + 1, host.len - 2);
    else if (host.len > 0 && memchr(host.ptr, ':', host.len) != NULL)
        return false;
    *ret_host = host;
    *ret_port = colon + 1;
    return port <= 65535;
}

static int listen_on(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    if (fd < 0)
        return -1;
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

/* Of all addresses the IPv6 one is tried first, as it takes IPv4 as well. */
static int listen_any(const struct addrinfo *list, bool all)
{
    for (const struct addrinfo *ai = list; all && ai != NULL; ai = ai->ai_next) {
        int fd = ai->ai_family == AF_INET6 ? listen_on(ai) : -1;
        if (fd >= 0)
            return fd;
    }
    for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        int fd = listen_on(ai);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static int open_socket(const char *addr, struct weir_error *err)
{
    struct weir_str host;
    const char *port;
    if (!split_addr(addr, &host, &port)) {
        wr_error(err, WEIR_E_CONFIG, "bad_address",
                 "bad address \"%s\", expected host:port, [ipv6]:port or :port", addr);
        return -1;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char *name = host.len > 0 ? wr_xmemdup(host.ptr, host.len) : NULL;
    int rc = getaddrinfo(name, port, &hints, &list);
    wr_free(name);
    if (rc != 0) {
        wr_error(err, WEIR_E_UNAVAILABLE, "unknown_host", "cannot listen on \"%s\": %s", addr,
                 rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        return -1;
    }
    int fd = listen_any(list, host.len == 0);
    if (fd < 0)
        wr_error(err, WEIR_E_UNAVAILABLE, "cannot_listen", "cannot listen on \"%s\": %s", addr,
                 strerror(errno));
    freeaddrinfo(list);
    return fd;
}

static void note_addr(struct wr_http_server *s, int fd)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        getnameinfo((struct sockaddr *)&bound, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    bool six = strchr(host, ':') != NULL;
    snprintf(s->addr, sizeof(s->addr), "%s%s%s:%s", six ? "[" : "", host, six ? "]" : "", port);
}

/* ---- The listener ---- */

struct wr_http_server *wr_http_server_new(const char *addr, const struct wr_http_answers *answers,
                                          struct weir_error *err)
{
    int fd = open_socket(addr, err);
    if (fd < 0)
        return NULL;
    struct wr_http_server *s = wr_xalloc(sizeof(*s));
    s->answers = *answers;
    note_addr(s, fd);
    s->daemon = MHD_start_daemon(
        MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_END);
    if (s->daemon != NULL)
        return s;
    wr_error(err, WEIR_E_UNAVAILABLE, "cannot_listen",
             "cannot serve \"%s\": libmicrohttpd did not start", addr);
    close(fd);
    wr_free(s);
    return NULL;
}

void wr_http_server_free(struct wr_http_server *s)
{
    if (s == NULL)
        return;
    MHD_stop_daemon(s->daemon);
    wr_free(s);
}

const char *wr_http_server_addr(const struct wr_http_server *s)
{
    return s->addr;
}

const char *wr_http_server_library(void)
{
    return MHD_get_version();
}
