/* SPDX-License-Identifier: Apache-2.0
 *
 * libcurl, one request at a time. A multi handle is used for one easy handle because only that can
 * be woken from another thread (cancel) and waits for no longer than told; it also keeps the
 * connections. Knows nothing of events, retries nothing, logs nothing.
 */
#include "http_sink.h"

#include <pthread.h>
#include <string.h>

#define ANSWER_MAX_WEIR (8u << 20)  /* results of every item */
#define ANSWER_MAX_OTHER (4u << 10) /* for a message */
#define ANSWER_READ_MAX (16u << 20) /* then the connection is closed: it may never end */
#define RETRY_AFTER_MAX_S 3600

static CURLcode global_rc;

static void global_init(void)
{
    global_rc = curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- Callbacks ---- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct client *c = arg;
    size_t len = size * n;
    size_t room = c->answer_max - c->answer.len;
    c->answer_read += len;
    text_add(&c->answer, weir_str_n(data, len < room ? len : room));
    /* The rest is read and thrown away, so that the connection can be used again. */
    return c->answer_read > ANSWER_READ_MAX ? 0 : len;
}

/* ---- Headers ---- */

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer != NULL)
        *list = longer;
    return longer != NULL;
}

/* An empty value takes away what libcurl would send by itself. */
static bool add_pair(struct client *c, struct curl_slist **list, struct weir_str name,
                     struct weir_str value)
{
    struct weir_str line = c->h->arena_printf(c->arena, "%.*s:%s%.*s", (int)name.len, name.ptr,
                                              value.len != 0 ? " " : "", (int)value.len, value.ptr);
    return line.ptr != NULL && add_header(list, line.ptr);
}

/* What every request has. Templates that differ by event come with the request. */
static bool fixed_headers(struct client *c)
{
    const struct config *cf = c->config;
    bool ok = add_header(&c->fixed, "Expect:"); /* not to be waited for */
    if (cf->compression == COMPRESSION_GZIP)
        ok = ok && add_header(&c->fixed, "Content-Encoding: gzip");
    struct weir_str bearer =
        c->h->arena_printf(c->arena, "Bearer %s", cf->token.len != 0 ? cf->token.ptr : "");
    if (cf->token.len != 0)
        ok = ok && bearer.ptr != NULL && add_pair(c, &c->fixed, weir_cstr("Authorization"), bearer);
    for (uint32_t i = 0; i < cf->headers.n; i++) {
        const struct weir_pair *pair = (const struct weir_pair *)cf->headers.items + i;
        struct weir_str value;
        if (c->h->template_is_literal(pair->value.ptr, &value))
            ok = ok && add_pair(c, &c->fixed, pair->key, value);
    }
    return ok;
}

/* The request's own headers in front of the fixed ones. */
static struct curl_slist *request_headers(struct client *c, const struct request *rq)
{
    struct curl_slist *own = NULL;
    bool ok = true;
    if (rq->content_type != NULL)
        ok = add_pair(c, &own, weir_cstr("Content-Type"), weir_cstr(rq->content_type));
    const char *at = rq->headers.ptr, *end = at + rq->headers.len;
    while (ok && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t len = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);
        struct weir_str line = c->h->arena_printf(c->arena, "%.*s", (int)len, at);
        ok = line.ptr != NULL && add_header(&own, line.ptr);
        at += len + 1;
    }
    if (ok)
        return own;
    curl_slist_free_all(own);
    return NULL;
}

static struct curl_slist *link_lists(struct curl_slist *own, struct curl_slist *fixed)
{
    struct curl_slist *last = own;
    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last == NULL)
        return fixed;
    last->next = fixed;
    return own;
}

static void free_own(struct curl_slist *own, const struct curl_slist *fixed)
{
    struct curl_slist *last = own;
    while (last != NULL && last->next != fixed)
        last = last->next;
    if (last != NULL)
        last->next = NULL;
    curl_slist_free_all(own);
}

/* ---- Opening ---- */

static void set_tls(CURL *easy, const struct tls_config *tls)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls->insecure_skip_verify ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls->insecure_skip_verify ? 0L : 2L);
    if (tls->ca.len != 0)
        curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca.ptr);
    if (tls->cert.len != 0)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert.ptr);
    if (tls->key.len != 0)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key.ptr);
    /* Without one OpenSSL would ask on the terminal, and wait there. */
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
}

static void set_always(struct client *c)
{
    const struct config *cf = c->config;
    CURL *e = c->easy;
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method_words[cf->method]);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(cf->connect_timeout / WEIR_NS_PER_MS));
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "weir/0.1");
    curl_easy_setopt(e, CURLOPT_PROXY, cf->proxy.len != 0 ? cf->proxy.ptr : "");
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    if (cf->user.len != 0) {
        curl_easy_setopt(e, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(e, CURLOPT_USERNAME, cf->user.ptr);
        curl_easy_setopt(e, CURLOPT_PASSWORD, cf->password.len != 0 ? cf->password.ptr : "");
    }
    set_tls(e, &cf->tls);
}

