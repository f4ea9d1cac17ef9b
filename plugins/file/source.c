/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `file`: the lines of a file or of standard input, until its end.
 *
 * Lines are views into blocks (lines.c); this file opens the input, shares it out among lanes,
 * waits for standard input so that it can be woken, and makes events. A regular file with several
 * lanes is cut into as many ranges of bytes. It keeps no position: a new run starts at the
 * beginning, and redelivered lines have the same id (path and offset).
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_BYTES (1 << 20)
#define RETRY_NS (10 * WEIR_NS_PER_MS)

enum on_long { ON_LONG_ERROR, ON_LONG_SKIP };

static const char *const on_long_words[] = {"error", "skip", NULL};

struct config {
    struct weir_str path;
    int64_t max_line;
    int on_long;
};

struct source {
    const struct weir_host *h;
    const struct config *config;
    struct lines lines;
    struct weir_stream *stream;
    struct weir_str name; /* of the origin */
    char stdin_name[24];
    int fd;
    int wake_fd;
    bool waits;   /* reading may block: a pipe, a terminal */
    bool stopped; /* no new lines */
    bool ended;
    struct weir_metric *empty, *too_long;
    struct weir_error failed; /* told by the poll after the one that met it */
};

static const struct weir_option options[] = {
    {.name = "path",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct config, path),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The file to read, or `-` for standard input.",
     .example = "events.ndjson"},
    {.name = "max_line",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct config, max_line),
     .def = "16MiB",
     .min = 1,
     .max = 1 << 30,
     .doc = "The longest line that is taken.",
     .example = "1MiB"},
    {.name = "on_long",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, on_long),
     .def = "error",
     .choices = on_long_words,
     .doc = "What a line longer than `max_line` does: `error` ends the pipeline and names its "
            "offset, `skip` leaves it out, logs it and counts it.",
     .example = "skip"},
};

static bool is_stdin(struct weir_str path)
{
    return path.len == 1 && path.ptr[0] == '-';
}

/* ---- Opening --------------------------------------------------------------------------------- */

static enum weir_status open_input(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    const char *path = self->config->path.ptr;
    if (is_stdin(self->config->path)) {
        self->fd = STDIN_FILENO;
    } else {
        /* A named pipe without a writer would block here; it is waited for in poll instead. */
        self->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (self->fd < 0)
            return h->error(err, WEIR_E_CONFIG, "open_failed",
                            "cannot open \"%s\" to read it: %s; check option `path`", path,
                            strerror(errno));
    }
    struct stat st;
    if (fstat(self->fd, &st) != 0)
        return h->error(err, WEIR_E_CONFIG, "open_failed", "cannot read \"%s\": %s", path,
                        strerror(errno));
    if (S_ISDIR(st.st_mode))
        return h->error(err, WEIR_E_CONFIG, "is_folder",
                        "\"%s\" is a folder; option `path` needs one file", path);
    self->waits = !S_ISREG(st.st_mode);
    return WEIR_OK;
}

/* The size of a file as its first lane saw it, so that all lanes cut it at the same places. */
struct cut {
    void (*free)(void *take_p); /* the host that made it may be gone before it */
    int64_t size;
};

static void *cut_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct config *cf = config;
    struct stat st;
    struct cut *cut = h->alloc(sizeof(*cut));
    if (cut == NULL || stat(cf->path.ptr, &st) != 0) {
        if (cut != NULL)
            h->free(cut);
        h->error(err, WEIR_E_CONFIG, "open_failed", "cannot read the size of \"%s\": %s",
                 cf->path.ptr, strerror(errno));
        return NULL;
    }
    cut->free = h->free;
    cut->size = st.st_size;
    return cut;
}

static void cut_free(void *take_cut)
{
    struct cut *cut = take_cut;
    cut->free(cut);
}

/* Gives this lane its part. What cannot be cut belongs to the first lane. */
static enum weir_status take_part(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    if (h->count <= 1)
        return WEIR_OK;
    if (self->waits || self->fd == STDIN_FILENO) {
        self->ended = h->index > 0;
        return WEIR_OK;
    }
    const struct cut *cut = h->shared(h, cut_new, cut_free, err);
    if (cut == NULL)
        return err != NULL && err->status != WEIR_OK ? err->status : WEIR_E_NOMEM;
    int64_t part = cut->size / h->count;
    if (h->index + 1 < h->count)
        self->lines.limit = part * (h->index + 1);
    if (!lines_seek(&self->lines, part * h->index))
        return h->error(err, WEIR_E_CONFIG, "seek_failed", "cannot seek in \"%s\": %s",
                        self->config->path.ptr, strerror(errno));
    return WEIR_OK;
}

