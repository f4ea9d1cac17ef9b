/* SPDX-License-Identifier: Apache-2.0
 *
 * app/supervise.h: the main thread of `weir run`: starts pipelines, watches them, ends them on a
 * signal, and answers for them to the metrics listener.
 */
#ifndef WR_APP_SUPERVISE_H
#define WR_APP_SUPERVISE_H

#include <app/cli.h>
#include <app/files.h>
#include <app/http_server.h>
#include <app/memory.h>
#include <engine/pipeline.h>

struct wr_supervisor;

struct wr_supervise_options {
    bool exit_on_stop;
    bool watch;               /* reload when files change, not only on SIGHUP */
    int64_t shutdown_timeout; /* in the place of what the files say; -1: what they say */
    const struct wr_memory *memory; /* into which reloads have to fit, too; NULL: there is no limit */
};

/* Blocks SIGTERM, SIGINT and SIGHUP for the caller and all threads that follow: to be called before there
 * are any. The files must outlive it. */
struct wr_supervisor *wr_supervisor_new(const struct wr_files *files, const struct wr_runtime *rt,
                                        const struct wr_supervise_options *options);
/* What a metrics listener answers. The supervisor must outlive the listener. */
struct wr_http_answers wr_supervisor_answers(struct wr_supervisor *s);
/* Opens and starts all pipelines, and returns when they have ended. The process's exit code. */
int wr_supervisor_run(struct wr_supervisor *s);
void wr_supervisor_free(struct wr_supervisor *s);

#endif
