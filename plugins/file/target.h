/* SPDX-License-Identifier: Apache-2.0
 *
 * One file that is written: opening, locking, whole writes, rotation, the end. Called by sink.c and
 * keeper.c under the sink's lock; knows nothing of events.
 */
#ifndef TARGET_H
#define TARGET_H

#include <sys/types.h>
#include <weir/plugin.h>

#define TARGET_PART ".part" /* behind the name of a file that is not finished */

enum sync_when { FSYNC_NEVER, FSYNC_BATCH, FSYNC_INTERVAL };

/* What all files of a sink have in common. */
struct target_options {
    enum sync_when sync;
    bool gzip;
    bool part;            /* written under "NAME.part", renamed when it is finished */
    mode_t permissions;   /* of new files */
    int64_t rotate_bytes; /* 0 = never */
    int64_t rotate_ns;    /* 0 = never */
    int64_t keep;         /* rotated files; 0 = all */
};

struct target {
    struct target *newer, *older; /* by last use */
    const struct weir_host *h;
    const struct target_options *opt;
    char *path;    /* as it is called in the end */
    char *written; /* as it is called while it is written; may be `path` */
    dev_t dev;
    ino_t ino;
    int64_t size;
    int64_t begun_ns; /* wall clock: the period that the file belongs to */
    int64_t used_ns;
    char stamp[24]; /* of the last rotation, and how often its second saw one */
    int n_stamp;
    int fd;        /* -1: to be opened */
    bool regular;  /* writes never wait for a reader */
    bool can_undo; /* what was written can be cut off again: nobody else writes there */
    bool torn;     /* the last line has no end */
    bool dirty;    /* written, and not made durable */
    bool left;     /* found, not asked for: opened only where it looks like one of this sink */
};

/* It has a time in it, as the names of rotated files have. */
bool target_is_rotated(const char *name);
/* NULL when memory is used up. It is not open yet. */
struct target *target_new(const struct weir_host *h, const struct target_options *opt,
                          const char *path);
/* Closes it as it is; NULL is allowed. */
void target_free(struct target *take_t);

/* Opens it where it is not; err->number is the errno value. `truncate`: what was there goes. */
enum weir_status target_open(struct target *t, bool truncate, struct weir_error *err);
/* Before a write of `len` bytes: notices that the file was renamed away or deleted, and rotates.
 * WEIR_OK: it is open. */
enum weir_status target_ready(struct target *t, size_t len, struct weir_error *err);
/* Rotates where the time for it has come. */
void target_tick(struct target *t);
/* Makes the entry of that path in its folder durable. 0 or an errno value. */
int sync_entry(const struct weir_host *h, const char *path);
/* 0 or an errno value. */
int target_sync(struct target *t);
/* The last of it: makes it durable where asked, gives it its name, closes it. */
void target_finish(struct target *t);

#endif
