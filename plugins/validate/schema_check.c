/* SPDX-License-Identifier: Apache-2.0
 *
 * A value against a schema. The first failure that counts is put into words and ends the check;
 * inside anyOf, oneOf, not, if and contains failures are part of the question (`quiet`) and are
 * not. Nothing is allocated but for uniqueItems, propertyNames and unevaluated..., which use the
 * scratch arena. What an event can cost is bounded by SCHEMA_STEPS_MAX.
 */
#include "schema_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool check(struct run *r, const struct schema *s, const struct weir_value *v);

/* ---- Failures ---- */

WEIR_PRINTF(3, 4)
static size_t append(char *text, size_t n, const char *fmt, ...)
{
    va_list args;
    if (n >= FAILURE_TEXT)
        return n;
    va_start(args, fmt);
    int k = vsnprintf(text + n, FAILURE_TEXT - n, fmt, args);
    va_end(args);
    return n + (k > 0 ? (size_t)k : 0);
}

/* A JSON pointer to the value that is looked at. */
static size_t append_path(const struct run *r, char *text, size_t n)
{
    char name[2 * POINTER_NAME_MAX + 1];
    if (r->depth == 0)
        return append(text, n, "the event");
    for (uint32_t i = 0; i < r->depth && n < 200; i++) {
        const struct step *s = &r->path[i];
        if (s->key.ptr == NULL)
            n = append(text, n, "/%u", s->index);
        else
            n = append(text, n, "/%s", pointer_part(s->key, name));
    }
    return n;
}

/* "/age: expected a number >= 0, found -1 (#/properties/age/minimum)" */
bool run_fail(struct run *r, const struct schema *s, const char *keyword,
              const struct weir_value *v, const char *fmt, ...)
{
    char what[160], found[100], place[160];
    if (r->quiet > 0 || r->code != NULL)
        return false;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    r->code = "invalid";
    size_t n = append_path(r, r->text, 0);
    n = append(r->text, n, ": expected %.*s", (int)utf8_cut(what, strlen(what), 140), what);
    if (v != NULL) {
        value_describe(r->h, v, found, sizeof(found));
        n = append(r->text, n, ", found %s", found);
    }
    place_text(s->place, true, place, sizeof(place));
    n = append(r->text, n, " (#%.*s/%s)", (int)utf8_cut(place, strlen(place), 120), place, keyword);
    if (n >= FAILURE_TEXT)
        r->text[utf8_cut(r->text, FAILURE_TEXT, FAILURE_TEXT - 4)] = '\0';
    return false;
}

/* Ends the whole check. */
bool run_stop(struct run *r, const char *code, const char *text)
{
    if (r->code == NULL) {
        r->code = code;
        (void)append(r->text, append_path(r, r->text, 0), ": %s", text);
    }
    return false;
}

bool run_spend(struct run *r, uint64_t steps)
{
    r->steps += steps;
    return r->steps <= SCHEMA_STEPS_MAX ||
           run_stop(r, "too_complex", "the schema needs more than 5000000 steps for this event");
}

/* What one look at a value costs beside the first step. */
static uint64_t weight(const struct run *r, const struct weir_value *v)
{
    switch (r->h->value_type(v)) {
    case WEIR_STRING:
    case WEIR_BIGNUM:
        return r->h->value_str(v).len / STEP_BYTES;
    case WEIR_ARRAY:
    case WEIR_OBJECT:
        return r->h->value_count(v) / STEP_MEMBERS;
    default:
        return 0;
    }
}

static bool enter(struct run *r, struct step step)
{
    if (r->depth == VALUE_DEPTH_MAX)
        return run_stop(r, "too_deep", "the value is nested deeper than 128 levels");
    r->path[r->depth++] = step;
    return true;
}

bool run_inside(struct run *r, const struct schema *s, const struct weir_value *v, struct step step)
{
    if (s == NULL)
        return true;
    if (!enter(r, step))
        return false;
    bool valid = check(r, s, v);
    r->depth--;
    return valid;
}

/* Whether it is valid, without a word. */
bool run_holds(struct run *r, const struct schema *s, const struct weir_value *v)
{
    r->quiet++;
    bool valid = check(r, s, v);
    r->quiet--;
    return valid;
}

/* ---- Any value ---- */

static uint32_t types_of(const struct run *r, const struct weir_value *v)
{
    switch (r->h->value_type(v)) {
    case WEIR_NULL:
        return TYPE_NULL;
    case WEIR_BOOL:
        return TYPE_BOOLEAN;
    case WEIR_STRING:
        return TYPE_STRING;
    case WEIR_ARRAY:
        return TYPE_ARRAY;
    case WEIR_OBJECT:
        return TYPE_OBJECT;
    default:
        return value_is_integer(r->h, v) ? TYPE_NUMBER | TYPE_INTEGER : TYPE_NUMBER;
    }
}

