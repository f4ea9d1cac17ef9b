/* SPDX-License-Identifier: Apache-2.0
 *
 * A command as the configuration says it, made ready to be encoded for each event.
 */
#ifndef REDIS_COMMAND_H
#define REDIS_COMMAND_H

#include "bytes.h"

/* What is known of a Redis command. */
#define COMMAND_OVERWRITES 1u /* repeating it changes nothing but the moment */
#define COMMAND_REFUSED 2u /* would break the pipeline: no reply, several, a blocked connection */

struct command_info {
    const char *name;
    uint32_t flags;
    uint32_t key; /* argument that is its key, 0 = none */
};

/* Never NULL: an unknown command accumulates and has its key at 1. Upper and lower case alike. */
const struct command_info *command_info(struct weir_str name);

/* Checks a list of templates that is a command, as weir_type.check; path: name of the option. */
void command_check(const struct weir_list *command, const char *path, bool wants_key,
                   const struct weir_report *report);

struct arg {
    const struct weir_template *template; /* NULL: `encoded`, or the payload */
    struct weir_str encoded;              /* a literal, as it goes out */
    struct weir_str literal;              /* its text */
};

struct command {
    const struct weir_host *h;
    struct arg *args;
    size_t n_args, cap_args;
    size_t key;         /* argument that is the key, 0 = none */
    int64_t expire_ms;  /* > 0: a PEXPIRE of the key follows */
    struct bytes texts; /* memory of the encoded literals */
    struct bytes head;  /* "*<n>\r\n" */
};

/* Room for so many arguments; false when memory is used up. Then add each, then seal. */
bool command_init(struct command *c, const struct weir_host *h, size_t cap_args);
void command_done(struct command *c);
void command_add_str(struct command *c, struct weir_str text);
void command_add_text(struct command *c, const char *text);
void command_add_template(struct command *c, const struct weir_template *t);
void command_add_payload(struct command *c);
/* Adds every template of a checked list. */
void command_add_list(struct command *c, const struct weir_list *list);
/* False when memory was used up on the way. */
bool command_seal(struct command *c, size_t key, int64_t expire_ms);

/* Replies that one event's commands have: 2 where there is an expiry, else 1. */
static inline unsigned command_n_replies(const struct command *c)
{
    return c->expire_ms > 0 ? 2 : 1;
}

/* Appends the event's command(s) to `out`. OK, or nothing is appended and *ret_result says why:
 * REJECTED, or UNAVAILABLE without memory. Its message is in `a`. */
enum weir_verdict command_put(const struct command *c, struct weir_batch *b, struct weir_event *ev,
                              struct bytes *out, struct weir_arena *a,
                              struct weir_result *ret_result);

#endif
