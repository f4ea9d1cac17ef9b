# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb against a stand-in: failover, labels of errors and broken replies, which no server at
hand can be brought to."""
import json

import bson
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

def failing(members, answer, times, name="insert"):
    """The next `times` inserts (or other commands) are answered so."""
    left = [times]

    def fail(command):
        if name not in command or left[0] == 0:
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


# Options under which each operation makes or finds a document, and the command that it becomes.
MODES = {"insert": ("    mode: insert", "insert"), "replace": ("    mode: replace", "update"),
         "upsert": ("    mode: update\n    upsert: true\n    update: {$set: {x: 1}}", "update")}


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_takes_few_operations_at_once(weir, mode):
    feed(weir, 50)
    options, name = MODES[mode]

    def small(command):
        n = len(command.get("documents", command.get("updates", [])))
        return {"ok": 0, "code": 16, "errmsg": "batch sizes must be between 1 and 7"} if n > 7 else None
    with Members() as members:
        members.answer = small
        weir.run(pipeline(members, options, source=FILE))
        assert len(members.stored()) == 50 and dead(weir) == []


def test_only_what_throttles_asks_for_time(weir):
    """What an event holds can be in a message of the server: it makes nobody wait for ten minutes."""
    feed(weir, 3)
    with Members() as members:
        failing(members, lambda c: {"ok": 1, "n": len(c["documents"]) - 1, "writeErrors": [
            {"index": 0, "code": 112, "errmsg": "conflict at RetryAfterMs=600000"}]}, 1)
        weir.run(pipeline(members, source=FILE))
        assert len(members.stored()) == 3 and dead(weir) == []


# ---- duplicate keys ---------------------------------------------------------------------------

def duplicate(members, **more):
    """The first of the operations meets a duplicate key, the others are done."""
    def answer(command):
        rest = command["updates"][1:]
        members.do_update(command | {"updates": rest})
        return {"ok": 1, "n": len(rest), "writeErrors": [
            {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key"} | more]}
    return answer


@pytest.mark.parametrize("more", [{"keyPattern": {"_id": 1}}, {}], ids=["of-the-id", "of-nothing"])
@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_an_upsert_that_another_one_overtook(weir, mode, more):
    """Also where the server does not say which index it was: the next try finds the document."""
    feed(weir, 5)
    with Members() as members:
        failing(members, duplicate(members, **more), 2, "update")
        weir.run(pipeline(members, MODES[mode][0], source=FILE))
        assert len(members.stored()) == 5 and dead(weir) == []


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_a_duplicate_of_an_index_that_nobody_names(weir, mode):
    """It may be no race: after the sink's attempts that event is rejected, and no other."""
    def stubborn(command):
        first = [i for i, u in enumerate(command.get("updates", [])) if u["q"]["_id"] == 0]
        return {"ok": 1, "n": len(command["updates"]) - 1, "writeErrors": [
            {"index": first[0], "code": 11000, "errmsg": "E11000 duplicate key"}]} if first else None
    feed(weir, 5)
    with Members() as members:
        members.answer = stubborn
        weir.run(pipeline(members, MODES[mode][0], source=FILE))
        assert [(d["code"], d["attempts"]) for d in dead(weir)] == [("duplicate_key", 3)]


def test_an_update_without_upsert_races_with_nobody(weir):
    """A duplicate key is its own fault, also where its filter names the index's field."""
    weir.write('{"user": "a"}\n', "in.ndjson")
    with Members() as members:
        failing(members, duplicate(members, keyPattern={"user": 1}), 1, "update")
        weir.run(pipeline(members, """\
    mode: update
    filter: {user: "{{ user }}"}
    update: {$set: {user: b}}""", source=FILE))
        assert [(d["code"], d["attempts"]) for d in dead(weir)] == [("duplicate_key", 1)]


@pytest.mark.parametrize("many", [False, True])
def test_what_a_delete_repeats(weir, many):
    """A delete of one document a filter, done again, would remove another one; of all of them not."""
    weir.write('{"team": 1}\n{"team": 2}\n', "in.ndjson")
    conflict = [{"index": 0, "code": 112, "errmsg": "conflict"}]
    with Members() as members:
        answers = [{"ok": 1, "n": 1, "writeErrors": conflict}]
        members.answer = lambda c: (answers.pop() if answers else {"ok": 1, "n": 2}) if "delete" in c else None
        weir.run(pipeline(members, f"""\
    mode: delete
    many: {str(many).lower()}
    filter: {{team: "{{{{ team }}}}"}}""", source=FILE))
        again = [d["q"]["team"] for c in members.commands if "delete" in c for d in c["deletes"]][2:]
        assert again == ([1, 2] if many else [1])


