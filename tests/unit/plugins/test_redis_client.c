/* SPDX-License-Identifier: Apache-2.0
 *
 * The client behind the transform redis, with a socket for a server that answers when it is told
 * to.
 */
#include <arpa/inet.h>
#include <base/mem.h>
#include <engine/host.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../plugins/redis/client_thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- The host, and the server ---- */

static void host_log(const struct weir_host *h, enum weir_log_level level, const char *message,
                     const struct weir_kv *kv, uint32_t n_kv)
{
    (void)h;
    (void)level;
    (void)message;
    (void)kv;
    (void)n_kv;
}

static void host_wake(const struct weir_host *h)
{
    (void)h; /* tests look for themselves */
}

struct rig {
    struct weir_host h;
    struct conn_config conn;
    char url[64];
    int listener, peer;
    struct client *client;
    struct group *group;
};

static void hear(const struct rig *r, const char *word)
{
    char got[1000] = "";
    size_t n = 0;
    while (strstr(got, word) == NULL) {
        ssize_t len = recv(r->peer, got + n, sizeof(got) - 1 - n, 0);
        assert_true(len > 0);
        n += (size_t)len;
        got[n] = '\0';
    }
}

static void say(const struct rig *r, const char *text)
{
    assert_int_equal(send(r->peer, text, strlen(text), 0), (ssize_t)strlen(text));
}

/* Asks GET k, which the server has heard when it returns. */
static void rig_open(struct rig *r, bool wait)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    struct weir_error err = {0};
    *r = (struct rig){.h = *wr_host_control()};
    r->h.log = host_log;
    r->h.wake = host_wake;
    r->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    assert_int_equal(listen(r->listener, 1), 0);
    assert_int_equal(getsockname(r->listener, (struct sockaddr *)(void *)&at, &len), 0);
    snprintf(r->url, sizeof(r->url), "redis://127.0.0.1:%d", ntohs(at.sin_port));
    r->conn =
        (struct conn_config){.url = weir_cstr(r->url), .connect_timeout_ns = WEIR_NS_PER_S * 60};
    const struct client_config config = {.conn = &r->conn,
                                         .timeout_ns = WEIR_NS_PER_S * 60,
                                         .wait = wait,
                                         .cache = {10, 10000},
                                         .ttl_ns = WEIR_NS_PER_S * 60};
    r->client = client_new(&r->h, &config);
    assert_non_null(r->client);
    assert_int_equal(client_join(r->client, &r->h, &err), WEIR_OK);
    r->group = group_new(&r->h, 1);
    bytes_put_command(&r->group->commands, 2,
                      (struct weir_str[]){weir_cstr("GET"), weir_cstr("k")});
    r->group->questions[0].len = r->group->commands.len;
    r->group->n = 1;
    assert_int_equal(client_ask_cache(r->client, r->group), 1);
    client_submit(r->client, r->group);
    r->peer = accept(r->listener, NULL, NULL);
    assert_true(r->peer >= 0);
    hear(r, "SETNAME");
    say(r, "+OK\r\n");
    hear(r, "GET");
}

static void rig_close(struct rig *r)
{
    client_release(r->client, r->group);
    client_leave(r->client, &r->h);
    client_free(r->client);
    close(r->peer);
    close(r->listener);
}

static void wait_for_answer(const struct rig *r)
{
    while (atomic_load(&r->group->n_waiting) > 0)
        usleep(100);
}

static bool is_queued(struct client *c)
{
    pthread_mutex_lock(&c->lock);
    bool queued = c->queue.first != NULL;
    pthread_mutex_unlock(&c->lock);
    return queued;
}

/* ---- Tests ---- */

static void test_an_answer_is_kept(void **state)
{
    (void)state;
    size_t before = wr_mem_used();
    struct rig r;
    rig_open(&r, true);
    say(&r, "$1\r\nv\r\n");
    wait_for_answer(&r);
    assert_int_equal(r.group->questions[0].answer.state, ANSWER_FOUND);
    blob_unref(r.group->questions[0].answer.blob);
    r.group->questions[0].answer.blob = NULL;
    assert_int_equal(client_ask_cache(r.client, r.group), 0);
    rig_close(&r);
    assert_int_equal(wr_mem_used(), before);
}

/* Nobody waits for it any more when the server says that it is to be asked again; then all leave.
 */
static void test_a_question_that_nobody_waits_for_is_let_go(void **state)
{
    (void)state;
    size_t before = wr_mem_used();
    struct rig r;
    rig_open(&r, true);
    client_release(r.client, r.group);
    r.group = NULL;
    say(&r, "-TRYAGAIN later\r\n");
    while (!is_queued(r.client))
        usleep(100);
    rig_close(&r);
    assert_int_equal(wr_mem_used(), before);
}

static void test_an_outage_is_an_answer_where_nobody_waits(void **state)
{
    (void)state;
    size_t before = wr_mem_used();
    struct rig r;
    rig_open(&r, false);
    say(&r, "-LOADING not yet\r\n");
    wait_for_answer(&r);
    const struct answer *a = &r.group->questions[0].answer;
    assert_int_equal(a->state, ANSWER_UNAVAILABLE);
    assert_string_equal(a->code, "loading");
    assert_non_null(strstr(a->message, "LOADING not yet"));
    rig_close(&r);
    assert_int_equal(wr_mem_used(), before);
}

static void *answer_later(void *arg)
{
    usleep(50000);
    say(arg, "$1\r\nv\r\n");
    return NULL;
}

static void test_a_flush_ends_with_the_last_answer(void **state)
{
    (void)state;
    struct rig r;
    pthread_t thread;
    rig_open(&r, true);
    assert_int_equal(pthread_create(&thread, NULL, answer_later, &r), 0);
    client_flush(r.client, r.group, r.h.now(&r.h) + 60 * WEIR_NS_PER_S);
    assert_int_equal(atomic_load(&r.group->n_waiting), 0);
    pthread_join(thread, NULL);
    client_flush(r.client, r.group, r.h.now(&r.h) + 60 * WEIR_NS_PER_S); /* nothing to wait for */
    rig_close(&r);
}

static void test_a_flush_ends_at_its_time(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    int64_t until = r.h.now(&r.h) + WEIR_NS_PER_S / 20;
    client_flush(r.client, r.group, until);
    assert_true(r.h.now(&r.h) >= until);
    assert_int_equal(atomic_load(&r.group->n_waiting), 1);
    client_flush(r.client, r.group, until); /* it is over for others as well */
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_is_kept),
        cmocka_unit_test(test_a_question_that_nobody_waits_for_is_let_go),
        cmocka_unit_test(test_an_outage_is_an_answer_where_nobody_waits),
        cmocka_unit_test(test_a_flush_ends_with_the_last_answer),
        cmocka_unit_test(test_a_flush_ends_at_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
