/* SPDX-License-Identifier: Apache-2.0
 *
 * Sinks `file` and `stdout`: an event a line.
 *
 * The events of a batch that go to one file are put together in one buffer and written in few calls
 * (write.c). Which files are open, what they are called and when they are made durable, rotated and
 * finished: target.c and targets.c. One instance serves all shards, under a lock: a file has one
 * end.
 */
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define FSYNC_INTERVAL_NS WEIR_NS_PER_S /* as the options' table has them */
#define MAX_OPEN 128
#define IDLE_NS (60 * WEIR_NS_PER_S)

enum mode { MODE_APPEND, MODE_TRUNCATE };
enum compression { COMPRESSION_NONE, COMPRESSION_GZIP };

static const char *const mode_words[] = {"append", "truncate", NULL};
static const char *const fsync_words[] = {"never", "batch", "interval", NULL};
static const char *const compression_words[] = {"none", "gzip", NULL};

struct rotate_config {
    int64_t size;
    int64_t every_ns;
    int64_t keep;
};

struct file_config {
    struct weir_str path;
    const struct weir_value *name;
    int mode;
    int sync;
    int64_t fsync_interval_ns;
    int format;
    int compression;
    struct rotate_config rotate;
    bool part;
    struct weir_str permissions;
    int64_t max_open;
    int64_t idle_ns;
};

struct stdout_config {
    int format;
};

static const struct weir_option rotate_options[] = {
    {.name = "size",
     .type = WEIR_OPT_SIZE,
     .offset = offsetof(struct rotate_config, size),
     .def = "0",
     .min = 0,
     .max = INT64_C(1) << 50,
     .doc = "Before it would grow beyond that; a batch is never split. 0: not by size.",
     .example = "100MiB"},
    {.name = "every",
     .type = WEIR_OPT_DURATION,
     .offset = offsetof(struct rotate_config, every_ns),
     .def = "0",
     .min = 0,
     .max = INT64_C(366) * 86400 * WEIR_NS_PER_S,
     .doc = "At the multiples of that time, in UTC: 1h is at every full hour. 0: not by time.",
     .example = "1h"},
    {.name = "keep",
     .type = WEIR_OPT_INT,
     .offset = offsetof(struct rotate_config, keep),
     .def = "0",
     .min = 0,
     .max = 100000,
     .doc = "How many rotated files stay; older ones are deleted. 0: all.",
     .example = "24"},
};

static const struct weir_option file_options[] = {
    {.name = "path",
     .type = WEIR_OPT_PATH,
     .offset = offsetof(struct file_config, path),
     .flags = WEIR_OPT_REQUIRED | WEIR_OPT_NONEMPTY,
     .doc = "The file to write; made where it is not there, its folder must be. With `name`: the "
            "folder.",
     .example = "out.ndjson"},
    {.name = "name",
     .type = WEIR_OPT_VALUE,
     .offset = offsetof(struct file_config, name),
     .flags = WEIR_OPT_TEMPLATES,
     .doc = "Files below `path` by event: a template, in which `%Y %m %d %H %M %S %j %y %F` are of "
            "the event's time in UTC (of now where it has none). Folders are made.",
     .example = "\"{{ type }}/%Y-%m-%d.ndjson\""},
    {.name = "mode",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, mode),
     .def = "append",
     .choices = mode_words,
     .doc = "Whether the file's old content stays or goes when the pipeline starts.",
     .example = "truncate"},
    {.name = "fsync",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, sync),
     .def = "never",
     .choices = fsync_words,
     .doc =
         "`batch` counts events as delivered only when the disk has them; `interval` makes files "
         "durable every `fsync_interval`; `never` leaves that to the system, which keeps them "
         "through a crash of weir but not of the machine.",
     .example = "batch"},
    {.name = "fsync_interval",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct file_config, fsync_interval_ns),
     .def = "1s",
     .min = 10 * WEIR_NS_PER_MS,
     .max = 3600 * WEIR_NS_PER_S,
     .doc = "What a crash of the machine may cost with `fsync: interval`.",
     .example = "200ms"},
    {.name = "format",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, format),
     .def = "payload",
     .choices = format_words,
     .doc = "`payload`: the payload alone; `full`: an object of id, time, key, origin, headers and "
            "payload.",
     .example = "full"},
    {.name = "compression",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct file_config, compression),
     .def = "none",
     .choices = compression_words,
     .doc = "`gzip` packs: each batch is a whole member of the file, so that bigger batches pack "
            "better. A member that a killed run left half is cut off; a file that is damaged "
            "otherwise is renamed as a rotated one is, and a new one begun.",
     .example = "gzip"},
    {.name = "rotate",
     .type = WEIR_OPT_TABLE,
     .offset = offsetof(struct file_config, rotate),
     WEIR_FIELDS(rotate_options),
     .doc = "When a new file is begun; the old one gets the time into its name: "
            "`out.20260131T120000Z.ndjson`.",
     .example = "{size: 100MiB, every: 1h, keep: 24}"},
    {.name = "part",
     .type = WEIR_OPT_BOOL,
     .offset = offsetof(struct file_config, part),
     .def = "false",
     .doc = "Write to `NAME.part` and give it its name when it is finished: rotated, or `idle`, or "
            "at the end. Whoever reads sees whole files only. What a killed run left is gone on "
            "with; with `name` every `.part` file below `path` is finished at the start, but for "
            "those without a whole line or member, or of another `compression`. No other program "
            "may keep such files there.",
     .example = "true"},
    {.name = "permissions",
     .type = WEIR_OPT_STRING,
     .offset = offsetof(struct file_config, permissions),
     .def = "\"0640\"",
     .flags = WEIR_OPT_NONEMPTY,
     .doc = "Of new files, in octal, less the umask; folders get the right to search as well.",
     .example = "\"0600\""},
    {.name = "max_open",
     .type = WEIR_OPT_INT,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct file_config, max_open),
     .def = "128",
     .min = 1,
     .max = 65536,
     .doc =
         "With `name`: how many files are open at once; the least used is finished for a new one.",
     .example = "500"},
    {.name = "idle",
     .type = WEIR_OPT_DURATION,
     .flags = WEIR_OPT_ADVANCED,
     .offset = offsetof(struct file_config, idle_ns),
     .def = "1m",
     .min = 0,
     .max = INT64_C(366) * 86400 * WEIR_NS_PER_S,
     .doc = "With `name`: a file to which nothing came for so long is finished. 0: never.",
     .example = "10m"},
};

