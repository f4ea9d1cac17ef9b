/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_redis HOST PORT N: N times SET user:U EVENT by hiredis, in pipelines of 1000, all replies read before
 * the next is written. The limit of Kafka -> Redis.
 */
#include "limit.h"

#include <hiredis/hiredis.h>

static void append(redisContext *c, uint64_t i)
{
    char event[LIMIT_EVENT_MAX], key[32];
    const char *args[] = {"SET", key, event};
    size_t sizes[] = {3, 0, 0};
    sizes[1] = (size_t)snprintf(key, sizeof(key), "user:u%08llu", (unsigned long long)(i % 10000));
    sizes[2] = (size_t)limit_event(event, i);
    if (redisAppendCommandArgv(c, 3, args, sizes) != REDIS_OK)
        limit_die("limit_redis", c->errstr);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        limit_die("limit_redis", "usage: limit_redis HOST PORT N");
    uint64_t n = strtoull(argv[3], NULL, 10);
    redisContext *c = redisConnect(argv[1], (int)strtol(argv[2], NULL, 10));
    if (c == NULL || c->err != 0)
        limit_die("limit_redis", c != NULL ? c->errstr : "no memory");
    struct limit_clock began = limit_start();
    for (uint64_t at = 0; at < n;) {
        uint64_t end = at + 1000 < n ? at + 1000 : n;
        for (uint64_t i = at; i < end; i++)
            append(c, i);
        for (; at < end; at++) {
            void *reply;
            if (redisGetReply(c, &reply) != REDIS_OK || ((redisReply *)reply)->type == REDIS_REPLY_ERROR)
                limit_die("limit_redis", "a command failed");
            freeReplyObject(reply);
        }
    }
    int rc = limit_report(n, began, 0);
    redisFree(c);
    return rc;
}
