/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of the plugin redis for clusters and guards: slots, redirections, the lists of servers that
 * nodes and Sentinels give, the guard's key, the queue of events.
 */
#include <base/arena.h>
#include <engine/host.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../plugins/redis/address.c"
#include "../../../plugins/redis/bytes.c"
#include "../../../plugins/redis/conn.c"
#include "../../../plugins/redis/conn_config.c"
#include "../../../plugins/redis/connect.c"
#include "../../../plugins/redis/discovery.c"
#include "../../../plugins/redis/errors.c"
#include "../../../plugins/redis/guard.c"
#include "../../../plugins/redis/login.c"
#include "../../../plugins/redis/queue.c"
#include "../../../plugins/redis/reply.c"
#include "../../../plugins/redis/resolve.c"
#include "../../../plugins/redis/servers.c"
#include "../../../plugins/redis/slots.c"
#include "../../../plugins/redis/tls.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void part(const char *key, const char *want)
{
    struct weir_str got = slot_part(weir_cstr(key));
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void test_slots(void **state)
{
    (void)state;
    assert_int_equal(slot_of(weir_cstr("123456789")), 0x31c3); /* of the Cluster specification */
    assert_int_equal(slot_of(weir_cstr("foo")), 12182);
    assert_int_equal(slot_of(weir_cstr("somekey")), 11058);
    assert_int_equal(slot_of(weir_str_n(NULL, 0)), 0);
    assert_int_equal(slot_of(weir_cstr("a{foo}b")), 12182);
    assert_true(slot_of(weir_str_n("\xff\0\x80", 3)) < N_SLOTS);
    part("a{b}c{d}e", "b");
    part("a{}c{d}e", "a{}c{d}e");
    part("a{b", "a{b");
    part("a}b{c}", "c");
    part("{{a}}", "{a");
    part("", "");
}

static void test_redirections(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "MOVED",
                                        "MOVED ",
                                        "MOVED 1",
                                        "MOVED 1 ",
                                        "MOVED x 127.0.0.1:1",
                                        "MOVED -1 127.0.0.1:1",
                                        "MOVED 16384 127.0.0.1:1",
                                        "MOVED 1 127.0.0.1",
                                        "MOVED 1 127.0.0.1:",
                                        "MOVED 1 127.0.0.1:0",
                                        "MOVED 1 127.0.0.1:65536",
                                        "MOVED 1 127.0.0.1:1x",
                                        "moved 1 127.0.0.1:1",
                                        "ASKING 1 127.0.0.1:1",
                                        "WRONGTYPE 1 127.0.0.1:1"};
    bool ask;
    unsigned slot;
    char host[256], port[8], text[400];
    assert_true(
        discovery_read_redirect(weir_cstr("MOVED 3999 127.0.0.1:6381"), &ask, &slot, host, port));
    assert_false(ask);
    assert_int_equal(slot, 3999);
    assert_string_equal(host, "127.0.0.1");
    assert_string_equal(port, "6381");
    assert_true(discovery_read_redirect(weir_cstr("ASK 0 ::1:7"), &ask, &slot, host, port));
    assert_true(ask);
    assert_string_equal(host, "::1");
    assert_true(discovery_read_redirect(weir_cstr("MOVED 5 :7 x"), &ask, &slot, host, port));
    assert_string_equal(host, "");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (discovery_read_redirect(weir_cstr(wrong[i]), &ask, &slot, host, port))
            fail_msg("taken: %s", wrong[i]);
    }
    memset(text, 'h', sizeof(text));
    memcpy(text, "MOVED 1 ", 8);
    memcpy(text + 390, ":1", 3);
    assert_false(discovery_read_redirect(weir_cstr(text), &ask, &slot, host, port));
}

/* ---- Lists of servers ---- */

struct answer {
    struct conn_config cf;
    struct servers s;
    struct replies in;
};

static void open_answer(struct answer *a, bool cluster)
{
    struct weir_error err;
    a->cf = (struct conn_config){.url = weir_cstr("redis://seed:7"),
                                 .cluster = cluster,
                                 .connect_timeout_ns = WEIR_NS_PER_S};
    if (!cluster)
        a->cf.sentinel.master = weir_cstr("m");
    assert_true(servers_init(&a->s, wr_host_control(), &a->cf, 1024, false, &err));
    replies_init(&a->in, wr_host_control(), 1 << 20, true);
}

static void close_answer(struct answer *a)
{
    replies_done(&a->in);
    servers_done(&a->s);
}

