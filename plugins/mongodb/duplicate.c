/* SPDX-License-Identifier: Apache-2.0
 *
 * Duplicate keys: has this event been written before, or does another unique index refuse it? Newer
 * servers say which index it was; for the rest, and where an index other than that of _id was named
 * first, the _ids are looked up on the primary.
 */
#include "bulk.h"

#define LOOKUP_IDS 100 /* in one question, and */
#define LOOKUP_BYTES ((size_t)1 << 20)

/* True where the stored _id is that of op. Of two numbers the value counts, as for the server. */
static bool stored_id_is(struct round *r, const struct op *op, const bson_t *found)
{
    struct doc_writer *w = &r->j->s->selector;
    bson_iter_t it;
    if (op->id.type == WEIR_INT && op->id.as == TYPE_PLAIN)
        return bson_iter_init_find(&it, found, "_id") && BSON_ITER_HOLDS_NUMBER(&it) &&
               bson_iter_as_int64(&it) == op->id.num;
    return doc_write_id(w, &op->id) && w->len == found->len &&
           memcmp(w->data, bson_get_data(found), w->len) == 0;
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

/* Asks for as many of the ids as go into one question: *ret_n. NULL: no memory. */
static mongoc_cursor_t *find_ids(struct round *r, mongoc_collection_t *collection,
                                 const uint32_t *which, uint32_t n, uint32_t *ret_n)
{
    bson_t filter = BSON_INITIALIZER, condition, array, opts = BSON_INITIALIZER, fields;
    uint32_t i = 0;
    BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &condition);
    BSON_APPEND_ARRAY_BEGIN(&condition, "$in", &array);
    bool done = true;
    for (; i < n && i < LOOKUP_IDS && array.len < LOOKUP_BYTES && done; i++)
        done = append_id(r, &array, i, &r->j->ops[r->ops[which[i]]]);
    bson_append_array_end(&condition, &array);
    bson_append_document_end(&filter, &condition);
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "projection", &fields);
    BSON_APPEND_INT32(&fields, "_id", 1);
    bson_append_document_end(&opts, &fields);
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_cursor_t *cursor =
        done ? mongoc_collection_find_with_opts(collection, &filter, &opts, primary) : NULL;
    mongoc_read_prefs_destroy(primary);
    bson_destroy(&filter);
    bson_destroy(&opts);
    *ret_n = i;
    return cursor;
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

static void take_found(struct round *r, const bson_t *found, const uint32_t *which, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct op *op = &r->j->ops[r->ops[which[i]]];
        if (stored_id_is(r, op, found))
            *op->result = (struct weir_result){.verdict = WEIR_VERDICT_OK};
    }
}

/* One question. Returns how many ids it was about. */
static uint32_t ask(struct round *r, mongoc_collection_t *collection, const uint32_t *which,
                    uint32_t n)
{
    uint32_t asked = n;
    bson_error_t error = {0};
    const bson_t *found;
    const char *why = round_not_now(r->j);
    mongoc_cursor_t *cursor = why == NULL ? find_ids(r, collection, which, n, &asked) : NULL;
    if (cursor == NULL) {
        lookup_failed(r, which, asked, why != NULL ? why : "no memory");
        return asked;
    }
    while (mongoc_cursor_next(cursor, &found))
        take_found(r, found, which, asked);
    if (mongoc_cursor_error(cursor, &error)) {
        lookup_failed(r, which, asked, text_of_error(&error));
        r->j->s->client_lost = r->j->s->client_lost || error_loses_client(&error);
    }
    mongoc_cursor_destroy(cursor);
    return asked;
}

void settle_duplicates(struct round *r, const uint32_t *which, uint32_t n)
{
    if (n == 0)
        return;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(r->j->s->client, r->t->database, r->t->collection);
    for (uint32_t asked; n > 0; which += asked, n -= asked)
        asked = ask(r, collection, which, n);
    mongoc_collection_destroy(collection);
}

static bool open_part(const bson_iter_t *write_error, const char *name, bson_iter_t *ret_part)
{
    bson_iter_t it;
    return bson_iter_recurse(write_error, &it) && bson_iter_find(&it, name) &&
           BSON_ITER_HOLDS_DOCUMENT(&it) && bson_iter_recurse(&it, ret_part);
}

enum duplicate duplicate_of(const bson_iter_t *write_error)
{
    bson_iter_t pattern;
    if (!open_part(write_error, "keyPattern", &pattern) || !bson_iter_next(&pattern))
        return DUPLICATE_UNKNOWN; /* the message alone cannot be told from what an event holds */
    if (strcmp(bson_iter_key(&pattern), "_id") != 0)
        return DUPLICATE_OTHER;
    return bson_iter_next(&pattern) ? DUPLICATE_OTHER : DUPLICATE_ID;
}

static bool same_value(const bson_iter_t *a, const bson_iter_t *b)
{
    bson_t one = BSON_INITIALIZER, other = BSON_INITIALIZER;
    bool same = bson_append_iter(&one, "", 0, a) && bson_append_iter(&other, "", 0, b) &&
                bson_equal(&one, &other);
    bson_destroy(&one);
    bson_destroy(&other);
    return same;
}

/* How many fields there are, all of them in the filter; 0 where one is not. *ret_same: with the
 * same values. */
static uint32_t count_in_filter(bson_iter_t *fields, const bson_t *filter, bool *ret_same)
{
    bson_iter_t it;
    uint32_t n = 0;
    *ret_same = true;
    for (; bson_iter_next(fields); n++) {
        if (!bson_iter_init_find(&it, filter, bson_iter_key(fields)))
            return 0;
        *ret_same = *ret_same && same_value(&it, fields);
    }
    return n;
}

/* How many of a filter's fields are written with operators: {$lt: ...}, or $or: [...]. */
static uint32_t count_conditions(const bson_t *filter)
{
    bson_iter_t it, inner;
    uint32_t n = 0;
    if (!bson_iter_init(&it, filter))
        return 0;
    while (bson_iter_next(&it))
        if (bson_iter_key(&it)[0] == '$' ||
            (BSON_ITER_HOLDS_DOCUMENT(&it) && bson_iter_recurse(&it, &inner) &&
             bson_iter_next(&inner) && bson_iter_key(&inner)[0] == '$'))
            n++;
    return n;
}

enum standing duplicate_standing(const bson_iter_t *write_error, struct weir_str filter)
{
    bson_iter_t fields;
    bson_t doc;
    bool same;
    uint32_t n = 0;
    if (!bson_init_static(&doc, (const uint8_t *)filter.ptr, filter.len) ||
        !open_part(write_error, "keyPattern", &fields) ||
        count_in_filter(&fields, &doc, &same) == 0)
        return STANDING_OTHER;
    if (open_part(write_error, "keyValue", &fields))
        n = count_in_filter(&fields, &doc, &same);
    uint32_t guards = count_conditions(&doc);
    return n > 0 && same && guards > 0 && n + guards == bson_count_keys(&doc) ? STANDING_GUARDED
                                                                              : STANDING_RACE;
}
