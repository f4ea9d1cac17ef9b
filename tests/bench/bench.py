# SPDX-License-Identifier: Apache-2.0
"""The scenarios of scripts/bench: weir beside the raw limit of the library under it, in one run.

Figures of one run are for comparing with each other: the machine's noise is in all of them alike.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))

from weirtest.servers import Kafka, MongoDB, Redis  # noqa: E402
from weirtest.tools import free_port, unique_name, wait_until  # noqa: E402

BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))

HOOK = """
function process(event, meta)
  if event.type == "heartbeat" then return nil end
  event.user = event.user_id
  event.user_id = nil
  event.seen = 1
  return event
end
"""

WRK = """
local n = 0
function init(args)
  math.randomseed(os.time())
  prefix = tostring(math.random(1, 1000000000))
end
function request()
  local lines = {}
  for i = 1, PER_REQUEST do
    n = n + 1
    lines[i] = string.format('{"id":"%s-%d","type":"page_view","ts":"2026-01-01T00:00:00.000Z","user_id":"u%08d",' ..
      '"session_id":"s-0123456789abcdef","seq":%d,"context":{"ip":"10.1.2.3","agent":"Mozilla/5.0 (X11; Linux ' ..
      'x86_64; rv:128.0) Gecko/20100101 Firefox/128.0","locale":"de-DE"},"props":{"path":"/products/1234/details",' ..
      '"referrer":"https://www.example.com/search?q=weir","title":"A product","load_ms":132}}', prefix, n, n % 100000, n)
  end
  return wrk.format("POST", "/events", {["Content-Type"] = "application/x-ndjson"}, table.concat(lines, "\\n"))
end
"""


class Run:
    """What one process did: events, seconds, CPU seconds, peak memory in MiB."""

    def __init__(self, events, seconds, cpu, peak_mib):
        self.events, self.seconds, self.cpu, self.peak_mib = events, seconds, cpu, peak_mib

    @property
    def rate(self):
        return self.events / self.seconds

    def row(self, name, limit=None):
        ratio = f"{self.rate / limit.rate:6.2f}" if limit else "     -"
        return (f"{name:34s} {self.rate:12,.0f} {ratio} {self.cpu / self.events * 1e6:10.2f} "
                f"{self.peak_mib:8.0f}")


HEAD = f"{'':34s} {'events/s':>12s} {'ratio':>6s} {'CPU us/ev':>10s} {'peak MiB':>8s}"


def peak_kib_of(pid):
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 0


def finish(process, began, events, peak_kib=0):
    """Waits for the process and takes its resource use. Peak memory is read while it runs: what wait4 says
    of it begins with this interpreter's."""
    done = 0
    while not done:
        peak_kib = max(peak_kib, peak_kib_of(process.pid))
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not done:
            time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{process.args}: exit code {process.returncode}")
    return Run(events, time.monotonic() - began, usage.ru_utime + usage.ru_stime,
               peak_kib / 1024)


def limit(program, *args):
    """Runs a limit program; its own clock begins when it is connected."""
    done = subprocess.run([str(BUILD / "bench" / program), *map(str, args)], check=True,
                          capture_output=True, text=True)
    events, seconds, cpu, peak = done.stdout.split()
    return Run(int(events), float(seconds), float(cpu), int(peak) / 1024)


