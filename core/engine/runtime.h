/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/runtime.h: the structs of a running pipeline, for the engine's own files only.
 *
 *   pipeline ─▶ units: one a component: counters, log, shared state, of a sink its outlet
 *            ─▶ lanes: one thread each: source instance, transform instances, work stack, acks
 *   outlet   ─▶ shards: one thread each: sink instance, queue, writes under way, retries
 */
#ifndef WR_ENGINE_RUNTIME_H
#define WR_ENGINE_RUNTIME_H

#include <base/wake.h>
#include <engine/ack.h>
#include <engine/buffer.h>
#include <engine/pipeline.h>

struct wr_lane;
struct wr_shard;
struct wr_outlet;
struct wr_unready;

/* What the instances of one component share. */
struct wr_shared {
    pthread_mutex_t mutex;
    void *object;
    void (*destroy)(void *take_shared);
};

/* The run-time side of one component. A reload that leaves the component as it is leaves its unit too,
 * with the new plan's `comp`. It goes with the last of the pipeline and its instances. */
struct wr_unit {
    _Atomic uint32_t refs;
    const struct weir_type *type;
    const struct wr_component *comp;
    const struct wr_plan *plan; /* that `comp` is of */
    const struct wr_plan *born; /* whose secrets its log hides: where it stays they are the same */
    struct wr_pipeline *pipeline;
    uint32_t index;             /* in the plan and the pipeline's units */
    struct weir_str id;         /* its own, as `type`: for threads that know nothing of a reload */
    struct wr_log_scope *log;
    struct wr_shared shared;
    struct wr_unit *before;   /* in whose place it comes, while a reload opens it beside that. [control] */
    struct wr_outlet *outlet; /* of a sink */
    struct weir_metric *received_events, *received_bytes, *sent_events, *sent_bytes;
    int64_t idle_before, scraped_at; /* of its threads at the last scrape */
    _Atomic size_t held_bytes;       /* that the events which a transform keeps take, in all lanes */
    _Atomic uint64_t held_events;
};

/* One opened source, transform or sink. `host` is first: the plugin's pointer is this one's. */
struct wr_instance {
    struct weir_host host;
    struct wr_unit *unit;
    const struct wr_plan *plan; /* that its config is of */
    struct wr_clock *clock;
    void *self;
    struct weir_arena scratch;
    void *conditions; /* state of the condition service */
    struct wr_lane *lane;
    struct wr_shard *shard;
    struct weir_held *held;     /* events that this transform keeps */
    struct wr_hold *hold;       /* what the running call holds; NULL: nothing yet */
    _Atomic int wanted;         /* it asked to be called again */
    uint32_t memory_use;        /* of the budget; 0: it has reported nothing */
    size_t memory_bytes;        /* what it reported */
    int64_t next_tick, tick_ns; /* tick_ns 0: never */
    uint32_t n_watched;         /* events on their way that it wants to hear of. [lane] */
};

/* An event that a transform keeps past its call. */
struct weir_held {
    struct weir_held *next, *prev;
    struct wr_instance *inst;
    struct wr_batch *b; /* one event over the body of its call */
    struct wr_hold *hold;
};

/* Why an event is GONE: of a drop its reason, of a failure the result. In the batch's memory. */
struct wr_gone {
    bool failed;
    bool held;
    bool filtered; /* a drop that the user asked for */
    struct weir_result result;
};

/* A plan and what runs of it. */
struct wr_graph {
    const struct wr_plan *plan;
    struct wr_unit **units; /* by component */
};

struct wr_swap;

struct wr_pipeline {
    struct weir_str name;
    struct wr_runtime rt;
    struct wr_log_scope *log;
    /* Changed by a reload only, while all lanes and shards rest. Who is neither of them holds `parts`. */
    pthread_mutex_t parts;
    const struct wr_plan *plan; /* these two are a struct wr_graph */
    const struct wr_plan *born; /* the first one, whose secrets its log hides */
    struct wr_unit **units;
    struct wr_lane **lanes;
    uint32_t n_lanes;
    struct wr_outlet **outlets; /* also of sinks that the plan has no more */
    uint32_t n_outlets;
    _Atomic(struct wr_swap *) swap; /* lanes and shards are to rest */
    pthread_mutex_t swap_mutex;
    pthread_cond_t swap_changed;    /* one more rests, or has ended; or the swap is over */
    uint64_t n_swaps;               /* that are over; under the mutex */
    _Atomic bool reloading;         /* lanes may come and go: none of them is the last */
    void (*notify)(void *arg);
    void *notify_arg;
    bool started;
    pthread_mutex_t mutex;    /* for reason and unready */
    char reason[WEIR_ERROR_TEXT];
    struct wr_unready *unready; /* what instances say against its readiness */
    _Atomic int any_unready;
    _Atomic int failed;
    _Atomic int draining;     /* sources are to stop */
    _Atomic int flushing;     /* no lane gives anything more: no batch waits to be filled */
    _Atomic int aborting;     /* what is left fails now */
    _Atomic int cancelled;    /* the sinks have been told */
    _Atomic int64_t deadline; /* of the drain */
    _Atomic uint32_t lanes_left, sinks_left, dead_sinks_left; /* threads that still run */
    _Atomic uint32_t lanes_polling;
    _Atomic uint32_t lanes_flowing;
    _Atomic int finish_sinks, finish_dead; /* outlets: end once empty */
    _Atomic int done;
    _Atomic uint64_t n_left;  /* events that ended as failed */
};

