/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan.c: from a pipeline file to a plan: reads the file, walks its top level and sections,
 * and puts the finished components in their order. Every step runs even where an earlier one found
 * mistakes, so that all of them are told at once.
 */
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/plan_private.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMPONENTS_MAX 1000u
#define NAME_MAX_CHARS 64u

/* ---- shared helpers -------------------------------------------------------------------------- */

static void report(struct wr_planner *p, enum wr_severity severity, const char *code,
                   struct wr_pos pos, const struct wr_path *path, const struct wr_diag *facts)
{
    struct wr_diag diag = *facts;

    diag.code = code;
    diag.severity = severity;
    diag.pos = pos;
    if (path != NULL)
        diag.path = wr_path_text(p->arena, path);
    wr_diags_add(p->diags, &diag);
}

void wr_plan_error(struct wr_planner *p, const char *code, struct wr_pos pos,
                   const struct wr_path *path, const struct wr_diag *facts)
{
    report(p, WR_ERROR, code, pos, path, facts);
}

void wr_plan_warning(struct wr_planner *p, const char *code, struct wr_pos pos,
                     const struct wr_path *path, const struct wr_diag *facts)
{
    report(p, WR_WARNING, code, pos, path, facts);
}

struct wr_binder wr_plan_binder(struct wr_planner *p, struct wr_pos origin)
{
    return (struct wr_binder){
        .arena = p->arena, .diags = p->diags, .dir = p->dir, .origin = origin,
        .secrets = p->plan->secrets};
}

const char *wr_kind_word(enum weir_kind kind)
{
    return kind == WEIR_SOURCE ? "source" : kind == WEIR_TRANSFORM ? "transform" : "sink";
}

const char *wr_kind_words(enum weir_kind kind)
{
    return kind == WEIR_SOURCE ? "sources" : kind == WEIR_TRANSFORM ? "transforms" : "sinks";
}

int32_t wr_plan_find(const struct wr_planner *p, struct weir_str id)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (wr_str_eq(p->drafts[i].field->key, id))
            return (int32_t)i;
    }
    return -1;
}

struct weir_str wr_plan_did_you_mean(struct wr_planner *p, struct weir_str word,
                                     const char *const *words, uint32_t n)
{
    const char *nearest = wr_nearest_word(word, words, n);

    if (nearest == NULL)
        return weir_str_n(NULL, 0);
    return wr_arena_xprintf(p->arena, "did you mean \"%s\"?", nearest);
}

bool wr_plan_is_name(struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return s.len > 0 && s.len <= NAME_MAX_CHARS;
}

/* ---- the sections ---------------------------------------------------------------------------- */

/* The map of a section; NULL where it is not there, empty or no map. */
static const struct wr_node *section(struct wr_planner *p, enum weir_kind kind)
{
    struct wr_path path = {NULL, weir_cstr(wr_kind_words(kind)), -1};
    const struct wr_field *f = wr_node_field(p->root, path.key);

    if (f == NULL || (f->value->kind == WR_NODE_SCALAR && !f->value->broken &&
                      wr_scalar_type(f->value) == WR_SCALAR_NULL))
        return NULL;
    p->partial = p->partial || f->value->broken;
    if (f->value->kind == WR_NODE_MAP)
        return f->value->n > 0 ? f->value : NULL;
    wr_plan_error(
        p, "wrong-type", f->value->pos, &path,
        &(struct wr_diag){.message = wr_arena_xprintf(p->arena, "%s is a map of ids to components",
                                                      wr_kind_words(kind)),
                          .expected = weir_cstr("a map"),
                          .found = wr_node_found(p->arena, f->value, false)});
    return NULL;
}

static void check_id(struct wr_planner *p, struct wr_draft *d)
{
    struct weir_str id = d->field->key, quoted = wr_quote(p->arena, id);
    const struct wr_draft *first;

    if (!wr_plan_is_name(id))
        wr_plan_error(
            p, "bad-id", d->field->pos, &d->path,
            &(struct wr_diag){
                .message = wr_arena_xprintf(p->arena, "%.*s cannot be an id", WR_STR(quoted)),
                .expected = weir_cstr("1 to 64 characters of a-z, 0-9, _ and -")});
    first = &p->drafts[wr_plan_find(p, id)];
    if (first == d)
        return;
    d->skip = true;
    p->wiring_failed = true;
    if (first->kind == d->kind)
        return; /* the same key twice in one map, which has been reported */
    wr_plan_error(
        p, "duplicate-id", d->field->pos, &d->path,
        &(struct wr_diag){.message = wr_arena_xprintf(
                              p->arena, "the id %.*s is taken by the %s on line %u", WR_STR(quoted),
                              wr_kind_word(first->kind), first->field->pos.line)});
}

