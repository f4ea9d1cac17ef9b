/* SPDX-License-Identifier: Apache-2.0
 *
 * One file that is written; see target.h.
 *
 * A rotated file gets the time into its name ("out.20260131T120000Z.ndjson"), with a number where
 * that name is taken: nothing is ever overwritten. A file that somebody renamed or deleted is left,
 * and a new one begun: that is what logrotate does.
 */
#include "target.h"

#include "unzip.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NUMBER_MAX 10000
#define STAMP_LEN 16 /* 20260131T120000Z */

/* ---- Names ----------------------------------------------------------------------------------- */

static char *join(const struct weir_host *h, const char *a, size_t a_len, const char *b)
{
    size_t b_len = strlen(b);
    char *text = h->alloc(a_len + b_len + 1);
    if (text == NULL)
        return NULL;
    memcpy(text, a, a_len);
    memcpy(text + a_len, b, b_len + 1);
    return text;
}

/* Bytes of the path before its endings: "logs/out" of "logs/out.ndjson.gz". */
static size_t stem_len(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const char *dot = name[0] != '\0' ? strchr(name + 1, '.') : NULL;
    return dot != NULL ? (size_t)(dot - path) : strlen(path);
}

static void make_stamp(int64_t wall_ns, char stamp[STAMP_LEN + 1])
{
    time_t s = (time_t)(wall_ns / WEIR_NS_PER_S);
    struct tm tm;
    stamp[0] = '\0';
    if (gmtime_r(&s, &tm) != NULL)
        (void)strftime(stamp, STAMP_LEN + 1, "%Y%m%dT%H%M%SZ", &tm);
}

/* Renames to a name that is free. 0 or an errno value. */
static int rename_free(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    if (access(to, F_OK) == 0) /* a file system without that call */
        return EEXIST;
    return rename(from, to) == 0 ? 0 : errno;
}

/* Gives the written file a name with the time in it. 0 or an errno value. */
static int rename_stamped(struct target *t)
{
    char stamp[STAMP_LEN + 1];
    size_t stem = stem_len(t->path), max = strlen(t->path) + STAMP_LEN + 16;
    char *name = t->h->alloc(max);
    int error = EEXIST;
    if (name == NULL)
        return ENOMEM;
    make_stamp(t->h->wall(t->h), stamp);
    if (strcmp(t->stamp, stamp) != 0)
        t->n_stamp = 0; /* else on from there: a name is not used again though its file is gone */
    memcpy(t->stamp, stamp, sizeof(stamp));
    while (t->n_stamp < NUMBER_MAX && error == EEXIST) {
        char number[16] = "";
        int i = t->n_stamp++;
        if (i > 0)
            (void)snprintf(number, sizeof(number), ".%d", i);
        (void)snprintf(name, max, "%.*s.%s%s%s", (int)stem, t->path, stamp, number, t->path + stem);
        error = rename_free(t->written, name);
    }
    t->h->free(name);
    return error;
}

/* "20260131T120000Z" and more. */
static bool is_stamp(const char *p)
{
    for (int i = 0; i < STAMP_LEN; i++)
        if (i == 8 ? p[i] != 'T' : i == STAMP_LEN - 1 ? p[i] != 'Z' : (p[i] < '0' || p[i] > '9'))
            return false;
    return true;
}

bool target_is_rotated(const char *name)
{
    const char *slash = strrchr(name, '/');
    for (const char *dot = strchr(slash != NULL ? slash : name, '.'); dot != NULL;
         dot = strchr(dot + 1, '.'))
        if (is_stamp(dot + 1) && (dot[1 + STAMP_LEN] == '.' || dot[1 + STAMP_LEN] == '\0'))
            return true;
    return false;
}

