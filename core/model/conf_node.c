/* SPDX-License-Identifier: Apache-2.0
 *
 * model/conf_node.c: questions to the nodes of a located tree.
 *
 * The place of a byte inside a scalar is found by walking its source beside its text: characters
 * that are not blank stand in both in the same order, whatever folding, indenting and quoting did
 * to the blanks between them.
 */
#include <base/str.h>
#include <model/conf.h>

const struct wr_field *wr_node_field(const struct wr_node *map, struct weir_str key)
{
    if (map == NULL || map->kind != WR_NODE_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->n; i++) {
        if (wr_str_eq(map->fields[i].key, key))
            return &map->fields[i];
    }
    return NULL;
}

static bool is_blank(uint32_t cp)
{
    return cp == ' ' || cp == '\t' || cp == '\n' || cp == '\r';
}

/* A walk through a scalar's source. */
struct walk {
    struct weir_str src; /* up to the node's end */
    size_t at;
    uint32_t line, col;
    enum wr_node_style style;
};

static void step(struct walk *w)
{
    uint32_t cp = wr_utf8_next(w->src, &w->at);

    if (cp == '\r' && w->at < w->src.len && w->src.ptr[w->at] == '\n')
        w->at++;
    w->col++;
    if (cp == '\n' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029) {
        w->line++;
        w->col = 1;
    }
}

static uint32_t hex(struct weir_str s)
{
    uint32_t v = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        v = v * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return v;
}

/* Length of the escape at w->at in a double-quoted scalar; *ret_blank: it stands for a blank or for
 * nothing. */
static uint32_t escape(const struct walk *w, bool *ret_blank)
{
    const char *p = w->src.ptr + w->at;
    size_t left = w->src.len - w->at;
    uint32_t digits = 0;

    *ret_blank = true;
    if (left < 2)
        return 1;
    switch (p[1]) {
    case 'x':
        digits = 2;
        break;
    case 'u':
        digits = 4;
        break;
    case 'U':
        digits = 8;
        break;
    default:
        *ret_blank = strchr("tnr \t\n\r", p[1]) != NULL;
        return 2;
    }
    if (left < 2 + digits)
        return (uint32_t)left;
    *ret_blank = is_blank(hex(weir_str_n(p + 2, digits)));
    return 2 + digits;
}

/* Moves over what stands for one character; true where it is not blank. */
static bool unit(struct walk *w)
{
    char c = w->src.ptr[w->at];
    uint32_t n = 1;
    bool blank = false;

    if (w->style == WR_STYLE_DOUBLE && c == '\\')
        n = escape(w, &blank);
    else if (w->style == WR_STYLE_SINGLE && c == '\'' && w->at + 1 < w->src.len &&
             w->src.ptr[w->at + 1] == '\'')
        n = 2;
    else
        blank = is_blank((unsigned char)c);
    while (n-- > 0 && w->at < w->src.len)
        step(w);
    return !blank;
}

static void walk_begin(struct walk *w, const struct wr_node *n)
{
    struct weir_str whole = n->pos.text->text;

    *w = (struct walk){.src = weir_str_n(whole.ptr, n->end),
                       .at = n->start,
                       .line = n->pos.line,
                       .col = n->pos.col,
                       .style = n->style};
    if (w->at >= w->src.len)
        return;
    if (n->style == WR_STYLE_LITERAL || n->style == WR_STYLE_FOLDED) {
        uint32_t line = w->line;
        while (w->at < w->src.len && w->line == line)
            step(w);
    } else if (w->src.ptr[w->at] == '"' || w->src.ptr[w->at] == '\'') {
        step(w);
    }
}

static size_t raw_offset(const struct wr_node *n, size_t offset)
{
    for (uint32_t i = n->n_segments; i-- > 0;) {
        const struct wr_segment *s = &n->segments[i];
        if (offset >= s->at)
            return s->foreign ? s->from : s->from + (offset - s->at);
    }
    return offset;
}

struct wr_pos wr_node_pos_at(const struct wr_node *scalar, size_t offset)
{
    size_t solid = 0, blanks = 0, raw = raw_offset(scalar, offset);
    struct weir_str text = scalar->raw;
    struct walk w;

    if (scalar->kind != WR_NODE_SCALAR || scalar->pos.line == 0)
        return scalar->pos;
    if (raw > text.len)
        raw = text.len;
    for (size_t at = 0; at < raw;) {
        uint32_t cp = wr_utf8_next(text, &at);
        blanks = !is_blank(cp) || cp == '\n' ? 0 : blanks + 1;
        solid += !is_blank(cp);
    }
    walk_begin(&w, scalar);
    while (w.at < w.src.len && solid > 0)
        solid -= unit(&w);
    if (raw < text.len && !is_blank((unsigned char)text.ptr[raw])) {
        struct walk ahead = w;
        while (ahead.at < ahead.src.len && !unit(&ahead))
            w = ahead;
    } else {
        while (blanks-- > 0 && w.at < w.src.len &&
               (w.src.ptr[w.at] == ' ' || w.src.ptr[w.at] == '\t'))
            step(&w);
    }
    return (struct wr_pos){scalar->pos.text, w.line, w.col, 1};
}

static bool is_word(struct weir_str s, const char *const words[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (wr_str_is(s, words[i]))
            return true;
    }
    return false;
}

static bool all_digits(struct weir_str s, unsigned base)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool digit = c >= '0' && c <= '9' && c < (char)('0' + (base < 10 ? base : 10));
        bool letter = base == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
        if (!digit && !letter)
            return false;
    }
    return s.len > 0;
}

static size_t digits(struct weir_str s, size_t *io_at)
{
    size_t from = *io_at;

    while (*io_at < s.len && s.ptr[*io_at] >= '0' && s.ptr[*io_at] <= '9')
        ++*io_at;
    return *io_at - from;
}

static bool is_float(struct weir_str s)
{
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
    size_t at = 0, before, behind = 0;

    if (is_word(s, words, 6))
        return true;
    if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+'))
        s = weir_str_n(s.ptr + 1, s.len - 1);
    if (is_word(s, words, 3))
        return true;
    before = digits(s, &at);
    if (at < s.len && s.ptr[at] == '.') {
        at++;
        behind = digits(s, &at);
    }
    if (before + behind == 0)
        return false;
    if (at < s.len && (s.ptr[at] | 0x20) == 'e') {
        at++;
        if (at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+'))
            at++;
        if (digits(s, &at) == 0)
            return false;
    }
    return at == s.len;
}

static bool is_int(struct weir_str s)
{
    if (s.len > 2 && s.ptr[0] == '0' && s.ptr[1] == 'x')
        return all_digits(weir_str_n(s.ptr + 2, s.len - 2), 16);
    if (s.len > 2 && s.ptr[0] == '0' && s.ptr[1] == 'o')
        return all_digits(weir_str_n(s.ptr + 2, s.len - 2), 8);
    if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+'))
        s = weir_str_n(s.ptr + 1, s.len - 1);
    return all_digits(s, 10);
}

enum wr_scalar_type wr_scalar_type(const struct wr_node *scalar)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};

    if (scalar->style != WR_STYLE_PLAIN)
        return WR_SCALAR_STRING;
    if (is_word(scalar->text, nulls, 5))
        return WR_SCALAR_NULL;
    if (is_word(scalar->text, bools, 6))
        return WR_SCALAR_BOOL;
    if (is_int(scalar->text))
        return WR_SCALAR_INT;
    return is_float(scalar->text) ? WR_SCALAR_FLOAT : WR_SCALAR_STRING;
}
