/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks of the sink `http`: what would fail with every request is said before anything runs.
 */
#include "http_sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- Headers ---- */

static const struct weir_pair *header_at(const struct config *cf, uint32_t i)
{
    return (const struct weir_pair *)cf->headers.items + i;
}

static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct weir_str s)
{
    bool ok = s.len != 0;
    for (size_t i = 0; i < s.len; i++)
        ok = ok && is_token_char(s.ptr[i]);
    return ok;
}

static void check_ours(const struct config *cf, const char *at, const char *name,
                       const struct weir_report *report)
{
    static const char *const ours[] = {"content-length", "transfer-encoding",
                                       "connection",     "content-encoding",
                                       "expect",         "te",
                                       "trailer",        "upgrade"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcasecmp(ours[i], name) == 0)
            report->error(report, at, -1, "the header %s is set by the sink itself: remove it%s",
                          ours[i], i == 3 ? ", and use the option compression" : "");
    if (cf->format == FORMAT_SINGLE && strcasecmp(name, "weir-id") == 0)
        report->error(report, at, -1, "format single sets the header weir-id itself: remove it");
    if (strcasecmp(name, "authorization") == 0 && (cf->token.len != 0 || cf->user.len != 0))
        report->error(report, at, -1, "token and user set the same header: keep one of them");
}

static void check_header(const struct config *cf, uint32_t i, const struct weir_report *report)
{
    const struct weir_pair *pair = header_at(cf, i);
    struct weir_str value;
    char at[160];
    (void)snprintf(at, sizeof(at), "headers.%.140s", pair->key.ptr);
    if (!is_token(pair->key))
        report->error(report, at, -1, "'%s' is no header name: expected one such as x-api-key",
                      pair->key.ptr);
    check_ours(cf, at, pair->key.ptr, report);
    for (uint32_t k = 0; k < i; k++)
        if (strcasecmp(header_at(cf, k)->key.ptr, pair->key.ptr) == 0)
            report->error(report, at, -1, "the header is there twice, as %s: remove one",
                          header_at(cf, k)->key.ptr);
    if (report->host->template_is_literal(pair->value.ptr, &value) && !header_value_valid(value))
        report->error(report, at, -1,
                      "the value holds a control character, perhaps a newline at its end");
}

/* ---- Statuses ---- */

static bool has_word(const struct weir_list *list, struct weir_str word)
{
    const struct weir_str *words = list->items;
    for (uint32_t i = 0; i < list->n; i++)
        if (words[i].len == word.len && memcmp(words[i].ptr, word.ptr, word.len) == 0)
            return true;
    return false;
}

static void check_statuses(const struct weir_list *list, const char *name,
                           const struct weir_report *report)
{
    for (uint32_t i = 0; i < list->n; i++) {
        struct weir_str word = ((const struct weir_str *)list->items)[i];
        char at[32];
        (void)snprintf(at, sizeof(at), "%s[%u]", name, i);
        if (!status_word_valid(word))
            report->error(report, at, 0, "'%s' is no status: expected one such as 429, or 5xx",
                          word.ptr);
    }
}

static void check_both(const struct config *cf, const struct weir_report *report)
{
    for (uint32_t i = 0; i < cf->ok_status.n; i++) {
        struct weir_str word = ((const struct weir_str *)cf->ok_status.items)[i];
        char at[32];
        if (!has_word(&cf->retry_status, word))
            continue;
        (void)snprintf(at, sizeof(at), "ok_status[%u]", i);
        report->error(report, at, 0,
                      "'%s' is in retry_status as well (by default: 3xx, 401, 403, 407, 408, 425, "
                      "429, 5xx): keep it in one of them",
                      word.ptr);
    }
}

/* ---- Where to ---- */

/* What libcurl says against a url; NULL: nothing. */
static const char *curl_problem(const char *url, unsigned flags, const struct weir_host *h,
                                struct weir_arena *a, const char **ret_scheme)
{
    CURLU *u = curl_url();
    char *scheme = NULL;
    const char *problem = "no memory to check it";
    *ret_scheme = "";
    if (u == NULL)
        return problem;
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, flags);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    problem = rc == CURLUE_OK ? NULL : curl_url_strerror(rc);
    if (scheme != NULL)
        *ret_scheme = h->arena_copy(a, weir_cstr(scheme)).ptr;
    curl_free(scheme);
    curl_url_cleanup(u);
    return problem;
}

