/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `sample`: keeps a part of the events, by chance or by a key.
 */
#include "share.h"

#include "../common/event_key.h"

struct config {
    struct weir_str rate;
    struct weir_template *by;
    int64_t seed;
    struct weir_condition *always;
};

struct sample {
    const struct weir_host *h;
    const struct config *config;
    double share;
    struct weir_metric *always;
};

/* ---- Options ---- */

static const struct weir_option options[] = {
    {.name = "rate",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct config, rate),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "Which part of the events is kept: 0.1, 10% and 1/10 are the same; 0 keeps only `always`.",
     .example = "1/10"},
    {.name = "by",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, by),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Events with the same text are all kept, or none of them; without it chance decides for "
            "each.",
     .example = "\"{{ user_id }}\""},
    {.name = "seed",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, seed),
     .def = "0",
     .doc = "Another number keeps other keys of `by`.",
     .example = "7"},
    {.name = "always",
     .type = WEIR_OPT_CONDITION,
     .offset = offsetof(struct config, always),
     .doc = "Events for which this condition holds are kept whatever the rate.",
     .example = "event.type == \"purchase\""},
};

static void sample_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    struct weir_str text;
    double share;
    size_t offset;
    const char *wrong = share_parse(cf->rate, &share, &offset);
    if (wrong != NULL)
        report->error(report, "rate", (int64_t)offset, "%s; found \"%s\"", wrong, cf->rate.ptr);
    if (cf->by != NULL && report->host->template_is_literal(cf->by, &text))
        report->error(report, "by", -1,
                      "this text is the same for every event: all would be kept, or none");
    if (cf->by == NULL && cf->seed != 0)
        report->error(report, "seed", -1, "a seed is of use only with `by`");
}

/* ---- Life ---- */

static void sample_close(void *take_self)
{
    struct sample *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

static enum weir_status sample_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    const struct config *cf = config;
    size_t offset;
    struct sample *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sample");
    self->h = h;
    self->config = cf;
    const char *wrong = share_parse(cf->rate, &self->share, &offset);
    if (wrong != NULL) {
        h->free(self);
        return h->error(err, WEIR_E_CONFIG, "bad_rate", "rate: %s", wrong);
    }
    if (cf->always != NULL)
        self->always = h->counter(h, "sample_always_events_total",
                                  "Events that the condition `always` kept, whatever the rate.", NULL);
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Events ---- */

/* Whether the rate keeps it. An event without the key has failed. */
static bool is_kept(struct sample *self, struct weir_batch *b, struct weir_event *ev)
{
    const struct weir_host *h = self->h;
    struct weir_str key;
    if (self->config->by == NULL)
        return share_of_bits(h->random(h)) < self->share;
    return event_key(h, self->config->by, b, ev, &key) &&
           share_place(key, (uint64_t)self->config->seed) < self->share;
}

static enum weir_status sample_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                     struct weir_error *err)
{
    struct sample *self = self_arg;
    const struct weir_host *h = self->h;
    uint8_t *always = NULL;
    (void)ret_again_ns;
    if (self->config->always != NULL) {
        always = h->arena_alloc(h->scratch(h), b->n_events + 1);
        if (always == NULL)
            return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for %u events", b->n_events);
        h->condition_eval(h, self->config->always, b, always);
    }
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if ((ev->flags & WEIR_EVENT_GONE) != 0)
            continue;
        if (always != NULL && always[i] != 0)
            h->metric_add(self->always, 1);
        else if (!is_kept(self, b, ev))
            h->event_filter(h, b, ev, "sampled");
    }
    return WEIR_OK;
}

static const struct weir_transform sample_calls = {
    .size = sizeof(sample_calls),
    .apply = sample_apply,
};

static const struct weir_type type_sample = {
    .size = sizeof(type_sample),
    .kind = WEIR_TRANSFORM,
    .name = "sample",
    .summary = "Keeps a part of the events, by chance or by a key.",
    .doc =
        "The others end as filtered, and are counted as discarded with the reason `sampled`.\n\n"
        "With `by` the decision is made by a hash of the text: the same key is kept in every lane, "
        "every process and after every restart; two samplers with the same `seed` keep the same keys, "
        "and a higher rate keeps all that a lower one did. The hash never changes. A field that is "
        "missing and has no default fails the event.\n\n"
        "An event for which `always` holds is kept whatever the rate, and needs no key. Such events are "
        "counted in `weir_sample_always_events_total`: the rest of what is sent, divided by the rate, "
        "says how many there were.",
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &sample_calls,
    .check = sample_check,
    .open = sample_open,
    .close = sample_close,
};

static const struct weir_type *const types[] = {&type_sample, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "sample", "0.1.0", "Keeps a part of the events.", "Apache-2.0",
               types,           NULL};
