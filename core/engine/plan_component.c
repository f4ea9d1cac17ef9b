/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/plan_component.c: one component of the file: finds its type, fills its config struct, lets
 * the type check it, and asks for ports, needs and traits.
 */
#include <base/error.h>
#include <base/str.h>
#include <engine/host.h>
#include <engine/plan_private.h>
#include <stdarg.h>

#define WORDS_MAX 256

/* ---- the type -------------------------------------------------------------------------------- */

/* Names of all types of that kind, in the order found, each once. */
static uint32_t type_words(struct wr_loader *l, enum weir_kind kind, const char **ret)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < wr_loader_count(l); i++) {
        const struct weir_type *const *types = wr_loader_at(l, i)->plugin->types;
        for (; types != NULL && *types != NULL; types++) {
            uint32_t k = 0;
            while (k < n && strcmp(ret[k], (*types)->name) != 0)
                k++;
            if ((*types)->kind == kind && k == n && n < WORDS_MAX)
                ret[n++] = (*types)->name;
        }
    }
    return n;
}

static void sort_words(const char **words, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        for (uint32_t k = i; k > 0 && strcmp(words[k], words[k - 1]) < 0; k--) {
            const char *w = words[k];
            words[k] = words[k - 1];
            words[k - 1] = w;
        }
    }
}

static void add_where(struct wr_buf *hint, struct wr_loader *l, struct weir_str name)
{
    uint32_t n = wr_loader_n_dirs(l);

    wr_buf_text(hint, n ? "plugins were searched in " : "no folder of plugins was found");
    for (uint32_t i = 0; i < n; i++)
        wr_buf_printf(hint, "%s%s", i ? ", " : "", wr_loader_dir(l, i));
    for (uint32_t i = 0; i < wr_loader_n_bad(l); i++) {
        const char *bad = wr_loader_bad(l, i);
        if (memmem(bad, strlen(bad), name.ptr, name.len) != NULL)
            wr_buf_printf(hint, "; %s", bad);
    }
}

static void unknown_type(struct wr_planner *p, const struct wr_draft *draft,
                         const struct wr_node *node)
{
    const char *words[WORDS_MAX], *other[WORDS_MAX], *nearest;
    struct weir_str name = node->text, quoted = wr_quote(p->arena, name);
    struct wr_buf expected = {0}, hint = {0};
    struct wr_path path = {&draft->path, weir_cstr("type"), -1};
    uint32_t n;

    wr_loader_all(p->loader);
    n = type_words(p->loader, draft->kind, words);
    sort_words(words, n);
    for (uint32_t i = 0; i < n; i++)
        wr_buf_printf(&expected, "%s%s", i ? ", " : "one of ", words[i]);
    nearest = wr_nearest_word(name, words, n);
    if (nearest != NULL)
        wr_buf_printf(&hint, "did you mean \"%s\"? ", nearest);
    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++) {
        uint32_t n_other = kind == draft->kind ? 0 : type_words(p->loader, kind, other);
        for (uint32_t i = 0; i < n_other; i++) {
            if (wr_str_is(name, other[i]))
                wr_buf_printf(&hint, "there is a %s of that name; ", wr_kind_word(kind));
        }
    }
    add_where(&hint, p->loader, name);
    wr_plan_error(
        p, "unknown-type", node->pos, &path,
        &(struct wr_diag){.message = wr_arena_xprintf(p->arena, "unknown %s type %.*s",
                                                      wr_kind_word(draft->kind), WR_STR(quoted)),
                          .expected = wr_buf_view(&expected),
                          .hint = wr_buf_view(&hint)});
    wr_buf_done(&expected);
    wr_buf_done(&hint);
}

static const struct weir_type *find_type(struct wr_planner *p, struct wr_draft *draft)
{
    const struct wr_field *f = wr_node_field(draft->field->value, weir_cstr("type"));
    const struct weir_type *type;

    if (f == NULL || f->value->kind != WR_NODE_SCALAR || f->value->broken ||
        wr_scalar_type(f->value) == WR_SCALAR_NULL || f->value->text.len == 0)
        return NULL; /* said when the common options are bound */
    type = wr_loader_type(p->loader, draft->kind, f->value->text, &draft->c.plugin);
    if (type == NULL)
        unknown_type(p, draft, f->value);
    return type;
}

/* ---- conditions ------------------------------------------------------------------------------ */

struct condition_entry {
    struct weir_condition c;
    struct condition_entry *next;
};

struct condition_list {
    struct wr_planner *p;
    struct condition_entry *first, **end;
    uint32_t n;
};

static const struct weir_condition *add_condition(void *arg, struct weir_str text,
                                                  struct weir_error *err)
{
    struct condition_list *list = arg;
    struct wr_plan *plan = list->p->plan;
    struct condition_entry *e;

