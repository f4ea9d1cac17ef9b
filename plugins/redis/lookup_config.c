/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table of the transform `redis`, and what it cannot say.
 */
#include "lookup_config.h"

#include "command.h"
#include "servers.h"
#include "redis.h"

static const char *const lookup_words[] = {"get", "hgetall", NULL};
static const char *const parse_words[] = {"string", "json", "auto", NULL};
static const char *const missing_words[] = {"pass", "drop", "error", NULL};
static const char *const unavailable_words[] = {"wait", "pass", "error", NULL};

#define CACHE_OFFSET(member)                                                                       \
    (offsetof(struct lookup_config, cache.member) - offsetof(struct lookup_config, cache))

static const struct weir_option cache_fields[] = {
    {.name = "entries",
     .type = WEIR_OPT_INT,
     .offset = CACHE_OFFSET(entries),
     .def = "10000",
     .min = 0,
     .max = 10000000,
     .doc = "How many answers are kept at most; 0 keeps none.",
     .example = "100000"},
    {.name = "size",
     .type = WEIR_OPT_SIZE,
     .flags = WEIR_OPT_MEMORY,
     .offset = CACHE_OFFSET(bytes),
     .def = "16MiB",
     .min = 1024,
     .max = INT64_C(1) << 36,
     .doc = "How many bytes of answers are kept at most.",
     .example = "64MiB"},
    {.name = "ttl",
     .type = WEIR_OPT_DURATION,
     .offset = CACHE_OFFSET(ttl_ns),
     .def = "30s",
     .min = 0,
     .max = INT64_MAX,
     .doc = "How long an answer is used; 0 asks every time.",
     .example = "5m"},
    {.name = "missing_ttl",
     .type = WEIR_OPT_DURATION,
     .offset = CACHE_OFFSET(missing_ttl_ns),
     .def = "5s",
     .min = 0,
     .max = INT64_MAX,
     .doc = "How long it is remembered that there is nothing under a key; 0 asks every time.",
     .example = "1s"},
};

static const struct weir_option options[] = {
    CONN_OPTIONS(struct lookup_config),
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct lookup_config, key),
     .flags = WEIR_OPT_PREFIXED,
     .doc = "The key to look up; it begins with fixed text. Either `key` or `command` is given.",
     .example = "\"user:{{ user_id }}\""},
    {.name = "lookup",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct lookup_config, lookup),
     .def = "get",
     .choices = lookup_words,
     .doc = "What is under `key`: a string (GET), or a hash (HGETALL), which becomes an object.",
     .example = "hgetall"},
    {.name = "command",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct lookup_config, command),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Any reading command instead, an item an argument.",
     .example = "[HGET, \"user:{{ user_id }}\", plan]"},
    {.name = "target",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct lookup_config, target),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The field that the answer is put into, as a dotted path; objects on the way are made.",
     .example = "user.profile"},
    {.name = "parse",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct lookup_config, parse),
     .def = "string",
     .choices = parse_words,
     .doc = "What strings in the answer are: text; JSON, and an error where they are none; or "
            "(`auto`) JSON where they are, else text.",
     .example = "json"},
    {.name = "on_missing",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct lookup_config, on_missing),
     .def = "pass",
     .choices = missing_words,
     .doc = "An event for which there is nothing: goes on (with `default`), is dropped, or fails.",
     .example = "drop"},
    {.name = "default",
     .type = WEIR_OPT_VALUE,
     .offset = offsetof(struct lookup_config, fallback),
     .doc = "What is put into the field where there is nothing; without it the event stays as it "
            "is.",
     .example = "{plan: free}"},
    {.name = "on_unavailable",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct lookup_config, on_unavailable),
     .def = "wait",
     .choices = unavailable_words,
     .doc = "While Redis is away: events wait, go on as they are, or fail.",
     .example = "pass"},
    {.name = "timeout",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct lookup_config, timeout_ns),
     .def = "1s",
     .min = WEIR_NS_PER_MS,
     .max = 600 * WEIR_NS_PER_S,
     .doc = "How long an answer may take before Redis counts as away.",
     .example = "200ms"},
    {.name = "cache",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct lookup_config, cache),
     WEIR_FIELDS(cache_fields),
     .doc = "Answers kept in memory, for all lanes together.",
     .example = "{entries: 100000, ttl: 5m}"},
};

bool split_path(struct weir_str text, struct target_path *ret)
{
    ret->n = 0;
    size_t start = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] != '.')
            continue;
        if (i == start || ret->n == TARGET_MAX)
            return false;
        ret->names[ret->n++] = weir_str_n(text.ptr + start, i - start);
        start = i + 1;
    }
    return true;
}

static void lookup_check(const void *config, const struct weir_report *report)
{
    const struct lookup_config *cf = config;
    struct target_path path;
    conn_config_check(&cf->conn, report);
    if ((cf->key != NULL) == (cf->command.n > 0))
        report->error(report, cf->key != NULL ? "command" : "", -1,
                      "expected either `key` or `command`, found %s",
                      cf->key != NULL ? "both" : "neither");
    if (cf->command.n > 0) {
        const struct command_use use = {
            .path = "command", .cluster = cf->conn.cluster, .reads = true};
        command_check(&cf->command, &use, report);
        if (cf->lookup != LOOKUP_GET)
            report->error(report, "lookup", -1,
                          "`lookup` says how `key` is read; a `command` says that by itself");
    }
    if (!split_path(cf->target, &path))
        report->error(report, "target", -1,
                      "expected names with dots between them, at most %d, such as user.profile; "
                      "found \"%s\"",
                      TARGET_MAX, cf->target.ptr);
    if (cf->fallback != NULL && cf->on_missing != MISSING_PASS)
        report->error(report, "default", -1,
                      "a default is of use only with `on_missing: pass`, found `%s`",
                      missing_words[cf->on_missing]);
}

static enum weir_status lookup_probe(const struct weir_host *h, const void *config,
                                     int64_t deadline_ns, struct weir_error *err)
{
    const struct lookup_config *cf = config;
    return servers_probe(h, &cf->conn, deadline_ns, err);
}

const struct weir_type type_redis_lookup = {
    .size = sizeof(type_redis_lookup),
    .kind = WEIR_TRANSFORM,
    .name = "redis",
    .summary = "Looks something up in Redis for each event, with a local cache.",
    .doc =
        "Sends one question for each different key of a batch, pipelined, and puts the answers "
        "into the field `target`. Nil and empty lists and hashes count as missing. An error "
        "reply (WRONGTYPE) fails its events, as does an answer of more than 16 MiB or of more than "
        "7 nested arrays; time-outs, lost connections and replies such as LOADING are an "
        "outage, see `on_unavailable`.\n\n"
        "While events wait for Redis the lane goes on serving its source.",
    .options = WEIR_OPTIONS(options, struct lookup_config),
    .transform = &lookup_calls,
    .check = lookup_check,
    .probe = lookup_probe,
    .open = lookup_open,
    .close = lookup_close,
};
