/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_run.c: `weir run FILE...`: reads and checks all files first, so that a mistake in one of
 * them starts nothing; then hands over to the supervisor.
 */
#include <app/commands.h>
#include <app/files.h>
#include <app/folders.h>
#include <app/supervise.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <stdio.h>
#include <unistd.h>

#define SERIES_MAX 20000

struct args {
    const char *metrics;
    struct wr_cli_list plugin_dirs;
    int log_level;
    int log_format;
    int64_t shutdown_timeout;
    bool exit_on_stop;
};

/* In the orders of enum weir_log_level and enum wr_log_format. */
static const char *const level_words[] = {"error", "warn", "info", "debug", "trace", NULL};
static const char *const format_words[] = {"auto", "logfmt", "json", NULL};

static const struct wr_cli_option options[] = {
    {"metrics", WR_CLI_TEXT, offsetof(struct args, metrics), "ADDR", NULL, NULL,
     "serve /metrics, /livez and /readyz on host:port; port 0 takes a free one"},
    {"plugin-dir", WR_CLI_LIST, offsetof(struct args, plugin_dirs), "DIR", NULL, NULL,
     "look for plugins here first"},
    {"log-level", WR_CLI_CHOICE, offsetof(struct args, log_level), NULL, level_words, "info",
     "least important lines to log"},
    {"log-format", WR_CLI_CHOICE, offsetof(struct args, log_format), NULL, format_words, "auto",
     "auto is logfmt on a terminal and JSON otherwise"},
    {"shutdown-timeout", WR_CLI_DURATION, offsetof(struct args, shutdown_timeout), "DURATION", NULL,
     NULL, "how long a shutdown may take, instead of what each file says"},
    {"exit-on-stop", WR_CLI_FLAG, offsetof(struct args, exit_on_stop), NULL, NULL, NULL,
     "end the process when a pipeline stops by itself"},
};

/* ---- Before anything runs ----------------------------------------------------------------------- */

static void log_finds(struct wr_log_scope *log, struct wr_loader *loader, struct wr_diags *d)
{
    for (uint32_t i = 0; i < wr_loader_n_bad(loader); i++)
        WR_LOG(log, WEIR_LOG_WARN, "plugin file cannot be used",
               weir_kv_text("error", wr_loader_bad(loader, i)));
    for (uint32_t i = 0; i < wr_loader_n_shadowed(loader); i++)
        WR_LOG(log, WEIR_LOG_DEBUG, "plugin type is shadowed",
               weir_kv_text("what", wr_loader_shadowed(loader, i)));
    for (uint32_t i = 0; i < wr_diags_count(d, WR_WARNING); i++) {
        const struct wr_diag *w = wr_diags_at(d, i);
        const struct weir_str no_name = {NULL, 0};
        WR_LOG(log, WEIR_LOG_WARN, "warning about a pipeline file",
               weir_kv_str("file", w->pos.text != NULL ? w->pos.text->name : no_name),
               weir_kv_u64("line", w->pos.line), weir_kv_u64("col", w->pos.col),
               weir_kv_text("code", w->code), weir_kv_str("path", w->path),
               weir_kv_str("message", w->message), weir_kv_str("hint", w->hint));
    }
}

/* Two pipelines of one name would mix their metrics, logs and consumer groups. */
static bool names_differ(const struct wr_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (!wr_str_eq(f->plans[i]->name, f->plans[k]->name))
                continue;
            fprintf(stderr,
                    "weir run: %.*s and %.*s both define the pipeline \"%.*s\": give each a `name` of "
                    "its own\n",
                    WR_STR(f->plans[k]->file), WR_STR(f->plans[i]->file), WR_STR(f->plans[i]->name));
            return false;
        }
    }
    return true;
}

/* ---- Running ---------------------------------------------------------------------------------------- */

/* The exit code, WR_EXIT_USAGE for an address that is none. */
static int run_pipelines(const struct args *args, const struct wr_files *f, const struct wr_runtime *rt,
                         struct wr_log_scope *log)
{
    const struct wr_supervisor_options how = {args->shutdown_timeout, args->exit_on_stop};
    struct wr_supervisor *s = wr_supervisor_new(f->plans, f->n, rt, &how);
    struct wr_http_server *server = NULL;
    int code = WR_EXIT_OK;
    if (args->metrics != NULL) {
        struct wr_http_answers answers = wr_supervisor_answers(s);
        struct weir_error err = {0};
        server = wr_http_server_new(args->metrics, &answers, &err);
        if (server != NULL)
            WR_LOG(log, WEIR_LOG_INFO, "metrics listening",
                   weir_kv_text("addr", wr_http_server_addr(server)));
        else if (err.status == WEIR_E_CONFIG)
            code = wr_cli_usage("run", "--metrics: %s", err.text);
        else {
            fprintf(stderr, "weir run: --metrics: %s\n", err.text);
            code = WR_EXIT_PROBLEMS;
        }
    }
    if (code == WR_EXIT_OK)
        code = wr_supervisor_run(s);
    wr_http_server_free(server);
    wr_supervisor_free(s);
    return code;
}

static int with_runtime(const struct args *args, struct wr_files *f)
{
    struct wr_runtime rt = {.clock = wr_clock_system(), .metrics = wr_metrics_new(SERIES_MAX)};
    rt.log = wr_log_new(STDERR_FILENO, (enum wr_log_format)args->log_format,
                        (enum weir_log_level)args->log_level, rt.clock);
    struct wr_log_scope *log = wr_log_scope_new(rt.log, NULL, 0);
    log_finds(log, f->loader, f->diags);
    int code = run_pipelines(args, f, &rt, log);
    wr_log_scope_free(log);
    wr_log_free(rt.log);
    wr_metrics_free(rt.metrics);
    return code;
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    struct args args = *(const struct args *)args_;
    struct wr_files f;
    if (!wr_files_load("run", &args.plugin_dirs, operands, &f))
        return WR_EXIT_USAGE;
    int code = WR_EXIT_PROBLEMS;
    if (wr_diags_count(f.diags, WR_ERROR) > 0)
        wr_files_print(&f, stderr);
    else if (names_differ(&f))
        code = with_runtime(&args, &f);
    wr_files_done(&f);
    return code;
}

const struct wr_command wr_command_run = {
    .name = "run",
    .summary = "Run the pipelines of one or more files.",
    .operands = "FILE...",
    .min_operands = 1,
    .max_operands = 1000,
    .text = "Every file is one pipeline, isolated from the others. All files are checked before any\n"
            "of them starts. Ends when all sources have been read to their end, or on SIGTERM or\n"
            "SIGINT: sources stop, everything under way is delivered and acknowledged. A second\n"
            "signal, or the shutdown timeout, ends it at once and says what was left.\n"
            "\n"
            "Plugins are looked for in --plugin-dir, then in the folders of WEIR_PLUGIN_PATH\n"
            "(separated by colons), then in the build's or the install's own folder.\n",
    .examples = "  weir run pipelines/quickstart.yaml\n"
                "  weir run api.yaml producer.yaml consumer.yaml --metrics :9100\n"
                "  weir run consumer.yaml --log-level debug --shutdown-timeout 60s\n",
    .exits = "  0  all pipelines ended, nothing was left\n"
             "  1  a file has errors, a pipeline stopped by itself, or events were left\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
