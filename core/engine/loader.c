/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/loader.c: the folders, the files in them, what was opened, and how a type is found.
 *
 * A file is opened at most once, and its whole folder before the next folder: so the first folder
 * that has a type wins, whatever its files are called. Nothing is ever closed: the libraries under
 * plugins leave threads and exit handlers behind that need their code.
 */
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <dirent.h>
#include <dlfcn.h>
#include <engine/loader.h>
#include <engine/loader_check.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FILES_MAX 4096

struct file {
    char *path;
    const char *name; /* inside path */
    bool tried;
    struct wr_plugin plugin; /* .plugin NULL: not opened, or bad */
};

struct folder {
    char *path;
    struct file *files; /* by name; never moved once read, as plugins are handed out by pointer */
    uint32_t n;
};

struct texts {
    char **items;
    uint32_t n;
};

struct wr_loader {
    struct folder *folders;
    uint32_t n_folders;
    struct wr_plugin **plugins; /* in the order of opening, which is that of the folders */
    uint32_t n_plugins;
    struct texts bad, shadowed;
};

static void __attribute__((format(printf, 2, 3))) add_text(struct texts *t, const char *fmt, ...)
{
    struct wr_buf b = {0};
    va_list ap;
    va_start(ap, fmt);
    wr_buf_vprintf(&b, fmt, ap);
    va_end(ap);
    t->items = wr_xrealloc(t->items, (t->n + 1u) * sizeof(*t->items));
    t->items[t->n++] = wr_xmemdup(b.ptr, b.len);
    wr_buf_done(&b);
}

static void free_texts(struct texts *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        wr_free(t->items[i]);
    wr_free(t->items);
}

/* ---- Folders ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static bool is_plugin_name(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && n > 3 && strcmp(name + n - 3, ".so") == 0;
}

static void add_file(struct folder *f, const char *name)
{
    struct wr_buf path = {0};
    wr_buf_printf(&path, "%s/%s", f->path, name);
    f->files = wr_xrealloc(f->files, (f->n + 1u) * sizeof(*f->files));
    struct file *file = &f->files[f->n++];
    *file = (struct file){.path = wr_xmemdup(path.ptr, path.len)};
    file->name = file->path + strlen(f->path) + 1;
    wr_buf_done(&path);
}

static void read_folder(struct wr_loader *l, struct folder *f)
{
    DIR *dir = opendir(f->path);
    if (dir == NULL) {
        add_text(&l->bad, "%s: the plugin folder cannot be read: %s", f->path, strerror(errno));
        return;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (!is_plugin_name(e->d_name))
            continue;
        if (f->n == FILES_MAX) {
            add_text(&l->bad, "%s: more than %d plugin files, the others are left out", f->path,
                     FILES_MAX);
            break;
        }
        add_file(f, e->d_name);
    }
    closedir(dir);
    if (f->n > 0)
        qsort(f->files, f->n, sizeof(f->files[0]), by_name);
}

static bool is_known(const struct wr_loader *l, const char *path)
{
    struct stat a, b;
    if (stat(path, &a) != 0)
        return false;
    for (uint32_t i = 0; i < l->n_folders; i++) {
        if (stat(l->folders[i].path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return true;
    }
    return false;
}

struct wr_loader *wr_loader_new(const char *const *dirs)
{
    struct wr_loader *l = wr_xalloc(sizeof(*l));
    for (uint32_t i = 0; dirs != NULL && dirs[i] != NULL; i++) {
        if (is_known(l, dirs[i]))
            continue;
        l->folders = wr_xrealloc(l->folders, (l->n_folders + 1u) * sizeof(*l->folders));
        struct folder *f = &l->folders[l->n_folders++];
        *f = (struct folder){.path = wr_xstrdup(dirs[i])};
        size_t len = strlen(f->path);
        while (len > 1 && f->path[len - 1] == '/')
            f->path[--len] = '\0';
        read_folder(l, f);
    }
    return l;
}

void wr_loader_free(struct wr_loader *l)
{
    if (l == NULL)
        return;
    for (uint32_t i = 0; i < l->n_folders; i++) {
        for (uint32_t k = 0; k < l->folders[i].n; k++)
            wr_free(l->folders[i].files[k].path);
        wr_free(l->folders[i].files);
        wr_free(l->folders[i].path);
    }
    wr_free(l->folders);
    wr_free(l->plugins);
    free_texts(&l->bad);
    free_texts(&l->shadowed);
    wr_free(l);
}

/* ---- Opening one file ---- */

