/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files there are; see source.h.
 *
 * A follower looks round every `poll_interval`, and when inotify says that something came or went.
 * Each lane takes the files that are its own by their inode. Without follow the files are found
 * once, and read one after the other.
 */
#include "source.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GAP_NS (10 * WEIR_NS_PER_MS) /* between two looks, however much inotify has to tell */
#define LATER_NS (10 * WEIR_NS_PER_S)
#define LATER_PACKED_NS (60 * WEIR_NS_PER_S)

bool is_pattern(const char *path)
{
    struct stat st;
    return strpbrk(path, "*?[") != NULL && lstat(path, &st) != 0;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static bool is_excluded(const struct source *self, const char *path)
{
    const struct source_config *cf = self->config;
    const struct weir_str *patterns = cf->exclude.items;
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    for (uint32_t i = 0; i < cf->exclude.n; i++)
        if (fnmatch(patterns[i].ptr, strchr(patterns[i].ptr, '/') != NULL ? path : name, 0) == 0)
            return true;
    if (cf->state.len == 0 || strncmp(path, cf->state.ptr, cf->state.len) != 0)
        return false;
    const char *rest = path + cf->state.len; /* our own files are none of ours */
    return rest[0] == '\0' || strcmp(rest, ".new") == 0 || strcmp(rest, ".lock") == 0;
}

static void say_unreadable(struct source *self, const char *path, const char *reason)
{
    struct weir_kv kv[] = {weir_kv_text("path", path), weir_kv_text("reason", reason)};
    self->h->log(self->h, WEIR_LOG_WARN, "cannot read a file", kv, 2);
    self->h->metric_add(self->unreadable, 1);
}

/* Calls each() for every name that option `path` means, patterns in the order of the alphabet. */
static bool each_name(struct source *self, bool (*each)(struct source *self, const char *path))
{
    const struct weir_str *paths = self->config->path.items;
    bool ok = true;
    for (uint32_t i = 0; i < self->config->path.n && ok; i++) {
        glob_t found = {0};
        if (!is_pattern(paths[i].ptr)) {
            ok = is_excluded(self, paths[i].ptr) || each(self, paths[i].ptr);
            continue;
        }
        int result = glob(paths[i].ptr, 0, NULL, &found);
        if (result == GLOB_NOSPACE) {
            say_unreadable(self, paths[i].ptr, "no memory to look for its files");
            ok = false;
        }
        for (size_t k = 0; result == 0 && k < found.gl_pathc && ok; k++)
            ok = is_excluded(self, found.gl_pathv[k]) || each(self, found.gl_pathv[k]);
        globfree(&found);
    }
    return ok;
}

/* ---- Taking a file --------------------------------------------------------------------------- */

static bool is_ours(const struct source *self, const struct looks *looks)
{
    uint64_t hash = (looks->ino ^ looks->dev << 32) * 0x9e3779b97f4a7c15u;
    return self->h->count <= 1 || (hash >> 32) % self->h->count == self->h->index;
}

/* True where it can still be a copy of what is being read, come while running. */
static bool may_wait(const struct source *self, const struct input *in, const struct looks *looks)
{
    if (!self->config->follow || in->early || looks->head_len < HEAD_MIN)
        return false;
    int64_t limit_ns = looks->unpacked ? LATER_PACKED_NS : LATER_NS;
    return self->h->now(self->h) - in->born_ns < limit_ns;
}

static void put_hex(char *p, uint64_t v)
{
    for (int i = 15; i >= 0; i--, v >>= 4)
        p[i] = "0123456789abcdef"[v & 15];
}

/* Begins to read what was taken. 0 or an errno value. */
static int begin(struct source *self, struct input *in, bool is_new)
{
    int error = input_begin(in, in->place->offset, self->config->line_header.len != 0);
    if (error != 0)
        return error;
    if (self->config->follow || self->config->state.len != 0) {
        put_hex(in->id, in->place->tag);
        in->id[16] = '-';
        in->id_len = 17;
    } /* else path and offset: the same in the next run */
    in->lines.follow = self->config->follow && in->unzip == NULL;
    struct weir_kv kv[] = {weir_kv_str("path", in->path), weir_kv_i64("offset", in->place->offset),
                           weir_kv_bool("new", is_new)};
    self->h->log(self->h, WEIR_LOG_DEBUG, "reading a file", kv, 3);
    return 0;
}

/* `start: end`: what it holds is not wanted. Of the first start only: what came while weir was down
 * is read. */
static bool skips(const struct source *self, const struct input *in)
{
    return in->early && self->config->start == START_END && !places_known(self->places);
}

/* Of a file that is empty so far, or holds half of gzip's first bytes, nothing is known: a copy
 * begins so, too. */
static bool is_empty(const struct source *self, const struct input *in)
{
    static const unsigned char magic[] = {0x1f, 0x8b};
    unsigned char head[3];
    if (!self->config->follow || skips(self, in))
        return false;
    ssize_t n = pread(in->fd, head, sizeof(head), 0);
    return n >= 0 && n < (ssize_t)sizeof(head) && memcmp(head, magic, (size_t)n) == 0;
}

/* A gzip file that is being written tells at first too little of what is inside: it could be of a
 * file that was read already. */
static bool is_begun(const struct source *self, const struct input *in, const struct looks *looks)
{
    return self->config->follow && looks->unfinished &&
           self->h->now(self->h) - in->born_ns < LATER_PACKED_NS;
}

static enum tail compare_tail(void *arg, const struct place *at)
{
    unsigned char tail[HEAD_MAX];
    uint32_t len;
    int error = input_tail(arg, at->tail_at, tail, &len);
    if (error == 0 && places_is_tail(at, tail, len))
        return TAIL_SAME;
    return error == ENODATA ? TAIL_LATER : TAIL_OTHER;
}

static enum take take(struct source *self, struct input *in, const struct looks *looks)
{
    bool from_end = skips(self, in) && in->unzip == NULL;
    struct find f = {.path = in->path.ptr,
                     .looks = looks,
                     .start = from_end ? input_last_line(in) : 0,
                     .scan_ns = self->scanned_ns,
                     .wait = may_wait(self, in, looks),
                     .tail = compare_tail,
                     .arg = in};
    enum take result = places_take(self->places, self->h, &f, &in->place);
    if (result == TAKE_NEW) /* before its first event: a redelivered one has the same id */
        places_save(self->places, self->h, true);
    return result;
}

/* What looked like known content is other content. */
static bool identify_anew(struct source *self, struct input *in)
{
    places_gone(self->places, self->h, in->place);
    places_release(self->places, in->place);
    in->place = NULL;
    unzip_free(in->unzip);
    in->unzip = NULL;
    return lseek(in->fd, 0, SEEK_SET) == 0 && identify(self, in);
}

bool identify(struct source *self, struct input *in)
{
    struct looks looks;
    if (is_empty(self, in))
        return false;
    int error = in->unzip == NULL ? input_unpack(self, in) : 0;
    if (error == 0)
        error = input_looks(in, &looks);
    if (error == 0 && is_begun(self, in, &looks))
        return false;
    enum take result = error == 0 ? take(self, in, &looks) : TAKE_FAILED;
    if (result == TAKE_LATER || (result == TAKE_FAILED && (error == 0 || error == ENOMEM)))
        return false;
    bool taken = result == TAKE_NEW || result == TAKE_KNOWN;
    if (taken)
        error = begin(self, in, result == TAKE_NEW);
    if (error == ESPIPE && taken && in->unzip != NULL)
        return identify_anew(self, in);
    if (error != 0)
        say_unreadable(self, in->path.ptr, strerror(error));
    bool skip = result == TAKE_NEW && in->unzip != NULL && skips(self, in);
    if (taken && error == 0 && !skip)
        return true;
    in->done = taken && error == 0 ? looks.size : -1; /* it was there at the start: not wanted */
    input_finish(self, in);
    return false;
}

static struct input *by_inode(const struct source *self, const struct looks *looks)
{
    for (struct input *in = self->inputs; in != NULL; in = in->next)
        if (in->ino == looks->ino && in->dev == looks->dev && !in->over)
            return in;
    return NULL;
}

/* Puts it behind the others. */
static void add_input(struct source *self, struct input *in)
{
    struct input **at = &self->inputs;
    while (*at != NULL)
        at = &(*at)->next;
    *at = in;
    self->n_inputs++;
}

/* `size`: what it had when it was found. False: not now, for want of memory or descriptors. */
static bool open_one(struct source *self, const char *path, bool early, int64_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = fd < 0 ? errno : 0;
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        say_unreadable(self, path, "not a regular file");
        return true;
    }
    if (fd < 0) {
        if (!self->config->follow && (error == EMFILE || error == ENFILE || error == ENOMEM))
            return false;
        if (error != ENOENT) /* else gone already: it comes as another one, or not */
            say_unreadable(self, path, strerror(error));
        return true;
    }
    struct input *in = input_new(self, fd, path);
    if (in == NULL)
        return false;
    in->dev = (uint64_t)st.st_dev;
    in->ino = (uint64_t)st.st_ino;
    in->found_ns = self->scanned_ns;
    in->born_ns = in->moved_ns = self->h->now(self->h);
    in->early = early;
    if (self->config->grown == GROWN_LEAVE)
        input_limit(in, size);
    if (self->config->follow)
        in->wd = watch_file(self->watch_fd, fd);
    add_input(self, in);
    return true;
}

