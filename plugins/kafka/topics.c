/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of the topics that one sink instance has written to, by name. They stay until close: a
 * handle is what librdkafka remembers a topic's partitions by.
 */
#include "sink.h"

#include <string.h>

static uint32_t bucket_of(struct weir_str name)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (unsigned char)name.ptr[i]) * 16777619u;
    return hash % TOPIC_BUCKETS;
}

static bool topic_is(const struct topic *t, struct weir_str name)
{
    return t->len == name.len && memcmp(t->name, name.ptr, name.len) == 0;
}

static rd_kafka_topic_t *refuse(struct weir_result *result, enum weir_verdict verdict,
                                const char *code, const char *message)
{
    result->verdict = verdict;
    result->code = code;
    result->message = weir_cstr(message);
    return NULL;
}

static struct topic *topic_new(const struct weir_host *h, rd_kafka_t *rk, struct weir_str name)
{
    struct topic *t = h->alloc(sizeof(*t) + name.len + 1);
    if (t == NULL)
        return NULL;
    memcpy(t->name, name.ptr, name.len);
    t->len = name.len;
    t->handle = rd_kafka_topic_new(rk, t->name, NULL);
    if (t->handle != NULL)
        return t;
    h->free(t);
    return NULL;
}

rd_kafka_topic_t *topics_get(struct topics *t, const struct weir_host *h, rd_kafka_t *rk,
                             struct weir_str name, struct weir_result *result)
{
    if (t->recent != NULL && topic_is(t->recent, name))
        return t->recent->handle;
    struct topic **bucket = &t->buckets[bucket_of(name)];
    for (struct topic *found = *bucket; found != NULL; found = found->next)
        if (topic_is(found, name)) {
            t->recent = found;
            return found->handle;
        }
    if (!topic_name_valid(name))
        return refuse(result, WEIR_VERDICT_REJECTED, "bad_topic",
                      "the rendered topic is no topic name: 1 to 249 letters, digits, '.', '_' "
                      "and '-'");
    if (t->n == TOPICS_MOST)
        return refuse(
            result, WEIR_VERDICT_REJECTED, "too_many_topics",
            "the sink writes to 4096 topics already: make its topic template less varied");
    struct topic *made = topic_new(h, rk, name);
    if (made == NULL)
        return refuse(result, WEIR_VERDICT_UNAVAILABLE, "no_memory", "memory is used up");
    made->next = *bucket;
    *bucket = t->recent = made;
    t->n++;
    return made->handle;
}

void topics_done(struct topics *t, const struct weir_host *h)
{
    for (uint32_t i = 0; i < TOPIC_BUCKETS; i++)
        for (struct topic *next, *at = t->buckets[i]; at != NULL; at = next) {
            next = at->next;
            rd_kafka_topic_destroy(at->handle);
            h->free(at);
        }
}
