# SPDX-License-Identifier: Apache-2.0
"""Topics that change under the source `kafka`: messages that are gone before they were read, topics that are
deleted and made again."""
import collections

import pytest

from kafka_rig import python_library
from weirtest import unique_name, wait_until

pytestmark = pytest.mark.long(20)

LIBRARIES = pytest.mark.parametrize("library", ["system", "python"])


def environment(library):
    return python_library() if library == "python" else None


def text(kafka, source, target, group, more=""):
    return f"""
name: gone
sources:
  in:
    type: kafka
    brokers: {kafka.brokers}
    topics: [{source}]
    group: {group}
    commit_interval: 100ms
    {more}
sinks:
  out: {{type: kafka, brokers: "{kafka.brokers}", topic: {target}, on_reject: drop}}
"""


def numbers(messages):
    return sorted(m.json["n"] for m in messages)


def send(kafka, topic, start, end, **more):
    kafka.produce(topic, [{"n": n} for n in range(start, end)], **more)


# ---- Messages that are gone --------------------------------------------------------------------

@LIBRARIES
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_what_was_gone_before_it_was_read_is_counted(weir, kafka, unique, library, start):
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    send(kafka, source, 0, 5)
    weir.run(text(kafka, source, target, group, "stop_at_end: true"), env=environment(library))
    send(kafka, source, 5, 12)
    kafka.purge(source)
    send(kafka, source, 12, 20)
    running = weir.start(text(kafka, source, target, group, f"start: {start}"), env=environment(library))
    assert numbers(kafka.consume(target, 13)) == [*range(5), *range(12, 20)]
    line = running.wait_log("messages are gone from the topic that were not read")[0]
    assert (line["topic"], line["partition"], line["offset"], line["offsets"]) == (source, 0, 5, 7)
    assert running.metric("weir_kafka_offsets_gone_total", component="in") == 7
    running.stop()
    assert kafka.committed(group, source) == {0: 20}


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_run_to_the_end_counts_what_was_gone(weir, kafka, unique, start):
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    send(kafka, source, 0, 5)
    weir.run(text(kafka, source, target, group, "stop_at_end: true"))
    send(kafka, source, 5, 12)
    kafka.purge(source)
    send(kafka, source, 12, 20)
    ended = weir.run(text(kafka, source, target, group, f"start: {start}\n    stop_at_end: true"))
    assert numbers(kafka.consume(target)) == [*range(5), *range(12, 20)]
    line, = ended.find_log("messages are gone from the topic that were not read")
    assert (line["offset"], line["offsets"]) == (5, 7)


@LIBRARIES
def test_a_partition_of_which_nothing_is_left(weir, kafka, unique, library):
    """It is said once, not with every start."""
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    send(kafka, source, 0, 5)
    weir.run(text(kafka, source, target, group, "stop_at_end: true"), env=environment(library))
    send(kafka, source, 5, 12)
    kafka.purge(source)
    running = weir.start(text(kafka, source, target, group), env=environment(library))
    running.wait_metric("weir_kafka_offsets_gone_total", 7, component="in")
    wait_until(lambda: kafka.committed(group, source) == {0: 12})
    running.stop()
    running = weir.start(text(kafka, source, target, group), env=environment(library))
    running.wait_log("partitions taken on")
    send(kafka, source, 12, 13)
    assert numbers(kafka.consume(target, 6)) == [0, 1, 2, 3, 4, 12]
    assert running.metric("weir_kafka_offsets_gone_total", component="in") == 0
    running.stop()


def test_retention_that_overtakes_the_reader_is_counted(weir, kafka, own_redis, unique):
    redis, source, group = own_redis(), kafka.topic(), unique("g")
    fill = "x" * 10000
    running = weir.start(f"""
name: gone
sources:
  in: {{type: kafka, brokers: {kafka.brokers}, topics: [{source}], group: {group}, prefetch: 1MiB}}
sinks:
  out: {{type: redis, url: 'redis://{redis.address}', command: [RPUSH, all, '{{{{ n }}}}'], buffer: {{size: 256KiB}},
        on_reject: drop}}
""")
    kafka.produce(source, [{"n": 0}])
    wait_until(lambda: redis.client().llen("all") == 1)
    redis.pause()
    try:
        kafka.produce(source, [{"n": n, "fill": fill} for n in range(1, 3000)])
        wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 2999, 40)
        kafka.purge(source)
        send(kafka, source, 3000, 3100)
    finally:
        redis.resume()
    running.wait_log("messages are gone from the topic that were not read", timeout=60)
    wait_until(lambda: redis.client().lrange("all", -1, -1) == ["3099"], 60)
    found = [int(n) for n in redis.client().lrange("all", 0, -1)]
    assert found == sorted(set(found)) and found[-100:] == list(range(3000, 3100))
    gone = running.metric("weir_kafka_offsets_gone_total", component="in")
    assert gone > 0 and len(found) + gone == 3100
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    running.stop()


