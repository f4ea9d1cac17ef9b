/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as payloads and as Lua: hooks in the sandbox, with little memory and few instructions, in a lane of
 * the engine; values that go into Lua and back, which have to be the same; conditions, which have to
 * mean the same with Lua and without. Every event has to end, and what leaves has to be JSON.
 *
 *      how it is used | payloads, a line each | 0 | Lua
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <base/arena.h>
#include <base/check.h>
#include <engine/envelope.h>
#include <engine/host.h>
#include <model/value.h>

#include "../../plugins/lua/condition.h"
#include "../../plugins/lua/script.h"
#include "../../plugins/lua/simple.h"
#include "../unit/engine/rig.h"

#define N_EVENTS 4
#define SMALL 512 /* bytes of a payload that has to come through */
#define DEEP 100

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- The clock: the system's, as it knows what instructions take, but nobody waits ---- */

static int64_t (*real_now)(struct wr_clock *c);
static int64_t ahead;

static int64_t clock_now(struct wr_clock *c)
{
    return real_now(c) + ahead;
}

static void clock_wait(struct wr_clock *c, pthread_cond_t *cond, pthread_mutex_t *held, int64_t until)
{
    int64_t now = clock_now(c);
    (void)cond, (void)held;
    if (until != INT64_MAX && until > now)
        ahead += until - now;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct wr_clock *c = wr_clock_system();
    (void)argc, (void)argv;
    real_now = c->now;
    c->now = clock_now;
    c->wait = clock_wait;
    return 0;
}

static void step(struct rig *r, int64_t ns)
{
    ahead += ns;
    r->now = wr_now(wr_clock_system());
    rig_step(r, 4);
}

struct input {
    struct weir_str payloads[N_EVENTS];
    uint32_t n;
    struct weir_str code;
};

static struct input input;

/* ---- Values ---- */

static bool is_large(const struct weir_value *v, int depth)
{
    struct weir_value_iter it = wr_value_iter(v);
    if (wr_value_type(v) == WEIR_BIGNUM)
        return !isfinite(wr_value_real(v));
    for (const struct weir_value *m; (m = wr_value_next(&it, NULL)) != NULL;)
        if (depth == DEEP || is_large(m, depth + 1))
            return true;
    return false;
}

static bool is_same(const struct weir_value *v, const struct weir_value *back);

/* Of keys that are there twice, the first. */
static bool is_same_object(const struct weir_value *v, const struct weir_value *back)
{
    struct weir_value_iter it = wr_value_iter(v);
    struct weir_str key;
    uint32_t n = 0;
    for (const struct weir_value *m; (m = wr_value_next(&it, &key)) != NULL;) {
        if (wr_value_get(v, key) != m)
            continue;
        const struct weir_value *there = wr_value_get(back, key);
        if (there == NULL || !is_same(m, there))
            return false;
        n++;
    }
    return n == wr_value_count(back);
}

static bool is_same_array(const struct weir_value *v, const struct weir_value *back)
{
    struct weir_value_iter it = wr_value_iter(v);
    uint32_t n = 0;
    for (const struct weir_value *m; (m = wr_value_next(&it, NULL)) != NULL; n++)
        if (n >= wr_value_count(back) || !is_same(m, wr_value_at(back, n)))
            return false;
    return n == wr_value_count(back);
}

/* What plain Lua values can be of it: integers beyond int64 are floats. */
static bool is_same(const struct weir_value *v, const struct weir_value *back)
{
    enum weir_value_type type = wr_value_type(v), is = wr_value_type(back);
    if (type == WEIR_UINT || type == WEIR_BIGNUM) {
        double x = wr_value_real(v), y = wr_value_real(back);
        return (is == WEIR_REAL || is == WEIR_BIGNUM) && !(x < y) && !(x > y);
    }
    if (type != is)
        return false;
    if (type == WEIR_OBJECT)
        return is_same_object(v, back);
    return type == WEIR_ARRAY ? is_same_array(v, back) : wr_value_equal(v, back);
}

/* ---- A line: source, lua, sink and dead letters ---- */

enum trip { NO_TRIP, COPIED, EXACT };

