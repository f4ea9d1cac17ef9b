# SPDX-License-Identifier: Apache-2.0
"""The platform as it ships: api, producer and consumer pipelines on real Kafka, Redis and MongoDB."""
import collections
import signal
import time

import pytest
import requests
from bson import Int64

from weirtest import Kafka, Load, MongoDB, Redis, free_port, unique_name, wait_until
from weirtest.tools import ROOT

PIPELINES = ROOT / "pipelines"
# Where each pipeline that ships is run.
RUN_BY = {"api.yaml": "test_platform.py", "producer.yaml": "test_platform.py", "consumer.yaml": "test_platform.py",
          "quickstart.yaml": "test_quickstart.py"}
TOPICS = ("user-events.activity", "user-events.commerce", "user-events.sessions")
DEAD = "user-events.dead"
TOKEN = "let-me-in-5d41402abc4b2a76"
DAY = "2025-05-20"
TYPES = ("page_view", "click", "login", "purchase", "logout", "search", "signup", "refund")
SESSION_TYPES = ("login", "logout", "signup")


def make_events(n, start=0):
    return [{"id": f"e{i}", "type": TYPES[i % len(TYPES)], "user_id": f"u{i % 997}",
             "session_id": f"s{i % 499}", "ts": f"{DAY}T12:{i // 60 % 60:02d}:{i % 60:02d}Z",
             "context": {"ip": f"10.0.{i % 256}.{i // 256 % 256}"},
             "props": {"n": i, "amount": i % 90 + 0.25}}
            for i in range(start, start + n)]


class Platform:
    """The three servers of one test, and the weirs that run on them."""

    def __init__(self, weir, kafka, redis, mongodb):
        self.weir, self.kafka, self.redis, self.mongodb = weir, kafka, redis, mongodb
        self.api_address = f"127.0.0.1:{free_port()}"
        self.producer_address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.api_address}/events"
        self.store = mongodb.client.platform.events
        self.client = redis.client()
        self.dead_file = weir.folder / "api-dead.ndjson"
        self.group = unique_name("consumer")
        there = kafka.admin.list_topics(timeout=20).topics
        for topic in (*TOPICS, DEAD):
            if topic in there:
                kafka.purge(topic)
            else:
                kafka.topic(1 if topic == DEAD else 4, topic)
        mongodb.client.drop_database("platform")
        self.client.flushall()

    def start(self, *names, **more):
        return self.weir.start(*(PIPELINES / f"{name}.yaml" for name in names), env={
            "API_ADDRESS": self.api_address, "API_TOKEN": TOKEN, "API_DEAD_LETTERS": self.dead_file,
            "PRODUCER_ADDRESS": self.producer_address,
            "PRODUCER_URL": f"http://{self.producer_address}/events",
            "KAFKA_BROKERS": self.kafka.brokers, "KAFKA_GROUP": self.group, "REDIS_URL": self.redis.url,
            "MONGO_URI": self.mongodb.uri, **more})

    def load(self, events, **options):
        return Load(self.url, events, token=TOKEN, **options)

    def post(self, body, token=TOKEN, **headers):
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return requests.post(self.url, body, headers=headers, timeout=60)

    # ---- what arrived

    def wait_stored(self, n, timeout=300):
        # The server counts one by one: ask too often, and it does nothing else.
        deadline = time.monotonic() + timeout
        while (there := self.stored()) < n:
            assert time.monotonic() < deadline, f"{there} of {n} documents after {timeout} s"
            time.sleep(0.2 + there / 50_000)

    def stored(self):
        return self.store.estimated_document_count()

    def stored_ids(self):
        return [d["_id"] for d in self.store.find({}, {"_id": 1})]

    def counters(self):
        return {kind: int(n) for kind, n in self.client.hgetall(f"count:{DAY}").items()}

    def lag(self):
        """Events in the topics that the consumer group has not committed."""
        behind = 0
        for topic in TOPICS:
            committed = self.kafka.committed(self.group, topic)
            behind += sum(end - max(begin, committed.get(p, 0))
                          for p, (begin, end) in self.kafka.bounds(topic).items())
        return behind