# Filters and updates, and whether an update that was done is done again behind one that failed.
AGAIN = {
    "another-field": ("{team: T}", "{$set: {x: 1, y.team: 2}}", True),
    "what-the-filter-asks": ("{team: T, state: new}", "{$set: {state: taken}}", False),
    "a-part-of-it": ("{team: T, state.is: new}", "{$set: {state: {is: taken}}}", False),
    "another-name-for-it": ("{team: T, state: null}", "{$rename: {old: state}}", False),
    "any-field": ("{team: T, c_a: 1}", '{$set: {"c_{{ k }}": 1}}', False),
    "an-expression": ('{team: T, $expr: {$eq: ["$state", 1]}}', "{$set: {state: 2}}", False),
    "of-one-id": ("{_id: 1, team: T, state: new}", "{$set: {state: taken}}", True),
    "of-one-object-id": ('{_id: {$oid: "65f0c0ffee0123456789abcd"}, team: T, state: new}',
                         "{$set: {state: taken}}", True),
    "of-several-ids": ("{_id: {$gt: 1}, team: T, state: new}", "{$set: {state: taken}}", False),
    "the-event": ("{team: T}", None, True),
    "the-event-and-more": ("{team: T, state: new}", None, False),
    "adding-up": ("{team: T}", "{$inc: {x: 1}}", False),
    "many": ("{team: T, state: new}", "{$set: {state: taken}}\n    many: true", True),
}


@pytest.mark.parametrize("name", AGAIN)
def test_what_an_update_repeats(weir, name):
    """An update that changes what its filter asks for would take another document the next time."""
    filter_, update, again = AGAIN[name]
    weir.write('{"team": 1, "k": "a"}\n{"team": 2, "k": "a"}\n', "in.ndjson")
    conflict = [{"index": 0, "code": 112, "errmsg": "conflict"}]
    with Members() as members:
        answers = [{"ok": 1, "n": 1, "writeErrors": conflict}]
        members.answer = lambda c: (answers.pop() if answers else {"ok": 1, "n": 2}) if "update" in c else None
        weir.run(pipeline(members, f"""\
    mode: update
    filter: {filter_.replace("T", '"{{ team }}"')}
    {"update: " + update if update else ""}""", source=FILE))
        repeated = [u["q"]["team"] for c in members.commands if "update" in c for u in c["updates"]][2:]
        assert repeated == ([1, 2] if again else [1])


BROKEN = {
    "no n": {"ok": 1},
    "too few": lambda c: {"ok": 1, "n": 0},
    "a negative n": lambda c: {"ok": 1, "n": -1},
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


@pytest.mark.parametrize("mode", [pytest.param("insert", marks=pytest.mark.sanitize), "replace", "upsert"])
@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_replies_that_are_broken(weir, answer, mode):
    """What is not known is written again."""
    feed(weir, 20)
    options, name = MODES[mode]
    with Members() as members:
        failing(members, answer, 2, name)
        weir.run(pipeline(members, options, source=FILE))
        assert len(members.stored()) == 20 and dead(weir) == []


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


@pytest.mark.parametrize("name", ["create", "listCollections", "createIndexes"])
def test_what_cannot_be_prepared_is_tried_again(weir, name):
    """Errors, and a connection that breaks; the refusal of a user tells nobody's name."""
    weir.write('{"_id": 1, "ts": "2026-01-31T12:00:00Z"}\n', "in.ndjson")
    answers = ["close", {"ok": 0, "code": 18, "errmsg": "no user s3cret"}, {"ok": 0, "code": 1, "errmsg": "odd"}]
    collection = {"name": "events", "type": "timeseries", "options": {"timeseries": {"timeField": "ts"}}}
    there = {"create": {"ok": 0, "code": 48, "errmsg": "it exists"},
             "listCollections": {"ok": 1, "cursor": {
                 "id": bson.Int64(0), "ns": "flow.$cmd.listCollections", "firstBatch": [collection]}}}

    def answer(command):
        if name in command and answers:
            return answers.pop(0)
        return next((there[k] for k in there if k in command), None)
    with Members() as members:
        members.answer = answer
        running = weir.run(pipeline(members, "    dates: [ts]\n    indexes: [{keys: {a: 1}}]\n"
                                             "    time_series: {time_field: ts}", source=FILE))
        assert len(members.stored()) == 1 and dead(weir) == [] and answers == []
        assert "none of time series" not in running.stderr and "s3cret" not in running.stderr
