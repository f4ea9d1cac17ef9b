/* SPDX-License-Identifier: Apache-2.0
 *
 * What is known of Redis's commands, and the check of a command in a pipeline file.
 */
#include "command.h"

#include "slots.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OVERWRITES COMMAND_OVERWRITES
#define READS (COMMAND_READS | COMMAND_OVERWRITES)
#define REFUSED COMMAND_REFUSED
#define SCRIPT COMMAND_SCRIPT
#define CHANNEL COMMAND_CHANNEL

static const struct command_info infos[] = {
    {"SET", OVERWRITES, 1, 0},
    {"SETEX", OVERWRITES, 1, 0},
    {"PSETEX", OVERWRITES, 1, 0},
    {"SETNX", OVERWRITES, 1, 0},
    {"SETBIT", OVERWRITES, 1, 0},
    {"SETRANGE", OVERWRITES, 1, 0},
    {"GET", READS, 1, 0},
    {"MSET", OVERWRITES, 1, 2},
    {"MSETNX", 0, 1, 2},
    {"MGET", READS, 1, 1},
    {"EXISTS", READS, 1, 1},
    {"TOUCH", READS, 1, 1}, /* changes no value */
    {"PFCOUNT", READS, 1, 1},
    {"DEL", OVERWRITES, 1, 1},
    {"UNLINK", OVERWRITES, 1, 1},
    {"HSET", OVERWRITES, 1, 0},
    {"HMSET", OVERWRITES, 1, 0},
    {"HSETNX", OVERWRITES, 1, 0},
    {"HDEL", OVERWRITES, 1, 0},
    {"HGET", READS, 1, 0},
    {"HMGET", READS, 1, 0},
    {"HGETALL", READS, 1, 0},
    {"SADD", OVERWRITES, 1, 0},
    {"SREM", OVERWRITES, 1, 0},
    {"ZADD", OVERWRITES, 1, 0}, /* but not with INCR: see adds_up() in sink_config.c */
    {"ZREM", OVERWRITES, 1, 0},
    {"GEOADD", OVERWRITES, 1, 0},
    {"PFADD", OVERWRITES, 1, 0},
    {"EXPIRE", OVERWRITES, 1, 0},
    {"PEXPIRE", OVERWRITES, 1, 0},
    {"EXPIREAT", OVERWRITES, 1, 0},
    {"PEXPIREAT", OVERWRITES, 1, 0},
    {"PERSIST", OVERWRITES, 1, 0},
    {"XTRIM", OVERWRITES, 1, 0},
    {"JSON.SET", OVERWRITES, 1, 0},
    {"JSON.DEL", OVERWRITES, 1, 0},
    {"INCR", 0, 1, 0},
    {"INCRBY", 0, 1, 0},
    {"INCRBYFLOAT", 0, 1, 0},
    {"DECR", 0, 1, 0},
    {"DECRBY", 0, 1, 0},
    {"APPEND", 0, 1, 0},
    {"GETSET", 0, 1, 0},
    {"GETDEL", 0, 1, 0},
    {"HINCRBY", 0, 1, 0},
    {"HINCRBYFLOAT", 0, 1, 0},
    {"LPUSH", 0, 1, 0},
    {"RPUSH", 0, 1, 0},
    {"LPOP", 0, 1, 0},
    {"RPOP", 0, 1, 0},
    {"SPOP", 0, 1, 0},
    {"ZINCRBY", 0, 1, 0},
    {"XADD", 0, 1, 0},
    {"XDEL", 0, 1, 0},
    {"PUBLISH", CHANNEL, 0, 0},
    {"SPUBLISH", CHANNEL, 0, 0},
    {"PING", READS, 0, 0},
    {"ECHO", READS, 0, 0},
    {"EVAL", SCRIPT, 3, 0},
    {"EVALSHA", SCRIPT, 3, 0},
    {"EVAL_RO", READS | SCRIPT, 3, 0},
    {"EVALSHA_RO", READS | SCRIPT, 3, 0},
    {"FCALL", SCRIPT, 3, 0},
    {"FCALL_RO", READS | SCRIPT, 3, 0},
    {"BITOP", OVERWRITES, 2, 1},
    {"XGROUP", 0, 2, 0},
    {"OBJECT", READS, 2, 0},
    {"MEMORY", READS, 2, 0},
    {"XREAD", REFUSED, 0, 0},
    {"XREADGROUP", REFUSED, 0, 0},
    {"MULTI", REFUSED, 0, 0},
    {"EXEC", REFUSED, 0, 0},
    {"DISCARD", REFUSED, 0, 0},
    {"WATCH", REFUSED, 0, 0},
    {"UNWATCH", REFUSED, 0, 0},
    {"SUBSCRIBE", REFUSED, 0, 0},
    {"PSUBSCRIBE", REFUSED, 0, 0},
    {"SSUBSCRIBE", REFUSED, 0, 0},
    {"UNSUBSCRIBE", REFUSED, 0, 0},
    {"PUNSUBSCRIBE", REFUSED, 0, 0},
    {"SUNSUBSCRIBE", REFUSED, 0, 0},
    {"MONITOR", REFUSED, 0, 0},
    {"SYNC", REFUSED, 0, 0},
    {"PSYNC", REFUSED, 0, 0},
    {"REPLCONF", REFUSED, 0, 0},
    {"QUIT", REFUSED, 0, 0},
    {"RESET", REFUSED, 0, 0},
    {"AUTH", REFUSED, 0, 0},
    {"HELLO", REFUSED, 0, 0},
    {"SELECT", REFUSED, 0, 0},
    {"SWAPDB", REFUSED, 0, 0},
    {"CLIENT", REFUSED, 0, 0},
    {"SHUTDOWN", REFUSED, 0, 0},
    {"DEBUG", REFUSED, 0, 0},
    {"WAIT", REFUSED, 0, 0},
    {"WAITAOF", REFUSED, 0, 0},
    {"BLPOP", REFUSED, 0, 0},
    {"BRPOP", REFUSED, 0, 0},
    {"BRPOPLPUSH", REFUSED, 0, 0},
    {"BLMOVE", REFUSED, 0, 0},
    {"BLMPOP", REFUSED, 0, 0},
    {"BZPOPMIN", REFUSED, 0, 0},
    {"BZPOPMAX", REFUSED, 0, 0},
    {"BZMPOP", REFUSED, 0, 0},
};

