# SPDX-License-Identifier: Apache-2.0
"""The source `kafka` on a real broker: what it reads, where it goes on, whom it shares with."""
import collections
import json
import signal
import subprocess
import threading
import time

import pytest

from kafka_rig import python_library, system_library
from weirtest import free_port, unique_name, wait_until

COOPERATIVE = 0x020601ff  # from this version on its cooperative assignor is sound


def pipeline(kafka, topics, group, sink, source="", name="copy"):
    topics = topics if isinstance(topics, list) else [topics]
    return f"""
name: {name}
sources:
  in:
    type: kafka
    brokers: {kafka.brokers}
    topics: {json.dumps(topics)}
    group: {group}
    {source}
sinks:
  out: {sink}
"""


def to_topic(kafka, topic, more=""):
    return f"{{type: kafka, brokers: '{kafka.brokers}', topic: {topic}, on_reject: drop{more}}}"


def all_committed(kafka, group, topic):
    return kafka.committed(group, topic) == {p: e for p, e in kafka.ends(topic).items() if e > 0}


def numbers(messages):
    return [m.json["n"] for m in messages]


def repeated(found):
    return sorted(n for n, times in collections.Counter(found).items() if times > 1)


# ---- What it reads -----------------------------------------------------------------------------

@pytest.mark.sanitize
def test_bytes_keys_headers_and_tombstones_pass(weir, kafka, unique):
    source, target = kafka.topic(), kafka.topic(max_message_bytes=16 << 20)
    values = [b"", b"\x00\xff\xfe", b"{\"a\": 1 }", b"y" * 4095, b"y" * 4097, b"z" * (3 << 20), None,
              "käse".encode(), b"\x00"]
    keys = [b"k", b"\x00nul\x00in\x00", None, b"", b"k" * 5000, b"k", b"gone", b"\xff", None]
    headers = [[("h", b"1"), ("h2", b"\x00\xff"), ("empty", b""), ("none", None)], [], None,
               [("weir-id", b"order-7/2")], [("weir-id", b"\xff\xfe")], [("big", b"b" * 9000)], [],
               [("weir-id", b"")], [("weir-id", b"x" * 600), ("h", b"1")]]
    kafka.produce(source, values, key=lambda i, _: keys[i], headers=lambda i, _: headers[i])
    weir.run(pipeline(kafka, source, unique("g"), to_topic(kafka, target),
                      "codec: raw\n    stop_at_end: true"))
    got = kafka.consume(target)
    assert [m.value for m in got] == values
    assert [m.key for m in got] == keys
    plain = [{k: v for k, v in (h or []) if k != "weir-id"} for h in headers]
    # A header that cannot be an id stays a header, which the sink's own id then replaces.
    assert [{k: v for k, v in m.headers.items() if k != "weir-id"} for m in got] == plain
    ids = [m.headers["weir-id"].decode() for m in got]
    assert ids == [f"{source}-0-{i}" if i != 3 else "order-7/2" for i in range(len(values))]


def test_time_of_the_message_becomes_the_events(weir, kafka, unique):
    source, target = kafka.topic(), kafka.topic()
    kafka.produce(source, [{"n": 1}])
    time.sleep(0.05)
    weir.run(pipeline(kafka, source, unique("g"), to_topic(kafka, target, ", timestamp: event"),
                      "stop_at_end: true"))
    assert kafka.consume(source)[0].time_ms == kafka.consume(target)[0].time_ms


@pytest.mark.sanitize
def test_headers_that_are_larger_than_their_events(weir, kafka, unique):
    """A batch is bounded by what it keeps in memory, headers included."""
    source, target = kafka.topic(), kafka.topic(max_message_bytes=16 << 20)
    big = [("big", b"b" * 500_000)]
    kafka.produce(source, [{"n": n} for n in range(200)], headers=lambda i, _: big if i % 2 else None)
    weir.run(pipeline(kafka, source, unique("g"),
                      to_topic(kafka, target, ", buffer: {size: 4MiB}"), "stop_at_end: true"))
    got = kafka.consume(target)
    assert numbers(got) == list(range(200))
    assert [m.headers.get("big") for m in got] == [b"b" * 500_000 if n % 2 else None for n in range(200)]


