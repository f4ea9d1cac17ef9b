/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations to unordered bulks, replies to results. Every op of a bulk ends with one of:
 *   its own write error      the verdict of that error
 *   no error, counts add up  ok (unless the write concern was not met)
 *   anything else            not known: unavailable, and written again
 * "Counts add up": ended well + write errors = sent. A connection that breaks between two messages
 * of a bulk leaves them short, whatever the error says.
 */
#include "bulk.h"
#include "verdict.h"

#include <stdio.h>

#define SEND_BYTES ((size_t)24 << 20) /* of documents in one bulk */

/* A bulk on its way. */
struct sending {
    struct task task; /* first */
    void (*free_memory)(void *p);
    mongoc_bulk_operation_t *bulk;
    bool succeeded;
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
        if (m->verdict == WEIR_VERDICT_OK) {
            result->verdict = WEIR_VERDICT_OK;
            continue;
        }
        result_set(r->j, result, m->verdict, m->code, "%.*s", MESSAGE_MAX, text);
        result->number = number;
        result->retry_after_ns = retry_after_of(text);
    }
}

const char *round_not_now(struct job *j)
{
    switch (worker_wait(j->s->session->worker, j->deadline_ns)) {
    case WORKER_CANCELED:
        return "canceled";
    case WORKER_TIMEOUT:
        return "the server has not answered an earlier write yet";
    case WORKER_DONE:
        break;
    }
    if (atomic_load_explicit(&j->s->canceled, memory_order_relaxed))
        return "canceled";
    return j->s->h->now(j->s->h) >= j->deadline_ns ? "the time for this write is over" : NULL;
}

