/* SPDX-License-Identifier: Apache-2.0
 *
 * An outlet: what stands in front of a sink. Each of its shards is a thread with a sink instance; it
 * takes batches from the buffer (outlet_take.c), gathers events into writes of the size that the user
 * chose and drives the sink (outlet_write.c), and decides what a result means (outlet_results.c), turn by
 * turn (outlet_step.c). Here it is opened, started, woken and closed.
 */
#include <engine/outlet_impl.h>

#include <engine/disk_buffer.h>

#include <base/check.h>
#include <base/error.h>
#include <base/mem.h>
#include <base/str.h>

#include <stdio.h>

/* ---- Opening and closing ---- */

static void wake_sink(void *arg)
{
    struct wr_shard *s = arg;
    s->outlet->type->wake(s->inst->self);
}

void wr_shard_wake(void *arg)
{
    wr_wake_signal(&((struct wr_shard *)arg)->wake);
}

void wr_outlet_wake(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        wr_shard_wake(&o->shards[i]);
}

static void buffer_filled(void *arg)
{
    wr_outlet_wake(arg);
}

static bool shard_open(struct wr_shard *s, struct weir_error *err)
{
    struct wr_outlet *o = s->outlet;
    bool shared = (o->unit->comp->traits & WEIR_TRAIT_SHARED) != 0;
    if (shared && s->index != 0) {
        s->inst = o->shards[0].inst;
        return true;
    }
    s->inst = wr_instance_open(o->unit, s->index, shared ? 1 : o->n_shards, NULL, s, err);
    s->owns_inst = s->inst != NULL;
    return s->inst != NULL;
}

static void shard_init(struct wr_outlet *o, uint32_t index)
{
    struct wr_shard *s = &o->shards[index];
    s->outlet = o;
    s->index = index;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->inst_mutex, NULL);
    wr_wake_init(&s->wake, o->type->wake != NULL ? wake_sink : NULL, s);
    s->dead_waiter.wake = wr_shard_wake;
    s->dead_waiter.arg = s;
    s->n_writes = (uint32_t)wr_outlet_options(o)->in_flight;
    s->writes = wr_xalloc(s->n_writes * sizeof(struct wr_write));
}

static struct weir_metric *unit_metric(struct wr_unit *unit, enum wr_metric_type type,
                                       const char *name, const char *help)
{
    struct wr_label labels[WR_UNIT_LABELS];
    wr_unit_labels(unit, labels);
    return wr_metric(unit->pipeline->rt.metrics, type, name, help, labels, WR_UNIT_LABELS);
}

static void count_discarded(void *arg, const char *reason, uint64_t n)
{
    wr_unit_count_discard(arg, reason, n);
}

static struct wr_buffer *open_disk(struct wr_outlet *o, struct weir_error *err)
{
    const struct wr_sink_options *opt = wr_outlet_options(o);
    const struct wr_runtime *rt = &o->p->rt;
    struct wr_label labels[WR_UNIT_LABELS];
    wr_unit_labels(o->unit, labels);
    struct wr_disk_options disk = {.path = opt->buffer.path.ptr,
                                   .size = (size_t)opt->buffer.size,
                                   .memory = (size_t)opt->buffer.memory,
                                   .sync_ns = opt->buffer.sync,
                                   .when_full = opt->buffer.when_full,
                                   .keep_source = opt->buffer.keep_source,
                                   .drains = opt->buffer.drain_on_stop,
                                   .needs = o->unit->comp->needs,
                                   .clock = rt->clock,
                                   .log = o->unit->log,
                                   .metrics = rt->metrics,
                                   .labels = labels,
                                   .n_labels = WR_UNIT_LABELS,
                                   .component = o->unit->id,
                                   .discarded = count_discarded,
                                   .discarded_arg = o->unit};
    struct wr_buffer *buffer = wr_buffer_disk(&disk, buffer_filled, o, err);
    o->buffer_unit = wr_unit_ref(o->unit); /* its log and name: the sink may change without it */
    if (buffer == NULL)
        wr_error_context(err, "pipeline '%.*s': sink '%.*s'", WR_STR(o->p->name),
                         WR_STR(o->unit->id));
    return buffer;
}

static bool open_buffer(struct wr_outlet *o, struct weir_error *err)
{
    const struct wr_sink_options *opt = wr_outlet_options(o);
    o->buffer = opt->buffer.type == WR_BUFFER_DISK
                    ? open_disk(o, err)
                    : wr_buffer_memory((size_t)opt->buffer.size, buffer_filled, o);
    return o->buffer != NULL;
}

bool wr_outlet_open(struct wr_outlet *o, struct weir_error *err)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        if (o->shards[i].inst == NULL && !shard_open(&o->shards[i], err))
            return false;
    return true;
}

struct wr_outlet *wr_outlet_new(struct wr_unit *unit, bool later, struct weir_error *err)
{
    struct wr_outlet *o = wr_xalloc(sizeof(*o));
    o->unit = wr_unit_ref(unit);
    o->is_dead_letter = unit->comp->is_dead_letter;
    o->p = unit->pipeline;
    o->type = unit->comp->type->sink;
    pthread_mutex_init(&o->take_mutex, NULL);
    o->retries = unit_metric(unit, WR_COUNTER, "sink_retries_total",
                             "Events that were written again after a retryable failure.");
    o->latency = unit_metric(unit, WR_HISTOGRAM, "e2e_latency_seconds",
                             "From an event's entry to its delivery by this sink.");
    o->writes = unit_metric(unit, WR_COUNTER, "sink_writes_total", "Writes that have ended.");
    o->n_shards = (uint32_t)wr_outlet_options(o)->concurrency;
    o->shards = wr_xalloc(o->n_shards * sizeof(struct wr_shard));
    for (uint32_t i = 0; i < o->n_shards; i++)
        shard_init(o, i);
    if (!open_buffer(o, err)) {
        wr_outlet_free(o);
        return NULL;
    }
    if (!later && !wr_outlet_open(o, err)) {
        wr_outlet_free(o);
        return NULL;
    }
    return o;
}

