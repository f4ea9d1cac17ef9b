# SPDX-License-Identifier: Apache-2.0
"""Reloads with duplicates that dedupe holds: where it did not change they wait on, with the keys; where it did they
end as the first does, and then the new one begins."""
import signal
import threading
import time

import pytest

from dedupe_rig import Web, pipeline
from weirtest import wait_until


class Held:
    """Two firsts on their way to a Redis that does not answer, and six duplicates of them that are held."""

    def __init__(self, weir, own_redis, transform="type: dedupe"):
        self.weir, self.server, self.web = weir, own_redis(), Web()
        self.running = weir.start(self.text(transform))
        self.path = weir.folder / "pipeline-1.yaml"
        assert self.web.post({"n": "old"}, "old").json() == {"accepted": 1}
        self.server.pause()
        self.answers = []
        self.threads = [threading.Thread(target=self.post, args=(key,)) for key in ["a", "b"] * 4]
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.running.metric("weir_held_events", component="d") == 6, 20)

    def text(self, transform, sink="", more=""):
        sink = (f"type: redis, url: '{self.server.url}', command: [RPUSH, l, '{{{{ n }}}}'], "
                f"retry: {{initial: 50ms, max: 100ms}}, timeout: 1s{sink}")
        return pipeline(transform, self.web.source, sink, more)

    def post(self, key):
        self.answers.append(self.web.post({"n": key}, key))

    def reloaded(self):
        assert self.running.metrics().get("weir_config_reloads_total", result="failed") == 0
        return self.running.metrics().get("weir_config_reloads_total", result="ok") == 1

    def reload(self, text):
        self.path.write_text(text)
        self.running.process.send_signal(signal.SIGHUP)

    def ended(self):
        for thread in self.threads:
            thread.join()
        assert [answer.status_code for answer in self.answers] == [200] * 8
        assert sum("items" in answer.json() for answer in self.answers) == 6
        found = self.server.client().lrange("l", 0, -1)
        assert sorted(set(found)) == ["a", "b", "old"]
        assert self.running.metric("weir_held_events", component="d") == 0

    def is_duplicate(self, key):
        return self.web.post({"n": key}, key).json() != {"accepted": 1}


@pytest.mark.sanitize
@pytest.mark.parametrize("sink, more", [(", expire: 1h", ""), ("", "# the same\n")])
def test_what_is_held_and_the_keys_survive(weir, own_redis, sink, more):
    held = Held(weir, own_redis)
    held.reload(held.text("type: dedupe", sink, more))
    wait_until(held.reloaded, 30, "the reload")
    time.sleep(0.3)
    assert held.answers == [] and held.running.metric("weir_held_events", component="d") == 6
    held.server.resume()
    held.ended()
    assert all(held.is_duplicate(key) for key in ("old", "a", "b"))
    assert held.running.stop() == 0


@pytest.mark.sanitize
def test_a_changed_one_begins_when_the_old_one_has_given_all(weir, own_redis):
    """What it holds waits for the firsts, which the sink still has to write; then the keys are new ones."""
    held = Held(weir, own_redis)
    held.reload(held.text("type: dedupe, entries: 5000"))
    time.sleep(1)
    assert held.answers == [] and not held.reloaded()
    held.server.resume()
    held.ended()
    wait_until(held.reloaded, 30, "the reload")
    assert [held.is_duplicate(key) for key in ("old", "a", "b")] == [False] * 3
    assert [held.is_duplicate(key) for key in ("old", "a", "b")] == [True] * 3
    assert held.running.stop() == 0


@pytest.mark.sanitize
def test_a_changed_source_keeps_the_keys(weir, own_redis):
    """The source's lane goes, and what it holds ends in order; the keys are all lanes'."""
    held = Held(weir, own_redis)
    held.reload(held.text("type: dedupe").replace("request_timeout: 60s", "request_timeout: 59s"))
    time.sleep(0.5)
    held.server.resume()
    held.ended()
    wait_until(held.reloaded, 30, "the reload")
    assert all(held.is_duplicate(key) for key in ("old", "a", "b"))
    assert held.running.stop() == 0
