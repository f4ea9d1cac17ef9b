/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `file`: the lines of files or of standard input, until their end or for ever.
 *
 * Lines are views into blocks (lines.c); this file has the options, opens, waits so that it can be
 * woken, and makes events. A plain run over one file keeps no position: it starts at the beginning,
 * with several lanes as many ranges of bytes, and redelivered lines have the same id (path and
 * offset). With several files, `follow` or `state` there are places (places.c): how far each file
 * is delivered, and ids of their own for each content that a path ever had.
 */
#include "source.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_NS (10 * WEIR_NS_PER_MS)
#define POLL_INTERVAL_NS WEIR_NS_PER_S /* as the options' table has them */
#define ROTATE_WAIT_NS (5 * WEIR_NS_PER_S)

static const char *const on_long_words[] = {"error", "skip", "reject", NULL};
static const char *const start_words[] = {"beginning", "end", NULL};
static const char *const compression_words[] = {"auto", "none", "gzip", NULL};

static const struct weir_option options[] = {
    {.name = "path",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_PATH,
     .offset = offsetof(struct source_config, path),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The files to read, also as patterns with `*`, `?` and `[a-z]`, or `-` for standard "
            "input.",
     .example = "[events.ndjson, \"logs/*.ndjson\"]"},
    {.name = "exclude",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct source_config, exclude),
     .doc = "Patterns of names that are left out; with a `/` in it, of whole paths.",
     .example = "[\"*.tmp\"]"},
    {.name = "follow",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct source_config, follow),
     .def = "false",
     .doc =
         "Go on at the end: with what is appended, through rotation and truncation, and with new "
         "files; the pipeline ends only when it is told to.",
     .example = "true"},
    {.name = "state",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct source_config, state),
     .doc =
         "A file in which positions are kept, so that the next run goes on where this one ended.",
     .example = "/var/lib/weir/events.state"},
    {.name = "start",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, start),
     .def = "beginning",
     .choices = start_words,
     .doc = "Where to begin in files that are there at the first start; later ones are always read "
            "from their beginning. With `state` a start is the first one until that file is there.",
     .example = "end"},
    {.name = "compression",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, compression),
     .def = "auto",
     .choices = compression_words,
     .doc = "`gzip` unpacks; `auto` does where a file begins as gzip does (of standard input and "
            "pipes it cannot see that).",
     .example = "gzip"},
    {.name = "max_line",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct source_config, max_line),
     .def = "16MiB",
     .min = 1,
     .max = 1 << 30,
     .doc = "The longest line that is taken.",
     .example = "1MiB"},
    {.name = "on_long",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, on_long),
     .def = "error",
     .choices = on_long_words,
     .doc = "What a line longer than `max_line` does: `error` ends the pipeline and names its "
            "offset, `skip` leaves it out, logs it and counts it, `reject` gives its first 4 KiB "
            "and its position to the dead letter (without one, that ends the pipeline).",
     .example = "reject"},
    {.name = "poll_interval",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, poll_interval_ns),
     .def = "1s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc =
         "With `follow`: how often to look for new files and data where the system does not tell "
         "(inotify), as on a network's file system.",
     .example = "5s"},
    {.name = "rotate_wait",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, rotate_wait_ns),
     .def = "5s",
     .min = 0,
     .max = 3600 * WEIR_NS_PER_S,
     .doc =
         "With `follow`: how long a file that was renamed away or deleted is still read after its "
         "last data.",
     .example = "30s"},
};

static bool is_stdin(const char *path)
{
    return path[0] == '-' && path[1] == '\0';
}

static const char *first_path(const struct source_config *cf)
{
    return ((const struct weir_str *)cf->path.items)[0].ptr;
}

static bool is_plain(const struct source_config *cf)
{
    return cf->path.n == 1 && !cf->follow && cf->state.len == 0 && !is_pattern(first_path(cf));
}

/* ---- check ----------------------------------------------------------------------------------- */

static void check_stdin(const struct source_config *cf, const struct weir_report *report)
{
    if (cf->path.n > 1)
        report->error(report, "path", -1, "`-` (standard input) cannot stand beside other paths");
    if (cf->follow)
        report->error(report, "follow", -1,
                      "standard input is read to its end as it comes: take `follow` away");
    if (cf->state.len != 0)
        report->error(report, "state", -1,
                      "standard input has no position that could be kept: take `state` away");
}