static const struct weir_option stdout_options[] = {
    {.name = "format",
     .type = WEIR_OPT_ENUM,
     .offset = offsetof(struct stdout_config, format),
     .def = "payload",
     .choices = format_words,
     .doc = "`payload`: the payload alone; `full`: an object of id, time, key, origin, headers and "
            "payload.",
     .example = "full"},
};

static uint32_t format_needs(int format)
{
    return format == FORMAT_FULL ? WEIR_NEEDS_PAYLOAD | WEIR_NEEDS_ID : WEIR_NEEDS_PAYLOAD;
}

static uint32_t file_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct file_config *cf = config;
    return format_needs(cf->format);
}

static uint32_t stdout_needs(const struct weir_host *h, const void *config)
{
    (void)h;
    const struct stdout_config *cf = config;
    return format_needs(cf->format);
}

static uint32_t sink_traits(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_TRAIT_SHARED;
}

/* ---- check ----------------------------------------------------------------------------------- */

static bool read_permissions(struct weir_str text, mode_t *ret)
{
    unsigned v = 0;
    if (text.len == 0 || text.len > 4)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '7')
            return false;
        v = v * 8 + (unsigned)(text.ptr[i] - '0');
    }
    *ret = (mode_t)v;
    return v <= 0777 && (v & 0200) != 0;
}

static void check_name(const struct file_config *cf, const struct weir_report *report)
{
    const struct weir_host *h = report->host;
    struct weir_error err = {.offset = -1};
    struct name name;
    char sample[NAME_LEN + 1];
    const char *reserved = NULL;
    if (h->value_type(cf->name) != WEIR_STRING) {
        report->error(report, "name", -1, "a template is expected, as text");
        return;
    }
    struct weir_arena *a = h->arena_new(h);
    if (a != NULL && name_compile(h, a, h->value_str(cf->name), &name, &err) != WEIR_OK)
        report->error(report, "name", err.offset, "%s", err.text);
    if (a != NULL && err.status == WEIR_OK) {
        name_sample(&name, sample);
        reserved = why_reserved(cf->part, cf->rotate.keep != 0, weir_cstr(sample));
    }
    if (reserved != NULL)
        report->error(report, "name", -1, "%s", reserved);
    if (a != NULL)
        h->arena_free(a);
    if (cf->mode == MODE_TRUNCATE)
        report->error(report, "mode", -1,
                      "`truncate` empties one file at the start; with `name` files come and go");
}

/* Options that were given, and do nothing as the others are. */
static void check_idle_options(const struct file_config *cf, const struct weir_report *report)
{
    const char *no_name = "it is of no effect without `name`";
    if (cf->sync != FSYNC_INTERVAL && cf->fsync_interval_ns != FSYNC_INTERVAL_NS)
        report->warning(report, "fsync_interval", -1,
                        "it is of no effect without `fsync: interval`");
    if (cf->name == NULL && cf->max_open != MAX_OPEN)
        report->warning(report, "max_open", -1, "%s", no_name);
    if (cf->name == NULL && cf->idle_ns != IDLE_NS)
        report->warning(report, "idle", -1, "%s", no_name);
}

