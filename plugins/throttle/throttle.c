/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `throttle`: lets so many events a second pass.
 *
 * What is too much waits, is dropped or fails. Waiting is the lane's: apply lets go what has its token
 * and answers AGAIN with the moment of the next one, so the lane keeps the order and takes nothing new
 * meanwhile.
 */
#include "buckets.h"

#include "../common/event_key.h"
#include "../common/text.h"

/* At high rates the lane wakes for several tokens at once, and a lane that wakes late takes those that
 * came meanwhile. */
#define STEP_NS (1 * WEIR_NS_PER_MS)
#define LATE_NS (10 * WEIR_NS_PER_MS)
#define KEYS 10000
#define WORD_OF(x) #x
#define WORD(x) WORD_OF(x)

enum mode { MODE_WAIT, MODE_DROP, MODE_ERROR };

struct config {
    double rate;
    int64_t burst;
    struct weir_template *key;
    int64_t keys;
    int mode;
};

struct throttle {
    const struct weir_host *h;
    const struct config *config;
    struct buckets *buckets;
    bool waits;        /* the batch at hand has waited for its first event's token */
    int64_t waited_ns; /* until when one before it had to */
    struct weir_metric *waited, *forgotten, *keys;
};

/* ---- Options ---- */

static const char *const mode_words[] = {"wait", "drop", "error", NULL};

static const struct weir_option options[] = {
    {.name = "rate",
     .type = WEIR_OPT_FLOAT,
     .flags = WEIR_OPT_REQUIRED,
     .offset = offsetof(struct config, rate),
     .doc = "How many events pass a second, in all lanes together; of each key where there is one.",
     .example = "250.5"},
    {.name = "burst",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, burst),
     .def = "0",
     .min = 0,
     .max = 1000000000,
     .doc = "How many may pass at once after a pause; 0: those of a second, at least 1.",
     .example = "1000"},
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct config, key),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Events with the same text share a rate of their own; without it all share one.",
     .example = "\"{{ user_id }}\""},
    {.name = "keys",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, keys),
     .def = WORD(KEYS),
     .min = 1,
     .max = 10000000,
     .doc = "How many keys are kept apart at most; the one that was not seen for longest is forgotten, "
            "and begins anew.",
     .example = "100000"},
    {.name = "mode",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, mode),
     .def = "wait",
     .choices = mode_words,
     .doc = "An event that is too much: waits, and all behind it with it; is dropped; or fails, and goes "
            "where `on_error` says.",
     .example = "drop"},
};

static void throttle_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    struct weir_str text;
    if (!(cf->rate >= RATE_MIN && cf->rate <= RATE_MAX))
        report->error(report, "rate", -1,
                      "expected events a second from 0.000001 to 1000000000, found %g", cf->rate);
    if (cf->key != NULL && report->host->template_is_literal(cf->key, &text))
        report->error(report, "key", -1,
                      "this text is the same for every event; without `key` all events share one rate");
    if (cf->key == NULL && cf->keys != KEYS)
        report->error(report, "keys", -1, "a number of keys is of use only with `key`");
}

/* ---- Life ---- */

static void *shared_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct config *cf = config;
    struct buckets_config bc = {cf->rate, cf->burst, cf->key != NULL ? (uint32_t)cf->keys : 1};
    if (bc.burst == 0)
        bc.burst = cf->rate < 1 ? 1 : (int64_t)cf->rate;
    struct buckets *buckets = buckets_new(h, &bc);
    if (buckets == NULL)
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the rates of %u keys", bc.keys);
    return buckets;
}

static void shared_free(void *take_shared)
{
    buckets_free(take_shared);
}

