/* SPDX-License-Identifier: Apache-2.0
 *
 * Resolves the host, then tries its addresses one after the other. Contracts in connect.h.
 */
#include "connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void connect_close_socket(struct conn *c)
{
    tls_close(c->link);
    c->link = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void set_options(const struct conn *c)
{
    const int on = 1;
    if (c->address.host[0] == '\0')
        return;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* Starts one connect(2). 0, or an errno value. */
static int try_connect(struct conn *c, const struct sockaddr *to, socklen_t len)
{
    connect_close_socket(c);
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return errno;
    set_options(c);
    if (connect(c->fd, to, len) == 0 || errno == EINPROGRESS)
        return 0;
    return errno;
}

static void connect_failed(struct conn *c, int error)
{
    conn_break(c, "connect_failed", "cannot connect to redis at %s: %s", c->where, strerror(error));
    c->error.number = error;
}

/* Tries the host's addresses from c->info on, until one can be waited for. */
static void try_addresses(struct conn *c)
{
    int error = EADDRNOTAVAIL;
    c->state = CONN_CONNECTING;
    for (; c->info != NULL; c->info = c->info->ai_next) {
        error = try_connect(c, c->info->ai_addr, c->info->ai_addrlen);
        if (error == 0)
            return;
    }
    connect_failed(c, error);
}

static void open_unix(struct conn *c)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, c->address.path, sizeof(to.sun_path));
    c->state = CONN_CONNECTING;
    int error = try_connect(c, (const struct sockaddr *)(const void *)&to, sizeof(to));
    if (error != 0)
        connect_failed(c, error);
}

static void resolved(struct conn *c, int error)
{
    if (error != 0) {
        c->infos = NULL;
        conn_break(c, "resolve_failed", "cannot resolve the host of redis at %s: %s", c->where,
                   gai_strerror(error));
        return;
    }
    c->info = c->infos;
    try_addresses(c);
}

void connect_begin(struct conn *c)
{
    if (c->address.host[0] == '\0') {
        open_unix(c);
        return;
    }
    if (resolve_number(c->address.host, c->address.port, &c->infos) == 0) {
        resolved(c, 0);
        return;
    }
    c->state = CONN_RESOLVING;
    if (c->resolve == NULL)
        c->resolve = resolve_start(c->h, c->address.host, c->address.port);
    if (c->resolve == NULL)
        resolved(c, EAI_MEMORY);
}

static bool finish_connect(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error == 0)
        return true;
    if (c->info == NULL || c->info->ai_next == NULL) {
        connect_failed(c, error);
        return false;
    }
    c->info = c->info->ai_next;
    try_addresses(c);
    return false;
}

bool connect_go_on(struct conn *c)
{
    if (c->state == CONN_CONNECTING)
        return finish_connect(c);
    if (!resolve_is_done(c->resolve))
        return false;
    struct resolve *r = c->resolve;
    c->resolve = NULL;
    resolved(c, resolve_end(r, &c->infos));
    return false;
}
