/* SPDX-License-Identifier: Apache-2.0
 *
 * app/cli.h: commands as tables. One table gives a command its parser and its --help; nothing about
 * an option is written twice.
 */
#ifndef WR_APP_CLI_H
#define WR_APP_CLI_H

#include <stddef.h>
#include <weir/base.h>

/* What the process ends with. */
enum wr_exit { WR_EXIT_OK = 0, WR_EXIT_PROBLEMS = 1, WR_EXIT_USAGE = 2 };

/* The C type at the offset: bool, const char *, struct wr_cli_list, int64_t (ns or
 * bytes; -1: not given), int (index into choices). */
enum wr_cli_type {
    WR_CLI_FLAG,
    WR_CLI_TEXT,
    WR_CLI_LIST,
    WR_CLI_DURATION,
    WR_CLI_SIZE,
    WR_CLI_CHOICE
};

/* NULL behind the last. */
struct wr_cli_list {
    const char **items;
    uint32_t n;
};

struct wr_cli_option {
    const char *name; /* without the dashes */
    enum wr_cli_type type;
    size_t offset;              /* into the command's args struct */
    const char *arg;            /* what --help calls its value; NULL for flags */
    const char *const *choices; /* CHOICE: words, NULL at the end */
    const char *def;            /* as it would be given; NULL leaves zero */
    const char *doc;            /* one line, no full stop */
};

struct wr_command {
    const char *name;
    const char *summary;  /* one line, for the list of commands */
    const char *operands; /* "FILE..." */
    uint32_t min_operands, max_operands;
    const char *text;     /* paragraphs; may be NULL */
    const char *examples; /* lines "  weir ...", each with a newline */
    const char *exits;    /* what 0 and 1 mean here, as lines */
    const struct wr_cli_option *options;
    uint32_t n_options;
    size_t args_size;
    int (*run)(const void *args, const struct wr_cli_list *operands);
};

/* The whole program: finds the command, reads its arguments, runs it. Returns what to exit with. */
int wr_cli_main(const struct wr_command *const *commands, uint32_t n, int argc, char **argv);

/* "weir COMMAND: message" and a pointer to --help on standard error; returns WR_EXIT_USAGE. For
 * what only the command itself can see. */
int wr_cli_usage(const char *command, const char *fmt, ...) WEIR_PRINTF(2, 3);

#endif
