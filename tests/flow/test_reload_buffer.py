# SPDX-License-Identifier: Apache-2.0
"""Reloads that change a sink's buffer on disk while there are events in it: none is lost, none comes twice."""
import json
import signal
import threading
import time

import pytest
import requests

from weirtest.tools import free_port, wait_until


class Rig:
    """Posts numbered events to a pipeline whose sink is away until `open` is called."""

    def __init__(self, weir):
        self.weir, self.port, self.target_port = weir, free_port(), free_port()
        self.reloads, self.target = {"ok": 0, "failed": 0}, None

    def pipeline(self, buffer="buffer: {type: disk, path: one}", more="", sinks=""):
        return f"""\
name: reloaded
sources: {{in: {{type: http, address: '127.0.0.1:{self.port}', max_wait: 20s}}}}
sinks:
  out: {{type: http, url: 'http://127.0.0.1:{self.target_port}/events', on_reject: drop, inputs: [in],
         retry: {{initial: 20ms, max: 100ms}}, {buffer}{more}}}
{sinks}
"""

    def start(self, text):
        self.running = self.weir.start(text)
        self.path = self.weir.folder / "pipeline-1.yaml"
        return self

    def without_out(self, more=""):
        """The pipeline with another sink, and the same without the first one."""
        text = self.pipeline(sinks="  more: {type: blackhole, inputs: [in]}") + more
        lines = [x for x in text.splitlines() if not x.startswith("  out:") and "retry:" not in x]
        return text, "\n".join(lines) + "\n"

    def post(self, first, n=1, pad=0):
        body = "".join(json.dumps({"n": i, "pad": "x" * pad}) + "\n" for i in range(first, first + n))
        answer = requests.post(f"http://127.0.0.1:{self.port}/events", body, timeout=60,
                               headers={"Content-Type": "application/x-ndjson"})
        assert answer.status_code == 200, answer.text

    def reload(self, text, result="ok"):
        self.path.write_text(text)
        self.reloads[result] += 1
        self.running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.running.metrics().get("weir_config_reloads_total", result=result) ==
                   self.reloads[result], 40, "the reload")
        return self.running.find_log("pipeline reloaded" if result == "ok" else "reload failed")[-1]

    def metric(self, name, **labels):
        return self.running.metrics().get(name, component="out", **labels)

    def open(self):
        self.target = self.weir.start(f"""\
name: target
sources: {{in: {{type: http, address: '127.0.0.1:{self.target_port}'}}}}
sinks: {{out: {{type: file, path: out.ndjson, on_reject: drop}}}}
""")

    def found(self):
        """The last line may be on its way."""
        path = self.weir.folder / "out.ndjson"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line)["n"] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def end(self, n):
        wait_until(lambda: len(self.found()) >= n, 40, f"{n} events")
        assert self.running.stop() == 0 and self.target.stop() == 0
        return self.found()


@pytest.fixture
def rig(weir):
    return Rig(weir)


@pytest.mark.sanitize
def test_more_room_lets_go_on_who_waits_for_it(rig):
    rig.start(rig.pipeline("buffer: {type: disk, path: one, size: 1MiB}"))
    for k in range(4):
        rig.post(k * 10, 10, 24000)
    answers = []
    waits = threading.Thread(target=lambda: answers.append(rig.post(40, 10, 24000)))
    waits.start()
    time.sleep(1)
    assert answers == [] and rig.metric("weir_buffer_limit_bytes") == 1 << 20
    line = rig.reload(rig.pipeline("buffer: {type: disk, path: one, size: 64MiB, sync: 5ms, keep_source: false, "
                                   "drain_on_stop: true}"))
    assert (line["kept"], line["changed"]) == (2, 0)
    waits.join()
    assert answers == [None] and rig.metric("weir_buffer_limit_bytes") == 64 << 20
    rig.post(50, 50, 24000)
    rig.open()
    assert rig.end(100) == list(range(100))


def test_what_is_done_when_it_is_full_changes(rig):
    rig.start(rig.pipeline("buffer: {type: disk, path: one, size: 64MiB}"))
    rig.post(0, 60, 24000)
    rig.reload(rig.pipeline("buffer: {type: disk, path: one, size: 1MiB, when_full: drop_newest}"))
    rig.post(60, 10, 1000)
    assert rig.metric("weir_component_discarded_events_total", reason="buffer_full") == 10
    rig.open()
    assert rig.end(60) == list(range(60)), "what was in it stays, though it is over the new size"


