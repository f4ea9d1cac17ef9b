/* SPDX-License-Identifier: Apache-2.0
 *
 * base/date.h: times as people and JSON write them (RFC 3339), and as ns since the epoch.
 */
#ifndef WR_BASE_DATE_H
#define WR_BASE_DATE_H

#include <weir/base.h>

/* Room for what wr_date_write writes, the NUL included. */
#define WR_DATE_MAX 36

/* UTC with 3, 6 or 9 digits of fraction, as many as it takes to be exact, and a NUL. Its length. */
size_t wr_date_write(int64_t ns, char out[WR_DATE_MAX]);
/* Exactly one date-time: 2026-01-31T12:00:00.5+01:00. False, and *ret_ns untouched, for anything
 * else and for years that ns do not reach (1678 to 2261 they do). */
bool wr_date_read(struct weir_str s, int64_t *ret_ns);

#endif
