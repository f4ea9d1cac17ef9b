/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP2, the protocol of Redis: commands as bytes, and replies out of bytes.
 *
 * The server counts as hostile: every length is checked, nothing is allocated by a number that it
 * sent, a reply that is larger than the reader's limit is read past and reported by its type alone.
 */
#ifndef REDIS_RESP_H
#define REDIS_RESP_H

#include <weir/plugin.h>

/* ---- A growing buffer ------------------------------------------------------------------------ */

/* All-zero but `h` is empty. */
struct bytes {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: what was put since is not there */
};

void bytes_put(struct bytes *b, const char *ptr, size_t len);
void bytes_done(struct bytes *b);

/* "*<n_args>\r\n", then that many resp_put_arg. */
void resp_put_head(struct bytes *b, size_t n_args);
void resp_put_arg(struct bytes *b, struct weir_str arg);

/* ---- Replies --------------------------------------------------------------------------------- */

enum resp_type {
    RESP_STATUS,  /* +OK */
    RESP_ERROR,   /* -ERR ... */
    RESP_INTEGER, /* :1 */
    RESP_STRING,  /* $5 */
    RESP_NIL,     /* $-1, *-1 */
    RESP_ARRAY    /* *2 */
};

/* One whole reply. */
struct resp_reply {
    enum resp_type type;
    struct weir_str text; /* of STATUS, ERROR, STRING; of INTEGER its digits */
    int64_t number;       /* of INTEGER; of ARRAY the number of its elements */
    struct weir_str raw;  /* all its bytes; good until the next resp_space */
    bool cut;             /* it was larger than the limit: raw, and the text of STRING, are gone */
};

/* Finds replies in what is read:
 *
 *   buf: | given out | start: this reply ... scan: looked through up to here | len: read | cap
 */
struct resp_reader {
    const struct weir_host *h;
    char *buf;
    size_t start, scan, len, cap;
    size_t limit;     /* of a reply's bytes */
    uint64_t pending; /* elements of this reply that are still to come; 0 = at its beginning */
    uint64_t to_skip; /* bytes of a bulk string that are read past */
    char first;       /* type byte of this reply */
    bool cut;
};

enum resp_result {
    RESP_REPLY,    /* one reply */
    RESP_MORE,     /* read more first */
    RESP_MALFORMED /* this is not Redis's protocol */
};

void resp_init(struct resp_reader *r, const struct weir_host *h, size_t limit);
void resp_done(struct resp_reader *r);
/* Forgets everything that was read. */
void resp_reset(struct resp_reader *r);

/* True where something was read that is not given out yet. */
static inline bool resp_pending(const struct resp_reader *r)
{
    return r->len > r->start;
}

/* Room to read into, at least 16 KiB; NULL when memory is used up. Earlier replies' views are dead.
 */
char *resp_space(struct resp_reader *r, size_t *ret_len);
/* So many bytes were read there. */
void resp_filled(struct resp_reader *r, size_t len);

enum resp_result resp_next(struct resp_reader *r, struct resp_reply *ret);

/* Reads one element of a whole reply's bytes at *p, and moves *p behind its head (of an array) or
 * behind it (of the others); false where there is none. For bytes that resp_next gave. */
bool resp_element(const char **p, const char *end, struct resp_reply *ret);

#endif
