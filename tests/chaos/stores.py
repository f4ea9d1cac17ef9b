# SPDX-License-Identifier: Apache-2.0
"""Reads what Kafka, Redis, MongoDB and the files of a round hold, and has all of it compared."""
import json
from collections import defaultdict

import confluent_kafka
import pymongo

import compare
from compare import Finding, Record
from oracle import DAY


def record(value, topic="", partition=0, offset=0):
    event = json.loads(value)
    client, _, number = event["id"].rpartition("-")
    seq = event["props"]["seq"] if "props" in event else event["seq"]
    return Record(client, int(number), event["user_id"], seq, partition, offset, topic)


def listed(value, place):
    """One of the list behind the disk buffer: "ID USER SEQ"."""
    event, key, seq = (value.decode() if isinstance(value, bytes) else value).split(" ")
    client, _, number = event.rpartition("-")
    return Record(client, int(number), key, int(seq), 0, place)


def read_messages(kafka, topic):
    """All that it holds now, in the order of each partition."""
    reader = confluent_kafka.Consumer({
        "bootstrap.servers": kafka.brokers, "group.id": "chaos-reader", "enable.auto.commit": False,
        "enable.partition.eof": True, "log_level": 0})
    found = defaultdict(list)
    try:
        places = [confluent_kafka.TopicPartition(topic, p)
                  for p in reader.list_topics(topic, 30).topics[topic].partitions]
        bounds = {place.partition: reader.get_watermark_offsets(place, 30) for place in places}
        reader.assign([confluent_kafka.TopicPartition(topic, p, begin) for p, (begin, _) in bounds.items()])
        open_ones = {p for p, (begin, end) in bounds.items() if begin < end}
        while open_ones:
            for m in reader.consume(10000, 0.2):
                if m.error() is None:
                    found[m.partition()].append(m)
                elif m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF and \
                        m.offset() >= bounds[m.partition()][1]:
                    open_ones.discard(m.partition())
    finally:
        reader.close()
    return [m for p in sorted(found) for m in found[p]]


def read_topic(kafka, topic):
    return [record(m.value(), topic, m.partition(), m.offset()) for m in read_messages(kafka, topic)]