def test_stops_at_the_end_of_all_partitions(weir, kafka, unique):
    source, target, group = kafka.topic(partitions=5), kafka.topic(partitions=2), unique("g")
    text = pipeline(kafka, source, group, to_topic(kafka, target), "stop_at_end: true")
    weir.run(text)
    assert kafka.count(target) == 0
    kafka.produce(source, [{"n": n} for n in range(20000)])
    running = weir.run(text)
    assert sorted(numbers(kafka.consume(target))) == list(range(20000))
    assert all_committed(kafka, group, source)
    assert not running.find_log("", level="error")


def test_start_latest_and_pattern_topics(weir, kafka, unique):
    stem, target, group = unique("many"), kafka.topic(), unique("g")
    for part in "ab":
        kafka.topic(name=f"{stem}.{part}")
    kafka.topic(name=f"other-{stem}.a")
    kafka.produce(f"{stem}.a", [{"n": 0}])
    running = weir.start(pipeline(kafka, f"^{stem}\\..*", group, to_topic(kafka, target),
                                  "start: latest\n    rdkafka: {topic.metadata.refresh.interval.ms: 500}"))
    wait_until(lambda: sum(l.get("partitions", 0) for l in running.find_log("partitions taken on")) == 2)
    # "latest" is looked up in the background: what comes a moment later is behind it for sure.
    time.sleep(1.5)
    kafka.produce(f"{stem}.b", [{"n": 1}])
    kafka.produce(f"other-{stem}.a", [{"n": 2}])
    kafka.topic(name=f"{stem}.c")
    running.wait_log("partitions taken on", timeout=30)
    wait_until(lambda: len(running.find_log("partitions taken on")) >= 2, 30)
    time.sleep(1.5)
    kafka.produce(f"{stem}.c", [{"n": 3}])
    assert sorted(numbers(kafka.consume(target, 2, quiet=0.5))) == [1, 3]
    running.stop()


def test_a_pattern_finds_no_topic_of_kafka_itself(weir, own_kafka, unique):
    """Each commit is a message in one of them: whoever reads it never comes to an end."""
    broker = own_kafka()
    topic = broker.topic()

    def partitions(topics):
        running = weir.start(pipeline(broker, topics, unique("g"), "{type: blackhole}", "codec: raw"))
        count = running.wait_log("partitions taken on", timeout=60)[0]["partitions"]
        running.stop()
        return count

    assert partitions(topic) == 1  # and with the first group Kafka makes the topic for their offsets
    assert partitions("^.*") == 1
    theirs = partitions("__consumer_offsets")
    assert theirs > 1
    assert partitions(["__consumer_offsets", "^.*"]) == theirs + 1


# ---- Where it goes on --------------------------------------------------------------------------

@pytest.mark.sanitize
def test_goes_on_where_it_was_after_sigterm(weir, kafka, unique):
    source, target, group = kafka.topic(partitions=4), kafka.topic(partitions=4), unique("g")
    total, made = 60000, threading.Event()

    def produce():
        for start in range(0, total, 2000):
            kafka.produce(source, [{"n": n} for n in range(start, start + 2000)])
            time.sleep(0.05)
        made.set()

    thread = threading.Thread(target=produce)
    thread.start()
    text = pipeline(kafka, source, group, to_topic(kafka, target))
    for _ in range(4):
        running = weir.start(text)
        running.wait_metric("weir_component_sent_events_total", 5000, component="in")
        running.stop()
        assert running.find_log("pipeline ended")[0]["events_left"] == 0
    thread.join()
    assert made.is_set()
    weir.run(pipeline(kafka, source, group, to_topic(kafka, target), "stop_at_end: true"))
    found = numbers(kafka.consume(target))
    assert sorted(set(found)) == list(range(total))
    assert repeated(found) == []
    assert all_committed(kafka, group, source)


def test_loses_nothing_when_killed(weir, kafka, unique):
    source, target, group = kafka.topic(partitions=3), kafka.topic(partitions=3), unique("g")
    total = 100000
    kafka.produce(source, [{"n": n} for n in range(total)])
    text = pipeline(kafka, source, group, to_topic(kafka, target),
                    "commit_interval: 50ms\n    rdkafka: {session.timeout.ms: 2000}")
    for _ in range(3):
        running = weir.start(text)
        running.wait_metric("weir_component_sent_events_total", 3000, component="in")
        time.sleep(0.1)
        running.kill()
    weir.run(pipeline(kafka, source, group, to_topic(kafka, target),
                      "stop_at_end: true\n    rdkafka: {session.timeout.ms: 2000}"), timeout=120)
    assert set(numbers(kafka.consume(target))) == set(range(total))


