/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `mongodb`: events as documents, each found again by its _id, so that writing it a second
 * time changes nothing. This file holds the options and the life of an instance; sink.h has the map
 * of the others. Retrying, waiting and dead letters are the host's.
 */
#include "sink.h"
#include "../common/hash.h"
#include "verdict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GOODBYE_NS (100 * WEIR_NS_PER_MS)

static const char *const mode_words[] = {"insert", "replace", NULL};
static const char *const journal_words[] = {"default", "true", "false", NULL};

static const struct weir_option concern_options[] = {
    {.name = "w",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct config, write_concern.w) - offsetof(struct config, write_concern),
     .doc =
         "Servers that must have a document before it counts: a number from 1 on, majority, or a "
         "tag set's name. Not given: as in the uri, else the server's default.",
     .example = "majority"},
    {.name = "journal",
     .type = WEIR_OPT_ENUM,
     .offset =
         offsetof(struct config, write_concern.journal) - offsetof(struct config, write_concern),
     .def = "default",
     .choices = journal_words,
     .doc = "Whether they must have it in their journal on disk; default: as in the uri, else the "
            "server's default.",
     .example = "true"},
    {.name = "timeout",
     .type = WEIR_OPT_DURATION,
     .offset =
         offsetof(struct config, write_concern.timeout) - offsetof(struct config, write_concern),
     .max = 600 * WEIR_NS_PER_S,
     .doc = "How long the server waits for the others before it says that the write concern is not "
            "met (such events are written again). Not given: as in the uri, else for ever.",
     .example = "5s"},
};

static const struct weir_option options[] = {
    {.name = "uri",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, uri),
     .doc =
         "Connection string: mongodb:// or mongodb+srv://, with user, password, TLS, replica set "
         "and all other options of the driver.",
     .example = "\"mongodb://127.0.0.1:27017\""},
    {.name = "database",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_PREFIXED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, database),
     .doc = "Database; a template must begin with literal text.",
     .example = "platform"},
    {.name = "collection",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_PREFIXED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, collection),
     .doc = "Collection; a template must begin with literal text. A batch is written collection by "
            "collection.",
     .example = "\"events_{{ type }}\""},
    {.name = "mode",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, mode),
     .def = "insert",
     .choices = mode_words,
     .doc = "insert: the first event of an _id stays. replace: the last one stays (an upsert).",
     .example = "replace"},
    {.name = "id",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, id),
     .doc =
         "The document's _id; a bare field keeps its type. Not given: the field _id of the event, "
         "else the event's id.",
     .example = "\"{{ user_id }}\""},
    {.name = "object_ids",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct config, object_ids),
     .def = "false",
     .doc = "Let the driver make an ObjectId for events without a field _id. An event that comes "
            "again is then stored again: delivery is at least once, no longer effectively once.",
     .example = "true"},
    {.name = "dates",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, dates),
     .doc = "Dotted paths of fields that hold RFC 3339 strings, to be stored as dates; an array on "
            "the way stands for each of its elements.",
     .example = "[ts, items.bought_at]"},
    {.name = "write_concern",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, write_concern),
     WEIR_FIELDS(concern_options),
     .doc = "What must have happened before a document counts as written.",
     .example = "{w: majority, timeout: 5s}"},
};

/* ---- The modes ---- */

static bool append_insert(struct sink *s, mongoc_bulk_operation_t *bulk, const struct doc_id *id,
                          const bson_t *doc, bson_error_t *ret_error)
{
    (void)id;
    return mongoc_bulk_operation_insert_with_opts(bulk, doc, &s->op_opts, ret_error);
}

static bool append_replace(struct sink *s, mongoc_bulk_operation_t *bulk, const struct doc_id *id,
                           const bson_t *doc, bson_error_t *ret_error)
{
    bson_t selector;
    return doc_write_id(&s->selector, id) &&
           bson_init_static(&selector, s->selector.data, s->selector.len) &&
           mongoc_bulk_operation_replace_one_with_opts(bulk, &selector, doc, &s->op_opts,
                                                       ret_error);
}

