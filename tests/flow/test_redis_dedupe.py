# SPDX-License-Identifier: Apache-2.0
"""The transform redis_dedupe, with real Redis servers: what several processes and restarts remember."""
import signal
import threading
import time

import pytest

from dedupe_rig import Web, duplicates, kafka_source, pipeline, read
from redis_parts import HOSTILE, HOSTILE_EVENTS, Impostor, cluster, db, lines  # noqa: F401
from test_redis_tls import certificates, tls_redis  # noqa: F401
from weirtest import free_port, wait_until


def dedupe(url, more=""):
    return f"type: redis_dedupe, url: '{url}'" + (", " + more if more else "")


@pytest.mark.sanitize
def test_keys_outlive_the_process(weir, db):
    events = [{"k": n, "n": n} for n in range(3000)]
    weir.write(lines(events), "in.ndjson")
    text = pipeline(dedupe(db.url, "key: '{{ k }}', ttl: 60s"))
    weir.run(text)
    assert read(weir) == events
    keys = db.keys("*")
    assert len(keys) == 3000 and "weir:dedupe:dedupe:d:17" in keys, "the last ones are written at the end, too"
    assert 50_000 < db.pttl("weir:dedupe:dedupe:d:17") <= 60_000
    weir.write(lines(events + [{"k": "new"}]), "in.ndjson")
    weir.run(text)
    assert read(weir) == events + [{"k": "new"}]


def test_the_prefix_keeps_apart_and_brings_together(weir, db):
    weir.write(lines([{"k": 1}]), "in.ndjson")
    for n, (name, prefix) in enumerate([("one", ""), ("two", ""), ("three", ", prefix: 'p:'"),
                                        ("four", ", prefix: 'p:'")]):
        weir.run(pipeline(dedupe(db.url, "key: '{{ k }}'" + prefix), name=name))
        assert len(read(weir)) == min(n + 1, 3)
    assert sorted(db.keys("*")) == ["p:1", "weir:dedupe:one:d:1", "weir:dedupe:two:d:1"]


def test_keys_end(weir, db):
    web = Web()
    r = weir.start(pipeline(dedupe(db.url, "ttl: 600ms"), web.source))
    assert web.post({"n": 1}, "x").json() == {"accepted": 1}
    wait_until(lambda: db.keys("*") == ["weir:dedupe:dedupe:d:x/0"], 10)
    wait_until(lambda: db.keys("*") == [], 10)
    assert web.post({"n": 2}, "x").json() == {"accepted": 1}
    assert r.metric("weir_dedupe_lookups_total") == 2
    r.stop()


@pytest.mark.sanitize
def test_nothing_is_looked_up_or_passes_twice_in_one_process(weir, own_redis):
    server = own_redis()
    n, copies = 3000, 4
    weir.write(lines([{"k": i % n} for i in range(n * copies)]), "in.ndjson")
    weir.run(pipeline(dedupe(server.url, "key: '{{ k }}', held: 500")))
    assert sorted(event["k"] for event in read(weir)) == list(range(n))
    stats = server.client().info("commandstats")
    assert stats["cmdstat_set"]["calls"] == n
    assert n <= stats["cmdstat_get"]["calls"] <= n * copies


@pytest.mark.sanitize
def test_two_processes_know_of_each_other_what_has_ended(weir, db, kafka):
    topic = kafka.topic(partitions=2)
    ids = list(range(2000))
    for partition in (0, 1):
        kafka.produce(topic, [{"id": i} for i in ids], partition=partition,
                      headers=lambda at, v: [("weir-id", f"id-{v['id']}".encode())])
    source = kafka_source(kafka, topic).replace(f"group: {topic}", "group: GROUP")
    a = weir.start(pipeline(dedupe(db.url), source.replace("GROUP", topic + "-a")))
    wait_until(lambda: duplicates(a) == 2000, 60)
    assert a.metric("weir_dedupe_races_total") == 0
    wait_until(lambda: len(db.keys("*")) == 2000, 30)
    b = weir.start(pipeline(dedupe(db.url), source.replace("GROUP", topic + "-b"),
                            "type: file, path: other.ndjson").replace("dead.ndjson", "other-dead.ndjson"))
    wait_until(lambda: duplicates(b) == 4000, 60)
    assert read(weir, "other.ndjson") == []
    a.stop()
    b.stop()
    assert sorted(event["id"] for event in read(weir)) == ids


