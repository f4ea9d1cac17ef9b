/* SPDX-License-Identifier: Apache-2.0
 *
 * BSON written by hand: a length to be filled in, then type, key and value of each element, then a
 * zero byte. Recursion is bounded by DOC_DEPTH_MAX, memory by DOC_SIZE_MAX. On failure every level
 * puts its own key in front of the path and returns false.
 */
#include "doc.h"
#include "../common/hash.h"
#include "typed.h"

#define KEEP_BYTES ((size_t)8 << 20)
#define SMALL_KEYS 16u

/* The keys of one object, to find those that come twice. */
struct key_set {
    struct weir_str few[SMALL_KEYS];
    uint32_t n;
    struct weir_str *table; /* of more than SMALL_KEYS: open addressing, ptr NULL = free */
    uint32_t mask;
};

static bool put_members(struct doc_writer *w, const struct weir_value *v,
                        const struct type_node *types, uint32_t depth);
static bool put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct type_node *types, uint32_t depth);

void doc_writer_init(struct doc_writer *w, const struct weir_host *h, const struct type_node *types)
{
    *w = (struct doc_writer){.limit = DOC_SIZE_MAX, .h = h, .types = types, .seed = h->random(h)};
}

void doc_writer_done(struct doc_writer *w)
{
    if (w->h != NULL)
        w->h->free(w->data);
    w->data = NULL;
    w->cap = w->len = 0;
}

void doc_writer_trim(struct doc_writer *w)
{
    if (w->cap > KEEP_BYTES)
        doc_writer_done(w);
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
        return put_fail(w, "no_memory", "no memory for an object of %u members", count);
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

const struct type_node *type_child(const struct type_node *n, struct weir_str name)
{
    if (n == NULL)
        return NULL;
    for (const struct type_node *c = n->child; c != NULL; c = c->next)
        if (c->name.len == name.len && memcmp(c->name.ptr, name.ptr, name.len) == 0)
            return c;
    return NULL;
}

static bool put_object(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                       const struct type_node *types, uint32_t depth)
{
    size_t at;
    return put_head(w, BSON_OBJECT, key, 0) != NULL && put_open(w, &at) &&
           put_members(w, v, types, depth + 1) && put_close(w, at);
}

static bool put_array(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct type_node *types, uint32_t depth)
{
    size_t at;
    char text[12];
    if (put_head(w, BSON_ARRAY, key, 0) == NULL || !put_open(w, &at))
        return false;
    struct weir_value_iter it = w->h->value_iter(v);
    const struct weir_value *e;
    for (uint32_t i = 0; (e = w->h->value_next(&it, NULL)) != NULL; i++) {
        struct weir_str name = put_index(text, i);
        if (!put_value(w, name, e, types, depth + 1))
            return put_fail_inside(w, name);
    }
    return put_close(w, at);
}

static bool put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v,
                      const struct type_node *types, uint32_t depth)
{
    const struct weir_host *h = w->h;
    enum weir_value_type type = h->value_type(v);
    if (depth > DOC_DEPTH_MAX)
        return put_fail(w, "too_deep", "the document is nested deeper than %d levels",
                        DOC_DEPTH_MAX);
    if (types != NULL && types->type != TYPE_PLAIN && type != WEIR_ARRAY)
        return typed_put(w, types->type, key, v);
    switch (type) {
    case WEIR_NULL:
        return put_null(w, key);
    case WEIR_BOOL:
        return put_bool(w, key, h->value_bool(v));
    case WEIR_INT:
        return put_64(w, BSON_INT64, key, (uint64_t)h->value_int(v));
    case WEIR_UINT:
        return put_decimal(w, key, decimal128_from_uint(h->value_uint(v)));
    case WEIR_REAL:
        return put_real(w, key, h->value_real(v));
    case WEIR_BIGNUM:
        return typed_put_bignum(w, key, h->value_str(v));
    case WEIR_STRING:
        return put_string(w, key, h->value_str(v));
    case WEIR_ARRAY:
        return put_array(w, key, v, types, depth);
    case WEIR_OBJECT:
        return put_object(w, key, v, types, depth);
    }
    return put_fail(w, "bad_value", "a value of unknown type %d", (int)type);
}

/* The key as it goes into BSON: NUL ends it there, so it can hold none. */
static bool check_key(struct doc_writer *w, struct weir_str key)
{
    if (key.len == 0 || memchr(key.ptr, 0, key.len) == NULL)
        return true;
    return put_fail(w, "bad_key", "a key holds a NUL character, which BSON cannot store");
}

