/* SPDX-License-Identifier: Apache-2.0
 *
 * app/folders.h: where plugins are looked for. The order: --plugin-dir, WEIR_PLUGIN_PATH, the
 * folder `plugins` beside or above the binary of a build, the install's own.
 */
#ifndef WR_APP_FOLDERS_H
#define WR_APP_FOLDERS_H

#include <app/cli.h>
#include <engine/loader.h>

/* A loader over these folders. NULL where one of --plugin-dir is no folder: said on standard error
 * in the name of `command`. Free with wr_loader_free. */
struct wr_loader *wr_folders_open(const char *command, const struct wr_cli_list *plugin_dirs);

#endif