static void source_check(const void *config, const struct weir_report *report)
{
    const struct source_config *cf = config;
    const struct weir_str *paths = cf->path.items;
    for (uint32_t i = 0; i < cf->path.n; i++) {
        if (is_stdin(paths[i].ptr))
            check_stdin(cf, report);
        else if (cf->state.len != 0 && strcmp(paths[i].ptr, cf->state.ptr) == 0)
            report->error(report, "state", -1, "`state` names a file that is read: \"%s\"",
                          cf->state.ptr);
        if (paths[i].len == 0)
            report->error(report, "path", -1, "an empty path names no file");
    }
    if (cf->start == START_END && !cf->follow)
        report->error(report, "start", -1,
                      "`start: end` without `follow: true` would read nothing at all");
    if (!cf->follow && cf->poll_interval_ns != POLL_INTERVAL_NS)
        report->warning(report, "poll_interval", -1, "it is of no effect without `follow: true`");
    if (!cf->follow && cf->rotate_wait_ns != ROTATE_WAIT_NS)
        report->warning(report, "rotate_wait", -1, "it is of no effect without `follow: true`");
    if (cf->follow && cf->state.len == 0)
        report->warning(report, "follow", -1,
                        "without `state` no position is kept: a restart begins at `start` again");
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Of a plain run: its one file. */
static enum weir_status open_input(struct source *self, int *ret_fd, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    const char *path = first_path(self->config);
    int fd = STDIN_FILENO;
    /* A named pipe without a writer would block here; it is waited for in poll instead. */
    if (!is_stdin(path))
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return h->error(err, WEIR_E_CONFIG, "open_failed",
                        "cannot open \"%s\" to read it: %s; check option `path`", path,
                        strerror(errno));
    *ret_fd = fd;
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) != 0 || flags < 0 || (flags & O_ACCMODE) == O_WRONLY)
        return h->error(err, WEIR_E_CONFIG, "open_failed", "cannot read \"%s\": %s", path,
                        is_stdin(path) ? "standard input is closed" : strerror(errno));
    if (S_ISDIR(st.st_mode))
        return h->error(err, WEIR_E_CONFIG, "is_folder",
                        "\"%s\" is a folder; option `path` needs files, such as \"%s/*\"", path,
                        path);
    self->waits = !S_ISREG(st.st_mode);
    return WEIR_OK;
}

/* With follow a file may come later; without, each one that is named must be there. */
static enum weir_status check_paths(const struct source *self, struct weir_error *err)
{
    const struct weir_str *paths = self->config->path.items;
    for (uint32_t i = 0; i < self->config->path.n; i++) {
        struct stat st;
        const char *path = paths[i].ptr;
        if (is_pattern(path))
            continue;
        if (stat(path, &st) != 0 && (errno != ENOENT || !self->config->follow))
            return self->h->error(err, WEIR_E_CONFIG, "open_failed",
                                  "cannot open \"%s\" to read it: %s; check option `path`", path,
                                  strerror(errno));
        if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
            return self->h->error(
                err, WEIR_E_CONFIG, S_ISDIR(st.st_mode) ? "is_folder" : "not_a_file",
                S_ISDIR(st.st_mode) ? "\"%s\" is a folder; option `path` needs files, such as "
                                      "\"%s/*\""
                                    : "\"%s\" is not a regular file: without `follow` and `state`, "
                                      "and alone, it could be read",
                path, path);
    }
    return WEIR_OK;
}

/* The size of a file as its first lane saw it, so that all lanes cut it at the same places. */
struct cut {
    void (*free)(void *take_p); /* the host that made it may be gone before it */
    int64_t size;
};

