/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/outlet_impl.h: what the files outlet*.c share. Nobody else includes it, but the test that puts a
 * buffer of its own in.
 *
 *   buffer ──take──▶ runs (entry, from, to) of a shard ──gather──▶ write ──▶ sink
 *                                                        ▲           │ results
 *                                              retry list ◀──────────┤
 *                                     dead-letter outlet ◀───────────┘
 */
#ifndef WR_ENGINE_OUTLET_IMPL_H
#define WR_ENGINE_OUTLET_IMPL_H

#include <engine/idle.h>
#include <engine/runtime.h>

/* Consecutive events of one entry, not written yet. */
struct wr_run {
    struct wr_entry *entry;
    uint32_t from, to;
};

/* What the outlet knows about one event besides the event. */
struct wr_meta {
    struct wr_entry *entry;
    uint64_t seq;      /* its place in this shard's order */
    uint32_t attempts; /* writes that ended with a retryable failure */
    int64_t first_ns;  /* wall clock of the first failure, 0 = none */
};

/* An event that is to be written again. */
struct wr_again {
    struct weir_event ev;
    struct wr_meta meta;
    uint64_t order; /* wr_shard_order of it */
};

/* A write under way. */
struct wr_write {
    struct wr_batch *b; /* event structs only: the entries hold the bodies */
    struct wr_meta *meta;
    struct weir_result *results;
    uint32_t cap; /* of meta and results */
    uint32_t n_pending;
    uint32_t generation;
    uint64_t number; /* of this shard's writes, in the order of their start */
    bool active;
    bool given_up; /* its sink never ended it: the slot is not used again */
    struct weir_arena texts; /* messages of pending results */
};

/* A completion from another thread. */
struct wr_completion {
    uint64_t ticket;
    uint32_t i;
    struct weir_result result; /* message: owned copy */
};

struct wr_shard {
    struct wr_outlet *outlet;
    uint32_t index;
    struct wr_instance *inst;   /* NULL while it is opened anew; others look at it under inst_mutex */
    bool owns_inst;
    pthread_mutex_t inst_mutex;
    struct wr_wake wake;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex; /* runs and completions: filled by others */
    struct wr_run *runs;   /* ring */
    uint32_t first_run, n_runs, cap_runs;
    uint64_t queued_events;
    struct wr_completion *completions;
    uint32_t n_completions, cap_completions;

    struct wr_again *again; /* in the order of seq; written before all others */
    uint32_t n_again, cap_again;
    struct wr_write *writes;
    uint32_t n_writes, n_active;
    uint64_t next_seq, next_write;

    struct wr_instance *next_inst; /* to take the place of `inst`, by a reload */
    bool replaced;                 /* `inst` goes: for next_inst, or where that is NULL for one to open */
    int64_t cancel_at;             /* when `inst` is told that its time is over */
    int64_t hold_until; /* backoff: no write before */
    uint32_t fail_streak;
    int64_t away_since; /* wall clock of the first unavailable write, 0 = reachable */
    bool reopen;
    struct wr_batch *dead; /* envelopes that the dead-letter buffer has no room for */
    struct wr_waiter dead_waiter;
    struct wr_ended ended;
    struct weir_arena order; /* what wr_shard_order renders into */
    bool repeating; /* what is under way is a repetition */
    bool cancelled, told_cancel;
    _Atomic bool finished;
    int64_t give_up_at; /* after the abort */
    struct wr_idle idle; /* no write is under way */
};

struct wr_outlet {
    struct wr_unit *unit; /* a reference */
    struct wr_unit *buffer_unit; /* what its disk buffer was opened for; a reference, or NULL */
    struct wr_unit *dead; /* takes what this one cannot; a reference, or NULL */
    struct wr_pipeline *p;
    bool is_dead_letter;
    bool going;          /* the plan has it no more; set while all shards rest. [control] */
    _Atomic bool leaves; /* so it ends once it is empty */
    const struct wr_outlet *waits_for; /* the one of this id that goes: begins behind it. [control] */
    const struct weir_sink *type;
    struct wr_buffer *buffer;
    struct wr_shard *shards;
    uint32_t n_shards;
    pthread_mutex_t take_mutex; /* one shard at a time takes and distributes */
    struct weir_metric *retries, *latency, *writes;
};

static inline const struct wr_sink_options *wr_outlet_options(const struct wr_outlet *o)
{
    return &o->unit->comp->opt.sink;
}

/* ---- outlet.c ---- */

void wr_shard_wake(void *shard); /* [any] */
/* Tells its sink that the deadline has come. [any] */
void wr_shard_cancel(struct wr_shard *s);

/* ---- outlet_step.c ---- */

/* It starts no write any more: what its buffer has stays in it. */
bool wr_shard_leaves(const struct wr_shard *s);

/* ---- outlet_take.c ---- */

/* Hash of what keeps an event's order, 0 = nothing does. */
uint64_t wr_shard_order(struct wr_shard *s, struct weir_event *ev);
/* Takes entries until this shard has a batch of its own waiting, or nothing is left. True: took some. */
bool wr_shard_refill(struct wr_shard *s);
/* Events that wait for this shard. */
uint64_t wr_shard_queued(struct wr_shard *s);
bool wr_shard_next_run(struct wr_shard *s, struct wr_run *ret);
/* What is left of the run that was taken last. */
void wr_shard_give_back_run(struct wr_shard *s, struct wr_run run);

/* ---- outlet_write.c ---- */

/* Starts what can be started. Returns when to look again. */
int64_t wr_shard_start_writes(struct wr_shard *s, int64_t now);
/* Hears what was completed since, and ends the writes that are complete. */
void wr_shard_take_completions(struct wr_shard *s);
/* Before each call of the sink. */
void wr_shard_clear_scratch(struct wr_shard *s);

/* ---- outlet_results.c ---- */

/* Ends one event here. */
void wr_shard_end(struct wr_shard *s, const struct weir_event *ev, struct wr_entry *entry,
                  enum weir_outcome outcome, const struct wr_why *why);
/* The event can never be written: what the user chose for those becomes of it. */
void wr_shard_reject(struct wr_shard *s, struct weir_event *ev, const struct wr_meta *meta,
                     const struct weir_result *r);
/* All results of a write are known: settles, retries, dead-letters. Frees the slot. */
void wr_shard_finish(struct wr_shard *s, struct wr_write *w, int64_t now);
/* Hands kept envelopes over; true when none is left. */
bool wr_shard_push_dead(struct wr_shard *s, int64_t now);
/* Ends everything queued here as failed. */
void wr_shard_fail_queued(struct wr_shard *s);

#endif
