/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink `kafka`: an idempotent producer whose delivery reports are the acknowledgements.
 *
 * write() hands the events of a batch to librdkafka without copying their payloads: the batch stays
 * valid until the last report. librdkafka repeats what fails for a time by itself, in order and
 * without duplicates, for as long as it takes; what it holds is never handed to it again. Once an
 * event is refused that is to be written again, nothing behind it is handed over, and what is
 * queued behind it is taken back, so that order is kept. Taking back has a price: what a lost
 * connection has put back into the queue goes, too, though the broker may have it, and so does a
 * request of which a part is sent: the library drops the connection then, with all that is under
 * way on it, and says of these that they were never sent.
 */
#include "sink.h"

#include <stdio.h>
#include <string.h>

#define WEIR_ID "weir-id"
#define RECORD_BYTES 70 /* of a record beside its key, value and headers, at most */
/* Requests that were under way behind one that was refused are put back into the library's queue,
 * and sent again after its retry.backoff.ms, 100 by default. */
#define PURGE_INTERVAL (20 * WEIR_NS_PER_MS)
/* How long a write waits for the first one to its topic; so long, too, a reload waits for it. */
#define FIRST_WAIT WEIR_NS_PER_S

/* ---- Slots --------------------------------------------------------------------------------- */

static struct slot *slot_get(struct sink *s)
{
    if (s->free_slots == NULL) {
        struct slot_chunk *chunk = s->client.host->alloc(sizeof(*chunk));
        if (chunk == NULL)
            return NULL;
        chunk->next = s->chunks;
        s->chunks = chunk;
        for (uint32_t i = 0; i < SLOTS_A_CHUNK; i++) {
            chunk->slots[i].next = s->free_slots;
            s->free_slots = &chunk->slots[i];
        }
    }
    struct slot *slot = s->free_slots;
    s->free_slots = slot->next;
    return slot;
}

static void slot_put(struct sink *s, struct slot *slot)
{
    slot->next = s->free_slots;
    s->free_slots = slot;
}

/* ---- Reports ------------------------------------------------------------------------------- */

/* The first news of it is told; a delivery takes it back. */
static void note_denied(struct sink *s, struct topic *t)
{
    char text[WEIR_ERROR_TEXT / 2];
    if (t->denied)
        return;
    t->denied = true;
    s->n_denied++;
    snprintf(text, sizeof(text), "Kafka denies writing to the topic '%.100s'", t->name);
    client_bar(&s->client, BAR_RIGHT, text);
}

static void forget_denied(struct sink *s, struct topic *t)
{
    s->n_denied -= t->denied;
    t->denied = false;
}

static void lift_denied(struct sink *s)
{
    if (s->client.barred && s->n_denied == 0)
        client_bar(&s->client, BAR_RIGHT, "");
}

/* A topic that is not there denies nothing. */
static void note_unknown(struct sink *s, struct topic *t, rd_kafka_resp_err_t code)
{
    t->unknown = is_unknown_topic(code);
    if (!t->unknown || !t->denied)
        return;
    forget_denied(s, t);
    lift_denied(s);
}

static bool is_clock(const struct sink *s, rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP && s->cfg->timestamp == TIMESTAMP_NOW;
}

static struct weir_result waits(const char *code, const char *text)
{
    return (struct weir_result){
        .verdict = WEIR_VERDICT_BEHIND, .code = code, .message = weir_cstr(text)};
}

/* Of an event that waits for one before it. */
static struct weir_result behind(const struct sink *s)
{
    return waits(s->behind.code, s->behind.text);
}

/* Of an event that was taken back out of the library's queue. */
static struct weir_result taken_back(struct sink *s, const rd_kafka_message_t *m)
{
    if (rd_kafka_message_status(m) == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED) {
        s->behind.n_doubtful++;
        return waits("possibly_written",
                     "it was under way when what is behind a refused event was taken back: written "
                     "again, and there twice where the broker had taken it");
    }
    return s->behind.waits ? behind(s) : waits("taken_back", "taken back from the queue");
}

/* Of an event that has to wait longer for the first write to its topic. */
static struct weir_result behind_first(const struct sink *s, const struct topic *t)
{
    const struct weir_host *h = s->client.host;
    struct weir_str text = h->arena_printf(h->scratch(h),
                                           "topic '%s': the brokers have not answered yet to the "
                                           "first events that were written to it; waiting for them",
                                           t->name);
    return (struct weir_result){
        .verdict = WEIR_VERDICT_BEHIND, .code = "first_write", .message = text};
}

