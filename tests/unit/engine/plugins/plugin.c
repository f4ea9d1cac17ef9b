/* SPDX-License-Identifier: Apache-2.0
 *
 * A small plugin for the loader's tests, bent by macros: MAJOR, MINOR and SIZE of what it says
 * about itself, NAME of its one sink, SERVICE to offer, CALL for an undefined symbol to need.
 */
#include <weir/plugin.h>

#ifndef MAJOR
#define MAJOR WEIR_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR WEIR_ABI_MINOR
#endif
#ifndef SIZE
#define SIZE sizeof(struct weir_plugin)
#endif
#ifndef NAME
#define NAME "tiny"
#endif

#ifdef CALL
void CALL(void);
#endif

static enum weir_status tiny_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    (void)h;
    (void)config;
    (void)err;
    *ret_self = NULL;
#ifdef CALL
    CALL();
#endif
    return WEIR_OK;
}

static void tiny_close(void *take_self)
{
    (void)take_self;
}

static void tiny_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    (void)self;
    (void)deadline_ns;
    for (uint32_t i = 0; i < b->n_events; i++)
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
}

static const struct weir_sink sink = {
    .size = sizeof(sink), .batch_events = 1, .batch_bytes = 1, .in_flight = 1, .write = tiny_write};

static const struct weir_type type_tiny = {.size = sizeof(type_tiny),
                                           .kind = WEIR_SINK,
                                           .name = NAME,
                                           .summary = "A sink that takes all.",
                                           .sink = &sink,
                                           .open = tiny_open,
                                           .close = tiny_close};

static const struct weir_type *const types[] = {&type_tiny, NULL};

#ifdef SERVICE
static const int table = 42;
static const struct weir_service services[] = {{SERVICE, &table}, {NULL, NULL}};
#define SERVICES services
#else
#define SERVICES NULL
#endif

WEIR_PLUGIN = {MAJOR,          MINOR,        (uint32_t)SIZE, "tiny",  "1.2.3",
               "A tiny sink.", "Apache-2.0", types,          SERVICES};