def test_gaps_of_a_compacted_topic_are_none(weir, kafka, unique):
    """Old offsets are missing between others: that is how such a topic is."""
    source, target = kafka.topic(cleanup_policy="compact", min_cleanable_dirty_ratio=0.01, segment_ms=100,
                                 max_compaction_lag_ms=100), kafka.topic()
    send(kafka, source, 0, 300, key=lambda i, _: str(i % 3))
    wait_until(lambda: send(kafka, source, 300, 301, key="last") or len(kafka.consume(source)) < 250, 60, interval=1)
    running = weir.start(text(kafka, source, target, unique("g")))
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0
               and running.metric("weir_component_sent_events_total", component="out") > 1)
    assert running.metric("weir_kafka_offsets_gone_total", component="in") == 0
    running.stop()


# ---- Topics that are made again ----------------------------------------------------------------

def delete(kafka, topic):
    kafka.admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in kafka.admin.list_topics(timeout=10).topics)
    kafka.forget()


@LIBRARIES
@pytest.mark.parametrize("pause", [0, 3])
def test_a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning(weir, kafka, unique, library, pause):
    """At once, before anybody has noticed, and when the group has let go of it."""
    source, target, group = kafka.topic(partitions=2, name=unique_name("again")), kafka.topic(), unique("g")
    running = weir.start(text(kafka, source, target, group, "rdkafka: {topic.metadata.refresh.interval.ms: 500}"),
                         env=environment(library))
    send(kafka, source, 0, 600, key=lambda i, _: str(i))
    assert set(numbers(kafka.consume(target, 600))) == set(range(600))
    wait_until(lambda: sum(kafka.committed(group, source).values()) == 600)
    delete(kafka, source)
    if pause:
        running.wait_log("Kafka topic does not exist", timeout=40, topic=source)
    kafka.topic(partitions=2, name=source)
    send(kafka, source, 600, 700, key=lambda i, _: str(i))
    wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(700)), 60)
    wait_until(lambda: sum(kafka.committed(group, source).values()) == 100, 30)
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    send(kafka, source, 700, 800, key=lambda i, _: str(i))
    wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(800)), 60)
    wait_until(lambda: sum(kafka.committed(group, source).values()) == 200, 30)
    running.stop()
    # Another process gives the ids that this one would have given.
    running = weir.start(text(kafka, source, target, group), env=environment(library))
    send(kafka, source, 800, 900, key=lambda i, _: str(i))
    wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(900)), 60)
    running.stop()
    ids = collections.defaultdict(set)
    for m in kafka.consume(target):
        ids[m.json["n"]].add(m.headers["weir-id"].decode())
    assert sum(map(len, ids.values())) == len(set.union(*ids.values())) == 900
    for n, (one,) in ids.items():
        assert ("@" in one) == (n >= 600), (n, one)
    assert len({one.split("-")[-2] + one.split("@")[1] for n, (one,) in ids.items() if n >= 600}) == 2


REFRESH = "rdkafka: {topic.metadata.refresh.interval.ms: 500}"


def ids_of(messages):
    return [m.headers["weir-id"].decode() for m in messages]


@LIBRARIES
@pytest.mark.parametrize("pause", [0, 3])
def test_a_topic_that_is_made_again_while_nothing_comes_of_it(weir, kafka, unique, library, pause):
    """The process that meets it has read and committed nothing itself."""
    source, target, group = kafka.topic(name=unique_name("again")), kafka.topic(), unique("g")
    send(kafka, source, 0, 50)
    weir.run(text(kafka, source, target, group, "stop_at_end: true"), env=environment(library))
    running = weir.start(text(kafka, source, target, group, REFRESH), env=environment(library))
    running.wait_log("partitions taken on")
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    delete(kafka, source)
    if pause:
        running.wait_log("Kafka topic does not exist", timeout=40, topic=source)
    kafka.topic(name=source)
    send(kafka, source, 50, 90)
    wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(90)), 60)
    running.stop()
    assert len(set(ids_of(kafka.consume(target)))) == 90


@LIBRARIES
def test_a_partition_that_another_process_had_read(weir, kafka, unique, library):
    """Of two processes one ends after the topic was deleted: the other knows that it is not the one it was."""
    source, target, group = kafka.topic(partitions=2, name=unique_name("again")), kafka.topic(), unique("g")
    pair = [weir.start(text(kafka, source, target, group, REFRESH), env=environment(library)) for _ in range(2)]
    for running in pair:
        running.wait_log("partitions taken on", partitions=1, timeout=40)
    send(kafka, source, 0, 100, key=lambda i, _: str(i))
    wait_until(lambda: sum(kafka.committed(group, source).values()) == 100, 30)
    delete(kafka, source)
    for running in pair:
        running.wait_log("Kafka topic does not exist", timeout=40, topic=source)
    pair[1].stop()
    kafka.topic(partitions=2, name=source)
    send(kafka, source, 100, 200, key=lambda i, _: str(i))
    wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(200)), 60)
    pair[0].stop()
    found = kafka.consume(target)
    assert len(set(ids_of(found))) == 200
    assert all(("@" in one) == (m.json["n"] >= 100) for m, one in zip(found, ids_of(found)))
