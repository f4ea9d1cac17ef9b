/* SPDX-License-Identifier: Apache-2.0
 *
 * How far each file has been delivered, and which file is which; kept across runs where option
 * `state` names a file for it.
 *
 * A file is known by device, inode, time of birth and a hash of its first bytes (its head): the
 * same inode with another head is other content. The same head under a new inode is the same
 * content in two cases: a file was truncated a moment ago, and this is its copy; a file was there
 * and is gone, and this is gzip.
 * There the last bytes that were read have to be the same, too. One object serves all lanes of a
 * source, under its lock. Called by source.c; reads and writes nothing but the state file.
 */
#ifndef PLACES_H
#define PLACES_H

#include <weir/plugin.h>

#define HEAD_MAX 256u
#define HEAD_MIN 64u /* fewer bytes do not tell files apart */

/* What a file looks like now. */
struct looks {
    uint64_t dev, ino;
    int64_t born_ns; /* 0 where the file system does not say */
    int64_t size;    /* on disk */
    bool unpacked;   /* gzip: the head is of what is inside */
    bool unfinished; /* gzip: the file ends before the head does */
    uint32_t head_len;
    unsigned char head[HEAD_MAX];
};

/* One file's content. */
struct place {
    struct place *next;
    char *path; /* where it was found first; for people */
    uint64_t dev, ino;
    int64_t born_ns;
    uint64_t tag; /* of this content, by chance: its events' ids begin with it */
    uint64_t head;
    uint32_t head_len;
    int64_t offset; /* everything before it has ended */
    int64_t
        tail_at; /* it was read up to there, and the bytes before it have that hash; 0 = unknown */
    uint64_t tail;
    int64_t done;     /* read to its end when it had that size on disk; -1 = not */
    int64_t seen_s;   /* wall clock */
    int64_t found_ns; /* by the scan that began then; 0 = not in this run */
    int64_t gone_ns;  /* when it was seen to be gone, in this run; 0 = it was not */
    bool gone;        /* other content is at its inode by now */
    bool unpacked;    /* its offset and head are of what is in a gzip file */
    bool open;        /* somebody reads it, or its events have not ended */
    bool stale;       /* its offset and `done` are of an earlier run and do not count */
};

struct places;

/* Reads the state file, if there is one; `path` empty: nothing is kept. NULL with err. [control] */
struct places *places_open(const struct weir_host *h, struct weir_str path, struct weir_error *err);
/* Each file that is found is begun anew, once. [control] */
void places_start_over(struct places *p);
/* A first run: nothing is kept until each of n_lanes has called places_scanned. Until then the run
 * has not begun anywhere, and the next one is a first one, too. [control] */
void places_hold(struct places *p, uint32_t n_lanes);
void places_scanned(struct places *p);
/* [control] */
void places_close(struct places *take_p);
/* True where the state file holds positions of an earlier run. */
bool places_known(const struct places *p);

enum take {
    TAKE_NEW,   /* content that was never seen */
    TAKE_KNOWN, /* go on at place->offset */
    TAKE_BUSY,  /* it is being read */
    TAKE_DONE,  /* there is nothing more in it */
    TAKE_LATER, /* perhaps a copy of what is still being read */
    TAKE_FAILED /* no memory */
};

/* The scan that began at scan_ns has found a file: its place is not to be taken for one that is
 * gone. False where there is nothing more in it. Of `looks` the head is not read. */
bool places_found(struct places *p, const struct weir_host *h, const struct looks *looks,
                  int64_t scan_ns);

/* Has a file the tail of a place? */
enum tail {
    TAIL_OTHER,
    TAIL_SAME,
    TAIL_LATER /* gzip, and not so much of it is written yet */
};

/* A file that a scan has found. */
struct find {
    const char *path;
    const struct looks *looks;
    int64_t start;   /* offset to begin at where its content is new */
    int64_t scan_ns; /* when that scan began */
    bool wait;       /* content that could be a copy of what is being read is left for later */
    /* Called under the lock. */
    enum tail (*tail)(void *arg, const struct place *at);
    void *arg;
};

/* The place of that content, opened, where it is TAKE_NEW or TAKE_KNOWN. */
enum take places_take(struct places *p, const struct weir_host *h, const struct find *f,
                      struct place **ret);
/* False where the content is another one by now. A head that has grown is learned. */
bool places_same(struct places *p, struct place *place, const struct looks *looks);
/* The file was read up to `at`; `bytes` are the last before it, HEAD_MAX at most. */
void places_tail(struct places *p, struct place *place, int64_t at, const unsigned char *bytes,
                 uint32_t len);
bool places_is_tail(const struct place *place, const unsigned char *bytes, uint32_t len);
void places_commit(struct places *p, struct place *place, int64_t offset);
void places_done(struct places *p, struct place *place, int64_t size);
/* Its content is not at its inode any more: the file was truncated. */
void places_gone(struct places *p, const struct weir_host *h, struct place *place);
/* Nobody reads it any more. */
void places_release(struct places *p, struct place *take_place);
/* Writes the state file where something changed, at most every second unless `now` is set. */
void places_save(struct places *p, const struct weir_host *h, bool now);

#endif
