# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures without a limit beside it."""
import socket
import subprocess
import time

from weirtest.tools import free_port

from measure import BUILD, Weir, resident_mib
from scenario import HOOK


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
