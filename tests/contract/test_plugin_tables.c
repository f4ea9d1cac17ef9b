/* SPDX-License-Identifier: Apache-2.0
 *
 * What every built plugin says of itself: one symbol, words and texts, a sane option table whose defaults and
 * examples are taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/describe.h>
#include <engine/plan_private.h>
#include <model/options.h>

static struct wr_loader *loader;

/* ---- Option tables ---- */

static bool is_word(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return n != 0 && s[n] == '\0' && s[0] >= 'a' && s[0] <= 'z';
}

static const struct weir_condition *any_condition(void *arg, struct weir_str text, struct weir_error *err)
{
    static const struct weir_condition c;
    const struct weir_condition_service *service = wr_loader_service(loader, WEIR_CONDITION_SERVICE);
    (void)arg;
    return service != NULL && service->check(text, err) == WEIR_OK ? &c : NULL;
}

/* Binds that one option by the text, as the binder of pipeline files does; NULL: by its default. */
static void bind_one(const char *type, const struct weir_options *table, uint32_t i, const char *text)
{
    struct weir_option o = wr_option_at(table, i);
    char *yaml = wr_xalloc(strlen(o.name) + (text != NULL ? strlen(text) : 0) + 8);
    struct weir_arena a = {0};
    struct wr_diags *d = wr_diags_new();
    struct wr_conf conf = {0};
    o.flags &= ~WEIR_OPT_REQUIRED;
    if (text == NULL)
        snprintf(yaml, 8, "{}\n");
    else
        snprintf(yaml, strlen(o.name) + strlen(text) + 8, "%s: %s\n", o.name, text);
    const struct wr_text *t = wr_diags_text(d, weir_cstr(type), weir_cstr(yaml));
    void *config = wr_xalloc(table->config_size);
    struct wr_target target = {{&o, 1, sizeof(o), table->config_size}, config};
    struct wr_binder b = {.arena = &a, .diags = d, .dir = "/nowhere", .condition = any_condition};
    if (!wr_conf_parse(&a, t, d, &conf) ||
        !wr_options_bind(&b, &target, 1, conf.root, NULL, (struct wr_pos){t, 1, 1, 1})) {
        struct wr_buf out = {0};
        wr_diags_print(d, &out, false);
        fail_msg("%s: option '%s': %s", type, o.name, out.ptr);
    }
    wr_free(config);
    wr_free(yaml);
    wr_diags_free(d);
    wr_arena_done(&a);
}

static void check_table(const struct weir_type *type, const struct weir_options *table, int depth)
{
    static const char *const common[] = {"type", "inputs", "description", "lanes", "codec", "on_error",
                                         "batch", "buffer", "concurrency", "shard_by", "in_flight",
                                         "retry", "timeout", "on_reject", "on_unavailable", "dead_letter"};
    for (uint32_t i = 0; i < table->n; i++) {
        struct weir_option o = wr_option_at(table, i);
        if (!is_word(o.name))
            fail_msg("%s: option name '%s'", type->name, o.name);
        for (uint32_t k = 0; k < i; k++)
            assert_string_not_equal(wr_option_at(table, k).name, o.name);
        for (size_t k = 0; depth == 0 && type->kind == WEIR_SINK && k < WR_COUNT(common); k++)
            assert_string_not_equal(common[k], o.name);
        if (o.doc == NULL || strlen(o.doc) < 8 || strchr(o.doc, '\n') != NULL ||
            o.doc[strlen(o.doc) - 1] == ' ')
            fail_msg("%s.%s: a doc is one line", type->name, o.name);
        if (o.offset >= table->config_size || o.min > o.max)
            fail_msg("%s.%s: offset or limits", type->name, o.name);
        if (wr_sounds_secret(weir_cstr(o.name)) && o.type == WEIR_OPT_STRING &&
            (o.flags & WEIR_OPT_SECRET) == 0)
            fail_msg("%s.%s sounds like a secret and is none", type->name, o.name);
        bool lists = o.type == WEIR_OPT_LIST || o.type == WEIR_OPT_MAP;
        assert_int_equal(lists, o.of != 0);
        assert_int_equal((lists ? o.of : o.type) == WEIR_OPT_ENUM, o.choices != NULL);
        bind_one(type->name, table, i, NULL);
        if (o.example != NULL && strstr(o.example, "${") == NULL)
            bind_one(type->name, table, i, o.example);
        if (o.fields != NULL) {
            struct weir_options nested = wr_option_fields(&o, table->stride);
            nested.config_size = lists ? o.fields_size : table->config_size;
            check_table(type, &nested, depth + 1);
        }
    }
}

