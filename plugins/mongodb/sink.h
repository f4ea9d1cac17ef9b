/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/sink.h: what the files of the sink `mongodb` share.
 *
 *   mongodb.c   options, open and close, the type
 *   connect.c   connection string and client
 *   net.c       the client's sockets; dial.c connects them
 *   later.c     how long a call may take
 *   ops.c       a batch becomes operations: where each event goes, and by which _id
 *   bulk.c      operations become bulks, replies become results
 *   doc.c       values become BSON
 *   verdict.c   what an error means
 */
#ifndef MONGODB_SINK_H
#define MONGODB_SINK_H

#include "connect.h"
#include "doc.h"

enum mode_index { MODE_INSERT, MODE_REPLACE };

struct config {
    struct weir_str uri;
    struct weir_template *database, *collection;
    int mode;
    struct weir_template *id;
    bool object_ids;
    struct weir_list dates; /* struct weir_str */
    struct {
        struct weir_str w;
        int journal;
        int64_t timeout; /* ns, 0 = none */
    } write_concern;
};

struct sink;

/* What can be done with a document.
 *
 * last_wins  Of the events of a batch that have the same _id the last one is written first, and
 *            stands for the earlier ones; else the first stands for the later ones.
 * append     Puts the document in w into the bulk.
 * done       Operations that ended well, by the bulk's reply. */
struct mode {
    bool last_wins;
    bool (*append)(struct sink *s, mongoc_bulk_operation_t *bulk, const struct doc_id *id,
                   const bson_t *doc, bson_error_t *ret_error);
    const char *const *counts; /* fields of the reply, NULL at the end */
};

struct sink {
    const struct weir_host *h;
    const struct config *config;
    const struct mode *mode;
    mongoc_uri_t *uri;
    struct patience patience; /* of the running write */
    mongoc_client_t *client;  /* NULL: made at the next write */
    bool client_lost;
    struct weir_arena *arena; /* for as long as the sink is open */
    struct date_node dates;
    struct doc_writer doc, selector;
    bson_t bulk_opts, op_opts;
    const char *database, *collection; /* where they are literal */
    uint64_t seed;
    struct connect_log log;
};

#define OP_NONE UINT32_MAX

struct target {
    const char *database, *collection;
};

/* One event's way into the store. */
struct op {
    struct doc_id id;
    struct weir_str id_bytes; /* what tells two ids of a type apart */
    const struct weir_value *value;
    struct weir_result *result;
    uint32_t target;
    uint32_t next; /* the next event with the same id: it ends as this one, if this ends well */
};

/* One write. Its memory is the scratch arena. */
struct job {
    struct sink *s;
    struct weir_arena *a;
    struct op *ops;
    uint32_t n_ops;
    struct target *targets;
    uint32_t n_targets;
};

/* Fills j->ops and j->targets from the batch; events that cannot be written get their result.
 * False: no memory. */
bool job_plan(struct job *j, struct weir_batch *b, struct weir_results *results);
/* Puts the ops of one id into chains: *ret_heads are the first of each. False: no memory. */
bool job_chain(struct job *j, uint32_t **ret_heads, uint32_t *ret_n);

/* Writes these ops, all of one target, and gives each its result. */
void bulk_send(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n);

/* The text is copied. */
void result_set(struct job *j, struct weir_result *r, enum weir_verdict verdict, const char *code,
                const char *fmt, ...) WEIR_PRINTF(5, 6);

/* NULL, or why no collection can have that name. */
const char *name_wrong(struct weir_str database, struct weir_str collection);

#endif
