# SPDX-License-Identifier: Apache-2.0
"""The turns of scripts/fuzz, which says what it does; the fuzzers are built. Everything is kept in build/fuzzing:
state.json, a folder of inputs and one of crashes for each fuzzer, and the programs, which a build beside a run
must not replace."""
import argparse
import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "build/fuzzing"
TURN = 120  # seconds
KEYS = ("seconds", "executions", "first_edges", "edges", "inputs")
MARKS = ("<!-- scripts/fuzz --readme writes from here -->\n", "<!-- to here -->\n")


class Fuzzer:
    def __init__(self, name, state):
        self.name, self.busy = name, False
        self.figures = dict.fromkeys(KEYS, 0) | state
        self.program, self.inputs, self.crashes = (HERE / part / name for part in ("bin", "inputs", "crashes"))
        self.dictionary = ROOT / f"tests/fuzz/{name}.dict"
        for folder in (self.program.parent, self.inputs, self.crashes):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / f"build/fuzz/fuzz/fuzz_{name}", self.program)

    def found(self):
        return sorted(self.crashes.iterdir())

    def forget_mended(self):
        for path in self.found():
            done = subprocess.run([self.program, "-timeout=60", path], capture_output=True)
            if done.returncode == 0:
                path.unlink()

    def command(self, seconds):
        words = [f"-dict={self.dictionary}"] if self.dictionary.exists() else []
        return [self.program, f"-max_total_time={seconds}", "-timeout=60", "-report_slow_units=60", *words,
                "-print_final_stats=1", f"-artifact_prefix={self.crashes}/", self.inputs,
                ROOT / f"tests/fuzz/corpus/{self.name}"]

    def take(self, output, seconds):
        """The figures of one turn, out of what libFuzzer says."""
        edges = [int(n) for n in re.findall(r"^#\d+\s+[A-Za-z]+\s+cov: (\d+)", output, re.M)]
        executions = re.findall(r"stat::number_of_executed_units: (\d+)", output)
        f = self.figures
        f["seconds"] = round(f["seconds"] + seconds, 1)
        f["executions"] += int(executions[0]) if executions else 0
        f["first_edges"] = f["first_edges"] or (edges[0] if edges else 0)
        f["edges"] = max([f["edges"], *edges])
        f["inputs"] = sum(1 for _ in self.inputs.iterdir())


class Run:
    def __init__(self, options):
        self.options, self.lock, self.stopped, self.running = options, threading.Lock(), False, set()
        self.broken = ""  # why the run cannot go on
        self.state_path = HERE / "state.json"
        self.state = json.loads(self.state_path.read_text()) if self.state_path.exists() else {}
        known = sorted(path.stem.removeprefix("fuzz_") for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
        self.fuzzers = [Fuzzer(name, self.state.get(name, {})) for name in options.fuzzers or known]
        for fuzzer in self.fuzzers:
            fuzzer.forget_mended()

    def left(self, fuzzer):
        return 0 if fuzzer.found() else self.options.seconds - fuzzer.figures["seconds"]

    def next(self):
        """Who had the least, and is not at it."""
        with self.lock:
            waiting = [f for f in self.fuzzers if not f.busy and self.left(f) > 0.5]
            if self.stopped or not waiting:
                return None
            fuzzer = min(waiting, key=lambda f: f.figures["seconds"])
            fuzzer.busy = True
            return fuzzer

    def turn(self, fuzzer):
        seconds = max(1, min(TURN, round(self.left(fuzzer))))
        with self.lock:
            if self.stopped:
                return
            began = time.monotonic()
            process = subprocess.Popen(fuzzer.command(seconds), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                       text=True, errors="replace", start_new_session=True)
            self.running.add(process)
        output = process.communicate()[1]
        with self.lock:
            self.running.discard(process)
            fuzzer.take(output, time.monotonic() - began)
            self.state[fuzzer.name] = fuzzer.figures
            fresh = self.state_path.with_suffix(".new")
            fresh.write_text(json.dumps(self.state, indent=1) + "\n")
            fresh.replace(self.state_path)
        if process.returncode != 0 and not fuzzer.found() and not self.stopped:
            self.broken = f"{output[-4000:]}\nfuzz: {fuzzer.name} ended with {process.returncode}, and left no input"
            self.stop()

    def work(self):
        while (fuzzer := self.next()) is not None:
            try:
                self.turn(fuzzer)
            finally:
                fuzzer.busy = False

    def stop(self, *_):
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.send_signal(signal.SIGINT)  # it says its figures then

    def table(self):
        rows = ["| fuzzer | time | runs | edges at first | edges | inputs found | crashes |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for fuzzer in self.fuzzers:
            seconds, executions, first, edges, inputs = (fuzzer.figures[key] for key in KEYS)
            rows.append(f"| `{fuzzer.name}` | {int(seconds // 60)} min {int(seconds % 60)} s | {executions:,} | "
                        f"{first:,} | {edges:,} | {inputs:,} | {len(fuzzer.found())} |")
        return "\n".join(rows) + "\n"

    def main(self):
        signal.signal(signal.SIGINT, self.stop)
        signal.signal(signal.SIGTERM, self.stop)
        workers = [threading.Thread(target=self.work) for _ in range(self.options.jobs)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(self.table(), end="")
        if self.broken:
            raise SystemExit(self.broken)
        for fuzzer in self.fuzzers:
            for path in fuzzer.found():
                print(f"{fuzzer.name}: {path}\n  repeat it: {fuzzer.program} {path}")
        whole = all(self.left(f) <= 0.5 and not f.found() for f in self.fuzzers)
        if whole and self.options.readme:
            path = ROOT / "tests/fuzz/README.md"
            before, rest = path.read_text().split(MARKS[0])
            path.write_text(before + MARKS[0] + self.table() + MARKS[1] + rest.split(MARKS[1])[1])
        return 0 if whole else 1


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("fuzzers", nargs="*")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = options()
    HERE.parent.mkdir(exist_ok=True)
    with HERE.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("fuzz: another run is at it: end it, or wait for it")
        if chosen.fresh:
            shutil.rmtree(HERE, ignore_errors=True)
        sys.exit(Run(chosen).main())
