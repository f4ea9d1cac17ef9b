/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection of the plugin redis against a peer on a socket that says what a test wants: login,
 * refusals, what comes before an end, and the probe of `weir check --connect`.
 */
#include <engine/host.h>
#include <pthread.h>
#include <stdlib.h>

#include "../../../plugins/redis/address.c"
#include "../../../plugins/redis/bytes.c"
#include "../../../plugins/redis/conn.c"
#include "../../../plugins/redis/conn_config.c"
#include "../../../plugins/redis/connect.c"
#include "../../../plugins/redis/discovery.c"
#include "../../../plugins/redis/errors.c"
#include "../../../plugins/redis/login.c"
#include "../../../plugins/redis/reply.c"
#include "../../../plugins/redis/resolve.c"
#include "../../../plugins/redis/servers.c"
#include "../../../plugins/redis/slots.c"
#include "../../../plugins/redis/tls.c"

#include <arpa/inet.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- The peer: takes one connection, reads once before each answer, then closes ---- */

struct peer {
    int fd;
    char url[64];
    const char *answers[4]; /* NULL at the end; "" only reads */
    char heard[4096];
    pthread_t thread;
};

static void *peer_run(void *arg)
{
    struct peer *p = arg;
    int fd = accept(p->fd, NULL, NULL);
    size_t n = 0;
    for (size_t i = 0; fd >= 0 && p->answers[i] != NULL; i++) {
        ssize_t got = recv(fd, p->heard + n, sizeof(p->heard) - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
        size_t len = strlen(p->answers[i]);
        if (len > 0 && send(fd, p->answers[i], len, MSG_NOSIGNAL) < 0)
            break;
    }
    if (fd >= 0) {
        shutdown(fd, SHUT_WR);
        char rest[256];
        while (recv(fd, rest, sizeof(rest), 0) > 0) {
        }
        close(fd);
    }
    return NULL;
}

static void peer_start(struct peer *p)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(p->fd >= 0);
    assert_int_equal(bind(p->fd, (struct sockaddr *)(void *)&at, sizeof(at)), 0);
    assert_int_equal(listen(p->fd, 1), 0);
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)(void *)&at, &len), 0);
    snprintf(p->url, sizeof(p->url), "redis://127.0.0.1:%d", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&p->thread, NULL, peer_run, p), 0);
}

static void peer_end(struct peer *p)
{
    shutdown(p->fd, SHUT_RDWR);
    close(p->fd);
    pthread_join(p->thread, NULL);
}

static struct conn_config config_of(const char *url)
{
    return (struct conn_config){.url = weir_cstr(url), .connect_timeout_ns = WEIR_NS_PER_S};
}

/* Waits for the connection, and goes on with it. */
static void step(struct conn *c)
{
    int64_t deadline_ns = WEIR_NEVER;
    struct pollfd fd = {.fd = -1};
    fd.fd = conn_poll(c, &fd.events, &deadline_ns);
    (void)poll(&fd, 1, poll_timeout_ms(c->h, deadline_ns));
    conn_step(c, fd.revents);
}

/* Drives the connection until it is READY or BROKEN. */
static void drive(struct conn *c)
{
    while (c->state != CONN_READY && c->state != CONN_BROKEN)
        step(c);
}

/* Sends one PING and gives the letter of its reply, '!' where the connection broke first. */
static char send_ping(struct conn *c)
{
    struct reply reply;
    bytes_put_command(&c->out, 1, (struct weir_str[]){weir_cstr("PING")});
    for (;;) {
        if (conn_next(c, &reply))
            return "+-:$n*LD"[reply.type];
        if (c->state == CONN_BROKEN)
            return '!';
        step(c);
    }
}

/* ---- Tests ---- */

static void test_login_and_command(void **state)
{
    (void)state;
    struct peer p = {.answers = {"+OK\r\n+OK\r\n+OK\r\n", "+PONG\r\n", NULL}};
    struct conn c;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    cf.user = weir_cstr("me");
    cf.password = weir_cstr("a b");
    cf.database = 12;
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    drive(&c);
    assert_int_equal(c.state, CONN_READY);
    assert_int_equal(send_ping(&c), '+');
    conn_done(&c);
    peer_end(&p);
    assert_string_equal(p.heard, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$3\r\na b\r\n"
                                 "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n"
                                 "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$4\r\nweir\r\n"
                                 "*1\r\n$4\r\nPING\r\n");
}

