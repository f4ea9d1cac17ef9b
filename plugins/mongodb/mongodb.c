/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `mongodb`: events as documents, each found again by its _id, so that writing it a second
 * time changes nothing. This file holds the life of an instance; sink.h has the map of the others.
 * Retrying, waiting and dead letters are the host's.
 */
#include "bulk.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GOODBYE_NS (100 * WEIR_NS_PER_MS)

/* ---- Life ---- */

enum weir_status mongodb_probe(const struct weir_host *h, const void *config, int64_t deadline_ns,
                               struct weir_error *err)
{
    const struct config *cf = config;
    bson_error_t error = {0};
    if (connect_ping(h, cf->uri.ptr, deadline_ns, &error))
        return WEIR_OK;
    struct meaning m = meaning_of_error(&error, NULL);
    return h->error(err, WEIR_E_UNAVAILABLE, m.code, "%s", text_of_error(&error));
}

static void make_opts(struct sink *s, const struct config *cf)
{
    mongoc_write_concern_t *wc = connect_concern(cf->uri.ptr);
    int32_t w = cf->write_concern.w.ptr != NULL ? concern_number(cf->write_concern.w) : 0;
    if (w > 0)
        mongoc_write_concern_set_w(wc, w);
    else if (cf->write_concern.w.ptr != NULL && strcmp(cf->write_concern.w.ptr, "majority") == 0)
        mongoc_write_concern_set_w(wc, MONGOC_WRITE_CONCERN_W_MAJORITY);
    else if (cf->write_concern.w.ptr != NULL)
        mongoc_write_concern_set_wtag(wc, cf->write_concern.w.ptr);
    if (cf->write_concern.journal != 0)
        mongoc_write_concern_set_journal(wc, cf->write_concern.journal == 1);
    if (cf->write_concern.timeout > 0)
        mongoc_write_concern_set_wtimeout_int64(wc, cf->write_concern.timeout / WEIR_NS_PER_MS);
    bson_init(&s->opts);
    if (!mongoc_write_concern_is_default(wc))
        (void)mongoc_write_concern_append(wc, &s->opts);
    mongoc_write_concern_destroy(wc);
}

static enum chain chain_of(const struct config *cf)
{
    switch (cf->mode) {
    case MODE_INSERT:
        return CHAIN_FIRST;
    case MODE_REPLACE:
        return CHAIN_LAST;
    case MODE_DELETE: /* of one document by its _id, or of all that there are: once is enough */
        return cf->filter == NULL || cf->many ? CHAIN_FIRST : CHAIN_EACH;
    default:
        return CHAIN_EACH;
    }
}

/* NULL in, NULL out. */
static bool compile_shape(struct sink *s, const char *option, const struct weir_value *v,
                          struct shape **ret, struct weir_error *err)
{
    struct shape_mistake wrong;
    if (v == NULL)
        return true;
    bool pipeline = strcmp(option, "update") == 0 && s->h->value_type(v) == WEIR_ARRAY;
    *ret = shape_compile(s->h, s->arena, v, pipeline, &wrong);
    if (*ret == NULL)
        (void)s->h->error(err, WEIR_E_CONFIG, "bad_document", "%s%s: %s", option, wrong.path,
                          wrong.text);
    return *ret != NULL;
}

static enum weir_status compile_documents(struct sink *s, const struct config *cf,
                                          struct weir_error *err)
{
    char path[160];
    const char *wrong = types_of_config(s->h, s->arena, cf, &s->types, path);
    if (wrong != NULL)
        return s->h->error(err, WEIR_E_CONFIG, "bad_path", "%s: %s", path, wrong);
    s->id_type = type_child(&s->types, weir_str_n("_id", 3));
    if (!compile_shape(s, "filter", cf->filter, &s->filter, err) ||
        !compile_shape(s, "update", cf->update, &s->update, err) ||
        !compile_shape(s, "array_filters", cf->array_filters, &s->array_filters, err))
        return WEIR_E_CONFIG;
    return WEIR_OK;
}

