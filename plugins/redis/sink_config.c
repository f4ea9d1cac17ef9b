/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table of the sink `redis`, and what it cannot say.
 */
#include "sink_config.h"

#include "redis.h"
#include "servers.h"

#include <string.h>
#include <strings.h>

#define OFFSET(table, member)                                                                      \
    (offsetof(struct sink_config, table.member) - offsetof(struct sink_config, table))
#define KEY_OPTION(table, key_doc, key_example)                                                    \
    {                                                                                              \
        .name = "key", .type = WEIR_OPT_TEMPLATE, .offset = OFFSET(table, key),                    \
        .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED, .doc = key_doc, .example = key_example     \
    }

static const char *const push_words[] = {"right", "left", NULL};
static const char *const only_words[] = {"any", "greater", "less", NULL};

static const struct weir_option set_fields[] = {
    KEY_OPTION(set, "The key; it begins with fixed text.", "\"user:{{ user_id }}\""),
    {.name = "value",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(set, value),
     .doc = "The value; without it the whole payload, as JSON text.",
     .example = "\"{{ ts }}\""},
};

static const struct weir_option hash_fields[] = {
    KEY_OPTION(hash, "The key; it begins with fixed text.", "\"session:{{ session_id }}\""),
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(hash, fields),
     .flags = WEIR_OPT_NONEMPTY | WEIR_OPT_REQUIRED,
     .doc = "Fields of the hash to set, and their values.",
     .example = "{last: \"{{ ts }}\", type: \"{{ type }}\"}"},
};

static const struct weir_option list_fields[] = {
    KEY_OPTION(list, "The list's key; it begins with fixed text.", "\"recent:{{ user_id }}\""),
    {.name = "value",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(list, value),
     .doc = "What is pushed; without it the whole payload, as JSON text.",
     .example = "\"{{ type }}\""},
    {.name = "push",
     .type = WEIR_OPT_ENUM,
     .offset = OFFSET(list, push),
     .def = "right",
     .choices = push_words,
     .doc = "The end that it is pushed to (RPUSH, LPUSH).",
     .example = "left"},
    {.name = "trim",
     .type = WEIR_OPT_INT,
     .offset = OFFSET(list, trim),
     .def = "0",
     .min = 0,
     .max = INT64_C(1) << 32,
     .doc = "How many of the newest the list keeps (LTRIM); 0 keeps all.",
     .example = "100"},
};

static const struct weir_option members_fields[] = {
    KEY_OPTION(members, "The set's key; it begins with fixed text.", "\"visitors:{{ page }}\""),
    {.name = "member",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(members, member),
     .doc = "The member; without it the whole payload, as JSON text.",
     .example = "\"{{ user_id }}\""},
};

static const struct weir_option sorted_set_fields[] = {
    KEY_OPTION(sorted_set, "The sorted set's key; it begins with fixed text.", "\"seen:users\""),
    {.name = "member",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(sorted_set, member),
     .doc = "The member; without it the whole payload, as JSON text.",
     .example = "\"{{ user_id }}\""},
    {.name = "score",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(sorted_set, score),
     .flags = WEIR_OPT_REQUIRED,
     .doc = "Its score, a number.",
     .example = "\"{{ seq }}\""},
    {.name = "only",
     .type = WEIR_OPT_ENUM,
     .offset = OFFSET(sorted_set, only),
     .def = "any",
     .choices = only_words,
     .doc = "Whether a member that is there takes any score, or only a greater or a lesser one "
            "(GT, LT).",
     .example = "greater"},
};

static const struct weir_option stream_fields[] = {
    KEY_OPTION(stream, "The stream's key; it begins with fixed text.", "events"),
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(stream, fields),
     .doc = "Fields of the entry and their values; without it one field `payload`.",
     .example = "{user: \"{{ user_id }}\", type: \"{{ type }}\"}"},
    {.name = "maxlen",
     .type = WEIR_OPT_INT,
     .offset = OFFSET(stream, maxlen),
     .def = "0",
     .min = 0,
     .max = INT64_MAX,
     .doc = "How many entries the stream keeps (MAXLEN); 0 keeps all.",
     .example = "100000"},
    {.name = "max_age",
     .type = WEIR_OPT_DURATION,
     .offset = OFFSET(stream, max_age_ns),
     .min = WEIR_NS_PER_MS,
     .max = INT64_MAX,
     .doc = "How old entries become before they go (MINID, by this machine's clock).",
     .example = "24h"},
    {.name = "minid",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(stream, minid),
     .doc =
         "Entries with a smaller id go (MINID); of `maxlen`, `max_age` and `minid` there is one.",
     .example = "\"{{ oldest }}\""},
    {.name = "exact",
     .type = WEIR_OPT_BOOL,
     .offset = OFFSET(stream, exact),
     .def = "false",
     .doc = "Whether the limit is kept exactly (=), or as it costs Redis least (~).",
     .example = "true"},
};

