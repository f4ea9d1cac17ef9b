/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/sink.h: what the files of the sink `mongodb` share.
 *
 *   plugin.c    what can be configured, the type
 *   check.c     and what is wrong with it
 *   mongodb.c   an instance from open to close
 *   traits.c    what the host has to know of it
 *   connect.c   connection string and client
 *   net.c       the client's sockets; dial.c connects them
 *   later.c     how long a call may take
 *   ops.c       a batch becomes operations: where each event goes, and what it is found by
 *   command.c   operations become commands
 *   bulk.c      commands are sent, replies become results
 *   duplicate.c which duplicate keys are our own
 *   prepare.c   indexes and time-series collections
 *   shape.c     filters and updates with placeholders
 *   doc.c       values become BSON; put.c, typed.c, decimal.c its parts
 *   verdict.c   what an error means
 */
#ifndef MONGODB_SINK_H
#define MONGODB_SINK_H

#include "connect.h"
#include "doc.h"
#include "shape.h"

enum mode_index { MODE_INSERT, MODE_REPLACE, MODE_UPDATE, MODE_DELETE };

/* One of the option `indexes`. */
struct index_config {
    const struct weir_value *keys;
    struct weir_str name;
    bool unique, sparse;
    int64_t expire_after; /* ns */
    const struct weir_value *partial;
};

struct config {
    struct weir_str uri;
    struct weir_template *database, *collection;
    int mode;
    struct weir_template *id;
    bool object_ids;
    const struct weir_value *filter, *update, *array_filters, *hint;
    bool upsert, many;
    struct weir_list dates;   /* struct weir_str */
    struct weir_list types;   /* struct weir_pair of enum doc_type - 1 */
    struct weir_list indexes; /* struct index_config */
    struct {
        struct weir_str time_field, meta_field;
        int granularity;
        int64_t expire_after; /* ns */
    } time_series;
    struct {
        struct weir_str w;
        int journal;
        int64_t timeout; /* ns, 0 = none */
    } write_concern;
};

extern const struct weir_sink mongodb_sink;
void mongodb_check(const void *config, const struct weir_report *report);
uint32_t mongodb_needs(const struct weir_host *h, const void *config);
uint32_t mongodb_traits(const struct weir_host *h, const void *config);
enum weir_status mongodb_probe(const struct weir_host *h, const void *config, int64_t deadline_ns,
                               struct weir_error *err);
enum weir_status mongodb_open(const struct weir_host *h, const void *config, void **ret_self,
                              struct weir_error *err);
void mongodb_close(void *take_self);

/* w of a write concern as a number; 0 where it is a word, -1 where it is neither. */
int32_t concern_number(struct weir_str w);
/* Fills the tree from `dates` and `types`. NULL, or what is wrong, *ret_path saying with what. */
const char *types_of_config(const struct weir_host *h, struct weir_arena *a,
                            const struct config *cf, struct type_node *root, char ret_path[160]);

/* Of the events of a batch that are found by the same thing, what is written, in one command after
 * the other.
 *
 * FIRST  the first; it stands for the later ones
 * LAST   the last; it stands for the earlier ones
 * EACH   each, in their order */
enum chain { CHAIN_FIRST, CHAIN_LAST, CHAIN_EACH };

struct sink {
    const struct weir_host *h;
    const struct config *config;
    enum chain chain;
    mongoc_uri_t *uri;
    struct patience patience; /* of the running write */
    mongoc_client_t *client;  /* NULL: made at the next write */
    bool client_lost;
    struct weir_arena *arena; /* for as long as the sink is open */
    struct type_node types;
    const struct type_node *id_type; /* NULL: plain */
    struct shape *filter, *update, *array_filters;
    struct doc_writer doc, selector;
    bson_t opts;                       /* of each command: the write concern */
    const char *database, *collection; /* where they are literal */
    uint64_t seed;
    uint64_t *prepared; /* hashes of the collections that have been seen to; 0 = free */
    uint32_t n_prepared;
    struct connect_log log;
};

#define OP_NONE UINT32_MAX

struct target {
    const char *database, *collection;
};

/* One event's way into the store. */
struct op {
    struct doc_id id;
    struct weir_str key; /* what tells two ids of a type apart, or the filter as BSON */
    const struct weir_value *value;
    struct weir_event *ev;
    struct weir_result *result;
    uint32_t target;
    uint32_t next; /* the next event with the same key */
};

/* One write. Its memory is the scratch arena. */
struct job {
    struct sink *s;
    struct weir_arena *a;
    struct weir_batch *b;
    struct op *ops;
    uint32_t n_ops;
    struct target *targets;
    uint32_t n_targets;
};

/* Fills j->ops and j->targets from the batch; events that cannot be written get their result.
 * False: no memory. */
bool job_plan(struct job *j, struct weir_results *results);
/* Puts the ops of one key into chains: *ret_heads are the first of each. False: no memory. */
bool job_chain(struct job *j, uint32_t **ret_heads, uint32_t *ret_n);

/* Writes these ops, all of one target, and gives each its result. */
void bulk_send(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n);

/* The text is copied. */
void result_set(struct job *j, struct weir_result *r, enum weir_verdict verdict, const char *code,
                const char *fmt, ...) WEIR_PRINTF(5, 6);
/* The result of a document that the writer could not write. */
void result_of_writer(struct job *j, struct weir_result *r, const struct doc_writer *w);

/* NULL, or why no collection can have that name. */
const char *name_wrong(struct weir_str database, struct weir_str collection);

#endif
