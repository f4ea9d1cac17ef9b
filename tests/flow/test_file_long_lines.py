# SPDX-License-Identifier: Apache-2.0
"""Source file: lines longer than max_line become dead letters with their first part and position."""
import gzip
import json
import os

import pytest

from weirtest import wait_until

LONG = b'{"pad":"' + "äö鞋🥾".encode() * 3000 + b'"}'  # 33010 bytes; byte 4096 is inside a character


def pipeline(source, dead="{type: file, path: dead.ndjson}", dead_letter="dead_letter: dead"):
    return f"""\
name: p
sources: {{in: {{type: file, max_line: 1KiB, on_long: reject, {source}}}}}
sinks:
  out: {{type: file, path: out.ndjson, inputs: [in], batch: {{timeout: 1ms}}}}
  dead: {dead}
{dead_letter}
"""


def lines(weir, name):
    path = weir.folder / name
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[:data.rfind(b"\n") + 1].splitlines()]


def check_letter(letter, data, offset, of):
    """It holds the beginning of the line at `offset` of data, whole characters of it."""
    assert letter["code"] == "line_too_long" and letter["component"] == "in"
    assert letter["origin"] == {"name": of, "offset": offset}
    end = data.find(b"\n", offset)
    line = data[offset:] if end < 0 else data[offset:end]
    payload = letter["payload"].encode()
    assert line.startswith(payload) and min(len(line), 4096) - 3 <= len(payload) <= 4096
    n = len(line) + (end >= 0)
    assert f"the line at byte {offset} of \"{of}\" has {n} bytes" in letter["reason"], letter


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["file", "gzip", "lanes", "stdin"])
def test_a_long_line_is_a_dead_letter(weir, how):
    parts = [b'{"n":1}\n', LONG + b"\n", b'{"n":2}\n', b"x" * 1025 + b"\n", b"y" * 700000 + b"\r\n",
             b"z" * 1024 + b"\n", b"\n", b'{"n":3}\n', LONG]
    data = b"".join(parts)
    path = weir.write(gzip.compress(data) if how == "gzip" else data, "in.ndjson")
    if how == "stdin":
        r = weir.run(pipeline("path: '-', codec: raw"), stdin=data)
    else:
        r = weir.run(pipeline("path: in.ndjson, codec: raw" + (", lanes: 3" if how == "lanes" else "")))
    assert sorted((weir.folder / "out.ndjson").read_bytes().splitlines()) == sorted(
        [b'{"n":1}', b'{"n":2}', b'{"n":3}', b"z" * 1024]), r.report()
    dead = sorted(lines(weir, "dead.ndjson"), key=lambda d: d["origin"]["offset"])
    offsets = [sum(map(len, parts[:i])) for i in (1, 3, 4, 8)]
    assert [d["origin"]["offset"] for d in dead] == offsets
    for letter, offset in zip(dead, offsets):
        of = letter["origin"]["name"] if how == "stdin" else str(path)
        letter["origin"].pop("partition", None)
        check_letter(letter, data, offset, of)


@pytest.mark.sanitize
def test_bytes_that_are_no_text_are_kept_as_they_are(weir):
    data = b"\xff\x80\x80\x80\x80" * 1000 + b"\n" + b"\x80" * 5000 + b"\n" + b"\0" * 5000 + b'\n{"n":1}\n'
    weir.write(data, "in.ndjson")
    weir.run(pipeline("path: in.ndjson"))
    dead = lines(weir, "dead.ndjson")
    assert len(dead) == 3 and all("payload_base64" in d for d in dead[:2])
    assert dead[2]["payload"] == "\0" * 4096 and lines(weir, "out.ndjson") == [{"n": 1}]


