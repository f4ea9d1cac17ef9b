/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_run.c: `weir run FILE...`: reads and checks all files first, so that a mistake in one
 * of them starts nothing; then hands over to the supervisor.
 */
#include <app/commands.h>
#include <app/files.h>
#include <app/folders.h>
#include <app/memory.h>
#include <app/process.h>
#include <app/supervise.h>
#include <app/version.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define SERIES_MAX 20000
#define FILES_MAX ((rlim_t)1 << 20)

struct args {
    const char *metrics;
    struct wr_cli_list plugin_dirs;
    int log_level;
    int log_format;
    int64_t shutdown_timeout;
    int64_t memory;
    bool exit_on_stop;
    bool core_dumps;
    bool no_watch;
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
    {"memory", WR_CLI_SIZE, offsetof(struct args, memory), "SIZE", NULL, NULL,
     "most memory of the process; without it the control group's, or 3/4 of all"},
    {"exit-on-stop", WR_CLI_FLAG, offsetof(struct args, exit_on_stop), NULL, NULL, NULL,
     "end the process when a pipeline stops by itself"},
    {"core-dumps", WR_CLI_FLAG, offsetof(struct args, core_dumps), NULL, NULL, NULL,
     "let a crash leave a core dump, and debuggers in: both see every secret"},
    {"no-watch", WR_CLI_FLAG, offsetof(struct args, no_watch), NULL, NULL, NULL,
     "reload on SIGHUP only, not when files change"},
};

/* ---- Before anything runs ---- */

/* One line with a scope of its own, so that many of its kind do not count as repeats. */
static void log_alone(struct wr_log *log, enum weir_log_level level, const char *message,
                      const struct weir_kv *kv, uint32_t n)
{
    struct wr_log_scope *scope = wr_log_scope_new(log, NULL, 0);
    wr_log_write(scope, level, message, kv, n);
    wr_log_scope_free(scope);
}

static void log_finds(struct wr_log *log, const struct wr_files *f)
{
    for (uint32_t i = 0; i < wr_loader_n_bad(f->loader); i++) {
        const struct weir_kv kv = weir_kv_text("error", wr_loader_bad(f->loader, i));
        log_alone(log, WEIR_LOG_WARN, "plugin file cannot be used", &kv, 1);
    }
    for (uint32_t i = 0; i < wr_loader_n_shadowed(f->loader); i++) {
        const struct weir_kv kv = weir_kv_text("what", wr_loader_shadowed(f->loader, i));
        log_alone(log, WEIR_LOG_DEBUG, "plugin type is shadowed", &kv, 1);
    }
    for (uint32_t i = 0; i < wr_diags_count(f->diags, WR_WARNING); i++)
        wr_files_log(log, wr_diags_at(f->diags, i));
}

/* Two pipelines of one name would mix their metrics, logs and consumer groups. */
static bool names_differ(const struct wr_files *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (!wr_str_eq(f->plans[i]->name, f->plans[k]->name))
                continue;
            fprintf(
                stderr,
                "weir run: %.*s and %.*s both define the pipeline \"%.*s\": give each a `name` of "
                "its own\n",
                WR_STR(f->plans[k]->file), WR_STR(f->plans[i]->file), WR_STR(f->plans[i]->name));
            return false;
        }
    }
    return true;
}

/* ---- Running ---- */

/* False where the address cannot be had; *ret_code is then what to end with. */
static bool open_server(const char *addr, struct wr_supervisor *s, struct wr_log_scope *log,
                        struct wr_http_server **ret_server, int *ret_code)
{
    struct wr_http_answers answers = wr_supervisor_answers(s);
    struct weir_error err = {0};
    *ret_server = wr_http_server_new(addr, &answers, &err);
    if (*ret_server != NULL) {
        WR_LOG(log, WEIR_LOG_INFO, "metrics listening",
               weir_kv_text("addr", wr_http_server_addr(*ret_server)));
        return true;
    }
    if (err.status == WEIR_E_CONFIG) {
        *ret_code = wr_cli_usage("run", "--metrics: %s", err.text);
        return false;
    }
    WR_LOG(log, WEIR_LOG_ERROR, "metrics cannot be served", weir_kv_text("error", err.text));
    *ret_code = WR_EXIT_PROBLEMS;
    return false;
}

