# SPDX-License-Identifier: Apache-2.0
"""The source `http`: requests of very many items, which are taken in parts."""
import json
import threading
import time

import pytest

from http_edge import JSON, NDJSON, WEIR, edge, plain, receiver  # noqa: F401 (fixtures)
from weirtest import wait_until

MANY = 10000  # a lane takes 2,048 at once


def numbers(n):
    return b"[" + b",".join(b'{"n":%d}' % i for i in range(n)) + b"]"


def lines(n, bad=()):
    return b"".join(b"no json\n" if i in bad else b'{"n":%d}\n' % i for i in range(n))


@pytest.mark.sanitize
@pytest.mark.parametrize("n", [2047, 2048, 2049, MANY])
@pytest.mark.parametrize("body, headers", [(numbers, JSON), (lines, NDJSON)], ids=["array", "lines"])
def test_all_items_come_once_and_in_order(edge, n, body, headers):
    e = edge("lanes: 1")
    assert e.post(body(n), headers)[:2] == (200, {"accepted": n})
    assert [payload["n"] for payload in e.payloads()] == list(range(n))
    assert e.running.metric("weir_http_in_flight_bytes") == 0


def test_what_the_head_says_is_of_every_item(edge):
    e = edge("path: '/t/{tenant}'\n    headers: [x-request-id]\n    query: [source]\n    lanes: 1")
    status, answer, _ = e.post(numbers(MANY), {**JSON, "Idempotency-Key": "key-1", "X-Request-Id": "r7"}, path="/t/a%20b?source=web")
    assert (status, answer) == (200, {"accepted": MANY})
    kept = e.kept()
    assert [event["id"] for event in kept] == [f"key-1/{i}" for i in range(MANY)]
    for event in kept:
        assert {h["name"]: h["value"] for h in event["headers"]} == {"tenant": "a b", "source": "web", "x-request-id": "r7"}


def test_weir_items_keep_what_they_bring(edge):
    e = edge("lanes: 1")
    body = b"".join(json.dumps({"id": f"i{n}", "key": f"k{n}", "time_ns": n + 1, "payload": {"n": n},
                                "headers": [{"name": "h", "value": str(n)}]}).encode() + b"\n" for n in range(5000))
    assert e.post(body, WEIR)[:2] == (200, {"accepted": 5000})
    kept = e.kept()
    assert [(k["id"], k["key"], k["payload"]["n"], k["headers"][0]["value"]) for k in kept] == \
        [(f"i{n}", f"k{n}", n, str(n)) for n in range(5000)]


def test_raw_lines(edge):
    e = edge("codec: raw\n    lanes: 1")
    assert e.post(b"".join(b"line %d\n" % n for n in range(MANY)), NDJSON)[:2] == (200, {"accepted": MANY})
    assert len(e.kept()) == MANY


@pytest.mark.parametrize("bad", [0, 2047, 2048, 2049, MANY - 1])
def test_one_bad_item_refuses_all(edge, bad):
    e = edge("lanes: 1")
    status, answer, _ = e.post(lines(MANY, {bad}), NDJSON)
    assert (status, answer["error"]["item"]) == (400, bad)
    assert lines(MANY, {bad})[answer["error"]["offset"]:].startswith(b"no json") or answer["error"]["offset"] > 0
    status, answer, _ = e.post(numbers(MANY)[:-1], JSON)
    assert status == 400
    assert e.kept() == [] and e.post(b'{"n":1}')[0] == 200
    wait_until(lambda: len(e.kept()) == 1, 10)


def test_items_are_left_out(edge):
    e = edge("partial: true\n    lanes: 1")
    bad = {0, 7, 2047, 2048, 5000, MANY - 1}
    status, answer, _ = e.post(lines(MANY, bad), NDJSON)
    assert (status, answer["accepted"], answer["rejected"]) == (207, MANY - len(bad), len(bad))
    assert {item["item"] for item in answer["items"]} == bad
    assert [p["n"] for p in e.payloads()] == [n for n in range(MANY) if n not in bad]
    status, answer, _ = e.post(b"x\n" * MANY, NDJSON)
    assert (status, answer["error"]["code"]) == (400, "bad_items")


