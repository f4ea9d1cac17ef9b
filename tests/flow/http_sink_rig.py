# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server, and pipelines from a file to it: what the tests of the sink `http` share."""
import collections
import gzip
import http.server
import json
import threading
import time

import pytest

from weirtest.tools import each_closed

Request = collections.namedtuple("Request", "method path headers body client")


class Server:
    """A real HTTP server. decide(request) gives a status, or (status, headers, body)."""

    def __init__(self, decide=lambda request: 200, port=0, tls=None):
        self.decide, self.requests, self.lock = decide, [], threading.Lock()
        self.seconds = 0.0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = Request(self.command, self.path, self.headers, body,
                                  self.client_address)
                time.sleep(server.seconds)
                with server.lock:
                    server.requests.append(request)
                    given = server.decide(request)
                status, headers, text = given if isinstance(given, tuple) else (given, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_PUT = do_PATCH = do_GET = answer

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass

        self.httpd = Listener(("127.0.0.1", port), Handler)
        if tls:
            self.httpd.socket = tls.wrap_socket(self.httpd.socket, server_side=True)
        self.port = self.httpd.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()

    def events(self, ok=lambda status: True):
        """Payloads in the order of their coming, from whatever format."""
        found = []
        for r in self.requests:
            kind = r.headers["Content-Type"]
            if kind in ("application/x-ndjson", "application/x-weir+ndjson"):
                found += [json.loads(line) for line in r.body.splitlines()]
            else:
                body = json.loads(r.body)
                found += body if isinstance(body, list) else [body]
        return found


@pytest.fixture
def server():
    yield from each_closed(Server)


def pipeline(weir, events, url, options="", more="  dead: {type: file, path: dead.ndjson}\ndead_letter: dead",
             source=""):
    lines = "".join((e if isinstance(e, str) else json.dumps(e, ensure_ascii=False)) + "\n" for e in events)
    path = weir.write(lines, "in.ndjson")
    return f"""
name: out
sources:
  in: {{type: file, path: {path}{source}}}
sinks:
  out:
    type: http
    inputs: [in]
    url: "{url}"
    {options}
{more}
"""


def dead_letters(weir):
    path = weir.folder / "dead.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(n):
    return [{"n": i} for i in range(n)]


def ns(found):
    return [event["n"] for event in found]


class Only:
    def __init__(self, request):
        self.requests = [request]
