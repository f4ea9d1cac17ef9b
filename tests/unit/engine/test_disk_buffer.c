/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk buffer as the engine sees it, turned by hand: when a source hears, what happens when it is full or
 * its disk fails, what stays in memory, what an end keeps. Random faults are in test_disk_property.c.
 */
#include "disk_rig.h"

#include <errno.h>

static int fail_with; /* errno of writes and syncs, 0 = they work */
static uint32_t n_syncs;

ssize_t __real_pwrite(int fd, const void *p, size_t len, off_t at);
int __real_fdatasync(int fd);
ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pwrite(int fd, const void *p, size_t len, off_t at)
{
    if (fail_with != 0 && len >= WR_SEGMENT_HEAD) { /* the cursor has its room */
        errno = fail_with;
        return -1;
    }
    return __real_pwrite(fd, p, len, at);
}

int __wrap_fdatasync(int fd)
{
    (void)fd;
    n_syncs++;
    return 0;
}

static int begin(void **state)
{
    (void)state;
    fail_with = 0;
    n_syncs = 0;
    disk_rig_init(1, 1 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    disk_rig_done();
    return 0;
}

static double told(const char *metric, enum wr_metric_type type)
{
    return wr_metric_value(wr_metric(disk.metrics, type, metric, "", NULL, 0));
}

/* ---- Durable, then delivered ---- */

static void a_source_hears_when_it_is_durable(void **state)
{
    (void)state;
    disk_open();
    assert_true(disk_push_events(5));
    wr_acks_collect(disk.acks);
    assert_int_equal(disk.outcome[0], 0);
    assert_null(wr_buffer_take(disk.buf));
    disk_turn();
    assert_int_equal(n_syncs, 1);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(disk.outcome[i], WEIR_DELIVERED + 1);
    assert_int_equal(disk.n_filled, 1);
    assert_int_equal(disk_deliver_all(0), 5);
    disk_close();
    assert_int_equal(disk_files("0000", NULL), 0); /* all has ended */
}

static void one_sync_is_for_all_that_came_meanwhile(void **state)
{
    (void)state;
    disk_open();
    (void)disk_push_events(1);
    disk_turn();
    assert_int_equal(n_syncs, 1);
    for (int i = 0; i < 5; i++) {
        (void)disk_push_events(3);
        disk.now += WEIR_NS_PER_MS;
        disk_turn();
    }
    assert_int_equal(n_syncs, 1); /* the time has not come */
    disk.now += 10 * WEIR_NS_PER_MS;
    disk_turn();
    assert_int_equal(n_syncs, 2);
    assert_int_equal(disk.outcome[15], WEIR_DELIVERED + 1);
    assert_int_equal(disk_deliver_all(0), 16);
    disk_close();
}

static void an_envelope_ends_as_dead_lettered(void **state)
{
    (void)state;
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 1);
    struct weir_event ev = event_of(0, &body->arena);
    disk_open();
    ev.flags = WR_EVENT_DEAD;
    ev.host_ack = wr_acks_child(disk.acks, NULL, 0, &disk, disk.next++);
    (void)wr_batch_append(b, &ev);
    wr_body_unref(body);
    assert_true(wr_buffer_push(disk.buf, b, disk.now, &disk.waiter));
    disk_turn();
    assert_int_equal(disk.outcome[0], WEIR_DEAD_LETTERED + 1);
    disk_close();
    disk_open();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    assert_int_equal(wr_batch_events(entry->batch)[0].flags, WR_EVENT_DEAD);
    disk_settle_all(entry, WEIR_DEAD_LETTERED);
    disk_close();
}

/* ---- Restarts ---- */

