/* SPDX-License-Identifier: Apache-2.0
 *
 * model/template.c: compiles templates into parts, and writes them out an event.
 *
 * Literal text between two placeholders is one part, so a template without placeholders has at most
 * one. Rendering gathers views first and then copies them once.
 */
#include <base/arena.h>
#include <base/buf.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>
#include <model/template.h>
#include <model/value.h>
#include <stdio.h>
#include <time.h>
#include <weir/plugin.h>

#define STEPS_MAX 32
#define STACK_PARTS 16

enum part_kind {
    PART_LITERAL,
    PART_FIELD,
    PART_KEY,
    PART_ID,
    PART_TOPIC,
    PART_PARTITION,
    PART_OFFSET,
    PART_TIME,
    PART_HEADER
};

struct path_step {
    struct weir_str key; /* ptr NULL: index */
    uint32_t index;
};

struct part {
    enum part_kind kind;
    struct weir_str text;    /* literal; name of the header; else the placeholder as written */
    struct path_step *steps; /* FIELD */
    uint32_t n_steps;
    bool has_default;
    struct weir_str otherwise;
};

struct weir_template {
    struct part *parts;
    uint32_t n;
    uint32_t needs;
};

/* ---- compiling ------------------------------------------------------------------------------- */

struct compiler {
    struct weir_arena *a;
    struct weir_str s;
    size_t at;
    const struct wr_text_range *foreign;
    uint32_t n_foreign, next_foreign; /* first that does not end before `at` */
    struct weir_error *err;
    struct wr_buf literal;
    struct part *parts;
    uint32_t n, cap;
};

static bool fail(struct compiler *c, size_t at, const char *message)
{
    wr_error(c->err, WEIR_E_CONFIG, "bad_template", "%s", message);
    if (c->err != NULL)
        c->err->offset = (int64_t)at;
    return false;
}

static bool touches_foreign(const struct compiler *c, size_t start, size_t end)
{
    for (uint32_t i = c->next_foreign; i < c->n_foreign && c->foreign[i].start < end; i++) {
        if (c->foreign[i].end > start)
            return true;
    }
    return false;
}

static bool looking_at(const struct compiler *c, const char *two)
{
    return c->at + 2 <= c->s.len && memcmp(c->s.ptr + c->at, two, 2) == 0;
}

static char peek(const struct compiler *c)
{
    return c->at < c->s.len ? c->s.ptr[c->at] : '\0';
}

static void skip_blanks(struct compiler *c)
{
    while (c->at < c->s.len && strchr(" \t\n\r", c->s.ptr[c->at]) != NULL &&
           c->s.ptr[c->at] != '\0')
        c->at++;
}

static struct part *add_part(struct compiler *c, enum part_kind kind)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 4;
        c->parts = wr_xrealloc(c->parts, c->cap * sizeof(*c->parts));
    }
    c->parts[c->n] = (struct part){.kind = kind};
    return &c->parts[c->n++];
}

static void flush_literal(struct compiler *c)
{
    if (c->literal.len == 0)
        return;
    add_part(c, PART_LITERAL)->text = wr_arena_xcopy(c->a, wr_buf_view(&c->literal));
    c->literal.len = 0;
}

/* 'text' or "text" at the cursor. */
static bool read_quoted(struct compiler *c, struct weir_str *ret)
{
    size_t from = c->at + 1;
    const char *end =
        from < c->s.len ? memchr(c->s.ptr + from, c->s.ptr[c->at], c->s.len - from) : NULL;

    if (end == NULL)
        return fail(c, c->at, "the quoted text has no end");
    *ret = weir_str_n(c->s.ptr + from, (size_t)(end - c->s.ptr) - from);
    c->at = (size_t)(end - c->s.ptr) + 1;
    return true;
}

static struct weir_str read_name(struct compiler *c, const char *stops)
{
    size_t from = c->at;

    while (c->at < c->s.len && (unsigned char)c->s.ptr[c->at] > ' ' &&
           strchr(stops, c->s.ptr[c->at]) == NULL)
        c->at++;
    return weir_str_n(c->s.ptr + from, c->at - from);
}

