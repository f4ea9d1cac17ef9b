# SPDX-License-Identifier: Apache-2.0
"""Sink redis: what each form stores, how keys end, the guard `once`, and what errors mean."""
import json
import threading
import time
from collections import Counter

import pytest

from redis_parts import (HOSTILE_EVENTS, copied, db, dead, generated, ignore_errors, lines, made,  # noqa: F401
                         pipeline)
from weirtest import wait_until


# ---- forms ------------------------------------------------------------------------------------

@pytest.mark.parametrize("push, trim, expected", [
    ("right", 0, [str(i) for i in range(20)]),
    ("left", 0, [str(i) for i in range(19, -1, -1)]),
    ("right", 3, ["17", "18", "19"]),
    ("left", 3, ["19", "18", "17"]),
])
def test_lists(weir, db, push, trim, expected):
    weir.write(lines([{"n": i} for i in range(20)]), "in.ndjson")
    weir.run(pipeline(db.url, f'list: {{key: "l:a", value: "{{{{ n }}}}", push: {push}, trim: {trim}}}, '
                              "expire: 90s"))
    assert db.lrange("l:a", 0, -1) == expected and 80 < db.ttl("l:a") <= 90
    assert dead(weir) == []


def test_values_default_to_the_event_as_json_text(weir, db):
    payload = b'{ "id": "a", "n": 1.10 }'
    weir.write(lines([payload]), "in.ndjson")
    for form in ('list: {key: "l:a"}', 'members: {key: "m:a"}', 'set: {key: "s:a"}',
                 'sorted_set: {key: "z:a", score: "{{ n }}"}', 'stream: {key: "x:a"}'):
        weir.run(pipeline(db.url, form))
    assert db.raw.lrange("l:a", 0, -1) == [payload]
    assert db.raw.smembers("m:a") == {payload}
    assert db.raw.get("s:a") == payload
    assert db.raw.zrange("z:a", 0, -1, withscores=True) == [(payload, 1.1)]
    assert db.raw.xrange("x:a")[0][1] == {b"payload": payload}


def test_sets_and_sorted_sets(weir, db):
    weir.write(lines([{"u": "a", "n": 5}, {"u": "b", "n": 7.5}, {"u": "a", "n": 3},
                      {"u": "c", "n": "inf"}, {"u": "a", "n": 4}]), "in.ndjson")
    weir.run(pipeline(db.url, 'members: {key: "m:all", member: "{{ u }}"}'))
    assert db.smembers("m:all") == {"a", "b", "c"}
    for only, score in (("any", 4), ("greater", 5), ("less", 3)):
        weir.run(pipeline(db.url, f'sorted_set: {{key: "z:{only}", member: "{{{{ u }}}}", '
                                  f'score: "{{{{ n }}}}", only: {only}}}'))
        assert dict(db.zrange(f"z:{only}", 0, -1, withscores=True)) == {
            "a": score, "b": 7.5, "c": float("inf")}


def test_streams_by_age_and_by_id(weir, db):
    old, now = 1_000_000, int(time.time() * 1000)
    for key in ("x:age", "x:id", "x:len"):
        for i in range(5):
            db.xadd(key, {"old": i}, id=f"{old + i}-0")
    weir.write(lines([{"oldest": f"{old + 3}-0"}]), "in.ndjson")
    weir.run(pipeline(db.url, 'stream: {key: "x:age", max_age: 1h, exact: true}'))
    weir.run(pipeline(db.url, 'stream: {key: "x:id", minid: "{{ oldest }}", exact: true}'))
    weir.run(pipeline(db.url, 'stream: {key: "x:len", maxlen: 3, exact: true}'))
    assert db.xlen("x:age") == 1 and db.xlen("x:id") == 3 and db.xlen("x:len") == 3
    assert int(db.xrange("x:age")[0][0].split("-")[0]) >= now
    assert db.xrange("x:id")[0][0] == f"{old + 3}-0"


