/* SPDX-License-Identifier: Apache-2.0
 *
 * weir/base.h: the words that every other ABI header uses: byte views, status, error, result.
 *
 * Rules of the whole ABI
 *   - Plain C11, also valid C++. Structs only grow at their end; what comes in arrays is reached by
 *     stride (weir_event_at, weir_result_at), so that array elements can grow as well.
 *   - All-zero is a valid empty value of every struct.
 *   - `take_` arguments pass to the callee, `ret_` arguments are written on success only,
 *     everything else is borrowed until the call returns.
 *   - The bracket that ends a callback's text is its thread:
 *       [control] the thread that loads and checks pipelines; nothing of this pipeline runs
 *       [lane]    the one thread that polls a source and runs the transforms behind it
 *       [outlet]  the one thread that writes to this sink instance
 *       [any]     any thread, also at the same time as every other callback
 */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A plugin built for major.minor loads where the host has the same major and no smaller minor. */
#define WEIR_ABI_MAJOR 1
#define WEIR_ABI_MINOR 0

#if defined(__GNUC__)
#define WEIR_EXPORT __attribute__((visibility("default")))
#define WEIR_MUST_USE __attribute__((warn_unused_result))
#define WEIR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define WEIR_EXPORT
#define WEIR_MUST_USE
#define WEIR_PRINTF(fmt, args)
#endif

#define WEIR_NS_PER_MS INT64_C(1000000)
#define WEIR_NS_PER_S INT64_C(1000000000)
/* A deadline that never comes. */
#define WEIR_NEVER INT64_MAX

/* Bytes that somebody else owns; they may hold NUL and any encoding. {NULL, 0} is empty.
 * Strings that come out of an option table also have a NUL behind their last byte. */
struct weir_str {
    const char *ptr;
    size_t len;
};

/* 0 is success, positive means no error and no data, negative is an error of that class. */
enum weir_status {
    WEIR_OK = 0,
    WEIR_AGAIN = 1,        /* nothing now; ask again later */
    WEIR_END = 2,          /* nothing ever again: the source is read to its end */
    WEIR_E_CONFIG = -1,    /* the user's configuration is wrong */
    WEIR_E_REJECTED = -2,  /* this one event can never be taken */
    WEIR_E_RETRY = -3,     /* may work when tried again */
    WEIR_E_UNAVAILABLE = -4, /* the other side is away */
    WEIR_E_FATAL = -5,     /* this instance can do nothing more */
    WEIR_E_NOMEM = -6,     /* memory, or a limit on it, is used up */
    WEIR_E_BUG = -7        /* a caller broke this ABI */
};

#define WEIR_ERROR_TEXT 400

/* What went wrong, for a person. Filled by whoever fails; outer layers put their context in front.
 * `code` is a short stable word (a static string) or NULL; `number` is errno or a library's code;
 * `offset` is a byte position inside the text that was read, -1 where there is none. */
struct weir_error {
    enum weir_status status;
    const char *code;
    int64_t number;
    int64_t offset;
    char text[WEIR_ERROR_TEXT];
};

/* What became of one event at a sink, or why a transform fails it. 0 means not said yet. */
enum weir_verdict {
    WEIR_VERDICT_NONE = 0,
    WEIR_VERDICT_OK = 1,
    WEIR_VERDICT_REJECTED = 2,    /* permanent, this event: bad document, wrong type, too large */
    WEIR_VERDICT_RETRY = 3,       /* this event may work later; counts as an attempt */
    WEIR_VERDICT_UNAVAILABLE = 4, /* the server is away: retried for ever, counts no attempt */
    WEIR_VERDICT_PENDING = 5,     /* asynchronous: complete() follows, exactly once */
    WEIR_VERDICT_REOPEN = 6,      /* as unavailable, and this instance must be closed and opened anew,
                                     which happens on this sink's thread; of a SHARED one it does not */
    WEIR_VERDICT_BEHIND = 7       /* not tried, for an event before it has to come first: written again,
                                     and never an attempt, whatever on_unavailable says */
};

/* One event's result. `code` is a short stable word for metrics ("wrongtype"): a static string of
 * the plugin. `message` is for people; the host copies it before the call returns. */
