/* SPDX-License-Identifier: Apache-2.0
 *
 * Paths for the transform `map`: read once, walked an event.
 */
#include "path.h"

#include <stdio.h>
#include <string.h>

const char *type_words(enum weir_value_type type)
{
    static const char *const words[] = {"null",       "a boolean", "an integer",
                                        "an integer", "a float",   "a number",
                                        "a string",   "an array",  "an object"};
    return words[type];
}

static bool is_each(const struct step *s)
{
    return s->name.ptr == NULL && s->index == PATH_EACH;
}

/* ---- Reading ---- */

struct reader {
    const char *begin, *p, *end;
    const char *why;
};

static bool wrong(struct reader *r, const char *why)
{
    r->why = why;
    return false;
}

/* ["name"] or [0]; at the bracket. */
static bool read_bracket(struct reader *r, struct step *ret)
{
    static const char expected[] = "expected [0] or [\"name\"]";
    uint64_t index = 0;
    const char *p = r->p + 1;
    if (p < r->end && (*p == '"' || *p == '\'')) {
        const char *close = memchr(p + 1, *p, (size_t)(r->end - p - 1));
        if (close == NULL)
            return wrong(r, "the quoted name has no end");
        *ret = (struct step){weir_str_n(p + 1, (size_t)(close - p - 1)), 0};
        p = close + 1;
    } else {
        const char *first = p;
        if (p < r->end && *p == '*')
            index = PATH_EACH;
        for (; p < r->end && *p >= '0' && *p <= '9' && index <= UINT32_MAX; p++)
            index = index * 10 + (uint64_t)(*p - '0');
        if (index == PATH_EACH && p == first)
            p++;
        else if (p == first)
            return wrong(r, expected);
        else if (index > 1000000)
            return wrong(r, "the index is too large");
        *ret = (struct step){{NULL, 0}, (uint32_t)index};
    }
    if (p == r->end || *p != ']')
        return wrong(r, expected);
    r->p = p + 1;
    return true;
}

static bool read_name(struct reader *r, struct step *ret)
{
    const char *first = r->p;
    while (r->p < r->end && (unsigned char)*r->p > ' ' && strchr(".[]{}|\"'@", *r->p) == NULL)
        r->p++;
    *ret = (struct step){weir_str_n(first, (size_t)(r->p - first)), 0};
    if (r->p > first)
        return true;
    return wrong(r, r->p == r->begin ? "expected the name of a field"
                                     : "expected the name of a field behind the dot");
}

static bool read_steps(struct reader *r, struct step *steps, uint32_t *ret_n)
{
    for (bool more = true; more;) {
        if (*ret_n == PATH_STEPS_MAX)
            return wrong(r, "the path has more than 32 steps");
        bool bracket = r->p < r->end && *r->p == '[';
        if (!(bracket ? read_bracket(r, &steps[*ret_n]) : read_name(r, &steps[*ret_n])))
            return false;
        (*ret_n)++;
        bool dot = r->p < r->end && *r->p == '.';
        more = dot || (r->p < r->end && *r->p == '[');
        r->p += dot;
    }
    return r->p == r->end ||
           wrong(r, "expected a dot or a bracket; write other names as [\"odd name\"]");
}

const char *path_parse(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                       struct path *ret, size_t *ret_offset)
{
    struct step steps[PATH_STEPS_MAX];
    const char *begin = text.ptr != NULL ? text.ptr : "";
    struct reader r = {begin, begin, begin + text.len, NULL};
    uint32_t n = 0;
    *ret_offset = 0;
    if (!read_steps(&r, steps, &n)) {
        *ret_offset = (size_t)(r.p - r.begin);
        return r.why;
    }
    struct step *kept = h->arena_alloc(a, n * sizeof(*kept));
    if (kept == NULL)
        return "no memory for the path";
    memcpy(kept, steps, n * sizeof(*kept));
    *ret = (struct path){text, kept, n, false};
    for (uint32_t i = 0; i < n; i++)
        ret->each = ret->each || is_each(&kept[i]);
    return NULL;
}

