# SPDX-License-Identifier: Apache-2.0
"""Runs the scenarios: weir beside the raw limit of the library under it, in one run.

Figures of one run are for comparing with each other: the machine's noise is in all of them alike. The
contenders of a scenario take turns, another first each round, and their medians are printed."""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/flow"))
sys.path.insert(0, str(Path(__file__).parent))

from weirtest import session  # noqa: E402
from weirtest.servers import Kafka, Redis  # noqa: E402

from measure import BUILD, Middle, run_limit  # noqa: E402
from scenarios import FLOWS, REPORTS  # noqa: E402

HEAD = (f"{'':28s} {'events/s':>11s} {'spread':>6s} {'of limit':>8s} {'CPU us/ev':>9s} {'peak MiB':>8s} "
        f"{'p99 ms':>7s} {'parsed':>11s}")


def row(name, middle, limit):
    ratio = f"{middle.rate / limit:8.2f}" if limit else f"{'':8s}"
    p99 = f"{middle.p99:7.2f}" if middle.p99 is not None else f"{'':7s}"
    parsed = f"{middle.parsed:11,d}" if middle.parsed is not None else ""
    return (f"{name:28s} {middle.rate:11,.0f} {middle.spread:6.0%} {ratio} {middle.cpu_us:9.2f} "
            f"{middle.peak_mib:8.0f} {p99} {parsed}").rstrip()


class Bench:
    """What the scenarios share: servers, input files, topics, a folder."""

    def __init__(self, folder, scale, peers):
        self.folder, self.scale, self.peers = Path(folder), scale, peers
        self.servers = {}
        self._warm = False
        self._filled = {}
        self._heartbeats = {}

    def server(self, kind):
        if kind not in self.servers:
            print(f"  starting {kind.name} ...", file=sys.stderr, flush=True)
            args = ["--appendonly", "no"] if kind is Redis else []
            self.servers[kind] = kind(self.folder / kind.name, args).start()
        return self.servers[kind]

    def close(self):
        for server in self.servers.values():
            server.stop()

    def scratch(self):
        return tempfile.mkdtemp(dir=self.folder)

    def input_file(self, events):
        """A file of generated events, all of it in the page cache."""
        path = self.folder / f"events-{events}.ndjson"
        if not path.exists():
            (self.folder / "make.yaml").write_text(
                f"sources: {{gen: {{type: generate, count: {events}}}}}\n"
                f"sinks: {{out: {{type: file, path: {path}}}}}\n")
            subprocess.run([str(BUILD / "bin/weir"), "run", "make.yaml", "--plugin-dir",
                            str(BUILD / "plugins")], cwd=self.folder, check=True, capture_output=True)
        run_limit("limit_json", "parse", path)
        return path

    def heartbeats(self, path):
        """How many events of the type that the hook drops."""
        if path not in self._heartbeats:
            with path.open("rb") as file:
                self._heartbeats[path] = sum(b'"type":"heartbeat"' in line for line in file)
        return self._heartbeats[path]

    def warm_kafka(self):
        """A broker is slow until Java has compiled what it does most."""
        if not self._warm:
            self._warm = True
            with self.topic() as topic:
                run_limit("limit_kafka", "write", self.server(Kafka).brokers, topic,
                          max(1000, int(2_000_000 * self.scale)))

    @contextmanager
    def topic(self):
        """A topic of 4 partitions for one run."""
        kafka = self.server(Kafka)
        name = kafka.topic(partitions=4)
        yield name
        for done in kafka.admin.delete_topics([name]).values():
            done.result(20)

    def filled_topic(self, events):
        """A topic of 4 partitions with so many events, read once."""
        if events not in self._filled:
            kafka = self.server(Kafka)
            self._filled[events] = kafka.topic(partitions=4)
            run_limit("limit_kafka", "write", kafka.brokers, self._filled[events], events)
            run_limit("limit_kafka", "read", kafka.brokers, self._filled[events], events)
        return self._filled[events]


def run_flow(kind, bench, rounds):
    """All contenders in turns; gives {name: (role, Middle)}."""
    scenario = kind(bench)
    contenders = scenario.contenders()
    runs = {name: [] for name in contenders}
    names = list(contenders)
    for r in range(rounds):
        for name in names[r % len(names):] + names[:r % len(names)]:
            done = contenders[name][1]() if runs[name] is not None else None
            if done is None:
                runs[name] = None  # a peer that has no such scenario
            else:
                runs[name].append(done)
    return {name: (contenders[name][0], Middle(found)) for name, found in runs.items() if found}