static const struct {
    const char *before, *behind; /* of the code */
    enum trip trip;              /* the event comes back in `v` */
} shapes[] = {
    {"", "", NO_TRIP},
    {"function process(event, meta) ", "\nend", NO_TRIP},
    {"function process(event, meta) return ", "\nend", NO_TRIP},
    {"function process_batch(events) ", "\nend", NO_TRIP},
    {"function process_batch(events) local e, f = events[1], events[2] return ", "\nend", NO_TRIP},
    {"local held = {} function process(event) held[#held + 1] = weir.hold(event) end\n"
     "function tick(final) ",
     "\nend", NO_TRIP},
    {"function init(config) c = config ", "\nend function process(event) event.c = c return event end",
     NO_TRIP},
    {"function process(event) return weir.object({v = weir.copy(event)}) end --", "", COPIED},
    {"function process(event) return weir.object({v = event}) end --", "", EXACT},
    {"local function copy(v) local kind = weir.type(v)\n"
     "if kind == 'object' then local o = weir.object()\n"
     "for k, m in pairs(v) do if o[k] == nil then o[k] = copy(m) end end return o end\n"
     "if kind ~= 'array' then return v end\n"
     "local a = weir.array() for i, m in ipairs(v) do a[i] = copy(m) end return a end\n"
     "function process(event) return weir.object({v = copy(event)}) end --",
     "", COPIED},
    {"function process(event) local t = weir.json.encode({v = event}) return weir.json.decode(t) end --", "",
     COPIED},
};

static enum trip trip;
static uint32_t n_back;

static enum weir_status poll_payloads(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    static const struct weir_header header = {{"h", 1}, {"v", 1}};
    if (room < input.n || s->arg == NULL)
        return WEIR_AGAIN;
    for (uint32_t i = 0; i < input.n; i++) {
        struct weir_event *ev = rig_emit(s, b, "", i);
        struct weir_str payload = input.payloads[i];
        ev->payload = s->h->arena_copy(b->arena, payload);
        ev->key = i % 2 == 0 ? weir_cstr("k") : weir_str_n(NULL, 0);
        ev->headers = &header;
        ev->n_headers = i / 2;
        if (payload.len == 0)
            ev->flags = WEIR_EVENT_TOMB;
        else if (payload.ptr[0] == '#')
            ev->flags = WEIR_EVENT_RAW;
    }
    s->arg = NULL;
    return WEIR_OK;
}

static bool is_input(struct weir_str payload)
{
    for (uint32_t i = 0; i < input.n; i++)
        if (wr_str_eq(payload, input.payloads[i]))
            return true;
    return false;
}

static void check_trip(const struct weir_event *ev, struct weir_arena *a, const struct weir_value *v)
{
    const struct weir_value *back = wr_value_get(v, weir_cstr("v"));
    WR_BUG_ON(ev->position >= input.n || back == NULL || wr_value_count(v) != 1);
    const struct weir_value *was = wr_value_parse(a, input.payloads[ev->position], NULL);
    WR_BUG_ON(was == NULL);
    WR_BUG_ON(trip == COPIED ? !is_same(was, back) : !wr_value_equal(was, back));
    n_back++;
}

