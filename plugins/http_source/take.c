/* SPDX-License-Identifier: Apache-2.0
 *
 * From a complete request to events in the batch: all of its items or, where one is wrong, none
 * (`partial` takes the others). Each item is parsed here, once; its value stays with the event.
 */
#include "take.h"

#include <stdio.h>
#include <string.h>

#define AT_ONCE 2048u /* items; of more a body has more bytes than COPY_MAX, so a block of its own */
#define CHECKS_A_CLEAR 64u
#define BYTES_A_CLEAR (256u << 10)

/* ---- Where the bytes live ---- */

static bool decode(struct request *q)
{
    if (q->decoder == NULL)
        return true;
    struct body *out = q->decoder->decode(q, request_bytes(q), &q->refusal);
    request_drop_body(q);
    request_charge(q, (out != NULL ? (int64_t)out->cap : 0) - q->charged);
    q->body = out;
    q->in_place = false;
    return out != NULL;
}

/* Small bodies move into the batch's arena at once; *ret is good as long as the batch, large ones
 * once they are attached. */
static bool place(struct taking *t)
{
    t->text = request_bytes(t->q);
    if (t->text.len == 0 || t->text.len > COPY_MAX)
        return true;
    t->text = t->lane->h->arena_copy(t->b->arena, t->text);
    request_drop_body(t->q);
    return t->text.ptr != NULL;
}

static bool attach(struct taking *t)
{
    struct body *body = t->q->body;
    t->q->body = NULL;
    return body == NULL || t->lane->h->batch_attach(t->b, body_free, body, body->cap);
}

/* ---- What the head says of every event ---- */

/* Bytes of all headers of that name with ", " between them, which go to `out` where it is not NULL;
 * false where there is none. */
static bool join_values(const struct request *q, struct weir_str name, char *out, size_t *ret_len)
{
    struct weir_str lines = q->head.lines, found, value;
    size_t len = 0;
    bool any = false;
    while (header_next(&lines, &found, &value)) {
        if (!str_same(found, name))
            continue;
        if (out != NULL && any)
            memcpy(out + len, ", ", 2);
        len += any ? 2 : 0;
        if (out != NULL && value.len != 0)
            memcpy(out + len, value.ptr, value.len);
        len += value.len;
        any = true;
    }
    *ret_len = len;
    return any;
}

/* A header that came several times is one list, as RFC 9110 joins it. */
static bool add_header(struct taking *t, struct weir_arena *a, struct weir_header *headers,
                       struct weir_str name)
{
    size_t len = 0;
    if (!join_values(t->q, name, NULL, &len))
        return true;
    char *all = t->lane->h->arena_alloc(a, len + 1);
    if (all == NULL)
        return false;
    (void)join_values(t->q, name, all, &len);
    headers[t->n_headers++] = (struct weir_header){name, weir_str_n(all, len)};
    return true;
}

struct named {
    struct weir_str name, value;
};

/* Percent-encoding undone; false with q->refusal set. */
static bool add_decoded(struct taking *t, struct weir_arena *a, struct weir_header *headers,
                        struct named from, bool plus)
{
    struct weir_str name = from.name, encoded = from.value;
    char *out = t->lane->h->arena_alloc(a, encoded.len + 1);
    size_t len = 0;
    if (out == NULL)
        return refuse_memory(&t->q->refusal);
    if (!percent_decode(encoded, plus, out, &len)) {
        refuse(&t->q->refusal, HTTP_BAD_REQUEST, "bad_target",
               "the %s '%.*s' of the target is not percent-encoded text without NUL",
               plus ? "query parameter" : "path parameter", (int)name.len, name.ptr);
        return false;
    }
    headers[t->n_headers++] = (struct weir_header){name, weir_str_n(out, len)};
    return true;
}

