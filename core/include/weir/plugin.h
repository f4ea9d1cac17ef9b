/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/plugin.h: the only header that a plugin includes: component types and the plugin itself.
 *
 * A plugin is a shared object with one exported symbol, the const object `weir_plugin`. Nothing is
 * derived from a file's name. Policy never lives in a plugin: batching, retry, backoff, dead
 * letters, counting and the log of failures belong to the host.
 */
#ifndef WEIR_PLUGIN_H
#define WEIR_PLUGIN_H

#include <weir/base.h>
#include <weir/event.h>
#include <weir/host.h>
#include <weir/option.h>

enum weir_kind { WEIR_SOURCE = 1, WEIR_TRANSFORM = 2, WEIR_SINK = 3 };

/* What a type reads of an event. The lane parses, serializes and makes ids once, before the batch
 * is frozen; templates that name fields, and `@id`, add to it by themselves. */
#define WEIR_NEEDS_PAYLOAD 1u
#define WEIR_NEEDS_VALUE 2u
#define WEIR_NEEDS_ID 4u

/* Traits of one configured component.
 * SHARED      one sink instance for all shards; its callbacks are then [any]
 * ORDERED     applies writes in the order given, so that several may be in flight a shard
 * OVERWRITES  repeating a write that had succeeded changes nothing but the moment (SET, replace):
 *             after a failure the later events of its key are repeated behind it
 * BESIDE      a source that a reload opens while the one in whose place it comes still runs, to take over
 *             what must not be given up between the two (see weir.before/1). Where that cannot be,
 *             open fails with WEIR_E_RETRY, and comes again once the old one has ended
 *
 * Also without BESIDE, open fails with WEIR_E_RETRY where what it needs to itself may be that of a component in
 * whose place it comes: it is asked again once that is closed, with what its instances shared. */
#define WEIR_TRAIT_SHARED 1u
#define WEIR_TRAIT_ORDERED 2u
#define WEIR_TRAIT_OVERWRITES 4u
#define WEIR_TRAIT_BESIDE 8u

/* The calls of a source.
 *
 * poll    Adds up to `room` events, waiting for the first until the deadline (monotonic ns; one in
 *         the past: do not wait). Room 0: add nothing, but go on serving connections, heartbeats
 *         and the deadline. AGAIN if nothing came; END after the last event ever; an error ends the
 *         pipeline. A poll returns early after wake(). Stop adding when the batch has about
 *         1 MiB. [lane]
 * wake    Makes the running or the next poll return at once; sticky. NULL: the type waits with
 *         host->wait only. [any]
 * commit  Position style: everything of this stream before `next` has ended (next: that of the last
 *         event in the contiguous part). Later calls replace earlier ones. Keep it, or store it by
 *         interval. `final`: the stream is about to be closed or the process to end: store now.
 *         NULL for request style. [lane]
 * answer  Request style: every item has ended; end i is item i's. The request is dead. Called also
 *         when the process ends (outcome FAILED), always before close. NULL for position
 *         style. [lane]
 * stop    No new input: stop listening, fetching, accepting. poll, commit and answer go on until all
 *         that is under way has ended; poll answers END as soon as it will add no event any more
 *         (it is still called then, with room 0 and without waiting). [lane] */
struct weir_source {
    uint32_t size;
    enum weir_status (*poll)(void *self, struct weir_batch *b, uint32_t room, int64_t deadline_ns,
                             struct weir_error *err);
    void (*wake)(void *self);
    void (*commit)(void *self, struct weir_stream *s, void *user, int64_t next, bool final);
    void (*answer)(void *self, void *user, const struct weir_ends *ends);
    void (*stop)(void *self);
};

/* The calls of a transform.
 *
 * apply    Changes, drops, fails, sends, derives, joins or holds the events of the batch. AGAIN: not
 *          finished; the lane parks the batch and calls again with the same one at
 *          *ret_again_ns (monotonic; default never) or after host->wake. An error fails every event
 *          that is left. Events that came GONE into a repeated call stay so. [lane]
 * tick     Every `tick_ns` of the type's config (see weir_type.interval), after host->wake, and with
 *          `final` before stop and reload: then give out whatever is held. What has to wait for the
 *          end of other events may stay: its open ack keeps the lane, and later ticks are final as
 *          well. Never while apply of this type or of one behind it has answered AGAIN. `b` is empty
 *          at the start. May be NULL. [lane]
 * settled  The watched events with these cookies have ended so; also while the lane is parked. May
 *          be NULL. [lane] */
struct weir_transform {
    uint32_t size;
    enum weir_status (*apply)(void *self, struct weir_batch *b, int64_t *ret_again_ns,
                              struct weir_error *err);
    enum weir_status (*tick)(void *self, struct weir_batch *b, bool final, struct weir_error *err);
    void (*settled)(void *self, const uint64_t *cookies, const enum weir_outcome *outcomes,
                    uint32_t n);
};

/* The calls of a sink.
 *
 * write     Writes the frozen batch and gives every event its verdict in `results`, or PENDING. Stop
 *           waiting at the deadline (monotonic ns): what is not known then is UNAVAILABLE. The
 *           results' messages must live until the next call into this sink (scratch does). The batch of a write with PENDING
 *           events stays valid until its last complete(). [outlet]
 * progress  Drives callbacks and I/O of pending writes for at most until the deadline; returns
 *           early after wake() and after completions. NULL where nothing is ever pending or the
 *           library has its own threads. [outlet]
 * wake      Makes progress return; sticky. NULL only where progress is. complete() may call it: hold no
 *           lock that it needs meanwhile. [any]
 * flush     Ends all pending writes until the deadline, for the shutdown. May be NULL. [outlet]
 * cancel    The deadline of the shutdown has come: end a blocking call soon, give up what is
 *           pending (complete it UNAVAILABLE). May come more than once. May be NULL. [any] */