/* Takes an answer as RESP. */
static bool take(struct answer *a, const char *resp, size_t len)
{
    size_t room;
    struct reply reply;
    replies_reset(&a->in);
    memcpy(replies_space(&a->in, &room), resp, len);
    replies_filled(&a->in, len);
    return replies_next(&a->in, &reply) == REPLY_READ && discovery_take_answer(&a->s, &reply);
}

#define TAKE(a, resp) take(a, resp, sizeof(resp) - 1)
#define NODE(host, port) "*3\r\n$" host "\r\n:" port "\r\n$2\r\nid\r\n"

static void test_slots_of_a_cluster(void **state)
{
    (void)state;
    struct answer a;
    open_answer(&a, true);
    assert_true(TAKE(&a, "*2\r\n*4\r\n:0\r\n:99\r\n" NODE("1\r\na", "1")
                             NODE("1\r\nr", "9") "*3\r\n:100\r\n:16383\r\n" NODE("1\r\nb", "2")));
    assert_int_equal(a.s.n, 2);
    assert_string_equal(servers_for(&a.s, 99)->conn.where, "a:1");
    assert_string_equal(servers_for(&a.s, 100)->conn.where, "b:2");
    /* Node a is gone, its place is taken by another; an empty host is the one that was asked. */
    assert_true(TAKE(&a, "*1\r\n*3\r\n:0\r\n:16000\r\n" NODE("0\r\n", "3")));
    assert_int_equal(a.s.n, 3);
    assert_string_equal(servers_for(&a.s, 5)->conn.where, "seed:3");
    assert_null(servers_for(&a.s, 16383));
    assert_string_equal(a.s.error.code, "clusterdown");
    assert_true(TAKE(&a, "*1\r\n*3\r\n:0\r\n:16383\r\n" NODE("1\r\nc", "4")));
    assert_int_equal(a.s.n, 3);
    assert_string_equal(servers_for(&a.s, 5)->conn.where, "c:4");
    close_answer(&a);
}

/* A list of that many ranges, all of them slot 16383 at a. */
static bool take_many_ranges(struct answer *a, int n)
{
    static const char range[] = "*3\r\n:16383\r\n:16383\r\n" NODE("1\r\na", "1");
    char head[32];
    int len = snprintf(head, sizeof(head), "*%d\r\n", n);
    struct reply reply;
    replies_reset(&a->in);
    for (int i = -1; i < n; i++) {
        size_t room;
        const char *piece = i < 0 ? head : range;
        size_t size = i < 0 ? (size_t)len : sizeof(range) - 1;
        memcpy(replies_space(&a->in, &room), piece, size);
        assert_true(room >= size);
        replies_filled(&a->in, size);
        enum reply_result result = replies_next(&a->in, &reply);
        assert_int_equal(result, i + 1 < n ? REPLY_MORE : REPLY_READ);
    }
    return discovery_take_answer(&a->s, &reply);
}

static void test_what_is_no_list_of_slots(void **state)
{
    (void)state;
    struct answer a;
    open_answer(&a, true);
    assert_true(TAKE(&a, "*1\r\n*3\r\n:0\r\n:16383\r\n" NODE("1\r\na", "1")));
    assert_false(TAKE(&a, "*0\r\n"));
    assert_false(TAKE(&a, "$-1\r\n"));
    assert_false(TAKE(&a, ":1\r\n"));
    assert_false(TAKE(&a, "-ERR This instance has cluster support disabled\r\n"));
    assert_false(TAKE(&a, "*1\r\n:1\r\n"));
    assert_false(TAKE(&a, "*1\r\n*2\r\n:0\r\n:16383\r\n"));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:0\r\n:16384\r\n" NODE("1\r\na", "1")));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:-1\r\n:1\r\n" NODE("1\r\na", "1")));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:5\r\n:1\r\n" NODE("1\r\na", "1")));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:0\r\n:1\r\n" NODE("1\r\na", "0")));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:0\r\n:1\r\n" NODE("1\r\na", "65536")));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n"));
    assert_false(TAKE(&a, "*1\r\n*3\r\n:0\r\n:1\r\n" NODE("3\r\na\0b", "1")));
    assert_false(take_many_ranges(&a, N_SLOTS + 1));
    assert_true(take_many_ranges(&a, 1000));
    assert_string_equal(servers_for(&a.s, 16383)->conn.where, "a:1"); /* as it was */
    close_answer(&a);
}

