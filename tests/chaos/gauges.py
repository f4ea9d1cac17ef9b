# SPDX-License-Identifier: Apache-2.0
"""How far each flow has come, twice a second: what ended at its end, in events.

    platform, copy, count, archive   offsets that the consumer group has committed
    edge                             events that were answered 200
    follow                           records in the topic it writes to
"""
import threading
import time

import confluent_kafka
from confluent_kafka.admin import AdminClient, OffsetSpec

from weirtest.tools import wait_until

INTERVAL = 0.5
WINDOW = 2.5   # seconds that a rate is taken over
BEFORE = 5.0   # seconds in front of a fault that its rate is compared with


class Offsets:
    """Questions to the broker that give None while it is away."""

    def __init__(self, brokers):
        self._admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0, "reconnect.backoff.max.ms": 500})

    def committed(self, group, timeout=2.0):
        """{(topic, partition): offset}"""
        try:
            asked = confluent_kafka.ConsumerGroupTopicPartitions(group)
            found = self._admin.list_consumer_group_offsets([asked], request_timeout=timeout)[group].result(timeout + 1)
        except Exception:  # the broker is away, or does not know its groups yet
            return None
        return {(p.topic, p.partition): p.offset for p in found.topic_partitions if p.offset >= 0}

    def _list(self, topics, spec, timeout):
        known = self._admin.list_topics(timeout=timeout).topics
        asked = {confluent_kafka.TopicPartition(t, p): spec for t in topics for p in known[t].partitions}
        found = self._admin.list_offsets(asked, request_timeout=timeout)
        return {(p.topic, p.partition): future.result(timeout + 1).offset for p, future in found.items()}

    def ends(self, topics, timeout=2.0):
        try:
            return self._list(topics, OffsetSpec.latest(), timeout)
        except Exception:  # as above
            return None

    def begins(self, topics):
        """The broker is there; the leaders of new topics may not know yet that they are."""
        def ask():
            try:
                return (self._list(topics, OffsetSpec.earliest(), 5.0),)
            except confluent_kafka.KafkaException:
                return None
        return wait_until(ask, 30, f"the broker knows {topics}")[0]


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
        self.history = {flow: [] for flow in (*setup.groups, *(["edge"] if setup.edge else []),
                                              *(["follow"] if setup.followed else []))}
        self.committed = {}  # by flow: as last seen
        self.ends = {}

    @property
    def flows(self):
        return list(self.history)

    def run(self):
        while not self._closing.wait(INTERVAL):
            self.sample()

    def sample(self):
        for flow, (group, _) in self._setup.groups.items():
            found = self._offsets.committed(group)
            if found is not None:
                self.committed[flow] = found
                self._note(flow, sum(offset - self._begins.get(at, 0) for at, offset in found.items()))
        if self._setup.edge:
            self._note("edge", self._oracle.acknowledged("edge"))
            self.ends = self._offsets.ends([self._setup.edge]) or self.ends
        if self._setup.followed:
            ends = self._offsets.ends([self._setup.followed])
            if ends is not None:
                self._note("follow", sum(ends.values()))

    def _note(self, flow, value):
        self.history[flow].append((time.monotonic(), value))

    def close(self):
        self._closing.set()
        self.join(30)

    # ---- looking

    def at(self, flow, when):
        """The value of the last sample before that time; 0 before the first."""
        value = 0
        for t, v in self.history[flow]:
            if t > when:
                break
            value = v
        return value

    def rate(self, flow, until, seconds):
        """Events a second over the time before `until`."""
        return (self.at(flow, until) - self.at(flow, until - seconds)) / seconds

    def left(self, timeout=10.0):
        """{flow: events that its group has not committed}; None while the broker does not say."""
        left = {}
        for flow, (group, topics) in self._setup.groups.items():
            committed, ends = self._offsets.committed(group, timeout), self._offsets.ends(topics, timeout)
            if committed is None or ends is None:
                return None
            left[flow] = sum(max(0, end - committed.get(at, self._begins.get(at, 0))) for at, end in ends.items())
        if self._setup.followed:
            ends = self._offsets.ends([self._setup.followed], timeout)
            if ends is None:
                return None
            left["follow"] = max(0, self._oracle.issued("follow") - sum(ends.values()))
        return left
