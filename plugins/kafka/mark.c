/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids of messages whose topic was deleted and made again: offsets count from 0 anew, so that
 * `topic-partition-offset` would be the id of another message, and a sink that knows it would take
 * this one for a repetition. Their ids have a mark more: the time of the first message that was
 * read of the topic as it is now, which another process that reads it from there finds as well. It
 * is kept in the group beside the partition's offset, for those that go on behind it.
 *
 * Brokers forget a group's offsets with the topic. So all lanes of the source remember which
 * partitions they have given up. Where the group has no offset of a partition that is taken on, it
 * is asked for those of the same topic, too: when one of them is gone, or has a mark by now, the
 * topic was made again, whoever had read the partition before. A process that has read nothing of
 * the topic finds one that it has never seen.
 */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the metadata of a committed offset. */
#define WORD "weir-made-again:"
#define METADATA_MOST 64

/* ---- In the group -------------------------------------------------------------------------- */

int64_t mark_of(const rd_kafka_topic_partition_t *o)
{
    char text[METADATA_MOST] = "", *end;
    size_t prefix = sizeof(WORD) - 1;
    if (o->metadata == NULL || o->metadata_size <= prefix || o->metadata_size >= sizeof(text))
        return 0;
    memcpy(text, o->metadata, o->metadata_size);
    if (memcmp(text, WORD, prefix) != 0 || text[prefix] < '1' || text[prefix] > '9')
        return 0;
    long long ms = strtoll(text + prefix, &end, 10);
    return *end == '\0' && ms < INT64_MAX ? ms : 0;
}

void mark_read(struct part *p, const rd_kafka_topic_partition_t *o)
{
    int64_t ms = mark_of(o);
    if (ms != 0)
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
    /* At once: whoever goes on from here has to know it, also where the group has that offset. */
    p->committed = NO_OFFSET;
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

static rd_kafka_topic_partition_t *find_in(rd_kafka_topic_partition_list_t *list, const char *topic,
                                           int32_t partition)
{
    return list != NULL ? rd_kafka_topic_partition_list_find(list, topic, partition) : NULL;
}

static bool has_topic(const rd_kafka_topic_partition_list_t *list, const char *topic)
{
    for (int i = 0; list != NULL && i < list->cnt; i++)
        if (strcmp(list->elems[i].topic, topic) == 0)
            return true;
    return false;
}

void mark_given_up(struct source *s, const struct part *p)
{
    struct lanes *l = s->lanes;
    if (!p->had_offset)
        return;
    pthread_mutex_lock(&l->mutex);
    if (l->read == NULL)
        l->read = rd_kafka_topic_partition_list_new(16);
    rd_kafka_topic_partition_t *o = find_in(l->read, p->topic, p->origin.partition);
    if (o == NULL)
        o = rd_kafka_topic_partition_list_add(l->read, p->topic, p->origin.partition);
    o->offset = p->mark_ms; /* the list has a place for it there */
    pthread_mutex_unlock(&l->mutex);
}

rd_kafka_topic_partition_list_t *mark_known(struct source *s,
                                            const rd_kafka_topic_partition_list_t *list)
{
    struct lanes *l = s->lanes;
    rd_kafka_topic_partition_list_t *known = rd_kafka_topic_partition_list_new(list->cnt);
    pthread_mutex_lock(&l->mutex);
    for (int i = 0; l->read != NULL && i < l->read->cnt; i++) {
        const rd_kafka_topic_partition_t *o = &l->read->elems[i];
        if (has_topic(list, o->topic))
            rd_kafka_topic_partition_list_add(known, o->topic, o->partition);
    }
    pthread_mutex_unlock(&l->mutex);
    return known;
}

/* The group has lost what it had of the partition, or somebody who has noticed goes on in it. */
static bool is_forgotten(struct lanes *l, const rd_kafka_topic_partition_t *o)
{
    const rd_kafka_topic_partition_t *was = find_in(l->read, o->topic, o->partition);
    int64_t ms = mark_of(o);
    if (was == NULL || o->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    return o->offset < 0 || (ms != 0 && ms != was->offset);
}

void mark_compare(struct source *s, const rd_kafka_topic_partition_list_t *known)
{
    struct lanes *l = s->lanes;
    if (s->forgotten != NULL)
        rd_kafka_topic_partition_list_destroy(s->forgotten);
    s->forgotten = rd_kafka_topic_partition_list_new(1);
    pthread_mutex_lock(&l->mutex);
    for (int i = 0; i < known->cnt; i++) {
        const char *topic = known->elems[i].topic;
        if (is_forgotten(l, &known->elems[i]) && !has_topic(s->forgotten, topic))
            rd_kafka_topic_partition_list_add(s->forgotten, topic, RD_KAFKA_PARTITION_UA);
    }
    pthread_mutex_unlock(&l->mutex);
}

bool mark_is_forgotten(const struct source *s, const struct part *p)
{
    return has_topic(s->forgotten, p->topic);
}
