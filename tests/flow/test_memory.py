# SPDX-License-Identifier: Apache-2.0
"""The one limit of memory that a process has: what fits into it at the start, and that weir stays within it."""
import http.client
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from http_edge import Edge, JSON, receiver  # noqa: F401 (a fixture)
from weirtest import unique_name, wait_until

MIB = 1 << 20

LINE = """
name: line
sources:
  in: {type: kafka, brokers: 127.0.0.1:9, topics: [a], group: g, lanes: 2%s}
transforms:
  hook: {type: lua, on_error: drop, code: "function process(e) return e end"%s}
sinks:
  out: {type: kafka, brokers: 127.0.0.1:9, topic: b, on_reject: drop%s}
"""


def resident(pid):
    """Bytes, and the most there ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    return tuple(int(status.split(name + ":")[1].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))


# ---- At the start ------------------------------------------------------------------------------

def lowered(running):
    line = running.find_log("defaults are lowered")[0]
    return line, dict(part.split(": ", 1)[1].split(" ", 1) for part in line["lowered"].split("; "))


def test_defaults_are_lowered_and_told(weir):
    running = weir.start(LINE % ("", "", ""), args=["--memory", "96MiB"], ready=False)
    running.wait_log("pipeline started")
    line, parts = lowered(running)
    assert parts.keys() == {"sources.in.prefetch", "transforms.hook.memory", "transforms.hook.cache",
                            "sinks.out.queue", "sinks.out.buffer.size"}
    assert parts["transforms.hook.memory"].startswith("2 x 64MiB -> ")
    assert line["limit_bytes"] == 96 * MIB and 40 * MIB < line["shares_bytes"] <= 68 * MIB
    metrics = running.metrics()
    assert metrics.get("weir_memory_limit_bytes") == 96 * MIB
    used = {labels["what"]: value for name, labels, value in metrics.series if name == "weir_memory_used_bytes"}
    assert {"events", "other"} <= used.keys() and 1 * MIB < sum(used.values()) < 96 * MIB
    assert abs(sum(used.values()) - metrics.get("process_resident_memory_bytes")) < 8 * MIB
    running.stop(expect=None)


def test_what_fits_stays_as_it_is(weir):
    running = weir.start(LINE % ("", "", ""), args=["--memory", "2GiB"], ready=False)
    running.wait_log("pipeline started")
    assert not running.find_log("defaults are lowered")
    assert running.find_log("memory limit")[0]["from"] == "--memory"
    running.stop(expect=None)


def test_all_pipelines_of_a_process_count(weir):
    one, two = (LINE % ("", "", "")).replace("line", "one"), (LINE % ("", "", "")).replace("line", "two")
    alone, both = ([weir.command("check", *weir._files(files), "--memory", size).code for size in
                    ("96MiB", "64MiB", "512MiB")] for files in ([one], [one, two]))
    assert alone == [0, 0, 0] and both == [0, 1, 0]


def test_a_buffer_on_disk_has_a_share(weir):
    text = LINE % ("", "", ", buffer: {type: disk, path: buffer}")
    running = weir.start(text, args=["--memory", "96MiB"], ready=False)
    running.wait_log("pipeline started")
    line, parts = lowered(running)
    assert parts["sinks.out.buffer"].startswith("32MiB -> ") and line["shares_bytes"] <= 68 * MIB
    running.stop(expect=None)


@pytest.mark.parametrize("given, place", [
    ((", prefetch: 64MiB", "", ""), "sources.in.prefetch"),
    (("", ", memory: 512MiB", ""), "transforms.hook.memory"),
    (("", ", cache: 100MiB", ""), "transforms.hook.cache"),
    (("", "", ", queue: 1GiB"), "sinks.out.queue"),
    (("", "", ", buffer: {size: 90MiB}"), "sinks.out.buffer.size"),
])
def test_what_is_given_and_does_not_fit_is_an_error(weir, given, place):
    """By `check --memory`, and by `run` before anything starts."""
    text = LINE % given
    checked = weir.command("check", weir.write(text), "--memory", "96MiB")
    ran = weir.command("run", weir.write(text), "--memory", "96MiB")
    for done in (checked, ran):
        assert done.code == 1 and "error[memory-budget]" in done.text and f"at {place}" in done.text, done
        assert f"line: {place} " in done.text and "= hint: " in done.text, "each share that is given is named"
    assert "weir starts" not in ran.text
    assert weir.command("check", weir.write(text)).code == 0, "without a limit nothing is judged"
    assert weir.command("check", weir.write(text), "--memory", "8GiB").code == 0


def test_the_error_names_every_share_that_is_given(weir):
    text = LINE % (", prefetch: 20MiB", ", memory: 20MiB", ", buffer: {size: 20MiB}, queue: 20MiB")
    done = weir.command("check", weir.write(text), "--memory", "96MiB", "--format", "json")
    [error] = [d for d in json.loads(done.out) if d["code"] == "memory-budget"]
    for share in ("sources.in.prefetch 5 x 20MiB = 100.0 MiB", "transforms.hook.memory 2 x 20MiB = 40.0 MiB",
                  "sinks.out.buffer.size 20MiB = 20.0 MiB", "sinks.out.queue 20MiB = 20.0 MiB"):
        assert share in error["hint"], error


def test_secrets_beside_an_error_stay_hidden(weir):
    text = LINE % ("", "", ", queue: 1GiB, tls: {}, sasl: {mechanism: PLAIN, user: u, password: hush-hush}")
    assert weir.command("check", weir.write(text)).code == 0
    done = weir.command("check", weir.write(text), "--memory", "96MiB")
    assert "memory-budget" in done.text and "hush-hush" not in done.text, done


def test_a_default_is_not_lowered_below_what_another_option_needs(weir):
    text = LINE % ("", "", ", max_message: 40MiB")
    done = weir.command("check", weir.write(text), "--memory", "96MiB")
    assert done.code == 1 and "lowered to fit into the memory: " in done.text and "max_message" in done.text, done
    assert weir.command("check", weir.write(text), "--memory", "2GiB").code == 0


@pytest.mark.parametrize("size, word", [("31MiB", "at least 32MiB"), ("0", "at least 32MiB"), ("lots", "no size")])
def test_sizes_that_are_none(weir, size, word):
    for command in ("run", "check"):
        done = weir.command(command, weir.write(LINE % ("", "", "")), "--memory", size)
        assert done.code == 2 and word in done.err, done


# ---- While it runs -----------------------------------------------------------------------------

class Flood:
    """Clients that post large bodies as fast as they are answered; what they heard, by status."""

    def __init__(self, edge, clients, body_bytes, stop):
        self.heard, self.lock, self.bad = {}, threading.Lock(), []
        body = json.dumps([{"n": n, "pad": random.Random(n).randbytes(200).hex()}
                           for n in range(body_bytes // 420)]).encode()

        def client():
            conn = None
            while not stop.is_set():
                try:
                    conn = conn or edge.connect(30)
                    conn.request("POST", "/events", body, JSON)
                    answer = conn.getresponse()
                    answer.read()
                    status = answer.status
                    if status in (429, 503) and int(answer.headers["Retry-After"]) < 1:
                        self.bad.append(dict(answer.headers))
                    if answer.headers.get("Connection") == "close":
                        conn = None
                except (OSError, http.client.HTTPException):
                    status, conn = "cut", None
                with self.lock:
                    self.heard[status] = self.heard.get(status, 0) + 1
                if status != 200:
                    time.sleep(0.02)

        self.threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()


def flood_stays_within(running_edge, receiver_, limit, seconds):
    stop, most = threading.Event(), 0
    flood = Flood(running_edge, 40, 1 * MIB, stop)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now, _ = resident(running_edge.running.pid)
        most = max(most, now)
        receiver_.go.set()
        time.sleep(0.01)
        receiver_.go.clear()  # it takes a little, now and then
        time.sleep(0.2)
    assert running_edge.running.alive, running_edge.running.report()
    assert resident(running_edge.running.pid)[1] < limit, (most, flood.heard)
    stop.set()
    receiver_.go.set()
    for t in flood.threads:
        t.join(60)
    assert flood.heard.get(429, 0) > 10 and flood.heard.get(200, 0) > 3, flood.heard
    assert not flood.bad and set(flood.heard) <= {200, 429, 503, "cut"}, (flood.heard, flood.bad)
    wait_until(lambda: running_edge.running.metric("weir_http_in_flight_bytes") == 0, 60)
    assert running_edge.post(b'{"n":1}', conn=running_edge.connect(60))[0] == 200, "and goes on afterwards"


HOOK = """
transforms:
  hook:
    type: lua
    inputs: [in]
    on_error: drop
    code: |
      function process(event) event.seen = true return event end
