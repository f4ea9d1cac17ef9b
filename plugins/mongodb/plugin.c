/* SPDX-License-Identifier: Apache-2.0
 *
 * What can be configured of the sink `mongodb`, and the type itself. What of it fits together is
 * check.c.
 */
#include "sink.h"
#include "typed.h"

static const char *const mode_words[] = {"insert", "replace", "update", "delete", NULL};
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

#define EXPIRE_MAX (INT64_C(2147483647) * WEIR_NS_PER_S)

static const struct weir_option index_options[] = {
    {.name = "keys",
     .type = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_REQUIRED,
     .offset = offsetof(struct index_config, keys),
     .doc = "Fields in their order, each with 1, -1, or a kind such as text, hashed, 2dsphere.",
     .example = "{user_id: 1, ts: -1}"},
    {.name = "name",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct index_config, name),
     .doc = "Its name. Not given: the fields and their values joined by _.",
     .example = "by_user"},
    {.name = "unique",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct index_config, unique),
     .def = "false",
     .doc = "No two documents with the same values; what breaks it is rejected (duplicate_key).",
     .example = "true"},
    {.name = "sparse",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct index_config, sparse),
     .def = "false",
     .doc = "Without the documents that do not have the fields.",
     .example = "true"},
    {.name = "expire_after",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct index_config, expire_after),
     .min = WEIR_NS_PER_S,
     .max = EXPIRE_MAX,
     .doc = "The server removes a document so long after the date in its one field (TTL), in whole "
            "seconds; 1s for a date that says when. Not given: never.",
     .example = "30d"},
    {.name = "partial",
     .type = WEIR_OPT_VALUE,
     .offset = offsetof(struct index_config, partial),
     .doc = "Only documents that this condition holds for.",
     .example = "{state: {$exists: true}}"},
};

static const char *const granularity_words[] = {"default", "seconds", "minutes", "hours", NULL};

#define SERIES(member) (offsetof(struct config, member) - offsetof(struct config, time_series))

static const struct weir_option series_options[] = {
    {.name = "time_field",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = SERIES(time_series.time_field),
     .doc = "The field with the time of each event; it must be a date (options dates and types).",
     .example = "ts"},
    {.name = "meta_field",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = SERIES(time_series.meta_field),
     .doc = "The field that tells one series from another.",
     .example = "sensor"},
    {.name = "granularity",
     .type = WEIR_OPT_ENUM,
     .offset = SERIES(time_series.granularity),
     .def = "default",
     .choices = granularity_words,
     .doc = "About how far apart the events of one series are.",
     .example = "minutes"},
    {.name = "expire_after",
     .type = WEIR_OPT_DURATION,
     .offset = SERIES(time_series.expire_after),
     .min = WEIR_NS_PER_S,
     .max = EXPIRE_MAX,
     .doc = "The server removes an event so long after its time, in whole seconds. Not given: "
            "never.",
     .example = "30d"},
};

