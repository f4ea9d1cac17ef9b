/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of segments: names, headers, making, deleting, setting aside. Walking over their records is in
 * disk_scan.c.
 */
#include <engine/disk_segment.h>

#include <base/crc32c.h>
#include <base/mem.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x4d47455352494557) /* "WEIRSEGM" */

/* ---- Names ---- */

void wr_segment_name(char out[WR_DISK_NAME], const struct wr_disk_segment *seg)
{
    snprintf(out, WR_DISK_NAME, "%012" PRIu64 "-%08" PRIx32 ".segment", seg->number, seg->marker);
}

static bool parse_name(const char *name, struct wr_disk_segment *ret)
{
    char again[WR_DISK_NAME];
    if (sscanf(name, "%20" SCNu64 "-%8" SCNx32 ".segment", &ret->number, &ret->marker) != 2)
        return false;
    wr_segment_name(again, ret);
    return strcmp(name, again) == 0;
}

static void insert(struct wr_disk_segment **list, struct wr_disk_segment *seg)
{
    while (*list != NULL && (*list)->number < seg->number)
        list = &(*list)->next;
    seg->next = *list;
    *list = seg;
}

/* One entry of the folder, if it is a segment's. False with errno. */
static bool add_entry(int dir, const char *name, struct wr_disk_segment **list)
{
    struct wr_disk_segment seg = {0};
    struct stat st;
    if (!parse_name(name, &seg))
        return true;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    if (!S_ISREG(st.st_mode))
        return true;
    seg.bytes = st.st_size;
    struct wr_disk_segment *kept = wr_xalloc(sizeof(*kept));
    *kept = seg;
    insert(list, kept);
    return true;
}

bool wr_segments_list(int dir, struct wr_disk_segment **ret_first)
{
    struct wr_disk_segment *first = NULL;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = true;
    errno = 0;
    for (const struct dirent *e; ok && (e = readdir(d)) != NULL; errno = ok ? 0 : errno)
        ok = add_entry(dir, e->d_name, &first);
    ok = ok && errno == 0;
    int why = errno;
    closedir(d);
    errno = why;
    if (ok)
        *ret_first = first;
    else
        wr_segments_free(first);
    return ok;
}

void wr_segments_free(struct wr_disk_segment *take_first)
{
    for (struct wr_disk_segment *seg = take_first, *next; seg != NULL; seg = next) {
        next = seg->next;
        wr_free(seg);
    }
}

/* ---- Headers and files ---- */

int wr_segment_create(int dir, const struct wr_disk_segment *seg, int64_t wall_ns)
{
    char name[WR_DISK_NAME];
    uint8_t head[WR_SEGMENT_HEAD] = {0};
    wr_put64(head, MAGIC);
    wr_put32(head + 8, WR_DISK_FORMAT);
    wr_put32(head + 12, wr_crc32c(0, head, 12));
    wr_put64(head + 16, seg->number);
    wr_put64(head + 24, seg->first_seq);
    wr_put64(head + 32, (uint64_t)wall_ns);
    wr_put32(head + 44, wr_crc32c(seg->marker, head + 16, 28));
    wr_segment_name(name, seg);
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (wr_disk_write(fd, head, sizeof(head), 0))
        return fd;
    int why = errno;
    close(fd);
    (void)unlinkat(dir, name, 0);
    errno = why;
    return -1;
}

int wr_segment_open(int dir, const struct wr_disk_segment *seg)
{
    char name[WR_DISK_NAME];
    wr_segment_name(name, seg);
    return openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static void name_aside(char out[WR_DISK_NAME], const struct wr_disk_segment *seg)
{
    snprintf(out, WR_DISK_NAME, "damaged-%012" PRIu64 "-%08" PRIx32 "-whole", seg->number, seg->marker);
}

bool wr_segment_set_aside(int dir, const struct wr_disk_segment *seg)
{
    char name[WR_DISK_NAME], aside[WR_DISK_NAME];
    wr_segment_name(name, seg);
    name_aside(aside, seg);
    return renameat(dir, name, dir, aside) == 0;
}

void wr_segment_keep(int dir, struct wr_disk_segment *seg)
{
    char name[WR_DISK_NAME], aside[WR_DISK_NAME];
    seg->keep = true;
    wr_segment_name(name, seg);
    name_aside(aside, seg);
    if (linkat(dir, name, dir, aside, 0) == 0)
        (void)fsync(dir);
}

bool wr_segment_remove(int dir, const struct wr_disk_segment *seg)
{
    char name[WR_DISK_NAME];
    if (seg->keep && !wr_segment_set_aside(dir, seg))
        return false;
    wr_segment_name(name, seg); /* which is still there where the other is a link to the same file */
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT;
}

enum wr_head_state wr_segment_head(int fd, struct wr_disk_segment *io_seg, uint32_t *ret_format)
{
    uint8_t head[WR_SEGMENT_HEAD];
    bool bad = false;
    if (wr_disk_read(fd, head, sizeof(head), 0, &bad) != (ssize_t)sizeof(head) ||
        wr_get64(head) != MAGIC || wr_get32(head + 12) != wr_crc32c(0, head, 12))
        return WR_HEAD_BAD;
    if (wr_get32(head + 8) != WR_DISK_FORMAT) {
        *ret_format = wr_get32(head + 8);
        return WR_HEAD_OTHER;
    }
    if (wr_get32(head + 44) != wr_crc32c(io_seg->marker, head + 16, 28) ||
        wr_get64(head + 24) >= WR_SEQ_MAX)
        return WR_HEAD_BAD;
    io_seg->first_seq = wr_get64(head + 24);
    return WR_HEAD_OK;
}

/* ---- Setting aside ---- */

#define COPY_BYTES (256u * 1024u)

static bool copy_bytes(int to, int from, const struct wr_damage *damage)
{
    uint8_t *block = wr_alloc_raw(COPY_BYTES);
    bool ok = block != NULL, bad = false;
    if (block == NULL)
        errno = ENOMEM;
    for (int64_t at = damage->from; ok && at < damage->to;) {
        int64_t left = damage->to - at;
        ssize_t n = wr_disk_read(from, block, left < COPY_BYTES ? (size_t)left : COPY_BYTES, at, &bad);
        if (n == 0)
            break; /* the file is shorter by now */
        ok = n > 0 && wr_disk_write(to, block, (size_t)n, at - damage->from);
        at += n;
    }
    if (ok && bad) {
        errno = EIO; /* what cannot be read is in the segment alone */
        ok = false;
    }
    wr_free(block);
    return ok && fsync(to) == 0;
}

bool wr_damage_save(int dir, const struct wr_disk_segment *seg, const struct wr_damage *damage)
{
    char name[WR_DISK_NAME];
    struct stat st;
    snprintf(name, sizeof(name), "damaged-%012" PRIu64 "-%08" PRIx32 "-%" PRId64, seg->number, seg->marker,
             damage->from);
    if (fstatat(dir, name, &st, 0) == 0 && st.st_size == damage->to - damage->from)
        return true; /* an earlier run has done it */
    int from = wr_segment_open(dir, seg);
    int to = from >= 0 ? openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    bool ok = to >= 0 && copy_bytes(to, from, damage) && fsync(dir) == 0;
    int why = errno;
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
    if (!ok && to >= 0)
        (void)unlinkat(dir, name, 0);
    errno = why;
    return ok;
}