static void write_free(struct wr_write *w)
{
    wr_batch_free(w->b);
    wr_free(w->meta);
    wr_free(w->results);
    wr_arena_done(&w->texts);
}

static void shard_done(struct wr_shard *s)
{
    wr_shard_fail_queued(s);
    for (uint32_t i = 0; i < s->n_writes; i++)
        if (!s->writes[i].active) /* a sink that never completed may still look at it */
            write_free(&s->writes[i]);
    for (uint32_t i = 0; i < s->n_completions; i++)
        wr_free((void *)(uintptr_t)s->completions[i].result.message.ptr);
    wr_batch_free(s->dead);
    wr_free(s->completions);
    wr_free(s->writes);
    wr_free(s->again);
    wr_free(s->runs);
    wr_arena_done(&s->order);
    wr_wake_done(&s->wake);
    pthread_mutex_destroy(&s->inst_mutex);
    pthread_mutex_destroy(&s->mutex);
}

void wr_outlet_free(struct wr_outlet *take_o)
{
    if (take_o == NULL)
        return;
    if (take_o->buffer != NULL && take_o->buffer->ops->stop != NULL)
        take_o->buffer->ops->stop(take_o->buffer);
    for (uint32_t i = 0; i < take_o->n_shards; i++) /* a sink may complete for any shard until it is closed */
        if (take_o->shards[i].owns_inst) {
            wr_instance_close(take_o->shards[i].inst);
            wr_instance_close(take_o->shards[i].next_inst);
        }
    for (uint32_t i = 0; i < take_o->n_shards; i++)
        shard_done(&take_o->shards[i]);
    if (take_o->buffer != NULL)
        take_o->buffer->ops->free(take_o->buffer);
    pthread_mutex_destroy(&take_o->take_mutex);
    wr_unit_unref(take_o->unit);
    wr_unit_unref(take_o->buffer_unit);
    wr_unit_unref(take_o->dead);
    wr_free(take_o->shards);
    wr_free(take_o);
}

bool wr_outlet_is_dead_letter(const struct wr_outlet *o)
{
    return o->is_dead_letter;
}

void wr_outlet_dead_letters_to(struct wr_outlet *o, struct wr_unit *unit)
{
    struct wr_unit *before = o->dead;
    bool moves = before != NULL && unit != NULL && before->outlet != unit->outlet;
    for (uint32_t i = 0; moves && i < o->n_shards; i++) /* what waits there for room does so elsewhere */
        wr_buffer_forget(before->outlet->buffer, &o->shards[i].dead_waiter);
    o->dead = unit != NULL ? wr_unit_ref(unit) : NULL;
    wr_unit_unref(before);
}

struct wr_buffer *wr_outlet_buffer(struct wr_outlet *o)
{
    return o->buffer;
}

uint32_t wr_outlet_shards(const struct wr_outlet *o)
{
    return o->n_shards;
}

int64_t wr_outlet_idle(const struct wr_outlet *o, int64_t now)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < o->n_shards; i++)
        total += wr_idle_total(&o->shards[i].idle, now);
    return total;
}

struct wr_shard *wr_outlet_shard(struct wr_outlet *o, uint32_t i)
{
    return &o->shards[i];
}

void wr_shard_cancel(struct wr_shard *s)
{
    pthread_mutex_lock(&s->inst_mutex);
    if (s->owns_inst && s->inst != NULL && s->outlet->type->cancel != NULL)
        s->outlet->type->cancel(s->inst->self);
    pthread_mutex_unlock(&s->inst_mutex);
}

void wr_outlet_cancel(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++)
        wr_shard_cancel(&o->shards[i]);
    wr_outlet_wake(o);
}

static void *run(void *arg)
{
    struct wr_shard *s = arg;
    while (wr_shard_step(s, INT64_MAX) >= 0)
        continue;
    return NULL;
}

void wr_outlet_start(struct wr_outlet *o)
{
    char name[16];
    struct weir_str id = o->unit->id;
    if (o->buffer->ops->start != NULL)
        o->buffer->ops->start(o->buffer);
    for (uint32_t i = 0; i < o->n_shards; i++) {
        snprintf(name, sizeof(name), "sink-%.*s-%u", (int)(id.len > 7 ? 7 : id.len), id.ptr, i % 100);
        WR_BUG_ON(pthread_create(&o->shards[i].thread, NULL, run, &o->shards[i]) != 0);
        (void)pthread_setname_np(o->shards[i].thread, name);
        o->shards[i].has_thread = true;
    }
}

void wr_outlet_join(struct wr_outlet *o)
{
    for (uint32_t i = 0; i < o->n_shards; i++) {
        if (o->shards[i].has_thread)
            pthread_join(o->shards[i].thread, NULL);
        o->shards[i].has_thread = false;
    }
}
