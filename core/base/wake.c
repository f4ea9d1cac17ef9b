/* SPDX-License-Identifier: Apache-2.0
 *
 * `pending` is set before `sleeping` is read by the signaler, and the other way round by the owner, both
 * sequentially consistent: at least one of them sees the other.
 *
 * The hook runs under the mutex, and leave() takes it: what the hook looks at (a sink that is closed and
 * opened anew) may go once the bracket is left.
 */
#include <base/wake.h>

enum { AWAKE, ON_COND, IN_HOOK };

void wr_wake_init(struct wr_wake *w, void (*hook)(void *arg), void *arg)
{
    atomic_init(&w->pending, 0);
    atomic_init(&w->sleeping, AWAKE);
    pthread_mutex_init(&w->mutex, NULL);
    wr_cond_init(&w->cond);
    w->hook = hook;
    w->arg = arg;
}

void wr_wake_done(struct wr_wake *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->mutex);
}

void wr_wake_signal(struct wr_wake *w)
{
    if (atomic_exchange(&w->pending, 1) != 0)
        return;
    switch (atomic_load(&w->sleeping)) {
    case ON_COND:
        /* Once the mutex is ours the owner waits, or has seen `pending`. The signal comes behind it: the
         * owner would only wake up to wait for the mutex. */
        pthread_mutex_lock(&w->mutex);
        pthread_mutex_unlock(&w->mutex);
        pthread_cond_signal(&w->cond);
        break;
    case IN_HOOK:
        pthread_mutex_lock(&w->mutex);
        if (atomic_load(&w->sleeping) == IN_HOOK)
            w->hook(w->arg);
        pthread_mutex_unlock(&w->mutex);
        break;
    default:
        break;
    }
}

/* An exchange and no store: it reads what the last signal wrote, so all that came before that signal is
 * seen, also of a signaler who found `pending` set already. */
void wr_wake_clear(struct wr_wake *w)
{
    (void)atomic_exchange(&w->pending, 0);
}

void wr_wake_wait(struct wr_wake *w, struct wr_clock *clock, int64_t deadline)
{
    pthread_mutex_lock(&w->mutex);
    atomic_store(&w->sleeping, ON_COND);
    while (atomic_load(&w->pending) == 0 && clock->now(clock) < deadline)
        clock->wait(clock, &w->cond, &w->mutex, deadline);
    atomic_store(&w->sleeping, AWAKE);
    pthread_mutex_unlock(&w->mutex);
}

bool wr_wake_enter(struct wr_wake *w)
{
    atomic_store(&w->sleeping, IN_HOOK);
    if (atomic_load(&w->pending) == 0)
        return true;
    wr_wake_leave(w);
    return false;
}

void wr_wake_leave(struct wr_wake *w)
{
    pthread_mutex_lock(&w->mutex);
    atomic_store(&w->sleeping, AWAKE);
    pthread_mutex_unlock(&w->mutex);
}
