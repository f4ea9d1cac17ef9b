/* SPDX-License-Identifier: Apache-2.0
 *
 * The syntax of HTTP/1.1 (RFC 9112): a head's lines and a body's chunks. Strict, since whoever
 * stands between the client and us may read a doubtful head in another way, and then takes the end
 * of one request for the beginning of the next: lines end in CR LF, names are tokens, nothing is
 * folded, no NUL or bare CR stands anywhere. Knows nothing of connections, allocates nothing.
 */
#include "parse.h"

#include <string.h>

#define CHUNK_OVERHEAD_MAX (16u << 10)

enum found head_find(struct weir_str in, size_t *at, size_t *ret_len)
{
    while (*at < in.len) {
        const char *lf = memchr(in.ptr + *at, '\n', in.len - *at);
        if (lf == NULL) {
            *at = in.len;
            return FOUND_NONE;
        }
        size_t end = (size_t)(lf - in.ptr);
        if (end == 0 || in.ptr[end - 1] != '\r')
            return FOUND_BAD;
        *at = end + 1;
        if (end >= 3 && in.ptr[end - 2] == '\n') {
            *ret_len = end + 1;
            return FOUND_HEAD;
        }
    }
    return FOUND_NONE;
}

/* ---- Bytes ---- */

bool is_name_char(char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return letter || c == '-' || (c != '\0' && strchr(others, c) != NULL);
}

static bool is_name(struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_name_char(s.ptr[i]))
            return false;
    return s.len != 0;
}

/* No control bytes but the tab. */
static bool is_value(struct weir_str s)
{
    bool odd = false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        odd |= (c < ' ' && c != '\t') || c == 0x7f;
    }
    return !odd;
}

static bool is_target(struct weir_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~')
            return false;
    return s.len != 0;
}

/* The line at the beginning of *rest, without its CR LF. */
static struct weir_str next_line(struct weir_str *rest)
{
    const char *lf = memchr(rest->ptr, '\n', rest->len);
    struct weir_str line = weir_str_n(rest->ptr, (size_t)(lf - rest->ptr) - 1);
    *rest = weir_str_n(lf + 1, rest->len - line.len - 2);
    return line;
}

static struct weir_str next_word(struct weir_str *rest)
{
    const char *space = rest->len != 0 ? memchr(rest->ptr, ' ', rest->len) : NULL;
    struct weir_str word = *rest;
    if (space != NULL)
        word.len = (size_t)(space - rest->ptr);
    size_t used = word.len + (space != NULL);
    *rest = weir_str_n(rest->ptr + used, rest->len - used);
    return word;
}

/* ---- The request line ---- */

static bool version_parse(struct weir_str v, struct head *h, struct refusal *why)
{
    bool shape = v.len == 8 && memcmp(v.ptr, "HTTP/", 5) == 0 && v.ptr[5] >= '0' &&
                 v.ptr[5] <= '9' && v.ptr[6] == '.' && v.ptr[7] >= '0' && v.ptr[7] <= '9';
    if (shape && v.ptr[5] == '1') {
        h->http_1_0 = v.ptr[7] == '0';
        return true;
    }
    if (shape)
        refuse(why, HTTP_VERSION_NOT_SUPPORTED, "bad_version",
               "this server speaks HTTP/1.1 and HTTP/1.0, and the request is of %.8s", v.ptr);
    else
        refuse(why, HTTP_BAD_REQUEST, "bad_request",
               "the first line is not `METHOD /path HTTP/1.1`: is this HTTP?");
    return false;
}

static bool line_parse(struct weir_str line, struct head *h, struct refusal *why)
{
    struct weir_str rest = line;
    h->method = next_word(&rest);
    h->target = next_word(&rest);
    if (is_name(h->method) && is_target(h->target))
        return version_parse(rest, h, why);
    refuse(why, HTTP_BAD_REQUEST, "bad_request",
           "the first line is not `METHOD /path HTTP/1.1` with one space between and the path "
           "percent-encoded: is this HTTP?");
    return false;
}

/* ---- Headers ---- */

static const struct {
    struct weir_str name;
    size_t offset;
} known[] = {
#define KNOWN(text, member)                                                                        \
    {                                                                                              \
        {text, sizeof(text) - 1}, offsetof(struct head, member)                                    \
    }
    KNOWN("Host", host),
    KNOWN("Content-Type", content_type),
    KNOWN("Content-Length", content_length),
    KNOWN("Content-Encoding", content_encoding),
    KNOWN("Transfer-Encoding", transfer_encoding),
    KNOWN("Authorization", authorization),
    KNOWN("Expect", expect),
    KNOWN("Idempotency-Key", idempotency_key),
    KNOWN("weir-id", weir_id),
    KNOWN("Origin", origin),
    KNOWN("Access-Control-Request-Method", preflight_method),
#undef KNOWN
};

/* A list, which may be spread over several headers. */
static void note_connection(struct head *h, struct weir_str list)
{
    struct weir_str word;
    while (str_next(&list, ',', &word)) {
        h->close |= str_is(word, "close");
        h->keep_alive |= str_is(word, "keep-alive");
    }
}

