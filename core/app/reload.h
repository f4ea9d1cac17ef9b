/* SPDX-License-Identifier: Apache-2.0
 *
 * app/reload.h: when a pipeline's files have changed, and the way to the new ones.
 */
#ifndef WR_APP_RELOAD_H
#define WR_APP_RELOAD_H

#include <app/memory.h>
#include <engine/reload.h>

#define WR_RELOAD_LOOK_NS (1 * WEIR_NS_PER_S) /* how often the files are looked at */

/* What reloads of one pipeline need. All of it is the main thread's. */
struct wr_reloader {
    struct wr_runtime rt;
    struct wr_log_scope *log; /* the pipeline's */
    struct wr_loader *loader;
    const struct wr_memory *memory; /* the process's limit; NULL: none */
    int64_t shutdown_timeout; /* in the place of what the file says; -1: what it says */
    uint64_t print, stamp;    /* of the files that it runs by, or that it has refused */
    uint64_t seen;            /* stamp at the last look */
    const char *refusal;      /* what the log says where it stays as it is */
    struct weir_metric *ok, *failed, *successful, *success_time;
};

void wr_reloader_init(struct wr_reloader *r, const struct wr_plan *plan);
/* The files have changed, and since the last look no more. */
bool wr_reloader_look(struct wr_reloader *r, const struct wr_plan *plan);
/* The plans that the process runs beside; NULL among them are passed over. */
struct wr_others {
    const struct wr_plan *const *plans;
    uint32_t n;
};

/* Reads the files again and takes the pipeline there. Returns the plan that it runs by now (a reference,
 * the caller's), or NULL: it goes on as it was, and the log says why. */
const struct wr_plan *wr_reloader_run(struct wr_reloader *r, struct wr_pipeline *p,
                                      const struct wr_plan *plan, struct wr_others others,
                                      const struct wr_reload_wait *wait);
/* The same for a pipeline that has stopped by itself: opens it by what the files say now, into ret_p. NULL: it
 * stays as it is, and the log says why. */
const struct wr_plan *wr_reloader_again(struct wr_reloader *r, const struct wr_plan *plan,
                                        struct wr_others others, struct wr_pipeline **ret_p);

#endif
