# SPDX-License-Identifier: Apache-2.0
"""Ends what a run of tests started and did not end: python reaper.py FOLDER <pipe

Waits until its standard input ends, which is when the pytest that holds the pipe is gone, however
it went. A process belongs to the run when its environment has the run's mark; no other is touched.
"""
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def _marked(marks):
    """Ids of living processes whose environment has all the marks; never this one or a parent."""
    wanted = {mark.encode() for mark in marks}
    spared, pid = set(), os.getpid()
    while pid > 1:
        spared.add(pid)
        pid = _parent(pid)
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        try:
            if wanted <= set((entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _send(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end_marked(marks, patience=10.0):
    """Asks them to end, and after `patience` seconds makes them. Gives how many there were."""
    pids = _marked(marks)
    first = len(pids)
    _send(pids, signal.SIGTERM)
    _send(pids, signal.SIGCONT)
    began = time.monotonic()
    while pids and time.monotonic() < began + 3 * patience:
        time.sleep(0.05)
        pids = _marked(marks)
        if time.monotonic() > began + patience:
            _send(pids, signal.SIGKILL)
    return first


def main():
    # A terminal's Ctrl-C is for pytest; this ends after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = sys.argv[1]
    sys.stdin.buffer.read()
    end_marked([f"WEIR_TEST_RUN={folder}"])
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
