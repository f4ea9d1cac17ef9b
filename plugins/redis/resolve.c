/* SPDX-License-Identifier: Apache-2.0
 *
 * getaddrinfo knows no deadline and cannot be stopped. So its thread and whoever waits share what
 * they need, and the last of them frees it: a caller that gives up only lets go.
 */
#include "resolve.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct resolve {
    void (*free)(void *take_p);
    atomic_uint refs;
    atomic_bool done;
    int fd;
    int error;
    struct addrinfo *infos;
    char host[256];
    char port[8];
};

int resolve_number(const char *host, const char *port, struct addrinfo **ret_infos)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    return getaddrinfo(host, port, &hints, ret_infos);
}

void resolve_drop(struct resolve *take_r)
{
    struct resolve *r = take_r;
    if (r == NULL || atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    if (r->infos != NULL)
        freeaddrinfo(r->infos);
    close(r->fd);
    r->free(r);
}

static void *run(void *arg)
{
    struct resolve *r = arg;
    const uint64_t one = 1;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    r->error = getaddrinfo(r->host, r->port, &hints, &r->infos);
    if (r->error != 0)
        r->infos = NULL;
    atomic_store(&r->done, true);
    ssize_t n = write(r->fd, &one, sizeof(one));
    (void)n; /* the first write to an eventfd cannot fail */
    resolve_drop(r);
    return NULL;
}

/* A thread that nobody joins and that takes no signals: those are for the process. */
static bool start_thread(struct resolve *r)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_detach(thread);
    return error == 0;
}

struct resolve *resolve_start(const struct weir_host *h, const char *host, const char *port)
{
    struct resolve *r = h->alloc(sizeof(*r));
    if (r == NULL)
        return NULL;
    r->free = h->free;
    snprintf(r->host, sizeof(r->host), "%s", host);
    snprintf(r->port, sizeof(r->port), "%s", port);
    atomic_init(&r->done, false);
    atomic_init(&r->refs, 2);
    r->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->fd >= 0 && start_thread(r))
        return r;
    if (r->fd >= 0)
        close(r->fd);
    h->free(r);
    return NULL;
}

int resolve_fd(const struct resolve *r)
{
    return r->fd;
}

bool resolve_is_done(const struct resolve *r)
{
    return atomic_load(&r->done);
}

int resolve_end(struct resolve *take_r, struct addrinfo **ret_infos)
{
    int error = take_r->error;
    if (error == 0) {
        *ret_infos = take_r->infos;
        take_r->infos = NULL;
    }
    resolve_drop(take_r);
    return error;
}
