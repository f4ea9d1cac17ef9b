/* SPDX-License-Identifier: Apache-2.0
 *
 * How far behind the partitions are: the metric kafka_watermark_lag. What counts is the watermark,
 * because an event that is read but under way may have to be read again.
 *
 * The thread only carries the question for the partitions' ends to the brokers and back; all else
 * runs on the lane. It calls nothing of the host.
 */
#include "source.h"

#include <stdio.h>

#define LOOK_INTERVAL WEIR_NS_PER_S
#define ASK_INTERVAL (10 * WEIR_NS_PER_S)
#define ASK_TIMEOUT_MS 1000

struct weir_metric *lag_metric(const struct weir_host *h, const char *topic, int32_t partition)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)partition);
    const char *labels[] = {"topic", topic, "partition", number, NULL};
    return h->gauge(h, "kafka_watermark_lag",
                    "Messages between the end of the partition and the watermark.", labels);
}

/* ---- Asking -------------------------------------------------------------------------------- */

static void *answer(void *arg)
{
    struct source *s = arg;
    struct lag *lag = &s->lag;
    pthread_mutex_lock(&lag->mutex);
    while (!lag->stop) {
        if (lag->list == NULL || lag->answered) {
            pthread_cond_wait(&lag->changed, &lag->mutex);
            continue;
        }
        rd_kafka_topic_partition_list_t *list = lag->list;
        pthread_mutex_unlock(&lag->mutex);
        /* What fails keeps the question, which is no offset, as its answer. */
        (void)rd_kafka_offsets_for_times(s->rk, list, ASK_TIMEOUT_MS);
        pthread_mutex_lock(&lag->mutex);
        lag->answered = true;
    }
    pthread_mutex_unlock(&lag->mutex);
    return NULL;
}

void lag_init(struct source *s)
{
    pthread_mutex_init(&s->lag.mutex, NULL);
    pthread_cond_init(&s->lag.changed, NULL);
}

void lag_done(struct source *s)
{
    struct lag *lag = &s->lag;
    pthread_mutex_lock(&lag->mutex);
    lag->stop = true;
    pthread_cond_signal(&lag->changed);
    pthread_mutex_unlock(&lag->mutex);
    if (lag->has_thread)
        pthread_join(lag->thread, NULL);
    if (lag->list != NULL)
        rd_kafka_topic_partition_list_destroy(lag->list);
    pthread_mutex_destroy(&lag->mutex);
    pthread_cond_destroy(&lag->changed);
}

/* Takes in what the thread has found. */
static void take_ends(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &list->elems[i];
        struct part *p = part_find(s, o->topic, o->partition);
        if (p != NULL && o->err == RD_KAFKA_RESP_ERR_NO_ERROR && o->offset >= 0)
            p->log_end = o->offset;
    }
}

static void exchange(struct source *s, int64_t now)
{
    struct lag *lag = &s->lag;
    pthread_mutex_lock(&lag->mutex);
    if (lag->answered) {
        take_ends(s, lag->list);
        rd_kafka_topic_partition_list_destroy(lag->list);
        lag->list = NULL;
        lag->answered = false;
    }
    if (lag->list == NULL && now >= lag->ask_ns && s->n_parts > 0) {
        lag->ask_ns = now + ASK_INTERVAL;
        lag->list = rd_kafka_topic_partition_list_new((int)s->n_parts);
        for (uint32_t i = 0; i < s->n_parts; i++)
            rd_kafka_topic_partition_list_add(lag->list, s->parts[i]->topic,
                                              s->parts[i]->origin.partition)
                ->offset = RD_KAFKA_OFFSET_END;
        pthread_cond_signal(&lag->changed);
    }
    pthread_mutex_unlock(&lag->mutex);
    if (!lag->has_thread)
        lag->has_thread = pthread_create(&lag->thread, NULL, answer, s) == 0;
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
        exchange(s, now);
        for (uint32_t i = 0; i < s->n_parts; i++)
            measure(s, s->parts[i]);
    }
    return s->lag.look_ns;
}
