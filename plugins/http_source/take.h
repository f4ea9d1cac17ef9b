/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: what take.c, which takes a request at once, parts.c, which takes it in parts, and
 * values.c, which keeps account of their memory, share.
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
    bool weighs;              /* what comes as base64 is to be weighed, too */
    struct weir_arena *check; /* not NULL: items are only looked at, and this is where */
    uint32_t n_checked;
    size_t bytes_checked; /* since `check` was cleared */
};

/* Is it a piece of the body, and not made of one? */
static inline bool is_of_body(const struct taking *t, struct weir_str s)
{
    return s.ptr >= t->text.ptr && s.ptr <= t->text.ptr + t->text.len;
}

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

/* ---- values.c ---- */

/* May all items' values be there at once? False, without a refusal: take them in parts. With one:
 * there is one item only. */
bool values_at_once(struct taking *t);
/* May this item be one of a part? False with *why. */
bool values_fit_part(const struct taking *t, struct weir_str item, struct refusal *why);
/* May this payload be parsed, too, which was weighed as base64 only? False with *why. */
bool values_fit_decoded(struct taking *t, struct weir_str payload, struct refusal *why);

#endif
