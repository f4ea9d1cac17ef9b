/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/host.h: the host table that a plugin sees, filled for an instance.
 */
#ifndef WR_ENGINE_HOST_H
#define WR_ENGINE_HOST_H

#include <base/clock.h>
#include <weir/host.h>

struct wr_instance;

/* Fills inst->host; the rest of inst is set already. */
void wr_host_init(struct wr_instance *inst);
/* What a type's check() and probe() get: errors, memory, values, literal templates, time. The
 * functions that need a running instance are NULL. Good for ever. */
const struct weir_host *wr_host_control(void);

#endif
