/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of a client → configuration of librdkafka, and every check that needs no server.
 *
 * Called by check() with a report, which hears of everything that is wrong, and by open() with an
 * error, which keeps the first. Owns the list of raw settings that are refused because they would
 * break what weir promises.
 */
#include "client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* librdkafka#4895 */
#define VERSION_SCRAM 0x020601ff

const char *const sasl_mechanisms[] = {"none",          "PLAIN",       "SCRAM-SHA-256",
                                       "SCRAM-SHA-512", "OAUTHBEARER", NULL};

const struct weir_option tls_options[6] = {
    {.name = "enabled",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct tls_config, enabled),
     .def = "false",
     .doc = "Encrypt; needless where one of the files below is named."},
    {.name = "ca",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, ca),
     .doc = "Certificates that may sign the brokers' (PEM); default the system's.",
     .example = "certs/ca.pem"},
    {.name = "certificate",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, certificate),
     .doc = "Certificate to show to the brokers (PEM).",
     .example = "certs/client.pem"},
    {.name = "key",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, key),
     .doc = "Private key of the certificate (PEM).",
     .example = "certs/client.key"},
    {.name = "key_password",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct tls_config, key_password),
     .doc = "Password of the private key.",
     .example = "${env:KAFKA_KEY_PASSWORD}"},
    {.name = "insecure_skip_verify",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct tls_config, insecure_skip_verify),
     .def = "false",
     .doc = "Take any certificate, of whomever: not verified, TLS protects from nobody who is on the way."},
};

const struct weir_option sasl_options[4] = {
    {.name = "mechanism",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct sasl_config, mechanism),
     .def = "none",
     .choices = sasl_mechanisms,
     .doc = "How to log in.",
     .example = "SCRAM-SHA-512"},
    {.name = "user",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct sasl_config, user),
     .doc = "User name.",
     .example = "weir"},
    {.name = "password",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct sasl_config, password),
     .doc = "Password.",
     .example = "${env:KAFKA_PASSWORD}"},
    {.name = "oauth",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct sasl_config, oauth),
     WEIR_FIELDS(oauth_options),
     .fields_size = sizeof(struct oauth_config),
     .doc = "Where the token of OAUTHBEARER comes from.",
     .example = "{file: /var/run/secrets/kafka/token}"},
};

/* ---- Problems ------------------------------------------------------------------------------ */

void problem(struct problems *p, const char *path, const char *fmt, ...)
{
    char text[WEIR_ERROR_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (p->report != NULL)
        p->report->error(p->report, path, -1, "%s", text);
    else if (p->n == 0 && path[0] != '\0')
        p->host->error(p->err, WEIR_E_CONFIG, "kafka_config", "%s: %s", path, text);
    else if (p->n == 0)
        p->host->error(p->err, WEIR_E_CONFIG, "kafka_config", "%s", text);
    p->n++;
}

void set(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
         const char *value)
{
    char text[WEIR_ERROR_TEXT];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof(text)) != RD_KAFKA_CONF_OK)
        problem(p, path, "%s", text);
}

void set_text(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
              struct weir_str value)
{
    if (value.len != 0)
        set(conf, p, path, name, value.ptr);
}

void set_number(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
                int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    set(conf, p, path, name, text);
}

int64_t get_number(const rd_kafka_conf_t *conf, const char *name)
{
    char text[64];
    size_t size = sizeof(text);
    if (rd_kafka_conf_get(conf, name, text, &size) != RD_KAFKA_CONF_OK)
        return 0;
    return strtoll(text, NULL, 10);
}

/* ---- Building ------------------------------------------------------------------------------ */

static bool tls_on(const struct tls_config *tls)
{
    return tls->enabled || tls->ca.len != 0 || tls->certificate.len != 0 || tls->key.len != 0;
}

