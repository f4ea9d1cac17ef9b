/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_kafka BROKERS TOPIC N: N messages by librdkafka's idempotent producer (acks=all, lz4), until the
 * last delivery report. The limit of HTTP -> Kafka without HTTP.
 */
#include "limit.h"

#include <librdkafka/rdkafka.h>

static uint64_t n_delivered;

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

int main(int argc, char **argv)
{
    if (argc != 4)
        limit_die("limit_kafka", "usage: limit_kafka BROKERS TOPIC N");
    uint64_t n = strtoull(argv[3], NULL, 10);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", argv[1]);
    set(conf, "enable.idempotence", "true");
    set(conf, "compression.codec", "lz4");
    set(conf, "linger.ms", "5");
    set(conf, "queue.buffering.max.messages", "1000000");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    char why[512];
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (rk == NULL)
        limit_die("limit_kafka", why);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);
    const struct rd_kafka_metadata *meta;
    if (rd_kafka_metadata(rk, 0, topic, &meta, 10000) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(meta); /* connected: the clock may start */
    double t0 = limit_now();
    for (uint64_t i = 0; i < n; i++) {
        char event[512], key[24];
        int len = limit_event(event, i), key_len = snprintf(key, sizeof(key), "u%08llu",
                                                            (unsigned long long)(i % 100000));
        while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, event, (size_t)len,
                                key, (size_t)key_len, NULL) != 0)
            rd_kafka_poll(rk, 10);
        if (i % 100 == 0)
            rd_kafka_poll(rk, 0);
    }
    while (n_delivered < n)
        rd_kafka_poll(rk, 100);
    int rc = limit_report(n, t0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return rc;
}