static enum weir_verdict see_event(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    struct weir_arena a = {0};
    (void)s, (void)write;
    if ((ev->flags & (WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) != 0)
        return WEIR_VERDICT_OK;
    const struct weir_value *v = wr_value_parse(&a, ev->payload, NULL);
    WR_BUG_ON(v == NULL && (trip != NO_TRIP || !is_input(ev->payload)));
    if (trip != NO_TRIP)
        check_trip(ev, &a, v);
    wr_arena_done(&a);
    return WEIR_VERDICT_OK;
}

static enum weir_verdict see_dead(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    struct weir_arena a = {0};
    struct weir_error err = {0};
    struct wr_envelope e;
    (void)s, (void)write;
    WR_BUG_ON(!wr_envelope_read(&a, ev->payload, &e, &err));
    WR_BUG_ON(e.reason.len == 0 || e.code.len == 0);
    wr_arena_done(&a);
    return WEIR_VERDICT_OK;
}

static void make_line(struct rig *r, struct script_config *cf)
{
    static struct weir_str ports[3];
    rig_init(r);
    r->now = wr_now(wr_clock_system());
    (void)rig_add(r, WEIR_SOURCE, "in");
    (void)rig_add(r, WEIR_TRANSFORM, "t");
    (void)rig_add(r, WEIR_SINK, "out");
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    rig_wire(r, 0, 1);
    memcpy(ports, cf->ports.items, 2 * sizeof(ports[0]));
    r->comps[1].ports = ports;
    r->comps[1].n_ports = 3; /* the last one is the plain way out */
    for (uint32_t port = 0; port < 3; port++) {
        rig_wire(r, 1, 2);
        r->edges[1][port].port = port + (port == 2);
    }
    rig_wire(r, 1, 2);
    r->edges[1][3].port = 2; /* named "late" */
    r->comps[1].type = &script_type;
    r->comps[1].config = cf;
    r->comps[1].opt.transform.on_error = WR_ON_DEAD_LETTER;
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[dead].is_dead_letter = true;
    r->script[0].poll = poll_payloads;
    r->script[0].arg = r;
    r->script[2].verdict = see_event;
    r->script[dead].verdict = see_dead;
}

static bool open_line(struct rig *r)
{
    struct wr_runtime rt = {wr_clock_system(), NULL, r->metrics};
    struct weir_error err = {0};
    r->p = wr_pipeline_new(&r->plan, &rt, &err);
    WR_BUG_ON(r->p == NULL && err.text[0] == '\0');
    return r->p != NULL;
}

/* True where it stopped because of a failure, which leaves events to the next start. */
static bool end_line(struct rig *r)
{
    wr_pipeline_drain(r->p, INT64_MAX);
    for (uint32_t i = 0; i < 100 && !atomic_load(&r->p->done); i++)
        step(r, WEIR_NS_PER_S);
    WR_BUG_ON(!atomic_load(&r->p->done));
    bool stopped = wr_pipeline_reason(r->p)[0] != '\0';
    wr_pipeline_free(r->p);
    wr_metrics_free(r->metrics);
    return stopped;
}

static void run_line(struct script_config *cf)
{
    static struct rig r;
    make_line(&r, cf);
    if (!open_line(&r)) {
        WR_BUG_ON(trip != NO_TRIP);
        wr_metrics_free(r.metrics);
        return;
    }
    step(&r, 0);
    step(&r, WEIR_NS_PER_S);
    bool stopped = end_line(&r);
    WR_BUG_ON(!stopped && r.script[0].committed != (input.n != 0 ? (int64_t)input.n : -1));
}

/* Payloads that are not too much for the limits. */
static uint32_t count_small(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < input.n; i++) {
        struct weir_arena a = {0};
        struct weir_str payload = input.payloads[i];
        bool opaque = payload.len == 0 || payload.ptr[0] == '#';
        const struct weir_value *v = opaque || payload.len > SMALL ? NULL : wr_value_parse(&a, payload, NULL);
        n += v != NULL && !is_large(v, 0);
        wr_arena_done(&a);
    }
    return n;
}

static void report(const struct weir_report *r, const char *path, int64_t offset, const char *fmt, ...)
{
    const struct script_config *cf = r->priv;
    WR_BUG_ON(path == NULL || fmt == NULL || offset > (int64_t)cf->code.len);
}

static void to_hooks(unsigned how)
{
    unsigned shape = how % WR_COUNT(shapes);
    struct weir_str names[2] = {weir_cstr("early"), weir_cstr("late")};
    struct wr_buf code = {0};
    struct weir_arena a = {0};
    wr_buf_text(&code, shapes[shape].before);
    wr_buf_add(&code, input.code.ptr, shapes[shape].trip == NO_TRIP ? input.code.len : 0);
    wr_buf_text(&code, shapes[shape].behind);
    trip = shapes[shape].trip;
    n_back = 0;
    const struct weir_value *config = input.n != 0 ? wr_value_parse(&a, input.payloads[0], NULL) : NULL;
    struct script_config cf = {.code = {code.ptr != NULL ? code.ptr : "", code.len},
                               .config = config,
                               .interval = WEIR_NS_PER_MS,
                               .memory = 1 << 20,
                               .instructions = trip != NO_TRIP ? 1000000 : 20000,
                               .cache = 1 << 16,
                               .ports = {names, 2}};
    const struct weir_report told = {sizeof(told), report, report, &cf, wr_host_control(), NULL};
    if (how >= 128)
        script_type.check(&cf, &told);
    run_line(&cf);
    WR_BUG_ON(trip != NO_TRIP && n_back < count_small());
    wr_buf_done(&code);
    wr_arena_done(&a);
}

/* ---- Conditions ---- */

