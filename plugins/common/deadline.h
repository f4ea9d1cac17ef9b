/* SPDX-License-Identifier: Apache-2.0
 *
 * common/deadline.h: a deadline of the host's clock as poll() takes it.
 */
#ifndef WEIR_COMMON_DEADLINE_H
#define WEIR_COMMON_DEADLINE_H

#include <weir/plugin.h>

/* Milliseconds, rounded up and an hour at most; -1: no deadline. */
static inline int poll_timeout_ms(const struct weir_host *h, int64_t deadline_ns)
{
    if (deadline_ns == WEIR_NEVER)
        return -1;
    int64_t left_ns = deadline_ns - h->now(h);
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    return ms > 3600000 ? 3600000 : (int)ms;
}

#endif
