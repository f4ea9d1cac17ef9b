/* SPDX-License-Identifier: Apache-2.0
 *
 * One write: every event's url, headers and payload are made, events of one url and one set of
 * headers become one request (format single: one each), and each request's answer becomes results.
 *
 * A request that is too much at once is cut in two and both halves are sent, front half first. When
 * a server is away, what is left for that url is not tried: it would fail as well, or overtake.
 */
#include "http_sink.h"

#include <stdlib.h>
#include <string.h>

#define RANGES_MAX 64 /* more than halving 2^28 events ever has */

struct sink {
    const struct weir_host *h;
    const struct config *config;
    struct client client;
    struct target target;
    struct statuses statuses;
    size_t body_limit; /* learnt from 413; bytes of items a request */
    struct text body, packed, basic, proxy_basic, proxy_password;
    z_stream deflate;
    bool deflate_ready;
    struct weir_arena *check;
};

struct writing {
    struct sink *s;
    struct weir_batch *b;
    struct weir_results *results;
    struct weir_arena *scratch;
    struct item *items;
    uint32_t n_items;
    int64_t deadline_ns;
    struct judge judge;
};

/* ---- The batch as items ---- */

static bool make_item(struct writing *w, uint32_t i, struct item *it)
{
    struct sink *s = w->s;
    struct weir_str message = {"", 0};
    it->index = i;
    it->ev = weir_event_at(w->b, i);
    it->payload = s->h->event_payload(s->h, w->b, it->ev);
    it->size = it->payload.len + 1;
    if (s->config->format == FORMAT_WEIR)
        it->size += it->ev->id.len + it->ev->key.len + 80;
    const char *refused = payload_refused(s->h, (enum format)s->config->format, it->ev, it->payload,
                                          s->check, &message);
    struct weir_result *result = weir_result_at(w->results, i);
    if (refused == NULL)
        return target_find(&s->target, w->b, it, w->scratch, result);
    *result =
        (struct weir_result){.verdict = WEIR_VERDICT_REJECTED, .code = refused, .message = message};
    return false;
}

static int compare_str(struct weir_str a, struct weir_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n != 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_items(const void *a_, const void *b_)
{
    const struct item *a = a_, *b = b_;
    int order = compare_str(a->url, b->url);
    if (order == 0)
        order = compare_str(a->headers, b->headers);
    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

static bool same_group(const struct item *a, const struct item *b)
{
    return compare_str(a->url, b->url) == 0 && compare_str(a->headers, b->headers) == 0;
}

static void make_items(struct writing *w)
{
    struct weir_result no_memory = {.verdict = WEIR_VERDICT_RETRY,
                                    .code = "no_memory",
                                    .message = weir_cstr("no memory for the request")};
    w->items = w->s->h->arena_alloc(w->scratch, (w->b->n_events + 1) * sizeof(*w->items));
    for (uint32_t i = 0; i < w->b->n_events; i++) {
        struct item it = {0};
        if (w->items != NULL && make_item(w, i, &it))
            w->items[w->n_items++] = it;
        else if (weir_result_at(w->results, i)->verdict == WEIR_VERDICT_NONE)
            *weir_result_at(w->results, i) = no_memory;
    }
    bool differ = w->s->target.url_differs || w->s->target.headers_differ;
    if (differ && w->s->config->format != FORMAT_SINGLE && w->n_items > 1)
        qsort(w->items, w->n_items, sizeof(*w->items), compare_items);
}

/* ---- Requests ---- */

static const char *content_type(const struct sink *s, const struct item *it)
{
    static const char *const types[] = {"application/x-ndjson", "application/json",
                                        "application/json", "application/x-weir+ndjson"};
    bool raw = s->config->format == FORMAT_SINGLE && (it->ev->flags & WEIR_EVENT_RAW) != 0;
    if (s->target.has_content_type)
        return NULL;
    return raw ? "application/octet-stream" : types[s->config->format];
}

static struct judged send_items(struct writing *w, const struct item *items, uint32_t n)
{
    struct sink *s = w->s;
    struct text *body = &s->body;
    struct answer a = {.rc = CURLE_OUT_OF_MEMORY, .problem = "no memory for the request's body"};
    compose(body, (enum format)s->config->format, items, n, s->check);
    bool ok = !body->failed;
    if (ok && s->config->compression == COMPRESSION_GZIP) {
        ok = compress_body(&s->packed, &s->deflate, &s->deflate_ready, body);
        body = &s->packed;
    }
    struct request rq = {.url = items->url.ptr,
                         .headers = items->headers,
                         .content_type = content_type(s, items),
                         .body = weir_str_n(body->ptr, body->len),
                         .deadline_ns = w->deadline_ns};
    if (ok)
        a = client_send(&s->client, &rq);
    if (a.rc == CURLE_OK && a.status == 413 && n > 1)
        s->body_limit = s->body.len / 2;
    return judge_answer(&w->judge, items, n, &a);
}

/* As many of the items as a request may have by now; at least one. */
static uint32_t fitting(const struct sink *s, const struct item *items, uint32_t n)
{
    size_t size = 0;
    uint32_t fit = 0;
    while (fit < n && (fit == 0 || size + items[fit].size <= s->body_limit))
        size += items[fit++].size;
    return fit;
}

/* The server took what was cut to its limit: more is tried with time, since limits change. */
static void widen(struct sink *s)
{
    if (s->body_limit < SIZE_MAX / 2)
        s->body_limit += s->body_limit / 16 + 1;
}

static void not_tried(struct writing *w, const struct item *items, uint32_t n)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_UNAVAILABLE,
                            .code = "not_sent",
                            .message = weir_cstr("not sent: an event before it must go first")};
    set_results(w->results, items, n, &r);
}

