# SPDX-License-Identifier: Apache-2.0
"""Where the sources file and kafka end and begin: at the end that was there at the start, anew, and with numbers of
lines."""
import gzip
import json

import pytest


def lines(weir, name="out.ndjson"):
    path = weir.folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ndjson(*values):
    return "".join(json.dumps(v) + "\n" for v in values)


# ---- file: what comes while it is read ---------------------------------------------------------

@pytest.mark.parametrize("more", ["", ", state: in.state"])
def test_a_file_that_feeds_itself_comes_to_its_end(weir, more):
    weir.write(ndjson(*({"n": n} for n in range(3000))), "in.ndjson")
    weir.run(f"""\
sources: {{in: {{type: file, path: in.ndjson, grown: leave{more}}}}}
sinks: {{out: {{type: file, inputs: [in], path: in.ndjson, on_reject: stop}}}}
""")
    assert [e["n"] for e in lines(weir, "in.ndjson")] == 2 * list(range(3000))


def test_a_packed_file_ends_where_it_ended(weir):
    (weir.folder / "in.gz").write_bytes(b"".join(gzip.compress(ndjson({"n": n}).encode()) for n in range(500)))
    weir.run("""\
sources: {in: {type: file, path: in.gz, grown: leave}}
sinks: {out: {type: file, inputs: [in], path: in.gz, compression: gzip, on_reject: stop}}
""")
    text = gzip.decompress((weir.folder / "in.gz").read_bytes()).decode()
    assert [json.loads(line)["n"] for line in text.splitlines()] == 2 * list(range(500))


# ---- file: numbers of lines --------------------------------------------------------------------

NUMBERS = """\
sources: {in: {type: file, path: PATH, line_header: line MORE}}
transforms: {number: {type: lua, on_error: stop, inputs: [in], code: "function process(e, m) e.at = m.headers.line return e end"}}
sinks: {out: {type: file, inputs: [number], path: out.ndjson, mode: truncate, on_reject: stop}}
"""


def numbers(weir, path, more="", **options):
    weir.run(NUMBERS.replace("PATH", path).replace("MORE", more), **options)
    return [(e["n"], e["at"]) for e in lines(weir)]


TEXT = '\ufeff{"n":1}\n\n{"n":2}\r\n\r\n\n{"n":3,"long":"' + "x" * 300 + '"}\n{"n":4}\n{"n":5}'


def test_lines_are_counted(weir):
    """From 1 on, with those that make no event; also of what is packed, and of standard input."""
    expected = [(1, "1"), (2, "3"), (4, "7"), (5, "8")]
    weir.write(TEXT, "in.ndjson")
    (weir.folder / "in.gz").write_bytes(gzip.compress(TEXT.encode()))
    more = ", max_line: 200B, on_long: skip"
    assert numbers(weir, "in.ndjson", more) == expected
    assert numbers(weir, "in.gz", more) == expected
    assert numbers(weir, '"-"', more, stdin=TEXT) == expected
    assert numbers(weir, "in.*", more) == expected * 2


@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_counted_over_runs(weir, packed):
    """A run that goes on in the middle knows how many were before."""
    def write(text):
        data = text.encode()
        (weir.folder / "in").write_bytes(gzip.compress(data) if packed else data)

    write("\n" + ndjson({"n": 1}, {"n": 2}))
    assert numbers(weir, "in", ", state: in.state") == [(1, "2"), (2, "3")]
    if packed:
        return  # gzip files are read once
    with (weir.folder / "in").open("a") as file:
        file.write("\n\n" + ndjson({"n": 3}))
    assert numbers(weir, "in", ", state: in.state") == [(3, "6")]


