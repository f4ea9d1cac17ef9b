/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan of a replay: the pipeline's own without its sources, and in front of it what reads dead
 * letters and opens them. Sources of type file or kafka are configured as if a pipeline file had
 * named them; see replay.h.
 */
#include <engine/replay.h>

#include <base/mem.h>
#include <base/str.h>
#include <engine/plan_private.h>

#include <unistd.h>

#define MAX_LINE "256MiB" /* of a file; an envelope is no longer */
#define ROOM_MAX 256
#define ROOMS_A_SECOND 20
#define NOWHERE UINT32_MAX

struct builder {
    struct wr_planner p; /* of the sources */
    const struct wr_plan *of;
    const struct wr_replay_from *from;
    struct wr_replay *r;
    struct wr_plan *plan;
    struct wr_pos pos;  /* of what no file says */
    uint32_t n_before;  /* sources of the pipeline */
    uint32_t n_sources; /* of the replay */
    uint32_t *place;    /* where the pipeline's components stand now */
    uint32_t last;      /* behind the last of them */
};

/* Few at a time where they are to come slowly. */
static uint32_t room_of(const struct wr_replay_options *opt)
{
    int64_t room = opt->rate / ROOMS_A_SECOND;
    return opt->rate == 0 || room > ROOM_MAX ? 0 : room < 1 ? 1 : (uint32_t)room;
}

/* ---- Nodes, as if they had been read ---- */

static struct wr_node *node(struct builder *b, enum wr_node_kind kind)
{
    struct wr_node *n = wr_arena_xalloc(b->p.arena, sizeof(*n));
    n->kind = kind;
    n->style = WR_STYLE_DOUBLE;
    n->pos = b->pos;
    return n;
}

static struct wr_node *scalar(struct builder *b, struct weir_str text)
{
    struct wr_node *n = node(b, WR_NODE_SCALAR);
    n->text = n->raw = wr_arena_xcopy(b->p.arena, text);
    return n;
}

static struct wr_node *map(struct builder *b, uint32_t cap)
{
    struct wr_node *n = node(b, WR_NODE_MAP);
    n->fields = wr_arena_xalloc(b->p.arena, cap * sizeof(*n->fields));
    return n;
}

/* Within the map's cap. */
static void put(struct builder *b, struct wr_node *m, const char *key, struct wr_node *value)
{
    m->fields[m->n++] = (struct wr_field){weir_cstr(key), b->pos, value};
}

static void put_text(struct builder *b, struct wr_node *m, const char *key, const char *text)
{
    put(b, m, key, scalar(b, weir_cstr(text)));
}

static void put_plain(struct builder *b, struct wr_node *m, const char *key, const char *text)
{
    struct wr_node *n = scalar(b, weir_cstr(text));
    n->style = WR_STYLE_PLAIN;
    put(b, m, key, n);
}

/* A copy whose positions are in `text`: what is secret in it can be masked there. */
static struct wr_node *copy(struct builder *b, const struct wr_node *n, const struct wr_text *text)
{
    struct weir_arena *a = b->p.arena;
    struct wr_node *to = wr_arena_xalloc(a, sizeof(*to));
    *to = *n;
    to->pos.text = text;
    to->next_scalar = NULL;
    if (n->kind == WR_NODE_MAP)
        to->fields = wr_arena_xalloc(a, (n->n + 1) * sizeof(*to->fields));
    if (n->kind == WR_NODE_LIST)
        to->items = wr_arena_xalloc(a, (n->n + 1) * sizeof(struct wr_node *));
    for (uint32_t i = 0; n->kind == WR_NODE_MAP && i < n->n; i++) {
        to->fields[i] = n->fields[i];
        to->fields[i].pos.text = text;
        to->fields[i].value = copy(b, n->fields[i].value, text);
    }
    for (uint32_t i = 0; n->kind == WR_NODE_LIST && i < n->n; i++)
        to->items[i] = copy(b, n->items[i], text);
    return to;
}

