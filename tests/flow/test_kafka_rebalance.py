# SPDX-License-Identifier: Apache-2.0
"""Partitions that go from member to member of a group while events flow: by an eager assignor, with the
librdkafka that weir is linked with, and by the cooperative one, with the newer library that it needs."""
import collections
import signal
import threading
import time

import pytest

from kafka_rig import python_library
from weirtest import wait_until

pytestmark = pytest.mark.long(60)

MODES = {"eager": ("", lambda: None), "cooperative": ("assignment: cooperative-sticky", python_library)}
BOTH = pytest.mark.parametrize("mode", MODES)

QUICK = "rdkafka: {session.timeout.ms: 6000, heartbeat.interval.ms: 300}"


class Group:
    """Weirs that share a topic's partitions."""

    def __init__(self, weir, kafka, unique, mode, partitions=6):
        self.weir, self.kafka, self.mode = weir, kafka, mode
        self.topic, self.name = kafka.topic(partitions=partitions), unique("g")

    def source(self, more=""):
        return f"""
name: share
sources:
  in:
    type: kafka
    brokers: {self.kafka.brokers}
    topics: [{self.topic}]
    group: {self.name}
    commit_interval: 200ms
    {MODES[self.mode][0]}
    {more}
"""

    def join(self, sinks, more=QUICK):
        return self.weir.start(self.source(more) + sinks, env=MODES[self.mode][1]())

    def all_committed(self):
        ends = {p: e for p, e in self.kafka.ends(self.topic).items() if e > 0}
        return self.kafka.committed(self.name, self.topic) == ends

    def to(self, topic):
        return f"""sinks:
  out: {{type: kafka, brokers: "{self.kafka.brokers}", topic: {topic}, on_reject: drop}}
"""


class Stream(threading.Thread):
    """Writes {"n": 0}, {"n": 1}, ... with fifty keys until stop()."""

    def __init__(self, kafka, topic, a_second=2000):
        super().__init__(daemon=True)
        self.kafka, self.topic, self.step, self.n = kafka, topic, a_second // 20, 0
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.05):
            self.kafka.produce(self.topic, [{"n": n} for n in range(self.n, self.n + self.step)],
                               key=lambda i, v: str(v["n"] % 50))
            self.n += self.step

    def stop(self):
        self.ended.set()
        self.join()
        return self.n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def numbers(messages):
    return [m.json["n"] for m in messages]


def repeated(found):
    return sorted(n for n, times in collections.Counter(found).items() if times > 1)


def in_order(messages):
    """Whether each key's events came in order, where those that were repeated count once."""
    by_key = collections.defaultdict(dict)
    for m in messages:
        by_key[m.key].setdefault(m.json["n"])
    return all(list(found) == sorted(found) for found in by_key.values())


def partitions_of(running):
    """Partitions of which it shows a lag, and the lags."""
    return {int(s[1]["partition"]): s[2]
            for s in running.metrics().matching("weir_kafka_watermark_lag", component="in")}


# ---- Coming and going --------------------------------------------------------------------------