def test_a_long_line_has_its_number(weir):
    weir.write(TEXT, "in.ndjson")
    weir.run("""\
sources: {in: {type: file, path: in.ndjson, line_header: line, max_line: 200B, on_long: reject}}
sinks:
  out: {type: file, inputs: [in], path: out.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    assert [d["headers"] for d in lines(weir, "dead.ndjson")] == [[{"name": "line", "value": "6"}]]


def test_many_lanes_count_nothing(weir):
    weir.write(TEXT, "in.ndjson")
    running = weir.run(NUMBERS.replace("PATH", "in.ndjson").replace("MORE", ", lanes: 2"), expect=1)
    assert "`line_header` needs `lanes: 1`" in running.stderr


# ---- file: anew --------------------------------------------------------------------------------

def test_starting_over(weir):
    """Once a run; another file of the same state keeps its place."""
    weir.write(ndjson({"n": 1}, {"n": 2}), "a.ndjson")
    weir.write(ndjson({"n": 3}), "b.ndjson")
    text = """\
sources: {in: {type: file, path: PATH, state: in.state MORE}}
sinks: {out: {type: file, inputs: [in], path: out.ndjson, mode: truncate, on_reject: stop}}
"""

    def run(path, more=""):
        weir.run(text.replace("PATH", path).replace("MORE", more))
        return [e["n"] for e in lines(weir)]

    assert run("[a.ndjson, b.ndjson]") == [1, 2, 3]
    assert run("[a.ndjson, b.ndjson]") == []
    assert run("[a.ndjson, a.ndjson]", ", start_over: true") == [1, 2]
    assert run("[a.ndjson, b.ndjson]") == []
    weir.write(ndjson({"n": 1}, {"n": 2}, {"n": 4}), "a.ndjson")
    assert run("[a.ndjson, b.ndjson]") == [4]
    assert run("[a.ndjson, b.ndjson]", ", start_over: true") == [1, 2, 4, 3]


@pytest.mark.parametrize("options, at, why", [
    ("follow: true, state: s, grown: leave", "grown", "`follow` is there to read what comes"),
    ("start_over: true", "start_over", "without `state` no position is kept"),
    ("grown: maybe", "grown", "read, leave"),
    ("line_header: ''", "line_header", "empty"),
])
def test_wrong_options(weir, options, at, why):
    text = f"sources: {{in: {{type: file, path: in, {options}}}}}\nsinks: {{out: {{type: blackhole, on_reject: drop}}}}\n"
    checked = weir.check(text, expect=1)
    assert f"sources.in.{at}" in checked.text and why in checked.text


# ---- kafka -------------------------------------------------------------------------------------

def copy(kafka, topic, group, target, more=""):
    return f"""\
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {group}, stop_at_end: true{more}}}
sinks: {{out: {{type: kafka, inputs: [in], brokers: "{kafka.brokers}", topic: {target}, on_reject: stop}}}}
"""


@pytest.mark.sanitize
def test_a_topic_that_feeds_itself_comes_to_its_end(weir, kafka, unique):
    """The end is the one that was there when the partitions were taken on; the next run has the rest."""
    topic, group = kafka.topic(partitions=3), unique("g")
    kafka.produce(topic, [{"n": n} for n in range(5000)])
    for total in (10000, 15000):
        weir.run(copy(kafka, topic, group, topic))
        if total == 10000:
            assert kafka.count(topic) == total
            assert sum(kafka.committed(group, topic).values()) == 5000
    assert kafka.count(topic) == 15000


def test_a_group_that_starts_over(weir, kafka, unique):
    """From the beginning, and from another place; the group keeps where it is then."""
    topic, group, target = kafka.topic(partitions=2), unique("g"), kafka.topic()
    for partition in range(2):
        kafka.produce(topic, [{"n": n} for n in range(50)], partition=partition)
    weir.run(copy(kafka, topic, group, target))
    assert kafka.count(target) == 100
    weir.run(copy(kafka, topic, group, target))
    assert kafka.count(target) == 100
    weir.run(copy(kafka, topic, group, target, ", start_over: true"))
    assert kafka.count(target) == 200
    weir.run(copy(kafka, topic, group, target, ", start_over: true, start: latest"))
    assert kafka.count(target) == 200
    weir.run(copy(kafka, topic, group, target, ", start_over: true, start: offset, start_offset: -10"))
    assert kafka.count(target) == 220
    weir.run(copy(kafka, topic, group, target))
    assert kafka.count(target) == 220
    assert sum(kafka.committed(group, topic).values()) == 100