static const char *const insert_counts[] = {"nInserted", NULL};
static const char *const replace_counts[] = {"nMatched", "nUpserted", NULL};

static const struct mode modes[] = {
    [MODE_INSERT] = {false, append_insert, insert_counts},
    [MODE_REPLACE] = {true, append_replace, replace_counts},
};

/* ---- Checks ---- */

static void check_names(const struct config *cf, const struct weir_report *r)
{
    struct weir_str database, collection;
    bool known_database = r->host->template_is_literal(cf->database, &database);
    bool known_collection = r->host->template_is_literal(cf->collection, &collection);
    const struct weir_str fine = {"x", 1};
    const char *wrong = name_wrong(known_database ? database : fine, fine);
    if (wrong != NULL)
        r->error(r, "database", -1, "%s", wrong);
    wrong = name_wrong(fine, known_collection ? collection : fine);
    if (wrong == NULL && known_database && known_collection && database.len <= 63)
        wrong = database.len + collection.len > 254
                    ? "the names of database and collection are longer than 255 bytes together"
                    : NULL;
    if (wrong != NULL)
        r->error(r, "collection", -1, "%s", wrong);
}

static void check_ids(const struct config *cf, const struct weir_report *r)
{
    struct weir_str text;
    if (cf->object_ids && cf->id != NULL)
        r->error(r, "object_ids", -1,
                 "id is given as well: leave out one of the two, a document has one _id");
    if (cf->object_ids && cf->mode == MODE_REPLACE)
        r->error(
            r, "object_ids", -1,
            "mode replace finds the document by its _id, so the event must have one: leave out "
            "object_ids, or use mode insert");
    if (cf->id != NULL && r->host->template_is_literal(cf->id, &text))
        r->error(
            r, "id", -1,
            "\"%.*s\" has no placeholder: every event would have the same _id, and all but one "
            "would be lost; name a field, such as \"{{ user_id }}\"",
            (int)text.len, text.ptr);
}

static void check_dates(const struct config *cf, const struct weir_report *r)
{
    const struct weir_str *paths = cf->dates.items;
    struct weir_arena *a = r->host->arena_new(r->host);
    struct date_node root = {0};
    for (uint32_t i = 0; a != NULL && i < cf->dates.n; i++) {
        char where[32];
        const char *wrong = date_tree_add(r->host, a, &root, paths[i]);
        (void)snprintf(where, sizeof(where), "dates[%u]", i);
        if (wrong != NULL)
            r->error(r, where, -1, "%s; expected a field's path such as ts or items.bought_at",
                     wrong);
    }
    if (a != NULL)
        r->host->arena_free(a);
}

/* w as a number; 0 where it is a word, -1 where it is neither. */
static int32_t concern_number(struct weir_str w)
{
    char *end = NULL;
    if (w.len == 0 || w.len > 100)
        return -1;
    long n = strtol(w.ptr, &end, 10);
    if (end == w.ptr)
        return 0;
    return *end == '\0' && n >= 1 && n <= 50 ? (int32_t)n : -1;
}

static void check_concern(const struct config *cf, const struct weir_report *r)
{
    if (cf->write_concern.w.ptr != NULL && concern_number(cf->write_concern.w) < 0)
        r->error(
            r, "write_concern.w", -1,
            "expected a number from 1 to 50, majority, or a tag set's name, found \"%s\"%s",
            cf->write_concern.w.ptr,
            cf->write_concern.w.len == 1 && cf->write_concern.w.ptr[0] == '0'
                ? "; with 0 the server does not answer, and nothing could be known of any event"
                : "");
    if (cf->write_concern.timeout > 0 && cf->write_concern.timeout < WEIR_NS_PER_MS)
        r->error(r, "write_concern.timeout", -1, "must be at least 1ms");
}

