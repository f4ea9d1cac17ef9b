/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes and their way home; see ack.h. Streams and requests, what the ends mean to a source, are in
 * ack_source.c; both share ack_impl.h.
 */
#include <engine/ack_impl.h>
#include <engine/broken.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>

#include <sched.h>

struct wr_acks *wr_acks_new(const struct weir_source *type, const struct wr_acks_ops *ops, void *arg)
{
    struct wr_acks *acks = wr_xalloc(sizeof(*acks));
    acks->type = type;
    acks->ops = *ops;
    acks->arg = arg;
    atomic_init(&acks->oldest, INT64_MAX);
    return acks;
}

void wr_acks_free(struct wr_acks *acks)
{
    if (acks == NULL)
        return;
    wr_acks_collect(acks);
    WR_BUG_ON(acks->n_open != 0);
    /* Who sent the last node may still be about to wake its owner. */
    while (atomic_load_explicit(&acks->n_sending, memory_order_acquire) != 0)
        sched_yield();
    while (acks->streams != NULL)
        wr_stream_close(acks->streams);
    while (acks->requests != NULL)
        wr_request_free(acks->requests);
    for (struct wr_block *b = acks->free_blocks, *next; b != NULL; b = next) {
        next = b->next;
        wr_free(b);
    }
    wr_free(acks);
}

void wr_acks_source(struct wr_acks *acks, void *self)
{
    acks->self = self;
}

void wr_acks_name(struct wr_acks *acks, struct weir_str id)
{
    acks->name = id;
}

struct weir_str wr_ack_source(const struct wr_ack *ack)
{
    return ack != NULL ? ack->home->name : weir_str_n(NULL, 0);
}

/* ---- Blocks of nodes: one a batch, reused by size ---- */

#define SMALL_BLOCK 16u /* smaller ones are not kept: they would stand in the way of larger ones */

static struct wr_block *block_new(struct wr_acks *acks, uint32_t n, int64_t now)
{
    struct wr_block *b = acks->free_blocks;
    if (b != NULL && b->cap >= n) {
        acks->free_blocks = b->next;
        acks->n_free_blocks--;
    } else {
        uint32_t cap = n == 1 ? 1 : n < SMALL_BLOCK ? SMALL_BLOCK : n;
        b = wr_alloc(sizeof(*b) + (size_t)cap * sizeof(struct wr_ack));
        if (b == NULL)
            return NULL;
        b->cap = cap;
    }
    b->n_open = n;
    b->entered_ns = now;
    b->next = NULL;
    b->prev = acks->last_block;
    if (b->prev != NULL)
        b->prev->next = b;
    else
        acks->first_block = b;
    acks->last_block = b;
    return b;
}

static void publish_oldest(struct wr_acks *acks)
{
    const struct wr_block *b = acks->first_block;
    while (b != NULL && b->entered_ns == INT64_MAX) /* came from no source */
        b = b->next;
    atomic_store_explicit(&acks->oldest, b != NULL ? b->entered_ns : INT64_MAX, memory_order_relaxed);
}

#define FREE_BLOCKS_MAX 16

static void block_release(struct wr_acks *acks, struct wr_block *b)
{
    if (--b->n_open != 0)
        return;
    if (b->prev != NULL)
        b->prev->next = b->next;
    else
        acks->first_block = b->next;
    if (b->next != NULL)
        b->next->prev = b->prev;
    else
        acks->last_block = b->prev;
    if (acks->n_free_blocks == FREE_BLOCKS_MAX || b->cap < SMALL_BLOCK) {
        wr_free(b);
        return;
    }
    b->next = acks->free_blocks;
    acks->free_blocks = b;
    acks->n_free_blocks++;
}

static void node_init(struct wr_ack *ack, struct wr_acks *acks, struct wr_block *block)
{
    *ack = (struct wr_ack){.home = acks, .block = block};
    atomic_init(&ack->refs, 1);
    acks->n_open++;
}

bool wr_acks_enter(struct wr_acks *acks, struct wr_batch *b, int64_t now)
{
    uint32_t n = b->pub.n_events;
    struct weir_event *events = wr_batch_events(b);
    struct wr_block *block = n != 0 ? block_new(acks, n, now) : NULL;
    bool ok = block != NULL || n == 0;
    for (uint32_t i = 0; i < n; i++) {
        struct wr_ack *ack = block != NULL ? &block->nodes[i] : NULL;
        events[i].host_ack = ack;
        if (ack == NULL)
            continue;
        node_init(ack, acks, block);
        /* Behind the first that finds no memory none may enter: a watermark must not jump over it. */
        ok = ok && wr_ack_enter_source(ack, &events[i]);
    }
    publish_oldest(acks);
    return ok;
}

