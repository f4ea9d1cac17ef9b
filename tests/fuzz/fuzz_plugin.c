/* SPDX-License-Identifier: Apache-2.0
 *
 * Any object as a plugin's `weir_plugin`. The bytes say how a good one is bent, in the order in which it is
 * made: 0 leaves a field as it should be, anything else puts something in its place. All pointers lead to
 * memory of just the size that belongs to them, or nowhere; what no check can see, a pointer to elsewhere,
 * is not made. What the loader takes has to be good enough to be described, and to be filled by a pipeline.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <base/arena.h>
#include <base/check.h>
#include <base/str.h>
#include <engine/describe.h>
#include <engine/loader_check.h>
#include <model/options.h>

#define BLOCKS_MAX 4096
#define TABLES_MAX 64
#define TEXT_ENDLESS (64u << 10) /* just what the loader looks at */
#define NAME_ENDLESS 65

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes that are left, and what was made of them so far. */
struct maker {
    const uint8_t *at, *end;
    void *blocks[BLOCKS_MAX];
    uint32_t n_blocks;
    struct weir_options tables[TABLES_MAX]; /* others may lead into them again */
    uint32_t n_tables;
};

static unsigned any(struct maker *m)
{
    return m->at < m->end ? *m->at++ : 0;
}

static void *make(struct maker *m, size_t size)
{
    void *p = calloc(1, size);
    WR_BUG_ON(p == NULL || m->n_blocks == BLOCKS_MAX);
    m->blocks[m->n_blocks++] = p;
    return p;
}

static bool is_full(const struct maker *m)
{
    return m->n_blocks > BLOCKS_MAX / 2;
}

/* ---- Texts ---- */

static const char *endless(struct maker *m, size_t size)
{
    char *text = make(m, size);
    memset(text, 'a', size);
    return text;
}

static const char *make_text(struct maker *m, const char *good)
{
    unsigned how = any(m);
    if (how == 0)
        return good;
    if (how == 1 || is_full(m))
        return NULL;
    if (how == 2)
        return endless(m, TEXT_ENDLESS);
    size_t n = how % 32;
    char *text = make(m, n + 1);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)any(m);
    return text;
}

/* A name: a letter, where it is to be good. */
static const char *make_name(struct maker *m, unsigned i)
{
    static const char *const words[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "drop"};
    unsigned how = any(m);
    if (how == 255 && !is_full(m))
        return endless(m, NAME_ENDLESS);
    if (how == 254)
        return make_text(m, NULL);
    return words[(i + how) % WR_COUNT(words)];
}

static const char *const *make_choices(struct maker *m)
{
    unsigned how = any(m), n = how == 0 ? 2 : how % 4;
    const char **choices = make(m, (n + 1) * sizeof(*choices));
    for (unsigned i = 0; i < n; i++)
        choices[i] = make_text(m, i == 0 ? "one" : "two");
    return how == 255 ? NULL : choices;
}

static size_t make_size(struct maker *m, size_t good)
{
    unsigned how = any(m);
    if (how == 255)
        return SIZE_MAX - any(m);
    return how < 128 ? good + how : good - (how - 127);
}

/* ---- Option tables ---- */

static struct weir_options make_table(struct maker *m, unsigned depth);

static size_t size_of(const struct weir_option *o, enum weir_option_type type)
{
    if (type == WEIR_OPT_LIST || type == WEIR_OPT_MAP)
        return sizeof(struct weir_list);
    return wr_option_size(o, type);
}

static void make_fields(struct maker *m, struct weir_option *o, unsigned depth)
{
    unsigned how = any(m);
    struct weir_options table = {0};
    if (how % 4 == 3 && m->n_tables > 0)
        table = m->tables[how / 4 % m->n_tables];
    else if (how % 4 != 2 && depth < 10 && m->n_tables < TABLES_MAX && !is_full(m))
        table = make_table(m, depth + 1);
    o->fields = table.items;
    o->n_fields = table.n;
    o->fields_size = make_size(m, table.config_size);
}

static const char *make_default(struct maker *m)
{
    static const char *const defaults[] = {"",     "1",   "true",      "'x'",    "[1, 2]", "{a: 1}", "0.5",
                                           "4KiB", "10s", "{{ a.b }}", "x{{ a",  "one",    "'",      "[",
                                           "{",    "- 1", "&a [*a]",   "${env:", "a: : b", "\""};
    unsigned how = any(m);
    return how == 0 ? NULL : how == 255 ? make_text(m, "x") : defaults[how % WR_COUNT(defaults)];
}

