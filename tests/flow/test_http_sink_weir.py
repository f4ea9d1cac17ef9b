# SPDX-License-Identifier: Apache-2.0
"""The sink `http` with `format: weir`, against weir's own http source."""
import json
import time

import pytest
import requests

from http_sink_rig import dead_letters, ns, numbers, pipeline, server  # noqa: F401
from weirtest import free_port, wait_until


def edge(port, more="", sink="{type: file, path: kept.ndjson, format: full, on_reject: drop}"):
    return f"""
name: edge
sources: {{in: {{type: http, address: "127.0.0.1:{port}"{more}}}}}
sinks: {{keep: {sink}}}
"""


def kept(weir):
    return [json.loads(line) for line in (weir.folder / "kept.ndjson").read_text().splitlines()]


@pytest.mark.sanitize
def test_ids_keys_headers_and_time_pass_from_weir_to_weir(weir):
    first, second = free_port(), free_port()
    weir.start(edge(second))
    weir.start(f"""
name: relay
sources: {{in: {{type: http, address: "127.0.0.1:{first}", key: user, headers: [traceparent]}}}}
sinks:
  on: {{type: http, url: "http://127.0.0.1:{second}/events", format: weir, compression: gzip, on_reject: drop}}
""")
    began = time.time_ns()
    url = f"http://127.0.0.1:{first}/events"
    body = '[{"user":"u1","s":"nul\\u0000\u00fc"}, {"user":17},\n {"pretty":\n1}, 9007199254740993, {"e":[],"o":{}}]'
    answer = requests.post(url, body.encode(), timeout=20, headers={
        "Idempotency-Key": "abc", "traceparent": "00-\u00fc".encode(), "Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 5})
    got = kept(weir)
    assert [e["id"] for e in got] == [f"abc/{n}" for n in range(5)]
    assert [e.get("key") for e in got] == ["u1", "17", None, None, None]
    assert [e["payload"] for e in got] == json.loads(body)
    assert all(e["headers"] == [{"name": "traceparent", "value": "00-\u00fc"}] for e in got)
    assert all(began < e["time_ns"] < time.time_ns() for e in got)
    items = [{"id": "t", "key_base64": "AP8=", "headers": [{"name": "h", "value_base64": "/w=="}], "tombstone": True}]
    answer = requests.post(url, "\n".join(map(json.dumps, items)), timeout=20,
                           headers={"Content-Type": "application/x-weir+ndjson"})
    assert answer.status_code == 200
    last = kept(weir)[-1]
    assert (last["id"], last["key_base64"], last["tombstone"]) == ("t", "AP8=", True)
    assert last["headers"] == items[0]["headers"]


@pytest.mark.parametrize("partial", ["false", "true"])
def test_items_that_the_other_weir_refuses(weir, partial):
    port = free_port()
    weir.start(edge(port, f", partial: {partial}"))
    lines = ['{"n":%d}' % n if n not in (0, 3, 4, 99) else "not json %d" % n for n in range(100)]
    running = weir.run(pipeline(weir, lines, f"http://127.0.0.1:{port}/events", "format: weir", source=", codec: raw"))
    assert [e["payload"]["n"] for e in kept(weir)] == [n for n in range(100) if n not in (0, 3, 4, 99)]
    dead = dead_letters(weir)
    assert [d["payload"] for d in dead] == [f"not json {n}" for n in (0, 3, 4, 99)]
    assert {d["code"] for d in dead} == {"item_rejected"} and "not JSON" in dead[0]["reason"]
    assert running.process.returncode == 0


def test_what_the_other_weir_keeps_as_dead_letters_is_delivered(weir, server):
    s = server(lambda r: 400 if json.loads(r.body)["n"] == 3 else 200)
    port = free_port()
    weir.start(f"""
name: edge
sources: {{in: {{type: http, address: "127.0.0.1:{port}"}}}}
sinks:
  on: {{type: http, inputs: [in], url: "{s.url}", format: single}}
  theirs: {{type: file, path: theirs.ndjson}}
dead_letter: theirs
""")
    weir.run(pipeline(weir, numbers(10), f"http://127.0.0.1:{port}/events", "format: weir"))
    assert dead_letters(weir) == []
    assert len((weir.folder / "theirs.ndjson").read_text().splitlines()) == 1
    assert sorted(ns(s.events())) == list(range(10))


def test_nothing_is_lost_when_the_other_weir_restarts(weir):
    port = free_port()
    text = edge(port, sink="{type: file, path: kept.ndjson, format: full, on_reject: drop}")
    second = weir.start(text)
    events = [{"n": n, "pad": "x" * 200} for n in range(30000)]
    first = weir.start(pipeline(weir, events, f"http://127.0.0.1:{port}/events",
                                "format: weir\n    batch: {events: 50}\n    retry: {initial: 10ms, max: 100ms}"),
                       ready=False)
    wait_until(lambda: (weir.folder / "kept.ndjson").exists() and len(kept_lines(weir)) > 2000, 30)
    second.stop()
    assert first.alive
    weir.start(text)
    first.wait(timeout=120)
    found = [json.loads(line) for line in kept_lines(weir)]
    assert {e["payload"]["n"] for e in found} == set(range(30000))
    assert len({e["id"] for e in found}) == 30000 and dead_letters(weir) == []
    # What the ended weir had answered was not sent again; only a request cut off by its end was.
    assert len(found) - 30000 <= 100


def kept_lines(weir):
    return (weir.folder / "kept.ndjson").read_bytes().splitlines()


def items(*ends, status=207, accepted=0, **more):
    """An answer of weir's http source: its items as (number, status)."""
    body = {"accepted": accepted, "items": [{"item": i, "status": word, "code": "c", "message": "m"} for i, word in ends]}
    return status, {}, json.dumps({**more, **{k: v for k, v in body.items() if v is not None}}).encode()


def payloads(request):
    return [json.loads(line)["payload"]["n"] for line in request.body.splitlines()]


def test_an_answer_that_refuses_the_request_delivers_none(weir, server):
    """A request with `partial` may be refused when some of its items are known to be bad: the others are not taken."""
    s = server(lambda r: items((1, "rejected"), status=503, accepted=None, error={"code": "timeout", "message": "m"})
               if len(s.requests) == 1 else items((1, "rejected"), accepted=4))
    weir.run(pipeline(weir, numbers(5), s.url, "format: weir\n    retry: {initial: 5ms, max: 10ms}"))
    assert [payloads(r) for r in s.requests] == [[0, 1, 2, 3, 4]] * 2
    assert [d["code"] for d in dead_letters(weir)] == ["item_rejected"]


def test_an_answer_too_long_to_be_kept_is_asked_for_in_halves(weir, server):
    """The item that was rejected stands behind 9 MiB of other things, so it is not seen at first."""
    s = server(lambda r: items((len(payloads(r)) - 1, "rejected"), accepted=len(payloads(r)) - 1,
                               pad="x" * (9 << 20) if len(payloads(r)) > 1 else "") if 3 in payloads(r) else 200)
    weir.run(pipeline(weir, numbers(4), s.url, "format: weir"))
    assert [payloads(r) for r in s.requests] == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert [d["payload"]["n"] if isinstance(d["payload"], dict) else json.loads(d["payload"])["n"]
            for d in dead_letters(weir)] == [3]


def test_what_follows_a_failed_item_does_not_overtake(weir, server):
    """The first request that fits is taken, and its items fail: the next one has to wait for them."""
    small = []

    def decide(r):
        if len(r.body) > 3000:
            return 413
        small.append(payloads(r))
        n = len(payloads(r))
        return items(*((i, "failed") for i in range(n)), status=503) if len(small) == 1 else 200

    s = server(decide)
    weir.run(pipeline(weir, [{"n": n, "pad": "x" * 200} for n in range(40)], s.url,
                      "format: weir\n    retry: {initial: 5ms, max: 10ms}"))
    assert small[0] == small[1][:len(small[0])]
    assert [n for part in small[1:] for n in part] == list(range(40)) and dead_letters(weir) == []


@pytest.mark.parametrize("answer", [
    b"", b"{", b"[]", b"5", b'{"items":5,"accepted":1}', b'{"items":[1,null,{"item":-1,"status":"failed"}],"accepted":4}',
    b'{"accepted":4,"items":[{"item":99,"status":"rejected"},{"item":1e30,"status":"rejected"},{"item":"0"}]}',
    b'{"accepted":4,"items":{"item":0,"status":"rejected"}}', b'\xff\xfe', b"[" * 5000, b'{"error":{"item":0}}',
])
def test_answers_that_no_weir_gives_count_by_their_status(weir, server, answer):
    s = server(lambda r: (200, {}, answer))
    weir.run(pipeline(weir, numbers(4), s.url, "format: weir"))
    assert len(s.requests) == 1 and dead_letters(weir) == []


def test_an_item_of_unknown_end_is_sent_again(weir, server):
    s = server(lambda r: items((2, "eaten"), status=200, accepted=5) if len(s.requests) == 1 else 200)
    weir.run(pipeline(weir, numbers(5), s.url, "format: weir\n    retry: {initial: 5ms, max: 10ms}"))
    assert [payloads(r) for r in s.requests] == [[0, 1, 2, 3, 4], [2]]
