/* SPDX-License-Identifier: Apache-2.0
 *
 * Held events: what they keep alive, how much of it, and whether all of an event is still there later.
 * In this program bodies can be made to find no memory.
 */
#include "rig.h"

#include <base/budget.h>
#include <base/pool.h>

static int no_bodies; /* so many bodies more find no memory */

void *__real_wr_alloc(size_t size);
void *__wrap_wr_alloc(size_t size);

void *__wrap_wr_alloc(size_t size)
{
    if (no_bodies > 0 && size == sizeof(struct wr_body)) {
        no_bodies--;
        return NULL;
    }
    return __real_wr_alloc(size);
}

static double gauge_of(struct rig *r, const char *name)
{
    struct wr_buf out = {0};
    char start[64];
    snprintf(start, sizeof(start), "\nweir_%s{", name);
    wr_metrics_print(r->metrics, &out);
    const char *at = strstr(out.ptr, start);
    double v = at != NULL ? strtod(strchr(at, '}') + 1, NULL) : -1;
    wr_buf_done(&out);
    return v;
}

#define BATCH 100
#define PAYLOAD 1000

static uint32_t batches_left;
static struct weir_held *held[64];
static uint32_t n_held;
static int n_final;

/* Batches of 100 events of 1000 bytes, `{"n":"000..."}`, all with key, header and the rig's origin. */
static enum weir_status poll_large(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    static char text[PAYLOAD + 1];
    if (room < BATCH || batches_left == 0)
        return WEIR_AGAIN;
    batches_left--;
    for (uint32_t i = 0; i < BATCH; i++) {
        snprintf(text, sizeof(text), "{\"n\":\"%0*u\"}", PAYLOAD - 8, i);
        struct weir_event *ev = rig_emit(s, b, text, (int64_t)s->n_polls * BATCH + i);
        ev->key = s->h->arena_copy(b->arena, weir_cstr("key"));
    }
    return WEIR_OK;
}

/* Keeps the first event of each batch. */
static enum weir_status hold_first(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    struct weir_event *ev = weir_event_at(b, 0);
    (void)again;
    assert_non_null(s->h->event_value(s->h, b, ev));
    assert_true(s->h->event_set_header(s->h, b, ev, weir_cstr("h"), weir_cstr("v")));
    (void)s->h->event_id(s->h, b, ev);
    held[n_held++] = s->h->event_hold(s->h, b, ev);
    assert_non_null(held[n_held - 1]);
    return WEIR_OK;
}

static enum weir_status release_at_the_end(struct rig_script *s, struct weir_batch *b, bool final)
{
    n_final += final;
    for (uint32_t i = 0; final && i < n_held; i++) {
        uint32_t at = s->h->held_release(s->h, b, held[i]);
        const struct weir_event *ev = weir_event_at(b, at);
        assert_int_equal(at, i);
        assert_int_equal(ev->payload.len, PAYLOAD);
        struct weir_str n = s->h->value_str(s->h->value_get(ev->value, weir_cstr("n")));
        assert_int_equal(n.len, PAYLOAD - 8);
        assert_int_equal(strspn(n.ptr, "0"), n.len);
        assert_true(wr_str_eq(ev->key, weir_cstr("key")));
        assert_true(wr_str_eq(s->h->event_header(ev, weir_cstr("h"))->value, weir_cstr("v")));
        assert_true(wr_str_eq(ev->origin->name, weir_cstr("rig")));
        assert_int_equal(ev->id.len, strlen("rig-0-") + (ev->position > 999 ? 4 : 3));
        assert_true(wr_str_eq(wr_event_source_payload(ev), ev->payload));
    }
    if (final)
        n_held = 0;
    return WEIR_OK;
}

static void begin(struct rig *r, uint32_t n_batches)
{
    rig_init(r);
    uint32_t source = rig_add(r, WEIR_SOURCE, "in"), transform = rig_add(r, WEIR_TRANSFORM, "keep");
    rig_wire(r, source, transform);
    rig_wire(r, transform, rig_add(r, WEIR_SINK, "out"));
    r->script[0].poll = poll_large;
    r->script[1].apply = hold_first;
    r->script[1].tick = release_at_the_end;
    batches_left = n_batches;
    n_held = 0;
    n_final = 0;
    rig_open(r);
}

