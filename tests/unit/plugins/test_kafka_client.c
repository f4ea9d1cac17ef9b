/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin kafka: what librdkafka's threads call at the same time, logs and the question for a
 * token, while the library holds locks of its own.
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

static const struct weir_host host = {.arena_new = no_arena,
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logs_do_not_wait_for_the_handing_over_of_a_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
