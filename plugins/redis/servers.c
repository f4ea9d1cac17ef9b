/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds the servers, and keeps a connection to each. Contracts in servers.h; what is asked and how
 * the answers are read, in discovery.c.
 *
 *   UNKNOWN ──want──▶ ASKING ──answer──▶ KNOWN ──forget──▶ (asked again with the next want)
 *      ▲                 │ nobody answers
 *      └─────────────────┘
 */
#include "servers.h"

#include "discovery.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REFRESH_NS WEIR_NS_PER_S /* slots move in numbers: a map for each would be a storm */

static bool is_many(const struct servers *s)
{
    return s->config->cluster || s->config->sentinel.master.len > 0;
}

/* ---- The list -------------------------------------------------------------------------------- */

static bool grow(struct servers *s)
{
    if (s->n < s->cap)
        return true;
    uint32_t cap = s->cap == 0 ? 4 : 2 * s->cap;
    struct server **items = s->h->realloc(s->items, sizeof(*items) * cap);
    if (items == NULL)
        return false;
    s->items = items;
    struct pollfd *polls = s->h->realloc(s->polls, sizeof(*polls) * (cap + 2));
    if (polls == NULL)
        return false;
    s->polls = polls;
    s->cap = cap;
    return true;
}

/* One that nobody lists any more and that is not connected can have another address. */
static struct server *unused(const struct servers *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct server *server = s->items[i];
        if (!server->listed && !server->seen && server->conn.state == CONN_DOWN)
            return s->items[i];
    }
    return NULL;
}

static struct server *add(struct servers *s)
{
    struct server *server = unused(s);
    if (server != NULL)
        return server;
    if (s->n == SERVERS_MAX || !grow(s))
        return NULL;
    server = s->h->alloc(sizeof(*server));
    if (server == NULL)
        return NULL;
    conn_init(&server->conn, s->h, s->config, s->tls, s->reply_limit, s->keep_replies);
    if (s->config->sentinel.master.len > 0)
        server->conn.role = CONN_TO_MASTER;
    s->items[s->n++] = server;
    return server;
}

struct server *servers_at(struct servers *s, const char *host, const char *port)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct address *a = &s->items[i]->conn.address;
        if (strcmp(a->host, host) == 0 && strcmp(a->port, port) == 0)
            return s->items[i];
    }
    struct server *server = add(s);
    if (server != NULL)
        conn_set_node(&server->conn, host, port);
    return server;
}

bool servers_init(struct servers *s, const struct weir_host *h, const struct conn_config *config,
                  size_t reply_limit, bool keep_replies, struct weir_error *err)
{
    const char *option;
    char text[300];
    *s = (struct servers){
        .h = h, .config = config, .reply_limit = reply_limit, .keep_replies = keep_replies};
    conn_init(&s->ask, h, config, NULL, DISCOVERY_REPLY_LIMIT, true);
    if (s->ask.address.tls) {
        s->tls = tls_new(h, &config->tls, &option, text, sizeof(text));
        if (s->tls == NULL) {
            h->error(err, WEIR_E_CONFIG, "tls", "%s: %s", option, text);
            return false;
        }
        s->ask.tls = s->tls;
    }
    if (config->cluster)
        s->slots = h->alloc(sizeof(*s->slots) * N_SLOTS);
    if ((config->cluster && s->slots == NULL) || !grow(s) || (!is_many(s) && add(s) == NULL)) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the connection to redis");
        return false;
    }
    s->known = !is_many(s);
    return true;
}

void servers_done(struct servers *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        conn_done(&s->items[i]->conn);
        s->h->free(s->items[i]);
    }
    conn_done(&s->ask);
    tls_free(s->tls);
    if (s->h == NULL)
        return;
    if (s->items != NULL)
        s->h->free(s->items);
    if (s->polls != NULL)
        s->h->free(s->polls);
    if (s->slots != NULL)
        s->h->free(s->slots);
    *s = (struct servers){0};
}

