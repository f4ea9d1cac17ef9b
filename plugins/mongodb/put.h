/* SPDX-License-Identifier: Apache-2.0
 *
 * mongodb/put.h: BSON by hand at the end of a writer's buffer: type, key and value of one element.
 * Little endian whatever the machine. False or NULL: no memory, or beyond the writer's limit;
 * w->code says which.
 */
#ifndef MONGODB_PUT_H
#define MONGODB_PUT_H

#include "decimal.h"
#include "doc.h"

#include <string.h>

enum bson_type {
    BSON_DOUBLE = 0x01,
    BSON_STRING = 0x02,
    BSON_OBJECT = 0x03,
    BSON_ARRAY = 0x04,
    BSON_BINARY = 0x05,
    BSON_OBJECT_ID = 0x07,
    BSON_BOOL = 0x08,
    BSON_DATE = 0x09,
    BSON_NULL = 0x0A,
    BSON_INT32 = 0x10,
    BSON_INT64 = 0x12,
    BSON_DECIMAL128 = 0x13
};

/* Notes the first failure and returns false. `code` is a static string. */
bool put_fail(struct doc_writer *w, const char *code, const char *fmt, ...) WEIR_PRINTF(3, 4);
/* Puts `key` in front of the failure's path and returns false. */
bool put_fail_inside(struct doc_writer *w, struct weir_str key);
bool put_grow(struct doc_writer *w, size_t more);

bool put_string(struct doc_writer *w, struct weir_str key, struct weir_str s);
bool put_decimal(struct doc_writer *w, struct weir_str key, struct decimal128 v);
bool put_binary(struct doc_writer *w, struct weir_str key, uint8_t subtype, const void *data,
                size_t len);
/* Bytes of a whole document or array, as the value of an element. */
bool put_raw(struct doc_writer *w, enum bson_type type, struct weir_str key, const void *data,
             size_t len);
/* The names of an array's elements: "0", "1", ... */
struct weir_str put_index(char text[12], uint32_t i);

/* Where the next `size` bytes go; NULL where they cannot. */
static inline uint8_t *put_take(struct doc_writer *w, size_t size)
{
    if ((size > w->cap - w->len || size > w->limit - w->len) && !put_grow(w, size))
        return NULL;
    uint8_t *at = w->data + w->len;
    w->len += size;
    return at;
}

static inline void store32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

static inline void store64(uint8_t *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

/* Type, key and room for `size` bytes of value: returns where these begin. */
static inline uint8_t *put_head(struct doc_writer *w, enum bson_type type, struct weir_str key,
                                size_t size)
{
    uint8_t *at = put_take(w, 1 + key.len + 1 + size);
    if (at == NULL)
        return NULL;
    *at++ = (uint8_t)type;
    if (key.len > 0)
        memcpy(at, key.ptr, key.len);
    at[key.len] = 0;
    return at + key.len + 1;
}

static inline bool put_64(struct doc_writer *w, enum bson_type type, struct weir_str key,
                          uint64_t v)
{
    uint8_t *at = put_head(w, type, key, 8);
    if (at == NULL)
        return false;
    store64(at, v);
    return true;
}

static inline bool put_int32(struct doc_writer *w, const char *key, int32_t v)
{
    uint8_t *at = put_head(w, BSON_INT32, weir_cstr(key), 4);
    if (at == NULL)
        return false;
    store32(at, (uint32_t)v);
    return true;
}

static inline bool put_null(struct doc_writer *w, struct weir_str key)
{
    return put_head(w, BSON_NULL, key, 0) != NULL;
}

static inline bool put_bool(struct doc_writer *w, struct weir_str key, bool v)
{
    uint8_t *at = put_head(w, BSON_BOOL, key, 1);
    if (at == NULL)
        return false;
    *at = v ? 1 : 0;
    return true;
}

static inline bool put_real(struct doc_writer *w, struct weir_str key, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return put_64(w, BSON_DOUBLE, key, bits);
}

/* Opens a document at the end of the buffer: ret_at is the offset of its length. */
static inline bool put_open(struct doc_writer *w, size_t *ret_at)
{
    *ret_at = w->len;
    return put_take(w, 4) != NULL;
}

static inline bool put_close(struct doc_writer *w, size_t at)
{
    uint8_t *end = put_take(w, 1);
    if (end == NULL)
        return false;
    *end = 0;
    store32(w->data + at, (uint32_t)(w->len - at));
    return true;
}

#endif
