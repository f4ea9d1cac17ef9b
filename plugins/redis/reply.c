/* SPDX-License-Identifier: Apache-2.0
 *
 * hiredis's reader with callbacks of ours: where only the outcome matters nothing is allocated a
 * reply, where the content matters it is put down flat, one allocation growing with it.
 *
 * hiredis 0.14 and 1.x differ in the callbacks' types only. A callback that returns NULL ends the
 * reading with an error.
 */
#include "reply.h"

#include <hiredis/hiredis.h>
#include <string.h>

#define IN_CAP ((size_t)64 << 10)
#define SLICE ((size_t)16 << 10) /* the reader moves what is behind a reply: keep that short */
#define LINE_BYTES_MAX ((size_t)64 << 10)
#define RECORD_KEEP ((size_t)1 << 20) /* a larger buffer is not kept for the next record */

#if HIREDIS_MAJOR >= 1
#define COUNT size_t
#else
#define COUNT int
#endif

/* One element of a record; a string's bytes follow. */
struct element {
    int64_t number; /* of INTEGER; elements of an ARRAY; bytes of the others */
    int64_t type;
};

/* ---- Callbacks ------------------------------------------------------------------------------- */

static void keep_text(struct replies *r, struct weir_str text)
{
    size_t n = text.len < sizeof(r->text) ? text.len : sizeof(r->text);
    if (n > 0)
        memcpy(r->text, text.ptr, n);
    r->now.text = weir_str_n(r->text, n);
}

static void *note(const redisReadTask *task, enum reply_type type, int64_t number,
                  struct weir_str text)
{
    struct replies *r = task->privdata;
    if (task->parent == NULL) {
        r->now = (struct reply){.type = type, .number = number};
        if (type == REPLY_STATUS || type == REPLY_ERROR)
            keep_text(r, text);
    } else if (task->parent->parent == NULL && task->idx == 0) {
        keep_text(r, text);
    }
    if (!r->keep)
        return r;
    bool bytes = type != REPLY_INTEGER && type != REPLY_ARRAY;
    struct element e = {.number = bytes ? (int64_t)text.len : number, .type = type};
    bytes_put(&r->record, (const char *)&e, sizeof(e));
    bytes_put(&r->record, text.ptr, text.len);
    r->failed = r->record.failed;
    return r->failed ? NULL : r;
}

static void *on_string(const redisReadTask *task, char *ptr, size_t len)
{
    struct weir_str text = weir_str_n(ptr, len);
    if (task->type == REDIS_REPLY_STATUS)
        return note(task, REPLY_STATUS, 0, text);
    if (task->type == REDIS_REPLY_ERROR)
        return note(task, REPLY_ERROR, 0, text);
    /* Both bytes are there, hiredis has counted them; it does not look at them. */
    if (task->type != REDIS_REPLY_STRING || ptr[len] != '\r' || ptr[len + 1] != '\n')
        return NULL;
    return note(task, REPLY_STRING, 0, text);
}

static void *on_array(const redisReadTask *task, COUNT n)
{
    struct replies *r = task->privdata;
    unsigned depth = 1;
    for (const redisReadTask *p = task->parent; p != NULL; p = p->parent)
        depth++;
    r->deep = depth > REPLY_DEPTH_MAX;
    if (r->deep || task->type != REDIS_REPLY_ARRAY)
        return NULL;
    return note(task, REPLY_ARRAY, (int64_t)n, weir_str_n(NULL, 0));
}

static void *on_integer(const redisReadTask *task, long long number)
{
    return note(task, REPLY_INTEGER, number, weir_str_n(NULL, 0));
}

static void *on_nil(const redisReadTask *task)
{
    return note(task, REPLY_NIL, 0, weir_str_n(NULL, 0));
}

static void on_free(void *reply)
{
    (void)reply; /* it is the struct replies itself */
}

#if HIREDIS_MAJOR >= 1
/* Of RESP3, which nobody has asked for. */
static void *on_double(const redisReadTask *task, double number, char *ptr, size_t len)
{
    (void)task;
    (void)number;
    (void)ptr;
    (void)len;
    return NULL;
}

static void *on_bool(const redisReadTask *task, int value)
{
    (void)task;
    (void)value;
    return NULL;
}
#endif

static redisReplyObjectFunctions functions = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
#if HIREDIS_MAJOR >= 1
    .createDouble = on_double,
    .createBool = on_bool,
#endif
};

/* ---- Reading --------------------------------------------------------------------------------- */

