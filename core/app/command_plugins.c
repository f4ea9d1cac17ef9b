/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_plugins.c: `weir plugins [NAME]`: the component types that were found, or all about
 * one, from the tables that the plugins themselves carry.
 */
#include <app/commands.h>
#include <app/folders.h>
#include <base/buf.h>
#include <base/check.h>
#include <base/mem.h>
#include <engine/describe.h>
#include <model/diag.h>
#include <stdio.h>
#include <string.h>

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

/* ---- One name ---- */

/* What is looked for, and the output so far. */
struct search {
    struct wr_loader *loader;
    const char *name;
    struct wr_buf out;
    bool markdown;
    uint32_t found;
};

static void describe(struct search *s, const struct weir_type *t)
{
    if (s->found++ > 0)
        wr_buf_text(&s->out, "\n");
    wr_describe_type(t, &s->out, s->markdown);
}

/* A source, a transform and a sink may share a name. */
static void describe_by_type(struct search *s)
{
    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++) {
        const struct weir_type *t = wr_loader_type(s->loader, kind, weir_cstr(s->name), NULL);
        if (t != NULL)
            describe(s, t);
    }
}

/* All types that pipelines would get, of all plugins or of one; by kind, as they were opened. */
static void describe_all(struct search *s, const char *plugin)
{
    for (enum weir_kind kind = WEIR_SOURCE; kind <= WEIR_SINK; kind++) {
        for (uint32_t i = 0; i < wr_loader_count(s->loader); i++) {
            const struct weir_plugin *p = wr_loader_at(s->loader, i)->plugin;
            if (plugin != NULL && strcmp(plugin, p->name) != 0)
                continue;
            for (uint32_t k = 0; p->types != NULL && p->types[k] != NULL; k++) {
                const struct weir_type *t = p->types[k];
                if (t->kind == kind &&
                    wr_loader_type(s->loader, kind, weir_cstr(t->name), NULL) == t)
                    describe(s, t);
            }
        }
    }
}

static void tell_unknown(const struct search *s)
{
    const char **words = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < wr_loader_count(s->loader); i++) {
        const struct weir_plugin *p = wr_loader_at(s->loader, i)->plugin;
        for (uint32_t k = 0; p->types != NULL && p->types[k] != NULL; k++) {
            words = wr_xrealloc(words, (n + 1u) * sizeof(*words));
            words[n++] = p->types[k]->name;
        }
    }
    const char *near = n > 0 ? wr_nearest_word(weir_cstr(s->name), words, n) : NULL;
    fprintf(stderr, "weir plugins: no component type or plugin \"%s\" was found", s->name);
    if (near != NULL)
        fprintf(stderr, " (did you mean \"%s\"?)", near);
    fputs("\n\"weir plugins\" lists what there is\n", stderr);
    wr_free(words);
}

/* ---- The command ---- */

static void make_text(struct search *s)
{
    if (s->name == NULL && s->markdown) {
        wr_describe_top(&s->out, true);
        s->found++;
        describe_all(s, NULL);
    } else if (s->name == NULL) {
        wr_describe_list(s->loader, &s->out);
        wr_buf_text(&s->out, "\n\"weir plugins NAME\" tells the options of a type, \"weir plugins "
                             "pipeline\" those at the top of a file.\n");
        s->found++;
    } else {
        describe_by_type(s);
        if (s->found == 0)
            describe_all(s, s->name);
        if (s->found == 0 && strcmp(s->name, "pipeline") == 0) {
            wr_describe_top(&s->out, s->markdown);
            s->found++;
        }
    }
}

/* To standard error, so that what is printed can be read by a program. */
static void tell_bad(struct wr_loader *l)
{
    for (uint32_t i = 0; i < wr_loader_n_bad(l); i++)
        fprintf(stderr, "plugin file cannot be used: %s\n", wr_loader_bad(l, i));
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    const struct args *args = args_;
    struct search s = {.loader = wr_folders_open("plugins", &args->plugin_dirs),
                       .name = operands->n > 0 ? operands->items[0] : NULL,
                       .markdown = args->format == FORMAT_MARKDOWN};
    if (s.loader == NULL)
        return WR_EXIT_USAGE;
    wr_loader_all(s.loader);
    make_text(&s);
    if (s.found > 0)
        fwrite(s.out.ptr, 1, s.out.len, stdout);
    else
        tell_unknown(&s);
    bool all = s.name == NULL || s.found == 0;
    if (all)
        tell_bad(s.loader);
    bool problems = s.found == 0 || (all && wr_loader_n_bad(s.loader) > 0);
    wr_buf_done(&s.out);
    wr_loader_free(s.loader);
    return problems ? WR_EXIT_PROBLEMS : WR_EXIT_OK;
}

const struct wr_command wr_command_plugins = {
    .name = "plugins",
    .summary = "List component types, or tell all options of one.",
    .operands = "[NAME]",
    .max_operands = 1,
    .text = "NAME is a component type, or a plugin for all of its types, or \"pipeline\" for the\n"
            "options at the top of a pipeline file. Without NAME the types are listed; with\n"
            "--format markdown that is the whole reference. Types that an earlier folder has as\n"
            "well are left out.\n",
    .examples = "  weir plugins\n"
                "  weir plugins kafka\n"
                "  weir plugins --format markdown > reference.md\n",
    .exits = "  0  fine\n"
             "  1  there is no such type, or a plugin file cannot be used\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
