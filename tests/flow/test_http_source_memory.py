# SPDX-License-Identifier: Apache-2.0
"""The source `http` and memory: what a body becomes when it is decompressed and parsed stays within the limit, in
many lanes at once; and what fails for want of memory is never called the client's mistake."""
import base64
import gzip
import json
import threading

import pytest
import requests

from fault_rig import Faulty, expect_end, sweep
from http_edge import JSON, NDJSON, WEIR, Edge, gz
from test_memory import MIB, resident
from weirtest import free_port, wait_until

OPTIONS = "lanes: 4\n    max_ratio: 100000\n    max_body: 8MiB\n    max_decompressed: 32MiB"


def limited(weir, sink="{type: blackhole, on_reject: drop}"):
    """An edge that may have 256 MiB."""
    start = weir.start
    try:
        weir.start = lambda *files: start(*files, args=["--memory", "256MiB"])
        return Edge(weir, OPTIONS, sink=sink)
    finally:
        weir.start = start


def at_once(e, body, headers, n=16):
    """What so many clients hear that send it at the same time: (status, code of the error)."""
    heard = []

    def client():
        status, answer, _ = e.post(body, headers, conn=e.connect(120))
        heard.append((status, answer.get("error", {}).get("code")))

    threads = [threading.Thread(target=client, daemon=True) for _ in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(150)
    assert len(heard) == n, heard
    return heard


def text(size):
    return b'{"pad":"' + b"a" * (size - 10) + b'"}'


def ones(size):
    return b'{"a":[' + b"1," * (size // 2 - 5) + b"1]}"


def base64_lines(n, payload):
    return b"\n".join([b'{"payload_base64":"' + base64.b64encode(payload) + b'"}'] * n)


KINDS = {
    "text": (text(31 * MIB), gz()),
    "ones": (ones(31 * MIB), gz()),
    "ones, few enough": (ones(4 * MIB), gz()),
    "ones as they are": (ones(7 * MIB), JSON),
    "brackets": (b"[" * (31 * MIB), gz(NDJSON)),
    "an array of arrays": (b"[" + b",".join([ones(1 * MIB)[5:-1]] * 20) + b"]", gz()),
    "lines": (b"\n".join([ones(100_000)] * 200), gz(NDJSON)),
    "thousands of lines": (b"\n".join([ones(10_000)] * 2500), gz(NDJSON)),
    "members that nobody knows": (b"\n".join([b'{"x":%s,"payload":1}' % ones(5 * MIB)] * 4), gz(WEIR)),
    "base64": (base64_lines(4, ones(5 * MIB)), gz(WEIR)),
}


@pytest.mark.long(40)
@pytest.mark.parametrize("kind", KINDS)
def test_large_bodies_at_once_stay_within_the_limit(weir, kind):
    e = limited(weir)
    body, headers = KINDS[kind]
    heard = at_once(e, gzip.compress(body, 9) if "Content-Encoding" in headers else body, headers)
    now, most = resident(e.running.pid)
    assert e.running.alive and most < 256 * MIB, (now, most, heard)
    assert {status for status, _ in heard} <= {200, 413, 429, 503}, heard
    assert e.post(b'{"n":1}')[0] == 200, "and goes on afterwards"
    wait_until(lambda: e.running.metric("weir_http_in_flight_bytes") == 0, 20)


@pytest.mark.long(60)
def test_one_alone_has_room(weir):
    """As long as its values are not more than those of usual events; and all the room is given back."""
    e = limited(weir)
    usual = json.dumps({"events": [{"id": f"a{n}", "user": "somebody", "price": n / 7, "seen": n % 2 == 0}
                                   for n in range(400_000)]}).encode()
    assert 25 * MIB < len(usual) < 32 * MIB
    for _ in range(3):
        for body in (text(31 * MIB), usual, ones(4 * MIB)):
            assert e.post(gzip.compress(body, 1), gz())[:2] == (200, {"accepted": 1})
        for body in (ones(31 * MIB), b"[" * (31 * MIB), ones(10 * MIB)):
            status, answer, _ = e.post(gzip.compress(body, 1), gz(NDJSON))
            assert (status, answer["error"]["code"]) == (413, "too_many_values"), answer
        unknown = b'{"payload":1}\n' * 2100 + b'{"payload":1,"x":%s}' % ones(5 * MIB)
        for body in (base64_lines(4, ones(5 * MIB)), unknown):
            status, answer, _ = e.post(gzip.compress(body, 1), gz(WEIR))
            assert (status, answer["error"]["code"]) == (413, "too_many_values"), answer
    assert resident(e.running.pid)[1] < 256 * MIB


@pytest.mark.sanitize
def test_items_that_are_too_much_at_once_are_taken_in_parts(weir):
    """Of which there would be no more than 2,048: none is left out, and their order stays."""
    e = limited(weir, sink="{type: file, path: out.ndjson, on_reject: drop}")
    lines = [b'{"n":%d,%s' % (n, ones(100_000)[1:]) for n in range(150)]
    assert e.post(gzip.compress(b"\n".join(lines), 1), gz(NDJSON))[:2] == (200, {"accepted": 150})
    assert e.post(gzip.compress(b"[" + b",".join(lines) + b"]", 1), gz())[:2] == (200, {"accepted": 150})
    kept = (e.folder / "out.ndjson").read_bytes().splitlines()
    assert kept == lines * 2
    many = gzip.compress(base64_lines(2100, ones(1800)))
    assert e.post(many, gz(WEIR), conn=e.connect(60))[:2] == (200, {"accepted": 2100})
    assert (e.folder / "out.ndjson").read_bytes().splitlines()[300:] == [ones(1800)] * 2100
    bad = b"\n".join(lines[:100] + [b"{"] + lines[100:])
    status, answer, _ = e.post(gzip.compress(bad, 1), gz(NDJSON))
    assert (status, answer["error"]["item"]) == (400, 100), "one bad item refuses all"
    assert len((e.folder / "out.ndjson").read_bytes().splitlines()) == 2400


# ---- No memory is nobody's mistake -------------------------------------------------------------

PARTIAL = """
name: p
shutdown_timeout: 10s
sources: {in: {type: http, address: "127.0.0.1:PORT", lanes: 1, partial: true, key: number, id_field: [user, id]}}
sinks: {out: {type: file, path: out.ndjson, on_reject: drop, batch: {timeout: 2ms}}}
"""


def weir_items():
    """Each member of an item needs memory of its own to be read."""
    coded, escaped = base64.b64encode(b"x" * 30_000).decode(), "\u00e9" * 5_000
    payload = base64.b64encode(json.dumps({"pad": "y" * 30_000}).encode()).decode()
    many = [{"name": f"h{n}", "value": "v"} for n in range(1000)]
    for item in ({"key_base64": coded}, {"key": escaped}, {"headers": many}, {"unknown": list(range(20_000))},
                 {"headers": [{"name_base64": coded, "value_base64": coded}]},
                 {"payload_base64": payload}, {"time_ns": 1700000000000000000}, {"id": escaped[:100]}):
        yield json.dumps({"payload": {"n": 1, "number": 1.5, "user": {"id": 7}}} | item
                         if "payload_base64" not in item else item).encode()


@pytest.mark.long(60)
def test_no_memory_for_a_good_item_is_not_a_bad_item(weir):
    body, serial = b"\n".join(weir_items()), iter(range(1_000_000))

    def run_one(fault):
        port = free_port()
        run = Faulty(weir, weir.folder / f"run-{next(serial)}", PARTIAL.replace("PORT", str(port)), fault)
        try:
            wait_until(lambda: not run.alive or "listening" in run.stderr, 30, lambda: f"it listens\n{run}", 0.01)
            statuses = []
            while run.alive and statuses[-1:] != [200] and len(statuses) < 20:
                try:
                    answer = requests.post(f"http://127.0.0.1:{port}/events", body, headers=WEIR, timeout=10)
                    statuses.append(answer.status_code)
                    assert answer.status_code in (200, 503), (answer.text[:1000], str(run))
                except requests.RequestException:
                    statuses.append("cut")
            code = run.stop() if run.alive else run.wait()
        finally:
            run.process.kill()
            run.process.wait()
        expect_end(run, code)
        return run

    sweep(run_one, "alloc", few=40)