/* The verdict on an event that failed; `m` as verdict_of(). The text names the topic. */
static struct weir_result judge(struct sink *s, rd_kafka_resp_err_t code,
                                const rd_kafka_message_t *m, const struct slot *slot)
{
    const struct weir_host *h = s->client.host;
    char text[WEIR_ERROR_TEXT / 2];
    struct weir_arena *a = h->scratch(h);
    struct weir_result r = is_clock(s, code) ? wrong_clock(code)
                                             : verdict_of(code, m, slot->alone, s->literal != NULL);
    rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(s->rk, text, sizeof(text));
    if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        note_denied(s, slot->topic);
    if (fatal == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
        client_bar(&s->client, BAR_RIGHT, "Kafka denies the idempotent producer");
    if (fatal != RD_KAFKA_RESP_ERR_NO_ERROR) {
        r = verdict_of(RD_KAFKA_RESP_ERR__FATAL, m, false, false);
        r.message = h->arena_printf(a, "the producer can do nothing more: %s", text);
    } else {
        r.message = h->arena_printf(a, "topic '%s': %.*s", slot->topic->name, (int)r.message.len,
                                    r.message.ptr);
    }
    return r;
}

static struct weir_result failed(struct sink *s, const rd_kafka_message_t *m,
                                 const struct slot *slot)
{
    bool too_large = m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
                     m->err == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
    if (too_large && !slot->alone)
        topic_shrink(slot->topic, slot->limit);
    else if (too_large)
        topic_forget_refusal(slot->topic);
    else if (is_of_any_record(m->err) && !slot->alone && !is_clock(s, m->err))
        topic_isolate(slot->topic);
    return judge(s, m->err, m, slot);
}

static void delivered(struct sink *s, const struct slot *slot)
{
    struct topic *t = slot->topic;
    topic_prove(t, slot->bytes);
    forget_denied(s, t);
    lift_denied(s);
}

/* ---- Order --------------------------------------------------------------------------------- */

/* What stands against handing over more; __RETRY: an event that is written again first. */
static rd_kafka_resp_err_t hindrance(const struct sink *s)
{
    if (atomic_load(&s->cancelled))
        return RD_KAFKA_RESP_ERR__PURGE_QUEUE;
    if (s->broken)
        return RD_KAFKA_RESP_ERR__FATAL;
    return s->behind.waits ? RD_KAFKA_RESP_ERR__RETRY : RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void purge_queue(struct sink *s)
{
    const struct weir_host *h = s->client.host;
    s->behind.purge_ns = h->now(h) + PURGE_INTERVAL;
    rd_kafka_purge(s->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

/* What comes behind an event that is written again must not overtake it. */
static void keep_behind(struct sink *s, const struct weir_result *r)
{
    bool again = r->verdict == WEIR_VERDICT_RETRY || r->verdict == WEIR_VERDICT_UNAVAILABLE ||
                 r->verdict == WEIR_VERDICT_BEHIND;
    bool reopen = r->verdict == WEIR_VERDICT_REOPEN;
    if ((!again && !reopen) || s->broken || atomic_load(&s->cancelled))
        return;
    s->broken = reopen;
    if (s->behind.waits)
        return;
    s->behind.waits = true;
    s->behind.code = r->code;
    snprintf(s->behind.text, sizeof(s->behind.text), "behind an event that is written again: %.*s",
             (int)r->message.len, r->message.ptr);
}

/* Nor what the library has queued behind one that it was given. */
static void take_back(struct sink *s)
{
    if (!s->behind.waits || s->behind.purges || s->n_pending == 0)
        return;
    s->behind.purges = true;
    purge_queue(s);
}

/* Takes back what came back into the queue. Returns when to look again. */
static int64_t purge_again(struct sink *s)
{
    const struct weir_host *h = s->client.host;
    if (!s->behind.purges || s->n_pending == 0)
        return WEIR_NEVER;
    if (h->now(h) >= s->behind.purge_ns)
        purge_queue(s);
    return s->behind.purge_ns;
}

/* Who waits inside a write has an event of that write refused, so that this one is the outlet's
 * repetition, or comes behind it. */
static void go_on(struct sink *s)
{
    const struct weir_host *h = s->client.host;
    struct weir_kv kv = weir_kv_u64("events", s->behind.n_doubtful);
    if (s->n_pending != 0)
        return;
    if (s->behind.purges) /* waits for those before it: they must not take what comes now */
        rd_kafka_purge(s->rk, RD_KAFKA_PURGE_F_QUEUE);
    if (s->behind.n_doubtful != 0)
        h->log(h, WEIR_LOG_WARN,
               "events are written again that were under way when a request was refused: they may "
               "be there twice",
               &kv, 1);
    s->behind.waits = s->behind.purges = false;
    s->behind.n_doubtful = 0;
}

/* ---- The library's reports ----------------------------------------------------------------- */

void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk;
    struct sink *s = opaque;
    struct slot *slot = m->_private;
    uint64_t ticket = slot->ticket;
    uint32_t index = slot->index;
    struct weir_result r = {.verdict = WEIR_VERDICT_OK};
    slot->topic->under_way -= slot->bytes;
    note_unknown(s, slot->topic, m->err);
    s->n_pending--;
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        delivered(s, slot);
    else if (m->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE && !atomic_load(&s->cancelled))
        r = taken_back(s, m);
    else
        r = failed(s, m, slot);
    keep_behind(s, &r);
    if (r.verdict != WEIR_VERDICT_OK && r.verdict != WEIR_VERDICT_REJECTED)
        take_back(s);
    slot_put(s, slot);
    if (s->writing != NULL && s->writing_ticket == ticket)
        *weir_result_at(s->writing, index) = r;
    else
        s->client.host->complete(s->client.host, ticket, index, &r);
}

/* ---- One event ----------------------------------------------------------------------------- */

static void reject(const struct weir_host *h, struct weir_result *r, const struct weir_error *err)
{
    struct weir_arena *a = h->scratch(h);
    r->verdict = WEIR_VERDICT_REJECTED;
    r->code = err->code != NULL ? err->code : "template";
    r->message = h->arena_copy(a, weir_cstr(err->text));
}

/* False with the verdict in r where a field is missing. */
static bool render(const struct sink *s, const struct weir_template *t, struct weir_batch *b,
                   struct weir_event *ev, struct weir_str *ret_text, struct weir_result *r)
{
    const struct weir_host *h = s->client.host;
    struct weir_error err = {.status = WEIR_OK};
    *ret_text = h->template_render(h, t, b, ev, h->scratch(h), &err);
    if (ret_text->ptr != NULL)
        return true;
    reject(h, r, &err);
    return false;
}

static struct topic *topic_for(struct sink *s, struct weir_batch *b, struct weir_event *ev,
                               struct weir_result *r)
{
    struct weir_str name;
    if (s->literal != NULL)
        return s->literal;
    if (!render(s, s->cfg->topic, b, ev, &name, r))
        return NULL;
    return topics_get(&s->topics, s->client.host, s->rk, name, r);
}

static bool is_configured(const struct weir_list *headers, struct weir_str name)
{
    const struct weir_pair *pairs = headers->items;
    for (uint32_t i = 0; i < headers->n; i++)
        if (pairs[i].key.len == name.len && memcmp(pairs[i].key.ptr, name.ptr, name.len) == 0)
            return true;
    return name.len == sizeof(WEIR_ID) - 1 && memcmp(name.ptr, WEIR_ID, name.len) == 0;
}

/* Returns its size. */
static size_t put_header(rd_kafka_headers_t *headers, struct weir_str name, struct weir_str value)
{
    rd_kafka_header_add(headers, name.ptr, (ssize_t)name.len, value.ptr, (ssize_t)value.len);
    return name.len + value.len;
}

/* The event's own headers, then the configured ones, which replace them, then the id. NULL with the
 * verdict in r. Their size is added to *bytes. */
static rd_kafka_headers_t *headers_for(const struct sink *s, struct weir_batch *b,
                                       struct weir_event *ev, size_t *bytes, struct weir_result *r)
{
    const struct weir_host *h = s->client.host;
    const struct weir_list *configured = &s->cfg->headers;
    const struct weir_pair *pairs = configured->items;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(ev->n_headers + configured->n + 1);
    for (uint32_t i = 0; i < ev->n_headers; i++)
        if (!is_configured(configured, ev->headers[i].name))
            *bytes += put_header(headers, ev->headers[i].name, ev->headers[i].value);
    for (uint32_t i = 0; i < configured->n; i++) {
        struct weir_str text;
        if (!render(s, pairs[i].value.ptr, b, ev, &text, r)) {
            rd_kafka_headers_destroy(headers);
            return NULL;
        }
        *bytes += put_header(headers, pairs[i].key, text);
    }
    *bytes += put_header(headers, weir_cstr(WEIR_ID), h->event_id(h, b, ev));
    return headers;
}

static bool key_for(const struct sink *s, struct weir_batch *b, struct weir_event *ev,
                    struct weir_str *ret_key, struct weir_result *r)
{
    if (s->cfg->key != NULL)
        return render(s, s->cfg->key, b, ev, ret_key, r);
    *ret_key = ev->key;
    return true;
}

static rd_kafka_vu_t memory(rd_kafka_vtype_t type, struct weir_str v)
{
    rd_kafka_vu_t u = {.vtype = type};
    u.u.mem.ptr = (void *)(uintptr_t)v.ptr; /* only read: no flag asks to free or change it */
    u.u.mem.size = v.len;
    return u;
}

/* A tombstone has no value; anything else has one, be it empty. */
static struct weir_str value_of(const struct weir_host *h, struct weir_batch *b,
                                struct weir_event *ev)
{
    if ((ev->flags & WEIR_EVENT_TOMB) != 0)
        return weir_str_n(NULL, 0);
    struct weir_str payload = h->event_payload(h, b, ev);
    return payload.len != 0 ? payload : weir_str_n("", 0);
}

/* Serves reports until the queue may have room again. They may also tell that nothing more is to be
 * handed over, or the deadline may have come: that is returned. */
static rd_kafka_resp_err_t await_room(struct sink *s, int64_t deadline_ns)
{
    const struct weir_host *h = s->client.host;
    if (atomic_load(&s->cancelled) || h->now(h) >= deadline_ns)
        return RD_KAFKA_RESP_ERR__QUEUE_FULL;
    rd_kafka_poll(s->rk, ms_until(h, deadline_ns, 100));
    return hindrance(s);
}

/* Hands the message over; waits for room in the queue until the deadline. */
static rd_kafka_resp_err_t produce(struct sink *s, const rd_kafka_vu_t *vu, size_t n,
                                   int64_t deadline_ns)
{
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_produceva(s->rk, vu, n);
        if (error == NULL)
            return RD_KAFKA_RESP_ERR_NO_ERROR;
        rd_kafka_resp_err_t code = rd_kafka_error_code(error);
        rd_kafka_error_destroy(error);
        if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            code = await_room(s, deadline_ns);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            return code;
    }
}

/* Waits until the topic takes so much more. Returns as await_room(), and __IN_PROGRESS where its
 * first events take long: the brokers may be away. */
static rd_kafka_resp_err_t await_topic(struct sink *s, struct slot *slot, int64_t deadline_ns)
{
    const struct weir_host *h = s->client.host;
    struct topic *t = slot->topic;
    int64_t first_ns = h->now(h) + FIRST_WAIT;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    while (code == RD_KAFKA_RESP_ERR_NO_ERROR && !topic_takes(t, slot->ticket, slot->bytes)) {
        code = await_room(s, deadline_ns);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && !t->reached && h->now(h) >= first_ns)
            code = RD_KAFKA_RESP_ERR__IN_PROGRESS;
    }
    slot->limit = t->limit;
    slot->alone = t->under_way == 0 && slot->bytes >= t->limit;
    return code;
}

static void write_message(struct sink *s, struct slot *take_slot, struct weir_batch *b,
                          struct weir_str key, rd_kafka_headers_t *take_headers,
                          int64_t deadline_ns, struct weir_result *r)
{
    struct slot *slot = take_slot;
    struct weir_event *ev = weir_event_at(b, slot->index);
    struct weir_str value = value_of(s->client.host, b, ev);
    slot->bytes += value.len + key.len;
    int64_t time_ms = s->cfg->timestamp == TIMESTAMP_EVENT ? ev->time_ns / WEIR_NS_PER_MS : 0;
    rd_kafka_vu_t vu[6] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = slot->topic->handle},
        memory(RD_KAFKA_VTYPE_VALUE, value),
        memory(RD_KAFKA_VTYPE_KEY, key),
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = time_ms > 0 ? time_ms : 0},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = take_headers},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = slot},
    };
    /* Before the call: the report may come while it waits for room. */
    r->verdict = WEIR_VERDICT_PENDING;
    rd_kafka_resp_err_t code = await_topic(s, slot, deadline_ns);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = produce(s, vu, 6, deadline_ns);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        slot->topic->under_way += slot->bytes;
        s->n_pending++;
        return;
    }
    rd_kafka_headers_destroy(take_headers);
    note_unknown(s, slot->topic, code);
    if (code == RD_KAFKA_RESP_ERR__RETRY)
        *r = behind(s);
    else if (code == RD_KAFKA_RESP_ERR__IN_PROGRESS)
        *r = behind_first(s, slot->topic);
    else
        *r = judge(s, code, NULL, slot);
    slot_put(s, slot);
}

