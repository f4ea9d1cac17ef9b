/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing buffer that answers are written into. One a lane, used again for each answer. Where
 * memory is used up it remembers that and goes on, so that callers ask once, at the end. Also what
 * several files ask of bytes, and how a refusal is filled.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool text_reserve(struct text *t, size_t more)
{
    if (t->failed)
        return false;
    if (more <= t->cap - t->len)
        return true;
    size_t cap = t->cap < 512 ? 512 : t->cap * 2;
    if (cap < t->len + more)
        cap = t->len + more;
    char *grown = t->h->realloc(t->ptr, cap);
    if (grown == NULL) {
        t->failed = true;
        return false;
    }
    t->ptr = grown;
    t->cap = cap;
    return true;
}

void text_add(struct text *t, struct weir_str s)
{
    if (s.len == 0 || !text_reserve(t, s.len))
        return;
    memcpy(t->ptr + t->len, s.ptr, s.len);
    t->len += s.len;
}

void text_cstr(struct text *t, const char *s)
{
    text_add(t, weir_cstr(s));
}

void text_int(struct text *t, int64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%lld", (long long)v);
    text_add(t, weir_str_n(digits, (size_t)n));
}

/* Length of the UTF-8 character at p, 0 where it is none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char mask, lead, second_min;
    } rows[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0xa0}, {0xf8, 0xf0, 0x90}};
    for (size_t n = 2; n <= 4; n++) {
        if ((p[0] & rows[n - 2].mask) != rows[n - 2].lead)
            continue;
        if (left < n || p[0] < 0xc2 || p[0] > 0xf4)
            return 0;
        for (size_t i = 1; i < n; i++)
            if ((p[i] & 0xc0) != 0x80)
                return 0;
        bool longer = (p[0] == 0xe0 || p[0] == 0xf0) && p[1] < rows[n - 2].second_min;
        bool surrogate = p[0] == 0xed && p[1] > 0x9f;
        bool beyond = p[0] == 0xf4 && p[1] > 0x8f;
        return longer || surrogate || beyond ? 0 : n;
    }
    return 0;
}

static void text_escape(struct text *t, unsigned char c)
{
    char out[8];
    int n = 2;
    out[0] = '\\';
    if (c == '"' || c == '\\')
        out[1] = (char)c;
    else if (c == '\n')
        out[1] = 'n';
    else if (c == '\t')
        out[1] = 't';
    else if (c == '\r')
        out[1] = 'r';
    else
        n = snprintf(out, sizeof(out), "\\u%04x", c);
    text_add(t, weir_str_n(out, (size_t)n));
}

void text_json(struct text *t, struct weir_str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    text_cstr(t, "\"");
    size_t plain = 0;
    for (size_t i = 0; i < s.len;) {
        size_t n = p[i] < 0x80 ? 1 : utf8_len(p + i, s.len - i);
        if (n > 1 || (n == 1 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7f)) {
            i += n;
            continue;
        }
        text_add(t, weir_str_n(s.ptr + plain, i - plain));
        if (n == 0)
            text_cstr(t, "?");
        else
            text_escape(t, p[i]);
        plain = ++i;
    }
    text_add(t, weir_str_n(s.ptr + plain, s.len - plain));
    text_cstr(t, "\"");
}

void text_done(struct text *t)
{
    if (t->h != NULL)
        t->h->free(t->ptr);
    *t = (struct text){.h = t->h};
}

/* ---- Bytes ---- */

struct weir_str str_trim(struct weir_str s)
{
    while (s.len != 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = weir_str_n(s.ptr + 1, s.len - 1);
    while (s.len != 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool str_is(struct weir_str s, const char *word)
{
    return s.len == strlen(word) && strncasecmp(s.ptr, word, s.len) == 0;
}

bool str_same(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.ptr, b.ptr, a.len) == 0);
}

bool str_next(struct weir_str *rest, char c, struct weir_str *ret)
{
    if (rest->ptr == NULL)
        return false;
    const char *end = rest->len != 0 ? memchr(rest->ptr, c, rest->len) : NULL;
    size_t len = end != NULL ? (size_t)(end - rest->ptr) : rest->len;
    *ret = str_trim(weir_str_n(rest->ptr, len));
    *rest = end != NULL ? weir_str_n(end + 1, rest->len - len - 1) : weir_str_n(NULL, 0);
    return true;
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct weir_str in, char *out, size_t *ret_len)
{
    size_t pad = 0, n = 0;
    uint32_t bits = 0;
    while (pad < 2 && in.len > pad && in.ptr[in.len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < in.len; i++) {
        int digit = i + pad >= in.len ? 0 : base64_digit(in.ptr[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            out[n++] = (char)(bits >> 16 & 0xff);
            out[n++] = (char)(bits >> 8 & 0xff);
            out[n++] = (char)(bits & 0xff);
        }
    }
    *ret_len = n - pad;
    return in.len % 4 == 0;
}

/* ---- Refusals ---- */

void refuse(struct refusal *r, unsigned status, const char *code, const char *fmt, ...)
{
    va_list ap;
    r->status = status;
    r->code = code;
    r->item = -1;
    r->offset = -1;
    va_start(ap, fmt);
    (void)vsnprintf(r->message, sizeof(r->message), fmt, ap);
    va_end(ap);
}

bool refuse_memory(struct refusal *r)
{
    refuse(r, HTTP_UNAVAILABLE, "no_memory",
           "this server has no memory for the request now: send it again later");
    return false;
}
