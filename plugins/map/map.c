/* SPDX-License-Identifier: Apache-2.0
 *
 * Transform `map`: fields renamed, filled, set, cast, removed and kept, in that order whatever the
 * order of the file. An event that none of it concerns passes byte for byte. What cannot be done
 * fails the event as it came; what becomes of it is the host's option on_error.
 */
#include "cast.h"
#include "keep.h"
#include "path.h"
#include "../common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct config {
    struct weir_list rename;   /* STRING */
    struct weir_list defaults; /* VALUE */
    struct weir_list values;   /* VALUE */
    struct weir_list set;      /* TEMPLATE */
    struct weir_list cast;     /* ENUM */
    struct weir_list remove;   /* struct weir_str */
    struct weir_list keep;     /* struct weir_str */
};

/* One entry of one of the lists. */
struct edit {
    struct path path;
    union {
        struct path to;
        const struct weir_value *value;
        const struct weir_template *template;
        enum cast cast;
    } by;
};

struct edits {
    struct edit *items;
    uint32_t n;
};

struct map {
    const struct weir_host *h;
    struct weir_arena *arena;
    struct edits rename, defaults, values, set, cast, remove;
    struct keep_node keep;
    bool keeps;
};

static const struct weir_option options[] = {
    {.name = "rename",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, rename),
     .doc =
         "1. Fields to rename or move: old path to new path. What is not there is left out; what "
         "was at the new path is replaced.",
     .example = "{userId: user_id, props.amt: amount}"},
    {.name = "default",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, defaults),
     .doc = "2. Values for fields that are missing; null counts as there.",
     .example = "{country: unknown, props.amount: 0}"},
    {.name = "values",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, values),
     .doc = "3. Constant values to set, of any type.",
     .example = "{version: 2, source: {name: web, tags: [a, b]}}"},
    {.name = "set",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, set),
     .doc =
         "4. Fields to set from templates, each seeing those before it. A bare {{ field }} copies "
         "the value with its type, all else gives text.",
     .example = "{name: \"{{ first }} {{ last }}\", user: \"{{ raw.user }}\"}"},
    {.name = "cast",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_ENUM,
     .choices = cast_words,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, cast),
     .doc = "5. Fields to give another type; missing and null stay as they are.",
     .example = "{user_id: string, age: int, ts: time}"},
    {.name = "remove",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, remove),
     .doc = "6. Fields to take out.",
     .example = "[password, props.debug]"},
    {.name = "keep",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, keep),
     .doc = "7. The only fields that stay; paths of names.",
     .example = "[user_id, type, props.amount]"},
};

/* ---- Reading the options ---- */

/* Hears of each mistake; where: "rename.userId". */
struct mistakes {
    void (*say)(struct mistakes *m, const char *where, const char *text);
    const struct weir_report *report;
    char first[WEIR_ERROR_TEXT];
    uint32_t n;
};

/* `key`: of the entry in a map; NULL in a list. */
static void bad_path(struct mistakes *m, const char *option, const struct weir_str *key,
                     uint32_t index, struct weir_str text, const char *why, size_t offset)
{
    char where[300], what[400];
    if (key == NULL)
        (void)snprintf(where, sizeof(where), "%s[%u]", option, index);
    else
        (void)snprintf(where, sizeof(where), "%s.%.*s", option,
                       (int)utf8_cut(key->ptr, key->len, 200), key->ptr);
    (void)snprintf(what, sizeof(what), "\"%.*s\" at byte %zu: %s",
                   (int)utf8_cut(text.ptr, text.len, 200), text.ptr != NULL ? text.ptr : "", offset,
                   why);
    m->n++;
    m->say(m, where, what);
}

static bool read_path(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const char *option, const struct weir_str *key, uint32_t index,
                      struct weir_str text, struct path *ret)
{
    size_t offset;
    const char *why = path_parse(h, a, text, ret, &offset);
    if (why != NULL)
        bad_path(m, option, key, index, text, why, offset);
    return why == NULL;
}

static struct edit *make_edits(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                               uint32_t n)
{
    struct edit *items = h->arena_alloc(a, (n + 1) * sizeof(*items));
    if (items != NULL) {
        memset(items, 0, (n + 1) * sizeof(*items));
    } else {
        m->n++;
        m->say(m, "", "no memory for the options");
    }
    return items;
}

enum content { TO_PATH, TO_VALUE, TO_TEMPLATE, TO_CAST };

