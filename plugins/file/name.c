/* SPDX-License-Identifier: Apache-2.0
 *
 * Names made of events; see name.h.
 */
#include "name.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define PART_LEN 255u /* of a name between two slashes: what file systems take */

enum piece_kind { PIECE_TEXT, PIECE_TIME, PIECE_FIELD };

struct piece {
    enum piece_kind kind;
    struct weir_str text; /* TEXT; of TIME its letter */
    struct weir_template *field;
};

static const char conversions[] = "YmdHMSjyF";

/* ---- Compiling ------------------------------------------------------------------------------- */

static enum weir_status say(const struct weir_host *h, struct weir_error *err, size_t offset,
                            const char *text)
{
    enum weir_status st = h->error(err, WEIR_E_CONFIG, "bad_name", "%s", text);
    if (err != NULL)
        err->offset = (int64_t)offset;
    return st;
}

static enum weir_status compile_field(const struct weir_host *h, struct weir_arena *a,
                                      struct weir_str text, size_t at, struct piece *ret,
                                      size_t *ret_len, struct weir_error *err)
{
    const char *end = memmem(text.ptr + at, text.len - at, "}}", 2);
    if (end == NULL)
        return say(h, err, at, "\"{{\" without \"}}\"");
    *ret_len = (size_t)(end + 2 - (text.ptr + at));
    ret->kind = PIECE_FIELD;
    ret->field = h->template_compile(a, weir_str_n(text.ptr + at, *ret_len), err);
    if (ret->field == NULL && err != NULL && err->offset >= 0)
        err->offset += (int64_t)at;
    return ret->field != NULL ? WEIR_OK : WEIR_E_CONFIG;
}

static enum weir_status compile_time(const struct weir_host *h, struct weir_str text, size_t at,
                                     struct piece *ret, struct weir_error *err)
{
    char c = at + 1 < text.len ? text.ptr[at + 1] : '\0';
    if (c == '%') {
        ret->kind = PIECE_TEXT;
        ret->text = weir_str_n(text.ptr + at, 1);
        return WEIR_OK;
    }
    if (c == '\0' || strchr(conversions, c) == NULL)
        return say(h, err, at,
                   "after \"%\" one of Y m d H M S j y F (a date) is expected, or \"%%\" for the "
                   "sign itself");
    ret->kind = PIECE_TIME;
    ret->text = weir_str_n(text.ptr + at + 1, 1);
    return WEIR_OK;
}

static size_t text_len(struct weir_str text, size_t at)
{
    size_t n = 0;
    while (at + n < text.len && text.ptr[at + n] != '%' &&
           (text.ptr[at + n] != '{' || at + n + 1 == text.len || text.ptr[at + n + 1] != '{'))
        n++;
    return n;
}

/* Where the part of the name that begins at `at` ends: a slash within braces is none. */
static size_t part_end(struct weir_str text, size_t at)
{
    while (at < text.len && text.ptr[at] != '/') {
        const char *field = text.ptr[at] == '{' && at + 1 < text.len && text.ptr[at + 1] == '{'
                                ? memmem(text.ptr + at, text.len - at, "}}", 2)
                                : NULL;
        at = field != NULL ? (size_t)(field + 2 - text.ptr) : at + 1;
    }
    return at;
}

/* What no event can make right is said at once. */
static enum weir_status check_literal(const struct weir_host *h, struct weir_str text,
                                      struct weir_error *err)
{
    for (size_t at = 0, end; at <= text.len; at = end + 1) {
        end = part_end(text, at);
        if (end == at)
            return say(h, err, at, "a part of the name is empty: \"//\"");
        if (end - at <= 2 && memcmp(text.ptr + at, "..", end - at) == 0)
            return say(h, err, at, "a part of the name is \".\" or \"..\": files are below `path`");
    }
    return WEIR_OK;
}

enum weir_status name_compile(const struct weir_host *h, struct weir_arena *a, struct weir_str text,
                              struct name *ret, struct weir_error *err)
{
    struct name name = {h->arena_alloc(a, (text.len + 1) * sizeof(struct piece)), 0};
    if (name.pieces == NULL)
        return say(h, err, 0, "no memory for the name");
    if (text.len == 0 || text.len > NAME_LEN || text.ptr[0] == '/' || text.ptr[text.len - 1] == '/')
        return say(
            h, err, 0,
            "a name of 1 to 1024 bytes below `path` is expected, that neither begins nor ends "
            "with \"/\"");
    for (size_t at = 0, n = 0; at < text.len; at += n) {
        struct piece *p = &name.pieces[name.n++];
        enum weir_status st = WEIR_OK;
        *p = (struct piece){.kind = PIECE_TEXT};
        n = 2;
        if (text.ptr[at] == '%') {
            st = compile_time(h, text, at, p, err);
        } else if (text.ptr[at] == '{' && at + 1 < text.len && text.ptr[at + 1] == '{') {
            st = compile_field(h, a, text, at, p, &n, err);
        } else {
            n = text_len(text, at);
            p->text = h->arena_copy(a, weir_str_n(text.ptr + at, n));
        }
        if (st != WEIR_OK)
            return st;
    }
    *ret = name;
    return check_literal(h, text, err);
}

/* ---- Making ---------------------------------------------------------------------------------- */

