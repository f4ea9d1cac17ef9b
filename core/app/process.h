/* SPDX-License-Identifier: Apache-2.0
 *
 * app/process.h: the metrics of this process under the names that every exporter gives them, so
 * without weir's prefix: process_resident_memory_bytes and the like.
 */
#ifndef WR_APP_PROCESS_H
#define WR_APP_PROCESS_H

#include <base/buf.h>

/* Adds their Prometheus text. What the system does not tell is left out. Thread: any. */
void wr_process_metrics(struct wr_buf *out);

#endif