const char *round_run(struct job *j, struct task *take_t)
{
    switch (worker_run(j->s->session->worker, take_t, j->deadline_ns)) {
    case WORKER_CANCELED:
        return "canceled";
    case WORKER_TIMEOUT:
        return "no answer within the sink's timeout";
    case WORKER_DONE:
        break;
    }
    return NULL;
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

static uint32_t read_write_errors(struct round *r, const bson_t *reply)
{
    bson_iter_t it, errors;
    uint32_t n = 0, n_look = 0;
    if (!bson_iter_init_find(&it, reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
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

static int64_t count_done(const struct round *r, const bson_t *reply)
{
    int64_t n = 0;
    for (const char *const *field = r->j->s->mode->counts; *field != NULL; field++) {
        bson_iter_t it;
        if (bson_iter_init_find(&it, reply, *field) && BSON_ITER_HOLDS_NUMBER(&it))
            n += bson_iter_as_int64(&it);
    }
    return n;
}

/* The write concern was not met: what was written may be lost with its server, so it counts as not
 * known. Writing it again does no harm and asks the server again. */
static void read_concern_error(struct round *r, const bson_t *reply)
{
    bson_iter_t it, errors;
    if (!bson_iter_init_find(&it, reply, "writeConcernErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &errors) || !bson_iter_next(&errors))
        return;
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
}

/* The bulk as a whole failed; what has no result yet is not known. True where each half of it
 * should be tried by itself, to find the one document that the server cannot take. */
static bool read_failure(struct round *r, const struct sending *sent)
{
    struct meaning m = meaning_of_error(&sent->error, &sent->reply);
    const char *text = sent->error.message;
    if (m.of_document && r->n > 1)
        return true;
    if (text[0] == '\0')
        text = "the reply is incomplete";
    if (strcmp(m.code, "auth_failed") == 0)
        text = "the server refused the user or password of the uri";
    set_all(r, true, &m, (int32_t)sent->error.code, text);
    return false;
}

/* As read_failure. */
static bool read_reply(struct round *r, const struct sending *sent)
{
    const struct meaning ok = {WEIR_VERDICT_OK, NULL, false};
    bool all_known = sent->succeeded;
    if (!sent->succeeded) {
        uint32_t n_errors = read_write_errors(r, &sent->reply);
        all_known =
            !bson_empty(&sent->reply) && count_done(r, &sent->reply) + n_errors == (int64_t)r->n;
    }
    if (!all_known)
        return read_failure(r, sent);
    set_all(r, true, &ok, 0, "");
    read_concern_error(r, &sent->reply);
    return false;
}

/* ---- Sending ---- */

static void sending_run(struct task *t)
{
    struct sending *s = (struct sending *)(void *)t;
    bson_destroy(&s->reply); /* execute begins it anew */
    s->succeeded = mongoc_bulk_operation_execute(s->bulk, &s->reply, &s->error) != 0;
}

static void sending_free(struct task *take_t)
{
    struct sending *s = (struct sending *)(void *)take_t;
    mongoc_bulk_operation_destroy(s->bulk);
    bson_destroy(&s->reply);
    s->free_memory(s);
}

static struct sending *sending_new(struct round *r)
{
    const struct sink *s = r->j->s;
    struct sending *sent = s->h->alloc(sizeof(*sent));
    if (sent == NULL)
        return NULL;
    mongoc_collection_t *collection =
        mongoc_client_get_collection(s->session->client, r->t->database, r->t->collection);
    sent->task = (struct task){sending_run, sending_free};
    sent->free_memory = s->h->free;
    sent->bulk = mongoc_collection_create_bulk_operation_with_opts(collection, &s->bulk_opts);
    bson_init(&sent->reply);
    mongoc_collection_destroy(collection);
    return sent;
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

/* Executes the bulk of r->ops. True: each half of it should be tried by itself. */
static bool execute(struct round *r, struct sending *take_sent)
{
    const struct meaning unknown = {WEIR_VERDICT_UNAVAILABLE, "timeout", false};
    if (r->n == 0) {
        sending_free(&take_sent->task);
        return false;
    }
    const char *why = round_run(r->j, &take_sent->task);
    if (why != NULL) {
        set_all(r, true, &unknown, 0, why);
        return false;
    }
    bool halve = read_reply(r, take_sent);
    sending_free(&take_sent->task);
    return halve;
}

static void send_halves(struct round *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        *r->j->ops[r->ops[i]].result = (struct weir_result){0};
    bulk_send(r->j, r->t, r->ops, r->n / 2);
    bulk_send(r->j, r->t, r->ops + r->n / 2, r->n - r->n / 2);
}

/* Fills one bulk from ops[0..n) and executes it. Returns how many ops it took. */
static uint32_t send_some(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n)
{
    struct round r = {.j = j, .t = t, .ops = ops, .n = n};
    uint32_t *members = j->s->h->arena_alloc(j->a, n * sizeof(*members));
    struct sending *sent = members != NULL ? sending_new(&r) : NULL;
    const struct meaning no_memory = {WEIR_VERDICT_UNAVAILABLE, "no_memory", false};
    if (sent == NULL) {
        set_all(&r, false, &no_memory, 0, "no memory for a bulk");
        return n;
    }
    size_t bytes = 0;
    uint32_t taken = 0, n_members = 0;
    for (; taken < n && bytes < SEND_BYTES; taken++)
        if (append(&r, sent->bulk, &j->ops[ops[taken]], &bytes))
            members[n_members++] = ops[taken];
    r.ops = members;
    r.n = n_members;
    if (execute(&r, sent))
        send_halves(&r);
    return taken;
}

void bulk_send(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n)
{
    while (n > 0) {
        struct round r = {.j = j, .t = t, .ops = ops, .n = n};
        struct meaning m = {WEIR_VERDICT_UNAVAILABLE, "timeout", false};
        char message[CONNECT_TEXT];
        const char *why = round_not_now(j);
        if (why == NULL) {
            m.code = "no_client";
            why = session_connect(j, message);
        }
        if (why != NULL) {
            set_all(&r, false, &m, 0, why);
            return;
        }
        uint32_t taken = send_some(j, t, ops, n);
        ops += taken;
        n -= taken;
    }
}
