/* SPDX-License-Identifier: Apache-2.0
 *
 * Nested option tables of a connection, and what tables cannot say.
 *
 * Messages never repeat what the URL holds: it may be a password.
 */
#include "conn_config.h"

#include "tls.h"

#include <stdio.h>

#define TLS_OFFSET(member) offsetof(struct tls_config, member)
#define SENTINEL_OFFSET(member) offsetof(struct sentinel_config, member)

const struct weir_option tls_options[N_TLS_OPTIONS] = {
    {.name = "ca",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = TLS_OFFSET(ca),
     .doc = "File with the certificates (PEM) that the server's is verified by; without it those "
            "that the system trusts.",
     .example = "/etc/ssl/redis-ca.pem"},
    {.name = "cert",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = TLS_OFFSET(cert),
     .doc = "File with the client's certificate (PEM), where the server wants one.",
     .example = "/run/secrets/redis.crt"},
    {.name = "key",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = TLS_OFFSET(key),
     .doc = "File with the key of `cert` (PEM, not encrypted).",
     .example = "/run/secrets/redis.key"},
    {.name = "server_name",
     .type = WEIR_OPT_STRING,
     .offset = TLS_OFFSET(server_name),
     .doc = "The name that the certificate must have and that is sent as SNI; without it the host "
            "of the URL, and of each node that is found.",
     .example = "redis.internal"},
    {.name = "insecure_skip_verify",
     .type = WEIR_OPT_BOOL,
     .offset = TLS_OFFSET(insecure_skip_verify),
     .def = "false",
     .doc = "Take any certificate, of whomever: not verified, TLS protects from nobody who is on the way."},
};

const struct weir_option sentinel_options[N_SENTINEL_OPTIONS] = {
    {.name = "master",
     .type = WEIR_OPT_STRING,
     .offset = SENTINEL_OFFSET(master),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The name by which the Sentinels know the master.",
     .example = "mymaster"},
    {.name = "user",
     .type = WEIR_OPT_STRING,
     .offset = SENTINEL_OFFSET(user),
     .doc = "ACL user at the Sentinels; `user` and `password` of the component are for the master.",
     .example = "weir"},
    {.name = "password",
     .type = WEIR_OPT_STRING,
     .offset = SENTINEL_OFFSET(password),
     .flags = WEIR_OPT_SECRET,
     .doc = "Password at the Sentinels.",
     .example = "${file:/run/secrets/sentinel}"},
};

struct weir_str conn_config_user(const struct conn_config *cf, const struct address *a)
{
    return a->has_user ? weir_cstr(a->user) : cf->user;
}

struct weir_str conn_config_password(const struct conn_config *cf, const struct address *a)
{
    return a->has_password ? weir_cstr(a->password) : cf->password;
}

static void check_login(const struct conn_config *cf, const struct address *a,
                        const struct weir_report *report)
{
    if (a->has_password && cf->password.len > 0)
        report->error(report, "password", -1,
                      "the URL holds a password as well; leave one of them out");
    if (a->has_user && cf->user.len > 0)
        report->error(report, "user", -1, "the URL holds a user as well; leave one of them out");
    if (a->database != 0 && cf->database != 0 && a->database != cf->database)
        report->error(report, "database", -1,
                      "found %lld, but the URL says %lld; leave one of them out",
                      (long long)cf->database, (long long)a->database);
    if ((a->has_user || cf->user.len > 0) && !a->has_password && cf->password.len == 0)
        report->error(report, "user", -1, "a user needs a `password`");
    if (cf->sentinel.user.len > 0 && cf->sentinel.password.len == 0)
        report->error(report, "sentinel.user", -1, "a user needs a `password`");
}

static void check_tls(const struct conn_config *cf, const struct address *a,
                      const struct weir_report *report)
{
    const struct tls_config *tls = &cf->tls;
    char text[300];
    const char *option;
    bool any = tls->ca.len + tls->cert.len + tls->key.len + tls->server_name.len > 0;
    if (!a->tls && (any || tls->insecure_skip_verify)) {
        report->error(
            report, "tls", -1,
            "TLS is used only where `url` begins with rediss://, which this one does not");
        return;
    }
    if ((tls->cert.len > 0) != (tls->key.len > 0)) {
        report->error(report, tls->cert.len > 0 ? "tls.cert" : "tls.key", -1,
                      "`cert` and `key` go together; `%s` is missing",
                      tls->cert.len > 0 ? "key" : "cert");
        return;
    }
    if (tls->insecure_skip_verify && tls->ca.len > 0)
        report->error(report, "tls.ca", -1,
                      "`insecure_skip_verify` makes no use of it; leave one of them out");
    else if (tls->insecure_skip_verify)
        report->warning(report, "tls.insecure_skip_verify", -1,
                        "the server's certificate is not verified: anybody between here and the "
                        "server can read and change everything");
    struct tls *context = a->tls ? tls_new(report->host, tls, &option, text, sizeof(text)) : NULL;
    if (a->tls && context == NULL)
        report->error(report, option, -1, "%s", text);
    tls_free(context);
}

static void check_nodes(const struct conn_config *cf, const struct weir_report *report)
{
    const struct weir_str *nodes = cf->nodes.items;
    if (cf->nodes.n > 0 && !cf->cluster && cf->sentinel.master.len == 0)
        report->error(
            report, "nodes", -1,
            "more than one node makes sense with `cluster: true` or with `sentinel` only");
    for (uint32_t i = 0; i < cf->nodes.n; i++) {
        struct address a = {0};
        const char *wrong = address_parse_node(nodes[i], &a);
        char path[32];
        snprintf(path, sizeof(path), "nodes[%u]", i);
        if (wrong != NULL)
            report->error(report, path, -1, "expected host:port: %s", wrong);
    }
}

void conn_config_check(const struct conn_config *cf, const struct weir_report *report)
{
    struct address a;
    size_t offset;
    const char *wrong = address_parse(cf->url, &a, &offset);
    if (wrong != NULL) {
        report->error(report, "url", (int64_t)offset, "not a Redis URL: %s", wrong);
        return;
    }
    check_login(cf, &a, report);
    check_tls(cf, &a, report);
    check_nodes(cf, report);
    bool many = cf->cluster || cf->sentinel.master.len > 0;
    if (cf->cluster && cf->sentinel.master.len > 0)
        report->error(report, "sentinel", -1,
                      "a cluster does its own failover; leave `sentinel` or `cluster` out");
    if (cf->cluster && (a.database != 0 || cf->database != 0))
        report->error(report, cf->database != 0 ? "database" : "url", -1,
                      "a cluster has database 0 only, found %lld",
                      (long long)(cf->database != 0 ? cf->database : a.database));
    if (many && a.host[0] == '\0')
        report->error(report, "url", -1,
                      "a unix socket is one server; with `%s` the URL is redis://host:port",
                      cf->cluster ? "cluster" : "sentinel");
}
