/* SPDX-License-Identifier: Apache-2.0
 *
 * The loader: what a plugin object may hold, told by bending a good one in memory; what a file may
 * be, told by making files and small shared objects in a folder that is removed again; and which
 * type is found where.
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

/* ---- The object ---- */

struct nested {
    int64_t a;
};

struct config {
    bool flag;
    struct weir_str text;
    int choice;
    struct weir_list list;
    struct nested nested;
};

static const char *const words[] = {"one", "two", NULL};
static const struct weir_option good_fields[] = {
    {.name = "a", .type = WEIR_OPT_INT, .offset = offsetof(struct nested, a), .doc = "A."}};
static const struct weir_option good_options[] = {
    {.name = "flag", .type = WEIR_OPT_BOOL, .offset = offsetof(struct config, flag), .doc = "A."},
    {.name = "text", .type = WEIR_OPT_STRING, .offset = offsetof(struct config, text), .doc = "B."},
    {.name = "choice",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct config, choice),
     .choices = words,
     .doc = "C."},
    {.name = "list",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_TABLE,
     .fields_size = sizeof(struct nested),
     .offset = offsetof(struct config, list),
     WEIR_FIELDS(good_fields),
     .doc = "D."},
    {.name = "nested",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct config, nested),
     WEIR_FIELDS(good_fields),
     .doc = "E."},
};

static enum weir_status no_open(const struct weir_host *h, const void *c, void **s,
                                struct weir_error *e)
{
    (void)h, (void)c, (void)s, (void)e;
    return WEIR_OK;
}

static void no_close(void *self)
{
    (void)self;
}

static enum weir_status no_poll(void *self, struct weir_batch *b, uint32_t room, int64_t deadline,
                                struct weir_error *err)
{
    (void)self, (void)b, (void)room, (void)deadline, (void)err;
    return WEIR_END;
}

static void no_commit(void *self, struct weir_stream *s, void *user, int64_t next, bool final)
{
    (void)self, (void)s, (void)user, (void)next, (void) final;
}

static enum weir_status no_apply(void *self, struct weir_batch *b, int64_t *again,
                                 struct weir_error *e)
{
    (void)self, (void)b, (void)again, (void)e;
    return WEIR_OK;
}

static void no_write(void *self, struct weir_batch *b, int64_t deadline, struct weir_results *r)
{
    (void)self, (void)b, (void)deadline, (void)r;
}

static void no_progress(void *self, int64_t deadline)
{
    (void)self, (void)deadline;
}

/* A good plugin whose every part can be changed. */
struct parts {
    struct weir_option fields[1];
    struct weir_option options[5];
    struct weir_source source;
    struct weir_transform transform;
    struct weir_sink sink;
    struct weir_type types[3];
    const struct weir_type *list[4];
    struct weir_condition_service condition;
    struct weir_service services[2];
    struct weir_plugin plugin;
    size_t symbol_size;
};

static enum weir_status no_check(struct weir_str text, struct weir_error *err)
{
    (void)text, (void)err;
    return WEIR_OK;
}

static enum weir_status no_service_open(const struct weir_host *h, const struct weir_str *texts,
                                        uint32_t n, void **ret, struct weir_error *err)
{
    (void)h, (void)texts, (void)n, (void)ret, (void)err;
    return WEIR_OK;
}

static void no_eval(void *state, uint32_t which, struct weir_batch *b, uint8_t *ret)
{
    (void)state, (void)which, (void)b, (void)ret;
}

static void make_types(struct parts *p)
{
    static const char *const names[] = {"src", "tra", "snk"};
    for (int i = 0; i < 3; i++) {
        p->types[i] = (struct weir_type){.size = sizeof(struct weir_type),
                                         .kind = (enum weir_kind)(i + 1),
                                         .name = names[i],
                                         .summary = "S.",
                                         .open = no_open,
                                         .close = no_close};
        p->list[i] = &p->types[i];
    }
    p->types[0].source = &p->source;
    p->types[1].transform = &p->transform;
    p->types[2].sink = &p->sink;
    p->types[2].options =
        (struct weir_options){p->options, 5, sizeof(struct weir_option), sizeof(struct config)};
}

