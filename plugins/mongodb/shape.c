/* SPDX-License-Identifier: Apache-2.0
 *
 * A document of the file becomes a tree once, the tree becomes BSON for each event.
 */
#include "shape.h"
#include "../common/text.h"
#include "typed.h"

#include <stdio.h>
#include <stdlib.h>

enum shape_kind { SHAPE_VALUE, SHAPE_TEMPLATE, SHAPE_TYPED, SHAPE_OBJECT, SHAPE_ARRAY };

struct member {
    struct weir_str key;
    struct weir_template *key_template; /* NULL: the key is literal */
    size_t key_dots;                    /* of its literal text */
    struct shape *shape;
};

struct shape {
    enum shape_kind kind;
    enum doc_type type;             /* TYPED */
    bool quoted;                    /* TEMPLATE in an expression: as {$literal: ...} */
    const struct weir_value *value; /* VALUE; of TYPED where the text is literal */
    struct weir_template *template;
    struct member *members;
    uint32_t n;
};

/* What the server takes a text for. */
enum place {
    PLACE_VALUE,
    PLACE_EXPRESSION, /* a field where it begins with $ */
    PLACE_CODE,       /* JavaScript */
    PLACE_NAME        /* a field's name */
};

struct compiler {
    const struct weir_host *h;
    struct weir_arena *a;
    enum place place;
    struct shape_mistake *mistake;
};

/* ---- Compiling ---- */

static struct shape *wrong(struct compiler *c, int64_t offset, const char *text)
{
    if (c->mistake->text[0] != '\0')
        return NULL;
    (void)snprintf(c->mistake->text, sizeof(c->mistake->text), "%.290s", text);
    c->mistake->offset = offset;
    c->mistake->path[0] = '\0';
    return NULL;
}

/* Puts a step in front of the path of the mistake. */
static struct shape *wrong_inside(struct compiler *c, const char *before, struct weir_str name,
                                  const char *behind)
{
    char path[sizeof(c->mistake->path)];
    int len = name.len < 60 ? (int)name.len : 60;
    (void)snprintf(path, sizeof(path), "%s%.*s%s%.100s", before, len, name.ptr, behind,
                   c->mistake->path);
    memcpy(c->mistake->path, path, sizeof(path));
    return NULL;
}

static struct shape *compile(struct compiler *c, const struct weir_value *v);

static struct weir_template *compile_text(struct compiler *c, struct weir_str text)
{
    struct weir_error err = {.offset = -1};
    struct weir_template *t = c->h->template_compile(c->a, text, &err);
    if (t == NULL)
        (void)wrong(c, err.offset, err.text);
    return t;
}

/* A text with placeholders. */
static struct shape *check_place(struct compiler *c, struct shape *s)
{
    if (c->place == PLACE_CODE)
        return wrong(c, -1,
                     "a placeholder in code would let events bring code of their own: compare "
                     "fields by operators");
    if (c->place == PLACE_NAME)
        return wrong(c, -1,
                     "a placeholder here would let events choose any field: write the new name "
                     "in the file");
    return s;
}

static struct shape *compile_string(struct compiler *c, struct shape *s, struct weir_str text)
{
    struct weir_str literal;
    s->template = compile_text(c, text);
    if (s->template == NULL)
        return NULL;
    s->kind = SHAPE_TEMPLATE;
    s->quoted = c->place == PLACE_EXPRESSION;
    s->value = NULL;
    if (!c->h->template_is_literal(s->template, &literal))
        return check_place(c, s);
    s->kind = SHAPE_VALUE;
    s->value = c->h->make_str(c->a, literal);
    return s->value != NULL ? s : wrong(c, -1, "no memory, or no UTF-8");
}

static size_t count_dots(struct weir_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '.' ? 1 : 0;
    return n;
}

/* Dots outside of the braces: those inside are paths of fields. */
static size_t literal_dots(struct weir_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *end = i + 1 < text.len && memcmp(text.ptr + i, "{{", 2) == 0
                              ? memmem(text.ptr + i, text.len - i, "}}", 2)
                              : NULL;
        if (end != NULL)
            i = (size_t)(end - text.ptr) + 1;
        else
            n += text.ptr[i] == '.' ? 1 : 0;
    }
    return n;
}

