# SPDX-License-Identifier: Apache-2.0
"""Sink file: names made of events, rotation, gzip, durability, finishing, logrotate; hostile names."""
import gzip
import json
import os
import re
import resource
import shutil
import socket
import stat
import threading

import pytest

from weirtest import wait_until

STAMPED = re.compile(r"\.\d{8}T\d{6}Z(\.\d+)?\.")


def pipeline(sink, source="{type: file, path: in.ndjson}", more="", batch="{events: 100, timeout: 5ms}"):
    return f"""\
name: p
sources: {{in: {source}}}
{more}
sinks:
  out: {{type: file, {sink}, batch: {batch}, retry: {{initial: 1ms, max: 20ms}}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


def events(weir, *values):
    weir.write(b"".join(json.dumps(v).encode() + b"\n" for v in values), "in.ndjson")


@pytest.fixture
def out(weir):
    folder = weir.folder / "out"
    folder.mkdir()
    return folder


def files(folder):
    """{name: numbers in it}, packed ones unpacked."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            found[str(path.relative_to(folder))] = [json.loads(line)["n"] for line in data.splitlines()]
    return found


def dead(weir):
    path = weir.folder / "dead.ndjson"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


# ---- names -------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_events_go_to_the_file_that_they_name(weir, out):
    events(weir, *({"n": i, "type": "abc"[i % 3], "user": {"id": i % 2}} for i in range(60)))
    weir.run(pipeline('path: out, name: "{{ type }}/{{ user.id }}.ndjson"'))
    assert files(out) == {f"{t}/{u}.ndjson": [i for i in range(60) if "abc"[i % 3] == t and i % 2 == u]
                          for t in "abc" for u in (0, 1)}


@pytest.mark.sanitize
def test_time_in_names_is_the_events(weir, out):
    r = weir.run(pipeline('path: out, name: "%Y/%m/%d/%H-%M-%S_%j_%y_%F_100%%_{{ @key }}.x"',
                          '{type: generate, count: 3, users: 1, start: "2024-02-29T23:59:58Z", step: 1s}'))
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.x")) == [
        "2024/02/29/23-59-58_060_24_2024-02-29_100%_u00000000.x",
        "2024/02/29/23-59-59_060_24_2024-02-29_100%_u00000000.x",
        "2024/03/01/00-00-00_061_24_2024-03-01_100%_u00000000.x"], r.report()


@pytest.mark.sanitize
def test_a_field_is_no_conversion_and_no_template(weir, out):
    events(weir, {"n": 1, "t": "%Y"}, {"n": 2, "t": "{{ n }}"}, {"n": 3, "t": "..a"}, {"n": 4, "t": "ä b"},
           {"n": 5, "t": ".hidden"})
    weir.run(pipeline('path: out, name: "{{ t }}"'))
    assert files(out) == {"%Y": [1], "{{ n }}": [2], "..a": [3], "ä b": [4], ".hidden": [5]}


HOSTILE = {
    "dots": "..", "dot": ".", "slash": "a/b", "climb": "../../etc/passwd", "absolute": "/etc/passwd",
    "nul": "a\0b", "newline": "a\nb", "escape": "\x1b[2J", "delete": "\x7f", "long": "x" * 300,
    "very long": "y" * 5000, "empty": "", "a folder": "folder", "missing": None, "below a file": "f",
}


