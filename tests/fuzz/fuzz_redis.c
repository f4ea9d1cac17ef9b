/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what a Redis server says, in pieces of any size: to the sink, which owes each event
 * one result; to a lookup; to whoever asks for the servers; to a login. The first byte says to
 * whom, the second how long the pieces are.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <base/arena.h>
#include <base/check.h>
#include <engine/host.h>
#include <model/template.h>

#include "../../plugins/redis/discovery.h"
#include "../../plugins/redis/errors.h"
#include "../../plugins/redis/login.h"
#include "../../plugins/redis/reply_value.h"
#include "../../plugins/redis/sink_parts.h"

#define N_EVENTS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the server has still to say. */
struct said {
    const char *ptr;
    size_t len, piece;
};

/* Hears the next piece; false at the end, or where there is no room for more. */
static bool hear(struct said *s, struct replies *in)
{
    size_t room;
    char *space = replies_space(in, &room);
    size_t n = s->len < s->piece ? s->len : s->piece;
    WR_BUG_ON(space == NULL);
    n = n < room ? n : room;
    if (n == 0)
        return false;
    memcpy(space, s->ptr, n);
    replies_filled(in, n);
    s->ptr += n;
    s->len -= n;
    return true;
}

/* ---- To the sink ---- */

static struct weir_arena *scratch;
static unsigned n_results[N_EVENTS];

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
    (void)ev;
    return weir_cstr("payload");
}

static struct weir_str host_id(const struct weir_host *h, struct weir_batch *b,
                               struct weir_event *ev)
{
    (void)h;
    (void)b;
    (void)ev;
    return weir_cstr("id");
}

static void host_complete(const struct weir_host *h, uint64_t ticket, uint32_t i,
                          const struct weir_result *result)
{
    (void)h;
    WR_BUG_ON(ticket != 1 || i >= N_EVENTS);
    WR_BUG_ON(result->verdict < WEIR_VERDICT_OK || result->verdict > WEIR_VERDICT_UNAVAILABLE);
    WR_BUG_ON(result->verdict != WEIR_VERDICT_OK && result->code == NULL);
    n_results[i]++;
}

static struct server *only_server(struct sink *sink)
{
    struct servers *s = &sink->servers;
    struct server *server = sink->cluster ? servers_at(s, "127.0.0.1", "1") : s->items[0];
    for (unsigned i = 0; sink->cluster && i < N_SLOTS; i++)
        s->slots[i] = 1;
    s->known = true;
    s->refresh_ns = WEIR_NEVER; /* nobody asks for a map */
    server->conn.state = CONN_READY;
    return server;
}

static void write_events(struct sink *sink, struct weir_batch *b)
{
    struct weir_result items[N_EVENTS] = {{0}};
    struct weir_results results = {N_EVENTS, sizeof(items[0]), items};
    struct op *op = sink->h->alloc(sizeof(*op));
    WR_BUG_ON(op == NULL);
    *op = (struct op){.batch = b, .ticket = 1, .deadline_ns = WEIR_NEVER, .n_left = N_EVENTS};
    memset(n_results, 0, sizeof(n_results));
    sink_send_batch(sink, op, &results);
    for (unsigned i = 0; i < N_EVENTS; i++)
        WR_BUG_ON(items[i].verdict != WEIR_VERDICT_PENDING);
}

static void to_sink(struct said *said, struct sink *sink)
{
    struct weir_event events[N_EVENTS] = {{.time_ns = 0}};
    struct weir_batch b = {.size = sizeof(b),
                           .stride = sizeof(events[0]),
                           .n_events = N_EVENTS,
                           .events = events,
                           .ticket = 1};
    struct server *server = only_server(sink);
    write_events(sink, &b);
    while (server->conn.state == CONN_READY && hear(said, &server->conn.in))
        sink_take_replies(sink, server);
    conn_break(&server->conn, "connection_lost", "the end");
    sink_take_replies(sink, server);
    static const struct weir_result away = {.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "away"};
    sink_settle_all(sink, &sink->moved, &away);
    WR_BUG_ON(sink->n_sent != 0 || sink->held.n != 0);
    for (unsigned i = 0; i < N_EVENTS; i++)
        WR_BUG_ON(n_results[i] != 1);
}

/* A list of two commands an event in a cluster, or a guarded one. */
static void open_sink(struct said *said, bool cluster, bool guarded)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct weir_host h = *wr_host_control();
    struct sink_config cf = {.conn = {.url = weir_cstr("redis://127.0.0.1:1"), .cluster = cluster}};
    void *sink = NULL;
    h.scratch = host_scratch;
    h.event_payload = host_payload;
    h.event_id = host_id;
    h.complete = host_complete;
    scratch = h.arena_new(&h);
    cf.list.key = wr_template_compile(&a, weir_cstr("k"), &err);
    cf.list.trim = 5;
    cf.once.ttl_ns = guarded ? WEIR_NS_PER_S : 0;
    WR_BUG_ON(sink_open(&h, &cf, &sink, &err) != WEIR_OK);
    to_sink(said, sink);
    sink_close(sink);
    h.arena_free(scratch);
    wr_arena_done(&a);
}

