# SPDX-License-Identifier: Apache-2.0
"""Sink redis, on one real server."""
import json
import os
import time
from collections import Counter

import pytest
import redis as redis_client

from redis_parts import (HOSTILE, Impostor, db, dead, generated, guarded, lines,  # noqa: F401
                         pipeline)
from weirtest import events, free_port, wait_until


# ---- sink: what is stored ---------------------------------------------------------------------

def test_set_stores_the_payload_byte_for_byte(weir, db):
    payloads = [b'{"id":"a","n":9223372036854775807,"f":1.10,"e":1E+2,"o":{},"a":[],"x":null}',
                '{"id":"b","u":"äöü 鞋 🥾","esc":"\\u0041\\u0000\\n"}'.encode(),
                b' { "id" : "c" , "dup": 1, "dup": 2 } ',
                b'{"id":"d","pad":"' + b"x" * (1 << 20) + b'"}']
    weir.write(lines(payloads), "in.ndjson")
    weir.run(pipeline(db.url, 'set: {key: "event:{{ id }}"}'))
    assert [db.raw.get(f"event:{key}") for key in "abcd"] == payloads
    assert dead(weir) == []


def test_values_of_templates_are_text(weir, db):
    event = {"id": "k", "s": "text", "i": -9223372036854775808, "u": 18446744073709551615,
             "f": 2.5, "t": True, "a": [1, "x", {}], "o": {"p": {"q": "deep"}},
             "nul": "a\u0000b", "crlf": "a\r\n$5\r\nb", "uni": "鞋", "empty": ""}
    fields = {name: "{{ %s }}" % name for name in event if name != "id"}
    event["z"] = None  # null is as good as missing
    weir.write(lines([event]), "in.ndjson")
    fields |= {"null": "{{ z | nothing }}", "deep": "{{ o.p.q }}", "item": "{{ a[1] }}", "gone": "{{ no.such | other }}",
               "mixed": "<{{ s }}/{{ i }}>", "literal": "fixed \u00e9"}
    weir.run(pipeline(db.url, 'hash: {key: "h:{{ id }}", fields: %s}'
                      % json.dumps(fields, ensure_ascii=False)))
    assert db.hgetall("h:k") == {
        "s": "text", "i": "-9223372036854775808", "u": "18446744073709551615", "f": "2.5",
        "t": "true", "a": '[1,"x",{}]', "o": '{"p":{"q":"deep"}}', "nul": "a\0b",
        "crlf": "a\r\n$5\r\nb", "uni": "鞋", "empty": "", "deep": "deep", "item": "x", "null": "nothing",
        "gone": "other", "mixed": "<text/-9223372036854775808>", "literal": "fixed é"}


def test_expire(weir, db):
    weir.write(lines([{"id": "a"}, {"id": "b"}]), "in.ndjson")
    for sink in ('set: {key: "s:{{ id }}", value: "{{ id }}"}',
                 'hash: {key: "h:{{ id }}", fields: {x: "{{ id }}"}}',
                 'stream: {key: "x:{{ id }}"}',
                 'command: [SADD, "c:{{ id }}", "{{ id }}"]'):
        weir.run(pipeline(db.url, sink + ", expire: 90s"))
    for kind in "shxc":
        for key in "ab":
            assert 80_000 < db.pttl(f"{kind}:{key}") <= 90_000, (kind, key)
    assert db.get("s:a") == "a" and db.smembers("c:b") == {"b"}


def test_expired_keys_go(weir, db):
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    weir.run(pipeline(db.url, 'hash: {key: "h:{{ id }}", fields: {x: y}}, expire: 300ms'))
    wait_until(lambda: db.exists("h:a") == 0, 5)


def test_streams_keep_order_and_length(weir, db):
    weir.run(generated(db.url, 'stream: {key: log, fields: {n: "{{ seq }}", t: "{{ type }}"}}',
                       "count: 3000"))
    assert [int(entry["n"]) for _, entry in db.xrange("log")] == list(range(3000))
    weir.run(generated(db.url, "stream: {key: short, maxlen: 100}", "count: 3000"))
    kept = db.xrange("short")
    assert 100 <= len(kept) < 400
    assert json.loads(kept[-1][1]["payload"])["seq"] == 2999


