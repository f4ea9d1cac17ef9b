# SPDX-License-Identifier: Apache-2.0
"""Proves that nothing is lost: rounds of load under faults, each compared with what was acknowledged."""
import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))
sys.path.insert(0, str(Path(__file__).parent))

from weirtest import session  # noqa: E402

import faults  # noqa: E402
import report  # noqa: E402
import selftest  # noqa: E402
from flows import Ports  # noqa: E402
from round import Round  # noqa: E402
from weirs import available  # noqa: E402
from world import World  # noqa: E402

BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build/release"))
FLOWS = ("platform", "chain", "follow", "buffered")
MINUTES = 2.0
ROUND_SECONDS = 120.0


@dataclass
class Options:
    """What a round is told."""

    seed: int
    flows: tuple
    faults: tuple
    rate: float
    binary: Path
    plugins: Path
    shims: tuple

    @staticmethod
    def say(line):
        print(line, flush=True)


class State:
    """The rounds that are done, a line of JSON each: a run that was interrupted goes on behind them."""

    def __init__(self, folder, settings, fresh):
        self.settings = settings
        self._rounds, self._settings = folder / "rounds.ndjson", folder / "settings.json"
        folder.mkdir(parents=True, exist_ok=True)
        there = json.loads(self._settings.read_text()) if self._settings.exists() else None
        if fresh or there != settings:
            self._rounds.unlink(missing_ok=True)
        self._settings.write_text(json.dumps(settings) + "\n")
        self.rounds = self._read()
        self._rounds.write_text("".join(json.dumps(entry) + "\n" for entry in self.rounds))

    def _read(self):
        """The last line may be torn."""
        rounds = []
        for line in self._rounds.read_text().splitlines() if self._rounds.exists() else []:
            try:
                rounds.append(json.loads(line))
            except ValueError:
                break
        return rounds

    def add(self, entry):
        with self._rounds.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self.rounds.append(entry)

    def sum(self, name):
        return sum(entry[name] for entry in self.rounds)


class Targets:
    """Until when a run goes on. `minutes` counts the time of its rounds, those before an interruption included."""

    def __init__(self, args, state):
        self.kills, self.events, self.state = args.kills, args.events, state
        self.seconds = args.minutes * 60 if args.minutes is not None else None
        if self.kills is None and self.events is None and self.seconds is None:
            self.seconds = MINUTES * 60

    def out_of_time(self, seconds=0.0):
        return self.seconds is not None and self.state.sum("seconds") + seconds >= self.seconds

    def met(self, kills=0, events=0):
        wanted = [(self.kills, self.state.sum("kills") + kills), (self.events, self.state.sum("issued") + events)]
        wanted = [(goal, there) for goal, there in wanted if goal is not None]
        return bool(wanted) and all(there >= goal for goal, there in wanted)

    def reached(self):
        return self.met() or self.out_of_time()

    def enough(self, now):
        """For a round under way."""
        seconds = time.monotonic() - now.loaded
        return seconds >= ROUND_SECONDS or self.out_of_time(seconds) or \
            self.met(sum(f["kills"] for f in now.faults), now.oracle.issued())


def run_rounds(args, state, targets, options):
    with a_world("platform" in args.flows) as world:
        ports = Ports()
        while not targets.reached():
            number = len(state.rounds) + 1
            print(f"round {number}", flush=True)
            folder = Path(tempfile.mkdtemp(prefix=f"round-{number}-", dir=session.folder()))
            entry = Round(world, ports, folder, options, number).run(targets.enough)
            state.add(entry)
            for finding in entry["findings"]:
                print(f"  FOUND {finding['promise']} in {finding['where']}: {finding['count']}: {finding['text']}",
                      flush=True)
            if entry["findings"] and args.keep:
                print(f"  logs: {keep(folder, args.dir)}", flush=True)


@contextmanager
def a_world(with_mongodb):
    world = World(session.folder(), BUILD, with_mongodb)
    try:
        yield world.start()
    finally:
        world.close()


def keep(folder, where):
    """The logs of a round in which something was found stay."""
    kept = where / folder.name
    kept.mkdir(parents=True, exist_ok=True)
    for path in (*folder.glob("*.std*"), *folder.glob("*.yaml"), *folder.glob("*dead*")):
        (kept / path.name).write_bytes(path.read_bytes())
    return kept


