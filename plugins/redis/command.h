/* SPDX-License-Identifier: Apache-2.0
 *
 * A command as the configuration says it, made ready to be encoded for each event.
 *
 * An event's command may have followers on the same key (LTRIM, PEXPIRE), which go out behind it.
 * With a guard all of them go into one call of a script, which does nothing for an id it has seen.
 */
#ifndef REDIS_COMMAND_H
#define REDIS_COMMAND_H

#include "bytes.h"

/* What is known of a Redis command. */
#define COMMAND_OVERWRITES 1u /* repeating it changes nothing but the moment */
#define COMMAND_REFUSED 2u /* would break the pipeline: no reply, several, a blocked connection */
#define COMMAND_SCRIPT 4u  /* its keys are counted by an argument; no script can call it */
#define COMMAND_CHANNEL 8u /* its first argument is a channel */
#define COMMAND_READS 16u  /* it changes nothing at all */

struct command_info {
    const char *name;
    uint32_t flags;
    uint32_t key;  /* argument that is its (first) key, 0 = none */
    uint32_t step; /* from one key to the next, to the end; 0 = there is only one */
};

/* Never NULL: an unknown command accumulates and has its key at 1. Upper and lower case alike. */
const struct command_info *command_info(struct weir_str name);

/* Checks a list of templates that is a command, as weir_type.check; path: name of the option. */
struct command_use {
    const char *path;
    bool wants_key; /* there is an expiry */
    bool cluster;
    bool guarded; /* it goes into a script */
    bool reads;   /* only commands that read are of use */
};
void command_check(const struct weir_list *command, const struct command_use *use,
                   const struct weir_report *report);
/* The argument that decides where the checked command goes, and the one that is a key. 0 = none. */
uint32_t command_route(const struct weir_host *h, const struct weir_list *command);
uint32_t command_key(const struct weir_host *h, const struct weir_list *command);

struct arg {
    const struct weir_template *template; /* NULL: `encoded`, the age, or the payload */
    int64_t age_ms;                       /* > 0: the time that was this long ago, in ms */
    struct weir_str encoded;              /* a literal, as it goes out */
    struct weir_str literal;              /* its text */
};

#define FOLLOWERS_MAX 2

/* A command behind the event's own: what stands in front of its key, and behind it, encoded. */
struct follower {
    struct weir_str before, after;
};

struct command {
    const struct weir_host *h;
    struct arg *args;
    size_t n_args, cap_args;
    size_t key;                             /* argument that is the key, 0 = none */
    size_t route;                           /* argument that decides a cluster's slot, 0 = none */
    bool cluster;                           /* the guard's key has to be in the slot of `route` */
    int64_t once_ms;                        /* > 0: guarded for so long */
    struct weir_str guard_head, guard_body; /* in front of the guard's keys: EVALSHA, and EVAL */
    struct weir_str guard_args;             /* behind them */
    struct follower followers[FOLLOWERS_MAX];
    unsigned n_followers;
    bool failed;              /* memory was used up */
    struct bytes texts;       /* memory of the encoded literals */
    struct bytes head;        /* "*<n>\r\n", or what the guard's script wants there */
    struct weir_arena *arena; /* of what else is encoded once */
};

/* Room for so many arguments; false when memory is used up. Then add each, then seal. */
bool command_init(struct command *c, const struct weir_host *h, size_t cap_args);
void command_done(struct command *c);
void command_add_str(struct command *c, struct weir_str text);
void command_add_text(struct command *c, const char *text);
void command_add_int(struct command *c, int64_t number);
void command_add_template(struct command *c, const struct weir_template *t);
void command_add_payload(struct command *c);
void command_add_age(struct command *c, int64_t age_ms);
/* Adds every template of a checked list. */
void command_add_list(struct command *c, const struct weir_list *list);
/* Guards it for so long; before the followers. */
void command_guard(struct command *c, int64_t once_ms);
/* NAME key args...: behind the command, on its key. */
void command_follow(struct command *c, const char *name, size_t n_args,
                    const struct weir_str *args);
/* key and route: see struct command. False when memory was used up on the way. */
bool command_seal(struct command *c, size_t key, size_t route);

/* How many commands one event has: replies, that is. */
static inline unsigned command_n_parts(const struct command *c)
{
    return c->once_ms > 0 ? 1 : 1 + c->n_followers;
}

/* How an event's commands are to be written. */
struct command_put {
    struct bytes *out;
    bool whole_script;         /* the server does not know the guard's script yet */
    bool asking;               /* ASKING goes in front of each command */
    unsigned first_part;       /* those in front of it were done */
    struct weir_str ret_route; /* text of the argument `route`: a view, as good as the arena */
    struct weir_result ret_result;
};

/* Appends the event's command(s) to `out`. OK, or nothing is appended and ret_result says why:
 * REJECTED, or UNAVAILABLE without memory. Its message is in `a`. */
enum weir_verdict command_put(const struct command *c, struct weir_batch *b, struct weir_event *ev,
                              struct command_put *put, struct weir_arena *a);

#endif