static void mongodb_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    char why[CONNECT_TEXT];
    mongoc_uri_t *uri = connect_uri(cf->uri.ptr, why);
    if (why[0] != '\0')
        report->error(report, "uri", -1,
                      "%s; expected something like mongodb://user:password@host:27017/?tls=true",
                      why);
    const char *idle = uri != NULL ? connect_idle_option(uri) : NULL;
    if (idle != NULL)
        report->warning(report, "uri", -1,
                        "its option %s has no effect here: each shard of the sink has one "
                        "connection, and looks for a primary once a write, within the sink's "
                        "timeout",
                        idle);
    mongoc_uri_destroy(uri);
    check_names(cf, report);
    check_ids(cf, report);
    check_dates(cf, report);
    check_concern(cf, report);
}

static uint32_t mongodb_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct config *cf = config;
    return WEIR_NEEDS_VALUE | (cf->id == NULL && !cf->object_ids ? WEIR_NEEDS_ID : 0);
}

static uint32_t mongodb_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct config *cf = config;
    return cf->object_ids ? 0 : WEIR_TRAIT_OVERWRITES;
}

/* ---- Life ---- */

static enum weir_status mongodb_probe(const struct weir_host *h, const void *config,
                                      int64_t deadline_ns, struct weir_error *err)
{
    const struct config *cf = config;
    bson_error_t error = {0};
    if (connect_ping(h, cf->uri.ptr, deadline_ns, &error))
        return WEIR_OK;
    struct meaning m = meaning_of_error(&error, NULL);
    if (strcmp(m.code, "auth_failed") == 0)
        return h->error(err, WEIR_E_UNAVAILABLE, m.code,
                        "the server refused the user or password of the uri");
    return h->error(err, WEIR_E_UNAVAILABLE, m.code, "%s", error.message);
}

static void make_opts(struct sink *s, const struct config *cf)
{
    mongoc_write_concern_t *wc = connect_concern(cf->uri.ptr);
    bool given = cf->write_concern.w.ptr != NULL || cf->write_concern.journal != 0 ||
                 cf->write_concern.timeout != 0;
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
    bson_init(&s->bulk_opts);
    bson_init(&s->op_opts);
    BSON_APPEND_BOOL(&s->bulk_opts, "ordered", false);
    if (given)
        (void)mongoc_write_concern_append(wc, &s->bulk_opts);
    mongoc_write_concern_destroy(wc);
    BSON_APPEND_BOOL(&s->op_opts, "validate", false); /* the writer makes nothing else */
    if (cf->mode == MODE_REPLACE)
        BSON_APPEND_BOOL(&s->op_opts, "upsert", true);
}

static enum weir_status prepare(struct sink *s, const struct config *cf, struct weir_error *err)
{
    const struct weir_host *h = s->h;
    const struct weir_str *paths = cf->dates.items;
    struct weir_str text;
    s->arena = h->arena_new(h);
    if (s->arena == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    for (uint32_t i = 0; i < cf->dates.n; i++) {
        const char *wrong = date_tree_add(h, s->arena, &s->dates, paths[i]);
        if (wrong != NULL)
            return h->error(err, WEIR_E_CONFIG, "bad_path", "dates[%u]: %s", i, wrong);
    }
    doc_writer_init(&s->doc, h, cf->dates.n > 0 ? &s->dates : NULL);
    doc_writer_init(&s->selector, h, NULL);
    if (h->template_is_literal(cf->database, &text))
        s->database = h->arena_printf(s->arena, "%.*s", (int)text.len, text.ptr).ptr;
    if (h->template_is_literal(cf->collection, &text))
        s->collection = h->arena_printf(s->arena, "%.*s", (int)text.len, text.ptr).ptr;
    s->uri = connect_settings(h, cf->uri.ptr, cf->object_ids, err);
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
    s->patience.deadline_ns = s->h->now(s->h) + GOODBYE_NS;
    connect_log_to(&s->log);
    mongoc_client_destroy(s->client);
    connect_log_to(NULL);
}

static void mongodb_close(void *take_self)
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
    bson_destroy(&s->bulk_opts);
    bson_destroy(&s->op_opts);
    if (s->arena != NULL)
        s->h->arena_free(s->arena);
    s->h->free(s);
}

