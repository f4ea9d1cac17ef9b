/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/reload.h: a running pipeline goes on by another plan.
 *
 * Components that both plans describe in the same words go on as they are, with all that they hold; sinks
 * keep their buffers. The rest is opened beside the running ones, then all threads rest for a moment between
 * two batches, and what changed takes its place. Until then a failure leaves everything as it was.
 */
#ifndef WR_ENGINE_RELOAD_H
#define WR_ENGINE_RELOAD_H

#include <engine/pipeline.h>

/* How many components. */
struct wr_reloaded {
    uint32_t kept, changed, added, removed;
};

struct wr_reload_wait {
    int64_t deadline_ns;          /* monotonic: until then sources that go may end; as long again, once they
                                   * have, the events of what changes */
    bool (*give_up)(void *arg);   /* asked now and then; NULL: never */
    void *arg;
};

/* Puts `plan` (a reference is taken) in the place of the pipeline's. False with err: the old one goes on,
 * unless a source could not be opened again, which stops the pipeline. Blocks. [control] */
bool wr_pipeline_reload(struct wr_pipeline *p, const struct wr_plan *plan,
                        const struct wr_reload_wait *wait, struct wr_reloaded *ret,
                        struct weir_error *err);
/* Ends what earlier reloads left behind, as far as it is over: sinks that were still to be emptied. To be
 * called at every notice of the pipeline. [control] */
void wr_pipeline_reap(struct wr_pipeline *p);

#endif
