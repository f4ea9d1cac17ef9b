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
    *c = (struct keep_node){.name = s->name, .next = each ? NULL : n->child};
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

/* The node of a member or an item that stays, at least in part. */
static const struct keep_node *stays(const struct weir_host *h, const struct keep_node *n,
                                     bool array, struct weir_str key, const struct weir_value *v)
{
    const struct keep_node *c = array ? n->each : find(n, key);
    enum weir_value_type type = h->value_type(v);
    bool goes_in = c != NULL && ((type == WEIR_OBJECT && c->child != NULL) ||
                                 (type == WEIR_ARRAY && c->each != NULL));
    return c != NULL && (c->whole || goes_in) ? c : NULL;
}

bool keep_changes(const struct weir_host *h, const struct keep_node *n, const struct weir_value *v)
{
    bool array = h->value_type(v) == WEIR_ARRAY;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = stays(h, n, array, key, m);
        if (c == NULL || (!c->whole && keep_changes(h, c, m)))
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
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = stays(h, n, array, key, m);
        if (c == NULL || (!array && h->value_get(v, key) != m))
            continue;
        struct weir_value *kept = c->whole ? h->make_copy(a, m) : keep_copy(h, a, c, m);
        if (!(array ? h->array_append(a, copy, kept) : h->object_set(a, copy, key, kept)))
            return NULL;
    }
    return copy;
}
