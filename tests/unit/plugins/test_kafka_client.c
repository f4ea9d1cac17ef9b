/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin kafka: what librdkafka's threads call at the same time, logs and the question for a
 * token, while the library holds locks of its own; what the requests of a group tell; logins and
 * rights that are missing.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *fake_opaque(const rd_kafka_t *rk);
static rd_kafka_resp_err_t fake_failure(rd_kafka_t *rk, const char *text);
#define rd_kafka_opaque fake_opaque
#define rd_kafka_oauthbearer_set_token_failure fake_failure
#include "../../../plugins/kafka/client.c"
#include "../../../plugins/kafka/oauth.c"
#include "../../../plugins/kafka/wire.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* What those files need of others; nothing here gets that far. */
void problem(struct problems *p, const char *path, const char *fmt, ...)
{
    (void)path, (void)fmt;
    p->n++;
}

void set(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
         const char *value)
{
    (void)conf, (void)p, (void)path, (void)name, (void)value;
}

void set_text(rd_kafka_conf_t *conf, struct problems *p, const char *path, const char *name,
              struct weir_str value)
{
    (void)conf, (void)p, (void)path, (void)name, (void)value;
}

rd_kafka_conf_t *client_conf(const struct client_config *cfg, struct problems *p)
{
    (void)cfg, (void)p;
    return NULL;
}

void client_conf_raw(rd_kafka_conf_t *conf, const struct client_config *cfg, enum weir_kind kind,
                     struct problems *p)
{
    (void)conf, (void)cfg, (void)kind, (void)p;
}

bool scram_is_old(const struct client_config *cfg)
{
    (void)cfg;
    return false;
}

bool stats_init(struct client *c, enum weir_kind kind, rd_kafka_conf_t *conf,
                struct weir_error *err)
{
    (void)c, (void)kind, (void)conf, (void)err;
    return true;
}

void stats_done(struct client *c)
{
    (void)c;
}

/* ---- A host without memory, so that a question for a token ends in a failure at once ---- */

static _Atomic int n_logs;

static struct weir_arena *no_arena(const struct weir_host *h)
{
    (void)h;
    return NULL;
}

static enum weir_status put_error(struct weir_error *err, enum weir_status status, const char *code,
                                  const char *fmt, ...)
{
    (void)code;
    err->status = status;
    snprintf(err->text, sizeof(err->text), "%s", fmt);
    return status;
}

static struct weir_metric *no_counter(const struct weir_host *h, const char *name, const char *help,
                                      const char *const *labels)
{
    (void)h, (void)name, (void)help, (void)labels;
    return NULL;
}

static bool log_all(const struct weir_host *h, enum weir_log_level level)
{
    (void)h, (void)level;
    return true;
}

static void count_log(const struct weir_host *h, enum weir_log_level level, const char *message,
                      const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h, (void)level, (void)message, (void)kv, (void)n_kv;
    n_logs++;
}

static char unready[WEIR_ERROR_TEXT];

static void set_ready(const struct weir_host *h, const char *reason)
{
    (void)h;
    snprintf(unready, sizeof(unready), "%s", reason != NULL ? reason : "");
}

static const void *extension(const struct weir_host *h, const char *name)
{
    static const struct weir_ready_extension ready = {sizeof(ready), set_ready};
    (void)h;
    return strcmp(name, WEIR_READY_EXTENSION) == 0 ? &ready : NULL;
}

static int64_t clock_ns;

static int64_t now(const struct weir_host *h)
{
    (void)h;
    return clock_ns;
}

static void add_nothing(struct weir_metric *m, uint64_t n)
{
    (void)m, (void)n;
}

static const struct weir_host host = {.arena_new = no_arena,
                                      .extension = extension,
                                      .now = now,
                                      .metric_add = add_nothing,
                                      .error = put_error,
                                      .counter = no_counter,
                                      .log_enabled = log_all,
                                      .log = count_log};

/* ---- The library ---- */

static struct client client;
static pthread_t logger;
static bool logger_waits;
static int n_failures;

static void *fake_opaque(const rd_kafka_t *rk)
{
    (void)rk;
    return &client;
}

static void *log_once(void *arg)
{
    (void)arg;
    on_log(NULL, LOG_INFO, "X", "a log under a lock of the library");
    return NULL;
}

