/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder of a disk buffer: making it, its lock, its cursor, reading and writing whole pieces.
 */
#include <engine/disk_file.h>

#include <base/crc32c.h>
#include <base/error.h>
#include <base/str.h>
#include <base/wake.h>
#include <engine/disk_record.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The folder ---- */

/* The folder that has the new entry must be durable too. */
static bool sync_parent(const char *path)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int len = slash == NULL || slash == path ? 1 : (int)(slash - path);
    snprintf(parent, sizeof(parent), "%.*s", len, slash == NULL ? "." : path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool make_one(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return sync_parent(path);
    int why = errno;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    errno = why == EEXIST ? ENOTDIR : why;
    return false;
}

bool wr_disk_folder_make(const char *path, struct weir_error *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(part)) {
        (void)wr_error(err, WEIR_E_CONFIG, "bad_path", "the path of the buffer has %zu bytes", len);
        return false;
    }
    for (size_t at = 1; at <= len; at++) {
        if (path[at] != '/' && path[at] != '\0')
            continue;
        memcpy(part, path, at);
        part[at] = '\0';
        if (!make_one(part)) {
            int why = errno;
            (void)wr_error(err, WEIR_E_FATAL, "no_folder", "cannot make the folder '%s' of the buffer: %s",
                           part, strerror(why));
            return false;
        }
    }
    return true;
}

#define LOCK_TRIES 25
#define LOCK_WAIT_NS (20 * WEIR_NS_PER_MS)

/* 0, or errno with the owner. Who only looks (wr_disk_locked_by) has it for a moment: that is waited for. */
static int take_lock(int fd, int dir, struct wr_clock *clock, int64_t *ret_owner)
{
    struct wr_wake nobody;
    int error = 0;
    wr_wake_init(&nobody, NULL, NULL);
    for (int i = 0; i < LOCK_TRIES; i++) {
        error = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
        *ret_owner = error == EWOULDBLOCK ? wr_disk_locked_by(dir) : 0;
        if (error != EWOULDBLOCK || *ret_owner != 0)
            break;
        wr_wake_wait(&nobody, clock, wr_now(clock) + LOCK_WAIT_NS);
    }
    wr_wake_done(&nobody);
    return error;
}

int wr_disk_lock(int dir, const char *path, struct wr_clock *clock, struct weir_error *err)
{
    int64_t owner = 0;
    int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int error = fd >= 0 ? take_lock(fd, dir, clock, &owner) : errno;
    if (error == 0) {
        char text[32];
        int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) == 0)
            (void)wr_disk_write(fd, text, (size_t)n, 0); /* for people; the lock is the lock */
        return fd;
    }
    if (error == EWOULDBLOCK)
        (void)wr_error(err, WEIR_E_FATAL, "locked",
                       "the buffer '%s' is in use by process %lld: two cannot share one folder", path,
                       (long long)owner);
    else
        (void)wr_error(err, WEIR_E_FATAL, "no_lock", "cannot lock the buffer '%s': %s", path,
                       strerror(error));
    if (fd >= 0)
        close(fd);
    return -1;
}

int64_t wr_disk_locked_by(int dir)
{
    char text[32] = "";
    int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int64_t pid = 0;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        pid = strtoll(text, NULL, 10);
        pid = pid > 0 ? pid : 1;
    }
    close(fd);
    return pid;
}

/* ---- Whole pieces ---- */

bool wr_disk_write(int fd, const void *data, size_t len, int64_t at)
{
    const char *p = data;
    while (len != 0) {
        ssize_t n = pwrite(fd, p, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

#define BLOCK 4096

ssize_t wr_disk_read(int fd, void *to, size_t len, int64_t at, bool *ret_bad)
{
    char *p = to;
    size_t got = 0;
    while (got < len) {
        ssize_t n = pread(fd, p + got, len - got, at + (int64_t)got);
        if (n == 0)
            break;
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EIO)
            return -1;
        /* One block that cannot be read; what stands behind it may be. */
        size_t block = BLOCK - (size_t)(at + (int64_t)got) % BLOCK;
        block = block < len - got ? block : len - got;
        n = pread(fd, p + got, block, at + (int64_t)got);
        if (n == 0)
            break;
        if (n < 0) {
            memset(p + got, 0, block);
            *ret_bad = true;
        }
        got += n < 0 ? block : (size_t)n;
    }
    return (ssize_t)got;
}

/* ---- The cursor ---- */

#define CURSOR_MAGIC UINT64_C(0x524f535255435257) /* "WRCURSOR" */
#define PLACE 4096 /* of one of the two: never in one sector */
#define CURSOR_BYTES 36

/* False: it is none that can be believed. */
static bool read_cursor(const uint8_t in[CURSOR_BYTES], struct wr_cursor *ret)
{
    struct wr_cursor c = {wr_get64(in + 8), wr_get64(in + 16), wr_get64(in + 24)};
    if (wr_get64(in) != CURSOR_MAGIC || wr_get32(in + 32) != wr_crc32c(WR_DISK_FORMAT, in, 32) || c.seq >= WR_SEQ_MAX ||
        c.dropped_from > c.dropped_to || c.dropped_to >= WR_SEQ_MAX)
        return false;
    *ret = c;
    return true;
}

/* Both only ever grow. */
static bool is_newer(const struct wr_cursor *a, const struct wr_cursor *b)
{
    return a->seq != b->seq ? a->seq > b->seq : a->dropped_to > b->dropped_to;
}

bool wr_cursor_load(int dir, bool *ret_found, struct wr_cursor *ret)
{
    *ret_found = false;
    int fd = openat(dir, "cursor", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    bool bad = false;
    for (int place = 0; place < 2; place++) {
        uint8_t in[CURSOR_BYTES];
        struct wr_cursor c;
        if (wr_disk_read(fd, in, sizeof(in), (int64_t)place * PLACE, &bad) != CURSOR_BYTES ||
            !read_cursor(in, &c))
            continue;
        *ret = !*ret_found || is_newer(&c, ret) ? c : *ret;
        *ret_found = true;
    }
    close(fd);
    return true;
}

int wr_cursor_open(int dir)
{
    struct stat st;
    int fd = openat(dir, "cursor", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    uint8_t zeros[64] = {0};
    if (fstat(fd, &st) == 0 && st.st_size >= PLACE + (int64_t)sizeof(zeros))
        return fd;
    /* Both blocks get their room now: the cursor moves on a full disk too. */
    if (wr_disk_write(fd, zeros, sizeof(zeros), 0) && wr_disk_write(fd, zeros, sizeof(zeros), PLACE))
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

bool wr_cursor_store(int fd, const struct wr_cursor *cursor, uint64_t turn)
{
    uint8_t out[CURSOR_BYTES];
    wr_put64(out, CURSOR_MAGIC);
    wr_put64(out + 8, cursor->seq);
    wr_put64(out + 16, cursor->dropped_from);
    wr_put64(out + 24, cursor->dropped_to);
    wr_put32(out + 32, wr_crc32c(WR_DISK_FORMAT, out, 32));
    return wr_disk_write(fd, out, sizeof(out), (int64_t)(turn % 2) * PLACE);
}
