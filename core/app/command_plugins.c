/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_plugins.c: `weir plugins [NAME]`: the component types that were found, or all about one,
 * from the tables that the plugins themselves carry.
 */
#include <app/commands.h>
#include <app/folders.h>
#include <base/buf.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <stdio.h>
#include <stdlib.h>

struct args {
    struct wr_cli_list plugin_dirs;
    int format;
};

enum { FORMAT_TEXT, FORMAT_MARKDOWN };
static const char *const format_words[] = {"text", "markdown", NULL};

static const struct wr_cli_option options[] = {
    {"format", WR_CLI_CHOICE, offsetof(struct args, format), NULL, format_words, "text",
     "text for a terminal, markdown for documents"},
    {"plugin-dir", WR_CLI_LIST, offsetof(struct args, plugin_dirs), "DIR", NULL, NULL,
     "look for plugins here first"},
};

static const char *const kind_names[] = {"?", "source", "transform", "sink"};

/* One type and who offers it. */
struct entry {
    const struct weir_type *type;
    const struct wr_plugin *plugin;
};

struct entries {
    struct entry *items;
    uint32_t n;
};

static int by_kind_and_name(const void *a_, const void *b_)
{
    const struct entry *a = a_, *b = b_;
    if (a->type->kind != b->type->kind)
        return a->type->kind < b->type->kind ? -1 : 1;
    return strcmp(a->type->name, b->type->name);
}

/* Shadowed types are left out: those that a pipeline would get remain. */
static struct entries list_types(struct wr_loader *l)
{
    struct entries e = {NULL, 0};
    wr_loader_all(l);
    for (uint32_t i = 0; i < wr_loader_count(l); i++) {
        const struct wr_plugin *p = wr_loader_at(l, i);
        for (uint32_t k = 0; p->plugin->types != NULL && p->plugin->types[k] != NULL; k++) {
            const struct weir_type *t = p->plugin->types[k];
            if (wr_loader_type(l, t->kind, weir_cstr(t->name), NULL) != t)
                continue;
            e.items = wr_xrealloc(e.items, (e.n + 1u) * sizeof(*e.items));
            e.items[e.n++] = (struct entry){t, p};
        }
    }
    if (e.n > 0)
        qsort(e.items, e.n, sizeof(e.items[0]), by_kind_and_name);
    return e;
}

static void print_list(const struct entries *e, int format)
{
    bool markdown = format == FORMAT_MARKDOWN;
    puts(markdown ? "| kind | type | plugin | what it does |\n| --- | --- | --- | --- |"
                  : "KIND       TYPE          PLUGIN              WHAT IT DOES");
    for (uint32_t i = 0; i < e->n; i++) {
        const struct weir_type *t = e->items[i].type;
        const struct weir_plugin *p = e->items[i].plugin->plugin;
        struct wr_buf from = {0};
        wr_buf_printf(&from, "%s %s", p->name, p->version);
        printf(markdown ? "| %s | `%s` | %s | %s |\n" : "%-9s  %-12s  %-18s  %s\n", kind_names[t->kind],
               t->name, from.ptr, t->summary);
        wr_buf_done(&from);
    }
}

/* The bad ones go to standard error, so that the list can be read by a program. */
static int tell_bad(struct wr_loader *l)
{
    for (uint32_t i = 0; i < wr_loader_n_bad(l); i++)
        fprintf(stderr, "plugin file cannot be used: %s\n", wr_loader_bad(l, i));
    return wr_loader_n_bad(l) > 0 ? WR_EXIT_PROBLEMS : WR_EXIT_OK;
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    const struct args *args = args_;
    (void)operands;
    struct wr_loader *l = wr_folders_open("plugins", &args->plugin_dirs);
    if (l == NULL)
        return WR_EXIT_USAGE;
    struct entries e = list_types(l);
    print_list(&e, args->format);
    int code = tell_bad(l);
    wr_free(e.items);
    wr_loader_free(l);
    return code;
}

const struct wr_command wr_command_plugins = {
    .name = "plugins",
    .summary = "List the component types that were found.",
    .operands = "",
    .text = "Types that a plugin in an earlier folder offers as well are left out.\n",
    .examples = "  weir plugins\n"
                "  weir plugins --format markdown\n",
    .exits = "  0  fine\n"
             "  1  a plugin file cannot be used; the others are listed\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
