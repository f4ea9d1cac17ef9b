/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `http`: its option table, its docs. Its checks are in check.c.
 */
#include "http_sink.h"

const char *const method_words[] = {"POST", "PUT", "PATCH", NULL};
static const char *const format_words[] = {"ndjson", "array", "single", "weir", NULL};
static const char *const compression_words[] = {"none", "gzip", NULL};

static const struct weir_option tls_options[] = {
    {.name = "ca",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, ca),
     .doc = "File of the authorities that are trusted; otherwise the system's.",
     .example = "/etc/ssl/internal-ca.pem"},
    {.name = "cert",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, cert),
     .doc = "Our own certificate, for servers that ask for one (PEM)."},
    {.name = "key",
     .type = WEIR_OPT_PATH,
     .flags = WEIR_OPT_CONTENT,
     .offset = offsetof(struct tls_config, key),
     .doc = "The key of `cert` (PEM, not encrypted); without it `cert` holds it as well."},
    {.name = "insecure_skip_verify",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct tls_config, insecure_skip_verify),
     .def = "false",
     .doc = "Take any certificate, of whomever: not verified, TLS protects from nobody who is on the way."},
};

static const struct weir_option options[] = {
    {.name = "url",
     .type = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY | WEIR_OPT_PREFIXED,
     .offset = offsetof(struct config, url),
     .doc = "Where events are sent; fields may stand behind the host. Events of one url share "
            "requests.",
     .example = "https://api.example.com/v1/{{ tenant }}/events"},
    {.name = "method",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, method),
     .def = "POST",
     .choices = method_words,
     .doc = "HTTP method."},
    {.name = "format",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, format),
     .def = "ndjson",
     .choices = format_words,
     .doc = "Body: a payload a line, a JSON array, one payload a request, or weir items (id, key, "
            "time, headers, payload) for another weir's http source."},
    {.name = "headers",
     .type = WEIR_OPT_MAP,
     .of = WEIR_OPT_TEMPLATE,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct config, headers),
     .doc =
         "Request headers; an empty value sends none. Events whose headers differ go in different "
         "requests.",
     .example = "{x-api-key: \"${env:API_KEY}\"}"},
    {.name = "token",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct config, token),
     .doc = "Bearer token (Authorization: Bearer).",
     .example = "${file:/run/secrets/api_token}"},
    {.name = "user",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct config, user),
     .doc = "User name for basic authentication."},
    {.name = "password",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct config, password),
     .doc = "Password for basic authentication."},
    {.name = "compression",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, compression),
     .def = "none",
     .choices = compression_words,
     .doc = "Content-Encoding of the bodies."},
    {.name = "ok_status",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .flags = WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct config, ok_status),
     .def = "[2xx]",
     .doc = "Statuses that mean: delivered.",
     .example = "[200, 202]"},
    {.name = "retry_status",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct config, retry_status),
     .def = "[3xx, 401, 403, 407, 408, 425, 429, 5xx]",
     .doc =
         "Statuses that mean: send it again (their Retry-After is kept). What is in neither list "
         "rejects the events; a single status counts before a class such as 2xx.",
     .example = "[408, 429, 5xx]"},
    {.name = "connect_timeout",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct config, connect_timeout),
     .def = "5s",
     .min = WEIR_NS_PER_MS,
     .max = 600 * WEIR_NS_PER_S,
     .doc =
         "Longest wait for a connection, TLS included. All requests of one write have the sink's "
         "`timeout`."},
    {.name = "proxy",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_SECRET,
     .offset = offsetof(struct config, proxy),
     .doc = "Proxy to go through: http, https, socks4, socks4a, socks5 or socks5h, with user and "
            "password where it wants them. The environment's http_proxy is not looked at.",
     .example = "http://proxy.internal:3128"},
    {.name = "tls",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, tls),
     WEIR_FIELDS(tls_options),
     .doc = "For https."},
};

/* ---- The type ---- */

