# SPDX-License-Identifier: Apache-2.0
"""Source file: several files and patterns, following through rotation and truncation, positions, gzip."""
import gzip
import json
import os
import random
import shutil
import signal
import threading
import time

import pytest

from weirtest import wait_until

FAST = "poll_interval: 50ms, rotate_wait: 200ms"


def pipeline(source, sink="", name="p"):
    return f"""\
name: {name}
sources: {{in: {{type: file, {source}}}}}
sinks:
  out: {{type: file, path: out.ndjson, format: full, batch: {{timeout: 1ms}}, {sink}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


class Folder:
    """logs/ of a test, and what came out of it."""

    def __init__(self, weir):
        self.weir = weir
        self.logs = weir.folder / "logs"
        self.logs.mkdir()
        self.killed = False  # then a line may be torn, and ended by the next run

    def path(self, name):
        return self.logs / name

    def append(self, name, *numbers, end="\n"):
        with self.path(name).open("a") as f:
            for n in numbers:
                f.write(json.dumps({"n": n, "pad": "x" * 40}) + end)

    @property
    def out(self):
        path = self.weir.folder / "out.ndjson"
        data = path.read_bytes() if path.exists() else b""
        lines = data[:data.rfind(b"\n") + 1].splitlines()
        return [json.loads(line) for line in lines if not self.killed or line.endswith(b"}}")]

    @property
    def numbers(self):
        return [e["payload"]["n"] for e in self.out if "payload" in e]

    def wait(self, *numbers, timeout=30):
        wait_until(lambda: sorted(self.numbers) == sorted(numbers), timeout,
                   lambda: f"{numbers} came out; there is {self.numbers}")

    def state(self):
        return json.loads((self.weir.folder / "in.state").read_bytes())

    def unique_ids(self):
        ids = [e["id"] for e in self.out]
        assert len(set(ids)) == len(ids), ids


@pytest.fixture
def folder(weir):
    return Folder(weir)


# ---- several files -----------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("lanes", [1, 3])
def test_several_paths_and_patterns(weir, folder, lanes):
    for i in range(8):
        folder.append(f"a{i}.log", *range(i * 10, i * 10 + 10))
    folder.append("b.txt", 100)
    folder.append("c.skip.log", 200)
    (folder.logs / "sub.log").mkdir()
    weir.run(pipeline(f'path: ["logs/*.log", logs/b.txt, "logs/a0*"], exclude: ["*.skip.*"], '
                      f"lanes: {lanes}"))
    assert sorted(folder.numbers) == list(range(80)) + [100]
    if lanes == 1:
        assert folder.numbers == list(range(80)) + [100]
    assert {e["origin"]["name"].rsplit("/", 1)[1] for e in folder.out} == {
        *(f"a{i}.log" for i in range(8)), "b.txt"}
    assert all(e["id"] == f"{e['origin']['name']}-{e['origin']['position']}" for e in folder.out)


def test_a_pattern_that_finds_nothing(weir, folder):
    r = weir.run(pipeline('path: "logs/*.log"'))
    assert r.find_log("no file matches") and folder.numbers == []


def test_a_name_with_pattern_letters_is_a_name_where_there_is_such_a_file(weir, folder):
    folder.append("a[1].log", 1)
    folder.append("a1.log", 2)
    weir.run(pipeline('path: "logs/a[1].log"'))
    assert folder.numbers == [1]


@pytest.mark.sanitize
def test_many_files_need_few_descriptors(weir, folder):
    for i in range(300):
        folder.append(f"{i:03}.log", i)
    weir.run(pipeline('path: "logs/*.log"'), args=[])
    assert folder.numbers == list(range(300))


@pytest.mark.sanitize
def test_an_unreadable_file_stops_no_other(weir, folder):
    folder.append("1.log", 1)
    folder.path("2.log").symlink_to("nowhere")
    os.mkfifo(folder.path("3.log"))
    folder.path("4.log").write_bytes(gzip.compress(b'{"n":4}\n' * 3)[:-9])  # torn
    folder.path("5.log").write_bytes(b"\x1f\x8b\x08 this is no gzip")
    folder.path("6.log").write_bytes(gzip.compress(b'{"n":6}\n') + b"trash")
    folder.append("7.log", 7)
    r = weir.run(pipeline('path: "logs/*.log"'))
    assert set(folder.numbers) == {1, 4, 6, 7} and folder.numbers.count(7) == 1
    for name, reason in (("3.log", "not a regular file"), ("4.log", "ends in the middle"),
                         ("5.log", ""), ("6.log", "no gzip follow")):
        assert any(name in line["path"] and reason in line["reason"]
                   for line in r.logs if "path" in line), (name, r.logs)


# ---- gzip --------------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["one", "members", "padded", "empty", "named"])
def test_gzip(weir, folder, how):
    lines = [b'{"n":%d,"pad":"%s"}\n' % (i, b"y" * (i % 300)) for i in range(5000)]
    data = {"one": gzip.compress(b"".join(lines)),
            "members": b"".join(gzip.compress(b"".join(lines[i:i + 7])) for i in range(0, 5000, 7)),
            "padded": gzip.compress(b"".join(lines)) + bytes(1000),
            "empty": gzip.compress(b""),
            "named": gzip.compress(b"".join(lines))}[how]
    folder.path("a.gz").write_bytes(data)
    weir.run(pipeline("path: logs/a.gz" + (", compression: gzip, lanes: 2" if how == "named" else "")))
    assert folder.numbers == ([] if how == "empty" else list(range(5000)))


@pytest.mark.sanitize
def test_gzip_of_stdin(weir, folder):
    data = gzip.compress(b"".join(b'{"n":%d}\n' % i for i in range(1000)))
    weir.run(pipeline('path: "-", compression: gzip'), stdin=data)
    assert folder.numbers == list(range(1000))


def test_compression_none_takes_bytes_as_they_are(weir, folder):
    folder.path("a.gz").write_bytes(gzip.compress(b"x", mtime=0) + b"\n")
    weir.run(pipeline("path: logs/a.gz, compression: none, codec: raw"))
    assert len(folder.out) >= 1 and "payload_base64" in folder.out[0]


DAMAGED = {"torn": (gzip.compress(b'{"n":1}\n' * 100)[:-4], "ends in the middle"),
           "plain": (b"plain text\n", "no gzip"),
           "trash": (gzip.compress(b"x\n") + b"more", "follow its end"),
           "zeros": (gzip.compress(random.Random(1).randbytes(5000))[:2000] + bytes(2000), "")}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_gzip_file_alone_ends_the_run(weir, folder, how):
    data, reason = DAMAGED[how]
    folder.path("a.gz").write_bytes(data)
    r = weir.run(pipeline("path: logs/a.gz, compression: gzip, codec: raw"), expect=1,
                 args=["--exit-on-stop"])
    assert "cannot read" in r.stderr and reason in r.stderr


@pytest.mark.sanitize
def test_a_gzip_bomb_is_bounded_by_max_line(weir, folder):
    folder.path("a.gz").write_bytes(gzip.compress(bytes(300 << 20)) + gzip.compress(b'\n{"n":1}\n'))
    r = weir.run(pipeline("path: logs/a.gz, max_line: 1MiB, on_long: skip"), timeout=120)
    assert folder.numbers == [1] and r.find_log("longer than max_line")


# ---- following ---------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_follow_takes_what_is_appended_when_its_end_is_there(weir, folder):
    folder.append("a.log", 1, 2)
    r = weir.start(pipeline(f"path: logs/a.log, follow: true, {FAST}"))
    folder.wait(1, 2)
    folder.append("a.log", 3, end="")
    folder.append("b.log", 9)
    folder.append("a.log", 4, end="")  # one line so far: not JSON, were it taken in parts
    time.sleep(0.3)
    assert folder.numbers == [1, 2]
    with folder.path("a.log").open("a") as f:
        f.write('\n{"n":5}\n')
    wait_until(lambda: folder.numbers == [1, 2, 5], 20, "the next line")
    r.stop()
    assert len(folder.out) == 4 and folder.out[2]["payload_base64"]
    folder.unique_ids()


def test_a_file_that_is_not_there_yet(weir, folder):
    r = weir.start(pipeline(f"path: [logs/a.log, logs/none.log], follow: true, {FAST}"))
    folder.append("a.log", 1)
    folder.wait(1)
    r.stop()


def test_new_files_are_found_while_running(weir, folder):
    folder.append("a.log", 1)
    r = weir.start(pipeline(f'path: "logs/*.log", follow: true, start: end, {FAST}'))
    folder.append("b.log", 2)
    folder.wait(2)
    folder.append("a.log", 3)
    folder.append("c.txt", 9)
    folder.wait(2, 3)
    r.stop()


def test_without_inotify_polling_finds_everything(weir, folder):
    """A folder that is a link elsewhere is watched all the same; here the interval has to do it."""
    r = weir.start(pipeline('path: "logs/*/*.log", follow: true, poll_interval: 30ms'))
    (folder.logs / "new").mkdir()
    folder.append("new/a.log", 1)
    folder.wait(1)
    (folder.logs / "new2").mkdir()
    folder.append("new2/a.log", 2)
    folder.wait(1, 2)
    r.stop()


@pytest.mark.sanitize
@pytest.mark.parametrize("pattern", ["logs/a.log", '"logs/a.log*"'])
def test_rotation_by_rename(weir, folder, pattern):
    """rename + create; the writer goes on in the old file for a while."""
    folder.append("a.log", 1, 2)
    r = weir.start(pipeline(f"path: {pattern}, follow: true, state: in.state, {FAST}"))
    folder.wait(1, 2)
    want = [1, 2]
    for i in range(1, 4):
        with folder.path("a.log").open("a") as old:
            if i > 1:
                folder.path(f"a.log.{i - 1}").rename(folder.path(f"a.log.{i}.old"))
            folder.path("a.log").rename(folder.path(f"a.log.{i}"))
            old.write(json.dumps({"n": i * 10}) + "\n")
            old.flush()
            folder.append("a.log", i * 10 + 1)
            old.write(json.dumps({"n": i * 10 + 2}) + "\n")
        want += [i * 10, i * 10 + 1, i * 10 + 2]
        folder.wait(*want)
    r.stop()
    folder.unique_ids()


@pytest.mark.sanitize
def test_a_renamed_file_ends_without_a_line_end(weir, folder):
    folder.append("a.log", 1)
    folder.append("a.log", 2, end="")
    r = weir.start(pipeline(f"path: logs/a.log, follow: true, {FAST}"))
    folder.wait(1)
    folder.path("a.log").rename(folder.path("old"))
    folder.wait(1, 2)
    wait_until(lambda: r.metric("weir_file_open") == 0, 20, "the old file is let go")
    r.stop()


@pytest.mark.sanitize
def test_a_deleted_file_is_read_to_its_end_and_let_go(weir, folder):
    folder.append("a.log", 1)
    r = weir.start(pipeline(f'path: "logs/*.log", follow: true, state: in.state, {FAST}'))
    folder.wait(1)
    with folder.path("a.log").open("a") as f:
        folder.path("a.log").unlink()
        f.write('{"n":2}\n')
    folder.wait(1, 2)
    wait_until(lambda: r.metric("weir_file_open") == 0, 20, "the descriptor is closed")
    folder.append("a.log", 3)
    folder.wait(1, 2, 3)
    r.stop()
    folder.unique_ids()


@pytest.mark.sanitize
@pytest.mark.parametrize("size", ["shorter", "longer", "same"])
def test_truncation(weir, folder, size):
    """copytruncate: the same inode begins again. Ids of the new lines are new."""
    folder.append("a.log", *range(10))
    r = weir.start(pipeline(f"path: logs/a.log, follow: true, state: in.state, {FAST}"))
    folder.wait(*range(10))
    new = {"shorter": range(20, 23), "longer": range(20, 60), "same": range(0, 10)}[size]
    if size == "same":  # byte for byte: nothing can tell, but by its size on the way
        os.truncate(folder.path("a.log"), 0)
        wait_until(lambda: r.metric("weir_file_truncated_total") == 1, 20, "the truncation is seen")
        folder.append("a.log", *new)
    else:
        text = "".join(json.dumps({"n": n, "pad": "x" * 40}) + "\n" for n in new)
        with folder.path("a.log").open("r+") as f:
            f.truncate(0)
            f.write(text)
    folder.wait(*range(10), *new)
    folder.append("a.log", 99)
    folder.wait(*range(10), *new, 99)
    assert r.metric("weir_file_truncated_total") == 1, r.report()
    r.stop()
    folder.unique_ids()


@pytest.mark.sanitize
def test_copytruncate_with_the_copy_in_the_pattern(weir, folder):
    folder.append("a.log", *range(20))
    r = weir.start(pipeline(f'path: "logs/a.log*", follow: true, state: in.state, {FAST}'))
    folder.wait(*range(20))
    shutil.copyfile(folder.path("a.log"), folder.path("a.log.1"))
    wait_until(lambda: r.find_log("weir starts"), 5, "it runs")
    os.truncate(folder.path("a.log"), 0)
    folder.append("a.log", 100)
    folder.wait(*range(20), 100)
    folder.append("a.log.1", 200)  # the copy goes on where the original was
    folder.wait(*range(20), 100, 200)
    r.stop()


@pytest.mark.sanitize
def test_rotated_files_that_are_compressed_are_not_read_again(weir, folder):
    folder.append("a.log", *range(50))
    r = weir.start(pipeline(f'path: "logs/a.log*", follow: true, state: in.state, {FAST}'))
    folder.wait(*range(50))
    folder.path("a.log").rename(folder.path("a.log.1"))
    folder.append("a.log", 100)
    packed = gzip.compress(folder.path("a.log.1").read_bytes())
    folder.path("a.log.1.gz").write_bytes(packed)
    folder.path("a.log.1").unlink()
    folder.wait(*range(50), 100)
    folder.path("b").write_bytes(gzip.compress(b'{"n":7}\n'))
    folder.path("b").rename(folder.path("a.log.new.gz"))
    folder.wait(*range(50), 100, 7)
    wait_until(lambda: r.metric("weir_file_open") == 1, 20, "the packed ones are read once")
    r.stop()
    r = weir.start(pipeline(f'path: "logs/a.log*", follow: true, state: in.state, {FAST}'))
    folder.append("a.log", 101)
    folder.wait(*range(50), 100, 7, 101)
    r.stop()


@pytest.mark.sanitize
def test_files_that_only_begin_alike_are_read_whole(weir, folder):
    """The same first 256 bytes, one after the other in a folder: none is taken for another."""
    same = b'{"n":0,"pad":"' + b"=" * 300 + b'"}\n'
    text = pipeline('path: "logs/*", state: in.state')
    want = []
    for i in range(1, 4):
        for name, pack in ((f"{i}.log", bytes), (f"{i}.gz", gzip.compress)):
            folder.path(name).write_bytes(pack(same + b"".join(b'{"n":%d}\n' % (i * 100 + k)
                                                               for k in range(i * 3))))
            want += [0, *(i * 100 + k for k in range(i * 3))]
        weir.run(text)
        folder.wait(*want)
        for path in folder.logs.iterdir():
            path.unlink()
        # gzip of another content that begins alike, while a plain one is gone
        if i == 2:
            folder.path("other.gz").write_bytes(gzip.compress(same + b'{"n":1}\n'))
            want += [0, 1]
            weir.run(text)
            folder.wait(*want)
    folder.unique_ids()


# ---- positions ---------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_positions_are_kept_over_restarts(weir, folder):
    text = pipeline(f'path: "logs/*.log", follow: true, state: in.state, {FAST}')
    folder.append("a.log", 1, 2)
    folder.append("b.log", 3)
    r = weir.start(text)
    folder.wait(1, 2, 3)
    r.stop()
    ids = {e["payload"]["n"]: e["id"] for e in folder.out}
    folder.append("a.log", 4)
    folder.path("b.log").rename(folder.path("renamed.log"))
    folder.append("renamed.log", 5)
    folder.append("b.log", 6)
    os.truncate(folder.path("a.log"), 0)
    folder.append("a.log", 7)
    r = weir.start(text)
    folder.wait(1, 2, 3, 5, 6, 7)
    r.stop()
    folder.unique_ids()
    assert {e["payload"]["n"]: e["id"] for e in folder.out[:3]} == ids
    state = folder.state()
    assert {f["offset"] for f in state["files"] if not f["gone"]} == {
        folder.path(n).stat().st_size for n in ("a.log", "b.log", "renamed.log")}


@pytest.mark.sanitize
def test_a_run_to_the_end_goes_on_where_the_last_one_ended(weir, folder):
    text = pipeline('path: ["logs/*.log", "logs/*.gz"], state: in.state')
    folder.append("a.log", 1, 2)
    folder.path("p.gz").write_bytes(gzip.compress(b'{"n":3}\n'))
    weir.run(text)
    assert folder.numbers == [1, 2, 3]
    weir.run(text)
    assert folder.numbers == [1, 2, 3]
    folder.append("a.log", 4)
    folder.append("b.log", 5)
    weir.run(text)
    assert folder.numbers == [1, 2, 3, 4, 5]
    folder.unique_ids()


@pytest.mark.sanitize
def test_a_position_is_never_past_an_event_that_has_not_ended(weir, folder, tmp_path):
    """The sink stands still: whatever was read, nothing of it is done."""
    folder.append("a.log", *range(1000))
    (weir.folder / "folder").mkdir()
    text = f"""\
