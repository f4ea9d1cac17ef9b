/* SPDX-License-Identifier: Apache-2.0
 *
 * A reply of Redis as a JSON value.
 */
#ifndef REDIS_REPLY_VALUE_H
#define REDIS_REPLY_VALUE_H

#include <weir/plugin.h>

enum reply_parse { PARSE_STRING, PARSE_JSON, PARSE_AUTO };

struct reply_reader {
    const struct weir_host *h;
    struct weir_arena *arena; /* of the values */
    enum reply_parse parse;   /* what strings are */
    const char *code;         /* out: why there is no value */
    const char *message;
};

/* The value of one whole reply's record; `pairs`: an array of names and values is an object. NULL
 * with code and message. */
struct weir_value *reply_value(struct reply_reader *r, struct weir_str record, bool pairs);

#endif
