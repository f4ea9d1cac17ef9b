/* SPDX-License-Identifier: Apache-2.0
 *
 * model/options_scalar.c: reads one value of an option: numbers, words, texts, paths, templates,
 * conditions and whole JSON values.
 */
#include <base/str.h>
#include <model/options.h>
#include <model/template.h>
#include <model/units.h>
#include <model/value.h>
#include <stdio.h>

/* What is read at the moment. */
struct scalar {
    struct wr_binder *b;
    const struct weir_option *o;
    enum weir_option_type type;
    const struct wr_node *n;
    const struct wr_path *path;
};

static bool is_secret(const struct scalar *s)
{
    return (s->o->flags & WEIR_OPT_SECRET) != 0;
}

static bool fail(const struct scalar *s, const char *code, const char *message, const char *hint)
{
    struct wr_buf expected = {0};

    wr_option_describe(&expected, s->o, s->type);
    wr_bind_error(s->b, code, s->n->pos, s->path,
                  &(struct wr_diag){.message = weir_cstr(message),
                                    .expected = wr_buf_view(&expected),
                                    .found = wr_node_found(s->b->arena, s->n, is_secret(s)),
                                    .hint = weir_cstr(hint)});
    wr_buf_done(&expected);
    return false;
}

static bool wrong_type(const struct scalar *s, const char *hint)
{
    return fail(s, "wrong-type", "the value has the wrong type", hint);
}

static bool in_range(const struct scalar *s, bool below, bool above)
{
    bool any = s->o->min != 0 || s->o->max != 0, upper = s->o->max >= s->o->min;

    if (!any || (!below && !(above && upper)))
        return true;
    return fail(s, "out-of-range", below ? "the value is too small" : "the value is too large",
                NULL);
}

static bool whole_in_range(const struct scalar *s, int64_t v)
{
    return in_range(s, v<s->o->min, v> s->o->max);
}