@pytest.mark.sanitize
def test_counters_are_right(weir, db):
    n = 50_000
    text = generated(db.url, 'command: [HINCRBY, "count:types", "{{ type }}", 1]', f"count: {n}")
    text = text.replace("  dead:", """\
  per_user: {type: redis, url: "%s", command: [INCR, "user:{{ user_id }}"], inputs: [in]}
  copy: {type: file, path: copy.ndjson, inputs: [in]}
  dead:""" % db.url).replace("sinks:\n  out: {", "sinks:\n  out: {inputs: [in], ")
    weir.run(text)
    made = [json.loads(line) for line in (weir.folder / "copy.ndjson").read_bytes().splitlines()]
    expected = Counter(event["type"] for event in made)
    assert sum(expected.values()) == n
    assert {k: int(v) for k, v in db.hgetall("count:types").items()} == expected
    users = Counter(event["user_id"] for event in made)
    stored = dict(zip(users, db.mget([f"user:{u}" for u in users])))
    assert {u: int(v) for u, v in stored.items()} == users


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_last_write_of_a_key_wins(weir, db, concurrency):
    weir.run(generated(db.url, 'set: {key: "last:{{ user_id }}", value: "{{ seq }}"}, '
                               f"concurrency: {concurrency}", "count: 30000, users: 50"))
    weir.run(generated(db.url, 'command: [ZADD, "z:last", GT, "{{ seq }}", "{{ user_id }}"]',
                       "count: 30000, users: 50"))
    expected = {user: str(int(score)) for user, score in db.zrange("z:last", 0, -1, withscores=True)}
    assert len(expected) == 50
    assert {user: db.get(f"last:{user}") for user in expected} == expected


def test_database_and_unix_socket(weir, own_redis, tmp_path):
    path = tmp_path / "redis.sock"
    server = own_redis("--unixsocket", str(path))
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    sink = 'set: {key: "k:{{ id }}"}'
    weir.run(pipeline(f"unix://{path}", sink + ", database: 3"))
    weir.run(pipeline(server.url + "/5", sink))
    weir.run(pipeline(server.url.replace("127.0.0.1", "localhost"), sink + ", database: 6"))
    assert [server.client(db=i).exists("k:a") for i in (0, 3, 5, 6)] == [0, 1, 1, 1]


# ---- sink: what is refused --------------------------------------------------------------------

@pytest.mark.sanitize
def test_one_wrongtype_in_ten_rejects_those_alone(weir, db):
    made = events(5000)
    for event in made[::10]:
        db.rpush(f"s:{event['id']}", "a list is here")
    weir.write(lines(made), "in.ndjson")
    r = weir.start(pipeline(db.url, 'command: [APPEND, "s:{{ id }}", "{{ type }}"]'), ready=False)
    r.wait()
    found = dead(weir)
    text = (weir.folder / "dead.ndjson").read_text().splitlines()
    assert len(text) == 500
    rejected = {event["id"] for event in made[::10]}
    for line in text:
        assert "wrongtype" in line and "Operation against a key holding the wrong kind" in line
    named = {i for i in rejected for line in text if f'\\"id\\": \\"{i}\\"' in line or
             f'"id": "{i}"' in line or f'"id":"{i}"' in line}
    assert named == rejected
    for event in made:
        key = f"s:{event['id']}"
        if event["id"] in rejected:
            assert db.type(key) == "list"
        else:
            assert db.get(key) == event["type"]


def test_wrongtype_with_expire_settles_each_event_once(weir, db):
    made = events(1000)
    for event in made[::10]:
        db.set(f"h:{event['id']}", "a string")
    weir.write(lines(made), "in.ndjson")
    weir.run(pipeline(db.url, 'hash: {key: "h:{{ id }}", fields: {t: "{{ type }}"}}, expire: 60s'))
    assert len(dead(weir)) == 100
    assert all(db.ttl(f"h:{event['id']}") > 0 for event in made)
    assert sum(db.type(f"h:{event['id']}") == "hash" for event in made) == 900