/* ---- Following ------------------------------------------------------------------------------- */

/* Notes that it is there; true where it is to be opened. */
static bool is_new(struct source *self, const char *path, struct looks *ret)
{
    mode_t mode;
    if (stat_looks(AT_FDCWD, path, ret, &mode) != 0)
        return false;
    if (!S_ISREG(mode)) {
        if (!S_ISDIR(mode) && !self->config->follow)
            say_unreadable(self, path, "not a regular file");
        return false;
    }
    bool more = places_found(self->places, self->h, ret, self->scanned_ns);
    struct input *in = by_inode(self, ret);
    if (in != NULL)
        in->found_ns = self->scanned_ns;
    return more && in == NULL && is_ours(self, ret);
}

static bool note(struct source *self, const char *path)
{
    struct looks looks;
    mode_t mode;
    if (stat_looks(AT_FDCWD, path, &looks, &mode) != 0 || !S_ISREG(mode))
        return true;
    (void)places_found(self->places, self->h, &looks, self->scanned_ns);
    struct input *in = by_inode(self, &looks);
    if (in != NULL)
        in->found_ns = self->scanned_ns;
    return true;
}

static bool first(struct source *self, const char *path)
{
    struct looks looks;
    return !is_new(self, path, &looks) || open_one(self, path, true, looks.size);
}