static bool read_bool(const struct scalar *s, bool *dst)
{
    static const char *const yes[] = {"yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
    static const char *const no[] = {"no", "No", "NO", "off", "Off", "OFF", "n", "N"};
    const char *hint = NULL;

    if (wr_scalar_type(s->n) == WR_SCALAR_BOOL) {
        *dst = (s->n->text.ptr[0] | 0x20) == 't';
        return true;
    }
    for (size_t i = 0; i < 8 && s->n->style == WR_STYLE_PLAIN; i++) {
        if (wr_str_is(s->n->text, yes[i]))
            hint = "write true";
        else if (wr_str_is(s->n->text, no[i]))
            hint = "write false";
    }
    if (wr_str_is(s->n->text, "true") || wr_str_is(s->n->text, "false"))
        hint = "take the quotes away";
    return wrong_type(s, hint);
}

static bool read_int(const struct scalar *s, int64_t *dst)
{
    int64_t v;

    if (wr_scalar_type(s->n) != WR_SCALAR_INT)
        return wrong_type(s, s->n->style != WR_STYLE_PLAIN && wr_read_int(s->n->text, &v)
                                 ? "take the quotes away"
                                 : NULL);
    if (!wr_read_int(s->n->text, &v))
        return fail(s, "bad-number", "the number does not fit 64 bits", NULL);
    if (!whole_in_range(s, v))
        return false;
    *dst = v;
    return true;
}

static bool read_float(const struct scalar *s, double *dst)
{
    enum wr_scalar_type type = wr_scalar_type(s->n);
    int64_t whole;
    double v;

    if (type != WR_SCALAR_INT && type != WR_SCALAR_FLOAT)
        return wrong_type(s, s->n->style != WR_STYLE_PLAIN && wr_read_float(s->n->text, &v)
                                 ? "take the quotes away"
                                 : NULL);
    if (wr_read_int(s->n->text, &whole))
        v = (double)whole;
    else if (!wr_read_float(s->n->text, &v))
        return fail(s, "bad-number", "the number cannot be used", NULL);
    if (!in_range(s, v<(double)s->o->min, v>(double) s->o->max))
        return false;
    *dst = v;
    return true;
}

static bool read_unit(const struct scalar *s, int64_t *dst)
{
    bool duration = s->type == WEIR_OPT_DURATION;
    struct weir_str text = s->n->text;
    int64_t v;

    if (wr_scalar_type(s->n) == WR_SCALAR_NULL)
        return wrong_type(s, NULL);
    if (!(duration ? wr_read_duration(text, &v) : wr_read_size(text, &v))) {
        const char *hint = NULL;
        if (duration && wr_read_float(text, &(double){0}) && text.ptr[0] != '-' && !is_secret(s))
            hint = wr_arena_xprintf(s->b->arena, "did you mean %.*ss?", WR_STR(text)).ptr;
        return fail(s, duration ? "bad-duration" : "bad-size",
                    duration ? "the duration cannot be read" : "the size cannot be read", hint);
    }
    if (!whole_in_range(s, v))
        return false;
    *dst = v;
    return true;
}

static bool read_enum(const struct scalar *s, int *dst)
{
    const char *nearest;
    uint32_t n = 0;

    for (; s->o->choices != NULL && s->o->choices[n] != NULL; n++) {
        if (wr_str_is(s->n->text, s->o->choices[n])) {
            *dst = (int)n;
            return true;
        }
    }
    nearest = wr_nearest_word(s->n->text, s->o->choices, n);
    return fail(s, "bad-choice", "the option does not know this word",
                nearest ? wr_arena_xprintf(s->b->arena, "did you mean \"%s\"?", nearest).ptr
                        : NULL);
}

/* The text of anything but null; what interpolation left empty is text, too. */
static bool read_text(const struct scalar *s, struct weir_str *ret)
{
    if (wr_scalar_type(s->n) == WR_SCALAR_NULL && s->n->n_segments == 0 && !s->b->in_default)
        return wrong_type(s, s->n->text.len > 0 ? "put quotes round the word if it is meant as text"
                                                : "write \"\" for an empty text");
    if (s->n->text.len == 0 && (s->o->flags & WEIR_OPT_NONEMPTY))
        return fail(s, "empty-value", "the text must not be empty", NULL);
    if (memchr(s->n->text.ptr, '\0', s->n->text.len) != NULL)
        return fail(s, "bad-text", "the text holds a NUL character", NULL);
    *ret = s->n->text;
    return true;
}

static bool read_string(const struct scalar *s, struct weir_str *dst)
{
    struct weir_str text;

    if (!read_text(s, &text))
        return false;
    *dst = wr_arena_xcopy(s->b->arena, text);
    return true;
}

static void note_content(const struct scalar *s, struct weir_str path)
{
    if ((s->o->flags & WEIR_OPT_CONTENT) == 0 || path.len == 0 || wr_str_is(path, "-"))
        return;
    struct wr_content_file *file = wr_arena_xalloc(s->b->arena, sizeof(*file));
    *file = (struct wr_content_file){s->b->files, path, (s->o->flags & WEIR_OPT_MODULES) != 0};
    s->b->files = file;
}

static bool read_path(const struct scalar *s, struct weir_str *dst)
{
    struct weir_str text;

    if (!read_text(s, &text))
        return false;
    if (text.len == 0 || text.ptr[0] == '/' || wr_str_is(text, "-")) {
        *dst = wr_arena_xcopy(s->b->arena, text);
        note_content(s, *dst);
        return true;
    }
    while (text.len > 2 && text.ptr[0] == '.' && text.ptr[1] == '/')
        text = weir_str_n(text.ptr + 2, text.len - 2);
    *dst = wr_arena_xprintf(s->b->arena, "%s/%.*s", s->b->dir, WR_STR(text));
    note_content(s, *dst);
    return true;
}

/* A mistake inside the text: err->offset says where. */
static bool fail_inside(const struct scalar *s, const char *code, const struct weir_error *err)
{
    struct wr_pos pos = err->offset >= 0 ? wr_node_pos_at(s->n, (size_t)err->offset) : s->n->pos;

    wr_bind_error(s->b, code, pos, s->path, &(struct wr_diag){.message = weir_cstr(err->text)});
    return false;
}

/* Compiles a scalar's text, of which ${...} may have put in parts; counts what it needs. */
static struct weir_template *compile(const struct scalar *s, struct weir_str text)
{
    struct weir_error err = {.offset = -1};
    struct wr_text_range *foreign;
    struct weir_template *t;
    uint32_t n = 0;

    foreign = wr_arena_xalloc(s->b->arena, s->n->n_segments * sizeof(*foreign));
    for (uint32_t i = 0; i < s->n->n_segments; i++) {
        const struct wr_segment *g = &s->n->segments[i];
        if (g->foreign && g->len > 0)
            foreign[n++] = (struct wr_text_range){g->at, g->at + g->len};
    }
    t = wr_template_compile_ranges(s->b->arena, text, foreign, n, &err);
    if (t == NULL)
        (void)fail_inside(s, "bad-template", &err);
    else
        s->b->needs |= wr_template_needs(t);
    return t;
}

static bool read_template(const struct scalar *s, struct weir_template **dst)
{
    struct weir_template *t;
    struct weir_str text;

    if (!read_text(s, &text))
        return false;
    t = compile(s, text);
    if (t == NULL)
        return false;
    if ((s->o->flags & WEIR_OPT_PREFIXED) && !wr_template_is_literal(t, &text) &&
        wr_template_prefix(t).len == 0)
        return fail(s, "template-prefix", "the template must begin with literal text",
                    "put a fixed prefix in front, such as events.{{ type }}");
    *dst = t;
    return true;
}

static bool read_condition(const struct scalar *s, const struct weir_condition **dst)
{
    struct weir_error err = {.offset = -1};
    const struct weir_condition *c;
    struct weir_str text;

    if (!read_text(s, &text))
        return false;
    c = s->b->condition(s->b->condition_arg, text, &err);
    if (c == NULL)
        return fail_inside(
            s, err.status == WEIR_E_UNAVAILABLE ? "no-condition-service" : "bad-condition", &err);
    *dst = c;
    return true;
}

/* ---- VALUE: written as JSON text, which is then parsed --------------------------------------- */

static bool add_value(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                      struct wr_buf *out);

static bool bad_value(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                      const char *message, const char *hint)
{
    wr_bind_error(s->b, "bad-value", n->pos, path,
                  &(struct wr_diag){.message = weir_cstr(message),
                                    .found = wr_node_found(s->b->arena, n, is_secret(s)),
                                    .hint = weir_cstr(hint)});
    return false;
}

static bool add_number(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                       struct wr_buf *out)
{
    bool whole = wr_scalar_type(n) == WR_SCALAR_INT;
    char text[40];
    uint64_t u;
    int64_t i;
    double d;

    if (whole && wr_read_int(n->text, &i))
        wr_buf_printf(out, "%lld", (long long)i);
    else if (whole && wr_read_uint(n->text, &u))
        wr_buf_printf(out, "%llu", (unsigned long long)u);
    else if (!whole && wr_read_float(n->text, &d)) {
        snprintf(text, sizeof(text), "%.17g", d);
        wr_buf_printf(out, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
    } else
        return bad_value(s, n, path, "the number cannot be kept exactly",
                         "put quotes round it to keep its text");
    return true;
}

static bool is_foreign(const struct wr_node *n, size_t at)
{
    for (uint32_t i = 0; i < n->n_segments; i++)
        if (n->segments[i].foreign && at >= n->segments[i].at &&
            at < n->segments[i].at + n->segments[i].len)
            return true;
    return false;
}

/* The text as one that can be compiled again: braces that ${...} put in are written as literals. */
static bool add_template(const struct scalar *s, const struct wr_node *n,
                         const struct wr_path *path, struct wr_buf *out)
{
    struct scalar inner = {s->b, s->o, WEIR_OPT_TEMPLATE, n, path};
    struct wr_buf text = {0};

    if (compile(&inner, n->text) == NULL)
        return false;
    for (size_t i = 0; i < n->text.len; i++) {
        bool before = i + 1 < n->text.len && n->text.ptr[i + 1] == '{' && is_foreign(n, i + 1);
        if (n->text.ptr[i] == '{' && (before || is_foreign(n, i)))
            wr_buf_text(&text, "{{ '{' }}");
        else
            wr_buf_add(&text, n->text.ptr + i, 1);
    }
    wr_buf_json(out, wr_buf_view(&text));
    wr_buf_done(&text);
    return true;
}

static bool add_scalar(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                       struct wr_buf *out)
{
    switch (wr_scalar_type(n)) {
    case WR_SCALAR_NULL:
        wr_buf_text(out, "null");
        return true;
    case WR_SCALAR_BOOL:
        wr_buf_text(out, (n->text.ptr[0] | 0x20) == 't' ? "true" : "false");
        return true;
    case WR_SCALAR_INT:
    case WR_SCALAR_FLOAT:
        return add_number(s, n, path, out);
    default:
        if (s->o->flags & WEIR_OPT_TEMPLATES)
            return add_template(s, n, path, out);
        wr_buf_json(out, n->text);
        return true;
    }
}

static bool add_list(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                     struct wr_buf *out)
{
    bool ok = true;

    wr_buf_text(out, "[");
    for (uint32_t i = 0; i < n->n; i++) {
        struct wr_path at = {path, {0}, i};
        wr_buf_text(out, i > 0 ? "," : "");
        ok = add_value(s, n->items[i], &at, out) && ok;
    }
    wr_buf_text(out, "]");
    return ok;
}

static bool add_map(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                    struct wr_buf *out)
{
    bool ok = true;

    wr_buf_text(out, "{");
    for (uint32_t i = 0; i < n->n; i++) {
        struct wr_path at = {path, n->fields[i].key, -1};
        wr_buf_text(out, i > 0 ? "," : "");
        wr_buf_json(out, n->fields[i].key);
        wr_buf_text(out, ":");
        ok = add_value(s, n->fields[i].value, &at, out) && ok;
    }
    wr_buf_text(out, "}");
    return ok;
}

static bool add_value(const struct scalar *s, const struct wr_node *n, const struct wr_path *path,
                      struct wr_buf *out)
{
    if (n->broken) {
        s->b->n_errors++; /* reported where it broke */
        return false;
    }
    if (n->kind == WR_NODE_SCALAR)
        return add_scalar(s, n, path, out);
    return n->kind == WR_NODE_LIST ? add_list(s, n, path, out) : add_map(s, n, path, out);
}

static bool read_value(const struct scalar *s, const struct weir_value **dst)
{
    struct weir_error err = {.offset = -1};
    const struct weir_value *v = NULL;
    struct wr_buf json = {0};

    if (add_value(s, s->n, s->path, &json)) {
        v = wr_value_parse(s->b->arena, wr_buf_view(&json), &err);
        if (v == NULL)
            bad_value(s, s->n, s->path, "the value cannot be kept as JSON", NULL);
    }
    wr_buf_done(&json);
    if (v == NULL)
        return false;
    *dst = v;
    return true;
}

bool wr_bind_scalar(struct wr_binder *b, const struct weir_option *o, enum weir_option_type type,
                    const struct wr_node *n, const struct wr_path *path, void *dst)
{
    struct scalar s = {b, o, type, n, path};

    if (n->broken) {
        b->n_errors++;
        return false;
    }
    wr_options_hide_files(b, n);
    if (n->kind == WR_NODE_SCALAR && !b->in_default)
        wr_options_hide_url(b, n);
    if (type != WEIR_OPT_VALUE && n->kind != WR_NODE_SCALAR)
        return wrong_type(&s, NULL);
    switch (type) {
    case WEIR_OPT_BOOL:
        return read_bool(&s, dst);
    case WEIR_OPT_INT:
        return read_int(&s, dst);
    case WEIR_OPT_FLOAT:
        return read_float(&s, dst);
    case WEIR_OPT_DURATION:
    case WEIR_OPT_SIZE:
        return read_unit(&s, dst);
    case WEIR_OPT_STRING:
        return read_string(&s, dst);
    case WEIR_OPT_ENUM:
        return read_enum(&s, dst);
    case WEIR_OPT_PATH:
        return read_path(&s, dst);
    case WEIR_OPT_TEMPLATE:
        return read_template(&s, dst);
    case WEIR_OPT_CONDITION:
        return read_condition(&s, dst);
    case WEIR_OPT_VALUE:
        return read_value(&s, dst);
    default:
        return fail(&s, "bad-plugin", "the option table names a type that this weir does not know",
                    NULL);
    }
}