static void test_the_master_of_sentinels(void **state)
{
    (void)state;
    struct answer a;
    open_answer(&a, false);
    assert_false(TAKE(&a, "*-1\r\n"));
    assert_string_equal(a.s.ask.error.code, "unknown_master");
    assert_false(TAKE(&a, "*2\r\n$1\r\nh\r\n$1\r\n0\r\n"));
    assert_false(TAKE(&a, "*2\r\n$0\r\n\r\n$1\r\n5\r\n"));
    assert_false(TAKE(&a, "*3\r\n$1\r\nh\r\n$1\r\n5\r\n:1\r\n"));
    assert_true(TAKE(&a, "*2\r\n$1\r\nh\r\n$1\r\n5\r\n"));
    assert_string_equal(servers_for(&a.s, 0)->conn.where, "h:5");
    assert_int_equal(servers_for(&a.s, 0)->conn.role, CONN_TO_MASTER);
    assert_true(TAKE(&a, "*2\r\n$3\r\n::1\r\n$1\r\n6\r\n"));
    assert_int_equal(a.s.n, 1);
    assert_string_equal(servers_for(&a.s, 0)->conn.where, "[::1]:6");
    close_answer(&a);
}

static void test_noise_as_answers(void **state)
{
    (void)state;
    struct answer a;
    char in[200];
    open_answer(&a, true);
    srandom(4);
    for (int round = 0; round < 50000; round++) {
        static const char *const words[] = {"*3\r\n",      "*1\r\n", ":0\r\n", ":16383\r\n",
                                            "$1\r\nh\r\n", ":1\r\n", "*2\r\n", "$-1\r\n",
                                            "+x\r\n",      "*4\r\n"};
        size_t len = 0;
        while (len < 150)
            len += (size_t)snprintf(in + len, sizeof(in) - len, "%s", words[random() % 10]);
        (void)take(&a, in, len);
        assert_true(a.s.n <= 2);
    }
    close_answer(&a);
}

static void expect_asked(struct answer *a, const char *where, const char *resp, size_t len)
{
    struct reply reply;
    size_t room;
    assert_int_equal(servers_want(&a->s), SERVERS_ASKING);
    assert_string_equal(a->s.ask.where, where);
    replies_reset(&a->in);
    memcpy(replies_space(&a->in, &room), resp, len);
    replies_filled(&a->in, len);
    assert_int_equal(replies_next(&a->in, &reply), REPLY_READ);
    answered(&a->s, &reply);
    assert_int_equal(servers_want(&a->s), SERVERS_KNOWN);
    servers_forget(&a->s); /* what it said was of no use */
}

/* One that is behind the times does not have the last word each time. */
static void test_sentinels_are_asked_in_turn(void **state)
{
    (void)state;
    static const char resp[] = "*2\r\n$1\r\nh\r\n$1\r\n5\r\n";
    struct weir_str nodes[] = {weir_cstr("b.invalid:8"), weir_cstr("c.invalid:9")};
    struct answer a;
    open_answer(&a, false);
    a.cf.nodes = (struct weir_list){nodes, 2};
    expect_asked(&a, "seed:7", resp, sizeof(resp) - 1);
    expect_asked(&a, "b.invalid:8", resp, sizeof(resp) - 1);
    expect_asked(&a, "c.invalid:9", resp, sizeof(resp) - 1);
    expect_asked(&a, "seed:7", resp, sizeof(resp) - 1);
    close_answer(&a);
}

static void expect_next(struct answer *a, const char *where)
{
    ask_next(&a->s);
    assert_string_equal(a->s.ask.where, where);
}

/* A node that has left or fails does not cost a time-out now and then, nor does its old map count,
 * as long as another answers. */
static void test_doubtful_nodes_are_asked_last(void **state)
{
    (void)state;
    struct answer a;
    open_answer(&a, true);
    assert_true(TAKE(&a, "*3\r\n*3\r\n:0\r\n:9\r\n" NODE("1\r\na", "1") "*3\r\n:10\r\n:19\r\n" NODE(
                             "1\r\nb", "2") "*3\r\n:20\r\n:29\r\n" NODE("1\r\nc", "3")));
    assert_true(TAKE(&a, "*2\r\n*3\r\n:10\r\n:19\r\n" NODE(
                             "1\r\nb", "2") "*3\r\n:20\r\n:29\r\n" NODE("1\r\nc", "3")));
    conn_break(&a.s.items[1]->conn, "timeout", "b hangs");
    conn_close(&a.s.items[1]->conn);
    for (int round = 0; round < 3; round++) {
        a.s.n_tried = 0; /* there was an answer */
        expect_next(&a, "seed:7");
        a.s.n_tried = 0;
        expect_next(&a, "c:3");
    }
    a.s.n_tried = 0;
    expect_next(&a, "seed:7");
    expect_next(&a, "c:3");
    expect_next(&a, "a:1");
    expect_next(&a, "b:2");
    assert_int_equal(a.s.n_tried, discovery_count(&a.s));
    close_answer(&a);
}

