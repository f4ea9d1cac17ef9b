/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to Redis and their answers: grouped by the batch that asks, listed by the client.
 */
#ifndef REDIS_QUESTIONS_H
#define REDIS_QUESTIONS_H

#include "bytes.h"
#include "cache.h"

#include <stdatomic.h>

enum answer_state {
    ANSWER_WAITING,
    ANSWER_FOUND,      /* `blob` is the reply's record */
    ANSWER_MISSING,    /* nil, or an empty array */
    ANSWER_REJECTED,   /* an error reply that is about the question */
    ANSWER_UNAVAILABLE /* no answer now */
};

struct answer {
    enum answer_state state;
    struct blob *blob;
    const char *code; /* of REJECTED and UNAVAILABLE */
    char message[200];
};

/* One question, and its answer. */
struct question {
    struct question *next;
    struct group *group;
    size_t at, len;        /* of its command in group->commands */
    int64_t asked_ns;      /* when it came into the queue, then when it was sent */
    int64_t not_before_ns; /* it is not asked again earlier */
    uint16_t slot;
    uint8_t n_redirects;
    bool asking; /* the reply to ASKING comes first */
    struct answer answer;
};

/* The questions of one batch. */
struct group {
    const struct weir_host *h; /* of the lane; whom to wake */
    struct bytes commands;     /* all commands, one behind the other */
    atomic_uint n_waiting;
    bool orphaned; /* nobody waits for its answers any more */
    uint32_t n, cap;
    struct question questions[];
};

/* NULL when memory is used up. */
struct group *group_new(const struct weir_host *h, uint32_t cap);
/* The host of the group may be gone by then. */
void group_free(struct group *take_g, void (*release)(void *take_p));
struct weir_str group_command(const struct group *g, uint32_t i);

/* Questions one behind the other; a question is in one list at most. */
struct list {
    struct question *first, **last;
};

void list_init(struct list *l);
void list_push(struct list *l, struct question *q);
/* The list is not empty. */
struct question *list_pop(struct list *l);
/* Moves all of `from` in front of `l`. */
void list_prepend(struct list *l, struct list *from);

#endif
