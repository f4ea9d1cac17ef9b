# SPDX-License-Identifier: Apache-2.0
"""The rounds of a run as one report: sums, what recovery took, what was found. As text, JSON, and a section of
the README at the top."""
import os
import statistics
from pathlib import Path

MARKS = ("<!-- scripts/chaos --readme writes from here -->\n", "<!-- to here -->\n")
SERVERS = ("kafka", "redis", "mongodb")
# In the order of what is worst.
PROMISES = ("lost", "duplicated", "reordered", "stale", "miscounted", "changed", "misrouted", "never issued",
            "dead-lettered", "crashed", "refused", "stop", "reload", "not acknowledged", "not drained", "not recovered",
            "not started")


def total(rounds):
    """The figures of all rounds together."""
    faults = [fault for r in rounds for fault in r["faults"]]
    found = [f for r in rounds for f in r["findings"]]
    by_kind = {}
    for fault in faults:
        for kind in fault["kinds"]:
            row = by_kind.setdefault(kind, {"faults": 0, "in_flight": 0, "seconds": [], "late": 0, "untold": 0})
            row["faults"] += 1
            row["in_flight"] += fault["in_flight"]
            row["seconds"] += [s for s in fault["recovered"].values() if s is not None]
            untold = fault.get("untold", [])
            row["late"] += any(s is None for flow, s in fault["recovered"].items() if flow not in untold)
            row["untold"] += bool(untold)
    for row in by_kind.values():
        seconds = sorted(row.pop("seconds"))
        row["median_s"] = round(statistics.median(seconds), 1) if seconds else None
        row["longest_s"] = seconds[-1] if seconds else None
    figures = {}
    for r in rounds:
        for where, row in r["figures"].items():
            sums = figures.setdefault(where, dict.fromkeys(row, 0))
            for name, n in row.items():
                sums[name] = sums.get(name, 0) + n
    return {
        "rounds": len(rounds), "seconds": sum(r["seconds"] for r in rounds),
        "issued": sum(r["issued"] for r in rounds), "acknowledged": sum(r["acknowledged"] for r in rounds),
        "kills": sum(r["kills"] for r in rounds),
        "server_kills": sum(kind in SERVERS for fault in faults for kind in fault["kinds"]),
        "faults": sum(len(fault["kinds"]) for fault in faults),
        "in_flight": sum(fault["in_flight"] for fault in faults), "moments": len(faults),
        "untold": sum(bool(fault.get("untold")) for fault in faults),
        "left_out": sorted({kind for r in rounds for kind in r.get("left_out", [])}),
        "by_kind": dict(sorted(by_kind.items(), key=lambda item: -item[1]["faults"])), "stores": figures,
        "found": {p: sum(f["count"] for f in found if f["promise"] == p) for p in PROMISES
                  if any(f["promise"] == p for f in found)},
        "findings": [{**f, "round": r["round"]} for r in rounds for f in r["findings"]]}


def per_kill(sums, where):
    """Repeated events for each time that something was done to the system."""
    row = sums["stores"].get(where, {})
    return row.get("repeated", 0) / max(1, sums["moments"])