void replies_init(struct replies *r, const struct weir_host *h, size_t limit, bool keep)
{
    *r = (struct replies){.h = h, .limit = limit, .keep = keep, .record = {.h = h}};
}

void replies_use_host(struct replies *r, const struct weir_host *h)
{
    r->h = h;
    r->record.h = h;
}

void replies_reset(struct replies *r)
{
    if (r->reader != NULL)
        redisReaderFree(r->reader);
    r->reader = NULL;
    r->in_at = 0;
    r->in_len = 0;
    r->size = 0;
    r->record.len = 0;
    r->record.failed = false;
    r->ended = false;
    r->deep = false;
    r->failed = false;
}

void replies_done(struct replies *r)
{
    replies_reset(r);
    bytes_done(&r->record);
    if (r->in != NULL)
        r->h->free(r->in);
    r->in = NULL;
}

char *replies_space(struct replies *r, size_t *ret_len)
{
    if (r->in == NULL)
        r->in = r->h->alloc(IN_CAP);
    if (r->in_at == r->in_len) {
        r->in_at = 0;
        r->in_len = 0;
    }
    *ret_len = IN_CAP - r->in_len;
    return r->in == NULL ? NULL : r->in + r->in_len;
}

void replies_filled(struct replies *r, size_t len)
{
    r->in_len += len;
}

bool replies_pending(const struct replies *r)
{
    return r->in_len > r->in_at || r->size > 0;
}

static bool make_reader(struct replies *r)
{
    if (r->reader != NULL)
        return true;
    r->reader = redisReaderCreateWithFunctions(&functions);
    if (r->reader == NULL)
        return false;
    r->reader->privdata = r;
    r->reader->maxbuf = 2 * IN_CAP;
    return true;
}

/* Gives the reader more of what was received; false where there is nothing. */
static bool feed(struct replies *r)
{
    size_t left = r->in_len - r->in_at;
    size_t n = r->size < SLICE && left > SLICE ? SLICE : left;
    if (n == 0 || redisReaderFeed(r->reader, r->in + r->in_at, n) != REDIS_OK)
        return false;
    r->in_at += n;
    r->size += n;
    return true;
}

/* A line that does not end: hiredis would look for its end again and again. */
static bool endless_line(const struct redisReader *reader)
{
    return reader->len - reader->pos > LINE_BYTES_MAX &&
           memchr(reader->buf + reader->pos, '\n', LINE_BYTES_MAX) == NULL;
}

static enum reply_result unreadable(struct replies *r, enum reply_type type, struct reply *ret)
{
    r->ended = true;
    *ret = (struct reply){.type = type};
    return REPLY_READ;
}

static void give(struct replies *r, struct reply *ret)
{
    r->size = r->reader->len - r->reader->pos;
    *ret = r->now;
    ret->record = weir_str_n(r->record.ptr, r->record.len);
    r->record.len = 0;
}

enum reply_result replies_next(struct replies *r, struct reply *ret)
{
    if (r->ended || !replies_pending(r))
        return REPLY_MORE;
    if (r->record.len == 0 && r->record.cap > RECORD_KEEP)
        bytes_done(&r->record);
    if (!make_reader(r))
        return REPLY_MALFORMED;
    do {
        void *reply = NULL;
        int result = redisReaderGetReply(r->reader, &reply);
        if (result != REDIS_OK && r->deep)
            return unreadable(r, REPLY_TOO_DEEP, ret);
        if (result != REDIS_OK || endless_line(r->reader)) {
            r->ended = true;
            return REPLY_MALFORMED;
        }
        if (reply != NULL) {
            give(r, ret);
            return REPLY_READ;
        }
        if (r->size > r->limit)
            return unreadable(r, REPLY_TOO_LARGE, ret);
    } while (feed(r));
    if (r->in_at == r->in_len)
        return REPLY_MORE;
    r->ended = true;
    r->failed = true;
    return REPLY_MALFORMED;
}

/* ---- Records --------------------------------------------------------------------------------- */

bool record_next(const char **p, const char *end, struct reply *ret)
{
    struct element e;
    if ((size_t)(end - *p) < sizeof(e))
        return false;
    memcpy(&e, *p, sizeof(e));
    *p += sizeof(e);
    *ret = (struct reply){.type = (enum reply_type)e.type};
    if (ret->type == REPLY_INTEGER || ret->type == REPLY_ARRAY) {
        ret->number = e.number;
        return true;
    }
    if (e.number < 0 || e.number > end - *p)
        return false;
    ret->text = weir_str_n(*p, (size_t)e.number);
    *p += e.number;
    return true;
}
