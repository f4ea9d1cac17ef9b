/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a Redis server is and as whom to log in: the reading of a URL.
 */
#ifndef REDIS_ADDRESS_H
#define REDIS_ADDRESS_H

#include <weir/plugin.h>

/* A read address. All texts end in NUL. */
struct address {
    char host[256]; /* empty: a unix socket */
    char port[8];
    char path[108]; /* of the unix socket */
    char user[256];
    char password[1024];
    bool tls;
    bool has_user;
    bool has_password;
    int64_t database;
};

/* Reads a URL. NULL, or what is wrong with it and in *ret_offset where; a text without secrets. */
const char *address_parse(struct weir_str url, struct address *ret, size_t *ret_offset);

/* Reads "host", "host:port" or "[address]:port" into host and port; NULL, or what is wrong. */
const char *address_parse_node(struct weir_str text, struct address *ret);

/* Reads up to nine decimal digits and nothing else; false where that is no number, or above max. */
bool address_read_uint(struct weir_str s, int64_t max, int64_t *ret);

#endif
