/* SPDX-License-Identifier: Apache-2.0
 *
 * app/cli.c: reads `weir COMMAND [OPTION]... [OPERAND]...` by the commands' tables, and prints help
 * from them. Options may stand anywhere, as `--name value` or `--name=value`; `--` ends them. Names
 * are never abbreviated: a new option can then never change what a script means.
 */
#include <app/cli.h>
#include <app/version.h>
#include <base/buf.h>
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <model/diag.h>
#include <model/units.h>
#include <stdio.h>

#define WORDS_MAX 64

struct parse {
    const struct wr_command *command;
    int argc, at;
    char **argv;
    char *args; /* the command's args struct */
    struct wr_cli_list operands;
    bool given[WORDS_MAX]; /* by option */
    bool help;
};

static void __attribute__((format(printf, 2, 0)))
vcomplain(const char *command, const char *fmt, va_list ap)
{
    struct wr_buf b = {0};
    wr_buf_printf(&b, "weir%s%s: ", command != NULL ? " " : "", command != NULL ? command : "");
    wr_buf_vprintf(&b, fmt, ap);
    wr_buf_printf(&b, "\ntry \"weir%s%s --help\"\n", command != NULL ? " " : "",
                  command != NULL ? command : "");
    fputs(b.ptr, stderr);
    wr_buf_done(&b);
}

int wr_cli_usage(const char *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vcomplain(command, fmt, ap);
    va_end(ap);
    return WR_EXIT_USAGE;
}

static bool __attribute__((format(printf, 2, 3))) wrong(const struct parse *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vcomplain(p->command->name, fmt, ap);
    va_end(ap);
    return false;
}

/* ` (did you mean "PREFIXword"?)`, or nothing. The text is made in buf. */
static const char *suggest(const char *word, size_t len, const char *const *words, uint32_t n,
                           const char *prefix, struct wr_buf *buf)
{
    const char *near = wr_nearest_word(weir_str_n(word, len), words, n);
    if (near == NULL)
        return "";
    wr_buf_printf(buf, " (did you mean \"%s%s\"?)", prefix, near);
    return buf->ptr;
}

/* ---- Values ---- */

static bool set_choice(const struct parse *p, const struct wr_cli_option *o, const char *value,
                       int *ret)
{
    struct wr_buf all = {0}, near = {0};
    uint32_t n = 0;
    for (; o->choices[n] != NULL; n++) {
        if (strcmp(o->choices[n], value) == 0) {
            *ret = (int)n;
            wr_buf_done(&all);
            return true;
        }
        wr_buf_printf(&all, "%s%s", n > 0 ? ", " : "", o->choices[n]);
    }
    wrong(p, "--%s: unknown value \"%s\", expected one of %s%s", o->name, value, all.ptr,
          suggest(value, strlen(value), o->choices, n, "", &near));
    wr_buf_done(&all);
    wr_buf_done(&near);
    return false;
}

static bool set_value(const struct parse *p, const struct wr_cli_option *o, const char *value)
{
    void *place = p->args + o->offset;
    switch (o->type) {
    case WR_CLI_FLAG:
        *(bool *)place = true;
        return true;
    case WR_CLI_TEXT:
        if (value[0] == '\0')
            return wrong(p, "--%s: %s must not be empty", o->name, o->arg);
        *(const char **)place = value;
        return true;
    case WR_CLI_LIST: {
        if (value[0] == '\0')
            return wrong(p, "--%s: %s must not be empty", o->name, o->arg);
        struct wr_cli_list *list = place;
        list->items = wr_xrealloc(list->items, (list->n + 2u) * sizeof(*list->items));
        list->items[list->n++] = value;
        list->items[list->n] = NULL;
        return true;
    }
    case WR_CLI_DURATION:
        if (!wr_read_duration(weir_cstr(value), place))
            return wrong(p,
                         "--%s: \"%s\" is no duration, expected a number and a unit such as 500ms, "
                         "30s or 2m",
                         o->name, value);
        return true;
    case WR_CLI_SIZE:
        if (!wr_read_size(weir_cstr(value), place))
            return wrong(p,
                         "--%s: \"%s\" is no size, expected a number and a unit such as 512MiB or "
                         "2GiB",
                         o->name, value);
        return true;
    case WR_CLI_CHOICE:
        return set_choice(p, o, value, place);
    }
    return false;
}

