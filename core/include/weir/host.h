/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/host.h: what the host does for a component instance.
 *
 * `open` gets one `struct weir_host` for each instance; it is valid until `close` returns. A plugin
 * links to nothing of weir: these pointers are the whole service. The table grows at its end;
 * `size` tells how much of it this host has. Unless a function says otherwise it is called on the
 * thread whose callback is running, with the batch of that callback.
 */
#ifndef WEIR_HOST_H
#define WEIR_HOST_H

#include <weir/event.h>
#include <weir/option.h>

struct weir_host;
struct weir_metric;
struct weir_held;

/* Runs when the last event that may point into attached memory is gone. [any] */
typedef void (*weir_dispose_fn)(void *arg);

/* How template_render_with escapes what the event puts in.
 * URL   percent-encoding of every byte but letters, digits and - . _ ~ */
enum weir_escape { WEIR_ESCAPE_NONE = 0, WEIR_ESCAPE_URL = 1 };

struct weir_host {
    uint32_t size;
    uint32_t abi_minor;
    void *priv;
    struct weir_str pipeline;  /* name of the pipeline */
    struct weir_str component; /* id of the component */
    uint32_t index;            /* of this instance, below count */
    uint32_t count;

    /* ---- Time, chance, logs, metrics: [any] ---------------------------------------------- */

    /* Monotonic ns: the scale of every deadline in this ABI. */
    int64_t (*now)(const struct weir_host *h);
    /* Wall clock, ns since the epoch. */
    int64_t (*wall)(const struct weir_host *h);
    /* 64 random bits from the host's generator, not for secrets. */
    uint64_t (*random)(const struct weir_host *h);
    /* One line: a constant message and key=value. Repeats of the same message are rate-limited and
     * counted. pipeline, component, kind and type are added. Never log what a SECRET option holds. */
    void (*log)(const struct weir_host *h, enum weir_log_level level, const char *message,
                const struct weir_kv *kv, uint32_t n_kv);
    bool (*log_enabled)(const struct weir_host *h, enum weir_log_level level);
    /* A metric of this component, made once in open. `name` without the prefix "weir_"; labels in
     * pairs name, value, NULL at the end, besides those of the component. The same name and labels
     * give the same metric. NULL where the limit of series is reached: the calls below take NULL. */
    struct weir_metric *(*counter)(const struct weir_host *h, const char *name, const char *help,
                                   const char *const *labels);
    struct weir_metric *(*gauge)(const struct weir_host *h, const char *name, const char *help,
                                 const char *const *labels);
    /* Seconds, buckets from 100 us to 100 s. */
    struct weir_metric *(*histogram)(const struct weir_host *h, const char *name, const char *help,
                                     const char *const *labels);
    void (*metric_add)(struct weir_metric *m, uint64_t n);
    /* Of a gauge. NaN: it has no value now, and is left out until it is set again. */
    void (*metric_set)(struct weir_metric *m, double v);
    void (*metric_observe)(struct weir_metric *m, double seconds);

    /* ---- Errors and memory ---------------------------------------------------------------- */

    /* Fills err (NULL allowed) and returns status, so that `return h->error(err, ...)` reads well.
     * [any] */
    enum weir_status (*error)(struct weir_error *err, enum weir_status status, const char *code,
                              const char *fmt, ...) WEIR_PRINTF(4, 5);
    /* Heap memory, counted in the process's budget. NULL when it is used up. What alloc gives is zeroed,
     * what realloc adds is not; realloc of NULL gives a new block. [any] */
    void *(*alloc)(size_t size);
    void *(*realloc)(void *take_p, size_t size);
    void (*free)(void *take_p);
    /* Arena memory, 16-byte aligned, not zeroed. NULL when the budget is used up. */
    void *(*arena_alloc)(struct weir_arena *a, size_t size);
    struct weir_str (*arena_copy)(struct weir_arena *a, struct weir_str s);
    struct weir_str (*arena_printf)(struct weir_arena *a, const char *fmt, ...) WEIR_PRINTF(2, 3);
    /* This instance's scratch arena: emptied before each poll, apply, tick, write and progress. Not for
     * a SHARED sink, whose calls come on several threads: it makes arenas of its own. */
    struct weir_arena *(*scratch)(const struct weir_host *h);
    /* A growing arena of one's own; free it before close returns. [any] */
    struct weir_arena *(*arena_new)(const struct weir_host *h);
    void (*arena_clear)(struct weir_arena *a);
    void (*arena_free)(struct weir_arena *take_a);

