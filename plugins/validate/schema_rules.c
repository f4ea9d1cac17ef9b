/* SPDX-License-Identifier: Apache-2.0
 *
 * The keywords of strings, numbers, arrays and objects. A type's rules are made when its first
 * keyword comes; a keyword for a type that the schema's `type` excludes is no mistake, as in JSON
 * Schema.
 */
#include "schema.h"
#include "../common/hash.h"

#include <stdio.h>
#include <string.h>

struct rule {
    const char *name;
    void (*fn)(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
               const struct place *place);
};

static bool key_is(struct weir_str key, const char *name)
{
    return strlen(name) == key.len && memcmp(name, key.ptr, key.len) == 0;
}

static void expected(struct schema_compiler *c, const struct place *place, const char *what,
                     const struct weir_value *v)
{
    char found[120];
    value_describe(compile_host(c), v, found, sizeof(found));
    compile_error(c, place, "expected %s, found %s", what, found);
}

/* A count: a whole number from 0 on. NO_LIMIT after a mistake. */
static int64_t take_count(struct schema_compiler *c, const struct weir_value *v,
                          const struct place *place)
{
    const struct weir_host *h = compile_host(c);
    double real = h->value_type(v) == WEIR_REAL ? h->value_real(v) : -1;
    if (h->value_type(v) == WEIR_INT && h->value_int(v) >= 0)
        return h->value_int(v);
    if (real >= 0 && real < 9e15 && value_is_integer(h, v))
        return (int64_t)real;
    expected(c, place, "a whole number from 0 on", v);
    return NO_LIMIT;
}

/* ---- Strings ---- */

static struct string_rules *of_string(struct schema_compiler *c, struct schema *s)
{
    if (s->string == NULL && (s->string = compile_alloc(c, sizeof(*s->string))) != NULL)
        s->string->min = s->string->max = NO_LIMIT;
    return s->string;
}

static void on_min_length(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                          const struct place *place)
{
    if (of_string(c, s) != NULL)
        s->string->min = take_count(c, v, place);
}

static void on_max_length(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                          const struct place *place)
{
    if (of_string(c, s) != NULL)
        s->string->max = take_count(c, v, place);
}

static void on_pattern(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                       const struct place *place)
{
    const struct weir_host *h = compile_host(c);
    if (h->value_type(v) != WEIR_STRING) {
        expected(c, place, "a regular expression as a string", v);
        return;
    }
    if (of_string(c, s) != NULL)
        s->string->pattern = compile_pattern(c, place, h->value_str(v));
}

static void on_format(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                      const struct place *place)
{
    const struct weir_host *h = compile_host(c);
    if (of_string(c, s) == NULL)
        return;
    if (h->value_type(v) == WEIR_STRING)
        s->string->format = format_of(h->value_str(v));
    if (s->string->format == FORMAT_NONE)
        expected(c, place,
                 "date-time, date, time, email, hostname, ipv4, ipv6, uri or uuid (formats are "
                 "checked, so others are not taken)",
                 v);
}

/* ---- Numbers ---- */

static void take_number(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                        const struct place *place, size_t offset)
{
    const struct weir_host *h = compile_host(c);
    if (s->number == NULL)
        s->number = compile_alloc(c, sizeof(*s->number));
    if (s->number == NULL)
        return;
    struct number n = number_of(h, v);
    memcpy((char *)s->number + offset, &n, sizeof(n));
    if (n.kind == NUMBER_NONE)
        expected(c, place, "a number", v);
}

static void on_minimum(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                       const struct place *place)
{
    take_number(c, s, v, place, offsetof(struct number_rules, minimum));
}

static void on_maximum(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                       const struct place *place)
{
    take_number(c, s, v, place, offsetof(struct number_rules, maximum));
}

static void on_above(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    take_number(c, s, v, place, offsetof(struct number_rules, above));
}

static void on_below(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    take_number(c, s, v, place, offsetof(struct number_rules, below));
}

static void on_multiple_of(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                           const struct place *place)
{
    if (s->number == NULL)
        s->number = compile_alloc(c, sizeof(*s->number));
    if (s->number == NULL)
        return;
    s->number->multiple_of_value = v;
    if (!divisor_of(compile_host(c), v, &s->number->multiple_of))
        expected(c, place, "a number above 0 with up to 19 digits", v);
}

/* ---- Arrays ---- */

static struct array_rules *of_array(struct schema_compiler *c, struct schema *s)
{
    if (s->array == NULL && (s->array = compile_alloc(c, sizeof(*s->array))) != NULL)
        s->array->min = s->array->max = s->array->min_contains = s->array->max_contains = NO_LIMIT;
    return s->array;
}

