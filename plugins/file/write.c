/* SPDX-License-Identifier: Apache-2.0
 *
 * A batch becomes writes, and their results verdicts; see sink.h.
 *
 * Of a regular file a write that failed half way is cut off again, so that its repetition doubles
 * nothing; where that cannot be (pipes, terminals), the events that went out whole are delivered
 * and a line that was torn is ended before the next one.
 */
#include "sink.h"

#include "../common/hash.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define CHUNK_BYTES ((size_t)1 << 20) /* between two looks at the clock */
#define KEEP_BYTES ((size_t)8 << 20)  /* a buffer beyond that is freed after its write */

/* ---- Writing --------------------------------------------------------------------------------- */

/* 0 when PIPE_BUF bytes can be written without waiting, else an errno value. */
static int wait_writable(struct sink *self, const struct target *t, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = self->cancel_fd, .events = POLLIN},
                            {.fd = t->fd, .events = POLLOUT}};
    int n;
    do
        n = poll(fds, 2, poll_timeout_ms(self->h, deadline_ns));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    if (n == 0)
        return ETIMEDOUT;
    if (fds[0].revents != 0)
        return ECANCELED;
    return 0;
}

/* What may go out in one call: whole lines where they fit, so that writers do not mix them up. */
static size_t pipe_piece(const char *p, size_t len)
{
    if (len <= PIPE_BUF)
        return len;
    const char *newline = memrchr(p, '\n', PIPE_BUF);
    return newline == NULL ? PIPE_BUF : (size_t)(newline + 1 - p);
}

/* Writes the bytes. 0, or an errno value, and how much went out. */
static int write_all(struct sink *self, struct target *t, const struct text *from,
                     int64_t deadline_ns, size_t *ret_written)
{
    size_t at = 0;
    int error = 0;
    while (at < from->len && error == 0) {
        size_t n = from->len - at;
        if (t->regular) {
            n = n < CHUNK_BYTES ? n : CHUNK_BYTES;
            error = atomic_load(&self->canceled) ? ECANCELED : 0;
        } else {
            n = pipe_piece(from->ptr + at, n);
            error = wait_writable(self, t, deadline_ns);
        }
        if (error != 0)
            break;
        ssize_t got = write(t->fd, from->ptr + at, n);
        if (got > 0)
            at += (size_t)got;
        else if (got == 0)
            error = EIO;
        else if (errno != EINTR && errno != EAGAIN)
            error = errno;
        if (error == 0 && at < from->len && t->regular && self->h->now(self->h) >= deadline_ns)
            error = ETIMEDOUT;
    }
    *ret_written = at;
    return error;
}

/* Writes the bytes and, where asked, makes them durable. What could be cut off again is not counted
 * in *ret_written. */
static int write_out(struct sink *self, struct target *t, const struct text *from,
                     int64_t deadline_ns, size_t *ret_written)
{
    struct stat before;
    bool sync = t->opt->sync == FSYNC_BATCH && t->regular;
    *ret_written = 0;
    if (t->can_undo && fstat(t->fd, &before) != 0)
        return errno;
    int error = write_all(self, t, from, deadline_ns, ret_written);
    t->dirty = t->dirty || *ret_written > 0;
    if (error == 0 && sync)
        error = target_sync(t);
    if (error != 0 && t->can_undo && ftruncate(t->fd, before.st_size) == 0) {
        *ret_written = 0;
        t->size = (int64_t)before.st_size;
    } else if (*ret_written > 0) {
        t->torn = from->ptr[*ret_written - 1] != '\n';
        t->size += (int64_t)*ret_written;
        /* Not made durable and not cut off: those lines are there, and are repeated. */
        if (error != 0 && sync && *ret_written == from->len)
            *ret_written = 0;
    }
    return error;
}

/* ---- gzip ------------------------------------------------------------------------------------ */

static void *zip_alloc(void *opaque, unsigned n, unsigned size)
{
    const struct weir_host *const *h = opaque;
    return (*h)->alloc((size_t)n * size);
}

static void zip_free(void *opaque, void *p)
{
    const struct weir_host *const *h = opaque;
    (*h)->free(p);
}

bool zip_init(struct sink *self)
{
    z_stream *z = self->h->alloc(sizeof(*z));
    if (z == NULL)
        return false;
    z->zalloc = zip_alloc;
    z->zfree = zip_free;
    z->opaque = &self->h;
    if (deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        self->h->free(z);
        return false;
    }
    self->zip = z;
    return true;
}

