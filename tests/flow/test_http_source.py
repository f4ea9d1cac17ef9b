# SPDX-License-Identifier: Apache-2.0
"""The source `http` and real clients: every answer, what becomes of bodies, limits, pressure, ends."""
import base64
import concurrent.futures
import gzip
import http.client
import http.server
import json
import os
import random
import re
import resource
import socket
import subprocess
import threading
import time
import zlib

import pytest

from http_edge import JSON, NDJSON, WEIR, Edge, pipeline, read_all, read_answers, request
from weirtest import Load, events, free_port, wait_until

@pytest.fixture
def edge(weir):
    return lambda options="", **kwargs: Edge(weir, options, **kwargs)


@pytest.fixture
def plain(edge):
    return edge()


# ---- Bodies ------------------------------------------------------------------------------------

def test_one_object_an_array_and_lines(plain):
    assert plain.post(b'{"n":1}')[:2] == (200, {"accepted": 1})
    assert plain.post(b' [{"n":2} , {"n":3}]\r\n')[:2] == (200, {"accepted": 2})
    assert plain.post(b'{"n":4}\n\n {"n":5} \r\n{"n":6}', NDJSON)[:2] == (200, {"accepted": 3})
    assert plain.post(b'{"n":7}', {})[:2] == (200, {"accepted": 1})
    assert plain.post(b'{"n":8}', {"Content-Type": "Application/JSON; charset=utf-8"})[0] == 200
    assert plain.post(b'{"n":9}', {"Content-Type": "application/cloudevents+json"})[0] == 200
    assert plain.post(b'7', JSON)[0] == 200
    assert [p if p == 7 else p["n"] for p in plain.payloads()] == [*range(1, 10), 7]


def test_with_curl(plain, tmp_path):
    body = tmp_path / "body.json"
    body.write_bytes(b'[{"n":1},{"n":2}]')
    done = subprocess.run(["curl", "-sS", "-w", "%{http_code}", f"127.0.0.1:{plain.port}/events",
                           "--json", f"@{body}"], capture_output=True, text=True, timeout=20)
    assert done.stdout == '{"accepted":2}200', done


def test_payloads_stay_byte_for_byte(edge):
    e = edge(sink="{type: file, path: out.ndjson, on_reject: drop}")
    items = ['{ "a" : 1.50, "b":[ ], "c":{ }, "d":null }', '{"a":1,"a":2}',
             '{"big":12345678901234567890123456789,"e":1E5,"i":-9223372036854775808}',
             '{"nul":"a\\u0000b","slash":"\\/","uni":"\\u00fc\u00fc\U0001f600"}', '"text"', '[1,[2]]',
             '{"k":"\\"]},{[\\\\"}']
    body = "[" + " , ".join(items) + "]"
    assert e.post(body.encode())[:2] == (200, {"accepted": len(items)})
    assert e.post("\n".join(items).encode(), NDJSON)[:2] == (200, {"accepted": len(items)})
    for item in items:
        if not item.startswith("["):
            assert e.post(item.encode())[:2] == (200, {"accepted": 1})
    lines = (e.folder / "out.ndjson").read_text().splitlines()
    assert lines == items + items + [i for i in items if not i.startswith("[")]


def test_events_of_all_sizes_up_to_the_limit(plain):
    sizes = [1, 4000, 4096, 4097, 65535, 65536, 65537, 1 << 20, 15 << 20]
    for size in sizes:
        assert plain.post(json.dumps({"s": "x" * size}).encode())[:2] == (200, {"accepted": 1})
    assert [len(p["s"]) for p in plain.payloads()] == sizes


def test_chunked_bodies(plain):
    def parts():
        yield b'[{"n":1}'
        yield b',{"n"'
        yield b':2}]'
    conn = plain.connect()
    for _ in range(3):
        conn.request("POST", "/events", parts(), JSON, encode_chunked=True)
        answer = conn.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"accepted": 2})
    assert [p["n"] for p in plain.payloads()] == [1, 2] * 3


def test_a_body_in_single_bytes(plain):
    data = request(b'[{"n":1},{"n":"\xc3\xbc"}]')
    with plain.socket() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            s.send(data[i:i + 1])
        assert read_answers(s, 1) == [(200, {"accepted": 2})]


def test_nothing_in_a_body(plain):
    assert plain.post(b"[]")[:2] == (200, {"accepted": 0})
    assert plain.post(b" [ ] ")[:2] == (200, {"accepted": 0})
    for body, headers in ((b"", JSON), (b" \n", JSON), (b"", NDJSON), (b"\n\n", NDJSON), (b"", WEIR)):
        status, answer, _ = plain.post(body, headers)
        assert (status, answer["error"]["code"]) == (400, "empty_body")
    assert plain.kept() == []


# ---- Compression -------------------------------------------------------------------------------

def gz(headers=JSON, name="gzip"):
    return {**headers, "Content-Encoding": name}


def test_gzip(plain):
    body = json.dumps([{"n": n} for n in range(5000)]).encode()
    assert plain.post(gzip.compress(body), gz())[:2] == (200, {"accepted": 5000})
    members = gzip.compress(b'{"n":1}\n{"n"') + gzip.compress(b':2}\n') + gzip.compress(b"")
    assert plain.post(members, gz(NDJSON))[:2] == (200, {"accepted": 2})
    assert plain.post(gzip.compress(b'{"n":3}'), gz(name="x-GZIP"))[:2] == (200, {"accepted": 1})
    assert plain.post(b'{"n":4}', gz(name="identity"))[:2] == (200, {"accepted": 1})
    assert len(plain.kept()) == 5004


