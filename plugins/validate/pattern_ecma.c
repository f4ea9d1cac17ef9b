/* SPDX-License-Identifier: Apache-2.0
 *
 * ECMA-262 (flag u) into PCRE2's words, and nothing else into them: what ECMA-262 does not know is
 * refused where it stands, whatever it means to PCRE2: (?i), (?C), (*VERB), \K, \Q, a++,
 * [[:alpha:]].
 *
 * Where both have a word with two meanings it is written out: . \s \S \v \xHH \uHHHH \u{H} \cX \0
 * \1, and [ inside a class. \d, \w and \b are ASCII in both, with no UCP.
 */
#include "pattern.h"

#include <stdio.h>
#include <string.h>

#define NESTING_MAX 100
#define REPEAT_MAX 1000u
#define CODE_POINT_MAX 0x10FFFFu

#define ANY "[^\\n\\r\\x{2028}\\x{2029}]"
#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"  \
    "\\x{3000}\\x{feff}"
#define NO_SPACES                                                                                  \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-"     \
    "\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}"        \
    "\\x{ff00}-\\x{10ffff}"

struct translator {
    const struct weir_host *h;
    const char *begin, *p, *end;
    const char *token; /* what is being read; out[] of it comes from here */
    const char *why, *why_at;
    char *out;
    uint32_t *from;
    size_t len, cap;
    const char *open[NESTING_MAX]; /* parentheses */
    uint32_t n_open;
    bool repeatable; /* what was read last can be repeated */
    bool refers_back;
};

/* The first mistake counts. */
static void refuse(struct translator *t, const char *at, const char *why)
{
    if (t->why != NULL)
        return;
    t->why = why;
    t->why_at = at;
}

static bool grow(struct translator *t, size_t n)
{
    size_t cap = t->cap == 0 ? 256 : t->cap;
    while (cap < t->len + n + 1)
        cap *= 2;
    if (cap == t->cap)
        return true;
    char *out = t->h->realloc(t->out, cap);
    if (out != NULL)
        t->out = out;
    uint32_t *from = out != NULL ? t->h->realloc(t->from, cap * sizeof(*from)) : NULL;
    if (from == NULL) {
        refuse(t, t->token, "no memory for the pattern");
        return false;
    }
    t->from = from;
    t->cap = cap;
    return true;
}

static void emit_n(struct translator *t, const char *text, size_t n)
{
    if (!grow(t, n))
        return;
    memcpy(t->out + t->len, text, n);
    for (size_t i = 0; i < n; i++)
        t->from[t->len + i] = (uint32_t)(t->token - t->begin);
    t->len += n;
}

static void emit(struct translator *t, const char *text)
{
    emit_n(t, text, strlen(text));
}

static void emit_code_point(struct translator *t, uint32_t cp)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "\\x{%x}", cp);
    emit(t, text);
}

static char peek(const struct translator *t, size_t ahead)
{
    return (size_t)(t->end - t->p) > ahead ? t->p[ahead] : '\0';
}

static bool is_letter(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
}

static bool take(struct translator *t, char ch)
{
    if (t->p == t->end || *t->p != ch)
        return false;
    t->p++;
    return true;
}

/* ---- Escapes of one character; t->p is behind the backslash ---- */

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

static bool take_hex(struct translator *t, size_t n, uint32_t *ret)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        int d = hex_digit(peek(t, i));
        if (d < 0)
            return false;
        v = v << 4 | (uint32_t)d;
    }
    t->p += n;
    *ret = v;
    return true;
}

static uint32_t take_braced(struct translator *t)
{
    uint32_t cp = 0;
    int n = 0;
    for (; hex_digit(peek(t, 0)) >= 0 && cp <= CODE_POINT_MAX; t->p++, n++)
        cp = cp << 4 | (uint32_t)hex_digit(*t->p);
    if (n == 0 || cp > CODE_POINT_MAX || !take(t, '}'))
        refuse(t, t->token, "expected a code point in hexadecimal such as \\u{1F600}");
    return cp;
}

