# SPDX-License-Identifier: Apache-2.0
"""Sink file: what is on the disk before an event counts as delivered, and what a fault leaves there.

A library in front of libc writes down the calls, and makes some of them fail."""
import gzip
import json
import re
import subprocess

import pytest

from weirtest import wait_until

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int broken = -1, n_faults[8];

static ssize_t plain_write(int fd, const void *p, size_t len)
{
    NEXT(write);
    return next(fd, p, len);
}

static void say(const char *fmt, ...)
{
    char line[PATH_MAX + 100];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    int log = open(getenv("CALLS"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (plain_write(log, line, (size_t)n) != n)
        abort();
    close(log);
}

/* The path below the test's folder, or NULL where it is none of the sink's and source's. */
static const char *path_of(int fd, char path[PATH_MAX])
{
    char link[32];
    const char *folder = getenv("FOLDER");
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    if (n <= 0 || strncmp(path, folder, strlen(folder)) != 0 || strstr(path, "/weir-") != NULL)
        return NULL;
    return path[strlen(folder)] == '/' ? path + strlen(folder) + 1 : ".";
}

/* FAULT is "call path every;...": of that call on that path each so manieth fails. */
static int fails(const char *call, const char *path)
{
    char which[32], where[100];
    int every, i = 0;
    for (const char *fault = getenv("FAULT"); fault != NULL; fault = strchr(fault, ';'), i++) {
        fault += *fault == ';';
        if (sscanf(fault, "%31s %99s %d", which, where, &every) == 3 && strcmp(call, which) == 0 &&
            strstr(path, where) != NULL && ++n_faults[i] % every == 0)
            return 1;
    }
    return 0;
}

static ssize_t watched_write(int fd, const char *path, const char *p, size_t len)
{
    const char *offset = memmem(p, len, "\"offset\":", 9);
    if (broken == fd || fails("write", path)) { /* the first half goes out, the second does not */
        if (broken != fd && len > 1) {
            broken = fd;
            say("write %s %zu\n", path, len / 2);
            return plain_write(fd, p, len / 2);
        }
        broken = -1;
        errno = ENOSPC;
        return -1;
    }
    say("write %s %zu\n", path, len);
    if (strstr(path, "in.state") != NULL && offset != NULL)
        say("state %ld\n", atol(offset + 9));
    return plain_write(fd, p, len);
}

ssize_t write(int fd, const void *p, size_t len)
{
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (path == NULL)
        return plain_write(fd, p, len);
    pthread_mutex_lock(&lock);
    ssize_t n = watched_write(fd, path, p, len);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return n;
}

#define SYNC(name)                                                                                 \
    int name(int fd)                                                                               \
    {                                                                                              \
        NEXT(name);                                                                                \
        char buffer[PATH_MAX];                                                                     \
        const char *path = path_of(fd, buffer);                                                    \
        if (path != NULL) {                                                                        \
            pthread_mutex_lock(&lock);                                                             \
            int bad = fails(#name, path);                                                          \
            say(#name " %s %s\n", path, bad ? "fails" : "ok");                                     \
            pthread_mutex_unlock(&lock);                                                           \
            if (bad) {                                                                             \
                errno = EIO;                                                                       \
                return -1;                                                                         \
            }                                                                                      \
        }                                                                                          \
        return next(fd);                                                                           \
    }
SYNC(fdatasync)
SYNC(fsync)

#define TRUNCATE(name, type)                                                                       \
    int name(int fd, type size)                                                                    \
    {                                                                                              \
        NEXT(name);                                                                                \
        char buffer[PATH_MAX];                                                                     \
        const char *path = path_of(fd, buffer);                                                    \
        if (path != NULL && fails("ftruncate", path)) {                                            \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        if (path != NULL)                                                                          \
            say("cut %s %lld\n", path, (long long)size);                                           \
        return next(fd, size);                                                                     \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    NEXT(renameat2);
    if (fails("renameat2", from)) {
        errno = EACCES;
        return -1;
    }
    return next(from_fd, from, to_fd, to, flags);
}
"""


@pytest.fixture
def shim(weir):
    """Gives shim(fault) = the environment, and shim.calls() = what was called so far."""
    library = weir.write(SHIM, "shim.c").with_suffix(".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, library.with_suffix(".c"), "-ldl"], check=True)
    log = weir.folder / "weir-calls"

    def environment(fault=None):
        return {"LD_PRELOAD": library, "CALLS": log, "FOLDER": weir.folder, "FAULT": fault}

    environment.calls = lambda: [line.split(" ") for line in log.read_text().splitlines()] if log.exists() else []
    return environment


def pipeline(sink, source="", batch="{events: 10, timeout: 1ms}"):
    return f"""\
name: p
sources: {{in: {{type: file, path: in.ndjson, state: in.state, {source}}}}}
sinks:
  out: {{type: file, {sink}, batch: {batch}, retry: {{initial: 1ms, max: 5ms}}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


def events(weir, n, first=0):
    lines = [b'{"n":%d,"t":"%s","pad":"%s"}\n' % (i, b"abc"[i % 3:i % 3 + 1], b"p" * (i % 200))
             for i in range(first, first + n)]
    with (weir.folder / "in.ndjson").open("ab") as f:
        f.write(b"".join(lines))


@pytest.fixture
def out(weir):
    folder = weir.folder / "out"
    folder.mkdir()
    return folder


def numbers(folder):
    """Of all files in the folder, oldest first; every line must be whole."""
    found = []
    for path in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        assert data == b"" or data.endswith(b"\n"), path
        found += [json.loads(line)["n"] for line in data.splitlines()]
    return found


# ---- what is durable before it counts ----------------------------------------------------------

def check_order(calls, name):
    """No position was kept of an event that fdatasync had not seen. Gives how often one was kept."""
    written = synced = kept = 0
    for call, *what in calls:
        if call == "write" and name in what[0]:
            written += int(what[1])
        elif call == "fdatasync" and name in what[0] and what[1] == "ok":
            synced = written
        elif call == "cut" and name in what[0]:
            written = int(what[1])
            synced = min(synced, written)
        elif call == "state":
            assert int(what[0]) <= synced, f"position {what[0]} is kept, {synced} bytes are durable"
            kept += int(what[0]) > 0
    return kept


def test_fsync_batch_comes_before_the_ack(weir, out, shim):
    """The file has the bytes of the input, so positions there and here are the same."""
    events(weir, 20)
    r = weir.start(pipeline("path: out/out.x, fsync: batch", "follow: true, poll_interval: 20ms"), env=shim())
    for i in range(3):
        wait_until(lambda: sum(c[0] == "state" and int(c[1]) > 0 for c in shim.calls()) > i, 30, "a position is kept")
        events(weir, 20, 20 * (i + 1))
    wait_until(lambda: numbers(out) == list(range(80)), 30, "all events")
    r.stop()
    assert check_order(shim.calls(), "out/out.x") >= 3
    assert ["fsync", "out", "ok"] in shim.calls()[:next(
        i for i, c in enumerate(shim.calls()) if c[0] == "state" and int(c[1]) > 0)], "the new file's entry"


def test_fsync_never_does_not(weir, out, shim):
    events(weir, 50)
    weir.run(pipeline("path: out/out.x, fsync: never"), env=shim())
    assert numbers(out) == list(range(50))
    assert not [c for c in shim.calls() if "sync" in c[0] and c[1].startswith("out")]


def test_fsync_interval_comes_later_and_at_the_end(weir, out, shim):
    events(weir, 50)
    r = weir.start(pipeline("path: out/out.x, fsync: interval, fsync_interval: 20ms",
                            "follow: true, poll_interval: 20ms"), env=shim())
    synced = lambda: [c for c in shim.calls() if c[:2] == ["fdatasync", "out/out.x"]]
    wait_until(synced, 30, "it is made durable while it runs")
    r.stop()
    r = weir.start(pipeline("path: out/out.x, fsync: interval, fsync_interval: 1h",
                            "follow: true, poll_interval: 20ms"), env=shim())
    n = len(synced())
    events(weir, 1, 50)
    wait_until(lambda: numbers(out) == list(range(51)), 30, "the event")
    assert len(synced()) == n
    r.stop()
    assert len(synced()) == n + 1


def test_new_folders_are_durable_too(weir, out, shim):
    events(weir, 3)
    weir.run(pipeline('path: out, name: "x/y/{{ t }}.x", fsync: batch'), env=shim())
    assert sorted(numbers(out)) == [0, 1, 2]
    before = [c for c in shim.calls()]
    before = before[:next(i for i, c in enumerate(before) if c[0] == "state" and int(c[1]) > 0)]
    for folder in ("out", "out/x", "out/x/y"):
        assert ["fsync", folder, "ok"] in before, folder


@pytest.mark.parametrize("options", ["", ", compression: gzip"])
def test_what_cannot_be_made_durable_is_not_delivered(weir, out, shim, options):
    """Every second fdatasync fails: what it was for is cut off and written again."""
    events(weir, 200)
    r = weir.run(pipeline("path: out/out.x, fsync: batch" + options), env=shim("fdatasync out.x 2"))
    assert numbers(out) == list(range(200))
    assert r.find_log("io_error") and any(c[0] == "cut" for c in shim.calls())
    if not options:
        assert check_order(shim.calls(), "out/out.x") >= 1


def test_an_entry_that_cannot_be_made_durable_is_an_outage(weir, out, shim):
    events(weir, 30)
    r = weir.run(pipeline('path: out, name: "{{ t }}.x", fsync: batch'), env=shim("fsync out 2"))
    assert sorted(numbers(out)) == list(range(30))
    assert r.find_log("durable"), r.report()


def test_a_folder_that_could_not_be_made_durable_is_made_again(weir, out, shim):
    events(weir, 3)
    weir.run(pipeline('path: out, name: "x/y/o.x", fsync: batch'), env=shim("fsync out 2"))
    assert sorted(numbers(out)) == [0, 1, 2]
    calls = shim.calls()
    before = calls[:next(i for i, c in enumerate(calls) if c[0] == "state" and int(c[1]) > 0)]
    assert before.index(["fsync", "out/x", "fails"]) < before.index(["fsync", "out/x", "ok"])


# ---- what a fault leaves -----------------------------------------------------------------------

@pytest.mark.parametrize("options", [
    "path: out/out.x", "path: out/out.x, compression: gzip", "path: out/out.x, part: true",
    "path: out/out.x, rotate: {size: 4KiB}", "path: out/out.x, rotate: {size: 1KiB}, compression: gzip",
    'path: out, name: "{{ t }}.x"', 'path: out, name: "{{ t }}.x", compression: gzip, part: true'])
def test_a_disk_that_is_full_half_way_leaves_no_half_and_doubles_nothing(weir, out, shim, options):
    events(weir, 300)
    r = weir.run(pipeline(options), env=shim("write out/ 3"))
    assert sorted(numbers(out)) == list(range(300))
    assert r.find_log("no_space") and any(c[0] == "cut" for c in shim.calls())


def test_half_a_line_that_cannot_be_cut_off_is_ended_and_repeated(weir, out, shim):
    """A second fault: then a half line stays, alone on its line, and no event is lost."""
    events(weir, 100)
    weir.run(pipeline("path: out/out.x"), env=shim("write out/ 4;ftruncate out.x 1"))
    whole, halves = [], []
    for line in (out / "out.x").read_bytes().splitlines():
        try:
            whole.append(json.loads(line)["n"])
        except ValueError:
            halves.append(line)
    assert set(whole) == set(range(100)) and halves
    assert all(re.match(rb'\{"n', half) or half == b"{" for half in halves), halves


def test_half_a_member_that_cannot_be_cut_off_now_is_cut_off_later(weir, out, shim):
    events(weir, 100)
    r = weir.run(pipeline("path: out/out.x, compression: gzip"), env=shim("write out/ 5;ftruncate out.x 2"))
    assert r.find_log("cut off what a killed run left behind")
    assert sorted(numbers(out)) == list(range(100)), r.report()


def test_a_file_that_cannot_be_rotated_is_written_on(weir, out, shim):
    events(weir, 200)
    r = weir.run(pipeline("path: out/out.x, rotate: {size: 2KiB}"), env=shim("renameat2 out.x 1"))
    assert r.find_log("cannot rotate a file")
    assert [p.name for p in out.iterdir()] == ["out.x"] and numbers(out) == list(range(200))


def test_state_that_cannot_be_written_costs_no_event(weir, out, shim):
    """A full disk under the positions: they are late, and what is there stays whole."""
    events(weir, 100)
    r = weir.run(pipeline("path: out/out.x"), env=shim("write in.state 2"))
    assert numbers(out) == list(range(100)) and r.find_log("cannot keep the positions")
    json.loads((weir.folder / "in.state").read_bytes())
    weir.run(pipeline("path: out/out.x"))
    assert set(numbers(out)) == set(range(100))