static void test_says_what_it_is(void **state)
{
    const struct weir_type *t = *state;
    struct wr_buf out = {0};
    if (!is_word(t->name) || t->summary == NULL || strchr(t->summary, '\n') != NULL)
        fail_msg("%s: name or summary", t->name);
    assert_non_null(t->open);
    assert_non_null(t->close);
    assert_true((t->kind == WEIR_SOURCE) == (t->source != NULL));
    assert_true((t->kind == WEIR_TRANSFORM) == (t->transform != NULL));
    assert_true((t->kind == WEIR_SINK) == (t->sink != NULL));
    if (t->source != NULL)
        assert_true(t->source->poll != NULL && (t->source->commit != NULL || t->source->answer != NULL));
    if (t->sink != NULL)
        assert_true(t->sink->write != NULL && t->sink->batch_events > 0 && t->sink->batch_bytes > 0 &&
                    (t->sink->progress == NULL || t->sink->wake != NULL));
    check_table(t, &t->options, 0);
    for (int markdown = 0; markdown < 2; markdown++)
        assert_true(wr_describe_type(t, &out, markdown != 0));
    for (uint32_t i = 0; i < t->options.n; i++)
        assert_non_null(strstr(out.ptr, wr_option_at(&t->options, i).name));
    wr_buf_done(&out);
}

/* ---- The files ---- */

static const Elf64_Shdr *section(const char *map, Elf64_Word type)
{
    const Elf64_Ehdr *e = (const void *)map;
    const Elf64_Shdr *s = (const void *)(map + e->e_shoff);
    for (int i = 0; i < e->e_shnum; i++)
        if (s[i].sh_type == type)
            return &s[i];
    return NULL;
}

static void check_symbols(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), exported = 0;
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    const char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    const Elf64_Shdr *table = section(map, SHT_DYNSYM);
    const Elf64_Shdr *all = (const void *)(map + ((const Elf64_Ehdr *)(const void *)map)->e_shoff);
    const char *names = map + all[table->sh_link].sh_offset;
    const Elf64_Sym *sym = (const void *)(map + table->sh_offset);
    for (size_t i = 1; i < table->sh_size / sizeof(*sym); i++) {
        const char *name = names + sym[i].st_name;
        bool ours = strncmp(name, "weir", 4) == 0 || strncmp(name, "wr_", 3) == 0;
        if (sym[i].st_shndx == SHN_UNDEF && ours)
            fail_msg("%s needs %s", path, name);
        if (sym[i].st_shndx == SHN_UNDEF || ELF64_ST_BIND(sym[i].st_info) == STB_LOCAL)
            continue;
        if (strcmp(name, "weir_plugin") != 0)
            fail_msg("%s exports %s", path, name);
        exported++;
    }
    assert_int_equal(exported, 1);
    munmap((void *)(uintptr_t)map, (size_t)st.st_size);
    close(fd);
}

static void test_every_file_exports_one_symbol(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < wr_loader_n_bad(loader); i++)
        fail_msg("%s", wr_loader_bad(loader, i));
    assert_true(wr_loader_count(loader) > 0);
    for (uint32_t i = 0; i < wr_loader_count(loader); i++) {
        const struct wr_plugin *p = wr_loader_at(loader, i);
        assert_true(p->plugin->license[0] != '\0' && p->plugin->version[0] != '\0');
        assert_true(p->plugin->types != NULL && p->plugin->types[0] != NULL);
        check_symbols(p->path.ptr);
    }
}

int main(void)
{
    static const char *const dirs[] = {WEIR_PLUGIN_BUILD_DIR, NULL};
    static const char *const kinds[] = {"", "source", "transform", "sink"};
    static struct CMUnitTest tests[100];
    static char names[100][80];
    size_t n = 0;
    loader = wr_loader_new(dirs);
    wr_loader_all(loader);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_every_file_exports_one_symbol);
    for (uint32_t p = 0; p < wr_loader_count(loader); p++) {
        const struct weir_type *const *types = wr_loader_at(loader, p)->plugin->types;
        for (uint32_t k = 0; types[k] != NULL && n < WR_COUNT(tests); k++, n++) {
            snprintf(names[n], sizeof(names[n]), "%s_%s_says_what_it_is", types[k]->name, kinds[types[k]->kind]);
            tests[n] = (struct CMUnitTest){names[n], test_says_what_it_is, NULL, NULL,
                                           (void *)(uintptr_t)types[k]};
        }
    }
    int failed = _cmocka_run_group_tests("plugin_tables", tests, n, NULL, NULL);
    wr_loader_free(loader);
    return failed;
}
