/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/worker.h: a thread for the library's calls, which know no deadline of ours and cannot be
 * interrupted. Who waits for one stops waiting in time; the call goes on behind his back and is
 * cleaned up when it ends.
 */
#ifndef MONGODB_WORKER_H
#define MONGODB_WORKER_H

#include <weir/plugin.h>

/* One call. `run` on the worker's thread; `free` by whoever has the task last. Neither may use the
 * host but to free memory: a late task can outlive its sink. */
struct task {
    void (*run)(struct task *t);
    void (*free)(struct task *take_t);
};

struct worker;

enum worker_end { WORKER_DONE, WORKER_TIMEOUT, WORKER_CANCELED };

/* `after(arg)` runs when the worker is over: what its tasks use is to be freed there. NULL: err
 * says why, and after is not called. */
struct worker *worker_new(const struct weir_host *h, void (*after)(void *take_arg), void *take_arg,
                          struct weir_error *err);
/* Returns at once; a task that still runs ends by itself. NULL is allowed. */
void worker_free(struct worker *take_w);

/* Waits until no late task is running any more. Thread: the one that runs tasks. */
enum worker_end worker_wait(struct worker *w, int64_t deadline_ns);
/* Runs the task; the worker must be idle. DONE: it is the caller's again, else it is gone. */
enum worker_end worker_run(struct worker *w, struct task *take_t, int64_t deadline_ns);

/* Ends the waiting, now and later. Thread: any. */
void worker_cancel(struct worker *w);

#endif