@pytest.mark.parametrize("body", [
    b"", b"x", b'{"n":1}', gzip.compress(b'{"n":1}')[:-1], gzip.compress(b'{"n":1}')[:12],
    gzip.compress(b'{"n":1}') + b"x", zlib.compress(b'{"n":1}'),
    gzip.compress(b'{"n":1}')[:-8] + b"\0" * 8,
])
def test_broken_gzip(plain, body):
    status, answer, _ = plain.post(body, gz())
    assert (status, answer["error"]["code"]) == (400, "bad_gzip"), answer
    assert plain.post(gzip.compress(b'{"n":1}'), gz())[0] == 200
    assert len(plain.kept()) == 1


def test_gzip_bomb(edge):
    e = edge("max_decompressed: 16MiB\n    max_body: 1MiB\n    max_ratio: 2000")
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join(bomb.compress(b"\0" * (1 << 20)) for _ in range(900)) + bomb.flush()
    assert len(data) < 1 << 20
    before = e.running.metric("process_resident_memory_bytes")
    for _ in range(5):
        status, answer, _ = e.post(data, gz())
        assert (status, answer["error"]["code"]) == (413, "body_too_large"), answer
    assert e.running.metric("process_resident_memory_bytes") < before + (512 << 20)
    exact = b'"' + b"a" * ((16 << 20) - 2) + b'"'
    assert e.post(gzip.compress(exact), gz())[0] == 200
    assert e.post(gzip.compress(exact + b" "), gz())[0] == 413


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


# ---- Ids, keys, headers ------------------------------------------------------------------------

def test_ids(edge):
    e = edge("id_field: [meta, id]")
    e.post(b'[{"meta":{"id":"own"}},{"meta":{"id":17}},{"meta":{"id":null}},{"n":1}]',
           {**JSON, "Idempotency-Key": '"abc-1"'})
    e.post(b'{"n":2}', {**JSON, "Idempotency-Key": "abc-2", "weir-id": "w"})
    e.post(b'{"n":3}', {**JSON, "weir-id": "w-1"})
    e.post(b'[{"n":4},{"n":5}]', {**JSON, "weir-id": "w-2"})
    assert e.post(b'{"n":6}')[0] == 200
    ids = [event["id"] for event in e.kept()]
    assert ids[:-1] == ["own", "17", "abc-1/2", "abc-1/3", "abc-2/0", "w-1", "w-2/0", "w-2/1"]
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids[-1])
    status, answer, _ = e.post(json.dumps([{}, {"meta": {"id": "x" * 1025}}]).encode())
    assert (status, answer["error"]["code"], answer["error"]["item"]) == (400, "bad_id", 1)
    for bad in ("", "a b", "x" * 257, "\xfc"):
        status, answer, _ = e.post(b"{}", {**JSON, "Idempotency-Key": bad})
        assert (status, answer["error"]["code"]) == (400, "bad_header"), bad


def test_keys_headers_and_time(edge):
    e = edge("key: user\n    headers: [x-request-id, TraceParent]")
    began = time.time()
    sent = {**JSON, "X-Request-Id": "r 1", "traceparent": "00-ab", "Cookie": "secret", "x-other": "1"}
    assert e.post(b'[{"user":"u1"},{"user":7},{"user":{"a":1}},{}]', sent)[0] == 200
    kept = e.kept()
    assert [event.get("key") for event in kept] == ["u1", "7", None, None]
    for event in kept:
        assert headers_of(event) == {"x-request-id": "r 1", "TraceParent": "00-ab"}
        assert began - 1 < event["time_ns"] / 1e9 < time.time() + 1


def headers_of(event):
    return {h["name"]: h["value"] if "value" in h else h["value_base64"] for h in event["headers"]}


