/* SPDX-License-Identifier: Apache-2.0
 *
 * The loader: what a file may be, told by making files and small shared objects in a folder that is removed
 * again; and which type is found where. What a plugin's object may hold is test_loader_object.c.
 */
#include <base/check.h>
#include <base/mem.h>
#include <engine/loader.h>
#include <engine/loader_check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- Files ---- */

struct fixture {
    char root[64];
    char dir[80]; /* a folder under it */
    int n_dirs;
    struct wr_loader *loader;
};

/* A new empty folder: what was loaded once from a path stays what that path is. */
static void fresh(struct fixture *f)
{
    snprintf(f->dir, sizeof(f->dir), "%s/%d", f->root, f->n_dirs++);
    if (mkdir(f->dir, 0700) != 0)
        fail_msg("%s: %s", f->dir, strerror(errno));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->root, sizeof(f->root), "/tmp/test_loader_XXXXXX");
    if (mkdtemp(f->root) == NULL)
        return -1;
    fresh(f);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    wr_loader_free(f->loader);
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* Runs a shell command in the fixture's folder. */
static void __attribute__((format(printf, 2, 3))) run(const struct fixture *f, const char *fmt, ...)
{
    char command[2048], all[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    snprintf(all, sizeof(all), "cd %s && %s", f->dir, command);
    int rc = system(all);
    if (rc != 0)
        fail_msg("%s: %d", all, rc);
}

#define CC "cc -std=c11 -fPIC -I" WEIR_SOURCE_DIR "/core/include "
#define PLUGIN_C WEIR_SOURCE_DIR "/tests/unit/engine/plugins/plugin.c "

static void load_all(struct fixture *f)
{
    wr_loader_free(f->loader);
    f->loader = wr_loader_new((const char *const[]){f->dir, NULL});
    wr_loader_all(f->loader);
}

/* The one file there is bad, and this is said of it; expected may end in "*". */
static void expect_bad(struct fixture *f, const char *expected)
{
    char all[1024];
    load_all(f);
    snprintf(all, sizeof(all), "%s/x.so: %s", f->dir, expected);
    assert_int_equal(wr_loader_count(f->loader), 0);
    assert_int_equal(wr_loader_n_bad(f->loader), 1);
    const char *said = wr_loader_bad(f->loader, 0);
    size_t n = strlen(all);
    if (all[n - 1] == '*')
        assert_true(strncmp(said, all, n - 1) == 0);
    else
        assert_string_equal(said, all);
    assert_null(strchr(said, '\n'));
}

static void patch(const struct fixture *f, off_t at, const void *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/x.so", f->dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void a_good_file(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o x.so " PLUGIN_C);
    load_all(f);
    assert_int_equal(wr_loader_n_bad(f->loader), 0);
    assert_int_equal(wr_loader_count(f->loader), 1);
    assert_string_equal(wr_loader_at(f->loader, 0)->plugin->version, "1.2.3");
    assert_int_equal(wr_loader_n_dirs(f->loader), 1);
    assert_string_equal(wr_loader_dir(f->loader, 0), f->dir);
    const struct wr_plugin *from = NULL;
    const struct weir_type *t = wr_loader_type(f->loader, WEIR_SINK, weir_cstr("tiny"), &from);
    assert_non_null(t);
    assert_ptr_equal(from, wr_loader_at(f->loader, 0));
    assert_null(wr_loader_type(f->loader, WEIR_SOURCE, weir_cstr("tiny"), NULL));
    assert_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr("tin"), NULL));
    assert_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr(""), NULL));
}

static void files_that_are_none(void **state)
{
    struct fixture *f = *state;
    run(f, "echo hello there > x.so");
    expect_bad(f, "a text file, expected a shared object (ELF)");
    run(f, "rm x.so && : > x.so");
    expect_bad(f, "the file is empty");
    run(f, "rm x.so && mkdir x.so");
    expect_bad(f, "a folder, expected a regular file");
    run(f, "rmdir x.so && mkfifo x.so");
    expect_bad(f, "a named pipe, expected a regular file");
    run(f, "rm x.so && ln -s /nowhere x.so");
    expect_bad(f, "cannot be read: No such file or directory");
    run(f, "rm x.so && ln -s /dev/zero x.so");
    expect_bad(f, "a device, expected a regular file");
    run(f, "rm x.so && printf 'MZ\\001\\002\\003' > x.so");
    expect_bad(f, "not a shared object: it does not begin with an ELF header");
    run(f, "rm x.so && printf '!<arch>\\nmore\\001' > x.so");
    expect_bad(f, "a static library, expected a shared object: link it with -shared");
}

/* As root, which may read everything, the question is asked as somebody else. */
static void an_unreadable_file(void **state)
{
    struct fixture *f = *state;
    struct wr_buf why = {0};
    char path[128];
    run(f, "echo x > x.so && chmod 0 x.so && chmod 0711 . ..");
    snprintf(path, sizeof(path), "%s/x.so", f->dir);
    uid_t uid = geteuid();
    assert_int_equal(seteuid(uid == 0 ? 65534 : uid), 0);
    bool good = wr_file_check(path, &why);
    assert_int_equal(seteuid(uid), 0);
    assert_false(good);
    assert_string_equal(why.ptr, "cannot be read: Permission denied");
    wr_buf_done(&why);
}

