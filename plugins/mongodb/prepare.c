/* SPDX-License-Identifier: Apache-2.0
 *
 * Before the first write to a collection: it is made as a time-series collection and gets its
 * indexes, where the options ask for that. Both are no work for the server where they are there
 * already. What cannot be made keeps the collection's events waiting, since they would be stored
 * without what the options promise.
 */
#include "bulk.h"
#include "put.h"
#include "../common/hash.h"

#include <stdio.h>

#define PREPARED_MAX 4096u /* remembered; a power of two */
#define NAMESPACE_EXISTS 48

static const char *const granularities[] = {NULL, "seconds", "minutes", "hours"};

/* ---- What has been seen to ---- */

/* The slot of this collection; *ret_known: it holds it. */
static uint64_t *find_slot(struct sink *s, const struct target *t, uint64_t *ret_hash,
                           bool *ret_known)
{
    uint64_t hash = hash_bytes(t->database, strlen(t->database) + 1, s->seed);
    hash = hash_bytes(t->collection, strlen(t->collection), hash) | 1;
    *ret_hash = hash;
    for (uint32_t i = (uint32_t)(hash >> 32);; i++) {
        uint64_t *slot = &s->prepared[i % PREPARED_MAX];
        *ret_known = *slot == hash;
        if (*slot == hash || *slot == 0)
            return slot;
    }
}

static void remember(struct sink *s, uint64_t *slot, uint64_t hash)
{
    if (++s->n_prepared > PREPARED_MAX / 2) {
        memset(s->prepared, 0, PREPARED_MAX * sizeof(*s->prepared));
        s->n_prepared = 0;
        return; /* it is seen to once more */
    }
    *slot = hash;
}

/* ---- Commands ---- */

/* Runs the command in w. NULL, or why it failed: *ret_code. */
static const char *run(struct job *j, const struct target *t, struct doc_writer *w,
                       const char **ret_code, char why[MESSAGE_MAX], int32_t *ret_number)
{
    bson_t command, reply;
    bson_error_t error = {0};
    *ret_number = 0;
    if (!bson_init_static(&command, w->data, w->len))
        return "the client cannot read the command that was made";
    bool done = mongoc_client_write_command_with_opts(j->s->client, t->database, &command,
                                                      &j->s->opts, &reply, &error);
    struct meaning m = meaning_of_error(&error, &reply);
    bson_destroy(&reply);
    if (done)
        return NULL;
    if (error_loses_client(&error))
        j->s->client_lost = true;
    *ret_number = error.domain == MONGOC_ERROR_SERVER ? (int32_t)error.code : 0;
    if (m.verdict == WEIR_VERDICT_UNAVAILABLE)
        *ret_code = m.code;
    (void)snprintf(why, MESSAGE_MAX, "%.300s", text_of_error(&error));
    return why;
}

static int64_t seconds(int64_t ns)
{
    return (ns + WEIR_NS_PER_S - 1) / WEIR_NS_PER_S;
}

static bool fill_create(struct sink *s, const struct target *t, struct doc_writer *w)
{
    const struct config *cf = s->config;
    const char *granularity = granularities[cf->time_series.granularity];
    size_t at, inner;
    doc_writer_start(w, DOC_SIZE_MAX);
    bool done =
        put_open(w, &at) && put_string(w, weir_cstr("create"), weir_cstr(t->collection)) &&
        put_head(w, BSON_OBJECT, weir_cstr("timeseries"), 0) != NULL && put_open(w, &inner) &&
        put_string(w, weir_cstr("timeField"), cf->time_series.time_field) &&
        (cf->time_series.meta_field.ptr == NULL ||
         put_string(w, weir_cstr("metaField"), cf->time_series.meta_field)) &&
        (granularity == NULL || put_string(w, weir_cstr("granularity"), weir_cstr(granularity))) &&
        put_close(w, inner);
    if (done && cf->time_series.expire_after > 0)
        done = put_64(w, BSON_INT64, weir_cstr("expireAfterSeconds"),
                      (uint64_t)seconds(cf->time_series.expire_after));
    return done && put_close(w, at);
}

/* The name that the server would give: field_1_other_-1. */
static void index_name(const struct weir_host *h, const struct index_config *x, char out[256])
{
    struct weir_value_iter it = h->value_iter(x->keys);
    struct weir_str key;
    const struct weir_value *v;
    size_t n = 0;
    out[0] = '\0';
    while ((v = h->value_next(&it, &key)) != NULL && n < 200) {
        struct weir_str word = h->value_str(v);
        if (h->value_type(v) == WEIR_STRING)
            (void)snprintf(out + n, 256 - n, "%s%.*s_%.*s", n > 0 ? "_" : "", (int)key.len, key.ptr,
                           (int)word.len, word.ptr);
        else
            (void)snprintf(out + n, 256 - n, "%s%.*s_%lld", n > 0 ? "_" : "", (int)key.len, key.ptr,
                           (long long)h->value_int(v));
        n = strlen(out);
    }
}

static bool put_keys(struct doc_writer *w, const struct index_config *x)
{
    struct weir_value_iter it = w->h->value_iter(x->keys);
    struct weir_str key;
    const struct weir_value *v;
    size_t at;
    if (put_head(w, BSON_OBJECT, weir_cstr("key"), 0) == NULL || !put_open(w, &at))
        return false;
    while ((v = w->h->value_next(&it, &key)) != NULL) {
        bool text = w->h->value_type(v) == WEIR_STRING;
        uint8_t *number = text ? NULL : put_head(w, BSON_INT32, key, 4);
        if (text ? !put_string(w, key, w->h->value_str(v)) : number == NULL)
            return false;
        if (number != NULL)
            store32(number, (uint32_t)(int32_t)w->h->value_int(v));
    }
    return put_close(w, at);
}