static void refuse(struct builder *b, struct weir_str message, const char *hint)
{
    wr_plan_error(&b->p, "replay", b->pos, NULL,
                  &(struct wr_diag){.message = message, .hint = weir_cstr(hint)});
}

/* ---- Files ---- */

/* What names the pipeline in a file's name: other bytes than letters and digits as %XX. */
static void add_file_name(struct wr_buf *out, struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '-';
        if (plain)
            wr_buf_add(out, &c, 1);
        else
            wr_buf_printf(out, "%%%02x", (unsigned char)c);
    }
}

static size_t folder_len(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash != NULL ? (size_t)(slash + 1 - file) : 0;
}

static bool same_folder(const char *a, const char *b)
{
    size_t n = folder_len(a);
    return n == folder_len(b) && memcmp(a, b, n) == 0;
}

/* One state file a folder, for all files in it: `weir replay` may be given others the next time. */
static void put_state(struct builder *b, struct wr_node *m, const char *file)
{
    struct wr_buf path = {0};
    wr_buf_add(&path, file, folder_len(file));
    wr_buf_text(&path, ".weir-replay-");
    add_file_name(&path, b->of->name);
    wr_buf_text(&path, ".state");
    /* What only looks leaves nothing behind. */
    bool dry_run = wr_replay_options(b->r)->dry_run;
    if (!dry_run || (!b->from->again && access(path.ptr, F_OK) == 0))
        put_text(b, m, "state", path.ptr);
    if (!dry_run && b->from->again)
        put_plain(b, m, "start_over", "true");
    wr_buf_done(&path);
}

/* The source of all files that are in the folder of the first. */
static struct wr_node *file_source(struct builder *b, const char *const *first)
{
    struct wr_node *m = map(b, 10), *paths = node(b, WR_NODE_LIST);
    uint32_t n = 0;
    while (first[n] != NULL)
        n++;
    paths->items = wr_arena_xalloc(b->p.arena, (n + 1) * sizeof(struct wr_node *));
    for (uint32_t i = 0; i < n; i++)
        if (same_folder(first[0], first[i]))
            paths->items[paths->n++] = scalar(b, weir_cstr(first[i]));
    put_text(b, m, "type", "file");
    put(b, m, "path", paths);
    put_plain(b, m, "codec", "raw");
    put_plain(b, m, "lanes", "1");
    put_plain(b, m, "max_line", MAX_LINE);
    put_plain(b, m, "grown", "leave");
    put_text(b, m, "line_header", WR_REPLAY_LINE_HEADER);
    if (strcmp(first[0], "-") != 0)
        put_state(b, m, first[0]);
    return m;
}

/* ---- Kafka ---- */

static bool has_option(const struct weir_options *o, struct weir_str name)
{
    for (uint32_t i = 0; i < o->n; i++) {
        struct weir_option opt = wr_option_at(o, i);
        if (wr_str_is(name, opt.name))
            return true;
    }
    return false;
}

static bool writes_topic(const struct wr_component *c, const char *topic)
{
    const struct wr_field *f = c->node != NULL ? wr_node_field(c->node, weir_cstr("topic")) : NULL;
    return f != NULL && f->value->kind == WR_NODE_SCALAR && wr_str_is(f->value->text, topic);
}

/* The dead-letter sink whose settings are taken: the one that writes to that topic, else the only
 * one of the type. NULL where there is none, or several. */
static const struct wr_component *dead_letter_sink(const struct builder *b)
{
    const struct wr_component *found = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->of->n_components; i++) {
        const struct wr_component *c = &b->of->components[i];
        if (!c->is_dead_letter || strcmp(c->type->name, "kafka") != 0)
            continue;
        if (writes_topic(c, b->from->topic))
            return c;
        found = c;
        n++;
    }
    return n == 1 ? found : NULL;
}