class Bench:
    def __init__(self, folder, scale):
        self.folder, self.scale = Path(folder), scale
        self.servers = {}

    def server(self, kind):
        if kind not in self.servers:
            print(f"  starting {kind.name} ...", file=sys.stderr, flush=True)
            server = kind(self.folder / kind.name)
            server.start()
            self.servers[kind] = server
        return self.servers[kind]

    def close(self):
        for server in self.servers.values():
            server.stop()

    def weir(self, text, *args):
        """Starts `weir run` of a pipeline text; finish() takes its figures."""
        path = self.folder / f"{unique_name('bench')}.yaml"
        path.write_text(text)
        log = open(self.folder / "weir.log", "ab")
        return subprocess.Popen([str(BUILD / "bin/weir"), "run", str(path), "--plugin-dir",
                                 str(BUILD / "plugins"), *args], stdout=log, stderr=log)

    def whole(self, text, events):
        """A pipeline that ends by itself."""
        began = time.monotonic()
        return finish(self.weir(text), began, events)

    def input_file(self, events):
        path = self.folder / f"events-{events}.ndjson"
        if not path.exists():
            self.whole(f"""
sources: {{gen: {{type: generate, count: {events}}}}}
sinks: {{out: {{type: file, path: {path}}}}}
""", events)
        return path

    # ---- scenarios

    def engine(self):
        """engine: its own share of an event, a source and a sink that do nothing (ns CPU an event)"""
        for batch in (16, 256, 512):
            done = subprocess.run([str(BUILD / "bench/bench_engine"), str(int(10_000_000 * self.scale)),
                                   str(batch)], check=True, capture_output=True, text=True)
            print("  " + done.stdout.strip())

    def file_lua_file(self):
        """file-lua-file: file -> Lua (rename, add, drop one type) -> file; limit: yyjson doing the same"""
        n = int(1_000_000 * self.scale)
        path, out = self.input_file(n), self.folder / "out.ndjson"
        (self.folder / "hook.lua").write_text(HOOK)
        raw = limit("limit_json", path, out)
        mine = self.whole(f"""
sources: {{in: {{type: file, path: {path}}}}}
transforms: {{hook: {{type: lua, script: {self.folder / 'hook.lua'}}}}}
sinks: {{out: {{type: file, path: {out}, mode: truncate}}}}
""", n)
        print(HEAD)
        print(raw.row("yyjson read, edit, write"))
        print(mine.row("weir", raw))

    def http_kafka(self):
        """http-kafka: HTTP (100 events a request) -> Kafka, answered after acks=all; limit: librdkafka"""
        kafka = self.server(Kafka)
        topic = kafka.topic(partitions=4)
        raw = limit("limit_kafka", kafka.brokers, topic, int(1_000_000 * self.scale))
        print(HEAD)
        print(raw.row("librdkafka produce, acks=all"))
        for per_request, connections in ((100, 16), (1, 64)):
            port = free_port()
            process = self.weir(f"""
sources: {{web: {{type: http, address: '127.0.0.1:{port}', max_body: 64MiB}}}}
sinks: {{out: {{type: kafka, brokers: '{kafka.brokers}', topic: {topic}}}}}
""")
            wait_until(lambda: listening(port), what=f"weir on port {port}")
            script = self.folder / "wrk.lua"
            script.write_text(WRK.replace("PER_REQUEST", str(per_request)))
            seconds = max(2, int(10 * self.scale))
            before = kafka.count(topic)
            began = time.monotonic()
            done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
                                   f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True)
            took = time.monotonic() - began
            peak = peak_kib_of(process.pid)
            process.terminate()
            mine = finish(process, began, kafka.count(topic) - before, peak)
            mine.seconds = took
            print(mine.row(f"weir, {per_request} a request", raw))
            for line in done.stdout.splitlines():
                if "Non-2xx" in line or "Socket errors" in line:
                    print("  " + line.strip())

    def kafka_stores(self):
        """kafka-stores: Kafka -> MongoDB, Kafka -> Redis, and both; limits: libmongoc bulks, hiredis pipelines"""
        kafka, mongodb, redis = self.server(Kafka), self.server(MongoDB), self.server(Redis)
        n = int(200_000 * self.scale)
        topic = kafka.topic(partitions=4)
        limit("limit_kafka", kafka.brokers, topic, n)
        mongo_raw = limit("limit_mongodb", mongodb.uri, unique_name("bench"), max(1000, n // 4))
        redis_raw = limit("limit_redis", redis.host, redis.port, n)
        source = (f"sources: {{in: {{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], "
                  "group: GROUP, stop_at_end: true}}")
        store = (f"store: {{{{type: mongodb, uri: '{mongodb.uri}', database: {{db}}, collection: events, "
                 "inputs: [in]}}")
        count = (f"count: {{type: redis, url: '{redis.url}', "
                 "command: [HINCRBY, 'bench:counts', '{{ type }}', '1'], inputs: [in]}")

        def pipeline(*sinks):
            return (source.replace("GROUP", unique_name("g")) + "\nsinks:\n" +
                    "".join(f"  {sink}\n" for sink in sinks))

        print(HEAD)
        print(mongo_raw.row("libmongoc, bulks of 1000"))
        mine = self.whole(pipeline(store.format(db=unique_name("bench"))), n)
        print(mine.row("weir, Kafka -> MongoDB", mongo_raw))
        print(redis_raw.row("hiredis, pipelines of 1000"))
        mine = self.whole(pipeline(count), n)
        print(mine.row("weir, Kafka -> Redis", redis_raw))
        mine = self.whole(pipeline(store.format(db=unique_name("bench")), count), n)
        print(mine.row("weir, Kafka -> both", mongo_raw))


def listening(port):
    import socket
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


SCENARIOS = {"engine": Bench.engine, "file-lua-file": Bench.file_lua_file,
             "http-kafka": Bench.http_kafka, "kafka-stores": Bench.kafka_stores}


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="which to run; none: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios, a line each")
    parser.add_argument("--scale", type=float, default=1.0,
                        help="multiplies the number of events (0.05: a quick look)")
    args = parser.parse_args()
    if args.list:
        for run in SCENARIOS.values():
            print(run.__doc__)
        return
    unknown = [name for name in args.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        bench = Bench(folder, args.scale)
        try:
            for name in args.scenario or SCENARIOS:
                print(f"\n{SCENARIOS[name].__doc__}", flush=True)
                SCENARIOS[name](bench)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
