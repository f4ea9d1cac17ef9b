/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host has to know of a configuration: what its events must bring, and whether a write
 * that has succeeded can be repeated behind another one.
 */
#include "sink.h"
#include "typed.h"

static bool has_key_template(const struct weir_host *h, const struct weir_value *v)
{
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key = {NULL, 0};
    const struct weir_value *e;
    while ((e = h->value_next(&it, h->value_type(v) == WEIR_OBJECT ? &key : NULL)) != NULL)
        if (memmem(key.ptr, key.len, "{{", 2) != NULL || has_key_template(h, e))
            return true;
    return false;
}

/* What an id or a filter reads is counted with its option, so that a delete by the key of a
 * tombstone needs no value. Names with placeholders are not. */
uint32_t mongodb_needs(const struct weir_host *h, const void *config)
{
    const struct config *cf = config;
    bool by_id = cf->id == NULL && cf->filter == NULL && !cf->object_ids;
    if (cf->mode == MODE_DELETE && !by_id)
        return has_key_template(h, cf->filter) ? WEIR_NEEDS_VALUE : 0;
    return WEIR_NEEDS_VALUE | (by_id ? WEIR_NEEDS_ID : 0);
}

/* True where applying it twice is applying it once. */
static bool is_repeatable(const struct weir_host *h, const struct weir_value *update)
{
    static const char *const words[] = {"$set",  "$unset",   "$setOnInsert", "$min",    "$max",
                                        "$pull", "$pullAll", "$addToSet",    "$rename", NULL};
    struct weir_value_iter it = h->value_iter(update);
    struct weir_str key;
    if (update != NULL && h->value_type(update) != WEIR_OBJECT)
        return false;
    while (h->value_next(&it, &key) != NULL) {
        uint32_t i = 0;
        while (words[i] != NULL &&
               (strlen(words[i]) != key.len || memcmp(words[i], key.ptr, key.len) != 0))
            i++;
        if (words[i] == NULL)
            return false;
    }
    return true;
}

static bool has_placeholder(struct weir_str s)
{
    return s.len > 0 && memmem(s.ptr, s.len, "{{", 2) != NULL;
}

static bool same_text(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The field of the document that a path leads into. */
static struct weir_str first_step(struct weir_str path)
{
    const char *dot = path.len > 0 ? memchr(path.ptr, '.', path.len) : NULL;
    return dot != NULL ? weir_str_n(path.ptr, (size_t)(dot - path.ptr)) : path;
}

/* True where the filter may depend on the field that the path leads into. */
static bool asks_for(const struct weir_host *h, const struct weir_value *filter,
                     struct weir_str path)
{
    struct weir_value_iter it = h->value_iter(filter);
    struct weir_str written = first_step(path), key;
    if (has_placeholder(written))
        return true;
    while (h->value_next(&it, &key) != NULL) {
        struct weir_str asked = first_step(key);
        if (asked.len == 0 || asked.ptr[0] == '$' || has_placeholder(asked) ||
            same_text(asked, written))
            return true;
    }
    return false;
}

/* True where each field of the filter is the event's field of that name, so that setting the
 * event's fields changes none. */
static bool asks_for_own(const struct weir_host *h, const struct weir_value *filter)
{
    struct weir_value_iter it = h->value_iter(filter);
    struct weir_str key;
    const struct weir_value *v;
    while ((v = h->value_next(&it, &key)) != NULL) {
        struct weir_str text = h->value_str(v);
        if (text.len < 4 || memcmp(text.ptr, "{{", 2) != 0)
            return false;
        text = weir_str_n(text.ptr + 2, text.len - 4);
        for (; text.len > 0 && text.ptr[0] == ' '; text.len--)
            text.ptr++;
        while (text.len > 0 && text.ptr[text.len - 1] == ' ')
            text.len--;
        if (!same_text(text, key))
            return false;
    }
    return true;
}

/* True where a document may no longer be what the filter finds once the update has changed it. */
static bool changes_asked(const struct weir_host *h, const struct config *cf)
{
    if (cf->update == NULL)
        return !asks_for_own(h, cf->filter);
    struct weir_value_iter ops = h->value_iter(cf->update);
    struct weir_str word, path;
    const struct weir_value *op, *v;
    while ((op = h->value_next(&ops, &word)) != NULL) {
        bool renames = same_text(word, weir_cstr("$rename"));
        struct weir_value_iter it = h->value_iter(op);
        while ((v = h->value_next(&it, &path)) != NULL)
            if (asks_for(h, cf->filter, path) ||
                (renames && asks_for(h, cf->filter, h->value_str(v))))
                return true;
    }
    return false;
}

/* True where the filter names the one document. */
static bool names_id(const struct weir_host *h, const struct weir_value *filter)
{
    const struct weir_value *id = h->value_get(filter, weir_cstr("_id"));
    struct weir_str key = {NULL, 0};
    if (id == NULL || h->value_type(id) != WEIR_OBJECT)
        return id != NULL;
    struct weir_value_iter it = h->value_iter(id);
    (void)h->value_next(&it, &key);
    return key.len == 0 || key.ptr[0] != '$' || typed_of_wrapper(key) != TYPE_PLAIN;
}

/* True where the filter finds the same documents once more. */
static bool finds_again(const struct weir_host *h, const struct config *cf)
{
    return cf->filter == NULL || cf->many || names_id(h, cf->filter) || !changes_asked(h, cf);
}

uint32_t mongodb_traits(const struct weir_host *h, const void *config)
{
    const struct config *cf = config;
    bool again = !cf->object_ids && cf->time_series.time_field.ptr == NULL;
    if (cf->mode == MODE_UPDATE)
        again = is_repeatable(h, cf->update) && finds_again(h, cf);
    else if (cf->mode == MODE_DELETE) /* of one of several: the next time it is another one */
        again = cf->filter == NULL || cf->many;
    return again ? WEIR_TRAIT_OVERWRITES : 0;
}
