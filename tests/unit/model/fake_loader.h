/* SPDX-License-Identifier: Apache-2.0
 *
 * fake_loader.h: a loader with component types made for tests: every option type, ports,
 * conditions. It stands in for engine/loader.c, which the linker then leaves out. For one .c file a
 * program.
 */
#ifndef FAKE_LOADER_H
#define FAKE_LOADER_H

#include <base/error.h>
#include <base/str.h>
#include <engine/loader.h>

enum fake_level { FAKE_LOW, FAKE_MIDDLE, FAKE_HIGH };

struct fake_tls {
    bool on;
    struct weir_str ca;
    int64_t depth;
};

struct fake_route {
    struct weir_str to;
    int64_t weight;
};

/* Of the source "src". */
struct fake_config {
    bool flag;
    int64_t count;
    double ratio;
    struct weir_str text, secret, path;
    int64_t wait, size;
    int level;
    struct weir_template *topic;
    const struct weir_value *any;
    struct fake_tls tls;
    struct weir_list words, numbers, levels, flags, waits, routes;
    struct weir_list settings, limits, switches, by_name, tables;
};

static const char *const fake_levels[] = {"low", "middle", "high", NULL};

static const struct weir_option fake_tls_options[] = {
    {.name = "on",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct fake_tls, on),
     .def = "true",
     .doc = "Whether it is on."},
    {.name = "ca",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct fake_tls, ca),
     .doc = "Authorities.",
     .flags = WEIR_OPT_REQUIRED},
    {.name = "depth",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct fake_tls, depth),
     .def = "3",
     .min = 1,
     .max = 9,
     .doc = "Depth of the chain."},
};

static const struct weir_option fake_route_options[] = {
    {.name = "to",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED,
     .offset = offsetof(struct fake_route, to),
     .doc = "Where to."},
    {.name = "weight",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct fake_route, weight),
     .def = "1",
     .doc = "How much of it."},
};

#define FAKE_AT(member) .offset = offsetof(struct fake_config, member)

static const struct weir_option fake_options[] = {
    {.name = "flag", .type = WEIR_OPT_BOOL, FAKE_AT(flag), .doc = "A flag."},
    {.name = "count",
     .type = WEIR_OPT_INT,
     FAKE_AT(count),
     .def = "7",
     .min = -5,
     .max = 100,
     .doc = "A count.",
     .example = "12"},
    {.name = "number",
     .type = WEIR_OPT_INT,
     FAKE_AT(count),
     .min = -5,
     .max = 100,
     .deprecated_by = "count",
     .doc = "A count, once."},
    {.name = "ratio",
     .type = WEIR_OPT_FLOAT,
     FAKE_AT(ratio),
     .def = "0.5",
     .min = 0,
     .max = 1,
     .doc = "A ratio."},
    {.name = "text",
     .type = WEIR_OPT_STRING,
     FAKE_AT(text),
     .def = "{plain: {{ text",
     .doc = "A text."},
    {.name = "secret",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,
     FAKE_AT(secret),
     .doc = "A secret."},
    {.name = "path", .type = WEIR_OPT_PATH, FAKE_AT(path), .doc = "A path."},
    {.name = "wait",
     .type = WEIR_OPT_DURATION,
     FAKE_AT(wait),
     .def = "1.5s",
     .min = 1000000,
     .max = INT64_MAX,
     .doc = "A wait."},
    {.name = "size",
     .type = WEIR_OPT_SIZE,
     FAKE_AT(size),
     .def = "4KiB",
     .max = 1 << 20,
     .doc = "A size."},
    {.name = "level",
     .type = WEIR_OPT_ENUM,
     FAKE_AT(level),
     .def = "middle",
     .choices = fake_levels,
     .doc = "A level."},
    {.name = "topic",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_PREFIXED,
     FAKE_AT(topic),
     .doc = "A topic."},
    {.name = "any", .type = WEIR_OPT_VALUE, FAKE_AT(any), .doc = "Any value."},
    {.name = "tls",
     .type = WEIR_OPT_TABLE,
     FAKE_AT(tls),
     WEIR_FIELDS(fake_tls_options),
     .doc = "How it is kept secret."},
    {.name = "words",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     FAKE_AT(words),
     .def = "[a, \"b c\"]",
     .doc = "Some words."},
    {.name = "numbers",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_INT,
     .min = 1,
     .max = 10,
     FAKE_AT(numbers),
     .doc = "Some numbers."},
    {.name = "levels",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_ENUM,
     .choices = fake_levels,
     FAKE_AT(levels),
     .doc = "Some levels."},
    {.name = "flags",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_BOOL,
     FAKE_AT(flags),
     .doc = "Some flags."},
    {.name = "waits",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_DURATION,
     FAKE_AT(waits),
     .doc = "Some waits."},
    {.name = "routes",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TABLE,
     FAKE_AT(routes),
     WEIR_FIELDS(fake_route_options),
     .fields_size = sizeof(struct fake_route),
     .doc = "Some routes."},
    {.name = "settings",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_STRING,
     FAKE_AT(settings),
     .doc = "Some settings.",
     .flags = WEIR_OPT_ADVANCED},
    {.name = "limits",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_INT,
     .max = 99,
     FAKE_AT(limits),
     .doc = "Some limits."},
    {.name = "switches",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_BOOL,
     FAKE_AT(switches),
     .doc = "Some switches."},
    {.name = "by_name",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_ENUM,
     .choices = fake_levels,
     FAKE_AT(by_name),
     .doc = "Levels by name."},
    {.name = "tables",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TABLE,
     FAKE_AT(tables),
     WEIR_FIELDS(fake_route_options),
     .fields_size = sizeof(struct fake_route),
     .doc = "Routes by name."},
};

