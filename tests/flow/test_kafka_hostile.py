# SPDX-License-Identifier: Apache-2.0
"""What others put into topics and files, and what the plugin `kafka` makes of it: a clear error for
that one, and all others pass."""
import json

import confluent_kafka
import pytest

from weirtest import unique_name, wait_until

pytestmark = pytest.mark.sanitize


def dead_letters(kafka):
    return [json.loads(m.value) for m in kafka]


# ---- Source ------------------------------------------------------------------------------------

GOOD = b'{"n": %d}'

# (message, word of the dead letter's reason, None: it passes)
SOURCE = {
    "no json": (b"hello", "json"),
    "half an object": (b'{"n": 1', "json"),
    "bytes that are no UTF-8": (b'{"n": "\xff\xfe"}', "json"),
    "an overlong NUL": (b'{"n": "\xc0\x80"}', "json"),
    "a lone surrogate": (b'{"n": "\\ud800"}', "json"),
    "deep": (b"[" * 100000, "json"),
    "empty": (b"", "json"),
    "NUL bytes": (b"\x00" * 100, "json"),
    "two values": (b'{"n": 1} {"n": 2}', "json"),
    "a comment": (b'/* x */ {"n": 1}', "json"),
    "trailing comma": (b'{"n": 1,}', "json"),
    "not a number": (b'{"n": NaN}', "json"),
    "large": (b'{"x": "' + b"y" * 3_000_000 + b'"}', None),
    "many keys": (b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(50000)) + b"}", None),
    "a number of many digits": (b'{"n": ' + b"9" * 4000 + b"}", None),
    "a tombstone": (None, "json"),
}


@pytest.mark.parametrize("name", SOURCE)
def test_one_hostile_message_stops_no_other(weir, kafka, unique, name):
    value, word = SOURCE[name]
    source, target, dead = kafka.topic(), kafka.topic(max_message_bytes=16 << 20), kafka.topic(max_message_bytes=16 << 20)
    values = [GOOD % 0, value, GOOD % 1, value, GOOD % 2]
    kafka.produce(source, values)
    weir.run(f"""
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{source}], group: {unique("g")}, stop_at_end: true}}
transforms:
  see: {{type: map, inputs: [in], set: {{seen: true}}}}
sinks:
  out: {{type: kafka, inputs: [see], brokers: "{kafka.brokers}", topic: {target}, on_reject: dead_letter}}
  dead: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}, max_message: 15MiB}}
dead_letter: dead
""")
    passed = [m.json for m in kafka.consume(target)]
    good = [v["n"] for v in passed if list(v) == ["n", "seen"] and v["n"] in (0, 1, 2)]
    assert good == [0, 1, 2]
    letters = [m.json for m in kafka.consume(dead)]
    if word is None:
        assert len(passed) == 5 and letters == []
        return
    assert len(passed) == 3 and len(letters) == 2
    for letter in letters:
        assert word in json.dumps(letter).lower()


