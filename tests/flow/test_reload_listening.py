# SPDX-License-Identifier: Apache-2.0
"""A reload of the source `http`: it hands its port over, so that no client is refused or reset."""
import http.client
import json
import signal
import socket
import ssl
import threading
import time

import pytest

from test_http_source_tls import certificates  # noqa: F401 (a fixture)
from weirtest.tools import free_port, wait_until

JSON = {"Content-Type": "application/json", "Authorization": "Bearer always"}


def pipeline(port, source="tokens: [always]", sink="type: file, path: out.ndjson, on_reject: stop"):
    return f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{port}', {source}}}}}
sinks: {{out: {{{sink}}}}}
"""


class Client:
    """Posts numbered events one after the other, each on a connection of its own or all on one."""

    def __init__(self, connect, first, keeps, retries=0):
        self.connect, self.n, self.keeps, self.retries = connect, first, keeps, retries
        self.taken, self.failed, self.retried, self.connected = [], [], 0, 0
        self.connection = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def post(self, again):
        if self.connection is None:
            self.connection = self.connect()
            self.connected += 1
        try:
            self.connection.request("POST", "/events", json.dumps({"n": self.n}), JSON)
            answer = self.connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as e:
            self.connection.close()
            self.connection = None
            if not again:
                raise
            self.retried += 1
            self.post(again - 1)
            return
        assert answer.status == 200, answer.status
        if not self.keeps or answer.will_close:
            self.connection.close()
            self.connection = None

    def run(self):
        while not self.stop.is_set():
            self.n += 1
            try:
                # As all HTTP clients do it: only one that was idle before can have been closed meanwhile.
                self.post(self.retries if self.connection is not None else 0)
                self.taken.append(self.n)
            except (OSError, http.client.HTTPException, AssertionError) as e:
                self.failed.append(repr(e))

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.taken


def reload(running, text, count, result="ok"):
    (running.folder / "pipeline-1.yaml").write_text(text)
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.metrics().get("weir_config_reloads_total", result=result, pipeline="reloaded") == count,
               40, f"reload {count}")


def found(running):
    path = running.folder / "out.ndjson"
    return [json.loads(line)["n"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.sanitize
def test_ten_reloads_refuse_and_reset_nobody(weir):
    port = free_port()
    running = weir.start(pipeline(port))
    running.folder = weir.folder
    connect = lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=30)  # noqa: E731
    once, kept = Client(connect, 0, False), Client(connect, 1000000, True)
    for k in range(1, 11):
        time.sleep(0.2)
        reload(running, pipeline(port, f"tokens: [always, t{k}]"), k)
    time.sleep(0.2)
    taken = once.end() + kept.end()
    assert running.stop() == 0
    assert once.failed == [] and kept.failed == []
    assert kept.connected <= 1 + 10, "at most one new connection a reload"
    assert sorted(found(running)) == sorted(taken), "each acknowledged event exactly once"


@pytest.mark.sanitize
def test_idle_connections_go_along(weir):
    """They are asked for nothing meanwhile, and the next request on them is taken."""
    port = free_port()
    running = weir.start(pipeline(port, "tokens: [always], max_body: 1MiB"))
    running.folder = weir.folder
    idle = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(20)]
    for n, c in enumerate(idle):
        c.request("POST", "/events", json.dumps({"n": n}), JSON)
        assert c.getresponse().read() and c.sock is not None
    sockets = [c.sock for c in idle]
    half = socket.create_connection(("127.0.0.1", port), timeout=30)
    half.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nAuthoriz")
    time.sleep(0.2)
    reload(running, pipeline(port, "tokens: [second], max_body: 2MiB"), 1)
    for n, c in enumerate(idle, 100):
        c.request("POST", "/events", json.dumps({"n": n}), {**JSON, "Authorization": "Bearer second"})
        answer = c.getresponse()
        assert answer.status == 200 and answer.read()
    assert [c.sock for c in idle] == sockets
    half.sendall(b"ation: Bearer second\r\nContent-Length: 8\r\nConnection: close\r\n\r\n" + b'{"n":99}')
    assert half.makefile("rb").readline().split()[1] == b"200"
    idle[0].request("POST", "/events", '{"n":7}', JSON)
    assert idle[0].getresponse().status == 401, "what counts is the new list"
    assert running.stop() == 0
    assert sorted(found(running)) == sorted([*range(20), *range(100, 120), 99])


def test_a_request_that_comes_during_the_reload_is_taken(weir):
    port = free_port()
    running = weir.start(pipeline(port))
    running.folder = weir.folder
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.sendall(b'POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer always\r\nContent-Length: 7\r\n\r\n{"n"')
    time.sleep(0.2)
    (weir.folder / "pipeline-1.yaml").write_text(pipeline(port, "tokens: [always, more]"))
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    s.sendall(b":1}")
    answer = s.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 200 ") and "Connection: close\r\n" in answer
    wait_until(lambda: running.metrics().get("weir_config_reloads_total", result="ok") == 1, 20, "the reload")
    assert running.stop() == 0
    assert found(running) == [1]


def test_one_that_never_comes_does_not_hold_the_reload(weir):
    port = free_port()
    running = weir.start(pipeline(port))
    running.folder = weir.folder
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.sendall(b'POST /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer always\r\nContent-Length: 7\r\n\r\n{"n"')
    time.sleep(0.2)
    began = time.monotonic()
    reload(running, pipeline(port, "tokens: [always, more]"), 1)
    assert time.monotonic() - began < 8
    assert s.makefile("rb").readline().startswith(b"HTTP/1.1 503 ")
    assert running.stop() == 0


def test_requests_on_their_way_are_answered_by_the_old_one(weir):
    """The sink is away: they wait through two reloads, and new ones are taken meanwhile."""
    port, somewhere = free_port(), free_port()
    sink = f"type: http, url: 'http://127.0.0.1:{somewhere}/events', on_reject: drop"
    running = weir.start(pipeline(port, sink=sink))
    running.folder = weir.folder
    answers = {}

    def post(n):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        c.request("POST", "/events", json.dumps({"n": n}), JSON)
        answers[n] = c.getresponse().status

    waiting = []
    for k in range(3):
        waiting.append(threading.Thread(target=post, args=(k,)))
        waiting[-1].start()
        time.sleep(0.5)
        if k < 2:
            reload(running, pipeline(port, f"tokens: [always, t{k}]", sink), k + 1)
    assert answers == {}
    target = weir.start(f"""\
