/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions of the source kafka whose topic was made again: when one begins anew, and the marks
 * that ids get then.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../../plugins/kafka/gone.c"
#include "../../../plugins/kafka/mark.c"
#include "../../../plugins/kafka/parts.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- A host that counts streams ---- */

static int n_opened, n_closed;
static uint64_t n_entered; /* events in the stream */

static void *alloc_zeroed(size_t size)
{
    return calloc(1, size);
}

static struct weir_stream *stream_open(const struct weir_host *h, const struct weir_origin *origin,
                                       void *user)
{
    (void)h, (void)origin, (void)user;
    n_opened++;
    return (struct weir_stream *)calloc(1, 1);
}

static void stream_close(struct weir_stream *take_s)
{
    n_closed++;
    free(take_s);
}

static uint64_t stream_pending(struct weir_stream *s)
{
    (void)s;
    return n_entered;
}

static char id[128];

__attribute__((format(printf, 2, 3))) static struct weir_str print_id(struct weir_arena *a,
                                                                      const char *fmt, ...)
{
    va_list ap;
    (void)a;
    va_start(ap, fmt);
    vsnprintf(id, sizeof(id), fmt, ap);
    va_end(ap);
    return weir_cstr(id);
}

static void count_nothing(struct weir_metric *m, uint64_t n)
{
    (void)m, (void)n;
}

static void set_nothing(struct weir_metric *m, double value)
{
    (void)m, (void)value;
}

static void log_nothing(const struct weir_host *h, enum weir_log_level level, const char *message,
                        const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h, (void)level, (void)message, (void)kv, (void)n_kv;
}

static const struct weir_host host = {
    .alloc = alloc_zeroed,
    .realloc = realloc,
    .free = free,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_pending = stream_pending,
    .arena_printf = print_id,
    .metric_add = count_nothing,
    .metric_set = set_nothing,
    .log = log_nothing,
};

/* What those files need of others. */
struct weir_metric *lag_metric(const struct weir_host *h, const char *topic, int32_t partition)
{
    (void)h, (void)topic, (void)partition;
    return NULL;
}

void rights_tell(struct source *s)
{
    (void)s;
}

void commit_mark(struct source *s, struct part *p, int64_t next)
{
    p->watermark = next;
    s->dirty = true;
}

void ask(struct source *s, enum ask_kind kind, rd_kafka_topic_partition_list_t *take_list,
         uint64_t number)
{
    (void)s, (void)kind, (void)number;
    rd_kafka_topic_partition_list_destroy(take_list);
}

enum ask_state ask_answer(struct source *s, enum ask_kind kind, struct question *ret_take)
{
    (void)s, (void)kind, (void)ret_take;
    return ASK_NONE;
}

/* ---- A source with one partition ---- */

static struct source *source_new(void)
{
    struct source *s = calloc(1, sizeof(*s));
    s->client.host = &host;
    s->lanes = calloc(1, sizeof(*s->lanes));
    s->lanes->free = free;
    lanes_init(s->lanes);
    s->n_polls = 1;
    n_opened = n_closed = 0;
    n_entered = 0;
    assert_non_null(part_open(s, "t", 3));
    return s;
}

static void source_free(struct source *s)
{
    s->parts[0]->giving_up = true;
    parts_close(s);
    if (s->forgotten != NULL)
        rd_kafka_topic_partition_list_destroy(s->forgotten);
    lanes_free(s->lanes);
    free(s->parts);
    free(s);
}

static void set_offset(rd_kafka_topic_partition_t *o, int64_t offset, const char *metadata)
{
    o->offset = offset;
    if (metadata == NULL)
        return;
    o->metadata_size = strlen(metadata);
    o->metadata = rd_kafka_mem_malloc(NULL, o->metadata_size);
    memcpy(o->metadata, metadata, o->metadata_size);
}

