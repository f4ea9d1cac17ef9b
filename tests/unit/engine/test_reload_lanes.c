/* SPDX-License-Identifier: Apache-2.0
 *
 * Lanes on their way to rest, on real threads: what has left gives something again, and what rests is waited for
 * by others. ASan and TSan are the other half of these tests.
 */
#include "reload_rig.h"

#include <engine/lane_impl.h>

/* ---- A transform of its own ---- */

struct mine {
    const struct weir_host *h;
    struct weir_held *held;
};

static bool gives, heard; /* under `lock` */

static enum weir_status mine_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    struct mine *m = h->alloc(sizeof(*m));
    (void)config;
    (void)err;
    m->h = h;
    *ret_self = m;
    return WEIR_OK;
}

static void mine_close(void *take_self)
{
    struct mine *m = take_self;
    if (m != NULL)
        m->h->free(m);
}

static int64_t mine_interval(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_NS_PER_MS;
}

/* `a` is watched; `w` is held until that has ended, in whichever lane. */
static enum weir_status mine_apply(void *self, struct weir_batch *b, int64_t *again, struct weir_error *err)
{
    struct mine *m = self;
    (void)again;
    (void)err;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        if (wr_str_is(ev->payload, "a"))
            assert_true(m->h->event_watch(m->h, b, ev, 1));
        else if (wr_str_is(ev->payload, "w"))
            m->held = m->h->event_hold(m->h, b, ev);
    }
    return WEIR_OK;
}

/* An event of nothing, once it is asked for. */
static enum weir_status mine_tick(void *self, struct weir_batch *b, bool final, struct weir_error *err)
{
    struct mine *m = self;
    (void)final;
    (void)err;
    pthread_mutex_lock(&lock);
    if (gives)
        m->h->event_set_payload(m->h, b, weir_event_at(b, m->h->event_join(m->h, b, NULL, 0, NULL, 0)),
                                weir_cstr("b"));
    if (heard && m->held != NULL) {
        (void)m->h->held_release(m->h, b, m->held);
        m->held = NULL;
    }
    gives = false;
    pthread_mutex_unlock(&lock);
    return WEIR_OK;
}

static void mine_settled(void *self, const uint64_t *cookies, const enum weir_outcome *outcomes, uint32_t n)
{
    (void)self;
    (void)cookies;
    (void)outcomes;
    pthread_mutex_lock(&lock);
    heard |= n != 0;
    pthread_mutex_unlock(&lock);
}

static void is_mine(struct part *part, const char *id)
{
    static const struct weir_transform calls = {
        .size = sizeof(calls), .apply = mine_apply, .tick = mine_tick, .settled = mine_settled};
    is_transform(part, id);
    part->type.transform = &calls;
    part->type.open = mine_open;
    part->type.close = mine_close;
    part->type.interval = mine_interval;
    gives = heard = false;
}


/* ---- What has left gives again ---- */

static bool by_source;

/* Once the lane of `in` has left, and while that of `in2` has not, it gives an event that finds no room. */
static bool give_late(void *arg)
{
    static bool given;
    int *step = arg;
    if (*step == 0 && atomic_load(&p->lanes[0]->left)) {
        pthread_mutex_lock(&lock);
        given = false;
        gives = !by_source;
        in.rude = by_source;
        in.words = by_source ? "b" : "";
        pthread_mutex_unlock(&lock);
        *step = 1;
    } else if (*step == 1 && is_full(4)) {
        *step = 2;
        (void)let_go_on(&t2);
    } else if (*step == 2 && !given) {
        given = true; /* the lane has had time to rest */
    } else if (*step == 2) {
        (void)let_go_on(&out);
    }
    return false;
}

/* Its batch can only go by the old graph: in the new one another sink has that place. */
static void gives_after_it_left(bool source)
{
    int step = 0;
    by_source = source;
    is_source(&in, "in", "a");
    is_source(&in2, "in2", "");
    is_mine(&t1, "t1");
    is_transform(&t2, "t2");
    is_sink(&out, "out");
    is_sink(&other, "other");
    is_sink(&dead, "wrong");
    out.away = t2.stuck = true;
    struct rig *plans[] = {&first, &second};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig *r = plans[i];
        (void)add(r, &in);
        (void)add(r, &in2);
        (void)add_behind(r, 0, &t1);
        (void)add_behind(r, 1, &t2);
        if (r == &second)
            (void)add_behind(r, 3, &dead);
        has_no_room(r, add_behind(r, 2, &out));
        (void)add_behind(r, 3, &other);
        for (uint32_t k = 0; k < 2; k++) {
            r->comps[k].traits = WEIR_TRAIT_BESIDE;
            r->comps[k].files_print = i; /* both change */
        }
    }
    start(&first);
    EVENTUALLY(atomic_load(&wr_outlet_buffer(p->units[4]->outlet)->events) == 1);
    assert_true(try_reload(&second, give_late, &step));
    assert_int_equal(step, 2);
    (void)let_go_on(&out);
    EVENTUALLY(has_seen(&out, "a,b,"));
    EVENTUALLY(has_lanes(2));
    finish();
    assert_int_equal(n_seen(&dead), 0);
}