static const char *types_words(uint8_t types, char text[80])
{
    static const char *const words[] = {"null",   "boolean", "integer", "number",
                                        "string", "array",   "object"};
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < 7; i++)
        if ((types >> i & 1) != 0)
            n += (size_t)snprintf(text + n, 80 - n, "%s%s", n > 0 ? " or " : "", words[i]);
    return text;
}

static bool check_choices(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct weir_value *choice;
    char first[80];
    if (s->constant != NULL && !r->h->value_equal(s->constant, v)) {
        value_describe(r->h, s->constant, first, sizeof(first));
        return run_fail(r, s, "const", v, "%s", first);
    }
    if (s->choices == NULL)
        return true;
    if (!run_spend(r, r->h->value_count(s->choices) / STEP_MEMBERS))
        return false;
    struct weir_value_iter it = r->h->value_iter(s->choices);
    while ((choice = r->h->value_next(&it, NULL)) != NULL)
        if (r->h->value_equal(choice, v))
            return true;
    struct weir_str list = {NULL, 0};
    if (r->quiet == 0)
        list = r->h->value_write(r->c->scratch, s->choices);
    return run_fail(r, s, "enum", v, "one of %.*s%s", (int)utf8_cut(list.ptr, list.len, 100),
                    list.ptr != NULL ? list.ptr : "", list.len > 100 ? "..." : "");
}

static bool check_all(struct run *r, const struct schema_list *list, const struct weir_value *v)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (!check(r, list->items[i], v))
            return false;
    return true;
}

static bool check_any(struct run *r, const struct schema *s, const struct weir_value *v)
{
    if (s->any_of.n == 0)
        return true;
    if (s->any_of.n == 1)
        return check(r, s->any_of.items[0], v);
    for (uint32_t i = 0; i < s->any_of.n; i++)
        if (run_holds(r, s->any_of.items[i], v))
            return true;
    return run_fail(r, s, "anyOf", v, "a value that at least one of %u schemas allows",
                    s->any_of.n);
}

static bool check_one(struct run *r, const struct schema *s, const struct weir_value *v)
{
    uint32_t first = UINT32_MAX;
    if (s->one_of.n == 0)
        return true;
    if (s->one_of.n == 1)
        return check(r, s->one_of.items[0], v);
    for (uint32_t i = 0; i < s->one_of.n; i++) {
        if (!run_holds(r, s->one_of.items[i], v))
            continue;
        if (first != UINT32_MAX)
            return run_fail(r, s, "oneOf", v,
                            "a value that one schema alone allows, not both %u and %u", first, i);
        first = i;
    }
    return first != UINT32_MAX ||
           run_fail(r, s, "oneOf", v, "a value that one of %u schemas allows", s->one_of.n);
}

static bool check_applied(struct run *r, const struct schema *s, const struct weir_value *v)
{
    if (s->ref != NULL && !check(r, s->ref, v))
        return false;
    if (!check_all(r, &s->all_of, v) || !check_any(r, s, v) || !check_one(r, s, v))
        return false;
    if (s->not_ != NULL && run_holds(r, s->not_, v))
        return run_fail(r, s, "not", v, "a value that this schema does not allow");
    if (s->if_ == NULL)
        return true;
    const struct schema *then = run_holds(r, s->if_, v) ? s->then_ : s->else_;
    return then == NULL || check(r, then, v);
}

/* ---- Strings and numbers ---- */

static int64_t count_code_points(struct weir_str s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.ptr[i] & 0xC0u) != 0x80u;
    return n;
}

/* False also where it cannot be known; the check ends then. */
bool run_matches(struct run *r, const struct pattern *p, struct weir_str text)
{
    char words[240];
    enum pattern_result result = pattern_match(p, r->c->matcher, text, &r->pattern_steps);
    if (result != PATTERN_TOO_MUCH)
        return result == PATTERN_YES;
    struct weir_str pattern = pattern_text(p);
    (void)snprintf(words, sizeof(words), "%s the pattern %.*s",
                   r->pattern_steps == 0
                       ? "the steps that patterns may take for one event are used "
                         "up, the last by"
                       : "more memory is needed than there is to match",
                   (int)utf8_cut(pattern.ptr, pattern.len, 100), pattern.ptr);
    return run_stop(r, "too_complex", words);
}

