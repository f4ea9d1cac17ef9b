/* SPDX-License-Identifier: Apache-2.0
 *
 * The raw settings of the option `rdkafka`: each goes to librdkafka as it is, but for those that
 * would break what weir promises, or that an option of our own is for. They are refused by name,
 * with the reason and what to use instead.
 */
#include "client.h"

#include <stdio.h>
#include <string.h>

enum { SOURCE = 1, SINK = 2, BOTH = SOURCE | SINK };

/* What the raw map may not set. A name that ends in '*' stands for all that begin so; one with a
 * '=' for that value only. */
static const struct refused {
    const char *name;
    unsigned kinds;
    const char *reason;
} refusals[] = {
    {"bootstrap.servers", BOTH, "use the option brokers"},
    {"metadata.broker.list", BOTH, "use the option brokers"},
    {"client.id", BOTH, "use the option client_id"},
    {"security.protocol", BOTH, "it follows from the options tls and sasl"},
    {"sasl.mechanism", BOTH, "use the option sasl.mechanism"},
    {"sasl.mechanisms", BOTH, "use the option sasl.mechanism"},
    {"sasl.username", BOTH, "use the option sasl.user"},
    {"sasl.password", BOTH, "use the option sasl.password, which is never printed"},
    {"sasl.oauthbearer.*", BOTH, "use the option sasl.oauth, whose secrets are never printed"},
    {"enable.sasl.oauthbearer.unsecure.jwt", BOTH,
     "it makes tokens that anybody can make: use the option sasl.oauth"},
    {"sasl.kerberos.*", BOTH, "weir logs in by PLAIN, SCRAM and OAUTHBEARER: see sasl.mechanism"},
    {"ssl.ca.pem", BOTH, "use the option tls.ca"},
    {"ssl.certificate.pem", BOTH, "use the option tls.certificate"},
    {"ssl.keystore.location", BOTH, "use the options tls.certificate and tls.key"},
    {"ssl.ca.location", BOTH, "use the option tls.ca"},
    {"ssl.certificate.location", BOTH, "use the option tls.certificate"},
    {"ssl.key.location", BOTH, "use the option tls.key"},
    {"ssl.key.password", BOTH, "use the option tls.key_password, which is never printed"},
    {"ssl.key.pem", BOTH, "use the option tls.key: what rdkafka holds is printed"},
    {"ssl.keystore.password", BOTH,
     "use tls.key and tls.key_password: what rdkafka holds is printed"},
    {"enable.ssl.certificate.verification", BOTH, "use the option tls.insecure_skip_verify"},
    {"ssl.endpoint.identification.algorithm", BOTH, "use the option tls.insecure_skip_verify"},
    {"plugin.library.paths", BOTH, "it loads foreign code into the process"},
    {"statistics.interval.ms", BOTH, "use the option statistics"},
    {"log.queue", BOTH, "weir reads librdkafka's log by a callback"},
    {"enabled_events", BOTH, "weir serves librdkafka by callbacks"},
    {"test.mock.num.brokers", BOTH, "a cluster inside the process keeps nothing"},
    {"group.id", SOURCE, "use the option group"},
    {"group.instance.id", SOURCE, "use the option instance_id, which gives each lane its own"},
    {"group.protocol", SOURCE, "weir hands partitions over by the classic protocol"},
    {"group.remote.assignor", SOURCE, "weir hands partitions over by the classic protocol"},
    {"partition.assignment.strategy", SOURCE,
     "use the option assignment, which knows what is sound in this version of librdkafka"},
    {"auto.offset.reset", SOURCE,
     "use the option start; where a committed offset is gone weir goes on with what is left"},
    {"enable.auto.commit", SOURCE,
     "weir commits an offset once everything before it has been delivered"},
    {"auto.commit.enable", SOURCE,
     "weir commits an offset once everything before it has been delivered"},
    {"auto.commit.interval.ms", SOURCE, "use the option commit_interval"},
    {"enable.auto.offset.store", SOURCE,
     "weir commits an offset once everything before it has been delivered"},
    {"offset.store.*", SOURCE, "weir keeps offsets in the consumer group"},
    {"enable.partition.eof", SOURCE, "weir needs it on, to know how far behind it is"},
    {"queued.max.messages.kbytes", SOURCE, "use the option prefetch"},
    {"queued.min.messages", SOURCE, "use the option prefetch"},
    {"fetch.queue.backoff.ms", SOURCE, "it follows from the option prefetch"},
    {"enable.idempotence", SINK, "without it a retry could write an event twice or out of order"},
    {"acks", SINK, "an event counts as delivered once all in-sync replicas have it"},
    {"request.required.acks", SINK,
     "an event counts as delivered once all in-sync replicas have it"},
    {"message.timeout.ms", SINK,
     "librdkafka keeps an event until it is delivered; see shutdown_timeout"},
    {"delivery.timeout.ms", SINK,
     "librdkafka keeps an event until it is delivered; see shutdown_timeout"},
    {"retries", SINK, "librdkafka keeps an event until it is delivered"},
    {"message.send.max.retries", SINK, "librdkafka keeps an event until it is delivered"},
    {"transactional.id", SINK, "weir writes without transactions"},
    {"enable.gapless.guarantee", SINK, "one event that is refused would end the producer"},
    {"delivery.report.only.error", SINK, "without reports no event would ever be acknowledged"},
    {"partitioner=random", SINK, "events of a key must stay in order, and so in one partition"},
    {"queuing.strategy", SINK, "events of a key must stay in order"},
    {"linger.ms", SINK, "use the option linger"},
    {"queue.buffering.max.ms", SINK, "use the option linger"},
    {"compression.codec", SINK, "use the option compression"},
    {"compression.type", SINK, "use the option compression"},
    {"queue.buffering.max.kbytes", SINK, "use the option queue"},
    {"message.max.bytes", SINK, "use the option max_message"},
};

