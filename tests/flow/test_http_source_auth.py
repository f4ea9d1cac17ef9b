# SPDX-License-Identifier: Apache-2.0
"""The source `http`: tokens of the configuration and of a file, users with passwords, signatures."""
import base64
import gzip
import hashlib
import hmac
import os
import time

import pytest

from http_edge import JSON, assert_refused, edge
from weirtest import wait_until

BODY = b'{"n":1}'


def status(e, authorization=None, headers=None, body=BODY, **kwargs):
    sent = {**JSON, **(headers or {})}
    if authorization is not None:
        sent["Authorization"] = authorization
    return e.post(body, sent, **kwargs)[0]


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ---- A file of tokens ---------------------------------------------------------------------------

def test_tokens_of_a_file_are_read_again(weir, edge):
    file = weir.folder / "tokens"
    file.write_text("# old\nfirst-token-0123456789\r\n\n  second-token-012345678  \n")
    e = edge(f"token_file: {file}\n    tokens: [inline-token-0123456]")
    for token in ("first-token-0123456789", "second-token-012345678", "inline-token-0123456"):
        assert status(e, f"Bearer {token}") == 200
    for token in ("# old", "first-token-012345678", "third-token-01234567890"):
        assert status(e, f"Bearer {token}") == 401
    new = weir.folder / "new"
    new.write_text("third-token-01234567890\n")
    new.rename(file)
    wait_until(lambda: status(e, "Bearer third-token-01234567890") == 200, 20, "the new token is known")
    assert status(e, "Bearer first-token-0123456789") == 401
    assert status(e, "Bearer inline-token-0123456") == 200
    file.write_text("short\n")  # broken: what was known stays known, and somebody hears of it
    wait_until(lambda: status(e, "Bearer third-token-01234567890") == 200 and
               e.running.find_log("tokens cannot be read again"), 20)
    file.unlink()
    assert status(e, "Bearer third-token-01234567890") == 200
    assert "third-token" not in e.running.stderr


# ---- Users --------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_users(edge):
    e = edge("basic: {alice: 'correct horse:battery', bob: pa55word-\u00fc}")
    for user, password in (("alice", "correct horse:battery"), ("bob", "pa55word-\u00fc")):
        assert status(e, basic(user, password)) == 200
        assert status(e, basic(user, password).replace("Basic", "bAsIc")) == 200
    b64 = base64.b64encode
    for bad in (None, "", "Basic", "Basic ", basic("alice", "pa55word-\u00fc"), basic("Alice", "correct horse:battery"),
                basic("alice", ""), basic("", ""), "Basic " + b64(b"alice").decode(), "Basic ====", "Basic *",
                "Basic " + b64(b"alice:correct horse:battery\0").decode(), "Basic " + "QUFB" * 5000,
                "Bearer correct horse:battery", "Basic " + b64(b"a" * 3000).decode()):
        sent = {**JSON, **({} if bad is None else {"Authorization": bad})}
        code, answer, headers = e.post(BODY, sent)
        assert (code, answer["error"]["code"]) == (401, "unauthorized"), bad
        assert headers["WWW-Authenticate"] == 'Basic realm="weir", charset="UTF-8"'
    assert len(e.kept()) == 4
    assert "battery" not in e.running.stderr


def test_a_user_or_a_token(edge):
    e = edge("basic: {alice: correct-horse}\n    tokens: [token-token-token-1]")
    assert status(e, basic("alice", "correct-horse")) == 200
    assert status(e, "Bearer token-token-token-1") == 200
    code, answer, headers = e.post(BODY, {**JSON, "Authorization": "Bearer nope"})
    assert code == 401 and "Bearer" in answer["error"]["message"] and "Basic" in answer["error"]["message"]
    assert headers.get_all("WWW-Authenticate") == ['Bearer realm="weir", error="invalid_token"',
                                                   'Basic realm="weir", charset="UTF-8"']
    assert e.post(BODY)[2].get_all("WWW-Authenticate")[0] == 'Bearer realm="weir"'


# ---- Signatures ---------------------------------------------------------------------------------

def signed(body, secret="secret-0123456789", digest=hashlib.sha256):
    return hmac.new(secret.encode(), body, digest).hexdigest()


