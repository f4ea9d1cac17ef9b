# SPDX-License-Identifier: Apache-2.0
"""The transform dedupe, with keys in memory, under real sources and sinks. What waits when, and the bounds
of memory, have unit tests."""
import threading
import time

import pytest

from dedupe_rig import Web, duplicates, kafka_source, pipeline, read
from redis_parts import HOSTILE_EVENTS, db, lines  # noqa: F401
from weirtest import wait_until


def test_lines_of_a_file(weir):
    events = [{"k": n % 1000, "n": n} for n in range(10000)]
    weir.write(lines(events), "in.ndjson")
    weir.run(pipeline("type: dedupe, key: '{{ k }}'"))
    assert read(weir) == events[:1000]


def test_its_memory_is_one_of_the_shares_of_the_process(weir):
    weir.write("", "in.ndjson")
    checked = weir.command("check", weir.write(pipeline("type: dedupe, memory: 200MiB")), "--memory", "96MiB")
    assert checked.code == 1 and "at transforms.d.memory" in checked.text, checked
    assert "transforms.d.memory 200MiB = 200.0 MiB" in checked.text
    r = weir.run(pipeline("type: dedupe"), args=["--memory", "96MiB"])
    assert "transforms.d.memory 128MiB -> " in r.find_log("defaults are lowered")[0]["lowered"]


def test_what_a_client_sends_again(weir):
    web = Web()
    r = weir.start(pipeline("type: dedupe", web.source))
    assert web.post({"n": 1}, "order-1").json() == {"accepted": 1}
    again = web.post({"n": 1}, "order-1")
    assert again.status_code == 200
    assert again.json()["items"] == [{"item": 0, "status": "filtered", "component": "d", "code": "duplicate"}]
    assert web.post({"n": 2}, "order-2").json() == {"accepted": 1}
    assert web.post({"n": 3}).json() == {"accepted": 1}
    assert web.post({"n": 4}).json() == {"accepted": 1}
    assert [event["n"] for event in read(weir)] == [1, 2, 3, 4]
    assert duplicates(r) == 1
    wait_until(lambda: r.metric("weir_dedupe_keys") == 4, 10)
    r.stop()


@pytest.mark.sanitize
def test_a_retry_of_what_is_on_its_way_waits_for_it(weir, own_redis):
    server = own_redis()
    web = Web()
    r = weir.start(pipeline("type: dedupe", web.source, f"type: redis, url: '{server.url}', command: [RPUSH, l, "
                            "'{{ n }}'], retry: {initial: 50ms, max: 100ms}, timeout: 1s"))
    server.pause()
    answers = []
    threads = [threading.Thread(target=lambda key=key: answers.append(web.post({"n": key}, key)))
               for key in ["a", "b"] * 5]
    for thread in threads:
        thread.start()
    wait_until(lambda: r.metric("weir_held_events", component="d") == 8, 20)
    time.sleep(0.3)
    assert answers == []
    server.resume()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 10
    assert sum("items" in answer.json() for answer in answers) == 8
    assert sorted(set(server.client().lrange("l", 0, -1))) == ["a", "b"]
    assert duplicates(r) == 8 and r.metric("weir_held_events", component="d") == 0
    r.stop()


def test_an_event_that_failed_is_not_remembered(weir, db):
    web = Web()
    db.set("l", "no list")
    r = weir.start(pipeline("type: dedupe", web.source,
                            f"type: redis, url: '{db.url}', command: [RPUSH, l, '{{{{ n }}}}']"))
    for _ in range(3):
        answer = web.post({"n": 1}, "x")
        assert answer.status_code == 202 and answer.json()["items"][0]["status"] == "dead_lettered"
    db.delete("l")
    assert web.post({"n": 2}, "x").json() == {"accepted": 1}
    assert web.post({"n": 3}, "x").json()["items"][0]["code"] == "duplicate"
    assert db.lrange("l", 0, -1) == ["2"] and len(read(weir, "dead.ndjson")) == 3
    r.stop()


@pytest.mark.sanitize
def test_topics_with_copies_in_all_lanes(weir, kafka):
    topic = kafka.topic(partitions=4)
    n, copies = 2000, 5
    ids = [i % n for i in range(n * copies)]
    kafka.produce(topic, [{"id": i} for i in ids], partition=None, key=lambda at, v: str(at),
                  headers=lambda at, v: [("weir-id", f"id-{v['id']}".encode())])
    r = weir.start(pipeline("type: dedupe, held: 100", kafka_source(kafka, topic, ", lanes: 3")))
    wait_until(lambda: duplicates(r) == n * (copies - 1), 60)
    r.stop()
    assert sorted(event["id"] for event in read(weir)) == list(range(n))


