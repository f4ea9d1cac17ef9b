# SPDX-License-Identifier: Apache-2.0
"""The source `http`: what a head may say, what a proxy may read in another way, hostile bytes."""
import concurrent.futures
import gzip
import random
import time

import pytest

from http_edge import JSON, NDJSON, WEIR, edge, gz, plain, read_all, request


# ---- What a head may say -----------------------------------------------------------------------

def test_paths_and_methods(edge):
    e = edge("path: [/events, /v1/in]")
    assert e.post(b"{}", path="/v1/in")[0] == 200
    assert e.post(b"{}", path="/events?debug=1")[0] == 200
    for path in ("/", "/event", "/events/", "/Events", "/v1", "/events%00", "/%65vents", "//events"):
        status, answer, _ = e.post(b"{}", path=path)
        assert (status, answer["error"]["code"]) == (404, "not_found"), path
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        status, answer, headers = e.post(b"{}", method=method)
        assert (status, headers["Allow"]) == (405, "POST")
        assert answer["error"]["code"] == "method_not_allowed"
    assert e.post(None, method="HEAD")[0] == 405
    answer = e.raw(b"head /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'"method_not_allowed"' in answer, "it is another method, whose answers have a body"
    assert [event["origin"]["name"] for event in e.kept()] == ["/v1/in", "/events"]


def test_tokens(edge):
    e = edge("tokens: [first-token-0123456, second-token-012345]")
    for good in ("Bearer first-token-0123456", "bearer second-token-012345", "Bearer  first-token-0123456"):
        assert e.post(b"{}", {**JSON, "Authorization": good})[0] == 200, good
    for bad in (None, "", "Bearer", "Bearer ", "Bearer first-token-012345", "first-token-0123456",
                "Bearer first-token-01234567", "Basic Zmlyc3Q6dG9rZW4=", "Bearer FIRST-TOKEN-0123456"):
        status, answer, headers = e.post(b"{}", JSON if bad is None else {**JSON, "Authorization": bad})
        assert (status, answer["error"]["code"]) == (401, "unauthorized"), bad
        assert headers["WWW-Authenticate"].startswith("Bearer")
    assert len(e.kept()) == 3
    assert "first-token" not in e.running.stderr


@pytest.mark.parametrize("headers, code", [
    ({"Content-Type": "text/plain"}, "unsupported_type"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, "unsupported_type"),
    ({"Content-Type": ""}, "unsupported_type"),
    ({"Content-Type": "application/json", "Content-Encoding": "br"}, "unsupported_encoding"),
    ({"Content-Type": "application/json", "Content-Encoding": "gzip, gzip"}, "unsupported_encoding"),
])
def test_types_that_are_not_taken(plain, headers, code):
    status, answer, told = plain.post(b'{"n":1}', headers)
    assert (status, answer["error"]["code"]) == (415, code)
    if code == "unsupported_encoding":
        assert "gzip" in told["Accept-Encoding"] and "Accept" not in told
    else:
        assert "application/json" in told["Accept"] and "Accept-Encoding" not in told
    assert plain.kept() == []


@pytest.mark.parametrize("head, status", [
    ("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", b"400"),
    ("Transfer-Encoding: gzip\r\n", b"400"),
    ("Transfer-Encoding: gzip, chunked\r\n", b"400"),
    ("Content-Length: 7\r\nContent-Length: 8\r\n", b"400"),
    ("Content-Length: -7\r\n", b"400"),
    ("Content-Length: +7\r\n", b"400"),
    ("Content-Length: 7, 7\r\n", b"400"),
    ("Content-Length: 99999999999999999999999\r\n", b"413"),
    ("Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n", b"400"),
    ("no colon\r\nContent-Length: 7\r\n", b"400"),
])
def test_heads_that_leave_the_body_in_doubt(plain, head, status):
    answer = plain.raw(f"POST /events HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + b'{"n":1}')
    assert answer.split(b" ")[1:2] == [status], answer
    assert b"connection: close" in answer.lower()
    assert plain.kept() == []


ITEM = b'{"n":1}'
CHUNKED = b"7\r\n" + ITEM + b"\r\n0\r\n\r\n"


@pytest.mark.sanitize
@pytest.mark.parametrize("head, body, status", [
    (b"Host: x\r\nX: a \t\r\nY:\r\nZ:  \r\nCookie: a=b; c=d\r\nContent-Length: 7\r\n", ITEM, b"200"),
    (b"Host : x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length : 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\r\nTransfer-Encoding : chunked\r\n", CHUNKED, b"400"),
    (b"Host: x\r\nTransfer-Encoding\t: chunked\r\n", CHUNKED, b"400"),
    (b"Host: x\r\nX: a\r\n b\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Len: 7\r\n gth\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\r\nTransfer-Enc: chunked\r\n\toding\r\n", CHUNKED, b"400"),
    (b" Host: x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nX: a\0b\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\0 0\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\0\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\0\0\r\n", ITEM, b"400"),
    (b"Host: x\r\nTransfer-Encoding: chunked\0x\r\n", CHUNKED, b"400"),
    (b"Host: x\r\nContent-Length: 7\r\n\0X: 1\r\n", ITEM, b"400"),
    (b"Host: x\r\nContent-Length: 7\r\n\0\r\n", ITEM, b"400"),
    (b"\0\r\nHost: x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nX: a\rTransfer-Encoding: chunked\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\n: x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nX(: x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Content-Length: 7\r\n", ITEM, b"400"),
    (b"Host: x\r\nHost: x\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host:\r\nContent-Length: 7\r\n", ITEM, b"200"),
    (b"Host: [::1]:80\r\nContent-Length: 7\r\n", ITEM, b"200"),
    (b"Host: a b\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: a, b\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: u@a\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: a/events\r\nContent-Length: 7\r\n", ITEM, b"400"),
    (b"Host: \xc3\xbc\r\nContent-Length: 7\r\n", ITEM, b"400"),
])
def test_heads_that_a_proxy_may_read_differently(plain, head, body, status):
    answer = plain.raw(b"POST /events HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n" + body)
    assert answer.split(b" ")[1:2] == [status], answer
    assert answer.count(b"\r\n\r\n") == 1 and b"connection: close" in answer.lower()
    assert (b"bad_header" in answer or b"bad_request" in answer) == (status == b"400")
    assert len(plain.kept()) == (status == b"200")


@pytest.mark.sanitize
@pytest.mark.parametrize("trailer", [b"GET /events HTTP/1.1\r\n\r\n", b"X\r\n\r\n", b"X : y\r\n\r\n", b": y\r\n\r\n",
                                     b"X: y\r\n z\r\n\r\n", b"X: y\n\r\n", b"\n"])
def test_trailers_that_a_proxy_may_take_for_a_request(plain, trailer):
    good = b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + ITEM + b"\r\n0\r\n"
    answer = plain.raw(good + b"X-Sum: 1\r\n\r\n" + good + trailer + request(ITEM))
    assert answer.count(b"HTTP/1.1 ") == 2 and b"HTTP/1.1 400" in answer, answer
    assert b'"bad_framing"' in answer and b"Connection: close" in answer
    assert len(plain.kept()) == 1


def test_chunks_need_http_1_1(plain):
    answer = plain.raw(b"POST /events HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
                       CHUNKED)
    assert answer.startswith(b"HTTP/1.1 400") and b"bad_framing" in answer, answer
    assert plain.raw(b"POST /events HTTP/1.0\r\nContent-Length: 7\r\n\r\n" + ITEM).startswith(b"HTTP/1.1 200")


def test_a_long_head_in_pieces(plain):
    """The head grows over several reads."""
    lines = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 90) for n in range(200))
    data = request(ITEM, lines.decode() + "Connection: close\r\n")
    with plain.socket() as s:
        for at in range(0, len(data), 1777):
            s.sendall(data[at:at + 1777])
            time.sleep(0.005)
        answer = read_all(s)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_targets_in_absolute_form(plain):
    for target, status in (("http://x/events", 200), ("HTTP://x:80/events?a=b", 200), ("https://x/events", 200),
                           ("http://x", 404), ("http://x?/events", 404), ("http:///events", 200),
                           ("ftp://x/events", 404)):
        assert plain.post(b"{}", path=target)[0] == status, target