"""


def bounded_edge(weir, r, args=()):
    start = weir.start
    try:
        weir.start = lambda *files: start(*files, args=args)
        return Edge(weir, "max_wait: 300ms", sink=r.sink(", on_reject: drop, inputs: [hook]", "array"), more=HOOK)
    finally:
        weir.start = start


@pytest.mark.long(25)
def test_a_flood_of_bodies_stays_within_the_limit(weir, receiver):
    r = receiver()
    e = bounded_edge(weir, r, ["--memory", "96MiB"])
    flood_stays_within(e, r, 96 * MIB, 8)


def cgroup_of(limit):
    """(folder, file of the peak) of a new control group with that limit, or None with the reason."""
    name = unique_name("weir")
    for base, file, peak in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                             ("/sys/fs/cgroup", "memory.max", "memory.peak")):
        folder = Path(base) / name
        try:
            folder.mkdir()
        except OSError as error:
            reason = str(error)
            continue
        try:
            (folder / file).write_text(str(limit))
            return folder, peak
        except OSError as error:
            reason = str(error)
            folder.rmdir()
    return None, reason


@pytest.fixture
def in_cgroup(weir, monkeypatch, tmp_path):
    """Starts in a group of 96 MiB: gives its folder and the name of its peak."""
    folder, peak = cgroup_of(96 * MIB)
    if folder is None:
        pytest.skip(f"no control group can be made here: {peak}")
    wrapper = tmp_path / "enter"
    wrapper.write_text(f"#!/bin/sh\necho $$ > {folder}/cgroup.procs && exec \"$@\"\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("WEIR_WRAPPER", f"{wrapper} {os.environ.get('WEIR_WRAPPER', '')}")
    yield folder, peak
    weir.close()
    wait_until(lambda: not (folder / "cgroup.procs").read_text().strip(), 30)
    folder.rmdir()


@pytest.mark.long(30)
def test_a_control_group_is_the_limit(weir, receiver, in_cgroup):
    """The kernel would kill it where it took more."""
    folder, peak = in_cgroup
    r = receiver()
    e = bounded_edge(weir, r)
    assert e.running.metric("weir_memory_limit_bytes") == 96 * MIB
    assert e.running.find_log("memory limit")[0]["from"] == "cgroup"
    assert lowered(e.running)
    flood_stays_within(e, r, 96 * MIB, 8)
    if (folder / "memory.oom_control").exists():
        assert "oom_kill 0" in (folder / "memory.oom_control").read_text()
    assert not (folder / peak).exists() or int((folder / peak).read_text()) <= 96 * MIB


def test_the_control_group_bounds_what_is_asked_for(weir, in_cgroup):
    running = weir.start(LINE % ("", "", ""), args=["--memory", "1GiB"], ready=False)
    running.wait_log("pipeline started")
    assert running.metric("weir_memory_limit_bytes") == 96 * MIB
    running.stop(expect=None)


@pytest.mark.long(60)
def test_kafka_before_a_slow_sink_stays_within_the_limit(weir, kafka, unique, receiver):
    """The topic holds 500 MB, of which the process may have a fifth."""
    topic, r = kafka.topic(partitions=4), receiver()
    pad = [random.Random(n).randbytes(490).hex() for n in range(100)]
    for at in range(0, 500000, 25000):
        kafka.produce(topic, [b'{"n":%d,"pad":"%s"}' % (n, pad[n % 100].encode())
                              for n in range(at, at + 25000)])
    r.decide = lambda payload: time.sleep(0.0002) or 200
    running = weir.start(f"""
