/* SPDX-License-Identifier: Apache-2.0
 *
 * From an answer to a result for each event of its request.
 *
 * A refusal of many events at once (400, 413, 422) may be the fault of one of them: they are sent
 * again in halves until the one is alone. A weir http source says in its answer which item it was,
 * and how each item ended.
 */
#include "http_sink.h"

#include <stdio.h>
#include <string.h>

#define EXCERPT_MAX 200

/* ---- What a status means ---- */

/* "204" or "2xx" as a range of statuses. */
static bool word_range(struct weir_str word, unsigned *ret_from, unsigned *ret_to)
{
    if (word.len != 3 || word.ptr[0] < '1' || word.ptr[0] > '5')
        return false;
    unsigned hundred = (unsigned)(word.ptr[0] - '0') * 100;
    if (memcmp(word.ptr + 1, "xx", 2) == 0) {
        *ret_from = hundred;
        *ret_to = hundred + 99;
        return true;
    }
    for (int i = 1; i < 3; i++)
        if (word.ptr[i] < '0' || word.ptr[i] > '9')
            return false;
    *ret_from = *ret_to =
        hundred + (unsigned)(word.ptr[1] - '0') * 10 + (unsigned)(word.ptr[2] - '0');
    return true;
}

bool status_word_valid(struct weir_str word)
{
    unsigned from, to;
    return word_range(word, &from, &to);
}

/* Says nothing of the events: the server, the way to it, or our credentials. */
static bool is_outage(unsigned status)
{
    switch (status) {
    case 401:
    case 403:
    case 404:
    case 407:
    case 408:
    case 425:
    case 429:
    case 502:
    case 503:
    case 504:
        return true;
    default:
        return status < 400 || status >= 520;
    }
}

static void set_statuses(struct statuses *st, const struct weir_list *words, bool classes, bool ok)
{
    unsigned from, to;
    for (uint32_t i = 0; i < words->n; i++) {
        if (!word_range(((const struct weir_str *)words->items)[i], &from, &to) ||
            (from != to) != classes)
            continue;
        for (unsigned s = from; s <= to; s++)
            st->verdict[s] = ok             ? WEIR_VERDICT_OK
                             : is_outage(s) ? WEIR_VERDICT_UNAVAILABLE
                                            : WEIR_VERDICT_RETRY;
    }
}

/* Later ones replace earlier ones: a single status counts before its class. */
void statuses_init(struct statuses *st, const struct config *cf)
{
    memset(st->verdict, WEIR_VERDICT_REJECTED, sizeof(st->verdict));
    set_statuses(st, &cf->retry_status, true, false);
    set_statuses(st, &cf->ok_status, true, true);
    set_statuses(st, &cf->retry_status, false, false);
    set_statuses(st, &cf->ok_status, false, true);
}

static const char *status_code(long status)
{
    static const char *const codes[] = {"http_status", "http_1xx", "http_2xx",
                                        "http_3xx",    "http_4xx", "http_5xx"};
    return codes[status >= 100 && status < STATUS_MAX ? status / 100 : 0];
}

/* ---- Messages ---- */

/* Where a secret of ours stands in text, stars. */
static void hide(char *text, size_t len, struct weir_str secret)
{
    if (secret.len < 4)
        return;
    for (char *at = text; (at = memmem(at, len - (size_t)(at - text), secret.ptr, secret.len));
         at += secret.len)
        memset(at, '*', secret.len);
}

/* Of "Bearer T" the T: a server may well repeat it alone. */
static struct weir_str last_word(struct weir_str value)
{
    const char *blank = memrchr(value.ptr, ' ', value.len);
    size_t from = blank != NULL ? (size_t)(blank + 1 - value.ptr) : 0;
    return weir_str_n(value.ptr + from, value.len - from);
}

/* What a server, or a proxy, may repeat of our secrets in its answer. Not what a header's template
 * makes of an event: the event's own fields are no secret here, and the literal text beside them is
 * not known apart. */
static void hide_secrets(const struct judge *j, char *text, size_t len)
{
    const struct config *cf = j->config;
    const struct weir_pair *headers = cf->headers.items;
    struct weir_str value;
    hide(text, len, cf->token);
    hide(text, len, cf->password);
    hide(text, len, j->basic);
    hide(text, len, j->proxy_password);
    hide(text, len, j->proxy_basic);
    for (uint32_t i = 0; i < cf->headers.n; i++)
        if (j->h->template_is_literal(headers[i].value.ptr, &value) && value.len != 0) {
            hide(text, len, value);
            hide(text, len, last_word(value));
        }
}

