# SPDX-License-Identifier: Apache-2.0
"""The sink `kafka` on a real broker: what it writes, in which order, and what it makes of failures."""
import collections
import json
import subprocess
import threading
import time

import confluent_kafka
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from kafka_rig import python_library
from weirtest import free_port, unique_name, wait_until


def pipeline(kafka, source_topic, group, sink, source="", more=""):
    return f"""
name: sink
sources:
  in:
    type: kafka
    brokers: {kafka.brokers}
    topics: [{source_topic}]
    group: {group}
    stop_at_end: true
    {source}
sinks:
  out:
    type: kafka
    {sink}
{more}
"""


def copy(kafka, weir, unique, values, sink, key=None, headers=None, more="", source="", **options):
    """Runs the values through a sink with those options; gives the ended weir."""
    topic = kafka.topic()
    kafka.produce(topic, values, key=key, headers=headers)
    return weir.run(pipeline(kafka, topic, unique("g"), f"brokers: {kafka.brokers}\n    {sink}",
                             source, more), **options)


def repeated(found):
    return sorted(n for n, times in collections.Counter(found).items() if times > 1)


# ---- What it writes ----------------------------------------------------------------------------

@pytest.mark.sanitize
def test_topic_key_and_headers_from_templates(weir, kafka, unique):
    stem = unique_name("by")
    for kind in ("a", "b"):
        kafka.topic(name=f"{stem}.{kind}")
    events = [{"n": n, "kind": "ab"[n % 2], "user": {"id": n % 7}, "note": "ü\0x"} for n in range(200)]
    copy(kafka, weir, unique, events,
         f"""topic: "{stem}.{{{{ kind }}}}"
    key: "u{{{{ user.id }}}}"
    headers: {{kind: "{{{{ kind }}}}", fixed: here, from: "{{{{ @topic }}}}", kept: replaced}}
    on_reject: drop""", headers=[("kept", b"old"), ("other", b"\x00")])
    for kind in ("a", "b"):
        got = kafka.consume(f"{stem}.{kind}")
        assert [m.json for m in got] == [e for e in events if e["kind"] == kind]
        for m in got:
            assert m.key == b"u%d" % m.json["user"]["id"]
            assert {k: v for k, v in m.headers.items() if k not in ("weir-id", "from")} == {
                "kind": kind.encode(), "fixed": b"here", "kept": b"replaced", "other": b"\x00"}
            assert m.headers["weir-id"] == m.headers["from"] + b"-0-%d" % m.json["n"]


def test_partition_of_a_key_is_that_of_other_clients(weir, kafka, unique):
    target, same = kafka.topic(partitions=7), kafka.topic(partitions=7)
    keys = [f"key-{n}" for n in range(300)] + ["", "ä", "x" * 300]
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers,
                                         "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(same, b"{}", key=key)
    producer.flush()
    copy(kafka, weir, unique, [b"{}"] * len(keys), f"topic: {target}\n    on_reject: drop",
         key=lambda i, _: keys[i])
    assert ({m.key: m.partition for m in kafka.consume(target)} ==
            {m.key: m.partition for m in kafka.consume(same)})


def test_time_is_that_of_the_writing_unless_told(weir, kafka, unique):
    now, old = kafka.topic(), kafka.topic(message_timestamp_before_max_ms=10**13)
    source = kafka.topic()
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers})
    producer.produce(source, b"{}", timestamp=1_500_000_000_123)
    producer.flush()
    for target, more in ((now, ""), (old, "\n    timestamp: event")):
        weir.run(pipeline(kafka, source, unique("g"),
                          f"brokers: {kafka.brokers}\n    topic: {target}\n    on_reject: drop{more}"))
    assert abs(kafka.consume(now)[0].time_ms - time.time() * 1000) < 60000
    assert kafka.consume(old)[0].time_ms == 1_500_000_000_123


