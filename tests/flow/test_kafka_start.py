# SPDX-License-Identifier: Apache-2.0
"""Where the source `kafka` begins, in partitions that were there and in those that come later."""
import json
import time
from datetime import datetime, timezone

import confluent_kafka
import pytest
from confluent_kafka.admin import NewPartitions

from weirtest import free_port, unique_name, wait_until

REFRESH = "rdkafka: {topic.metadata.refresh.interval.ms: 500}"


def text(kafka, source, target, group, more=""):
    topics = f"[{source}]" if isinstance(source, str) else json.dumps(source)
    return f"""
name: start
sources:
  in:
    type: kafka
    brokers: {kafka.brokers}
    topics: {topics}
    group: {group}
    {more}
sinks:
  out: {{type: kafka, brokers: "{kafka.brokers}", topic: {target}, on_reject: drop}}
"""


def numbers(messages):
    return sorted(m.json["n"] for m in messages)


def timed(kafka, topic, times_ms, partition=0):
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers})
    for n, ms in enumerate(times_ms):
        producer.produce(topic, b'{"n": %d}' % n, timestamp=ms, partition=partition)
    assert producer.flush(20) == 0


# ---- By option ---------------------------------------------------------------------------------

@pytest.mark.parametrize("start, expected", [
    ("start: earliest", range(10)),
    ("start: latest", []),
    ("start: offset\n    start_offset: 4", range(4, 10)),
    ("start: offset\n    start_offset: 0", range(10)),
    ("start: offset\n    start_offset: 400", []),
    ("start: offset\n    start_offset: -3", range(7, 10)),
    ("start: offset\n    start_offset: -300", range(10)),
    ("start: offset\n    start_offset: 9223372036854775807", []),
    ("start: time\n    start_time: 2026-01-01T00:00:05Z", range(5, 10)),
    ("start: time\n    start_time: 2026-01-01T01:00:05.500+01:00", range(6, 10)),
    ("start: time\n    start_time: 2030-01-01T00:00:00Z", []),
    ("start: time\n    start_time: 1970-01-01T00:00:00Z", range(10)),
    ("start: time\n    start_ago: 36500d", range(10)),
    ("start: time\n    start_ago: 1ms", []),
])
@pytest.mark.sanitize
def test_begins(weir, kafka, unique, start, expected):
    source, target = kafka.topic(), kafka.topic()
    begin = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp() * 1000
    timed(kafka, source, [int(begin) + 1000 * n for n in range(10)])
    weir.run(text(kafka, source, target, unique("g"), f"{start}\n    stop_at_end: true"))
    assert numbers(kafka.consume(target)) == list(expected)


@pytest.mark.parametrize("start", ["latest", "offset\n    start_offset: 2", "time\n    start_ago: 1h"])
def test_the_groups_offset_comes_first(weir, kafka, unique, start):
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    kafka.produce(source, [{"n": n} for n in range(5)])
    weir.run(text(kafka, source, target, group, "stop_at_end: true"))
    kafka.produce(source, [{"n": n} for n in range(5, 8)])
    weir.run(text(kafka, source, target, group, f"start: {start}\n    stop_at_end: true"))
    assert numbers(kafka.consume(target)) == list(range(8))


def test_latest_is_decided_once(weir, kafka, unique):
    """What comes while weir is away, before its first event ever, is not skipped."""
    source, target, group = kafka.topic(partitions=3), kafka.topic(), unique("g")
    kafka.produce(source, [{"n": -1}] * 30, key=lambda i, _: str(i))
    running = weir.start(text(kafka, source, target, group, "start: latest"))
    wait_until(lambda: len(kafka.committed(group, source)) == 3)
    running.stop()
    kafka.produce(source, [{"n": n} for n in range(300)], key=lambda i, _: str(i))
    weir.run(text(kafka, source, target, group, "start: latest\n    stop_at_end: true"))
    assert numbers(kafka.consume(target)) == list(range(300))


def test_a_committed_offset_that_is_gone_reads_what_is_left(weir, kafka, unique):
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    kafka.produce(source, [{"n": n} for n in range(5)])
    weir.run(text(kafka, source, target, group, "start: latest\n    stop_at_end: true"))
    kafka.produce(source, [{"n": n} for n in range(5, 10)])
    kafka.purge(source)
    kafka.produce(source, [{"n": n} for n in range(10, 20)])
    weir.run(text(kafka, source, target, group, "start: latest\n    stop_at_end: true"))
    assert numbers(kafka.consume(target)) == list(range(10, 20))


