/* SPDX-License-Identifier: Apache-2.0
 *
 * The keywords that hold for every value: types, choices, schemas inside schemas, references, and
 * the words that only describe. The others are in schema_rules.c.
 */
#include "schema.h"

#include <string.h>

#define DIALECT "https://json-schema.org/draft/2020-12/schema"

typedef void keyword_fn(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                        const struct place *place);

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
    uint8_t bit =
        compile_host(c)->value_type(v) == WEIR_STRING ? type_bit(compile_host(c)->value_str(v)) : 0;
    s->types |= bit;
    if (bit != 0)
        return;
    value_describe(compile_host(c), v, found, sizeof(found));
    compile_error(c, place,
                  "expected null, boolean, integer, number, string, array or object, found %s",
                  found);
}

static void on_type(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    if (compile_host(c)->value_type(v) != WEIR_ARRAY) {
        one_type(c, s, v, place);
        return;
    }
    struct weir_value_iter it = compile_host(c)->value_iter(v);
    const struct weir_value *e;
    for (uint32_t i = 0; (e = compile_host(c)->value_next(&it, NULL)) != NULL; i++)
        one_type(c, s, e, place_index(c, place, i));
    if (compile_host(c)->value_count(v) == 0)
        compile_error(c, place, "expected at least one type");
}

static void on_enum(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                    const struct place *place)
{
    s->choices = v;
    if (compile_host(c)->value_type(v) != WEIR_ARRAY || compile_host(c)->value_count(v) == 0)
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
    if (compile_host(c)->value_type(v) != WEIR_OBJECT) {
        compile_error(c, place, "expected an object of schemas");
        return;
    }
    struct weir_value_iter it = compile_host(c)->value_iter(v);
    struct weir_str key;
    for (const struct weir_value *e; (e = compile_host(c)->value_next(&it, &key)) != NULL;)
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
        out[n] = *p;
        if (escape)
            out[n] = (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
        n++;
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
    const struct weir_value *v = compile_root(c);
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
        bool array = compile_host(c)->value_type(v) == WEIR_ARRAY;
        uint32_t index = 0;
        v = step_into(compile_host(c), v, key, &index);
        place = array ? place_index(c, place, index) : place_key(c, place, key);
        p = to;
    }
    *ret_place = place;
    return v;
}

static void on_ref(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                   const struct place *place)
{
    struct weir_str ref = compile_host(c)->value_str(v);
    const struct place *to = NULL;
    if (compile_host(c)->value_type(v) != WEIR_STRING || ref.len == 0 || ref.ptr[0] != '#') {
        compile_error(c, place,
                      "only references inside this schema are supported: \"#\", \"#/$defs/name\" "
                      "or \"#anchor\"");
        return;
    }
    if (ref.len > 1 && ref.ptr[1] != '/') {
        compile_ref_later(c, s, weir_str_n(ref.ptr + 1, ref.len - 1), place);
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

static bool is_anchor(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool first = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_';
        if (!first && (i == 0 || ((ch < '0' || ch > '9') && ch != '-' && ch != '.')))
            return false;
    }
    return name.len > 0;
}

static void on_anchor(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                      const struct place *place)
{
    struct weir_str name = compile_host(c)->value_str(v);
    if (compile_host(c)->value_type(v) != WEIR_STRING || !is_anchor(name))
        compile_error(c, place,
                      "expected a name that begins with a letter or _ and goes on with letters, "
                      "digits, - _ and .");
    else
        compile_anchor(c, s, name, place);
}

/* ---- Words about the schema ---- */

static void on_dialect(struct schema_compiler *c, struct schema *s, const struct weir_value *v,
                       const struct place *place)
{
    struct weir_str uri = compile_host(c)->value_str(v);
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
    if (compile_host(c)->value_type(v) != WEIR_STRING)
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
    {"$anchor", on_anchor},
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
    {"unevaluatedProperties", NULL},
    {"propertyNames", NULL},
    {"required", NULL},
    {"minProperties", NULL},
    {"maxProperties", NULL},
    {"dependentRequired", NULL},
    {"dependentSchemas", NULL},
    {"items", NULL},
    {"prefixItems", NULL},
    {"unevaluatedItems", NULL},
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

void compile_keyword(struct schema_compiler *c, struct schema *s, struct weir_str key,
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