static void add_section(struct wr_planner *p, enum weir_kind kind, const struct wr_node *map,
                        const struct wr_path *path)
{
    for (uint32_t i = 0; map != NULL && i < map->n && p->n < COMPONENTS_MAX; i++) {
        struct wr_draft *d = &p->drafts[p->n++];
        d->kind = kind;
        d->field = &map->fields[i];
        d->path = (struct wr_path){path, d->field->key, -1};
        d->c.dead_letter = -1;
        check_id(p, d);
    }
    p->n_kind[kind] = map != NULL ? map->n : 0;
}

static void need_some(struct wr_planner *p, enum weir_kind kind, const char *code)
{
    const struct wr_field *f = wr_node_field(p->root, weir_cstr(wr_kind_words(kind)));

    if (p->n_kind[kind] > 0 || p->partial)
        return;
    if (f != NULL &&
        (f->value->kind == WR_NODE_LIST ||
         (f->value->kind == WR_NODE_SCALAR && wr_scalar_type(f->value) != WR_SCALAR_NULL)))
        return; /* no map: that has been said */
    wr_plan_error(
        p, code, f != NULL ? f->pos : (struct wr_pos){.text = p->text}, NULL,
        &(struct wr_diag){
            .message = wr_arena_xprintf(p->arena, "the pipeline has no %s", wr_kind_words(kind)),
            .hint = wr_arena_xprintf(p->arena, "add a map \"%s\" of at least one %s",
                                     wr_kind_words(kind), wr_kind_word(kind))});
}

static void read_components(struct wr_planner *p, const struct wr_path paths[])
{
    const struct wr_node *maps[WEIR_SINK + 1] = {0};
    uint32_t total = 0;

    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++) {
        maps[kind] = section(p, kind);
        total += maps[kind] != NULL ? maps[kind]->n : 0;
    }
    if (total > COMPONENTS_MAX) {
        wr_plan_error(p, "too-many-components", p->root->pos, NULL,
                      &(struct wr_diag){.message = wr_arena_xprintf(
                                            p->arena, "the pipeline has %u components", total),
                                        .expected = weir_cstr("at most 1000")});
        return;
    }
    p->drafts = wr_arena_xalloc(p->arena, (total + 1) * sizeof(*p->drafts));
    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++)
        add_section(p, kind, maps[kind], &paths[kind]);
    need_some(p, WEIR_SOURCE, "no-sources");
    need_some(p, WEIR_SINK, "no-sinks");
    for (uint32_t i = 0; i < p->n; i++)
        wr_plan_component(p, &p->drafts[i]);
    wr_plan_dead_letters(p);
    wr_plan_wire(p);
    wr_plan_failures(p);
    wr_plan_buffers(p);
}

/* ---- the plan -------------------------------------------------------------------------------- */

static struct weir_str stem(struct weir_str file)
{
    size_t from = file.len, to = file.len;

    while (from > 0 && file.ptr[from - 1] != '/')
        from--;
    for (size_t i = from + 1; i < file.len; i++) {
        if (file.ptr[i] == '.')
            to = i;
    }
    return to > from ? weir_str_n(file.ptr + from, to - from) : weir_cstr("pipeline");
}

struct reader_edge {
    struct wr_pos pos;
    uint32_t reader; /* draft */
    struct wr_edge edge;
};

static int in_file_order(const void *va, const void *vb)
{
    const struct reader_edge *a = va, *b = vb;

    if (a->pos.line != b->pos.line)
        return a->pos.line < b->pos.line ? -1 : 1;
    if (a->pos.col != b->pos.col)
        return a->pos.col < b->pos.col ? -1 : 1;
    return a->edge.port < b->edge.port ? -1 : a->edge.port > b->edge.port;
}

