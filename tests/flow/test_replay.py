# SPDX-License-Identifier: Apache-2.0
"""`weir replay` with files: where dead letters enter, what they are then, how far a run comes."""
import gzip
import json
import signal
import time

import pytest

from replay_rig import Replays, kinds, letter
from weirtest import wait_until

PIPELINE = """\
name: orders
sources: {in: {type: file, path: in.ndjson}}
transforms:
  mark: {type: lua, inputs: [in], script: mark.lua}
  clean: {type: lua, inputs: [mark], script: clean.lua}
sinks:
  out: {type: file, inputs: [clean], path: out.ndjson, format: FORMAT}
  side: {type: file, inputs: [mark], path: side.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
"""
MARK = """
function process(event, meta)
  event.marks = (event.marks or 0) + 1
  meta.key = "k" .. event.n
  meta.headers.trace = "t"
  return event
end"""
FAILS = "function process(event) if event.n % 2 == 0 then error('even') end return event end"
PASSES = "function process(event) event.clean = true return event end"


@pytest.fixture
def orders(weir):
    r = Replays(weir)
    r.write("p.yaml", PIPELINE.replace("FORMAT", "payload"))
    r.write("mark.lua", MARK)
    r.write("clean.lua", FAILS)
    r.write("in.ndjson", *({"n": n} for n in range(1, 6)))
    return r


def dead_orders(r):
    r.weir.run(r.folder / "p.yaml")
    assert [d["code"] for d in r.dead] == ["lua_error"] * 2


# ---- where they enter, and as what -------------------------------------------------------------

@pytest.mark.sanitize
def test_a_mended_hook_gets_what_it_gave_up(orders):
    """Behind `mark`, which has seen it, and in front of `clean`; the other branch has had its copy."""
    dead_orders(orders)
    assert orders.dead[0]["payload"] == '{"n": 2}' and json.loads(orders.dead[0]["entered"]) == {"n": 2, "marks": 1}
    orders.write("clean.lua", PASSES)
    report = orders.replay("dead.ndjson")
    assert kinds(report) == {("clean", "lua_error"): {"replayed": 2, "delivered": 2}} and report["read"] == 2
    assert orders.out[3:] == [{"n": n, "marks": 1, "clean": True} for n in (2, 4)]
    assert len(orders.lines("side.ndjson")) == 5 and len(orders.dead) == 2


def test_an_event_is_what_it_was(orders):
    """Key, headers, id, time and origin: the sink writes the same bytes as if nothing had failed."""
    orders.write("p.yaml", PIPELINE.replace("FORMAT", "full"))
    orders.write("clean.lua", PASSES)
    orders.weir.run(orders.folder / "p.yaml")
    good = {e["id"]: e for e in orders.out}
    (orders.folder / "out.ndjson").unlink()
    orders.write("clean.lua", FAILS)
    orders.weir.run(orders.folder / "p.yaml")
    times = {d["id"]: d["time"] for d in orders.dead}
    (orders.folder / "out.ndjson").unlink()
    orders.write("clean.lua", PASSES)
    orders.replay("dead.ndjson")
    assert len(orders.out) == 2
    for event in orders.out:
        assert event["id"] in times and abs(event.pop("time_ns") / 1e9 - time.time()) < 600
        was = good[event["id"]]
        was.pop("time_ns")
        assert event == was and event["headers"] and event["key"] and event["origin"]["position"] > 0


def test_time_is_exact(weir):
    r = Replays(weir)
    r.write("p.yaml", "name: orders", "sources: {in: {type: file, path: in.ndjson}}",
            "sinks: {out: {type: file, inputs: [in], path: out.ndjson, format: full}}")
    r.write("dead.ndjson", letter(1, time="2026-01-31T11:00:00.123456789Z"), letter(2, time="1969-12-31T23:59:59.999Z"))
    r.replay("dead.ndjson")
    assert [e.get("time_ns") for e in r.out] == [1769857200123456789, -1000000]