struct weir_result {
    uint32_t verdict; /* enum weir_verdict */
    int32_t number;   /* the library's or server's own code, 0 = none */
    const char *code;
    struct weir_str message;
    int64_t retry_after_ns; /* the other side's wish; 0 = none */
};

/* The results of one write, one for each event of its batch, all verdicts 0 at the start. */
struct weir_results {
    uint32_t n;
    uint32_t stride;
    void *items;
};

static inline struct weir_result *weir_result_at(const struct weir_results *r, uint32_t i)
{
    return (struct weir_result *)(void *)((char *)r->items + (size_t)i * r->stride);
}

/* How an event ended, worst last: over several branches the worst one wins. */
enum weir_outcome {
    WEIR_FILTERED = 0,      /* a transform took it out, as the user asked */
    WEIR_DELIVERED = 1,     /* every sink (or durable buffer) has it */
    WEIR_DROPPED = 2,       /* given up, as the user chose; counted with its reason */
    WEIR_DEAD_LETTERED = 3, /* kept by the dead-letter sink with the reason */
    WEIR_ABANDONED = 4,     /* its stream has a new owner, who reads it again */
    WEIR_FAILED = 5         /* not delivered: the source must not count it as done */
};

/* An event's end as its source hears it. The texts live until the callback returns. */
struct weir_end {
    enum weir_outcome outcome;
    struct weir_str component; /* id of the component that decided; empty where delivered */
    const char *code;
    struct weir_str message;
};

/* The ends of a request's items, in their order. */
struct weir_ends {
    uint32_t n;
    uint32_t stride;
    const void *items;
};

static inline const struct weir_end *weir_end_at(const struct weir_ends *e, uint32_t i)
{
    return (const struct weir_end *)(const void *)((const char *)e->items + (size_t)i * e->stride);
}

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARN, WEIR_LOG_INFO, WEIR_LOG_DEBUG, WEIR_LOG_TRACE };

enum weir_kv_type { WEIR_KV_STR, WEIR_KV_I64, WEIR_KV_U64, WEIR_KV_F64, WEIR_KV_BOOL };

/* One key=value of a log line. Make them with the macros below. */
struct weir_kv {
    const char *key;
    enum weir_kv_type type;
    struct weir_str str;
    union {
        int64_t i64;
        uint64_t u64;
        double f64;
    } num;
};

#ifdef __cplusplus
#define WEIR_INIT(type) type
#else
#define WEIR_INIT(type) (type)
#endif

static inline struct weir_str weir_str_n(const char *ptr, size_t len)
{
    struct weir_str s = {ptr, len};
    return s;
}

/* View of a NUL-terminated string; NULL gives the empty view. */
static inline struct weir_str weir_cstr(const char *text)
{
    size_t n = 0;
    while (text != NULL && text[n] != '\0')
        n++;
    return weir_str_n(text, n);
}

static inline struct weir_kv weir_kv_str(const char *key, struct weir_str v)
{
    struct weir_kv kv = {key, WEIR_KV_STR, v, {0}};
    return kv;
}

static inline struct weir_kv weir_kv_text(const char *key, const char *v)
{
    return weir_kv_str(key, weir_cstr(v));
}

static inline struct weir_kv weir_kv_i64(const char *key, int64_t v)
{
    struct weir_kv kv = {key, WEIR_KV_I64, {NULL, 0}, {v}};
    return kv;
}

static inline struct weir_kv weir_kv_u64(const char *key, uint64_t v)
{
    struct weir_kv kv = {key, WEIR_KV_U64, {NULL, 0}, {0}};
    kv.num.u64 = v;
    return kv;
}

static inline struct weir_kv weir_kv_f64(const char *key, double v)
{
    struct weir_kv kv = {key, WEIR_KV_F64, {NULL, 0}, {0}};
    kv.num.f64 = v;
    return kv;
}

static inline struct weir_kv weir_kv_bool(const char *key, bool v)
{
    struct weir_kv kv = {key, WEIR_KV_BOOL, {NULL, 0}, {v ? 1 : 0}};
    return kv;
}

#endif