static bool read_bracket(struct compiler *c, struct path_step *ret)
{
    size_t from = c->at++;
    uint64_t index = 0;
    bool any = false;

    skip_blanks(c);
    if (peek(c) == '"' || peek(c) == '\'') {
        if (!read_quoted(c, &ret->key))
            return false;
        ret->key = wr_arena_xcopy(c->a, ret->key);
        any = true;
    } else {
        for (; peek(c) >= '0' && peek(c) <= '9' && index < UINT32_MAX; any = true)
            index = index * 10 + (uint64_t)(c->s.ptr[c->at++] - '0');
        if (index >= UINT32_MAX)
            return fail(c, from, "the index is too large");
        ret->index = (uint32_t)index;
    }
    skip_blanks(c);
    if (!any || peek(c) != ']')
        return fail(c, from, "expected [0] or [\"name\"]");
    c->at++;
    return true;
}

static bool read_field(struct compiler *c)
{
    struct path_step steps[STEPS_MAX];
    struct part *p;
    size_t from = c->at;
    uint32_t n = 0;

    for (bool more = true; more; n++) {
        if (n == STEPS_MAX)
            return fail(c, c->at, "the path has more than 32 steps");
        steps[n] = (struct path_step){0};
        if (peek(c) == '[') {
            if (!read_bracket(c, &steps[n]))
                return false;
        } else {
            size_t at = c->at;
            steps[n].key = wr_arena_xcopy(c->a, read_name(c, ".[]|{}'\"@"));
            if (steps[n].key.len == 0)
                return fail(c, at,
                            n ? "expected the name of a field behind the dot"
                              : "expected the name of a field, such as {{ user.id }}");
        }
        more = peek(c) == '[' || peek(c) == '.';
        c->at += peek(c) == '.';
    }
    p = add_part(c, PART_FIELD);
    p->text = wr_arena_xcopy(c->a, weir_str_n(c->s.ptr + from, c->at - from));
    p->n_steps = n;
    p->steps = wr_arena_xalloc(c->a, n * sizeof(*steps));
    memcpy(p->steps, steps, n * sizeof(*steps));
    return true;
}

static bool read_meta(struct compiler *c)
{
    static const struct {
        const char *name;
        enum part_kind kind;
    } known[] = {{"@key", PART_KEY},       {"@id", PART_ID},
                 {"@topic", PART_TOPIC},   {"@partition", PART_PARTITION},
                 {"@offset", PART_OFFSET}, {"@time", PART_TIME}};
    size_t from = c->at;
    struct weir_str name = read_name(c, "|{}'\"");

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (wr_str_is(name, known[i].name)) {
            add_part(c, known[i].kind)->text = weir_cstr(known[i].name);
            return true;
        }
    }
    if (name.len > 8 && memcmp(name.ptr, "@header.", 8) == 0) {
        add_part(c, PART_HEADER)->text =
            wr_arena_xcopy(c->a, weir_str_n(name.ptr + 8, name.len - 8));
        return true;
    }
    return fail(c, from,
                "unknown metadata: expected @key, @id, @topic, @partition, @offset, @time or "
                "@header.NAME");
}

static bool read_default(struct compiler *c, struct part *p)
{
    size_t from;

    skip_blanks(c);
    if (peek(c) != '|')
        return true;
    c->at++;
    skip_blanks(c);
    from = c->at;
    p->has_default = true;
    if (peek(c) == '"' || peek(c) == '\'') {
        if (!read_quoted(c, &p->otherwise))
            return false;
    } else {
        size_t end;
        while (c->at < c->s.len && !looking_at(c, "}}"))
            c->at++;
        for (end = c->at; end > from && strchr(" \t\n\r", c->s.ptr[end - 1]) != NULL;)
            end--;
        p->otherwise = weir_str_n(c->s.ptr + from, end - from);
        if (p->otherwise.len == 0)
            return fail(c, from, "expected a text behind |; write '' for an empty one");
    }
    p->otherwise = wr_arena_xcopy(c->a, p->otherwise);
    return true;
}

/* Behind "{{", up to and with "}}". */
static bool read_inside(struct compiler *c, size_t from)
{
    struct weir_str literal;

    skip_blanks(c);
    if (peek(c) == '"' || peek(c) == '\'') {
        if (!read_quoted(c, &literal))
            return false;
        wr_buf_str(&c->literal, literal);
    } else {
        flush_literal(c);
        if (!(peek(c) == '@' ? read_meta(c) : read_field(c)) ||
            !read_default(c, &c->parts[c->n - 1]))
            return false;
    }
    skip_blanks(c);
    if (!looking_at(c, "}}"))
        return c->at >= c->s.len ? fail(c, from, "{{ without }}") : fail(c, c->at, "expected }}");
    c->at += 2;
    return true;
}

