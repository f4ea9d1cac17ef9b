/* SPDX-License-Identifier: Apache-2.0
 *
 * The matcher behind string.find, match, gmatch and gsub; see pattern.h. It walks the pattern's
 * items and calls itself where there is a choice to come back to.
 */
#include "pattern.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 200
#define WORK_STEP 1024u

void matcher_init(struct matcher *m, lua_State *L, struct weir_str src, struct weir_str pattern)
{
    *m = (struct matcher){
        .L = L, .src = src.ptr, .src_end = src.ptr + src.len, .pat_end = pattern.ptr + pattern.len};
}

static void work(struct matcher *m)
{
    if (++m->work < WORK_STEP)
        return;
    m->work = 0;
    vm_charge(m->L, WORK_STEP);
}

/* ---- Single characters ---- */

/* The end of the item at p: a character, %x or [set]. */
static const char *item_end(struct matcher *m, const char *p)
{
    if (*p == '%') {
        if (p + 1 == m->pat_end)
            (void)luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 2;
    }
    if (*p++ != '[')
        return p;
    if (*p == '^')
        p++;
    do { /* a ']' in first place is a character of the set */
        if (p == m->pat_end)
            (void)luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%' && p < m->pat_end)
            p++;
    } while (p == m->pat_end || *p != ']');
    return p + 1;
}

static bool in_class(int c, int class_char)
{
    bool in;
    switch (tolower(class_char)) {
    case 'a':
        in = isalpha(c) != 0;
        break;
    case 'c':
        in = iscntrl(c) != 0;
        break;
    case 'd':
        in = isdigit(c) != 0;
        break;
    case 'g':
        in = isgraph(c) != 0;
        break;
    case 'l':
        in = islower(c) != 0;
        break;
    case 'p':
        in = ispunct(c) != 0;
        break;
    case 's':
        in = isspace(c) != 0;
        break;
    case 'u':
        in = isupper(c) != 0;
        break;
    case 'w':
        in = isalnum(c) != 0;
        break;
    case 'x':
        in = isxdigit(c) != 0;
        break;
    default:
        return class_char == c;
    }
    return in != (isupper(class_char) != 0);
}

/* p stands on '[', `last` on the ']' that closes it. */
static bool in_set(int c, const char *p, const char *last)
{
    bool found = true;
    if (p[1] == '^') {
        found = false;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p))
                return found;
        } else if (p[1] == '-' && p + 2 < last) {
            p += 2;
            if ((unsigned char)p[-2] <= c && c <= (unsigned char)*p)
                return found;
        } else if ((unsigned char)*p == c) {
            return found;
        }
    }
    return !found;
}

static bool matches_one(struct matcher *m, const char *s, const char *p, const char *end)
{
    work(m);
    if (s >= m->src_end)
        return false;
    int c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

/* ---- Choices ---- */

static const char *match(struct matcher *m, const char *s, const char *p);

static const char *longest_first(struct matcher *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;
    while (matches_one(m, s + n, p, end))
        n++;
    for (; n >= 0; n--) {
        const char *e = match(m, s + n, end + 1);
        if (e != NULL)
            return e;
    }
    return NULL;
}

static const char *shortest_first(struct matcher *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *e = match(m, s, end + 1);
        if (e != NULL || !matches_one(m, s, p, end))
            return e;
    }
}

/* ---- Captures ---- */

static const char *open_capture(struct matcher *m, const char *s, const char *p, ptrdiff_t what)
{
    if (m->n_captures >= PATTERN_CAPTURES)
        (void)luaL_error(m->L, "too many captures");
    m->captures[m->n_captures].at = s;
    m->captures[m->n_captures].len = what;
    m->n_captures++;
    const char *e = match(m, s, p);
    if (e == NULL)
        m->n_captures--;
    return e;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
    int i = m->n_captures - 1;
    while (i >= 0 && m->captures[i].len != CAPTURE_OPEN)
        i--;
    if (i < 0)
        (void)luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].at;
    const char *e = match(m, s, p);
    if (e == NULL)
        m->captures[i].len = CAPTURE_OPEN;
    return e;
}

static const char *same_as_capture(struct matcher *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->n_captures || m->captures[i].len == CAPTURE_OPEN)
        (void)luaL_error(m->L, "invalid capture index %%%d", i + 1);
    ptrdiff_t len = m->captures[i].len;
    if (len < 0 || m->src_end - s < len)
        return NULL;
    vm_charge(m->L, (uint64_t)len / BYTES_PER_CHARGE);
    return memcmp(m->captures[i].at, s, (size_t)len) == 0 ? s + len : NULL;
}