/* ---- Walking ---- */

static const struct weir_value *step_into(const struct weir_host *h, const struct weir_value *v,
                                          const struct step *s)
{
    if (s->name.ptr != NULL)
        return h->value_get(v, s->name);
    return h->value_type(v) == WEIR_ARRAY ? h->value_at(v, s->index) : NULL;
}

/* A child of a value that can be changed can be changed as well. */
static struct weir_value *mutable_step(const struct weir_host *h, const struct weir_value *v,
                                       const struct step *s)
{
    return (struct weir_value *)(uintptr_t)step_into(h, v, s);
}

static const struct weir_value *get_n(const struct weir_host *h, const struct weir_value *v,
                                      const struct path *p, uint32_t n)
{
    for (uint32_t i = 0; i < n && v != NULL; i++)
        v = step_into(h, v, &p->steps[i]);
    return v;
}

const struct weir_value *path_get(const struct weir_host *h, const struct weir_value *root,
                                  const struct path *p)
{
    return get_n(h, root, p, p->n);
}

/* Puts v at one step below `parent`. */
static bool put(const struct weir_host *h, struct weir_arena *a, struct weir_value *parent,
                const struct step *s, struct weir_value *v)
{
    if (s->name.ptr != NULL)
        return h->object_set(a, parent, s->name, v);
    if (s->index == h->value_count(parent))
        return h->array_append(a, parent, v);
    return h->array_set(a, parent, s->index, v);
}

/* Whether a step can be taken, or made, below v. */
static bool fits(const struct weir_host *h, const struct weir_value *v, const struct path *p,
                 uint32_t at, char why[200])
{
    const struct step *s = &p->steps[at];
    enum weir_value_type type = h->value_type(v);
    if (s->name.ptr != NULL && type == WEIR_OBJECT)
        return true;
    if (s->name.ptr == NULL && type == WEIR_ARRAY) {
        if (s->index <= h->value_count(v))
            return true;
        (void)snprintf(why, 200, "[%u] is beyond the end of an array of %u", s->index,
                       h->value_count(v));
        return false;
    }
    (void)snprintf(why, 200, "step %u of the path needs %s, found %s", at + 1,
                   s->name.ptr != NULL ? "an object" : "an array", type_words(type));
    return false;
}

/* What is made for the next step to stand in. */
static struct weir_value *make_container(const struct weir_host *h, struct weir_arena *a,
                                         const struct step *next)
{
    return next->name.ptr != NULL ? h->make_object(a) : h->make_array(a);
}

bool path_set(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
              const struct path *p, struct weir_value *take_v, char why[200])
{
    struct weir_value *at = root;
    why[0] = '\0';
    for (uint32_t i = 0; i < p->n; i++) {
        if (!fits(h, at, p, i, why))
            return false;
        if (i + 1 == p->n)
            break;
        struct weir_value *child = mutable_step(h, at, &p->steps[i]);
        if (child == NULL || h->value_type(child) == WEIR_NULL) {
            child = make_container(h, a, &p->steps[i + 1]);
            if (!put(h, a, at, &p->steps[i], child))
                return false;
        }
        at = child;
    }
    return put(h, a, at, &p->steps[p->n - 1], take_v);
}

bool path_remove(const struct weir_host *h, struct weir_value *root, const struct path *p)
{
    const struct step *last = &p->steps[p->n - 1];
    struct weir_value *parent = (struct weir_value *)(uintptr_t)get_n(h, root, p, p->n - 1);
    if (parent == NULL)
        return false;
    if (last->name.ptr != NULL)
        return h->value_type(parent) == WEIR_OBJECT && h->object_remove(parent, last->name);
    return h->value_type(parent) == WEIR_ARRAY && last->index < h->value_count(parent) &&
           h->array_remove(parent, last->index);
}

