/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/later.h: how long a call may take, and calls that keep to no time: name servers are asked
 * on a thread that can be left behind.
 */
#ifndef MONGODB_LATER_H
#define MONGODB_LATER_H

#include <weir/plugin.h>

/* Until when the running call may wait. cancel_fd becomes readable when it must end at once; -1:
 * never. One thread uses it; only cancel_fd is written by others. */
struct patience {
    const struct weir_host *h;
    int64_t deadline_ns;
    int cancel_fd;
};

/* Milliseconds until a deadline, rounded up, at most an hour. */
int patience_ms(const struct patience *p, int64_t deadline_ns);

/* 0, ETIMEDOUT or ECANCELED: whether there is time left. */
int patience_over(const struct patience *p);

/* Waits until the descriptor has one of these poll events, for at most `ms` (-1: no limit of its
 * own). 0, or ETIMEDOUT, ECANCELED or another errno. */
int patience_wait(const struct patience *p, int fd, short events, int32_t ms);

/* Calls run(arg) on a thread of its own. 0: it has run, and arg is the caller's again. Else an
 * errno, and drop(arg) is called when it has ended; both may use nothing of the host but memory. */
int later_run(const struct patience *p, void (*run)(void *arg), void (*drop)(void *take_arg),
              void *take_arg);

#endif
