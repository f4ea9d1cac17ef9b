# SPDX-License-Identifier: Apache-2.0
"""`weir replay`: which dead letters are taken, where they may enter, what is refused."""
import json

import pytest

from replay_rig import Replays, kinds, letter

PIPELINE = """\
name: orders
sources:
  a: {type: file, path: a.ndjson}
  b: {type: file, path: b.ndjson}
transforms:
  from_a: {type: lua, inputs: [a], code: "function process(e) e.way = (e.way or '') .. 'a' return e end"}
  from_b: {type: lua, inputs: [b], code: "function process(e) e.way = (e.way or '') .. 'b' return e end"}
  both: {type: lua, inputs: [from_a, from_b], code: "function process(e) e.way = (e.way or '') .. 'x' return e end"}
sinks:
  out: {type: file, inputs: [both], path: out.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
"""


@pytest.fixture
def orders(weir):
    r = Replays(weir)
    r.write("p.yaml", PIPELINE)
    return r


def ways(r):
    return [(e["n"], e.get("way")) for e in r.out]


# ---- filters -----------------------------------------------------------------------------------

MANY = [letter(1, component="both", code="x", last_time="2026-01-31T10:00:00Z"),
        letter(2, component="out", code="x", last_time="2026-01-31T11:00:00Z"),
        letter(3, component="out", code="y", last_time="2026-01-31T12:00:00Z"),
        letter(4, component="from_a", code="z", last_time="2026-01-31T13:00:00Z"),
        letter(5, component="out", code="x", last_time=None)]


@pytest.mark.parametrize("options, taken", [
    (["--component", "out"], [2, 3, 5]),
    (["--component", "out", "--component", "both"], [1, 2, 3, 5]),
    (["--code", "x"], [1, 2, 5]),
    (["--code=x", "--component=out"], [2, 5]),
    (["--code", "y", "--code", "z"], [3, 4]),
    (["--since", "2026-01-31T11:00:00Z"], [2, 3, 4]),
    (["--until", "2026-01-31T12:00:00+00:00"], [1, 2, 5]),
    (["--since", "2026-01-31T11:00:00Z", "--until", "2026-01-31T13:00:00Z"], [2, 3]),
    (["--since", "10s"], []),
    (["--until", "20000d"], [5]),
    (["--component", "nobody"], []),
    (["--limit", "2"], [1, 2]),
    (["--limit", "2", "--component", "out"], [2, 3]),
    (["--limit", "100"], [1, 2, 3, 4, 5]),
])
def test_filters(orders, options, taken):
    orders.write("dead.ndjson", *MANY)
    dry = orders.replay("dead.ndjson", "--dry-run", *options)
    assert orders.out == [] and dry["replayed"] == len(taken) and dry["dry_run"]
    report = orders.replay("dead.ndjson", *options)
    assert sorted(e["n"] for e in orders.out) == taken
    assert report["replayed"] == len(taken) == dry["replayed"]
    assert sum(k.get("delivered", 0) for k in kinds(report).values()) == len(taken)


def test_what_a_filter_left_out_is_not_behind_the_position(orders):
    """The position stays in front of the first that was left out; a later run finds it."""
    orders.write("dead.ndjson", *MANY)
    orders.replay("dead.ndjson", "--component", "both")
    assert orders.replay("dead.ndjson", "--dry-run")["read"] == 4
    orders.replay("dead.ndjson", "--code", "y")
    report = orders.replay("dead.ndjson")
    assert report["read"] == 4 and sorted(e["n"] for e in orders.out) == [1, 2, 3, 3, 4, 5]
    assert orders.replay("dead.ndjson")["read"] == 0


def test_limits_go_on_where_the_last_ended(orders):
    orders.write("dead.ndjson", *(letter(n) for n in range(2000)))
    for i in range(4):
        assert orders.replay("dead.ndjson", "--limit", "500")["replayed"] == 500
        assert [e["n"] for e in orders.out] == list(range(500 * (i + 1)))
    assert orders.replay("dead.ndjson", "--limit", "500")["read"] == 0


def test_a_dry_run_leaves_nothing_behind(orders):
    orders.write("dead.ndjson", *MANY)
    before = {p.name for p in orders.folder.iterdir()}
    for _ in range(2):
        report = orders.replay("dead.ndjson", "--dry-run")
        assert report["read"] == 5 and report["replayed"] == 5
        assert {k["component"]: k["at"] for k in report["kinds"]} == {"both": "both", "out": "out", "from_a": "from_a"}
    assert {p.name for p in orders.folder.iterdir()} == before
    orders.replay("dead.ndjson", "--limit", "3")
    assert orders.replay("dead.ndjson", "--dry-run")["read"] == 2
    assert orders.replay("dead.ndjson", "--dry-run", "--again")["read"] == 5
    assert orders.replay("dead.ndjson")["read"] == 2