    /* ---- Values: reading. NULL as a value is allowed everywhere and reads as nothing. [any] -- */

    /* Parses text (RFC 8259 JSON, checked UTF-8, depth up to 128) into `a`. NULL on error; err has
     * the byte offset. The text is not kept. */
    const struct weir_value *(*value_parse)(struct weir_arena *a, struct weir_str text,
                                            struct weir_error *err);
    /* JSON text of v in `a`, minified, a NUL behind. {NULL, 0} when memory is used up. */
    struct weir_str (*value_write)(struct weir_arena *a, const struct weir_value *v);
    enum weir_value_type (*value_type)(const struct weir_value *v);
    bool (*value_bool)(const struct weir_value *v);
    int64_t (*value_int)(const struct weir_value *v);   /* of INT */
    uint64_t (*value_uint)(const struct weir_value *v); /* of UINT, and INT >= 0 */
    double (*value_real)(const struct weir_value *v);   /* of every number; nearest double */
    struct weir_str (*value_str)(const struct weir_value *v); /* of STRING (UTF-8, may hold NUL) and
                                                                 BIGNUM (its text) */
    uint32_t (*value_count)(const struct weir_value *v); /* of ARRAY and OBJECT, else 0 */
    /* NULL where v is no object or has no such key. */
    const struct weir_value *(*value_get)(const struct weir_value *v, struct weir_str key);
    const struct weir_value *(*value_at)(const struct weir_value *v, uint32_t i); /* O(i) */
    struct weir_value_iter (*value_iter)(const struct weir_value *v);
    /* Next element, NULL at the end; of an object also its key. */
    const struct weir_value *(*value_next)(struct weir_value_iter *it, struct weir_str *ret_key);
    /* As values are read: numbers by what they stand for, exactly (those beyond a double by their text),
     * objects without regard to order, of duplicate keys the first. Nothing below 128 levels is equal. */
    bool (*value_equal)(const struct weir_value *a, const struct weir_value *b);

    /* ---- Values: making and changing, in an arena. Strings are copied. Made values may be put
     *      only into values of the same arena, each into one place. NULL when memory is used up;
     *      NULL in, NULL (or false) out, so that a chain is checked once at its end. ------------ */

    struct weir_value *(*make_null)(struct weir_arena *a);
    struct weir_value *(*make_bool)(struct weir_arena *a, bool v);
    struct weir_value *(*make_int)(struct weir_arena *a, int64_t v);
    struct weir_value *(*make_uint)(struct weir_arena *a, uint64_t v);
    struct weir_value *(*make_real)(struct weir_arena *a, double v); /* NULL for NaN, infinity */
    struct weir_value *(*make_str)(struct weir_arena *a, struct weir_str s); /* NULL if not UTF-8 */
    struct weir_value *(*make_array)(struct weir_arena *a);
    struct weir_value *(*make_object)(struct weir_arena *a);
    /* A deep copy that can be changed. NULL also where v is nested deeper than 128 levels; an event
     * that a component leaves so fails at its border (code "too_deep"). */
    struct weir_value *(*make_copy)(struct weir_arena *a, const struct weir_value *v);
    /* Sets or replaces; keeps the place of a key that was there, removes its duplicates. */
    bool (*object_set)(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                       struct weir_value *take_v);
    /* True where the key was there. */
    bool (*object_remove)(struct weir_value *obj, struct weir_str key);
    /* Gives the key a new name in its place; what had that name before goes. */
    bool (*object_rename)(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                          struct weir_str to);
    bool (*array_append)(struct weir_arena *a, struct weir_value *arr, struct weir_value *take_v);
    bool (*array_set)(struct weir_arena *a, struct weir_value *arr, uint32_t i,
                      struct weir_value *take_v);
    bool (*array_remove)(struct weir_value *arr, uint32_t i);

    /* ---- Events ---------------------------------------------------------------------------- */

