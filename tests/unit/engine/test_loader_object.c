/* SPDX-License-Identifier: Apache-2.0
 *
 * The loader: what a plugin's object may hold, told by bending a good one in memory.
 */
#include <base/check.h>
#include <engine/loader_check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
