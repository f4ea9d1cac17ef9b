# SPDX-License-Identifier: Apache-2.0
"""Scenarios that read a topic to its end."""
from weirtest.servers import Kafka, MongoDB, Redis
from weirtest.tools import unique_name

from measure import Peer, Run, Weir, run_limit
from scenario import FIELDS, HOOK, Scenario, must


class FromKafka(Scenario):
    """Reads a topic of 4 partitions to its end; the clocks begin with the first partition."""

    base = 2_000_000
    begin = "partitions taken on"
    transforms = ""
    sink = ""

    def __init__(self, bench):
        super().__init__(bench)
        self.kafka = bench.server(Kafka)
        self.topic = bench.filled_topic(self.n)

    def run_pipeline(self, sink, transforms=""):
        weir = Weir(self.bench.folder, f"""\
sources:
  in: {{type: kafka, brokers: '{self.kafka.brokers}', topics: [{self.topic}], group: {unique_name("g")},
       stop_at_end: true}}
{transforms}
sinks: {{out: {sink}}}
""")
        weir.wait_logged(self.begin)
        cpu = weir.cpu
        weir.wait_end()
        run = Run(self.n, weir.since(self.begin), weir.cpu - cpu, weir.peak_mib)
        self.check(weir, run)
        weir.stop()
        return run

    def check(self, weir, run):
        must(weir.count("out", "sent"), self.n, "events delivered")

    def environment(self):
        return {"BENCH_SCENARIO": self.name, "BENCH_KAFKA": self.kafka.brokers,
                "BENCH_TOPIC": self.topic, "BENCH_GROUP": unique_name("g"),
                "BENCH_EVENTS": str(self.n)}

    def run_peer(self, command, check=lambda: None, **more):
        peer = Peer(command, {**self.environment(), **more}, self.bench.scratch())
        used = peer.wait()
        if used is None:
            return None
        check()
        return Run(self.n, *used, peer.peak)


class KafkaParseBlackhole(FromKafka):
    name = "kafka-parse-blackhole"
    summary = "Kafka -> parse -> blackhole; limit: librdkafka, nothing parsed"

    def limits(self):
        return {"librdkafka read": ("limit", lambda: run_limit(
            "limit_kafka", "read", self.kafka.brokers, self.topic, self.n))}

    def weir(self):
        return self.run_pipeline("{type: blackhole, needs: value, on_reject: stop}")

    def check(self, weir, run):
        super().check(weir, run)
        run.parsed = int(weir.metrics().get("weir_blackhole_fields_total")) // FIELDS
        must(run.parsed, self.n, "events parsed")

    def peer(self, command):
        return self.run_peer(command)


class KafkaLuaKafka(FromKafka):
    name = "kafka-lua-kafka"
    summary = "Kafka -> Lua (rename, add) -> Kafka, acks=all; limit: librdkafka copying, nothing parsed"
    base = 1_000_000

    def limits(self):
        return {"librdkafka copy": ("limit", self.limit_copy)}

    def limit_copy(self):
        with self.bench.topic() as to:
            return run_limit("limit_kafka", "copy", self.kafka.brokers, self.topic, self.n, to)

    def weir(self):
        (self.bench.folder / "hook.lua").write_text(HOOK)
        with self.bench.topic() as self.to:
            return self.run_pipeline(
                f"{{type: kafka, inputs: [hook], brokers: '{self.kafka.brokers}', topic: {self.to}, "
                "on_reject: stop}",
                "transforms: {hook: {type: lua, inputs: [in], script: hook.lua, on_error: stop}}")

    def check(self, weir, run):
        super().check(weir, run)
        must(self.kafka.count(self.to), self.n, "events in Kafka")

    def peer(self, command):
        with self.bench.topic() as to:
            return self.run_peer(command, lambda: must(self.kafka.count(to), self.n, "events in Kafka"),
                                 BENCH_TO_TOPIC=to)


class KafkaRedis(FromKafka):
    name = "kafka-redis"
    summary = "Kafka -> Redis, a SET an event (10,000 keys); limit: hiredis, pipelines of 1000"
    base = 1_000_000

    def __init__(self, bench):
        super().__init__(bench)
        self.redis = bench.server(Redis)

    def limits(self):
        return {"hiredis": ("limit", lambda: run_limit("limit_redis", self.redis.host, self.redis.port,
                                                       self.n))}

    def calls(self):
        return self.redis.client().info("commandstats").get("cmdstat_set", {}).get("calls", 0)

    def weir(self):
        self.before = self.calls()
        return self.run_pipeline(f"{{type: redis, url: '{self.redis.url}', "
                                 "set: {key: 'user:{{ user_id }}'}, on_reject: stop}")

    def check(self, weir, run):
        super().check(weir, run)
        must(self.calls() - self.before, self.n, "SETs that Redis counted")

    def peer(self, command):
        before = self.calls()
        return self.run_peer(command, lambda: must(self.calls() - before, self.n, "SETs of the peer"),
                             BENCH_REDIS_HOST=self.redis.host, BENCH_REDIS_PORT=str(self.redis.port))


class KafkaRedisDedupeBlackhole(FromKafka):
    """Every key is a new one: it is looked up before its event goes on, and written when that has ended."""

    name = "kafka-redis_dedupe-blackhole"
    summary = "Kafka -> redis_dedupe, a GET and a SET an event -> blackhole; limit: hiredis, SETs alone"
    base = 500_000
    limits = KafkaRedis.limits

    def __init__(self, bench):
        super().__init__(bench)
        self.redis = bench.server(Redis)

    def calls(self):
        stats = self.redis.client().info("commandstats")
        return [stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("get", "set")]

    def weir(self):
        self.before = self.calls()
        return self.run_pipeline("{type: blackhole, inputs: [once], on_reject: stop}", f"""\
transforms:
  once: {{type: redis_dedupe, inputs: [in], url: '{self.redis.url}', key: '{{{{ id }}}}', ttl: 1m,
         prefix: '{unique_name("once")}:', on_error: stop}}
""")

    def check(self, weir, run):
        super().check(weir, run)
        for name, before, after in zip(("GETs", "SETs"), self.before, self.calls()):
            must(after - before, self.n, f"{name} that Redis counted")


class KafkaMongoDB(FromKafka):
    name = "kafka-mongodb"
    summary = "Kafka -> MongoDB (the test server), inserts; limit: libmongoc, unordered bulks of 1000"
    base = 100_000

    def __init__(self, bench):
        super().__init__(bench)
        self.mongodb = bench.server(MongoDB)

    def limits(self):
        return {"libmongoc": ("limit", self.limit_mongoc)}

    def limit_mongoc(self):
        name = unique_name("limit")
        run = run_limit("limit_mongodb", self.mongodb.uri, name, self.n)
        self.mongodb.client.drop_database(name)
        return run

    def weir(self):
        self.database = unique_name("bench")
        run = self.run_pipeline(f"{{type: mongodb, uri: '{self.mongodb.uri}', "
                                f"database: {self.database}, collection: events, on_reject: stop}}")
        self.mongodb.client.drop_database(self.database)
        return run

    def check(self, weir, run):
        super().check(weir, run)
        must(self.mongodb.client[self.database].events.estimated_document_count(), self.n, "documents")

    def peer(self, command):
        name = unique_name("peer")
        try:
            return self.run_peer(command, lambda: must(
                self.mongodb.client[name].events.estimated_document_count(), self.n, "documents"),
                BENCH_MONGO=self.mongodb.uri, BENCH_DATABASE=name)
        finally:
            self.mongodb.client.drop_database(name)