static void write_event(struct sink *s, struct weir_batch *b, uint32_t i, int64_t deadline_ns,
                        struct weir_result *r)
{
    struct weir_event *ev = weir_event_at(b, i);
    struct weir_str key;
    struct topic *topic = topic_for(s, b, ev, r);
    if (topic == NULL || !key_for(s, b, ev, &key, r))
        return;
    size_t bytes = RECORD_BYTES;
    rd_kafka_headers_t *headers = headers_for(s, b, ev, &bytes, r);
    if (headers == NULL)
        return;
    struct slot *slot = slot_get(s);
    if (slot == NULL) {
        rd_kafka_headers_destroy(headers);
        *r = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE, .code = "no_memory"};
        return;
    }
    *slot = (struct slot){.ticket = b->ticket, .index = i, .topic = topic, .bytes = bytes};
    write_message(s, slot, b, key, headers, deadline_ns, r);
}

/* ---- The sink's calls ---------------------------------------------------------------------- */

static void sink_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    struct sink *s = self;
    pthread_mutex_lock(&s->polling);
    s->writing = results;
    s->writing_ticket = b->ticket;
    go_on(s);
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_result *r = weir_result_at(results, i);
        rd_kafka_resp_err_t code = hindrance(s);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            write_event(s, b, i, deadline_ns, r);
        else
            *r = code == RD_KAFKA_RESP_ERR__RETRY ? behind(s) : verdict_of(code, NULL, true, true);
        keep_behind(s, r);
    }
    s->writing = NULL;
    sink_memory(s);
    pthread_mutex_unlock(&s->polling);
}

