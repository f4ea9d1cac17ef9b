/* SPDX-License-Identifier: Apache-2.0
 *
 * model/options.c: walks a located map beside option tables. Scalars are options_scalar.c, words
 * for messages options_text.c, secrets options_secret.c.
 */
#include <base/check.h>
#include <base/str.h>
#include <model/options.h>

struct weir_option wr_option_at(const struct weir_options *o, uint32_t i)
{
    struct weir_option opt = {0};
    size_t n = o->stride < sizeof(opt) ? o->stride : sizeof(opt);

    memcpy(&opt, (const char *)o->items + (size_t)i * o->stride, n);
    return opt;
}

struct weir_options wr_option_fields(const struct weir_option *o, uint32_t stride)
{
    return (struct weir_options){o->fields, o->n_fields, stride, o->fields_size};
}

size_t wr_option_size(const struct weir_option *o, enum weir_option_type type)
{
    switch (type) {
    case WEIR_OPT_BOOL:
        return sizeof(bool);
    case WEIR_OPT_INT:
    case WEIR_OPT_DURATION:
    case WEIR_OPT_SIZE:
        return sizeof(int64_t);
    case WEIR_OPT_FLOAT:
        return sizeof(double);
    case WEIR_OPT_STRING:
    case WEIR_OPT_PATH:
        return sizeof(struct weir_str);
    case WEIR_OPT_ENUM:
        return sizeof(int);
    case WEIR_OPT_TEMPLATE:
    case WEIR_OPT_CONDITION:
    case WEIR_OPT_VALUE:
        return sizeof(void *);
    case WEIR_OPT_TABLE:
        return o->fields_size;
    default:
        return 0;
    }
}

void wr_bind_error(struct wr_binder *b, const char *code, struct wr_pos pos,
                   const struct wr_path *path, const struct wr_diag *facts)
{
    struct wr_diag diag = *facts;

    diag.code = code;
    diag.severity = WR_ERROR;
    diag.pos = pos;
    diag.path = wr_path_text(b->arena, path);
    if (b->in_default) {
        diag.code = "bad-plugin";
        diag.pos = b->origin;
        diag.message = wr_arena_xprintf(b->arena, "the default of this option is wrong: %.*s",
                                        WR_STR(facts->message));
    }
    b->n_errors++;
    wr_diags_add(b->diags, &diag);
}

/* ---- defaults -------------------------------------------------------------------------------- */

static bool bind_any(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                     const struct wr_node *n, const struct wr_path *path, struct wr_pos pos,
                     void *config);

static bool is_scalar_type(enum weir_option_type type)
{
    return type != WEIR_OPT_TABLE && type != WEIR_OPT_LIST && type != WEIR_OPT_MAP &&
           type != WEIR_OPT_VALUE;
}

/* A default as a node: plain words as they are, everything else through YAML. */
static const struct wr_node *default_node(struct wr_binder *b, const struct weir_option *o)
{
    struct wr_node *n = wr_arena_xalloc(b->arena, sizeof(*n));
    struct wr_text *text;
    struct wr_conf conf = {0};
    struct wr_diags *d;

    n->text = n->raw = weir_cstr(o->def);
    if (is_scalar_type(o->type) && o->def[0] != '"' && o->def[0] != '\'')
        return n;
    text = wr_arena_xalloc(b->arena, sizeof(*text));
    text->text = weir_cstr(o->def);
    d = wr_diags_new();
    if (!wr_conf_parse(b->arena, text, d, &conf))
        conf.root = NULL;
    wr_diags_free(d);
    return conf.root;
}

static void bind_defaults(struct wr_binder *b, const struct weir_options *options,
                          const struct wr_path *up, void *config)
{
    bool before = b->in_default;

    b->in_default = true;
    for (uint32_t i = 0; i < options->n; i++) {
        struct weir_option o = wr_option_at(options, i);
        struct wr_path path = {up, weir_cstr(o.name), -1};

        if (o.type == WEIR_OPT_TABLE) {
            struct weir_options fields = wr_option_fields(&o, options->stride);
            bind_defaults(b, &fields, &path, (char *)config + o.offset);
        }
        if (o.def == NULL || o.def[0] == '\0' || o.type == WR_OPT_OPAQUE)
            continue;
        const struct wr_node *n = default_node(b, &o);
        if (n == NULL)
            wr_bind_error(b, "bad-plugin", b->origin, &path,
                          &(struct wr_diag){.message = weir_cstr("it is not YAML")});
        else
            (void)bind_any(b, &o, options->stride, n, &path, b->origin, config);
    }
    b->in_default = before;
}