    /* The parsed payload, or NULL where it cannot be had: the event has then been failed with the
     * position of the error (in a transform; code "bad_json", "not_json") and is GONE. On a frozen
     * batch it parses nothing: the sink must have declared WEIR_NEEDS_VALUE. */
    const struct weir_value *(*event_value)(const struct weir_host *h, struct weir_batch *b,
                                            struct weir_event *ev);
    /* The value to change, copied on the first call in this component (values are sealed at each
     * component's border). NULL as event_value. [lane] */
    struct weir_value *(*event_edit)(const struct weir_host *h, struct weir_batch *b,
                                     struct weir_event *ev);
    /* Replaces the value by v (made in b->arena), or the payload by bytes that live as long as the
     * batch. [lane] */
    void (*event_set_value)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                            const struct weir_value *v);
    void (*event_set_payload)(const struct weir_host *h, struct weir_batch *b,
                              struct weir_event *ev, struct weir_str payload);
    /* The payload as it is now, serialized if the value was changed (what of an object's members was
     * not changed keeps its bytes). On a frozen batch it serializes nothing: the sink must have declared WEIR_NEEDS_PAYLOAD. */
    struct weir_str (*event_payload)(const struct weir_host *h, struct weir_batch *b,
                                     struct weir_event *ev);
    /* The event's id, made on the first call where it has none yet: topic-partition-offset, else a
     * UUIDv7. On a frozen batch the sink must have declared WEIR_NEEDS_ID. */
    struct weir_str (*event_id)(const struct weir_host *h, struct weir_batch *b,
                                struct weir_event *ev);
    /* NULL where there is no such header; names compare case-sensitively. [any] */
    const struct weir_header *(*event_header)(const struct weir_event *ev, struct weir_str name);
    /* Sets, replaces, or (value.ptr NULL) removes; strings are copied. [lane] */
    bool (*event_set_header)(const struct weir_host *h, struct weir_batch *b,
                             struct weir_event *ev, struct weir_str name, struct weir_str value);

    /* ---- Sources: filling a batch in poll. [lane] -------------------------------------------- */

    /* A new zeroed event at the end, NULL when memory is used up. */
    struct weir_event *(*event_add)(struct weir_batch *b);
    /* Takes back the events from n on, added in this poll. */
    void (*batch_truncate)(struct weir_batch *b, uint32_t n);
    /* Makes foreign memory live as long as the batch's events; dispose runs once, even on failure
     * (false). */
    bool (*batch_attach)(struct weir_batch *b, weir_dispose_fn dispose, void *take_arg,
                         size_t size_bytes);
    /* Position style. A stream's events end in any order; commit() hears of the contiguous part.
     * `user` comes back in commit. `origin` is copied. */
    struct weir_stream *(*stream_open)(const struct weir_host *h, const struct weir_origin *origin,
                                       void *user);
    /* Events of this stream that have not ended. 0: its last commit() has been called. */
    uint64_t (*stream_pending)(struct weir_stream *s);
    /* The stream has a new owner or is over: no commit() for it any more, what is still on its way
     * is abandoned before its next write. The pointer is dead. */
    void (*stream_close)(struct weir_stream *take_s);
    /* Request style. Events carry the request and their item number (position). */
    struct weir_request *(*request_begin)(const struct weir_host *h, void *user);
    /* The request has n items and no more. answer() follows once, after all of them ended: never
     * inside this call. */
    void (*request_seal)(struct weir_request *r, uint32_t n);
    /* Sleeps until the deadline or a wake-up of this lane, for sources that have nothing of their
     * own to wait on (type without wake()). */
    void (*wait)(const struct weir_host *h, int64_t deadline_ns);

    /* ---- Transforms: what happens to events. [lane] ------------------------------------------ */

    /* Ends the event as filtered (reason NULL: it was asked for) or as dropped (counted as a
     * discard with that reason; a static string). */
    void (*event_drop)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                       const char *reason);
    /* This event cannot be handled: as it entered it goes to the component's on_error. Of a source,
     * for an event that it has added in this poll: to the dead letter of the pipeline, and without
     * one the pipeline stops. */
    void (*event_fail)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                       const struct weir_result *result);
    /* Out by that port (index in the order of ports()) instead of the default way. */
    void (*event_send)(const struct weir_host *h, struct weir_event *ev, uint32_t port);
    /* A copy of events[parent] at the end of the batch with the id `parent/n`. It leaves right
     * behind its parent, whose ack waits for it. Returns its index, UINT32_MAX on no memory. */
    uint32_t (*event_derive)(const struct weir_host *h, struct weir_batch *b, uint32_t parent);
    /* A new event at the end of the batch whose end is the end of every parent, by index in this
     * batch and by held event. n + n_held may be 0: then nobody waits for it. The parents
     * themselves end when the transform drops them: without a reason, they count as joined. */
    uint32_t (*event_join)(const struct weir_host *h, struct weir_batch *b,
                           const uint32_t *parents, uint32_t n, struct weir_held *const *held,
                           uint32_t n_held);
    /* Takes the event out of the batch and keeps a copy of it past this call, its ack open and its
     * memory counted. NULL on no memory, and where the component holds all that it may (256 MiB, or
     * a quarter of the process's memory where that is less) or the value is nested deeper than 128
     * levels: the event has then failed. */
    struct weir_held *(*event_hold)(const struct weir_host *h, struct weir_batch *b,
                                    struct weir_event *ev);
    /* Puts a held event at the end of a batch (in apply or tick); the handle is dead. */
    uint32_t (*held_release)(const struct weir_host *h, struct weir_batch *b,
                             struct weir_held *take_held);
    /* Ends a held event as filtered; the handle is dead. */
    void (*held_drop)(const struct weir_host *h, struct weir_held *take_held);
    const struct weir_event *(*held_event)(const struct weir_held *held);
    /* settled() will hear how this event ends. */
    bool (*event_watch)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                        uint64_t cookie);
    /* Makes the lane call this transform again soon (it had answered AGAIN, or wants tick). [any] */
    void (*wake)(const struct weir_host *h);

    /* ---- Sinks -------------------------------------------------------------------------------- */

    /* The result of event i of an earlier write that was left PENDING. Exactly once an event.
     * [any] */
    void (*complete)(const struct weir_host *h, uint64_t ticket, uint32_t i,
                     const struct weir_result *result);

    /* ---- Templates and conditions -------------------------------------------------------------- */

    /* Text of the template for this event, in `a`. {NULL, 0} where a field is missing that has no
     * default: err names its path. Strings as they are, other values as JSON. [any] */
    struct weir_str (*template_render)(const struct weir_host *h, const struct weir_template *t,
                                       struct weir_batch *b, struct weir_event *ev,
                                       struct weir_arena *a, struct weir_error *err);
    /* True where the template has no placeholder; *ret_text is then its text. */
    bool (*template_is_literal)(const struct weir_template *t, struct weir_str *ret_text);
    /* Where the template is one bare {{ field }}: that field's value, else NULL. */
    const struct weir_value *(*template_value)(const struct weir_host *h,
                                               const struct weir_template *t,
                                               struct weir_batch *b, struct weir_event *ev);
    /* ret_true[i] is 1 where the condition holds for event i, 0 where not or GONE. Events that make
     * it raise an error are failed. [lane] */
    void (*condition_eval)(const struct weir_host *h, const struct weir_condition *c,
                           struct weir_batch *b, uint8_t *ret_true);

    /* ---- More ------------------------------------------------------------------------------------ */

    /* What the instances of one component share: made by the first caller, destroyed after the last
     * instance closed. NULL where create fails. */
    void *(*shared)(const struct weir_host *h,
                    void *(*create)(const struct weir_host *h, const void *config,
                                    struct weir_error *err),
                    void (*destroy)(void *take_shared), struct weir_error *err);
    /* A const table named "weir.x/1", or NULL: optional powers beyond this struct. [any] */
    const void *(*extension)(const struct weir_host *h, const char *name);
    /* Literal text that the template starts with; empty where it starts with a placeholder. [any] */
    struct weir_str (*template_prefix)(const struct weir_template *t);
    uint32_t flags; /* WEIR_HOST_* */
    /* Sets the event's key; the bytes are copied, a NULL ptr takes the key away. [lane] */
    bool (*event_set_key)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                          struct weir_str key);
    /* A template that is part of a VALUE, in `a`. NULL on error: err->offset is the place in the
     * text. What it reads must be among the type's needs, unless the option has
     * WEIR_OPT_TEMPLATES. [control] */
    struct weir_template *(*template_compile)(struct weir_arena *a, struct weir_str text,
                                              struct weir_error *err);
    /* As template_render; what the event puts in is escaped, so that it stays one part of what the
     * template's own text makes. Literal text and defaults stay as they are. [any] */
    struct weir_str (*template_render_with)(const struct weir_host *h,
                                            const struct weir_template *t, struct weir_batch *b,
                                            struct weir_event *ev, struct weir_arena *a,
                                            enum weir_escape how, struct weir_error *err);
    /* As event_drop, for what the user asked not to see: the event ends as filtered, and is counted as a
     * discard with that reason (a static string). [lane] */
    void (*event_filter)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                         const char *reason);
    /* This event is done although apply will answer AGAIN: it leaves then, together with those that are
     * GONE, and what is left comes again in its order with other indexes. Where there is no memory for
     * that it comes again as well, PASSED. [lane] */
    void (*event_pass)(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev);
};

