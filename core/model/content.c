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
#define SEEN_MAX 10000u /* names, in all folders: who has a script in / does not wait for it */
#define DEPTH_MAX 8u

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

/* The modules of a script: files with its ending in its folder and those below. */
struct modules {
    struct weir_arena arena;
    const char *ending;
    const char *paths[MODULES_MAX];
    uint32_t n, n_seen;
};

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Names that begin with a dot are none of a module; a ConfigMap has its older versions there. */
static void find_modules(struct modules *m, const char *folder, uint32_t depth)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir != NULL && m->n < MODULES_MAX && m->n_seen < SEEN_MAX &&
                           (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        m->n_seen++;
        const char *end = ending(e->d_name);
        bool is_module = end != NULL && strcmp(end, m->ending) == 0;
        if (!is_module && (depth == DEPTH_MAX || end != NULL))
            continue;
        const char *path = wr_arena_xprintf(&m->arena, "%s/%s", folder, e->d_name).ptr;
        if (is_module)
            m->paths[m->n++] = path;
        else if (is_folder(path))
            find_modules(m, path, depth + 1);
    }
    if (dir != NULL)
        closedir(dir);
}

/* In order, so that the print does not depend on the file system's. */
static uint64_t print_modules(const char *path, print_fn print, uint64_t seed)
{
    const char *slash = strrchr(path, '/'), *end = ending(slash != NULL ? slash + 1 : path);
    struct modules m;
    if (end == NULL)
        return seed;
    m.ending = end;
    m.n = m.n_seen = 0;
    wr_arena_init(&m.arena, 4096);
    struct weir_str in = slash != NULL ? weir_str_n(path, (size_t)(slash - path)) : weir_cstr(".");
    find_modules(&m, wr_arena_xcopy(&m.arena, in).ptr, 0);
    qsort(m.paths, m.n, sizeof(m.paths[0]), by_name);
    for (uint32_t i = 0; i < m.n; i++) {
        seed = wr_str_hash(weir_cstr(m.paths[i]), seed);
        seed = print(m.paths[i], seed);
    }
    wr_arena_done(&m.arena);
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