@pytest.fixture(scope="module")
def platform_servers(tmp_path_factory):
    """Servers of these tests alone, which pause and kill them."""
    folder = tmp_path_factory.mktemp("platform")
    servers = [kind(folder) for kind in (Kafka, Redis, MongoDB)]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def platform(platform_servers, weir):
    return Platform(weir, *platform_servers)


def by_type(events):
    return dict(collections.Counter(event["type"] for event in events))


@pytest.mark.parametrize("name", sorted(p.name for p in PIPELINES.glob("*.yaml")))
def test_each_pipeline_that_ships_is_valid(weir, name):
    checked = weir.check(PIPELINES / name, env={"API_TOKEN": TOKEN}, expect=0)
    assert f"{name}: ok:" in checked.text and "warning" not in checked.text, checked


def test_each_pipeline_that_ships_is_run_and_each_hook_is_used():
    shipped = list(PIPELINES.glob("*.yaml"))
    assert {path.name for path in shipped} == set(RUN_BY), "a pipeline that ships needs a test that runs it"
    for name, by in RUN_BY.items():
        assert f'"{name.removesuffix(".yaml")}"' in (ROOT / "tests/flow" / by).read_text() or \
            f"pipelines/{name}" in (ROOT / "tests/flow" / by).read_text(), f"{by} does not run {name}"
    used = " ".join(path.read_text() for path in shipped)
    for hook in (ROOT / "scripts/lua").glob("*.lua"):
        assert f"scripts/lua/{hook.name}" in used, f"no pipeline uses {hook.name}"


@pytest.mark.timeout(600)
def test_100_000_events_each_once_in_mongodb_and_counted_in_redis(platform):
    events = make_events(100_000)
    consumer, producer, api = (platform.start(n) for n in ("consumer", "producer", "api"))
    seconds = platform.load(events, batch=500, clients=4).start().join()
    platform.wait_stored(len(events))
    total = time.monotonic()
    print(f"100,000 events answered in {seconds:.1f} s ({len(events) / seconds:.0f}/s)")

    wait_until(lambda: platform.counters() == by_type(events), 60,
               lambda: f"{by_type(events)} in Redis; it has {platform.counters()}")
    print(f"counted {time.monotonic() - total:.1f} s after the last was stored")
    ids = platform.stored_ids()
    assert len(ids) == len(set(ids)) == len(events)
    assert set(ids) == {event["id"] for event in events}

    # What the hooks did, and that values kept their types.
    one = platform.store.find_one({"_id": "e12345"})
    sent = events[12345]
    assert one["props"] == sent["props"] and isinstance(one["props"]["n"], Int64)
    assert one["day"] == DAY and "ip" not in one["context"] and one["context"]["ip_hash"]
    assert one["ts"].strftime("%Y-%m-%dT%H:%M:%SZ") == sent["ts"]
    assert platform.client.hget("session:s7", "user_id") in {
        e["user_id"] for e in events if e["session_id"] == "s7"}
    assert 0 < platform.client.ttl("session:s7") <= 1800
    users = {e["user_id"] for e in events if e["type"] in SESSION_TYPES}
    assert sum(1 for _ in platform.client.scan_iter("user:*", count=1000)) == len(users)

    # All is acknowledged back to where it came from, and nothing went wrong on the way.
    for running in (api, producer, consumer):
        running.stop()
    assert platform.lag() == 0
    assert platform.kafka.count(DEAD) == 0
    assert not platform.dead_file.exists() or platform.dead_file.read_text() == ""