/* A source with `codec: raw`: its payloads are opaque, nothing is checked. */
#define WEIR_HOST_RAW 1u

/* The extension "weir.place/1": where an option's text stands in the pipeline file, so that what goes
 * wrong in it while it runs can be pointed at.
 *
 * option  `path` and `offset` as in weir_report. False where it is not known. `file` is as the user
 *         gave it; line and column count from 1. [any] */
#define WEIR_PLACE_EXTENSION "weir.place/1"

struct weir_place {
    struct weir_str file;
    uint32_t line, column;
};

struct weir_place_extension {
    uint32_t size;
    bool (*option)(const struct weir_host *h, const char *path, int64_t offset,
                   struct weir_place *ret);
};

/* The extension "weir.memory/1": the process's memory, which has one limit.
 *
 * report    Memory that this instance has besides its events, by who uses it ("lua", "librdkafka": a
 *           static string, always the same one). Replaces what it reported before; what an instance
 *           had is taken back when it closes. Costs little, but is not for each event. [lane] of a
 *           source or transform, [outlet] of a sink
 * is_short  True near the limit: sources are polled with room 0 then. What takes in bytes before they are
 *           events refuses or waits as well. [any] */
#define WEIR_MEMORY_EXTENSION "weir.memory/1"

struct weir_memory_extension {
    uint32_t size;
    void (*report)(const struct weir_host *h, const char *user, size_t bytes);
    bool (*is_short)(const struct weir_host *h);
};

