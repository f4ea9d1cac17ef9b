/* SPDX-License-Identifier: Apache-2.0
 *
 * C11 threads as POSIX threads, for ThreadSanitizer. It follows pthread_create, pthread_mutex_lock and so
 * on, but not the C11 names, which glibc implements beside them: Debian's librdkafka uses those, so that
 * its threads would crash in the sanitizer's malloc and its locks would not count. Preloaded by the
 * tests of a TSan build, never shipped. Build it without the sanitizer:
 *   cc -O1 -g -shared -fPIC -o c11threads.so c11threads.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <threads.h>
#include <stdint.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "mtx_t is a pthread_mutex_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "cnd_t is a pthread_cond_t");
_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "thrd_t is a pthread_t");

struct start {
    thrd_start_t function;
    void *arg;
};

static void *run(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    return (void *)(intptr_t)start.function(start.arg);
}

static int result(int code)
{
    switch (code) {
    case 0:
        return thrd_success;
    case ENOMEM:
        return thrd_nomem;
    case ETIMEDOUT:
        return thrd_timedout;
    case EBUSY:
        return thrd_busy;
    default:
        return thrd_error;
    }
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *arg)
{
    struct start *start = malloc(sizeof(*start));
    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){function, arg};
    int code = pthread_create((pthread_t *)thread, NULL, run, start);
    if (code != 0)
        free(start);
    return result(code);
}

int thrd_join(thrd_t thread, int *code)
{
    void *value = NULL;
    int failed = pthread_join((pthread_t)thread, &value);
    if (failed == 0 && code != NULL)
        *code = (int)(intptr_t)value;
    return result(failed);
}

int thrd_detach(thrd_t thread)
{
    return result(pthread_detach((pthread_t)thread));
}

/* Without the POSIX calls: the sanitizer would take init and destroy for writes that race with the
 * lock, because it cannot see the reference counts that keep them apart. */
int mtx_init(mtx_t *m, int type)
{
    static const pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    *(pthread_mutex_t *)m = (type & mtx_recursive) != 0 ? recursive : plain;
    return thrd_success;
}

void mtx_destroy(mtx_t *m)
{
    (void)m;
}

int mtx_lock(mtx_t *m)
{
    return result(pthread_mutex_lock((pthread_mutex_t *)m));
}

int mtx_trylock(mtx_t *m)
{
    return result(pthread_mutex_trylock((pthread_mutex_t *)m));
}

int mtx_unlock(mtx_t *m)
{
    return result(pthread_mutex_unlock((pthread_mutex_t *)m));
}

int cnd_init(cnd_t *c)
{
    static const pthread_cond_t plain = PTHREAD_COND_INITIALIZER;
    *(pthread_cond_t *)c = plain;
    return thrd_success;
}

void cnd_destroy(cnd_t *c)
{
    (void)c;
}

int cnd_signal(cnd_t *c)
{
    return result(pthread_cond_signal((pthread_cond_t *)c));
}

int cnd_broadcast(cnd_t *c)
{
    return result(pthread_cond_broadcast((pthread_cond_t *)c));
}

int cnd_wait(cnd_t *c, mtx_t *m)
{
    return result(pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m));
}

int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until)
{
    return result(pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, until));
}