struct wr_ack *wr_acks_child(struct wr_acks *acks, struct wr_ack *const *take_parents, uint32_t n,
                             void *watcher, uint64_t cookie)
{
    struct wr_child *child = wr_alloc(sizeof(*child) + n * sizeof(struct wr_ack *));
    struct wr_block *block = child != NULL ? block_new(acks, 1, acks->last_block != NULL
                                                                    ? acks->last_block->entered_ns
                                                                    : INT64_MAX)
                                           : NULL;
    if (block == NULL) {
        wr_free(child);
        return NULL;
    }
    child->watcher = watcher;
    child->cookie = cookie;
    for (uint32_t i = 0; i < n; i++)
        if (take_parents[i] != NULL)
            child->parents[child->n++] = take_parents[i];
    struct wr_ack *ack = &block->nodes[0];
    node_init(ack, acks, block);
    ack->kind = WR_ACK_CHILD;
    ack->of.child = child;
    return ack;
}

/* ---- Settling: any thread ---- */

void wr_ack_ref(struct wr_ack *ack)
{
    if (ack != NULL)
        atomic_fetch_add_explicit(&ack->refs, 1, memory_order_relaxed);
}

static struct wr_reason *reason_new(const struct wr_why *why)
{
    struct wr_reason *copy = wr_alloc(sizeof(*copy) + why->component.len + why->message.len);
    if (copy == NULL)
        return NULL;
    char *text = (char *)(copy + 1);
    copy->why = *why;
    copy->why.component.ptr = text;
    copy->why.message.ptr = text + why->component.len;
    if (why->component.len != 0)
        memcpy(text, why->component.ptr, why->component.len);
    if (why->message.len != 0)
        memcpy(text + why->component.len, why->message.ptr, why->message.len);
    wr_secrets_hide(why->secrets, text + why->component.len, why->message.len);
    return copy;
}

/* Keeps the worst reason; of equals the first. The one before stays behind it until the node has ended:
 * another branch may be looking at it. */
static void keep_why(struct wr_ack *ack, const struct wr_why *why)
{
    struct wr_reason *mine = reason_new(why);
    if (mine == NULL)
        return; /* the outcome is kept all the same */
    struct wr_reason *there = atomic_load_explicit(&ack->reason, memory_order_acquire);
    do {
        if (there != NULL && there->why.outcome >= mine->why.outcome) {
            wr_free(mine);
            return;
        }
        mine->next = there;
    } while (!atomic_compare_exchange_weak_explicit(&ack->reason, &there, mine, memory_order_acq_rel,
                                                    memory_order_acquire));
}

/* The reason of a node that has ended, for the caller to free; NULL if nobody gave one. */
static struct wr_why *take_why(struct wr_ack *ack)
{
    struct wr_reason *worst = atomic_load_explicit(&ack->reason, memory_order_acquire);
    if (worst == NULL)
        return NULL;
    for (struct wr_reason *r = worst->next, *next; r != NULL; r = next) {
        next = r->next;
        wr_free(r);
    }
    return &worst->why;
}

void wr_ack_note(struct wr_ack *ack, const struct wr_why *why)
{
    if (ack != NULL)
        keep_why(ack, why);
}

void wr_ended_flush(struct wr_ended *ended)
{
    struct wr_acks *home = ended->home;
    if (home == NULL)
        return;
    atomic_fetch_add_explicit(&home->n_sending, 1, memory_order_relaxed);
    struct wr_ack *head = atomic_load_explicit(&home->inbox, memory_order_relaxed);
    do
        ended->last->next = head;
    while (!atomic_compare_exchange_weak_explicit(&home->inbox, &head, ended->first,
                                                  memory_order_acq_rel, memory_order_relaxed));
    /* Not the address of a node that may be gone by now: only whether the inbox was empty. */
    bool was_empty = head == NULL;
    *ended = (struct wr_ended){0};
    if (was_empty)
        home->ops.wake(home->arg);
    atomic_fetch_sub_explicit(&home->n_sending, 1, memory_order_release);
}

static void send_home(struct wr_ack *ack, struct wr_ended *ended)
{
    if (ended->home != ack->home) {
        wr_ended_flush(ended);
        ended->home = ack->home;
        ended->last = ack;
    }
    ack->next = ended->first;
    ended->first = ack;
}

void wr_ack_settle(struct wr_ack *ack, enum weir_outcome outcome, const struct wr_why *why,
                   struct wr_ended *ended)
{
    if (ack == NULL)
        return;
    uint32_t bit = 1u << outcome;
    if (why != NULL && (ack->kind == WR_ACK_REQUEST || ack->kind == WR_ACK_CHILD))
        keep_why(ack, why); /* a stream does not ask */
    /* The only holder left: nobody else writes, so plain stores do. */
    if (atomic_load_explicit(&ack->refs, memory_order_acquire) == 1) {
        uint32_t seen = atomic_load_explicit(&ack->outcomes, memory_order_relaxed);
        atomic_store_explicit(&ack->outcomes, seen | bit, memory_order_relaxed);
        atomic_store_explicit(&ack->refs, 0, memory_order_relaxed);
        send_home(ack, ended);
        return;
    }
    if ((atomic_load_explicit(&ack->outcomes, memory_order_relaxed) & bit) == 0)
        atomic_fetch_or_explicit(&ack->outcomes, bit, memory_order_relaxed);
    uint32_t before = atomic_fetch_sub_explicit(&ack->refs, 1, memory_order_acq_rel);
    WR_BUG_ON(before == 0);
    if (before == 1)
        send_home(ack, ended);
}

