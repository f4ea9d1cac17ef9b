# SPDX-License-Identifier: Apache-2.0
"""Sink and transform redis on a real Redis Cluster, while slots move and nodes die."""
import time

import pytest
from redis.crc import key_slot

from redis_parts import (Cluster, cluster, copied, dead, generated, ignore_errors, lines, lookup,  # noqa: F401
                         made, output, pipeline)
from weirtest import events, wait_until


def slot_of(key):
    return key_slot(key.encode())


@pytest.mark.sanitize
def test_events_go_to_the_nodes_of_their_keys(weir, cluster):
    n = 5000
    for seed in (cluster.nodes[0], cluster.nodes[2]):
        weir.run(generated(seed.url, 'set: {key: "e:{{ id }}", value: "{{ seq }}"}, cluster: true',
                           f"count: {n}"))
    assert cluster.size() == n and dead(weir) == []
    assert all(node.client().dbsize() > n / 5 for node in cluster.masters)


@pytest.mark.parametrize("form, check", [
    ('hash: {key: "h:{{ user_id }}", fields: {seq: "{{ seq }}"}}, expire: 90s', "h"),
    ('list: {key: "l:{{ user_id }}", value: "{{ seq }}", trim: 5}, expire: 90s', "l"),
    ('stream: {key: "x:{{ user_id }}", maxlen: 5, exact: true}, once: {ttl: 60s}', "x"),
    ('command: [EVAL, "return redis.call(\'INCR\', KEYS[1])", "1", "n:{{ user_id }}"]', "n"),
    ('command: [MSET, "m:{ {{ user_id }} }:a", "1", "m:{ {{ user_id }} }:b", "2"]', "m"),
])
def test_every_form_in_a_cluster(weir, cluster, form, check):
    weir.run(generated(cluster.url, form + ", cluster: true", "count: 3000, users: 40"))
    assert dead(weir) == []
    keys = [key for node in cluster.masters for key in node.client().keys("[hlxnm]:*")]
    assert len(keys) == (80 if check == "m" else 40)
    if check == "l":
        assert {cluster.client().llen(key) for key in keys} == {5}
    if check == "x":
        assert {cluster.client().xlen(key) for key in keys} == {5}
    if check == "n":
        assert sum(int(cluster.client().get(key)) for key in keys) == 3000


def test_publish_in_a_cluster(weir, cluster):
    client = cluster.nodes[1].client()
    heard = client.pubsub()
    heard.subscribe("news:a")
    wait_until(lambda: client.pubsub_numsub("news:a")[0][1] == 1, 10)
    weir.write(lines([{"id": "a"}]), "in.ndjson")
    weir.run(pipeline(cluster.url, 'publish: {channel: "news:{{ id }}"}, cluster: true'))
    wait_until(lambda: (heard.get_message(timeout=1) or {}).get("data") == '{"id": "a"}', 10)


def test_keys_in_several_slots_reject_their_event_alone(weir, cluster):
    weir.write(lines([{"a": "{t}1", "b": "{t}2"}, {"a": "x", "b": "y"}, {"a": "{u}", "b": "{u}3"}]),
               "in.ndjson")
    weir.run(pipeline(cluster.url, 'command: [MSET, "k{{ a }}", "1", "k{{ b }}", "2"], cluster: true'))
    assert [entry["code"] for entry in dead(weir)] == ["crossslot"]
    assert cluster.size() == 4