/* ---- Walking where [*] leads ---- */

static bool visit(const struct weir_host *h, const struct weir_value *v, const struct path *p,
                  uint32_t at, path_fn *fn, void *arg)
{
    struct weir_value *unused = NULL;
    if (v == NULL)
        return true;
    if (at == p->n)
        return fn(arg, v, &unused);
    if (!is_each(&p->steps[at]))
        return visit(h, step_into(h, v, &p->steps[at]), p, at + 1, fn, arg);
    if (h->value_type(v) != WEIR_ARRAY)
        return true;
    struct weir_value_iter it = h->value_iter(v);
    for (const struct weir_value *e; (e = h->value_next(&it, NULL)) != NULL;)
        if (!visit(h, e, p, at + 1, fn, arg))
            return false;
    return true;
}

bool path_visit(const struct weir_host *h, const struct weir_value *root, const struct path *p,
                path_fn *fn, void *arg)
{
    return visit(h, root, p, 0, fn, arg);
}

/* Items go from the front to the end, one by one: setting them by index would be quadratic. */
static bool replace_items(const struct weir_host *h, struct weir_arena *a, struct weir_value *array,
                          path_fn *fn, void *arg)
{
    for (uint32_t n = h->value_count(array); n > 0; n--) {
        const struct weir_value *e = h->value_at(array, 0);
        struct weir_value *made = NULL;
        if (!fn(arg, e, &made))
            return false;
        if (made == NULL)
            made = h->make_copy(a, e);
        if (made == NULL || !h->array_remove(array, 0) || !h->array_append(a, array, made))
            return false;
    }
    return true;
}

static bool replace(const struct weir_host *h, struct weir_arena *a, struct weir_value *v,
                    const struct path *p, uint32_t at, path_fn *fn, void *arg)
{
    const struct step *s = &p->steps[at];
    bool last = at + 1 == p->n;
    struct weir_value *made = NULL;
    if (v == NULL || (is_each(s) && h->value_type(v) != WEIR_ARRAY))
        return true;
    if (is_each(s) && last)
        return replace_items(h, a, v, fn, arg);
    if (is_each(s)) {
        struct weir_value_iter it = h->value_iter(v);
        for (const struct weir_value *e; (e = h->value_next(&it, NULL)) != NULL;)
            if (!replace(h, a, (struct weir_value *)(uintptr_t)e, p, at + 1, fn, arg))
                return false;
        return true;
    }
    struct weir_value *child = mutable_step(h, v, s);
    if (!last || child == NULL)
        return replace(h, a, child, p, at + 1, fn, arg);
    return fn(arg, child, &made) && (made == NULL || put(h, a, v, s, made));
}

bool path_replace(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                  const struct path *p, path_fn *fn, void *arg)
{
    return replace(h, a, root, p, 0, fn, arg);
}

struct remover {
    const struct weir_host *h;
    const struct step *last;
};

static bool remove_below(void *arg, const struct weir_value *v, struct weir_value **ret)
{
    const struct remover *r = arg;
    const struct path p = {.steps = (struct step *)(uintptr_t)r->last, .n = 1};
    (void)ret;
    (void)path_remove(r->h, (struct weir_value *)(uintptr_t)v, &p);
    return true;
}

void path_remove_each(const struct weir_host *h, struct weir_value *root, const struct path *p)
{
    struct remover r = {h, &p->steps[p->n - 1]};
    struct path parents = *p;
    parents.n--;
    (void)visit(h, root, &parents, 0, remove_below, &r);
}

/* ---- Duplicate keys ---- */

static uint32_t count_key(const struct weir_host *h, const struct weir_value *v,
                          struct weir_str name)
{
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    uint32_t n = 0;
    if (h->value_type(v) != WEIR_OBJECT)
        return 0;
    while (h->value_next(&it, &key) != NULL)
        n += key.len == name.len && memcmp(key.ptr, name.ptr, name.len) == 0;
    return n;
}