/* Options that both types have are those of the connection. */
static void put_connection(struct builder *b, struct wr_node *m, const struct wr_component *sink,
                           const struct weir_type *source)
{
    const struct wr_text *own = sink->pos.text;
    const struct wr_text *text = wr_diags_text(b->p.diags, own->name, own->text);
    for (uint32_t i = 0; i < sink->node->n; i++) {
        struct wr_field f = sink->node->fields[i];
        bool brokers = b->from->brokers != NULL && wr_str_is(f.key, "brokers");
        if (brokers || !has_option(&source->options, f.key) ||
            !has_option(&sink->type->options, f.key))
            continue;
        f.pos.text = text;
        f.value = copy(b, f.value, text);
        m->fields[m->n++] = f;
    }
}

static struct wr_node *kafka_source(struct builder *b)
{
    const struct weir_type *type =
        wr_loader_type(b->p.loader, WEIR_SOURCE, weir_cstr("kafka"), NULL);
    const struct wr_component *sink = dead_letter_sink(b);
    if (sink == NULL && b->from->brokers == NULL) {
        refuse(b,
               weir_cstr("which brokers hold the topic? No dead-letter sink of the pipeline "
                         "says so"),
               "say --brokers HOST:PORT");
        return NULL;
    }
    struct wr_node *m = map(b, 8 + (sink != NULL ? sink->node->n : 0));
    put_text(b, m, "type", "kafka");
    put_text(b, m, "topics", b->from->topic);
    /* The group is set back by what begins anew; where nothing is to be changed, another one is
     * read. */
    bool look = b->from->again && wr_replay_options(b->r)->dry_run;
    put(b, m, "group",
        scalar(b, wr_arena_xprintf(b->p.arena, "weir-replay-%s%.*s", look ? "dry-run-" : "",
                                   WR_STR(b->of->name))));
    put_plain(b, m, "codec", "raw");
    put_plain(b, m, "lanes", "1");
    put_plain(b, m, "stop_at_end", "true");
    if (b->from->again && !look)
        put_plain(b, m, "start_over", "true");
    if (b->from->brokers != NULL)
        put_text(b, m, "brokers", b->from->brokers);
    if (sink != NULL && type != NULL)
        put_connection(b, m, sink, type);
    return m;
}

/* ---- Components of our own ---- */

static struct wr_component *add_component(struct builder *b, enum weir_kind kind, struct wr_node *m)
{
    struct wr_planner *p = &b->p;
    struct wr_draft *d = &p->drafts[p->n];
    struct wr_field *f = wr_arena_xalloc(p->arena, sizeof(*f));
    *f = (struct wr_field){wr_arena_xprintf(p->arena, "replay.%u", p->n), b->pos, m};
    d->kind = kind;
    d->field = f;
    d->path = (struct wr_path){NULL, f->key, -1};
    p->n++;
    wr_plan_component(p, d);
    d->c.id = f->key;
    d->c.pos = b->pos;
    d->c.node = m;
    d->c.dead_letter = -1;
    return &d->c;
}

static void add_source(struct builder *b, struct wr_node *m)
{
    struct wr_component *c = add_component(b, WEIR_SOURCE, m);
    c->opt.source = b->p.drafts[b->n_sources++].common.opt.source;
    c->opt.source.room = room_of(wr_replay_options(b->r));
}

static bool is_first_of_folder(const char *const *files, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (same_folder(files[k], files[i]))
            return false;
    return true;
}

static void add_sources(struct builder *b)
{
    const char *const *files = b->from->files;
    for (uint32_t i = 0; files != NULL && files[i] != NULL; i++)
        if (is_first_of_folder(files, i))
            add_source(b, file_source(b, files + i));
    struct wr_node *m = files == NULL ? kafka_source(b) : NULL;
    if (m != NULL)
        add_source(b, m);
}