bool take_headers(struct taking *t, struct weir_arena *a)
{
    const struct weir_host *h = t->lane->h;
    const struct config *cf = t->lane->config;
    const struct params *params = &t->q->params;
    uint32_t max = params->n + cf->query.n + cf->headers.n;
    struct weir_header *headers =
        max != 0 ? h->arena_alloc(a, max * sizeof(*headers)) : NULL;
    struct weir_str value;
    if (max != 0 && headers == NULL)
        return refuse_memory(&t->q->refusal);
    t->headers = headers;
    for (uint32_t i = 0; i < params->n; i++)
        if (!add_decoded(t, a, headers, (struct named){params->name[i], params->value[i]}, false))
            return false;
    for (uint32_t i = 0; i < cf->query.n; i++)
        if (query_find(t->q->query, list_str(&cf->query, i), &value) &&
            !add_decoded(t, a, headers, (struct named){list_str(&cf->query, i), value}, true))
            return false;
    for (uint32_t i = 0; i < cf->headers.n; i++)
        if (!add_header(t, a, headers, list_str(&cf->headers, i)))
            return refuse_memory(&t->q->refusal);
    return true;
}

bool take_origin(struct taking *t)
{
    struct weir_origin *origin = t->lane->h->arena_alloc(t->b->arena, sizeof(*origin));
    if (origin == NULL)
        return false;
    *origin = (struct weir_origin){list_str(&t->lane->config->paths, (uint32_t)t->q->path), -1};
    t->origin = origin;
    return true;
}

/* The item's own headers, then those of the request. */
static bool join_headers(struct taking *t, struct weir_event *ev)
{
    if (ev->n_headers == 0 || t->n_headers == 0) {
        ev->headers = ev->n_headers == 0 ? t->headers : ev->headers;
        ev->n_headers += t->n_headers;
        return true;
    }
    uint32_t n = ev->n_headers + t->n_headers;
    struct weir_header *all = t->lane->h->arena_alloc(t->b->arena, n * sizeof(*all));
    if (all == NULL)
        return false;
    memcpy(all, ev->headers, ev->n_headers * sizeof(*all));
    memcpy(all + ev->n_headers, t->headers, t->n_headers * sizeof(*all));
    ev->headers = all;
    ev->n_headers = n;
    return true;
}

/* ---- Key and id ---- */

/* Where what is made of an item goes. */
static struct weir_arena *arena_of(const struct taking *t)
{
    return t->check != NULL ? t->check : t->b->arena;
}

/* The text of a field, ptr NULL where it is missing or is neither text nor a number. False: no memory. */
static bool field_text(struct taking *t, const struct weir_value *v, const struct weir_list *path,
                       struct weir_str *ret)
{
    const struct weir_host *h = t->lane->h;
    *ret = weir_str_n(NULL, 0);
    for (uint32_t i = 0; i < path->n; i++)
        v = h->value_get(v, list_str(path, i));
    if (path->n == 0 || v == NULL)
        return true;
    switch (h->value_type(v)) {
    case WEIR_STRING:
    case WEIR_BIGNUM:
        *ret = h->value_str(v);
        return true;
    case WEIR_INT:
    case WEIR_UINT:
    case WEIR_REAL:
    case WEIR_BOOL:
        *ret = h->value_write(arena_of(t), v);
        return ret->ptr != NULL;
    default:
        return true;
    }
}

/* prefix/n */
static struct weir_str id_of_item(struct taking *t, struct weir_str prefix, uint32_t n)
{
    char digits[16];
    size_t n_digits = (size_t)snprintf(digits, sizeof(digits), "/%u", n);
    char *id = t->lane->h->arena_alloc(t->b->arena, prefix.len + n_digits);
    if (id == NULL)
        return weir_str_n(NULL, 0);
    memcpy(id, prefix.ptr, prefix.len);
    memcpy(id + prefix.len, digits, n_digits);
    return weir_str_n(id, prefix.len + n_digits);
}

/* Its own, else from the field. */
static bool own_id(struct taking *t, struct weir_event *ev, struct refusal *why)
{
    if (ev->id.len == 0 && !field_text(t, ev->value, &t->lane->config->id_field, &ev->id))
        return refuse_memory(why);
    if (ev->id.len <= ITEM_ID_MAX)
        return true;
    refuse(why, HTTP_BAD_REQUEST, "bad_id",
           "the field that holds the item's id has %zu bytes, and an id at most %d", ev->id.len,
           ITEM_ID_MAX);
    return false;
}