static void test_a_tick_gives_after_its_lane_has_left(void **state)
{
    (void)state;
    gives_after_it_left(false);
}

static void test_a_source_gives_without_room_after_its_lane_has_left(void **state)
{
    (void)state;
    gives_after_it_left(true);
}

/* ---- What rests is waited for ---- */

/* `in2`'s lane goes on late; then the old transform holds what waits for an event of the other lane. */
static bool go_on_late(void *arg)
{
    int *calls = arg;
    if (++*calls == 3)
        (void)let_go_on(&other);
    if (atomic_load(&p->units[2]->held_events) != 0)
        (void)let_go_on(&out);
    return false;
}

static void test_a_lane_that_rests_hears_what_others_wait_for(void **state)
{
    (void)state;
    int calls = 0;
    is_source(&in, "in", "a");
    is_source(&in2, "in2", "x w");
    is_mine(&t1, "t1");
    is_sink(&out, "out");
    is_sink(&other, "other");
    out.away = other.away = true;
    struct rig *plans[] = {&first, &second};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig *r = plans[i];
        (void)add(r, &in);
        (void)add(r, &in2);
        (void)add_behind(r, 0, &t1);
        (void)add_behind(r, 2, &out);
        has_no_room(r, add_behind(r, 1, &other));
        rig_wire(r, 1, 2); /* behind `other`: what stands there is in front of both */
        r->comps[2].files_print = i;
        r->comps[4].opt.sink.concurrency = i + 1; /* so that lane cannot rest in front of it */
    }
    start(&first);
    EVENTUALLY(is_full(4));
    EVENTUALLY(atomic_load(&wr_outlet_buffer(p->units[3]->outlet)->events) == 2);
    assert_true(try_reload(&second, go_on_late, &calls));
    assert_true(calls >= 3);
    EVENTUALLY(has_outlets(2));
    EVENTUALLY(n_seen(&out) == 3);
    EVENTUALLY(n_seen(&other) == 2);
    finish();
    assert_true(heard);
    assert_int_equal(committed(&in), 1);
    assert_int_equal(committed(&in2), 2);
}

/* ---- What is given up ---- */

static bool end_it(void *arg)
{
    (void)arg;
    wr_pipeline_drain(p, wr_now(wr_clock_system()) + SECONDS_MAX * WEIR_NS_PER_S);
    return false;
}

static bool give_it_up(void *arg)
{
    (void)arg;
    return true;
}

/* The source cannot end, since its sink is away: the reload is given up there. */
static void given_up_while_a_source_ends(bool (*give_up)(void *arg), uint32_t n_opened)
{
    is_source(&in, "in", "a");
    is_sink(&out, "out");
    out.away = true;
    (void)add(&first, &in);
    (void)add_behind(&first, 0, &out);
    (void)add(&second, &in);
    (void)add_behind(&second, 0, &out);
    second.comps[0].files_print = 1;
    start(&first);
    EVENTUALLY(atomic_load(&wr_outlet_buffer(p->units[1]->outlet)->events) == 1);
    assert_false(try_reload(&second, give_up, NULL));
    assert_int_equal(in.n_opened, n_opened);
    (void)let_go_on(&out);
    EVENTUALLY(has_seen(&out, "a,"));
    finish();
    assert_int_equal(committed(&in), 1);
}

static void test_no_new_source_is_opened_for_a_reload_that_is_given_up(void **state)
{
    (void)state;
    given_up_while_a_source_ends(give_it_up, 2); /* the old one again: the pipeline goes on */
}

static void test_no_source_is_opened_for_a_pipeline_that_ends(void **state)
{
    (void)state;
    given_up_while_a_source_ends(end_it, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_tick_gives_after_its_lane_has_left, begin, end),
        cmocka_unit_test_setup_teardown(test_a_source_gives_without_room_after_its_lane_has_left, begin, end),
        cmocka_unit_test_setup_teardown(test_a_lane_that_rests_hears_what_others_wait_for, begin, end),
        cmocka_unit_test_setup_teardown(test_no_new_source_is_opened_for_a_reload_that_is_given_up, begin, end),
        cmocka_unit_test_setup_teardown(test_no_source_is_opened_for_a_pipeline_that_ends, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