void servers_use_host(struct servers *s, const struct weir_host *h)
{
    s->h = h;
    conn_use_host(&s->ask, h);
    for (uint32_t i = 0; i < s->n; i++)
        conn_use_host(&s->items[i]->conn, h);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Opens the control connection to the next of those that may know. Who answered last has no second
 * turn before the others: what it said may have been wrong. */
static void ask_next(struct servers *s)
{
    char host[256], port[8];
    discovery_target(s, host, sizeof(host), port);
    conn_close(&s->ask);
    conn_set_node(&s->ask, host, port);
    s->ask.role = s->config->cluster ? CONN_TO_SERVER : CONN_TO_SENTINEL;
    conn_open(&s->ask);
    discovery_put_question(s, &s->ask.out);
    s->ask_until_ns = s->h->now(s->h) + s->config->connect_timeout_ns;
    s->n_tried++;
    s->asking = true;
}

static void asked_in_vain(struct servers *s)
{
    snprintf(s->text, sizeof(s->text), "%s", s->ask.text);
    s->error = s->ask.error;
    s->error.message = weir_cstr(s->text);
    conn_close(&s->ask);
    s->asking = false;
    if (s->n_tried < discovery_count(s))
        ask_next(s);
    else
        s->in_vain = !s->known;
}

static void answered(struct servers *s, const struct reply *reply)
{
    if (!discovery_take_answer(s, reply))
        return; /* the connection is BROKEN, with the reason */
    s->known = true;
    s->asking = false;
    s->n_tried = 0;
    conn_close(&s->ask);
}

/* After the control connection went on. */
static void look_at_answer(struct servers *s)
{
    struct reply reply;
    if (s->asking && conn_next(&s->ask, &reply))
        answered(s, &reply);
    if (s->asking && s->ask.state != CONN_BROKEN && s->h->now(s->h) >= s->ask_until_ns)
        conn_break(&s->ask, "timeout", "%s did not say in time where the servers are",
                   s->ask.where);
    if (s->asking && s->ask.state == CONN_BROKEN)
        asked_in_vain(s);
}

enum servers_state servers_want(struct servers *s)
{
    if (s->known)
        return SERVERS_KNOWN;
    if (!s->asking && !s->in_vain) {
        s->n_tried = 0;
        ask_next(s);
        look_at_answer(s); /* it may have failed at once */
    }
    if (s->asking)
        return SERVERS_ASKING;
    s->in_vain = false; /* that is said once; who wants them again asks again */
    return SERVERS_UNKNOWN;
}

void servers_forget(struct servers *s)
{
    if (!is_many(s) || !s->known)
        return;
    s->known = false;
    s->in_vain = false;
}

/* Asks again for the sake of one slot, not too often; those of the others go on. */
static void refresh(struct servers *s)
{
    int64_t now_ns = s->h->now(s->h);
    if (s->asking || now_ns < s->refresh_ns)
        return;
    s->refresh_ns = now_ns + REFRESH_NS;
    s->n_tried = 0;
    ask_next(s);
}

/* ---- Using ----------------------------------------------------------------------------------- */

struct server *servers_for(struct servers *s, unsigned slot)
{
    struct server *server = NULL;
    if (!s->config->cluster)
        server = s->items[0];
    else if (s->slots[slot] > 0)
        server = s->items[s->slots[slot] - 1];
    if (server == NULL) {
        snprintf(s->text, sizeof(s->text), "no node of the redis cluster has the key's slot %u",
                 slot);
        s->error = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                        .code = "clusterdown",
                                        .message = weir_cstr(s->text)};
        refresh(s);
    }
    return server;
}

struct server *servers_redirect(struct servers *s, struct weir_str text, const struct server *from,
                                bool *ret_ask)
{
    char host[256], port[8];
    unsigned slot;
    if (!s->config->cluster || !discovery_read_redirect(text, ret_ask, &slot, host, port))
        return NULL;
    if (host[0] == '\0') /* the same host as that of the node that answered */
        snprintf(host, sizeof(host), "%s", from->conn.address.host);
    struct server *server = servers_at(s, host, port);
    if (server == NULL)
        return NULL;
    server->listed = true;
    if (*ret_ask)
        return server;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->items[i] == server)
            s->slots[slot] = (uint16_t)(i + 1);
    }
    refresh(s);
    return server;
}

