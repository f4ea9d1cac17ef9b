/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed shares of memory; see shares.h. A share is one option of one component:
 *
 *      value x instances x what is really taken of it (the option's percent)
 *
 * A source has as many instances as lanes, a transform one for each lane that reaches it, a sink one for
 * each shard.
 */
#include <engine/shares.h>

#include <base/mem.h>
#include <base/str.h>
#include <engine/host.h>
#include <engine/reload_impl.h>
#include <model/options.h>
#include <model/units.h>

#include <stdarg.h>
#include <unistd.h>

#define PROGRAM_BYTES (UINT64_C(16) << 20) /* code, libraries, stacks, plans */
#define FACTOR_ONE 1024
#define FACTOR_MIN (FACTOR_ONE / 16)
#define ROUND_TO (INT64_C(64) << 10)

struct share {
    const struct wr_plan *plan;
    const struct wr_component *comp;
    struct weir_str path; /* "sources.in.prefetch" */
    struct wr_pos pos;
    int64_t *value;
    int64_t before, least;
    uint64_t times; /* instances in percent */
    bool given, along;
    bool running; /* given, by a plan whose diagnostics are gone */
};

struct wr_shares {
    struct weir_arena arena;
    struct share *items;
    uint32_t n, cap;
    bool running; /* of what is added */
};

static uint64_t bytes_of(const struct share *s)
{
    return s->along ? 0 : (uint64_t)*s->value / 100 * s->times;
}

/* ---- How many instances ---- */

uint32_t wr_lanes_of(const struct wr_component *source)
{
    int64_t n = source->opt.source.lanes;
    if (n > 0)
        return (uint32_t)n;
    uint32_t advised =
        source->type->lanes != NULL ? source->type->lanes(wr_host_control(), source->config) : 1;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t cap = cores > 0 ? (uint32_t)cores : 1;
    return advised == 0 ? 1 : advised < cap ? advised : cap;
}

static void reach(const struct wr_plan *plan, uint32_t from, uint8_t *seen)
{
    const struct wr_component *comp = &plan->components[from];
    seen[from] = 1;
    for (uint32_t i = 0; i < comp->n_outs; i++)
        if (!seen[comp->outs[i].to])
            reach(plan, comp->outs[i].to, seen);
}

/* By component. */
static uint32_t *count_instances(struct weir_arena *a, const struct wr_plan *plan)
{
    uint32_t *counts = wr_arena_xalloc(a, (plan->n_components + 1) * sizeof(*counts));
    uint8_t *seen = wr_arena_xalloc(a, plan->n_components + 1);
    for (uint32_t i = 0; i < plan->n_components; i++) {
        const struct wr_component *comp = &plan->components[i];
        if (comp->type->kind == WEIR_SINK)
            counts[i] = (comp->traits & WEIR_TRAIT_SHARED) != 0
                            ? 1 : (uint32_t)comp->opt.sink.concurrency;
        if (comp->type->kind != WEIR_SOURCE)
            continue;
        uint32_t lanes = wr_lanes_of(comp);
        memset(seen, 0, plan->n_components);
        reach(plan, i, seen);
        for (uint32_t k = 0; k < plan->n_components; k++)
            if (seen[k] && plan->components[k].type->kind != WEIR_SINK)
                counts[k] += lanes;
    }
    return counts;
}

/* ---- Collecting ---- */

static const char *section(enum weir_kind kind)
{
    return kind == WEIR_SOURCE ? "sources" : kind == WEIR_TRANSFORM ? "transforms" : "sinks";
}

static struct share *add(struct wr_shares *s, const struct wr_plan *plan,
                         const struct wr_component *comp, const char *path)
{
    if (s->n == s->cap) {
        s->cap = s->cap != 0 ? s->cap * 2 : 16;
        s->items = wr_xrealloc(s->items, s->cap * sizeof(*s->items));
    }
    struct share *share = &s->items[s->n++];
    *share = (struct share){.plan = plan, .comp = comp};
    share->path = wr_arena_xprintf(&s->arena, "%s.%.*s.%s", section(comp->type->kind),
                                   WR_STR(comp->id), path);
    if (s->running)
        return share;
    share->pos = wr_node_resolve(comp->node, comp->pos, path, -1);
    /* The text that knows what of it is secret is that of the diagnostics, to which maps point. */
    share->pos.text = comp->node->pos.text;
    return share;
}

static void set_value(struct share *share, void *place, int64_t def_value, int64_t min)
{
    share->value = place;
    share->before = *share->value;
    share->least = def_value / 16 > min ? def_value / 16 : min;
}

static void add_option(struct wr_shares *s, const struct wr_plan *plan,
                       const struct wr_component *comp, uint32_t instances,
                       const struct weir_option *o, const char *path, const struct wr_node *map,
                       void *config, const void *kept)
{
    struct share *share = add(s, plan, comp, path);
    if (kept != NULL)
        memcpy((char *)config + o->offset, (const char *)kept + o->offset, sizeof(int64_t));
    set_value(share, (char *)config + o->offset, *(int64_t *)(void *)((char *)config + o->offset),
              o->min);
    share->along = (o->flags & WEIR_OPT_MEMORY) == 0;
    share->given = kept != NULL || wr_node_field(map, weir_cstr(o->name)) != NULL;
    share->times = (uint64_t)((o->flags & WEIR_OPT_SHARED) != 0 ? 1 : instances) *
                   (o->percent != 0 ? o->percent : 100);
}

/* The options of a table and of the tables in it. `map` is NULL where the file has none; `kept` is the table
 * of a running instance that goes on, else NULL. */
static void add_table(struct wr_shares *s, const struct wr_plan *plan,
                      const struct wr_component *comp, uint32_t instances,
                      const struct weir_options *options, const char *above,
                      const struct wr_node *map, void *config, const void *kept)
{
    for (uint32_t i = 0; i < options->n; i++) {
        struct weir_option o = wr_option_at(options, i);
        struct weir_str path = wr_arena_xprintf(&s->arena, "%s%s", above, o.name);
        if (o.type == WEIR_OPT_TABLE) {
            const struct wr_field *f = wr_node_field(map, weir_cstr(o.name));
            struct weir_options fields = wr_option_fields(&o, options->stride);
            struct weir_str below = wr_arena_xprintf(&s->arena, "%s.", path.ptr);
            add_table(s, plan, comp, instances, &fields, below.ptr, f != NULL ? f->value : NULL,
                      (char *)config + o.offset,
                      kept != NULL ? (const char *)kept + o.offset : NULL);
        } else if (o.type == WEIR_OPT_SIZE && (o.flags & (WEIR_OPT_MEMORY | WEIR_OPT_ALONG)) != 0) {
            add_option(s, plan, comp, instances, &o, path.ptr, map, config, kept);
        }
    }
}

/* Of a sink's buffer: one in memory, or what one on disk keeps in memory, which no file gives. */
static void add_buffer(struct wr_shares *s, const struct wr_plan *plan, struct wr_component *comp,
                       const struct wr_component *before)
{
    if (comp->opt.sink.buffer.type == WR_BUFFER_DISK) {
        struct share *share = add(s, plan, comp, "buffer");
        share->given = before != NULL && wr_buffer_same_folder(before, comp);
        if (share->given)
            comp->opt.sink.buffer.memory = before->opt.sink.buffer.memory;
        set_value(share, &comp->opt.sink.buffer.memory, comp->opt.sink.buffer.memory, 1);
        share->times = 100;
        return;
    }
    const struct wr_field *f = wr_node_field(comp->node, weir_cstr("buffer"));
    struct share *share = add(s, plan, comp, "buffer.size");
    set_value(share, &comp->opt.sink.buffer.size, comp->opt.sink.buffer.size, 1);
    share->given = f != NULL && wr_node_field(f->value, weir_cstr("size")) != NULL;
    share->times = 100;
}

static void add_plan(struct wr_shares *s, const struct wr_plan *plan, const struct wr_plan *old)
{
    const uint32_t *instances = count_instances(&s->arena, plan);
    for (uint32_t i = 0; i < plan->n_components; i++) {
        struct wr_component *comp = &plan->components[i];
        uint32_t was = old != NULL ? wr_component_find(old, comp) : WR_NOWHERE;
        const struct wr_component *before = was != WR_NOWHERE ? &old->components[was] : NULL;
        bool stays = before != NULL && wr_component_same(before, comp);
        add_table(s, plan, comp, instances[i], &comp->type->options, "", comp->node, comp->config,
                  stays ? before->config : NULL);
        if (comp->type->kind == WEIR_SINK)
            add_buffer(s, plan, comp, before);
    }
}

struct wr_shares *wr_shares_new(struct wr_plan *const *plans, uint32_t n)
{
    struct wr_shares *s = wr_xalloc(sizeof(*s));
    wr_arena_init(&s->arena, 4096);
    for (uint32_t i = 0; i < n; i++)
        if (plans[i] != NULL)
            add_plan(s, plans[i], NULL);
    return s;
}

struct wr_shares *wr_shares_new_for(struct wr_plan *plan, const struct wr_plan *old)
{
    struct wr_shares *s = wr_shares_new(NULL, 0);
    add_plan(s, plan, old);
    return s;
}

void wr_shares_add_running(struct wr_shares *s, const struct wr_plan *plan)
{
    uint32_t i = s->n;
    s->running = true;
    add_plan(s, plan, NULL);
    s->running = false;
    for (; i < s->n; i++)
        s->items[i].given = s->items[i].running = true;
}

void wr_shares_free(struct wr_shares *take_s)
{
    if (take_s == NULL)
        return;
    wr_arena_done(&take_s->arena);
    wr_free(take_s->items);
    wr_free(take_s);
}

/* ---- Fitting ---- */

uint64_t wr_shares_total(const struct wr_shares *s)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < s->n; i++)
        total += bytes_of(&s->items[i]);
    return total;
}