/* Logs, and waits for a lock that another thread holds while it logs. */
static rd_kafka_resp_err_t fake_failure(rd_kafka_t *rk, const char *text)
{
    struct timespec until;
    (void)rk, (void)text;
    n_failures++;
    on_log(NULL, LOG_INFO, "X", "a log of the same thread");
    pthread_create(&logger, NULL, log_once, NULL);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    logger_waits = pthread_timedjoin_np(logger, NULL, &until) != 0;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void ask_for_a_token(void)
{
    on_refresh(NULL, NULL, &client);
    if (logger_waits)
        pthread_join(logger, NULL);
    assert_false(logger_waits);
}

static void test_logs_do_not_wait_for_the_handing_over_of_a_token(void **state)
{
    static const struct client_config cfg = {.sasl.mechanism = SASL_OAUTHBEARER};
    (void)state;
    client_init(&client, &host, &cfg);
    ask_for_a_token();
    assert_int_equal(n_logs, 2);
    client_mute(&client);
    ask_for_a_token();
    assert_int_equal(n_logs, 2);
    assert_int_equal(n_failures, 2);
    client_done(&client);
}

/* ---- Requests of a group ---- */

static void asks(int16_t kind)
{
    on_request(NULL, 0, "", 0, kind, 0, 0, 0, &client);
}

static void answers(int16_t kind, rd_kafka_resp_err_t code)
{
    on_response(NULL, 0, "", 0, kind, 0, 0, 0, 0, code, &client);
}

static void test_a_join_lasts_until_its_assignment_has_come(void **state)
{
    static const struct client_config cfg = {0};
    (void)state;
    client = (struct client){0};
    client_init(&client, &host, &cfg);
    assert_false(wire_joining(&client));
    asks(HEARTBEAT);
    answers(HEARTBEAT, 0);
    assert_false(wire_joining(&client));
    asks(JOIN_GROUP);
    assert_true(wire_joining(&client));
    answers(JOIN_GROUP, 0);
    asks(SYNC_GROUP);
    answers(SYNC_GROUP, RD_KAFKA_RESP_ERR__TRANSPORT);
    assert_true(wire_joining(&client));
    asks(JOIN_GROUP);
    answers(JOIN_GROUP, 0);
    asks(SYNC_GROUP);
    answers(SYNC_GROUP, 0);
    assert_false(wire_joining(&client));
    client_done(&client);
}

static void test_a_lease_counts_from_when_the_group_was_asked(void **state)
{
    static const struct client_config cfg = {0};
    (void)state;
    client = (struct client){.wire.session_ns = 100};
    client_init(&client, &host, &cfg);
    assert_int_equal(wire_lease(&client), WEIR_NEVER); /* nothing is ours yet */
    clock_ns = 1000;
    asks(SYNC_GROUP);
    clock_ns = 1050;
    answers(SYNC_GROUP, 0);
    assert_int_equal(wire_lease(&client), 1100);
    asks(HEARTBEAT);
    clock_ns = 1090;
    answers(-1, 0); /* the library knows no more of what */
    answers(HEARTBEAT, RD_KAFKA_RESP_ERR__TIMED_OUT);
    assert_int_equal(wire_lease(&client), 1100);
    asks(HEARTBEAT);
    clock_ns = 1300;
    answers(HEARTBEAT, 0);
    assert_int_equal(wire_lease(&client), 1190);
    asks(HEARTBEAT);
    answers(HEARTBEAT, 0); /* it may say that the session is over */
    assert_int_equal(wire_lease(&client), 1190);
    clock_ns = 1350;
    asks(HEARTBEAT); /* the library goes on: it did not */
    assert_int_equal(wire_lease(&client), 1400);
    answers(HEARTBEAT, 0);
    assert_int_equal(wire_lease(&client), 1450);
    clock_ns = 1500;
    asks(JOIN_GROUP); /* the group waits for all its members */
    assert_int_equal(wire_lease(&client), WEIR_NEVER);
    asks(SYNC_GROUP);
    answers(SYNC_GROUP, 0);
    assert_int_equal(wire_lease(&client), 1600);
    client_mute(&client);
    clock_ns = 5000;
    asks(HEARTBEAT); /* the host may be gone */
    answers(HEARTBEAT, 0);
    assert_int_equal(wire_lease(&client), 1600);
    client_done(&client);
}

/* ---- Logins and rights ---- */

static void test_a_refused_login_is_told_until_a_broker_answers(void **state)
{
    static const struct client_config cfg = {.sasl.mechanism = SASL_PLAIN, .sasl.user = {"me", 2}};
    (void)state;
    client = (struct client){0};
    client_init(&client, &host, &cfg);
    answers(3, 0);
    client_fault(&client, RD_KAFKA_RESP_ERR__AUTHENTICATION, "wrong password", NULL);
    assert_string_equal(unready, "Kafka refuses the login: check `sasl`: wrong password");
    client_step(&client);
    assert_string_not_equal(unready, "");
    answers(API_VERSIONS, 0); /* which anybody may ask */
    answers(SASL_HANDSHAKE, 0);
    answers(3, RD_KAFKA_RESP_ERR__TRANSPORT);
    client_step(&client);
    assert_string_not_equal(unready, "");
    client_bar(&client, BAR_RIGHT, "no right");
    assert_string_equal(unready, "Kafka refuses the login: check `sasl`: wrong password");
    answers(3, 0);
    client_step(&client);
    assert_string_equal(unready, "no right");
    client_bar(&client, BAR_RIGHT, "");
    assert_string_equal(unready, "");
    client_fault(&client, RD_KAFKA_RESP_ERR__AUTHENTICATION,
                 "Authentication failed: Local: Broker transport failure", NULL);
    assert_string_equal(unready, ""); /* a connection that ended says nothing of the login */
    client_done(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logs_do_not_wait_for_the_handing_over_of_a_token),
        cmocka_unit_test(test_a_join_lasts_until_its_assignment_has_come),
        cmocka_unit_test(test_a_lease_counts_from_when_the_group_was_asked),
        cmocka_unit_test(test_a_refused_login_is_told_until_a_broker_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