static void *cut_new(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const char *path = first_path(config);
    struct stat st;
    struct cut *cut = h->alloc(sizeof(*cut));
    if (cut == NULL || stat(path, &st) != 0) {
        if (cut != NULL)
            h->free(cut);
        h->error(err, WEIR_E_CONFIG, "open_failed", "cannot read the size of \"%s\": %s", path,
                 strerror(errno));
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
static enum weir_status take_part(struct source *self, struct input *in, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    if (h->count <= 1)
        return WEIR_OK;
    if (self->waits || in->fd == STDIN_FILENO || in->unzip != NULL) {
        if (h->index > 0)
            input_finish(self, in);
        return WEIR_OK;
    }
    const struct cut *cut = h->shared(h, cut_new, cut_free, err);
    if (cut == NULL)
        return err != NULL && err->status != WEIR_OK ? err->status : WEIR_E_NOMEM;
    int64_t part = cut->size / h->count;
    if (h->index + 1 < h->count)
        in->lines.limit = part * (h->index + 1);
    if (!lines_seek(&in->lines, part * h->index))
        return h->error(err, WEIR_E_CONFIG, "seek_failed", "cannot seek in \"%s\": %s",
                        in->path.ptr, strerror(errno));
    return WEIR_OK;
}

/* Standard input has no name that lasts: a random one keeps ids of different runs apart. */
static const char *stdin_name(struct source *self)
{
    static const char head[] = "stdin-";
    char *p = self->stdin_name;
    memcpy(p, head, sizeof(head) - 1);
    p += sizeof(head) - 1;
    uint64_t r = self->h->random(self->h);
    for (int i = 0; i < 16; i++, r >>= 4)
        *p++ = "0123456789abcdef"[r & 15];
    *p = '\0';
    return self->stdin_name;
}

static enum weir_status setup_plain(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    const char *path = first_path(self->config);
    int fd = -1;
    enum weir_status st = open_input(self, &fd, err);
    if (st != WEIR_OK) {
        if (fd > STDERR_FILENO)
            close(fd);
        return st;
    }
    self->inputs = input_new(self, fd, is_stdin(path) ? stdin_name(self) : path);
    if (self->inputs == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file reader");
    self->n_inputs = 1;
    int error = input_unpack(self, self->inputs);
    if (error != 0)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "cannot unpack \"%s\": %s", path,
                        strerror(error));
    return take_part(self, self->inputs, err);
}

/* Of all lanes. */
static void *open_places(const struct weir_host *h, const void *config, struct weir_error *err)
{
    const struct source_config *cf = config;
    struct places *p = places_open(h, cf->state, err);
    if (p != NULL && cf->start == START_END)
        places_hold(p, h->count > 1 ? h->count : 1);
    return p;
}

static void close_places(void *take_places)
{
    places_close(take_places);
}

static enum weir_status setup_places(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    enum weir_status st = check_paths(self, err);
    if (st != WEIR_OK)
        return st;
    self->places = h->shared(h, open_places, close_places, err);
    if (self->places == NULL)
        return err != NULL && err->status != WEIR_OK ? err->status : WEIR_E_NOMEM;
    if (self->config->follow)
        self->watch_fd = watch_open();
    if (self->config->follow && self->watch_fd < 0)
        h->log(h, WEIR_LOG_INFO, "no inotify: looking for new data by poll_interval", NULL, 0);
    return WEIR_OK;
}

static void source_close(void *take_self)
{
    struct source *self = take_self;
    if (self == NULL)
        return;
    const struct weir_host *h = self->h;
    if (self->places != NULL)
        places_save(self->places, h, true);
    for (struct input *in = self->inputs, *next; in != NULL; in = next) {
        next = in->next;
        if (in->place != NULL)
            places_release(self->places, in->place);
        input_free(self, in);
    }
    for (size_t i = 0; i < self->n_queue; i++)
        h->free(self->queue[i]);
    h->free(self->queue);
    pool_close(self->pool);
    if (self->watch_fd >= 0)
        close(self->watch_fd);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    h->free(self);
}

static struct weir_metric *skipped_counter(const struct weir_host *h, const char *reason)
{
    const char *labels[] = {"reason", reason, NULL};
    return h->counter(h, "file_skipped_lines_total",
                      "Lines left out, and too long ones that were rejected.", labels);
}

static void make_metrics(struct source *self)
{
    const struct weir_host *h = self->h;
    self->empty = skipped_counter(h, "empty");
    self->too_long = skipped_counter(h, "too_long");
    if (self->plain)
        return;
    char lane[12];
    (void)snprintf(lane, sizeof(lane), "%u", h->index);
    const char *labels[] = {"lane", lane, NULL};
    self->open = h->gauge(h, "file_open", "Files that are read.", labels);
    self->truncated = h->counter(h, "file_truncated_total", "Files truncated while read.", NULL);
    self->unreadable =
        h->counter(h, "file_unreadable_total", "Files that could not be opened or read.", NULL);
}

static enum weir_status source_setup(struct source *self, struct weir_error *err)
{
    const struct weir_host *h = self->h;
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0)
        return h->error(err, WEIR_E_FATAL, "eventfd", "cannot make an eventfd: %s",
                        strerror(errno));
    self->pool = pool_new(h);
    if (self->pool == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file reader");
    self->plain = is_plain(self->config);
    make_metrics(self);
    return self->plain ? setup_plain(self, err) : setup_places(self, err);
}

static enum weir_status source_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    struct source *self = h->alloc(sizeof(*self));
    if (self == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the file source");
    self->h = h;
    self->config = config;
    self->wake_fd = -1;
    self->watch_fd = -1;
    enum weir_status st = source_setup(self, err);
    if (st != WEIR_OK) {
        source_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

bool wait_for(struct source *self, int fd, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = self->wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int n = poll(fds, 2, poll_timeout_ms(self->h, deadline_ns));
    if (n > 0 && fds[0].revents != 0) {
        uint64_t count;
        ssize_t got = read(self->wake_fd, &count, sizeof(count));
        (void)got; /* EAGAIN only: another poll has taken it */
        self->woken = true;
    }
    return n > 0 && fds[1].revents != 0;
}

static void source_wake(void *self_)
{
    struct source *self = self_;
    const uint64_t one = 1;
    ssize_t n = write(self->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

/* ---- Polls ----------------------------------------------------------------------------------- */

static void seen(void *arg, int wd)
{
    struct source *self = arg;
    bool file = false;
    for (struct input *in = self->inputs; in != NULL; in = in->next) {
        if (in->wd == wd && wd >= 0)
            in->ready = file = true;
    }
    self->scan_now = self->scan_now || !file; /* a folder, or nobody knows */
}

/* Follows files that have gone to their end, once nothing has come for a while. */
static void let_go(struct source *self, int64_t now_ns)
{
    for (struct input *in = self->inputs; in != NULL; in = in->next) {
        if (in->over || in->gone_ns == 0 || !(in->at_end || in->place == NULL))
            continue;
        int64_t since_ns = in->gone_ns > in->moved_ns ? in->gone_ns : in->moved_ns;
        if (now_ns - since_ns < self->config->rotate_wait_ns)
            continue;
        if (in->place == NULL || !in->lines.follow) {
            input_finish(self, in);
            continue;
        }
        in->lines.follow = false; /* its last line may have no end */
        in->ready = true;
    }
}

/* Files that came, went and ended. False where there is nothing to read any more. */
static bool tend(struct source *self)
{
    if (self->plain)
        return !self->inputs->over;
    watch_read(self->watch_fd, seen, self);
    inputs_settle(self);
    bool more = self->config->follow;
    if (self->config->follow) {
        (void)scan(self);
        let_go(self, self->h->now(self->h));
    }
    for (struct input *in = self->inputs; in != NULL && !self->config->follow; in = in->next) {
        in->ready = !in->over;
        more = more || in->ready;
    }
    more = more || scan_next(self);
    places_save(self->places, self->h, false);
    return more;
}

/* Nothing was there: until something may be. */
static void wait_for_more(struct source *self, int64_t deadline_ns)
{
    int64_t until_ns = scan_due(self);
    bool ready = false;
    for (const struct input *in = self->inputs; in != NULL; in = in->next)
        ready = ready || in->ready;
    if (!ready)
        (void)wait_for(self, self->watch_fd, until_ns < deadline_ns ? until_ns : deadline_ns);
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
    if (self->stopped || !tend(self))
        return WEIR_END;
    if (room == 0) {
        (void)wait_for(self, -1, deadline_ns);
        return WEIR_AGAIN;
    }
    self->woken = false;
    struct filling f = {.b = b, .deadline_ns = deadline_ns};
    fill_batch(self, &f, room);
    if (b->n_events > 0)
        return WEIR_OK;
    if (f.starved)
        (void)wait_for(self, -1, h->now(h) + RETRY_NS);
    else if (self->config->follow)
        wait_for_more(self, deadline_ns);
    return WEIR_AGAIN;
}

static void source_commit(void *self_, struct weir_stream *s, void *user, int64_t next, bool final)
{
    struct source *self = self_;
    (void)s;
    (void) final; /* close writes the state file */
    if (user != NULL)
        places_commit(self->places, user, next);
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
    .summary = "The lines of files or of standard input, to their end or following them.",
    .doc =
        "Each line is an event: one JSON value a line (NDJSON), or any text with `codec: raw`. "
        "Lines end with LF or CRLF, the last one may end with the file; empty lines and a byte "
        "order mark at the start are left out. The pipeline ends when the files do, unless "
        "`follow: true`.\n\n"
        "With `follow` a line is taken when its end is there. A file that is renamed or deleted "
        "(rotation) is read to its end, and the new one of its name from its beginning; one that "
        "is "
        "truncated (`copytruncate`) is read again from its start. What a pattern finds later is "
        "read from its beginning. Where it finds the rotated copies as well, they are not read "
        "twice: the copy that `copytruncate` leaves, and a file that was packed with gzip, go on "
        "where the original was; they are known by the first and the last 256 bytes that were read "
        "of it. For that a new file that begins as one that is still read is left alone for 10 s, "
        "a "
        "gzip file for 60 s. gzip files are read once.\n\n"
        "With `state` the position of every file (device, inode, hash of its first bytes, offset) "
        "is written every second and at the end, never past an event that has not ended: each line "
        "is delivered at least once over restarts. The state file is replaced as a whole.\n\n"
        "With `lanes: N` several files are shared out among the lanes. One regular file alone, "
        "without `follow` and `state`, is cut into N ranges that are read side by side; the order "
        "of its lines is then lost.\n\n"
        "Ids are made of path and offset, so a second run gives the same ones; with `follow` or "
        "`state` of a number that the file got when it was found, and the offset, so that what "
        "comes to stand at the same place later has another id. Standard input gets a new name "
        "each "
        "run.",
    .options = WEIR_OPTIONS(options, struct source_config),
    .source = &source,
    .check = source_check,
    .open = source_open,
    .close = source_close,
};
