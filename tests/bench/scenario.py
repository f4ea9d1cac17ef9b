# SPDX-License-Identifier: Apache-2.0
"""What the scenarios of scripts/bench share."""
import abc

HOOK = """\
function process(event)
  if event.type == "heartbeat" then return nil end
  event.user = event.user_id
  event.user_id = nil
  event.seen = 1
  return event
end
"""
# Top-level fields of every event that weir generates and of every event of limit_event().
FIELDS = 8


def must(found, expected, what):
    if found != expected:
        raise SystemExit(f"bench: {what}: {found:,} found, {expected:,} expected")


class Scenario(abc.ABC):
    """One way of events. `base`: how many events at scale 1."""

    name = summary = ""
    base = 1_000_000
    least = 1000

    def __init__(self, bench):
        self.bench = bench
        self.n = max(self.least, int(self.base * bench.scale))

    def contenders(self):
        """{name: (role, function)}; roles are limit, weir, peer."""
        found = dict(self.limits())
        found["weir"] = ("weir", self.weir)
        for name, command in self.bench.peers.items():
            found[name] = ("peer", lambda command=command: self.peer(command))
        return found

    def limits(self):
        return {}

    @abc.abstractmethod
    def weir(self):
        """One round of weir: a Run."""

    def peer(self, command):
        """None: no peer can take part."""
        return None
