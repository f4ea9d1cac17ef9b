/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/shape.h: documents of the pipeline file with placeholders in them: filters, updates,
 * array filters. Operators come from the file only: what a placeholder gives can be any value, but
 * no object with a $ in front of a name, and no name with a dot. It is no expression either, and in
 * JavaScript and among the new names of $rename there can be none.
 *
 *   "{{ field }}" alone      the field's value with its type
 *   "a{{ field }}b"          text
 *   {$oid: "{{ field }}"}    converted, as typed.h says; also $date, $numberDecimal, $binary, $uuid
 *   "n.{{ field }}": 1       a name; it must begin with literal text
 */
#ifndef MONGODB_SHAPE_H
#define MONGODB_SHAPE_H

#include "doc.h"

struct shape;

/* The event that placeholders speak of. */
struct shape_event {
    struct weir_batch *b;
    struct weir_event *ev;
};

/* Where a document of the file is wrong. */
struct shape_mistake {
    char path[200]; /* below the option: ".$set.a" */
    char text[300];
    int64_t offset; /* inside a text; -1: the whole */
};

/* Compiles v into `a`; `pipeline`: it holds aggregation stages, where texts can be expressions, as
 * they can below $expr. NULL: *ret says why. */
struct shape *shape_compile(const struct weir_host *h, struct weir_arena *a,
                            const struct weir_value *v, bool pipeline, struct shape_mistake *ret);

/* Puts it as element `key`; an object or an array as that. False: w->code, w->path, w->why. */
bool shape_put(struct doc_writer *w, const struct shape *s, struct weir_str key,
               const struct shape_event *e);
/* Puts an object as a document of its own at the end of w->data. */
bool shape_put_document(struct doc_writer *w, const struct shape *s, const struct shape_event *e);

#endif
