/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies, batches, and the data of events: who keeps what alive, what a change leaves behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/str.h>
#include <model/batch.h>

static struct wr_batch *new_batch(void)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 4);
    wr_body_unref(body);
    b->seal = 1;
    return b;
}

static struct weir_event *add(struct wr_batch *b, const char *payload)
{
    struct weir_event *ev = wr_event_add(&b->pub);
    ev->payload = wr_arena_copy(&b->own->arena, weir_cstr(payload));
    return ev;
}

static void count(void *arg)
{
    ++*(int *)arg;
}

static void test_bodies_live_as_long_as_their_last_batch(void **state)
{
    int disposed = 0;
    (void)state;
    struct wr_batch *b = new_batch();
    assert_true(wr_batch_attach(&b->pub, count, &disposed, 10));
    add(b, "one");
    struct wr_batch *copy = wr_batch_clone(b), *gathered = wr_batch_new(NULL, 1);
    assert_true(wr_batch_add_bodies(gathered, copy));
    assert_non_null(wr_batch_append(gathered, &wr_batch_events(copy)[0]));
    wr_batch_free(b);
    wr_batch_free(copy);
    assert_int_equal(disposed, 0);
    assert_memory_equal(wr_batch_events(gathered)[0].payload.ptr, "one", 3);
    wr_batch_free(gathered);
    assert_int_equal(disposed, 1);
}

static void test_a_body_is_referenced_once(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch(), *to = wr_batch_new(NULL, 0);
    for (int i = 0; i < 5; i++)
        assert_true(wr_batch_add_bodies(to, b));
    assert_int_equal(to->n_bodies, 1);
    struct wr_batch *more[6];
    for (int i = 0; i < 6; i++) {
        more[i] = new_batch();
        assert_true(wr_batch_add_bodies(to, more[i]));
    }
    assert_int_equal(to->n_bodies, 7); /* beyond the inline places */
    for (int i = 0; i < 6; i++)
        wr_batch_free(more[i]);
    wr_batch_free(b);
    wr_batch_free(to);
}

static void test_untouched_payload_passes(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    struct weir_event *ev = add(b, " { \"a\" : 1 } ");
    const char *before = ev->payload.ptr;
    assert_non_null(wr_event_value(b, ev, NULL));
    assert_ptr_equal(wr_event_payload(b, ev).ptr, before);
    wr_batch_free(b);
}

static void test_a_change_copies_once_a_component(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    struct weir_event *ev = add(b, "{\"a\":1}");
    struct weir_value *v = wr_event_edit(b, ev, NULL);
    assert_ptr_equal(wr_event_edit(b, ev, NULL), v);
    assert_true(wr_object_set(b->pub.arena, v, weir_cstr("a"), wr_make_int(b->pub.arena, 2)));
    struct weir_event branch = *ev; /* another reader has the sealed value */
    b->seal = 2;
    assert_true(wr_event_set_header(b, ev, weir_cstr("h"), weir_cstr("1"))); /* no change of the value */
    struct weir_value *w = wr_event_edit(b, ev, NULL);
    assert_ptr_not_equal(w, v);
    assert_true(wr_object_set(b->pub.arena, w, weir_cstr("a"), wr_make_int(b->pub.arena, 3)));
    assert_string_equal(wr_event_payload(b, ev).ptr, "{\"a\":3}");
    assert_string_equal(wr_event_payload(b, &branch).ptr, "{\"a\":2}");
    assert_string_equal(wr_event_source_payload(ev).ptr, "{\"a\":1}");
    wr_batch_free(b);
}

static void test_restore_gives_back_what_entered(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    struct weir_event *ev = add(b, "{\"a\":1}");
    assert_true(wr_event_set_key(b, ev, weir_cstr("k1")));
    b->seal = 2;
    assert_non_null(wr_event_edit(b, ev, NULL));
    assert_true(wr_event_set_payload(b, ev, weir_cstr("other")));
    assert_true(wr_event_set_key(b, ev, weir_cstr("k2")));
    assert_true(wr_event_set_header(b, ev, weir_cstr("h"), weir_cstr("1")));
    wr_event_restore(b, ev);
    assert_string_equal(wr_event_payload(b, ev).ptr, "{\"a\":1}");
    assert_true(wr_str_is(ev->key, "k1"));
    assert_int_equal(ev->n_headers, 0);
    wr_batch_free(b);
}