def test_publish(weir, db):
    heard = db.pubsub()
    heard.psubscribe("news:*")
    wait_until(lambda: db.pubsub_numpat() > 0, 10)
    weir.write(lines([{"id": f"{i}"} for i in range(5)]), "in.ndjson")
    weir.run(pipeline(db.url, 'publish: {channel: "news:{{ id }}", message: "to {{ id }}"}'))
    got = []
    wait_until(lambda: got.append(heard.get_message(timeout=0.2)) or
               [m["data"] for m in got if m and m["type"] == "pmessage"] ==
               [f"to {i}" for i in range(5)], 10)
    heard.close()


def test_keep_ttl(weir, db):
    weir.write(lines([{"k": "ends"}, {"k": "stays"}]), "in.ndjson")
    for prefix, form in (("s", 'set: {key: "s:{{ k }}", value: new}'),
                         ("h", 'hash: {key: "h:{{ k }}", fields: {f: new}}')):
        if prefix == "s":
            db.set("s:ends", "old", ex=1000)
        else:
            db.hset("h:ends", "f", "old")
            db.expire("h:ends", 1000)
        weir.run(pipeline(db.url, form + ", keep_ttl: true, expire: 60s"))
        assert 900 < db.ttl(f"{prefix}:ends") <= 1000
        assert 0 < db.ttl(f"{prefix}:stays") <= 60
    db.set("s:ends", "old", ex=1000)
    weir.run(pipeline(db.url, 'set: {key: "s:{{ k }}"}, keep_ttl: true'))
    assert db.get("s:ends") == '{"k": "ends"}' and db.ttl("s:ends") > 900
    weir.run(pipeline(db.url, 'set: {key: "s:{{ k }}"}'))
    assert db.ttl("s:ends") == -1


# ---- once -------------------------------------------------------------------------------------

def ids(n):
    return [{"id": f"id-{i}", "n": i} for i in range(n)]


@pytest.mark.sanitize
@pytest.mark.parametrize("form, read", [
    ('command: [INCR, "c:a"]', lambda db: int(db.get("c:a"))),
    ('list: {key: "c:a", value: "{{ n }}"}', lambda db: db.llen("c:a")),
    ('stream: {key: "c:a"}, expire: 100s', lambda db: db.xlen("c:a")),
])
def test_once_counts_a_redelivered_event_once(weir, db, kafka, form, read):
    """The same records read again, by another group: ids are topic-partition-offset."""
    topic = kafka.topic()
    kafka.produce(topic, [json.dumps(event).encode() for event in ids(500)])

    def run(group):
        text = pipeline(db.url, form + ", once: {ttl: 600s}",
                        f'{{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], '
                        f"group: {topic}-{group}}}")
        r = weir.start(text)
        r.wait_metric("weir_component_sent_events_total", 500, component="out")
        r.stop()

    run(1)
    assert read(db) == 500
    db.script_flush()
    run(2)
    assert read(db) == 500
    assert len(db.keys("weir:once:*")) == 500
    assert all(0 < db.ttl(key) <= 600 for key in db.keys("weir:once:*")[:10])


@pytest.mark.sanitize
def test_once_counts_right_though_connections_break(weir, own_redis):
    server, n = own_redis(), 20_000
    r = weir.start(copied(generated(
        server.url, 'command: [HINCRBY, "count:users", "{{ user_id }}", 1], once: {ttl: 600s}',
        f"count: {n}, rate: {n / 8}, users: 20")))  # so long that a slow machine finds time for the kills
    kills = 0
    while r.alive:
        kills += server.client().client_kill_filter(_type="normal", skipme=True)
        server.client().script_flush()
        time.sleep(0.15)
    r.wait()
    assert kills > 10
    expected = Counter(event["user_id"] for event in made(weir))
    assert sum(expected.values()) == n
    assert {k: int(v) for k, v in server.client().hgetall("count:users").items()} == expected


def test_once_is_for_each_sink(weir, db):
    """What one sink has counted the other has still to count, on the same server."""
    weir.write(lines(ids(50)), "in.ndjson")
    text = pipeline(db.url, 'command: [INCR, "c:a"], once: {ttl: 60s}, inputs: [in]')
    weir.run(text.replace("  dead:", f"""\
  other: {{type: redis, url: "{db.url}", command: [INCR, "c:b"], once: {{ttl: 60s}}, inputs: [in]}}
  dead:"""))
    assert db.get("c:a") == db.get("c:b") == "50" and dead(weir) == []