static bool has_twins(const struct weir_host *h, const struct weir_value *v, const struct path *p,
                      uint32_t at)
{
    if (v == NULL || at == p->n)
        return false;
    const struct step *s = &p->steps[at];
    if (is_each(s)) {
        struct weir_value_iter it = h->value_iter(v);
        if (h->value_type(v) != WEIR_ARRAY)
            return false;
        for (const struct weir_value *e; (e = h->value_next(&it, NULL)) != NULL;)
            if (has_twins(h, e, p, at + 1))
                return true;
        return false;
    }
    if (s->name.ptr != NULL && count_key(h, v, s->name) > 1)
        return true;
    return has_twins(h, step_into(h, v, s), p, at + 1);
}

bool path_has_twins(const struct weir_host *h, const struct weir_value *root, const struct path *p)
{
    return has_twins(h, root, p, 0);
}

static bool drop_twins(const struct weir_host *h, struct weir_arena *a, struct weir_value *v,
                       const struct path *p, uint32_t at)
{
    if (v == NULL || at == p->n)
        return true;
    const struct step *s = &p->steps[at];
    if (is_each(s)) {
        struct weir_value_iter it = h->value_iter(v);
        if (h->value_type(v) != WEIR_ARRAY)
            return true;
        for (const struct weir_value *e; (e = h->value_next(&it, NULL)) != NULL;)
            if (!drop_twins(h, a, (struct weir_value *)(uintptr_t)e, p, at + 1))
                return false;
        return true;
    }
    if (s->name.ptr != NULL && count_key(h, v, s->name) > 1 &&
        !h->object_set(a, v, s->name, h->make_copy(a, h->value_get(v, s->name))))
        return false;
    return drop_twins(h, a, mutable_step(h, v, s), p, at + 1);
}

bool path_drop_twins(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                     const struct path *p)
{
    return drop_twins(h, a, root, p, 0);
}

/* ---- Two paths ---- */

static uint32_t behind_each(const struct path *p)
{
    uint32_t n = p->n;
    while (n > 0 && !is_each(&p->steps[n - 1]))
        n--;
    return n;
}

struct path path_until_each(const struct path *p)
{
    return (struct path){p->text, p->steps, behind_each(p), true};
}

struct path path_below_each(const struct path *p)
{
    uint32_t n = behind_each(p);
    return (struct path){p->text, p->steps + n, p->n - n, false};
}

static bool same_step(const struct step *a, const struct step *b)
{
    if ((a->name.ptr == NULL) != (b->name.ptr == NULL))
        return false;
    if (a->name.ptr == NULL)
        return a->index == b->index;
    return a->name.len == b->name.len && memcmp(a->name.ptr, b->name.ptr, a->name.len) == 0;
}

bool path_equal(const struct path *a, const struct path *b)
{
    for (uint32_t i = 0; a->n == b->n && i < a->n; i++)
        if (!same_step(&a->steps[i], &b->steps[i]))
            return false;
    return a->n == b->n;
}

bool path_siblings(const struct path *a, const struct path *b)
{
    if (a->n != b->n || a->steps[a->n - 1].name.ptr == NULL || b->steps[b->n - 1].name.ptr == NULL)
        return false;
    for (uint32_t i = 0; i + 1 < a->n; i++)
        if (!same_step(&a->steps[i], &b->steps[i]))
            return false;
    return true;
}

bool path_rename(const struct weir_host *h, struct weir_arena *a, struct weir_value *root,
                 const struct path *from, const struct path *to)
{
    struct weir_value *parent = (struct weir_value *)(uintptr_t)get_n(h, root, from, from->n - 1);
    return h->object_rename(a, parent, from->steps[from->n - 1].name, to->steps[to->n - 1].name);
}