static void read_map(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                     const char *option, const struct weir_list *map, enum content content,
                     struct edits *ret)
{
    const struct weir_pair *pairs = map->items;
    *ret = (struct edits){make_edits(h, a, m, map->n), 0};
    for (uint32_t i = 0; ret->items != NULL && i < map->n; i++) {
        struct edit *e = &ret->items[ret->n];
        bool good = read_path(h, a, m, option, &pairs[i].key, i, pairs[i].key, &e->path);
        if (content == TO_PATH)
            good =
                read_path(h, a, m, option, &pairs[i].key, i, pairs[i].value.str, &e->by.to) && good;
        else if (content == TO_VALUE)
            e->by.value = pairs[i].value.ptr;
        else if (content == TO_TEMPLATE)
            e->by.template = pairs[i].value.ptr;
        else
            e->by.cast = (enum cast)pairs[i].value.num;
        ret->n += good;
    }
}

static void read_remove(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                        const struct weir_list *list, struct edits *ret)
{
    const struct weir_str *texts = list->items;
    *ret = (struct edits){make_edits(h, a, m, list->n), 0};
    for (uint32_t i = 0; ret->items != NULL && i < list->n; i++)
        ret->n += read_path(h, a, m, "remove", NULL, i, texts[i], &ret->items[ret->n].path);
}

static void read_keep(const struct weir_host *h, struct weir_arena *a, struct mistakes *m,
                      const struct weir_list *list, struct keep_node *root)
{
    const struct weir_str *texts = list->items;
    for (uint32_t i = 0; i < list->n; i++) {
        struct path p;
        bool names = true;
        if (!read_path(h, a, m, "keep", NULL, i, texts[i], &p))
            continue;
        for (uint32_t k = 0; k < p.n; k++)
            names = names && p.steps[k].name.ptr != NULL;
        if (!names)
            bad_path(m, "keep", NULL, i, texts[i], "items of arrays cannot be kept one by one", 0);
        else if (!keep_add(h, a, root, &p))
            bad_path(m, "keep", NULL, i, texts[i], "no memory", 0);
    }
}

/* Fills all but h of *ret. */
static void read_options(const struct weir_host *h, struct weir_arena *a, const struct config *cf,
                         struct mistakes *m, struct map *ret)
{
    ret->arena = a;
    read_map(h, a, m, "rename", &cf->rename, TO_PATH, &ret->rename);
    read_map(h, a, m, "default", &cf->defaults, TO_VALUE, &ret->defaults);
    read_map(h, a, m, "values", &cf->values, TO_VALUE, &ret->values);
    read_map(h, a, m, "set", &cf->set, TO_TEMPLATE, &ret->set);
    read_map(h, a, m, "cast", &cf->cast, TO_CAST, &ret->cast);
    read_remove(h, a, m, &cf->remove, &ret->remove);
    read_keep(h, a, m, &cf->keep, &ret->keep);
    ret->keeps = cf->keep.n > 0;
}

/* ---- check ---- */

static void report_mistake(struct mistakes *m, const char *where, const char *text)
{
    m->report->error(m->report, where, -1, "%s", text);
}

static void check_twice(const struct config *cf, const struct weir_report *report)
{
    const struct weir_pair *set = cf->set.items, *values = cf->values.items;
    for (uint32_t i = 0; i < cf->set.n; i++)
        for (uint32_t k = 0; k < cf->values.n; k++) {
            char where[300];
            if (set[i].key.len != values[k].key.len ||
                memcmp(set[i].key.ptr, values[k].key.ptr, set[i].key.len) != 0)
                continue;
            (void)snprintf(where, sizeof(where), "set.%.*s",
                           (int)utf8_cut(set[i].key.ptr, set[i].key.len, 200), set[i].key.ptr);
            report->error(
                report, where, -1,
                "values sets this field as well, and would be overwritten: leave out one");
        }
}

static void map_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    const struct weir_host *h = report->host;
    struct mistakes m = {.say = report_mistake, .report = report};
    struct map map = {0};
    struct weir_arena *a = h->arena_new(h);
    if (a == NULL) {
        report->error(report, "", -1, "no memory to check the options");
        return;
    }
    if (cf->rename.n + cf->defaults.n + cf->values.n + cf->set.n + cf->cast.n + cf->remove.n +
            cf->keep.n ==
        0)
        report->error(report, "", -1,
                      "nothing to do: expected at least one of rename, default, values, set, cast, "
                      "remove and keep");
    read_options(h, a, cf, &m, &map);
    check_twice(cf, report);
    h->arena_free(a);
}

/* ---- Life ---- */

static void keep_first(struct mistakes *m, const char *where, const char *text)
{
    if (m->n == 1)
        (void)snprintf(m->first, sizeof(m->first), "%.150s: %.200s", where, text);
}

static void map_close(void *take_self)
{
    struct map *self = take_self;
    if (self == NULL)
        return;
    if (self->arena != NULL)
        self->h->arena_free(self->arena);
    self->h->free(self);
}