/* The edges out of draft `from`, in the order of their readers in the file. */
static void collect_outs(struct wr_planner *p, uint32_t from, const uint32_t *place)
{
    struct wr_component *c = &p->drafts[from].c;
    struct reader_edge *edges;
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        for (uint32_t k = 0; k < p->drafts[i].n_inputs; k++)
            n += p->drafts[i].inputs[k].from == from;
    }
    edges = wr_arena_xalloc(p->arena, n * sizeof(*edges));
    c->n_outs = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct wr_draft *reader = &p->drafts[i];
        for (uint32_t k = 0; k < reader->n_inputs; k++) {
            if (reader->inputs[k].from == from)
                edges[c->n_outs++] =
                    (struct reader_edge){reader->field->pos, i, {place[i], reader->inputs[k].port}};
        }
    }
    if (n > 1)
        qsort(edges, n, sizeof(*edges), in_file_order);
    c->outs = wr_arena_xalloc(p->arena, n * sizeof(*c->outs));
    for (uint32_t i = 0; i < n; i++)
        c->outs[i] = edges[i].edge;
}

static void finish_component(struct wr_planner *p, uint32_t i, const uint32_t *place)
{
    struct wr_draft *d = &p->drafts[i];
    struct wr_component *c = &d->c;

    c->id = d->field->key;
    c->pos = d->field->pos;
    c->pos.text = p->own_text;
    c->node = d->field->value;
    c->n_ins = d->n_inputs;
    c->dead_letter = c->dead_letter >= 0 ? (int32_t)place[c->dead_letter] : -1;
    if (d->kind == WEIR_SOURCE)
        c->opt.source = d->common.opt.source;
    else if (d->kind == WEIR_TRANSFORM)
        c->opt.transform = d->common.opt.transform;
    else
        c->opt.sink = d->common.opt.sink;
    collect_outs(p, i, place);
}

static void finish(struct wr_planner *p, const uint32_t *order)
{
    struct wr_plan *plan = p->plan;
    uint32_t *place = wr_arena_xalloc(p->arena, (p->n + 1) * sizeof(*place));

    plan->description = p->top.description;
    plan->shutdown_timeout = p->top.shutdown_timeout;
    plan->drain_delay = p->top.drain_delay;
    plan->n_components = p->n;
    plan->components = wr_arena_xalloc(p->arena, (p->n + 1) * sizeof(*plan->components));
    for (uint32_t i = 0; i < p->n; i++)
        place[order[i]] = i;
    for (uint32_t i = 0; i < p->n; i++)
        finish_component(p, i, place);
    for (uint32_t i = 0; i < p->n; i++)
        plan->components[i] = p->drafts[order[i]].c;
}

static void read_top(struct wr_planner *p)
{
    struct wr_target target = {wr_top_options(), &p->top};
    struct wr_binder b = wr_plan_binder(p, p->root->pos);
    const struct wr_path paths[] = {[WEIR_SOURCE] = {NULL, weir_cstr("sources"), -1},
                                    [WEIR_TRANSFORM] = {NULL, weir_cstr("transforms"), -1},
                                    [WEIR_SINK] = {NULL, weir_cstr("sinks"), -1}};
    uint32_t *order;

    (void)wr_options_bind(&b, &target, 1, p->root, NULL, p->root->pos);
    p->plan->name =
        p->top.name.len > 0 ? p->top.name : wr_arena_xcopy(p->arena, stem(p->plan->file));
    read_components(p, paths);
    order = wr_arena_xalloc(p->arena, (p->n + 1) * sizeof(*order));
    if (wr_plan_order(p, order))
        finish(p, order);
}

static void make_plan(struct wr_planner *p)
{
    struct wr_conf conf = {0};

    if (!wr_conf_parse(p->arena, p->text, p->diags, &conf) && conf.root == NULL)
        return;
    if (conf.root == NULL || (conf.root->kind == WR_NODE_SCALAR && conf.root->text.len == 0)) {
        wr_plan_error(p, "empty-file", (struct wr_pos){.text = p->text}, NULL,
                      &(struct wr_diag){.message = weir_cstr("the file is empty"),
                                        .expected = weir_cstr("a map with sources and sinks")});
        return;
    }
    if (conf.root->kind != WR_NODE_MAP) {
        wr_plan_error(p, "wrong-type", conf.root->pos, NULL,
                      &(struct wr_diag){.message = weir_cstr("a pipeline file is a map"),
                                        .expected = weir_cstr("a map with sources and sinks"),
                                        .found = wr_node_found(p->arena, conf.root, false)});
        return;
    }
    (void)wr_conf_interpolate(p->arena, &conf, p->dir, p->diags, &p->plan->files);
    p->root = conf.root;
    p->partial = conf.root->broken;
    read_top(p);
    for (struct wr_node *n = conf.scalars; n != NULL; n = n->next_scalar)
        n->pos.text = p->own_text; /* the diagnostics' may be gone before the plan */
}