/* Standard input has no name that lasts: a random one keeps ids of different runs apart. */
static struct weir_str stdin_name(struct source *self)
{
    static const char head[] = "stdin-";
    char *p = self->stdin_name;
    memcpy(p, head, sizeof(head) - 1);
    p += sizeof(head) - 1;
    uint64_t r = self->h->random(self->h);
    for (int i = 0; i < 16; i++, r >>= 4)
        *p++ = "0123456789abcdef"[r & 15];
    return weir_str_n(self->stdin_name, (size_t)(p - self->stdin_name));
}

static void source_close(void *take_self)
{
    struct source *self = take_self;
    if (self == NULL)
        return;
    lines_done(&self->lines);
    if (self->fd > STDIN_FILENO)
        close(self->fd);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    self->h->free(self);
}

static struct weir_metric *skipped_counter(const struct weir_host *h, const char *reason)
{
    const char *labels[] = {"reason", reason, NULL};
    return h->counter(h, "file_skipped_lines_total", "Lines that became no event.", labels);
}

static enum weir_status source_setup(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0)
        return h->error(err, WEIR_E_FATAL, "eventfd", "cannot make an eventfd: %s",
                        strerror(errno));
    enum weir_status st = open_input(self, err);
    if (st != WEIR_OK)
        return st;
    if (!lines_init(&self->lines, h, self->fd, (size_t)self->config->max_line))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file reader");
    self->name = is_stdin(self->config->path) ? stdin_name(self) : self->config->path;
    self->empty = skipped_counter(h, "empty");
    self->too_long = skipped_counter(h, "too_long");
    return take_part(self, err);
}

static enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct source *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file source");
    self->h = h;
    self->config = config;
    self->fd = -1;
    self->wake_fd = -1;
    enum weir_status st = source_setup(self, err);
    if (st != WEIR_OK) {
        source_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

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

/* Waits for a wake-up and, where asked, for input. True where there is input, or its end. */
static bool wait_for(struct source *self, bool input, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = self->wake_fd, .events = POLLIN},
                            {.fd = self->fd, .events = POLLIN}};
    int n = poll(fds, input ? 2 : 1, timeout_ms(self->h, deadline_ns));
    if (n > 0 && fds[0].revents != 0) {
        uint64_t count;
        ssize_t got = read(self->wake_fd, &count, sizeof(count));
        (void)got; /* EAGAIN only: another poll has taken it */
    }
    return n > 0 && input && fds[1].revents != 0;
}

