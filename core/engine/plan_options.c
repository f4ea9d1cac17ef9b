/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_options.c: the options that the core itself has, in the same tables as a plugin's.
 */
#include <base/check.h>
#include <engine/plan_private.h>

#define TABLE(array, type)                                                                         \
    (struct weir_options)                                                                          \
    {                                                                                              \
        (array), (uint32_t)WR_COUNT(array), (uint32_t)sizeof((array)[0]), sizeof(type)             \
    }
#define AT(member) offsetof(struct wr_common, member)

static const char *const codecs[] = {"json", "raw", NULL};
static const char *const failures[] = {"dead_letter", "drop", "stop", NULL};
static const char *const unavailables[] = {"wait", "dead_letter", NULL};
static const char *const buffers[] = {"memory", "disk", NULL};
static const char *const when_full[] = {"block", "drop_newest", "drop_oldest", NULL};

#define TYPE_OPTION                                                                                \
    {                                                                                              \
        .name = "type", .type = WEIR_OPT_STRING, .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,   \
        .offset = AT(type), .doc = "The component type; `weir plugins` lists them.",               \
        .example = "kafka"                                                                         \
    }
#define DESCRIPTION_OPTION                                                                         \
    {                                                                                              \
        .name = "description", .type = WEIR_OPT_STRING, .offset = AT(description),                 \
        .doc = "What this component is for, for people.", .example = "keeps sessions warm"         \
    }
#define INPUTS_OPTION                                                                              \
    {                                                                                              \
        .name = "inputs", .type = WEIR_OPT_LIST, .of = WEIR_OPT_STRING,                            \
        .flags = WEIR_OPT_NONEMPTY, .offset = AT(inputs),                                          \
        .doc =                                                                                     \
            "Ids of the components to read from, a port as `id.port`; may be left out where the "  \
            "file is one line from one source to one sink, and by transforms that begin one.",     \
        .example = "[events, kinds.login]"                                                         \
    }
#define DEAD_LETTER_OPTION                                                                         \
    {                                                                                              \
        .name = "dead_letter", .type = WEIR_OPT_STRING, .flags = WEIR_OPT_NONEMPTY,                \
        .offset = AT(dead_letter),                                                                 \
        .doc =                                                                                     \
            "Id of the sink that takes what this component could not; default is the one named "   \
            "at the top of the file.",                                                             \
        .example = "failed"                                                                        \
    }

static const struct weir_option source_options[] = {
    TYPE_OPTION,
    {.name = "inputs", .type = WR_OPT_OPAQUE}, /* a mistake of its own, not an unknown option */
    DESCRIPTION_OPTION,
    {.name = "lanes",
     .type = WEIR_OPT_INT,
     .offset = AT(opt.source.lanes),
     .min = 1,
     .max = 256,
     .doc = "Threads that read from it and run the transforms behind it; default is what the type "
            "advises, never more than there are cores.",
     .example = "2"},
    {.name = "codec",
     .type = WEIR_OPT_ENUM,
     .offset = AT(opt.source.codec),
     .def = "json",
     .choices = codecs,
     .doc = "`json`: payloads are JSON, checked at first touch. `raw`: payloads are opaque bytes.",
     .example = "raw"},
};

static const struct weir_option transform_options[] = {
    TYPE_OPTION,
    INPUTS_OPTION,
    DESCRIPTION_OPTION,
    {.name = "on_error",
     .type = WEIR_OPT_ENUM,
     .offset = AT(opt.transform.on_error),
     .def = "dead_letter",
     .choices = failures,
     .doc = "What becomes of an event that it cannot handle, as the event entered it.",
     .example = "drop"},
    DEAD_LETTER_OPTION,
};

static const struct weir_option batch_options[] = {
    {.name = "events",
     .type = WEIR_OPT_INT,
     .offset =
         offsetof(struct wr_sink_options, batch.events) - offsetof(struct wr_sink_options, batch),
     .min = 1,
     .max = 1000000,
     .doc = "Write when so many events are there; default is the type's.",
     .example = "1000"},
    {.name = "bytes",
     .type = WEIR_OPT_SIZE,
     .offset =
         offsetof(struct wr_sink_options, batch.bytes) - offsetof(struct wr_sink_options, batch),
     .min = 1,
     .max = INT64_C(1) << 30,
     .doc = "Write when the events have so many bytes; default is the type's.",
     .example = "4MiB"},
    {.name = "timeout",
     .type = WEIR_OPT_DURATION,
     .offset =
         offsetof(struct wr_sink_options, batch.timeout) - offsetof(struct wr_sink_options, batch),
     .min = 0,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "Write what is there when the first event has waited so long; default is the type's.",
     .example = "50ms"},
};

