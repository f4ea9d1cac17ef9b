/* SPDX-License-Identifier: Apache-2.0
 *
 * text.c: a growing buffer, questions to bytes, and why a request is refused.
 */
#ifndef HTTP_SOURCE_TEXT_H
#define HTTP_SOURCE_TEXT_H

#include <weir/plugin.h>

enum {
    HTTP_OK = 200,
    HTTP_ACCEPTED = 202,
    HTTP_NO_CONTENT = 204,
    HTTP_MULTI_STATUS = 207,
    HTTP_BAD_REQUEST = 400,
    HTTP_UNAUTHORIZED = 401,
    HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404,
    HTTP_METHOD_NOT_ALLOWED = 405,
    HTTP_REQUEST_TIMEOUT = 408,
    HTTP_CONTENT_TOO_LARGE = 413,
    HTTP_URI_TOO_LONG = 414,
    HTTP_UNSUPPORTED_MEDIA_TYPE = 415,
    HTTP_EXPECTATION_FAILED = 417,
    HTTP_TOO_MANY_REQUESTS = 429,
    HTTP_HEADERS_TOO_LARGE = 431,
    HTTP_UNAVAILABLE = 503,
    HTTP_VERSION_NOT_SUPPORTED = 505
};

/* ---- text.c: growing buffers, small helpers on bytes ---- */

struct text {
    const struct weir_host *h;
    char *ptr;
    size_t len, cap;
    bool failed; /* memory was used up: the text is not complete */
};

void text_add(struct text *t, struct weir_str s);
void text_cstr(struct text *t, const char *s);
void text_int(struct text *t, int64_t v);
/* s as a JSON string, quotes included; bytes that are not UTF-8 become '?'. */
void text_json(struct text *t, struct weir_str s);
void text_done(struct text *t);

/* Without the spaces and tabs around it. */
struct weir_str str_trim(struct weir_str s);
/* ASCII letters of either case are the same. */
bool str_is(struct weir_str s, const char *word);
bool str_same(struct weir_str a, struct weir_str b);
/* The text before the next `c`, without space around it; false at the end of *rest. */
bool str_next(struct weir_str *rest, char c, struct weir_str *ret);
/* 0 to 15, -1 where it is none. */
int hex_digit(char c);
/* Base64 with its padding, undone into `out` (in.len / 4 * 3 bytes); false where it is none. */
bool base64_decode(struct weir_str in, char *out, size_t *ret_len);

/* ---- Why a request is not taken ---- */

struct refusal {
    unsigned status; /* 0: nothing is wrong */
    const char *code;
    int64_t item, offset; /* -1 where there is none */
    char message[240];
};

void refuse(struct refusal *r, unsigned status, const char *code, const char *fmt, ...)
    WEIR_PRINTF(4, 5);
/* Always false. */
bool refuse_memory(struct refusal *r);

#endif
