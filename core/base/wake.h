/* SPDX-License-Identifier: Apache-2.0
 *
 * base/wake.h: how one thread makes another, that waits for several things, look again.
 *
 * Sticky: a signal while the owner is busy makes its next wait return at once. Signals cost one atomic
 * exchange while one is pending already or the owner does not sleep. The owner sleeps on the
 * condition variable in here, or inside a plugin call that `hook` can end.
 */
#ifndef WR_BASE_WAKE_H
#define WR_BASE_WAKE_H

#include <base/clock.h>
#include <stdatomic.h>
#include <stdbool.h>

struct wr_wake {
    _Atomic int pending;
    _Atomic int sleeping; /* enum below */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    void (*hook)(void *arg);
    void *arg;
};

/* hook may be NULL: then wr_wake_enter is not used. */
void wr_wake_init(struct wr_wake *w, void (*hook)(void *arg), void *arg);
void wr_wake_done(struct wr_wake *w);
/* Thread: any. */
void wr_wake_signal(struct wr_wake *w);

/* The owner's side. What was signaled before is about to be looked at. */
void wr_wake_clear(struct wr_wake *w);
static inline bool wr_wake_is_pending(const struct wr_wake *w)
{
    return atomic_load_explicit(&w->pending, memory_order_relaxed) != 0;
}
/* Sleeps until a signal or the deadline; returns at once if one is pending. */
void wr_wake_wait(struct wr_wake *w, struct wr_clock *clock, int64_t deadline);
/* Brackets a plugin call that waits. False: a signal is pending, do not wait in it. No hook runs any more
 * once leave has returned. */
bool wr_wake_enter(struct wr_wake *w);
void wr_wake_leave(struct wr_wake *w);

#endif
