/* SPDX-License-Identifier: Apache-2.0
 *
 * model/options.h: option tables and a located map in, filled config structs and diagnostics out.
 *
 * Defaults are texts read by the same code as the user's. Nothing stops at the first mistake, and
 * what a secret option holds is never said.
 */
#ifndef WR_MODEL_OPTIONS_H
#define WR_MODEL_OPTIONS_H

#include <base/secret.h>
#include <model/conf.h>
#include <model/content.h>
#include <weir/option.h>

/* An option that the table only knows by name: its owner reads the located node by itself. Options
 * without a doc are never shown. */
#define WR_OPT_OPAQUE ((enum weir_option_type)1000)

/* A dotted path on the stack: {up, key, -1} or {up, {0}, index}. */
struct wr_path {
    const struct wr_path *up;
    struct weir_str key;
    int64_t index;
};

struct wr_binder {
    struct weir_arena *arena; /* of everything that the structs point to */
    struct wr_diags *diags;
    const char *dir;      /* absolute; what PATH options are relative to */
    struct wr_pos origin; /* who the tables belong to: where mistakes of a default are shown */
    /* Makes a CONDITION. NULL on error: err->offset is the position inside the text, status
     * UNAVAILABLE says that nobody compiles conditions. */
    const struct weir_condition *(*condition)(void *arg, struct weir_str text,
                                              struct weir_error *err);
    void *condition_arg;
    /* out */
    uint32_t needs; /* WEIR_NEEDS_* of the templates */
    uint32_t n_errors;
    const struct wr_secret *secrets; /* what SECRET options and ${file:...} hold, in front of what was there */
    struct wr_content_file *files; /* that options with CONTENT name */
    bool in_default;
};

/* A table and the struct that it fills. */
struct wr_target {
    struct weir_options options;
    void *config;
};

/* Binds one map by several tables at once. `pos` is where a missing option is shown. False with
 * diagnostics. */
bool wr_options_bind(struct wr_binder *b, const struct wr_target *targets, uint32_t n,
                     const struct wr_node *map, const struct wr_path *path, struct wr_pos pos);

/* What a SECRET option holds: masks it in the file's lines, keeps it. */
void wr_options_hide(struct wr_binder *b, const struct wr_node *n);
/* Of any other option: a password or a token in a URL; what came from files, somewhere in a value. */
void wr_options_hide_url(struct wr_binder *b, const struct wr_node *scalar);
void wr_options_hide_files(struct wr_binder *b, const struct wr_node *n);
/* Where the type of a map is not known: masks what stands behind names that sound like secrets. */
void wr_options_hide_guess(struct wr_binder *b, const struct wr_node *n);

/* Option i, with zeroes where the table was built before struct weir_option grew. */
struct weir_option wr_option_at(const struct weir_options *o, uint32_t i);
/* The nested table of an option of a table with that stride. */
struct weir_options wr_option_fields(const struct weir_option *o, uint32_t stride);
/* Bytes of a value of that type, alone or as an element of a LIST; 0 for LIST and MAP. */
size_t wr_option_size(const struct weir_option *o, enum weir_option_type type);

/* What goes there, for messages and the reference: "a whole number", "a list of text". */
void wr_option_describe(struct wr_buf *out, const struct weir_option *o,
                        enum weir_option_type type);
/* "1 to 100", "at least 1ms"; nothing where there are no limits. */
void wr_option_range(struct wr_buf *out, const struct weir_option *o);

/* "sinks.store.batch" */
struct weir_str wr_path_text(struct weir_arena *a, const struct wr_path *path);
/* What was found, quoted and cut; nothing of a secret. */
struct weir_str wr_node_found(struct weir_arena *a, const struct wr_node *n, bool secret);
/* A quoted view of a text for messages, cut to some 60 characters. */
struct weir_str wr_quote(struct weir_arena *a, struct weir_str s);

/* The value that a dotted path ("routes.a", "command[2]") names below a map, or the nearest there
 * is on the way; with the offset inside its text (-1: the whole). */
struct wr_pos wr_node_resolve(const struct wr_node *map, struct wr_pos fallback, const char *path,
                              int64_t offset);

/* For options_scalar.c: one value that is no list, map or table. */
bool wr_bind_scalar(struct wr_binder *b, const struct weir_option *o, enum weir_option_type type,
                    const struct wr_node *n, const struct wr_path *path, void *dst);
/* Keeps a scalar's text as a secret, and of a URL the parts that are. */
void wr_bind_secret(struct wr_binder *b, const struct wr_node *scalar);
/* Reports about an option; counts it. */
void wr_bind_error(struct wr_binder *b, const char *code, struct wr_pos pos,
                   const struct wr_path *path, const struct wr_diag *facts);

#endif
