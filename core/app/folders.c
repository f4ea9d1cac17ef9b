/* SPDX-License-Identifier: Apache-2.0
 *
 * app/folders.c: makes the list of plugin folders. What the user named is searched as it is, so
 * that a mistake shows; guesses are left out where they are not there.
 */
#include <app/folders.h>
#include <base/buf.h>
#include <base/mem.h>
#include <base/str.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDERS_MAX 256

struct folders {
    char *items[FOLDERS_MAX + 1];
    uint32_t n;
};

static bool is_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode);
}

static void add(struct folders *f, const char *path, size_t len)
{
    if (f->n < FOLDERS_MAX && len > 0)
        f->items[f->n++] = wr_xmemdup(path, len);
}

static void add_guess(struct folders *f, const char *front, const char *back)
{
    struct wr_buf path = {0};
    wr_buf_printf(&path, "%s%s", front, back);
    char real[PATH_MAX];
    if (is_folder(path.ptr) && realpath(path.ptr, real) != NULL)
        add(f, real, strlen(real));
    wr_buf_done(&path);
}

static void add_environment(struct folders *f)
{
    const char *list = getenv("WEIR_PLUGIN_PATH");
    while (list != NULL && list[0] != '\0') {
        size_t len = strcspn(list, ":");
        add(f, list, len);
        list += list[len] == ':' ? len + 1 : len;
    }
}

/* The folders of a build, and of an install that was moved as a whole: PREFIX/bin/weir finds
 * PREFIX/lib/.../weir/plugins, the part from the last "/lib" on being that of the install's own
 * folder. */
static void add_beside_binary(struct folders *f)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n <= 0)
        return;
    exe[n] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    add_guess(f, exe, "/plugins");
    add_guess(f, exe, "/../plugins");
    const char *lib = NULL, *next = strstr(WEIR_PLUGIN_INSTALL_DIR, "/lib");
    for (; next != NULL; next = strstr(next + 1, "/lib"))
        lib = next;
    if (lib == NULL)
        return;
    struct wr_buf up = {0};
    wr_buf_printf(&up, "%s/..", exe);
    add_guess(f, up.ptr, lib);
    wr_buf_done(&up);
}

struct wr_loader *wr_folders_open(const char *command, const struct wr_cli_list *plugin_dirs)
{
    for (uint32_t i = 0; i < plugin_dirs->n; i++) {
        if (!is_folder(plugin_dirs->items[i])) {
            wr_cli_usage(command, "--plugin-dir \"%s\": %s", plugin_dirs->items[i],
                         strerror(errno));
            return NULL;
        }
    }
    struct folders f = {{NULL}, 0};
    for (uint32_t i = 0; i < plugin_dirs->n; i++)
        add(&f, plugin_dirs->items[i], strlen(plugin_dirs->items[i]));
    add_environment(&f);
    add_beside_binary(&f);
    add_guess(&f, WEIR_PLUGIN_INSTALL_DIR, "");
    struct wr_loader *l = wr_loader_new((const char *const *)f.items);
    for (uint32_t i = 0; i < f.n; i++)
        wr_free(f.items[i]);
    return l;
}
