/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats like strftime's, without its locale: names are English, a time without a zone is UTC, and
 * what is written is UTC. Reading is strict: two digits are two digits, and every byte counts.
 */
#include "timefmt.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAY_S INT64_C(86400)
#define SECOND_NS 1000000000
#define PIECES_MAX 64
#define TEXT_MAX 256 /* of a time that is read or written */

static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};
static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};

/* ---- The format ---- */

/* What one directive stands for in several; NULL: it stands for itself. */
static const char *expansion(char letter)
{
    switch (letter) {
    case 'F':
        return "%Y-%m-%d";
    case 'T':
        return "%H:%M:%S";
    case 'R':
        return "%H:%M";
    default:
        return NULL;
    }
}

static const char *add_piece(struct time_piece *pieces, uint32_t *n, struct time_piece piece)
{
    if (*n == PIECES_MAX)
        return "the format has more than 64 parts";
    pieces[(*n)++] = piece;
    return NULL;
}

static const char *cut(struct weir_str text, struct time_piece *pieces, uint32_t *n,
                       size_t *ret_offset)
{
    const char *why = NULL;
    for (size_t i = 0; i < text.len && why == NULL; i++) {
        const char *percent = memchr(text.ptr + i, '%', text.len - i);
        size_t at = percent != NULL ? (size_t)(percent - text.ptr) : text.len;
        *ret_offset = i;
        if (at > i)
            why = add_piece(pieces, n, (struct time_piece){0, {text.ptr + i, at - i}});
        if (why != NULL || at == text.len)
            return why;
        *ret_offset = at;
        i = at + 1;
        char letter = i < text.len ? text.ptr[i] : '\0';
        const char *inner = expansion(letter);
        if (letter == '%')
            why = add_piece(pieces, n, (struct time_piece){0, {text.ptr + i, 1}});
        else if (inner != NULL)
            why = cut(weir_cstr(inner), pieces, n, &(size_t){0});
        else if (letter != '\0' && strchr("YymdejHIMSpLfNbBaAzs", letter) != NULL)
            why = add_piece(pieces, n, (struct time_piece){letter, {NULL, 0}});
        else
            why = "no such directive: there are %Y %y %m %d %e %j %H %I %M %S %p %L %f %N %b %B %a "
                  "%A %z %s %F %T %R %%";
    }
    return why;
}

static bool has(const struct time_format *f, const char *letters)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->pieces[i].letter != '\0' && strchr(letters, f->pieces[i].letter) != NULL)
            return true;
    return false;
}

/* Whether all of the time is in %s, but for a fraction. */
static bool is_of_epoch(const struct time_format *f)
{
    return has(f, "s") && !has(f, "YymbBdejHIMSpz");
}

/* What a format to read by lacks, or has twice. */
static const char *readable(const struct time_format *f)
{
    static const char *const one_of[] = {"Yy", "mbBj", "dej", "HI", "M", "S",
                                         "p",  "LfN",  "aA",  "z",  "s"};
    for (size_t g = 0; g < sizeof(one_of) / sizeof(one_of[0]); g++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < f->n; i++)
            n += f->pieces[i].letter != '\0' && strchr(one_of[g], f->pieces[i].letter) != NULL;
        if (n > 1)
            return "the same part of a time stands in it twice";
    }
    if (has(f, "I") != has(f, "p"))
        return "%I and %p need each other";
    if (has(f, "s"))
        return is_of_epoch(f) ? NULL
                              : "%s is the whole time: nothing else can stand beside it but a "
                                "fraction";
    if (!has(f, "Yy") || !has(f, "mbBj") || !has(f, "dej"))
        return "a time is read by its year, month and day at least (%Y, %m, %d), or %s";
    return NULL;
}

static bool is_word(struct weir_str s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.ptr, word, s.len) == 0;
}

const char *time_format_parse(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                              bool to_read, struct time_format *ret, size_t *ret_offset)
{
    static const struct {
        const char *word;
        enum time_kind kind;
        int64_t per_second;
    } words[] = {{"rfc3339", TIME_RFC3339, 0},
                 {"epoch_s", TIME_EPOCH, 1},
                 {"epoch_ms", TIME_EPOCH, 1000},
                 {"epoch_us", TIME_EPOCH, 1000000}};
    struct time_piece pieces[PIECES_MAX];
    uint32_t n = 0;
    *ret_offset = 0;
    *ret = (struct time_format){.kind = TIME_RFC3339, .text = text};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (text.len == 0 || is_word(text, words[i].word)) {
            ret->kind = words[i].kind;
            ret->per_second = words[i].per_second;
            return NULL;
        }
    if (memchr(text.ptr, '%', text.len) == NULL)
        return "expected rfc3339, epoch_s, epoch_ms, epoch_us, or directives such as %Y-%m-%d";
    const char *why = cut(text, pieces, &n, ret_offset);
    if (why != NULL)
        return why;
    *ret_offset = 0;
    ret->pieces = h->arena_alloc(a, (n + 1) * sizeof(*ret->pieces));
    if (ret->pieces == NULL)
        return "no memory for the format";
    memcpy(ret->pieces, pieces, n * sizeof(*pieces));
    ret->kind = TIME_PIECES;
    ret->n = n;
    return to_read ? readable(ret) : NULL;
}

