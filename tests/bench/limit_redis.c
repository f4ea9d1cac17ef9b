/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_redis HOST PORT N: N HINCRBY by hiredis in pipelines of 1000. The limit of Kafka -> Redis.
 */
#include "limit.h"

#include <hiredis/hiredis.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        limit_die("limit_redis", "usage: limit_redis HOST PORT N");
    uint64_t n = strtoull(argv[3], NULL, 10);
    redisContext *c = redisConnect(argv[1], (int)strtol(argv[2], NULL, 10));
    if (c == NULL || c->err != 0)
        limit_die("limit_redis", c != NULL ? c->errstr : "no memory");
    double t0 = limit_now();
    for (uint64_t at = 0; at < n;) {
        uint64_t end = at + 1000 < n ? at + 1000 : n;
        for (uint64_t i = at; i < end; i++) {
            const char *args[] = {"HINCRBY", "limit:2026-01-01", "page_view", "1"};
            redisAppendCommandArgv(c, 4, args, NULL);
        }
        for (; at < end; at++) {
            void *reply;
            if (redisGetReply(c, &reply) != REDIS_OK)
                limit_die("limit_redis", c->errstr);
            freeReplyObject(reply);
        }
    }
    int rc = limit_report(n, t0);
    redisFree(c);
    return rc;
}