def test_a_race_of_two_processes_is_counted(weir, db, kafka):
    """Both read the same at the same time: what passes twice is what is counted as a race."""
    topic = kafka.topic(partitions=1)
    source = kafka_source(kafka, topic).replace(f"group: {topic}", "group: GROUP")
    running = [weir.start(pipeline(dedupe(db.url), source.replace("GROUP", f"{topic}-{n}"),
                                   f"type: file, path: out-{n}.ndjson").replace("dead.", f"dead-{n}."))
               for n in range(2)]
    total = 3000
    for begin in range(0, total, 100):
        kafka.produce(topic, [{"id": i} for i in range(begin, begin + 100)],
                      headers=lambda at, v: [("weir-id", f"id-{v['id']}".encode())])
    for r in running:
        wait_until(lambda: r.metric("weir_component_received_events_total", component="d") == total, 60)
    for r in running:
        wait_until(lambda: r.metric("weir_dedupe_keys") == 0 and r.metric("weir_held_events", component="d") == 0, 30)
    both = [[event["id"] for event in read(weir, f"out-{n}.ndjson")] for n in range(2)]
    assert set(both[0] + both[1]) == set(range(total)), "nothing is lost"
    twice = len(both[0]) + len(both[1]) - total
    assert sum(r.metric("weir_dedupe_races_total") for r in running) == twice
    for r in running:
        r.stop()


@pytest.mark.long(15)
@pytest.mark.sanitize
def test_killed_and_started_again(weir, db, kafka):
    topic = kafka.topic(partitions=2)
    n = 20000
    kafka.produce(topic, [{"id": i} for i in range(n)], key=lambda i, v: str(i))
    text = pipeline(dedupe(db.url), kafka_source(kafka, topic, ", commit_interval: 60s, rdkafka: {session.timeout.ms: 6000}"),
                    f"type: redis, url: '{db.url}', command: [HINCRBY, counts, '{{{{ id }}}}', '1'], in_flight: 1, "
                    "batch: {events: 100}")
    r = weir.start(text)
    wait_until(lambda: r.metric("weir_component_sent_events_total", component="out") > 6000, 60)
    r.kill()
    done = db.hlen("counts")
    r = weir.start(text)
    wait_until(lambda: db.hlen("counts") == n, 90)

    def twice():
        return sum(int(count) - 1 for count in db.hvals("counts"))

    wait_until(lambda: duplicates(r) + twice() >= done - 1000, 30)  # but what the first commit was for
    assert duplicates(r) > 2000, "what was done before is filtered, though its offset was not committed"
    assert twice() <= 3000, "more than was on its way came twice"
    r.stop()


def test_redis_is_away_and_comes_back(weir, own_redis):
    server = own_redis("--appendonly", "yes")
    web = Web()
    r = weir.start(pipeline(dedupe(server.url, "timeout: 300ms"), web.source))
    assert web.post({"n": 1}, "a").json() == {"accepted": 1}
    wait_until(lambda: server.client().keys("*") != [], 10)
    server.kill()
    answers = []
    thread = threading.Thread(target=lambda: answers.append([web.post({"n": 2}, "a"), web.post({"n": 3}, "b")]))
    thread.start()
    wait_until(lambda: r.find_log("redis does not answer"), 20)
    time.sleep(0.5)
    assert answers == [] and [event["n"] for event in read(weir)] == [1]
    server.start()
    thread.join()
    assert answers[0][0].json()["items"][0]["code"] == "duplicate"
    assert answers[0][1].json() == {"accepted": 1}
    assert [event["n"] for event in read(weir)] == [1, 3]
    r.stop()


def test_redis_is_away_and_the_user_let_events_pass(weir):
    web = Web()
    r = weir.start(pipeline(dedupe(f"redis://127.0.0.1:{free_port()}", "on_unavailable: pass, timeout: 300ms"),
                            web.source))
    assert web.post({"n": 1}, "a").json() == {"accepted": 1}
    wait_until(lambda: r.metric("weir_dedupe_unwritten_total") == 1, 20)
    assert web.post({"n": 2}, "a").json() == {"accepted": 1}
    assert r.metric("weir_dedupe_unavailable_total") == 2
    assert web.post([{"n": 3}], "b").json() == {"accepted": 1}
    assert [event["n"] for event in read(weir)] == [1, 2, 3]
    r.stop()