name: target
sources: {{in: {{type: http, address: '127.0.0.1:{somewhere}'}}}}
sinks: {{out: {{type: file, path: out.ndjson, on_reject: drop}}}}
""")
    for thread in waiting:
        thread.join()
    assert answers == {0: 200, 1: 200, 2: 200}
    assert running.stop() == 0 and target.stop() == 0
    assert sorted(found(running)) == [0, 1, 2]


@pytest.mark.sanitize
def test_tls_where_other_clients_are_let_in(weir, certificates):  # noqa: F811
    """Connections from before are closed in order; nobody is refused."""
    port = free_port()
    tls = f"tls: {{cert: {certificates}/server.pem, key: {certificates}/server.key"
    running = weir.start(pipeline(port, f"tokens: [always], {tls}}}"))
    running.folder = weir.folder
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    connect = lambda: http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)  # noqa: E731
    once, kept = Client(connect, 0, False), Client(connect, 1000000, True, retries=1)
    asks = f", client_ca: {certificates}/ca.pem"
    for k in range(1, 7):
        time.sleep(0.3)
        reload(running, pipeline(port, f"tokens: [always], {tls}{asks if k % 2 else ''}}}"), k)
    time.sleep(0.2)
    taken = once.end() + kept.end()
    assert running.stop() == 0
    assert once.failed == [] and kept.failed == []
    assert sorted(found(running)) == sorted(taken)


@pytest.mark.sanitize
def test_tls_goes_along_where_tokens_change(weir, certificates):  # noqa: F811
    port = free_port()
    tls = f"tls: {{cert: {certificates}/server.pem, key: {certificates}/server.key}}"
    running = weir.start(pipeline(port, f"tokens: [always], {tls}"))
    running.folder = weir.folder
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    connect = lambda: http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)  # noqa: E731
    once = Client(connect, 0, False)
    idle = connect()
    for k in range(1, 6):
        idle.request("POST", "/events", json.dumps({"n": -k}), JSON)
        assert idle.getresponse().read()
        before = idle.sock
        reload(running, pipeline(port, f"tokens: [always, t{k}], {tls}"), k)
        assert idle.sock is before is not None
    taken = once.end()
    assert running.stop() == 0
    assert once.failed == []
    assert sorted(found(running)) == sorted([*taken, *range(-5, 0)])


def test_another_address_that_cannot_be_had_leaves_all_as_it_was(weir):
    port, other = free_port(), free_port()
    taken = socket.create_server(("127.0.0.1", other))
    running = weir.start(pipeline(port))
    running.folder = weir.folder
    connect = lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=30)  # noqa: E731
    once, kept = Client(connect, 0, False), Client(connect, 1000000, True)
    time.sleep(0.3)
    reload(running, pipeline(other), 1, "failed")
    assert "cannot listen" in running.find_log("reload failed, the pipeline goes on as it was")[-1]["reason"]
    time.sleep(0.3)
    sent = once.end() + kept.end()
    assert once.failed == [] and kept.failed == [] and kept.connected == 1
    taken.close()
    reload(running, pipeline(other), 1)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    late = Client(lambda: http.client.HTTPConnection("127.0.0.1", other, timeout=30), 2000000, True)
    time.sleep(0.2)
    sent += late.end()
    assert running.stop() == 0 and late.failed == []
    assert sorted(found(running)) == sorted(sent)


def test_a_source_that_was_stopped_in_vain_listens_again(weir):
    """Of two sources the second one cannot be opened, and by then the first one has given up its address."""
    port, second, third = free_port(), free_port(), free_port()
    text = f"""\
