# SPDX-License-Identifier: Apache-2.0
"""The proxy, the stepped clock, the power cut and what looks after them do what they say."""
import os
import random
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import requests
from conftest import BUILD

import power
from faults import HARMLESS, WRONG, Reload
from machine import Machine, busy, ours
from weirs import Fleet, Part, available
from weirtest.tools import free_port, wait_until
from world import clock_file, step_clock


class Echo:
    """A server that sends back what it gets."""

    def __init__(self):
        self.port = free_port()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    @staticmethod
    def _serve(conn):
        try:
            while data := conn.recv(65536):
                conn.sendall(data)
        except OSError:
            pass
        conn.close()

    def close(self):
        self._socket.close()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def link(links, echo):
    links.add("test.echo", echo.port)
    return links


def connect(link):
    host, _, port = link.address("test.echo").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def ask(conn, data=b"x" * 1000):
    """Seconds until all of it came back."""
    began, got = time.monotonic(), 0

    def send():
        try:
            conn.sendall(data)
        except OSError:
            pass  # the reader sees it as well

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while got < len(data):
        part = conn.recv(65536)
        if not part:
            raise ConnectionResetError
        got += len(part)
    sender.join()
    return time.monotonic() - began


def test_an_open_link_passes_everything(link):
    with connect(link) as conn:
        ask(conn, os.urandom(20_000_000))
        assert link.seen("test.echo") == (1, 40_000_000)
        conn.shutdown(socket.SHUT_WR)
        assert conn.recv(1) == b""
    wait_until(lambda: link.seen("test.echo")[0] == 0, 10, "the connection is gone")


def test_cut_resets_what_is_there_and_takes_new_ones(link):
    with connect(link) as conn:
        ask(conn)
        link.tell("test.echo", "cut")
        with pytest.raises(ConnectionResetError):
            ask(conn)
    with connect(link) as conn:
        ask(conn)


def test_down_refuses_until_it_is_open(link):
    with connect(link) as conn:
        ask(conn)
        link.tell("test.echo", "down")
        with pytest.raises(OSError):
            ask(conn)
    with pytest.raises(OSError), connect(link) as conn:
        ask(conn)
    link.tell("test.echo", "open")
    with connect(link) as conn:
        ask(conn)


def test_stall_holds_everything_and_loses_nothing(link):
    with connect(link) as conn:
        ask(conn)
        link.tell("test.echo", "stall")
        conn.sendall(b"held")
        conn.settimeout(0.3)
        with pytest.raises(TimeoutError):
            conn.recv(10)
        conn.settimeout(10)
        link.tell("test.echo", "open")
        assert conn.recv(10) == b"held"


def test_delay_and_rate(link):
    with connect(link) as conn:
        link.tell("test.echo", "delay", 150)
        assert 0.3 <= ask(conn) < 5
        link.tell("test.echo", "rate", 100_000)
        assert 0.8 < ask(conn, b"x" * 60_000) < 10  # it passes twice
        link.tell("test.echo", "open")
        assert ask(conn) < 0.3


def test_what_was_delayed_comes_when_the_link_is_open_again(link):
    with connect(link) as conn:
        ask(conn)
        link.tell("test.echo", "delay", 60_000)
        conn.sendall(b"late")
        time.sleep(0.2)
        link.tell("test.echo", "open")
        assert conn.recv(10) == b"late"


def test_a_server_that_is_away_resets_its_clients(links):
    links.add("test.echo", free_port())
    with pytest.raises(OSError), connect(links) as conn:
        ask(conn)


def test_wrong_commands_are_told(links):
    for line in ("open 9", "no-such 1", "delay", "rate 9 x"):
        with pytest.raises(RuntimeError, match="error"):
            links._say(line)


def test_the_clock_of_one_process_steps_while_it_runs(tmp_path):
    clock = clock_file(tmp_path / "clock")
    code = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    shim = BUILD / "chaos/clock_step.so"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "LD_PRELOAD": str(shim), "CHAOS_CLOCK": str(clock)})

    def off():
        process.stdin.write("now\n")
        process.stdin.flush()
        wall, monotonic = map(float, process.stdout.readline().split())
        assert abs(monotonic - time.monotonic()) < 5, "the monotonic clock stays"
        return wall - time.time()

    assert abs(off()) < 5
    for seconds in (3600, -86400, 0):
        step_clock(clock, seconds)
        assert abs(off() - seconds) < 5
    process.stdin.close()
    process.wait(10)


# ---- a power cut

WRITES = """
import os
def write(name, *pieces, then=lambda fd: None):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    for piece in pieces:
        os.write(fd, piece)
        then(fd)
    return fd
os.mkdir("d")
write("d/never", b"abc")
write("d/once", b"abc", then=os.fdatasync)
os.write(write("d/more", b"abc", then=os.fsync), b"def")
fd = write("d/shorter", b"abcdef", then=os.fsync)
os.ftruncate(fd, 2)
os.lseek(fd, 0, os.SEEK_END)
os.write(fd, b"ghijkl")
write("d/deleted", b"abc", then=os.fsync)
os.unlink("d/deleted")
for folder in (".", "d"):
    os.fsync(os.open(folder, os.O_RDONLY))
write("d/no-name", b"abc", then=os.fsync)
os.kill(os.getpid(), 9)
"""