def test_heads_that_are_too_long_or_no_http(plain):
    long = plain.raw(b"POST /events HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n")
    assert long == b"" or long.split(b" ")[1] in (b"431", b"413"), long[:200]
    many = plain.raw(b"POST /events HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n")
    assert many == b"" or many.split(b" ")[1] in (b"431", b"413"), many[:200]
    assert plain.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 300 + b"\r\n\r\n")[:8] in \
        (b"", b"HTTP/1.0", b"HTTP/1.1")
    assert plain.post(b'{"n":1}')[0] == 200


# ---- Hostile bytes -----------------------------------------------------------------------------

def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at:at + rng.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = bytes(rng.choice(b'{}[]",:\\\n\r 0-') for _ in range(rng.randrange(1, 5)))
        elif kind == 3:
            data[at:at] = data[max(0, at - 20):at]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.sanitize
def test_mutated_requests(edge):
    """Requests of every kind with some bytes changed: always an answer or a closed connection, and
    whoever sends a good one meanwhile is served."""
    e = edge("request_timeout: 500ms\n    max_wait: 400ms\n    keep_alive: 500ms\n    partial: true\n"
             "    id_field: id\n    key: [k]\n    headers: [expect, host]", sink="{type: blackhole, on_reject: drop}")
    item = (b'{"id":"x","key":"k","time_ns":17,"headers":[{"name":"a","value":"b"},'
            b'{"name_base64":"AAE=","value":""}],"payload":{"a":1}}\n{"tombstone":true}\n')
    kinds = [(b'[{"id":1},{"k":[1,{"c":"\\u00fc"}]},[]]', JSON), (b'{"k":1}\n{"b":2}\n', NDJSON), (item, WEIR),
             (gzip.compress(b'["' + b"a" * 5000 + b'"]'), gz())]

    def send(seed):
        rng = random.Random(seed)
        body, headers = kinds[seed % len(kinds)]
        body = mutated(rng, body)
        head = "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + \
            "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        if seed % 3 == 0:
            cut = rng.randrange(len(body) + 1)
            parts = [part for part in (body[:cut], body[cut:]) if part]
            data = (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + \
                b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            data = (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body
        answer = e.raw(mutated(rng, data) if seed % 5 == 0 else data)
        if seed % 50 == 0:
            assert e.post(b'{"n":1}')[:2] == (200, {"accepted": 1})
        return answer

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(send, range(1200)))
    assert all(answer == b"" or answer.startswith(b"HTTP/1.") for answer in answers)
    assert {b"200", b"400", b"408"} <= {answer[9:12] for answer in answers}
