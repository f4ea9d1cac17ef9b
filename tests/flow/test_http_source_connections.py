# SPDX-License-Identifier: Apache-2.0
"""The source `http`: connections, their order, limits and ends."""
import json
import os
import resource
import signal
import socket
import threading
import time

import pytest

from http_edge import JSON, Edge, edge, plain, read_answers, receiver, request
from weirtest import wait_until


# ---- Connections -------------------------------------------------------------------------------

def test_pipelined_requests_are_answered_in_order(plain):
    with plain.socket() as s:
        s.sendall(b"".join(request(b"[" + b",".join([b'{"n":%d}' % n] * n) + b"]") for n in range(50)))
        assert read_answers(s, 50) == [(200, {"accepted": n}) for n in range(50)]
    assert [p["n"] for p in plain.payloads()] == [n for n in range(50) for _ in range(n)]


def test_http_1_0_and_close(plain):
    assert plain.raw(request(b'{"n":1}', version="1.0")).startswith(b"HTTP/1.1 200")
    assert plain.raw(request(b'{"n":2}', "Connection: close\r\n")).startswith(b"HTTP/1.1 200")
    kept_alive = request(b'{"n":3}', "Connection: Keep-Alive\r\n", version="1.0")
    answers = plain.raw(kept_alive * 2 + request(b'{"n":4}', version="1.0") + kept_alive)
    assert answers.count(b"HTTP/1.1 200") == 3 and answers.count(b"Connection: keep-alive\r\n") == 2, answers
    closed = plain.raw(request(b'{"n":5}', "Connection: keep-alive, close\r\nConnection: TE\r\n") + kept_alive)
    assert closed.count(b"HTTP/1.1 200") == 1 and b"Connection: close\r\n" in closed, closed
    assert [p["n"] for p in plain.payloads()] == [1, 2, 3, 3, 4, 5]


@pytest.mark.sanitize
def test_clients_that_close_their_side_first(edge, receiver):
    """All that was sent before is answered, at once or when its events have ended."""
    r = receiver()
    e = edge(sink=r.sink(", on_reject: drop"))
    r.go.clear()
    with e.socket() as s:
        s.sendall(b"".join(request(b'{"n":%d}' % n) for n in range(5)) + request(b"{", path="/nowhere") +
                  request(b'{"n":5}'))
        s.shutdown(socket.SHUT_WR)
        wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") == 1, 10)
        r.go.set()
        assert [status for status, _ in read_answers(s, 7)] == [200] * 5 + [404, 200]
        assert s.recv(1) == b""
    assert [p["n"] for p, _ in r.got] == list(range(6))
    wait_until(lambda: e.running.metric("weir_http_connections") == 0, 10)


def test_a_refused_request_leaves_its_connection_usable(edge):
    e = edge("tokens: [token-token-token-1]")
    conn, good = e.connect(), {**JSON, "Authorization": "Bearer token-token-token-1"}
    for _ in range(3):
        assert e.post(b'{"n":1}' * 1000, conn=conn)[0] == 401
        local = conn.sock.getsockname()
        assert e.post(b'{"n":1}', good, conn=conn)[0] == 200
        assert conn.sock.getsockname() == local


def test_slow_clients_are_cut_off(edge):
    e = edge("request_timeout: 700ms\n    max_wait: 500ms\n    keep_alive: 600ms")
    slow = [b"", b"POST /ev", b"POST /events HTTP/1.1\r\nHo", b"POST /events HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 10000\r\n\r\n{", request(b'{"n":1}')]
    found = []

    def client(start):
        began = time.monotonic()
        with e.socket() as s:
            s.sendall(start)
            s.settimeout(0.05)
            data = b""
            while time.monotonic() < began + 10:
                try:
                    part = s.recv(1000)
                    if not part:
                        break
                    data += part
                except TimeoutError:
                    if not data:
                        s.send(b" ")  # drips
                except ConnectionError:
                    break
                except BrokenPipeError:
                    break
            found.append((start, time.monotonic() - began, data))

    threads = [threading.Thread(target=client, args=(start,)) for start in slow]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert len(found) == len(slow)
    for start, seconds, data in found:
        assert seconds < 3, (start, seconds)
        if start.endswith(b"{"):
            assert data.startswith(b"HTTP/1.1 408") and b'"request_timeout"' in data, data
    assert e.post(b'{"n":2}')[0] == 200


def test_an_answer_that_nobody_reads(edge):
    e = edge("request_timeout: 500ms\n    max_wait: 400ms")
    with e.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(1)
        with pytest.raises(OSError):  # its answers fill the buffers, then it is cut off
            while True:
                s.sendall(request(b'[{"n":1}]') * 1000)
    assert e.post(b'{"n":2}')[0] == 200


def test_lanes_do_not_pass_the_limit_of_connections_together(edge):
    e = edge("max_connections: 5\n    keep_alive: 60s\n    lanes: 4")
    for _ in range(20):
        waiting = [e.socket() for _ in range(40)]
        wait_until(lambda: e.running.metric("weir_http_connections") == 5, 20)
        assert e.running.metric("process_open_fds") < 5 + 40, "only five are accepted"
        for s in waiting:
            s.close()
    assert e.post(b'{"n":1}')[0] == 200