struct weir_sink {
    uint32_t size;
    uint32_t batch_events;    /* defaults of the options batch and in_flight */
    int64_t batch_bytes;
    int64_t batch_timeout_ns; /* 0: write what is there */
    uint32_t in_flight;       /* writes under way a shard, where ORDERED; else 1 */
    void (*write)(void *self, struct weir_batch *b, int64_t deadline_ns,
                  struct weir_results *results);
    void (*progress)(void *self, int64_t deadline_ns);
    void (*wake)(void *self);
    void (*flush)(void *self, int64_t deadline_ns);
    void (*cancel)(void *self);
};

/* One component type. The calls up to probe are made before anything runs: their host has the functions
 * that weir_report's has.
 *
 * check     More checks of a valid config struct, offline. May be NULL. [control]
 * ports     Adds the names of the output ports by add(arg, name) in their order, and "" as the last
 *           one where events also leave by the unnamed way; NULL: that one only. [control]
 * needs     What this configured component reads (WEIR_NEEDS_*). NULL: `needs_always`. [control]
 * traits    Its WEIR_TRAIT_*. NULL: none. [control]
 * lanes     How many lanes a source advises; the host caps it. NULL: 1. [control]
 * interval  How often tick is called, ns; 0 = never. NULL: never. [control]
 * probe     Reaches the server until the deadline, for `check --connect`. May be NULL. [control]
 * open      Makes instance `index` of `count` (sources and transforms: one a lane; sinks: one a
 *           shard). Connects lazily: a server that is away is no reason to fail. [control]; of a sink
 *           that answered REOPEN also [outlet], while the rest of the pipeline runs
 * close     Frees it. NULL is allowed as self. As open. */
struct weir_type {
    uint32_t size;
    enum weir_kind kind;
    const char *name;
    const char *summary; /* one line */
    const char *doc;     /* Markdown, some paragraphs; may be NULL */
    uint32_t needs_always;
    struct weir_options options;
    const struct weir_source *source;       /* the one of its kind is set */
    const struct weir_transform *transform;
    const struct weir_sink *sink;
    void (*check)(const void *config, const struct weir_report *report);
    void (*ports)(const struct weir_host *h, const void *config,
                  void (*add)(void *arg, struct weir_str name), void *arg);
    uint32_t (*needs)(const struct weir_host *h, const void *config);
    uint32_t (*traits)(const struct weir_host *h, const void *config);
    uint32_t (*lanes)(const struct weir_host *h, const void *config);
    int64_t (*interval)(const struct weir_host *h, const void *config);
    enum weir_status (*probe)(const struct weir_host *h, const void *config, int64_t deadline_ns,
                              struct weir_error *err);
    enum weir_status (*open)(const struct weir_host *h, const void *config, void **ret_self,
                             struct weir_error *err);
    void (*close)(void *take_self);
};

/* A service that a plugin offers to the host or to other plugins. */
struct weir_service {
    const char *name; /* "weir.condition/1" */
    const void *table;
};

/* The service "weir.condition/1": what option type CONDITION is compiled by.
 *
 * check  Compiles one text. err->offset is the position inside it. [control]
 * open   Compiled texts for one instance on one lane. [control]
 * eval   As host->condition_eval, for text number `which`. [lane] */
#define WEIR_CONDITION_SERVICE "weir.condition/1"
struct weir_condition_service {
    uint32_t size;
    enum weir_status (*check)(struct weir_str text, struct weir_error *err);
    enum weir_status (*open)(const struct weir_host *h, const struct weir_str *texts, uint32_t n,
                             void **ret_state, struct weir_error *err);
    void (*eval)(void *state, uint32_t which, struct weir_batch *b, uint8_t *ret_true);
    void (*close)(void *take_state);
};

/* What a .so offers. The first three members never move. */
struct weir_plugin {
    uint16_t abi_major;
    uint16_t abi_minor;
    uint32_t size;
    const char *name;
    const char *version;
    const char *summary;
    const char *license; /* SPDX */
    const struct weir_type *const *types; /* NULL at the end */
    const struct weir_service *services;  /* a NULL name at the end; may be NULL */
};

#ifdef __cplusplus
extern "C" WEIR_EXPORT const struct weir_plugin weir_plugin;
#define WEIR_PLUGIN const struct weir_plugin weir_plugin
#else
extern WEIR_EXPORT const struct weir_plugin weir_plugin;
#define WEIR_PLUGIN const struct weir_plugin weir_plugin
#endif

/* The first three members of weir_plugin. */
#define WEIR_PLUGIN_ABI WEIR_ABI_MAJOR, WEIR_ABI_MINOR, (uint32_t)sizeof(struct weir_plugin)

/* The `options` member of a type: its table and the struct that it fills. */
#define WEIR_OPTIONS(table, config_type)                                        \
    {                                                                           \
        (table), (uint32_t)(sizeof(table) / sizeof((table)[0])),                \
            (uint32_t)sizeof(struct weir_option), sizeof(config_type)           \
    }
/* The `fields` and `n_fields` of a nested table. */
#define WEIR_FIELDS(table) .fields = (table), .n_fields = sizeof(table) / sizeof((table)[0])

#endif
