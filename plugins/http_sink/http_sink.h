/* SPDX-License-Identifier: Apache-2.0
 *
 * Sink `http`: what its files share. One write's way:
 *
 *   sink.c     groups of one url and one set of headers; one request a group, cut in two where a
 *              server cannot take it whole
 *   target.c   each event's url and headers
 *   compose.c  the request's body
 *   client.c   libcurl: one request at a time, connections kept, ended by the deadline or cancel
 *   verdict.c  status and answer into a result for each event
 *   plugin.c   the option table and its docs; check.c: what can be wrong with them
 *
 * An instance belongs to one outlet thread; only client_cancel comes from others.
 */
#ifndef HTTP_SINK_H
#define HTTP_SINK_H

#include <weir/plugin.h>

#include <curl/curl.h>
#include <stdatomic.h>
#include <zlib.h>

enum format { FORMAT_NDJSON, FORMAT_ARRAY, FORMAT_SINGLE, FORMAT_WEIR };
enum compression { COMPRESSION_NONE, COMPRESSION_GZIP };

struct tls_config {
    struct weir_str ca, cert, key;
    bool insecure_skip_verify;
};

struct config {
    struct weir_template *url;
    int method;
    int format;
    struct weir_list headers; /* struct weir_pair, templates */
    struct weir_str token;
    struct weir_str user, password;
    struct weir_list ok_status; /* struct weir_str: "204", "2xx" */
    struct weir_list retry_status;
    int compression;
    int64_t connect_timeout;
    struct weir_str proxy;
    struct tls_config tls;
};

extern const char *const method_words[];

/* ---- compose.c ---- */

struct text {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: the text is not complete */
};

void text_add(struct text *t, struct weir_str s);
void text_cstr(struct text *t, const char *s);
void text_base64(struct text *t, struct weir_str bytes);
/* Empty; gives back what one huge body had needed. */
void text_clear(struct text *t);
void text_done(struct text *t);

/* One event that can be sent. */
struct item {
    uint32_t index; /* in the batch */
    struct weir_event *ev;
    struct weir_str url;
    struct weir_str headers; /* those that differ by event, a line each */
    struct weir_str payload;
    size_t size; /* about what it adds to a body */
};

/* Why an event's payload cannot stand in a body of this format; NULL where it can. `arena` is for
 * the check alone. */
const char *payload_refused(const struct weir_host *h, enum format format,
                            const struct weir_event *ev, struct weir_str payload,
                            struct weir_arena *arena, struct weir_str *ret_message);
/* The body of one request with these items. */
void compose(struct text *out, enum format format, const struct item *items, uint32_t n,
             struct weir_arena *arena);
/* Out becomes the gzip of in; false when memory is used up. */
bool compress_body(struct text *out, z_stream *z, bool *z_ready, const struct text *in);

/* ---- target.c ---- */

struct target {
    const struct weir_host *h;
    const struct config *config;
    struct weir_arena *arena;
    struct weir_str url; /* its literal part, encoded; all of it where !url_differs */
    size_t n_prefix;     /* of that part as it was written */
    bool url_differs;    /* by event */
    bool headers_differ;
    bool has_content_type; /* among the configured headers */
};

/* What is wrong with the literal part that a url template begins with; NULL: nothing. */
const char *url_prefix_problem(struct weir_str prefix, bool literal);
/* What literal text has and a url cannot is percent-encoded, in `a`. ptr NULL: no memory. */
struct weir_str url_encode(const struct weir_host *h, struct weir_str url, struct weir_arena *a);
/* Whether a header's value stays one header. */
bool header_value_valid(struct weir_str value);
enum weir_status target_init(struct target *t, const struct weir_host *h, const struct config *cf,
                             struct weir_error *err);
void target_done(struct target *t);
/* Fills the item's url and headers, in `a`. False: *ret says why the event is rejected, or nothing
 * on no memory. */
bool target_find(const struct target *t, struct weir_batch *b, struct item *it,
                 struct weir_arena *a, struct weir_result *ret);

/* ---- client.c ---- */

struct answer {
    CURLcode rc;         /* not CURLE_OK: no answer came */
    const char *problem; /* then: what happened, for a person */
    long status;
    int64_t retry_after_ns;
    struct weir_str body; /* as much of it as is kept */
    bool whole;           /* all of it is kept */
};

struct request {
    const char *url;
    struct weir_str headers;  /* a line each, besides those of the client */
    const char *content_type; /* NULL: a configured header has it */
    struct weir_str body;
    int64_t deadline_ns;
};

struct client {
    const struct weir_host *h;
    const struct config *config;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *fixed; /* headers of every request */
    struct weir_arena *arena; /* of one request */
    struct text answer;
    size_t answer_max;    /* bytes that are kept */
    uint64_t answer_read; /* bytes that came */
    atomic_bool cancelled;
    char error[CURL_ERROR_SIZE];
};

enum weir_status client_open(struct client *c, const struct weir_host *h, const struct config *cf,
                             struct weir_error *err);
void client_close(struct client *c);
struct answer client_send(struct client *c, const struct request *rq);
void client_cancel(struct client *c); /* [any] */
/* Connects to the server of `url`, no more. */
enum weir_status client_probe(struct client *c, const char *url, int64_t deadline_ns,
                              struct weir_error *err);

/* ---- verdict.c ---- */

#define STATUS_MAX 600

/* What each status means here, from the options. False where a word is no status. */
struct statuses {
    uint8_t verdict[STATUS_MAX]; /* enum weir_verdict */
};

bool status_word_valid(struct weir_str word);
void statuses_init(struct statuses *st, const struct config *cf);

/* What to do with the events of one request. */
enum next_step {
    NEXT_DONE,   /* every event has its result */
    NEXT_SPLIT,  /* send it again in two halves */
    NEXT_AROUND, /* event `item` has its result; send what is before and behind it */
};

struct judged {
    enum next_step next;
    uint32_t item;
    bool stop; /* its events must be sent again: nothing behind them may go there first */
};

struct judge {
    const struct weir_host *h;
    const struct statuses *statuses;
    enum format format;
    const struct config *config;
    struct weir_str basic; /* user and password as they are sent */
    struct weir_str proxy_basic, proxy_password;
    struct weir_results *results;
    struct weir_arena *scratch; /* messages live here until the write returns */
};

struct judged judge_answer(const struct judge *j, const struct item *items, uint32_t n,
                           const struct answer *a);
/* The same result for all of them. */
void set_results(struct weir_results *results, const struct item *items, uint32_t n,
                 const struct weir_result *r);

/* ---- check.c ---- */

void sink_check(const void *config, const struct weir_report *report);

/* ---- sink.c: the calls of weir/plugin.h ---- */

enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err);
void sink_close(void *take_self);
void sink_write(void *self, struct weir_batch *b, int64_t deadline_ns,
                struct weir_results *results);
void sink_cancel(void *self);
enum weir_status sink_probe(const struct weir_host *h, const void *config, int64_t deadline_ns,
                            struct weir_error *err);

#endif
