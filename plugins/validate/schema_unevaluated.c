/* SPDX-License-Identifier: Apache-2.0
 *
 * unevaluatedProperties and unevaluatedItems: a schema for the members that nothing else looked at,
 * neither beside it nor in the schemas that hold of the same value (allOf, anyOf, oneOf, if, $ref,
 * dependentSchemas). Which ones hold is asked again here, so that a check without these keywords
 * keeps no notes.
 */
#include "schema_run.h"

#include <string.h>

/* The members or items that were looked at, in their order. */
struct marks {
    uint8_t *seen;
    uint32_t n;
};

static void mark_all(struct marks *m)
{
    memset(m->seen, 1, m->n);
}

static bool has_pattern(struct run *r, const struct object_rules *rules, struct weir_str key)
{
    for (uint32_t i = 0; i < rules->n_patterns && r->code == NULL; i++)
        if (run_matches(r, rules->patterns[i].pattern, key))
            return true;
    return false;
}

static void mark_members(struct run *r, const struct object_rules *rules,
                         const struct weir_value *v, struct marks *m)
{
    struct weir_value_iter it = r->h->value_iter(v);
    struct weir_str key = {NULL, 0};
    if (rules->additional != NULL) {
        mark_all(m);
        return;
    }
    if (rules->table == NULL && rules->n_patterns == 0)
        return;
    for (uint32_t i = 0; i < m->n && r->h->value_next(&it, &key) != NULL; i++) {
        if (!run_spend(r, key.len / STEP_BYTES))
            return;
        bool known = rules->table != NULL && property_find(rules, key)->name.ptr != NULL;
        m->seen[i] |= known || has_pattern(r, rules, key);
    }
}

static void mark_items(struct run *r, const struct array_rules *rules, const struct weir_value *v,
                       struct marks *m)
{
    struct weir_value_iter it = r->h->value_iter(v);
    const struct weir_value *e;
    if (rules->items != NULL) {
        mark_all(m);
        return;
    }
    memset(m->seen, 1, rules->prefix.n < m->n ? rules->prefix.n : m->n);
    for (uint32_t i = 0; rules->contains != NULL && i < m->n; i++)
        if ((e = r->h->value_next(&it, NULL)) != NULL && m->seen[i] == 0)
            m->seen[i] = run_holds(r, rules->contains, e);
}

static void mark(struct run *r, const struct schema *s, const struct weir_value *v,
                 struct marks *m);

/* Those that hold. */
static void mark_some(struct run *r, const struct schema_list *list, const struct weir_value *v,
                      struct marks *m)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (run_holds(r, list->items[i], v))
            mark(r, list->items[i], v, m);
}

static void mark_applied(struct run *r, const struct schema *s, const struct weir_value *v,
                         struct marks *m)
{
    const struct object_rules *o = s->object;
    if (s->ref != NULL)
        mark(r, s->ref, v, m);
    for (uint32_t i = 0; i < s->all_of.n; i++)
        mark(r, s->all_of.items[i], v, m);
    mark_some(r, &s->any_of, v, m);
    mark_some(r, &s->one_of, v, m);
    if (s->if_ != NULL) {
        bool holds = run_holds(r, s->if_, v);
        const struct schema *then = holds ? s->then_ : s->else_;
        if (holds)
            mark(r, s->if_, v, m);
        if (then != NULL)
            mark(r, then, v, m);
    }
    for (uint32_t i = 0; o != NULL && i < o->n_dependents; i++)
        if (o->dependents[i].schema != NULL && r->h->value_get(v, o->dependents[i].name) != NULL)
            mark(r, o->dependents[i].schema, v, m);
}

/* s holds of v. */
static void mark(struct run *r, const struct schema *s, const struct weir_value *v, struct marks *m)
{
    bool object = r->h->value_type(v) == WEIR_OBJECT;
    if (!run_spend(r, 1 + m->n / STEP_MEMBERS))
        return;
    if (object && s->object != NULL) {
        mark_members(r, s->object, v, m);
        if (s->object->unevaluated != NULL)
            mark_all(m);
    }
    if (!object && s->array != NULL) {
        mark_items(r, s->array, v, m);
        if (s->array->unevaluated != NULL)
            mark_all(m);
    }
    mark_applied(r, s, v, m);
}

static bool check_member(struct run *r, const struct schema *s, const struct schema *rest,
                         const struct weir_value *e, struct step step)
{
    if (!rest->never)
        return run_inside(r, rest, e, step);
    if (step.key.ptr != NULL)
        return run_fail(r, s, "unevaluatedProperties", NULL, "no property \"%.*s\"",
                        (int)utf8_cut(step.key.ptr, step.key.len, 100), step.key.ptr);
    return run_fail(r, s, "unevaluatedItems", NULL, "no item %u", step.index);
}

bool run_check_unevaluated(struct run *r, const struct schema *s, const struct weir_value *v)
{
    bool object = r->h->value_type(v) == WEIR_OBJECT;
    const struct schema *rest = NULL;
    struct marks m = {NULL, r->h->value_count(v)};
    if (object && s->object != NULL)
        rest = s->object->unevaluated;
    else if (r->h->value_type(v) == WEIR_ARRAY && s->array != NULL)
        rest = s->array->unevaluated;
    if (rest == NULL || m.n == 0)
        return true;
    if (!run_spend(r, m.n))
        return false;
    m.seen = r->h->arena_alloc(r->c->scratch, m.n);
    if (m.seen == NULL)
        return run_stop(r, "no_memory", "no memory to note what was looked at");
    memset(m.seen, 0, m.n);
    if (object)
        mark_members(r, s->object, v, &m);
    else
        mark_items(r, s->array, v, &m);
    mark_applied(r, s, v, &m);
    struct weir_value_iter it = r->h->value_iter(v);
    struct weir_str key = {NULL, 0};
    for (uint32_t i = 0; i < m.n && r->code == NULL; i++) {
        const struct weir_value *e = r->h->value_next(&it, &key);
        struct step step = {{NULL, 0}, i};
        if (object)
            step.key = weir_str_n(key.ptr != NULL ? key.ptr : "", key.len);
        if (m.seen[i] == 0 && !check_member(r, s, rest, e, step))
            return false;
    }
    return r->code == NULL;
}
