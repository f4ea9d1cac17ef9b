/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a configuration is wrong, before anything runs and without a server.
 */
#include "sink.h"

#include <stdio.h>
#include <stdlib.h>

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
    if (cf->object_ids && cf->mode != MODE_INSERT)
        r->error(
            r, "object_ids", -1,
            "mode replace, update and delete find a document by what the event holds: leave out "
            "object_ids, or use mode insert");
    if (cf->id != NULL && r->host->template_is_literal(cf->id, &text))
        r->error(
            r, "id", -1,
            "\"%.*s\" has no placeholder: every event would have the same _id, and all but one "
            "would be lost; name a field, such as \"{{ user_id }}\"",
            (int)text.len, text.ptr);
}

const char *types_of_config(const struct weir_host *h, struct weir_arena *a,
                            const struct config *cf, struct type_node *root, char ret_path[160])
{
    const struct weir_str *dates = cf->dates.items;
    const struct weir_pair *types = cf->types.items;
    for (uint32_t i = 0; i < cf->dates.n; i++) {
        const char *wrong = type_tree_add(h, a, root, dates[i], TYPE_DATE);
        (void)snprintf(ret_path, 160, "dates[%u]", i);
        if (wrong != NULL)
            return wrong;
    }
    for (uint32_t i = 0; i < cf->types.n; i++) {
        enum doc_type type = (enum doc_type)(types[i].value.num + TYPE_DATE);
        const char *wrong = type_tree_add(h, a, root, types[i].key, type);
        (void)snprintf(ret_path, 160, "types.%.*s", (int)types[i].key.len, types[i].key.ptr);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

static void check_types(const struct config *cf, const struct weir_report *r, struct weir_arena *a)
{
    struct type_node root = {0};
    char path[160];
    const char *wrong = types_of_config(r->host, a, cf, &root, path);
    const struct weir_str time_field = cf->time_series.time_field;
    if (wrong != NULL)
        r->error(r, path, -1, "%s; expected a field's path such as ts or items.bought_at", wrong);
    if (time_field.ptr == NULL) {
        if (cf->time_series.meta_field.ptr != NULL || cf->time_series.granularity != 0 ||
            cf->time_series.expire_after != 0)
            r->error(r, "time_series", -1, "time_field is missing: name the field with the time");
        return;
    }
    const struct type_node *n = type_child(&root, time_field);
    if (wrong == NULL &&
        (n == NULL || (n->type != TYPE_DATE && n->type != TYPE_DATE_MS && n->type != TYPE_DATE_S)))
        r->error(
            r, "time_series.time_field", -1,
            "the field \"%.*s\" is stored as it comes, and the server takes dates only: name it "
            "among the dates or types",
            (int)time_field.len, time_field.ptr);
    if (cf->mode != MODE_INSERT)
        r->error(r, "time_series", -1, "a time series takes mode insert only");
}

/* ---- Documents with placeholders ---- */

static void check_shape(const struct weir_report *r, struct weir_arena *a, const char *option,
                        const struct weir_value *v)
{
    struct shape_mistake wrong;
    char path[260];
    bool pipeline = strcmp(option, "update") == 0 && r->host->value_type(v) == WEIR_ARRAY;
    if (shape_compile(r->host, a, v, pipeline, &wrong) != NULL)
        return;
    (void)snprintf(path, sizeof(path), "%s%s", option, wrong.path);
    r->error(r, path, wrong.offset, "%s", wrong.text);
}

static bool all_operators(const struct weir_host *h, const struct weir_value *v)
{
    struct weir_value_iter it = h->value_iter(v);
    struct weir_str key;
    while (h->value_next(&it, &key) != NULL)
        if (key.len < 2 || key.ptr[0] != '$')
            return false;
    return h->value_count(v) > 0;
}

static bool all_objects(const struct weir_host *h, const struct weir_value *v)
{
    struct weir_value_iter it = h->value_iter(v);
    const struct weir_value *e;
    while ((e = h->value_next(&it, NULL)) != NULL)
        if (h->value_type(e) != WEIR_OBJECT || h->value_count(e) == 0)
            return false;
    return h->value_type(v) == WEIR_ARRAY && h->value_count(v) > 0;
}

static void check_filter(const struct config *cf, const struct weir_report *r, struct weir_arena *a)
{
    const struct weir_host *h = r->host;
    if (cf->filter == NULL)
        return;
    if (h->value_type(cf->filter) != WEIR_OBJECT || h->value_count(cf->filter) == 0)
        r->error(r, "filter", -1,
                 "expected a map with at least one field, such as {user_id: \"{{ user_id }}\"}; an "
                 "empty one would be every document");
    else
        check_shape(r, a, "filter", cf->filter);
    if (cf->id != NULL)
        r->error(r, "id", -1, "has no meaning beside filter: leave out one of the two");
}

static void check_update(const struct config *cf, const struct weir_report *r, struct weir_arena *a)
{
    const struct weir_host *h = r->host;
    enum weir_value_type type = h->value_type(cf->update);
    if (cf->update != NULL && !(type == WEIR_OBJECT && all_operators(h, cf->update)) &&
        !(type == WEIR_ARRAY && all_objects(h, cf->update)))
        r->error(r, "update", -1,
                 "expected operators such as {$set: {...}}, or a list of stages such as [{$set: "
                 "{...}}]; a whole document goes in by mode replace");
    else if (cf->update != NULL)
        check_shape(r, a, "update", cf->update);
    if (cf->array_filters == NULL)
        return;
    if (!all_objects(h, cf->array_filters))
        r->error(r, "array_filters", -1, "expected a list of conditions such as [{x.sku: 5}]");
    else if (type == WEIR_ARRAY || cf->update == NULL)
        r->error(r, "array_filters", -1, "they go with an update by operators only");
    else
        check_shape(r, a, "array_filters", cf->array_filters);
}

/* Options that say nothing in the mode there is. */
static void check_mode(const struct config *cf, const struct weir_report *r)
{
    const unsigned insert = 1u << MODE_INSERT, replace = 1u << MODE_REPLACE,
                   update = 1u << MODE_UPDATE, delete = 1u << MODE_DELETE;
    const struct {
        const char *option;
        bool given;
        unsigned modes;
        const char *words;
    } rules[] = {
        {"filter", cf->filter != NULL, update | delete, "update and delete"},
        {"update", cf->update != NULL, update, "update"},
        {"array_filters", cf->array_filters != NULL, update, "update"},
        {"upsert", cf->upsert, update, "update (replace always makes what is not there)"},
        {"many", cf->many, update | delete, "update and delete"},
        {"hint", cf->hint != NULL, update | delete, "update and delete"},
        {"dates", cf->dates.n > 0 && (cf->mode == MODE_DELETE || cf->update != NULL),
         insert | replace,
         "insert and replace, and of update without `update`; write {$date: \"{{ ts }}\"} there"},
        {"types", cf->types.n > 0 && (cf->filter != NULL || cf->update != NULL), insert | replace,
         "insert and replace, and where documents are found by their _id; write {$oid: \"{{ ref "
         "}}\"} in a filter or an update"},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].given && (rules[i].modes & 1u << cf->mode) == 0)
            r->error(r, rules[i].option, -1, "it is an option of mode %s", rules[i].words);
}

static void check_hint(const struct config *cf, const struct weir_report *r)
{
    enum weir_value_type type = r->host->value_type(cf->hint);
    if (cf->hint != NULL && !(type == WEIR_STRING && r->host->value_str(cf->hint).len > 0) &&
        !(type == WEIR_OBJECT && r->host->value_count(cf->hint) > 0))
        r->error(r, "hint", -1, "expected an index's name, or its keys such as {user_id: 1}");
}

/* ---- Indexes ---- */

static const char *index_wrong(const struct weir_host *h, const struct index_config *x)
{
    struct weir_value_iter it = h->value_iter(x->keys);
    struct weir_str key;
    const struct weir_value *v;
    if (h->value_type(x->keys) != WEIR_OBJECT || h->value_count(x->keys) == 0)
        return "expected a map such as {ts: 1}";
    while ((v = h->value_next(&it, &key)) != NULL) {
        bool number =
            h->value_type(v) == WEIR_INT && (h->value_int(v) == 1 || h->value_int(v) == -1);
        if (key.len == 0 || memchr(key.ptr, 0, key.len) != NULL || key.len > 100)
            return "the name of a field is empty, longer than 100 bytes or holds NUL";
        if (!number && (h->value_type(v) != WEIR_STRING || h->value_str(v).len == 0))
            return "expected 1, -1, or a kind such as text, hashed or 2dsphere for each field";
    }
    return NULL;
}

static void check_indexes(const struct config *cf, const struct weir_report *r)
{
    const struct index_config *list = cf->indexes.items;
    for (uint32_t i = 0; i < cf->indexes.n; i++) {
        char path[40];
        (void)snprintf(path, sizeof(path), "indexes[%u].keys", i);
        const char *wrong = index_wrong(r->host, &list[i]);
        if (wrong != NULL)
            r->error(r, path, -1, "%s", wrong);
        (void)snprintf(path, sizeof(path), "indexes[%u].expire_after", i);
        if (wrong == NULL && list[i].expire_after > 0 && r->host->value_count(list[i].keys) > 1)
            r->error(r, path, -1, "an index that removes documents has one field, a date");
        (void)snprintf(path, sizeof(path), "indexes[%u].unique", i);
        if (list[i].unique && cf->time_series.time_field.ptr != NULL)
            r->error(r, path, -1, "a time series has no unique indexes: leave out one of the two");
        (void)snprintf(path, sizeof(path), "indexes[%u].partial", i);
        if (list[i].partial != NULL && r->host->value_type(list[i].partial) != WEIR_OBJECT)
            r->error(r, path, -1, "expected a map such as {state: {$exists: true}}");
    }
}

int32_t concern_number(struct weir_str w)
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

/* The files that the driver reads. */
static void report_files(const mongoc_uri_t *uri, const struct weir_report *report)
{
    static const char *const options[] = {MONGOC_URI_TLSCAFILE, MONGOC_URI_TLSCERTIFICATEKEYFILE};
    for (size_t i = 0; report->file != NULL && i < sizeof(options) / sizeof(options[0]); i++) {
        const char *path = mongoc_uri_get_option_as_utf8(uri, options[i], NULL);
        if (path != NULL)
            report->file(report, weir_cstr(path));
    }
}

void mongodb_check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    char why[CONNECT_TEXT];
    mongoc_uri_t *uri = connect_uri(cf->uri.ptr, why);
    if (why[0] != '\0')
        report->error(report, "uri", -1,
                      "%s; expected something like mongodb://user:password@host:27017/?tls=true",
                      why);
    if (uri != NULL)
        report_files(uri, report);
    const char *idle = uri != NULL ? connect_idle_option(uri) : NULL;
    if (idle != NULL)
        report->warning(report, "uri", -1,
                        "its option %s has no effect here: each shard of the sink has one "
                        "connection, and looks for a primary once a write, within the sink's "
                        "timeout",
                        idle);
    const char *insecure = uri != NULL ? connect_insecure_option(uri) : NULL;
    if (insecure != NULL)
        report->warning(report, "uri", -1,
                        "with %s the server's certificate is not verified: anybody on the way can read and "
                        "change the events; set tlsCAFile instead",
                        insecure);
    mongoc_uri_destroy(uri);
    check_names(cf, report);
    check_ids(cf, report);
    check_mode(cf, report);
    check_hint(cf, report);
    check_indexes(cf, report);
    struct weir_arena *a = report->host->arena_new(report->host);
    if (a != NULL) {
        check_types(cf, report, a);
        check_filter(cf, report, a);
        check_update(cf, report, a);
        report->host->arena_free(a);
    }
    check_concern(cf, report);
}
