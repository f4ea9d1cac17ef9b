# SPDX-License-Identifier: Apache-2.0
"""What the stores hold against what was issued. Only plain data comes in here, so that a test can show that
each of these checks can fail.

A log is a list of records in the order of its partition: (key, client, number, sequence, partition, offset).
"""
from collections import Counter, defaultdict
from dataclasses import dataclass

from oracle import KEYS, STREAMS, TYPES

EXAMPLES = 5


@dataclass(slots=True)
class Record:
    client: str
    number: int
    key: str
    seq: int
    partition: int
    offset: int
    topic: str = ""

    @property
    def id(self):
        return (self.client, self.number)


@dataclass
class Finding:
    """A broken promise: which one, how often, and some examples."""

    promise: str
    where: str
    count: int
    text: str

    def __str__(self):
        return f"{self.promise} in {self.where}: {self.count}: {self.text}"


def finding(promise, where, found):
    """None where nothing was found; else the finding, with the first few of them."""
    found = list(found)
    if not found:
        return None
    return Finding(promise, where, len(found), "; ".join(str(one) for one in found[:EXAMPLES]))


def ids(clients):
    """All that was acknowledged, of these clients: {(client, number)}."""
    return {(c.client, i) for c in clients for batch in list(c.sent) if batch.acked is not None
            for i in range(batch.first, batch.first + batch.n)}


def every(clients):
    """All that was ever sent."""
    return {(c.client, i) for c in clients for i in range(c.issued)}


def check_there(where, there, clients):
    """Nothing that was acknowledged is missing; nothing is there that nobody sent."""
    there = set(there)
    return [f for f in (finding("lost", where, sorted(ids(clients) - there)),
                        finding("never issued", where, sorted(there - every(clients)))) if f]


