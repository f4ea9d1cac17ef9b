# SPDX-License-Identifier: Apache-2.0
"""Types survive the whole way: HTTP -> Lua -> Kafka -> Lua -> MongoDB and Redis; what is broken gets its error and
disturbs nothing else."""
import base64
import json
import struct

import pytest
import requests
from bson import Decimal128

from weirtest import free_port, wait_until

EXACT = {
    "int_max": 9223372036854775807,
    "int_min": -9223372036854775808,
    "uint_max": 18446744073709551615,
    "zero": 0,
    "negative": -1,
    "float": 0.1,
    "float_small": 5e-324,
    "float_large": 1.7976931348623157e308,
    "float_whole": 1.0,
    "null": None,
    "yes": True,
    "no": False,
    "empty_array": [],
    "empty_object": {},
    "nested": {"a": [{"b": [[], {}, [None, {"c": {}}]]}], "": {"deep": [1, [2, [3]]]}},
    "unicode": "grün \u4f60\u597d \U0001f30a \u200d \ufeff",
    "nul": "a\u0000b",
    "controls": "\u0001\u001f\t\n\r\"\\/",
    "dots.and$dollars": {"a.b": 1, "$c": 2},
    "long": "x" * (1 << 20),
}


def edge(kafka, topic, port):
    return f"""
name: edge
sources:
  web: {{type: http, address: '127.0.0.1:{port}', id_field: id}}
transforms:
  touch: {{type: lua, code: "function process(event) event.first = true return event end"}}
sinks:
  out: {{type: kafka, brokers: '{kafka.brokers}', topic: {topic}, on_reject: drop}}
"""


def back(kafka, topic, mongodb, database, redis, group, key):
    return f"""
name: back
sources:
  in: {{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], group: {group}}}
transforms:
  touch: {{type: lua, code: "function process(event) event.second = event.exact.int_max return event end"}}
sinks:
  store: {{type: mongodb, inputs: [touch], uri: '{mongodb.uri}', database: {database}, collection: types}}
  cache:
    type: redis
    inputs: [touch]
    url: {redis.url}
    hash: {{key: "{key}:{{{{ id }}}}", fields: {{exact: "{{{{ exact }}}}", long: "{{{{ exact.long }}}}",
            nul: "{{{{ exact.nul }}}}"}}}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


def same(found, sent):
    """Equal, and of the same type: 1 is not 1.0, and neither is True."""
    if isinstance(sent, dict):
        return isinstance(found, dict) and found.keys() == sent.keys() and \
            all(same(found[k], sent[k]) for k in sent)
    if isinstance(sent, list):
        return isinstance(found, list) and len(found) == len(sent) and \
            all(same(f, s) for f, s in zip(found, sent))
    if isinstance(sent, float):
        return isinstance(found, float) and struct.pack("d", found) == struct.pack("d", sent)
    if isinstance(sent, bool) or sent is None:
        return found is sent
    if isinstance(sent, int) and sent > 2 ** 63 - 1:
        return found == sent or found == Decimal128(str(sent))
    return isinstance(found, type(sent)) and not isinstance(found, bool) and found == sent


def test_types_survive_all_hops(weir, kafka, mongodb, mongo_db, redis, unique):
    topic, port, key = kafka.topic(max_message_bytes=8 << 20), free_port(), unique("k")
    front = weir.start(edge(kafka, topic, port))
    rear = weir.start(back(kafka, topic, mongodb, mongo_db.name, redis, unique("g"), key))
    body = json.dumps({"id": "t1", "exact": EXACT}, ensure_ascii=False)
    answer = requests.post(f"http://127.0.0.1:{port}/events", body.encode(),
                           headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 200, answer.text
    wait_until(lambda: mongo_db.types.count_documents({}) == 1, 30, lambda: rear.report())
    through_kafka = kafka.consume(topic)[0].json
    assert same(through_kafka["exact"], EXACT)
    found = mongo_db.types.find_one({"_id": "t1"})
    assert same(found["exact"], EXACT), [k for k in EXACT if not same(found["exact"].get(k), EXACT[k])]
    assert found["first"] is True and found["second"] == EXACT["int_max"]
    client = redis.client()
    wait_until(lambda: client.exists(f"{key}:t1"), 30, lambda: rear.report())
    assert same(json.loads(client.hget(f"{key}:t1", "exact")), EXACT)
    assert client.hget(f"{key}:t1", "long") == EXACT["long"]
    assert client.hget(f"{key}:t1", "nul") == "a\0b"
    front.stop()
    rear.stop()


BAD = {
    "bad json": (b'{"id":', 400),
    "two values": (b'{"id":1} {"id":2}', 400),
    "invalid utf-8": (b'{"id":"\xff"}', 400),
    "a surrogate alone": (b'{"id":"\\ud800"}', 400),
    "a depth bomb": (b"[" * 200000 + b"]" * 200000, 400),
    "deep object": (b'{"a":' * 500 + b"1" + b"}" * 500, 400),
    "a body too large": (b'{"pad":"' + b"x" * (2 << 20) + b'"}', 413),
    "nothing": (b"", 400),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_broken_disturbs_nothing_else(weir, what):
    body, status = BAD[what]
    port = free_port()
    running = weir.start(f"""
sources: {{web: {{type: http, address: '127.0.0.1:{port}', max_body: 1MiB}}}}
sinks: {{out: {{type: stdout, on_reject: drop}}}}
""")
    session = requests.Session()
    url, json_type = f"http://127.0.0.1:{port}/events", {"content-type": "application/json"}
    assert session.post(url, b'{"n":1}', headers=json_type, timeout=20).status_code == 200
    bad = requests.post(url, body, headers=json_type, timeout=20)
    assert bad.status_code == status, bad.text
    error = bad.json()["error"]
    assert error["code"] and len(error["message"]) > 10
    assert session.post(url, b'{"n":2}', headers=json_type, timeout=20).status_code == 200
    running.stop()
    assert [json.loads(line)["n"] for line in running.stdout.splitlines()] == [1, 2]


def test_broken_messages_in_kafka_go_to_the_dead_letter_alone(weir, kafka, unique):
    topic = kafka.topic()
    values = [b'{"n":0}', b"\xff\xfe", b'{"n":', b'{"n":3}', b"[" * 1000, b'{"n":5}', b"", b'{"n":7}']
    kafka.produce(topic, values)
    weir.run(f"""
sources:
  in: {{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], group: {unique('g')}, stop_at_end: true}}
transforms:
  touch: {{type: lua, code: "function process(event) event.seen = event.n return event end"}}
sinks:
  out: {{type: file, path: out.ndjson}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
""")
    got = [json.loads(line) for line in (weir.folder / "out.ndjson").read_text().splitlines()]
    assert [event["seen"] for event in got] == [0, 3, 5, 7]
    letters = [json.loads(line) for line in (weir.folder / "dead.ndjson").read_text().splitlines()]
    assert {letter["origin"]["offset"] for letter in letters} == {1, 2, 4, 6}
    assert {letter["code"] for letter in letters} == {"bad_json"}
    assert all("JSON" in letter["reason"] for letter in letters)
    kept = {letter["origin"]["offset"]: letter.get("payload", "").encode() if "payload" in letter
            else base64.b64decode(letter["payload_base64"]) for letter in letters}
    assert kept == {i: values[i] for i in (1, 2, 4, 6)}
