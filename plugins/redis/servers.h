/* SPDX-License-Identifier: Apache-2.0
 *
 * The servers that commands go to: one, the master that Sentinels name, or the nodes of a cluster.
 *
 * Who is asked for them is the business of this file: Sentinels and cluster nodes are asked over a
 * connection of their own, driven by servers_wait like all others. It has no policy: when nobody
 * answers, it says so, and asks again when servers are wanted again.
 */
#ifndef REDIS_SERVERS_H
#define REDIS_SERVERS_H

#include "conn.h"
#include "slots.h"

#define SERVERS_MAX 1024

struct server {
    struct conn conn;
    bool listed; /* in what was learned last */
    bool seen;   /* in what is being read */
    void *user;  /* the owner's; NULL at first */
};

struct servers {
    const struct weir_host *h;
    const struct conn_config *config;
    struct tls *tls;
    size_t reply_limit;
    bool keep_replies;
    struct server **items;
    uint32_t n, cap;
    uint16_t *slots; /* of a cluster: index + 1 of the server, 0 = nobody */
    bool known;      /* it was learned which servers there are, and nothing speaks against it */
    bool asking;     /* the control connection is at work */
    bool in_vain;    /* all were asked, and nobody has answered */
    struct conn ask; /* to a Sentinel or a node */
    int64_t ask_until_ns;
    uint32_t next, n_tried; /* which is asked next; how many were since the last success */
    int64_t refresh_ns; /* not before that what is known is asked for again for one slot's sake */
    struct pollfd *polls;
    struct weir_result error; /* why there are none; its message is `text` */
    char text[400];
};

enum servers_state {
    SERVERS_KNOWN,  /* servers_for gives one */
    SERVERS_ASKING, /* wait with servers_wait */
    SERVERS_UNKNOWN /* nobody has answered: see `error` */
};

/* False, with err filled, where TLS cannot be set up or memory is used up; servers_done is due all
 * the same. */
bool servers_init(struct servers *s, const struct weir_host *h, const struct conn_config *config,
                  size_t reply_limit, bool keep_replies, struct weir_error *err);
/* The users of the items are the owner's to free before. */
void servers_done(struct servers *s);
void servers_use_host(struct servers *s, const struct weir_host *h);

/* Sees to it that the servers are known, or asked for. */
enum servers_state servers_want(struct servers *s);
/* What is known may be wrong: it is asked for again before the next use. */
void servers_forget(struct servers *s);

/* The server of that slot, whose connection may be DOWN; NULL (see `error`) where the cluster has
 * none; the others go on. They are known. */
struct server *servers_for(struct servers *s, unsigned slot);
/* Reads "MOVED 3999 127.0.0.1:6381" or "ASK ...": the server, NULL where the text is none such. A
 * MOVED also changes the slot's server, and more is asked for. `from`: who said so. */
struct server *servers_redirect(struct servers *s, struct weir_str text, const struct server *from,
                                bool *ret_ask);

/* Waits for wake_fd and all connections, and goes on with them; then look at every item. */
void servers_wait(struct servers *s, int wake_fd, int64_t deadline_ns);

/* As weir_type.probe. */
enum weir_status servers_probe(const struct weir_host *h, const struct conn_config *config,
                               int64_t deadline_ns, struct weir_error *err);

#endif
