/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread behind the transform `redis`. Contracts in client.h.
 *
 *   submit ─▶ queue ─▶ sent (in the order of their replies) ─▶ answered, lane woken
 *               ▲          │
 *               └──────────┘ connection lost and `wait`: asked again, after a while
 *
 * A question that nobody waits for any more keeps its place among those sent, since its reply will
 * come, and is dropped with it.
 */
#include "client.h"

#include "conn.h"
#include "errors.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define REPLY_LIMIT ((size_t)16 << 20)
#define SENT_MAX_BYTES ((size_t)4 << 20) /* commands under way; more wait in the queue */
#define RETRY_FIRST_NS (50 * WEIR_NS_PER_MS)
#define RETRY_MAX_NS (5 * WEIR_NS_PER_S)
#define MEMBERS_MAX 256

struct client {
    struct client_config config;
    void (*free)(void *take_p);
    struct cache *cache;
    pthread_t thread;
    int wake_fd;

    pthread_mutex_t lock; /* guards what follows, but the connection */
    pthread_cond_t changed;
    struct list queue, sent;
    const struct weir_host *members[MEMBERS_MAX]; /* the lanes; the first lends its clock */
    uint32_t n_members;
    bool running, stopping;
    bool unread; /* the connection broke at a reply that is too large, and for nothing else */
    size_t sent_bytes;
    uint64_t n_failures; /* of the connection, one after the other */
    int64_t retry_ns;    /* no connection before that */
    struct weir_result failure;
    char failure_text[400];

    const struct weir_host *host; /* what the connection uses; changed by the thread alone */
    struct conn conn;             /* the thread's alone while it runs */
};

/* ---- Asking ---------------------------------------------------------------------------------- */

