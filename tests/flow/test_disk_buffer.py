# SPDX-License-Identifier: Apache-2.0
"""Sinks with `buffer: {type: disk}`: what was answered or committed reaches the sink, whatever happens between."""
import json
import os
import shutil
import subprocess

import pytest
import requests

from weirtest import Load, free_port, wait_until

AWAY = "retry: {initial: 20ms, max: 100ms}"


def pipeline(port, sink, buffer="", more="", name="p"):
    return f"""\
name: {name}
sources: {{in: {{type: http, address: "127.0.0.1:{port}", path: /e}}}}
sinks:
  out: {{{sink}, inputs: [in], buffer: {{type: disk, path: buffer, {buffer}}}}}
{more}
"""


def numbered(n, first=0, pad=300):
    return [{"id": f"e-{i}", "n": i, "pad": "p" * (i % pad)} for i in range(first, first + n)]


def lines(path):
    """The events in a file; a line that a kill cut short is none."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"}\n")]


def numbers(path):
    return [event["n"] for event in lines(path)]


def post(port, events, expect=200):
    body = "".join(json.dumps(event) + "\n" for event in events)
    answer = requests.post(f"http://127.0.0.1:{port}/e", body, timeout=60,
                           headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == expect, answer.text
    return answer


@pytest.fixture
def port():
    return free_port()


# ---- kill -9 -----------------------------------------------------------------------------------

@pytest.mark.long(20)
def test_kill_9_under_load_loses_nothing_that_was_answered(weir, port):
    """Five kills in the middle of posting; the sink writes slower than the clients post."""
    out = weir.folder / "out.ndjson"
    file = weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop, "
                                     "batch: {events: 100}, concurrency: 1", "size: 200MiB"))
    events = numbered(60000)
    load = Load(f"http://127.0.0.1:{port}/e", events, batch=200, clients=4, rate=20000)
    r = weir.start(file)
    load.start()
    for kill in range(1, 6):
        load.wait_answered(kill * 9000)
        r.kill()
        r = weir.start(file)
    load.join()
    answered = set(load.answered)
    assert len(answered) == len(events)
    wait_until(lambda: {e["id"] for e in lines(out)} >= answered, 60,
               lambda: f"{len(answered - {e['id'] for e in lines(out)})} events that were answered are missing")
    assert r.metric("weir_buffer_damaged_regions_total") == 0
    r.stop()


def test_kill_9_in_front_of_redis(weir, own_redis, port):
    redis = own_redis()
    file = weir.write(pipeline(port, f"type: redis, url: {redis.url}, on_reject: drop, "
                                     "command: [SET, \"k:{{ id }}\", \"{{ n }}\"], " + AWAY))
    load = Load(f"http://127.0.0.1:{port}/e", numbered(12000), batch=100, clients=4, rate=8000)
    r = weir.start(file)
    load.start()
    for kill in (1, 2):
        load.wait_answered(kill * 4000)
        r.kill()
        r = weir.start(file)
    load.join()
    client = redis.client()
    wait_until(lambda: client.dbsize() == 12000, 60, lambda: f"12000 keys; there are {client.dbsize()}")
    r.stop()


# ---- a sink that is away -----------------------------------------------------------------------

@pytest.mark.sanitize
def test_http_is_answered_while_the_sink_is_away(weir, own_redis, port):
    redis = own_redis()
    url = redis.url
    redis.stop()
    r = weir.start(pipeline(port, f"type: redis, url: {url}, on_reject: drop, "
                                  "command: [RPUSH, list, \"{{ n }}\"], " + AWAY))
    for i in range(10):
        post(port, numbered(50, 50 * i))
    assert r.metric("weir_buffer_events", component="out") == 500
    assert r.metric("weir_buffer_bytes", component="out") > 50000
    assert r.metric("weir_buffer_disk_bytes", component="out") > 50000
    assert r.metric("weir_buffer_limit_bytes", component="out") == 1 << 30
    assert r.metric("weir_buffer_segments", component="out") == 1
    assert r.metric("weir_buffer_sync_seconds_count", component="out") > 0
    redis.start()
    wait_until(lambda: redis.client().llen("list") == 500, 30, "all events")
    assert redis.client().lrange("list", 0, -1) == [str(i) for i in range(500)]
    wait_until(lambda: r.metric("weir_buffer_events", component="out") == 0, 10, "an empty buffer")
    r.stop()


@pytest.mark.sanitize
def test_a_stop_keeps_the_backlog_and_the_next_start_delivers_it(weir, port):
    away = free_port()
    file = weir.write(pipeline(port, f'type: http, url: "http://127.0.0.1:{away}/", on_reject: drop, ' + AWAY))
    r = weir.start(file)
    post(port, numbered(300))
    r.stop(timeout=20)
    kept, = r.find_log("the disk buffer keeps events")
    assert kept["events"] == 300 and kept["path"] == str(weir.folder / "buffer"), kept
    assert not r.find_log("cannot")
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop"), file.name)
    r = weir.start(file)
    wait_until(lambda: numbers(weir.folder / "out.ndjson") == list(range(300)), 30, "all events, in order")
    r.stop()
    assert not r.find_log("keeps events")
    assert not list((weir.folder / "buffer").glob("*.segment"))


def test_drain_on_stop_empties_it(weir, port):
    file = weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop, batch: {events: 1, timeout: 0s}",
                               "drain_on_stop: true"))
    r = weir.start(file)
    post(port, numbered(3000))
    r.stop()
    assert numbers(weir.folder / "out.ndjson") == list(range(3000))
    assert not r.find_log("keeps events")


def test_drain_on_stop_ends_at_the_deadline(weir, port):
    r = weir.start(pipeline(port, f'type: http, url: "http://127.0.0.1:{free_port()}/", on_reject: drop, ' + AWAY,
                            "drain_on_stop: true", "shutdown_timeout: 1s"))
    post(port, numbered(30))
    r.stop(timeout=20)
    assert r.find_log("keeps events")[0]["events"] == 30


# ---- full --------------------------------------------------------------------------------------

def away_pipeline(port, buffer, more=""):
    return pipeline(port, f'type: http, url: "http://127.0.0.1:{free_port()}/", on_reject: drop, ' + AWAY, buffer,
                    more)


def test_block_makes_the_source_wait(weir, port):
    r = weir.start(away_pipeline(port, "size: 1MiB", "shutdown_timeout: 1s"))
    taken = 0
    with pytest.raises(requests.RequestException):
        while taken < 100000:
            body = "".join(json.dumps(event) + "\n" for event in numbered(100, taken))
            answer = requests.post(f"http://127.0.0.1:{port}/e", body, timeout=3,
                                   headers={"Content-Type": "application/x-ndjson"})
            answer.raise_for_status()
            taken += 100
    assert 1000 < taken < 10000
    assert r.metric("weir_buffer_bytes", component="out") <= 1 << 20
    assert r.ready()
    r.stop(expect=None)


def test_drop_newest_counts(weir, port):
    r = weir.start(away_pipeline(port, "size: 1MiB, when_full: drop_newest"))
    for i in range(100):
        answer = post(port, numbered(100, 100 * i))
    assert "dropped" in answer.text
    dropped = r.metric("weir_component_discarded_events_total", component="out", reason="buffer_full")
    kept = r.metric("weir_buffer_events", component="out")
    assert dropped > 1000 and dropped + kept == 10000
    r.stop()


def test_drop_oldest_counts(weir, port):
    file = weir.write(away_pipeline(port, "size: 1MiB, when_full: drop_oldest"))
    r = weir.start(file)
    for i in range(100):
        post(port, numbered(100, 100 * i))
    dropped = int(r.metric("weir_component_discarded_events_total", component="out", reason="buffer_full"))
    assert dropped > 1000
    r.stop()
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop", "size: 1MiB"), file.name)
    r = weir.start(file)
    out = weir.folder / "out.ndjson"
    wait_until(lambda: 9999 in numbers(out), 30, "the newest event")
    # What the sink had under way is kept beside the newest.
    assert set(range(10000)) - set(numbers(out)) <= set(range(10000 - len(numbers(out)) + 2000))
    assert len(set(numbers(out))) >= 10000 - dropped
    r.stop()


def can_mount(folder):
    return os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(weir):
    folder = weir.folder / "small"
    folder.mkdir()
    if not can_mount(folder):
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    weir.close()
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_waited_for(weir, port, small_disk):
    """The size is more than the disk has. Nothing is lost, nothing is answered that is not stored."""
    out = weir.folder / "out.ndjson"
    text = pipeline(port, f'type: http, url: "http://127.0.0.1:{free_port()}/", on_reject: drop, ' + AWAY,
                    "size: 100MiB").replace("path: buffer", "path: small/buffer")
    file = weir.write(text + "shutdown_timeout: 2s\n")
    r = weir.start(file)
    answered = 0
    with pytest.raises(requests.RequestException):
        while True:
            body = "".join(json.dumps(event) + "\n" for event in numbered(100, answered))
            requests.post(f"http://127.0.0.1:{port}/e", body, timeout=2,
                          headers={"Content-Type": "application/x-ndjson"}).raise_for_status()
            answered += 100
            assert answered < 20000
    assert answered > 1000
    assert r.metric("weir_buffer_errors_total", component="out", error="ENOSPC") > 0
    assert r.find_log("the disk buffer's disk fails") and r.ready()
    r.stop(expect=1)  # the last request was not stored, and says so
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop", "size: 100MiB")
               .replace("path: buffer", "path: small/buffer"), file.name)
    r = weir.start(file)
    wait_until(lambda: set(numbers(out)) >= set(range(answered)), 30, "all that was answered")
    post(port, numbered(10, 50000))
    wait_until(lambda: 50009 in numbers(out), 30, "what came later")
    r.stop()


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_a_full_disk_drops_what_the_user_wants(weir, port, small_disk, policy):
    """The disk ends in the middle of a segment, or as the next one is to be made: both are a full buffer."""
    file = weir.write(away_pipeline(port, f"size: 3MiB, when_full: {policy}")
                      .replace("path: buffer", "path: small/buffer"))
    r = weir.start(file)
    for i in range(150):
        post(port, numbered(100, 100 * i))
    dropped = int(r.metric("weir_component_discarded_events_total", component="out", reason="buffer_full"))
    assert dropped > 1000
    assert r.metric("weir_buffer_errors_total", component="out", error="ENOSPC") > 0
    r.stop()
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop", "size: 3MiB")
               .replace("path: buffer", "path: small/buffer"), file.name)
    r = weir.start(file)
    out = weir.folder / "out.ndjson"
    # What the sink had under way is kept beside the newest.
    wait_until(lambda: len(set(numbers(out))) >= 15000 - dropped, 30, "all that was not dropped")
    assert (14999 in numbers(out)) == (policy == "drop_oldest") and 0 in numbers(out)
    wait_until(lambda: r.metric("weir_buffer_events", component="out") == 0, 10, "an empty buffer")
    lost = r.metrics().get("weir_component_discarded_events_total", component="out", reason="buffer_damaged")
    assert not lost, "what was dropped does not count again as lost"
    r.stop()


def test_it_starts_on_a_full_disk(weir, port, small_disk):
    """There is not even room for the cursor; a request waits until there is some."""
    filler = small_disk / "filler"
    with pytest.raises(OSError):
        with filler.open("wb") as f:
            while True:
                f.write(b"x" * 4096)
                f.flush()
    text = pipeline(port, "type: file, path: out.ndjson, on_reject: drop").replace("path: buffer", "path: small/buffer")
    r = weir.start(text)
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"http://127.0.0.1:{port}/e", "{}", timeout=1)
    filler.unlink()
    post(port, numbered(3))
    wait_until(lambda: len(lines(weir.folder / "out.ndjson")) >= 3, 30, "the events")
    r.wait_log("stores events again")
    r.stop()


# ---- dead letters ------------------------------------------------------------------------------

def test_a_dead_letter_of_a_record_has_all_of_the_event(weir, port):
    """The event is changed, stored, read back by another run, and rejected there."""
    away = f'type: http, url: "http://127.0.0.1:{free_port()}/", ' + AWAY
    (weir.folder / "out").mkdir()
    text = """\
