/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/connect.h: the connection string, and the client that an instance makes of it. What a
 * connection string holds never gets into a message.
 */
#ifndef MONGODB_CONNECT_H
#define MONGODB_CONNECT_H

#include "net.h"

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

/* NULL, or an option in it that has no effect in this sink. */
const char *connect_idle_option(const mongoc_uri_t *uri);
/* NULL, or an option in it by which any certificate is taken. */
const char *connect_insecure_option(const mongoc_uri_t *uri);

/* A copy of the write concern that a connection string asks for: the server's default where it asks
 * for none. */
mongoc_write_concern_t *connect_concern(const char *text);

/* The connection string with what this sink adds to it. NULL: err says why. */
mongoc_uri_t *connect_settings(const struct weir_host *h, const char *text, struct weir_error *err);

/* A client for one thread; it connects when it is used. No call of it waits for longer than p
 * allows (but half a second to look for a primary again); p must live as long. NULL: *ret_error
 * says why. */
mongoc_client_t *connect_client(const mongoc_uri_t *uri, struct patience *p,
                                bson_error_t *ret_error);
/* Closes its connections without a word to the server. NULL is allowed. */
void connect_drop(mongoc_client_t *take_client);

/* Sends a ping, waiting until the deadline. */
bool connect_ping(const struct weir_host *h, const char *uri, int64_t deadline_ns,
                  bson_error_t *ret_error);

#endif
