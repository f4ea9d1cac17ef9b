# SPDX-License-Identifier: Apache-2.0
"""One round: everything is started, loaded, put under faults, drained, and compared.

    fault ──▶ lasts ──▶ healed ──▶ every flow has 90 % of its rate from before ──▶ a moment ──▶ next fault
                               └── not within 30 s: a finding
"""
import random
import time
from dataclasses import asdict

import faults as repertoire
import gauges as measure
from compare import Finding
from flows import LEAST_RECORD, MAKERS, SEGMENT, clean_up, prepare
from oracle import BATCH, Oracle
from stores import Judge
from weirs import Fleet

WARM_UP = 6.0
START_WITHIN = 180.0
RECOVER_WITHIN = 30.0
GOOD = 0.9
DRAIN_WITHIN = 120.0
TWO_AT_ONCE = 0.15  # of the faults come two by two
ORDER = ("api", "producer", "edge", "follow", "copy-1", "copy-2")


class Round:
    """run() gives the round's report: a dict of plain data."""

    def __init__(self, world, ports, folder, options, number):
        self.world, self.options, self.number = world, options, number
        self.rng = random.Random(f"{options.seed}/{number}")
        self.setup = prepare(number, options.flows, world, ports, folder)
        self.fleet = Fleet(folder, options.binary, options.plugins, options.shims)
        self.findings, self.faults = [], []
        self._members = {}
        self.oracle = self.gauges = None
        self.began = self.loaded = 0.0

    # ---- what faults ask

    def finding(self, promise, text):
        self.findings.append(Finding(promise, f"round {self.number}", 1, text))

    def links(self):
        """Links that lead somewhere in this round."""
        names = {link for part in self.fleet.parts.values() for link in part.sinks}
        names |= {"kafka"} if self.setup.topics else set()
        return sorted(names | {f"clients.{flow}" for flow in ("api", "edge", "buffered")
                         if flow in self.fleet.parts})

    def reconnect(self, links):
        """Ends a stall; what was sent meanwhile is gone."""
        for link in links:
            self.world.links.tell(link, "cut")
            self.world.links.tell(link, "open")

    def groups(self):
        return sorted({part.group for part in self.fleet.parts.values()} & set(MAKERS))

    def next_member(self, group):
        self._members[group] = self._members.get(group, 2) + 1
        return self._members[group]

    # ---- running

    def run(self, enough):
        """`enough(round)`: whether to begin no more faults."""
        self.began = time.monotonic()
        for part in self.setup.parts:
            self.fleet.add(part)
        self.fleet.wait_ready()
        if not self.possible():
            raise RuntimeError(f"none of these faults is possible here: {', '.join(self.options.faults)}")
        self.oracle = Oracle(self.setup, self.world, self.options.rate).start()
        self.gauges = measure.Gauges(self.setup, self.world, self.oracle)
        self.gauges.start()
        try:
            self.warm_up()
            self.loaded = time.monotonic()
            while not enough(self):
                self.next_fault()
            self.drain()
        finally:
            self.gauges.close()
            self.fleet.close()
        self.judge()
        return self.report()

    def warm_up(self):
        """Until every flow moves."""
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            self.pause(0.5)
            slow = [f for f in self.gauges.flows
                    if self.gauges.rate(f, time.monotonic(), measure.WINDOW) < 0.5 * self.offered(f)]
            if not slow and time.monotonic() - self.began > WARM_UP:
                return
        self.finding("not started", f"no load passes after {START_WITHIN:.0f} s: {', '.join(slow)}")

    def offered(self, flow):
        """Events a second that the flow is given."""
        of = {"copy": ["edge"], "archive": ["edge"], "count": ["edge", "issued"], "api": ["platform"],
              "emptied": ["buffered"]}.get(flow, [flow])
        return sum(client.rate for name in of for client in self.oracle.of(name))

    def pause(self, seconds):
        """Waits, and looks after the parts meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(0.25, left))
            self.fleet.check()

    # ---- one fault, or two at once

    def possible(self):
        """Kinds of faults that can be here: some need a flow, or a right that this user does not have."""
        return [kind for kind in self.options.faults if repertoire.ALL[kind].possible(self)]

    def choose(self, busy, second=False):
        possible = [kind for kind in self.possible() if not (second and repertoire.ALL[kind].alone)]
        weights = [repertoire.WEIGHTS[kind] for kind in possible]
        for _ in range(20):
            fault = repertoire.ALL[self.rng.choices(possible, weights)[0]](self, self.rng)
            if not fault.busy & busy:
                return fault
        return None

    def next_fault(self):
        chosen = [self.choose(set())]
        if self.rng.random() < TWO_AT_ONCE and not chosen[0].alone and \
                (second := self.choose(chosen[0].busy, second=True)) is not None:
            chosen.append(second)
        began = time.monotonic()
        before = {flow: min(self.offered(flow), self.gauges.rate(flow, began, measure.BEFORE))
                  for flow in self.gauges.flows}
        entry = {"kinds": [f.kind for f in chosen], "targets": [f"{f.target} {f.detail}".strip() for f in chosen], "began": began,
                 "kills": sum(f.kills for f in chosen), "two": len(chosen) == 2,
                 "copy_from": self.committed("copy"), "follow_from": self.followed_before(began),
                 "buffer_from": self.emptied_before(began, any(f.kind == "power" for f in chosen))}
        for fault in chosen:
            fault.begin()
        self.pause(max(fault.lasts for fault in chosen))
        for fault in chosen:
            fault.heal()
        entry["healed"] = time.monotonic()
        entry["in_flight"] = any(fault.in_flight for fault in chosen)
        entry["recovered"], entry["untold"] = self.recover(began, entry["healed"], before)
        entry["over"] = time.monotonic()
        self.gauges.sample()
        entry["copy_to"] = {p: end for (_, p), end in self.gauges.ends.items()}
        entry["follow_to"] = self.oracle.issued("follow")
        entry["buffer_to"] = self.gauges.length
        self.faults.append(entry)
        self.options.say(self.describe(entry))
        self.pause(self.rng.uniform(0.0, 1.5))

    def in_flight(self, parts):
        """Whether events were on their way through these parts: issued or read, and not acknowledged back to
        where they came from."""
        left = self.gauges.left(2.0) or {}
        for name in parts:
            flow = {"consumer": "platform", "api": "platform", "producer": "platform", "buffered": "emptied"}.get(
                self.fleet.parts[name].group, self.fleet.parts[name].group)
            front = name in ("api", "producer", "edge")
            if self.oracle.waiting(flow) if front else left.get(flow, 0):
                return True
        return False

    def committed(self, flow):
        return {p: offset for (_, p), offset in self.gauges.committed.get(flow, {}).items()}

    def followed_before(self, when):
        """Lines that were certainly done with: state is written once a second."""
        if not self.setup.has("follow"):
            return 0
        return self.gauges.at("follow", when - 2.5) - 50 * BATCH if self.gauges.history["follow"] else 0

    def emptied_before(self, when, power):
        """Places in the list of what certainly was behind the buffer's cursor, which is kept ten times a second.
        Nobody syncs it: behind a power cut all of a segment may be given once more."""
        at = self.gauges.length_at(when - 2.5)
        return max(0, at - SEGMENT // LEAST_RECORD) if power else at

    def recover(self, began, healed, before):
        """({flow: seconds until it had its rate again}, None where it had not in time; the flows of which nothing
        can be told, because the machine was not left to this run)."""
        recovered, deadline = {}, healed + RECOVER_WITHIN
        while len(recovered) < len(before) and time.monotonic() < deadline:
            now = time.monotonic()
            for flow, rate in before.items():
                done = self.gauges.at(flow, now) - self.gauges.at(flow, max(healed, now - measure.WINDOW))
                if flow not in recovered and now - healed >= 1 and \
                        done >= GOOD * rate * min(measure.WINDOW, now - healed):
                    recovered[flow] = round(now - healed, 2)
            self.pause(0.25)
        late = [flow for flow in before if flow not in recovered]
        untold = late if self.gauges.machine.too_slow((began - measure.BEFORE, began), (healed, deadline), GOOD) else []
        for flow in late:
            recovered[flow] = None
            rate = self.gauges.rate(flow, time.monotonic(), measure.WINDOW)
            text = f"{flow} has {rate:.0f} events/s {RECOVER_WITHIN:.0f} s after the fault, {before[flow]:.0f} before"
            if flow in untold:
                self.options.say(f"  {text}: others had the machine, too slow to tell")
            else:
                self.finding("not recovered", text)
        return recovered, untold

    def describe(self, entry):
        slowest = max((s if s is not None else RECOVER_WITHIN for s in entry["recovered"].values()), default=0)
        return (f"  {entry['began'] - self.began:6.1f} s  {' + '.join(entry['kinds']):24s} "
                f"{' + '.join(entry['targets']):32s} {entry['healed'] - entry['began']:5.1f} s, "
                f"recovered in {slowest:4.1f} s{', in flight' if entry['in_flight'] else ''}")

    # ---- the end

    def drain(self):
        """All is acknowledged, all has ended, and every weir ends in order."""
        late = self.oracle.finish(60)
        if late:
            self.finding("not acknowledged", f"clients that still wait 60 s after the last fault: {', '.join(late)}")
        deadline, left = time.monotonic() + DRAIN_WITHIN, None
        while time.monotonic() < deadline:
            left = self.gauges.left()
            if left is not None and not any(self.still_there(left).values()):
                break
            self.pause(0.5)
        else:
            self.finding("not drained", f"events that have not ended {DRAIN_WITHIN:.0f} s after the last: {left}")
            for name in self.fleet.names():
                self.options.say(self.fleet.log(name))
        self.pause(1.0)
        for name, code in self.fleet.stop_all(ORDER).items():
            if code not in (0, None):
                self.finding("stop", f"{name} ended with {code} after SIGTERM, expected 0")

    def still_there(self, left):
        """What a disk buffer no longer has is not late but lost, as the comparison finds."""
        if left.get("emptied") and self.fleet.in_buffer("buffered") == 0:
            return {**left, "emptied": 0}
        return left

    def judge(self):
        self.findings += [Finding("crashed", name, 1, text) for name, text in self.fleet.ends]
        self.findings += [Finding("crashed", "sanitizer", 1, text) for text in self.fleet.sanitizer_reports()]
        found = [Finding("refused", "clients", 1, text) for text in self.oracle.problems[:20]]
        judge = Judge(self.setup, self.world, self.oracle, self.faults)
        self.findings += found + judge.run()
        self.figures = judge.figures

    def report(self):
        clients = self.oracle.clients
        entry = {
            "round": self.number, "seconds": round(time.monotonic() - self.began, 1),
            "issued": self.oracle.issued(), "acknowledged": self.oracle.acknowledged(),
            "sent_again": sum(batch.attempts > 1 for c in clients for batch in c.sent if c.flow != "issued"),
            "kills": sum(f["kills"] for f in self.faults),
            "faults": [{k: v for k, v in f.items() if not k.startswith(("copy", "follow", "buffer"))} for f in self.faults],
            "left_out": sorted(set(self.options.faults) - set(self.possible())),
            "figures": self.figures, "findings": [asdict(f) for f in self.findings]}
        clean_up(self.setup, self.world)
        return entry
