/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ends of events mean to a source: the watermark of a stream, the answer to a request. All on
 * the lane's thread, but for `closed`, which outlets read before each write.
 */
#include <engine/ack_impl.h>
#include <engine/broken.h>

#include <base/check.h>
#include <base/mem.h>

#include <string.h>

#define WINDOW_MAX (1u << 20)
#define WINDOW_MIN 1024u

enum { RUNNING = 0, ENDED = 1, FAILED = 2 };

/* ---- Streams ---- */

struct weir_stream *wr_stream_open(struct wr_acks *acks, const struct weir_origin *origin, void *user)
{
    struct weir_stream *s = wr_alloc(sizeof(*s) + origin->name.len + 1);
    if (s == NULL)
        return NULL;
    char *name = (char *)(s + 1);
    if (origin->name.len != 0)
        memcpy(name, origin->name.ptr, origin->name.len);
    s->origin = (struct weir_origin){{name, origin->name.len}, origin->partition};
    s->acks = acks;
    s->user = user;
    atomic_init(&s->lease, WEIR_NEVER);
    s->next = acks->streams;
    if (s->next != NULL)
        s->next->prev = s;
    acks->streams = s;
    return s;
}

static void stream_free(struct weir_stream *s)
{
    wr_free(s->ring_next);
    wr_free(s->ring_done);
    wr_free(s);
}

uint64_t wr_stream_pending(struct weir_stream *s)
{
    /* What came home and was not looked at yet counts as ended. */
    wr_acks_collect(s->acks);
    return s->n_pending;
}

void wr_stream_close(struct weir_stream *take_s)
{
    struct weir_stream *s = take_s;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        s->acks->streams = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    atomic_store_explicit(&s->closed, true, memory_order_relaxed);
    if (s->n_pending != 0)
        return; /* it goes with its last event */
    if (s->acks->collecting) {
        s->prev = s->acks->closed;
        s->acks->closed = s;
    } else {
        stream_free(s);
    }
}

void wr_stream_lease(struct weir_stream *s, int64_t until_ns)
{
    atomic_store_explicit(&s->lease, until_ns, memory_order_relaxed);
}

void wr_streams_free_closed(struct wr_acks *acks)
{
    for (struct weir_stream *s = acks->closed, *next; s != NULL; s = next) {
        next = s->prev;
        stream_free(s);
    }
    acks->closed = NULL;
}

static bool ring_grow(struct weir_stream *s)
{
    uint64_t cap = s->cap != 0 ? s->cap * 2 : WINDOW_MIN;
    int64_t *next = wr_alloc_raw(cap * sizeof(*next));
    uint8_t *done = wr_alloc_raw(cap);
    if (next == NULL || done == NULL) {
        wr_free(next);
        wr_free(done);
        return false;
    }
    for (uint64_t i = s->head; i < s->tail; i++) {
        next[i & (cap - 1)] = s->ring_next[i & (s->cap - 1)];
        done[i & (cap - 1)] = s->ring_done[i & (s->cap - 1)];
    }
    wr_free(s->ring_next);
    wr_free(s->ring_done);
    s->ring_next = next;
    s->ring_done = done;
    s->cap = cap;
    return true;
}

static bool enter_stream(struct wr_ack *ack, struct weir_stream *s, int64_t next)
{
    if (s->stuck) {
        ack->kind = WR_ACK_STREAM;
        ack->of.stream = s;
        ack->number = WR_ACK_NOWHERE;
        s->n_pending++;
        return true;
    }
    if (s->tail - s->head == s->cap && !ring_grow(s))
        return false;
    s->ring_next[s->tail & (s->cap - 1)] = next;
    s->ring_done[s->tail & (s->cap - 1)] = RUNNING;
    ack->kind = WR_ACK_STREAM;
    ack->of.stream = s;
    ack->number = s->tail++;
    s->n_pending++;
    return true;
}

void wr_stream_end(struct weir_stream *s, uint64_t number, enum weir_outcome outcome)
{
    WR_BUG_ON(s->n_pending == 0 ||
              (number != WR_ACK_NOWHERE && (number < s->head || number >= s->tail)));
    s->n_pending--;
    if (atomic_load_explicit(&s->closed, memory_order_relaxed)) {
        if (s->n_pending == 0)
            stream_free(s);
        return;
    }
    if (number == WR_ACK_NOWHERE)
        return;
    bool failed = wr_break_failed(outcome == WEIR_FAILED || outcome == WEIR_ABANDONED);
    s->ring_done[number & (s->cap - 1)] = failed ? FAILED : ENDED;
    uint64_t mask = s->cap - 1;
    while (s->head < s->tail && s->ring_done[s->head & mask] == ENDED) {
        s->watermark = s->ring_next[s->head++ & mask];
        s->moved = s->acks->any_moved = true;
    }
    s->stuck = s->head < s->tail && s->ring_done[s->head & mask] == FAILED;
}

/* ---- Requests ---- */

struct weir_request *wr_request_begin(struct wr_acks *acks, void *user)
{
    struct weir_request *r = wr_alloc(sizeof(*r));
    if (r == NULL)
        return NULL;
    r->acks = acks;
    r->user = user;
    r->next = acks->requests;
    if (r->next != NULL)
        r->next->prev = r;
    acks->requests = r;
    acks->n_unanswered++;
    return r;
}

