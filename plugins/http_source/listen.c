/* SPDX-License-Identifier: Apache-2.0
 *
 * Who serves the connections of the listening socket. All lanes of a component share one socket;
 * whichever lane is awake accepts, and hands the connection to the lane that has the fewest. So two
 * clients on two lanes never end on the same one, as they may with SO_REUSEPORT or a race of
 * accepts.
 */
#include "http_source.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define ACCEPTS_A_TURN 16
#define FILES_KEPT INT64_C(128) /* for all but clients */
#define ACCEPT_PAUSE_NS (100 * WEIR_NS_PER_MS)

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
    struct shared *sh = h->alloc(sizeof(*sh));
    if (sh == NULL || pthread_mutex_init(&sh->mutex, NULL) != 0) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http source");
        h->free(sh);
        return NULL;
    }
    sh->free = h->free;
    sh->config = cf;
    sh->max_connections = connections_possible(h, cf);
    if (!open_secrets(h, cf, sh, err) || !port_open(h, sh, err)) {
        shared_destroy(sh);
        return NULL;
    }
    return sh;
}

void shared_destroy(void *take_shared)
{
    struct shared *sh = take_shared;
    if (sh == NULL)
        return;
    if (sh->port != NULL)
        port_give_back(sh->port, sh->number);
    port_unref(sh->port);
    tls_close(sh->tls);
    tokens_close(sh->tokens);
    pthread_mutex_destroy(&sh->mutex);
    sh->free(sh);
}

/* Lanes that were stopped for a reload that failed come again, and may find the port shut. */
static bool join(struct lane *s, struct weir_error *err)
{
    struct shared *sh = s->shared;
    if (sh->n_lanes == MAX_LANES) {
        (void)s->h->error(err, WEIR_E_CONFIG, "lanes", "an http source has at most %d lanes",
                          MAX_LANES);
        return false;
    }
    if (!atomic_load(&sh->port->listening) && !port_open(s->h, sh, err))
        return false;
    s->port = port_ref(sh->port);
    sh->lanes[sh->n_lanes++] = s;
    return true;
}

bool listen_join(struct lane *s, struct weir_error *err)
{
    pthread_mutex_lock(&s->shared->mutex);
    bool joined = join(s, err);
    pthread_mutex_unlock(&s->shared->mutex);
    return joined;
}

bool listen_is_handed_over(const struct lane *s)
{
    return atomic_load(&s->port->owner) != s->shared->number;
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
    return !s->stopping && atomic_load_explicit(&s->port->listening, memory_order_relaxed) &&
           atomic_load_explicit(&s->shared->connections, memory_order_relaxed) <
               s->shared->max_connections &&
           s->now >= s->accept_after_ns;
}

bool listen_has_waiting(const struct lane *s)
{
    struct pollfd p = {.fd = s->port->fd, .events = POLLIN};
    return !s->stopping && poll(&p, 1, 0) > 0;
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
        atomic_store(&s->port->listening, false);
        return;
    }
    s->accept_after_ns = s->now + ACCEPT_PAUSE_NS;
    struct weir_kv kv[] = {weir_kv_text("error", strerrordesc_np(error))};
    s->h->log(s->h, WEIR_LOG_WARN, "cannot accept connections for now", kv, 1);
}

void listen_accept(struct lane *s)
{
    for (int i = 0; i < ACCEPTS_A_TURN && listen_wanted(s) && slot_take(s); i++) {
        int fd = accept4(s->port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
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

static void shut(struct lane *s)
{
    bool was = atomic_exchange(&s->port->listening, false);
    for (int fd = 0; was && fd >= 0;) {
        fd = accept4(s->port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            atomic_fetch_add_explicit(&s->shared->connections, 1, memory_order_relaxed);
            conn_add(s, fd);
        }
    }
    if (was)
        (void)shutdown(s->port->fd, SHUT_RDWR);
}

void listen_stop(struct lane *s)
{
    if (s->listens && epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->port->fd, NULL) == 0)
        s->listens = false;
    if (!listen_is_handed_over(s))
        shut(s);
    listen_leave(s);
    listen_inbox(s);
}
