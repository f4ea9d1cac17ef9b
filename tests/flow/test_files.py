# SPDX-License-Identifier: Apache-2.0
"""Source file, sinks file and stdout; wrong options of these, of generate and of blackhole."""
import base64
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from weirtest import wait_until

# JSON that any hop could spoil: each line passes byte for byte.
TYPES = [
    b'{"i":9223372036854775807,"j":-9223372036854775808,"u":18446744073709551615}',
    b'{"big":123456789012345678901234567890,"huge":1e400,"small":-0.0,"e":1E+2,"f":1.10}',
    b'{"null":null,"t":true,"f":false,"a":[],"o":{},"n":{"a":[[],{}],"o":{"x":[null]}}}',
    '{"uni":"äöü 鞋 🥾 \u2028","esc":"\\u0041\\n\\t\\"\\\\\\/","nul":"a\\u0000b"}'.encode(),
    b'{"dup":1,"dup":2,"":"empty key"}',
    b'  { "white" :\t[ 1 , 2 ] }  ',
    b'"a string"', b"42", b"null", b"[1,2,3]", b"true",
    b'{"pad":"' + b"x" * (1 << 20) + b'"}',
    b'{"last":1}',
]


def copy(weir, source="", sink="", name="copy", more=""):
    return f"""\
name: {name}
sources: {{in: {{type: file, path: in.ndjson, {source}}}}}
sinks: {{out: {{type: file, path: out.ndjson, on_reject: drop, {sink}}}}}
{more}
"""


def output(weir, name="out.ndjson"):
    return (weir.folder / name).read_bytes()


