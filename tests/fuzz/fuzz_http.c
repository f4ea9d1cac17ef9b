/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what a client sends to the http source, over a real socket pair and with a clock of
 * the test's own: heads, targets, chunks, encodings, items, weir items, signatures, what comes
 * behind a request, ends in the middle. The first byte picks options and when requests are
 * answered, the second how the bytes are cut. Whatever comes, what goes back is whole answers with
 * a JSON body each, every event can be read, nothing is left; and the same bytes cut in another way
 * give the same answers and events, or somebody between us and the client could be led to see other
 * requests than we do.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/arena.h>
#include <base/buf.h>
#include <base/check.h>
#include <engine/host.h>
#include <model/batch.h>
#include <model/value.h>

#include "../../plugins/http_source/http_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 8192u
#define REQUESTS_MAX 4096u
#define START_NS (1000 * WEIR_NS_PER_S)
#define WALL_S INT64_C(1700000000)

/* Bits of the first byte. */
enum {
    WITH_TOKENS = 1,
    WITH_CORS = 2,
    WITH_HMAC = 4,
    WITH_PARTIAL = 8,
    WITH_RAW = 16,
    ANSWER_LATE = 32, /* when the client has ended, or gone */
    NO_ROOM = 64      /* until then */
};

/* ---- Options ---- */

#define TEXT(s)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }
static struct weir_str paths[] = {TEXT("/events"), TEXT("/v1/{tenant}/x/{n}")};
static struct weir_str tokens[] = {TEXT("token-0123456789")};
static struct weir_str secrets[] = {TEXT("secret-0123456789")};
static struct weir_str origins[] = {TEXT("https://a.example"), TEXT("http://b.example:8080")};
static struct weir_str cors_headers_list[] = {TEXT("Content-Type"), TEXT("X-Time")};
static struct weir_str key[] = {TEXT("k")};
static struct weir_str id_field[] = {TEXT("meta"), TEXT("id")};
static struct weir_str header_names[] = {TEXT("x-a"), TEXT("host")};
static struct weir_str query_names[] = {TEXT("q"), TEXT("source")};
static struct weir_pair users[] = {{TEXT("alice"), {.str = TEXT("password:0")}}};
static int methods[] = {METHOD_POST, METHOD_PUT};

static struct config options(unsigned bits)
{
    struct config cf = {
        .address = TEXT("127.0.0.1:0"),
        .paths = {paths, 2},
        .methods = {methods, 2},
        .key = {key, 1},
        .id_field = {id_field, 2},
        .headers = {header_names, 2},
        .query = {query_names, 2},
        .partial = (bits & WITH_PARTIAL) != 0,
        .max_body = 16 << 10,
        .max_decompressed = 2 << 20,
        .max_ratio = 100,
        .max_events = 200,
        .max_in_flight = 64 << 20,
        .max_wait = 5 * WEIR_NS_PER_S,
        .max_connections = 8,
        .max_head = 64 << 10,
        .request_timeout = 30 * WEIR_NS_PER_S,
        .keep_alive = 60 * WEIR_NS_PER_S,
        .retry_after = WEIR_NS_PER_S,
        .hmac = {.header = TEXT("X-Sig"),
                 .prefix = TEXT("v1="),
                 .timestamp_header = TEXT("X-Time"),
                 .tolerance = 60 * WEIR_NS_PER_S},
    };
    if ((bits & WITH_TOKENS) != 0) {
        cf.tokens = (struct weir_list){tokens, 1};
        cf.basic = (struct weir_list){users, 1};
    }
    if ((bits & WITH_HMAC) != 0)
        cf.hmac.secrets = (struct weir_list){secrets, 1};
    if ((bits & WITH_CORS) != 0)
        cf.cors =
            (struct cors_config){{origins, 2}, {cors_headers_list, 2}, 600 * WEIR_NS_PER_S, true};
    return cf;
}

/* ---- A host ---- */

struct weir_request {
    void *user; /* NULL: answered */
    uint32_t n;
    bool sealed;
};

