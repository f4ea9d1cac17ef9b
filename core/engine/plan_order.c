/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_order.c: the order of the plan's components: sources, transforms each behind all that
 * it reads, sinks. A circle of transforms is named.
 */
#include <base/str.h>
#include <engine/plan_private.h>

enum { NEW, OPEN, CLOSED };

/* The way of the search at hand, as a list towards its beginning. */
struct trail {
    const struct trail *up;
    uint32_t draft;
};

struct walk {
    struct wr_planner *p;
    uint32_t *order;
    uint32_t n;
    bool ok;
};

/* From the way's end back to `first`, which reads it: the circle, against the way of the events. */
static void report_cycle(struct wr_planner *p, const struct trail *end, uint32_t first)
{
    const struct wr_draft *d = &p->drafts[first];
    struct wr_buf text = {0};

    wr_buf_text(&text, "these transforms read from each other in a circle: ");
    wr_buf_str(&text, d->field->key);
    for (const struct trail *t = end; t != NULL; t = t->up) {
        wr_buf_text(&text, " -> ");
        wr_buf_str(&text, p->drafts[t->draft].field->key);
        if (t->draft == first)
            break;
    }
    wr_plan_error(p, "cycle", d->field->pos, &d->path,
                  &(struct wr_diag){.message = wr_buf_view(&text)});
    wr_buf_done(&text);
}

/* Depth first over what a transform reads; the depth is bounded by the number of components. */
static void visit(struct walk *w, uint32_t i, const struct trail *up)
{
    struct wr_draft *d = &w->p->drafts[i];
    struct trail here = {up, i};

    d->mark = OPEN;
    for (uint32_t k = 0; k < d->n_inputs; k++) {
        uint32_t from = d->inputs[k].from;
        struct wr_draft *f = &w->p->drafts[from];
        if (f->kind != WEIR_TRANSFORM)
            continue;
        if (f->mark == OPEN) {
            report_cycle(w->p, &here, from);
            w->ok = false;
        } else if (f->mark == NEW) {
            visit(w, from, &here);
        }
    }
    d->mark = CLOSED;
    w->order[w->n++] = i;
}

bool wr_plan_order(struct wr_planner *p, uint32_t *ret_order)
{
    struct walk w = {p, ret_order, 0, true};

    for (uint32_t i = 0; i < p->n; i++) {
        struct wr_draft *d = &p->drafts[i];
        if (d->kind == WEIR_TRANSFORM && d->mark == NEW)
            visit(&w, i, NULL);
        else if (d->kind != WEIR_TRANSFORM)
            ret_order[w.n++] = i;
    }
    return w.ok;
}
