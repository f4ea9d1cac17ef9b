/* SPDX-License-Identifier: Apache-2.0
 *
 * One file that is read; see source.h. A file that is truncated under a follower ends as one
 * content and begins as another: the old one's events go on to their end by themselves, the new one
 * has ids and a position of its own.
 */
#include "source.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct input *input_new(struct source *self, int take_fd, const char *path)
{
    const struct weir_host *h = self->h;
    size_t len = strlen(path);
    struct input *in = h->alloc(sizeof(*in) + len + 1);
    if (in == NULL) {
        if (take_fd > STDERR_FILENO)
            close(take_fd);
        return NULL;
    }
    char *copy = (char *)(in + 1);
    memcpy(copy, path, len + 1);
    in->path = weir_str_n(copy, len);
    in->fd = take_fd;
    in->wd = -1;
    in->done = -1;
    in->limit = INT64_MAX;
    in->ready = true;
    lines_init(&in->lines, h, self->pool, take_fd, (size_t)self->config->max_line);
    return in;
}

static void close_file(struct source *self, struct input *in)
{
    lines_done(&in->lines);
    self->h->free(in->too_long.text);
    in->too_long = (struct long_line){0};
    unzip_free(in->unzip);
    in->unzip = NULL;
    if (in->wd >= 0)
        watch_forget(self->watch_fd, in->wd);
    in->wd = -1;
    if (in->fd > STDERR_FILENO)
        close(in->fd);
    in->fd = -1;
}

void input_free(struct source *self, struct input *take_in)
{
    close_file(self, take_in);
    self->h->free(take_in);
}

/* ---- Beginning ------------------------------------------------------------------------------- */

static bool looks_packed(int fd)
{
    unsigned char magic[3];
    return pread(fd, magic, 3, 0) == 3 && magic[0] == 0x1f && magic[1] == 0x8b && magic[2] == 8;
}

int input_unpack(struct source *self, struct input *in)
{
    int how = self->config->compression;
    if (how == COMPRESSION_NONE || (how == COMPRESSION_AUTO && !looks_packed(in->fd)))
        return 0;
    in->unzip = unzip_new(self->h, in->fd);
    if (in->unzip == NULL)
        return ENOMEM;
    unzip_limit(in->unzip, in->limit);
    in->lines.limit = INT64_MAX;
    in->lines.read = unzip_read;
    in->lines.read_arg = in->unzip;
    return 0;
}

void input_limit(struct input *in, int64_t n_bytes)
{
    in->limit = n_bytes;
    if (in->unzip != NULL)
        unzip_limit(in->unzip, n_bytes);
    else
        in->lines.limit = n_bytes;
}

/* The first bytes of what is inside; the descriptor goes back to its start. */
static int unpacked_head(const struct input *in, struct looks *ret)
{
    struct unzip *u = unzip_new(in->lines.h, in->fd);
    ssize_t n = 1;
    if (u == NULL)
        return ENOMEM;
    while (ret->head_len < HEAD_MAX && n > 0) {
        n = unzip_read(u, (char *)ret->head + ret->head_len, HEAD_MAX - ret->head_len);
        ret->head_len += n > 0 ? (uint32_t)n : 0;
    }
    ret->unfinished = n < 0 && errno == ENODATA;
    unzip_free(u);
    return lseek(in->fd, 0, SEEK_SET) == 0 ? 0 : errno;
}

int stat_looks(int fd, const char *path, struct looks *ret, mode_t *ret_mode)
{
    struct statx st;
    const unsigned mask = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_BTIME;
    if (statx(fd, path, path[0] == '\0' ? AT_EMPTY_PATH : 0, mask, &st) != 0)
        return errno;
    ret->dev = (uint64_t)makedev(st.stx_dev_major, st.stx_dev_minor);
    ret->ino = st.stx_ino;
    ret->size = (int64_t)st.stx_size;
    ret->born_ns = 0;
    if ((st.stx_mask & STATX_BTIME) != 0)
        ret->born_ns = st.stx_btime.tv_sec * WEIR_NS_PER_S + st.stx_btime.tv_nsec;
    ret->head_len = 0;
    ret->unpacked = false;
    ret->unfinished = false;
    *ret_mode = st.stx_mode;
    return 0;
}

int input_looks(const struct input *in, struct looks *ret)
{
    mode_t mode;
    int error = stat_looks(in->fd, "", ret, &mode);
    if (error != 0)
        return error;
    ret->unpacked = in->unzip != NULL;
    if (ret->unpacked)
        return unpacked_head(in, ret);
    ssize_t n = pread(in->fd, ret->head, HEAD_MAX, 0);
    if (n < 0)
        return errno;
    ret->head_len = (uint32_t)n;
    return 0;
}