/* ---- one option ------------------------------------------------------------------------------ */

static void wrong_type(struct wr_binder *b, const struct weir_option *o, const struct wr_node *n,
                       const struct wr_path *path)
{
    struct wr_buf expected = {0};

    wr_option_describe(&expected, o, o->type);
    wr_bind_error(
        b, "wrong-type", n->pos, path,
        &(struct wr_diag){.message = weir_cstr("the value has the wrong type"),
                          .expected = wr_buf_view(&expected),
                          .found = wr_node_found(b->arena, n, (o->flags & WEIR_OPT_SECRET) != 0)});
    wr_buf_done(&expected);
}

static bool bind_table(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                       const struct wr_node *n, const struct wr_path *path, struct wr_pos pos,
                       void *dst)
{
    struct wr_target target = {wr_option_fields(o, stride), dst};

    if (n->kind == WR_NODE_MAP)
        return wr_options_bind(b, &target, 1, n, path, pos);
    struct weir_option table = *o;
    table.type = WEIR_OPT_TABLE;
    wrong_type(b, &table, n, path);
    return false;
}

static bool bind_element(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                         const struct wr_node *n, const struct wr_path *path, void *dst)
{
    if (o->of == WEIR_OPT_TABLE)
        return bind_table(b, o, stride, n, path, n->pos, dst);
    return wr_bind_scalar(b, o, o->of, n, path, dst);
}

static bool empty(struct wr_binder *b, const struct weir_option *o, const struct wr_node *n,
                  const struct wr_path *path)
{
    if (!(o->flags & WEIR_OPT_NONEMPTY))
        return false;
    wr_bind_error(b, "empty-value", n->pos, path,
                  &(struct wr_diag){
                      .message = wr_arena_xprintf(b->arena, "\"%s\" must not be empty", o->name)});
    return true;
}

static bool bind_list(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                      const struct wr_node *n, const struct wr_path *path, struct weir_list *dst)
{
    size_t size = wr_option_size(o, o->of);
    bool one = n->kind == WR_NODE_SCALAR && o->of != WEIR_OPT_TABLE &&
               wr_scalar_type(n) != WR_SCALAR_NULL,
         ok = true;
    struct weir_list list = {0};

    if (n->kind != WR_NODE_LIST && !one) {
        wrong_type(b, o, n, path);
        return false;
    }
    list.n = one ? 1 : n->n;
    if (list.n == 0 && empty(b, o, n, path))
        return false;
    list.items = wr_arena_xalloc(b->arena, list.n * size);
    for (uint32_t i = 0; i < list.n; i++) {
        struct wr_path at = {path, {0}, i};
        if (!bind_element(b, o, stride, one ? n : n->items[i], one ? path : &at,
                          (char *)list.items + i * size))
            ok = false;
    }
    *dst = list;
    return ok;
}

static bool bind_pair(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                      const struct wr_field *f, const struct wr_path *path, struct weir_pair *dst)
{
    union {
        bool boolean;
        int word;
        void *ptr;
    } v = {0};
    void *at = &dst->value;
    bool ok;

    dst->key = f->key;
    if (memchr(f->key.ptr, '\0', f->key.len) != NULL) {
        wr_bind_error(b, "bad-text", f->pos, path,
                      &(struct wr_diag){.message = weir_cstr("the key holds a NUL character")});
        return false;
    }
    if (o->of == WEIR_OPT_TABLE)
        at = v.ptr = wr_arena_xalloc(b->arena, o->fields_size);
    else if (o->of == WEIR_OPT_BOOL || o->of == WEIR_OPT_ENUM)
        at = &v;
    ok = bind_element(b, o, stride, f->value, path, at);
    if (o->of == WEIR_OPT_TABLE)
        dst->value.ptr = v.ptr;
    else if (o->of == WEIR_OPT_BOOL)
        dst->value.num = v.boolean;
    else if (o->of == WEIR_OPT_ENUM)
        dst->value.num = v.word;
    return ok;
}