/* What fails again goes to a file in the place of the pipeline's own dead-letter sinks. */
static void add_dead_letter(struct builder *b)
{
    struct wr_node *m = map(b, 2);
    put_text(b, m, "type", "file");
    put_text(b, m, "path", b->from->dead_letter);
    struct wr_component *c = add_component(b, WEIR_SINK, m);
    c->opt.sink = b->p.drafts[b->n_sources].common.opt.sink;
    c->opt.sink.on_reject = WR_ON_STOP; /* nobody is behind it */
    c->is_dead_letter = true;
}

static bool add_components(struct builder *b)
{
    const char *const *files = b->from->files;
    uint64_t before = wr_diags_errors_seen(b->p.diags);
    uint32_t n = 2;
    for (uint32_t i = 0; files != NULL && files[i] != NULL; i++)
        n++;
    b->p.drafts = wr_arena_xalloc(b->p.arena, n * sizeof(*b->p.drafts));
    add_sources(b);
    if (b->from->dead_letter != NULL && wr_diags_errors_seen(b->p.diags) == before)
        add_dead_letter(b);
    return wr_diags_errors_seen(b->p.diags) == before;
}

/* ---- The plan ---- */

/* Sources, the transform that opens envelopes, the pipeline's own components, the dead letter of
 * ours. */
static void place_components(struct builder *b)
{
    uint32_t n = b->n_sources + 1;
    b->place = wr_arena_xalloc(b->p.arena, (b->of->n_components + 1) * sizeof(*b->place));
    for (uint32_t i = b->n_before; i < b->of->n_components; i++) {
        const struct wr_component *c = &b->of->components[i];
        bool replaced = b->from->dead_letter != NULL && c->is_dead_letter && c->n_ins == 0;
        b->place[i] = replaced ? NOWHERE : n++;
    }
    b->last = n;
}

static void take_component(struct builder *b, uint32_t i)
{
    if (b->place[i] == NOWHERE)
        return;
    struct wr_component *c = &b->plan->components[b->place[i]];
    *c = b->of->components[i];
    c->outs = wr_arena_xalloc(b->p.arena, (c->n_outs + 1) * sizeof(*c->outs));
    for (uint32_t k = 0; k < c->n_outs; k++) {
        c->outs[k] = b->of->components[i].outs[k];
        c->outs[k].to = b->place[c->outs[k].to];
    }
    if (c->dead_letter >= 0)
        c->dead_letter =
            (int32_t)(b->from->dead_letter != NULL ? b->last : b->place[c->dead_letter]);
    /* A buffer on disk is the running pipeline's, and would answer for what no sink has yet. */
    if (c->type->kind == WEIR_SINK && c->opt.sink.buffer.type != WR_BUFFER_MEMORY) {
        c->opt.sink.buffer.type = WR_BUFFER_MEMORY;
        c->opt.sink.buffer.size = WR_BUFFER_MEMORY_SIZE;
    }
}

static bool can_enter(const struct wr_component *c)
{
    return c->type->kind != WEIR_SOURCE && !c->is_dead_letter;
}

/* A port for each way in, with the readers behind it. */
static void wire(struct builder *b, struct wr_component *replay)
{
    const struct wr_plan *of = b->of;
    struct weir_arena *a = b->p.arena;
    uint32_t cap = of->n_components + 1;
    for (uint32_t i = 0; i < b->n_before; i++)
        cap += of->components[i].n_outs;
    replay->outs = wr_arena_xalloc(a, cap * sizeof(*replay->outs));
    replay->ports = wr_arena_xalloc(a, (of->n_components + 1) * sizeof(*replay->ports));
    for (uint32_t i = 0; i < of->n_components; i++) {
        const struct wr_component *c = &of->components[i];
        bool is_source = c->type->kind == WEIR_SOURCE;
        if (!is_source && !can_enter(c))
            continue;
        wr_replay_add_target(b->r, c);
        replay->ports[replay->n_ports++] = c->id;
        if (!is_source)
            replay->outs[replay->n_outs++] = (struct wr_edge){b->place[i], replay->n_ports};
        for (uint32_t k = 0; is_source && k < c->n_outs; k++)
            replay->outs[replay->n_outs++] =
                (struct wr_edge){b->place[c->outs[k].to], replay->n_ports};
    }
}