    if (plan->condition_service == NULL)
        plan->condition_service = wr_loader_service(list->p->loader, WEIR_CONDITION_SERVICE);
    if (plan->condition_service == NULL) {
        wr_error(err, WEIR_E_UNAVAILABLE, NULL,
                 "no plugin offers conditions; the lua plugin does, see that it is found");
        return NULL;
    }
    if (plan->condition_service->check(text, err) != WEIR_OK)
        return NULL;
    e = wr_arena_xalloc(list->p->arena, sizeof(*e));
    e->c = (struct weir_condition){wr_arena_xcopy(list->p->arena, text), list->n++};
    *list->end = e;
    list->end = &e->next;
    return &e->c;
}

static void keep_conditions(struct condition_list *list, struct wr_component *c)
{
    struct weir_str *texts = wr_arena_xalloc(list->p->arena, list->n * sizeof(*texts));
    uint32_t i = 0;

    for (const struct condition_entry *e = list->first; e != NULL; e = e->next)
        texts[i++] = e->c.text;
    c->conditions = texts;
    c->n_conditions = list->n;
}

/* ---- options --------------------------------------------------------------------------------- */

static bool has_option(const struct weir_options *o, const char *name)
{
    for (uint32_t i = 0; i < o->n; i++) {
        struct weir_option opt = wr_option_at(o, i);
        if (opt.name != NULL && strcmp(opt.name, name) == 0)
            return true;
    }
    return false;
}

/* A type must not have options that are the core's. */
static bool check_table(struct wr_planner *p, const struct wr_draft *draft)
{
    struct weir_options common = wr_common_options(draft->kind);
    bool ok = true;

    for (uint32_t i = 0; i < common.n; i++) {
        struct weir_option o = wr_option_at(&common, i);
        if (!has_option(&draft->c.type->options, o.name))
            continue;
        wr_plan_error(p, "bad-plugin", draft->field->pos, &draft->path,
                      &(struct wr_diag){.message = wr_arena_xprintf(
                                            p->arena,
                                            "the plugin's type %s has an option \"%s\" of "
                                            "its own, which belongs to weir itself",
                                            draft->c.type->name, o.name)});
        ok = false;
    }
    return ok;
}

/* Without a type only the common options can be judged: a map of no others. */
static struct wr_node *only_common(struct wr_planner *p, const struct wr_draft *draft)
{
    struct weir_options common = wr_common_options(draft->kind);
    struct wr_node *map = wr_arena_xalloc(p->arena, sizeof(*map));
    const struct wr_node *all = draft->field->value;

    *map = *all;
    map->n = 0;
    map->fields = wr_arena_xalloc(p->arena, all->n * sizeof(*map->fields));
    for (uint32_t i = 0; i < all->n; i++) {
        if (has_option(&common, all->fields[i].key.ptr))
            map->fields[map->n++] = all->fields[i];
    }
    return map;
}

static bool bind_without_type(struct wr_planner *p, struct wr_draft *draft)
{
    struct wr_target target = {wr_common_options(draft->kind), &draft->common};
    struct wr_binder b = wr_plan_binder(p, draft->field->pos);

    wr_options_hide_guess(&b, draft->field->value);
    (void)wr_options_bind(&b, &target, 1, only_common(p, draft), &draft->path, draft->field->pos);
    draft->bound = true;
    return false;
}

static void keep_files(struct wr_planner *p, struct wr_draft *draft,
                       const struct wr_content_file *files)
{
    draft->c.files_print = wr_content_print(files);
    for (const struct wr_content_file *f = files; f != NULL; f = f->next)
        wr_plan_watch(p->plan, f->path, f->modules);
}

static bool bind_with_type(struct wr_planner *p, struct wr_draft *draft)
{
    const struct weir_type *type = draft->c.type;
    struct wr_target targets[3] = {{type->options, NULL},
                                   {wr_common_options(draft->kind), &draft->common},
                                   {wr_drop_option(), &draft->common}};
    struct condition_list list = {.p = p};
    struct wr_binder b = wr_plan_binder(p, draft->field->pos);
    bool with_drop = type->ports != NULL && !has_option(&type->options, "drop"), ok;

    if (!check_table(p, draft))
        return false;
    list.end = &list.first;
    b.condition = add_condition;
    b.condition_arg = &list;
    draft->c.config = wr_arena_xalloc(p->arena, type->options.config_size);
    targets[0].config = draft->c.config;
    ok = wr_options_bind(&b, targets, with_drop ? 3 : 2, draft->field->value, &draft->path,
                         draft->field->pos);
    draft->bound = true;
    p->plan->secrets = b.secrets;
    keep_files(p, draft, b.files);
    keep_conditions(&list, &draft->c);
    draft->c.needs = b.needs;
    return ok;
}

/* ---- the type's own check -------------------------------------------------------------------- */

