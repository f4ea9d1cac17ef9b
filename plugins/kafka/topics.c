/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of the topics that one sink instance has written to, by name. A handle is what librdkafka
 * remembers a topic's partitions by, so that they stay until close; those of topics that do not
 * exist go when their places are needed.
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

static struct topic *refuse(struct weir_result *result, enum weir_verdict verdict, const char *code,
                            const char *message)
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
    t->limit = NO_LIMIT;
    t->handle = rd_kafka_topic_new(rk, t->name, NULL);
    if (t->handle != NULL)
        return t;
    h->free(t);
    return NULL;
}

static void topic_free(const struct weir_host *h, struct topic *take_t)
{
    rd_kafka_topic_destroy(take_t->handle);
    h->free(take_t);
}

/* Names that events made up leave their places to others. */
static void drop_unknown(struct topics *t, const struct weir_host *h)
{
    t->recent = NULL;
    for (uint32_t i = 0; i < TOPIC_BUCKETS; i++)
        for (struct topic **at = &t->buckets[i]; *at != NULL;) {
            struct topic *found = *at;
            if (!found->unknown || found->under_way != 0) {
                at = &found->next;
                continue;
            }
            *at = found->next;
            topic_free(h, found);
            t->n--;
        }
}

struct topic *topics_get(struct topics *t, const struct weir_host *h, rd_kafka_t *rk,
                         struct weir_str name, struct weir_result *result)
{
    if (t->recent != NULL && topic_is(t->recent, name))
        return t->recent;
    struct topic **bucket = &t->buckets[bucket_of(name)];
    for (struct topic *found = *bucket; found != NULL; found = found->next)
        if (topic_is(found, name))
            return t->recent = found;
    if (!topic_name_valid(name))
        return refuse(result, WEIR_VERDICT_REJECTED, "bad_topic",
                      "the rendered topic is no topic name: 1 to 249 letters, digits, '.', '_' "
                      "and '-'");
    if (t->n == TOPICS_MOST)
        drop_unknown(t, h);
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
    return made;
}

/* ---- Smaller requests ----------------------------------------------------------------------
 *
 * A broker refuses a whole request where it is larger than the topic's max.message.bytes, though
 * each event in it may be small. The library knows one size for all topics, so that the way to
 * smaller requests is to have fewer bytes under way. Down to one event at a time: what is refused
 * then is too large itself. */

#define LIMIT_MOST ((size_t)1 << 20)
#define LIMIT_STEP 4
#define LIMIT_LEAST 1024 /* below it events go one by one */
#define LIMITS_PROVEN 64 /* so many limits' worth of bytes raise it again */
/* So many to try one that was refused before: the topic may have been told to take more since. */
#define LIMITS_RETRIED 65536

bool topic_has_room(const struct topic *t, size_t bytes)
{
    return t->under_way == 0 || t->limit == NO_LIMIT ||
           (bytes < t->limit && t->under_way <= t->limit - bytes);
}

/* A broker that knows the producer refuses what was sent behind a request that it refused, for its
 * number does not fit, and the library puts it back. One that has nothing of the producer in a
 * partition takes any number. So at first a write's events, or as many as may be under way, end
 * before others follow. */
bool topic_takes(struct topic *t, uint64_t ticket, size_t bytes)
{
    if (t->under_way == 0)
        t->first = ticket;
    bool takes = topic_has_room(t, bytes) && (t->reached || t->first == ticket);
    if (!takes)
        t->first = 0; /* no ticket is that */
    return takes;
}

void topic_shrink(struct topic *t, size_t limit)
{
    if (limit != t->limit)
        return; /* another message of the same request has done it */
    size_t from = limit < LIMIT_MOST ? limit : LIMIT_MOST;
    t->refused = from;
    t->reached = false;
    t->limit = from / LIMIT_STEP >= LIMIT_LEAST ? from / LIMIT_STEP : 1;
    t->proven = 0;
}

void topic_forget_refusal(struct topic *t)
{
    t->refused = 0;
}

void topic_isolate(struct topic *t)
{
    t->limit = 1;
    t->proven = 0;
}

void topic_prove(struct topic *t, size_t bytes)
{
    size_t limit = t->limit > LIMIT_LEAST ? t->limit : LIMIT_LEAST;
    t->reached |= t->under_way == 0;
    if (t->limit == NO_LIMIT)
        return;
    t->proven += bytes;
    bool was_refused = t->refused != 0 && limit >= t->refused / LIMIT_STEP;
    if (t->proven / (was_refused ? LIMITS_RETRIED : LIMITS_PROVEN) < limit)
        return;
    t->limit = limit * LIMIT_STEP < LIMIT_MOST ? limit * LIMIT_STEP : NO_LIMIT;
    t->proven = 0;
    t->reached = false;
}

void topics_done(struct topics *t, const struct weir_host *h)
{
    for (uint32_t i = 0; i < TOPIC_BUCKETS; i++)
        for (struct topic *next, *at = t->buckets[i]; at != NULL; at = next) {
            next = at->next;
            topic_free(h, at);
        }
}