/* ---- Groups: one request with many events ---- */

struct range {
    uint32_t from, to;
};

/* Ranges of a group that are still to be sent, the next one on top. */
struct ranges {
    struct range stack[RANGES_MAX];
    uint32_t n;
};

static void push(struct ranges *todo, uint32_t from, uint32_t to)
{
    if (from < to)
        todo->stack[todo->n++] = (struct range){from, to};
}

/* What an answer leaves to be sent again of range r. */
static void push_rest(struct ranges *todo, struct range r, struct judged judged)
{
    uint32_t middle = r.from + (r.to - r.from) / 2, behind = r.from + judged.item + 1;
    if (judged.next == NEXT_SPLIT) {
        push(todo, middle, r.to);
        push(todo, r.from, middle);
    } else if (judged.next == NEXT_AROUND) { /* more bad ones may follow: halves find them faster */
        middle = behind + (r.to - behind) / 2;
        push(todo, middle, r.to);
        push(todo, behind, middle);
        push(todo, r.from, behind - 1);
    }
}

/* Front to back. What follows a range that must be sent again is not tried: it would overtake. */
static void send_group(struct writing *w, const struct item *items, uint32_t n)
{
    struct ranges todo = {.n = 0};
    struct judged judged = {.stop = false};
    push(&todo, 0, n);
    while (todo.n != 0) {
        struct range r = todo.stack[--todo.n];
        bool lost = todo.n + 4 > RANGES_MAX; /* only answers that contradict each other lead here */
        if (judged.stop || lost) {
            not_tried(w, items + r.from, r.to - r.from);
            continue;
        }
        uint32_t fit = fitting(w->s, items + r.from, r.to - r.from);
        push(&todo, r.from + fit, r.to);
        r.to = r.from + fit;
        judged = send_items(w, items + r.from, fit);
        push_rest(&todo, r, judged);
        if (todo.n != 0 && judged.next == NEXT_DONE && !judged.stop)
            widen(w->s);
    }
}

static void send_groups(struct writing *w)
{
    for (uint32_t from = 0, to = 0; from < w->n_items; from = to) {
        for (to = from + 1; to < w->n_items && same_group(&w->items[from], &w->items[to]);)
            to++;
        send_group(w, w->items + from, to - from);
    }
}

/* ---- Format single: a request each ---- */

/* An earlier event that did not get through stands before this one: its server was away, or they
 * have the same key. */
static bool blocked(const struct writing *w, const struct item *failed, uint32_t n,
                    const struct item *it)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t verdict = weir_result_at(w->results, failed[i].index)->verdict;
        if (verdict == WEIR_VERDICT_UNAVAILABLE && compare_str(failed[i].url, it->url) == 0)
            return true;
        if (it->ev->key.len != 0 && compare_str(failed[i].ev->key, it->ev->key) == 0)
            return true;
    }
    return false;
}

static void send_singles(struct writing *w)
{
    uint32_t n_failed = 0; /* moved to the front of w->items */
    for (uint32_t i = 0; i < w->n_items; i++) {
        struct item it = w->items[i];
        if (blocked(w, w->items, n_failed, &it))
            not_tried(w, &it, 1);
        else
            (void)send_items(w, &it, 1);
        uint32_t verdict = weir_result_at(w->results, it.index)->verdict;
        if (verdict == WEIR_VERDICT_UNAVAILABLE || verdict == WEIR_VERDICT_RETRY)
            w->items[n_failed++] = it;
    }
}

/* ---- The calls of weir/plugin.h ---- */

