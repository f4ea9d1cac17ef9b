# SPDX-License-Identifier: Apache-2.0
"""The sink `http` against a real server, and against weir's own http source."""
import base64
import collections
import gzip
import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
import requests

from weirtest import free_port, wait_until

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
    made = []

    def start(*args, **kwargs):
        made.append(Server(*args, **kwargs))
        return made[-1]

    yield start
    for s in made:
        s.close()


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


# ---- What is sent ------------------------------------------------------------------------------

ODD = ['{ "n" : 1.50, "e":[ ], "o":{ }, "z":null }', '{"s":"nul\\u0000 \\"q\\" \u00fc\U0001f600","i":-9223372036854775808}',
       '{"big":12345678901234567890123456789}', '[1,{"a":[]}]', '"text"', '{"long":"' + "x" * (1 << 20) + '"}']


def test_ndjson(weir, server):
    s = server()
    weir.run(pipeline(weir, ODD, s.url + "/in"))
    assert b"".join(r.body for r in s.requests).decode() == "".join(item + "\n" for item in ODD)
    assert {(r.method, r.path, r.headers["Content-Type"]) for r in s.requests} == \
        {("POST", "/in", "application/x-ndjson")}
    assert all("Expect" not in r.headers and "Transfer-Encoding" not in r.headers for r in s.requests)


def test_array(weir, server):
    s = server()
    weir.run(pipeline(weir, ODD[:5], s.url, "format: array\n    method: PUT"))
    assert [(r.method, r.headers["Content-Type"], r.body.decode()) for r in s.requests] == \
        [("PUT", "application/json", "[" + ",".join(ODD[:5]) + "]")]


def test_single(weir, server):
    s = server()
    weir.run(pipeline(weir, ODD, s.url, "format: single"))
    assert [r.body.decode() for r in s.requests] == ODD
    assert {r.headers["Content-Type"] for r in s.requests} == {"application/json"}
    assert len({r.headers["weir-id"] for r in s.requests}) == len(ODD)
    assert len({r.client for r in s.requests}) == 1  # one connection


def test_weir_items(weir, server):
    s = server()
    weir.run(pipeline(weir, ODD, s.url, "format: weir"))
    lines = b"".join(r.body for r in s.requests).decode().splitlines()
    assert len(lines) == len(ODD) and s.requests[0].headers["Content-Type"] == "application/x-weir+ndjson"
    for line, item in zip(lines, ODD):
        assert line.endswith(',"payload":' + item + "}")
        assert json.loads(line)["id"] and json.loads(line)["time_ns"] > 0


def test_raw_payloads(weir, server):
    s = server()
    path = weir.write(b"\x00\xff not json\n{\n", "raw.txt")

    def text(format):
        made = pipeline(weir, [], s.url, f"format: {format}", source=", codec: raw")
        return made.replace(str(weir.folder / "in.ndjson"), str(path))

    weir.run(text("weir"))
    items = [json.loads(line) for line in s.requests[0].body.splitlines()]
    assert [base64.b64decode(i["payload_base64"]) for i in items] == [b"\x00\xff not json", b"{"]
    weir.run(text("single"))
    assert [(r.body, r.headers["Content-Type"]) for r in s.requests[1:]] == \
        [(b"\x00\xff not json", "application/octet-stream"), (b"{", "application/octet-stream")]
    weir.run(text("array"))
    assert len(s.requests) == 3
    assert [d["code"] for d in dead_letters(weir)] == ["not_json", "not_json"]


def test_batches_and_connections(weir, server):
    s = server()
    weir.run(pipeline(weir, numbers(1000), s.url, "batch: {events: 100, timeout: 1s}"))
    assert [len(r.body.splitlines()) for r in s.requests] == [100] * 10
    assert ns(s.events()) == list(range(1000))
    assert len({r.client for r in s.requests}) == 1


def test_gzip(weir, server):
    s = server()
    weir.run(pipeline(weir, numbers(3000), s.url, "compression: gzip\n    batch: {events: 1000}"))
    assert ns(s.events()) == list(range(3000))
    assert {r.headers["Content-Encoding"] for r in s.requests} == {"gzip"}
    assert sum(int(r.headers["Content-Length"]) for r in s.requests) < 3000 * 5


