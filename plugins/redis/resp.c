/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes commands and finds replies, without an allocation a command or a reply.
 *
 * The reader first finds where a reply ends: it counts the elements that are still to come, so it
 * needs no stack, however deep arrays nest, and goes on where it was when more is read. What a
 * reply holds is looked at only then, in its whole bytes.
 */
#include "resp.h"

#include <string.h>

#define MIN_CAP ((size_t)16 << 10)
#define LINE_MAX_BYTES ((size_t)64 << 10) /* of "+...", "-...", ":...", and of lengths */
#define BULK_MAX (INT64_C(512) << 20)     /* Redis's own limit of a string */
#define ARRAY_MAX (INT64_C(1) << 31)
#define ELEMENTS_MAX (UINT64_C(1) << 32) /* of all arrays of one reply */

/* ---- Commands -------------------------------------------------------------------------------- */

void bytes_put(struct bytes *b, const char *ptr, size_t len)
{
    if (b->cap - b->len < len) {
        size_t cap = b->cap == 0 ? MIN_CAP : b->cap;
        while (cap - b->len < len)
            cap *= 2;
        char *grown = b->h->realloc(b->ptr, cap);
        if (grown == NULL) {
            b->failed = true;
            return;
        }
        b->ptr = grown;
        b->cap = cap;
    }
    if (len > 0)
        memcpy(b->ptr + b->len, ptr, len);
    b->len += len;
}

void bytes_done(struct bytes *b)
{
    if (b->ptr != NULL)
        b->h->free(b->ptr);
    b->ptr = NULL;
    b->len = 0;
    b->cap = 0;
}

