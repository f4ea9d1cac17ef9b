/* SPDX-License-Identifier: Apache-2.0
 *
 * Sinks `file` and `stdout`: an event a line.
 *
 * A batch is put together in one buffer and written in few calls. Of a regular file a batch that
 * failed half way is cut off again, so that its repetition doubles nothing; where that cannot be
 * (pipes, terminals), the events that went out whole are delivered and a line that was torn is
 * ended before the next one. One instance serves all shards, under a lock: a file has one end.
 */
#include "file.h"
#include "format.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)1 << 20) /* between two looks at the clock */
#define KEEP_BYTES ((size_t)8 << 20)  /* a buffer beyond that is freed after its write */

enum mode { MODE_APPEND, MODE_TRUNCATE };
enum sync_when { FSYNC_NEVER, FSYNC_BATCH };

static const char *const mode_words[] = {"append", "truncate", NULL};
static const char *const fsync_words[] = {"never", "batch", NULL};

struct file_config {
    struct weir_str path;
    int mode;
    int sync;
    int format;
};

struct stdout_config {
    int format;
};

struct sink {
    const struct weir_host *h;
    struct weir_str path; /* for messages */
    pthread_mutex_t lock; /* guards all below but the atomic */
    struct text text;     /* the batch that is written */
    struct weir_arena *arena;
    enum format format;
    int fd;
    int cancel_fd;
    bool regular;  /* writes never wait for a reader */
    bool can_undo; /* what was written can be cut off again: nobody else writes there */
    bool sync;
    bool torn; /* the last line has no end */
    atomic_bool canceled;
};

static const struct weir_option file_options[] = {
    {.name = "path",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct file_config, path),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The file to write; made where it is not there, its folder must be.",
     .example = "out.ndjson"},
    {.name = "mode",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, mode),
     .def = "append",
     .choices = mode_words,
     .doc = "Whether the file's old content stays or goes when the pipeline starts.",
     .example = "truncate"},
    {.name = "fsync",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, sync),
     .def = "never",
     .choices = fsync_words,
     .doc = "`batch` counts events as delivered only when the disk has them; `never` leaves that "
            "to the system, which keeps them through a crash of weir but not of the machine.",
     .example = "batch"},
    {.name = "format",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, format),
     .def = "payload",
     .choices = format_words,
     .doc = "`payload`: the payload alone; `full`: an object of id, time, key, origin, headers and "
            "payload.",
     .example = "full"},
};

static const struct weir_option stdout_options[] = {
    {.name = "format",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct stdout_config, format),
     .def = "payload",
     .choices = format_words,
     .doc = "`payload`: the payload alone; `full`: an object of id, time, key, origin, headers and "
            "payload.",
     .example = "full"},
};

static uint32_t format_needs(int format)
{
    return format == FORMAT_FULL ? WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID : WEIR_NEEDS_PAYLOAD;
}

static uint32_t file_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct file_config *cf = config;
    return format_needs(cf->format);
}

static uint32_t stdout_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct stdout_config *cf = config;
    return format_needs(cf->format);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_SHARED;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static void sink_close(void *take_self)
{
    struct sink *self = take_self;
    if (self == NULL)
        return;
    text_done(&self->text);
    if (self->arena != NULL)
        self->h->arena_free(self->arena);
    if (self->fd > STDERR_FILENO)
        close(self->fd);
    if (self->cancel_fd >= 0)
        close(self->cancel_fd);
    pthread_mutex_destroy(&self->lock);
    self->h->free(self);
}

static struct sink *sink_new(const struct weir_host *h, int format, struct weir_error *err)
{
    struct sink *self = h->alloc(sizeof(*self));
    if (self == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
        return NULL;
    }
    self->h = h;
    self->fd = -1;
    self->format = (enum format)format;
    self->text.h = h;
    pthread_mutex_init(&self->lock, NULL);
    self->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->arena = h->arena_new(h);
    if (self->cancel_fd >= 0 && self->arena != NULL)
        return self;
    h->error(err, WEIR_E_NOMEM, "no_memory", "no memory or descriptor for the sink");
    sink_close(self);
    return NULL;
}