static const struct weir_option publish_fields[] = {
    {.name = "channel",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(publish, channel),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The channel; it begins with fixed text.",
     .example = "\"events:{{ type }}\""},
    {.name = "message",
     .type = WEIR_OPT_TEMPLATE,
     .offset = OFFSET(publish, message),
     .doc = "The message; without it the whole payload, as JSON text.",
     .example = "\"{{ id }}\""},
};

static const struct weir_option once_fields[] = {
    {.name = "ttl",
     .type = WEIR_OPT_DURATION,
     .offset = OFFSET(once, ttl_ns),
     .flags = WEIR_OPT_REQUIRED,
     .min = WEIR_NS_PER_MS,
     .max = INT64_MAX,
     .doc = "How long an event's id is remembered: longer than a redelivery can be away.",
     .example = "24h"},
};

#define TABLE(table, table_doc, table_example)                                                     \
    {                                                                                              \
        .name = #table, .type = WEIR_OPT_TABLE, .offset = offsetof(struct sink_config, table),     \
        WEIR_FIELDS(table##_fields), .doc = table_doc, .example = table_example                    \
    }

static const struct weir_option options[] = {
    CONN_OPTIONS(struct sink_config),
    {.name = "command",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, command),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Any command, an item an argument. Exactly one of `command`, `set`, `hash`, `list`, "
            "`members`, `sorted_set`, `stream` and `publish` is given.",
     .example = "[INCR, \"count:{{ type }}\"]"},
    TABLE(set, "SET: a string, such as the event as JSON text.", "{key: \"user:{{ user_id }}\"}"),
    TABLE(hash, "HSET: fields of a hash.",
          "{key: \"session:{{ session_id }}\", fields: {last: \"{{ ts }}\"}}"),
    TABLE(list, "RPUSH or LPUSH: an element of a list, trimmed to the newest.",
          "{key: \"recent:{{ user_id }}\", trim: 100}"),
    TABLE(members, "SADD: a member of a set.",
          "{key: \"visitors:{{ page }}\", member: \"{{ user_id }}\"}"),
    TABLE(sorted_set, "ZADD: a member of a sorted set.",
          "{key: \"seen:users\", member: \"{{ user_id }}\", score: \"{{ seq }}\"}"),
    TABLE(stream, "XADD: an entry of a stream.", "{key: events, maxlen: 100000}"),
    TABLE(publish, "PUBLISH: a message in a channel, which only those get who listen now.",
          "{channel: \"events:{{ type }}\"}"),
    {.name = "expire",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct sink_config, expire_ns),
     .min = WEIR_NS_PER_MS,
     .max = INT64_MAX,
     .doc =
         "How long the key lives from now on: a PEXPIRE in the same pipeline (of `set`: PX). It "
         "reaches the key also where Redis rejects the command, such as for a key of another type.",
     .example = "30m"},
    {.name = "keep_ttl",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct sink_config, keep_ttl),
     .def = "false",
     .doc = "A key that has an end keeps it: `expire` is for keys without one (PEXPIRE NX, from "
            "Redis 7 on), and `set` does not take it away (KEEPTTL).",
     .example = "true"},
    TABLE(once,
          "For commands that add up: the event's id is remembered in a key weir:once:..., which an "
          "ACL user must be allowed to write, and the same event again does nothing. Guard and "
          "command are one call of a script. The key holds the names of pipeline and sink: to "
          "rename one of them forgets what was remembered.",
          "{ttl: 24h}"),
};

static int count_forms(const struct sink_config *cf)
{
    return (cf->command.n > 0) + (cf->set.key != NULL) + (cf->hash.key != NULL) +
           (cf->list.key != NULL) + (cf->members.key != NULL) + (cf->sorted_set.key != NULL) +
           (cf->stream.key != NULL) + (cf->publish.channel != NULL);
}

/* Of ZADD's forms the one with INCR adds up, though its name does not say so. */
static bool adds_up(const struct weir_host *h, const struct command_info *info,
                    const struct weir_list *command)
{
    struct weir_template *const *items = command->items;
    struct weir_str text;
    if (strcmp(info->name, "ZADD") != 0)
        return false;
    for (uint32_t i = 2; i < command->n; i++) {
        if (h->template_is_literal(items[i], &text) && text.len == 4 &&
            strncasecmp(text.ptr, "INCR", 4) == 0)
            return true;
    }
    return false;
}

static bool overwrites(const struct weir_host *h, const struct sink_config *cf)
{
    struct weir_template *const *items = cf->command.items;
    struct weir_str name;
    if (cf->command.n == 0)
        return cf->stream.key == NULL && cf->list.key == NULL && cf->publish.channel == NULL;
    if (!h->template_is_literal(items[0], &name))
        return false;
    const struct command_info *info = command_info(name);
    return (info->flags & COMMAND_OVERWRITES) != 0 && !adds_up(h, info, &cf->command);
}

