/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps the library fetching. Before 2.2 it stops once its queue is full, and looks again only
 * after a second, or when its thread for that broker has something else to do. So when a queue that
 * was full runs low, or is empty although the partitions have more, the brokers are asked for their
 * partitions' ends: which gives that thread something to do, and the lag its news.
 */
#include "source.h"

#define NUDGE_INTERVAL (10 * WEIR_NS_PER_MS)
#define NUDGE_MOST WEIR_NS_PER_S /* where it is of no use, as with a partition that is denied */
/* Weight of the average of what an event weighs: a 16th a poll. */
#define WEIGHT_SHIFT 4

void fetch_init(struct source *s, const rd_kafka_conf_t *conf)
{
    s->fetch.stops = rd_kafka_version() < VERSION_BACKOFF;
    s->fetch.pause_ns = NUDGE_INTERVAL;
    s->fetch.cap_bytes = get_number(conf, "queued.max.messages.kbytes") << 10;
}

void fetch_note(struct source *s, uint32_t events, size_t bytes)
{
    if (events == 0)
        return;
    s->fetch.pause_ns = NUDGE_INTERVAL;
    int64_t now = (int64_t)(bytes / events) << WEIGHT_SHIFT;
    int64_t *weight = &s->fetch.weight;
    *weight = *weight == 0 ? now : *weight + (now >> WEIGHT_SHIFT) - (*weight >> WEIGHT_SHIFT);
}

int64_t fetch_weight(const struct source *s)
{
    return s->fetch.weight >> WEIGHT_SHIFT;
}

/* True where a partition has messages that were not fetched. */
static bool is_behind(const struct source *s)
{
    for (uint32_t i = 0; i < s->n_parts; i++) {
        int64_t first, end;
        const struct part *p = s->parts[i];
        if (rd_kafka_get_watermark_offsets(s->rk, p->topic, p->origin.partition, &first, &end) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            p->last_offset != NO_OFFSET && end > p->last_offset + 1 && p->end < end)
            return true;
    }
    return false;
}

/* True where a queue that was full has run low. */
static bool is_low(struct fetch *f, int64_t length)
{
    int64_t each = f->weight >> WEIGHT_SHIFT;
    int64_t full = f->cap_bytes / (each > 0 ? each : 1);
    if (length >= full - full / 8)
        f->was_full = true;
    else if (length > f->length)
        f->was_full = false; /* it grows: there was a fetch */
    f->length = length;
    return f->was_full && length < full / 2;
}

int64_t fetch_step(struct source *s, int64_t now)
{
    struct fetch *f = &s->fetch;
    if (!f->stops || s->n_parts == 0 || s->paused)
        return WEIR_NEVER;
    int64_t length = (int64_t)rd_kafka_queue_length(s->queue);
    bool wanted = is_low(f, length);
    if (now < f->next_ns)
        return wanted || length == 0 ? f->next_ns : WEIR_NEVER;
    f->next_ns = now + NUDGE_INTERVAL;
    if (!wanted && (length > 0 || !is_behind(s)))
        return WEIR_NEVER;
    lag_ask(s, now);
    f->next_ns = now + f->pause_ns;
    f->pause_ns = f->pause_ns < NUDGE_MOST / 2 ? 2 * f->pause_ns : NUDGE_MOST;
    return f->next_ns;
}
