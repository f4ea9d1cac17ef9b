/* SPDX-License-Identifier: Apache-2.0
 *
 * What every plugin has to keep, shown on each built .so in the real engine: a life that ends; servers that
 * are not there or never answer hold nothing up; events that no sane client sends each get one outcome; memory,
 * threads and descriptors are given back. What it says of itself is test_plugin_tables.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/pool.h>
#include <base/str.h>
#include <engine/lane_impl.h>
#include <engine/plan_private.h>
#include <model/options.h>

#define END_NS (12 * WEIR_NS_PER_S) /* a stop with a deadline of 1 s has ended by then */

static struct wr_loader *loader;
static int mute_fd, out_fd, null_fd;
static char folder[] = "/tmp/weir-contract-XXXXXX";

/* ---- Cases: the least options of each type ---- */

struct plugin_case {
    enum weir_kind kind;
    const char *name;
    const char *options; /* flow style; %d: port of a server; %s: a folder to write to */
    bool server;         /* it talks to one, which is not there */
};

static const struct plugin_case cases[] = {
    {WEIR_SOURCE, "file", "path: %s/in.ndjson", false},
    {WEIR_SOURCE, "generate", "rate: 1000", false},
    {WEIR_SOURCE, "http", "address: '127.0.0.1:0'", false},
    {WEIR_SOURCE, "kafka", "brokers: ['127.0.0.1:%d'], topics: [t], group: g", true},
    {WEIR_TRANSFORM, "lua", "code: 'function process(event) return event end'", false},
    {WEIR_TRANSFORM, "filter", "condition: event.a == 1", false},
    {WEIR_TRANSFORM, "route", "routes: {a: event.a == 1}, drop: [other]", false},
    {WEIR_TRANSFORM, "map", "set: {b: 1}", false},
    {WEIR_TRANSFORM, "redis", "url: 'redis://127.0.0.1:%d', key: 'user:{{ a }}', target: user", true},
    {WEIR_TRANSFORM, "validate", "schema: {type: object}", false},
    {WEIR_TRANSFORM, "dedupe", "key: '{{ a | none }}', held: 10", false},
    {WEIR_TRANSFORM, "redis_dedupe", "url: 'redis://127.0.0.1:%d', key: '{{ a | none }}'", true},
    {WEIR_TRANSFORM, "throttle", "rate: 2000, burst: 1", false},
    {WEIR_TRANSFORM, "sample", "rate: 1/2, by: '{{ a | none }}'", false},
    {WEIR_SINK, "blackhole", "needs: value", false},
    {WEIR_SINK, "file", "path: %s/out.ndjson", false},
    {WEIR_SINK, "stdout", "", false},
    {WEIR_SINK, "http", "url: 'http://127.0.0.1:%d/'", true},
    {WEIR_SINK, "kafka", "brokers: ['127.0.0.1:%d'], topic: t", true},
    {WEIR_SINK, "mongodb", "uri: 'mongodb://127.0.0.1:%d', database: d, collection: c", true},
    {WEIR_SINK, "redis", "url: 'redis://127.0.0.1:%d', command: [SET, 'k:{{ a | none }}', '1']", true},
};

static const struct plugin_case *case_of(const struct weir_type *t)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (cases[i].kind == t->kind && strcmp(cases[i].name, t->name) == 0)
            return &cases[i];
    fail_msg("type '%s' has no case in this test", t->name);
    return NULL;
}

/* ---- A pipeline with the type in it ---- */

struct run {
    struct wr_plan *plan;
    struct wr_metrics *metrics;
    struct wr_pipeline *p;
    struct wr_diags *diags;
};

static _Atomic int answered[6];
static _Atomic uint32_t emitted;
static uint32_t wanted; /* of odd events, before the stop */
static bool raw_events;