#define OF_BUFFER(member)                                                                          \
    offsetof(struct wr_sink_options, buffer.member) - offsetof(struct wr_sink_options, buffer)
static const struct weir_option buffer_options[] = {
    {.name = "type",
     .type = WEIR_OPT_ENUM,
     .offset = OF_BUFFER(type),
     .def = "memory",
     .choices = buffers,
     .doc = "`memory`: a source hears of an event when the sink has it. `disk`: already when it is safe in "
            "a folder, from which the sink gets it, also after a restart.",
     .example = "disk"},
    {.name = "size",
     .type = WEIR_OPT_SIZE,
     .offset = OF_BUFFER(size),
     .min = 1,
     .max = INT64_C(1) << 40,
     .doc = "Bytes that it holds before it is full: of events in memory (default 32MiB), of files on disk "
            "(default 1GiB, at least 1MiB).",
     .example = "64MiB"},
    {.name = "path",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = OF_BUFFER(path),
     .doc = "Disk only, required: its folder, which is made if it is missing and which nothing else uses.",
     .example = "buffers/store"},
    {.name = "when_full",
     .type = WEIR_OPT_ENUM,
     .offset = OF_BUFFER(when_full),
     .def = "block",
     .choices = when_full,
     .doc = "Disk only: `block`: the lanes wait. `drop_newest`: what comes is dropped and counted. "
            "`drop_oldest`: the oldest segment of the folder is, about a sixteenth of the size.",
     .example = "drop_newest"},
    {.name = "sync",
     .type = WEIR_OPT_DURATION,
     .offset = OF_BUFFER(sync),
     .def = "10ms",
     .min = 0,
     .max = 10 * WEIR_NS_PER_S,
     .doc = "Disk only: the shortest time between two fdatasync. Sources wait for the next one.",
     .example = "50ms"},
    {.name = "keep_source",
     .type = WEIR_OPT_BOOL,
     .offset = OF_BUFFER(keep_source),
     .def = "true",
     .doc = "Disk only: keep the payload as its source gave it beside one that was changed, for a dead "
            "letter.",
     .example = "false"},
    {.name = "drain_on_stop",
     .type = WEIR_OPT_BOOL,
     .offset = OF_BUFFER(drain_on_stop),
     .def = "false",
     .doc = "Disk only: a stop empties it, until the shutdown timeout; else its events wait there for the "
            "next start.",
     .example = "true"},
};

static const struct weir_option retry_options[] = {
    {.name = "attempts",
     .type = WEIR_OPT_INT,
     .offset =
         offsetof(struct wr_sink_options, retry.attempts) - offsetof(struct wr_sink_options, retry),
     .def = "10",
     .min = 0,
     .max = 1000000,
     .doc = "How often an event is written that the sink calls retryable, before it counts as "
            "rejected; 0 = for ever. A server that is away is always waited for.",
     .example = "5"},
    {.name = "initial",
     .type = WEIR_OPT_DURATION,
     .offset =
         offsetof(struct wr_sink_options, retry.initial) - offsetof(struct wr_sink_options, retry),
     .def = "100ms",
     .min = WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "The longest first pause; it doubles with each attempt, with full jitter.",
     .example = "200ms"},
    {.name = "max",
     .type = WEIR_OPT_DURATION,
     .offset =
         offsetof(struct wr_sink_options, retry.max) - offsetof(struct wr_sink_options, retry),
     .def = "30s",
     .min = WEIR_NS_PER_MS,
     .max = 24 * 3600 * WEIR_NS_PER_S,
     .doc = "The longest pause.",
     .example = "1m"},
};

