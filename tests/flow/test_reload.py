# SPDX-License-Identifier: Apache-2.0
"""Reload: on SIGHUP and on changed files, without losing or doubling an event."""
import json
import os
import signal
import threading
import time

import pytest
import requests
from redis import Redis

from test_http_source_tls import certificates  # noqa: F401 (a fixture)
from weirtest.tools import free_port, wait_until

HOOK = "function process(event) event.by = {by} return event end\n"


def pipeline(port, more="", sink="path: out.ndjson"):
    return f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
transforms: {{hook: {{type: lua, inputs: [in], script: hook.lua}}{more}}}
sinks:
  out: {{type: file, inputs: [hook], {sink}, on_reject: stop}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
"""


class Load:
    """Posts numbered events one after the other, and notes which were taken."""

    def __init__(self, port):
        self.port, self.taken, self.refused, self.n = port, [], 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with requests.Session() as session:
            while not self.stop.is_set():
                self.n += 1
                try:
                    answer = session.post(f"http://127.0.0.1:{self.port}/events", json={"n": self.n}, timeout=30)
                except requests.ConnectionError:
                    self.refused += 1
                    time.sleep(0.005)
                    continue
                assert answer.status_code == 200, answer.text
                self.taken.append(self.n)

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.taken


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def reloads(running, result="ok"):
    return int(running.metrics().get("weir_config_reloads_total", result=result, pipeline="reloaded"))


def post(port, event):
    answer = requests.post(f"http://127.0.0.1:{port}/events", json=event, timeout=30)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def port():
    return free_port()


@pytest.mark.sanitize
def test_a_hook_changes_under_load(weir, port):
    weir.write(HOOK.format(by=0), "hook.lua")
    running = weir.start(pipeline(port))
    load = Load(port)
    for k in range(1, 6):
        time.sleep(0.3)
        weir.write(HOOK.format(by=k), "hook.lua")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads(running) == k, 20, f"reload {k}")
    taken = load.end()
    assert running.stop() == 0
    found = events(weir.folder / "out.ndjson")
    assert [e["n"] for e in found] == taken and load.refused == 0
    assert sorted({e["by"] for e in found}) == [0, 1, 2, 3, 4, 5]
    by = [e["by"] for e in found]
    assert by == sorted(by)


@pytest.mark.sanitize
def test_a_sink_changes_comes_and_goes_under_load(weir, port):
    weir.write(HOOK.format(by=0), "hook.lua")
    running = weir.start(pipeline(port))
    path = weir.folder / "pipeline-1.yaml"
    load = Load(port)
    steps = [pipeline(port, sink="path: second.ndjson"),
             pipeline(port, sink="path: second.ndjson").replace(
                 "  dead:", "  more: {type: file, inputs: [hook], path: more.ndjson, on_reject: stop}\n  dead:"),
             pipeline(port, sink="path: second.ndjson, concurrency: 2"),
             pipeline(port)]
    for k, text in enumerate(steps, 1):
        time.sleep(0.3)
        path.write_text(text)
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads(running) == k, 20, f"reload {k}")
    time.sleep(0.2)
    taken = load.end()
    assert running.stop() == 0
    first = [e["n"] for e in events(weir.folder / "out.ndjson")]
    second = [e["n"] for e in events(weir.folder / "second.ndjson")]
    more = [e["n"] for e in events(weir.folder / "more.ndjson")]
    assert load.refused == 0
    assert sorted(first + second) == taken
    assert more and set(more) < set(second)


@pytest.mark.sanitize
def test_a_source_changes_under_load(weir, port):
    weir.write(HOOK.format(by=0), "hook.lua")
    running = weir.start(pipeline(port))
    path = weir.folder / "pipeline-1.yaml"
    load = Load(port)
    for k, body in enumerate(("1MiB", "2MiB", "3MiB"), 1):
        time.sleep(0.3)
        path.write_text(pipeline(port).replace("type: http,", f"type: http, max_body: {body},"))
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads(running) == k, 20, f"reload {k}")
    time.sleep(0.3)
    taken = load.end()
    assert running.stop() == 0
    assert [e["n"] for e in events(weir.folder / "out.ndjson")] == taken


def following(interval, id="in", more=""):
    return f"""\
name: reloaded
sources: {{{id}: {{type: file, path: in.ndjson, follow: true, state: positions, poll_interval: {interval}}}{more}}}
sinks: {{out: {{type: file, inputs: [{id}], path: out.ndjson, on_reject: stop}}}}
"""


@pytest.mark.sanitize
def test_a_source_with_positions_changes_under_load(weir):
    """They are locked while it is open. One of the reloads fails after it has ended, and it goes on as it was."""
    source, stop, n = weir.write("", "in.ndjson"), threading.Event(), 0

    def write():
        nonlocal n
        with source.open("a") as file:
            while not stop.is_set():
                n += 1
                file.write(f'{{"n":{n}}}\n')
                file.flush()
                time.sleep(0.001)
    running = weir.start(following("100ms"))
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    unwritable = ", more: {type: file, path: none, follow: true, state: /proc/none/positions}"
    steps = [(following("200ms"), "ok"), (following("300ms", more=unwritable).replace("[in]", "[in, more]"), "failed"),
             (following("300ms"), "ok"), (following("300ms", id="renamed"), "ok")]
    for k, (text, result) in enumerate(steps):
        time.sleep(0.3)
        (weir.folder / "pipeline-1.yaml").write_text(text)
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads(running, result) == sum(r == result for _, r in steps[:k + 1]), 20,
                   lambda: f"reload {k}\n" + running.report())
    time.sleep(0.3)
    stop.set()
    writer.join()
    wait_until(lambda: len(events(weir.folder / "out.ndjson")) >= n, 20, "the last event")
    assert running.stop() == 0
    assert [e["n"] for e in events(weir.folder / "out.ndjson")] == list(range(1, n + 1))
    assert "positions.lock" in running.find_log("reload failed, the pipeline goes on as it was")[0]["reason"]


def test_what_did_not_change_goes_on(weir, port):
    """The script's memory and the sink's buffer: both go on."""
    weir.write("n = 0 function process(event) n = n + 1 event.count = n return event end\n", "hook.lua")
    running = weir.start(pipeline(port))
    post(port, {"a": 1})
    path = weir.folder / "pipeline-1.yaml"
    path.write_text(pipeline(port).replace("on_reject: stop", "batch: {events: 1}, on_reject: drop"))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(running) == 1, 20, "the reload")
    post(port, {"a": 2})
    assert running.stop() == 0
    assert [e["count"] for e in events(weir.folder / "out.ndjson")] == [1, 2]
    line = running.find_log("pipeline reloaded")[-1]
    assert (line["kept"], line["changed"], line["added"], line["removed"]) == (4, 0, 0, 0)


def test_changed_files_are_noticed(weir, port):
    weir.write(HOOK.format(by=0), "hook.lua")
    weir.write("return {value = 1}\n", "module.lua")
    running = weir.start(pipeline(port))
    weir.write("local m = require('module') function process(event) event.by = m.value return event end\n",
               "hook.lua")
    wait_until(lambda: reloads(running) == 1, 20, "the script")
    weir.write("return {value = 2}\n", "module.lua")
    wait_until(lambda: reloads(running) == 2, 20, "its module")
    post(port, {})
    os.utime(weir.folder / "hook.lua")
    time.sleep(3)
    assert reloads(running) == 2, "the same content is no change"
    assert running.stop() == 0
    assert events(weir.folder / "out.ndjson") == [{"by": 2}]


def test_modules_in_folders_below_are_noticed(weir, port):
    weir.write("local m = require('parts.inner') function process(event) event.by = m.value return event end\n",
               "hook.lua")
    weir.write("return {value = 1}\n", "parts/inner.lua")
    running = weir.start(pipeline(port))
    time.sleep(1.5)
    weir.write("return {value = 2}\n", "parts/inner.lua")
    wait_until(lambda: reloads(running) == 1, 20, "the module")
    post(port, {})
    assert running.stop() == 0
    assert events(weir.folder / "out.ndjson") == [{"by": 2}]


@pytest.mark.parametrize("sink", [
    "type: mongodb, database: d, collection: c, uri: 'mongodb://127.0.0.1:1/?tls=true&tlsCAFile={ca}'",
    "type: mongodb, database: d, collection: c, uri: 'mongodb://127.0.0.1:1/?ssl=true&sslCertificateAuthorityFile={ca}'",
    "type: kafka, topic: t, brokers: '127.0.0.1:1', rdkafka: {{ssl.crl.location: '{ca}'}}"])
def test_files_that_only_the_library_knows_are_noticed(weir, port, certificates, sink):  # noqa: F811
    ca = weir.write((certificates / "ca.pem").read_text(), "trusted.pem")
    running = weir.start(f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
sinks: {{out: {{{sink.format(ca=ca)}, on_reject: stop}}}}
""")
    time.sleep(1.5)
    ca.write_text((certificates / "other.pem").read_text())
    wait_until(lambda: reloads(running) == 1, 20, "the reload")
    line = running.find_log("pipeline reloaded")[-1]
    assert (line["kept"], line["changed"]) == (1, 1)
    assert running.stop() == 0


