/* SPDX-License-Identifier: Apache-2.0
 *
 * Components that behave badly, for tests of how weir ends:
 *   refuse  rejects every event        away  says for ever that its server is away
 *   hang    a write that never returns, whoever asks   closed  cannot be opened
 */
#include <unistd.h>
#include <weir/plugin.h>

static enum weir_status faulty_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    (void)h;
    (void)config;
    (void)err;
    *ret_self = NULL;
    return WEIR_OK;
}

static enum weir_status closed_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    (void)config;
    (void)ret_self;
    return h->error(err, WEIR_E_CONFIG, "closed", "it is closed today");
}

static void faulty_close(void *take_self)
{
    (void)take_self;
}

static void give(struct weir_batch *b, struct weir_results *results, enum weir_verdict verdict)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        weir_result_at(results, i)->verdict = verdict;
        weir_result_at(results, i)->code = "faulty";
        weir_result_at(results, i)->message = weir_cstr("as the test wants it");
    }
}

static void refuse_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                         struct weir_results *results)
{
    (void)self;
    (void)deadline_ns;
    give(b, results, WEIR_VERDICT_REJECTED);
}

static void away_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    (void)self;
    (void)deadline_ns;
    give(b, results, WEIR_VERDICT_UNAVAILABLE);
}

static void hang_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    (void)self;
    (void)deadline_ns;
    for (;;)
        sleep(1);
    give(b, results, WEIR_VERDICT_OK);
}

#define SINK(write_fn)                                                                             \
    {                                                                                              \
        .size = sizeof(struct weir_sink), .batch_events = 100, .batch_bytes = 1 << 20,             \
        .in_flight = 1, .write = (write_fn)                                                        \
    }
#define TYPE(type_name, calls, open_fn)                                                            \
    {                                                                                              \
        .size = sizeof(struct weir_type), .kind = WEIR_SINK, .name = (type_name),                  \
        .summary = "For tests.", .sink = (calls), .open = (open_fn), .close = faulty_close         \
    }

static const struct weir_sink refuse = SINK(refuse_write);
static const struct weir_sink away = SINK(away_write);
static const struct weir_sink hang = SINK(hang_write);
static const struct weir_type type_refuse = TYPE("refuse", &refuse, faulty_open);
static const struct weir_type type_away = TYPE("away", &away, faulty_open);
static const struct weir_type type_hang = TYPE("hang", &hang, faulty_open);
static const struct weir_type type_closed = TYPE("closed", &refuse, closed_open);
static const struct weir_type *const types[] = {&type_refuse, &type_away, &type_hang, &type_closed,
                                                NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "faulty", "1.0", "Sinks that fail.", "Apache-2.0", types, NULL};