static const struct weir_option sink_options[] = {
    TYPE_OPTION,
    INPUTS_OPTION,
    DESCRIPTION_OPTION,
    {.name = "batch",
     .type = WEIR_OPT_TABLE,
     .offset = AT(opt.sink.batch),
     WEIR_FIELDS(batch_options),
     .doc = "When gathered events are written.",
     .example = "{events: 1000, bytes: 4MiB, timeout: 50ms}"},
    {.name = "buffer",
     .type = WEIR_OPT_TABLE,
     .offset = AT(opt.sink.buffer),
     WEIR_FIELDS(buffer_options),
     .doc = "What stands between the lanes and this sink.",
     .example = "{type: disk, path: buffers/store, size: 10GiB}"},
    {.name = "concurrency",
     .type = WEIR_OPT_INT,
     .offset = AT(opt.sink.concurrency),
     .def = "1",
     .min = 1,
     .max = 256,
     .doc = "Shards that write at the same time; events of one key stay in order.",
     .example = "4"},
    {.name = "shard_by",
     .type = WEIR_OPT_TEMPLATE,
     .offset = AT(opt.sink.shard_by),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "What decides the shard; default is the event's key, else its stream (partition, file) "
            "or its request.",
     .example = "\"{{ user_id }}\""},
    {.name = "in_flight",
     .type = WEIR_OPT_INT,
     .offset = AT(opt.sink.in_flight),
     .min = 1,
     .max = 10000,
     .doc = "Writes under way a shard, for types that apply them in order; default is the type's.",
     .example = "4"},
    {.name = "retry",
     .type = WEIR_OPT_TABLE,
     .offset = AT(opt.sink.retry),
     WEIR_FIELDS(retry_options),
     .doc = "How failed writes are repeated.",
     .example = "{attempts: 5, initial: 200ms, max: 1m}"},
    {.name = "timeout",
     .type = WEIR_OPT_DURATION,
     .offset = AT(opt.sink.timeout),
     .def = "30s",
     .min = WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "How long one write may take.",
     .example = "5s"},
    {.name = "on_reject",
     .type = WEIR_OPT_ENUM,
     .offset = AT(opt.sink.on_reject),
     .def = "dead_letter",
     .choices = failures,
     .doc = "What becomes of an event that the sink can never take.",
     .example = "stop"},
    {.name = "on_unavailable",
     .type = WEIR_OPT_ENUM,
     .offset = AT(opt.sink.on_unavailable),
     .def = "wait",
     .choices = unavailables,
     .doc = "What becomes of events while the server is away.",
     .example = "dead_letter"},
    DEAD_LETTER_OPTION,
};

static const struct weir_option drop_option[] = {
    {.name = "drop",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = AT(drop),
     .doc = "Output ports that nobody reads on purpose: their events end there, as filtered.",
     .example = "[other]"},
};

static const struct weir_option top_options[] = {
    {.name = "name",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct wr_top, name),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Name of the pipeline in logs and metrics; default is the file's name.",
     .example = "consumer"},
    {.name = "description",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct wr_top, description),
     .doc = "What the pipeline is for, for people.",
     .example = "stores user events"},
    {.name = "sources", .type = WR_OPT_OPAQUE, .doc = "The sources by id."},
    {.name = "transforms", .type = WR_OPT_OPAQUE, .doc = "The transforms by id."},
    {.name = "sinks", .type = WR_OPT_OPAQUE, .doc = "The sinks by id."},
    {.name = "dead_letter",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct wr_top, dead_letter),
     .doc = "Id of the sink that takes what the others could not; it needs no inputs.",
     .example = "failed"},
    {.name = "shutdown_timeout",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct wr_top, shutdown_timeout),
     .def = "30s",
     .min = 0,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "How long a stop may take before what is left is given up.",
     .example = "1m"},
    {.name = "drain_delay",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct wr_top, drain_delay),
     .def = "0s",
     .min = 0,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "How long sources go on after readiness went off, so that load balancers notice.",
     .example = "5s"},
};

struct weir_options wr_common_options(enum weir_kind kind)
{
    if (kind == WEIR_SOURCE)
        return TABLE(source_options, struct wr_common);
    if (kind == WEIR_TRANSFORM)
        return TABLE(transform_options, struct wr_common);
    return TABLE(sink_options, struct wr_common);
}

struct weir_options wr_drop_option(void)
{
    return TABLE(drop_option, struct wr_common);
}

struct weir_options wr_top_options(void)
{
    return TABLE(top_options, struct wr_top);
}

void wr_common_init(struct wr_common *c, enum weir_kind kind)
{
    *c = (struct wr_common){0};
    if (kind != WEIR_SINK)
        return;
    c->opt.sink.batch.events = c->opt.sink.batch.bytes = c->opt.sink.batch.timeout = -1;
    c->opt.sink.in_flight = -1;
    c->opt.sink.buffer.size = -1;
}

struct wr_sink_options wr_sink_defaults(const struct weir_sink *sink)
{
    struct wr_sink_options o = {0};

    o.batch.events = sink->batch_events > 0 ? sink->batch_events : 1000;
    o.batch.bytes = sink->batch_bytes > 0 ? sink->batch_bytes : INT64_C(4) << 20;
    o.batch.timeout = sink->batch_timeout_ns > 0 ? sink->batch_timeout_ns : 0;
    o.in_flight = sink->in_flight > 0 ? sink->in_flight : 1;
    return o;
}
