/* SPDX-License-Identifier: Apache-2.0
 *
 * Source `file`: the lines of files or of standard input, until their end or for ever.
 *
 * Lines are views into blocks (lines.c); this file opens, and waits so that it can be woken. A
 * plain run over one file keeps no position: it starts at the beginning, with several lanes as many
 * ranges of bytes, and redelivered lines have the same id (path and offset). With several files,
 * `follow` or `state` there are places (places.c): how far each file is delivered, and ids of their
 * own for each content that a path ever had.
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

static bool is_plain(const struct source_config *cf)
{
    return cf->path.n == 1 && !cf->follow && cf->state.len == 0 && !is_pattern(first_path(cf));
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
    if (self->config->line_header.len != 0)
        return h->error(err, WEIR_E_CONFIG, "line_header",
                        "option `line_header` needs `lanes: 1`: a lane that begins in the middle "
                        "of a file knows no line's number");
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
    struct stat as_found;
    if (self->config->grown == GROWN_LEAVE && !self->waits && fstat(fd, &as_found) == 0)
        input_limit(self->inputs, (int64_t)as_found.st_size);
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
    if (p != NULL && cf->start_over)
        places_start_over(p);
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

void file_source_close(void *take_self)
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
        h->free(self->queue[i].path);
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

enum weir_status file_source_open(const struct weir_host *h, const void *config, void **ret_self,
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
        file_source_close(self);
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

const struct weir_source file_source_calls = {
    .size = sizeof(file_source_calls),
    .poll = source_poll,
    .wake = source_wake,
    .commit = source_commit,
    .stop = source_stop,
};
