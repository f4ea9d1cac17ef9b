/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the source share:
 *
 *   source.c   opening, waiting, the calls of the host;  source_options.c  the type and its options
 *   read.c     one poll's lines become events
 *   scan.c     which files there are: patterns, what is new, what is gone
 *   input.c    one file that is read: opening, the end, truncation, letting go
 *   lines.c    bytes to lines;  unzip.c  gzip;  watch.c  inotify
 *   places.c   positions;  state.c  the file in which they are kept
 */
#ifndef SOURCE_H
#define SOURCE_H

#include "file.h"
#include "places.h"
#include "unzip.h"

enum on_long { ON_LONG_ERROR, ON_LONG_SKIP, ON_LONG_REJECT };
enum start { START_BEGINNING, START_END };
enum grown { GROWN_READ, GROWN_LEAVE };
enum compression { COMPRESSION_AUTO, COMPRESSION_NONE, COMPRESSION_GZIP };

struct source_config {
    struct weir_list path;    /* of struct weir_str */
    struct weir_list exclude; /* of struct weir_str */
    struct weir_str state;
    bool follow;
    int start;
    int compression;
    int64_t max_line;
    int on_long;
    int64_t poll_interval_ns;
    int64_t rotate_wait_ns;
    int grown;
    bool start_over;
    struct weir_str line_header;
};

/* A line that is too long, on its way to the dead letter: its beginning, and where it is. It goes
 * when its end is known, so that no position is in the middle of it. */
struct long_line {
    char *text; /* NULL: there is none */
    size_t len;
    int64_t offset;
    int64_t next; /* 0: the end is not known yet */
    int64_t number;
};

/* A file that waits for its turn. */
struct queued {
    char *path;
    int64_t size; /* on disk, when it was found */
};

/* One file, or standard input. */
struct input {
    struct input *next;
    struct weir_str path; /* a NUL behind; of standard input a name of its own */
    struct lines lines;
    struct unzip *unzip;        /* NULL: not compressed */
    struct weir_stream *stream; /* NULL: no event yet */
    struct place *place;        /* NULL: not known yet which content it is; of a plain run always */
    char id[20];                /* what its events' ids begin with, where it has a place */
    uint32_t id_len;
    struct long_line too_long;
    uint64_t dev, ino;
    int64_t last_next; /* of its last event */
    int64_t born_ns;   /* when it was opened */
    int64_t moved_ns;  /* when something was read last */
    int64_t gone_ns;   /* since when no pattern finds it; 0 = it is there */
    int64_t found_ns;  /* by the scan that began then */
    int64_t limit;     /* bytes on disk that are read */
    int64_t done;      /* size on disk where all of it was read and no more is expected, else -1 */
    int fd;
    int wd;
    bool ready;  /* something may be there to read */
    bool at_end; /* it was read to its end as it was then */
    bool over;   /* closed; it waits for its events to end */
    bool early;  /* it was there at the first look round */
};

struct source {
    const struct weir_host *h;
    const struct source_config *config;
    struct pool *pool;
    struct places *places; /* NULL: a plain run over one file */
    struct input *inputs;  /* in the order of their finding */
    uint32_t n_inputs;
    uint32_t turn; /* the input that the next poll begins with */
    char stdin_name[24];
    int wake_fd;
    int watch_fd;
    bool woken;   /* in this poll */
    bool waits;   /* reading may block: a pipe, a terminal */
    bool stopped; /* no new lines */
    bool plain;   /* one file or standard input, opened at the start, no positions */
    /* Without follow: what is still to be read, found at the first poll. */
    struct queued *queue;
    size_t n_queue, at_queue;
    int64_t scanned_ns; /* 0: not yet */
    bool scan_now;
    char watched[4096]; /* the folder that was watched last */
    struct weir_metric *empty, *too_long, *truncated, *unreadable, *open;
    struct weir_error failed; /* told by the poll after the one that met it */
};

static inline bool is_stdin(const char *path)
{
    return path[0] == '-' && path[1] == '\0';
}

static inline const char *first_path(const struct source_config *cf)
{
    return ((const struct weir_str *)cf->path.items)[0].ptr;
}

/* ---- source.c and read.c --------------------------------------------------------------------- */

extern const struct weir_source file_source_calls;
enum weir_status file_source_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err);
void file_source_close(void *take_self);

/* One poll's work. */
struct filling {
    struct weir_batch *b;
    int64_t deadline_ns;
    const struct weir_origin *origin; /* of the input that is read */
    const struct block *attached;     /* the block whose reference this batch has */
    char *id_at;                      /* room for ids */
    size_t id_left;
    size_t bytes;
    unsigned n_fills;
    bool starved; /* memory is used up */
};

/* Adds lines until the batch has enough or nothing is there; every input has its turn to be the
 * first. */
void fill_batch(struct source *self, struct filling *f, uint32_t room);
/* Waits for a wake-up and, where `fd` is none of -1, for input. True where there is input, or its
 * end. */
bool wait_for(struct source *self, int fd, int64_t deadline_ns);

/* ---- input.c --------------------------------------------------------------------------------- */

/* Takes the descriptor, and path is copied. NULL when memory is used up. */
struct input *input_new(struct source *self, int take_fd, const char *path);
/* Frees what is left of it; its stream and place are let go of already. */
void input_free(struct source *self, struct input *take_in);
/* Sets up unpacking where the option or the first bytes ask for it. 0 or an errno value. */
int input_unpack(struct source *self, struct input *in);
/* Device, inode, birth and size of an open file (path "") or of a path (fd AT_FDCWD). 0 or an errno
 * value. */
int stat_looks(int fd, const char *path, struct looks *ret, mode_t *ret_mode);
/* What comes to stand behind its first n_bytes on disk is not read. */
void input_limit(struct input *in, int64_t n_bytes);
/* What the file looks like. 0 or an errno value. */
int input_looks(const struct input *in, struct looks *ret);
/* The last bytes of the (unpacked) content before `at`, HEAD_MAX at most; *ret_len 0 where it is
 * not that long. 0 or an errno value: ENODATA where a gzip file ends in the middle before that. */
int input_tail(const struct input *in, int64_t at, unsigned char *ret, uint32_t *ret_len);
/* Begins at that byte of the (unpacked) content; with `count` the lines before it are counted. 0 or
 * an errno value. */
int input_begin(struct input *in, int64_t offset, bool count);
/* The offset behind the last line end; that of the file's end where `max_line` bytes hold none. */
int64_t input_last_line(const struct input *in);
/* Before reading on from an end: false where there is nothing, or the file was truncated, which is
 * then dealt with. */
bool input_check(struct source *self, struct input *in);
/* Nothing more is read of it. */
void input_finish(struct source *self, struct input *in);
/* Lets go of inputs whose events have all ended. */
void inputs_settle(struct source *self);

/* ---- scan.c ---------------------------------------------------------------------------------- */

bool is_pattern(const char *path);
/* When the next look round is due. */
int64_t scan_due(const struct source *self);
/* Looks round for files where it is time to. False: some are left for the next time. */
bool scan(struct source *self);
/* Finds out which content the file has, and where to begin. False: not now, or never. */
bool identify(struct source *self, struct input *in);
/* Without follow: opens the next file; false where there is none. */
bool scan_next(struct source *self);

#endif
