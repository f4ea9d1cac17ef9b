/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to the brokers whose calls block: they are carried there and back by a thread of their
 * own, so that the lane never waits. Each kind of question has one place; the lane opens it, the
 * thread answers it, the lane closes it. The thread calls nothing of the host.
 */
#include "source.h"

#include <string.h>

#define ASK_TIMEOUT_MS 1000
#define START_TIMEOUT_MS 2000 /* of each of its calls */

static void close_question(struct question *q)
{
    if (q->list != NULL)
        rd_kafka_topic_partition_list_destroy(q->list);
    *q = (struct question){0};
}

/* The open question that comes first, NULL where there is none. */
static struct question *open_question(struct asker *a)
{
    for (int i = 0; i < N_QUESTIONS; i++)
        if (a->questions[i].list != NULL && !a->questions[i].answered)
            return &a->questions[i];
    return NULL;
}

static rd_kafka_resp_err_t find(struct source *s, enum ask_kind kind,
                                rd_kafka_topic_partition_list_t *list)
{
    switch (kind) {
    case ASK_STARTS:
        return start_find(s, list, START_TIMEOUT_MS);
    case ASK_BEGINS:
    case ASK_ENDS:
        return rd_kafka_offsets_for_times(s->rk, list, ASK_TIMEOUT_MS);
    case ASK_RIGHTS:
        return rights_find(s, list, ASK_TIMEOUT_MS);
    case N_QUESTIONS:
        break;
    }
    return RD_KAFKA_RESP_ERR__INVALID_ARG;
}

static void *answer(void *arg)
{
    struct source *s = arg;
    struct asker *a = &s->asker;
    pthread_mutex_lock(&a->mutex);
    while (!a->stop) {
        struct question *q = open_question(a);
        if (q == NULL) {
            pthread_cond_wait(&a->changed, &a->mutex);
            continue;
        }
        rd_kafka_topic_partition_list_t *list = q->list;
        pthread_mutex_unlock(&a->mutex);
        rd_kafka_resp_err_t code = find(s, (enum ask_kind)(q - a->questions), list);
        pthread_mutex_lock(&a->mutex);
        q->code = code;
        q->answered = true;
        kafka_source_calls.wake(s);
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

bool ask_start(struct source *s, struct weir_error *err)
{
    struct asker *a = &s->asker;
    int code = pthread_create(&a->thread, NULL, answer, s);
    a->has_thread = code == 0;
    if (code != 0)
        s->client.host->error(err, WEIR_E_FATAL, "no_thread", "cannot start a thread: %s",
                              strerror(code));
    return code == 0;
}

void ask_init(struct source *s)
{
    pthread_mutex_init(&s->asker.mutex, NULL);
    pthread_cond_init(&s->asker.changed, NULL);
}

void ask_done(struct source *s)
{
    struct asker *a = &s->asker;
    pthread_mutex_lock(&a->mutex);
    a->stop = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->mutex);
    if (a->has_thread)
        pthread_join(a->thread, NULL);
    for (int i = 0; i < N_QUESTIONS; i++)
        close_question(&a->questions[i]);
    pthread_mutex_destroy(&a->mutex);
    pthread_cond_destroy(&a->changed);
}

void ask(struct source *s, enum ask_kind kind, rd_kafka_topic_partition_list_t *take_list,
         uint64_t number)
{
    struct asker *a = &s->asker;
    pthread_mutex_lock(&a->mutex);
    a->questions[kind] = (struct question){.list = take_list, .number = number};
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->mutex);
}

enum ask_state ask_answer(struct source *s, enum ask_kind kind, struct question *ret_take)
{
    struct asker *a = &s->asker;
    enum ask_state state = ASK_NONE;
    pthread_mutex_lock(&a->mutex);
    struct question *q = &a->questions[kind];
    if (q->list != NULL)
        state = q->answered ? ASK_ANSWERED : ASK_OPEN;
    if (state == ASK_ANSWERED) {
        *ret_take = *q;
        *q = (struct question){0};
    }
    pthread_mutex_unlock(&a->mutex);
    return state;
}