static void what_has_not_ended_comes_again(void **state)
{
    (void)state;
    disk_open();
    (void)disk_push_events(10);
    disk_turn();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    for (uint32_t i = 0; i < 10; i++) /* 0 to 3 and 7 end; the cursor goes up to 4 */
        disk_settle_event(entry, i, i < 4 || i == 7 ? WEIR_DELIVERED : WEIR_FAILED);
    disk_close();
    disk_open();
    assert_int_equal(atomic_load(&disk.buf->events), 6);
    assert_int_equal(disk_deliver_all(4), 6);
    disk_close();
    disk_open();
    assert_null(wr_buffer_take(disk.buf));
    disk_close();
}

static void a_backlog_comes_back_in_its_order(void **state)
{
    (void)state;
    disk_open();
    uint64_t n = disk_fill();
    assert_true(n > 500);
    disk_close();
    disk_open();
    assert_int_equal(disk_deliver_all(0), n);
    assert_int_equal(atomic_load(&disk.buf->events), 0);
    disk_close();
}

static void values_are_there_for_sinks_that_need_them(void **state)
{
    (void)state;
    disk.opt.needs = WEIR_NEEDS_VALUE;
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 3);
    static const char *const payloads[] = {"{\"a\":1}", "no json", "{\"a\":2}"};
    for (int i = 0; i < 3; i++) {
        struct weir_event ev = {.payload = weir_cstr(payloads[i]), .id = weir_cstr("i")};
        (void)wr_batch_append(b, &ev);
    }
    wr_body_unref(body);
    disk_open();
    assert_true(wr_buffer_push(disk.buf, b, disk.now, &disk.waiter));
    disk_turn();
    disk_close();
    disk_open();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    const struct weir_event *events = wr_batch_events(entry->batch);
    assert_int_equal(wr_value_int(wr_value_get(events[0].value, weir_cstr("a"))), 1);
    assert_null(events[1].value); /* the outlet rejects it */
    assert_int_equal(wr_value_int(wr_value_get(events[2].value, weir_cstr("a"))), 2);
    disk_settle_all(entry, WEIR_DELIVERED);
    disk_close();
}

static void time_on_the_disk_counts_as_time_under_way(void **state)
{
    (void)state;
    disk_open();
    (void)disk_push_events(1);
    disk_turn();
    disk_close();
    disk.now += 5 * WEIR_NS_PER_S;
    disk_open();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    assert_int_equal(disk.now - entry->batch->entered_ns, 5 * WEIR_NS_PER_S);
    disk_settle_all(entry, WEIR_DELIVERED);
    disk_close();
}

/* ---- Full ---- */

static void a_full_buffer_makes_the_lane_wait(void **state)
{
    (void)state;
    disk_open();
    uint64_t n = disk_fill();
    assert_int_equal(atomic_load(&disk.buf->wanted), 1);
    assert_true(told("buffer_disk_bytes", WR_GAUGE) == 0); /* set by a scrape */
    struct wr_buf text = {0};
    wr_metrics_print(disk.metrics, &text);
    wr_buf_done(&text);
    assert_true(told("buffer_disk_bytes", WR_GAUGE) > 0.8 * (1 << 20));
    assert_true(told("buffer_disk_bytes", WR_GAUGE) <= 1 << 20);
    assert_true(told("buffer_segments", WR_GAUGE) > 8);
    disk.n_room = 0;
    assert_int_equal(disk_deliver_all(0), n);
    assert_true(disk.n_room > 0);
    assert_int_equal(atomic_load(&disk.buf->wanted), 0);
    assert_true(disk_push_events(10));
    disk_turn();
    assert_int_equal(disk_deliver_all(n), 10);
    disk_close();
}

static void an_empty_one_takes_any_batch(void **state)
{
    (void)state;
    disk.opt.size = 2000;
    disk_open();
    assert_true(disk_push_events(100));
    disk_turn();
    assert_false(disk_push_events(1));
    assert_int_equal(disk_deliver_all(0), 100);
    disk_close();
    assert_int_equal(disk.outcome[100], WEIR_FAILED + 1); /* that was the test */
}