/* \uHHHH, two of them for one character beyond 16 bits, or \u{H...}; behind the u. */
static uint32_t take_unicode(struct translator *t)
{
    uint32_t cp = 0, low = 0;
    if (take(t, '{'))
        cp = take_braced(t);
    else if (!take_hex(t, 4, &cp))
        refuse(t, t->token, "expected four hexadecimal digits behind \\u");
    if (cp < 0xD800 || cp > 0xDFFF)
        return cp;
    if (cp <= 0xDBFF && peek(t, 0) == '\\' && peek(t, 1) == 'u') {
        t->p += 2;
        if (take_hex(t, 4, &low) && low >= 0xDC00 && low <= 0xDFFF)
            return 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    }
    refuse(t, t->token, "half of a surrogate pair matches no character");
    return cp;
}

static uint32_t take_control(struct translator *t)
{
    char ch = peek(t, 0);
    if (!is_letter(ch)) {
        refuse(t, t->token, "expected a letter behind \\c");
        return 0;
    }
    t->p++;
    return (uint32_t)ch & 31u;
}

static uint32_t take_escape(struct translator *t)
{
    static const char names[] = "tnrfv", values[] = "\t\n\r\f\v";
    char ch = *t->p++;
    uint32_t cp = 0;
    const char *named = ch != '\0' ? strchr(names, ch) : NULL;
    if (named != NULL)
        return (uint32_t)values[named - names];
    if (ch == 'u')
        return take_unicode(t);
    if (ch == 'c')
        return take_control(t);
    if (ch == 'x') {
        if (!take_hex(t, 2, &cp))
            refuse(t, t->token, "expected two hexadecimal digits behind \\x");
        return cp;
    }
    bool digit = ch >= '0' && ch <= '9';
    if (ch == '0' && (peek(t, 0) < '0' || peek(t, 0) > '9'))
        return 0;
    if (digit || is_letter(ch) || (unsigned char)ch >= 0x80 || (unsigned char)ch < 0x20)
        refuse(t, t->token, "no such escape in ECMA-262");
    return (unsigned char)ch;
}

/* ---- Classes ---- */

static const struct {
    const char *name, *code;
} categories[] = {
    {"Cased_Letter", "L&"},
    {"Close_Punctuation", "Pe"},
    {"Connector_Punctuation", "Pc"},
    {"Control", "Cc"},
    {"Currency_Symbol", "Sc"},
    {"Dash_Punctuation", "Pd"},
    {"Decimal_Number", "Nd"},
    {"digit", "Nd"},
    {"Enclosing_Mark", "Me"},
    {"Final_Punctuation", "Pf"},
    {"Format", "Cf"},
    {"Initial_Punctuation", "Pi"},
    {"Letter", "L"},
    {"Letter_Number", "Nl"},
    {"Line_Separator", "Zl"},
    {"Lowercase_Letter", "Ll"},
    {"Mark", "M"},
    {"Math_Symbol", "Sm"},
    {"Modifier_Letter", "Lm"},
    {"Modifier_Symbol", "Sk"},
    {"Nonspacing_Mark", "Mn"},
    {"Number", "N"},
    {"Open_Punctuation", "Ps"},
    {"Other", "C"},
    {"Other_Letter", "Lo"},
    {"Other_Number", "No"},
    {"Other_Punctuation", "Po"},
    {"Other_Symbol", "So"},
    {"Paragraph_Separator", "Zp"},
    {"Private_Use", "Co"},
    {"Punctuation", "P"},
    {"punct", "P"},
    {"Separator", "Z"},
    {"Space_Separator", "Zs"},
    {"Spacing_Mark", "Mc"},
    {"Surrogate", "Cs"},
    {"Symbol", "S"},
    {"Titlecase_Letter", "Lt"},
    {"Unassigned", "Cn"},
    {"Uppercase_Letter", "Lu"},
    {"LC", "L&"},
};

/* What PCRE2 calls a property that ECMA-262 calls so. */
static struct weir_str property_name(struct weir_str name)
{
    static const char *const prefixes[] = {"gc=", "General_Category="};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(prefixes[i]);
        if (name.len > n && memcmp(name.ptr, prefixes[i], n) == 0)
            name = weir_str_n(name.ptr + n, name.len - n);
    }
    for (size_t i = 0; i < sizeof(categories) / sizeof(categories[0]); i++)
        if (strlen(categories[i].name) == name.len &&
            memcmp(categories[i].name, name.ptr, name.len) == 0)
            return weir_cstr(categories[i].code);
    return name;
}

