/* SPDX-License-Identifier: Apache-2.0
 *
 * `keep` of the transform `map`: members stay in the order of the event. Of duplicate keys the
 * first counts, as everywhere.
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

bool keep_add(const struct weir_host *h, struct weir_arena *a, struct keep_node *root,
              const struct path *p)
{
    struct keep_node *n = root;
    for (uint32_t i = 0; i < p->n; i++) {
        struct keep_node *c = find(n, p->steps[i].name);
        if (c == NULL) {
            c = h->arena_alloc(a, sizeof(*c));
            if (c == NULL)
                return false;
            *c = (struct keep_node){.name = p->steps[i].name, .next = n->child};
            n->child = c;
        }
        n = c;
    }
    n->whole = true;
    return true;
}

/* The node of a member that stays, at least in part. */
static const struct keep_node *stays(const struct weir_host *h, const struct keep_node *n,
                                     struct weir_str key, const struct weir_value *member)
{
    const struct keep_node *c = find(n, key);
    return c != NULL && (c->whole || h->value_type(member) == WEIR_OBJECT) ? c : NULL;
}

bool keep_changes(const struct weir_host *h, const struct keep_node *n, const struct weir_value *v)
{
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = stays(h, n, key, m);
        if (c == NULL || (!c->whole && keep_changes(h, c, m)))
            return true;
    }
    return false;
}

struct weir_value *keep_copy(const struct weir_host *h, struct weir_arena *a,
                             const struct keep_node *n, const struct weir_value *v)
{
    struct weir_value *copy = h->make_object(a);
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *m; (m = h->value_next(&it, &key)) != NULL;) {
        const struct keep_node *c = stays(h, n, key, m);
        if (c == NULL || h->value_get(v, key) != m)
            continue;
        struct weir_value *kept = c->whole ? h->make_copy(a, m) : keep_copy(h, a, c, m);
        if (kept == NULL || !h->object_set(a, copy, key, kept))
            return NULL;
    }
    return copy;
}
