/* SPDX-License-Identifier: Apache-2.0
 *
 * The lane's side of the source: open, poll, wake, answer, stop, close.
 *
 * A poll is a number of turns: what epoll and the work list say, what time brings, then the
 * complete requests as long as there is room. It sleeps in epoll_wait only, where the connections,
 * the listening socket and an eventfd for wake-ups meet. Answers are sent as they come, from
 * source_answer.
 */
#include "http_source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>

#define BATCH_BYTES (1u << 20)
#define AT_LIMIT_NS (50 * WEIR_NS_PER_MS)
#define CLOSE_TURNS 50
#define LINGER_NS WEIR_NS_PER_S
#define EVENTS_A_TURN 128

/* ---- Opening and closing ---- */

static bool watch(struct lane *s, int fd, uint32_t events, void *ptr)
{
    struct epoll_event event = {.events = events, .data.ptr = ptr};
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool lane_init(struct lane *s, struct weir_error *err)
{
    const struct config *cf = s->config;
    s->now = s->h->now(s->h);
    s->memory = s->h->extension(s->h, WEIR_MEMORY_EXTENSION);
    s->deadlines[DEADLINE_IDLE].ttl_ns = cf->keep_alive;
    s->deadlines[DEADLINE_REQUEST].ttl_ns = cf->request_timeout;
    s->deadlines[DEADLINE_SEND].ttl_ns = cf->request_timeout;
    s->deadlines[DEADLINE_LINGER].ttl_ns = LINGER_NS;
    answer_open(s);
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->event_fd < 0 || s->epoll_fd < 0 || !watch(s, s->event_fd, EPOLLIN, &s->event_fd)) {
        (void)s->h->error(err, WEIR_E_FATAL, "http_server", "cannot start the HTTP server: %s",
                          strerrordesc_np(errno));
        return false;
    }
    s->shared = s->h->shared(s->h, shared_create, shared_destroy, err);
    return s->shared != NULL && listen_join(s, err);
}

enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err)
{
    struct lane *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http source");
    s->h = h;
    s->config = config;
    s->event_fd = s->epoll_fd = -1;
    if (!lane_init(s, err)) {
        source_close(s);
        return err != NULL && err->status < 0 ? err->status : WEIR_E_FATAL;
    }
    *ret_self = s;
    return WEIR_OK;
}

/* ---- Turns ---- */

/* The listening socket is watched only while a connection would be taken. */
static void watch_listener(struct lane *s)
{
    bool wanted = listen_wanted(s);
    if (wanted == s->listens)
        return;
    if (wanted)
        s->listens = watch(s, s->port->fd, EPOLLIN | EPOLLEXCLUSIVE, &s->listens);
    else if (epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->port->fd, NULL) == 0)
        s->listens = false;
}

static void conn_event(struct conn *c, uint32_t events)
{
    if (c->phase == PHASE_CLOSED)
        return;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        c->readable = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        c->hung_up = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        c->writable = true;
    conn_work(c);
}

static void handle_event(struct lane *s, const struct epoll_event *event)
{
    eventfd_t count = 0;
    if (event->data.ptr == &s->event_fd) {
        (void)!eventfd_read(s->event_fd, &count);
        listen_inbox(s);
    } else if (event->data.ptr == &s->listens) {
        listen_accept(s);
    } else {
        conn_event(event->data.ptr, event->events);
    }
}

/* What is on the work list now; what comes to it meanwhile has its turn later. */
static void run_work(struct lane *s)
{
    struct conn *last = s->work.tail, *c = NULL;
    while (last != NULL && c != last && (c = s->work.head) != NULL) {
        s->work.head = c->work_next;
        *(c->work_next != NULL ? &c->work_next->work_prev : &s->work.tail) = NULL;
        c->queued = false;
        conn_work(c);
    }
}

static void show(struct lane *s)
{
    struct shared *sh = s->shared;
    s->h->metric_set(s->connections, atomic_load_explicit(&sh->connections, memory_order_relaxed));
    s->h->metric_set(s->in_flight,
                     (double)atomic_load_explicit(&sh->in_flight, memory_order_relaxed));
}

/* One turn: waits until `until` for something to happen. Either wake sees `sleeping`, or this sees
 * `woken`. */
