# SPDX-License-Identifier: Apache-2.0
"""The sink `http`: secrets, TLS, proxies, hostile servers, and what is wrong in a configuration."""
import base64
import http.client
import http.server
import json
import re
import select
import socket
import ssl
import subprocess
import threading
import urllib.parse

import pytest

from http_sink_rig import dead_letters, ns, numbers, pipeline, server  # noqa: F401
from weirtest.tools import each_closed

# ---- Secrets and TLS ---------------------------------------------------------------------------

def test_secrets_are_not_told(weir, server):
    s = server(lambda r: (400, {}, b"you sent " + str(r.headers).encode()))
    running = weir.run(pipeline(weir, numbers(2), s.url + "/a?api_key=querysecret", "token: topsecret-token\n"
                                "    headers: {x-api-key: headersecret}"))
    text = running.stderr + running.stdout + json.dumps(dead_letters(weir))
    assert "topsecret" not in text and "you sent" in text
    assert "headersecret" not in text
    running = weir.run(pipeline(weir, numbers(2), s.url, "user: me\n    password: basicsecret"))
    text = running.stderr + running.stdout + json.dumps(dead_letters(weir))
    assert "Basic " in text and "basicsecret" not in text
    assert base64.b64encode(b"me:basicsecret").decode() not in text
    checked = weir.check(pipeline(weir, numbers(2), "ftp://x", "token: 'topsecret token'"), expect=1)
    assert "topsecret" not in checked.text


def test_the_last_word_of_a_header_is_not_told(weir, server):
    s = server(lambda r: (400, {}, b"token headersecret is expired, shorty"))
    running = weir.run(pipeline(weir, numbers(2), s.url, "headers: {authorization: 'Bearer headersecret', x-empty: '', x-y: 'a '}"))
    text = running.stderr + running.stdout + json.dumps(dead_letters(weir))
    assert "headersecret" not in text and "is expired, shorty" in text


def test_the_password_of_a_proxy_is_not_told(weir, server):
    p = server(lambda r: (400, {}, b"you sent " + base64.b64decode(r.headers["Proxy-Authorization"].split()[1]) + b" as "
                          + r.headers["Proxy-Authorization"].encode()))
    running = weir.run(pipeline(weir, numbers(2), "http://nowhere.invalid/",
                                f"proxy: {p.url.replace('://', '://me:pa%40ssword@')}"))
    text = running.stderr + running.stdout + json.dumps(dead_letters(weir))
    assert "you sent me:********* as Basic " in text and "pa@ssword" not in text and "pa%40ssword" not in text
    assert base64.b64encode(b"me:pa@ssword").decode() not in text


def test_a_secret_of_stars(weir, server):
    s = server(lambda r: (400, {}, b"you sent " + r.headers["Authorization"].encode() + b"*"))
    weir.run(pipeline(weir, numbers(2), s.url, "token: '********'"), timeout=20)
    assert "you sent Bearer ***" in json.dumps(dead_letters(weir))


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
    weir.run(pipeline(weir, numbers(3), s.url, "tls: {insecure_skip_verify: true}"))
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


def test_a_certificate_of_another_name_is_refused(weir, server, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=example.org",
                    "-addext", "subjectAltName=DNS:example.org", "-keyout", tmp_path / "k.pem", "-out", tmp_path / "c.pem"],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    s = server(tls=context)
    running = weir.start(pipeline(weir, numbers(3), s.url, f"token: topsecret-token\n    tls: {{ca: {tmp_path}/c.pem}}"),
                         ready=False)
    running.wait_log("certificate", timeout=20)
    running.kill()
    assert s.requests == []


def test_an_encrypted_key_is_told_and_not_asked_for(weir, server, certificate, tmp_path):
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", certificate / "good.key", "-out", tmp_path / "locked.key",
                    "-passout", "pass:secret"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "good.pem", certificate / "good.key")
    s = server(tls=context)
    running = weir.start(pipeline(weir, numbers(3), s.url, f"tls: {{ca: {certificate}/good.pem, cert: {certificate}/good.pem, "
                                  f"key: {tmp_path}/locked.key}}"), ready=False)
    running.wait_log("private key", timeout=20)
    running.kill()
    assert s.requests == []


