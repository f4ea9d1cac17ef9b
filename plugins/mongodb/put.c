/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of writing BSON that are no hot path.
 */
#include "put.h"

#include <stdarg.h>
#include <stdio.h>

bool put_fail(struct doc_writer *w, const char *code, const char *fmt, ...)
{
    if (w->code != NULL)
        return false;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(w->why, sizeof(w->why), fmt, args);
    va_end(args);
    w->code = code;
    w->path[0] = '\0';
    return false;
}

/* Dots where there is no room for what is further out. */
bool put_fail_inside(struct doc_writer *w, struct weir_str key)
{
    size_t n = strlen(w->path), dot = n > 0 ? 1 : 0;
    struct weir_str head = key;
    if (n >= 3 && memcmp(w->path, "...", 3) == 0)
        return false;
    if (head.len + dot + n + sizeof("...") > sizeof(w->path)) {
        head = weir_str_n("...", 3);
        dot = 0;
    }
    memmove(w->path + head.len + dot, w->path, n + 1);
    if (dot > 0)
        w->path[head.len] = '.';
    if (head.len > 0)
        memcpy(w->path, head.ptr, head.len);
    return false;
}

static bool too_large(struct doc_writer *w)
{
    return put_fail(w, "too_large", "the document would be larger than %zu bytes as BSON",
                    DOC_SIZE_MAX);
}

bool put_grow(struct doc_writer *w, size_t more)
{
    if (more > w->limit || w->len + more > w->limit)
        return too_large(w);
    size_t cap = w->cap < 4096 ? 4096 : w->cap * 2;
    while (cap < w->len + more)
        cap *= 2;
    uint8_t *data = w->h->realloc(w->data, cap);
    if (data == NULL)
        return put_fail(w, "no_memory", "no memory for a document of %zu bytes", cap);
    w->data = data;
    w->cap = cap;
    return true;
}

bool put_string(struct doc_writer *w, struct weir_str key, struct weir_str s)
{
    if (s.len > DOC_SIZE_MAX)
        return too_large(w);
    uint8_t *at = put_head(w, BSON_STRING, key, 4 + s.len + 1);
    if (at == NULL)
        return false;
    store32(at, (uint32_t)s.len + 1);
    if (s.len > 0)
        memcpy(at + 4, s.ptr, s.len);
    at[4 + s.len] = 0;
    return true;
}

bool put_decimal(struct doc_writer *w, struct weir_str key, struct decimal128 v)
{
    uint8_t *at = put_head(w, BSON_DECIMAL128, key, 16);
    if (at == NULL)
        return false;
    store64(at, v.low);
    store64(at + 8, v.high);
    return true;
}

bool put_binary(struct doc_writer *w, struct weir_str key, uint8_t subtype, const void *data,
                size_t len)
{
    if (len > DOC_SIZE_MAX)
        return too_large(w);
    uint8_t *at = put_head(w, BSON_BINARY, key, 5 + len);
    if (at == NULL)
        return false;
    store32(at, (uint32_t)len);
    at[4] = subtype;
    if (len > 0)
        memcpy(at + 5, data, len);
    return true;
}

bool put_raw(struct doc_writer *w, enum bson_type type, struct weir_str key, const void *data,
             size_t len)
{
    uint8_t *at = put_head(w, type, key, len);
    if (at == NULL)
        return false;
    memcpy(at, data, len);
    return true;
}

struct weir_str put_index(char text[12], uint32_t i)
{
    char *p = text + 12;
    do {
        *--p = (char)('0' + i % 10);
        i /= 10;
    } while (i > 0);
    return weir_str_n(p, (size_t)(text + 12 - p));
}