static void make_option(struct maker *m, struct weir_option *o, unsigned i, unsigned depth)
{
    unsigned type = any(m);
    o->name = make_name(m, i);
    o->type = type == 255 ? WR_OPT_OPAQUE : (enum weir_option_type)(type % 16);
    bool many = o->type == WEIR_OPT_LIST || o->type == WEIR_OPT_MAP;
    unsigned of = any(m);
    o->of = many || of > 128 ? (enum weir_option_type)(of % 16) : 0;
    o->flags = any(m) | any(m) << 8;
    o->def = make_default(m);
    o->min = (int8_t)any(m);
    o->max = (int8_t)any(m);
    enum weir_option_type element = many ? o->of : o->type;
    unsigned more = any(m); /* also where they do not belong */
    if (element == WEIR_OPT_ENUM || more % 8 == 7)
        o->choices = make_choices(m);
    if (element == WEIR_OPT_TABLE || more / 8 % 8 == 7)
        make_fields(m, o, depth);
    o->deprecated_by = more > 200 ? make_name(m, i + 1) : NULL;
    o->doc = make_text(m, "A.");
    o->example = make_text(m, "1");
    o->percent = any(m);
}

/* Puts the options behind each other, as a struct would have them. */
static size_t place(struct maker *m, struct weir_option *items, uint32_t n)
{
    size_t end = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct weir_option *o = &items[i];
        size_t size = o->type == WEIR_OPT_TABLE && o->fields_size > 4096 ? 8 : size_of(o, o->type);
        size_t align = size < 8 && size > 0 && o->type != WEIR_OPT_TABLE ? size : 8;
        end = (end + align - 1) / align * align;
        o->offset = make_size(m, end);
        end += size;
    }
    return end;
}

static struct weir_options make_table(struct maker *m, unsigned depth)
{
    uint32_t n = any(m) % 8;
    if (n == 0)
        return (struct weir_options){NULL, any(m), sizeof(struct weir_option), make_size(m, 8)};
    uint32_t which = m->n_tables++;
    struct weir_option *items = make(m, n * sizeof(*items));
    struct weir_options *t = &m->tables[which];
    *t = (struct weir_options){items, n, sizeof(struct weir_option), 64};
    for (uint32_t i = 0; i < n; i++)
        make_option(m, &items[i], i, depth);
    t->config_size = (place(m, items, n) + 7) / 8 * 8;
    return *t;
}

/* ---- Calls: the loader asks for them, and nobody makes them ---- */

static enum weir_status no_open(const struct weir_host *h, const void *c, void **s, struct weir_error *e)
{
    (void)h, (void)c, (void)s, (void)e;
    return WEIR_E_BUG;
}

static void no_close(void *self)
{
    (void)self;
}

static enum weir_status no_poll(void *self, struct weir_batch *b, uint32_t room, int64_t deadline,
                                struct weir_error *err)
{
    (void)self, (void)b, (void)room, (void)deadline, (void)err;
    return WEIR_E_BUG;
}

static void no_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self, (void)s, (void)user, (void)next, (void) final;
}

static enum weir_status no_apply(void *self, struct weir_batch *b, int64_t *again, struct weir_error *e)
{
    (void)self, (void)b, (void)again, (void)e;
    return WEIR_E_BUG;
}

static void no_write(void *self, struct weir_batch *b, int64_t deadline, struct weir_results *r)
{
    (void)self, (void)b, (void)deadline, (void)r;
}

static void no_progress(void *self, int64_t deadline)
{
    (void)self, (void)deadline;
}

static void no_ports(const struct weir_host *h, const void *config,
                     void (*add)(void *arg, struct weir_str name), void *arg)
{
    (void)h, (void)config, (void)add, (void)arg;
}

static enum weir_status no_check(struct weir_str text, struct weir_error *err)
{
    (void)text, (void)err;
    return WEIR_E_BUG;
}

static enum weir_status no_service_open(const struct weir_host *h, const struct weir_str *texts,
                                        uint32_t n, void **ret, struct weir_error *err)
{
    (void)h, (void)texts, (void)n, (void)ret, (void)err;
    return WEIR_E_BUG;
}