static bool check_string(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct string_rules *rules = s->string;
    struct weir_str text = r->h->value_str(v);
    bool short_enough = rules->max < 0 || text.len <= (size_t)rules->max;
    if (rules->min > 0 || !short_enough) {
        int64_t n = count_code_points(text);
        if (n < rules->min)
            return run_fail(r, s, "minLength", v, "at least %lld characters",
                            (long long)rules->min);
        if (!short_enough && n > rules->max)
            return run_fail(r, s, "maxLength", v, "at most %lld characters", (long long)rules->max);
    }
    if (rules->pattern != NULL && !run_matches(r, rules->pattern, text)) {
        struct weir_str pattern = pattern_text(rules->pattern);
        return run_fail(r, s, "pattern", v, "a string that matches %.*s",
                        (int)utf8_cut(pattern.ptr, pattern.len, 100), pattern.ptr);
    }
    if (!format_check(rules->format, text))
        return run_fail(r, s, "format", v, "a string of format %s", format_name(rules->format));
    return true;
}

static bool fail_limit(struct run *r, const struct schema *s, const char *keyword,
                       const struct weir_value *v, const char *relation, struct number limit)
{
    if (limit.kind == NUMBER_REAL)
        return run_fail(r, s, keyword, v, "a number %s %.15g", relation, limit.d);
    if (limit.kind == NUMBER_UINT)
        return run_fail(r, s, keyword, v, "a number %s %llu", relation,
                        (unsigned long long)limit.u);
    return run_fail(r, s, keyword, v, "a number %s %lld", relation, (long long)limit.i);
}

static bool check_number(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct number_rules *rules = s->number;
    struct number n = number_of(r->h, v);
    char divisor[60];
    if (rules->minimum.kind != NUMBER_NONE && number_compare(n, rules->minimum) < 0)
        return fail_limit(r, s, "minimum", v, ">=", rules->minimum);
    if (rules->maximum.kind != NUMBER_NONE && number_compare(n, rules->maximum) > 0)
        return fail_limit(r, s, "maximum", v, "<=", rules->maximum);
    if (rules->above.kind != NUMBER_NONE && number_compare(n, rules->above) <= 0)
        return fail_limit(r, s, "exclusiveMinimum", v, ">", rules->above);
    if (rules->below.kind != NUMBER_NONE && number_compare(n, rules->below) >= 0)
        return fail_limit(r, s, "exclusiveMaximum", v, "<", rules->below);
    if (rules->multiple_of.digits == 0 || number_is_multiple(r->h, v, rules->multiple_of))
        return true;
    value_describe(r->h, rules->multiple_of_value, divisor, sizeof(divisor));
    return run_fail(r, s, "multipleOf", v, "a multiple of %s", divisor);
}

/* ---- Arrays ---- */

static bool check_contains(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct array_rules *rules = s->array;
    int64_t min = rules->min_contains >= 0 ? rules->min_contains : 1, n = 0;
    struct weir_value_iter it = r->h->value_iter(v);
    for (const struct weir_value *e; (e = r->h->value_next(&it, NULL)) != NULL && r->code == NULL;)
        n += run_holds(r, rules->contains, e);
    if (n < min)
        return run_fail(r, s, "contains", v, "at least %lld items of the kind in contains",
                        (long long)min);
    if (rules->max_contains >= 0 && n > rules->max_contains)
        return run_fail(r, s, "maxContains", v, "at most %lld items of the kind in contains",
                        (long long)rules->max_contains);
    return true;
}

static bool check_array(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct array_rules *rules = s->array;
    uint32_t n = r->h->value_count(v);
    if (rules->min >= 0 && n < rules->min)
        return run_fail(r, s, "minItems", v, "at least %lld items", (long long)rules->min);
    if (rules->max >= 0 && n > rules->max)
        return run_fail(r, s, "maxItems", v, "at most %lld items", (long long)rules->max);
    struct weir_value_iter it = r->h->value_iter(v);
    const struct weir_value *e;
    for (uint32_t i = 0;
         (i < rules->prefix.n || rules->items != NULL) && (e = r->h->value_next(&it, NULL)) != NULL;
         i++) {
        const struct schema *item = i < rules->prefix.n ? rules->prefix.items[i] : rules->items;
        if (!run_inside(r, item, e, (struct step){{NULL, 0}, i}))
            return false;
    }
    if (rules->contains != NULL && !check_contains(r, s, v))
        return false;
    return !rules->unique || run_check_unique(r, s, v);
}

/* ---- Objects ---- */

static bool check_required(struct run *r, const struct schema *s, const struct weir_value *v,
                           const char *keyword, const struct weir_str *names, uint32_t n)
{
    if (!run_spend(r, (uint64_t)n * r->h->value_count(v) / STEP_BYTES))
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (r->h->value_get(v, names[i]) == NULL)
            return run_fail(r, s, keyword, v, "property \"%.*s\"",
                            (int)utf8_cut(names[i].ptr, names[i].len, 100), names[i].ptr);
    return true;
}

