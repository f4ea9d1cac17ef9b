/* SPDX-License-Identifier: Apache-2.0
 *
 * The budget; see budget.h. Before memory counts as short, what recycles freed memory has to give it back:
 * the pool, and the allocator's pages that nobody uses.
 */
#include <base/budget.h>

#include <base/count.h>
#include <base/pool.h>

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELD_MAX ((size_t)256 << 20)
#define PURGE_PAUSE_NS INT64_C(100000000)
#define ALL_ARENAS_PURGE "arena.4096.purge" /* MALLCTL_ARENAS_ALL */

/* jemalloc's, where the program has it. */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
    __attribute__((weak));

static size_t limit_bytes;
static struct wr_count uses[WR_BUDGET_USES];
static _Atomic(const char *) names[WR_BUDGET_USES] = {"events"};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of names, and of a look */
static int64_t purge_after_ns;
static _Atomic int64_t next_look_ns;
static _Atomic int is_short;
static _Atomic uint64_t n_shortages;

void wr_budget_set(size_t limit)
{
    limit_bytes = limit;
    purge_after_ns = 0;
    atomic_store(&next_look_ns, 0);
    atomic_store(&is_short, 0);
    wr_pool_bound(limit != 0 ? limit / 128 : SIZE_MAX);
}

size_t wr_budget_limit(void)
{
    return limit_bytes;
}

size_t wr_budget_held_max(void)
{
    return limit_bytes != 0 && limit_bytes / 4 < HELD_MAX ? limit_bytes / 4 : HELD_MAX;
}

/* ---- Uses ---- */

uint32_t wr_budget_use(const char *name)
{
    uint32_t i = 0;
    pthread_mutex_lock(&mutex);
    for (; i < WR_BUDGET_USES - 1; i++) {
        const char *known = atomic_load(&names[i]);
        if (known == NULL || strcmp(known, name) == 0)
            break;
    }
    if (atomic_load(&names[i]) == NULL)
        atomic_store(&names[i], name);
    pthread_mutex_unlock(&mutex);
    return i;
}

const char *wr_budget_use_name(uint32_t use)
{
    return use < WR_BUDGET_USES ? atomic_load(&names[use]) : NULL;
}

void wr_budget_charge(uint32_t use, int64_t bytes)
{
    wr_count_add(&uses[use], bytes);
}

size_t wr_budget_used(uint32_t use)
{
    int64_t sum = wr_count_sum(&uses[use]);
    return sum > 0 ? (size_t)sum : 0;
}

/* ---- Short ---- */

size_t wr_budget_resident(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *second = strchr(text, ' ');
    return second != NULL ? (size_t)strtoull(second, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

static void give_back(void)
{
    wr_pool_trim();
    if (mallctl != NULL)
        (void)mallctl(ALL_ARENAS_PURGE, NULL, NULL, NULL, 0);
    else
        (void)malloc_trim(0);
}

/* One thread at a time. */
static void look(int64_t now)
{
    size_t high = limit_bytes - limit_bytes / 8, low = high - limit_bytes / 16;
    size_t resident = wr_budget_resident();
    if (resident >= high && now >= purge_after_ns) {
        give_back();
        purge_after_ns = now + PURGE_PAUSE_NS;
        resident = wr_budget_resident();
    }
    bool was = atomic_load(&is_short) != 0, is = resident >= (was ? low : high);
    if (is && !was)
        atomic_fetch_add(&n_shortages, 1);
    atomic_store(&is_short, is);
}

bool wr_budget_short(int64_t now)
{
    if (limit_bytes == 0)
        return false;
    if (now >= atomic_load_explicit(&next_look_ns, memory_order_relaxed) &&
        pthread_mutex_trylock(&mutex) == 0) {
        if (now >= atomic_load(&next_look_ns)) {
            look(now);
            atomic_store(&next_look_ns, now + WR_BUDGET_LOOK_NS);
        }
        pthread_mutex_unlock(&mutex);
    }
    return atomic_load_explicit(&is_short, memory_order_relaxed) != 0;
}

uint64_t wr_budget_shortages(void)
{
    return atomic_load(&n_shortages);
}