static int64_t count_lines(const char *ptr, size_t len)
{
    int64_t n = 0;
    for (const char *at = ptr, *end = ptr + len;
         (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        n++;
    return n;
}

/* Goes over bytes, and counts the lines in them where ret_lines is not NULL. 0, an errno value, or
 * ESPIPE where there are not so many. */
static int skip_unpacked(struct unzip *u, int64_t n_bytes, int64_t *ret_lines)
{
    char skipped[4096];
    for (int64_t left = n_bytes; left > 0;) {
        size_t want = left < (int64_t)sizeof(skipped) ? (size_t)left : sizeof(skipped);
        ssize_t n = unzip_read(u, skipped, want);
        if (n <= 0)
            return n < 0 ? errno : ESPIPE;
        if (ret_lines != NULL)
            *ret_lines += count_lines(skipped, (size_t)n);
        left -= n;
    }
    return 0;
}

/* The same of a file that is not packed. */
static int skip_counted(int fd, int64_t n_bytes, int64_t *ret_lines)
{
    char block[16384];
    for (int64_t at = 0; at < n_bytes;) {
        int64_t left = n_bytes - at;
        ssize_t n = pread(fd, block, left < (int64_t)sizeof(block) ? (size_t)left : sizeof(block),
                          (off_t)at);
        if (n <= 0)
            return n < 0 ? errno : ESPIPE;
        *ret_lines += count_lines(block, (size_t)n);
        at += n;
    }
    return 0;
}

static int unpacked_tail(const struct input *in, int64_t from, unsigned char *ret, uint32_t len,
                         uint32_t *ret_len)
{
    struct unzip *u = lseek(in->fd, 0, SEEK_SET) == 0 ? unzip_new(in->lines.h, in->fd) : NULL;
    ssize_t n = 1;
    if (u == NULL)
        return ENOMEM;
    int error = skip_unpacked(u, from, NULL);
    while (error == 0 && *ret_len < len && n > 0) {
        n = unzip_read(u, (char *)ret + *ret_len, len - *ret_len);
        *ret_len += n > 0 ? (uint32_t)n : 0;
        error = n < 0 ? errno : 0;
    }
    unzip_free(u);
    return lseek(in->fd, 0, SEEK_SET) == 0 ? error : errno;
}

int input_tail(const struct input *in, int64_t at, unsigned char *ret, uint32_t *ret_len)
{
    int64_t from = at > HEAD_MAX ? at - HEAD_MAX : 0;
    uint32_t len = (uint32_t)(at - from);
    *ret_len = 0;
    if (in->unzip != NULL)
        return unpacked_tail(in, from, ret, len, ret_len);
    ssize_t n = pread(in->fd, ret, len, (off_t)from);
    if (n < 0)
        return errno;
    *ret_len = (uint32_t)n;
    return 0;
}

int input_begin(struct input *in, int64_t offset, bool count)
{
    int64_t n_lines = 0;
    int error = 0;
    if (in->unzip != NULL)
        error = skip_unpacked(in->unzip, offset, count ? &n_lines : NULL);
    else if (count)
        error = skip_counted(in->fd, offset, &n_lines);
    lines_begin(&in->lines, offset, n_lines);
    if (error != 0 || in->unzip != NULL)
        return error;
    return lseek(in->fd, (off_t)offset, SEEK_SET) == (off_t)offset ? 0 : errno;
}

int64_t input_last_line(const struct input *in)
{
    const int64_t max_line = (int64_t)in->lines.max_line;
    char tail[4096];
    struct stat st;
    if (fstat(in->fd, &st) != 0)
        return 0;
    int64_t size = (int64_t)st.st_size, end = size;
    while (end > 0 && size - end <= max_line) {
        int64_t from = end > (int64_t)sizeof(tail) ? end - (int64_t)sizeof(tail) : 0;
        ssize_t n = pread(in->fd, tail, (size_t)(end - from), (off_t)from);
        const char *newline = n > 0 ? memrchr(tail, '\n', (size_t)n) : NULL;
        if (newline != NULL)
            return from + (newline + 1 - tail);
        if (n <= 0)
            break;
        end = from;
    }
    return end == 0 ? 0 : size;
}

/* ---- Truncation ------------------------------------------------------------------------------ */

static void log_truncated(struct source *self, const struct input *in, int64_t size)
{
    const struct lines *l = &in->lines;
    struct weir_kv kv[] = {
        weir_kv_str("path", in->path),
        weir_kv_i64("size", size),
        weir_kv_i64("read", l->base + (int64_t)l->end),
        weir_kv_i64("unfinished_bytes", (int64_t)(l->end - l->at)),
    };
    self->h->log(self->h, WEIR_LOG_INFO, "file truncated: reading from its start", kv, 4);
    self->h->metric_add(self->truncated, 1);
}

bool input_check(struct source *self, struct input *in)
{
    struct looks looks;
    const struct lines *l = &in->lines;
    struct stat st;
    if (self->plain)
        return true;
    if (in->place == NULL && !identify(self, in))
        return false;
    if (!in->at_end || in->unzip != NULL)
        return true;
    if (fstat(in->fd, &st) != 0)
        return false;
    int64_t at = l->base + (int64_t)l->end;
    if ((int64_t)st.st_size == at)
        return !in->lines.follow; /* its last, unfinished line is asked for */
    if ((int64_t)st.st_size > at &&
        (input_looks(in, &looks) != 0 || places_same(self->places, in->place, &looks)))
        return true;
    log_truncated(self, in, (int64_t)st.st_size);
    places_gone(self->places, self->h, in->place);
    input_finish(self, in);
    self->scan_now = true; /* which finds it as a new one */
    return false;
}

/* ---- The end --------------------------------------------------------------------------------- */

void input_finish(struct source *self, struct input *in)
{
    if (in->over)
        return;
    close_file(self, in);
    in->over = true;
    in->ready = false;
}

/* Without events that failed, everything of it is done. */
static void settle(struct source *self, struct input *in)
{
    if (in->stream != NULL)
        self->h->stream_close(in->stream);
    if (in->place == NULL)
        return;
    if (in->done >= 0 && (in->stream == NULL || in->place->offset >= in->last_next))
        places_done(self->places, in->place, in->done);
    places_release(self->places, in->place);
}

void inputs_settle(struct source *self)
{
    for (struct input **at = &self->inputs, *in; (in = *at) != NULL;) {
        if (!in->over || (in->stream != NULL && self->h->stream_pending(in->stream) != 0)) {
            at = &in->next;
            continue;
        }
        settle(self, in);
        *at = in->next;
        self->n_inputs--;
        input_free(self, in);
    }
    self->h->metric_set(self->open, (double)self->n_inputs);
}