@pytest.mark.parametrize("command, code", [
    ('[NOSUCHCOMMAND, "k:{{ id }}"]', "err"),
    ('[INCRBY, "k:{{ id }}", "{{ type }}"]', "err"),
    ('[SET, "k:{{ id }}"]', "err"),
    ('[EVALSHA, ffffffffffffffffffffffffffffffffffffffff, "1", "k:{{ id }}"]', "noscript"),
    ('[EVAL, "return redis.error_reply(\'MINE not today\')", "1", "k:{{ id }}"]', "error"),
    ('[SET, "k:{{ id }}", "{{ not.there }}"]', "missing"),
    ('[SET, "k:{{ type.deeper }}", x]', "missing"),
])
def test_commands_that_fail_reject_their_events(weir, db, command, code):
    weir.write(lines(events(20)), "in.ndjson")
    weir.run(pipeline(db.url, f"command: {command}"))
    assert len(dead(weir)) == 20
    assert code in (weir.folder / "dead.ndjson").read_text()


def test_missing_field_is_named_and_the_others_pass(weir, db):
    made = events(100)
    for event in made[::10]:
        del event["props"]["amount"]
    weir.write(lines(made), "in.ndjson")
    weir.run(pipeline(db.url, 'set: {key: "k:{{ id }}", value: "{{ props.amount }}"}'))
    assert len(dead(weir)) == 10 and "props.amount" in (weir.folder / "dead.ndjson").read_text()
    assert db.dbsize() == 90


def test_keys_that_are_too_long_are_rejected(weir, db):
    weir.write(lines([{"id": "x" * 70000}, {"id": "a"}]), "in.ndjson")
    weir.run(pipeline(db.url, 'set: {key: "k:{{ id }}", value: v}'))
    assert len(dead(weir)) == 1 and "key_too_long" in (weir.folder / "dead.ndjson").read_text()
    assert db.keys() == ["k:a"]


# ---- sink: outages ----------------------------------------------------------------------------

def feed(n):
    return f"count: {n}, rate: {n / 5}"


@pytest.mark.sanitize
def test_nothing_is_lost_when_redis_is_killed_and_comes_back(weir, own_redis):
    server, n = own_redis(), 20_000
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}", value: "{{ seq }}"}', feed(n)))
    for _ in range(2):
        before = r.metric("weir_component_sent_events_total", component="out")
        r.wait_metric("weir_component_sent_events_total", before + 2000, component="out")
        server.kill()
        time.sleep(0.5)
        server.start()
    r.wait()
    client = server.client()
    assert client.dbsize() == n
    assert dead(weir) == []
    assert "connection_lost" in r.stderr or "connect_failed" in r.stderr


def test_nothing_is_lost_when_redis_stands_still(weir, own_redis):
    server, n = own_redis(), 10_000
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}", value: "{{ seq }}"}, '
                                         "timeout: 500ms, retry: {initial: 50ms, max: 200ms}",
                             feed(n)))
    r.wait_metric("weir_component_sent_events_total", 2000, component="out")
    server.pause()
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="timeout")
    server.resume()
    r.wait()
    assert server.client().dbsize() == n and dead(weir) == []


def test_starts_before_redis_does(weir, own_redis):
    server = own_redis()
    server.kill()
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "count: 500"))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type="connect_failed")
    server.start()
    r.wait()
    assert server.client().dbsize() == 500


def test_a_connection_that_was_closed_while_idle_costs_nothing(weir, own_redis):
    server = own_redis()
    read, write = os.pipe()
    r = weir.start(pipeline(server.url, 'command: [INCR, "c:all"]', '{type: file, path: "-"}'),
                   stdin=read)
    os.close(read)
    for i in range(1, 4):
        os.write(write, b"{}\n")
        wait_until(lambda: server.client().get("c:all") == str(i), 10)
        server.client().client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.2)
    os.close(write)
    r.wait()
    assert server.client().get("c:all") == "3"
    assert "connection_lost" not in r.stderr


def test_out_of_memory_is_an_outage(weir, own_redis):
    server = own_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    n = 5000
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', f"count: {n}"))
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="oom")
    server.client().config_set("maxmemory", "0")
    r.wait()
    assert server.client().dbsize() == n and dead(weir) == []


