# SPDX-License-Identifier: Apache-2.0
"""The source `http` and pages of other origins: what its answers say, and what a real browser makes of them."""
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

from http_edge import JSON, Edge, edge, request
from weirtest import wait_until

ASK = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def ask(e, origin, path="/events", **more):
    conn = e.connect()
    conn.request("OPTIONS", path, headers={**ASK, "Origin": origin, **more})
    answer = conn.getresponse()
    return answer.status, answer.headers, answer.read()


# ---- What is said ----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_a_preflight(edge):
    e = edge("cors: {origins: [https://a.example, 'http://b.example:8080'], headers: [Content-Type, X-Mine], max_age: 2h}\n"
             "    tokens: [token-token-token-1]\n    methods: [POST, PUT]")
    status, headers, body = ask(e, "https://a.example")
    assert (status, body, headers["Content-Length"], headers["Content-Type"]) == (204, b"", None, None)
    assert headers["Access-Control-Allow-Origin"] == "https://a.example" and headers["Vary"] == "Origin"
    assert headers["Access-Control-Allow-Methods"] == "POST, PUT"
    assert headers["Access-Control-Allow-Headers"] == "Content-Type, X-Mine"
    assert headers["Access-Control-Max-Age"] == "7200"
    assert headers["Access-Control-Allow-Credentials"] is None
    assert ask(e, "http://b.example:8080")[0] == 204
    for origin in ("https://evil.example", "http://a.example", "https://a.example:444", "https://a.example.evil", "null",
                   "https://a.example/", "", "http://b.example"):
        status, headers, body = ask(e, origin)
        assert status == 403 and json.loads(body)["error"]["code"] == "origin_not_allowed", origin
        assert headers["Access-Control-Allow-Origin"] is None and headers["Vary"] == "Origin"
    assert ask(e, "https://a.example", path="/nowhere")[0] == 404
    with e.socket() as s:  # one connection for the preflight and what follows it
        s.sendall(b"OPTIONS /events HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n"
                  b"Access-Control-Request-Method: POST\r\n\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 204 No Content\r\n")
        s.sendall(request(b"{}", "Origin: https://a.example\r\nAuthorization: Bearer token-token-token-1\r\n"))
        assert s.recv(1000).startswith(b"HTTP/1.1 200")


def test_answers_to_an_allowed_page(edge):
    e = edge("cors: {origins: [https://a.example], credentials: true}\n    tokens: [token-token-token-1]\n"
             "    partial: true")
    good = {**JSON, "Origin": "https://a.example", "Authorization": "Bearer token-token-token-1"}
    for body, sent, status in ((b"{}", good, 200), (b"{", good, 400), (b"[1,x]", good, 207),
                               (b"{}", {**good, "Authorization": "Bearer no"}, 401),
                               (b"{}", {**good, "Content-Type": "text/plain"}, 415)):
        found, _, headers = e.post(body, sent)
        assert found == status  # a page can read errors too
        assert headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert headers["Access-Control-Allow-Credentials"] == "true"
        assert "Retry-After" in headers["Access-Control-Expose-Headers"] and headers["Vary"] == "Origin"


def test_pages_that_may_not(edge):
    e = edge("cors: {origins: [https://a.example]}")
    simple = {"Origin": "https://evil.example"}  # a browser asks no preflight for this one
    status, answer, headers = e.post(b'{"n":1}', simple)
    assert (status, answer["error"]["code"]) == (403, "origin_not_allowed")
    assert headers["Access-Control-Allow-Origin"] is None
    assert e.post(b'{"n":2}', {**JSON, "Origin": f"http://127.0.0.1:{e.port}"})[0] == 200, "its own origin"
    assert e.post(b'{"n":3}')[0] == 200, "no page at all"
    twice = request(b"{}", "Origin: https://a.example\r\nOrigin: https://evil.example\r\n")
    assert e.raw(twice).startswith(b"HTTP/1.1 400")
    assert [p["n"] for p in e.payloads()] == [2, 3]


