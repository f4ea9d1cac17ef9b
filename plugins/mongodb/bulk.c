/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations to unordered bulks, replies to results. Every op of a bulk ends with one of:
 *   its own write error      the verdict of that error
 *   no error, counts add up  ok (unless the write concern was not met)
 *   anything else            not known: unavailable, and written again
 * "Counts add up": ended well + write errors = sent. A connection that breaks between two messages
 * of a bulk leaves them short, whatever the error says.
 */
#include "sink.h"
#include "verdict.h"

#include <errno.h>
#include <stdio.h>

#define SEND_BYTES ((size_t)24 << 20) /* of documents in one bulk */
#define MESSAGE_MAX 400
#define LOOKUP_IDS 100 /* in one question, and */
#define LOOKUP_BYTES ((size_t)1 << 20)

/* One execution. */
struct round {
    struct job *j;
    const struct target *t;
    mongoc_collection_t *collection;
    const uint32_t *ops; /* in the order of the bulk */
    uint32_t n;
    bson_t reply;
    bson_error_t error;
};

static void set_all(struct round *r, bool only_open, const struct meaning *m, int32_t number,
                    const char *text)
{
    for (uint32_t i = 0; i < r->n; i++) {
        struct weir_result *result = r->j->ops[r->ops[i]].result;
        if (only_open && result->verdict != WEIR_VERDICT_NONE)
            continue;
        result_set(r->j, result, m->verdict, m->code, "%.*s", MESSAGE_MAX, text);
        result->number = number;
        result->retry_after_ns = retry_after_of(text);
    }
}

/* NULL, or why nothing can be sent now. */
static const char *not_now(struct job *j)
{
    switch (patience_over(&j->s->patience)) {
    case 0:
        return NULL;
    case ECANCELED:
        return "canceled";
    default:
        return "timeout";
    }
}

/* ---- Duplicate keys ---- */

static bool decimal_is(const bson_iter_t *it, int64_t bits)
{
    bson_decimal128_t v;
    const bson_decimal128_t expected = {.low = (uint64_t)bits, .high = UINT64_C(6176) << 49};
    return BSON_ITER_HOLDS_DECIMAL128(it) && bson_iter_decimal128(it, &v) &&
           v.low == expected.low && v.high == expected.high;
}

/* True where the stored _id is that of op. Of two numbers the value counts, as for the server. */
static bool stored_id_is(const struct op *op, const bson_t *found)
{
    bson_iter_t it;
    uint32_t len = 0;
    if (!bson_iter_init_find(&it, found, "_id"))
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
        return bson_get_data(found) != NULL && found->len == op->id_bytes.len &&
               memcmp(bson_get_data(found), op->id_bytes.ptr, found->len) == 0;
    }
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
static mongoc_cursor_t *find_ids(struct round *r, const uint32_t *which, uint32_t n,
                                 uint32_t *ret_n)
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
        done ? mongoc_collection_find_with_opts(r->collection, &filter, &opts, primary) : NULL;
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

/* These ops met a duplicate key, and the server did not say that it was their _id. Where their _id
 * is stored they have been written before; else another unique index refuses them, as their result
 * says already. */
static void settle_duplicates(struct round *r, const uint32_t *which, uint32_t n)
{
    while (n > 0) {
        uint32_t asked = n;
        bson_error_t error = {0};
        const bson_t *found;
        const char *why = not_now(r->j);
        mongoc_cursor_t *cursor = why == NULL ? find_ids(r, which, n, &asked) : NULL;
        while (cursor != NULL && mongoc_cursor_next(cursor, &found))
            for (uint32_t i = 0; i < asked; i++) {
                struct op *op = &r->j->ops[r->ops[which[i]]];
                if (stored_id_is(op, found))
                    *op->result = (struct weir_result){.verdict = WEIR_VERDICT_OK};
            }
        if (cursor == NULL)
            lookup_failed(r, which, asked, why != NULL ? why : "no memory");
        else if (mongoc_cursor_error(cursor, &error)) {
            lookup_failed(r, which, asked, error.message);
            r->j->s->client_lost = r->j->s->client_lost || error_loses_client(&error);
        }
        mongoc_cursor_destroy(cursor);
        which += asked;
        n -= asked;
    }
}

enum duplicate { DUPLICATE_ID, DUPLICATE_OTHER, DUPLICATE_UNKNOWN };

/* Newer servers name the index by its fields. Older ones do so in the message alone, where it
 * cannot be told from what an event holds. */
static enum duplicate duplicate_of(const bson_iter_t *write_error)
{
    bson_iter_t it, pattern;
    if (!bson_iter_recurse(write_error, &it) || !bson_iter_find(&it, "keyPattern") ||
        !BSON_ITER_HOLDS_DOCUMENT(&it) || !bson_iter_recurse(&it, &pattern) ||
        !bson_iter_next(&pattern))
        return DUPLICATE_UNKNOWN;
    if (strcmp(bson_iter_key(&pattern), "_id") != 0)
        return DUPLICATE_OTHER;
    return bson_iter_next(&pattern) ? DUPLICATE_OTHER : DUPLICATE_ID;
}

