/* SPDX-License-Identifier: Apache-2.0
 *
 * model/diag_print.c: shows diagnostics as text with the source line and a caret, and as JSON.
 *
 * The line as it is shown never holds what a mask covers, no control characters and at most
 * VIEW_MAX characters round the caret.
 */
#include <base/mem.h>
#include <base/str.h>
#include <model/diag_private.h>

#define VIEW_MAX 120
#define VIEW_BEFORE 70

/* Is there a line break at *io_at? As libyaml sees it: LF, CR LF, CR, NEL, LS, PS. Moves behind. */
static bool line_break(struct weir_str s, size_t *io_at)
{
    const char *p = s.ptr + *io_at;
    size_t left = s.len - *io_at, n = 0;

    if (p[0] == '\n')
        n = 1;
    else if (p[0] == '\r')
        n = left > 1 && p[1] == '\n' ? 2 : 1;
    else if (left > 1 && p[0] == '\xc2' && p[1] == '\x85')
        n = 2;
    else if (left > 2 && p[0] == '\xe2' && p[1] == '\x80' && (p[2] == '\xa8' || p[2] == '\xa9'))
        n = 3;
    *io_at += n;
    return n > 0;
}

static void index_lines(struct wr_tracked *t)
{
    struct weir_str s = t->text->text;
    uint32_t cap = 64;
    size_t at = 0;

    t->lines = wr_xalloc(cap * sizeof(*t->lines));
    t->n_lines = 1;
    while (at < s.len) {
        if (!line_break(s, &at)) {
            at++;
            continue;
        }
        if (t->n_lines == cap) {
            cap *= 2;
            t->lines = wr_xrealloc(t->lines, cap * sizeof(*t->lines));
        }
        t->lines[t->n_lines++] = at;
    }
}

struct wr_mask wr_tracked_line(struct wr_tracked *t, uint32_t line)
{
    struct weir_str s = t->text->text;
    struct wr_mask span = {s.len, s.len};

    if (t->lines == NULL)
        index_lines(t);
    if (line == 0 || line > t->n_lines)
        return span;
    span.start = t->lines[line - 1];
    if (line == t->n_lines)
        return span;
    /* the break before the next line has at most three bytes */
    span.end = t->lines[line] > span.start + 3 ? t->lines[line] - 3 : span.start;
    for (size_t at = span.end; !line_break(s, &at); at = span.end)
        span.end++;
    return span;
}

/* Where the value begins on a line `key: value` whose key sounds like a secret; SIZE_MAX = nowhere.
 */
static size_t guess_secret(struct weir_str text, struct wr_mask line)
{
    for (size_t i = line.start; i < line.end; i++) {
        size_t key = i;
        if (text.ptr[i] != ':')
            continue;
        while (key > line.start && strchr(" \t{,\"'", text.ptr[key - 1]) == NULL)
            key--;
        while (key == i && key > line.start && strchr("\"'", text.ptr[key - 1]) != NULL) {
            size_t quote = --key;
            while (key > line.start && text.ptr[key - 1] != text.ptr[quote])
                key--;
        }
        if (wr_sounds_secret(weir_str_n(text.ptr + key, i - key)))
            return i + 1;
    }
    return SIZE_MAX;
}

/* End of the mask that covers byte `at`, or `at`. */
static size_t masked_until(const struct wr_tracked *t, size_t at, size_t secret_from,
                           size_t line_end)
{
    if (at >= secret_from)
        return line_end;
    for (uint32_t i = 0; i < t->n_masks; i++) {
        if (at >= t->masks[i].start && at < t->masks[i].end)
            return t->masks[i].end < line_end ? t->masks[i].end : line_end;
    }
    return at;
}

static bool is_wide(uint32_t cp)
{
    return (cp >= 0x1100 && cp <= 0x115f) || (cp >= 0x2e80 && cp <= 0xa4cf) ||
           (cp >= 0xac00 && cp <= 0xd7a3) || (cp >= 0xf900 && cp <= 0xfaff) ||
           (cp >= 0xfe30 && cp <= 0xfe6f) || (cp >= 0xff00 && cp <= 0xff60) ||
           (cp >= 0x1f300 && cp <= 0x1faff) || (cp >= 0x20000 && cp <= 0x3fffd);
}