static bool put_members(struct doc_writer *w, const struct weir_value *v,
                        const struct type_node *types, uint32_t depth)
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
        if (!check_key(w, key) || !put_value(w, key, m, type_child(types, key), depth))
            return put_fail_inside(w, key);
    }
    return true;
}

static bool put_id(struct doc_writer *w, const struct doc_id *id)
{
    struct weir_str key = {"_id", 3};
    bool done = true;
    if (id->as == TYPE_OBJECT_ID && id->value == NULL)
        done = typed_put_object_id(w, key, id->own);
    else if (id->as != TYPE_PLAIN)
        done = typed_put(w, id->as, key, id->value);
    else if (id->type == WEIR_STRING)
        done = put_string(w, key, id->str);
    else if (id->type == WEIR_INT)
        done = put_64(w, BSON_INT64, key, (uint64_t)id->num);
    else if (id->type == WEIR_UINT)
        done = put_decimal(w, key, decimal128_from_uint((uint64_t)id->num));
    else if (id->type == WEIR_OBJECT)
        done = put_object(w, key, id->object, NULL, 1);
    return done || put_fail_inside(w, key);
}

void doc_writer_start(struct doc_writer *w, size_t limit)
{
    w->len = 0;
    w->limit = limit;
    w->code = NULL;
    w->path[0] = '\0';
}

/* One document at the end of the buffer, of at most DOC_SIZE_MAX bytes. */
static bool put_document(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id)
{
    size_t at, start = w->len, limit = w->limit;
    w->code = NULL;
    w->path[0] = '\0';
    if (limit - start > DOC_SIZE_MAX)
        w->limit = start + DOC_SIZE_MAX;
    bool done = put_open(w, &at) && (id == NULL || put_id(w, id)) &&
                (v == NULL || put_members(w, v, w->types, 1)) && put_close(w, at);
    w->limit = limit;
    if (!done)
        w->len = start;
    return done;
}

bool doc_put(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id)
{
    return put_document(w, v, id);
}

bool doc_put_fields(struct doc_writer *w, const struct weir_value *v)
{
    struct weir_value_iter it = w->h->value_iter(v);
    struct weir_str key;
    w->code = NULL;
    while (w->h->value_next(&it, &key) != NULL)
        if (key.len == 0 || key.ptr[0] == '$' || memchr(key.ptr, '.', key.len) != NULL) {
            (void)put_fail(w, "bad_key",
                           "its fields are set by name, and this name is empty, begins with $ or "
                           "holds a dot: rename it, or give an `update`");
            return put_fail_inside(w, key);
        }
    return put_document(w, v, NULL);
}

bool doc_put_value(struct doc_writer *w, struct weir_str key, const struct weir_value *v)
{
    return put_value(w, key, v, NULL, 1);
}

bool doc_write(struct doc_writer *w, const struct weir_value *v, const struct doc_id *id)
{
    doc_writer_start(w, DOC_SIZE_MAX);
    return put_document(w, v, id);
}

bool doc_write_id(struct doc_writer *w, const struct doc_id *id)
{
    doc_writer_start(w, DOC_SIZE_MAX);
    return put_document(w, NULL, id);
}

static struct type_node *add_child(const struct weir_host *h, struct weir_arena *a,
                                   struct type_node *n, struct weir_str name)
{
    for (struct type_node *c = n->child; c != NULL; c = c->next)
        if (c->name.len == name.len && memcmp(c->name.ptr, name.ptr, name.len) == 0)
            return c;
    struct type_node *c = h->arena_alloc(a, sizeof(*c));
    if (c == NULL)
        return NULL;
    *c = (struct type_node){.name = name, .next = n->child};
    n->child = c;
    return c;
}

const char *type_tree_add(const struct weir_host *h, struct weir_arena *a, struct type_node *root,
                          struct weir_str path, enum doc_type type)
{
    struct type_node *n = root;
    const char *p = path.ptr, *end = path.ptr + path.len;
    for (;;) {
        const char *dot = p < end ? memchr(p, '.', (size_t)(end - p)) : NULL;
        struct weir_str name = weir_str_n(p, (size_t)((dot != NULL ? dot : end) - p));
        if (name.len == 0)
            return "a name between two dots is empty";
        if (n == root && name.len == 3 && memcmp(name.ptr, "_id", 3) == 0 && dot != NULL)
            return "the fields of an _id have no types of their own";
        n = add_child(h, a, n, name);
        if (n == NULL)
            return "no memory";
        if (dot == NULL)
            break;
        p = dot + 1;
    }
    if (n->type != TYPE_PLAIN && n->type != type)
        return "it has another type already";
    n->type = type;
    return NULL;
}
