# SPDX-License-Identifier: Apache-2.0
"""The servers that the other flow tests stand on, and scripts/servers itself."""
import subprocess
import sys
import time

import confluent_kafka
import pymongo
import pytest
import redis as redis_client

from weirtest import Redis, events, unique_name, wait_until
from weirtest.servers import SCRIPT


def script(*args):
    return subprocess.run([str(SCRIPT), *map(str, args)], capture_output=True, text=True, timeout=120)


def test_kafka_keeps_values_keys_headers_and_order(kafka):
    topic = kafka.topic(partitions=3)
    sent = events(300)
    kafka.produce(topic, sent, key=lambda i, v: v["user_id"], headers=[("weir-id", b"x")])
    got = kafka.consume(topic, 300)
    assert sorted(m.json["id"] for m in got) == sorted(e["id"] for e in sent)
    assert all(m.key == m.json["user_id"].encode() and m.headers == {"weir-id": b"x"} for m in got)
    assert kafka.count(topic) == 300 and set(kafka.ends(topic)) == {0, 1, 2}
    for partition in range(3):
        numbers = [m.json["props"]["n"] for m in got if m.partition == partition]
        assert numbers == sorted(numbers)


def test_kafka_tombstone_binary_and_large_values(kafka):
    topic = kafka.topic()
    values = [None, b"", b"\x00\xff", b"x" * (3 << 20)]
    kafka.produce(topic, values)
    assert [m.value for m in kafka.consume(topic)] == values


def test_kafka_consume_notices_what_is_missing(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [b"one"])
    with pytest.raises(AssertionError, match="has 1 records .* expected 2"):
        kafka.consume(topic, 2, timeout=1)


def test_kafka_committed_and_members(kafka):
    topic, group = kafka.topic(partitions=2), unique_name("group")
    kafka.produce(topic, [b"a", b"b", b"c"], partition=1)
    assert kafka.committed(group, topic) == {}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka.brokers, "group.id": group,
                                         "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    got = []
    wait_until(lambda: got.extend(consumer.consume(10, 0.2)) or len(got) == 3)
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 1, 2)], asynchronous=False)
    assert kafka.members(group) == 1
    consumer.close()
    assert kafka.committed(group, topic) == {1: 2}
    wait_until(lambda: kafka.members(group) == 0)


def test_redis_answers(redis, unique):
    client, key = redis.client(), unique("key")
    client.hset(key, mapping={"a": "1"})
    assert client.hgetall(key) == {"a": "1"}
    assert redis_client.from_url(redis.url).exists(key) == 1


def test_redis_keeps_its_data_and_port_over_kill(own_redis):
    server = own_redis()
    server.client().set("k", "v")
    port, pid = server.port, server.pid
    server.kill()
    with pytest.raises(redis_client.ConnectionError):
        server.client().ping()
    server.start()
    assert (server.port, server.client().get("k")) == (port, "v") and server.pid != pid


def test_redis_with_a_password(own_redis):
    server = own_redis("--requirepass", "secret")
    with pytest.raises(redis_client.AuthenticationError):
        server.client().ping()
    server.restart()
    assert server.client(password="secret").ping()


def test_pause_and_resume(own_redis):
    server = own_redis()
    server.pause()
    with pytest.raises(redis_client.TimeoutError):
        server.client(socket_timeout=0.3, retry=None).ping()
    server.resume()
    assert server.client().ping()


def test_mongodb_answers_and_reports_duplicates(mongo_db):
    mongo_db.events.insert_many({"_id": e["id"], **e} for e in events(50))
    assert mongo_db.events.count_documents({}) == 50
    with pytest.raises(pymongo.errors.BulkWriteError) as error:
        mongo_db.events.insert_many([{"_id": "e1"}, {"_id": "new"}], ordered=False)
    assert [(e["index"], e["code"]) for e in error.value.details["writeErrors"]] == [(0, 11000)]
    assert mongo_db.events.count_documents({}) == 51


def test_mongodb_with_users(own_mongodb):
    server = own_mongodb()
    server.add_user("weir", "secret")
    server.client.shop.events.insert_one({"_id": 1})
    server.args = ["--auth"]
    server.restart()
    with pytest.raises(pymongo.errors.OperationFailure):
        server.client.shop.events.find_one()
    client = pymongo.MongoClient(f"mongodb://weir:secret@{server.address}/?authSource=admin")
    assert client.shop.events.find_one() == {"_id": 1}
    client.close()


# ---- scripts/servers -------------------------------------------------------------------------

def test_two_folders_side_by_side(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    try:
        for folder in folders:
            done = script("up", "--dir", folder, "redis")
            assert done.returncode == 0, done.stderr
        a, b = (Redis(folder) for folder in folders)
        assert a.port != b.port
        assert f"export REDIS_URL=redis://127.0.0.1:{a.port}\n" in (folders[0] / "env").read_text()
        assert script("down", "--dir", folders[0], "redis").returncode == 0
        assert script("status", "--dir", folders[0], "redis").returncode == 1
        assert script("status", "--dir", folders[1], "redis").returncode == 0
        assert b.client().ping()
    finally:
        for folder in folders:
            script("down", "--purge", "--dir", folder, "redis")
    assert not folders[1].exists()


def test_down_leaves_a_process_alone_that_only_has_the_recorded_id(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "redis").mkdir()
        (tmp_path / "redis/pid").write_text(f"{other.pid} 1\n")
        assert script("down", "--dir", tmp_path, "redis").returncode == 0
        assert other.poll() is None
        other.kill()


def test_a_server_that_cannot_start_is_reported_with_its_log(tmp_path):
    done = script("up", "--dir", tmp_path, "--redis-arg", "--no-such-option", "redis")
    assert done.returncode == 1
    assert "redis ended before it answered" in done.stderr and "no-such-option" in done.stderr


def test_servers_end_with_the_process_they_were_started_for(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as owner:
        assert script("up", "--dir", tmp_path, "--until", owner.pid, "redis").returncode == 0
        server = Redis(tmp_path)
        time.sleep(1.5)
        assert server.client().ping()
        owner.kill()
        owner.wait()
        wait_until(lambda: script("status", "--dir", tmp_path, "redis").returncode == 1, 15)


@pytest.mark.parametrize("args", [[], ["sideways"], ["up", "cassandra"], ["up", "--dir"]])
def test_wrong_usage(args):
    done = script(*args)
    assert done.returncode == 2 and "--help" in done.stderr


def test_help():
    done = script("--help")
    assert done.returncode == 0 and "up|down|status" in done.stdout and "set -e" not in done.stdout
