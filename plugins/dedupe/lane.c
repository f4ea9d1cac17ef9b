/* SPDX-License-Identifier: Apache-2.0
 *
 * Contracts in lane.h. The keys' lock is taken once for a batch, with the texts made before, and shortly
 * for each end. Held events belong to their lane: another lane that decides about one puts its waiter into
 * the list `ready` of that lane and wakes it.
 */
#include "lane.h"

#include "../common/event_key.h"

void lane_check(const struct lane_config *config, const struct weir_report *report)
{
    struct weir_str text;
    if (config->key != NULL && report->host->template_is_literal(config->key, &text))
        report->error(report, "key", -1,
                      "this text is the same for every event: all but the first would be duplicates");
}

void lane_open(struct lane *l, const struct weir_host *h, const struct lane_config *config,
               struct keys *keys)
{
    l->h = h;
    l->template = config->key;
    l->keys = keys;
    l->n_keys = h->gauge(h, "dedupe_keys", "Keys that are known, those of events on their way included.",
                         NULL);
    l->n_bytes = h->gauge(h, "dedupe_bytes", "Memory of the keys that are known.", NULL);
    l->evicted = h->counter(h, "dedupe_evicted_keys_total",
                            "Keys that were forgotten before their time, to make room.", NULL);
    keys_lock(keys);
    l->next = *keys_lanes(keys);
    *keys_lanes(keys) = l;
    keys_unlock(keys);
}

void lane_close(struct lane *l)
{
    if (l->keys == NULL)
        return;
    struct waiter *w;
    keys_lock(l->keys);
    for (struct lane **at = keys_lanes(l->keys); *at != NULL; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    while ((w = waiters_pop(&l->ready)) != NULL)
        keys_release(l->keys, w); /* the host lets go of what it held */
    keys_unlock(l->keys);
    if (l->items != NULL)
        l->h->free(l->items);
}

/* ---- Room ---- */

bool lane_is_full(struct lane *l)
{
    keys_lock(l->keys);
    l->wants_room = keys_full(l->keys);
    bool full = l->wants_room;
    keys_unlock(l->keys);
    return full;
}

/* Under the lock. */
static void tell_of_room(struct lane *l)
{
    for (struct lane *at = *keys_lanes(l->keys); at != NULL; at = at->next) {
        if (!at->wants_room || keys_full(l->keys))
            continue;
        at->wants_room = false;
        at->h->wake(at->h);
    }
}

/* ---- A batch ---- */

static bool reserve(struct lane *l, uint32_t n)
{
    if (n <= l->cap_items)
        return true;
    struct item *items = l->h->realloc(l->items, n * sizeof(*items));
    if (items == NULL)
        return false;
    l->items = items;
    l->cap_items = n;
    return true;
}

static void no_memory(const struct lane *l, struct weir_batch *b, struct weir_event *ev)
{
    event_fail_as(l->h, b, ev, "no_memory", weir_cstr("no memory for the event's key"));
}

/* Its first is on its way. Under the lock. */
static void hold(struct lane *l, struct weir_batch *b, struct weir_event *ev, struct key *key)
{
    const struct weir_host *h = l->h;
    struct waiter *w = h->alloc(sizeof(*w));
    if (w == NULL) {
        no_memory(l, b, ev);
        return;
    }
    /* What the host keeps of it, about: a body of its own, payload and value. */
    *w = (struct waiter){.lane = l, .key = key, .bytes = 2048 + 4 * ev->payload.len};
    w->held = h->event_hold(h, b, ev);
    if (w->held != NULL)
        keys_hold(l->keys, w);
    else
        h->free(w); /* the event has failed */
}

/* Under the lock. */
static void meet(struct lane *l, struct weir_batch *b, struct weir_event *ev, struct item *item,
                 int64_t now_ns)
{
    struct key *key = NULL;
    switch (keys_meet(l->keys, item->text, item->hash, now_ns, &key)) {
    case KEYS_NEW:
        item->first = key;
        break;
    case KEYS_BUSY:
        hold(l, b, ev, key);
        break;
    case KEYS_DUPLICATE:
        l->h->event_filter(l->h, b, ev, "duplicate");
        break;
    case KEYS_NO_MEMORY:
        no_memory(l, b, ev);
        break;
    }
}

/* Makes the event's text; empty where it is none of this batch's, or has failed. */
static void make_text(struct lane *l, struct weir_batch *b, struct weir_event *ev, struct item *item)
{
    struct weir_str text;
    if ((ev->flags & (WEIR_EVENT_GONE | WEIR_EVENT_PASSED)) != 0 ||
        !event_key(l->h, l->template, b, ev, &text))
        return;
    if (text.len == 0) {
        event_fail_as(l->h, b, ev, "empty_key",
                      weir_cstr("the key of this event is empty: it cannot be told from others"));
        return;
    }
    item->text = text;
    item->hash = keys_hash(l->keys, text);
}

bool lane_sort(struct lane *l, struct weir_batch *b)
{
    uint32_t n = b->n_events;
    if (!reserve(l, n))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        l->items[i] = (struct item){0};
        make_text(l, b, weir_event_at(b, i), &l->items[i]);
    }
    int64_t now_ns = l->h->now(l->h);
    keys_lock(l->keys);
    for (uint32_t i = 0; i < n; i++) {
        keys_fetch(l->keys, l->items[i + 4 < n ? i + 4 : i].hash, l->items[i + 8 < n ? i + 8 : i].hash);
        if (l->items[i].text.len != 0)
            meet(l, b, weir_event_at(b, i), &l->items[i], now_ns);
    }
    keys_unlock(l->keys);
    return true;
}

