# SPDX-License-Identifier: Apache-2.0
"""The sink `http` against a real server: what is sent, and what answers mean."""
import base64
import email.utils
import json
import re
import socket
import threading
import time

import pytest
import requests

from http_sink_rig import Only, Server, dead_letters, ns, numbers, pipeline, server  # noqa: F401
from weirtest import free_port, wait_until

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


def test_empty_headers_are_not_sent(weir, server):
    s = server()
    weir.run(pipeline(weir, [{"n": 1, "t": ""}], s.url,
                      'headers: {Accept: "", User-Agent: "", X-Empty: "", Content-Type: "{{ t }}"}'))
    assert {"accept", "user-agent", "x-empty", "content-type"} & {name.lower() for name in s.requests[0].headers} == set()


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


def test_retry_after_as_a_date_is_kept(weir, server):
    until = int(time.time()) + 3
    came = []

    def decide(request):
        came.append(time.time())
        return (503, {"Retry-After": email.utils.formatdate(until, usegmt=True)}, b"") if len(came) == 1 else 200

    weir.run(pipeline(weir, numbers(1), server(decide).url, "retry: {initial: 10ms, max: 20ms}"))
    assert len(came) == 2 and came[1] >= until


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


def test_a_single_status_counts_before_its_class(weir, server):
    s = server(lambda r: 202 if len(s.requests) == 1 else 503 if len(s.requests) == 2 else 404)
    weir.run(pipeline(weir, numbers(1), s.url, "ok_status: [2xx, 404]\n    retry_status: [202, 4xx, 503]\n"
                      "    retry: {initial: 5ms, max: 10ms}"))
    assert len(s.requests) == 3 and dead_letters(weir) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(weir, server, status):
    other = server()
    s = server(lambda r: (status, {"Location": other.url}, b"") if len(s.requests) == 1 else 200)
    weir.run(pipeline(weir, numbers(1), s.url, "token: tok-123\n    retry: {initial: 5ms, max: 10ms}"))
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


def test_bodies_too_large_are_cut_in_two(weir, server):
    s = server(lambda r: 413 if len(r.body) > 5000 else 200)
    events = [{"n": n, "pad": "x" * (200 if n != 150 else 6000)} for n in range(300)]
    weir.run(pipeline(weir, events, s.url, "batch: {events: 100, timeout: 1s}"))
    assert [d["number"] for d in dead_letters(weir)] == [413]
    taken = [n for r in s.requests if len(r.body) <= 5000 for n in ns(Server.events(Only(r)))]
    assert taken == [n for n in range(300) if n != 150]
    refused = [r for r in s.requests if len(r.body) > 5000]
    assert len(refused) < 12, "what was learnt from 413 is kept"


def test_a_limit_that_the_server_no_longer_has_is_forgotten(weir, server):
    s = server(lambda r: 413 if len(s.requests) < 10 and len(r.body) > 2000 else 200)
    events = [{"n": n, "pad": "x" * 200} for n in range(3000)]
    weir.run(pipeline(weir, events, s.url, "batch: {events: 500, timeout: 1s}"))
    assert list(dict.fromkeys(ns(s.events()))) == list(range(3000)) and dead_letters(weir) == []
    assert max(len(r.body) for r in s.requests[10:]) > 20000


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