HEADERS = {
    "a thousand": [(f"h{i}", b"x") for i in range(1000)],
    "repeated": [("same", b"1"), ("same", b"2"), ("same", None), ("same", b"")],
    "binary": [("bin", bytes(range(256)))],
    "with an empty name": [("", b"x")],
    "with a long name": [("n" * 30000, b"x")],
    "large": [("big", b"x" * 500_000)],
    "an id that is none": [("weir-id", b"\xff\x00")],
    "two ids": [("weir-id", b"a"), ("weir-id", b"b")],
    "an id with a line end": [("weir-id", b"a\nb")],
    "names that are no ASCII": [("ä\u202e", b"x")],
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_pass_as_they_are(weir, kafka, unique, name):
    source, target = kafka.topic(), kafka.topic()
    kafka.produce(source, [b"{}", b"{}", b"{}"], headers=lambda i, _: HEADERS[name] if i == 1 else None)
    weir.run(f"""
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{source}], group: {unique("g")}, stop_at_end: true}}
sinks:
  out: {{type: kafka, brokers: "{kafka.brokers}", topic: {target}, on_reject: drop}}
""")
    consumer = kafka._reader(target)
    found = []
    wait_until(lambda: found.extend(m for m in consumer.consume(10, 0.2) if m.error() is None) or len(found) == 3)
    consumer.close()
    ids = [dict(m.headers())["weir-id"].decode() for m in found]
    # Of several ids the last one counts; what cannot be an id is none.
    assert ids == [f"{source}-0-0", "b" if name == "two ids" else f"{source}-0-1", f"{source}-0-2"]
    kept = [h for h in found[1].headers() if h[0] != "weir-id"]
    assert kept == [h for h in HEADERS[name] if h[0] != "weir-id"]


# ---- Sink --------------------------------------------------------------------------------------

# (event, code of the dead letter)
SINK = {
    "topic with a slash": ({"to": "../etc"}, "bad_topic"),
    "topic with a space": ({"to": "a b"}, "bad_topic"),
    "topic with NUL": ({"to": "a\0b"}, "bad_topic"),
    "topic of 300 letters": ({"to": "x" * 300}, "bad_topic"),
    "topic with a line end": ({"to": "a\n"}, "bad_topic"),
    "topic that is no ASCII": ({"to": "ä"}, "bad_topic"),
    "topic from an object": ({"to": {"a": 1}}, "bad_topic"),
    "no topic": ({"other": 1}, "to"),
    "topic null": ({"to": None}, ""),
    "no key": ({"to": "good", "key": "-"}, "no field k"),
    "too large": ({"to": "good", "fill": "x" * 200_000}, "too_large"),
    "a key that is too large": ({"to": "good", "k": "k" * 200_000}, "too_large"),
    "a header that is too large": ({"to": "good", "h": "h" * 200_000}, "too_large"),
}


@pytest.mark.parametrize("name", SINK)
def test_one_hostile_event_stops_no_other(weir, kafka, unique, name):
    event, word = SINK[name]
    stem, dead = unique_name("to"), kafka.topic()
    kafka.topic(name=f"{stem}.good", max_message_bytes=100_000)
    hostile = {"k": "k", "h": "h", **event}
    if hostile.pop("key", None):
        del hostile["k"]
    events = [{"to": "good", "k": "k", "h": "h", "n": n} for n in range(20)]
    events[5:5] = [hostile]
    lines = "".join(json.dumps(e) + "\n" for e in events)
    weir.write(lines, "in.ndjson")
    weir.run(f"""
sources: {{in: {{type: file, path: in.ndjson}}}}
sinks:
  out:
    type: kafka
    brokers: "{kafka.brokers}"
    topic: "{stem}.{{{{ to }}}}"
    key: "{{{{ k }}}}"
    headers: {{h: "{{{{ h }}}}"}}
    retry: {{max: 200ms}}
    compression: none
    on_reject: dead_letter
  dead: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: dead
""")
    assert sorted(m.json["n"] for m in kafka.consume(f"{stem}.good")) == list(range(20))
    letters = kafka.consume(dead)
    assert len(letters) == 1 and word in letters[0].value.decode()


def test_tombstones_compact_their_key(weir, kafka, unique):
    """A value and a tombstone of a key, through source and sink into a compacted topic."""
    source, target = kafka.topic(), kafka.topic(cleanup_policy="compact")
    kafka.produce(source, [b"{}", None, b"", b"{}"], key=lambda i, _: [b"a\x00b", b"a\x00b", b"c", b"\x00"][i])
    weir.run(f"""
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{source}], group: {unique("g")}, stop_at_end: true, codec: raw}}
sinks:
  out: {{type: kafka, brokers: "{kafka.brokers}", topic: {target}, on_reject: drop}}
""")
    got = kafka.consume(target)
    assert [(m.key, m.value) for m in got] == [(b"a\x00b", b"{}"), (b"a\x00b", None), (b"c", b""), (b"\x00", b"{}")]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs_of_other_producers_are_read(weir, kafka, unique, codec):
    source, target = kafka.topic(), kafka.topic(compression_type=codec)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers, "compression.codec": codec,
                                         "linger.ms": 100})
    values = [json.dumps({"n": n, "text": "abc" * 100}).encode() for n in range(2000)]
    for value in values:
        producer.produce(source, value)
    assert producer.flush(30) == 0
    running = weir.run(f"""
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{source}], group: {unique("g")}, stop_at_end: true}}
sinks:
  out: {{type: kafka, brokers: "{kafka.brokers}", topic: {target}, compression: {codec}, linger: 20ms, on_reject: drop}}
""")
    assert [m.value for m in kafka.consume(target)] == values
    assert not running.find_log("", level="error")
