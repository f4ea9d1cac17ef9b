/* SPDX-License-Identifier: Apache-2.0
 *
 * The set of open files, and its keeper: a thread that makes files durable by interval, rotates
 * those whose time has come and finishes those that nobody writes to any more. See targets.h.
 */
#include "targets.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_MAX_MS 1000
#define TICK_MIN_MS 10

/* ---- By last use ----------------------------------------------------------------------------- */

static void list_in(struct targets *ts, struct target *t)
{
    t->newer = NULL;
    t->older = ts->newest;
    *(t->older != NULL ? &t->older->newer : &ts->oldest) = t;
    ts->newest = t;
    ts->n++;
}

static void list_out(struct targets *ts, struct target *t)
{
    *(t->newer != NULL ? &t->newer->older : &ts->newest) = t->older;
    *(t->older != NULL ? &t->older->newer : &ts->oldest) = t->newer;
    ts->n--;
}

void targets_drop(struct targets *ts, struct target *take_t)
{
    list_out(ts, take_t);
    target_finish(take_t);
    target_free(take_t);
}

void targets_add(struct targets *ts, struct target *take_t)
{
    take_t->used_ns = ts->h->now(ts->h);
    list_in(ts, take_t);
}

/* ---- Finding --------------------------------------------------------------------------------- */

static enum weir_status fail(const struct targets *ts, struct weir_error *err, int number,
                             const char *what, const char *path)
{
    enum weir_status st = ts->h->error(err, WEIR_E_UNAVAILABLE, "open_failed", "%s \"%s\": %s",
                                       what, path, strerror(number));
    if (err != NULL)
        err->number = number;
    return st;
}

/* Makes the folders below ts->folder that the path goes through. */
static enum weir_status make_folders(const struct targets *ts, char *path, struct weir_error *err)
{
    /* Who may read files there may look for them. */
    mode_t mode = ts->opt.permissions | 0700 | (ts->opt.permissions & 0444) >> 2;
    for (char *slash = strchr(path + strlen(ts->folder) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int error = mkdir(path, mode & 0777) != 0 ? errno : 0;
        if (error == 0 && ts->opt.sync != FSYNC_NEVER) {
            error = sync_entry(ts->h, path);
            if (error != 0) /* one that is there is taken to be durable */
                (void)rmdir(path);
        }
        enum weir_status st = WEIR_OK;
        if (error != 0 && error != EEXIST)
            st = fail(ts, err, error, "cannot make the folder", path);
        *slash = '/';
        if (st != WEIR_OK)
            return st;
    }
    return WEIR_OK;
}

static enum weir_status open_below(const struct targets *ts, struct target *t, char *path,
                                   struct weir_error *err)
{
    enum weir_status st = make_folders(ts, path, err);
    return st == WEIR_OK ? target_open(t, false, err) : st;
}

static char *path_of(const struct targets *ts, const char *name)
{
    size_t folder = strlen(ts->folder), len = strlen(name);
    char *path = ts->h->alloc(folder + 1 + len + 1);
    if (path == NULL)
        return NULL;
    memcpy(path, ts->folder, folder);
    path[folder] = '/';
    memcpy(path + folder + 1, name, len + 1);
    return path;
}

static struct target *find(const struct targets *ts, const char *name)
{
    size_t skip = strlen(ts->folder) + 1;
    struct target *t = ts->newest;
    while (t != NULL && strcmp(t->path + skip, name) != 0)
        t = t->older;
    return t;
}

struct target *targets_get(struct targets *ts, const char *name, struct weir_error *err)
{
    struct target *t = find(ts, name);
    if (t != NULL) {
        list_out(ts, t);
        targets_add(ts, t);
        return t;
    }
    while (ts->n >= ts->max_open)
        targets_drop(ts, ts->oldest);
    char *path = path_of(ts, name);
    t = path != NULL ? target_new(ts->h, &ts->opt, path) : NULL;
    enum weir_status st =
        t != NULL ? open_below(ts, t, path, err) : fail(ts, err, ENOMEM, "no memory for", name);
    while (st != WEIR_OK && (err->number == EMFILE || err->number == ENFILE) &&
           ts->oldest != NULL) {
        targets_drop(ts, ts->oldest); /* fewer descriptors than max_open */
        st = open_below(ts, t, path, err);
    }
    ts->h->free(path);
    if (st != WEIR_OK) {
        target_free(t);
        return NULL;
    }
    targets_add(ts, t);
    return t;
}

/* ---- What a killed run left ------------------------------------------------------------------ */

static bool is_part(const char *name)
{
    size_t len = strlen(name), end = strlen(TARGET_PART);
    return len > end && strcmp(name + len - end, TARGET_PART) == 0;
}

static void finish_part(struct targets *ts, char *path)
{
    struct weir_error err = {0};
    path[strlen(path) - strlen(TARGET_PART)] = '\0';
    struct target *t = target_new(ts->h, &ts->opt, path);
    if (t != NULL)
        t->left = true;
    enum weir_status st = t != NULL ? target_open(t, false, &err) : WEIR_E_NOMEM;
    if (st == WEIR_OK) {
        target_finish(t);
    } else if (err.number != EWOULDBLOCK) { /* else it is being written by another weir */
        struct weir_kv kv[] = {weir_kv_text("path", t != NULL ? t->written : path),
                               weir_kv_text("reason", t != NULL ? err.text : "no memory")};
        ts->h->log(ts->h, WEIR_LOG_WARN, "an unfinished file is left as it is", kv, 2);
    }
    target_free(t);
}

void targets_finish_left(struct targets *ts, const char *folder)
{
    DIR *d = opendir(folder);
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        size_t len = strlen(folder) + 1 + strlen(entry->d_name) + 1;
        char *path = ts->h->alloc(len);
        struct stat st;
        if (path == NULL)
            break;
        (void)snprintf(path, len, "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            lstat(path, &st) == 0) {
            if (S_ISDIR(st.st_mode))
                targets_finish_left(ts, path);
            else if (S_ISREG(st.st_mode) && is_part(entry->d_name))
                finish_part(ts, path);
        }
        ts->h->free(path);
    }
    if (d != NULL)
        closedir(d);
}