static void other_machines(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o x.so " PLUGIN_C);
    uint16_t machine = sizeof(void *) == 8 ? EM_S390 : EM_X86_64;
    patch(f, offsetof(Elf64_Ehdr, e_machine), &machine, sizeof(machine));
    expect_bad(f, "built for another machine: s390x (64-bit, little-endian), this one is *");
    unsigned char class = ELFCLASS32;
    patch(f, EI_CLASS, &class, 1);
    expect_bad(f, "built for another machine: s390x (32-bit, little-endian), this one is *");
}

static void other_elf_files(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-c -o x.so " PLUGIN_C);
    expect_bad(f, "an object file, expected a shared object: link it with -shared");
    run(f, "echo 'int main(void) { return 0; }' > main.c && " CC "-no-pie -o x.so main.c");
    expect_bad(f, "a program, expected a shared object: link it with -shared");
    run(f, "rm x.so && " CC "-pie -o x.so main.c");
    expect_bad(f, "a program, expected a shared object: link it with -shared");
}

static void cut_off_files(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o whole " PLUGIN_C "&& head -c 40 whole > x.so");
    expect_bad(f, "the file is cut off: it ends inside its ELF header");
    static const int lengths[] = {64, 100, 600, 4096, 8192, 12288};
    for (size_t i = 0; i < WR_COUNT(lengths); i++) {
        run(f, "head -c %d whole > x.so", lengths[i]);
        expect_bad(f, "the file is cut off: it has *");
    }
    run(f, "cp whole x.so");
    uint16_t n = 0;
    patch(f, offsetof(Elf64_Ehdr, e_phnum), &n, sizeof(n));
    expect_bad(f, "its ELF header is damaged: no usable program headers");
}

static void what_the_linker_misses(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -DCALL=not_there_at_all -o x.so " PLUGIN_C);
    expect_bad(f,
               "needs the symbol \"not_there_at_all\", which no library that it names has: link it "
               "with the one that does (-Wl,-z,defs finds this at build time)");
    run(f, "echo 'void helper(void) {}' > h.c && " CC "-shared -o libhelper_gone.so.3 h.c && " CC
           "-shared -DCALL=helper -o x.so " PLUGIN_C "./libhelper_gone.so.3 -Wl,-rpath,/nowhere "
           "-Wl,-soname,x && rm libhelper_gone.so.3");
    expect_bad(f, "needs the library ./libhelper_gone.so.3, which is not installed");
    run(f, "mkdir fake && printf 'GLIBC_9.99 { global: helper; };' > v.map && " CC
           "-shared -nostdlib -Wl,-soname,libc.so.6 -Wl,--version-script=v.map -o fake/libc.so.6 "
           "h.c && " CC "-shared -nostdlib -DCALL=helper -o x.so " PLUGIN_C "fake/libc.so.6");
    expect_bad(f, "needs glibc 9.99, this system has *");
}

static void objects_that_are_none(void **state)
{
    struct fixture *f = *state;
    run(f, "echo 'int other = 1;' > o.c && " CC "-shared -o x.so o.c");
    expect_bad(f, "no weir plugin: it does not export the object weir_plugin");
    fresh(f);
    run(f, "echo 'void weir_plugin(void) {}' > o.c && " CC "-shared -o x.so o.c");
    expect_bad(f, "no weir plugin: its weir_plugin is no object; define it with WEIR_PLUGIN");
    fresh(f);
    run(f, "echo 'const char weir_plugin[3] = \"ab\";' > o.c && " CC "-shared -o x.so o.c");
    expect_bad(f, "its symbol weir_plugin has 3 bytes and is no struct weir_plugin");
    fresh(f);
    run(f, CC "-shared -DMAJOR=9 -o x.so " PLUGIN_C);
    expect_bad(f,
               "built for plugin ABI 9.0, this weir has 1.0: the plugin is newer, so update weir");
    fresh(f);
    run(f, CC "-shared -DSIZE=70000 -o x.so " PLUGIN_C);
    expect_bad(f, "struct weir_plugin says that it has 70000 bytes, expected *");
}

/* A library under the plugin that happens to be one itself lends no symbol. */
static void a_symbol_from_below(void **state)
{
    struct fixture *f = *state;
    run(f,
        "mkdir below && " CC "-shared -Wl,-soname,libbelow.so -o below/libbelow.so " PLUGIN_C "&& "
        "echo 'int other = 1;' > o.c && " CC "-shared -Wl,--no-as-needed -o x.so o.c "
        "below/libbelow.so -Wl,-rpath,%s/below",
        f->dir);
    expect_bad(f, "no weir plugin: it does not export the object weir_plugin");
}

/* ---- Folders ---- */

