/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `generate`: deterministic synthetic user events at a rate, for examples, tests and
 * benches.
 *
 * One stream a lane; lane i of n makes the events i, i + n, i + 2n ... of one numbered sequence, so
 * that seed and count alone decide what events there are. It keeps no position: a new run starts
 * with event 0 again, and the ids are the same. It waits by host->wait only.
 */
#include "generate.h"

#include "../common/rfc3339.h"
#include <string.h>

#define BLOCK_BYTES (64 << 10)
#define POLL_BYTES (1 << 20)
#define START_MAX_S INT64_C(5680281599) /* 2149-12-31T23:59:59Z: and 100 years in ns fit 63 bits */
#define TICK_NS WEIR_NS_PER_MS          /* at high rates the events of one tick come together */

struct config {
    double rate_hz;
    int64_t count;
    int64_t seed;
    int64_t users;
    int64_t size_bytes;
    struct weir_str start;
    int64_t step_ns;
};

struct generate {
    const struct weir_host *h;
    struct maker maker;
    struct weir_stream *stream;
    double rate_hz;   /* of this lane; 0 = no limit */
    uint64_t count;   /* of all lanes; UINT64_MAX = endless */
    uint64_t seq;     /* the next event of this lane */
    uint64_t n_paced; /* events since paced_ns */
    int64_t paced_ns; /* since when the rate is measured; 0 = not started */
    bool stopped;
};

static const struct weir_option options[] = {
    {.name = "rate",
     .type = WEIR_OPT_FLOAT,
     .offset = offsetof(struct config, rate_hz),
     .def = "0",
     .min = 0,
     .max = 100000000,
     .doc = "Events a second over all lanes; 0 is as fast as they are taken.",
     .example = "1000"},
    {.name = "count",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, count),
     .def = "0",
     .min = 0,
     .max = INT64_MAX,
     .doc = "Events in all; the source then ends. 0 is endless.",
     .example = "100000"},
    {.name = "seed",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, seed),
     .def = "1",
     .min = 0,
     .max = (INT64_C(1) << 60) - 1,
     .doc = "The same seed gives the same events, byte for byte.",
     .example = "42"},
    {.name = "users",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, users),
     .def = "10000",
     .min = 1,
     .max = 100000000,
     .doc = "How many users the events are of.",
     .example = "1000"},
    {.name = "size",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, size_bytes),
     .def = "0",
     .min = 0,
     .max = 16 << 20,
     .doc = "Payload bytes to fill each event up to; 0 leaves them as they come, about 400 bytes. "
            "Below 400 the field `context` is left out, below about 250 nothing gets smaller.",
     .example = "2KiB"},
    {.name = "start",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct config, start),
     .flags = WEIR_OPT_NONEMPTY,
     .def = "2026-01-01T00:00:00Z",
     .doc =
         "Time of the first event, RFC 3339, or `now` for the time at which the pipeline starts.",
     .example = "now"},
    {.name = "step",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, step_ns),
     .def = "1ms",
     .min = 0,
     .max = 86400 * WEIR_NS_PER_S,
     .doc = "Time between two events; after 100 years the times start again.",
     .example = "10ms"},
};

/* Reads option `start`: "now" gives now_ns. */
static bool read_start(struct weir_str text, int64_t now_ns, int64_t *ret_ns)
{
    struct rfc3339 t;
    if (text.len == 3 && memcmp(text.ptr, "now", 3) == 0) {
        *ret_ns = now_ns;
        return true;
    }
    if (!rfc3339_parse(text.ptr, text.len, &t) || t.s < 0 || t.s > START_MAX_S)
        return false;
    *ret_ns = t.s * WEIR_NS_PER_S + t.ns;
    return true;
}

static void generate_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    int64_t ns;
    if (!read_start(cf->start, 0, &ns))
        report->error(report, "start", -1,
                      "expected `now` or an RFC 3339 time of the years 1970 to 2149 such as "
                      "2026-01-01T00:00:00Z, found \"%s\"",
                      cf->start.ptr);
}

static enum weir_status generate_open(const struct weir_host *h, const void *config,
                                      void **ret_self, struct weir_error *err)
{
    const struct config *cf = config;
    int64_t start_ns;
    if (!read_start(cf->start, h->wall(h), &start_ns))
        return h->error(err, WEIR_E_CONFIG, "bad_start", "start \"%s\" is not an RFC 3339 time",
                        cf->start.ptr);
    struct generate *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the generator");
    self->h = h;
    self->rate_hz = cf->rate_hz / h->count;
    self->count = cf->count == 0 ? UINT64_MAX : (uint64_t)cf->count;
    self->seq = h->index;
    maker_init(&self->maker, (uint64_t)cf->seed, (uint64_t)cf->users, start_ns, cf->step_ns,
               (size_t)cf->size_bytes);
    *ret_self = self;
    return WEIR_OK;
}

static void generate_close(void *take_self)
{
    struct generate *self = take_self;
    if (self != NULL)
        self->h->free(self);
}

/* Events that the rate allows now. Behind a slow pipeline at most one second is made up for. */
static uint64_t allowed(struct generate *self, int64_t now_ns)
{
    if (self->rate_hz <= 0)
        return UINT64_MAX;
    if (self->paced_ns == 0)
        self->paced_ns = now_ns;
    double due = (double)(now_ns - self->paced_ns) * 1e-9 * self->rate_hz + 1;
    double behind = due - (double)self->n_paced;
    double most = self->rate_hz > 1 ? self->rate_hz : 1;
    if (behind > most) {
        self->n_paced += (uint64_t)(behind - most);
        behind = most;
    }
    return behind >= 1 ? (uint64_t)behind : 0;
}