def check_content(where, records):
    """Each event is still what its client made it: key and sequence follow from its number."""
    wrong = [r for r in records if r.key != f"{r.client}k{r.number % KEYS}" or r.seq != r.number // KEYS]
    return [f for f in (finding("changed", where, wrong),) if f]


def check_topic_of_type(where, records):
    """An event of the platform is in the topic of its type."""
    wrong = [r for r in records
             if r.topic.rsplit(".", 1)[-1] != STREAMS.get(TYPES[r.number % len(TYPES)], "activity")]
    return [f for f in (finding("misrouted", where, wrong),) if f]


def firsts(records):
    """The records without the repeated ones."""
    seen, kept = set(), []
    for r in records:
        if r.id not in seen:
            seen.add(r.id)
            kept.append(r)
    return kept


def check_order(where, records):
    """Of each key in a topic, what comes for the first time comes in the order in which it was issued, and a
    key is in one partition."""
    last, at, wrong, split = {}, {}, [], []
    for r in firsts(records):
        place = (r.topic, r.key)
        if last.get(place, -1) > r.number:
            wrong.append(f"{r.key}: {r.number} behind {last[place]} in {r.topic}/{r.partition}@{r.offset}")
        last[place] = max(last.get(place, -1), r.number)
        if at.setdefault(place, r.partition) != r.partition:
            split.append(f"{r.key} in partitions {at[place]} and {r.partition} of {r.topic}")
    return [f for f in (finding("reordered", where, wrong), finding("reordered", where, split)) if f]


def extra(records):
    """{id: copies beyond the first}"""
    return {event: n - 1 for event, n in Counter(r.id for r in records).items() if n > 1}


def by_request(clients, faults):
    """A test for ids: whether the request of that event was under way during a fault, or sent again."""
    batches = {c.client: c.sent for c in clients}

    def may_repeat(event):
        client, number = event
        batch = batches[client][number // batches[client][0].n]
        return batch.attempts > 1 or any(begin <= (batch.acked or batch.sent) and batch.sent <= end
                                         for begin, end in faults)

    return may_repeat


def check_repeated_by_request(where, records, clients, faults):
    """An event may be there twice only if its request was under way during a fault, or was sent again."""
    may_repeat = by_request(clients, faults)
    wrong = [f"{client}-{number}: {n + 1} times" for (client, number), n in sorted(extra(records).items())
             if not may_repeat((client, number))]
    return [f for f in (finding("duplicated", where, wrong),) if f]


def check_repeated_by_place(where, records, clients, faults, windows):
    """As above, or else a disk buffer gave it again whose cursor did not have it yet: `windows` are places in the
    log, (first that may come again, behind the last), of each fault."""
    may_repeat, more, last, wrong = by_request(clients, faults), extra(records), {}, []
    for place, r in enumerate(records):
        if r.id in more and r.id in last and not may_repeat(r.id) and \
                not any(low <= last[r.id] < high for low, high in windows):
            wrong.append(f"{r.client}-{r.number}: at {last[r.id]} and at {place}")
        last[r.id] = place
    return [f for f in (finding("duplicated", where, wrong),) if f]


def check_repeated_by_offset(where, source, target, windows):
    """A copy may hold more of an event than its source only where a fault hit it: `windows` are
    ({partition: committed before}, {partition: end behind}) of each."""
    more = extra(target)
    places = defaultdict(list)
    for r in source:
        places[r.id].append((r.partition, r.offset))
    wrong = []
    for event, n in sorted(more.items()):
        found = places.get(event, [])
        allowed = any(low.get(p, 0) <= offset < high.get(p, 1 << 62)
                      for p, offset in found for low, high in windows)
        if n > len(found) - 1 and not allowed:
            wrong.append(f"{event[0]}-{event[1]}: {n + 1} times, {len(found)} in the source")
    return [f for f in (finding("duplicated", where, wrong),) if f]


def check_repeated_by_number(where, records, windows):
    """As above for a file, whose lines are numbered: `windows` are (first, behind the last)."""
    wrong = [f"{client}-{number}: {n + 1} times" for (client, number), n in sorted(extra(records).items())
             if not any(low <= number < high for low, high in windows)]
    return [f for f in (finding("duplicated", where, wrong),) if f]


def check_lists(where, lists, records):
    """{key: [sequences]}: each list is exactly the order in which the log first had its key's events."""
    wanted = defaultdict(list)
    for r in firsts(records):
        wanted[r.key].append(r.seq)
    lost, double, order = [], [], []
    for key, want in wanted.items():
        have = lists.get(key, [])
        if have == want:
            continue
        counts = Counter(have)
        lost += [f"{key}: {seq}" for seq in want if counts[seq] == 0]
        double += [f"{key}: {seq} {n} times" for seq, n in counts.items() if n > 1]
        if sorted(have) == sorted(want):
            at = next(i for i in range(len(want)) if have[i] != want[i])
            order.append(f"{key}: {have[at]} where {want[at]} was expected, at {at}")
    alien = [key for key in lists if key not in wanted]
    return [f for f in (finding("lost", where, lost), finding("duplicated", where, double),
                        finding("reordered", where, order), finding("never issued", where, alien)) if f]


def check_history(where, lists, records):
    """{key: [sequences]}, each as often as it was written: it follows the log, and where it goes back, as behind
    a crash, it goes on from there. What jumps ahead had left something out, or somebody wrote in between who
    should not have: an owner from before."""
    logs = defaultdict(lambda: defaultdict(list))  # key, sequence: places in the log
    n = Counter()
    for r in records:
        logs[r.key][r.seq].append(n[r.key])
        n[r.key] += 1
    lost, jumps = [], []
    for key, places in logs.items():
        state, there = [-1], set(lists.get(key, []))
        lost += [f"{key}: {seq}" for seq in places if seq not in there]
        for i, seq in enumerate(lists.get(key, [])):
            reached = [p for p in places.get(seq, []) if p <= max(state) or p - 1 in state]
            if not reached:
                jumps.append(f"{key}: {lists[key][max(0, i - 4):i + 1]} at {i}")
            state = reached or places.get(seq) or [-1]
    return [f for f in (finding("lost", where, lost), finding("reordered", where, jumps)) if f]


def check_last(where, values, records, of=lambda r: r.seq):
    """{key: value}: an overwritten value is that of the last record of its key, repeated ones included."""
    last = {}
    for r in records:
        last[r.key] = of(r)
    wrong = [f"{key}: {values.get(key)}, the log ends with {want}" for key, want in sorted(last.items())
             if values.get(key) != want]
    return [f for f in (finding("stale", where, wrong),) if f]


def check_counters(where, counters, records):
    """{type: n}: each event counted once, however often it came."""
    want = Counter(TYPES[r.number % len(TYPES)] for r in firsts(records))
    wrong = [f"{kind}: {counters.get(kind, 0)}, expected {n}" for kind, n in sorted(want.items())
             if counters.get(kind, 0) != n] + [f"{kind}: unknown" for kind in counters if kind not in want]
    return [f for f in (finding("miscounted", where, wrong),) if f]
