# SPDX-License-Identifier: Apache-2.0
"""A weir with an http source, and clients for it: what the tests of that source share."""
import http.client
import http.server
import json
import re
import socket
import threading

import pytest

from weirtest import free_port
from weirtest.tools import each_closed

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
WEIR = {"Content-Type": "application/x-weir+ndjson"}


def gz(headers=JSON, name="gzip"):
    return {**headers, "Content-Encoding": name}


def pipeline(port, options="", sink="{type: file, path: out.ndjson, format: full, on_reject: drop}",
             more=""):
    return f"""
name: edge
sources:
  in:
    type: http
    address: 127.0.0.1:{port}
    {options}
sinks:
  out: {sink}
{more}
"""


class Edge:
    """A weir with an http source that keeps what it takes in out.ndjson."""

    def __init__(self, weir, options="", **kwargs):
        self.port = free_port()
        self.folder = weir.folder
        self.running = weir.start(pipeline(self.port, options, **kwargs))

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def post(self, body, headers=JSON, path="/events", method="POST", conn=None):
        """One request; gives (status, the answer's JSON, its headers)."""
        conn = conn or self.connect()
        conn.request(method, path, body, headers)
        answer = conn.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None, answer.headers

    def raw(self, data, timeout=20):
        """Bytes on a connection of their own; all that comes back until it is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as s:
            s.sendall(data)
            return read_all(s)

    def socket(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def kept(self):
        path = self.folder / "out.ndjson"
        text = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in text.splitlines()]

    def payloads(self):
        return [event["payload"] for event in self.kept()]


class Receiver:
    """A real HTTP server behind the pipeline; `decide(payload)` gives the status, `go` lets answers
    out."""

    def __init__(self, decide=lambda payload: 200):
        self.decide, self.go, self.got = decide, threading.Event(), []
        self.go.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                payloads = body if isinstance(body, list) else [body]
                receiver.go.wait(60)
                status = max(map(receiver.decide, payloads))
                receiver.got += [(payload, status) for payload in payloads]
                text = b'{"why":"told so"}'
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sink(self, more="", format="single"):
        return f'{{type: http, url: "{self.url}", format: {format}, timeout: 20s{more}}}'

    def close(self):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()


def read_all(s):
    data = b""
    while True:
        try:
            part = s.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def read_answers(s, n):
    """n answers from a socket as (status, JSON)."""
    reader, found = s.makefile("rb"), []
    for _ in range(n):
        status = int(reader.readline().split()[1])
        length = 0
        while (line := reader.readline().strip()):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        found.append((status, json.loads(reader.read(length))))
    return found


def request(body, headers="", method="POST", path="/events", version="1.1"):
    return (f"{method} {path} HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n").encode() + body


def assert_refused(weir, wrong):
    """Each of the source's wrong options is refused at its place with its word."""
    for options, word in wrong:
        text = f"""
sources:
  in:
    type: http
    {options}
sinks: {{out: {{type: blackhole, on_reject: drop}}}}
"""
        checked = weir.check(text, expect=1)
        assert re.search(r":\d+:\d+: error", checked.text) and word in checked.text, (options, checked)


# ---- Fixtures, for the modules that import them ---------------------------------------------------

@pytest.fixture
def edge(weir):
    return lambda options="", **kwargs: Edge(weir, options, **kwargs)


@pytest.fixture
def plain(edge):
    return edge()


@pytest.fixture
def receiver():
    yield from each_closed(Receiver)
