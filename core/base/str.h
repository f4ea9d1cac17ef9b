/* SPDX-License-Identifier: Apache-2.0
 *
 * base/str.h: small helpers over byte views.
 */
#ifndef WR_BASE_STR_H
#define WR_BASE_STR_H

#include <string.h>
#include <weir/base.h>

/* printf("%.*s", WR_STR(s)) */
#define WR_STR(s) (int)(s).len, (s).ptr ? (s).ptr : ""

static inline bool wr_str_eq(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool wr_str_is(struct weir_str a, const char *text)
{
    return wr_str_eq(a, weir_cstr(text));
}

/* FNV-1a with a finalizer: for sharding and tables, not against attackers. */
uint64_t wr_str_hash(struct weir_str s, uint64_t seed);

/* Index of the first byte of invalid UTF-8, or s.len. */
size_t wr_utf8_check(struct weir_str s);

/* The code point at *io_at (< s.len), which moves behind it; a byte that is not UTF-8 counts as one
 * WR_UTF8_BAD. */
#define WR_UTF8_BAD UINT32_MAX
uint32_t wr_utf8_next(struct weir_str s, size_t *io_at);

#endif
