/* SPDX-License-Identifier: Apache-2.0
 *
 * From JSON to nodes. Every schema in the text gets one node, whether it is reached by its place or
 * by a $ref; nodes are filled from a queue, so that recursion does not grow with the schema.
 * Nothing is ignored: a keyword that is not known, or that could have no effect, is an error.
 */
#include "schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 100000u

struct entry {
    const struct weir_value *json;
    struct schema *schema;
};

/* A schema and the name that it has, or refers to. */
struct named {
    struct named *next;
    struct schema *schema;
    struct weir_str name;
    const struct place *place;
};

struct schema_compiler {
    const struct weir_host *h;
    struct weir_arena *arena;
    const struct schema_report *report;
    const struct weir_value *root;
    struct entry *nodes; /* in the order of their making: the queue */
    uint32_t n_nodes, cap_nodes;
    uint32_t *index; /* places in `nodes` + 1 by the address of their JSON; 0 = free */
    uint32_t mask;
    uint32_t n_errors;
    struct patterns *patterns;
    struct named *anchors, *refs;
};

/* ---- Mistakes, places, memory ---- */

const char *pointer_part(struct weir_str name, char out[2 * POINTER_NAME_MAX + 1])
{
    size_t len = utf8_cut(name.ptr, name.len, POINTER_NAME_MAX), n = 0;
    for (size_t i = 0; i < len; i++) {
        bool special = name.ptr[i] == '~' || name.ptr[i] == '/';
        out[n++] = special ? '~' : name.ptr[i];
        if (special)
            out[n++] = name.ptr[i] == '~' ? '0' : '1';
    }
    out[n] = '\0';
    return out;
}

char *place_text(const struct place *p, bool pointer, char *text, size_t size)
{
    const struct place *parts[VALUE_DEPTH_MAX * 2 + 8];
    char name[2 * POINTER_NAME_MAX + 1];
    size_t n = 0, len = 0;
    for (; p != NULL && n < sizeof(parts) / sizeof(parts[0]); p = p->outer)
        parts[n++] = p;
    text[0] = '\0';
    while (n-- > 0 && len < size) {
        const struct place *part = parts[n];
        int k;
        if (part->key.ptr == NULL)
            k = snprintf(text + len, size - len, pointer ? "/%u" : "[%u]", part->index);
        else if (pointer)
            k = snprintf(text + len, size - len, "/%s", pointer_part(part->key, name));
        else
            k = snprintf(text + len, size - len, "%s%.*s", len > 0 ? "." : "", (int)part->key.len,
                         part->key.ptr);
        len += k > 0 ? (size_t)k : 0;
    }
    return text;
}

void compile_error(struct schema_compiler *c, const struct place *place, const char *fmt, ...)
{
    char text[400], path[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    c->n_errors++;
    if (c->n_errors <= 50)
        c->report->error(c->report->arg, place_text(place, c->report->pointers, path, sizeof(path)),
                         text);
}

const struct weir_host *compile_host(const struct schema_compiler *c)
{
    return c->h;
}

const struct weir_value *compile_root(const struct schema_compiler *c)
{
    return c->root;
}

void *compile_alloc(struct schema_compiler *c, size_t size)
{
    void *p = c->h->arena_alloc(c->arena, size > 0 ? size : 1);
    if (p == NULL)
        compile_error(c, NULL, "no memory for the schema");
    else
        memset(p, 0, size);
    return p;
}

static const struct place *new_place(struct schema_compiler *c, const struct place *outer,
                                     struct weir_str key, uint32_t index)
{
    struct place *p = compile_alloc(c, sizeof(*p));
    if (p != NULL)
        *p = (struct place){outer, key, index};
    return p != NULL ? p : outer;
}

const struct place *place_key(struct schema_compiler *c, const struct place *outer,
                              struct weir_str key)
{
    return new_place(c, outer, weir_str_n(key.ptr != NULL ? key.ptr : "", key.len), 0);
}

const struct place *place_index(struct schema_compiler *c, const struct place *outer, uint32_t i)
{
    return new_place(c, outer, weir_str_n(NULL, 0), i);
}

const struct pattern *compile_pattern(struct schema_compiler *c, const struct place *place,
                                      struct weir_str text)
{
    char why[PATTERN_WHY];
    size_t offset = 0;
    const struct pattern *p = pattern_compile(c->patterns, text, why, &offset);
    if (p == NULL)
        compile_error(c, place, "\"%.*s\" at byte %zu: %s", (int)utf8_cut(text.ptr, text.len, 200),
                      text.ptr != NULL ? text.ptr : "", offset, why);
    return p;
}

void value_describe(const struct weir_host *h, const struct weir_value *v, char *text, size_t size)
{
    char real[40];
    struct weir_str s;
    switch (h->value_type(v)) {
    case WEIR_NULL:
        (void)snprintf(text, size, "null");
        return;
    case WEIR_BOOL:
        (void)snprintf(text, size, h->value_bool(v) ? "true" : "false");
        return;
    case WEIR_INT:
        (void)snprintf(text, size, "%lld", (long long)h->value_int(v));
        return;
    case WEIR_UINT:
        (void)snprintf(text, size, "%llu", (unsigned long long)h->value_uint(v));
        return;
    case WEIR_REAL:
        (void)snprintf(real, sizeof(real), "%.15g", h->value_real(v));
        if (strtod(real, NULL) != h->value_real(v))
            (void)snprintf(real, sizeof(real), "%.17g", h->value_real(v));
        (void)snprintf(text, size, "%s", real);
        return;
    case WEIR_BIGNUM:
        s = h->value_str(v);
        (void)snprintf(text, size, "%.*s%s", (int)(s.len < 60 ? s.len : 60), s.ptr,
                       s.len > 60 ? "..." : "");
        return;
    case WEIR_STRING:
        s = h->value_str(v);
        (void)snprintf(text, size, "the string \"%.*s%s\"", (int)utf8_cut(s.ptr, s.len, 60), s.ptr,
                       s.len > 60 ? "..." : "");
        return;
    case WEIR_ARRAY:
        (void)snprintf(text, size, "an array of %u", h->value_count(v));
        return;
    case WEIR_OBJECT:
        (void)snprintf(text, size, "an object of %u", h->value_count(v));
        return;
    }
}

/* ---- Nodes ---- */

static uint32_t slot_of(const struct schema_compiler *c, const struct weir_value *json)
{
    uint64_t h = (uint64_t)(uintptr_t)json * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t)(h >> 32) & c->mask;
    while (c->index[i] != 0 && c->nodes[c->index[i] - 1].json != json)
        i = (i + 1) & c->mask;
    return i;
}

