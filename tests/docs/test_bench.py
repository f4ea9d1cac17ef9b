# SPDX-License-Identifier: Apache-2.0
"""scripts/bench runs and reports; what it reports is not judged."""
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(*args):
    build = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute().parents[1]
    return subprocess.run([sys.executable, str(ROOT / "tests/bench/bench.py"), *args], text=True,
                          capture_output=True, timeout=240, env={**os.environ, "WEIR_BUILD": str(build)})


def test_list_names_every_scenario():
    listed = bench("--list").stdout.splitlines()
    assert [line.split(":")[0] for line in listed] == ["engine", "file-lua-file", "http-kafka",
                                                       "kafka-stores"]


def test_unknown_scenario_is_told():
    done = bench("fast-please")
    assert done.returncode == 2 and "unknown scenario fast-please" in done.stderr


def test_a_scenario_stands_beside_its_limit():
    done = bench("--scale", "0.02", "engine", "file-lua-file")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"engine: 200000 events in batches of \d+: \d+ events/s, [\d.]+ ns CPU", done.stdout)) == 3
    rows = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines() if line[34:45].strip()}
    assert {"yyjson read, edit, write", "weir"} <= rows.keys(), done.stdout
    assert float(rows["weir"][1]) > 0 and int(rows["weir"][0].replace(",", "")) > 1000