def test_a_replica_is_an_outage_until_it_is_promoted(weir, own_redis):
    server = own_redis()
    client = server.client()
    client.replicaof("127.0.0.1", free_port())
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "count: 1000"))
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="readonly")
    client.replicaof("NO", "ONE")
    r.wait()
    assert client.dbsize() == 1000 and dead(weir) == []


@pytest.mark.sanitize
@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_last_write_of_a_key_wins_though_connections_break(weir, own_redis, concurrency):
    server, n = own_redis(), 30_000
    text = generated(server.url, 'command: [HSET, "last:{{ user_id }}", seq, "{{ seq }}"], '
                                 f"inputs: [in], concurrency: {concurrency}, batch: {{events: 50}}",
                     f"count: {n}, rate: {n / 4}, users: 20")
    r = weir.start(text.replace("  dead:", """\
  add: {type: redis, url: "%s", command: [INCR, "count:all"], inputs: [in],
        retry: {initial: 20ms, max: 100ms}}
  copy: {type: file, path: copy.ndjson, inputs: [in]}
  dead:""" % server.url))
    kills = 0
    while r.alive:
        kills += server.client().client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.15)
    r.wait()
    assert kills > 10
    made = [json.loads(line) for line in (weir.folder / "copy.ndjson").read_bytes().splitlines()]
    expected = {event["user_id"]: str(event["seq"]) for event in made}
    client = server.client()
    assert len(made) == n and dead(weir) == []
    assert {user: client.hget(f"last:{user}", "seq") for user in expected} == expected
    # At least once: what was on its way when a connection broke may count twice.
    assert n <= int(client.get("count:all")) < 1.5 * n


@pytest.mark.sanitize
def test_sigterm_in_the_middle_leaves_nothing_undone(weir, own_redis):
    server = own_redis()
    text = generated(server.url, 'command: [INCR, "c:all"], inputs: [in]', "rate: 20000")
    text = text.replace("  dead:", "  copy: {type: file, path: copy.ndjson, inputs: [in]}\n  dead:")
    r = weir.start(text)
    r.wait_metric("weir_component_sent_events_total", 10_000, component="out")
    r.stop()
    copied = (weir.folder / "copy.ndjson").read_bytes().count(b"\n")
    assert int(server.client().get("c:all")) == copied > 10_000


@pytest.mark.sanitize
def test_sigterm_while_redis_stands_still_ends_in_time(weir, own_redis):
    server = own_redis()
    r = weir.start(generated(server.url, 'set: {key: "e:{{ id }}"}', "rate: 5000",
                             more="shutdown_timeout: 2s"))
    r.wait_metric("weir_component_sent_events_total", 1000, component="out")
    server.pause()
    time.sleep(0.5)
    started = time.monotonic()
    r.stop(expect=None, timeout=20)
    assert time.monotonic() - started < 8
    server.resume()


# ---- sink: size -------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_large_pipelines_with_replies_as_large(weir, own_redis):
    # 64 MiB there and back on one connection: whoever only wrote, or only read, would stand still.
    server = own_redis("--maxmemory", "0")
    n, size = 256, 256 << 10
    r = weir.start(generated(server.url, 'command: [EVAL, "redis.call(\'INCR\', KEYS[1]) return '
                             'ARGV[1]", "1", "c:all", "{{ fill }}"], '
                             "batch: {events: 256, bytes: 256MiB}, buffer: {size: 256MiB}, "
                             "in_flight: 8", f"count: {n}, size: {size}"))
    r.wait()
    assert int(server.client().get("c:all")) == n and dead(weir) == []


def test_many_small_commands_in_one_pipeline(weir, db):
    n = 60_000
    weir.run(generated(db.url, 'command: [INCR, "c:all"], batch: {events: 20000, bytes: 64MiB}',
                       f"count: {n}"))
    assert int(db.get("c:all")) == n


# ---- passwords --------------------------------------------------------------------------------

@pytest.mark.parametrize("login", [
    'password: "s3cr:t/p@ss"', "user: weir, password: w31r",
])
def test_password_options(weir, guarded, login):
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    weir.run(pipeline(guarded.url, 'set: {key: "ok:{{ id }}"}, ' + login))
    assert guarded.admin.exists("ok:a")


