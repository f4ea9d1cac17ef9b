/* SPDX-License-Identifier: Apache-2.0
 *
 * Where in a text an error is; see syntax.h. Reads Lua's messages and, for names, its tokens.
 */
#include "syntax.h"

#include <stdlib.h>
#include <string.h>

/* ---- Messages ---- */

struct weir_str syntax_token(const char *message)
{
    const char *near = NULL;
    for (const char *at = message; (at = strstr(at, " near '")) != NULL; at++)
        near = at;
    if (near == NULL)
        return weir_str_n("", 0);
    const char *from = near + strlen(" near '"), *end = strrchr(from, '\'');
    return end != NULL ? weir_str_n(from, (size_t)(end - from)) : weir_str_n("", 0);
}

int64_t syntax_offset(struct weir_str text, const char *message, size_t read)
{
    struct weir_str token = syntax_token(message);
    size_t end = read < text.len ? read : text.len;
    for (size_t at = end + 1; token.len != 0 && token.len <= end && at-- > 0;)
        if (at + token.len <= end && memcmp(text.ptr + at, token.ptr, token.len) == 0)
            return (int64_t)at;
    return (int64_t)end;
}

const char *syntax_strip(const char *message, const char *chunk, unsigned *ret_line)
{
    size_t n = strlen(chunk);
    char *end;
    *ret_line = 0;
    if (strncmp(message, chunk, n) != 0 || message[n] != ':')
        return message;
    unsigned long line = strtoul(message + n + 1, &end, 10);
    if (end == message + n + 1 || end[0] != ':' || end[1] != ' ')
        return message;
    *ret_line = (unsigned)line;
    return end + 2;
}

int64_t syntax_line_offset(struct weir_str text, unsigned line)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    for (unsigned i = 1; i < line && at < end; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline != NULL ? newline + 1 : end;
    }
    return at - text.ptr;
}

/* ---- Names ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Behind a long bracket that opens at p ("[[", "[=["); p itself where none does. */
static const char *skip_long(const char *p, const char *end)
{
    const char *at = p + 1;
    while (at < end && *at == '=')
        at++;
    if (at >= end || *at != '[')
        return p;
    size_t level = (size_t)(at - p) - 1;
    for (at++; at < end; at++) {
        size_t n = 0;
        if (*at != ']')
            continue;
        while (at + 1 + n < end && at[1 + n] == '=')
            n++;
        if (n == level && at + 1 + n < end && at[1 + n] == ']')
            return at + n + 2;
    }
    return end;
}

static const char *skip_quoted(const char *p, const char *end)
{
    char quote = *p++;
    for (; p < end && *p != quote; p++)
        if (*p == '\\' && p + 1 < end)
            p++;
    return p < end ? p + 1 : end;
}

static const char *skip_comment(const char *p, const char *end)
{
    p += 2;
    if (p < end && *p == '[') {
        const char *behind = skip_long(p, end);
        if (behind != p)
            return behind;
    }
    while (p < end && *p != '\n')
        p++;
    return p;
}

/* Behind what stands at p and is no name; p itself at a name. */
static const char *skip_other(const char *p, const char *end)
{
    if (*p == '"' || *p == '\'')
        return skip_quoted(p, end);
    if (*p == '-' && p + 1 < end && p[1] == '-')
        return skip_comment(p, end);
    if (*p == '[') {
        const char *behind = skip_long(p, end);
        return behind != p ? behind : p + 1;
    }
    if (is_digit(*p)) {
        while (p < end && (is_letter(*p) || is_digit(*p) || *p == '.'))
            p++;
        return p;
    }
    return is_letter(*p) ? p : p + 1;
}

static bool is_known(struct weir_str name, const char *const *known)
{
    static const char *const keywords[] = {
        "and", "or",   "not", "nil", "true",  "false",  "break",  "do",   "else",  "elseif", "end",
        "for", "goto", "if",  "in",  "local", "repeat", "return", "then", "until", "while",  NULL};
    for (const char *const *lists[] = {keywords, known, NULL}, *const **list = lists; *list != NULL;
         list++)
        for (const char *const *word = *list; *word != NULL; word++)
            if (strlen(*word) == name.len && memcmp(*word, name.ptr, name.len) == 0)
                return true;
    return false;
}

/* Is the name [at, end) a field: behind a dot or colon, or a key in a table constructor? */
static bool is_field(struct weir_str text, const char *at, const char *end)
{
    const char *before = at, *behind = end, *last = text.ptr + text.len;
    while (before > text.ptr && (unsigned char)before[-1] <= ' ')
        before--;
    while (behind < last && (unsigned char)*behind <= ' ')
        behind++;
    if (before > text.ptr && before[-1] == ':')
        return true;
    if (before > text.ptr && before[-1] == '.')
        return before - 1 == text.ptr || before[-2] != '.';
    return behind < last && *behind == '=' && (behind + 1 == last || behind[1] != '=');
}

bool syntax_unknown_name(struct weir_str text, const char *const *known, struct weir_str *ret)
{
    const char *end = text.ptr + text.len;
    struct weir_str found = {NULL, 0};
    for (const char *p = text.ptr; p < end;) {
        const char *behind = skip_other(p, end);
        if (behind != p) {
            p = behind;
            continue;
        }
        while (behind < end && (is_letter(*behind) || is_digit(*behind)))
            behind++;
        struct weir_str name = weir_str_n(p, (size_t)(behind - p));
        if (name.len == 8 && memcmp(name.ptr, "function", 8) == 0)
            return false;
        if (found.ptr == NULL && !is_field(text, p, behind) && !is_known(name, known))
            found = name;
        p = behind;
    }
    if (found.ptr != NULL)
        *ret = found;
    return found.ptr != NULL;
}
