/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/disk_impl.h: what the files disk_buffer.c, disk_turn.c, disk_write.c, disk_read.c and
 * disk_tell.c share. Nobody else includes it, but tests.
 */
#ifndef WR_ENGINE_DISK_IMPL_H
#define WR_ENGINE_DISK_IMPL_H

#include <base/wake.h>
#include <engine/ack.h>
#include <engine/disk_buffer.h>
#include <engine/disk_recover.h>

#define WR_DISK_GROUP ((size_t)1 << 20)   /* bytes of one write */

/* A pushed batch, or one that was read back. */
struct wr_disk_entry {
    struct wr_entry base; /* first; its `next` links the lists below */
    uint64_t first_seq;
    size_t disk_bytes; /* of its records */
    size_t memory;     /* that it keeps alive */
    bool too_large;    /* some event is, for a record */
    bool keep_source;  /* as the option was when it was pushed: disk_bytes go by it */
    uint64_t number;   /* of the segment that has them, once they are written */
    int64_t end_at;    /* where they end in it */
};

/* Linked by base.next. */
struct wr_disk_list {
    struct wr_disk_entry *first, *last;
};

/* Metrics, made once. */
struct wr_disk_metrics {
    struct weir_metric *disk_bytes, *segments, *sync_seconds, *regions, *damaged_bytes, *torn_bytes;
};
#define WR_DISK_LABELS 8u

struct wr_disk {
    struct wr_buffer base; /* first */
    struct wr_disk_options opt; /* size, sync_ns and when_full: written by the thread, under the mutex */
    struct wr_label labels[WR_DISK_LABELS];
    struct wr_disk_metrics metrics;
    int dir, lock;
    pthread_t thread;
    bool has_thread;
    struct wr_wake wake;
    _Atomic int stopping, giving_up;

    pthread_mutex_t mutex; /* from here on, until said otherwise */
    struct wr_disk_list pending; /* pushed, not looked at by the thread yet */
    size_t waiting_memory;       /* of all that is not durable yet */
    size_t waiting_disk;         /* records that are in no file yet */
    uint64_t waiting_events;     /* the same */
    struct wr_disk_list ready;   /* durable and still in memory: they begin at read_seq */
    size_t given_memory;         /* of what is ready and what was given out */
    uint64_t n_given;            /* entries out there */
    uint64_t read_seq;           /* what is given next */
    uint64_t given_seq;          /* behind the last event that was given */
    uint64_t synced_seq;         /* all before it is durable */
    uint64_t cursor;             /* all before it has ended */
    uint64_t dropped_from, dropped_to; /* see struct wr_cursor */
    struct wr_disk_segment *first, *last;
    size_t disk_bytes;           /* of the segments' files */
    uint32_t n_segments;
    struct wr_waiter *waiters, *last_waiter;
    size_t wanted_disk;          /* the least that a waiter needs */
    enum { WR_FED, WR_WANTS_EVENTS, WR_WANTS_MEMORY, WR_WANTS_TIME } hungry; /* take found nothing: why */
    bool reading;                /* take is at the files */
    bool read_fd_gone;           /* and the file that it has open was deleted, perhaps */
    bool broken;                 /* no memory for acks: nothing more can be given out */
    struct wr_disk_limits next;  /* to be taken by the thread where `changed` */
    bool changed, last_came;
    bool napping;                /* the thread waits for the time of its next sync: let it */

    pthread_mutex_t acks_mutex; /* the acks of what is given out, and ended_seq */
    struct wr_acks *acks;
    struct weir_stream *stream;
    uint64_t ended_seq; /* the watermark of what was given */

    /* The thread's own. */
    struct wr_disk_list todo;    /* taken from pending: to be written */
    struct wr_disk_list written; /* in the file, not durable */
    uint64_t next_seq, next_number;
    int fd;          /* of the last segment while it is written to, -1 = a new one is due */
    int64_t at;      /* its end */
    uint8_t *group;  /* what the next write writes */
    size_t group_cap;
    bool new_names;  /* the folder has entries that are not durable */
    int64_t synced_at, kept_at;
    int64_t retry_at; /* after a failure: no write before */
    uint32_t failures;
    bool disk_full;  /* the last one was that */
    int cursor_fd;
    uint64_t kept_cursor, kept_turn;
    uint64_t safe_cursor; /* kept, and durable */
    int64_t look_at; /* when take is asked again after a read that failed, 0 = not */

