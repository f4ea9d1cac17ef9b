/* SPDX-License-Identifier: Apache-2.0
 *
 * Reloads under pressure, on real threads: buffers that are full, sinks whose server is away, lanes that stand
 * in front of what goes. Each test waits until the pipeline stands where it wants it before it reloads. ASan
 * and TSan are the other half of these tests.
 */
#include "reload_rig.h"

#include <dirent.h>
#include <unistd.h>

/* ---- Full buffers ---- */

static void test_lane_waits_at_a_sink_that_goes(void **state)
{
    (void)state;
    is_source(&in, "in", "a b c d");
    is_sink(&out, "out");
    is_sink(&other, "other");
    out.away = true;
    (void)add(&first, &in);
    (void)add_behind(&first, 0, &out);
    (void)add_behind(&first, 0, &other);
    has_no_room(&first, 1);
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &other);
    start(&first);
    EVENTUALLY(is_full(1));
    assert_true(try_reload(&second, let_go_on, &out));
    EVENTUALLY(has_outlets(1));
    EVENTUALLY(has_seen(&other, "a,b,c,d,"));
    finish();
    assert_true(has_seen(&out, "a,b,")); /* all that was in front of it, and no more */
    assert_int_equal(committed(&in), 4);
}

static void test_lane_waits_at_a_sink_that_gets_more_shards(void **state)
{
    (void)state;
    is_source(&in, "in", "a b c d");
    is_sink(&out, "out");
    out.away = true;
    (void)add(&first, &in);
    (void)add_behind(&first, 0, &out);
    has_no_room(&first, 1);
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    second.comps[1].opt.sink.concurrency = 2;
    start(&first);
    EVENTUALLY(is_full(1));
    assert_true(try_reload(&second, let_go_on, &out));
    EVENTUALLY(has_outlets(1)); /* the new one begins behind the end of the old one */
    EVENTUALLY(n_seen(&out) == 4);
    finish();
    assert_int_equal(committed(&in), 4);
}

/* The batch below the one that waits is for a transform that this lane has no more. */
static void test_transform_moves_to_another_source(void **state)
{
    (void)state;
    is_source(&in, "in", "a b");
    is_source(&in2, "in2", "");
    is_transform(&t1, "t1");
    is_transform(&t2, "t2");
    is_sink(&out, "out");
    is_sink(&other, "other");
    out.away = true;
    struct rig *plans[] = {&first, &second};
    for (size_t i = 0; i < 2; i++) {
        struct part *const parts[] = {&in, &in2, &t1, &t2, &out, &other};
        for (size_t k = 0; k < 6; k++)
            (void)add(plans[i], parts[k]);
        has_no_room(plans[i], 4);
        rig_wire(plans[i], 0, 2);
        rig_wire(plans[i], 2, 4);
        rig_wire(plans[i], 3, 5);
    }
    rig_wire(&first, 0, 3);
    rig_wire(&first, 1, 5);
    rig_wire(&second, 1, 3);
    start(&first);
    EVENTUALLY(is_full(4));
    assert_true(has_seen(&other, "a,") || has_seen(&other, ""));
    assert_true(try_reload(&second, let_go_on, &out));
    (void)let_go_on(&out);
    EVENTUALLY(has_seen(&out, "a,b,"));
    EVENTUALLY(has_seen(&other, "a,b,"));
    finish();
    assert_int_equal(committed(&in), 2);
}

/* ---- Dead letters ---- */

/* A sink that refuses all, in front of a sink for dead letters that has no room: one waits there. */
static void begin_refusing(struct rig *r)
{
    is_source(&in, "in", "a b c");
    is_sink(&out, "out");
    is_sink(&dead, "dead");
    out.refuses = dead.away = true;
    (void)add(r, &in);
    (void)add_behind(r, 0, &out);
    dead_letters_to(r, 1, add(r, &dead));
    has_no_room(r, 2);
}

static void test_dead_letters_wait_at_a_sink_that_is_replaced(void **state)
{
    (void)state;
    begin_refusing(&first);
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    dead_letters_to(&second, 1, add(&second, &dead));
    second.comps[2].opt.sink.concurrency = 2;
    start(&first);
    EVENTUALLY(is_full(2));
    assert_true(try_reload(&second, never, NULL)); /* the new one has room, wherever its server is */
    (void)let_go_on(&dead);
    EVENTUALLY(has_outlets(2));
    EVENTUALLY(n_seen(&dead) == 3);
    finish();
    assert_int_equal(committed(&in), 3);
}

static void test_dead_letters_wait_at_another_sink_than_the_next_one(void **state)
{
    (void)state;
    begin_refusing(&first);
    is_sink(&other, "other");
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    uint32_t to = add(&second, &dead);
    has_no_room(&second, to);
    dead_letters_to(&second, 1, add(&second, &other));
    second.comps[to].is_dead_letter = true; /* of somebody else */
    start(&first);
    EVENTUALLY(is_full(2));
    assert_true(try_reload(&second, never, NULL));
    EVENTUALLY(n_seen(&other) == 2);
    assert_false(is_full(to)); /* nobody waits there any more */
    (void)let_go_on(&dead);
    EVENTUALLY(n_seen(&dead) == 1);
    finish();
    assert_int_equal(committed(&in), 3);
}