static void run_and_forget(struct rig *r, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        rig_step(r, 1);
        r->script[2].seen[0] = '\0'; /* far too long for it */
    }
}

static void test_few_held_events_keep_little_alive(void **state)
{
    static struct rig r;
    (void)state;
    begin(&r, 20);
    wr_pool_trim();
    size_t before = wr_mem_used();
    run_and_forget(&r, 60);
    wr_pool_trim();
    assert_int_equal(n_held, 20);
    size_t kept = wr_mem_used() - before;
    assert_in_range(atomic_load(&r.p->units[1]->held_events), 20, 20);
    size_t charged = atomic_load(&r.p->units[1]->held_bytes);
    assert_in_range(charged, 20 * PAYLOAD, 20 * 16 * 1024);
    assert_true(kept < 20 * BATCH * PAYLOAD / 4); /* not the batches they came in */
    wr_pipeline_drain(r.p, r.now + 100 * WEIR_NS_PER_S);
    run_and_forget(&r, 10);
    assert_int_equal(wr_pipeline_state(r.p), WR_PIPELINE_DONE);
    assert_int_equal(r.script[0].committed, 21 * BATCH);
    assert_int_equal(atomic_load(&r.p->units[1]->held_bytes), 0);
    assert_int_equal(atomic_load(&r.p->units[1]->held_events), 0);
    rig_done(&r);
}

static enum weir_status hold_until_full(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    atomic_fetch_add(&((struct wr_instance *)s->h->priv)->unit->held_bytes, wr_budget_held_max());
    assert_null(s->h->event_hold(s->h, b, weir_event_at(b, 0)));
    assert_true(weir_event_at(b, 0)->flags & WEIR_EVENT_GONE);
    atomic_fetch_sub(&((struct wr_instance *)s->h->priv)->unit->held_bytes, wr_budget_held_max());
    return WEIR_OK;
}

static void test_what_a_component_holds_is_bounded(void **state)
{
    static struct rig r;
    (void)state;
    begin(&r, 1);
    r.script[1].apply = hold_until_full;
    run_and_forget(&r, 6);
    assert_true(gauge_of(&r, "component_errors_total") == 1); /* failed, and dropped as on_error says */
    assert_int_equal(r.script[0].committed, 2 * BATCH);
    rig_done(&r);
}

static enum weir_status hold_without_memory(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < 2; i++) {
        no_bodies = 1;
        assert_null(s->h->event_hold(s->h, b, weir_event_at(b, i)));
        assert_int_equal(no_bodies, 0);
        assert_true(weir_event_at(b, i)->flags & WEIR_EVENT_GONE);
    }
    return WEIR_OK;
}

static void test_what_cannot_be_held_has_failed(void **state)
{
    static struct rig r;
    (void)state;
    begin(&r, 1);
    r.script[1].apply = hold_without_memory;
    run_and_forget(&r, 6);
    assert_true(gauge_of(&r, "component_errors_total") == 2);
    assert_int_equal(r.script[0].committed, 2 * BATCH);
    rig_done(&r);
}

static void test_a_final_tick_waits_for_memory(void **state)
{
    static struct rig r;
    (void)state;
    begin(&r, 2);
    run_and_forget(&r, 8);
    assert_int_equal(n_held, 2);
    wr_pipeline_drain(r.p, r.now + 100 * WEIR_NS_PER_S);
    no_bodies = 3;
    rig_step(&r, 1);
    assert_int_equal(n_final, 0);
    for (int i = 0; i < 10; i++) {
        rig_advance(&r, WEIR_NS_PER_S);
        r.script[2].seen[0] = '\0';
    }
    assert_int_equal(no_bodies, 0);
    assert_int_equal(n_final, 1);
    assert_int_equal(wr_pipeline_state(r.p), WR_PIPELINE_DONE);
    assert_int_equal(r.script[0].committed, 3 * BATCH);
    rig_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_held_events_keep_little_alive),
        cmocka_unit_test(test_what_a_component_holds_is_bounded),
        cmocka_unit_test(test_what_cannot_be_held_has_failed),
        cmocka_unit_test(test_a_final_tick_waits_for_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