name: p
sources: {{in: {{type: http, address: "127.0.0.1:{port}", path: /e}}}}
transforms: {{map: {{type: map, inputs: [in], set: {{seen: yes}}}}}}
sinks:
  out: {{{sink}, inputs: [map], buffer: {{type: disk, path: buffer}}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""
    file = weir.write(text.format(port=port, sink=away))
    r = weir.start(file)
    post(port, [{"id": "a", "n": 0}, {"id": "b", "n": 1}])
    r.stop()
    weir.write(text.format(port=port, sink="type: file, path: \"out\", name: \"{{ missing }}.x\""), file.name)
    checked = weir.check(file)
    if checked.code != 0:
        pytest.fail(repr(checked))
    r = weir.start(file)
    dead = weir.folder / "dead.ndjson"
    wait_until(lambda: len(lines(dead)) == 2, 30, "two dead letters")
    second = lines(dead)[1]
    assert json.loads(second["payload"]) == {"id": "b", "n": 1}
    assert json.loads(second["entered"]) == {"id": "b", "n": 1, "seen": "yes"}
    assert second["origin"]["item"] == 1 and second["origin"]["name"]
    assert second["id"] and second["id"] != lines(dead)[0]["id"]
    r.stop()
    r = weir.start(file)
    r.stop()
    assert len(lines(dead)) == 2, "what a dead letter was written of has ended"


def test_dead_letters_wait_on_the_disk_too(weir, port):
    """What the dead-letter sink could not take is there after a kill, once for each event."""
    (weir.folder / "out").mkdir()
    text = """\
name: p
sources: {{in: {{type: http, address: "127.0.0.1:{port}", path: /e}}}}
sinks:
  out: {{type: file, path: "out", name: "{{{{ missing }}}}.x", inputs: [in]}}
  dead: {{{dead}, buffer: {{type: disk, path: dead-buffer}}}}
dead_letter: dead
"""
    away = f'type: http, url: "http://127.0.0.1:{free_port()}/", ' + AWAY
    file = weir.write(text.format(port=port, dead=away))
    r = weir.start(file)
    items = post(port, numbered(20), expect=202).json()["items"]
    assert [item["status"] for item in items] == ["dead_lettered"] * 20
    r.kill()
    weir.write(text.format(port=port, dead="type: file, path: dead.ndjson"), file.name)
    r = weir.start(file)
    dead = weir.folder / "dead.ndjson"
    wait_until(lambda: len(lines(dead)) == 20, 30, "the dead letters")
    assert [json.loads(line["payload"])["n"] for line in lines(dead)] == list(range(20))
    r.stop()


def test_without_a_dead_letter_the_record_stays(weir, port):
    (weir.folder / "out").mkdir()
    bad = 'type: file, path: "out", name: "{{ missing }}.x", on_reject: stop'
    file = weir.write(pipeline(port, bad))
    r = weir.start(file)
    post(port, numbered(1))
    r.wait_log("pipeline stops")
    assert not r.ready()
    r.stop(expect=1)
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: stop"), file.name)
    r = weir.start(file)
    wait_until(lambda: numbers(weir.folder / "out.ndjson") == [0], 30, "the event")
    r.stop()


def test_what_has_no_fields_is_rejected_by_a_sink_that_reads_some(weir):
    """A folder that was filled in front of a sink that takes any bytes."""
    weir.write("no json\n{\"n\":1}\n", "in.txt")
    text = """\
name: p
sources: {{in: {{type: file, path: in.txt, codec: raw, state: in.state, follow: true}}}}
sinks: {{out: {{{sink}, on_reject: drop, buffer: {{type: disk, path: buffer}}}}}}
"""
    file = weir.write(text.format(sink=f'type: http, format: single, url: "http://127.0.0.1:{free_port()}/", ' + AWAY))
    r = weir.start(file)
    r.wait_metric("weir_buffer_events", 2, component="out")
    r.stop()
    weir.write(text.format(sink="type: blackhole, needs: value"), file.name)
    r = weir.start(file)
    r.wait_metric("weir_component_discarded_events_total", 2, component="out", reason="not_json")
    r.stop()


# ---- damage ------------------------------------------------------------------------------------

@pytest.fixture
def backlog(weir, port):
    """A folder with 2000 events that no sink has taken, and the pipeline file."""
    file = weir.write(away_pipeline(port, "size: 20MiB"))
    r = weir.start(file)
    for i in range(20):
        post(port, numbered(100, 100 * i))
    r.stop()
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop", "size: 20MiB"), file.name)
    return file


def segment(weir):
    found = sorted((weir.folder / "buffer").glob("*.segment"))
    assert found
    return found[0]


def spoil(path, needle, fill=b"X" * 40):
    data = bytearray(path.read_bytes())
    at = data.index(needle)
    data[at:at + len(fill)] = fill
    path.write_bytes(data)


def test_damage_costs_no_more_than_what_it_hit(weir, backlog):
    path = segment(weir)
    spoil(path, b'"n": 500,')
    r = weir.start(backlog)
    out = weir.folder / "out.ndjson"
    wait_until(lambda: 1999 in numbers(out), 30, "the last event")
    assert numbers(out) == [n for n in range(2000) if n != 500]
    line, = r.find_log("a damaged place was set aside")
    assert line["file"] == path.name and line["offset"] > 0 and line["bytes"] > 0
    assert r.metric("weir_buffer_damaged_regions_total", component="out") == 1
    assert r.metric("weir_buffer_damaged_bytes_total", component="out") == line["bytes"]
    assert r.metric("weir_component_discarded_events_total", component="out", reason="buffer_damaged") == 1
    aside, = (weir.folder / "buffer").glob("damaged-*")
    assert aside.stat().st_size == line["bytes"] and b"XXXX" in aside.read_bytes()
    r.stop()


def test_a_missing_segment_is_counted(weir, port):
    """No byte is damaged; the events are gone all the same."""
    file = weir.write(away_pipeline(port, "size: 4MiB"))
    r = weir.start(file)
    for i in range(40):
        post(port, numbered(100, 100 * i))
    r.stop()
    weir.write(pipeline(port, "type: file, path: out.ndjson, on_reject: drop", "size: 4MiB"), file.name)
    paths = sorted((weir.folder / "buffer").glob("*.segment"))
    assert len(paths) >= 4
    paths[0].unlink()
    paths[2].unlink()
    r = weir.start(file)
    out = weir.folder / "out.ndjson"
    wait_until(lambda: 3999 in numbers(out), 30, "the last event")
    given = len(numbers(out))
    assert given < 4000
    assert r.metric("weir_component_discarded_events_total", component="out", reason="buffer_damaged") == 4000 - given
    assert sum(line["events"] for line in r.find_log("lacks events")) == 4000 - given
    r.stop()


def test_a_torn_tail_is_cut(weir, backlog):
    path = segment(weir)
    with path.open("ab") as f:
        f.write(path.read_bytes()[48:48 + 200])
    r = weir.start(backlog)
    out = weir.folder / "out.ndjson"
    wait_until(lambda: numbers(out) == list(range(2000)), 30, "all events")
    r.stop()


@pytest.mark.parametrize("how", ["zeros", "random", "nothing", "half"])
def test_it_always_starts_again(weir, port, backlog, how):
    path = segment(weir)
    size = path.stat().st_size
    path.write_bytes({"zeros": b"\0" * size, "random": os.urandom(size), "nothing": b"",
                      "half": path.read_bytes()[:size // 2]}[how])
    (weir.folder / "buffer/cursor").write_bytes(os.urandom(9000))
    r = weir.start(backlog)
    post(port, numbered(5, 5000))
    wait_until(lambda: 5004 in numbers(weir.folder / "out.ndjson"), 30, "what came later")
    if how == "half":
        assert len(numbers(weir.folder / "out.ndjson")) > 800
    r.stop()


def test_another_format_is_refused(weir, backlog):
    """Its first bytes stay what they are: a format that is not ours, with the right checksum."""
    path = segment(weir)
    data = bytearray(path.read_bytes())
    data[8:12] = (7).to_bytes(4, "little")
    data[12:16] = crc32c(bytes(data[:12])).to_bytes(4, "little")
    path.write_bytes(data)
    r = weir.start(backlog, ready=False)
    r.wait(expect=1)
    line, = r.find_log("pipeline cannot start")
    assert "format 7" in line["error"] and "sink 'out'" in line["error"]
    assert path.exists()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


# ---- one folder, one user ----------------------------------------------------------------------

def test_two_processes_cannot_use_one_folder(weir, port):
    r = weir.start(pipeline(port, "type: blackhole, on_reject: drop"))
    second = weir.start(pipeline(free_port(), "type: blackhole, on_reject: drop", name="q"), ready=False)
    second.wait(expect=1)
    line, = second.find_log("pipeline cannot start")
    assert f"in use by process {r.pid}" in line["error"] and str(weir.folder / "buffer") in line["error"]
    r.stop()


def test_two_pipelines_cannot_name_one_folder(weir):
    a = weir.write(pipeline(1, "type: blackhole, on_reject: drop", name="a"))
    b = weir.write(pipeline(2, "type: blackhole, on_reject: drop", name="b"))
    checked = weir.check(a, b, expect=1)
    assert f"{b}:4:" in checked.out and "bad-buffer" in checked.out and str(a) in checked.out, checked
    found, = weir.check(a, b, format="json").json
    assert found["code"] == "bad-buffer" and found["path"] == "sinks.out.buffer.path" and found["line"] == 4
    assert weir.command("run", a, b).code == 1
    assert weir.check(a, expect=0) and weir.check(b, expect=0)


def test_a_folder_that_cannot_be_made_says_so(weir, port):
    weir.write("x", "file")
    text = pipeline(port, "type: blackhole, on_reject: drop").replace("path: buffer", "path: file/buffer")
    checked = weir.check(text, expect=1)
    assert "is no folder" in checked.out
    assert not (weir.folder / "buffer").exists(), "a check makes nothing"


def test_the_path_is_relative_to_the_pipeline_file(weir, port):
    file = weir.write(pipeline(port, "type: blackhole, on_reject: drop"), "sub/p.yaml")
    r = weir.start(file)
    assert (weir.folder / "sub/buffer/lock").exists()
    r.stop()


# ---- weir buffer -------------------------------------------------------------------------------

def test_inspect_tells_what_is_there(weir, backlog):
    text = weir.command("buffer", "inspect", "buffer")
    assert text.code == 0, text
    assert "records    2000, seq 0 to 1999" in text.out and "not ended  2000" in text.out
    assert "damaged    0 places" in text.out and "cursor     0" in text.out
    found = weir.command("buffer", "inspect", "buffer", "--format", "json", "--records", "3").json
    assert (found["records"], found["not_ended"], found["first_seq"], found["last_seq"]) == (2000, 2000, 0, 1999)
    assert found["damaged"] == [] and found["process"] == 0 and found["segments"] >= 1
    assert [json.loads(r["payload"])["n"] for r in found["first_records"]] == [0, 1, 2]
    assert found["bytes"] == sum(p.stat().st_size for p in (weir.folder / "buffer").glob("*.segment"))
    shown = weir.command("buffer", "inspect", "buffer", "--records", "2").out
    assert '"{\\"id\\": \\"e-1\\"' in shown and "e-2" not in shown


def test_inspect_reads_beside_a_running_weir_and_repair_refuses(weir, port):
    r = weir.start(away_pipeline(port, "size: 20MiB"))
    post(port, numbered(10))
    found = weir.command("buffer", "inspect", "buffer", "--format", "json").json
    assert found["process"] == r.pid and found["records"] == 10
    assert f"process {r.pid} uses it" in weir.command("buffer", "inspect", "buffer").out
    refused = weir.command("buffer", "repair", "buffer")
    assert refused.code == 1 and f"in use by process {r.pid}" in refused.err
    r.stop()


def test_repair_says_what_it_did(weir, backlog):
    path = segment(weir)
    spoil(path, b'"n": 77,')
    with path.open("ab") as f:
        f.write(b"\0" * 500)
    before = weir.command("buffer", "inspect", "buffer")
    assert before.code == 1 and "damaged    2 places" in before.out, before
    assert "500 bytes, a write that was cut short" in before.out
    copy = weir.folder / "copy"
    shutil.copytree(weir.folder / "buffer", copy)
    done = weir.command("buffer", "repair", "buffer")
    assert done.code == 0 and "cut off" in done.out and "damaged, set aside" in done.out, done
    assert "1999 records are left" in done.out
    found = weir.command("buffer", "repair", copy, "--format", "json").json
    assert found["records"] == 1999 and [x["what"] for x in found["repairs"]] == ["torn", "damaged"]
    again = weir.command("buffer", "inspect", "buffer")
    assert "damaged    1 place" in again.out  # what is in the middle is passed, and a copy stands beside
    assert len(list((weir.folder / "buffer").glob("damaged-*"))) == 1
    r = weir.start(backlog)
    out = weir.folder / "out.ndjson"
    wait_until(lambda: 1999 in numbers(out), 30, "the last event")
    assert len(numbers(out)) == 1999
    r.stop()


@pytest.mark.parametrize("args, code, said", [
    (["inspect"], 2, "is missing"),
    (["look", "buffer"], 2, "neither inspect nor repair"),
    (["inspect", "nowhere"], 1, "cannot open the folder nowhere"),
    (["inspect", ".", "--records", "some"], 2, "is no number"),
    (["repair", ".", "--records", "1"], 2, "an option of inspect"),
    (["inspect", ".", "--format", "xml"], 2, "text, json")])
def test_wrong_use(weir, args, code, said):
    done = weir.command("buffer", *args)
    assert done.code == code and said in done.err, done


def test_a_folder_that_holds_nothing_is_no_damage(weir):
    (weir.folder / "empty").mkdir()
    done = weir.command("buffer", "inspect", "empty")
    assert done.code == 0 and "cursor     none" in done.out and "records    0" in done.out
