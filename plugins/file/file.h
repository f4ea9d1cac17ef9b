/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this plugin share: its three component types, and the reader of lines.
 */
#ifndef FILE_H
#define FILE_H

#include "../common/deadline.h"
#include <sys/types.h>
#include <weir/plugin.h>

extern const struct weir_type type_file_source;
extern const struct weir_type type_file_sink;
extern const struct weir_type type_stdout_sink;

/* ---- Blocks: memory that lines point into (lines.c) ------------------------------------------ */

struct pool;

/* Shared by readers on one lane. NULL when memory is used up. */
struct pool *pool_new(const struct weir_host *h);
/* Blocks that are still in use keep it. */
void pool_close(struct pool *take_pool);

/* Bytes of the input. Lines are views into it; batches that hold such lines hold a reference. */
struct block;

/* Takes a reference for a batch; give block_unref as its dispose function. */
void block_ref(struct block *block);
void block_unref(void *take_block);

/* ---- Lines ----------------------------------------------------------------------------------- */

enum skip { SKIP_NOTHING, SKIP_LONG_LINE, SKIP_FIRST_PART };

/* Splits what comes out of a descriptor into lines, without copying them:
 *
 *   block: | given out | at: the next line ... scan: searched up to here ... end: read | free | cap
 */
struct lines {
    const struct weir_host *h;
    struct pool *pool;
    struct block *block; /* NULL before the first fill */
    size_t at, scan, end;
    int64_t base;  /* offset in the input of the block's first byte */
    int64_t n_before; /* lines before the next one */
    int64_t limit; /* a line that starts here or later is not ours */
    size_t max_line;
    enum skip skip;
    int64_t skip_from; /* where the line that is skipped begins */
    int fd;
    bool eof;
    bool follow; /* there may be more behind the end: it is no end, and lines_fill says EAGAIN */
    /* Where the bytes come from; NULL: read(2) of fd. Results as read's. */
    ssize_t (*read)(void *arg, char *ptr, size_t len);
    void *read_arg;
};

enum line_result {
    LINE_OK,       /* one line */
    LINE_EMPTY,    /* an empty one: nothing but its end */
    LINE_TOO_LONG, /* longer than max_line; lines_skip() goes past it */
    LINE_SKIPPED,  /* the end of a line that was too long: its offset and next, no text */
    LINE_MORE,     /* lines_fill() first */
    LINE_END       /* there are no more */
};

struct line {
    struct weir_str text; /* without its end: LF or CRLF */
    int64_t offset;       /* of its first byte */
    int64_t next;         /* of the byte behind its end */
    int64_t number;       /* from 1 on, where the reading began at the first or lines_begin knew */
};

void lines_init(struct lines *l, const struct weir_host *h, struct pool *pool, int fd,
                size_t max_line);
void lines_done(struct lines *l);

/* Reads from byte `start` of a file on, from the first line that begins at or behind it. */
bool lines_seek(struct lines *l, int64_t start);

/* Goes on at byte `start`, where a line begins behind n_before others; the descriptor is there
 * already. */
void lines_begin(struct lines *l, int64_t start, int64_t n_before);

/* Gives the block back while nothing is in it. */
void lines_rest(struct lines *l);

enum line_result lines_next(struct lines *l, struct line *ret_line);

/* Gives back the line that lines_next gave last; lines_next gives it again. */
void lines_back(struct lines *l, const struct line *line);

/* After LINE_TOO_LONG: the first `max` bytes of that line, fewer where it ends in the middle of a
 * character. They are good until the next lines_fill. */
struct weir_str lines_first_part(const struct lines *l, size_t max);
/* After LINE_TOO_LONG: goes on behind the end of that line. */
void lines_skip(struct lines *l);

/* One read(2). 0, or an errno value; ENOMEM when memory is used up. */
int lines_fill(struct lines *l);

#endif