static void write_plan(char *text, size_t size, const struct weir_type *t, int port)
{
    const struct plugin_case *c = case_of(t);
    char options[300], mine[400];
    /* What the sink stdout writes is not for the one who reads this test's output. */
    fflush(stdout);
    if (t->kind == WEIR_SINK && strcmp(t->name, "stdout") == 0)
        (void)dup2(null_fd, STDOUT_FILENO);
    const char *at = strstr(c->options, "%s");
    if (at != NULL)
        snprintf(options, sizeof(options), "%.*s%s%s", (int)(at - c->options), c->options, folder, at + 2);
    else if ((at = strstr(c->options, "%d")) != NULL)
        snprintf(options, sizeof(options), "%.*s%d%s", (int)(at - c->options), c->options, port, at + 2);
    else
        snprintf(options, sizeof(options), "%s", c->options);
    snprintf(mine, sizeof(mine), "{type: %s%s%s%s%s}", t->name, options[0] != '\0' ? ", " : "", options,
             t->kind != WEIR_SOURCE ? ", inputs: [" : "",
             t->kind == WEIR_SOURCE ? "" : t->kind == WEIR_SINK ? "in], on_reject: drop" : "in], on_error: drop");
    snprintf(text, size, "name: contract\nsources:\n  in: %s\n%s%s%s%s%s%s\n",
             t->kind == WEIR_SOURCE ? mine : "{type: generate, rate: 1}",
             t->kind == WEIR_TRANSFORM ? "transforms:\n  it: " : "", t->kind == WEIR_TRANSFORM ? mine : "",
             "\nsinks:\n  out: ", t->kind == WEIR_SINK ? mine : "{type: blackhole, inputs: [",
             t->kind == WEIR_SINK ? "" : t->kind == WEIR_SOURCE ? "in"
                                     : strcmp(t->name, "route") == 0 ? "it.a" : "it",
             t->kind == WEIR_SINK ? "" : "]}");
}

static enum weir_status odd_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                 struct weir_error *err);

static void odd_answer(void *self, void *user, const struct weir_ends *ends)
{
    (void)self;
    (void)user;
    for (uint32_t i = 0; i < ends->n; i++)
        atomic_fetch_add(&answered[weir_end_at(ends, i)->outcome], 1);
}

static enum weir_status odd_open(const struct weir_host *h, const void *config, void **ret_self,
                                 struct weir_error *err)
{
    (void)config;
    (void)err;
    *ret_self = (void *)(uintptr_t)h;
    return WEIR_OK;
}

static void odd_close(void *self)
{
    (void)self;
}

static const struct weir_source odd_calls = {
    .size = sizeof(odd_calls), .poll = odd_poll, .answer = odd_answer};
static const struct weir_type odd_type = {.size = sizeof(odd_type),
                                          .kind = WEIR_SOURCE,
                                          .name = "odd",
                                          .source = &odd_calls,
                                          .open = odd_open,
                                          .close = odd_close};

static void open_run(struct run *r, const struct weir_type *t, int port, bool odd)
{
    char text[1500];
    write_plan(text, sizeof(text), t, port);
    r->diags = wr_diags_new();
    r->plan = wr_plan_parse("contract.yaml", folder, weir_cstr(text), loader, r->diags);
    if (r->plan == NULL) {
        struct wr_buf out = {0};
        wr_diags_print(r->diags, &out, false);
        fail_msg("%s\n%s", text, out.ptr);
    }
    struct wr_component *in = &r->plan->components[0];
    if (odd) {
        in->type = &odd_type;
        in->opt.source.codec = raw_events ? WR_CODEC_RAW : WR_CODEC_JSON;
    }
    r->metrics = wr_metrics_new(10000);
    struct wr_runtime rt = {wr_clock_system(), NULL, r->metrics};
    struct weir_error err = {0};
    r->p = wr_pipeline_new(r->plan, &rt, &err);
    if (r->p == NULL)
        fail_msg("a server that is away is no reason to fail: %s", err.text);
}

