/* SPDX-License-Identifier: Apache-2.0
 *
 * Small parts of the plugin kafka: the way to smaller requests, places for topics, what errors mean
 * for an event, replies to commits, times, refused settings.
 */
#include <stdio.h>
#include <stdlib.h>

#define rd_kafka_commit_queue fake_commit_queue
#include "../../../plugins/kafka/commit.c"
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

int ms_until(const struct weir_host *host, int64_t deadline_ns, int most)
{
    (void)host, (void)deadline_ns, (void)most;
    return 0;
}

bool wire_joining(const struct client *c)
{
    return atomic_load(&c->wire.joining);
}

void mark_write(const struct source *s, const struct part *p, rd_kafka_topic_partition_t *o)
{
    (void)s, (void)p, (void)o;
}

static int64_t replied_mark;

int64_t mark_of(const rd_kafka_topic_partition_t *o)
{
    (void)o;
    return replied_mark;
}

rd_kafka_topic_partition_list_t *mark_known(struct source *s,
                                            const rd_kafka_topic_partition_list_t *list)
{
    (void)s;
    return rd_kafka_topic_partition_list_new(list->cnt);
}

void mark_compare(struct source *s, const rd_kafka_topic_partition_list_t *known)
{
    (void)s, (void)known;
}

struct part *part_find(struct source *s, const char *topic, int32_t partition)
{
    (void)topic;
    return partition == 0 ? s->parts[0] : NULL;
}

static void *alloc_zeroed(size_t size)
{
    return calloc(1, size);
}

static void count_nothing(struct weir_metric *m, uint64_t n)
{
    (void)m, (void)n;
}

static void log_nothing(const struct weir_host *h, enum weir_log_level level, const char *message,
                        const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h, (void)level, (void)message, (void)kv, (void)n_kv;
}

static const struct weir_host host = {
    .alloc = alloc_zeroed, .free = free, .metric_add = count_nothing, .log = log_nothing};

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

/* Each trial costs the events that were refused another way. */
static void test_a_limit_that_was_refused_is_not_tried_soon(void **state)
{
    struct topic t = {.limit = NO_LIMIT};
    size_t delivered = 0;
    (void)state;
    topic_shrink(&t, t.limit);
    topic_shrink(&t, t.limit);
    size_t limit = t.limit;
    for (; delivered < 1000 * LIMIT_MOST; delivered += 5000)
        topic_prove(&t, 5000);
    assert_int_equal(t.limit, limit);
    for (; t.limit == limit; delivered += 5000)
        topic_prove(&t, 5000);
    assert_int_equal(t.limit, LIMIT_STEP * limit);
    assert_true(delivered < 10000 * LIMIT_MOST);
    topic_shrink(&t, t.limit);
    topic_forget_refusal(&t);
    for (delivered = 0; t.limit != NO_LIMIT; delivered += 5000)
        topic_prove(&t, 5000);
    assert_true(delivered < 100 * LIMIT_MOST);
}

static void test_isolated_events_go_one_by_one(void **state)
{
    struct topic t = {.limit = NO_LIMIT};
    (void)state;
    topic_isolate(&t);
    assert_true(topic_has_room(&t, 5000));
    t.under_way = 1;
    assert_false(topic_has_room(&t, 1));
    topic_prove(&t, LIMITS_PROVEN * LIMIT_LEAST);
    assert_true(t.limit > 1);
}

/* ---- The first write to a topic ---- */

static void test_until_something_was_delivered_one_write_is_under_way(void **state)
{
    struct topic t = {.limit = NO_LIMIT};
    (void)state;
    assert_true(topic_takes(&t, 5, 100));
    t.under_way = 100;
    assert_true(topic_takes(&t, 5, 100));
    assert_false(topic_takes(&t, 6, 100));
    assert_false(topic_takes(&t, 5, 100)); /* once one has to wait, all do */
    t.under_way = 0;
    assert_true(topic_takes(&t, 6, 100)); /* it was refused */
    t.under_way = 100;
    assert_false(topic_takes(&t, 7, 100));
    topic_prove(&t, 50); /* the first half of it was delivered */
    assert_false(topic_takes(&t, 7, 100));
    t.under_way = 0;
    topic_prove(&t, 50);
    t.under_way = 100;
    assert_true(topic_takes(&t, 7, 100));
    assert_true(topic_takes(&t, 8, 100));
}

/* ---- Places for topics ---- */

static struct topic *get(struct topics *t, rd_kafka_t *rk, unsigned number)
{
    char name[32];
    struct weir_result r = {0};
    snprintf(name, sizeof(name), "topic-%u", number);
    struct topic *found = topics_get(t, &host, rk, weir_cstr(name), &r);
    if (found == NULL)
        assert_int_equal(r.verdict, WEIR_VERDICT_REJECTED);
    return found;
}

static void test_topics_that_do_not_exist_leave_their_places(void **state)
{
    struct topics *t = calloc(1, sizeof(*t));
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), NULL, 0);
    (void)state;
    assert_non_null(rk);
    for (unsigned i = 0; i < TOPICS_MOST; i++)
        assert_non_null(get(t, rk, i));
    assert_null(get(t, rk, TOPICS_MOST));
    struct topic *seven = get(t, rk, 7), *eight = get(t, rk, 8);
    seven->unknown = eight->unknown = true;
    eight->under_way = 70;
    assert_non_null(get(t, rk, TOPICS_MOST)); /* in the place of 7 */
    assert_null(get(t, rk, 7));
    assert_ptr_equal(get(t, rk, 8), eight);
    assert_int_equal(t->n, TOPICS_MOST);
    topics_done(t, &host);
    rd_kafka_destroy(rk);
    free(t);
}

