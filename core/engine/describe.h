/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/describe.h: what `weir plugins` prints: types, and all options of one, generated from the
 * option tables.
 */
#ifndef WR_ENGINE_DESCRIBE_H
#define WR_ENGINE_DESCRIBE_H

#include <base/buf.h>
#include <engine/loader.h>

/* All types that a pipeline would get, grouped by kind: name, summary, plugin, version, path. Opens
 * everything that the loader can find. */
void wr_describe_list(struct wr_loader *l, struct wr_buf *out);

/* One type: its options, then those that every component of its kind has. False where type is NULL.
 */
bool wr_describe_type(const struct weir_type *type, struct wr_buf *out, bool markdown);

/* The options at the top of a pipeline file. */
void wr_describe_top(struct wr_buf *out, bool markdown);

#endif