static uint32_t needs(const struct weir_host *h, const void *config)
{
    const struct config *cf = config;
    (void)h;
    bool ids = cf->format == FORMAT_WEIR || cf->format == FORMAT_SINGLE;
    return WEIR_NEEDS_PAYLOAD | (ids ? WEIR_NEEDS_ID : 0);
}

static const char doc[] =
    "Sends events in batches and takes each one's result from the answer.\n"
    "\n"
    "**Formats.** `ndjson` (application/x-ndjson) and `array` (application/json): payloads of "
    "JSON, "
    "many in a request. `single`: a request each, with the event's id in the header `weir-id`. "
    "`weir` "
    "(application/x-weir+ndjson): an item a line, for the http source of another weir, so that "
    "ids, "
    "keys, times and headers go with the payload:\n"
    "\n"
    "    {\"id\":\"a1\",\"key\":\"u7\",\"time_ns\":1700000000000000000,"
    "\"headers\":[{\"name\":\"h\",\"value\":\"v\"}],\"payload\":{\"type\":\"login\"}}\n"
    "\n"
    "`time_ns` counts from 1970. Bytes that are not UTF-8, and payloads of `codec: raw`, stand as "
    "base64 in `payload_base64`, `key_base64`, `name_base64`, `value_base64`. Instead of a payload "
    "a "
    "tombstone has `\"tombstone\":true`. In `ndjson` and `weir` newlines inside a payload become "
    "spaces.\n"
    "\n"
    "**Results.** A status in `ok_status` delivers all events of the request. One in "
    "`retry_status` "
    "has them sent again: 3xx, 401, 403, 404, 407, 408, 425, 429, 502, 503, 504 and 52x count as "
    "an "
    "outage and are retried for ever, others (500) count as attempts. Any other rejects. A refusal "
    "of "
    "many events at once (400, 413, 422) is narrowed down: the request is sent again in halves "
    "until "
    "the bad event is alone. With `format: weir` the answer's items count: what the other side "
    "delivered, filtered, dropped or kept as a dead letter is delivered; a rejected item rejects "
    "that "
    "event alone; a failed one is sent again. Redirects are not followed. An answer is read up to "
    "16 "
    "MiB; what is longer counts by its status. Where a connection breaks before the answer, the "
    "events are sent again, and may come twice: `weir` and `single` carry an id for each event, "
    "for "
    "the others put it into the payload (`map`, `set: {id: \"{{ @id }}\"}`).\n"
    "\n"
    "**Urls.** Fields may stand behind the host. What a field puts in is percent-encoded, but for "
    "letters, digits and `-._~`: a `/`, `?`, `&` or `%` of an event stays part of its own place. "
    "An "
    "event that would put `.` or `..` as a folder into the path is rejected (`bad_url`).\n"
    "\n"
    "**Secrets.** Logs and dead letters quote the beginning of an answer. Where it repeats the "
    "token, the password, a header's value or its last word, or the password of the proxy, stars "
    "stand there (four bytes are the least). A header with a field of the event in it is not "
    "looked for: keep secrets in "
    "headers of their own.\n";

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 500,
    .batch_bytes = 1 << 20,
    .batch_timeout_ns = 50 * WEIR_NS_PER_MS,
    .in_flight = 1,
    .write = sink_write,
    .cancel = sink_cancel,
};

static const struct weir_type type_http = {
    .size = sizeof(type_http),
    .kind = WEIR_SINK,
    .name = "http",
    .summary = "Sends events over HTTP, with a result for each.",
    .doc = doc,
    .needs_always = WEIR_NEEDS_PAYLOAD,
    .options = WEIR_OPTIONS(options, struct config),
    .sink = &sink,
    .check = sink_check,
    .needs = needs,
    .probe = sink_probe,
    .open = sink_open,
    .close = sink_close,
};

static const struct weir_type *const types[] = {&type_http, NULL};

WEIR_PLUGIN = {WEIR_PLUGIN_ABI, "http_sink", "0.1.0", "An HTTP client as a sink of events.",
               "Apache-2.0",    types,       NULL};
