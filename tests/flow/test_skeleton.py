# SPDX-License-Identifier: Apache-2.0
"""The hard parts together: events over HTTP pass Lua and are answered after Kafka has them; consumers that come
and go store them in MongoDB and Redis while servers are away, one event of ten is refused, and SIGTERM comes
in the middle. Also run with the TSan build."""
import concurrent.futures
import json
import time
import urllib.error
import urllib.request

import pytest

from weirtest import events, free_port, wait_until

HOOK = """
function process(event, meta)
  if event.type == "click" then return nil end
  event.seen = true
  meta.headers.kind = event.type
  return event
end
"""


def post(port, items, timeout=60):
    body = "\n".join(json.dumps(item) for item in items).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/events", body,
                                     {"content-type": "application/x-ndjson"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.sanitize
def test_http_is_answered_after_kafka_has_the_events(weir, own_kafka):
    kafka = own_kafka()
    topic, port = kafka.topic(partitions=3), free_port()
    weir.write(HOOK, "hook.lua")
    running = weir.start(f"""
name: edge
sources:
  web: {{type: http, address: '127.0.0.1:{port}', id_field: id, key: user_id, request_timeout: 60s}}
transforms:
  hook: {{type: lua, script: hook.lua}}
sinks:
  out: {{type: kafka, brokers: '{kafka.brokers}', topic: {topic}, on_reject: drop}}
""")
    sent = events(2000)
    parts = [sent[i:i + 50] for i in range(0, len(sent), 50)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert {status for status, _ in pool.map(lambda part: post(port, part), parts)} == {200}
        # Answered means that Kafka has them: nothing was still on its way.
        assert kafka.count(topic) == sum(e["type"] != "click" for e in sent)
        kafka.pause()
        waiting = pool.submit(post, port, events(10, start=5000))
        time.sleep(2)
        assert not waiting.done()
        kafka.resume()
        assert waiting.result(60)[0] == 200
    got = kafka.consume(topic)
    assert sorted(m.json["id"] for m in got) == sorted(e["id"] for e in sent + events(10, start=5000)
                                                       if e["type"] != "click")
    assert all(m.headers["weir-id"].decode() == m.json["id"] and m.json["seen"] for m in got)
    assert all(m.headers["kind"].decode() == m.json["type"] for m in got)
    running.stop()


def consumer(kafka, mongodb, redis, topic, group, database, dead):
    return f"""
name: consumer
sources:
  in:
    type: kafka
    brokers: {kafka.brokers}
    topics: [{topic}]
    group: {group}
    lanes: 1
    rdkafka: {{session.timeout.ms: 6000, max.poll.interval.ms: 6000, heartbeat.interval.ms: 1000}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: {mongodb.uri}
    database: {database}
    collection: events
  users:
    type: redis
    inputs: [in]
    url: {redis.url}
    hash: {{key: "user:{{{{ n }}}}", fields: {{id: "{{{{ id }}}}"}}}}
    batch: {{events: 100}}
    buffer: {{size: 1MiB}}
  failed: {{type: kafka, brokers: '{kafka.brokers}', topic: {dead}}}
dead_letter: failed
"""


def rebalances(running):
    return running.metric("weir_kafka_rebalances_total")


@pytest.mark.sanitize
@pytest.mark.timeout(300)
def test_consumers_come_and_go_and_servers_are_away(weir, kafka, own_redis, mongodb, mongo_db, unique):
    redis, group, n = own_redis(), unique("g"), 20000
    topic, dead = kafka.topic(partitions=6), kafka.topic()
    client = redis.client()
    refused = set(range(0, n, 10))
    with client.pipeline(transaction=False) as pipe:
        for i in refused:
            pipe.rpush(f"user:{i}", "not a hash")
        pipe.execute()
    text = consumer(kafka, mongodb, redis, topic, group, mongo_db.name, dead)

    def write(start, stop):
        kafka.produce(topic, [{"id": f"e{i}", "n": i, "pad": "x" * 200} for i in range(start, stop)],
                      key=lambda i, value: str(start + i))

    # A consumer, then a second one that joins and leaves in the middle.
    write(0, n // 2)
    first = weir.start(text)
    first.wait_metric("weir_component_sent_events_total", 100, component="users")
    taken_on = "partitions taken on"
    second = weir.start(text)
    second.wait_log(taken_on, timeout=60)
    wait_until(lambda: len(first.find_log(taken_on)) == 2, 60, "the first one has its new share")
    second.stop()
    wait_until(lambda: len(first.find_log(taken_on)) == 3, 60, "the first one has all again")

    # Redis away for longer than max.poll.interval.ms: no rebalance, the lane goes on polling.
    wait_until(lambda: first.metric("weir_buffer_events") == 0, 60, "everything delivered")
    before = rebalances(first)
    redis.pause()
    write(n // 2, n)
    first.wait_log("sink unavailable, will try again", component="users", timeout=60)
    time.sleep(9)
    assert rebalances(first) == before
    assert not first.find_log("", level="error", component="in")
    assert first.metric("weir_oldest_unacked_seconds") > 6
    redis.resume()

    # SIGTERM in the middle, and a new one that goes on where the first one stopped.
    first.wait_metric("weir_component_sent_events_total", n * 6 // 10, component="store", timeout=90)
    first.stop(timeout=90)
    third = weir.start(text)
    wait_until(lambda: mongo_db.events.count_documents({}) == n, 90,
               lambda: f"{mongo_db.events.count_documents({})} of {n} documents")
    wait_until(lambda: kafka.committed(group, topic) == kafka.ends(topic), 60, "everything committed")
    third.stop()

    assert sorted(doc["n"] for doc in mongo_db.events.find({}, {"n": 1})) == list(range(n))
    with client.pipeline(transaction=False) as pipe:
        for i in range(n):
            pipe.hget(f"user:{i}", "id") if i not in refused else pipe.type(f"user:{i}")
        found = pipe.execute()
    assert all(found[i] in ((b"list", "list") if i in refused else (f"e{i}", f"e{i}".encode()))
               for i in range(n))
    letters = [m.json for m in kafka.consume(dead)]
    assert {json.loads(letter["payload"])["n"] for letter in letters} == refused
    assert {letter["code"] for letter in letters} == {"wrongtype"}
    assert {letter["component"] for letter in letters} == {"users"}