/* As the group gives it. */
static void take_on(struct source *s, int64_t offset, const char *metadata)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    set_offset(rd_kafka_topic_partition_list_add(list, "t", s->parts[0]->origin.partition), offset,
               metadata);
    gone_taken_on(s, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* What becomes of a message; its id, "" where that is left to the host, NULL where it waits. */
static const char *emit(struct source *s, int64_t offset, int64_t time_ms)
{
    struct part *p = s->parts[0];
    struct weir_batch b = {0};
    struct weir_event ev = {.position = offset};
    if (!gone_check(s, p, offset, time_ms))
        return NULL;
    assert_true(mark_event(s, &b, p, time_ms, &ev));
    if (p->first_offset == NO_OFFSET)
        p->first_offset = offset;
    p->poll = s->n_polls;
    p->last_offset = offset;
    p->last_time_ms = time_ms;
    mark_emitted(s, p, offset, time_ms);
    return ev.id.len != 0 ? ev.id.ptr : "";
}

/* ---- When one begins anew ---- */

/* The host learns of a poll's events when it has ended: their stream must not go before. */
static void test_a_partition_does_not_begin_anew_in_the_poll_that_emitted_of_it(void **state)
{
    struct source *s = source_new();
    (void)state;
    assert_string_equal(emit(s, 100, 1000), "");
    assert_null(emit(s, 5, 2000));
    assert_int_equal(n_closed, 0);
    s->n_polls++;
    n_entered = 1;
    assert_null(emit(s, 5, 2000));
    assert_int_equal(n_closed, 0);
    n_entered = 0;
    s->n_polls++;
    assert_non_null(emit(s, 5, 2000));
    assert_int_equal(n_opened, 2);
    assert_int_equal(n_closed, 1);
    source_free(s);
}

/* ---- Ids ---- */

static void test_ids_have_no_mark_but_where_the_topic_was_made_again(void **state)
{
    struct source *s = source_new();
    (void)state;
    take_on(s, 7, NULL);
    assert_string_equal(emit(s, 7, 1000), "");
    assert_string_equal(emit(s, 8, 1000), "");
    assert_string_equal(emit(s, 10, 1000), ""); /* a gap */
    assert_false(s->dirty);
    s->n_polls++;
    assert_string_equal(emit(s, 0, 2000), "t-3-0@2000");
    assert_int_equal(s->parts[0]->watermark, 0); /* the mark is kept at once */
    assert_true(s->dirty);
    assert_string_equal(emit(s, 1, 3000), "t-3-1@2000");
    s->n_polls++;
    assert_string_equal(emit(s, 0, 4000), "t-3-0@4000"); /* once more */
    source_free(s);
}

static void test_the_group_keeps_the_mark(void **state)
{
    struct source *s = source_new();
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *o = rd_kafka_topic_partition_list_add(list, "t", 3);
    (void)state;
    mark_write(s, s->parts[0], o);
    assert_null(o->metadata);
    s->parts[0]->mark_ms = 1764432000123;
    mark_write(s, s->parts[0], o);
    o->offset = 50;
    s->parts[0]->mark_ms = 0;
    gone_taken_on(s, list);
    assert_string_equal(emit(s, 50, 1), "t-3-50@1764432000123");
    rd_kafka_topic_partition_list_destroy(list);
    source_free(s);
}

/* As another process that comes before the first commit. */
static void test_what_comes_before_the_groups_offset_is_of_a_topic_made_again(void **state)
{
    struct source *s = source_new();
    (void)state;
    take_on(s, 7, NULL);
    assert_string_equal(emit(s, 0, 2000), "t-3-0@2000");
    source_free(s);
    s = source_new();
    take_on(s, 7, NULL);
    gone_end(s, s->parts[0], 0); /* still empty */
    assert_string_equal(emit(s, 0, 5000), "t-3-0@5000");
    source_free(s);
}

/* It goes, and comes again. */
static void give_up(struct source *s)
{
    s->parts[0]->giving_up = true;
    parts_close(s);
    assert_non_null(part_open(s, "t", 3));
}

/* What the group answers for each partition that is remembered of the topic; returns how many. */
static int ask_group(struct source *s, const char *topic, int64_t offset, const char *metadata)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 8);
    rd_kafka_topic_partition_list_t *known = mark_known(s, list);
    int n = known->cnt;
    for (int i = 0; i < n; i++)
        set_offset(&known->elems[i], offset, metadata);
    mark_compare(s, known);
    rd_kafka_topic_partition_list_destroy(known);
    rd_kafka_topic_partition_list_destroy(list);
    return n;
}

static void test_an_offset_that_the_group_has_lost_is_of_a_topic_made_again(void **state)
{
    struct source *s = source_new();
    (void)state;
    take_on(s, -1, NULL);
    assert_string_equal(emit(s, 0, 1000), "");
    give_up(s);
    assert_int_equal(ask_group(s, "t", -1, NULL), 0);
    take_on(s, -1, NULL); /* nothing was committed: it is read as before */
    assert_string_equal(emit(s, 0, 1000), "");
    s->parts[0]->had_offset = true;
    give_up(s);
    assert_int_equal(ask_group(s, "t", 1, NULL), 1);
    take_on(s, 1, NULL); /* back from another member */
    assert_string_equal(emit(s, 1, 1000), "");
    give_up(s);
    assert_int_equal(ask_group(s, "other", -1, NULL), 0);
    assert_int_equal(ask_group(s, "t", -1, NULL), 1);
    take_on(s, -1, NULL);
    assert_string_equal(emit(s, 0, 9000), "t-3-0@9000");
    source_free(s);
}

/* This process has read another partition of it; the one that is taken on was another's. */
static void test_what_became_of_other_partitions_tells_that_the_topic_was_made_again(void **state)
{
    static const struct {
        int64_t offset; /* of partition 3, which had no mark */
        const char *metadata;
        const char *id;
    } cases[] = {
        {-1, NULL, "t-7-0@9000"},
        {5, NULL, ""},
        {5, "of others", ""},
        {5, "weir-made-again:8000", "t-7-0@9000"}, /* another process was faster */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct source *s = source_new();
        take_on(s, 7, NULL);
        s->parts[0]->giving_up = true;
        parts_close(s);
        assert_int_equal(ask_group(s, "t", cases[i].offset, cases[i].metadata), 1);
        assert_non_null(part_open(s, "t", 7));
        take_on(s, -1, NULL);
        assert_string_equal(emit(s, 0, 9000), cases[i].id);
        source_free(s);
    }
}

