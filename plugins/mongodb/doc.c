/* SPDX-License-Identifier: Apache-2.0
 *
 * BSON written by hand: a length to be filled in, then type, key and value of each element, then a
 * zero byte. Recursion is bounded by DOC_DEPTH_MAX, memory by DOC_SIZE_MAX. On failure every level
 * puts its own key in front of the path and returns false.
 */
#include "doc.h"
#include "decimal.h"
#include "../common/hash.h"
#include "../common/rfc3339.h"
#include "../common/text.h"

#include <stdarg.h>
#include <stdio.h>

enum bson_type {
    BSON_DOUBLE = 0x01,
    BSON_STRING = 0x02,
    BSON_OBJECT = 0x03,
    BSON_ARRAY = 0x04,
    BSON_BOOL = 0x08,
    BSON_DATE = 0x09,
    BSON_NULL = 0x0A,
    BSON_INT64 = 0x12,
    BSON_DECIMAL128 = 0x13
};

#define KEEP_BYTES ((size_t)1 << 20)
#define SMALL_KEYS 16u

/* The keys of one object, to find those that come twice. */
struct key_set {
    struct weir_str few[SMALL_KEYS];
    uint32_t n;
    struct weir_str *table; /* of more than SMALL_KEYS: open addressing, ptr NULL = free */
    uint32_t mask;
};

static bool put_members(struct doc_writer *w, const struct weir_value *v,
                        const struct date_node *dates, uint32_t depth);
static bool put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct date_node *dates, uint32_t depth);

void doc_writer_init(struct doc_writer *w, const struct weir_host *h, const struct date_node *dates)
{
    *w = (struct doc_writer){.h = h, .dates = dates, .seed = h->random(h)};
}

void doc_writer_done(struct doc_writer *w)
{
    if (w->h != NULL)
        w->h->free(w->data);
    w->data = NULL;
    w->cap = 0;
}

void doc_writer_trim(struct doc_writer *w)
{
    if (w->cap > KEEP_BYTES)
        doc_writer_done(w);
}

WEIR_PRINTF(3, 4)
static bool fail(struct doc_writer *w, const char *code, const char *fmt, ...)
{
    if (w->code != NULL)
        return false;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(w->why, sizeof(w->why), fmt, args);
    va_end(args);
    w->code = code;
    w->path[0] = '\0';
    return false;
}

/* Puts `key` in front of the path; dots where there is no room for what is further out. */
static bool fail_inside(struct doc_writer *w, struct weir_str key)
{
    size_t n = strlen(w->path), dot = n > 0 ? 1 : 0;
    struct weir_str head = key;
    if (n >= 3 && memcmp(w->path, "...", 3) == 0)
        return false;
    if (head.len + dot + n + sizeof("...") > sizeof(w->path)) {
        head = weir_str_n("...", 3);
        dot = 0;
    }
    memmove(w->path + head.len + dot, w->path, n + 1);
    if (dot > 0)
        w->path[head.len] = '.';
    if (head.len > 0)
        memcpy(w->path, head.ptr, head.len);
    return false;
}

static bool grow(struct doc_writer *w, size_t more)
{
    if (more > DOC_SIZE_MAX || w->len + more > DOC_SIZE_MAX)
        return fail(w, "too_large", "the document would be larger than %zu bytes as BSON",
                    DOC_SIZE_MAX);
    size_t cap = w->cap < 4096 ? 4096 : w->cap * 2;
    while (cap < w->len + more)
        cap *= 2;
    uint8_t *data = w->h->realloc(w->data, cap);
    if (data == NULL)
        return fail(w, "no_memory", "no memory for a document of %zu bytes", cap);
    w->data = data;
    w->cap = cap;
    return true;
}

/* Where the next `size` bytes go; NULL where they cannot. */
static inline uint8_t *take(struct doc_writer *w, size_t size)
{
    if ((size > w->cap - w->len || w->len + size > DOC_SIZE_MAX) && !grow(w, size))
        return NULL;
    uint8_t *at = w->data + w->len;
    w->len += size;
    return at;
}

