/* SPDX-License-Identifier: Apache-2.0
 *
 * common/rfc3339.h: date-times of RFC 3339 as text and as seconds since the epoch.
 *
 * For plugins whose options speak of dates. It is compiled into each of them, needs libc headers
 * only, knows no time zone but the offset in the text, and asks no clock.
 */
#ifndef WEIR_COMMON_RFC3339_H
#define WEIR_COMMON_RFC3339_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Years 0000 to 9999. ns is in [0, 1e9), also before the epoch. */
struct rfc3339 {
    int64_t s;
    int32_t ns;
};

/* Room for what rfc3339_format writes, NUL included. */
#define RFC3339_MAX 36
#define RFC3339_S_MIN INT64_C(-62167219200) /* 0000-01-01T00:00:00Z */
#define RFC3339_S_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

/* Reads exactly one date-time: 2026-01-31T12:00:00.5+01:00. Digits behind the ninth of a fraction
 * are dropped; second 60 is taken only where a leap second can be (23:59:60 UTC) and counts as the
 * next one. False, and *ret untouched, where the text is anything else. */
bool rfc3339_parse(const char *text, size_t len, struct rfc3339 *ret);

/* True where the text is exactly one full-date (2026-01-31), or one full-time (12:00:00.5+01:00).
 */
bool rfc3339_is_date(const char *text, size_t len);
bool rfc3339_is_time(const char *text, size_t len);

/* The proleptic Gregorian calendar of years 0000 to 9999; days are counted from 1970-01-01. */
int rfc3339_days_in_month(int year, int month);
int64_t rfc3339_days(int year, int month, int day);
void rfc3339_date(int64_t days, int *ret_year, int *ret_month, int *ret_day);

/* Writes UTC text with 0, 3, 6 or 9 digits of fraction, as many as needed, and a NUL. Returns its
 * length; 0 where t.s is out of [RFC3339_S_MIN, RFC3339_S_MAX]. */
size_t rfc3339_format(struct rfc3339 t, char out[RFC3339_MAX]);

#endif