def test_a_config_map_is_swapped(weir, port):
    """As the kubelet does it: `..data` is a link to a folder, and another one is renamed over it."""
    for k in (1, 2):
        weir.write(HOOK.format(by=k), f"map/..v{k}/hook.lua")
        weir.write(pipeline(port, sink=f"path: ../../out{k}.ndjson").replace("dead.ndjson", "../../dead.ndjson"),
                   f"map/..v{k}/p.yaml")
    folder = weir.folder / "map"
    (folder / "..data").symlink_to("..v1")
    (folder / "p.yaml").symlink_to("..data/p.yaml")
    (folder / "hook.lua").symlink_to("..data/hook.lua")
    for k in (1, 2):
        text = (folder / f"..v{k}/p.yaml").read_text()
        (folder / f"..v{k}/p.yaml").write_text(text.replace("../../", "../"))
    running = weir.start(folder / "p.yaml")
    post(port, {"n": 1})
    (folder / "..tmp").symlink_to("..v2")
    os.rename(folder / "..tmp", folder / "..data")
    wait_until(lambda: reloads(running) == 1, 20, "the reload")
    post(port, {"n": 2})
    assert running.stop() == 0
    assert events(weir.folder / "out1.ndjson") == [{"n": 1, "by": 1}]
    assert events(weir.folder / "out2.ndjson") == [{"n": 2, "by": 2}]