static void make_good(struct parts *p)
{
    memset(p, 0, sizeof(*p));
    memcpy(p->fields, good_fields, sizeof(good_fields));
    memcpy(p->options, good_options, sizeof(good_options));
    p->options[3].fields = p->options[4].fields = p->fields;
    p->source = (struct weir_source){
        .size = sizeof(p->source), .poll = no_poll, .commit = no_commit, .stop = no_close};
    p->transform = (struct weir_transform){.size = sizeof(p->transform), .apply = no_apply};
    p->sink = (struct weir_sink){.size = sizeof(p->sink), .write = no_write};
    make_types(p);
    p->condition = (struct weir_condition_service){sizeof(p->condition), no_check, no_service_open,
                                                   no_eval, no_close};
    p->services[0] = (struct weir_service){WEIR_CONDITION_SERVICE, &p->condition};
    p->plugin =
        (struct weir_plugin){WEIR_PLUGIN_ABI, "good", "1", "Good.", "MIT", p->list, p->services};
    p->symbol_size = sizeof(p->plugin);
}

/* Bends a good plugin by one statement, and compares what is said about it. */
#define BAD(statement, ...)                                                                        \
    do {                                                                                           \
        struct parts p;                                                                            \
        struct wr_buf why = {0}, expected = {0};                                                   \
        make_good(&p);                                                                             \
        statement;                                                                                 \
        wr_buf_printf(&expected, __VA_ARGS__);                                                     \
        assert_false(wr_plugin_check(&p.plugin, p.symbol_size, &why));                             \
        assert_string_equal(why.ptr, expected.ptr);                                                \
        wr_buf_done(&why);                                                                         \
        wr_buf_done(&expected);                                                                    \
    } while (0)

#define GOOD(statement)                                                                            \
    do {                                                                                           \
        struct parts p;                                                                            \
        struct wr_buf why = {0};                                                                   \
        make_good(&p);                                                                             \
        statement;                                                                                 \
        if (!wr_plugin_check(&p.plugin, p.symbol_size, &why))                                      \
            fail_msg("%s", why.ptr);                                                               \
        assert_int_equal(why.len, 0);                                                              \
        wr_buf_done(&why);                                                                         \
    } while (0)

static void good_objects(void **state)
{
    (void)state;
    GOOD((void)0);
    GOOD(p.plugin.services = NULL);
    GOOD(p.plugin.types = NULL);
    GOOD(p.types[2].options = (struct weir_options){0});
    GOOD(p.types[1].name = "src"); /* one name, two kinds */
    GOOD((p.sink.progress = no_progress, p.sink.wake = no_close));
    GOOD(p.symbol_size = sizeof(p.plugin) + 100);
}

static void bad_versions(void **state)
{
    (void)state;
    BAD(p.plugin.abi_major = 2,
        "built for plugin ABI 2.0, this weir has 1.0: the plugin is newer, so "
        "update weir");
    BAD(p.plugin.abi_minor = 7,
        "built for plugin ABI 1.7, this weir has 1.0: the plugin is newer, so "
        "update weir");
    BAD(p.plugin.abi_major = 0,
        "built for plugin ABI 0.0, this weir has 1.0: the plugin is older, so "
        "build it again with this weir's headers");
    BAD(p.plugin.size = 8, "struct weir_plugin says that it has 8 bytes, expected %zu",
        sizeof(struct weir_plugin));
    BAD(p.plugin.size = 4096, "struct weir_plugin says that it has 4096 bytes, expected %zu",
        sizeof(struct weir_plugin));
    BAD(p.symbol_size = 40, "its symbol weir_plugin has 40 bytes, and says that it has %zu",
        sizeof(struct weir_plugin));
    BAD(p.symbol_size = 4, "its symbol weir_plugin has 4 bytes and is no struct weir_plugin");
}