struct check {
    struct wr_planner *p;
    struct wr_draft *draft;
    bool ok;
};

WEIR_PRINTF(5, 0)
static void reported(const struct weir_report *r, bool error, const char *path, int64_t offset,
                     const char *fmt, va_list ap)
{
    struct check *c = r->priv;
    struct wr_pos pos =
        wr_node_resolve(c->draft->field->value, c->draft->field->pos, path ? path : "", offset);
    struct wr_buf text = {0};
    struct wr_path below = {&c->draft->path, weir_cstr(path), -1};
    const struct wr_path *at = path != NULL && path[0] != '\0' ? &below : &c->draft->path;

    wr_buf_vprintf(&text, fmt, ap);
    wr_secrets_scrub(c->p->plan->secrets, &text);
    if (error) {
        c->ok = false;
        wr_plan_error(c->p, "component-check", pos, at,
                      &(struct wr_diag){.message = wr_buf_view(&text)});
    } else {
        wr_plan_warning(c->p, "component-warning", pos, at,
                        &(struct wr_diag){.message = wr_buf_view(&text)});
    }
    wr_buf_done(&text);
}

WEIR_PRINTF(4, 5)
static void report_error(const struct weir_report *r, const char *path, int64_t offset,
                         const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    reported(r, true, path, offset, fmt, ap);
    va_end(ap);
}

WEIR_PRINTF(4, 5)
static void report_warning(const struct weir_report *r, const char *path, int64_t offset,
                           const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    reported(r, false, path, offset, fmt, ap);
    va_end(ap);
}

static void report_file(const struct weir_report *r, struct weir_str path)
{
    struct check *c = r->priv;
    const struct wr_content_file file = {.path = wr_arena_xcopy(c->p->arena, path)};
    uint64_t both[] = {c->draft->c.files_print, wr_content_print(&file)};

    c->draft->c.files_print = wr_str_hash(weir_str_n((const char *)both, sizeof(both)), 1);
    wr_plan_watch(c->p->plan, file.path, false);
}

static bool own_check(struct wr_planner *p, struct wr_draft *draft)
{
    struct check c = {p, draft, true};
    struct weir_host host = *wr_host_control();
    struct weir_report report = {.size = sizeof(report),
                                 .error = report_error,
                                 .warning = report_warning,
                                 .priv = &c,
                                 .host = &host,
                                 .file = report_file};

    host.pipeline = p->plan->name;
    host.component = draft->field->key;
    if (draft->c.type->check != NULL)
        draft->c.type->check(draft->c.config, &report);
    return c.ok;
}

/* ---- ports ----------------------------------------------------------------------------------- */

struct port_list {
    struct wr_planner *p;
    struct wr_draft *draft;
    uint32_t cap;
    bool ok;
};

struct wr_pos wr_plan_port_pos(const struct wr_draft *d, struct weir_str port)
{
    const struct wr_node *map = d->field->value;

    for (uint32_t i = 0; i < map->n; i++) {
        const struct wr_node *n = map->fields[i].value;
        const struct wr_field *f = wr_node_field(n, port);
        if (wr_str_is(map->fields[i].key, "inputs") || wr_str_is(map->fields[i].key, "drop"))
            continue;
        if (f != NULL)
            return f->pos;
        for (uint32_t k = 0; n->kind == WR_NODE_LIST && k < n->n; k++) {
            if (n->items[k]->kind == WR_NODE_SCALAR && wr_str_eq(n->items[k]->text, port))
                return n->items[k]->pos;
        }
    }
    return d->field->pos;
}

static void bad_port(struct port_list *list, const char *what, struct weir_str name)
{
    struct weir_str quoted = wr_quote(list->p->arena, name);

    list->ok = false;
    wr_plan_error(
        list->p, "bad-port", wr_plan_port_pos(list->draft, name), &list->draft->path,
        &(struct wr_diag){
            .message = wr_arena_xprintf(list->p->arena, "the port %.*s %s", WR_STR(quoted), what),
            .expected = weir_cstr("1 to 64 characters of a-z, 0-9, _ and -")});
}

static void add_port(void *arg, struct weir_str name)
{
    struct port_list *list = arg;
    struct wr_component *c = &list->draft->c;

    if (list->draft->has_unnamed) {
        bad_port(list, "stands behind the unnamed one, which must be the last", name);
        return;
    }
    if (name.len == 0) {
        list->draft->has_unnamed = true;
        return;
    }
    if (!wr_plan_is_name(name)) {
        bad_port(list, "has no usable name", name);
        return;
    }
    for (uint32_t i = 0; i < c->n_ports; i++) {
        if (wr_str_eq(c->ports[i], name)) {
            bad_port(list, "stands twice", name);
            return;
        }
    }
    if (c->n_ports == list->cap) {
        struct weir_str *ports;
        list->cap = list->cap ? list->cap * 2 : 8;
        ports = wr_arena_xalloc(list->p->arena, list->cap * sizeof(*ports));
        if (c->n_ports > 0)
            memcpy(ports, c->ports, c->n_ports * sizeof(*ports));
        c->ports = ports;
    }
    c->ports[c->n_ports++] = wr_arena_xcopy(list->p->arena, name);
}

