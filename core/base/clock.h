/* SPDX-License-Identifier: Apache-2.0
 *
 * base/clock.h: the one source of time, timed waits and chance. Tests put a clock of their own in.
 */
#ifndef WR_BASE_CLOCK_H
#define WR_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>

struct wr_clock {
    int64_t (*now)(struct wr_clock *c);    /* monotonic ns; the scale of deadlines */
    int64_t (*wall)(struct wr_clock *c);   /* ns since the epoch */
    uint64_t (*random)(struct wr_clock *c);
    /* Waits on cond (made by wr_cond_init) until signaled or the deadline. Spurious wake-ups are
     * allowed. */
    void (*wait)(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held, int64_t deadline);
};

/* The real one. Thread: any. */
struct wr_clock *wr_clock_system(void);

static inline int64_t wr_now(struct wr_clock *c)
{
    return c->now(c);
}

/* ns that the calling thread has computed; 0 by any clock but the system's. */
int64_t wr_clock_cpu(const struct wr_clock *c);

/* A condition variable on the monotonic clock. */
void wr_cond_init(pthread_cond_t *cond);

#endif