static void stop_asking(struct answer *a)
{
    conn_close(&a->s.ask);
    a->s.asking = false;
}

/* However many slots move or are away, the map is asked for now and then only. */
static void test_the_map_is_asked_for_now_and_then(void **state)
{
    (void)state;
    struct answer a;
    bool ask;
    char text[40];
    open_answer(&a, true);
    assert_true(TAKE(&a, "*1\r\n*3\r\n:0\r\n:9999\r\n" NODE("1\r\na", "1")));
    a.s.known = true;
    for (unsigned slot = 0; slot < 100; slot++) {
        snprintf(text, sizeof(text), "MOVED %u b:2", slot);
        struct server *to = servers_redirect(&a.s, weir_cstr(text), a.s.items[0], &ask);
        assert_string_equal(to->conn.where, "b:2");
        assert_ptr_equal(servers_for(&a.s, slot), to);
        assert_int_equal(a.s.asking, slot == 0);
        stop_asking(&a);
    }
    assert_null(servers_for(&a.s, 10000));
    assert_false(a.s.asking);
    a.s.refresh_ns = 0;
    assert_null(servers_for(&a.s, 10000));
    assert_true(a.s.asking);
    assert_int_equal(servers_want(&a.s), SERVERS_KNOWN); /* lookups of other slots go on */
    close_answer(&a);
}

/* ---- Guards ---- */

static void guard(const char *route, bool cluster, const char *id, const char *want)
{
    struct weir_host host = *wr_host_control();
    const struct weir_host *h = &host;
    struct weir_arena *arena = h->arena_new(h);
    bool no_memory;
    host.pipeline = weir_cstr("p");
    host.component = weir_cstr("c");
    struct weir_str key = guard_key(h, arena, weir_cstr(route), cluster, weir_cstr(id), &no_memory);
    assert_false(no_memory);
    if (want == NULL) {
        assert_null(key.ptr);
    } else {
        assert_int_equal(key.len, strlen(want));
        assert_memory_equal(key.ptr, want, key.len);
        if (cluster)
            assert_int_equal(slot_of(key), slot_of(weir_cstr(route)));
    }
    h->arena_free(arena);
}

static void test_guards(void **state)
{
    (void)state;
    char hash[41];
    guard_hash(hash);
    assert_int_equal(strspn(hash, "0123456789abcdef"), 40);
    guard("k", false, "id", "weir:once:p:c:id");
    guard("a}b", false, "id", "weir:once:p:c:id");
    guard("k", true, "id", "weir:once:{k}:p:c:id");
    guard("a{t}b", true, "t-0-5", "weir:once:{t}:p:c:t-0-5");
    guard("a{b", true, "i}{d", "weir:once:{a{b}:p:c:i}{d");
    guard("a}b", true, "id", NULL);
    guard("{}x", true, "id", NULL);
}

/* ---- Queue ---- */

static void test_queue(void **state)
{
    (void)state;
    const struct weir_host *h = wr_host_control();
    struct queue q = {0};
    uint32_t in = 0, out = 0;
    srandom(6);
    for (int round = 0; round < 2000; round++) {
        uint32_t n = (uint32_t)random() % 50;
        assert_true(queue_reserve(&q, h, n));
        for (uint32_t i = 0; i < n; i++)
            queue_push(&q, (struct item){.index = in++});
        for (n = (uint32_t)random() % 50; n > 0 && q.n > 0; n--) {
            assert_int_equal(queue_first(&q)->index, out);
            assert_int_equal(queue_pop(&q).index, out++);
        }
    }
    assert_int_equal(q.n, in - out);
    queue_done(&q, h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_redirections),
        cmocka_unit_test(test_slots_of_a_cluster),
        cmocka_unit_test(test_what_is_no_list_of_slots),
        cmocka_unit_test(test_the_master_of_sentinels),
        cmocka_unit_test(test_noise_as_answers),
        cmocka_unit_test(test_sentinels_are_asked_in_turn),
        cmocka_unit_test(test_doubtful_nodes_are_asked_last),
        cmocka_unit_test(test_the_map_is_asked_for_now_and_then),
        cmocka_unit_test(test_guards),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
