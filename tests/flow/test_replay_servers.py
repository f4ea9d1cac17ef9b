# SPDX-License-Identifier: Apache-2.0
"""Dead letters in Kafka, MongoDB, Redis and at an HTTP server, and the way back from there; what is replayed into
MongoDB and Redis is there once."""
import json

import confluent_kafka
import pytest
from bson import json_util

from http_sink_rig import server  # noqa: F401
from redis_parts import db as redis_db  # noqa: F401
from replay_rig import Replays, kinds, letter


@pytest.fixture
def replays(weir):
    return Replays(weir)


# ---- MongoDB: once, however often --------------------------------------------------------------

def to_mongodb(mongodb, db, options="", transforms="", inputs="[in]", dead="{type: file, path: dead.ndjson}"):
    return f"""\
name: orders
sources: {{in: {{type: file, path: in.ndjson, max_line: 64MiB}}}}
{transforms}
sinks:
  store:
    type: mongodb
    inputs: {inputs}
    uri: "{mongodb.uri}"
    database: {db.name}
    collection: events
    retry: {{initial: 50ms, max: 500ms, attempts: 3}}
{options}
  dead: {dead}
dead_letter: dead
shutdown_timeout: 10s
"""


def stored(db):
    return {doc["_id"]: doc for doc in db.events.find()}


