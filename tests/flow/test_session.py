# SPDX-License-Identifier: Apache-2.0
"""How a run of these tests over several processes ends: nothing of it stays, however it went."""
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from weirtest import wait_until
from weirtest.tools import ROOT

# Each has a weir, a server of its own and one of the run.
INNER = '''
import os
import time
import pytest

RUNS = """
name: runs
sources: {in: {type: generate, rate: 20}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""

@pytest.mark.parametrize("i", range(3))
def test_inner(weir, own_redis, mongodb, redis, i):
    own_redis()
    running = weir.start(RUNS)
    if i == 0 and "CRASH" in os.environ:
        os.kill(os.getpid(), 9)
    while os.path.exists(os.environ["STAY"]):
        time.sleep(0.1)
    assert running.alive
'''
MARK = "INNER_TEST_RUN"


class Inner:
    """A pytest of its own, on a copy of these fixtures; its processes carry a mark."""

    def __init__(self, folder, crash):
        for name in ("conftest.py", "pytest.ini"):
            shutil.copy(ROOT / "tests/flow" / name, folder)
        (folder / "weirtest").symlink_to(ROOT / "tests/flow/weirtest")
        (folder / "test_inner.py").write_text(INNER)
        self.stay, self.temporary = folder / "stay", folder / "t"
        self.stay.touch()
        self.temporary.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "WEIR_TEST"))}
        env.update({MARK: str(folder), "STAY": str(self.stay), "TMPDIR": str(self.temporary)})
        if crash:
            env["CRASH"] = "1"
        self.folder, self.log_path = folder, folder / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "test_inner.py"],
                cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True,
                # As a terminal starts it, whatever started this one.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def processes(self):
        """{id: command line} of what this run started and what still runs of it."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                # Redis writes over its environment, and stands in its folder.
                if (f"{MARK}={self.folder}".encode() in (entry / "environ").read_bytes().split(b"\0")
                        or os.readlink(entry / "cwd").startswith(f"{self.temporary}/")):
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def weirs(self):
        return [pid for pid, command in self.processes().items() if "/weir run " in command]

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def nothing_is_left(self):
        wait_until(lambda: not self.processes(), 60, lambda: f"{self.processes()} are left\n{self.log}")
        assert [p.name for p in self.temporary.iterdir() if p.name.startswith("weir-test-")
                and not p.name.startswith("weir-test-ports")] == []

    def close(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


@pytest.fixture
def inner(tmp_path):
    started = []

    def start(crash=False):
        started.append(Inner(tmp_path, crash))
        return started[0]

    yield start
    for run in started:
        run.close()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGKILL, -9)])
def test_a_run_that_is_ended_leaves_nothing(inner, number, code):
    run = inner()
    wait_until(lambda: len(run.weirs()) == 2 or run.process.poll() is not None, 90, "two tests run")
    assert run.process.poll() is None, run.log
    if number == signal.SIGINT:
        os.killpg(run.process.pid, number)  # as a terminal does it: to the whole group
    else:
        run.process.send_signal(number)
    assert run.process.wait(90) == code, run.log
    run.nothing_is_left()


def test_a_worker_that_crashes_costs_its_test_alone(inner):
    run = inner(crash=True)
    wait_until(lambda: "Not properly terminated" in run.log or run.process.poll() is not None, 90,
               "a worker has crashed")
    run.stay.unlink()
    assert run.process.wait(120) == 1, run.log
    assert re.search(r"worker 'gw\d+' crashed while running 'test_inner.py::test_inner\[0\]'", run.log)
    assert "1 failed, 2 passed" in run.log
    run.nothing_is_left()
