# SPDX-License-Identifier: Apache-2.0
"""The plugin `kafka` on a cluster of three brokers, which are killed under load, one after the other."""
import collections
import shutil
import tempfile
import threading
import time

import pytest

from kafka_rig import Cluster
from weirtest import wait_until

pytestmark = [pytest.mark.long(60), pytest.mark.xdist_group("kafka_cluster")]


@pytest.fixture(scope="module")
def cluster():
    folder = tempfile.mkdtemp(prefix="weir-cluster-")
    made = Cluster(folder, n_nodes=3, more=["min.insync.replicas=2"])
    try:
        yield made.start()
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def text(cluster, source, target, group, more=""):
    return f"""
name: copy
sources:
  in:
    type: kafka
    brokers: "{cluster.brokers}"
    topics: [{source}]
    group: {group}
    commit_interval: 200ms
    {more}
sinks:
  out: {{type: kafka, brokers: "{cluster.brokers}", topic: {target}, on_reject: drop}}
"""


class Stream(threading.Thread):
    """Writes {"n": 0}, ... with the keys 0 to 49 until stop()."""

    def __init__(self, cluster, topic):
        super().__init__()
        self.cluster, self.topic, self.n, self.ended = cluster, topic, 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.05):
            self.cluster.produce(self.topic, [{"n": n} for n in range(self.n, self.n + 200)],
                                 key=lambda i, v: str(v["n"] % 50))
            self.n += 200

    def stop(self):
        self.ended.set()
        self.join()
        return self.n


def test_a_broker_that_is_killed_under_load_costs_nothing(weir, cluster, unique):
    source, target, group = cluster.topic(partitions=6), cluster.topic(partitions=6), unique("g")
    running = weir.start(text(cluster, source, target, group, "lanes: 2"))
    stream = Stream(cluster, source)
    victim = cluster.nodes[1]
    try:
        running.wait_metric("weir_component_sent_events_total", 2000, timeout=60, component="out")
        victim.kill()
        at = running.metric("weir_component_sent_events_total", component="out")
        # The other two elect leaders and take over the group.
        running.wait_metric("weir_component_sent_events_total", at + 10000, timeout=90, component="out")
        victim.start()
        wait_until(cluster.answers, 90, "all three answer")
        at = running.metric("weir_component_sent_events_total", component="out")
        running.wait_metric("weir_component_sent_events_total", at + 2000, timeout=60, component="out")
    finally:
        total = stream.stop()
        if victim.process.poll() is not None:
            victim.start()
    wait_until(lambda: sum(cluster.committed(group, source).values()) >= total, 90)
    running.stop()
    got = cluster.consume(target, total, timeout=90)
    found = collections.Counter(m.json["n"] for m in got)
    assert set(found) == set(range(total))
    assert [n for n, times in found.items() if times > 1] == []
    by_key = collections.defaultdict(list)
    for m in got:
        by_key[m.key].append(m.json["n"])
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert running.find_log("Kafka connection failed")


def leaders(cluster, topic):
    found = cluster.admin.list_topics(topic, timeout=10).topics[topic].partitions
    return {p: found[p].leader for p in found}


def in_sync(cluster, *topics):
    """Whether each partition has all three replicas: before that the loss of one more stops its writes."""
    found = cluster.admin.list_topics(timeout=10).topics
    return all(len(p.isrs) == 3 for topic in topics for p in found[topic].partitions.values())


def coordinator(cluster, group):
    return cluster.admin.describe_consumer_groups([group])[group].result(20).coordinator.id


def controller(cluster):
    return cluster.admin.describe_cluster().result(20).controller.id


