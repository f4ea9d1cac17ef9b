/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids of messages whose topic was deleted and made again: offsets count from 0 anew, so that
 * `topic-partition-offset` would be the id of another message, and a sink that knows it would take
 * this one for a repetition. Their ids have a mark more: the time of the first message that was
 * read of the topic as it is now, which another process that reads it from there finds as well. It
 * is kept in the group beside the partition's offset, for those that go on behind it.
 *
 * Brokers forget a group's offsets with the topic. What was read is remembered here, for all lanes
 * of the source; a process that was not there finds a topic that it has never seen.
 */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the metadata of a committed offset. */
#define WORD "weir-made-again:"
#define METADATA_MOST 64

/* ---- In the group -------------------------------------------------------------------------- */

void mark_read(struct part *p, const rd_kafka_topic_partition_t *o)
{
    char text[METADATA_MOST] = "", *end;
    size_t prefix = sizeof(WORD) - 1;
    if (o->metadata == NULL || o->metadata_size <= prefix || o->metadata_size >= sizeof(text))
        return;
    memcpy(text, o->metadata, o->metadata_size);
    if (memcmp(text, WORD, prefix) != 0 || text[prefix] < '1' || text[prefix] > '9')
        return;
    long long ms = strtoll(text + prefix, &end, 10);
    if (*end == '\0' && ms < INT64_MAX)
        p->mark_ms = ms;
}

void mark_write(const struct source *s, const struct part *p, rd_kafka_topic_partition_t *o)
{
    char text[METADATA_MOST];
    if (p->mark_ms == 0)
        return;
    int n = snprintf(text, sizeof(text), WORD "%lld", (long long)p->mark_ms);
    o->metadata = rd_kafka_mem_malloc(s->rk, (size_t)n); /* goes with the list */
    if (o->metadata == NULL)
        return;
    memcpy(o->metadata, text, (size_t)n);
    o->metadata_size = (size_t)n;
}

/* ---- In events ----------------------------------------------------------------------------- */

bool mark_event(const struct source *s, struct weir_batch *b, const struct part *p, int64_t time_ms,
                struct weir_event *ev)
{
    int64_t ms = p->anew ? time_ms : p->mark_ms;
    if (ms <= 0)
        return true;
    ev->id = s->client.host->arena_printf(b->arena, "%s-%d-%lld@%lld", p->topic,
                                          (int)p->origin.partition, (long long)ev->position,
                                          (long long)ms);
    return ev->id.ptr != NULL;
}

void mark_emitted(struct source *s, struct part *p, int64_t offset, int64_t time_ms)
{
    if (!p->anew)
        return;
    p->anew = false;
    p->mark_ms = time_ms > 0 ? time_ms : 0;
    /* At once: whoever goes on from here has to know it. */
    commit_mark(s, p, offset);
    s->commit_ns = 0;
}

/* ---- What was read ------------------------------------------------------------------------- */

void lanes_init(struct lanes *l)
{
    pthread_mutex_init(&l->mutex, NULL);
}

void lanes_free(void *take_lanes)
{
    struct lanes *l = take_lanes;
    void (*release)(void *) = l->free;
    if (l->read != NULL)
        rd_kafka_topic_partition_list_destroy(l->read);
    pthread_mutex_destroy(&l->mutex);
    release(l);
}

void mark_given_up(struct source *s, const struct part *p)
{
    struct lanes *l = s->lanes;
    if (p->committed == NO_OFFSET)
        return;
    pthread_mutex_lock(&l->mutex);
    if (l->read == NULL)
        l->read = rd_kafka_topic_partition_list_new(16);
    if (rd_kafka_topic_partition_list_find(l->read, p->topic, p->origin.partition) == NULL)
        rd_kafka_topic_partition_list_add(l->read, p->topic, p->origin.partition);
    pthread_mutex_unlock(&l->mutex);
}

bool mark_was_read(struct source *s, const struct part *p)
{
    struct lanes *l = s->lanes;
    pthread_mutex_lock(&l->mutex);
    bool found = l->read != NULL &&
                 rd_kafka_topic_partition_list_find(l->read, p->topic, p->origin.partition) != NULL;
    pthread_mutex_unlock(&l->mutex);
    return found;
}
