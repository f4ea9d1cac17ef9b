# SPDX-License-Identifier: Apache-2.0
"""Reloads of a process with several pipelines: one that has stopped by itself, one whose file is gone."""
import json
import signal
import time

import pytest
import requests

from weirtest.tools import free_port, wait_until

FRAIL = "function process(event) if event.bad then error('bad') end event.by = 1 return event end\n"
SOUND = "n = 0 function process(event) n = n + 1 event.count = n event.by = 2 return event end\n"


def pipeline(name, port):
    return f"""\
name: {name}
sources: {{in: {{type: http, address: '127.0.0.1:{port}', lanes: 1}}}}
transforms: {{hook: {{type: lua, script: {name}/hook.lua, on_error: stop}}}}
sinks: {{out: {{type: file, path: {name}.ndjson, on_reject: stop}}}}
"""


class Two:
    """The pipelines `frail` and `sound` in one process."""

    def __init__(self, weir):
        self.weir, self.ports = weir, {"frail": free_port(), "sound": free_port()}
        for name, script in (("frail", FRAIL), ("sound", SOUND)):
            weir.write(script, f"{name}/hook.lua")
        self.files = {name: weir.write(pipeline(name, port), f"{name}.yaml") for name, port in self.ports.items()}
        self.running = weir.start(*self.files.values())

    def post(self, name, event, timeout=20):
        return requests.post(f"http://127.0.0.1:{self.ports[name]}/events", json=event, timeout=timeout).status_code

    def state(self):
        states = self.running.get("/readyz").json()["pipelines"]
        return {p["pipeline"]: p["state"] for p in states}

    def events(self, name):
        return [json.loads(line) for line in (self.weir.folder / f"{name}.ndjson").read_text().splitlines()]

    def hup(self):
        self.running.process.send_signal(signal.SIGHUP)

    def reloads(self, name, result):
        return int(self.running.metrics().get("weir_config_reloads_total", pipeline=name, result=result))


@pytest.fixture
def two(weir):
    return Two(weir)


@pytest.mark.sanitize
def test_one_that_stopped_starts_again_when_its_file_is_right(two):
    assert two.post("frail", {"n": 1}) == 200 and two.post("sound", {"n": 1}) == 200
    assert two.post("frail", {"bad": True}) == 503
    wait_until(lambda: two.state() == {"frail": "stopped", "sound": "running"}, 20, "the stop")
    two.files["frail"].write_text("name: frail\nsources: [")
    two.hup()
    wait_until(lambda: two.reloads("frail", "failed") == 1, 20, "the refusal")
    assert two.running.find_log("reload failed, the pipeline stays stopped")
    assert two.post("sound", {"n": 2}) == 200
    two.weir.write(FRAIL.replace("error('bad')", "event.mended = true"), "frail/hook.lua")
    two.files["frail"].write_text(pipeline("frail", two.ports["frail"]))
    two.hup()
    wait_until(lambda: two.state() == {"frail": "running", "sound": "running"}, 20, "the start")
    assert two.running.get("/readyz").status_code == 200
    assert two.post("frail", {"bad": True}) == 200
    assert two.post("sound", {"n": 3}) == 200
    assert two.running.metrics().get("weir_config_last_reload_successful", pipeline="frail") == 1
    assert two.running.stop() == 0, "what runs at the end has not stopped"
    assert two.events("frail") == [{"n": 1, "by": 1}, {"bad": True, "mended": True, "by": 1}]
    assert [e["count"] for e in two.events("sound")] == [1, 2, 3], "the other one went on"


@pytest.mark.sanitize
def test_one_that_stopped_goes_on_at_its_positions(weir):
    """The file source's `state` is locked while it is open."""
    weir.write(FRAIL, "hook.lua")
    source = weir.write('{"n":1}\n', "in.ndjson")
    running = weir.start("""\
name: frail
sources: {in: {type: file, path: in.ndjson, follow: true, state: positions}}
transforms: {hook: {type: lua, script: hook.lua, on_error: stop}}
sinks: {out: {type: file, path: out.ndjson, on_reject: stop}}
""")
    out = weir.folder / "out.ndjson"

    def has(n):
        wait_until(lambda: out.exists() and out.read_text().count("\n") == n, 20, f"{n} events")

    def append(text):
        with source.open("a") as file:
            file.write(text)

    def runs():
        return running.get("/readyz").json()["pipelines"][0]["state"] == "running"
    has(1)
    for k in range(2):
        append('{"bad":true}\n')
        wait_until(lambda: not runs(), 20, "the stop")
        append(f'{{"n":{k + 2}}}\n')
        weir.write(FRAIL.replace("error('bad')", "event.mended = true"), "hook.lua")
        running.signal(signal.SIGHUP)
        wait_until(runs, 20, lambda: "the start\n" + running.report())
        has(2 * k + 3)
        weir.write(FRAIL, "hook.lua")
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.metric("weir_config_reloads_total", result="ok") == 2 * k + 2, 20, "the reload")
    assert running.stop() == 0
    mended = {"bad": True, "by": 1, "mended": True}
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"n": 1, "by": 1}, mended, {"n": 2, "by": 1}, mended, {"n": 3, "by": 1}]


def test_a_changed_file_is_enough(two):
    assert two.post("frail", {"bad": True}) == 503
    wait_until(lambda: two.state()["frail"] == "stopped", 20, "the stop")
    two.weir.write(SOUND, "frail/hook.lua")
    wait_until(lambda: two.state()["frail"] == "running", 20, "the start")
    assert two.post("frail", {"bad": True}) == 200
    assert two.running.stop() == 0


