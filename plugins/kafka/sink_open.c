/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink's beginning and end. At the end every event that the library still holds hears of it.
 */
#include "sink.h"

#define CLOSE_DEADLINE (2 * WEIR_NS_PER_S)

/* What the library still holds is given up, so that every write hears of its events. */
static void empty(struct sink *s)
{
    const struct weir_host *h = s->client.host;
    int64_t deadline = h->now(h) + CLOSE_DEADLINE;
    if (rd_kafka_outq_len(s->rk) > 0)
        rd_kafka_purge(s->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (rd_kafka_outq_len(s->rk) > 0 && h->now(h) < deadline)
        rd_kafka_poll(s->rk, 20);
}

/* What is left once the handle is gone. Knows nothing of the host. */
static void sink_free(void *take_self)
{
    struct sink *s = take_self;
    void (*release)(void *) = s->free;
    for (struct slot_chunk *next, *at = s->chunks; at != NULL; at = next) {
        next = at->next;
        release(at);
    }
    client_done(&s->client);
    release(s);
}

void sink_close(void *take_self)
{
    struct sink *s = take_self;
    if (s == NULL)
        return;
    const struct weir_host *h = s->client.host;
    serve_done(s);
    if (s->rk == NULL) {
        sink_free(s);
        return;
    }
    empty(s);
    topics_done(&s->topics, h);
    rd_kafka_queue_destroy(s->main_queue);
    client_end(&s->client, s->rk, sink_free, s, h->now(h) + CLOSE_DEADLINE);
}

static enum weir_status connect_producer(struct sink *s, struct weir_error *err)
{
    const struct weir_host *h = s->client.host;
    struct problems p = {.host = h, .err = err};
    struct weir_str name;
    struct weir_result r = {.verdict = WEIR_VERDICT_NONE};
    rd_kafka_conf_t *conf = sink_conf(s->cfg, &p);
    check_topic(s->cfg, h, &p);
    if (p.n > 0) {
        rd_kafka_conf_destroy(conf);
        return WEIR_E_CONFIG;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    s->rk = client_new(&s->client, RD_KAFKA_PRODUCER, conf, err);
    if (s->rk == NULL)
        return WEIR_E_CONFIG;
    s->main_queue = rd_kafka_queue_get_main(s->rk);
    if (!serve_start(s, err))
        return WEIR_E_FATAL;
    if (!h->template_is_literal(s->cfg->topic, &name))
        return WEIR_OK;
    s->literal = topics_get(&s->topics, h, s->rk, name, &r);
    if (s->literal != NULL)
        return WEIR_OK;
    return h->error(err, WEIR_E_NOMEM, r.code, "memory is used up");
}

enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err)
{
    struct sink *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "memory is used up");
    s->cfg = config;
    s->free = h->free;
    client_init(&s->client, h, &s->cfg->client);
    s->client.barred = true; /* the instance before this one may have said so */
    serve_init(s);
    enum weir_status status = connect_producer(s, err);
    if (status != WEIR_OK) {
        sink_close(s);
        return status;
    }
    *ret_self = s;
    return WEIR_OK;
}
