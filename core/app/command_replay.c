/* SPDX-License-Identifier: Apache-2.0
 *
 * app/command_replay.c: `weir replay PIPELINE FILE...`: sends dead letters through their pipeline
 * again, and says what became of them.
 */
#include <app/commands.h>
#include <app/files.h>
#include <app/memory.h>
#include <app/process.h>
#include <app/replay_report.h>
#include <app/supervise.h>
#include <base/check.h>
#include <base/date.h>
#include <base/mem.h>
#include <base/str.h>
#include <engine/replay.h>
#include <errno.h>
#include <limits.h>
#include <model/units.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SERIES_MAX 20000

struct args {
    const char *kafka, *brokers;
    const char *pipeline, *at, *dead_letter;
    struct wr_cli_list components, codes, plugin_dirs;
    const char *since, *until, *limit, *rate;
    bool from_start, dry_run, again, core_dumps;
    int64_t memory;
    int format, log_level, log_format;
};

enum { FORMAT_TEXT, FORMAT_JSON };
static const char *const report_words[] = {"text", "json", NULL};
/* In the orders of enum weir_log_level and enum wr_log_format. */
static const char *const level_words[] = {"error", "warn", "info", "debug", "trace", NULL};
static const char *const format_words[] = {"auto", "logfmt", "json", NULL};

#define AT(member) offsetof(struct args, member)

static const struct wr_cli_option options[] = {
    {"kafka", WR_CLI_TEXT, AT(kafka), "TOPIC", NULL, NULL,
     "read the dead letters of a topic instead of files"},
    {"brokers", WR_CLI_TEXT, AT(brokers), "HOST:PORT", NULL, NULL,
     "of that topic, instead of those of the pipeline's dead-letter sink"},
    {"dry-run", WR_CLI_FLAG, AT(dry_run), NULL, NULL, NULL,
     "only tell what would be replayed, and where it would enter"},
    {"component", WR_CLI_LIST, AT(components), "ID", NULL, NULL,
     "only what this component gave up on"},
    {"code", WR_CLI_LIST, AT(codes), "CODE", NULL, NULL, "only what failed with this code"},
    {"since", WR_CLI_TEXT, AT(since), "TIME", NULL, NULL,
     "only what failed then or later: 2026-01-31T12:00:00Z, or 2h ago as 2h"},
    {"until", WR_CLI_TEXT, AT(until), "TIME", NULL, NULL, "only what failed before"},
    {"limit", WR_CLI_TEXT, AT(limit), "N", NULL, NULL, "replay so many, then end"},
    {"rate", WR_CLI_TEXT, AT(rate), "N", NULL, NULL, "replay at most so many a second"},
    {"at", WR_CLI_TEXT, AT(at), "ID", NULL, NULL,
     "enter at this component; at a source: behind it"},
    {"from-start", WR_CLI_FLAG, AT(from_start), NULL, NULL, NULL,
     "enter behind the source, with the payload that it gave"},
    {"dead-letter", WR_CLI_TEXT, AT(dead_letter), "FILE", NULL, NULL,
     "put what fails again there, instead of the pipeline's own dead letter"},
    {"again", WR_CLI_FLAG, AT(again), NULL, NULL, NULL,
     "begin anew, not where the last replay ended"},
    {"pipeline", WR_CLI_TEXT, AT(pipeline), "NAME", NULL, NULL,
     "take the dead letters of the pipeline that had this name"},
    {"format", WR_CLI_CHOICE, AT(format), NULL, report_words, "text",
     "the report: text for people, json for scripts"},
    {"memory", WR_CLI_SIZE, AT(memory), "SIZE", NULL, NULL,
     "most memory of the process; without it the control group's, or 3/4 of all"},
    {"core-dumps", WR_CLI_FLAG, AT(core_dumps), NULL, NULL, NULL,
     "let a crash leave a core dump, and debuggers in: both see every secret"},
    {"plugin-dir", WR_CLI_LIST, AT(plugin_dirs), "DIR", NULL, NULL, "look for plugins here first"},
    {"log-level", WR_CLI_CHOICE, AT(log_level), NULL, level_words, "warn",
     "least important lines to log"},
    {"log-format", WR_CLI_CHOICE, AT(log_format), NULL, format_words, "auto",
     "auto is logfmt on a terminal and JSON otherwise"},
};

/* ---- Arguments ---- */

static bool read_count(const char *option, const char *text, int64_t absent, int64_t *ret)
{
    char *end;
    errno = 0;
    *ret = text != NULL ? strtoll(text, &end, 10) : absent;
    if (text == NULL || (errno == 0 && end != text && *end == '\0' && *ret > 0))
        return true;
    wr_cli_usage("replay", "--%s: \"%s\" is no whole number of 1 or more", option, text);
    return false;
}

static bool read_moment(const char *option, const char *text, int64_t absent, int64_t *ret)
{
    struct wr_clock *clock = wr_clock_system();
    int64_t ago;
    *ret = absent;
    if (text == NULL || wr_date_read(weir_cstr(text), ret))
        return true;
    if (wr_read_duration(weir_cstr(text), &ago)) {
        *ret = clock->wall(clock) - ago;
        return true;
    }
    wr_cli_usage("replay",
                 "--%s: \"%s\" is no time, expected one such as 2026-01-31T12:00:00Z, or a "
                 "duration such as 2h for so long ago",
                 option, text);
    return false;
}

