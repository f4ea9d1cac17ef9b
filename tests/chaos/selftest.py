# SPDX-License-Identifier: Apache-2.0
"""Shows that the harness can fail: builds that break one promise each have to be found out.

Each has the faults under which its promise matters, out of the same repertoire, and the findings that count;
anything else that such a run finds is of no interest. With the build that breaks nothing the same faults find
nothing.
"""
import os
import subprocess
from dataclasses import dataclass

from weirtest.tools import ROOT


@dataclass
class Broken:
    """name: as in core/engine/broken.h; faults: how many of which kind; caught: findings that count."""

    name: str
    what: str
    flows: tuple
    faults: tuple
    moments: int
    caught: tuple


BROKEN = (
    Broken("ACK_BEFORE_WRITE", "acknowledged before it is written", ("count",), ("stall-kill",), 2, ("lost",)),
    Broken("RETRY_DROPPED", "a write that failed is not repeated", ("count",), ("redis", "down"), 2,
           ("lost", "stale")),
    Broken("SPLIT_WITHOUT_ACK", "a half of a split event is not waited for", ("count",), ("stall-kill",), 5,
           ("lost",)),
    Broken("COMMIT_PAST_FAILURE", "offsets of failed events are committed", ("count",), ("stall-stop",), 3,
           ("lost",)),
    Broken("ACK_BEFORE_FSYNC", "acknowledged before a disk buffer has synced it", ("buffered",), ("power",), 3,
           ("lost",)),
    Broken("OLD_EPOCH", "events of a partition that was given up are written", ("count",), ("takeover",), 3,
           ("stale", "reordered")),
)
SHORT = ("ACK_BEFORE_WRITE", "ACK_BEFORE_FSYNC")


def build(name):
    """Only the program: plugins are the same. Gives the binary."""
    folder = ROOT / "build" / f"break-{name.lower().replace('_', '-')}"
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if _has("ccache") else []
    for command in (["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                     "-DWEIR_TESTS=OFF", f"-DWEIR_BREAK={name}", *launcher],
                    ["ninja", "-C", str(folder), "weir"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}")
    return folder / "bin/weir"


def _has(program):
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in os.environ["PATH"].split(":"))


def judge(broken, entry):
    """The findings that count, of a round's report."""
    return [f for f in entry["findings"] if f["promise"] in broken.caught]


def run(names, run_round, say):
    """`run_round(binary, flows, faults, moments)` gives a round's report. Gives the names that were not found
    out."""
    missed = []
    for broken in BROKEN:
        if broken.name not in names:
            continue
        say(f"build with {broken.name}: {broken.what}")
        entry = run_round(build(broken.name), broken.flows, broken.faults, broken.moments)
        found = judge(broken, entry)
        for f in found:
            say(f"  found out: {f['promise']} in {f['where']}: {f['count']}: {f['text'][:160]}")
        if not found:
            missed.append(broken.name)
            say(f"  NOT FOUND OUT; what was found: {[f['promise'] for f in entry['findings']] or 'nothing'}")
    return missed