void wr_request_free(struct weir_request *take_r)
{
    struct weir_request *r = take_r;
    if (r->prev != NULL)
        r->prev->next = r->next;
    else
        r->acks->requests = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    for (uint32_t i = 0; r->items != NULL && i < r->cap; i++)
        wr_free(r->items[i].why);
    wr_free(r->items);
    wr_free(r->ends);
    wr_free(r);
}

static bool items_reserve(struct weir_request *r, uint32_t n)
{
    if (n <= r->cap)
        return true;
    uint32_t cap = r->cap * 2 > n ? r->cap * 2 : n;
    struct weir_end *ends = wr_realloc(r->ends, cap * sizeof(*ends));
    if (ends == NULL)
        return false;
    r->ends = ends;
    struct wr_item *items = wr_realloc(r->items, cap * sizeof(*items));
    if (items == NULL)
        return false;
    r->items = items;
    memset(ends + r->cap, 0, (cap - r->cap) * sizeof(*ends));
    memset(items + r->cap, 0, (cap - r->cap) * sizeof(*items));
    r->cap = cap;
    return true;
}

static void when_complete(struct weir_request *r)
{
    if (!r->sealed || r->answered || r->due || r->n_ended < r->n_items)
        return;
    r->due = true;
    r->next_due = r->acks->due;
    r->acks->due = r;
}

void wr_request_seal(struct weir_request *r, uint32_t n)
{
    WR_BUG_ON(r->sealed);
    r->sealed = true;
    r->n_items = n;
    if (!items_reserve(r, n))
        r->n_items = r->cap;
    when_complete(r);
}

static bool enter_request(struct wr_ack *ack, struct weir_request *r, int64_t item)
{
    if (item < 0 || item >= INT32_MAX || !items_reserve(r, (uint32_t)item + 1))
        return false;
    ack->kind = WR_ACK_REQUEST;
    ack->of.request = r;
    ack->number = (uint64_t)item;
    r->n_entered++;
    if (!r->sealed && item >= r->n_items)
        r->n_items = (uint32_t)item + 1;
    return true;
}

void wr_request_end(struct weir_request *r, uint32_t item, enum weir_outcome outcome,
                    struct wr_why *take_why)
{
    r->n_ended++;
    if (r->answered) {
        wr_free(take_why);
        if (r->n_ended == r->n_entered)
            wr_request_free(r);
        return;
    }
    struct weir_end *end = &r->ends[item];
    end->outcome = outcome;
    r->items[item].ended = true;
    if (take_why != NULL) {
        end->component = take_why->component;
        end->code = take_why->code;
        end->message = take_why->message;
        wr_free(r->items[item].why);
        r->items[item].why = take_why;
    }
    when_complete(r);
}

static void answer(struct weir_request *r, uint32_t n)
{
    struct wr_acks *acks = r->acks;
    struct weir_ends ends = {n, sizeof(struct weir_end), r->ends};
    r->answered = true;
    acks->n_unanswered--;
    if (acks->type->answer != NULL)
        acks->type->answer(acks->self, r->user, &ends);
    if (r->n_ended == r->n_entered)
        wr_request_free(r);
}

/* ---- Both ---- */

bool wr_ack_enter_source(struct wr_ack *ack, const struct weir_event *ev)
{
    if (ev->stream != NULL)
        return enter_stream(ack, ev->stream, ev->next);
    if (ev->request != NULL)
        return enter_request(ack, ev->request, ev->position);
    ack->kind = WR_ACK_NONE; /* a source that waits for nothing */
    return true;
}

/* Inside commit the source may close any stream: those that are closed keep their way on until the walk
 * is over. */
static void commit_all(struct wr_acks *acks, bool final)
{
    for (struct weir_stream *s = acks->streams; s != NULL; s = s->next) {
        /* A watermark that never moved has nothing to store. */
        if (!(final ? s->head != 0 : s->moved) || atomic_load_explicit(&s->closed, memory_order_relaxed))
            continue;
        s->moved = false;
        acks->type->commit(acks->self, s, s->user, s->watermark, final);
    }
}

void wr_acks_report(struct wr_acks *acks)
{
    if (acks->any_moved && acks->type->commit != NULL)
        commit_all(acks, false);
    acks->any_moved = false;
    for (struct weir_request *r; (r = acks->due) != NULL;) {
        acks->due = r->next_due;
        answer(r, r->n_items);
    }
}

bool wr_acks_full(const struct wr_acks *acks)
{
    for (const struct weir_stream *s = acks->streams; s != NULL; s = s->next)
        if (s->tail - s->head >= WINDOW_MAX && !s->stuck)
            return true;
    return false;
}

uint64_t wr_acks_requests(const struct wr_acks *acks)
{
    return acks->n_unanswered;
}

void wr_acks_final(struct wr_acks *acks)
{
    acks->collecting = true;
    if (acks->type->commit != NULL)
        commit_all(acks, true);
    acks->collecting = false;
    wr_streams_free_closed(acks);
}

void wr_acks_fail_requests(struct wr_acks *acks, const struct wr_why *why)
{
    for (struct weir_request *r = acks->requests, *next; r != NULL; r = next) {
        next = r->next;
        if (r->answered)
            continue;
        for (uint32_t i = 0; i < r->n_items; i++)
            if (!r->items[i].ended)
                r->ends[i] = (struct weir_end){WEIR_FAILED, why->component, why->code, why->message};
        answer(r, r->n_items);
    }
    acks->due = NULL;
}
