/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands to replies, replies to results. Every op of a command ends with one of:
 *   its own write error       the verdict of that error
 *   none, and the reply fits  ok (unless the write concern was not met)
 *   anything else             not known: unavailable, and written again
 */
#include "bulk.h"

#include <errno.h>
#include <stdio.h>

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
        result->retry_after_ns = retry_after_of(m, text);
    }
}

const char *round_not_now(struct job *j)
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

/* True where each operation finds a document or makes one. */
static bool makes_documents(const struct config *cf)
{
    return cf->mode == MODE_INSERT || cf->mode == MODE_REPLACE || cf->upsert;
}

/* What a duplicate key means for an upsert. Two at the same time may make one document: the next
 * try finds it. Where that does not find it either, and all else in the filter are conditions,
 * these do not hold, and there is nothing to change. */
static struct meaning meaning_for_upsert(const struct round *r, const bson_iter_t *error,
                                         const struct op *op)
{
    enum duplicate what = duplicate_of(error);
    enum standing standing = duplicate_standing(error, op->key);
    if (what == DUPLICATE_UNKNOWN)
        return (struct meaning){WEIR_VERDICT_RETRY, "duplicate_key", false};
    if (standing == STANDING_GUARDED && r->again)
        return (struct meaning){WEIR_VERDICT_OK, NULL, false};
    if (standing == STANDING_OTHER && what != DUPLICATE_ID)
        return (struct meaning){WEIR_VERDICT_REJECTED, "duplicate_key", true};
    return (struct meaning){WEIR_VERDICT_RETRY, "upsert_race", false};
}

/* What a duplicate key means. *ret_look: it must be looked into. */
static struct meaning meaning_of_duplicate(const struct round *r, const bson_iter_t *error,
                                           const struct op *op, bool *ret_look)
{
    const struct config *cf = r->j->s->config;
    struct meaning m = {WEIR_VERDICT_REJECTED, "duplicate_key", true};
    if (cf->mode == MODE_INSERT) {
        *ret_look = duplicate_of(error) != DUPLICATE_ID && op->id.type != WEIR_NULL;
        return duplicate_of(error) != DUPLICATE_ID ? m
                                                   : (struct meaning){WEIR_VERDICT_OK, NULL, false};
    }
    if (makes_documents(cf))
        m = meaning_for_upsert(r, error, op);
    *ret_look = m.verdict == WEIR_VERDICT_RETRY && !r->again;
    return m;
}

/* The result of one write error. True where its duplicate key is still to be looked into. */
static bool read_write_error(struct round *r, const bson_iter_t *error, const struct op *op)
{
    int32_t code = (int32_t)number_in(error, "code", 0);
    const char *text = text_in(error, "errmsg");
    struct meaning m = meaning_of_server(code, false);
    bool look = false;
    if (strcmp(m.code, "duplicate_key") == 0)
        m = meaning_of_duplicate(r, error, op, &look);
    if (m.verdict == WEIR_VERDICT_OK) {
        op->result->verdict = WEIR_VERDICT_OK;
        return false;
    }
    result_set(r->j, op->result, m.verdict, m.code, "%.*s", MESSAGE_MAX, text);
    op->result->number = code;
    op->result->retry_after_ns = retry_after_of(&m, text);
    return look;
}

static uint32_t read_write_errors(struct round *r)
{
    bson_iter_t it, errors;
    uint32_t n = 0;
    if (!bson_iter_init_find(&it, &r->reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &errors))
        return 0;
    while (bson_iter_next(&errors)) {
        int64_t index = number_in(&errors, "index", -1);
        if (!BSON_ITER_HOLDS_DOCUMENT(&errors) || index < 0 || index >= (int64_t)r->n)
            continue;
        const struct op *op = &r->j->ops[r->ops[index]];
        if (op->result->verdict != WEIR_VERDICT_NONE)
            continue;
        n++;
        if (read_write_error(r, &errors, op))
            r->look[r->n_look++] = (uint32_t)index;
    }
    if (r->j->s->config->mode == MODE_INSERT)
        settle_duplicates(r, r->look, r->n_look);
    return n;
}

/* The write concern was not met: what was written may be lost with its server, so it counts as not
 * known. Writing it again asks the server again. */
static void read_concern_error(struct round *r)
{
    bson_iter_t it;
    if (!bson_iter_init_find(&it, &r->reply, "writeConcernError") || !BSON_ITER_HOLDS_DOCUMENT(&it))
        return;
    int32_t code = (int32_t)number_in(&it, "code", 0);
    for (uint32_t i = 0; i < r->n; i++) {
        struct weir_result *result = r->j->ops[r->ops[i]].result;
        if (result->verdict != WEIR_VERDICT_OK)
            continue;
        result_set(r->j, result, WEIR_VERDICT_UNAVAILABLE, "write_concern",
                   "written, but not as the write concern asks: %.*s", MESSAGE_MAX,
                   text_in(&it, "errmsg"));
        result->number = code;
    }
    r->j->s->client_lost = r->j->s->client_lost || code_loses_client(code);
}

/* The command as a whole failed; what has no result yet is not known. True where each half of it
 * should be tried by itself, to find the one document that the server cannot take. */