/* A check of its own: a text may not hold "no". */
static void fake_check(const void *config, const struct weir_report *r)
{
    const struct fake_config *c = config;
    const char *no = c->text.ptr != NULL ? strstr(c->text.ptr, "no") : NULL;

    if (no != NULL)
        r->error(r, "text", no - c->text.ptr, "the text says %s", "no");
    if (c->text.ptr != NULL && strcmp(c->text.ptr, "leak") == 0)
        r->error(r, "secret", -1, "<%s> and <%s>", c->secret.ptr, c->secret.ptr);
    if (c->count == 13)
        r->warning(r, "count", -1, "an unlucky number");
    for (uint32_t i = 0; i < c->words.n; i++) {
        char path[32];
        const struct weir_str *w = (const struct weir_str *)c->words.items + i;
        snprintf(path, sizeof(path), "words[%u]", i);
        if (wr_str_is(*w, "bad"))
            r->error(r, path, 0, "a bad word");
    }
    for (uint32_t i = 0; i < c->settings.n; i++) {
        const struct weir_pair *pair = (const struct weir_pair *)c->settings.items + i;
        char path[300];
        snprintf(path, sizeof(path), "settings.%s", pair->key.ptr);
        if (wr_str_is(pair->value.str, "bad"))
            r->error(r, path, 1, "a bad setting");
    }
}

/* Of the transform "route". */
struct fake_route_config {
    struct weir_list routes; /* name: condition */
    bool unnamed;
};

static const struct weir_option fake_ports_options[] = {
    {.name = "routes",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_CONDITION,
     .offset = offsetof(struct fake_route_config, routes),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "Ports and their conditions."},
    {.name = "unnamed",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct fake_route_config, unnamed),
     .doc = "Whether there is an unnamed way, too."},
};

static void fake_ports(const struct weir_host *h, const void *config,
                       void (*add)(void *arg, struct weir_str name), void *arg)
{
    const struct fake_route_config *c = config;
    (void)h;

    for (uint32_t i = 0; i < c->routes.n; i++)
        add(arg, ((const struct weir_pair *)c->routes.items)[i].key);
    add(arg, weir_cstr("other"));
    if (c->unnamed)
        add(arg, weir_cstr(""));
}

/* Of the transform "pass" and the sinks. */
struct fake_small_config {
    struct weir_template *key;
    struct weir_condition *when;
    bool ordered;
};

static const struct weir_option fake_small_options[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct fake_small_config, key),
     .doc = "A key."},
    {.name = "when",
     .type = WEIR_OPT_CONDITION,
     .offset = offsetof(struct fake_small_config, when),
     .doc = "A condition."},
    {.name = "ordered",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct fake_small_config, ordered),
     .doc = "Whether writes are applied in order."},
};

static uint32_t fake_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    return ((const struct fake_small_config *)config)->ordered ? WEIR_TRAIT_ORDERED : 0;
}

static const struct weir_source fake_source = {.size = sizeof(fake_source)};
static const struct weir_transform fake_transform = {.size = sizeof(fake_transform)};
static const struct weir_sink fake_sink = {.size = sizeof(fake_sink),
                                           .batch_events = 250,
                                           .batch_bytes = 1 << 16,
                                           .batch_timeout_ns = 5 * WEIR_NS_PER_MS,
                                           .in_flight = 3};

static const struct weir_type fake_src = {.size = sizeof(fake_src),
                                          .kind = WEIR_SOURCE,
                                          .name = "src",
                                          .summary = "A source of tests.",
                                          .doc = "It has every kind of option.",
                                          .options = WEIR_OPTIONS(fake_options, struct fake_config),
                                          .source = &fake_source,
                                          .check = fake_check};
static const struct weir_type fake_pass = {
    .size = sizeof(fake_pass),
    .kind = WEIR_TRANSFORM,
    .name = "pass",
    .summary = "A transform of tests.",
    .options = WEIR_OPTIONS(fake_small_options, struct fake_small_config),
    .transform = &fake_transform};
