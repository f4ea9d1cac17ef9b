/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `http`: its type and its docs.
 */
#include "http_source.h"

static uint32_t lanes(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return MAX_LANES; /* as many as there are cores */
}

static uint32_t traits(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_BESIDE;
}

/* ---- The type ---- */

static const char doc[] =
    "Takes events that clients send and answers when they have ended: delivered, "
    "dropped by the pipeline, or kept as dead letters.\n"
    "\n"
    "**Bodies.** `application/json` (or no Content-Type): one value, or an array "
    "whose elements are events. `application/x-ndjson`: a JSON text a line. "
    "`application/x-weir+ndjson`: an item a line, see below. `Content-Encoding` gzip,"
    " deflate and zstd are undone, up to `max_decompressed` bytes and `max_ratio` "
    "times of what was sent. Each event's payload stays byte for byte as it was sent."
    " A body with an item that is not JSON is refused as a whole, unless `partial: "
    "true`.\n"
    "\n"
    "**Answers.** 200 `{\"accepted\":n}` when all were delivered; where some were "
    "filtered or dropped, `items` lists those with their status. 202 when some were "
    "kept as dead letters, with the reason in `items`. 207 with `partial: true` where"
    " some items were left out: "
    "`{\"accepted\":2,\"rejected\":1,\"items\":[{\"item\":1,\"status\":\"rejected\",\"code\":\"bad_"
    "json\",\"message\":\"...\",\"offset\":7}]}`;"
    " where none could be taken it is 400. 400, 401, 403, 404, 405, 408, 413, 414, "
    "415, 417, 431 and 505 say in `error` what is wrong, and in which item (counted "
    "from 0) at which byte of the decompressed body; nothing was taken then. 429: no "
    "room, nothing was taken. 503: not all was delivered (`items` lists those), or "
    "that is not known in time: send it again. 429 and 503 have Retry-After. Items "
    "that are not listed were delivered; but a list longer than a quarter of `max_in_flight` ends "
    "early, and `more` says how many are missing from it.\n"
    "\n"
    "An event's origin (`{{ @topic }}`) is the path as it is configured. Path "
    "parameters, the parameters of the query that `query` lists and the headers that "
    "`headers` lists are kept as the event's headers: `{{ @header.tenant }}`.\n"
    "\n"
    "**Ids** make sending again harmless. An event's id is, in this order: `id` of a "
    "weir item; the field `id_field`; the header Idempotency-Key with `/` and the "
    "item's number (from 0, also for a single object); the header weir-id (with `/n` "
    "where there are several items); else a new UUID.\n"
    "\n"
    "**Who may send.** `tokens` and `token_file` (Authorization: Bearer) and `basic` "
    "are alternatives: a request needs one of those that are set. `hmac` comes on "
    "top: a signature of the body as it was sent, compressed or not, such as "
    "`X-Hub-Signature-256: sha256=<hex>`. With `timestamp_header` what is signed is "
    "the header's seconds, a dot, and the body. Secrets are compared in constant "
    "time. `tls.client_ca` asks the client for a certificate.\n"
    "\n"
    "**TLS.** Versions 1.2 and 1.3. When the files of `tls` change, connections from "
    "then on use the new ones, without a restart; a certificate and key that do not "
    "fit together are logged, and the old ones stay. Replace files by renaming new "
    "ones over them.\n"
    "\n"
    "**Pages.** With `cors` a page of a listed origin may `fetch`; its preflight is "
    "answered 204 without credentials. Requests with the Origin of another page are "
    "refused with 403 even where a browser asks no preflight.\n"
    "\n"
    "**Weir items**, what the http sink writes with `format: weir`, a line each:\n"
    "\n"
    "    "
    "{\"id\":\"a1\",\"key\":\"u7\",\"time_ns\":1700000000000000000,\"headers\":[{\"name\":\"h\","
    "\"value\":\"v\"}],\"payload\":{\"type\":\"login\"}}\n"
    "\n"
    "`time_ns` counts from 1970. Bytes that are not UTF-8, and payloads that are not "
    "JSON, stand as base64 in `payload_base64`, `key_base64`, `name_base64`, "
    "`value_base64`. Instead of a payload a tombstone has `\"tombstone\":true`. The "
    "other members may be missing, more are passed over; the file sink's `format: "
    "full` writes such lines too.\n"
    "\n"
    "**Limits.** Bodies wait in memory up to `max_in_flight`, a complete request up "
    "to `max_wait` for room, and no request longer than `request_timeout`, from its "
    "first byte on. While the process is short of memory (see `--memory`) only "
    "one body is taken at a time. A request of more than 2,048 items is looked through and then "
    "taken in parts, as the pipeline has room. While all of `max_connections` are taken, who does "
    "nothing with a connection loses it to those who wait. A client that has its answer and goes on sending is read for a "
    "second, then cut off. HTTP is read strictly: a head that somebody else may read "
    "in another way (folded lines, a space before a colon, NUL, both Content-Length "
    "and Transfer-Encoding) is refused with 400 and its connection closed. With "
    "`codec: raw` nothing is parsed: a body, or a line of NDJSON, is one event of "
    "opaque bytes, whatever its Content-Type.\n";

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
    .options = WEIR_OPTIONS(http_options, struct config),
    .source = &source,
    .check = http_check,
    .traits = traits,
    .lanes = lanes,
    .open = source_open,
    .close = source_close,
};

static const struct weir_type *const types[] = {&type_http, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "http_source", "0.1.0", "An HTTP server as a source of events.",
               "Apache-2.0",    types,         NULL};
