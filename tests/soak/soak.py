# SPDX-License-Identifier: Apache-2.0
"""Soak runs: see scripts/soak --help.

A run has one leg, or several where it was interrupted: each is a weir of its own, from its start to its end
by SIGTERM, with a ledger that has to come out even. A leg that was cut off with the harness itself is done
again. The folder has run.json (what was asked for, and the legs that are done), samples.ndjson, and the
reports."""
import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))
sys.path.insert(0, str(Path(__file__).parent))

from weirtest.tools import free_port  # noqa: E402

from traffic import Clients, Ledger, SlowSink  # noqa: E402
from verdict import judge, judge_leg, markdown  # noqa: E402

BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
CLIENTS = 400
LEAST = 30  # seconds of a leg that was interrupted; a shorter one is done again
TELL_EVERY = 10  # samples

PIPELINE = """
name: soak
sources:
  in: {{type: http, address: "127.0.0.1:{port}", lanes: 2{wait}}}
transforms:
  hook:
    type: lua
    inputs: [in]
    on_error: stop
    code: |
      local n = 0
      function process(event)
        n = n + 1
        event.seen = n
        return event
      end
sinks:
  out:
    type: http
    inputs: [hook]
    url: "http://127.0.0.1:{sink}/"
    format: array
    batch: {{events: 100, timeout: 20ms}}
    on_reject: stop
    {buffer}
"""
# Little room and little patience, so that what is refused is refused soon; else the defaults.
OVERLOAD = {"wait": ", max_wait: 1s", "buffer": "buffer: {size: 512KiB}"}
NORMAL = {"wait": "", "buffer": ""}


# ---- The process -------------------------------------------------------------------------------

def look(pid):
    """One sample of a process, or None where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {"rss": int(fields["VmRSS"].split()[0]) << 10, "fds": fds, "threads": int(fields["Threads"])}
    except (OSError, KeyError):
        return None


class Weir:
    def __init__(self, run, folder, port, sink):
        self.file = folder / "soak.yaml"
        more = OVERLOAD if run["mode"] == "overload" else NORMAL
        self.file.write_text(PIPELINE.format(port=port, sink=sink, **more))
        self.log = open(folder / "weir.log", "ab")
        self.process = subprocess.Popen(
            [str(BUILD / "bin/weir"), "run", str(self.file), "--plugin-dir", str(BUILD / "plugins"),
             "--memory", run["memory"]], cwd=folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    async def ready(self, port):
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            except OSError:
                assert self.process.poll() is None, f"weir ended at once; see {self.log.name}"
                await asyncio.sleep(0.1)
        raise AssertionError("weir does not listen")

    async def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        else:
            self.process.kill()
            self.process.wait()
        self.log.close()
        return self.process.returncode


# ---- A leg -------------------------------------------------------------------------------------

class Leg:
    """From the start of a weir to its end, at most `seconds` long."""

    def __init__(self, run, folder, number, seconds):
        self.run, self.folder, self.number, self.seconds = run, folder, number, seconds
        self.ledger, self.samples, self.interrupted = Ledger(), [], asyncio.Event()

    async def sample(self, pid):
        """A line a second, until the time is up or somebody interrupts."""
        began = time.monotonic()
        with (self.folder / "samples.ndjson").open("a") as file:
            while (at := time.monotonic() - began) < self.seconds and not self.interrupted.is_set():
                found = look(pid)
                if found is None:
                    return
                totals = {"offered": self.ledger.offered, "refused": self.ledger.refused}
                self.samples.append({"leg": self.number, "at": round(at, 2), **found, **totals})
                file.write(json.dumps(self.samples[-1]) + "\n")
                file.flush()
                if len(self.samples) % TELL_EVERY == 0:
                    print(f"{at:7.0f} s  {found['rss'] / 2 ** 20:6.1f} MiB  {found['fds']} descriptors  "
                          f"{found['threads']} threads  {totals['offered']} offered  {totals['refused']} refused", flush=True)
                try:
                    await asyncio.wait_for(self.interrupted.wait(), max(0.0, began + len(self.samples) - time.monotonic()))
                except TimeoutError:
                    pass

    async def go(self):
        sink = SlowSink(self.ledger, self.run["rate"] * (0.5 if self.run["mode"] == "overload" else 2))
        sink_port, port = await sink.start(), free_port()
        weir = Weir(self.run, self.folder, port, sink_port)
        try:
            await weir.ready(port)
            clients = Clients(self.ledger, port, self.run["rate"], CLIENTS)
            clients.start()
            await self.sample(weir.process.pid)
            await clients.stop()
        finally:
            code = await weir.end()
            await sink.close()
        return judge_leg({**self.ledger.totals(), "exit_code": code}, self.samples)


# ---- A run -------------------------------------------------------------------------------------

class Run:
    """What stands in the folder."""

    def __init__(self, folder, asked, fresh):
        self.folder, self.file = folder, folder / "run.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.state = {**asked, "legs": []}
        if not fresh and self.file.exists():
            before = json.loads(self.file.read_text())
            if {k: before.get(k) for k in asked} == asked and not (folder / "report.json").exists():
                self.state = before
        if not self.state["legs"]:
            for name in ("samples.ndjson", "report.json", "report.md", "weir.log"):
                (folder / name).unlink(missing_ok=True)
        self.save()

    def save(self):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.state, indent=1) + "\n")
        new.replace(self.file)

    @property
    def seconds_left(self):
        return self.state["minutes"] * 60 - sum(leg["seconds"] for leg in self.state["legs"])

    def add(self, leg):
        self.state["legs"].append(leg)
        self.save()

    def report(self):
        asked = {k: v for k, v in self.state.items() if k != "legs"}
        found = judge(asked, self.state["legs"])
        (self.folder / "report.md").write_text(markdown(found))
        (self.folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
        return found


async def run_leg(run):
    leg = Leg(run.state, run.folder, len(run.state["legs"]) + 1, run.seconds_left)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, leg.interrupted.set)
    found = await leg.go()
    interrupted = leg.interrupted.is_set()
    if not interrupted or found["seconds"] >= LEAST:
        run.add(found)
    return interrupted


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", choices=("overload", "normal"), default="overload")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--memory", default="96MiB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--fresh", action="store_true")
    args = parser.parse_args()
    if args.minutes <= 0 or args.rate <= 0:
        parser.error("--minutes and --rate are above 0")
    folder = (args.folder or ROOT / "build/soak" / args.mode).absolute()
    asked = {"mode": args.mode, "minutes": args.minutes, "rate": args.rate, "memory": args.memory}
    run = Run(folder, asked, args.fresh)
    if run.state["legs"]:
        print(f"goes on: {run.seconds_left:.0f} s are left")
    if run.seconds_left >= 1 and asyncio.run(run_leg(run)) and run.seconds_left >= 1:
        print(f"interrupted with {run.seconds_left:.0f} s left; the same command goes on")
        return 130
    report = run.report()
    print(markdown(report))
    print(f"{folder}/report.md")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