struct wr_plan *wr_plan_parse(const char *name, const char *dir, struct weir_str text,
                              struct wr_loader *loader, struct wr_diags *d)
{
    struct wr_plan *plan = wr_xalloc(sizeof(*plan));
    struct wr_planner p = {.plan = plan, .diags = d, .loader = loader, .dead_letter = -1};
    uint64_t before = wr_diags_errors_seen(d);
    struct wr_text *own;

    if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0)
        text = weir_str_n(text.ptr + 3, text.len - 3);
    atomic_init(&plan->refs, 1);
    plan->arena = p.arena = wr_xalloc(sizeof(*plan->arena));
    wr_arena_init(plan->arena, 16384);
    plan->file = wr_arena_xcopy(p.arena, weir_cstr(name));
    own = wr_arena_xalloc(p.arena, sizeof(*own));
    own->name = plan->file;
    own->text = wr_arena_xcopy(p.arena, text);
    p.own_text = own;
    p.dir = dir[0] == '/' && dir[1] == '\0' ? "" : dir;
    p.text = wr_diags_text(d, plan->file, text);
    make_plan(&p);
    if (wr_diags_errors_seen(d) == before)
        return plan;
    wr_plan_free(plan);
    return NULL;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void unreadable(struct wr_diags *d, const char *path, const char *code, const char *why)
{
    struct wr_pos pos = {.text = wr_diags_text(d, weir_cstr(path), weir_str_n(NULL, 0))};
    struct wr_buf message = {0};

    wr_buf_printf(&message, "cannot read the pipeline file: %s", why);
    wr_diags_add(d, &(struct wr_diag){.code = code, .pos = pos, .message = wr_buf_view(&message)});
    wr_buf_done(&message);
}

static bool read_file(const char *path, struct wr_buf *text, struct wr_diags *d)
{
    char block[16384];
    struct stat st;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        unreadable(d, path, "file-unreadable", fd < 0 ? strerror(errno) : "it is a folder");
        if (fd >= 0)
            close(fd);
        return false;
    }
    while ((n = read(fd, block, sizeof(block))) > 0 && text->len <= WR_CONF_BYTES_MAX)
        wr_buf_add(text, block, (size_t)n);
    if (n < 0)
        unreadable(d, path, "file-unreadable", strerror(errno));
    else if (text->len > WR_CONF_BYTES_MAX)
        unreadable(d, path, "file-too-large", "it has more than 1 MiB");
    close(fd);
    return n >= 0 && text->len <= WR_CONF_BYTES_MAX;
}

/* The absolute folder of a path; symbolic links stay, since ConfigMaps swap them. */
static void folder_of(const char *path, struct wr_buf *ret)
{
    const char *slash = strrchr(path, '/');

    if (path[0] != '/') {
        char cwd[PATH_MAX];
        wr_buf_text(ret, getcwd(cwd, sizeof(cwd)) != NULL && strcmp(cwd, "/") != 0 ? cwd : "");
        if (slash != NULL)
            wr_buf_text(ret, "/");
    }
    wr_buf_add(ret, path, slash != NULL ? (size_t)(slash - path) : 0);
    if (ret->len == 0)
        wr_buf_text(ret, "/");
}

struct wr_plan *wr_plan_load(const char *path, struct wr_loader *loader, struct wr_diags *d)
{
    struct wr_buf text = {0}, dir = {0};
    struct wr_plan *plan = NULL;

    if (read_file(path, &text, d)) {
        folder_of(path, &dir);
        plan = wr_plan_parse(path, dir.ptr, wr_buf_view(&text), loader, d);
        if (plan != NULL)
            wr_plan_watch(plan, wr_arena_xcopy(plan->arena, weir_cstr(path)), false);
    }
    wr_buf_done(&text);
    wr_buf_done(&dir);
    return plan;
}

void wr_plan_watch(struct wr_plan *p, struct weir_str path, bool modules)
{
    struct wr_content_file *file = wr_arena_xalloc(p->arena, sizeof(*file));
    *file = (struct wr_content_file){p->files, path, modules};
    p->files = file;
}

const struct wr_plan *wr_plan_ref(const struct wr_plan *p)
{
    atomic_fetch_add(&((struct wr_plan *)(uintptr_t)p)->refs, 1);
    return p;
}

void wr_plan_free(const struct wr_plan *take_p)
{
    struct wr_plan *p = (struct wr_plan *)(uintptr_t)take_p;
    if (p == NULL || atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    wr_arena_done(p->arena);
    wr_free(p->arena);
    wr_free(p);
}