def test_more_connections_than_allowed_wait(edge):
    e = edge("max_connections: 8\n    request_timeout: 60s")
    held = [e.socket(60) for _ in range(8)]
    for conn in held:
        conn.sendall(request(b'{"n":1}')[:-1])  # in the middle of a request
    wait_until(lambda: e.running.metric("weir_http_connections") == 8, 10)
    late = []
    threads = [threading.Thread(target=lambda: late.append(e.post(b'{"n":2}')[0])) for _ in range(4)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    assert late == []
    assert e.running.metric("weir_http_connections") == 8
    for conn in held:
        conn.close()
    for t in threads:
        t.join(10)
    assert late == [200] * 4


def test_idle_connections_make_room(edge):
    """Whoever opens connections and does nothing with them keeps nobody out."""
    e = edge("max_connections: 8\n    keep_alive: 1h\n    request_timeout: 60s\n    lanes: 2")
    busy = e.socket(60)
    busy.sendall(request(b'{"n":0}')[:-1])
    used = e.connect()
    assert e.post(b'{"n":1}', conn=used)[0] == 200
    idle = [e.socket(60) for _ in range(30)]
    for n in range(2, 6):
        assert e.post(b'{"n":%d}' % n, conn=e.connect(60))[0] == 200
    assert e.running.metric("weir_http_connections") <= 8
    busy.sendall(b"}")
    assert read_answers(busy, 1) == [(200, {"accepted": 1})], "a request is never cut short"
    for s in idle:
        s.close()


def test_a_lane_that_was_busy_hears_all_requests_before_it_makes_room(edge):
    """It stands still for longer than idle connections may stay. A turn afterwards hears of 128 connections."""
    n = 300
    e = edge(f"max_connections: {n + 1}\n    lanes: 1")
    held = [e.socket(60) for _ in range(n)]
    wait_until(lambda: e.running.metric("weir_http_connections") == n, 20)
    e.running.signal(signal.SIGSTOP)
    last = e.socket(60)  # the last place
    for k, s in enumerate(held):
        s.sendall(request(b'{"n":%d}' % k))
    time.sleep(1.3)
    e.running.signal(signal.SIGCONT)
    assert [read_answers(s, 1) for s in held] == [[(200, {"accepted": 1})]] * n
    assert sorted(p["n"] for p in e.payloads()) == list(range(n))
    for s in held + [last]:
        s.close()


def test_no_descriptors_left(edge):
    e = edge()
    pid, first = e.running.pid, e.connect()
    assert e.post(b'{"n":1}', conn=first)[0] == 200
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = int(e.running.metric("process_open_fds"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, hard))
    waiting = [e.socket() for _ in range(10)]
    for s in waiting:
        s.sendall(request(b'{"n":2}'))
    wait_until(lambda: e.running.find_log("cannot accept"), 20, "the want of descriptors is told")
    assert e.post(b'{"n":3}', conn=first)[0] == 200, "open connections go on"
    assert len(e.running.find_log("cannot accept")) < 10
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    for s in waiting:
        assert read_answers(s, 1) == [(200, {"accepted": 1})]
        s.close()


@pytest.mark.parametrize("hard, taken", [(300, 172), (20000, 400)])
def test_clients_never_take_the_last_file(weir, monkeypatch, hard, taken):
    """The rest of the process has its part; as far as it is allowed to, weir asks for more."""
    monkeypatch.setenv("WEIR_WRAPPER", f"prlimit --nofile=300:{hard} {os.environ.get('WEIR_WRAPPER', '')}")
    e = Edge(weir, "max_connections: 5000\n    keep_alive: 60s")
    told = e.running.find_log("fewer connections than max_connections")
    assert [int(line["max_connections"]) for line in told] == ([172] if taken == 172 else [])
    held = [e.socket() for _ in range(400)]
    wait_until(lambda: e.running.metric("weir_http_connections") == taken, 20)
    assert e.running.metric("process_open_fds") < min(hard, taken + 100), "the others have theirs"
    assert not e.running.find_log("cannot accept")
    for s in held:
        s.close()
    assert e.post(b'{"n":1}')[0] == 200


@pytest.mark.sanitize
def test_lanes_share_the_connections(edge):
    e = edge("lanes: 2", sink="{type: file, path: out.ndjson, on_reject: drop}")
    conns = [e.connect() for _ in range(16)]
    errors = []

    def work(conn, first):
        for n in range(first, first + 60):
            status, answer, _ = e.post(b'[{"n":%d},{"n":%d}]' % (n, -n), conn=conn)
            if (status, answer) != (200, {"accepted": 2}):
                errors.append((status, answer))

    threads = [threading.Thread(target=work, args=(c, i * 60)) for i, c in enumerate(conns)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert errors == []
    kept = [json.loads(line)["n"] for line in (e.folder / "out.ndjson").read_text().splitlines()]
    assert sorted(n for n in kept if n > 0) == list(range(1, 960))
    assert e.running.metric("weir_http_responses_total", code="200") == 960
