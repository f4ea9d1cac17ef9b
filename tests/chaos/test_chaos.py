# SPDX-License-Identifier: Apache-2.0
"""scripts/chaos as it is called: a short run finds nothing, builds that break a promise are found out, a run
goes on where it was interrupted."""
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import BUILD, ROOT

from chaos import State, Targets
from faults import ALL, WEIGHTS
from selftest import BROKEN, SHORT as SHORT_SELF_TEST

SHORT = "kill,kill-all,redis,cut,stall-kill,stop,rebalance,clock,power,reload"


def command(*args):
    return {"args": [sys.executable, str(ROOT / "tests/chaos/chaos.py"), *map(str, args)],
            "env": {**os.environ, "WEIR_BUILD": str(BUILD)}, "text": True}


def chaos(*args, timeout=800):
    done = subprocess.run(**command(*args), capture_output=True, timeout=timeout)
    print(done.stdout[-20000:], done.stderr[-4000:])
    return done


def test_a_short_run_loses_nothing(tmp_path):
    """As ./scripts/chaos --kills N --events N --readme, but for the numbers."""
    path = tmp_path / "report.json"
    done = chaos("--minutes", 0.6, "--faults", SHORT, "--dir", tmp_path / "state", "--report", path, "--seed", 84)
    report = json.loads(path.read_text())
    assert done.returncode == 0, done.stdout
    assert report["findings"] == [] and report["issued"] == report["acknowledged"] > 5000
    assert report["kills"] >= 1 and report["in_flight"] >= 1 and report["faults"] >= 2
    assert "power" in report["by_kind"], "the seed begins with one, then a reload, kill-all, kills"
    for where in ("Kafka (platform)", "MongoDB", "Kafka (edge)", "Kafka (copied)", "file (archive)",
                  "Redis (list, once)", "Redis (history)", "Kafka (followed)", "Redis (disk buffer)"):
        assert report["stores"][where]["records"] > 500, where


def test_builds_that_break_a_promise_are_found_out():
    done = chaos("--self-test", "short")
    assert done.returncode == 0 and "2 of 2 were found out" in done.stdout, done.stdout + done.stderr


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    """A round that was not over is not counted; those that were are, and other settings are another run."""
    entry = {"round": 1, "seconds": 10.0, "issued": 1000, "acknowledged": 1000, "kills": 5, "faults": [],
             "figures": {}, "findings": [], "sent_again": 0}
    settings = {"seed": 5, "flows": ["count"], "faults": ["kill"], "rate": 1200.0}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "rounds.ndjson").write_text(json.dumps(entry) + "\n" + '{"round": 2, "sec')
    path = tmp_path / "report.json"
    done = chaos("--flows", "count", "--faults", "kill", "--kills", 5, "--events", 1000, "--dir", tmp_path,
                 "--report", path)
    assert done.returncode == 0 and "1 rounds are done: going on" in done.stdout, done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert (report["seed"], report["rounds"], report["kills"], report["issued"]) == (5, 1, 5, 1000)
    State(tmp_path, settings, fresh=False).add({**entry, "round": 2})
    assert State(tmp_path, settings, fresh=False).sum("kills") == 10
    assert State(tmp_path, {**settings, "seed": 6}, fresh=False).rounds == []
    State(tmp_path, settings, fresh=False).add(entry)
    assert State(tmp_path, settings, fresh=True).rounds == []


def test_when_a_run_is_over(tmp_path):
    state = State(tmp_path, {}, fresh=True)
    state.add({"seconds": 60.0, "kills": 5, "issued": 1000})

    def reached(**given):
        args = dict(kills=None, events=None, minutes=None)
        return Targets(SimpleNamespace(**{**args, **given}), state).reached()

    assert reached(kills=5, events=1000) and not reached(kills=5, events=1001) and not reached(kills=6)
    assert reached(minutes=1) and not reached(minutes=2) and not reached() and reached(kills=6, minutes=1)


@pytest.mark.parametrize("args, said", [
    (["--faults", "kill,meteor"], "unknown meteor"), (["--flows", "river"], "unknown river"),
    (["--kills", "0"], "--kills has to be above 0"), (["--minutes", "-1"], "--minutes has to be above 0"),
    (["--self-test", "EVERYTHING"], "unknown EVERYTHING"), (["--seed", "x"], "invalid int")])
def test_wrong_usage_is_told(args, said):
    done = chaos(*args)
    assert done.returncode == 2 and said in done.stderr


def test_help_names_every_fault():
    text = subprocess.run([ROOT / "scripts/chaos", "--help"], capture_output=True, text=True).stdout
    assert list(ALL) == list(WEIGHTS)
    assert all(f" {kind}" in text for kind in ALL), text


def test_every_way_to_break_a_build_is_in_the_self_test():
    header = (ROOT / "core/engine/broken.h").read_text()
    assert sorted(re.findall(r"^#ifdef WEIR_BREAK_(\w+)", header, re.M)) == sorted(b.name for b in BROKEN)
    assert set(SHORT_SELF_TEST) <= {b.name for b in BROKEN}
    others = [path for path in (ROOT / "core").rglob("*.[ch]")
              if path.name != "broken.h" and "WEIR_BREAK_" in path.read_text()]
    assert not others, f"{others}: what a build breaks stands in core/engine/broken.h alone"
    readme = (ROOT / "tests/chaos/README.md").read_text()
    assert all(f"`{b.name}`" in readme for b in BROKEN)
