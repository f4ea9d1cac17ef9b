/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON values that are made, copied and changed; see value_impl.h. A container notes that it was changed,
 * so that the rest of an event can be written as it was read (value_write.c).
 */
#include <model/value_impl.h>

#include <base/str.h>

#include <math.h>

static yyjson_mut_doc *arena_doc(struct weir_arena *a)
{
    if (a->doc == NULL) {
        yyjson_alc alc = wr_arena_alc(a);
        a->doc = yyjson_mut_doc_new(&alc);
    }
    return a->doc;
}

/* Walks the containers of v with a stack of its own, bounded by the depth that is allowed. */
static bool mut_depth_ok(yyjson_mut_val *v)
{
    struct {
        yyjson_mut_val *at; /* value, of an object: its key */
        size_t left;
        bool object;
    } open[WR_VALUE_DEPTH_MAX];
    size_t depth = 0;
    for (yyjson_mut_val *val = v;;) {
        size_t n = unsafe_yyjson_is_ctn(val) ? unsafe_yyjson_get_len(val) : 0;
        if (unsafe_yyjson_is_ctn(val) && depth == WR_VALUE_DEPTH_MAX)
            return false;
        if (n != 0) {
            bool object = unsafe_yyjson_is_obj(val);
            yyjson_mut_val *last = val->uni.ptr;
            open[depth].at = object ? last->next->next : last->next;
            open[depth].object = object;
            open[depth++].left = n;
        }
        while (depth > 0 && open[depth - 1].left == 0)
            depth--;
        if (depth == 0)
            return true;
        open[depth - 1].left--;
        val = open[depth - 1].object ? open[depth - 1].at->next : open[depth - 1].at;
        open[depth - 1].at = val->next;
    }
}

bool wr_value_depth_ok(const struct weir_value *v)
{
    return v == NULL || !is_mut(v) || mut_depth_ok(mut_of(v));
}

/* ---- Making ---- */

struct weir_value *wr_make_null(struct weir_arena *a)
{
    return from_mut(yyjson_mut_null(arena_doc(a)));
}

struct weir_value *wr_make_bool(struct weir_arena *a, bool v)
{
    return from_mut(yyjson_mut_bool(arena_doc(a), v));
}

struct weir_value *wr_make_int(struct weir_arena *a, int64_t v)
{
    return from_mut(yyjson_mut_sint(arena_doc(a), v));
}

struct weir_value *wr_make_uint(struct weir_arena *a, uint64_t v)
{
    return from_mut(yyjson_mut_uint(arena_doc(a), v));
}

struct weir_value *wr_make_real(struct weir_arena *a, double v)
{
    return isfinite(v) ? from_mut(yyjson_mut_real(arena_doc(a), v)) : NULL;
}

struct weir_value *wr_make_str(struct weir_arena *a, struct weir_str s)
{
    if (wr_utf8_check(s) != s.len)
        return NULL;
    return from_mut(yyjson_mut_strncpy(arena_doc(a), s.ptr != NULL ? s.ptr : "", s.len));
}

struct weir_value *wr_make_array(struct weir_arena *a)
{
    return from_mut(yyjson_mut_arr(arena_doc(a)));
}

struct weir_value *wr_make_object(struct weir_arena *a)
{
    return from_mut(yyjson_mut_obj(arena_doc(a)));
}

struct weir_value *wr_make_copy(struct weir_arena *a, const struct weir_value *v)
{
    if (v == NULL)
        return NULL;
    if (is_mut(v)) /* the library recurses here */
        return mut_depth_ok(mut_of(v)) ? from_mut(yyjson_mut_val_mut_copy(arena_doc(a), mut_of(v)))
                                       : NULL;
    return from_mut(yyjson_val_mut_copy(arena_doc(a), val_of(v)));
}

/* The copy of a parsed block keeps its layout: node i is value i. What is left to do is turn "ends so far
 * behind" into pointers that end in a ring. */
static void link_members(yyjson_mut_val *copy, yyjson_val *from, size_t container)
{
    size_t left = unsafe_yyjson_get_len(from + container), key = container + 1;
    size_t to_value = unsafe_yyjson_is_obj(from + container) ? 1 : 0;
    while (left != 0) {
        size_t val = key + to_value;
        size_t next = val + (unsafe_yyjson_is_ctn(from + val)
                                 ? from[val].uni.ofs / sizeof(yyjson_val) : 1);
        copy[key].next = copy + val;
        copy[val].next = copy + (--left != 0 ? next : container + 1);
        if (left == 0)
            copy[container].uni.ptr = copy + key;
        key = next;
    }
}

