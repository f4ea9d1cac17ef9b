/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink `redis`: its configuration, and what type and calls know of each other.
 */
#ifndef REDIS_SINK_CONFIG_H
#define REDIS_SINK_CONFIG_H

#include "address.h"
#include "command.h"

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
        struct weir_template *key;
        struct weir_list fields;
        int64_t maxlen;
    } stream;
    int64_t expire_ns;
};

/* The command that the configuration describes; false when memory is used up. Then command_done is
 * still due. */
bool sink_build_command(struct command *c, const struct weir_host *h, const struct sink_config *cf);

/* sink.c: the calls of the type, whose table stands in sink_config.c. */
extern const struct weir_sink sink_calls;
enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err);
void sink_close(void *take_self);

#endif
