/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/bulk.h: between the making of commands, the sending of them, and the settling of what
 * their replies leave open.
 */
#ifndef MONGODB_BULK_H
#define MONGODB_BULK_H

#include "sink.h"
#include "verdict.h"

#define MESSAGE_MAX 400

/* One command. */
struct round {
    struct job *j;
    const struct target *t;
    const uint32_t *ops; /* in the order of the command */
    uint32_t n;
    uint32_t *look; /* of the members, whose duplicate keys are to be looked into; room for n */
    uint32_t n_look;
    bool again; /* they met a duplicate key at the first try */
    bson_t reply;
    bson_error_t error;
};

/* Fills the writer s->doc with a command of as many of ops[0..n) as go into one. Those that are in
 * it are put into members, the others have their result. Returns how many were looked at. */
uint32_t command_fill(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n,
                      uint32_t *members, uint32_t *ret_members);

/* NULL, or why nothing can be sent now. */
const char *round_not_now(struct job *j);

enum duplicate { DUPLICATE_ID, DUPLICATE_OTHER, DUPLICATE_UNKNOWN };

/* Which index a write error of a duplicate key is about. */
enum duplicate duplicate_of(const bson_iter_t *write_error);
/* How the document that has the key stands to an upsert's filter.
 *
 * OTHER    it has nothing to do with it: the update sets a key that is taken
 * RACE     it may be what the filter looks for, and may not have been there a moment ago
 * GUARDED  it has the values that the filter names, all else in the filter are conditions with
 *          operators, and they may not hold. A value beside the key's could be what tells the
 *          document from the one that is meant: that is RACE
 */
enum standing { STANDING_OTHER, STANDING_RACE, STANDING_GUARDED };
enum standing duplicate_standing(const bson_iter_t *write_error, struct weir_str filter);
/* These ops met a duplicate key, and the server did not say that it was their _id. Where their _id
 * is stored they have been written before; else another unique index refuses them, as their result
 * says already. */
void settle_duplicates(struct round *r, const uint32_t *which, uint32_t n);

/* False: no memory. */
bool prepare_init(struct sink *s);
/* Makes the collection and the indexes that the options ask for, once a collection. False:
 * *ret_code and `why` say what failed. */
bool prepare_target(struct job *j, const struct target *t, const char **ret_code,
                    char why[MESSAGE_MAX]);

#endif