void zip_done(struct sink *self)
{
    text_done(&self->packed);
    if (self->zip == NULL)
        return;
    (void)deflateEnd(self->zip);
    self->h->free(self->zip);
    self->zip = NULL;
}

/* The text as one member in self->packed; false when memory is used up. */
static bool pack(struct sink *self)
{
    static const size_t step = (size_t)1 << 30; /* zlib counts in 32 bits */
    z_stream *z = self->zip;
    char buffer[16384];
    size_t at = 0;
    int result = Z_OK;
    self->packed.len = 0;
    self->packed.failed = false;
    if (deflateReset(z) != Z_OK)
        return false;
    while (result != Z_STREAM_END && !self->packed.failed) {
        if (z->avail_in == 0 && at < self->text.len) {
            size_t n = self->text.len - at < step ? self->text.len - at : step;
            z->next_in = (Bytef *)self->text.ptr + at;
            z->avail_in = (uInt)n;
            at += n;
        }
        z->next_out = (Bytef *)buffer;
        z->avail_out = sizeof(buffer);
        result = deflate(z, at == self->text.len ? Z_FINISH : Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return false;
        text_put(&self->packed, buffer, sizeof(buffer) - z->avail_out);
    }
    return !self->packed.failed;
}

/* All of it or nothing: half a member is cut off at once, or when the file is opened anew. */
static int write_packed(struct sink *self, struct target *t, int64_t deadline_ns,
                        size_t *ret_written)
{
    size_t written;
    *ret_written = 0;
    if (!pack(self))
        return ENOMEM;
    int error = write_out(self, t, &self->packed, deadline_ns, &written);
    t->torn = false;
    if (error == 0)
        *ret_written = self->text.len;
    else if (written != 0)
        target_finish(t);
    return error;
}

/* ---- Verdicts -------------------------------------------------------------------------------- */

static const char *code_of(int error)
{
    static const struct {
        int number;
        const char *code;
    } codes[] = {
        {ENOSPC, "no_space"},   {EDQUOT, "quota"},       {EIO, "io_error"},
        {EROFS, "read_only"},   {EFBIG, "file_too_big"}, {EPIPE, "reader_gone"},
        {ETIMEDOUT, "timeout"}, {ECANCELED, "canceled"}, {ENOMEM, "no_memory"},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].number == error)
            return codes[i].code;
    }
    return "write_failed";
}

/* Messages live until this thread's next write; other shards write meanwhile. */
#define TEXTS 32u
static _Thread_local struct {
    unsigned n;
    char text[TEXTS][WEIR_ERROR_TEXT];
} kept;

static struct weir_str keep_text(const char *text)
{
    for (unsigned i = 0; i < kept.n; i++)
        if (strcmp(kept.text[i], text) == 0)
            return weir_cstr(kept.text[i]);
    if (kept.n == TEXTS)
        return weir_cstr("one of many different reasons in this batch");
    char *copy = kept.text[kept.n++];
    (void)snprintf(copy, sizeof(kept.text[0]), "%s", text);
    return weir_cstr(copy);
}

static struct weir_result no_memory(void)
{
    return (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                .code = "no_memory",
                                .message = weir_cstr("no memory to write the event")};
}

static struct weir_result bad_name(struct weir_str why)
{
    return (struct weir_result){
        .verdict = WEIR_VERDICT_REJECTED, .code = "bad_name", .message = why};
}

/* Some of the batch's events, all to one file: `first`, and next[i] behind i, UINT32_MAX at the
 * end. */
struct group {
    const char *name;
    uint32_t first, last;
    struct group *next;
};

struct writing {
    struct weir_batch *b;
    struct weir_results *results;
    int64_t deadline_ns;
    uint32_t *next;
    size_t *ends; /* where an event's line ends in the text; 0 where there is none */
};

/* The same result for all of a group. */
static void result_for(const struct writing *w, const struct group *g, const struct weir_result *r)
{
    for (uint32_t i = g->first; i != UINT32_MAX; i = w->next[i])
        *weir_result_at(w->results, i) = *r;
}

