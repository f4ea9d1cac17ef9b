/* SPDX-License-Identifier: Apache-2.0
 *
 * base/date.c: see date.h. Asks no clock and knows no time zone but the offset in the text.
 */
#include <base/date.h>

#include <stdio.h>
#include <time.h>

size_t wr_date_write(int64_t ns, char out[WR_DATE_MAX])
{
    int64_t fraction = ns % WEIR_NS_PER_S;
    time_t seconds = (time_t)(ns / WEIR_NS_PER_S);
    struct tm tm;
    if (fraction < 0) {
        fraction += WEIR_NS_PER_S;
        seconds--;
    }
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, WR_DATE_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (fraction % 1000000 == 0)
        n += (size_t)snprintf(out + n, WR_DATE_MAX - n, ".%03dZ", (int)(fraction / 1000000));
    else if (fraction % 1000 == 0)
        n += (size_t)snprintf(out + n, WR_DATE_MAX - n, ".%06dZ", (int)(fraction / 1000));
    else
        n += (size_t)snprintf(out + n, WR_DATE_MAX - n, ".%09dZ", (int)fraction);
    return n;
}

/* ---- Reading ---- */

/* What is left of the text, and whether all of it so far was as it should be. */
struct cursor {
    const char *at, *end;
    bool ok;
};

static int digits(struct cursor *c, int n)
{
    int v = 0;
    for (int i = 0; i < n && c->ok; i++, c->at++) {
        c->ok = c->at < c->end && *c->at >= '0' && *c->at <= '9';
        v = c->ok ? v * 10 + (*c->at - '0') : 0;
    }
    return v;
}

/* Moves behind the next character where it is a or b. */
static bool skip(struct cursor *c, char a, char b)
{
    bool there = c->ok && c->at < c->end && (*c->at == a || *c->at == b);
    c->at += there;
    return there;
}

static void expect(struct cursor *c, char a, char b)
{
    c->ok = skip(c, a, b);
}

/* Digits behind the ninth are dropped. */
static int64_t fraction(struct cursor *c)
{
    int64_t ns = 0, unit = WEIR_NS_PER_S / 10;
    if (!skip(c, '.', '.'))
        return 0;
    do {
        ns += digits(c, 1) * unit;
        unit /= 10;
    } while (c->ok && c->at < c->end && *c->at >= '0' && *c->at <= '9');
    return ns;
}

/* Seconds east of UTC. */
static int64_t zone(struct cursor *c)
{
    if (skip(c, 'Z', 'z'))
        return 0;
    int sign = skip(c, '-', '-') ? -1 : 1;
    if (sign > 0)
        expect(c, '+', '+');
    int hours = digits(c, 2);
    expect(c, ':', ':');
    int minutes = digits(c, 2);
    c->ok = c->ok && hours < 24 && minutes < 60;
    return sign * (hours * 3600 + minutes * 60);
}

bool wr_date_read(struct weir_str s, int64_t *ret_ns)
{
    struct cursor c = {s.ptr, s.ptr + s.len, s.ptr != NULL};
    struct tm tm = {0};
    tm.tm_year = digits(&c, 4) - 1900;
    expect(&c, '-', '-');
    tm.tm_mon = digits(&c, 2) - 1;
    expect(&c, '-', '-');
    tm.tm_mday = digits(&c, 2);
    expect(&c, 'T', 't');
    tm.tm_hour = digits(&c, 2);
    expect(&c, ':', ':');
    tm.tm_min = digits(&c, 2);
    expect(&c, ':', ':');
    tm.tm_sec = digits(&c, 2);
    int64_t ns = fraction(&c), east = zone(&c);
    struct tm asked = tm;
    if (!c.ok || c.at != c.end || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
        return false;
    int64_t seconds = timegm(&tm) - east; /* which makes March of the 30th of February */
    if (seconds < 0 && ns > 0) { /* towards zero, so that the first ns there are can be reached */
        seconds++;
        ns -= WEIR_NS_PER_S;
    }
    if (tm.tm_mon != asked.tm_mon || tm.tm_mday != asked.tm_mday || tm.tm_year != asked.tm_year ||
        __builtin_mul_overflow(seconds, WEIR_NS_PER_S, &seconds) ||
        __builtin_add_overflow(seconds, ns, &ns))
        return false;
    *ret_ns = ns;
    return true;
}
