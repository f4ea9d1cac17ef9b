/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of a connection, which every component type of this plugin begins with.
 */
#ifndef REDIS_CONN_CONFIG_H
#define REDIS_CONN_CONFIG_H

#include "address.h"

struct tls_config {
    struct weir_str ca, cert, key, server_name;
    bool insecure_skip_verify;
};

struct sentinel_config {
    struct weir_str master, user, password;
};

struct conn_config {
    struct weir_str url;
    struct weir_str user;
    struct weir_str password;
    int64_t database;
    struct tls_config tls;
    bool cluster;
    struct sentinel_config sentinel;
    struct weir_list nodes; /* of struct weir_str */
    int64_t connect_timeout_ns;
};

#define N_TLS_OPTIONS 5
#define N_SENTINEL_OPTIONS 3
extern const struct weir_option tls_options[N_TLS_OPTIONS];
extern const struct weir_option sentinel_options[N_SENTINEL_OPTIONS];

/* Rows of an option table whose config struct has a member `conn`. */
#define CONN_OPTIONS(config_type)                                                                  \
    {.name = "url",                                                                                \
     .type = WEIR_OPT_STRING,                                                                      \
     .offset = offsetof(config_type, conn.url),                                                    \
     .flags = WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,                                                 \
     .def = "redis://127.0.0.1:6379",                                                              \
     .doc = "The server: redis://[[user]:password@]host[:port][/database], the same with "         \
            "rediss:// for TLS, or unix:///path/to/socket. With `cluster` or `sentinel` the one "  \
            "that is asked first. Special characters as %XX. Secret, for it may hold a password.", \
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
         .doc = "Number of the logical database; that of the URL where this is 0. A cluster has "  \
                "only 0.",                                                                         \
         .example = "1"},                                                                          \
        {.name = "cluster",                                                                        \
         .type = WEIR_OPT_BOOL,                                                                    \
         .offset = offsetof(config_type, conn.cluster),                                            \
         .def = "false",                                                                           \
         .doc = "The server is a node of a Redis Cluster: commands go to the node that has their " \
                "key, redirections are followed.",                                                 \
         .example = "true"},                                                                       \
        {.name = "sentinel",                                                                       \
         .type = WEIR_OPT_TABLE,                                                                   \
         .offset = offsetof(config_type, conn.sentinel),                                           \
         .fields = sentinel_options,                                                               \
         .n_fields = N_SENTINEL_OPTIONS,                                                           \
         .doc = "The server is a Redis Sentinel, which knows the master.",                         \
         .example = "{master: mymaster}"},                                                         \
        {.name = "nodes",                                                                          \
         .type = WEIR_OPT_LIST,                                                                    \
         .of = WEIR_OPT_STRING,                                                                    \
         .offset = offsetof(config_type, conn.nodes),                                              \
         .flags = WEIR_OPT_NONEMPTY,                                                               \
         .doc = "More nodes of the cluster, or more Sentinels, as host:port, asked in turn with "  \
                "the one of the URL: each time when there is no answer, or it was wrong.",         \
         .example = "[redis-2:6379, redis-3:6379]"},                                               \
        {.name = "tls",                                                                            \
         .type = WEIR_OPT_TABLE,                                                                   \
         .offset = offsetof(config_type, conn.tls),                                                \
         .fields = tls_options,                                                                    \
         .n_fields = N_TLS_OPTIONS,                                                                \
         .doc = "TLS, where the URL begins with rediss://.",                                       \
         .example = "{ca: /etc/ssl/redis-ca.pem}"},                                                \
    {                                                                                              \
        .name = "connect_timeout", .type = WEIR_OPT_DURATION,                                      \
        .offset = offsetof(config_type, conn.connect_timeout_ns), .flags = WEIR_OPT_ADVANCED,      \
        .def = "5s", .min = WEIR_NS_PER_MS, .max = 600 * WEIR_NS_PER_S,                            \
        .doc = "How long connecting and logging in may take, TLS included.", .example = "2s"       \
    }

/* Checks the connection's options, as weir_type.check. */
void conn_config_check(const struct conn_config *cf, const struct weir_report *report);

/* The user and password of the servers, wherever they stand. */
struct weir_str conn_config_user(const struct conn_config *cf, const struct address *a);
struct weir_str conn_config_password(const struct conn_config *cf, const struct address *a);

#endif
