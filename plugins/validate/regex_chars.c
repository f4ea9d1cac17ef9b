/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters, escapes and classes of patterns.
 */
#include "regex_private.h"

#include <string.h>

static void *no_memory(struct compiler *c)
{
    return regex_fail(c, c->p, "no memory for the pattern");
}

/* ---- Characters ---- */

uint32_t regex_take_char(struct compiler *c)
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
    if (n == 0 || cp > CODE_POINT_MAX || !regex_next_is(c, '}'))
        (void)regex_fail(c, at, "expected a code point in hexadecimal such as \\u{1F600}");
    return cp;
}

/* \uHHHH, two of them for one character beyond the 16 bits, or \u{H...}; behind the u. */
static uint32_t take_unicode(struct compiler *c, const char *at)
{
    uint32_t cp, low;
    if (regex_next_is(c, '{'))
        return take_braced(c, at);
    if (!take_hex(c, 4, &cp)) {
        (void)regex_fail(c, at, "expected four hexadecimal digits behind \\u");
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
        (void)regex_fail(c, at, "expected a letter behind \\c");
        return 0;
    }
    c->p++;
    return (uint32_t)ch & 31u;
}

/* One escaped character that stands for itself or a code point; `at` is its backslash. */
uint32_t regex_take_escape(struct compiler *c, const char *at)
{
    static const char names[] = "tnrfv", values[] = "\t\n\r\f\v";
    uint32_t cp = 0;
    char ch = *c->p;
    const char *named = ch != '\0' ? strchr(names, ch) : NULL;
    if (named != NULL) {
        c->p++;
        return (uint32_t)values[named - names];
    }
    if (regex_next_is(c, 'u'))
        return take_unicode(c, at);
    if (regex_next_is(c, 'c'))
        return take_control(c, at);
    if (regex_next_is(c, 'x')) {
        if (!take_hex(c, 2, &cp))
            (void)regex_fail(c, at, "expected two hexadecimal digits behind \\x");
        return cp;
    }
    if (ch == '0' && (c->p + 1 == c->end || c->p[1] < '0' || c->p[1] > '9')) {
        c->p++;
        return 0;
    }
    if (ch >= '0' && ch <= '9')
        (void)regex_fail(c, at, "references to groups are not supported");
    else if (ch == 'k')
        (void)regex_fail(c, at, "references to groups are not supported");
    else if (ch == 'p' || ch == 'P')
        (void)regex_fail(
            c, at, "\\p{...} is not supported; name the characters, as in [A-Za-z\\u00C0-\\u024F]");
    else if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (unsigned char)ch >= 0x80)
        (void)regex_fail(c, at, "no such escape");
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
    return regex_leaf(c, OP_CLASS, c->n_classes++);
}

struct node *regex_named_class(struct compiler *c)
{
    struct ranges r = {0};
    return take_named(c, &r) ? class_leaf(c, &r, false) : NULL;
}

/* One character of a class, or a named class (then *ret_named). */
static uint32_t take_class_char(struct compiler *c, struct ranges *r, bool *ret_named)
{
    const char *at = c->p;
    *ret_named = false;
    if (*c->p != '\\')
        return regex_take_char(c);
    c->p++;
    if (c->p == c->end) {
        (void)regex_fail(c, at, "a backslash at the end of the pattern");
        return 0;
    }
    *ret_named = take_named(c, r);
    if (*ret_named)
        return 0;
    if (regex_next_is(c, 'b'))
        return 8;
    return regex_take_escape(c, at);
}

/* Behind the opening bracket. */
struct node *regex_class(struct compiler *c, const char *open)
{
    struct ranges r = {0};
    bool negated = regex_next_is(c, '^');
    while (c->why == NULL && c->p < c->end && *c->p != ']') {
        bool named, named_hi;
        const char *at = c->p;
        uint32_t lo = take_class_char(c, &r, &named), hi = lo;
        if (c->end - c->p >= 2 && c->p[0] == '-' && c->p[1] != ']') {
            c->p++;
            hi = take_class_char(c, &r, &named_hi);
            if (named || named_hi)
                return regex_fail(c, at, "a class such as \\d cannot be an end of a range");
            if (hi < lo)
                return regex_fail(c, at, "the range is the wrong way round");
        }
        if (!named)
            add_range(c, &r, lo, hi);
    }
    if (!regex_next_is(c, ']'))
        return regex_fail(c, open, "the bracket is never closed");
    return class_leaf(c, &r, negated);
}