static void other_names_are_no_plugins(void **state)
{
    struct fixture *f = *state;
    run(f, "echo x > README && echo x > .hidden.so && echo x > lib.so.1 && echo x > .so");
    load_all(f);
    assert_int_equal(wr_loader_n_bad(f->loader), 0);
    assert_int_equal(wr_loader_count(f->loader), 0);
}

static void a_missing_folder(void **state)
{
    struct fixture *f = *state;
    f->loader = wr_loader_new((const char *const[]){"/nowhere/at/all", f->dir, NULL});
    assert_int_equal(wr_loader_n_dirs(f->loader), 2);
    assert_int_equal(wr_loader_n_bad(f->loader), 1);
    assert_string_equal(
        wr_loader_bad(f->loader, 0),
        "/nowhere/at/all: the plugin folder cannot be read: No such file or directory");
    wr_loader_free(wr_loader_new(NULL));
    wr_loader_free(NULL);
}

/* a has tiny under another file name, b has tiny.so: the folder decides, not the name. */
static void the_first_folder_wins(void **state)
{
    struct fixture *f = *state;
    run(f, "mkdir a b && " CC "-shared -o a/other.so " PLUGIN_C "&& cp a/other.so b/tiny.so && " CC
           "-shared -DNAME='\"huge\"' -o b/huge.so " PLUGIN_C);
    char a[128], b[128];
    snprintf(a, sizeof(a), "%s/a/", f->dir);
    snprintf(b, sizeof(b), "%s/b", f->dir);
    f->loader = wr_loader_new((const char *const[]){a, b, a, NULL});
    assert_int_equal(wr_loader_n_dirs(f->loader), 2); /* the same folder twice is one */
    const struct wr_plugin *from = NULL;
    assert_non_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr("tiny"), &from));
    assert_string_equal(strrchr(from->path.ptr, '/'), "/other.so");
    assert_int_equal(wr_loader_count(f->loader), 1); /* b was not looked into */
    assert_non_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr("huge"), &from));
    assert_string_equal(strrchr(from->path.ptr, '/'), "/huge.so");
    assert_int_equal(wr_loader_count(f->loader), 2); /* huge.so first, tiny.so not yet */
    wr_loader_all(f->loader);
    assert_int_equal(wr_loader_count(f->loader), 3);
    assert_int_equal(wr_loader_n_bad(f->loader), 0);
    assert_int_equal(wr_loader_n_shadowed(f->loader), 1);
    char expected[512];
    snprintf(expected, sizeof(expected),
             "%s/tiny.so: sink \"tiny\" is shadowed by the one in %sother.so", b, a);
    assert_string_equal(wr_loader_shadowed(f->loader, 0), expected);
    assert_non_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr("tiny"), &from));
    assert_string_equal(strrchr(from->path.ptr, '/'), "/other.so");
}

static void twice_in_a_folder_is_an_error(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o a.so " PLUGIN_C "&& cp a.so b.so && ln a.so c.so && ln -s a.so d.so");
    load_all(f);
    assert_int_equal(wr_loader_count(f->loader), 1);
    assert_int_equal(wr_loader_n_bad(f->loader), 1); /* links to a.so are a.so */
    char expected[512];
    snprintf(expected, sizeof(expected), "%s/b.so: sink \"tiny\" is also in this folder's %s/a.so",
             f->dir, f->dir);
    assert_string_equal(wr_loader_bad(f->loader, 0), expected);
}

static void services_are_found(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o a.so " PLUGIN_C "&& " CC
              "-shared -DNAME='\"b\"' -DSERVICE='\"weir.x/1\"' -o b.so " PLUGIN_C);
    f->loader = wr_loader_new((const char *const[]){f->dir, NULL});
    const int *table = wr_loader_service(f->loader, "weir.x/1");
    assert_non_null(table);
    assert_int_equal(*table, 42);
    assert_null(wr_loader_service(f->loader, "weir.x/2"));
}

/* The good ones are found beside the bad ones. */
static void bad_files_do_no_harm(void **state)
{
    struct fixture *f = *state;
    run(f, CC "-shared -o z.so " PLUGIN_C "&& echo text > a.so && : > b.so && mkdir c.so && " CC
              "-shared -DMAJOR=2 -o tiny.so " PLUGIN_C);
    f->loader = wr_loader_new((const char *const[]){f->dir, NULL});
    assert_non_null(wr_loader_type(f->loader, WEIR_SINK, weir_cstr("tiny"), NULL));
    assert_int_equal(wr_loader_n_bad(f->loader), 4);
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(a_good_file),
        FILE_TEST(files_that_are_none),
        FILE_TEST(an_unreadable_file),
        FILE_TEST(other_machines),
        FILE_TEST(other_elf_files),
        FILE_TEST(cut_off_files),
        FILE_TEST(what_the_linker_misses),
        FILE_TEST(objects_that_are_none),
        FILE_TEST(a_symbol_from_below),
        FILE_TEST(other_names_are_no_plugins),
        FILE_TEST(a_missing_folder),
        FILE_TEST(the_first_folder_wins),
        FILE_TEST(twice_in_a_folder_is_an_error),
        FILE_TEST(services_are_found),
        FILE_TEST(bad_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
