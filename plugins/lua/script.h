/* SPDX-License-Identifier: Apache-2.0
 *
 * script.h: the user's script: its text, its state, its hooks.
 */
#ifndef LUA_SCRIPT_H
#define LUA_SCRIPT_H

#include "vm.h"

struct script_config {
    struct weir_str script, code;
    const struct weir_value *config;
    int64_t interval, memory, instructions, cache;
    struct weir_list allow; /* of int, see script_options */
    struct weir_list ports; /* of struct weir_str */
};

enum script_hook { HOOK_FN_PROCESS, HOOK_FN_BATCH, HOOK_FN_TICK, HOOK_FN_SHUTDOWN, HOOK_FN_INIT };
#define SCRIPT_HOOKS 5

struct script {
    struct vm *vm;
    char *text; /* host memory */
    size_t len;
    char *dir;         /* of the file; NULL for inline code */
    const char *chunk; /* "@enrich.lua", of inline code the pipeline file, or "=code" */
    char *chunk_memory;
    bool has[SCRIPT_HOOKS];
};

/* What a failure to load is about. */
struct script_error {
    int64_t offset; /* in the text of inline code, -1 = unknown */
    char text[VM_TEXT + 80];
};

/* Reads and compiles, and with `run` runs the top level and looks for hooks; never calls init.
 * False with why. script_done in either case. */
bool script_load(struct script *s, const struct weir_host *h, const struct script_config *cf,
                 struct cache *cache, bool run, struct script_error *why);
/* Calls init(config). */
bool script_init(struct script *s, const struct script_config *cf);
/* Pushes a hook that the script has. */
void script_push(const struct script *s, enum script_hook hook);
void script_done(struct script *s, const struct weir_host *h);

#endif