/* ---- Commits ---- */

static int n_sent;

rd_kafka_resp_err_t fake_commit_queue(
    rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *offsets, rd_kafka_queue_t *queue,
    void (*cb)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *),
    void *opaque)
{
    (void)rk, (void)queue, (void)cb, (void)opaque;
    n_sent += offsets->cnt;
    for (int i = 0; i < offsets->cnt; i++)
        assert_true(offsets->elems[i].offset >= 0);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void reply(struct source *s, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "t", 0)->offset = offset;
    s->committing = true;
    on_reply(NULL, RD_KAFKA_RESP_ERR_NO_ERROR, list, s);
    assert_false(s->committing);
    rd_kafka_topic_partition_list_destroy(list);
}

/* The partition went and came back before the reply: nothing of it has ended yet. */
static void test_a_reply_to_an_older_assignment_counts_for_nothing(void **state)
{
    struct part *p = calloc(1, sizeof(*p) + 2);
    struct part *parts[] = {p};
    struct source s = {.client = {.host = &host}, .parts = parts, .n_parts = 1};
    (void)state;
    n_sent = 0;
    p->topic[0] = 't';
    p->watermark = p->committed = NO_OFFSET;
    reply(&s, 500);
    assert_false(commit_send(&s, false));
    assert_int_equal(n_sent, 0);
    commit_mark(&s, p, 600);
    assert_true(commit_send(&s, false));
    assert_int_equal(n_sent, 1);
    reply(&s, 600);
    assert_false(commit_send(&s, false));
    free(p);
}

/* Whoever goes on there would not know of the mark. */
static void test_a_reply_of_before_the_mark_counts_for_nothing(void **state)
{
    struct part *p = calloc(1, sizeof(*p) + 2);
    struct part *parts[] = {p};
    struct source s = {.client = {.host = &host}, .parts = parts, .n_parts = 1};
    (void)state;
    n_sent = 0;
    p->topic[0] = 't';
    p->committed = NO_OFFSET;
    p->mark_ms = 2000;
    commit_mark(&s, p, 600);
    replied_mark = 0;
    reply(&s, 600);
    assert_false(p->had_offset);
    assert_true(commit_send(&s, false));
    replied_mark = 2000;
    reply(&s, 600);
    assert_true(p->had_offset);
    assert_false(commit_send(&s, false));
    assert_int_equal(n_sent, 1);
    replied_mark = 0;
    free(p);
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
            struct weir_result r = verdict_of(descs[i].code, NULL, how & 1, how & 2);
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
        assert_int_equal(verdict_of(codes[i], NULL, false, true).verdict, WEIR_VERDICT_REJECTED);
        assert_int_equal(verdict_of(codes[i], &m, true, true).verdict, WEIR_VERDICT_REJECTED);
        assert_int_equal(verdict_of(codes[i], &m, false, true).verdict, WEIR_VERDICT_RETRY);
    }
}

static void test_a_refused_record_is_rejected_only_where_it_is_the_events(void **state)
{
    rd_kafka_message_t m = {0};
    enum weir_verdict among_others =
        errors_are_per_record() ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_RETRY;
    (void)state;
    for (int i = 0; i < 4; i++) {
        rd_kafka_resp_err_t code =
            i < 2 ? RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP : RD_KAFKA_RESP_ERR_INVALID_RECORD;
        m.key = i % 2 == 0 ? (void *)(uintptr_t) "k" : NULL;
        assert_int_equal(verdict_of(code, &m, true, true).verdict, WEIR_VERDICT_REJECTED);
        assert_int_equal(verdict_of(code, &m, false, true).verdict, among_others);
        assert_int_equal(is_of_any_record(code), among_others == WEIR_VERDICT_RETRY);
    }
    assert_false(is_of_any_record(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE));
    assert_int_equal(verdict_of(ERR_DIFFERENT_RECORD, &m, false, true).verdict, WEIR_VERDICT_RETRY);
}

static void test_a_missing_topic_is_waited_for_by_its_name(void **state)
{
    (void)state;
    assert_int_equal(verdict_of(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, NULL, false, true).verdict,
                     WEIR_VERDICT_UNAVAILABLE);
    assert_int_equal(verdict_of(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, NULL, false, false).verdict,
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
        cmocka_unit_test(test_a_limit_that_was_refused_is_not_tried_soon),
        cmocka_unit_test(test_isolated_events_go_one_by_one),
        cmocka_unit_test(test_until_something_was_delivered_one_write_is_under_way),
        cmocka_unit_test(test_topics_that_do_not_exist_leave_their_places),
        cmocka_unit_test(test_a_reply_to_an_older_assignment_counts_for_nothing),
        cmocka_unit_test(test_a_reply_of_before_the_mark_counts_for_nothing),
        cmocka_unit_test(test_every_error_has_a_verdict),
        cmocka_unit_test(test_too_large_is_rejected_only_alone),
        cmocka_unit_test(test_a_refused_record_is_rejected_only_where_it_is_the_events),
        cmocka_unit_test(test_a_missing_topic_is_waited_for_by_its_name),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_refused_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