/* One client's connection, and all that came of it. */
struct talk {
    struct weir_host host; /* first: the plugin's host pointer leads back here */
    struct config config;
    struct shared shared;
    struct port port; /* at which nobody ever knocks */
    struct lane *lane;
    struct wr_batch *batch; /* of the next poll */
    int64_t now;
    unsigned bits;
    int client; /* -1 = closed */
    struct weir_request requests[REQUESTS_MAX];
    uint32_t n_requests, n_answered;
    struct wr_buf out; /* what the client has read */
    uint64_t events;   /* a sum over all that they hold */
};

static struct talk *talk_of(const struct weir_host *h)
{
    return (struct talk *)(uintptr_t)h;
}

static int64_t talk_now(const struct weir_host *h)
{
    return talk_of(h)->now;
}

static int64_t talk_wall(const struct weir_host *h)
{
    (void)h;
    return WALL_S * WEIR_NS_PER_S;
}

/* Retry-After is spread by it, and answers are compared. */
static uint64_t talk_random(const struct weir_host *h)
{
    (void)h;
    return 0;
}

static void *talk_shared(const struct weir_host *h,
                         void *(*create)(const struct weir_host *h, const void *config,
                                         struct weir_error *err),
                         void (*destroy)(void *take_shared), struct weir_error *err)
{
    (void)create; /* nobody listens: connections are given */
    (void)destroy;
    (void)err;
    return &talk_of(h)->shared;
}

static struct weir_metric *talk_metric(const struct weir_host *h, const char *name,
                                       const char *help, const char *const *labels)
{
    (void)h;
    (void)name;
    (void)help;
    (void)labels;
    return NULL;
}

static void talk_metric_add(struct weir_metric *m, uint64_t n)
{
    (void)m;
    (void)n;
}

static void talk_metric_set(struct weir_metric *m, double v)
{
    (void)m;
    (void)v;
}

static struct weir_request *talk_begin(const struct weir_host *h, void *user)
{
    struct talk *t = talk_of(h);
    WR_BUG_ON(t->n_requests == REQUESTS_MAX || user == NULL);
    struct weir_request *r = &t->requests[t->n_requests++];
    *r = (struct weir_request){.user = user};
    return r;
}

static void talk_seal(struct weir_request *r, uint32_t n)
{
    WR_BUG_ON(r->sealed || n == 0);
    r->n = n;
    r->sealed = true;
}

/* ---- Events ---- */

static uint64_t sum_of(uint64_t sum, struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++)
        sum = (sum ^ (unsigned char)s.ptr[i]) * UINT64_C(1099511628211);
    return sum * 31 + s.len;
}

static void read_events(struct talk *t, const struct weir_batch *b)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        const struct weir_event *ev = weir_event_at(b, i);
        bool parsed = (t->bits & WITH_RAW) != 0 || (ev->flags & WEIR_EVENT_TOMB) != 0;
        WR_BUG_ON(parsed != (ev->value == NULL));
        WR_BUG_ON(ev->request == NULL || !ev->request->sealed || ev->request->user == NULL);
        WR_BUG_ON(ev->position < 0 || ev->position >= ev->request->n || ev->id.len > ITEM_ID_MAX);
        t->events = sum_of(t->events, ev->payload);
        t->events = sum_of(t->events, ev->key);
        t->events = sum_of(t->events, ev->id);
        t->events = sum_of(t->events, ev->origin->name);
        for (uint32_t k = 0; k < ev->n_headers; k++) {
            t->events = sum_of(t->events, ev->headers[k].name);
            t->events = sum_of(t->events, ev->headers[k].value);
        }
    }
}

static void new_batch(struct talk *t)
{
    struct wr_body *body = wr_body_new();
    t->batch = wr_batch_new(body, 16);
    wr_body_unref(body);
}

/* As the pipeline does: what an event points to is gone with its batch. */
static void take_batch(struct talk *t)
{
    read_events(t, &t->batch->pub);
    wr_batch_free(t->batch);
    new_batch(t);
}

