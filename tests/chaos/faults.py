# SPDX-License-Identifier: Apache-2.0
"""The faults. Each has begin(), a time that it lasts, and heal(), behind which everything has to recover.

A fault chooses its target and its length from the round's random numbers when it is made, so that a seed
gives the same faults again; what they hit is up to the clock.
"""
import time

from weirtest.tools import wait_until

from flows import HARMLESS, another

LONGEST_FREEZE = 30.0
AIM = 10
SERVER_AWAY = 4.0
MINUTES_OFF = 50  # Kafka refuses messages from more than an hour ahead, which is its choice to make


class Fault:
    """`busy`: names of what it touches, which no other fault touches meanwhile."""

    kind = ""
    needs = ()  # flows, of which there has to be one; none: any
    alone = False  # no other fault comes with it

    def __init__(self, field, rng):
        self.field, self.rng = field, rng
        self.lasts = 0.0
        self.kills = 0
        self.in_flight = False
        self.target, self.detail = "", ""
        self.busy = set()
        self.choose()

    def choose(self):
        raise NotImplementedError

    def begin(self):
        """Waits a moment for something to be on its way there, and strikes."""
        names = self.parts_hit() or self.field.fleet.names()
        for _ in range(AIM):
            self.in_flight = self.field.in_flight(names)
            if self.in_flight:
                break
        self.strike()

    def strike(self):
        raise NotImplementedError

    def heal(self):
        raise NotImplementedError

    def parts_hit(self):
        """Weirs whose events it hits; None: all of them."""
        return [self.target] if self.target in self.field.fleet.parts else None

    @classmethod
    def possible(cls, field):
        return not cls.needs or any(flow in field.setup.flows for flow in cls.needs)


class OfPart(Fault):
    """On one weir."""

    def choose(self):
        self.target = self.rng.choice(self.candidates())
        self.busy = {self.target}

    def candidates(self):
        return self.field.fleet.names()


class Kill(OfPart):
    """kill -9 of a weir, which is started again soon."""

    kind = "kill"

    def choose(self):
        super().choose()
        self.lasts, self.kills = self.rng.uniform(0.0, 1.0), 1

    def strike(self):
        self.field.fleet.kill(self.target)

    def heal(self):
        self.field.fleet.start(self.target)


class KillAll(Fault):
    """kill -9 of all weirs at once, as when their machine loses power."""

    kind = "kill-all"

    def choose(self):
        names = self.field.fleet.names()
        self.target, self.lasts, self.kills = "all weirs", self.rng.uniform(0.0, 1.0), len(names)
        self.busy = set(names)

    def strike(self):
        for name in self.busy:
            self.field.fleet.kill(name)

    def heal(self):
        for name in self.busy:
            self.field.fleet.start(name)


class Stop(OfPart):
    """SIGTERM of a weir, which ends in order and is started again."""

    kind = "stop"

    def strike(self):
        code = self.field.fleet.stop(self.target)
        if code not in (0, None):
            self.field.finding("stop", f"{self.target} ended with {code} after SIGTERM, expected 0")

    def heal(self):
        self.field.fleet.start(self.target)


def freeze_time(rng):
    """Most of them short, some as long as they may be."""
    return min(LONGEST_FREEZE, 0.2 + rng.expovariate(1 / 5.0))


class Freeze(OfPart):
    """SIGSTOP of a weir, then SIGCONT: its connections stay, and nothing answers."""

    kind = "freeze"

    def choose(self):
        super().choose()
        self.lasts = freeze_time(self.rng)

    def strike(self):
        self.field.fleet.freeze(self.target)

    def heal(self):
        self.field.fleet.thaw(self.target)


class OfServer(Fault):
    """kill -9 of a server, which comes back with what it had on disk."""

    def choose(self):
        self.target = self.kind
        self.lasts = self.rng.uniform(0.2, SERVER_AWAY)
        self.busy = {self.kind}

    @property
    def server(self):
        return getattr(self.field.world, self.kind)

    @classmethod
    def possible(cls, field):
        return super().possible(field) and getattr(field.world, cls.kind) is not None

    def strike(self):
        self.server.kill()

    def heal(self):
        self.server.start()