struct making {
    const struct weir_host *h;
    struct weir_batch *b;
    struct weir_event *ev;
    struct weir_arena *a;
    char *why;
    bool has_tm;
    struct tm tm;
};

static bool wrong(struct making *m, const char *text)
{
    (void)snprintf(m->why, NAME_WHY, "%s", text);
    return false;
}

static int put_time(char *out, size_t room, char letter, const struct tm *tm)
{
    switch (letter) {
    case 'F':
        return snprintf(out, room, "%04d-%02d-%02d", tm->tm_year + 1900, tm->tm_mon + 1,
                        tm->tm_mday);
    case 'Y':
        return snprintf(out, room, "%04d", tm->tm_year + 1900);
    case 'y':
        return snprintf(out, room, "%02d", tm->tm_year % 100);
    case 'j':
        return snprintf(out, room, "%03d", tm->tm_yday + 1);
    default:
        return snprintf(out, room, "%02d",
                        letter == 'm'   ? tm->tm_mon + 1
                        : letter == 'd' ? tm->tm_mday
                        : letter == 'H' ? tm->tm_hour
                        : letter == 'M' ? tm->tm_min
                                        : tm->tm_sec);
    }
}

static bool time_text(struct making *m, const struct piece *p, char *out, size_t room,
                      size_t *ret_len)
{
    if (!m->has_tm) {
        int64_t ns = m->ev->time_ns != 0 ? m->ev->time_ns : m->h->wall(m->h);
        time_t s = (time_t)(ns / WEIR_NS_PER_S - (ns % WEIR_NS_PER_S < 0 ? 1 : 0));
        if (gmtime_r(&s, &m->tm) == NULL || m->tm.tm_year < 0 || m->tm.tm_year > 8099)
            return wrong(m, "the event's time is outside of the years 1900 to 9999");
        m->has_tm = true;
    }
    int n = put_time(out, room, p->text.ptr[0], &m->tm);
    *ret_len = (size_t)n;
    return (n > 0 && (size_t)n < room) || wrong(m, "the file name is longer than 1024 bytes");
}

static bool field_text(struct making *m, const struct piece *p, struct weir_str *ret)
{
    struct weir_error err = {0};
    *ret = m->h->template_render(m->h, p->field, m->b, m->ev, m->a, &err);
    if (ret->ptr == NULL)
        return wrong(m, err.text);
    for (size_t i = 0; i < ret->len; i++) {
        unsigned char c = (unsigned char)ret->ptr[i];
        if (c == '/')
            return wrong(m, "a field in the file name holds \"/\"");
        if (c < ' ' || c == 0x7f)
            return wrong(m, "a field in the file name holds a NUL or another control character");
    }
    return true;
}

static bool check_parts(struct making *m, const char *name, size_t len)
{
    for (size_t at = 0; at <= len;) {
        const char *slash = memchr(name + at, '/', len - at);
        size_t n = slash != NULL ? (size_t)(slash - name) - at : len - at;
        if (n == 0)
            return wrong(m, "a part of the file name is empty");
        if (n <= 2 && memcmp(name + at, "..", n) == 0)
            return wrong(m, "a part of the file name is \".\" or \"..\"");
        if (n > PART_LEN)
            return wrong(m, "a part of the file name is longer than 255 bytes");
        at += n + 1;
    }
    return true;
}

void name_sample(const struct name *name, char ret[NAME_LEN + 1])
{
    const struct tm tm = {.tm_year = 70, .tm_mday = 1};
    size_t len = 0;
    for (uint32_t i = 0; i < name->n; i++) {
        const struct piece *p = &name->pieces[i];
        struct weir_str text = p->kind == PIECE_FIELD ? weir_cstr("x") : p->text;
        char time[16];
        if (p->kind == PIECE_TIME)
            text = weir_str_n(time, (size_t)put_time(time, sizeof(time), p->text.ptr[0], &tm));
        if (text.len > NAME_LEN - len)
            break;
        memcpy(ret + len, text.ptr, text.len);
        len += text.len;
    }
    ret[len] = '\0';
}

bool name_make(const struct weir_host *h, const struct name *name, struct weir_batch *b,
               struct weir_event *ev, struct weir_arena *a, struct weir_str *ret,
               char why[NAME_WHY])
{
    struct making m = {.h = h, .b = b, .ev = ev, .a = a, .why = why};
    char *out = h->arena_alloc(a, NAME_LEN + 1);
    size_t len = 0;
    why[0] = '\0';
    if (out == NULL)
        return false;
    for (uint32_t i = 0; i < name->n; i++) {
        const struct piece *p = &name->pieces[i];
        struct weir_str text = p->text;
        if (p->kind == PIECE_TIME) {
            size_t n;
            if (!time_text(&m, p, out + len, NAME_LEN - len, &n))
                return false;
            len += n;
            continue;
        }
        if (p->kind == PIECE_FIELD && !field_text(&m, p, &text))
            return false;
        if (text.len > NAME_LEN - len)
            return wrong(&m, "the file name is longer than 1024 bytes");
        if (text.len != 0)
            memcpy(out + len, text.ptr, text.len);
        len += text.len;
    }
    out[len] = '\0';
    *ret = weir_str_n(out, len);
    return check_parts(&m, out, len);
}
