# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb against a stand-in: failover, labels of errors and broken replies, which no server at
hand can be brought to."""
import json

import pytest

from mongodb_standin import PASSING_CODES, REJECTED, REJECTED_ALONE, Members
from weirtest import wait_until


def pipeline(members, options="", source="{type: generate, rate: 3000, count: 3000}"):
    return f"""\
name: store
sources: {{in: {source}}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: "{members.uri}"
    database: flow
    collection: events
    retry: {{initial: 20ms, max: 200ms, attempts: 3}}
    batch: {{events: 50}}
    timeout: 2s
{options}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
shutdown_timeout: 2s
"""


FILE = "{type: file, path: in.ndjson}"


def dead(weir):
    path = weir.folder / "failed.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def feed(weir, n):
    weir.write("".join(json.dumps({"_id": i}) + "\n" for i in range(n)), "in.ndjson")


def assert_all_are_stored(weir, members, n=3000):
    assert dead(weir) == []
    assert sorted(doc["seq"] for doc in members.stored()) == list(range(n))


# ---- failover ---------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("mode", ["insert", "replace"])
def test_the_primary_steps_down(weir, mode):
    with Members(3) as members:
        running = weir.start(pipeline(members, f"    mode: {mode}"))
        wait_until(lambda: len(members.stored()) > 500)
        members.elect(None)
        running.wait_log("sink unavailable", component="store")
        members.elect(2)
        running.wait(timeout=60)
        assert_all_are_stored(weir, members)


def test_the_primary_dies(weir):
    with Members(3) as members:
        running = weir.start(pipeline(members))
        wait_until(lambda: len(members.stored()) > 500)
        members.elect(None)
        members[0].die()
        running.wait_log("sink unavailable", component="store")
        members.elect(1)
        running.wait(timeout=60)
        assert_all_are_stored(weir, members)


def test_the_primary_freezes(weir):
    """It takes connections still, and must not keep the others from being found."""
    with Members(3) as members:
        running = weir.start(pipeline(members))
        wait_until(lambda: len(members.stored()) > 500)
        members[0].frozen = True
        running.wait_log("sink unavailable", component="store")
        members.elect(1)
        running.wait(timeout=60)
        assert_all_are_stored(weir, members)


def test_a_member_is_away_all_the_time(weir):
    with Members(3) as members:
        members[0].die()
        members.elect(1)
        weir.run(pipeline(members))
        assert_all_are_stored(weir, members)


# ---- what errors mean -------------------------------------------------------------------------

def failing(members, answer, times):
    """The next `times` inserts are answered so."""
    left = [times]

    def fail(command):
        if "insert" not in command or left[0] == 0:
            return None
        left[0] -= 1
        return answer(command) if callable(answer) else answer
    members.answer = fail


@pytest.mark.parametrize("label", ["RetryableWriteError", "RetryableError", "SystemOverloadedError"])
def test_labels_say_that_it_may_work_later(weir, label):
    """An error that nobody knows counts as an attempt (3 here); with a label it is tried for as long as
    it takes."""
    answer = {"ok": 0, "code": 98765, "errmsg": "odd"}
    feed(weir, 10)
    with Members() as members:
        failing(members, answer | {"errorLabels": [label]}, 8)
        weir.run(pipeline(members, source=FILE))
        assert len(members.stored()) == 10 and dead(weir) == []
    with Members() as members:
        failing(members, answer, 8)
        weir.run(pipeline(members, source=FILE))
        assert members.stored() == []
        assert {d["code"] for d in dead(weir)} == {"command_failed"} and len(dead(weir)) == 10


@pytest.mark.parametrize("mode", ["insert", "replace"])
def test_each_code_of_a_document(weir, mode):
    """A batch in which each document meets another error, once: it is rejected or stored later."""
    codes = [*REJECTED, *REJECTED_ALONE, *PASSING_CODES, 11000]
    feed(weir, len(codes))
    met = set()

    def meet(command):
        rows = command.get("documents") or [u["u"] for u in command.get("updates", [])]
        new = [(i, row["_id"]) for i, row in enumerate(rows) if row["_id"] not in met]
        if not new:
            return None
        met.update(key for _, key in new)
        return {"ok": 1, "n": len(rows) - len(new), "writeErrors": [
            {"index": i, "code": codes[key], "errmsg": "m", "keyPattern": {"mail": 1}} for i, key in new]}
    with Members() as members:
        members.answer = meet
        weir.run(pipeline(members, f"    mode: {mode}\n    batch: {{events: 1000}}", source=FILE)
                 .replace("    batch: {events: 50}\n", ""))
        refused = REJECTED | REJECTED_ALONE | {11000: "duplicate_key"}
        assert {codes[json.loads(d["payload"])["_id"]]: d["code"] for d in dead(weir)} == refused
        assert sorted(codes[d["_id"]] for d in members.stored()) == sorted(PASSING_CODES)


def some_errors(command):
    """Of three documents the second is refused, the third is to come again."""
    return {"ok": 1, "n": len(command["documents"]) - 2, "writeErrors": [
        {"index": 1, "code": 121, "errmsg": "no"}, {"index": 2, "code": 112, "errmsg": "conflict"}]}


def test_errors_by_document(weir):
    feed(weir, 10)
    with Members() as members:
        failing(members, some_errors, 1)
        weir.run(pipeline(members, source=FILE))
        assert [(d["code"], json.loads(d["payload"])) for d in dead(weir)] == [("validation", {"_id": 1})]
        inserts = [c for c in members.commands if "insert" in c]
        assert [d["_id"] for d in inserts[0]["documents"]] == list(range(10))
        assert [d["_id"] for d in inserts[1]["documents"]][0] == 2  # those behind it may come again
        assert sorted(d["_id"] for d in members.stored()) == list(range(2, 10))


@pytest.mark.parametrize("mode", ["insert", "replace"])
def test_a_server_that_takes_no_dots_in_keys(weir, mode):
    """It refuses the whole command for one document: that one is rejected, by halves."""
    weir.write("".join(json.dumps({"_id": i, "a.b" if i % 10 == 3 else "a": 1}) + "\n" for i in range(50)),
               "in.ndjson")

    def picky(command):
        documents = command.get("documents", []) + [u["u"] for u in command.get("updates", [])]
        if any("." in key for d in documents for key in d):
            return {"ok": 0, "code": 2, "errmsg": "invalid key: 'a.b' (key must not contain '.' sign)"}
        return None
    with Members() as members:
        members.answer = picky
        weir.run(pipeline(members, f"    mode: {mode}", source=FILE))
        assert sorted(d["_id"] for d in members.stored()) == [i for i in range(50) if i % 10 != 3]
    assert [(d["code"], json.loads(d["payload"])["_id"]) for d in dead(weir)] == [
        ("bad_value", i) for i in range(3, 50, 10)]


BROKEN = {
    "no n": {"ok": 1},
    "too few": lambda c: {"ok": 1, "n": 0},
    "an odd index": lambda c: {"ok": 1, "n": 0, "writeErrors": [{"index": 99, "code": 1, "errmsg": "x"}]},
    "a negative index": lambda c: {"ok": 1, "n": 0, "writeErrors": [{"index": -1, "code": 1}]},
    "no array": lambda c: {"ok": 1, "n": 0, "writeErrors": "all"},
    "no ok": {"n": 5},
    "empty": {},
    "no message": b"\x10\0\0\0" + b"\0" * 12,
    "too long": b"\xff\xff\xff\x7f" + b"\0" * 100,
    "a piece": b"\x40\0\0\0\1\0\0\0",
    "closed": "close",
    "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
}


@pytest.mark.sanitize
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_replies_that_are_broken(weir, answer):
    """What is not known is written again."""
    feed(weir, 20)
    with Members() as members:
        failing(members, answer, 2)
        weir.run(pipeline(members, source=FILE))
        assert sorted(d["_id"] for d in members.stored()) == list(range(20)) and dead(weir) == []


def test_write_concern_of_each_command(weir):
    feed(weir, 1)
    with Members() as members:
        weir.run(pipeline(members, "    write_concern: {w: majority, journal: true, timeout: 3s}",
                          source=FILE))
        weir.run(pipeline(members, source=FILE))
        one, two = [c for c in members.commands if "insert" in c]
        assert one["writeConcern"] == {"w": "majority", "j": True, "wtimeout": 3000}
        assert "writeConcern" not in two and two["ordered"] is False


def test_no_document_twice_in_a_command(weir):
    weir.write("".join(json.dumps({"_id": i % 7, "n": i}) + "\n" for i in range(700)), "in.ndjson")
    with Members() as members:
        for mode in ("insert", "replace"):
            weir.run(pipeline(members, f"    mode: {mode}", source=FILE))
        for command in members.commands:
            ids = [d["_id"] for d in command.get("documents", [])] + [
                u["q"]["_id"] for u in command.get("updates", [])]
            assert len(ids) == len(set(ids))
        assert sorted(d["n"] for d in members.stored()) == list(range(693, 700))


def test_time_series_are_made_once(weir):
    weir.write('{"_id": 1, "ts": "2026-01-31T12:00:00Z"}\n' * 3, "in.ndjson")
    with Members() as members:
        weir.run(pipeline(members, "    batch: {events: 1}\n    dates: [ts]\n    time_series: {time_field: ts, "
                                   "meta_field: m, granularity: hours, expire_after: 90s}",
                          source=FILE).replace("    batch: {events: 50}\n", ""))
        made = [c for c in members.commands if "create" in c]
        assert len(made) == 1 and made[0]["create"] == "events"
        assert made[0]["timeseries"] == {"timeField": "ts", "metaField": "m", "granularity": "hours"}
        assert made[0]["expireAfterSeconds"] == 90
        assert next(i for i, c in enumerate(members.commands) if "create" in c) == 0
