/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread, one task at a time. `busy` is true from the handing over of a task until it has
 * ended; `late` while nobody waits for it any more. The end is told through an event descriptor, so
 * that the wait can have a deadline and a second descriptor that cancels it.
 */
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct worker {
    const struct weir_host *h; /* of the owner: its thread only */
    void (*free_memory)(void *p);
    void (*after)(void *take_arg);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct task *task;
    bool started, busy, late, over;
    int done_fd, cancel_fd;
};

static void destroy(struct worker *w)
{
    w->after(w->arg);
    (void)pthread_cond_destroy(&w->wake);
    (void)pthread_mutex_destroy(&w->lock);
    (void)close(w->done_fd);
    (void)close(w->cancel_fd);
    w->free_memory(w);
}

static void tell(int fd)
{
    const uint64_t one = 1;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

/* Ends one task. True: the worker is over, and nobody else has it. */
static bool end_task(struct worker *w, struct task *t)
{
    (void)pthread_mutex_lock(&w->lock);
    bool late = w->late, over = w->over && late;
    w->busy = w->late = false;
    if (!over)
        tell(w->done_fd);
    (void)pthread_mutex_unlock(&w->lock);
    if (late)
        t->free(t);
    return over;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        (void)pthread_mutex_lock(&w->lock);
        while (w->task == NULL && !w->over)
            (void)pthread_cond_wait(&w->wake, &w->lock);
        struct task *t = w->task;
        w->task = NULL;
        (void)pthread_mutex_unlock(&w->lock);
        if (t == NULL)
            return NULL; /* its owner joins it */
        t->run(t);
        if (end_task(w, t)) {
            destroy(w);
            return NULL;
        }
    }
}

struct worker *worker_new(const struct weir_host *h, void (*after)(void *take_arg), void *take_arg,
                          struct weir_error *err)
{
    struct worker *w = h->alloc(sizeof(*w));
    if (w == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink's thread");
        return NULL;
    }
    w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->done_fd < 0 || w->cancel_fd < 0) {
        (void)h->error(err, WEIR_E_FATAL, "no_descriptor", "eventfd: %s", strerror(errno));
        if (w->done_fd >= 0)
            (void)close(w->done_fd);
        h->free(w);
        return NULL;
    }
    w->h = h;
    w->free_memory = h->free;
    w->after = after;
    w->arg = take_arg;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->wake, NULL);
    return w;
}

void worker_free(struct worker *take_w)
{
    struct worker *w = take_w;
    if (w == NULL)
        return;
    (void)pthread_mutex_lock(&w->lock);
    bool busy = w->busy;
    w->over = true;
    (void)pthread_cond_signal(&w->wake);
    if (busy)
        (void)pthread_detach(w->thread); /* it destroys w when its task has ended */
    (void)pthread_mutex_unlock(&w->lock);
    if (busy)
        return;
    if (w->started)
        (void)pthread_join(w->thread, NULL);
    destroy(w);
}

void worker_cancel(struct worker *w)
{
    tell(w->cancel_fd);
}

static int until_ms(const struct worker *w, int64_t deadline_ns)
{
    int64_t left = deadline_ns - w->h->now(w->h);
    if (left <= 0)
        return 0;
    return left / WEIR_NS_PER_MS >= 3600000 ? 3600000 : (int)(left / WEIR_NS_PER_MS) + 1;
}

static bool is_busy(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    bool busy = w->busy;
    (void)pthread_mutex_unlock(&w->lock);
    return busy;
}

enum worker_end worker_wait(struct worker *w, int64_t deadline_ns)
{
    for (;;) {
        struct pollfd fds[] = {{w->cancel_fd, POLLIN, 0}, {w->done_fd, POLLIN, 0}};
        uint64_t count;
        int ms = until_ms(w, deadline_ns);
        if (!is_busy(w))
            return WORKER_DONE;
        (void)poll(fds, 2, ms);
        if ((fds[1].revents & POLLIN) != 0 && read(w->done_fd, &count, sizeof(count)) > 0)
            continue;
        if ((fds[0].revents & POLLIN) != 0)
            return WORKER_CANCELED;
        if (ms == 0)
            return WORKER_TIMEOUT;
    }
}

/* Lets go of a task that has not ended in time. False: it has ended just now. */
static bool give_up(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    bool busy = w->busy;
    w->late = busy;
    (void)pthread_mutex_unlock(&w->lock);
    return busy;
}

enum worker_end worker_run(struct worker *w, struct task *take_t, int64_t deadline_ns)
{
    if (!w->started && pthread_create(&w->thread, NULL, work, w) != 0) {
        take_t->free(take_t);
        return WORKER_TIMEOUT;
    }
    w->started = true;
    (void)pthread_mutex_lock(&w->lock);
    w->task = take_t;
    w->busy = true;
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->lock);
    enum worker_end end = worker_wait(w, deadline_ns);
    if (end == WORKER_DONE || !give_up(w))
        return WORKER_DONE;
    return end;
}
