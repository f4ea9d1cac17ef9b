# SPDX-License-Identifier: Apache-2.0
"""The scenarios of scripts/bench. Each names its contenders: the limits of the libraries, weir, and the
peers that can do it. A contender is a function that does one run and gives a Run; it counts what arrived
and ends the whole bench where that is not what it should be."""
import abc
import socket
import subprocess
import time

from weirtest.servers import Kafka, MongoDB, Redis
from weirtest.tools import free_port, unique_name, wait_until

from measure import (BUILD, UNSUPPORTED, Peer, Run, Weir, cpu_seconds, listening, peak_mib,
                     resident_mib, run_limit)

HOOK = """\
function process(event)
  if event.type == "heartbeat" then return nil end
  event.user = event.user_id
  event.user_id = nil
  event.seen = 1
  return event
end
"""
# Top-level fields of every event that weir generates and of every event of limit_event().
FIELDS = 8


def must(found, expected, what):
    if found != expected:
        raise SystemExit(f"bench: {what}: {found:,} found, {expected:,} expected")


class Scenario(abc.ABC):
    """One way of events. `base`: how many events at scale 1."""

    name = summary = ""
    base = 1_000_000
    least = 1000

    def __init__(self, bench):
        self.bench = bench
        self.n = max(self.least, int(self.base * bench.scale))

    def contenders(self):
        """{name: (role, function)}; roles are limit, weir, peer."""
        found = dict(self.limits())
        found["weir"] = ("weir", self.weir)
        for name, command in self.bench.peers.items():
            found[name] = ("peer", lambda command=command: self.peer(command))
        return found

    def limits(self):
        return {}

    @abc.abstractmethod
    def weir(self):
        """One round of weir: a Run."""

    def peer(self, command):
        """None: no peer can take part."""
        return None


# ---- files -------------------------------------------------------------------------------------

class Files(Scenario):
    """From a file; ends at its end."""

    base = 4_000_000
    mode = "parse"
    transforms = ""
    sink = "{type: blackhole, needs: value}"

    def __init__(self, bench):
        super().__init__(bench)
        self.path = bench.input_file(self.n)
        self.out = bench.folder / "out.ndjson"
        self.limit_out = bench.folder / "limit.ndjson"

    def limits(self):
        args = [self.mode, self.path] + ([] if self.mode == "parse" else [self.limit_out])
        return {self.limit_name: ("limit", lambda: self.counted(run_limit("limit_json", *args)))}

    def counted(self, run):
        must(run.parsed, self.n, "events parsed by yyjson")
        return run

    def pipeline(self):
        return f"""\
sources: {{in: {{type: file, path: {self.path}}}}}
{self.transforms}
sinks: {{out: {self.sink}}}
"""

    def weir(self):
        weir = Weir(self.bench.folder, self.pipeline())
        weir.wait_end()
        run = Run(self.n, weir.since(), weir.cpu, weir.peak_mib, self.parsed_by(weir))
        must(weir.count("in", "sent"), self.n, "events read")
        must(run.parsed, self.n, "events parsed")
        self.check(weir.count("out", "sent"))
        weir.stop()
        return run

    def parsed_by(self, weir):
        return int(weir.metrics().get("weir_blackhole_fields_total")) // FIELDS

    def check(self, sent):
        must(sent, self.n, "events delivered")

    def peer(self, command):
        self.out.unlink(missing_ok=True)
        peer = Peer(command, {"BENCH_SCENARIO": self.name, "BENCH_INPUT": str(self.path),
                              "BENCH_OUTPUT": str(self.out), "BENCH_EVENTS": str(self.n)},
                    self.bench.scratch())
        used = peer.wait()
        if used is None:
            return None
        self.check_peer()
        return Run(self.n, *used, peer.peak)

    def check_peer(self):
        pass


class FileParseBlackhole(Files):
    name = "file-parse-blackhole"
    summary = "file -> parse -> blackhole; limit: yyjson on one core"
    limit_name = "yyjson read"


class FileParseFile(Files):
    name = "file-parse-file"
    summary = "file -> parse -> file; limit: yyjson and stdio on one core"
    limit_name = "yyjson read, line written"
    mode = "pass"
    transforms = ("transforms: {parse: {type: validate, inputs: [in], "
                  "schema: {type: object, required: [user_id]}}}")

    @property
    def sink(self):
        return f"{{type: file, inputs: [parse], path: {self.out}, mode: truncate, on_reject: stop}}"

    def pipeline(self):
        return super().pipeline() + "dead_letter: out\n"

    def parsed_by(self, weir):
        # What lacks the field, or is no JSON, does not pass.
        return weir.count("parse", "sent")

    def check(self, sent):
        super().check(sent)
        must(self.out.stat().st_size, self.path.stat().st_size, "bytes in the file")

    def check_peer(self):
        must(lines_of(self.out), self.n, "lines that the peer wrote")