/* ---- Driving --------------------------------------------------------------------------------- */

static void drain(int wake_fd)
{
    uint64_t count;
    ssize_t got = read(wake_fd, &count, sizeof(count));
    (void)got; /* EAGAIN only */
}

void servers_wait(struct servers *s, int wake_fd, int64_t deadline_ns)
{
    uint32_t n = s->n;
    struct pollfd *polls = s->polls;
    polls[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = -1};
    if (s->asking) {
        polls[1].fd = conn_poll(&s->ask, &polls[1].events, &deadline_ns);
        deadline_ns = deadline_ns < s->ask_until_ns ? deadline_ns : s->ask_until_ns;
    }
    for (uint32_t i = 0; i < n; i++) {
        polls[i + 2] = (struct pollfd){.fd = -1};
        polls[i + 2].fd = conn_poll(&s->items[i]->conn, &polls[i + 2].events, &deadline_ns);
    }
    if (poll(polls, n + 2, poll_timeout_ms(s->h, deadline_ns)) < 0)
        for (uint32_t i = 0; i < n + 2; i++)
            polls[i].revents = 0;
    if (polls[0].revents != 0)
        drain(wake_fd);
    for (uint32_t i = 0; i < n; i++)
        conn_step(&s->items[i]->conn, polls[i + 2].revents);
    if (!s->asking)
        return;
    conn_step(&s->ask, polls[1].revents);
    look_at_answer(s);
}

/* ---- Probe ----------------------------------------------------------------------------------- */

/* PING to the server of a slot. OK once it has answered; AGAIN while it may. */
static enum weir_status ping(struct servers *s, struct server *server, bool *asked,
                             struct weir_error *err)
{
    struct reply reply = {0};
    struct conn *c = &server->conn;
    if (!*asked)
        conn_open(c);
    if (!*asked)
        bytes_put_command(&c->out, 1, (struct weir_str[]){weir_cstr("PING")});
    *asked = true;
    if (!conn_next(c, &reply))
        return c->state != CONN_BROKEN
                   ? WEIR_AGAIN
                   : s->h->error(err, WEIR_E_UNAVAILABLE, c->error.code, "%s", c->text);
    if (reply.type == REPLY_ERROR)
        return s->h->error(err, WEIR_E_UNAVAILABLE, "refused", "redis at %s answered: %.*s",
                           c->where, (int)(reply.text.len < 200 ? reply.text.len : 200),
                           reply.text.ptr);
    return WEIR_OK;
}

static enum weir_status probe(struct servers *s, int64_t deadline_ns, struct weir_error *err)
{
    struct server *server = NULL;
    bool asked = false;
    while (s->h->now(s->h) < deadline_ns) {
        enum servers_state state = servers_want(s);
        if (state == SERVERS_UNKNOWN)
            return s->h->error(err, WEIR_E_UNAVAILABLE, s->error.code, "%s", s->text);
        if (state == SERVERS_KNOWN && server == NULL)
            server = servers_for(s, 0);
        if (state == SERVERS_KNOWN && server == NULL)
            return s->h->error(err, WEIR_E_UNAVAILABLE, s->error.code, "%s", s->text);
        enum weir_status st = server != NULL ? ping(s, server, &asked, err) : WEIR_AGAIN;
        if (st != WEIR_AGAIN)
            return st;
        servers_wait(s, -1, deadline_ns);
    }
    return s->h->error(err, WEIR_E_UNAVAILABLE, "timeout", "redis at %s did not answer in time",
                       server != NULL ? server->conn.where : s->ask.where);
}

enum weir_status servers_probe(const struct weir_host *h, const struct conn_config *config,
                               int64_t deadline_ns, struct weir_error *err)
{
    struct servers s;
    enum weir_status st = WEIR_E_NOMEM;
    if (servers_init(&s, h, config, (size_t)64 << 10, false, err))
        st = probe(&s, deadline_ns, err);
    servers_done(&s);
    return st;
}