def print_flow(found):
    limits = [middle.rate for role, middle in found.values() if role == "limit"]
    print(HEAD)
    for name, (role, middle) in found.items():
        print(row(name, middle, None if role == "limit" else min(limits)), flush=True)


def as_json(found):
    return {name: {"role": role, "events": m.events, "events_per_second": m.rate, "spread": m.spread,
                   "cpu_us": m.cpu_us, "peak_mib": m.peak_mib, "parsed": m.parsed, "p99_ms": m.p99}
            for name, (role, m) in found.items()}


FIGURES = ("<!-- scripts/bench --readme writes from here -->\n", "<!-- to here -->\n")


def markdown(results, command):
    """The figures as a section of the README."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown processor")
    system = next((line.split("=")[1].strip('"') for line in Path("/etc/os-release").read_text().splitlines()
                   if line.startswith("PRETTY_NAME=")), "unknown system")
    lines = [f"`{command}` on {os.cpu_count()} cores ({model}), {system}; servers and load on the same "
             "cores.\n",
             "| scenario | contender | events/s | of limit | CPU us an event | peak MiB | p99 ms | parsed |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, found in results.items():
        if name not in {kind.name for kind in FLOWS}:
            continue
        limit = min(r["events_per_second"] for r in found.values() if r["role"] == "limit")
        for who, r in found.items():
            rate = r["events_per_second"]
            lines.append(f"| `{name}` | {who} | {rate:,.0f} | "
                         f"{'' if r['role'] == 'limit' else format(rate / limit, '.2f')} | {r['cpu_us']:.2f} | "
                         f"{r['peak_mib']:.0f} | {'' if r['p99_ms'] is None else format(r['p99_ms'], '.1f')} | "
                         f"{'' if r['parsed'] is None else format(r['parsed'], ',')} |")
    lines += ["", "| | | |", "| --- | --- | ---: |"]
    for kind in REPORTS:
        for what, value in results.get(kind.name, {}).items():
            lines.append(f"| `{kind.name}` | {what} | {value:,.1f} {kind.unit} |")
    return "\n".join(lines) + "\n"


def write_readme(results, command):
    path = Path(__file__).with_name("README.md")
    before, rest = path.read_text().split(FIGURES[0])
    path.write_text(before + FIGURES[0] + markdown(results, command) + FIGURES[1] + rest.split(FIGURES[1])[1])


def run_all(args, bench):
    results = {}
    for kind in FLOWS + REPORTS:
        if args.scenario and kind.name not in args.scenario:
            continue
        print(f"\n{kind.name}: {kind.summary}", flush=True)
        if kind in FLOWS:
            found = run_flow(kind, bench, args.rounds)
            print_flow(found)
            results[kind.name] = as_json(found)
        else:
            lines = list(kind(bench).run())
            for name, value in lines:
                print(f"{name:28s} {value:11,.1f} {kind.unit}", flush=True)
            results[kind.name] = dict(lines)
    return results


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="which to run; none: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios, a line each")
    parser.add_argument("--scale", type=float, default=1.0,
                        help="multiplies the number of events (0.05: a quick look)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender (3)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND",
                        help="another contender; tests/bench/README.md says what COMMAND is given")
    parser.add_argument("--readme", action="store_true",
                        help="writes the figures into tests/bench/README.md; needs all scenarios")
    parser.add_argument("--json", metavar="FILE", help="also writes the figures there")
    args = parser.parse_args()
    names = [kind.name for kind in FLOWS + REPORTS]
    unknown = [name for name in args.scenario if name not in names]
    if unknown:
        parser.error(f"unknown scenario {', '.join(unknown)}; there are {', '.join(names)}")
    if args.scale <= 0 or args.rounds < 1:
        parser.error("--scale and --rounds have to be above 0")
    if args.readme and args.scenario:
        parser.error("--readme needs all scenarios")
    for peer in args.peer:
        if not peer.partition("=")[0] or not peer.partition("=")[2]:
            parser.error(f'--peer is given as NAME=COMMAND, not "{peer}"')
    return args


def main():
    args = read_arguments()
    if args.list:
        for kind in FLOWS + REPORTS:
            print(f"{kind.name}: {kind.summary}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    session.begin()
    bench = Bench(session.folder(), args.scale, dict(peer.split("=", 1) for peer in args.peer))
    try:
        results = run_all(args, bench)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        bench.close()
        session.end()
    if args.readme:
        write_readme(results, "scripts/bench" + (f" --scale {args.scale:g}" if args.scale != 1 else "")
                     + (f" --rounds {args.rounds}" if args.rounds != 3 else "")
                     + (" --peers" if args.peer else ""))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