static void bad_plugins(void **state)
{
    (void)state;
    static const char name[] = "its plugin name is empty or no word of a-z, 0-9, _, - and .";
    static const char lacks[] = "plugin \"good\" lacks its version, summary or license";
    BAD(p.plugin.name = NULL, name);
    BAD(p.plugin.name = "", name);
    BAD(p.plugin.name = "a b", name);
    BAD(p.plugin.version = NULL, lacks);
    BAD(p.plugin.summary = NULL, lacks);
    BAD(p.plugin.license = "", lacks);
    BAD((p.list[0] = NULL, p.plugin.services = NULL),
        "it offers nothing: no types and no services");
    BAD(p.services[0].table = NULL, "service \"weir.condition/1\" has no table");
    BAD((p.services[0].name = "two\nlines", p.services[0].table = NULL),
        "the name of a service is empty or no word of a-z, 0-9, _, -, . and /");
    BAD(p.condition.size = 1,
        "struct weir_condition_service says that it has 1 bytes, expected %zu",
        sizeof(struct weir_condition_service));
    BAD(p.condition.eval = NULL,
        "service \"weir.condition/1\" lacks one of check, open, eval and close");
}

static void bad_types(void **state)
{
    (void)state;
    BAD(p.types[1].size = 0, "type 1: struct weir_type says that it has 0 bytes, expected %zu",
        sizeof(struct weir_type));
    BAD(p.types[1].kind = (enum weir_kind)9,
        "type 1: its kind 9 is unknown, expected a source, transform or sink");
    BAD(p.types[1].name = NULL, "type 1: its name is empty or no word of a-z, 0-9, _, - and .");
    BAD(p.types[1].name = "Upper", "type 1: its name is empty or no word of a-z, 0-9, _, - and .");
    BAD(p.list[1] = p.list[0], "source \"src\" is twice in its types");
    BAD(p.types[0].summary = NULL, "source \"src\": it has no `summary`");
    BAD(p.types[0].open = NULL, "source \"src\": it has no `open`");
    BAD(p.types[0].close = NULL, "source \"src\": it has no `close`");
    BAD(p.types[0].sink = &p.sink,
        "source \"src\": it has the calls of another kind too: write one type a kind");
    BAD(p.types[0].source = NULL, "source \"src\": it has no `source` calls");
    BAD(p.source.size = 3,
        "source \"src\": struct weir_source says that it has 3 bytes, expected %zu",
        sizeof(struct weir_source));
    BAD(p.source.poll = NULL, "source \"src\": it has no `poll`");
    BAD(p.source.stop = NULL, "source \"src\": it has no `stop`");
    BAD(p.source.commit = NULL,
        "source \"src\": it has neither `commit` nor `answer`: nothing would "
        "tell it that events ended");
    BAD(p.types[1].transform = NULL, "transform \"tra\": it has no `transform` calls");
    BAD(p.transform.apply = NULL, "transform \"tra\": it has no `apply`");
    BAD(p.transform.size = 0,
        "transform \"tra\": struct weir_transform says that it has 0 bytes, expected %zu",
        sizeof(struct weir_transform));
    BAD(p.types[2].sink = NULL, "sink \"snk\": it has no `sink` calls");
    BAD(p.sink.write = NULL, "sink \"snk\": it has no `write`");
    BAD(p.sink.size = 1, "sink \"snk\": struct weir_sink says that it has 1 bytes, expected %zu",
        sizeof(struct weir_sink));
    BAD(p.sink.progress = no_progress,
        "sink \"snk\": it has `progress` without `wake`: both or none");
    BAD(p.sink.wake = no_close, "sink \"snk\": it has `wake` without `progress`: both or none");
    BAD(p.sink.batch_bytes = -1, "sink \"snk\": its default batch has a negative limit");
}

