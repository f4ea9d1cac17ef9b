/* SPDX-License-Identifier: Apache-2.0
 *
 * What instances say against their pipeline's readiness: a list that is empty but for a login or a right
 * that is missing. /readyz gives the first of them.
 */
#include <engine/runtime.h>

#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>

#include <stdio.h>

struct wr_unready {
    struct wr_unready *next;
    const struct wr_unit *unit;
    uint32_t index; /* of the instance */
    char text[WEIR_ERROR_TEXT];
};

static struct wr_unready **place(struct wr_pipeline *p, const struct wr_unit *unit, uint32_t index)
{
    struct wr_unready **at = &p->unready;
    while (*at != NULL && ((*at)->unit != unit || (*at)->index != index))
        at = &(*at)->next;
    return at;
}

static void drop(struct wr_unready **at)
{
    struct wr_unready *gone = *at;
    *at = gone->next;
    wr_free(gone);
}

void wr_unit_unready(struct wr_unit *unit, uint32_t index, const char *reason)
{
    struct wr_pipeline *p = unit->pipeline;
    pthread_mutex_lock(&p->mutex);
    struct wr_unready **at = place(p, unit, index);
    if (reason == NULL && *at != NULL)
        drop(at);
    if (reason != NULL && *at == NULL)
        *at = wr_xalloc(sizeof(**at));
    if (reason != NULL) {
        struct wr_unready *u = *at;
        u->unit = unit;
        u->index = index;
        snprintf(u->text, sizeof(u->text), "%s '%.*s': %s", wr_kind_name(unit->type->kind),
                 WR_STR(unit->id), reason);
    }
    atomic_store(&p->any_unready, p->unready != NULL);
    pthread_mutex_unlock(&p->mutex);
}

void wr_unit_forget_unready(const struct wr_unit *unit)
{
    struct wr_pipeline *p = unit->pipeline;
    pthread_mutex_lock(&p->mutex);
    for (struct wr_unready **at = &p->unready; *at != NULL;)
        if ((*at)->unit == unit)
            drop(at);
        else
            at = &(*at)->next;
    atomic_store(&p->any_unready, p->unready != NULL);
    pthread_mutex_unlock(&p->mutex);
}

bool wr_pipeline_unready(struct wr_pipeline *p, char *ret_text, size_t size)
{
    pthread_mutex_lock(&p->mutex);
    bool any = p->unready != NULL;
    snprintf(ret_text, size, "%s", any ? p->unready->text : "");
    pthread_mutex_unlock(&p->mutex);
    return any;
}

void wr_pipeline_free_unready(struct wr_pipeline *p)
{
    while (p->unready != NULL)
        drop(&p->unready);
}