/* ---- unit.c ---- */

/* One reference, the caller's. */
struct wr_unit *wr_unit_new(struct wr_pipeline *p, const struct wr_plan *plan, uint32_t index);
struct wr_unit *wr_unit_ref(struct wr_unit *unit);
void wr_unit_unref(struct wr_unit *take_unit);
/* What its instances share goes, once all of them have closed: the next one makes it anew. False where there
 * was nothing. [control] */
bool wr_unit_end_shared(struct wr_unit *unit);
/* What its instances said of their readiness goes. */
void wr_unit_forget_unready(const struct wr_unit *unit);
/* The component is another plan's from now on, which says the same of it. */
void wr_unit_follow(struct wr_unit *unit, const struct wr_plan *plan, uint32_t index);
#define WR_UNIT_LABELS 4u
/* Fills in the labels that every metric of a component has. */
void wr_unit_labels(const struct wr_unit *unit, struct wr_label ret[WR_UNIT_LABELS]);
const char *wr_kind_name(enum weir_kind kind);
/* Counts an error of this component: stage "write", "apply", ...; code may be NULL. */
void wr_unit_count_error(struct wr_unit *unit, const char *stage, const char *code, uint64_t n);
void wr_unit_count_discard(struct wr_unit *unit, const char *reason, uint64_t n);
void wr_unit_count_dead(struct wr_unit *unit, uint64_t n);
/* Logs and counts what a plugin must never do. [any] */
void wr_unit_plugin_bug(struct wr_unit *unit, const char *message, const struct weir_kv *kv,
                        uint32_t n_kv);
/* One line about an event that a component could not handle: reason, and what finds it again. */
void wr_unit_log_failure(struct wr_unit *unit, const char *message, const struct weir_event *ev,
                         const struct weir_result *r, uint32_t attempts);

/* ---- instance.c ---- */

/* Opens instance index of count. NULL with err (context in front). */
struct wr_instance *wr_instance_open(struct wr_unit *unit, uint32_t index, uint32_t count,
                                     struct wr_lane *lane, struct wr_shard *shard,
                                     struct weir_error *err);
/* What it watches may end later: nobody hears of it then. */
void wr_instance_close(struct wr_instance *take_inst);
/* An event that it watched has ended. [lane] */
void wr_instance_unwatch(struct wr_instance *inst);
/* ---- pipeline.c ---- */

/* The pipeline stops by itself: what is left fails. [any] */
void wr_pipeline_fail(struct wr_pipeline *p, const char *fmt, ...) WEIR_PRINTF(2, 3);
/* The same for a source that can go on no more: what it and the others gave is delivered before. [any] */
void wr_pipeline_fail_source(struct wr_pipeline *p, const char *fmt, ...) WEIR_PRINTF(2, 3);
/* The deadline has come: everything that is left ends as failed. [any] */
void wr_pipeline_abort(struct wr_pipeline *p);
/* A lane has given out everything; its acks may still be open. */
void wr_pipeline_lane_flushed(struct wr_pipeline *p);
void wr_pipeline_lane_ended(struct wr_pipeline *p);
void wr_pipeline_add_outlet(struct wr_pipeline *p, struct wr_outlet *take_o);
void wr_pipeline_add_lane(struct wr_pipeline *p, struct wr_lane *take_lane);
/* Each sink knows the unit that takes what it cannot. */
void wr_pipeline_bind_dead_letters(struct wr_pipeline *p);
/* Who waits for all to rest looks again: it counts those that still run. */
void wr_pipeline_tell_swap(struct wr_pipeline *p);
/* Lanes may have been the last ones while a reload went on. */
void wr_pipeline_lanes_changed(struct wr_pipeline *p);
void wr_pipeline_shard_ended(struct wr_pipeline *p, bool dead_letter);

/* ---- unready.c ---- */

/* Instance `index` can do nothing for that reason; NULL: it can again. [any] */
void wr_unit_unready(struct wr_unit *unit, uint32_t index, const char *reason);
void wr_pipeline_free_unready(struct wr_pipeline *p);

/* ---- transform_hold.c ---- */

/* What is held from here on does not share memory with what was held before. [lane] */
void wr_held_next_call(struct wr_instance *inst);

/* ---- lane.c ---- */