static void ask_ports(struct wr_planner *p, struct wr_draft *draft)
{
    struct port_list list = {.p = p, .draft = draft, .ok = true};

    if (draft->c.type->ports != NULL)
        draft->c.type->ports(wr_host_control(), draft->c.config, add_port, &list);
    if (draft->c.n_ports == 0)
        draft->has_unnamed = true;
    draft->port_read = wr_arena_xalloc(p->arena, draft->c.n_ports * sizeof(bool));
    draft->ports_known = list.ok;
}

/* ---- what a sink has by default -------------------------------------------------------------- */

static void resolve_sink(struct wr_planner *p, struct wr_draft *draft)
{
    struct wr_sink_options *o = &draft->common.opt.sink;
    struct wr_sink_options def = wr_sink_defaults(draft->c.type->sink);
    const struct wr_field *f = wr_node_field(draft->field->value, weir_cstr("in_flight"));
    struct wr_path retry = {&draft->path, weir_cstr("retry"), -1};

    if (o->batch.events < 0)
        o->batch.events = def.batch.events;
    if (o->batch.bytes < 0)
        o->batch.bytes = def.batch.bytes;
    if (o->batch.timeout < 0)
        o->batch.timeout = def.batch.timeout;
    wr_plan_buffer(p, draft);
    if (o->retry.initial > o->retry.max)
        wr_plan_error(p, "bad-retry",
                      wr_node_resolve(draft->field->value, draft->field->pos, "retry", -1), &retry,
                      &(struct wr_diag){.message = weir_cstr("retry.initial is above retry.max")});
    if (o->on_unavailable == WR_UNAVAILABLE_DEAD_LETTER && o->retry.attempts == 0)
        wr_plan_error(p, "bad-retry",
                      wr_node_resolve(draft->field->value, draft->field->pos, "retry", -1), &retry,
                      &(struct wr_diag){.message = weir_cstr("retry.attempts: 0 means for ever, so "
                                                             "on_unavailable: dead_letter would never come"),
                                        .hint = weir_cstr("give retry.attempts a number")});
    if (draft->c.traits & WEIR_TRAIT_ORDERED) {
        if (o->in_flight < 0)
            o->in_flight = def.in_flight;
        return;
    }
    if (o->in_flight > 1 && f != NULL) {
        struct wr_path path = {&draft->path, weir_cstr("in_flight"), -1};
        wr_plan_error(
            p, "in-flight", f->value->pos, &path,
            &(struct wr_diag){.message = wr_arena_xprintf(
                                  p->arena,
                                  "a %s sink with these options has one write in flight at a time",
                                  draft->c.type->name),
                              .expected = weir_cstr("1"),
                              .found = wr_node_found(p->arena, f->value, false),
                              .hint = weir_cstr("raise concurrency instead")});
    }
    o->in_flight = 1;
}

static void ask_type(struct wr_planner *p, struct wr_draft *draft)
{
    const struct weir_type *type = draft->c.type;
    struct wr_component *c = &draft->c;

    ask_ports(p, draft);
    c->needs |=
        type->needs != NULL ? type->needs(wr_host_control(), c->config) : type->needs_always;
    c->traits = type->traits != NULL ? type->traits(wr_host_control(), c->config) : 0;
    if (draft->kind == WEIR_SINK) {
        if (c->n_conditions > 0)
            c->needs |= WEIR_NEEDS_VALUE; /* nothing parses once the batch is frozen */
        resolve_sink(p, draft);
    }
}

void wr_plan_component(struct wr_planner *p, struct wr_draft *draft)
{
    const struct wr_node *map = draft->field->value;
    bool ok;

    wr_common_init(&draft->common, draft->kind);
    draft->has_inputs = wr_node_field(map, weir_cstr("inputs")) != NULL;
    if (map->kind != WR_NODE_MAP) {
        wr_plan_error(
            p, "wrong-type", map->pos, &draft->path,
            &(struct wr_diag){.message = wr_arena_xprintf(p->arena, "a %s is a map of its options",
                                                          wr_kind_word(draft->kind)),
                              .expected = weir_cstr("a map with the key \"type\""),
                              .found = wr_node_found(p->arena, map, false)});
        return;
    }
    draft->c.type = find_type(p, draft);
    ok = draft->c.type != NULL ? bind_with_type(p, draft) : bind_without_type(p, draft);
    if (ok && own_check(p, draft))
        ask_type(p, draft);
}