static bool grow(struct schema_compiler *c)
{
    uint32_t cap = c->cap_nodes == 0 ? 64 : c->cap_nodes * 2;
    struct entry *nodes = compile_alloc(c, cap * sizeof(*nodes));
    uint32_t *index = compile_alloc(c, cap * 2 * sizeof(*index));
    if (nodes == NULL || index == NULL)
        return false;
    if (c->n_nodes > 0)
        memcpy(nodes, c->nodes, c->n_nodes * sizeof(*nodes));
    c->nodes = nodes;
    c->cap_nodes = cap;
    c->index = index;
    c->mask = cap * 2 - 1;
    for (uint32_t i = 0; i < c->n_nodes; i++)
        c->index[slot_of(c, nodes[i].json)] = i + 1;
    return true;
}

struct schema *compile_at(struct schema_compiler *c, const struct weir_value *json,
                          const struct place *place)
{
    enum weir_value_type type = c->h->value_type(json);
    char found[120];
    if (json == NULL || (type != WEIR_OBJECT && type != WEIR_BOOL)) {
        value_describe(c->h, json, found, sizeof(found));
        compile_error(c, place, "a schema must be an object, true or false, found %s", found);
        return NULL;
    }
    if (c->n_nodes == c->cap_nodes && !grow(c))
        return NULL;
    uint32_t at = slot_of(c, json);
    if (c->index[at] != 0)
        return c->nodes[c->index[at] - 1].schema;
    struct schema *s = c->n_nodes < NODES_MAX ? compile_alloc(c, sizeof(*s)) : NULL;
    if (s == NULL) {
        compile_error(c, place, "more than %u schemas in one", NODES_MAX);
        return NULL;
    }
    s->place = place;
    c->nodes[c->n_nodes++] = (struct entry){json, s};
    c->index[at] = c->n_nodes;
    return s;
}

bool compile_list(struct schema_compiler *c, const struct weir_value *v, const struct place *place,
                  struct schema_list *ret)
{
    uint32_t n = c->h->value_count(v);
    if (c->h->value_type(v) != WEIR_ARRAY || n == 0) {
        compile_error(c, place, "expected an array of at least one schema");
        return false;
    }
    ret->items = compile_alloc(c, n * sizeof(struct schema *));
    if (ret->items == NULL)
        return false;
    struct weir_value_iter it = c->h->value_iter(v);
    for (const struct weir_value *e; (e = c->h->value_next(&it, NULL)) != NULL; ret->n++)
        ret->items[ret->n] = compile_at(c, e, place_index(c, place, ret->n));
    return true;
}

/* ---- Anchors ---- */

static struct named *find_name(struct named *list, struct weir_str name)
{
    for (; list != NULL; list = list->next)
        if (list->name.len == name.len && memcmp(list->name.ptr, name.ptr, name.len) == 0)
            return list;
    return NULL;
}

