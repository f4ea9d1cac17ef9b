/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages that a topic gave up before they were read, be it to its retention or to somebody who
 * deleted them, and partitions that begin anew because their topic was made again.
 *
 * The library puts the reader on the first message that is left and says nothing. What can be seen
 * is a gap: between the group's offset and the first message, or between two messages. Gaps are
 * usual in a compacted topic and behind a transaction; only the part of one that lies before the
 * partition's first offset is gone, so that the brokers are asked for that.
 */
#include "source.h"

#define ASK_INTERVAL WEIR_NS_PER_S
/* So often a run that is to end asks brokers that do not answer. */
#define ASKS_MOST 10

static void log_of(const struct source *s, const struct part *p, const char *message, int64_t at,
                   uint64_t gone)
{
    const struct weir_host *h = s->client.host;
    struct weir_kv kv[4] = {weir_kv_str("topic", p->origin.name),
                            weir_kv_i64("partition", p->origin.partition),
                            weir_kv_i64("offset", at), weir_kv_u64("offsets", gone)};
    h->log(h, WEIR_LOG_WARN, message, kv, at < 0 ? 2 : gone > 0 ? 4 : 3);
}

static void say_anew(const struct source *s, const struct part *p, int64_t at)
{
    log_of(s, p,
           "the partition ends before the place that was reached: its topic was made again, or has "
           "lost its end; it is read from its beginning",
           at, 0);
}

/* Of several gaps at a time the largest is looked into. */
static void note_gap(struct part *p, int64_t from, int64_t to)
{
    if (to - from <= p->gap_to - p->gap_from)
        return;
    p->gap_from = from;
    p->gap_to = to;
    p->gap_asked = 0;
}

/* Nothing came of the partition so far. Compares the place where it went on with what comes first,
 * or with its end: the place from then on, for a partition may wait there for long. */
static void compare_begin(const struct source *s, struct part *p, int64_t first)
{
    bool known = p->begin != NO_OFFSET;
    if (known && first > p->begin)
        note_gap(p, p->begin, first);
    if (known && first < p->begin) {
        say_anew(s, p, p->begin);
        p->anew = true;
    }
    p->begin = first;
}

/* The topic is still the one that it was: a leader took over that had missed the last messages of
 * the partition, whose first ones are long gone. One that was made again begins with 0, or with a
 * message that is younger than what was read before. */
static bool has_lost_its_end(const struct part *p, int64_t offset, int64_t time_ms)
{
    return offset > 0 && time_ms > 0 && time_ms < p->last_time_ms;
}

bool gone_check(struct source *s, struct part *p, int64_t offset, int64_t time_ms)
{
    int64_t next = p->last_offset + 1;
    if (p->first_offset == NO_OFFSET)
        compare_begin(s, p, offset);
    if (p->first_offset == NO_OFFSET || offset == next)
        return true;
    if (offset > next) {
        note_gap(p, next, offset);
        return true;
    }
    /* The host enters events into their stream once the poll that emitted them has ended. */
    if (p->poll == s->n_polls || s->client.host->stream_pending(p->stream) > 0)
        return false;
    bool same = has_lost_its_end(p, offset, time_ms);
    if (!part_restart(s, p))
        return false;
    say_anew(s, p, next);
    p->anew = !same;
    return true;
}

void gone_end(struct source *s, struct part *p, int64_t offset)
{
    p->end = offset;
    if (p->first_offset == NO_OFFSET)
        compare_begin(s, p, offset);
    else if (offset > p->last_offset + 1)
        note_gap(p, p->last_offset + 1, offset);
}

/* The group holds no offset of it: it may have lost what it had, with the topic. */
static void take_on_without(const struct source *s, struct part *p)
{
    if (!mark_is_forgotten(s, p))
        return;
    log_of(s, p,
           "the group no longer has the offsets of a topic that was read: it was made again, or "
           "somebody deleted them; the messages of this partition get other ids than before",
           p->begin, 0);
    p->anew = true;
}

void gone_taken_on(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &list->elems[i];
        struct part *p = part_find(s, o->topic, o->partition);
        if (p == NULL || p->first_offset != NO_OFFSET)
            continue;
        mark_read(p, o);
        p->begin = o->offset >= 0 ? o->offset : NO_OFFSET;
        p->had_offset = o->offset >= 0 && o->opaque == NULL;
        if (o->offset < 0 || o->opaque != NULL)
            take_on_without(s, p);
    }
}

/* ---- Questions ----------------------------------------------------------------------------- */

static bool has_gap(const struct part *p)
{
    return p->gap_to > p->gap_from;
}

bool gone_looks(const struct source *s)
{
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (has_gap(s->parts[i]))
            return true;
    return false;
}

static void ask_begins(struct source *s)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)s->n_parts);
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (has_gap(s->parts[i]))
            rd_kafka_topic_partition_list_add(list, s->parts[i]->topic,
                                              s->parts[i]->origin.partition)
                ->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (list->cnt > 0)
        ask(s, ASK_BEGINS, list, 0);
    else
        rd_kafka_topic_partition_list_destroy(list);
}

static void count_gone(struct source *s, struct part *p, int64_t first)
{
    const struct weir_host *h = s->client.host;
    int64_t from = p->gap_from, to = first < p->gap_to ? first : p->gap_to;
    p->gap_from = p->gap_to = NO_OFFSET;
    if (to <= from)
        return;
    h->metric_add(s->gone.counter, (uint64_t)(to - from));
    log_of(s, p, "messages are gone from the topic that were not read: going on with what is left",
           from, (uint64_t)(to - from));
    /* Nothing is left that would move the watermark: else each start would say so again. */
    if (p->first_offset == NO_OFFSET && p->watermark == NO_OFFSET)
        commit_mark(s, p, to);
}

/* No answer. A run that ends at the end of its partitions does not wait for one for ever. */
static void ask_failed(const struct source *s, struct part *p)
{
    if (!s->cfg->stop_at_end || ++p->gap_asked < ASKS_MOST)
        return;
    log_of(s, p,
           "the brokers do not say whether messages are gone from the topic that did not come: "
           "these are not counted",
           p->gap_from, (uint64_t)(p->gap_to - p->gap_from));
    p->gap_from = p->gap_to = NO_OFFSET;
}

static void take_begins(struct source *s, const struct question *q)
{
    for (int i = 0; i < q->list->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &q->list->elems[i];
        struct part *p = part_find(s, o->topic, o->partition);
        if (p == NULL || !has_gap(p))
            continue;
        if (q->code != RD_KAFKA_RESP_ERR_NO_ERROR)
            ask_failed(s, p);
        else if (o->err == RD_KAFKA_RESP_ERR_NO_ERROR && o->offset >= 0)
            count_gone(s, p, o->offset);
        else if (o->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            p->gap_from = p->gap_to = NO_OFFSET; /* nobody can tell any more */
        else
            ask_failed(s, p);
    }
}

void gone_step(struct source *s, int64_t now)
{
    struct question q;
    enum ask_state begins = ask_answer(s, ASK_BEGINS, &q);
    if (begins == ASK_ANSWERED) {
        take_begins(s, &q);
        rd_kafka_topic_partition_list_destroy(q.list);
    }
    if (begins == ASK_NONE && now >= s->gone.begins_ns) {
        s->gone.begins_ns = now + ASK_INTERVAL;
        ask_begins(s);
    }
}
