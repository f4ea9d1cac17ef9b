/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink redis in a cluster, with socket pairs for nodes: events whose key moves keep their order
 * and each gets one result, whatever order the replies come in.
 */
#include <base/arena.h>
#include <engine/host.h>
#include <errno.h>
#include <model/template.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../plugins/redis/discovery.h"
#include "../../../plugins/redis/sink_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CAP 100

/* ---- The host ---- */

static struct weir_arena *scratch;
static unsigned n_results[CAP];
static uint32_t last_verdict;

static struct weir_arena *host_scratch(const struct weir_host *h)
{
    (void)h;
    return scratch;
}

static struct weir_str host_payload(const struct weir_host *h, struct weir_batch *b,
                                    struct weir_event *ev)
{
    (void)h;
    (void)b;
    return ev->payload;
}

/* The tickets of a test count its events. */
static void host_complete(const struct weir_host *h, uint64_t ticket, uint32_t i,
                          const struct weir_result *result)
{
    (void)h;
    assert_true(ticket + i < CAP);
    n_results[ticket + i]++;
    last_verdict = result->verdict;
}

/* ---- The sink, and nodes that are socket pairs ---- */

struct rig {
    struct weir_host h;
    struct weir_arena arena;
    struct sink_config cf;
    struct sink *sink;
    struct weir_event events[CAP];
    struct weir_batch batches[CAP];
    char results[CAP][sizeof(struct weir_result)];
    uint32_t n_batches;
    uint64_t n_events;
};

static void rig_open_with(struct rig *r, int64_t once_ns)
{
    struct weir_error err = {0};
    *r = (struct rig){.h = *wr_host_control()};
    memset(n_results, 0, sizeof(n_results));
    r->h.scratch = host_scratch;
    r->h.event_payload = host_payload;
    r->h.event_id = host_payload; /* it is as good as any */
    r->h.complete = host_complete;
    scratch = r->h.arena_new(&r->h);
    r->cf.conn = (struct conn_config){.url = weir_cstr("redis://127.0.0.1:1"),
                                      .cluster = true,
                                      .connect_timeout_ns = WEIR_NS_PER_S};
    r->cf.list.key = wr_template_compile(&r->arena, weir_cstr("k"), &err);
    r->cf.list.trim = 5; /* so there are two commands an event */
    r->cf.once.ttl_ns = once_ns;
    void *self = NULL;
    assert_int_equal(sink_open(&r->h, &r->cf, &self, &err), WEIR_OK);
    r->sink = self;
    r->sink->servers.known = true;
    r->sink->servers.refresh_ns = WEIR_NEVER; /* nobody asks for a map */
}

static void rig_open(struct rig *r)
{
    rig_open_with(r, 0);
}

static void rig_close(struct rig *r)
{
    sink_close(r->sink);
    r->h.arena_free(scratch);
    wr_arena_done(&r->arena);
}

/* A node at that port; what it hears is read from the descriptor that is returned. */
static int add_node(struct rig *r, const char *port)
{
    int pair[2];
    struct server *server = servers_at(&r->sink->servers, "127.0.0.1", port);
    assert_non_null(server);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    server->conn.fd = pair[0];
    server->conn.state = CONN_READY;
    server->conn.n_opened = 1;
    return pair[1];
}

static void give_slot_to(struct rig *r, unsigned node)
{
    r->sink->servers.slots[slot_of(weir_cstr("k"))] = (uint16_t)(node + 1);
}

/* Writes n events; their payload is `text`. */
static void write_events(struct rig *r, uint32_t n, const char *text)
{
    struct weir_batch *b = &r->batches[r->n_batches++];
    *b = (struct weir_batch){.size = sizeof(*b),
                             .stride = sizeof(struct weir_event),
                             .n_events = n,
                             .events = &r->events[r->n_events],
                             .ticket = r->n_events};
    struct weir_results results = {n, sizeof(struct weir_result), r->results};
    memset(r->results, 0, sizeof(r->results));
    for (uint32_t i = 0; i < n; i++)
        r->events[r->n_events + i].payload = weir_cstr(text);
    r->n_events += n;
    sink_calls.write(r->sink, b, WEIR_NEVER, &results);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(weir_result_at(&results, i)->verdict, WEIR_VERDICT_PENDING);
}

static void say(struct rig *r, int node, const char *reply, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(send(node, reply, strlen(reply), 0), (ssize_t)strlen(reply));
    sink_calls.progress(r->sink, 0);
}

/* Which of the events' payloads (a letter each) the node has heard of, in order. */
static void expect_heard(int node, const char *want)
{
    char got[1 << 16], letters[200];
    ssize_t len = recv(node, got, sizeof(got), 0);
    size_t n = 0;
    assert_true(len >= 0 || errno == EAGAIN);
    for (ssize_t i = 0; i + 7 <= len; i++) {
        if (memcmp(got + i, "$1\r\n", 4) == 0 && got[i + 4] >= 'A' && got[i + 4] <= 'Z')
            letters[n++] = got[i + 4];
    }
    letters[n] = '\0';
    assert_string_equal(letters, want);
}