static enum weir_status map_open(const struct weir_host *h, const void *config, void **ret_self,
                                 struct weir_error *err)
{
    struct mistakes m = {.say = keep_first};
    struct map *self = h->alloc(sizeof(*self));
    struct weir_arena *a = self != NULL ? h->arena_new(h) : NULL;
    if (a == NULL) {
        h->free(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the transform");
    }
    self->h = h;
    read_options(h, a, config, &m, self);
    if (m.n > 0) {
        map_close(self);
        return h->error(err, WEIR_E_CONFIG, "bad_path", "%s", m.first);
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Applying ---- */

struct job {
    const struct map *map;
    const struct weir_host *h;
    struct weir_batch *b;
    struct weir_event *ev;
    const struct weir_value *v; /* as it is now */
    struct weir_value *edited;  /* the same, once it may be changed */
};

WEIR_PRINTF(4, 5)
static bool fail(struct job *j, const char *code, const struct path *p, const char *fmt, ...)
{
    char why[400], text[600];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    (void)snprintf(text, sizeof(text), "%.*s: %s", (int)utf8_cut(p->text.ptr, p->text.len, 120),
                   p->text.ptr, why);
    const struct weir_result result = {
        .verdict = WEIR_VERDICT_REJECTED, .code = code, .message = weir_cstr(text)};
    j->h->event_fail(j->h, j->b, j->ev, &result);
    return false;
}

static bool no_memory(struct job *j, const struct path *p)
{
    return fail(j, "no_memory", p, "no memory to change the event");
}

/* Makes the event's value changeable. False: the host has failed the event. */
static bool edit(struct job *j)
{
    if (j->edited == NULL)
        j->v = j->edited = j->h->event_edit(j->h, j->b, j->ev);
    return j->edited != NULL;
}

static bool put(struct job *j, const struct path *p, struct weir_value *v)
{
    char why[200];
    if (v == NULL)
        return no_memory(j, p);
    if (!edit(j))
        return false;
    if (path_set(j->h, j->b->arena, j->edited, p, v, why))
        return true;
    return why[0] == '\0' ? no_memory(j, p) : fail(j, "bad_path", p, "%s", why);
}

static bool apply_rename(struct job *j, const struct edit *e)
{
    const struct weir_value *old = path_get(j->h, j->v, &e->path);
    if (old == NULL)
        return true;
    if (!edit(j))
        return false;
    if (path_siblings(&e->path, &e->by.to))
        return path_rename(j->h, j->b->arena, j->edited, &e->path, &e->by.to) ||
               no_memory(j, &e->path);
    struct weir_value *copy = j->h->make_copy(j->b->arena, path_get(j->h, j->edited, &e->path));
    (void)path_remove(j->h, j->edited, &e->path);
    return put(j, &e->by.to, copy);
}

static bool apply_default(struct job *j, const struct edit *e)
{
    if (path_get(j->h, j->v, &e->path) != NULL)
        return true;
    return put(j, &e->path, j->h->make_copy(j->b->arena, e->by.value));
}

static bool apply_value(struct job *j, const struct edit *e)
{
    return put(j, &e->path, j->h->make_copy(j->b->arena, e->by.value));
}

static bool apply_set(struct job *j, const struct edit *e)
{
    const struct weir_host *h = j->h;
    struct weir_error err = {0};
    const struct weir_value *v = h->template_value(h, e->by.template, j->b, j->ev);
    if (v != NULL)
        return put(j, &e->path, h->make_copy(j->b->arena, v));
    struct weir_str text = h->template_render(h, e->by.template, j->b, j->ev, j->b->arena, &err);
    if (text.ptr == NULL)
        return fail(j, "no_field", &e->path, "%s", err.text);
    struct weir_value *made = h->make_str(j->b->arena, text);
    if (made == NULL)
        return fail(j, "not_utf8", &e->path, "the text would not be UTF-8");
    return put(j, &e->path, made);
}

static bool apply_cast(struct job *j, const struct edit *e)
{
    const struct weir_host *h = j->h;
    const char *expected = NULL;
    struct weir_value *made = NULL;
    const struct weir_value *v = path_get(h, j->v, &e->path);
    if (v == NULL)
        return true;
    switch (cast_value(h, j->b->arena, e->by.cast, v, &made, &expected)) {
    case CAST_SAME:
        return true;
    case CAST_DONE:
        return put(j, &e->path, made);
    case CAST_NO_MEMORY:
        return no_memory(j, &e->path);
    case CAST_WRONG:
        break;
    }
    struct weir_str s = h->value_str(v);
    return fail(j, "bad_cast", &e->path, "cannot become %s: expected %s, found %s%s%.*s%s",
                cast_words[e->by.cast], expected, type_words(h->value_type(v)),
                s.len > 0 ? " \"" : "", (int)utf8_cut(s.ptr, s.len, 60), s.len > 0 ? s.ptr : "",
                s.len > 60  ? "...\""
                : s.len > 0 ? "\""
                            : "");
}

static bool apply_remove(struct job *j, const struct edit *e)
{
    if (path_get(j->h, j->v, &e->path) == NULL)
        return true;
    if (!edit(j))
        return false;
    (void)path_remove(j->h, j->edited, &e->path);
    return true;
}

static bool apply_all(struct job *j, const struct edits *edits,
                      bool (*fn)(struct job *j, const struct edit *e))
{
    for (uint32_t i = 0; i < edits->n; i++)
        if (!fn(j, &edits->items[i]))
            return false;
    return true;
}

static void apply_keep(struct job *j)
{
    const struct path whole = {.text = {"keep", 4}};
    if (!j->map->keeps || !keep_changes(j->h, &j->map->keep, j->v))
        return;
    struct weir_value *kept = keep_copy(j->h, j->b->arena, &j->map->keep, j->v);
    if (kept != NULL)
        j->h->event_set_value(j->h, j->b, j->ev, kept);
    else
        (void)no_memory(j, &whole);
}

static void apply_one(struct job *j)
{
    const struct map *map = j->map;
    const struct path whole = {.text = {"the event", 9}};
    j->v = j->h->event_value(j->h, j->b, j->ev);
    if (j->v == NULL)
        return;
    if (j->h->value_type(j->v) != WEIR_OBJECT) {
        (void)fail(j, "not_object", &whole, "expected an object, found %s",
                   type_words(j->h->value_type(j->v)));
        return;
    }
    if (apply_all(j, &map->rename, apply_rename) && apply_all(j, &map->defaults, apply_default) &&
        apply_all(j, &map->values, apply_value) && apply_all(j, &map->set, apply_set) &&
        apply_all(j, &map->cast, apply_cast) && apply_all(j, &map->remove, apply_remove))
        apply_keep(j);
}

static enum weir_status map_apply(void *self, struct weir_batch *b, int64_t *ret_again_ns,
                                  struct weir_error *err)
{
    const struct map *map = self;
    (void)ret_again_ns;
    (void)err;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct job j = {.map = map, .h = map->h, .b = b, .ev = weir_event_at(b, i)};
        if ((j.ev->flags & WEIR_EVENT_GONE) == 0)
            apply_one(&j);
    }
    return WEIR_OK;
}

static const struct weir_transform transform = {
    .size = sizeof(transform),
    .apply = map_apply,
};

static const struct weir_type type_map = {
    .size = sizeof(type_map),
    .kind = WEIR_TRANSFORM,
    .name = "map",
    .summary = "Renames, fills, sets, casts, removes and keeps fields.",
    .doc =
        "The steps run in this order, whatever their order in the file: `rename`, `default`, "
        "`values`, `set`, `cast`, `remove`, `keep`; within a step in the order of the file. For "
        "another order use two `map`s. Events that nothing changes pass byte for byte.\n"
        "\n"
        "**Paths** are written as in templates: `user.name`, `items[0].price`, `[\"odd.name\"]`. "
        "Where "
        "something is set, objects and arrays are made on the way where there is nothing or null; "
        "an "
        "array takes the index behind its last one to append. A parent of another type fails the "
        "event (`bad_path`).\n"
        "\n"
        "**Casts.** `string`: numbers and booleans as JSON writes them. `int`: numbers without a "
        "fraction in 64 bits, numeric strings, booleans as 0 and 1. `float`: numbers and numeric "
        "strings, to the nearest double. `bool`: 0, 1, and the strings true, false, 0, 1. `json`: "
        "anything, as its JSON text. `time`: RFC 3339 in any offset, to UTC. `time_from_s`, "
        "`time_from_ms`: seconds or milliseconds since 1970, to RFC 3339 in UTC. `epoch_s`, "
        "`epoch_ms`: RFC 3339 to whole seconds or milliseconds since 1970. What cannot be cast "
        "fails "
        "the event (`bad_cast`); missing and null stay as they are.\n"
        "\n"
        "**Fails** also: an event that is no object (`not_object`), a template whose field is "
        "missing and has no default (`no_field`). A failed event goes on as it came, to where "
        "`on_error` says.",
    .needs_always = WEIR_NEEDS_VALUE,
    .options = WEIR_OPTIONS(options, struct config),
    .transform = &transform,
    .check = map_check,
    .open = map_open,
    .close = map_close,
};

static const struct weir_type *const types[] = {&type_map, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "map", "0.1.0", "Fields renamed, set, cast, removed.",
               "Apache-2.0",    types, NULL};
