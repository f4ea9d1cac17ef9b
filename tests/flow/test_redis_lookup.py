# SPDX-License-Identifier: Apache-2.0
"""Transform redis, on one real server."""
import json
import os
import time

import pytest

from redis_parts import (HOSTILE, HOSTILE_EVENTS, Impostor, db, dead, guarded, lines, lookup,  # noqa: F401
                         output)
from weirtest import free_port, wait_until


def asked(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


@pytest.mark.parametrize("parse, stored, expected", [
    ("string", "plain \u00e9\0", "plain \u00e9\0"),
    ("string", '{"a":1}', '{"a":1}'),
    ("json", '{"plan":"pro","n":9223372036854775807,"a":[],"o":{},"z":null}',
     {"plan": "pro", "n": 9223372036854775807, "a": [], "o": {}, "z": None}),
    ("json", "42", 42),
    ("auto", "[1, 2.5]", [1, 2.5]),
    ("auto", "not json", "not json"),
])
def test_lookup_of_strings(weir, db, parse, stored, expected):
    db.set("user:u1", stored)
    weir.write(lines([{"user": "u1", "x": 1}]), "in.ndjson")
    weir.run(lookup(db.url, f'key: "user:{{{{ user }}}}", target: found, parse: {parse}'))
    assert output(weir) == [{"user": "u1", "x": 1, "found": expected}]


def test_lookup_of_hashes_and_commands(weir, db):
    db.hset("user:u1", mapping={"plan": "pro", "age": "42", "tags": '["a"]', "odd": "{"})
    db.rpush("list:u1", "a", "1")
    weir.write(lines([{"user": "u1"}]), "in.ndjson")

    def found(options):
        weir.run(lookup(db.url, f"target: t, {options}"))
        assert dead(weir) == []
        return output(weir)[0].get("t", "nothing")

    key = 'key: "user:{{ user }}"'
    assert found(key + ", lookup: hgetall") == {"plan": "pro", "age": "42", "tags": '["a"]',
                                                "odd": "{"}
    assert found(key + ", lookup: hgetall, parse: auto") == {"plan": "pro", "age": 42,
                                                             "tags": ["a"], "odd": "{"}
    assert found('command: [HGET, "user:{{ user }}", plan]') == "pro"
    assert found('command: [HMGET, "user:{{ user }}", plan, nothing]') == ["pro", None]
    assert found('command: [HLEN, "user:{{ user }}"]') == 4
    assert found('command: [LRANGE, "list:{{ user }}", "0", "-1"]') == ["a", "1"]
    assert found('command: [EXISTS, "user:{{ user }}"]') == 1
    assert found('command: [LRANGE, "list:none", "0", "-1"]') == "nothing"
    assert found('command: [EVAL, "return {1,{2,{3}}}", "0"]') == [1, [2, [3]]]
    assert found('command: [TYPE, "user:{{ user }}"]') == "hash"


def test_lookup_target_paths(weir, db):
    db.set("user:u1", "v")
    weir.write(lines([{"u": "u1"}, {"u": "u1", "a": {"b": {"x": 1}}}, {"u": "u1", "a": {}},
                      {"u": "u1", "a": {"b": {"c": "old"}}}, {"u": "u1", "a": 5},
                      {"u": "u1", "a": {"b": [1]}}, {"u": "u1", "a": None}]), "in.ndjson")
    weir.run(lookup(db.url, 'key: "user:{{ u }}", target: a.b.c'))
    assert [event["a"] for event in output(weir)] == [
        {"b": {"c": "v"}}, {"b": {"x": 1, "c": "v"}}, {"b": {"c": "v"}}, {"b": {"c": "v"}}]
    text = (weir.folder / "dead.ndjson").read_text()
    assert text.count("not_object") == 3 and len(dead(weir)) == 3


@pytest.mark.parametrize("options, out, n_dead", [
    ("", [{"u": "a", "t": "1"}, {"u": "b"}], 0),
    ("default: {plan: free}", [{"u": "a", "t": "1"}, {"u": "b", "t": {"plan": "free"}}], 0),
    ("default: null", [{"u": "a", "t": "1"}, {"u": "b", "t": None}], 0),
    ("on_missing: drop", [{"u": "a", "t": "1"}], 0),
    ("on_missing: error", [{"u": "a", "t": "1"}], 1),
])
def test_lookup_of_what_is_missing(weir, db, options, out, n_dead):
    db.set("k:a", "1")
    weir.write(lines([{"u": "a"}, {"u": "b"}]), "in.ndjson")
    weir.run(lookup(db.url, f'key: "k:{{{{ u }}}}", target: t, {options}'))
    assert output(weir) == out
    assert len(dead(weir)) == n_dead


def test_lookup_failures_of_single_events(weir, db):
    db.set("k:good", '{"a":1}')
    db.rpush("k:list", "x")
    db.set("k:text", "no json")
    db.raw.set("k:bytes", b"\xff\xfe")
    weir.write(lines([{"u": "good"}, {"u": "list"}, {"x": 1}, {"u": "text"}, {"u": "bytes"},
                      {"u": "good", "n": 2}]) + b"[1]\n\"s\"\n{bad\n", "in.ndjson")
    weir.run(lookup(db.url, 'key: "k:{{ u }}", target: t, parse: json'))
    assert output(weir) == [{"u": "good", "t": {"a": 1}}, {"u": "good", "n": 2, "t": {"a": 1}}]
    text = (weir.folder / "dead.ndjson").read_text()
    assert len(dead(weir)) == 7
    assert "wrongtype" in text and "bad_json" in text


@pytest.mark.parametrize("how", ['key: "h:{{ k }}"', 'command: [HGET, "h:{{ k }}", f]'])
def test_hostile_events_disturb_no_other_lookup(weir, db, how):
    for key in ("ok1", "ok2"):
        if how.startswith("key"):
            db.set(f"h:{key}", "v")
        else:
            db.hset(f"h:{key}", "f", "v")
    weir.write(lines(HOSTILE_EVENTS), "in.ndjson")
    weir.run(lookup(db.url, how + ", target: t"))
    assert {event["k"]: event["t"] for event in output(weir) if "t" in event} == \
        {"ok1": "v", "ok2": "v"}
    assert len(output(weir)) == 6 and len(dead(weir)) == len(HOSTILE_EVENTS) - 6
    assert "key_too_long" in (weir.folder / "dead.ndjson").read_text() or how.startswith("command")


@pytest.mark.sanitize
def test_lookup_asks_once_for_each_key_and_keeps_the_answer(weir, own_redis):
    server = own_redis()
    client = server.client()
    client.mset({f"user:u{i:08}": f"plan-{i}" for i in range(50)})
    options = 'key: "user:{{ user_id }}", target: plan, timeout: 30s'
    long = ", cache: {ttl: 10m, missing_ttl: 10m}"
    weir.run(lookup(server.url, options + long, "{type: generate, count: 20000, users: 100}"))
    found = output(weir)
    assert len(found) == 20000
    for event in found:
        i = int(event["user_id"][1:])
        assert event.get("plan") == (f"plan-{i}" if i < 50 else None)
    assert asked(client, "get") == 100
    for lanes in (1, 3):
        client.config_resetstat()
        weir.run(lookup(server.url, options + ", cache: {ttl: 0s, missing_ttl: 0s}",
                        f"{{type: generate, count: 20000, users: 100, lanes: {lanes}}}"))
        assert asked(client, "get") > 1000
        assert len(output(weir)) == 20000
        assert sum("plan" in event for event in output(weir)) == \
            sum("plan" in event for event in found)


class Asker:
    """A running weir that looks up what it is asked, one event after the other."""

    def __init__(self, weir, url, options):
        self.weir, self.n = weir, 0
        read, self.write = os.pipe()
        self.running = weir.start(lookup(url, options, '{type: file, path: "-"}'), stdin=read)
        os.close(read)

    def ask(self, key):
        self.n += 1
        os.write(self.write, lines([{"u": key}]))
        wait_until(lambda: len(output(self.weir)) == self.n, 30)
        return output(self.weir)[-1].get("t")

    def end(self):
        os.close(self.write)
        self.running.wait()


def test_lookup_cache_ends(weir, own_redis):
    server = own_redis()
    client = server.client()
    client.set("k:a", "old")
    asker = Asker(weir, server.url, 'key: "k:{{ u }}", target: t, timeout: 30s, '
                                    "cache: {ttl: 500ms, missing_ttl: 500ms}")
    assert asker.ask("a") == "old" and asker.ask("b") is None
    client.mset({"k:a": "new", "k:b": "there"})
    wait_until(lambda: asker.ask("a") == "new", 30)
    wait_until(lambda: asker.ask("b") == "there", 30)
    asker.end()


def test_lookup_cache_is_used_and_bounded(weir, own_redis):
    server = own_redis()
    client = server.client()
    client.mset({"k:c": "1", "k:d": "2", "k:e": "3"})
    asker = Asker(weir, server.url, 'key: "k:{{ u }}", target: t, timeout: 30s, '
                                    "cache: {entries: 2, ttl: 10m}")
    for key in "cdecde":
        asker.ask(key)
    assert asked(client, "get") == 6, "three keys do not fit into two entries"
    client.set("k:d", "new")
    for key in "deddee":
        assert asker.ask(key) in ("2", "3")
    assert asked(client, "get") <= 7
    asker.end()


@pytest.mark.sanitize
def test_lookup_waits_for_redis(weir, own_redis):
    server = own_redis()
    client = server.client()
    client.mset({f"user:u{i:08}": "x" for i in range(1000)})
    r = weir.start(lookup(server.url, 'key: "user:{{ user_id }}", target: t, timeout: 300ms, '
                          "cache: {entries: 0}",
                          "{type: generate, count: 10000, rate: 3000, users: 1000}"))
    r.wait_metric("weir_component_sent_events_total", 1000, component="out")
    server.kill()
    wait_until(lambda: r.find_log("redis does not answer"), 10)
    time.sleep(0.5)
    server.start()
    r.wait_metric("weir_component_sent_events_total", 4000, component="out")
    server.pause()
    time.sleep(1)
    server.resume()
    r.wait()
    assert len(output(weir)) == 10000 and dead(weir) == []
    assert all(event["t"] == "x" for event in output(weir))
    assert r.find_log("redis answers again")


@pytest.mark.parametrize("policy, n_out, n_dead", [("pass", 300, 0), ("error", 0, 300)])
def test_lookup_without_redis(weir, policy, n_out, n_dead):
    r = weir.run(lookup(f"redis://127.0.0.1:{free_port()}", 'key: "k:{{ user_id }}", target: t, '
                        f"on_unavailable: {policy}", "{type: generate, count: 300}"))
    assert len(output(weir)) == n_out and len(dead(weir)) == n_dead
    assert not any("t" in event for event in output(weir))
    assert r.find_log("redis does not answer")


@pytest.mark.sanitize
def test_lookup_passes_at_its_time_out_and_finds_redis_again(weir, own_redis):
    server = own_redis()
    server.client().set("k:a", "1")
    read, write = os.pipe()
    r = weir.start(lookup(server.url, 'key: "k:a", target: t, timeout: 300ms, '
                          "on_unavailable: pass, cache: {entries: 0}", '{type: file, path: "-"}'),
                   stdin=read)
    os.close(read)

    def ask():
        n = len(output(weir))
        os.write(write, b"{}\n")
        wait_until(lambda: len(output(weir)) == n + 1, 30)
        return output(weir)[-1].get("t")

    wait_until(lambda: ask() == "1", 30)
    server.pause()
    assert ask() is None
    server.resume()
    wait_until(lambda: ask() == "1", 30, interval=0.2)
    os.close(write)
    r.wait()


@pytest.mark.sanitize
def test_sigterm_while_a_lookup_waits(weir):
    r = weir.start(lookup(f"redis://127.0.0.1:{free_port()}", 'key: "k:{{ user_id }}", target: t',
                          "{type: generate, rate: 1000, lanes: 3}",
                          more="shutdown_timeout: 1s"))
    wait_until(lambda: r.find_log("redis does not answer"), 10)
    r.stop(expect=None, timeout=20)


def test_lookup_with_a_password(weir, guarded):
    guarded.admin.set("ok:a", "1")
    weir.write(lines([{"u": "a"}]), "in.ndjson")
    weir.run(lookup(guarded.url, 'key: "ok:{{ u }}", target: t, user: weir, password: w31r'))
    assert output(weir) == [{"u": "a", "t": "1"}]


@pytest.mark.parametrize("login", [b"", b"+OK\r\n"], ids=["at login", "behind it"])
@pytest.mark.parametrize("name", HOSTILE)
def test_lookup_at_a_hostile_server(weir, name, login):
    impostor = Impostor(HOSTILE[name], login=login)
    weir.run(lookup(impostor.url, 'key: "k:{{ user_id }}", target: t, timeout: 300ms, '
                    "connect_timeout: 300ms, on_unavailable: pass", "{type: generate, count: 300}"))
    assert len(output(weir)) + len(dead(weir)) == 300


def test_lookup_of_large_answers(weir, db):
    db.set("k:big", "x" * (4 << 20))
    db.set("k:huge", "x" * (17 << 20))
    db.hset("k:wide", mapping={f"f{i}": i for i in range(5000)})
    weir.write(lines([{"u": "big"}, {"u": "huge"}, {"u": "none"}]), "in.ndjson")
    r = weir.run(lookup(db.url, 'key: "k:{{ u }}", target: t, timeout: 60s'))
    assert [len(event.get("t", "")) for event in output(weir)] == [4 << 20, 0]
    assert not r.find_log("redis does not answer")
    assert "reply_too_large" in (weir.folder / "dead.ndjson").read_text()
    weir.write(lines([{"u": "wide"}]), "in.ndjson")
    weir.run(lookup(db.url, 'key: "k:{{ u }}", target: t, lookup: hgetall'))
    assert "too_many_fields" in (weir.folder / "dead.ndjson").read_text()


def test_touch_is_a_lookup(weir, db):
    """It tells how many of the keys are there."""
    db.set("k:a", 1)
    weir.write(lines([{"u": "a"}, {"u": "b"}]), "in.ndjson")
    weir.run(lookup(db.url, 'command: [TOUCH, "k:{{ u }}"], target: t'))
    assert [event["t"] for event in output(weir)] == [1, 0]


# ---- check ------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, path, message", [
    ("target: t", "transforms.find", "either `key` or `command`, found neither"),
    ('target: t, key: "k:{{ u }}", command: [GET, k]', "transforms.find", "found both"),
    ('key: "k:{{ u }}"', "transforms.find", "target"),
    ('key: "k:{{ u }}", target: ""', "transforms.find.target", ""),
    ('key: "k:{{ u }}", target: a..b', "transforms.find.target", "dots between them"),
    ('key: "k:{{ u }}", target: ".a"', "transforms.find.target", "dots between them"),
    ('key: "{{ u }}", target: t', "transforms.find.key", ""),
    ('key: "k:{{ u }}", target: t, lookup: hget', "transforms.find.lookup", "get, hgetall"),
    ("command: [GET, k], target: t, lookup: hgetall", "transforms.find.lookup", "by itself"),
    ('key: k, target: t, parse: xml', "transforms.find.parse", "string, json, auto"),
    ("key: k, target: t, on_missing: fail", "transforms.find.on_missing", "pass, drop, error"),
    ("key: k, target: t, on_missing: drop, default: 1", "transforms.find.default", "on_missing"),
    ("key: k, target: t, on_unavailable: drop", "transforms.find.on_unavailable", "wait, pass"),
    ("key: k, target: t, timeout: 0s", "transforms.find.timeout", ""),
    ("key: k, target: t, cache: {entries: -1}", "transforms.find.cache.entries", ""),
    ("key: k, target: t, cache: {ttl: long}", "transforms.find.cache.ttl", "duration"),
    ("key: k, target: t, cache: {sise: 1}", "transforms.find.cache.sise", 'did you mean "size"'),
    ("command: [BLPOP, k, \"0\"], target: t", "transforms.find.command", "cannot be used"),
    ('command: [GET, "{{ u }}"], target: t', "transforms.find.command", "placeholder"),
    ('command: [incr, "c:{{ u }}"], target: t', "transforms.find.command", "INCR changes something"),
    ('command: [SET, k, v], target: t', "transforms.find.command", "SET changes something"),
    ("command: [PUBLISH, c, m], target: t", "transforms.find.command", "PUBLISH changes something"),
])
def test_wrong_lookup_options(weir, options, path, message):
    checked = weir.check(lookup("redis://127.0.0.1", options), expect=1)
    assert f"at {path}" in checked.text and message in checked.text, checked
    assert ":3:" in checked.text
