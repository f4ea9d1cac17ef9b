/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats: date-time, date and time of RFC 3339; email: a dot-atom of RFC 5321 and a hostname;
 * hostname of RFC 1123; ipv4 and ipv6 as inet_pton reads them; uri of RFC 3986, with a scheme; uuid
 * of RFC 9562. All are ASCII.
 */
#include "format.h"
#include "../common/rfc3339.h"

#include <arpa/inet.h>
#include <string.h>

static const char *const names[] = {
    [FORMAT_NONE] = "",     [FORMAT_DATE_TIME] = "date-time", [FORMAT_DATE] = "date",
    [FORMAT_TIME] = "time", [FORMAT_EMAIL] = "email",         [FORMAT_HOSTNAME] = "hostname",
    [FORMAT_IPV4] = "ipv4", [FORMAT_IPV6] = "ipv6",           [FORMAT_URI] = "uri",
    [FORMAT_UUID] = "uuid",
};

enum format format_of(struct weir_str name)
{
    for (int f = FORMAT_DATE_TIME; f <= FORMAT_UUID; f++)
        if (strlen(names[f]) == name.len && memcmp(names[f], name.ptr, name.len) == 0)
            return (enum format)f;
    return FORMAT_NONE;
}

const char *format_name(enum format f)
{
    return names[f];
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_one_of(char c, const char *chars)
{
    return c != '\0' && strchr(chars, c) != NULL;
}

static bool check_hostname(const char *p, size_t len)
{
    size_t label = 0;
    if (len == 0 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '.') {
            if (label == 0 || p[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if ((!is_alpha(p[i]) && !is_digit(p[i]) && p[i] != '-') || (p[i] == '-' && label == 0) ||
            ++label > 63)
            return false;
    }
    return label > 0 && p[len - 1] != '-';
}

static bool check_email(const char *p, size_t len)
{
    const char *at = len <= 254 ? memchr(p, '@', len) : NULL;
    size_t local = at != NULL ? (size_t)(at - p) : 0;
    if (local == 0 || local > 64 || p[0] == '.' || at[-1] == '.')
        return false;
    for (size_t i = 0; i < local; i++) {
        if (p[i] == '.' && p[i + 1] == '.')
            return false;
        if (!is_alpha(p[i]) && !is_digit(p[i]) && !is_one_of(p[i], "!#$%&'*+-/=?^_`{|}~."))
            return false;
    }
    return check_hostname(at + 1, len - local - 1);
}

static bool check_address(int family, const char *p, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[16];
    if (len == 0 || len >= sizeof(text) || memchr(p, 0, len) != NULL)
        return false;
    memcpy(text, p, len);
    text[len] = '\0';
    return inet_pton(family, text, address) == 1;
}

static bool check_uuid(const char *p, size_t len)
{
    if (len != 36)
        return false;
    for (size_t i = 0; i < len; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? p[i] != '-' : !is_hex(p[i]))
            return false;
    return true;
}

/* The host of an authority: [IPv6], or up to where port, path, query or fragment begin. Returns
 * where it ends; NULL where it is wrong. */
static const char *skip_authority(const char *p, const char *end)
{
    const char *stop = p;
    while (stop < end && !is_one_of(*stop, "/?#"))
        stop++;
    const char *host = p;
    for (const char *q = p; q < stop; q++)
        if (*q == '@')
            host = q + 1;
    if (host < stop && *host == '[') {
        const char *close = memchr(host, ']', (size_t)(stop - host));
        if (close == NULL || !check_address(AF_INET6, host + 1, (size_t)(close - host - 1)))
            return NULL;
        host = close + 1;
        if (host < stop && *host != ':')
            return NULL;
    }
    const char *port = memchr(host, ':', (size_t)(stop - host));
    for (const char *q = port != NULL ? port + 1 : stop; q < stop; q++)
        if (!is_digit(*q))
            return NULL;
    return stop;
}

static bool check_uri_chars(const char *p, const char *end, bool brackets)
{
    bool fragment = false;
    for (; p < end; p++) {
        if (*p == '%') {
            if (end - p < 3 || !is_hex(p[1]) || !is_hex(p[2]))
                return false;
        } else if (*p == '#') {
            if (fragment)
                return false;
            fragment = true;
        } else if (!is_alpha(*p) && !is_digit(*p) && !is_one_of(*p, "-._~:/?@!$&'()*+,;=") &&
                   !(brackets && is_one_of(*p, "[]"))) {
            return false;
        }
    }
    return true;
}

static bool check_uri(const char *p, size_t len)
{
    const char *end = p + len;
    if (len == 0 || !is_alpha(*p))
        return false;
    while (p < end && (is_alpha(*p) || is_digit(*p) || is_one_of(*p, "+-.")))
        p++;
    if (p == end || *p != ':')
        return false;
    p++;
    if (end - p < 2 || p[0] != '/' || p[1] != '/')
        return check_uri_chars(p, end, false);
    const char *path = skip_authority(p + 2, end);
    return path != NULL && check_uri_chars(p + 2, path, true) && check_uri_chars(path, end, false);
}

bool format_check(enum format f, struct weir_str text)
{
    const char *p = text.ptr != NULL ? text.ptr : "";
    struct rfc3339 t;
    switch (f) {
    case FORMAT_NONE:
        return true;
    case FORMAT_DATE_TIME:
        return rfc3339_parse(p, text.len, &t);
    case FORMAT_DATE:
        return rfc3339_is_date(p, text.len);
    case FORMAT_TIME:
        return rfc3339_is_time(p, text.len);
    case FORMAT_EMAIL:
        return check_email(p, text.len);
    case FORMAT_HOSTNAME:
        return check_hostname(p, text.len);
    case FORMAT_IPV4:
        return check_address(AF_INET, p, text.len);
    case FORMAT_IPV6:
        return check_address(AF_INET6, p, text.len);
    case FORMAT_URI:
        return check_uri(p, text.len);
    case FORMAT_UUID:
        return check_uuid(p, text.len);
    }
    return false;
}
