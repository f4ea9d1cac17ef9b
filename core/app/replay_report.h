/* SPDX-License-Identifier: Apache-2.0
 *
 * app/replay_report.h: what `weir replay` says at its end.
 */
#ifndef WR_APP_REPLAY_REPORT_H
#define WR_APP_REPLAY_REPORT_H

#include <base/buf.h>
#include <engine/replay.h>

/* Lines for people. */
void wr_replay_report_text(struct wr_replay *r, struct weir_str pipeline, struct wr_buf *out);
/* One JSON object with the same facts, and a line end. */
void wr_replay_report_json(struct wr_replay *r, struct weir_str pipeline, struct wr_buf *out);
/* Everything that was to be replayed got through. */
bool wr_replay_report_is_good(struct wr_replay *r);

#endif
