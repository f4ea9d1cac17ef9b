# SPDX-License-Identifier: Apache-2.0
"""The source `http` over TLS: versions, client certificates, new files while it runs, hostile handshakes."""
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading

import pytest

from http_edge import JSON, Edge, read_all, read_answers, request
from weirtest import free_port, wait_until


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def authority(folder, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2,
            "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem")


def certificate(folder, ca, name, subject="localhost"):
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
    (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key",
            "-CAcreateserial", "-days", 2, "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        authority(folder, name)
    for ca, name in (("ca", "server"), ("ca", "second"), ("ca", "client"), ("other", "stranger")):
        certificate(folder, ca, name, name)
    return folder


class TlsEdge(Edge):
    def __init__(self, weir, folder, options="", tls="", **kwargs):
        self.certificates = folder
        self.context = ssl.create_default_context(cafile=folder / "ca.pem")
        super().__init__(weir, f"tls: {{cert: {folder}/server.pem, key: {folder}/server.key{tls}}}\n    {options}",
                         **kwargs)

    def connect(self, timeout=20, context=None):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context or self.context)

    def secure(self, timeout=20, context=None):
        return (context or self.context).wrap_socket(self.socket(timeout), server_hostname="127.0.0.1")


@pytest.fixture
def edge(weir, certificates):
    return lambda *args, **kwargs: TlsEdge(weir, certificates, *args, **kwargs)


def subject(s):
    return dict(pair[0] for pair in s.getpeercert()["subject"])["commonName"]


# ---- What a client does ---------------------------------------------------------------------------

@pytest.mark.sanitize
def test_requests_of_all_kinds(edge):
    e = edge()
    conn = e.connect()
    for size in (1, 4000, 5000, 16384, 70000, 3 << 20):
        assert e.post(json.dumps({"s": "x" * size}).encode(), conn=conn)[:2] == (200, {"accepted": 1})
    conn.request("POST", "/events", iter([b'[{"n":1},', b'{"n":2}]']), JSON, encode_chunked=True)
    answer = conn.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"accepted": 2})
    assert e.post(b'{"n":', conn=conn)[0] == 400
    with e.secure() as s:  # pipelined, in one write and in single bytes
        s.sendall(b"".join(request(b'{"n":%d}' % n) for n in range(40)))
        assert read_answers(s, 40) == [(200, {"accepted": 1})] * 40
        for byte in request(b'{"n":41}', "Connection: close\r\n"):
            s.sendall(bytes([byte]))
        assert read_answers(s, 1) == [(200, {"accepted": 1})]
        assert s.read(1) == b""  # a close_notify, no cut
    assert len(e.kept()) == 6 + 2 + 41


def test_with_curl(edge, certificates):
    e = edge()
    done = subprocess.run(["curl", "-sS", "-w", "%{http_code} %{ssl_verify_result}", "--cacert", certificates / "ca.pem",
                           f"https://localhost:{e.port}/events", "--json", '[{"n":1},{"n":2}]'],
                          capture_output=True, text=True, timeout=20)
    assert done.stdout == '{"accepted":2}200 0', done


def test_a_long_answer_and_one_that_is_cut(edge):
    e = edge("partial: true\n    max_body: 2MiB")
    assert len(e.post(b"x\n" * 50000 + b"1", {"Content-Type": "application/x-ndjson"})[1]["items"]) == 50000
    with e.secure() as s:
        s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * (4 << 20))
        assert read_all(s).startswith(b"HTTP/1.1 413")