static struct wr_pipeline_left close_run(struct run *r)
{
    struct wr_pipeline_left left = wr_pipeline_close(r->p);
    wr_pipeline_free(r->p);
    wr_metrics_free(r->metrics);
    wr_plan_free(r->plan);
    wr_diags_free(r->diags);
    (void)dup2(out_fd, STDOUT_FILENO);
    return left;
}

static void pause_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
}

/* Starts, lets it run, stops it with a deadline of a second, waits for the end. */
static struct wr_pipeline_left run_for(struct run *r, long ms)
{
    wr_pipeline_start(r->p, NULL, NULL);
    for (long i = 0; i < ms || (i < 20000 && atomic_load(&emitted) < wanted); i += 10)
        pause_ms(10);
    int64_t began = wr_now(wr_clock_system());
    wr_pipeline_drain(r->p, began + WEIR_NS_PER_S);
    while (wr_pipeline_state(r->p) < WR_PIPELINE_STOPPED) {
        if (wr_now(wr_clock_system()) - began > END_NS)
            fail_msg("a stop with a deadline of 1 s has not ended after 12 s");
        pause_ms(5);
    }
    if (wr_pipeline_state(r->p) != WR_PIPELINE_DONE)
        fail_msg("stopped: %s", wr_pipeline_reason(r->p));
    return close_run(r);
}

/* ---- What is in use ---- */

struct in_use {
    size_t memory;
    int fds, threads;
};

static int entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static struct in_use in_use(void)
{
    wr_pool_trim();
    return (struct in_use){wr_mem_used(), entries("/proc/self/fd"), entries("/proc/self/task")};
}

static void assert_given_back(struct in_use before)
{
    struct in_use now = in_use();
    for (int i = 0; i < 200 && (now.threads > before.threads || now.fds > before.fds); i++) {
        pause_ms(10); /* a joined thread may show for a moment more */
        now = in_use();
    }
    assert_true(now.memory <= before.memory);
    assert_true(now.fds <= before.fds);
    assert_true(now.threads <= before.threads);
}

/* ---- Life ---- */

static int refused_port(void)
{
    return 1; /* nobody listens on tcpmux */
}

/* A server that takes connections and never says a word. */
static int mute_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    getsockname(mute_fd, (struct sockaddr *)(void *)&at, &len);
    return ntohs(at.sin_port);
}

static void test_opens_and_closes_unused(void **state)
{
    const struct weir_type *t = *state;
    struct in_use before = {0};
    struct run r;
    for (int i = 0; i < 4; i++) {
        open_run(&r, t, refused_port(), false);
        (void)close_run(&r);
        if (i == 1)
            before = in_use(); /* what libraries make once is there now */
    }
    assert_given_back(before);
    t->close(NULL);
}

static void test_stops_while_it_works(void **state)
{
    const struct weir_type *t = *state;
    struct in_use before = {0};
    struct run r;
    for (int i = 0; i < 3; i++) {
        open_run(&r, t, i == 1 ? mute_port() : refused_port(), false);
        struct wr_pipeline_left left = run_for(&r, i * 100);
        if (!case_of(t)->server)
            assert_int_equal(left.events, 0);
        if (i == 0)
            before = in_use();
    }
    assert_given_back(before);
}

static void *wake_later(void *arg)
{
    pause_ms(50);
    wr_lane_wake(arg);
    return NULL;
}