static void bad_tables(void **state)
{
    (void)state;
    BAD(p.types[2].options.stride = 8,
        "sink \"snk\": its option table has a stride of 8 bytes, expected %zu: use WEIR_OPTIONS",
        sizeof(struct weir_option));
    BAD(p.types[2].options.stride = 4096,
        "sink \"snk\": its option table has a stride of 4096 bytes, expected %zu: use WEIR_OPTIONS",
        sizeof(struct weir_option));
    BAD(p.types[2].options.items = NULL,
        "sink \"snk\": its option table is NULL and has 5 entries");
    BAD(p.types[2].options.n = 100000,
        "sink \"snk\": its option table has 100000 entries, expected at most 512");
    BAD(p.types[2].options.config_size = 0,
        "sink \"snk\": its config struct has 0 bytes, expected 1 to "
        "16777216: use WEIR_OPTIONS");
    BAD(p.types[2].options.config_size = SIZE_MAX,
        "sink \"snk\": its config struct has 18446744073709551615 bytes, expected 1 to 16777216: "
        "use "
        "WEIR_OPTIONS");
    BAD(p.options[1].name = "flag", "sink \"snk\": option \"flag\" is twice in its table");
    BAD(p.options[1].name = NULL,
        "sink \"snk\": option 1 has a bad name, expected a-z, 0-9, _, - and .");
    BAD(p.options[1].name = "Two Words",
        "sink \"snk\": option 1 has a bad name, expected a-z, 0-9, _, - and .");
    BAD(p.fields[0].name = "",
        "sink \"snk\": option \"list\": option 0 has a bad name, expected a-z, "
        "0-9, _, - and .");
}

static void bad_options(void **state)
{
    (void)state;
    BAD(p.options[1].type = (enum weir_option_type)99,
        "sink \"snk\": option \"text\": its type 99 is unknown");
    BAD(p.options[1].of = WEIR_OPT_INT,
        "sink \"snk\": option \"text\": `of` is for lists and maps");
    BAD(p.options[3].of = WEIR_OPT_LIST,
        "sink \"snk\": option \"list\": `of` is 13, expected the type "
        "of one element, no list or map");
    BAD(p.options[1].offset = sizeof(struct config) - 8,
        "sink \"snk\": option \"text\": its offset 48 with 16 bytes lies outside the config struct "
        "of "
        "%zu bytes",
        sizeof(struct config));
    BAD(p.options[1].offset = SIZE_MAX - 3,
        "sink \"snk\": option \"text\": its offset 18446744073709551612 with 16 bytes lies outside "
        "the "
        "config struct of %zu bytes",
        sizeof(struct config));
    BAD(p.options[1].offset = 12,
        "sink \"snk\": option \"text\": its offset 12 does not fit its C type, "
        "which is aligned to 8");
    BAD(p.options[1].doc = "",
        "sink \"snk\": option \"text\": it has no `doc`, which `weir plugins` shows");
    BAD(p.options[1].doc = "a\nb",
        "sink \"snk\": option \"text\": its `doc` has more than one line");
    BAD((p.options[1].min = 2, p.options[1].max = 1),
        "sink \"snk\": option \"text\": `min` 2 is above `max` 1");
    BAD((p.options[1].flags = WEIR_OPT_REQUIRED, p.options[1].def = "x"),
        "sink \"snk\": option \"text\": it is required and has a default");
    BAD(p.options[1].deprecated_by = "gone",
        "sink \"snk\": option \"text\": `deprecated_by` names \"gone\", which is not in the table");
    BAD(p.options[1].deprecated_by = "a\nb",
        "sink \"snk\": option \"text\": `deprecated_by` is no name of an option");
    BAD(p.options[1].fields = p.fields, "sink \"snk\": option \"text\": `fields` are for a TABLE");
    BAD(p.options[3].of = WEIR_OPT_INT,
        "sink \"snk\": option \"list\": `fields` are for a TABLE");
    BAD(p.options[2].choices = NULL, "sink \"snk\": option \"choice\": an ENUM needs `choices`");
    BAD(p.options[4].fields = NULL, "sink \"snk\": option \"nested\": a TABLE needs `fields`");
    BAD(p.options[3].fields_size = 0,
        "sink \"snk\": option \"list\": `fields_size` is 0, expected sizeof the nested struct");
    BAD(p.options[3].fields_size = sizeof(struct nested) + 4,
        "sink \"snk\": option \"list\": `fields_size` is 12, expected sizeof the nested struct, a "
        "multiple of 8");
    BAD(p.fields[0].offset = 8,
        "sink \"snk\": option \"list.a\": its offset 8 with 8 bytes lies outside "
        "the config struct of 8 bytes");
    BAD((p.options[3] = p.options[1], p.options[3].name = "other", p.options[4].offset = 56),
        "sink \"snk\": option \"nested.a\": its offset 0 with 8 bytes lies outside the config "
        "struct of "
        "0 bytes");
    BAD((p.fields[0].type = WEIR_OPT_TABLE, p.fields[0].fields = p.fields,
         p.fields[0].n_fields = 1),
        "sink \"snk\": option \"list.a.a.a.a.a.a.a\": tables are nested more than 8 deep");
}

