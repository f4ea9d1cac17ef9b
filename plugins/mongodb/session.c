/* SPDX-License-Identifier: Apache-2.0
 *
 * One instance's client. Taking it from the pool can mean to make the pool, and that can mean to
 * ask a name server: it runs as a task like all that may take long.
 */
#include "bulk.h"

#include <stdio.h>

struct connecting {
    struct task task; /* first */
    void (*free_memory)(void *p);
    struct session *session;
    uint32_t shards;
    int64_t budget_ns;
    bson_error_t error;
};

static void after_all(void *take_arg)
{
    struct session *s = take_arg;
    if (s->client != NULL)
        store_give_back(s->store, s->client);
    store_unref(s->store);
    s->free_memory(s);
}

struct session *session_new(const struct weir_host *h, struct store *store, struct weir_error *err)
{
    struct session *s = h->alloc(sizeof(*s));
    if (s == NULL) {
        (void)h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink's connection");
        return NULL;
    }
    s->free_memory = h->free;
    s->worker = worker_new(h, after_all, s, err);
    if (s->worker == NULL) {
        h->free(s);
        return NULL;
    }
    s->store = store_ref(store);
    return s;
}

void session_free(struct session *take_s)
{
    if (take_s != NULL)
        worker_free(take_s->worker); /* which frees the session, now or when its last task ends */
}

static void connecting_run(struct task *t)
{
    struct connecting *c = (struct connecting *)(void *)t;
    c->session->client = store_client(c->session->store, c->shards, c->budget_ns, &c->error);
}

static void connecting_free(struct task *take_t)
{
    struct connecting *c = (struct connecting *)(void *)take_t;
    c->free_memory(c);
}

const char *session_connect(struct job *j, char message[CONNECT_TEXT])
{
    const struct sink *s = j->s;
    if (s->session->client != NULL)
        return NULL;
    struct connecting *c = s->h->alloc(sizeof(*c));
    if (c == NULL)
        return "no memory to connect";
    c->task = (struct task){connecting_run, connecting_free};
    c->free_memory = s->h->free;
    c->session = s->session;
    c->shards = s->h->count;
    c->budget_ns = j->deadline_ns - s->h->now(s->h);
    const char *why = round_run(j, &c->task);
    if (why != NULL)
        return why;
    (void)snprintf(message, CONNECT_TEXT, "%.300s", c->error.message);
    connecting_free(&c->task);
    return s->session->client != NULL ? NULL : message;
}
