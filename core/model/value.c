/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON values: parsing, reading, comparing; see value_impl.h. They are made and changed in value_make.c,
 * and written in value_write.c.
 */
#include <model/value_impl.h>

#include <base/str.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_FLAGS YYJSON_READ_BIGNUM_AS_RAW

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

yyjson_alc wr_arena_alc(struct weir_arena *a)
{
    return (yyjson_alc){alc_malloc, alc_realloc, alc_free, a};
}

/* ---- Parsing ---- */

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
    yyjson_alc alc = wr_arena_alc(a);
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
    if (!unsafe_yyjson_is_obj(val_of(v)))
        return NULL;
    size_t left = unsafe_yyjson_get_len(val_of(v));
    if (is_mut(v)) {
        yyjson_mut_val *at = left != 0 ? ((yyjson_mut_val *)mut_of(v)->uni.ptr)->next->next : NULL;
        for (; left > 0; left--, at = at->next->next)
            if (unsafe_yyjson_get_len(at) == key.len && same_bytes(at->uni.str, key.ptr, key.len))
                return from_mut(at->next);
        return NULL;
    }
    yyjson_val *at = unsafe_yyjson_get_first(val_of(v));
    for (; left > 0; left--, at = unsafe_yyjson_get_next(at + 1))
        if (unsafe_yyjson_get_len(at) == key.len && same_bytes(at->uni.str, key.ptr, key.len))
            return from_val(at + 1);
    return NULL;
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

/* Whether the double is that number exactly: (double)n would have rounded n first. */
static bool real_equal(double real, const struct weir_value *v)
{
    char digits[320]; /* the largest double has 309 */
    switch (wr_value_type(v)) {
    case WEIR_INT:
        return real >= -0x1p63 && real < 0x1p63 && real == floor(real) &&
               (int64_t)real == wr_value_int(v);
    case WEIR_UINT:
        return real >= 0 && real < 0x1p64 && real == floor(real) && (uint64_t)real == wr_value_uint(v);
    case WEIR_BIGNUM: /* an integer; what is no integer is beyond all doubles */
        snprintf(digits, sizeof(digits), "%.0f", real);
        return real == floor(real) && wr_str_is(wr_value_str(v), digits);
    default:
        return real == wr_value_real(v);
    }
}

static bool number_equal(const struct weir_value *a, const struct weir_value *b)
{
    enum weir_value_type ta = wr_value_type(a), tb = wr_value_type(b);
    if (ta == WEIR_REAL)
        return real_equal(wr_value_real(a), b);
    if (tb == WEIR_REAL)
        return real_equal(wr_value_real(b), a);
    if (ta != tb)
        return false; /* INT, UINT and BIGNUM have no number in common */
    return ta == WEIR_BIGNUM ? wr_str_eq(wr_value_str(a), wr_value_str(b))
                             : val_of(a)->uni.u64 == val_of(b)->uni.u64;
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
