# SPDX-License-Identifier: Apache-2.0
"""Scenarios into which events are posted."""
import subprocess
import time

from weirtest.servers import Kafka
from weirtest.tools import free_port, wait_until

from measure import BUILD, UNSUPPORTED, Peer, Run, Weir, cpu_seconds, listening, peak_mib, run_limit
from scenario import Scenario, must


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


class Http100Disk(Http100Blackhole):
    """Answered when the buffer has the events on the disk."""

    name = "http-100-disk"
    summary = "HTTP, 100 events a request -> disk buffer, answered when durable -> blackhole; limit: libmicrohttpd"
    sink = ("{type: blackhole, on_reject: drop, "
            "buffer: {type: disk, path: http-buffer, size: 8GiB, drain_on_stop: true}}")

    def check(self, weir, run):
        wait_until(lambda: weir.count("out", "sent") >= run.events, 60, "all that was answered is delivered")


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
