/* SPDX-License-Identifier: Apache-2.0
 *
 * A call on a thread of its own. Both sides hold a reference; who comes second to `state` knows
 * what the other one did.
 */
#include "later.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum call_state { CALL_RUNS, CALL_DONE, CALL_LEFT };

struct call {
    void (*run)(void *arg);
    void (*drop)(void *take_arg);
    void *arg;
    void (*free_memory)(void *p);
    int done_fd;
    atomic_int state, refs;
};

int patience_over(const struct patience *p)
{
    struct pollfd cancel = {p->cancel_fd, POLLIN, 0};
    if (p->cancel_fd >= 0 && poll(&cancel, 1, 0) > 0)
        return ECANCELED;
    return p->h->now(p->h) >= p->deadline_ns ? ETIMEDOUT : 0;
}

int patience_ms(const struct patience *p, int64_t deadline_ns)
{
    int64_t left = deadline_ns - p->h->now(p->h);
    if (left <= 0)
        return 0;
    return left >= 3600 * WEIR_NS_PER_S ? 3600000 : (int)((left + 999999) / WEIR_NS_PER_MS);
}

int patience_wait(const struct patience *p, int fd, short events, int32_t ms)
{
    int64_t deadline_ns = p->deadline_ns;
    if (ms >= 0) {
        int64_t own = p->h->now(p->h) + ms * WEIR_NS_PER_MS;
        deadline_ns = own < deadline_ns ? own : deadline_ns;
    }
    for (;;) {
        struct pollfd fds[] = {{fd, events, 0}, {p->cancel_fd, POLLIN, 0}};
        int wait_ms = patience_ms(p, deadline_ns);
        int n = poll(fds, 2, wait_ms);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0 && fds[1].revents != 0)
            return ECANCELED;
        if (n > 0)
            return 0;
        if (wait_ms == 0)
            return ETIMEDOUT;
    }
}

static void call_unref(struct call *take_c)
{
    if (atomic_fetch_sub(&take_c->refs, 1) != 1)
        return;
    (void)close(take_c->done_fd);
    take_c->free_memory(take_c);
}

static void *call_thread(void *take_arg)
{
    struct call *c = take_arg;
    const uint64_t one = 1;
    c->run(c->arg);
    if (atomic_exchange(&c->state, CALL_DONE) == CALL_LEFT)
        c->drop(c->arg);
    else
        while (write(c->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            continue;
    call_unref(c);
    return NULL;
}

static struct call *call_new(const struct patience *p, void (*run)(void *arg),
                             void (*drop)(void *take_arg), void *arg)
{
    struct call *c = p->h->alloc(sizeof(*c));
    if (c == NULL)
        return NULL;
    c->run = run;
    c->drop = drop;
    c->arg = arg;
    c->free_memory = p->h->free;
    c->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&c->state, CALL_RUNS);
    atomic_init(&c->refs, 1);
    if (c->done_fd >= 0)
        return c;
    p->h->free(c);
    return NULL;
}

static int call_start(struct call *c)
{
    pthread_t thread;
    (void)atomic_fetch_add(&c->refs, 1);
    int error = pthread_create(&thread, NULL, call_thread, c);
    if (error != 0)
        (void)atomic_fetch_sub(&c->refs, 1);
    else
        (void)pthread_detach(thread);
    return error;
}

int later_run(const struct patience *p, void (*run)(void *arg), void (*drop)(void *take_arg),
              void *take_arg)
{
    struct call *c = call_new(p, run, drop, take_arg);
    int error = c != NULL ? call_start(c) : ENOMEM;
    if (error != 0) {
        drop(take_arg);
        if (c != NULL)
            call_unref(c);
        return error;
    }
    error = patience_wait(p, c->done_fd, POLLIN, -1);
    if (atomic_exchange(&c->state, CALL_LEFT) == CALL_DONE)
        error = 0;
    call_unref(c);
    return error;
}