def test_a_secret_changes(weir, port, own_redis):
    redis = own_redis("--requirepass", "one")
    secret = weir.write("one", "secret")
    running = weir.start(f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
sinks:
  out: {{type: redis, url: 'redis://127.0.0.1:{redis.port}', password: "${{file:secret}}", set: {{key: "k:{{{{ n }}}}"}}, on_reject: drop}}
""")
    post(port, {"n": 1})
    admin = Redis(port=redis.port, password="one")
    admin.config_set("requirepass", "two")
    secret.write_text("two")
    wait_until(lambda: reloads(running) == 1, 20, "the reload")
    post(port, {"n": 2})
    assert sorted(admin.keys("k:*")) == [b"k:1", b"k:2"]
    assert running.stop() == 0


@pytest.mark.parametrize("broken, code", [
    ("name: reloaded\nsources: [", None),
    ("NOPE", "unknown-option"),
    ("NAME", None),
    ("FOLDER", None),
])
def test_what_is_wrong_leaves_the_pipeline_as_it_was(weir, port, broken, code):
    weir.write(HOOK.format(by=1), "hook.lua")
    running = weir.start(pipeline(port))
    path = weir.folder / "pipeline-1.yaml"
    before = path.read_text()
    path.write_text({"NOPE": before.replace("on_reject: stop", "on_rejects: stop"),
                     "NAME": before.replace("name: reloaded", "name: other"),
                     "FOLDER": before.replace("path: out.ndjson", "path: /proc/none/out.ndjson"),
                     }.get(broken, broken))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(running, "failed") == 1, 20, "the refusal")
    post(port, {"n": 1})
    assert running.metrics().get("weir_config_last_reload_successful", pipeline="reloaded") == 0
    assert running.find_log("reload failed, the pipeline goes on as it was")[-1]["reason"]
    if code is not None:
        assert running.find_log("mistake in a pipeline file")[-1]["code"] == code
    path.write_text(before)
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(running) == 1, 20, "the reload")
    assert running.metrics().get("weir_config_last_reload_successful", pipeline="reloaded") == 1
    assert running.stop() == 0
    assert events(weir.folder / "out.ndjson") == [{"n": 1, "by": 1}]


def test_a_sink_that_is_away_is_replaced(weir, port):
    """The way out at night: the sink points nowhere, and what waits for it goes to the right one."""
    weir.write(HOOK.format(by=1), "hook.lua")
    nowhere, somewhere = free_port(), free_port()
    text = f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{port}'}}}}
sinks: {{out: {{type: http, url: 'http://127.0.0.1:{nowhere}/events', on_reject: drop}}}}
"""
    running = weir.start(text)
    answers = []
    waiting = [threading.Thread(target=lambda k=k: answers.append(requests.post(
        f"http://127.0.0.1:{port}/events", json={"n": k}, timeout=60).status_code)) for k in range(3)]
    for thread in waiting:
        thread.start()
    time.sleep(1)
    target = weir.start(f"""\
name: target
sources: {{in: {{type: http, address: '127.0.0.1:{somewhere}'}}}}
sinks: {{out: {{type: file, path: out.ndjson, on_reject: drop}}}}
""")
    (weir.folder / "pipeline-1.yaml").write_text(text.replace(str(nowhere), str(somewhere)))
    running.process.send_signal(signal.SIGHUP)
    for thread in waiting:
        thread.join()
    assert answers == [200] * 3
    assert running.stop() == 0 and target.stop() == 0
    assert sorted(e["n"] for e in events(weir.folder / "out.ndjson")) == [0, 1, 2]


def test_a_secret_of_a_plan_that_fails_is_not_told(weir, port):
    """The log knows those of what runs; this one is only in the new file, and the error repeats it."""
    weir.write(HOOK.format(by=1), "hook.lua")
    running = weir.start(pipeline(port))
    path = weir.folder / "pipeline-1.yaml"
    hashing = "\n  hash: {type: map, inputs: [hook], hash: {fields: [user], key: quite-secret-77}}"
    path.write_text(pipeline(port, sink="path: /proc/none/quite-secret-77/out.ndjson").replace(
        "script: hook.lua}", "script: hook.lua}" + "," + hashing).replace("inputs: [hook], path", "inputs: [hash], path"))
    running.signal(signal.SIGHUP)
    wait_until(lambda: reloads(running, "failed") == 1, 20, "the refusal")
    reason = running.find_log("reload failed, the pipeline goes on as it was")[-1]["reason"]
    assert "/proc/none/***" in reason and "quite-secret" not in running.stderr
    running.stop()