@pytest.mark.parametrize("mode", ["insert", "replace"])
def test_a_mended_store_has_each_event_once(replays, mongodb, mongo_db, mode):
    """A unique index refuses some; without it they enter again. Twice changes nothing."""
    options = f"    mode: {mode}\n"
    replays.write("p.yaml", to_mongodb(mongodb, mongo_db, options))
    mongo_db.events.create_index("user", unique=True)
    replays.write("in.ndjson", *({"n": n, "user": n // 2} for n in range(10)))
    replays.weir.run(replays.folder / "p.yaml")
    assert len(stored(mongo_db)) == 5 and [d["code"] for d in replays.dead] == ["duplicate_key"] * 5
    assert kinds(replays.replay("dead.ndjson", expect=1)) == {("store", "duplicate_key"): {"replayed": 5, "failed_again": 5}}
    mongo_db.events.drop_index("user_1")
    assert kinds(replays.replay("dead.ndjson")) == {("store", "duplicate_key"): {"replayed": 5, "delivered": 5}}
    once = stored(mongo_db)
    assert sorted(doc["n"] for doc in once.values()) == list(range(10))
    assert {d["id"] for d in replays.dead} < set(once)
    assert kinds(replays.replay("dead.ndjson", "--again")) == {("store", "duplicate_key"): {"replayed": 10, "delivered": 10}}
    assert stored(mongo_db) == once


def test_documents_that_cannot_be(replays, mongodb, mongo_db):
    """Too large, and a date that is none: they enter in front of a new transform that mends them."""
    date = "    types: {at: date}\n"
    replays.write("p.yaml", to_mongodb(mongodb, mongo_db, date))
    replays.write("in.ndjson", {"n": 1, "at": "2026-01-31T12:00:00Z"}, {"n": 2, "at": "yesterday"},
                  {"n": 3, "fill": "x" * (17 << 20)})
    replays.weir.run(replays.folder / "p.yaml")
    dead = {json.loads(d["payload"])["n"]: d["code"] for d in replays.dead}
    assert set(dead) == {2, 3} and dead[3] == "too_large" and len(stored(mongo_db)) == 1
    replays.write("p.yaml", to_mongodb(mongodb, mongo_db, date, inputs="[mend]", transforms="""\
transforms:
  mend:
    type: lua
    code: |
      function process(event)
        if event.at == "yesterday" then event.at = nil end
        if event.fill and #event.fill > 1000 then event.fill = "cut" end
        return event
      end
"""))
    for again in ([], ["--again"]):
        assert replays.replay("dead.ndjson", "--at", "mend", *again)["replayed"] == 2
        docs = {doc["n"]: doc for doc in stored(mongo_db).values()}
        assert len(stored(mongo_db)) == 3 and docs[3]["fill"] == "cut" and "at" not in docs[2]


def test_dead_letters_in_mongodb(replays, mongodb, mongo_db):
    """One document a failure, also where two sinks gave up on the same event, and back by an export."""
    replays.write("p.yaml", f"""\
name: orders
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  a: {{type: lua, inputs: [in], script: a.lua}}
  b: {{type: lua, inputs: [in], script: b.lua}}
sinks:
  out: {{type: file, inputs: [a, b], path: out.ndjson}}
  dead: {{type: mongodb, uri: "{mongodb.uri}", database: {mongo_db.name}, collection: dead}}
dead_letter: dead
""")
    for name in "ab":
        replays.write(f"{name}.lua", f"function process(event, meta) meta.headers.h = '1' error('no {name}') end")
    replays.write("in.ndjson", {"n": 1}, {"n": 2})
    replays.weir.run(replays.folder / "p.yaml")
    docs = list(mongo_db.dead.find())
    assert sorted((json.loads(d["payload"])["n"], d["component"]) for d in docs) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    replays.write("export.ndjson", *(json_util.dumps(d) for d in docs))
    replays.replay("export.ndjson", expect=1)
    assert mongo_db.dead.count_documents({}) == 8 and mongo_db.dead.count_documents({"replays": 1}) == 4
    for name in "ab":
        replays.write(f"{name}.lua", f"function process(event) event.by = '{name}' return event end")
    replays.replay("-", stdin=b"".join(json_util.dumps(d).encode() + b"\n" for d in mongo_db.dead.find({"replays": 1})))
    assert sorted((e["n"], e["by"]) for e in replays.out) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


# ---- Redis -------------------------------------------------------------------------------------

def test_redis_commands_and_dead_letters_in_a_list(replays, redis_db):
    """A key that cannot be made; it enters at that sink alone. SET twice is SET once."""
    text = f"""\
name: orders
sources: {{in: {{type: file, path: in.ndjson}}}}
sinks:
  last: {{type: redis, inputs: [in], url: "{redis_db.url}", command: [SET, "r:last:KEY", "{{{{ n }}}}"]}}
  all: {{type: file, inputs: [in], path: out.ndjson}}
  dead: {{type: redis, url: "{redis_db.url}", list: {{key: "r:dead"}}}}
dead_letter: dead
"""
    replays.write("p.yaml", text.replace("KEY", "{{ user }}"))
    replays.write("in.ndjson", {"n": 1, "user": "a"}, {"n": 2}, {"n": 3, "user": None})
    replays.weir.run(replays.folder / "p.yaml")
    dead = redis_db.lrange("r:dead", 0, -1)
    assert {json.loads(d)["component"] for d in dead} == {"last"} and len(replays.out) == 3
    replays.write("p.yaml", text.replace("KEY", "{{ user | nobody }}"))
    for _ in range(2):
        report = replays.replay("-", stdin="\n".join(dead))
        assert report["replayed"] == len(dead) and report["kinds"][0]["at"] == "last"
        keys = {key: redis_db.get(key) for key in redis_db.keys("r:last:*")}
        assert keys == {"r:last:a": "1", "r:last:nobody": "3"}
    assert len(replays.out) == 3 and redis_db.llen("r:dead") == len(dead)


# ---- HTTP --------------------------------------------------------------------------------------

def test_dead_letters_by_http(replays, server):  # noqa: F811
    s = server()
    replays.write("p.yaml", f"""\
name: orders
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms: {{hook: {{type: lua, inputs: [in], script: hook.lua}}}}
sinks:
  out: {{type: file, inputs: [hook], path: out.ndjson}}
  dead: {{type: http, url: "{s.url}"}}
dead_letter: dead
""")
    replays.write("hook.lua", "function process(event) if event.n > 1 then error('no') end return event end")
    replays.write("in.ndjson", *({"n": n} for n in range(5)))
    replays.weir.run(replays.folder / "p.yaml")
    kept = s.events()
    assert [json.loads(d["payload"])["n"] for d in kept] == [2, 3, 4]
    replays.write("dead.ndjson", *kept)
    replays.write("hook.lua", "function process(event) return event end")
    assert replays.replay("dead.ndjson")["replayed"] == 3
    assert [e["n"] for e in replays.out] == [0, 1, 2, 3, 4]


# ---- Kafka -------------------------------------------------------------------------------------

def from_kafka(kafka, name, source, target, dead, codec="json"):
    return f"""\
name: {name}
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{source}], group: {name}, stop_at_end: true, codec: {codec}}}
transforms: {{hook: {{type: lua, inputs: [in], script: hook.lua}}}}
sinks:
  out: {{type: kafka, inputs: [hook], brokers: "{kafka.brokers}", topic: {target}}}
  dead: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}, rdkafka: {{batch.size: 100000}}}}
dead_letter: dead
"""


@pytest.fixture
def topics(kafka):
    return kafka.topic(partitions=3), kafka.topic(), kafka.topic(partitions=3)


@pytest.mark.sanitize
def test_a_topic_of_dead_letters(replays, kafka, topics, unique):
    """Read with the settings of the dead-letter sink; the group keeps how far it came."""
    source, target, dead = topics
    name = unique("p")
    group = f"weir-replay-{name}"
    replays.write("p.yaml", from_kafka(kafka, name, source, target, dead))
    replays.write("hook.lua", "function process(event) if event.n % 2 == 0 then error('even') end return event end")
    kafka.produce(source, [{"n": n} for n in range(40)], key=lambda i, _: f"k{i}")
    replays.weir.run(replays.folder / "p.yaml")
    assert kafka.count(dead) == 20
    look = replays.replay("--kafka", dead, "--dry-run")
    assert (look["read"], look["replayed"]) == (20, 20) and not kafka.committed(group, dead)
    # What fails again is not read in the same run.
    assert kinds(replays.replay("--kafka", dead, expect=1)) == {("hook", "lua_error"): {"replayed": 20, "failed_again": 20}}
    assert kafka.count(dead) == 40
    replays.write("hook.lua", "function process(event) event.mended = true return event end")
    assert kinds(replays.replay("--kafka", dead)) == {("hook", "lua_error"): {"replayed": 20, "delivered": 20}}
    assert replays.replay("--kafka", dead)["read"] == 0
    found = kafka.consume(target)
    assert sorted(m.json["n"] for m in found if "mended" in m.json) == list(range(0, 40, 2))
    assert all(m.key == f"k{m.json['n']}".encode() for m in found)
    ids = {m.json["n"]: m.headers["weir-id"].decode() for m in found}
    assert all(i.startswith(source + "-") for i in ids.values()) and len(set(ids.values())) == 40
    # Anew: all that the topic holds. A dry run of that sets nothing back.
    assert replays.replay("--kafka", dead, "--again", "--dry-run")["read"] == 40
    assert replays.replay("--kafka", dead)["read"] == 0
    assert replays.replay("--kafka", dead, "--again")["read"] == 40
    assert replays.replay("--kafka", dead)["read"] == 0


def test_offsets_are_not_behind_what_was_left_out(replays, kafka, topics, unique):
    _, target, _ = topics
    dead, name = kafka.topic(), unique("p")
    replays.write("p.yaml", from_kafka(kafka, name, kafka.topic(), target, dead))
    replays.write("hook.lua", "function process(event) return event end")
    kafka.produce(dead, [letter(1, pipeline=name), "junk", letter(2, pipeline="other"), letter(3, pipeline=name, code="x"),
                         letter(4, pipeline=name, component="gone"), letter(5, pipeline=name), None])
    report = replays.replay("--kafka", dead, "--code", "rejected", expect=1)
    assert (report["replayed"], report["left_out"], report["nowhere"], report["of_others"], report["broken"]) == (2, 1, 1, 1, 2)
    assert f"weir replay: {dead}[0], offset 1: no dead letter: bad JSON" in report["text"]
    assert {k["places"] for k in report["kinds"] if "places" in k} == {f"{dead}[0], offsets 4"}
    report = replays.replay("--kafka", dead, "--limit", "1")
    assert (report["replayed"], report["of_others"], report["broken"]) == (1, 0, 0)
    report = replays.replay("--kafka", dead, "--component", "gone", "--at", "out", expect=1)
    assert report["replayed"] == 1
    assert sorted(m.json["n"] for m in kafka.consume(target)) == [1, 3, 4, 5]


def test_tombstones_and_headers(replays, kafka, topics, unique):
    """A message without a value, bytes for a key, a header twice: the message that was sent is the one that comes."""
    source, target, dead = topics
    name = unique("p")
    replays.write("p.yaml", from_kafka(kafka, name, source, target, dead, codec="raw"))
    replays.write("hook.lua", "function process(event) error('no') end")
    headers = [("h", b"1"), ("h", b"2"), ("", b"\xff\x00"), ("null", None)]
    sent = [(None, b"\xff\x00k"), (b"", b""), (b"\x00\xff", None), (b"{}", b"k")]
    for value, key in sent:
        kafka.produce(source, [value], key=key, headers=headers, partition=0)
    replays.weir.run(replays.folder / "p.yaml")
    assert [m.json.get("tombstone") for m in kafka.consume(dead, 4)].count(True) == 1
    replays.write("hook.lua", "function process(event) return event end")
    assert replays.replay("--kafka", dead)["replayed"] == 4
    consumer = kafka._reader(target)
    found = []
    while len(found) < 4:
        found += [m for m in consumer.consume(10, 1) if m.error() is None]
    consumer.close()
    assert sorted(((m.value(), m.key()) for m in found), key=str) == sorted(sent, key=str)
    for m in found:
        assert [h for h in m.headers() if h[0] != "weir-id"] == headers


def test_hooks_see_dead_letters(replays, kafka, topics, unique):
    """Another pipeline reads the topic: an envelope is an object like others, to look at and to route."""
    source, target, dead = topics
    name = unique("p")
    replays.write("p.yaml", from_kafka(kafka, name, source, target, dead))
    replays.write("hook.lua", """
        function process(event)
          if event.user == nil then return weir.fail(event, "nobody", "no_user") end
          if event.n == 2 then error("two") end
          return event
        end""")
    kafka.produce(source, [{"n": 0, "user": 1}, {"n": 1}, {"n": 2, "user": 1}, {"n": 3}])
    replays.weir.run(replays.folder / "p.yaml")
    replays.weir.run(f"""\
name: watch
sources: {{dead: {{type: kafka, brokers: "{kafka.brokers}", topics: [{dead}], group: {unique("w")}, stop_at_end: true}}}}
transforms:
  known: {{type: route, inputs: [dead], on_error: stop, routes: {{users: event.code == "no_user"}}}}
  line:
    type: lua
    inputs: [known.users]
    on_error: stop
    code: |
      function process(event)
        return {{n = weir.json.decode(event.payload).n, why = event.reason, at = event.component}}
      end
sinks:
  users: {{type: file, inputs: [line], path: users.ndjson, on_reject: stop}}
  rest: {{type: file, inputs: [known.other], path: rest.ndjson, on_reject: stop}}
""")
    assert sorted(e["n"] for e in replays.json("users.ndjson")) == [1, 3]
    assert {(e["why"], e["at"]) for e in replays.json("users.ndjson")} == {("nobody", "hook")}
    assert [e["code"] for e in replays.json("rest.ndjson")] == ["lua_error"]
    assert replays.replay("--kafka", dead, "--code", "no_user", "--dry-run")["replayed"] == 2


def test_brokers_of_ones_own(replays, kafka, topics, unique):
    """Where no dead-letter sink says which, or several do."""
    source, target, dead = topics
    name = unique("p")
    text = from_kafka(kafka, name, source, target, dead)
    replays.write("hook.lua", "function process(event) return event end")
    kafka.produce(dead, [letter(1, pipeline=name)])
    replays.write("p.yaml", text.replace(f"topic: {dead}, rdkafka", f"topic: {kafka.topic()}, rdkafka"))
    assert replays.replay("--kafka", dead, "--dry-run")["read"] == 1
    file = text[:text.index("  dead:")] + "  dead: {type: file, path: dead.ndjson}\ndead_letter: dead\n"
    replays.write("p.yaml", file)
    done = replays.weir.command("replay", "p.yaml", "--kafka", dead)
    assert done.code == 1 and "which brokers hold the topic" in done.err
    assert replays.replay("--kafka", dead, "--brokers", kafka.brokers)["replayed"] == 1
    assert [m.json["n"] for m in kafka.consume(target)] == [1]


def test_no_secret_is_told(replays, kafka, topics, unique):
    """Settings of the dead-letter sink are read again; what is wrong with them is told without them."""
    _, target, dead = topics
    text = from_kafka(kafka, unique("p"), kafka.topic(), target, dead)
    text = text.replace("rdkafka: {batch.size: 100000}",
                        "sasl: {mechanism: PLAIN, user: u, password: '${env:CANARY}'}, rdkafka: {fetch.wait.max.ms: none}")
    replays.write("p.yaml", text)
    replays.write("hook.lua", "function process(event) return event end")
    done = replays.weir.command("replay", "p.yaml", "--kafka", dead, env={"CANARY": "canary-7f3a"})
    assert done.code == 1 and "fetch.wait.max.ms" in done.err and "canary" not in done.text, done