static bool bind_map(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                     const struct wr_node *n, const struct wr_path *path, struct weir_list *dst)
{
    struct weir_list list = {0};
    bool ok = true;

    if (n->kind != WR_NODE_MAP) {
        wrong_type(b, o, n, path);
        return false;
    }
    if (n->n == 0 && empty(b, o, n, path))
        return false;
    list.n = n->n;
    list.items = wr_arena_xalloc(b->arena, list.n * sizeof(struct weir_pair));
    for (uint32_t i = 0; i < list.n; i++) {
        struct wr_path at = {path, n->fields[i].key, -1};
        if (o->of == WEIR_OPT_STRING && wr_sounds_secret(n->fields[i].key)) /* settings of a library */
            wr_options_hide(b, n->fields[i].value);
        if (!bind_pair(b, o, stride, &n->fields[i], &at, (struct weir_pair *)list.items + i))
            ok = false;
    }
    *dst = list;
    return ok;
}

/* A map or list that lacks something can still be looked through where it is wanted. */
static bool is_whole_enough(const struct weir_option *o, const struct wr_node *n)
{
    if (n->kind == WR_NODE_LIST)
        return o->type == WEIR_OPT_LIST && n->n > 0;
    return n->kind == WR_NODE_MAP &&
           (o->type == WEIR_OPT_TABLE || (o->type == WEIR_OPT_MAP && n->n > 0));
}

static bool bind_any(struct wr_binder *b, const struct weir_option *o, uint32_t stride,
                     const struct wr_node *n, const struct wr_path *path, struct wr_pos pos,
                     void *config)
{
    void *dst = (char *)config + o->offset;

    if ((o->flags & WEIR_OPT_SECRET) && !b->in_default)
        wr_options_hide(b, n);
    if (n->broken && !is_whole_enough(o, n)) {
        b->n_errors++; /* reported where it broke */
        return false;
    }
    switch ((int)o->type) {
    case WEIR_OPT_TABLE:
        return bind_table(b, o, stride, n, path, pos, dst);
    case WEIR_OPT_LIST:
        return bind_list(b, o, stride, n, path, dst);
    case WEIR_OPT_MAP:
        return bind_map(b, o, stride, n, path, dst);
    case (int)WR_OPT_OPAQUE:
        return true;
    default:
        return wr_bind_scalar(b, o, o->type, n, path, dst);
    }
}

/* ---- a map ----------------------------------------------------------------------------------- */

static bool find_option(const struct wr_target *targets, uint32_t n, struct weir_str name,
                        struct weir_option *ret, const struct wr_target **ret_target)
{
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t i = 0; i < targets[t].options.n; i++) {
            struct weir_option o = wr_option_at(&targets[t].options, i);
            if (!wr_str_is(name, o.name))
                continue;
            *ret = o;
            *ret_target = &targets[t];
            return true;
        }
    }
    return false;
}

/* A secret under a name that was misspelled. */
static void hide_misspelled(struct wr_binder *b, const struct wr_target *targets, uint32_t n,
                            const struct wr_field *f, const char *nearest)
{
    const struct wr_target *target;
    struct weir_option o = {0};

    if (nearest != NULL)
        (void)find_option(targets, n, weir_cstr(nearest), &o, &target);
    if ((o.flags & WEIR_OPT_SECRET) || wr_sounds_secret(f->key))
        wr_options_hide(b, f->value);
}

static void unknown_option(struct wr_binder *b, const struct wr_target *targets, uint32_t n,
                           const struct wr_field *f, const struct wr_path *path)
{
    uint32_t n_words = 0, total = 0;
    const char **words, *nearest;
    struct wr_buf expected = {0};
    struct weir_str quoted = wr_quote(b->arena, f->key), hint = {0};

    for (uint32_t t = 0; t < n; t++)
        total += targets[t].options.n;
    words = wr_arena_xalloc(b->arena, total * sizeof(*words));
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t i = 0; i < targets[t].options.n; i++) {
            struct weir_option o = wr_option_at(&targets[t].options, i);
            if (o.deprecated_by != NULL || o.doc == NULL)
                continue;
            wr_buf_printf(&expected, "%s%s", n_words ? ", " : "one of ", o.name);
            words[n_words++] = o.name;
        }
    }
    nearest = wr_nearest_word(f->key, words, n_words);
    if (nearest != NULL)
        hint = wr_arena_xprintf(b->arena, "did you mean \"%s\"?", nearest);
    hide_misspelled(b, targets, n, f, nearest);
    wr_bind_error(b, "unknown-option", f->pos, path,
                  &(struct wr_diag){
                      .message = wr_arena_xprintf(b->arena, "unknown option %.*s", WR_STR(quoted)),
                      .expected = wr_buf_view(&expected),
                      .hint = hint});
    wr_buf_done(&expected);
}

