/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: what take.c, which takes a request at once, and parts.c, which takes it in parts, share.
 */
#ifndef HTTP_SOURCE_TAKE_H
#define HTTP_SOURCE_TAKE_H

#include "http_source.h"

struct taking {
    struct lane *lane;
    struct request *q;
    struct weir_batch *b;
    struct weir_str text; /* the body, decompressed */
    const struct weir_header *headers;
    uint32_t n_headers;
    const struct weir_origin *origin;
    int64_t wall;
    struct weir_arena *check; /* not NULL: items are only looked at, and this is where */
    uint32_t n_checked;
};

/* Path parameters, query parameters and headers, in this order, in `a`. False with q->refusal set. */
bool take_headers(struct taking *t, struct weir_arena *a);
/* False: no memory. */
bool take_origin(struct taking *t);
/* Adds the item to the batch. False with *why; the batch may have grown. */
bool add_item(struct taking *t, struct weir_str item, uint32_t index, bool single,
              struct refusal *why);
/* All items of the body; how many the body has in *ret_n. It ends early, and true, where they are more
 * than `most`. False with q->refusal set. */
bool take_items(struct taking *t, uint32_t most, uint32_t *ret_n);

#endif