static void sink_progress(void *self, int64_t deadline_ns)
{
    struct sink *s = self;
    bool woken = atomic_exchange(&s->woken, false);
    pthread_mutex_lock(&s->polling);
    int64_t again_ns = purge_again(s);
    int64_t until_ns = again_ns < deadline_ns ? again_ns : deadline_ns;
    rd_kafka_queue_poll_callback(s->main_queue,
                                 woken ? 0 : ms_until(s->client.host, until_ns, 60000));
    sink_memory(s);
    client_step(&s->client);
    pthread_mutex_unlock(&s->polling);
}

static void sink_wake(void *self)
{
    struct sink *s = self;
    atomic_store(&s->woken, true);
    rd_kafka_queue_yield(s->main_queue);
}

static void sink_flush(void *self, int64_t deadline_ns)
{
    struct sink *s = self;
    pthread_mutex_lock(&s->polling);
    rd_kafka_flush(s->rk, ms_until(s->client.host, deadline_ns, 600000));
    pthread_mutex_unlock(&s->polling);
}

static void sink_cancel(void *self)
{
    struct sink *s = self;
    atomic_store(&s->cancelled, true);
    rd_kafka_purge(s->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                              RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_queue_yield(s->main_queue);
}

const struct weir_sink kafka_sink_calls = {
    .size = sizeof(kafka_sink_calls),
    .batch_events = 1000,
    .batch_bytes = 1 << 20,
    .batch_timeout_ns = 0,
    .in_flight = 32,
    .write = sink_write,
    .progress = sink_progress,
    .wake = sink_wake,
    .flush = sink_flush,
    .cancel = sink_cancel,
};