static void conf_security(rd_kafka_conf_t *conf, const struct client_config *cfg,
                          struct problems *p)
{
    const struct tls_config *tls = &cfg->tls;
    bool encrypted = tls_on(tls);
    bool login = cfg->sasl.mechanism != SASL_NONE;
    set(conf, p, "tls", "security.protocol",
        encrypted ? (login ? "sasl_ssl" : "ssl") : (login ? "sasl_plaintext" : "plaintext"));
    if (encrypted) {
        set_text(conf, p, "tls.ca", "ssl.ca.location", tls->ca);
        set_text(conf, p, "tls.certificate", "ssl.certificate.location", tls->certificate);
        set_text(conf, p, "tls.key", "ssl.key.location", tls->key);
        set_text(conf, p, "tls.key_password", "ssl.key.password", tls->key_password);
        set(conf, p, "tls.insecure_skip_verify", "enable.ssl.certificate.verification",
            tls->insecure_skip_verify ? "false" : "true");
        set(conf, p, "tls.insecure_skip_verify", "ssl.endpoint.identification.algorithm",
            tls->insecure_skip_verify ? "none" : "https");
    }
    if (login) {
        set(conf, p, "sasl.mechanism", "sasl.mechanisms", sasl_mechanisms[cfg->sasl.mechanism]);
        set_text(conf, p, "sasl.user", "sasl.username", cfg->sasl.user);
        set_text(conf, p, "sasl.password", "sasl.password", cfg->sasl.password);
        if (cfg->sasl.mechanism == SASL_OAUTHBEARER)
            oauth_conf(conf, &cfg->sasl.oauth, p);
    }
}

rd_kafka_conf_t *client_conf(const struct client_config *cfg, struct problems *p)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set_text(conf, p, "client_id", "client.id", cfg->client_id);
    /* A broker that comes back is found within seconds; an idle connection that it closes is no
     * news; dead peers behind a NAT are noticed. */
    set(conf, p, "", "reconnect.backoff.ms", "100");
    set(conf, p, "", "reconnect.backoff.max.ms", "2000");
    set(conf, p, "", "log.connection.close", "false");
    set(conf, p, "", "socket.keepalive.enable", "true");
    int64_t seconds = (cfg->statistics + WEIR_NS_PER_S - 1) / WEIR_NS_PER_S;
    set_number(conf, p, "statistics", "statistics.interval.ms", seconds * 1000);
    conf_security(conf, cfg, p);
    return conf;
}

/* ---- Checks -------------------------------------------------------------------------------- */

bool topic_name_valid(struct weir_str name)
{
    if (name.len == 0 || (name.len <= 2 && memcmp(name.ptr, "..", name.len) == 0))
        return false;
    return topic_part_valid(name);
}

