/* SPDX-License-Identifier: Apache-2.0
 *
 * The source's beginning and end. The end never waits long for brokers that do not answer: what is
 * left then goes on in a thread of its own.
 */
#include "source.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLOSE_DEADLINE (5 * WEIR_NS_PER_S)
#define CLOSE_LEAST (WEIR_NS_PER_S / 2)

/* Leaves the group, within the deadline even where no broker answers. */
static bool leave_group(struct source *s, int64_t deadline_ns)
{
    const struct weir_host *h = s->client.host;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(s->rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(s->rk, queue);
    if (error != NULL)
        rd_kafka_error_destroy(error);
    while (error == NULL && !rd_kafka_consumer_closed(s->rk) && h->now(h) < deadline_ns) {
        rd_kafka_message_t *m = rd_kafka_consume_queue(queue, 50);
        if (m != NULL)
            rd_kafka_message_destroy(m);
    }
    bool closed = error == NULL && rd_kafka_consumer_closed(s->rk);
    rd_kafka_queue_destroy(queue);
    return closed;
}

/* What is left once the handle is gone. Knows nothing of the host. */
static void source_free(void *take_self)
{
    struct source *s = take_self;
    void (*release)(void *) = s->free;
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    if (s->data_fd >= 0)
        close(s->data_fd);
    client_done(&s->client);
    release(s);
}

/* The lanes are closed one behind the other: they share the time, which begins with the first. */
static int64_t close_deadline(struct source *s)
{
    const struct weir_host *h = s->client.host;
    int64_t none = 0, deadline = h->now(h) + CLOSE_DEADLINE;
    int64_t least = h->now(h) + CLOSE_LEAST;
    if (atomic_compare_exchange_strong(&s->lanes->close_ns, &none, deadline))
        return deadline;
    return none > least ? none : least;
}

static void close_consumer(struct source *take_s)
{
    struct source *s = take_s;
    const struct weir_host *h = s->client.host;
    int64_t deadline = close_deadline(s);
    commit_finish(s, deadline);
    held_clear(s);
    rebalance_close(s);
    ask_done(s);
    start_done(s);
    for (uint32_t i = 0; i < s->n_parts; i++)
        s->parts[i]->giving_up = true;
    parts_close(s);
    rights_free(s);
    h->free(s->parts);
    bool left = leave_group(s, deadline);
    rd_kafka_queue_destroy(s->replies);
    rd_kafka_queue_destroy(s->queue);
    bool quick = left && atomic_load(&s->n_attached) == 0;
    client_end(&s->client, s->rk, source_free, s, quick ? deadline : h->now(h));
}

void source_close(void *take_self)
{
    struct source *s = take_self;
    if (s != NULL && s->rk != NULL)
        close_consumer(s);
    else if (s != NULL)
        source_free(s);
}

static enum weir_status subscribe(struct source *s, struct weir_error *err)
{
    const struct weir_str *topics = s->cfg->topics.items;
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)s->cfg->topics.n);
    for (uint32_t i = 0; i < s->cfg->topics.n; i++)
        rd_kafka_topic_partition_list_add(list, topics[i].ptr, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(s->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return WEIR_OK;
    return s->client.host->error(err, WEIR_E_CONFIG, "kafka_subscribe",
                                 "cannot subscribe to the topics: %s", rd_kafka_err2str(code));
}

static enum weir_status connect_consumer(struct source *s, struct weir_error *err)
{
    static const uint64_t one = 1;
    const struct weir_host *h = s->client.host;
    struct problems p = {.host = h, .err = err};
    rd_kafka_conf_t *conf = source_conf(s->cfg, h->index, &p);
    s->drain_ns = drain_time(s->cfg, conf, &p);
    s->client.wire.session_ns = get_number(conf, "session.timeout.ms") * WEIR_NS_PER_MS;
    check_assignment(s->cfg, &p);
    if (p.n > 0) {
        rd_kafka_conf_destroy(conf);
        return WEIR_E_CONFIG;
    }
    fetch_init(s, conf);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    s->rk = client_new(&s->client, RD_KAFKA_CONSUMER, conf, err);
    if (s->rk == NULL)
        return WEIR_E_CONFIG;
    ask_init(s);
    rd_kafka_poll_set_consumer(s->rk);
    s->queue = rd_kafka_queue_get_consumer(s->rk);
    s->replies = rd_kafka_queue_new(s->rk);
    rd_kafka_queue_io_event_enable(s->queue, s->data_fd, &one, sizeof(one));
    rd_kafka_queue_io_event_enable(s->replies, s->data_fd, &one, sizeof(one));
    return ask_start(s, err) ? subscribe(s, err) : WEIR_E_FATAL;
}

static void *lanes_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    (void)config;
    struct lanes *lanes = h->alloc(sizeof(*lanes));
    if (lanes == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
        return NULL;
    }
    lanes->free = h->free;
    lanes_init(lanes);
    return lanes;
}

enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err)
{
    struct source *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
    s->cfg = config;
    s->free = h->free;
    s->opened_wall_ns = h->wall(h);
    client_init(&s->client, h, &s->cfg->client);
    s->n_rebalances = h->counter(h, "kafka_rebalances_total",
                                 "Times that the group gave or took partitions.", NULL);
    s->n_commits =
        h->counter(h, "kafka_commits_total", "Offset commits that the group took.", NULL);
    s->gone.counter =
        h->counter(h, "kafka_offsets_gone_total",
                   "Offsets that were gone from their partition before they were read.", NULL);
    s->lease = h->extension(h, WEIR_LEASE_EXTENSION);
    s->lease_ns = WEIR_NEVER;
    s->wake_fd = s->data_fd = -1;
    s->lanes = h->shared(h, lanes_new, lanes_free, err);
    if (s->lanes == NULL) {
        source_close(s);
        return WEIR_E_NOMEM;
    }
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->data_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    enum weir_status status = WEIR_OK;
    if (s->wake_fd < 0 || s->data_fd < 0)
        status = h->error(err, WEIR_E_FATAL, "no_descriptor", "cannot make an event descriptor: %s",
                          strerror(errno));
    if (status == WEIR_OK)
        status = connect_consumer(s, err);
    if (status != WEIR_OK) {
        source_close(s);
        return status;
    }
    *ret_self = s;
    return WEIR_OK;
}
