/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of server errors. What is not in it: of one document rejected, since the server has
 * read it and said no; of a whole command to be tried again, since nobody knows whose fault it was.
 */
#include "verdict.h"

#include <stdlib.h>

struct row {
    int32_t code;
    enum weir_verdict verdict;
    const char *name;
    bool of_document; /* also where it is the answer to a whole command */
};

#define REJECTED WEIR_VERDICT_REJECTED
#define RETRY WEIR_VERDICT_RETRY
#define AWAY WEIR_VERDICT_UNAVAILABLE

/* In order of the code. */
static const struct row rows[] = {
    {2, REJECTED, "bad_value", false},
    {6, AWAY, "unreachable", false},
    {7, AWAY, "unreachable", false},
    {9, REJECTED, "bad_document", false},
    {11, AWAY, "auth_failed", false},
    {13, AWAY, "not_authorized", false},
    {14, REJECTED, "type_mismatch", false},
    {15, REJECTED, "too_deep", true},
    {16, REJECTED, "bad_length", false},
    {18, AWAY, "auth_failed", false},
    {20, REJECTED, "illegal_operation", false},
    {22, REJECTED, "bad_document", true},
    {24, RETRY, "locked", false},
    {28, REJECTED, "bad_path", false},
    {46, RETRY, "locked", false},
    {50, RETRY, "time_limit", false},
    {52, REJECTED, "bad_key", true},
    {53, REJECTED, "bad_id", true},
    {54, REJECTED, "bad_id", true},
    {55, REJECTED, "bad_document", true},
    {56, REJECTED, "bad_key", true},
    {57, REJECTED, "bad_key", true},
    {61, REJECTED, "no_shard_key", false},
    {63, RETRY, "stale_config", false},
    {64, AWAY, "write_concern", false},
    {66, REJECTED, "bad_id", true},
    {70, RETRY, "stale_config", false},
    {73, REJECTED, "bad_namespace", true},
    {79, AWAY, "write_concern", false},
    {82, RETRY, "operation_failed", false},
    {83, RETRY, "operation_failed", false},
    {89, AWAY, "network", false},
    {91, AWAY, "shutdown", false},
    {96, RETRY, "operation_failed", false},
    {100, AWAY, "write_concern", false},
    {112, RETRY, "write_conflict", false},
    {117, RETRY, "operation_failed", false},
    {121, REJECTED, "validation", true},
    {133, AWAY, "no_primary", false},
    {150, RETRY, "stale_config", false},
    {166, REJECTED, "not_writable", false},
    {189, AWAY, "no_primary", false},
    {225, RETRY, "too_old_to_commit", false},
    {249, RETRY, "stale_config", false},
    {251, RETRY, "no_transaction", false},
    {262, RETRY, "time_limit", false},
    {317, AWAY, "network", false},
    {391, AWAY, "auth_failed", false},
    {8000, AWAY, "not_authorized", false},
    {9001, AWAY, "network", false},
    {10003, REJECTED, "capped", true},
    {10058, AWAY, "no_primary", false},
    {10107, AWAY, "no_primary", false},
    {10334, REJECTED, "too_large", true},
    {11000, REJECTED, "duplicate_key", true},
    {11001, REJECTED, "duplicate_key", true},
    {11600, AWAY, "shutdown", false},
    {11601, RETRY, "interrupted", false},
    {11602, AWAY, "no_primary", false},
    {12582, REJECTED, "duplicate_key", true},
    {13388, RETRY, "stale_config", false},
    {13435, AWAY, "no_primary", false},
    {13436, AWAY, "no_primary", false},
    {14031, AWAY, "disk_full", false},
    {16500, AWAY, "throttled", false},
    {17280, REJECTED, "too_large", true},
    {17419, REJECTED, "too_large", true},
    {17420, REJECTED, "too_large", true},
};

static const struct row *find(int32_t code)
{
    size_t low = 0, high = sizeof(rows) / sizeof(rows[0]);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (rows[mid].code == code)
            return &rows[mid];
        if (rows[mid].code < code)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* A server may refuse a whole command for what one document holds, for what is the same in all of
 * them, or for how many there are: halves find out. */
static bool may_be_of_document(int32_t code)
{
    return code == 2 || code == 9 || code == 14 || code == 16 || code == 28;
}

struct meaning meaning_of_server(int32_t code, bool command)
{
    const struct row *r = find(code);
    if (r == NULL)
        return command ? (struct meaning){WEIR_VERDICT_RETRY, "command_failed", false}
                       : (struct meaning){WEIR_VERDICT_REJECTED, "write_error", true};
    if (command && r->verdict == WEIR_VERDICT_REJECTED && !r->of_document)
        return (struct meaning){WEIR_VERDICT_RETRY, r->name, may_be_of_document(code)};
    return (struct meaning){r->verdict, r->name, r->of_document};
}

static struct meaning away(const char *code)
{
    return (struct meaning){WEIR_VERDICT_UNAVAILABLE, code, false};
}

/* The server's own word that the same command may work later. */
static bool says_later(const bson_t *reply)
{
    return mongoc_error_has_label(reply, "RetryableWriteError") ||
           mongoc_error_has_label(reply, "RetryableError") ||
           mongoc_error_has_label(reply, "SystemOverloadedError");
}

struct meaning meaning_of_error(const bson_error_t *error, const bson_t *reply)
{
    switch (error->domain) {
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_WRITE_CONCERN: {
        struct meaning m = meaning_of_server((int32_t)error->code, true);
        if (m.verdict != WEIR_VERDICT_REJECTED && reply != NULL && says_later(reply)) {
            m.verdict = WEIR_VERDICT_UNAVAILABLE;
            m.of_document = false;
        }
        return m;
    }
    case MONGOC_ERROR_BSON: /* the server's limits are lower than ours */
        return (struct meaning){WEIR_VERDICT_REJECTED, "too_large", true};
    case MONGOC_ERROR_SERVER_SELECTION:
        return away("no_server");
    case MONGOC_ERROR_SCRAM:
    case MONGOC_ERROR_SASL:
        return away("auth_failed");
    case MONGOC_ERROR_CLIENT:
        if (error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE)
            return away("auth_failed");
        return away("client");
    case MONGOC_ERROR_STREAM:
        return away("network");
    default:
        return away("client");
    }
}

bool code_loses_client(int32_t code)
{
    static const char *const elsewhere[] = {"no_primary", "shutdown", "network", "unreachable",
                                            "auth_failed"};
    const struct row *r = find(code);
    for (size_t i = 0; r != NULL && i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        if (strcmp(r->name, elsewhere[i]) == 0)
            return true;
    return false;
}

bool error_loses_client(const bson_error_t *error)
{
    if (error->domain == MONGOC_ERROR_BSON)
        return false;
    if (error->domain != MONGOC_ERROR_SERVER && error->domain != MONGOC_ERROR_WRITE_CONCERN)
        return true;
    return code_loses_client((int32_t)error->code);
}

const char *text_of_error(const bson_error_t *error)
{
    if (strcmp(meaning_of_error(error, NULL).code, "auth_failed") == 0)
        return "the server refused the user or password of the uri";
    return error->message[0] != '\0' ? error->message : "the reply is incomplete";
}

int64_t retry_after_of(const struct meaning *m, const char *message)
{
    static const char word[] = "RetryAfterMs=";
    const char *at = strcmp(m->code, "throttled") == 0 ? strstr(message, word) : NULL;
    if (at == NULL)
        return 0;
    long ms = strtol(at + sizeof(word) - 1, NULL, 10);
    return ms > 0 && ms <= 600000 ? ms * WEIR_NS_PER_MS : 0;
}