def test_weir_items(edge):
    e = edge("key: user\n    headers: [h1]")
    lines = [
        {"id": "a", "key": "k", "time_ns": 1700000000123456789, "payload": {"user": "u"},
         "headers": [{"name": "x", "value": "y"}, {"name": "z", "value": ""}]},
        {"payload": {"user": "u"}},
        {"id": "\u00fc\n", "key_base64": "AP8=", "payload": [1],
         "headers": [{"name": "b", "value_base64": "AAH/"}, {"name_base64": "/w==", "value": "\u00fc"}]},
        {"payload_base64": "eyJuIjoxfQ==", "later": {"not": ["known"]}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    assert e.post(body, {**WEIR, "Idempotency-Key": "i", "H1": "v"})[:2] == (200, {"accepted": 4})
    a, b, c, d = e.kept()
    assert (a["id"], a["key"], headers_of(a)) == ("a", "k", {"x": "y", "z": "", "h1": "v"})
    assert a["time_ns"] == 1700000000123456789
    assert (b["id"], b["key"], headers_of(b), b["payload"]) == ("i/1", "u", {"h1": "v"}, {"user": "u"})
    assert (c["id"], c["key_base64"], c["payload"]) == ("\u00fc\n", "AP8=", [1])
    assert c["headers"] == [{"name": "b", "value_base64": "AAH/"},
                            {"name_base64": "/w==", "value": "\u00fc"}, {"name": "h1", "value": "v"}]
    assert (d["id"], d["payload"]) == ("i/3", {"n": 1})


@pytest.mark.parametrize("line", [
    "1", "[]", "{", '{"id":1,"payload":{}}', '{"id":"","payload":{}}', '{"key":{},"payload":{}}',
    '{"payload":{},"payload":{}}', '{"payload":{},"payload_base64":"AAAA"}', '{"payload":}',
    '{"payload":{}} x', '{"payload":{}', '{"payload_base64":"A"}', '{"payload_base64":"A*=="}',
    '{"headers":{},"payload":{}}', '{"headers":[1],"payload":{}}', '{"headers":[{}],"payload":{}}',
    '{"headers":[{"name":1}],"payload":{}}', '{"headers":[{"name":"a","value":1}],"payload":{}}',
    '{"time_ns":"now","payload":{}}', '{"time_ns":-1,"payload":{}}', '{}', '{"id":"a"}',
    '{"tombstone":false}', '{"tombstone":1}', '{"tombstone":true,"payload":{}}', '{"payload":{"a":}}', '{"x":nul,"payload":{}}', '{"id":"\\u12"}',
    '{"id":"' + "x" * 1025 + '","payload":{}}',
])
def test_lines_that_are_no_weir_items(plain, line):
    status, answer, _ = plain.post(('{"payload":{"n":1}}\n' + line).encode(), WEIR)
    assert status == 400, answer
    assert (answer["error"]["item"], answer["error"]["code"] in ("bad_item", "bad_json")) == (1, True)
    assert plain.kept() == []


def test_tombstones_pass(edge):
    e = edge(sink="{type: file, path: out.ndjson, format: full, on_reject: drop}")
    assert e.post(b'{"id":"gone","key":"k","tombstone":true}', WEIR)[0] == 200
    kept = e.kept()[0]
    assert (kept["id"], kept["key"], kept["tombstone"], "payload" in kept) == ("gone", "k", True, False)


def test_what_the_file_sink_writes_can_be_sent(edge):
    e = edge("headers: [h]")
    assert e.post(b'[{"n":1},{"n":2}]', {**JSON, "H": "v", "Idempotency-Key": "a"})[0] == 200
    written = (e.folder / "out.ndjson").read_bytes()
    assert e.post(written, WEIR)[:2] == (200, {"accepted": 2})
    first, second = e.kept()[:2], e.kept()[2:]
    assert [{k: v for k, v in event.items()} for event in second] == first


def test_raw(edge):
    e = edge("codec: raw")
    bodies = [(b" \x00\xff{not json", {"Content-Type": "application/octet-stream"}),
              (b"[1,2", JSON), (b"x" * 100000, {})]
    for body, headers in bodies:
        assert e.post(body, headers)[:2] == (200, {"accepted": 1})
    assert e.post(b"a b \r\n\n\xfe\n", NDJSON)[:2] == (200, {"accepted": 2})
    kept = [base64.b64decode(event["payload_base64"]) for event in e.kept()]
    assert kept == [body for body, _ in bodies] + [b"a b ", b"\xfe"]


# ---- Bodies that are wrong ---------------------------------------------------------------------

DEEP = b"[" * 100000
BAD = [
    (b'{"n":1', JSON, None), (b'{"n":1}{"n":2}', JSON, None), (b"{'n':1}", JSON, None),
    (b'[{"n":1},{"n":2}', JSON, 1), (b'[{"n":1},{"n":nul}]', JSON, 1), (b'[{"n":1},]', JSON, 1),
    (b'[{"n":1},,{"n":2}]', JSON, 1), (b'[{"n":1}]]', JSON, 1), (b'[{"n":1}}', JSON, 0),
    (b'{"n":1}\n{"n":\n{"n":3}', NDJSON, 1), (b'{"n":1}\n{"n":2},', NDJSON, 1),
    (b'{"n":"\xff"}', JSON, None), (b'[1,"\xc3"]', JSON, 1), (b'{"n":"\xed\xa0\x80"}', JSON, None),
    (b'{"n":"\xc0\x80"}', JSON, None), (b'{"n":"a\x00b"}', JSON, None), (b'\x00', JSON, None),
    (b'{"n":"\\ud800"}', JSON, None), (b'{"n":"a\nb"}', JSON, None), (b'\xef\xbb\xbf{"n":1}', JSON, None),
    (b'{"n":01}', JSON, None), (b'{"n":NaN}', JSON, None), (DEEP, JSON, 0),
    (DEEP + b"]" * 100000, JSON, 0), (b'{"a":' * 129 + b"1" + b"}" * 129, JSON, None),
    (b'{"a":' * 100000 + b"1" + b"}" * 100000, NDJSON, 0),
]


@pytest.mark.sanitize
def test_bad_json_is_refused_whole_and_disturbs_nothing(plain):
    conn = plain.connect()
    for number, (body, headers, item) in enumerate(BAD):
        status, answer, _ = plain.post(body, headers, conn=conn)
        assert (status, answer["error"].get("item")) == (400, item), (body[:50], answer)
        assert answer["error"]["code"] in ("bad_json", "too_deep"), answer
        assert 0 <= answer["error"].get("offset", 0) <= len(body)
        assert plain.post(json.dumps({"good": number}).encode(), conn=conn)[0] == 200
    assert plain.payloads() == [{"good": number} for number in range(len(BAD))]


def test_the_offset_of_an_error(plain):
    for body, headers, offset in ((b'[{"n":1},  {"n":x}]', JSON, 16), (b'{"n":1}\n{"n":x}', NDJSON, 13),
                                  (b'   {"n":x}', JSON, 8)):
        assert plain.post(body, headers)[1]["error"]["offset"] == offset


def test_partial_takes_the_good_items(edge):
    e = edge("partial: true")
    status, answer, _ = e.post(b'{"n":0}\n{"n":\n{"n":2}\nnope\n', NDJSON)
    assert (status, answer["accepted"], answer["rejected"]) == (207, 2, 2)
    assert [(i["item"], i["status"], i["code"]) for i in answer["items"]] == \
        [(1, "rejected", "bad_json"), (3, "rejected", "bad_json")]
    status, answer, _ = e.post(b"[x,y]")
    assert (status, answer["error"]["code"], len(answer["items"])) == (400, "bad_items", 2)
    assert [p["n"] for p in e.payloads()] == [0, 2]


def test_too_many_events(edge):
    e = edge("max_events: 3")
    assert e.post(b"[1,2,3]")[:2] == (200, {"accepted": 3})
    status, answer, _ = e.post(b"[1,2,3,4]")
    assert (status, answer["error"]["code"]) == (413, "too_many_events")
    assert len(e.kept()) == 3


def test_bodies_that_are_too_large(edge):
    e = edge("max_body: 10000")
    conn = e.connect()
    assert e.post(b'"' + b"a" * 9998 + b'"', conn=conn)[0] == 200
    for _ in range(2):  # a little too long: it is read, and the connection stays
        status, answer, _ = e.post(b'"' + b"a" * 9999 + b'"', conn=conn)
        assert (status, answer["error"]["code"]) == (413, "body_too_large")
    conn.request("POST", "/events", iter([b"a" * 6000] * 2), JSON, encode_chunked=True)
    assert conn.getresponse().status == 413
    endless = e.raw(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    assert endless.startswith(b"HTTP/1.1 413") and b"connection: close" in endless.lower()
    with e.socket() as s:
        s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(10000):
                s.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
    assert len(e.kept()) == 1


def test_a_client_that_sends_too_much_hears_why(edge):
    """It sends on while the answer is on its way: a reset must not take that answer away."""
    e = edge("max_body: 10000")
    body = b"a" * (12 << 20)
    for head, data in ((f"Content-Length: {len(body)}", body),
                       ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))):
        with e.socket() as s:
            s.sendall(f"POST /events HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + data)
            answer = read_all(s)
        assert answer.startswith(b"HTTP/1.1 413 ") and b'"body_too_large"' in answer, answer
    assert e.kept() == []


def test_expect_100_continue(edge):
    e = edge("max_body: 10000")
    ask = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n"
    with e.socket() as s:
        s.sendall(ask.format("/events", 7).encode())
        assert s.recv(100).startswith(b"HTTP/1.1 100")
        s.sendall(b'{"n":1}')
        assert read_answers(s, 1) == [(200, {"accepted": 1})]
    assert e.raw(ask.format("/events", 20000).encode()).startswith(b"HTTP/1.1 413")
    assert e.raw(ask.format("/nope", 7).encode()).startswith(b"HTTP/1.1 404")


# ---- Connections -------------------------------------------------------------------------------

def test_pipelined_requests_are_answered_in_order(plain):
    with plain.socket() as s:
        s.sendall(b"".join(request(b"[" + b",".join([b'{"n":%d}' % n] * n) + b"]") for n in range(50)))
        assert read_answers(s, 50) == [(200, {"accepted": n}) for n in range(50)]
    assert [p["n"] for p in plain.payloads()] == [n for n in range(50) for _ in range(n)]


def test_http_1_0_and_close(plain):
    assert plain.raw(request(b'{"n":1}', version="1.0")).startswith(b"HTTP/1.1 200")
    assert plain.raw(request(b'{"n":2}', "Connection: close\r\n")).startswith(b"HTTP/1.1 200")
    kept_alive = request(b'{"n":3}', "Connection: Keep-Alive\r\n", version="1.0")
    answers = plain.raw(kept_alive * 2 + request(b'{"n":4}', version="1.0") + kept_alive)
    assert answers.count(b"HTTP/1.1 200") == 3 and answers.count(b"Connection: keep-alive\r\n") == 2, answers
    closed = plain.raw(request(b'{"n":5}', "Connection: keep-alive, close\r\nConnection: TE\r\n") + kept_alive)
    assert closed.count(b"HTTP/1.1 200") == 1 and b"Connection: close\r\n" in closed, closed
    assert [p["n"] for p in plain.payloads()] == [1, 2, 3, 3, 4, 5]


@pytest.mark.sanitize
def test_clients_that_close_their_side_first(edge, receiver):
    """All that was sent before is answered, at once or when its events have ended."""
    r = receiver()
    e = edge(sink=r.sink(", on_reject: drop"))
    r.go.clear()
    with e.socket() as s:
        s.sendall(b"".join(request(b'{"n":%d}' % n) for n in range(5)) + request(b"{", path="/nowhere") +
                  request(b'{"n":5}'))
        s.shutdown(socket.SHUT_WR)
        wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") == 1, 10)
        r.go.set()
        assert [status for status, _ in read_answers(s, 7)] == [200] * 5 + [404, 200]
        assert s.recv(1) == b""
    assert [p["n"] for p, _ in r.got] == list(range(6))
    wait_until(lambda: e.running.metric("weir_http_connections") == 0, 10)


def test_a_refused_request_leaves_its_connection_usable(edge):
    e = edge("tokens: [token-token-token-1]")
    conn, good = e.connect(), {**JSON, "Authorization": "Bearer token-token-token-1"}
    for _ in range(3):
        assert e.post(b'{"n":1}' * 1000, conn=conn)[0] == 401
        local = conn.sock.getsockname()
        assert e.post(b'{"n":1}', good, conn=conn)[0] == 200
        assert conn.sock.getsockname() == local


def test_slow_clients_are_cut_off(edge):
    e = edge("request_timeout: 700ms\n    max_wait: 500ms\n    keep_alive: 600ms")
    slow = [b"", b"POST /ev", b"POST /events HTTP/1.1\r\nHo", b"POST /events HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 10000\r\n\r\n{", request(b'{"n":1}')]
    found = []

    def client(start):
        began = time.monotonic()
        with e.socket() as s:
            s.sendall(start)
            s.settimeout(0.05)
            data = b""
            while time.monotonic() < began + 10:
                try:
                    part = s.recv(1000)
                    if not part:
                        break
                    data += part
                except TimeoutError:
                    if not data:
                        s.send(b" ")  # drips
                except ConnectionError:
                    break
                except BrokenPipeError:
                    break
            found.append((start, time.monotonic() - began, data))

    threads = [threading.Thread(target=client, args=(start,)) for start in slow]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert len(found) == len(slow)
    for start, seconds, data in found:
        assert seconds < 3, (start, seconds)
        if start.endswith(b"{"):
            assert data.startswith(b"HTTP/1.1 408") and b'"request_timeout"' in data, data
    assert e.post(b'{"n":2}')[0] == 200


def test_an_answer_that_nobody_reads(edge):
    e = edge("request_timeout: 500ms\n    max_wait: 400ms")
    with e.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(1)
        with pytest.raises(OSError):  # its answers fill the buffers, then it is cut off
            while True:
                s.sendall(request(b'[{"n":1}]') * 1000)
    assert e.post(b'{"n":2}')[0] == 200


def test_lanes_do_not_pass_the_limit_of_connections_together(edge):
    e = edge("max_connections: 5\n    keep_alive: 60s\n    lanes: 4")
    for _ in range(20):
        waiting = [e.socket() for _ in range(40)]
        wait_until(lambda: e.running.metric("weir_http_connections") == 5, 20)
        assert e.running.metric("process_open_fds") < 5 + 40, "only five are accepted"
        for s in waiting:
            s.close()
    assert e.post(b'{"n":1}')[0] == 200


def test_more_connections_than_allowed_wait(edge):
    e = edge("max_connections: 8\n    keep_alive: 60s")
    held = [e.connect() for _ in range(8)]
    for conn in held:
        assert e.post(b'{"n":1}', conn=conn)[0] == 200
    late = []
    threads = [threading.Thread(target=lambda: late.append(e.post(b'{"n":2}')[0])) for _ in range(4)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    assert late == []
    assert e.running.metric("weir_http_connections") == 8
    for conn in held:
        conn.close()
    for t in threads:
        t.join(10)
    assert late == [200] * 4


def test_no_descriptors_left(edge):
    e = edge()
    pid, first = e.running.pid, e.connect()
    assert e.post(b'{"n":1}', conn=first)[0] == 200
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = int(e.running.metric("process_open_fds"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, hard))
    waiting = [e.socket() for _ in range(10)]
    for s in waiting:
        s.sendall(request(b'{"n":2}'))
    wait_until(lambda: e.running.find_log("cannot accept"), 20, "the want of descriptors is told")
    assert e.post(b'{"n":3}', conn=first)[0] == 200, "open connections go on"
    assert len(e.running.find_log("cannot accept")) < 10
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    for s in waiting:
        assert read_answers(s, 1) == [(200, {"accepted": 1})]
        s.close()


@pytest.mark.parametrize("hard, taken", [(300, 172), (20000, 400)])
def test_clients_never_take_the_last_file(weir, monkeypatch, hard, taken):
    """The rest of the process has its part; as far as it is allowed to, weir asks for more."""
    monkeypatch.setenv("WEIR_WRAPPER", f"prlimit --nofile=300:{hard} {os.environ.get('WEIR_WRAPPER', '')}")
    e = Edge(weir, "max_connections: 5000\n    keep_alive: 60s")
    told = e.running.find_log("fewer connections than max_connections")
    assert [int(line["max_connections"]) for line in told] == ([172] if taken == 172 else [])
    held = [e.socket() for _ in range(400)]
    wait_until(lambda: e.running.metric("weir_http_connections") == taken, 20)
    assert e.running.metric("process_open_fds") < min(hard, taken + 100), "the others have theirs"
    assert not e.running.find_log("cannot accept")
    for s in held:
        s.close()
    assert e.post(b'{"n":1}')[0] == 200


@pytest.mark.sanitize
def test_lanes_share_the_connections(edge):
    e = edge("lanes: 2", sink="{type: file, path: out.ndjson, on_reject: drop}")
    conns = [e.connect() for _ in range(16)]
    errors = []

    def work(conn, first):
        for n in range(first, first + 60):
            status, answer, _ = e.post(b'[{"n":%d},{"n":%d}]' % (n, -n), conn=conn)
            if (status, answer) != (200, {"accepted": 2}):
                errors.append((status, answer))

    threads = [threading.Thread(target=work, args=(c, i * 60)) for i, c in enumerate(conns)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert errors == []
    kept = [json.loads(line)["n"] for line in (e.folder / "out.ndjson").read_text().splitlines()]
    assert sorted(n for n in kept if n > 0) == list(range(1, 960))
    assert e.running.metric("weir_http_responses_total", code="200") == 960


# ---- A sink that says no, or nothing -----------------------------------------------------------

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


@pytest.fixture
def receiver():
    made = []

    def start(*args):
        made.append(Receiver(*args))
        return made[-1]

    yield start
    for r in made:
        r.close()


TEN = json.dumps([{"n": n} for n in range(10)]).encode()


def odd_one(payload):
    return 422 if payload["n"] == 7 else 200


def test_dead_letters_answer_202(edge, receiver):
    e = edge(sink=receiver(odd_one).sink(),
             more="  dead: {type: file, path: dead.ndjson}\ndead_letter: dead")
    status, answer, _ = e.post(TEN)
    assert (status, answer["accepted"], len(answer["items"])) == (202, 10, 1)
    item = answer["items"][0]
    assert (item["item"], item["status"], item["component"]) == (7, "dead_lettered", "out")
    assert "422" in item["message"] and "told so" in item["message"]
    dead = json.loads((e.folder / "dead.ndjson").read_text())
    assert '{"n": 7}' in (dead["payload"] if isinstance(dead["payload"], str) else json.dumps(dead))


def test_filtered_split_and_failed_events(edge):
    e = edge(sink="{type: file, path: out.ndjson, inputs: [hook], on_reject: drop}", more="""
transforms:
  keep: {type: filter, inputs: [in], condition: event.n ~= 3}
  hook:
    type: lua
    inputs: [keep]
    on_error: drop
    code: |
      function process(event)
        if event.n == 5 then error("not this one") end
        if event.n == 7 then return {event, event} end
        return event
      end
""")
    status, answer, _ = e.post(TEN)
    assert (status, answer["accepted"]) == (200, 10)
    assert [(i["item"], i["status"]) for i in answer["items"]] == [(3, "filtered"), (5, "dropped")]
    assert answer["items"][1]["component"] == "hook" and "not this one" in answer["items"][1]["message"]
    assert e.post(b'{"n":3}')[1] == {"accepted": 1, "items": [{"item": 0, "status": "filtered"}]}
    kept = [json.loads(line)["n"] for line in (e.folder / "out.ndjson").read_text().splitlines()]
    assert kept == [0, 1, 2, 4, 6, 7, 7, 8, 9]


def test_drops_are_told(edge, receiver):
    e = edge(sink=receiver(odd_one).sink(", on_reject: drop"))
    status, answer, _ = e.post(TEN)
    assert (status, answer["accepted"]) == (200, 10)
    assert [(i["item"], i["status"]) for i in answer["items"]] == [(7, "dropped")]


def test_a_pipeline_that_stops_answers_503(edge, receiver):
    e = edge(sink=receiver(odd_one).sink(", on_reject: stop"))
    status, answer, headers = e.post(TEN)
    assert status == 503 and int(headers["Retry-After"]) >= 1
    assert answer["error"]["code"] == "failed"
    assert 7 in [i["item"] for i in answer["items"] if i["status"] == "failed"]


@pytest.mark.sanitize
def test_answers_that_come_too_late(edge, receiver):
    r = receiver()
    e = edge("request_timeout: 400ms\n    max_wait: 300ms", sink=r.sink(", on_reject: drop"))
    r.go.clear()
    conn = e.connect()
    status, answer, headers = e.post(b'{"n":1}', conn=conn)
    assert (status, answer["error"]["code"]) == (503, "timeout") and "Retry-After" in headers
    r.go.set()
    wait_until(lambda: len(r.got) == 1, 10, "the event goes on and is delivered")
    time.sleep(0.2)  # its end comes to a request that nobody waits for
    assert e.post(b'{"n":2}', conn=conn)[:2] == (200, {"accepted": 1})
    assert [p["n"] for p, _ in r.got] == [1, 2]
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 5)


@pytest.mark.sanitize
def test_clients_that_go_while_they_wait(edge, receiver):
    r = receiver()
    e = edge(sink=r.sink(", on_reject: drop"))
    r.go.clear()
    for n in range(20):
        with e.socket() as s:
            s.sendall(request(b'{"n":%d}' % n))
            if n % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
            time.sleep(0.01)
    r.go.set()
    wait_until(lambda: len(r.got) == 20, 20, "all events are delivered")
    assert e.post(b'{"n":20}')[0] == 200
    wait_until(lambda: e.running.metric("weir_http_connections") <= 1, 10, "connections are closed")
    assert sorted(p["n"] for p, _ in r.got) == list(range(21))


def test_pressure_becomes_429_and_then_goes(edge, receiver):
    r = receiver()
    e = edge("max_wait: 500ms\n    request_timeout: 60s\n    lanes: 1",
             sink=r.sink(", on_reject: drop, buffer: {size: 64KiB}, batch: {events: 20}",
                         "array"))
    r.go.clear()
    answers, lock = [], threading.Lock()

    def client(n):
        got = e.post(json.dumps([{"n": n * 1000 + i, "pad": "x" * 300} for i in range(100)]).encode(),
                     conn=e.connect(90))
        with lock:
            answers.append((n, *got))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    wait_until(lambda: len(answers) >= 10, 20, "requests beyond the buffer are answered")
    for _, status, answer, headers in list(answers):
        assert (status, answer["error"]["code"]) == (429, "busy") and int(headers["Retry-After"]) >= 1
    r.go.set()
    for t in threads:
        t.join(60)
    refused = {n for n, status, _, _ in answers if status == 429}
    taken = {n for n, status, _, _ in answers if status == 200}
    assert len(refused) + len(taken) == 20 and taken
    assert sorted({p["n"] // 1000 for p, _ in r.got}) == sorted(taken)
    assert len(r.got) == 100 * len(taken)


def test_bytes_in_flight_are_bounded(edge, receiver):
    r = receiver()
    e = edge("max_body: 100KiB\n    max_in_flight: 250KiB\n    max_decompressed: 1MiB",
             sink=r.sink(", on_reject: drop"))
    r.go.clear()
    body, answers = json.dumps({"n": 0, "pad": "x" * 99000}).encode(), []
    threads = [threading.Thread(target=lambda: answers.append(e.post(body, conn=e.connect(60))))
               for _ in range(2)]
    for t in threads:
        t.start()
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") >= 2 * len(body), 10)
    status, answer, headers = e.post(body)
    assert (status, answer["error"]["code"]) == (429, "busy") and "Retry-After" in headers
    conn = e.connect()
    conn.request("POST", "/events", iter([body[:50000], body[50000:]]), JSON, encode_chunked=True)
    assert conn.getresponse().status == 429
    r.go.set()
    for t in threads:
        t.join(60)
    assert [a[0] for a in answers] == [200, 200]
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 5)
    assert e.post(body)[0] == 200


def test_bytes_in_flight_count_what_is_decompressed(edge, receiver):
    r = receiver()
    e = edge("max_body: 100KiB\n    max_in_flight: 250KiB\n    max_decompressed: 1MiB",
             sink=r.sink(", on_reject: drop"))
    r.go.clear()
    small = gzip.compress(json.dumps({"n": 0, "pad": "x" * 120000}).encode())
    large = gzip.compress(json.dumps({"n": 0, "pad": "x" * 900000}).encode())
    answers = []
    first = threading.Thread(target=lambda: answers.append(e.post(small, gz(), conn=e.connect(60))[0]))
    first.start()
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") >= 120000, 10)
    for _ in range(3):
        status, answer, headers = e.post(small, gz())
        assert (status, answer["error"]["code"]) == (429, "busy") and "Retry-After" in headers
        assert "decompressed" in answer["error"]["message"], answer
    r.go.set()
    first.join(60)
    assert answers == [200]
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 5)
    assert e.post(large, gz())[0] == 200, "one alone may be larger"


def test_a_long_list_of_errors(edge):
    """Each left out item has its error, however many there are."""
    e = edge("partial: true")
    body = b"x\n" * 50000 + b'{"n":1}\n'
    for _ in range(3):
        status, answer, _ = e.post(body, NDJSON)
        assert (status, answer["accepted"], answer["rejected"], len(answer["items"])) == (207, 1, 50000, 50000)
    with e.socket() as s:  # and one that nobody reads
        s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: len(e.kept()) == 4, 20)
        wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") > 1 << 20, 20, "it counts until it is read")
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 20)
    assert e.post(b'{"n":2}')[0] == 200


def test_bytes_in_flight_count_the_errors_of_items(edge, receiver):
    r = receiver()
    e = edge("partial: true", sink=r.sink(", on_reject: drop"))
    r.go.clear()
    answers = []
    first = threading.Thread(target=lambda: answers.append(e.post(b"x\n" * 50000 + b'{"n":1}', NDJSON, conn=e.connect(60))[0]))
    first.start()
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") > 50000 * 100, 20)
    r.go.set()
    first.join(60)
    assert answers == [207]
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 20)


