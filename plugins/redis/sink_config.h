/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink `redis`: its configuration, and what type and calls know of each other.
 */
#ifndef REDIS_SINK_CONFIG_H
#define REDIS_SINK_CONFIG_H

#include "command.h"
#include "conn_config.h"

enum list_push { PUSH_RIGHT, PUSH_LEFT };
enum sorted_only { ONLY_ANY, ONLY_GREATER, ONLY_LESS };

struct sink_config {
    struct conn_config conn;
    struct weir_list command;
    struct {
        struct weir_template *key, *value;
    } set;
    struct {
        struct weir_template *key;
        struct weir_list fields;
    } hash;
    struct {
        struct weir_template *key, *value;
        int push;
        int64_t trim;
    } list;
    struct {
        struct weir_template *key, *member;
    } members;
    struct {
        struct weir_template *key, *member, *score;
        int only;
    } sorted_set;
    struct {
        struct weir_template *key;
        struct weir_list fields;
        int64_t maxlen;
        int64_t max_age_ns;
        struct weir_template *minid;
        bool exact;
    } stream;
    struct {
        struct weir_template *channel, *message;
    } publish;
    int64_t expire_ns;
    bool keep_ttl;
    struct {
        int64_t ttl_ns;
    } once;
};

/* sink_build.c: the command that the configuration describes; false when memory is used up. Then
 * command_done is still due. */
bool sink_build_command(struct command *c, const struct weir_host *h, const struct sink_config *cf);

/* sink.c: the calls of the type, whose table stands in sink_config.c. */
extern const struct weir_sink sink_calls;
enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err);
void sink_close(void *take_self);

#endif