/* \p{...} and \P{...}: categories by both their names, scripts, binary properties. */
static void take_property(struct translator *t)
{
    char sign = *t->p++;
    size_t n = 0;
    struct weir_str name;
    if (!take(t, '{')) {
        refuse(t, t->token, "expected a property in braces, as in \\p{Lu} or \\p{Script=Greek}");
        return;
    }
    for (char ch = peek(t, 0); is_letter(ch) || (ch >= '0' && ch <= '9') || ch == '_' || ch == '=';)
        ch = peek(t, ++n);
    if (n == 0 || peek(t, n) != '}') {
        refuse(t, t->token, "expected a property in braces, as in \\p{Lu} or \\p{Script=Greek}");
        return;
    }
    name = property_name(weir_str_n(t->p, n));
    emit_n(t, (const char[]){'\\', sign, '{'}, 3);
    emit_n(t, name.ptr, name.len);
    emit_n(t, "}", 1);
    t->p += n + 1;
}

/* \d and its like behind the backslash. False: it is none of them. */
static bool take_named(struct translator *t, bool in_class)
{
    char ch = peek(t, 0);
    if (ch == 'p' || ch == 'P') {
        take_property(t);
        return true;
    }
    if (ch == '\0' || strchr("dDwWsS", ch) == NULL)
        return false;
    t->p++;
    if (ch == 's')
        emit(t, in_class ? SPACES : "[" SPACES "]");
    else if (ch == 'S')
        emit(t, in_class ? NO_SPACES : "[" NO_SPACES "]");
    else
        emit_n(t, (const char[]){'\\', ch}, 2);
    return true;
}

/* One character of a class, or a named class (then true). */
static bool take_class_item(struct translator *t)
{
    t->token = t->p;
    if (!take(t, '\\')) {
        if ((unsigned char)*t->p < 0x80) {
            emit_code_point(t, (unsigned char)*t->p++);
            return false;
        }
        do
            emit_n(t, t->p++, 1);
        while (t->p < t->end && ((unsigned char)*t->p & 0xC0u) == 0x80u);
        return false;
    }
    if (t->p == t->end) {
        refuse(t, t->token, "a backslash at the end of the pattern");
        return false;
    }
    if (take_named(t, true))
        return true;
    emit_code_point(t, take(t, 'b') ? 8 : take_escape(t));
    return false;
}

static void take_class(struct translator *t)
{
    const char *open = t->p++;
    emit(t, take(t, '^') ? "[^" : "[");
    while (t->why == NULL && t->p < t->end && *t->p != ']') {
        const char *first = t->p;
        bool named = take_class_item(t);
        if (t->why != NULL || peek(t, 0) != '-' || peek(t, 1) == ']' || t->end - t->p < 2)
            continue;
        t->p++;
        emit_n(t, "-", 1);
        if (take_class_item(t) || named)
            refuse(t, first, "a class such as \\d cannot be an end of a range");
    }
    t->token = t->p;
    if (!take(t, ']'))
        refuse(t, open, "the bracket is never closed");
    emit_n(t, "]", 1);
    t->repeatable = true;
}

/* ---- Groups, repetitions, the rest ---- */

static size_t name_end(const struct translator *t, const char *name)
{
    const char *end = name < t->end ? memchr(name, '>', (size_t)(t->end - name)) : NULL;
    return end != NULL ? (size_t)(end - t->p) + 1 : 0;
}

static void take_group(struct translator *t)
{
    size_t n = 1;
    if (peek(t, 1) == '?') {
        char a = peek(t, 2), b = peek(t, 3);
        if (a == ':' || a == '=' || a == '!')
            n = 3;
        else if (a == '<' && (b == '=' || b == '!'))
            n = 4;
        else if (a == '<')
            n = name_end(t, t->p + 3);
        else
            n = 0;
        if (n == 0)
            refuse(t, t->p,
                   a == '<' ? "the group's name is never closed"
                            : "no such kind of group in ECMA-262");
    }
    if (t->n_open == NESTING_MAX) {
        refuse(t, t->p, "groups are nested deeper than 100 levels");
        return;
    }
    t->open[t->n_open++] = t->p;
    emit_n(t, t->p, n);
    t->p += n;
    t->repeatable = false;
}

static void take_close(struct translator *t)
{
    if (t->n_open == 0)
        refuse(t, t->p, "a closing parenthesis without an opening one");
    else
        t->n_open--;
    t->p++;
    emit_n(t, ")", 1);
    t->repeatable = true;
}