@pytest.mark.timeout(300)
def test_two_of_each_pipeline_share_the_work(platform):
    """Each scales by itself: twice the same files, other addresses. Consumers of a group share the partitions."""
    events = make_events(20_000)
    consumers = [platform.start("consumer") for _ in range(2)]
    wait_until(lambda: all(c.find_log("partitions taken on") for c in consumers) and
               sum(platform.kafka.shares(platform.group)) == 12, 60, "all partitions are shared out")
    ends = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    producers = [platform.start("producer")] + [platform.start("producer", PRODUCER_ADDRESS=ends[0])]
    apis = [platform.start("api")] + [platform.start(
        "api", API_ADDRESS=ends[1], PRODUCER_URL=f"http://{ends[0]}/events",
        API_DEAD_LETTERS=platform.weir.folder / "api-dead-2.ndjson")]
    loads = [Load(url, events[i::2], batch=100, clients=2, token=TOKEN).start()
             for i, url in enumerate((platform.url, f"http://{ends[1]}/events"))]
    for load in loads:
        load.join()
    platform.wait_stored(len(events))
    assert set(platform.stored_ids()) == {event["id"] for event in events}
    wait_until(lambda: platform.counters() == by_type(events), 60,
               lambda: f"{by_type(events)} in Redis; it has {platform.counters()}")
    received = "weir_component_received_events_total"
    shares = [running.metric(received, kind="source") for running in (*consumers, *producers, *apis)]
    assert all(shares) and [sum(shares[i:i + 2]) for i in (0, 2, 4)] == [len(events)] * 3, shares
    for running in (*apis, *producers, *consumers):
        running.stop()
    assert platform.lag() == 0 and platform.kafka.count(DEAD) == 0


@pytest.mark.timeout(600)
def test_sigterm_of_the_consumer_in_the_middle_loses_and_repeats_nothing(platform):
    events = make_events(60_000)
    consumer = platform.start("consumer")
    platform.start("producer")
    platform.start("api")
    load = platform.load(events, batch=100, rate=4000).start()
    for part in (1, 2, 3):
        load.wait_answered(12_000 * part)
        consumer.stop()
        assert len(load.answered) < len(events), "the load was over before the consumer was"
        consumer = platform.start("consumer")
    load.join()
    platform.wait_stored(len(events))
    wait_until(lambda: platform.counters() == by_type(events), 60,
               lambda: f"{by_type(events)} in Redis; it has {platform.counters()}")
    assert set(platform.stored_ids()) == load.answered == {e["id"] for e in events}
    consumer.stop()
    assert platform.lag() == 0


@pytest.mark.timeout(600)
def test_sigterm_of_every_pipeline_in_the_middle_loses_nothing(platform):
    events = make_events(30_000)
    running = {name: platform.start(name) for name in ("consumer", "producer", "api")}
    load = platform.load(events, batch=100).start()
    for round_, name in enumerate(("producer", "api", "consumer", "api", "producer")):
        load.wait_answered(4000 * (round_ + 1))
        running[name].stop()
        running[name] = platform.start(name)
    load.join()
    platform.wait_stored(len(events))
    assert set(platform.stored_ids()) == {e["id"] for e in events}
    counted, sent = platform.counters(), by_type(events)
    assert all(counted[kind] >= n for kind, n in sent.items())
    for name in ("api", "producer", "consumer"):
        running[name].stop()
    assert platform.lag() == 0 and platform.kafka.count(DEAD) == 0


@pytest.mark.timeout(600)
def test_kill_9_of_every_pipeline_in_the_middle_loses_nothing(platform):
    events = make_events(30_000)
    running = {name: platform.start(name) for name in ("consumer", "producer", "api")}
    load = platform.load(events, batch=100).start()
    for round_, name in enumerate(("consumer", "producer", "api")):
        load.wait_answered(6000 * (round_ + 1))
        running[name].kill()
        running[name] = platform.start(name)
    load.join()
    platform.wait_stored(len(events))
    assert set(platform.stored_ids()) == {e["id"] for e in events}
    counted, sent = platform.counters(), by_type(events)
    assert all(counted[kind] >= n for kind, n in sent.items())