/* ---- Reading ---- */

struct parts {
    int year, month, day, day_of_year, weekday;
    int hour, minute, second;
    int half; /* 1: pm, 0: am, -1: not said */
    int32_t ns;
    int offset_min;
    bool is_epoch, negative; /* negative: epoch and ns, together */
    int64_t epoch;
};

struct reader {
    const char *p, *end;
};

/* `least` to `most` digits within [min, max]. */
static bool number(struct reader *r, int least, int most, int64_t min, int64_t max, int64_t *ret)
{
    int64_t v = 0;
    int n = 0;
    for (; n < most && r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++, n++)
        v = v * 10 + (*r->p - '0');
    *ret = v;
    return n >= least && v >= min && v <= max;
}

static bool small_number(struct reader *r, int digits, int min, int max, int *ret)
{
    int64_t v;
    bool ok = number(r, digits, digits, min, max, &v);
    *ret = (int)v;
    return ok;
}

static bool starts(const struct reader *r, const char *text, size_t len)
{
    return (size_t)(r->end - r->p) >= len && strncasecmp(r->p, text, len) == 0;
}

/* One of n names, as a whole or its first three letters. */
static bool name(struct reader *r, const char *const *names, int n, int *ret)
{
    for (int i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        if (!starts(r, names[i], 3))
            continue;
        r->p += starts(r, names[i], len) ? len : 3;
        *ret = i;
        return true;
    }
    return false;
}

static bool fraction(struct reader *r, int32_t *ret)
{
    const char *first = r->p;
    int64_t v;
    if (!number(r, 1, 9, 0, 999999999, &v))
        return false;
    for (ptrdiff_t n = r->p - first; n < 9; n++)
        v *= 10;
    *ret = (int32_t)v;
    return true;
}

/* Z, +hhmm or +hh:mm. */
static bool zone(struct reader *r, int *ret_min)
{
    int hour, minute;
    *ret_min = 0;
    if (r->p == r->end)
        return false;
    char sign = *r->p++;
    if (sign == 'Z' || sign == 'z')
        return true;
    if ((sign != '+' && sign != '-') || !small_number(r, 2, 0, 23, &hour))
        return false;
    r->p += r->p < r->end && *r->p == ':';
    if (!small_number(r, 2, 0, 59, &minute))
        return false;
    *ret_min = (sign == '-' ? -1 : 1) * (hour * 60 + minute);
    return true;
}

static bool read_epoch(struct reader *r, struct parts *t)
{
    t->negative = r->p < r->end && *r->p == '-';
    r->p += t->negative;
    t->is_epoch = true;
    bool ok = number(r, 1, 12, 0, RFC3339_S_MAX, &t->epoch);
    t->epoch = t->negative ? -t->epoch : t->epoch;
    return ok && t->epoch >= RFC3339_S_MIN;
}

static bool read_half(struct reader *r, struct parts *t)
{
    if (!starts(r, "am", 2) && !starts(r, "pm", 2))
        return false;
    t->half = *r->p == 'p' || *r->p == 'P';
    r->p += 2;
    return true;
}

static bool read_month(struct reader *r, struct parts *t)
{
    bool ok = name(r, months, 12, &t->month);
    t->month++;
    return ok;
}