# ---- ways in -----------------------------------------------------------------------------------

def test_each_enters_at_its_component(orders):
    orders.write("dead.ndjson", letter(1, component="from_a"), letter(2, component="from_b"), letter(3, component="both"),
                 letter(4, component="out"))
    orders.replay("dead.ndjson")
    assert sorted(ways(orders)) == [(1, "ax"), (2, "bx"), (3, "x"), (4, None)]


def test_at_another_component(orders):
    orders.write("dead.ndjson", letter(1, component="gone"), letter(2), letter(3, component="both"))
    for at, way in (("from_b", "bx"), ("both", "x"), ("out", None), ("a", "ax")):
        report = orders.replay("dead.ndjson", "--again", "--at", at)
        assert {k["at"] for k in report["kinds"]} == {at}
        assert ways(orders)[-3:] == [(n, way) for n in (1, 2, 3)]


def test_from_the_start(orders):
    """Behind the source that it came from, with what that had given."""
    orders.write("dead.ndjson", letter(1, source="a", entered='{"n":1,"way":"changed"}'), letter(2, source="b"))
    orders.replay("dead.ndjson", "--from-start")
    assert sorted(ways(orders)) == [(1, "ax"), (2, "bx")]
    orders.replay("dead.ndjson", "--again")
    assert sorted(ways(orders)[2:], key=str) == [(1, "changed"), (2, None)]


def test_from_the_start_where_the_source_is_not_known(orders):
    orders.write("dead.ndjson", letter(1, source=None), letter(2, source="gone"), letter(3, source="a"))
    report = orders.replay("dead.ndjson", "--from-start", expect=1)
    assert (report["nowhere"], report["replayed"]) == (2, 1) and ways(orders) == [(3, "ax")]
    assert "say --at ID" in report["kinds"][0]["reason"]
    one = PIPELINE.replace("  b: {type: file, path: b.ndjson}\n", "").replace("inputs: [b]", "inputs: [a]")
    orders.write("p.yaml", one)
    orders.replay("dead.ndjson", "--from-start", "--again")
    assert sorted(n for n, _ in ways(orders)) == [1, 1, 2, 2, 3, 3, 3]


def test_a_dead_letter_says_where_it_came_from(orders):
    orders.write("p.yaml", PIPELINE.replace("function process(e) e.way = (e.way or '') .. 'x' return e end",
                                            "function process(e) error('no') end"))
    orders.write("a.ndjson", {"n": 1})
    orders.write("b.ndjson", {"n": 2})
    orders.weir.run(orders.folder / "p.yaml")
    assert {json.loads(d["payload"])["n"]: d["source"] for d in orders.dead} == {1: "a", 2: "b"}