@pytest.mark.sanitize
def test_many_connections_at_once(edge):
    e = edge("lanes: 2", sink="{type: file, path: out.ndjson, on_reject: drop}")
    errors = []

    def work(first):
        for n in range(first, first + 10):
            found = e.post(b'{"n":%d}' % n)
            if found[:2] != (200, {"accepted": 1}):
                errors.append(found)

    threads = [threading.Thread(target=work, args=(i * 10,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert errors == []
    assert sorted(json.loads(line)["n"] for line in (e.folder / "out.ndjson").read_text().splitlines()) == \
        list(range(120))


@pytest.mark.parametrize("server, client, works", [("1.2", "TLSv1_2", True), ("1.3", "TLSv1_2", False),
                                                   ("1.3", "TLSv1_3", True), ("1.2", "TLSv1_3", True)])
def test_versions(edge, server, client, works):
    e = edge(tls=f", min_version: '{server}'")
    context = ssl.create_default_context(cafile=e.certificates / "ca.pem")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[client]
    if works:
        assert e.post(b"{}", conn=e.connect(context=context))[0] == 200
    else:
        with pytest.raises(ssl.SSLError):
            e.post(b"{}", conn=e.connect(context=context))


# ---- Client certificates ------------------------------------------------------------------------------

def with_certificate(e, name=None):
    context = ssl.create_default_context(cafile=e.certificates / "ca.pem")
    if name:
        context.load_cert_chain(e.certificates / f"{name}.pem", e.certificates / f"{name}.key")
    return context


def refused(e, context):
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
        e.post(b"{}", conn=e.connect(context=context))


@pytest.mark.sanitize
def test_a_client_must_have_a_certificate(edge, certificates):
    e = edge(tls=f", client_ca: {certificates}/ca.pem")
    assert e.post(b'{"n":1}', conn=e.connect(context=with_certificate(e, "client")))[0] == 200
    refused(e, with_certificate(e))
    refused(e, with_certificate(e, "stranger"))
    assert e.post(b'{"n":2}', conn=e.connect(context=with_certificate(e, "client")))[0] == 200
    assert len(e.kept()) == 2


def test_a_client_may_have_a_certificate(edge, certificates):
    e = edge(tls=f", client_ca: {certificates}/ca.pem, client_auth: optional")
    for name in (None, "client"):
        assert e.post(b"{}", conn=e.connect(context=with_certificate(e, name)))[0] == 200
    refused(e, with_certificate(e, "stranger"))


# ---- New files -----------------------------------------------------------------------------------------

def replace(folder, name, source):
    for end in ("pem", "key"):
        (folder / f"new.{end}").write_bytes((source.parent / f"{source.name}.{end}").read_bytes())
        os.rename(folder / f"new.{end}", folder / f"{name}.{end}")


def test_certificates_are_read_again(weir, certificates):
    folder = weir.folder / "tls"
    folder.mkdir()
    replace(folder, "server", certificates / "server")
    (folder / "ca.pem").write_bytes((certificates / "ca.pem").read_bytes())
    e = TlsEdge(weir, folder, tls=f", client_ca: {folder}/ca.pem, client_auth: optional")

    def served():
        with e.secure() as s:
            return subject(s)

    assert served() == "server"
    with e.secure() as old:
        replace(folder, "server", certificates / "second")
        wait_until(lambda: served() == "second", 20, "new connections have the new certificate")
        old.sendall(request(b'{"n":1}'))
        assert read_answers(old, 1) == [(200, {"accepted": 1})]
    stranger = with_certificate(e, None)
    stranger.load_cert_chain(certificates / "stranger.pem", certificates / "stranger.key")
    refused(e, stranger)
    (folder / "both.pem").write_bytes((certificates / "ca.pem").read_bytes() + (certificates / "other.pem").read_bytes())
    os.rename(folder / "both.pem", folder / "ca.pem")

    def welcome():
        try:
            return e.post(b'{"n":2}', conn=e.connect(context=stranger))[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    e.context = ssl.create_default_context(cafile=certificates / "ca.pem")
    wait_until(welcome, 20, "the new authorities are trusted")
    assert e.running.find_log("certificates read again")


def test_files_that_do_not_fit_leave_the_old_ones(weir, certificates):
    folder = weir.folder / "tls"
    folder.mkdir()
    replace(folder, "server", certificates / "server")
    (folder / "ca.pem").write_bytes((certificates / "ca.pem").read_bytes())
    e = TlsEdge(weir, folder)
    for break_it in (lambda: (folder / "server.key").write_bytes((certificates / "second.key").read_bytes()),
                     lambda: (folder / "server.pem").write_text("no certificate"), (folder / "server.key").unlink):
        before = len(e.running.find_log("cannot be read again"))
        break_it()
        wait_until(lambda: e.post(b"{}")[0] == 200 and len(e.running.find_log("cannot be read again")) > before, 20)
    assert "PRIVATE" not in e.running.stderr
    replace(folder, "server", certificates / "second")

    def served():
        with e.secure() as s:
            return subject(s)

    wait_until(lambda: served() == "second", 20)


# ---- Hostile handshakes ----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_bytes_that_are_no_handshake(edge):
    e = edge("request_timeout: 3s\n    max_wait: 2s")
    answer = e.raw(request(b'{"n":1}'))
    assert answer.startswith(b"HTTP/1.1 400") and b"https://" in answer
    head, body = answer.split(b"\r\n\r\n", 1)
    assert json.loads(body)["error"]["code"] == "tls_needed"
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)
    hello = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    talk = e.context.wrap_bio(hello, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    hello_bytes = outgoing.read()
    held = []
    for data in (b"", b"\x16", hello_bytes[:100], b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\x80\x2e\x01\x03\x01",
                 b"\0" * 70000, hello_bytes + b"\x17\x03\x03\x00\x10" + b"x" * 16, hello_bytes * 3):
        held.append(e.socket(60))
        try:
            held[-1].sendall(data)
        except ConnectionError:
            pass
        assert e.post(b"{}")[0] == 200
    for s in held:  # silence and nonsense: both end at the deadline
        read_all(s)
        s.close()
    assert e.post(b"{}")[0] == 200


def test_plain_http_hears_why_however_much_it_sends(edge):
    """A reset must not take the answer away from a client that still sends."""
    e = edge()
    for _ in range(5):
        with e.socket() as s:
            s.sendall(request(b"x" * (8 << 20)))
            answer = read_all(s)
        assert answer.startswith(b"HTTP/1.1 400") and b'"tls_needed"' in answer, answer
    wait_until(lambda: e.running.metric("weir_http_connections") == 0, 20)


def test_nobody_negotiates_again(edge, certificates):
    """A handshake in the middle of a connection costs the server much and its client little."""
    e = edge()
    with subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{e.port}", "-CAfile",
                           certificates / "ca.pem"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as client:
        client.stdin.write(b"R\n")  # s_client's word for it
        client.stdin.flush()
        said = client.stdout.read()
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said and client.returncode != 0, said
    assert e.post(b"{}")[0] == 200


def test_sessions_are_kept_by_clients_alone(edge):
    """With tickets a session is the client's to keep; without them there is none, so that nothing here grows."""
    e = edge()
    for tickets in (True, False):
        context = ssl.create_default_context(cafile=e.certificates / "ca.pem")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
        with e.secure(context=context) as first:  # a good end, behind which a session may go on
            first.sendall(request(b"{}", "Connection: close\r\n"))
            read_all(first)
            session = first.session
        with context.wrap_socket(e.socket(), server_hostname="127.0.0.1", session=session) as s:
            assert s.session_reused == tickets
            s.sendall(request(b"{}", "Connection: close\r\n"))
            assert read_answers(s, 1) == [(200, {"accepted": 1})]


def test_a_handshake_that_goes_on_for_ever(edge):
    e = edge("request_timeout: 2s\n    max_wait: 1s\n    max_connections: 4")
    held = [e.socket() for _ in range(4)]
    for s in held:
        s.sendall(b"\x16\x03\x01\x02")
    assert e.post(b"{}", conn=e.connect(30))[0] == 200, "their places are free again"
    for s in held:
        assert read_all(s) == b""


# ---- Configuration -----------------------------------------------------------------------------------------

def test_wrong_configurations(weir, certificates):
    for name in ("server.pem", "server.key", "second.key", "ca.pem"):
        (weir.folder / name).write_bytes((certificates / name).read_bytes())
    (weir.folder / "none.pem").write_text("nothing\n")
    openssl("pkey", "-in", certificates / "server.key", "-aes128", "-passout", "pass:secret", "-out",
            weir.folder / "locked.key")
    wrong = [("{}", "cert"), ("{cert: server.pem}", "key"), ("{key: server.key}", "cert"),
             ("{cert: nowhere.pem, key: server.key}", "No such file"), ("{cert: none.pem, key: server.key}", "tls.cert"),
             ("{cert: server.pem, key: nowhere.key}", "tls.key"), ("{cert: server.pem, key: second.key}", "mismatch"),
             ("{cert: server.pem, key: server.pem}", "tls.key"), ("{cert: server.pem, key: locked.key}", "tls.key"),
             ("{cert: server.pem, key: server.key, client_ca: none.pem}", "client_ca"),
             ("{cert: server.pem, key: server.key, client_auth: perhaps}", "optional"),
             ("{cert: server.pem, key: server.key, client_auth: optional}", "set client_ca"),
             ("{cert: server.pem, key: server.key, min_version: '1.1'}", "1.2"),
             ("{cert: server.pem, key: server.key, verify: true}", "verify"), ("true", "tls")]
    for tls, word in wrong:
        text = (f"sources: {{in: {{type: http, address: '127.0.0.1:{free_port()}', tls: {tls}}}}}\n"
                "sinks: {out: {type: blackhole, on_reject: drop}}\n")
        checked = weir.check(text, expect=1)
        assert re.search(r":\d+:\d+: error", checked.text) and word in checked.text, (tls, checked)
        assert "PRIVATE" not in checked.text
