/* SPDX-License-Identifier: Apache-2.0
 *
 * How far behind the partitions are: the metric kafka_watermark_lag. What counts is the watermark,
 * because an event that is read but under way may have to be read again.
 *
 * Where a partition ends is asked of the brokers: the library knows only what its last fetch told,
 * and fetches nothing while its queue is full or the partitions are paused.
 */
#include "source.h"

#include <stdio.h>

#define LOOK_INTERVAL WEIR_NS_PER_S
#define ASK_INTERVAL (10 * WEIR_NS_PER_S)

struct weir_metric *lag_metric(const struct weir_host *h, const char *topic, int32_t partition)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)partition);
    const char *labels[] = {"topic", topic, "partition", number, NULL};
    return h->gauge(h, "kafka_watermark_lag",
                    "Messages between the end of the partition and the watermark.", labels);
}

/* Takes in what was found. What failed keeps the question, which is no offset. */
static void take_ends(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &list->elems[i];
        struct part *p = part_find(s, o->topic, o->partition);
        if (p != NULL && o->err == RD_KAFKA_RESP_ERR_NO_ERROR && o->offset >= 0)
            p->log_end = o->offset;
    }
}

void lag_ask(struct source *s, int64_t now)
{
    struct question q;
    enum ask_state state = ask_answer(s, ASK_ENDS, &q);
    if (state == ASK_OPEN)
        return;
    if (state == ASK_ANSWERED) {
        take_ends(s, q.list);
        rd_kafka_topic_partition_list_destroy(q.list);
    }
    s->lag.ask_ns = now + ASK_INTERVAL;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)s->n_parts);
    for (uint32_t i = 0; i < s->n_parts; i++)
        rd_kafka_topic_partition_list_add(list, s->parts[i]->topic, s->parts[i]->origin.partition)
            ->offset = RD_KAFKA_OFFSET_END;
    ask(s, ASK_ENDS, list, 0);
}

static void look(struct source *s, int64_t now)
{
    struct question q;
    if (ask_answer(s, ASK_ENDS, &q) == ASK_ANSWERED) {
        take_ends(s, q.list);
        rd_kafka_topic_partition_list_destroy(q.list);
    }
    if (now >= s->lag.ask_ns && s->n_parts > 0)
        lag_ask(s, now);
}

/* ---- Measuring ----------------------------------------------------------------------------- */

/* Control records at the end of a partition hold no event: where everything has been emitted and
 * has ended, the place where the end was met counts. */
static int64_t reached(const struct source *s, const struct part *p)
{
    if (p->end > p->watermark && p->end > p->last_offset &&
        s->client.host->stream_pending(p->stream) == 0)
        return p->end;
    return p->watermark != NO_OFFSET ? p->watermark : p->first_offset;
}

static void measure(const struct source *s, const struct part *p)
{
    int64_t first, fetched;
    int64_t at = reached(s, p);
    if (at == NO_OFFSET)
        return;
    int64_t end = p->log_end;
    if (rd_kafka_get_watermark_offsets(s->rk, p->topic, p->origin.partition, &first, &fetched) ==
            RD_KAFKA_RESP_ERR_NO_ERROR &&
        fetched > end)
        end = fetched;
    if (end >= 0)
        s->client.host->metric_set(p->lag, end > at ? (double)(end - at) : 0);
}

int64_t lag_step(struct source *s, int64_t now)
{
    if (now >= s->lag.look_ns) {
        s->lag.look_ns = now + LOOK_INTERVAL;
        look(s, now);
        source_memory(s);
        for (uint32_t i = 0; i < s->n_parts; i++)
            measure(s, s->parts[i]);
    }
    return s->lag.look_ns;
}