def test_survives_a_restart_of_the_broker(weir, kafka, own_kafka, unique):
    broker = own_kafka()
    source, target = broker.topic(partitions=3), kafka.topic()
    broker.produce(source, [{"n": n} for n in range(1000)])
    running = weir.start(pipeline(broker, source, unique("g"), to_topic(kafka, target)))
    kafka.consume(target, 1000)
    broker.restart()
    broker.produce(source, [{"n": n} for n in range(1000, 2000)])
    found = numbers(kafka.consume(target, 2000, timeout=60, quiet=1))
    assert sorted(set(found)) == list(range(2000))
    assert running.find_log("Kafka connection failed")
    running.stop()


# ---- Whom it shares with -----------------------------------------------------------------------

class Stream:
    """Writes {"n": 0}, {"n": 1}, ... to a topic until stop()."""

    def __init__(self, kafka, topic, a_second=4000):
        self.kafka, self.topic, self.step, self.n = kafka, topic, a_second // 20, 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(0.05):
            self.kafka.produce(self.topic, [{"n": n} for n in range(self.n, self.n + self.step)],
                               key=lambda i, v: str(v["n"] % 50))
            self.n += self.step

    def stop(self):
        self.stopped.set()
        self.thread.join()
        return self.n


@pytest.mark.sanitize
def test_consumers_join_and_leave_while_a_stream_flows(weir, kafka, unique):
    source, target, group = kafka.topic(partitions=6), kafka.topic(partitions=3), unique("g")
    text = pipeline(kafka, source, group, to_topic(kafka, target), "commit_interval: 200ms\n    lanes: 2")
    stream = Stream(kafka, source)
    try:
        first = weir.start(text)
        kafka.consume(target, 2000)
        for _ in range(2):
            second = weir.start(text)
            wait_until(lambda: kafka.members(group) == 4, 30)
            second.wait_log("partitions taken on")
            second.wait_metric("weir_component_sent_events_total", 1000, component="in")
            second.stop()
            wait_until(lambda: kafka.members(group) == 2, 30)
            time.sleep(1)
    finally:
        total = stream.stop()
    found = numbers(kafka.consume(target, total, timeout=60, quiet=1))
    assert sorted(set(found)) == list(range(total))
    assert repeated(found) == []
    assert first.find_log("partitions handed over") and not first.find_log("events under way")
    assert first.metric("weir_kafka_rebalances_total", component="in") >= 8
    first.stop()
    assert all_committed(kafka, group, source)


def test_a_sink_that_is_away_costs_no_membership(weir, kafka, own_redis, unique):
    """The sink is away for longer than max.poll.interval.ms."""
    redis, topic, group = own_redis(), kafka.topic(partitions=4), unique("g")
    total = 30000
    running = weir.start(pipeline(
        kafka, topic, group,
        f"{{type: redis, url: 'redis://{redis.address}', command: [RPUSH, all, '{{{{ n }}}}'], "
        "buffer: {size: 256KiB}, on_reject: drop}",
        "rdkafka: {max.poll.interval.ms: 6000, session.timeout.ms: 6000}"))
    kafka.produce(topic, [{"n": n, "fill": "x" * 200} for n in range(1000)])
    wait_until(lambda: redis.client().llen("all") == 1000)
    before = running.metric("weir_kafka_rebalances_total", component="in")
    redis.pause()
    try:
        kafka.produce(topic, [{"n": n, "fill": "x" * 200} for n in range(1000, total)])
        time.sleep(12)
        # By now nothing is fetched any more: the lag has to grow all the same.
        kafka.produce(topic, [{"n": n} for n in range(total, total + 5000)])
        total += 5000
        running.wait_metric("weir_kafka_watermark_lag", total - 2000, component="in")
        time.sleep(4)
        assert kafka.members(group) == 1
        assert running.metric("weir_kafka_rebalances_total", component="in") == before
    finally:
        redis.resume()
    wait_until(lambda: redis.client().llen("all") >= total, 60)
    found = sorted(int(n) for n in redis.client().lrange("all", 0, -1))
    assert sorted(set(found)) == list(range(total))
    wait_until(lambda: running.metric("weir_kafka_watermark_lag", component="in") == 0)
    assert running.metric("weir_kafka_rebalances_total", component="in") == before
    assert not running.find_log("max.poll.interval.ms")
    running.stop()
    assert sum(kafka.committed(group, topic).values()) == total


