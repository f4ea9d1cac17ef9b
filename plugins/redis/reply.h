/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies of Redis, read by hiredis's reader.
 *
 * The server counts as hostile: a reply that is larger or nests deeper than allowed ends the
 * reading and is told so, and nothing is allocated by a number that the server sent.
 */
#ifndef REDIS_REPLY_H
#define REDIS_REPLY_H

#include "bytes.h"

#define REPLY_TEXT_MAX 512
#define REPLY_DEPTH_MAX 7 /* arrays in arrays; hiredis 0.14 takes no more */

enum reply_type {
    REPLY_STATUS,  /* OK */
    REPLY_ERROR,   /* ERR ... */
    REPLY_INTEGER, /* 1 */
    REPLY_STRING,
    REPLY_NIL,
    REPLY_ARRAY,
    REPLY_TOO_LARGE, /* it is no error, but was not read to its end: */
    REPLY_TOO_DEEP   /* nothing can be read behind it */
};

/* One whole reply, or one element of a record. */
struct reply {
    enum reply_type type;
    struct weir_str
        text;       /* of STATUS and ERROR the first REPLY_TEXT_MAX bytes; of an element all */
    int64_t number; /* of INTEGER; of ARRAY how many elements it has */
    struct weir_str record; /* where replies are kept: the whole of it, for record_next */
};

/* Received bytes go into `in`, from there by the slice to hiredis; what it finds is noted here. A
 * reply's views are good until the next call. */
struct replies {
    const struct weir_host *h;
    struct redisReader *reader; /* NULL until something is read */
    char *in;
    size_t in_at, in_len;
    size_t limit;        /* of a reply's bytes */
    size_t size;         /* bytes read of the reply that is not whole yet */
    bool keep;           /* make records */
    bool ended;          /* nothing more can be read */
    bool deep, failed;   /* why a callback refused: too deep, no memory */
    struct reply now;    /* what the callbacks have noted of this reply */
    struct bytes record; /* its elements, flat, where `keep` */
    char text[REPLY_TEXT_MAX];
};

enum reply_result {
    REPLY_READ,     /* one reply */
    REPLY_MORE,     /* receive more first */
    REPLY_MALFORMED /* this is not Redis's protocol, or memory is used up */
};

void replies_init(struct replies *r, const struct weir_host *h, size_t limit, bool keep);
void replies_done(struct replies *r);
/* Forgets everything that was received. */
void replies_reset(struct replies *r);
/* The host may change between calls. */
void replies_use_host(struct replies *r, const struct weir_host *h);

/* Room to receive into, 0 bytes where replies must be taken first; NULL when memory is used up. */
char *replies_space(struct replies *r, size_t *ret_len);
/* So many bytes were received there. */
void replies_filled(struct replies *r, size_t len);
/* True where something was received that is not given out yet. */
bool replies_pending(const struct replies *r);

enum reply_result replies_next(struct replies *r, struct reply *ret);

/* Reads the element at *p of a record and moves *p behind it (an array's elements follow it);
 * false at the end. */
bool record_next(const char **p, const char *end, struct reply *ret);

#endif
