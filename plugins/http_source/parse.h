/* SPDX-License-Identifier: Apache-2.0
 *
 * parse.c and target.c: the syntax of HTTP/1.1. They know nothing of connections.
 */
#ifndef HTTP_SOURCE_PARSE_H
#define HTTP_SOURCE_PARSE_H

#include "config.h"
#include "text.h"

#define MAX_PARAMS 8

/* ---- parse.c: knows nothing of connections ---- */

enum found { FOUND_NONE, FOUND_HEAD, FOUND_BAD };

/* Looks for the empty line that ends the head which `in` begins with, from *at on. HEAD: *ret_len
 * bytes, the empty line included. BAD: a line ends in something else than CR LF. */
enum found head_find(struct weir_str in, size_t *at, size_t *ret_len);

/* The headers that matter, in one walk over all of them. ptr NULL: not there. */
struct head {
    struct weir_str method, target;
    bool http_1_0;
    bool close, keep_alive; /* what Connection lists */
    struct weir_str lines;  /* of the headers: header_next walks over them */
    struct weir_str host, content_type, content_length, content_encoding, transfer_encoding;
    struct weir_str authorization, expect, idempotency_key, weir_id, origin;
    struct weir_str preflight_method;
    const char *repeated; /* one that must not come twice */
};

/* text: a whole head. False with *why. */
bool head_parse(struct weir_str text, struct head *ret, struct refusal *why);
/* The next header of lines that head_parse has seen; false behind the last. */
bool header_next(struct weir_str *lines, struct weir_str *ret_name, struct weir_str *ret_value);
/* Methods are compared byte for byte. */
bool method_is(const struct head *h, const char *method);
/* A byte that may stand in a header's name. */
bool is_name_char(char c);

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_OVER,
    CHUNK_BROKEN
};

struct chunks {
    enum chunk_state state;
    uint64_t left;     /* of the chunk's data */
    uint32_t digits;   /* of the size that is being read */
    uint32_t line;     /* bytes of the trailer line that is being read */
    bool named;        /* that line has its colon */
    uint32_t overhead; /* bytes of extensions and trailers */
};

/* Takes bytes off *in; true with the next piece of the body, false where *in is used up or the
 * state is OVER or BROKEN. */
bool chunk_next(struct chunks *c, struct weir_str *in, struct weir_str *ret_data);

/* ---- target.c ---- */

/* Parameters of a path, as in /v1/{tenant}/events. */
struct params {
    uint32_t n;
    struct weir_str name[MAX_PARAMS];  /* of the configuration */
    struct weir_str value[MAX_PARAMS]; /* as in the target: still percent-encoded */
};

/* Index of the path that the target names, -1 = none of ours. *ret_query: behind the '?'. */
int32_t target_find(const struct config *cf, struct weir_str target, struct params *ret,
                    struct weir_str *ret_query);
/* The value of that name in the query, still encoded; false where it has none. */
bool query_find(struct weir_str query, struct weir_str name, struct weir_str *ret);
/* Percent-encoding undone into `out` (in.len bytes). plus: '+' is a space. False where it is none,
 * or has a NUL. */
bool percent_decode(struct weir_str in, bool plus, char *out, size_t *ret_len);
/* Names of the parameters in a configured path; false with a text of what is wrong at *ret_at. */
bool pattern_check(struct weir_str pattern, struct weir_str *ret_names, uint32_t *ret_n,
                   size_t *ret_at, const char **ret_why);

#endif