class KillKafka(OfServer):
    kind = "kafka"


class KillRedis(OfServer):
    kind = "redis"
    needs = ("platform", "chain", "count", "buffered")


class KillMongoDB(OfServer):
    kind = "mongodb"
    needs = ("platform",)


class FreezeServer(Fault):
    """SIGSTOP of a server."""

    kind = "freeze-server"

    def choose(self):
        names = ["kafka"] + (["redis"] if self.field.setup.flows != ("follow",) else []) + \
                (["mongodb"] if self.field.setup.has("platform") else [])
        self.target = self.rng.choice(names)
        self.lasts = freeze_time(self.rng)
        self.busy = {self.target}

    def strike(self):
        getattr(self.field.world, self.target).pause()

    def heal(self):
        getattr(self.field.world, self.target).resume()


class OfLink(Fault):
    """On one connection's way."""

    verb, longest = "", 5.0

    def choose(self):
        self.target = self.rng.choice(self.field.links())
        self.lasts = self.rng.uniform(0.2, self.longest)
        self.busy = {self.target}

    def strike(self):
        self.field.world.links.tell(self.target, *self.order())

    def order(self):
        return (self.verb,)

    def heal(self):
        self.field.world.links.tell(self.target, "open")

    def parts_hit(self):
        part = self.target.partition(".")[0]
        return [part] if part in self.field.fleet.parts else None


class Cut(OfLink):
    """Connections are reset, and may be made again at once."""

    kind = verb = "cut"

    def choose(self):
        super().choose()
        self.lasts = 0.0


class Down(OfLink):
    """Connections are reset, and refused for a time."""

    kind = verb = "down"


class Stall(OfLink):
    """Nothing passes for a time, and no connection ends."""

    kind = verb = "stall"
    longest = 12.0


class Delay(OfLink):
    """All that passes comes later."""

    kind = verb = "delay"

    def order(self):
        return ("delay", self.rng.choice((20, 100, 400)))


class Throttle(OfLink):
    """Little passes."""

    kind = "throttle"

    def order(self):
        return ("rate", self.rng.choice((20_000, 100_000, 400_000)))


class Clock(OfPart):
    """The wall clock of one weir goes wrong, and is set right again."""

    kind = "clock"

    def choose(self):
        super().choose()
        self.seconds = self.rng.uniform(-60, 60) * self.rng.choice((0.01, 1, MINUTES_OFF))
        self.lasts = self.rng.uniform(1, 5)

    def strike(self):
        self.field.fleet.step_clock(self.target, self.seconds)

    def heal(self):
        self.field.fleet.step_clock(self.target, 0)


class Disk(Fault):
    """The disk that some weirs write to is full for a time."""

    kind = "disk"

    @classmethod
    def possible(cls, field):
        return any(part.on_disk for part in field.fleet.parts.values())

    def choose(self):
        self.target, self.lasts = "disk", self.rng.uniform(0.5, 5)
        self.busy = {"disk"}

    def strike(self):
        self.field.world.fill_disk()

    def heal(self):
        self.field.world.empty_disk()

    def parts_hit(self):
        return [name for name, part in self.field.fleet.parts.items() if part.on_disk]


class Rebalance(Fault):
    """One more member joins a group, and leaves it again in order."""

    kind = "rebalance"
    needs = ("platform", "chain", "count")

    def choose(self):
        self.group = self.rng.choice(self.field.groups())
        self.target = f"{self.group}-{self.field.next_member(self.group)}"
        self.lasts = self.rng.uniform(2, 6)
        self.busy = {self.target, f"group {self.group}"}

    def strike(self):
        self.field.fleet.add(another(self.group, self.target, self.field.setup, self.field.world))

    def heal(self):
        code = self.field.fleet.remove(self.target)
        if code not in (0, None):
            self.field.finding("stop", f"{self.target} ended with {code} after SIGTERM, expected 0")

    def parts_hit(self):
        return [name for name, part in self.field.fleet.parts.items() if part.group == self.group]


