/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread behind the transform `redis`: sends questions, takes answers. Contracts in client.h.
 *
 *   submit ─▶ queue ─▶ sent, a list a server in the order of the replies ─▶ answered, lane woken
 *               ▲          │
 *               └──────────┘ MOVED; connection lost and `wait`: asked again, after a while
 *
 * A question that nobody waits for any more keeps its place among those sent, since its reply will
 * come, and is dropped with it. All but the waiting itself happens with the lock held.
 */
#include "client_thread.h"

#include "errors.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SENT_MAX_BYTES ((size_t)4 << 20) /* commands under way; more wait in the queue */
#define RETRY_FIRST_NS (50 * WEIR_NS_PER_MS)
#define RETRY_MAX_NS (5 * WEIR_NS_PER_S)
#define REDIRECTS_MAX 16

void client_wake_thread(const struct client *c)
{
    const uint64_t one = 1;
    ssize_t n = write(c->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

static struct line *line_of(struct client *c, struct server *server)
{
    if (server->user != NULL)
        return server->user;
    struct line *line = c->host->alloc(sizeof(*line));
    if (line == NULL)
        return NULL;
    list_init(&line->sent);
    server->user = line;
    return line;
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* The question's answer is set: tells its lane when it was the last. The group may be gone then. */
static void answered(struct client *c, struct question *q)
{
    struct group *g = q->group;
    const struct weir_host *h = g->h;
    bool orphaned = g->orphaned;
    if (atomic_fetch_sub(&g->n_waiting, 1) != 1)
        return;
    pthread_cond_broadcast(&c->changed); /* somebody may wait in client_flush */
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

static void fail_list(struct client *c, struct list *l, const struct weir_result *why)
{
    while (l->first != NULL)
        answer_failure(c, list_pop(l), ANSWER_UNAVAILABLE, why);
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

/* ---- Failures -------------------------------------------------------------------------------- */

static int64_t backoff_ns(const struct client *c, uint64_t n_failures)
{
    uint64_t shift = n_failures < 8 ? n_failures : 8;
    int64_t most = RETRY_FIRST_NS << shift;
    most = most < RETRY_MAX_NS ? most : RETRY_MAX_NS;
    return RETRY_FIRST_NS / 5 + (int64_t)(c->host->random(c->host) % (uint64_t)most);
}

static void log_failure(const struct client *c, const struct weir_result *why)
{
    struct weir_kv kv[] = {weir_kv_text("code", why->code), weir_kv_str("error", why->message),
                           weir_kv_bool("wait", c->config.wait)};
    c->host->log(c->host, WEIR_LOG_WARN, "redis does not answer", kv, 3);
}

static void note_failure(struct client *c, struct failures *f, const struct weir_result *why)
{
    f->last = *why;
    snprintf(f->text, sizeof(f->text), "%.*s", (int)why->message.len, why->message.ptr);
    f->last.message = weir_cstr(f->text);
    f->retry_ns = c->host->now(c->host) + backoff_ns(c, f->n);
    f->n++;
    log_failure(c, &f->last);
}

static void note_success(const struct client *c, struct failures *f)
{
    if (f->n > 0)
        c->host->log(c->host, WEIR_LOG_INFO, "redis answers again", NULL, 0);
    f->n = 0;
}

/* What was sent and has no reply is asked again, in front of the others. */
static void close_connection(struct client *c, struct server *server)
{
    struct line *line = server->user;
    conn_close(&server->conn);
    if (line == NULL)
        return;
    line->unread = false;
    for (struct question *q = line->sent.first; q != NULL; q = q->next) {
        c->sent_bytes -= q->len;
        q->asking = false;
    }
    drop_orphans(c, &line->sent);
    list_prepend(&c->queue, &line->sent);
}

/* The connection broke: what was sent is asked again later, or has no answer. */
static void connection_failed(struct client *c, struct server *server)
{
    struct line *line = line_of(c, server);
    bool harmless =
        line == NULL || line->unread || (line->sent.first == NULL && c->queue.first == NULL);
    if (harmless) { /* no failure of the server: the next question connects again */
        close_connection(c, server);
        return;
    }
    struct list others;
    note_failure(c, &line->failures, &server->conn.error);
    list_init(&others);
    list_prepend(&others, &c->queue);
    close_connection(c, server); /* the queue has only what was sent there now */
    if (!c->config.wait)
        fail_list(c, &c->queue, &line->failures.last);
    list_prepend(&others, &c->queue);
    list_prepend(&c->queue, &others);
    servers_forget(&c->servers);
}

/* ---- Replies --------------------------------------------------------------------------------- */

static bool put_question(struct client *c, struct server *server, struct question *q)
{
    struct line *line = line_of(c, server);
    struct bytes *out = &server->conn.out;
    size_t before = out->len;
    if (line == NULL)
        return false;
    if (q->asking)
        bytes_put_command(out, 1, (struct weir_str[]){weir_cstr("ASKING")});
    bytes_put(out, q->group->commands.ptr + q->at, q->len);
    if (out->failed) {
        out->failed = false;
        out->len = before;
        return false;
    }
    q->asked_ns = c->host->now(c->host);
    c->sent_bytes += q->len;
    list_push(&line->sent, q);
    return true;
}

/* A redirection: the question goes where it says. False where the reply is none. */
static bool redirected(struct client *c, struct server *from, struct question *q,
                       struct weir_str text)
{
    bool ask;
    struct server *to =
        q->n_redirects < REDIRECTS_MAX ? servers_redirect(&c->servers, text, from, &ask) : NULL;
    if (to == NULL)
        return false;
    q->n_redirects++;
    q->asking = ask;
    if (to->conn.state == CONN_DOWN)
        conn_open(&to->conn);
    if (!ask || to->conn.state == CONN_BROKEN || !put_question(c, to, q)) {
        q->asking = false;
        list_push(&c->queue, q);
    }
    return true;
}

/* An error reply to the first question that was sent there, which is out of its list. False where
 * it stays a question; the connection is BROKEN then. */
static bool take_error(struct client *c, struct server *server, struct question *q,
                       struct weir_str text)
{
    bool reconnect;
    struct conn *conn = &server->conn;
    if (redirected(c, server, q, text))
        return true;
    struct weir_result r = redis_error_result(text, &reconnect);
    if (r.verdict == WEIR_VERDICT_REJECTED) {
        answer_failure(c, q, ANSWER_REJECTED, &r);
        return true;
    }
    if (r.verdict == WEIR_VERDICT_RETRY && c->config.wait) {
        q->not_before_ns = c->host->now(c->host) + RETRY_FIRST_NS; /* its slot is moving */
        list_push(&c->queue, q);
        return true;
    }
    if (r.verdict == WEIR_VERDICT_RETRY) {
        answer_failure(c, q, ANSWER_UNAVAILABLE, &r);
        return true;
    }
    bool moved = strcmp(r.code, "moved") == 0 && !c->config.conn->cluster;
    conn_break(conn, r.code, "redis at %s cannot answer now: %.*s%s", conn->where,
               (int)r.message.len, r.message.ptr,
               moved ? "; this is a node of a cluster: say `cluster: true`" : "");
    return false;
}

static bool take_answer(struct client *c, struct server *server, struct question *q,
                        const struct reply *reply)
{
    q->answer.state = ANSWER_MISSING;
    if (reply->type != REPLY_NIL && !(reply->type == REPLY_ARRAY && reply->number == 0)) {
        q->answer.blob = blob_new(c->host, reply->record);
        q->answer.state = ANSWER_FOUND;
        if (q->answer.blob == NULL) {
            q->answer.state = ANSWER_WAITING;
            conn_break(&server->conn, "no_memory", "no memory for a reply of redis");
            return false;
        }
    }
    keep_in_cache(c, q);
    answered(c, q);
    return true;
}

/* Takes one reply; false where the connection is BROKEN by it. */
static bool take_reply(struct client *c, struct server *server, const struct reply *reply)
{
    struct line *line = server->user;
    if (line == NULL || line->sent.first == NULL) {
        conn_break(&server->conn, "protocol", "redis at %s sent a reply that nobody asked for",
                   server->conn.where);
        return false;
    }
    if (line->sent.first->asking) {
        line->sent.first->asking = false;
        return true;
    }
    struct question *q = list_pop(&line->sent);
    bool taken;
    c->sent_bytes -= q->len;
    if (reply->type == REPLY_TOO_LARGE || reply->type == REPLY_TOO_DEEP) {
        line->unread = true;
        answer_failure(c, q, ANSWER_REJECTED, &server->conn.error);
        return false;
    }
    if (reply->type == REPLY_ERROR)
        taken = take_error(c, server, q, reply->text);
    else
        taken = take_answer(c, server, q, reply);
    if (taken) {
        note_success(c, &line->failures);
        return true;
    }
    struct list back;
    list_init(&back);
    list_push(&back, q);
    c->sent_bytes += q->len;
    list_prepend(&line->sent, &back);
    return false;
}

static void take_replies(struct client *c, struct server *server)
{
    struct reply reply;
    struct conn *conn = &server->conn;
    while (conn_next(conn, &reply) && take_reply(c, server, &reply)) {
    }
    const struct line *line = server->user;
    if (conn->state != CONN_BROKEN && line != NULL && line->sent.first != NULL &&
        c->host->now(c->host) >= line->sent.first->asked_ns + c->config.timeout_ns)
        conn_break(conn, "timeout", "redis at %s did not answer in time", conn->where);
    if (conn->state == CONN_BROKEN)
        connection_failed(c, server);
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void sooner(int64_t *until_ns, int64_t ns)
{
    if (ns < *until_ns)
        *until_ns = ns;
}

/* Whether it is too early for another try of the connection. */
static bool backs_off(const struct server *server, const struct line *line, int64_t now_ns)
{
    return server->conn.state == CONN_DOWN && line->failures.n > 0 &&
           now_ns < line->failures.retry_ns;
}

/* No node has the question's slot: it waits, or has no answer; those of other slots go on. */
static bool has_no_node(struct client *c, struct question *q, int64_t now_ns, int64_t *until_ns)
{
    log_failure(c, &c->servers.error);
    if (!c->config.wait) {
        answer_failure(c, q, ANSWER_UNAVAILABLE, &c->servers.error);
        return true;
    }
    q->not_before_ns = now_ns + RETRY_FIRST_NS;
    sooner(until_ns, q->not_before_ns);
    return false;
}

/* Sends one question; false where it has to wait, until *until_ns at most. */
static bool send_question(struct client *c, struct question *q, int64_t now_ns, int64_t *until_ns)
{
    if (now_ns < q->not_before_ns) {
        sooner(until_ns, q->not_before_ns);
        return false;
    }
    struct server *server = servers_for(&c->servers, q->slot);
    if (server == NULL)
        return has_no_node(c, q, now_ns, until_ns);
    struct line *line = line_of(c, server);
    if (line == NULL) {
        sooner(until_ns, now_ns + RETRY_FIRST_NS);
        return false;
    }
    if (backs_off(server, line, now_ns)) {
        sooner(until_ns, line->failures.retry_ns);
        if (c->config.wait)
            return false;
        answer_failure(c, q, ANSWER_UNAVAILABLE, &line->failures.last);
        return true;
    }
    if (server->conn.state == CONN_DOWN)
        conn_open(&server->conn);
    return put_question(c, server, q); /* into a BROKEN one as well: that fails it in a moment */
}

/* Puts what is asked into the pipelines, as far as they have room. */
static void send_queue(struct client *c, int64_t now_ns, int64_t *until_ns)
{
    struct list kept;
    list_init(&kept);
    while (c->queue.first != NULL && c->sent_bytes < SENT_MAX_BYTES) {
        struct question *q = list_pop(&c->queue);
        if (!send_question(c, q, now_ns, until_ns))
            list_push(&kept, q);
    }
    list_prepend(&c->queue, &kept);
}

/* Nobody has said yet where the servers are: an answer has its time-out all the same. */
static void end_overdue(struct client *c, int64_t now_ns, int64_t *until_ns)
{
    static const struct weir_result late = {
        .verdict = WEIR_VERDICT_UNAVAILABLE,
        .code = "timeout",
        .message = {"the servers of redis were not found in time", 43}};
    int64_t end_ns = c->queue.first->asked_ns + c->config.timeout_ns;
    if (now_ns < end_ns) {
        sooner(until_ns, end_ns);
        return;
    }
    note_failure(c, &c->failures, &late);
    fail_list(c, &c->queue, &c->failures.last);
}

/* Finds the servers, then sends. */
static void plan(struct client *c, int64_t now_ns, int64_t *until_ns)
{
    if (now_ns < c->failures.retry_ns && c->failures.n > 0) {
        *until_ns = c->failures.retry_ns;
        if (!c->config.wait)
            fail_list(c, &c->queue, &c->failures.last);
        return;
    }
    switch (servers_want(&c->servers)) {
    case SERVERS_KNOWN:
        note_success(c, &c->failures);
        send_queue(c, now_ns, until_ns);
        break;
    case SERVERS_ASKING:
        if (!c->config.wait)
            end_overdue(c, now_ns, until_ns);
        break;
    case SERVERS_UNKNOWN:
        note_failure(c, &c->failures, &c->servers.error);
        sooner(until_ns, c->failures.retry_ns);
        if (!c->config.wait)
            fail_list(c, &c->queue, &c->failures.last);
        break;
    }
}

/* ---- The thread ------------------------------------------------------------------------------ */

static int64_t first_deadline(const struct client *c, int64_t until_ns)
{
    for (uint32_t i = 0; i < c->servers.n; i++) {
        const struct server *server = c->servers.items[i];
        const struct line *line = server->user;
        if (line != NULL && line->sent.first != NULL)
            sooner(&until_ns, line->sent.first->asked_ns + c->config.timeout_ns);
    }
    return until_ns;
}

static void use_host(struct client *c, const struct weir_host *h)
{
    c->host = h;
    servers_use_host(&c->servers, h);
    pthread_cond_broadcast(&c->changed);
}

/* Whoever waits in client_flush is told when its time is over. */
static void keep_flush_time(struct client *c, int64_t *until_ns)
{
    if (c->flush_ns == WEIR_NEVER)
        return;
    if (c->host->now(c->host) >= c->flush_ns) {
        c->flush_ns = WEIR_NEVER;
        pthread_cond_broadcast(&c->changed);
        return;
    }
    sooner(until_ns, c->flush_ns);
}

/* One turn; false where the thread is to end. */
static bool turn(struct client *c)
{
    int64_t until_ns = WEIR_NEVER;
    pthread_mutex_lock(&c->lock);
    if (c->host != c->members[0])
        use_host(c, c->members[0]);
    bool go_on = !c->stopping;
    if (go_on && c->queue.first != NULL)
        plan(c, c->host->now(c->host), &until_ns);
    until_ns = first_deadline(c, until_ns);
    keep_flush_time(c, &until_ns);
    pthread_mutex_unlock(&c->lock);
    if (!go_on)
        return false;
    for (uint32_t i = 0; i < c->servers.n; i++)
        conn_send(&c->servers.items[i]->conn);
    servers_wait(&c->servers, c->wake_fd, until_ns);
    pthread_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->servers.n; i++)
        take_replies(c, c->servers.items[i]);
    pthread_mutex_unlock(&c->lock);
    return true;
}

void *client_run(void *arg)
{
    struct client *c = arg;
    while (turn(c)) {
    }
    return NULL;
}

void client_drop_sent(struct client *c)
{
    drop_orphans(c, &c->queue); /* redirected, or to be asked again */
    for (uint32_t i = 0; i < c->servers.n; i++) {
        struct line *line = c->servers.items[i]->user;
        if (line == NULL)
            continue;
        drop_orphans(c, &line->sent);
        c->free(line);
        c->servers.items[i]->user = NULL;
    }
    c->sent_bytes = 0;
}