def test_once_gives_its_guard_back_where_the_command_fails(weir, db):
    db.set("l:bad", "no list")
    weir.write(lines([{"k": "good"}, {"k": "bad"}]), "in.ndjson")
    weir.run(pipeline(db.url, 'list: {key: "l:{{ k }}", value: x}, once: {ttl: 60s}'))
    assert [entry["code"] for entry in dead(weir)] == ["wrongtype"]
    assert db.llen("l:good") == 1 and len(db.keys("weir:once:*")) == 1


# ---- what error replies mean --------------------------------------------------------------------

def test_loading_is_waited_out(weir, own_redis, tmp_path):
    server = own_redis("--save", "", "--enable-debug-command", "yes", "--key-load-delay", "0",
                       "--loading-process-events-interval-bytes", "1024")
    client = server.client()
    client.execute_command("DEBUG", "POPULATE", 20000)
    client.config_set("key-load-delay", 300)
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "rate: 200"))
    r.wait_metric("weir_component_sent_events_total", 50, component="out")
    loader = server.client(socket_timeout=60)
    reload = threading.Thread(target=lambda: loader.execute_command("DEBUG", "RELOAD"))
    reload.start()
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="loading")
    before = r.metric("weir_component_sent_events_total", component="out")
    reload.join()
    r.wait_metric("weir_component_sent_events_total", before + 50, component="out")
    r.stop()
    assert dead(weir) == []


def test_busy_is_waited_out(weir, own_redis):
    server = own_redis("--busy-reply-threshold", "20")
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}, timeout: 10s', "rate: 500"))
    r.wait_metric("weir_component_sent_events_total", 50, component="out")
    endless = threading.Thread(target=lambda: ignore_errors(
        lambda: server.client().eval("while true do end", 0)))
    endless.start()
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="busy")
    server.client().script_kill()
    endless.join()
    before = r.metric("weir_component_sent_events_total", component="out")
    r.wait_metric("weir_component_sent_events_total", before + 50, component="out")
    r.stop()
    assert dead(weir) == []


def test_misconf_is_an_outage(weir, own_redis):
    server = own_redis("--save", "", "--dbfilename", "dump.rdb", "--enable-protected-configs", "yes")
    client = server.client()
    client.set("x", 1)
    client.config_set("dir", "/proc")
    client.config_set("save", "1 1")
    ignore_errors(client.bgsave)
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 20)
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "count: 300"))
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="misconf")
    client.config_set("stop-writes-on-bgsave-error", "no")
    r.wait()
    client.config_set("save", "")
    assert client.dbsize() == 301 and dead(weir) == []


def test_too_few_replicas_are_an_outage(weir, own_redis):
    server = own_redis("--min-replicas-to-write", "1")
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "count: 300"))
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="noreplicas")
    server.client().config_set("min-replicas-to-write", "0")
    r.wait()
    assert server.client().dbsize() == 300 and dead(weir) == []


def test_a_password_that_comes_later_is_an_outage(weir, own_redis):
    server = own_redis()
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "rate: 500"))
    r.wait_metric("weir_component_sent_events_total", 50, component="out")
    client = server.client()
    client.config_set("requirepass", "s3cret")
    client.client_kill_filter(_type="normal", skipme=True)
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="noauth")
    wait_until(lambda: "the server wants a `password`" in r.stderr, 10)
    client.config_set("requirepass", "")
    before = r.metric("weir_component_sent_events_total", component="out")
    r.wait_metric("weir_component_sent_events_total", before + 50, component="out")
    r.stop()
    assert dead(weir) == []


def test_what_is_rejected_can_be_dropped(weir, db):
    db.rpush("s:bad", "a list")
    weir.write(lines([{"k": "a"}, {"k": "bad"}, {"k": "b"}]), "in.ndjson")
    r = weir.run(pipeline(db.url, 'command: [APPEND, "s:{{ k }}", x], on_reject: drop'))
    assert "wrongtype" in r.stderr and dead(weir) == [] and db.get("s:b") == "x"