static void turn(struct lane *s, int64_t until)
{
    struct epoll_event events[EVENTS_A_TURN];
    int64_t left = s->work.head == NULL && until > s->now ? until - s->now : 0;
    int64_t ms = (left + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    watch_listener(s);
    if (left > 0) {
        show(s);
        atomic_store(&s->sleeping, true);
        if (atomic_load(&s->woken))
            ms = 0;
    }
    int n = epoll_wait(s->epoll_fd, events, EVENTS_A_TURN, ms < 60000 ? (int)ms : 60000);
    if (left > 0)
        atomic_store(&s->sleeping, false);
    s->now = s->h->now(s->h);
    s->memory_short = s->memory != NULL && s->memory->is_short(s->h);
    for (int i = 0; i < n; i++)
        handle_event(s, &events[i]);
    run_work(s);
    conn_free_dead(s);
}

/* What was answered last should arrive. */
static void drain(struct lane *s)
{
    conn_release_all(s);
    for (int i = 0; i < CLOSE_TURNS && conn_sending(s); i++) {
        turn(s, s->now + 10 * WEIR_NS_PER_MS);
        conn_expire(s);
    }
}

void source_close(void *take_self)
{
    struct lane *s = take_self;
    if (s == NULL)
        return;
    if (s->port != NULL) {
        s->stopping = true;
        listen_leave(s);
        listen_inbox(s);
        drain(s);
        conn_close_all(s);
    }
    if (s->event_fd >= 0)
        close(s->event_fd);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    port_unref(s->port);
    decoders_close(s);
    answer_close(s);
    requests_close(s);
    while (s->n_free_inbufs != 0)
        s->h->free(s->free_inbufs[--s->n_free_inbufs]);
    s->h->free(s);
}

/* ---- Waking ---- */

void source_wake(void *self)
{
    struct lane *s = self;
    if (!atomic_exchange(&s->woken, true) && atomic_load(&s->sleeping))
        (void)!eventfd_write(s->event_fd, 1);
}

/* ---- Polling ---- */

/* Requests that are complete, as long as there is room; at most about BATCH_BYTES of them, refused
 * ones included. */
static void take_ready(struct lane *s, struct weir_batch *b, uint32_t room, size_t *looked_at)
{
    while (b->n_events < room && *looked_at < BATCH_BYTES) {
        if (s->in_parts != NULL) {
            if (!parts_take(s, b, room, BATCH_BYTES, looked_at))
                return;
        } else if (s->ready.head != NULL) {
            *looked_at += request_take(s->ready.head, b);
        } else {
            return;
        }
    }
}

static bool has_complete(const struct lane *s)
{
    return s->ready.head != NULL || s->in_parts != NULL;
}

static bool ended(const struct lane *s)
{
    return s->stopping && !has_complete(s) && !handover_reads(s);
}

/* How long a turn may wait. */
static int64_t turn_until(struct lane *s, uint32_t room, int64_t deadline_ns)
{
    int64_t until = conn_next_deadline(s);
    if (until > deadline_ns)
        until = deadline_ns;
    if (!listen_wanted(s) && !s->stopping && until > s->now + AT_LIMIT_NS)
        until = s->now + AT_LIMIT_NS; /* another lane's connection may end */
    if (handover_reads(s) && until > s->read_until_ns)
        until = s->read_until_ns;
    if (ended(s) || (has_complete(s) && room != 0))
        until = s->now;
    return until;
}

enum weir_status source_poll(void *self, struct weir_batch *b, uint32_t room, int64_t deadline_ns,
                             struct weir_error *err)
{
    struct lane *s = self;
    size_t looked_at = 0;
    (void)err;
    s->now = s->h->now(s->h);
    handover_take(s);
    do {
        turn(s, turn_until(s, room, deadline_ns));
        conn_expire(s);
        take_ready(s, b, room, &looked_at);
    } while (b->n_events == 0 && looked_at < BATCH_BYTES && s->now < deadline_ns &&
             !atomic_exchange(&s->woken, false) && !ended(s));
    show(s);
    return b->n_events != 0 ? WEIR_OK : ended(s) ? WEIR_END : WEIR_AGAIN;
}

void source_answer(void *self, void *user, const struct weir_ends *ends)
{
    struct lane *s = self;
    struct request *q = user;
    q->open = false;
    s->now = s->h->now(s->h);
    drain_note(s, s->now - q->queued_ns);
    request_charge(q, -q->charged);
    if (q->parts != NULL) { /* the end of all came before its last part */
        parts_free(q);
        refuse(&q->refusal, HTTP_UNAVAILABLE, "failed",
               "not all of the events were delivered: send them again");
    }
    if (q->conn == NULL)
        request_free(q);
    else if (q->refusal.status != 0)
        reply_refusal(q);
    else
        reply_ends(q, ends);
}

void source_stop(void *self)
{
    struct lane *s = self;
    s->now = s->h->now(s->h);
    listen_stop(s);
    s->stopping = true;
    if (listen_is_handed_over(s))
        handover_begin(s);
}