#define GENERATIONS_MAX 32 /* a transform may join what it joined before, again and again */

static enum wr_fate stream_fate(const struct weir_stream *s, int64_t now)
{
    if (atomic_load_explicit(&s->closed, memory_order_relaxed))
        return WR_FATE_GONE;
    return now < atomic_load_explicit(&s->lease, memory_order_relaxed) ? WR_FATE_WRITE : WR_FATE_WAIT;
}

/* Of a join all parents have to be gone; it waits for one. */
static enum wr_fate fate(const struct wr_ack *ack, int64_t now, int generations)
{
    if (ack == NULL)
        return WR_FATE_WRITE;
    if (ack->kind == WR_ACK_STREAM)
        return wr_break_epoch(stream_fate(ack->of.stream, now) != WR_FATE_WRITE)
                   ? stream_fate(ack->of.stream, now)
                   : WR_FATE_WRITE;
    if (ack->kind != WR_ACK_CHILD || ack->of.child->n == 0 || generations == 0)
        return WR_FATE_WRITE;
    bool all_gone = true;
    for (uint32_t i = 0; i < ack->of.child->n; i++) {
        enum wr_fate of_parent = fate(ack->of.child->parents[i], now, generations - 1);
        if (of_parent == WR_FATE_WAIT)
            return WR_FATE_WAIT;
        all_gone &= of_parent == WR_FATE_GONE;
    }
    return all_gone ? WR_FATE_GONE : WR_FATE_WRITE;
}

/* WRITE where it would take long to say: writing what nobody counts does no harm. */
enum wr_fate wr_ack_fate(const struct wr_ack *ack, int64_t now)
{
    return fate(ack, now, GENERATIONS_MAX);
}

/* ---- Coming home: the lane ---- */

static enum weir_outcome worst_of(uint32_t outcomes)
{
    return outcomes == 0 ? WEIR_FILTERED : (enum weir_outcome)(31 - __builtin_clz(outcomes));
}

static void end_child(struct wr_acks *acks, struct wr_ack *ack, enum weir_outcome outcome,
                      const struct wr_why *why, struct wr_ended *parents)
{
    struct wr_child *child = ack->of.child;
    if (child->watcher != NULL)
        acks->ops.settled(acks->arg, child->watcher, child->cookie, outcome);
    for (uint32_t i = 0; i < child->n; i++)
        wr_ack_settle(child->parents[i], outcome, why, parents);
    wr_free(child);
}

static void end_node(struct wr_acks *acks, struct wr_ack *ack, struct wr_ended *parents)
{
    enum weir_outcome outcome =
        worst_of(atomic_load_explicit(&ack->outcomes, memory_order_relaxed));
    if (outcome == WEIR_FAILED && ack->kind != WR_ACK_CHILD)
        acks->n_failed++;
    struct wr_why *why = take_why(ack);
    switch (ack->kind) {
    case WR_ACK_STREAM:
        wr_stream_end(ack->of.stream, ack->number, outcome);
        break;
    case WR_ACK_REQUEST:
        wr_request_end(ack->of.request, (uint32_t)ack->number, outcome, why);
        why = NULL; /* the request has it now */
        break;
    case WR_ACK_CHILD:
        end_child(acks, ack, outcome, why, parents);
        break;
    case WR_ACK_NONE:
        break;
    }
    wr_free(why);
    acks->n_open--;
    block_release(acks, ack->block);
}

void wr_acks_collect(struct wr_acks *acks)
{
    if (acks->collecting)
        return; /* a source asked from inside its commit or answer */
    acks->collecting = true;
    struct wr_ack *chain = atomic_exchange_explicit(&acks->inbox, NULL, memory_order_acq_rel);
    while (chain != NULL) {
        struct wr_ended parents = {0};
        for (struct wr_ack *next; chain != NULL; chain = next) {
            next = chain->next;
            end_node(acks, chain, &parents);
        }
        chain = parents.first; /* parents that ended with their children are ours to end as well */
        if (parents.last != NULL)
            parents.last->next = NULL;
    }
    publish_oldest(acks);
    wr_acks_report(acks);
    acks->collecting = false;
    wr_streams_free_closed(acks);
}

uint64_t wr_acks_open(const struct wr_acks *acks)
{
    return acks->n_open;
}

uint64_t wr_acks_failed(const struct wr_acks *acks)
{
    return acks->n_failed;
}

int64_t wr_acks_oldest(const struct wr_acks *acks)
{
    return atomic_load_explicit(&acks->oldest, memory_order_relaxed);
}