/* Of component `component` of that graph. */
struct wr_lane *wr_lane_new(struct wr_pipeline *p, const struct wr_graph *g, uint32_t component,
                            uint32_t index, uint32_t count, struct weir_error *err);
bool wr_plan_reaches(const struct wr_plan *plan, uint32_t from, uint32_t to);
bool wr_plan_reads_ids(const struct wr_plan *plan);
/* A lane of that source has an instance of that transform. */
bool wr_lane_has(const struct wr_plan *plan, uint32_t source, uint32_t transform);
/* Its source stops, what it gave is delivered, and the lane ends. [control] */
void wr_lane_leave(struct wr_lane *lane);
void wr_lane_start(struct wr_lane *lane);
void wr_lane_join(struct wr_lane *lane);
void wr_lane_close_transforms(struct wr_lane *lane);
void wr_lane_free(struct wr_lane *take_lane);
void wr_lane_wake(void *lane); /* [any] */
/* Idle ns of its thread. [any] */
int64_t wr_lane_idle(const struct wr_lane *lane, int64_t now);
uint32_t wr_lane_source(const struct wr_lane *lane);
/* One turn: collects acks, ticks, goes on with parked work, polls until at most `wait_until`. Returns
 * when it wants its next turn (now or earlier: at once; INT64_MAX: when woken), -1 when it has ended. */
int64_t wr_lane_step(struct wr_lane *lane, int64_t wait_until);
struct wr_acks *wr_lane_acks(struct wr_lane *lane);
/* True on the lane's own thread, and before its first step on any. */
bool wr_lane_is_here(const struct wr_lane *lane);

/* ---- reload_swap.c ---- */

/* The swap that is wanted, which stays there until it was looked into. */
struct wr_swap_look {
    struct wr_swap *swap; /* NULL: none */
    uint64_t number;
};
struct wr_swap_look wr_swap_look(struct wr_pipeline *p);
void wr_swap_look_done(struct wr_pipeline *p, struct wr_swap_look look);
/* The thread rests until the swap of that number is over. */
void wr_swap_wait(struct wr_pipeline *p, uint64_t number);
/* So does a lane, which comes back now and then until all lanes rest: others may wait for what it hears. */
void wr_swap_wait_awhile(struct wr_pipeline *p, uint64_t number);
/* Takes the swap away, and lets all go on. */
void wr_swap_over(struct wr_pipeline *p);

/* ---- outlet.c ---- */

/* With `later` its instances are opened by wr_outlet_open. */
struct wr_outlet *wr_outlet_new(struct wr_unit *unit, bool later, struct weir_error *err);
/* Opens those that are not open. */
bool wr_outlet_open(struct wr_outlet *o, struct weir_error *err);
bool wr_outlet_is_dead_letter(const struct wr_outlet *o);
/* NULL: there is none. */
void wr_outlet_dead_letters_to(struct wr_outlet *o, struct wr_unit *unit);
void wr_outlet_start(struct wr_outlet *o);
void wr_outlet_join(struct wr_outlet *o);
void wr_outlet_free(struct wr_outlet *take_o);
void wr_outlet_wake(struct wr_outlet *o);   /* [any] */
void wr_outlet_cancel(struct wr_outlet *o); /* [any] */
struct wr_buffer *wr_outlet_buffer(struct wr_outlet *o);
int64_t wr_outlet_idle(const struct wr_outlet *o, int64_t now);
uint32_t wr_outlet_shards(const struct wr_outlet *o);
/* One turn of a shard, as wr_lane_step. */
int64_t wr_shard_step(struct wr_shard *s, int64_t wait_until);
struct wr_shard *wr_outlet_shard(struct wr_outlet *o, uint32_t i);
/* host->complete. [any] */
void wr_shard_complete(struct wr_shard *s, uint64_t ticket, uint32_t i,
                       const struct weir_result *result);

/* ---- dead_letter.c ---- */

/* What the envelope says about a failure. */
struct wr_failure {
    struct wr_unit *unit; /* the component that could not */
    const struct weir_result *result;
    uint32_t attempts;
    int64_t first_ns, last_ns; /* wall clock */
};

/* Adds the envelope of ev to *io_out, a batch with a body of its own that is made where it is NULL; the
 * ack's reference goes along, and the reason is noted in it. False when memory is used up. */
bool wr_dead_letter_add(struct wr_batch **io_out, const struct weir_event *ev,
                        const struct wr_failure *failure);
#define WR_EVENT_DEAD 0x80000000u /* event flag: an envelope on its way to the dead-letter sink */
#define WR_EVENT_ITEM 0x40000000u /* event flag: of a request that a durable buffer has answered */

/* Its position is an item of a request, not an offset of a stream. */
static inline bool wr_event_is_item(const struct weir_event *ev)
{
    return ev->request != NULL || (ev->flags & WR_EVENT_ITEM) != 0;
}

struct wr_why wr_why_of(const struct wr_unit *unit, enum weir_outcome outcome, const char *code,
                        struct weir_str message);

#endif