/* By a leader that had missed its last messages. */
static void test_a_partition_that_lost_its_end_keeps_its_ids(void **state)
{
    struct source *s = source_new();
    (void)state;
    assert_string_equal(emit(s, 100, 5000), "");
    s->n_polls++;
    assert_string_equal(emit(s, 40, 1000), "");
    assert_int_equal(n_opened, 2);
    assert_string_equal(emit(s, 41, 5000), "");
    s->n_polls++;
    assert_string_equal(emit(s, 40, 6000), "t-3-40@6000"); /* it was made again */
    s->n_polls++;
    assert_string_equal(emit(s, 0, 1000), "t-3-0@1000");
    source_free(s);
}

/* Nothing has come of it, and nothing was committed by this process. */
static void test_an_idle_partition_whose_topic_is_made_again(void **state)
{
    struct source *s = source_new();
    (void)state;
    take_on(s, 1000, NULL);
    gone_end(s, s->parts[0], 1000);
    gone_end(s, s->parts[0], 1000);
    assert_string_equal(emit(s, 0, 2000), "t-3-0@2000");
    source_free(s);
    s = source_new();
    take_on(s, -1, NULL);
    gone_end(s, s->parts[0], 30);
    assert_string_equal(emit(s, 30, 2000), "");
    source_free(s);
    s = source_new();
    take_on(s, 1000, NULL);
    give_up(s);
    assert_int_equal(ask_group(s, "t", -1, NULL), 1);
    take_on(s, -1, NULL);
    assert_string_equal(emit(s, 0, 3000), "t-3-0@3000");
    source_free(s);
}

/* Also where the group has that offset already, without the mark. */
static void test_a_mark_is_committed_at_once(void **state)
{
    struct source *s = source_new();
    (void)state;
    s->parts[0]->watermark = s->parts[0]->committed = 0;
    s->parts[0]->anew = true;
    assert_string_equal(emit(s, 0, 2000), "t-3-0@2000");
    assert_true(s->parts[0]->watermark != s->parts[0]->committed);
    source_free(s);
}

static void test_metadata_of_others_is_no_mark(void **state)
{
    static const char *const texts[] = {
        "",
        "x",
        "weir-made-again:",
        "weir-made-again:0",
        "weir-made-again:-5",
        "weir-made-again: 5",
        "weir-made-again:5x",
        "weir-made-again:99999999999999999999",
        "weir-made-again:000000000000000000000000000000000000000000000000000000000000005",
        "weir-made-agaim:5",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct source *s = source_new();
        take_on(s, 7, texts[i]);
        if (s->parts[0]->mark_ms != 0)
            fail_msg("'%s' is taken for a mark", texts[i]);
        source_free(s);
    }
}

/* ---- Gaps ---- */

static void answer(struct source *s, rd_kafka_resp_err_t code, rd_kafka_resp_err_t of_partition)
{
    struct question q = {.list = rd_kafka_topic_partition_list_new(1), .code = code};
    rd_kafka_topic_partition_list_add(q.list, "t", 3)->err = of_partition;
    take_begins(s, &q);
    rd_kafka_topic_partition_list_destroy(q.list);
}

static void test_a_run_to_the_end_does_not_ask_for_ever(void **state)
{
    struct source_config cfg = {.stop_at_end = true};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct source *s = source_new();
        s->cfg = &cfg;
        cfg.stop_at_end = i == 0;
        take_on(s, 10, NULL);
        assert_string_equal(emit(s, 20, 1000), "");
        for (int n = 0; n < ASKS_MOST; n++) {
            assert_true(gone_looks(s));
            answer(s, n % 2 == 0 ? RD_KAFKA_RESP_ERR__TIMED_OUT : RD_KAFKA_RESP_ERR_NO_ERROR,
                   RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR);
        }
        assert_true(gone_looks(s) == (i == 1)); /* one that goes on asks until it is told */
        source_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_partition_does_not_begin_anew_in_the_poll_that_emitted_of_it),
        cmocka_unit_test(test_ids_have_no_mark_but_where_the_topic_was_made_again),
        cmocka_unit_test(test_the_group_keeps_the_mark),
        cmocka_unit_test(test_what_comes_before_the_groups_offset_is_of_a_topic_made_again),
        cmocka_unit_test(test_an_offset_that_the_group_has_lost_is_of_a_topic_made_again),
        cmocka_unit_test(test_what_became_of_other_partitions_tells_that_the_topic_was_made_again),
        cmocka_unit_test(test_an_idle_partition_whose_topic_is_made_again),
        cmocka_unit_test(test_a_partition_that_lost_its_end_keeps_its_ids),
        cmocka_unit_test(test_a_mark_is_committed_at_once),
        cmocka_unit_test(test_metadata_of_others_is_no_mark),
        cmocka_unit_test(test_a_run_to_the_end_does_not_ask_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