def text(sums, settings):
    lines = [
        "", f"seed {settings['seed']}, {sums['rounds']} rounds, {sums['seconds'] / 60:.1f} min, "
        f"{sums['faults']} faults at {sums['moments']} moments, {sums['in_flight']} of them with events in flight",
        f"kill -9 of weirs: {sums['kills']}, of servers: {sums['server_kills']}",
        f"events issued: {sums['issued']:,}, acknowledged: {sums['acknowledged']:,}", "",
        f"{'fault':16s} {'times':>6s} {'in flight':>10s} {'recovered in s, median':>23s} {'longest':>8s} {'late':>5s} {'untold':>6s}"]
    for kind, row in sums["by_kind"].items():
        lines.append(f"{kind:16s} {row['faults']:6d} {row['in_flight']:10d} {_s(row['median_s']):>23s} "
                     f"{_s(row['longest_s']):>8s} {row['late']:5d} {row['untold']:6d}")
    if sums["untold"]:
        lines.append(f"{sums['untold']} times others had the machine, which was too slow to tell whether it recovered")
    if sums["left_out"]:
        lines.append(f"left out, because they cannot be had here: {', '.join(sums['left_out'])}")
    lines += ["", f"{'what was compared':28s} {'events':>10s} {'repeated':>9s} {'a moment':>9s}"]
    for where, row in sums["stores"].items():
        lines.append(f"{where:28s} {row['records']:10,d} {row['repeated']:9,d} {per_kill(sums, where):9.1f}")
    lines.append("")
    for finding in sums["findings"]:
        lines.append(f"FOUND {finding['promise']} in {finding['where']} (round {finding['round']}): "
                     f"{finding['count']}: {finding['text']}")
    lines.append("nothing lost, nothing repeated or reordered beyond what is promised" if not sums["findings"]
                 else f"{len(sums['findings'])} findings: " + ", ".join(f"{n} {p}" for p, n in sums["found"].items()))
    return "\n".join(lines)


def _s(value):
    return "" if value is None else f"{value:.1f}"


def _system():
    found = [line.split("=")[1].strip().strip('"') for line in Path("/etc/os-release").read_text().splitlines()
             if line.startswith("PRETTY_NAME=")]
    return f"{os.cpu_count()} cores, {found[0] if found else 'unknown system'}"


def markdown(sums, seed):
    n = sums["found"]
    slow = [row["longest_s"] for row in sums["by_kind"].values() if row["longest_s"] is not None]
    late = sum(row["late"] for row in sums["by_kind"].values())
    rows = [
        ("events issued / acknowledged", f"{sums['issued']:,} / {sums['acknowledged']:,}"),
        ("`kill -9` of weirs / of servers", f"{sums['kills']} / {sums['server_kills']}"),
        ("faults of all kinds, moments with events in flight",
         f"{sums['faults']}, {sums['in_flight']} of {sums['moments']}"),
        ("acknowledged and lost", str(n.get("lost", 0))),
        ("stored twice in MongoDB, counted twice in Redis", str(n.get("duplicated", 0) + n.get("miscounted", 0))),
        ("repeated in Kafka, of all / beyond what was in flight",
         f"{sum(row['repeated'] for where, row in sums['stores'].items() if where.startswith('Kafka')):,} / "
         f"{n.get('duplicated', 0)}"),
        ("reordered within a key, overwritten by older", str(n.get("reordered", 0) + n.get("stale", 0))),
        ("dead letters, crashes, hangs",
         str(sum(n.get(p, 0) for p in ("dead-lettered", "crashed", "not acknowledged", "not drained")))),
        ("reloads that did not say how they ended, or went wrong", str(n.get("reload", 0))),
        ("longest until every flow had 90 % of its rate again", f"{max(slow, default=0):.1f} s"
         + (f", {late} times not within 30 s" if late else "")
         + (f"; the machine was too slow to tell {sums['untold']} times" if sums["untold"] else "")),
    ]
    lines = [f"{sums['rounds']} rounds with seed {seed}, {sums['seconds'] / 60:.0f} minutes on {_system()}; servers, "
             "load and weirs on the same cores:\n", "| | |", "| --- | ---: |"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += ["", "| fault | times | with events in flight | recovered in, median / longest |",
              "| --- | ---: | ---: | ---: |"]
    lines += [f"| `{kind}` | {row['faults']} | {row['in_flight']} | {_s(row['median_s'])} s / {_s(row['longest_s'])} s |"
              for kind, row in sums["by_kind"].items()]
    return "\n".join(lines) + "\n"


def write_readme(path, sums, seed):
    before, rest = path.read_text().split(MARKS[0])
    path.write_text(before + MARKS[0] + markdown(sums, seed) + MARKS[1] + rest.split(MARKS[1])[1])
