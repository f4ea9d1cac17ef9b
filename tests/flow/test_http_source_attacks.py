# SPDX-License-Identifier: Apache-2.0
"""The source `http` while clients do their worst: others are served all the same, and afterwards all is as
before. Every test has good clients, each with a connection of its own now and then, whose requests all
have to succeed within a bound that is far above what they take, and far below what an attack lasts."""
import http.client
import json
import resource
import socket
import threading
import time

import pytest

from http_edge import Edge, edge, read_answers, receiver, request  # noqa: F401 (fixtures)
from weirtest import wait_until

BOUND = 25  # seconds that one good request may take under attack, on two cores that others use
PATIENCE = "request_timeout: 60s\n    keep_alive: 60s"  # longer than any test: it is no help


class Good:
    """Clients that post one event after another, and a new connection every third time."""

    def __init__(self, e, clients=3):
        self.e, self.slowest, self.done, self.problems = e, 0.0, 0, []
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(clients)]
        for t in self.threads:
            t.start()

    def _work(self, number):
        conn, n = None, 0
        while not self.stop.is_set():
            n += 1
            began, conn = time.monotonic(), conn if n % 3 else self.e.connect(BOUND)
            conn = conn or self.e.connect(BOUND)
            try:
                status, answer, headers = self.e.post(b'{"who":"good","n":%d}' % (number * 100000 + n), conn=conn)
                if status != 200:
                    self.problems.append((status, answer))
                if headers.get("Connection") == "close":
                    conn = None
            except (OSError, http.client.HTTPException) as error:
                # A connection that was kept may have been closed for want of a request meanwhile.
                if conn.sock is not None and not isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    self.problems.append(repr(error))
                conn = None
                continue
            with self.lock:
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done += 1
            time.sleep(0.05)

    def served(self, n, timeout=60):
        """Until so many more requests were answered."""
        goal = self.done + n
        wait_until(lambda: self.problems or self.done >= goal, timeout,
                   lambda: f"good clients are served: {self.done} of {goal}, slowest {self.slowest:.1f} s")
        assert not self.problems, self.problems[:3]

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(BOUND + 5)
            assert not t.is_alive()
        assert not self.problems and self.slowest < BOUND, (self.problems[:3], self.slowest)
        kept = [event for event in self.e.payloads() if event.get("who") == "good"]
        assert len(kept) >= self.done
        assert len({event["n"] for event in kept}) == len(kept), "none came twice"


class Attack:
    """`clients` threads that do `what(socket)` on one connection after another, until end()."""

    def __init__(self, e, clients, what):
        self.e, self.what, self.stop, self.began = e, what, threading.Event(), 0
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def _work(self):
        while not self.stop.is_set():
            try:
                with self.e.socket(5) as s:
                    self.began += 1
                    self.what(s, self.stop)
            except OSError:
                self.stop.wait(0.01)  # it was cut off: again

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(20)
            assert not t.is_alive()


def drip(data, pause=0.5):
    """Sends a byte at a time, for ever."""
    def what(s, stop):
        for byte in data:
            if stop.is_set():
                return
            s.sendall(bytes([byte]))
            stop.wait(pause)
    return what


def say_nothing(s, stop):
    s.settimeout(0.2)
    while not stop.is_set():
        try:
            if s.recv(100) == b"":
                return
        except TimeoutError:
            pass


def dripped_body(s, stop):
    s.sendall(request(b"x" * 100000)[:-99000])
    drip(b"x" * 99000, 0.2)(s, stop)


def afterwards(e):
    """All that the attack took is given back."""
    wait_until(lambda: e.running.metric("weir_http_connections") <= 4, 30, "the attack's connections are gone")
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 30, "nothing is in flight")
    assert e.post(b'{"n":1}')[0] == 200


# ---- Slow clients ------------------------------------------------------------------------------