static void check_stream(const struct sink_config *cf, const struct weir_report *report)
{
    int n = (cf->stream.maxlen > 0) + (cf->stream.max_age_ns > 0) + (cf->stream.minid != NULL);
    if (n > 1)
        report->error(report, "stream", -1,
                      "expected one of `maxlen`, `max_age` and `minid` at most, found %d", n);
    if (n == 0 && cf->stream.exact)
        report->error(report, "stream.exact", -1, "there is no limit that it could be about");
}

static void check_ends(const struct sink_config *cf, const struct weir_report *report)
{
    if (cf->publish.channel != NULL && cf->expire_ns > 0)
        report->error(report, "expire", -1, "a published message has no key that could expire");
    if (cf->keep_ttl && cf->expire_ns == 0 && cf->set.key == NULL)
        report->error(report, "keep_ttl", -1,
                      "is of use with `expire`, or with `set`, which takes a key's end away; all "
                      "other commands leave it");
    if (cf->once.ttl_ns > 0 && overwrites(report->host, cf))
        report->error(report, "once", -1,
                      "this command overwrites: doing it again does no harm, but leaving it out "
                      "could keep an older value; leave `once` out");
}

static void sink_check(const void *config, const struct weir_report *report)
{
    const struct sink_config *cf = config;
    const struct command_use use = {.path = "command",
                                    .wants_key = cf->expire_ns > 0,
                                    .cluster = cf->conn.cluster,
                                    .guarded = cf->once.ttl_ns > 0};
    conn_config_check(&cf->conn, report);
    int n = count_forms(cf);
    if (n != 1) {
        report->error(report, "", -1,
                      "expected exactly one of `command`, `set`, `hash`, `list`, `members`, "
                      "`sorted_set`, `stream` and `publish`, found %d",
                      n);
        return;
    }
    check_stream(cf, report);
    check_ends(cf, report);
    if (cf->command.n > 0)
        command_check(&cf->command, &use, report);
}

/* Where a form without a template for its value stores the payload. */
static bool stores_payload(const struct sink_config *cf)
{
    return (cf->set.key != NULL && cf->set.value == NULL) ||
           (cf->list.key != NULL && cf->list.value == NULL) ||
           (cf->members.key != NULL && cf->members.member == NULL) ||
           (cf->sorted_set.key != NULL && cf->sorted_set.member == NULL) ||
           (cf->stream.key != NULL && cf->stream.fields.n == 0) ||
           (cf->publish.channel != NULL && cf->publish.message == NULL);
}

static uint32_t sink_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct sink_config *cf = config;
    return (stores_payload(cf) ? WEIR_NEEDS_PAYLOAD : 0) |
           (cf->once.ttl_ns > 0 ? WEIR_NEEDS_ID : 0);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    const struct sink_config *cf = config;
    return WEIR_TRAIT_ORDERED | (overwrites(h, cf) ? WEIR_TRAIT_OVERWRITES : 0);
}

static enum weir_status sink_probe(const struct weir_host *h, const void *config,
                                   int64_t deadline_ns, struct weir_error *err)
{
    const struct sink_config *cf = config;
    return servers_probe(h, &cf->conn, deadline_ns, err);
}

const struct weir_type type_redis_sink = {
    .size = sizeof(type_redis_sink),
    .kind = WEIR_SINK,
    .name = "redis",
    .summary = "Writes a Redis command an event, pipelined.",
    .doc =
        "Values of templates go as text: strings as they are, everything else as JSON.\n\n"
        "An error reply (WRONGTYPE, ERR, NOSCRIPT, CROSSSLOT, NOPERM for a key) rejects its event "
        "alone. What is no event's fault makes the sink unavailable, and the events are tried "
        "again: a lost connection, a time-out, LOADING, BUSY, OOM, MISCONF, READONLY, NOREPLICAS, "
        "CLUSTERDOWN, MASTERDOWN, TRYAGAIN, NOAUTH, WRONGPASS, NOPERM for a command.\n\n"
        "Commands that overwrite (SET, HSET ...) can be repeated without harm; commands that "
        "add up (INCR, XADD ...) may count an event twice when the connection breaks between a "
        "command and its reply, unless `once` guards them.\n\n"
        "One server, the master that Sentinels name, or a cluster. In a cluster every command has "
        "one key, or several in one slot; MOVED and ASK are followed, and events of one key keep "
        "their order while slots move.",
    .options = WEIR_OPTIONS(options, struct sink_config),
    .sink = &sink_calls,
    .check = sink_check,
    .needs = sink_needs,
    .traits = sink_traits,
    .probe = sink_probe,
    .open = sink_open,
    .close = sink_close,
};