void lane_pass(struct lane *l, struct weir_batch *b, struct weir_event *ev, struct key *key)
{
    if (l->h->event_watch(l->h, b, ev, (uint64_t)(uintptr_t)key))
        return;
    no_memory(l, b, ev);
    lane_end(l, key, END_FAILED);
}

/* ---- Ends ---- */

static void decide(struct waiter *w, enum verdict verdict)
{
    w->verdict = verdict;
    waiters_push(&w->lane->ready, w);
    w->lane->h->wake(w->lane->h);
}

static void decide_all(struct key *key, enum verdict verdict)
{
    struct waiter *w;
    while ((w = waiters_pop(&key->waiters)) != NULL)
        decide(w, verdict);
}

static void end_failed(struct lane *l, struct key *key)
{
    struct waiter *next = waiters_pop(&key->waiters);
    if (next != NULL)
        decide(next, VERDICT_PASS); /* the others wait for this one now */
    else
        keys_forget(l->keys, key);
}

void lane_end(struct lane *l, struct key *key, enum key_end how)
{
    int64_t now_ns = l->h->now(l->h);
    keys_lock(l->keys);
    if (how != END_FAILED)
        decide_all(key, how == END_REFUSED ? VERDICT_REFUSED : VERDICT_DUPLICATE);
    switch (how) {
    case END_SEEN:
        keys_see(l->keys, key, now_ns);
        break;
    case END_WRITING:
        keys_write(l->keys, key);
        break;
    case END_DUPLICATE:
    case END_REFUSED:
        keys_forget(l->keys, key);
        break;
    case END_FAILED:
        end_failed(l, key);
        break;
    }
    tell_of_room(l);
    keys_unlock(l->keys);
}

void lane_written(struct lane *l, struct key *take_key)
{
    keys_lock(l->keys);
    keys_forget(l->keys, take_key);
    tell_of_room(l);
    keys_unlock(l->keys);
}

/* ---- Duplicates whose waiting is over ---- */

static struct waiter *next_ready(struct lane *l)
{
    keys_lock(l->keys);
    struct waiter *w = waiters_pop(&l->ready);
    keys_unlock(l->keys);
    return w;
}

static void release(struct lane *l, struct waiter *take_w)
{
    keys_lock(l->keys);
    keys_release(l->keys, take_w);
    tell_of_room(l);
    keys_unlock(l->keys);
}

/* No memory now: the next call tries again, a tick at the latest. */
static void put_back(struct lane *l, struct waiter *w)
{
    keys_lock(l->keys);
    waiters_push(&l->ready, w);
    keys_unlock(l->keys);
}

void lane_give_out(struct lane *l, struct weir_batch *b, bool parked)
{
    const struct weir_host *h = l->h;
    struct waiter *w;
    while ((w = next_ready(l)) != NULL) {
        uint32_t i = h->held_release(h, b, w->held);
        if (i == UINT32_MAX) {
            put_back(l, w);
            return;
        }
        struct weir_event *ev = weir_event_at(b, i);
        if (w->verdict == VERDICT_DUPLICATE)
            h->event_filter(h, b, ev, "duplicate");
        else if (w->verdict == VERDICT_PASS)
            lane_pass(l, b, ev, w->key);
        else
            event_fail_as(h, b, ev, "refused",
                          weir_cstr("its key could not be looked up, as that of the first event with it"));
        if (parked)
            h->event_pass(h, b, ev);
        release(l, w);
    }
}

void lane_tick(struct lane *l, struct weir_batch *b)
{
    const struct weir_host *h = l->h;
    struct keys_report report;
    bool more;
    lane_give_out(l, b, false);
    do {
        keys_lock(l->keys); /* others may have it between */
        more = keys_expire(l->keys, h->now(h));
        report = keys_report(l->keys);
        keys_unlock(l->keys);
        h->metric_add(l->evicted, report.n_evicted);
    } while (more);
    h->metric_set(l->n_keys, (double)report.n_keys);
    h->metric_set(l->n_bytes, (double)report.n_bytes);
}
