/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_kafka: librdkafka without a pipeline round it.
 *
 *   limit_kafka write BROKERS TOPIC N        N messages by the idempotent producer (acks=all, lz4), until the
 *                                            last delivery report
 *   limit_kafka read BROKERS TOPIC N         the first N messages of all partitions
 *   limit_kafka copy BROKERS TOPIC N TO      read, and written to another topic
 */
#include "limit.h"

#include <librdkafka/rdkafka.h>

#define BATCH 1024

static uint64_t n_delivered, n_bytes;

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        limit_die("limit_kafka", rd_kafka_err2str(m->err));
    n_delivered++;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[512];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
        limit_die(name, why);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers)
{
    char why[512];
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
    if (rk == NULL)
        limit_die("limit_kafka", why);
    return rk;
}

/* Partitions of the topic; afterwards the client is connected. */
static int partitions_of(rd_kafka_t *rk, rd_kafka_topic_t *topic)
{
    const struct rd_kafka_metadata *meta;
    rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &meta, 10000);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
        limit_die("limit_kafka", rd_kafka_err2str(err));
    int n = meta->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(meta);
    return n;
}

static rd_kafka_t *producer(const char *brokers)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "enable.idempotence", "true");
    set(conf, "compression.codec", "lz4");
    set(conf, "linger.ms", "5");
    set(conf, "queue.buffering.max.messages", "1000000");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    return client(RD_KAFKA_PRODUCER, conf, brokers);
}

static void produce(rd_kafka_t *rk, rd_kafka_topic_t *topic, void *value, size_t len, const void *key,
                    size_t key_len)
{
    while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, len, key, key_len,
                            NULL) != 0)
        rd_kafka_poll(rk, 10);
}

static int write_topic(const char *brokers, const char *name, uint64_t n)
{
    rd_kafka_t *rk = producer(brokers);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    partitions_of(rk, topic);
    struct limit_clock began = limit_start();
    for (uint64_t i = 0; i < n; i++) {
        char event[LIMIT_EVENT_MAX], key[24];
        int len = limit_event(event, i);
        int key_len = snprintf(key, sizeof(key), "u%08llu", (unsigned long long)(i % 10000));
        produce(rk, topic, event, (size_t)len, key, (size_t)key_len);
        if (i % 100 == 0)
            rd_kafka_poll(rk, 0);
    }
    while (n_delivered < n)
        rd_kafka_poll(rk, 100);
    int rc = limit_report(n, began, 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return rc;
}

static void take(const rd_kafka_message_t *m, rd_kafka_t *to, rd_kafka_topic_t *to_topic)
{
    if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        limit_die("limit_kafka", rd_kafka_message_errstr(m));
    n_bytes += m->len;
    if (to != NULL)
        produce(to, to_topic, m->payload, m->len, m->key, m->key_len);
}

static rd_kafka_queue_t *open_all(rd_kafka_t *rk, rd_kafka_topic_t *topic)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    int n = partitions_of(rk, topic);
    for (int p = 0; p < n; p++)
        if (rd_kafka_consume_start_queue(topic, p, RD_KAFKA_OFFSET_BEGINNING, queue) != 0)
            limit_die("limit_kafka", "cannot read the topic");
    return queue;
}

static int read_topic(const char *brokers, const char *name, uint64_t n, const char *to_name)
{
    static rd_kafka_message_t *messages[BATCH];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "queued.min.messages", "1000000");
    set(conf, "queued.max.messages.kbytes", "131072");
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf, brokers), *to = NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL), *to_topic = NULL;
    if (to_name != NULL) {
        to = producer(brokers);
        to_topic = rd_kafka_topic_new(to, to_name, NULL);
        partitions_of(to, to_topic);
    }
    partitions_of(rk, topic);
    struct limit_clock began = limit_start();
    rd_kafka_queue_t *queue = open_all(rk, topic);
    uint64_t at = 0;
    while (at < n) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 10, messages, BATCH);
        for (ssize_t i = 0; i < got; i++, at++) {
            take(messages[i], to, to_topic);
            rd_kafka_message_destroy(messages[i]);
        }
        if (to != NULL)
            rd_kafka_poll(to, 0);
    }
    while (to != NULL && n_delivered < at)
        rd_kafka_poll(to, 100);
    int rc = limit_report(at, began, 0);
    /* The process ends here; an orderly end of both clients would only take time. */
    fflush(stdout);
    _Exit(n_bytes > 0 ? rc : 1);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    uint64_t n = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;
    if (argc == 5 && strcmp(verb, "write") == 0)
        return write_topic(argv[2], argv[3], n);
    if (argc == 5 && strcmp(verb, "read") == 0)
        return read_topic(argv[2], argv[3], n, NULL);
    if (argc == 6 && strcmp(verb, "copy") == 0)
        return read_topic(argv[2], argv[3], n, argv[5]);
    limit_die("limit_kafka", "usage: limit_kafka write|read|copy BROKERS TOPIC N [TO]");
}
