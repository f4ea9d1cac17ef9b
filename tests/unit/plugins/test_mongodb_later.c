/* SPDX-License-Identifier: Apache-2.0
 *
 * Time limits of the sink mongodb: waits end at their deadline or when they are canceled, and a
 * call that keeps to no time is left behind and cleaned up when it ends.
 */
#include <engine/host.h>
#include <fcntl.h>
#include <time.h>

#include "../../../plugins/mongodb/later.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct weir_host host;

static int64_t now(const struct weir_host *h)
{
    struct timespec ts;
    (void)h;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * WEIR_NS_PER_S + ts.tv_nsec;
}

static struct patience patience_of(int64_t ns, int cancel_fd)
{
    return (struct patience){&host, ns == WEIR_NEVER ? WEIR_NEVER : now(NULL) + ns, cancel_fd};
}

/* Ends when `gate` can be read. */
struct slow {
    int gate;
    int result;
    atomic_int *dropped;
};

static void slow_run(void *arg)
{
    struct slow *s = arg;
    struct pollfd fd = {s->gate, POLLIN, 0};
    (void)poll(&fd, 1, -1);
    s->result = 42;
}

static void slow_drop(void *take_arg)
{
    struct slow *s = take_arg;
    atomic_fetch_add(s->dropped, s->result == 42 ? 1 : 100);
    host.free(s);
}

static struct slow *slow_new(int gate, atomic_int *dropped)
{
    struct slow *s = host.alloc(sizeof(*s));
    s->gate = gate;
    s->dropped = dropped;
    return s;
}

static void open_gate(int fd)
{
    const uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void test_a_call_that_ends(void **state)
{
    (void)state;
    atomic_int dropped = 0;
    int gate = eventfd(1, EFD_CLOEXEC);
    for (int i = 0; i < 200; i++) {
        struct slow *s = slow_new(gate, &dropped);
        struct patience p = patience_of(WEIR_NEVER, -1);
        assert_int_equal(later_run(&p, slow_run, slow_drop, s), 0);
        assert_int_equal(s->result, 42);
        assert_int_equal(atomic_load(&dropped), 0);
        host.free(s);
    }
    close(gate);
}

static void *cancel_soon(void *arg)
{
    const struct timespec ts = {0, 20000000};
    nanosleep(&ts, NULL);
    open_gate(*(int *)arg);
    return NULL;
}

static void wait_for(atomic_int *n, int value)
{
    const struct timespec ts = {0, 1000000};
    for (int i = 0; i < 20000 && atomic_load(n) < value; i++)
        nanosleep(&ts, NULL);
    assert_int_equal(atomic_load(n), value);
}

static void test_a_call_that_does_not_end(void **state)
{
    (void)state;
    atomic_int dropped = 0;
    int gate = eventfd(0, EFD_CLOEXEC), cancel = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    struct patience p = patience_of(10 * WEIR_NS_PER_MS, cancel);
    assert_int_equal(later_run(&p, slow_run, slow_drop, slow_new(gate, &dropped)), ETIMEDOUT);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
    p = patience_of(WEIR_NEVER, cancel);
    assert_int_equal(later_run(&p, slow_run, slow_drop, slow_new(gate, &dropped)), ECANCELED);
    pthread_join(thread, NULL);
    assert_int_equal(later_run(&p, slow_run, slow_drop, slow_new(gate, &dropped)), ECANCELED);
    assert_int_equal(atomic_load(&dropped), 0);
    open_gate(gate);
    wait_for(&dropped, 3);
    close(gate);
    close(cancel);
}

/* Deadline and end at the same moment: one side has it, never both, never none. */
static void test_a_call_that_ends_at_its_deadline(void **state)
{
    (void)state;
    atomic_int dropped = 0;
    int taken = 0;
    int gate = eventfd(1, EFD_CLOEXEC);
    for (int i = 0; i < 500; i++) {
        struct slow *s = slow_new(gate, &dropped);
        struct patience p = patience_of(i * 1000, -1);
        if (later_run(&p, slow_run, slow_drop, s) != 0)
            continue;
        taken++;
        host.free(s);
    }
    wait_for(&dropped, 500 - taken);
    close(gate);
}

static void test_waiting(void **state)
{
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC), cancel = eventfd(0, EFD_CLOEXEC);
    struct patience p = patience_of(WEIR_NEVER, cancel);
    assert_int_equal(patience_over(&p), 0);
    assert_int_equal(patience_wait(&p, fd, POLLIN, 0), ETIMEDOUT);
    assert_int_equal(patience_wait(&p, fd, POLLIN, 5), ETIMEDOUT);
    assert_int_equal(patience_wait(&p, fd, POLLOUT, -1), 0);
    p = patience_of(5 * WEIR_NS_PER_MS, cancel);
    assert_int_equal(patience_wait(&p, fd, POLLIN, 3600000), ETIMEDOUT);
    assert_int_equal(patience_over(&p), ETIMEDOUT);
    assert_int_equal(patience_wait(&p, fd, POLLOUT, -1), 0); /* what is there is taken */
    open_gate(cancel);
    assert_int_equal(patience_over(&p), ECANCELED);
    assert_int_equal(patience_wait(&p, fd, POLLOUT, -1), ECANCELED);
    close(fd);
    close(cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_that_ends),
        cmocka_unit_test(test_a_call_that_does_not_end),
        cmocka_unit_test(test_a_call_that_ends_at_its_deadline),
        cmocka_unit_test(test_waiting),
    };
    host = *wr_host_control();
    host.now = now;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
