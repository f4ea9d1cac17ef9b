/* SPDX-License-Identifier: Apache-2.0
 *
 * limit_mongodb URI DATABASE N: N documents by unordered bulks of 1000, ids of our own, the BSON of all else
 * made once. The limit of Kafka -> MongoDB.
 */
#include "limit.h"

#include <mongoc/mongoc.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        limit_die("limit_mongodb", "usage: limit_mongodb URI DATABASE N");
    uint64_t n = strtoull(argv[3], NULL, 10);
    mongoc_init();
    mongoc_client_t *client = mongoc_client_new(argv[1]);
    if (client == NULL)
        limit_die("limit_mongodb", "bad URI");
    mongoc_collection_t *coll = mongoc_client_get_collection(client, argv[2], "limit");
    bson_t *opts = BCON_NEW("ordered", BCON_BOOL(false));
    bson_error_t err;
    char event[LIMIT_EVENT_MAX], id[32];
    bson_t *rest = bson_new_from_json((const uint8_t *)event, limit_event(event, 1), &err);
    struct limit_clock began = limit_start();
    for (uint64_t at = 0; at < n;) {
        mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(coll, opts);
        for (uint64_t end = at + 1000; at < end && at < n; at++) {
            bson_t doc = BSON_INITIALIZER;
            snprintf(id, sizeof(id), "limit-%llu", (unsigned long long)at);
            BSON_APPEND_UTF8(&doc, "_id", id);
            bson_concat(&doc, rest);
            mongoc_bulk_operation_insert(bulk, &doc);
            bson_destroy(&doc);
        }
        if (mongoc_bulk_operation_execute(bulk, NULL, &err) == 0)
            limit_die("limit_mongodb", err.message);
        mongoc_bulk_operation_destroy(bulk);
    }
    int rc = limit_report(n, began, 0);
    bson_destroy(rest);
    bson_destroy(opts);
    mongoc_collection_destroy(coll);
    mongoc_client_destroy(client);
    mongoc_cleanup();
    return rc;
}
