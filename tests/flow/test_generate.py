# SPDX-License-Identifier: Apache-2.0
"""Source generate: the same events again, at a rate; sink blackhole."""
import json
import re
import time

import pytest


def generated(weir, options):
    weir.run(f"""\
name: made
sources: {{in: {{type: generate, {options}}}}}
sinks: {{out: {{type: file, path: out.ndjson, mode: truncate, on_reject: drop}}}}
""")
    return (weir.folder / "out.ndjson").read_bytes()


def test_the_same_seed_gives_the_same_bytes(weir):
    first = generated(weir, "count: 3000, seed: 5")
    assert generated(weir, "count: 3000, seed: 5") == first
    other = generated(weir, "count: 3000, seed: 6")
    assert other != first
    events = [json.loads(line) for line in first.splitlines()]
    assert {e["type"] for e in events} == {"page_view", "click", "login", "logout", "purchase",
                                           "search", "signup", "heartbeat"}
    ids = [e["id"] for e in events] + [json.loads(line)["id"] for line in other.splitlines()]
    assert len(set(ids)) == 6000
    assert [e["seq"] for e in events] == list(range(3000))
    for e in events:
        if e["type"] == "purchase":
            assert e["props"]["amount"] == pytest.approx(
                sum(i["price"] * i["quantity"] for i in e["props"]["items"]))
    assert 300 < len(first) / 3000 < 450


def test_lanes_share_the_events(weir):
    one = generated(weir, "count: 3001, lanes: 1")
    three = generated(weir, "count: 3001, lanes: 3")
    assert sorted(one.splitlines()) == sorted(three.splitlines())


def test_size_start_step_users(weir):
    events = generated(weir, 'count: 50, size: 2KiB, start: "2024-02-29T23:59:59Z", step: 1s, '
                             "users: 3").splitlines()
    assert {len(line) for line in events} == {2048}
    events = [json.loads(line) for line in events]
    assert events[0]["ts"] == "2024-02-29T23:59:59.000Z"
    assert events[1]["ts"] == "2024-03-01T00:00:00.000Z"
    assert {e["user_id"] for e in events} == {"u00000000", "u00000001", "u00000002"}
    assert len(generated(weir, "count: 5, size: 1MiB")) == 5 * ((1 << 20) + 1)


@pytest.mark.sanitize
def test_times_start_again_after_a_hundred_years(weir):
    late = generated(weir, 'count: 36530, size: 250, start: "2149-12-31T23:59:59Z", step: 1d')
    times = [json.loads(line)["ts"] for line in late.splitlines()]
    assert times[36525] == "2250-01-01T23:59:59.000Z" and times[36526] == times[0]
    assert times[:36526] == sorted(times[:36526])
    checked = weir.check("""\
name: late
sources: {in: {type: generate, start: "2150-01-01T00:00:00Z"}}
sinks: {out: {type: blackhole}}
""", expect=1)
    assert "1970 to 2149" in checked.text


@pytest.mark.parametrize("lanes", [1, 3])
def test_rate(weir, lanes):
    """Never faster; how much slower is the machine's affair."""
    started = time.monotonic()
    data = generated(weir, f"count: 600, rate: 300, lanes: {lanes}")
    took = time.monotonic() - started
    assert data.count(b"\n") == 600
    assert took > (600 - lanes) / 300 - 0.05, took


def test_ids_of_seeds_that_differ_anywhere(weir):
    seeds = [0, 1, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 47, 1 << 48, 1 << 59, (1 << 60) - 1]
    ids = [json.loads(line)["id"] for seed in seeds
           for line in generated(weir, f"count: 3, seed: {seed}").splitlines()]
    assert len(set(ids)) == 3 * len(seeds)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)


def test_endless_until_stopped(weir):
    r = weir.start("name: e\nsources: {in: {type: generate, start: now}}\n"
                   "sinks: {out: {type: blackhole, needs: payload, on_reject: drop}}\n")
    r.wait_metric("weir_blackhole_bytes_total", 10_000_000)
    r.stop()


def test_blackhole_reads_values(weir):
    r = weir.start("name: e\nsources: {in: {type: generate, rate: 1000}}\n"
                   "sinks: {out: {type: blackhole, needs: value, on_reject: drop}}\n")
    r.wait_metric("weir_blackhole_fields_total", 800)
    r.stop()