def test_at_the_end_the_last_keys_are_written(weir, own_redis):
    server = own_redis()
    web = Web()
    text = pipeline(dedupe(server.url, "timeout: 20s"), web.source)
    r = weir.start(text)
    server.client().client_pause(1500, all=False)  # of writes alone: look-ups are answered
    assert web.post([{"n": n} for n in range(100)]).json() == {"accepted": 100}
    assert server.client().keys("*") == []
    r.stop()
    assert len(server.client().keys("*")) == 100


def test_at_the_end_it_waits_no_longer_than_the_timeout(weir, own_redis):
    server = own_redis()
    web = Web()
    r = weir.start(pipeline(dedupe(server.url, "timeout: 1s"), web.source))
    server.client().client_pause(60000, all=False)
    assert web.post([{"n": n} for n in range(100)]).json() == {"accepted": 100}
    began = time.monotonic()
    r.stop()
    assert 0.5 <= time.monotonic() - began < 10
    assert r.find_log("a key was not written", code="stopped")


def test_at_the_end_it_waits_as_long_whatever_a_reload_waited(weir, own_redis):
    """The reload takes one of two lanes away, whose last keys wait for Redis, too."""
    server = own_redis()
    gone, stays = Web(), Web()
    text = pipeline(dedupe(server.url, "timeout: 3s"), f"{stays.source}, more: {gone.source}").replace(
        "inputs: [in]", "inputs: [in, more]")
    r = weir.start(text)
    server.client().client_pause(1500, all=False)  # of writes alone
    assert gone.post([{"n": n} for n in range(100)]).json() == {"accepted": 100}
    (weir.folder / "pipeline-1.yaml").write_text(pipeline(dedupe(server.url, "timeout: 3s"), stays.source))
    r.signal(signal.SIGHUP)
    wait_until(lambda: r.metrics().get("weir_config_reloads_total", result="ok", pipeline="dedupe") == 1, 20)
    assert len(server.client().keys("*")) == 100
    time.sleep(3)
    server.client().client_pause(1500, all=False)
    assert stays.post([{"n": n} for n in range(100)]).json() == {"accepted": 100}
    r.stop()
    assert len(server.client().keys("*")) == 200


def test_the_memory_of_keys_on_their_way_is_bounded(weir, own_redis):
    """Lanes take nothing new while it is used up."""
    server = own_redis()
    events = [{"k": f"{n}-{'x' * 100}"} for n in range(5000)]
    weir.write(lines(events), "in.ndjson")
    server.client().client_pause(60000, all=False)  # the sink's writes alone
    r = weir.start(pipeline(dedupe(server.url, "key: '{{ k }}', memory: 64KiB, timeout: 10s"), sink=
                            f"type: redis, url: '{server.url}', command: [RPUSH, l, '{{{{ k }}}}'], timeout: 60s"))
    wait_until(lambda: r.metric("weir_dedupe_lookups_total") > 300, 20)
    time.sleep(1)
    assert r.metric("weir_component_received_events_total", component="d") < 2000
    server.client().client_unpause()
    assert r.wait() == 0
    assert server.client().llen("l") == 5000


def test_its_memory_is_one_of_the_shares_of_the_process(weir):
    given = pipeline("type: redis_dedupe, url: 'redis://127.0.0.1', memory: 200MiB")
    checked = weir.command("check", weir.write(given), "--memory", "96MiB")
    assert checked.code == 1 and "transforms.d.memory 200MiB = 200.0 MiB" in checked.text, checked


def test_an_error_reply_fails_the_event_and_its_duplicates(weir, db):
    db.rpush("seen:list", "x")
    weir.write(lines([{"k": "list", "n": n} for n in range(3)] + [{"k": "ok"}]), "in.ndjson")
    weir.run(pipeline(dedupe(db.url, "key: '{{ k }}', prefix: 'seen:'")))
    assert read(weir) == [{"k": "ok"}]
    assert sorted(d["code"] for d in read(weir, "dead.ndjson")) == ["refused", "refused", "wrongtype"]