/* The extension "weir.ready/1": an instance that can do nothing until somebody gives it a right or a
 * login says so, and /readyz says no with its reason. A server that is away is no such thing.
 *
 * set  `reason` NULL: it can work again. Copied. What an instance of a sink said outlives it until the
 *      next one of that number says something else. [any] */
#define WEIR_READY_EXTENSION "weir.ready/1"

struct weir_ready_extension {
    uint32_t size;
    void (*set)(const struct weir_host *h, const char *reason);
};

/* The extension "weir.lease/1": for a source whose streams others take over when it is not heard of.
 *
 * until  No event of the stream is written later than that (monotonic ns), until the stream is
 *        closed or its lease renewed; WEIR_NEVER: without a lease, as a stream begins. [lane] */
#define WEIR_LEASE_EXTENSION "weir.lease/1"

struct weir_lease_extension {
    uint32_t size;
    void (*until)(struct weir_stream *s, int64_t until_ns);
};

/* The extension "weir.before/1": what a source with WEIR_TRAIT_BESIDE takes over at a reload.
 *
 * shared  What the component in whose place this one is being opened gave to host->shared: of the same
 *         type, and its lanes may be running. NULL: there is none. It is good while this one is
 *         opened; what is to outlive that has a count of its own. [control], in open */
#define WEIR_BEFORE_EXTENSION "weir.before/1"

struct weir_before_extension {
    uint32_t size;
    void *(*shared)(const struct weir_host *h);
};

/* True where this host's table reaches up to and including that member. */
#define WEIR_HOST_HAS(h, member) \
    ((h)->size >= offsetof(struct weir_host, member) + sizeof((h)->member))

/* The extension "weir.cpu/1": how long the calling thread has computed, in ns. Not what passed while it waited
 * for a processor: for limits on work. Costs a system call. 0 where it is not known. [any] */
#define WEIR_CPU_EXTENSION "weir.cpu/1"

struct weir_cpu_extension {
    uint32_t size;
    int64_t (*thread)(const struct weir_host *h);
};

#endif