name: p
sources: {{in: {{type: file, path: logs/a.log, state: in.state}}}}
sinks: {{out: {{type: file, path: /dev/full, on_reject: drop}}}}
"""
    r = weir.start(text)
    wait_until(lambda: r.metric("weir_component_received_events_total", component="in") >= 0 and
               r.find_log("write failed") or r.metric("weir_component_retries_total") > 0
               or r.find_log("no_space"), 20, "the sink is away")
    r.kill()
    assert all(f["offset"] == 0 for f in folder.state()["files"])
    weir.run(pipeline("path: logs/a.log, state: in.state"))
    assert folder.numbers == list(range(1000))


@pytest.mark.sanitize
def test_killed_again_and_again_loses_nothing(weir, folder):
    """Writers, rotation by rename and kill -9 at any moment: at least once."""
    text = pipeline(f'path: "logs/a.log*", follow: true, state: in.state, {FAST}')
    stop = threading.Event()
    written = []

    def write():
        rng = random.Random(4)
        n = 0
        while not stop.is_set():
            batch = list(range(n, n + rng.randrange(1, 200)))
            folder.append("a.log", *batch)
            written.extend(batch)
            n = batch[-1] + 1
            if rng.random() < 0.1:
                folder.path("a.log").rename(folder.path(f"a.log.{n}"))
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(6):
            r = weir.start(text)
            seen = len(folder.out)
            wait_until(lambda: len(folder.out) > seen + 200, 30, "some more events")
            r.kill()
            folder.killed = True
    finally:
        stop.set()
        writer.join()
    r = weir.start(text)
    wait_until(lambda: set(folder.numbers) == set(written), 60,
               lambda: f"all came; missing {sorted(set(written) - set(folder.numbers))[:10]}")
    r.stop()
    by_id = {}
    for e in folder.out:  # repeated ones have the same id
        assert by_id.setdefault(e["id"], e["payload"]["n"]) == e["payload"]["n"]
    assert len(by_id) == len(written)


def test_start_end_is_the_end_of_the_first_start_only(weir, folder):
    text = pipeline(f"path: logs/a.log, follow: true, start: end, state: in.state, {FAST}")
    folder.append("a.log", 1)
    r = weir.start(text)
    wait_until(lambda: r.metric("weir_file_open") == 1, 20, "the file is open")
    r.stop()
    folder.append("a.log", 2)
    r = weir.start(text)
    folder.wait(2)
    r.stop()


@pytest.mark.sanitize
def test_lanes_share_the_files_and_the_state(weir, folder):
    text = pipeline(f'path: "logs/*.log", follow: true, lanes: 2, state: in.state, {FAST}')
    for i in range(10):
        folder.append(f"{i}.log", i)
    r = weir.start(text)
    folder.wait(*range(10))
    for i in range(10):
        folder.append(f"{i}.log", 10 + i)
    folder.wait(*range(20))
    r.stop()
    assert sorted(f["offset"] for f in folder.state()["files"]) == sorted(
        folder.path(f"{i}.log").stat().st_size for i in range(10))


def test_two_weirs_do_not_share_a_state(weir, folder):
    folder.append("a.log", 1)
    text = pipeline(f"path: logs/a.log, follow: true, state: in.state, {FAST}")
    r = weir.start(text)
    other = weir.run(text.replace("out.ndjson", "out2.ndjson").replace("dead.nd", "dead2.nd"), expect=1)
    assert "in use by another" in other.stderr
    r.stop()


@pytest.mark.parametrize("data,message", [
    (b"not json", "holds no positions"),
    (b"{}", "version 1"),
    (b'{"version":2,"files":[]}', "version 1"),
    (b'{"version":1,"files":[{}]}', "entry 1"),
    (b'{"version":1,"files":[{"path":"x","device":"-1","inode":"1","born":0,"tag":"1","head":"1",'
     b'"head_bytes":1,"offset":0,"tail_at":0,"tail":"0","done":-1,"gone":0,"gzip":0,"seen":0}]}', "entry 1"),
    (b'{"version":1,"files":[{"path":"x","device":"1","inode":"1","born":0,"tag":"1","head":"1",'
     b'"head_bytes":257,"offset":0,"tail_at":0,"tail":"0","done":-1,"gone":0,"gzip":0,"seen":0}]}', "entry 1"),
    (b'{"version":1,"files":[{"path":"x","device":"1","inode":"1","born":0,"tag":"1","head":"1",'
     b'"head_bytes":1,"offset":-5,"tail_at":0,"tail":"0","done":-1,"gone":0,"gzip":0,"seen":0}]}', "entry 1"),
    (b"\xff\xfe\x00", "holds no positions"),
    (b"[" * 100000, "holds no positions"),
])
def test_a_damaged_state_file_is_named_and_kept(weir, folder, data, message):
    folder.append("a.log", 1)
    weir.write(data, "in.state")
    r = weir.run(pipeline("path: logs/a.log, state: in.state"), expect=1)
    assert message in r.stderr and "in.state" in r.stderr
    assert (weir.folder / "in.state").read_bytes() == data


def test_the_state_file_is_never_read_as_input(weir, folder):
    folder.append("a.log", 1)
    weir.run(pipeline('path: "logs/*", state: logs/in.state'))
    weir.run(pipeline('path: "logs/*", state: logs/in.state'))
    assert folder.numbers == [1]


# ---- hostile content while following -----------------------------------------------------------

@pytest.mark.sanitize
def test_hostile_content_stops_nothing(weir, folder):
    r = weir.start(pipeline(f'path: "logs/*", follow: true, max_line: 64KiB, on_long: skip, {FAST}')
                   .replace("  dead:", "  deaf: {type: blackhole, inputs: [in], needs: value}\n  dead:")
                   .replace("format: full,", "inputs: [in],"))
    parts = [b"\x00" * 1000 + b"\n", b"\xff\xfe\xfd\n", b"x" * 70000 + b"\n", b"\r\n" * 50, b"\n" * 50,
             b"{" * 1000 + b"\n", b'{"a":' + b"[" * 5000 + b"\n", b"\xef\xbb\xbf{}\n",
             '{"n":"\u2028"}\n'.encode(), b'{"n":1e999}\n', b'{"unterminated":"\n', b"\x1b[31m\n"]
    for i, part in enumerate(parts):
        with folder.path(f"{i}.log").open("ab") as f:
            f.write(part + b'{"n":%d}\n' % i)
    weir_out = weir.folder / "out.ndjson"
    wait_until(lambda: weir_out.exists() and all(
        b'{"n":%d}\n' % i in weir_out.read_bytes() for i in range(len(parts))), 30, "the good lines")
    assert r.find_log("longer than max_line")
    r.stop()


# ---- wrong configurations ----------------------------------------------------------------------

@pytest.mark.parametrize("options,path,message", [
    ("path: []", "path", "empty"),
    ("path: [a, '-']", "path", "beside other paths"),
    ("path: '-', follow: true", "follow", "standard input"),
    ("path: '-', state: x", "state", "standard input"),
    ("path: a, start: end", "start", "nothing at all"),
    ("path: a, start: middle", "start", "middle"),
    ("path: a, state: a", "state", "is read"),
    ("path: a, compression: zip", "compression", "zip"),
    ("path: a, follow: maybe", "follow", "maybe"),
    ("path: a, poll_interval: 1ms", "poll_interval", "10ms"),
    ("path: a, rotate_wait: -1s", "rotate_wait", ""),
    ("path: a, exclude: {a: b}", "exclude", ""),
    ("path: a, folow: true", "folow", "follow"),
])
def test_wrong_options(weir, options, path, message):
    checked = weir.check(pipeline(options), expect=1)
    assert message in checked.text and f"sources.in.{path}" in checked.text, checked.text


def test_follow_without_state_is_a_warning(weir):
    checked = weir.check(pipeline("path: a, follow: true"), expect=0)
    assert "no position is kept" in checked.text


@pytest.mark.parametrize("options,message", [
    ("path: [in1, nowhere]", "nowhere"),
    ("path: [in1, folder]", "is a folder"),
    ("path: in1, state: nowhere/x", "nowhere/x"),
    ("path: in1, state: folder", "folder"),
    ("path: folder, follow: true", "is a folder"),
])
def test_what_fails_at_the_start_is_named(weir, options, message):
    weir.write(b"", "in1")
    (weir.folder / "folder").mkdir()
    assert message in weir.run(pipeline(options), expect=1).stderr