def test_hands_over_at_the_deadline_when_the_sink_is_stuck(weir, kafka, own_kafka, unique):
    stuck, topic, target, group = own_kafka(), kafka.topic(partitions=4), kafka.topic(), unique("g")
    dead_end = stuck.topic()
    total = 2000
    more = "drain_deadline: 2s\n    rdkafka: {session.timeout.ms: 6000}"
    first = weir.start(pipeline(kafka, topic, group, to_topic(stuck, dead_end), more))
    first.wait_log("partitions taken on")
    stuck.pause()
    try:
        kafka.produce(topic, [{"n": n} for n in range(total)], key=lambda i, _: str(i))
        first.wait_metric("weir_component_received_events_total", total, component="in")
        second = weir.start(pipeline(kafka, topic, group, to_topic(kafka, target), more))
        began = time.monotonic()
        first.wait_log("handed over at the drain deadline")
        assert time.monotonic() - began < 10
        second.wait_log("partitions taken on")
        wait_until(lambda: kafka.count(target) > 0)
    finally:
        stuck.resume()
    first.stop()
    wait_until(lambda: all_committed(kafka, group, topic), 30)
    second.stop()
    found = set(numbers(kafka.consume(target))) | set(numbers(stuck.consume(dead_end)))
    assert found == set(range(total))


def test_partitions_that_were_lost_are_let_go(weir, kafka, unique):
    """A process that slept for longer than its session: another one has its partitions, and nothing
    that it still has of them counts any more."""
    source, target, group = kafka.topic(partitions=4), kafka.topic(), unique("g")
    text = pipeline(kafka, source, group, to_topic(kafka, target),
                    "commit_interval: 100ms\n    rdkafka: {session.timeout.ms: 3000, heartbeat.interval.ms: 500}")
    sleeper, other = weir.start(text), weir.start(text)
    for running in (sleeper, other):
        wait_until(lambda: running.find_log("partitions taken on", partitions=2), 30)
    stream = Stream(kafka, source, 1000)
    try:
        sleeper.wait_metric("weir_component_sent_events_total", 500, component="in")
        before = len(other.find_log("partitions taken on", partitions=4))
        sleeper.signal(signal.SIGSTOP)
        wait_until(lambda: len(other.find_log("partitions taken on", partitions=4)) > before, 60)
        time.sleep(1)  # the new owner commits further offsets
        sleeper.signal(signal.SIGCONT)
        sleeper.wait_log("partitions lost", timeout=60)
        wait_until(lambda: len(sleeper.find_log("partitions taken on")) >= 2, 60)
    finally:
        sleeper.signal(signal.SIGCONT)
        total = stream.stop()
    found = numbers(kafka.consume(target, total, timeout=60, quiet=1))
    assert set(found) == set(range(total))
    wait_until(lambda: all_committed(kafka, group, source), 30)
    sleeper.stop()
    other.stop()
    assert all_committed(kafka, group, source)


def test_cooperative_members_join_and_leave_while_a_stream_flows(weir, kafka, unique):
    """Events may be repeated then, but none is lost, and not all partitions stop each time."""
    source, target, group = kafka.topic(partitions=6), kafka.topic(partitions=3), unique("g")
    text = pipeline(kafka, source, group, to_topic(kafka, target),
                    "commit_interval: 200ms\n    assignment: cooperative-sticky")
    env = python_library() if system_library() < COOPERATIVE else None
    stream = Stream(kafka, source, 2000)
    try:
        first = weir.start(text, env=env)
        kafka.consume(target, 1000)
        for _ in range(2):
            second = weir.start(text, env=env)
            wait_until(lambda: second.find_log("partitions taken on", partitions=3), 60)
            second.wait_metric("weir_component_sent_events_total", 500, component="in")
            second.stop()
            wait_until(lambda: kafka.members(group) == 1, 30)
    finally:
        total = stream.stop()
    assert set(numbers(kafka.consume(target, total, timeout=60, quiet=1))) == set(range(total))
    # Three of the six went: the others were read on.
    assert first.find_log("partitions handed over", partitions=3)
    wait_until(lambda: all_committed(kafka, group, source), 30)
    first.stop()