def kept_alive(text):
    """With a second pipeline beside it that never ends, so that metrics can be looked at."""
    return text, """\
name: beside
sources: {in: {type: generate, rate: 1}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""


# ---- source file ------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_lines_pass_byte_for_byte(weir):
    data = b"".join(line + b"\n" for line in TYPES)
    weir.write(data, "in.ndjson")
    weir.run(copy(weir))
    assert output(weir) == data


@pytest.mark.sanitize
@pytest.mark.parametrize("needs", ["payload", "value"])
def test_untouched_payloads_pass_though_another_sink_parses(weir, needs):
    data = b"".join(line + b"\n" for line in TYPES)
    weir.write(data, "in.ndjson")
    weir.run(copy(weir).replace("sinks: {", f"sinks: {{nil: {{type: blackhole, inputs: [in], "
                                f"on_reject: drop, needs: {needs}}}, ")
             .replace("type: file, path: out", "type: file, inputs: [in], path: out"))
    assert output(weir) == data


def test_line_ends(weir):
    weir.write(b'\xef\xbb\xbf{"a":1}\r\n\n\r\n{"b":2}\n  \n{"c":"\\r"}\r\r\n\n{"d":4}', "in.ndjson")
    r = weir.start(*kept_alive(copy(weir, "codec: raw")))
    expected = b'{"a":1}\n{"b":2}\n  \n{"c":"\\r"}\r\n{"d":4}\n'
    wait_until(lambda: (weir.folder / "out.ndjson").exists() and output(weir) == expected, 10,
               lambda: output(weir))
    r.wait_metric("weir_file_skipped_lines_total", 3, reason="empty")
    assert r.metric("weir_file_skipped_lines_total", reason="empty") == 3
    assert r.metric("weir_file_skipped_lines_total", reason="too_long") == 0
    r.stop()


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\r\n\n", b"\xef\xbb\xbf"])
def test_nothing_to_read(weir, data):
    weir.write(data, "in.ndjson")
    weir.run(copy(weir))
    assert output(weir) == b""


def test_lines_around_the_block_size(weir):
    # 256 KiB blocks: lines that end just before, at and behind their ends, and longer ones.
    lengths = [262143, 262144, 262145, 1, 262142, 2, 524287, 524288, 3, 1048577, 32767, 32768, 5]
    data = b"".join(bytes([97 + i % 26]) * n + b"\n" for i, n in enumerate(lengths))
    weir.write(data, "in.ndjson")
    weir.run(copy(weir, "codec: raw"))
    assert output(weir) == data


def test_a_long_line_ends_the_run(weir):
    weir.write(b'{"a":1}\n' + b'{"b":"' + b"x" * 2000 + b'"}\n{"c":3}\n', "in.ndjson")
    r = weir.run(copy(weir, "max_line: 1000"), expect=1, args=["--exit-on-stop"])
    assert output(weir) in (b"", b'{"a":1}\n')  # what is on its way may fail with it
    assert r.find_log("the line at byte 8 of ") and r.find_log("max_line"), r.report()


def test_a_long_line_is_left_out(weir):
    long = b'{"b":"' + b"x" * 700000 + b'"}\n'
    weir.write(b'{"a":1}\n' + long + b'{"c":3}\n' + long + b"y" * 1000 + b"\n" + b"y" * 1001 + b"\r\n",
               "in.ndjson")
    r = weir.start(*kept_alive(copy(weir, "max_line: 1000, on_long: skip, codec: raw")))
    r.wait_metric("weir_file_skipped_lines_total", 3, reason="too_long")
    expected = b'{"a":1}\n{"c":3}\n' + b"y" * 1000 + b"\n"
    wait_until(lambda: output(weir) == expected, 10, lambda: output(weir)[:2000])
    assert r.find_log("line left out")[0]["offset"] == 8
    r.stop()


def test_a_line_of_exactly_the_maximum_with_cr(weir):
    weir.write(b"y" * 1000 + b"\r\nz\n", "in.ndjson")
    weir.run(copy(weir, "max_line: 1000, codec: raw"))
    assert output(weir) == b"y" * 1000 + b"\nz\n"


@pytest.mark.sanitize
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_lanes_read_every_line_once(weir, lanes):
    lines = [b'{"n":%d,"pad":"%s"}' % (i, b"p" * (i * 37 % 900)) for i in range(20000)]
    weir.write(b"\n".join(lines), "in.ndjson")
    weir.run(copy(weir, f"lanes: {lanes}"))
    found = output(weir).splitlines()
    assert sorted(found) == sorted(lines)
    if lanes == 1:
        assert found == lines


@pytest.mark.parametrize("data", [b"a", b"a\n", b"a\nb\n", b"\n\na", b"a" * 100 + b"\nb\n"])
def test_more_lanes_than_lines(weir, data):
    weir.write(data, "in.ndjson")
    weir.run(copy(weir, "lanes: 4, codec: raw"))
    assert sorted(output(weir).split()) == sorted(data.split())


def test_bad_json_goes_to_the_dead_letter_alone(weir):
    weir.write(b'{"a":1}\n{"a":\n\xff\xfe\n[1,]\n{"a":2}\n' + b"[" * 200 + b"\n{\"a\":3}\n", "in.ndjson")
    weir.run("""\
name: checked
sources: {in: {type: file, path: in.ndjson}}
sinks:
  out: {type: blackhole, needs: value}
  copy: {type: file, path: out.ndjson, format: full}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""".replace("type: blackhole", "type: blackhole, inputs: [in]")
             .replace("path: out.ndjson", "path: out.ndjson, inputs: [in]"))
    dead = [json.loads(line) for line in output(weir, "dead.ndjson").splitlines()]
    assert len(dead) == 4, dead


def test_stdin(weir):
    data = b"".join(line + b"\n" for line in TYPES)
    weir.run(copy(weir).replace("path: in.ndjson", 'path: "-"'), stdin=data)
    assert output(weir) == data


@pytest.mark.sanitize
def test_stdin_pipe_is_read_as_it_comes_and_can_be_stopped(weir):
    read, write = os.pipe()
    r = weir.start(copy(weir).replace("path: in.ndjson", 'path: "-"'), stdin=read)
    os.close(read)
    for part, lines in ((b'{"a":1}\n{"b', 1), (b'":2}\n', 2), (b'{"c":3}', 2)):
        os.write(write, part)
        wait_until(lambda: output(weir).count(b"\n") == lines, 10, lambda: output(weir))
    r.stop()
    # What has no end yet is not a line: it was not taken.
    assert output(weir) == b'{"a":1}\n{"b":2}\n'
    os.close(write)


@pytest.mark.sanitize
def test_a_pipe_without_line_ends_can_be_stopped(weir):
    """Input that makes no event, all the time: the wake-up is not lost in it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    r = weir.start(copy(weir).replace("path: in.ndjson", 'path: "-", max_line: 1KiB, on_long: skip'),
                   stdin=read)
    os.close(read)
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            try:
                os.write(write, b"x" * 100)
            except (BlockingIOError, BrokenPipeError):
                pass
            time.sleep(0.0001)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        r.wait_log("longer than max_line")
        r.stop()
    finally:
        stop.set()
        thread.join()
        os.close(write)


