/* SPDX-License-Identifier: Apache-2.0
 *
 * base/log.c: builds a line in a buffer of fixed size, counts repeats, writes once.
 *
 * Values come from outside and may be anything: they are cut at VALUE_MAX bytes, and whatever could
 * end a line early, hide text or steer a terminal is escaped. A line never allocates, so that "out
 * of memory" can be logged too. Two locks, taken in this order: `counts` guards the scopes and
 * their repeats, `out` keeps lines whole where one write(2) is not enough.
 */
#include <base/check.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/str.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 16384
#define LINE_TAIL 32 /* kept free for what ends a line: ,"truncated":true}\n */
#define VALUE_MAX 4096
#define REPEATS_FREE 5
#define REPEATS_WINDOW (10 * WEIR_NS_PER_S)
#define REPEATS_SLOTS 32
#define MESSAGE_MAX 120

/* One message of one scope. The text is a copy: a plugin's message may be gone by the time that its
 * summary is written. */
struct repeat {
    char message[MESSAGE_MAX];
    uint64_t hash;
    int64_t since; /* start of the window */
    uint64_t suppressed;
    uint32_t passed;
    enum weir_log_level level;
    bool used;
};

struct wr_log_scope {
    struct wr_log *log;
    struct wr_log_scope *next, *prev;
    struct weir_kv *fields;
    uint32_t n_fields;
    const struct wr_secret *secrets;
    struct repeat repeats[REPEATS_SLOTS];
};

struct wr_log {
    int fd;
    bool json, color;
    enum weir_log_level level;
    struct wr_clock *clock;
    pthread_mutex_t counts;
    struct wr_log_scope *scopes;
    int64_t next_summary; /* when the first window with suppressed lines ends */
    pthread_mutex_t out;
};

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool json, full;
    const struct wr_secret *secrets; /* of what is put now */
};

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