class FileLuaFile(Files):
    name = "file-lua-file"
    summary = "file -> Lua (rename, add, drop one type) -> file; limit: yyjson doing the same, no Lua"
    limit_name = "yyjson read, edit, write"
    base = 2_000_000
    mode = "edit"
    transforms = "transforms: {hook: {type: lua, inputs: [in], script: hook.lua}}"

    def __init__(self, bench):
        super().__init__(bench)
        (bench.folder / "hook.lua").write_text(HOOK)
        self.kept = self.n - bench.heartbeats(self.path)

    @property
    def sink(self):
        return f"{{type: file, inputs: [hook], path: {self.out}, mode: truncate, on_reject: stop}}"

    def pipeline(self):
        return super().pipeline() + "dead_letter: out\n"

    def parsed_by(self, weir):
        # The hook reads a field of every event: what it dropped and what it passed.
        dropped = weir.metrics().get("weir_component_discarded_events_total", component="hook")
        return weir.count("hook", "sent") + int(dropped)

    def check(self, sent):
        must(sent, self.kept, "events delivered")
        must(lines_of(self.out), self.kept, "lines in the file")
        with self.out.open() as file:
            first = file.readline()
        if '"user":"' not in first or '"seen":1' not in first or '"user_id"' in first:
            raise SystemExit(f"bench: the hook changed nothing: {first}")

    def check_peer(self):
        must(lines_of(self.out), self.kept, "lines that the peer wrote")


class FileDiskBlackhole(Files):
    """Every event is durable before its source hears that it is delivered."""

    name = "file-disk-blackhole"
    summary = "file -> disk buffer -> blackhole; limit: the lines appended to a log, fdatasync every 10 ms"
    base = 2_000_000
    sink = ("{type: blackhole, needs: payload, on_reject: stop, "
            "buffer: {type: disk, path: buffer, size: 8GiB, drain_on_stop: true}}")

    def limits(self):
        return {"append, fdatasync": ("limit", self.limit)}

    def limit(self):
        run = run_limit("limit_disk", self.path, self.limit_out)
        must(self.limit_out.stat().st_size, self.path.stat().st_size, "bytes in the log")
        self.limit_out.unlink()
        return run

    def parsed_by(self, weir):
        must(int(weir.metrics().get("weir_blackhole_bytes_total")), self.path.stat().st_size - self.n,
             "bytes delivered")
        return self.n

    def weir(self):
        run = super().weir()
        return Run(run.events, run.seconds, run.cpu, run.peak_mib)

    def peer(self, command):
        return None


def lines_of(path):
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


# ---- HTTP --------------------------------------------------------------------------------------