static enum weir_status open_file(struct sink *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    const char *path = self->path.ptr;
    const int flags = O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    self->fd = open(path, O_RDWR | flags, 0640);
    if (self->fd < 0 && errno == EACCES)
        self->fd = open(path, O_WRONLY | flags, 0640);
    if (self->fd < 0)
        return h->error(err, WEIR_E_CONFIG, "open_failed",
                        "cannot open \"%s\" to write it: %s; check option `path`, its folder and "
                        "permissions",
                        path, strerror(errno));
    struct stat st;
    if (fstat(self->fd, &st) != 0)
        return h->error(err, WEIR_E_CONFIG, "open_failed", "cannot use \"%s\": %s", path,
                        strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return h->error(err, WEIR_E_CONFIG, "not_a_file",
                        "\"%s\" is not a regular file; sink `file` writes no pipes and sockets "
                        "(sink `stdout` does)",
                        path);
    self->regular = S_ISREG(st.st_mode);
    self->can_undo = self->regular;
    return WEIR_OK;
}

/* Two writers would cut off each other's lines. */
static enum weir_status lock_file(struct sink *self, struct weir_error *err)
{
    if (!self->regular || flock(self->fd, LOCK_EX | LOCK_NB) == 0)
        return WEIR_OK;
    if (errno == EWOULDBLOCK)
        return self->h->error(err, WEIR_E_CONFIG, "locked",
                              "\"%s\" is being written by another sink or another weir; give each "
                              "its own `path`",
                              self->path.ptr);
    self->can_undo = false; /* this file system has no locks: be careful instead */
    return WEIR_OK;
}

/* A run that was cut off may have left half a line. */
static void find_torn_end(struct sink *self)
{
    struct stat st;
    char last;
    if (!self->regular || fstat(self->fd, &st) != 0 || st.st_size == 0)
        return;
    if (pread(self->fd, &last, 1, st.st_size - 1) == 1)
        self->torn = last != '\n';
}

static enum weir_status setup_file(struct sink *self, const struct file_config *cf,
                                   struct weir_error *err)
{
    self->path = cf->path;
    self->sync = cf->sync == FSYNC_BATCH;
    enum weir_status st = open_file(self, err);
    if (st == WEIR_OK)
        st = lock_file(self, err);
    if (st != WEIR_OK)
        return st;
    if (cf->mode == MODE_TRUNCATE && self->regular && ftruncate(self->fd, 0) != 0)
        return self->h->error(err, WEIR_E_CONFIG, "truncate_failed", "cannot empty \"%s\": %s",
                              self->path.ptr, strerror(errno));
    find_torn_end(self);
    return WEIR_OK;
}

static enum weir_status file_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    const struct file_config *cf = config;
    struct sink *self = sink_new(h, cf->format, err);
    if (self == NULL)
        return WEIR_E_NOMEM;
    enum weir_status st = setup_file(self, cf, err);
    if (st != WEIR_OK) {
        sink_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

static enum weir_status stdout_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    const struct stdout_config *cf = config;
    struct stat st;
    if (fstat(STDOUT_FILENO, &st) != 0)
        return h->error(err, WEIR_E_CONFIG, "no_stdout", "standard output cannot be used: %s",
                        strerror(errno));
    struct sink *self = sink_new(h, cf->format, err);
    if (self == NULL)
        return WEIR_E_NOMEM;
    self->path = weir_cstr("standard output");
    self->fd = STDOUT_FILENO;
    self->regular = S_ISREG(st.st_mode);
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int timeout_ms(const struct weir_host *h, int64_t deadline_ns)
{
    if (deadline_ns == WEIR_NEVER)
        return -1;
    int64_t left_ns = deadline_ns - h->now(h);
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + WEIR_NS_PER_MS - 1) / WEIR_NS_PER_MS;
    return ms > 3600000 ? 3600000 : (int)ms;
}

/* 0 when PIPE_BUF bytes can be written without waiting, else an errno value. */
static int wait_writable(struct sink *self, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = self->cancel_fd, .events = POLLIN},
                            {.fd = self->fd, .events = POLLOUT}};
    int n;
    do
        n = poll(fds, 2, timeout_ms(self->h, deadline_ns));
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

/* Writes the buffer. 0, or an errno value and how much went out. */
static int write_all(struct sink *self, int64_t deadline_ns, size_t *ret_written)
{
    const struct text *t = &self->text;
    size_t at = 0;
    int error = 0;
    while (at < t->len && error == 0) {
        size_t n = t->len - at;
        if (self->regular) {
            n = n < CHUNK_BYTES ? n : CHUNK_BYTES;
            error = atomic_load(&self->canceled) ? ECANCELED : 0;
        } else {
            n = pipe_piece(t->ptr + at, n);
            error = wait_writable(self, deadline_ns);
        }
        if (error != 0)
            break;
        ssize_t got = write(self->fd, t->ptr + at, n);
        if (got > 0)
            at += (size_t)got;
        else if (got == 0)
            error = EIO;
        else if (errno != EINTR && errno != EAGAIN)
            error = errno;
        if (error == 0 && at < t->len && self->regular && self->h->now(self->h) >= deadline_ns)
            error = ETIMEDOUT;
    }
    *ret_written = at;
    return error;
}

/* Writes the buffer and, where asked, makes it durable. What could be cut off again is not counted
 * in *ret_written. */
