# SPDX-License-Identifier: Apache-2.0
"""What brokers answer when something is wrong with them, with a group or with a right, one answer after the
other, from librdkafka's mock cluster: nothing is lost, nothing comes out of order, and what needs
somebody's help is told."""
import collections

import pytest

import kafka_mock as k
from kafka_rig import python_library
from weirtest import wait_until

pytestmark = pytest.mark.long(60)

LIBRARIES = pytest.mark.parametrize("library", ["system", "python"])


@pytest.fixture
def clusters(weir):
    """Where the events come from, and where they go: the test's own clients must not meet the errors that are
    meant for weir's."""
    made = k.Mock(), k.Mock()
    yield made
    weir.close()
    for cluster in made:
        cluster.stop()


def environment(library):
    return python_library() if library == "python" else None


def text(origin, goal, source, target, group, options="", session=30000, queue=100000):
    return f"""
name: errors
sources:
  in:
    type: kafka
    brokers: "{origin.brokers}"
    topics: [{source}]
    group: {group}
    commit_interval: 50ms
    rdkafka: {{session.timeout.ms: {session}, heartbeat.interval.ms: 200, topic.metadata.refresh.interval.ms: 1000}}
    {options}
sinks:
  out:
    type: kafka
    brokers: "{goal.brokers}"
    topic: {target}
    retry: {{max: 200ms}}
    on_reject: drop
    # A broker refuses what comes behind a request that it refused, for its number does not fit; the mock does not.
    rdkafka: {{max.in.flight: 1, queue.buffering.max.messages: {queue}}}
"""


class Flow:
    """Numbered events through a weir from a topic of one cluster to a topic of another."""

    def __init__(self, weir, clusters, unique, library, partitions=3, **options):
        self.origin, self.goal = clusters
        self.group, self.source, self.target = unique("g"), self.origin.topic(partitions), self.goal.topic(partitions)
        self.n, self.known = 0, []
        self.start = lambda ready=True: weir.start(
            text(*clusters, self.source, self.target, self.group, **options), env=environment(library), ready=ready)

    def send(self, n=100):
        self.origin.produce(self.source, [{"n": i} for i in range(self.n, self.n + n)], key=lambda i, v: str(v["n"] % 10))
        self.n += n

    def arrive(self, what=""):
        """Until everything that was sent has arrived."""
        def all_there():
            self.known = self.goal.consume(self.target)
            return {m.json["n"] for m in self.known} == set(range(self.n))
        wait_until(all_there, 40, lambda: f"{what}: {len(self.known)} of {self.n} events arrived", interval=0.2)

    def committed(self):
        ends = {p: e for p, e in self.origin.ends(self.source).items() if e > 0}
        return self.origin.committed(self.group, self.source) == ends

    def repeated(self):
        times = collections.Counter(m.json["n"] for m in self.known)
        return sorted(n for n, count in times.items() if count > 1)

    def in_order(self):
        by_key = collections.defaultdict(list)
        for m in self.known:
            if m.json["n"] not in by_key[m.key]:
                by_key[m.key].append(m.json["n"])
        return all(numbers == sorted(numbers) for numbers in by_key.values())


def unready(running):
    """Why it is not ready; None where it is."""
    answer = running.get("/readyz")
    return answer.json()["pipelines"][0]["reason"] if answer.status_code == 503 else None


# ---- Errors that pass --------------------------------------------------------------------------

# While it runs: (what is asked, how it is answered)
PRODUCER = {
    "the leader has moved": (k.PRODUCE, [k.NOT_LEADER] * 5),
    "a request times out": (k.PRODUCE, [k.REQUEST_TIMED_OUT] * 5),
    "few replicas": (k.PRODUCE, [k.NOT_ENOUGH_REPLICAS] * 5),
    "few replicas, but written": (k.PRODUCE, [k.NOT_ENOUGH_REPLICAS_AFTER_APPEND] * 5),
    "a disk fails": (k.PRODUCE, [k.KAFKA_STORAGE_ERROR] * 5),
}