@pytest.mark.sanitize
def test_its_position_is_that_of_its_end(weir):
    """While its end is not there it is no event; a restart begins before it, and later behind it."""
    text = pipeline("path: in.ndjson, follow: true, state: in.state, poll_interval: 20ms")
    path = weir.write(b'{"n":1}\n' + b"x" * 5000, "in.ndjson")
    r = weir.start(text)
    r.wait_metric("weir_file_skipped_lines_total", 1, reason="too_long")
    wait_until(lambda: lines(weir, "out.ndjson") == [{"n": 1}], 20, "the line before it")
    r.stop()
    state = lambda: json.loads((weir.folder / "in.state").read_bytes())["files"][0]["offset"]
    assert state() == 8 and lines(weir, "dead.ndjson") == []
    with path.open("ab") as f:
        f.write(b"x" * 5000 + b"\n")
    r = weir.start(text)
    wait_until(lambda: len(lines(weir, "dead.ndjson")) == 1, 20, "its dead letter")
    assert "has 10001 bytes" in lines(weir, "dead.ndjson")[0]["reason"]
    assert r.metric("weir_component_errors_total", component="in", error_type="line_too_long") == 1
    r.stop()
    assert state() == 8 + 10001
    r = weir.start(text)
    with path.open("ab") as f:
        f.write(b'{"n":2}\n')
    wait_until(lambda: lines(weir, "out.ndjson") == [{"n": 1}, {"n": 2}], 20, "the line behind it")
    r.stop()
    assert len(lines(weir, "dead.ndjson")) == 1


@pytest.mark.sanitize
def test_a_truncated_file_forgets_it(weir):
    path = weir.write(b'{"n":1}\n' + b"x" * 5000, "in.ndjson")
    r = weir.start(pipeline("path: in.ndjson, follow: true, state: in.state, poll_interval: 20ms"))
    r.wait_metric("weir_file_skipped_lines_total", 1, reason="too_long")
    os.truncate(path, 0)
    r.wait_metric("weir_file_truncated_total", 1)
    with path.open("ab") as f:
        f.write(b'{"n":2}\n')
    wait_until(lambda: {"n": 2} in lines(weir, "out.ndjson"), 20, "the new line")
    r.stop()
    assert lines(weir, "dead.ndjson") == []


def test_a_position_is_not_past_a_dead_letter_that_is_not_written(weir):
    weir.write(b'{"n":1}\n' + b"x" * 5000 + b'\n{"n":2}\n', "in.ndjson")
    r = weir.start(pipeline("path: in.ndjson, follow: true, state: in.state, poll_interval: 20ms",
                            dead="{type: file, path: /dev/full}"))
    r.wait_metric("weir_component_errors_total", 1, component="dead", error_type="no_space")
    wait_until(lambda: lines(weir, "out.ndjson") == [{"n": 1}, {"n": 2}], 20, "the others")
    state = lambda: json.loads((weir.folder / "in.state").read_bytes())["files"][0]["offset"]
    wait_until(lambda: state() == 8, 20, "the position before it is kept")
    r.kill()
    assert state() == 8


def test_without_a_dead_letter_it_ends_the_pipeline(weir):
    weir.write(b'{"n":1}\n' + b"x" * 5000 + b'\n{"n":2}\n', "in.ndjson")
    text = pipeline("path: in.ndjson, state: in.state", dead="{type: blackhole, inputs: [in]}", dead_letter="")
    r = weir.run(text, expect=1, args=["--exit-on-stop"])
    assert r.find_log("source 'in' could not handle an event: line_too_long: the line at byte 8"), r.report()
    assert json.loads((weir.folder / "in.state").read_bytes())["files"][0]["offset"] <= 8


@pytest.mark.sanitize
def test_many_of_them_hold_up_nothing(weir):
    data = b"".join(b"w" * (1025 + i) + b"\n" + b'{"n":%d}\n' % i for i in range(2000))
    weir.write(data, "in.ndjson")
    weir.run(pipeline("path: in.ndjson"))
    assert [e["n"] for e in lines(weir, "out.ndjson")] == list(range(2000))
    assert len({d["origin"]["offset"] for d in lines(weir, "dead.ndjson")}) == 2000
