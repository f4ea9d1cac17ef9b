# SPDX-License-Identifier: Apache-2.0
"""Ends what a run of tests started and did not end: python reaper.py FOLDER <pipe

Waits until its standard input ends, which is when the pytest that holds the pipe is gone, however
it went. A process belongs to the run when its environment has the run's mark; no other is touched.
Servers have a watcher of their own (scripts/servers --until), which is waited for: Redis writes its
title over its environment and would not be found here.
"""
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def _is_watcher(pid):
    try:
        return b"scripts/servers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


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
    """Asks them to end, and after `patience` seconds makes them; watchers have three times that for
    the servers that they stop."""
    began, asked = time.monotonic(), set()
    while (pids := _marked(marks)) and time.monotonic() < began + 4 * patience:
        others = [pid for pid in pids if not _is_watcher(pid)]
        fresh = [pid for pid in others if pid not in asked]
        _send(fresh, signal.SIGTERM)
        _send(fresh, signal.SIGCONT)
        asked.update(fresh)
        if time.monotonic() > began + patience:
            _send(others, signal.SIGKILL)
        if time.monotonic() > began + 3 * patience:
            _send(pids, signal.SIGKILL)
        time.sleep(0.05)


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