class Http(Scenario):
    """Events are posted for some seconds by load_http, over kept-alive connections."""

    per_request, connections = 1, 64
    base = 5  # seconds
    least = 1

    def load(self, port, pid):
        """One load on whoever listens there."""
        cpu = cpu_seconds(pid)
        done = subprocess.run([str(BUILD / "bench/load_http"), str(port), str(self.connections),
                               str(self.n), str(self.per_request)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"load_http: {done.stderr}")
        ok, other, broken, seconds, _, p99, longest, own = done.stdout.split()
        must(int(other) + int(broken), 0, "requests that were not answered 200")
        run = Run(int(ok) * self.per_request, float(seconds), 0, peak_mib(pid), p99=float(p99) / 1000)
        # The load's first tenth is not counted by its clock, but by the processor's.
        run.cpu = (cpu_seconds(pid) - cpu) / 1.1
        return run

    def limits(self):
        return {f"libmicrohttpd, {how}": ("limit", lambda mode=mode: self.limit_http(mode))
                for mode, how in (("suspend", "suspended"), ("once", "at once"))}

    def limit_http(self, mode):
        port = free_port()
        process = subprocess.Popen([str(BUILD / "bench/limit_http"), str(port), mode])
        try:
            wait_until(lambda: listening(port), 10, "limit_http listens")
            return self.load(port, process.pid)
        finally:
            process.terminate()
            process.wait()

    sink = "{type: blackhole, on_reject: drop}"

    def weir(self):
        port = free_port()
        weir = Weir(self.bench.folder, f"""\
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
sinks: {{out: {self.sink}}}
""")
        weir.wait_ready()
        run = self.load(port, weir.process.pid)
        self.check(weir, run)
        weir.stop()
        return run

    def check(self, weir, run):
        sent = weir.count("out", "sent")
        if sent < run.events:
            raise SystemExit(f"bench: {run.events:,} events answered, {sent:,} delivered")

    def environment(self):
        return {}

    @staticmethod
    def no_server(peer):
        if peer.process.poll() == UNSUPPORTED:
            return None
        peer.stop()
        raise SystemExit(f"bench: the peer does not listen on $BENCH_HTTP; its log: {peer.log_path}")

    def peer(self, command):
        port = free_port()
        peer = Peer(command, {"BENCH_SCENARIO": self.name, "BENCH_HTTP": f"127.0.0.1:{port}",
                              **self.environment()}, self.bench.scratch())
        deadline = time.monotonic() + 30
        while not listening(port):
            if peer.process.poll() is not None or time.monotonic() > deadline:
                return self.no_server(peer)
            time.sleep(0.1)
        run = self.load(port, peer.process.pid)
        took, cpu = peer.stop()
        run.cpu, run.peak_mib = cpu / 1.1, peer.peak
        return run


class Http1Blackhole(Http):
    name = "http-1-blackhole"
    summary = "HTTP, 1 event a request -> blackhole, answered after the ack; limit: libmicrohttpd"


class Http100Blackhole(Http):
    name = "http-100-blackhole"
    summary = "HTTP, 100 events a request -> blackhole, answered after the ack; limit: libmicrohttpd"
    per_request, connections = 100, 16


class HttpKafka(Http):
    """Answered when Kafka has the events (acks=all)."""

    def __init__(self, bench):
        super().__init__(bench)
        self.kafka = bench.server(Kafka)
        bench.warm_kafka()

    def limits(self):
        found = {"librdkafka write": ("limit", self.limit_kafka)}
        if self.per_request == 1:
            found.update((k, v) for k, v in super().limits().items() if "suspended" in k)
        return found

    def limit_kafka(self):
        with self.bench.topic() as topic:
            return run_limit("limit_kafka", "write", self.kafka.brokers, topic,
                             max(1000, int(1_000_000 * self.bench.scale)))

    def weir(self):
        with self.bench.topic() as self.topic:
            self.sink = (f"{{type: kafka, brokers: '{self.kafka.brokers}', topic: {self.topic}, "
                         "on_reject: drop}")
            return super().weir()

    def check(self, weir, run):
        super().check(weir, run)
        there = self.kafka.count(self.topic)
        if there < run.events:
            raise SystemExit(f"bench: {run.events:,} events answered, {there:,} in Kafka")

    def environment(self):
        return {"BENCH_KAFKA": self.kafka.brokers, "BENCH_TO_TOPIC": self.topic}

    def peer(self, command):
        with self.bench.topic() as self.topic:
            return super().peer(command)


class Http1Kafka(HttpKafka):
    name = "http-1-kafka"
    summary = "HTTP, 1 event a request -> Kafka, answered after acks=all; limits: librdkafka, libmicrohttpd"


class Http100Kafka(HttpKafka):
    name = "http-100-kafka"
    summary = "HTTP, 100 events a request -> Kafka, answered after acks=all; limit: librdkafka"
    per_request, connections = 100, 16


# ---- from Kafka --------------------------------------------------------------------------------

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


FLOWS = [FileParseBlackhole, FileParseFile, FileLuaFile, FileDiskBlackhole, Http1Blackhole,
         Http100Blackhole, Http1Kafka, Http100Kafka, KafkaParseBlackhole, KafkaLuaKafka, KafkaRedis, KafkaMongoDB]


# ---- what has no limit beside it -----------------------------------------------------------------

class Report:
    """A scenario that prints lines of its own: run() gives them as (name, value)."""

    name = summary = unit = ""

    def __init__(self, bench):
        self.bench = bench


class Engine(Report):
    name = "engine"
    unit = "ns CPU an event"
    summary = "the engine's own share of an event: a source and a sink that do nothing"

    def run(self):
        n = max(100_000, int(10_000_000 * self.bench.scale))
        for batch in (16, 256, 512):
            done = subprocess.run([str(BUILD / "bench/bench_engine"), str(n), str(batch)], check=True,
                                  capture_output=True, text=True)
            words = done.stdout.replace(",", "").split()
            yield f"batches of {batch}", float(words[words.index("ns") - 1])


ALONE = """\
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
transforms: {{hook: {{type: lua, inputs: [in], script: hook.lua}}}}
sinks:
  out: {{type: file, inputs: [hook], path: out.ndjson, mode: truncate}}
  dead: {{type: file, path: dead.ndjson, mode: truncate}}
dead_letter: dead
"""


class Memory(Report):
    name = "memory"
    unit = "MiB"
    summary = "memory of the process, idle (HTTP -> Lua -> file); under load it stands beside each scenario"

    def run(self):
        (self.bench.folder / "hook.lua").write_text(HOOK)
        weir = Weir(self.bench.folder, ALONE.format(port=free_port()))
        weir.wait_ready()
        time.sleep(1)
        yield "idle, resident", resident_mib(weir.process.pid)
        yield "idle, peak", weir.peak_mib
        weir.stop()


class Ready(Report):
    name = "ready"
    unit = "ms"
    summary = "from the start of the process until it takes its first request (HTTP -> Lua -> file)"

    def run(self):
        (self.bench.folder / "hook.lua").write_text(HOOK)
        took = sorted(self.once() for _ in range(max(3, int(20 * self.bench.scale))))
        yield "median", took[len(took) // 2] * 1000
        yield "longest", took[-1] * 1000

    def once(self):
        port = free_port()
        weir = Weir(self.bench.folder, ALONE.format(port=port))
        began = time.monotonic()
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                    s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
                    answer = s.recv(100)
                    break
            except ConnectionRefusedError:
                if time.monotonic() - began > 30:
                    raise SystemExit("bench: weir does not listen after 30 s") from None
                time.sleep(0.0005)
        took = time.time() - weir.began
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"bench: the first request was answered {answer!r}")
        weir.wait_ready()
        weir.stop()
        return took


REPORTS = [Engine, Memory, Ready]
