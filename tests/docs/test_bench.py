# SPDX-License-Identifier: Apache-2.0
"""scripts/bench runs every scenario and counts right; how fast it was is not judged."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each scenario, how many events it has at the scale of these tests (None: as many as were posted), and
# whether it says how many were parsed.
FLOWS = {
    "file-parse-blackhole": (8000, True), "file-parse-file": (8000, True),
    "file-lua-file": (4000, True), "file-dedupe-blackhole": (2000, True),
    "file-sample-throttle-blackhole": (4000, True), "file-disk-blackhole": (4000, False),
    "http-1-blackhole": (None, False), "http-100-blackhole": (None, False), "http-100-disk": (None, False),
    "http-1-kafka": (None, False), "http-100-kafka": (None, False), "kafka-parse-blackhole": (4000, True),
    "kafka-lua-kafka": (2000, False), "kafka-redis": (2000, False),
    "kafka-redis_dedupe-blackhole": (1000, False), "kafka-mongodb": (1000, False),
}
REPORTS = {"engine": 3, "memory": 2, "ready": 2}


def command(*args):
    build = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute().parents[1]
    return {"args": [sys.executable, str(ROOT / "tests/bench/bench.py"), *map(str, args)],
            "env": {**os.environ, "WEIR_BUILD": str(build)}, "text": True}


def bench(*args, timeout=280):
    return subprocess.run(**command(*args), capture_output=True, timeout=timeout)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """One round of everything, with a thousandth of the events."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    done = bench("--scale", 0.002, "--rounds", 1, "--json", path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(path.read_text())


def test_list_names_every_scenario():
    listed = bench("--list").stdout.splitlines()
    assert [line.split(":")[0] for line in listed] == [*FLOWS, *REPORTS]
    assert all(len(line) <= 120 for line in listed)


@pytest.mark.parametrize("name", FLOWS)
def test_a_scenario_stands_beside_its_limit(tiny, name):
    figures, (events, parses) = tiny[1][name], FLOWS[name]
    roles = [row["role"] for row in figures.values()]
    assert roles.count("weir") == 1 and roles.count("limit") >= 1
    for row in figures.values():
        assert row["events"] == events or events is None and row["events"] > 0
        assert row["events_per_second"] > 0 and row["peak_mib"] > 0
    weir = figures["weir"]
    assert weir["parsed"] == (events if parses else None)
    assert (weir["p99_ms"] is not None) == name.startswith("http")
    assert f"\n{name}: " in tiny[0]


@pytest.mark.parametrize("name", REPORTS)
def test_what_has_no_limit_is_reported(tiny, name):
    assert len(tiny[1][name]) == REPORTS[name] and all(value > 0 for value in tiny[1][name].values())


def test_the_readme_has_every_scenario():
    text = (ROOT / "tests/bench/README.md").read_text()
    assert [name for name in [*FLOWS, *REPORTS] if f"`{name}`" not in text] == []


def files(*peers):
    return bench("--scale", 0.001, "--rounds", 1, *(word for peer in peers for word in ("--peer", peer)),
                 "file-parse-blackhole", "file-parse-file")


def test_a_peer_takes_part_where_it_can():
    done = files('cat=[ "$BENCH_SCENARIO" = file-parse-file ] || exit 64; cat "$BENCH_INPUT" >"$BENCH_OUTPUT"')
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("file-parse-file: ")
    assert "\ncat " in second and "\ncat " not in first


@pytest.mark.parametrize("peer, said", [
    ('half=head -n 2000 "$BENCH_INPUT" >"$BENCH_OUTPUT"',
     "lines that the peer wrote: 2,000 found, 4,000 expected"),
    ("broken=echo out of luck; exit 3", "the peer ended with 3:\nout of luck"),
    ("nameless", 'NAME=COMMAND, not "nameless"'),
])
def test_a_peer_that_does_not_do_the_work_is_told(peer, said):
    done = files(peer)
    assert done.returncode != 0 and said in done.stderr


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_peer_ends_with_its_bench(tmp_path, number):
    pids = tmp_path / "pids"
    process = subprocess.Popen(**command("--scale", 0.001, "--peer", f"lasting=trap '' TERM; sleep 1000 & "
                                         f"echo $$ $! >{pids}; wait; wait", "file-parse-blackhole"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    process.send_signal(number)
    process.wait(60)
    wait_until(lambda: not any(runs(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.parametrize("args, said", [
    (["fast-please"], "unknown scenario fast-please"), (["--scale", "0"], "have to be above 0"),
    (["--rounds", "0"], "have to be above 0")])
def test_wrong_usage_is_told(args, said):
    done = bench(*args)
    assert done.returncode == 2 and said in done.stderr