# The builds with sanitizers come with preloads of their own.
@pytest.mark.parametrize("mode", [pytest.param("eager", marks=pytest.mark.sanitize), "cooperative"])
def test_several_come_at_once_and_go_while_a_stream_flows(weir, kafka, unique, mode):
    """The second and third join while the first is still giving partitions up for the other, with two
    lanes each. What they do in order and in time neither loses nor repeats anything."""
    group, target = Group(weir, kafka, unique, mode, partitions=8), kafka.topic(partitions=3)
    weirs = [group.join(group.to(target), QUICK + "\n    lanes: 2")]
    with Stream(kafka, group.topic) as stream:
        kafka.consume(target, 1000)
        for _ in range(2):
            others = [group.join(group.to(target), QUICK + "\n    lanes: 2") for _ in range(2)]
            weirs += others
            wait_until(lambda: kafka.members(group.name) == 6, 60)
            for running in others:
                running.wait_metric("weir_component_sent_events_total", 200, timeout=60, component="in")
            for running in others:
                running.signal(signal.SIGTERM)
            for running in others:
                running.wait()
            wait_until(lambda: kafka.members(group.name) == 2, 60)
        total = stream.stop()
    got = kafka.consume(target, total, timeout=90, quiet=1)
    assert set(numbers(got)) == set(range(total))
    assert in_order(got)
    late = [line for running in weirs for word in ("drain deadline", "partitions lost") for line in running.find_log(word)]
    assert late == []
    assert repeated(numbers(got)) == []
    wait_until(group.all_committed, 30)
    assert weirs[0].metric("weir_kafka_errors_total", component="in", error="fatal") == 0
    wait_until(lambda: set(partitions_of(weirs[0]).values()) == {0} and len(partitions_of(weirs[0])) == 8)
    weirs[0].stop()


@BOTH
def test_lags_are_shown_by_the_owner_alone(weir, kafka, unique, mode):
    group, target = Group(weir, kafka, unique, mode, partitions=4), kafka.topic()
    kafka.produce(group.topic, [{"n": n} for n in range(400)], key=lambda i, _: str(i))
    first = group.join(group.to(target))
    wait_until(lambda: partitions_of(first) == {0: 0, 1: 0, 2: 0, 3: 0})
    second = group.join(group.to(target))
    wait_until(lambda: (len(partitions_of(first)), len(partitions_of(second))) == (2, 2), 60)
    assert set(partitions_of(first)) | set(partitions_of(second)) == {0, 1, 2, 3}
    second.stop()
    wait_until(lambda: partitions_of(first) == {0: 0, 1: 0, 2: 0, 3: 0}, 60)
    first.stop()


# ---- A drain that takes long -------------------------------------------------------------------

@BOTH
def test_a_drain_that_takes_too_long_ends_at_its_deadline(weir, kafka, own_kafka, unique, mode):
    """Some events wait for a broker that hangs, and a third member joins while the first still drains for
    the second. At the deadline the partitions go; what was under way of them comes twice, nothing else."""
    stuck, group, fast = own_kafka(), Group(weir, kafka, unique, mode, partitions=4), kafka.topic(partitions=3)
    slow = stuck.topic()
    sinks = f"""transforms:
  ways: {{type: route, inputs: [in], routes: {{slow: event.slow}}}}
sinks:
  slow: {{type: kafka, inputs: [ways.slow], brokers: "{stuck.brokers}", topic: {slow}, on_reject: drop}}
  fast: {{type: kafka, inputs: [ways.other], brokers: "{kafka.brokers}", topic: {fast}, on_reject: drop}}
"""
    more = "drain_deadline: 5s\n    " + QUICK
    first = group.join(sinks, more)
    first.wait_log("partitions taken on", partitions=4, timeout=60)
    kafka.produce(group.topic, [{"n": -1, "slow": True}])
    stuck.consume(slow, 1)
    stuck.pause()
    try:
        for partition in range(4):
            kafka.produce(group.topic, [{"n": -2 - partition, "slow": True}], partition=partition)
        first.wait_metric("weir_component_received_events_total", 5, component="slow")
        with Stream(kafka, group.topic) as stream:
            before = first.metric("weir_kafka_rebalances_total", component="in")
            others = [group.join(sinks, more)]
            first.wait_metric("weir_kafka_rebalances_total", before + 1, component="in")
            others.append(group.join(sinks, more))
            time.sleep(2)
            assert not first.find_log("partitions handed over")  # it drains
            began = time.monotonic()
            first.wait_log("handed over at the drain deadline", timeout=30)
            assert time.monotonic() - began < 15
            for running in others:
                running.wait_metric("weir_component_sent_events_total", 100, timeout=60, component="fast")
            total = stream.stop()
    finally:
        stuck.resume()
    got = kafka.consume(fast, total, timeout=90, quiet=1)
    assert set(numbers(got)) == set(range(total))
    assert in_order(got)
    wait_until(group.all_committed, 60)
    found = numbers(stuck.consume(slow))
    assert set(found) == {-1, -2, -3, -4, -5} and found.count(-1) == 1
    for running in (first, *others):
        running.stop()