@pytest.mark.sanitize
def test_the_body_of_a_preflight_is_bounded(edge):
    """It comes without credentials, so that nobody may fill the memory by it."""
    e = edge("cors: {origins: [https://a.example]}\n    max_body: 10000\n    tokens: [token-token-token-1]")
    head = (b"OPTIONS /events HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n"
            b"Access-Control-Request-Method: POST\r\n")
    with e.socket() as s:  # a small one is passed over, and its connection stays
        for _ in range(2):
            s.sendall(head + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000)
            assert s.recv(1000).startswith(b"HTTP/1.1 204")
    large = b"x" * 20000
    for framed in (b"Content-Length: 20000\r\nConnection: close\r\n\r\n" + large,
                   b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n4e20\r\n" + large + b"\r\n0\r\n\r\n",
                   b"Content-Length: 99999999999999\r\n\r\n" + large * 100):
        answer = e.raw(head + framed)
        assert answer.startswith(b"HTTP/1.1 413") and b'"body_too_large"' in answer, answer
        assert b"Access-Control-Allow-Origin: https://a.example" in answer
    assert e.running.metric("weir_http_in_flight_bytes") == 0


def test_every_origin_and_none(edge, weir):
    e = edge("cors: {origins: ['*']}")
    status, headers, _ = ask(e, "https://anybody.example")
    assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (204, "*", None)
    assert e.post(b"{}", {**JSON, "Origin": "null"})[2]["Access-Control-Allow-Origin"] == "*"


def test_without_cors(edge):
    e = edge()
    assert ask(e, "https://a.example")[0] == 405
    status, _, headers = e.post(b"{}", {**JSON, "Origin": "https://a.example"})
    assert status == 200 and not [h for h in headers if h.lower().startswith("access-control")]


# ---- A browser -----------------------------------------------------------------------------------------

PAGE = """<!doctype html><script>
async function send(name, options, path) {
  let found;
  try {
    const answer = await fetch("http://127.0.0.1:%(port)d" + (path || "/events"), options);
    found = {status: answer.status, body: answer.type == "opaque" ? "" : await answer.text(),
             retry: answer.headers.get("retry-after")};
  } catch (error) { found = {error: error.name}; }
  return {name, found};
}
async function packed(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
const json = {"Content-Type": "application/json"};
(async () => {
  const all = [];
  all.push(await send("object", {method: "POST", headers: json, body: JSON.stringify({from: "object"})}));
  all.push(await send("lines", {method: "POST", headers: {"Content-Type": "application/x-ndjson"},
                                body: '{"from":"lines"}\\n{"from":"lines"}'}));
  all.push(await send("gzip", {method: "POST", headers: {...json, "Content-Encoding": "gzip"},
                               body: await packed('[{"from":"gzip"}]')}));
  all.push(await send("key", {method: "POST", headers: {...json, "Idempotency-Key": "k1"}, body: '{"from":"key"}'}));
  all.push(await send("bad", {method: "POST", headers: json, body: "{"}));
  all.push(await send("header", {method: "POST", headers: {...json, "X-Not-Listed": "1"}, body: "{}"}));
  all.push(await send("method", {method: "DELETE"}));
  all.push(await send("nowhere", {method: "POST", headers: json, body: "{}"}, "/nowhere"));
  all.push(await send("opaque", {method: "POST", mode: "no-cors", body: new Blob(['{"from":"opaque"}'])}));
  all.push(await send("keepalive", {method: "POST", headers: json, keepalive: true, body: '{"from":"keepalive"}'}));
  navigator.sendBeacon("http://127.0.0.1:%(port)d/events",
                       new Blob(['{"from":"beacon"}'], {type: "application/json"}));
  for (const one of await Promise.all([...Array(30).keys()].map(n => send("many",
      {method: "POST", headers: json, body: JSON.stringify({from: "many", n})})))) all.push(one);
  await fetch("/done", {method: "POST", body: JSON.stringify(all)});
})();
</script>"""


