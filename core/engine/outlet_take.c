/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking entries from the buffer and giving their events to the shards: runs of consecutive events that
 * go to one shard, queued there in the order of the buffer. Any shard takes, for all of them.
 */
#include <engine/outlet_impl.h>

#include <base/mem.h>
#include <base/str.h>
#include <model/template.h>

uint64_t wr_shard_order(struct wr_shard *s, struct weir_event *ev)
{
    const struct weir_template *by = wr_outlet_options(s->outlet)->shard_by;
    if (by != NULL) {
        wr_arena_clear(&s->order, 64 * 1024);
        struct weir_str text = wr_template_render(by, ev, &s->order, NULL);
        return text.ptr != NULL ? wr_str_hash(text, 1) | 1 : 0;
    }
    if (ev->key.len != 0)
        return wr_str_hash(ev->key, 2) | 1;
    if (s->outlet->buffer->durable) /* its own stream is that of all; after a restart there is no other */
        return ev->origin != NULL
                   ? wr_str_hash(ev->origin->name, 4 + (uint64_t)(uint32_t)ev->origin->partition) | 1
                   : 0;
    const void *from = ev->stream != NULL ? (const void *)ev->stream : (const void *)ev->request;
    return from != NULL ? wr_str_hash(weir_str_n((const char *)&from, sizeof(from)), 3) | 1 : 0;
}

/* A place for one more run; under the mutex. */
static void reserve_run(struct wr_shard *s)
{
    if (s->n_runs < s->cap_runs)
        return;
    uint32_t cap = s->cap_runs != 0 ? s->cap_runs * 2 : 64;
    struct wr_run *runs = wr_xalloc(cap * sizeof(*runs));
    for (uint32_t i = 0; i < s->n_runs; i++)
        runs[i] = s->runs[(s->first_run + i) % s->cap_runs];
    wr_free(s->runs);
    s->runs = runs;
    s->first_run = 0;
    s->cap_runs = cap;
}

static void add_run(struct wr_shard *s, struct wr_entry *entry, uint32_t from, uint32_t to)
{
    pthread_mutex_lock(&s->mutex);
    reserve_run(s);
    s->runs[(s->first_run + s->n_runs++) % s->cap_runs] = (struct wr_run){entry, from, to};
    s->queued_events += to - from;
    pthread_mutex_unlock(&s->mutex);
}

bool wr_shard_next_run(struct wr_shard *s, struct wr_run *ret)
{
    pthread_mutex_lock(&s->mutex);
    bool any = s->n_runs != 0;
    if (any) {
        *ret = s->runs[s->first_run];
        s->first_run = (s->first_run + 1) % s->cap_runs;
        s->n_runs--;
        s->queued_events -= ret->to - ret->from;
    }
    pthread_mutex_unlock(&s->mutex);
    return any;
}

void wr_shard_give_back_run(struct wr_shard *s, struct wr_run run)
{
    pthread_mutex_lock(&s->mutex);
    reserve_run(s); /* another shard may have filled the place it came from */
    s->first_run = (s->first_run + s->cap_runs - 1) % s->cap_runs;
    s->n_runs++;
    s->runs[s->first_run] = run;
    s->queued_events += run.to - run.from;
    pthread_mutex_unlock(&s->mutex);
}

static void distribute(struct wr_outlet *o, struct wr_entry *entry, struct wr_shard *mine)
{
    uint32_t n = entry->batch->pub.n_events, from = 0, to_shard = 0;
    uint64_t woken = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t shard = 0;
        if (i < n)
            shard = (uint32_t)(wr_shard_order(mine, &wr_batch_events(entry->batch)[i]) >> 8) %
                    o->n_shards;
        if (i != 0 && (i == n || shard != to_shard)) {
            add_run(&o->shards[to_shard], entry, from, i);
            woken |= UINT64_C(1) << (to_shard % 64);
            from = i;
        }
        to_shard = shard;
    }
    for (uint32_t i = 0; i < o->n_shards; i++)
        if (&o->shards[i] != mine && (woken >> (i % 64) & 1) != 0)
            wr_shard_wake(&o->shards[i]);
}

uint64_t wr_shard_queued(struct wr_shard *s)
{
    pthread_mutex_lock(&s->mutex);
    uint64_t n = s->queued_events;
    pthread_mutex_unlock(&s->mutex);
    return n;
}

bool wr_shard_refill(struct wr_shard *s)
{
    struct wr_outlet *o = s->outlet;
    bool any = false;
    uint64_t want = (uint64_t)wr_outlet_options(o)->batch.events;
    pthread_mutex_lock(&o->take_mutex);
    while (wr_shard_queued(s) < want) {
        struct wr_entry *entry = wr_buffer_take(o->buffer);
        if (entry == NULL)
            break;
        any = true;
        if (o->n_shards == 1)
            add_run(s, entry, 0, entry->batch->pub.n_events);
        else
            distribute(o, entry, s);
    }
    pthread_mutex_unlock(&o->take_mutex);
    return any;
}