static void note_header(struct head *h, struct weir_str name, struct weir_str value)
{
    if (str_is(name, "Connection")) {
        note_connection(h, value);
        return;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].name.len != name.len || !str_same(known[i].name, name))
            continue;
        struct weir_str *to = (struct weir_str *)(void *)((char *)h + known[i].offset);
        if (to->ptr != NULL)
            h->repeated = known[i].name.ptr;
        *to = value;
        return;
    }
}

static bool split_header(struct weir_str line, struct weir_str *ret_name,
                         struct weir_str *ret_value)
{
    const char *colon = line.len != 0 ? memchr(line.ptr, ':', line.len) : NULL;
    if (colon == NULL)
        return false;
    *ret_name = weir_str_n(line.ptr, (size_t)(colon - line.ptr));
    *ret_value = str_trim(weir_str_n(colon + 1, line.len - ret_name->len - 1));
    return true;
}

bool method_is(const struct head *h, const char *method)
{
    return h->method.len == strlen(method) && memcmp(h->method.ptr, method, h->method.len) == 0;
}

bool header_next(struct weir_str *lines, struct weir_str *ret_name, struct weir_str *ret_value)
{
    return lines->len != 0 && split_header(next_line(lines), ret_name, ret_value);
}

bool head_parse(struct weir_str text, struct head *ret, struct refusal *why)
{
    struct weir_str rest = weir_str_n(text.ptr, text.len - 2), name, value;
    *ret = (struct head){.http_1_0 = false};
    if (!line_parse(next_line(&rest), ret, why))
        return false;
    ret->lines = rest;
    while (rest.len != 0) {
        if (!split_header(next_line(&rest), &name, &value) || !is_name(name) || !is_value(value)) {
            refuse(why, HTTP_BAD_REQUEST, "bad_header",
                   "a header is not a line `Name: value`: no space before the colon, no folded "
                   "line, no NUL or other control byte inside");
            return false;
        }
        note_header(ret, name, value);
    }
    return true;
}

/* ---- Chunks ---- */

static enum chunk_state size_step(struct chunks *c, char byte)
{
    int digit = hex_digit(byte);
    if (digit >= 0 && c->digits < 15) {
        c->left = c->left * 16 + (uint64_t)digit;
        c->digits++;
        return CHUNK_SIZE;
    }
    if (c->digits == 0 || digit >= 0)
        return CHUNK_BROKEN;
    return byte == ';' ? CHUNK_EXTENSION : byte == '\r' ? CHUNK_SIZE_LF : CHUNK_BROKEN;
}

static enum chunk_state size_over(struct chunks *c, char byte)
{
    if (byte != '\n')
        return CHUNK_BROKEN;
    c->digits = 0;
    c->line = 0;
    return c->left != 0 ? CHUNK_DATA : CHUNK_TRAILER;
}

/* Bytes that are of no use: extensions and trailers. Bounded. */
static bool is_idle_byte(struct chunks *c, char byte)
{
    return ++c->overhead <= CHUNK_OVERHEAD_MAX && ((unsigned char)byte >= ' ' || byte == '\t') &&
           byte != 0x7f;
}

/* A trailer is a header, and as strictly read. */
static enum chunk_state trailer_step(struct chunks *c, char byte)
{
    if (byte == '\r')
        return c->line == 0 || c->named ? CHUNK_TRAILER_LF : CHUNK_BROKEN;
    bool name = c->named || is_name_char(byte) || (byte == ':' && c->line != 0);
    c->named = c->named || byte == ':';
    c->line++;
    return name && is_idle_byte(c, byte) ? CHUNK_TRAILER : CHUNK_BROKEN;
}

static enum chunk_state trailer_over(struct chunks *c, char byte)
{
    if (byte != '\n')
        return CHUNK_BROKEN;
    if (c->line == 0)
        return CHUNK_OVER;
    c->line = 0;
    c->named = false;
    return CHUNK_TRAILER;
}

static enum chunk_state chunk_step(struct chunks *c, char byte)
{
    switch (c->state) {
    case CHUNK_SIZE:
        return size_step(c, byte);
    case CHUNK_EXTENSION:
        if (byte == '\r')
            return CHUNK_SIZE_LF;
        return is_idle_byte(c, byte) ? CHUNK_EXTENSION : CHUNK_BROKEN;
    case CHUNK_SIZE_LF:
        return size_over(c, byte);
    case CHUNK_DATA_CR:
        return byte == '\r' ? CHUNK_DATA_LF : CHUNK_BROKEN;
    case CHUNK_DATA_LF:
        return byte == '\n' ? CHUNK_SIZE : CHUNK_BROKEN;
    case CHUNK_TRAILER:
        return trailer_step(c, byte);
    case CHUNK_TRAILER_LF:
        return trailer_over(c, byte);
    default:
        return c->state;
    }
}

bool chunk_next(struct chunks *c, struct weir_str *in, struct weir_str *ret_data)
{
    while (in->len != 0 && c->state < CHUNK_OVER) {
        if (c->state == CHUNK_DATA) {
            size_t n = c->left < in->len ? (size_t)c->left : in->len;
            *ret_data = weir_str_n(in->ptr, n);
            *in = weir_str_n(in->ptr + n, in->len - n);
            c->left -= n;
            if (c->left == 0)
                c->state = CHUNK_DATA_CR;
            return true;
        }
        c->state = chunk_step(c, in->ptr[0]);
        *in = weir_str_n(in->ptr + 1, in->len - 1);
    }
    return false;
}