void sink_write(void *self, struct weir_batch *b, int64_t deadline_ns, struct weir_results *results)
{
    struct sink *s = self;
    struct writing w = {.s = s,
                        .b = b,
                        .results = results,
                        .scratch = s->h->scratch(s->h),
                        .deadline_ns = deadline_ns};
    w.judge =
        (struct judge){.h = s->h,
                       .statuses = &s->statuses,
                       .format = (enum format)s->config->format,
                       .config = s->config,
                       .basic = weir_str_n(s->basic.ptr, s->basic.len),
                       .proxy_basic = weir_str_n(s->proxy_basic.ptr, s->proxy_basic.len),
                       .proxy_password = weir_str_n(s->proxy_password.ptr, s->proxy_password.len),
                       .results = results,
                       .scratch = w.scratch};
    make_items(&w);
    if (s->config->format == FORMAT_SINGLE)
        send_singles(&w);
    else
        send_groups(&w);
}

void sink_cancel(void *self)
{
    struct sink *s = self;
    client_cancel(&s->client);
}

/* What libcurl makes of user and password. */
static void make_basic(struct text *out, struct weir_str user, struct weir_str password)
{
    struct text pair = {.h = out->h};
    if (user.len == 0)
        return;
    text_add(&pair, user);
    text_cstr(&pair, ":");
    text_add(&pair, password);
    text_base64(out, weir_str_n(pair.ptr, pair.len));
    out->failed |= pair.failed;
    text_done(&pair);
}

/* The same of the proxy's, which stand in its url. */
static void make_proxy_secrets(struct sink *s)
{
    char *user = NULL, *password = NULL;
    CURLU *u = s->config->proxy.len != 0 ? curl_url() : NULL;
    if (u == NULL)
        return;
    (void)curl_url_set(u, CURLUPART_URL, s->config->proxy.ptr,
                       CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME);
    (void)curl_url_get(u, CURLUPART_USER, &user, CURLU_URLDECODE);
    (void)curl_url_get(u, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
    text_cstr(&s->proxy_password, password != NULL ? password : "");
    make_basic(&s->proxy_basic, weir_cstr(user != NULL ? user : ""),
               weir_cstr(password != NULL ? password : ""));
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(u);
}

static enum weir_status sink_init(struct sink *s, struct weir_error *err)
{
    enum weir_status status = target_init(&s->target, s->h, s->config, err);
    if (status != WEIR_OK)
        return status;
    s->body_limit = SIZE_MAX;
    s->body.h = s->packed.h = s->basic.h = s->proxy_basic.h = s->proxy_password.h = s->h;
    make_basic(&s->basic, s->config->user, s->config->password);
    make_proxy_secrets(s);
    s->check = s->h->arena_new(s->h);
    statuses_init(&s->statuses, s->config);
    if (s->check == NULL || s->basic.failed || s->proxy_basic.failed || s->proxy_password.failed)
        return s->h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http sink");
    return client_open(&s->client, s->h, s->config, err);
}

enum weir_status sink_open(const struct weir_host *h, const void *config, void **ret_self,
                           struct weir_error *err)
{
    struct sink *s = h->alloc(sizeof(*s));
    if (s == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the http sink");
    s->h = h;
    s->config = config;
    enum weir_status status = sink_init(s, err);
    if (status != WEIR_OK) {
        sink_close(s);
        return status;
    }
    *ret_self = s;
    return WEIR_OK;
}

void sink_close(void *take_self)
{
    struct sink *s = take_self;
    if (s == NULL)
        return;
    client_close(&s->client);
    target_done(&s->target);
    if (s->deflate_ready)
        (void)deflateEnd(&s->deflate);
    text_done(&s->body);
    text_done(&s->packed);
    text_done(&s->basic);
    text_done(&s->proxy_basic);
    text_done(&s->proxy_password);
    if (s->check != NULL)
        s->h->arena_free(s->check);
    s->h->free(s);
}

/* scheme://host:port/ of the url. */
enum weir_status sink_probe(const struct weir_host *h, const void *config, int64_t deadline_ns,
                            struct weir_error *err)
{
    void *self = NULL;
    enum weir_status status = sink_open(h, config, &self, err);
    if (status != WEIR_OK)
        return status;
    struct sink *s = self;
    const char *url = s->target.url.ptr, *host = strchr(url, '/') + 2;
    int at = (int)(host - url + (ptrdiff_t)strcspn(host, "/?"));
    struct weir_str server = h->arena_printf(s->check, "%.*s/", at, url);
    status = client_probe(&s->client, server.ptr, deadline_ns, err);
    sink_close(s);
    return status;
}