# ---- Stopping ----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_sigterm_under_load_answers_everything(edge):
    e = edge(sink="{type: file, path: out.ndjson, on_reject: drop}")
    answered, refused, cut, lock = set(), 0, 0, threading.Lock()
    stop_at = 300

    def client(number):
        nonlocal refused, cut
        conn, n = e.connect(30), 0
        while True:
            ids = [f"{number}-{n}-{i}" for i in range(5)]
            try:
                status, answer, headers = e.post(json.dumps([{"id": i} for i in ids]).encode(), conn=conn)
            except (http.client.HTTPException, OSError):
                with lock:
                    cut += 1
                return
            with lock:
                if status == 200:
                    answered.update(ids)
                else:
                    assert status == 503 and "Retry-After" in headers, (status, answer)
                    refused += 1
            if headers.get("Connection") == "close":
                return
            n += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    wait_until(lambda: len(answered) >= stop_at, 30)
    e.running.stop()
    for t in threads:
        t.join(10)
    kept = [json.loads(line)["id"] for line in (e.folder / "out.ndjson").read_text().splitlines()]
    assert len(kept) == len(set(kept))
    assert answered <= set(kept)
    # What was taken was also answered: only connections without a request were cut.
    assert set(kept) == answered, (len(kept), len(answered), refused, cut)


