/* SPDX-License-Identifier: Apache-2.0
 *
 * Watermarks into the consumer group. The host says how far the contiguous part of a stream
 * reaches; here it is remembered and sent by interval, at a hand-over and at the end. One commit is
 * under way at a time; its reply comes by a queue of its own, so that no commit ever blocks the
 * lane.
 */
#include "source.h"

void commit_mark(struct source *s, struct part *p, int64_t next)
{
    p->watermark = next;
    s->dirty = true;
}

static void commit_failed(struct source *s, rd_kafka_resp_err_t code)
{
    const struct weir_host *h = s->client.host;
    /* A group that is rebalancing refuses commits: the new owner begins at the last one. */
    bool usual = code == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS ||
                 code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
                 code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    struct weir_kv kv[2] = {weir_kv_text("error", rd_kafka_err2name(code)),
                            weir_kv_text("reason", rd_kafka_err2str(code))};
    s->dirty = true;
    h->metric_add(s->client.faults[FAULT_COMMIT], 1);
    h->log(h, usual ? WEIR_LOG_INFO : WEIR_LOG_WARN,
           "offsets could not be committed: trying again with the next commit", kv, 2);
}

/* One of an assignment that is over counts for nothing, nor one of before the ids got their mark.
 */
static void note_committed(struct part *p, const rd_kafka_topic_partition_t *o)
{
    if (o->offset > p->watermark || mark_of(o) != p->mark_ms)
        return;
    p->committed = o->offset;
    p->had_offset = true;
}

static void on_reply(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                     rd_kafka_topic_partition_list_t *offsets, void *opaque)
{
    (void)rk;
    struct source *s = opaque;
    rd_kafka_resp_err_t worst = code;
    s->committing = false;
    for (int i = 0; offsets != NULL && i < offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &offsets->elems[i];
        struct part *p = part_find(s, o->topic, o->partition);
        if (o->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            worst = o->err;
        else if (code == RD_KAFKA_RESP_ERR_NO_ERROR && p != NULL)
            note_committed(p, o);
    }
    if (worst != RD_KAFKA_RESP_ERR_NO_ERROR)
        commit_failed(s, worst);
    else
        s->client.host->metric_add(s->n_commits, 1);
}

bool commit_send(struct source *s, bool giving_up_only)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)s->n_parts);
    for (uint32_t i = 0; i < s->n_parts; i++) {
        struct part *p = s->parts[i];
        if (p->watermark == p->committed || (giving_up_only && !p->giving_up))
            continue;
        rd_kafka_topic_partition_t *o =
            rd_kafka_topic_partition_list_add(list, p->topic, p->origin.partition);
        o->offset = p->watermark;
        mark_write(s, p, o);
    }
    if (!giving_up_only)
        s->dirty = false;
    if (list->cnt > 0) {
        rd_kafka_resp_err_t code = rd_kafka_commit_queue(s->rk, list, s->replies, on_reply, s);
        s->committing = code == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (!s->committing)
            commit_failed(s, code);
    }
    rd_kafka_topic_partition_list_destroy(list);
    return s->committing;
}

void commit_receive(struct source *s, int timeout_ms)
{
    if (s->committing)
        rd_kafka_queue_poll_callback(s->replies, timeout_ms);
}

void commit_step(struct source *s, int64_t now)
{
    commit_receive(s, 0);
    if (!s->dirty || s->committing || now < s->commit_ns)
        return;
    /* A commit that waits behind a join comes with the generation before it: the library gives up
     * all its partitions then. */
    if (s->rebalance.joining || wire_joining(&s->client))
        return;
    s->commit_ns = now + s->cfg->commit_interval;
    commit_send(s, false);
}

void commit_finish(struct source *s, int64_t deadline_ns)
{
    const struct weir_host *h = s->client.host;
    while (s->committing && h->now(h) < deadline_ns)
        commit_receive(s, ms_until(h, deadline_ns, 100));
    if (s->committing || !commit_send(s, false))
        return;
    while (s->committing && h->now(h) < deadline_ns)
        commit_receive(s, ms_until(h, deadline_ns, 100));
}
