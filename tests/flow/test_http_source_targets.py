# SPDX-License-Identifier: Apache-2.0
"""The source `http`: path parameters, the query and headers as an event's headers; methods; partial answers; slow
clients."""
import json
import random
import socket
import threading

import pytest

from http_edge import JSON, NDJSON, WEIR, assert_refused, edge, read_all, read_answers, request
from weirtest import wait_until


def headers_of(event):
    return {h["name"]: h["value"] if "value" in h else h["value_base64"] for h in event.get("headers", [])}


# ---- Paths, queries, headers ----------------------------------------------------------------------

@pytest.mark.sanitize
def test_parameters_become_headers(edge):
    e = edge("path: ['/v1/{tenant}/events', '/v1/{tenant}/{stream-name}/in', /plain]\n    query: [source, q]\n"
             "    headers: [x-a]")
    cases = [
        ("/v1/acme/events", {}, {"tenant": "acme"}),
        ("/v1/acme/orders/in?source=web", {}, {"tenant": "acme", "stream-name": "orders", "source": "web"}),
        ("/v1/a%20b%2Fc/events?source=x%26y+z&other=1", {"x-a": "1"}, {"tenant": "a b/c", "source": "x&y z", "x-a": "1"}),
        ("/v1/%c3%bc/events?q=&source", {}, {"tenant": "\u00fc", "q": "", "source": ""}),
        ("/plain?source=1&source=2&%71=enc", {"X-A": "t"}, {"source": "1", "q": "enc", "x-a": "t"}),
        ("/plain?&&=&source==&q=%25", {}, {"source": "=", "q": "%"}),
        ("http://host/v1/abs/events?q=1#frag", {}, {"tenant": "abs", "q": "1"}),
        ("/v1/a+b/events?", {}, {"tenant": "a+b"}),
        ("/v1/%7Bx%7D/events", {}, {"tenant": "{x}"}),
    ]
    for path, sent, _ in cases:
        assert e.post(b"{}", {**JSON, **sent}, path=path)[:2] == (200, {"accepted": 1}), path
    for event, (path, _, expected) in zip(e.kept(), cases):
        assert headers_of(event) == expected, path
    origins = [event["origin"]["name"] for event in e.kept()]
    assert origins[:2] == ["/v1/{tenant}/events", "/v1/{tenant}/{stream-name}/in"] and origins[4] == "/plain"


def test_targets_that_name_nothing(edge):
    e = edge("path: ['/v1/{tenant}/events']\n    query: [q]")
    for path in ("/v1//events", "/v1/a/b/events", "/v1/events", "/v1/a/events/", "/v1/a/Events", "/v1/a", "v1/a/events",
                 "/v1/a%2Fevents", "//v1/a/events", "/v2/a/events", "*"):
        assert e.post(b"{}", path=path)[0] == 404, path
    for path in ("/v1/%/events", "/v1/%4/events", "/v1/%zz/events", "/v1/a%00b/events", "/v1/a/events?q=%",
                 "/v1/a/events?q=%00", "/v1/a/events?q=%G1", "/v1/a/events?q=%2"):
        status, answer, _ = e.post(b"{}", path=path)
        assert (status, answer["error"]["code"]) == (400, "bad_target"), path
    assert e.post(b"{}", path="/v1/a/events?other=%")[0] == 200, "what is not kept is not looked at"
    long = e.raw(b"POST /v1/" + b"a" * 100000)
    assert long.split(b" ")[1] == b"414" and b"target_too_long" in long
    assert e.post(b"{}", path="/v1/" + "a" * 20000 + "/events")[0] == 200
    assert len(headers_of(e.kept()[1])["tenant"]) == 20000


