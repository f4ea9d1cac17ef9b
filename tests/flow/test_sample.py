# SPDX-License-Identifier: Apache-2.0
"""The transform sample: which events stay, and that they stay the same ones. Statistics have unit tests."""
import json

import pytest
import requests

from redis_parts import HOSTILE_EVENTS, lines
from weirtest import free_port


def pipeline(options, source="{type: file, path: in.ndjson}", sink="type: file, path: out.ndjson, mode: truncate"):
    return f"""\
name: sample
sources: {{in: {source}}}
transforms: {{s: {{type: sample, inputs: [in], {options}}}}}
sinks:
  out: {{{sink}, inputs: [s]}}
  dead: {{type: file, path: dead.ndjson, mode: truncate}}
dead_letter: dead
"""


def read(weir, name="out.ndjson"):
    return [json.loads(line) for line in (weir.folder / name).read_bytes().splitlines()]


def test_by_key_each_process_and_lane_decides_alike(weir, kafka):
    events = [{"u": f"user-{n % 500}", "n": n} for n in range(5000)]
    weir.write(lines(events), "in.ndjson")
    options = "rate: 20%, by: '{{ u }}'"
    weir.run(pipeline(options))
    kept = read(weir)
    users = {event["u"] for event in kept}
    assert 60 <= len(users) <= 140
    assert kept == [event for event in events if event["u"] in users]
    weir.run(pipeline(options))
    assert read(weir) == kept
    weir.run(pipeline("rate: 1/2, by: '{{ u }}'"))
    assert users < {event["u"] for event in read(weir)}
    weir.run(pipeline("rate: 0.2, by: '{{ u }}', seed: 1"))
    assert {event["u"] for event in read(weir)} != users

    topic = kafka.topic(partitions=4)
    kafka.produce(topic, events, key=lambda i, v: str(i))
    r = weir.start(pipeline(options, f"{{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], "
                            f"group: {topic}, start: earliest, lanes: 2}}"))
    r.wait_metric("weir_component_received_events_total", 5000, component="s")
    r.wait_metric("weir_component_sent_events_total", len(kept), component="out")
    assert r.metric("weir_component_discarded_events_total", component="s", reason="sampled") == 5000 - len(kept)
    r.stop()
    assert sorted(event["n"] for event in read(weir)) == [event["n"] for event in kept]


def test_by_chance_about_as_many(weir):
    weir.write(lines([{"n": n} for n in range(20000)]), "in.ndjson")
    weir.run(pipeline("rate: 1/4"))
    first = [event["n"] for event in read(weir)]
    assert 4500 <= len(first) <= 5500
    weir.run(pipeline("rate: 1/4"))
    assert [event["n"] for event in read(weir)] != first


def test_some_are_always_kept_and_the_answer_says_what_became_of_the_others(weir):
    port = free_port()
    r = weir.start(pipeline("rate: 0, always: event.type == 'purchase'",
                            f"{{type: http, address: '127.0.0.1:{port}'}}"))
    url = f"http://127.0.0.1:{port}/events"
    answer = requests.post(url, json=[{"type": "purchase"}, {"type": "click"}, {"type": "purchase"}], timeout=20)
    assert answer.status_code == 200
    assert requests.post(url, json={"type": "click"}, timeout=20).status_code == 200
    assert read(weir) == [{"type": "purchase"}] * 2
    metrics = r.metrics()
    assert metrics.get("weir_component_discarded_events_total", component="s", reason="sampled") == 2
    assert metrics.get("weir_sample_always_events_total", component="s") == 2
    r.stop()


def test_hostile_events(weir):
    weir.write(lines(HOSTILE_EVENTS), "in.ndjson")
    weir.run(pipeline("rate: 1, by: '{{ k }}', always: event.k == 'ok1'"))
    dead = read(weir, "dead.ndjson")
    assert len(read(weir)) == 6 and len(dead) == len(HOSTILE_EVENTS) - 6
    assert {"key_too_long", "missing_field", "bad_json"} <= {d["code"] for d in dead}
    weir.run(pipeline("rate: 100%"))
    assert (weir.folder / "out.ndjson").read_bytes() == lines(HOSTILE_EVENTS)


@pytest.mark.parametrize("options, says", [
    ("by: '{{ u }}'", '"rate" is missing'),
    ("rate: 1.5", "more than all events"),
    ("rate: 150%", "more than all events"),
    ("rate: 3/2", "more than all events"),
    ("rate: -0.1", "expected a part of all events"),
    ("rate: 1/0", "nothing can be divided by this number"),
    ("rate: 1/x", 'found "1/x"'),
    ("rate: ''", "must not be empty"),
    ("rate: half", 'found "half"'),
    ("rate: [0.1]", "wrong type"),
    ("rate: 1e-3", "expected a part of all events"),
    ("rate: 0.1, by: everyone", "the same for every event"),
    ("rate: 0.1, by: '{{ u'", "s.by"),
    ("rate: 0.1, by: ''", "must not be empty"),
    ("rate: 0.1, seed: 7", "only with `by`"),
    ("rate: 0.1, by: '{{ u }}', seed: 1.5", "wrong type"),
    ("rate: 0.1, always: 'event.type = 1'", "s.always"),
    ("rate: 0.1, always: 'nobody.knows'", "s.always"),
    ("rate: 0.1, share: 2", "share"),
])
def test_wrong_configurations(weir, options, says):
    checked = weir.check(pipeline(options), expect=1)
    assert says in checked.text, checked.text
    assert ".s" in checked.text and "pipeline-1.yaml:3:" in checked.text
