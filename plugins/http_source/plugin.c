/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: its option table, its checks, its docs.
 */
#include "http_source.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MIB (INT64_C(1) << 20)

static const struct weir_option options[] = {
    {.name = "address",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, address),
     .def = "127.0.0.1:8080",
     .doc =
         "Where to listen: host:port. Port 0 picks a free one and logs it; an empty host or [::] "
         "is every address.",
     .example = "0.0.0.0:8080"},
    {.name = "path",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, paths),
     .def = "/events",
     .doc = "Paths at which events are taken, compared byte for byte; any other is answered 404.",
     .example = "[/events, /v1/events]"},
    {.name = "tokens",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, tokens),
     .doc = "Bearer tokens, one of which a request must have. Without any, every request is taken.",
     .example = "[\"${file:/run/secrets/api_token}\"]"},
    {.name = "key",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct config, key),
     .doc = "Field that becomes the event's key: its name, or the names on the way to it.",
     .example = "[user, id]"},
    {.name = "id_field",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct config, id_field),
     .doc =
         "Field that becomes the event's id: its name, or the names on the way to it. Where it is "
         "missing: Idempotency-Key, else weir-id, else a new id.",
     .example = "event_id"},
    {.name = "headers",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct config, headers),
     .doc = "Request headers that every event of the request keeps, under these names.",
     .example = "[x-request-id, traceparent]"},
    {.name = "partial",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct config, partial),
     .def = "false",
     .doc =
         "Take the good items of a request whose other items are not JSON. Otherwise one bad item "
         "refuses all."},
    {.name = "max_body",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, max_body),
     .def = "16MiB",
     .min = 1024,
     .max = 1024 * MIB,
     .doc = "Largest body, as it is sent; beyond it 413."},
    {.name = "max_decompressed",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, max_decompressed),
     .def = "64MiB",
     .min = 1024,
     .max = 1024 * MIB,
     .doc = "Largest body after decompression; beyond it 413."},
    {.name = "max_events",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, max_events),
     .def = "100000",
     .min = 1,
     .max = 10000000,
     .doc = "Most events in one request; beyond it 413."},
    {.name = "max_in_flight",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, max_in_flight),
     .def = "64MiB",
     .min = 1024,
     .max = 1024 * 1024 * MIB,
     .doc =
         "Bytes of bodies, all clients together, that may wait for their answer; beyond it 429."},
    {.name = "max_wait",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, max_wait),
     .def = "5s",
     .min = WEIR_NS_PER_MS,
     .max = 86400 * WEIR_NS_PER_S,
     .doc =
         "How long a complete request waits for room in the pipeline before it is answered 429."},
    {.name = "max_connections",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct config, max_connections),
     .def = "1024",
     .min = 1,
     .max = 1000000,
     .doc = "Most connections at once; further clients wait to be accepted."},
    {.name = "request_timeout",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, request_timeout),
     .def = "30s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 86400 * WEIR_NS_PER_S,
     .doc =
         "From the request line to the answer, reading included. A client that is too slow is cut "
         "off with 408; where the answer is not known in time it is 503."},
    {.name = "keep_alive",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, keep_alive),
     .def = "75s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 86400 * WEIR_NS_PER_S,
     .doc = "How long a connection may stay open without a request."},
    {.name = "retry_after",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, retry_after),
     .def = "1s",
     .min = WEIR_NS_PER_S,
     .max = 86400 * WEIR_NS_PER_S,
     .flags = WEIR_OPT_ADVANCED,
     .doc = "The Retry-After header of 429 and 503, in whole seconds."},
    {.name = "connection_memory",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, connection_memory),
     .def = "64KiB",
     .min = 16 * 1024,
     .max = 16 * MIB,
     .flags = WEIR_OPT_ADVANCED,
     .doc = "Memory of a connection; its half is read at once, and heads must fit into it."},
};

/* ---- Checks ---- */

