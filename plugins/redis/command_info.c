/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of Redis's commands, and the check of a command in a pipeline file.
 */
#include "command.h"

#include <string.h>
#include <strings.h>

#define OVERWRITES COMMAND_OVERWRITES
#define REFUSED COMMAND_REFUSED

static const struct command_info infos[] = {
    {"SET", OVERWRITES, 1},
    {"SETEX", OVERWRITES, 1},
    {"PSETEX", OVERWRITES, 1},
    {"SETNX", OVERWRITES, 1},
    {"SETBIT", OVERWRITES, 1},
    {"SETRANGE", OVERWRITES, 1},
    {"GET", OVERWRITES, 1},
    {"MSET", OVERWRITES, 1},
    {"DEL", OVERWRITES, 1},
    {"UNLINK", OVERWRITES, 1},
    {"HSET", OVERWRITES, 1},
    {"HMSET", OVERWRITES, 1},
    {"HSETNX", OVERWRITES, 1},
    {"HDEL", OVERWRITES, 1},
    {"HGET", OVERWRITES, 1},
    {"HMGET", OVERWRITES, 1},
    {"HGETALL", OVERWRITES, 1},
    {"SADD", OVERWRITES, 1},
    {"SREM", OVERWRITES, 1},
    {"ZADD", OVERWRITES, 1}, /* but not with INCR: see adds_up() in sink.c */
    {"ZREM", OVERWRITES, 1},
    {"GEOADD", OVERWRITES, 1},
    {"PFADD", OVERWRITES, 1},
    {"EXPIRE", OVERWRITES, 1},
    {"PEXPIRE", OVERWRITES, 1},
    {"EXPIREAT", OVERWRITES, 1},
    {"PEXPIREAT", OVERWRITES, 1},
    {"PERSIST", OVERWRITES, 1},
    {"TOUCH", OVERWRITES, 1},
    {"XTRIM", OVERWRITES, 1},
    {"JSON.SET", OVERWRITES, 1},
    {"JSON.DEL", OVERWRITES, 1},
    {"PUBLISH", 0, 0},
    {"SPUBLISH", 0, 0},
    {"PING", OVERWRITES, 0},
    {"ECHO", OVERWRITES, 0},
    {"EVAL", 0, 3},
    {"EVALSHA", 0, 3},
    {"EVAL_RO", OVERWRITES, 3},
    {"EVALSHA_RO", OVERWRITES, 3},
    {"FCALL", 0, 3},
    {"FCALL_RO", OVERWRITES, 3},
    {"BITOP", OVERWRITES, 2},
    {"XGROUP", 0, 2},
    {"OBJECT", OVERWRITES, 2},
    {"MEMORY", OVERWRITES, 2},
    {"XREAD", REFUSED, 0},
    {"XREADGROUP", REFUSED, 0},
    {"MULTI", REFUSED, 0},
    {"EXEC", REFUSED, 0},
    {"DISCARD", REFUSED, 0},
    {"WATCH", REFUSED, 0},
    {"UNWATCH", REFUSED, 0},
    {"SUBSCRIBE", REFUSED, 0},
    {"PSUBSCRIBE", REFUSED, 0},
    {"SSUBSCRIBE", REFUSED, 0},
    {"UNSUBSCRIBE", REFUSED, 0},
    {"PUNSUBSCRIBE", REFUSED, 0},
    {"SUNSUBSCRIBE", REFUSED, 0},
    {"MONITOR", REFUSED, 0},
    {"SYNC", REFUSED, 0},
    {"PSYNC", REFUSED, 0},
    {"REPLCONF", REFUSED, 0},
    {"QUIT", REFUSED, 0},
    {"RESET", REFUSED, 0},
    {"AUTH", REFUSED, 0},
    {"HELLO", REFUSED, 0},
    {"SELECT", REFUSED, 0},
    {"SWAPDB", REFUSED, 0},
    {"CLIENT", REFUSED, 0},
    {"SHUTDOWN", REFUSED, 0},
    {"DEBUG", REFUSED, 0},
    {"WAIT", REFUSED, 0},
    {"WAITAOF", REFUSED, 0},
    {"BLPOP", REFUSED, 0},
    {"BRPOP", REFUSED, 0},
    {"BRPOPLPUSH", REFUSED, 0},
    {"BLMOVE", REFUSED, 0},
    {"BLMPOP", REFUSED, 0},
    {"BZPOPMIN", REFUSED, 0},
    {"BZPOPMAX", REFUSED, 0},
    {"BZMPOP", REFUSED, 0},
};

const struct command_info *command_info(struct weir_str name)
{
    static const struct command_info other = {"", 0, 1};
    for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); i++) {
        if (strlen(infos[i].name) == name.len &&
            strncasecmp(infos[i].name, name.ptr, name.len) == 0)
            return &infos[i];
    }
    return &other;
}

static void check_key(struct weir_template *const *items, uint32_t n, const char *option,
                      const struct command_info *info, bool wants_key,
                      const struct weir_report *report)
{
    const struct weir_host *h = report->host;
    struct weir_str text;
    if (info->key == 0 || info->key >= n) {
        if (wants_key)
            report->error(report, option, -1,
                          "`expire` needs a command with a key; this one has none");
        return;
    }
    if (h->template_is_literal(items[info->key], &text) ||
        h->template_prefix(items[info->key]).len > 0)
        return;
    report->error(report, option, -1,
                  "the key (argument %u) begins with a placeholder: events could then reach any "
                  "key; begin it with fixed text, such as \"user:{{ ... }}\"",
                  info->key);
}

void command_check(const struct weir_list *command, const char *path, bool wants_key,
                   const struct weir_report *report)
{
    struct weir_template *const *items = command->items;
    struct weir_str name;
    if (!report->host->template_is_literal(items[0], &name)) {
        report->error(report, path, -1,
                      "the first item, the command's name, must not hold a placeholder");
        return;
    }
    if (name.len == 0 || memchr(name.ptr, ' ', name.len) != NULL) {
        report->error(report, path, -1,
                      "expected the command's name as the first item, found \"%s\"; write each "
                      "argument as an item of its own: [SET, \"k:{{ id }}\", \"{{ value }}\"]",
                      name.len == 0 ? "" : name.ptr);
        return;
    }
    const struct command_info *info = command_info(name);
    if ((info->flags & COMMAND_REFUSED) != 0) {
        report->error(report, path, -1,
                      "%s cannot be used: it changes or blocks the connection that all events "
                      "share",
                      info->name);
        return;
    }
    check_key(items, command->n, path, info, wants_key, report);
}