static bool compile_key(struct compiler *c, struct member *m)
{
    struct weir_str literal;
    if (m->key.len > 0 && memchr(m->key.ptr, 0, m->key.len) != NULL)
        return wrong(c, -1, "a name holds a NUL character, which BSON cannot store") != NULL;
    if (memmem(m->key.ptr, m->key.len, "{{", 2) == NULL)
        return true;
    struct weir_template *t = compile_text(c, m->key);
    if (t == NULL)
        return false;
    m->key_dots = literal_dots(m->key);
    if (c->h->template_is_literal(t, &literal)) {
        m->key = literal;
        return true;
    }
    struct weir_str prefix = c->h->template_prefix(t);
    if (prefix.len == 0 || prefix.ptr[0] == '$')
        return wrong(c, -1,
                     "a name with a placeholder must begin with literal text that is no operator, "
                     "such as counts.{{ type }}, so that no event can choose any field") != NULL;
    m->key_template = t;
    return true;
}

static bool is_word(struct weir_str key, const char *word)
{
    return key.ptr != NULL && strlen(word) == key.len && memcmp(word, key.ptr, key.len) == 0;
}

/* What texts below this name are. */
static enum place place_below(enum place outer, struct weir_str name)
{
    if (is_word(name, "$where") || is_word(name, "$function"))
        return PLACE_CODE;
    if (is_word(name, "$expr") || (outer == PLACE_CODE && is_word(name, "args")))
        return PLACE_EXPRESSION;
    if (outer == PLACE_EXPRESSION && is_word(name, "$literal"))
        return PLACE_VALUE; /* the file has quoted it already */
    return is_word(name, "$rename") ? PLACE_NAME : outer;
}

static struct shape *compile_members(struct compiler *c, struct shape *s,
                                     const struct weir_value *v)
{
    struct weir_value_iter it = c->h->value_iter(v);
    const struct weir_value *e;
    const enum place outer = c->place;
    s->n = c->h->value_count(v);
    s->members = c->h->arena_alloc(c->a, (s->n + 1) * sizeof(*s->members));
    if (s->members == NULL)
        return wrong(c, -1, "no memory");
    for (uint32_t i = 0; i < s->n; i++) {
        struct member *m = &s->members[i];
        *m = (struct member){0};
        e = c->h->value_next(&it, s->kind == SHAPE_OBJECT ? &m->key : NULL);
        if (s->kind == SHAPE_OBJECT && !compile_key(c, m))
            return wrong_inside(c, ".", m->key, "");
        c->place = place_below(outer, m->key);
        m->shape = compile(c, e);
        c->place = outer;
        if (m->shape == NULL && s->kind == SHAPE_OBJECT)
            return wrong_inside(c, ".", m->key, "");
        if (m->shape == NULL) {
            char index[12];
            return wrong_inside(c, "[", put_index(index, i), "]");
        }
    }
    return s;
}

/* {$oid: "..."} and its like: the inner text takes the place of the object. */
static struct shape *compile_typed(struct compiler *c, const struct weir_value *v,
                                   enum doc_type type, struct weir_str key)
{
    struct weir_value_iter it = c->h->value_iter(v);
    struct shape *s = compile(c, c->h->value_next(&it, NULL));
    if (s == NULL)
        return wrong_inside(c, ".", key, "");
    if (s->kind != SHAPE_VALUE && s->kind != SHAPE_TEMPLATE)
        return wrong(c, -1, "expected a text or a placeholder");
    s->kind = SHAPE_TYPED;
    s->type = type;
    return s;
}

static struct shape *compile(struct compiler *c, const struct weir_value *v)
{
    enum weir_value_type type = c->h->value_type(v);
    if (type == WEIR_OBJECT && c->h->value_count(v) == 1) {
        struct weir_str key;
        struct weir_value_iter it = c->h->value_iter(v);
        (void)c->h->value_next(&it, &key);
        enum doc_type wrapper = typed_of_wrapper(key);
        if (wrapper != TYPE_PLAIN)
            return compile_typed(c, v, wrapper, key);
    }
    struct shape *s = c->h->arena_alloc(c->a, sizeof(*s));
    if (s == NULL)
        return wrong(c, -1, "no memory");
    *s = (struct shape){.kind = SHAPE_VALUE, .value = v};
    if (type == WEIR_STRING)
        return compile_string(c, s, c->h->value_str(v));
    if (type != WEIR_OBJECT && type != WEIR_ARRAY)
        return s;
    s->kind = type == WEIR_OBJECT ? SHAPE_OBJECT : SHAPE_ARRAY;
    return compile_members(c, s, v);
}

struct shape *shape_compile(const struct weir_host *h, struct weir_arena *a,
                            const struct weir_value *v, bool pipeline, struct shape_mistake *ret)
{
    struct compiler c = {h, a, pipeline ? PLACE_EXPRESSION : PLACE_VALUE, ret};
    *ret = (struct shape_mistake){.offset = -1};
    if (!WEIR_HOST_HAS(h, template_compile))
        return wrong(&c, -1, "this weir is too old for placeholders in documents");
    return compile(&c, v);
}

/* ---- Writing ---- */

