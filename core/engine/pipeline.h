/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/pipeline.h: a running pipeline, as the commands see it.
 */
#ifndef WR_ENGINE_PIPELINE_H
#define WR_ENGINE_PIPELINE_H

#include <base/clock.h>
#include <base/log.h>
#include <engine/plan.h>
#include <model/metrics.h>

/* What all pipelines of a process share; outlives them. */
struct wr_runtime {
    struct wr_clock *clock;
    struct wr_log *log;
    struct wr_metrics *metrics;
};

enum wr_pipeline_state {
    WR_PIPELINE_RUNNING,
    WR_PIPELINE_DRAINING, /* asked to stop, or its sources have ended */
    WR_PIPELINE_STOPPED,  /* stopped by itself after a failure (on_reject: stop, a fatal error) */
    WR_PIPELINE_DONE      /* everything ended and closed down */
};

/* What a stop left. */
struct wr_pipeline_left {
    uint64_t events;       /* not delivered: their sources did not count them as done */
    bool timed_out;        /* the deadline came first */
};

struct wr_pipeline;

/* Opens every instance. NULL with err, what was opened is closed again. The plan must outlive it.
 * Thread: control. */
struct wr_pipeline *wr_pipeline_new(const struct wr_plan *plan, const struct wr_runtime *rt,
                                    struct weir_error *err);
/* Starts the threads. notify(arg) is called from any thread when the state changes: write to a pipe
 * or the like, no more. */
void wr_pipeline_start(struct wr_pipeline *p, void (*notify)(void *arg), void *arg);
enum wr_pipeline_state wr_pipeline_state(struct wr_pipeline *p);
/* Why it is STOPPED, "" else. Valid until free. */
const char *wr_pipeline_reason(struct wr_pipeline *p);
/* Every lane that has not ended polls, nothing has failed, and no component waits for a right. */
bool wr_pipeline_ready(struct wr_pipeline *p);
/* Why a component can do nothing although the pipeline runs: the text of the first, cut to `size`. False
 * with an empty one where all can. [any] */
bool wr_pipeline_unready(struct wr_pipeline *p, char *ret_text, size_t size);
/* Begins the drain: sources stop, lanes and outlets empty, until the deadline (monotonic ns), which a
 * later call may bring forward. Returns at once; DONE follows by notify. [any] */
void wr_pipeline_drain(struct wr_pipeline *p, int64_t deadline_ns);
/* After DONE, or never started: joins the threads, closes sinks, then sources. */
struct wr_pipeline_left wr_pipeline_close(struct wr_pipeline *p);
void wr_pipeline_free(struct wr_pipeline *p);

#endif