def test_what_a_source_gave_up_is_not_taken_for_whole(weir):
    """Of a line that was too long the dead letter has the beginning."""
    r = Replays(weir)
    r.write("p.yaml", """\
name: orders
sources: {in: {type: file, path: in.ndjson, max_line: 100B, on_long: reject}}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    r.write("in.ndjson", {"n": 1}, {"long": "x" * 200})
    weir.run(r.folder / "p.yaml")
    for options in ([], ["--from-start"]):
        report = r.replay("dead.ndjson", *options, expect=1)
        assert report["nowhere"] == 1 and "may have kept only a part" in report["kinds"][0]["reason"]
    assert r.replay("dead.ndjson", "--at", "out")["replayed"] == 1
    assert len(r.lines("out.ndjson")) == 2


def test_a_component_that_is_gone(orders):
    """It goes nowhere, is named with its lines, and is found again."""
    orders.write("dead.ndjson", letter(1), *(letter(n, component="gone") for n in (2, 3, 4)), letter(5),
                 letter(6, component="gone"), letter(7, component="dead"))
    for _ in range(2):
        report = orders.replay("dead.ndjson", expect=1)
        assert report["nowhere"] == 5
        assert {k["component"]: k["places"] for k in report["kinds"] if "places" in k} == {
            "gone": "dead.ndjson, lines 2-4 6", "dead": "dead.ndjson, lines 7"}
    assert orders.replay("dead.ndjson", "--component", "gone", "--at", "out")["replayed"] == 4
    assert sorted(n for n, _ in ways(orders)) == [1, 2, 3, 4, 5, 5, 6]


def test_another_pipelines_dead_letters(orders):
    orders.write("dead.ndjson", letter(1), letter(2, pipeline="billing"), letter(3, pipeline="orders "))
    report = orders.replay("dead.ndjson")
    assert report["of_others"] == 2 and [n for n, _ in ways(orders)] == [1]
    report = orders.replay("dead.ndjson", "--pipeline", "billing", "--again")
    assert report["of_others"] == 2 and [n for n, _ in ways(orders)] == [1, 2]


def test_many_kinds_are_bounded(orders):
    orders.write("dead.ndjson", *(letter(n, component=f"c{n}") for n in range(3000)))
    report = orders.replay("dead.ndjson", "--dry-run", expect=1)
    assert report["nowhere"] == 3000 and len(report["kinds"]) == 1000
    assert report["kinds"][-1]["component"] == "(others)" and report["kinds"][-1]["found"] == 2001
    orders.write("dead.ndjson", *("junk" for n in range(3000)))
    report = orders.replay("dead.ndjson", "--dry-run", expect=1)
    assert report["broken"] == 3000 and len(report["text"].splitlines()) == 101
    orders.write("dead.ndjson", *(letter(n, component="gone" if n % 2 else "out") for n in range(3000)))
    report = orders.replay("dead.ndjson", "--dry-run", expect=1)
    assert len(report["kinds"][1]["places"]) < 2200 and report["kinds"][1]["places"].endswith(" ...")


def test_conditions_on_the_way(weir):
    """Routes and filters behind the way in work as ever, ports and all."""
    r = Replays(weir)
    r.write("p.yaml", """\
name: orders
sources: {in: {type: file, path: in.ndjson}}
transforms:
  kinds: {type: route, inputs: [in], routes: {low: event.n < 3, high: event.n < 6}, drop: [other]}
  odd: {type: filter, inputs: [kinds.high], condition: event.n % 2 == 1}
sinks:
  low: {type: file, inputs: [kinds.low], path: low.ndjson}
  high: {type: file, inputs: [odd], path: high.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    r.write("letters.ndjson", *(letter(n, component="kinds") for n in range(1, 8)), letter(9, component="odd"),
            letter(10, component="odd"), letter(11, component="low"))
    report = r.replay("letters.ndjson")
    assert kinds(report) == {("kinds", "rejected"): {"replayed": 7, "delivered": 4, "filtered": 3},
                             ("odd", "rejected"): {"replayed": 2, "delivered": 1, "filtered": 1},
                             ("low", "rejected"): {"replayed": 1, "delivered": 1}}
    assert sorted(e["n"] for e in r.json("low.ndjson")) == [1, 2, 11]
    assert sorted(e["n"] for e in r.json("high.ndjson")) == [3, 5, 9]


# ---- what cannot be ----------------------------------------------------------------------------

@pytest.mark.parametrize("args, why", [
    ([], "PIPELINE [FILE]... is missing"),
    (["p.yaml"], "where are the dead letters"),
    (["p.yaml", "dead.ndjson", "--kafka", "t"], "--kafka and files are both given"),
    (["p.yaml", "dead.ndjson", "--brokers", "h:1"], "--brokers goes with --kafka"),
    (["p.yaml", "dead.ndjson", "--at", "out", "--from-start"], "--at and --from-start are both given"),
    (["p.yaml", "-", "dead.ndjson"], "cannot stand beside files"),
    (["p.yaml", "-", "--again"], "of standard input no position is kept"),
    (["p.yaml", "dead.ndjson", "--limit", "0"], '--limit: "0" is no whole number'),
    (["p.yaml", "dead.ndjson", "--limit", "3x"], '--limit: "3x" is no whole number'),
    (["p.yaml", "dead.ndjson", "--rate", "-1"], '--rate: "-1" is no whole number'),
    (["p.yaml", "dead.ndjson", "--rate", "99999999999999999999"], "is no whole number"),
    (["p.yaml", "dead.ndjson", "--since", "yesterday"], '--since: "yesterday" is no time'),
    (["p.yaml", "dead.ndjson", "--until", "2026-02-30T00:00:00Z"], "is no time"),
    (["p.yaml", "dead.ndjson", "--since", "1h", "--until", "2h"], "--since is not before --until"),
    (["p.yaml", "dead.ndjson", "--dryrun"], 'did you mean "--dry-run"?'),
])
def test_wrong_usage(orders, args, why):
    orders.write("dead.ndjson", letter(1))
    done = orders.weir.command("replay", *args)
    assert done.code == 2 and why in done.err and done.out == "", done
    assert orders.out == []


@pytest.mark.parametrize("args, why", [
    (["p.yaml", "no.ndjson"], "weir replay: no.ndjson: No such file or directory"),
    (["p.yaml", "."], "weir replay: .: it is no regular file"),
    (["none.yaml", "dead.ndjson"], "cannot read the pipeline file"),
    (["bad.yaml", "dead.ndjson"], "error[unknown-type]"),
    (["p.yaml", "dead.ndjson", "--at", "nobody"], 'events cannot enter at "nobody"'),
    (["p.yaml", "dead.ndjson", "--at", "dead"], "expected one of a, b, from_a, from_b, both, out"),
    (["p.yaml", "--kafka", "topic"], "which brokers hold the topic"),
    (["p.yaml", "--kafka", "no topic", "--brokers", "127.0.0.1:1"], "is no topic name"),
    (["p.yaml", "--kafka", "t", "--brokers", "h:x"], "brokers"),
])
def test_what_cannot_run(orders, args, why):
    orders.write("dead.ndjson", letter(1))
    orders.write("bad.yaml", PIPELINE.replace("type: file", "type: fiel"))
    done = orders.weir.command("replay", *args)
    assert done.code == 1 and why in done.err, done
    assert orders.out == []


def test_a_folder_that_cannot_be_written(orders):
    folder = orders.folder / "theirs"
    folder.mkdir()
    orders.write("theirs/dead.ndjson", letter(1))
    state = folder / ".weir-replay-orders.state.lock"
    state.mkdir()  # also root cannot write there
    done = orders.weir.command("replay", "p.yaml", "theirs/dead.ndjson")
    assert done.code == 1 and ".weir-replay-orders.state" in done.err, done
    report = orders.replay("-", stdin=(folder / "dead.ndjson").read_bytes())
    assert report["replayed"] == 1


def test_a_name_with_everything(weir):
    r = Replays(weir)
    r.write("p.yaml", PIPELINE.replace("name: orders", 'name: "a/b ä.%\\"x"'))
    r.write("dead.ndjson", letter(1, pipeline='a/b ä.%"x'))
    r.replay("dead.ndjson")
    assert (r.folder / ".weir-replay-a%2fb%20%c3%a4%2e%25%22x.state").exists()
    assert r.replay("dead.ndjson")["read"] == 0


def test_help_names_each_option(weir):
    text = weir.command("replay", "--help").out
    for option in ("--kafka TOPIC", "--brokers", "--dry-run", "--component ID", "--code CODE", "--since TIME", "--until TIME",
                   "--limit N", "--rate N", "--at ID", "--from-start", "--again", "--pipeline NAME", "Exit codes:"):
        assert option in text
    assert "Send dead letters through their pipeline again." in weir.command("--help").out


def test_a_dry_run_moves_no_position(orders):
    """Not even behind what is no dead letter of this pipeline: the run behind it tells that again."""
    orders.write("dead.ndjson", letter(1))
    orders.replay("dead.ndjson")
    with open(orders.folder / "dead.ndjson", "a") as file:
        file.write("no letter\n" + json.dumps(letter(2, pipeline="other")) + "\n" + json.dumps(letter(3)) + "\n")
    for _ in range(2):
        report = orders.replay("dead.ndjson", "--dry-run", expect=1)
        assert (report["read"], report["broken"], report["of_others"]) == (3, 1, 1)
    report = orders.replay("dead.ndjson", expect=1)
    assert (report["read"], report["broken"], report["of_others"]) == (3, 1, 1)
    assert [e["n"] for e in orders.out] == [1, 3]


def test_from_the_start_of_a_source_that_reads_nothing_into_payloads(orders):
    """A hook had made JSON of it; the source's own payload is opaque again, as the next dead letter says."""
    orders.write("p.yaml", """\
name: orders
sources: {in: {type: file, path: in.txt, codec: raw}}
transforms: {it: {type: lua, inputs: [in], code: "function process(e) error('no') end"}}
sinks:
  out: {type: file, inputs: [it], path: out.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    orders.write("letters.ndjson", letter(1, component="it", payload="plain text", entered='{"text":"plain text"}'))
    orders.replay("letters.ndjson", "--from-start", expect=1)
    assert (orders.dead[0]["payload"], orders.dead[0]["raw"]) == ("plain text", True)
    orders.replay("letters.ndjson", "--again", expect=1)
    assert orders.dead[1]["entered"] == '{"text":"plain text"}' and "raw" not in orders.dead[1]


def test_memory(orders):
    """A buffer on disk is not taken along, nor is its size."""
    orders.write("p.yaml", PIPELINE.replace("path: out.ndjson", "path: out.ndjson, buffer: {type: disk, path: buffer, "
                                                                "size: 10GiB}"))
    orders.write("dead.ndjson", letter(1))
    assert "expected at least 32MiB" in orders.weir.command(
        "replay", orders.folder / "p.yaml", orders.folder / "dead.ndjson", "--memory", "1MiB").err
    assert orders.replay("dead.ndjson", "--memory", "200MiB")["replayed"] == 1
