# SPDX-License-Identifier: Apache-2.0
"""One run of the tests, over one process or several (pytest-xdist), and how it ends.

A run has a folder of its own for its servers' data. $WEIR_TEST_RUN names it to every process that
the run starts, whoever starts it; by that mark they are found and ended when the run ends, in
order, on Ctrl-C, when a worker crashes and when pytest itself is killed: reaper.py does it, which
notices the end by a pipe that only pytest holds. scripts/bench is such a run, too.
"""
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from . import reaper
from .servers import SCRIPT

MARK, CONTROLLER = "WEIR_TEST_RUN", "WEIR_TEST_CONTROLLER"
_reaper = None


def is_worker():
    """Whether this process is one of several that run the tests of another."""
    return "PYTEST_XDIST_WORKER" in os.environ


def worker_name():
    return os.environ.get("PYTEST_XDIST_WORKER", "alone")


def begin():
    """In the process that a person started: makes the run's folder and starts what cleans up."""
    global _reaper
    folder = tempfile.mkdtemp(prefix="weir-test-")
    os.environ.update({MARK: folder, CONTROLLER: str(os.getpid())})
    _reaper = subprocess.Popen([sys.executable, reaper.__file__, folder], stdin=subprocess.PIPE,
                               start_new_session=True)


def end():
    """Ends all that the run started and removes its folder."""
    global _reaper
    if _reaper is not None:
        _stop_shared()
        _reaper.stdin.close()
        _reaper.wait(120)
        _reaper = None
        shutil.rmtree(os.environ[MARK], ignore_errors=True)


def _stop_shared():
    """In order and with their folders, without which nobody watches over them any more."""
    folders = list(folder().glob("shared-*"))
    stops = [subprocess.Popen([SCRIPT, "down", "--dir", path], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) for path in folders]
    for stop in stops:
        stop.wait(60)
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


def end_worker(name):
    """What a crashed worker left behind."""
    reaper.end_marked([f"{MARK}={os.environ[MARK]}", f"PYTEST_XDIST_WORKER={name}"])


def folder():
    return Path(os.environ[MARK])


def controller():
    """The id of the process that lives as long as the run."""
    return int(os.environ[CONTROLLER])


@contextmanager
def lock(name):
    """One process of the run at a time."""
    with open(folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
