# SPDX-License-Identifier: Apache-2.0
"""The transform throttle: how fast, and what becomes of what is too much. Exact times have unit tests."""
import json
import signal
import threading
import time

import pytest
import requests

from redis_parts import HOSTILE_EVENTS, lines
from weirtest import free_port, wait_until


def pipeline(options, source="{type: file, path: in.ndjson}", sink="type: file, path: out.ndjson, mode: truncate",
             more=""):
    return f"""\
name: throttle
sources: {{in: {source}}}
transforms: {{t: {{type: throttle, inputs: [in], {options}}}}}
sinks:
  out: {{{sink}, inputs: [t]}}
  dead: {{type: file, path: dead.ndjson, mode: truncate}}
dead_letter: dead
{more}
"""


def read(weir, name="out.ndjson"):
    return [json.loads(line) for line in (weir.folder / name).read_bytes().splitlines()]


def web(port):
    return f"{{type: http, address: '127.0.0.1:{port}'}}"


@pytest.mark.sanitize
def test_what_is_too_much_waits_in_its_order(weir):
    weir.write(lines([{"n": n} for n in range(600)]), "in.ndjson")
    began = time.monotonic()
    weir.run(pipeline("rate: 200, burst: 20"))
    assert time.monotonic() - began >= 2.8
    assert [event["n"] for event in read(weir)] == list(range(600))
    assert read(weir, "dead.ndjson") == []


def test_a_high_rate_is_reached(weir):
    weir.write(lines([{"n": n} for n in range(30000)]), "in.ndjson")
    r = weir.start(pipeline("rate: 10000, burst: 1",
                            source="{type: file, path: in.ndjson, follow: true, start: beginning}"))
    r.wait_metric("weir_component_sent_events_total", 5000, component="t")
    begin, at = r.metric("weir_component_sent_events_total", component="t"), time.monotonic()
    r.wait_metric("weir_component_sent_events_total", 25000, component="t")
    took = time.monotonic() - at
    sent = r.metric("weir_component_sent_events_total", component="t") - begin
    assert sent / 10000 - 0.3 <= took <= sent / 10000 + 3
    assert r.metric("weir_throttle_waited_events_total", component="t") > 10000
    r.stop()


@pytest.mark.sanitize
def test_the_lanes_of_a_source_share_the_rate(weir):
    r = weir.start(pipeline("rate: 500, burst: 1, key: '{{ type | none }}', keys: 100",
                            source="{type: generate, lanes: 3}", sink="type: blackhole"))
    r.wait_metric("weir_component_sent_events_total", 100, component="t")
    begin, at = r.metric("weir_component_sent_events_total", component="t"), time.monotonic()
    time.sleep(2)
    rate = (r.metric("weir_component_sent_events_total", component="t") - begin) / (time.monotonic() - at)
    kinds = r.metric("weir_throttle_keys")
    assert kinds > 1 and rate <= 500 * kinds * 1.2
    r.stop()


def test_what_is_too_much_is_dropped_and_counted(weir):
    port = free_port()
    r = weir.start(pipeline("rate: 0.001, burst: 10, mode: drop", source=web(port)))
    answer = requests.post(f"http://127.0.0.1:{port}/events", json=[{"n": n} for n in range(50)], timeout=20)
    assert answer.status_code == 200, answer.text
    assert r.metric("weir_component_discarded_events_total", component="t", reason="throttled") == 40
    assert [event["n"] for event in read(weir)] == list(range(10))
    r.stop()


def test_each_key_has_its_own_rate(weir):
    weir.write(lines([{"u": u, "n": n} for n in range(10) for u in "abc"]), "in.ndjson")
    weir.run(pipeline("rate: 0.001, burst: 4, mode: error, key: '{{ u }}'"))
    assert [(e["u"], e["n"]) for e in read(weir)] == [(u, n) for n in range(4) for u in "abc"]
    dead = read(weir, "dead.ndjson")
    assert len(dead) == 18 and {d["code"] for d in dead} == {"throttled"}
    assert 'more than 0.001 events a second with the key "a"' in dead[0]["reason"]
    assert json.loads(dead[0]["payload"]) == {"u": "a", "n": 4}


def test_http_clients_wait(weir):
    port = free_port()
    r = weir.start(pipeline("rate: 20, burst: 1", source=web(port)))
    took, codes = [], []

    def send(n):
        began = time.monotonic()
        codes.append(requests.post(f"http://127.0.0.1:{port}/events", json={"n": n}, timeout=30).status_code)
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 20 and max(took) >= 0.8
    assert sorted(event["n"] for event in read(weir)) == list(range(20))
    r.stop()


def test_the_end_loses_nothing(weir, kafka):
    topic = kafka.topic(partitions=2)
    kafka.produce(topic, [{"n": n} for n in range(300)], key=lambda i, v: str(i))
    source = (f"{{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], group: {topic}, start: earliest, "
              "commit_interval: 100ms}")
    text = pipeline("rate: 50, burst: 1", source=source,
                    sink="type: file, path: out.ndjson", more="shutdown_timeout: 1s")
    r = weir.start(text)
    r.wait_metric("weir_component_sent_events_total", 40, component="out")
    r.signal(signal.SIGTERM)
    r.wait(expect=None, timeout=30)
    assert 40 <= len(read(weir)) < 290
    r = weir.start(text.replace("rate: 50", "rate: 5000"))
    wait_until(lambda: len({event["n"] for event in read(weir)}) == 300, 60)
    r.stop()


def test_hostile_events(weir):
    weir.write(lines(HOSTILE_EVENTS), "in.ndjson")
    weir.run(pipeline("rate: 100000, key: '{{ k }}'"))
    assert len(read(weir)) == 6 and len(read(weir, "dead.ndjson")) == len(HOSTILE_EVENTS) - 6
    codes = {d["code"] for d in read(weir, "dead.ndjson")}
    assert {"key_too_long", "missing_field", "bad_json"} <= codes
    weir.run(pipeline("rate: 0.001, burst: 3, mode: error"))
    assert (weir.folder / "out.ndjson").read_bytes() == b"".join(e + b"\n" for e in HOSTILE_EVENTS[:3])
    assert len(read(weir, "dead.ndjson")) == len(HOSTILE_EVENTS) - 3


@pytest.mark.parametrize("options, says", [
    ("burst: 1", '"rate" is missing'),
    ("rate: 0", "found 0"),
    ("rate: -5", "found -5"),
    ("rate: 1e12", "from 0.000001 to 1000000000"),
    ("rate: fast", "wrong type"),
    ("rate: '10'", "take the quotes away"),
    ("rate: .nan", "t.rate"),
    ("rate: .inf", "t.rate"),
    ("rate: 1, burst: -1", "too small"),
    ("rate: 1, burst: 1.5", "wrong type"),
    ("rate: 1, burst: 99999999999", "too large"),
    ("rate: 1, mode: block", '"wait"|wait, drop, error'),
    ("rate: 1, keys: 0, key: '{{ a }}'", "too small"),
    ("rate: 1, keys: 5", "only with `key`"),
    ("rate: 1, key: all", "the same for every event"),
    ("rate: 1, key: ''", "must not be empty"),
    ("rate: 1, key: '{{ a'", "t.key"),
    ("rate: 1, per: second", 'no option "per"|unknown'),
    ("rate: [1]", "wrong type"),
])
def test_wrong_configurations(weir, options, says):
    checked = weir.check(pipeline(options), expect=1)
    assert any(word in checked.text for word in says.split("|")), checked.text
    assert ".t" in checked.text and "pipeline-1.yaml:3:" in checked.text