static void answer_all(struct talk *t)
{
    static const char message[] = "so \"it\" was\n";
    for (; t->n_answered < t->n_requests; t->n_answered++) {
        struct weir_request *r = &t->requests[t->n_answered];
        struct weir_end items[256];
        WR_BUG_ON(!r->sealed || r->n > 256);
        for (uint32_t i = 0; i < r->n; i++)
            items[i] = i % 7 != 3 ? (struct weir_end){.outcome = WEIR_DELIVERED}
                                  : (struct weir_end){.outcome = (enum weir_outcome)(r->n % 6),
                                                      .component = weir_cstr("out"),
                                                      .code = "why",
                                                      .message = weir_cstr(message)};
        struct weir_ends ends = {r->n, sizeof(items[0]), items};
        void *user = r->user;
        r->user = NULL;
        source_answer(t->lane, user, &ends);
    }
}

/* ---- Turns ---- */

static bool read_out(struct talk *t)
{
    char bytes[4096];
    ssize_t n = 0;
    bool any = false;
    while (t->client >= 0 && (n = recv(t->client, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        wr_buf_add(&t->out, bytes, (size_t)n);
        any = true;
    }
    return any;
}

/* Until nothing moves any more. */
static void turns(struct talk *t, uint32_t room, bool answers)
{
    bool moved = true;
    for (int i = 0; moved; i++) {
        struct weir_error err = {0};
        uint32_t before = t->n_answered;
        WR_BUG_ON(i > 100000);
        (void)source_poll(t->lane, &t->batch->pub, room, t->now - 1, &err);
        moved = t->batch->pub.n_events != 0;
        if (moved)
            take_batch(t);
        if (answers)
            answer_all(t);
        moved |= read_out(t) || t->lane->work.head != NULL || t->n_answered != before ||
                 (room != 0 && t->lane->ready.head != NULL);
    }
}

static void talk_begin_with(struct talk *t, unsigned bits)
{
    struct weir_error err = {0};
    void *self = NULL;
    memset(t, 0, offsetof(struct talk, requests));
    t->n_requests = t->n_answered = 0;
    t->events = 0;
    t->bits = bits;
    t->now = START_NS;
    t->config = options(bits);
    t->host = *wr_host_control();
    t->host.now = talk_now;
    t->host.wall = talk_wall;
    t->host.random = talk_random;
    t->host.counter = t->host.gauge = talk_metric;
    t->host.metric_add = talk_metric_add;
    t->host.metric_set = talk_metric_set;
    t->host.shared = talk_shared;
    t->host.event_add = wr_event_add;
    t->host.batch_truncate = wr_batch_truncate;
    t->host.batch_attach = wr_batch_attach;
    t->host.request_begin = talk_begin;
    t->host.request_seal = talk_seal;
    t->host.flags = (bits & WITH_RAW) != 0 ? WEIR_HOST_RAW : 0;
    t->port = (struct port){.fd = eventfd(0, EFD_CLOEXEC), .refs = 1, .listening = true};
    WR_BUG_ON(t->port.fd < 0 || pthread_mutex_init(&t->port.mutex, NULL) != 0);
    t->shared.port = &t->port;
    t->shared.max_connections = (unsigned)t->config.max_connections;
    WR_BUG_ON(pthread_mutex_init(&t->shared.mutex, NULL) != 0);
    WR_BUG_ON(source_open(&t->host, &t->config, &self, &err) != WEIR_OK);
    t->lane = self;
    new_batch(t);
    int ends[2];
    WR_BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0);
    t->client = ends[1];
    atomic_store(&t->shared.connections, 1);
    conn_add(t->lane, ends[0]);
}

static void send_in_pieces(struct talk *t, struct weir_str in, size_t piece)
{
    uint32_t room = (t->bits & NO_ROOM) != 0 ? 0 : 64;
    for (size_t at = 0; at < in.len; at += piece) {
        size_t n = in.len - at < piece ? in.len - at : piece;
        if (send(t->client, in.ptr + at, n, MSG_NOSIGNAL) != (ssize_t)n)
            break; /* it was closed */
        turns(t, room, (t->bits & ANSWER_LATE) == 0);
    }
}

static void talk_end(struct talk *t)
{
    bool late = (t->bits & ANSWER_LATE) != 0;
    (void)shutdown(t->client, SHUT_WR);
    turns(t, 64, !late);
    if (late)
        turns(t, 64, true);
    t->now += 31 * WEIR_NS_PER_S; /* what is not complete is cut off */
    turns(t, 64, true);
    t->now += 61 * WEIR_NS_PER_S;
    turns(t, 64, true);
    close(t->client);
    t->client = -1;
    turns(t, 64, true);
    source_stop(t->lane);
    turns(t, 0, true);
    WR_BUG_ON(t->n_answered != t->n_requests);
    source_close(t->lane);
    wr_batch_free(t->batch);
    WR_BUG_ON(atomic_load(&t->shared.connections) != 0);
    WR_BUG_ON(atomic_load(&t->shared.in_flight) != 0);
    WR_BUG_ON(atomic_load(&t->shared.values) != 0);
    WR_BUG_ON(atomic_load(&t->port.refs) != 1);
    close(t->port.fd);
    pthread_mutex_destroy(&t->port.mutex);
    pthread_mutex_destroy(&t->shared.mutex);
}

/* ---- What came back ---- */

static struct weir_str line_of(struct weir_str *rest)
{
    const char *end = rest->len != 0 ? memmem(rest->ptr, rest->len, "\r\n", 2) : NULL;
    WR_BUG_ON(end == NULL);
    struct weir_str line = weir_str_n(rest->ptr, (size_t)(end - rest->ptr));
    *rest = weir_str_n(end + 2, rest->len - line.len - 2);
    return line;
}

static bool begins(struct weir_str s, const char *word)
{
    return s.len >= strlen(word) && memcmp(s.ptr, word, strlen(word)) == 0;
}

/* One answer is taken off *rest; true where it is the last of its connection. */
static bool check_answer(struct weir_str *rest, struct weir_arena *a)
{
    struct weir_str line = line_of(rest);
    bool close = false;
    size_t len = 0;
    WR_BUG_ON(!begins(line, "HTTP/1.1 ") || line.len < 14 || line.ptr[12] != ' ');
    bool body = line.ptr[9] != '1' && memcmp(line.ptr + 9, "204", 3) != 0;
    while ((line = line_of(rest)).len != 0) {
        WR_BUG_ON(memchr(line.ptr, ':', line.len) == NULL ||
                  memchr(line.ptr, '\n', line.len) != NULL);
        close |= begins(line, "Connection: close");
        for (size_t i = 16; begins(line, "Content-Length: ") && i < line.len; i++)
            len = len * 10 + (size_t)(line.ptr[i] - '0');
    }
    WR_BUG_ON(len > rest->len || (body && len == 0));
    if (body)
        WR_BUG_ON(wr_value_parse(a, weir_str_n(rest->ptr, len), NULL) == NULL);
    *rest = weir_str_n(rest->ptr + len, rest->len - len);
    return close;
}

static void check_answers(struct weir_str out)
{
    struct weir_arena a = {0};
    bool last = false;
    while (out.len != 0) {
        WR_BUG_ON(last);
        last = check_answer(&out, &a);
    }
    wr_arena_done(&a);
}

/* Whether a client is told to go on depends on what has come by then. */
static struct weir_str without_continue(struct wr_buf *out)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t len = sizeof(text) - 1, left = 0;
    for (size_t at = 0; at < out->len;) {
        if (out->len - at >= len && memcmp(out->ptr + at, text, len) == 0)
            at += len;
        else
            out->ptr[left++] = out->ptr[at++];
    }
    return weir_str_n(out->ptr, left);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct talk whole, cut;
    if (size < 2 || size > INPUT_MAX)
        return 0;
    struct weir_str in = weir_str_n((const char *)data + 2, size - 2);
    talk_begin_with(&whole, data[0]);
    send_in_pieces(&whole, in, in.len != 0 ? in.len : 1);
    talk_end(&whole);
    talk_begin_with(&cut, data[0]);
    send_in_pieces(&cut, in, data[1] % 64u + 1 + in.len / 256);
    talk_end(&cut);
    struct weir_str one = without_continue(&whole.out), other = without_continue(&cut.out);
    if (memmem(in.ptr, in.len, "HEAD ", 5) == NULL) /* which has answers without their body */
        check_answers(one);
    WR_BUG_ON(one.len != other.len || (one.len != 0 && memcmp(one.ptr, other.ptr, one.len) != 0));
    WR_BUG_ON(whole.events != cut.events || whole.n_requests != cut.n_requests);
    wr_buf_done(&whole.out);
    wr_buf_done(&cut.out);
    return 0;
}
