/* SPDX-License-Identifier: Apache-2.0
 *
 * inotify for the source; see watch.h.
 */
#include "watch.h"

#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

int watch_open(void)
{
    return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int watch_folder(int fd, const char *path)
{
    return fd < 0 ? -1
                  : inotify_add_watch(
                        fd, path, IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR);
}

int watch_file(int fd, int file_fd)
{
    char path[32]; /* the file that is open, whatever its name means by now */
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
    return fd < 0 ? -1 : inotify_add_watch(fd, path, IN_MODIFY);
}

void watch_forget(int fd, int wd)
{
    if (fd >= 0 && wd >= 0)
        (void)inotify_rm_watch(fd, wd);
}

void watch_read(int fd, void (*seen)(void *arg, int wd), void *arg)
{
    union {
        struct inotify_event first; /* for its alignment */
        char bytes[4096];
    } buffer;
    ssize_t n;
    while (fd >= 0 && (n = read(fd, buffer.bytes, sizeof(buffer.bytes))) > 0) {
        for (ssize_t at = 0; at < n;) {
            struct inotify_event ev;
            memcpy(&ev, buffer.bytes + at, sizeof(ev));
            seen(arg, ev.wd); /* of an overflow: -1 */
            at += (ssize_t)(sizeof(ev) + ev.len);
        }
    }
}
