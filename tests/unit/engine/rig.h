/* SPDX-License-Identifier: Apache-2.0
 *
 * rig.h: a pipeline turned by hand. Component types made of callbacks, a plan put together in C, a clock
 * that only the test moves. One thread: the test steps lanes and shards itself.
 */
#ifndef RIG_H
#define RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/mem.h>
#include <base/str.h>
#include <engine/runtime.h>

#define RIG_MAX 8

/* What a scripted component does; all of it belongs to the test. */
struct rig_script {
    /* Source: called with room > 0. Adds events by rig_emit. */
    enum weir_status (*poll)(struct rig_script *s, struct weir_batch *b, uint32_t room);
    /* Called with room 0, where not NULL. */
    enum weir_status (*poll_full)(struct rig_script *s, struct weir_batch *b);
    /* Transform. */
    enum weir_status (*apply)(struct rig_script *s, struct weir_batch *b, int64_t *again);
    enum weir_status (*tick)(struct rig_script *s, struct weir_batch *b, bool final);
    /* Sink: the verdict of event i of the n-th write. NULL: OK. */
    enum weir_verdict (*verdict)(struct rig_script *s, const struct weir_event *ev, uint32_t write);
    const struct weir_host *h;
    struct weir_stream *stream;
    int64_t committed; /* last commit(), -1 = none */
    bool final;        /* it was the final one */
    uint32_t n_polls, n_empty_polls, n_writes, n_settled;
    enum weir_outcome settled;
    uint64_t last_ticket;
    char seen[4096]; /* what a sink wrote: payloads with commas, a | behind each write */
    char answers[256]; /* outcomes of answered requests: digits, a | behind each */
    void *arg;
};

struct rig {
    struct wr_plan plan;
    struct wr_component comps[RIG_MAX];
    struct weir_type types[RIG_MAX];
    struct wr_edge edges[RIG_MAX][RIG_MAX];
    struct rig_script script[RIG_MAX];
    struct rig_script *config[RIG_MAX];
    struct wr_clock clock; /* first of what clock functions need */
    int64_t now;
    struct wr_metrics *metrics;
    struct wr_pipeline *p;
};

extern struct rig *rig_now; /* the rig whose clock runs */

void rig_init(struct rig *r);
uint32_t rig_add(struct rig *r, enum weir_kind kind, const char *id);
void rig_wire(struct rig *r, uint32_t from, uint32_t to);
void rig_open(struct rig *r);
void rig_done(struct rig *r);
/* Steps every lane and shard n times at the clock's time. */
void rig_step(struct rig *r, uint32_t n);
/* Moves the clock, then steps. */
void rig_advance(struct rig *r, int64_t ns);
/* Adds an event to a source's batch: position style on its stream. */
struct weir_event *rig_emit(struct rig_script *s, struct weir_batch *b, const char *payload,
                            int64_t position);

/* A poll that emits the words of `arg`, at most `room`, each with its first letter as its key, at positions
 * from 1000 times the poll's number on; then nothing. END is never said. */
enum weir_status rig_poll_words(struct rig_script *s, struct weir_batch *b, uint32_t room);
/* What component 0, a source with that poll, gives next. */
void rig_words(struct rig *r, const char *words);
/* Component 0 gives those words to the sink 1; 0, 1, 2 are a source, a transform and a sink. */
struct rig *rig_pair(const char *words);
struct rig *rig_triple(const char *words);
/* A sink's verdict: PENDING. */
enum weir_verdict rig_pending(struct rig_script *s, const struct weir_event *ev, uint32_t write);
/* Completes event i of a write that was left pending: the last one, as OK. */
void rig_complete(struct rig_script *s, uint32_t i);
void rig_complete_as(struct rig_script *s, uint64_t ticket, uint32_t i, uint32_t verdict,
                     int64_t retry_after);

#endif
