# SPDX-License-Identifier: Apache-2.0
"""Reloads while buffers are full and servers are away: they wait for what has to end before, and for no more."""
import json
import signal
import threading

import pytest
import requests

from weirtest.tools import free_port, wait_until

N = 4000


class Rig:
    """A pipeline whose sink writes to another weir, which is there from `open` on."""

    def __init__(self, weir):
        self.weir, self.target_port, self.n = weir, free_port(), {"ok": 0, "failed": 0}

    def start(self, text):
        self.running = self.weir.start(text)
        self.path = self.weir.folder / "pipeline-1.yaml"

    def sink(self, more):
        return f"""{{type: http, url: 'http://127.0.0.1:{self.target_port}/events', format: weir, on_reject: drop,
        retry: {{initial: 10ms, max: 50ms}}, {more}}}"""

    def begin(self, text):
        self.path.write_text(text)
        self.running.process.send_signal(signal.SIGHUP)

    def end(self, result="ok"):
        self.n[result] += 1
        wait_until(lambda: self.running.metrics().get("weir_config_reloads_total", result=result) ==
                   self.n[result], 60, "the reload")
        return self.running.find_log("pipeline reloaded" if result == "ok" else "reload failed")[-1]

    def open(self):
        self.target = self.weir.start(f"""\
name: target
sources: {{in: {{type: http, address: '127.0.0.1:{self.target_port}'}}}}
sinks: {{out: {{type: file, path: out.ndjson, format: full, on_reject: drop}}}}
""")

    def found(self):
        path = self.weir.folder / "out.ndjson"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def metric(self, name, **labels):
        return self.running.metrics().get(name, **labels)


@pytest.fixture
def rig(weir):
    return Rig(weir)


def pressed(outs):
    """More events than there is room for, and a source that keeps the pipeline after them."""
    return f"""\
name: pressed
shutdown_timeout: 60s
sources:
  many: {{type: generate, count: {N}}}
  idle: {{type: http, address: '127.0.0.1:0'}}
sinks:
{outs}
"""


def wait_for_full(rig):
    """The lane stands in front of the sink: nothing more comes in."""
    seen = [0]

    def look():
        seen.append(rig.metric("weir_component_received_events_total", component="many"))
        return seen[-1] == seen[-2] and 0 < seen[-1] < N
    wait_until(look, 30, "a full buffer", 0.3)


SMALL = "buffer: {type: memory, size: 64KiB}, inputs: [many, idle]"


@pytest.mark.sanitize
@pytest.mark.parametrize("after", ["concurrency", "gone"])
def test_a_sink_changes_or_goes_while_its_buffer_is_full(rig, after):
    kept = "  kept: {type: file, path: kept.ndjson, format: full, on_reject: drop, inputs: [many, idle]}\n"
    rig.start(pressed(kept + f"  out: {rig.sink(SMALL)}\n"))
    wait_for_full(rig)
    rig.begin(pressed(kept + (f"  out: {rig.sink(SMALL + ', concurrency: 4')}\n" if after == "concurrency" else "")))
    timer = threading.Timer(1, rig.open)  # the server of the sink comes back while the reload waits
    timer.start()
    line = rig.end()
    timer.join()
    assert (line["changed"], line["removed"]) == ((1, 0) if after == "concurrency" else (0, 1))
    wait_until(lambda: rig.metric("weir_component_received_events_total", component="many") == N, 60, "all")
    assert rig.running.stop() == 0 and rig.target.stop() == 0
    ids = [json.loads(line)["id"] for line in (rig.weir.folder / "kept.ndjson").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == N
    found = [event["id"] for event in rig.found()]
    assert len(found) == len(set(found))
    if after == "concurrency":
        assert set(found) == set(ids)
    else:
        assert found and found == ids[:len(found)], "what came before the reload"


@pytest.mark.sanitize
def test_events_outlive_the_plan_of_their_source(rig):
    """A buffer on disk answers at once. What waits in its memory has names out of the options of a source that has
    been changed twice since."""
    port = free_port()

    def text(k):
        return f"""\
name: pressed
sources: {{in: {{type: http, address: '127.0.0.1:{port}', headers: [x-number-{k}], max_wait: {20 + k}s}}}}
sinks: {{out: {rig.sink('buffer: {type: disk, path: buffer, sync: 1ms, drain_on_stop: true}')}}}
"""
    rig.start(text(0))
    for k in range(6):
        if k > 0:
            rig.begin(text(k))
            rig.end()
        for n in range(10):
            answer = requests.post(f"http://127.0.0.1:{port}/events", json={"n": 10 * k + n}, timeout=30,
                                   headers={f"x-number-{k}": "x" * 40})
            assert answer.status_code == 200, answer.text
    rig.open()
    wait_until(lambda: len(rig.found()) == 60, 60, "all of them")
    assert rig.running.stop() == 0 and rig.target.stop() == 0
    for n, event in enumerate(rig.found()):
        assert event["payload"] == {"n": n}
        assert event["headers"] == [{"name": f"x-number-{n // 10}", "value": "x" * 40}]
