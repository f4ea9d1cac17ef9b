/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a Redis server is and as whom to log in: the options of a connection, and their reading.
 */
#ifndef REDIS_ADDRESS_H
#define REDIS_ADDRESS_H

#include <weir/plugin.h>

/* The options that every component type of this plugin begins with. */
struct conn_config {
    struct weir_str url;
    struct weir_str user;
    struct weir_str password;
    int64_t database;
    int64_t connect_timeout_ns;
};

/* Rows of an option table whose config struct has a member `conn`. */
#define CONN_OPTIONS(config_type)                                                                  \
    {.name = "url",                                                                                \
     .type = WEIR_OPT_STRING,                                                                      \
     .offset = offsetof(config_type, conn.url),                                                    \
     .flags = WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,                                                 \
     .def = "redis://127.0.0.1:6379",                                                              \
     .doc = "The server: redis://[[user]:password@]host[:port][/database], or "                    \
            "unix:///path/to/socket. Special characters as %XX. Secret, for it may hold a "        \
            "password.",                                                                           \
     .example = "redis://redis:6379/0"},                                                           \
        {.name = "user",                                                                           \
         .type = WEIR_OPT_STRING,                                                                  \
         .offset = offsetof(config_type, conn.user),                                               \
         .doc = "ACL user (Redis 6 and later); without it the default user.",                      \
         .example = "weir"},                                                                       \
        {.name = "password",                                                                       \
         .type = WEIR_OPT_STRING,                                                                  \
         .offset = offsetof(config_type, conn.password),                                           \
         .flags = WEIR_OPT_SECRET,                                                                 \
         .doc = "Password of the user, or of a server with `requirepass`.",                        \
         .example = "${file:/run/secrets/redis}"},                                                 \
        {.name = "database",                                                                       \
         .type = WEIR_OPT_INT,                                                                     \
         .offset = offsetof(config_type, conn.database),                                           \
         .def = "0",                                                                               \
         .min = 0,                                                                                 \
         .max = 1000000,                                                                           \
         .doc = "Number of the logical database; that of the URL where this is 0.",                \
         .example = "1"},                                                                          \
    {                                                                                              \
        .name = "connect_timeout", .type = WEIR_OPT_DURATION,                                      \
        .offset = offsetof(config_type, conn.connect_timeout_ns), .flags = WEIR_OPT_ADVANCED,      \
        .def = "5s", .min = WEIR_NS_PER_MS, .max = 600 * WEIR_NS_PER_S,                            \
        .doc = "How long connecting and logging in may take.", .example = "2s"                     \
    }

/* A read address. All texts end in NUL. */
struct address {
    char host[256]; /* empty: a unix socket */
    char port[8];
    char path[108]; /* of the unix socket */
    char user[256];
    char password[1024];
    bool has_user;
    bool has_password;
    int64_t database;
};

/* Reads a URL. NULL, or what is wrong with it and in *ret_offset where; a text without secrets. */
const char *address_parse(struct weir_str url, struct address *ret, size_t *ret_offset);

/* Checks the connection's options, as weir_type.check. */
void conn_config_check(const struct conn_config *cf, const struct weir_report *report);

#endif
