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
#define DIALECT "https://json-schema.org/draft/2020-12/schema"

struct entry {
    const struct weir_value *json;
    struct schema *schema;
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
    uint32_t regex_states;
};

typedef void keyword_fn(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                        const struct place *place);

/* ---- Mistakes, places, memory ---- */

char *place_text(const struct place *p, bool pointer, char *text, size_t size)
{
    const struct place *parts[VALUE_DEPTH_MAX * 2 + 8];
    size_t n = 0, len = 0;
    for (; p != NULL && n < sizeof(parts) / sizeof(parts[0]); p = p->outer)
        parts[n++] = p;
    text[0] = '\0';
    while (n-- > 0 && len < size) {
        const struct place *part = parts[n];
        int k;
        if (part->key.ptr == NULL)
            k = snprintf(text + len, size - len, pointer ? "/%u" : "[%u]", part->index);
        else
            k = snprintf(text + len, size - len, "%s%.*s",
                         pointer   ? "/"
                         : len > 0 ? "."
                                   : "",
                         (int)part->key.len, part->key.ptr);
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

struct regex *compile_pattern(struct schema_compiler *c, const struct place *place,
                              struct weir_str text)
{
    const char *why = NULL;
    size_t offset = 0;
    struct regex *re = regex_compile(c->h, c->arena, text, &why, &offset);
    if (re == NULL) {
        compile_error(c, place, "\"%.*s\" at byte %zu: %s", (int)(text.len < 200 ? text.len : 200),
                      text.ptr, offset, why);
        return NULL;
    }
    if (regex_states(re) > c->regex_states)
        c->regex_states = regex_states(re);
    return re;
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

/* ---- Keywords of every value ---- */

static uint8_t type_bit(struct weir_str name)
{
    static const struct {
        const char *name;
        uint8_t bit;
    } types[] = {{"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER},
                 {"number", TYPE_NUMBER}, {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strlen(types[i].name) == name.len && memcmp(types[i].name, name.ptr, name.len) == 0)
            return types[i].bit;
    return 0;
}

static void one_type(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    char found[120];
    uint8_t bit = c->h->value_type(v) == WEIR_STRING ? type_bit(c->h->value_str(v)) : 0;
    s->types |= bit;
    if (bit != 0)
        return;
    value_describe(c->h, v, found, sizeof(found));
    compile_error(c, place,
                  "expected null, boolean, integer, number, string, array or object, found %s",
                  found);
}

static void on_type(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    if (c->h->value_type(v) != WEIR_ARRAY) {
        one_type(c, s, v, place);
        return;
    }
    struct weir_value_iter it = c->h->value_iter(v);
    const struct weir_value *e;
    for (uint32_t i = 0; (e = c->h->value_next(&it, NULL)) != NULL; i++)
        one_type(c, s, e, place_index(c, place, i));
    if (c->h->value_count(v) == 0)
        compile_error(c, place, "expected at least one type");
}

static void on_enum(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    s->choices = v;
    if (c->h->value_type(v) != WEIR_ARRAY || c->h->value_count(v) == 0)
        compile_error(c, place, "expected an array of at least one value");
}

static void on_const(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                     const struct place *place)
{
    (void)c;
    (void)place;
    s->constant = v;
}

static void on_all_of(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                      const struct place *place)
{
    (void)compile_list(c, v, place, &s->all_of);
}

static void on_any_of(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                      const struct place *place)
{
    (void)compile_list(c, v, place, &s->any_of);
}

static void on_one_of(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                      const struct place *place)
{
    (void)compile_list(c, v, place, &s->one_of);
}

static void on_not(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                   const struct place *place)
{
    s->not_ = compile_at(c, v, place);
}

static void on_if(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                  const struct place *place)
{
    s->if_ = compile_at(c, v, place);
}

static void on_then(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    s->then_ = compile_at(c, v, place);
}

static void on_else(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    s->else_ = compile_at(c, v, place);
}

/* Schemas that are only there to be referred to: made all the same, so that mistakes show. */
static void on_defs(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    (void)s;
    if (c->h->value_type(v) != WEIR_OBJECT) {
        compile_error(c, place, "expected an object of schemas");
        return;
    }
    struct weir_value_iter it = c->h->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *e; (e = c->h->value_next(&it, &key)) != NULL;)
        (void)compile_at(c, e, place_key(c, place, key));
}

/* ---- References ---- */

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F')
        return ch - 'A' + 10;
    return -1;
}

/* One part of a JSON pointer in a fragment: %XX, then ~0 and ~1. `out` has room for all of it. */
static size_t unescape(const char *p, const char *end, char *out)
{
    size_t n = 0, k = 0;
    for (; p < end; p++) {
        bool escape = *p == '%' && end - p > 2 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0;
        out[n++] = escape ? (char)(hex_digit(p[1]) << 4 | hex_digit(p[2])) : *p;
        p += escape ? 2 : 0;
    }
    for (size_t i = 0; i < n; i++) {
        bool tilde = out[i] == '~' && i + 1 < n && (out[i + 1] == '0' || out[i + 1] == '1');
        out[k++] = tilde ? (out[i + 1] == '0' ? '~' : '/') : out[i];
        i += tilde ? 1 : 0;
    }
    return k;
}

static const struct weir_value *step_into(const struct weir_host *h, const struct weir_value *v,
                                          struct weir_str name, uint32_t *ret_index)
{
    uint32_t index = 0;
    if (h->value_type(v) == WEIR_OBJECT)
        return h->value_get(v, name);
    if (h->value_type(v) != WEIR_ARRAY || name.len == 0 || name.len > 7)
        return NULL;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '0' || name.ptr[i] > '9')
            return NULL;
        index = index * 10 + (uint32_t)(name.ptr[i] - '0');
    }
    *ret_index = index;
    return h->value_at(v, index);
}

/* Finds #/a/b in the root; *ret_place becomes its place. */
static const struct weir_value *resolve(struct schema_compiler *c, struct weir_str ref,
                                        const struct place **ret_place)
{
    const struct weir_value *v = c->root;
    const struct place *place = NULL;
    const char *p = ref.ptr + 1, *end = ref.ptr + ref.len;
    while (p < end && v != NULL) {
        const char *from = p + 1;
        const char *to = from < end ? memchr(from, '/', (size_t)(end - from)) : NULL;
        if (to == NULL)
            to = end;
        char *name = compile_alloc(c, (size_t)(to - from) + 1);
        if (name == NULL)
            return NULL;
        struct weir_str key = weir_str_n(name, unescape(from, to, name));
        bool array = c->h->value_type(v) == WEIR_ARRAY;
        uint32_t index = 0;
        v = step_into(c->h, v, key, &index);
        place = array ? place_index(c, place, index) : place_key(c, place, key);
        p = to;
    }
    *ret_place = place;
    return v;
}

static void on_ref(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                   const struct place *place)
{
    struct weir_str ref = c->h->value_str(v);
    const struct place *to = NULL;
    if (c->h->value_type(v) != WEIR_STRING || ref.len == 0 || ref.ptr[0] != '#' ||
        (ref.len > 1 && ref.ptr[1] != '/')) {
        compile_error(
            c, place,
            "only references inside this schema are supported: \"#\" or \"#/$defs/name\"");
        return;
    }
    const struct weir_value *target = resolve(c, ref, &to);
    if (target == NULL) {
        compile_error(c, place, "\"%.*s\" leads nowhere in this schema",
                      (int)utf8_cut(ref.ptr, ref.len, 200), ref.ptr);
        return;
    }
    s->ref = compile_at(c, target, to);
}

/* ---- Words about the schema ---- */

static void on_dialect(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                       const struct place *place)
{
    struct weir_str uri = c->h->value_str(v);
    (void)s;
    if (uri.len > 0 && uri.ptr[uri.len - 1] == '#')
        uri.len--;
    if (uri.len != strlen(DIALECT) || memcmp(uri.ptr, DIALECT, uri.len) != 0)
        compile_error(c, place, "only draft 2020-12 is supported: expected \"%s\"", DIALECT);
}

static void on_id(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                  const struct place *place)
{
    (void)s;
    if (c->h->value_type(v) != WEIR_STRING)
        compile_error(c, place, "expected a string");
    if (place != NULL && place->outer != NULL)
        compile_error(c, place,
                      "$id is supported at the top only, since it changes what $ref means");
}

static void on_annotation(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                          const struct place *place)
{
    (void)c;
    (void)s;
    (void)v;
    (void)place;
}

static const struct {
    const char *name;
    keyword_fn *fn; /* NULL: in schema_rules.c, here for the nearest word */
} keywords[] = {
    {"type", on_type},
    {"enum", on_enum},
    {"const", on_const},
    {"allOf", on_all_of},
    {"anyOf", on_any_of},
    {"oneOf", on_one_of},
    {"not", on_not},
    {"if", on_if},
    {"then", on_then},
    {"else", on_else},
    {"$ref", on_ref},
    {"$defs", on_defs},
    {"definitions", on_defs},
    {"$schema", on_dialect},
    {"$id", on_id},
    {"$comment", on_annotation},
    {"title", on_annotation},
    {"description", on_annotation},
    {"default", on_annotation},
    {"examples", on_annotation},
    {"deprecated", on_annotation},
    {"readOnly", on_annotation},
    {"writeOnly", on_annotation},
    {"properties", NULL},
    {"patternProperties", NULL},
    {"additionalProperties", NULL},
    {"propertyNames", NULL},
    {"required", NULL},
    {"minProperties", NULL},
    {"maxProperties", NULL},
    {"dependentRequired", NULL},
    {"dependentSchemas", NULL},
    {"items", NULL},
    {"prefixItems", NULL},
    {"contains", NULL},
    {"minContains", NULL},
    {"maxContains", NULL},
    {"minItems", NULL},
    {"maxItems", NULL},
    {"uniqueItems", NULL},
    {"minLength", NULL},
    {"maxLength", NULL},
    {"pattern", NULL},
    {"format", NULL},
    {"minimum", NULL},
    {"maximum", NULL},
    {"exclusiveMinimum", NULL},
    {"exclusiveMaximum", NULL},
    {"multipleOf", NULL},
};

/* Edits from one word to the other, case not counted; at most 32 letters are compared. */
static uint32_t distance(struct weir_str a, const char *b)
{
    uint32_t row[33];
    size_t m = strlen(b);
    if (a.len > 32 || m > 32)
        return UINT32_MAX;
    for (uint32_t k = 0; k <= m; k++)
        row[k] = k;
    for (size_t i = 0; i < a.len; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i + 1;
        for (size_t k = 0; k < m; k++) {
            uint32_t cost = diagonal + ((a.ptr[i] | 0x20) != (b[k] | 0x20));
            diagonal = row[k + 1];
            uint32_t best = row[k] < row[k + 1] ? row[k] + 1 : row[k + 1] + 1;
            row[k + 1] = cost < best ? cost : best;
        }
    }
    return row[m];
}

static void unknown_keyword(struct schema_compiler *c, struct weir_str key,
                            const struct place *place)
{
    const char *nearest = NULL;
    uint32_t best = (uint32_t)(key.len / 3) + 1;
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        uint32_t d = distance(key, keywords[i].name);
        if (d < best) {
            best = d;
            nearest = keywords[i].name;
        }
    }
    compile_error(c, place, "keyword \"%.*s\" is not supported%s%s%s",
                  (int)utf8_cut(key.ptr, key.len, 60), key.ptr,
                  nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "\"?" : "");
}

