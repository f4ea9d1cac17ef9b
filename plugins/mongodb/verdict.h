/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/verdict.h: what an error of the server or of its client means for an event.
 */
#ifndef MONGODB_VERDICT_H
#define MONGODB_VERDICT_H

#include <mongoc/mongoc.h>
#include <weir/plugin.h>

/* A verdict without its message. `of_document`: the document is to blame, not the server, so that
 * of several documents in one command only some may be. */
struct meaning {
    enum weir_verdict verdict;
    const char *code;
    bool of_document;
};

/* Of an error of one document, by its place in the reply (`command` false), or of a whole command.
 */
struct meaning meaning_of_server(int32_t code, bool command);
/* Of the error of a failed call: the server's, or one that the client met on the way. `reply` may
 * be NULL. */
struct meaning meaning_of_error(const bson_error_t *error, const bson_t *reply);

/* True where the connection is of no use any more, or leads to a server that is none for writes. */
bool error_loses_client(const bson_error_t *error);
bool code_loses_client(int32_t code);

/* Its text for people: without the name of the user whom the server refused. */
const char *text_of_error(const bson_error_t *error);

/* How long the server asked to be left alone, ns; 0 = it did not. Only what throttles can ask: in
 * other messages may be what an event holds. */
int64_t retry_after_of(const struct meaning *m, const char *message);

#endif