struct weir_value *wr_make_edit(struct weir_arena *a, const struct weir_value *v)
{
    if (v == NULL || is_mut(v))
        return wr_make_copy(a, v);
    yyjson_val *from = val_of(v);
    size_t n = (size_t)(unsafe_yyjson_get_next(from) - from);
    yyjson_mut_doc *doc = arena_doc(a);
    yyjson_mut_val *copy = doc != NULL ? unsafe_yyjson_mut_val(doc, n) : NULL;
    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        copy[i].tag = from[i].tag;
        copy[i].uni = from[i].uni;
        if (unsafe_yyjson_is_ctn(from + i))
            link_members(copy, from, i);
    }
    return from_mut(copy);
}

/* ---- Changing ---- */

static bool key_is(yyjson_mut_val *key, struct weir_str name)
{
    return unsafe_yyjson_get_len(key) == name.len && same_bytes(key->uni.str, name.ptr, name.len);
}

static bool is_mut_object(const struct weir_value *v)
{
    return v != NULL && is_mut(v) && unsafe_yyjson_is_obj(mut_of(v));
}

static bool is_mut_array(const struct weir_value *v)
{
    return v != NULL && is_mut(v) && unsafe_yyjson_is_arr(mut_of(v));
}

/* Takes every pair with that key out of the ring, but for the pair whose key is `keep`. */
static uint32_t remove_pairs(yyjson_mut_val *obj, struct weir_str name, const yyjson_mut_val *keep)
{
    size_t n = unsafe_yyjson_get_len(obj), left = n;
    yyjson_mut_val *before = n != 0 ? obj->uni.ptr : NULL; /* key of the pair in front */
    for (size_t i = 0; i < n; i++) {
        yyjson_mut_val *key = before->next->next;
        if (key == keep || !key_is(key, name)) {
            before = key;
            continue;
        }
        before->next->next = key->next->next;
        if (obj->uni.ptr == key)
            obj->uni.ptr = before;
        left--;
    }
    unsafe_yyjson_set_len(obj, left);
    return (uint32_t)(n - left);
}

static yyjson_mut_val *find_key(yyjson_mut_val *obj, struct weir_str name)
{
    size_t n = unsafe_yyjson_get_len(obj);
    yyjson_mut_val *key = n != 0 ? ((yyjson_mut_val *)obj->uni.ptr)->next->next : NULL;
    for (; n > 0; n--, key = key->next->next)
        if (key_is(key, name))
            return key;
    return NULL;
}

static void note_nesting(struct weir_arena *a, yyjson_mut_val *v)
{
    a->nested |= unsafe_yyjson_is_ctn(v);
}

static void note_change(yyjson_mut_val *container)
{
    container->tag |= TAG_CHANGED;
}

bool wr_object_set(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                   struct weir_value *take_v)
{
    if (!is_mut_object(obj) || take_v == NULL || !is_mut(take_v))
        return false;
    note_nesting(a, mut_of(take_v));
    yyjson_mut_val *o = mut_of(obj), *v = mut_of(take_v), *at = find_key(o, key);
    note_change(o);
    if (at == NULL)
        return yyjson_mut_obj_add(o, mut_of(wr_make_str(a, key)), v);
    v->next = at->next->next;
    at->next = v;
    (void)remove_pairs(o, key, at);
    return true;
}

bool wr_object_remove(struct weir_value *obj, struct weir_str key)
{
    if (!is_mut_object(obj) || remove_pairs(mut_of(obj), key, NULL) == 0)
        return false;
    note_change(mut_of(obj));
    return true;
}

bool wr_object_rename(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                      struct weir_str to)
{
    if (!is_mut_object(obj))
        return false;
    yyjson_mut_val *o = mut_of(obj), *at = find_key(o, key);
    yyjson_mut_val *name = at != NULL ? mut_of(wr_make_str(a, to)) : NULL;
    if (name == NULL)
        return false;
    note_change(o);
    if (wr_str_eq(key, to))
        return true;
    (void)remove_pairs(o, key, at);
    at->tag = name->tag;
    at->uni = name->uni;
    (void)remove_pairs(o, to, at);
    return true;
}

bool wr_array_append(struct weir_arena *a, struct weir_value *arr, struct weir_value *take_v)
{
    if (!is_mut_array(arr) || take_v == NULL || !is_mut(take_v))
        return false;
    note_nesting(a, mut_of(take_v));
    note_change(mut_of(arr));
    return yyjson_mut_arr_append(mut_of(arr), mut_of(take_v));
}

bool wr_array_set(struct weir_arena *a, struct weir_value *arr, uint32_t i,
                  struct weir_value *take_v)
{
    if (!is_mut_array(arr) || take_v == NULL || !is_mut(take_v))
        return false;
    note_nesting(a, mut_of(take_v));
    note_change(mut_of(arr));
    return yyjson_mut_arr_replace(mut_of(arr), i, mut_of(take_v)) != NULL;
}

bool wr_array_remove(struct weir_value *arr, uint32_t i)
{
    if (!is_mut_array(arr))
        return false;
    note_change(mut_of(arr));
    return yyjson_mut_arr_remove(mut_of(arr), i) != NULL;
}