static void no_eval(void *state, uint32_t which, struct weir_batch *b, uint8_t *ret)
{
    (void)state, (void)which, (void)b, (void)ret;
}

/* ---- Types ---- */

static const struct weir_source *make_source(struct maker *m)
{
    unsigned how = any(m);
    struct weir_source *s = make(m, sizeof(*s));
    *s = (struct weir_source){.size = (uint32_t)make_size(m, sizeof(*s)),
                              .poll = (how & 1) == 0 ? no_poll : NULL,
                              .commit = (how & 2) == 0 ? no_commit : NULL,
                              .stop = (how & 4) == 0 ? no_close : NULL};
    return (how & 8) == 0 ? s : NULL;
}

static const struct weir_transform *make_transform(struct maker *m)
{
    unsigned how = any(m);
    struct weir_transform *t = make(m, sizeof(*t));
    *t = (struct weir_transform){.size = (uint32_t)make_size(m, sizeof(*t)),
                                 .apply = (how & 1) == 0 ? no_apply : NULL};
    return (how & 8) == 0 ? t : NULL;
}

static const struct weir_sink *make_sink(struct maker *m)
{
    unsigned how = any(m);
    struct weir_sink *s = make(m, sizeof(*s));
    *s = (struct weir_sink){.size = (uint32_t)make_size(m, sizeof(*s)),
                            .batch_events = (uint32_t)make_size(m, 0),
                            .batch_bytes = (int64_t)make_size(m, 0),
                            .batch_timeout_ns = (int64_t)make_size(m, 0),
                            .in_flight = (uint32_t)make_size(m, 0),
                            .write = (how & 1) == 0 ? no_write : NULL,
                            .progress = (how & 2) == 0 ? NULL : no_progress,
                            .wake = (how & 4) == 0 ? NULL : no_close};
    return (how & 8) == 0 ? s : NULL;
}

static const struct weir_type *make_type(struct maker *m, unsigned i)
{
    struct weir_type *t = make(m, sizeof(*t));
    unsigned kind = any(m), which = any(m), calls = any(m);
    t->size = (uint32_t)make_size(m, sizeof(*t));
    t->kind = (enum weir_kind)(kind == 0 ? WEIR_SINK : kind % 5);
    t->name = make_name(m, i);
    t->summary = make_text(m, "S.");
    t->doc = make_text(m, NULL);
    if (t->kind == WEIR_SOURCE || which > 200)
        t->source = make_source(m);
    if (t->kind == WEIR_TRANSFORM || (which & 15) == 15)
        t->transform = make_transform(m);
    if (t->kind == WEIR_SINK || (which & 7) == 6)
        t->sink = make_sink(m);
    t->open = (calls & 1) == 0 ? no_open : NULL;
    t->close = (calls & 2) == 0 ? no_close : NULL;
    t->ports = (calls & 4) == 0 ? NULL : no_ports;
    if (m->n_tables < TABLES_MAX && !is_full(m))
        t->options = make_table(m, 0);
    t->options.stride = (uint32_t)make_size(m, t->options.stride);
    t->options.config_size = make_size(m, t->options.config_size);
    return t;
}

/* ---- The plugin ---- */

static const struct weir_service *make_services(struct maker *m)
{
    unsigned how = any(m), n = how % 4;
    struct weir_service *services = make(m, (n + 1) * sizeof(*services));
    for (unsigned i = 0; i < n; i++) {
        struct weir_condition_service *c = make(m, sizeof(*c));
        unsigned calls = any(m);
        *c = (struct weir_condition_service){(uint32_t)make_size(m, sizeof(*c)),
                                             (calls & 1) == 0 ? no_check : NULL,
                                             (calls & 2) == 0 ? no_service_open : NULL,
                                             (calls & 4) == 0 ? no_eval : NULL,
                                             (calls & 8) == 0 ? no_close : NULL};
        services[i] = (struct weir_service){make_text(m, WEIR_CONDITION_SERVICE),
                                            (calls & 16) == 0 ? c : NULL};
    }
    return how == 0 ? NULL : services;
}

