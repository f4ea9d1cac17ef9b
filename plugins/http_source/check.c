/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: what `weir check` says of a configuration beyond its table.
 */
#include "http_source.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_header_name(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i]))
            return false;
    return name.len != 0;
}

/* Is the name among the first n? */
static bool among(const struct weir_list *list, uint32_t n, struct weir_str name)
{
    for (uint32_t i = 0; i < n; i++)
        if (str_same(list_str(list, i), name))
            return true;
    return false;
}

static bool listed(const struct weir_list *list, struct weir_str name)
{
    return among(list, list->n, name);
}

/* Path parameters, query parameters and headers all become headers of the event. */
static void check_params(const struct config *cf, struct weir_str path, const char *at,
                         const struct weir_report *report)
{
    struct weir_str names[MAX_PARAMS];
    uint32_t n = 0;
    size_t offset = 0;
    const char *why = "";
    if (!pattern_check(path, names, &n, &offset, &why)) {
        report->error(report, at, (int64_t)offset, "%s", why);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (listed(&cf->query, names[i]) || listed(&cf->headers, names[i]))
            report->error(report, at, -1,
                          "the parameter {%.*s} is also in query or headers, and an event has one "
                          "header of a name: give it another name",
                          (int)names[i].len, names[i].ptr);
}

/* The first path that fits is taken. */
static void check_reached(const struct config *cf, uint32_t i, const char *at,
                          const struct weir_report *report)
{
    struct weir_str path = list_str(&cf->paths, i), query;
    struct params params;
    int32_t first = target_find(cf, path, &params, &query);
    if (first < 0 || first >= (int32_t)i)
        return;
    struct weir_str before = list_str(&cf->paths, (uint32_t)first);
    if (strcmp(before.ptr, path.ptr) == 0)
        report->error(report, at, -1, "the path '%s' is there twice: remove one", path.ptr);
    else
        report->error(report, at, -1,
                      "'%s' before it takes all that this path would: put this one first, or "
                      "remove it",
                      before.ptr);
}

static void check_path(const struct config *cf, uint32_t i, const struct weir_report *report)
{
    struct weir_str path = list_str(&cf->paths, i);
    char at[32];
    (void)snprintf(at, sizeof(at), "path[%u]", i);
    if (path.len == 0 || path.ptr[0] != '/') {
        report->error(report, at, 0, "expected a path that begins with '/', found '%s'", path.ptr);
        return;
    }
    for (size_t c = 0; c < path.len; c++) {
        if (path.ptr[c] <= ' ' || path.ptr[c] > '~' || strchr("?#\"", path.ptr[c]) != NULL) {
            report->error(report, at, (int64_t)c,
                          "a path holds no space, '?', '#', quotes, nor bytes beyond ASCII; write "
                          "those percent-encoded");
            return;
        }
    }
    check_params(cf, path, at, report);
    check_reached(cf, i, at, report);
}

static void check_header(const struct config *cf, uint32_t i, const struct weir_report *report)
{
    static const char *const secret[] = {"authorization", "cookie", "proxy-authorization"};
    struct weir_str name = list_str(&cf->headers, i);
    char at[32];
    (void)snprintf(at, sizeof(at), "headers[%u]", i);
    if (!is_header_name(name))
        report->error(report, at, 0, "'%s' is no header name: expected one such as x-request-id",
                      name.ptr);
    if (among(&cf->headers, i, name))
        report->error(report, at, 0, "the header %s is there twice: remove one", name.ptr);
    for (size_t k = 0; k < sizeof(secret) / sizeof(secret[0]); k++)
        if (strcasecmp(secret[k], name.ptr) == 0)
            report->error(report, at, 0,
                          "the header %s holds a secret, and events go to places that keep them: "
                          "remove it",
                          secret[k]);
}

static void check_tokens(const struct config *cf, const struct weir_report *report)
{
    for (uint32_t i = 0; i < cf->tokens.n; i++) {
        struct weir_str token = list_str(&cf->tokens, i);
        char at[32];
        (void)snprintf(at, sizeof(at), "tokens[%u]", i);
        bool ok = token.len != 0;
        for (size_t c = 0; c < token.len; c++)
            ok = ok && token.ptr[c] > ' ' && token.ptr[c] <= '~';
        if (!ok)
            report->error(
                report, at, -1,
                "a token is one or more visible ASCII characters; this one is empty or has "
                "a space or a newline, perhaps at its end");
        else if (token.len < 16)
            report->warning(report, at, -1,
                            "the token has %zu characters: use at least 16 random ones", token.len);
    }
}

static void check_token_file(const struct config *cf, const struct weir_report *report)
{
    char why[160];
    if (cf->token_file.len != 0 && !tokens_file_check(cf->token_file.ptr, why, sizeof(why)))
        report->error(report, "token_file", -1, "cannot use '%s': %s", cf->token_file.ptr, why);
}

static void check_basic(const struct config *cf, const struct weir_report *report)
{
    const struct weir_pair *pairs = cf->basic.items;
    for (uint32_t i = 0; i < cf->basic.n; i++) {
        struct weir_str user = pairs[i].key;
        if (user.len == 0 || user.len > 256 || memchr(user.ptr, ':', user.len) != NULL)
            report->error(report, "basic", -1,
                          "a user's name has 1 to 256 bytes and no ':', which ends it");
        if (pairs[i].value.str.len > 512)
            report->error(report, "basic", -1, "the password of '%.*s' has more than 512 bytes",
                          (int)user.len, user.ptr);
        else if (pairs[i].value.str.len < 8)
            report->warning(report, "basic", -1,
                            "the password of '%.*s' is short: use at least 16 random characters",
                            (int)user.len, user.ptr);
    }
}

static void check_hmac(const struct hmac_config *cf, const struct weir_report *report)
{
    if (cf->secrets.n == 0)
        return;
    for (uint32_t i = 0; i < cf->secrets.n; i++)
        if (list_str(&cf->secrets, i).len < 16)
            report->warning(report, "hmac.secrets", -1,
                            "a secret is short: use at least 16 random characters");
    if (!is_header_name(cf->header))
        report->error(report, "hmac.header", 0, "'%s' is no header name", cf->header.ptr);
    if (cf->timestamp_header.len != 0 && !is_header_name(cf->timestamp_header))
        report->error(report, "hmac.timestamp_header", 0, "'%s' is no header name",
                      cf->timestamp_header.ptr);
    if (cf->timestamp_header.len != 0 && str_same(cf->timestamp_header, cf->header))
        report->error(report, "hmac.timestamp_header", -1,
                      "the signature has this header already: name another one");
}

static void check_query(const struct config *cf, const struct weir_report *report)
{
    for (uint32_t i = 0; i < cf->query.n; i++) {
        struct weir_str name = list_str(&cf->query, i);
        if (name.len == 0 || name.len > 128)
            report->error(report, "query", -1, "a parameter's name has 1 to 128 bytes");
        if (among(&cf->query, i, name))
            report->error(report, "query", -1, "'%s' is there twice: remove one", name.ptr);
        if (listed(&cf->headers, name))
            report->error(
                report, "query", -1,
                "'%s' is also in headers, and an event has one header of a name: remove one",
                name.ptr);
    }
}

static bool is_loopback(struct weir_str address)
{
    static const char *const hosts[] = {"127.0.0.1:", "[::1]:", "localhost:"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        if (strncmp(address.ptr, hosts[i], strlen(hosts[i])) == 0)
            return true;
    return false;
}

static void check_tls(const struct config *cf, const struct weir_report *report)
{
    tls_check(&cf->tls, report);
    if (cf->tls.client_auth == CLIENT_OPTIONAL && cf->tls.client_ca.len == 0)
        report->error(report, "tls.client_auth", -1,
                      "without client_ca no client is asked for a certificate: set client_ca, or "
                      "remove client_auth");
    if (cf->tls.cert.len == 0 && cf->basic.n != 0 && !is_loopback(cf->address))
        report->warning(report, "basic", -1,
                        "passwords come unencrypted without `tls`: set it, or let a proxy do TLS");
}

static void check_field(const struct weir_list *path, const char *name,
                        const struct weir_report *report)
{
    for (uint32_t i = 0; i < path->n; i++)
        if (list_str(path, i).len == 0)
            report->error(report, name, -1, "a field's name is not empty");
}

void http_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    struct address at;
    const char *why = "";
    if (!address_split(cf->address, &at, &why))
        report->error(report, "address", 0, "cannot listen on '%s': %s", cf->address.ptr, why);
    for (uint32_t i = 0; i < cf->paths.n; i++)
        check_path(cf, i, report);
    for (uint32_t i = 0; i < cf->headers.n; i++)
        check_header(cf, i, report);
    check_query(cf, report);
    check_tokens(cf, report);
    check_token_file(cf, report);
    check_basic(cf, report);
    check_hmac(&cf->hmac, report);
    check_tls(cf, report);
    cors_check(&cf->cors, report);
    check_field(&cf->key, "key", report);
    check_field(&cf->id_field, "id_field", report);
    if (cf->max_in_flight < cf->max_body)
        report->error(report, "max_in_flight", -1,
                      "%lld bytes is less than max_body (%lld): the largest body would never fit",
                      (long long)cf->max_in_flight, (long long)cf->max_body);
    if (cf->max_decompressed < cf->max_body)
        report->error(report, "max_decompressed", -1,
                      "%lld bytes is less than max_body (%lld): expected at least as much",
                      (long long)cf->max_decompressed, (long long)cf->max_body);
    if (cf->max_wait > cf->request_timeout)
        report->error(report, "max_wait", -1,
                      "it is longer than request_timeout, which ends the request first: shorten it "
                      "or lengthen request_timeout");
}
