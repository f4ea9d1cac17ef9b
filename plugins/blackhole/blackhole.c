/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `blackhole`: takes every event and keeps nothing.
 *
 * It ends a pipeline in benches and examples, and a branch whose events are of no interest. With
 * `needs` it makes the lane do the work that a real sink would ask for: serialized payloads or
 * parsed values; both are then truly read, so that no part of that work can be skipped.
 * It never fails, never waits, and allocates nothing after open.
 */
#include <weir/plugin.h>

enum needs { NEEDS_NONE, NEEDS_PAYLOAD, NEEDS_VALUE };

static const char *const needs_words[] = {"none", "payload", "value", NULL};

struct config {
    int needs;
};

struct blackhole {
    const struct weir_host *h;
    enum needs needs;
    struct weir_metric *bytes;
    struct weir_metric *fields;
};

static const struct weir_option options[] = {
    {.name = "needs",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, needs),
     .def = "none",
     .choices = needs_words,
     .doc = "What is read of each event: nothing, its payload bytes, or its parsed value.",
     .example = "value"},
};

static uint32_t blackhole_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct config *cf = config;
    static const uint32_t of[] = {0, WEIR_NEEDS_PAYLOAD, WEIR_NEEDS_VALUE};
    return of[cf->needs];
}

static uint32_t blackhole_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_OVERWRITES;
}

static enum weir_status blackhole_open(const struct weir_host *h, const void *config,
                                       void **ret_self, struct weir_error *err)
{
    const struct config *cf = config;
    struct blackhole *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the blackhole");
    self->h = h;
    self->needs = (enum needs)cf->needs;
    if (self->needs == NEEDS_PAYLOAD)
        self->bytes = h->counter(h, "blackhole_bytes_total", "Payload bytes read.", NULL);
    if (self->needs == NEEDS_VALUE)
        self->fields = h->counter(h, "blackhole_fields_total",
                                  "Top-level fields and elements of parsed values read.", NULL);
    *ret_self = self;
    return WEIR_OK;
}

static void blackhole_close(void *take_self)
{
    struct blackhole *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

/* Fields read of one value: those of an object, the elements of an array, 1 of a scalar. */
static uint64_t read_value(const struct weir_host *h, const struct weir_value *v)
{
    if (v == NULL)
        return 0;
    enum weir_value_type type = h->value_type(v);
    if (type != WEIR_OBJECT && type != WEIR_ARRAY)
        return 1;
    uint64_t n = 0;
    struct weir_str key;
    struct weir_value_iter it = h->value_iter(v);
    while (h->value_next(&it, &key) != NULL)
        n++;
    return n;
}

static void blackhole_write(void *self_, struct weir_batch *b, int64_t deadline_ns,
                            struct weir_results *results)
{
    const struct blackhole *self = self_;
    const struct weir_host *h = self->h;
    (void)deadline_ns;
    uint64_t bytes = 0;
    uint64_t fields = 0;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if (self->needs == NEEDS_PAYLOAD)
            bytes += h->event_payload(h, b, ev).len;
        else if (self->needs == NEEDS_VALUE)
            fields += read_value(h, h->event_value(h, b, ev));
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
    }
    h->metric_add(self->bytes, bytes);
    h->metric_add(self->fields, fields);
}

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 1024,
    .batch_bytes = 4 << 20,
    .in_flight = 1,
    .write = blackhole_write,
};

static const struct weir_type type_blackhole = {
    .size = sizeof(type_blackhole),
    .kind = WEIR_SINK,
    .name = "blackhole",
    .summary = "Takes every event and keeps nothing.",
    .doc = "Ends a pipeline whose events are not wanted, or one that is measured. With `needs: "
           "value` every event is parsed and the fields of its top level are read (metric "
           "`weir_blackhole_fields_total`); with `needs: payload` every event is serialized "
           "(metric `weir_blackhole_bytes_total`); with `needs: none` it is only counted.",
    .options = WEIR_OPTIONS(options, struct config),
    .sink = &sink,
    .needs = blackhole_needs,
    .traits = blackhole_traits,
    .open = blackhole_open,
    .close = blackhole_close,
};

static const struct weir_type *const types[] = {&type_blackhole, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "blackhole", "0.1.0", "A sink that keeps nothing.",
               "Apache-2.0",    types,       NULL};