def test_one_that_stops_again_makes_the_exit_code_1(two):
    for k in range(2):
        assert two.post("frail", {"bad": True}) == 503
        wait_until(lambda: two.state()["frail"] == "stopped", 20, "the stop")
        if k == 0:
            two.hup()
            wait_until(lambda: two.state()["frail"] == "running", 20, "the start")
    assert two.running.stop(expect=1) == 1


def test_a_file_that_is_gone_ends_nothing(two):
    """Pipelines are named by the command line; a file deleted by mistake must not stop one."""
    assert two.post("frail", {"n": 1}) == 200
    text = two.files["frail"].read_text()
    two.files["frail"].unlink()
    two.hup()
    wait_until(lambda: two.reloads("frail", "failed") >= 1, 20, "the refusal")
    assert "its file is not there" in two.running.find_log("reload failed, the pipeline goes on as it was")[-1]["reason"]
    assert two.post("frail", {"n": 2}) == 200
    two.files["frail"].write_text(text)
    time.sleep(0.1)
    two.hup()
    wait_until(lambda: two.reloads("frail", "ok") >= 1, 20, "the reload")
    assert two.running.stop() == 0
    assert [e["n"] for e in two.events("frail")] == [1, 2]


def test_one_that_has_read_its_sources_stays_done(weir):
    weir.write('{"n":1}\n', "in.ndjson")
    port = free_port()
    first = weir.write("""\
name: batch
sources: {in: {type: file, path: in.ndjson, follow: false}}
sinks: {out: {type: file, path: batch.ndjson, on_reject: stop}}
""", "batch.yaml")
    weir.write(SOUND, "sound/hook.lua")
    running = weir.start(first, weir.write(pipeline("sound", port), "sound.yaml"))
    wait_until(lambda: running.find_log("pipeline ended"), 20, "the end")
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.find_log("no reload: the pipeline has read its sources to their end"), 20, "the word")
    assert running.stop() == 0
    assert (weir.folder / "batch.ndjson").read_text() == '{"n":1}\n'


def limited(port, sinks):
    return f"""\
name: limited
sources: {{in: {{type: http, address: '127.0.0.1:{port}', lanes: 1}}}}
sinks:
""" + "".join(f"  {id}: {{type: file, inputs: [in], path: {id}.ndjson, on_reject: stop, {more}}}\n"
              for id, more in sinks.items())


def test_reloads_keep_within_the_memory(weir):
    port = free_port()
    path = weir.write(limited(port, {"one": ""}), "limited.yaml")
    running = weir.start(path, args=["--memory", "64MiB"])

    def reload(sinks, result):
        before = running.metrics().get("weir_config_reloads_total", pipeline="limited", result=result)
        path.write_text(limited(port, sinks))
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.metrics().get("weir_config_reloads_total", pipeline="limited", result=result) > before,
                   20, f"the reload that is {result}")

    reload({"one": "buffer: {size: 200MiB}"}, "failed")
    assert running.find_log("mistake in a pipeline file")[-1]["code"] == "memory-budget"
    assert running.metrics().get("weir_buffer_limit_bytes", component="one") <= 48 << 20
    reload({"one": "", "two": "", "three": ""}, "ok")
    running.wait_log("the components that go on keep more memory than their share")
    assert sum(running.metrics().get("weir_buffer_limit_bytes", component=id)
               for id in ("one", "two", "three")) <= 40 << 20
    assert requests.post(f"http://127.0.0.1:{port}/events", json={"n": 1}, timeout=20).status_code == 200
    assert running.stop() == 0


def test_a_folder_of_another_pipelines_buffer_is_refused(two):
    buffer = "on_reject: stop, buffer: {type: disk, path: buffer}"
    for name in ("frail", "sound"):
        two.files[name].write_text(pipeline(name, two.ports[name]).replace("on_reject: stop", buffer))
        two.hup()
        wait_until(lambda: two.reloads(name, "ok" if name == "frail" else "failed") >= 1, 20, "the reload")
    assert "the buffer of sink \"out\" in " in two.running.find_log("mistake in a pipeline file")[-1]["message"]
    assert two.post("frail", {"n": 1}) == 200 and two.post("sound", {"n": 1}) == 200
    assert two.running.stop() == 0


def test_another_signal_while_one_is_under_way(weir):
    """The source cannot end, since the sink is not there; the reload goes on at its deadline all the same, and the
    second one begins behind it."""
    def text(rate):
        return f"""\
name: slow
shutdown_timeout: 2s
sources: {{in: {{type: generate, rate: {rate}}}}}
sinks: {{out: {{type: http, url: 'http://127.0.0.1:{nowhere}/', on_reject: drop, timeout: 1s}}}}
"""
    nowhere = free_port()
    running = weir.start(text(100))
    running.wait_log("sink unavailable", component="out")
    (weir.folder / "pipeline-1.yaml").write_text(text(50))
    for _ in range(2):
        running.signal(signal.SIGHUP)
        time.sleep(0.5)
    wait_until(lambda: running.metrics().get("weir_config_reloads_total", pipeline="slow", result="ok") == 2, 20,
               lambda: "two reloads\n" + running.report())
    assert running.metrics().get("weir_config_reloads_total", pipeline="slow", result="failed") == 0
    running.stop(expect=None)
