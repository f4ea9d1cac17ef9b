/* SPDX-License-Identifier: Apache-2.0
 *
 * The system's clock. The generator is splitmix64 over a process-wide counter that starts at random:
 * good for jitter and ids' random parts, not for secrets.
 */
#include <base/clock.h>

#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t system_now(struct wr_clock *c)
{
    (void)c;
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t system_wall(struct wr_clock *c)
{
    (void)c;
    return read_clock(CLOCK_REALTIME);
}

static uint64_t random_start(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = (uint64_t)read_clock(CLOCK_REALTIME);
    return seed | 1; /* never 0, which stands for "not seeded" */
}

static uint64_t system_random(struct wr_clock *c)
{
    static _Atomic uint64_t state;
    (void)c;
    if (atomic_load_explicit(&state, memory_order_relaxed) == 0) {
        uint64_t unset = 0;
        atomic_compare_exchange_strong(&state, &unset, random_start());
    }
    uint64_t z = atomic_fetch_add_explicit(&state, UINT64_C(0x9e3779b97f4a7c15),
                                           memory_order_relaxed);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void system_wait(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held,
                        int64_t deadline)
{
    (void)c;
    if (deadline == INT64_MAX) {
        pthread_cond_wait(cond, held);
        return;
    }
    if (deadline < 0)
        deadline = 0;
    struct timespec ts = {.tv_sec = (time_t)(deadline / NS_PER_S),
                          .tv_nsec = (long)(deadline % NS_PER_S)};
    pthread_cond_timedwait(cond, held, &ts);
}

struct wr_clock *wr_clock_system(void)
{
    static struct wr_clock clock = {system_now, system_wall, system_random, system_wait};
    return &clock;
}

int64_t wr_clock_cpu(const struct wr_clock *c)
{
    return c == wr_clock_system() ? read_clock(CLOCK_THREAD_CPUTIME_ID) : 0;
}

void wr_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}
