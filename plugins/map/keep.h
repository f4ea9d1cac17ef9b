/* SPDX-License-Identifier: Apache-2.0
 *
 * map/keep.h: the part of a value that a list of paths names.
 */
#ifndef MAP_KEEP_H
#define MAP_KEEP_H

#include "path.h"

/* Paths as a tree; a whole node keeps all that is there. */
struct keep_node {
    struct weir_str name;
    bool whole;
    struct keep_node *child, *next; /* members of an object */
    uint32_t n_children, index;     /* index: among the children of its parent */
    struct keep_node *each;         /* the items of an array */
};

/* False: no memory. Paths hold names and [*] only. */
bool keep_add(const struct weir_host *h, struct weir_arena *a, struct keep_node *root,
              const struct path *p);

/* Whether anything of v would go. */
bool keep_changes(const struct weir_host *h, const struct keep_node *n, const struct weir_value *v);
/* A copy of what stays of object or array v, in `a`; NULL: no memory. */
struct weir_value *keep_copy(const struct weir_host *h, struct weir_arena *a,
                             const struct keep_node *n, const struct weir_value *v);

#endif