def test_a_clock_that_the_broker_refuses_is_waited_for(weir, kafka, unique):
    """A topic that takes nothing older than a millisecond makes the clock of weir a wrong one."""
    source, target = kafka.topic(), kafka.topic(message_timestamp_before_max_ms=1)
    kafka.produce(source, [b'{"n": %d}' % n for n in range(50)])
    running = weir.start(pipeline(kafka, source, unique("g"), f"brokers: {kafka.brokers}\n    topic: {target}\n"
                                                              "    linger: 50ms"))
    running.wait_log("the broker refuses the time of this machine", component="out")
    entry = ConfigEntry("message.timestamp.before.max.ms", str(10**13),
                        incremental_operation=AlterConfigOpType.SET)
    (done,) = kafka.admin.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, target, incremental_configs=[entry])]).values()
    done.result(20)
    running.wait()
    assert sorted(m.json["n"] for m in kafka.consume(target)) == list(range(50))


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compressions(weir, kafka, unique, compression):
    target = kafka.topic()
    values = [json.dumps({"n": n, "text": "abc" * 50}).encode() for n in range(500)]
    copy(kafka, weir, unique, values,
         f"topic: {target}\n    on_reject: drop\n    compression: {compression}\n    linger: 20ms")
    assert [m.value for m in kafka.consume(target)] == values


@pytest.mark.sanitize
def test_order_of_a_key_is_kept(weir, kafka, unique):
    target = kafka.topic(partitions=5)
    copy(kafka, weir, unique, [{"n": n} for n in range(50000)],
         f"topic: {target}\n    key: \"k{{{{ @key }}}}\"\n    on_reject: drop",
         key=lambda i, _: str(i % 97))
    by_key = collections.defaultdict(list)
    for m in kafka.consume(target):
        by_key[m.key].append(m.json["n"])
    assert len(by_key) == 97 and sum(map(len, by_key.values())) == 50000
    for numbers in by_key.values():
        assert numbers == sorted(numbers)