static int write_out(struct sink *self, int64_t deadline_ns, size_t *ret_written)
{
    struct stat before;
    *ret_written = 0;
    if (self->can_undo && fstat(self->fd, &before) != 0)
        return errno;
    int error = write_all(self, deadline_ns, ret_written);
    if (error == 0 && self->sync && self->regular && fdatasync(self->fd) != 0)
        error = errno;
    if (error != 0 && self->can_undo && ftruncate(self->fd, before.st_size) == 0) {
        *ret_written = 0;
    } else if (*ret_written > 0) {
        self->torn = self->text.ptr[*ret_written - 1] != '\n';
        /* Not made durable and not cut off: those lines are there, and are repeated. */
        if (error != 0 && self->sync && *ret_written == self->text.len)
            *ret_written = 0;
    }
    return error;
}

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

/* Appends every event's line; ends[i] is where it ends, 0 where there is none. */
static void format_batch(struct sink *self, struct weir_batch *b, size_t *ends,
                         struct weir_results *results)
{
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_result *r = weir_result_at(results, i);
        ends[i] = 0;
        switch (format_event(&self->text, self->format, b, weir_event_at(b, i), self->arena)) {
        case FORMAT_OK:
            ends[i] = self->text.len;
            break;
        case FORMAT_NO_MEMORY:
            *r = (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                      .code = "no_memory",
                                      .message = weir_cstr("no memory for the event's line")};
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
                .message = weir_cstr("the raw payload holds a line break, and a line can not; use "
                                     "`format: full`")};
            break;
        }
    }
}

/* Gives the events with a line their verdicts. */
static void settle(const struct weir_batch *b, const size_t *ends, size_t written, int error,
                   struct weir_results *results)
{
    struct weir_result failed = {.verdict = WEIR_VERDICT_UNAVAILABLE, .number = error};
    if (error != 0) {
        failed.code = code_of(error);
        failed.message = weir_cstr(strerrordesc_np(error)); /* static: other shards write too */
    }
    for (uint32_t i = 0; i < b->n_events; i++) {
        if (ends[i] == 0)
            continue;
        if (ends[i] <= written)
            weir_result_at(results, i)->verdict = WEIR_VERDICT_OK;
        else
            *weir_result_at(results, i) = failed;
    }
}

static void fail_all(const struct weir_batch *b, struct weir_results *results)
{
    for (uint32_t i = 0; i < b->n_events; i++)
        *weir_result_at(results, i) =
            (struct weir_result){.verdict = WEIR_VERDICT_UNAVAILABLE,
                                 .code = "no_memory",
                                 .message = weir_cstr("no memory to write the batch")};
}

static void sink_write(void *self_, struct weir_batch *b, int64_t deadline_ns,
                       struct weir_results *results)
{
    struct sink *self = self_;
    pthread_mutex_lock(&self->lock);
    self->h->arena_clear(self->arena);
    self->text.len = 0;
    self->text.failed = false;
    if (self->torn)
        text_put(&self->text, "\n", 1);
    size_t *ends = self->h->arena_alloc(self->arena, sizeof(*ends) * (b->n_events + 1));
    if (ends == NULL || self->text.failed) {
        fail_all(b, results);
    } else {
        size_t written = 0;
        int error = 0;
        format_batch(self, b, ends, results);
        if (self->text.len > (self->torn ? 1 : 0))
            error = write_out(self, deadline_ns, &written);
        settle(b, ends, written, error, results);
    }
    if (self->text.cap > KEEP_BYTES)
        text_done(&self->text);
    pthread_mutex_unlock(&self->lock);
}

static void sink_cancel(void *self_)
{
    struct sink *self = self_;
    const uint64_t one = 1;
    atomic_store(&self->canceled, true);
    ssize_t n = write(self->cancel_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 1000,
    .batch_bytes = 4 << 20,
    .in_flight = 1,
    .write = sink_write,
    .cancel = sink_cancel,
};

const struct weir_type type_file_sink = {
    .size = sizeof(type_file_sink),
    .kind = WEIR_SINK,
    .name = "file",
    .summary = "Writes an event a line to a file.",
    .doc =
        "A batch is written whole or not at all: when the disk is full half way, what was "
        "written is cut off again and the batch is tried later. The file is locked while the "
        "pipeline runs.\n\n"
        "Line breaks between the tokens of a JSON payload become spaces; every other byte is "
        "written as it is. A raw payload (`codec: raw`) with a line break inside, and a "
        "tombstone, are rejected unless `format: full`, where what is no JSON stands in base64 in "
        "`payload_base64`.",
    .options = WEIR_OPTIONS(file_options, struct file_config),
    .sink = &sink,
    .needs = file_needs,
    .traits = sink_traits,
    .open = file_open,
    .close = sink_close,
};

const struct weir_type type_stdout_sink = {
    .size = sizeof(type_stdout_sink),
    .kind = WEIR_SINK,
    .name = "stdout",
    .summary = "Writes an event a line to standard output.",
    .doc = "For trying things out, and for pipes to other programs. Lines as in sink `file`. When "
           "the reader goes away in the middle of a line, that line is ended and repeated.",
    .options = WEIR_OPTIONS(stdout_options, struct stdout_config),
    .sink = &sink,
    .needs = stdout_needs,
    .traits = sink_traits,
    .open = stdout_open,
    .close = sink_close,
};
