/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/bulk.h: between the sending of bulks and the settling of duplicates.
 */
#ifndef MONGODB_BULK_H
#define MONGODB_BULK_H

#include "sink.h"

#define MESSAGE_MAX 400

/* One execution. */
struct round {
    struct job *j;
    const struct target *t;
    const uint32_t *ops; /* in the order of the bulk */
    uint32_t n;
};

/* Waits until the session's thread is free. NULL, or why nothing can be sent now. */
const char *round_not_now(struct job *j);
/* Runs a task. NULL: it is done, and the caller's again; else why nobody knows, and it is gone. */
const char *round_run(struct job *j, struct task *take_t);

enum duplicate { DUPLICATE_ID, DUPLICATE_OTHER, DUPLICATE_UNKNOWN };

/* Which index a write error of a duplicate key is about. */
enum duplicate duplicate_of(const bson_iter_t *write_error);
/* These ops met a duplicate key, and the server did not say that it was their _id. Where their _id
 * is stored they have been written before; else another unique index refuses them, as their result
 * says already. */
void settle_duplicates(struct round *r, const uint32_t *which, uint32_t n);

#endif