static void set_defaults(const struct parse *p)
{
    for (uint32_t i = 0; i < p->command->n_options; i++) {
        const struct wr_cli_option *o = &p->command->options[i];
        if (o->type == WR_CLI_DURATION || o->type == WR_CLI_SIZE)
            *(int64_t *)(void *)(p->args + o->offset) = -1;
        WR_BUG_ON(o->def != NULL && !set_value(p, o, o->def));
    }
}

static void free_args(struct parse *p)
{
    for (uint32_t i = 0; i < p->command->n_options; i++) {
        const struct wr_cli_option *o = &p->command->options[i];
        if (o->type == WR_CLI_LIST)
            wr_free(((struct wr_cli_list *)(void *)(p->args + o->offset))->items);
    }
    wr_free(p->args);
    wr_free(p->operands.items);
}

/* ---- Options and operands ---- */

static bool unknown_option(const struct parse *p, const char *name, size_t len)
{
    const char *words[WORDS_MAX + 1];
    struct wr_buf near = {0};
    uint32_t n = 0;
    for (; n < p->command->n_options; n++)
        words[n] = p->command->options[n].name;
    words[n++] = "help";
    wrong(p, "unknown option \"--%.*s\"%s", (int)len, name,
          suggest(name, len, words, n, "--", &near));
    wr_buf_done(&near);
    return false;
}

/* argv[at] is "--..." and not "--" alone. */
static bool read_option(struct parse *p)
{
    const char *name = p->argv[p->at] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    struct weir_str word = weir_str_n(name, len);
    if (wr_str_is(word, "help") && value == NULL) {
        p->help = true;
        return true;
    }
    uint32_t i = 0;
    while (i < p->command->n_options && !wr_str_is(word, p->command->options[i].name))
        i++;
    if (i == p->command->n_options)
        return unknown_option(p, name, len);
    const struct wr_cli_option *o = &p->command->options[i];
    if (o->type == WR_CLI_FLAG && value != NULL)
        return wrong(p, "--%s takes no value, found \"%s\"", o->name, value);
    if (o->type != WR_CLI_FLAG && value == NULL) {
        if (p->at + 1 >= p->argc)
            return wrong(p, "--%s needs a value: --%s %s", o->name, o->name, o->arg);
        value = p->argv[++p->at];
    }
    if (p->given[i] && o->type != WR_CLI_LIST)
        return wrong(p, "--%s is given twice", o->name);
    p->given[i] = true;
    return set_value(p, o, value);
}

static void add_operand(struct parse *p, const char *word)
{
    p->operands.items[p->operands.n++] = word;
    p->operands.items[p->operands.n] = NULL;
}

static bool read_words(struct parse *p)
{
    bool options = true;
    for (; p->at < p->argc; p->at++) {
        const char *word = p->argv[p->at];
        if (options && strcmp(word, "--") == 0)
            options = false;
        else if (options && strcmp(word, "-h") == 0)
            p->help = true;
        else if (options && word[0] == '-' && word[1] == '-') {
            if (!read_option(p))
                return false;
        } else if (options && word[0] == '-' && word[1] != '\0')
            return wrong(p, "unknown option \"%s\"", word);
        else
            add_operand(p, word);
    }
    if (p->help)
        return true;
    if (p->operands.n < p->command->min_operands)
        return wrong(p, "%s is missing", p->command->operands);
    if (p->operands.n > p->command->max_operands)
        return wrong(p, "one argument too many: \"%s\"",
                     p->operands.items[p->command->max_operands]);
    return true;
}

/* ---- Help ---- */

static void print_option(const char *head, const char *doc)
{
    if (strlen(head) > 28)
        printf("  %s\n  %-28s  %s", head, "", doc);
    else
        printf("  %-28s  %s", head, doc);
}

