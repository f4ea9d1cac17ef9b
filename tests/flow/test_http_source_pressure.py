# SPDX-License-Identifier: Apache-2.0
"""The source `http`: what clients hear of a sink that says no or nothing, pressure, and the shutdown."""
import gzip
import http.client
import json
import socket
import threading
import time

import pytest

from http_edge import JSON, NDJSON, edge, gz, receiver, request
from weirtest import Load, events, wait_until


# ---- A sink that says no, or nothing -----------------------------------------------------------

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


def test_a_preflight_that_brings_nothing_is_answered_under_pressure(edge, receiver):
    """A page is not told why a preflight failed; the 429 of what follows it can be read."""
    r = receiver()
    e = edge("max_body: 100KiB\n    max_in_flight: 100KiB\n    max_decompressed: 1MiB\n"
             "    cors: {origins: ['https://a.example']}", sink=r.sink(", on_reject: drop"))
    r.go.clear()
    body = gzip.compress(json.dumps({"n": 0, "pad": "x" * 300000}).encode())
    first = threading.Thread(target=lambda: e.post(body, gz(), conn=e.connect(60)))
    first.start()
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") >= 300000, 10)
    ask = (b"OPTIONS /events HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nConnection: close\r\n"
           b"Access-Control-Request-Method: POST\r\n")
    assert e.raw(ask + b"\r\n").startswith(b"HTTP/1.1 204")
    assert e.raw(ask + b"Content-Length: 0\r\n\r\n").startswith(b"HTTP/1.1 204")
    assert e.raw(ask + b"Content-Length: 1\r\n\r\nx").startswith(b"HTTP/1.1 429")
    assert e.raw(ask + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").startswith(b"HTTP/1.1 429")
    status, answer, headers = e.post(b"{}", {**JSON, "Origin": "https://a.example"})
    assert status == 429 and headers["Access-Control-Allow-Origin"] == "https://a.example"
    r.go.set()
    first.join(60)


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


def five_wait(e):
    """Five requests that have come in and are not answered: their threads, and where the answers will be."""
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(e.post(b'{"n":%d}' % n, conn=e.connect(60))))
               for n in range(5)]
    for t in threads:
        t.start()
    wait_until(lambda: e.running.metric("weir_component_received_events_total", component="in") == 5, 10)
    return threads, answers


def test_sigterm_while_requests_wait(edge, receiver):
    r = receiver()
    e = edge("lanes: 1", sink=r.sink(", on_reject: drop"))
    r.go.clear()
    threads, answers = five_wait(e)
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
    threads, answers = five_wait(e)
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
