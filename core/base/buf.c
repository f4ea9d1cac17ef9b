/* SPDX-License-Identifier: Apache-2.0
 *
 * base/buf.c: the growing text buffer of the control path.
 */
#include <base/buf.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <stdio.h>

void wr_buf_done(struct wr_buf *b)
{
    wr_free(b->ptr);
    *b = (struct wr_buf){0};
}

/* Room for `more` bytes and a NUL. */
static void reserve(struct wr_buf *b, size_t more)
{
    size_t cap = b->cap ? b->cap : 128;

    WR_BUG_ON(more > SIZE_MAX / 4 || b->len > SIZE_MAX / 4);
    if (b->len + more + 1 <= b->cap)
        return;
    while (cap < b->len + more + 1)
        cap *= 2;
    b->ptr = wr_xrealloc(b->ptr, cap);
    b->cap = cap;
}

void wr_buf_add(struct wr_buf *b, const char *ptr, size_t len)
{
    reserve(b, len);
    if (len > 0)
        memcpy(b->ptr + b->len, ptr, len);
    b->len += len;
    b->ptr[b->len] = '\0';
}

void wr_buf_str(struct wr_buf *b, struct weir_str s)
{
    wr_buf_add(b, s.ptr, s.len);
}

void wr_buf_text(struct wr_buf *b, const char *text)
{
    wr_buf_add(b, text, strlen(text));
}

void wr_buf_vprintf(struct wr_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    reserve(b, 1);
    va_copy(again, ap);
    n = vsnprintf(b->ptr + b->len, b->cap - b->len, fmt, ap);
    WR_BUG_ON(n < 0);
    if ((size_t)n >= b->cap - b->len) {
        reserve(b, (size_t)n);
        n = vsnprintf(b->ptr + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    b->len += (size_t)n;
}

void wr_buf_printf(struct wr_buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    wr_buf_vprintf(b, fmt, ap);
    va_end(ap);
}

static void json_char(struct wr_buf *b, uint32_t cp, const char *bytes, size_t n)
{
    static const char names[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};

    if (cp == WR_UTF8_BAD)
        wr_buf_add(b, "\xef\xbf\xbd", 3);
    else if (cp == '"' || cp == '\\')
        wr_buf_printf(b, "\\%c", (int)cp);
    else if (cp < sizeof(names) && names[cp] != 0)
        wr_buf_printf(b, "\\%c", names[cp]);
    else if (cp < 0x20 || cp == 0x7f)
        wr_buf_printf(b, "\\u%04x", (unsigned)cp);
    else
        wr_buf_add(b, bytes, n);
}

void wr_buf_json(struct wr_buf *b, struct weir_str s)
{
    size_t at = 0;

    wr_buf_add(b, "\"", 1);
    while (at < s.len) {
        size_t from = at;
        uint32_t cp = wr_utf8_next(s, &at);
        json_char(b, cp, s.ptr + from, at - from);
    }
    wr_buf_add(b, "\"", 1);
}

void wr_buf_base64(struct wr_buf *b, struct weir_str s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = (const uint8_t *)s.ptr;
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        wr_buf_add(b, four, 4);
    }
}