static bool put_index_spec(struct doc_writer *w, const struct index_config *x, uint32_t i)
{
    char text[12], name[256];
    size_t at;
    index_name(w->h, x, name);
    return put_head(w, BSON_OBJECT, put_index(text, i), 0) != NULL && put_open(w, &at) &&
           put_keys(w, x) &&
           put_string(w, weir_cstr("name"), x->name.ptr != NULL ? x->name : weir_cstr(name)) &&
           (!x->unique || put_bool(w, weir_cstr("unique"), true)) &&
           (!x->sparse || put_bool(w, weir_cstr("sparse"), true)) &&
           (x->expire_after == 0 ||
            put_int32(w, "expireAfterSeconds", (int32_t)seconds(x->expire_after))) &&
           (x->partial == NULL ||
            doc_put_value(w, weir_cstr("partialFilterExpression"), x->partial)) &&
           put_close(w, at);
}

static bool fill_indexes(struct sink *s, const struct target *t, struct doc_writer *w)
{
    const struct index_config *list = s->config->indexes.items;
    size_t at, array;
    doc_writer_start(w, DOC_SIZE_MAX);
    if (!put_open(w, &at) || !put_string(w, weir_cstr("createIndexes"), weir_cstr(t->collection)) ||
        put_head(w, BSON_ARRAY, weir_cstr("indexes"), 0) == NULL || !put_open(w, &array))
        return false;
    for (uint32_t i = 0; i < s->config->indexes.n; i++)
        if (!put_index_spec(w, &list[i], i))
            return false;
    return put_close(w, array) && put_close(w, at);
}

/* ---- Time series ---- */

/* NULL where the collection that is there already is one of time series. */
static const char *look_at_collection(struct job *j, const struct target *t, char why[MESSAGE_MAX])
{
    bson_t opts = BSON_INITIALIZER, filter;
    const bson_t *found;
    bson_iter_t it, inner;
    bson_error_t error = {0};
    bool is = false;
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "filter", &filter);
    BSON_APPEND_UTF8(&filter, "name", t->collection);
    bson_append_document_end(&opts, &filter);
    mongoc_database_t *db = mongoc_client_get_database(j->s->client, t->database);
    mongoc_cursor_t *cursor = mongoc_database_find_collections_with_opts(db, &opts);
    while (mongoc_cursor_next(cursor, &found))
        is = is || (bson_iter_init(&it, found) &&
                    bson_iter_find_descendant(&it, "options.timeseries", &inner));
    if (mongoc_cursor_error(cursor, &error)) {
        j->s->client_lost = j->s->client_lost || error_loses_client(&error);
        (void)snprintf(why, MESSAGE_MAX, "cannot look at the one that is there: %.300s",
                       text_of_error(&error));
    } else if (!is) {
        (void)snprintf(why, MESSAGE_MAX,
                       "the collection is there already and is none of time series; write to "
                       "another one, or move its documents");
    }
    mongoc_cursor_destroy(cursor);
    mongoc_database_destroy(db);
    bson_destroy(&opts);
    return is ? NULL : why;
}

/* NULL, or why there is none. */
static const char *make_time_series(struct job *j, const struct target *t, const char **ret_code,
                                    char why[MESSAGE_MAX])
{
    struct doc_writer *w = &j->s->selector;
    int32_t number = 0;
    if (!fill_create(j->s, t, w))
        return w->why;
    const char *failed = run(j, t, w, ret_code, why, &number);
    if (failed == NULL || number != NAMESPACE_EXISTS)
        return failed;
    return look_at_collection(j, t, why);
}

static const char *make_indexes(struct job *j, const struct target *t, const char **ret_code,
                                char why[MESSAGE_MAX])
{
    struct doc_writer *w = &j->s->selector;
    int32_t number = 0;
    return fill_indexes(j->s, t, w) ? run(j, t, w, ret_code, why, &number) : w->why;
}

bool prepare_target(struct job *j, const struct target *t, const char **ret_code,
                    char why[MESSAGE_MAX])
{
    struct sink *s = j->s;
    uint64_t hash;
    bool known;
    char text[MESSAGE_MAX] = "";
    if (s->prepared == NULL)
        return true;
    uint64_t *slot = find_slot(s, t, &hash, &known);
    if (known)
        return true;
    const char *what = "cannot make the time-series collection", *failed = NULL;
    *ret_code = "prepare_failed";
    if (s->config->time_series.time_field.ptr != NULL)
        failed = make_time_series(j, t, ret_code, text);
    if (failed == NULL && s->config->indexes.n > 0) {
        what = "cannot make the indexes";
        failed = make_indexes(j, t, ret_code, text);
    }
    if (failed == NULL) {
        remember(s, slot, hash);
        return true;
    }
    (void)snprintf(why, MESSAGE_MAX, "%s of %.60s: %.280s", what, t->collection, failed);
    return false;
}

/* Room for what has been prepared, where there is anything to prepare. */
bool prepare_init(struct sink *s)
{
    if (s->config->time_series.time_field.ptr == NULL && s->config->indexes.n == 0)
        return true;
    s->prepared = s->h->arena_alloc(s->arena, PREPARED_MAX * sizeof(*s->prepared));
    if (s->prepared == NULL)
        return false;
    memset(s->prepared, 0, PREPARED_MAX * sizeof(*s->prepared));
    return true;
}