@pytest.mark.sanitize
def test_hostile_names_are_rejected_one_by_one(weir, out):
    good = [{"n": i, "t": f"good{i % 2}"} for i in range(20)]
    bad = [{"n": 100 + i, "t": value} if value is not None else {"n": 100 + i}
           for i, value in enumerate(HOSTILE.values())]
    mixed = [e for pair in zip(good, bad + bad) for e in pair] + bad
    (out / "folder").mkdir()
    (out / "folder" / "data").mkdir()
    (out / "f").write_text("")
    events(weir, *mixed)
    before = sorted(os.listdir(weir.folder))
    weir.run(pipeline('path: out, name: "{{ t }}/data"'), expect=0)
    found = files(out)
    assert found["good0/data"] == list(range(0, 20, 2)) and found["good1/data"] == list(range(1, 20, 2))
    assert set(found) == {"good0/data", "good1/data", "f"}
    reasons = {json.loads(d["payload"])["n"]: (d["code"], d["reason"]) for d in dead(weir)}
    assert set(reasons) == {e["n"] for e in bad}
    for n, (name, wanted) in enumerate(zip(HOSTILE, ["..", "..", '"/"', '"/"', '"/"', "NUL", "control",
                                                     "control", "control", "255", "", "empty",
                                                     "irectory", "t", "irectory"])):
        assert wanted in reasons[100 + n][1], (name, reasons[100 + n])
        assert reasons[100 + n][0] in ("bad_name", "open_failed")
    assert {n for n in os.listdir(weir.folder) if not n.startswith("weir-")} - set(before) <= {
        "dead.ndjson", *[p for p in os.listdir(weir.folder) if p.startswith("pipeline")]}


@pytest.mark.sanitize
@pytest.mark.parametrize("options", ["", ", part: true", ", compression: gzip", ", fsync: batch"])
def test_few_descriptors_for_many_names(weir, out, options):
    events(weir, *({"n": i, "t": i % 50} for i in range(500)))
    weir.run(pipeline('path: out, name: "{{ t }}.x", max_open: 3' + options,
                      batch="{events: 70, timeout: 5ms}"), timeout=120)
    found = files(out)
    if "part" in options:  # each time it was finished it got a name of its own
        assert all(name == f"{t}.x" or STAMPED.search(name) for name in found
                   for t in [name.split(".")[0]])
        assert sorted(n for numbers in found.values() for n in numbers) == list(range(500))
    else:
        assert found == {f"{t}.x": list(range(t, 500, 50)) for t in range(50)}


def test_descriptors_are_bounded(weir, out):
    events(weir, *({"n": i, "t": i % 100} for i in range(1000)))
    r = weir.start(pipeline('path: out, name: "{{ t }}.x", max_open: 5',
                            "{type: file, path: in.ndjson, follow: true}"), args=["--core-dumps"])
    wait_until(lambda: sum(map(len, files(out).values())) == 1000, 30, "all is written")
    links = [os.readlink(f"/proc/{r.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{r.pid}/fd")]
    assert 1 <= sum(str(out) in link for link in links) <= 5
    r.stop()


