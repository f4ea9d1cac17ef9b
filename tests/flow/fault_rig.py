# SPDX-License-Identifier: Apache-2.0
"""Runs of weir-faults (tests/fault/faults.c), in each of which one chosen allocation or call of the kernel fails."""
import json
import os
import random
import re
import signal
import subprocess
import time

import requests

from weirtest import free_port, wait_until
from weirtest.process import sanitizer_reports

# All of them, by `scripts/test fault`; else some of each kind.
ALL = os.environ.get("WEIR_FAULTS") == "all"


class Faulty:
    """One process. `failed`: its fault was met; `count`: how many calls of the kind there were."""

    def __init__(self, weir, folder, pipeline, fault, env=None, stdin=None):
        self.folder, self.fault = folder, fault
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "p.yaml").write_text(pipeline)
        self.log_path, self.err_path = folder / "fault.log", folder / ("stderr" if fault else "stderr-again")
        program = weir.bin.parents[1] / "tests/weir-faults" if fault else weir.bin
        assert program.exists(), f"{program} is not there: build with -DWEIR_TESTS=ON"
        full = dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path, **(env or {}))
        # Else a second allocator would be in front of the faulty one.
        full["UBSAN_OPTIONS"] = "print_stacktrace=1"
        full["ASAN_OPTIONS"] = full.get("ASAN_OPTIONS", "") + ":detect_leaks=0:handle_abort=0"
        if fault:
            full |= {"WEIR_FAULT": fault, "WEIR_FAULT_LOG": str(self.log_path)}
        with self.err_path.open("wb") as err:
            self.process = subprocess.Popen([program, "run", "p.yaml", "--exit-on-stop"], cwd=folder, env=full, stderr=err,
                                            stdout=subprocess.DEVNULL, stdin=stdin or subprocess.DEVNULL)

    def told(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def failed(self):
        return "failed " in self.told()

    @property
    def count(self):
        return int(re.search(r"^count \w+ (\d+)", self.told(), re.M)[1])

    @property
    def stderr(self):
        return self.err_path.read_text(errors="replace")

    @property
    def alive(self):
        return self.process.poll() is None

    def wait(self, timeout=60):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it hangs\n{self}") from None
        assert not sanitizer_reports(self.stderr), str(self)
        return code

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def __str__(self):
        return f"{self.fault}\n{self.told()}\n--- stderr\n{self.stderr[-6000:]}"


def numbers(count, few, seed):
    """Which of 1..count to let fail."""
    if ALL or count <= few:
        return list(range(1, count + 1))
    # The first ones, and others by chance, but each time the same.
    chosen = set(range(1, few // 3 + 1)) | set(random.Random(seed).sample(range(1, count + 1), few - few // 3))
    return sorted(chosen)


def expect_end(run, code):
    """Only at its start may it end by abort, where nothing has been taken yet; and then says why. Later it goes
    on, or stops in order."""
    if run.fault.startswith("start:") and code == -signal.SIGABRT:
        assert "out of memory" in run.stderr, str(run)
        return
    assert code in (0, 1), f"ended by {code}: {run}"
    if code == 1:
        assert re.search(r'"level":"error"|error\[', run.stderr), f"it did not say why: {run}"


def kept(folder):
    """The numbers of the events in the output and among the dead letters. Each line is whole."""
    found = []
    for name in ("out.ndjson", "dead.ndjson"):
        text = (folder / name).read_text() if (folder / name).exists() else ""
        assert not text or text.endswith("\n"), f"{name} ends in a torn line"
        events = [json.loads(line) for line in text.splitlines()]
        found += [json.loads(e["payload"])["n"] if "payload" in e else e["n"] for e in events]
    return found


class Client:
    """Sends events one by one until each has been acknowledged; `acked` are their numbers."""

    def __init__(self, run, port):
        self.run, self.url, self.acked = run, f"http://127.0.0.1:{port}/events", []
        self.session = requests.Session()

    def send(self, n, tries=100):
        for _ in range(tries):
            if not self.run.alive:
                return False
            try:
                answer = self.session.post(self.url, json.dumps({"n": n, "k": n % 3}), timeout=10,
                                           headers={"Content-Type": "application/json", "Idempotency-Key": f"i{n}"})
                if answer.status_code in (200, 202):
                    self.acked.append(n)
                    return True
            except requests.RequestException:
                self.session = requests.Session()
            time.sleep(0.02)
        raise AssertionError(f"event {n} was never acknowledged\n{self.run}")


def serve(weir, folder, pipeline, fault, n_events=12):
    """A weir with an http source under a fault, and a client. Gives (run, acknowledged numbers)."""
    port = free_port()
    run = Faulty(weir, folder, pipeline.replace("PORT", str(port)), fault)
    try:
        wait_until(lambda: not run.alive or "listening" in run.stderr, 30, lambda: f"it listens\n{run}", 0.01)
        client = Client(run, port)
        for n in range(n_events):
            if not client.send(n):
                break
        code = run.stop() if run.alive else run.wait()
    finally:
        run.process.kill()
        run.process.wait()
    expect_end(run, code)
    return run, client.acked


def sweep(run_one, kind, how="", few=9):
    """run_one(fault) for a run in which nothing fails, then for those in which the 1st, 2nd... fails."""
    suffix = f":{how}" if how else ""
    count = run_one(f"{kind}:0{suffix}").count
    met = 0
    chosen = numbers(count, few, kind + how)
    for n in chosen:
        met += run_one(f"{kind}:{n}{suffix}").failed
    # Threads make runs differ a little.
    assert met >= min(len(chosen), max(1, len(chosen) * 2 // 3)) or count == 0, f"{met} of {len(chosen)} were met"
    return count