/* The symbol must be an object of this very file: dlsym also looks into the libraries under it. */
static const struct weir_plugin *find_symbol(void *handle, size_t *ret_size, struct wr_buf *why)
{
    void *object = dlsym(handle, "weir_plugin");
    struct link_map *map = NULL;
    Dl_info info;
    void *extra = NULL;
    if (object == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 ||
        dladdr1(object, &info, &extra, RTLD_DL_SYMENT) == 0 || extra == NULL ||
        (ElfW(Addr))info.dli_fbase != map->l_addr) {
        wr_buf_text(why, "no weir plugin: it does not export the object weir_plugin");
        return NULL;
    }
    const ElfW(Sym) *symbol = extra;
    if (symbol->st_info % 16 != STT_OBJECT) {
        wr_buf_text(why,
                    "no weir plugin: its weir_plugin is no object; define it with WEIR_PLUGIN");
        return NULL;
    }
    *ret_size = symbol->st_size;
    return object;
}

static const struct weir_plugin *load(const char *path, struct wr_buf *why)
{
    if (!wr_file_check(path, why))
        return NULL;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        wr_dlerror_words(path, dlerror(), why);
        return NULL;
    }
    size_t size = 0;
    const struct weir_plugin *p = find_symbol(handle, &size, why);
    return p != NULL && wr_plugin_check(p, size, why) ? p : NULL;
}

static const struct weir_type *find_type(const struct weir_plugin *p, enum weir_kind kind,
                                         struct weir_str name)
{
    for (uint32_t i = 0; p->types != NULL && p->types[i] != NULL; i++) {
        if (p->types[i]->kind == kind && wr_str_is(name, p->types[i]->name))
            return p->types[i];
    }
    return NULL;
}

static bool same_folder(const struct folder *f, const struct wr_plugin *p)
{
    size_t n = strlen(f->path);
    return p->path.len > n && memcmp(p->path.ptr, f->path, n) == 0 && p->path.ptr[n] == '/' &&
           memchr(p->path.ptr + n + 1, '/', p->path.len - n - 1) == NULL;
}

/* Which of the file's types are there already? False where one is, in the same folder. */
static bool check_rivals(struct wr_loader *l, const struct folder *f, const struct file *file)
{
    static const char *const kinds[] = {"?", "source", "transform", "sink"};
    const struct weir_plugin *p = file->plugin.plugin;
    for (uint32_t i = 0; p->types != NULL && p->types[i] != NULL; i++) {
        const struct weir_type *t = p->types[i];
        for (uint32_t k = 0; k < l->n_plugins; k++) {
            const struct wr_plugin *other = l->plugins[k];
            if (find_type(other->plugin, t->kind, weir_cstr(t->name)) == NULL)
                continue;
            bool same = same_folder(f, other);
            add_text(same ? &l->bad : &l->shadowed, "%s: %s \"%s\" is %s %.*s", file->path,
                     kinds[t->kind], t->name,
                     same ? "also in this folder's" : "shadowed by the one in",
                     WR_STR(other->path));
            if (same)
                return false;
            break;
        }
    }
    return true;
}

static bool is_loaded(const struct wr_loader *l, const struct weir_plugin *p)
{
    for (uint32_t i = 0; i < l->n_plugins; i++) {
        if (l->plugins[i]->plugin == p)
            return true;
    }
    return false;
}

static void open_file(struct wr_loader *l, const struct folder *f, struct file *file)
{
    if (file->tried)
        return;
    file->tried = true;
    struct wr_buf why = {0};
    const struct weir_plugin *p = load(file->path, &why);
    if (p == NULL)
        add_text(&l->bad, "%s: %s", file->path, why.ptr);
    wr_buf_done(&why);
    if (p == NULL || is_loaded(l, p)) /* a link to a file that was opened under another name */
        return;
    file->plugin = (struct wr_plugin){p, weir_cstr(file->path)};
    if (!check_rivals(l, f, file)) {
        file->plugin.plugin = NULL;
        return;
    }
    l->plugins = wr_xrealloc(l->plugins, (l->n_plugins + 1u) * sizeof(struct wr_plugin *));
    l->plugins[l->n_plugins++] = &file->plugin;
}

