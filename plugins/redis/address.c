/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads redis://[[user]:password@]host[:port][/database], rediss:// alike, and unix:///path.
 *
 * Messages never repeat what the URL holds: it may be a password.
 */
#include "address.h"

#include <stdio.h>
#include <string.h>

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Copies s with its %XX resolved and a NUL behind; NULL or what is wrong. */
static const char *decode(struct weir_str s, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int c = (unsigned char)s.ptr[i];
        if (c == '%') {
            int high = s.len - i > 2 ? hex_of(s.ptr[i + 1]) : -1;
            int low = s.len - i > 2 ? hex_of(s.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return "a % is followed by two hexadecimal digits; write a percent sign as %25";
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0)
            return "a NUL byte cannot be part of it";
        if (n + 1 >= cap)
            return "it is too long";
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return NULL;
}

static bool take_prefix(struct weir_str *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->len < n || memcmp(s->ptr, prefix, n) != 0)
        return false;
    *s = weir_str_n(s->ptr + n, s->len - n);
    return true;
}

/* Splits s at the first `c`: what is in front of it, and in *s the rest. False where there is none.
 */
static bool split(struct weir_str *s, char c, struct weir_str *ret_head)
{
    const char *at = s->len > 0 ? memchr(s->ptr, c, s->len) : NULL;
    if (at == NULL)
        return false;
    *ret_head = weir_str_n(s->ptr, (size_t)(at - s->ptr));
    *s = weir_str_n(at + 1, s->len - ret_head->len - 1);
    return true;
}

bool address_read_uint(struct weir_str s, int64_t max, int64_t *ret)
{
    int64_t v = 0;
    if (s.len == 0 || s.len > 9)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        v = v * 10 + (s.ptr[i] - '0');
    }
    *ret = v;
    return v <= max;
}

static const char *read_login(struct weir_str login, struct address *a)
{
    struct weir_str user;
    if (!split(&login, ':', &user))
        return "in front of @ stands user:password or :password";
    const char *wrong = decode(user, a->user, sizeof(a->user));
    a->has_user = user.len > 0;
    a->has_password = true;
    return wrong != NULL ? wrong : decode(login, a->password, sizeof(a->password));
}

static const char *read_host(struct weir_str s, struct address *a)
{
    struct weir_str host = s;
    struct weir_str port = weir_cstr("6379");
    if (take_prefix(&s, "[")) {
        if (!split(&s, ']', &host))
            return "a ] is missing behind the IPv6 address";
        if (s.len > 0 && !take_prefix(&s, ":"))
            return "behind ] stands nothing or :port";
        if (s.len > 0)
            port = s;
    } else if (split(&s, ':', &host)) {
        port = s;
    }
    int64_t number = 0;
    if (!address_read_uint(port, 65535, &number) || number == 0)
        return "the port is a number from 1 to 65535 (an IPv6 address stands in [ ])";
    snprintf(a->port, sizeof(a->port), "%d", (int)number);
    if (host.len == 0)
        return "the host is missing";
    return decode(host, a->host, sizeof(a->host));
}

static const char *read_tcp(struct weir_str rest, struct address *a)
{
    struct weir_str place = rest;
    const char *last_at = rest.len > 0 ? memrchr(rest.ptr, '@', rest.len) : NULL;
    if (last_at != NULL) {
        struct weir_str login = weir_str_n(rest.ptr, (size_t)(last_at - rest.ptr));
        const char *wrong = read_login(login, a);
        if (wrong != NULL)
            return wrong;
        place = weir_str_n(last_at + 1, rest.len - login.len - 1);
    }
    if (place.len > 0 && memchr(place.ptr, '?', place.len) != NULL)
        return "a redis URL has no parameters behind ?; use the options beside it";
    struct weir_str host = place;
    if (split(&place, '/', &host) && place.len > 0 &&
        !address_read_uint(place, 1000000, &a->database))
        return "behind the host stands / and the number of a database";
    return read_host(host, a);
}

const char *address_parse_node(struct weir_str text, struct address *ret)
{
    if (text.len > 0 && (memchr(text.ptr, '/', text.len) || memchr(text.ptr, '@', text.len)))
        return "it has no scheme, no password and no path; those are taken from `url`";
    return read_host(text, ret);
}

const char *address_parse(struct weir_str url, struct address *ret, size_t *ret_offset)
{
    struct weir_str rest = url;
    *ret = (struct address){0};
    *ret_offset = 0;
    ret->tls = take_prefix(&rest, "rediss://");
    bool tcp = ret->tls || take_prefix(&rest, "redis://");
    if (!tcp && !take_prefix(&rest, "unix://"))
        return "it begins with redis://, rediss:// or unix://";
    *ret_offset = (size_t)(rest.ptr - url.ptr);
    if (tcp)
        return read_tcp(rest, ret);
    if (rest.len == 0 || rest.ptr[0] != '/')
        return "behind unix:// stands an absolute path: unix:///run/redis.sock";
    return decode(rest, ret->path, sizeof(ret->path));
}
