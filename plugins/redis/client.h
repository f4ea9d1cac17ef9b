/* SPDX-License-Identifier: Apache-2.0
 *
 * Asks Redis for the lanes of a component: one thread, a connection a server, everything
 * pipelined.
 *
 * A lane puts its questions into a group and submits it; when the last of them is answered the lane
 * is woken. The thread alone touches the connections; groups and queues are guarded by one lock.
 */
#ifndef REDIS_CLIENT_H
#define REDIS_CLIENT_H

#include "conn_config.h"
#include "cache.h"
#include "questions.h"

struct client;

struct client_config {
    const struct conn_config *conn;
    int64_t timeout_ns; /* of an answer */
    bool wait;          /* ask again until there is an answer */
    struct cache_limits cache;
    int64_t ttl_ns, missing_ttl_ns;
};

/* NULL when memory is used up. Of h only functions without an instance are kept. */
struct client *client_new(const struct weir_host *h, const struct client_config *config);
/* After every lane has left. NULL is allowed. */
void client_free(struct client *take_client);

/* A lane's host joins before its first question (the first one starts the thread), and leaves
 * before it closes (the last one ends it). Leaving without having joined is harmless. */
enum weir_status client_join(struct client *c, const struct weir_host *h, struct weir_error *err);
void client_leave(struct client *c, const struct weir_host *h);

/* Answers what the cache knows; returns how many questions are left. */
uint32_t client_ask_cache(struct client *c, struct group *g);
/* Sends the questions that are WAITING. The group must not move until n_waiting is 0. */
void client_submit(struct client *c, struct group *g);
/* Waits until all of the group is answered, until the time at most. [control] */
void client_flush(struct client *c, const struct group *g, int64_t until_ns);
/* Lets go of a group, whether its answers came or not. NULL is allowed. */
void client_release(struct client *c, struct group *take_group);

#endif