/* A name with $ in front would be an operator. */
static bool check_plain(struct doc_writer *w, const struct weir_value *v)
{
    enum weir_value_type type = w->h->value_type(v);
    struct weir_value_iter it = w->h->value_iter(v);
    struct weir_str key = {NULL, 0};
    const struct weir_value *e;
    if (type != WEIR_OBJECT && type != WEIR_ARRAY)
        return true;
    while ((e = w->h->value_next(&it, type == WEIR_OBJECT ? &key : NULL)) != NULL) {
        if (key.len > 0 && key.ptr[0] == '$')
            return put_fail(w, "operator",
                            "the placeholder gives an object with the name %.*s, which would be an "
                            "operator; operators come from the pipeline file only",
                            (int)utf8_cut(key.ptr, key.len, 40), key.ptr);
        if (!check_plain(w, e))
            return false;
    }
    return true;
}

static bool put_rendered(struct doc_writer *w, const struct shape *s, struct weir_str key,
                         const struct shape_event *e)
{
    const struct weir_host *h = w->h;
    struct weir_error err = {0};
    const struct weir_value *v = h->template_value(h, s->template, e->b, e->ev);
    if (v != NULL && s->kind == SHAPE_TYPED)
        return typed_put(w, s->type, key, v);
    if (v != NULL)
        return check_plain(w, v) && doc_put_value(w, key, v);
    struct weir_str text = h->template_render(h, s->template, e->b, e->ev, w->scratch, &err);
    if (text.ptr == NULL)
        return put_fail(w, "no_field", "%.200s", err.text);
    if (s->kind != SHAPE_TYPED)
        return put_string(w, key, text);
    v = h->make_str(w->scratch, text);
    return v != NULL ? typed_put(w, s->type, key, v)
                     : put_fail(w, "no_memory", "no memory for a text");
}

static bool put_literal(struct doc_writer *w, const struct shape *s, struct weir_str key,
                        const struct shape_event *e)
{
    size_t at;
    if (!s->quoted || s->kind == SHAPE_TYPED)
        return put_rendered(w, s, key, e);
    return put_head(w, BSON_OBJECT, key, 0) != NULL && put_open(w, &at) &&
           put_rendered(w, s, weir_str_n("$literal", 8), e) && put_close(w, at);
}

static bool render_key(struct doc_writer *w, const struct member *m, const struct shape_event *e,
                       struct weir_str *ret)
{
    struct weir_error err = {0};
    *ret = m->key;
    if (m->key_template == NULL)
        return true;
    *ret = w->h->template_render(w->h, m->key_template, e->b, e->ev, w->scratch, &err);
    if (ret->ptr == NULL) {
        *ret = m->key;
        return put_fail(w, "no_field", "%.200s", err.text);
    }
    if (count_dots(*ret) != m->key_dots || memchr(ret->ptr, 0, ret->len) != NULL ||
        ret->ptr[ret->len - 1] == '.' || memmem(ret->ptr, ret->len, "..", 2) != NULL ||
        memmem(ret->ptr, ret->len, ".$", 2) != NULL) {
        *ret = m->key;
        return put_fail(w, "bad_key",
                        "what its placeholder gives is empty, or holds a dot, NUL or a $ in front, "
                        "and would lead to another field");
    }
    return true;
}

static bool put_shapes(struct doc_writer *w, const struct shape *s, const struct shape_event *e)
{
    for (uint32_t i = 0; i < s->n; i++) {
        char index[12];
        struct weir_str key = put_index(index, i);
        if (s->kind == SHAPE_OBJECT && !render_key(w, &s->members[i], e, &key))
            return put_fail_inside(w, key);
        if (!shape_put(w, s->members[i].shape, key, e))
            return put_fail_inside(w, key);
    }
    return true;
}

bool shape_put(struct doc_writer *w, const struct shape *s, struct weir_str key,
               const struct shape_event *e)
{
    size_t at;
    switch (s->kind) {
    case SHAPE_VALUE:
        return doc_put_value(w, key, s->value);
    case SHAPE_TYPED:
    case SHAPE_TEMPLATE:
        return s->value != NULL ? typed_put(w, s->type, key, s->value) : put_literal(w, s, key, e);
    case SHAPE_OBJECT:
    case SHAPE_ARRAY:
        return put_head(w, s->kind == SHAPE_OBJECT ? BSON_OBJECT : BSON_ARRAY, key, 0) != NULL &&
               put_open(w, &at) && put_shapes(w, s, e) && put_close(w, at);
    }
    return false;
}

bool shape_put_document(struct doc_writer *w, const struct shape *s, const struct shape_event *e)
{
    size_t at;
    return put_open(w, &at) && put_shapes(w, s, e) && put_close(w, at);
}