static struct weir_arena *scratch;

static const struct weir_value *own_value(const struct weir_host *h, struct weir_batch *b,
                                          struct weir_event *ev)
{
    (void)h, (void)b;
    return ev->value;
}

static void own_fail(const struct weir_host *h, struct weir_batch *b, struct weir_event *ev,
                     const struct weir_result *result)
{
    (void)h, (void)b;
    WR_BUG_ON((ev->flags & WEIR_EVENT_GONE) != 0);
    WR_BUG_ON(result->verdict != WEIR_VERDICT_REJECTED || result->code == NULL || result->message.len == 0);
    ev->flags |= WEIR_EVENT_GONE;
}

static struct weir_arena *own_scratch(const struct weir_host *h)
{
    (void)h;
    return scratch;
}

/* 0 and 1; 2: an error. */
static unsigned ask(void *state, uint32_t which, const struct weir_value *v)
{
    struct weir_event ev = {.value = v, .payload = weir_cstr("{}"), .origin = &(struct weir_origin){{"t", 1}, 0}};
    struct weir_batch b = {.size = sizeof(b), .stride = sizeof(ev), .n_events = 1, .events = &ev, .arena = scratch};
    uint8_t yes = 7;
    condition_service.eval(state, which, &b, &yes);
    WR_BUG_ON(yes > 1);
    return (ev.flags & WEIR_EVENT_GONE) != 0 ? 2 : yes;
}

static void ask_both(const struct weir_host *h, struct weir_str text)
{
    struct weir_error err = {0};
    struct weir_arena a = {0};
    struct simple *simple = simple_compile(h, text);
    void *state = NULL;
    struct weir_str texts[2] = {text, text};
    struct wr_buf lua = {0};
    wr_buf_text(&lua, "select(1, (");
    wr_buf_add(&lua, text.ptr, text.len);
    wr_buf_text(&lua, "\n))");
    if (simple != NULL) /* Lua has to say the same of it */
        texts[1] = wr_buf_view(&lua);
    enum weir_status status = condition_service.open(h, texts, 2, &state, &err);
    WR_BUG_ON(status != WEIR_OK && err.text[0] == '\0');
    for (uint32_t i = 0; status == WEIR_OK && i < input.n; i++) {
        const struct weir_value *v = wr_value_parse(&a, input.payloads[i], NULL);
        if (v != NULL && ask(state, 0, v) != ask(state, 1, v))
            WR_BUG_ON(simple != NULL);
    }
    condition_service.close(state);
    simple_free(h, simple);
    wr_buf_done(&lua);
    wr_arena_done(&a);
}

static void to_condition(void)
{
    struct weir_host h = *wr_host_control();
    struct weir_error err = {.offset = -2};
    struct weir_str text = input.code;
    h.event_value = own_value;
    h.event_fail = own_fail;
    h.scratch = own_scratch;
    scratch = h.arena_new(&h);
    if (condition_service.check(text, &err) != WEIR_OK)
        WR_BUG_ON(err.text[0] == '\0' || err.offset < -1 || err.offset > (int64_t)text.len);
    else if (memmem(text.ptr, text.len, "function", 8) == NULL) /* without them nothing takes long */
        ask_both(&h, text);
    h.arena_free(scratch);
}

/* ---- The input ---- */

static void take_payloads(struct weir_str lines)
{
    while (lines.len > 0 && input.n < N_EVENTS) {
        const char *end = memchr(lines.ptr, '\n', lines.len);
        size_t len = end != NULL ? (size_t)(end - lines.ptr) : lines.len;
        input.payloads[input.n++] = weir_str_n(lines.ptr, len);
        len += end != NULL;
        lines = weir_str_n(lines.ptr + len, lines.len - len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct weir_arena a = {0};
    const char *text = (const char *)data + 1, *zero = memchr(text, 0, size - 1);
    size_t n = zero != NULL ? (size_t)(zero - text) : size - 1;
    input = (struct input){.code = weir_str_n("", 0)};
    take_payloads(weir_str_n(text, n));
    if (zero != NULL) /* options have a NUL behind them */
        input.code = wr_arena_copy(&a, weir_str_n(zero + 1, size - 2 - n));
    if (data[0] % 4 == 3)
        to_condition();
    else
        to_hooks(data[0] - data[0] / 4);
    wr_arena_done(&a);
    return 0;
}
