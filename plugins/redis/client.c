/* SPDX-License-Identifier: Apache-2.0
 *
 * What lanes call of the client behind the transform `redis`. Contracts in client.h; the thread, in
 * client_thread.c.
 */
#include "client_thread.h"

#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)16 << 20)

/* ---- Asking ---------------------------------------------------------------------------------- */

uint32_t client_ask_cache(struct client *c, struct group *g)
{
    uint32_t left = 0;
    int64_t now_ns = g->h->now(g->h);
    cache_lock(c->cache);
    for (uint32_t i = 0; i < g->n; i++) {
        struct answer *a = &g->questions[i].answer;
        enum cache_result r = cache_get(c->cache, group_command(g, i), now_ns, &a->blob);
        a->state = r == CACHE_FOUND           ? ANSWER_FOUND
                   : r == CACHE_KNOWN_MISSING ? ANSWER_MISSING
                                              : ANSWER_WAITING;
        left += r == CACHE_MISS;
    }
    cache_unlock(c->cache);
    return left;
}

void client_submit(struct client *c, struct group *g)
{
    uint32_t n = 0;
    int64_t now_ns = g->h->now(g->h);
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < g->n; i++) {
        struct question *q = &g->questions[i];
        if (q->answer.state != ANSWER_WAITING)
            continue;
        q->group = g;
        q->asked_ns = now_ns;
        list_push(&c->queue, q);
        n++;
    }
    atomic_store(&g->n_waiting, n);
    pthread_mutex_unlock(&c->lock);
    client_wake_thread(c);
}

/* Takes the group's questions out of the queue. */
static void unqueue(struct client *c, struct group *g)
{
    struct list kept;
    list_init(&kept);
    while (c->queue.first != NULL) {
        struct question *q = list_pop(&c->queue);
        if (q->group == g)
            atomic_fetch_sub(&g->n_waiting, 1);
        else
            list_push(&kept, q);
    }
    list_prepend(&c->queue, &kept);
}

/* The thread keeps the time: it knows the host's clock. */
void client_flush(struct client *c, const struct group *g, int64_t until_ns)
{
    pthread_mutex_lock(&c->lock);
    c->flush_ns = until_ns;
    client_wake_thread(c);
    while (c->running && c->flush_ns != WEIR_NEVER && atomic_load(&g->n_waiting) > 0)
        pthread_cond_wait(&c->changed, &c->lock);
    c->flush_ns = WEIR_NEVER;
    pthread_mutex_unlock(&c->lock);
}

void client_release(struct client *c, struct group *take_group)
{
    if (take_group == NULL)
        return;
    pthread_mutex_lock(&c->lock);
    if (atomic_load(&take_group->n_waiting) > 0)
        unqueue(c, take_group);
    bool now = atomic_load(&take_group->n_waiting) == 0;
    take_group->orphaned = !now;
    pthread_mutex_unlock(&c->lock);
    if (now)
        group_free(take_group, c->free);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct client *client_new(const struct weir_host *h, const struct client_config *config)
{
    struct client *c = h->alloc(sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = *config;
    c->free = h->free;
    c->flush_ns = WEIR_NEVER;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    list_init(&c->queue);
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    c->cache = cache_new(h, config->cache, h->random(h));
    if (c->wake_fd >= 0 && c->cache != NULL)
        return c;
    client_free(c);
    return NULL;
}

void client_free(struct client *take_client)
{
    struct client *c = take_client;
    if (c == NULL)
        return;
    cache_free(c->cache);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    c->free(c);
}

/* The thread takes no signals: those are for the process. */
static int start_thread(struct client *c)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&c->thread, NULL, client_run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

enum weir_status client_join(struct client *c, const struct weir_host *h, struct weir_error *err)
{
    pthread_mutex_lock(&c->lock);
    bool room = c->n_members < MEMBERS_MAX;
    if (room)
        c->members[c->n_members++] = h;
    bool start = room && !c->running;
    if (start) {
        c->host = h;
        c->stopping = false;
        c->running = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (!room)
        return h->error(err, WEIR_E_FATAL, "too_many_lanes", "more than %d lanes", MEMBERS_MAX);
    if (!start)
        return WEIR_OK;
    struct weir_error why = {0};
    if (!servers_init(&c->servers, h, c->config.conn, REPLY_LIMIT, true, &why))
        h->error(err, why.status, why.code, "%s", why.text);
    else if ((why.number = start_thread(c)) != 0)
        why.status = h->error(err, WEIR_E_FATAL, "thread", "cannot start the thread of redis: %s",
                              strerror((int)why.number));
    if (why.status == WEIR_OK)
        return WEIR_OK;
    servers_done(&c->servers);
    c->running = false;
    c->n_members = 0;
    return why.status;
}

static bool remove_member(struct client *c, const struct weir_host *h)
{
    for (uint32_t i = 0; i < c->n_members; i++) {
        if (c->members[i] != h)
            continue;
        c->n_members--;
        memmove(&c->members[i], &c->members[i + 1], sizeof(h) * (c->n_members - i));
        return true;
    }
    return false;
}

void client_leave(struct client *c, const struct weir_host *h)
{
    pthread_mutex_lock(&c->lock);
    if (c->n_members == 1 && c->members[0] == h && c->running) {
        c->stopping = true;
        pthread_mutex_unlock(&c->lock);
        client_wake_thread(c);
        pthread_join(c->thread, NULL);
        pthread_mutex_lock(&c->lock);
        client_drop_sent(c);
        servers_done(&c->servers);
        c->running = false;
    }
    bool was = remove_member(c, h);
    /* The thread may be using this host: it takes another one first. */
    while (was && c->running && c->host == h) {
        client_wake_thread(c);
        pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}
