/* SPDX-License-Identifier: Apache-2.0
 *
 * The partitions that are assigned to one source instance: a sorted array of a few hundred at most,
 * with the last one that was asked for at hand. Opens and closes their streams, pauses and resumes
 * them. Decides nothing: rebalance.c and source.c do.
 */
#include "source.h"

#include <math.h>
#include <string.h>

static int part_order(const struct part *p, const char *topic, int32_t partition)
{
    int order = strcmp(p->topic, topic);
    if (order != 0)
        return order;
    return (p->origin.partition > partition) - (p->origin.partition < partition);
}

/* Index of the first one that is not before it. */
static uint32_t part_place(const struct source *s, const char *topic, int32_t partition)
{
    uint32_t low = 0, high = s->n_parts;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (part_order(s->parts[mid], topic, partition) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct part *part_find(struct source *s, const char *topic, int32_t partition)
{
    struct part *p = s->recent;
    if (p != NULL && p->origin.partition == partition && strcmp(p->topic, topic) == 0)
        return p;
    uint32_t i = part_place(s, topic, partition);
    if (i == s->n_parts || part_order(s->parts[i], topic, partition) != 0)
        return NULL;
    return s->recent = s->parts[i];
}

/* With a stream of its own, and nothing known of it. False when memory is used up. */
static bool part_begin(const struct source *s, struct part *p)
{
    const struct weir_host *h = s->client.host;
    struct weir_stream *stream = h->stream_open(h, &p->origin, p);
    if (stream == NULL)
        return false;
    if (s->lease != NULL)
        s->lease->until(stream, s->lease_ns);
    p->stream = stream;
    p->watermark = p->committed = p->stop = p->end = p->log_end = NO_OFFSET;
    p->first_offset = p->last_offset = NO_OFFSET;
    p->begin = p->gap_from = p->gap_to = NO_OFFSET;
    return true;
}

static struct part *part_new(const struct source *s, const char *topic, int32_t partition)
{
    const struct weir_host *h = s->client.host;
    size_t n = strlen(topic);
    struct part *p = h->alloc(sizeof(*p) + n + 1);
    if (p == NULL)
        return NULL;
    memcpy(p->topic, topic, n + 1);
    p->origin = (struct weir_origin){{p->topic, n}, partition};
    if (!part_begin(s, p)) {
        h->free(p);
        return NULL;
    }
    p->lag = lag_metric(h, topic, partition);
    h->metric_set(p->lag, NAN); /* not known yet */
    return p;
}

bool part_restart(struct source *s, struct part *p)
{
    struct weir_stream *old = p->stream;
    if (!part_begin(s, p))
        return false;
    s->client.host->stream_close(old);
    return true;
}

static bool parts_reserve(struct source *s)
{
    if (s->n_parts < s->cap_parts)
        return true;
    uint32_t cap = s->cap_parts == 0 ? 16 : s->cap_parts * 2;
    struct part **parts = s->client.host->realloc(s->parts, cap * sizeof(struct part *));
    if (parts == NULL)
        return false;
    s->parts = parts;
    s->cap_parts = cap;
    return true;
}

struct part *part_open(struct source *s, const char *topic, int32_t partition)
{
    struct part *p = part_find(s, topic, partition);
    if (p != NULL)
        return p;
    if (!parts_reserve(s) || (p = part_new(s, topic, partition)) == NULL)
        return NULL;
    uint32_t i = part_place(s, topic, partition);
    memmove(s->parts + i + 1, s->parts + i, (s->n_parts - i) * sizeof(struct part *));
    s->parts[i] = p;
    s->n_parts++;
    return p;
}

/* Messages that wait for room but whose partition goes are left to its next owner. */
static void held_drop(struct source *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_held; i++) {
        rd_kafka_message_t *m = s->held[(s->held_first + i) % HELD_CAP];
        struct part *p = part_find(s, rd_kafka_topic_name(m->rkt), m->partition);
        if (p == NULL || p->giving_up)
            rd_kafka_message_destroy(m);
        else
            s->held[(s->held_first + kept++) % HELD_CAP] = m;
    }
    s->n_held = kept;
}

/* The library remembers a pause beyond the assignment. */
static void unpause(struct source *s)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)s->n_parts);
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->giving_up && s->parts[i]->paused)
            rd_kafka_topic_partition_list_add(list, s->parts[i]->topic,
                                              s->parts[i]->origin.partition);
    if (list->cnt > 0)
        rd_kafka_resume_partitions(s->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

void parts_close(struct source *s)
{
    const struct weir_host *h = s->client.host;
    held_drop(s);
    unpause(s);
    uint32_t kept = 0;
    s->recent = NULL;
    for (uint32_t i = 0; i < s->n_parts; i++) {
        struct part *p = s->parts[i];
        if (!p->giving_up) {
            s->parts[kept++] = p;
            continue;
        }
        h->metric_set(p->lag, NAN); /* its next owner's matter */
        mark_given_up(s, p);
        h->stream_close(p->stream);
        h->free(p);
    }
    s->n_parts = kept;
    rights_tell(s);
}

/* ---- Leases -------------------------------------------------------------------------------- */

void parts_lease(struct source *s, int64_t until_ns)
{
    if (s->lease == NULL || until_ns == s->lease_ns)
        return;
    s->lease_ns = until_ns;
    for (uint32_t i = 0; i < s->n_parts; i++)
        s->lease->until(s->parts[i]->stream, until_ns);
}

/* ---- Pause --------------------------------------------------------------------------------- */

static void parts_flow(struct source *s, bool pause)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)s->n_parts);
    for (uint32_t i = 0; i < s->n_parts; i++) {
        struct part *p = s->parts[i];
        /* Never resume what is not paused: before 2.4.0 it would be read again from an old place.
         */
        if (p->draining || p->paused == pause)
            continue;
        rd_kafka_topic_partition_list_add(list, p->topic, p->origin.partition);
        p->paused = pause;
    }
    if (list->cnt > 0 && pause)
        rd_kafka_pause_partitions(s->rk, list);
    else if (list->cnt > 0)
        rd_kafka_resume_partitions(s->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

void parts_pause(struct source *s)
{
    s->paused = true;
    parts_flow(s, true);
}

void parts_resume(struct source *s)
{
    s->paused = false;
    parts_flow(s, false);
}

/* ---- Questions ----------------------------------------------------------------------------- */

uint64_t parts_pending(const struct source *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->giving_up)
            n += s->client.host->stream_pending(s->parts[i]->stream);
    return n;
}

bool parts_at_end(const struct source *s)
{
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->end <= s->parts[i]->last_offset)
            return false;
    return true;
}