def test_a_long_id_of_a_late_item_refuses_all(edge):
    e = edge("id_field: id\n    lanes: 1")
    body = b"".join(json.dumps({"id": "x" * (2000 if n == 9000 else 5)}).encode() + b"\n" for n in range(MANY))
    status, answer, _ = e.post(body, NDJSON)
    assert (status, answer["error"]["code"], answer["error"]["item"]) == (400, "bad_id", 9000)
    assert e.kept() == []


@pytest.mark.sanitize
def test_a_client_that_goes_while_its_request_is_taken(edge, receiver):
    """What the head said is still there for the last part."""
    r = receiver()
    e = edge("headers: [x-request-id]\n    lanes: 1",
             sink=r.sink(", on_reject: drop, buffer: {size: 64KiB}, batch: {events: 100}", "array"))
    r.go.clear()
    with e.socket() as s:
        body = numbers(MANY)
        s.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nX-Request-Id: r7\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") > 0, 20)
    time.sleep(0.2)
    assert e.running.metric("weir_component_received_events_total", component="in") < MANY, "as there is room"
    r.go.set()
    wait_until(lambda: len(r.got) == MANY, 60)
    assert [p["n"] for p, _ in r.got] == list(range(MANY))
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 10)


@pytest.mark.sanitize
def test_a_stop_in_the_middle(edge, receiver):
    """Everything is delivered and answered; at the deadline nothing is called accepted that was not."""
    r = receiver()
    e = edge("lanes: 1", sink=r.sink(", on_reject: drop, buffer: {size: 64KiB}, batch: {events: 100}", "array"))
    answers = []
    r.go.clear()
    client = threading.Thread(target=lambda: answers.append(e.post(numbers(MANY), conn=e.connect(60))))
    client.start()
    wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") > 0, 20)
    e.running.signal(15)
    time.sleep(0.3)
    r.go.set()
    client.join(60)
    assert answers[0][:2] == (200, {"accepted": MANY})
    e.running.wait()
    assert [p["n"] for p, _ in r.got] == list(range(MANY))


def test_the_deadline_in_the_middle(edge, receiver):
    r = receiver()
    e = edge("lanes: 1", sink=r.sink(", on_reject: drop, buffer: {size: 64KiB}, batch: {events: 100}", "array"),
             more="shutdown_timeout: 1s")
    answers = []
    r.go.clear()
    client = threading.Thread(target=lambda: answers.append(e.post(numbers(MANY), conn=e.connect(60))))
    client.start()
    wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") > 0, 20)
    e.running.stop(expect=None)
    client.join(60)
    assert answers[0][0] == 503 and answers[0][1]["error"]["code"] == "failed"


def test_a_request_that_takes_too_long(edge, receiver):
    r = receiver()
    e = edge("lanes: 1\n    request_timeout: 700ms\n    max_wait: 500ms",
             sink=r.sink(", on_reject: drop, buffer: {size: 64KiB}, batch: {events: 100}", "array"))
    r.go.clear()
    status, answer, _ = e.post(numbers(MANY))
    assert (status, answer["error"]["code"]) == (503, "timeout")
    r.go.set()
    wait_until(lambda: len(r.got) == MANY, 60)
    assert e.post(b'{"n":1}')[0] == 200
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 10)


def test_a_list_that_would_be_too_long_ends_early(edge):
    e = edge("lanes: 1\n    partial: true\n    max_body: 1MiB\n    max_decompressed: 1MiB\n    max_in_flight: 1MiB")
    status, answer, _ = e.post(b"x\n" * 3000 + b'{"n":1}\n', NDJSON)
    assert (status, answer["accepted"], answer["rejected"]) == (207, 1, 3000)
    assert len(answer["items"]) > 500 and len(answer["items"]) + answer["more"] == 3000
    status, answer, _ = e.post(b"x\n" * 300 + b'{"n":1}\n', NDJSON)
    assert len(answer["items"]) == 300 and "more" not in answer