def test_a_power_cut_leaves_what_was_synced(tmp_path):
    notes = tmp_path / "notes"
    done = subprocess.run([sys.executable, "-c", WRITES], cwd=tmp_path,
                          env={**os.environ, "LD_PRELOAD": str(BUILD / "chaos/power_cut.so"), "CHAOS_SYNCS": str(notes)})
    assert done.returncode == -9
    assert (tmp_path / "d/never").read_bytes() == b"abc", "kill -9 alone takes nothing"
    assert power.cut([tmp_path / "d"], notes) == 3 + 3 + 6 + 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == {
        "never": b"", "once": b"abc", "more": b"abc", "shorter": b"ab"}
    assert power.cut([tmp_path / "d"], notes) == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_bytes(b"abc")
    power.cut([tmp_path / "new"], notes)
    assert not (tmp_path / "new").exists(), "nobody synced the name of the folder"


@pytest.mark.parametrize("fsync, kept", [("batch", 5), ("never", 0)])
def test_a_power_cut_shows_whether_the_file_sink_syncs(tmp_path, fsync, kept):
    port, out = free_port(), tmp_path / "out.ndjson"
    text = f"""\
name: synced
sources: {{in: {{type: http, address: "127.0.0.1:{port}", path: /e}}}}
sinks: {{out: {{type: file, path: "{out}", fsync: {fsync}, on_reject: stop}}}}
"""
    fleet = Fleet(tmp_path, *available(BUILD))
    fleet.add(Part("synced", text, durable=[out]))
    try:
        fleet.wait_ready()
        for n in range(5):
            assert requests.post(f"http://127.0.0.1:{port}/e", json={"n": n}, timeout=30).status_code == 200
        fleet.kill("synced")
        assert len(out.read_bytes().splitlines()) == 5
        fleet.cut_power("synced")
        assert len(out.read_bytes().splitlines() if out.exists() else []) == kept
    finally:
        fleet.close()


# ---- a reload

class Reloads:
    """A fleet of one, that takes a file or refuses it as it is told to."""

    def __init__(self, part, says):
        self.parts, self._says, self._state, self.files = {"p": part}, says, (1, 0, True), []

    def names(self):
        return ["p"]

    def reloads(self, name):
        return self._state

    def hang_up(self, name):
        self.files.append(self.parts[name].text.read_text())
        said = self._says(self.files[-1])
        if said is not None:
            self._state = (1, len(self.files), said)

    def log(self, name):
        return ""


def reload_with(folder, says, good):
    """The findings of such a fault, and the files that were loaded."""
    path = folder / "p.yaml"
    path.write_text("name: p\nsources: {a: {type: b}}\nlinger: 1ms\n" + HARMLESS[0] + "\n")
    fleet, found = Reloads(Part("p", path, changes=[("linger: 1ms", "linger: 2ms")]), says), []
    field = SimpleNamespace(fleet=fleet, pause=time.sleep, finding=lambda promise, text: found.append(promise))
    for seed in range(200):
        fault = Reload(field, random.Random(seed))
        if fault.good == good and fault.signals:
            break
    fault.within = 0.3
    fault.strike()
    fault.heal()
    return found, fleet.files


@pytest.mark.parametrize("good", [True, False])
def test_a_reload_has_to_say_how_it_ended(tmp_path, good):
    def right(text):
        return "name: p" in text and "no_such" not in text and ": [" not in text

    found, files = reload_with(tmp_path, right, good)
    assert found == [] and len(files) == (1 if good else 2) and right(files[-1]) and right(files[0]) == good
    assert reload_with(tmp_path, lambda text: None, good)[0] == ["reload"] * len(files), "no answer"
    assert reload_with(tmp_path, lambda text: not right(text), good)[0] == ["reload"] * len(files), "a wrong one"


def test_what_a_reload_has_to_refuse_is_wrong(tmp_path):
    text = "name: p\nsources: {in: {type: file, path: /dev/null}}\nsinks: {out: {type: blackhole}}\n"
    weir = [str(BUILD / "bin/weir"), "check"]
    env = {**os.environ, "WEIR_PLUGIN_PATH": str(BUILD / "plugins")}
    for n, make in enumerate((lambda text: text, *WRONG)):
        path = tmp_path / f"{n}.yaml"
        path.write_text(make(text))
        done = subprocess.run([*weir, str(path)], env=env, capture_output=True, text=True)
        assert (done.returncode == 0) == (n == 0), done.stdout + done.stderr


# ---- what the machine had left

def test_a_flow_is_not_judged_while_others_have_the_machine():
    def machine(before, after):
        """Processors that others took, of two."""
        m = Machine(2)
        for t in range(60):
            m.note(t, min(t, 20) * before + max(0, t - 20) * after)
        return m

    times = ((0, 20), (20, 59), 0.9)
    assert not machine(0, 0).too_slow(*times) and machine(0, 0).left(0, 59) == 1
    assert not machine(0.5, 0.55).too_slow(*times) and not machine(0.9, 0).too_slow(*times)
    assert machine(0, 0.3).too_slow(*times), "less than 90 % of before"
    assert machine(1.2, 1.2).too_slow(*times), "not half of the machine"
    assert not Machine(2).too_slow(*times), "nothing is known"


def test_what_this_run_takes_is_not_others():
    text = "cpu  100 200 300 9000 50 10 20 30 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert busy(text) == 660 / os.sysconf("SC_CLK_TCK")
    before, began = ours(), time.process_time()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"])
    spent = time.process_time() - began + 0.5
    assert spent - 0.1 <= ours() - before < spent + 1
