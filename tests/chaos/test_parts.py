# SPDX-License-Identifier: Apache-2.0
"""The proxy and the stepped clock do what they say."""
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import BUILD

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