enum weir_status client_open(struct client *c, const struct weir_host *h, const struct config *cf,
                             struct weir_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    c->h = h;
    c->config = cf;
    c->answer.h = h;
    c->arena = h->arena_new(h);
    c->answer_max = cf->format == FORMAT_WEIR ? ANSWER_MAX_WEIR : ANSWER_MAX_OTHER;
    (void)pthread_once(&once, global_init);
    if (global_rc != CURLE_OK)
        return h->error(err, WEIR_E_FATAL, "curl", "libcurl does not start: %s",
                        curl_easy_strerror(global_rc));
    c->multi = curl_multi_init();
    c->easy = curl_easy_init();
    if (c->multi == NULL || c->easy == NULL || c->arena == NULL || !fixed_headers(c))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the HTTP client");
    set_always(c);
    return WEIR_OK;
}

void client_close(struct client *c)
{
    if (c->easy != NULL)
        curl_easy_cleanup(c->easy);
    if (c->multi != NULL)
        (void)curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->fixed);
    text_done(&c->answer);
    if (c->arena != NULL)
        c->h->arena_free(c->arena);
}

void client_cancel(struct client *c)
{
    atomic_store(&c->cancelled, true);
    (void)curl_multi_wakeup(c->multi);
}

/* ---- Sending ---- */

/* Runs the handle until it is done, the deadline, or cancel. */
static CURLcode drive(struct client *c, int64_t deadline_ns, const char **ret_problem)
{
    int running = 0, left = 0;
    for (;;) {
        CURLMcode mc = curl_multi_perform(c->multi, &running);
        const CURLMsg *msg = NULL;
        while ((msg = curl_multi_info_read(c->multi, &left)) != NULL)
            if (msg->msg == CURLMSG_DONE) {
                *ret_problem = NULL;
                return msg->data.result;
            }
        *ret_problem =
            mc != CURLM_OK ? curl_multi_strerror(mc) : "the request ended without a result";
        if (mc != CURLM_OK || running == 0)
            return CURLE_FAILED_INIT;
        int64_t now = c->h->now(c->h);
        *ret_problem = "no answer within the sink's timeout";
        if (now >= deadline_ns)
            return CURLE_OPERATION_TIMEDOUT;
        *ret_problem = "given up for the shutdown";
        if (atomic_load(&c->cancelled))
            return CURLE_ABORTED_BY_CALLBACK;
        int64_t ms = (deadline_ns - now + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
        (void)curl_multi_poll(c->multi, NULL, 0, ms < 60000 ? (int)ms : 60000, NULL);
    }
}

/* libcurl's words, and the system's where it has some. */
static const char *describe(struct client *c, CURLcode rc)
{
    long error = 0;
    const char *text = c->error[0] != '\0' ? c->error : curl_easy_strerror(rc);
    if (curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &error) != CURLE_OK || error == 0)
        return text;
    struct weir_str both =
        c->h->arena_printf(c->arena, "%s (%s)", text, strerrordesc_np((int)error));
    return both.ptr != NULL ? both.ptr : text;
}

static CURLcode run(struct client *c, int64_t deadline_ns, const char **ret_problem)
{
    c->error[0] = '\0';
    *ret_problem = "libcurl does not take the request";
    if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK)
        return CURLE_FAILED_INIT;
    const char *problem = NULL;
    CURLcode rc = drive(c, deadline_ns, &problem);
    (void)curl_multi_remove_handle(c->multi, c->easy);
    if (rc != CURLE_OK)
        *ret_problem = problem != NULL ? problem : describe(c, rc);
    return rc;
}

struct answer client_send(struct client *c, const struct request *rq)
{
    struct answer a = {.rc = CURLE_OUT_OF_MEMORY, .problem = "no memory for the request"};
    if (c->h->now(c->h) >= rq->deadline_ns || atomic_load(&c->cancelled))
        return (struct answer){.rc = CURLE_OPERATION_TIMEDOUT,
                               .problem = "the time for this write was over before it was sent"};
    c->h->arena_clear(c->arena);
    struct curl_slist *own = request_headers(c, rq);
    curl_off_t retry_after = 0;
    if (own == NULL && (rq->content_type != NULL || rq->headers.len != 0))
        return a;
    text_clear(&c->answer);
    c->answer_read = 0;
    curl_easy_setopt(c->easy, CURLOPT_URL, rq->url);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, link_lists(own, c->fixed));
    curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body.len);
    curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, rq->body.len != 0 ? rq->body.ptr : "");
    a.rc = run(c, rq->deadline_ns, &a.problem);
    free_own(own, c->fixed);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, NULL);
    if (a.rc == CURLE_WRITE_ERROR && c->answer_read > ANSWER_READ_MAX)
        a.rc = CURLE_OK;
    if (a.rc != CURLE_OK)
        return a;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &a.status);
    curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &retry_after);
    if (retry_after > RETRY_AFTER_MAX_S)
        retry_after = RETRY_AFTER_MAX_S;
    a.retry_after_ns = retry_after > 0 ? (int64_t)retry_after * WEIR_NS_PER_S : 0;
    a.body = weir_str_n(c->answer.ptr, c->answer.len);
    a.whole = c->answer_read == c->answer.len && !c->answer.failed;
    return a;
}

enum weir_status client_probe(struct client *c, const char *url, int64_t deadline_ns,
                              struct weir_error *err)
{
    const char *problem = NULL;
    curl_easy_setopt(c->easy, CURLOPT_URL, url);
    curl_easy_setopt(c->easy, CURLOPT_CONNECT_ONLY, 1L);
    CURLcode rc = run(c, deadline_ns, &problem);
    if (rc == CURLE_OK)
        return WEIR_OK;
    return c->h->error(err, WEIR_E_UNAVAILABLE, "connect", "cannot connect to %s: %s", url,
                       problem);
}