static void check_path(const struct config *cf, uint32_t i, const struct weir_report *report)
{
    struct weir_str path = list_str(&cf->paths, i);
    char at[32];
    (void)snprintf(at, sizeof(at), "path[%u]", i);
    if (path.len == 0 || path.ptr[0] != '/') {
        report->error(report, at, 0, "expected a path that begins with '/', found '%s'", path.ptr);
        return;
    }
    for (size_t c = 0; c < path.len; c++) {
        if (path.ptr[c] <= ' ' || path.ptr[c] > '~' || strchr("?#{}\"", path.ptr[c]) != NULL) {
            report->error(
                report, at, (int64_t)c,
                "a path holds no space, '?', '#', braces, quotes, nor bytes beyond ASCII; "
                "write those percent-encoded");
            return;
        }
    }
    for (uint32_t other = 0; other < i; other++)
        if (strcmp(list_str(&cf->paths, other).ptr, path.ptr) == 0)
            report->error(report, at, -1, "the path '%s' is there twice: remove one", path.ptr);
}

static void check_header(const struct config *cf, uint32_t i, const struct weir_report *report)
{
    static const char *const secret[] = {"authorization", "cookie", "proxy-authorization"};
    struct weir_str name = list_str(&cf->headers, i);
    char at[32];
    (void)snprintf(at, sizeof(at), "headers[%u]", i);
    bool ok = name.len != 0;
    for (size_t c = 0; c < name.len; c++)
        ok = ok && is_name_char(name.ptr[c]);
    if (!ok)
        report->error(report, at, 0, "'%s' is no header name: expected one such as x-request-id",
                      name.ptr);
    for (size_t k = 0; k < sizeof(secret) / sizeof(secret[0]); k++)
        if (strcasecmp(secret[k], name.ptr) == 0)
            report->error(report, at, 0,
                          "the header %s holds a secret, and events go to places that keep them: "
                          "remove it",
                          secret[k]);
}

static void check_tokens(const struct config *cf, const struct weir_report *report)
{
    for (uint32_t i = 0; i < cf->tokens.n; i++) {
        struct weir_str token = list_str(&cf->tokens, i);
        char at[32];
        (void)snprintf(at, sizeof(at), "tokens[%u]", i);
        bool ok = token.len != 0;
        for (size_t c = 0; c < token.len; c++)
            ok = ok && token.ptr[c] > ' ' && token.ptr[c] <= '~';
        if (!ok)
            report->error(
                report, at, -1,
                "a token is one or more visible ASCII characters; this one is empty or has "
                "a space or a newline, perhaps at its end");
        else if (token.len < 16)
            report->warning(report, at, -1,
                            "the token has %zu characters: use at least 16 random ones", token.len);
    }
}

static void check_field(const struct weir_list *path, const char *name,
                        const struct weir_report *report)
{
    for (uint32_t i = 0; i < path->n; i++)
        if (list_str(path, i).len == 0)
            report->error(report, name, -1, "a field's name is not empty");
}

static void check(const void *config, const struct weir_report *report)
{
    const struct config *cf = config;
    struct address at;
    const char *why = "";
    if (!address_split(cf->address, &at, &why))
        report->error(report, "address", 0, "cannot listen on '%s': %s", cf->address.ptr, why);
    for (uint32_t i = 0; i < cf->paths.n; i++)
        check_path(cf, i, report);
    for (uint32_t i = 0; i < cf->headers.n; i++)
        check_header(cf, i, report);
    check_tokens(cf, report);
    check_field(&cf->key, "key", report);
    check_field(&cf->id_field, "id_field", report);
    if (cf->max_in_flight < cf->max_body)
        report->error(report, "max_in_flight", -1,
                      "%lld bytes is less than max_body (%lld): the largest body would never fit",
                      (long long)cf->max_in_flight, (long long)cf->max_body);
    if (cf->max_decompressed < cf->max_body)
        report->error(report, "max_decompressed", -1,
                      "%lld bytes is less than max_body (%lld): expected at least as much",
                      (long long)cf->max_decompressed, (long long)cf->max_body);
    if (cf->max_wait > cf->request_timeout)
        report->error(report, "max_wait", -1,
                      "it is longer than request_timeout, which ends the request first: shorten it "
                      "or lengthen request_timeout");
}