static void file_check(const void *config, const struct weir_report *report)
{
    const struct file_config *cf = config;
    mode_t permissions;
    check_idle_options(cf, report);
    if (cf->name != NULL)
        check_name(cf, report);
    if (!read_permissions(cf->permissions, &permissions))
        report->error(report, "permissions", -1,
                      "expected octal digits such as \"0640\" with the right to write for the "
                      "owner, found \"%s\"",
                      cf->permissions.ptr);
    if (cf->rotate.keep != 0 && cf->rotate.size == 0 && cf->rotate.every_ns == 0)
        report->error(report, "rotate.keep", -1,
                      "nothing is rotated: give `size` or `every` as well");
    if (cf->rotate.every_ns != 0 && cf->rotate.every_ns < WEIR_NS_PER_S)
        report->error(report, "rotate.every", -1, "at least 1s is expected");
    if (cf->path.len > 0 && cf->path.ptr[cf->path.len - 1] == '/' && cf->name == NULL)
        report->error(report, "path", -1, "\"%s\" is a folder: a file is expected, or `name`",
                      cf->path.ptr);
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static void sink_close(void *take_self)
{
    struct sink *self = take_self;
    if (self == NULL)
        return;
    targets_stop(&self->targets);
    text_done(&self->text);
    zip_done(self);
    if (self->arena != NULL)
        self->h->arena_free(self->arena);
    if (self->names != NULL)
        self->h->arena_free(self->names);
    if (self->cancel_fd >= 0)
        close(self->cancel_fd);
    pthread_mutex_destroy(&self->lock);
    self->h->free(self);
}

static struct sink *sink_new(const struct weir_host *h, int format, struct weir_error *err)
{
    struct sink *self = h->alloc(sizeof(*self));
    if (self == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
        return NULL;
    }
    self->h = h;
    self->format = (enum format)format;
    self->text.h = h;
    self->packed.h = h;
    pthread_mutex_init(&self->lock, NULL);
    self->targets = (struct targets){.h = h, .lock = &self->lock, .keeper_fd = -1, .max_open = 1};
    self->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    self->arena = h->arena_new(h);
    if (self->cancel_fd >= 0 && self->arena != NULL)
        return self;
    h->error(err, WEIR_E_NOMEM, "no_memory", "no memory or descriptor for the sink");
    sink_close(self);
    return NULL;
}

static void set_options(struct sink *self, const struct file_config *cf)
{
    struct targets *ts = &self->targets;
    ts->opt = (struct target_options){.sync = (enum sync_when)cf->sync,
                                      .gzip = cf->compression == COMPRESSION_GZIP,
                                      .part = cf->part,
                                      .rotate_bytes = cf->rotate.size,
                                      .rotate_ns = cf->rotate.every_ns,
                                      .keep = cf->rotate.keep};
    (void)read_permissions(cf->permissions, &ts->opt.permissions);
    ts->interval_ns = cf->fsync_interval_ns;
    ts->idle_ns = cf->idle_ns;
}

/* With `name`: the folder must be there, and names be made. */
static enum weir_status setup_names(struct sink *self, const struct file_config *cf,
                                    struct weir_error *err)
{
    const struct weir_host *h = self->h;
    struct stat st;
    if (stat(cf->path.ptr, &st) != 0 || !S_ISDIR(st.st_mode))
        return h->error(
            err, WEIR_E_CONFIG, "open_failed",
            "cannot write below \"%s\": %s; with `name`, option `path` is a folder that "
            "is there",
            cf->path.ptr, errno == ENOENT ? strerror(errno) : "it is no folder");
    if (access(cf->path.ptr, W_OK | X_OK) != 0)
        return h->error(err, WEIR_E_CONFIG, "open_failed", "cannot write below \"%s\": %s",
                        cf->path.ptr, strerror(errno));
    self->targets.folder = cf->path.ptr;
    self->targets.max_open = (uint32_t)cf->max_open;
    self->names = h->arena_new(h);
    if (self->names == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink's names");
    self->named = true;
    if (self->targets.opt.part)
        targets_finish_left(&self->targets, cf->path.ptr);
    return name_compile(h, self->names, h->value_str(cf->name), &self->name, err);
}

static enum weir_status setup_file(struct sink *self, const struct file_config *cf,
                                   struct weir_error *err)
{
    const struct weir_host *h = self->h;
    set_options(self, cf);
    enum weir_status st = WEIR_OK;
    if (self->targets.opt.gzip && !zip_init(self))
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory to pack with gzip");
    if (cf->name != NULL) {
        st = setup_names(self, cf, err);
    } else {
        struct target *t = target_new(h, &self->targets.opt, cf->path.ptr);
        if (t == NULL)
            return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
        targets_add(&self->targets, t);
        st = target_open(t, cf->mode == MODE_TRUNCATE, err);
    }
    return st == WEIR_OK ? targets_start(&self->targets, err) : st;
}

static enum weir_status file_open(const struct weir_host *h, const void *config, void **ret_self,
                                  struct weir_error *err)
{
    const struct file_config *cf = config;
    struct sink *self = sink_new(h, cf->format, err);
    if (self == NULL)
        return WEIR_E_NOMEM;
    enum weir_status st = setup_file(self, cf, err);
    if (st != WEIR_OK) {
        sink_close(self);
        return st;
    }
    *ret_self = self;
    return WEIR_OK;
}

static bool is_nameless_pipe(int fd)
{
    char link[32], target[16] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof(target) - 1) > 0 &&
           (strncmp(target, "pipe:", 5) == 0 || strncmp(target, "socket:", 7) == 0);
}

static enum weir_status stdout_open(const struct weir_host *h, const void *config, void **ret_self,
                                    struct weir_error *err)
{
    const struct stdout_config *cf = config;
    struct stat st;
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (fstat(STDOUT_FILENO, &st) != 0 || flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
        return h->error(err, WEIR_E_CONFIG, "no_stdout",
                        "standard output is closed: nothing can be written there");
    struct sink *self = sink_new(h, cf->format, err);
    struct target *t = self != NULL ? target_new(h, &self->targets.opt, "standard output") : NULL;
    if (t == NULL) {
        sink_close(self);
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the sink");
    }
    t->fd = STDOUT_FILENO;
    t->regular = S_ISREG(st.st_mode);
    self->is_stdout = true;
    self->one_reader = is_nameless_pipe(STDOUT_FILENO);
    targets_add(&self->targets, t);
    *ret_self = self;
    return WEIR_OK;
}

static void sink_cancel(void *self_)
{
    struct sink *self = self_;
    const uint64_t one = 1;
    atomic_store(&self->canceled, true);
    ssize_t n = write(self->cancel_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is set already */
}

static const struct weir_sink sink = {
    .size = sizeof(sink),
    .batch_events = 1000,
    .batch_bytes = 4 << 20,
    .in_flight = 1,
    .write = sink_write,
    .cancel = sink_cancel,
};

const struct weir_type type_file_sink = {
    .size = sizeof(type_file_sink),
    .kind = WEIR_SINK,
    .name = "file",
    .summary = "Writes an event a line to a file.",
    .doc =
        "A batch is written whole or not at all: when the disk is full half way, what was "
        "written is cut off again and the batch is tried later. Files are locked while they are "
        "open. One that somebody renames or deletes meanwhile is left, and a new one begun, so "
        "logrotate needs no signal (and no `copytruncate`).\n\n"
        "With `name` each event goes to the file that it names. What comes out of an event cannot "
        "leave the folder: an event whose fields hold a `/`, a NUL or another control character, "
        "or make a part of the name empty, `.`, `..` or longer than 255 bytes, is rejected; so is "
        "one "
        "whose file is there and may not be written.\n\n"
        "Line breaks between the tokens of a JSON payload become spaces; every other byte is "
        "written as it is. A payload that is no JSON (`codec: raw`, or never looked at) with a "
        "line "
        "break inside, and a tombstone, are rejected unless `format: full`, where what is no JSON "
        "stands in base64 in "
        "`payload_base64`.",
    .options = WEIR_OPTIONS(file_options, struct file_config),
    .sink = &sink,
    .needs = file_needs,
    .traits = sink_traits,
    .check = file_check,
    .open = file_open,
    .close = sink_close,
};

const struct weir_type type_stdout_sink = {
    .size = sizeof(type_stdout_sink),
    .kind = WEIR_SINK,
    .name = "stdout",
    .summary = "Writes an event a line to standard output.",
    .doc = "For trying things out, and for pipes to other programs. Lines as in sink `file`. The "
           "reader of a named pipe may go and another come: a line that was torn is ended and "
           "repeated. Where no other can come (a pipe to `head`), what is not written is "
           "rejected with the code `reader_gone`: `on_reject` says what becomes of it, and without "
           "a dead letter the pipeline stops.",
    .options = WEIR_OPTIONS(stdout_options, struct stdout_config),
    .sink = &sink,
    .needs = stdout_needs,
    .traits = sink_traits,
    .open = stdout_open,
    .close = sink_close,
};
