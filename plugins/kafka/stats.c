/* SPDX-License-Identifier: Apache-2.0
 *
 * librdkafka's statistics → metrics: a chosen few, bounded in number, named in the texts of
 * the types. Comes by a callback on the thread that polls the client. What counts up is
 * added by its difference, so that the instances of a component sum up; what goes up and down has
 * the instance's number as a label.
 */
#include "client.h"

#include <stdio.h>
#include <string.h>

#define BROKERS_MOST 32

struct broker {
    bool seen;
    struct weir_metric *rtt, *connected;
    char name[120];
};

/* A counter of the library's, which only grows while its brokers stay. */
struct counted {
    struct weir_metric *metric;
    uint64_t last;
};

struct stats {
    enum weir_kind kind;
    struct counted messages, bytes, timeouts, retries, connects;
    struct weir_metric *queue_messages, *queue_bytes;
    struct broker brokers[BROKERS_MOST];
    uint32_t n_brokers;
    struct weir_arena *arena;
};

static void count(const struct weir_host *h, struct counted *c, uint64_t now)
{
    if (now > c->last)
        h->metric_add(c->metric, now - c->last);
    c->last = now;
}

static double number_at(const struct weir_host *h, const struct weir_value *v, const char *key)
{
    const struct weir_value *found = h->value_get(v, weir_cstr(key));
    enum weir_value_type type = found != NULL ? h->value_type(found) : WEIR_NULL;
    double n =
        type == WEIR_INT || type == WEIR_UINT || type == WEIR_REAL ? h->value_real(found) : 0;
    return n;
}

static uint64_t count_at(const struct weir_host *h, const struct weir_value *v, const char *key)
{
    double n = number_at(h, v, key);
    return n > 0 ? (uint64_t)n : 0;
}

/* ---- Brokers ------------------------------------------------------------------------------- */

static struct broker *broker_of(const struct weir_host *h, struct stats *st, struct weir_str name)
{
    char index[16];
    for (uint32_t i = 0; i < st->n_brokers; i++)
        if (strlen(st->brokers[i].name) == name.len &&
            memcmp(st->brokers[i].name, name.ptr, name.len) == 0)
            return &st->brokers[i];
    if (st->n_brokers == BROKERS_MOST || name.len >= sizeof(st->brokers[0].name))
        return NULL;
    struct broker *b = &st->brokers[st->n_brokers++];
    memcpy(b->name, name.ptr, name.len);
    snprintf(index, sizeof(index), "%u", (unsigned)h->index);
    const char *labels[] = {"broker", b->name, "instance", index, NULL};
    b->rtt = h->gauge(h, "kafka_broker_rtt_seconds",
                      "Mean time from a request to its answer, in the last interval.", labels);
    b->connected =
        h->gauge(h, "kafka_broker_connected", "1 while the broker is connected.", labels);
    return b;
}

struct sums {
    uint64_t timeouts, retries, connects;
};

static void take_broker(const struct weir_host *h, struct stats *st, const struct weir_value *v,
                        struct sums *sums)
{
    sums->timeouts += count_at(h, v, "req_timeouts");
    sums->retries += count_at(h, v, "txretries");
    sums->connects += count_at(h, v, "connects");
    if (number_at(h, v, "nodeid") < 0)
        return; /* an address to find the cluster by, or the coordinator's second name */
    struct weir_str name = h->value_str(h->value_get(v, weir_cstr("nodename")));
    struct weir_str state = h->value_str(h->value_get(v, weir_cstr("state")));
    struct broker *b = name.len != 0 ? broker_of(h, st, name) : NULL;
    if (b == NULL)
        return;
    b->seen = true;
    double rtt_us = number_at(h, h->value_get(v, weir_cstr("rtt")), "avg");
    if (rtt_us > 0)
        h->metric_set(b->rtt, rtt_us / 1e6);
    h->metric_set(b->connected, state.len == 2 && memcmp(state.ptr, "UP", 2) == 0 ? 1 : 0);
}

static void take_brokers(const struct weir_host *h, struct stats *st, const struct weir_value *root)
{
    struct sums sums = {0};
    const struct weir_value *v;
    struct weir_str key;
    struct weir_value_iter it = h->value_iter(h->value_get(root, weir_cstr("brokers")));
    for (uint32_t i = 0; i < st->n_brokers; i++)
        st->brokers[i].seen = false;
    while ((v = h->value_next(&it, &key)) != NULL)
        take_broker(h, st, v, &sums);
    for (uint32_t i = 0; i < st->n_brokers; i++)
        if (!st->brokers[i].seen)
            h->metric_set(st->brokers[i].connected, 0);
    count(h, &st->timeouts, sums.timeouts);
    count(h, &st->retries, sums.retries);
    count(h, &st->connects, sums.connects);
}