def test_sigterm_while_requests_wait(edge, receiver):
    r = receiver()
    e = edge("lanes: 1", sink=r.sink(", on_reject: drop"))
    r.go.clear()
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(e.post(b'{"n":%d}' % n, conn=e.connect(60))))
               for n in range(5)]
    for t in threads:
        t.start()
    wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") == 5, 10)
    idle = e.connect()
    idle.connect()
    time.sleep(0.1)
    e.running.signal(15)
    time.sleep(0.5)
    with pytest.raises(OSError):
        e.connect(2).connect()
    status, answer, headers = e.post(b'{"n":9}', conn=idle)
    assert (status, answer["error"]["code"], headers["Connection"]) == (503, "stopping", "close")
    r.go.set()
    for t in threads:
        t.join(20)
    assert [(a[0], a[1], a[2]["Connection"]) for a in answers] == [(200, {"accepted": 1}, "close")] * 5
    e.running.wait()
    assert sorted(p["n"] for p, _ in r.got) == list(range(5))


def test_the_deadline_of_the_shutdown_answers_503(edge, receiver):
    r = receiver()
    e = edge(sink=r.sink(", on_reject: drop"), more="shutdown_timeout: 1s")
    r.go.clear()
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(e.post(b'{"n":%d}' % n, conn=e.connect(60))))
               for n in range(5)]
    for t in threads:
        t.start()
    wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") == 5, 10)
    e.running.stop(expect=None)
    for t in threads:
        t.join(20)
    assert [a[0] for a in answers] == [503] * 5
    assert all(a[1]["error"]["code"] == "failed" for a in answers)


