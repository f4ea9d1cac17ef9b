# SPDX-License-Identifier: Apache-2.0
"""Source file: what is told apart and where reading begins, over restarts, rotations and crashes."""
import gzip
import json
import os
import shutil
import signal
import subprocess

import pytest

from weirtest import wait_until

FAST = "follow: true, poll_interval: 20ms, rotate_wait: 200ms, state: in.state"


def pipeline(source):
    return f"""\
name: p
sources: {{in: {{type: file, {source}}}}}
sinks:
  out: {{type: file, path: out.ndjson, format: full, batch: {{timeout: 1ms}}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


class Logs:
    def __init__(self, weir):
        self.weir = weir
        self.folder = weir.folder / "logs"
        self.folder.mkdir()

    def append(self, name, *numbers):
        with (self.folder / name).open("ab") as f:
            f.write(b"".join(b'{"n":%d,"pad":"%s"}\n' % (n, b"x" * 60) for n in numbers))

    @property
    def out(self):
        path = self.weir.folder / "out.ndjson"
        data = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in data[:data.rfind(b"\n") + 1].splitlines()]

    @property
    def numbers(self):
        return [e["payload"]["n"] for e in self.out]

    def wait(self, *numbers):
        wait_until(lambda: sorted(self.numbers) == sorted(numbers), 30,
                   lambda: f"{len(numbers)} come; there are {len(self.numbers)}, of them "
                           f"{len(set(self.numbers) & set(numbers))} of these")

    def offsets(self):
        return [f["offset"] for f in json.loads((self.weir.folder / "in.state").read_bytes())["files"]]


@pytest.fixture
def logs(weir):
    return Logs(weir)


@pytest.mark.sanitize
@pytest.mark.parametrize("pattern", ["logs/a.log", '"logs/*.log"'])
def test_start_end_skips_nothing_that_came_while_weir_was_down(weir, logs, pattern):
    text = pipeline(f"path: {pattern}, start: end, {FAST}")
    logs.append("a.log", 1, 2)
    r = weir.start(text)
    wait_until(lambda: r.metric("weir_file_open") == 1, 20, "the file is open")
    r.stop()
    (logs.folder / "a.log").rename(logs.folder / "a.old")
    logs.append("a.log", 3)
    with gzip.open(logs.folder / "b.log", "wb") as f:
        f.write(b'{"n":4}\n')
    r = weir.start(text)
    logs.wait(*([3, 4] if "*" in pattern else [3]))
    r.stop()


def test_start_end_of_a_first_start_that_found_nothing(weir, logs):
    text = pipeline(f'path: "logs/*.log", start: end, {FAST}')
    r = weir.start(text)
    r.stop()
    logs.append("a.log", 1)
    r = weir.start(text)
    logs.wait(1)
    r.stop()


@pytest.mark.parametrize("lanes", [1, 3])
def test_start_end_of_a_first_start_that_failed(weir, logs, lanes):
    """It read nothing: the next start is the first one, and what is there is not wanted."""
    text = pipeline(f'path: "logs/*.log", start: end, lanes: {lanes}, {FAST}')
    for n in range(5):
        logs.append(f"{n}.log", n)
    another = text.replace("}}\nsinks", "}, other: {type: file, path: none}}\nsinks")
    weir.run(another.replace("out: {", "out: {inputs: [in, other], "), expect=1)
    assert [p.name for p in weir.folder.glob("in.state*")] == ["in.state.lock"], "it was opened, and kept nothing"
    r = weir.start(text)
    wait_until(lambda: (weir.folder / "in.state").exists(), 20, "the positions are kept")
    assert len(logs.offsets()) == 5
    r.kill()
    logs.append("5.log", 5)
    logs.append("0.log", 6)
    r = weir.start(text)
    logs.wait(5, 6)
    r.stop()


@pytest.mark.sanitize
@pytest.mark.parametrize("pieces", [[12], [10, 30], [1, 2, 11], [50]])
def test_a_packed_copy_that_is_written_in_pieces_is_not_read_again(weir, logs, pieces):
    """The header is there before what is inside: too little to say what the file is."""
    r = weir.start(pipeline(f'path: "logs/a.log*", {FAST}'))
    logs.append("a.log", *range(50))
    logs.wait(*range(50))
    data = gzip.compress((logs.folder / "a.log").read_bytes(), mtime=0)
    (logs.folder / "a.log").unlink()
    wait_until(lambda: r.metric("weir_file_open") == 0, 20, "the original is let go")
    with (logs.folder / "a.log.gz").open("wb", buffering=0) as f:
        at = 0
        for end in [*pieces, len(data)]:
            f.write(data[at:end])
            at = end
            scans = r.metric("weir_file_open")
            if end < len(data):  # it is seen as it is now
                wait_until(lambda: r.metric("weir_file_open") == 1, 20, lambda: f"{scans}")
                logs.append("b.txt", 0)
    wait_until(lambda: r.metric("weir_file_open") == 0, 20, "it is read to its end")
    r.stop()
    assert sorted(logs.numbers) == list(range(50))


@pytest.mark.sanitize
def test_start_end_in_the_middle_of_a_long_line(weir, logs):
    """The line that is being written is taken whole, however long it is."""
    with (logs.folder / "a.log").open("wb") as f:
        f.write(b'{"n":1}\n{"n":2,"pad":"' + b"x" * 300000)
    r = weir.start(pipeline(f"path: logs/a.log, start: end, {FAST}"))
    wait_until(lambda: r.metric("weir_file_open") == 1, 20, "the file is open")
    with (logs.folder / "a.log").open("ab") as f:
        f.write(b'"}\n')
    logs.wait(2)
    r.stop()


@pytest.mark.sanitize
def test_a_file_beyond_4_gib(weir, logs):
    """Sparse; positions, truncation and restarts behind 32 bits."""
    path = logs.folder / "a.log"
    big = (5 << 30) + 12345
    with path.open("wb") as f:
        f.write(b"x" * 300 + b"\n")
        f.truncate(big)
        f.seek(0, os.SEEK_END)
        f.write(b"\n")
    text = pipeline(f"path: logs/a.log, start: end, {FAST}")
    r = weir.start(text)
    wait_until(lambda: r.metric("weir_file_open") == 1, 20, "the file is open")
    wait_until(lambda: logs.offsets() == [big + 1], 20, lambda: str(logs.offsets()))
    logs.append("a.log", 1)
    logs.wait(1)
    r.stop()
    assert logs.out[0]["origin"]["position"] == big + 1
    logs.append("a.log", 2)
    r = weir.start(text)
    logs.wait(1, 2)
    assert logs.out[1]["origin"]["position"] > big + 1
    os.truncate(path, 0)
    r.wait_metric("weir_file_truncated_total", 1)
    logs.append("a.log", 3)
    logs.wait(1, 2, 3)
    r.stop()
    assert logs.out[2]["origin"]["position"] == 0


def test_what_a_crash_leaves_of_the_next_state_file_is_of_no_interest(weir, logs):
    text = pipeline("path: logs/a.log, state: in.state")
    logs.append("a.log", 1)
    weir.run(text)
    whole = (weir.folder / "in.state").read_bytes()
    for torn in (b"", whole[:len(whole) // 2], os.urandom(100)):
        (weir.folder / "in.state.new").write_bytes(torn)
        weir.run(text)
    assert logs.numbers == [1] and not (weir.folder / "in.state.new").exists()
    # A file system that lost the end of what was renamed: nothing is guessed.
    (weir.folder / "in.state").write_bytes(whole[:len(whole) // 2])
    r = weir.run(text, expect=1)
    assert "in.state" in r.stderr and "holds no positions" in r.stderr
    assert (weir.folder / "in.state").read_bytes() == whole[:len(whole) // 2]


@pytest.mark.sanitize
def test_a_link_that_is_turned_to_another_file(weir, logs):
    """What writers of dated files do: the name is a link to the newest one."""
    logs.append("1.log", 1)
    (logs.folder / "a.log").symlink_to("1.log")
    r = weir.start(pipeline(f"path: logs/a.log, {FAST}"))
    logs.wait(1)
    for i in range(2, 5):
        logs.append(f"{i}.log", i * 10)
        (logs.folder / "new").symlink_to(f"{i}.log")
        logs.append(f"{i - 1}.log", i * 10 + 1)  # the last line of the old one
        (logs.folder / "new").rename(logs.folder / "a.log")
        logs.wait(1, *(n for k in range(2, i + 1) for n in (k * 10, k * 10 + 1)))
    r.stop()
    assert len({e["id"] for e in logs.out}) == 7


@pytest.mark.sanitize
def test_inodes_that_are_used_again(weir, logs):
    """Files come and go: many of them get the inode of one that was read before."""
    text = pipeline(f'path: "logs/*.log", {FAST}')
    inodes = []
    for i in range(5):
        for k in range(10):
            logs.append(f"{k}.log", i * 10 + k)
            inodes.append((logs.folder / f"{k}.log").stat().st_ino)
        r = weir.start(text)
        logs.wait(*range((i + 1) * 10))
        r.stop()
        for k in range(10):
            (logs.folder / f"{k}.log").unlink()
    assert len({e["id"] for e in logs.out}) == 50


# ---- copytruncate at the worst moment ----------------------------------------------------------

@pytest.mark.sanitize
def test_what_was_written_before_a_truncation_comes_from_the_copy(weir, logs):
    """Weir stands still while the file grows, is copied and truncated."""
    r = weir.start(pipeline(f'path: "logs/a.log*", {FAST}'))
    logs.append("a.log", *range(20))
    logs.wait(*range(20))
    r.signal(signal.SIGSTOP)
    logs.append("a.log", *range(20, 50))
    shutil.copyfile(logs.folder / "a.log", logs.folder / "a.log.1")
    os.truncate(logs.folder / "a.log", 0)
    logs.append("a.log", 100)
    r.signal(signal.SIGCONT)
    logs.wait(*range(50), 100)
    r.stop()


COPYTRUNCATE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *p, size_t len)
{
    static int done;
    ssize_t (*next)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    char path[40] = "/proc/self/fd/", target[4096] = "";
    int n = fd, i = 14, digits = 1;
    for (int v = fd; v >= 10; v /= 10)
        digits++;
    for (int k = digits; k-- > 0; n /= 10)
        path[i + k] = (char)('0' + n % 10);
    if (!done && readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "/a.log") != NULL &&
        lseek(fd, 0, SEEK_CUR) > 200000) {
        done = 1;
        unsetenv("LD_PRELOAD");
        if (system("cp logs/a.log logs/a.log.1 && : > logs/a.log") != 0)
            abort();
    }
    return next(fd, p, len);
}
"""


def test_a_truncation_between_two_reads(weir, logs):
    """Half of what came was read, and not yet the end: the copy goes on where that was."""
    library = weir.write(COPYTRUNCATE, "shim.c").with_suffix(".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, library.with_suffix(".c"), "-ldl"], check=True)
    r = weir.start(pipeline(f'path: "logs/a.log*", {FAST}'), env={"LD_PRELOAD": library})
    logs.append("a.log", *range(20))
    logs.wait(*range(20))
    logs.append("a.log", *range(20, 5000))
    wait_until(lambda: (logs.folder / "a.log.1").exists() and (logs.folder / "a.log").stat().st_size == 0, 20,
               "it is copied, and then truncated")
    logs.append("a.log", 9999)
    logs.wait(*range(5000), 9999)
    r.stop()


@pytest.mark.parametrize("option", ["poll_interval: 2s", "rotate_wait: 2s"])
def test_options_that_do_nothing_are_told(weir, option):
    checked = weir.check(pipeline(f"path: a, {option}"), expect=0)
    assert f"sources.in.{option.split(':')[0]}" in checked.text and "no effect" in checked.text
    assert "no effect" not in weir.check(pipeline(f"path: a, {option}, follow: true"), expect=0).text