# ---- Proxies -----------------------------------------------------------------------------------

class Proxy:
    """An HTTP proxy: forwards requests, tunnels by CONNECT, and may want a user and a password."""

    def __init__(self, user=None):
        self.heads, self.lock = [], threading.Lock()
        wanted = "Basic " + base64.b64encode(user.encode()).decode() if user else None
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def allowed(self):
                with proxy.lock:
                    proxy.heads.append((self.command, self.path, dict(self.headers)))
                if wanted is None or self.headers["Proxy-Authorization"] == wanted:
                    return True
                self.send_response(407)
                self.send_header("Proxy-Authenticate", "Basic realm=here")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.allowed():
                    return
                url = urllib.parse.urlsplit(self.path)
                there = http.client.HTTPConnection(url.netloc)
                there.request("POST", url.path, body, {k: v for k, v in self.headers.items() if not k.startswith("Proxy-")})
                answer = there.getresponse()
                self.send_response(answer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                there.close()

            def do_CONNECT(self):
                if not self.allowed():
                    return
                host, port = self.path.split(":")
                with socket.create_connection((host, int(port))) as there:
                    self.send_response(200)
                    self.end_headers()
                    ends = {self.connection: there, there: self.connection}
                    while True:
                        for end in select.select(list(ends), [], [])[0]:
                            data = end.recv(65536)
                            if not data:
                                self.close_connection = True
                                return
                            ends[end].sendall(data)

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.httpd = Listener(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()


@pytest.fixture
def proxy():
    yield from each_closed(Proxy)


def test_through_a_proxy(weir, server, proxy):
    s, p = server(), proxy("me:pa55word")
    weir.run(pipeline(weir, numbers(300), s.url + "/in", f"proxy: http://me:pa55word@{p.address}\n    token: tok-123\n"
                      "    batch: {events: 100, timeout: 1s}"))
    assert ns(s.events()) == list(range(300))
    assert [(command, target) for command, target, _ in p.heads] == [("POST", s.url + "/in")] * 3
    assert {r.headers["Authorization"] for r in s.requests} == {"Bearer tok-123"}


def test_through_a_tunnel(weir, server, proxy, certificate):
    """The proxy sees where to, and nothing else: neither the token nor the headers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "good.pem", certificate / "good.key")
    s, p = server(tls=context), proxy("me:pa55word")
    weir.run(pipeline(weir, numbers(300), s.url, f"proxy: me:pa55word@{p.address}\n    token: tok-123\n"
                      f"    headers: {{x-api-key: headersecret}}\n    tls: {{ca: {certificate}/good.pem}}\n"
                      "    batch: {events: 100, timeout: 1s}"))
    assert ns(s.events()) == list(range(300))
    assert [(command, target) for command, target, _ in p.heads] == [("CONNECT", s.url.removeprefix("https://"))]
    assert "tok-123" not in str(p.heads) and "headersecret" not in str(p.heads)
    assert {r.headers["x-api-key"] for r in s.requests} == {"headersecret"}
    assert all("Proxy-Authorization" not in r.headers for r in s.requests)


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_that_refuses_us_is_an_outage(weir, server, proxy, certificate, tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "good.pem", certificate / "good.key")
    s, p = server(tls=context if tls else None), proxy("me:other")
    more = f"\n    tls: {{ca: {certificate}/good.pem}}" if tls else ""
    running = weir.start(pipeline(weir, numbers(3), s.url, f"proxy: http://me:pa55word@{p.address}{more}"), ready=False)
    running.wait_log("407", timeout=20)
    running.kill()
    assert s.requests == [] and dead_letters(weir) == []
    assert "pa55word" not in running.stderr + running.stdout


# ---- Hostile servers ---------------------------------------------------------------------------

class RawServer:
    """Answers the first request with these bytes (or, a function, by itself), each later one with 200."""

    def __init__(self, first):
        self.first, self.bodies = first, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with conn:
                try:
                    self.answer(conn)
                except OSError:
                    pass

    def answer(self, conn):
        head = b""
        while b"\r\n\r\n" not in head:
            head += conn.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(body) < length:
            body += conn.recv(65536)
        self.bodies.append(body)
        if len(self.bodies) > 1:
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif callable(self.first):
            self.first(conn)
        else:
            conn.sendall(self.first)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def raw_server():
    yield from each_closed(RawServer)


OK = b"HTTP/1.1 200 OK\r\n"
NO_ANSWERS = {
    "nothing": b"", "a banner": b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP": b"\0" * 4000, "half a status": b"HTTP/1.1 20",
    "version 9": b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n", "TLS": b"\x15\x03\x03\0\2\2\x28",
    "a length below 0": OK + b"Content-Length: -1\r\n\r\n", "a length that is no number": OK + b"Content-Length: x\r\n\r\n",
    "less than its length": OK + b"Content-Length: 10\r\n\r\nabc", "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a header too long": OK + b"A: " + b"x" * (1 << 20) + b"\r\n\r\n", "a NUL in a header": OK + b"A: \0\r\n\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
}


@pytest.mark.sanitize
@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_is_asked_for_again(weir, raw_server, kind):
    s = raw_server(NO_ANSWERS[kind])
    weir.run(pipeline(weir, numbers(5), s.url, "retry: {initial: 5ms, max: 10ms}"))
    assert len(s.bodies) == 2 and s.bodies[0] == s.bodies[1] and dead_letters(weir) == []


def test_an_answer_without_end_counts_by_its_status(weir, raw_server):
    def endless(conn):
        conn.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            conn.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    s = raw_server(endless)
    weir.run(pipeline(weir, numbers(5), s.url))
    assert len(s.bodies) == 1 and dead_letters(weir) == []


def test_a_compressed_answer_is_not_unpacked(weir, server):
    """Nobody asked for one, and it may be a bomb; its status counts."""
    import gzip
    bomb = gzip.compress(b"x" * (64 << 20), 1)
    s = server(lambda r: (400, {"Content-Encoding": "gzip"}, bomb))
    weir.run(pipeline(weir, numbers(1), s.url))
    assert [d["number"] for d in dead_letters(weir)] == [400] and "xxxx" not in dead_letters(weir)[0]["reason"]
    assert "Accept-Encoding" not in s.requests[0].headers


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
    ("tls: {key: /k.pem}", "certificate"), ("tls: {kay: /k}", "key"),
    ("tls: {insecure_skip_verify: maybe}", "insecure_skip_verify"),
    ("tokn: x", "token"),
    ("token: x\n    headers: {Authorization: y}", "same"),
    ("headers: {x-a: '1', X-A: '2'}", "twice"), ('headers: {x-a: "b\\nEvil: 1"}', "newline"),
    ("format: single\n    headers: {Weir-Id: x}", "weir-id"), ("url: 'http://x:99999/'", "ort"), ("url: 'http://[::1/'", "IPv6"),
    ("ok_status: [2xx, 429]", "retry_status as well"), ("proxy: 'ftp://x'", "socks5"), ("proxy: 'http://u:hidden@[::1'", "IPv6"),
    ("proxy: 'http://u:hidden@x:port'", "ort"), ("tls: {ca: /nowhere.pem}", "cannot be read"),
    ("url: https://x/\n    tls: {cert: /nowhere.pem, key: /nowhere.key}", "cannot be read"),
    ("tls: {ca: /etc/hostname}", "no effect"), ("tls: {insecure_skip_verify: true}", "no effect"),
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
        assert "hidden" not in checked.text
    checked = weir.check("name: w\nsources: {in: {type: generate}}\nsinks: {out: {type: http, on_reject: drop}}\n",
                         expect=1)
    assert "url" in checked.text
    unsafe = weir.check(pipeline(weir, [], "https://x/", "tls: {insecure_skip_verify: true}"), expect=0)
    assert "warning" in unsafe.text