def test_stdin_pipe_ends_with_its_writer(weir):
    read, write = os.pipe()
    r = weir.start(copy(weir).replace("path: in.ndjson", 'path: "-"'), stdin=read)
    os.close(read)
    os.write(write, b'{"a":1}\n{"c":3}')
    os.close(write)
    r.wait()
    assert output(weir) == b'{"a":1}\n{"c":3}\n'


def test_a_named_pipe_waits_for_its_writer(weir):
    os.mkfifo(weir.folder / "in.ndjson")
    r = weir.start(copy(weir))
    time.sleep(0.3)
    assert r.alive
    (weir.folder / "in.ndjson").write_bytes(b'{"a":1}\n')
    r.wait()
    assert output(weir) == b'{"a":1}\n'


def test_ids_are_path_and_offset_and_stay(weir):
    weir.write(b'{"a":1}\n\n{"b":2}\n', "in.ndjson")
    ids = []
    for _ in range(2):
        weir.run(copy(weir, sink="format: full, mode: truncate"))
        ids.append([json.loads(line)["id"] for line in output(weir).splitlines()])
    assert ids[0] == ids[1] and len(set(ids[0])) == 2
    lines = [json.loads(line) for line in output(weir).splitlines()]
    assert [line["origin"]["position"] for line in lines] == [0, 9]
    assert lines[0]["origin"]["name"] == str(weir.folder / "in.ndjson")


def test_ids_of_stdin_differ_between_runs(weir):
    ids = []
    for _ in range(2):
        text = copy(weir, sink="format: full, mode: truncate")
        weir.run(text.replace("path: in.ndjson", 'path: "-"'), stdin=b"{}\n")
        ids.append(json.loads(output(weir))["id"])
    assert ids[0] != ids[1]


@pytest.mark.parametrize("make, message", [
    (lambda p: None, "No such file"),
    (lambda p: p.mkdir(), "is a folder"),
])
def test_a_file_that_cannot_be_read_is_named_at_the_start(weir, make, message):
    make(weir.folder / "in.ndjson")
    r = weir.run(copy(weir), expect=1)
    assert message in r.stderr and "in.ndjson" in r.stderr


# ---- sink file --------------------------------------------------------------------------------

def test_append_and_truncate(weir):
    weir.write(b"1\n", "in.ndjson")
    weir.write(b"0\n", "out.ndjson")
    weir.run(copy(weir))
    weir.run(copy(weir, sink="fsync: batch"))
    assert output(weir) == b"0\n1\n1\n"
    weir.run(copy(weir, sink="mode: truncate"))
    assert output(weir) == b"1\n"


def test_half_a_line_of_a_run_that_was_killed_is_ended(weir):
    weir.write(b"1\n2\n", "in.ndjson")
    weir.write(b'0\n{"half', "out.ndjson")
    weir.run(copy(weir))
    assert output(weir) == b'0\n{"half\n1\n2\n'


