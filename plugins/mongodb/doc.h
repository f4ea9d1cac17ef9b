/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/doc.h: JSON values straight to BSON documents.
 *
 *   JSON                       BSON
 *   integer in int64           int64, always: a field has one type whatever its value
 *   integer in uint64          decimal128
 *   number beyond a double     decimal128 where exact, else refused
 *   other number               double
 *   string                     string (NUL inside is kept); at the path of a date: date
 *   null, true, false, array, object: the same
 *
 * Of duplicate keys the first is written, as everywhere in weir. Nesting, size and keys are checked
 * while writing, so that no server ever sees a document that it cannot read. Knows no libbson: the
 * bytes are made here.
 */
#ifndef MONGODB_DOC_H
#define MONGODB_DOC_H

#include <weir/plugin.h>

#define DOC_SIZE_MAX ((size_t)16 << 20) /* what every server takes, and no server takes more */
#define DOC_DEPTH_MAX 128               /* levels; servers take 180 */

/* Where dates are: a tree of field names. An array on the way stands for each of its elements. */
struct date_node {
    struct weir_str name;
    bool is_date;
    struct date_node *child, *next;
};

/* An _id: string, integer, or object. Empty (type WEIR_NULL): the document gets none. */
struct doc_id {
    enum weir_value_type type; /* STRING, INT, UINT, OBJECT */
    struct weir_str str;
    int64_t num; /* INT, and the bits of UINT */
    const struct weir_value *object;
};

/* Makes one document after the other in the same memory. */
struct doc_writer {
    const struct weir_host *h;
    struct weir_arena *scratch; /* for the key tables of big objects */
    const struct date_node *dates;
    uint64_t seed;
    uint8_t *data;
    size_t len, cap;
    const char *code; /* of the failure; NULL = none yet */
    char why[256];
    char path[128]; /* of the place, dotted; made from its end to its start */
};

void doc_writer_init(struct doc_writer *w, const struct weir_host *h,
                     const struct date_node *dates);
void doc_writer_done(struct doc_writer *w);

/* The document of object v, _id first, in w->data and w->len until the next call. False: w->code,
 * w->why and w->path say what is wrong; code "no_memory" is no fault of the document. A member
 * `_id` of v is never written: whoever wants it gives it as `id`. */
bool doc_write(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id);

/* The document {_id: id}, for selectors. */
bool doc_write_id(struct doc_writer *w, const struct doc_id *id);

/* Gives back what a very large document took. */
void doc_writer_trim(struct doc_writer *w);

/* Adds a dotted path to the tree. NULL, or what is wrong with the path. */
const char *date_tree_add(const struct weir_host *h, struct weir_arena *a, struct date_node *root,
                          struct weir_str path);

#endif