static void wake_thread(const struct client *c)
{
    const uint64_t one = 1;
    ssize_t n = write(c->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

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
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < g->n; i++) {
        struct question *q = &g->questions[i];
        if (q->answer.state != ANSWER_WAITING)
            continue;
        q->group = g;
        list_push(&c->queue, q);
        n++;
    }
    atomic_store(&g->n_waiting, n);
    pthread_mutex_unlock(&c->lock);
    wake_thread(c);
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

/* ---- Answers: with the lock held ------------------------------------------------------------- */

/* The question's answer is set: tells its lane when it was the last. The group may be gone then. */
static void answered(struct client *c, struct question *q)
{
    struct group *g = q->group;
    const struct weir_host *h = g->h;
    bool orphaned = g->orphaned;
    if (atomic_fetch_sub(&g->n_waiting, 1) != 1)
        return;
    if (orphaned)
        group_free(g, c->free);
    else
        h->wake(h);
}

static void answer_failure(struct client *c, struct question *q, enum answer_state state,
                           const struct weir_result *why)
{
    struct answer *a = &q->answer;
    a->state = state;
    a->code = why->code;
    snprintf(a->message, sizeof(a->message), "%.*s", (int)why->message.len, why->message.ptr);
    answered(c, q);
}

static void keep_in_cache(struct client *c, const struct question *q)
{
    bool found = q->answer.state == ANSWER_FOUND;
    int64_t ttl_ns = found ? c->config.ttl_ns : c->config.missing_ttl_ns;
    if (ttl_ns <= 0)
        return;
    struct weir_str key = weir_str_n(q->group->commands.ptr + q->at, q->len);
    int64_t now_ns = c->host->now(c->host);
    cache_lock(c->cache);
    cache_put(c->cache, key, q->answer.blob,
              ttl_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + ttl_ns);
    cache_unlock(c->cache);
}

/* True where the reply is this question's answer; else the connection is BROKEN. */
static bool take_reply(struct client *c, struct question *q, const struct reply *reply)
{
    bool reconnect;
    if (reply->type == REPLY_ERROR) {
        struct weir_result r = redis_error_result(reply->text, &reconnect);
        if (r.verdict != WEIR_VERDICT_REJECTED) {
            conn_break(&c->conn, r.code, "redis at %s cannot answer now: %.*s", c->conn.where,
                       (int)r.message.len, r.message.ptr);
            return false;
        }
        answer_failure(c, q, ANSWER_REJECTED, &r);
        return true;
    }
    if (reply->type == REPLY_TOO_LARGE || reply->type == REPLY_TOO_DEEP) {
        c->unread = true;
        answer_failure(c, q, ANSWER_REJECTED, &c->conn.error);
        return true;
    }
    q->answer.state = ANSWER_MISSING;
    if (reply->type != REPLY_NIL && !(reply->type == REPLY_ARRAY && reply->number == 0)) {
        q->answer.blob = blob_new(c->host, reply->record);
        q->answer.state = ANSWER_FOUND;
        if (q->answer.blob == NULL) {
            q->answer.state = ANSWER_WAITING;
            conn_break(&c->conn, "no_memory", "no memory for a reply of redis");
            return false;
        }
    }
    keep_in_cache(c, q);
    answered(c, q);
    return true;
}

static void take_replies(struct client *c)
{
    struct reply reply;
    while (conn_next(&c->conn, &reply)) {
        struct question *q = c->sent.first;
        if (q == NULL) {
            conn_break(&c->conn, "protocol", "redis at %s sent a reply that nobody asked for",
                       c->conn.where);
            return;
        }
        size_t len = q->len;
        struct list rest = {q->next, c->sent.last};
        if (!take_reply(c, q, &reply))
            return;
        if (c->n_failures > 0)
            c->host->log(c->host, WEIR_LOG_INFO, "redis answers again", NULL, 0);
        c->n_failures = 0;
        c->sent_bytes -= len;
        c->sent.first = rest.first;
        if (rest.first == NULL)
            c->sent.last = &c->sent.first;
    }
}

/* ---- The connection -------------------------------------------------------------------------- */

static int64_t backoff_ns(struct client *c)
{
    uint64_t shift = c->n_failures < 8 ? c->n_failures : 8;
    int64_t most = RETRY_FIRST_NS << shift;
    most = most < RETRY_MAX_NS ? most : RETRY_MAX_NS;
    return RETRY_FIRST_NS / 5 + (int64_t)(c->host->random(c->host) % (uint64_t)most);
}

static void log_failure(const struct client *c)
{
    struct weir_kv kv[] = {weir_kv_text("code", c->failure.code),
                           weir_kv_text("error", c->failure_text),
                           weir_kv_bool("wait", c->config.wait)};
    c->host->log(c->host, WEIR_LOG_WARN, "redis does not answer", kv, 3);
}

static void fail_list(struct client *c, struct list *l)
{
    while (l->first != NULL)
        answer_failure(c, list_pop(l), ANSWER_UNAVAILABLE, &c->failure);
}

/* Drops the questions of orphaned groups. */
static void drop_orphans(struct client *c, struct list *l)
{
    struct list kept;
    list_init(&kept);
    while (l->first != NULL) {
        struct question *q = list_pop(l);
        if (q->group->orphaned)
            answered(c, q);
        else
            list_push(&kept, q);
    }
    list_prepend(l, &kept);
}

/* What was sent and has no reply is asked again, in front of the others. */
static void close_connection(struct client *c)
{
    conn_close(&c->conn);
    c->sent_bytes = 0;
    c->unread = false;
    drop_orphans(c, &c->sent);
    list_prepend(&c->queue, &c->sent);
}

/* The connection broke: what was sent is asked again later, or has no answer. */
static void connection_failed(struct client *c)
{
    if (c->unread || (c->sent.first == NULL && c->queue.first == NULL)) {
        close_connection(c); /* no failure of the server: the next question connects again */
        return;
    }
    c->failure = c->conn.error;
    snprintf(c->failure_text, sizeof(c->failure_text), "%s", c->conn.text);
    c->failure.message = weir_cstr(c->failure_text);
    log_failure(c);
    c->retry_ns = c->host->now(c->host) + backoff_ns(c);
    c->n_failures++;
    close_connection(c);
    if (!c->config.wait)
        fail_list(c, &c->queue);
}

/* Puts what is asked into the pipeline, as far as it has room. */
static void send_queue(struct client *c, int64_t now_ns)
{
    while (c->queue.first != NULL && c->sent_bytes < SENT_MAX_BYTES) {
        struct question *q = c->queue.first;
        bytes_put(&c->conn.out, q->group->commands.ptr + q->at, q->len);
        if (c->conn.out.failed) {
            c->conn.out.failed = false;
            return; /* memory is used up: they wait */
        }
        (void)list_pop(&c->queue);
        q->asked_ns = now_ns;
        c->sent_bytes += q->len;
        list_push(&c->sent, q);
    }
}

/* What the thread does next: true where a connection is to be opened. *ret_until: how long it may
 * wait. */
static bool plan(struct client *c, int64_t *ret_until)
{
    int64_t now_ns = c->host->now(c->host);
    bool open = false;
    *ret_until = WEIR_NEVER;
    if (c->conn.state == CONN_DOWN && c->queue.first != NULL) {
        open = now_ns >= c->retry_ns;
        *ret_until = c->retry_ns;
        if (!open && !c->config.wait)
            fail_list(c, &c->queue); /* it has just failed: no need to wait for that again */
    }
    if (c->conn.state != CONN_DOWN)
        send_queue(c, now_ns);
    if (c->sent.first != NULL)
        *ret_until = c->sent.first->asked_ns + c->config.timeout_ns;
    return open;
}

static void use_host(struct client *c, const struct weir_host *h)
{
    c->host = h;
    conn_use_host(&c->conn, h);
}

/* One turn; false where the thread is to end. */
static bool turn(struct client *c)
{
    int64_t until_ns;
    pthread_mutex_lock(&c->lock);
    if (c->host != c->members[0]) {
        use_host(c, c->members[0]);
        pthread_cond_broadcast(&c->changed);
    }
    bool go_on = !c->stopping;
    bool open = go_on && plan(c, &until_ns);
    pthread_mutex_unlock(&c->lock);
    if (!go_on)
        return false;
    if (open)
        conn_open(&c->conn);
    else
        conn_step(&c->conn, conn_wait(&c->conn, c->wake_fd, until_ns));
    pthread_mutex_lock(&c->lock);
    take_replies(c);
    if (c->conn.state != CONN_BROKEN && c->sent.first != NULL &&
        c->host->now(c->host) >= c->sent.first->asked_ns + c->config.timeout_ns)
        conn_break(&c->conn, "timeout", "redis at %s did not answer in time", c->conn.where);
    if (c->conn.state == CONN_BROKEN)
        connection_failed(c);
    pthread_mutex_unlock(&c->lock);
    return true;
}

static void *run(void *arg)
{
    struct client *c = arg;
    while (turn(c)) {
    }
    return NULL;
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct client *client_new(const struct weir_host *h, const struct client_config *config)
{
    struct client *c = h->alloc(sizeof(*c));
    if (c == NULL)
        return NULL;
    c->config = *config;
    c->free = h->free;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    list_init(&c->queue);
    list_init(&c->sent);
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
    int error = pthread_create(&c->thread, NULL, run, c);
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
        conn_init(&c->conn, h, c->config.conn, REPLY_LIMIT, true);
        c->host = h;
        c->stopping = false;
        c->running = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (!room)
        return h->error(err, WEIR_E_FATAL, "too_many_lanes", "more than %d lanes", MEMBERS_MAX);
    int error = start ? start_thread(c) : 0;
    if (error == 0)
        return WEIR_OK;
    conn_done(&c->conn);
    c->running = false;
    c->n_members = 0;
    return h->error(err, WEIR_E_FATAL, "thread", "cannot start the thread of redis: %s",
                    strerror(error));
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
        wake_thread(c);
        pthread_join(c->thread, NULL);
        pthread_mutex_lock(&c->lock);
        drop_orphans(c, &c->sent);
        conn_done(&c->conn);
        c->running = false;
    }
    bool was = remove_member(c, h);
    /* The thread may be using this host: it takes another one first. */
    while (was && c->running && c->host == h) {
        wake_thread(c);
        pthread_cond_wait(&c->changed, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}