@pytest.mark.long(25)
@pytest.mark.parametrize("what", [
    drip(b"POST /events HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(1000))),
    dripped_body, say_nothing,
], ids=["heads", "bodies", "nothing"])
def test_clients_that_hold_every_place(edge, what):
    """40 of them for 20 places, which they would have for a minute each."""
    e = edge(f"max_connections: 20\n    {PATIENCE}\n    lanes: 2")
    good = Good(e)
    good.served(5)
    attack = Attack(e, 40, what)
    wait_until(lambda: e.running.metric("weir_http_connections") == 20, 20, "every place is taken")
    good.served(12, timeout=90)
    assert attack.began > 40, "those who did nothing lost their places"
    attack.end()
    good.end()
    afterwards(e)


def test_slow_requests_that_get_on_are_not_cut_off(edge):
    """The same crowd, and an upload of 4 KiB every half second in it."""
    e = edge(f"max_connections: 6\n    {PATIENCE}\n    lanes: 1")
    body = json.dumps({"who": "slow", "pad": "x" * 70000}).encode()
    attack = Attack(e, 20, dripped_body)
    wait_until(lambda: e.running.metric("weir_http_connections") == 6, 20)
    with e.socket(60) as s:
        s.sendall(request(body)[:-len(body)])
        for at in range(0, len(body), 4096):
            s.sendall(body[at:at + 4096])
            time.sleep(0.5)
        assert read_answers(s, 1) == [(200, {"accepted": 1})]
    attack.end()
    afterwards(e)


def test_half_of_a_request_is_told_why_it_ends(edge):
    e = edge(f"max_connections: 3\n    {PATIENCE}\n    lanes: 1")
    slow = [e.socket(60) for _ in range(3)]
    for s in slow:
        s.sendall(request(b'{"n":1}')[:-1])
    wait_until(lambda: e.running.metric("weir_http_connections") == 3, 20)
    assert e.post(b'{"n":2}', conn=e.connect(60))[0] == 200
    status, answer = read_answers(slow[0], 1)[0]
    assert (status, answer["error"]["code"]) == (408, "too_slow")
    for s in slow:
        s.close()


def test_half_open_connections_end(edge):
    """The other side is gone without a word: what waits for it ends by time, wherever it was."""
    e = edge("request_timeout: 1s\n    max_wait: 500ms\n    keep_alive: 1s")
    places = [b"", request(b'{"n":1}')[:20], request(b'{"n":1}')[:-3], request(b'{"n":1}')]
    gone = [e.socket(60) for _ in places]
    for s, data in zip(gone, places):
        s.sendall(data)
    wait_until(lambda: e.running.metric("weir_http_connections") == 0, 20)
    for s in gone:
        s.close()
    afterwards(e)


# ---- Floods ------------------------------------------------------------------------------------

@pytest.mark.long(20)
def test_a_flood_of_connections(edge):
    """More are opened than there are places, and dropped, all the time: with FIN or RST."""
    e = edge(f"max_connections: 30\n    {PATIENCE}\n    lanes: 2")
    good = Good(e)

    def touch(s, stop):
        s.sendall(b"POST /eve")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST

    attack = Attack(e, 12, touch)
    good.served(20, timeout=90)
    before = attack.began
    good.served(10, timeout=90)
    assert attack.began > before + 100
    attack.end()
    good.end()
    afterwards(e)
    assert e.running.metric("process_open_fds") < 60


@pytest.mark.long(20)
def test_more_connections_than_files(weir, monkeypatch):
    """The process may open 200 files: never so many that it can no longer accept."""
    monkeypatch.setenv("WEIR_WRAPPER", "prlimit --nofile=200:200")
    e = Edge(weir, f"max_connections: 5000\n    {PATIENCE}")
    good = Good(e, 2)
    good.served(3)
    held = []
    for _ in range(600):
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect(("127.0.0.1", e.port))
        except BlockingIOError:
            pass
        held.append(s)
    good.served(6, timeout=90)
    assert not e.running.find_log("cannot accept"), "it keeps some for itself"
    for s in held:
        s.close()
    good.end()
    afterwards(e)


@pytest.mark.long(20)
@pytest.mark.sanitize
def test_a_flood_of_pipelined_requests(edge):
    """Thousands of requests on each connection, whose answers nobody reads."""
    e = edge(f"max_connections: 50\n    {PATIENCE}\n    lanes: 2",
             sink="{type: file, path: out.ndjson, format: full, on_reject: drop}")
    good = Good(e)
    many = request(b'{"who":"flood"}') * 500

    def pipelined(s, stop):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(0.5)
        while not stop.is_set():
            try:
                s.send(many)
            except TimeoutError:
                pass

    attack = Attack(e, 10, pipelined)
    good.served(15, timeout=90)
    attack.end()
    good.end()
    afterwards(e)


@pytest.mark.long(20)
def test_a_flood_of_huge_heads(edge):
    """Heads of half a megabyte each, not finished: as large as they may be, and far more in all than may be
    in flight."""
    e = edge(f"max_head: 1MiB\n    max_connections: 300\n    max_body: 1MiB\n    max_in_flight: 8MiB\n    {PATIENCE}")
    good, resident = Good(e), e.running.metric("process_resident_memory_bytes")
    good.served(5)
    head = b"POST /events HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%06d: %s\r\n" % (n, b"y" * 1000) for n in range(512))
    heard = []

    def huge(s, stop):
        s.sendall(head)
        s.settimeout(0.2)
        while not stop.is_set():
            try:
                data = s.recv(65536)
            except TimeoutError:
                continue
            heard.append(data[:12])
            return

    attack = Attack(e, 60, huge)
    wait_until(lambda: heard.count(b"HTTP/1.1 429") > 20, 60, lambda: f"some are refused: {heard[:5]}")
    good.served(8, timeout=90)
    assert e.running.metric("weir_http_in_flight_bytes") <= 8 << 20
    assert e.running.metric("process_resident_memory_bytes") < resident + (40 << 20)
    attack.end()
    good.end()
    afterwards(e)


