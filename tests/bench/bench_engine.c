/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's own share of an event: a source that costs nothing and a sink that takes everything, with
 * real threads and the real clock. Prints ns of CPU time an event and events a second.
 *
 *   bench_engine [EVENTS] [BATCH]
 */
#include <base/mem.h>
#include <engine/runtime.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct source {
    const struct weir_host *h;
    struct weir_stream *stream;
    int64_t at;
};

static int64_t n_events = 10000000;
static uint32_t per_batch = 256;

static enum weir_status open_source(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    static struct source s;
    struct weir_origin origin = {weir_cstr("bench"), 0};
    (void)config;
    (void)err;
    s = (struct source){h, h->stream_open(h, &origin, &s), 0};
    *ret_self = &s;
    return WEIR_OK;
}

static enum weir_status poll_source(void *self, struct weir_batch *b, uint32_t room, int64_t deadline,
                                    struct weir_error *err)
{
    static char payload[400];
    struct source *s = self;
    (void)err;
    if (s->at >= n_events)
        return WEIR_END;
    if (room == 0) {
        s->h->wait(s->h, deadline);
        return WEIR_AGAIN;
    }
    for (uint32_t i = 0; i < per_batch && s->at < n_events; i++) {
        struct weir_event *ev = s->h->event_add(b);
        ev->payload = weir_str_n(payload, sizeof(payload));
        ev->stream = s->stream;
        ev->position = s->at++;
        ev->next = s->at;
        ev->time_ns = 1;
    }
    return WEIR_OK;
}

static void commit_source(void *self, struct weir_stream *st, void *user, int64_t next, bool final)
{
    (void)self;
    (void)st;
    (void)user;
    (void)final;
    if (next > n_events)
        abort();
}

static enum weir_status open_sink(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    static int self;
    (void)h;
    (void)config;
    (void)err;
    *ret_self = &self;
    return WEIR_OK;
}

static void write_sink(void *self, struct weir_batch *b, int64_t deadline, struct weir_results *results)
{
    (void)self;
    (void)deadline;
    for (uint32_t i = 0; i < b->n_events; i++)
        weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
}

static void close_nothing(void *self)
{
    (void)self;
}

static const struct weir_source source_calls = {
    .size = sizeof(source_calls), .poll = poll_source, .commit = commit_source};
static const struct weir_sink sink_calls = {.size = sizeof(sink_calls), .write = write_sink};
static const struct weir_type types[] = {
    {.size = sizeof(types[0]), .kind = WEIR_SOURCE, .name = "nothing", .source = &source_calls,
     .open = open_source, .close = close_nothing},
    {.size = sizeof(types[0]), .kind = WEIR_SINK, .name = "nothing", .sink = &sink_calls,
     .open = open_sink, .close = close_nothing},
};

static void notify(void *arg)
{
    (void)arg;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        n_events = strtoll(argv[1], NULL, 10);
    if (argc > 2)
        per_batch = (uint32_t)strtoul(argv[2], NULL, 10);
    struct wr_edge edge = {1, 0};
    struct wr_component comps[2] = {
        {.id = weir_cstr("in"), .type = &types[0], .outs = &edge, .n_outs = 1, .dead_letter = -1,
         .opt.source.lanes = 1},
        {.id = weir_cstr("out"), .type = &types[1], .n_ins = 1, .dead_letter = -1},
    };
    struct wr_sink_options *opt = &comps[1].opt.sink;
    opt->batch.events = 1000;
    opt->batch.bytes = 4 << 20;
    opt->buffer.size = 16 << 20;
    opt->concurrency = opt->in_flight = 1;
    opt->retry.initial = opt->retry.max = WEIR_NS_PER_S;
    opt->timeout = 30 * WEIR_NS_PER_S;
    opt->on_reject = WR_ON_STOP;
    struct wr_plan plan = {.name = weir_cstr("bench"), .components = comps, .n_components = 2, .refs = 1};
    struct wr_runtime rt = {wr_clock_system(), NULL, wr_metrics_new(1000)};
    struct weir_error err;
    struct wr_pipeline *p = wr_pipeline_new(&plan, &rt, &err);
    if (p == NULL)
        return 1;
    int64_t t0 = wr_now(rt.clock);
    double c0 = cpu_seconds();
    wr_pipeline_start(p, notify, NULL);
    struct wr_pipeline_left left = wr_pipeline_close(p); /* joins the threads: they end by themselves */
    double took = (double)(wr_now(rt.clock) - t0) / 1e9, cpu = cpu_seconds() - c0;
    printf("engine: %lld events in batches of %u: %.0f events/s, %.1f ns CPU an event, %llu left\n",
           (long long)n_events, per_batch, (double)n_events / took, cpu / (double)n_events * 1e9,
           (unsigned long long)left.events);
    wr_pipeline_free(p);
    wr_metrics_free(rt.metrics);
    return left.events != 0;
}
