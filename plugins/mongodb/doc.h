/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/doc.h: JSON values straight to BSON documents.
 *
 *   JSON                       BSON
 *   integer in int64           int64, always: a field has one type whatever its value
 *   integer in uint64          decimal128
 *   number beyond a double     decimal128 where exact, else refused
 *   other number               double
 *   string                     string (NUL inside is kept)
 *   null, true, false, array, object: the same
 *   at a path with a type of its own (typed.h): that
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

enum doc_type {
    TYPE_PLAIN,
    TYPE_DATE,
    TYPE_DATE_MS,
    TYPE_DATE_S,
    TYPE_OBJECT_ID,
    TYPE_DECIMAL,
    TYPE_BINARY,
    TYPE_UUID
};

/* Where types of their own are: a tree of field names. An array on the way stands for each of its
 * elements. */
struct type_node {
    struct weir_str name;
    enum doc_type type;
    struct type_node *child, *next;
};

/* An _id: string, integer, or object, or a string to be converted to `as`. Empty (type WEIR_NULL):
 * the document gets none. */
struct doc_id {
    enum weir_value_type type; /* STRING, INT, UINT, OBJECT */
    struct weir_str str;
    int64_t num; /* INT, and the bits of UINT */
    const struct weir_value *object;
    enum doc_type as;
    const struct weir_value *value; /* where `as` is set; NULL: an ObjectId of our own */
    uint8_t own[12];
};

/* Makes documents in the same memory, one behind the other inside a command or each from the
 * start. */
struct doc_writer {
    const struct weir_host *h;
    struct weir_arena *scratch; /* for the key tables of big objects, and what is converted */
    const struct type_node *types;
    uint64_t seed;
    uint8_t *data;
    size_t len, cap;
    size_t limit;     /* what len may become */
    const char *code; /* of the failure; NULL = none yet */
    char why[256];
    char path[128]; /* of the place, dotted; made from its end to its start */
};

void doc_writer_init(struct doc_writer *w, const struct weir_host *h,
                     const struct type_node *types);
void doc_writer_done(struct doc_writer *w);
/* Begins anew: empty, no failure, room for `limit` bytes. */
void doc_writer_start(struct doc_writer *w, size_t limit);
/* Gives back what a very large document took. */
void doc_writer_trim(struct doc_writer *w);

/* Puts the document of object v, _id first, at the end of w->data. False: w->code, w->why and
 * w->path say what is wrong, and w->len is as it was; code "no_memory" is no fault of the
 * document. A member `_id` of v is never written: whoever wants it gives it as `id`. */
bool doc_put(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id);
/* The members of v alone, but _id, as a document; a name that would be a path or an operator in an
 * update is refused. */
bool doc_put_fields(struct doc_writer *w, const struct weir_value *v);
/* Any value as the element `key`. */
bool doc_put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v);

/* The same documents from the start of the buffer. */
bool doc_write(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id);
/* The document {_id: id}, for selectors. */
bool doc_write_id(struct doc_writer *w, const struct doc_id *id);

/* Adds a dotted path to the tree. NULL, or what is wrong with it. */
const char *type_tree_add(const struct weir_host *h, struct weir_arena *a, struct type_node *root,
                          struct weir_str path, enum doc_type type);
/* The node of a field below n; NULL where there is none. */
const struct type_node *type_child(const struct type_node *n, struct weir_str name);

#endif