def test_full_format(weir):
    weir.write(b'text "quoted"\n\xff\xfe\n', "in.txt")
    weir.run("""\
name: full
sources:
  in: {type: generate, count: 2, seed: 7}
  raw: {type: file, path: in.txt, codec: raw}
sinks: {out: {type: file, path: out.ndjson, format: full, on_reject: drop, inputs: [in, raw]}}
""")
    lines = [json.loads(line) for line in output(weir).splitlines()]
    made = [line for line in lines if line["origin"]["name"] == "generate"]
    assert [line["origin"]["position"] for line in made] == [0, 1]
    for line in made:
        assert line["id"] == line["payload"]["id"] and line["key"] == line["payload"]["user_id"]
        assert line["time_ns"] % 1000000 == 0
    raw = [line for line in lines if line["origin"]["name"] != "generate"]
    assert [base64.b64decode(line["payload_base64"]) for line in raw] == [b'text "quoted"',
                                                                          b"\xff\xfe"]


def test_line_breaks_between_json_tokens_become_spaces(weir, kafka):
    topic = kafka.topic()
    pretty = b'{\n  "a": [1,\r\n  2],\n  "b": "x\\ny"\n}'
    kafka.produce(topic, [pretty, b'{"c":3}', None])
    r = weir.start(f"""\
name: pretty
sources: {{in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {topic}}}}}
sinks: {{out: {{type: file, path: out.ndjson}}, dead: {{type: file, path: dead.ndjson}}}}
dead_letter: dead
""")
    wait_until(lambda: output(weir).count(b"\n") == 2 and output(weir, "dead.ndjson"), 20,
               lambda: r.report())
    r.stop()
    assert output(weir) == pretty.replace(b"\n", b" ") + b'\n{"c":3}\n'
    dead = json.loads(output(weir, "dead.ndjson"))
    assert "tombstone" in json.dumps(dead)


def test_raw_payload_with_a_line_break_is_rejected(weir, kafka):
    topic = kafka.topic()
    kafka.produce(topic, [b"one\ntwo", b"three"])
    r = weir.start(f"""\
name: broken
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {topic}, codec: raw}}
sinks: {{out: {{type: file, path: out.ndjson}}, dead: {{type: file, path: dead.ndjson}}}}
dead_letter: dead
""")
    wait_until(lambda: output(weir) and output(weir, "dead.ndjson"), 20, lambda: r.report())
    r.stop()
    assert output(weir) == b"three\n"
    assert "line_break" in output(weir, "dead.ndjson").decode()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB of which 3.5 MiB are used by the file `ballast`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "weir-test", str(folder)],
                          capture_output=True)
    if made.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    (folder / "ballast").write_bytes(b"b" * (3584 << 10))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_and_doubles_nothing(weir, small_disk):
    n = 5000
    r = weir.start(f"""\
name: full
sources: {{in: {{type: generate, count: {n}}}}}
sinks: {{out: {{type: file, path: {small_disk}/out.ndjson, on_reject: drop,
         retry: {{initial: 20ms, max: 100ms}}}}}}
""")
    r.wait_metric("weir_component_errors_total", 3, error_type="no_space")
    written = (small_disk / "out.ndjson").read_bytes()
    assert written == b"" or written.endswith(b"\n"), "half a batch was left"
    assert r.alive
    (small_disk / "ballast").unlink()
    r.wait()
    lines = (small_disk / "out.ndjson").read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(n))


def test_dev_full_is_an_outage(weir):
    weir.write(b"1\n", "in.ndjson")
    r = weir.start(copy(weir, more="shutdown_timeout: 1s")
                   .replace("path: out.ndjson", "path: /dev/full"))
    r.wait_metric("weir_component_errors_total", 2, error_type="no_space")
    assert r.alive
    r.stop(expect=None, timeout=60)


def test_one_file_has_one_writer(weir):
    weir.write(b"1\n", "in.ndjson")
    r = weir.run(copy(weir).replace("sinks: {", "sinks: {other: {type: file, path: out.ndjson, "
                                                "inputs: [in], on_reject: drop}, ")
                 .replace("type: file, path: out.ndjson, on_reject: drop, }", "type: file, inputs: "
                          "[in], path: out.ndjson, on_reject: drop}"), expect=1)
    assert "is being written by another" in r.stderr


