/* SPDX-License-Identifier: Apache-2.0
 *
 * Bodies and batches; see batch.h. Knows nothing of acks, lanes or sinks.
 */
#include <model/batch.h>

#include <base/budget.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/pool.h>
#include <base/str.h>

#include <stdatomic.h>

#define BODY_CHUNK (4u * 1024u) /* the first one; they grow with the body */
#define EVENTS_MAX (1u << 28)

/* ---- Bodies ---- */

struct wr_body *wr_body_new(void)
{
    struct wr_body *body = wr_alloc(sizeof(*body));
    if (body == NULL)
        return NULL;
    atomic_init(&body->refs, 1);
    wr_arena_init(&body->arena, BODY_CHUNK);
    return body;
}

void wr_body_ref(struct wr_body *body)
{
    atomic_fetch_add_explicit(&body->refs, 1, memory_order_relaxed);
}

void wr_body_unref(struct wr_body *take_body)
{
    if (take_body == NULL ||
        atomic_fetch_sub_explicit(&take_body->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (struct wr_attachment *at = take_body->attachments; at != NULL; at = at->next)
        at->dispose(at->arg);
    wr_arena_done(&take_body->arena);
    if (take_body->charged != 0)
        wr_budget_charge(WR_USE_EVENTS, -(int64_t)take_body->charged);
    wr_free(take_body);
}

void wr_body_charge(struct wr_body *body)
{
    size_t footprint = wr_body_footprint(body);
    if (footprint == body->charged)
        return;
    wr_budget_charge(WR_USE_EVENTS, (int64_t)footprint - (int64_t)body->charged);
    body->charged = footprint;
}

/* ---- Batches ---- */

struct wr_batch *wr_batch_new(struct wr_body *own, uint32_t cap_events)
{
    struct wr_batch *b = wr_alloc(sizeof(*b));
    if (b == NULL)
        return NULL;
    b->pub.size = sizeof(b->pub);
    b->pub.stride = sizeof(struct weir_event);
    b->bodies = b->bodies_inline;
    b->cap_bodies = WR_BATCH_BODIES_INLINE;
    if (!wr_batch_reserve(b, cap_events)) {
        wr_free(b);
        return NULL;
    }
    if (own != NULL) {
        (void)wr_batch_add_body(b, own); /* the inline places are free: cannot fail */
        b->own = own;
        b->pub.arena = &own->arena;
    }
    return b;
}

void wr_batch_free(struct wr_batch *take_b)
{
    if (take_b == NULL)
        return;
    for (uint32_t i = 0; i < take_b->n_bodies; i++)
        wr_body_unref(take_b->bodies[i]);
    if (take_b->bodies != take_b->bodies_inline)
        wr_free(take_b->bodies);
    wr_pool_put(take_b->pub.events, take_b->events_bytes);
    if (take_b->events_bytes != 0)
        wr_budget_charge(WR_USE_EVENTS, -(int64_t)take_b->events_bytes);
    wr_free(take_b);
}

bool wr_batch_reserve(struct wr_batch *b, uint32_t n)
{
    if (n <= b->pub.cap_events)
        return true;
    if (n > EVENTS_MAX)
        return false;
    uint32_t cap = b->pub.cap_events < 8 ? 8 : b->pub.cap_events * 2;
    if (cap < n || b->pub.cap_events == 0)
        cap = n;
    size_t bytes;
    void *events = wr_pool_get((size_t)cap * sizeof(struct weir_event), &bytes);
    if (events == NULL)
        return false;
    if (b->pub.n_events != 0)
        memcpy(events, b->pub.events, b->pub.n_events * sizeof(struct weir_event));
    wr_pool_put(b->pub.events, b->events_bytes);
    wr_budget_charge(WR_USE_EVENTS, (int64_t)bytes - (int64_t)b->events_bytes);
    b->pub.events = events;
    b->events_bytes = bytes;
    b->pub.cap_events = (uint32_t)(bytes / sizeof(struct weir_event));
    return true;
}

bool wr_batch_add_body(struct wr_batch *b, struct wr_body *body)
{
    for (uint32_t i = b->n_bodies; i-- > 0;)
        if (b->bodies[i] == body)
            return true;
    if (b->n_bodies == b->cap_bodies) {
        uint32_t cap = b->cap_bodies * 2;
        struct wr_body **grown = wr_alloc(cap * sizeof(struct wr_body *));
        if (grown == NULL)
            return false;
        memcpy(grown, b->bodies, b->n_bodies * sizeof(struct wr_body *));
        if (b->bodies != b->bodies_inline)
            wr_free(b->bodies);
        b->bodies = grown;
        b->cap_bodies = cap;
    }
    wr_body_ref(body);
    b->bodies[b->n_bodies++] = body;
    return true;
}

bool wr_batch_add_bodies(struct wr_batch *b, const struct wr_batch *from)
{
    for (uint32_t i = 0; i < from->n_bodies; i++)
        if (!wr_batch_add_body(b, from->bodies[i]))
            return false;
    return true;
}

struct weir_event *wr_batch_append(struct wr_batch *b, const struct weir_event *ev)
{
    if (!wr_batch_reserve(b, b->pub.n_events + 1))
        return NULL;
    struct weir_event *copy = wr_batch_events(b) + b->pub.n_events++;
    *copy = *ev;
    return copy;
}

struct wr_batch *wr_batch_clone(const struct wr_batch *b)
{
    struct wr_batch *copy = wr_batch_new(b->own, b->pub.n_events);
    if (copy == NULL || !wr_batch_add_bodies(copy, b)) {
        wr_batch_free(copy);
        return NULL;
    }
    memcpy(copy->pub.events, b->pub.events, b->pub.n_events * sizeof(struct weir_event));
    copy->pub.n_events = b->pub.n_events;
    return copy;
}

void wr_batch_freeze(struct wr_batch *b)
{
    if (b->own != NULL)
        wr_body_charge(b->own);
    b->own = NULL;
    b->pub.arena = NULL;
    b->seal = 0;
}

struct weir_event *wr_event_add(struct weir_batch *pub)
{
    struct wr_batch *b = wr_batch_of(pub);
    if (!wr_batch_reserve(b, pub->n_events + 1))
        return NULL;
    struct weir_event *ev = wr_batch_events(b) + pub->n_events++;
    *ev = (struct weir_event){0};
    return ev;
}

void wr_batch_truncate(struct weir_batch *b, uint32_t n)
{
    if (n < b->n_events)
        b->n_events = n;
}

bool wr_batch_attach(struct weir_batch *pub, weir_dispose_fn dispose, void *take_arg, size_t size)
{
    struct wr_body *own = wr_batch_of(pub)->own;
    struct wr_attachment *at =
        own != NULL ? wr_arena_alloc(&own->arena, sizeof(*at)) : NULL;
    if (at == NULL) {
        dispose(take_arg);
        return false;
    }
    *at = (struct wr_attachment){own->attachments, dispose, take_arg};
    own->attachments = at;
    own->attached_bytes += size;
    return true;
}

/* ---- The data of an event ---- */

const struct weir_value *wr_event_value(struct wr_batch *b, struct weir_event *ev,
                                        struct weir_error *err)
{
    if (ev->value != NULL)
        return ev->value;
    if ((ev->flags & (WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) != 0) {
        (void)wr_error(err, WEIR_E_REJECTED, "not_json", "%s",
                       (ev->flags & WEIR_EVENT_TOMB) != 0
                           ? "the event is a tombstone: it has no payload to read fields from"
                           : "the payload is not JSON (codec: raw), so it has no fields");
        return NULL;
    }
    if (b->own == NULL) {
        (void)wr_error(err, WEIR_E_BUG, "frozen", "the batch is frozen and this event not parsed: "
                                                  "the type must declare WEIR_NEEDS_VALUE");
        return NULL;
    }
    ev->value = wr_value_parse(&b->own->arena, ev->payload, err);
    return ev->value;
}

/* Remembers the event as it entered, before the first change in this component's call. */
static bool begin_change(struct wr_batch *b, struct weir_event *ev)
{
    WR_BUG_ON(b->own == NULL);
    if (ev->host_seal == b->seal)
        return true;
    struct wr_trace *trace = wr_arena_alloc(&b->own->arena, sizeof(*trace));
    if (trace == NULL)
        return false;
    const struct wr_trace *before = ev->host_trace;
    *trace = (struct wr_trace){.source = wr_event_source_payload(ev),
                               .payload = ev->payload,
                               .value = ev->value,
                               .key = ev->key,
                               .headers = ev->headers,
                               .n_headers = ev->n_headers,
                               .flags = ev->flags & (WEIR_EVENT_EDITED | WEIR_EVENT_TOMB |
                                                     WEIR_EVENT_RAW)};
    if (before != NULL) {
        trace->replayed = before->replayed;
        trace->edited = before->edited;
        trace->from = before->from;
        trace->text = before->text;
    }
    ev->host_trace = trace;
    ev->host_seal = b->seal;
    return true;
}

/* Of the component whose call is running; NULL: it has changed nothing yet. */
static struct wr_trace *trace_of(const struct wr_batch *b, const struct weir_event *ev)
{
    return ev->host_seal == b->seal ? (struct wr_trace *)(uintptr_t)ev->host_trace : NULL;
}

struct weir_value *wr_event_edit(struct wr_batch *b, struct weir_event *ev,
                                 struct weir_error *err)
{
    struct wr_trace *trace = trace_of(b, ev);
    if (trace != NULL && ev->value != trace->value && wr_value_is_mutable(ev->value)) {
        ev->flags |= WEIR_EVENT_EDITED; /* it may have been serialized since */
        return (struct weir_value *)(uintptr_t)ev->value;
    }
    const struct weir_value *sealed = wr_event_value(b, ev, err);
    if (sealed == NULL)
        return NULL;
    struct weir_value *copy = wr_make_edit(&b->own->arena, sealed);
    if (copy == NULL || !begin_change(b, ev)) {
        (void)wr_error(err, WEIR_E_NOMEM, "no_memory", "no memory to change the event");
        return NULL;
    }
    trace = trace_of(b, ev);
    if (trace != NULL) { /* a source's new events have none */
        trace->edited = (ev->flags & WEIR_EVENT_EDITED) == 0 ? copy : NULL;
        trace->from = sealed;
        trace->text = ev->payload;
    }
    ev->value = copy;
    ev->flags |= WEIR_EVENT_EDITED;
    return copy;
}

bool wr_event_set_value(struct wr_batch *b, struct weir_event *ev, const struct weir_value *v)
{
    if (!begin_change(b, ev))
        return false;
    ev->value = v;
    ev->flags = (ev->flags & ~(WEIR_EVENT_RAW | WEIR_EVENT_TOMB)) | WEIR_EVENT_EDITED;
    return true;
}

bool wr_event_set_payload(struct wr_batch *b, struct weir_event *ev, struct weir_str payload)
{
    if (!begin_change(b, ev))
        return false;
    ev->value = NULL;
    ev->payload = payload;
    ev->flags &= ~(WEIR_EVENT_EDITED | WEIR_EVENT_TOMB);
    return true;
}

struct weir_str wr_event_payload(struct wr_batch *b, struct weir_event *ev)
{
    if ((ev->flags & WEIR_EVENT_EDITED) == 0)
        return ev->payload;
    if (b->own == NULL)
        return weir_str_n(NULL, 0);
    const struct wr_trace *trace = ev->host_trace;
    struct weir_str text = trace != NULL && trace->edited == ev->value
                               ? wr_value_write_edited(&b->own->arena, ev->value, trace->from, trace->text)
                               : wr_value_write(&b->own->arena, ev->value);
    if (text.ptr == NULL)
        return text;
    ev->payload = text;
    ev->flags &= ~WEIR_EVENT_EDITED;
    return text;
}

struct weir_str wr_event_source_payload(const struct weir_event *ev)
{
    const struct wr_trace *trace = ev->host_trace;
    return trace != NULL ? trace->source : ev->payload;
}

const struct wr_replayed *wr_event_replayed(const struct weir_event *ev)
{
    const struct wr_trace *trace = ev->host_trace;
    return trace != NULL ? trace->replayed : NULL;
}

bool wr_event_set_replayed(struct wr_batch *b, struct weir_event *ev, struct weir_str source_payload,
                           const struct wr_replayed *replayed)
{
    struct wr_trace *trace = wr_arena_alloc(&b->own->arena, sizeof(*trace));
    if (trace == NULL)
        return false;
    *trace = (struct wr_trace){.source = source_payload, .replayed = replayed};
    ev->host_trace = trace;
    ev->host_seal = 0; /* of no call: there is nothing to be undone */
    return true;
}

void wr_event_restore(const struct wr_batch *b, struct weir_event *ev)
{
    const struct wr_trace *trace = ev->host_trace;
    if (trace == NULL || ev->host_seal != b->seal)
        return;
    ev->payload = trace->payload;
    ev->value = trace->value;
    ev->key = trace->key;
    ev->headers = trace->headers;
    ev->n_headers = trace->n_headers;
    ev->flags = (ev->flags & ~(WEIR_EVENT_EDITED | WEIR_EVENT_TOMB | WEIR_EVENT_RAW)) | trace->flags;
}

static bool copy_view(struct weir_arena *a, struct weir_str *s)
{
    if (s->ptr == NULL)
        return true;
    *s = wr_arena_copy(a, *s);
    return s->ptr != NULL;
}

static bool copy_value(struct weir_arena *a, struct weir_event *ev)
{
    if (ev->value == NULL)
        return true;
    if ((ev->flags & WEIR_EVENT_EDITED) != 0 || wr_value_is_mutable(ev->value))
        ev->value = wr_make_copy(a, ev->value);
    else
        ev->value = wr_value_parse(a, ev->payload, NULL);
    return ev->value != NULL;
}

static bool copy_headers(struct weir_arena *a, struct weir_event *ev)
{
    if (ev->n_headers == 0)
        return true;
    struct weir_header *headers = wr_arena_alloc(a, ev->n_headers * sizeof(*headers));
    bool ok = headers != NULL;
    for (uint32_t i = 0; ok && i < ev->n_headers; i++) {
        headers[i] = ev->headers[i];
        ok = copy_view(a, &headers[i].name) && copy_view(a, &headers[i].value);
    }
    ev->headers = headers;
    return ok;
}

static bool copy_origin(struct weir_arena *a, struct weir_event *ev)
{
    if (ev->origin == NULL)
        return true;
    struct weir_origin *origin = wr_arena_alloc(a, sizeof(*origin));
    if (origin == NULL)
        return false;
    *origin = *ev->origin;
    ev->origin = origin;
    return copy_view(a, &origin->name);
}

static bool copy_replayed(struct weir_arena *a, struct wr_trace *trace)
{
    if (trace->replayed == NULL)
        return true;
    struct wr_replayed *replayed = wr_arena_alloc(a, sizeof(*replayed));
    if (replayed == NULL)
        return false;
    *replayed = *trace->replayed;
    trace->replayed = replayed;
    return copy_view(a, &replayed->source);
}

/* Of the trace only where it comes from stays of use: the call that it could undo is over. */
static bool copy_trace(struct weir_arena *a, struct weir_event *ev, struct weir_str payload_before)
{
    const struct wr_trace *from = ev->host_trace;
    if (from == NULL)
        return true;
    struct wr_trace *trace = wr_arena_alloc(a, sizeof(*trace));
    if (trace == NULL)
        return false;
    bool same = from->source.ptr == payload_before.ptr && from->source.len == payload_before.len;
    *trace = (struct wr_trace){.source = same ? ev->payload : from->source,
                               .replayed = from->replayed};
    ev->host_trace = trace;
    ev->host_seal = 0;
    return (same || copy_view(a, &trace->source)) && copy_replayed(a, trace);
}

bool wr_event_copy_out(struct wr_body *to, struct weir_event *ev)
{
    struct weir_arena *a = &to->arena;
    struct weir_str payload = ev->payload;
    return copy_view(a, &ev->payload) && copy_view(a, &ev->key) && copy_view(a, &ev->id) &&
           copy_value(a, ev) && copy_headers(a, ev) && copy_origin(a, ev) &&
           copy_trace(a, ev, payload);
}

static void put_hex(char *out, uint64_t v, int digits)
{
    for (int i = digits; i-- > 0; v >>= 4)
        out[i] = "0123456789abcdef"[v & 15];
}

struct weir_str wr_uuid7(struct weir_arena *a, struct wr_clock *clock)
{
    char *text = wr_arena_alloc(a, 37);
    if (text == NULL)
        return weir_str_n(NULL, 0);
    uint64_t ms = (uint64_t)(clock->wall(clock) / WEIR_NS_PER_MS);
    uint64_t r1 = clock->random(clock), r2 = clock->random(clock);
    memcpy(text, "xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx", 37);
    put_hex(text, ms >> 16, 8);
    put_hex(text + 9, ms, 4);
    put_hex(text + 15, r1, 3);
    put_hex(text + 19, (r1 >> 12 & 0x3fff) | 0x8000, 4);
    put_hex(text + 24, r2, 12);
    return weir_str_n(text, 36);
}

static size_t put_decimal(char *out, int64_t v)
{
    char digits[20];
    size_t n = 0, sign = v < 0;
    uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do
        digits[n++] = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    if (sign)
        out[0] = '-';
    for (size_t i = 0; i < n; i++)
        out[sign + i] = digits[n - 1 - i];
    return sign + n;
}

/* name[-partition]-position */
static struct weir_str position_id(struct weir_arena *a, const struct weir_origin *origin,
                                   int64_t position)
{
    char *text = wr_arena_alloc(a, origin->name.len + 44);
    if (text == NULL)
        return weir_str_n(NULL, 0);
    size_t n = origin->name.len;
    memcpy(text, origin->name.ptr, n);
    if (origin->partition >= 0) {
        text[n++] = '-';
        n += put_decimal(text + n, origin->partition);
    }
    text[n++] = '-';
    n += put_decimal(text + n, position);
    wr_arena_free(a, text, origin->name.len + 44);
    text = wr_arena_alloc(a, n); /* in place: gives the rest back */
    return weir_str_n(text, n);
}

struct weir_str wr_event_id(struct wr_batch *b, struct weir_event *ev, struct wr_clock *clock)
{
    if (ev->id.len != 0 || b->own == NULL)
        return ev->id;
    struct weir_arena *a = &b->own->arena;
    if (ev->origin != NULL && ev->origin->name.len != 0 && ev->request == NULL)
        ev->id = position_id(a, ev->origin, ev->position);
    else
        ev->id = wr_uuid7(a, clock);
    return ev->id;
}

const struct weir_header *wr_event_header(const struct weir_event *ev, struct weir_str name)
{
    for (uint32_t i = 0; i < ev->n_headers; i++)
        if (wr_str_eq(ev->headers[i].name, name))
            return &ev->headers[i];
    return NULL;
}

bool wr_event_set_header(struct wr_batch *b, struct weir_event *ev, struct weir_str name,
                         struct weir_str value)
{
    if (!begin_change(b, ev))
        return false;
    struct weir_arena *a = &b->own->arena;
    struct weir_header *headers =
        wr_arena_alloc(a, ((size_t)ev->n_headers + 1) * sizeof(*headers));
    if (headers == NULL)
        return false;
    uint32_t n = 0;
    for (uint32_t i = 0; i < ev->n_headers; i++)
        if (!wr_str_eq(ev->headers[i].name, name))
            headers[n++] = ev->headers[i];
    if (value.ptr != NULL) {
        headers[n] = (struct weir_header){wr_arena_copy(a, name), wr_arena_copy(a, value)};
        if (headers[n].name.ptr == NULL || headers[n].value.ptr == NULL)
            return false;
        n++;
    }
    ev->headers = headers;
    ev->n_headers = n;
    return true;
}

bool wr_event_set_key(struct wr_batch *b, struct weir_event *ev, struct weir_str key)
{
    if (!begin_change(b, ev))
        return false;
    struct weir_str copy = wr_arena_copy(&b->own->arena, key);
    if (key.ptr != NULL && copy.ptr == NULL)
        return false;
    ev->key = copy;
    return true;
}
