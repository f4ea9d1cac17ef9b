/* SPDX-License-Identifier: Apache-2.0
 *
 * The type of the source `file`: its option table and the checks that need no running instance; see
 * source.h.
 */
#include "source.h"

#include <string.h>

#define POLL_INTERVAL_NS WEIR_NS_PER_S /* as the table has them */
#define ROTATE_WAIT_NS (5 * WEIR_NS_PER_S)

static const char *const on_long_words[] = {"error", "skip", "reject", NULL};
static const char *const start_words[] = {"beginning", "end", NULL};
static const char *const compression_words[] = {"auto", "none", "gzip", NULL};

static const char *const grown_words[] = {"read", "leave", NULL};

static const struct weir_option options[] = {
    {.name = "path",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_PATH,
     .offset = offsetof(struct source_config, path),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The files to read, also as patterns with `*`, `?` and `[a-z]`, or `-` for standard "
            "input.",
     .example = "[events.ndjson, \"logs/*.ndjson\"]"},
    {.name = "exclude",
     .type = WEIR_OPT_LIST,
     .of = WEIR_OPT_STRING,
     .offset = offsetof(struct source_config, exclude),
     .doc = "Patterns of names that are left out; with a `/` in it, of whole paths.",
     .example = "[\"*.tmp\"]"},
    {.name = "follow",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct source_config, follow),
     .def = "false",
     .doc =
         "Go on at the end: with what is appended, through rotation and truncation, and with new "
         "files; the pipeline ends only when it is told to.",
     .example = "true"},
    {.name = "state",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct source_config, state),
     .doc =
         "A file in which positions are kept, so that the next run goes on where this one ended.",
     .example = "/var/lib/weir/events.state"},
    {.name = "start",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, start),
     .def = "beginning",
     .choices = start_words,
     .doc = "Where to begin in files that are there at the first start; later ones are always read "
            "from their beginning. With `state` a start is the first one until that file is there.",
     .example = "end"},
    {.name = "compression",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, compression),
     .def = "auto",
     .choices = compression_words,
     .doc = "`gzip` unpacks; `auto` does where a file begins as gzip does (of standard input and "
            "pipes it cannot see that).",
     .example = "gzip"},
    {.name = "max_line",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct source_config, max_line),
     .def = "16MiB",
     .min = 1,
     .max = 1 << 30,
     .doc = "The longest line that is taken.",
     .example = "1MiB"},
    {.name = "on_long",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct source_config, on_long),
     .def = "error",
     .choices = on_long_words,
     .doc = "What a line longer than `max_line` does: `error` ends the pipeline and names its "
            "offset, `skip` leaves it out, logs it and counts it, `reject` gives its first 4 KiB "
            "and its position to the dead letter (without one, that ends the pipeline).",
     .example = "reject"},
    {.name = "grown",
     .type = WEIR_OPT_ENUM,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, grown),
     .def = "read",
     .choices = grown_words,
     .doc = "What comes to stand at a file's end while it is read: `read` goes on with it, `leave` "
            "ends where the file ended at the start.",
     .example = "leave"},
    {.name = "start_over",
     .type = WEIR_OPT_BOOL,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, start_over),
     .def = "false",
     .doc = "Begin at `start` also where `state` holds a position of an earlier run.",
     .example = "true"},
    {.name = "line_header",
     .type = WEIR_OPT_STRING,
     .flags = WEIR_OPT_ADVANCED | WEIR_OPT_NONEMPTY,
     .offset = offsetof(struct source_config, line_header),
     .doc = "Name of a header in which each event gets the number of its line, counted from 1.",
     .example = "line"},
    {.name = "poll_interval",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, poll_interval_ns),
     .def = "1s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc =
         "With `follow`: how often to look for new files and data where the system does not tell "
         "(inotify), as on a network's file system.",
     .example = "5s"},
    {.name = "rotate_wait",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct source_config, rotate_wait_ns),
     .def = "5s",
     .min = 0,
     .max = 3600 * WEIR_NS_PER_S,
     .doc =
         "With `follow`: how long a file that was renamed away or deleted is still read after its "
         "last data.",
     .example = "30s"},
};

