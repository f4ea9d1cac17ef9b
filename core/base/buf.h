/* SPDX-License-Identifier: Apache-2.0
 *
 * base/buf.h: a growing text buffer for the control path (messages, metrics, JSON by hand).
 * All-zero is empty. There is always a NUL behind the text once something was added.
 */
#ifndef WR_BASE_BUF_H
#define WR_BASE_BUF_H

#include <stdarg.h>
#include <weir/base.h>

struct wr_buf {
    char *ptr;
    size_t len, cap;
};

void wr_buf_done(struct wr_buf *b);
void wr_buf_add(struct wr_buf *b, const char *ptr, size_t len);
void wr_buf_str(struct wr_buf *b, struct weir_str s);
void wr_buf_text(struct wr_buf *b, const char *text);
void wr_buf_printf(struct wr_buf *b, const char *fmt, ...) WEIR_PRINTF(2, 3);
void wr_buf_vprintf(struct wr_buf *b, const char *fmt, va_list ap) WEIR_PRINTF(2, 0);
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void wr_buf_json(struct wr_buf *b, struct weir_str s);
void wr_buf_base64(struct wr_buf *b, struct weir_str s);

static inline struct weir_str wr_buf_view(const struct wr_buf *b)
{
    return weir_str_n(b->ptr, b->len);
}

#endif