def test_headers_and_credentials(weir, server):
    s = server()
    weir.run(pipeline(weir, [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3, "t": "a"}, {"n": 4, "t": ""},
                             {"n": 5, "t": "x\r\nEvil: 1"}, {"n": 6}], s.url,
                      'token: "tok-123"\n    headers: {X-Fixed: "f", X-Tenant: "{{ t }}", content-type: text/x}'))
    got = {(r.headers.get("X-Tenant"), r.headers["X-Fixed"], r.headers["Authorization"], r.headers["Content-Type"]):
           [json.loads(line)["n"] for line in r.body.splitlines()] for r in s.requests}
    assert got == {("a", "f", "Bearer tok-123", "text/x"): [1, 3], ("b", "f", "Bearer tok-123", "text/x"): [2],
                   (None, "f", "Bearer tok-123", "text/x"): [4]}
    assert all("Evil" not in r.headers for r in s.requests)
    assert [(d["code"], "headers.X-Tenant" in d["reason"]) for d in dead_letters(weir)] == \
        [("bad_header", True), ("template", True)]


def test_basic_authentication(weir, server):
    s = server()
    weir.run(pipeline(weir, numbers(1), s.url, "user: me\n    password: 'p:w'"))
    assert s.requests[0].headers["Authorization"] == "Basic " + base64.b64encode(b"me:p:w").decode()


def test_urls_of_events(weir, server):
    s = server()
    good = {"a": "/t/a/e", "b c": "/t/b%20c/e", "\u00fc": "/t/%C3%BC/e", "x/y": "/t/x%2Fy/e", "?q=1&r": "/t/%3Fq%3D1%26r/e",
            "../..": "/t/..%2F../e", "a/../b": "/t/a%2F..%2Fb/e", "#": "/t/%23/e", "\\": "/t/%5C/e", "\0\n": "/t/%00%0A/e",
            "...": "/t/.../e", "%2e%2e": "/t/%252e%252e/e", "@evil.example": "/t/%40evil.example/e", '"<>': "/t/%22%3C%3E/e"}
    bad = ["..", ".", "x" * 9000]
    events = [{"n": i, "t": t} for i, t in enumerate([*good, *bad])] + [{"n": 99}]
    weir.run(pipeline(weir, events, s.url + "/t/{{ t }}/e"))
    assert {r.path for r in s.requests} == set(good.values())
    assert [d["code"] for d in dead_letters(weir)] == ["bad_url"] * len(bad) + ["template"]
    assert sorted(ns(s.events())) == list(range(len(good)))


def test_a_query_of_fields(weir, server):
    """A field stays the value of its own parameter; dots mean nothing behind the question mark."""
    s = server()
    weir.run(pipeline(weir, [{"n": 0, "t": "a&admin=1", "p": "/../x y"}, {"n": 1, "t": ".."}],
                      s.url + "/e?v=1%2B1&t={{ t }}&p=/{{ p | .. }}"))
    assert {r.path for r in s.requests} == {"/e?v=1%2B1&t=a%26admin%3D1&p=/%2F..%2Fx%20y", "/e?v=1%2B1&t=..&p=/.."}


def test_the_environment_does_not_choose_a_proxy(weir, server):
    s = server()
    weir.run(pipeline(weir, numbers(3), s.url), env={"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"})
    assert len(s.events()) == 3


def test_a_proxy_is_gone_through(weir, server):
    proxy = server()
    url = proxy.url.replace("http://", "http://user:pass%20word@")
    weir.run(pipeline(weir, numbers(3), "http://stream.invalid:8099/events", f'proxy: "{url}"'))
    assert sorted(ns(proxy.events())) == [0, 1, 2]
    assert {r.path for r in proxy.requests} == {"http://stream.invalid:8099/events"}
    assert {r.headers["Host"] for r in proxy.requests} == {"stream.invalid:8099"}
    assert {r.headers["Proxy-Authorization"] for r in proxy.requests} == {"Basic dXNlcjpwYXNzIHdvcmQ="}


# ---- What answers mean -------------------------------------------------------------------------

@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_delivered(weir, server, status):
    s = server(lambda r: status)
    weir.run(pipeline(weir, numbers(5), s.url))
    assert len(s.requests) == 1 and dead_letters(weir) == []


