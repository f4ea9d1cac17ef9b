/* SPDX-License-Identifier: Apache-2.0
 *
 * Duplicate keys: has this event been written before, or does another unique index refuse it? Newer
 * servers say which index it was; for the rest, and where an index other than that of _id was named
 * first, the _ids are looked up on the primary.
 */
#include "bulk.h"

#define LOOKUP_IDS 100 /* in one question, and */
#define LOOKUP_BYTES ((size_t)1 << 20)

/* One question. */
struct lookup {
    struct task task; /* first */
    void (*free_memory)(void *p);
    mongoc_collection_t *collection;
    bson_t filter, opts;
    bson_t found; /* an array of documents {_id: ...} */
    bson_error_t error;
    bool failed;
};

static void lookup_run(struct task *t)
{
    struct lookup *l = (struct lookup *)(void *)t;
    const bson_t *doc;
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_cursor_t *cursor =
        mongoc_collection_find_with_opts(l->collection, &l->filter, &l->opts, primary);
    for (uint32_t i = 0; mongoc_cursor_next(cursor, &doc); i++) {
        char name[12];
        const char *key;
        (void)bson_uint32_to_string(i, &key, name, sizeof(name));
        (void)bson_append_document(&l->found, key, -1, doc);
    }
    l->failed = mongoc_cursor_error(cursor, &l->error);
    mongoc_cursor_destroy(cursor);
    mongoc_read_prefs_destroy(primary);
}

static void lookup_free(struct task *take_t)
{
    struct lookup *l = (struct lookup *)(void *)take_t;
    mongoc_collection_destroy(l->collection);
    bson_destroy(&l->filter);
    bson_destroy(&l->opts);
    bson_destroy(&l->found);
    l->free_memory(l);
}

static bool append_id(struct round *r, bson_t *array, uint32_t at, const struct op *op)
{
    struct doc_writer *w = &r->j->s->selector;
    char name[12];
    const char *key;
    bson_t doc;
    bson_iter_t it;
    (void)bson_uint32_to_string(at, &key, name, sizeof(name));
    return doc_write_id(w, &op->id) && bson_init_static(&doc, w->data, w->len) &&
           bson_iter_init_find(&it, &doc, "_id") && bson_append_iter(array, key, -1, &it);
}

/* Fills {_id: {$in: [...]}} with as many ids as go into one question. Returns how many; 0: memory.
 */
static uint32_t fill_filter(struct round *r, bson_t *filter, const uint32_t *which, uint32_t n)
{
    bson_t condition, array;
    uint32_t i = 0;
    bool done = true;
    BSON_APPEND_DOCUMENT_BEGIN(filter, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &array);
    for (; i < n && i < LOOKUP_IDS && array.len < LOOKUP_BYTES && done; i++)
        done = append_id(r, &array, i, &r->j->ops[r->ops[which[i]]]);
    bson_append_array_end(&condition, &array);
    bson_append_document_end(filter, &condition);
    return done ? i : 0;
}

static struct lookup *lookup_new(struct round *r, const uint32_t *which, uint32_t n,
                                 uint32_t *ret_asked)
{
    struct sink *s = r->j->s;
    struct lookup *l = s->h->alloc(sizeof(*l));
    bson_t fields;
    if (l == NULL)
        return NULL;
    l->task = (struct task){lookup_run, lookup_free};
    l->free_memory = s->h->free;
    l->collection =
        mongoc_client_get_collection(s->session->client, r->t->database, r->t->collection);
    bson_init(&l->filter);
    bson_init(&l->opts);
    bson_init(&l->found);
    *ret_asked = fill_filter(r, &l->filter, which, n);
    BSON_APPEND_DOCUMENT_BEGIN(&l->opts, "projection", &fields);
    BSON_APPEND_INT32(&fields, "_id", 1);
    bson_append_document_end(&l->opts, &fields);
    if (*ret_asked > 0)
        return l;
    lookup_free(&l->task);
    return NULL;
}

