/* SPDX-License-Identifier: Apache-2.0
 *
 * What a plugin must not do: it is logged and counted, and costs no event.
 */
#include "rig.h"

static double count_of(struct rig *r, const char *component, const char *rest)
{
    static const char start[] = "weir_component_errors_total{";
    struct wr_buf out = {0};
    char who[64];
    double v = 0;
    snprintf(who, sizeof(who), "component=\"%s\"", component);
    wr_metrics_print(r->metrics, &out);
    char *rest_of = NULL;
    for (char *line = strtok_r(out.ptr, "\n", &rest_of); line != NULL;
         line = strtok_r(NULL, "\n", &rest_of))
        if (strncmp(line, start, strlen(start)) == 0 && strstr(line, who) != NULL &&
            strstr(line, rest) != NULL)
            v += strtod(strrchr(line, '}') + 1, NULL);
    wr_buf_done(&out);
    return v;
}

/* One event a poll, named a, b, c, ..., up to the n-th. */
static int next_event, last_event;

static enum weir_status one_more(struct rig_script *s, struct weir_batch *b)
{
    char name[2] = {(char)('a' + next_event), '\0'};
    if (next_event == last_event)
        return WEIR_AGAIN;
    rig_emit(s, b, name, next_event++);
    return WEIR_OK;
}

static enum weir_status poll_one(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    (void)room;
    return one_more(s, b);
}

static enum weir_verdict away(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

/* Behind a sink that is away, with a buffer that one event fills. */
static void full_pipeline(struct rig *r)
{
    rig_init(r);
    uint32_t source = rig_add(r, WEIR_SOURCE, "in"), sink = rig_add(r, WEIR_SINK, "out");
    rig_wire(r, source, sink);
    next_event = 0;
    last_event = 2;
    r->comps[sink].opt.sink.buffer.size = 1;
    r->script[source].poll = poll_one;
    r->script[source].poll_full = one_more;
    r->script[sink].verdict = away;
    rig_open(r);
    rig_step(r, 8); /* a is in the buffer, b parked in front of it */
}

static void test_events_added_without_room_are_kept_in_order(void **state)
{
    static struct rig r;
    (void)state;
    full_pipeline(&r);
    last_event = 5;
    rig_step(&r, 8);
    assert_int_equal(next_event, 5);
    assert_true(count_of(&r, "in", "error_type=\"plugin_bug\"") == 3);
    r.script[1].seen[0] = '\0';
    r.script[1].verdict = NULL;
    for (int i = 0; i < 10; i++)
        rig_advance(&r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r.script[1].seen, "a,|b,|c,|d,|e,|");
    assert_int_equal(r.script[0].committed, 5);
    rig_done(&r);
}

static void test_events_added_without_room_fail_at_the_deadline_like_others(void **state)
{
    static struct rig r;
    (void)state;
    full_pipeline(&r);
    last_event = 3;
    rig_step(&r, 8);
    wr_pipeline_drain(r.p, r.now);
    rig_advance(&r, WEIR_NS_PER_S);
    rig_advance(&r, 10 * WEIR_NS_PER_S);
    assert_int_equal(wr_pipeline_state(r.p), WR_PIPELINE_DONE);
    assert_int_equal(r.script[0].committed, -1);
    assert_int_equal(wr_pipeline_close(r.p).events, 3);
    rig_done(&r);
}

static enum weir_verdict pending(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_PENDING;
}

static void test_a_ticket_of_no_shard_is_reported(void **state)
{
    static struct rig r;
    struct weir_result ok = {.verdict = WEIR_VERDICT_OK};
    (void)state;
    rig_init(&r);
    uint32_t source = rig_add(&r, WEIR_SOURCE, "in"), sink = rig_add(&r, WEIR_SINK, "out");
    rig_wire(&r, source, sink);
    next_event = 0;
    last_event = 1;
    r.script[source].poll = poll_one;
    r.script[sink].verdict = pending;
    rig_open(&r);
    rig_step(&r, 4);
    const struct weir_host *h = r.script[sink].h;
    uint64_t ticket = r.script[sink].last_ticket;
    h->complete(h, ticket | UINT64_C(7) << 16, 0, &ok);
    rig_step(&r, 2);
    assert_int_equal(r.script[source].committed, -1);
    assert_true(count_of(&r, "out", "error_type=\"plugin_bug\"") == 1);
    h->complete(h, ticket, 0, &ok);
    rig_step(&r, 2);
    assert_int_equal(r.script[source].committed, 1);
    assert_true(count_of(&r, "out", "error_type=\"plugin_bug\"") == 1);
    rig_done(&r);
}

/* Puts the first event into so many arrays. */
static enum weir_status wrap(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    const struct weir_host *h = s->h;
    struct weir_value *top = h->make_array(b->arena), *at = top;
    (void)again;
    for (uint32_t i = 1; i < *(uint32_t *)s->arg; i++) {
        struct weir_value *next = h->make_array(b->arena);
        assert_true(h->array_append(b->arena, at, next));
        at = next;
    }
    h->event_set_value(h, b, weir_event_at(b, 0), top);
    return WEIR_OK;
}

static void wrapped(uint32_t levels, const char *seen, double refused)
{
    static struct rig r;
    rig_init(&r);
    uint32_t source = rig_add(&r, WEIR_SOURCE, "in"), transform = rig_add(&r, WEIR_TRANSFORM, "deep");
    uint32_t dead = rig_add(&r, WEIR_SINK, "dead");
    rig_wire(&r, source, transform);
    rig_wire(&r, transform, rig_add(&r, WEIR_SINK, "out"));
    next_event = 0;
    last_event = 1;
    r.script[source].poll = poll_one;
    r.script[transform].apply = wrap;
    r.script[transform].arg = &levels;
    r.comps[transform].opt.transform.on_error = WR_ON_DEAD_LETTER;
    r.comps[transform].dead_letter = (int)dead;
    r.comps[dead].is_dead_letter = true;
    rig_open(&r);
    rig_step(&r, 6);
    assert_int_equal(strspn(r.script[3].seen, "["), strlen(seen));
    assert_true(count_of(&r, "deep", "error_type=\"too_deep\"") == refused);
    assert_int_equal(r.script[source].committed, 1);
    if (refused != 0) {
        assert_non_null(strstr(r.script[2].seen, "\"payload\":\"a\""));
        assert_non_null(strstr(r.script[2].seen, "deeper than 128 levels"));
    }
    rig_done(&r);
}

static void test_values_that_are_too_deep_fail_at_the_border(void **state)
{
    char most[WR_VALUE_DEPTH_MAX + 1];
    (void)state;
    memset(most, '[', sizeof(most));
    most[WR_VALUE_DEPTH_MAX] = '\0';
    wrapped(WR_VALUE_DEPTH_MAX, most, 0);
    wrapped(WR_VALUE_DEPTH_MAX + 1, "", 1);
    wrapped(200000, "", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_added_without_room_are_kept_in_order),
        cmocka_unit_test(test_events_added_without_room_fail_at_the_deadline_like_others),
        cmocka_unit_test(test_a_ticket_of_no_shard_is_reported),
        cmocka_unit_test(test_values_that_are_too_deep_fail_at_the_border),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