static int run_pipelines(const struct args *args, const struct wr_files *f, const struct wr_memory *memory,
                         const struct wr_runtime *rt, struct wr_log_scope *log)
{
    for (uint32_t i = 0; args->shutdown_timeout >= 0 && i < f->n; i++)
        f->plans[i]->shutdown_timeout = args->shutdown_timeout;
    const struct wr_supervise_options how = {args->exit_on_stop, !args->no_watch,
                                             args->shutdown_timeout, memory};
    struct wr_supervisor *s = wr_supervisor_new(f, rt, &how);
    struct wr_http_server *server = NULL;
    int code = WR_EXIT_OK;
    if (args->metrics == NULL || open_server(args->metrics, s, log, &server, &code))
        code = wr_supervisor_run(s);
    wr_http_server_free(server);
    wr_supervisor_free(s);
    return code;
}

/* Each client's connection is a file: as many as the process may have, up to FILES_MAX. */
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FILES_MAX)
        return;
    files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

static int with_runtime(const struct args *args, struct wr_files *f, struct wr_memory *memory)
{
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN); /* a log that nobody reads ends nobody */
    struct wr_runtime rt = {.clock = wr_clock_system(), .metrics = wr_metrics_new(SERIES_MAX)};
    rt.log = wr_log_new(STDERR_FILENO, (enum wr_log_format)args->log_format,
                        (enum weir_log_level)args->log_level, rt.clock);
    struct wr_log_scope *log = wr_log_scope_new(rt.log, NULL, 0);
    log_finds(rt.log, f);
    WR_LOG(log, WEIR_LOG_INFO, "weir starts", weir_kv_text("version", wr_version()),
           weir_kv_u64("pipelines", f->n));
    wr_memory_begin(memory, rt.metrics, log);
    int code = run_pipelines(args, f, memory, &rt, log);
    wr_memory_done(memory);
    WR_LOG(log, WEIR_LOG_INFO, "weir ends", weir_kv_i64("exit_code", code));
    wr_log_scope_free(log);
    wr_log_free(rt.log);
    wr_metrics_free(rt.metrics);
    return code;
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    struct args args = *(const struct args *)args_;
    struct wr_files f;
    struct wr_memory memory;
    if (!args.core_dumps)
        wr_process_close_memory(); /* before any secret is read */
    if (!wr_files_load("run", &args.plugin_dirs, operands, &f))
        return WR_EXIT_USAGE;
    int code = WR_EXIT_PROBLEMS;
    bool usage = false;
    wr_memory_find(args.memory, &memory);
    bool fits = wr_diags_count(f.diags, WR_ERROR) == 0 && wr_memory_fit(&memory, "run", &f, &usage);
    if (usage)
        code = WR_EXIT_USAGE;
    else if (!fits)
        wr_files_print(&f, stderr);
    else if (names_differ(&f))
        code = with_runtime(&args, &f, &memory);
    wr_memory_done(&memory);
    wr_files_done(&f);
    return code;
}

const struct wr_command wr_command_run = {
    .name = "run",
    .summary = "Run the pipelines of one or more files.",
    .operands = "FILE...",
    .min_operands = 1,
    .max_operands = 1000,
    .text =
        "Every file is one pipeline, isolated from the others. All files are checked before any\n"
        "of them starts. Ends when all sources have been read to their end, or on SIGTERM or\n"
        "SIGINT: sources stop, everything under way is delivered and acknowledged. A second\n"
        "signal, or the shutdown timeout, ends it at once and says what was left.\n"
        "\n"
        "A pipeline reloads on SIGHUP, and when its file changes, or a file that belongs to it:\n"
        "what ${file:...} names, scripts with the modules beside them, schemas, certificates. The\n"
        "new files are checked first; what they do not change goes on as it is. Where they are\n"
        "wrong, or something new cannot be opened, the pipeline goes on as it was.\n"
        "\n"
        "Plugins are looked for in --plugin-dir, then in the folders of WEIR_PLUGIN_PATH\n"
        "(separated by colons), then in the build's or the install's own folder.\n"
        "\n"
        "The process keeps within one limit of memory. What options let components take (prefetch,\n"
        "queues, buffers, Lua states) is added up before anything starts: defaults are lowered\n"
        "where it is too much, and settings that do not fit are errors. Near the limit sources wait.\n",
    .examples = "  weir run pipelines/quickstart.yaml\n"
                "  weir run api.yaml producer.yaml consumer.yaml --metrics :9100\n"
                "  weir run consumer.yaml --log-level debug --shutdown-timeout 60s\n"
                "  weir run consumer.yaml --memory 256MiB\n",
    .exits = "  0  all pipelines ended, nothing was left\n"
             "  1  a file has errors, a pipeline stopped by itself, or events were left\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