static void test_dead_letters_wait_though_there_will_be_no_sink_for_them(void **state)
{
    (void)state;
    begin_refusing(&first);
    in.words = "a b";
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    start(&first);
    EVENTUALLY(is_full(2));
    assert_true(try_reload(&second, let_go_on, &dead)); /* what waits goes there first */
    EVENTUALLY(n_seen(&dead) == 2);
    EVENTUALLY(has_outlets(1));
    finish();
    assert_int_equal(committed(&in), 2);
}

/* A sink is gone, in the same reload or before, and then refuses what it still has. */
static void dead_letters_of_one_that_goes(bool together)
{
    is_source(&in, "in", "a");
    is_sink(&out, "out");
    is_sink(&other, "other");
    is_sink(&dead, "dead");
    out.away = true;
    struct rig *plans[] = {&first, &second, &third};
    for (size_t i = 0; i < 3; i++) {
        (void)add(plans[i], &in);
        (void)add_behind(plans[i], 0, &other);
        dead_letters_to(plans[i], 1, add(plans[i], &dead));
    }
    (void)add_behind(&first, 0, &out);
    dead_letters_to(&first, 3, 2);
    third.comps[2].files_print = 1; /* a change of its own options */
    start(&first);
    EVENTUALLY(has_seen(&other, "a,"));
    assert_true(together || try_reload(&second, never, NULL));
    assert_true(try_reload(&third, never, NULL));
    pthread_mutex_lock(&lock);
    out.refuses = true;
    pthread_mutex_unlock(&lock);
    (void)let_go_on(&out);
    EVENTUALLY(n_seen(&dead) == 1);
    EVENTUALLY(has_outlets(2));
    finish();
    assert_int_equal(committed(&in), 1);
}

static void test_dead_letter_sink_changes_while_another_goes(void **state)
{
    (void)state;
    dead_letters_of_one_that_goes(true);
}

static void test_dead_letter_sink_changes_after_another_went(void **state)
{
    (void)state;
    dead_letters_of_one_that_goes(false);
}

/* ---- Memory ---- */

static char folder[256];

static void make_folder(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/weir-reload-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(folder), 0);
}

/* A source with a file of its own, and a buffer on disk in front of a sink. */
static void add_with_disk(struct rig *r, uint64_t print)
{
    (void)add(r, &in);
    (void)add_behind(r, 0, &out);
    r->comps[0].files_print = print;
    struct wr_sink_options *opt = &r->comps[1].opt.sink;
    opt->buffer.type = WR_BUFFER_DISK;
    opt->buffer.path = weir_cstr(folder);
    opt->buffer.sync = WEIR_NS_PER_MS;
    opt->buffer.drain_on_stop = true;
}

static uint32_t users(const struct rig *r)
{
    return atomic_load(&((struct rig *)(uintptr_t)r)->plan.refs);
}

/* The events of a source that is long gone point to texts of its options: the plan that has them stays. */
static void test_plan_stays_as_long_as_its_events(void **state)
{
    (void)state;
    make_folder();
    is_source(&in, "in", "");
    is_sink(&out, "out");
    out.away = out.tells_origin = true;
    add_with_disk(&first, 1);
    add_with_disk(&second, 2);
    add_with_disk(&third, 3);
    start(&first);
    assert_true(try_reload(&second, never, NULL));
    pthread_mutex_lock(&lock);
    in.words = "a";
    pthread_mutex_unlock(&lock);
    EVENTUALLY(committed(&in) == 1); /* the disk has it; its memory waits for the sink */
    assert_true(try_reload(&third, never, NULL));
    EVENTUALLY(has_lanes(1));
    assert_int_equal(users(&second), 2); /* the test, and the batch */
    (void)let_go_on(&out);
    EVENTUALLY(has_seen(&out, "a from a,"));
    EVENTUALLY(users(&second) == 1);
    finish();
    remove_folder();
}

/* A lane is in a final tick when its reload is given up, and still there when the next one begins: the first
 * one's part in it stays whole, and the second one ticks again. */
static void test_reload_after_one_that_was_given_up(void **state)
{
    (void)state;
    is_source(&in, "in", "a");
    is_transform(&t1, "t1");
    is_sink(&out, "out");
    t1.stuck = true;
    (void)add(&first, &in);
    (void)add_behind(&first, 0, &t1);
    (void)add_behind(&first, 1, &out);
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    start(&first);
    EVENTUALLY(has_seen(&out, "a,"));
    assert_false(try_reload(&second, is_stuck, &t1));
    assert_true(try_reload(&second, let_go_on, &t1));
    assert_int_equal(t1.n_final, 2);
    finish();
    assert_int_equal(committed(&in), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lane_waits_at_a_sink_that_goes, begin, end),
        cmocka_unit_test_setup_teardown(test_lane_waits_at_a_sink_that_gets_more_shards, begin, end),
        cmocka_unit_test_setup_teardown(test_transform_moves_to_another_source, begin, end),
        cmocka_unit_test_setup_teardown(test_dead_letters_wait_at_a_sink_that_is_replaced, begin, end),
        cmocka_unit_test_setup_teardown(test_dead_letters_wait_at_another_sink_than_the_next_one, begin, end),
        cmocka_unit_test_setup_teardown(test_dead_letters_wait_though_there_will_be_no_sink_for_them, begin,
                                        end),
        cmocka_unit_test_setup_teardown(test_dead_letter_sink_changes_while_another_goes, begin, end),
        cmocka_unit_test_setup_teardown(test_dead_letter_sink_changes_after_another_went, begin, end),
        cmocka_unit_test_setup_teardown(test_plan_stays_as_long_as_its_events, begin, end),
        cmocka_unit_test_setup_teardown(test_reload_after_one_that_was_given_up, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