@pytest.mark.timeout(600)
def test_stores_that_are_away_are_waited_for(platform):
    events = make_events(20_000)
    for name in ("consumer", "producer", "api"):
        platform.start(name)
    load = platform.load(events, batch=200).start()
    load.wait_answered(3000)
    platform.mongodb.pause()
    load.wait_answered(6000)
    time.sleep(3)
    platform.mongodb.resume()
    platform.redis.kill()
    time.sleep(3)
    platform.redis.start()
    platform.client = platform.redis.client()
    load.join()
    platform.wait_stored(len(events))
    assert set(platform.stored_ids()) == {e["id"] for e in events}
    wait_until(lambda: platform.lag() == 0, 60, "all is committed")
    counted, sent = platform.counters(), by_type(events)
    assert all(counted[kind] >= n for kind, n in sent.items()), (counted, sent)
    assert platform.kafka.count(DEAD) == 0, "an outage is no reason for a dead letter"


def test_one_of_ten_that_cannot_be_stored_is_in_the_dead_letter_topic(platform):
    events = make_events(1000)
    bad = {e["id"] for e in events[::10]}
    for event in events:
        if event["id"] in bad:
            event["ts"] = 7  # the hook of the consumer wants a time
    consumer = platform.start("consumer")
    platform.kafka.produce(TOPICS[0], events, headers=lambda i, e: [("weir-id", e["id"].encode())])
    platform.wait_stored(len(events) - len(bad))
    dead = platform.kafka.consume(DEAD, len(bad), quiet=1)
    assert set(platform.stored_ids()) == {e["id"] for e in events} - bad
    assert {m.json["id"] for m in dead} == bad
    for message in dead:
        assert "ts must be an RFC 3339 time, got 7" in str(message.json)
        assert (message.json["component"], message.json["pipeline"]) == ("enrich", "consumer")
    consumer.stop()
    assert platform.lag() == 0


def test_what_the_api_refuses_reaches_nobody(platform):
    for name in ("consumer", "producer", "api"):
        platform.start(name)
    assert platform.post(b'{"type":"login","user_id":"u"}', token=None).status_code == 401
    assert platform.post(b'{"type":"login","user_id":"u"}', token="wrong").status_code == 401
    assert platform.post(b'{"type":').status_code == 400
    assert platform.post(b'{"type":"login"}\n{"type":', **{"Content-Type": "application/x-ndjson"}
                         ).status_code == 400
    answer = platform.post(b'[{"id":"ok","type":"login","user_id":"u"},{"id":"no","type":"login"}]')
    assert answer.status_code == 202, answer.text
    assert "user_id" in answer.text and '"item":1' in answer.text.replace(" ", "")
    platform.wait_stored(1)
    time.sleep(1)
    assert platform.stored_ids() == ["ok"]
    assert '"no"' in platform.dead_file.read_text() and "user_id" in platform.dead_file.read_text()


def test_the_same_ids_again_change_nothing_in_mongodb(platform):
    events = make_events(500)
    running = [platform.start(name) for name in ("consumer", "producer", "api")]
    for _ in range(3):
        platform.load(events, batch=100).start().join()
    wait_until(lambda: sum(platform.counters().values()) == 1500, 60, "all three rounds are counted")
    platform.wait_stored(500)
    assert sorted(platform.stored_ids()) == sorted(e["id"] for e in events)
    for process in reversed(running):
        process.signal(signal.SIGINT)
        process.wait(expect=0)
    assert platform.lag() == 0


@pytest.mark.sanitize
def test_all_three_pipelines_in_one_process(platform):
    running = platform.start("api", "producer", "consumer")
    events = make_events(5000)
    platform.load(events).start().join()
    platform.wait_stored(len(events))
    assert set(platform.stored_ids()) == {e["id"] for e in events}
    running.stop()
    assert platform.lag() == 0
