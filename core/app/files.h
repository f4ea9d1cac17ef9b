/* SPDX-License-Identifier: Apache-2.0
 *
 * app/files.h: the pipeline files that a command was given, loaded into plans.
 */
#ifndef WR_APP_FILES_H
#define WR_APP_FILES_H

#include <app/cli.h>
#include <base/log.h>
#include <engine/plan.h>
#include <stdio.h>

struct wr_files {
    struct wr_loader *loader;
    struct wr_diags *diags;
    struct wr_plan **plans; /* one a file, NULL where it has errors */
    uint32_t n;
};

/* False where the plugin folders are wrong: said in the name of `command`. */
bool wr_files_load(const char *command, const struct wr_cli_list *plugin_dirs,
                   const struct wr_cli_list *files, struct wr_files *ret_f);
/* All diagnostics as text, then the plugin files that could not be used where a type was not found;
 * with color where `out` is a terminal. */
void wr_files_print(const struct wr_files *f, FILE *out);
/* One diagnostic as a log line. */
void wr_files_log(struct wr_log *log, const struct wr_diag *d);
void wr_files_done(struct wr_files *f);

#endif