/* [any] */
static void complain(const char *line)
{
    fprintf(stderr, "weir replay: %s\n", line);
}

static bool read_options(const struct args *args, struct wr_replay_options *ret)
{
    *ret = (struct wr_replay_options){.pipeline = args->pipeline,
                                      .at = args->at,
                                      .from_start = args->from_start,
                                      .dry_run = args->dry_run,
                                      .components = args->components.items,
                                      .codes = args->codes.items,
                                      .complain = complain};
    if (!read_count("limit", args->limit, -1, &ret->limit) ||
        !read_count("rate", args->rate, 0, &ret->rate) ||
        !read_moment("since", args->since, INT64_MIN, &ret->since_ns) ||
        !read_moment("until", args->until, INT64_MAX, &ret->until_ns))
        return false;
    if (ret->since_ns < ret->until_ns)
        return true;
    wr_cli_usage("replay", "--since is not before --until: nothing is between them");
    return false;
}

static bool check_args(const struct args *args, const struct wr_cli_list *operands)
{
    bool input = false;
    for (uint32_t i = 1; i < operands->n; i++)
        input = input || strcmp(operands->items[i], "-") == 0;
    if (args->kafka != NULL && operands->n > 1)
        wr_cli_usage("replay", "--kafka and files are both given: keep one of them");
    else if (args->kafka == NULL && operands->n == 1)
        wr_cli_usage("replay", "where are the dead letters? Name files, - or --kafka TOPIC");
    else if (args->brokers != NULL && args->kafka == NULL)
        wr_cli_usage("replay", "--brokers goes with --kafka");
    else if (args->at != NULL && args->from_start)
        wr_cli_usage("replay", "--at and --from-start are both given: keep one of them");
    else if (input && operands->n > 2)
        wr_cli_usage("replay", "- (standard input) cannot stand beside files");
    else if (input && args->again)
        wr_cli_usage("replay", "--again: of standard input no position is kept");
    else
        return true;
    return false;
}

/* ---- Files ---- */

static bool bad_file(const char *path, const char *why)
{
    fprintf(stderr, "weir replay: %s: %s\n", path, why);
    return false;
}

/* How far it came is kept beside the file. */
static bool check_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == path   ? wr_xstrdup("/")
                   : slash != NULL ? wr_xmemdup(path, (size_t)(slash - path))
                                   : wr_xstrdup(".");
    bool ok = access(folder, W_OK) == 0;
    int error = errno;
    if (!ok)
        fprintf(
            stderr,
            "weir replay: %s: its folder cannot be written to (%s), and how far a replay came is "
            "kept there; copy the file elsewhere, or give it as standard input: "
            "weir replay PIPELINE - < FILE\n",
            path, strerror(error));
    wr_free(folder);
    return ok;
}

