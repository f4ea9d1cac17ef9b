/* SPDX-License-Identifier: Apache-2.0
 *
 * model/diag.h: everything that is wrong with the pipeline files, collected, then printed for
 * people or as JSON. Every kind of diagnostic has a stable code from one table
 * (model/diag_codes.h).
 */
#ifndef WR_MODEL_DIAG_H
#define WR_MODEL_DIAG_H

#include <base/buf.h>
#include <weir/base.h>

/* A text that positions point into: a pipeline file, kept whole to show its lines. */
struct wr_text {
    struct weir_str name; /* as the user gave it */
    struct weir_str text;
};

/* 1-based; line 0: the file as a whole. Columns count characters (code points). */
struct wr_pos {
    const struct wr_text *text;
    uint32_t line, col;
    uint32_t width; /* characters to underline, 0 = 1 */
};

enum wr_severity { WR_ERROR, WR_WARNING };

/* What is said of one mistake; empty strings are left out. */
struct wr_diag {
    const char *code; /* "unknown-option": one of the table */
    enum wr_severity severity;
    struct wr_pos pos;
    struct weir_str path; /* "sinks.store.batch.events" */
    struct weir_str message;
    struct weir_str expected;
    struct weir_str found;
    struct weir_str hint; /* did you mean "brokers"? */
};

struct wr_diags;

struct wr_diags *wr_diags_new(void);
void wr_diags_free(struct wr_diags *d);

/* Copies everything but pos.text, which must outlive d. An unknown code is our bug. Beyond 500
 * diagnostics only their number is kept. */
void wr_diags_add(struct wr_diags *d, const struct wr_diag *diag);

/* A copy of name and text that lives as long as d. */
const struct wr_text *wr_diags_text(struct wr_diags *d, struct weir_str name, struct weir_str text);
/* Bytes [start, end) of a text of wr_diags_text are never shown: they are a secret. */
void wr_diags_mask(struct wr_diags *d, const struct wr_text *text, size_t start, size_t end);
/* For a text whose options could not be told apart: hides what stands behind keys that sound like
 * secrets. */
void wr_diags_mask_guess(struct wr_diags *d, const struct wr_text *text);

uint32_t wr_diags_count(const struct wr_diags *d, enum wr_severity severity);
/* Errors added so far, with those that were not kept: what a loader compares. */
uint64_t wr_diags_errors_seen(const struct wr_diags *d);
/* i below both counts together, in order of file, line, column. */
const struct wr_diag *wr_diags_at(struct wr_diags *d, uint32_t i);

/* file:line:col: error[code]: message, path, expected, found, the source line with a caret, hint.
 */
void wr_diags_print(struct wr_diags *d, struct wr_buf *out, bool color);
/* One JSON array of objects with the same facts. */
void wr_diags_json(struct wr_diags *d, struct wr_buf *out);

/* The nearest of n words within a third of the length in edits (Damerau-Levenshtein), or NULL. */
const char *wr_nearest_word(struct weir_str word, const char *const *words, uint32_t n);

/* What a code means, or NULL where there is none of that name. i counts from 0 in the order of the
 * table; NULL behind its end. */
const char *wr_diag_explain(struct weir_str code);
const char *wr_diag_code(uint32_t i);

/* True for names such as "password", "api_token", "client-secret". */
bool wr_sounds_secret(struct weir_str name);

#endif