static const struct weir_plugin *make_plugin(struct maker *m, size_t *ret_size)
{
    struct weir_plugin p = {.abi_major = (uint16_t)make_size(m, WEIR_ABI_MAJOR),
                            .abi_minor = (uint16_t)make_size(m, WEIR_ABI_MINOR),
                            .size = (uint32_t)make_size(m, sizeof(p)),
                            .name = make_name(m, 0),
                            .version = make_text(m, "1"),
                            .summary = make_text(m, "P."),
                            .license = make_text(m, "MIT")};
    unsigned cut = any(m), n = any(m) % 5;
    const struct weir_type **types = make(m, (n + 1) * sizeof(*types));
    p.services = make_services(m);
    for (unsigned i = 0; i < n; i++)
        types[i] = i > 0 && any(m) == 255 ? types[0] : make_type(m, i);
    p.types = cut == 255 ? NULL : types;
    *ret_size = cut < sizeof(p) ? sizeof(p) - cut : sizeof(p);
    void *object = make(m, *ret_size); /* it may end before what its struct has */
    memcpy(object, &p, *ret_size);
    return object;
}

/* ---- Using it ---- */

/* Something to put into an option, in flow style. */
static void add_value(struct maker *m, struct wr_buf *out, const struct weir_option *o,
                      enum weir_option_type type);

static void add_map(struct maker *m, struct wr_buf *out, const struct weir_options *t)
{
    wr_buf_text(out, "{");
    for (uint32_t i = 0; i < t->n && out->len < 16384; i++) {
        struct weir_option o = wr_option_at(t, i);
        wr_buf_printf(out, "%s\"%s\": ", i > 0 ? ", " : "", o.name);
        add_value(m, out, &o, o.type);
    }
    wr_buf_text(out, "}");
}

static void add_value(struct maker *m, struct wr_buf *out, const struct weir_option *o,
                      enum weir_option_type type)
{
    static const char *const words[] = {"1", "true", "2s", "4KiB", "0.5", "one", "'a{{ b }}'", "\"\"",
                                        "null", "[]", "{}", "'{{ b'", "[[1]]", "{x: {y: 1}}"};
    unsigned how = any(m);
    struct weir_options fields = wr_option_fields(o, sizeof(*o));
    if (type == WEIR_OPT_TABLE && how != 255) {
        add_map(m, out, &fields);
    } else if (type == WEIR_OPT_LIST && how < 128) {
        wr_buf_text(out, "[");
        add_value(m, out, o, o->of);
        wr_buf_text(out, ", ");
        add_value(m, out, o, o->of);
        wr_buf_text(out, "]");
    } else if (type == WEIR_OPT_MAP && how < 128) {
        wr_buf_text(out, "{k: ");
        add_value(m, out, o, o->of);
        wr_buf_text(out, ", l: ");
        add_value(m, out, o, o->of);
        wr_buf_text(out, "}");
    } else {
        wr_buf_text(out, words[how % WR_COUNT(words)]);
    }
}

static const struct weir_condition *some_condition(void *arg, struct weir_str text, struct weir_error *err)
{
    (void)text, (void)err;
    return arg;
}

/* How often each byte of a config struct is filled: options that share a place say nothing for sure. */
static bool mark(const struct weir_options *t, uint8_t *used)
{
    bool alone = true;
    for (uint32_t i = 0; i < t->n; i++) {
        struct weir_option o = wr_option_at(t, i);
        struct weir_options fields = wr_option_fields(&o, t->stride);
        if (o.type == WEIR_OPT_TABLE)
            alone = mark(&fields, used + o.offset) && alone;
        for (size_t k = 0; o.type != WEIR_OPT_TABLE && k < size_of(&o, o.type); k++)
            alone = ++used[o.offset + k] == 1 && alone;
    }
    return alone;
}

/* Reads what a plugin would read. */
static void read_config(const struct weir_options *t, const char *config);

static void read_value(const struct weir_option *o, enum weir_option_type type, uint32_t stride,
                       const char *at)
{
    struct weir_options fields = wr_option_fields(o, stride);
    const struct weir_str *s = (const void *)at;
    uint32_t n = 0;
    switch (type) {
    case WEIR_OPT_BOOL:
        WR_BUG_ON(*at != 0 && *at != 1);
        break;
    case WEIR_OPT_ENUM:
        while (o->choices[n] != NULL)
            n++;
        WR_BUG_ON((uint32_t)*(const int *)(const void *)at >= n);
        break;
    case WEIR_OPT_INT:
    case WEIR_OPT_SIZE:
    case WEIR_OPT_DURATION:
        WR_BUG_ON(*(const int64_t *)(const void *)at == INT64_MIN + 1);
        break;
    case WEIR_OPT_STRING:
    case WEIR_OPT_PATH:
        WR_BUG_ON(s->ptr != NULL && s->ptr[s->len] != '\0');
        break;
    case WEIR_OPT_TABLE:
        read_config(&fields, at);
        break;
    default:
        break;
    }
}

