/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin as somebody outside weir writes one: a transform that masks a string field, all but its
 * last characters. test_install.py builds it with nothing but `pkg-config --cflags weir`.
 */
#include <weir/plugin.h>

struct config {
    struct weir_str field;
    int64_t keep;
};

struct mask {
    const struct weir_host *h;
    const struct config *cf;
    struct weir_metric *masked;
};

static const struct weir_option options[] = {
    {.name = "field",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, field),
     .doc = "Field of the event's top level.",
     .example = "card"},
    {.name = "keep",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, keep),
     .def = "4",
     .min = 0,
     .max = 64,
     .doc = "How many bytes at the end stay readable.",
     .example = "2"},
};

static enum weir_status mask_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    struct mask *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for a mask");
    self->h = h;
    self->cf = config;
    self->masked = h->counter(h, "mask_masked_total", "Fields that were masked.", NULL);
    *ret_self = self;
    return WEIR_OK;
}

static void mask_close(void *take_self)
{
    struct mask *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

static enum weir_status mask_event(struct mask *self, struct weir_batch *b, struct weir_event *ev,
                                   struct weir_error *err)
{
    const struct weir_host *h = self->h;
    const struct weir_value *old = h->value_get(h->event_value(h, b, ev), self->cf->field);
    if (old == NULL || h->value_type(old) != WEIR_STRING)
        return WEIR_OK;
    struct weir_str text = h->value_str(old);
    size_t hidden = text.len - (text.len < (size_t)self->cf->keep ? text.len : (size_t)self->cf->keep);
    char *stars = h->arena_alloc(b->arena, text.len + 1);
    if (stars == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to mask a field");
    for (size_t i = 0; i < text.len; i++)
        stars[i] = i < hidden ? '*' : text.ptr[i];
    struct weir_value *v = h->make_str(b->arena, weir_str_n(stars, text.len));
    if (!h->object_set(b->arena, h->event_edit(h, b, ev), self->cf->field, v))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to set a field");
    h->metric_add(self->masked, 1);
    return WEIR_OK;
}

static enum weir_status mask_apply(void *self, struct weir_batch *b, int64_t *ret_again_ns,
                                   struct weir_error *err)
{
    (void)ret_again_ns;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        enum weir_status status = (ev->flags & WEIR_EVENT_GONE) ? WEIR_OK : mask_event(self, b, ev, err);
        if (status != WEIR_OK)
            return status;
    }
    return WEIR_OK;
}

static const struct weir_transform transform = {
    .size = sizeof(transform),
    .apply = mask_apply,
};

static const struct weir_type type_mask = {
    .size = sizeof(type_mask),
    .kind = WEIR_TRANSFORM,
    .name = "mask",
    .summary = "Hides all but the end of a field.",
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &transform,
    .open = mask_open,
    .close = mask_close,
};

static const struct weir_type *const types[] = {&type_mask, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "mask", "2.3.1", "Masks fields.", "MIT", types, NULL};
