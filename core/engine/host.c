/* SPDX-License-Identifier: Apache-2.0
 *
 * The host table: thin functions between the ABI and the engine. What they do to an event's data is in
 * model/batch.c, what they do to its way in engine/transform_host.c.
 */
#include <engine/host.h>

#include <base/budget.h>
#include <base/error.h>
#include <base/mem.h>
#include <engine/runtime.h>
#include <engine/transform_host.h>
#include <model/options.h>
#include <model/template.h>

#include <string.h>

static struct wr_instance *inst_of(const struct weir_host *h)
{
    return (struct wr_instance *)h->priv;
}

/* ---- Time, logs, metrics ---- */

static struct wr_clock *clock_of(const struct weir_host *h)
{
    return h->priv != NULL ? inst_of(h)->clock : wr_clock_system();
}

static int64_t host_now(const struct weir_host *h)
{
    return wr_now(clock_of(h));
}

static int64_t host_wall(const struct weir_host *h)
{
    struct wr_clock *c = clock_of(h);
    return c->wall(c);
}

static uint64_t host_random(const struct weir_host *h)
{
    struct wr_clock *c = clock_of(h);
    return c->random(c);
}

static void host_log(const struct weir_host *h, enum weir_log_level level, const char *message,
                     const struct weir_kv *kv, uint32_t n_kv)
{
    if (h->priv != NULL)
        wr_log_write(inst_of(h)->unit->log, level, message, kv, n_kv);
}

static bool host_log_enabled(const struct weir_host *h, enum weir_log_level level)
{
    return h->priv != NULL && wr_log_enabled(inst_of(h)->unit->log, level);
}

#define LABELS_MAX 12u

static struct weir_metric *metric(const struct weir_host *h, enum wr_metric_type type,
                                  const char *name, const char *help, const char *const *pairs)
{
    const struct wr_unit *unit = inst_of(h)->unit;
    struct wr_label labels[LABELS_MAX];
    uint32_t n = WR_UNIT_LABELS;
    wr_unit_labels(unit, labels);
    for (; pairs != NULL && pairs[0] != NULL && pairs[1] != NULL && n < LABELS_MAX; pairs += 2)
        labels[n++] = (struct wr_label){pairs[0], weir_cstr(pairs[1])};
    return wr_metric(unit->pipeline->rt.metrics, type, name, help, labels, n);
}

static struct weir_metric *host_counter(const struct weir_host *h, const char *name,
                                        const char *help, const char *const *labels)
{
    return metric(h, WR_COUNTER, name, help, labels);
}

static struct weir_metric *host_gauge(const struct weir_host *h, const char *name, const char *help,
                                      const char *const *labels)
{
    return metric(h, WR_GAUGE, name, help, labels);
}

static struct weir_metric *host_histogram(const struct weir_host *h, const char *name,
                                          const char *help, const char *const *labels)
{
    return metric(h, WR_HISTOGRAM, name, help, labels);
}

/* ---- Memory ---- */

static struct weir_arena *host_scratch(const struct weir_host *h)
{
    return &inst_of(h)->scratch;
}

static struct weir_arena *host_arena_new(const struct weir_host *h)
{
    (void)h;
    return wr_alloc(sizeof(struct weir_arena));
}

static void host_arena_clear(struct weir_arena *a)
{
    wr_arena_clear(a, 1024 * 1024);
}

static void host_arena_free(struct weir_arena *take_a)
{
    if (take_a == NULL)
        return;
    wr_arena_done(take_a);
    wr_free(take_a);
}

/* ---- Sources ---- */

static struct weir_stream *host_stream_open(const struct weir_host *h,
                                            const struct weir_origin *origin, void *user)
{
    return wr_stream_open(wr_lane_acks(inst_of(h)->lane), origin, user);
}

static struct weir_request *host_request_begin(const struct weir_host *h, void *user)
{
    return wr_request_begin(wr_lane_acks(inst_of(h)->lane), user);
}

/* ---- Sinks ---- */

static void host_complete(const struct weir_host *h, uint64_t ticket, uint32_t i,
                          const struct weir_result *result)
{
    wr_shard_complete(inst_of(h)->shard, ticket, i, result);
}

/* ---- Templates and conditions ---- */

static struct weir_str host_template_render_with(const struct weir_host *h,
                                                 const struct weir_template *t,
                                                 struct weir_batch *b, struct weir_event *ev,
                                                 struct weir_arena *a, enum weir_escape how,
                                                 struct weir_error *err)
{
    uint32_t needs = wr_template_needs(t);
    struct wr_batch *batch = wr_batch_of(b);
    if ((needs & WEIR_NEEDS_VALUE) != 0 && wr_event_value(batch, ev, err) == NULL)
        return weir_str_n(NULL, 0);
    if ((needs & WEIR_NEEDS_ID) != 0)
        (void)wr_event_id(batch, ev, clock_of(h));
    return wr_template_render_with(t, ev, a, how, err);
}