static bool read_failure(struct round *r)
{
    struct meaning m = meaning_of_error(&r->error, &r->reply);
    const char *text = text_of_error(&r->error);
    const char *why = round_not_now(r->j);
    char with_why[MESSAGE_MAX];
    if (m.of_document && r->n > 1)
        return true;
    if (error_loses_client(&r->error) || why != NULL)
        r->j->s->client_lost = true;
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

static bool reply_says(const bson_t *reply, const char *field, int64_t *ret)
{
    bson_iter_t it;
    if (!bson_iter_init_find(&it, reply, field))
        return false;
    *ret = bson_iter_as_int64(&it);
    return true;
}

/* True where each half should be tried by itself. */
static bool read_reply(struct round *r)
{
    const struct meaning ok = {WEIR_VERDICT_OK, NULL, false};
    int64_t says_ok = 0, written = 0;
    if (!reply_says(&r->reply, "ok", &says_ok) || says_ok != 1)
        return read_failure(r);
    uint32_t n_errors = read_write_errors(r);
    bool counted = reply_says(&r->reply, "n", &written);
    if (!counted || (makes_documents(r->j->s->config) && written + n_errors < (int64_t)r->n))
        return read_failure(r);
    set_all(r, true, &ok, 0, "");
    read_concern_error(r);
    return false;
}

/* ---- Sending ---- */

/* NULL, or why there is no client. */
static const char *have_client(struct job *j, bson_error_t *error)
{
    struct sink *s = j->s;
    if (s->client_lost) {
        connect_drop(s->client);
        s->client = NULL;
        s->client_lost = false;
    }
    if (s->client == NULL)
        s->client = connect_client(s->uri, &s->patience, error);
    return s->client != NULL ? NULL : error->message;
}

/* True where each half of the command should be tried by itself. */
static bool execute(struct round *r)
{
    struct sink *s = r->j->s;
    bson_t command;
    memset(&r->error, 0, sizeof(r->error));
    if (!bson_init_static(&command, s->doc.data, s->doc.len)) {
        const struct meaning bug = {WEIR_VERDICT_REJECTED, "bad_document", false};
        set_all(r, true, &bug, 0, "the client cannot read the command that was made");
        return false;
    }
    (void)mongoc_client_write_command_with_opts(s->client, r->t->database, &command, &s->opts,
                                                &r->reply, &r->error);
    bool halve = read_reply(r);
    bson_destroy(&r->reply);
    return halve;
}

static void send_all(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n,
                     bool again);

static void send_halves(struct round *r)
{
    uint32_t half = r->n / 2;
    for (uint32_t i = 0; i < r->n; i++)
        *r->j->ops[r->ops[i]].result = (struct weir_result){0};
    send_all(r->j, r->t, r->ops, half, r->again);
    send_all(r->j, r->t, r->ops + half, r->n - half, r->again);
}

/* Once more, at once, what met a duplicate key. */
static void send_again(struct round *r)
{
    for (uint32_t i = 0; i < r->n_look; i++) {
        r->look[i] = r->ops[r->look[i]];
        *r->j->ops[r->look[i]].result = (struct weir_result){0};
    }
    send_all(r->j, r->t, r->look, r->n_look, true);
}

/* Sends one command. Returns how many ops were taken. */
static uint32_t send_some(struct round *r)
{
    struct job *j = r->j;
    uint32_t *members = j->s->h->arena_alloc(j->a, 2 * sizeof(*members) * r->n);
    const struct meaning no_memory = {WEIR_VERDICT_UNAVAILABLE, "no_memory", false};
    if (members == NULL) {
        set_all(r, false, &no_memory, 0, "no memory for a command");
        return r->n;
    }
    uint32_t n_members = 0;
    uint32_t taken = command_fill(j, r->t, r->ops, r->n, members, &n_members);
    r->ops = members;
    r->look = members + r->n;
    r->n = n_members;
    if (n_members == 0)
        return taken;
    if (execute(r))
        send_halves(r);
    else if (j->s->config->mode != MODE_INSERT && r->n_look > 0)
        send_again(r);
    return taken;
}

/* True where commands can be sent to the target; else all of the round have their result. */
static bool ready(struct round *r)
{
    struct meaning m = {WEIR_VERDICT_UNAVAILABLE, "no_client", false};
    char why[MESSAGE_MAX];
    memset(&r->error, 0, sizeof(r->error));
    const char *text = round_not_now(r->j);
    if (text != NULL) {
        m.code = text;
        set_all(r, false, &m, 0, "the time for this write is over");
        return false;
    }
    text = have_client(r->j, &r->error);
    if (text == NULL && prepare_target(r->j, r->t, &m.code, why))
        return true;
    set_all(r, false, &m, (int32_t)r->error.code, text != NULL ? text : why);
    return false;
}

static void send_all(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n,
                     bool again)
{
    while (n > 0) {
        struct round r = {.j = j, .t = t, .ops = ops, .n = n, .again = again};
        if (!ready(&r))
            return;
        uint32_t taken = send_some(&r);
        ops += taken;
        n -= taken;
    }
}

void bulk_send(struct job *j, const struct target *t, const uint32_t *ops, uint32_t n)
{
    send_all(j, t, ops, n, false);
}
