/* SPDX-License-Identifier: Apache-2.0
 *
 * A port: the listening socket of a component. A reload that changes the component, but not its address,
 * hands the port over: the new instance has it before the old one stops, so that the kernel goes on
 * taking connections, and those that are between two requests go along (conn_park). What the old one
 * has begun it ends, and closes.
 *
 * Who has the port is a number that goes up with each hand-over, and down again where the new instance
 * is given up before it has begun.
 */
#include "http_source.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>

/* ---- Addresses ---- */

static bool port_valid(struct weir_str port)
{
    uint32_t v = 0;
    if (port.len == 0 || port.len > 5)
        return false;
    for (size_t i = 0; i < port.len; i++) {
        if (port.ptr[i] < '0' || port.ptr[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(port.ptr[i] - '0');
    }
    return v <= 65535;
}

bool address_split(struct weir_str text, struct address *ret, const char **ret_why)
{
    struct weir_str host = {NULL, 0};
    const char *colon = text.len == 0 ? NULL : memrchr(text.ptr, ':', text.len);
    *ret_why = "it has no port: expected host:port, such as 127.0.0.1:8080 or [::]:8080";
    if (colon == NULL)
        return false;
    host = weir_str_n(text.ptr, (size_t)(colon - text.ptr));
    struct weir_str port = weir_str_n(colon + 1, text.len - host.len - 1);
    *ret_why = "the port is not a number from 0 to 65535 (0: a free one is picked)";
    if (!port_valid(port))
        return false;
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
        host = weir_str_n(host.ptr + 1, host.len - 2);
    } else if (host.len != 0 && memchr(host.ptr, ':', host.len) != NULL) {
        *ret_why = "an IPv6 address stands in brackets: [::1]:8080";
        return false;
    }
    if (host.len == 1 && host.ptr[0] == '*')
        host.len = 0;
    *ret_why = "the host is longer than 255 bytes or holds a space or NUL";
    if (host.len >= sizeof(ret->host))
        return false;
    for (size_t i = 0; i < host.len; i++)
        if ((unsigned char)host.ptr[i] <= ' ')
            return false;
    *ret = (struct address){.host = ""};
    if (host.len != 0)
        memcpy(ret->host, host.ptr, host.len);
    memcpy(ret->port, port.ptr, port.len);
    return true;
}

/* A listening socket on this address, or -1 with errno. */
static int listen_on(const struct addrinfo *ai)
{
    int on = 1, off = 0;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) /* [::] serves IPv4 as well, whatever the system's default */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* The first address of host:port that can be listened on; -1 with *ret_errno, or with *ret_gai
 * where the name has none. */
static int listen_any(const struct address *at, int family, int *ret_errno, int *ret_gai)
{
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    *ret_gai = getaddrinfo(at->host[0] == '\0' ? NULL : at->host, at->port, &hints, &found);
    if (*ret_gai != 0)
        return -1;
    int fd = -1;
    for (const struct addrinfo *ai = found; ai != NULL && fd < 0; ai = ai->ai_next)
        fd = listen_on(ai);
    *ret_errno = errno;
    freeaddrinfo(found);
    return fd;
}

/* With `waits` the address may be taken by the instance in whose place this one comes. */
static int socket_open(const struct weir_host *h, struct weir_str text, bool waits,
                       struct weir_error *err)
{
    struct address at;
    const char *why = "";
    int error = 0, gai = 0;
    if (!address_split(text, &at, &why)) {
        (void)h->error(err, WEIR_E_CONFIG, "bad_address", "address '%.*s': %s", (int)text.len,
                       text.ptr, why);
        return -1;
    }
    bool every = at.host[0] == '\0';
    int fd = listen_any(&at, every ? AF_INET6 : AF_UNSPEC, &error, &gai);
    if (fd < 0 && every && (gai != 0 || error == EAFNOSUPPORT))
        fd = listen_any(&at, AF_INET, &error, &gai); /* a machine without IPv6 */
    if (fd >= 0)
        return fd;
    const char *hint = "";
    if (gai == 0 && error == EADDRINUSE)
        hint = "; another process has this port: end it or choose another port";
    waits = waits && gai == 0 && error == EADDRINUSE;
    (void)h->error(err, gai != 0 ? WEIR_E_CONFIG : waits ? WEIR_E_RETRY : WEIR_E_FATAL, "listen",
                   "address '%.*s': cannot listen: %s%s", (int)text.len, text.ptr,
                   gai != 0 ? gai_strerror(gai) : strerrordesc_np(error), hint);
    if (err != NULL)
        err->number = gai != 0 ? gai : error;
    return -1;
}

static void log_listening(const struct weir_host *h, int fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char host[128], port[16];
    if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0 ||
        getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    bool v6 = ss.ss_family == AF_INET6;
    struct weir_str at =
        h->arena_printf(h->scratch(h), "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
    struct weir_kv kv[] = {weir_kv_str("address", at)};
    h->log(h, WEIR_LOG_INFO, "listening", kv, 1);
}

/* ---- Ports ---- */

static bool is_same(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Whoever is let in by one is let in by the other: requests are looked at one by one. */
static bool lets_in_the_same(const struct tls_config *a, const struct tls_config *b)
{
    return (a->cert.len != 0) == (b->cert.len != 0) && is_same(a->client_ca, b->client_ca) &&
           a->client_auth == b->client_auth && a->min_version == b->min_version;
}

/* The same port of another host, or of all of them. */
static bool may_clash(const struct shared *before, struct weir_str address)
{
    struct address old, new;
    const char *why;
    return before != NULL && address_split(before->config->address, &old, &why) &&
           address_split(address, &new, &why) && strcmp(old.port, new.port) == 0;
}

static struct port *port_new(const struct weir_host *h, struct weir_str address,
                             const struct shared *before, struct weir_error *err)
{
    int fd = socket_open(h, address, may_clash(before, address), err);
    struct port *p = fd >= 0 ? h->alloc(sizeof(*p)) : NULL;
    if (fd >= 0 && p == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http source");
        close(fd);
    }
    if (p == NULL)
        return NULL;
    p->free = h->free;
    p->fd = fd;
    atomic_init(&p->refs, 1);
    atomic_init(&p->owner, 1);
    atomic_init(&p->listening, true);
    (void)pthread_mutex_init(&p->mutex, NULL);
    return p;
}

struct port *port_ref(struct port *p)
{
    atomic_fetch_add(&p->refs, 1);
    return p;
}

void port_unref(struct port *take_p)
{
    if (take_p == NULL || atomic_fetch_sub(&take_p->refs, 1) != 1)
        return;
    while (take_p->parked != NULL) {
        struct conn *c = take_p->parked;
        take_p->parked = c->next;
        conn_discard(c, take_p->free);
    }
    close(take_p->fd);
    pthread_mutex_destroy(&take_p->mutex);
    take_p->free(take_p);
}

/* The port of the instance in whose place this one comes, where that listens at the same address. */
static struct port *port_take_over(const struct shared *before, const struct config *cf)
{
    struct port *p = before != NULL ? before->port : NULL;
    if (p == NULL || !is_same(before->config->address, cf->address) || !atomic_load(&p->listening))
        return NULL;
    atomic_store(&p->parks, lets_in_the_same(&before->config->tls, &cf->tls));
    atomic_fetch_add(&p->owner, 1);
    return port_ref(p);
}

bool port_open(const struct weir_host *h, struct shared *sh, struct weir_error *err)
{
    const struct weir_before_extension *ext = h->extension(h, WEIR_BEFORE_EXTENSION);
    const struct shared *before = ext != NULL ? ext->shared(h) : NULL;
    struct port *p = port_take_over(before, sh->config);
    if (p == NULL && (p = port_new(h, sh->config->address, before, err)) == NULL)
        return false;
    port_unref(sh->port);
    sh->port = p;
    sh->number = atomic_load(&p->owner);
    log_listening(h, p->fd);
    return true;
}

void port_give_back(struct port *p, unsigned number)
{
    (void)atomic_compare_exchange_strong(&p->owner, &number, number - 1);
}

/* ---- Connections that go along ---- */

void port_park(struct port *p, struct conn *take_c)
{
    pthread_mutex_lock(&p->mutex);
    take_c->next = p->parked;
    p->parked = take_c;
    atomic_fetch_add(&p->n_parked, 1);
    pthread_mutex_unlock(&p->mutex);
}

struct conn *port_take_parked(struct port *p, uint32_t index, uint32_t count)
{
    struct conn *c = NULL;
    if (atomic_load_explicit(&p->n_parked, memory_order_relaxed) == 0)
        return NULL;
    pthread_mutex_lock(&p->mutex);
    for (struct conn **at = &p->parked; (c = *at) != NULL; at = &c->next)
        if (c->home % count == index) {
            *at = c->next;
            atomic_fetch_sub(&p->n_parked, 1);
            break;
        }
    pthread_mutex_unlock(&p->mutex);
    return c;
}
