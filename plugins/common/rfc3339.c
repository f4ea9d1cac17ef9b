/* SPDX-License-Identifier: Apache-2.0
 *
 * Date-times of RFC 3339 (see rfc3339.h). The calendar is the proleptic Gregorian one; days are
 * counted from 1970-01-01 with years that begin in March, so that the leap day is the last one.
 */
#include "rfc3339.h"

#include <stdio.h>
#include <string.h>

#define DAY_S INT64_C(86400)

struct civil {
    int year, month, day;
    int hour, minute, second;
    int32_t ns;
    int offset_min;
};

/* Reads n digits at *p and moves on; -1 where there are none. */
static int digits(const char **p, const char *end, int n)
{
    int v = 0;
    if (end - *p < n)
        return -1;
    for (int i = 0; i < n; i++) {
        unsigned d = (unsigned char)(*p)[i] - (unsigned)'0';
        if (d > 9)
            return -1;
        v = v * 10 + (int)d;
    }
    *p += n;
    return v;
}

static bool literal(const char **p, const char *end, const char *any_of)
{
    if (*p == end || **p == '\0' || strchr(any_of, **p) == NULL)
        return false;
    (*p)++;
    return true;
}

int rfc3339_days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool read_date(const char **p, const char *end, struct civil *c)
{
    c->year = digits(p, end, 4);
    if (c->year < 0 || !literal(p, end, "-"))
        return false;
    c->month = digits(p, end, 2);
    if (c->month < 1 || c->month > 12 || !literal(p, end, "-"))
        return false;
    c->day = digits(p, end, 2);
    return c->day >= 1 && c->day <= rfc3339_days_in_month(c->year, c->month);
}

static bool read_fraction(const char **p, const char *end, struct civil *c)
{
    int32_t unit = 100000000;
    c->ns = 0;
    if (*p == end || **p != '.')
        return true;
    (*p)++;
    const char *first = *p;
    for (int d; *p < end && (d = digits(p, end, 1)) >= 0; unit /= 10)
        c->ns += d * unit;
    return *p > first;
}

static bool read_offset(const char **p, const char *end, struct civil *c)
{
    c->offset_min = 0;
    if (literal(p, end, "Zz"))
        return true;
    if (*p == end || (**p != '+' && **p != '-'))
        return false;
    int sign = *(*p)++ == '-' ? -1 : 1;
    int hour = digits(p, end, 2);
    if (hour < 0 || hour > 23 || !literal(p, end, ":"))
        return false;
    int minute = digits(p, end, 2);
    if (minute < 0 || minute > 59)
        return false;
    c->offset_min = sign * (hour * 60 + minute);
    return true;
}

static bool read_time(const char **p, const char *end, struct civil *c)
{
    c->hour = digits(p, end, 2);
    if (c->hour < 0 || c->hour > 23 || !literal(p, end, ":"))
        return false;
    c->minute = digits(p, end, 2);
    if (c->minute < 0 || c->minute > 59 || !literal(p, end, ":"))
        return false;
    c->second = digits(p, end, 2);
    if (c->second < 0 || c->second > 60 || !read_fraction(p, end, c) || !read_offset(p, end, c))
        return false;
    if (c->second < 60)
        return true;
    int utc_min = (c->hour * 60 + c->minute - c->offset_min + 2 * 1440) % 1440;
    return utc_min == 1439;
}

int64_t rfc3339_days(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

bool rfc3339_parse(const char *text, size_t len, struct rfc3339 *ret)
{
    const char *p = text, *end = text + len;
    struct civil c;
    if (len < 20 || !read_date(&p, end, &c) || !literal(&p, end, "Tt") || !read_time(&p, end, &c) ||
        p != end)
        return false;
    int64_t s = rfc3339_days(c.year, c.month, c.day) * DAY_S + c.hour * 3600 + c.minute * 60 +
                c.second - c.offset_min * 60;
    *ret = (struct rfc3339){s, c.ns};
    return true;
}

bool rfc3339_is_date(const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    struct civil c;
    return len > 0 && read_date(&p, end, &c) && p == end;
}

bool rfc3339_is_time(const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    struct civil c;
    return len > 0 && read_time(&p, end, &c) && p == end;
}

void rfc3339_date(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t m = (5 * day_of_year + 2) / 153;
    *ret_day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
    *ret_month = (int)(m < 10 ? m + 3 : m - 9);
    *ret_year = (int)(year_of_era + era * 400 + (*ret_month <= 2 ? 1 : 0));
}

size_t rfc3339_format(struct rfc3339 t, char out[RFC3339_MAX])
{
    if (t.s < RFC3339_S_MIN || t.s > RFC3339_S_MAX)
        return 0;
    int64_t day = t.s >= 0 ? t.s / DAY_S : -((-t.s + DAY_S - 1) / DAY_S);
    int s = (int)(t.s - day * DAY_S);
    struct civil c;
    rfc3339_date(day, &c.year, &c.month, &c.day);
    int n = snprintf(out, RFC3339_MAX, "%04u-%02u-%02uT%02u:%02u:%02u", (unsigned)c.year % 10000u,
                     (unsigned)c.month % 100u, (unsigned)c.day % 100u, (unsigned)s / 3600 % 100u,
                     (unsigned)s / 60 % 60, (unsigned)s % 60);
    unsigned ns = (unsigned)t.ns % 1000000000u;
    size_t room = RFC3339_MAX - (size_t)n;
    if (ns == 0)
        n += snprintf(out + n, room, "Z");
    else if (ns % 1000000 == 0)
        n += snprintf(out + n, room, ".%03uZ", ns / 1000000);
    else if (ns % 1000 == 0)
        n += snprintf(out + n, room, ".%06uZ", ns / 1000);
    else
        n += snprintf(out + n, room, ".%09uZ", ns);
    return (size_t)n;
}