def test_brokers_that_cannot_say_where_to_begin_are_asked_again(weir, kafka, own_kafka, unique):
    broker = own_kafka()
    source, target, group = broker.topic(), kafka.topic(), unique("g")
    running = weir.start(text(broker, source, target, group, "start: latest").replace(
        f'brokers: "{broker.brokers}"', f'brokers: "{kafka.brokers}"'))
    wait_until(lambda: broker.committed(group, source) == {0: 0})
    running.stop()
    running = weir.start(text(broker, source, target, group + "2", "start: latest").replace(
        f'brokers: "{broker.brokers}"', f'brokers: "{kafka.brokers}"'))
    broker.pause()
    time.sleep(7)
    broker.resume()
    wait_until(lambda: broker.committed(group + "2", source), 60)
    broker.produce(source, [{"n": 1}])
    assert numbers(kafka.consume(target, 1, timeout=60)) == [1]
    running.stop()


def test_ends_while_brokers_cannot_say_where_to_begin(weir, kafka, own_kafka, unique):
    broker = own_kafka()
    running = weir.start(text(broker, broker.topic(), kafka.topic(), unique("g"),
                              "start: latest\n    lanes: 3").replace(f'"{broker.brokers}"', f'"{kafka.brokers}"'))
    broker.pause()
    time.sleep(1)
    began = time.monotonic()
    running.stop()
    broker.resume()
    assert time.monotonic() - began < 20


# ---- Partitions and topics that come later -----------------------------------------------------

def grow(kafka, topic, partitions):
    kafka.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
    wait_until(lambda: len(kafka.admin.list_topics(topic, timeout=10).topics[topic].partitions) == partitions)
    kafka.forget()  # our producer learns of them at once