def test_fewer_descriptors_than_max_open(weir, out):
    events(weir, *({"n": i, "t": i % 100} for i in range(1000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        r = weir.start(pipeline('path: out, name: "{{ t }}.x", max_open: 1000'), ready=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    r.wait()
    assert files(out) == {f"{t}.x": list(range(t, 1000, 100)) for t in range(100)}


def test_idle_files_are_finished(weir, out):
    events(weir, {"n": 1, "t": "a"})
    r = weir.start(pipeline('path: out, name: "{{ t }}.x", idle: 50ms, part: true',
                            "{type: file, path: in.ndjson, follow: true, poll_interval: 20ms}"))
    wait_until(lambda: files(out) == {"a.x": [1]}, 20, "the file has its name")
    with (weir.folder / "in.ndjson").open("a") as f:
        f.write('{"n":2,"t":"a"}\n')
    wait_until(lambda: any(STAMPED.search(name) for name in files(out)), 20, "a second one")
    assert sorted(map(tuple, files(out).values())) == [(1,), (2,)]
    r.stop()


# ---- rotation ----------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("options", ["", ", compression: gzip", ", part: true", ", fsync: batch"])
def test_rotation_by_size(weir, out, options):
    events(weir, *({"n": i, "pad": os.urandom(40).hex()} for i in range(1000)))
    weir.run(pipeline(f"path: out/a.b.x, rotate: {{size: 20KiB}}{options}",
                      batch="{events: 50, timeout: 5ms}"))
    found = files(out)
    assert len(found) >= 3
    assert sum(found.values(), []) and sorted(sum(found.values(), [])) == list(range(1000))
    rotated = [name for name in found if name != "a.b.x"]
    assert all(re.fullmatch(r"a\.\d{8}T\d{6}Z(\.\d+)?\.b\.x", name) for name in rotated)
    for name in rotated:
        if "gzip" not in options:
            assert (out / name).stat().st_size <= 20 << 10
    assert "a.b.x" in found  # also with part: the last one is finished at the end
    weir.run(pipeline(f"path: out/a.b.x, rotate: {{size: 20KiB}}{options}"))
    assert sorted(sum(files(out).values(), [])) == sorted(2 * list(range(1000)))


@pytest.mark.sanitize
def test_rotation_by_time_also_while_nothing_comes(weir, out):
    events(weir, {"n": 1})
    r = weir.start(pipeline("path: out/a.x, rotate: {every: 1s}",
                            "{type: file, path: in.ndjson, follow: true, poll_interval: 20ms}"))
    wait_until(lambda: any(STAMPED.search(n) for n in files(out)), 30, "it is rotated")
    with (weir.folder / "in.ndjson").open("a") as f:
        f.write('{"n":2}\n')
    wait_until(lambda: sorted(sum(files(out).values(), [])) == [1, 2], 30, "the next event")
    r.stop()


@pytest.mark.sanitize
def test_rotated_files_beyond_keep_go(weir, out):
    (out / "a.20200101T000000Z.x").write_text('{"n":-1}\n')
    (out / "a.20200101T000000Z.1.x").write_text('{"n":-2}\n')
    strangers = ["a.2020.x", "a.20200101T000000Z.y", "ab.20200101T000000Z.x", "a.20200101T00000aZ.x",
                 "a.20200101T000000Z.1a.x"]
    for name in strangers:
        (out / name).write_text('{"n":-3}\n')
    events(weir, *({"n": i, "pad": "x" * 90} for i in range(400)))
    weir.run(pipeline("path: out/a.x, rotate: {size: 5KiB, keep: 2}", batch="{events: 40, timeout: 5ms}"))
    found = files(out)
    assert set(strangers) < set(found)
    mine = {name: n for name, n in found.items() if name not in strangers}
    assert len(mine) == 3 and mine["a.x"][-1] == 399
    assert min(sum(mine.values(), [])) > 200


@pytest.mark.sanitize
def test_no_name_makes_keep_delete_the_files_of_another(weir, out):
    """Names of the future, as if a's file had been rotated then."""
    pad = "x" * 900
    events(weir, *({"n": i, "t": "a", "pad": pad} for i in range(5)),
           *({"n": 100 + i, "t": f"a.2999010{i}T000000Z"} for i in range(5)),
           {"n": 200, "t": "a.29990101T000000Z.7"}, {"n": 201, "t": "a.29990101T000000"},
           *({"n": i, "t": "a", "pad": pad} for i in range(5, 8)))
    weir.run(pipeline('path: out, name: "{{ t }}.x", rotate: {size: 1KiB, keep: 4}',
                      batch="{events: 1, timeout: 5ms}"))
    found = files(out)
    assert found["a.x"] == [7] and found["a.29990101T000000.x"] == [201]
    assert sorted(sum((n for name, n in found.items() if STAMPED.search(name)), [])) == [3, 4, 5, 6]
    assert {json.loads(d["payload"])["n"] for d in dead(weir)} == {*range(100, 105), 200}


# ---- gzip --------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_a_packed_file_goes_on_after_a_kill(weir, out):
    """What a killed run left of a member is cut off."""
    events(weir, *({"n": i} for i in range(100)))
    weir.run(pipeline("path: out/a.gz, compression: gzip"))
    whole = (out / "a.gz").read_bytes()
    (out / "a.gz").write_bytes(whole + gzip.compress(b"x" * 1000)[:20])
    r = weir.run(pipeline("path: out/a.gz, compression: gzip"))
    assert r.find_log("cut off what a killed run left behind")
    assert files(out) == {"a.gz": 2 * list(range(100))}
    assert (out / "a.gz").read_bytes().startswith(whole)


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["in the middle", "behind", "of a name"])
def test_a_packed_file_that_is_damaged_is_set_aside(weir, out, how):
    """Members behind the damage may be whole: nothing is cut off."""
    events(weir, *({"n": i, "t": "a"} for i in range(300)))
    text = pipeline("path: out/a.gz, compression: gzip")
    if how == "of a name":
        text = pipeline('path: out, name: "{{ t }}.gz", compression: gzip')
    weir.run(text)
    whole = (out / "a.gz").read_bytes()
    damaged = whole + b"trash" if how == "behind" else whole[:50] + b"\xff" * 20 + whole[70:]
    (out / "a.gz").write_bytes(damaged)
    for i in range(2):
        r = weir.run(text)
        assert bool(r.find_log("set aside")) == (i == 0)
        aside = [p for p in out.iterdir() if p.name != "a.gz"]
        assert len(aside) == 1 and STAMPED.search(aside[0].name) and aside[0].read_bytes() == damaged
    lines = gzip.decompress((out / "a.gz").read_bytes()).splitlines()
    assert [json.loads(line)["n"] for line in lines] == 2 * list(range(300))


@pytest.mark.sanitize
def test_gzip_into_a_file_that_is_none(weir, out):
    (out / "a.gz").write_text("plain text\n")
    events(weir, {"n": 1})
    r = weir.run(pipeline("path: out/a.gz, compression: gzip"), expect=1)
    assert "no gzip file" in r.stderr and (out / "a.gz").read_text() == "plain text\n"


def test_gzip_is_smaller(weir, out):
    weir.run(pipeline("path: out/a.gz, compression: gzip", "{type: generate, count: 5000, seed: 1}",
                      batch="{events: 1000, timeout: 1s}"))
    data = (out / "a.gz").read_bytes()
    assert len(gzip.decompress(data).splitlines()) == 5000
    assert len(data) < len(gzip.decompress(data)) / 3


@pytest.mark.sanitize
def test_bytes_that_are_no_json_are_not_changed(weir, kafka, out):
    """A line break in what nobody has parsed: a space in its place would make another text of it."""
    topic = kafka.topic()
    good, bad = b'{\n"n":1}', [b'{"n":"a\nb"}', b"one\ntwo", b"\n\n", b'{"n":1}\n{"n":2}']
    kafka.produce(topic, [good, *bad, b"no json"])
    r = weir.start(f"""\
name: p
sources: {{in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {topic}}}}}
sinks: {{out: {{type: file, path: out/a.x}}, dead: {{type: file, path: dead.ndjson}}}}
dead_letter: dead
""")
    wait_until(lambda: len(dead(weir)) == 4, 30, lambda: r.report())
    wait_until(lambda: (out / "a.x").read_bytes().count(b"\n") == 2, 30, "the others")
    r.stop()
    assert (out / "a.x").read_bytes() == b'{ "n":1}\nno json\n'
    assert [d["payload"].encode() for d in dead(weir)] == bad
    assert {d["code"] for d in dead(weir)} == {"line_break"}


# ---- logrotate, finishing, durability ----------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["rename", "delete"])
def test_a_file_that_is_moved_away_is_begun_anew(weir, out, how):
    events(weir, {"n": 1})
    r = weir.start(pipeline("path: out/a.x",
                            "{type: file, path: in.ndjson, follow: true, poll_interval: 20ms}"))
    wait_until(lambda: files(out) == {"a.x": [1]}, 20, "the first event")
    if how == "rename":
        (out / "a.x").rename(out / "a.x.1")
    else:
        (out / "a.x").unlink()
    with (weir.folder / "in.ndjson").open("a") as f:
        f.write('{"n":2}\n')
    wait_until(lambda: files(out).get("a.x") == [2], 20, "a new file")
    assert files(out) == ({"a.x": [2], "a.x.1": [1]} if how == "rename" else {"a.x": [2]})
    r.stop()


def test_a_folder_that_is_deleted_is_made_again(weir, out):
    events(weir, {"n": 1, "t": "a"})
    r = weir.start(pipeline('path: out, name: "sub/{{ t }}"',
                            "{type: file, path: in.ndjson, follow: true, poll_interval: 20ms}"))
    wait_until(lambda: files(out) == {"sub/a": [1]}, 20, "the first event")
    shutil.rmtree(out / "sub")
    with (weir.folder / "in.ndjson").open("a") as f:
        f.write('{"n":2,"t":"a"}\n')
    wait_until(lambda: files(out) == {"sub/a": [2]}, 20, "a new file")
    r.stop()


@pytest.mark.sanitize
def test_part_has_its_name_at_the_end_only(weir, out):
    events(weir, {"n": 1})
    (out / "a.x").write_text('{"n":0}\n')
    r = weir.start(pipeline("path: out/a.x, part: true",
                            "{type: file, path: in.ndjson, follow: true, poll_interval: 20ms}"))
    wait_until(lambda: files(out).get("a.x.part") == [1], 20, "it is written beside")
    assert files(out)["a.x"] == [0]
    r.stop()
    found = files(out)
    assert found.pop("a.x") == [0]  # nothing is overwritten
    assert list(found.values()) == [[1]] and STAMPED.search(next(iter(found)))


def test_part_goes_on_after_a_kill(weir, out):
    events(weir, {"n": 1})
    text = pipeline("path: out/a.x, part: true",
                    "{type: file, path: in.ndjson, follow: true, state: s, poll_interval: 20ms}")
    r = weir.start(text)
    wait_until(lambda: files(out).get("a.x.part") == [1], 20, "it is written beside")
    r.kill()
    with (weir.folder / "in.ndjson").open("a") as f:
        f.write('{"n":2}\n')
    r = weir.start(text)
    wait_until(lambda: 2 in files(out).get("a.x.part", []), 20, "it goes on")
    r.stop()
    assert set(files(out)) == {"a.x"} and set(files(out)["a.x"]) == {1, 2}


@pytest.mark.sanitize
@pytest.mark.parametrize("options", ["", ", compression: gzip"])
def test_parts_that_a_killed_run_left_are_finished_at_the_start(weir, out, options):
    """Their names may never come again. Half a line, or member, is cut off; others' files stay."""
    line = b'{"n":%d,"t":"b"}\n'
    pack = gzip.compress if options else bytes
    (out / "sub").mkdir()
    (out / "a.x.part").write_bytes(pack(line % 1) + pack(line % 2)[:-5])
    (out / "sub" / "b.x.part").write_bytes(pack(line % 3))
    (out / "empty.x.part").write_bytes(b"")
    (out / "link.part").symlink_to(weir.folder / "elsewhere")
    (weir.folder / "elsewhere").write_text("x")
    events(weir, {"n": 4, "t": "c"})
    weir.run(pipeline('path: out, name: "{{ t }}.x", part: true' + options))
    (out / "link.part").unlink()
    assert files(out) == {"a.x": [1], "sub/b.x": [3], "c.x": [4]}
    assert (weir.folder / "elsewhere").read_text() == "x"


def packed_lines():
    """A whole gzip file with a byte in it that would end a line."""
    data = gzip.compress(b"".join(b'{"n":%d}\n' % (n * n * 7919) for n in range(2000)), mtime=0)
    assert b"\n" in data[100:-100]
    return data


@pytest.mark.sanitize
@pytest.mark.parametrize("options", ["", ", compression: gzip"])
def test_parts_of_others_are_left_as_they_are(weir, out, options):
    """Another program's, or of a sink that packs otherwise: neither cut nor given a name."""
    packed, plain = packed_lines(), b'{"n":1}\n{"n":'
    left = {"download.part": b"\0" * 5000, "sub/other.part": plain if options else packed,
            "sub/half.gz.part": packed[:-100]}
    (out / "sub").mkdir()
    for name, data in left.items():
        (out / name).write_bytes(data)
    events(weir, {"n": 4, "t": "c"})
    r = weir.run(pipeline('path: out, name: "{{ t }}.x", part: true' + options))
    assert r.find_log("left as it is")
    for name, data in left.items():
        assert (out / name).read_bytes() == data, name
        (out / name).unlink()
    assert files(out) == {"c.x": [4]}


def test_a_part_that_was_packed_is_not_cut(weir, out):
    (out / "a.x.part").write_bytes(packed_lines())
    events(weir, {"n": 1})
    weir.run(pipeline("path: out/a.x, part: true"))
    assert (out / "a.x").read_bytes() == packed_lines() + b'\n{"n": 1}\n'


@pytest.mark.sanitize
def test_no_name_is_that_of_a_part(weir, out):
    events(weir, {"n": 1, "t": "a"}, {"n": 2, "t": "a.part"}, {"n": 3, "t": "a.part.part"}, {"n": 4, "t": "a.parts"})
    weir.run(pipeline('path: out, name: "{{ t }}", part: true'))
    assert files(out) == {"a": [1], "a.parts": [4]}
    assert sorted(json.loads(d["payload"])["n"] for d in dead(weir)) == [2, 3]
    assert {d["code"] for d in dead(weir)} == {"bad_name"}


def test_a_part_without_events_is_no_file(weir, out):
    events(weir)
    weir.run(pipeline("path: out/a.x, part: true"))
    assert files(out) == {}


@pytest.mark.parametrize("permissions", ["0600", "0644", "640"])
def test_permissions(weir, out, permissions):
    events(weir, {"n": 1, "t": "a"})
    old = os.umask(0)
    try:
        weir.run(pipeline(f'path: out, name: "sub/{{{{ t }}}}", permissions: "{permissions}"'))
    finally:
        os.umask(old)
    assert stat.S_IMODE((out / "sub" / "a").stat().st_mode) == int(permissions, 8)
    assert stat.S_IMODE((out / "sub").stat().st_mode) == {"0600": 0o700, "0644": 0o755,
                                                        "640": 0o750}[permissions]


@pytest.mark.sanitize
def test_shards_that_write_many_files(weir, out):
    events(weir, *({"n": i, "t": i % 7} for i in range(5000)))
    weir.run(pipeline('path: out, name: "{{ t }}.x", concurrency: 4, shard_by: "{{ t }}", '
                      "rotate: {every: 1s}, idle: 20ms, fsync: interval, fsync_interval: 10ms",
                      batch="{events: 50, timeout: 1ms}"))
    found = files(out)
    for t in range(7):
        numbers = [n for name in sorted(found) if name.split(".")[0] == str(t) for n in found[name]]
        assert sorted(numbers) == list(range(t, 5000, 7))


@pytest.mark.sanitize
def test_a_name_that_cannot_be_written_stops_no_other(weir, out, monkeypatch):
    """A socket, a pipe, a file without the right to write: of that name, not of the folder."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(out / "socket"))
    os.mkfifo(out / "pipe")
    (out / "readonly").write_text("")
    (out / "readonly").chmod(0o400)
    # Root may write everywhere, unless it gives up that power.
    power = "dac_override"
    wrapper = f"setpriv --bounding-set=-{power} --inh-caps=-{power} " if os.geteuid() == 0 else ""
    monkeypatch.setenv("WEIR_WRAPPER", wrapper + os.environ.get("WEIR_WRAPPER", ""))
    names = ["socket", "good", "pipe", "readonly", "good"]
    events(weir, *({"n": i, "t": names[i % 5]} for i in range(50)))
    weir.run(pipeline('path: out, name: "{{ t }}"', batch="{events: 7, timeout: 5ms}"))
    server.close()
    assert json.loads((out / "good").read_text().splitlines()[0])["n"] == 1
    assert len((out / "good").read_text().splitlines()) == 20
    letters = {json.loads(d["payload"])["n"]: d for d in dead(weir)}
    assert set(letters) == {i for i in range(50) if names[i % 5] != "good"}
    for n, reason in ((0, "No such device"), (2, "not a regular file"), (3, "Permission denied")):
        assert reason in letters[n]["reason"] and letters[n]["code"] == "open_failed", letters[n]


def test_a_folder_that_cannot_be_written_now_is_waited_for(weir, out):
    """An outage, not the end of an event. (Root may write anywhere: the folder is a file for a while.)"""
    events(weir, {"n": 1, "t": "a"})
    (out / "sub").symlink_to("nowhere")
    r = weir.start(pipeline('path: out, name: "sub/{{ t }}"'))
    r.wait_log("open_failed")
    (out / "sub").unlink()
    r.wait()
    assert files(out) == {"sub/a": [1]}


# ---- wrong configurations ----------------------------------------------------------------------

@pytest.mark.parametrize("options,path,message", [
    ("path: a, name: 5", "name", "template"),
    ("path: a, name: ''", "name", "1 to 1024"),
    ("path: a, name: /abs", "name", "below"),
    ("path: a, name: 'x/'", "name", "ends"),
    ("path: a, name: '../x'", "name", '".."'),
    ("path: a, name: 'x/{{ t | / }}/..'", "name", '".."'),
    ("path: a, name: './x'", "name", '".."'),
    ("path: a, name: 'x//y'", "name", "empty"),
    ("path: a, name: '%Q'", "name", "%%"),
    ("path: a, name: 'x%'", "name", "%%"),
    ("path: a, name: '{{ t'", "name", ""),
    ("path: a, name: [x]", "name", "template"),
    ("path: a, name: x, mode: truncate", "mode", "one file"),
    ("path: a, rotate: {keep: 3}", "rotate.keep", "size"),
    ("path: a, rotate: {every: 10ms}", "rotate.every", "1s"),
    ("path: a, rotate: {size: -1}", "rotate.size", ""),
    ("path: a, rotate: daily", "rotate", ""),
    ("path: a, compression: zstd", "compression", "gzip"),
    ("path: a, fsync: sometimes", "fsync", "interval"),
    ("path: a, permissions: rw", "permissions", "octal"),
    ("path: a, permissions: '0999'", "permissions", "octal"),
    ("path: a, permissions: '0400'", "permissions", "write"),
    ("path: a, max_open: 0", "max_open", "1"),
    ("path: 'a/'", "path", "folder"),
    ("path: a, part: perhaps", "part", ""),
    ("path: a, part: true, name: '{{ t }}.part'", "name", '".part"'),
    ("path: a, rotate: {size: 1, keep: 1}, name: 'x/{{ t }}.%Y%m%dT%H%M%SZ.x'", "name", "rotate.keep"),
    ("path: a, rotate: {size: 1, keep: 1}, name: '{{ t }}.20260131T120000Z'", "name", "rotate.keep"),
])
def test_wrong_options(weir, options, path, message):
    checked = weir.check(pipeline(options), expect=1)
    assert message in checked.text and f"sinks.out.{path}" in checked.text, checked.text


@pytest.mark.parametrize("options", [
    "name: '{{ t }}.part'", "part: true, name: 'x.part/{{ t }}'", "part: true, name: 'x.part{{ t }}'",
    "rotate: {size: 1}, name: '{{ t }}.%Y%m%dT%H%M%SZ.x'",
    "rotate: {size: 1, keep: 1}, name: '{{ t }}.%Y%m%dT%H%M%S.x'",
    "rotate: {size: 1, keep: 1}, name: '%Y/%y/%j/%F/{{ t }}.%Y%m%dT%H%M%SZ{{ t }}.x'"])
def test_names_that_some_events_can_have(weir, options):
    weir.check(pipeline("path: a, " + options), expect=0)


@pytest.mark.parametrize("options,path", [
    ("fsync: batch, fsync_interval: 2s", "fsync_interval"),
    ("max_open: 5", "max_open"),
    ("idle: 5s", "idle"),
    ("", None),
    ("fsync: interval, fsync_interval: 2s", None),
])
def test_options_that_do_nothing_are_told(weir, options, path):
    checked = weir.check(pipeline("path: a" + (options and f", {options}")), expect=0)
    assert (f"sinks.out.{path}" in checked.text) == ("no effect" in checked.text) == (path is not None), checked


@pytest.mark.parametrize("options,message", [
    ("path: nowhere, name: x", "with `name`"),
    ("path: in.ndjson, name: x", "no folder"),
    ("path: nowhere/x", "nowhere/x"),
    ("path: fifo", "not a regular file"),
])
def test_what_fails_at_the_start_is_named(weir, options, message):
    events(weir, {"n": 1})
    os.mkfifo(weir.folder / "fifo")
    assert message in weir.run(pipeline(options), expect=1).stderr


# ---- standard streams --------------------------------------------------------------------------

def test_threads_end_with_the_sink(weir, out):
    """Nothing is left running: the run ends at once."""
    events(weir, {"n": 1})
    done = threading.Event()
    r = weir.start(pipeline("path: out/a.x, fsync: interval, fsync_interval: 1h"), ready=False)
    threading.Thread(target=lambda: (r.process.wait(), done.set())).start()
    assert done.wait(30)