static void test_headers(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    struct weir_event *ev = add(b, "x");
    assert_true(wr_event_set_header(b, ev, weir_cstr("a"), weir_cstr("1")));
    assert_true(wr_event_set_header(b, ev, weir_cstr("b"), weir_cstr("2")));
    assert_true(wr_event_set_header(b, ev, weir_cstr("a"), weir_cstr("3")));
    assert_int_equal(ev->n_headers, 2);
    assert_true(wr_str_is(wr_event_header(ev, weir_cstr("a"))->value, "3"));
    assert_true(wr_event_set_header(b, ev, weir_cstr("a"), weir_str_n(NULL, 0)));
    assert_null(wr_event_header(ev, weir_cstr("a")));
    assert_null(wr_event_header(ev, weir_cstr("B")));
    wr_batch_free(b);
}

static void test_ids(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    struct wr_clock *clock = wr_clock_system();
    struct weir_origin topic = {weir_cstr("events"), 7}, file = {weir_cstr("a.ndjson"), -1};
    struct weir_event *ev = add(b, "x");
    ev->origin = &topic;
    ev->position = INT64_MIN;
    assert_true(wr_str_is(wr_event_id(b, ev, clock), "events-7--9223372036854775808"));
    ev = add(b, "y");
    ev->origin = &file;
    ev->position = 120;
    assert_true(wr_str_is(wr_event_id(b, ev, clock), "a.ndjson-120"));
    ev = add(b, "z");
    struct weir_str id = wr_event_id(b, ev, clock);
    assert_int_equal(id.len, 36);
    assert_int_equal(id.ptr[14], '7');
    assert_non_null(strchr("89ab", id.ptr[19]));
    assert_ptr_equal(wr_event_id(b, ev, clock).ptr, id.ptr); /* made once */
    wr_batch_free(b);
}

static void test_values_that_cannot_be_had(void **state)
{
    struct weir_error err = {0};
    (void)state;
    struct wr_batch *b = new_batch();
    struct weir_event *ev = add(b, "{\"a\":");
    assert_null(wr_event_value(b, ev, &err));
    assert_string_equal(err.code, "bad_json");
    ev = add(b, "{}");
    ev->flags = WEIR_EVENT_RAW;
    assert_null(wr_event_edit(b, ev, &err));
    assert_string_equal(err.code, "not_json");
    ev->flags = WEIR_EVENT_TOMB;
    assert_null(wr_event_value(b, ev, &err));
    ev->flags = 0;
    wr_batch_freeze(b);
    assert_null(wr_event_value(b, ev, &err));
    assert_string_equal(err.code, "frozen");
    wr_batch_free(b);
}

/* In its poll no component's call is running: there is nothing to go back to. */
static void test_a_source_may_edit_what_it_adds(void **state)
{
    (void)state;
    struct wr_batch *b = new_batch();
    b->seal = 0;
    struct weir_event *ev = add(b, "{\"a\":1,\"b\":2}");
    for (int64_t i = 2; i < 4; i++)
        assert_true(wr_object_set(b->pub.arena, wr_event_edit(b, ev, NULL), weir_cstr("a"),
                                  wr_make_int(b->pub.arena, i)));
    assert_string_equal(wr_event_payload(b, ev).ptr, "{\"a\":3,\"b\":2}");
    assert_null(ev->host_trace);
    wr_batch_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_live_as_long_as_their_last_batch),
        cmocka_unit_test(test_a_body_is_referenced_once),
        cmocka_unit_test(test_untouched_payload_passes),
        cmocka_unit_test(test_a_change_copies_once_a_component),
        cmocka_unit_test(test_restore_gives_back_what_entered),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_values_that_cannot_be_had),
        cmocka_unit_test(test_a_source_may_edit_what_it_adds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