static bool read_placeholder(struct compiler *c)
{
    size_t from = c->at;
    bool ok;

    c->at += 2;
    ok = read_inside(c, from);
    if (touches_foreign(c, from, ok ? c->at : c->at + 1))
        return fail(c, from, "what ${...} puts in is text and cannot be part of a placeholder");
    return ok;
}

static bool compile(struct compiler *c)
{
    while (c->at < c->s.len) {
        while (c->next_foreign < c->n_foreign && c->foreign[c->next_foreign].end <= c->at)
            c->next_foreign++;
        if (looking_at(c, "{{") && !touches_foreign(c, c->at, c->at + 2)) {
            if (!read_placeholder(c))
                return false;
        } else {
            wr_buf_add(&c->literal, c->s.ptr + c->at++, 1);
        }
    }
    flush_literal(c);
    return true;
}

struct weir_template *wr_template_compile_ranges(struct weir_arena *a, struct weir_str text,
                                                 const struct wr_text_range *foreign, uint32_t n,
                                                 struct weir_error *err)
{
    struct compiler c = {.a = a, .s = text, .foreign = foreign, .n_foreign = n, .err = err};
    struct weir_template *t = NULL;

    if (compile(&c)) {
        t = wr_arena_xalloc(a, sizeof(*t));
        t->n = c.n;
        t->parts = wr_arena_xalloc(a, c.n * sizeof(*t->parts));
        if (c.n > 0)
            memcpy(t->parts, c.parts, c.n * sizeof(*t->parts));
        for (uint32_t i = 0; i < c.n; i++) {
            t->needs |= c.parts[i].kind == PART_FIELD ? WEIR_NEEDS_VALUE : 0;
            t->needs |= c.parts[i].kind == PART_ID ? WEIR_NEEDS_ID : 0;
        }
    }
    wr_buf_done(&c.literal);
    wr_free(c.parts);
    return t;
}

struct weir_template *wr_template_compile(struct weir_arena *a, struct weir_str text,
                                          struct weir_error *err)
{
    return wr_template_compile_ranges(a, text, NULL, 0, err);
}

uint32_t wr_template_needs(const struct weir_template *t)
{
    return t->needs;
}

struct weir_str wr_template_prefix(const struct weir_template *t)
{
    if (t->n == 0 || t->parts[0].kind != PART_LITERAL)
        return weir_str_n("", 0);
    return t->parts[0].text;
}

bool wr_template_is_literal(const struct weir_template *t, struct weir_str *ret_text)
{
    if (t->n > 1 || (t->n == 1 && t->parts[0].kind != PART_LITERAL))
        return false;
    *ret_text = t->n ? t->parts[0].text : weir_str_n("", 0);
    return true;
}

/* ---- rendering ------------------------------------------------------------------------------- */

static const struct weir_value *follow(const struct part *p, const struct weir_value *v)
{
    for (uint32_t i = 0; i < p->n_steps && v != NULL; i++) {
        const struct path_step *step = &p->steps[i];
        if (step->key.ptr != NULL)
            v = wr_value_get(v, step->key);
        else
            v = wr_value_type(v) == WEIR_ARRAY ? wr_value_at(v, step->index) : NULL;
    }
    return v != NULL && wr_value_type(v) != WEIR_NULL ? v : NULL;
}

const struct weir_value *wr_template_value(const struct weir_template *t,
                                           const struct weir_event *ev)
{
    if (t->n != 1 || t->parts[0].kind != PART_FIELD || t->parts[0].has_default)
        return NULL;
    return follow(&t->parts[0], ev->value);
}

static struct weir_str field_text(const struct part *p, const struct weir_event *ev,
                                  struct weir_arena *a)
{
    const struct weir_value *v = follow(p, ev->value);
    struct weir_str s;

    if (v == NULL)
        return weir_str_n(NULL, 0);
    if (wr_value_type(v) != WEIR_STRING && wr_value_type(v) != WEIR_BIGNUM)
        return wr_value_write(a, v);
    s = wr_value_str(v);
    return s.ptr != NULL ? s : weir_str_n("", 0);
}

static struct weir_str time_text(int64_t ns, struct weir_arena *a)
{
    int64_t s = ns / WEIR_NS_PER_S, rest = ns % WEIR_NS_PER_S;
    struct tm tm;
    time_t t;