static void source_wake(void *self_)
{
    struct source *self = self_;
    const uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* One poll's work. */
struct filling {
    struct weir_batch *b;
    const struct weir_origin *origin;
    const struct block *attached; /* the block whose reference this batch has */
    size_t bytes;
    bool starved; /* memory is used up */
};

static bool attach_block(struct source *self, struct filling *f)
{
    struct lines *l = &self->lines;
    if (f->attached == l->block)
        return true;
    block_ref(l->block);
    /* The charge is what this batch may take of the block, so that batches share its size. */
    if (!self->h->batch_attach(f->b, block_unref, l->block, l->end - l->at + 1))
        return false;
    f->attached = l->block;
    return true;
}

static bool add_line(struct source *self, struct filling *f, const struct line *line)
{
    struct weir_event *ev = attach_block(self, f) ? self->h->event_add(f->b) : NULL;
    if (ev == NULL)
        return false;
    ev->payload = line->text;
    ev->origin = f->origin;
    ev->stream = self->stream;
    ev->position = line->offset;
    ev->next = line->next;
    f->bytes += line->text.len;
    return true;
}

/* False where the run is over because of it. */
static bool long_line(struct source *self)
{
    const struct weir_host *h = self->h;
    int64_t offset = self->lines.base + (int64_t)self->lines.at;
    if (self->config->on_long == ON_LONG_ERROR) {
        h->error(&self->failed, WEIR_E_FATAL, "line_too_long",
                 "the line at byte %lld of \"%s\" is longer than `max_line` (%lld bytes); raise "
                 "it, or set `on_long: skip` to leave such lines out",
                 (long long)offset, self->config->path.ptr, (long long)self->config->max_line);
        return false;
    }
    struct weir_kv kv[] = {weir_kv_str("path", self->name), weir_kv_i64("offset", offset),
                           weir_kv_i64("max_line", self->config->max_line)};
    h->log(h, WEIR_LOG_WARN, "line left out: longer than max_line", kv, 3);
    h->metric_add(self->too_long, 1);
    lines_skip(&self->lines);
    return true;
}

/* Reads on; false where there is nothing now, or ever. */
static bool read_on(struct source *self, bool have_events, int64_t deadline_ns)
{
    const struct weir_host *h = self->h;
    if (self->waits && !wait_for(self, true, have_events ? 0 : deadline_ns))
        return false;
    int error = lines_fill(&self->lines);
    if (error == 0)
        return true;
    if (error == EAGAIN || error == EWOULDBLOCK)
        return false;
    if (error == ENOMEM) { /* batches that are under way give memory back */
        if (!have_events)
            wait_for(self, false, h->now(h) + RETRY_NS);
        return false;
    }
    h->error(&self->failed, WEIR_E_FATAL, "read_failed", "cannot read \"%s\" at byte %lld: %s",
             self->config->path.ptr, (long long)(self->lines.base + (int64_t)self->lines.end),
             strerror(error));
    self->failed.number = error;
    return false;
}

/* Adds lines until the batch has enough, nothing is there, or the end. */
static void fill_batch(struct source *self, struct filling *f, uint32_t room, int64_t deadline_ns)
{
    uint64_t n_empty = 0;
    while (f->b->n_events < room && f->bytes < POLL_BYTES) {
        struct line line;
        enum line_result result = lines_next(&self->lines, &line);
        if (result == LINE_OK) {
            if (!add_line(self, f, &line)) {
                lines_back(&self->lines, &line); /* no memory: the same line again later */
                f->starved = true;
                break;
            }
        } else if (result == LINE_EMPTY) {
            n_empty++;
        } else if (result == LINE_TOO_LONG) {
            if (!long_line(self))
                break;
        } else if (result == LINE_END) {
            self->ended = true;
            break;
        } else if (!read_on(self, f->b->n_events > 0, deadline_ns)) {
            break;
        }
    }
    self->h->metric_add(self->empty, n_empty);
}

static enum weir_status open_stream(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    struct weir_origin origin = {self->name, h->count > 1 ? (int32_t)h->index : -1};
    self->stream = h->stream_open(h, &origin, NULL);
    if (self->stream == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file's stream");
    return WEIR_OK;
}

static enum weir_status source_poll(void *self_, struct weir_batch *b, uint32_t room,
                                    int64_t deadline_ns, struct weir_error *err)
{
    struct source *self = self_;
    const struct weir_host *h = self->h;
    if (self->failed.status != WEIR_OK) {
        if (err != NULL)
            *err = self->failed;
        return self->failed.status;
    }
    if (self->stopped || self->ended)
        return WEIR_END;
    if (self->stream == NULL && open_stream(self, err) != WEIR_OK)
        return WEIR_E_NOMEM;
    if (room == 0) {
        wait_for(self, false, deadline_ns);
        return WEIR_AGAIN;
    }
    struct weir_origin *origin = h->arena_alloc(b->arena, sizeof(*origin));
    if (origin == NULL) {
        wait_for(self, false, h->now(h) + RETRY_NS);
        return WEIR_AGAIN;
    }
    *origin = (struct weir_origin){h->arena_copy(b->arena, self->name),
                                   h->count > 1 ? (int32_t)h->index : -1};
    struct filling f = {.b = b, .origin = origin};
    fill_batch(self, &f, room, deadline_ns);
    if (f.starved && b->n_events == 0)
        wait_for(self, false, h->now(h) + RETRY_NS);
    return b->n_events > 0 ? WEIR_OK : WEIR_AGAIN;
}

/* Nothing is kept: a file is read once, from its beginning to its end. */
static void source_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self;
    (void)s;
    (void)user;
    (void)next;
    (void) final;
}

static void source_stop(void *self_)
{
    struct source *self = self_;
    self->stopped = true;
}

static const struct weir_source source = {
    .size = sizeof(source),
    .poll = source_poll,
    .wake = source_wake,
    .commit = source_commit,
    .stop = source_stop,
};

const struct weir_type type_file_source = {
    .size = sizeof(type_file_source),
    .kind = WEIR_SOURCE,
    .name = "file",
    .summary = "The lines of a file or of standard input, until its end.",
    .doc = "Each line is an event: one JSON value a line (NDJSON), or any text with `codec: raw`. "
           "Lines end with LF or CRLF, the last one may end with the file; empty lines and a byte "
           "order mark at the start are left out. The pipeline ends when the file does.\n\n"
           "With `lanes: N` a regular file is cut into N ranges that are read side by side; the "
           "order of its lines is then lost. A run begins at the start of the file; ids are made "
           "of path and offset, so a second run gives the same ones. Standard input gets a new "
           "name each run.",
    .options = WEIR_OPTIONS(options, struct config),
    .source = &source,
    .open = source_open,
    .close = source_close,
};
