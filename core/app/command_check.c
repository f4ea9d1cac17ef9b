/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_check.c: `weir check FILE...`: everything that is wrong with the files, offline.
 */
#include <app/commands.h>
#include <app/files.h>
#include <app/memory.h>
#include <base/check.h>
#include <base/str.h>

struct args {
    struct wr_cli_list plugin_dirs;
    int format;
    int64_t memory;
};

enum { FORMAT_TEXT, FORMAT_JSON };
static const char *const format_words[] = {"text", "json", NULL};

static const struct wr_cli_option options[] = {
    {"format", WR_CLI_CHOICE, offsetof(struct args, format), NULL, format_words, "text",
     "text for people, json for editors and scripts"},
    {"memory", WR_CLI_SIZE, offsetof(struct args, memory), "SIZE", NULL, NULL,
     "also check that all files together fit into so much memory, in one process"},
    {"plugin-dir", WR_CLI_LIST, offsetof(struct args, plugin_dirs), "DIR", NULL, NULL,
     "look for plugins here first"},
};

static void print_json(const struct wr_files *f)
{
    struct wr_buf b = {0};
    wr_diags_json(f->diags, &b);
    fwrite(b.ptr, 1, b.len, stdout);
    if (b.len == 0 || b.ptr[b.len - 1] != '\n')
        putchar('\n');
    wr_buf_done(&b);
}

static void print_good(const struct wr_plan *p)
{
    uint32_t n[4] = {0};
    for (uint32_t i = 0; i < p->n_components; i++)
        n[p->components[i].type->kind]++;
    printf("%.*s: ok: pipeline \"%.*s\", %u source%s, %u transform%s, %u sink%s\n", WR_STR(p->file),
           WR_STR(p->name), n[WEIR_SOURCE], n[WEIR_SOURCE] == 1 ? "" : "s", n[WEIR_TRANSFORM],
           n[WEIR_TRANSFORM] == 1 ? "" : "s", n[WEIR_SINK], n[WEIR_SINK] == 1 ? "" : "s");
}

static void print_text(const struct wr_files *f)
{
    wr_files_print(f, stdout);
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->plans[i] != NULL)
            print_good(f->plans[i]);
    }
    uint32_t errors = wr_diags_count(f->diags, WR_ERROR),
             warnings = wr_diags_count(f->diags, WR_WARNING);
    if (errors > 0 || warnings > 0)
        printf("%u error%s, %u warning%s\n", errors, errors == 1 ? "" : "s", warnings,
               warnings == 1 ? "" : "s");
}

/* False where the size itself is wrong. */
static bool check_memory(const struct args *args, struct wr_files *f)
{
    struct wr_memory memory = {.limit = (uint64_t)args->memory, .from = "--memory"};
    bool usage = false;
    if (args->memory >= 0 && wr_diags_count(f->diags, WR_ERROR) == 0)
        (void)wr_memory_fit(&memory, "check", f, &usage);
    wr_memory_done(&memory);
    return !usage;
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    const struct args *args = args_;
    struct wr_files f;
    if (!wr_files_load("check", &args->plugin_dirs, operands, &f))
        return WR_EXIT_USAGE;
    if (!check_memory(args, &f)) {
        wr_files_done(&f);
        return WR_EXIT_USAGE;
    }
    if (args->format == FORMAT_JSON)
        print_json(&f);
    else
        print_text(&f);
    int code = wr_diags_count(f.diags, WR_ERROR) > 0 ? WR_EXIT_PROBLEMS : WR_EXIT_OK;
    wr_files_done(&f);
    return code;
}

const struct wr_command wr_command_check = {
    .name = "check",
    .summary = "Find everything that is wrong with pipeline files, offline.",
    .operands = "FILE...",
    .min_operands = 1,
    .max_operands = 1000,
    .text =
        "Reads the files as `weir run` does and reports all errors and warnings of all files, "
        "each\n"
        "with its place, what was expected and what was found. Connects to nothing. Files that\n"
        "options name (scripts, schemas, ${file:...}) are read.\n",
    .examples = "  weir check pipelines/*.yaml\n"
                "  weir check consumer.yaml --format json\n"
                "  weir check api.yaml consumer.yaml --memory 256MiB\n",
    .exits = "  0  no errors; there may be warnings\n"
             "  1  errors were found\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