def test_load_of_many_clients(edge):
    e = edge(sink="{type: file, path: out.ndjson, on_reject: drop}")
    load = Load(f"http://127.0.0.1:{e.port}/events", events(20000), batch=100, clients=8).start()
    load.join(60)
    kept = [json.loads(line)["id"] for line in (e.folder / "out.ndjson").read_text().splitlines()]
    assert len(kept) == 20000 and set(kept) == load.answered


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


# ---- Addresses ---------------------------------------------------------------------------------

def test_a_free_port_is_picked_and_logged(weir):
    running = weir.start(pipeline(0))
    address = running.wait_log("listening", component="in")[0]["address"]
    conn = http.client.HTTPConnection(address, timeout=10)
    conn.request("POST", "/events", b"{}", JSON)
    assert conn.getresponse().status == 200


@pytest.mark.parametrize("address, connect", [("'[::1]:{}'", "::1"), ("'[::]:{}'", "127.0.0.1"),
                                              ("':{}'", "::1"), ("localhost:{}", "localhost"),
                                              ("'*:{}'", "127.0.0.1")])
def test_addresses(weir, address, connect):
    port = free_port()
    weir.start(pipeline(1).replace("127.0.0.1:1", address.format(port)))
    conn = http.client.HTTPConnection(connect, port, timeout=10)
    conn.request("POST", "/events", b"{}", JSON)
    assert conn.getresponse().status == 200


