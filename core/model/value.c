/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON values over yyjson. A handle is a yyjson_val (parsed, immutable) or, with its lowest bit set, a
 * yyjson_mut_val. Both begin with the same tag and payload, so scalars are read alike; only walking a
 * container differs. An arena has one mutable document, whose pools draw from the arena; freeing a
 * value is freeing its arena.
 */
#include <model/value.h>

#include <base/arena.h>
#include <base/check.h>
#include <base/str.h>

#include <math.h>
#include <stdlib.h>
#include <yyjson.h>

#define READ_FLAGS YYJSON_READ_BIGNUM_AS_RAW

static bool is_mut(const struct weir_value *v)
{
    return ((uintptr_t)v & 1u) != 0;
}

static yyjson_val *val_of(const struct weir_value *v)
{
    return (yyjson_val *)((uintptr_t)v & ~(uintptr_t)1);
}

static yyjson_mut_val *mut_of(const struct weir_value *v)
{
    return (yyjson_mut_val *)((uintptr_t)v & ~(uintptr_t)1);
}

static const struct weir_value *from_val(const yyjson_val *val)
{
    return (const struct weir_value *)(const void *)val;
}

static struct weir_value *from_mut(const yyjson_mut_val *val)
{
    return val == NULL ? NULL : (struct weir_value *)((uintptr_t)val | 1u);
}

/* ---- The arena as yyjson's allocator ---- */

static void *alc_malloc(void *ctx, size_t size)
{
    return wr_arena_alloc(ctx, size);
}

static void *alc_realloc(void *ctx, void *p, size_t old_size, size_t size)
{
    return wr_arena_realloc(ctx, p, old_size, size);
}

static void alc_free(void *ctx, void *p)
{
    (void)ctx;
    (void)p;
}

static yyjson_alc arena_alc(struct weir_arena *a)
{
    return (yyjson_alc){alc_malloc, alc_realloc, alc_free, a};
}

static yyjson_mut_doc *arena_doc(struct weir_arena *a)
{
    if (a->doc == NULL) {
        yyjson_alc alc = arena_alc(a);
        a->doc = yyjson_mut_doc_new(&alc);
    }
    return a->doc;
}

/* ---- Parsing and writing ---- */

/* Containers lie in preorder in one block: each knows where its last member ends. */
static bool depth_within(yyjson_doc *doc)
{
    yyjson_val *ends[WR_VALUE_DEPTH_MAX];
    size_t n_vals = yyjson_doc_get_val_count(doc), depth = 0;
    yyjson_val *at = yyjson_doc_get_root(doc);
    if (n_vals <= WR_VALUE_DEPTH_MAX)
        return true;
    for (yyjson_val *end = at + n_vals; at < end; at++) {
        if (!unsafe_yyjson_is_ctn(at))
            continue;
        while (depth > 0 && at >= ends[depth - 1])
            depth--;
        if (depth == WR_VALUE_DEPTH_MAX)
            return false;
        ends[depth++] = unsafe_yyjson_get_next(at);
    }
    return true;
}

/* The reader guesses how many values will come; what it did not use goes back to the arena. */
static void trim(struct weir_arena *a, yyjson_doc *doc)
{
    char *end = (char *)(yyjson_doc_get_root(doc) + yyjson_doc_get_val_count(doc));
    end += (16 - (uintptr_t)end % 16) % 16;
    if (a->chunks != NULL && (char *)doc > (char *)a->chunks && (char *)doc < a->at && end < a->at)
        a->at = end;
}