@pytest.mark.sanitize
def test_concurrent_shards_write_whole_lines(weir):
    weir.run("""\
name: shards
sources: {in: {type: generate, count: 20000}}
sinks: {out: {type: file, path: out.ndjson, on_reject: drop, concurrency: 4, batch: {events: 10}}}
""")
    assert sorted(json.loads(line)["seq"] for line in output(weir).splitlines()) == \
        list(range(20000))


@pytest.mark.parametrize("path, message", [
    ("nowhere/out.ndjson", "No such file"),
    (".", "Is a directory"),
    ("fifo", "not a regular file"),
])
def test_a_file_that_cannot_be_written_is_named_at_the_start(weir, path, message):
    os.mkfifo(weir.folder / "fifo")
    weir.write(b"1\n", "in.ndjson")
    r = weir.run(copy(weir).replace("path: out.ndjson", f"path: {path}"), expect=1)
    assert message in r.stderr, r.report()


# ---- sink stdout ------------------------------------------------------------------------------

TO_STDOUT = """\
name: out
sources: {{in: {{type: generate, count: {n}}}}}
sinks: {{out: {{type: stdout, on_reject: drop, {more}}}}}
"""


def test_stdout(weir):
    r = weir.run(TO_STDOUT.format(n=1000, more=""))
    assert [json.loads(line)["seq"] for line in r.stdout.splitlines()] == list(range(1000))
    r = weir.run(TO_STDOUT.format(n=10, more="format: full"))
    assert [json.loads(line)["payload"]["seq"] for line in r.stdout.splitlines()] == list(range(10))


def pipe_reader(weir, text, *args):
    path = weir.write(text)
    env = dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path)
    return subprocess.Popen(weir._command(["run", str(path), *args]), env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


def test_a_slow_reader_of_stdout_gets_everything(weir):
    process = pipe_reader(weir, TO_STDOUT.format(n=5000, more=""))
    time.sleep(1)  # the pipe is full long before
    assert process.poll() is None
    data = process.stdout.read()
    assert process.wait(20) == 0
    assert [json.loads(line)["seq"] for line in data.splitlines()] == list(range(5000))


@pytest.mark.sanitize
@pytest.mark.parametrize("dead", [False, True])
def test_a_reader_of_stdout_that_goes_away(weir, dead):
    """As in `weir run ... | head -1`: it ends, and no event is lost where there is a dead letter."""
    text = TO_STDOUT.format(n=3000, more="").replace("on_reject: drop, ", "batch: {events: 10}")
    if dead:
        text = text.replace("sinks: {", "sinks: {dead: {type: file, path: dead.ndjson}, ") + "dead_letter: dead\n"
    process = pipe_reader(weir, text, "--exit-on-stop")
    first = json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(60) == (0 if dead else 1) and first["seq"] == 0
    if dead:
        letters = [json.loads(line) for line in output(weir, "dead.ndjson").splitlines()]
        assert {letter["code"] for letter in letters} == {"reader_gone"}
        assert letters[-1]["attempts"] == 1 and json.loads(letters[-1]["payload"])["seq"] == 2999


def test_another_reader_of_a_named_pipe_goes_on(weir):
    pipe = weir.folder / "pipe"
    os.mkfifo(pipe)
    first = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pipe.open("wb") as out:
        path = weir.write(TO_STDOUT.format(n=3000, more="retry: {initial: 1ms, max: 20ms}"))
        process = subprocess.Popen(weir._command(["run", str(path)]), stdout=out, stderr=subprocess.DEVNULL,
                                   env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path))
    os.set_blocking(first, True)
    data = os.read(first, 1000)
    os.close(first)
    time.sleep(0.2)
    assert process.poll() is None
    with pipe.open("rb") as second:
        data = second.read()
    assert process.wait(20) == 0
    assert json.loads(data.splitlines()[-1])["seq"] == 2999


@pytest.mark.sanitize
def test_a_reader_of_stdout_that_stands_still_does_not_hold_the_end(weir):
    process = pipe_reader(weir, TO_STDOUT.format(n=0, more="") + "shutdown_timeout: 1s\n")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    process.stdout.close()