@pytest.mark.sanitize
def test_a_signature_as_webhooks_send_it(edge):
    e = edge("hmac: {secrets: [old-secret-01234567, secret-0123456789], header: X-Hub-Signature-256, "
             "prefix: sha256=}")

    def send(signature, body=BODY, **more):
        return e.post(body, {**JSON, "X-Hub-Signature-256": signature, **more})

    bodies = [BODY, b"[" + b"1," * 20000 + b"1]", b"\xff\x00", b""]
    assert send("sha256=" + signed(BODY))[0] == 200
    assert send("sha256=" + signed(BODY, "old-secret-01234567").upper())[0] == 200
    assert send("sha256=" + signed(bodies[1]), bodies[1])[0] == 200
    assert send("sha256=" + signed(bodies[2]), bodies[2])[:2][1]["error"]["code"] == "bad_json"
    assert send("sha256=" + signed(b""), b"")[1]["error"]["code"] == "empty_body"
    packed = gzip.compress(BODY)  # what is signed is what is sent
    assert send("sha256=" + signed(packed), packed, **{"Content-Encoding": "gzip"})[0] == 200
    assert send("sha256=" + signed(BODY), packed, **{"Content-Encoding": "gzip"})[0] == 401
    for bad in (signed(BODY), "sha1=" + signed(BODY), "sha256=" + signed(BODY)[:-1], "sha256=",
                "sha256=" + signed(BODY) + "0", "sha256=" + signed(BODY, "x"), "SHA256=" + signed(BODY),
                "sha256=" + signed(BODY + b" "), "sha256=" + "0" * 64, "", "sha256=" + "z" * 100000):
        code, answer, headers = send(bad) if len(bad) < 1000 else send(bad[:20000])
        assert (code, answer["error"]["code"]) == (401, "bad_signature"), bad[:100]
        assert headers["WWW-Authenticate"] == 'HMAC realm="weir", header="X-Hub-Signature-256"'
    assert e.post(BODY)[1]["error"]["code"] == "bad_signature"
    twice = (b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nConnection: close\r\n" +
             b"X-Hub-Signature-256: sha256=%s\r\n" % signed(BODY).encode() * 2 + b"\r\n" + BODY)
    assert e.raw(twice).startswith(b"HTTP/1.1 401")
    conn = e.connect()
    conn.request("POST", "/events", iter([BODY[:3], BODY[3:]]),
                 {**JSON, "X-Hub-Signature-256": "sha256=" + signed(BODY)}, encode_chunked=True)
    assert conn.getresponse().status == 200


def test_a_signature_that_grows_old(edge):
    e = edge("hmac: {secrets: [secret-0123456789], timestamp_header: X-Time, tolerance: 30s, algorithm: sha512, "
             "encoding: base64}")

    def send(at, sign_at=None, body=BODY):
        mac = hmac.new(b"secret-0123456789", b"%s." % str(at if sign_at is None else sign_at).encode() + body,
                       hashlib.sha512).digest()
        return e.post(body, {**JSON, "X-Signature": base64.b64encode(mac).decode(), "X-Time": str(at)})

    now = int(time.time())
    assert send(now)[0] == 200 and send(now - 10)[0] == 200 and send(now + 10)[0] == 200
    for at in (now - 60, now + 60, 0, -1, "", "now", "9" * 30, f"{now}.5", f" {now}x"):
        code, answer, _ = send(at)
        assert (code, answer["error"]["code"]) == (401, "bad_signature"), at
    assert "1970" in send(now - 60)[1]["error"]["message"]
    assert send(now, now - 1)[0] == 401
    mac = base64.b64encode(hmac.new(b"secret-0123456789", BODY, hashlib.sha512).digest()).decode()
    assert status(e, headers={"X-Signature": mac}) == 401
    assert len(e.kept()) == 3


def test_a_signature_and_a_token(edge):
    e = edge("hmac: {secrets: [secret-0123456789]}\n    tokens: [token-token-token-1]")
    good, token = {"X-Signature": signed(BODY)}, "Bearer token-token-token-1"
    assert status(e, token, good) == 200
    assert status(e, token) == 401 and status(e, None, good) == 401
    assert status(e, token, {"X-Signature": signed(b"")}) == 401


# ---- Configuration ------------------------------------------------------------------------------

def test_wrong_configurations(weir):
    file = weir.folder / "tokens"
    bad = {"empty": "# nothing\n", "spaces": "a token with spaces in it\n", "short": "ok-token-0123456789\nshort\n",
           "large": "x" * (300 << 10)}
    for name, text in bad.items():
        (weir.folder / name).write_text(text)
    os.mkfifo(weir.folder / "fifo")
    wrong = [
        ("token_file: nowhere", "No such file"), (f"token_file: {weir.folder}", "regular"), ("token_file: fifo", "regular"),
        ("token_file: empty", "no token"), ("token_file: spaces", "line 1"), ("token_file: short", "line 2"),
        ("token_file: large", "256 KiB"),
        ("basic: {}", "basic"), ("basic: {'a:b': password-0}", "':'"), ("basic: {alice: ''}", "empty"),
        ("basic: [alice]", "basic"), (f"basic: {{alice: {'x' * 600}}}", "512"),
        ("hmac: {}", "secrets"), ("hmac: {secrets: []}", "secrets"), ("hmac: {secrets: ['']}", "empty"),
        ("hmac: {secrets: [secret-0123456789], header: 'a b'}", "header"),
        ("hmac: {secrets: [secret-0123456789], algorithm: md5}", "sha256"),
        ("hmac: {secrets: [secret-0123456789], encoding: rot13}", "base64"),
        ("hmac: {secrets: [secret-0123456789], timestamp_header: x-signature}", "another"),
        ("hmac: {secrets: [secret-0123456789], timestamp_header: T, tolerance: 0s}", "tolerance"),
        ("hmac: {secret: x}", "secret"),
    ]
    assert_refused(weir, wrong)
    file.write_text("some-token-0123456789\n")
    weak = weir.check("sources: {in: {type: http, address: '0.0.0.0:1', basic: {a: short}, token_file: tokens, "
                      "hmac: {secrets: [short]}}}\nsinks: {out: {type: blackhole, on_reject: drop}}", expect=0)
    assert weak.text.count("warning") >= 3 and "unencrypted" in weak.text