static void add_name(struct schema_compiler *c, struct named **list, struct named value)
{
    struct named *n = compile_alloc(c, sizeof(*n));
    if (n == NULL)
        return;
    *n = value;
    n->next = *list;
    *list = n;
}

void compile_anchor(struct schema_compiler *c, struct schema *s, struct weir_str name,
                    const struct place *place)
{
    if (find_name(c->anchors, name) != NULL)
        compile_error(c, place, "another schema has the $anchor \"%.*s\" as well",
                      (int)utf8_cut(name.ptr, name.len, 100), name.ptr);
    else
        add_name(c, &c->anchors, (struct named){NULL, s, name, place});
}

void compile_ref_later(struct schema_compiler *c, struct schema *s, struct weir_str name,
                       const struct place *place)
{
    add_name(c, &c->refs, (struct named){NULL, s, name, place});
}

/* When all schemas are known. */
static void join_anchors(struct schema_compiler *c)
{
    for (const struct named *n = c->refs; n != NULL; n = n->next) {
        const struct named *to = find_name(c->anchors, n->name);
        if (to == NULL)
            compile_error(c, n->place, "\"#%.*s\": no schema here has this $anchor",
                          (int)utf8_cut(n->name.ptr, n->name.len, 100), n->name.ptr);
        else
            n->schema->ref = to->schema;
    }
}

/* ---- All of it ---- */

static void fill(struct schema_compiler *c, struct schema *s, const struct weir_value *json)
{
    if (c->h->value_type(json) == WEIR_BOOL) {
        s->never = !c->h->value_bool(json);
        return;
    }
    struct weir_value_iter it = c->h->value_iter(json);
    struct weir_str key;
    for (const struct weir_value *v; (v = c->h->value_next(&it, &key)) != NULL;)
        if (c->h->value_get(json, key) == v)
            compile_keyword(c, s, key, v, s->place);
        else
            compile_error(c, place_key(c, s->place, key), "the keyword is there twice");
    if (s->if_ == NULL && (s->then_ != NULL || s->else_ != NULL))
        compile_error(c, s->place, "then and else have no effect without if");
    compile_finish(c, s);
}

/* ---- Schemas that nest on one value ---- */

#define MARK_OPEN 1
#define MARK_DONE 2

static void measure(struct schema_compiler *c, struct schema *s, uint32_t depth);

static void measure_below(struct schema_compiler *c, struct schema *s, struct schema *inner,
                          uint32_t depth)
{
    if (inner == NULL)
        return;
    measure(c, inner, depth + 1);
    if (s->below < inner->below + 1)
        s->below = (uint8_t)(inner->below + 1);
}

static void measure(struct schema_compiler *c, struct schema *s, uint32_t depth)
{
    if (s->mark == MARK_DONE)
        return;
    if (s->mark == MARK_OPEN || depth > SCHEMA_NESTING_MAX) {
        compile_error(
            c, s->place,
            s->mark == MARK_OPEN
                ? "the schema refers to itself without going into the value: it could never "
                  "be decided"
                : "more than 40 schemas nest on one value");
        s->mark = MARK_DONE;
        return;
    }
    s->mark = MARK_OPEN;
    struct schema *inner[] = {s->ref, s->not_, s->if_, s->then_, s->else_};
    const struct schema_list *lists[] = {&s->all_of, &s->any_of, &s->one_of};
    for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
        measure_below(c, s, inner[i], depth);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (uint32_t k = 0; k < lists[i]->n; k++)
            measure_below(c, s, lists[i]->items[k], depth);
    for (uint32_t k = 0; s->object != NULL && k < s->object->n_dependents; k++)
        measure_below(c, s, s->object->dependents[k].schema, depth);
    s->mark = MARK_DONE;
    if (s->below > SCHEMA_NESTING_MAX) {
        s->below = 0;
        compile_error(c, s->place, "more than 40 schemas nest on one value");
    }
}

const struct schema *schema_compile(const struct weir_host *h, struct weir_arena *a,
                                    struct patterns *patterns, const struct weir_value *json,
                                    const struct schema_report *report)
{
    struct schema_compiler c = {
        .h = h, .arena = a, .report = report, .root = json, .patterns = patterns};
    const struct schema *root = compile_at(&c, json, NULL);
    for (uint32_t i = 0; i < c.n_nodes; i++)
        fill(&c, c.nodes[i].schema, c.nodes[i].json);
    join_anchors(&c);
    for (uint32_t i = 0; i < c.n_nodes && c.n_errors == 0; i++)
        measure(&c, c.nodes[i].schema, 0);
    return c.n_errors == 0 ? root : NULL;
}