/* Room 0 adds nothing; a wake-up ends a poll; a stopped source says that it has ended. */
static void test_source_is_polled_woken_and_stopped(void **state)
{
    const struct weir_type *t = *state;
    struct run r;
    open_run(&r, t, refused_port(), false);
    struct wr_lane *lane = r.p->lanes[0];
    struct wr_instance *inst = lane->inst[lane->source];
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 8);
    struct weir_error err = {0};
    wr_body_unref(body);
    for (int i = 0; i < 5; i++) {
        int64_t now = wr_now(wr_clock_system());
        enum weir_status s = t->source->poll(inst->self, &b->pub, 0, now + 20 * WEIR_NS_PER_MS, &err);
        assert_true(s >= 0);
        assert_int_equal(b->pub.n_events, 0);
    }
    if (t->source->wake != NULL) {
        pthread_t thread;
        int64_t began = wr_now(wr_clock_system());
        lane->wake.pending = 0;
        assert_true(wr_wake_enter(&lane->wake));
        assert_int_equal(pthread_create(&thread, NULL, wake_later, lane), 0);
        (void)t->source->poll(inst->self, &b->pub, 0, began + 20 * WEIR_NS_PER_S, &err);
        wr_wake_leave(&lane->wake);
        pthread_join(thread, NULL);
        assert_true(wr_now(wr_clock_system()) - began < 5 * WEIR_NS_PER_S);
    }
    if (t->source->stop != NULL) {
        t->source->stop(inst->self);
        enum weir_status s = WEIR_AGAIN;
        for (int i = 0; i < 500 && s != WEIR_END; i++, pause_ms(10))
            s = t->source->poll(inst->self, &b->pub, 0, 0, &err);
        assert_int_equal(s, WEIR_END);
    }
    wr_batch_free(b);
    (void)close_run(&r);
}

/* ---- Events that no sane client sends ---- */

static struct weir_str odd_payload(const struct weir_host *h, struct weir_batch *b, uint32_t i)
{
    static const char *const texts[] = {
        "",        "null",  "1",       "-0.0",           "\"text\"",      "[1,[2,[3]]]",
        "{}",      "{\"a\"", "{\"a\":1} {", "\xff\xfe", "{\"a\":\"\\u0000\"}", "{\"a\":1e999}",
        "{\"a\":123456789012345678901234567890}", "{\"a\":1,\"a\":2}", "{\"\":{\".\":[]}}", "\"\\ud800\""};
    uint32_t n = sizeof(texts) / sizeof(texts[0]);
    if (i % 20 < n)
        return weir_cstr(texts[i % 20]);
    if (i % 20 == n)
        return weir_str_n("a\0b", 3);
    size_t len = i % 20 == n + 1 ? 1u << 20 : 1000;
    char *text = h->arena_alloc(b->arena, len);
    memset(text, i % 20 == n + 2 ? '[' : 'x', len); /* a depth bomb */
    memcpy(text, "{\"a\":\"", 6 * (i % 20 != n + 2));
    if (i % 20 != n + 2)
        memcpy(text + len - 2, "\"}", 2);
    return weir_str_n(text, len);
}

#define ODD_EVENTS 400

static enum weir_status odd_poll(void *self, struct weir_batch *b, uint32_t room, int64_t until,
                                 struct weir_error *err)
{
    static const struct weir_header headers[] = {{{"", 0}, {"", 0}}, {{"h\0x", 3}, {"\xff\n", 2}}};
    const struct weir_host *h = self;
    (void)err;
    uint32_t n = 1 + atomic_load(&emitted) % 60;
    if (room < n || atomic_load(&emitted) >= ODD_EVENTS) {
        h->wait(h, until);
        return WEIR_AGAIN;
    }
    struct weir_request *r = h->request_begin(h, NULL);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = atomic_fetch_add(&emitted, 1);
        struct weir_event *ev = h->event_add(b);
        ev->payload = odd_payload(h, b, number);
        if (number % 7 == 0) {
            ev->payload = weir_str_n(NULL, 0);
            ev->flags |= WEIR_EVENT_TOMB;
        }
        ev->key = number % 3 == 0 ? weir_str_n("k\0y", 3) : number % 3 == 1 ? weir_cstr("") : ev->key;
        ev->headers = headers;
        ev->n_headers = number % 3;
        ev->request = r;
        ev->position = i;
    }
    h->request_seal(r, n);
    return WEIR_OK;
}

