/* SPDX-License-Identifier: Apache-2.0
 *
 * A real transform out of its .so in a pipeline turned by hand, with a clock of the test's own: what the
 * YAML of a transform says becomes a component of the rig. Sources and sinks are scripted.
 */
#ifndef TESTS_FLOW_RIG_H
#define TESTS_FLOW_RIG_H

#include "../engine/rig.h"

#include <base/check.h>
#include <engine/plan_private.h>

static struct wr_loader *flow_loader;
static struct wr_plan *flow_plan;

/* Component i of the rig is the transform that these options in flow style describe. */
static inline void flow_put(struct rig *r, uint32_t i, const char *options)
{
    static const char *const dirs[] = {WEIR_PLUGIN_BUILD_DIR, NULL};
    char text[2000];
    struct wr_diags *d = wr_diags_new();
    snprintf(text, sizeof(text),
             "sources: {in: {type: generate}}\ntransforms: {t: {inputs: [in], %s}}\n"
             "sinks: {out: {type: blackhole, inputs: [t], on_reject: drop}}\n",
             options);
    if (flow_loader == NULL)
        flow_loader = wr_loader_new(dirs);
    wr_plan_free(flow_plan);
    flow_plan = wr_plan_parse("flow.yaml", ".", weir_cstr(text), flow_loader, d);
    if (flow_plan == NULL) {
        struct wr_buf out = {0};
        wr_diags_print(d, &out, false);
        fail_msg("%s", out.ptr);
    }
    wr_diags_free(d);
    const struct wr_component *from = &flow_plan->components[1];
    r->comps[i].type = from->type;
    r->comps[i].config = from->config;
    r->comps[i].needs = from->needs;
    r->comps[i].conditions = from->conditions;
    r->comps[i].n_conditions = from->n_conditions;
    r->comps[i].opt.transform.on_error = WR_ON_DROP;
    r->plan.condition_service = flow_plan->condition_service;
}

/* As rig_poll_words, with words of up to 16 KiB and without keys. */
static inline enum weir_status flow_poll(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    static char word[16384];
    const char *words = s->arg;
    uint32_t n = 0;
    for (; *words != '\0' && n < room; n++) {
        size_t len = strcspn(words, " ");
        snprintf(word, sizeof(word), "%.*s", (int)len, words);
        (void)rig_emit(s, b, word, (int64_t)(s->n_polls * 1000 + n));
        words += len + (words[len] == ' ');
    }
    s->arg = (void *)(uintptr_t)words;
    return n != 0 ? WEIR_OK : WEIR_AGAIN;
}

/* Source 0, that transform, sink 2; the source gives these words. */
static inline struct rig *flow_line(const char *options, const char *words)
{
    struct rig *r = rig_triple(words);
    r->script[0].poll = flow_poll;
    flow_put(r, 1, options);
    return r;
}

/* Sources 0 and 1, each a lane, that transform 2, sink 3, whose writes stay pending at first. */
static inline struct rig *flow_two_lanes(const char *options, const char *first, const char *second)
{
    static struct rig r;
    rig_init(&r);
    (void)rig_add(&r, WEIR_SOURCE, "one");
    (void)rig_add(&r, WEIR_SOURCE, "two");
    (void)rig_add(&r, WEIR_TRANSFORM, "t");
    (void)rig_add(&r, WEIR_SINK, "out");
    rig_wire(&r, 0, 2);
    rig_wire(&r, 1, 2);
    rig_wire(&r, 2, 3);
    flow_put(&r, 2, options);
    r.script[0].poll = r.script[1].poll = flow_poll;
    r.script[0].arg = (void *)(uintptr_t)first;
    r.script[1].arg = (void *)(uintptr_t)second;
    r.script[3].verdict = rig_pending;
    rig_open(&r);
    return &r;
}

static inline void flow_end(void)
{
    wr_plan_free(flow_plan);
    wr_loader_free(flow_loader);
    flow_plan = NULL;
    flow_loader = NULL;
}

/* The value of a metric, summed over what has `label` (NULL: any) in its labels. */
static inline double flow_metric(struct rig *r, const char *name, const char *label)
{
    struct wr_buf out = {0};
    char start[80];
    double sum = 0;
    snprintf(start, sizeof(start), "\nweir_%s{", name);
    wr_metrics_print(r->metrics, &out);
    for (const char *at = out.ptr; (at = strstr(at, start)) != NULL; at++) {
        const char *end = strchr(at, '}'), *has = label != NULL ? strstr(at, label) : at;
        if (has != NULL && has < end)
            sum += strtod(end + 1, NULL);
    }
    wr_buf_done(&out);
    return sum;
}

static inline double flow_discarded(struct rig *r, const char *reason)
{
    char label[64];
    snprintf(label, sizeof(label), "reason=\"%s\"", reason);
    return flow_metric(r, "component_discarded_events_total", label);
}

#endif
