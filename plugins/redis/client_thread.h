/* SPDX-License-Identifier: Apache-2.0
 *
 * What client.c and the thread in client_thread.c share. For these two alone.
 */
#ifndef REDIS_CLIENT_THREAD_H
#define REDIS_CLIENT_THREAD_H

#include "client.h"
#include "servers.h"

#include <pthread.h>

#define MEMBERS_MAX 256

/* One failure after the other, and how long to wait for the next try. */
struct failures {
    uint64_t n;
    int64_t retry_ns; /* not before that */
    struct weir_result last;
    char text[400]; /* its message */
};

/* The `user` of a server. */
struct line {
    struct list sent; /* in the order of their replies */
    struct failures failures;
    bool unread; /* the connection broke at a reply that is too large, and for nothing else */
};

struct client {
    struct client_config config;
    void (*free)(void *take_p);
    struct cache *cache;
    pthread_t thread;
    int wake_fd;

    pthread_mutex_t lock; /* guards what follows, but the servers */
    pthread_cond_t changed;
    struct list queue;
    const struct weir_host *members[MEMBERS_MAX]; /* the lanes; the first lends its clock */
    uint32_t n_members;
    bool running, stopping;
    size_t sent_bytes;
    struct failures failures; /* of finding the servers */
    int64_t flush_ns;         /* somebody waits in client_flush until then; WEIR_NEVER: nobody */

    const struct weir_host *host; /* what the connections use; changed by the thread alone */
    struct servers servers;       /* the thread's alone while it runs */
};

/* The thread; its argument is the client. */
void *client_run(void *arg);
void client_wake_thread(const struct client *c);
/* Lets go of everything that was sent; the thread has ended. The lock is held. */
void client_drop_sent(struct client *c);

#endif