@pytest.mark.parametrize("status", [301, 401, 403, 408, 425, 429, 500, 502, 503, 504])
def test_sent_again(weir, server, status):
    s = server(lambda r: status if len(s.requests) < 3 else 200)
    weir.run(pipeline(weir, numbers(5), s.url, "retry: {initial: 10ms, max: 50ms}"))
    assert [r.body for r in s.requests] == [s.requests[0].body] * 3 and dead_letters(weir) == []


def test_500_counts_attempts_and_503_does_not(weir, server):
    options = "retry: {initial: 5ms, max: 20ms, attempts: 3}"
    s = server(lambda r: 500)
    weir.run(pipeline(weir, numbers(2), s.url, options))
    assert len(s.requests) == 3
    assert [(d["code"], d["number"], d["attempts"]) for d in dead_letters(weir)] == [("http_5xx", 500, 3)] * 2
    t = server(lambda r: 503 if len(t.requests) < 8 else 200)
    weir.run(pipeline(weir, numbers(2), t.url, options))
    assert len(t.requests) == 8 and len(dead_letters(weir)) == 2


def test_retry_after_is_kept(weir, server):
    s = server(lambda r: (429, {"Retry-After": "2"}, b"") if len(s.requests) == 1 else 200)
    began = time.monotonic()
    weir.run(pipeline(weir, numbers(1), s.url, "retry: {initial: 10ms, max: 20ms}"))
    assert time.monotonic() - began >= 1.9 and len(s.requests) == 2


@pytest.mark.parametrize("status", [404, 405, 409, 410])
def test_rejected(weir, server, status):
    s = server(lambda r: (status, {"Content-Type": "text/plain"}, b"no\x00 such\nthing"))
    weir.run(pipeline(weir, numbers(3), s.url))
    assert len(s.requests) == 1
    dead = dead_letters(weir)
    assert [(d["code"], d["number"], json.loads(d["payload"])["n"] if isinstance(d["payload"], str) else d["payload"]["n"])
            for d in dead] == [("http_4xx", status, n) for n in range(3)]
    assert f"{status}: no  such thing" in dead[0]["reason"]


def test_statuses_of_ones_own(weir, server):
    s = server(lambda r: {1: 404, 2: 200, 3: 404}.get(len(s.requests), 409))
    weir.run(pipeline(weir, numbers(1), s.url, "ok_status: [409]\n    retry_status: [404, 2xx]\n"
                      "    retry: {initial: 5ms, max: 10ms}"))
    assert len(s.requests) == 4 and dead_letters(weir) == []


def test_redirects_are_not_followed(weir, server):
    other = server()
    s = server(lambda r: (307, {"Location": other.url}, b"") if len(s.requests) == 1 else 200)
    weir.run(pipeline(weir, numbers(1), s.url, "retry: {initial: 5ms, max: 10ms}"))
    assert other.requests == [] and len(s.requests) == 2


@pytest.mark.sanitize
@pytest.mark.parametrize("format", ["ndjson", "array"])
def test_one_bad_event_of_many_is_found(weir, server, format):
    bad = {0, 17, 18, 399}
    s = server(lambda r: 422 if bad & set(ns(Server.events(Only(r)))) else 200)
    weir.run(pipeline(weir, numbers(400), s.url, f"format: {format}\n    batch: {{events: 400, timeout: 1s}}"))
    good = [n for r in s.requests if not bad & set(ns(Server.events(Only(r)))) for n in ns(Server.events(Only(r)))]
    assert good == [n for n in range(400) if n not in bad]
    assert len(dead_letters(weir)) == len(bad)
    assert len(s.requests) < 80


class Only:
    def __init__(self, request):
        self.requests = [request]


def test_bodies_too_large_are_cut_in_two(weir, server):
    s = server(lambda r: 413 if len(r.body) > 5000 else 200)
    events = [{"n": n, "pad": "x" * (200 if n != 150 else 6000)} for n in range(300)]
    weir.run(pipeline(weir, events, s.url, "batch: {events: 100, timeout: 1s}"))
    assert [d["number"] for d in dead_letters(weir)] == [413]
    taken = [n for r in s.requests if len(r.body) <= 5000 for n in ns(Server.events(Only(r)))]
    assert taken == [n for n in range(300) if n != 150]
    refused = [r for r in s.requests if len(r.body) > 5000]
    assert len(refused) < 12, "what was learnt from 413 is kept"


