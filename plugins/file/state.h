/* SPDX-License-Identifier: Apache-2.0
 *
 * What places.c (which file is which) and state.c (the state file) share.
 */
#ifndef STATE_H
#define STATE_H

#include "places.h"

#include <pthread.h>

struct places {
    const struct weir_host *control; /* functions that need no instance */
    void *(*alloc)(size_t size);
    void (*free)(void *take_p);
    pthread_mutex_t lock; /* guards all below */
    struct place *list;
    uint32_t n;
    char *path; /* NULL: nothing is kept */
    char *temp;
    int lock_fd;
    bool known; /* a run before this one has kept positions here */
    bool changed;
    uint32_t n_held; /* lanes that places_hold waits for */
    int64_t saved_ns;
    int error; /* of the last save */
};

/* A new one at the front of the list; NULL when memory is used up. */
struct place *place_add(struct places *p, const char *path, size_t len);

/* Adds what the file holds; that it is not there is fine. */
enum weir_status state_read(struct places *p, const struct weir_host *h, struct weir_arena *a,
                            struct weir_error *err);
/* Forgets files that nobody found for long, and writes the others. 0 or an errno value. The lock is
 * held. */
int state_write(struct places *p, const struct weir_host *h);
/* Could it be written? Leaves the file, and that there is none, as it is. 0 or an errno value. */
int state_test(const struct places *p);

#endif