static void feed_odd(const struct weir_type *t, int port, bool raw)
{
    struct run r;
    raw_events = raw;
    atomic_store(&emitted, 0);
    for (int i = 0; i < 6; i++)
        atomic_store(&answered[i], 0);
    open_run(&r, t, port, true);
    wanted = case_of(t)->server ? 0 : ODD_EVENTS;
    struct wr_pipeline_left left = run_for(&r, 300);
    wanted = 0;
    int all = 0;
    for (int i = 0; i < 6; i++)
        all += atomic_load(&answered[i]);
    assert_int_equal(all, atomic_load(&emitted)); /* each was answered for, once */
    assert_int_equal(left.events, atomic_load(&answered[WEIR_FAILED]));
    if (!case_of(t)->server) {
        assert_int_equal(left.events, 0);
        assert_true(all >= ODD_EVENTS);
    } else if (t->kind == WEIR_SINK) {
        assert_int_equal(atomic_load(&answered[WEIR_DELIVERED]), 0); /* to whom? */
    }
}

static void test_takes_events_that_no_sane_client_sends(void **state)
{
    const struct weir_type *t = *state;
    struct in_use before = {0};
    for (int i = 0; i < 4; i++) {
        feed_odd(t, i < 2 ? refused_port() : mute_port(), i % 2 != 0);
        if (i == 1)
            before = in_use();
        if (!case_of(t)->server && i == 3)
            break;
    }
    assert_given_back(before);
}

/* ---- All types ---- */

static void set_up(void)
{
    static const char *const dirs[] = {WEIR_PLUGIN_BUILD_DIR, NULL};
    char path[100];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    out_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    loader = wr_loader_new(dirs);
    wr_loader_all(loader);
    if (mkdtemp(folder) == NULL)
        abort();
    snprintf(path, sizeof(path), "%s/in.ndjson", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; f != NULL && i < 100; i++)
        fprintf(f, "{\"a\":%d}\n", i);
    if (f == NULL || fclose(f) != 0)
        abort();
    mute_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(mute_fd, (struct sockaddr *)(void *)&at, sizeof(at)) != 0 || listen(mute_fd, 1000) != 0)
        abort();
}

int main(void)
{
    static const struct CMUnitTest checks[] = {
        {"opens_and_closes_unused", test_opens_and_closes_unused, NULL, NULL, NULL},
        {"stops_while_it_works", test_stops_while_it_works, NULL, NULL, NULL},
        {"is_polled_woken_and_stopped", test_source_is_polled_woken_and_stopped, NULL, NULL, NULL},
        {"takes_odd_events", test_takes_events_that_no_sane_client_sends, NULL, NULL, NULL},
    };
    static struct CMUnitTest tests[200];
    static char names[200][80];
    size_t n = 0;
    set_up();
    for (uint32_t p = 0; p < wr_loader_count(loader); p++) {
        const struct weir_type *const *types = wr_loader_at(loader, p)->plugin->types;
        for (uint32_t k = 0; types[k] != NULL; k++)
            for (size_t c = 0; c < WR_COUNT(checks) && n < WR_COUNT(tests); c++) {
                bool for_sources = checks[c].test_func == test_source_is_polled_woken_and_stopped;
                bool for_others = checks[c].test_func == test_takes_events_that_no_sane_client_sends;
                if (types[k]->kind == WEIR_SOURCE ? for_others : for_sources)
                    continue;
                static const char *const kinds[] = {"", "source", "transform", "sink"};
                snprintf(names[n], sizeof(names[n]), "%s_%s_%s", types[k]->name, kinds[types[k]->kind],
                         checks[c].name);
                tests[n] = checks[c];
                tests[n].name = names[n];
                tests[n++].initial_state = (void *)(uintptr_t)types[k];
            }
    }
    int failed = _cmocka_run_group_tests("plugins", tests, n, NULL, NULL);
    wr_loader_free(loader);
    close(mute_fd);
    return failed;
}
