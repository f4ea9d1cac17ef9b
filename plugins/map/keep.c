/* SPDX-License-Identifier: Apache-2.0
 *
 * `keep` of the transform `map`: members stay in the order of the event, items that are not of the
 * kind that a path goes through go. Of duplicate keys the first counts, as everywhere.
 */
#include "keep.h"

#include <string.h>

static struct keep_node *find(const struct keep_node *n, struct weir_str name)
{
    for (struct keep_node *c = n->child; c != NULL; c = c->next)
        if (c->name.len == name.len && memcmp(c->name.ptr, name.ptr, name.len) == 0)
            return c;
    return NULL;
}

static struct keep_node *add_node(const struct weir_host *h, struct weir_arena *a,
                                  struct keep_node *n, const struct step *s)
{
    bool each = s->name.ptr == NULL;
    struct keep_node *c = each ? n->each : find(n, s->name);
    if (c != NULL)
        return c;
    c = h->arena_alloc(a, sizeof(*c));
    if (c == NULL)
        return NULL;
    *c = (struct keep_node){
        .name = s->name, .next = each ? NULL : n->child, .index = each ? 0 : n->n_children++};
    *(each ? &n->each : &n->child) = c;
    return c;
}

bool keep_add(const struct weir_host *h, struct weir_arena *a, struct keep_node *root,
              const struct path *p)
{
    struct keep_node *n = root;
    for (uint32_t i = 0; i < p->n && n != NULL; i++)
        n = add_node(h, a, n, &p->steps[i]);
    if (n != NULL)
        n->whole = true;
    return n != NULL;
}

/* Whether a member or an item stays, at least in part; c NULL: no path names it. */
static bool stays(const struct weir_host *h, const struct keep_node *c, const struct weir_value *v)
{
    enum weir_value_type type = h->value_type(v);
    return c != NULL && (c->whole || (type == WEIR_OBJECT && c->child != NULL) ||
                         (type == WEIR_ARRAY && c->each != NULL));
}

bool keep_changes(const struct weir_host *h, const struct keep_node *n, const struct weir_value *v)
{
    bool array = h->value_type(v) == WEIR_ARRAY;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = array ? n->each : find(n, key);
        if (!stays(h, c, m) || (!c->whole && keep_changes(h, c, m)))
            return true;
    }
    return false;
}

struct weir_value *keep_copy(const struct weir_host *h, struct weir_arena *a,
                             const struct keep_node *n, const struct weir_value *v)
{
    bool array = h->value_type(v) == WEIR_ARRAY;
    struct weir_value *copy = array ? h->make_array(a) : h->make_object(a);
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    bool *seen = h->arena_alloc(a, n->n_children + 1); /* keys of this object, by their nodes */
    if (seen == NULL)
        return NULL;
    memset(seen, 0, n->n_children + 1);
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = array ? n->each : find(n, key);
        bool twin = !array && c != NULL && seen[c->index];
        if (!array && c != NULL)
            seen[c->index] = true;
        if (twin || !stays(h, c, m))
            continue;
        struct weir_value *kept = c->whole ? h->make_copy(a, m) : keep_copy(h, a, c, m);
        if (!(array ? h->array_append(a, copy, kept) : h->object_set(a, copy, key, kept)))
            return NULL;
    }
    return copy;
}