/* ---- The keeper ------------------------------------------------------------------------------ */

static void say_not_durable(const struct target *t, int error)
{
    struct weir_kv kv[] = {weir_kv_text("path", t->written),
                           weir_kv_text("reason", strerror(error))};
    t->h->log(t->h, WEIR_LOG_ERROR, "cannot make a file durable", kv, 2);
}

static void look_after(struct targets *ts)
{
    int64_t now_ns = ts->h->now(ts->h);
    bool sync = ts->opt.sync == FSYNC_INTERVAL && now_ns - ts->synced_ns >= ts->interval_ns;
    if (sync)
        ts->synced_ns = now_ns;
    for (struct target *t = ts->newest, *next; t != NULL; t = next) {
        next = t->older;
        int error = sync ? target_sync(t) : 0;
        if (error != 0)
            say_not_durable(t, error);
        target_tick(t);
        if (ts->folder != NULL && ts->idle_ns != 0 && now_ns - t->used_ns >= ts->idle_ns)
            targets_drop(ts, t);
    }
}

static int tick_ms(const struct targets *ts)
{
    int64_t ns = TICK_MAX_MS * WEIR_NS_PER_MS;
    if (ts->opt.sync == FSYNC_INTERVAL && ts->interval_ns < ns)
        ns = ts->interval_ns;
    if (ts->opt.rotate_ns != 0 && ts->opt.rotate_ns < ns)
        ns = ts->opt.rotate_ns;
    if (ts->idle_ns != 0 && ts->idle_ns < ns)
        ns = ts->idle_ns;
    int ms = (int)(ns / WEIR_NS_PER_MS);
    return ms > TICK_MIN_MS ? ms : TICK_MIN_MS;
}

static void *keep(void *arg)
{
    struct targets *ts = arg;
    struct pollfd fd = {.fd = ts->keeper_fd, .events = POLLIN};
    while (poll(&fd, 1, tick_ms(ts)) <= 0) {
        pthread_mutex_lock(ts->lock);
        look_after(ts);
        pthread_mutex_unlock(ts->lock);
    }
    return NULL;
}

enum weir_status targets_start(struct targets *ts, struct weir_error *err)
{
    bool idle = ts->folder != NULL && ts->idle_ns != 0;
    ts->synced_ns = ts->h->now(ts->h);
    if (ts->opt.sync != FSYNC_INTERVAL && ts->opt.rotate_ns == 0 && !idle)
        return WEIR_OK;
    ts->keeper_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ts->keeper_fd < 0)
        return ts->h->error(err, WEIR_E_FATAL, "eventfd", "cannot make an eventfd: %s",
                            strerror(errno));
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&ts->keeper, NULL, keep, ts);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        return WEIR_OK;
    close(ts->keeper_fd);
    ts->keeper_fd = -1;
    return ts->h->error(err, WEIR_E_FATAL, "thread", "cannot start a thread: %s", strerror(error));
}

void targets_stop(struct targets *ts)
{
    const uint64_t one = 1;
    if (ts->keeper_fd >= 0 && write(ts->keeper_fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
        (void)pthread_join(ts->keeper, NULL);
    if (ts->keeper_fd >= 0)
        close(ts->keeper_fd);
    ts->keeper_fd = -1;
    while (ts->newest != NULL)
        targets_drop(ts, ts->newest);
}