static void take_keyword(struct schema_compiler *c, struct schema *s, struct weir_str key,
                         const struct weir_value *v, const struct place *outer)
{
    const struct place *place = place_key(c, outer, key);
    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        if (keywords[i].fn == NULL || strlen(keywords[i].name) != key.len ||
            memcmp(keywords[i].name, key.ptr, key.len) != 0)
            continue;
        keywords[i].fn(c, s, v, place);
        return;
    }
    if (!compile_rule(c, s, key, v, place))
        unknown_keyword(c, key, place);
}

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
            take_keyword(c, s, key, v, s->place);
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

bool schema_compile(const struct weir_host *h, struct weir_arena *a, const struct weir_value *json,
                    const struct schema_report *report, struct compiled *ret)
{
    struct schema_compiler c = {.h = h, .arena = a, .report = report, .root = json};
    ret->root = compile_at(&c, json, NULL);
    for (uint32_t i = 0; i < c.n_nodes; i++)
        fill(&c, c.nodes[i].schema, c.nodes[i].json);
    for (uint32_t i = 0; i < c.n_nodes && c.n_errors == 0; i++)
        measure(&c, c.nodes[i].schema, 0);
    ret->regex_states = c.regex_states;
    return c.n_errors == 0 && ret->root != NULL;
}