static uint32_t lanes(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return MAX_LANES; /* as many as there are cores */
}

/* ---- The type ---- */

static const char doc[] =
    "Takes events that clients `POST` and answers when they have ended: delivered, dropped by the "
    "pipeline, or kept as dead letters.\n"
    "\n"
    "**Bodies.** `application/json` (or no Content-Type): one value, or an array whose elements "
    "are "
    "events. `application/x-ndjson`: a JSON text a line. `application/x-weir+ndjson`: an item a "
    "line, "
    "see below. `Content-Encoding: gzip` is undone. Each event's payload stays byte for byte as it "
    "was sent. A body with an item that is not JSON is refused as a whole, unless `partial: "
    "true`.\n"
    "\n"
    "**Answers.** 200 `{\"accepted\":n}` when all were delivered; where some were filtered or "
    "dropped, "
    "`items` lists those with their status. 202 when some were kept as dead letters, with the "
    "reason "
    "in `items`. 400, 401, 404, 405, 408, 413 and 415 say in `error` what is wrong, and in which "
    "item "
    "(counted from 0) at which byte of the body; nothing was taken then. 429: no room, nothing was "
    "taken. 503: not all was delivered (`items` lists those), or that is not known in time: send "
    "it "
    "again. 429 and 503 have Retry-After. Items that are not listed were delivered.\n"
    "\n"
    "An event's origin (`{{ @topic }}`) is the path that it was sent to.\n"
    "\n"
    "**Ids** make sending again harmless. An event's id is, in this order: `id` of a weir item; "
    "the "
    "field `id_field`; the header Idempotency-Key with `/` and the item's number (from 0, also for "
    "a "
    "single object); the header weir-id (with `/n` where there are several items); else a new "
    "UUID.\n"
    "\n"
    "**Weir items**, what the http sink writes with `format: weir`, a line each:\n"
    "\n"
    "    {\"id\":\"a1\",\"key\":\"u7\",\"time_ns\":1700000000000000000,"
    "\"headers\":[{\"name\":\"h\",\"value\":\"v\"}],\"payload\":{\"type\":\"login\"}}\n"
    "\n"
    "`time_ns` counts from 1970. Bytes that are not UTF-8, and payloads that are not JSON, stand "
    "as "
    "base64 in `payload_base64`, `key_base64`, `name_base64`, `value_base64`. Instead of a payload "
    "a "
    "tombstone has `\"tombstone\":true`. The other members may be missing, more are passed over; "
    "the "
    "file sink's `format: full` writes such lines too.\n"
    "\n"
    "**Limits.** Bodies wait in memory up to `max_in_flight`, a complete request up to `max_wait` "
    "for "
    "room, and no request longer than `request_timeout`. With `codec: raw` nothing is parsed: a "
    "body, "
    "or a line of NDJSON, is one event of opaque bytes, whatever its Content-Type.\n";

static const struct weir_source source = {
    .size = sizeof(source),
    .poll = source_poll,
    .wake = source_wake,
    .answer = source_answer,
    .stop = source_stop,
};

static const struct weir_type type_http = {
    .size = sizeof(type_http),
    .kind = WEIR_SOURCE,
    .name = "http",
    .summary = "Takes events over HTTP and answers when they have ended.",
    .doc = doc,
    .options = WEIR_OPTIONS(options, struct config),
    .source = &source,
    .check = check,
    .lanes = lanes,
    .open = source_open,
    .close = source_close,
};

static const struct weir_type *const types[] = {&type_http, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "http_source", "0.1.0", "An HTTP server as a source of events.",
               "Apache-2.0",    types,         NULL};