class OfSink(OfPart):
    """On a weir that has been cut off from a sink for a moment, so that its events are certainly on their way.
    What it had sent meanwhile never arrives."""

    def candidates(self):
        return [name for name, part in sorted(self.field.fleet.parts.items()) if part.sinks]

    def choose(self):
        super().choose()
        self.link = self.rng.choice(self.field.fleet.parts[self.target].sinks)
        self.busy = {self.target, self.link}
        self.lasts = self.rng.uniform(0.0, 1.0)
        self.stalled = self.rng.uniform(0.5, 1.5)

    def begin(self):
        self.field.world.links.tell(self.link, "stall")
        time.sleep(self.stalled)
        super().begin()

    def heal(self):
        self.field.reconnect([self.link])
        self.field.fleet.start(self.target)

    @classmethod
    def possible(cls, field):
        return super().possible(field) and any(part.sinks for part in field.fleet.parts.values())


class StallKill(OfSink):
    """kill -9 while one of its sinks does not answer."""

    kind = "stall-kill"

    def choose(self):
        super().choose()
        self.kills = 1

    def strike(self):
        self.field.fleet.kill(self.target)


class StallStop(OfSink):
    """SIGTERM while one of its sinks does not answer: its shutdown comes to the deadline, and what is left
    fails."""

    kind = "stall-stop"

    def strike(self):
        self.field.fleet.stop(self.target)


class Power(OfPart):
    """The machine of a weir loses power: kill -9, and what its files had not synced is gone. It has been cut off
    from its sinks for a moment, so that its buffer holds something."""

    kind = "power"

    @classmethod
    def possible(cls, field):
        return super().possible(field) and any(part.durable for part in field.fleet.parts.values())

    def candidates(self):
        return [name for name, part in sorted(self.field.fleet.parts.items()) if part.durable]

    def choose(self):
        super().choose()
        self.cut_off = list(self.field.fleet.parts[self.target].sinks)
        self.busy = {self.target, *self.cut_off}
        self.lasts, self.kills = self.rng.uniform(0.0, 1.0), 1
        self.stalled = self.rng.uniform(0.5, 2.0)

    def begin(self):
        for link in self.cut_off:
            self.field.world.links.tell(link, "stall")
        time.sleep(self.stalled)
        super().begin()

    def strike(self):
        self.field.fleet.kill(self.target)
        self.field.fleet.cut_power(self.target)

    def heal(self):
        self.field.reconnect(self.cut_off)
        self.field.fleet.start(self.target)


# What a reload must refuse, made of a file that is right.
WRONG = (lambda text: text[:len(text) // 2] + "\n  : [", lambda text: "", lambda text: text + "no_such_option: 1\n",
         lambda text: text.replace("type: ", "type: no_such_", 1))


class Reload(OfPart):
    """The file of a running weir changes: so that everything stays, so that a component is made anew, or so that
    it is wrong and the old pipeline has to go on, until it is right again."""

    kind = "reload"
    alone = True  # what is away is a reason for a reload to fail
    within = 30.0

    def choose(self):
        super().choose()
        part = self.field.fleet.parts[self.target]
        self.file, self.text = part.text, part.text.read_text()
        self.good = self.rng.random() < 0.75
        change = self.rng.choice((HARMLESS, *part.changes, *part.changes))
        wrong = self.rng.choice(WRONG)(self.text)
        old, new = change if change[0] in self.text else reversed(change)
        self.new = self.text.replace(old, new) if self.good else wrong
        self.detail = new.partition(":")[0] if self.good else "wrong file"
        self.signals = self.rng.random() < 0.7
        self.lasts = self.rng.uniform(0.5, 2.0)

    def strike(self):
        self.before = wait_until(lambda: self.field.fleet.reloads(self.target), self.within,
                                 f"{self.target} tells how often it was reloaded")
        self._write(self.new, self.signals)

    def _write(self, text, signals):
        """At once as an editor does it. Without a signal it is found by itself."""
        beside = self.file.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.file)
        if signals:
            self.field.fleet.hang_up(self.target)

    def heal(self):
        self._expect(self.good)
        if not self.good:
            self.before = self.field.fleet.reloads(self.target) or self.before
            self._write(self.text, True)
            self._expect(True)

    def _expect(self, good):
        deadline = time.monotonic() + self.within
        while time.monotonic() < deadline:
            now = self.field.fleet.reloads(self.target)
            if now is not None and now[0] != self.before[0]:
                return  # it ended and was started again, which is a finding of its own
            if now is not None and now[1] > self.before[1]:
                break
            self.field.pause(0.1)
        found = "nothing" if now is None or now == self.before else "a success" if now[2] else "a failure"
        if found != ("a success" if good else "a failure"):
            self.field.finding("reload", f"{self.target}: a {'right' if good else 'wrong'} file, and "
                                         f"config_last_reload_successful tells of {found}\n{self.new}\n"
                                         f"{self.field.fleet.log(self.target)}")


