# SPDX-License-Identifier: Apache-2.0
"""The source `http`: bodies, ids, keys, headers, what is wrong in bodies and in configurations."""
import base64
import gzip
import http.client
import json
import re
import socket
import subprocess
import time
import zlib

import pytest

from http_edge import JSON, NDJSON, WEIR, edge, gz, pipeline, plain, read_all, read_answers, request
from weirtest import free_port


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
