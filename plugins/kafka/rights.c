/* SPDX-License-Identifier: Apache-2.0
 *
 * What the brokers deny to a source: to see a topic, to read a partition, to use the group. The
 * library says so once and goes on trying for ever; here it stays known until it is over, so that
 * /readyz says why nothing comes.
 */
#include "source.h"

#include <stdio.h>

#define ASK_INTERVAL (10 * WEIR_NS_PER_S)

static const char *denied_topic(const struct source *s)
{
    if (s->rights.topics != NULL && s->rights.topics->cnt > 0)
        return s->rights.topics->elems[0].topic;
    for (uint32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i]->denied)
            return s->parts[i]->topic;
    return NULL;
}

void rights_tell(struct source *s)
{
    char text[WEIR_ERROR_TEXT / 2] = "";
    const char *topic = denied_topic(s);
    if (s->rights.group)
        snprintf(text, sizeof(text), "Kafka denies access to the consumer group '%.100s'",
                 s->cfg->group.ptr);
    else if (topic != NULL)
        snprintf(text, sizeof(text), "Kafka denies access to the topic '%.100s'", topic);
    client_bar(&s->client, BAR_RIGHT, text);
}

void rights_denied(struct source *s, rd_kafka_resp_err_t code, const char *topic, int32_t partition)
{
    struct part *p = topic != NULL ? part_find(s, topic, partition) : NULL;
    if (code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
        s->rights.group = true;
    } else if (p != NULL) {
        p->denied = true;
    } else if (topic != NULL) {
        if (s->rights.topics == NULL)
            s->rights.topics = rd_kafka_topic_partition_list_new(1);
        if (rd_kafka_topic_partition_list_find(s->rights.topics, topic, RD_KAFKA_PARTITION_UA) ==
            NULL)
            rd_kafka_topic_partition_list_add(s->rights.topics, topic, RD_KAFKA_PARTITION_UA);
    }
    rights_tell(s);
}

void rights_read(struct source *s, struct part *p)
{
    p->denied = false;
    rights_tell(s);
}

void rights_joined(struct source *s)
{
    s->rights.group = false;
    rights_tell(s);
}

/* What the brokers say of one topic. */
static rd_kafka_resp_err_t ask_topic(rd_kafka_t *rk, const char *topic, int timeout_ms)
{
    const rd_kafka_metadata_t *md;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (handle == NULL)
        return rd_kafka_last_error();
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, handle, &md, timeout_ms);
    rd_kafka_topic_destroy(handle);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    code = md->topic_cnt > 0 ? md->topics[0].err : RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
    rd_kafka_metadata_destroy(md);
    return code;
}

rd_kafka_resp_err_t rights_find(struct source *s, rd_kafka_topic_partition_list_t *list,
                                int timeout_ms)
{
    for (int i = 0; i < list->cnt && !atomic_load(&s->asker.stop); i++)
        list->elems[i].err = ask_topic(s->rk, list->elems[i].topic, timeout_ms);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void take(struct source *s, const struct question *q)
{
    for (int i = 0; i < q->list->cnt; i++)
        if (q->list->elems[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_topic_partition_list_del(s->rights.topics, q->list->elems[i].topic,
                                              RD_KAFKA_PARTITION_UA);
    rights_tell(s);
}

void rights_step(struct source *s, int64_t now)
{
    struct question q;
    if (s->rights.topics == NULL || s->rights.topics->cnt == 0)
        return;
    enum ask_state state = ask_answer(s, ASK_RIGHTS, &q);
    if (state == ASK_ANSWERED) {
        take(s, &q);
        rd_kafka_topic_partition_list_destroy(q.list);
    } else if (state == ASK_NONE && now >= s->rights.ask_ns) {
        s->rights.ask_ns = now + ASK_INTERVAL;
        ask(s, ASK_RIGHTS, rd_kafka_topic_partition_list_copy(s->rights.topics), 0);
    }
}

void rights_free(struct source *s)
{
    if (s->rights.topics != NULL)
        rd_kafka_topic_partition_list_destroy(s->rights.topics);
    s->rights.topics = NULL;
}