static void check_url(const struct config *cf, const struct weir_report *report,
                      struct weir_arena *a)
{
    const struct weir_host *h = report->host;
    struct weir_str text = {NULL, 0};
    const char *scheme;
    bool literal = h->template_is_literal(cf->url, &text);
    struct weir_str prefix = literal ? text : h->template_prefix(cf->url);
    const char *problem = url_prefix_problem(prefix, literal);
    if (problem == NULL) {
        struct weir_str url = url_encode(h, prefix, a);
        problem = url.ptr != NULL ? curl_problem(url.ptr, 0, h, a, &scheme) : "no memory";
    }
    if (problem != NULL)
        report->error(report, "url", 0, "%s; expected such as https://example.com/events", problem);
    bool tls = cf->tls.ca.len + cf->tls.cert.len + cf->tls.key.len != 0 || cf->tls.insecure_skip_verify;
    if (tls && prefix.len > 7 && memcmp(prefix.ptr, "http://", 7) == 0)
        report->error(
            report, "tls", -1,
            "the url begins with http://, so nothing is encrypted and this has no effect: "
            "write https://, or remove tls");
}

/* The proxy may hold a password, so it is not repeated. */
static void check_proxy(const struct config *cf, const struct weir_report *report,
                        struct weir_arena *a)
{
    static const char *const schemes[] = {"http",    "https",  "socks4",
                                          "socks4a", "socks5", "socks5h"};
    const char *scheme;
    bool known = false;
    if (cf->proxy.len == 0)
        return;
    const char *problem = curl_problem(cf->proxy.ptr, CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME,
                                       report->host, a, &scheme);
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        known |= scheme != NULL && strcmp(scheme, schemes[i]) == 0;
    if (problem == NULL && !known)
        problem = "it is no http, https, socks4, socks4a, socks5 or socks5h";
    if (problem != NULL)
        report->error(report, "proxy", -1, "%s; expected such as http://proxy.internal:3128",
                      problem);
}

static void check_file(const char *path, struct weir_str file, const struct weir_report *report)
{
    if (file.len != 0 && access(file.ptr, R_OK) != 0)
        report->error(report, path, -1, "'%s' cannot be read: %s", file.ptr, strerror(errno));
}

static void check_tls(const struct tls_config *tls, const struct weir_report *report)
{
    if (tls->key.len != 0 && tls->cert.len == 0)
        report->error(report, "tls.key", -1, "there is a key and no certificate: add `cert`");
    check_file("tls.ca", tls->ca, report);
    check_file("tls.cert", tls->cert, report);
    check_file("tls.key", tls->key, report);
    if (tls->insecure_skip_verify)
        report->warning(report, "tls.insecure_skip_verify", -1,
                        "the server's certificate is not verified: anybody on the way can read and change the events; set `tls.ca` instead");
}

/* ---- Who we are ---- */

static bool visible(struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~')
            return false;
    return true;
}

static void check_credentials(const struct config *cf, const struct weir_report *report)
{
    if (cf->token.len != 0 && cf->user.len != 0)
        report->error(report, "token", -1,
                      "token and user are two ways to authenticate: remove one of them");
    if (!visible(cf->token))
        report->error(report, "token", -1,
                      "a token is visible ASCII; this one has a space or a newline, perhaps at its "
                      "end");
    if (cf->user.len == 0 && cf->password.len != 0)
        report->error(report, "password", -1, "there is a password and no user: add `user`");
    if (memchr(cf->user.len != 0 ? cf->user.ptr : "", ':', cf->user.len) != NULL)
        report->error(report, "user", -1, "a user name for basic authentication holds no ':'");
}

void sink_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    struct weir_arena *a = report->host->arena_new(report->host);
    if (a == NULL) {
        report->error(report, "", -1, "no memory to check the options");
        return;
    }
    check_url(cf, report, a);
    check_proxy(cf, report, a);
    for (uint32_t i = 0; i < cf->headers.n; i++)
        check_header(cf, i, report);
    check_statuses(&cf->ok_status, "ok_status", report);
    check_statuses(&cf->retry_status, "retry_status", report);
    check_both(cf, report);
    check_credentials(cf, report);
    check_tls(&cf->tls, report);
    report->host->arena_free(a);
}