static bool is_control(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || cp == 0x2028 || cp == 0x2029 ||
           cp == WR_UTF8_BAD || (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

/* Text from outside into one line for a terminal. */
static void add_clean(struct wr_buf *out, struct weir_str s)
{
    for (size_t at = 0; at < s.len;) {
        size_t from = at;
        uint32_t cp = wr_utf8_next(s, &at);
        if (is_control(cp))
            wr_buf_text(out, cp == '\n' || cp == '\t' ? " " : "?");
        else
            wr_buf_add(out, s.ptr + from, at - from);
    }
}

/* A source line on its way to the screen: the text, and below it the carets. */
struct view {
    struct wr_buf text, mark;
    uint32_t col;        /* of the next character, 1-based */
    uint32_t from, to;   /* columns to show */
    uint32_t start, end; /* columns to underline */
};

static void view_put(struct view *v, const char *bytes, size_t n, uint32_t cells, bool marked)
{
    wr_buf_add(&v->text, bytes, n);
    for (uint32_t i = 0; i < cells; i++)
        wr_buf_text(&v->mark, marked ? "^" : " ");
}

static bool view_marks(const struct view *v, uint32_t first, uint32_t n)
{
    return first < v->end && first + n > v->start;
}

static void view_char(struct view *v, uint32_t cp, const char *bytes, size_t n)
{
    bool marked = view_marks(v, v->col, 1);

    if (v->col >= v->from && v->col < v->to) {
        if (cp == '\t')
            view_put(v, " ", 1, 1, marked);
        else if (is_control(cp))
            view_put(v, "?", 1, 1, marked);
        else
            view_put(v, bytes, n, is_wide(cp) ? 2 : 1, marked);
    }
    v->col++;
}

static uint32_t count_chars(struct weir_str s)
{
    uint32_t n = 0;

    for (size_t at = 0; at < s.len; n++)
        (void)wr_utf8_next(s, &at);
    return n;
}

static void view_fill(struct view *v, const struct wr_tracked *t, struct wr_mask line, bool guess)
{
    struct weir_str text = t->text->text, head = weir_str_n(text.ptr, line.end);
    size_t secret = guess ? guess_secret(text, line) : SIZE_MAX, at = line.start;

    if (v->from > 1)
        view_put(v, "...", 3, 3, false);
    for (; at < line.end && v->col <= v->to;) {
        size_t until = masked_until(t, at, secret, line.end), from = at;
        if (until > at) {
            uint32_t n = count_chars(weir_str_n(text.ptr + at, until - at));
            if (v->col < v->to && v->col + n > v->from)
                view_put(v, "***", 3, 3, view_marks(v, v->col, n));
            v->col += n;
            at = until;
            continue;
        }
        uint32_t cp = wr_utf8_next(head, &at);
        view_char(v, cp, text.ptr + from, at - from);
    }
    if (v->col > v->to)
        view_put(v, "...", 3, 3, false);
}

static void print_source(const struct wr_diag_entry *e, struct wr_buf *out, bool color)
{
    const struct wr_pos *pos = &e->diag.pos;
    struct view v = {.col = 1, .start = pos->col, .end = pos->col + (pos->width ? pos->width : 1)};
    struct wr_mask line = wr_tracked_line(e->tracked, pos->line);

    v.from = pos->col > VIEW_BEFORE + 10 ? pos->col - VIEW_BEFORE : 1;
    v.to = v.from + VIEW_MAX;
    view_fill(&v, e->tracked, line, e->tracked->guess);
    while (v.col <= v.start && v.start < v.to) { /* behind the end of the line */
        wr_buf_text(&v.mark, v.col == v.start ? "^" : " ");
        v.col++;
    }
    while (v.mark.len > 0 && v.mark.ptr[v.mark.len - 1] == ' ')
        v.mark.ptr[--v.mark.len] = '\0';
    wr_buf_printf(out, "%5u | ", pos->line);
    wr_buf_str(out, wr_buf_view(&v.text));
    wr_buf_printf(out, "\n      | %s", color ? "\033[1;31m" : "");
    wr_buf_str(out, wr_buf_view(&v.mark));
    wr_buf_text(out, color ? "\033[0m\n" : "\n");
    wr_buf_done(&v.text);
    wr_buf_done(&v.mark);
}

static void print_fact(struct wr_buf *out, const char *name, struct weir_str text)
{
    if (text.len == 0)
        return;
    wr_buf_printf(out, "      = %s", name);
    add_clean(out, text);
    wr_buf_text(out, "\n");
}

static void print_head(const struct wr_diag *diag, struct wr_buf *out, bool color)
{
    const char *word = diag->severity == WR_ERROR ? "error" : "warning";
    const char *tint = diag->severity == WR_ERROR ? "\033[1;31m" : "\033[1;33m";

    if (diag->pos.text != NULL) {
        add_clean(out, diag->pos.text->name);
        if (diag->pos.line > 0)
            wr_buf_printf(out, ":%u:%u", diag->pos.line, diag->pos.col);
        wr_buf_text(out, ": ");
    }
    wr_buf_printf(out, "%s%s[%s]%s: ", color ? tint : "", word, diag->code, color ? "\033[0m" : "");
    add_clean(out, diag->message);
    wr_buf_text(out, "\n");
}

void wr_diags_print(struct wr_diags *d, struct wr_buf *out, bool color)
{
    wr_diags_sort(d);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct wr_diag_entry *e = &d->entries[i];

        print_head(&e->diag, out, color);
        if (e->tracked != NULL && e->diag.pos.line > 0)
            print_source(e, out, color);
        print_fact(out, "at ", e->diag.path);
        print_fact(out, "expected ", e->diag.expected);
        print_fact(out, "found ", e->diag.found);
        print_fact(out, "hint: ", e->diag.hint);
    }
}

static void json_fact(struct wr_buf *out, const char *name, struct weir_str text)
{
    if (text.len == 0)
        return;
    wr_buf_printf(out, ",\"%s\":", name);
    wr_buf_json(out, text);
}

void wr_diags_json(struct wr_diags *d, struct wr_buf *out)
{
    wr_diags_sort(d);
    wr_buf_text(out, "[");
    for (uint32_t i = 0; i < d->n; i++) {
        const struct wr_diag *diag = &d->entries[i].diag;

        wr_buf_printf(out, "%s{\"code\":\"%s\",\"severity\":\"%s\"", i > 0 ? "," : "", diag->code,
                      diag->severity == WR_ERROR ? "error" : "warning");
        if (diag->pos.text != NULL)
            json_fact(out, "file", diag->pos.text->name);
        if (diag->pos.line > 0)
            wr_buf_printf(out, ",\"line\":%u,\"column\":%u,\"width\":%u", diag->pos.line,
                          diag->pos.col, diag->pos.width ? diag->pos.width : 1);
        json_fact(out, "path", diag->path);
        json_fact(out, "message", diag->message);
        json_fact(out, "expected", diag->expected);
        json_fact(out, "found", diag->found);
        json_fact(out, "hint", diag->hint);
        wr_buf_text(out, "}");
    }
    wr_buf_text(out, "]\n");
}