static void on_items(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    if (compile_host(c)->value_type(v) == WEIR_ARRAY)
        compile_error(c, place, "one schema for all items; for schemas by place use prefixItems");
    else if (of_array(c, s) != NULL)
        s->array->items = compile_at(c, v, place);
}

static void on_prefix_items(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                            const struct place *place)
{
    if (of_array(c, s) != NULL)
        (void)compile_list(c, v, place, &s->array->prefix);
}

static void on_contains(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                        const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->contains = compile_at(c, v, place);
}

static void on_unevaluated_items(struct schema_compiler *c, struct schema *s,
                                 const struct weir_value *v, const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->unevaluated = compile_at(c, v, place);
}

static void on_min_contains(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                            const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->min_contains = take_count(c, v, place);
}

static void on_max_contains(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                            const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->max_contains = take_count(c, v, place);
}

static void on_min_items(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                         const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->min = take_count(c, v, place);
}

static void on_max_items(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                         const struct place *place)
{
    if (of_array(c, s) != NULL)
        s->array->max = take_count(c, v, place);
}

static void on_unique_items(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                            const struct place *place)
{
    if (compile_host(c)->value_type(v) != WEIR_BOOL)
        expected(c, place, "true or false", v);
    else if (of_array(c, s) != NULL)
        s->array->unique = compile_host(c)->value_bool(v);
}

/* ---- Objects ---- */

static struct object_rules *of_object(struct schema_compiler *c, struct schema *s)
{
    if (s->object == NULL && (s->object = compile_alloc(c, sizeof(*s->object))) != NULL)
        s->object->min = s->object->max = NO_LIMIT;
    return s->object;
}

static bool take_object(struct schema_compiler *c, const struct weir_value *v,
                        const struct place *place, const char *what)
{
    if (compile_host(c)->value_type(v) == WEIR_OBJECT)
        return true;
    expected(c, place, what, v);
    return false;
}

struct property *property_find(const struct object_rules *o, struct weir_str name)
{
    const char *text = name.ptr != NULL ? name.ptr : "";
    uint32_t i = (uint32_t)hash_bytes(text, name.len, 0) & o->mask;
    for (;; i = (i + 1) & o->mask) {
        struct property *p = &o->table[i];
        if (p->name.ptr == NULL ||
            (p->name.len == name.len && memcmp(p->name.ptr, text, name.len) == 0))
            return p;
    }
}

static void on_properties(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                          const struct place *place)
{
    const struct weir_host *h = compile_host(c);
    uint32_t size = 8;
    if (!take_object(c, v, place, "an object of schemas by name") || of_object(c, s) == NULL)
        return;
    while (size < h->value_count(v) * 2)
        size *= 2;
    s->object->table = compile_alloc(c, size * sizeof(*s->object->table));
    if (s->object->table == NULL)
        return;
    s->object->mask = size - 1;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *e; (e = h->value_next(&it, &key)) != NULL;) {
        struct property *p = property_find(s->object, key);
        if (p->name.ptr != NULL) {
            compile_error(c, place_key(c, place, key), "the property is there twice");
            continue;
        }
        p->name = weir_str_n(key.ptr != NULL ? key.ptr : "", key.len);
        p->schema = compile_at(c, e, place_key(c, place, key));
        s->object->n_properties++;
    }
}

static void on_pattern_properties(struct schema_compiler *c, struct schema *s,
                                  const struct weir_value *v, const struct place *place)
{
    const struct weir_host *h = compile_host(c);
    if (!take_object(c, v, place, "an object of schemas by pattern") || of_object(c, s) == NULL)
        return;
    s->object->patterns = compile_alloc(c, h->value_count(v) * sizeof(*s->object->patterns));
    if (s->object->patterns == NULL)
        return;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *e; (e = h->value_next(&it, &key)) != NULL;) {
        const struct place *at = place_key(c, place, key);
        struct pattern_property *p = &s->object->patterns[s->object->n_patterns++];
        *p = (struct pattern_property){compile_pattern(c, at, key), compile_at(c, e, at)};
    }
}

static void on_additional(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                          const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->additional = compile_at(c, v, place);
}

static void on_unevaluated(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                           const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->unevaluated = compile_at(c, v, place);
}

static void on_names(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->names = compile_at(c, v, place);
}

static struct weir_str *take_names(struct schema_compiler *c, const struct weir_value *v,
                                   const struct place *place, uint32_t *ret_n)
{
    const struct weir_host *h = compile_host(c);
    if (h->value_type(v) != WEIR_ARRAY) {
        expected(c, place, "an array of names", v);
        return NULL;
    }
    struct weir_str *names = compile_alloc(c, h->value_count(v) * sizeof(*names));
    struct weir_value_iter it = h->value_iter(v);
    uint32_t n = 0;
    for (const struct weir_value *e; names != NULL && (e = h->value_next(&it, NULL)) != NULL; n++) {
        if (h->value_type(e) != WEIR_STRING)
            expected(c, place_index(c, place, n), "a name as a string", e);
        names[n] = h->value_str(e);
    }
    *ret_n = n;
    return names;
}