static void throttle_close(void *take_self)
{
    struct throttle *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

static enum weir_status throttle_open(const struct weir_host *h, const void *config,
                                      void **ret_self, struct weir_error *err)
{
    struct throttle *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the throttle");
    self->h = h;
    self->config = config;
    self->waited_ns = INT64_MIN / 2; /* never */
    self->buckets = h->shared(h, shared_new, shared_free, err);
    if (self->buckets == NULL) {
        h->free(self);
        return WEIR_E_NOMEM;
    }
    self->waited = h->counter(h, "throttle_waited_events_total",
                              "Events that had to wait for the rate.", NULL);
    self->forgotten = h->counter(h, "throttle_forgotten_keys_total",
                                 "Keys that were forgotten, to make room, before their rate was paid.",
                                 NULL);
    self->keys = h->gauge(h, "throttle_keys", "Keys with a rate of their own.", NULL);
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Events ---- */

static void too_much(struct throttle *self, struct weir_batch *b, struct weir_event *ev,
                     struct weir_str key)
{
    const struct weir_host *h = self->h;
    if (self->config->mode == MODE_DROP) {
        h->event_drop(h, b, ev, "throttled");
        return;
    }
    struct weir_arena *a = h->scratch(h);
    double rate = self->config->rate;
    struct weir_str text =
        self->config->key == NULL
            ? h->arena_printf(a, "more than %g events a second", rate)
            : h->arena_printf(a, "more than %g events a second with the key \"%.*s\"", rate,
                              (int)utf8_cut(key.ptr, key.len, 100), key.ptr);
    event_fail_as(h, b, ev, "throttled", text);
}

/* What waited a moment ago, here or in the source, is owed the tokens that came meanwhile. */
static int64_t late_ns(const struct throttle *self, int64_t now_ns)
{
    return self->waits || now_ns - self->waited_ns <= LATE_NS ? LATE_NS : 0;
}

/* False: the event has to wait, until *ret_when_ns. */
static bool handle(struct throttle *self, struct weir_batch *b, struct weir_event *ev,
                   int64_t now_ns, int64_t *ret_when_ns)
{
    const struct weir_host *h = self->h;
    struct weir_str key = {NULL, 0};
    if (self->config->key != NULL && !event_key(h, self->config->key, b, ev, &key))
        return true;
    switch (buckets_take(self->buckets, key, now_ns, late_ns(self, now_ns), ret_when_ns)) {
    case BUCKET_TAKEN:
        if (self->waits)
            h->metric_add(self->waited, 1);
        return true;
    case BUCKET_NO_MEMORY:
        event_fail_as(h, b, ev, "no_memory", weir_cstr("no memory for the rate of this event's key"));
        return true;
    case BUCKET_EMPTY:
        break;
    }
    if (self->config->mode == MODE_WAIT)
        return false;
    too_much(self, b, ev, key);
    return true;
}

/* The events before `n` leave; it and those behind it come again. */
static void wait_at(struct throttle *self, struct weir_batch *b, uint32_t n)
{
    const struct weir_host *h = self->h;
    for (uint32_t i = 0; i < n; i++)
        if ((weir_event_at(b, i)->flags & WEIR_EVENT_PASSED) == 0)
            h->event_pass(h, b, weir_event_at(b, i));
    self->waits = true;
}

static void report(struct throttle *self)
{
    uint32_t n_keys;
    uint64_t n_forgotten;
    if (self->config->key == NULL)
        return;
    buckets_report(self->buckets, &n_keys, &n_forgotten);
    self->h->metric_add(self->forgotten, n_forgotten);
    self->h->metric_set(self->keys, n_keys);
}

static enum weir_status throttle_apply(void *self_arg, struct weir_batch *b, int64_t *ret_again_ns,
                                       struct weir_error *err)
{
    struct throttle *self = self_arg;
    int64_t now_ns = self->h->now(self->h), when_ns = 0;
    (void)err;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if ((ev->flags & (WEIR_EVENT_GONE | WEIR_EVENT_PASSED)) != 0 ||
            handle(self, b, ev, now_ns, &when_ns))
            continue;
        wait_at(self, b, i);
        report(self);
        *ret_again_ns = when_ns < now_ns + STEP_NS ? now_ns + STEP_NS : when_ns;
        return WEIR_AGAIN;
    }
    report(self);
    if (self->waits)
        self->waited_ns = now_ns;
    self->waits = false;
    return WEIR_OK;
}

static const struct weir_transform throttle_calls = {
    .size = sizeof(throttle_calls),
    .apply = throttle_apply,
};

static const struct weir_type type_throttle = {
    .size = sizeof(type_throttle),
    .kind = WEIR_TRANSFORM,
    .name = "throttle",
    .summary = "Lets so many events a second pass, of all or of each key.",
    .doc =
        "`rate` events a second pass, after a pause up to `burst` at once; in any time of T seconds "
        "no more than `burst` and `rate` times T (with `mode: wait` what comes in 10 ms besides, so "
        "that a thread that wakes late loses nothing of the rate). It holds for all lanes of this "
        "process together, and begins anew when it starts.\n\n"
        "- `mode: wait` loses nothing: the lane stops taking events until there is room, Kafka and "
        "files wait, HTTP clients are slowed down. A lane keeps the order, so with a `key` the events "
        "of other keys wait behind one that has to.\n"
        "- `mode: drop` drops what is too much, counted as discarded with the reason `throttled`.\n"
        "- `mode: error` fails it with the code `throttled`; `on_error` says what becomes of it, such "
        "as a dead letter.\n\n"
        "A field of `key` that is missing and has no default fails the event, and so does a key of "
        "more than 4096 bytes. When more than `keys` keys come in turn, those that are forgotten "
        "before their debts were paid are counted in `weir_throttle_forgotten_keys_total`: their "
        "events may exceed the rate.",
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &throttle_calls,
    .check = throttle_check,
    .open = throttle_open,
    .close = throttle_close,
};

static const struct weir_type *const types[] = {&type_throttle, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "throttle", "0.1.0", "Limits the rate of events.", "Apache-2.0",
               types,           NULL};