def test_keys_that_redis_does_not_take(weir, own_redis):
    server = own_redis("--rename-command", "SET", "")
    web = Web()
    r = weir.start(pipeline(dedupe(server.url), web.source))
    assert web.post({"n": 1}, "a").json() == {"accepted": 1}
    wait_until(lambda: r.metric("weir_dedupe_unwritten_total") == 1, 20)
    assert r.find_log("a key was not written", code="err")
    assert web.post({"n": 2}, "a").json() == {"accepted": 1}
    r.stop()


def test_the_keys_of_a_cluster(weir, cluster):
    events = [{"k": f"{{tag}}{n}" if n % 2 else n} for n in range(500)]
    weir.write(lines(events + events), "in.ndjson")
    text = pipeline(dedupe(cluster.url, "cluster: true, key: '{{ k }}'"))
    weir.run(text)
    assert read(weir) == events and cluster.size() == 500
    weir.run(text)
    assert read(weir) == events


def test_over_tls_with_a_password(weir, tls_redis, certificates):
    server = tls_redis("server", "no", "--requirepass", "s3cret")
    events = [{"k": n} for n in range(300)]
    weir.write(lines(events + events), "in.ndjson")
    more = f"key: '{{{{ k }}}}', password: s3cret, tls: {{ca: '{certificates}/ca.crt'}}"
    weir.run(pipeline(dedupe(server.tls_url, more)))
    assert read(weir) == events and server.client(password="s3cret").dbsize() == 300


@pytest.mark.parametrize("answer", sorted(set(HOSTILE) - {"empty", "endless line", "string that never comes"}))
def test_hostile_servers(weir, answer):
    impostor = Impostor(HOSTILE[answer], login=b"+OK\r\n")
    weir.write(lines([{"k": 1}, {"k": 2}, {"k": 1}]), "in.ndjson")
    weir.run(pipeline(dedupe(impostor.url, "key: '{{ k }}', on_unavailable: pass, timeout: 300ms")), timeout=60)
    kept = [event["k"] for event in read(weir)] + [d["entered"]["k"] if "entered" in d else 0
                                                   for d in read(weir, "dead.ndjson")]
    assert len(kept) in (2, 3), "nothing is lost"


def test_hostile_events(weir, db):
    weir.write(lines(HOSTILE_EVENTS + [b'{"k":""}'] + HOSTILE_EVENTS), "in.ndjson")
    weir.run(pipeline(dedupe(db.url, "key: '{{ k }}'")))
    out, dead = read(weir), read(weir, "dead.ndjson")
    assert len(out) == 6 and len(dead) == 2 * (len(HOSTILE_EVENTS) - 6) + 1
    assert {"key_too_long", "missing_field", "bad_json", "empty_key"} <= {d["code"] for d in dead}
    assert len(db.keys("*")) == 6


@pytest.mark.parametrize("options, says", [
    ("url: ''", "must not be empty"),
    ("url: 'http://127.0.0.1'", "d.url"),
    ("url: 'redis://:x@'", "d.url"),
    ("url: 'redis://127.0.0.1', tls: {ca: x.pem}", "rediss"),
    ("url: 'redis://127.0.0.1', cluster: true, database: 1", "d.database"),
    ("url: 'redis://127.0.0.1', cluster: true, sentinel: {master: m}", "d."),
    ("key: always", "the same for every event"),
    ("key: ''", "must not be empty"),
    ("ttl: 0s", "too small"),
    ("ttl: 1000000d", "d.ttl"),
    ("held: 0", "too small"),
    ("prefix: ''", "must not be empty"),
    (f"prefix: '{'p' * 300}'", "at most 256 bytes"),
    ("on_unavailable: drop", "expected one of wait, pass"),
    ("timeout: 0s", "too small"),
    ("timeout: 1h", "too large"),
    ("entries: 5", "entries"),
    ("memory: 1KiB", "too small"),
])
def test_wrong_configurations(weir, options, says):
    checked = weir.check(pipeline("type: redis_dedupe, " + options), expect=1)
    assert says in checked.text, checked.text
    assert ".d" in checked.text and "pipeline-1.yaml:3:" in checked.text
