/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of other origins (the Fetch standard's CORS protocol). Where `cors` is configured a browser
 * may send events from the listed origins, and from this server's own; a request from any other
 * origin is refused, preflight or not, since some need none. Without `cors` Origin means nothing.
 */
#include "http_source.h"

#include <string.h>

static bool is_own(struct weir_str origin, struct weir_str host)
{
    for (size_t i = 0; i + 3 < origin.len; i++)
        if (memcmp(origin.ptr + i, "://", 3) == 0)
            return str_same(weir_str_n(origin.ptr + i + 3, origin.len - i - 3), host);
    return false;
}

bool cors_allows(struct request *q)
{
    const struct cors_config *cf = &q->lane->config->cors;
    struct weir_str origin = q->head.origin;
    if (cf->origins.n == 0 || origin.ptr == NULL || is_own(origin, q->head.host))
        return true;
    for (uint32_t i = 0; i < cf->origins.n && !q->cors; i++)
        q->cors =
            str_is(list_str(&cf->origins, i), "*") || str_same(list_str(&cf->origins, i), origin);
    return q->cors;
}

bool cors_is_preflight(const struct request *q)
{
    return q->cors && q->head.preflight_method.ptr != NULL && method_is(&q->head, "OPTIONS");
}

void cors_headers(const struct request *q, struct text *t)
{
    const struct cors_config *cf = &q->lane->config->cors;
    if (cf->origins.n == 0)
        return;
    bool any = str_is(list_str(&cf->origins, 0), "*");
    if (!any)
        text_cstr(t, "Vary: Origin\r\n");
    if (!q->cors)
        return;
    text_cstr(t, "Access-Control-Allow-Origin: ");
    text_add(t, any ? weir_str_n("*", 1) : q->head.origin);
    text_cstr(t, "\r\n");
    if (cf->credentials)
        text_cstr(t, "Access-Control-Allow-Credentials: true\r\n");
    if (!cors_is_preflight(q))
        text_cstr(t, "Access-Control-Expose-Headers: Retry-After\r\n");
}

void cors_preflight_headers(const struct request *q, struct text *t)
{
    const struct config *cf = q->lane->config;
    const int *methods = cf->methods.items;
    text_cstr(t, "Access-Control-Allow-Methods: ");
    for (uint32_t i = 0; i < cf->methods.n; i++) {
        text_cstr(t, i != 0 ? ", " : "");
        text_cstr(t, method_words[methods[i]]);
    }
    text_cstr(t, "\r\nAccess-Control-Allow-Headers: ");
    for (uint32_t i = 0; i < cf->cors.headers.n; i++) {
        text_cstr(t, i != 0 ? ", " : "");
        text_add(t, list_str(&cf->cors.headers, i));
    }
    text_cstr(t, "\r\nAccess-Control-Max-Age: ");
    text_int(t, cf->cors.max_age / WEIR_NS_PER_S);
    text_cstr(t, "\r\n");
}

/* ---- Configuration ---- */

/* scheme://host[:port], as browsers send it. */
static bool is_origin(struct weir_str origin)
{
    const char *sep = origin.len > 3 ? memmem(origin.ptr, origin.len, "://", 3) : NULL;
    if (sep == NULL || sep == origin.ptr || sep + 3 == origin.ptr + origin.len)
        return false;
    for (size_t i = 0; i < origin.len; i++) {
        char c = origin.ptr[i];
        bool in_host = origin.ptr + i >= sep + 3;
        if (c <= ' ' || c > '~' || (in_host && memchr("/?#@,\\", c, 6) != NULL))
            return false;
    }
    return true;
}

void cors_check(const struct cors_config *cf, const struct weir_report *report)
{
    for (uint32_t i = 0; i < cf->origins.n; i++) {
        struct weir_str origin = list_str(&cf->origins, i);
        bool any = str_is(origin, "*");
        if (!any && !is_origin(origin))
            report->error(
                report, "cors.origins", -1,
                "'%s' is no origin: expected one such as https://www.example.com, without "
                "a path and without '/' at its end, or '*'",
                origin.ptr);
        if (any && cf->origins.n != 1)
            report->error(report, "cors.origins", -1,
                          "'*' is every origin already: remove the others, or '*'");
        if (any && cf->credentials)
            report->error(report, "cors.credentials", -1,
                          "browsers send no credentials where the origin is '*': list the origins, "
                          "or remove `credentials`");
    }
    for (uint32_t i = 0; i < cf->headers.n; i++) {
        struct weir_str name = list_str(&cf->headers, i);
        bool ok = name.len != 0;
        for (size_t c = 0; c < name.len; c++)
            ok = ok && is_name_char(name.ptr[c]);
        if (!ok)
            report->error(report, "cors.headers", -1, "'%s' is no header name", name.ptr);
        else if (cf->credentials && str_is(name, "*"))
            report->error(report, "cors.headers", -1,
                          "'*' names nothing where there are credentials: list the headers");
    }
}