def test_headers_that_come_several_times_are_one_list(edge):
    e = edge("headers: [x-tag, x-none]")
    answer = e.raw(request(b"{}", "X-Tag: a\r\nx-tag: b, c\r\nX-TAG:\r\nConnection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert headers_of(e.kept()[0]) == {"x-tag": "a, b, c, "}


def test_a_header_that_comes_very_often(edge):
    """To join them costs their length, not its square."""
    e = edge("headers: [x]\n    max_head: 1MiB")
    before = e.running.metric("process_resident_memory_bytes")
    answer = e.raw(request(b"{}", "x:a\r\n" * 150000 + "Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert headers_of(e.kept()[0]) == {"x": ", ".join("a" * 150000)}
    assert e.running.metric("process_resident_memory_bytes") < before + (64 << 20)


def test_own_headers_come_before_the_requests(edge):
    e = edge("path: ['/{who}']")
    line = json.dumps({"payload": {}, "headers": [{"name": "h", "value": "v"}]}).encode()
    assert e.post(line, WEIR, path="/me")[0] == 200
    assert e.kept()[0]["headers"] == [{"name": "h", "value": "v"}, {"name": "who", "value": "me"}]


def test_methods(edge):
    e = edge("methods: [PUT, PATCH]")
    assert e.post(b"{}", method="PUT")[0] == 200 and e.post(b"{}", method="PATCH")[0] == 200
    for method in ("POST", "GET", "DELETE", "OPTIONS", "put", "BREW"):
        status, answer, headers = e.post(b"{}", method=method)
        assert (status, answer["error"]["code"], headers["Allow"]) == (405, "method_not_allowed", "PUT, PATCH"), method


# ---- Partial ----------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_partial_answers_207_with_the_errors_by_index(edge):
    e = edge("partial: true\n    id_field: id")
    body = b'[{"id":"a"},{"id":},{"id":"b"},nope,{"id":"' + b"x" * 1025 + b'"},{"id":"c"}]'
    status, answer, headers = e.post(body)
    assert status == 207 and headers["Content-Type"] == "application/json"
    assert (answer["accepted"], answer["rejected"]) == (3, 3)
    assert [(i["item"], i["status"], i["code"]) for i in answer["items"]] == \
        [(1, "rejected", "bad_json"), (3, "rejected", "bad_json"), (4, "rejected", "bad_id")]
    assert all(len(i["message"]) > 10 for i in answer["items"])
    assert body[answer["items"][0]["offset"]:][:1] == b"}"
    assert [p["id"] for p in e.payloads()] == ["a", "b", "c"]
    status, answer, _ = e.post(b"{\n}\n[", NDJSON)
    assert (status, answer["error"]["code"], [i["item"] for i in answer["items"]]) == (400, "bad_items", [0, 1, 2])
    assert e.post(b'{"id":"d"}')[:2] == (200, {"accepted": 1}), "with nothing rejected it is an ordinary answer"
    status, answer, _ = e.post(b"[1,2")  # where the array itself breaks nobody knows the items behind
    assert status == 400 and answer["error"]["code"] == "bad_json"
    status, answer, _ = e.post(b'{"payload":{"id":"e"}}\n{"key":1,"payload":{}}\n{"payload":}\n', WEIR)
    assert (status, answer["accepted"], [i["item"] for i in answer["items"]]) == (207, 1, [1, 2])


def test_partial_and_what_the_pipeline_says(edge):
    e = edge("partial: true", sink="{type: file, path: out.ndjson, inputs: [keep], on_reject: drop}", more="""
transforms:
  keep: {type: filter, inputs: [in], condition: event.n ~= 2}
""")
    status, answer, _ = e.post(b'{"n":1}\nx\n{"n":2}\n{"n":3}\ny', NDJSON)
    assert (status, answer["accepted"], answer["rejected"]) == (207, 3, 2)
    assert [(i["item"], i["status"]) for i in answer["items"]] == [(1, "rejected"), (2, "filtered"), (4, "rejected")]


def test_partial_with_random_faults(edge):
    e = edge("partial: true")
    rng = random.Random(7)
    sent = 0
    for _ in range(30):
        good = [rng.random() < 0.7 for _ in range(rng.randrange(1, 60))]
        lines = [b'{"n":%d}' % n if ok else rng.choice([b"{", b"nul", b'"\xff"', b"{}}", b"[1,]"])
                 for n, ok in enumerate(good)]
        status, answer, _ = e.post(b"\n".join(lines), NDJSON)
        bad = [n for n, ok in enumerate(good) if not ok]
        assert status == (200 if not bad else 207 if any(good) else 400)
        assert [i["item"] for i in answer.get("items", [])] == bad
        sent += sum(good)
    assert len(e.kept()) == sent


# ---- Slow and broken clients --------------------------------------------------------------------------

TIMES = "request_timeout: 800ms\n    max_wait: 500ms\n    keep_alive: 700ms"
HEAD = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.sanitize
@pytest.mark.parametrize("start, drip, answer", [
    (b"", b"", b""),
    (b"P", b"O", b"408"),
    (HEAD, b"X-Y: z\r\n", b"408"),
    (HEAD + b"Content-Length: 100000\r\n\r\n{", b" ", b"408"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", b"408"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1", b";x", b"408"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n", b"A: b\r\n", b"408"),
    (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"a", b"408"),
    (b"\r\n\r\n", b"\r\n", b""),
])
def test_slow_clients_are_cut_at_their_deadline(edge, start, drip, answer):
    e = edge(TIMES)
    over, data = threading.Event(), b""
    with e.socket(60) as s:
        s.sendall(start)

        def dripping():
            while not over.wait(0.03):
                try:
                    s.sendall(drip)
                except OSError:
                    return

        t = threading.Thread(target=dripping)
        t.start()
        data = read_all(s)  # ends: the test's time limit is far behind
        over.set()
        t.join()
    assert data.split(b" ")[1:2] == ([answer] if answer else []), data
    if answer:
        assert b'"request_timeout"' in data and b"Connection: close" in data
    assert e.post(b"{}")[0] == 200


def test_many_slow_clients_disturb_nobody(edge):
    e = edge(TIMES.replace("800ms", "20s") + "\n    lanes: 1")
    slow = [e.socket(60) for _ in range(200)]
    for s in slow:
        s.sendall(HEAD + b"Content-Length: 10000\r\n\r\n{")
    for n in range(100):
        assert e.post(b'{"n":%d}' % n)[:2] == (200, {"accepted": 1})
    for s in slow:
        s.close()
    wait_until(lambda: e.running.metric("weir_http_connections") <= 1, 20)


def test_answers_that_nobody_reads(edge):
    e = edge(TIMES.replace("800ms", "4s") + "\n    partial: true")
    body = b"x\n" * 60000 + b"1"
    with e.socket(60) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: e.running.metric("weir_http_responses_total", code="207") == 1, 20)
        wait_until(lambda: e.running.metric("weir_http_connections") == 0, 20, "it is cut off")
    assert e.post(b"{}")[0] == 200


def test_clients_that_break_off_anywhere(edge):
    e = edge(TIMES)
    data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n3;x=y\r\n3,4\r\n1\r\n]\r\n0\r\nT: x\r\n\r\n"
    for at in range(len(data)):
        with e.socket() as s:
            s.sendall(data[:at])
            if at % 3 == 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
            elif at % 3 == 1:
                s.shutdown(socket.SHUT_WR)
                s.settimeout(20)
                assert read_all(s) == b"" or at < 8
    wait_until(lambda: e.running.metric("weir_http_connections") == 0, 20)
    assert e.kept() == []
    assert e.raw(data.replace(b"POST /events HTTP/1.1", b"POST /events HTTP/1.1\r\nConnection: close")) \
        .startswith(b"HTTP/1.1 200")


def test_memory_and_descriptors_after_many_connections(edge):
    e = edge("lanes: 2", sink="{type: blackhole, on_reject: drop}")

    def rounds(n):
        for i in range(n):
            with e.socket() as s:
                s.sendall(request(b'{"n":1}', "Connection: close\r\n") if i % 4 else b"POST /x" if i % 8 else
                          request(b"x" * 70000))
                if i % 16:
                    read_all(s) if i % 4 else None
        wait_until(lambda: e.running.metric("weir_http_connections") == 0, 20)
        return e.running.metric("process_resident_memory_bytes"), e.running.metric("process_open_fds")

    memory, files = rounds(800)
    later_memory, later_files = rounds(2400)
    assert later_files <= files + 2
    assert later_memory < memory + (6 << 20)


def test_connections_that_wait_hold_little(edge):
    """Those that have not sent anything yet, and those between two requests."""
    e = edge("max_connections: 2000\n    lanes: 1", sink="{type: blackhole, on_reject: drop}")

    def memory():
        return e.running.metric("process_resident_memory_bytes")

    def use(conn):
        conn.sendall(request(b"{}"))
        assert read_answers(conn, 1) == [(200, {"accepted": 1})]

    held = [e.socket(60)]
    use(held[0])
    before = memory()
    held += [e.socket(60) for _ in range(800)]
    wait_until(lambda: e.running.metric("weir_http_connections") == len(held), 20)
    assert (memory() - before) / 800 < 3000
    for conn in held:
        use(conn)
    assert (memory() - before) / 800 < 3000
    for conn in held:
        conn.close()


# ---- Configuration ------------------------------------------------------------------------------------

def test_wrong_configurations(weir):
    wrong = [
        ("path: ['/v1/{}/x']", "whole segment"), ("path: ['/v1/a{b}/x']", "whole segment"),
        ("path: ['/v1/{b']", "whole segment"), ("path: ['/v1/b}']", "whole segment"),
        ("path: ['/v1/{a b}']", "percent"), ("path: ['/v1/{a(b}']", "whole segment"),
        ("path: ['/{a}/{A}']", "twice"), ("path: ['/" + "/".join("{p%d}" % n for n in range(9)) + "']", "8 parameters"),
        ("path: ['/{a}']\n    query: [a]", "header"), ("path: ['/{a}']\n    headers: [A]", "header"),
        ("path: ['/{a}', /b]", "put this one first"), ("path: ['/a/{b}/c', '/a/{x}/c']", "put this one first"),
        ("headers: [x-a, X-A]", "twice"), ("query: [a, b, a]", "twice"),
        ("query: ['']", "128"), ("query: [a]\n    headers: [a]", "headers"), ("methods: [GET]", "POST"),
        ("methods: []", "methods"), ("max_ratio: 1", "max_ratio"), ("max_head: 2MiB", "max_head"),
    ]
    assert_refused(weir, wrong)