/* ---- Finding ---- */

/* Opens one more file of the folder, that called NAME.so first; false where all are open. */
static bool open_next(struct wr_loader *l, struct folder *f, struct weir_str name)
{
    struct file *next = NULL;
    for (uint32_t i = 0; i < f->n; i++) {
        struct file *file = &f->files[i];
        if (file->tried)
            continue;
        bool named = name.len > 0 && strlen(file->name) == name.len + 3 &&
                     memcmp(file->name, name.ptr, name.len) == 0;
        if (next == NULL || named)
            next = file;
        if (named)
            break;
    }
    if (next == NULL)
        return false;
    open_file(l, f, next);
    return true;
}

static const struct weir_type *find_loaded(const struct wr_loader *l, enum weir_kind kind,
                                           struct weir_str name,
                                           const struct wr_plugin **ret_plugin)
{
    for (uint32_t i = 0; i < l->n_plugins; i++) {
        const struct weir_type *t = find_type(l->plugins[i]->plugin, kind, name);
        if (t == NULL)
            continue;
        if (ret_plugin != NULL)
            *ret_plugin = l->plugins[i];
        return t;
    }
    return NULL;
}

const struct weir_type *wr_loader_type(struct wr_loader *l, enum weir_kind kind,
                                       struct weir_str name, const struct wr_plugin **ret_plugin)
{
    const struct weir_type *t = find_loaded(l, kind, name, ret_plugin);
    for (uint32_t i = 0; i < l->n_folders && t == NULL; i++) {
        while (t == NULL && open_next(l, &l->folders[i], name))
            t = find_loaded(l, kind, name, ret_plugin);
    }
    return t;
}

static const void *find_service(const struct wr_loader *l, const char *name)
{
    for (uint32_t i = 0; i < l->n_plugins; i++) {
        const struct weir_service *s = l->plugins[i]->plugin->services;
        for (; s != NULL && s->name != NULL; s++) {
            if (strcmp(s->name, name) == 0)
                return s->table;
        }
    }
    return NULL;
}

const void *wr_loader_service(struct wr_loader *l, const char *name)
{
    const void *table = find_service(l, name);
    for (uint32_t i = 0; i < l->n_folders && table == NULL; i++) {
        while (table == NULL && open_next(l, &l->folders[i], weir_cstr("")))
            table = find_service(l, name);
    }
    return table;
}

void wr_loader_all(struct wr_loader *l)
{
    for (uint32_t i = 0; i < l->n_folders; i++) {
        while (open_next(l, &l->folders[i], weir_cstr("")))
            continue;
    }
}

uint32_t wr_loader_count(const struct wr_loader *l)
{
    return l->n_plugins;
}

const struct wr_plugin *wr_loader_at(const struct wr_loader *l, uint32_t i)
{
    WR_BUG_ON(i >= l->n_plugins);
    return l->plugins[i];
}

uint32_t wr_loader_n_dirs(const struct wr_loader *l)
{
    return l->n_folders;
}

const char *wr_loader_dir(const struct wr_loader *l, uint32_t i)
{
    WR_BUG_ON(i >= l->n_folders);
    return l->folders[i].path;
}

uint32_t wr_loader_n_bad(const struct wr_loader *l)
{
    return l->bad.n;
}

const char *wr_loader_bad(const struct wr_loader *l, uint32_t i)
{
    WR_BUG_ON(i >= l->bad.n);
    return l->bad.items[i];
}

uint32_t wr_loader_n_shadowed(const struct wr_loader *l)
{
    return l->shadowed.n;
}

const char *wr_loader_shadowed(const struct wr_loader *l, uint32_t i)
{
    WR_BUG_ON(i >= l->shadowed.n);
    return l->shadowed.items[i];
}