/* The replies behind a refusal must not be taken for those of commands. */
static void expect_refused(const char *answer, const char *code, const char *hint)
{
    struct peer p = {.answers = {answer, NULL}};
    struct conn c;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    cf.password = weir_cstr("s3cret");
    cf.database = 1;
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    assert_int_equal(send_ping(&c), '!');
    assert_string_equal(c.error.code, code);
    assert_int_equal(c.error.verdict, WEIR_VERDICT_UNAVAILABLE);
    assert_non_null(strstr(c.text, hint));
    assert_null(strstr(c.text, "s3cret"));
    conn_done(&c);
    peer_end(&p);
}

static void test_refusals(void **state)
{
    (void)state;
    expect_refused("-WRONGPASS no\r\n-NOAUTH x\r\n-NOAUTH x\r\n", "wrongpass", "check `user`");
    expect_refused("+OK\r\n-ERR DB index is out of range\r\n+OK\r\n", "bad_database", "`database`");
    expect_refused("-ERR max number of clients reached\r\n", "max_clients", "try again later");
    expect_refused("-ERR Client sent AUTH, but no password is set\r\n+OK\r\n+OK\r\n",
                   "no_password_set", "check `user`");
    expect_refused("+OK\r\n", "connection_lost", "closed the connection");
    expect_refused("garbage\r\n", "protocol", "Redis's protocol");
    expect_refused("+OK\r\n+OK\r\n+OK\r\n+PONG\r\n", "protocol", "nobody asked for");
}

static void test_a_name_may_be_refused(void **state)
{
    (void)state;
    struct peer p = {.answers = {"-ERR unknown command 'CLIENT'\r\n", "+PONG\r\n", NULL}};
    struct conn c;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    assert_int_equal(send_ping(&c), '+');
    conn_done(&c);
    peer_end(&p);
}

/* What came before the end is still given out. */
static void test_replies_before_the_end(void **state)
{
    (void)state;
    struct peer p = {.answers = {"+OK\r\n", ":1\r\n:2\r\n", NULL}};
    struct conn c;
    struct reply reply;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    drive(&c);
    bytes_put(&c.out, "*1\r\n$4\r\nPING\r\n", 14);
    conn_send(&c);
    while (c.state != CONN_BROKEN)
        step(&c);
    assert_true(conn_next(&c, &reply) && reply.number == 1);
    assert_true(conn_next(&c, &reply) && reply.number == 2);
    assert_false(conn_next(&c, &reply));
    assert_string_equal(c.error.code, "connection_lost");
    conn_done(&c);
    peer_end(&p);
}

static void expect_broken_while_idle(struct conn *c)
{
    for (int i = 0; i < 1000 && c->state == CONN_READY; i++) {
        conn_check_idle(c);
        usleep(1000);
    }
    assert_int_equal(c->state, CONN_BROKEN);
}

static void test_an_idle_end_is_seen(void **state)
{
    (void)state;
    struct peer p = {.answers = {"+OK\r\n", NULL}};
    struct conn c;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    drive(&c);
    assert_int_equal(c.state, CONN_READY);
    expect_broken_while_idle(&c);
    conn_done(&c);
    peer_end(&p);
}

/* What comes while nothing is asked must not be taken for the next command's reply. */
static void test_an_unasked_reply_breaks_it(void **state)
{
    (void)state;
    struct peer p = {.answers = {"+OK\r\n", "+PONG\r\n+OK\r\n", NULL}};
    struct conn c;
    peer_start(&p);
    struct conn_config cf = config_of(p.url);
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    conn_open(&c);
    assert_int_equal(send_ping(&c), '+');
    expect_broken_while_idle(&c);
    assert_string_equal(c.error.code, "protocol");
    conn_done(&c);
    peer_end(&p);
}