/* ---- What was found ---- */

static bool decimal_is(const bson_iter_t *it, int64_t bits)
{
    bson_decimal128_t v;
    const bson_decimal128_t expected = {.low = (uint64_t)bits, .high = UINT64_C(6176) << 49};
    return BSON_ITER_HOLDS_DECIMAL128(it) && bson_iter_decimal128(it, &v) &&
           v.low == expected.low && v.high == expected.high;
}

/* True where the document's _id is that of op. Of two numbers the value counts, as for the server.
 */
static bool stored_id_is(const struct op *op, const uint8_t *data, uint32_t size)
{
    bson_t doc;
    bson_iter_t it;
    uint32_t len = 0;
    if (!bson_init_static(&doc, data, size) || !bson_iter_init_find(&it, &doc, "_id"))
        return false;
    switch (op->id.type) {
    case WEIR_STRING: {
        const char *text = BSON_ITER_HOLDS_UTF8(&it) ? bson_iter_utf8(&it, &len) : NULL;
        return text != NULL && len == op->id.str.len && memcmp(text, op->id.str.ptr, len) == 0;
    }
    case WEIR_INT:
        return BSON_ITER_HOLDS_NUMBER(&it) && bson_iter_as_int64(&it) == op->id.num;
    case WEIR_UINT:
        return decimal_is(&it, op->id.num);
    default:
        return size == op->id_bytes.len && memcmp(data, op->id_bytes.ptr, size) == 0;
    }
}

static void take_found(struct round *r, const bson_t *found, const uint32_t *which, uint32_t n)
{
    bson_iter_t it;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!bson_iter_init(&it, found))
        return;
    while (bson_iter_next(&it)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&it))
            bson_iter_document(&it, &size, &data);
        for (uint32_t i = 0; i < n && data != NULL; i++) {
            struct op *op = &r->j->ops[r->ops[which[i]]];
            if (stored_id_is(op, data, size))
                *op->result = (struct weir_result){.verdict = WEIR_VERDICT_OK};
        }
    }
}

static void lookup_failed(struct round *r, const uint32_t *which, uint32_t n, const char *why)
{
    for (uint32_t i = 0; i < n; i++) {
        struct weir_result *result = r->j->ops[r->ops[which[i]]].result;
        if (result->verdict != WEIR_VERDICT_OK)
            result_set(r->j, result, WEIR_VERDICT_UNAVAILABLE, "lookup_failed",
                       "a duplicate key, and looking for the _id failed: %.*s", MESSAGE_MAX, why);
    }
}

void settle_duplicates(struct round *r, const uint32_t *which, uint32_t n)
{
    while (n > 0) {
        uint32_t asked = n;
        const char *why = round_not_now(r->j);
        struct lookup *l = why == NULL ? lookup_new(r, which, n, &asked) : NULL;
        if (l == NULL) {
            lookup_failed(r, which, n, why != NULL ? why : "no memory");
            return;
        }
        why = round_run(r->j, &l->task);
        if (why == NULL) {
            take_found(r, &l->found, which, asked);
            if (l->failed)
                lookup_failed(r, which, asked, l->error.message);
            lookup_free(&l->task);
        } else {
            lookup_failed(r, which, asked, why);
        }
        which += asked;
        n -= asked;
    }
}

enum duplicate duplicate_of(const bson_iter_t *write_error)
{
    bson_iter_t it, pattern;
    if (!bson_iter_recurse(write_error, &it) || !bson_iter_find(&it, "keyPattern") ||
        !BSON_ITER_HOLDS_DOCUMENT(&it) || !bson_iter_recurse(&it, &pattern) ||
        !bson_iter_next(&pattern))
        return DUPLICATE_UNKNOWN; /* the message alone cannot be told from what an event holds */
    if (strcmp(bson_iter_key(&pattern), "_id") != 0)
        return DUPLICATE_OTHER;
    return bson_iter_next(&pattern) ? DUPLICATE_OTHER : DUPLICATE_ID;
}