static bool check_name(struct run *r, const struct schema *s, struct weir_str key)
{
    if (s->object->names == NULL)
        return true;
    const struct weir_value *name = r->h->make_str(r->c->scratch, key);
    if (name == NULL)
        return run_stop(r, "no_memory", "no memory to check a property's name");
    return run_inside(r, s->object->names, name, (struct step){key, 0});
}

static bool check_member(struct run *r, const struct schema *s, struct weir_str key,
                         const struct weir_value *v)
{
    const struct object_rules *rules = s->object;
    const struct step step = {weir_str_n(key.ptr != NULL ? key.ptr : "", key.len), 0};
    const struct property *p = rules->table != NULL ? property_find(rules, key) : NULL;
    bool known = p != NULL && p->name.ptr != NULL;
    if (known && !run_inside(r, p->schema, v, step))
        return false;
    for (uint32_t i = 0; i < rules->n_patterns; i++) {
        if (!run_matches(r, rules->patterns[i].pattern, key)) {
            if (r->code != NULL)
                return false;
            continue;
        }
        known = true;
        if (!run_inside(r, rules->patterns[i].schema, v, step))
            return false;
    }
    if (known || rules->additional == NULL)
        return true;
    if (rules->additional->never)
        return run_fail(r, s, "additionalProperties", NULL, "no property \"%.*s\"",
                        (int)utf8_cut(key.ptr, key.len, 100), step.key.ptr);
    return run_inside(r, rules->additional, v, step);
}

static bool check_dependents(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct object_rules *rules = s->object;
    for (uint32_t i = 0; i < rules->n_dependents; i++) {
        const struct dependent *d = &rules->dependents[i];
        if (r->h->value_get(v, d->name) == NULL)
            continue;
        if (!check_required(r, s, v, "dependentRequired", d->required, d->n) ||
            (d->schema != NULL && !check(r, d->schema, v)))
            return false;
    }
    return true;
}

static bool check_object(struct run *r, const struct schema *s, const struct weir_value *v)
{
    const struct object_rules *rules = s->object;
    uint32_t n = r->h->value_count(v);
    if (rules->min >= 0 && n < rules->min)
        return run_fail(r, s, "minProperties", v, "at least %lld properties",
                        (long long)rules->min);
    if (rules->max >= 0 && n > rules->max)
        return run_fail(r, s, "maxProperties", v, "at most %lld properties", (long long)rules->max);
    if (!check_required(r, s, v, "required", rules->required, rules->n_required) ||
        !check_dependents(r, s, v))
        return false;
    if (rules->table == NULL && rules->n_patterns == 0 && rules->additional == NULL &&
        rules->names == NULL)
        return true;
    struct weir_value_iter it = r->h->value_iter(v);
    struct weir_str key = {NULL, 0};
    for (const struct weir_value *e; (e = r->h->value_next(&it, &key)) != NULL;)
        if (!run_spend(r, key.len / STEP_BYTES) || !check_name(r, s, key) ||
            !check_member(r, s, key, e))
            return false;
    return true;
}

/* ---- All of it ---- */

static bool check(struct run *r, const struct schema *s, const struct weir_value *v)
{
    char words[80];
    if (r->code != NULL)
        return false;
    if (!run_spend(r, 1 + weight(r, v)))
        return false;
    if (s->never)
        return run_fail(r, s, "false", v, "no value");
    uint32_t types = types_of(r, v);
    if (s->types != 0 && (s->types & types) == 0)
        return run_fail(r, s, "type", v, "%s", types_words(s->types, words));
    if (!check_choices(r, s, v))
        return false;
    if (s->object != NULL && (types & TYPE_OBJECT) != 0 && !check_object(r, s, v))
        return false;
    if (s->string != NULL && (types & TYPE_STRING) != 0 && !check_string(r, s, v))
        return false;
    if (s->number != NULL && (types & TYPE_NUMBER) != 0 && !check_number(r, s, v))
        return false;
    if (s->array != NULL && (types & TYPE_ARRAY) != 0 && !check_array(r, s, v))
        return false;
    return check_applied(r, s, v) && run_check_unevaluated(r, s, v);
}

bool schema_check(const struct checker *c, const struct schema *root, const struct weir_value *v,
                  const char **ret_code, char text[FAILURE_TEXT])
{
    struct run r;
    r.c = c;
    r.h = c->h;
    r.quiet = r.depth = 0;
    r.steps = 0;
    r.pattern_steps = PATTERN_STEPS;
    r.code = NULL;
    r.text = text;
    r.places = NULL;
    r.cap_places = 0;
    text[0] = '\0';
    bool valid = check(&r, root, v);
    *ret_code = r.code != NULL ? r.code : "invalid";
    return valid && r.code == NULL;
}