def test_one_huge_head_alone_is_taken(edge):
    e = edge("max_head: 1MiB\n    max_body: 1MiB\n    max_in_flight: 1MiB")
    head = "".join(f"X-{n}: {'y' * 1000}\r\n" for n in range(900))
    for _ in range(3):
        assert e.raw(request(b'{"n":1}', head + "Connection: close\r\n")).startswith(b"HTTP/1.1 200")
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 10)


# ---- When to come again ------------------------------------------------------------------------

def ask(e, n_bytes):
    status, _, headers = e.post(json.dumps({"pad": "x" * n_bytes}).encode())
    return int(headers["Retry-After"]) if status == 429 else None


def waiting(e, n, n_bytes):
    """n clients with an event each, which are patient."""
    body = json.dumps({"pad": "x" * n_bytes}).encode()
    threads = [threading.Thread(target=lambda: e.post(body, conn=e.connect(90)), daemon=True) for _ in range(n)]
    for t in threads:
        t.start()
    return threads


TIGHT = "max_body: 100KiB\n    max_in_flight: 200KiB\n    max_decompressed: 1MiB\n    max_wait: 30s\n    lanes: 1"


def test_retry_after_tells_of_a_sink_that_is_away(edge, receiver):
    """As long as the oldest waits; and a second again, once all goes well."""
    r = receiver()
    e = edge(TIGHT, sink=r.sink(", on_reject: drop"))
    for n in range(20):  # quick ones, and few
        assert e.post(b'{"n":%d}' % n)[0] == 200
    r.go.clear()
    threads = waiting(e, 2, 90000)
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") >= 180000, 10)
    assert ask(e, 90000) <= 2
    time.sleep(6)
    told = [ask(e, 90000) for _ in range(10)]
    assert all(6 <= t <= 15 for t in told) and len(set(told)) > 1, told
    r.go.set()
    for t in threads:
        t.join(60)
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 10)
    for n in range(40):
        assert e.post(b'{"n":%d}' % n)[0] == 200
    r.go.clear()
    threads = waiting(e, 2, 90000)
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") >= 180000, 10)
    assert ask(e, 90000) <= 2
    r.go.set()
    for t in threads:
        t.join(60)