static bool take_number(struct translator *t, uint32_t *ret)
{
    const char *first = t->p;
    uint32_t v = 0;
    for (; peek(t, 0) >= '0' && peek(t, 0) <= '9'; t->p++)
        v = v > REPEAT_MAX ? v : v * 10 + (uint32_t)(*t->p - '0');
    *ret = v;
    return t->p > first;
}

/* {n} {n,} {n,m} */
static void take_counts(struct translator *t)
{
    uint32_t min = 0, max;
    t->p++;
    if (!take_number(t, &min)) {
        refuse(t, t->token,
               "expected a number of repetitions, as in {2,5}; write \\{ for the character");
        return;
    }
    max = min;
    if (take(t, ',') && !take_number(t, &max))
        max = min;
    if (!take(t, '}'))
        refuse(t, t->token, "the brace is never closed");
    else if (min > REPEAT_MAX || max > REPEAT_MAX)
        refuse(t, t->token, "more than 1000 repetitions are not supported");
    else if (max < min)
        refuse(t, t->token, "the numbers are the wrong way round");
}

static void take_repeat(struct translator *t)
{
    if (!t->repeatable)
        refuse(t, t->p,
               *t->p == '{' ? "there is nothing to repeat before it; write \\{ for the character"
                            : "there is nothing to repeat before it");
    if (*t->p == '{')
        take_counts(t);
    else
        t->p++;
    (void)take(t, '?');
    emit_n(t, t->token, (size_t)(t->p - t->token));
    t->repeatable = false;
}

static void take_reference(struct translator *t)
{
    size_t n = 0;
    t->refers_back = true;
    if (*t->p == 'k') {
        n = peek(t, 1) == '<' ? name_end(t, t->p + 2) : 0;
        if (n == 0)
            refuse(t, t->token, "expected the name of a group, as in \\k<name>");
        emit_n(t, t->token, n + 1);
    } else {
        while (peek(t, n) >= '0' && peek(t, n) <= '9')
            n++;
        emit(t, "\\g{");
        emit_n(t, t->p, n);
        emit(t, "}");
    }
    t->p += n;
}

static void take_backslash(struct translator *t)
{
    t->p++;
    t->repeatable = true;
    if (t->p == t->end) {
        refuse(t, t->token, "a backslash at the end of the pattern");
    } else if (*t->p == 'b' || *t->p == 'B') {
        emit_n(t, t->token, 2);
        t->p++;
        t->repeatable = false;
    } else if (*t->p == 'k' || (*t->p >= '1' && *t->p <= '9')) {
        take_reference(t);
    } else if (!take_named(t, false)) {
        emit_code_point(t, take_escape(t));
    }
}

static void take_token(struct translator *t)
{
    t->token = t->p;
    switch (*t->p) {
    case '\\':
        take_backslash(t);
        return;
    case '[':
        take_class(t);
        return;
    case '(':
        take_group(t);
        return;
    case ')':
        take_close(t);
        return;
    case '*':
    case '+':
    case '?':
    case '{':
        take_repeat(t);
        return;
    case '.':
        emit(t, ANY);
        t->repeatable = true;
        break;
    default:
        emit_n(t, t->p, 1);
        t->repeatable = strchr("^$|", *t->p) == NULL || *t->p == '\0';
        break;
    }
    t->p++;
}

bool ecma_translate(const struct weir_host *h, struct weir_str text, struct ecma *ret,
                    char why[PATTERN_WHY], size_t *ret_offset)
{
    const char *p = text.ptr != NULL ? text.ptr : "";
    struct translator t = {.h = h, .begin = p, .p = p, .end = p + text.len, .token = p};
    (void)grow(&t, 0);
    while (t.why == NULL && t.p < t.end)
        take_token(&t);
    if (t.n_open > 0)
        refuse(&t, t.open[t.n_open - 1], "the parenthesis is never closed");
    if (t.why != NULL) {
        (void)snprintf(why, PATTERN_WHY, "%s", t.why);
        *ret_offset = (size_t)(t.why_at - t.begin);
        h->free(t.out);
        h->free(t.from);
        return false;
    }
    t.from[t.len] = (uint32_t)text.len;
    *ret = (struct ecma){t.out, t.from, t.len, t.refers_back};
    return true;
}
