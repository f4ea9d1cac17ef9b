/* SPDX-License-Identifier: Apache-2.0
 *
 * The option table of the sink `redis`, what it cannot say, and the commands that it means.
 */
#include "sink_config.h"

#include "conn.h"
#include "redis.h"

#include <stdio.h>
#include <strings.h>

static const struct weir_option set_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, set.key) - offsetof(struct sink_config, set),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The key; it begins with fixed text.",
     .example = "\"user:{{ user_id }}\""},
    {.name = "value",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, set.value) - offsetof(struct sink_config, set),
     .doc = "The value; without it the whole payload.",
     .example = "\"{{ ts }}\""},
};

static const struct weir_option hash_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, hash.key) - offsetof(struct sink_config, hash),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The key; it begins with fixed text.",
     .example = "\"session:{{ session_id }}\""},
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, hash.fields) - offsetof(struct sink_config, hash),
     .flags = WEIR_OPT_NONEMPTY | WEIR_OPT_REQUIRED,
     .doc = "Fields of the hash to set, and their values.",
     .example = "{last: \"{{ ts }}\", type: \"{{ type }}\"}"},
};

static const struct weir_option stream_fields[] = {
    {.name = "key",
     .type = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, stream.key) - offsetof(struct sink_config, stream),
     .flags = WEIR_OPT_PREFIXED | WEIR_OPT_REQUIRED,
     .doc = "The stream's key; it begins with fixed text.",
     .example = "events"},
    {.name = "fields",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, stream.fields) - offsetof(struct sink_config, stream),
     .doc = "Fields of the entry and their values; without it one field `payload`.",
     .example = "{user: \"{{ user_id }}\", type: \"{{ type }}\"}"},
    {.name = "maxlen",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct sink_config, stream.maxlen) - offsetof(struct sink_config, stream),
     .def = "0",
     .min = 0,
     .max = INT64_MAX,
     .doc = "About how many entries the stream keeps (MAXLEN ~); 0 keeps all.",
     .example = "100000"},
};

static const struct weir_option options[] = {
    CONN_OPTIONS(struct sink_config),
    {.name = "command",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TEMPLATE,
     .offset = offsetof(struct sink_config, command),
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Any command, an item an argument. Exactly one of `command`, `set`, `hash` and "
            "`stream` is given.",
     .example = "[INCR, \"count:{{ type }}\"]"},
    {.name = "set",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct sink_config, set),
     WEIR_FIELDS(set_fields),
     .doc = "SET: a string.",
     .example = "{key: \"user:{{ user_id }}\"}"},
    {.name = "hash",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct sink_config, hash),
     WEIR_FIELDS(hash_fields),
     .doc = "HSET: fields of a hash.",
     .example = "{key: \"session:{{ session_id }}\", fields: {last: \"{{ ts }}\"}}"},
    {.name = "stream",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct sink_config, stream),
     WEIR_FIELDS(stream_fields),
     .doc = "XADD: an entry of a stream.",
     .example = "{key: events, maxlen: 100000}"},
    {.name = "expire",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct sink_config, expire_ns),
     .min = WEIR_NS_PER_MS,
     .max = INT64_MAX,
     .doc = "How long the key lives from now on: a PEXPIRE in the same pipeline (of `set`: PX).",
     .example = "30m"},
};

static void sink_check(const void *config, const struct weir_report *report)
{
    const struct sink_config *cf = config;
    conn_config_check(&cf->conn, report);
    int n = (cf->command.n > 0) + (cf->set.key != NULL) + (cf->hash.key != NULL) +
            (cf->stream.key != NULL);
    if (n != 1)
        report->error(report, "", -1,
                      "expected exactly one of `command`, `set`, `hash` and `stream`, found %d", n);
    if (cf->command.n > 0)
        command_check(&cf->command, "command", cf->expire_ns > 0, report);
}

static uint32_t sink_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct sink_config *cf = config;
    bool payload = (cf->set.key != NULL && cf->set.value == NULL) ||
                   (cf->stream.key != NULL && cf->stream.fields.n == 0);
    return payload ? WEIR_NEEDS_PAYLOAD : 0;
}