@pytest.mark.skipif(system_library() >= COOPERATIVE, reason="this librdkafka's assignor is sound")
def test_a_cooperative_group_with_an_old_library_is_refused(weir):
    options = {**GOOD, "assignment": "cooperative-sticky"}
    checked = weir.check(source_file("\n".join(f"    {k}: {v}" for k, v in options.items())), expect=1)
    assert "can abort or hang the process in librdkafka" in checked.text


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_static_member_keeps_its_partitions_over_a_restart(weir, kafka, unique, end):
    source, target, group = kafka.topic(partitions=4), kafka.topic(), unique("g")

    def text(who):
        return pipeline(kafka, source, group, to_topic(kafka, target), f"instance_id: {who}")

    first, second = weir.start(text("one")), weir.start(text("two"))
    wait_until(lambda: kafka.members(group) == 2, 30)
    wait_until(lambda: second.find_log("partitions taken on", partitions=2), 30)
    before = first.metric("weir_kafka_rebalances_total", component="in")
    getattr(second, end)()
    second = weir.start(text("two"))
    second.wait_log("partitions taken on", partitions=2)
    kafka.produce(source, [{"n": n} for n in range(400)])
    assert sorted(numbers(kafka.consume(target, 400, quiet=1))) == list(range(400))
    assert first.metric("weir_kafka_rebalances_total", component="in") == before
    first.stop()
    second.stop()


def test_a_second_user_of_an_instance_id_is_told_apart(weir, kafka, unique):
    source, target, group = kafka.topic(), kafka.topic(), unique("g")
    text = pipeline(kafka, source, group, to_topic(kafka, target), "instance_id: same")
    first = weir.start(text)
    first.wait_log("partitions taken on")
    second = weir.start(text)
    second.wait_log("partitions taken on")
    first.wait_log("another process uses the same instance_id", timeout=40)
    answer = wait_until(lambda: first.get("/readyz").json()["pipelines"][0].get("reason"))
    assert "source 'in'" in answer and "another process uses the same instance_id" in answer
    assert first.get("/readyz").status_code == 503
    assert second.ready()
    second.stop()
    first.stop(expect=1)


# ---- What it says ------------------------------------------------------------------------------

def test_a_topic_that_does_not_exist_is_waited_for(weir, kafka, unique):
    topic, target = unique_name("later"), kafka.topic()
    running = weir.start(pipeline(kafka, topic, unique("g"), to_topic(kafka, target),
                                  "rdkafka: {topic.metadata.refresh.interval.ms: 1000}"))
    running.wait_log("Kafka topic does not exist", topic=topic)
    kafka.topic(name=topic)
    kafka.produce(topic, [{"n": 1}])
    assert numbers(kafka.consume(target, 1)) == [1]
    assert running.metric("weir_kafka_errors_total", error="unknown_topic", component="in") >= 1
    running.stop()


def test_brokers_that_cannot_be_reached_are_named(weir, kafka, unique):
    dead = f"127.0.0.1:{free_port()}"
    text = pipeline(kafka, "t", unique("g"), to_topic(kafka, kafka.topic()))
    running = weir.start(text.replace(kafka.brokers, dead, 1))
    line = running.wait_log("no Kafka broker can be reached")[0]
    assert line["level"] == "error" and line["component"] == "in"
    assert dead in running.wait_log("Kafka connection failed")[0]["reason"]
    assert "refused" in running.find_log("Kafka connection failed")[0]["reason"]
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("lanes", [1, 6])
def test_ends_while_the_broker_does_not_answer(weir, kafka, own_kafka, unique, lanes):
    broker = own_kafka()
    source, target = broker.topic(partitions=lanes), kafka.topic()
    broker.produce(source, [{"n": n} for n in range(100)])
    running = weir.start(pipeline(broker, source, unique("g"), to_topic(kafka, target),
                                  f"lanes: {lanes}"))
    kafka.consume(target, 100)
    broker.pause()
    began = time.monotonic()
    running.stop()
    broker.resume()
    assert time.monotonic() - began < 15