name: slow
sources:
  in: {{type: kafka, brokers: '{kafka.brokers}', topics: [{topic}], group: {unique}, lanes: 2}}
transforms:
  hook:
    type: lua
    inputs: [in]
    on_error: drop
    code: |
      function process(event) event.seen = true return event end
sinks:
  out: {r.sink(", inputs: [hook], on_reject: drop, batch: {events: 500}", "array")}
""", args=["--memory", "96MiB"])
    running.wait_metric("weir_component_sent_events_total", 1, component="out", timeout=60)
    seen, until = [], time.monotonic() + 20
    while time.monotonic() < until:
        seen.append(resident(running.pid)[0])
        time.sleep(0.1)
    metrics = running.metrics()
    assert running.alive and resident(running.pid)[1] < 96 * MIB, (resident(running.pid), metrics)
    assert max(seen) > 30 * MIB, "it was put to the test"
    sent = metrics.get("weir_component_sent_events_total", component="out")
    assert 5000 < sent < 400000, "the sink was slow, and the pipeline went on"
    assert metrics.get("weir_memory_used_bytes", what="librdkafka") > 1 * MIB
    assert metrics.get("weir_memory_used_bytes", what="events") > 1 * MIB
    running.wait_metric("weir_component_sent_events_total", sent + 1000, component="out", timeout=30)
    running.stop(expect=None)


@pytest.mark.long(25)
@pytest.mark.parametrize("item", [b"1", b'{"a":1}'], ids=["numbers", "objects"])
def test_a_flood_of_tiny_events_stays_within_the_limit(weir, receiver, item):
    """Their structs and values are many times as large as what was sent."""
    r = receiver()
    e = bounded_edge(weir, r, ["--memory", "96MiB"])
    body, heard, stop = b"[" + b",".join([item] * 99999) + b"]", [], threading.Event()

    def client():
        while not stop.is_set():
            heard.append(e.post(body, conn=e.connect(60))[0])
            time.sleep(0.01)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(30)]
    for t in threads:
        t.start()
    until = time.monotonic() + 8
    while time.monotonic() < until:
        r.go.set()
        time.sleep(0.01)
        r.go.clear()
        time.sleep(0.2)
    assert resident(e.running.pid)[1] < 96 * MIB, (resident(e.running.pid), heard[-5:])
    stop.set()
    r.go.set()
    for t in threads:
        t.join(60)
    assert set(heard) <= {200, 429, 503} and 429 in heard
    assert e.post(b'{"n":1}', conn=e.connect(60))[0] == 200
