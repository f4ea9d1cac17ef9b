# SPDX-License-Identifier: Apache-2.0
"""The order of a key is kept while a sink fails for some keys and not for others, with several shards and several
writes in flight."""
import json
import random
import re
import threading

import pytest

from http_sink_rig import Server

N_EVENTS, N_KEYS = 600, 12


def write_events(weir, seed):
    chance = random.Random(seed)
    counts = [0] * N_KEYS
    lines = []
    for _ in range(N_EVENTS):
        k = chance.randrange(N_KEYS)
        lines.append(json.dumps({"k": f"k{k}", "i": counts[k]}) + "\n")
        counts[k] += 1
    weir.write("".join(lines), "in.ndjson")
    return {f"k{k}": list(range(n)) for k, n in enumerate(counts)}


def pipeline(sink, batch):
    return f"""
name: p
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  keys: {{type: lua, inputs: [in], code: "function process(event, meta) meta.key = event.k return event end"}}
sinks:
  out: {{inputs: [keys], concurrency: 3, batch: {{events: {batch}, timeout: 1ms}},
        retry: {{initial: 2ms, max: 10ms}}, on_reject: drop, {sink}}}
"""


def is_in_order(seen, whole):
    """An event may come twice, behind one that failed; but each comes first when all before it have come, and
    a repetition goes on without a gap to where it was. The last state is that of the last event."""
    for i, now in enumerate(seen):
        before = seen[i - 1] if i else -1
        assert now <= before + 1, f"{now} behind {before}: {seen}"
    assert sorted(set(seen)) == whole and seen[-1] == whole[-1], seen


class Flaky:
    """An HTTP server that takes a request whole, or fails it behind any number of its events."""

    def __init__(self, seed):
        self.chance, self.lock, self.taken = random.Random(seed), threading.Lock(), {}
        self.failures = 0
        self.server = Server(self.decide)

    def decide(self, request):  # under the server's lock
        events = [json.loads(line) for line in request.body.splitlines()]
        if self.chance.random() < 0.3:
            self.failures += 1
            # Some of it was stored before the answer got lost: delivery is at least once.
            self.take(events[:self.chance.randrange(len(events) + 1)])
            return self.chance.choice([500, 503, 429, 408])
        self.take(events)
        return 200

    def take(self, events):
        for event in events:
            self.taken.setdefault(event["k"], []).append(event["i"])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("format", ["ndjson", "single"])
def test_http(weir, seed, format):
    expected, flaky = write_events(weir, seed), Flaky(seed)
    try:
        weir.run(pipeline(f'type: http, url: "{flaky.server.url}/", format: {format}', 1 + seed % 4 * 5), timeout=120)
    finally:
        flaky.server.close()
    assert flaky.failures > 5
    for key, whole in expected.items():
        is_in_order(flaky.taken[key], whole)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.sanitize
def test_redis_while_connections_break(weir, own_redis, seed):
    """Four writes in flight on each connection; connections are cut at random. What adds up is guarded by its id, so
    that each element is there once."""
    server, expected = own_redis(), write_events(weir, seed)
    client, chance, over = server.client(), random.Random(seed), threading.Event()

    def disturb():
        while not over.wait(chance.random() / 50):
            client.client_kill_filter(_type="normal", skipme=True)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        r = weir.start(pipeline(f'type: redis, url: "{server.url}", in_flight: 4, once: {{ttl: 1h}}, '
                                'list: {key: "l:{{ k }}", value: "{{ i }}"}', 1 + seed % 4 * 3), ready=False)
        r.wait(timeout=90)
    finally:
        over.set()
        thread.join()
    for key, whole in expected.items():
        assert [int(v) for v in client.lrange(f"l:{key}", 0, -1)] == whole, key
    assert re.search("unavailable|connection", r.stderr)


@pytest.mark.parametrize("seed", range(4))
def test_redis_that_has_no_room_for_some(weir, own_redis, seed):
    """Commands that fail for a while, each by itself, in the middle of a pipeline: those that write a lot do not get
    through while memory is used up. What overwrites is repeated behind the failed one of its key."""
    server, expected = own_redis("--maxmemory-policy", "noeviction"), write_events(weir, seed)
    client, over, chance = server.client(), threading.Event(), random.Random(seed)

    def disturb():
        while not over.wait(0.005 + chance.random() / 50):
            client.config_set("maxmemory", chance.choice(["1", "0", "0"]))
        client.config_set("maxmemory", "0")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        r = weir.start(pipeline(f'type: redis, url: "{server.url}", in_flight: 4, '
                                'set: {key: "s:{{ k }}", value: "{{ i }}"}', 1 + seed % 4 * 3), ready=False)
        r.wait(timeout=90)
    finally:
        over.set()
        thread.join()
    assert {key: int(client.get(f"s:{key}")) for key in expected} == {k: whole[-1] for k, whole in expected.items()}