@pytest.mark.sanitize
@pytest.mark.parametrize("before, after", [
    ("buffer: {type: disk, path: one}", "buffer: {type: disk, path: two}"),
    ("buffer: {type: disk, path: one}", "buffer: {type: disk, path: two}, concurrency: 2"),
    ("buffer: {type: memory}", "buffer: {type: disk, path: two}"),
    ("buffer: {type: disk, path: one}", "buffer: {type: memory}"),
])
def test_another_buffer_begins_where_the_old_one_ends(rig, before, after):
    rig.start(rig.pipeline(before))
    posted = []

    def post(first):
        thread = threading.Thread(target=rig.post, args=(first, 10))
        thread.start()
        posted.append(thread)
        time.sleep(0.5)

    post(0)
    line = rig.reload(rig.pipeline(after))
    assert (line["kept"], line["changed"]) == (1, 1)
    post(10)
    assert rig.found() == []
    rig.open()
    for thread in posted:
        thread.join()
    found = rig.end(20)
    assert sorted(found) == list(range(20)) and sorted(found[:10]) == list(range(10))
    assert not list((rig.weir.folder / "one").glob("*.segment"))


@pytest.mark.sanitize
def test_the_buffer_of_a_sink_that_goes_is_emptied(rig):
    text, without = rig.without_out()
    rig.start(text)
    rig.post(0, 30)
    line = rig.reload(without)
    assert line["removed"] == 1
    rig.post(30, 1)
    line = rig.reload(text, "failed")
    assert "is still being emptied for sink 'out'" in line["reason"]
    rig.open()
    wait_until(lambda: len(rig.found()) == 30, 30, "what it had")

    def back():
        rig.path.write_text(text)
        rig.running.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        return rig.running.metrics().get("weir_config_last_reload_successful", pipeline="reloaded") == 1
    wait_until(back, 20, "the sink's return")
    rig.post(31, 1)
    assert rig.end(31) == [*range(30), 31]


@pytest.mark.sanitize
def test_a_stop_empties_the_buffer_of_a_sink_that_has_gone(rig):
    text, without = rig.without_out()
    rig.start(text).post(0, 30)
    rig.reload(without)
    rig.running.signal(signal.SIGTERM)
    time.sleep(1)
    assert rig.running.alive and rig.found() == []
    rig.open()
    assert rig.running.wait() == 0
    assert rig.target.stop() == 0
    assert rig.found() == list(range(30))
    assert not list((rig.weir.folder / "one").glob("*.segment"))
    assert not rig.running.find_log("are left") and not rig.running.find_log("keeps events")


def test_what_a_stop_leaves_of_a_sink_that_has_gone_is_said(rig):
    text, without = rig.without_out("shutdown_timeout: 1s\n")
    rig.start(text).post(0, 30)
    rig.reload(without)
    rig.running.stop(timeout=20)
    line, = rig.running.find_log("events are left in the disk buffer of a sink that is gone")
    assert (line["level"], line["component"], line["events"]) == ("error", "out", 30)
    assert line["path"] == str(rig.weir.folder / "one")
    rig.path.write_text(text)
    rig.running = rig.weir.start(rig.path)
    rig.open()
    assert rig.end(30) == list(range(30)), "as the line says"


@pytest.mark.sanitize
def test_a_stop_ends_who_waits_behind_a_buffer_that_cannot_be_emptied(rig):
    more = "\nshutdown_timeout: 1s"
    rig.start(rig.pipeline(sinks=more)).post(0, 10)
    rig.reload(rig.pipeline("buffer: {type: disk, path: two}", sinks=more))
    answers = []

    def post():
        body = "".join(json.dumps({"n": i}) + "\n" for i in range(10, 30))
        try:
            answers.append(requests.post(f"http://127.0.0.1:{rig.port}/events", body, timeout=60).status_code)
        except requests.RequestException:
            pass

    waits = threading.Thread(target=post)
    waits.start()
    time.sleep(1)
    rig.running.stop(expect=None, timeout=20)
    waits.join()
    gone, = rig.running.find_log("events are left")
    assert (gone["events"], gone["path"]) == (10, str(rig.weir.folder / "one"))
    assert not rig.running.find_log("without a clean shutdown")
    kept = rig.running.find_log("keeps events for the next start")
    assert answers != [200] or kept[0]["events"] == 20, "what was answered is stored"


def test_what_cannot_change_beside_the_buffer_is_said(rig):
    rig.start(rig.pipeline())
    rig.post(0, 5)
    line = rig.reload(rig.pipeline(more=", concurrency: 2"), "failed")
    assert "concurrency cannot change while its disk buffer" in line["reason"]
    assert "another path" in line["reason"]
    rig.post(5, 5)
    renamed = rig.pipeline().replace("  out:", "  renamed:")
    line = rig.reload(renamed, "failed")
    assert "is that of the running sink 'out'" in line["reason"]
    assert rig.running.metrics().get("weir_config_last_reload_successful", pipeline="reloaded") == 0
    rig.open()
    assert rig.end(10) == list(range(10))