static void check_deprecated(struct wr_binder *b, const struct weir_option *o,
                             const struct wr_node *map, const struct wr_field *f,
                             const struct wr_path *path)
{
    if (o->deprecated_by == NULL)
        return;
    if (wr_node_field(map, weir_cstr(o->deprecated_by)) != NULL) {
        wr_bind_error(
            b, "option-twice", f->pos, path,
            &(struct wr_diag){.message = wr_arena_xprintf(
                                  b->arena, "\"%s\" is the old name of \"%s\", which is given too",
                                  o->name, o->deprecated_by),
                              .hint = weir_cstr("take the old one out")});
        return;
    }
    wr_diags_add(
        b->diags,
        &(struct wr_diag){.code = "deprecated-option",
                          .severity = WR_WARNING,
                          .pos = f->pos,
                          .path = wr_path_text(b->arena, path),
                          .message = wr_arena_xprintf(b->arena, "\"%s\" is deprecated", o->name),
                          .hint = wr_arena_xprintf(b->arena, "use \"%s\"", o->deprecated_by)});
}

static void bind_field(struct wr_binder *b, const struct wr_target *targets, uint32_t n,
                       const struct wr_node *map, const struct wr_field *f,
                       const struct wr_path *up)
{
    struct wr_path path = {up, f->key, -1};
    const struct wr_target *target;
    struct weir_option o;

    if (!find_option(targets, n, f->key, &o, &target)) {
        unknown_option(b, targets, n, f, &path);
        return;
    }
    check_deprecated(b, &o, map, f, &path);
    (void)bind_any(b, &o, target->options.stride, f->value, &path, f->pos, target->config);
}

/* Given under its own name, or under one that is deprecated in its favor. */
static bool is_given(const struct weir_options *options, const struct weir_option *o,
                     const struct wr_node *map)
{
    if (wr_node_field(map, weir_cstr(o->name)) != NULL)
        return true;
    for (uint32_t i = 0; i < options->n; i++) {
        struct weir_option old = wr_option_at(options, i);
        if (old.deprecated_by != NULL && strcmp(old.deprecated_by, o->name) == 0 &&
            wr_node_field(map, weir_cstr(old.name)) != NULL)
            return true;
    }
    return false;
}

static void check_required(struct wr_binder *b, const struct weir_options *options,
                           const struct wr_node *map, const struct wr_path *up, struct wr_pos pos)
{
    for (uint32_t i = 0; i < options->n; i++) {
        struct weir_option o = wr_option_at(options, i);
        struct wr_path path = {up, weir_cstr(o.name), -1};
        struct wr_buf expected = {0};

        if (!(o.flags & WEIR_OPT_REQUIRED) || is_given(options, &o, map))
            continue;
        wr_option_describe(&expected, &o, o.type);
        wr_bind_error(
            b, "missing-option", pos, &path,
            &(struct wr_diag){
                .message = wr_arena_xprintf(b->arena, "the option \"%s\" is missing", o.name),
                .expected = wr_buf_view(&expected),
                .hint = o.example
                            ? wr_arena_xprintf(b->arena, "for example: %s: %s", o.name, o.example)
                            : weir_str_n(NULL, 0)});
        wr_buf_done(&expected);
    }
}

bool wr_options_bind(struct wr_binder *b, const struct wr_target *targets, uint32_t n,
                     const struct wr_node *map, const struct wr_path *path, struct wr_pos pos)
{
    uint32_t before = b->n_errors;

    WR_BUG_ON(map->kind != WR_NODE_MAP);
    for (uint32_t t = 0; t < n; t++)
        bind_defaults(b, &targets[t].options, path, targets[t].config);
    for (uint32_t i = 0; i < map->n; i++)
        bind_field(b, targets, n, map, &map->fields[i], path);
    for (uint32_t t = 0; t < n && !map->broken; t++)
        check_required(b, &targets[t].options, map, path, pos);
    return b->n_errors == before;
}