static bool read_piece(struct reader *r, const struct time_piece *piece, struct parts *t)
{
    int unused;
    switch (piece->letter) {
    case '\0':
        if ((size_t)(r->end - r->p) < piece->text.len ||
            memcmp(r->p, piece->text.ptr, piece->text.len) != 0)
            return false;
        r->p += piece->text.len;
        return true;
    case 'Y':
        return small_number(r, 4, 0, 9999, &t->year);
    case 'y':
        if (!small_number(r, 2, 0, 99, &t->year))
            return false;
        t->year += t->year < 69 ? 2000 : 1900;
        return true;
    case 'm':
        return small_number(r, 2, 1, 12, &t->month);
    case 'b':
    case 'B':
        return read_month(r, t);
    case 'd':
        return small_number(r, 2, 1, 31, &t->day);
    case 'e':
        if (r->p < r->end && *r->p == ' ')
            r->p++;
        else if (r->end - r->p >= 2 && r->p[1] >= '0' && r->p[1] <= '9')
            return small_number(r, 2, 1, 31, &t->day);
        return small_number(r, 1, 1, 9, &t->day);
    case 'j':
        return small_number(r, 3, 1, 366, &t->day_of_year);
    case 'H':
        return small_number(r, 2, 0, 23, &t->hour);
    case 'I':
        return small_number(r, 2, 1, 12, &t->hour);
    case 'M':
        return small_number(r, 2, 0, 59, &t->minute);
    case 'S':
        return small_number(r, 2, 0, 60, &t->second);
    case 'p':
        return read_half(r, t);
    case 'a':
    case 'A':
        return name(r, days, 7, &unused);
    case 'z':
        return zone(r, &t->offset_min);
    case 's':
        return read_epoch(r, t);
    default:
        return fraction(r, &t->ns);
    }
}

static bool join(const struct parts *t, struct rfc3339 *ret)
{
    int64_t date;
    if (t->is_epoch) {
        bool below = t->negative && t->ns > 0; /* -1.5 is half a second behind -2 */
        *ret = below ? (struct rfc3339){t->epoch - 1, SECOND_NS - t->ns}
                     : (struct rfc3339){t->epoch, t->ns};
        return true;
    }
    if (t->day_of_year > 0) {
        date = rfc3339_days(t->year, 1, 1) + t->day_of_year - 1;
        if (date >= rfc3339_days(t->year + 1, 1, 1))
            return false;
    } else {
        if (t->day > rfc3339_days_in_month(t->year, t->month))
            return false;
        date = rfc3339_days(t->year, t->month, t->day);
    }
    int hour = t->half < 0 ? t->hour : t->hour % 12 + 12 * t->half;
    int64_t minutes = date * 1440 + hour * 60 + t->minute - t->offset_min;
    *ret = (struct rfc3339){minutes * 60 + t->second, t->ns};
    /* A leap second ends a day of UTC, as in RFC 3339. */
    return t->second < 60 || ret->s % DAY_S == 0;
}

static bool read_pieces(const struct time_format *f, struct weir_str text, struct rfc3339 *ret)
{
    struct reader r = {text.ptr, text.ptr + text.len};
    struct parts t = {.half = -1};
    for (uint32_t i = 0; i < f->n; i++)
        if (!read_piece(&r, &f->pieces[i], &t))
            return false;
    return r.p == r.end && join(&t, ret);
}

static bool read_time(const struct weir_host *h, struct weir_arena *a, const struct time_format *f,
                      const struct weir_value *v, struct rfc3339 *ret)
{
    struct weir_str s = h->value_str(v);
    if (f->kind == TIME_EPOCH)
        return epoch_read(h, a, v, f->per_second, ret);
    if (h->value_type(v) != WEIR_STRING || s.len == 0 || s.len > TEXT_MAX)
        return false;
    return f->kind == TIME_RFC3339 ? rfc3339_parse(s.ptr, s.len, ret) : read_pieces(f, s, ret);
}

/* ---- Writing ---- */

struct writer {
    char text[TEXT_MAX];
    size_t len;
    bool full;
};

static void put(struct writer *w, const char *text, size_t len)
{
    if (len > sizeof(w->text) - w->len) {
        w->full = true;
        return;
    }
    memcpy(w->text + w->len, text, len);
    w->len += len;
}

static void put_number(struct writer *w, int width, int64_t n)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%0*lld", width, (long long)n);
    put(w, text, (size_t)len);
}

static void put_name(struct writer *w, const char *text, bool whole)
{
    put(w, text, whole ? strlen(text) : 3);
}

static void write_date(struct writer *w, char letter, const struct parts *t)
{
    switch (letter) {
    case 'Y':
        put_number(w, 4, t->year);
        return;
    case 'y':
        put_number(w, 2, t->year % 100);
        return;
    case 'm':
        put_number(w, 2, t->month);
        return;
    case 'b':
    case 'B':
        put_name(w, months[t->month - 1], letter == 'B');
        return;
    case 'e':
        put(w, " ", t->day < 10);
        put_number(w, 1, t->day);
        return;
    case 'j':
        put_number(w, 3, t->day_of_year);
        return;
    case 'a':
    case 'A':
        put_name(w, days[t->weekday], letter == 'A');
        return;
    default:
        put_number(w, 2, t->day);
        return;
    }
}

