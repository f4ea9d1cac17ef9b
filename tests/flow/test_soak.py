# SPDX-License-Identifier: Apache-2.0
"""The short form of scripts/soak, and what its judgement would say of runs that went wrong."""
import json
import os
import signal
import subprocess
import sys

import pytest

from weirtest import wait_until
from weirtest.tools import ROOT

SOAK = ROOT / "tests/soak"
sys.path.insert(0, str(SOAK))

from verdict import judge, judge_leg, slope  # noqa: E402

MIB = 1 << 20
EVEN = {"offered": 1000, "acknowledged": 500, "refused": 500, "failed": 0, "delivered": 500, "repeated": 0, "lost": 0,
        "odd": 0, "odd_example": "", "exit_code": 0}
ASKED = {"mode": "overload", "minutes": 10.0, "rate": 2000, "memory": "96MiB"}


def soak(weir, folder, *args):
    env = dict(os.environ, WEIR_BUILD=str(weir.bin.parents[1]))
    return subprocess.Popen([sys.executable, str(SOAK / "soak.py"), "--folder", str(folder), *args], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.long(75)
def test_a_minute_of_twice_the_load(weir, tmp_path):
    process = soak(weir, tmp_path, "--minutes", "1")
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] and report["lost"] == 0 and report["delivered"] >= report["acknowledged"] > 10000
    assert report["refused"] > 10000 and report["legs"][0]["samples"] >= 55
    assert "passed" in (tmp_path / "report.md").read_text()
    assert len((tmp_path / "samples.ndjson").read_text().splitlines()) == report["legs"][0]["samples"]


@pytest.mark.long(70)
def test_an_interrupted_run_goes_on(weir, tmp_path):
    args = ("--minutes", "0.85", "--mode", "normal", "--rate", "500")
    process = soak(weir, tmp_path, *args)
    wait_until(lambda: (tmp_path / "samples.ndjson").exists() and
               len((tmp_path / "samples.ndjson").read_text().splitlines()) >= 32, 90)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130 and "goes on" in out, out
    process = soak(weir, tmp_path, *args)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "goes on: " in out, out
    report = json.loads((tmp_path / "report.json").read_text())
    first, second = report["legs"]
    assert first["seconds"] >= 30 and 48 <= first["seconds"] + second["seconds"] <= 53
    assert report["acknowledged"] == report["offered"] and report["passed"]


def test_wrong_usage():
    for args in (["--minutes", "0"], ["--mode", "sideways"], ["--nothing"]):
        done = subprocess.run([sys.executable, str(SOAK / "soak.py"), *args], capture_output=True, text=True)
        assert done.returncode == 2, done


# ---- The judgement -----------------------------------------------------------------------------

def samples(rss=lambda t: 20.0, fds=lambda t: 50, threads=lambda t: 8, seconds=600):
    return [{"at": float(t), "rss": int(rss(t) * MIB), "fds": fds(t), "threads": threads(t)} for t in range(seconds)]


def problems(series, **ledger):
    return judge_leg({**EVEN, **ledger}, series)["problems"]


def test_slopes():
    assert slope([(0, 5), (1, 7), (2, 9)]) == pytest.approx(2)
    assert slope([(0, 5)]) == 0 == slope([])


def test_a_steady_run_is_good():
    assert problems(samples()) == []
    assert problems(samples(rss=lambda t: 15 + min(t, 190) / 20)) == [], "it may warm up in the first third"
    assert problems(samples(rss=lambda t: 20 + t * 0.9 / 600)) == []


@pytest.mark.parametrize("series, ledger, word", [
    (samples(rss=lambda t: 20 + t * 1.2 / 600), {}, "memory grows by 1.20 MiB"),
    (samples(rss=lambda t: 20 + t * 2 / 40, seconds=60), {}, "memory grows"),
    (samples(fds=lambda t: 50 + t // 60), {}, "descriptors went from"),
    (samples(threads=lambda t: 8 + (t > 500)), {}, "threads went from 8 to 9"),
    (samples(), {"lost": 1}, "1 acknowledged events were not delivered"),
    (samples(), {"exit_code": 1}, "weir ended with 1"),
    (samples(), {"odd": 2, "odd_example": "500"}, "2 answers were none"),
    (samples(seconds=9), {}, "only 6 samples"),
], ids=["slow leak", "fast leak", "descriptors", "threads", "lost", "exit", "answers", "short"])
def test_what_is_wrong_is_found(series, ledger, word):
    found = problems(series, **ledger)
    assert any(word in p for p in found), found
    report = judge(ASKED, [judge_leg({**EVEN, **ledger}, series)])
    assert not report["passed"]


def test_a_load_that_was_none_does_not_pass():
    def of(mode, **ledger):
        return judge({**ASKED, "mode": mode}, [judge_leg({**EVEN, **ledger}, samples())])
    assert of("overload")["passed"]
    assert not of("overload", refused=0)["passed"]
    assert not of("overload", delivered=1000, acknowledged=1000)["passed"]
    assert of("normal", acknowledged=1000, delivered=1000, refused=0)["passed"]
    assert not of("normal", acknowledged=999, delivered=999)["passed"]


def test_a_lost_event_is_seen_by_the_ledger():
    from traffic import Ledger
    ledger = Ledger()
    first = ledger.offer(20)
    ledger.acknowledge(first, 20)
    ledger.deliver(n for n in range(20) if n != 7)
    ledger.deliver([3])
    totals = ledger.totals()
    assert (totals["lost"], totals["delivered"], totals["repeated"]) == (1, 19, 1)
