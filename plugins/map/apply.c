/* SPDX-License-Identifier: Apache-2.0
 *
 * One event after the other through the steps of a `map`. The event is only copied to be changed
 * once something of it changes; an event that fails is given back as it came by the host.
 */
#include "map.h"
#include "../common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* ---- Duplicate keys ---- */

/* What is to be hidden may stand a second time under a duplicate key, where no path leads, and some
 * readers take the last one. */
static bool drop_twins(struct job *j, const struct path *p)
{
    if (!path_has_twins(j->h, j->v, p))
        return true;
    if (!edit(j))
        return false;
    return path_drop_twins(j->h, j->b->arena, j->edited, p) || no_memory(j, p);
}

/* ---- rename ---- */

/* Below `root`, which may be changed. */
static bool rename_in(struct job *j, struct weir_value *root, const struct path *from,
                      const struct path *to)
{
    const struct weir_value *old = path_get(j->h, root, from);
    char why[200] = "";
    if (old == NULL)
        return true;
    if (path_siblings(from, to))
        return path_rename(j->h, j->b->arena, root, from, to) || no_memory(j, from);
    struct weir_value *copy = j->h->make_copy(j->b->arena, old);
    (void)path_remove(j->h, root, from);
    if (copy != NULL && path_set(j->h, j->b->arena, root, to, copy, why))
        return true;
    return why[0] == '\0' ? no_memory(j, to) : fail(j, "bad_path", to, "%s", why);
}

struct renaming {
    struct job *j;
    struct path from, to; /* below the item */
};

static bool rename_item(void *arg, const struct weir_value *v, struct weir_value **ret)
{
    const struct renaming *r = arg;
    (void)ret;
    return rename_in(r->j, (struct weir_value *)(uintptr_t)v, &r->from, &r->to);
}

static bool stop_at_first(void *arg, const struct weir_value *v, struct weir_value **ret)
{
    (void)arg;
    (void)v;
    (void)ret;
    return false;
}

/* Whether the path leads nowhere. */
static bool is_missing(const struct job *j, const struct path *p)
{
    return path_visit(j->h, j->v, p, stop_at_first, NULL);
}

/* What is renamed may be hidden under its new name, here or later. */
static bool apply_rename(struct job *j, const struct edit *e)
{
    if (!drop_twins(j, &e->path))
        return false;
    if (is_missing(j, &e->path))
        return true;
    if (!edit(j))
        return false;
    if (!e->path.each)
        return rename_in(j, j->edited, &e->path, &e->by.to);
    struct renaming r = {j, path_below_each(&e->path), path_below_each(&e->by.to)};
    struct path items = path_until_each(&e->path);
    return path_visit(j->h, j->edited, &items, rename_item, &r);
}

/* ---- default, values, set ---- */

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

/* ---- Values made of values: cast, time, hash, mask ---- */

typedef enum cast_result convert_fn(const struct job *j, const struct edit *e,
                                    const struct weir_value *v, struct weir_value **ret,
                                    const char **ret_expected);

static convert_fn time_one;

/* A walk over the values of one path. */
struct conversion {
    struct job *j;
    const struct edit *e;
    convert_fn *convert;
    bool changes, failed;
};

/* `what`: "cannot become int". */
static bool fail_value(struct job *j, const char *code, const struct edit *e, const char *what,
                       const char *expected, const struct weir_value *v)
{
    struct weir_str s = j->h->value_str(v);
    return fail(j, code, &e->path, "%s: expected %s, found %s%s%.*s%s", what, expected,
                type_words(j->h->value_type(v)), s.len > 0 ? " \"" : "",
                (int)utf8_cut(s.ptr, s.len, 60), s.len > 0 ? s.ptr : "",
                s.len > 60  ? "...\""
                : s.len > 0 ? "\""
                            : "");
}

static bool fail_conversion(const struct conversion *c, const struct weir_value *v,
                            const char *expected)
{
    char what[120];
    if (c->convert == time_one)
        return fail_value(c->j, "bad_time", c->e, "cannot be written anew", expected, v);
    (void)snprintf(what, sizeof(what), "cannot become %s", cast_words[c->e->by.cast]);
    return fail_value(c->j, "bad_cast", c->e, what, expected, v);
}