/* "STEM.20260131T120000Z[.N]ENDINGS": where the time begins in it and *ret_number, or NULL. */
static const char *read_stamp(const struct target *t, const char *name, unsigned long *ret_number)
{
    size_t stem = stem_len(t->path);
    const char *at = name + stem;
    char *end;
    if (strncmp(name, t->path, stem) != 0 || *at++ != '.')
        return NULL;
    const char *stamp = at;
    if (!is_stamp(at))
        return NULL;
    at += STAMP_LEN;
    *ret_number = 0;
    if (at[0] == '.' && at[1] >= '1' && at[1] <= '9') {
        *ret_number = strtoul(at + 1, &end, 10);
        at = end;
    }
    return strcmp(at, t->path + stem) == 0 ? stamp : NULL;
}

struct rotated {
    const char *path, *stamp;
    unsigned long number;
};

static int by_age(const void *a, const void *b)
{
    const struct rotated *x = a, *y = b;
    int order = memcmp(x->stamp, y->stamp, STAMP_LEN);
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

/* "STEM.*", what is special in it quoted. NULL on no memory. */
static char *pattern_of(const struct target *t)
{
    size_t stem = stem_len(t->path);
    char *pattern = t->h->alloc(2 * stem + 3), *p = pattern;
    for (size_t i = 0; pattern != NULL && i < stem; i++) {
        if (strchr("*?[\\", t->path[i]) != NULL)
            *p++ = '\\';
        *p++ = t->path[i];
    }
    if (pattern != NULL)
        memcpy(p, ".*", 3);
    return pattern;
}

static void delete_file(const struct target *t, const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return;
    struct weir_kv kv[] = {weir_kv_text("path", path), weir_kv_text("reason", strerror(errno))};
    t->h->log(t->h, WEIR_LOG_ERROR, "cannot delete an old file", kv, 2);
}

/* Deletes the oldest rotated files. */
static void keep_newest(const struct target *t)
{
    glob_t found = {0};
    size_t n = 0;
    char *pattern = t->opt->keep != 0 ? pattern_of(t) : NULL;
    if (pattern == NULL)
        return;
    int result = glob(pattern, GLOB_NOSORT, NULL, &found);
    struct rotated *list =
        result == 0 ? t->h->alloc(found.gl_pathc * sizeof(struct rotated)) : NULL;
    for (size_t i = 0; list != NULL && i < found.gl_pathc; i++) {
        struct rotated r = {.path = found.gl_pathv[i]};
        r.stamp = read_stamp(t, r.path, &r.number);
        if (r.stamp != NULL)
            list[n++] = r;
    }
    if (n > 0)
        qsort(list, n, sizeof(*list), by_age);
    for (size_t i = 0; n > (size_t)t->opt->keep && i < n - (size_t)t->opt->keep; i++)
        delete_file(t, list[i].path);
    t->h->free(list);
    globfree(&found);
    t->h->free(pattern);
}

/* ---- Making and freeing ---------------------------------------------------------------------- */

struct target *target_new(const struct weir_host *h, const struct target_options *opt,
                          const char *path)
{
    struct target *t = h->alloc(sizeof(*t));
    if (t == NULL)
        return NULL;
    t->h = h;
    t->opt = opt;
    t->fd = -1;
    t->path = join(h, path, strlen(path), "");
    t->written = join(h, path, strlen(path), opt->part ? TARGET_PART : "");
    if (t->path != NULL && t->written != NULL)
        return t;
    target_free(t);
    return NULL;
}

static void close_fd(struct target *t)
{
    if (t->fd > STDERR_FILENO)
        close(t->fd); /* the lock goes with it */
    t->fd = -1;
}

void target_free(struct target *take_t)
{
    if (take_t == NULL)
        return;
    close_fd(take_t);
    take_t->h->free(take_t->path);
    take_t->h->free(take_t->written);
    take_t->h->free(take_t);
}

/* ---- Opening --------------------------------------------------------------------------------- */

WEIR_PRINTF(4, 5)
static enum weir_status failed(const struct target *t, struct weir_error *err, int number,
                               const char *fmt, ...)
{
    char text[WEIR_ERROR_TEXT];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    enum weir_status st = t->h->error(err, WEIR_E_CONFIG, "open_failed", "%s", text);
    if (err != NULL)
        err->number = number;
    return st;
}

int sync_entry(const struct weir_host *h, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = len != 0 ? join(h, path, len, "") : join(h, ".", 1, "");
    if (folder == NULL)
        return ENOMEM;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    h->free(folder);
    if (fd < 0) /* a folder that may be written and not read cannot be made durable */
        return error == EACCES || error == EPERM ? 0 : error;
    close(fd);
    /* File systems that cannot do it. */
    return error == EINVAL || error == ENOTSUP || error == EROFS ? 0 : error;
}

static void sync_new_name(const struct target *t)
{
    if (t->opt->sync != FSYNC_NEVER)
        (void)sync_entry(t->h, t->written); /* its content is durable, by one name or the other */
}

static enum weir_status open_file(struct target *t, struct stat *st, struct weir_error *err)
{
    const int flags = O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    t->fd = open(t->written, O_RDWR | flags, t->opt->permissions);
    if (t->fd < 0 && errno == EACCES)
        t->fd = open(t->written, O_WRONLY | flags, t->opt->permissions);
    if (t->fd < 0)
        return failed(t, err, errno,
                      "cannot open \"%s\" to write it: %s; check option `path`, its folder and "
                      "permissions",
                      t->written, strerror(errno));
    if (fstat(t->fd, st) != 0)
        return failed(t, err, errno, "cannot use \"%s\": %s", t->written, strerror(errno));
    if (!S_ISREG(st->st_mode) && !S_ISCHR(st->st_mode))
        return failed(t, err, ENOTSUP,
                      "\"%s\" is not a regular file; sink `file` writes no pipes and sockets (sink "
                      "`stdout` does)",
                      t->written);
    t->regular = S_ISREG(st->st_mode);
    t->can_undo = t->regular;
    return WEIR_OK;
}

/* Two writers would cut off each other's lines. */
static enum weir_status lock_file(struct target *t, struct weir_error *err)
{
    if (!t->regular || flock(t->fd, LOCK_EX | LOCK_NB) == 0)
        return WEIR_OK;
    if (errno == EWOULDBLOCK) {
        (void)failed(t, err, EWOULDBLOCK,
                     "\"%s\" is being written by another sink or another weir; give each its own "
                     "`path`",
                     t->written);
        if (err != NULL)
            err->status = WEIR_E_RETRY; /* in a reload it may be the one in whose place this comes */
        return WEIR_E_RETRY;
    }
    t->can_undo = false; /* this file system has no locks: be careful instead */
    return WEIR_OK;
}

static enum weir_status foreign(const struct target *t, struct weir_error *err)
{
    return failed(t, err, EINVAL, "nothing whole is in it, or it has another `compression`");
}

/* WEIR_AGAIN: it has another name now, and is to be begun anew. */
static enum weir_status set_aside(struct target *t, int64_t good, struct weir_error *err)
{
    int error = rename_stamped(t);
    if (error != 0)
        return failed(t, err, error,
                      "\"%s\" is damaged behind byte %lld and cannot be renamed: %s; take it away",
                      t->written, (long long)good, strerror(error));
    struct weir_kv kv[] = {weir_kv_text("path", t->written), weir_kv_i64("good", good)};
    t->h->log(t->h, WEIR_LOG_WARN, "a damaged gzip file was set aside, and a new one is begun", kv,
              2);
    sync_new_name(t);
    return WEIR_AGAIN;
}

/* What stands behind the last whole member is of a run that was cut off, where it only ends too
 * early. What is damaged otherwise may have good members behind the damage: nothing of it is cut.
 */
static enum weir_status mend_gzip(struct target *t, struct stat *st, struct weir_error *err)
{
    char dropped[4096];
    struct unzip *u = st->st_size > 0 ? unzip_new(t->h, t->fd) : NULL;
    ssize_t n;
    if (st->st_size == 0)
        return WEIR_OK;
    if (u == NULL || lseek(t->fd, 0, SEEK_SET) != 0) {
        unzip_free(u);
        return failed(t, err, ENOMEM, "cannot read \"%s\" to go on with it", t->written);
    }
    do
        n = unzip_read(u, dropped, sizeof(dropped));
    while (n > 0);
    int error = n < 0 ? errno : 0;
    int64_t good = unzip_good(u);
    bool is_gzip = unzip_begun(u);
    unzip_free(u);
    if (error == 0)
        return WEIR_OK;
    if ((error != EBADMSG && error != ENODATA) || !is_gzip)
        return failed(t, err, is_gzip ? error : EINVAL,
                      "cannot go on with \"%s\": %s; take it away, or `compression: gzip`",
                      t->written, is_gzip ? strerror(error) : "it is no gzip file");
    if (t->left && good == 0)
        return foreign(t, err);
    if (error == EBADMSG)
        return set_aside(t, good, err);
    if (!t->can_undo || ftruncate(t->fd, (off_t)good) != 0)
        return failed(t, err, errno, "\"%s\" is damaged behind byte %lld", t->written,
                      (long long)good);
    struct weir_kv kv[] = {weir_kv_text("path", t->written), weir_kv_i64("kept", good),
                           weir_kv_i64("cut", (int64_t)st->st_size - good)};
    t->h->log(t->h, WEIR_LOG_WARN, "cut off what a killed run left behind", kv, 3);
    st->st_size = (off_t)good;
    return WEIR_OK;
}

/* Where the last whole line ends; -1 where that cannot be read. */
static off_t whole_lines(int fd, off_t size)
{
    char piece[4096];
    for (off_t end = size; end > 0;) {
        size_t len = end < (off_t)sizeof(piece) ? (size_t)end : sizeof(piece);
        if (pread(fd, piece, len, end - (off_t)len) != (ssize_t)len)
            return -1;
        const char *newline = memrchr(piece, '\n', len);
        if (newline != NULL)
            return end - (off_t)len + (newline + 1 - piece);
        end -= (off_t)len;
    }
    return 0;
}

static bool is_packed(int fd)
{
    unsigned char head[2] = {0, 0};
    return pread(fd, head, sizeof(head), 0) == sizeof(head) && head[0] == 0x1f && head[1] == 0x8b;
}

/* A run that was cut off may have left half a line. It was not acknowledged: of a file that is ours
 * by its name ("NAME.part") it is cut off, elsewhere it is ended. In one that was packed a line's
 * end means nothing. */
static enum weir_status look_at_end(struct target *t, struct stat *st, struct weir_error *err)
{
    char last;
    t->torn = false;
    if (!t->regular || st->st_size == 0)
        return WEIR_OK;
    if (t->opt->gzip)
        return mend_gzip(t, st, err);
    bool packed = is_packed(t->fd);
    if (t->left && packed)
        return foreign(t, err);
    if (pread(t->fd, &last, 1, st->st_size - 1) != 1 || last == '\n')
        return WEIR_OK;
    off_t whole = t->opt->part && !packed ? whole_lines(t->fd, st->st_size) : -1;
    if (t->left && whole == 0)
        return foreign(t, err);
    t->torn = whole < 0 || !t->can_undo || ftruncate(t->fd, whole) != 0;
    if (!t->torn)
        st->st_size = whole;
    return WEIR_OK;
}

static enum weir_status set_up(struct target *t, bool truncate, struct weir_error *err)
{
    struct stat st;
    enum weir_status status = open_file(t, &st, err);
    if (status == WEIR_OK)
        status = lock_file(t, err);
    if (status != WEIR_OK)
        return status;
    if (truncate && t->regular) {
        if (ftruncate(t->fd, 0) != 0)
            return failed(t, err, errno, "cannot empty \"%s\": %s", t->written, strerror(errno));
        st.st_size = 0;
    }
    status = look_at_end(t, &st, err);
    t->dev = st.st_dev;
    t->ino = st.st_ino;
    t->size = (int64_t)st.st_size;
    t->begun_ns = t->size == 0 ? t->h->wall(t->h)
                               : (int64_t)st.st_mtim.tv_sec * WEIR_NS_PER_S + st.st_mtim.tv_nsec;
    int error = status == WEIR_OK && t->size == 0 && t->regular && t->opt->sync != FSYNC_NEVER
                    ? sync_entry(t->h, t->written)
                    : 0;
    if (error != 0)
        return failed(t, err, error, "cannot make the new file \"%s\" durable: %s", t->written,
                      strerror(error));
    return status;
}

enum weir_status target_open(struct target *t, bool truncate, struct weir_error *err)
{
    if (t->fd >= 0)
        return WEIR_OK;
    enum weir_status status = WEIR_AGAIN;
    while (status == WEIR_AGAIN) {
        status = set_up(t, truncate, err);
        if (status != WEIR_OK)
            close_fd(t);
    }
    return status;
}

/* ---- Its way --------------------------------------------------------------------------------- */

int target_sync(struct target *t)
{
    if (!t->dirty || !t->regular || t->fd < 0)
        return 0;
    if (fdatasync(t->fd) != 0)
        return errno;
    t->dirty = false;
    return 0;
}

static void sync_last(struct target *t)
{
    int error = t->opt->sync != FSYNC_NEVER ? target_sync(t) : 0;
    if (error == 0)
        return;
    struct weir_kv kv[] = {weir_kv_text("path", t->written),
                           weir_kv_text("reason", strerror(error))};
    t->h->log(t->h, WEIR_LOG_ERROR, "cannot make a file durable", kv, 2);
}

/* False where it goes on in the same file. */
static bool rotate(struct target *t)
{
    sync_last(t);
    int error = rename_stamped(t);
    if (error == 0) {
        close_fd(t);
        sync_new_name(t);
        keep_newest(t);
        return true;
    }
    struct weir_kv kv[] = {weir_kv_text("path", t->written),
                           weir_kv_text("reason", strerror(error))};
    t->h->log(t->h, WEIR_LOG_ERROR, "cannot rotate a file: writing on in it", kv, 2);
    t->begun_ns = t->h->wall(t->h); /* the next period tries again */
    return false;
}

static bool is_old(const struct target *t)
{
    int64_t every = t->opt->rotate_ns;
    return every != 0 && t->size > 0 && t->begun_ns / every != t->h->wall(t->h) / every;
}

/* Somebody renamed or deleted it. */
static bool was_moved(const struct target *t)
{
    struct stat st;
    if (!t->regular)
        return false;
    if (stat(t->written, &st) != 0)
        return errno == ENOENT;
    return st.st_ino != t->ino || st.st_dev != t->dev;
}

/* What has its name now is none of ours. */
static void leave_moved(struct target *t)
{
    if (t->fd < 0 || !was_moved(t))
        return;
    sync_last(t);
    close_fd(t);
}

enum weir_status target_ready(struct target *t, size_t len, struct weir_error *err)
{
    leave_moved(t);
    enum weir_status status = target_open(t, false, err);
    if (status != WEIR_OK || !t->regular)
        return status;
    if (t->size == 0) /* it belongs to the period of its first event */
        t->begun_ns = t->h->wall(t->h);
    int64_t max = t->opt->rotate_bytes;
    bool full = max != 0 && t->size > 0 && (t->size + (int64_t)len > max || t->size >= max);
    if ((full || is_old(t)) && rotate(t))
        status = target_open(t, false, err);
    return status;
}

void target_tick(struct target *t)
{
    if (t->fd < 0 || !t->regular || !is_old(t))
        return;
    leave_moved(t);
    if (t->fd >= 0)
        (void)rotate(t);
}

void target_finish(struct target *t)
{
    if (t->fd < 0)
        return;
    sync_last(t);
    if (t->opt->part && t->regular && t->size > 0 && !was_moved(t)) {
        int error = rename_free(t->written, t->path);
        if (error == EEXIST)
            error = rename_stamped(t);
        struct weir_kv kv[] = {weir_kv_text("path", t->written),
                               weir_kv_text("reason", strerror(error))};
        if (error != 0)
            t->h->log(t->h, WEIR_LOG_ERROR, "cannot give a file its name", kv, 2);
        sync_new_name(t);
    } else if (t->opt->part && t->regular && t->size == 0) {
        (void)unlink(t->written); /* nothing was written */
    }
    close_fd(t);
}