@pytest.mark.long(120)
@pytest.mark.timeout(600)
def test_each_broker_is_killed_once_under_load(weir, cluster, unique):
    """First the one that coordinates the group, then the controller, then the last: everything that a broker
    can be for its clients moves on, and back."""
    source, target, group = cluster.topic(partitions=6), cluster.topic(partitions=6), unique("g")
    running = weir.start(text(cluster, source, target, group, "lanes: 2"))
    stream, killed = Stream(cluster, source), []

    def sent():
        return running.metric("weir_component_sent_events_total", component="out")

    try:
        running.wait_metric("weir_component_sent_events_total", 2000, timeout=60, component="out")
        for choose in (lambda: coordinator(cluster, group), lambda: controller(cluster), lambda: None):
            left = [node.number for node in cluster.nodes if node.number not in killed]
            chosen = choose()
            number = chosen if chosen in left else left[0]
            victim, at = cluster.nodes[number - 1], sent()
            killed.append(number)
            victim.kill()
            running.wait_metric("weir_component_sent_events_total", at + 4000, timeout=90, component="out")
            assert number not in leaders(cluster, target).values()
            victim.start()
            wait_until(cluster.answers, 90, "all three answer")
            wait_until(lambda: in_sync(cluster, source, target, "__consumer_offsets"), 90, "all replicas are in sync")
    finally:
        total = stream.stop()
        for node in cluster.nodes:
            if node.process.poll() is not None:
                node.start()
    assert sorted(killed) == [1, 2, 3]
    wait_until(lambda: sum(cluster.committed(group, source).values()) >= total, 90)
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0, 30)
    running.stop()
    got = cluster.consume(target, total, timeout=90)
    found = collections.Counter(m.json["n"] for m in got)
    assert set(found) == set(range(total))
    by_key = collections.defaultdict(dict)
    for m in got:
        by_key[m.key].setdefault(m.json["n"])
    assert all(list(numbers) == sorted(numbers) for numbers in by_key.values())
    # A session that ran out with its coordinator may repeat what was under way, nothing else.
    assert [n for n, times in found.items() if times > 1] == [] or running.find_log("partitions lost")


def test_too_few_replicas_are_waited_for(weir, cluster, unique):
    """The topic wants three replicas, and two are there: the leader refuses what it is sent."""
    source, target, group = cluster.topic(), cluster.topic(partitions=3, min_insync_replicas=3), unique("g")
    running = weir.start(text(cluster, source, target, group).replace("on_reject", "statistics: 1s, on_reject"))
    running.wait_log("partitions taken on", timeout=60)
    victim = cluster.nodes[2]
    victim.kill()
    try:
        cluster.forget()

        def in_sync():
            return [len(p.isrs) for p in cluster.admin.list_topics(target, timeout=10).topics[target].partitions.values()]

        wait_until(lambda: in_sync() == [2, 2, 2], 60)
        cluster.produce(source, [{"n": n} for n in range(500)], key=lambda i, v: str(i))
        running.wait_metric("weir_kafka_producer_queue_messages", 500, timeout=60, component="out")
        time.sleep(3)  # several refusals
        assert running.metric("weir_kafka_producer_queue_messages", component="out") == 500
        assert cluster.count(target) == 0
    finally:
        victim.start()
        wait_until(cluster.answers, 90, "all three answer")
    found = [m.json["n"] for m in cluster.consume(target, 500, timeout=90, quiet=1)]
    assert sorted(found) == list(range(500))
    assert not running.find_log("event rejected")
    running.stop()


def test_statistics_name_each_broker(weir, cluster, unique):
    source, target, group = cluster.topic(partitions=6), cluster.topic(partitions=6), unique("g")
    cluster.produce(source, [{"n": n} for n in range(3000)], key=lambda i, _: str(i))
    running = weir.start(text(cluster, source, target, group, "statistics: 1s").replace(
        "on_reject: drop", "on_reject: drop, statistics: 1s"))
    addresses = {node.address for node in cluster.nodes}

    def connected(component):
        return {a for a in addresses
                if running.metric("weir_kafka_broker_connected", broker=a, component=component) == 1}

    for component in ("in", "out"):
        wait_until(lambda: connected(component) == addresses, 30, "all brokers are connected")
        for address in addresses:
            rtt = running.metric("weir_kafka_broker_rtt_seconds", broker=address, component=component)
            assert 0 < rtt < 60
    running.wait_metric("weir_kafka_rx_messages_total", 3000, component="in")
    running.wait_metric("weir_kafka_tx_messages_total", 3000, component="out")
    running.stop()
