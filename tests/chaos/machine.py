# SPDX-License-Identifier: Apache-2.0
"""What the machine had left for this run. A flow that is slow while others take the processors is no proof of
anything: neither that it recovers, nor that it does not."""
import os
import time
from collections import deque
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
EVERY = 1.0  # seconds
KEPT = 600  # samples
ENOUGH = 0.5  # of the processors


def busy(text):
    """Seconds of all processors that were not idle, of /proc/stat's text; those that a hypervisor took count."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, text.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def ours():
    """Seconds of this process and all below it, those that ended included: they are their parents' by then."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        pid = int(path.parent.name)
        parents[pid], seconds[pid] = int(fields[1]), sum(map(int, fields[11:15])) / TICKS

    def is_ours(pid):
        while pid not in (0, 1, os.getpid()):
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sum(s for pid, s in seconds.items() if is_ours(pid))


class Machine:
    """sample() now and then; left(since, until) tells which part of the processors others left to this run."""

    def __init__(self, processors=os.cpu_count()):
        self._processors, self._samples = processors, deque(maxlen=KEPT)

    def sample(self):
        if self._samples and time.monotonic() < self._samples[-1][0] + EVERY:
            return
        self.note(time.monotonic(), busy(Path("/proc/stat").read_text()) - ours())

    def note(self, when, others):
        self._samples.append((when, others))

    def left(self, since, until):
        """0..1; 1 where nothing is known."""
        inside = [(t, s) for t, s in self._samples if since <= t <= until]
        if len(inside) < 2:
            return 1.0
        (began, first), (ended, last) = inside[0], inside[-1]
        return min(1.0, max(0.0, 1.0 - (last - first) / (ended - began) / self._processors))

    def too_slow(self, before, after, good):
        """Both are (since, until): whether the run had less than `good` of what it had before, or not even half
        of the machine. What the run itself takes never makes it so."""
        had, has = self.left(*before), self.left(*after)
        return has < ENOUGH or has < good * had