static enum weir_status prepare(struct sink *s, const struct config *cf, struct weir_error *err)
{
    const struct weir_host *h = s->h;
    struct weir_str text;
    s->arena = h->arena_new(h);
    if (s->arena == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    enum weir_status status = compile_documents(s, cf, err);
    if (status != WEIR_OK)
        return status;
    bool typed = cf->dates.n > 0 || cf->types.n > 0;
    doc_writer_init(&s->doc, h, typed ? &s->types : NULL);
    doc_writer_init(&s->selector, h, NULL);
    if (!prepare_init(s))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    if (h->template_is_literal(cf->database, &text))
        s->database = h->arena_printf(s->arena, "%.*s", (int)text.len, text.ptr).ptr;
    if (h->template_is_literal(cf->collection, &text))
        s->collection = h->arena_printf(s->arena, "%.*s", (int)text.len, text.ptr).ptr;
    s->uri = connect_settings(h, cf->uri.ptr, err);
    if (s->uri == NULL)
        return WEIR_E_CONFIG;
    s->patience = (struct patience){h, 0, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (s->patience.cancel_fd < 0)
        return h->error(err, WEIR_E_FATAL, "no_descriptor", "eventfd: %s", strerror(errno));
    return WEIR_OK;
}

/* Tells the server that the sessions are over, if it listens. */
static void say_goodbye(struct sink *s)
{
    if (s->client_lost) {
        connect_drop(s->client);
        return;
    }
    s->patience.deadline_ns = s->h->now(s->h) + GOODBYE_NS;
    connect_log_to(&s->log);
    mongoc_client_destroy(s->client);
    connect_log_to(NULL);
}

void mongodb_close(void *take_self)
{
    struct sink *s = take_self;
    if (s == NULL)
        return;
    say_goodbye(s);
    if (s->patience.cancel_fd >= 0)
        (void)close(s->patience.cancel_fd);
    mongoc_uri_destroy(s->uri);
    doc_writer_done(&s->doc);
    doc_writer_done(&s->selector);
    bson_destroy(&s->opts);
    if (s->arena != NULL)
        s->h->arena_free(s->arena);
    s->h->free(s);
}

enum weir_status mongodb_open(const struct weir_host *h, const void *config, void **ret_self,
                              struct weir_error *err)
{
    const struct config *cf = config;
    connect_init();
    struct sink *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    s->h = h;
    s->config = cf;
    s->chain = chain_of(cf);
    s->seed = h->random(h);
    s->log.host = h;
    s->patience.h = h;
    s->patience.cancel_fd = -1;
    make_opts(s, cf);
    enum weir_status status = prepare(s, cf, err);
    if (status != WEIR_OK) {
        mongodb_close(s);
        return status;
    }
    *ret_self = s;
    return WEIR_OK;
}

/* ---- Writing ---- */

/* Gives the result of `which` to those of its key that it stands for, or that must not overtake it.
 * Returns the one that must be written next, OP_NONE where there is none. */
static uint32_t end_chain(struct job *j, uint32_t which)
{
    const struct op *op = &j->ops[which];
    bool done = op->result->verdict == WEIR_VERDICT_OK;
    if (op->result->verdict == WEIR_VERDICT_REJECTED || (done && j->s->chain == CHAIN_EACH))
        return op->next;
    for (uint32_t i = op->next; i != OP_NONE; i = j->ops[i].next)
        *j->ops[i].result = *op->result;
    return OP_NONE;
}

static bool write_heads(struct job *j, uint32_t *heads, uint32_t n)
{
    uint32_t *some = j->s->h->arena_alloc(j->a, (n + 1) * sizeof(*some));
    if (some == NULL)
        return false;
    while (n > 0) {
        for (uint32_t t = 0; t < j->n_targets; t++) {
            uint32_t n_some = 0;
            for (uint32_t i = 0; i < n; i++)
                if (j->ops[heads[i]].target == t)
                    some[n_some++] = heads[i];
            if (n_some > 0)
                bulk_send(j, &j->targets[t], some, n_some);
        }
        uint32_t left = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t next = end_chain(j, heads[i]);
            if (next != OP_NONE)
                heads[left++] = next;
        }
        n = left;
    }
    return true;
}

static void mongodb_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                          struct weir_results *results)
{
    struct sink *s = self;
    const struct weir_host *h = s->h;
    struct job j = {.s = s, .a = h->scratch(h), .b = b};
    uint32_t *heads = NULL, n_heads = 0;
    s->patience.deadline_ns = deadline_ns;
    s->doc.scratch = j.a;
    s->selector.scratch = j.a;
    connect_log_to(&s->log);
    if (!job_plan(&j, results) || !job_chain(&j, &heads, &n_heads) ||
        !write_heads(&j, heads, n_heads))
        for (uint32_t i = 0; i < results->n; i++)
            if (weir_result_at(results, i)->verdict == WEIR_VERDICT_NONE)
                result_set(&j, weir_result_at(results, i), WEIR_VERDICT_UNAVAILABLE, "no_memory",
                           "no memory to write the batch");
    connect_log_to(NULL);
    doc_writer_trim(&s->doc);
    doc_writer_trim(&s->selector);
}

static void mongodb_cancel(void *self)
{
    const struct sink *s = self;
    const uint64_t one = 1;
    while (write(s->patience.cancel_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

const struct weir_sink mongodb_sink = {
    .size = sizeof(mongodb_sink),
    .batch_events = 1000,
    .batch_bytes = 4 << 20,
    .batch_timeout_ns = 50 * WEIR_NS_PER_MS,
    .in_flight = 1,
    .write = mongodb_write,
    .cancel = mongodb_cancel,
};
