/* SPDX-License-Identifier: Apache-2.0
 *
 * Put in front of libc by LD_PRELOAD: notes in the file $CHAOS_SYNCS what a power cut would leave of this
 * process's files. kill -9 leaves the page cache, and with it what was never synced; power.py takes that away
 * by these notes, a line each:
 *
 *   synced INODE BYTES   so much of the file is on the disk
 *   named INODE 0        its folder was synced since it has a name there
 *   cut INODE BYTES      it is truncated
 *   gone INODE 0         it is deleted: the number may soon be another file's
 *
 * A sync is noted once it has succeeded and before its caller knows, the others before they happen: at any
 * moment that the process is killed the notes claim no more than is true.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static int notes = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_SYNCS");
    if (path != NULL)
        notes = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void note(const char *what, ino_t inode, off_t bytes)
{
    char line[80];
    int n = snprintf(line, sizeof(line), "%s %ju %jd\n", what, (uintmax_t)inode, (intmax_t)bytes);
    if (notes >= 0 && syscall(SYS_write, notes, line, (size_t)n) != n)
        abort(); /* a run without its notes shows nothing */
}

static void note_names(int fd)
{
    struct stat st;
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = again >= 0 ? fdopendir(again) : NULL;
    for (const struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;)
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            note("named", st.st_ino, 0);
    if (folder != NULL)
        (void)closedir(folder);
    else if (again >= 0)
        (void)close(again);
}

static int sync_by(long call, int fd)
{
    struct stat st;
    bool known = notes >= 0 && fstat(fd, &st) == 0; /* what comes while it syncs is not part of it */
    int code = (int)syscall(call, fd);
    if (code == 0 && known && S_ISREG(st.st_mode))
        note("synced", st.st_ino, st.st_size);
    else if (code == 0 && known && S_ISDIR(st.st_mode))
        note_names(fd);
    return code;
}

EXPORT int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

EXPORT int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

EXPORT int ftruncate(int fd, off_t bytes)
{
    struct stat st;
    if (notes >= 0 && fstat(fd, &st) == 0)
        note("cut", st.st_ino, bytes);
    return (int)syscall(SYS_ftruncate, fd, bytes);
}

/* What a caller with 64-bit offsets asks for. */
EXPORT int ftruncate64(int fd, off64_t bytes)
{
    return ftruncate(fd, bytes);
}

EXPORT int unlinkat(int folder, const char *path, int flags)
{
    struct stat st;
    if (notes >= 0 && fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
        note("gone", st.st_ino, 0);
    return (int)syscall(SYS_unlinkat, folder, path, flags);
}

EXPORT int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}
