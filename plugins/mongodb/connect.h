/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/connect.h: the connection string, and the pool of connections that a component's shards
 * share. What a connection string holds never gets into a message.
 */
#ifndef MONGODB_CONNECT_H
#define MONGODB_CONNECT_H

#include <mongoc/mongoc.h>
#include <weir/plugin.h>

#define CONNECT_TEXT 320

/* Starts the library once a process and takes its log away from stderr. [any] */
void connect_init(void);

/* Where the library's log lines go. Not thread-local by compiler, but by key: leak checkers trip
 * over thread-local memory of objects that were loaded at run time. */
struct connect_log {
    const struct weir_host *host; /* its log, at debug; or */
    char *text;                   /* the first warning, CONNECT_TEXT bytes */
};

/* What the library logs on this thread goes to `log`, until it is called with NULL. */
void connect_log_to(struct connect_log *log);

/* Reads a connection string offline. NULL: `why` says what is wrong with it. Where it can be read,
 * but something in it has no effect or breaks a promise, why is not empty. */
mongoc_uri_t *connect_uri(const char *text, char why[CONNECT_TEXT]);

/* A copy of the write concern that a connection string asks for: the server's default where it asks
 * for none. */
mongoc_write_concern_t *connect_concern(const char *text);

struct store; /* the pool, made at the first write */

struct store *store_new(const struct weir_host *h, const char *uri, bool retry_writes,
                        struct weir_error *err);
void store_free(struct store *take_s);

/* A client of this store for `shards` users in all. The first call makes the pool: no operation on
 * it waits for much longer than budget_ns. NULL: *ret_error says why. */
mongoc_client_t *store_client(struct store *s, uint32_t shards, int64_t budget_ns,
                              bson_error_t *ret_error);
void store_give_back(struct store *s, mongoc_client_t *take_client);

/* Sends a ping, waiting for at most budget_ns. */
bool connect_ping(const char *uri, int64_t budget_ns, bson_error_t *ret_error);

#endif