@pytest.mark.parametrize("login", [":s3cr%3At%2Fp%40ss@", "weir:w31r@"])
def test_password_in_the_url(weir, guarded, login):
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    weir.run(pipeline(guarded.url.replace("//", "//" + login), 'set: {key: "ok:{{ id }}"}'))
    assert guarded.admin.exists("ok:a")


def test_password_from_a_file(weir, guarded):
    weir.write("s3cr:t/p@ss\n", "secret")  # as an editor leaves it
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    weir.run(pipeline(guarded.url, 'set: {key: "ok:{{ id }}"}, password: "${file:secret}"'))
    assert guarded.admin.exists("ok:a")


@pytest.mark.parametrize("login, code, hint", [
    ("password: wr0ngpw", "wrongpass", "check `user` and `password`"),
    ("user: nobody, password: wr0ngpw", "wrongpass", "check `user` and `password`"),
    ("database: 0", "noauth", "the server wants a `password`"),
])
def test_wrong_password_is_told_and_waited_out(weir, guarded, login, code, hint):
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    r = weir.start(pipeline(guarded.url, 'set: {key: "ok:{{ id }}"}, ' + login,
                            more="shutdown_timeout: 1s"))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type=code)
    wait_until(lambda: hint in r.stderr, 10, lambda: r.report())
    assert guarded.address in r.stderr
    assert "wr0ngpw" not in r.stderr
    if login.startswith("password"):
        guarded.admin.config_set("requirepass", "wr0ngpw")
        r.wait()
        assert redis_client.Redis(port=guarded.port, password="wr0ngpw").exists("ok:a")


def test_a_key_that_the_user_may_not_write_rejects_its_event(weir, guarded):
    weir.write(lines([{"id": "a", "p": "ok"}, {"id": "b", "p": "no"}]), "in.ndjson")
    weir.run(pipeline(guarded.url, 'command: [EVAL, "return redis.call(\'SET\', KEYS[1], 1)", "1", '
                                   '"k"], user: weir, password: w31r')
             .replace('"k"]', '"o{{ p }}"]').replace('"o{{ p }}"', '"ok:{{ id }}"')
             .replace("ok:{{ id }}", "o{{ p }}:{{ id }}"))
    assert len(dead(weir)) == 2 and "noperm_key" in (weir.folder / "dead.ndjson").read_text()


def test_a_command_that_the_user_may_not_run_is_an_outage(weir, guarded):
    guarded.admin.execute_command("ACL", "SETUSER", "weir", "-set")
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    r = weir.start(pipeline(guarded.url, 'set: {key: "ok:{{ id }}"}, user: weir, password: w31r'))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type="noperm")
    guarded.admin.execute_command("ACL", "SETUSER", "weir", "+set")
    r.wait()
    assert guarded.admin.exists("ok:a") and dead(weir) == []


def test_a_guarded_command_that_the_user_may_not_run_is_an_outage(weir, guarded):
    """Inside a script Redis says ERR, not NOPERM."""
    guarded.admin.execute_command("ACL", "SETUSER", "weir", "~weir:once:*", "-incr")
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    r = weir.start(pipeline(guarded.url, 'command: [INCR, "ok:{{ id }}"], once: {ttl: 60s}, '
                                         "user: weir, password: w31r"))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type="noperm")
    guarded.admin.execute_command("ACL", "SETUSER", "weir", "+incr")
    r.wait()
    assert guarded.admin.get("ok:a") == "1" and dead(weir) == []


# ---- what is no Redis -------------------------------------------------------------------------

@pytest.mark.parametrize("name, phase", [
    *((name, phase) for name in HOSTILE for phase in ("login", "login and end")),
    *((name, "command") for name in HOSTILE if name != "unasked")])  # which answers commands well