/* ---- The reply ---- */

static const char *text_in(const bson_iter_t *document, const char *field)
{
    bson_iter_t it;
    if (bson_iter_recurse(document, &it) && bson_iter_find(&it, field) && BSON_ITER_HOLDS_UTF8(&it))
        return bson_iter_utf8(&it, NULL);
    return "no message";
}

static int64_t number_in(const bson_iter_t *document, const char *field, int64_t otherwise)
{
    bson_iter_t it;
    if (bson_iter_recurse(document, &it) && bson_iter_find(&it, field) &&
        BSON_ITER_HOLDS_NUMBER(&it))
        return bson_iter_as_int64(&it);
    return otherwise;
}

/* The result of one write error. True where its duplicate key is still to be looked into. */
static bool read_write_error(struct round *r, const bson_iter_t *error, struct weir_result *result)
{
    bool replace = r->j->s->mode->last_wins;
    int32_t code = (int32_t)number_in(error, "code", 0);
    const char *text = text_in(error, "errmsg");
    struct meaning m = meaning_of_server(code, false);
    bool look = false;
    if (strcmp(m.code, "duplicate_key") == 0) {
        enum duplicate what = duplicate_of(error);
        if (what == DUPLICATE_ID && !replace) {
            result->verdict = WEIR_VERDICT_OK;
            return false;
        }
        if (what ==
            DUPLICATE_ID) /* two upserts of one _id at the same time: the next try finds it */
            m = (struct meaning){WEIR_VERDICT_RETRY, "upsert_race", false};
        look = !replace;
    }
    result_set(r->j, result, m.verdict, m.code, "%.*s", MESSAGE_MAX, text);
    result->number = code;
    result->retry_after_ns = retry_after_of(text);
    return look;
}

static uint32_t read_write_errors(struct round *r)
{
    bson_iter_t it, errors;
    uint32_t n = 0, n_look = 0;
    if (!bson_iter_init_find(&it, &r->reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &errors))
        return 0;
    uint32_t *look = r->j->s->h->arena_alloc(r->j->a, (r->n + 1) * sizeof(*look));
    while (bson_iter_next(&errors)) {
        int64_t index = number_in(&errors, "index", -1);
        if (!BSON_ITER_HOLDS_DOCUMENT(&errors) || index < 0 || index >= (int64_t)r->n)
            continue;
        struct weir_result *result = r->j->ops[r->ops[index]].result;
        if (result->verdict != WEIR_VERDICT_NONE)
            continue;
        n++;
        if (read_write_error(r, &errors, result) && look != NULL)
            look[n_look++] = (uint32_t)index;
    }
    if (look != NULL)
        settle_duplicates(r, look, n_look);
    return n;
}

static int64_t count_done(const struct round *r)
{
    int64_t n = 0;
    for (const char *const *field = r->j->s->mode->counts; *field != NULL; field++) {
        bson_iter_t it;
        if (bson_iter_init_find(&it, &r->reply, *field) && BSON_ITER_HOLDS_NUMBER(&it))
            n += bson_iter_as_int64(&it);
    }
    return n;
}

/* The write concern was not met: what was written may be lost with its server, so it counts as not
 * known. Writing it again does no harm and asks the server again. */
