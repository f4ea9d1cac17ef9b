# SPDX-License-Identifier: Apache-2.0
"""How far each flow has come, twice a second: what ended at its end, in events.

    platform, copy, count, archive   offsets that the consumer group has committed
    api, edge                        events that were answered 200
    follow                           records in the topic it writes to
    buffered, emptied                events that were answered 200, and those that Redis has
"""
import threading
import time

import confluent_kafka
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from weirtest.tools import wait_until

from flows import PARTITIONS
from machine import Machine

INTERVAL = 0.5
WINDOW = 2.5   # seconds that a rate is taken over
BEFORE = 5.0   # seconds in front of a fault that its rate is compared with
ANSWER = 0.5   # seconds that Redis may take


class Offsets:
    """Questions to the broker that give None while it is away. A consumer asks, which never joins its group:
    the admin client of librdkafka can abort its process where a broker goes away."""

    def __init__(self, brokers):
        self._brokers, self._consumers, self._lock = brokers, {}, threading.Lock()

    def _consumer(self, group):
        if group not in self._consumers:
            self._consumers[group] = confluent_kafka.Consumer({
                "bootstrap.servers": self._brokers, "group.id": group, "log_level": 0,
                "reconnect.backoff.max.ms": 500})
        return self._consumers[group]

    def committed(self, group, topics, timeout=2.0):
        """{(topic, partition): offset}"""
        asked = [confluent_kafka.TopicPartition(t, p) for t in topics for p in range(PARTITIONS)]
        try:
            with self._lock:
                found = self._consumer(group).committed(asked, timeout)
        except confluent_kafka.KafkaException:  # the broker is away, or does not know its groups yet
            return None
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def bounds(self, topics, timeout=2.0):
        """{(topic, partition): (offset of the first record, offset behind the last)}"""
        found = {}
        try:
            with self._lock:
                for topic in topics:
                    for p in range(PARTITIONS):
                        found[topic, p] = self._consumer("chaos").get_watermark_offsets(
                            confluent_kafka.TopicPartition(topic, p), timeout)
        except confluent_kafka.KafkaException:  # as above
            return None
        return found

    def ends(self, topics, timeout=2.0):
        found = self.bounds(topics, timeout)
        return None if found is None else {at: end for at, (_, end) in found.items()}

    def begins(self, topics):
        """The broker is there; the leaders of new topics may not know yet that they are."""
        found = wait_until(lambda: self.bounds(topics), 30, f"the broker knows {topics}")
        return {at: begin for at, (begin, _) in found.items()}

    def close(self):
        for consumer in self._consumers.values():
            consumer.close()


class Listed:
    """A list in Redis that only grows. seen: the events in it; length: repeated ones included."""

    def __init__(self, server, key):
        self._client = redis.Redis(port=server.port, socket_timeout=ANSWER, socket_connect_timeout=ANSWER,
                                   retry=Retry(NoBackoff(), 0))  # what is away is told at once
        self._key, self._lock = key, threading.Lock()
        self.seen, self.length = set(), 0

    def read(self):
        """False while Redis does not answer."""
        with self._lock:
            try:
                more = self._client.lrange(self._key, self.length, -1)
            except redis.RedisError:
                return False
            self.length += len(more)
            self.seen.update(value.split(b" ", 1)[0] for value in more)
        return True


class Gauges(threading.Thread):
    """Samples until close(). history[flow] is a list of (monotonic time, events so far)."""

    def __init__(self, setup, world, oracle):
        super().__init__(name="gauges", daemon=True)
        self._setup, self._oracle = setup, oracle
        self._offsets = Offsets(world.kafka.brokers)
        self._closing = threading.Event()
        self._begins = {}
        for _, topics in setup.groups.values():
            self._begins.update(self._offsets.begins(topics))
        self._fronts = {"api": "platform", "edge": "edge", "buffered": "buffered"}
        self._list = Listed(world.redis, setup.buffered) if setup.buffered else None
        self._lengths = [(0.0, 0)]
        self.machine = Machine()
        self.history = {flow: [] for flow in (
            *setup.groups, *(front for front, of in self._fronts.items() if oracle.of(of)),
            *(["follow"] if setup.followed else []), *(["emptied"] if setup.buffered else []))}
        self.committed = {}  # by flow: as last seen
        self.ends = {}

    @property
    def flows(self):
        return list(self.history)

    def run(self):
        while not self._closing.wait(INTERVAL):
            self.sample()

    def sample(self):
        for flow, (group, topics) in self._setup.groups.items():
            found = self._offsets.committed(group, topics)
            if found is not None:
                self.committed[flow] = found
                self._note(flow, sum(offset - self._begins.get(at, 0) for at, offset in found.items()))
        for front, of in self._fronts.items():
            if front in self.history:
                self._note(front, self._oracle.acknowledged(of))
        if self._setup.edge:
            self.ends = self._offsets.ends([self._setup.edge]) or self.ends
        if self._setup.followed:
            ends = self._offsets.ends([self._setup.followed])
            if ends is not None:
                self._note("follow", sum(ends.values()))
        if self._list is not None and self._list.read():
            self._note("emptied", len(self._list.seen))
            self._lengths.append((time.monotonic(), self._list.length))
        self.machine.sample()

    def _note(self, flow, value):
        self.history[flow].append((time.monotonic(), value))

    def close(self):
        self._closing.set()
        self.join(60)
        self._offsets.close()

    # ---- looking

    def at(self, flow, when):
        """The value of the last sample before that time; 0 before the first."""
        value = 0
        for t, v in self.history[flow]:
            if t > when:
                break
            value = v
        return value

    @property
    def length(self):
        """Of the list behind the disk buffer, what is repeated included."""
        return self._lengths[-1][1]

    def length_at(self, when):
        return max(length for t, length in self._lengths if t <= when)

    def rate(self, flow, until, seconds):
        """Events a second over the time before `until`."""
        return (self.at(flow, until) - self.at(flow, until - seconds)) / seconds

    def left(self, timeout=10.0):
        """{flow: events that its group has not committed}; None while the broker does not say."""
        left = {}
        for flow, (group, topics) in self._setup.groups.items():
            committed, ends = self._offsets.committed(group, topics, timeout), self._offsets.ends(topics, timeout)
            if committed is None or ends is None:
                return None
            left[flow] = sum(max(0, end - committed.get(at, self._begins.get(at, 0))) for at, end in ends.items())
        if self._setup.followed:
            ends = self._offsets.ends([self._setup.followed], timeout)
            if ends is None:
                return None
            left["follow"] = max(0, self._oracle.issued("follow") - sum(ends.values()))
        if self._list is not None:
            if not self._list.read():
                return None
            left["emptied"] = max(0, self._oracle.issued("buffered") - len(self._list.seen))
        return left