static bool is_refused(const struct refused *r, const char *name, const char *value)
{
    size_t n = strlen(r->name);
    const char *equals = strchr(r->name, '=');
    if (r->name[n - 1] == '*')
        return strncmp(r->name, name, n - 1) == 0;
    if (equals == NULL)
        return strcmp(r->name, name) == 0;
    n = (size_t)(equals - r->name);
    return strncmp(r->name, name, n) == 0 && name[n] == '\0' && strcmp(equals + 1, value) == 0;
}

static const struct refused *refusal_of(const char *name, const char *value, unsigned kind)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if ((refusals[i].kinds & kind) != 0 && is_refused(&refusals[i], name, value))
            return &refusals[i];
    return NULL;
}

static void set_raw(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
                    const char *value)
{
    char text[WEIR_ERROR_TEXT];
    bool secret = strstr(name, "secret") != NULL || strstr(name, "password") != NULL;
    switch (rd_kafka_conf_set(conf, name, value, text, sizeof(text))) {
    case RD_KAFKA_CONF_OK:
        return;
    case RD_KAFKA_CONF_UNKNOWN:
        problem(p, path, "librdkafka %s has no setting '%s': see its CONFIGURATION.md",
                rd_kafka_version_str(), name);
        return;
    case RD_KAFKA_CONF_INVALID:
        problem(p, path, "librdkafka refuses '%.100s': %s", secret ? "***" : value, text);
        return;
    }
}

/* Certificates, keys and keytabs that the library reads. */
static void note_file(const struct problems *p, const char *name, struct weir_str value)
{
    size_t len = strlen(name);
    bool is_file = (len > 9 && strcmp(name + len - 9, ".location") == 0) ||
                   strcmp(name, "sasl.kerberos.keytab") == 0;
    if (is_file && p->report != NULL && p->report->file != NULL)
        p->report->file(p->report, value);
}

void client_conf_raw(rd_kafka_conf_t *conf, const struct client_config *cfg, enum weir_kind kind,
                     struct problems *p)
{
    const struct weir_pair *pairs = cfg->rdkafka.items;
    for (uint32_t i = 0; i < cfg->rdkafka.n; i++) {
        const char *name = pairs[i].key.ptr;
        char path[160];
        snprintf(path, sizeof(path), "rdkafka.%s", name);
        const struct refused *r =
            refusal_of(name, pairs[i].value.str.ptr, kind == WEIR_SOURCE ? SOURCE : SINK);
        if (r != NULL)
            problem(p, path, "'%s' cannot be set here: %s",
                    r->name[strlen(r->name) - 1] == '*' ? name : r->name, r->reason);
        else if (strlen(name) != pairs[i].key.len)
            problem(p, path, "a setting's name cannot hold a NUL byte");
        else
            set_raw(conf, p, path, name, pairs[i].value.str.ptr);
        note_file(p, name, pairs[i].value.str);
    }
}
