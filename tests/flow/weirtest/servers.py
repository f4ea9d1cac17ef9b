# SPDX-License-Identifier: Apache-2.0
"""Real Kafka, Redis and MongoDB-protocol servers, started and stopped by scripts/servers.

Each Server is one process in a folder of its own. pause() and resume() stop and continue it
(SIGSTOP: connections stay, nothing answers), kill() is kill -9, stop() and start() keep port and
data. Do those only to a server of your own test (own_kafka, own_redis, own_mongodb).
"""
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import confluent_kafka
import pymongo
import redis as redis_client
from confluent_kafka.admin import AdminClient, NewTopic

from .tools import ROOT, unique_name, wait_until

SCRIPT = ROOT / "scripts/servers"


class Server:
    """One server. `args`: options for it, see `scripts/servers --help`; `until`: the id of the
    process with which it ends at the latest (this one)."""

    name = ""
    option = ""
    host = "127.0.0.1"

    def __init__(self, folder, args=(), until=None, env=None):
        self.folder = Path(folder)
        self.args = list(args)
        self.until = until or os.getpid()
        self.env = env

    def _script(self, verb, *more):
        done = subprocess.run([str(SCRIPT), verb, "--dir", str(self.folder), *more, self.name],
                              capture_output=True, text=True, timeout=300, env=self.env)
        assert done.returncode == 0, f"scripts/servers {verb} {self.name}:\n{done.stdout}{done.stderr}"

    def start(self):
        """Starts it (again) with its port and data, and waits until it answers."""
        more = ["--until", str(self.until)]
        for arg in self.args:
            more += [self.option, arg]
        self._script("up", *more)
        return self

    def stop(self):
        """Ends it in order (SIGTERM). Its clients see closed connections."""
        self.forget()
        self._script("down")

    def restart(self):
        self.stop()
        return self.start()

    def forget(self):
        """Closes our own clients of it."""

    @property
    def pid(self):
        return int((self.folder / self.name / "pid").read_text().split()[0])

    @property
    def port(self):
        return int((self.folder / self.name / "port").read_text())

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def log(self):
        return (self.folder / self.name / "log").read_text(errors="replace")

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        """kill -9. start() brings it back with what it had on disk."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _runs(pid), 10, f"{self.name} is gone")


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Message:
    """One Kafka record: value, key (bytes or None), headers (dict), partition, offset, time_ms."""

    def __init__(self, record):
        self.value = record.value()
        self.key = record.key()
        self.headers = dict(record.headers() or [])
        self.topic = record.topic()
        self.partition = record.partition()
        self.offset = record.offset()
        self.time_ms = record.timestamp()[1]

    @property
    def json(self):
        return json.loads(self.value)

    def __repr__(self):
        return f"<{self.topic}/{self.partition}@{self.offset} key={self.key} {self.value!r:.200}>"


class Kafka(Server):
    """A Kafka broker. `brokers` is what a pipeline's `brokers:` takes."""

    name = "kafka"
    option = "--kafka-set"

    def __init__(self, folder, args=(), **options):
        super().__init__(folder, args, **options)
        self._admin = None
        self._producer = None

    @property
    def brokers(self):
        return self.address

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.brokers})
        return self._admin

    def forget(self):
        self._admin = None
        self._producer = None

    def topic(self, partitions=1, name=None, **config):
        """Makes a topic and gives its name. Settings: max_message_bytes=..., and so on."""
        name = name or unique_name("topic")
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        made = self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])
        made[name].result(30)
        wait_until(lambda: self._leaders(name) == partitions, 20, f"topic {name} has leaders")
        return name

    def _leaders(self, name):
        found = self.admin.list_topics(name, timeout=10).topics[name]
        return sum(1 for p in found.partitions.values() if p.leader >= 0)

    def produce(self, topic, values, key=None, headers=None, partition=None):
        """Writes values and waits for their acks. A value is bytes, text, None (a tombstone), or
        anything else, which is written as JSON. `key` and `headers` hold for all, or are functions
        of (index, value)."""
        if self._producer is None:
            self._producer = confluent_kafka.Producer({
                "bootstrap.servers": self.brokers, "linger.ms": 5, "enable.idempotence": True,
                "message.max.bytes": 16000000,
                "queue.buffering.max.messages": 1000000})
        failed = []
        for i, value in enumerate(values):
            more = {} if partition is None else {"partition": partition}
            data = value if isinstance(value, (bytes, str, type(None))) else json.dumps(value)
            while True:
                try:
                    self._producer.produce(
                        topic, data, key=key(i, value) if callable(key) else key,
                        headers=headers(i, value) if callable(headers) else headers,
                        on_delivery=lambda err, _: failed.append(err) if err else None, **more)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)
        left = self._producer.flush(60)
        assert not failed and left == 0, f"produce to {topic}: {failed[:3]}, {left} left"

    def consume(self, topic, count=None, timeout=30.0, quiet=0.0):
        """The records of a topic from its beginning, in the order of each partition. Waits until
        there are `count` of them, then `quiet` seconds more for any that should not be there.
        Without `count`: all that the topic holds now."""
        consumer = self._reader(topic)
        try:
            bounds = self._bounds(consumer)
            found, deadline = [], time.monotonic() + timeout
            at = {p: begin for p, (begin, _) in bounds.items()}
            while True:
                now = time.monotonic()
                if count is not None and len(found) >= count and now < deadline - quiet:
                    deadline = now + quiet
                if count is None and all(at[p] >= end for p, (_, end) in bounds.items()):
                    return found
                if now >= deadline:
                    break
                for record in consumer.consume(10000, 0.1):
                    if record.error() is None:
                        found.append(Message(record))
                        at[record.partition()] = record.offset() + 1
                    elif record.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        at[record.partition()] = max(at[record.partition()], record.offset())
            assert count is not None and len(found) >= count, \
                f"{topic} has {len(found)} records after {timeout:g} s, expected {count}"
            return found
        finally:
            consumer.close()

    def _reader(self, topic):
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.brokers, "group.id": unique_name("reader"),
            "enable.auto.commit": False, "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 16000000})
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        assert partitions, f"there is no topic {topic}"
        consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
        return consumer

    def count(self, topic):
        """How many records the topic's partitions hold (by offsets)."""
        return sum(end - begin for begin, end in self.bounds(topic).values())

    def ends(self, topic):
        """{partition: offset behind its last record}"""
        return {p: end for p, (_, end) in self.bounds(topic).items()}

    def bounds(self, topic):
        """{partition: (offset of its first record, offset behind its last)}"""
        consumer = self._reader(topic)
        try:
            return self._bounds(consumer)
        finally:
            consumer.close()

    def _bounds(self, consumer):
        return self._ask(lambda: {p.partition: consumer.get_watermark_offsets(p, 10)
                                  for p in consumer.assignment()})

    @staticmethod
    def _ask(question):
        """A new topic's leader, and the coordinator of a new broker's groups, are known before they
        know themselves: they are asked again."""
        def ask():
            try:
                return (question(),)
            except confluent_kafka.KafkaException as error:
                if error.args[0].code() not in (
                        confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION,
                        confluent_kafka.KafkaError.NOT_COORDINATOR,
                        confluent_kafka.KafkaError.COORDINATOR_LOAD_IN_PROGRESS):
                    raise
                return None
        return wait_until(ask, 20, "the broker answers")[0]

    def purge(self, topic):
        """Removes all records; the offsets go on."""
        ends = [confluent_kafka.TopicPartition(topic, p, end) for p, end in self.ends(topic).items()]
        for done in self.admin.delete_records(ends).values():
            done.result(20)

    def committed(self, group, topic):
        """{partition: committed offset} of a group; partitions without one are left out."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": group})
        try:
            partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
            asked = [confluent_kafka.TopicPartition(topic, p) for p in partitions]
            found = self._ask(lambda: consumer.committed(asked, 20))
            return {p.partition: p.offset for p in found if p.offset >= 0}
        finally:
            consumer.close()

    def members(self, group):
        """How many members the consumer group has now."""
        described = self.admin.describe_consumer_groups([group])[group].result(20)
        return len(described.members)

    def shares(self, group):
        """How many partitions each member of the consumer group has; nothing while the group rebalances."""
        described = self.admin.describe_consumer_groups([group])[group].result(20)
        if described.state != confluent_kafka.ConsumerGroupState.STABLE:
            return []
        return [len(member.assignment.topic_partitions) for member in described.members]


class Redis(Server):
    """A Redis server. `url` is redis://HOST:PORT."""

    name = "redis"
    option = "--redis-arg"

    @property
    def url(self):
        return f"redis://{self.address}"

    def client(self, **options):
        """A redis-py client; answers are text unless decode_responses=False."""
        options.setdefault("decode_responses", True)
        return redis_client.Redis(host=self.host, port=self.port, **options)


class MongoDB(Server):
    """A MongoDB-protocol server. `uri` is mongodb://HOST:PORT/."""

    name = "mongodb"
    option = "--mongodb-arg"

    def __init__(self, folder, args=(), **options):
        super().__init__(folder, args, **options)
        self._client = None

    @property
    def uri(self):
        return f"mongodb://{self.address}/"

    @property
    def client(self):
        """A pymongo.MongoClient."""
        if self._client is None:
            self._client = pymongo.MongoClient(self.uri, serverSelectionTimeoutMS=10000)
        return self._client

    def forget(self):
        if self._client is not None:
            self._client.close()
            self._client = None

    def add_user(self, user, password, roles=("root",)):
        """Then `args=["--auth"]` and restart() make the server ask for it."""
        self.client.admin.command("createUser", user, pwd=password, roles=list(roles))