@pytest.mark.parametrize("start", ["earliest", "latest", "offset\n    start_offset: -1"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_topic_that_grows_while_it_is_read_loses_nothing(weir, kafka, unique, start, lanes):
    source, target, group = kafka.topic(partitions=2), kafka.topic(partitions=2), unique("g")
    running = weir.start(text(kafka, source, target, group,
                              f"start: {start}\n    lanes: {lanes}\n    commit_interval: 100ms\n    {REFRESH}"))
    wait_until(lambda: sum(l.get("partitions", 0) for l in running.find_log("partitions taken on")) >= 2)
    total = 0
    for partitions in (2, 3, 6):
        if partitions > 2:
            grow(kafka, source, partitions)
        # At once: long before weir can have heard of the new partitions.
        kafka.produce(source, [{"n": n} for n in range(total, total + 600)], key=lambda i, _: str(i))
        total += 600
        wait_until(lambda: set(numbers(kafka.consume(target))) == set(range(total)), 60)
    # Where it takes on what it had to look up, the group may already form anew: then events repeat.
    assert start != "earliest" or kafka.count(target) == total
    wait_until(lambda: sum(kafka.committed(group, source).values()) == total, 30)
    running.stop()


def test_a_new_topic_of_a_pattern_is_read_from_its_beginning(weir, kafka, unique):
    stem, target, group = unique_name("many"), kafka.topic(), unique("g")
    kafka.topic(name=f"{stem}.a")
    kafka.produce(f"{stem}.a", [{"n": -1}])
    running = weir.start(text(kafka, [f"^{stem}\\..*"], target, group, f"start: latest\n    {REFRESH}"))
    wait_until(lambda: kafka.committed(group, f"{stem}.a") == {0: 1})
    kafka.topic(name=f"{stem}.b")
    kafka.produce(f"{stem}.b", [{"n": n} for n in range(10)])
    kafka.produce(f"{stem}.a", [{"n": n} for n in range(10, 20)])
    assert numbers(kafka.consume(target, 20, timeout=60, quiet=0.5)) == list(range(20))
    running.stop()


@pytest.mark.parametrize("start", ["latest", "time\n    start_ago: 1ms", "offset\n    start_offset: -1"])
def test_a_topic_that_is_made_later_is_read_from_its_beginning(weir, kafka, unique, start):
    source, target, group = unique_name("later"), kafka.topic(), unique("g")
    running = weir.start(text(kafka, source, target, group, f"start: {start}\n    {REFRESH}"))
    running.wait_log("Kafka topic does not exist", topic=source)
    kafka.topic(name=source, partitions=2)
    kafka.produce(source, [{"n": n} for n in range(50)], key=lambda i, _: str(i))
    assert numbers(kafka.consume(target, 50, timeout=60, quiet=0.5)) == list(range(50))
    running.stop()


# ---- What it says ------------------------------------------------------------------------------

def test_statistics_are_metrics(weir, kafka, unique):
    source, target = kafka.topic(partitions=3), kafka.topic(partitions=3)
    total = 5000
    kafka.produce(source, [{"n": n} for n in range(total)], key=lambda i, _: str(i))
    running = weir.start(text(kafka, source, target, unique("g"), "statistics: 1s").replace(
        "on_reject: drop", "on_reject: drop, statistics: 1s"))
    running.wait_metric("weir_kafka_rx_messages_total", total, component="in")
    running.wait_metric("weir_kafka_tx_messages_total", total, component="out")
    plain = running.get("/metrics").text
    described = weir.command("plugins", "kafka").out
    documented = {w for w in described.replace("`", " ").replace(",", " ").replace(".", " ").split()
                  if w.startswith("weir_kafka_")}
    assert len(documented) >= 14
    shown = {line.split("{")[0] for line in plain.splitlines() if line.startswith("weir_kafka_")}
    assert shown == documented
    assert running.metric("weir_kafka_tx_bytes_total", component="out") > total * 5
    assert running.metric("weir_kafka_rx_bytes_total", component="in") > total * 5
    wait_until(lambda: running.metric("weir_kafka_producer_queue_messages", component="out") == 0)
    assert running.metric("weir_kafka_connects_total", component="in") >= 1
    running.stop()


def test_without_statistics_there_are_none(weir, kafka, unique):
    running = weir.start(text(kafka, kafka.topic(), kafka.topic(), unique("g"), "statistics: 0s").replace(
        "on_reject: drop", "on_reject: drop, statistics: 0s"))
    running.wait_log("partitions taken on")
    assert "weir_kafka_broker" not in running.get("/metrics").text
    running.stop()


def test_an_idle_sink_says_that_its_brokers_are_away(weir, kafka, unique):
    dead = f"127.0.0.1:{free_port()}"
    running = weir.start(text(kafka, kafka.topic(), "t", unique("g")).replace(
        f'brokers: "{kafka.brokers}"', f'brokers: "{dead}"'))
    assert dead in running.wait_log("Kafka connection failed", component="out")[0]["reason"]
    running.wait_log("no Kafka broker can be reached", component="out")
    running.stop()


# ---- Wrong configurations ----------------------------------------------------------------------

@pytest.mark.parametrize("start, message", [
    ("start: middle", "earliest"),
    ("start: time", "needs one of start_time"),
    ("start: time\n    start_time: 2026-01-01T00:00:00Z\n    start_ago: 1h", "needs one of start_time"),
    ("start_time: 2026-01-01T00:00:00Z", "has no effect with start: earliest; say start: time"),
    ("start: latest\n    start_ago: 1h", "has no effect with start: latest"),
    ("start: latest\n    start_offset: 5", "has no effect with start: latest; say start: offset"),
    ("start: offset\n    start_offset: first", "start_offset"),
    ("start: time\n    start_ago: -1h", "start_ago"),
    ("start: time\n    start_time: yesterday", "is no time: expected RFC 3339"),
    ("start: time\n    start_time: 2026-02-30T00:00:00Z", "is no time"),
    ("start: time\n    start_time: 2026-01-01T00:00:00", "is no time"),
    ("start: time\n    start_time: 2026-13-01T00:00:00Z", "is no time"),
    ("start: time\n    start_time: 2026-01-01T25:00:00Z", "is no time"),
    ("start: time\n    start_time: 1969-12-31T00:00:00Z", "is no time"),
    ("start: time\n    start_time: 2026-01-01T00:00:00+99:00", "is no time"),
    ("statistics: -1s", "statistics"),
    ("rdkafka: {auto.offset.reset: latest}", "use the option start"),
    ("rdkafka: {statistics.interval.ms: 100}", "use the option statistics"),
])
def test_check_finds(weir, start, message):
    class Nowhere:
        brokers = "a:1"
    checked = weir.check(text(Nowhere, "s", "t", "g", start), expect=1)
    assert message in checked.text and "sources.in" in checked.text
