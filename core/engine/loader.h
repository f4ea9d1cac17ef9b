/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/loader.h: finds plugins and component types. Knows dlopen; nothing else does.
 *
 * Folders are searched in order: --plugin-dir, WEIR_PLUGIN_PATH, the folder `plugins` beside or
 * above the binary of a build, the install's own. The first type of a kind and name wins; a second
 * one with the same name in a later folder is shadowed (debug log), in the same folder an error.
 * Plugins stay loaded until the process ends.
 */
#ifndef WR_ENGINE_LOADER_H
#define WR_ENGINE_LOADER_H

#include <base/buf.h>
#include <weir/plugin.h>

struct wr_loader;

/* One loaded .so. */
struct wr_plugin {
    const struct weir_plugin *plugin;
    struct weir_str path;
};

/* dirs: NULL-ended, in the order of the search; core/app/folders.h makes the usual list. */
struct wr_loader *wr_loader_new(const char *const *dirs);
void wr_loader_free(struct wr_loader *l);

/* The type, or NULL. Opens plugins only until it is found: files whose name is that word first (an
 * order to try, no more), then the rest. ret_plugin may be NULL. */
const struct weir_type *wr_loader_type(struct wr_loader *l, enum weir_kind kind,
                                       struct weir_str name, const struct wr_plugin **ret_plugin);
/* A service table, or NULL. */
const void *wr_loader_service(struct wr_loader *l, const char *name);

/* Opens everything. */
void wr_loader_all(struct wr_loader *l);
uint32_t wr_loader_count(const struct wr_loader *l);
const struct wr_plugin *wr_loader_at(const struct wr_loader *l, uint32_t i);

/* For messages: folders searched, and each bad .so with its one-line reason. */
uint32_t wr_loader_n_dirs(const struct wr_loader *l);
const char *wr_loader_dir(const struct wr_loader *l, uint32_t i);
uint32_t wr_loader_n_bad(const struct wr_loader *l);
const char *wr_loader_bad(const struct wr_loader *l, uint32_t i); /* "path: reason" */
/* Types that an earlier folder has as well, for the debug log. */
uint32_t wr_loader_n_shadowed(const struct wr_loader *l);
const char *wr_loader_shadowed(const struct wr_loader *l, uint32_t i);

#endif