def read_lists(client, prefix):
    keys = list(client.scan_iter(f"{prefix}:*", count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.lrange(key, 0, -1)
    return {key.partition(":")[2]: [int(value) for value in values] for key, values in zip(keys, pipe.execute())}


def read_hash_field(client, prefix, field):
    keys = list(client.scan_iter(f"{prefix}:*", count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.hget(key, field)
    return {key.partition(":")[2]: int(value) for key, value in zip(keys, pipe.execute()) if value is not None}


def read_documents(server, database):
    """SecantusDB sometimes stops answering for good: then it is killed, which what it has acknowledged must
    survive anyway, and asked again."""
    for attempt in (1, 2, 3):
        found = []
        try:
            with pymongo.MongoClient(server.uri, socketTimeoutMS=20000, serverSelectionTimeoutMS=10000) as client:
                for doc in client[database].events.find({}, {"user_id": 1, "props": 1}, batch_size=2000):
                    name, _, number = doc["_id"].rpartition("-")
                    found.append(Record(name, int(number), doc["user_id"], doc["props"]["seq"], 0, 0))
            return found
        except pymongo.errors.PyMongoError:
            if attempt == 3:
                raise
            server.kill()
            server.start()
    return None


class Judge:
    """Compares one round. `faults` are dicts of the round's report; `findings` comes out, and `figures`."""

    def __init__(self, setup, world, oracle, faults):
        self.setup, self.world, self.oracle, self.faults = setup, world, oracle, faults
        self.findings, self.figures = [], {}
        self.redis = world.redis.client()

    def run(self):
        if self.setup.has("platform"):
            self.platform()
        counted = []
        if self.setup.has("chain"):
            counted += self.chain()
        if self.setup.issued:
            self.counted(counted)
        if self.setup.has("follow"):
            self.follow()
        if self.setup.buffered:
            self.buffered()
        self.dead_letters()
        return self.findings

    def note(self, where, records):
        self.figures[where] = {"records": len(records), "repeated": sum(compare.extra(records).values())}

    def log(self, where, records, clients):
        """What holds for every log of events."""
        self.note(where, records)
        self.findings += compare.check_there(where, (r.id for r in records), clients)
        self.findings += compare.check_content(where, records)
        self.findings += compare.check_order(where, records)

    def hit(self):
        """(begin, end) of each fault, until all had recovered."""
        return [(f["began"], f["over"]) for f in self.faults]

    # ---- flows

    def platform(self):
        clients = self.oracle.of("platform")
        records = [r for topic in self.setup.platform for r in read_topic(self.world.kafka, topic)]
        self.log("Kafka (platform)", records, clients)
        self.findings += compare.check_topic_of_type("Kafka (platform)", records)
        self.findings += compare.check_repeated_by_request("Kafka (platform)", records, clients, self.hit())
        self.mongodb(clients)
        self.findings += compare.check_counters(
            "Redis (counters)", {k: int(n) for k, n in self.redis.hgetall(f"count:{DAY}").items()}, records)
        self.findings += compare.check_last(
            "Redis (users)", read_hash_field(self.redis, "user", "last_seq"),
            [r for r in records if r.topic == self.setup.platform[2]])
        sessions = {f"session:{client}s{i % 7}" for client, i in compare.ids(clients)}
        missing = sessions - set(self.redis.scan_iter("session:*", count=1000))
        found = compare.finding("lost", "Redis (sessions)", sorted(missing))
        self.findings += [found] if found else []

    def mongodb(self, clients):
        found = read_documents(self.world.mongodb, self.setup.database)
        self.note("MongoDB", found)
        self.findings += compare.check_there("MongoDB", (r.id for r in found), clients)
        self.findings += compare.check_content("MongoDB", found)
        self.findings += [f for f in (compare.finding("duplicated", "MongoDB", compare.extra(found)),) if f]

    def chain(self):
        clients = self.oracle.of("edge")
        edge = read_topic(self.world.kafka, self.setup.edge)
        self.log("Kafka (edge)", edge, clients)
        self.findings += compare.check_repeated_by_request("Kafka (edge)", edge, clients, self.hit())
        copied = read_topic(self.world.kafka, self.setup.copied)
        self.log("Kafka (copied)", copied, clients)
        windows = [(f["copy_from"], f["copy_to"]) for f in self.faults]
        self.findings += compare.check_repeated_by_offset("Kafka (copied)", edge, copied, windows)
        self.archive(clients)
        return copied

    def archive(self, clients):
        """A run that was killed may have left a line half written, which its batch follows whole."""
        found, torn = [], 0
        path = self.setup.archive
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            try:
                if line:
                    found.append(record(line))
            except (ValueError, KeyError, TypeError):
                torn += 1
        kills = sum(f["kills"] > 0 for f in self.faults)
        self.note("file (archive)", found)
        self.figures["file (archive)"]["torn"] = torn
        self.findings += compare.check_there("file (archive)", (r.id for r in found), clients)
        if torn > kills:
            self.findings.append(Finding("changed", "file (archive)", torn,
                                         f"{torn} lines that are no event, after {kills} kills"))

    def counted(self, copied):
        issued = read_topic(self.world.kafka, self.setup.issued)
        clients = self.oracle.of("issued")
        self.log("Kafka (issued)", issued, clients)
        records = copied + issued
        for name in ("list", "half"):
            lists = read_lists(self.redis, name)
            self.figures[f"Redis ({name}, once)"] = {"records": sum(map(len, lists.values())), "repeated": 0}
            self.findings += compare.check_lists(f"Redis ({name}, once)", lists, records)
        history = read_lists(self.redis, "history")
        self.figures["Redis (history)"] = {
            "records": sum(map(len, history.values())),
            "repeated": sum(len(have) - len(set(have)) for have in history.values())}
        self.findings += compare.check_history("Redis (history)", history, records)
        self.findings += compare.check_last("Redis (last)", read_hash_field(self.redis, "last", "seq"), records)

    def follow(self):
        clients = self.oracle.of("follow")
        records = read_topic(self.world.kafka, self.setup.followed)
        self.log("Kafka (followed)", records, clients)
        windows = [(f["follow_from"], f["follow_to"]) for f in self.faults]
        self.findings += compare.check_repeated_by_number("Kafka (followed)", records, windows)

    def buffered(self):
        clients, where = self.oracle.of("buffered"), "Redis (disk buffer)"
        records = [listed(value, at) for at, value in enumerate(self.redis.lrange(self.setup.buffered, 0, -1))]
        self.log(where, records, clients)
        windows = [(f["buffer_from"], f["buffer_to"]) for f in self.faults]
        self.findings += compare.check_repeated_by_place(where, records, clients, self.hit(), windows)

    def dead_letters(self):
        """An outage, a kill or a lost connection is no reason for one."""
        for path in self.setup.dead_files:
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            found = compare.finding("dead-lettered", path.name, (line[:600] for line in lines))
            self.findings += [found] if found else []
        if self.setup.has("platform"):
            dead = read_messages(self.world.kafka, self.setup.platform_dead)
            found = compare.finding("dead-lettered", "user-events.dead", (m.value()[:600] for m in dead))
            self.findings += [found] if found else []
