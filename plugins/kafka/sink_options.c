/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink's type: its option table, their way into librdkafka's configuration, and the checks that
 * need no running instance.
 */
#include "sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const timestamp_words[] = {"now", "event", NULL};
static const char *const compression_words[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};

static const struct weir_option options[] = {
    CLIENT_OPTIONS(struct sink_config, client),
    {.name = "topic",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY | WEIR_OPT_PREFIXED,
     .offset = offsetof(struct sink_config, topic),
     .doc = "Topic to write to.",
     .example = "\"user-events.{{ type }}\""},
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, key),
     .doc =
         "Key of the message: its events stay in order, in one partition; default the event's key.",
     .example = "\"{{ user_id }}\""},
    {.name = "headers",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, headers),
     .doc = "Headers besides those of the event, which they replace, and weir-id.",
     .example = "{source: api, kind: \"{{ type }}\"}"},
    {.name = "compression",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct sink_config, compression),
     .def = "lz4",
     .choices = compression_words,
     .doc = "Compression of a request's messages."},
    {.name = "linger",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct sink_config, linger),
     .def = "1ms",
     .min = 0,
     .max = 10 * WEIR_NS_PER_S,
     .doc = "How long a message waits for others of its partition before it is sent."},
    {.name = "timestamp",
     .type = WEIR_OPT_ENUM,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct sink_config, timestamp),
     .def = "now",
     .choices = timestamp_words,
     .doc = "Time of the message: that of its writing, or the event's; a topic's retention goes by "
            "it and may delete a message with an old time at once."},
    {.name = "queue",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_MEMORY,
     .offset = offsetof(struct sink_config, queue),
     .def = "128MiB",
     .min = INT64_C(1) << 20,
     .max = INT64_C(2047) << 30,
     .doc = "Bytes that the producer may hold unacknowledged; then writes wait."},
    {.name = "max_message",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct sink_config, max_message),
     .def = "8MiB",
     .min = 1000,
     .max = 1000000000,
     .doc = "Larger messages are rejected before they are sent; the brokers have a limit of their "
            "own (message.max.bytes, by default 1 MiB)."},
};

static void set_milliseconds(rd_kafka_conf_t *conf, struct problems *p, const char *path,
                             const char *name, int64_t ns)
{
    char text[40];
    snprintf(text, sizeof(text), "%" PRId64 ".%03" PRId64, ns / WEIR_NS_PER_MS,
             ns % WEIR_NS_PER_MS / 1000);
    set(conf, p, path, name, text);
}

rd_kafka_conf_t *sink_conf(const struct sink_config *cfg, struct problems *p)
{
    rd_kafka_conf_t *conf = client_conf(&cfg->client, p);
    set(conf, p, "", "enable.idempotence", "true");
    set(conf, p, "", "acks", "all");
    set(conf, p, "", "message.timeout.ms", "0");
    /* As Java's clients do, so that all producers of a topic agree on a key's partition. */
    set(conf, p, "", "partitioner", "murmur2_random");
    /* A topic that brokers create on demand is there within that time. */
    set(conf, p, "", "topic.metadata.propagation.max.ms", "10000");
    set(conf, p, "", "queue.buffering.max.messages", "1000000");
    set_milliseconds(conf, p, "linger", "linger.ms", cfg->linger);
    set(conf, p, "compression", "compression.codec", compression_words[cfg->compression]);
    set_number(conf, p, "queue", "queue.buffering.max.kbytes", cfg->queue >> 10);
    set_number(conf, p, "max_message", "message.max.bytes", cfg->max_message);
    client_conf_raw(conf, &cfg->client, WEIR_SINK, p);
    if (cfg->max_message > cfg->queue)
        problem(p, "queue",
                "is smaller than max_message (%" PRId64 " bytes): one message could never fit; "
                "raise queue or lower max_message",
                cfg->max_message);
    return conf;
}