static const struct weir_option options[] = {
    {.name = "uri",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, uri),
     .doc =
         "Connection string: mongodb:// or mongodb+srv://, with user, password, TLS, replica set "
         "and all other options of the driver. Where a file that tlsCAFile or tlsCertificateKeyFile "
         "names changes, the sink connects anew.",
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
     .doc = "insert: the first event of an _id stays. replace: the last one stays (an upsert). "
            "update: changes fields of the documents that `filter` finds. delete: removes them.",
     .example = "replace"},
    {.name = "id",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, id),
     .doc =
         "The document's _id; a bare field keeps its type. Not given: the field _id of the event, "
         "else the event's id. Has no meaning beside `filter`.",
     .example = "\"{{ user_id }}\""},
    {.name = "object_ids",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct config, object_ids),
     .def = "false",
     .doc = "Let the driver make an ObjectId for events without a field _id. An event that comes "
            "again is then stored again: delivery is at least once, no longer effectively once.",
     .example = "true"},
    {.name = "filter",
     .type = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_TEMPLATES,
     .offset = offsetof(struct config, filter),
     .doc = "update, delete: which documents, in MongoDB's query language with placeholders; an "
            "event can give values, but no operators. Not given: the one with the event's _id.",
     .example = "{user_id: \"{{ user_id }}\", version: {$lt: \"{{ version }}\"}}"},
    {.name = "update",
     .type = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_TEMPLATES,
     .offset = offsetof(struct config, update),
     .doc = "update: operators such as $set and $inc with placeholders, or a list of aggregation "
            "stages. Not given: $set with the fields of the event.",
     .example = "{$set: {last: {$date: \"{{ ts }}\"}}, $inc: {\"seen.{{ type }}\": 1}}"},
    {.name = "array_filters",
     .type = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_TEMPLATES,
     .offset = offsetof(struct config, array_filters),
     .doc = "update: a list of conditions for elements of arrays that `update` names as $[x].",
     .example = "[{x.sku: \"{{ sku }}\"}]"},
    {.name = "upsert",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct config, upsert),
     .def = "false",
     .doc = "update: makes a document where `filter` finds none; otherwise that changes nothing, "
            "and counts as written.",
     .example = "true"},
    {.name = "many",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct config, many),
     .def = "false",
     .doc = "update, delete: all documents that `filter` finds; else the first one.",
     .example = "true"},
    {.name = "hint",
     .type = WEIR_OPT_VALUE,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct config, hint),
     .doc = "update, delete: the index that the server is to use, by its name or its keys.",
     .example = "{user_id: 1}"},
    {.name = "dates",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, dates),
     .doc = "Dotted paths of fields that hold RFC 3339 strings, to be stored as dates; an array on "
            "the way stands for each of its elements.",
     .example = "[ts, items.bought_at]"},
    {.name = "types",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_ENUM,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, types),
     .choices = typed_words,
     .doc = "insert, replace: types that JSON does not have, by the field's dotted path; also _id.",
     .example = "{ref: object_id, price: decimal128, items.at: date_ms, body: binary}"},
    {.name = "indexes",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, indexes),
     WEIR_FIELDS(index_options),
     .fields_size = sizeof(struct index_config),
     .doc = "Indexes that are made before the first write to a collection, if they are not there. "
            "Where there are many documents already make them by hand: the write's timeout would "
            "break it off.",
     .example = "[{keys: {ts: 1}, expire_after: 30d}, {keys: {email: 1}, unique: true}]"},
    {.name = "time_series",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, time_series),
     WEIR_FIELDS(series_options),
     .doc =
         "Makes a collection that is not there one of time series. Such a one has no unique _id: "
         "an event that comes again is stored again.",
     .example = "{time_field: ts, meta_field: sensor, granularity: seconds, expire_after: 30d}"},
    {.name = "write_concern",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, write_concern),
     WEIR_FIELDS(concern_options),
     .doc = "What must have happened before a document counts as written.",
     .example = "{w: majority, timeout: 5s}"},
};