# ---- check ------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, options, path, message", [
    ("file", "", "sources.in", "path"),
    ("file", 'path: ""', "sources.in.path", ""),
    ("file", "path: {a: b}", "sources.in.path", "list"),
    ("file", "paht: a", "sources.in.paht", 'did you mean "path"'),
    ("file", "path: a, max_line: 0", "sources.in.max_line", "1B to 1GiB"),
    ("file", "path: a, max_line: 2GiB", "sources.in.max_line", "1GiB"),
    ("file", "path: a, max_line: lots", "sources.in.max_line", "size"),
    ("file", "path: a, on_long: drop", "sources.in.on_long", "one of error, skip"),
    ("file", "path: a, codec: xml", "sources.in.codec", "json"),
    ("file", "path: a, lanes: -1", "sources.in.lanes", ""),
    ("generate", "count: -1", "sources.in.count", "at least 0"),
    ("generate", "count: many", "sources.in.count", "whole number"),
    ("generate", "rate: fast", "sources.in.rate", "a number"),
    ("generate", "rate: -5", "sources.in.rate", ""),
    ("generate", "users: 0", "sources.in.users", ""),
    ("generate", "seed: 1.5", "sources.in.seed", "whole number"),
    ("generate", "seed: -1", "sources.in.seed", "0 to 1152921504606846975"),
    ("generate", "seed: 1152921504606846976", "sources.in.seed", "1152921504606846975"),
    ("generate", "size: 1GiB", "sources.in.size", "16MiB"),
    ("generate", "start: yesterday", "sources.in.start", "RFC 3339"),
    ("generate", 'start: "2026-02-30T00:00:00Z"', "sources.in.start", "RFC 3339"),
    ("generate", 'start: "2026-01-01"', "sources.in.start", "RFC 3339"),
    ("generate", 'start: "2026-01-01T25:00:00Z"', "sources.in.start", "RFC 3339"),
    ("generate", "step: -1s", "sources.in.step", "duration"),
    ("generate", "sed: 1", "sources.in.sed", 'did you mean "seed"'),
])
def test_wrong_source_options(weir, kind, options, path, message):
    checked = weir.check(f"""\
name: wrong
sources: {{in: {{type: {kind}, {options}}}}}
sinks: {{out: {{type: blackhole, on_reject: drop}}}}
""", expect=1)
    assert path in checked.text and message in checked.text, checked
    assert "error" in checked.text and ":2:" in checked.text


@pytest.mark.parametrize("kind, options, path, message", [
    ("file", "", "sinks.out", "path"),
    ("file", 'path: ""', "sinks.out.path", ""),
    ("file", "path: a, mode: overwrite", "sinks.out.mode", "append, truncate"),
    ("file", "path: a, fsync: always", "sinks.out.fsync", "never, batch"),
    ("file", "path: a, fsync: true", "sinks.out.fsync", "never, batch"),
    ("file", "path: a, format: csv", "sinks.out.format", "payload, full"),
    ("file", "path: a, append: true", "sinks.out.append", "unknown"),
    ("file", "path: {a: b}", "sinks.out.path", ""),
    ("file", "path: a, mode: truncat", "sinks.out.mode", "truncate"),
    ("file", "path: a, fromat: full", "sinks.out.fromat", 'did you mean "format"'),
    ("stdout", "format: json", "sinks.out.format", "payload, full"),
    ("stdout", "path: a", "sinks.out.path", "unknown"),
    ("blackhole", "needs: all", "sinks.out.needs", "none, payload, value"),
    ("blackhole", "needs: [value]", "sinks.out.needs", ""),
    ("blackhole", "need: value", "sinks.out.need", 'did you mean "needs"'),
])
def test_wrong_sink_options(weir, kind, options, path, message):
    checked = weir.check(f"""\
name: wrong
sources: {{in: {{type: generate}}}}
sinks: {{out: {{type: {kind}, on_reject: drop, {options}}}}}
""", expect=1)
    assert path in checked.text and message in checked.text, checked
    assert "error" in checked.text and ":3:" in checked.text