def test_an_address_that_is_taken(weir):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        running = weir.start(pipeline(port), ready=False)
        running.wait(expect=1)
    assert f"127.0.0.1:{port}" in running.stderr and "in use" in running.stderr
    assert "another port" in running.stderr


# ---- Configuration -----------------------------------------------------------------------------

WRONG = [
    ("address: 8080", "port"), ("address: 127.0.0.1", "port"), ("address: 127.0.0.1:99999", "65535"),
    ("address: '::1:80'", "brackets"), ("address: 'a b:80'", "space"), ("address: ''", "address"),
    ("path: events", "'/'"), ("path: ['/a b']", "percent"), ("path: [/a, /a]", "twice"), ("path: []", "path"),
    ("path: ['/a?b=1']", "percent"),
    ("tokens: ['']", "empty"), ("tokens: []", "tokens"), ("tokens: [\"secret\\n\"]", "newline"), ("headers: ['x y']", "header"),
    ("headers: [Authorization]", "secret"), ("key: ['']", "empty"), ("max_body: 0", "max_body"),
    ("max_body: lots", "max_body"), ("max_in_flight: 1MiB", "max_body"),
    ("max_decompressed: 1MiB", "max_body"), ("max_wait: 60s", "request_timeout"),
    ("request_timeout: 0s", "request_timeout"), ("max_events: 0", "max_events"),
    ("max_connections: none", "max_connections"), ("adress: 127.0.0.1:80", "address"),
    ("retry_after: 10ms", "retry_after"), ("max_head: 10", "max_head"),
    ("partial: perhaps", "partial"),
]


def test_wrong_configurations(weir):
    for options, word in WRONG:
        text = f"""
name: wrong
sources:
  in:
    type: http
    {options}
sinks:
  out: {{type: blackhole, on_reject: drop}}
"""
        checked = weir.check(text, expect=1)
        assert re.search(r":\d+:\d+: error", checked.text), checked
        assert word in checked.text, (options, checked)
        assert options.split(":")[0] in checked.text
    weak = weir.check(pipeline(80, "tokens: [short]"), expect=0)
    assert "warning" in weak.text and "16" in weak.text and "short" not in weak.text.split("found")[-1]


def test_the_reference_names_every_option(weir):
    shown = weir.command("plugins", "http").out
    for option in ("address", "path", "methods", "tokens", "token_file", "basic", "hmac.secrets", "tls.cert",
                   "cors.origins", "key", "id_field", "headers", "query", "partial", "max_body",
                   "max_decompressed", "max_ratio", "max_events", "max_in_flight", "max_wait",
                   "max_connections", "max_head", "request_timeout", "keep_alive", "retry_after",
                   "application/x-weir+ndjson"):
        assert option in shown, option