static void put(struct line *l, const char *ptr, size_t len)
{
    if (len > LINE_MAX_BYTES - LINE_TAIL - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->len, ptr, len);
    l->len += len;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void __attribute__((format(printf, 2, 3))) put_format(struct line *l, const char *fmt, ...)
{
    char tmp[64];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(tmp, sizeof(tmp), fmt, ap);
    va_end(ap);
    WR_BUG_ON(n < 0 || (size_t)n >= sizeof(tmp));
    put(l, tmp, (size_t)n);
}

/* Length of the character at s[i], 0 where it is no valid UTF-8; *ret_code is its code point. */
static size_t character(struct weir_str s, size_t i, uint32_t *ret_code)
{
    unsigned char c = (unsigned char)s.ptr[i];
    size_t n = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;
    if (n > s.len - i || wr_utf8_check(weir_str_n(s.ptr + i, n)) != n)
        return 0;
    uint32_t code = n == 1 ? c : c & (0x7fu >> n);
    for (size_t k = 1; k < n; k++)
        code = code << 6 | ((unsigned char)s.ptr[i + k] & 0x3fu);
    *ret_code = code;
    return n;
}

/* Controls (C0, DEL, C1), line separators, and what turns the direction of text round. */
static bool is_hostile(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200e && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff;
}

/* Bytes at s[i] that stand in secrets which overlap. */
static size_t hidden(const struct line *l, struct weir_str s, size_t i)
{
    size_t n = wr_secret_at(l->secrets, s, i);
    for (size_t k = 1; k < n; k++) {
        size_t more = k + wr_secret_at(l->secrets, s, i + k);
        n = more > n ? more : n;
    }
    return n;
}

static void put_escaped(struct line *l, struct weir_str s)
{
    size_t start = l->len, i = 0;
    while (i < s.len && l->len - start < VALUE_MAX && !l->full) {
        uint32_t code = 0;
        size_t n = hidden(l, s, i);
        if (n != 0) {
            put_text(l, "***");
            i += n;
            continue;
        }
        n = character(s, i, &code);
        if (n == 0)
            put_text(l, "\xef\xbf\xbd");
        else if (code == '"' || code == '\\')
            put_format(l, "\\%c", (char)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            put_format(l, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        else if (is_hostile(code))
            put_format(l, "\\u%04" PRIx32, code);
        else
            put(l, s.ptr + i, n);
        i += n == 0 ? 1 : n;
    }
    if (i < s.len)
        put_format(l, "... (%zu bytes more)", s.len - i);
}

/* logfmt leaves a value bare where every byte is a visible ASCII character without a meaning. */
static bool is_bare(struct weir_str s)
{
    if (s.len == 0 || s.len > VALUE_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return true;
}

static void put_string(struct line *l, struct weir_str s)
{
    if (!l->json && is_bare(s)) {
        put_escaped(l, s); /* nothing in it is */
        return;
    }
    put_text(l, "\"");
    put_escaped(l, s);
    put_text(l, "\"");
}

static void put_real(struct line *l, double v)
{
    if (!isfinite(v)) {
        put_string(l, weir_cstr(isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf"));
        return;
    }
    char tmp[40];
    snprintf(tmp, sizeof(tmp), "%.15g", v);
    if (strtod(tmp, NULL) != v)
        snprintf(tmp, sizeof(tmp), "%.17g", v);
    put_text(l, tmp);
}

static void put_value(struct line *l, const struct weir_kv *kv)
{
    switch (kv->type) {
    case WEIR_KV_STR:
        put_string(l, kv->str);
        return;
    case WEIR_KV_I64:
        put_format(l, "%" PRId64, kv->num.i64);
        return;
    case WEIR_KV_U64:
        put_format(l, "%" PRIu64, kv->num.u64);
        return;
    case WEIR_KV_F64:
        put_real(l, kv->num.f64);
        return;
    case WEIR_KV_BOOL:
        put_text(l, kv->num.u64 != 0 ? "true" : "false");
        return;
    }
    put_string(l, weir_cstr("?"));
}

static void put_key(struct line *l, const char *key, bool taken)
{
    if (l->json) {
        put_text(l, ",\"");
        put_escaped(l, weir_cstr(key));
        put_text(l, taken ? "_\":" : "\":");
        return;
    }
    put_text(l, " ");
    if (key == NULL || key[0] == '\0')
        put_text(l, "_");
    for (const char *c = key; c != NULL && *c != '\0' && c - key < VALUE_MAX; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                  (*c >= '0' && *c <= '9') || *c == '_' || *c == '.' || *c == '-';
        put(l, ok ? c : "_", 1);
    }
    put_text(l, taken ? "_=" : "=");
}

/* All of it or nothing, so that a full line is still well formed. */
static void put_kv(struct line *l, const struct weir_kv *kv, bool taken)
{
    if (l->full)
        return;
    size_t before = l->len;
    put_key(l, kv->key, taken);
    put_value(l, kv);
    if (l->full)
        l->len = before;
}

static bool key_taken(const struct wr_log_scope *scope, const char *key)
{
    if (key == NULL)
        return false;
    if (strcmp(key, "ts") == 0 || strcmp(key, "level") == 0 || strcmp(key, "msg") == 0)
        return true;
    for (uint32_t i = 0; i < scope->n_fields; i++) {
        if (strcmp(scope->fields[i].key, key) == 0)
            return true;
    }
    return false;
}

static void put_time(struct line *l, int64_t wall_ns)
{
    int64_t ms = wall_ns / WEIR_NS_PER_MS;
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (ms < 0 || gmtime_r(&seconds, &tm) == NULL)
        tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    put_format(l, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
               tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)((ms % 1000 + 1000) % 1000));
}

static void put_head(struct line *l, const struct wr_log *log, enum weir_log_level level,
                     const char *message)
{
    static const char *const colors[] = {"\033[31m", "\033[33m", "\033[32m", "\033[36m", "\033[2m"};
    put_text(l, l->json ? "{\"ts\":\"" : "ts=");
    put_time(l, log->clock->wall(log->clock));
    put_text(l, l->json ? "\",\"level\":\"" : " level=");
    put_text(l, log->color ? colors[level] : "");
    put_text(l, level_names[level]);
    put_text(l, log->color ? "\033[0m" : "");
    put_text(l, l->json ? "\",\"msg\":" : " msg=");
    put_string(l, weir_cstr(message));
}

/* A log that cannot be written has nowhere to say so: what does not fit is lost. */
static void write_line(struct wr_log *log, const struct line *l)
{
    pthread_mutex_lock(&log->out);
    for (size_t done = 0; done < l->len;) {
        ssize_t n = write(log->fd, l->text + done, l->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    pthread_mutex_unlock(&log->out);
}

static void emit(const struct wr_log_scope *scope, enum weir_log_level level, const char *message,
                 const struct weir_kv *kv, uint32_t n)
{
    struct wr_log *log = scope->log;
    struct line l;
    l.len = 0;
    l.json = log->json;
    l.full = false;
    l.secrets = scope->secrets;
    put_head(&l, log, level, message);
    l.secrets = NULL; /* names that the user gave */
    for (uint32_t i = 0; i < scope->n_fields; i++)
        put_kv(&l, &scope->fields[i], false);
    l.secrets = scope->secrets;
    for (uint32_t i = 0; i < n; i++)
        put_kv(&l, &kv[i], key_taken(scope, kv[i].key));
    const char *tail = l.json ? ",\"truncated\":true" : " truncated=true";
    size_t len = l.full ? strlen(tail) : 0;
    memcpy(l.text + l.len, tail, len);
    l.len += len;
    memcpy(l.text + l.len, "}\n", 2);
    l.len += 2;
    if (!l.json)
        l.text[--l.len - 1] = '\n';
    write_line(log, &l);
}

/* ---- Repeats ---- */

static void emit_summary(const struct wr_log_scope *scope, const struct repeat *r)
{
    const struct weir_kv kv = weir_kv_u64("suppressed", r->suppressed);
    emit(scope, r->level, r->message, &kv, 1);
}

/* The slot of that message: its own, a free one, or the one whose window began first. Its summary,
 * if it has one to give, goes to ret_evicted. */
static struct repeat *find_slot(struct wr_log_scope *scope, const char *message,
                                struct repeat *ret_evicted)
{
    char text[MESSAGE_MAX];
    snprintf(text, sizeof(text), "%s", message);
    uint64_t hash = wr_str_hash(weir_cstr(text), 0);
    struct repeat *best = &scope->repeats[0];
    for (uint32_t i = 0; i < REPEATS_SLOTS; i++) {
        struct repeat *r = &scope->repeats[i];
        if (r->used && r->hash == hash && strcmp(r->message, text) == 0)
            return r;
        if (best->used && (!r->used || r->since < best->since))
            best = r;
    }
    if (best->used)
        *ret_evicted = *best;
    *best = (struct repeat){.hash = hash, .used = true, .since = INT64_MIN};
    memcpy(best->message, text, sizeof(text));
    return best;
}

/* Counts one line; true where it is to be written. What must be summed up now goes to ret_due. */
static bool count_line(struct wr_log_scope *scope, enum weir_log_level level, const char *message,
                       struct repeat *ret_due)
{
    struct wr_log *log = scope->log;
    int64_t now = wr_now(log->clock);
    pthread_mutex_lock(&log->counts);
    struct repeat *r = find_slot(scope, message, ret_due);
    if (r->since == INT64_MIN || now - r->since >= REPEATS_WINDOW) {
        if (r->suppressed > 0)
            *ret_due = *r;
        r->since = now;
        r->passed = 0;
        r->suppressed = 0;
    }
    r->level = level;
    bool pass = r->passed < REPEATS_FREE;
    if (pass) {
        r->passed++;
    } else {
        r->suppressed++;
        if (r->since + REPEATS_WINDOW < log->next_summary)
            log->next_summary = r->since + REPEATS_WINDOW;
    }
    pthread_mutex_unlock(&log->counts);
    return pass;
}

/* Takes one summary whose time has come; false where there is none. Held: counts. */
static bool take_due(struct wr_log_scope *scope, int64_t now, struct repeat *ret_due,
                     int64_t *next_summary)
{
    for (uint32_t i = 0; i < REPEATS_SLOTS; i++) {
        struct repeat *r = &scope->repeats[i];
        if (!r->used || r->suppressed == 0)
            continue;
        if (now - r->since >= REPEATS_WINDOW) {
            *ret_due = *r;
            r->used = false;
            return true;
        }
        if (r->since + REPEATS_WINDOW < *next_summary)
            *next_summary = r->since + REPEATS_WINDOW;
    }
    return false;
}

void wr_log_flush(struct wr_log *log)
{
    int64_t now = wr_now(log->clock);
    pthread_mutex_lock(&log->counts);
    if (now < log->next_summary) {
        pthread_mutex_unlock(&log->counts);
        return;
    }
    int64_t next = WEIR_NEVER;
    for (struct wr_log_scope *s = log->scopes; s != NULL; s = s->next) {
        struct repeat due;
        while (take_due(s, now, &due, &next))
            emit_summary(s, &due);
    }
    log->next_summary = next;
    pthread_mutex_unlock(&log->counts);
}

/* ---- The log, its scopes ---- */

static bool want_color(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fd) && (no_color == NULL || no_color[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

struct wr_log *wr_log_new(int fd, enum wr_log_format format, enum weir_log_level level,
                          struct wr_clock *clock)
{
    struct wr_log *log = wr_xalloc(sizeof(*log));
    log->fd = fd;
    log->json = format == WR_LOG_JSON || (format == WR_LOG_AUTO && !isatty(fd));
    log->color = !log->json && want_color(fd);
    log->level = level;
    log->clock = clock;
    log->next_summary = WEIR_NEVER;
    pthread_mutex_init(&log->counts, NULL);
    pthread_mutex_init(&log->out, NULL);
    return log;
}

void wr_log_free(struct wr_log *log)
{
    if (log == NULL)
        return;
    WR_BUG_ON(log->scopes != NULL);
    pthread_mutex_destroy(&log->counts);
    pthread_mutex_destroy(&log->out);
    wr_free(log);
}

struct wr_log_scope *wr_log_scope_new(struct wr_log *log, const struct weir_kv *fields, uint32_t n)
{
    struct wr_log_scope *scope = wr_xalloc(sizeof(*scope));
    scope->log = log;
    if (log == NULL)
        return scope;
    scope->fields = wr_xalloc((n + 1u) * sizeof(*fields));
    for (uint32_t i = 0; i < n; i++) {
        scope->fields[i] = fields[i];
        scope->fields[i].key = wr_xstrdup(fields[i].key);
        if (fields[i].type == WEIR_KV_STR)
            scope->fields[i].str.ptr =
                wr_xmemdup(fields[i].str.len > 0 ? fields[i].str.ptr : "", fields[i].str.len);
    }
    scope->n_fields = n;
    pthread_mutex_lock(&log->counts);
    scope->next = log->scopes;
    if (scope->next != NULL)
        scope->next->prev = scope;
    log->scopes = scope;
    pthread_mutex_unlock(&log->counts);
    return scope;
}

static void leave_log(struct wr_log_scope *scope)
{
    struct wr_log *log = scope->log;
    pthread_mutex_lock(&log->counts);
    if (scope->prev != NULL)
        scope->prev->next = scope->next;
    else
        log->scopes = scope->next;
    if (scope->next != NULL)
        scope->next->prev = scope->prev;
    pthread_mutex_unlock(&log->counts);
}

void wr_log_scope_free(struct wr_log_scope *scope)
{
    if (scope == NULL)
        return;
    if (scope->log != NULL) {
        leave_log(scope);
        for (uint32_t i = 0; i < REPEATS_SLOTS; i++) {
            if (scope->repeats[i].used && scope->repeats[i].suppressed > 0)
                emit_summary(scope, &scope->repeats[i]);
        }
    }
    for (uint32_t i = 0; i < scope->n_fields; i++) {
        wr_free((void *)(uintptr_t)scope->fields[i].key);
        if (scope->fields[i].type == WEIR_KV_STR)
            wr_free((void *)(uintptr_t)scope->fields[i].str.ptr);
    }
    wr_free(scope->fields);
    wr_free(scope);
}

void wr_log_scope_hide(struct wr_log_scope *scope, const struct wr_secret *secrets)
{
    scope->secrets = secrets;
}

bool wr_log_enabled(const struct wr_log_scope *scope, enum weir_log_level level)
{
    return scope != NULL && scope->log != NULL && level <= scope->log->level &&
           (size_t)level < WR_COUNT(level_names);
}

void wr_log_write(struct wr_log_scope *scope, enum weir_log_level level, const char *message,
                  const struct weir_kv *kv, uint32_t n)
{
    if (!wr_log_enabled(scope, level))
        return;
    if (message == NULL)
        message = "";
    wr_log_flush(scope->log);
    struct repeat due = {0};
    bool pass = count_line(scope, level, message, &due);
    if (due.suppressed > 0)
        emit_summary(scope, &due);
    if (pass)
        emit(scope, level, message, kv, n);
}