void check_topic(const struct sink_config *cfg, const struct weir_host *h, struct problems *p)
{
    struct weir_str name;
    bool literal = h->template_is_literal(cfg->topic, &name);
    if (!literal)
        name = h->template_prefix(cfg->topic);
    int n = (int)(name.len > 200 ? 200 : name.len);
    if (literal && !topic_name_valid(name))
        problem(p, "topic", "'%.*s' is no topic name: 1 to 249 letters, digits, '.', '_' and '-'",
                n, name.ptr);
    else if (!literal && !topic_part_valid(name))
        problem(p, "topic",
                "no topic name begins with '%.*s': expected letters, digits, '.', '_' and '-'", n,
                name.ptr);
}

static void check_headers(const struct sink_config *cfg, struct problems *p)
{
    const struct weir_pair *pairs = cfg->headers.items;
    for (uint32_t i = 0; i < cfg->headers.n; i++)
        if (strcmp(pairs[i].key.ptr, "weir-id") == 0)
            problem(p, "headers.weir-id",
                    "weir writes this header itself: it carries the event's "
                    "id; choose another name");
}

static void sink_check(const void *config, const struct weir_report *report)
{
    const struct sink_config *cfg = config;
    struct problems p = {.report = report};
    client_check(&cfg->client, &p);
    check_topic(cfg, report->host, &p);
    check_headers(cfg, &p);
    rd_kafka_conf_t *conf = sink_conf(cfg, &p);
    if (p.n == 0)
        client_try(conf, WEIR_SINK, &p);
    else
        rd_kafka_conf_destroy(conf);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_ORDERED;
}

static enum weir_status sink_probe(const struct weir_host *h, const void *config,
                                   int64_t deadline_ns, struct weir_error *err)
{
    const struct sink_config *cfg = config;
    struct weir_str name;
    bool literal = h->template_is_literal(cfg->topic, &name);
    return client_probe(h, WEIR_SINK, &cfg->client, &name, literal ? 1 : 0, deadline_ns, err);
}

const struct weir_type kafka_sink_type = {
    .size = sizeof(kafka_sink_type),
    .kind = WEIR_SINK,
    .name = "kafka",
    .summary = "Writes events to topics as an idempotent producer.",
    .doc = "An event is delivered once all in-sync replicas have it. While brokers are away "
           "librdkafka repeats by itself, in order and without duplicates, for as long as it "
           "takes. Where they refuse a request and its events are written again, what waits behind "
           "them is taken back, and follows them. Events that were under way at that moment may "
           "then be there twice: those of a connection that is lost, or into which a part of a "
           "request was written. The log tells how many events of lost connections those are at "
           "most, and `weir_component_errors_total` counts them with the code `possibly_written`. "
           "The order of a key may be lost where brokers refuse a request for its size while a "
           "smaller one to the same partition waits behind it, since librdkafka may send that "
           "before it can be taken back: give topics a `max.message.bytes` of 1 MiB, which is the "
           "default, or more, and they refuse none.\n\n"
           "The partition follows from the key as in Java's clients. The header `weir-id` carries "
           "the event's id; a tombstone is written without a value. A topic that does not exist "
           "is waited for where `topic` is a plain name; where it is a template the event is "
           "rejected. While Kafka refuses the login, denies writing to a topic, or denies the "
           "idempotent producer, events wait and `/readyz` says why; after an error that ends the "
           "producer a new one goes on with the events that were not acknowledged.\n\n"
           "Metrics of the client, every `statistics`: `weir_kafka_tx_messages_total`, "
           "`weir_kafka_tx_bytes_total`, `weir_kafka_producer_queue_messages`, "
           "`weir_kafka_producer_queue_bytes`, `weir_kafka_broker_rtt_seconds` and "
           "`weir_kafka_broker_connected` (of up to 32 brokers), "
           "`weir_kafka_requests_timed_out_total`, `weir_kafka_requests_retried_total`, "
           "`weir_kafka_connects_total`. Always: `weir_kafka_errors_total`.",
    .needs_always = WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID,
    .options = WEIR_OPTIONS(options, struct sink_config),
    .sink = &kafka_sink_calls,
    .check = sink_check,
    .traits = sink_traits,
    .probe = sink_probe,
    .open = sink_open,
    .close = sink_close,
};
