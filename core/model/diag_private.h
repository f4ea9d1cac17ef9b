/* SPDX-License-Identifier: Apache-2.0
 *
 * model/diag_private.h: what the two halves of diag (diag.c keeps, diag_print.c shows) share.
 */
#ifndef WR_MODEL_DIAG_PRIVATE_H
#define WR_MODEL_DIAG_PRIVATE_H

#include <base/arena.h>
#include <model/diag.h>

struct wr_mask {
    size_t start, end;
};

/* A text that some diagnostic points into. */
struct wr_tracked {
    struct wr_tracked *next;
    const struct wr_text *text;
    struct wr_text own; /* what `text` points to where it is our copy */
    uint32_t rank;      /* in the order of their coming */
    bool guess;         /* hide what stands behind keys that sound like secrets */
    struct wr_mask *masks;
    uint32_t n_masks, cap_masks;
    size_t *lines; /* first byte of each line; NULL until asked */
    uint32_t n_lines;
};

struct wr_diag_entry {
    struct wr_diag diag;
    struct wr_tracked *tracked; /* NULL: no text */
    uint32_t seq;
};

struct wr_diags {
    struct weir_arena arena;
    struct wr_tracked *texts;
    uint32_t n_texts;
    struct wr_diag_entry *entries;
    uint32_t n, cap;
    uint32_t counts[2];
    uint64_t errors_seen;
    bool sorted;
};

void wr_diags_sort(struct wr_diags *d);
/* Bytes of line `line` (1-based) without its break; empty behind the last. */
struct wr_mask wr_tracked_line(struct wr_tracked *t, uint32_t line);

#endif
