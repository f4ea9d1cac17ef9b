/* SPDX-License-Identifier: Apache-2.0
 *
 * Small parts of the plugin kafka: the way to smaller requests, what errors mean for an event,
 * times, refused settings.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../../plugins/kafka/raw.c"
#include "../../../plugins/kafka/report.c"
#include "../../../plugins/kafka/start.c"
#include "../../../plugins/kafka/topics.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* What those files need of others; nothing here gets that far. */
void problem(struct problems *p, const char *path, const char *fmt, ...)
{
    (void)path, (void)fmt;
    p->n++;
}

bool topic_name_valid(struct weir_str name)
{
    return name.len != 0;
}

/* ---- Requests that are too large ---- */

static void test_limit_shrinks_to_single_events(void **state)
{
    struct topic t = {.limit = NO_LIMIT};
    size_t before;
    int steps = 0;
    (void)state;
    assert_true(topic_has_room(&t, SIZE_MAX));
    t.under_way = SIZE_MAX / 2;
    assert_true(topic_has_room(&t, SIZE_MAX));
    do {
        before = t.limit;
        topic_shrink(&t, before);
        assert_true(t.limit < before);
        steps++;
    } while (t.limit > 1);
    assert_int_equal(steps, 6); /* fewer than the attempts that an event has by default */
    t.under_way = 0;
    assert_true(topic_has_room(&t, 5000));
    t.under_way = 1;
    assert_false(topic_has_room(&t, 70));
}

static void test_limit_shrinks_once_a_request(void **state)
{
    struct topic t = {.limit = NO_LIMIT};
    (void)state;
    for (int i = 0; i < 100; i++)
        topic_shrink(&t, NO_LIMIT);
    assert_int_equal(t.limit, LIMIT_MOST / LIMIT_STEP);
    t.under_way = t.limit - 100;
    assert_true(topic_has_room(&t, 99));
    assert_false(topic_has_room(&t, 101));
    assert_false(topic_has_room(&t, SIZE_MAX));
}

static void test_limit_grows_where_it_holds(void **state)
{
    struct topic t = {.limit = 1};
    size_t delivered = 0;
    (void)state;
    topic_prove(&t, LIMIT_LEAST);
    assert_int_equal(t.limit, 1);
    for (; t.limit != NO_LIMIT; delivered += 500)
        topic_prove(&t, 500);
    assert_true(delivered > LIMIT_MOST);
    assert_true(delivered < 100 * LIMIT_MOST);
    topic_prove(&t, 500);
    assert_true(t.limit == NO_LIMIT);
}

/* ---- Verdicts ---- */

static void test_every_error_has_a_verdict(void **state)
{
    const struct rd_kafka_err_desc *descs;
    size_t n;
    (void)state;
    rd_kafka_get_err_descs(&descs, &n);
    assert_true(n > 100);
    for (size_t i = 0; i < n; i++) {
        for (int how = 0; how < 4; how++) {
            struct weir_result r = verdict_of(descs[i].code, NULL, how & 1, how & 2, 0);
            bool fine = descs[i].code == RD_KAFKA_RESP_ERR_NO_ERROR;
            assert_int_equal(r.verdict == WEIR_VERDICT_OK, fine);
            assert_true(r.verdict >= WEIR_VERDICT_OK && r.verdict <= WEIR_VERDICT_REOPEN);
            assert_true(r.verdict != WEIR_VERDICT_PENDING);
            assert_true(fine || (r.code != NULL && r.code[0] != '\0' && r.message.len > 5));
            assert_int_equal(r.number, descs[i].code);
        }
    }
}

static void test_too_large_is_rejected_only_alone(void **state)
{
    static const rd_kafka_resp_err_t codes[] = {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
                                                RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE};
    rd_kafka_message_t m = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(verdict_of(codes[i], NULL, false, true, 0).verdict, WEIR_VERDICT_REJECTED);
        assert_int_equal(verdict_of(codes[i], &m, true, true, 0).verdict, WEIR_VERDICT_REJECTED);
        assert_int_equal(verdict_of(codes[i], &m, false, true, 0).verdict, WEIR_VERDICT_RETRY);
    }
}

static void test_a_missing_topic_is_waited_for_by_its_name(void **state)
{
    (void)state;
    assert_int_equal(verdict_of(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, NULL, false, true, 0).verdict,
                     WEIR_VERDICT_UNAVAILABLE);
    assert_int_equal(verdict_of(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, NULL, false, false, 0).verdict,
                     WEIR_VERDICT_REJECTED);
}

/* ---- Times ---- */

static void is_time(const char *text, int64_t want_ms)
{
    int64_t ms;
    if (!parse_time(text, &ms))
        fail_msg("%s is refused", text);
    assert_int_equal(ms, want_ms);
}

static void test_times(void **state)
{
    static const char *const wrong[] = {
        "",
        "2026",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-1-1T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00Z ",
        "2026-01-01T00:00:00+1:00",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "+026-01-01T00:00:00Z",
    };
    int64_t ms;
    (void)state;
    is_time("1970-01-01T00:00:00Z", 0);
    is_time("2026-01-31T12:00:00Z", 1769860800000);
    is_time("2026-01-31t12:00:00z", 1769860800000);
    is_time("2026-01-31 12:00:00Z", 1769860800000);
    is_time("2026-01-31T13:30:00+01:30", 1769860800000);
    is_time("2026-01-31T10:30:00-01:30", 1769860800000);
    is_time("2026-01-31T12:00:00.5Z", 1769860800500);
    is_time("2026-01-31T12:00:00.123456789Z", 1769860800123);
    is_time("2024-02-29T00:00:00Z", 1709164800000);
    is_time("9999-12-31T23:59:59.999Z", 253402300799999);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (parse_time(wrong[i], &ms))
            fail_msg("%s is taken", wrong[i]);
}

/* ---- Refused settings ---- */

static void test_refused_settings(void **state)
{
    (void)state;
    assert_non_null(refusal_of("acks", "1", SINK));
    assert_null(refusal_of("acks", "1", SOURCE));
    assert_null(refusal_of("ack", "1", SINK));
    assert_null(refusal_of("acks.more", "1", SINK));
    assert_non_null(refusal_of("offset.store.path", "x", SOURCE));
    assert_non_null(refusal_of("partitioner", "random", SINK));
    assert_null(refusal_of("partitioner", "murmur2", SINK));
    assert_null(refusal_of("partitioner", "randomly", SINK));
    assert_null(refusal_of("partitione", "random", SINK));
    assert_null(refusal_of("", "", BOTH));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_shrinks_to_single_events),
        cmocka_unit_test(test_limit_shrinks_once_a_request),
        cmocka_unit_test(test_limit_grows_where_it_holds),
        cmocka_unit_test(test_every_error_has_a_verdict),
        cmocka_unit_test(test_too_large_is_rejected_only_alone),
        cmocka_unit_test(test_a_missing_topic_is_waited_for_by_its_name),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_refused_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
