/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `dedupe`: lets the first event with a key pass and filters the others, by keys kept in
 * memory.
 */
#include "lane.h"

struct config {
    struct lane_config lane;
    int64_t entries, bytes;
};

struct dedupe {
    struct lane lane; /* first */
};

/* ---- Options ---- */

static const struct weir_option options[] = {
    LANE_OPTIONS(struct config),
    {.name = "entries",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, entries),
     .def = "1000000",
     .min = 1,
     .max = 1000000000,
     .doc = "How many keys are remembered at most, for all lanes together.",
     .example = "100000"},
    {.name = "memory",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_MEMORY | WEIR_OPT_SHARED,
     .offset = offsetof(struct config, bytes),
     .def = "128MiB",
     .min = 4096,
     .max = INT64_C(1) << 40,
     .doc = "How many bytes of keys are remembered at most, for all lanes together.",
     .example = "16MiB"},
};

static void dedupe_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    lane_check(&cf->lane, report);
}

static int64_t dedupe_interval(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return LANE_INTERVAL_NS;
}

/* ---- Life ---- */

static void *shared_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct config *cf = config;
    const struct keys_config kc = {(uint64_t)cf->entries, (size_t)cf->bytes, cf->lane.ttl_ns,
                                   (uint32_t)cf->lane.held};
    struct keys *keys = keys_new(h, &kc);
    if (keys == NULL)
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for a table of keys");
    return keys;
}

static void shared_free(void *take_shared)
{
    keys_free(take_shared);
}

static void dedupe_close(void *take_self)
{
    struct dedupe *self = take_self;
    if (self == NULL)
        return;
    lane_close(&self->lane);
    self->lane.h->free(self);
}

static enum weir_status dedupe_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    const struct config *cf = config;
    struct keys *keys = h->shared(h, shared_new, shared_free, err);
    struct dedupe *self = keys != NULL ? h->alloc(sizeof(*self)) : NULL;
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to deduplicate");
    lane_open(&self->lane, h, &cf->lane, keys);
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Events ---- */

static enum weir_status dedupe_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                     struct weir_error *err)
{
    struct lane *l = &((struct dedupe *)self_arg)->lane;
    (void)ret_again_ns;
    if (lane_is_full(l)) {
        lane_give_out(l, b, true); /* that makes room */
        return WEIR_AGAIN;
    }
    uint32_t n = b->n_events;
    if (!lane_sort(l, b))
        return l->h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for %u keys", n);
    for (uint32_t i = 0; i < n; i++)
        if (l->items[i].first != NULL)
            lane_pass(l, b, weir_event_at(b, i), l->items[i].first);
    lane_give_out(l, b, false);
    return WEIR_OK;
}

static enum weir_status dedupe_tick(void *self_arg, struct weir_batch *b, bool final,
                                    struct weir_error *err)
{
    (void)final; /* a duplicate waits for its first then as well: which ends before the lane does */
    (void)err;
    lane_tick(&((struct dedupe *)self_arg)->lane, b);
    return WEIR_OK;
}

static void dedupe_settled(void *self_arg, const uint64_t *cookies, const enum weir_outcome *outcomes,
                           uint32_t n)
{
    struct lane *l = &((struct dedupe *)self_arg)->lane;
    for (uint32_t i = 0; i < n; i++)
        lane_end(l, lane_key_of(cookies[i]), lane_ended_well(outcomes[i]) ? END_SEEN : END_FAILED);
}

static const struct weir_transform dedupe_calls = {
    .size = sizeof(dedupe_calls),
    .apply = dedupe_apply,
    .tick = dedupe_tick,
    .settled = dedupe_settled,
};

static const struct weir_type type_dedupe = {
    .size = sizeof(type_dedupe),
    .kind = WEIR_TRANSFORM,
    .name = "dedupe",
    .summary = "Lets the first event with a key pass and filters the others.",
    .doc =
        "A key is remembered when its event has ended well: when every sink has it, or a transform "
        "behind has filtered it. It is not while the event is on its way, nor when it failed, was "
        "dropped, became a dead letter, or its partition got a new owner: the next one with that key "
        "passes then. So a duplicate is never taken for an event that got nowhere.\n\n"
        "A duplicate whose first is still on its way waits, held in memory, until that one has ended; "
        "then it is filtered as well, or goes on as the first. The lane does not wait with it. When "
        "`held` duplicates wait, or keys on their way alone use up `entries` or `memory`, the lanes "
        "take nothing new until some have ended. Duplicates end as filtered and are counted as "
        "discarded with the reason `duplicate`.\n\n"
        "The keys are in the memory of this process, shared by its lanes, and gone when it ends; "
        "`redis_dedupe` keeps them in Redis, for several processes and over restarts. When there is no "
        "room for a new key, the one that was not met for longest is forgotten, which is counted in "
        "`weir_dedupe_evicted_keys_total`: its duplicates pass.\n\n"
        "A field of `key` that is missing and has no default fails the event, and so does a key that "
        "is empty or has more than 4096 bytes. The default, the event's id, finds what a source reads "
        "twice, and what a client sends again with the same id. An event over HTTP that comes without one "
        "gets one of its own, and has no duplicates.",
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &dedupe_calls,
    .check = dedupe_check,
    .interval = dedupe_interval,
    .open = dedupe_open,
    .close = dedupe_close,
};

static const struct weir_type *const types[] = {&type_dedupe, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "dedupe", "0.1.0", "Filters events that come twice.", "Apache-2.0",
               types,           NULL};