const struct command_info *command_info(struct weir_str name)
{
    static const struct command_info other = {"", 0, 1, 0};
    for (size_t i = 0; i < sizeof(infos) / sizeof(infos[0]); i++) {
        if (strlen(infos[i].name) == name.len &&
            strncasecmp(infos[i].name, name.ptr, name.len) == 0)
            return &infos[i];
    }
    return &other;
}

/* ---- Keys ------------------------------------------------------------------------------------ */

/* A checked command of a pipeline file. */
struct form {
    const struct weir_host *h;
    struct weir_template *const *items;
    uint32_t n;
    const struct command_info *info;
    int64_t n_script_keys; /* of a script; -1: the file does not say how many */
};

static bool literal(const struct form *f, uint32_t i, struct weir_str *ret)
{
    return i < f->n && f->h->template_is_literal(f->items[i], ret);
}

static struct form form_of(const struct weir_host *h, const struct weir_list *command)
{
    struct form f = {.h = h, .items = command->items, .n = command->n, .n_script_keys = -1};
    struct weir_str text = {NULL, 0};
    (void)literal(&f, 0, &text);
    f.info = command_info(text);
    if ((f.info->flags & SCRIPT) == 0 || !literal(&f, 2, &text) || text.len == 0 || text.len > 4)
        return f;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return f;
    }
    f.n_script_keys = strtol(text.ptr, NULL, 10);
    return f;
}

/* The first key; 0 = none. */
static uint32_t key_of(const struct form *f)
{
    bool none = f->info->key >= f->n || ((f->info->flags & SCRIPT) != 0 && f->n_script_keys == 0);
    return none ? 0 : f->info->key;
}

/* The key behind that one; 0 = none. */
static uint32_t next_key(const struct form *f, uint32_t key)
{
    if ((f->info->flags & SCRIPT) != 0)
        return key + 1 < 3 + f->n_script_keys && key + 1 < f->n ? key + 1 : 0;
    return f->info->step > 0 && key + f->info->step < f->n ? key + f->info->step : 0;
}

uint32_t command_key(const struct weir_host *h, const struct weir_list *command)
{
    struct form f = form_of(h, command);
    return key_of(&f);
}