/* Else from the request's head; else the host makes one. */
static bool take_id(struct taking *t, struct weir_event *ev, uint32_t item, bool single,
                    struct refusal *why)
{
    if (!own_id(t, ev, why))
        return false;
    if (ev->id.len != 0)
        return true;
    ev->id = weir_str_n(NULL, 0);
    if (t->q->idempotency_key.len != 0)
        ev->id = id_of_item(t, t->q->idempotency_key, item);
    else if (t->q->weir_id.len != 0)
        ev->id = single ? t->lane->h->arena_copy(t->b->arena, t->q->weir_id)
                        : id_of_item(t, t->q->weir_id, item);
    else
        return true;
    return ev->id.ptr != NULL || refuse_memory(why);
}

/* ---- Items ---- */

/* The parsed payload stays with the event. */
static bool check_payload(struct taking *t, struct weir_event *ev, struct refusal *why)
{
    const struct weir_host *h = t->lane->h;
    struct weir_error err = {.offset = -1};
    if (lane_is_raw(t->lane))
        return true;
    if (ev->payload.ptr == NULL) {
        ev->flags |= WEIR_EVENT_TOMB;
        return true;
    }
    if (!is_of_body(t, ev->payload) && !values_fit_decoded(t, ev->payload, why))
        return false;
    ev->value = h->value_parse(arena_of(t), ev->payload, &err);
    if (ev->value != NULL)
        return true;
    if (err.status == WEIR_E_NOMEM)
        return refuse_memory(why);
    refuse(why, HTTP_BAD_REQUEST, err.code != NULL ? err.code : "bad_json",
           "the item is not JSON: %s", err.text);
    if (err.offset >= 0)
        why->offset = ev->payload.ptr - t->text.ptr + err.offset;
    if (!is_of_body(t, ev->payload))
        why->offset = -1; /* it came as base64 */
    return false;
}

/* Payload and, of a weir item, what else its line says. */
static bool read_item(struct taking *t, struct weir_str item, struct weir_event *ev,
                      struct refusal *why)
{
    ev->payload = item;
    if (t->q->media != MEDIA_WEIR)
        return check_payload(t, ev, why);
    ev->payload = weir_str_n(NULL, 0);
    if (weir_item_read(t->lane, arena_of(t), item, ev, why))
        return check_payload(t, ev, why);
    why->offset = item.ptr - t->text.ptr + (why->offset >= 0 ? why->offset : 0);
    return false;
}

bool add_item(struct taking *t, struct weir_str item, uint32_t index, bool single,
              struct refusal *why)
{
    struct weir_event *ev = t->lane->h->event_add(t->b);
    if (ev == NULL)
        return refuse_memory(why);
    ev->time_ns = t->wall;
    ev->origin = t->origin;
    if (!read_item(t, item, ev, why))
        return false;
    if (ev->key.ptr == NULL && !field_text(t, ev->value, &t->lane->config->key, &ev->key))
        return refuse_memory(why);
    if (!join_headers(t, ev))
        return refuse_memory(why);
    return take_id(t, ev, index, single, why);
}

/* Would add_item take it? */
static bool check_item(struct taking *t, struct weir_str item, struct refusal *why)
{
    struct weir_event ev = {0};
    t->bytes_checked += item.len;
    if (++t->n_checked % CHECKS_A_CLEAR == 0 || t->bytes_checked > BYTES_A_CLEAR) {
        t->lane->h->arena_clear(t->check);
        t->bytes_checked = item.len;
    }
    return values_fit_part(t, item, why) && read_item(t, item, &ev, why) && own_id(t, &ev, why);
}

/* Remembers an item that is left out; false where that is not allowed, or not possible. */
static bool leave_out(struct taking *t, uint32_t item, const struct refusal *why)
{
    struct request *q = t->q;
    const struct weir_host *h = t->lane->h;
    if (!t->lane->config->partial || why->status != HTTP_BAD_REQUEST)
        return false;
    if (q->n_rejects == q->cap_rejects) {
        uint32_t cap = q->cap_rejects == 0 ? 8 : q->cap_rejects * 2;
        struct rejected *grown = h->realloc(q->rejects, cap * sizeof(*grown));
        if (grown == NULL)
            return false;
        request_charge(q, (int64_t)((cap - q->cap_rejects) * sizeof(*grown)));
        q->rejects = grown;
        q->cap_rejects = cap;
    }
    struct rejected *r = &q->rejects[q->n_rejects++];
    *r = (struct rejected){.item = item, .code = why->code, .offset = why->offset};
    memcpy(r->message, why->message, strnlen(why->message, sizeof(r->message) - 1));
    return true;
}