@pytest.mark.sanitize
@pytest.mark.parametrize("library", ["system", "python"])
def test_nothing_is_lost_where_the_broker_refuses_requests(weir, kafka, unique, library):
    """A request that is too large for the topic is refused, while smaller ones with later events of its keys
    wait behind it. That those follow it is shown by test_kafka_sink.c, with a library that waits; the real one
    may be faster than their way back."""
    target = kafka.topic(partitions=2, max_message_bytes=100000)
    source, total = kafka.topic(), 6000
    values = [{"n": n, "fill": "x" * (1500 if n // 200 % 2 == 0 else 5)} for n in range(total)]
    kafka.produce(source, values, key=lambda i, _: str(i % 7))
    running = weir.run(pipeline(kafka, source, unique("g"), f"""brokers: {kafka.brokers}
    topic: {target}
    compression: none
    linger: 2ms
    batch: {{events: 200}}
    retry: {{initial: 20ms, max: 100ms}}
    on_reject: drop"""), env=python_library() if library == "python" else None)
    assert sorted({m.json["n"] for m in kafka.consume(target)}) == list(range(total))
    assert running.find_log("", code="request_too_large")
    assert not running.find_log("event rejected")


# ---- Away brokers ------------------------------------------------------------------------------

def has_more_than(broker, topic, n):
    """False also while the broker is not ready to say."""
    try:
        return broker.count(topic) > n
    except confluent_kafka.KafkaException:
        return False


def flood(kafka, topic, total, stop):
    for start in range(0, total, 500):
        kafka.produce(topic, [{"n": n} for n in range(start, start + 500)],
                      key=lambda i, v: str(v["n"] % 20))
        time.sleep(0.04)
    stop.set()


@pytest.mark.parametrize("what", ["pause", "stop", "kill"])
def test_a_broker_away_costs_and_repeats_nothing(weir, kafka, own_kafka, unique, what):
    broker, source, total, done = own_kafka(), kafka.topic(), 40000, threading.Event()
    target = broker.topic(partitions=3)
    thread = threading.Thread(target=flood, args=(kafka, source, total, done))
    thread.start()
    running = weir.start(pipeline(
        kafka, source, unique("g"),
        f"brokers: {broker.brokers}\n    topic: {target}\n    on_reject: drop").replace(
            "stop_at_end: true", ""))
    wait_until(lambda: has_more_than(broker, target, 1000), 30)
    if what == "pause":
        broker.pause()
        time.sleep(4)
        broker.resume()
    elif what == "stop":
        broker.restart()
    else:
        # What a broker has acknowledged but not yet flushed survives kill -9: the pages are the
        # kernel's.
        broker.kill()
        time.sleep(1)
        broker.start()
    thread.join()
    assert done.is_set()
    running.wait_metric("weir_component_sent_events_total", total, component="out", timeout=90)
    running.stop()
    got = broker.consume(target)
    found = [m.json["n"] for m in got]
    assert sorted(set(found)) == list(range(total))
    assert repeated(found) == []
    by_key = collections.defaultdict(list)
    for m in got:
        by_key[m.key].append(m.json["n"])
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_requests_that_time_out_repeat_nothing(weir, kafka, own_kafka, unique):
    """The broker is stopped for longer than a request may take: what was sent may or may not have
    arrived, and only the producer's sequence numbers tell."""
    broker, source, total, done = own_kafka(), kafka.topic(), 30000, threading.Event()
    target = broker.topic(partitions=2)
    thread = threading.Thread(target=flood, args=(kafka, source, total, done))
    thread.start()
    running = weir.start(pipeline(
        kafka, source, unique("g"),
        f"""brokers: {broker.brokers}
    topic: {target}
    on_reject: drop
    rdkafka: {{request.timeout.ms: 2000, socket.timeout.ms: 2500}}""").replace(
            "stop_at_end: true", ""))
    for _ in range(2):
        wait_until(lambda: has_more_than(broker, target, 1000), 30)
        broker.pause()
        time.sleep(7)
        broker.resume()
        time.sleep(1)
    thread.join()
    assert done.is_set()
    running.wait_metric("weir_component_sent_events_total", total, component="out", timeout=90)
    running.stop()
    found = [m.json["n"] for m in broker.consume(target)]
    assert sorted(set(found)) == list(range(total))
    assert repeated(found) == []


def test_brokers_that_cannot_be_reached_are_named(weir, kafka, unique):
    source, dead = kafka.topic(), f"127.0.0.1:{free_port()}"
    kafka.produce(source, [{"n": 1}])
    running = weir.start(pipeline(kafka, source, unique("g"), f"brokers: {dead}\n    topic: t",
                                  more="shutdown_timeout: 2s").replace("stop_at_end: true", ""))
    assert running.wait_log("no Kafka broker can be reached")[0]["component"] == "out"
    assert dead in running.wait_log("Kafka connection failed")[0]["reason"]
    began = time.monotonic()
    running.stop(expect=1)
    assert time.monotonic() - began < 12
    assert running.find_log("pipeline ended")[0]["events_left"] == 1


BREAK_PRODUCER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
rd_kafka_error_t *rd_kafka_produceva(rd_kafka_t *rk, const rd_kafka_vu_t *vu, size_t n)
{
    static atomic_int calls;
    rd_kafka_error_t *(*next)(rd_kafka_t *, const rd_kafka_vu_t *, size_t) =
        (rd_kafka_error_t * (*)(rd_kafka_t *, const rd_kafka_vu_t *, size_t))
            dlsym(RTLD_NEXT, "rd_kafka_produceva");
    int call = atomic_fetch_add(&calls, 1);
    if (call == 5000 || call == 12345)
        rd_kafka_test_fatal_error(rk, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "for the test");
    return next(rk, vu, n);
}
"""


def test_a_fatal_error_is_overcome_by_a_new_producer(weir, kafka, unique):
    source, target = kafka.topic(), kafka.topic(partitions=3)
    shim = weir.write(BREAK_PRODUCER, "shim.c").with_suffix(".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, shim.with_suffix(".c"), "-lrdkafka"], check=True)
    kafka.produce(source, [{"n": n} for n in range(20000)], key=lambda i, _: str(i % 10))
    running = weir.run(pipeline(kafka, source, unique("g"),
                                f"brokers: {kafka.brokers}\n    topic: {target}\n    on_reject: drop"),
                       env={"LD_PRELOAD": shim})
    assert set(m.json["n"] for m in kafka.consume(target)) == set(range(20000))
    assert len(running.find_log("the Kafka client can do nothing more", reason="test_fatal_error: for the test")) == 2
    assert running.find_log("for the test", code="fatal")
    assert running.find_log("sink takes events again")


def test_ends_while_the_broker_does_not_answer(weir, kafka, own_kafka, unique):
    broker, source = own_kafka(), kafka.topic()
    target = broker.topic()
    running = weir.start(pipeline(
        kafka, source, unique("g"), f"brokers: {broker.brokers}\n    topic: {target}",
        more="shutdown_timeout: 2s").replace("stop_at_end: true", ""))
    kafka.produce(source, [{"n": 1}])
    broker.consume(target, 1)
    broker.pause()
    kafka.produce(source, [{"n": n} for n in range(100)])
    running.wait_metric("weir_component_received_events_total", 101, component="out")
    began = time.monotonic()
    running.stop(expect=1)
    assert time.monotonic() - began < 10
    broker.resume()
    assert running.find_log("pipeline ended")[0]["events_left"] == 100


# ---- Events that cannot be written -------------------------------------------------------------

@pytest.mark.sanitize
def test_too_large_is_rejected_alone(weir, kafka, unique):
    target, dead = kafka.topic(max_message_bytes=100000), kafka.topic()
    values = [{"n": 0}, {"n": 1, "fill": "x" * 60000}, {"n": 2, "fill": "y" * 3000}, {"n": 3}]
    copy(kafka, weir, unique, values, f"topic: {target}\n    max_message: 50KB\n    on_reject: dead_letter",
         more=f"""  failed: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: failed""")
    assert [m.json["n"] for m in kafka.consume(target)] == [0, 2, 3]
    letter = kafka.consume(dead)
    assert len(letter) == 1 and "too_large" in letter[0].value.decode()


def test_too_large_for_the_topic_is_rejected(weir, kafka, unique):
    target = kafka.topic(max_message_bytes=10000)
    running = copy(kafka, weir, unique, [{"n": 0}, {"n": 1, "fill": "x" * 60000}, {"n": 2}],
                   f"topic: {target}\n    on_reject: drop\n    compression: none\n"
                   "    rdkafka: {batch.size: 5000}")
    assert [m.json["n"] for m in kafka.consume(target)] == [0, 2]
    assert running.find_log("event rejected", code="too_large")


@pytest.mark.sanitize
@pytest.mark.parametrize("limit", [20000, 300])
def test_a_request_too_large_for_the_topic_rejects_no_small_event(weir, kafka, unique, limit):
    """The library's requests are larger than the topic takes; only what is too large itself is
    rejected, be it by its headers."""
    target, dead = kafka.topic(max_message_bytes=limit), kafka.topic()
    total = 2000 if limit > 1000 else 100
    values = [{"n": n, "fill": "x" * (2 * limit if n % (total // 2) == 7 else 100)} for n in range(total)]
    values.append(None)
    headers = lambda i, _: [("big", b"b" * 2 * limit)] if i == total else []
    copy(kafka, weir, unique, values,
         f"topic: {target}\n    compression: none\n    linger: 100ms\n    retry: {{max: 200ms}}\n"
         "    on_reject: dead_letter", headers=headers, source="codec: raw",
         more=f"""  failed: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: failed""")
    found = [m.json["n"] for m in kafka.consume(target)]
    large = [7, total // 2 + 7]
    assert sorted(set(found)) == [n for n in range(total) if n not in large]
    assert repeated(found) == []
    letters = [m.value.decode() for m in kafka.consume(dead)]
    assert len(letters) == 3 and all("larger than the topic's max.message.bytes" in l for l in letters)


def test_too_large_for_the_broker_is_a_dead_letter(weir, kafka, own_kafka, unique):
    """The limit is the broker's own, and lower than ours: only what is larger goes to the dead letter."""
    broker, source, dead = own_kafka("message.max.bytes=20000"), kafka.topic(), kafka.topic()
    target = broker.topic()
    kafka.produce(source, [{"n": n, "fill": "x" * (50000 if n == 7 else 1000)} for n in range(300)])
    weir.run(pipeline(kafka, source, unique("g"), f"""brokers: {broker.brokers}
    topic: {target}
    compression: none
    retry: {{max: 200ms}}
    on_reject: dead_letter""", more=f"""  failed: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: failed"""))
    assert sorted(m.json["n"] for m in broker.consume(target)) == [n for n in range(300) if n != 7]
    letters = [m.value.decode() for m in kafka.consume(dead)]
    assert len(letters) == 1 and "too_large" in letters[0]


@pytest.mark.sanitize
def test_a_fixed_topic_that_is_missing_is_waited_for(weir, kafka, own_kafka, unique):
    broker, source = own_kafka("auto.create.topics.enable=false"), kafka.topic()
    target = unique_name("later")
    kafka.produce(source, [{"n": n} for n in range(100)])
    running = weir.start(pipeline(
        kafka, source, unique("g"),
        f"brokers: {broker.brokers}\n    topic: {target}\n    on_reject: drop\n"
        "    retry: {max: 1s}\n    rdkafka: {topic.metadata.propagation.max.ms: 1000}").replace(
            "stop_at_end: true", ""))
    running.wait_log(f"topic '{target}': the topic does not exist", component="out")
    time.sleep(3)
    broker.topic(name=target)
    assert [m.json["n"] for m in broker.consume(target, 100)] == list(range(100))
    running.stop()


def test_a_rendered_topic_that_is_missing_rejects_the_event(weir, kafka, own_kafka, unique):
    broker, source = own_kafka("auto.create.topics.enable=false"), kafka.topic()
    stem, dead = unique_name("made"), kafka.topic()
    broker.topic(name=f"{stem}.good")
    kafka.produce(source, [{"to": "good"}, {"to": "none"}, {"to": "bad name"}, {"no": "to"}, {"to": "good"}])
    weir.run(pipeline(kafka, source, unique("g"), f"""brokers: {broker.brokers}
    topic: "{stem}.{{{{ to }}}}"
    rdkafka: {{topic.metadata.propagation.max.ms: 1000}}
    on_reject: dead_letter""", more=f"""  failed: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: failed"""))
    assert len(broker.consume(f"{stem}.good")) == 2
    letters = [m.value.decode() for m in kafka.consume(dead)]
    assert len(letters) == 3
    for word in ("unknown_topic", "bad_topic", 'field to'):
        assert sum(word in letter for letter in letters) >= 1, (word, letters)


def test_a_compacted_topic_rejects_what_has_no_key(weir, kafka, unique):
    target = kafka.topic(cleanup_policy="compact")
    copy(kafka, weir, unique, [{"n": n} for n in range(100)], f"topic: {target}\n    on_reject: drop",
         key=lambda i, _: None if i % 10 == 3 else f"k{i}")
    found = [m.json["n"] for m in kafka.consume(target)]
    assert sorted(set(found)) == [n for n in range(100) if n % 10 != 3]
    assert repeated(found) == []


@pytest.mark.sanitize
@pytest.mark.parametrize("library", ["system", "python"])
@pytest.mark.parametrize("hours", [-24, 24])
def test_a_time_that_the_topic_refuses_rejects_no_other_event(weir, kafka, unique, hours, library):
    """The broker refuses the whole request; before 2.4 librdkafka does not say for which of its events."""
    source, dead = kafka.topic(message_timestamp_after_max_ms=10**13), kafka.topic()
    target = kafka.topic(message_timestamp_before_max_ms=3600_000, message_timestamp_after_max_ms=3600_000)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.brokers})
    now = int(time.time() * 1000)
    for n in range(200):
        producer.produce(source, b'{"n": %d}' % n, timestamp=now + (hours * 3600_000 if n % 50 == 7 else 0))
    assert producer.flush(20) == 0
    weir.run(pipeline(kafka, source, unique("g"), f"""brokers: {kafka.brokers}
    topic: {target}
    timestamp: event
    on_reject: dead_letter""", more=f"""  failed: {{type: kafka, brokers: "{kafka.brokers}", topic: {dead}}}
dead_letter: failed"""), env=python_library() if library == "python" else None)
    found = [m.json["n"] for m in kafka.consume(target)]
    assert sorted(found) == [n for n in range(200) if n % 50 != 7]
    letters = [m.value.decode() for m in kafka.consume(dead)]
    assert len(letters) == 4 and all("see the option timestamp" in letter for letter in letters)


# ---- A full queue ------------------------------------------------------------------------------

SMALL = "queue: 1MiB\n    max_message: 500KB\n    rdkafka: {queue.buffering.max.messages: 50}"


@pytest.mark.sanitize
def test_a_full_queue_is_waited_for(weir, kafka, unique):
    target = kafka.topic(partitions=2)
    running = copy(kafka, weir, unique, [{"n": n, "fill": "x" * (400_000 if n % 1000 == 1 else 100)}
                                         for n in range(5000)],
                   f"topic: {target}\n    key: one\n    on_reject: drop\n    compression: none\n    {SMALL}")
    assert [m.json["n"] for m in kafka.consume(target)] == list(range(5000))
    assert not running.find_log("sink unavailable")


def test_a_queue_that_stays_full_is_told_and_costs_nothing(weir, kafka, own_kafka, unique):
    """The queue is smaller than a write, and the broker away for longer than a write may take."""
    broker, source = own_kafka(), kafka.topic()
    target = broker.topic()
    running = weir.start(pipeline(
        kafka, source, unique("g"), f"brokers: {broker.brokers}\n    topic: {target}\n    on_reject: drop\n"
        f"    timeout: 1s\n    retry: {{max: 500ms, attempts: 2}}\n    {SMALL}").replace("stop_at_end: true", ""))
    kafka.produce(source, [{"n": 0}])
    broker.consume(target, 1)
    broker.pause()
    try:
        kafka.produce(source, [{"n": n} for n in range(1, 1000)])
        running.wait_metric("weir_component_received_events_total", 1000, component="out")
        time.sleep(4)  # several times what a write may take
    finally:
        broker.resume()
    assert [m.json["n"] for m in broker.consume(target, 1000, timeout=60, quiet=1)] == list(range(1000))
    line = running.wait_log("sink unavailable", component="out")[0]
    assert line["code"] == "queue_full" and "queue is full" in line["reason"]
    assert not running.find_log("event rejected")
    running.stop()


@pytest.mark.parametrize("library", ["system", "python"])
def test_writes_behind_the_first_one_do_not_block(weir, kafka, own_kafka, unique, library):
    """The broker is away from the beginning, for less than the time that a write may take."""
    broker, source = own_kafka(), kafka.topic()
    target = broker.topic()
    running = weir.start(pipeline(
        kafka, source, unique("g"), f"brokers: {broker.brokers}\n    topic: {target}\n    on_reject: drop\n"
        "    batch: {events: 10}\n    retry: {max: 500ms, attempts: 2}").replace("stop_at_end: true", ""),
        env=python_library() if library == "python" else None)
    broker.pause()
    try:
        kafka.produce(source, [{"n": n} for n in range(100)])
        line, = running.wait_log("events will be written again", component="out", timeout=15)
        assert line["code"] == "first_write" and target in line["reason"]
    finally:
        broker.resume()
    assert [m.json["n"] for m in broker.consume(target, 100, timeout=60, quiet=1)] == list(range(100))
    assert not running.find_log("event rejected")
    running.stop()


# ---- Wrong configurations ----------------------------------------------------------------------

def sink_file(options):
    lines = "\n".join(f"    {k}: {v}" for k, v in options.items())
    return f"""
name: wrong
sources:
  in: {{type: generate, count: 1}}
sinks:
  out:
    type: kafka
    on_reject: drop
{lines}
"""


GOOD = {"brokers": "127.0.0.1:9092", "topic": "t"}

WRONG = [
    ({"brokers": None}, "brokers"),
    ({"topic": None}, "topic"),
    ({"topic": "'{{ type }}'"}, "topic"),
    ({"topic": "'bad name'"}, "'bad name' is no topic name"),
    ({"topic": "'events.{{ type '"}, "topic"),
    ({"topic": "'my events.{{ type }}'"}, "no topic name begins with 'my events.'"),
    ({"compression": "brotli"}, "zstd"),
    ({"headers": "{weir-id: mine}"}, "weir writes this header itself"),
    ({"linger": "1m"}, "linger"),
    ({"max_message": "10B"}, "max_message"),
    ({"queue": "2MiB"}, "is smaller than max_message"),
    ({"rdkafka": "{enable.idempotence: false}"}, "write an event twice or out of order"),
    ({"rdkafka": "{acks: 1}"}, "all in-sync replicas"),
    ({"rdkafka": "{message.timeout.ms: 1000}"}, "until it is delivered"),
    ({"rdkafka": "{transactional.id: x}"}, "without transactions"),
    ({"rdkafka": "{linger.ms: 10}"}, "use the option linger"),
    ({"rdkafka": "{max.in.flight: 100}"}, "max.in.flight"),
    ({"rdkafka": "{partitioner: random}"}, "'partitioner=random' cannot be set here"),
    ({"rdkafka": "{request.required.acks: 0}"}, "all in-sync replicas"),
    ({"rdkafka": "{retries: 0}"}, "until it is delivered"),
    ({"rdkafka": "{enable.gapless.guarantee: true}"}, "would end the producer"),
    ({"rdkafka": "{ssl.ca.pem: x}"}, "use the option tls.ca"),
    ({"rdkafka": "{sasl.oauthbearer.client.secret: x}"}, "use the option sasl.oauth"),
    ({"statistics": "2h"}, "statistics"),
    ({"rdkafka": "{batch.size: many}"}, "refuses 'many'"),
    ({"rdkafka": "{plugin.library.paths: /tmp/x.so}"}, "loads foreign code"),
    ({"sasl": "{mechanism: SCRAM-SHA-256, user: me}"}, "needs sasl.password"),
    ({"tls": "{key: nowhere.key}"}, "nowhere.key"),
    ({"timestamp": "later"}, "event"),
]


@pytest.mark.parametrize("change, message", WRONG, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(WRONG)])
def test_check_finds(weir, change, message):
    options = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    checked = weir.check(sink_file(options), expect=1)
    assert message in checked.text
    assert "sinks.out" in checked.text


def test_check_finds_nothing_in_a_good_file(weir):
    checked = weir.check(sink_file({**GOOD, "key": "'{{ user_id }}'", "headers": "{a: b}",
                                    "rdkafka": "{socket.timeout.ms: 20000, partitioner: consistent_random}",
                                    "topic": "'events.{{ type }}'"}), expect=0)
    assert "warning" not in checked.text and "error" not in checked.text
