/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether two plans say the same of a component: its type, the options of the type as they were written
 * (after ${...}), and the content of the files that belong to them.
 */
#include <engine/reload_impl.h>

#include <base/str.h>
#include <engine/plan_private.h>

#include <string.h>

uint32_t wr_component_find(const struct wr_plan *plan, const struct wr_component *comp)
{
    for (uint32_t i = 0; i < plan->n_components; i++)
        if (plan->components[i].type->kind == comp->type->kind &&
            wr_str_eq(plan->components[i].id, comp->id))
            return i;
    return WR_NOWHERE;
}

static bool node_same(const struct wr_node *a, const struct wr_node *b)
{
    if (a->kind != b->kind || a->n != b->n)
        return false;
    if (a->kind == WR_NODE_SCALAR)
        return wr_str_eq(a->text, b->text) &&
               (a->style == WR_STYLE_PLAIN) == (b->style == WR_STYLE_PLAIN);
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->kind == WR_NODE_LIST ? !node_same(a->items[i], b->items[i])
                                    : !wr_str_eq(a->fields[i].key, b->fields[i].key) ||
                                          !node_same(a->fields[i].value, b->fields[i].value))
            return false;
    }
    return true;
}

/* The core's own options go by another way: no instance sees them. */
static bool is_common(const struct weir_options *common, struct weir_str key)
{
    for (uint32_t i = 0; i < common->n; i++)
        if (wr_str_is(key, wr_option_at(common, i).name))
            return true;
    return wr_str_is(key, "drop");
}

static bool options_same(const struct wr_component *a, const struct wr_component *b)
{
    struct weir_options common = wr_common_options(a->type->kind);
    uint32_t i = 0, k = 0;
    for (;; i++, k++) {
        while (i < a->node->n && is_common(&common, a->node->fields[i].key))
            i++;
        while (k < b->node->n && is_common(&common, b->node->fields[k].key))
            k++;
        if (i == a->node->n || k == b->node->n)
            return i == a->node->n && k == b->node->n;
        if (!wr_str_eq(a->node->fields[i].key, b->node->fields[k].key) ||
            !node_same(a->node->fields[i].value, b->node->fields[k].value))
            return false;
    }
}

/* What an instance is told of the core's options. */
static bool source_same(const struct wr_component *a, const struct wr_component *b)
{
    return a->opt.source.codec == b->opt.source.codec && a->opt.source.lanes == b->opt.source.lanes;
}

bool wr_component_same(const struct wr_component *a, const struct wr_component *b)
{
    if (a->type != b->type || (a->type->kind == WEIR_SOURCE && !source_same(a, b)))
        return false;
    return a->files_print == b->files_print && options_same(a, b);
}

bool wr_buffer_same_folder(const struct wr_component *a, const struct wr_component *b)
{
    const struct wr_sink_options *x = &a->opt.sink, *y = &b->opt.sink;
    return a->type->kind == WEIR_SINK && b->type->kind == WEIR_SINK &&
           x->buffer.type == WR_BUFFER_DISK && y->buffer.type == WR_BUFFER_DISK &&
           wr_same_folder(x->buffer.path, y->buffer.path);
}

const char *wr_outlet_misfit(const struct wr_component *a, const struct wr_component *b)
{
    const struct wr_sink_options *x = &a->opt.sink, *y = &b->opt.sink;
    bool shared = ((a->traits | b->traits) & WEIR_TRAIT_SHARED) != 0;
    if (a->type != b->type)
        return "type";
    if (x->buffer.type != y->buffer.type ||
        (x->buffer.type == WR_BUFFER_DISK && !wr_buffer_same_folder(a, b)))
        return "buffer";
    if (x->concurrency != y->concurrency || (shared && x->concurrency != 1))
        return "concurrency";
    if (x->in_flight != y->in_flight)
        return "in_flight";
    if (a->is_dead_letter != b->is_dead_letter)
        return "dead_letter";
    if ((b->needs & ~a->needs) != 0)
        return "what it reads of an event"; /* what waits was made ready for the old one */
    return NULL;
}

bool wr_outlet_fits(const struct wr_component *a, const struct wr_component *b)
{
    return wr_outlet_misfit(a, b) == NULL;
}
