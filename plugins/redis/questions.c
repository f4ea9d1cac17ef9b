/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups and lists of questions. Contracts in questions.h; who guards them, in client.c.
 */
#include "questions.h"

struct group *group_new(const struct weir_host *h, uint32_t cap)
{
    struct group *g = h->alloc(sizeof(*g) + sizeof(g->questions[0]) * cap);
    if (g == NULL)
        return NULL;
    g->h = h;
    g->commands.h = h;
    g->cap = cap;
    atomic_init(&g->n_waiting, 0);
    return g;
}

void group_free(struct group *take_g, void (*release)(void *take_p))
{
    for (uint32_t i = 0; i < take_g->n; i++)
        blob_unref(take_g->questions[i].answer.blob);
    if (take_g->commands.ptr != NULL)
        release(take_g->commands.ptr);
    release(take_g);
}

struct weir_str group_command(const struct group *g, uint32_t i)
{
    return weir_str_n(g->commands.ptr + g->questions[i].at, g->questions[i].len);
}

void list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

void list_push(struct list *l, struct question *q)
{
    q->next = NULL;
    *l->last = q;
    l->last = &q->next;
}

struct question *list_pop(struct list *l)
{
    struct question *q = l->first;
    l->first = q->next;
    if (l->first == NULL)
        l->last = &l->first;
    return q;
}

void list_prepend(struct list *l, struct list *from)
{
    if (from->first == NULL)
        return;
    *from->last = l->first;
    if (l->first == NULL)
        l->last = from->last;
    l->first = from->first;
    list_init(from);
}