/* Appends every event's line. */
static void format_group(struct sink *self, const struct writing *w, const struct group *g)
{
    for (uint32_t i = g->first; i != UINT32_MAX; i = w->next[i]) {
        struct weir_result *r = weir_result_at(w->results, i);
        w->ends[i] = 0;
        switch (
            format_event(&self->text, self->format, w->b, weir_event_at(w->b, i), self->arena)) {
        case FORMAT_OK:
            w->ends[i] = self->text.len;
            break;
        case FORMAT_NO_MEMORY:
            *r = no_memory();
            break;
        case FORMAT_TOMBSTONE:
            *r = (struct weir_result){
                .verdict = WEIR_VERDICT_REJECTED,
                .code = "tombstone",
                .message = weir_cstr("a tombstone has no payload to write; use `format: full`")};
            break;
        case FORMAT_LINE_BREAK:
            *r = (struct weir_result){
                .verdict = WEIR_VERDICT_REJECTED,
                .code = "line_break",
                .message =
                    weir_cstr("the payload is no JSON and holds a line break, and a line can "
                              "not; use `format: full`")};
            break;
        }
    }
}

/* Gives the events with a line their verdicts. */
static void settle(const struct sink *self, const struct writing *w, const struct group *g,
                   size_t written, int error)
{
    bool never = error == EPIPE && self->one_reader;
    struct weir_result failed = {
        .verdict = never ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_UNAVAILABLE, .number = error};
    if (error != 0) {
        failed.code = code_of(error);
        failed.message = weir_cstr(strerrordesc_np(error)); /* static: other shards write too */
    }
    for (uint32_t i = g->first; i != UINT32_MAX; i = w->next[i]) {
        if (w->ends[i] == 0)
            continue;
        if (w->ends[i] <= written)
            weir_result_at(w->results, i)->verdict = WEIR_VERDICT_OK;
        else
            *weir_result_at(w->results, i) = failed;
    }
}

/* ---- Groups ---------------------------------------------------------------------------------- */

/* A file that can never be that of a name, as against one that cannot be had now. */
static bool is_permanent(int64_t error)
{
    return error == ENAMETOOLONG || error == EISDIR || error == ENOTDIR || error == ELOOP ||
           error == EINVAL || error == ENOTSUP || error == EILSEQ || error == ENXIO;
}

/* It is there and may not be written: that is of this name, and not of the folder. */
static bool is_forbidden(const struct sink *self, const char *name, int64_t error)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s%s", self->targets.folder, name,
                     self->targets.opt.part ? TARGET_PART : "");
    return (error == EACCES || error == EPERM) && n > 0 && (size_t)n < sizeof(path) &&
           access(path, F_OK) == 0;
}

static void cannot_open(const struct sink *self, const struct writing *w, const struct group *g,
                        const struct weir_error *err)
{
    bool never =
        self->named && (is_permanent(err->number) || is_forbidden(self, g->name, err->number));
    struct weir_result r = {.verdict = never ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_UNAVAILABLE,
                            .number = (int32_t)err->number,
                            .code = "open_failed",
                            .message = keep_text(err->text)};
    result_for(w, g, &r);
}

/* What is in self->text. A torn line is ended first. */
static int write_text(struct sink *self, struct target *t, int64_t deadline_ns, size_t *ret_written)
{
    char newline[] = "\n";
    const struct text end = {.ptr = newline, .len = 1};
    size_t n;
    int error = t->torn ? write_out(self, t, &end, deadline_ns, &n) : 0;
    *ret_written = 0;
    if (error != 0)
        return error;
    return t->opt->gzip ? write_packed(self, t, deadline_ns, ret_written)
                        : write_out(self, t, &self->text, deadline_ns, ret_written);
}

static void write_group(struct sink *self, const struct writing *w, const struct group *g)
{
    struct weir_error err = {0};
    struct target *t =
        self->named ? targets_get(&self->targets, g->name, &err) : self->targets.newest;
    self->text.len = 0;
    self->text.failed = false;
    if (t != NULL) {
        t->used_ns = self->h->now(self->h);
        format_group(self, w, g);
    }
    size_t len = self->targets.opt.gzip ? 0 : self->text.len; /* packed, it is known too late */
    if (t == NULL || (!self->is_stdout && target_ready(t, len, &err) != WEIR_OK)) {
        cannot_open(self, w, g, &err);
        if (t != NULL && self->named) /* its folder may be gone */
            targets_drop(&self->targets, t);
        return;
    }
    size_t written = 0;
    int error = 0;
    if (self->text.len > 0)
        error = write_text(self, t, w->deadline_ns, &written);
    settle(self, w, g, written, error);
}

