# SPDX-License-Identifier: Apache-2.0
"""What a soak run is judged by: straight lines through its samples, and its ledger."""
MIB = 1 << 20
GROWTH_MIB = 1.0        # of memory in 10 minutes, and in all of a shorter run
TEN_MINUTES = 600.0
DESCRIPTORS_SPREAD = 8  # connections are made anew now and then
DESCRIPTORS_GROWTH = 2  # in 10 minutes, of a long run


def slope(points):
    """By least squares, per unit of x."""
    n = len(points)
    if n < 2:
        return 0.0
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    across = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / across if across else 0.0


def settled(samples):
    """The last two thirds: what comes before is warming up."""
    return samples[len(samples) // 3:]


def judge_leg(leg, samples):
    """`leg`: what its ledger says. `samples`: [{at, rss, fds, threads, ...}] of it, a second apart."""
    kept = settled(samples)
    seconds = kept[-1]["at"] - kept[0]["at"] if kept else 0.0
    by_second = slope([(s["at"], s["rss"] / MIB) for s in kept])
    per_ten, growth = by_second * TEN_MINUTES, by_second * seconds
    fds, threads = [s["fds"] for s in kept], [s["threads"] for s in kept]
    found = {
        "seconds": round(samples[-1]["at"] - samples[0]["at"], 1) if samples else 0.0,
        "samples": len(samples),
        "rss_mib": {"first": _mib(kept[0]), "last": _mib(kept[-1]), "most": max(map(_mib, samples))} if kept else {},
        "rss_slope_mib_per_10_minutes": round(per_ten, 3),
        "rss_growth_mib": round(growth, 3),
        "descriptors": [min(fds, default=0), max(fds, default=0)],
        "threads": [min(threads, default=0), max(threads, default=0)],
    }
    long = seconds >= TEN_MINUTES * 0.6  # what is left of 10 minutes
    problems = []
    if len(kept) < 10:
        problems.append(f"only {len(kept)} samples")
    if (per_ten if long else growth) > GROWTH_MIB:
        problems.append(f"memory grows by {per_ten:.2f} MiB in 10 minutes")
    more = slope([(s["at"], s["fds"]) for s in kept]) * TEN_MINUTES
    if fds and (max(fds) - min(fds) > DESCRIPTORS_SPREAD or (long and more > DESCRIPTORS_GROWTH)):
        problems.append(f"descriptors went from {min(fds)} to {max(fds)}")
    if threads and max(threads) != min(threads):
        problems.append(f"threads went from {min(threads)} to {max(threads)}")
    if leg["lost"]:
        problems.append(f"{leg['lost']} acknowledged events were not delivered")
    if leg["odd"]:
        problems.append(f"{leg['odd']} answers were none that may come, such as {leg['odd_example']}")
    if leg["exit_code"] != 0:
        problems.append(f"weir ended with {leg['exit_code']}")
    return {**leg, **found, "problems": problems}


def _mib(sample):
    return round(sample["rss"] / MIB, 2)


def judge(run, legs):
    """The whole: the legs as judge_leg gave them."""
    total = {name: sum(leg[name] for leg in legs)
             for name in ("offered", "acknowledged", "refused", "failed", "delivered", "repeated", "lost")}
    problems = [f"leg {n}: {p}" for n, leg in enumerate(legs, 1) for p in leg["problems"]]
    share = total["delivered"] / total["offered"] if total["offered"] else 0.0
    if run["mode"] == "overload" and not 0.3 <= share <= 0.75:
        problems.append(f"{share:.0%} of what was offered was delivered: that was no load of twice what the sink takes")
    if run["mode"] == "overload" and not total["refused"]:
        problems.append("nothing was refused: that was no overload")
    if run["mode"] == "normal" and total["acknowledged"] != total["offered"]:
        problems.append(f"only {total['acknowledged']} of {total['offered']} events were acknowledged")
    return {**run, **total, "legs": legs, "problems": problems, "passed": not problems}


def markdown(report):
    """The report for people."""
    lines = [
        f"{report['mode'].capitalize()}, {report['minutes']:g} minutes, {report['rate']} events/s offered, limit "
        f"{report['memory']}: {'passed' if report['passed'] else 'FAILED'}.",
        "",
        "| | |",
        "| --- | ---: |",
        *(f"| events {name} | {report[name]:,} |" for name in
          ("offered", "acknowledged", "refused", "failed", "delivered", "repeated", "lost")),
        "",
        "| leg | seconds | memory MiB: then, last, most | slope MiB in 10 min | descriptors | threads |",
        "| ---: | ---: | --- | ---: | --- | --- |",
    ]
    for n, leg in enumerate(report["legs"], 1):
        rss = leg["rss_mib"]
        lines.append(f"| {n} | {leg['seconds']:g} | {rss.get('first', 0)}, {rss.get('last', 0)}, {rss.get('most', 0)} "
                     f"| {leg['rss_slope_mib_per_10_minutes']} | {leg['descriptors'][0]} to {leg['descriptors'][1]} "
                     f"| {leg['threads'][0]} to {leg['threads'][1]} |")
    lines += ["", *(f"- {p}" for p in report["problems"])]
    return "\n".join(lines).rstrip() + "\n"
