/* SPDX-License-Identifier: Apache-2.0
 *
 * Put in front of libc by LD_PRELOAD: the wall clock of this process alone goes wrong by as many nanoseconds
 * as the file $CHAOS_CLOCK says, an int64 that may change at any time. The monotonic clock stays what it is,
 * as it does where a system's clock is set; so do timed waits, which the kernel counts.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static const int64_t *step;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_CLOCK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *p = mmap(NULL, sizeof(*step), PROT_READ, MAP_SHARED, fd, 0);
        step = p != MAP_FAILED ? p : NULL;
        close(fd);
    }
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ts)
{
    /* An allocator may ask before the constructor has run. */
    int code = real != NULL ? real(id, ts) : (int)syscall(SYS_clock_gettime, id, ts);
    if (code != 0 || step == NULL || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
        return code;
    int64_t ns = (int64_t)ts->tv_sec * NS_PER_S + ts->tv_nsec + __atomic_load_n(step, __ATOMIC_RELAXED);
    ts->tv_sec = (time_t)(ns / NS_PER_S);
    ts->tv_nsec = (long)(ns % NS_PER_S);
    return 0;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    *tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}

__attribute__((visibility("default"))) time_t time(time_t *out)
{
    struct timespec ts;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return (time_t)-1;
    if (out != NULL)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