@pytest.mark.sanitize
def test_slots_move_while_weir_writes(weir, cluster):
    n, users = 40_000, 60
    r = weir.start(copied(generated(
        cluster.url, 'command: [RPUSH, "last:{{ user_id }}", "{{ seq }}"], cluster: true, '
                     "batch: {events: 200}", f"count: {n}, rate: {n / 6}, users: {users}")))
    r.wait_metric("weir_component_sent_events_total", 2000, component="out")
    slots = sorted({slot_of(f"last:u{i:08}") for i in range(users)})
    source, target = cluster.masters[:2]
    mine = [slot for slot in slots if slot < 16384 // 3]
    assert len(mine) > 5
    for slot in mine[:-2]:
        cluster.move(slot, source, target)
    for slot in mine[:-4]:
        cluster.move(slot, target, source)
    r.wait()
    expected = {}
    for event in made(weir):
        expected.setdefault(event["user_id"], []).append(str(event["seq"]))
    client = cluster.client()
    assert dead(weir) == [] and sum(map(len, expected.values())) == n
    for user, seqs in expected.items():
        assert client.lrange(f"last:{user}", 0, -1) == seqs, user
    assert not r.find_log("sink unavailable, will try again")


@pytest.mark.sanitize
def test_a_slot_that_is_half_moved(weir, cluster):
    """ASK: some keys of the slot are there already, some not yet, new ones go to the new node."""
    slot = slot_of("{t}")
    owner, other = cluster.owner(slot)
    for i in range(40):
        owner.client().rpush("k:{t}:%d" % i, "first")
    cluster.begin_move(slot, owner, other)
    assert cluster.move_keys(slot, owner, other, 20) == 20
    weir.write(lines([{"i": i % 60, "n": i // 60} for i in range(1200)]), "in.ndjson")
    r = weir.run(pipeline(cluster.url, 'command: [RPUSH, "k:{t}:{{ i }}", "{{ n }}"], cluster: true, '
                                   "expire: 100s, batch: {events: 100}"))
    cluster.end_move(slot, owner, other)
    client = cluster.client()
    for i in range(60):
        stored = client.lrange("k:{t}:%d" % i, 0, -1)
        assert stored == (["first"] if i < 40 else []) + [str(n) for n in range(20)], i
        assert client.ttl("k:{t}:%d" % i) > 0
    assert dead(weir) == [] and not r.find_log("sink unavailable, will try again")


def test_once_waits_while_its_slot_moves(weir, cluster):
    """The guard's key is at neither node: TRYAGAIN, however often, is no attempt of the event's."""
    slot = slot_of("{t}")
    owner, other = cluster.owner(slot)
    for i in range(10):
        owner.client().set("c:{t}:%d" % i, 100)
    cluster.begin_move(slot, owner, other)
    assert cluster.move_keys(slot, owner, other, 5) == 5
    weir.write(lines([{"i": i % 10} for i in range(200)]), "in.ndjson")
    r = weir.start(pipeline(cluster.url, 'command: [INCR, "c:{t}:{{ i }}"], once: {ttl: 60s}, '
                            "cluster: true, retry: {attempts: 2, initial: 5ms, max: 10ms}"),
                   ready=False)
    refused = lambda node: node.client().info("errorstats").get("errorstat_TRYAGAIN", {})  # noqa: E731
    wait_until(lambda: sum(refused(node).get("count", 0) for node in (owner, other)) > 500, 30)
    cluster.end_move(slot, owner, other)
    r.wait()
    assert {cluster.client().get("c:{t}:%d" % i) for i in range(10)} == {"120"} and dead(weir) == []


@pytest.mark.long(25)
@pytest.mark.sanitize
def test_a_master_dies_and_its_replica_takes_over(weir, own_redis):
    cluster = Cluster(own_redis, 3, 3)  # noqa: F811
    n = 30_000
    r = weir.start(copied(generated(
        cluster.url, 'command: [HSET, "last:{{ user_id }}", seq, "{{ seq }}"], cluster: true, '
                     "timeout: 1s", f"count: {n}, rate: 3000, users: 50")))
    r.wait_metric("weir_component_sent_events_total", 3000, component="out")
    # All that weir was told is stored must be at the replica: WAIT is the operator's way to that.
    cluster.masters[0].pause()
    time.sleep(0.5)
    replica = cluster.nodes[3]
    cluster.masters[0].kill()
    wait_until(lambda: replica.client().info("replication")["role"] == "master", 60)
    r.wait(timeout=90)
    expected = {event["user_id"]: str(event["seq"]) for event in made(weir)}
    stored = {}
    for node in cluster.nodes[1:4]:
        client = node.client()
        stored |= {key[5:]: client.hget(key, "seq") for key in client.keys("last:*")}
    assert dead(weir) == [] and len(expected) == 50
    assert stored == expected
    assert r.find_log("write failed") or "connect_failed" in r.stderr or "connection_lost" in r.stderr \
        or "timeout" in r.stderr


def test_a_cluster_without_cluster_true_says_what_to_do(weir, cluster):
    weir.write(lines(events(50)), "in.ndjson")
    r = weir.start(pipeline(cluster.url, 'set: {key: "k:{{ id }}"}', more="shutdown_timeout: 1s"))
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="moved")
    wait_until(lambda: "say `cluster: true`" in r.stderr, 10)
    r.stop(expect=None)


def test_a_server_that_is_no_cluster(weir, own_redis):
    server = own_redis()
    weir.write(lines(events(5)), "in.ndjson")
    r = weir.start(pipeline(server.url, 'set: {key: "k:{{ id }}"}, cluster: true',
                            more="shutdown_timeout: 1s"))
    wait_until(lambda: "does not say where the servers are" in r.stderr
               and "cluster support disabled" in r.stderr, 10)
    r.stop(expect=None)


def test_the_first_node_may_be_away(weir, cluster):
    weir.write(lines(events(500)), "in.ndjson")
    away = f"redis://127.0.0.1:{cluster.nodes[0].port + 20000}"
    nodes = ", ".join(node.address for node in cluster.nodes[1:])
    weir.run(pipeline(away, f'set: {{key: "k:{{{{ id }}}}"}}, cluster: true, nodes: [{nodes}]'))
    assert cluster.size() == 500


# ---- transform --------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_lookups_in_a_cluster_while_slots_move(weir, cluster):
    client = cluster.client()
    users = 60
    for i in range(users):
        client.set(f"user:u{i:08}", f"plan-{i}")
    r = weir.start(lookup(cluster.url, 'key: "user:{{ user_id }}", target: plan, cluster: true, '
                          "cache: {entries: 0}",
                          f"{{type: generate, count: 12000, rate: 3000, users: {users}}}"))
    r.wait_metric("weir_component_sent_events_total", 1000, component="out")
    source, target = cluster.masters[:2]
    mine = sorted({slot_of(f"user:u{i:08}") for i in range(users)} & set(range(16384 // 3)))
    for slot in mine[1:]:
        cluster.move(slot, source, target)
    cluster.begin_move(mine[0], source, target)
    cluster.move_keys(mine[0], source, target)
    r.wait()
    found = output(weir)
    assert len(found) == 12000
    assert all(event["plan"] == f"plan-{int(event['user_id'][1:])}" for event in found)
    assert dead(weir) == [] and not r.find_log("redis does not answer")


def test_lookups_of_other_slots_go_on_while_one_is_away(weir, cluster):
    users = {name: slot_of(f"user:{name}") for name in "abcdefgh"}
    client = cluster.client()
    for name in users:
        client.set(f"user:{name}", name)
    for node in cluster.nodes:
        node.client().config_set("cluster-require-full-coverage", "no")
    for node in cluster.nodes:
        ignore_errors(lambda: node.client().execute_command("CLUSTER", "DELSLOTS", users["a"]))
    weir.write(lines([{"u": name} for name in users] * 50), "in.ndjson")
    r = weir.run(lookup(cluster.nodes[0].url, 'key: "user:{{ u }}", target: t, cluster: true, '
                        "on_unavailable: pass, cache: {entries: 0}"))
    assert len(output(weir)) == 50 * len(users)
    assert all(event.get("t") == (None if event["u"] == "a" else event["u"]) for event in output(weir))
    assert r.find_log("redis does not answer")


def test_lookups_of_several_keys_wait_while_their_slot_moves(weir, cluster):
    """TRYAGAIN: one of the keys is there already, the other is not."""
    slot = slot_of("{t}")
    owner, other = cluster.owner(slot)
    cluster.client().mset({"{t}a": "1", "{t}b": "2"})
    cluster.begin_move(slot, owner, other)
    assert cluster.move_keys(slot, owner, other, 1) == 1
    weir.write(lines([{"k": "a", "l": "b"}]), "in.ndjson")
    r = weir.start(lookup(cluster.url, 'command: [MGET, "{t}{{ k }}", "{t}{{ l }}"], target: t, '
                                       "cluster: true, timeout: 30s"), ready=False)
    refused = lambda node: node.client().info("errorstats").get("errorstat_TRYAGAIN", {})  # noqa: E731
    wait_until(lambda: refused(owner) or refused(other), 20)
    cluster.end_move(slot, owner, other)
    r.wait()
    assert output(weir) == [{"k": "a", "l": "b", "t": ["1", "2"]}]
    assert not r.find_log("redis does not answer")


@pytest.mark.parametrize("options, path, message", [
    ("set: {key: k}, cluster: true, database: 3", "sinks.out.database", "database 0 only"),
    ("set: {key: k}, cluster: true, sentinel: {master: m}", "sinks.out.sentinel", "its own failover"),
    ("set: {key: k}, nodes: [h:1]", "sinks.out.nodes", "`cluster: true` or with `sentinel`"),
    ("set: {key: k}, cluster: true, nodes: [\"h:0\"]", "sinks.out.nodes", "1 to 65535"),
    ("set: {key: k}, cluster: true, nodes: [\"redis://h\"]", "sinks.out.nodes", "no scheme"),
    ("set: {key: k}, cluster: true, nodes: []", "sinks.out.nodes", ""),
    ("set: {key: k}, cluster: maybe", "sinks.out.cluster", "true"),
    ("command: [MSET, a, 1, b, 2], cluster: true", "sinks.out.command", "in one slot"),
    ('command: [DEL, "{a}x", "{b}y"], cluster: true', "sinks.out.command", "same {tag}"),
    ('command: [EVAL, "return 1", "0"], cluster: true', "sinks.out.command", "name them as keys"),
])
def test_wrong_cluster_options(weir, options, path, message):
    checked = weir.check(generated("redis://127.0.0.1", options), expect=1)
    assert f"at {path}" in checked.text and message in checked.text, checked