static void print_options(const struct wr_command *c)
{
    puts("\nOptions:");
    for (uint32_t i = 0; i < c->n_options; i++) {
        const struct wr_cli_option *o = &c->options[i];
        struct wr_buf head = {0};
        wr_buf_printf(&head, "--%s", o->name);
        if (o->type == WR_CLI_CHOICE) {
            for (uint32_t k = 0; o->choices[k] != NULL; k++)
                wr_buf_printf(&head, "%s%s", k > 0 ? "|" : " ", o->choices[k]);
        } else if (o->arg != NULL)
            wr_buf_printf(&head, " %s", o->arg);
        print_option(head.ptr, o->doc);
        printf("%s%s%s%s\n", o->type == WR_CLI_LIST ? "; may be repeated" : "",
               o->def != NULL ? " (default: " : "", o->def != NULL ? o->def : "",
               o->def != NULL ? ")" : "");
        wr_buf_done(&head);
    }
    print_option("-h, --help", "this text\n");
}

static int print_help(const struct wr_command *c)
{
    printf("Usage: weir %s%s%s%s\n\n%s\n", c->name, c->n_options > 0 ? " [OPTION]..." : "",
           c->operands[0] != '\0' ? " " : "", c->operands, c->summary);
    if (c->text != NULL)
        printf("\n%s", c->text);
    print_options(c);
    printf("\nExamples:\n%s\nExit codes:\n%s  2  wrong usage\n", c->examples, c->exits);
    return WR_EXIT_OK;
}

static void print_overview(FILE *out, const struct wr_command *const *commands, uint32_t n)
{
    fputs("Usage: weir COMMAND [OPTION]... [ARGUMENT]...\n\n"
          "weir moves events from sources through transforms to sinks, as pipeline files say.\n\n"
          "Commands:\n",
          out);
    for (uint32_t i = 0; i < n; i++)
        fprintf(out, "  %-12s  %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nOptions:\n"
          "  --version     version of weir, of its plugin ABI and of its libraries\n"
          "  -h, --help    this text; \"weir COMMAND --help\" tells more of a command\n"
          "\nExamples:\n"
          "  weir run pipelines/quickstart.yaml\n"
          "  weir check pipelines/*.yaml\n"
          "  weir plugins kafka\n"
          "\nExit codes:\n"
          "  0  fine\n"
          "  1  problems were found, or something failed\n"
          "  2  wrong usage\n",
          out);
}

/* ---- The program ---- */

static int run_command(const struct wr_command *c, int argc, char **argv)
{
    struct parse p = {.command = c, .argc = argc, .argv = argv};
    WR_BUG_ON(c->n_options > WORDS_MAX);
    p.args = wr_xalloc(c->args_size + 1);
    p.operands.items = wr_xalloc(((size_t)argc + 1) * sizeof(*p.operands.items));
    set_defaults(&p);
    int code = WR_EXIT_USAGE;
    if (read_words(&p))
        code = p.help ? print_help(c) : c->run(p.args, &p.operands);
    free_args(&p);
    return code;
}

static const struct wr_command *find_command(const struct wr_command *const *commands, uint32_t n,
                                             const char *name)
{
    const char *words[WORDS_MAX];
    WR_BUG_ON(n + 1 > WORDS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
        words[i] = commands[i]->name;
    }
    words[n] = "help";
    struct wr_buf near = {0};
    if (name[0] == '-')
        wr_cli_usage(NULL, "unknown option \"%s\"", name);
    else
        wr_cli_usage(NULL, "unknown command \"%s\"%s", name,
                     suggest(name, strlen(name), words, n + 1, "", &near));
    wr_buf_done(&near);
    return NULL;
}

static int dispatch(const struct wr_command *const *commands, uint32_t n, int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr, commands, n);
        return WR_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        wr_version_print();
        return WR_EXIT_OK;
    }
    bool help = strcmp(word, "help") == 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (help && argc == 2)) {
        print_overview(stdout, commands, n);
        return WR_EXIT_OK;
    }
    const struct wr_command *c = find_command(commands, n, help ? argv[2] : word);
    if (c == NULL)
        return WR_EXIT_USAGE;
    return help ? print_help(c) : run_command(c, argc - 2, argv + 2);
}

int wr_cli_main(const struct wr_command *const *commands, uint32_t n, int argc, char **argv)
{
    int code = dispatch(commands, n, argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("weir: standard output cannot be written");
        return code == WR_EXIT_OK ? WR_EXIT_PROBLEMS : code;
    }
    return code;
}