def test_what_is_rejected_can_stop_the_pipeline(weir, db):
    db.rpush("s:bad", "a list")
    weir.write(lines([{"k": "a"}, {"k": "bad"}, {"k": "b"}]), "in.ndjson")
    r = weir.start(pipeline(db.url, 'command: [APPEND, "s:{{ k }}", x], on_reject: stop'),
                   ready=False)
    wait_until(lambda: r.find_log("pipeline stops"), 10)
    assert "wrongtype" in r.stderr
    r.stop(expect=1)
    assert dead(weir) == []


# ---- hostile events -----------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    'set: {key: "h:{{ k }}"}', 'list: {key: "h:{{ k }}", trim: 2}, expire: 60s',
    'stream: {key: "h:{{ k }}"}, once: {ttl: 60s}'])
def test_hostile_events_disturb_no_other(weir, db, form):
    weir.write(lines(HOSTILE_EVENTS), "in.ndjson")
    weir.run(pipeline(db.url, form))
    keys = set(db.keys("h:*"))
    assert {"h:ok1", "h:ok2", "h:\0\r\n$1", "h:*3\r\n$3\r\nDEL\r\n", 'h:{"a":[1]}', "h:{}"} == keys
    codes = Counter(entry["code"] for entry in dead(weir))
    assert sum(codes.values()) == len(HOSTILE_EVENTS) - 6, codes
    assert codes["key_too_long"] == 1


# ---- check ------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, path, message", [
    ("list: {value: x}", "sinks.out.list.key", "missing"),
    ("list: {key: l, push: up}", "sinks.out.list.push", "right, left"),
    ("list: {key: l, trim: -1}", "sinks.out.list.trim", "0 to 4294967296"),
    ('members: {key: "{{ a }}"}', "sinks.out.members.key", ""),
    ("sorted_set: {key: z}", "sinks.out.sorted_set.score", "missing"),
    ("sorted_set: {key: z, score: 1, only: more}", "sinks.out.sorted_set.only", "greater"),
    ("stream: {key: x, maxlen: 1, max_age: 1h}", "sinks.out.stream", "found 2"),
    ("stream: {key: x, exact: true}", "sinks.out.stream.exact", "no limit"),
    ('publish: {channel: "{{ c }}"}', "sinks.out.publish.channel", ""),
    ("publish: {channel: c}, expire: 1s", "sinks.out.expire", "no key"),
    ("hash: {key: h, fields: {a: b}}, keep_ttl: true", "sinks.out.keep_ttl", "with `expire`"),
    ("set: {key: k}, once: {ttl: 1h}", "sinks.out.once", "overwrites"),
    ("hash: {key: k, fields: {a: b}}, once: {ttl: 1h}", "sinks.out.once", "overwrites"),
    ("members: {key: k}, once: {ttl: 1h}", "sinks.out.once", "overwrites"),
    ("command: [SET, k, v], once: {ttl: 1h}", "sinks.out.once", "overwrites"),
    ('command: [HSET, k, incr, "{{ n }}"], once: {ttl: 1h}', "sinks.out.once", "overwrites"),
    ("stream: {key: k}, once: {}", "sinks.out.once.ttl", "missing"),
    ("stream: {key: k}, once: {ttl: 0s}", "sinks.out.once.ttl", ""),
    ('command: [EVAL, "return 1", "0"], once: {ttl: 1h}', "sinks.out.command", "cannot call EVAL"),
    ('command: [EVAL, "return 1", "2", k]', "sinks.out.command", "only 1 arguments follow"),
    ('command: [EVAL, "return 1", "{{ n }}", k]', "sinks.out.command", "as fixed text"),
    ('command: [DEL, "a:{{ x }}", "{{ y }}"]', "sinks.out.command", "argument 2"),
    ("set: {key: k}, list: {key: l}, publish: {channel: c}", "sinks.out", "found 3"),
])
def test_wrong_forms(weir, options, path, message):
    checked = weir.check(generated("redis://127.0.0.1", options), expect=1)
    assert f"at {path}\n" in checked.text and message in checked.text, checked
    assert ":4:" in checked.text