const char *why_reserved(bool part, bool keep, struct weir_str name)
{
    static const size_t len = sizeof(TARGET_PART) - 1;
    if (part && name.len >= len && memcmp(name.ptr + name.len - len, TARGET_PART, len) == 0)
        return "with `part` no file name may end with \".part\"";
    if (keep && target_is_rotated(name.ptr))
        return "with `rotate.keep` no file name may have a time in it as rotated ones have";
    return NULL;
}

/* Every event into the group of its name, in the order of the first of each. NULL on no memory. */
static struct group *group_events(struct sink *self, const struct writing *w)
{
    const struct weir_host *h = self->h;
    const struct target_options *opt = &self->targets.opt;
    uint32_t n = w->b->n_events, n_slots = 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    struct group **slots = h->arena_alloc(self->arena, n_slots * sizeof(struct group *));
    struct group *groups = h->arena_alloc(self->arena, (n + 1) * sizeof(*groups));
    if (slots == NULL || groups == NULL)
        return NULL;
    memset(slots, 0, n_slots * sizeof(struct group *));
    uint32_t n_groups = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct weir_str name;
        char why[NAME_WHY];
        if (!name_make(h, &self->name, w->b, weir_event_at(w->b, i), self->arena, &name, why)) {
            *weir_result_at(w->results, i) =
                why[0] == '\0' ? no_memory() : bad_name(keep_text(why));
            continue;
        }
        const char *reserved = why_reserved(opt->part, opt->keep != 0, name);
        if (reserved != NULL) {
            *weir_result_at(w->results, i) = bad_name(weir_cstr(reserved));
            continue;
        }
        uint32_t at = (uint32_t)hash_bytes(name.ptr, name.len, 0) & (n_slots - 1);
        while (slots[at] != NULL && strcmp(slots[at]->name, name.ptr) != 0)
            at = (at + 1) & (n_slots - 1);
        w->next[i] = UINT32_MAX;
        if (slots[at] == NULL) {
            slots[at] = &groups[n_groups++];
            *slots[at] = (struct group){name.ptr, i, i, NULL};
            if (n_groups > 1)
                groups[n_groups - 2].next = slots[at];
            continue;
        }
        w->next[slots[at]->last] = i;
        slots[at]->last = i;
    }
    groups[n_groups] = (struct group){NULL, UINT32_MAX, UINT32_MAX, NULL};
    return groups; /* where there is none at all, one without events */
}

static struct group *one_group(struct sink *self, const struct writing *w)
{
    struct group *g = self->h->arena_alloc(self->arena, sizeof(*g));
    uint32_t n = w->b->n_events;
    if (g == NULL)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        w->next[i] = i + 1 < n ? i + 1 : UINT32_MAX;
    *g = (struct group){NULL, n > 0 ? 0 : UINT32_MAX, n > 0 ? n - 1 : UINT32_MAX, NULL};
    return g;
}

static void fail_all(const struct writing *w)
{
    for (uint32_t i = 0; i < w->b->n_events; i++)
        *weir_result_at(w->results, i) = no_memory();
}

void sink_write(void *self_, struct weir_batch *b, int64_t deadline_ns,
                struct weir_results *results)
{
    struct sink *self = self_;
    const struct weir_host *h = self->h;
    size_t n = (size_t)b->n_events + 1;
    kept.n = 0;
    pthread_mutex_lock(&self->lock);
    h->arena_clear(self->arena);
    struct writing w = {.b = b, .results = results, .deadline_ns = deadline_ns};
    w.next = h->arena_alloc(self->arena, n * sizeof(*w.next));
    w.ends = h->arena_alloc(self->arena, n * sizeof(*w.ends));
    struct group *g = NULL;
    if (w.next != NULL && w.ends != NULL)
        g = self->named ? group_events(self, &w) : one_group(self, &w);
    if (g == NULL)
        fail_all(&w);
    for (; g != NULL && g->first != UINT32_MAX; g = g->next)
        write_group(self, &w, g);
    if (self->text.cap > KEEP_BYTES)
        text_done(&self->text);
    if (self->packed.cap > KEEP_BYTES)
        text_done(&self->packed);
    pthread_mutex_unlock(&self->lock);
}