uint32_t command_route(const struct weir_host *h, const struct weir_list *command)
{
    struct form f = form_of(h, command);
    if ((f.info->flags & CHANNEL) != 0)
        return f.n > 1 ? 1 : 0;
    return key_of(&f);
}

/* ---- Check ----------------------------------------------------------------------------------- */

static void check_key(const struct form *f, const struct command_use *use,
                      const struct weir_report *report)
{
    struct weir_str text;
    uint32_t key = key_of(f);
    if (key == 0 && use->wants_key)
        report->error(report, use->path, -1,
                      "`expire` needs a command with a key; this one has none");
    for (; key > 0; key = next_key(f, key)) {
        if (!literal(f, key, &text) && f->h->template_prefix(f->items[key]).len == 0)
            report->error(report, use->path, -1,
                          "the key (argument %u) begins with a placeholder: events could then "
                          "reach any key; begin it with fixed text, such as \"user:{{ ... }}\"",
                          key);
    }
}

static void check_script(const struct form *f, const struct command_use *use,
                         const struct weir_report *report)
{
    if ((f->info->flags & SCRIPT) == 0)
        return;
    if (f->n < 3 || f->n_script_keys < 0)
        report->error(report, use->path, -1,
                      "%s expects a script and then, as fixed text, how many keys follow",
                      f->info->name);
    else if (f->n_script_keys > (int64_t)f->n - 3)
        report->error(report, use->path, -1,
                      "%s is to have %lld keys, but only %u arguments follow", f->info->name,
                      (long long)f->n_script_keys, f->n - 3);
    else if (use->cluster && f->n_script_keys == 0)
        report->error(report, use->path, -1,
                      "in a cluster %s goes to the node of its keys: name them as keys",
                      f->info->name);
}

/* The slot of a key as far as the file tells it: of a literal, or of a {tag} in its fixed
 * beginning. -1: only events tell it. */
static int known_slot(const struct form *f, uint32_t i)
{
    struct weir_str text;
    if (literal(f, i, &text))
        return (int)slot_of(text);
    text = f->h->template_prefix(f->items[i]);
    return slot_part(text).len < text.len ? (int)slot_of(text) : -1;
}

static void check_slots(const struct form *f, const struct command_use *use,
                        const struct weir_report *report)
{
    int first = -1;
    for (uint32_t key = key_of(f); use->cluster && key > 0; key = next_key(f, key)) {
        int slot = known_slot(f, key);
        if (first >= 0 && slot >= 0 && slot != first) {
            report->error(report, use->path, -1,
                          "in a cluster all keys of a command are in one slot; give those of %s "
                          "the same {tag}",
                          f->info->name);
            return;
        }
        first = slot >= 0 ? slot : first;
    }
}

void command_check(const struct weir_list *command, const struct command_use *use,
                   const struct weir_report *report)
{
    struct form f = form_of(report->host, command);
    struct weir_str name;
    if (!literal(&f, 0, &name)) {
        report->error(report, use->path, -1,
                      "the first item, the command's name, must not hold a placeholder");
        return;
    }
    if (name.len == 0 || memchr(name.ptr, ' ', name.len) != NULL) {
        report->error(report, use->path, -1,
                      "expected the command's name as the first item, found \"%s\"; write each "
                      "argument as an item of its own: [SET, \"k:{{ id }}\", \"{{ value }}\"]",
                      name.len == 0 ? "" : name.ptr);
        return;
    }
    if ((f.info->flags & REFUSED) != 0) {
        report->error(report, use->path, -1,
                      "%s cannot be used: it changes or blocks the connection that all events "
                      "share",
                      f.info->name);
        return;
    }
    bool writes = f.info->name[0] != '\0' && (f.info->flags & (COMMAND_READS | SCRIPT)) == 0;
    if (use->reads && writes)
        report->error(report, use->path, -1,
                      "%s changes something: a lookup asks once for many events, and again where "
                      "there was no answer; use the sink `redis`",
                      f.info->name);
    if (use->guarded && (f.info->flags & SCRIPT) != 0)
        report->error(report, use->path, -1,
                      "`once` runs the command in a script, which cannot call %s; guard it inside "
                      "your own",
                      f.info->name);
    check_script(&f, use, report);
    check_key(&f, use, report);
    check_slots(&f, use, report);
}