static inline void store32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

static inline void store64(uint8_t *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

/* Type, key and room for `size` bytes of value: returns where these begin. */
static inline uint8_t *put_head(struct doc_writer *w, enum bson_type type, struct weir_str key,
                                size_t size)
{
    uint8_t *at = take(w, 1 + key.len + 1 + size);
    if (at == NULL)
        return NULL;
    *at++ = (uint8_t)type;
    if (key.len > 0)
        memcpy(at, key.ptr, key.len);
    at[key.len] = 0;
    return at + key.len + 1;
}

static bool put_64(struct doc_writer *w, enum bson_type type, struct weir_str key, uint64_t v)
{
    uint8_t *at = put_head(w, type, key, 8);
    if (at == NULL)
        return false;
    store64(at, v);
    return true;
}

static bool put_bool(struct doc_writer *w, struct weir_str key, bool v)
{
    uint8_t *at = put_head(w, BSON_BOOL, key, 1);
    if (at == NULL)
        return false;
    *at = v ? 1 : 0;
    return true;
}

static bool put_string(struct doc_writer *w, struct weir_str key, struct weir_str s)
{
    if (s.len > DOC_SIZE_MAX)
        return fail(w, "too_large", "the document would be larger than %zu bytes as BSON",
                    DOC_SIZE_MAX);
    uint8_t *at = put_head(w, BSON_STRING, key, 4 + s.len + 1);
    if (at == NULL)
        return false;
    store32(at, (uint32_t)s.len + 1);
    if (s.len > 0)
        memcpy(at + 4, s.ptr, s.len);
    at[4 + s.len] = 0;
    return true;
}

static bool put_real(struct doc_writer *w, struct weir_str key, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return put_64(w, BSON_DOUBLE, key, bits);
}

static bool put_decimal(struct doc_writer *w, struct weir_str key, struct decimal128 v)
{
    uint8_t *at = put_head(w, BSON_DECIMAL128, key, 16);
    if (at == NULL)
        return false;
    store64(at, v.low);
    store64(at + 8, v.high);
    return true;
}

static bool put_bignum(struct doc_writer *w, struct weir_str key, struct weir_str text)
{
    struct decimal128 v;
    if (!decimal128_from_text(text.ptr, text.len, &v))
        return fail(
            w, "bad_number",
            "the number %.*s%s is not exact in a decimal128 (34 digits); send it as a string",
            (int)utf8_cut(text.ptr, text.len, 60), text.ptr, text.len > 60 ? "..." : "");
    return put_decimal(w, key, v);
}

/* BSON dates count milliseconds: what is finer is dropped, towards the past. */
static bool put_date(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    const struct weir_host *h = w->h;
    enum weir_value_type type = h->value_type(v);
    struct rfc3339 t;
    if (type == WEIR_NULL)
        return put_head(w, BSON_NULL, key, 0) != NULL;
    if (type != WEIR_STRING)
        return fail(w, "bad_date",
                    "a date must be an RFC 3339 string such as "
                    "\"2026-01-31T12:00:00Z\" or null");
    struct weir_str s = h->value_str(v);
    if (!rfc3339_parse(s.ptr, s.len, &t))
        return fail(w, "bad_date",
                    "\"%.*s%s\" is no RFC 3339 date-time such as \"2026-01-31T12:00:00Z\"",
                    (int)utf8_cut(s.ptr, s.len, 60), s.ptr, s.len > 60 ? "..." : "");
    return put_64(w, BSON_DATE, key, (uint64_t)(t.s * 1000 + t.ns / 1000000));
}

/* Opens a document at the end of the buffer: ret_at is the offset of its length. */
static bool doc_open(struct doc_writer *w, size_t *ret_at)
{
    *ret_at = w->len;
    return take(w, 4) != NULL;
}

static bool doc_close(struct doc_writer *w, size_t at)
{
    uint8_t *end = take(w, 1);
    if (end == NULL)
        return false;
    *end = 0;
    store32(w->data + at, (uint32_t)(w->len - at));
    return true;
}

static bool key_set_init(struct doc_writer *w, struct key_set *set, uint32_t count)
{
    set->n = 0;
    set->table = NULL;
    if (count <= SMALL_KEYS)
        return true;
    uint32_t size = 64;
    while (size < count * 2u && size < UINT32_C(1) << 31)
        size *= 2;
    set->table = w->h->arena_alloc(w->scratch, size * sizeof(*set->table));
    if (set->table == NULL)
        return fail(w, "no_memory", "no memory for an object of %u members", count);
    memset(set->table, 0, size * sizeof(*set->table));
    set->mask = size - 1;
    return true;
}

static inline bool key_is(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

/* False where it was there already. */
static bool key_set_add(const struct doc_writer *w, struct key_set *set, struct weir_str key)
{
    if (key.ptr == NULL)
        key.ptr = "";
    if (set->table == NULL) {
        for (uint32_t i = 0; i < set->n; i++)
            if (key_is(set->few[i], key))
                return false;
        set->few[set->n++] = key;
        return true;
    }
    uint32_t i = (uint32_t)hash_bytes(key.ptr, key.len, w->seed) & set->mask;
    for (; set->table[i].ptr != NULL; i = (i + 1) & set->mask)
        if (key_is(set->table[i], key))
            return false;
    set->table[i] = key;
    return true;
}

static const struct date_node *date_child(const struct date_node *n, struct weir_str key)
{
    if (n == NULL)
        return NULL;
    for (const struct date_node *c = n->child; c != NULL; c = c->next)
        if (c->name.len == key.len && memcmp(c->name.ptr, key.ptr, key.len) == 0)
            return c;
    return NULL;
}

static bool put_object(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                       const struct date_node *dates, uint32_t depth)
{
    size_t at;
    return put_head(w, BSON_OBJECT, key, 0) != NULL && doc_open(w, &at) &&
           put_members(w, v, dates, depth + 1) && doc_close(w, at);
}

static struct weir_str index_key(char text[12], uint32_t i)
{
    char *p = text + 12;
    do {
        *--p = (char)('0' + i % 10);
        i /= 10;
    } while (i > 0);
    return weir_str_n(p, (size_t)(text + 12 - p));
}

static bool put_array(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct date_node *dates, uint32_t depth)
{
    size_t at;
    char text[12];
    if (put_head(w, BSON_ARRAY, key, 0) == NULL || !doc_open(w, &at))
        return false;
    struct weir_value_iter it = w->h->value_iter(v);
    const struct weir_value *e;
    for (uint32_t i = 0; (e = w->h->value_next(&it, NULL)) != NULL; i++) {
        struct weir_str name = index_key(text, i);
        if (!put_value(w, name, e, dates, depth + 1))
            return fail_inside(w, name);
    }
    return doc_close(w, at);
}

static bool put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct date_node *dates, uint32_t depth)
{
    const struct weir_host *h = w->h;
    enum weir_value_type type = h->value_type(v);
    if (depth > DOC_DEPTH_MAX)
        return fail(w, "too_deep", "the document is nested deeper than %d levels", DOC_DEPTH_MAX);
    if (dates != NULL && dates->is_date && type != WEIR_ARRAY)
        return put_date(w, key, v);
    switch (type) {
    case WEIR_NULL:
        return put_head(w, BSON_NULL, key, 0) != NULL;
    case WEIR_BOOL:
        return put_bool(w, key, h->value_bool(v));
    case WEIR_INT:
        return put_64(w, BSON_INT64, key, (uint64_t)h->value_int(v));
    case WEIR_UINT:
        return put_decimal(w, key, decimal128_from_uint(h->value_uint(v)));
    case WEIR_REAL:
        return put_real(w, key, h->value_real(v));
    case WEIR_BIGNUM:
        return put_bignum(w, key, h->value_str(v));
    case WEIR_STRING:
        return put_string(w, key, h->value_str(v));
    case WEIR_ARRAY:
        return put_array(w, key, v, dates, depth);
    case WEIR_OBJECT:
        return put_object(w, key, v, dates, depth);
    }
    return fail(w, "bad_value", "a value of unknown type %d", (int)type);
}

/* The key as it goes into BSON: NUL ends it there, so it can hold none. */
static bool check_key(struct doc_writer *w, struct weir_str key)
{
    if (key.len == 0 || memchr(key.ptr, 0, key.len) == NULL)
        return true;
    return fail(w, "bad_key", "a key holds a NUL character, which BSON cannot store");
}

static bool put_members(struct doc_writer *w, const struct weir_value *v,
                        const struct date_node *dates, uint32_t depth)
{
    const struct weir_host *h = w->h;
    struct key_set seen;
    if (!key_set_init(w, &seen, h->value_count(v)))
        return false;
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    const struct weir_value *m;
    while ((m = h->value_next(&it, &key)) != NULL) {
        if ((depth == 1 && key.len == 3 && memcmp(key.ptr, "_id", 3) == 0) ||
            !key_set_add(w, &seen, key))
            continue;
        if (!check_key(w, key) || !put_value(w, key, m, date_child(dates, key), depth))
            return fail_inside(w, key);
    }
    return true;
}

static bool put_id(struct doc_writer *w, const struct doc_id *id)
{
    struct weir_str key = {"_id", 3};
    bool done = true;
    if (id->type == WEIR_STRING)
        done = put_string(w, key, id->str);
    else if (id->type == WEIR_INT)
        done = put_64(w, BSON_INT64, key, (uint64_t)id->num);
    else if (id->type == WEIR_UINT)
        done = put_decimal(w, key, decimal128_from_uint((uint64_t)id->num));
    else if (id->type == WEIR_OBJECT)
        done = put_object(w, key, id->object, NULL, 1);
    return done || fail_inside(w, key);
}

static void start(struct doc_writer *w)
{
    w->len = 0;
    w->code = NULL;
    w->path[0] = '\0';
}

bool doc_write(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id)
{
    size_t at;
    start(w);
    return doc_open(w, &at) && put_id(w, id) && put_members(w, v, w->dates, 1) && doc_close(w, at);
}

bool doc_write_id(struct doc_writer *w, const struct doc_id *id)
{
    size_t at;
    start(w);
    return doc_open(w, &at) && put_id(w, id) && doc_close(w, at);
}

static struct date_node *add_child(const struct weir_host *h, struct weir_arena *a,
                                   struct date_node *n, struct weir_str name)
{
    for (struct date_node *c = n->child; c != NULL; c = c->next)
        if (c->name.len == name.len && memcmp(c->name.ptr, name.ptr, name.len) == 0)
            return c;
    struct date_node *c = h->arena_alloc(a, sizeof(*c));
    if (c == NULL)
        return NULL;
    *c = (struct date_node){.name = name, .next = n->child};
    n->child = c;
    return c;
}

const char *date_tree_add(const struct weir_host *h, struct weir_arena *a, struct date_node *root,
                          struct weir_str path)
{
    struct date_node *n = root;
    const char *p = path.ptr, *end = path.ptr + path.len;
    for (;;) {
        const char *dot = p < end ? memchr(p, '.', (size_t)(end - p)) : NULL;
        struct weir_str name = weir_str_n(p, (size_t)((dot != NULL ? dot : end) - p));
        if (name.len == 0)
            return "a name between two dots is empty";
        if (n == root && name.len == 3 && memcmp(name.ptr, "_id", 3) == 0)
            return "_id cannot be a date";
        n = add_child(h, a, n, name);
        if (n == NULL)
            return "no memory";
        if (dot == NULL)
            break;
        p = dot + 1;
    }
    n->is_date = true;
    return NULL;
}