/* Whoever waits for connections must not wait for one that broke before. */
static void test_a_broken_one_is_not_waited_for(void **state)
{
    (void)state;
    struct conn c;
    struct conn_config cf = config_of("unix:///nowhere/redis.sock");
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    int64_t deadline_ns = WEIR_NEVER;
    short wanted = 0;
    assert_int_equal(conn_poll(&c, &wanted, &deadline_ns), -1);
    assert_int_equal(deadline_ns, WEIR_NEVER);
    conn_open(&c);
    assert_int_equal(c.state, CONN_BROKEN);
    assert_int_equal(conn_poll(&c, &wanted, &deadline_ns), -1);
    assert_int_equal(deadline_ns, 0);
    conn_done(&c);
}

static enum weir_status probe_url(const char *url, int64_t ms, struct weir_error *err)
{
    const struct weir_host *h = wr_host_control();
    struct conn_config cf = config_of(url);
    *err = (struct weir_error){0};
    return servers_probe(h, &cf, h->now(h) + ms * WEIR_NS_PER_MS, err);
}

static void test_probe(void **state)
{
    (void)state;
    struct weir_error err;
    struct peer p = {.answers = {"+OK\r\n", "+PONG\r\n", NULL}};
    peer_start(&p);
    assert_int_equal(probe_url(p.url, 2000, &err), WEIR_OK);
    peer_end(&p);
    struct peer q = {.answers = {"+OK\r\n", "-LOADING not yet\r\n", NULL}};
    peer_start(&q);
    assert_int_equal(probe_url(q.url, 2000, &err), WEIR_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "LOADING"));
    peer_end(&q);
    struct peer r = {.answers = {"", "", NULL}};
    peer_start(&r);
    assert_int_equal(probe_url(r.url, 50, &err), WEIR_E_UNAVAILABLE);
    assert_string_equal(err.code, "timeout");
    peer_end(&r);
    assert_int_equal(probe_url(r.url, 2000, &err), WEIR_E_UNAVAILABLE);
    assert_string_equal(err.code, "connect_failed");
    assert_int_equal(probe_url("unix:///nowhere/redis.sock", 2000, &err), WEIR_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "/nowhere/redis.sock"));
    assert_int_equal(probe_url("redis://no-such-host.invalid", 20000, &err), WEIR_E_UNAVAILABLE);
    assert_string_equal(err.code, "resolve_failed");
}

/* A host that is a name: the thread of resolve.c finds it, and whoever gives up early leaks
 * nothing. */
static void test_names(void **state)
{
    (void)state;
    struct peer p = {.answers = {"+OK\r\n", "+PONG\r\n", NULL}};
    struct weir_error err;
    char url[80];
    peer_start(&p);
    snprintf(url, sizeof(url), "redis://localhost%s", strrchr(p.url, ':'));
    assert_int_equal(probe_url(url, 5000, &err), WEIR_OK);
    peer_end(&p);
    for (int i = 0; i < 20; i++) {
        struct conn c;
        struct conn_config cf = config_of("redis://no-such-host.invalid");
        conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
        conn_open(&c);
        assert_int_equal(c.state, CONN_RESOLVING);
        conn_open(&c); /* goes on with the same thread */
        conn_done(&c);
    }
}

/* A name that takes long to resolve does not hold up its caller. */
static void test_resolving_has_a_deadline(void **state)
{
    (void)state;
    struct conn c;
    struct conn_config cf = config_of("redis://slow.invalid");
    const struct weir_host *h = wr_host_control();
    cf.connect_timeout_ns = 20 * WEIR_NS_PER_MS;
    conn_init(&c, h, &cf, NULL, 1024, false);
    c.resolve = h->alloc(sizeof(*c.resolve)); /* as if its thread were never done */
    c.resolve->free = h->free;
    c.resolve->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    atomic_init(&c.resolve->refs, 1);
    conn_open(&c);
    while (c.state == CONN_RESOLVING)
        step(&c);
    assert_int_equal(c.state, CONN_BROKEN);
    assert_string_equal(c.error.code, "connect_timeout");
    conn_open(&c); /* waits for the same thread */
    assert_int_equal(c.state, CONN_RESOLVING);
    conn_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login_and_command),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_name_may_be_refused),
        cmocka_unit_test(test_replies_before_the_end),
        cmocka_unit_test(test_an_idle_end_is_seen),
        cmocka_unit_test(test_a_broken_one_is_not_waited_for),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_an_unasked_reply_breaks_it),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_resolving_has_a_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