static void expect_one_result_each(const struct rig *r)
{
    for (uint64_t i = 0; i < r->n_events; i++)
        assert_int_equal(n_results[i], 1);
    assert_int_equal(last_verdict, WEIR_VERDICT_OK);
}

#define MOVED "-MOVED 7629 127.0.0.1:12\r\n" /* the slot of k */

/* ---- Tests ---- */

/* What is written while the first command's redirection is there and the second's not yet. */
static void test_nobody_overtakes_a_moved_event(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    int old = add_node(&r, "11"), new = add_node(&r, "12");
    give_slot_to(&r, 0);
    write_events(&r, 1, "A");
    expect_heard(old, "A");
    say(&r, old, MOVED, 1);
    write_events(&r, 1, "B");
    expect_heard(new, "");
    say(&r, old, MOVED, 1);
    expect_heard(new, "AB");
    say(&r, new, ":1\r\n+OK\r\n", 2);
    expect_one_result_each(&r);
    rig_close(&r);
    close(old);
    close(new);
}

/* Redirections of two nodes' events come in turns, when the queue of what has moved is nearly full.
 */
static void test_many_moved_events_of_two_nodes(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    int first = add_node(&r, "10"), second = add_node(&r, "11"), new = add_node(&r, "12");
    give_slot_to(&r, 0);
    write_events(&r, 64, "A");
    give_slot_to(&r, 1);
    write_events(&r, 1, "B");
    say(&r, first, MOVED, 2 * 63 + 1);
    say(&r, second, MOVED, 2);
    say(&r, first, MOVED, 1);
    say(&r, new, ":1\r\n+OK\r\n", 65);
    expect_one_result_each(&r);
    rig_close(&r);
    close(first);
    close(second);
    close(new);
}

/* The commands that the node has heard of: E is EVAL, S is EVALSHA. */
static void expect_calls(int node, const char *want)
{
    char got[1 << 16], letters[200];
    ssize_t len = recv(node, got, sizeof(got) - 1, 0);
    size_t n = 0;
    got[len > 0 ? len : 0] = '\0';
    for (const char *at = got; (at = strstr(at, "\r\nEVAL")) != NULL; at += 6)
        letters[n++] = memcmp(at + 6, "SHA\r\n", 5) == 0 ? 'S' : 'E';
    letters[n] = '\0';
    assert_string_equal(letters, want);
}

/* With `once`: what is written behind an event that brings the script brings it too, as long as that has no
 * answer. Else the later one may be done by a script that another client has loaded, and overtake it. */
static void test_events_bring_the_script_until_the_server_has_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open_with(&r, WEIR_NS_PER_S);
    int node = add_node(&r, "11");
    give_slot_to(&r, 0);
    write_events(&r, 2, "A");
    write_events(&r, 1, "B");
    expect_calls(node, "EEE");
    say(&r, node, "-OOM command not allowed\r\n", 1);
    write_events(&r, 1, "C");
    expect_calls(node, "E");
    say(&r, node, ":1\r\n", 3);
    write_events(&r, 2, "D");
    expect_calls(node, "SS");
    say(&r, node, "-NOSCRIPT no matching script\r\n", 1);
    write_events(&r, 1, "E");
    expect_calls(node, "");
    say(&r, node, "-NOSCRIPT no matching script\r\n", 1);
    expect_calls(node, "EEE");
    say(&r, node, ":1\r\n", 3);
    write_events(&r, 1, "F");
    expect_calls(node, "S");
    say(&r, node, ":1\r\n", 1);
    r.sink->servers.items[0]->conn.n_opened++; /* the server may have been restarted */
    write_events(&r, 1, "G");
    expect_calls(node, "E");
    say(&r, node, ":1\r\n", 1);
    expect_one_result_each(&r);
    rig_close(&r);
    close(node);
}

/* The node dies in the middle of a redirected event; the next write is sent at once. */
static void test_a_barrier_ends_with_what_was_under_way(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r);
    int old = add_node(&r, "11"), new = add_node(&r, "12");
    give_slot_to(&r, 0);
    write_events(&r, 1, "A");
    say(&r, old, MOVED, 1);
    close(old);
    sink_calls.progress(r.sink, 0);
    assert_int_equal(n_results[0], 1);
    assert_int_equal(last_verdict, WEIR_VERDICT_UNAVAILABLE);
    r.sink->servers.known = true;
    write_events(&r, 1, "B");
    expect_heard(new, "B");
    say(&r, new, ":1\r\n+OK\r\n", 1);
    expect_one_result_each(&r);
    rig_close(&r);
    close(new);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_overtakes_a_moved_event),
        cmocka_unit_test(test_many_moved_events_of_two_nodes),
        cmocka_unit_test(test_events_bring_the_script_until_the_server_has_it),
        cmocka_unit_test(test_a_barrier_ends_with_what_was_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
