/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands that the options of the sink `redis` mean.
 */
#include "sink_config.h"

#include <stdio.h>

static struct weir_str number_text(int64_t number, char text[24])
{
    snprintf(text, 24, "%lld", (long long)number);
    return weir_cstr(text);
}

static void add_fields(struct command *c, const struct weir_list *fields)
{
    const struct weir_pair *pairs = fields->items;
    for (uint32_t i = 0; i < fields->n; i++) {
        command_add_str(c, pairs[i].key);
        command_add_template(c, pairs[i].value.ptr);
    }
}

static void add_value(struct command *c, const struct weir_template *value)
{
    if (value != NULL)
        command_add_template(c, value);
    else
        command_add_payload(c);
}

/* PEXPIRE behind the command. */
static void add_expire(struct command *c, const struct sink_config *cf)
{
    char ms[24];
    struct weir_str args[2] = {number_text(cf->expire_ns / WEIR_NS_PER_MS, ms), weir_cstr("NX")};
    if (cf->expire_ns > 0)
        command_follow(c, "PEXPIRE", cf->keep_ttl ? 2 : 1, args);
}

static void build_set(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "SET");
    command_add_template(c, cf->set.key);
    add_value(c, cf->set.value);
    if (cf->keep_ttl) {
        command_add_text(c, "KEEPTTL");
        add_expire(c, cf);
    } else if (cf->expire_ns > 0) {
        command_add_text(c, "PX");
        command_add_int(c, cf->expire_ns / WEIR_NS_PER_MS);
    }
}

static void build_hash(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "HSET");
    command_add_template(c, cf->hash.key);
    add_fields(c, &cf->hash.fields);
    add_expire(c, cf);
}

/* The newest are kept: those at the end that is pushed to. */
static void build_list(struct command *c, const struct sink_config *cf)
{
    bool left = cf->list.push == PUSH_LEFT;
    char first[24], last[24];
    struct weir_str args[2] = {number_text(left ? 0 : -cf->list.trim, first),
                               number_text(left ? cf->list.trim - 1 : -1, last)};
    command_add_text(c, left ? "LPUSH" : "RPUSH");
    command_add_template(c, cf->list.key);
    add_value(c, cf->list.value);
    if (cf->list.trim > 0)
        command_follow(c, "LTRIM", 2, args);
    add_expire(c, cf);
}

static void build_members(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "SADD");
    command_add_template(c, cf->members.key);
    add_value(c, cf->members.member);
    add_expire(c, cf);
}

static void build_sorted_set(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "ZADD");
    command_add_template(c, cf->sorted_set.key);
    if (cf->sorted_set.only != ONLY_ANY)
        command_add_text(c, cf->sorted_set.only == ONLY_GREATER ? "GT" : "LT");
    command_add_template(c, cf->sorted_set.score);
    add_value(c, cf->sorted_set.member);
    add_expire(c, cf);
}

static void add_stream_limit(struct command *c, const struct sink_config *cf)
{
    if (cf->stream.maxlen == 0 && cf->stream.max_age_ns == 0 && cf->stream.minid == NULL)
        return;
    command_add_text(c, cf->stream.maxlen > 0 ? "MAXLEN" : "MINID");
    command_add_text(c, cf->stream.exact ? "=" : "~");
    if (cf->stream.maxlen > 0)
        command_add_int(c, cf->stream.maxlen);
    else if (cf->stream.minid != NULL)
        command_add_template(c, cf->stream.minid);
    else
        command_add_age(c, cf->stream.max_age_ns / WEIR_NS_PER_MS);
}

static void build_stream(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "XADD");
    command_add_template(c, cf->stream.key);
    add_stream_limit(c, cf);
    command_add_text(c, "*");
    add_fields(c, &cf->stream.fields);
    if (cf->stream.fields.n == 0) {
        command_add_text(c, "payload");
        command_add_payload(c);
    }
    add_expire(c, cf);
}

static void build_publish(struct command *c, const struct sink_config *cf)
{
    command_add_text(c, "PUBLISH");
    command_add_template(c, cf->publish.channel);
    add_value(c, cf->publish.message);
}

static void build_any(struct command *c, const struct sink_config *cf)
{
    command_add_list(c, &cf->command);
    add_expire(c, cf);
}

static size_t most_args(const struct sink_config *cf)
{
    size_t fields = 2 * ((size_t)cf->hash.fields.n + cf->stream.fields.n);
    return 8 + fields + cf->command.n;
}

bool sink_build_command(struct command *c, const struct weir_host *h, const struct sink_config *cf)
{
    uint32_t key = 1;
    uint32_t route = 1;
    if (!command_init(c, h, most_args(cf)))
        return false;
    c->cluster = cf->conn.cluster;
    command_guard(c, cf->once.ttl_ns / WEIR_NS_PER_MS);
    if (cf->set.key != NULL)
        build_set(c, cf);
    else if (cf->hash.key != NULL)
        build_hash(c, cf);
    else if (cf->list.key != NULL)
        build_list(c, cf);
    else if (cf->members.key != NULL)
        build_members(c, cf);
    else if (cf->sorted_set.key != NULL)
        build_sorted_set(c, cf);
    else if (cf->stream.key != NULL)
        build_stream(c, cf);
    else if (cf->publish.channel != NULL)
        build_publish(c, cf);
    else
        build_any(c, cf);
    if (cf->publish.channel != NULL)
        key = 0;
    if (cf->command.n > 0) {
        key = command_key(h, &cf->command);
        route = command_route(h, &cf->command);
    }
    return command_seal(c, key, route);
}