# ---- Servers that are away ---------------------------------------------------------------------

def test_a_server_that_comes_later(weir, server):
    port = free_port()
    running = weir.start(pipeline(weir, numbers(50), f"http://127.0.0.1:{port}", "retry: {initial: 20ms, max: 100ms}"),
                         ready=False)
    running.wait_log("refused", timeout=20)
    s = server(port=port)
    running.wait()
    assert ns(s.events()) == list(range(50)) and dead_letters(weir) == []


def test_a_server_that_answers_too_late(weir, server):
    s = server()
    s.seconds = 1.5
    running = weir.start(pipeline(weir, numbers(5), s.url, "timeout: 300ms\n    retry: {initial: 20ms, max: 50ms}"),
                         ready=False)
    wait_until(lambda: running.find_log("timeout"), 20, "the time-out is told")
    s.seconds = 0.0
    running.wait()
    assert ns(s.events())[-5:] == list(range(5)) and dead_letters(weir) == []


def test_connections_that_break(weir):
    """A server that closes each second connection without an answer, some after half a head."""
    listener = socket.create_server(("127.0.0.1", 0))
    bodies, number = [], [0]

    def serve():
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            number[0] += 1
            with conn:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += conn.recv(65536)
                head, _, body = head.partition(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
                while len(body) < length:
                    body += conn.recv(65536)
                if number[0] % 3 == 0:
                    conn.sendall(b"HTTP/1.1 200 O")
                elif number[0] % 3 == 1:
                    bodies.append(body)
                    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        weir.run(pipeline(weir, numbers(300), f"http://127.0.0.1:{listener.getsockname()[1]}/",
                          "batch: {events: 30, timeout: 1s}\n    retry: {initial: 5ms, max: 20ms}"))
        listener.shutdown(socket.SHUT_RDWR)
    assert [json.loads(line)["n"] for body in bodies for line in body.splitlines()] == list(range(300))
    assert dead_letters(weir) == []


def test_order_of_a_key_is_kept_with_single(weir, server):
    failed = []

    def decide(r):
        event = json.loads(r.body)
        if event["n"] % 7 == 0 and failed.count(event["n"]) < 2:
            failed.append(event["n"])
            return 500
        taken.append((event["k"], event["n"]))
        return 200

    taken = []
    s = server(decide)
    port = free_port()
    running = weir.start(f"""
name: keys
sources: {{in: {{type: http, address: "127.0.0.1:{port}", key: k, lanes: 1}}}}
sinks:
  out: {{type: http, url: "{s.url}", format: single, on_reject: drop, retry: {{initial: 5ms, max: 10ms}}}}
""")
    events = [{"n": n, "k": f"k{n % 5}"} for n in range(100)]
    assert requests.post(f"http://127.0.0.1:{port}/events", json=events, timeout=60).status_code == 200
    running.stop()
    for k in range(5):
        assert [n for key, n in dict.fromkeys(taken) if key == f"k{k}"] == list(range(k, 100, 5))


# ---- Secrets and TLS ---------------------------------------------------------------------------

def test_secrets_are_not_told(weir, server):
    s = server(lambda r: (400, {}, b"you sent " + str(r.headers).encode()))
    running = weir.run(pipeline(weir, numbers(2), s.url + "/a?api_key=querysecret", "token: topsecret-token\n"
                                "    headers: {x-api-key: headersecret}"))
    text = running.stderr + running.stdout + json.dumps(dead_letters(weir))
    assert "topsecret" not in text and "you sent" in text
    checked = weir.check(pipeline(weir, numbers(2), "ftp://x", "token: 'topsecret token'"), expect=1)
    assert "topsecret" not in checked.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for name in ("good", "other"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"], check=True, capture_output=True)
    return folder


def test_tls(weir, server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "good.pem", certificate / "good.key")
    s = server(tls=context)
    weir.run(pipeline(weir, numbers(3), s.url, f"tls: {{ca: {certificate}/good.pem}}"))
    assert len(s.events()) == 3
    for tls in ("{}", f"{{ca: {certificate}/other.pem}}"):
        running = weir.start(pipeline(weir, numbers(3), s.url, f"tls: {tls}"), ready=False)
        running.wait_log("certificate", timeout=20)
        running.kill()
    assert len(s.events()) == 3
    weir.run(pipeline(weir, numbers(3), s.url, "tls: {verify: false}"))
    assert len(s.events()) == 6


def test_client_certificates(weir, server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "good.pem", certificate / "good.key")
    context.load_verify_locations(certificate / "other.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    s = server(tls=context)
    weir.run(pipeline(weir, numbers(3), s.url, f"tls: {{ca: {certificate}/good.pem, cert: {certificate}/other.pem, "
                      f"key: {certificate}/other.key}}"))
    assert len(s.events()) == 3


# ---- Weir to weir ------------------------------------------------------------------------------

def edge(port, more="", sink="{type: file, path: kept.ndjson, format: full, on_reject: drop}"):
    return f"""
name: edge
sources: {{in: {{type: http, address: "127.0.0.1:{port}"{more}}}}}
sinks: {{keep: {sink}}}
"""


def kept(weir):
    return [json.loads(line) for line in (weir.folder / "kept.ndjson").read_text().splitlines()]


@pytest.mark.sanitize
def test_ids_keys_headers_and_time_pass_from_weir_to_weir(weir):
    first, second = free_port(), free_port()
    weir.start(edge(second))
    weir.start(f"""
name: relay
sources: {{in: {{type: http, address: "127.0.0.1:{first}", key: user, headers: [traceparent]}}}}
sinks:
  on: {{type: http, url: "http://127.0.0.1:{second}/events", format: weir, compression: gzip, on_reject: drop}}
""")
    began = time.time_ns()
    url = f"http://127.0.0.1:{first}/events"
    body = '[{"user":"u1","s":"nul\\u0000\u00fc"}, {"user":17},\n {"pretty":\n1}, 9007199254740993, {"e":[],"o":{}}]'
    answer = requests.post(url, body.encode(), timeout=20, headers={
        "Idempotency-Key": "abc", "traceparent": "00-\u00fc".encode(), "Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 5})
    got = kept(weir)
    assert [e["id"] for e in got] == [f"abc/{n}" for n in range(5)]
    assert [e.get("key") for e in got] == ["u1", "17", None, None, None]
    assert [e["payload"] for e in got] == json.loads(body)
    assert all(e["headers"] == [{"name": "traceparent", "value": "00-\u00fc"}] for e in got)
    assert all(began < e["time_ns"] < time.time_ns() for e in got)
    items = [{"id": "t", "key_base64": "AP8=", "headers": [{"name": "h", "value_base64": "/w=="}], "tombstone": True}]
    answer = requests.post(url, "\n".join(map(json.dumps, items)), timeout=20,
                           headers={"Content-Type": "application/x-weir+ndjson"})
    assert answer.status_code == 200
    last = kept(weir)[-1]
    assert (last["id"], last["key_base64"], last["tombstone"]) == ("t", "AP8=", True)
    assert last["headers"] == items[0]["headers"]


@pytest.mark.parametrize("partial", ["false", "true"])
def test_items_that_the_other_weir_refuses(weir, partial):
    port = free_port()
    weir.start(edge(port, f", partial: {partial}"))
    lines = ['{"n":%d}' % n if n not in (0, 3, 4, 99) else "not json %d" % n for n in range(100)]
    running = weir.run(pipeline(weir, lines, f"http://127.0.0.1:{port}/events", "format: weir", source=", codec: raw"))
    assert [e["payload"]["n"] for e in kept(weir)] == [n for n in range(100) if n not in (0, 3, 4, 99)]
    dead = dead_letters(weir)
    assert [d["payload"] for d in dead] == [f"not json {n}" for n in (0, 3, 4, 99)]
    assert {d["code"] for d in dead} == {"item_rejected"} and "not JSON" in dead[0]["reason"]
    assert running.process.returncode == 0


def test_what_the_other_weir_keeps_as_dead_letters_is_delivered(weir, server):
    s = server(lambda r: 400 if json.loads(r.body)["n"] == 3 else 200)
    port = free_port()
    weir.start(f"""
name: edge
sources: {{in: {{type: http, address: "127.0.0.1:{port}"}}}}
sinks:
  on: {{type: http, inputs: [in], url: "{s.url}", format: single}}
  theirs: {{type: file, path: theirs.ndjson}}
dead_letter: theirs
""")
    weir.run(pipeline(weir, numbers(10), f"http://127.0.0.1:{port}/events", "format: weir"))
    assert dead_letters(weir) == []
    assert len((weir.folder / "theirs.ndjson").read_text().splitlines()) == 1
    assert sorted(ns(s.events())) == list(range(10))


def test_nothing_is_lost_when_the_other_weir_restarts(weir):
    port = free_port()
    text = edge(port, sink="{type: file, path: kept.ndjson, format: full, on_reject: drop}")
    second = weir.start(text)
    events = [{"n": n, "pad": "x" * 200} for n in range(30000)]
    first = weir.start(pipeline(weir, events, f"http://127.0.0.1:{port}/events",
                                "format: weir\n    batch: {events: 50}\n    retry: {initial: 10ms, max: 100ms}"),
                       ready=False)
    wait_until(lambda: (weir.folder / "kept.ndjson").exists() and len(kept_lines(weir)) > 2000, 30)
    second.stop()
    assert first.alive
    weir.start(text)
    first.wait(timeout=120)
    found = [json.loads(line) for line in kept_lines(weir)]
    assert {e["payload"]["n"] for e in found} == set(range(30000))
    assert len({e["id"] for e in found}) == 30000 and dead_letters(weir) == []
    # What the ended weir had answered was not sent again; only a request cut off by its end was.
    assert len(found) - 30000 <= 100


def kept_lines(weir):
    return (weir.folder / "kept.ndjson").read_bytes().splitlines()


# ---- Stopping ----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_sigterm_while_a_request_waits(weir, server):
    s = server()
    s.seconds = 0.03
    running = weir.start(pipeline(weir, numbers(1000), s.url, "batch: {events: 10}"))
    wait_until(lambda: len(s.requests) > 3, 20)
    running.stop()
    found = ns(s.events())
    assert found == list(range(len(found))) and 30 < len(found)


def test_the_deadline_of_the_shutdown_ends_a_request(weir, server):
    s = server()
    s.seconds = 30
    running = weir.start(pipeline(weir, numbers(10), s.url, "timeout: 60s") + "shutdown_timeout: 1s\n")
    time.sleep(0.5)
    began = time.monotonic()
    running.stop(expect=None)
    assert time.monotonic() - began < 6, "cancel ends the wait for the answer"


# ---- Configuration -----------------------------------------------------------------------------

WRONG = [
    ("url: ftp://x/", "http"), ("url: ''", "url"), ("url: 'http:///x'", "host"), ("url: 'http://u:p@x/'", "user"),
    ('url: "{{ a }}"', "url"), ('url: "http://{{ a }}/"', "host"), ('url: "http://x{{ a }}"', "'/'"),
    ('url: "http://x/{{ a "', "url"), ("method: DELETE", "method"), ("format: xml", "format"),
    ("headers: {Content-Length: '1'}", "content-length"), ("headers: {'a b': c}", "header"),
    ("headers: {Content-Encoding: x}", "compression"), ("token: a\n    user: b", "token"),
    ("token: 'a b'", "visible"), ("password: x", "user"), ("user: 'a:b'", "user"),
    ("ok_status: [OK]", "429"), ("ok_status: []", "ok_status"), ("retry_status: [600]", "status"),
    ("compression: br", "compression"), ("connect_timeout: 0s", "connect_timeout"),
    ("tls: {key: /k.pem}", "certificate"), ("tls: {verify: maybe}", "verify"), ("tls: {kay: /k}", "key"),
    ("tokn: x", "token"),
    ("token: x\n    headers: {Authorization: y}", "same"),
]


def test_wrong_configurations(weir):
    for options, word in WRONG:
        url = "" if options.startswith("url") else "url: http://127.0.0.1/\n    "
        text = f"""
name: wrong
sources: {{in: {{type: generate}}}}
sinks:
  out:
    type: http
    on_reject: drop
    {url}{options}
"""
        checked = weir.check(text, expect=1)
        assert re.search(r":\d+:\d+: error", checked.text), checked
        assert word in checked.text, (options, checked)
    checked = weir.check("name: w\nsources: {in: {type: generate}}\nsinks: {out: {type: http, on_reject: drop}}\n",
                         expect=1)
    assert "url" in checked.text
    unsafe = weir.check(pipeline(weir, [], "https://x/", "tls: {verify: false}"), expect=0)
    assert "warning" in unsafe.text
