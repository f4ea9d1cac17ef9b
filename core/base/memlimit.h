/* SPDX-License-Identifier: Apache-2.0
 *
 * base/memlimit.h: how much memory the system lets this process have.
 */
#ifndef WR_BASE_MEMLIMIT_H
#define WR_BASE_MEMLIMIT_H

#include <stdint.h>

/* The smallest limit of the control group of this process and of all above it: memory.max and memory.high
 * of version 2, memory.limit_in_bytes of version 1. 0: there is none, or it cannot be read. `root` stands
 * in front of every path: "" but in tests. */
uint64_t wr_memlimit_cgroup(const char *root);
/* Memory of the machine; 0: it cannot be read. */
uint64_t wr_memlimit_machine(const char *root);

#endif