static void the_newest_go_where_the_user_wants_that(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    disk_open();
    for (int i = 0; i < 400; i++) {
        assert_true(disk_push_events(10));
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    uint64_t kept = 0, dropped = 0;
    for (uint64_t i = 0; i < disk.next; i++) {
        kept += disk.outcome[i] == WEIR_DELIVERED + 1;
        dropped += disk.outcome[i] == WEIR_DROPPED + 1;
    }
    assert_int_equal(kept + dropped, 4000);
    assert_int_equal(disk.discarded[0], dropped);
    assert_true(dropped > 1000 && kept > 500);
    assert_int_equal(atomic_load(&disk.buf->events), kept);
    disk_close();
}

static void the_oldest_go_where_the_user_wants_that(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    (void)disk_push_events(10);
    disk_turn();
    struct wr_entry *entry = wr_buffer_take(disk.buf); /* under way: it must outlive a crash */
    for (int i = 0; i < 400; i++) {
        assert_true(disk_push_events(10));
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    assert_true(disk.discarded[0] > 1000);
    assert_int_equal(disk.outcome[4000], WEIR_DELIVERED + 1);
    disk_settle_all(entry, WEIR_DELIVERED);
    uint64_t dropped = disk.discarded[0];
    assert_int_equal(disk_deliver_all(10 + dropped), 4000 - dropped);
    assert_int_equal(disk.discarded[0], dropped);
    disk_close();
}

static void what_is_under_way_is_not_dropped_with_the_oldest(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_OLDEST;
    disk_open();
    (void)disk_push_events(10);
    disk_turn();
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    for (int i = 0; i < 400; i++) {
        assert_true(disk_push_events(10));
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    disk_settle_all(entry, WEIR_FAILED);
    disk_close();
    disk_open();
    entry = wr_buffer_take(disk.buf);
    assert_int_equal(check_event(&wr_batch_events(entry->batch)[0]), 0);
    disk_settle_all(entry, WEIR_DELIVERED);
    disk_close();
}

/* ---- A disk that fails ---- */

static void a_full_disk_is_a_full_buffer(void **state)
{
    (void)state;
    disk.opt.size = (size_t)100 << 20;
    disk_open();
    (void)disk_push_events(5);
    disk_turn();
    fail_with = ENOSPC;
    (void)disk_push_events(5);
    for (int i = 0; i < 100; i++) {
        disk.now += WEIR_NS_PER_S;
        disk_turn();
    }
    assert_int_equal(disk.outcome[5], 0); /* neither delivered nor failed */
    struct wr_label label = {"error", weir_cstr("ENOSPC")};
    double errors = wr_metric_value(wr_metric(disk.metrics, WR_COUNTER, "buffer_errors_total", "", &label, 1));
    assert_true(errors > 10 && errors < 60); /* it waits longer each time */
    while (disk_push_events(100))
        continue; /* until the memory for what waits is full: then the lane waits */
    fail_with = 0;
    for (int i = 0; i < 100; i++) {
        disk.now += WEIR_NS_PER_S;
        disk_turn();
    }
    assert_int_equal(disk.outcome[5], WEIR_DELIVERED + 1);
    assert_true(disk.n_room > 0);
    disk_close();
}

static void a_full_disk_drops_the_newest_where_the_user_wants_that(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    disk_open();
    fail_with = ENOSPC;
    (void)disk_push_events(5);
    disk_turn();
    assert_int_equal(disk.outcome[0], WEIR_DROPPED + 1);
    assert_int_equal(disk.discarded[0], 5);
    (void)disk_push_events(5);
    disk_turn(); /* nobody waits for the next try */
    assert_int_equal(disk.outcome[5], WEIR_DROPPED + 1);
    fail_with = 0;
    disk.now += WEIR_NS_PER_S;
    (void)disk_push_events(5);
    disk_turn();
    assert_int_equal(disk.outcome[10], WEIR_DELIVERED + 1);
    assert_int_equal(disk.discarded[0], 10);
    disk_close();
}

static void a_disk_that_fails_is_not_full(void **state)
{
    (void)state;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    disk_open();
    fail_with = EIO;
    (void)disk_push_events(5);
    disk_turn();
    assert_int_equal(disk.outcome[0], 0);
    fail_with = 0;
    disk.now += WEIR_NS_PER_S;
    disk_turn();
    assert_int_equal(disk.outcome[0], WEIR_DELIVERED + 1);
    assert_int_equal(disk.discarded[0], 0);
    disk_close();
}

/* Pushes until the memory for what waits is full; the last push waits for room then. */
static void fill_memory(void)
{
    while (disk_push_events(100))
        continue;
    assert_true(disk.waiter.queued);
    disk.n_room = 0;
}

static void what_a_full_disk_drops_makes_room(void **state)
{
    (void)state;
    disk.opt.size = (size_t)100 << 20;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    disk_open();
    fail_with = ENOSPC;
    fill_memory();
    disk_turn();
    assert_true(disk.discarded[0] > 1000);
    assert_int_equal(disk.n_room, 1);
    fail_with = 0;
    disk_close();
}

static void who_waits_for_memory_is_called_where_the_disk_is_full_by_then(void **state)
{
    (void)state;
    disk.opt.size = (size_t)100 << 20;
    disk.opt.when_full = WR_FULL_DROP_NEWEST;
    disk_open();
    fill_memory();
    wr_disk_of(disk.buf)->opt.size = 1 << 20;
    disk_turn();
    assert_int_equal(disk.n_room, 1); /* its next push drops */
    disk_close();
}

static void at_the_deadline_what_is_not_durable_fails(void **state)
{
    (void)state;
    disk_open();
    fail_with = ENOSPC;
    (void)disk_push_events(5);
    disk_turn();
    assert_int_equal(disk.outcome[0], 0);
    disk.buf->ops->give_up(disk.buf);
    disk_turn();
    assert_int_equal(disk.outcome[0], WEIR_FAILED + 1);
    fail_with = 0;
    (void)disk_push_events(5); /* what comes then is stored if it can be */
    disk.now += WEIR_NS_PER_S;
    disk_turn();
    assert_int_equal(disk.outcome[5], WEIR_DELIVERED + 1);
    disk_close();
}

/* ---- Memory ---- */

static void a_long_backlog_needs_no_more_memory(void **state)
{
    (void)state;
    disk.opt.size = (size_t)200 << 20;
    disk_open();
    size_t before = wr_mem_used();
    for (int i = 0; i < 700; i++) {
        assert_true(disk_push_events(100));
        disk.now += 20 * WEIR_NS_PER_MS;
        disk_turn();
    }
    assert_true(atomic_load(&disk.buf->bytes) > (size_t)40 << 20);
    assert_true(wr_mem_used() - before < (size_t)28 << 20);
    struct wr_entry *taken[2000];
    uint32_t n = 0; /* an outlet that takes and takes gets no more than that either */
    while (n < 2000 && (taken[n] = wr_buffer_take(disk.buf)) != NULL)
        n++;
    assert_true(n > 10 && n < 700);
    assert_true(wr_mem_used() - before < (size_t)40 << 20);
    for (uint32_t i = 0; i < n; i++)
        disk_settle_all(taken[i], WEIR_FAILED);
    disk_close();
    disk_open();
    assert_int_equal(disk_deliver_all(0), 70000);
    disk_close();
}

static void its_share_of_memory_is_kept(void **state)
{
    (void)state;
    disk.opt.memory = 2 << 20;
    disk_open();
    fail_with = EIO;
    fill_memory();
    assert_true(wr_disk_of(disk.buf)->waiting_memory <= 1 << 20);
    fail_with = 0;
    disk_close();
}

/* ---- Two of them ---- */

static void a_folder_in_use_is_an_error(void **state)
{
    (void)state;
    struct weir_error err = {0};
    disk_open();
    assert_null(wr_buffer_disk(&disk.opt, disk_filled, NULL, &err));
    assert_string_equal(err.code, "locked");
    disk_close();
    disk_open();
    disk_close();
}

static void an_event_whose_stream_has_a_new_owner_is_left_out(void **state)
{
    (void)state;
    struct weir_origin origin = {weir_cstr("t"), 0};
    struct weir_stream *stream = wr_stream_open(disk.acks, &origin, NULL);
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 2);
    for (uint64_t i = 0; i < 2; i++) {
        struct weir_event ev = event_of(disk.next++, &body->arena);
        ev.stream = i == 0 ? stream : NULL;
        (void)wr_batch_append(b, &ev);
    }
    wr_body_unref(body);
    assert_true(wr_acks_enter(disk.acks, b, disk.now));
    disk_open();
    assert_true(wr_buffer_push(disk.buf, b, disk.now, &disk.waiter));
    wr_stream_close(stream);
    disk_turn();
    assert_int_equal(disk.discarded[2], 1);
    assert_int_equal(disk_deliver_all(1), 1);
    disk_close();
}

/* The lane refuses such an event before; one that comes all the same is not lost without a word. */
static void an_event_that_is_too_large_fails_alone(void **state)
{
    (void)state;
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 3);
    for (uint64_t i = 0; i < 3; i++) {
        struct weir_event ev = event_of(disk.next, &body->arena);
        ev.host_ack = wr_acks_child(disk.acks, NULL, 0, &disk, disk.next++);
        if (i == 1) {
            ev.host_trace = NULL;
            ev.payload.len = WR_RECORD_MAX; /* nobody looks behind its real end */
        }
        (void)wr_batch_append(b, &ev);
    }
    wr_body_unref(body);
    disk_open();
    assert_true(wr_buffer_push(disk.buf, b, disk.now, &disk.waiter));
    disk_turn();
    assert_int_equal(disk.outcome[0], WEIR_DELIVERED + 1);
    assert_int_equal(disk.outcome[1], WEIR_FAILED + 1);
    assert_int_equal(disk.outcome[2], WEIR_DELIVERED + 1);
    struct wr_entry *entry = wr_buffer_take(disk.buf);
    assert_int_equal(entry->batch->pub.n_events, 2);
    assert_int_equal(check_event(&wr_batch_events(entry->batch)[1]), 2);
    disk_settle_all(entry, WEIR_DELIVERED);
    disk_close();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_source_hears_when_it_is_durable),
        TEST(one_sync_is_for_all_that_came_meanwhile),
        TEST(an_envelope_ends_as_dead_lettered),
        TEST(what_has_not_ended_comes_again),
        TEST(a_backlog_comes_back_in_its_order),
        TEST(values_are_there_for_sinks_that_need_them),
        TEST(time_on_the_disk_counts_as_time_under_way),
        TEST(a_full_buffer_makes_the_lane_wait),
        TEST(an_empty_one_takes_any_batch),
        TEST(the_newest_go_where_the_user_wants_that),
        TEST(the_oldest_go_where_the_user_wants_that),
        TEST(what_is_under_way_is_not_dropped_with_the_oldest),
        TEST(a_full_disk_is_a_full_buffer),
        TEST(a_full_disk_drops_the_newest_where_the_user_wants_that),
        TEST(a_disk_that_fails_is_not_full),
        TEST(what_a_full_disk_drops_makes_room),
        TEST(who_waits_for_memory_is_called_where_the_disk_is_full_by_then),
        TEST(at_the_deadline_what_is_not_durable_fails),
        TEST(a_long_backlog_needs_no_more_memory),
        TEST(its_share_of_memory_is_kept),
        TEST(a_folder_in_use_is_an_error),
        TEST(an_event_that_is_too_large_fails_alone),
        TEST(an_event_whose_stream_has_a_new_owner_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