uint64_t wr_shares_room(uint64_t limit)
{
    uint64_t taken = PROGRAM_BYTES + limit / 8;
    return limit > taken ? limit - taken : 0;
}

static void lower(struct share *share, int64_t factor)
{
    int64_t v = share->before / FACTOR_ONE * factor;
    v -= v % ROUND_TO;
    v = v < share->least ? share->least : v;
    *share->value = v < share->before ? v : share->before;
}

/* A component's other sizes keep their relation to those that were lowered. */
static bool has_lowered(const struct wr_shares *s, const struct wr_component *comp)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->items[i].comp == comp && !s->items[i].along && *s->items[i].value < s->items[i].before)
            return true;
    return false;
}

static void lower_all(struct wr_shares *s, int64_t factor)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (!s->items[i].given && !s->items[i].along)
            lower(&s->items[i], factor);
    for (uint32_t i = 0; i < s->n; i++)
        if (!s->items[i].given && s->items[i].along)
            lower(&s->items[i], has_lowered(s, s->items[i].comp) ? factor : FACTOR_ONE);
}

void wr_shares_restore(struct wr_shares *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        *s->items[i].value = s->items[i].before;
}

uint32_t wr_shares_lowered(const struct wr_shares *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        n += *s->items[i].value < s->items[i].before;
    return n;
}