/* Of ZADD's forms the one with INCR adds up, though its name does not say so. */
static bool adds_up(const struct weir_host *h, const struct weir_list *command)
{
    struct weir_template *const *items = command->items;
    struct weir_str text;
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
        return cf->stream.key == NULL;
    return h->template_is_literal(items[0], &name) &&
           (command_info(name)->flags & COMMAND_OVERWRITES) != 0 && !adds_up(h, &cf->command);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    const struct sink_config *cf = config;
    return WEIR_TRAIT_ORDERED | (overwrites(h, cf) ? WEIR_TRAIT_OVERWRITES : 0);
}

/* ---- Commands -------------------------------------------------------------------------------- */

static void add_fields(struct command *c, const struct weir_list *fields)
{
    const struct weir_pair *pairs = fields->items;
    for (uint32_t i = 0; i < fields->n; i++) {
        command_add_str(c, pairs[i].key);
        command_add_template(c, pairs[i].value.ptr);
    }
}

static bool build_set(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    char ms[24];
    if (!command_init(c, h, 5))
        return false;
    command_add_text(c, "SET");
    command_add_template(c, cf->set.key);
    if (cf->set.value != NULL)
        command_add_template(c, cf->set.value);
    else
        command_add_payload(c);
    if (cf->expire_ns > 0) {
        snprintf(ms, sizeof(ms), "%lld", (long long)(cf->expire_ns / WEIR_NS_PER_MS));
        command_add_text(c, "PX");
        command_add_text(c, ms);
    }
    return command_seal(c, 1, 0);
}

static bool build_hash(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    if (!command_init(c, h, 2 + 2 * (size_t)cf->hash.fields.n))
        return false;
    command_add_text(c, "HSET");
    command_add_template(c, cf->hash.key);
    add_fields(c, &cf->hash.fields);
    return command_seal(c, 1, cf->expire_ns / WEIR_NS_PER_MS);
}

static bool build_stream(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    char n[24];
    if (!command_init(c, h, 8 + 2 * (size_t)cf->stream.fields.n))
        return false;
    command_add_text(c, "XADD");
    command_add_template(c, cf->stream.key);
    if (cf->stream.maxlen > 0) {
        snprintf(n, sizeof(n), "%lld", (long long)cf->stream.maxlen);
        command_add_text(c, "MAXLEN");
        command_add_text(c, "~");
        command_add_text(c, n);
    }
    command_add_text(c, "*");
    add_fields(c, &cf->stream.fields);
    if (cf->stream.fields.n == 0) {
        command_add_text(c, "payload");
        command_add_payload(c);
    }
    return command_seal(c, 1, cf->expire_ns / WEIR_NS_PER_MS);
}

static bool build_any(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    struct weir_template *const *items = cf->command.items;
    struct weir_str name = {NULL, 0};
    if (!command_init(c, h, cf->command.n))
        return false;
    command_add_list(c, &cf->command);
    (void)h->template_is_literal(items[0], &name); /* it is: check() has seen to that */
    return command_seal(c, command_info(name)->key, cf->expire_ns / WEIR_NS_PER_MS);
}

bool sink_build_command(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    if (cf->set.key != NULL)
        return build_set(c, h, cf);
    if (cf->hash.key != NULL)
        return build_hash(c, h, cf);
    if (cf->stream.key != NULL)
        return build_stream(c, h, cf);
    return build_any(c, h, cf);
}

/* ---- The type -------------------------------------------------------------------------------- */

static enum weir_status sink_probe(const struct weir_host *h, const void *config,
                                   int64_t deadline_ns, struct weir_error *err)
{
    const struct sink_config *cf = config;
    return conn_probe(h, &cf->conn, deadline_ns, err);
}

const struct weir_type type_redis_sink = {
    .size = sizeof(type_redis_sink),
    .kind = WEIR_SINK,
    .name = "redis",
    .summary = "Writes a Redis command an event, pipelined.",
    .doc =
        "Values of templates go as text: strings as they are, everything else as JSON. An error "
        "reply rejects its event alone; replies such as LOADING, OOM or READONLY mean that the "
        "server is unavailable, and the event is tried again.\n\n"
        "Commands that overwrite (SET, HSET ...) can be repeated without harm; commands that "
        "add up (INCR, XADD ...) may count an event twice when the connection breaks between a "
        "command and its reply.\n\n"
        "One server, or the master of a replicated one; a server that answers MOVED belongs to a "
        "cluster, which is not supported yet.",
    .options = WEIR_OPTIONS(options, struct sink_config),
    .sink = &sink_calls,
    .check = sink_check,
    .needs = sink_needs,
    .traits = sink_traits,
    .probe = sink_probe,
    .open = sink_open,
    .close = sink_close,
};