/* Bytes of an answer for a message: short, one line, without our secrets. */
static struct weir_str excerpt(const struct judge *j, struct weir_str body)
{
    struct weir_str copy = j->h->arena_copy(j->scratch, body);
    char *text = (char *)(uintptr_t)copy.ptr;
    if (text == NULL)
        return weir_str_n("", 0);
    hide_secrets(j, text, copy.len);
    if (copy.len > EXCERPT_MAX)
        copy.len = EXCERPT_MAX;
    for (size_t i = 0; i < copy.len; i++)
        if ((unsigned char)text[i] < ' ' || (unsigned char)text[i] >= 0x7f)
            text[i] = ' ';
    while (copy.len != 0 && text[copy.len - 1] == ' ')
        copy.len--;
    return copy;
}

void set_results(struct weir_results *results, const struct item *items, uint32_t n,
                 const struct weir_result *r)
{
    for (uint32_t i = 0; i < n; i++)
        *weir_result_at(results, items[i].index) = *r;
}

static struct weir_result result_of(const struct judge *j, enum weir_verdict verdict,
                                    const struct answer *a)
{
    struct weir_result r = {.verdict = verdict,
                            .number = (int32_t)a->status,
                            .code = status_code(a->status),
                            .retry_after_ns = a->retry_after_ns};
    struct weir_str body = excerpt(j, a->body);
    if (verdict != WEIR_VERDICT_OK)
        r.message = j->h->arena_printf(j->scratch, "the server answered %ld%s%.*s", a->status,
                                       body.len != 0 ? ": " : "", (int)body.len, body.ptr);
    return r;
}

/* ---- The answer of a weir http source ---- */

static const struct weir_value *member(const struct judge *j, const struct weir_value *v,
                                       const char *name)
{
    return j->h->value_get(v, weir_cstr(name));
}

static struct weir_str text_of(const struct judge *j, const struct weir_value *v)
{
    bool is_text = v != NULL && j->h->value_type(v) == WEIR_STRING;
    return is_text ? excerpt(j, j->h->value_str(v)) : weir_str_n("", 0);
}

/* An item's number; UINT32_MAX where there is none below n. */
static uint32_t item_of(const struct judge *j, const struct weir_value *v, uint32_t n)
{
    v = member(j, v, "item");
    if (v == NULL || j->h->value_type(v) != WEIR_INT)
        return UINT32_MAX;
    int64_t item = j->h->value_int(v);
    return item >= 0 && item < (int64_t)n ? (uint32_t)item : UINT32_MAX;
}

