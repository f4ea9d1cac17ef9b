/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/loader_check.h: what engine/loader.c asks of a file before and after it is opened. Each
 * function says in one line what is wrong, in words for whoever put the file there.
 */
#ifndef WR_ENGINE_LOADER_CHECK_H
#define WR_ENGINE_LOADER_CHECK_H

#include <base/buf.h>
#include <weir/plugin.h>

/* A regular, readable, whole shared object for this machine? Opens nothing else. */
bool wr_file_check(const char *path, struct wr_buf *why);

/* Puts the dynamic linker's message about `path` into words. */
void wr_dlerror_words(const char *path, const char *message, struct wr_buf *why);

/* Everything that a plugin object must hold. symbol_size: of the exported object. */
bool wr_plugin_check(const struct weir_plugin *p, size_t symbol_size, struct wr_buf *why);

#endif
