/* SPDX-License-Identifier: Apache-2.0
 *
 * app/memory.h: the process's limit of memory for the commands: where it comes from, whether the
 * pipelines fit into it, and what is told of it.
 */
#ifndef WR_APP_MEMORY_H
#define WR_APP_MEMORY_H

#include <app/files.h>
#include <base/log.h>
#include <model/metrics.h>

struct wr_memory {
    uint64_t limit;
    const char *from; /* "--memory", "cgroup", "machine"; NULL: nobody tells, there is no limit */
    struct wr_shares *shares;
    uint64_t shortages; /* told so far */
    struct wr_metrics *metrics;
};

/* By --memory (-1: not given), else by the control group, else three quarters of the machine's; what the
 * control group allows is never exceeded. */
void wr_memory_find(int64_t given, struct wr_memory *ret);
/* Makes all that loaded fit; false with errors in the files' diagnostics. Where it is too small for
 * anything that is said on standard error, by that command, and *ret_usage is true. */
bool wr_memory_fit(struct wr_memory *m, const char *command, struct wr_files *f, bool *ret_usage);
/* The same for one plan that takes the place of `old` (NULL: that does not run), beside n that run (NULL among
 * them are passed over). What goes on has its memory already, and keeps it. False with errors in d where a
 * start could not fit them in either. Logs what was lowered, and where what goes on keeps too much. */
bool wr_memory_fit_again(const struct wr_memory *m, struct wr_plan *plan, const struct wr_plan *old,
                         const struct wr_plan *const *running, uint32_t n, struct wr_log_scope *log,
                         struct wr_diags *d);
/* Before there are threads: from here on the limit holds. Logs it, and publishes it until done. */
void wr_memory_begin(struct wr_memory *m, struct wr_metrics *metrics, struct wr_log_scope *log);
/* While the metrics are there. Twice is allowed. */
void wr_memory_done(struct wr_memory *m);

#endif