/* ---- Queues -------------------------------------------------------------------------------- */

/* Messages and bytes that were fetched ahead, over all partitions. */
static void take_fetched(const struct weir_host *h, struct stats *st, const struct weir_value *root)
{
    const struct weir_value *topic, *part;
    struct weir_str key;
    double messages = 0, bytes = 0;
    struct weir_value_iter topics = h->value_iter(h->value_get(root, weir_cstr("topics")));
    while ((topic = h->value_next(&topics, &key)) != NULL) {
        struct weir_value_iter parts = h->value_iter(h->value_get(topic, weir_cstr("partitions")));
        while ((part = h->value_next(&parts, &key)) != NULL) {
            messages += number_at(h, part, "fetchq_cnt");
            bytes += number_at(h, part, "fetchq_size");
        }
    }
    h->metric_set(st->queue_messages, messages);
    h->metric_set(st->queue_bytes, bytes);
}

static void take(const struct weir_host *h, struct stats *st, const struct weir_value *root)
{
    bool source = st->kind == WEIR_SOURCE;
    count(h, &st->messages, count_at(h, root, source ? "rxmsgs" : "txmsgs"));
    count(h, &st->bytes, count_at(h, root, source ? "rxmsg_bytes" : "txmsg_bytes"));
    take_brokers(h, st, root);
    if (source) {
        take_fetched(h, st, root);
        return;
    }
    h->metric_set(st->queue_messages, number_at(h, root, "msg_cnt"));
    h->metric_set(st->queue_bytes, number_at(h, root, "msg_size"));
}

static int on_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque)
{
    (void)rk;
    struct client *c = opaque;
    const struct weir_host *h = c->host;
    if (c->stats == NULL)
        return 0;
    const struct weir_value *root = h->value_parse(c->stats->arena, weir_str_n(json, n), NULL);
    if (root != NULL)
        take(h, c->stats, root);
    h->arena_clear(c->stats->arena);
    return 0; /* the library frees the text */
}

/* ---- Beginning and end --------------------------------------------------------------------- */

static struct counted counted(const struct weir_host *h, const char *name, const char *help)
{
    struct counted c = {h->counter(h, name, help, NULL), 0};
    return c;
}

static void make_metrics(const struct weir_host *h, struct stats *st)
{
    char index[16];
    snprintf(index, sizeof(index), "%u", (unsigned)h->index);
    const char *labels[] = {"instance", index, NULL};
    bool source = st->kind == WEIR_SOURCE;
    st->messages = source ? counted(h, "kafka_rx_messages_total", "Messages fetched from brokers.")
                          : counted(h, "kafka_tx_messages_total", "Messages sent to brokers.");
    st->bytes = source ? counted(h, "kafka_rx_bytes_total", "Bytes of messages fetched, unpacked.")
                       : counted(h, "kafka_tx_bytes_total", "Bytes of messages sent, unpacked.");
    st->timeouts =
        counted(h, "kafka_requests_timed_out_total", "Requests that a broker did not answer.");
    st->retries = counted(h, "kafka_requests_retried_total", "Requests that were sent again.");
    st->connects = counted(h, "kafka_connects_total", "Connections tried.");
    st->queue_messages =
        source ? h->gauge(h, "kafka_fetch_queue_messages", "Messages fetched ahead.", labels)
               : h->gauge(h, "kafka_producer_queue_messages",
                          "Messages that the producer holds unacknowledged.", labels);
    st->queue_bytes = source
                          ? h->gauge(h, "kafka_fetch_queue_bytes", "Bytes fetched ahead.", labels)
                          : h->gauge(h, "kafka_producer_queue_bytes",
                                     "Bytes that the producer holds unacknowledged.", labels);
}

bool stats_init(struct client *c, enum weir_kind kind, rd_kafka_conf_t *conf,
                struct weir_error *err)
{
    const struct weir_host *h = c->host;
    if (c->cfg->statistics == 0)
        return true;
    c->stats = h->alloc(sizeof(*c->stats));
    if (c->stats != NULL)
        c->stats->arena = h->arena_new(h);
    if (c->stats == NULL || c->stats->arena == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
        return false;
    }
    c->stats->kind = kind;
    make_metrics(h, c->stats);
    rd_kafka_conf_set_stats_cb(conf, on_stats);
    return true;
}

void stats_done(struct client *c)
{
    if (c->stats == NULL)
        return;
    if (c->stats->arena != NULL)
        c->host->arena_free(c->stats->arena);
    c->host->free(c->stats);
    c->stats = NULL;
}