class StallFreeze(OfSink):
    """SIGSTOP of a consumer with events that it has not written, for longer than its group waits for it: others
    have gone on with its partitions when it wakes."""

    kind = "stall-freeze"
    needs = ("platform", "chain", "count")

    def candidates(self):
        return [name for name in super().candidates() if self.field.fleet.parts[name].reads_kafka]

    def choose(self):
        super().choose()
        self.lasts = self.rng.uniform(7.5, 10.0)

    def strike(self):
        self.field.fleet.freeze(self.target)

    def heal(self):
        self.field.reconnect([self.link])
        self.field.fleet.thaw(self.target)


class Takeover(OfPart):
    """A consumer that cannot write gives partitions to a new member at its drain deadline, and can write again
    only when the new one has gone on. What it had sent meanwhile never arrives: nobody can call that back."""

    kind = "takeover"
    needs = ("platform", "chain", "count")

    def candidates(self):
        return [name for name, part in sorted(self.field.fleet.parts.items()) if part.sinks and part.reads_kafka]

    def choose(self):
        super().choose()
        part = self.field.fleet.parts[self.target]
        self.cut_off = list(part.sinks)
        self.added = f"{part.group}-{self.field.next_member(part.group)}"
        self.group = part.group
        self.busy = {self.target, self.added, f"group {part.group}", *self.cut_off}
        self.lasts = self.rng.uniform(4.0, 6.0)

    def begin(self):
        for link in self.cut_off:
            self.field.world.links.tell(link, "stall")
        time.sleep(0.5)
        super().begin()

    def strike(self):
        self.field.fleet.add(another(self.group, self.added, self.field.setup, self.field.world))

    def heal(self):
        self.field.reconnect(self.cut_off)
        time.sleep(1.0)
        self.field.fleet.remove(self.added)

    def parts_hit(self):
        return [name for name, part in self.field.fleet.parts.items() if part.group == self.group]


ALL = {kind.kind: kind for kind in (
    Kill, KillAll, Stop, Freeze, KillKafka, KillRedis, KillMongoDB, FreezeServer, Cut, Down, Stall, Delay, Throttle,
    Clock, Disk, Rebalance, StallKill, StallStop, StallFreeze, Takeover, Power, Reload)}
# How often each comes, where --faults does not say: kills most often.
WEIGHTS = {"kill": 30, "kill-all": 6, "stop": 2, "freeze": 2, "kafka": 1, "redis": 2, "mongodb": 2,
           "freeze-server": 1, "cut": 3, "down": 2, "stall": 2, "delay": 1, "throttle": 1, "clock": 2, "disk": 1,
           "rebalance": 2, "stall-kill": 3, "stall-stop": 1,
           "stall-freeze": 1, "takeover": 2, "power": 4, "reload": 3}
SERVER_KILLS = ("kafka", "redis", "mongodb")