name: reloaded
sources:
  in: {{type: http, address: '127.0.0.1:{port}', tokens: [always]}}
  more: {{type: http, address: '127.0.0.1:{second}', tokens: [always]}}
sinks: {{out: {{type: file, inputs: [in, more], path: out.ndjson, on_reject: stop}}}}
"""
    taken = socket.create_server(("127.0.0.3", second))
    running = weir.start(text)
    running.folder = weir.folder
    reload(running, text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{third}").replace(
        f"127.0.0.1:{second}", f"0.0.0.0:{second}"), 1, "failed")
    assert "cannot listen" in running.find_log("reload failed, the pipeline goes on as it was")[-1]["reason"]
    for n, at in enumerate((port, second)):
        c = http.client.HTTPConnection("127.0.0.1", at, timeout=10)
        c.request("POST", "/events", json.dumps({"n": n}), JSON)
        assert c.getresponse().status == 200
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", third), timeout=5)
    taken.close()
    assert running.stop() == 0
    assert sorted(found(running)) == [0, 1]


def test_the_same_port_of_another_host(weir):
    """The new address cannot be had beside the old one: it is opened when that has ended."""
    port = free_port()
    running = weir.start(pipeline(port))
    running.folder = weir.folder
    reload(running, pipeline(port).replace("127.0.0.1", "[::ffff:127.0.0.1]"), 1)
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    c.request("POST", "/events", '{"n":1}', JSON)
    assert c.getresponse().status == 200
    assert running.stop() == 0
    assert found(running) == [1]