static bool again(struct source *self, const char *path)
{
    struct looks looks;
    return !is_new(self, path, &looks) || open_one(self, path, false, looks.size);
}

static bool watch_its_folder(struct source *self, const char *path)
{
    char folder[sizeof(self->watched)];
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL && slash != path ? (size_t)(slash - path) : 1;
    if (len >= sizeof(folder))
        return true;
    memcpy(folder, slash != NULL ? path : ".", len);
    folder[len] = '\0';
    if (strcmp(folder, self->watched) == 0)
        return true;
    memcpy(self->watched, folder, len + 1);
    (void)watch_folder(self->watch_fd, folder); /* where it is watched already, nothing changes */
    return true;
}

/* Folders of the patterns themselves, so that their first file is seen at once. */
static void watch_folders(struct source *self)
{
    const struct weir_str *paths = self->config->path.items;
    self->watched[0] = '\0'; /* a folder may be another one than at the last look */
    for (uint32_t i = 0; i < self->config->path.n; i++)
        (void)watch_its_folder(self, paths[i].ptr);
    (void)each_name(self, watch_its_folder);
}

/* `start: end`: all that is there at the first start is taken before the first position is kept, or
 * the next start would take the rest for what came meanwhile. */
static void take_early(struct source *self)
{
    for (struct input *in = self->inputs; in != NULL; in = in->next)
        if (in->place == NULL && skips(self, in))
            (void)identify(self, in);
    places_scanned(self->places);
}

int64_t scan_due(const struct source *self)
{
    if (self->scanned_ns == 0)
        return 0;
    return self->scanned_ns + (self->scan_now ? GAP_NS : self->config->poll_interval_ns);
}

bool scan(struct source *self)
{
    int64_t now_ns = self->h->now(self->h);
    bool is_first = self->scanned_ns == 0;
    if (now_ns < scan_due(self))
        return true;
    self->scanned_ns = now_ns;
    self->scan_now = false;
    watch_folders(self);
    (void)each_name(self, note);
    bool ok = each_name(self, is_first ? first : again);
    if (is_first)
        take_early(self);
    for (struct input *in = self->inputs; in != NULL; in = in->next) {
        in->ready = !in->over; /* what inotify does not tell */
        if (in->found_ns == now_ns)
            in->gone_ns = 0;
        else if (in->gone_ns == 0)
            in->gone_ns = now_ns;
    }
    return ok;
}

/* ---- Without following ----------------------------------------------------------------------- */

static bool queue_name(struct source *self, const char *path)
{
    const struct weir_host *h = self->h;
    size_t len = strlen(path);
    if ((self->n_queue & (self->n_queue - 1)) == 0) { /* full at the powers of 2 */
        size_t cap = self->n_queue == 0 ? 1 : self->n_queue * 2;
        struct queued *grown = h->realloc(self->queue, cap * sizeof(*grown));
        if (grown == NULL)
            return false;
        self->queue = grown;
    }
    char *copy = h->alloc(len + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, path, len + 1);
    struct stat st;
    bool known = stat(path, &st) == 0;
    self->queue[self->n_queue++] = (struct queued){copy, known ? (int64_t)st.st_size : 0};
    return true;
}

/* False: not all of them are there. */
static bool find_queue(struct source *self)
{
    self->scanned_ns = self->h->now(self->h);
    (void)each_name(self, note);
    if (!each_name(self, queue_name)) {
        say_unreadable(self, "", "no memory for the names of all files");
        while (self->n_queue > 0)
            self->h->free(self->queue[--self->n_queue].path);
        self->h->free(self->queue);
        self->queue = NULL;
        self->scanned_ns = 0;
        return false;
    }
    if (self->n_queue == 0)
        self->h->log(self->h, WEIR_LOG_WARN, "no file matches", NULL, 0);
    return true;
}

bool scan_next(struct source *self)
{
    if (self->scanned_ns == 0 && !find_queue(self))
        return true; /* once more, later */
    while (self->at_queue < self->n_queue) {
        const char *path = self->queue[self->at_queue].path;
        int64_t size = self->queue[self->at_queue++].size;
        struct looks looks;
        uint32_t before = self->n_inputs;
        if (access(path, F_OK) != 0) { /* a link to nowhere, or gone by now */
            say_unreadable(self, path, strerror(errno));
            continue;
        }
        if (!is_new(self, path, &looks))
            continue;
        if (!open_one(self, path, true, size)) {
            self->at_queue--; /* no memory: once more, later */
            return true;
        }
        if (self->n_inputs > before)
            return true;
    }
    return false;
}