    if (ns == 0)
        return weir_str_n(NULL, 0);
    if (rest < 0) {
        rest += WEIR_NS_PER_S;
        s--;
    }
    t = (time_t)s;
    if (gmtime_r(&t, &tm) == NULL)
        return weir_str_n(NULL, 0);
    return wr_arena_printf(a, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                           (int)(rest / WEIR_NS_PER_MS));
}

static struct weir_str header_text(const struct part *p, const struct weir_event *ev)
{
    for (uint32_t i = 0; i < ev->n_headers; i++) {
        struct weir_str v = ev->headers[i].value;
        if (wr_str_eq(ev->headers[i].name, p->text))
            return v.ptr != NULL ? v : weir_str_n("", 0);
    }
    return weir_str_n(NULL, 0);
}

/* {NULL, 0}: the event has none. */
static struct weir_str part_text(const struct part *p, const struct weir_event *ev,
                                 struct weir_arena *a)
{
    switch (p->kind) {
    case PART_LITERAL:
        return p->text;
    case PART_FIELD:
        return field_text(p, ev, a);
    case PART_KEY:
        return ev->key;
    case PART_ID:
        return ev->id.len > 0 ? ev->id : weir_str_n(NULL, 0);
    case PART_TOPIC:
        return ev->origin != NULL ? ev->origin->name : weir_str_n(NULL, 0);
    case PART_PARTITION:
        return ev->origin != NULL && ev->origin->partition >= 0
                   ? wr_arena_printf(a, "%d", ev->origin->partition)
                   : weir_str_n(NULL, 0);
    case PART_OFFSET:
        return ev->stream != NULL ? wr_arena_printf(a, "%lld", (long long)ev->position)
                                  : weir_str_n(NULL, 0);
    case PART_TIME:
        return time_text(ev->time_ns, a);
    case PART_HEADER:
        return header_text(p, ev);
    }
    return weir_str_n(NULL, 0);
}

static struct weir_str missing(const struct part *p, struct weir_error *err)
{
    wr_error(err, WEIR_E_REJECTED, "missing_field",
             "the event has no %s%.*s, and the template names no "
             "default",
             p->kind == PART_FIELD    ? "field "
             : p->kind == PART_HEADER ? "header "
                                      : "",
             WR_STR(p->text));
    return weir_str_n(NULL, 0);
}

static struct weir_str no_memory(struct weir_error *err)
{
    wr_error(err, WEIR_E_NOMEM, "no_memory", "no memory to render a template");
    return weir_str_n(NULL, 0);
}

/* Everything but the characters that RFC 3986 reserves for nothing. */
static struct weir_str url_escape(struct weir_str s, struct weir_arena *a)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = wr_arena_alloc(a, s.len * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; out != NULL && i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (!plain) {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
        }
        out[n++] = plain ? (char)c : hex[c & 15];
    }
    return weir_str_n(out, n);
}

struct weir_str wr_template_render(const struct weir_template *t, const struct weir_event *ev,
                                   struct weir_arena *a, struct weir_error *err)
{
    return wr_template_render_with(t, ev, a, WEIR_ESCAPE_NONE, err);
}

struct weir_str wr_template_render_with(const struct weir_template *t, const struct weir_event *ev,
                                        struct weir_arena *a, enum weir_escape how,
                                        struct weir_error *err)
{
    struct weir_str stack[STACK_PARTS], *texts = stack, all;
    size_t total = 0;
    char *out;

    if (wr_template_is_literal(t, &all))
        return all;
    if (t->n > STACK_PARTS && (texts = wr_arena_alloc(a, t->n * sizeof(*texts))) == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct part *p = &t->parts[i];
        texts[i] = part_text(p, ev, a);
        if (texts[i].ptr == NULL && !p->has_default)
            return missing(p, err);
        if (texts[i].ptr == NULL)
            texts[i] = p->otherwise;
        else if (how == WEIR_ESCAPE_URL && p->kind != PART_LITERAL &&
                 (texts[i] = url_escape(texts[i], a)).ptr == NULL)
            return no_memory(err);
        total += texts[i].len;
    }
    out = wr_arena_alloc(a, total + 1);
    if (out == NULL)
        return no_memory(err);
    all = weir_str_n(out, total);
    for (uint32_t i = 0; i < t->n; i++) {
        if (texts[i].len > 0)
            memcpy(out, texts[i].ptr, texts[i].len);
        out += texts[i].len;
    }
    *out = '\0';
    return all;
}
