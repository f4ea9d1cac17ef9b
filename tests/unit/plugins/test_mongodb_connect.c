/* SPDX-License-Identifier: Apache-2.0
 *
 * The client of the sink mongodb against servers of the test's own: the ping that asks whether one
 * is there ends at its deadline, whatever the server does.
 */
#include <engine/host.h>
#include <arpa/inet.h>

#include "../../../plugins/mongodb/connect.c"
#include "../../../plugins/mongodb/dial.c"
#include "../../../plugins/mongodb/later.c"
#include "../../../plugins/mongodb/net.c"

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <cmocka.h>

static struct weir_host host;

static int64_t now(const struct weir_host *h)
{
    struct timespec ts;
    (void)h;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * WEIR_NS_PER_S + ts.tv_nsec;
}

/* ---- Servers ---- */

enum manner { MUTE, GONE, HANGS_UP, ANSWERS, REFUSES };

struct server {
    enum manner manner;
    int fd;
    char uri[80];
    pthread_t thread;
};

static bool take(int fd, void *into, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = read(fd, (char *)into + done, n - done);
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/* The same answer to everything: fit for the first hello, and for the ping behind it. */
static bool answer(int fd, const int32_t head[4], bool refuse)
{
    bson_t doc = BSON_INITIALIZER;
    BSON_APPEND_INT32(&doc, "ok", refuse && head[3] == 2013 ? 0 : 1);
    BSON_APPEND_INT32(&doc, "code", 13);
    BSON_APPEND_UTF8(&doc, "errmsg", "not you");
    BSON_APPEND_BOOL(&doc, "ismaster", true);
    BSON_APPEND_INT32(&doc, "minWireVersion", 0);
    BSON_APPEND_INT32(&doc, "maxWireVersion", 17);
    const int32_t reply[] = {8, 0, 0, 0, 1}; /* flags, cursor, start, number of documents */
    bool is_msg = head[3] == 2013;
    size_t between = is_msg ? 5 : sizeof(reply);
    const int32_t out[] = {(int32_t)(16 + between + doc.len), 1, head[1], is_msg ? 2013 : 1};
    bool sent =
        write(fd, out, sizeof(out)) == sizeof(out) &&
        write(fd, is_msg ? "\0\0\0\0\0" : (const char *)reply, between) == (ssize_t)between &&
        write(fd, bson_get_data(&doc), doc.len) == (ssize_t)doc.len;
    bson_destroy(&doc);
    return sent;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    static char body[1 << 16];
    int32_t head[4];
    int fd = accept(s->fd, NULL, NULL);
    while (fd >= 0 && s->manner != HANGS_UP && take(fd, head, sizeof(head)) &&
           take(fd, body, (size_t)head[0] - sizeof(head)))
        if (s->manner != MUTE && !answer(fd, head, s->manner == REFUSES))
            break;
    if (fd >= 0)
        (void)close(fd);
    return NULL;
}

static void start(struct server *s, enum manner manner)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    *s = (struct server){.manner = manner, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(bind(s->fd, (struct sockaddr *)(void *)&at, len), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)(void *)&at, &len), 0);
    snprintf(s->uri, sizeof(s->uri), "mongodb://127.0.0.1:%d/", ntohs(at.sin_port));
    if (manner == GONE)
        return;
    assert_int_equal(listen(s->fd, 10), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
    (void)shutdown(s->fd, SHUT_RDWR);
    if (s->manner != GONE)
        pthread_join(s->thread, NULL);
    (void)close(s->fd);
}

/* ---- Tests ---- */

/* What the ping says of a server of that manner within `ms`. */
static bool ping(enum manner manner, int64_t ms, bson_error_t *error)
{
    struct server s;
    start(&s, manner);
    *error = (bson_error_t){0};
    connect_init();
    bool done = connect_ping(&host, s.uri, now(NULL) + ms * WEIR_NS_PER_MS, error);
    stop(&s);
    return done;
}

static void test_ping(void **state)
{
    (void)state;
    bson_error_t error;
    assert_true(ping(ANSWERS, 60000, &error));
    assert_false(ping(REFUSES, 60000, &error));
    assert_int_equal(error.code, 13);
    assert_string_equal(error.message, "not you");
    assert_false(ping(GONE, 60000, &error));
    assert_non_null(strstr(error.message, "refused"));
    assert_false(ping(HANGS_UP, 60000, &error));
    assert_false(ping(MUTE, 50, &error)); /* which would be 300 s by the library's own limits */
    assert_int_equal(error.domain, MONGOC_ERROR_SERVER_SELECTION);
}

static void test_ping_without_a_server(void **state)
{
    (void)state;
    bson_error_t error = {0};
    connect_init();
    assert_false(connect_ping(&host, "mongodb://", now(NULL) + WEIR_NS_PER_S, &error));
    assert_non_null(strstr(error.message, "uri: "));
    assert_false(
        connect_ping(&host, "mongodb://%2Fnowhere%2Fm.sock/", now(NULL) + WEIR_NS_PER_S, &error));
    assert_non_null(strstr(error.message, "cannot connect to"));
    assert_false(connect_ping(&host, "mongodb+srv://store.nobody.invalid/",
                              now(NULL) + 50 * WEIR_NS_PER_MS, &error));
}

/* A connection string's refusal says what is wrong, but nothing that may be secret. */
static void test_messages_without_secrets(void **state)
{
    (void)state;
    static const char *const uris[] = {
        "mongodb://u:s3cret:x@h/",
        "mongodb://u:s3cret@h:99999/",
        "mongodb://u:s3/s3cret@h/",
        "mongodb://u:%zzs3cret@h/",
        "mongodb://h/?w=s3cret&journal=s3cret",
        "mongodb://h/?tls=s3cret",
        "mongodb://u:p@h/?authMechanism=s3cret",
        "mongodb://h/?readPreference=s3cret",
        "mongodb://h/?socketTimeoutMS=s3cret",
        "mongodb://h/?sslClientCertificateKeyPassword=s3cret&tlsCertificateKeyFilePassword=s3cret2",
        "mongodb://h/?tls=true&tls=s3cret",
        "mongodb+srv://u:s3cret@h/",
        "s3cret",
    };
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        char why[CONNECT_TEXT];
        mongoc_uri_t *uri = connect_uri(uris[i], why);
        if (why[0] == '\0' || strstr(why, "s3cret") != NULL)
            fail_msg("%s: %s", uris[i], why);
        mongoc_uri_destroy(uri);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_ping_without_a_server),
        cmocka_unit_test(test_messages_without_secrets),
    };
    host = *wr_host_control();
    host.now = now;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