static bool read_concern_error(struct round *r)
{
    bson_iter_t it, errors;
    if (!bson_iter_init_find(&it, &r->reply, "writeConcernErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &errors) || !bson_iter_next(&errors))
        return false;
    int32_t code = (int32_t)number_in(&errors, "code", 0);
    for (uint32_t i = 0; i < r->n; i++) {
        struct weir_result *result = r->j->ops[r->ops[i]].result;
        if (result->verdict != WEIR_VERDICT_OK)
            continue;
        result_set(r->j, result, WEIR_VERDICT_UNAVAILABLE, "write_concern",
                   "written, but not as the write concern asks: %.*s", MESSAGE_MAX,
                   text_in(&errors, "errmsg"));
        result->number = code;
    }
    return true;
}

/* The bulk as a whole failed; what has no result yet is not known. True where each half of it
 * should be tried by itself, to find the one document that the server cannot take. */
static bool read_failure(struct round *r)
{
    struct meaning m = meaning_of_error(&r->error, &r->reply);
    if (m.of_document && r->n > 1)
        return true;
    const char *text = r->error.message[0] != '\0' ? r->error.message : "the reply is incomplete";
    const char *why = not_now(r->j);
    char with_why[MESSAGE_MAX];
    if (error_loses_client(&r->error) || why != NULL)
        r->j->s->client_lost = true;
    if (strcmp(m.code, "auth_failed") == 0)
        text = "the server refused the user or password of the uri";
    if (why != NULL && m.verdict == WEIR_VERDICT_UNAVAILABLE) {
        (void)snprintf(with_why, sizeof(with_why), "%s: %.300s",
                       strcmp(why, "timeout") == 0 ? "no answer within the sink's timeout"
                                                   : "ended before the answer came",
                       text);
        text = with_why;
        m.code = why;
    }
    set_all(r, true, &m, (int32_t)r->error.code, text);
    return false;
}

static bool read_reply(struct round *r, bool succeeded)
{
    const struct meaning ok = {WEIR_VERDICT_OK, NULL, false};
    bool all_known = succeeded;
    if (!succeeded) {
        uint32_t n_errors = read_write_errors(r);
        all_known = !bson_empty(&r->reply) && count_done(r) + n_errors == (int64_t)r->n;
    }
    if (!all_known)
        return read_failure(r);
    set_all(r, true, &ok, 0, "");
    (void)read_concern_error(r);
    return false;
}

/* ---- Sending ---- */

static bool have_client(struct job *j, bson_error_t *ret_error)
{
    struct sink *s = j->s;
    if (s->client_lost) {
        connect_drop(s->client);
        s->client = NULL;
        s->client_lost = false;
    }
    if (s->client == NULL)
        s->client = connect_client(s->uri, &s->patience, ret_error);
    return s->client != NULL;
}

/* Writes the document of an op into the bulk. False: the op has its result. */
static bool append(struct round *r, mongoc_bulk_operation_t *bulk, struct op *op, size_t *bytes)
{
    struct sink *s = r->j->s;
    bson_t doc;
    bson_error_t error = {0};
    if (!doc_write(&s->doc, op->value, &op->id)) {
        bool memory = strcmp(s->doc.code, "no_memory") == 0;
        result_set(r->j, op->result, memory ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_REJECTED,
                   s->doc.code, "%s%s%s", s->doc.path, s->doc.path[0] != '\0' ? ": " : "",
                   s->doc.why);
        return false;
    }
    *bytes += s->doc.len;
    if (bson_init_static(&doc, s->doc.data, s->doc.len) &&
        s->mode->append(s, bulk, &op->id, &doc, &error))
        return true;
    result_set(r->j, op->result, WEIR_VERDICT_REJECTED, "bad_document", "%.*s", MESSAGE_MAX,
               error.message);
    return false;
}

/* Fills one bulk from ops[0..n) and executes it. Returns how many ops it took. */
static uint32_t send_some(struct round *r, const uint32_t *ops, uint32_t n)
{
    struct sink *s = r->j->s;
    uint32_t *members = s->h->arena_alloc(r->j->a, n * sizeof(*members));
    const struct meaning no_memory = {WEIR_VERDICT_UNAVAILABLE, "no_memory", false};
    r->ops = ops;
    r->n = n;
    if (members == NULL) {
        set_all(r, false, &no_memory, 0, "no memory for a bulk");
        return n;
    }
    mongoc_bulk_operation_t *bulk =
        mongoc_collection_create_bulk_operation_with_opts(r->collection, &s->bulk_opts);
    size_t bytes = 0;
    uint32_t taken = 0, n_members = 0;
    for (; taken < n && bytes < SEND_BYTES; taken++)
        if (append(r, bulk, &r->j->ops[ops[taken]], &bytes))
            members[n_members++] = ops[taken];
    r->ops = members;
    r->n = n_members;
    bool halve = false;
    if (n_members > 0) {
        memset(&r->error, 0, sizeof(r->error));
        bool succeeded = mongoc_bulk_operation_execute(bulk, &r->reply, &r->error) != 0;
        halve = read_reply(r, succeeded);
        bson_destroy(&r->reply);
    }
    mongoc_bulk_operation_destroy(bulk);
    if (halve) {
        for (uint32_t i = 0; i < n_members; i++)
            *r->j->ops[members[i]].result = (struct weir_result){0};
        bulk_send(r->j, r->t, members, n_members / 2);
        bulk_send(r->j, r->t, members + n_members / 2, n_members - n_members / 2);
    }
    return taken;
}

void bulk_send(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n)
{
    struct round r = {.j = j, .t = t};
    bson_error_t error = {0};
    while (n > 0) {
        const char *why = not_now(j);
        r.ops = ops;
        r.n = n;
        if (why != NULL || !have_client(j, &error)) {
            const struct meaning m = {WEIR_VERDICT_UNAVAILABLE, why != NULL ? why : "no_client",
                                      false};
            set_all(&r, false, &m, (int32_t)error.code,
                    why != NULL ? "the time for this write is over" : error.message);
            return;
        }
        r.collection = mongoc_client_get_collection(j->s->client, t->database, t->collection);
        uint32_t taken = send_some(&r, ops, n);
        mongoc_collection_destroy(r.collection);
        ops += taken;
        n -= taken;
    }
}
