/* SPDX-License-Identifier: Apache-2.0
 *
 * app/process.h: this process: who may look into its memory, and its metrics under the names that every
 * exporter gives them, so without weir's prefix: process_resident_memory_bytes and the like.
 */
#ifndef WR_APP_PROCESS_H
#define WR_APP_PROCESS_H

#include <base/buf.h>

/* Memory holds passwords and events. The kernel then gives it to nobody but root: no core dump, whatever the
 * limits and the core pattern say, no debugger, no /proc/PID/environ for other processes of the same user. */
void wr_process_close_memory(void);

/* Adds their Prometheus text. What the system does not tell is left out. Thread: any. */
void wr_process_metrics(struct wr_buf *out);

#endif