static void read_pair(const struct weir_option *o, uint32_t stride, const struct weir_pair *pair)
{
    int word = (int)pair->value.num;
    bool flag = pair->value.num != 0;
    WR_BUG_ON(pair->key.ptr[pair->key.len] != '\0');
    if (o->of == WEIR_OPT_TABLE)
        read_value(o, o->of, stride, pair->value.ptr);
    else if (o->of == WEIR_OPT_ENUM)
        read_value(o, o->of, stride, (const char *)&word);
    else if (o->of == WEIR_OPT_BOOL)
        read_value(o, o->of, stride, (const char *)&flag);
    else
        read_value(o, o->of, stride, (const char *)&pair->value);
}

static void read_config(const struct weir_options *t, const char *config)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct weir_option o = wr_option_at(t, i);
        if (o.type != WEIR_OPT_LIST && o.type != WEIR_OPT_MAP) {
            read_value(&o, o.type, t->stride, config + o.offset);
            continue;
        }
        const struct weir_list *list = (const void *)(config + o.offset);
        size_t size = o.type == WEIR_OPT_MAP ? sizeof(struct weir_pair) : size_of(&o, o.of);
        for (uint32_t k = 0; k < list->n; k++) {
            if (o.type == WEIR_OPT_MAP)
                read_pair(&o, t->stride, (const struct weir_pair *)list->items + k);
            else
                read_value(&o, o.of, t->stride, (const char *)list->items + k * size);
        }
    }
}

static void fill(struct maker *m, const struct weir_options *options)
{
    struct weir_arena a = {0};
    struct wr_diags *d = wr_diags_new();
    struct wr_conf conf = {0};
    struct wr_buf yaml = {0}, said = {0};
    add_map(m, &yaml, options);
    struct wr_text text = {weir_cstr("fuzz.yaml"), wr_buf_view(&yaml)};
    void *config = calloc(1, options->config_size);
    uint8_t *used = calloc(1, options->config_size);
    WR_BUG_ON(config == NULL || used == NULL);
    if (wr_conf_parse(&a, &text, d, &conf) && conf.root != NULL && conf.root->kind == WR_NODE_MAP) {
        struct wr_binder b = {.arena = &a, .diags = d, .dir = "/nowhere", .origin = conf.root->pos,
                              .condition = some_condition, .condition_arg = &a};
        struct wr_target target = {*options, config};
        bool ok = wr_options_bind(&b, &target, 1, conf.root, NULL, conf.root->pos);
        WR_BUG_ON(ok != (b.n_errors == 0) || (!ok && wr_diags_count(d, WR_ERROR) == 0));
        if (ok && mark(options, used))
            read_config(options, config);
    }
    wr_diags_print(d, &said, false);
    wr_buf_done(&said);
    wr_buf_done(&yaml);
    wr_diags_free(d);
    wr_arena_done(&a);
    free(config);
    free(used);
}

static void use(struct maker *m, const struct weir_plugin *p)
{
    for (uint32_t i = 0; p->types != NULL && p->types[i] != NULL; i++) {
        const struct weir_type *t = p->types[i];
        struct wr_buf out = {0};
        WR_BUG_ON(!wr_describe_type(t, &out, false));
        WR_BUG_ON(!wr_describe_type(t, &out, true));
        wr_buf_done(&out);
        if (t->options.n > 0)
            fill(m, &t->options);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct maker m;
    struct wr_buf why = {0};
    size_t symbol_size = 0;
    m.at = data;
    m.end = data + size;
    m.n_blocks = m.n_tables = 0;
    const struct weir_plugin *p = make_plugin(&m, &symbol_size);
    bool good = wr_plugin_check(p, symbol_size, &why);
    WR_BUG_ON(good != (why.len == 0));
    WR_BUG_ON(why.len > 1024 || (why.ptr != NULL && strchr(why.ptr, '\n') != NULL));
    if (good)
        use(&m, p);
    wr_buf_done(&why);
    while (m.n_blocks > 0)
        free(m.blocks[--m.n_blocks]);
    return 0;
}