static bool convert_one(void *arg, const struct weir_value *v, struct weir_value **ret)
{
    struct conversion *c = arg;
    const char *expected = NULL;
    switch (c->convert(c->j, c->e, v, ret, &expected)) {
    case CAST_SAME:
        return true;
    case CAST_DONE:
        c->changes = true;
        return true;
    case CAST_NO_MEMORY:
        c->failed = true;
        return no_memory(c->j, &c->e->path);
    case CAST_WRONG:
        break;
    }
    c->failed = true;
    return fail_conversion(c, v, expected);
}

/* Looks before it changes, so that events that need no change pass byte for byte. */
static bool convert(struct job *j, const struct edit *e, convert_fn *fn)
{
    struct conversion c = {j, e, fn, false, false};
    if (!path_visit(j->h, j->v, &e->path, convert_one, &c))
        return false;
    if (!c.changes)
        return true;
    if (!edit(j))
        return false;
    if (path_replace(j->h, j->b->arena, j->edited, &e->path, convert_one, &c))
        return true;
    return c.failed ? false : no_memory(j, &e->path);
}

static enum cast_result cast_one(const struct job *j, const struct edit *e,
                                 const struct weir_value *v, struct weir_value **ret,
                                 const char **ret_expected)
{
    return cast_value(j->h, j->b->arena, e->by.cast, v, ret, ret_expected);
}

static enum cast_result time_one(const struct job *j, const struct edit *e,
                                 const struct weir_value *v, struct weir_value **ret,
                                 const char **ret_expected)
{
    return time_convert(j->h, j->b->arena, &e->by.time, v, ret, ret_expected);
}

static enum cast_result hash_one(const struct job *j, const struct edit *e,
                                 const struct weir_value *v, struct weir_value **ret,
                                 const char **ret_expected)
{
    (void)e;
    (void)ret_expected;
    if (j->h->value_type(v) == WEIR_NULL)
        return CAST_SAME;
    *ret = hash_value(j->h, j->b->arena, j->map->hash_key, v);
    return *ret != NULL ? CAST_DONE : CAST_NO_MEMORY;
}

static enum cast_result mask_one(const struct job *j, const struct edit *e,
                                 const struct weir_value *v, struct weir_value **ret,
                                 const char **ret_expected)
{
    (void)ret_expected;
    if (j->h->value_type(v) == WEIR_NULL)
        return CAST_SAME;
    *ret = mask_value(j->h, j->b->arena, e->by.mask, v);
    return *ret != NULL ? CAST_DONE : CAST_NO_MEMORY;
}

static bool apply_cast(struct job *j, const struct edit *e)
{
    return convert(j, e, cast_one);
}

static bool apply_time(struct job *j, const struct edit *e)
{
    return convert(j, e, time_one);
}

static bool apply_hash(struct job *j, const struct edit *e)
{
    return drop_twins(j, &e->path) && convert(j, e, hash_one);
}

static bool apply_mask(struct job *j, const struct edit *e)
{
    return drop_twins(j, &e->path) && convert(j, e, mask_one);
}

/* ---- The rest, and all in turn ---- */

static bool apply_remove(struct job *j, const struct edit *e)
{
    if (!drop_twins(j, &e->path))
        return false;
    if (is_missing(j, &e->path))
        return true;
    if (!edit(j))
        return false;
    if (e->path.each)
        path_remove_each(j->h, j->edited, &e->path);
    else
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
        apply_all(j, &map->cast, apply_cast) && apply_all(j, &map->time, apply_time) &&
        apply_all(j, &map->hash, apply_hash) && apply_all(j, &map->mask, apply_mask) &&
        apply_all(j, &map->remove, apply_remove))
        apply_keep(j);
}

enum weir_status map_apply(void *self, struct weir_batch *b, int64_t *ret_again_ns,
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
