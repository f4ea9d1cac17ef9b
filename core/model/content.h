/* SPDX-License-Identifier: Apache-2.0
 *
 * model/content.h: files whose content belongs to a configuration, and whether it has changed.
 */
#ifndef WR_MODEL_CONTENT_H
#define WR_MODEL_CONTENT_H

#include <weir/base.h>

struct wr_content_file {
    struct wr_content_file *next;
    struct weir_str path; /* with a NUL behind */
    bool modules;         /* files with the same ending beside it and in folders below belong to it */
};

/* Of what they hold; a file that cannot be read counts as such. */
uint64_t wr_content_print(const struct wr_content_file *list);
/* Of their places, times and sizes, through symbolic links: changes where the content may have. Reads no
 * file. */
uint64_t wr_content_stamp(const struct wr_content_file *list);

#endif