static struct weir_str host_template_render(const struct weir_host *h, const struct weir_template *t,
                                            struct weir_batch *b, struct weir_event *ev,
                                            struct weir_arena *a, struct weir_error *err)
{
    return host_template_render_with(h, t, b, ev, a, WEIR_ESCAPE_NONE, err);
}

static const struct weir_value *host_template_value(const struct weir_host *h,
                                                    const struct weir_template *t,
                                                    struct weir_batch *b, struct weir_event *ev)
{
    (void)h;
    if ((wr_template_needs(t) & WEIR_NEEDS_VALUE) != 0 &&
        wr_event_value(wr_batch_of(b), ev, NULL) == NULL)
        return NULL;
    return wr_template_value(t, ev);
}

static void host_condition_eval(const struct weir_host *h, const struct weir_condition *c,
                                struct weir_batch *b, uint8_t *ret_true)
{
    const struct wr_instance *inst = inst_of(h);
    const struct weir_condition_service *service =
        inst->plan->condition_service;
    service->eval(inst->conditions, c->index, b, ret_true);
}

/* ---- Shared state ---- */

static void *host_shared(const struct weir_host *h,
                         void *(*create)(const struct weir_host *h, const void *config,
                                         struct weir_error *err),
                         void (*destroy)(void *take_shared), struct weir_error *err)
{
    struct wr_unit *unit = inst_of(h)->unit;
    pthread_mutex_lock(&unit->shared.mutex);
    if (unit->shared.object == NULL) {
        unit->shared.object = create(h, unit->comp->config, err);
        unit->shared.destroy = destroy;
    }
    void *object = unit->shared.object;
    pthread_mutex_unlock(&unit->shared.mutex);
    return object;
}

/* ---- Extensions ---- */

static bool host_place(const struct weir_host *h, const char *option, int64_t offset,
                       struct weir_place *ret)
{
    const struct wr_component *comp = h->priv != NULL ? inst_of(h)->unit->comp : NULL;
    if (comp == NULL || comp->node == NULL)
        return false;
    struct wr_pos pos = wr_node_resolve(comp->node, comp->pos, option, offset);
    *ret = (struct weir_place){inst_of(h)->unit->pipeline->plan->file, pos.line, pos.col};
    return pos.line != 0;
}

static void host_memory_report(const struct weir_host *h, const char *user, size_t bytes)
{
    struct wr_instance *inst = inst_of(h);
    if (inst->memory_use == 0)
        inst->memory_use = wr_budget_use(user);
    wr_budget_charge(inst->memory_use, (int64_t)bytes - (int64_t)inst->memory_bytes);
    inst->memory_bytes = bytes;
}

static bool host_memory_is_short(const struct weir_host *h)
{
    return wr_budget_short(wr_now(clock_of(h)));
}

static int64_t host_cpu(const struct weir_host *h)
{
    return wr_clock_cpu(clock_of(h));
}

static void *host_before(const struct weir_host *h)
{
    struct wr_unit *before = inst_of(h)->unit->before;
    if (before == NULL)
        return NULL;
    pthread_mutex_lock(&before->shared.mutex);
    void *object = before->shared.object;
    pthread_mutex_unlock(&before->shared.mutex);
    return object;
}

static void host_ready(const struct weir_host *h, const char *reason)
{
    wr_unit_unready(inst_of(h)->unit, h->index, reason);
}

static const void *host_extension(const struct weir_host *h, const char *name)
{
    static const struct weir_place_extension place = {sizeof(place), host_place};
    static const struct weir_memory_extension memory = {sizeof(memory), host_memory_report,
                                                        host_memory_is_short};
    static const struct weir_cpu_extension cpu = {sizeof(cpu), host_cpu};
    static const struct weir_ready_extension ready = {sizeof(ready), host_ready};
    static const struct weir_lease_extension lease = {sizeof(lease), wr_stream_lease};
    static const struct weir_before_extension before = {sizeof(before), host_before};
    static const struct {
        const char *name;
        const void *table;
        bool of_instance; /* not while a file is checked */
    } rows[] = {{WEIR_PLACE_EXTENSION, &place, false},
                {WEIR_CPU_EXTENSION, &cpu, false},
                {WEIR_READY_EXTENSION, &ready, true},
                {WEIR_LEASE_EXTENSION, &lease, false},
                {WEIR_BEFORE_EXTENSION, &before, true},
                {WEIR_MEMORY_EXTENSION, &memory, true}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(name, rows[i].name) == 0)
            return rows[i].of_instance && h->priv == NULL ? NULL : rows[i].table;
    return NULL;
}

