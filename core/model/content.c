/* SPDX-License-Identifier: Apache-2.0 */
#include <model/content.h>

#include <base/arena.h>
#include <base/mem.h>
#include <base/str.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_MAX ((size_t)16 << 20) /* of a larger file its time and size are looked at */
#define MODULES_MAX 1000u

typedef uint64_t (*print_fn)(const char *path, uint64_t seed);

static uint64_t print_stat(const char *path, uint64_t seed)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return wr_str_hash(weir_cstr("none"), seed);
    const int64_t all[] = {(int64_t)st.st_dev, (int64_t)st.st_ino, (int64_t)st.st_size,
                           (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec};
    return wr_str_hash(weir_str_n((const char *)all, sizeof(all)), seed);
}

static uint64_t print_file(const char *path, uint64_t seed)
{
    char block[16384];
    struct stat st;
    ssize_t n = -1;
    size_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    uint64_t print = wr_str_hash(weir_cstr("file"), seed);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        while ((n = read(fd, block, sizeof(block))) > 0 && (total += (size_t)n) <= READ_MAX)
            print = wr_str_hash(weir_str_n(block, (size_t)n), print);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return wr_str_hash(weir_cstr("unreadable"), seed);
    return total > READ_MAX ? print_stat(path, seed) : print;
}

static const char *ending(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL && dot != name ? dot : NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names in the folder, in order, so that the print does not depend on the file system's. */
static uint64_t print_modules(const char *path, print_fn print, uint64_t seed)
{
    const char *slash = strrchr(path, '/'), *end = ending(slash != NULL ? slash + 1 : path);
    struct weir_arena a;
    const char *names[MODULES_MAX];
    uint32_t n = 0;
    wr_arena_init(&a, 4096);
    struct weir_str in = slash != NULL ? weir_str_n(path, (size_t)(slash - path)) : weir_cstr(".");
    const char *folder = wr_arena_xcopy(&a, in).ptr;
    DIR *dir = end != NULL ? opendir(folder) : NULL;
    for (struct dirent *e; dir != NULL && n < MODULES_MAX && (e = readdir(dir)) != NULL;)
        if (ending(e->d_name) != NULL && strcmp(ending(e->d_name), end) == 0)
            names[n++] = wr_arena_xcopy(&a, weir_cstr(e->d_name)).ptr;
    if (dir != NULL)
        closedir(dir);
    qsort(names, n, sizeof(names[0]), by_name);
    for (uint32_t i = 0; i < n; i++) {
        seed = wr_str_hash(weir_cstr(names[i]), seed);
        seed = print(wr_arena_xprintf(&a, "%s/%s", folder, names[i]).ptr, seed);
    }
    wr_arena_done(&a);
    return seed;
}

static uint64_t print_all(const struct wr_content_file *list, print_fn print)
{
    uint64_t seed = 1;
    for (; list != NULL; list = list->next) {
        seed = print(list->path.ptr, seed);
        if (list->modules)
            seed = print_modules(list->path.ptr, print, seed);
    }
    return seed;
}

uint64_t wr_content_print(const struct wr_content_file *list)
{
    return print_all(list, print_file);
}

uint64_t wr_content_stamp(const struct wr_content_file *list)
{
    return print_all(list, print_stat);
}
