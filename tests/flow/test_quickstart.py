# SPDX-License-Identifier: Apache-2.0
"""scripts/quickstart: what a newcomer sees, and that nothing is left running behind it."""
import os
import signal
import subprocess
from pathlib import Path

import pytest

from weirtest import WeirBinary, wait_until
from weirtest.tools import ROOT

SCRIPT = ROOT / "scripts/quickstart"


@pytest.fixture
def environment(tmp_path):
    """The weir under test, and a folder of temporary files that must be empty at the end."""
    folder = tmp_path / "t"
    folder.mkdir()
    return dict(os.environ, WEIR_BIN=str(WeirBinary(".").bin), TMPDIR=str(folder))


def processes_in(folder):
    """Processes whose command line or working files name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
            elif any(str(folder) in os.readlink(fd) for fd in (entry / "fd").iterdir()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def assert_nothing_is_left(environment):
    wait_until(lambda: not processes_in(environment["TMPDIR"]), 10,
               lambda: f"processes left: {processes_in(environment['TMPDIR'])}")
    left = [p.name for p in Path(environment["TMPDIR"]).iterdir()]
    assert not left


def run(*args, env):
    return subprocess.run([SCRIPT, *args], capture_output=True, text=True, env=env, timeout=280)


def test_quickstart_shows_events_processed(environment):
    done = run(env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert "[5/5]" in shown and "everything is stopped" in shown
    assert '200 {"accepted":1}' in shown
    assert '"id": "hello-1"' in shown and '"seen_at":' in shown
    assert '"big":true' in shown
    assert "hello-2" not in shown.split("what became of them", 1)[1], "the hook drops heartbeats"
    assert_nothing_is_left(environment)


@pytest.mark.timeout(300)
def test_platform_quickstart_shows_documents_and_keys(environment):
    done = run("--platform", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert "platform.events: 500 documents" in shown
    assert "HGETALL session:s1" in shown and "last_seen" in shown and "last_day" in shown
    assert "80 sessions" in shown and "401 without the token" in shown
    assert_nothing_is_left(environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("args", [[], ["--platform"]])
@pytest.mark.parametrize("signal_number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_stops_everything(environment, tmp_path, args, signal_number, code):
    log = tmp_path / "shown"
    with log.open("wb") as out:
        process = subprocess.Popen([SCRIPT, *args, "--stay"], stdout=out, stderr=subprocess.STDOUT,
                                   env=environment, start_new_session=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        wait_until(lambda: "running until Ctrl-C" in log.read_text() or process.poll() is not None, 120)
        assert process.poll() is None, log.read_text()
        assert processes_in(environment["TMPDIR"])
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal_number)
        assert process.wait(90) == code, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert_nothing_is_left(environment)


def test_a_failure_shows_the_log_and_keeps_it(environment, tmp_path):
    broken = tmp_path / "weir"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo weir && exit\n"
                      "echo 'cannot listen: out of luck' >&2; exit 1\n")
    broken.chmod(0o755)
    done = run(env=dict(environment, WEIR_BIN=str(broken)))
    assert done.returncode == 1
    assert "out of luck" in done.stderr and "weir ended before pipelines/quickstart.yaml" in done.stderr
    assert "the logs of this run are in" in done.stderr
    assert not processes_in(environment["TMPDIR"])


def test_wrong_usage_and_help():
    done = subprocess.run([SCRIPT, "--fast"], capture_output=True, text=True)
    assert done.returncode == 2 and "--help" in done.stderr
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--platform" in done.stdout