/* Taken over by the other side, whatever became of it there; or not. */
static enum weir_verdict item_verdict(struct weir_str status, const char **ret_code)
{
    static const struct {
        const char *word;
        enum weir_verdict verdict;
        const char *code;
    } words[] = {{"delivered", WEIR_VERDICT_OK, NULL},
                 {"filtered", WEIR_VERDICT_OK, NULL},
                 {"dropped", WEIR_VERDICT_OK, NULL},
                 {"dead_lettered", WEIR_VERDICT_OK, NULL},
                 {"rejected", WEIR_VERDICT_REJECTED, "item_rejected"},
                 {"failed", WEIR_VERDICT_UNAVAILABLE, "item_failed"},
                 {"abandoned", WEIR_VERDICT_UNAVAILABLE, "item_failed"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        *ret_code = words[i].code;
        if (status.len == strlen(words[i].word) &&
            memcmp(status.ptr, words[i].word, status.len) == 0)
            return words[i].verdict;
    }
    *ret_code = "item_unknown";
    return WEIR_VERDICT_RETRY;
}

static void judge_item(const struct judge *j, const struct item *it, const struct weir_value *v,
                       const struct answer *a)
{
    struct weir_result r = {.number = (int32_t)a->status, .retry_after_ns = a->retry_after_ns};
    struct weir_str status = text_of(j, member(j, v, "status"));
    struct weir_str code = text_of(j, member(j, v, "code"));
    struct weir_str why = text_of(j, member(j, v, "message"));
    r.verdict = item_verdict(status, &r.code);
    if (r.verdict != WEIR_VERDICT_OK)
        r.message = j->h->arena_printf(j->scratch, "the server says of this item: %.*s %.*s: %.*s",
                                       (int)status.len, status.ptr, (int)code.len, code.ptr,
                                       (int)why.len, why.ptr);
    *weir_result_at(j->results, it->index) = r;
}

/* The answer lists how items ended; those that it does not name were delivered. True: some must be
 * sent again. */
static bool judge_items(const struct judge *j, const struct item *items, uint32_t n,
                        const struct weir_value *list, const struct answer *a)
{
    bool again = false;
    struct weir_value_iter it = j->h->value_iter(list);
    const struct weir_value *v = NULL;
    struct weir_str key;
    set_results(j->results, items, n, &(struct weir_result){.verdict = WEIR_VERDICT_OK});
    while ((v = j->h->value_next(&it, &key)) != NULL) {
        uint32_t item = item_of(j, v, n);
        if (item == UINT32_MAX)
            continue;
        judge_item(j, &items[item], v, a);
        uint32_t verdict = weir_result_at(j->results, items[item].index)->verdict;
        again |= verdict != WEIR_VERDICT_OK && verdict != WEIR_VERDICT_REJECTED;
    }
    return again;
}

/* True where the answer was a weir source's and said it all. */
static bool judge_weir(const struct judge *j, const struct item *items, uint32_t n,
                       const struct answer *a, struct judged *ret)
{
    struct weir_error err;
    const struct weir_value *v =
        j->format == FORMAT_WEIR && a->whole ? j->h->value_parse(j->scratch, a->body, &err) : NULL;
    const struct weir_value *list = member(j, v, "items");
    /* `accepted` stands where the request was taken and its items have ended. Without it the whole
     * request was refused, and the list has only those that would have been as well. */
    if (member(j, v, "accepted") != NULL && j->h->value_type(list) == WEIR_ARRAY) {
        bool again = judge_items(j, items, n, list, a);
        *ret = (struct judged){.next = NEXT_DONE, .stop = again};
        return true;
    }
    uint32_t item = item_of(j, member(j, v, "error"), n);
    if (a->status != 400 || item == UINT32_MAX)
        return false;
    struct weir_result r = result_of(j, WEIR_VERDICT_REJECTED, a);
    r.code = "item_rejected";
    *weir_result_at(j->results, items[item].index) = r;
    *ret = (struct judged){.next = n == 1 ? NEXT_DONE : NEXT_AROUND, .item = item};
    return true;
}

/* ---- Any answer ---- */

static struct judged judge_silence(const struct judge *j, const struct item *items, uint32_t n,
                                   const struct answer *a)
{
    /* Not CURLE_UNSUPPORTED_PROTOCOL: what answered speaks no HTTP that we know. */
    bool bad_url = a->rc == CURLE_URL_MALFORMAT;
    struct weir_result r = {.verdict = bad_url ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_UNAVAILABLE,
                            .number = (int32_t)a->rc,
                            .code = bad_url ? "bad_url" : "connection"};
    if (a->rc == CURLE_OPERATION_TIMEDOUT)
        r.code = "timeout";
    r.message = j->h->arena_copy(j->scratch, weir_cstr(a->problem));
    set_results(j->results, items, n, &r);
    return (struct judged){.next = NEXT_DONE, .stop = !bad_url};
}

struct judged judge_answer(const struct judge *j, const struct item *items, uint32_t n,
                           const struct answer *a)
{
    struct judged judged = {.next = NEXT_DONE};
    if (a->rc != CURLE_OK)
        return judge_silence(j, items, n, a);
    if (judge_weir(j, items, n, a, &judged))
        return judged;
    enum weir_verdict verdict = WEIR_VERDICT_UNAVAILABLE;
    if (a->status >= 0 && a->status < STATUS_MAX)
        verdict = j->statuses->verdict[a->status];
    bool together = a->status == 400 || a->status == 413 || a->status == 422;
    bool refused = verdict == WEIR_VERDICT_REJECTED && together;
    /* Results of items may be behind the end of what was kept: fewer items have shorter ones. */
    bool unread = verdict == WEIR_VERDICT_OK && j->format == FORMAT_WEIR && !a->whole;
    if (n > 1 && (refused || unread))
        return (struct judged){.next = NEXT_SPLIT};
    struct weir_result r = result_of(j, verdict, a);
    set_results(j->results, items, n, &r);
    judged.stop = verdict == WEIR_VERDICT_UNAVAILABLE || verdict == WEIR_VERDICT_RETRY;
    return judged;
}