/* ---- Special items ---- */

/* %bxy; p stands on x. */
static const char *balanced(struct matcher *m, const char *s, const char *p)
{
    if (p >= m->pat_end - 1)
        (void)luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (*s != *p)
        return NULL;
    for (size_t depth = 1; ++s < m->src_end;) {
        work(m);
        if (*s == p[1]) {
            if (--depth == 0)
                return s + 1;
        } else if (*s == p[0]) {
            depth++;
        }
    }
    return NULL;
}

/* %f[set]; p stands on [. */
static bool at_frontier(struct matcher *m, const char *s, const char *p, const char **ret_end)
{
    if (*p != '[')
        (void)luaL_error(m->L, "missing '[' after '%%f' in pattern");
    const char *end = *ret_end = item_end(m, p);
    int before = s == m->src ? 0 : (unsigned char)s[-1];
    return !in_set(before, p, end - 1) && in_set((unsigned char)*s, p, end - 1);
}

/* %b, %f and %1. True: *s is where it ends, NULL where it does not match, and *p behind it. */
static bool special(struct matcher *m, const char **s, const char **p)
{
    char c = (*p)[1];
    if (c == 'b') {
        *s = balanced(m, *s, *p + 2);
        *p += 4;
        return true;
    }
    if (c == 'f') {
        if (!at_frontier(m, *s, *p + 2, p))
            *s = NULL;
        return true;
    }
    if (c < '0' || c > '9')
        return false;
    *s = same_as_capture(m, *s, c);
    *p += 2;
    return true;
}

/* A single character with what stands behind it. True: go on at *s, *p; false: *s is the result. */
static bool item(struct matcher *m, const char **s, const char **p)
{
    const char *end = item_end(m, *p), *e;
    switch (*end) {
    case '?':
        if (matches_one(m, *s, *p, end) && (e = match(m, *s + 1, end + 1)) != NULL) {
            *s = e;
            return false;
        }
        *p = end + 1;
        return true;
    case '+':
        *s = matches_one(m, *s, *p, end) ? longest_first(m, *s + 1, *p, end) : NULL;
        return false;
    case '*':
        *s = longest_first(m, *s, *p, end);
        return false;
    case '-':
        *s = shortest_first(m, *s, *p, end);
        return false;
    default:
        if (!matches_one(m, *s, *p, end)) {
            *s = NULL;
            return false;
        }
        *s += 1;
        *p = end;
        return true;
    }
}

static const char *match_items(struct matcher *m, const char *s, const char *p)
{
    while (s != NULL && p != m->pat_end) {
        if (*p == '(')
            return p[1] == ')' ? open_capture(m, s, p + 2, CAPTURE_PLACE)
                               : open_capture(m, s, p + 1, CAPTURE_OPEN);
        if (*p == ')')
            return close_capture(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pat_end)
            return s == m->src_end ? s : NULL;
        if (*p == '%' && special(m, &s, &p))
            continue;
        if (!item(m, &s, &p))
            return s;
    }
    return s;
}

static const char *match(struct matcher *m, const char *s, const char *p)
{
    work(m);
    if (m->depth == DEPTH_MAX)
        (void)luaL_error(m->L, "pattern too complex");
    m->depth++;
    const char *e = match_items(m, s, p);
    m->depth--;
    return e;
}

const char *matcher_match(struct matcher *m, const char *s, const char *p)
{
    m->n_captures = 0;
    m->depth = 0;
    return match(m, s, p);
}

/* ---- Results ---- */

void matcher_push(struct matcher *m, int i, const char *s, const char *e)
{
    if (i >= m->n_captures) {
        if (i != 0)
            (void)luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(e - s));
        return;
    }
    ptrdiff_t len = m->captures[i].len;
    if (len == CAPTURE_OPEN)
        (void)luaL_error(m->L, "unfinished capture");
    if (len == CAPTURE_PLACE)
        lua_pushinteger(m->L, m->captures[i].at - m->src + 1);
    else
        lua_pushlstring(m->L, m->captures[i].at, (size_t)len);
}

int matcher_push_all(struct matcher *m, const char *s, const char *e)
{
    int n = m->n_captures == 0 && s != NULL ? 1 : m->n_captures;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        matcher_push(m, i, s, e);
    return n;
}