# ---- Partitions that were lost -----------------------------------------------------------------

@BOTH
def test_what_a_sleeper_still_held_is_not_written_over_its_successors(weir, kafka, own_redis, unique, mode):
    """A process sleeps for longer than its session, with events that wait for their write. When it wakes up
    the write is long due; but another member has written newer values meanwhile."""
    redis, group = own_redis(), Group(weir, kafka, unique, mode, partitions=2)

    def sinks(batch):
        return f"""sinks:
  out: {{type: redis, url: 'redis://{redis.address}', command: [SET, 'k:{{{{ k }}}}', '{{{{ n }}}}'], on_reject: drop{batch}}}
"""

    quick = "rdkafka: {session.timeout.ms: 3000, heartbeat.interval.ms: 300}"
    sleeper = group.join(sinks(", batch: {events: 10000, timeout: 6s}"), quick)
    sleeper.wait_log("partitions taken on", partitions=2, timeout=60)
    kafka.produce(group.topic, [{"k": f"k{n}", "n": "old"} for n in range(200)], key=lambda i, _: str(i))
    sleeper.wait_metric("weir_component_received_events_total", 200, component="out")
    assert redis.client().dbsize() == 0
    sleeper.signal(signal.SIGSTOP)
    try:
        other = group.join(sinks(""), quick)
        other.wait_log("partitions taken on", partitions=2, timeout=60)
        kafka.produce(group.topic, [{"k": f"k{n}", "n": "new"} for n in range(200)], key=lambda i, _: str(i))
        other.wait_metric("weir_component_sent_events_total", 400, timeout=60, component="out")
        time.sleep(4)  # the sleeper's write is due by now
    finally:
        sleeper.signal(signal.SIGCONT)
    sleeper.wait_log("partitions lost", timeout=60)
    wait_until(lambda: sleeper.metric("weir_component_discarded_events_total", reason="abandoned") == 200,
               what=lambda: "all are abandoned\n" + sleeper.metrics().text)
    assert set(redis.client().mget([f"k:k{n}" for n in range(200)])) == {"new"}
    wait_until(lambda: sleeper.find_log("partitions taken on", partitions=1), 60)
    sleeper.stop()
    other.stop()
    assert set(redis.client().mget([f"k:k{n}" for n in range(200)])) == {"new"}
    assert group.all_committed()


def test_a_short_sleep_costs_nothing(weir, kafka, own_redis, unique):
    """Shorter than the session: what waited for its write is written, once the group has answered."""
    redis, group = own_redis(), Group(weir, kafka, unique, "eager", partitions=2)
    sleeper = group.join(f"""sinks:
  out: {{type: redis, url: 'redis://{redis.address}', command: [INCR, 'k:{{{{ k }}}}'], on_reject: drop,
        batch: {{events: 10000, timeout: 2s}}}}
""", "rdkafka: {session.timeout.ms: 20000, heartbeat.interval.ms: 300}")
    sleeper.wait_log("partitions taken on", partitions=2, timeout=60)
    kafka.produce(group.topic, [{"k": f"k{n}"} for n in range(200)], key=lambda i, _: str(i))
    sleeper.wait_metric("weir_component_received_events_total", 200, component="out")
    sleeper.signal(signal.SIGSTOP)
    time.sleep(5)
    sleeper.signal(signal.SIGCONT)
    wait_until(lambda: redis.client().dbsize() == 200)
    assert set(redis.client().mget([f"k:k{n}" for n in range(200)])) == {"1"}
    assert not sleeper.find_log("partitions lost")
    sleeper.stop()
    assert group.all_committed()
