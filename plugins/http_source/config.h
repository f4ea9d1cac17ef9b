/* SPDX-License-Identifier: Apache-2.0
 *
 * What the option table of the source `http` fills (options.c), and who checks it (check.c).
 */
#ifndef HTTP_SOURCE_CONFIG_H
#define HTTP_SOURCE_CONFIG_H

#include <weir/plugin.h>

enum hmac_algorithm { HMAC_SHA256, HMAC_SHA512 };
enum hmac_encoding { ENCODING_HEX, ENCODING_BASE64 };

struct hmac_config {
    struct weir_list secrets; /* struct weir_str each, as the other lists */
    struct weir_str header;
    struct weir_str prefix;
    int algorithm;
    int encoding;
    struct weir_str timestamp_header; /* empty: none is signed */
    int64_t tolerance;
};

struct cors_config {
    struct weir_list origins;
    struct weir_list headers;
    int64_t max_age;
    bool credentials;
};

enum client_auth { CLIENT_REQUIRE, CLIENT_OPTIONAL };
enum tls_version { TLS_1_2, TLS_1_3 };

struct tls_config {
    struct weir_str cert, key, client_ca;
    int client_auth;
    int min_version;
};

struct config {
    struct weir_str address;
    struct weir_list paths;
    struct weir_list methods; /* int each: enum method */
    struct weir_list tokens;
    struct weir_str token_file;
    struct weir_list basic; /* struct weir_pair: user, password */
    struct hmac_config hmac;
    struct tls_config tls;
    struct cors_config cors;
    struct weir_list key;
    struct weir_list id_field;
    struct weir_list headers;
    struct weir_list query;
    bool partial;
    int64_t max_body;
    int64_t max_decompressed;
    int64_t max_ratio;
    int64_t max_events;
    int64_t max_in_flight;
    int64_t max_wait;
    int64_t max_connections;
    int64_t max_head;
    int64_t request_timeout;
    int64_t keep_alive;
    int64_t retry_after;
};

enum method { METHOD_POST, METHOD_PUT, METHOD_PATCH };
extern const char *const method_words[];

/* What the values of large bodies may take, in times of max_decompressed: a copy of the text, and 16
 * bytes for each 8 of it, as usual events have. */
#define VALUES_TIMES 3

#define N_OPTIONS 25
extern const struct weir_option http_options[N_OPTIONS];
void http_check(const void *config, const struct weir_report *report);

static inline struct weir_str list_str(const struct weir_list *list, uint32_t i)
{
    return ((const struct weir_str *)list->items)[i];
}

#endif
