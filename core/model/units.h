/* SPDX-License-Identifier: Apache-2.0
 *
 * model/units.h: numbers, durations and sizes as people write them. False where the text is none,
 * or does not fit.
 */
#ifndef WR_MODEL_UNITS_H
#define WR_MODEL_UNITS_H

#include <base/buf.h>
#include <weir/base.h>

/* 12, -3, +4, 0x1f, 0o17 */
bool wr_read_int(struct weir_str s, int64_t *ret);
bool wr_read_uint(struct weir_str s, uint64_t *ret);
/* 0.5, 1e9, 12; finite */
bool wr_read_float(struct weir_str s, double *ret);
/* 50ms, 1.5s, 2m, 1h, 7d, 0; nanoseconds, never negative */
bool wr_read_duration(struct weir_str s, int64_t *ret_ns);
/* 512, 64KiB, 4MiB, 1GiB, 10MB; bytes, never negative */
bool wr_read_size(struct weir_str s, int64_t *ret_bytes);

/* Exact, in the largest unit that divides it: 90s, 1500ms. */
void wr_write_duration(struct wr_buf *b, int64_t ns);
void wr_write_size(struct wr_buf *b, int64_t bytes);

#endif