    /* Of take, one at a time. */
    int read_fd;             /* of segment read_fd_number, -1 = none; the mutex's while `reading` is not */
    uint64_t read_fd_number;
    uint64_t read_number;    /* segment in which read_seq is at read_at, if it is read_at_seq */
    int64_t read_at;
    uint64_t read_at_seq;
};

/* Of each: what waits to be written, and what was given out or is ready. One batch may be more. */
static inline size_t wr_disk_memory(const struct wr_disk *d)
{
    return d->opt.memory / 2;
}

static inline struct wr_disk *wr_disk_of(struct wr_buffer *buf)
{
    return (struct wr_disk *)(void *)buf;
}

void wr_disk_list_add(struct wr_disk_list *list, struct wr_disk_entry *e);
struct wr_disk_entry *wr_disk_list_take(struct wr_disk_list *list);
/* Puts `front` before what is in the list. */
void wr_disk_list_prepend(struct wr_disk_list *list, struct wr_disk_list *take_front);
void wr_disk_entry_free(struct wr_disk_entry *take_e);

/* ---- disk_buffer.c ---- */

/* The counts that others look at. Under the mutex. */
void wr_disk_count(struct wr_disk *d);
/* Ends every event of what was pushed, and frees it. */
void wr_disk_end(struct wr_disk *d, struct wr_batch *take_b, enum weir_outcome outcome, const char *code,
                 const char *text);
/* Tells the outlet, if it waits for something like this. Never under the mutex. */
void wr_disk_feed(struct wr_disk *d, bool events);
/* Wakes those who wait for room, if there is some. Under the mutex. */
void wr_disk_wake_waiters(struct wr_disk *d);
/* ---- disk_turn.c ---- */

/* Hears what has ended, and moves the cursor. [the thread] */
void wr_disk_collect(struct wr_disk *d);
/* Writes down how far all has ended; false, and told, where the disk does not take it. [the thread] */
bool wr_disk_keep_cursor(struct wr_disk *d);
/* Segments behind the cursor go. [the thread] */
void wr_disk_advance(struct wr_disk *d);
/* The oldest closed segment that nothing under way is in goes, and what nobody has taken yet up to its end; false,
 * and nothing is dropped, where there is none. [the thread] */
bool wr_disk_drop_oldest(struct wr_disk *d);
/* So could the one that is written to, if it were closed; and it has records. [the thread] */
bool wr_disk_last_may_go(struct wr_disk *d);

/* ---- disk_write.c ---- */

/* Writes what was pushed and makes it durable. Returns when it wants to be called again. [the thread] */
int64_t wr_disk_write_step(struct wr_disk *d, int64_t now);
/* The last turn: all that is waiting becomes durable now, or ends as failed. [the thread] */
void wr_disk_write_last(struct wr_disk *d, int64_t now);

/* ---- disk_read.c ---- */

/* A segment is deleted: the room that it takes is not to stay taken because take has it open. [the thread] */
void wr_disk_let_go(struct wr_disk *d, uint64_t number);
/* It has one open all the same until it has read. */
bool wr_disk_reads_deleted(struct wr_disk *d);
/* The next entry from the segments; NULL: nothing now. Called without the mutex. */
struct wr_disk_entry *wr_disk_read_next(struct wr_disk *d);

/* ---- disk_tell.c ---- */

void wr_disk_metrics_open(struct wr_disk *d);
void wr_disk_metrics_close(struct wr_disk *d);
/* Logs and counts what recovery and reading find. */
void wr_disk_tell_find(void *disk, const struct wr_find *find);
/* A call that failed; errno. */
void wr_disk_tell_error(struct wr_disk *d, const char *what, int error);
void wr_disk_tell_kept(struct wr_disk *d);

#endif