static void put_length(struct bytes *b, char type, size_t n)
{
    char text[24];
    size_t at = sizeof(text);
    text[--at] = '\n';
    text[--at] = '\r';
    do {
        text[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    text[--at] = type;
    bytes_put(b, text + at, sizeof(text) - at);
}

void resp_put_head(struct bytes *b, size_t n_args)
{
    put_length(b, '*', n_args);
}

void resp_put_arg(struct bytes *b, struct weir_str arg)
{
    put_length(b, '$', arg.len);
    bytes_put(b, arg.ptr, arg.len);
    bytes_put(b, "\r\n", 2);
}

/* ---- Replies --------------------------------------------------------------------------------- */

void resp_init(struct resp_reader *r, const struct weir_host *h, size_t limit)
{
    *r = (struct resp_reader){.h = h, .limit = limit};
}

void resp_done(struct resp_reader *r)
{
    if (r->buf != NULL)
        r->h->free(r->buf);
    r->buf = NULL;
    r->cap = 0;
    resp_reset(r);
}

void resp_reset(struct resp_reader *r)
{
    r->start = 0;
    r->scan = 0;
    r->len = 0;
    r->pending = 0;
    r->to_skip = 0;
    r->cut = false;
}

char *resp_space(struct resp_reader *r, size_t *ret_len)
{
    if (r->start > 0) {
        memmove(r->buf, r->buf + r->start, r->len - r->start);
        r->scan -= r->start;
        r->len -= r->start;
        r->start = 0;
    }
    if (r->cap - r->len < MIN_CAP) {
        size_t cap = r->cap == 0 ? 4 * MIN_CAP : 2 * r->cap;
        char *grown = r->h->realloc(r->buf, cap);
        if (grown == NULL)
            return NULL;
        r->buf = grown;
        r->cap = cap;
    }
    *ret_len = r->cap - r->len;
    return r->buf + r->len;
}

void resp_filled(struct resp_reader *r, size_t len)
{
    r->len += len;
}

/* "-?[0-9]+" in [min, max]. */
static bool read_number(const char *p, size_t len, int64_t min, int64_t max, int64_t *ret)
{
    bool negative = len > 0 && *p == '-';
    size_t at = negative ? 1 : 0;
    uint64_t v = 0;
    if (at == len || len - at > 19)
        return false;
    for (; at < len; at++) {
        if (p[at] < '0' || p[at] > '9')
            return false;
        v = v * 10 + (uint64_t)(p[at] - '0');
    }
    if (v > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return *ret >= min && *ret <= max;
}

/* The line at *p without its type byte and CR LF; moves *p behind it. MORE where its end is not
 * there yet. */
static enum resp_result read_line(const char **p, const char *end, struct weir_str *ret)
{
    size_t len = (size_t)(end - *p);
    const char *newline = memchr(*p, '\n', len);
    if (newline == NULL)
        return len > LINE_MAX_BYTES ? RESP_MALFORMED : RESP_MORE;
    if (newline - *p < 2 || newline[-1] != '\r')
        return RESP_MALFORMED;
    *ret = weir_str_n(*p + 1, (size_t)(newline - 1 - (*p + 1)));
    *p = newline + 1;
    return RESP_REPLY;
}

/* What one element's first line says. A string's bytes come behind it. */
static enum resp_result read_head(const char **p, const char *end, struct resp_reply *ret)
{
    if (*p == end)
        return RESP_MORE;
    char type = **p;
    enum resp_result result = read_line(p, end, &ret->text);
    if (result != RESP_REPLY)
        return result;
    bool ok = true;
    ret->number = 0;
    switch (type) {
    case '+':
        ret->type = RESP_STATUS;
        break;
    case '-':
        ret->type = RESP_ERROR;
        break;
    case ':':
        ret->type = RESP_INTEGER;
        ok = read_number(ret->text.ptr, ret->text.len, INT64_MIN, INT64_MAX, &ret->number);
        break;
    case '$':
        ok = read_number(ret->text.ptr, ret->text.len, -1, BULK_MAX, &ret->number);
        ret->type = ret->number < 0 ? RESP_NIL : RESP_STRING;
        break;
    case '*':
        ok = read_number(ret->text.ptr, ret->text.len, -1, ARRAY_MAX, &ret->number);
        ret->type = ret->number < 0 ? RESP_NIL : RESP_ARRAY;
        break;
    default:
        ok = false;
    }
    return ok ? RESP_REPLY : RESP_MALFORMED;
}

/* Goes past a string's bytes, whose head has just been read; `at` is behind the head. */
static enum resp_result pass_string(struct resp_reader *r, size_t at, int64_t len)
{
    size_t all = (size_t)len + 2;
    if (r->len - at >= all) {
        if (memcmp(r->buf + at + len, "\r\n", 2) != 0)
            return RESP_MALFORMED;
        r->scan = at + all;
        return RESP_REPLY;
    }
    if (!r->cut && at - r->start + all <= r->limit)
        return RESP_MORE; /* the head is read again then */
    r->cut = true;
    r->to_skip = all - (r->len - at);
    r->scan = r->len;
    return RESP_REPLY;
}

/* Goes past one element. */
static enum resp_result pass_element(struct resp_reader *r)
{
    struct resp_reply head;
    const char *p = r->buf + r->scan;
    if (r->scan == r->len)
        return RESP_MORE;
    if (r->pending == 0) {
        r->first = *p;
        r->pending = 1;
    }
    enum resp_result result = read_head(&p, r->buf + r->len, &head);
    if (result != RESP_REPLY)
        return result;
    size_t at = (size_t)(p - r->buf);
    if (head.type == RESP_STRING)
        result = pass_string(r, at, head.number);
    else
        r->scan = at;
    if (result != RESP_REPLY)
        return result;
    r->pending--;
    if (head.type == RESP_ARRAY)
        r->pending += (uint64_t)head.number;
    return r->pending > ELEMENTS_MAX ? RESP_MALFORMED : RESP_REPLY;
}

/* Drops what was looked through of a reply that is too large to keep. */
static void drop_scanned(struct resp_reader *r)
{
    if (r->scan - r->start > r->limit)
        r->cut = true;
    if (!r->cut)
        return;
    size_t skip = r->to_skip < r->len - r->scan ? (size_t)r->to_skip : r->len - r->scan;
    r->to_skip -= skip;
    r->scan += skip;
    r->start = r->scan;
}

static void give_cut(const struct resp_reader *r, struct resp_reply *ret)
{
    *ret = (struct resp_reply){.type = r->first == '*' ? RESP_ARRAY : RESP_STRING, .cut = true};
}

enum resp_result resp_next(struct resp_reader *r, struct resp_reply *ret)
{
    do {
        drop_scanned(r);
        if (r->to_skip > 0)
            return RESP_MORE;
        if (r->cut && r->pending == 0)
            break; /* the string that was skipped was its last element */
        enum resp_result result = pass_element(r);
        if (result != RESP_REPLY)
            return result;
        drop_scanned(r);
    } while (r->pending > 0 || r->to_skip > 0);
    bool cut = r->cut;
    r->cut = false;
    if (cut) {
        give_cut(r, ret);
        return RESP_REPLY;
    }
    const char *p = r->buf + r->start;
    const char *end = r->buf + r->scan;
    struct weir_str raw = weir_str_n(p, (size_t)(end - p));
    r->start = r->scan;
    if (!resp_element(&p, end, ret))
        return RESP_MALFORMED;
    ret->raw = raw;
    return RESP_REPLY;
}

bool resp_element(const char **p, const char *end, struct resp_reply *ret)
{
    *ret = (struct resp_reply){0};
    if (read_head(p, end, ret) != RESP_REPLY)
        return false;
    if (ret->type != RESP_STRING)
        return true;
    if (end - *p < ret->number + 2)
        return false;
    ret->text = weir_str_n(*p, (size_t)ret->number);
    *p += ret->number + 2;
    return true;
}
