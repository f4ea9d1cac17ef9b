/* SPDX-License-Identifier: Apache-2.0
 *
 * The lane's side of the source: open, poll, wake, answer, stop, close.
 *
 * A poll first gives out requests that waited for room, then runs libmicrohttpd once without
 * waiting (answers that were queued since the last poll go out there), and only then sleeps, on
 * libmicrohttpd's descriptor, the listening socket and an eventfd.
 */
#include "http_source.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>

#define BATCH_BYTES (1u << 20)
#define AT_LIMIT_NS (50 * WEIR_NS_PER_MS)
#define CLOSE_TURNS 50
#define LINGER_NS WEIR_NS_PER_S
#define LOOK_NS WEIR_NS_PER_MS

/* ---- Opening and closing ---- */

static bool lane_init(struct lane *s, struct weir_error *err)
{
    const struct config *cf = s->config;
    s->now = s->h->now(s->h);
    s->headers_in_place = head_stays_in_place();
    s->deadlines[DEADLINE_IDLE].ttl_ns = cf->keep_alive;
    s->deadlines[DEADLINE_REQUEST].ttl_ns = cf->request_timeout;
    s->deadlines[DEADLINE_SEND].ttl_ns = cf->request_timeout;
    s->deadlines[DEADLINE_LINGER].ttl_ns = LINGER_NS;
    answer_open(s);
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->daemon = s->event_fd >= 0 ? conn_daemon_start(s) : NULL;
    if (s->daemon == NULL) {
        (void)s->h->error(err, WEIR_E_FATAL, "http_server", "cannot start the HTTP server: %s",
                          strerrordesc_np(errno));
        return false;
    }
    s->epoll_fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    s->shared = s->h->shared(s->h, shared_create, shared_destroy, err);
    if (s->shared == NULL)
        return false;
    if (listen_join(s))
        return true;
    (void)s->h->error(err, WEIR_E_CONFIG, "lanes", "an http source has at most %d lanes",
                      MAX_LANES);
    return false;
}

enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err)
{
    struct lane *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http source");
    s->h = h;
    s->config = config;
    s->event_fd = -1;
    if (!lane_init(s, err)) {
        source_close(s);
        return err != NULL && err->status < 0 ? err->status : WEIR_E_FATAL;
    }
    *ret_self = s;
    return WEIR_OK;
}

static void run(struct lane *s)
{
    s->now = s->h->now(s->h);
    s->resumed = false;
    (void)MHD_run(s->daemon);
    conn_missed(s);
}

/* Nothing may be suspended when the daemon stops, and what was answered last should arrive. */
static void drain(struct lane *s)
{
    conn_release_all(s);
    run(s);
    for (int i = 0; i < CLOSE_TURNS && s->deadlines[DEADLINE_SEND].head != NULL; i++) {
        struct pollfd fd = {s->epoll_fd, POLLIN, 0};
        (void)poll(&fd, 1, 10);
        run(s);
    }
}

void source_close(void *take_self)
{
    struct lane *s = take_self;
    if (s == NULL)
        return;
    if (s->shared != NULL) {
        listen_leave(s);
        listen_inbox(s);
        drain(s);
    }
    if (s->daemon != NULL)
        MHD_stop_daemon(s->daemon);
    if (s->event_fd >= 0)
        close(s->event_fd);
    if (s->inflate_ready)
        (void)inflateEnd(&s->inflate);
    answer_close(s);
    while (s->free_requests != NULL) {
        struct request *q = s->free_requests;
        s->free_requests = q->next;
        s->h->free(q);
    }
    s->h->free(s);
}

/* ---- Waking ---- */

void source_wake(void *self)
{
    struct lane *s = self;
    if (!atomic_exchange(&s->woken, true) && atomic_load(&s->sleeping))
        (void)!eventfd_write(s->event_fd, 1);
}

static void show(struct lane *s)
{
    struct shared *sh = s->shared;
    s->h->metric_set(s->connections, atomic_load_explicit(&sh->connections, memory_order_relaxed));
    s->h->metric_set(s->in_flight,
                     (double)atomic_load_explicit(&sh->in_flight, memory_order_relaxed));
}

/* Waits for anything, at most `left`; then takes the connections that have come. */
static void look(struct lane *s, int64_t left)
{
    struct timespec ts = {.tv_sec = left / WEIR_NS_PER_S, .tv_nsec = left % WEIR_NS_PER_S};
    struct pollfd fds[] = {{s->event_fd, POLLIN, 0},
                           {s->epoll_fd, POLLIN, 0},
                           {listen_wanted(s) ? s->shared->listen_fd : -1, POLLIN, 0}};
    (void)ppoll(fds, sizeof(fds) / sizeof(fds[0]), &ts, NULL);
    s->now = s->looked_ns = s->h->now(s->h);
    eventfd_t count = 0;
    if (fds[0].revents != 0) {
        (void)!eventfd_read(s->event_fd, &count);
        listen_inbox(s);
    }
    if (fds[2].revents != 0)
        listen_accept(s);
}

/* Sleeps until something happens or `until`. Either wake sees `sleeping`, or this sees `woken`. */
static void sleep_until(struct lane *s, int64_t until)
{
    MHD_UNSIGNED_LONG_LONG at_once = 0;
    if (s->resumed || (MHD_get_timeout(s->daemon, &at_once) == MHD_YES && at_once == 0))
        until = s->now;
    bool at_limit = !listen_wanted(s) && !s->stopping;
    if (at_limit && until > s->now + AT_LIMIT_NS)
        until = s->now + AT_LIMIT_NS;
    if (until <= s->now)
        return;
    show(s);
    atomic_store(&s->sleeping, true);
    if (!atomic_load(&s->woken))
        look(s, until - s->now);
    atomic_store(&s->sleeping, false);
}

/* ---- Polling ---- */

/* Requests that are complete, as long as there is room; at most about BATCH_BYTES of them, refused
 * ones included. */
static void take_ready(struct lane *s, struct weir_batch *b, uint32_t room, size_t *looked_at)
{
    while (s->ready.head != NULL && b->n_events < room && *looked_at < BATCH_BYTES)
        *looked_at += request_take(s->ready.head, b);
}

static bool ended(const struct lane *s)
{
    return s->stopping && s->ready.head == NULL;
}

enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t deadline_ns,
                             struct weir_error *err)
{
    struct lane *s = self;
    size_t looked_at = 0;
    (void)err;
    for (;;) {
        run(s);
        conn_expire(s);
        if (s->now - s->looked_ns > LOOK_NS) /* a lane that never sleeps takes connections too */
            look(s, 0);
        take_ready(s, b, room, &looked_at);
        if (b->n_events != 0 || looked_at >= BATCH_BYTES || s->now >= deadline_ns ||
            atomic_exchange(&s->woken, false) || ended(s))
            break;
        int64_t next = conn_next_deadline(s);
        sleep_until(s, next < deadline_ns ? next : deadline_ns);
    }
    show(s);
    return b->n_events != 0 ? WEIR_OK : ended(s) ? WEIR_END : WEIR_AGAIN;
}

void source_answer(void *self, void *user, const struct weir_ends *ends)
{
    struct lane *s = self;
    struct request *q = user;
    q->open = false;
    request_charge(q, -q->charged);
    s->now = s->h->now(s->h);
    if (q->conn == NULL)
        request_free(q);
    else if (q->state == REQUEST_TAKEN)
        reply_ends(q, ends);
}

void source_stop(void *self)
{
    struct lane *s = self;
    listen_stop(s);
    s->stopping = true;
}
