/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request's target names: one of the configured paths, whose segments may be parameters
 * (`/v1/{tenant}/events`), and a query. Plain text is compared byte for byte, and nothing is
 * normalized: what a path names never depends on how somebody else would have read it.
 */
#include "parse.h"

#include <string.h>
#include <strings.h>

/* The path of a target in absolute form (http://host/path), as proxies send it. */
static struct weir_str path_of(struct weir_str target)
{
    size_t scheme = 0;
    if (target.len >= 7 && strncasecmp(target.ptr, "http://", 7) == 0)
        scheme = 7;
    else if (target.len >= 8 && strncasecmp(target.ptr, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0)
        return target;
    size_t at = scheme;
    while (at < target.len && memchr("/?#", target.ptr[at], 3) == NULL)
        at++;
    if (at == target.len || target.ptr[at] != '/')
        return weir_str_n("/", 1);
    return weir_str_n(target.ptr + at, target.len - at);
}

/* The segment at the beginning of *rest, behind its '/'. */
static bool next_segment(struct weir_str *rest, struct weir_str *ret)
{
    if (rest->len == 0 || rest->ptr[0] != '/')
        return false;
    size_t n = 1;
    while (n < rest->len && rest->ptr[n] != '/')
        n++;
    *ret = weir_str_n(rest->ptr + 1, n - 1);
    *rest = weir_str_n(rest->ptr + n, rest->len - n);
    return true;
}

static bool is_param(struct weir_str segment)
{
    return segment.len > 2 && segment.ptr[0] == '{' && segment.ptr[segment.len - 1] == '}';
}

static bool path_matches(struct weir_str pattern, struct weir_str path, struct params *ret)
{
    struct weir_str want, have;
    ret->n = 0;
    if (memchr(pattern.ptr, '{', pattern.len) == NULL)
        return pattern.len == path.len && memcmp(pattern.ptr, path.ptr, path.len) == 0;
    while (next_segment(&pattern, &want)) {
        if (!next_segment(&path, &have))
            return false;
        if (is_param(want)) {
            if (have.len == 0 || ret->n == MAX_PARAMS)
                return false;
            ret->name[ret->n] = weir_str_n(want.ptr + 1, want.len - 2);
            ret->value[ret->n++] = have;
        } else if (want.len != have.len || memcmp(want.ptr, have.ptr, have.len) != 0) {
            return false;
        }
    }
    return path.len == 0;
}

int32_t target_find(const struct config *cf, struct weir_str target, struct params *ret,
                    struct weir_str *ret_query)
{
    struct weir_str path = path_of(target);
    *ret_query = weir_str_n(NULL, 0);
    const char *end = path.len != 0 ? memchr(path.ptr, '#', path.len) : NULL;
    if (end != NULL) /* of a browser's address, not of a request */
        path.len = (size_t)(end - path.ptr);
    end = path.len != 0 ? memchr(path.ptr, '?', path.len) : NULL;
    if (end != NULL) {
        *ret_query = weir_str_n(end + 1, path.len - (size_t)(end - path.ptr) - 1);
        path.len = (size_t)(end - path.ptr);
    }
    for (uint32_t i = 0; i < cf->paths.n; i++)
        if (path_matches(list_str(&cf->paths, i), path, ret))
            return (int32_t)i;
    ret->n = 0;
    return -1;
}

/* ---- The query ---- */

static bool name_is(struct weir_str encoded, struct weir_str name)
{
    char text[256];
    size_t len = 0;
    return encoded.len <= sizeof(text) && percent_decode(encoded, true, text, &len) &&
           len == name.len && memcmp(text, name.ptr, len) == 0;
}

bool query_find(struct weir_str query, struct weir_str name, struct weir_str *ret)
{
    struct weir_str pair;
    while (str_next(&query, '&', &pair)) {
        const char *equals = pair.len != 0 ? memchr(pair.ptr, '=', pair.len) : NULL;
        size_t len = equals != NULL ? (size_t)(equals - pair.ptr) : pair.len;
        if (!name_is(weir_str_n(pair.ptr, len), name))
            continue;
        size_t skip = equals != NULL ? len + 1 : len;
        *ret = weir_str_n(pair.ptr + skip, pair.len - skip);
        return true;
    }
    return false;
}

bool percent_decode(struct weir_str in, bool plus, char *out, size_t *ret_len)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int high = i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
            int low = i + 2 < in.len ? hex_digit(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        out[n++] = c;
    }
    *ret_len = n;
    return true;
}

/* ---- Configured paths ---- */

static bool is_param_name(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i]))
            return false;
    return name.len != 0;
}

bool pattern_check(struct weir_str pattern, struct weir_str *ret_names, uint32_t *ret_n,
                   size_t *ret_at, const char **ret_why)
{
    struct weir_str rest = pattern, segment;
    *ret_n = 0;
    while (next_segment(&rest, &segment)) {
        *ret_at = (size_t)(segment.ptr - pattern.ptr);
        bool brace = segment.len != 0 && (memchr(segment.ptr, '{', segment.len) != NULL ||
                                          memchr(segment.ptr, '}', segment.len) != NULL);
        if (!brace)
            continue;
        struct weir_str name = weir_str_n(segment.ptr + 1, segment.len > 2 ? segment.len - 2 : 0);
        *ret_why = "a parameter is a whole segment with a name of letters, digits, '-' and '_': "
                   "/v1/{tenant}/events";
        if (!is_param(segment) || !is_param_name(name))
            return false;
        *ret_why = "a path has at most 8 parameters";
        if (*ret_n == MAX_PARAMS)
            return false;
        *ret_why = "the parameter's name is there twice";
        for (uint32_t i = 0; i < *ret_n; i++)
            if (str_same(ret_names[i], name))
                return false;
        ret_names[(*ret_n)++] = name;
    }
    return true;
}
