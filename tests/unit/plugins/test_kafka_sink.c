/* SPDX-License-Identifier: Apache-2.0
 *
 * The order of the sink kafka: what is taken back out of the library's queue, when, and what
 * becomes of events that wait for others. The library is played.
 */
#include <stdio.h>
#include <stdlib.h>

#define rd_kafka_fatal_error fake_fatal_error
#define rd_kafka_message_status fake_message_status
#define rd_kafka_poll fake_poll
#define rd_kafka_produceva fake_produceva
#define rd_kafka_purge fake_purge
#include "../../../plugins/kafka/report.c"
#include "../../../plugins/kafka/sink.c"
#include "../../../plugins/kafka/topics.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- The library, as far as it is played ---- */

#define HELD_MOST 32

static struct slot *held[HELD_MOST]; /* what it was given, until it reports */
static int n_held, n_produced;
static int n_purges, n_waited; /* and those that were waited for */
static rd_kafka_msg_status_t status;

rd_kafka_resp_err_t fake_fatal_error(rd_kafka_t *rk, char *text, size_t size)
{
    (void)rk, (void)text, (void)size;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

rd_kafka_msg_status_t fake_message_status(const rd_kafka_message_t *m)
{
    (void)m;
    return status;
}

rd_kafka_error_t *fake_produceva(rd_kafka_t *rk, const rd_kafka_vu_t *vu, size_t n)
{
    (void)rk;
    assert_true(n_held < HELD_MOST);
    held[n_held++] = vu[n - 1].u.ptr;
    n_produced++;
    rd_kafka_headers_destroy(vu[n - 2].u.headers);
    return NULL;
}

rd_kafka_resp_err_t fake_purge(rd_kafka_t *rk, int flags)
{
    (void)rk;
    n_purges++;
    n_waited += (flags & RD_KAFKA_PURGE_F_NON_BLOCKING) == 0;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* ---- The host ---- */

static int64_t now_ns;
static struct weir_result completed;
static int n_completed, n_logged;

int fake_poll(rd_kafka_t *rk, int timeout_ms)
{
    (void)rk;
    now_ns += timeout_ms * WEIR_NS_PER_MS;
    return 0;
}

static int64_t now(const struct weir_host *h)
{
    (void)h;
    return now_ns;
}

static void *alloc_zeroed(size_t size)
{
    return calloc(1, size);
}

static void complete(const struct weir_host *h, uint64_t ticket, uint32_t i,
                     const struct weir_result *r)
{
    (void)h, (void)ticket, (void)i;
    completed = *r;
    n_completed++;
}

static void log_counted(const struct weir_host *h, enum weir_log_level level, const char *message,
                        const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h, (void)level, (void)message, (void)kv, (void)n_kv;
    n_logged++;
}

static struct weir_arena *scratch(const struct weir_host *h)
{
    (void)h;
    return NULL;
}

static char text[512];

__attribute__((format(printf, 2, 3))) static struct weir_str print_text(struct weir_arena *a,
                                                                        const char *fmt, ...)
{
    va_list ap;
    (void)a;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return weir_cstr(text);
}

static struct weir_str id_of(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev)
{
    (void)h, (void)b, (void)ev;
    return weir_cstr("id");
}

static struct weir_str payload_of(const struct weir_host *h, struct weir_batch *b,
                                  struct weir_event *ev)
{
    (void)h, (void)b;
    return ev->payload;
}

static const struct weir_host host = {
    .alloc = alloc_zeroed,
    .free = free,
    .now = now,
    .log = log_counted,
    .scratch = scratch,
    .arena_printf = print_text,
    .complete = complete,
    .event_id = id_of,
    .event_payload = payload_of,
};

/* What those files need of others. */
void client_bar(struct client *c, enum bar bar, const char *reason)
{
    (void)c, (void)bar, (void)reason;
}

void client_step(struct client *c)
{
    (void)c;
}

bool topic_name_valid(struct weir_str name)
{
    return name.len != 0;
}

void sink_memory(const struct sink *s)
{
    (void)s;
}

int ms_until(const struct weir_host *h, int64_t deadline_ns, int most)
{
    (void)h, (void)deadline_ns;
    return most;
}

/* ---- A sink with one topic ---- */

static const struct sink_config cfg;

static struct sink *sink_new(bool reached)
{
    struct sink *s = calloc(1, sizeof(*s));
    s->client.host = &host;
    s->cfg = &cfg;
    s->literal = calloc(1, sizeof(*s->literal) + 2);
    s->literal->limit = NO_LIMIT;
    s->literal->reached = reached;
    s->literal->name[0] = 't';
    pthread_mutex_init(&s->polling, NULL);
    n_held = n_produced = n_purges = n_waited = n_completed = n_logged = 0;
    status = RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
    return s;
}

static void sink_free(struct sink *s)
{
    for (struct slot_chunk *next, *at = s->chunks; at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    pthread_mutex_destroy(&s->polling);
    free(s->literal);
    free(s);
}

/* Writes so many events; the results are the caller's to look at until the next one. */
static struct weir_result *write_events(struct sink *s, uint64_t ticket, uint32_t n)
{
    static struct weir_event events[8];
    static struct weir_result results[8];
    memset(results, 0, sizeof(results));
    for (uint32_t i = 0; i < n; i++)
        events[i] = (struct weir_event){.payload = weir_cstr("payload")};
    struct weir_batch b = {.events = events, .n_events = n, .ticket = ticket};
    b.stride = sizeof(events[0]);
    struct weir_results r = {n, sizeof(results[0]), results};
    sink_write(s, &b, now_ns + 30 * WEIR_NS_PER_S, &r);
    return results;
}

/* The library's report of what it was given first. */
static void report(struct sink *s, rd_kafka_resp_err_t code)
{
    rd_kafka_message_t m = {.err = code, ._private = held[0]};
    memmove(held, held + 1, (size_t)--n_held * sizeof(held[0]));
    on_report(NULL, &m, s);
}

static void assert_behind(const struct weir_result *r, const char *code)
{
    assert_int_equal(r->verdict, WEIR_VERDICT_BEHIND);
    assert_string_equal(r->code, code);
}

/* ---- Tests ---- */

static void test_what_is_behind_a_refused_event_follows_it(void **state)
{
    struct sink *s = sink_new(true);
    (void)state;
    write_events(s, 5, 3);
    report(s, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_int_equal(completed.verdict, WEIR_VERDICT_RETRY);
    assert_int_equal(n_purges, 1);
    assert_behind(&write_events(s, 6, 1)[0], "request_too_large");
    assert_int_equal(n_produced, 3);
    report(s, RD_KAFKA_RESP_ERR__PURGE_QUEUE);
    assert_behind(&completed, "request_too_large");
    report(s, RD_KAFKA_RESP_ERR_NO_ERROR); /* it was sent already */
    assert_int_equal(n_waited, 0);
    write_events(s, 7, 1);
    assert_int_equal(n_produced, 4);
    assert_int_equal(n_waited, 1); /* none that comes late takes what comes now */
    assert_int_equal(n_logged, 0);
    sink_free(s);
}

/* Somebody takes back what nobody waits for: it is written again, and so is what comes behind it.
 */
static void test_what_is_taken_back_unasked_is_not_given_up(void **state)
{
    struct sink *s = sink_new(true);
    (void)state;
    write_events(s, 5, 2);
    report(s, RD_KAFKA_RESP_ERR__PURGE_QUEUE);
    assert_behind(&completed, "taken_back");
    assert_int_equal(n_purges, 1);
    assert_behind(&write_events(s, 6, 1)[0], "taken_back");
    report(s, RD_KAFKA_RESP_ERR__PURGE_QUEUE);
    assert_behind(&completed, "taken_back");
    write_events(s, 7, 1);
    atomic_store(&s->cancelled, true);
    report(s, RD_KAFKA_RESP_ERR__PURGE_QUEUE);
    assert_int_equal(completed.verdict, WEIR_VERDICT_UNAVAILABLE);
    assert_string_equal(completed.code, "canceled");
    sink_free(s);
}

static void test_what_may_have_been_written_is_told(void **state)
{
    struct sink *s = sink_new(true);
    (void)state;
    write_events(s, 5, 2);
    report(s, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    status = RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED;
    report(s, RD_KAFKA_RESP_ERR__PURGE_QUEUE);
    assert_behind(&completed, "possibly_written");
    write_events(s, 6, 1);
    assert_int_equal(n_logged, 1);
    report(s, RD_KAFKA_RESP_ERR_NO_ERROR);
    write_events(s, 7, 1);
    assert_int_equal(n_logged, 1);
    sink_free(s);
}

static void test_a_write_does_not_wait_long_for_the_first_one(void **state)
{
    struct sink *s = sink_new(false);
    int64_t before = now_ns;
    (void)state;
    write_events(s, 5, 3);
    assert_int_equal(n_produced, 3);
    struct weir_result *r = write_events(s, 6, 2);
    assert_behind(&r[0], "first_write");
    assert_behind(&r[1], "first_write");
    assert_int_equal(now_ns - before, FIRST_WAIT);
    assert_behind(&write_events(s, 7, 1)[0], "first_write");
    assert_int_equal(now_ns - before, FIRST_WAIT); /* nor does anything behind it */
    assert_int_equal(n_produced, 3);
    assert_int_equal(n_purges, 0);
    for (int i = 0; i < 3; i++)
        report(s, RD_KAFKA_RESP_ERR_NO_ERROR);
    write_events(s, 8, 1);
    write_events(s, 9, 1);
    assert_int_equal(n_produced, 5);
    sink_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_behind_a_refused_event_follows_it),
        cmocka_unit_test(test_what_is_taken_back_unasked_is_not_given_up),
        cmocka_unit_test(test_what_may_have_been_written_is_told),
        cmocka_unit_test(test_a_write_does_not_wait_long_for_the_first_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
