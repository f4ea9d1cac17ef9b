/* SPDX-License-Identifier: Apache-2.0
 *
 * map/keep.h: the part of a value that a list of paths names.
 */
#ifndef MAP_KEEP_H
#define MAP_KEEP_H

#include "path.h"

/* Names as a tree; a node without children keeps all that is there. */
struct keep_node {
    struct weir_str name;
    bool whole;
    struct keep_node *child, *next;
};

/* False: no memory. Paths hold names only. */
bool keep_add(const struct weir_host *h, struct weir_arena *a, struct keep_node *root,
              const struct path *p);

/* Whether anything of v would go. */
bool keep_changes(const struct weir_host *h, const struct keep_node *n, const struct weir_value *v);
/* A copy of what stays of object v, in `a`; NULL: no memory. */
struct weir_value *keep_copy(const struct weir_host *h, struct weir_arena *a,
                             const struct keep_node *n, const struct weir_value *v);

#endif
