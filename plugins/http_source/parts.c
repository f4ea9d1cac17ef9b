/* SPDX-License-Identifier: Apache-2.0
 *
 * A request of so many items that they would be a batch of many times the body's memory: it is looked
 * through first, all of it, so that one bad item still refuses all, and then taken in parts, as there is
 * room. A lane has one such request at a time, and takes no other one meanwhile.
 */
#include "take.h"

struct parts {
    struct weir_arena *arena; /* of what the head said, which may be gone */
    const struct weir_header *headers;
    uint32_t n_headers;
    struct items it;
    uint32_t index; /* the next item's */
    uint32_t n;     /* events so far */
    uint32_t n_passed; /* of the rejected items */
    struct weir_request *token;
};

void parts_free(struct request *q)
{
    const struct weir_host *h = q->lane->h;
    if (q->lane->in_parts == q)
        q->lane->in_parts = NULL;
    if (q->parts != NULL)
        h->arena_free(q->parts->arena);
    h->free(q->parts);
    q->parts = NULL;
}

/* ---- Looking through ---- */

static bool look_through(struct taking *t, uint32_t *ret_n)
{
    const struct weir_host *h = t->lane->h;
    t->check = h->arena_new(h);
    if (t->check == NULL)
        return refuse_memory(&t->q->refusal);
    bool ok = take_items(t, UINT32_MAX, ret_n);
    h->arena_free(t->check);
    t->check = NULL;
    if (ok && t->q->n_rejects == *ret_n) {
        refuse(&t->q->refusal, HTTP_BAD_REQUEST, "bad_items", "none of the %u items could be taken",
               *ret_n);
        return false;
    }
    return ok;
}

static bool keep(const struct weir_host *h, struct weir_arena *a, struct weir_str *s)
{
    if (s->ptr != NULL)
        *s = h->arena_copy(a, *s);
    return s->len == 0 || s->ptr != NULL;
}

/* What the head said, in memory of its own: the connection's buffer may go before the request. */
static bool keep_head(struct taking *t, struct parts *p)
{
    const struct weir_host *h = t->lane->h;
    struct request *q = t->q;
    t->n_headers = 0;
    if (!keep(h, p->arena, &q->idempotency_key) || !keep(h, p->arena, &q->weir_id) ||
        !take_headers(t, p->arena))
        return false;
    p->headers = t->headers;
    p->n_headers = t->n_headers;
    return true;
}

static struct parts *parts_new(struct taking *t)
{
    const struct weir_host *h = t->lane->h;
    struct parts *p = h->alloc(sizeof(*p));
    if (p == NULL)
        return NULL;
    p->arena = h->arena_new(h);
    if (p->arena != NULL && keep_head(t, p))
        return p;
    h->arena_free(p->arena);
    h->free(p);
    return NULL;
}

void parts_begin(struct taking *t)
{
    struct request *q = t->q;
    const struct weir_host *h = t->lane->h;
    uint32_t n = 0;
    if (!look_through(t, &n)) {
        reply_refusal(q);
        return;
    }
    q->parts = parts_new(t);
    struct weir_request *token = q->parts != NULL ? h->request_begin(h, q) : NULL;
    if (token == NULL) {
        parts_free(q);
        (void)refuse_memory(&q->refusal);
        reply_refusal(q);
        return;
    }
    q->parts->token = token;
    items_begin(&q->parts->it, t->text, q->media, lane_is_raw(t->lane));
    q->state = REQUEST_TAKEN;
    q->open = true;
    t->lane->in_parts = q;
}

/* ---- Taking ---- */

/* The headers again, in this batch's memory. */
static bool copy_headers(struct taking *t, const struct parts *p)
{
    const struct weir_host *h = t->lane->h;
    struct weir_header *headers =
        p->n_headers != 0 ? h->arena_alloc(t->b->arena, p->n_headers * sizeof(*headers)) : NULL;
    if (p->n_headers != 0 && headers == NULL)
        return false;
    for (uint32_t i = 0; i < p->n_headers; i++) {
        headers[i] = p->headers[i];
        if (!keep(h, t->b->arena, &headers[i].value)) /* names are the configuration's */
            return false;
    }
    t->headers = headers;
    t->n_headers = p->n_headers;
    return true;
}

static bool is_rejected(const struct request *q, struct parts *p)
{
    bool rejected = p->n_passed < q->n_rejects && q->rejects[p->n_passed].item == p->index;
    p->n_passed += rejected;
    return rejected;
}

/* Was good before: false means no memory. */
static bool emit(struct taking *t, struct parts *p, struct weir_str item)
{
    const struct weir_host *h = t->lane->h;
    struct refusal why = {0};
    uint32_t at = t->b->n_events;
    struct weir_str copy = h->arena_copy(t->b->arena, item);
    if (copy.ptr == NULL || !add_item(t, copy, p->index, false, &why)) {
        h->batch_truncate(t->b, at);
        return false;
    }
    struct weir_event *ev = weir_event_at(t->b, at);
    ev->request = p->token;
    ev->position = p->n++;
    return true;
}

static void finish(struct request *q)
{
    struct weir_request *token = q->parts->token;
    uint32_t n = q->parts->n;
    parts_free(q);
    request_drop_body(q);
    q->lane->h->request_seal(token, n);
}

bool parts_take(struct lane *s, struct weir_batch *b, uint32_t room, size_t most, size_t *looked_at)
{
    struct request *q = s->in_parts;
    struct parts *p = q->parts;
    struct taking t = {.lane = s, .q = q, .b = b, .wall = s->h->wall(s->h)};
    struct weir_str item;
    const char *why = "";
    t.text = request_bytes(q);
    if (!take_origin(&t) || !copy_headers(&t, p))
        return false;
    while (b->n_events < room && *looked_at < most) {
        struct items before = p->it;
        if (items_next(&p->it, &item, &why) != ITEMS_ONE) {
            finish(q);
            return true;
        }
        if (!is_rejected(q, p) && !emit(&t, p, item)) {
            p->it = before;
            return false;
        }
        p->index++;
        *looked_at += item.len;
    }
    return true;
}
