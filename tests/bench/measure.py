# SPDX-License-Identifier: Apache-2.0
"""How scripts/bench measures one run: the clock, the processor, the memory, of weir, of the limit
programs and of peers alike."""
import json
import os
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests
from weirtest.metrics import Metrics
from weirtest.tools import ROOT, free_port, wait_until

BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
TICKS = os.sysconf("SC_CLK_TCK")

# Keeps the process, and so its metrics, when the pipeline that is measured has ended.
IDLE = """
name: idle
sources: {tick: {type: generate, rate: 1}}
sinks: {none: {type: blackhole, on_reject: drop}}
"""


@dataclass
class Run:
    """What one process did. `parsed`: events that were parsed and of which a field was read, where the
    scenario asks for it; `p99`: in ms, where there is one."""

    events: int
    seconds: float
    cpu: float
    peak_mib: float
    parsed: int | None = None
    p99: float | None = None
    notes: list = field(default_factory=list)

    @property
    def rate(self):
        return self.events / self.seconds

    @property
    def cpu_us(self):
        return self.cpu / max(1, self.events) * 1e6


class Middle:
    """The medians of several runs of the same."""

    def __init__(self, runs):
        self.runs = runs
        self.rate = self._of("rate")
        self.cpu_us = self._of("cpu_us")
        self.peak_mib = max(run.peak_mib for run in runs)
        self.parsed = runs[-1].parsed
        self.events = runs[-1].events
        self.p99 = self._of("p99") if runs[0].p99 is not None else None
        self.notes = sorted({note for run in runs for note in run.notes})
        rates = [run.rate for run in runs]
        self.spread = (max(rates) - min(rates)) / self.rate if self.rate else 0.0

    def _of(self, name):
        return statistics.median(getattr(run, name) for run in self.runs)


def run_limit(program, *args):
    """A limit program; its own clock begins when it is connected."""
    done = subprocess.run([str(BUILD / "bench" / program), *map(str, args)], capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise SystemExit(f"{program}: {done.stderr.strip()}")
    events, seconds, cpu, peak, parsed = done.stdout.split()
    return Run(int(events), float(seconds), float(cpu), int(peak) / 1024, int(parsed) or None)


# ---- processes ---------------------------------------------------------------------------------

def _status_kib(pid, name):
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split(name + ":")[1].split()[0])
    except (OSError, IndexError):
        return 0


def peak_mib(pid):
    return _status_kib(pid, "VmHWM") / 1024


def resident_mib(pid):
    return _status_kib(pid, "VmRSS") / 1024


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def session_of(leader):
    """Living processes of the session that a process leads."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def listening(port):
    try:
        requests.get(f"http://127.0.0.1:{port}/", timeout=2)
        return True
    except requests.ConnectionError:
        return False


# ---- weir --------------------------------------------------------------------------------------

class Weir:
    """`weir run` of one pipeline, and of one that keeps the process when it has ended."""

    def __init__(self, folder, text):
        self.folder = Path(folder)
        self.port = free_port()
        (self.folder / "bench.yaml").write_text("name: bench\n" + text)
        (self.folder / "idle.yaml").write_text(IDLE)
        self.log_path = self.folder / "weir.log"
        command = [str(BUILD / "bin/weir"), "run", "bench.yaml", "idle.yaml", "--log-format", "json",
                   "--metrics", f"127.0.0.1:{self.port}", "--plugin-dir", str(BUILD / "plugins")]
        with self.log_path.open("wb") as log:
            self.began = time.time()
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def _failed(self, what):
        end = self.log_path.read_text(errors="replace")[-3000:]
        raise SystemExit(f"weir: {what}; the end of its log:\n{end}")

    def logged(self, message):
        """The first log line with that message, or None."""
        for line in self.log_path.read_text(errors="replace").splitlines():
            if f'"msg":"{message}"' in line and '"pipeline":"idle"' not in line:
                return json.loads(line)
        return None

    def wait_ready(self):
        def answered():
            if self.process.poll() is not None:
                self._failed("ended before it was ready")
            try:
                return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2).ok
            except requests.RequestException:
                return False
        wait_until(answered, 30, "weir is ready", 0.01)

    def wait_logged(self, message):
        def there():
            if self.process.poll() is not None:
                self._failed(f"ended before it logged {message!r}")
            return self.logged(message) is not None
        wait_until(there, 60, f"weir logs {message!r}", 0.002)

    def wait_end(self, timeout=300):
        """Until the pipeline has read all and ended."""
        deadline = time.monotonic() + timeout
        while (line := self.logged("pipeline ended")) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._failed("the pipeline did not end")
            time.sleep(0.02)
        if line["events_left"] or line["stopped_by_itself"]:
            self._failed("the pipeline did not end well")

    def metrics(self):
        return Metrics(requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text)

    def count(self, component, direction="received"):
        return int(self.metrics().get(f"weir_component_{direction}_events_total", pipeline="bench",
                                      component=component))

    @property
    def cpu(self):
        return cpu_seconds(self.process.pid)

    @property
    def peak_mib(self):
        return peak_mib(self.process.pid)

    def since(self, message=None):
        """Seconds from the start of the process, or from that message of the log, to the end of the
        pipeline, as the log has them."""
        began = _epoch(self.logged(message)["ts"]) if message else self.began
        return _epoch(self.logged("pipeline ended")["ts"]) - began

    def stop(self):
        self.process.terminate()
        if self.process.wait(90) != 0:
            self._failed(f"exit code {self.process.returncode}")


def _epoch(text):
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(
        "0." + text[20:23])


# ---- peers -------------------------------------------------------------------------------------

UNSUPPORTED = 64


class Peer:
    """One run of a peer's command, in a session of its own."""

    def __init__(self, command, env, folder):
        self.log_path = Path(folder) / "peer.log"
        with self.log_path.open("wb") as log:
            self.began = time.monotonic()
            self.process = subprocess.Popen(["bash", "-c", command], cwd=folder, stdout=log, stderr=log,
                                            env={**os.environ, **env}, start_new_session=True)
        self.peak = 0.0

    def look(self):
        self.peak = max([self.peak, *map(peak_mib, session_of(self.process.pid))])

    def wait(self, timeout=600):
        """Until it ends by itself. Gives seconds and CPU seconds, or None where it has no such
        scenario."""
        while True:
            self.look()
            done, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() - self.began > timeout:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise SystemExit(f"the peer still runs after {timeout} s")
            time.sleep(0.02)
        took = time.monotonic() - self.began
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode == UNSUPPORTED:
            return None
        if self.process.returncode not in (0, -signal.SIGTERM):
            raise SystemExit(f"the peer ended with {self.process.returncode}:\n"
                             + self.log_path.read_text(errors="replace")[-3000:])
        return took, usage.ru_utime + usage.ru_stime

    def stop(self):
        self.look()
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        return self.wait(60)