static void write_clock(struct writer *w, char letter, const struct parts *t)
{
    switch (letter) {
    case 'H':
        put_number(w, 2, t->hour);
        return;
    case 'I':
        put_number(w, 2, (t->hour + 11) % 12 + 1);
        return;
    case 'M':
        put_number(w, 2, t->minute);
        return;
    case 'S':
        put_number(w, 2, t->second);
        return;
    case 'p':
        put(w, t->hour < 12 ? "AM" : "PM", 2);
        return;
    case 'L':
        put_number(w, 3, t->ns / 1000000);
        return;
    case 'f':
        put_number(w, 6, t->ns / 1000);
        return;
    case 'N':
        put_number(w, 9, t->ns);
        return;
    case 's':
        put(w, "-", t->negative);
        put_number(w, 1, t->negative ? -t->epoch : t->epoch);
        return;
    default:
        put(w, "+0000", 5);
        return;
    }
}

static void split(struct rfc3339 t, struct parts *ret)
{
    int64_t date = t.s >= 0 ? t.s / DAY_S : -((-t.s + DAY_S - 1) / DAY_S);
    int s = (int)(t.s - date * DAY_S);
    *ret = (struct parts){.hour = s / 3600,
                          .minute = s / 60 % 60,
                          .second = s % 60,
                          .ns = t.ns,
                          .epoch = t.s,
                          .weekday = (int)((date % 7 + 11) % 7)}; /* 1970 began on a Thursday */
    rfc3339_date(date, &ret->year, &ret->month, &ret->day);
    ret->day_of_year = (int)(date - rfc3339_days(ret->year, 1, 1)) + 1;
}

/* False: too long. */
static bool write_pieces(struct writer *w, const struct time_format *f, struct rfc3339 t)
{
    struct parts parts;
    split(t, &parts);
    if (t.s < 0 && t.ns > 0 && is_of_epoch(f) && has(f, "LfN")) {
        parts.negative = true;
        parts.epoch = t.s + 1;
        parts.ns = SECOND_NS - t.ns;
    }
    for (uint32_t i = 0; i < f->n; i++) {
        const struct time_piece *piece = &f->pieces[i];
        if (piece->letter == '\0')
            put(w, piece->text.ptr, piece->text.len);
        else if (strchr("YymbBdejaA", piece->letter) != NULL)
            write_date(w, piece->letter, &parts);
        else
            write_clock(w, piece->letter, &parts);
    }
    return !w->full;
}

/* ---- Both ---- */

static const char *expected_words(const struct time_format *f)
{
    switch (f->kind) {
    case TIME_RFC3339:
        return "an RFC 3339 string such as \"2026-01-31T12:00:00Z\"";
    case TIME_EPOCH:
        return "a number since 1970, of the unit named, in the years 0 to 9999";
    case TIME_PIECES:
        break;
    }
    return "a string in the format of `from`";
}

static enum cast_result wrong(const char **ret_expected, const char *expected)
{
    *ret_expected = expected;
    return CAST_WRONG;
}

static enum cast_result made(struct weir_value *v, struct weir_value **ret)
{
    *ret = v;
    return v != NULL ? CAST_DONE : CAST_NO_MEMORY;
}

enum cast_result time_convert(const struct weir_host *h, struct weir_arena *a,
                              const struct time_change *change, const struct weir_value *v,
                              struct weir_value **ret, const char **ret_expected)
{
    const struct time_format *to = &change->to;
    struct writer w = {.len = 0};
    struct weir_str s = h->value_str(v);
    struct rfc3339 t;
    if (h->value_type(v) == WEIR_NULL)
        return CAST_SAME;
    if (!read_time(h, a, &change->from, v, &t))
        return wrong(ret_expected, expected_words(&change->from));
    if (t.s < RFC3339_S_MIN || t.s > RFC3339_S_MAX)
        return wrong(ret_expected, "a time in the years 0 to 9999");
    if (to->kind == TIME_EPOCH)
        return made(h->make_int(a, t.s * to->per_second + t.ns / (1000000000 / to->per_second)),
                    ret);
    if (to->kind == TIME_RFC3339)
        w.len = rfc3339_format(t, w.text);
    else if (!write_pieces(&w, to, t))
        return wrong(ret_expected, "a time that is written in up to 256 bytes");
    if (h->value_type(v) == WEIR_STRING && s.len == w.len && memcmp(s.ptr, w.text, w.len) == 0)
        return CAST_SAME;
    return made(h->make_str(a, weir_str_n(w.text, w.len)), ret);
}