static enum weir_status mongodb_open(const struct weir_host *h, const void *config, void **ret_self,
                                     struct weir_error *err)
{
    const struct config *cf = config;
    connect_init();
    struct sink *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    s->h = h;
    s->config = cf;
    s->mode = &modes[cf->mode];
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

/* Gives the result of `which` to those that it stands for. Returns the one that must be written now
 * in its place, OP_NONE where it stands for all. */
static uint32_t end_chain(struct job *j, uint32_t which)
{
    const struct op *op = &j->ops[which];
    if (op->result->verdict == WEIR_VERDICT_REJECTED)
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
    struct job j = {.s = s, .a = h->scratch(h)};
    uint32_t *heads = NULL, n_heads = 0;
    s->patience.deadline_ns = deadline_ns;
    s->doc.scratch = j.a;
    s->selector.scratch = j.a;
    connect_log_to(&s->log);
    if (!job_plan(&j, b, results) || !job_chain(&j, &heads, &n_heads) ||
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

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 1000,
    .batch_bytes = 4 << 20,
    .batch_timeout_ns = 50 * WEIR_NS_PER_MS,
    .in_flight = 1,
    .write = mongodb_write,
    .cancel = mongodb_cancel,
};

static const struct weir_type type_mongodb = {
    .size = sizeof(type_mongodb),
    .kind = WEIR_SINK,
    .name = "mongodb",
    .summary = "Stores events as documents in MongoDB, each found again by its _id.",
    .doc =
        "Events are converted straight to BSON and written in unordered bulks over one connection "
        "a shard. Each document has its own outcome.\n"
        "\n"
        "**The `_id`** is what `id` gives, else the event's field `_id`, else the event's id "
        "(topic-partition-offset, an `Idempotency-Key`, or one given at entry). An event that "
        "comes "
        "again therefore changes nothing: with `mode: insert` the server answers that the `_id` is "
        "there, which counts as success (the first event of an `_id` stays); with `mode: replace` "
        "the "
        "document is written over (the last one stays, and of several events of one batch with the "
        "same `_id` only the last one is sent). An `_id` is a string, an integer or an object. "
        "With "
        "`object_ids: true` the driver makes an ObjectId where an event has no `_id`; then an "
        "event "
        "that comes again is stored again.\n"
        "\n"
        "**Types.** Integers become int64, whatever their value; integers beyond it and numbers "
        "beyond a double become decimal128 where that is exact, else the event is rejected "
        "(`bad_number`); other numbers become doubles. Strings may hold NUL, keys may not "
        "(`bad_key`). Of duplicate keys in an object the first is stored. Fields named in `dates` "
        "become dates in milliseconds (finer digits are dropped); null and missing stay as they "
        "are, anything else is rejected (`bad_date`). Keys with dots and dollars are the server's "
        "to "
        "take or refuse.\n"
        "\n"
        "**Rejected** are: what is no JSON object (`not_object`), documents over 16 MiB "
        "(`too_large`) or 128 levels (`too_deep`), a duplicate in another unique index "
        "(`duplicate_key`), what a schema in the server refuses (`validation`), and other errors "
        "that the server reports for one document. A server that is away, has no primary, refuses "
        "user and password (`auth_failed`), throttles, or does not meet the write concern makes "
        "its "
        "events wait and be written again.\n"
        "\n"
        "**Time.** No write takes longer than the sink's `timeout`, connecting included, and no "
        "answer is waited for longer than `socketTimeoutMS` of the uri; connecting to one server "
        "takes at most `connectTimeoutMS` (5 s where the uri names none). A primary is looked for "
        "once a write before the host waits and tries again. `retryWrites` is off where the uri "
        "does not name it, since the host repeats what is not known; with `object_ids` it is on.",
    .needs_always = WEIR_NEEDS_VALUE | WEIR_NEEDS_ID,
    .options = WEIR_OPTIONS(options, struct config),
    .sink = &sink,
    .check = mongodb_check,
    .needs = mongodb_needs,
    .traits = mongodb_traits,
    .probe = mongodb_probe,
    .open = mongodb_open,
    .close = mongodb_close,
};

static const struct weir_type *const types[] = {&type_mongodb, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "mongodb", "0.1.0", "Sink for MongoDB and its protocol.",
               "Apache-2.0",    types,     NULL};