const struct weir_value *wr_value_parse(struct weir_arena *a, struct weir_str text,
                                        struct weir_error *err)
{
    yyjson_alc alc = arena_alc(a);
    yyjson_read_err why = {0};
    /* The cast is the library's signature; without YYJSON_READ_INSITU the text is only read. */
    char *dat = (char *)(uintptr_t)(text.ptr != NULL ? text.ptr : "");
    yyjson_doc *doc = yyjson_read_opts(dat, text.len, READ_FLAGS, &alc, &why);
    if (doc == NULL) {
        if (why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
            (void)wr_error(err, WEIR_E_NOMEM, "no_memory", "no memory to parse %zu bytes of JSON",
                           text.len);
        else
            (void)wr_error(err, WEIR_E_REJECTED, "bad_json", "bad JSON at byte %zu: %s", why.pos,
                           text.len == 0 ? "the text is empty" : why.msg);
        if (err != NULL)
            err->offset = (int64_t)why.pos;
        return NULL;
    }
    if (!depth_within(doc)) {
        (void)wr_error(err, WEIR_E_REJECTED, "bad_json", "JSON is nested deeper than %d levels",
                       WR_VALUE_DEPTH_MAX);
        return NULL;
    }
    trim(a, doc);
    return from_val(yyjson_doc_get_root(doc));
}

struct weir_str wr_value_write(struct weir_arena *a, const struct weir_value *v)
{
    if (v == NULL)
        return weir_str_n(NULL, 0);
    yyjson_alc alc = arena_alc(a);
    size_t len = 0;
    char *text = is_mut(v)
                     ? yyjson_mut_val_write_opts(mut_of(v), YYJSON_WRITE_NOFLAG, &alc, &len, NULL)
                     : yyjson_val_write_opts(val_of(v), YYJSON_WRITE_NOFLAG, &alc, &len, NULL);
    return weir_str_n(text, text != NULL ? len : 0);
}

/* ---- Reading ---- */

enum weir_value_type wr_value_type(const struct weir_value *v)
{
    yyjson_val *val = val_of(v);
    if (val == NULL)
        return WEIR_NULL;
    switch (unsafe_yyjson_get_type(val)) {
    case YYJSON_TYPE_BOOL:
        return WEIR_BOOL;
    case YYJSON_TYPE_NUM:
        if (unsafe_yyjson_get_subtype(val) == YYJSON_SUBTYPE_REAL)
            return WEIR_REAL;
        if (unsafe_yyjson_get_subtype(val) == YYJSON_SUBTYPE_SINT || val->uni.u64 <= INT64_MAX)
            return WEIR_INT;
        return WEIR_UINT;
    case YYJSON_TYPE_RAW:
        return WEIR_BIGNUM;
    case YYJSON_TYPE_STR:
        return WEIR_STRING;
    case YYJSON_TYPE_ARR:
        return WEIR_ARRAY;
    case YYJSON_TYPE_OBJ:
        return WEIR_OBJECT;
    default:
        return WEIR_NULL;
    }
}

bool wr_value_bool(const struct weir_value *v)
{
    return v != NULL && unsafe_yyjson_is_true(val_of(v));
}

int64_t wr_value_int(const struct weir_value *v)
{
    return v != NULL && wr_value_type(v) == WEIR_INT ? val_of(v)->uni.i64 : 0;
}

uint64_t wr_value_uint(const struct weir_value *v)
{
    enum weir_value_type type = wr_value_type(v);
    if (type != WEIR_UINT && type != WEIR_INT)
        return 0;
    return type == WEIR_INT && val_of(v)->uni.i64 < 0 ? 0 : val_of(v)->uni.u64;
}

double wr_value_real(const struct weir_value *v)
{
    switch (wr_value_type(v)) {
    case WEIR_REAL:
        return val_of(v)->uni.f64;
    case WEIR_INT:
        return (double)val_of(v)->uni.i64;
    case WEIR_UINT:
        return (double)val_of(v)->uni.u64;
    case WEIR_BIGNUM:
        return strtod(val_of(v)->uni.str, NULL);
    default:
        return 0;
    }
}

struct weir_str wr_value_str(const struct weir_value *v)
{
    enum weir_value_type type = wr_value_type(v);
    if (type != WEIR_STRING && type != WEIR_BIGNUM)
        return weir_str_n(NULL, 0);
    return weir_str_n(val_of(v)->uni.str, unsafe_yyjson_get_len(val_of(v)));
}

uint32_t wr_value_count(const struct weir_value *v)
{
    return v != NULL && unsafe_yyjson_is_ctn(val_of(v)) ? (uint32_t)unsafe_yyjson_get_len(val_of(v))
                                                        : 0;
}

const struct weir_value *wr_value_get(const struct weir_value *v, struct weir_str key)
{
    if (v == NULL)
        return NULL;
    const char *name = key.ptr != NULL ? key.ptr : "";
    if (is_mut(v))
        return from_mut(yyjson_mut_obj_getn(mut_of(v), name, key.len));
    return from_val(yyjson_obj_getn(val_of(v), name, key.len));
}

const struct weir_value *wr_value_at(const struct weir_value *v, uint32_t i)
{
    if (v == NULL)
        return NULL;
    if (is_mut(v))
        return from_mut(yyjson_mut_arr_get(mut_of(v), i));
    return from_val(yyjson_arr_get(val_of(v), i));
}

/* priv: [0] the next value (of an object: its key), [1] set for objects. */
struct weir_value_iter wr_value_iter(const struct weir_value *v)
{
    struct weir_value_iter it = {.left = wr_value_count(v)};
    if (it.left == 0)
        return it;
    bool object = unsafe_yyjson_is_obj(val_of(v));
    it.priv[1] = object ? v : NULL;
    if (is_mut(v)) {
        const yyjson_mut_val *last = mut_of(v)->uni.ptr;
        it.priv[0] = from_mut(object ? last->next->next : last->next);
    } else {
        it.priv[0] = from_val(unsafe_yyjson_get_first(val_of(v)));
    }
    return it;
}

const struct weir_value *wr_value_next(struct weir_value_iter *it, struct weir_str *ret_key)
{
    if (it->left == 0)
        return NULL;
    it->left--;
    const struct weir_value *at = it->priv[0];
    bool object = it->priv[1] != NULL;
    if (object && ret_key != NULL)
        *ret_key = weir_str_n(val_of(at)->uni.str, unsafe_yyjson_get_len(val_of(at)));
    if (is_mut(at)) {
        yyjson_mut_val *val = object ? mut_of(at)->next : mut_of(at);
        it->priv[0] = from_mut(val->next);
        return from_mut(val);
    }
    yyjson_val *val = object ? val_of(at) + 1 : val_of(at);
    it->priv[0] = from_val(unsafe_yyjson_get_next(val));
    return from_val(val);
}

static bool is_number(enum weir_value_type type)
{
    return type >= WEIR_INT && type <= WEIR_BIGNUM;
}

static bool number_equal(const struct weir_value *a, const struct weir_value *b)
{
    enum weir_value_type ta = wr_value_type(a), tb = wr_value_type(b);
    if (ta == WEIR_BIGNUM && tb == WEIR_BIGNUM)
        return wr_str_eq(wr_value_str(a), wr_value_str(b));
    if (ta == tb && ta != WEIR_REAL)
        return val_of(a)->uni.u64 == val_of(b)->uni.u64;
    if (ta != WEIR_REAL && tb != WEIR_REAL)
        return false; /* INT, UINT and BIGNUM have no number in common */
    return wr_value_real(a) == wr_value_real(b);
}

static bool equal_within(const struct weir_value *a, const struct weir_value *b, int depth);

static bool array_equal(const struct weir_value *a, const struct weir_value *b, int depth)
{
    struct weir_value_iter ia = wr_value_iter(a), ib = wr_value_iter(b);
    if (ia.left != ib.left)
        return false;
    for (const struct weir_value *v; (v = wr_value_next(&ia, NULL)) != NULL;)
        if (!equal_within(v, wr_value_next(&ib, NULL), depth))
            return false;
    return true;
}

static bool has_all_keys(const struct weir_value *obj, const struct weir_value *of)
{
    struct weir_value_iter it = wr_value_iter(of);
    for (struct weir_str key; wr_value_next(&it, &key) != NULL;)
        if (wr_value_get(obj, key) == NULL)
            return false;
    return true;
}

/* As they are read: of duplicate keys only the first counts, on both sides. */
static bool object_equal(const struct weir_value *a, const struct weir_value *b, int depth)
{
    struct weir_value_iter it = wr_value_iter(a);
    struct weir_str key;
    for (const struct weir_value *v; (v = wr_value_next(&it, &key)) != NULL;) {
        const struct weir_value *other = wr_value_get(b, key);
        if (other == NULL)
            return false;
        if (!equal_within(v, other, depth) && wr_value_get(a, key) == v)
            return false;
    }
    return has_all_keys(a, b);
}

static bool equal_within(const struct weir_value *a, const struct weir_value *b, int depth)
{
    enum weir_value_type ta = wr_value_type(a), tb = wr_value_type(b);
    if (is_number(ta) && is_number(tb))
        return number_equal(a, b);
    if (ta != tb)
        return false;
    switch (ta) {
    case WEIR_BOOL:
        return wr_value_bool(a) == wr_value_bool(b);
    case WEIR_STRING:
        return wr_str_eq(wr_value_str(a), wr_value_str(b));
    case WEIR_ARRAY:
        return depth > 0 && array_equal(a, b, depth - 1);
    case WEIR_OBJECT:
        return depth > 0 && object_equal(a, b, depth - 1);
    default:
        return true;
    }
}

bool wr_value_equal(const struct weir_value *a, const struct weir_value *b)
{
    return equal_within(a, b, WR_VALUE_DEPTH_MAX);
}

bool wr_value_is_mutable(const struct weir_value *v)
{
    return v != NULL && is_mut(v);
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

/* The copy of a parsed block keeps its layout, so that distances between values stay the same: what
 * is left to do is turn "next is len further" into pointers that end in a ring. */
static void link_members(yyjson_mut_val *copy, yyjson_val *from)
{
    size_t left = unsafe_yyjson_get_len(from);
    bool object = unsafe_yyjson_is_obj(from);
    if (left == 0)
        return;
    yyjson_val *at = from + 1;
    yyjson_mut_val *first = copy + 1;
    for (;;) {
        yyjson_val *val = object ? at + 1 : at;
        yyjson_val *next = unsafe_yyjson_get_next(val);
        yyjson_mut_val *mut_at = copy + (at - from), *mut_val = copy + (val - from);
        if (object)
            mut_at->next = mut_val;
        if (--left == 0) {
            mut_val->next = first;
            copy->uni.ptr = mut_at;
            return;
        }
        mut_val->next = copy + (next - from);
        at = next;
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
    }
    for (size_t i = 0; i < n; i++)
        if (unsafe_yyjson_is_ctn(from + i))
            link_members(copy + i, from + i);
    return from_mut(copy);
}

/* ---- Changing ---- */

static bool key_is(yyjson_mut_val *key, struct weir_str name)
{
    return unsafe_yyjson_get_len(key) == name.len &&
           (name.len == 0 || memcmp(key->uni.str, name.ptr, name.len) == 0);
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

bool wr_object_set(struct weir_arena *a, struct weir_value *obj, struct weir_str key,
                   struct weir_value *take_v)
{
    if (!is_mut_object(obj) || take_v == NULL || !is_mut(take_v))
        return false;
    note_nesting(a, mut_of(take_v));
    yyjson_mut_val *o = mut_of(obj), *v = mut_of(take_v), *at = find_key(o, key);
    if (at == NULL)
        return yyjson_mut_obj_add(o, mut_of(wr_make_str(a, key)), v);
    v->next = at->next->next;
    at->next = v;
    (void)remove_pairs(o, key, at);
    return true;
}

bool wr_object_remove(struct weir_value *obj, struct weir_str key)
{
    return is_mut_object(obj) && remove_pairs(mut_of(obj), key, NULL) != 0;
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
    return yyjson_mut_arr_append(mut_of(arr), mut_of(take_v));
}

bool wr_array_set(struct weir_arena *a, struct weir_value *arr, uint32_t i,
                  struct weir_value *take_v)
{
    if (!is_mut_array(arr) || take_v == NULL || !is_mut(take_v))
        return false;
    note_nesting(a, mut_of(take_v));
    return yyjson_mut_arr_replace(mut_of(arr), i, mut_of(take_v)) != NULL;
}

bool wr_array_remove(struct weir_value *arr, uint32_t i)
{
    return is_mut_array(arr) && yyjson_mut_arr_remove(mut_of(arr), i) != NULL;
}
