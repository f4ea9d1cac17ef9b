/* SPDX-License-Identifier: Apache-2.0
 *
 * Pattern text to a tree, tree to states. The tree is there because {n,m} repeats its part: each
 * repetition gets states of its own, up to REGEX_STATES_MAX in all.
 */
#include "regex_private.h"

#include <string.h>

#define NESTING_MAX 100
#define REPEAT_MAX 1000
#define REPEAT_EVER UINT32_MAX

enum node_kind { NODE_EMPTY, NODE_LEAF, NODE_JOIN, NODE_EITHER, NODE_REPEAT };

struct node {
    enum node_kind kind;
    enum op op;        /* LEAF */
    uint32_t arg;      /* LEAF */
    uint32_t min, max; /* REPEAT */
    struct node *a, *b;
};

struct compiler {
    const struct weir_host *h;
    struct weir_arena *arena;
    const char *begin, *p, *end;
    const char *why;
    const char *why_at;
    uint32_t nesting;
    struct char_class *classes;
    uint32_t n_classes, cap_classes;
    struct state *states;
    uint32_t n_states;
};

static struct node *parse_either(struct compiler *c);

static void *fail(struct compiler *c, const char *at, const char *why)
{
    if (c->why == NULL) {
        c->why = why;
        c->why_at = at;
    }
    return NULL;
}

static void *no_memory(struct compiler *c)
{
    return fail(c, c->p, "no memory for the pattern");
}

static struct node *node(struct compiler *c, enum node_kind kind, struct node *a, struct node *b)
{
    if (c->why != NULL)
        return NULL;
    struct node *n = c->h->arena_alloc(c->arena, sizeof(*n));
    if (n == NULL)
        return no_memory(c);
    *n = (struct node){.kind = kind, .a = a, .b = b};
    return n;
}

static struct node *leaf(struct compiler *c, enum op op, uint32_t arg)
{
    struct node *n = node(c, NODE_LEAF, NULL, NULL);
    if (n != NULL) {
        n->op = op;
        n->arg = arg;
    }
    return n;
}

static bool next_is(struct compiler *c, char ch)
{
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

/* ---- Characters ---- */

static uint32_t take_char(struct compiler *c)
{
    const unsigned char *s = (const unsigned char *)c->p;
    uint32_t len = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint32_t cp = len == 1 ? s[0] : s[0] & (0x7Fu >> len);
    for (uint32_t i = 1; i < len && c->p + i < c->end; i++)
        cp = cp << 6 | (s[i] & 0x3Fu);
    c->p += len <= (size_t)(c->end - c->p) ? len : 1;
    return cp;
}

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

static bool take_hex(struct compiler *c, int n, uint32_t *ret)
{
    uint32_t v = 0;
    for (int i = 0; i < n; i++) {
        int d = c->p + i < c->end ? hex_digit(c->p[i]) : -1;
        if (d < 0)
            return false;
        v = v << 4 | (uint32_t)d;
    }
    c->p += n;
    *ret = v;
    return true;
}

static uint32_t take_braced(struct compiler *c, const char *at)
{
    uint32_t cp = 0;
    int n = 0;
    for (; c->p < c->end && hex_digit(*c->p) >= 0 && cp <= CODE_POINT_MAX; c->p++, n++)
        cp = cp << 4 | (uint32_t)hex_digit(*c->p);
    if (n == 0 || cp > CODE_POINT_MAX || !next_is(c, '}'))
        (void)fail(c, at, "expected a code point in hexadecimal such as \\u{1F600}");
    return cp;
}

/* \uHHHH, two of them for one character beyond the 16 bits, or \u{H...}; behind the u. */
static uint32_t take_unicode(struct compiler *c, const char *at)
{
    uint32_t cp, low;
    if (next_is(c, '{'))
        return take_braced(c, at);
    if (!take_hex(c, 4, &cp)) {
        (void)fail(c, at, "expected four hexadecimal digits behind \\u");
        return 0;
    }
    if (cp < 0xD800 || cp > 0xDBFF || c->end - c->p < 6 || c->p[0] != '\\' || c->p[1] != 'u')
        return cp;
    const char *back = c->p;
    c->p += 2;
    if (take_hex(c, 4, &low) && low >= 0xDC00 && low <= 0xDFFF)
        return 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    c->p = back;
    return cp;
}

static uint32_t take_control(struct compiler *c, const char *at)
{
    char ch = c->p < c->end ? *c->p : '\0';
    if ((ch < 'a' || ch > 'z') && (ch < 'A' || ch > 'Z')) {
        (void)fail(c, at, "expected a letter behind \\c");
        return 0;
    }
    c->p++;
    return (uint32_t)ch & 31u;
}

/* One escaped character that stands for itself or a code point; `at` is its backslash. */
static uint32_t take_escape(struct compiler *c, const char *at)
{
    static const char names[] = "tnrfv", values[] = "\t\n\r\f\v";
    uint32_t cp = 0;
    char ch = *c->p;
    const char *named = ch != '\0' ? strchr(names, ch) : NULL;
    if (named != NULL) {
        c->p++;
        return (uint32_t)values[named - names];
    }
    if (next_is(c, 'u'))
        return take_unicode(c, at);
    if (next_is(c, 'c'))
        return take_control(c, at);
    if (next_is(c, 'x')) {
        if (!take_hex(c, 2, &cp))
            (void)fail(c, at, "expected two hexadecimal digits behind \\x");
        return cp;
    }
    if (ch == '0' && (c->p + 1 == c->end || c->p[1] < '0' || c->p[1] > '9')) {
        c->p++;
        return 0;
    }
    if (ch >= '0' && ch <= '9')
        (void)fail(c, at, "references to groups are not supported");
    else if (ch == 'k')
        (void)fail(c, at, "references to groups are not supported");
    else if (ch == 'p' || ch == 'P')
        (void)fail(c, at,
                   "\\p{...} is not supported; name the characters, as in [A-Za-z\\u00C0-\\u024F]");
    else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (unsigned char)ch >= 0x80)
        (void)fail(c, at, "no such escape");
    c->p++;
    return (unsigned char)ch;
}