def self_test(args):
    """Gives the exit code."""
    with a_world(False) as world:
        missed = find_out(args, world)
    print(f"{len(args.self_test) - len(missed)} of {len(args.self_test)} were found out"
          + (f"; missed: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def find_out(args, world):
    _, plugins, shims = available(BUILD)
    ports = Ports()
    numbers = iter(range(1, 100))

    def run_round(binary, flows, kinds, moments):
        options = Options(args.seed, flows, kinds, args.rate, binary, plugins, shims)
        folder = Path(tempfile.mkdtemp(prefix="self-test-", dir=session.folder()))
        return Round(world, ports, folder, options, next(numbers)).run(lambda now: len(now.faults) >= moments)

    return selftest.run(args.self_test, run_round, Options.say)


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--kills", type=int, metavar="N", help="go on until weirs were killed so often")
    parser.add_argument("--events", type=int, metavar="N", help="and until so many events were issued")
    parser.add_argument("--minutes", type=float, metavar="N",
                        help=f"stop after that time, whatever was reached; alone: so long ({MINUTES:g})")
    parser.add_argument("--faults", metavar="LIST", default=",".join(faults.ALL),
                        help=f"kinds of faults, with commas: {', '.join(faults.ALL)} (all)")
    parser.add_argument("--flows", metavar="LIST", default=",".join(FLOWS),
                        help=f"what is put under them: {', '.join(FLOWS)}, count (all but count)")
    parser.add_argument("--rate", type=float, default=1200, metavar="N", help="events a second, all together (1200)")
    parser.add_argument("--seed", type=int, metavar="S", help="for the same faults again (a new one)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also writes the report there, as JSON")
    parser.add_argument("--readme", action="store_true", help="writes it into the README at the top")
    parser.add_argument("--dir", type=Path, default=ROOT / "build/chaos", metavar="DIR",
                        help="where the rounds that are done are kept (build/chaos)")
    parser.add_argument("--fresh", action="store_true", help="forget them and begin anew")
    parser.add_argument("--no-keep", dest="keep", action="store_false", help="keep no logs where something is found")
    parser.add_argument("--self-test", nargs="?", const="all", metavar="NAMES",
                        help=f"build weirs that break a promise, and find each out: "
                             f"{', '.join(b.name for b in selftest.BROKEN)}, or short for two of them (all)")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    check_arguments(parser, args)
    if args.check:
        sys.exit(0)
    return args


def check_arguments(parser, args):
    def words(name, text, known):
        given = tuple(text.split(","))
        unknown = [word for word in given if word not in known]
        if unknown:
            parser.error(f"--{name}: unknown {', '.join(unknown)}; there are {', '.join(known)}")
        return given

    args.faults = words("faults", args.faults, list(faults.ALL))
    args.flows = words("flows", args.flows, [*FLOWS, "count"])
    for name in ("kills", "events", "minutes", "rate"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f"--{name} has to be above 0")
    if args.self_test is not None:
        names = {"all": ",".join(b.name for b in selftest.BROKEN), "short": ",".join(selftest.SHORT)}
        args.self_test = words("self-test", names.get(args.self_test, args.self_test),
                               [b.name for b in selftest.BROKEN])


def load(args):
    """The main run. Gives the exit code."""
    binary, plugins, shims = available(BUILD)
    settings = {"seed": args.seed, "flows": list(args.flows), "faults": list(args.faults), "rate": args.rate}
    state = State(args.dir, settings, args.fresh)
    if state.rounds:
        print(f"{len(state.rounds)} rounds are done: going on ({args.dir}; --fresh begins anew)", flush=True)
    options = Options(args.seed, args.flows, args.faults, args.rate, binary, plugins, shims)
    targets = Targets(args, state)
    if not targets.reached():
        run_rounds(args, state, targets, options)
    reached = targets.met() or (args.kills is None and args.events is None)
    sums = report.total(state.rounds)
    print(report.text(sums, settings))
    if args.report:
        args.report.write_text(json.dumps({**settings, **sums}, indent=1) + "\n")
    if args.readme and not sums["findings"] and reached:
        report.write_readme(ROOT / "README.md", sums, args.seed)
    if not reached:
        print("the time was over before --kills and --events were reached: the same command goes on")
    return 1 if sums["findings"] or not reached else 0


def seed_of(args):
    """Without --seed: that of an unfinished run in the folder, else a new one."""
    there = args.dir / "settings.json"
    if args.seed is None and not args.fresh and there.exists() and args.self_test is None:
        return json.loads(there.read_text())["seed"]
    return args.seed if args.seed is not None else random.SystemRandom().randrange(1_000_000)


def main():
    args = read_arguments()
    args.seed = seed_of(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("WEIR_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    session.begin()
    code = 1
    try:
        code = load(args) if args.self_test is None else self_test(args)
    except KeyboardInterrupt:
        code = 130
    finally:
        session.end()
    sys.exit(code)


if __name__ == "__main__":
    main()
