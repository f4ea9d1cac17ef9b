/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_recover.h: from what a run left in the folder to a buffer that can go on.
 *
 * Looks at the header of every segment and through the last one: the end of what was written is found, a
 * torn tail is cut off. What is damaged further inside is found when it is read, so that a start takes no
 * longer for a large backlog; wr_disk_look_through does it at once.
 */
#ifndef WR_ENGINE_DISK_RECOVER_H
#define WR_ENGINE_DISK_RECOVER_H

#include <engine/disk_segment.h>

enum wr_find_kind {
    WR_FIND_TORN,      /* a tail that was cut off */
    WR_FIND_DAMAGED,   /* bytes that are no records */
    WR_FIND_NO_HEADER, /* a segment whose header cannot be read; its records are */
    WR_FIND_NO_SEGMENT, /* a file that holds no record at all */
    WR_FIND_NO_CURSOR  /* nobody knows how far all has ended: records are given again */
};

/* Something that is not as it should be, and what was done about it. */
struct wr_find {
    enum wr_find_kind kind;
    const char *file;
    int64_t offset, bytes;
    bool saved; /* the bytes stand in a file damaged-... */
    int error;  /* errno where that failed */
};

struct wr_disk_state {
    struct wr_disk_segment *first;
    uint64_t cursor;      /* all before it has ended */
    uint64_t dropped_from, dropped_to; /* see struct wr_cursor */
    uint64_t next_seq;
    uint64_t next_number; /* of a segment */
    int64_t cursor_at;    /* where in the first segment the cursor's record is, or what is in its place */
    uint32_t n_removed;   /* segments behind the cursor */
};

/* tell may be NULL. False with err: the folder cannot be used as it is, and why. */
bool wr_disk_recover(int dir, const char *path, struct wr_disk_state *ret,
                     void (*tell)(void *arg, const struct wr_find *find), void *arg,
                     struct weir_error *err);
/* Goes through all records from the cursor on and sets aside what is damaged. Counts them. */
bool wr_disk_look_through(int dir, const struct wr_disk_state *state, uint64_t *ret_records,
                          void (*tell)(void *arg, const struct wr_find *find), void *arg,
                          struct weir_error *err);

/* Sets a damaged region aside and tells of it; seg->keep where it cannot be copied. */
void wr_disk_set_aside(int dir, struct wr_disk_segment *seg, const struct wr_damage *damage,
                       void (*tell)(void *arg, const struct wr_find *find), void *arg);

#endif
