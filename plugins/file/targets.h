/* SPDX-License-Identifier: Apache-2.0
 *
 * The files that a sink has open: found by name, the least used closed where there are too many,
 * and looked after while nothing is written. All but targets_start and targets_stop under the lock.
 */
#ifndef TARGETS_H
#define TARGETS_H

#include "target.h"

#include <pthread.h>

struct targets {
    const struct weir_host *h;
    struct target_options opt;
    const char *folder; /* of names; NULL: one file, whose path is the name */
    uint32_t max_open;
    int64_t idle_ns; /* a file of a name is finished after so long without an event; 0 = never */
    int64_t interval_ns; /* of FSYNC_INTERVAL */
    pthread_mutex_t *lock;
    struct target *newest, *oldest;
    uint32_t n;
    int64_t synced_ns;
    pthread_t keeper;
    int keeper_fd; /* -1: there is no keeper */
};

/* Begins to look after them where the options ask for it. */
enum weir_status targets_start(struct targets *ts, struct weir_error *err);
/* Files in and below that folder that a killed run left under "NAME.part" get their names. */
void targets_finish_left(struct targets *ts, const char *folder);
/* The keeper's end; then every file is finished. */
void targets_stop(struct targets *ts);
/* The file of that name; folders on its way are made. NULL with err, number the errno value. */
struct target *targets_get(struct targets *ts, const char *name, struct weir_error *err);
/* One that cannot be used any more: the next targets_get makes it anew. */
void targets_drop(struct targets *ts, struct target *take_t);
/* One that is open already. */
void targets_add(struct targets *ts, struct target *take_t);

#endif