@pytest.mark.sanitize
def test_bytes_that_are_no_text(weir):
    """Opaque payloads come through byte for byte, and stay opaque; so do empty ones."""
    values = [b"\xff\x00\x01", b"plain", b"\xc3\xa4 \"quoted\" \\ \t", b"{\"not\": ", b"\x00" * 50]
    r = Replays(weir)
    r.write("p.yaml", """\
name: orders
sources: {in: {type: file, path: in.bin, codec: raw}}
transforms: {hook: {type: lua, inputs: [in], script: hook.lua}}
sinks:
  out: {type: file, inputs: [hook], path: out.bin}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    r.write("hook.lua", "function process(event) error('no') end")
    r.write("in.bin", *values)
    weir.run(r.folder / "p.yaml")
    assert len(r.dead) == 5 and all(d["raw"] for d in r.dead)
    r.write("hook.lua", "function process(event, meta) assert(meta.payload) return event end")
    r.replay("dead.ndjson")
    assert r.lines("out.bin") == values


def test_the_report_for_people(orders):
    dead_orders(orders)
    orders.write("more.ndjson", letter(1, component="gone"), letter(2, component="gone"), letter(3),
                 letter(4, component="gone", code="other"), letter(5, pipeline="billing"), "junk")
    done = orders.weir.command("replay", "p.yaml", "dead.ndjson", "more.ndjson", "--dry-run")
    assert done.code == 1 and done.out == """\
pipeline "orders": 8 dead letters read, 3 would be replayed
  clean, lua_error: 2 at clean
  gone, rejected: 2 nowhere: there is no such component in the pipeline that could take it: say --at ID \
(more.ndjson, lines 1-2)
  out, rejected: 1 at out
  gone, other: 1 nowhere: there is no such component in the pipeline that could take it: say --at ID \
(more.ndjson, lines 4)
  of other pipelines, such as "billing" (--pipeline NAME): 1
  no dead letters, left where they are: 1
"""
    assert "weir replay: more.ndjson:6: no dead letter: bad JSON at byte 0" in done.err
    orders.write("clean.lua", "function process(event) if event.n == 2 then return nil end error('x') end")
    done = orders.weir.command("replay", "p.yaml", "dead.ndjson")
    assert done.code == 1 and done.out == ""
    assert """\
pipeline "orders": 2 dead letters read, 2 replayed
  clean, lua_error: 2 at clean: 1 filtered, 1 failed again
""" in done.err


# ---- how far it comes --------------------------------------------------------------------------

def test_the_next_run_begins_where_the_last_ended(orders):
    dead_orders(orders)
    report = orders.replay("dead.ndjson", expect=1)
    assert kinds(report) == {("clean", "lua_error"): {"replayed": 2, "failed_again": 2}}
    assert [d.get("replays") for d in orders.dead] == [None, None, 1, 1]
    assert orders.dead[2]["source"] == "in" and orders.dead[2]["origin"] == orders.dead[0]["origin"]
    assert orders.dead[2]["id"] == orders.dead[0]["id"] and orders.dead[2]["payload"] == orders.dead[0]["payload"]
    orders.write("clean.lua", PASSES)
    assert orders.replay("dead.ndjson")["replayed"] == 2
    assert orders.replay("dead.ndjson")["read"] == 0
    assert len(orders.out) == 5
    report = orders.replay("dead.ndjson", "--again")
    assert (report["read"], report["replayed"]) == (4, 4) and len(orders.out) == 9
    assert orders.replay("dead.ndjson")["read"] == 0


def test_positions_are_those_of_the_file_and_the_pipeline(orders):
    """Another file of the folder, the same file under another name, another pipeline over the same file."""
    dead_orders(orders)
    orders.write("clean.lua", PASSES)
    orders.write("more.ndjson", letter(7), letter(8, pipeline="other"))
    assert orders.replay("dead.ndjson")["replayed"] == 2
    assert orders.replay("dead.ndjson", "more.ndjson")["replayed"] == 1
    (orders.folder / "dead.ndjson").rename(orders.folder / "moved.ndjson")
    assert orders.replay("moved.ndjson")["read"] == 0
    orders.write("q.yaml", PIPELINE.replace("FORMAT", "payload").replace("name: orders", "name: other"))
    report = orders.replay("more.ndjson", pipeline="q.yaml")
    assert report["replayed"] == 1 and report["of_others"] == 1
    assert sorted(e["n"] for e in orders.out) == [1, 2, 3, 4, 5, 7, 8]


def test_what_fails_again_is_not_read_in_the_same_run(orders):
    """The dead-letter sink writes to the end of the file that is read."""
    orders.write("dead.ndjson", *(letter(2 * n, component="clean") for n in range(3000)))
    report = orders.replay("dead.ndjson", expect=1)
    assert report["read"] == 3000 and len(orders.dead) == 6000
    assert all(d["replays"] == 1 for d in orders.dead[3000:])
    orders.write("clean.lua", PASSES)
    assert orders.replay("dead.ndjson")["read"] == 3000
    assert sorted(e["n"] for e in orders.out) == [2 * n for n in range(3000)]


def test_several_files_end_where_they_ended_at_the_start(orders):
    """Also the second one, which grows while the first is read."""
    orders.write("a.ndjson", *(letter(2 * n, component="clean") for n in range(2000)))
    orders.write("dead.ndjson", *(letter(2 * n, component="clean") for n in range(5)))
    (orders.folder / "sub").mkdir()
    orders.write("sub/c.ndjson", letter(1))
    report = orders.replay("a.ndjson", "dead.ndjson", "sub/c.ndjson", expect=1)
    assert report["read"] == 2006 and len(orders.dead) == 2010
    assert (orders.folder / "sub/.weir-replay-orders.state").exists()


def test_packed_files_and_standard_input(orders):
    data = b"".join(json.dumps(letter(n)).encode() + b"\n" for n in range(1, 4))
    orders.weir.write(gzip.compress(data[:100]) + gzip.compress(data[100:]), "dead-1.ndjson.gz")
    assert orders.replay("dead-1.ndjson.gz")["replayed"] == 3
    assert orders.replay("dead-1.ndjson.gz")["read"] == 0
    assert orders.replay("-", stdin=data)["replayed"] == 3
    report = orders.replay("-", stdin=data + b"junk\n\n" + b"\xff\n" + data[:20], expect=1)
    assert report["replayed"] == 3 and report["broken"] == 3
    for line, why in ((4, "bad JSON"), (6, "bad JSON"), (7, "the last line has no end yet")):
        assert f"weir replay: standard input:{line}: no dead letter: {why}" in report["text"]
    assert [e["n"] for e in orders.out] == [1, 2, 3] * 3


def test_a_packed_dead_letter_file_that_grows(orders):
    text = PIPELINE.replace("FORMAT", "payload").replace("path: dead.ndjson", "path: dead.gz, compression: gzip")
    orders.write("p.yaml", text)
    orders.write("in.ndjson", *({"n": 2 * n} for n in range(500)))
    orders.weir.run(orders.folder / "p.yaml")
    report = orders.replay("dead.gz", expect=1)
    assert report["read"] == 500
    dead = [json.loads(line) for line in gzip.decompress((orders.folder / "dead.gz").read_bytes()).splitlines()]
    assert [d.get("replays") for d in dead] == [None] * 500 + [1] * 500


def test_line_numbers_go_on_in_the_next_run(orders):
    orders.write("dead.ndjson", letter(1), "", "junk")
    assert "dead.ndjson:3: no dead letter" in orders.replay("dead.ndjson", expect=1)["text"]
    with (orders.folder / "dead.ndjson").open("a") as file:
        file.write("\r\nmore junk\n" + json.dumps(letter(2)) + "\n[]\n")
    report = orders.replay("dead.ndjson", expect=1)
    assert (report["read"], report["replayed"], report["broken"]) == (3, 1, 2)
    assert "dead.ndjson:5: no dead letter: bad JSON" in report["text"]
    assert "dead.ndjson:7: no dead letter: it is no JSON object" in report["text"]


def test_an_unfinished_line_waits_for_its_end(orders):
    whole = json.dumps(letter(2))
    orders.weir.write(json.dumps(letter(1)) + "\n" + whole[:50], "dead.ndjson")
    report = orders.replay("dead.ndjson", expect=1)
    assert report["replayed"] == 1 and "dead.ndjson:2: no dead letter: the last line has no end" in report["text"]
    with (orders.folder / "dead.ndjson").open("a") as file:
        file.write(whole[50:] + "\n")
    assert orders.replay("dead.ndjson")["replayed"] == 1
    assert [e["n"] for e in orders.out] == [1, 2]


def test_a_last_line_without_an_end_is_taken(orders):
    orders.weir.write(json.dumps(letter(1)) + "\n" + json.dumps(letter(2)), "dead.ndjson")
    assert orders.replay("dead.ndjson")["replayed"] == 2


@pytest.mark.sanitize
def test_a_signal_ends_it_in_good_order(orders):
    """Nothing is lost and nothing comes twice: what was not sent through is the next run's."""
    orders.write("dead.ndjson", *(letter(n) for n in range(400)))
    done = orders.weir.start_command("replay", "p.yaml", "dead.ndjson", "--rate", "100")
    wait_until(lambda: len(orders.lines("out.ndjson")) >= 20, 20, "the first ones")
    done.send_signal(signal.SIGTERM)
    assert done.wait(20) == 0
    first = len(orders.out)
    assert 20 <= first < 400
    assert orders.replay("dead.ndjson")["replayed"] == 400 - first
    assert [e["n"] for e in orders.out] == list(range(400))


def test_a_killed_replay_loses_nothing(orders):
    orders.write("dead.ndjson", *(letter(n) for n in range(2000)))
    done = orders.weir.start_command("replay", "p.yaml", "dead.ndjson", "--rate", "500")
    wait_until(lambda: len(orders.lines("out.ndjson")) >= 200, 20, "the first ones")
    done.kill()
    done.wait(20)
    orders.replay("dead.ndjson")
    assert {json.loads(line)["n"] for line in orders.lines("out.ndjson")} == set(range(2000))


def test_a_pipeline_that_stops_keeps_the_position(orders):
    orders.write("p.yaml", PIPELINE.replace("FORMAT", "payload").replace("clean.lua", "clean.lua, on_error: stop"))
    orders.write("dead.ndjson", letter(1, component="clean"), letter(2, component="clean"), letter(3, component="clean"))
    report = orders.replay("dead.ndjson", expect=1)
    assert "could not handle an event: lua_error" in report["text"]
    assert kinds(report)[("clean", "rejected")].get("not_done", 0) >= 1
    orders.write("clean.lua", PASSES)
    orders.replay("dead.ndjson")
    assert {e["n"] for e in orders.out} == {1, 2, 3}


def test_rate(orders):
    orders.write("dead.ndjson", *(letter(n) for n in range(60)))
    begun = time.monotonic()
    assert orders.replay("dead.ndjson", "--rate", "40")["replayed"] == 60
    assert 1.2 <= time.monotonic() - begun < 20


# ---- beside the running pipeline ---------------------------------------------------------------

def test_while_the_pipeline_runs(weir):
    """Its dead-letter file is locked by it; what fails again gets a file of its own."""
    r = Replays(weir)
    text = """\
name: orders
sources: {in: {type: file, path: in.ndjson, follow: true, state: in.state}}
transforms: {clean: {type: lua, inputs: [in], script: clean.lua}}
sinks:
  out: {type: blackhole, inputs: [clean]}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
"""
    r.write("p.yaml", text)
    r.write("clean.lua", FAILS)
    r.write("in.ndjson", *({"n": n} for n in range(4)))
    running = weir.start(r.folder / "p.yaml")
    wait_until(lambda: len(r.lines("dead.ndjson")) == 2, 20, "dead letters")
    done = weir.command("replay", "p.yaml", "dead.ndjson")
    assert done.code == 1 and "is being written by another sink or another weir" in done.err and "read" not in done.out
    report = r.replay("dead.ndjson", "--dead-letter", "again.ndjson", expect=1)
    assert kinds(report) == {("clean", "lua_error"): {"replayed": 2, "failed_again": 2}}
    assert [d["replays"] for d in r.json("again.ndjson")] == [1, 1] and len(r.dead) == 2
    r.write("clean.lua", PASSES)
    assert r.replay("again.ndjson", "--dead-letter", "third.ndjson")["replayed"] == 2
    assert not (r.folder / "third.ndjson").exists() or r.lines("third.ndjson") == []
    running.stop()


def test_dead_letters_of_two_sinks_go_to_one_file(weir):
    """The ones that only take dead letters are left out; one that is read from as well stays."""
    r = Replays(weir)
    r.write("p.yaml", """\
name: orders
sources: {in: {type: file, path: in.ndjson}}
transforms:
  a: {type: lua, inputs: [in], dead_letter: dead_a, code: "function process(e) error('a') end"}
  b: {type: lua, inputs: [in], code: "function process(e) error('b') end"}
sinks:
  out: {type: file, inputs: [a, b], path: out.ndjson}
  dead_a: {type: file, path: a.ndjson}
  dead: {type: file, inputs: [in], path: dead.ndjson}
dead_letter: dead
""")
    r.write("letters.ndjson", letter(1, component="a"), letter(2, component="b"), letter(3))
    report = r.replay("letters.ndjson", "--dead-letter", "again.ndjson", expect=1)
    assert report["replayed"] == 3 and sorted(d["component"] for d in r.json("again.ndjson")) == ["a", "b"]
    assert not (r.folder / "a.ndjson").exists() and r.lines("dead.ndjson") == [] and [e["n"] for e in r.out] == [3]


def test_what_is_held_keeps_where_it_came_from(orders):
    """A replayed event that a hook keeps for later and then gives up is still the one that it was."""
    orders.write("clean.lua", """
        local held = {}
        function process(event) held[#held + 1] = weir.hold(event) end
        function tick()
          for _, event in ipairs(held) do weir.fail(event, "late", "late") end
          held = {}
        end""")
    orders.write("letters.ndjson", letter(1, component="clean", replays=4, source="in", entered='{"n":1,"x":2}',
                                          origin={"name": "topic", "partition": 3, "offset": 70}),
                 letter(2, component="clean", origin={"name": "client", "item": 5}))
    orders.replay("letters.ndjson", expect=1)
    first, second = orders.dead
    assert (first["replays"], first["source"], first["payload"], json.loads(first["entered"])) == \
        (5, "in", '{"n": 1}', {"n": 1, "x": 2})
    assert first["origin"] == {"name": "topic", "partition": 3, "offset": 70}
    assert (second["replays"], second["origin"]) == (1, {"name": "client", "item": 5})
