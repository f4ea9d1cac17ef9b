/* SPDX-License-Identifier: Apache-2.0
 *
 * The listening socket and who serves its connections. All lanes of a component share one socket;
 * whichever lane is awake accepts, and hands the connection to the lane that has the fewest. So two
 * clients on two lanes never end on the same one, as they may with SO_REUSEPORT or a race of
 * accepts.
 */
#include "http_source.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define ACCEPTS_A_TURN 16
#define FILES_KEPT INT64_C(128) /* for all but clients */
#define ACCEPT_PAUSE_NS (100 * WEIR_NS_PER_MS)

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

static int listen_open(const struct weir_host *h, struct weir_str text, struct weir_error *err)
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
    (void)h->error(err, gai != 0 ? WEIR_E_CONFIG : WEIR_E_FATAL, "listen",
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

/* max_connections, or what the limit of the process's open files leaves for them: clients must
 * never take the last one from the sinks. Another http source of the process is not counted: of
 * several the user's max_connections must leave that much. */
static unsigned connections_possible(const struct weir_host *h, const struct config *cf)
{
    struct rlimit files;
    int64_t most = cf->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= (rlim_t)(most + FILES_KEPT))
        return (unsigned)most;
    int64_t limit = (int64_t)files.rlim_cur;
    most = limit > 2 * FILES_KEPT ? limit - FILES_KEPT : limit / 2;
    struct weir_kv kv[] = {weir_kv_i64("max_connections", most), weir_kv_i64("open_files", limit)};
    h->log(h, WEIR_LOG_WARN,
           "fewer connections than max_connections says, since the process may open few files: "
           "raise ulimit -n",
           kv, 2);
    return (unsigned)most;
}

static bool open_secrets(const struct weir_host *h, const struct config *cf, struct shared *sh,
                         struct weir_error *err)
{
    if (cf->tls.cert.len != 0 && (sh->tls = tls_open(h, &cf->tls, err)) == NULL)
        return false;
    return cf->token_file.len == 0 || (sh->tokens = tokens_open(h, cf->token_file, err)) != NULL;
}

void *shared_create(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct config *cf = config;
    int fd = listen_open(h, cf->address, err);
    if (fd < 0)
        return NULL;
    struct shared *sh = h->alloc(sizeof(*sh));
    if (sh == NULL || pthread_mutex_init(&sh->mutex, NULL) != 0) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http source");
        h->free(sh);
        close(fd);
        return NULL;
    }
    sh->free = h->free;
    sh->listen_fd = fd;
    sh->max_connections = connections_possible(h, cf);
    if (!open_secrets(h, cf, sh, err)) {
        shared_destroy(sh);
        return NULL;
    }
    atomic_store(&sh->listening, true);
    log_listening(h, fd);
    return sh;
}

void shared_destroy(void *take_shared)
{
    struct shared *sh = take_shared;
    if (sh == NULL)
        return;
    close(sh->listen_fd);
    tls_close(sh->tls);
    tokens_close(sh->tokens);
    pthread_mutex_destroy(&sh->mutex);
    sh->free(sh);
}

bool listen_join(struct lane *s)
{
    struct shared *sh = s->shared;
    pthread_mutex_lock(&sh->mutex);
    bool room = sh->n_lanes < MAX_LANES;
    if (room)
        sh->lanes[sh->n_lanes++] = s;
    pthread_mutex_unlock(&sh->mutex);
    return room;
}

void listen_leave(struct lane *s)
{
    struct shared *sh = s->shared;
    pthread_mutex_lock(&sh->mutex);
    for (uint32_t i = 0; i < sh->n_lanes; i++) {
        if (sh->lanes[i] == s) {
            sh->lanes[i] = sh->lanes[--sh->n_lanes];
            break;
        }
    }
    pthread_mutex_unlock(&sh->mutex);
}

bool listen_wanted(const struct lane *s)
{
    return atomic_load_explicit(&s->shared->listening, memory_order_relaxed) && !s->stopping &&
           atomic_load_explicit(&s->shared->connections, memory_order_relaxed) <
               s->shared->max_connections &&
           s->now >= s->accept_after_ns;
}

bool listen_has_waiting(const struct lane *s)
{
    struct pollfd p = {.fd = s->shared->listen_fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* The lane with the fewest connections takes it; s itself where it is among them. */
static void hand_over(struct lane *s, int fd)
{
    struct shared *sh = s->shared;
    pthread_mutex_lock(&sh->mutex);
    struct lane *best = s;
    unsigned fewest = atomic_load_explicit(&s->n_conns, memory_order_relaxed) + s->n_inbox;
    for (uint32_t i = 0; i < sh->n_lanes; i++) {
        struct lane *other = sh->lanes[i];
        unsigned n = atomic_load_explicit(&other->n_conns, memory_order_relaxed) + other->n_inbox;
        if (n < fewest && other->n_inbox < INBOX_CAP) {
            best = other;
            fewest = n;
        }
    }
    bool away = best != s;
    if (away) {
        best->inbox[best->n_inbox++] = fd;
        (void)!eventfd_write(best->event_fd, 1);
    }
    pthread_mutex_unlock(&sh->mutex);
    if (!away)
        conn_add(s, fd);
}

/* A connection counts from before it is accepted, so that lanes cannot pass the limit together. */
static bool slot_take(struct lane *s)
{
    unsigned n = atomic_fetch_add_explicit(&s->shared->connections, 1, memory_order_relaxed);
    if (n < s->shared->max_connections)
        return true;
    listen_release(s);
    return false;
}

void listen_release(struct lane *s)
{
    atomic_fetch_sub_explicit(&s->shared->connections, 1, memory_order_relaxed);
}

static void accept_failed(struct lane *s, int error)
{
    if (error == EAGAIN || error == ECONNABORTED || error == EINTR || error == EPROTO)
        return;
    if (error == EINVAL) { /* the socket was shut down by another lane's stop */
        atomic_store(&s->shared->listening, false);
        return;
    }
    s->accept_after_ns = s->now + ACCEPT_PAUSE_NS;
    struct weir_kv kv[] = {weir_kv_text("error", strerrordesc_np(error))};
    s->h->log(s->h, WEIR_LOG_WARN, "cannot accept connections for now", kv, 1);
}

void listen_accept(struct lane *s)
{
    for (int i = 0; i < ACCEPTS_A_TURN && listen_wanted(s) && slot_take(s); i++) {
        int fd = accept4(s->shared->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            listen_release(s);
            accept_failed(s, errno);
            return;
        }
        hand_over(s, fd);
    }
}

void listen_inbox(struct lane *s)
{
    int taken[INBOX_CAP];
    uint32_t n = 0;
    pthread_mutex_lock(&s->shared->mutex);
    n = s->n_inbox;
    memcpy(taken, s->inbox, n * sizeof(taken[0]));
    s->n_inbox = 0;
    pthread_mutex_unlock(&s->shared->mutex);
    for (uint32_t i = 0; i < n; i++)
        conn_add(s, taken[i]);
}

void listen_stop(struct lane *s)
{
    bool was = atomic_exchange(&s->shared->listening, false);
    for (int fd = 0; was && fd >= 0;) {
        fd = accept4(s->shared->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            atomic_fetch_add_explicit(&s->shared->connections, 1, memory_order_relaxed);
            conn_add(s, fd);
        }
    }
    if (was)
        (void)shutdown(s->shared->listen_fd, SHUT_RDWR);
    listen_leave(s);
    listen_inbox(s);
}