/* One more item; false: the whole request is refused, and q->refusal says why. */
static bool take_item(struct taking *t, struct weir_str item, uint32_t index, bool single)
{
    struct refusal why = {0};
    uint32_t before = t->b->n_events;
    if (index >= (uint32_t)t->lane->config->max_events) {
        refuse(&t->q->refusal, HTTP_CONTENT_TOO_LARGE, "too_many_events",
               "the body has more than the %lld items that a request may have",
               (long long)t->lane->config->max_events);
        return false;
    }
    if (t->check != NULL ? check_item(t, item, &why) : add_item(t, item, index, single, &why))
        return true;
    t->lane->h->batch_truncate(t->b, before);
    if (leave_out(t, index, &why))
        return true;
    why.item = single || why.status != HTTP_BAD_REQUEST ? -1 : (int64_t)index;
    t->q->refusal = why;
    return false;
}

bool take_items(struct taking *t, uint32_t most, uint32_t *ret_n)
{
    struct items it;
    struct weir_str item;
    const char *why = "";
    enum items_step step;
    items_begin(&it, t->text, t->q->media, lane_is_raw(t->lane));
    while ((step = items_next(&it, &item, &why)) == ITEMS_ONE) {
        if (*ret_n == most) {
            (*ret_n)++;
            return true;
        }
        if (!take_item(t, item, *ret_n, it.single))
            return false;
        (*ret_n)++;
    }
    if (step == ITEMS_BAD) {
        refuse(&t->q->refusal, HTTP_BAD_REQUEST, "bad_json", "the body is not JSON: %s", why);
        t->q->refusal.item = *ret_n;
        t->q->refusal.offset = item.ptr - t->text.ptr;
    } else if (*ret_n == 0 && (it.lines || it.single)) {
        refuse(&t->q->refusal, HTTP_BAD_REQUEST, "empty_body",
               "the body is empty: send a JSON object, an array, or a JSON text a line");
    }
    return t->q->refusal.status == 0;
}

static void hand_in(struct taking *t, uint32_t first)
{
    struct request *q = t->q;
    const struct weir_host *h = t->lane->h;
    uint32_t n = t->b->n_events - first;
    struct weir_request *token = attach(t) ? h->request_begin(h, q) : NULL;
    if (token == NULL) {
        h->batch_truncate(t->b, first);
        (void)refuse_memory(&q->refusal);
        reply_refusal(q);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct weir_event *ev = weir_event_at(t->b, first + i);
        ev->request = token;
        ev->position = i;
    }
    q->state = REQUEST_TAKEN;
    q->open = true;
    h->request_seal(token, n);
}

/* Forgets the first items: all are looked at again. What they left in the batch's memory counts on. */
static void take_in_parts(struct taking *t, uint32_t first)
{
    struct request *q = t->q;
    t->lane->h->batch_truncate(t->b, first);
    q->n_rejects = 0;
    parts_begin(t);
}

size_t request_take(struct request *q, struct weir_batch *b)
{
    struct lane *s = q->lane;
    struct taking t = {.lane = s, .q = q, .b = b, .wall = s->h->wall(s->h)};
    uint32_t first = b->n_events, n_items = 0;
    request_unqueue(q);
    q->state = REQUEST_READING;
    size_t looked_at = request_bytes(q).len;
    bool ok = decode(q);
    if (ok && (!place(&t) || !take_origin(&t)))
        ok = refuse_memory(&q->refusal);
    ok = ok && take_headers(&t, b->arena);
    bool at_once = ok && values_at_once(&t);
    looked_at += t.text.len + (size_t)q->weight; /* a large one is the batch's last */
    ok = q->refusal.status == 0;
    ok = ok && (!at_once || take_items(&t, AT_ONCE, &n_items));
    if (ok && (!at_once || n_items > AT_ONCE)) {
        take_in_parts(&t, first);
        return looked_at;
    }
    if (!ok)
        s->h->batch_truncate(b, first);
    else if (b->n_events == first && q->n_rejects != 0)
        refuse(&q->refusal, HTTP_BAD_REQUEST, "bad_items", "none of the %u items could be taken",
               n_items);
    if (q->refusal.status != 0) {
        reply_refusal(q);
    } else if (b->n_events == first) {
        reply_accepted(q, 0);
    } else {
        hand_in(&t, first);
    }
    return looked_at;
}