def test_what_a_rebalance_gives_back(weir, kafka):
    """Another member comes and goes: each event is delivered once by the process that stays."""
    topic = kafka.topic(partitions=4)
    kafka.produce(topic, [{"n": n} for n in range(4000)], key=lambda i, v: str(i))
    text = pipeline("type: dedupe", kafka_source(kafka, topic, ", lanes: 2, commit_interval: 60s"))
    r = weir.start(text)
    wait_until(lambda: len(read(weir)) == 4000, 60)
    other = weir.start(text.replace("out.ndjson", "other.ndjson").replace("dead.ndjson", "other-dead.ndjson"))
    other.wait_ready()
    kafka.produce(topic, [{"n": n} for n in range(4000, 5000)], key=lambda i, v: str(i))

    def numbers():
        return [event["n"] for event in read(weir) + read(weir, "other.ndjson")]

    wait_until(lambda: len(set(numbers())) == 5000, 60)
    other.stop()
    kafka.produce(topic, [{"n": n} for n in range(5000, 6000)], key=lambda i, v: str(i))
    wait_until(lambda: len(set(numbers())) == 6000, 60)
    r.stop()
    mine = [event["n"] for event in read(weir)]
    assert len(mine) == len(set(mine)), "delivered twice by one process"


def test_little_room_holds_nothing_up(weir):
    """Behind it a hook keeps events until its next tick, which is what duplicates and new keys wait for."""
    weir.write(lines([{"k": n // 3, "n": n} for n in range(60)]), "in.ndjson")
    hook = """
local kept = {}
function process(event)
  kept[#kept + 1] = weir.hold(event)
  return nil
end
function tick()
  local out = kept
  kept = {}
  return out
end
"""
    weir.write(hook, "window.lua")
    text = pipeline("type: dedupe, key: '{{ k }}', entries: 5, held: 2").replace(
        "sinks:", "  w: {type: lua, script: window.lua, interval: 100ms, inputs: [d]}\nsinks:").replace(
        "inputs: [d]}\n  dead", "inputs: [w]}\n  dead")
    assert "transforms: {" in text
    text = text.replace("transforms: {d: ", "transforms:\n  d: ").replace("}}\n  w:", "}\n  w:")
    weir.run(text)
    assert [event["k"] for event in read(weir)] == list(range(20))


def test_hostile_events(weir):
    weir.write(lines(HOSTILE_EVENTS + [b'{"k":""}'] + HOSTILE_EVENTS), "in.ndjson")
    weir.run(pipeline("type: dedupe, key: '{{ k }}'"))
    out, dead = read(weir), read(weir, "dead.ndjson")
    assert len(out) == 6 and len(dead) == 2 * (len(HOSTILE_EVENTS) - 6) + 1
    assert {"key_too_long", "missing_field", "bad_json", "empty_key"} <= {d["code"] for d in dead}


def test_memory_is_bounded_under_hostile_keys(weir):
    web = Web()
    r = weir.start(pipeline("type: dedupe, key: '{{ k }}', memory: 1MiB", web.source, "type: blackhole"))
    body = [{"k": "x" * 3900 + str(n)} for n in range(200)]
    for round in range(10):
        for at, event in enumerate(body):
            event["k"] = event["k"][:3900] + f"{round}-{at}"
        assert web.post(body).json() == {"accepted": 200}
    wait_until(lambda: r.metric("weir_dedupe_evicted_keys_total") > 1000, 10)
    assert r.metric("weir_dedupe_bytes") <= 1 << 20
    assert web.post(body).status_code == 200
    r.stop()


@pytest.mark.parametrize("options, says", [
    ("key: ''", "must not be empty"),
    ("key: '{{ id'", "d.key"),
    ("key: the-same", "the same for every event"),
    ("key: '{{ @nothing }}'", "d.key"),
    ("ttl: 0s", "too small"),
    ("ttl: 1us", "d.ttl"),
    ("ttl: 99999d", "too large"),
    ("ttl: 60", 'did you mean 60s'),
    ("entries: 0", "too small"),
    ("entries: many", "wrong type"),
    ("entries: 1.5", "wrong type"),
    ("memory: 1KiB", "too small"),
    ("memory: lots", "d.memory"),
    ("held: 0", "too small"),
    ("held: 9999999", "too large"),
    ("store: redis", "store"),
    ("url: 'redis://127.0.0.1'", "url"),
])
def test_wrong_configurations(weir, options, says):
    checked = weir.check(pipeline("type: dedupe, " + options), expect=1)
    assert says in checked.text, checked.text
    assert ".d" in checked.text and "pipeline-1.yaml:3:" in checked.text