CONSUMER = {
    "fetch: the leader has moved": (k.FETCH, [k.NOT_LEADER] * 5),
    "fetch: a disk fails": (k.FETCH, [k.KAFKA_STORAGE_ERROR] * 5),
    "commit: the coordinator loads": (k.OFFSET_COMMIT, [k.COORDINATOR_LOAD_IN_PROGRESS] * 3),
    "commit: another coordinator": (k.OFFSET_COMMIT, [k.NOT_COORDINATOR] * 2),
    "commit: no coordinator": (k.OFFSET_COMMIT, [k.COORDINATOR_NOT_AVAILABLE] * 2),
    "commit: the group rebalances": (k.OFFSET_COMMIT, [k.REBALANCE_IN_PROGRESS] * 2),
    "heartbeat: another coordinator": (k.HEARTBEAT, [k.NOT_COORDINATOR] * 2),
    "heartbeat: the group rebalances": (k.HEARTBEAT, [k.REBALANCE_IN_PROGRESS]),
}

MEMBERSHIP = {
    "commit: an old generation": (k.OFFSET_COMMIT, [k.ILLEGAL_GENERATION]),
    "commit: an unknown member": (k.OFFSET_COMMIT, [k.UNKNOWN_MEMBER_ID]),
    "heartbeat: an old generation": (k.HEARTBEAT, [k.ILLEGAL_GENERATION]),
    "heartbeat: an unknown member": (k.HEARTBEAT, [k.UNKNOWN_MEMBER_ID]),
    "join: the coordinator loads": (k.JOIN_GROUP, [k.COORDINATOR_LOAD_IN_PROGRESS] * 2),
}