static bool check_file(const char *path, bool dry_run)
{
    struct stat st;
    if (strcmp(path, "-") == 0)
        return true;
    if (stat(path, &st) != 0)
        return bad_file(path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bad_file(path, "it is no regular file; give it as standard input: -");
    if (access(path, R_OK) != 0)
        return bad_file(path, strerror(errno));
    return dry_run || check_folder(path);
}

/* ---- Running ---- */

static int run_plan(const struct args *args, struct wr_plan *plan, struct wr_memory *memory)
{
    signal(SIGPIPE, SIG_IGN); /* a log that nobody reads ends nobody */
    struct wr_runtime rt = {.clock = wr_clock_system(), .metrics = wr_metrics_new(SERIES_MAX)};
    rt.log = wr_log_new(STDERR_FILENO, (enum wr_log_format)args->log_format,
                        (enum weir_log_level)args->log_level, rt.clock);
    struct wr_log_scope *log = wr_log_scope_new(rt.log, NULL, 0);
    wr_memory_begin(memory, rt.metrics, log);
    const struct wr_files files = {.plans = &plan, .n = 1};
    const struct wr_supervise_options how = {.exit_on_stop = true, .shutdown_timeout = -1};
    struct wr_supervisor *s = wr_supervisor_new(&files, &rt, &how);
    int code = wr_supervisor_run(s);
    wr_supervisor_free(s);
    wr_memory_done(memory);
    wr_log_scope_free(log);
    wr_log_free(rt.log);
    wr_metrics_free(rt.metrics);
    return code;
}

/* What a dry run finds is what was asked for. The report of a run goes where the log goes, since a
 * sink of the pipeline may write events to standard output. */
static void print_report(const struct args *args, struct wr_replay *r, struct weir_str pipeline)
{
    struct wr_buf text = {0};
    bool json = args->format == FORMAT_JSON;
    if (json)
        wr_replay_report_json(r, pipeline, &text);
    else
        wr_replay_report_text(r, pipeline, &text);
    fwrite(text.ptr, 1, text.len, json || args->dry_run ? stdout : stderr);
    wr_buf_done(&text);
}

/* False where it does not fit into the memory; *ret_code is then what to end with. */
static bool fits(const struct wr_files *f, struct wr_plan *plan, struct wr_memory *memory, int *ret_code)
{
    struct wr_files only = {.plans = &plan, .n = 1, .loader = f->loader, .diags = f->diags};
    bool usage = false;
    if (wr_memory_fit(memory, "replay", &only, &usage))
        return true;
    *ret_code = usage ? WR_EXIT_USAGE : WR_EXIT_PROBLEMS;
    if (!usage)
        wr_files_print(f, stderr);
    return false;
}

static int replay(const struct args *args, const struct wr_files *f,
                  const struct wr_replay_from *from, const struct wr_replay_options *opt)
{
    struct wr_replay *r = wr_replay_new(opt);
    struct wr_plan *plan = wr_replay_plan(f->plans[0], f->loader, f->diags, from, r);
    struct wr_memory memory;
    int code = WR_EXIT_PROBLEMS;
    wr_memory_find(args->memory, &memory);
    if (plan == NULL) {
        wr_files_print(f, stderr);
    } else if (fits(f, plan, &memory, &code)) {
        code = run_plan(args, plan, &memory);
        if (code == WR_EXIT_OK || wr_replay_totals(r).read != 0)
            print_report(args, r, f->plans[0]->name); /* else it could not start, which was said */
        if (!wr_replay_report_is_good(r))
            code = WR_EXIT_PROBLEMS;
    }
    wr_memory_done(&memory);
    wr_plan_free(plan);
    wr_replay_free(r);
    return code;
}

static int run(const void *args_, const struct wr_cli_list *operands)
{
    const struct args *args = args_;
    struct wr_cli_list pipeline = {operands->items, 1};
    const char *const *names = operands->items + 1;
    struct wr_replay_options opt;
    char dir[PATH_MAX];
    struct wr_files f;
    if (!check_args(args, operands) || !read_options(args, &opt))
        return WR_EXIT_USAGE;
    bool ok = getcwd(dir, sizeof(dir)) != NULL || bad_file(".", strerror(errno));
    for (uint32_t i = 1; i < operands->n; i++)
        ok = check_file(operands->items[i], args->dry_run) && ok;
    struct wr_replay_from from = {.files = args->kafka == NULL ? names : NULL,
                                  .topic = args->kafka,
                                  .brokers = args->brokers,
                                  .dir = dir,
                                  .dead_letter = args->dead_letter,
                                  .again = args->again};
    opt.dir = dir;
    if (from.files != NULL && strcmp(from.files[0], "-") == 0)
        opt.place = "standard input";
    if (!ok)
        return WR_EXIT_PROBLEMS;
    if (!args->core_dumps)
        wr_process_close_memory(); /* before any secret is read */
    if (!wr_files_load("replay", &args->plugin_dirs, &pipeline, &f))
        return WR_EXIT_USAGE;
    int code = WR_EXIT_PROBLEMS;
    if (wr_diags_count(f.diags, WR_ERROR) > 0)
        wr_files_print(&f, stderr);
    else
        code = replay(args, &f, &from, &opt);
    wr_files_done(&f);
    return code;
}

const struct wr_command wr_command_replay = {
    .name = "replay",
    .summary = "Send dead letters through their pipeline again.",
    .operands = "PIPELINE [FILE]...",
    .min_operands = 1,
    .max_operands = 1000,
    .text =
        "Runs the pipeline with its sources taken out and dead letters in their place: each "
        "enters\n"
        "at the component that gave up on it, as it entered that, with its id, key, headers, time\n"
        "and origin. FILE is what a dead-letter sink wrote (one JSON object a line, also packed\n"
        "with gzip), - is standard input. What fails again goes to the dead letter again; a run\n"
        "reads up to the end that was there when it began.\n"
        "\n"
        "The next run begins where this one ended: behind the last dead letter that has ended, "
        "with\n"
        "all before it. A position is never behind one that the options left out or that could "
        "not\n"
        "enter, so a run after one with --component meets again what that replayed; an id makes\n"
        "that harmless where the sink knows it. Positions of files are kept in their folder, in\n"
        ".weir-replay-PIPELINE.state; those of a topic in the consumer group "
        "weir-replay-PIPELINE.\n"
        "Run one replay of a topic at a time: two, or one and a dry run, would share it out.\n"
        "\n"
        "The pipeline itself may go on running meanwhile. Its file sinks are its own then: a "
        "replay\n"
        "that needs one cannot start, unless --dead-letter takes the place of the one in "
        "question.\n",
    .examples = "  weir replay orders.yaml dead.ndjson --dry-run\n"
                "  weir replay orders.yaml dead.ndjson\n"
                "  weir replay orders.yaml --kafka orders.dead --component store --since 2h\n"
                "  zcat dead-*.gz | weir replay orders.yaml - --rate 100\n",
    .exits =
        "  0  all that was replayed got through\n"
        "  1  something failed again, could not enter or was no dead letter; or it could not run\n",
    .options = options,
    .n_options = WR_COUNT(options),
    .args_size = sizeof(struct args),
    .run = run,
};