NO_THREAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
/* None for the plugin itself; its libraries get theirs. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))
            dlsym(RTLD_NEXT, "pthread_create");
    Dl_info from;
    if (dladdr((void *)run, &from) != 0 && strstr(from.dli_fname, "/kafka.so") != NULL)
        return EAGAIN;
    return next(thread, attr, run, arg);
}
"""


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_a_thread_that_cannot_be_started_is_told(weir, kafka, unique, kind):
    shim = weir.write(NO_THREAD, "shim.c").with_suffix(".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, shim.with_suffix(".c")], check=True)
    text = pipeline(kafka, "t", unique("g"), "{type: blackhole}")
    if kind == "sink":
        text = f"sources: {{in: {{type: generate, count: 1}}}}\nsinks: {{out: {to_topic(kafka, 't')}}}\n"
    running = weir.run(text, env={"LD_PRELOAD": shim}, expect=1)
    assert "cannot start a thread: Resource temporarily unavailable" in running.stderr


# ---- Wrong configurations ----------------------------------------------------------------------

def source_file(lines):
    return f"""
name: wrong
sources:
  in:
    type: kafka
{lines}
sinks:
  out: {{type: blackhole}}
"""


GOOD = {"brokers": "127.0.0.1:9092", "topics": "[a]", "group": "g"}

WRONG = [
    ({"brokers": None}, "brokers"),
    ({"topics": "[]"}, "topics"),
    ({"group": "''"}, "group"),
    ({"brokers": "'http://kafka:9092'"}, "is a URL or a path: expected host:port"),
    ({"brokers": "'kafka:port'"}, "has no valid port"),
    ({"brokers": "'kafka:99999'"}, "has no valid port"),
    ({"brokers": "'a:1,,b:2'"}, "is empty"),
    ({"topics": "['a b']"}, "'a b' is no topic name"),
    ({"topics": "[a, b, a]"}, "'a' is named twice"),
    ({"topics": "['^(unclosed']"}, "is no regular expression"),
    ({"start": "middle"}, "earliest"),
    ({"drain_deadline": "4m"}, "more than half of max.poll.interval.ms (300000 ms)"),
    ({"assignment": "sticky"}, "range"),
    ({"rdkafka": "{enable.auto.commit: true}"}, "once everything before it has been delivered"),
    ({"rdkafka": "{group.id: other}"}, "use the option group"),
    ({"rdkafka": "{bootstrap.servers: x}"}, "use the option brokers"),
    ({"rdkafka": "{sasl.password: x}"}, "use the option sasl.password"),
    ({"rdkafka": "{partition.assignment.strategy: range}"}, "use the option assignment"),
    ({"rdkafka": "{no.such.setting: 1}"}, "has no setting 'no.such.setting'"),
    ({"rdkafka": "{session.timeout.ms: soon}"}, "refuses 'soon'"),
    ({"rdkafka": "{session.timeout.ms: 99999999}"}, "Configuration property \"session.timeout.ms\""),
    ({"rdkafka": "{max.poll.interval.ms: 1000}"}, "max.poll.interval.ms"),
    ({"rdkafka": "{error_cb: x}"}, "error_cb"),
    ({"tls": "{ca: missing.pem}"}, "cannot be read: No such file"),
    ({"tls": "{certificate: pipeline-1.yaml}"}, "also set tls.key"),
    ({"tls": "{ca: pipeline-1.yaml}"}, "refuses this configuration"),
    ({"tls": "{insecure_skip_verify: true}"}, "has no effect, for nothing is encrypted"),
    ({"tls": "{enabled: true, key_password: x}"}, "has no effect without tls.key"),
    ({"sasl": "{user: me, password: x}"}, "no mechanism"),
    ({"sasl": "{mechanism: PLAIN}"}, "mechanism PLAIN needs sasl.user"),
    ({"sasl": "{mechanism: KERBEROS}"}, "SCRAM-SHA-256"),
    ({"sasl": '{mechanism: PLAIN, user: me, password: "a\\0b"}'}, "holds a NUL"),
    ({"rdkafka": '{socket.timeout.ms: "20000\\0x"}'}, "holds a NUL"),
]


@pytest.mark.parametrize("change, message", WRONG, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(WRONG)])
def test_check_finds(weir, change, message):
    options = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    checked = weir.check(source_file("\n".join(f"    {k}: {v}" for k, v in options.items())), expect=1)
    assert message in checked.text
    assert f"sources.in" in checked.text


def test_check_finds_all_at_once(weir):
    checked = weir.check(source_file("""
    brokers: ['a:1', 'b:']
    topics: ['bad name']
    group: g
    rdkafka: {enable.auto.commit: true, nonsense: 1, session.timeout.ms: x}
    sasl: {mechanism: PLAIN}
"""), expect=1)
    for part in ("has no valid port", "is no topic name", "enable.auto.commit", "nonsense", "session.timeout.ms",
                 "needs sasl.user", "needs sasl.password"):
        assert part in checked.text, part


def test_check_warns_of_settings_without_effect(weir):
    options = {**GOOD, "rdkafka": "{linger.ms: 5}", "sasl": "{mechanism: PLAIN, user: a, password: s3cret}"}
    checked = weir.check(source_file("\n".join(f"    {k}: {v}" for k, v in options.items())))
    assert checked.code == 0, checked
    assert "linger.ms" in checked.text and "producer property" in checked.text
    assert "PLAIN without tls" in checked.text
    assert "s3cret" not in checked.text