@LIBRARIES
def test_errors_that_pass_cost_and_repeat_nothing(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    running = flow.start()
    flow.send()
    flow.arrive("without errors")
    cases = [(flow.goal, PRODUCER), (flow.origin, CONSUMER)]
    for cluster, name, (kind, answers) in ((c, name, case) for c, table in cases for name, case in table.items()):
        cluster.push(kind, *answers)
        flow.send()
        flow.arrive(name)
        wait_until(flow.committed, 30, f"{name}: everything is committed", interval=0.2)
        cluster.clear(kind)
    assert flow.repeated() == [] and flow.in_order()
    assert not running.find_log("event rejected") and not running.find_log("partitions lost")
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    assert running.metric("weir_kafka_errors_total", component="in", error="commit") >= 2
    running.stop()


@LIBRARIES
def test_a_lost_membership_loses_no_event(weir, clusters, unique, library):
    """The group throws the member out: it gives its partitions up and joins anew. What was not committed
    comes again."""
    flow = Flow(weir, clusters, unique, library, session=6000)
    running = flow.start()
    flow.send()
    flow.arrive("without errors")
    for name, (kind, answers) in MEMBERSHIP.items():
        flow.origin.push(kind, *answers)
        if kind == k.JOIN_GROUP:
            flow.origin.push(k.HEARTBEAT, k.ILLEGAL_GENERATION)
        before = running.metric("weir_kafka_rebalances_total", component="in")
        flow.send()
        flow.arrive(name)
        running.wait_metric("weir_kafka_rebalances_total", before + 2, component="in")
        wait_until(flow.committed, 30, f"{name}: everything is committed", interval=0.2)
        flow.origin.clear(kind)
    assert flow.in_order()
    assert running.find_log("partitions lost")
    assert running.alive
    running.stop()


@LIBRARIES
def test_errors_at_the_start_are_overcome(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library, options="start: latest")
    flow.origin.push(k.FIND_COORDINATOR, *[k.COORDINATOR_NOT_AVAILABLE] * 3)
    flow.origin.push(k.JOIN_GROUP, *[k.COORDINATOR_LOAD_IN_PROGRESS] * 2)
    flow.origin.push(k.SYNC_GROUP, k.REBALANCE_IN_PROGRESS)
    flow.origin.push(k.OFFSET_FETCH, *[k.COORDINATOR_LOAD_IN_PROGRESS] * 3)
    flow.origin.push(k.LIST_OFFSETS, *[k.NOT_LEADER] * 3)
    flow.goal.push(k.INIT_PRODUCER_ID, *[k.COORDINATOR_LOAD_IN_PROGRESS] * 3)
    running = flow.start()
    wait_until(lambda: len(flow.origin.committed(flow.group, flow.source)) == 3, 60, "the start is kept")
    flow.send()
    flow.arrive()
    assert flow.repeated() == [] and flow.in_order()
    running.stop()


@LIBRARIES
def test_leaders_and_coordinators_that_move(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    running = flow.start()
    for turn in range(6):
        broker = turn % 3 + 1
        flow.send()
        for partition in range(3):
            flow.origin.leader(flow.source, partition, broker)
            flow.goal.leader(flow.target, partition, (broker + partition) % 3 + 1)
        flow.origin.coordinator(flow.group, broker)
        flow.send()
        flow.arrive(f"leader {broker}")
        wait_until(flow.committed, 40, f"coordinator {broker}: everything is committed", interval=0.2)
    assert flow.repeated() == [] and flow.in_order()
    running.stop()


# ---- Errors that end a producer ----------------------------------------------------------------

FATAL = {
    "out of order": [k.OUT_OF_ORDER_SEQUENCE_NUMBER],
    "an unknown producer": [k.UNKNOWN_PRODUCER_ID],
    "an old epoch": [k.INVALID_PRODUCER_EPOCH],
    "one after the other": [k.INVALID_PRODUCER_EPOCH, k.OUT_OF_ORDER_SEQUENCE_NUMBER] * 2,
}


@LIBRARIES
@pytest.mark.parametrize("queue", [100000, 20], ids=["a free queue", "a full queue"])
def test_what_ends_a_producer_loses_and_reorders_nothing(weir, clusters, unique, library, queue):
    """Also where writes wait for room in the queue when they hear of it."""
    flow = Flow(weir, clusters, unique, library, queue=queue)
    running = flow.start()
    flow.send()
    flow.arrive("without errors")
    for name, answers in FATAL.items():
        flow.goal.push(k.PRODUCE, *answers)
        for _ in range(5):
            flow.send(200)
        flow.arrive(name)
        wait_until(flow.committed, 40, f"{name}: everything is committed", interval=0.2)
    assert flow.in_order()
    assert not running.find_log("event rejected")
    running.stop()


@LIBRARIES
def test_an_idempotent_producer_that_is_denied_is_told(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    flow.goal.push(k.INIT_PRODUCER_ID, *[k.CLUSTER_AUTHORIZATION_FAILED] * 10000)
    running = flow.start(ready=False)
    flow.send()
    line = running.wait_log("Kafka denies the idempotent producer: allow Write on the topic", component="out")[0]
    assert line["level"] == "error" and line["error"] == "CLUSTER_AUTHORIZATION_FAILED"
    running.wait_log("sink unavailable", component="out")
    assert wait_until(lambda: unready(running)) == "sink 'out': Kafka denies the idempotent producer"
    assert flow.goal.count(flow.target) == 0
    assert running.metric("weir_kafka_errors_total", component="out", error="authorization") >= 1
    flow.goal.clear(k.INIT_PRODUCER_ID)
    flow.arrive("the right was given")
    wait_until(running.ready)
    assert flow.repeated() == [] and flow.in_order()
    running.stop()


# ---- Rights ------------------------------------------------------------------------------------

@LIBRARIES
def test_a_topic_that_may_not_be_read_is_told_until_it_may(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    flow.origin.topic_error(flow.source, k.TOPIC_AUTHORIZATION_FAILED)
    running = flow.start(ready=False)
    line = running.wait_log("Kafka denies access to the topic", component="in")[0]
    assert line["level"] == "error" and line["topic"] == flow.source
    assert wait_until(lambda: unready(running)) == f"source 'in': Kafka denies access to the topic '{flow.source}'"
    assert running.get("/livez").status_code == 200
    flow.origin.topic_error(flow.source, 0)
    flow.send()
    flow.arrive()
    wait_until(running.ready, 30)
    running.stop()


@LIBRARIES
def test_a_partition_that_may_not_be_read_is_told_until_it_may(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library, partitions=1)
    running = flow.start()
    flow.send()
    flow.arrive()
    flow.origin.push(k.FETCH, *[k.TOPIC_AUTHORIZATION_FAILED] * 100000)
    flow.send()
    running.wait_log("Kafka denies access to the topic", topic=flow.source, timeout=30)
    wait_until(lambda: unready(running))
    flow.origin.clear(k.FETCH)
    flow.arrive("the right was given back")
    wait_until(running.ready)
    assert flow.repeated() == []
    running.stop()


@LIBRARIES
def test_a_group_that_is_denied_is_told_until_it_may_be_used(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    flow.origin.push(k.JOIN_GROUP, *[k.GROUP_AUTHORIZATION_FAILED] * 100000)
    running = flow.start(ready=False)
    running.wait_log("Kafka denies access to the consumer group", component="in", timeout=30)
    assert f"consumer group '{flow.group}'" in wait_until(lambda: unready(running))
    flow.origin.clear(k.JOIN_GROUP)
    flow.send()
    flow.arrive("the right was given")
    wait_until(running.ready)
    running.stop()


@LIBRARIES
def test_a_topic_that_may_not_be_written_is_told_until_it_may(weir, clusters, unique, library):
    flow = Flow(weir, clusters, unique, library)
    running = flow.start()
    flow.send()
    flow.arrive()
    flow.goal.push(k.PRODUCE, *[k.TOPIC_AUTHORIZATION_FAILED] * 100000)
    flow.send()
    line = running.wait_log("sink unavailable", component="out")[0]
    assert line["code"] == "denied" and flow.target in line["reason"]
    assert f"denies writing to the topic '{flow.target}'" in wait_until(lambda: unready(running))
    flow.goal.clear(k.PRODUCE)
    flow.arrive("the right was given")
    wait_until(running.ready)
    assert flow.repeated() == [] and flow.in_order()
    running.stop()


@LIBRARIES
def test_a_topic_that_was_denied_and_is_gone_denies_nothing_more(weir, clusters, unique, library):
    origin, goal = clusters
    source, denied, other = origin.topic(), goal.topic(), goal.topic()
    running = weir.start(text(origin, goal, source, "'topic{{ to }}'", unique("g")).replace(
        "max.in.flight: 1", "max.in.flight: 1, topic.metadata.propagation.max.ms: 1000, "
        "topic.metadata.refresh.interval.ms: 500"), env=environment(library))
    origin.produce(source, [{"to": denied.removeprefix("topic")}])
    goal.consume(denied, 1)
    goal.push(k.PRODUCE, *[k.TOPIC_AUTHORIZATION_FAILED] * 100000)
    origin.produce(source, [{"to": denied.removeprefix("topic")}])
    assert f"denies writing to the topic '{denied}'" in wait_until(lambda: unready(running), 30)
    goal.topic_error(denied, k.UNKNOWN_TOPIC_OR_PART)
    goal.clear(k.PRODUCE)
    running.wait_log("event rejected", code="unknown_topic", timeout=60)
    origin.produce(source, [{"to": other.removeprefix("topic")}])
    goal.consume(other, 1)
    wait_until(running.ready, 20)
    running.stop()


# ---- Offsets that are gone ---------------------------------------------------------------------

@LIBRARIES
def test_an_offset_out_of_range_by_mistake_loses_nothing(weir, clusters, unique, library):
    """A broker says so although it has everything: it is read again from the beginning."""
    flow = Flow(weir, clusters, unique, library, partitions=1)
    running = flow.start()
    flow.send()
    flow.arrive()
    wait_until(flow.committed, 30, "everything is committed")
    flow.origin.push(k.FETCH, k.OFFSET_OUT_OF_RANGE)
    running.wait_log("is read from its beginning", topic=flow.source)
    flow.send()
    flow.arrive()
    wait_until(flow.committed, 30, "everything is committed again")
    assert running.metric("weir_kafka_offsets_gone_total", component="in") == 0
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    running.stop()