static void assemble(struct builder *b)
{
    bool dry_run = wr_replay_options(b->r)->dry_run;
    struct wr_plan *plan = b->plan;
    uint32_t n = b->n_sources;
    place_components(b);
    plan->components = wr_arena_xalloc(b->p.arena, (b->last + 1) * sizeof(*plan->components));
    plan->n_components = dry_run ? n + 1 : b->last + (b->from->dead_letter != NULL);
    for (uint32_t i = 0; i < n; i++) {
        struct wr_component *c = &plan->components[i];
        *c = b->p.drafts[i].c;
        c->outs = wr_arena_xalloc(b->p.arena, sizeof(*c->outs));
        c->outs[0] = (struct wr_edge){n, 0};
        c->n_outs = 1;
    }
    struct wr_component *replay = &plan->components[n];
    *replay =
        (struct wr_component){.id = weir_cstr("replay."), /* no file's component has that id */
                              .type = &wr_replay_type,
                              .pos = b->pos,
                              .dead_letter = -1,
                              .n_ins = n,
                              .opt.transform.on_error = WR_ON_STOP};
    wire(b, replay);
    for (uint32_t i = b->n_before; i < b->of->n_components && !dry_run; i++)
        take_component(b, i);
    if (b->from->dead_letter != NULL)
        plan->components[b->last] = b->p.drafts[n].c;
    if (dry_run) /* nothing leaves it */
        replay->n_outs = replay->n_ports = 0;
}

static bool check_at(struct builder *b)
{
    const char *at = wr_replay_options(b->r)->at;
    struct wr_buf ids = {0};
    bool known = at == NULL;
    for (uint32_t i = 0; i < b->of->n_components && !known; i++) {
        const struct wr_component *c = &b->of->components[i];
        if (c->is_dead_letter)
            continue;
        known = wr_str_is(c->id, at);
        wr_buf_printf(&ids, "%s%.*s", ids.len != 0 ? ", " : "one of ", WR_STR(c->id));
    }
    if (!known)
        wr_plan_error(&b->p, "replay", b->pos, NULL,
                      &(struct wr_diag){.message = wr_arena_xprintf(
                                            b->p.arena,
                                            "--at: events cannot enter at \"%s\": there is no "
                                            "such component, or it is a dead-letter sink",
                                            at),
                                        .expected = wr_buf_view(&ids)});
    wr_buf_done(&ids);
    return known;
}

struct wr_plan *wr_replay_plan(const struct wr_plan *of, struct wr_loader *loader,
                               struct wr_diags *d, const struct wr_replay_from *from,
                               struct wr_replay *r)
{
    struct wr_plan *plan = wr_xalloc(sizeof(*plan));
    atomic_init(&plan->refs, 1);
    plan->arena = wr_xalloc(sizeof(*plan->arena));
    wr_arena_init(plan->arena, 16384);
    plan->name = of->name;
    plan->description = of->description;
    plan->file = of->file;
    plan->condition_service = of->condition_service;
    plan->secrets = of->secrets;
    plan->shutdown_timeout = of->shutdown_timeout;
    plan->replay = r;
    struct builder b = {.p = {.plan = plan,
                              .arena = plan->arena,
                              .diags = d,
                              .loader = loader,
                              .dir = strcmp(from->dir, "/") == 0 ? "" : from->dir},
                        .of = of,
                        .from = from,
                        .r = r,
                        .plan = plan};
    b.pos.text = wr_diags_text(d, weir_cstr("weir replay"), weir_str_n("", 0));
    while (b.n_before < of->n_components && of->components[b.n_before].type->kind == WEIR_SOURCE)
        b.n_before++;
    wr_replay_set_pipeline(r, of->name);
    if (check_at(&b) && add_components(&b)) {
        assemble(&b);
        return plan;
    }
    wr_plan_free(plan);
    return NULL;
}