/* A text without an end, in memory of just the size that is looked at. */
static void endless_texts(void **state)
{
    size_t n = (size_t)64 << 10;
    char *endless = malloc(n), *name = malloc(65);
    (void)state;
    memset(endless, 'a', n);
    memset(name, 'a', 65);
    BAD(p.plugin.name = name, "its plugin name is empty or no word of a-z, 0-9, _, - and .");
    BAD(p.plugin.summary = endless, "plugin \"good\" lacks its version, summary or license");
    BAD(p.plugin.license = endless, "plugin \"good\" lacks its version, summary or license");
    BAD(p.types[0].name = name, "type 0: its name is empty or no word of a-z, 0-9, _, - and .");
    BAD(p.types[0].summary = endless, "source \"src\": it has no `summary`");
    BAD(p.types[0].doc = endless, "source \"src\": its `doc` has no end within 65536 bytes");
    BAD(p.options[1].doc = endless,
        "sink \"snk\": option \"text\": it has no `doc`, which `weir plugins` shows");
    BAD(p.options[1].def = endless,
        "sink \"snk\": option \"text\": its `def` has no end within 65536 bytes");
    BAD(p.options[1].example = endless,
        "sink \"snk\": option \"text\": its `example` has no end within 65536 bytes");
    BAD(p.options[1].deprecated_by = name,
        "sink \"snk\": option \"text\": `deprecated_by` is no name of an option");
    BAD(p.options[2].choices = ((const char *const[]){endless, NULL}),
        "sink \"snk\": option \"choice\": choice 0 is empty, or the list has no NULL at its end");
    BAD(p.services[0].name = name,
        "the name of a service is empty or no word of a-z, 0-9, _, -, . and /");
    free(endless);
    free(name);
}

/* Eight tables of eight, each in the one before: 8^8 ways lead to the last one. */
static void tables_that_multiply(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct weir_option tables[7][8];
    (void)state;
    memset(tables, 0, sizeof(tables));
    for (unsigned i = 0; i < 7; i++) {
        for (unsigned k = 0; k < 8; k++)
            tables[i][k] = (struct weir_option){.name = names[k],
                                                .type = i == 6 ? WEIR_OPT_BOOL : WEIR_OPT_TABLE,
                                                .fields = i == 6 ? NULL : tables[i + 1],
                                                .n_fields = i == 6 ? 0 : 8,
                                                .doc = "M."};
    }
    BAD((p.options[4].fields = tables[0], p.options[4].n_fields = 8),
        "sink \"snk\": option \"nested.a.a.d.d.h.e\": with all tables in each other there are more "
        "than 16384 options");
}

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
        cmocka_unit_test(good_objects),
        cmocka_unit_test(bad_versions),
        cmocka_unit_test(bad_plugins),
        cmocka_unit_test(bad_types),
        cmocka_unit_test(bad_tables),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(endless_texts),
        cmocka_unit_test(tables_that_multiply),
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