static void on_required(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                        const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->required = take_names(c, v, place, &s->object->n_required);
}

static void on_min_properties(struct schema_compiler *c, struct schema *s,
                              const struct weir_value *v, const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->min = take_count(c, v, place);
}

static void on_max_properties(struct schema_compiler *c, struct schema *s,
                              const struct weir_value *v, const struct place *place)
{
    if (of_object(c, s) != NULL)
        s->object->max = take_count(c, v, place);
}

/* Both keywords of dependents fill one list; room is made for what comes. */
static void take_dependents(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                            const struct place *place, bool schemas)
{
    const struct weir_host *h = compile_host(c);
    if (!take_object(c, v, place,
                     schemas ? "an object of schemas by name" : "an object of names") ||
        of_object(c, s) == NULL)
        return;
    struct object_rules *o = s->object;
    uint32_t room = o->n_dependents + h->value_count(v);
    struct dependent *all = compile_alloc(c, room * sizeof(*all));
    if (all == NULL)
        return;
    if (o->n_dependents > 0)
        memcpy(all, o->dependents, o->n_dependents * sizeof(*all));
    o->dependents = all;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *e; (e = h->value_next(&it, &key)) != NULL;) {
        struct dependent *d = &all[o->n_dependents++];
        const struct place *at = place_key(c, place, key);
        d->name = key;
        if (schemas)
            d->schema = compile_at(c, e, at);
        else
            d->required = take_names(c, e, at, &d->n);
    }
}

static void on_dependent_required(struct schema_compiler *c, struct schema *s,
                                  const struct weir_value *v, const struct place *place)
{
    take_dependents(c, s, v, place, false);
}

static void on_dependent_schemas(struct schema_compiler *c, struct schema *s,
                                 const struct weir_value *v, const struct place *place)
{
    take_dependents(c, s, v, place, true);
}

static const struct rule rules[] = {
    {"minLength", on_min_length},
    {"maxLength", on_max_length},
    {"pattern", on_pattern},
    {"format", on_format},
    {"minimum", on_minimum},
    {"maximum", on_maximum},
    {"exclusiveMinimum", on_above},
    {"exclusiveMaximum", on_below},
    {"multipleOf", on_multiple_of},
    {"items", on_items},
    {"prefixItems", on_prefix_items},
    {"contains", on_contains},
    {"unevaluatedItems", on_unevaluated_items},
    {"minContains", on_min_contains},
    {"maxContains", on_max_contains},
    {"minItems", on_min_items},
    {"maxItems", on_max_items},
    {"uniqueItems", on_unique_items},
    {"properties", on_properties},
    {"patternProperties", on_pattern_properties},
    {"additionalProperties", on_additional},
    {"unevaluatedProperties", on_unevaluated},
    {"propertyNames", on_names},
    {"required", on_required},
    {"minProperties", on_min_properties},
    {"maxProperties", on_max_properties},
    {"dependentRequired", on_dependent_required},
    {"dependentSchemas", on_dependent_schemas},
};

bool compile_rule(struct schema_compiler *c, struct schema *s, struct weir_str keyword,
                  const struct weir_value *v, const struct place *place)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (!key_is(keyword, rules[i].name))
            continue;
        rules[i].fn(c, s, v, place);
        return true;
    }
    return false;
}

static void check_span(struct schema_compiler *c, const struct place *place, int64_t min,
                       int64_t max, const char *words)
{
    if (min >= 0 && max >= 0 && min > max)
        compile_error(c, place, "%s: %lld and %lld exclude every value", words, (long long)min,
                      (long long)max);
}

void compile_finish(struct schema_compiler *c, struct schema *s)
{
    const struct place *place = s->place;
    if (s->string != NULL)
        check_span(c, place, s->string->min, s->string->max, "minLength and maxLength");
    if (s->object != NULL)
        check_span(c, place, s->object->min, s->object->max, "minProperties and maxProperties");
    if (s->array == NULL)
        return;
    check_span(c, place, s->array->min, s->array->max, "minItems and maxItems");
    check_span(c, place, s->array->min_contains, s->array->max_contains,
               "minContains and maxContains");
    if (s->array->contains == NULL &&
        (s->array->min_contains != NO_LIMIT || s->array->max_contains != NO_LIMIT))
        compile_error(c, place, "minContains and maxContains have no effect without contains");
}