bool topic_part_valid(struct weir_str name)
{
    if (name.len > 249)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

/* NULL where `text` is host or host:port, else what is wrong. */
static const char *address_fault(const char *text, size_t n)
{
    if (n == 0)
        return "is empty";
    if (memchr(text, '/', n) != NULL)
        return "is a URL or a path";
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return "holds a space or a control character";
    const char *bracket = memchr(text, ']', n);
    const char *from = bracket != NULL ? bracket : text;
    const char *colon = memchr(from, ':', n - (size_t)(from - text));
    if (colon == text)
        return "has no host name";
    if (colon == NULL)
        return NULL;
    size_t digits = n - (size_t)(colon - text) - 1;
    uint32_t port = 0;
    for (size_t i = 1; i <= digits; i++) {
        if (colon[i] < '0' || colon[i] > '9' || digits > 5)
            return "has no valid port";
        port = port * 10 + (uint32_t)(colon[i] - '0');
    }
    return port == 0 || port > 65535 ? "has no valid port" : NULL;
}

static void check_brokers(const struct weir_list *brokers, struct problems *p)
{
    const struct weir_str *items = brokers->items;
    for (uint32_t i = 0; i < brokers->n; i++) {
        const char *at = items[i].ptr;
        const char *end = at + items[i].len;
        for (;;) {
            const char *comma = memchr(at, ',', (size_t)(end - at));
            size_t n = (size_t)((comma != NULL ? comma : end) - at);
            const char *fault = address_fault(at, n);
            char path[32];
            snprintf(path, sizeof(path), "brokers[%u]", (unsigned)i);
            if (fault != NULL)
                problem(p, path, "'%.*s' %s: expected host:port, such as kafka-1:9092",
                        (int)(n > 100 ? 100 : n), at, fault);
            if (comma == NULL)
                break;
            at = comma + 1;
        }
    }
}

static void check_file(struct problems *p, const char *path, struct weir_str file)
{
    if (file.len != 0 && access(file.ptr, R_OK) != 0)
        problem(p, path, "'%s' cannot be read: %s", file.ptr, strerror(errno));
}

bool scram_is_old(const struct client_config *cfg)
{
    bool scram = cfg->sasl.mechanism == SASL_SCRAM_256 || cfg->sasl.mechanism == SASL_SCRAM_512;
    return scram && rd_kafka_version() < VERSION_SCRAM;
}

static void check_tls(const struct tls_config *tls, struct problems *p)
{
    check_file(p, "tls.ca", tls->ca);
    check_file(p, "tls.certificate", tls->certificate);
    check_file(p, "tls.key", tls->key);
    if ((tls->certificate.len != 0) != (tls->key.len != 0))
        problem(p, tls->key.len != 0 ? "tls.key" : "tls.certificate",
                "a certificate and its key go together: also set tls.%s",
                tls->key.len != 0 ? "certificate" : "key");
    if (tls->key_password.len != 0 && tls->key.len == 0)
        problem(p, "tls.key_password", "has no effect without tls.key: name the key's file there");
    if (tls->insecure_skip_verify && tls_on(tls) && p->report != NULL)
        p->report->warning(p->report, "tls.insecure_skip_verify", -1,
                           "the brokers' certificates are not verified: anybody on the way can read and "
                           "change the events; set tls.ca instead");
    if (tls->insecure_skip_verify && !tls_on(tls))
        problem(p, "tls.insecure_skip_verify",
                "has no effect, for nothing is encrypted: also set tls.enabled to "
                "true, or leave it out");
}

static void check_sasl(const struct client_config *cfg, struct problems *p)
{
    const struct sasl_config *sasl = &cfg->sasl;
    oauth_check(&sasl->oauth, sasl->mechanism == SASL_OAUTHBEARER, p);
    if (sasl->mechanism == SASL_NONE) {
        if (sasl->user.len != 0 || sasl->password.len != 0)
            problem(p, "sasl",
                    "a user or password is given but no mechanism: set sasl.mechanism "
                    "to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512");
        return;
    }
    if (scram_is_old(cfg) && p->report != NULL)
        p->report->warning(p->report, "sasl.mechanism", -1,
                           "librdkafka %s logs in by SCRAM at brokers before Kafka 4 only: for "
                           "others use librdkafka 2.6.1 and later, or PLAIN with tls",
                           rd_kafka_version_str());
    if (!tls_on(&cfg->tls) && p->report != NULL &&
        (sasl->mechanism == SASL_PLAIN || sasl->mechanism == SASL_OAUTHBEARER))
        p->report->warning(p->report, "sasl.mechanism", -1,
                           "%s without tls sends the %s readable over the network",
                           sasl_mechanisms[sasl->mechanism],
                           sasl->mechanism == SASL_PLAIN ? "password" : "token");
    if (sasl->mechanism == SASL_OAUTHBEARER) {
        if (sasl->user.len != 0 || sasl->password.len != 0)
            problem(p, "sasl", "mechanism OAUTHBEARER takes no user and password: use sasl.oauth");
        return;
    }
    if (sasl->user.len == 0)
        problem(p, "sasl", "mechanism %s needs sasl.user", sasl_mechanisms[sasl->mechanism]);
    if (sasl->password.len == 0)
        problem(p, "sasl", "mechanism %s needs sasl.password", sasl_mechanisms[sasl->mechanism]);
}

void client_check(const struct client_config *cfg, struct problems *p)
{
    check_brokers(&cfg->brokers, p);
    check_tls(&cfg->tls, p);
    check_sasl(cfg, p);
}

/* librdkafka's own warnings about a configuration; that there are no brokers is our doing. */
static void warn_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
    (void)level;
    const struct problems *p = rd_kafka_opaque(rk);
    if (p->report == NULL || strcmp(fac, "CONFWARN") != 0)
        return;
    if (strstr(text, "bootstrap.servers") != NULL)
        return;
    p->report->warning(p->report, "rdkafka", -1, "%s", text);
}

void client_try(rd_kafka_conf_t *take_conf, enum weir_kind kind, struct problems *p)
{
    char text[WEIR_ERROR_TEXT];
    rd_kafka_conf_set_opaque(take_conf, p);
    rd_kafka_conf_set_log_cb(take_conf, warn_log);
    rd_kafka_t *rk = rd_kafka_new(kind == WEIR_SOURCE ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER,
                                  take_conf, text, sizeof(text));
    if (rk != NULL) {
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        return;
    }
    rd_kafka_conf_destroy(take_conf);
    problem(p, "", "librdkafka refuses this configuration: %s", text);
}