static const struct weir_type fake_routes = {
    .size = sizeof(fake_routes),
    .kind = WEIR_TRANSFORM,
    .name = "route",
    .summary = "A transform with ports.",
    .options = WEIR_OPTIONS(fake_ports_options, struct fake_route_config),
    .transform = &fake_transform,
    .ports = fake_ports};
static const struct weir_type fake_out = {
    .size = sizeof(fake_out),
    .kind = WEIR_SINK,
    .name = "out",
    .summary = "A sink of tests.",
    .needs_always = WEIR_NEEDS_PAYLOAD,
    .options = WEIR_OPTIONS(fake_small_options, struct fake_small_config),
    .sink = &fake_sink,
    .traits = fake_traits};

/* Its option belongs to the core. It is found by its name, and listed nowhere. */
static const struct weir_option fake_clash_options[] = {
    {.name = "batch", .type = WEIR_OPT_INT, .doc = "A clash."}};
static const struct weir_type fake_clash = {.size = sizeof(fake_clash),
                                            .kind = WEIR_SINK,
                                            .name = "clash",
                                            .summary = "A sink that breaks the rules.",
                                            .options = WEIR_OPTIONS(fake_clash_options, int64_t),
                                            .sink = &fake_sink};

static const struct weir_type *const fake_types[] = {&fake_src, &fake_pass, &fake_routes, &fake_out,
                                                     NULL};

static const struct weir_plugin fake_plugin = {.abi_major = WEIR_ABI_MAJOR,
                                               .size = sizeof(fake_plugin),
                                               .name = "fake",
                                               .version = "1.2.3",
                                               .summary = "Types for tests.",
                                               .license = "Apache-2.0",
                                               .types = fake_types};
static const struct wr_plugin fake_loaded = {&fake_plugin, {"/plugins/fake.so", 16}};

/* "!!" is no expression. */
static enum weir_status fake_condition_check(struct weir_str text, struct weir_error *err)
{
    const char *bad = memmem(text.ptr, text.len, "!!", 2);

    if (bad == NULL)
        return WEIR_OK;
    wr_error(err, WEIR_E_CONFIG, "lua_syntax", "unexpected symbol near '!!'");
    err->offset = bad - text.ptr;
    return WEIR_E_CONFIG;
}

static const struct weir_condition_service fake_conditions = {.size = sizeof(fake_conditions),
                                                              .check = fake_condition_check};
static bool fake_no_conditions;
/* Types of a test's own, which come first. */
static const struct weir_type *fake_more;
static size_t fake_n_more;

struct wr_loader *wr_loader_new(const char *const *dirs)
{
    (void)dirs;
    return NULL;
}

void wr_loader_free(struct wr_loader *l)
{
    (void)l;
}

const struct weir_type *wr_loader_type(struct wr_loader *l, enum weir_kind kind,
                                       struct weir_str name, const struct wr_plugin **ret_plugin)
{
    (void)l;
    for (size_t i = 0; i < fake_n_more; i++)
        if (fake_more[i].kind == kind && wr_str_is(name, fake_more[i].name))
            return &fake_more[i];
    if (kind == WEIR_SINK && wr_str_is(name, fake_clash.name))
        return &fake_clash;
    for (uint32_t i = 0; fake_types[i] != NULL; i++) {
        if (fake_types[i]->kind != kind || !wr_str_is(name, fake_types[i]->name))
            continue;
        if (ret_plugin != NULL)
            *ret_plugin = &fake_loaded;
        return fake_types[i];
    }
    return NULL;
}

const void *wr_loader_service(struct wr_loader *l, const char *name)
{
    (void)l;
    return strcmp(name, WEIR_CONDITION_SERVICE) == 0 && !fake_no_conditions ? &fake_conditions
                                                                            : NULL;
}

void wr_loader_all(struct wr_loader *l)
{
    (void)l;
}

uint32_t wr_loader_count(const struct wr_loader *l)
{
    (void)l;
    return 1;
}

const struct wr_plugin *wr_loader_at(const struct wr_loader *l, uint32_t i)
{
    (void)l;
    (void)i;
    return &fake_loaded;
}

uint32_t wr_loader_n_dirs(const struct wr_loader *l)
{
    (void)l;
    return 1;
}

const char *wr_loader_dir(const struct wr_loader *l, uint32_t i)
{
    (void)l;
    (void)i;
    return "/plugins";
}

uint32_t wr_loader_n_bad(const struct wr_loader *l)
{
    (void)l;
    return 1;
}

const char *wr_loader_bad(const struct wr_loader *l, uint32_t i)
{
    (void)l;
    (void)i;
    return "/plugins/broken.so: it is no ELF file";
}

uint32_t wr_loader_n_shadowed(const struct wr_loader *l)
{
    (void)l;
    return 0;
}

const char *wr_loader_shadowed(const struct wr_loader *l, uint32_t i)
{
    (void)l;
    (void)i;
    return "";
}

#endif
