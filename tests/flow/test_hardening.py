# SPDX-License-Identifier: Apache-2.0
"""What an attacker finds: how the program and its plugins are linked, and that it needs no rights: no root, no
file system that it can write to."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import requests

from weirtest import free_port
from weirtest.tools import ROOT

BUILT = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute()
PLUGINS = Path(os.environ.get("WEIR_PLUGIN_PATH", BUILT.parents[1] / "plugins"))
DEBUG = "CMAKE_BUILD_TYPE:STRING=Debug" in (BUILT.parents[1] / "CMakeCache.txt").read_text()
FILES = [BUILT, *sorted(PLUGINS.glob("*.so"))]


def readelf(path, *args):
    return subprocess.run(["readelf", "-W", *args, path], check=True, capture_output=True, text=True,
                          env=dict(os.environ, LC_ALL="C")).stdout


def symbols(path):
    """Names that it takes from libraries."""
    rows = (line.split() for line in readelf(path, "--dyn-syms").splitlines())
    return {row[7].split("@")[0] for row in rows if len(row) > 7 and row[6] == "UND"}


sanitized = pytest.mark.skipif("any('__asan_init' in s or '__tsan_init' in s for s in symbols(BUILT))",
                               reason="a build with sanitizers")


# ---- what was built ----------------------------------------------------------------------------

@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_how_it_is_linked(path):
    """Moved at random as a whole (PIE), tables of functions read only once it runs (full RELRO), no memory that
    can be written and run, no folder of its own to load libraries from."""
    assert "DYN (" in readelf(path, "-h")
    segments = [line.split() for line in readelf(path, "-l").splitlines()
                if re.match(r" +(LOAD|GNU_STACK|GNU_RELRO|INTERP) ", line)]
    flags = {words[0]: "".join(w for w in words[6:-1] if re.fullmatch("[RWE]+", w)) for words in segments}
    assert flags["GNU_STACK"] == "RW" and "GNU_RELRO" in flags
    for words in segments:
        assert not {"W", "E"} <= set("".join(w for w in words[6:-1] if re.fullmatch("[RWE]+", w))), words
    dynamic = readelf(path, "-d")
    assert "BIND_NOW" in dynamic and re.search(r"FLAGS_1\).*NOW", dynamic)
    assert not re.search(r"RPATH|RUNPATH|TEXTREL", dynamic)
    if path == BUILT:
        assert "INTERP" in flags and re.search(r"FLAGS_1\).*PIE", dynamic)


@sanitized
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_how_it_is_compiled(path):
    """With guards on the stack, and with the variants of libc's functions that know the sizes of what they write
    to, where it calls such."""
    imports = symbols(path)
    assert "__stack_chk_fail" in imports
    if not DEBUG and (path == BUILT or imports & {"printf", "fprintf", "snprintf", "vsnprintf"}):
        assert [name for name in imports if name.endswith("_chk")], imports


@sanitized
@pytest.mark.skipif("os.uname().machine != 'x86_64'", reason="the flags are of this architecture")
def test_what_every_file_is_compiled_with():
    """What leaves no trace in the result that a linker of Debian would keep."""
    commands = json.loads((BUILT.parents[1] / "compile_commands.json").read_text())
    mine = [entry for entry in commands if re.search(r"/(core|plugins)/", entry["file"])]
    assert len(mine) > 100
    for entry in mine:
        for flag in ("-fstack-clash-protection", "-fcf-protection", "-fstack-protector-strong", "-fPI"):
            assert flag in entry["command"], f"{entry['file']} without {flag}"
        assert DEBUG or "-D_FORTIFY_SOURCE=3" in entry["command"], entry["file"]


# ---- what it needs -----------------------------------------------------------------------------

PIPELINE = """
name: p
sources:
  in: {{type: http, address: "127.0.0.1:{port}"}}
transforms:
  it: {{type: lua, inputs: [in], code: "function process(e) e.seen = true return e end"}}
sinks:
  out: {{type: stdout, inputs: [it], on_reject: drop}}
"""


def serve(weir, port, *wrapper, more=()):
    """A weir behind a wrapper takes an event and ends in order; its stdout, its metrics, its process's state."""
    metrics = free_port()
    file = weir.write(PIPELINE.format(port=port), "p.yaml")
    command = [*wrapper, str(weir.bin), "run", str(file), "--metrics", f"127.0.0.1:{metrics}", *more]
    run = subprocess.Popen(command, cwd="/", env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/events", b'{"n":1}', timeout=5)
                break
            except requests.ConnectionError:
                assert run.poll() is None and time.monotonic() < deadline, run.communicate()
                time.sleep(0.05)
        assert answer.status_code == 200
        seen = requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=5).text
        status = Path(f"/proc/{run.pid}/status").read_text()
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=20)
        assert run.returncode == 0, err
    finally:
        run.kill()
        run.wait()
    assert json.loads(out) == {"n": 1, "seen": True}
    return seen, status


@pytest.fixture
def reachable(weir):
    """A weir that everybody may run and whose folder everybody may read: the folders above a build, and those
    of tests, may be root's alone."""
    copy = Path(tempfile.mkdtemp(prefix="weir-nobody-"))
    copy.chmod(0o755)
    shutil.copytree(weir.plugin_path, copy / "plugins")
    shutil.copy(weir.bin, copy / "weir")
    weir.folder, weir.bin, weir.plugin_path = copy, copy / "weir", str(copy / "plugins")
    yield weir
    shutil.rmtree(copy)


@pytest.mark.skipif("os.getuid() != 0 or not shutil.which('setpriv')", reason="only root can become somebody else")
def test_it_needs_no_rights(reachable):
    """As nobody, without groups, capabilities or new privileges."""
    port = free_port()
    metrics, status = serve(reachable, port, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
    assert re.search(r"Uid:\t65534\t65534\t65534\t65534", status)
    assert re.search(r"CapEff:\t0+\n", status) and re.search(r"NoNewPrivs:\t1", status)
    assert re.search(r"^process_open_fds \d+", metrics, re.M)  # /proc/self is still its own


def can_unshare():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif("not can_unshare()", reason="no mount namespaces here")
def test_it_writes_nowhere(weir):
    """All file systems read only, but for /proc and /dev."""
    port = free_port()
    script = """
        for at in $(awk '{print $5}' /proc/self/mountinfo | sort -u); do
          case $at in /proc|/proc/*|/dev|/dev/*|/sys|/sys/*) continue ;; esac
          mount -o remount,bind,ro "$at" 2>/dev/null
        done
        if touch /tmp/.weir-writable "$HOME/.weir-writable" 2>/dev/null; then exit 77; fi
        exec "$@" """
    serve(weir, port, "unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh")