/* ---- What is said ---- */

static void print_share(struct wr_buf *out, const struct share *share)
{
    wr_buf_printf(out, "%.*s: %.*s ", WR_STR(share->plan->name), WR_STR(share->path));
    if (!share->along && share->times != 100)
        wr_buf_printf(out, "%.4g x ", (double)share->times / 100);
    wr_write_size(out, share->before);
}

void wr_shares_table(const struct wr_shares *s, struct wr_buf *out)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct share *share = &s->items[i];
        if (*share->value >= share->before)
            continue;
        wr_buf_text(out, out->len != 0 ? "; " : "");
        print_share(out, share);
        wr_buf_text(out, " -> ");
        wr_write_size(out, *share->value);
    }
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* Every share that the files give, then how much the defaults take at the least. */
static void list_shares(const struct wr_shares *s, struct wr_buf *out)
{
    uint64_t defaults = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct share *share = &s->items[i];
        if (!share->given)
            defaults += bytes_of(share);
        if (!share->given || share->along)
            continue;
        print_share(out, share);
        wr_buf_printf(out, " = %.1f MiB; ", mib(bytes_of(share)));
    }
    wr_buf_printf(out, "options with their defaults, lowered as far as they can be: %.1f MiB",
                  mib(defaults));
}

/* Where to point: the largest share that a file gives, else the largest. */
static const struct share *largest(const struct wr_shares *s)
{
    const struct share *best = &s->items[0];
    for (uint32_t i = 1; i < s->n; i++) {
        const struct share *other = &s->items[i];
        if (other->running)
            continue;
        bool more = bytes_of(other) > bytes_of(best);
        if (other->given != best->given ? other->given && !other->along : more)
            best = other;
    }
    return best;
}