static const struct weir_type type_mongodb = {
    .size = sizeof(type_mongodb),
    .kind = WEIR_SINK,
    .name = "mongodb",
    .summary = "Stores events as documents in MongoDB, each found again by its _id.",
    .doc =
        "Events are converted straight to BSON and written in unordered commands over one "
        "connection a shard. Each event has its own outcome, and no two operations on one `_id`, "
        "or "
        "by one filter, are in the same command.\n"
        "\n"
        "**Modes.** `insert` stores documents; the first event of an `_id` stays. `replace` writes "
        "them over; the last one stays, and of several events of one batch with the same `_id` "
        "only "
        "the last is sent. `update` and `delete` find documents by `filter`, else by the event's "
        "`_id`; events with the same filter are applied one after the other, in their order, and "
        "an "
        "update that finds nothing counts as written; so does, with `upsert`, one whose document "
        "is "
        "there but does not meet the rest of the filter, where that is written with operators "
        "(`version: {$lt: ...}`, also `state: {$eq: new}`): a bare value there may be what tells "
        "one document from another, and such an event is rejected in the end (`upsert_race`). An "
        "update that adds "
        "up (`$inc`, `$push`) is applied again when an event comes again, and also when its answer "
        "was lost or the write concern was not met; `$set`, `$max` and the like change nothing "
        "then. Behind an event that failed, later ones of its key are applied again, so that the "
        "last one stays; not so where that would add up or reach a second document: a delete of "
        "one document by a filter, and an update of one that changes a field which its filter asks "
        "for, unless the filter names the `_id` (`filter: {state: new}`, `$set: {state: taken}`). "
        "These are applied in the order in which they succeed.\n"
        "\n"
        "**The `_id`** is what `id` gives, else the event's field `_id`, else the event's id "
        "(topic-partition-offset, an `Idempotency-Key`, or one given at entry). An event that "
        "comes "
        "again therefore changes nothing: the server answers that the `_id` is there, which counts "
        "as success. An `_id` is a string, an integer, an object, or what `types` makes of it. "
        "With "
        "`object_ids: true` an event without `_id` gets an ObjectId; when it comes again it is "
        "stored "
        "again.\n"
        "\n"
        "**Placeholders** in `filter`, `update` and `array_filters`: `\"{{ field }}\"` alone gives "
        "the field's value with its type, inside other text it gives text. `{$oid: \"{{ ref }}\"}` "
        "converts it, as do `$date`, `$numberDecimal`, `$binary` and `$uuid`. A name may hold one "
        "behind literal text (`\"counts.{{ type }}\": 1`). What an event gives is a value and "
        "nothing else: an object with a `$` in front of a name is refused (`operator`), a name "
        "with "
        "a dot too (`bad_key`), a field that is missing or null has no value (`no_field`; "
        "`{{ field | text }}` has one), and in aggregation stages and `$expr` its text is no "
        "field. "
        "In code (`$where`, `$function`) and as a new name in `$rename` there can be none; in a "
        "`$regex` it is a pattern.\n"
        "\n"
        "**Types.** Integers become int64, whatever their value; integers beyond it and numbers "
        "beyond a double become decimal128 where that is exact, else the event is rejected "
        "(`bad_number`); other numbers become doubles. Strings may hold NUL, keys may not "
        "(`bad_key`). Of duplicate keys in an object the first is stored. Fields named in `dates` "
        "and `types` are converted: `date` from RFC 3339, `date_ms` and `date_s` from numbers "
        "since "
        "1970 (finer than milliseconds is dropped), `object_id` from 24 hex digits, `decimal128` "
        "from a number or its text, `binary` from base64, `uuid` from its text; null and missing "
        "stay as they are, anything else is rejected (`bad_date`, `bad_object_id`, `bad_number`, "
        "`bad_binary`, `bad_uuid`). Keys with dots and dollars are the server's to take or "
        "refuse.\n"
        "\n"
        "**Rejected** are: what is no JSON object (`not_object`), documents over 16 MiB "
        "(`too_large`) or 128 levels (`too_deep`), a duplicate in another unique index "
        "(`duplicate_key`), what a schema in the server refuses (`validation`), and other errors "
        "that the server reports for one document. A server that is away, has no primary, refuses "
        "user and password (`auth_failed`), throttles, or does not meet the write concern makes "
        "its "
        "events wait and be written again; so does whatever it labels as retryable, and an index "
        "or "
        "a time series that cannot be made (`prepare_failed`).\n"
        "\n"
        "**Time.** No write takes longer than the sink's `timeout`, connecting included, and no "
        "answer is waited for longer than `socketTimeoutMS` of the uri; connecting to one server "
        "takes at most `connectTimeoutMS` (5 s where the uri names none) and no more than its "
        "share "
        "of the write's time, so that one that hangs does not hide the others. A primary is looked "
        "for once a write before the host waits and tries again. `retryWrites` of the uri has no "
        "effect: the host repeats what is not known.",
    .needs_always = WEIR_NEEDS_VALUE | WEIR_NEEDS_ID,
    .options = WEIR_OPTIONS(options, struct config),
    .sink = &mongodb_sink,
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