class Site:
    """A page on an origin of its own, and what it reports."""

    def __init__(self):
        self.page, self.report = None, None
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(site.page.encode(), "text/html")

            def do_POST(self):
                site.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(b"", "text/plain")

            def answer(self, body, kind):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def sends_to(self, port):
        self.page = PAGE % {"port": port}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def browse(tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    started = []

    def browse(site):
        with open(tmp_path / "browser.log", "wb") as log:
            started.append(subprocess.Popen(
                [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
                 "--remote-debugging-port=0", site.origin + "/"], stdout=log, stderr=log))
        wait_until(lambda: site.report is not None, 90,
                   lambda: (tmp_path / "browser.log").read_text(errors="replace")[-2000:])
        return {name: [r["found"] for r in site.report if r["name"] == name]
                for name in {r["name"] for r in site.report}}

    yield browse
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.mark.long(20)
def test_a_page_that_may_send(weir, browse, site):
    e = Edge(weir, f"cors: {{origins: [{site.origin}], credentials: true}}")  # which beacons need
    site.sends_to(e.port)
    found = browse(site)
    for name, n in (("object", 1), ("lines", 2), ("gzip", 1), ("key", 1), ("keepalive", 1)):
        assert found[name][0]["status"] == 200 and json.loads(found[name][0]["body"]) == {"accepted": n}, name
    assert found["bad"][0]["status"] == 400 and json.loads(found["bad"][0]["body"])["error"]["code"] == "bad_json"
    assert found["header"] == [{"error": "TypeError"}] and found["method"] == [{"error": "TypeError"}]
    assert found["nowhere"] == [{"error": "TypeError"}], "no preflight at a path that is none"
    assert [f["status"] for f in found["many"]] == [200] * 30
    wait_until(lambda: len(e.kept()) == 38, 20, "the beacon arrives too")
    kept = [p["from"] for p in e.payloads()]
    assert {name: kept.count(name) for name in set(kept)} == \
        {"object": 1, "lines": 2, "gzip": 1, "key": 1, "opaque": 1, "keepalive": 1, "beacon": 1, "many": 30}
    assert "k1/0" in [event["id"] for event in e.kept()]


@pytest.mark.long(20)
def test_a_page_that_may_not_send(weir, browse, site):
    e = Edge(weir, "cors: {origins: [https://somebody.example]}")
    site.sends_to(e.port)
    found = browse(site)
    for name in set(found) - {"opaque"}:
        assert all(f == {"error": "TypeError"} for f in found[name]), (name, found[name])
    assert found["opaque"][0]["status"] == 0, "it was sent, and refused"
    wait_until(lambda: e.running.metric("weir_http_responses_total", code="403") > 10, 20)
    assert e.kept() == []


# ---- Configuration ------------------------------------------------------------------------------------

def test_wrong_configurations(weir):
    wrong = [
        ("{}", "origins"), ("{origins: []}", "origins"), ("{origins: [a.example]}", "no origin"),
        ("{origins: ['https://a.example/']}", "no origin"), ("{origins: ['https://']}", "no origin"),
        ("{origins: ['https://u@a.example']}", "no origin"), ("{origins: ['https://a.example/x']}", "no origin"),
        ("{origins: ['*', 'https://a.example']}", "every origin"),
        ("{origins: ['*'], credentials: true}", "credentials"),
        ("{origins: ['https://a.example'], headers: ['a b']}", "header name"),
        ("{origins: ['https://a.example'], headers: ['*'], credentials: true}", "list the headers"),
        ("{origins: ['https://a.example'], max_age: 2 days}", "max_age"),
        ("{origins: ['https://a.example'], methods: [POST]}", "methods"),
    ]
    for cors, word in wrong:
        text = (f"sources: {{in: {{type: http, cors: {cors}}}}}\n"
                "sinks: {out: {type: blackhole, on_reject: drop}}\n")
        checked = weir.check(text, expect=1)
        assert re.search(r":\d+:\d+: error", checked.text) and word in checked.text, (cors, checked)