/* ---- Classes ---- */

static const struct range digit_ranges[] = {{'0', '9'}};
static const struct range word_ranges[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct range space_ranges[] = {
    {9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

struct ranges {
    struct range *items;
    uint32_t n, cap;
};

static void add_range(struct compiler *c, struct ranges *r, uint32_t lo, uint32_t hi)
{
    if (r->n == r->cap) {
        uint32_t cap = r->cap == 0 ? 8 : r->cap * 2;
        struct range *items = c->h->arena_alloc(c->arena, cap * sizeof(*items));
        if (items == NULL) {
            (void)no_memory(c);
            return;
        }
        if (r->n > 0)
            memcpy(items, r->items, r->n * sizeof(*items));
        r->items = items;
        r->cap = cap;
    }
    r->items[r->n++] = (struct range){lo, hi};
}

/* All of a named class, or all outside of it. */
static void add_named(struct compiler *c, struct ranges *r, const struct range *named, size_t n,
                      bool outside)
{
    uint32_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (!outside)
            add_range(c, r, named[i].lo, named[i].hi);
        else if (named[i].lo > from)
            add_range(c, r, from, named[i].lo - 1);
        from = named[i].hi + 1;
    }
    if (outside)
        add_range(c, r, from, CODE_POINT_MAX);
}

/* \d and its like at c->p (behind the backslash): adds them and moves on. */
static bool take_named(struct compiler *c, struct ranges *r)
{
    char ch = c->p < c->end ? *c->p : '\0';
    if (ch == 'd' || ch == 'D')
        add_named(c, r, digit_ranges, 1, ch == 'D');
    else if (ch == 'w' || ch == 'W')
        add_named(c, r, word_ranges, 4, ch == 'W');
    else if (ch == 's' || ch == 'S')
        add_named(c, r, space_ranges, sizeof(space_ranges) / sizeof(space_ranges[0]), ch == 'S');
    else
        return false;
    c->p++;
    return true;
}

static void sort_ranges(struct ranges *r)
{
    for (uint32_t i = 1; i < r->n; i++) {
        struct range key = r->items[i];
        uint32_t k = i;
        for (; k > 0 && r->items[k - 1].lo > key.lo; k--)
            r->items[k] = r->items[k - 1];
        r->items[k] = key;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        if (n > 0 && r->items[i].lo <= r->items[n - 1].hi + 1) {
            if (r->items[i].hi > r->items[n - 1].hi)
                r->items[n - 1].hi = r->items[i].hi;
        } else {
            r->items[n++] = r->items[i];
        }
    }
    r->n = n;
}

static struct node *class_leaf(struct compiler *c, struct ranges *r, bool negated)
{
    if (c->why != NULL)
        return NULL;
    sort_ranges(r);
    if (c->n_classes == c->cap_classes) {
        uint32_t cap = c->cap_classes == 0 ? 8 : c->cap_classes * 2;
        struct char_class *classes = c->h->arena_alloc(c->arena, cap * sizeof(*classes));
        if (classes == NULL)
            return no_memory(c);
        if (c->n_classes > 0)
            memcpy(classes, c->classes, c->n_classes * sizeof(*classes));
        c->classes = classes;
        c->cap_classes = cap;
    }
    struct char_class *class = &c->classes[c->n_classes];
    *class = (struct char_class){.ranges = r->items, .n = r->n, .negated = negated};
    for (uint32_t i = 0; i < r->n; i++)
        for (uint32_t cp = r->items[i].lo; cp <= r->items[i].hi && cp < 128; cp++)
            class->ascii[cp >> 6] |= UINT64_C(1) << (cp & 63);
    return leaf(c, OP_CLASS, c->n_classes++);
}

/* One character of a class, or a named class (then *ret_named). */
static uint32_t take_class_char(struct compiler *c, struct ranges *r, bool *ret_named)
{
    const char *at = c->p;
    *ret_named = false;
    if (*c->p != '\\')
        return take_char(c);
    c->p++;
    if (c->p == c->end) {
        (void)fail(c, at, "a backslash at the end of the pattern");
        return 0;
    }
    *ret_named = take_named(c, r);
    if (*ret_named)
        return 0;
    if (next_is(c, 'b'))
        return 8;
    return take_escape(c, at);
}

/* Behind the opening bracket. */
static struct node *parse_class(struct compiler *c, const char *open)
{
    struct ranges r = {0};
    bool negated = next_is(c, '^');
    while (c->why == NULL && c->p < c->end && *c->p != ']') {
        bool named, named_hi;
        const char *at = c->p;
        uint32_t lo = take_class_char(c, &r, &named), hi = lo;
        if (c->end - c->p >= 2 && c->p[0] == '-' && c->p[1] != ']') {
            c->p++;
            hi = take_class_char(c, &r, &named_hi);
            if (named || named_hi)
                return fail(c, at, "a class such as \\d cannot be an end of a range");
            if (hi < lo)
                return fail(c, at, "the range is the wrong way round");
        }
        if (!named)
            add_range(c, &r, lo, hi);
    }
    if (!next_is(c, ']'))
        return fail(c, open, "the bracket is never closed");
    return class_leaf(c, &r, negated);
}

/* ---- Structure ---- */

static struct node *parse_group(struct compiler *c, const char *open)
{
    if (next_is(c, '?')) {
        bool lookbehind =
            c->end - c->p >= 2 && c->p[0] == '<' && (c->p[1] == '=' || c->p[1] == '!');
        if (c->p < c->end && (*c->p == '=' || *c->p == '!' || lookbehind))
            return fail(c, open, "look-ahead and look-behind are not supported");
        if (next_is(c, '<')) {
            while (c->p < c->end && *c->p != '>')
                c->p++;
            if (!next_is(c, '>'))
                return fail(c, open, "the group's name is never closed");
        } else if (!next_is(c, ':')) {
            return fail(c, open, "no such kind of group");
        }
    }
    if (++c->nesting > NESTING_MAX)
        return fail(c, open, "groups are nested deeper than 100 levels");
    struct node *n = parse_either(c);
    c->nesting--;
    if (!next_is(c, ')'))
        return fail(c, open, "the parenthesis is never closed");
    return n;
}

static struct node *parse_escape(struct compiler *c, const char *at)
{
    struct ranges r = {0};
    if (c->p == c->end)
        return fail(c, at, "a backslash at the end of the pattern");
    if (next_is(c, 'b'))
        return leaf(c, OP_WORD, 0);
    if (next_is(c, 'B'))
        return leaf(c, OP_NOT_WORD, 0);
    if (take_named(c, &r))
        return class_leaf(c, &r, false);
    return leaf(c, OP_CHAR, take_escape(c, at));
}

static struct node *parse_atom(struct compiler *c)
{
    const char *at = c->p;
    if (next_is(c, '('))
        return parse_group(c, at);
    if (next_is(c, '['))
        return parse_class(c, at);
    if (next_is(c, '\\'))
        return parse_escape(c, at);
    if (next_is(c, '.'))
        return leaf(c, OP_ANY, 0);
    if (next_is(c, '^'))
        return leaf(c, OP_BEGIN, 0);
    if (next_is(c, '$'))
        return leaf(c, OP_END, 0);
    if (*at == '*' || *at == '+' || *at == '?')
        return fail(c, at, "there is nothing to repeat before it");
    if (*at == '{')
        return fail(c, at, "write \\{ for the character itself");
    return leaf(c, OP_CHAR, take_char(c));
}

static bool take_number(struct compiler *c, uint32_t *ret)
{
    uint32_t v = 0;
    const char *first = c->p;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
        v = v > REPEAT_MAX ? v : v * 10 + (uint32_t)(*c->p - '0');
    *ret = v;
    return c->p > first;
}

static bool take_counts(struct compiler *c, const char *at, uint32_t *min, uint32_t *max)
{
    if (!take_number(c, min)) {
        (void)fail(c, at,
                   "expected a number of repetitions, as in {2,5}; write \\{ for the character");
        return false;
    }
    *max = *min;
    if (next_is(c, ',') && !take_number(c, max))
        *max = REPEAT_EVER;
    if (!next_is(c, '}'))
        (void)fail(c, at, "the brace is never closed");
    else if (*min > REPEAT_MAX || (*max > REPEAT_MAX && *max != REPEAT_EVER))
        (void)fail(c, at, "more than 1000 repetitions are not supported");
    else if (*max < *min)
        (void)fail(c, at, "the numbers are the wrong way round");
    return c->why == NULL;
}

static struct node *parse_repeat(struct compiler *c)
{
    struct node *n = parse_atom(c);
    const char *at = c->p;
    uint32_t min = 0, max = REPEAT_EVER;
    if (n == NULL)
        return NULL;
    if (next_is(c, '+'))
        min = 1;
    else if (next_is(c, '?'))
        max = 1;
    else if (next_is(c, '{')) {
        if (!take_counts(c, at, &min, &max))
            return NULL;
    } else if (!next_is(c, '*'))
        return n;
    if (n->kind == NODE_LEAF && n->op >= OP_BEGIN)
        return fail(c, at, "^, $, \\b and \\B cannot be repeated");
    (void)next_is(c, '?'); /* lazy or not is the same where only the match counts */
    struct node *repeat = node(c, NODE_REPEAT, n, NULL);
    if (repeat != NULL) {
        repeat->min = min;
        repeat->max = max;
    }
    return repeat;
}

static struct node *parse_join(struct compiler *c)
{
    struct node *all = node(c, NODE_EMPTY, NULL, NULL);
    while (c->why == NULL && c->p < c->end && *c->p != '|' && *c->p != ')') {
        struct node *n = parse_repeat(c);
        all = all == NULL || all->kind == NODE_EMPTY ? n : node(c, NODE_JOIN, all, n);
    }
    return all;
}

static struct node *parse_either(struct compiler *c)
{
    struct node *n = parse_join(c);
    while (c->why == NULL && next_is(c, '|'))
        n = node(c, NODE_EITHER, n, parse_join(c));
    return n;
}

/* ---- States ---- */

static uint16_t emit(struct compiler *c, enum op op, uint32_t arg)
{
    if (c->n_states >= REGEX_STATES_MAX) {
        (void)fail(c, c->begin, "the pattern is too large, mostly by {n,m} inside {n,m}");
        return 0;
    }
    uint16_t at = (uint16_t)c->n_states++;
    c->states[at] = (struct state){(uint8_t)op, (uint16_t)(at + 1), 0, arg};
    return at;
}

static void emit_node(struct compiler *c, const struct node *n);

static void emit_optional(struct compiler *c, const struct node *n, bool loop)
{
    uint16_t split = emit(c, OP_SPLIT, 0);
    emit_node(c, n);
    if (loop) {
        uint16_t jump = emit(c, OP_JUMP, 0);
        c->states[jump].x = split;
    }
    c->states[split].y = (uint16_t)c->n_states;
}

static void emit_either(struct compiler *c, const struct node *n)
{
    uint16_t split = emit(c, OP_SPLIT, 0);
    emit_node(c, n->a);
    uint16_t jump = emit(c, OP_JUMP, 0);
    c->states[split].y = (uint16_t)c->n_states;
    emit_node(c, n->b);
    c->states[jump].x = (uint16_t)c->n_states;
}

/* Joins lean to the left. Their parts are listed first, so that recursion goes as deep as groups
 * are nested and not as the pattern is long. */
static void emit_join(struct compiler *c, const struct node *n)
{
    uint32_t count = 1;
    for (const struct node *at = n; at->kind == NODE_JOIN; at = at->a)
        count++;
    const struct node **parts = c->h->arena_alloc(c->arena, count * sizeof(*parts));
    if (parts == NULL) {
        (void)no_memory(c);
        return;
    }
    uint32_t i = count;
    for (; n->kind == NODE_JOIN; n = n->a)
        parts[--i] = n->b;
    parts[--i] = n;
    for (; i < count && c->why == NULL; i++)
        emit_node(c, parts[i]);
}

static void emit_node(struct compiler *c, const struct node *n)
{
    if (c->why != NULL)
        return;
    switch (n->kind) {
    case NODE_EMPTY:
        (void)emit(c, OP_JUMP, 0);
        break;
    case NODE_LEAF:
        (void)emit(c, n->op, n->arg);
        break;
    case NODE_JOIN:
        emit_join(c, n);
        break;
    case NODE_EITHER:
        emit_either(c, n);
        break;
    case NODE_REPEAT:
        for (uint32_t i = 0; i < n->min && c->why == NULL; i++)
            emit_node(c, n->a);
        if (n->max == REPEAT_EVER)
            emit_optional(c, n->a, true);
        else
            for (uint32_t i = n->min; i < n->max && c->why == NULL; i++)
                emit_optional(c, n->a, false);
        break;
    }
}

static bool begins_anchored(const struct node *n)
{
    while (n->kind == NODE_JOIN)
        n = n->a;
    return n->kind == NODE_LEAF && n->op == OP_BEGIN;
}

static struct regex *finish(struct compiler *c, const struct node *tree)
{
    struct regex *re = c->h->arena_alloc(c->arena, sizeof(*re));
    struct state *states = c->h->arena_alloc(c->arena, (c->n_states + 1) * sizeof(*states));
    if (re == NULL || states == NULL)
        return no_memory(c);
    memcpy(states, c->states, c->n_states * sizeof(*states));
    *re = (struct regex){states, c->n_states, c->classes, begins_anchored(tree)};
    return re;
}

struct regex *regex_compile(const struct weir_host *h, struct weir_arena *a,
                            struct weir_str pattern, const char **ret_why, size_t *ret_offset)
{
    const char *text = pattern.ptr != NULL ? pattern.ptr : "";
    struct compiler c = {.h = h, .arena = a, .begin = text, .p = text, .end = text + pattern.len};
    struct regex *re = NULL;
    c.states = h->alloc((REGEX_STATES_MAX + 1) * sizeof(*c.states));
    if (c.states == NULL) {
        (void)no_memory(&c);
    } else {
        const struct node *tree = parse_either(&c);
        if (c.why == NULL && c.p < c.end)
            (void)fail(&c, c.p, "a closing parenthesis without an opening one");
        if (c.why == NULL)
            emit_node(&c, tree);
        if (c.why == NULL)
            (void)emit(&c, OP_MATCH, 0);
        if (c.why == NULL)
            re = finish(&c, tree);
    }
    h->free(c.states);
    if (re == NULL) {
        *ret_why = c.why;
        *ret_offset = (size_t)(c.why_at - c.begin);
    }
    return re;
}