/* ---- Check ----------------------------------------------------------------------------------- */

static void check_stdin(const struct source_config *cf, const struct weir_report *report)
{
    if (cf->path.n > 1)
        report->error(report, "path", -1, "`-` (standard input) cannot stand beside other paths");
    if (cf->follow)
        report->error(report, "follow", -1,
                      "standard input is read to its end as it comes: take `follow` away");
    if (cf->state.len != 0)
        report->error(report, "state", -1,
                      "standard input has no position that could be kept: take `state` away");
}

static void source_check(const void *config, const struct weir_report *report)
{
    const struct source_config *cf = config;
    const struct weir_str *paths = cf->path.items;
    for (uint32_t i = 0; i < cf->path.n; i++) {
        if (is_stdin(paths[i].ptr))
            check_stdin(cf, report);
        else if (cf->state.len != 0 && strcmp(paths[i].ptr, cf->state.ptr) == 0)
            report->error(report, "state", -1, "`state` names a file that is read: \"%s\"",
                          cf->state.ptr);
        if (paths[i].len == 0)
            report->error(report, "path", -1, "an empty path names no file");
    }
    if (cf->start == START_END && !cf->follow)
        report->error(report, "start", -1,
                      "`start: end` without `follow: true` would read nothing at all");
    if (!cf->follow && cf->poll_interval_ns != POLL_INTERVAL_NS)
        report->warning(report, "poll_interval", -1, "it is of no effect without `follow: true`");
    if (!cf->follow && cf->rotate_wait_ns != ROTATE_WAIT_NS)
        report->warning(report, "rotate_wait", -1, "it is of no effect without `follow: true`");
    if (cf->follow && cf->grown == GROWN_LEAVE)
        report->error(report, "grown", -1,
                      "`follow` is there to read what comes: take one of both away");
    if (cf->start_over && cf->state.len == 0)
        report->error(report, "start_over", -1,
                      "without `state` no position is kept, and each run begins anew");
    if (cf->follow && cf->state.len == 0)
        report->warning(report, "follow", -1,
                        "without `state` no position is kept: a restart begins at `start` again");
}

const struct weir_type type_file_source = {
    .size = sizeof(type_file_source),
    .kind = WEIR_SOURCE,
    .name = "file",
    .summary = "The lines of files or of standard input, to their end or following them.",
    .doc =
        "Each line is an event: one JSON value a line (NDJSON), or any text with `codec: raw`. "
        "Lines end with LF or CRLF, the last one may end with the file; empty lines and a byte "
        "order mark at the start are left out. The pipeline ends when the files do, unless "
        "`follow: true`.\n\n"
        "With `follow` a line is taken when its end is there. A file that is renamed or deleted "
        "(rotation) is read to its end, and the new one of its name from its beginning; one that "
        "is "
        "truncated (`copytruncate`) is read again from its start. What a pattern finds later is "
        "read from its beginning. Where it finds the rotated copies as well, they are not read "
        "twice: the copy that `copytruncate` leaves, and a file that was packed with gzip, go on "
        "where the original was; they are known by the first and the last 256 bytes that were read "
        "of it. For that a new file that begins as one that is still read is left alone for 10 s, "
        "a "
        "gzip file for 60 s. gzip files are read once.\n\n"
        "With `state` the position of every file (device, inode, hash of its first bytes, offset) "
        "is written every second and at the end, never past an event that has not ended: each line "
        "is delivered at least once over restarts. The state file is replaced as a whole.\n\n"
        "With `lanes: N` several files are shared out among the lanes. One regular file alone, "
        "without `follow` and `state`, is cut into N ranges that are read side by side; the order "
        "of its lines is then lost.\n\n"
        "Ids are made of path and offset, so a second run gives the same ones; with `follow` or "
        "`state` of a number that the file got when it was found, and the offset, so that what "
        "comes to stand at the same place later has another id. Standard input gets a new name "
        "each "
        "run.",
    .options = WEIR_OPTIONS(options, struct source_config),
    .source = &file_source_calls,
    .check = source_check,
    .open = file_source_open,
    .close = file_source_close,
};