/* When the next event is due, or the end of this tick, whichever is later. */
static int64_t next_due(const struct generate *self, int64_t now_ns)
{
    double after_s = (double)self->n_paced / self->rate_hz;
    int64_t due_ns = after_s > 9e8 ? WEIR_NEVER : self->paced_ns + (int64_t)(after_s * 1e9) + 1;
    return due_ns > now_ns + TICK_NS ? due_ns : now_ns + TICK_NS;
}

/* How many events this poll may add. */
static uint32_t quota(struct generate *self, uint32_t room, int64_t now_ns)
{
    uint64_t n = allowed(self, now_ns);
    uint64_t left = (self->count - self->seq - 1) / self->h->count + 1;
    n = n < left ? n : left;
    return n < room ? (uint32_t)n : room;
}

static bool add_event(struct generate *self, struct weir_batch *b, char *at,
                      const struct weir_origin *origin, struct made *made)
{
    struct weir_event *ev = self->h->event_add(b);
    if (ev == NULL)
        return false;
    maker_put(&self->maker, self->seq, at, made);
    ev->payload = made->payload;
    ev->key = made->user;
    ev->id = made->id;
    ev->time_ns = made->time_ns;
    ev->origin = origin;
    ev->stream = self->stream;
    ev->position = (int64_t)self->seq;
    ev->next = (int64_t)(self->seq + self->h->count);
    self->seq += self->h->count;
    return true;
}

/* Adds up to n events and returns how many; fewer at the size limit or without memory. */
static uint32_t fill(struct generate *self, struct weir_batch *b, uint32_t n)
{
    const struct weir_host *h = self->h;
    size_t max = maker_max(&self->maker);
    struct weir_origin *origin = h->arena_alloc(b->arena, sizeof(*origin));
    if (origin == NULL)
        return 0;
    *origin = (struct weir_origin){weir_cstr("generate"), (int32_t)h->index};
    char *at = NULL;
    size_t left = 0;
    size_t bytes = 0;
    uint32_t done = 0;
    for (; done < n && bytes < POLL_BYTES; done++) {
        if (left < max) {
            size_t want = (n - done) * max;
            left = want < BLOCK_BYTES || max > BLOCK_BYTES ? (max > BLOCK_BYTES ? max : want)
                                                           : BLOCK_BYTES;
            at = h->arena_alloc(b->arena, left);
        }
        struct made made;
        if (at == NULL || !add_event(self, b, at, origin, &made))
            break;
        at += made.payload.len;
        left -= made.payload.len;
        bytes += made.payload.len;
    }
    return done;
}

static enum weir_status generate_poll(void *self_, struct weir_batch *b, uint32_t room,
                                      int64_t deadline_ns, struct weir_error *err)
{
    struct generate *self = self_;
    const struct weir_host *h = self->h;
    if (self->stopped || self->seq >= self->count)
        return WEIR_END;
    if (self->stream == NULL) {
        struct weir_origin origin = {weir_cstr("generate"), (int32_t)h->index};
        self->stream = h->stream_open(h, &origin, NULL);
        if (self->stream == NULL)
            return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the stream");
    }
    int64_t now_ns = h->now(h);
    uint32_t n = room == 0 ? 0 : quota(self, room, now_ns);
    if (n == 0) {
        int64_t until_ns = room == 0 ? deadline_ns : next_due(self, now_ns);
        h->wait(h, until_ns < deadline_ns ? until_ns : deadline_ns);
        n = room == 0 ? 0 : quota(self, room, h->now(h));
    }
    uint32_t done = n == 0 ? 0 : fill(self, b, n);
    self->n_paced += done;
    return done == 0 ? WEIR_AGAIN : WEIR_OK;
}

/* There is nothing to keep: a new run makes the same events from the first one on. */
static void generate_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self;
    (void)s;
    (void)user;
    (void)next;
    (void) final;
}

static void generate_stop(void *self_)
{
    struct generate *self = self_;
    self->stopped = true;
}

static const struct weir_source source = {
    .size = sizeof(source),
    .poll = generate_poll,
    .commit = generate_commit,
    .stop = generate_stop,
};

static const struct weir_type type_generate = {
    .size = sizeof(type_generate),
    .kind = WEIR_SOURCE,
    .name = "generate",
    .summary = "Deterministic synthetic user events at a rate.",
    .doc = "Makes JSON objects of the types page_view, click, login, logout, purchase, search, "
           "signup and heartbeat, each with `id`, `type`, `ts`, `user_id`, `session_id`, `seq`, "
           "`context` and nested `props`. The event's key is its `user_id`, its id the `id`, its "
           "time the `ts`. Seed and count decide the events, whatever the number of lanes; a new "
           "run makes them again from the first one.\n\n"
           "Where the pipeline is slower than `rate`, at most one second's events are made up for.",
    .options = WEIR_OPTIONS(options, struct config),
    .source = &source,
    .check = generate_check,
    .open = generate_open,
    .close = generate_close,
};

static const struct weir_type *const types[] = {&type_generate, NULL};

WEIR_PLUGIN = {
    WEIR_PLUGIN_ABI, "generate", "0.1.0", "A source of deterministic synthetic user events.",
    "Apache-2.0",    types,      NULL};