static void report_excess(struct wr_shares *s, uint64_t limit, struct wr_diags *d)
{
    const struct share *at = largest(s);
    struct wr_buf hint = {0};
    wr_buf_text(&hint, "lower what is given, or raise the limit (--memory, or the container's): ");
    list_shares(s, &hint);
    wr_diags_add(d, &(struct wr_diag){
        .code = "memory-budget",
        .pos = at->pos,
        .path = at->path,
        .message = wr_arena_xprintf(&s->arena,
                                    "the components may take %.1f MiB of memory, and %.1f MiB are "
                                    "there for them: the limit of %.1f MiB less what the program "
                                    "itself needs",
                                    mib(wr_shares_total(s)), mib(wr_shares_room(limit)), mib(limit)),
        .hint = wr_buf_view(&hint)});
    wr_buf_done(&hint);
}

/* ---- Checking what was lowered ---- */

struct check {
    struct wr_shares *s;
    const struct wr_component *comp;
    struct wr_diags *d;
    uint32_t n;
};

WEIR_PRINTF(4, 5)
static void report_error(const struct weir_report *r, const char *path, int64_t offset,
                         const char *fmt, ...)
{
    struct check *c = r->priv;
    struct wr_buf text = {0};
    va_list ap;
    wr_buf_text(&text, "lowered to fit into the memory: ");
    va_start(ap, fmt);
    wr_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    struct wr_pos pos = wr_node_resolve(c->comp->node, c->comp->pos, path, offset);
    pos.text = c->comp->node->pos.text;
    wr_diags_add(c->d, &(struct wr_diag){
        .code = "memory-budget",
        .pos = pos,
        .path = wr_arena_xprintf(&c->s->arena, "%s.%.*s.%s", section(c->comp->type->kind),
                                 WR_STR(c->comp->id), path),
        .message = wr_buf_view(&text),
        .hint = weir_cstr("give the option a size, or raise the limit of memory")});
    wr_buf_done(&text);
    c->n++;
}

WEIR_PRINTF(4, 5)
static void report_warning(const struct weir_report *r, const char *path, int64_t offset,
                           const char *fmt, ...)
{
    (void)r, (void)path, (void)offset, (void)fmt; /* said when the file was read */
}

static bool check_again(struct wr_shares *s, const struct wr_plan *plan,
                        const struct wr_component *comp, struct wr_diags *d)
{
    struct check c = {s, comp, d, 0};
    struct weir_host host = *wr_host_control();
    struct weir_report report = {sizeof(report), report_error, report_warning, &c, &host, NULL};
    host.pipeline = plan->name;
    host.component = comp->id;
    if (comp->type->check != NULL)
        comp->type->check(comp->config, &report);
    return c.n == 0;
}

bool wr_shares_fit(struct wr_shares *s, uint64_t limit, struct wr_diags *d)
{
    uint64_t room = wr_shares_room(limit);
    int64_t low = FACTOR_MIN, high = FACTOR_ONE;
    if (wr_shares_total(s) <= room)
        return true;
    lower_all(s, low);
    if (wr_shares_total(s) > room) {
        report_excess(s, limit, d);
        return false;
    }
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        lower_all(s, middle);
        *(wr_shares_total(s) <= room ? &low : &high) = middle;
    }
    lower_all(s, low);
    bool ok = true;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct share *share = &s->items[i];
        bool first = i == 0 || s->items[i - 1].comp != share->comp;
        if (first && has_lowered(s, share->comp))
            ok = check_again(s, share->plan, share->comp, d) && ok;
    }
    return ok;
}