def test_a_hostile_server_disturbs_nothing_else(weir, name, phase):
    impostor = Impostor(HOSTILE[name], phase == "login and end",
                        login=b"+OK\r\n" if phase == "command" else b"")
    text = generated(impostor.url, 'set: {key: "e:{{ id }}"}, connect_timeout: 300ms, '
                                   "timeout: 300ms, retry: {initial: 20ms, max: 50ms}, "
                                   "inputs: [in]", "count: 500", more="shutdown_timeout: 1s")
    r = weir.start(text.replace("  dead:", "  copy: {type: file, path: copy.ndjson, inputs: [in]}\n"
                                           "  dead:"))
    r.wait_metric("weir_component_errors_total", 2, component="out")
    wait_until(lambda: (weir.folder / "copy.ndjson").read_bytes().count(b"\n") == 500, 10)
    if (name, phase) != ("nested", "command"):  # it is no error, however deep
        assert r.metric("weir_component_sent_events_total", component="out") == 0
    r.stop(expect=None, timeout=20)
    assert dead(weir) == []


def test_answers_byte_by_byte(weir):
    # CLIENT SETNAME and three commands, of which one fails.
    impostor = Impostor(b"+OK\r\n:1\r\n-WRONGTYPE no\r\n$5\r\nab\r\nc\r\n", every=0.005)
    weir.write(lines(events(3)), "in.ndjson")
    weir.run(pipeline(impostor.url, 'command: [GET, "k:{{ id }}"]'))
    assert len(dead(weir)) == 1 and impostor.connections == 1


# ---- check ------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, path, message", [
    ("database: 1", "sinks.out", "`stream` and `publish`, found 0"),
    ('set: {key: "k"}, stream: {key: s}', "sinks.out", "found 2"),
    ("set: {value: x}", "sinks.out.set.key", "missing"),
    ('set: {key: "{{ id }}"}', "sinks.out.set.key", ""),
    ('set: {key: "k:{{ id"}', "sinks.out.set.key", "}}"),
    ('hash: {key: "h:{{ id }}"}', "sinks.out.hash.fields", "missing"),
    ('hash: {key: "h:{{ id }}", fields: {}}', "sinks.out.hash.fields", ""),
    ("hash: {key: h, fields: [a]}", "sinks.out.hash.fields", ""),
    ("stream: {key: s, maxlen: -1}", "sinks.out.stream.maxlen", "at least 0"),
    ("command: []", "sinks.out.command", ""),
    ('command: ["{{ type }}", k]', "sinks.out.command", "command's name"),
    ('command: ["SET k v"]', "sinks.out.command", "each argument as an item of its own"),
    ('command: [SET, "{{ id }}", v]', "sinks.out.command", "begins with a placeholder"),
    ("command: [SUBSCRIBE, news]", "sinks.out.command", "SUBSCRIBE cannot be used"),
    ("command: [multi]", "sinks.out.command", "MULTI cannot be used"),
    ("command: [PING], expire: 1s", "sinks.out.command", "needs a command with a key"),
    ('set: {key: k}, expire: 0s', "sinks.out.expire", ""),
    ('set: {key: k}, url: "http://x"', "sinks.out.url", "redis://, rediss:// or unix://"),
    ('set: {key: k}, url: "redis://:pw%zz@x"', "sinks.out.url", "hexadecimal"),
    ('set: {key: k}, url: "redis://x:99999"', "sinks.out.url", "port"),
    ('set: {key: k}, url: "redis://x/abc"', "sinks.out.url", "number of a database"),
    ('set: {key: k}, url: "redis://:a@x", password: b', "sinks.out.password", "as well"),
    ('set: {key: k}, url: "redis://x/2", database: 3', "sinks.out.database", "the URL says 2"),
    ("set: {key: k}, user: me", "sinks.out.user", "needs a `password`"),
    ("set: {key: k}, database: -1", "sinks.out.database", ""),
    ("set: {key: k}, commnad: [PING]", "sinks.out.commnad", 'did you mean "command"'),
    ("set: {key: k}, connect_timeout: soon", "sinks.out.connect_timeout", "duration"),
])
def test_wrong_sink_options(weir, options, path, message):
    text = generated("redis://127.0.0.1", options)
    if "url:" in options:
        text = text.replace('url: "redis://127.0.0.1", ', "", 1)
    checked = weir.check(text, expect=1)
    assert f"at {path}\n" in checked.text and message in checked.text, checked
    assert ":4:" in checked.text and "pw%zz" not in checked.text
