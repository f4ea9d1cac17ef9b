/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin's .so under a host of the test's own: for tests of one type without an engine. The
 * config is filled by the option table's offsets, a batch has one event, and its failure is kept.
 */
#ifndef TESTS_PLUGIN_RIG_H
#define TESTS_PLUGIN_RIG_H

#include <base/arena.h>
#include <dlfcn.h>
#include <engine/host.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/plugin.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct rig {
    struct weir_host host; /* first: the plugin's host pointer leads back here */
    const struct weir_type *type;
    struct weir_arena *arena; /* config and values */
    struct weir_arena *scratch;
    void *config;
    void *self;
    char mistakes[8000]; /* of check: "path: text" lines */
    uint32_t n_mistakes;
    void *shared;
    void (*shared_destroy)(void *take_shared);
    bool failed; /* the last event */
    char code[40];
    char message[1000];
};

static struct rig *rig_of(const struct weir_host *h)
{
    return (struct rig *)(uintptr_t)h->priv;
}

static inline const struct weir_value *rig_event_value(const struct weir_host *h,
                                                       struct weir_batch *b, struct weir_event *ev)
{
    (void)h;
    (void)b;
    return ev->value;
}

static inline void rig_event_fail(const struct weir_host *h, struct weir_batch *b,
                                  struct weir_event *ev, const struct weir_result *result)
{
    struct rig *r = rig_of(h);
    (void)b;
    assert_false(r->failed);
    assert_int_equal(result->verdict, WEIR_VERDICT_REJECTED);
    r->failed = true;
    ev->flags |= WEIR_EVENT_GONE;
    snprintf(r->code, sizeof(r->code), "%s", result->code);
    snprintf(r->message, sizeof(r->message), "%.*s", (int)result->message.len, result->message.ptr);
}

static inline uint64_t rig_random(const struct weir_host *h)
{
    (void)h;
    return UINT64_C(0x1234567890abcdef);
}

static inline void *rig_shared(const struct weir_host *h,
                               void *(*create)(const struct weir_host *h, const void *config,
                                               struct weir_error *err),
                               void (*destroy)(void *take_shared), struct weir_error *err)
{
    struct rig *r = rig_of(h);
    if (r->shared == NULL)
        r->shared = create(h, r->config, err);
    r->shared_destroy = destroy;
    return r->shared;
}

static inline struct weir_arena *rig_scratch(const struct weir_host *h)
{
    return rig_of(h)->scratch;
}

__attribute__((format(printf, 4, 5))) static inline void
rig_mistake(const struct weir_report *report, const char *path, int64_t offset, const char *fmt,
            ...)
{
    struct rig *r = report->priv;
    size_t n = strlen(r->mistakes);
    va_list args;
    (void)offset;
    assert_true(n + 1000 < sizeof(r->mistakes));
    n += (size_t)snprintf(r->mistakes + n, 500, "%s: ", path);
    va_start(args, fmt);
    n += (size_t)vsnprintf(r->mistakes + n, 490, fmt, args);
    va_end(args);
    snprintf(r->mistakes + n, 2, "\n");
    r->n_mistakes++;
}

/* Type number `which` of plugins/NAME.so. */
static inline void rig_init(struct rig *r, const char *name, uint32_t which)
{
    char path[4096];
    memset(r, 0, sizeof(*r));
    snprintf(path, sizeof(path), "%s/%s.so", WEIR_PLUGIN_BUILD_DIR, name);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        fail_msg("%s", dlerror());
    const struct weir_plugin *plugin = dlsym(object, "weir_plugin");
    assert_non_null(plugin);
    r->type = plugin->types[which];
    r->host = *wr_host_control();
    r->host.priv = r;
    r->host.count = 1;
    r->host.random = rig_random;
    r->host.event_value = rig_event_value;
    r->host.event_fail = rig_event_fail;
    r->host.scratch = rig_scratch;
    r->host.shared = rig_shared;
    r->arena = r->host.arena_new(&r->host);
    r->scratch = r->host.arena_new(&r->host);
    r->config = calloc(1, r->type->options.config_size);
}

static inline void rig_close(struct rig *r)
{
    if (r->self != NULL)
        r->type->close(r->self);
    r->self = NULL;
    if (r->shared != NULL)
        r->shared_destroy(r->shared);
    r->shared = NULL;
}

static inline void rig_done(struct rig *r)
{
    rig_close(r);
    r->host.arena_free(r->arena);
    r->host.arena_free(r->scratch);
    free(r->config);
}

/* Where an option stands in the config. */
static inline void *rig_option(struct rig *r, const char *name)
{
    for (uint32_t i = 0; i < r->type->options.n; i++)
        if (strcmp(r->type->options.items[i].name, name) == 0)
            return (char *)r->config + r->type->options.items[i].offset;
    fail_msg("no option %s", name);
    return NULL;
}

/* JSON with ' for ". */
static inline const struct weir_value *rig_json(struct rig *r, const char *text)
{
    struct weir_error err = {0};
    char *copy = strdup(text);
    for (char *p = copy; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    const struct weir_value *v = r->host.value_parse(r->arena, weir_cstr(copy), &err);
    if (v == NULL)
        fail_msg("%s: %s", copy, err.text);
    free(copy);
    return v;
}

/* Runs check; true where it found nothing. */
static inline bool rig_check(struct rig *r)
{
    const struct weir_report report = {.size = sizeof(report),
                                       .error = rig_mistake,
                                       .warning = rig_mistake,
                                       .priv = r,
                                       .host = &r->host};
    r->mistakes[0] = '\0';
    r->n_mistakes = 0;
    r->type->check(r->config, &report);
    return r->n_mistakes == 0;
}

static inline enum weir_status rig_open(struct rig *r)
{
    struct weir_error err = {0};
    rig_close(r);
    enum weir_status status = r->type->open(&r->host, r->config, &r->self, &err);
    if (status != WEIR_OK)
        snprintf(r->message, sizeof(r->message), "%s", err.text);
    return status;
}

/* One event through a transform; true where it passed. */
static inline bool rig_apply(struct rig *r, const struct weir_value *v)
{
    struct weir_event ev = {.value = v};
    struct weir_batch b = {.size = sizeof(b),
                           .stride = sizeof(ev),
                           .n_events = 1,
                           .cap_events = 1,
                           .events = &ev,
                           .arena = r->arena};
    struct weir_error err = {0};
    int64_t again = 0;
    r->failed = false;
    r->host.arena_clear(r->scratch);
    assert_int_equal(r->type->transform->apply(r->self, &b, &again, &err), WEIR_OK);
    return !r->failed;
}

#endif