/* ---- The table ---- */

static const struct weir_host control_table = {
    .size = sizeof(struct weir_host),
    .abi_minor = WEIR_ABI_MINOR,
    .now = host_now,
    .wall = host_wall,
    .random = host_random,
    .log = host_log,
    .log_enabled = host_log_enabled,
    .error = wr_error,
    .alloc = wr_alloc,
    .realloc = wr_realloc,
    .free = wr_free,
    .arena_alloc = wr_arena_alloc,
    .arena_copy = wr_arena_copy,
    .arena_printf = wr_arena_printf,
    .arena_new = host_arena_new,
    .arena_clear = host_arena_clear,
    .arena_free = host_arena_free,
    .value_parse = wr_value_parse,
    .value_write = wr_value_write,
    .value_type = wr_value_type,
    .value_bool = wr_value_bool,
    .value_int = wr_value_int,
    .value_uint = wr_value_uint,
    .value_real = wr_value_real,
    .value_str = wr_value_str,
    .value_count = wr_value_count,
    .value_get = wr_value_get,
    .value_at = wr_value_at,
    .value_iter = wr_value_iter,
    .value_next = wr_value_next,
    .value_equal = wr_value_equal,
    .make_null = wr_make_null,
    .make_bool = wr_make_bool,
    .make_int = wr_make_int,
    .make_uint = wr_make_uint,
    .make_real = wr_make_real,
    .make_str = wr_make_str,
    .make_array = wr_make_array,
    .make_object = wr_make_object,
    .make_copy = wr_make_copy,
    .object_set = wr_object_set,
    .object_remove = wr_object_remove,
    .object_rename = wr_object_rename,
    .array_append = wr_array_append,
    .array_set = wr_array_set,
    .array_remove = wr_array_remove,
    .event_header = wr_event_header,
    .template_is_literal = wr_template_is_literal,
    .extension = host_extension,
    .template_prefix = wr_template_prefix,
    .template_compile = wr_template_compile,
};

const struct weir_host *wr_host_control(void)
{
    return &control_table;
}

void wr_host_init(struct wr_instance *inst)
{
    struct weir_host *h = &inst->host;
    uint32_t index = h->index, count = h->count;
    *h = control_table;
    h->priv = inst;
    h->pipeline = inst->unit->pipeline->name;
    h->component = inst->unit->id;
    h->index = index;
    h->count = count;
    const struct wr_component *comp = inst->unit->comp;
    if (comp->type->kind == WEIR_SOURCE && comp->opt.source.codec == WR_CODEC_RAW)
        h->flags = WEIR_HOST_RAW;
    h->counter = host_counter;
    h->gauge = host_gauge;
    h->histogram = host_histogram;
    h->metric_add = wr_metric_add;
    h->metric_set = wr_metric_set;
    h->metric_observe = wr_metric_observe;
    h->scratch = host_scratch;
    h->event_id = wr_host_event_id;
    h->event_value = wr_host_event_value;
    h->event_edit = wr_host_event_edit;
    h->event_set_value = wr_host_event_set_value;
    h->event_set_payload = wr_host_event_set_payload;
    h->event_payload = wr_host_event_payload;
    h->event_set_header = wr_host_event_set_header;
    h->event_set_key = wr_host_event_set_key;
    h->event_add = wr_event_add;
    h->batch_truncate = wr_batch_truncate;
    h->batch_attach = wr_batch_attach;
    h->stream_open = host_stream_open;
    h->stream_pending = wr_stream_pending;
    h->stream_close = wr_stream_close;
    h->request_begin = host_request_begin;
    h->request_seal = wr_request_seal;
    h->wait = wr_host_wait;
    h->event_drop = wr_host_event_drop;
    h->event_fail = wr_host_event_fail;
    h->event_send = wr_host_event_send;
    h->event_derive = wr_host_event_derive;
    h->event_join = wr_host_event_join;
    h->event_hold = wr_host_event_hold;
    h->held_release = wr_host_held_release;
    h->held_drop = wr_host_held_drop;
    h->held_event = wr_host_held_event;
    h->event_watch = wr_host_event_watch;
    h->wake = wr_host_wake;
    h->complete = host_complete;
    h->template_render = host_template_render;
    h->template_render_with = host_template_render_with;
    h->template_value = host_template_value;
    h->condition_eval = host_condition_eval;
    h->shared = host_shared;
    h->event_filter = wr_host_event_filter;
    h->event_pass = wr_host_event_pass;
}
