/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection to a Redis server: non-blocking, driven by whoever owns it, one thread at a time.
 *
 *   DOWN ─open─▶ RESOLVING ─▶ CONNECTING ─▶ HANDSHAKE ─▶ LOGIN ─▶ READY ─▶ BROKEN ─close─▶ DOWN
 *
 * The owner appends commands to `out` at any time, waits for what conn_poll says, calls conn_step,
 * takes replies with conn_next until there are none, and then looks whether the state is BROKEN:
 * what has no reply then never gets one. It has no policy: no retry, no backoff, no time-out of
 * replies.
 */
#ifndef REDIS_CONN_H
#define REDIS_CONN_H

#include "../common/deadline.h"
#include "conn_config.h"
#include "reply.h"
#include "resolve.h"
#include "tls.h"

enum conn_state {
    CONN_DOWN,
    CONN_RESOLVING,
    CONN_CONNECTING,
    CONN_HANDSHAKE, /* of TLS, where the URL says rediss:// */
    CONN_LOGIN,
    CONN_READY,
    CONN_BROKEN
};

/* Whom it leads to, by which the login goes. */
enum conn_role {
    CONN_TO_SERVER,
    CONN_TO_MASTER,  /* a server that is refused unless it is a master */
    CONN_TO_SENTINEL /* has a login of its own, and no databases */
};

struct conn {
    const struct weir_host *h;
    const struct conn_config *config;
    enum conn_role role;
    struct address address;
    struct tls *tls;       /* borrowed; NULL = none */
    struct tls_link *link; /* of the socket */
    char where[300];       /* "host:port" or a path, for messages */
    enum conn_state state;
    uint64_t n_opened; /* tells its connections apart; 0 = there was none */
    int fd;
    struct resolve *resolve;       /* under way, may outlast several conn_open; else NULL */
    struct addrinfo *infos, *info; /* addresses of the host; the one that is tried */
    int64_t deadline_ns;           /* of connecting and login */
    struct bytes login;
    unsigned n_login, n_login_done;
    int login_name, login_role; /* which reply is that of CLIENT SETNAME, of ROLE; -1 = none */
    struct bytes out;           /* commands, sent up to out_at */
    size_t out_at;
    int send_error; /* nothing more can be sent; what has come in is still taken, until its end */
    struct replies in;
    /* Why it is BROKEN, kept until it is READY again; its message is `text`. */
    struct weir_result error;
    char text[400];
};

/* reply_limit: a larger reply is given out as such, and breaks the connection. keep_replies: make
 * their records (see reply.h). The config was checked; tls is made from it where the URL wants
 * it. */
void conn_init(struct conn *c, const struct weir_host *h, const struct conn_config *config,
               struct tls *tls, size_t reply_limit, bool keep_replies);
/* Leads to another host than the URL's, with the same login. The connection is DOWN. */
void conn_set_node(struct conn *c, const char *host, const char *port);
void conn_done(struct conn *c);
/* The host may change between calls. */
void conn_use_host(struct conn *c, const struct weir_host *h);

/* Begins to connect: RESOLVING, CONNECTING, or BROKEN. */
void conn_open(struct conn *c);
/* Drops the connection and what was not sent. */
void conn_close(struct conn *c);
/* Gives the connection up; it is BROKEN then. */
void conn_break(struct conn *c, const char *code, const char *fmt, ...) WEIR_PRINTF(3, 4);

/* What poll(2) is to wait for: a descriptor (-1 = nothing), its events, and no longer than
 * *deadline_ns, which becomes earlier where the connection wants that: a BROKEN one waits for
 * nothing but its owner. */
int conn_poll(const struct conn *c, short *ret_events, int64_t *deadline_ns);
/* Goes on with connecting, sending, receiving, as far as that does not block; BROKEN where
 * connecting took too long. `events`: what poll(2) said. */
void conn_step(struct conn *c, short events);
/* Sends what can be sent at once. */
void conn_send(struct conn *c);
/* A READY connection that nothing is expected on: BROKEN where the server has closed it. */
void conn_check_idle(struct conn *c);
/* Next reply to a command of `out`; false where there is none now. Malformed input breaks the
 * connection; so does a reply of type TOO_LARGE or TOO_DEEP, which is given out all the same. */
bool conn_next(struct conn *c, struct reply *ret);


#endif