/* ---- To a lookup ---- */

static void use_reply(struct weir_arena *a, const struct reply *reply)
{
    const struct weir_host *h = wr_host_control();
    const char *p = reply->record.ptr;
    const char *end = p + reply->record.len;
    struct reply e;
    while (record_next(&p, end, &e))
        WR_BUG_ON(e.type > REPLY_ARRAY);
    WR_BUG_ON(p != end);
    for (unsigned how = 0; how < 6; how++) {
        struct reply_reader r = {.h = h, .arena = a, .parse = (enum reply_parse)(how % 3)};
        const struct weir_value *v = reply_value(&r, reply->record, how >= 3);
        WR_BUG_ON(v == NULL && (r.code == NULL || r.message == NULL));
        WR_BUG_ON(v != NULL && h->value_write(a, v).ptr == NULL);
    }
    bool again;
    if (reply->type == REPLY_ERROR)
        WR_BUG_ON(redis_error_result(reply->text, &again).message.len > reply->text.len);
}

static void to_lookup(struct said *said)
{
    const struct weir_host *h = wr_host_control();
    struct weir_arena *a = h->arena_new(h);
    struct replies in;
    struct reply reply;
    enum reply_result result = REPLY_MORE;
    replies_init(&in, h, (size_t)16 << 10, true);
    while (result != REPLY_MALFORMED && hear(said, &in)) {
        while ((result = replies_next(&in, &reply)) == REPLY_READ) {
            if (reply.type <= REPLY_ARRAY)
                use_reply(a, &reply);
            h->arena_clear(a);
        }
    }
    replies_done(&in);
    h->arena_free(a);
}

/* ---- To whoever asks for the servers ---- */

static void take_answers(struct said *said, struct servers *s)
{
    struct replies in;
    struct reply reply;
    bool ask;
    replies_init(&in, s->h, DISCOVERY_REPLY_LIMIT, true);
    while (hear(said, &in)) {
        while (replies_next(&in, &reply) == REPLY_READ) {
            if (reply.type == REPLY_ERROR && s->n > 0)
                (void)servers_redirect(s, reply.text, s->items[0], &ask);
            if (discovery_take_answer(s, &reply))
                WR_BUG_ON(s->n == 0 || s->n > SERVERS_MAX);
            for (unsigned i = 0; s->slots != NULL && i < N_SLOTS; i += 127)
                WR_BUG_ON(s->slots[i] > s->n);
        }
    }
    replies_done(&in);
}

static void to_discovery(struct said *said, bool cluster)
{
    struct conn_config cf = {.url = weir_cstr("redis://127.0.0.1:1"), .cluster = cluster};
    struct servers s;
    struct weir_error err;
    if (!cluster)
        cf.sentinel.master = weir_cstr("m");
    WR_BUG_ON(!servers_init(&s, wr_host_control(), &cf, 1024, false, &err));
    s.refresh_ns = WEIR_NEVER;
    take_answers(said, &s);
    servers_done(&s);
}

/* ---- To a login ---- */

static void to_login(struct said *said)
{
    struct conn_config cf = {
        .url = weir_cstr("redis://u:p@127.0.0.1:1/3"), .cluster = false, .connect_timeout_ns = 1};
    struct conn c;
    struct reply reply;
    conn_init(&c, wr_host_control(), &cf, NULL, 1024, false);
    c.role = CONN_TO_MASTER;
    login_begin(&c);
    while (c.state != CONN_BROKEN && hear(said, &c.in)) {
        if (c.state == CONN_LOGIN)
            login_go_on(&c);
        while (conn_next(&c, &reply))
            WR_BUG_ON(c.n_login_done != c.n_login);
    }
    WR_BUG_ON(c.state == CONN_BROKEN && (c.error.code == NULL || c.text[0] == '\0'));
    conn_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct said said = {(const char *)data + 2, size - 2, 1 + (size_t)data[1]};
    switch (data[0] % 8) {
    case 0:
        open_sink(&said, true, false);
        break;
    case 1:
        open_sink(&said, true, true);
        break;
    case 2:
        open_sink(&said, false, false);
        break;
    case 3:
        to_discovery(&said, true);
        break;
    case 4:
        to_discovery(&said, false);
        break;
    case 5:
        to_login(&said);
        break;
    default:
        to_lookup(&said);
        break;
    }
    return 0;
}
