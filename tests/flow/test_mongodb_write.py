# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb: updates and deletes, types that JSON lacks, indexes, time series."""
import datetime
import json
import uuid

import pytest
from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from mongodb_rig import dead, feed, stored
from mongodb_rig import write_pipeline as pipeline
from weirtest import wait_until

OID = "65f0c0ffee0123456789abcd"


@pytest.fixture
def db(mongodb, mongo_db):
    mongo_db.client_uri = mongodb.uri
    return mongo_db


def codes(weir):
    return [(d["code"], json.loads(d["payload"]).get("k")) for d in dead(weir)]


# ---- update -----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_update_by_filter(weir, db):
    """Values keep their types, names can hold placeholders, and what nothing matches is no error."""
    db.events.insert_many([{"_id": i, "user": f"u{i}", "n": 0} for i in range(3)])
    feed(weir,
         {"user": "u0", "type": "a", "v": 9007199254740993, "o": {"x": [1, None]}, "ts": "2026-01-31T12:00:00Z"},
         {"user": "u1", "type": "b", "v": 1.5, "o": [], "ts": "2026-01-31T12:00:01Z"},
         {"user": "nobody", "type": "a", "v": 1, "o": {}, "ts": "2026-01-31T12:00:02Z"},
         {"user": "u0", "type": "a", "v": "text", "o": {}, "ts": "2026-01-31T12:00:03Z"})
    weir.run(pipeline(db, """\
    mode: update
    filter: {user: "{{ user }}"}
    update:
      $set: {v: "{{ v }}", o: "{{ o }}", last: {$date: "{{ ts }}"}, text: "v={{ v }}", one: 1, no: null}
      $inc: {n: 1, "seen.{{ type }}": 1}
"""))
    assert dead(weir) == []
    docs = stored(db)
    assert docs[0] == {"_id": 0, "user": "u0", "n": 2, "v": "text", "o": {}, "text": "v=text",
                       "last": datetime.datetime(2026, 1, 31, 12, 0, 3), "seen": {"a": 2},
                       "one": 1, "no": None}
    assert docs[1]["v"] == 1.5 and docs[1]["o"] == [] and docs[1]["seen"] == {"b": 1}
    assert docs[2] == {"_id": 2, "user": "u2", "n": 0} and len(docs) == 3


def test_update_is_in_order(weir, db):
    """Hundreds of events about three documents, in batches: each is applied, in its order."""
    feed(weir, *({"user": i % 3, "n": i} for i in range(300)))
    weir.run(pipeline(db, """\
    mode: update
    upsert: true
    batch: {events: 50}
    filter: {_id: "{{ user }}"}
    update: {$push: {all: "{{ n }}"}, $set: {last: "{{ n }}"}, $setOnInsert: {first: "{{ n }}"}}
"""))
    assert dead(weir) == []
    assert stored(db) == {u: {"_id": u, "all": list(range(u, 300, 3)), "last": 297 + u, "first": u}
                          for u in range(3)}


def test_update_without_an_update_sets_the_fields(weir, db):
    db.events.insert_one({"_id": "a", "old": 1, "x": 1})
    feed(weir, {"_id": "a", "x": 2, "ref": OID}, {"_id": "b", "x": 3, "k": "b"},
         {"_id": "a", "k": "dot", "x.y": 1}, {"_id": "a", "k": "op", "$x": 1}, {"_id": "a", "k": "", "": 1},
         '"text"')
    weir.run(pipeline(db, "    mode: update\n    upsert: true\n    types: {ref: object_id}"))
    assert stored(db) == {"a": {"_id": "a", "old": 1, "x": 2, "ref": ObjectId(OID)},
                          "b": {"_id": "b", "x": 3, "k": "b"}}
    assert [d["code"] for d in dead(weir)] == ["bad_key", "bad_key", "bad_key", "not_object"]


def test_update_many_and_array_filters(weir, db):
    db.events.insert_many([{"_id": i, "team": "x" if i < 3 else "y",
                            "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 1}]} for i in range(4)])
    feed(weir, {"team": "x", "sku": "b", "n": 5})
    weir.run(pipeline(db, """\
    mode: update
    many: true
    filter: {team: "{{ team }}"}
    update: {$inc: {"items.$[it].n": "{{ n }}"}}
    array_filters: [{it.sku: "{{ sku }}"}]
"""))
    assert dead(weir) == []
    docs = stored(db)
    assert [[it["n"] for it in docs[i]["items"]] for i in range(4)] == [[1, 6], [1, 6], [1, 6], [1, 1]]


def test_update_by_stages_takes_texts_as_texts(weir, db):
    """In an aggregation pipeline "$secret" would be a field; what an event gives is none."""
    db.events.insert_one({"_id": 1, "secret": "s", "n": 2})
    feed(weir, {"id": 1, "v": "$secret", "o": {"a": "$secret"}})
    weir.run(pipeline(db, """\
    mode: update
    filter: {_id: "{{ id }}"}
    update: [{$set: {v: "{{ v }}", o: "{{ o }}", twice: {$multiply: ["$n", 2]}}}]
"""))
    assert dead(weir) == []
    assert stored(db)[1] == {"_id": 1, "secret": "s", "n": 2, "v": "$secret",
                             "o": {"a": "$secret"}, "twice": 4}


def test_expressions_in_a_filter_take_texts_as_texts(weir, db):
    db.events.insert_many([{"_id": 1, "a": "x", "b": "x"}, {"_id": 2, "a": "$b", "b": "y"}])
    feed(weir, {"v": "$b"})
    weir.run(pipeline(db, """\
    mode: update
    many: true
    filter: {$expr: {$eq: ["$a", "{{ v }}"]}}
    update: {$set: {hit: true}}
"""))
    assert dead(weir) == []
    assert [i for i, d in stored(db).items() if "hit" in d] == [2]


def test_a_text_that_the_file_makes_literal_is_one(weir, db):
    """A file that puts $literal round its placeholders means what it did."""
    db.events.insert_many([{"_id": 1, "a": "$b", "b": "x"}, {"_id": 2, "a": "y", "b": "$b"}])
    feed(weir, {"v": "$b"})
    weir.run(pipeline(db, """\
    mode: update
    filter: {$expr: {$eq: ["$a", {$literal: "{{ v }}"}]}}
    update: [{$set: {c: {$literal: "{{ v }}"}, d: {$literal: {e: "{{ v }}"}}}}]
"""))
    assert dead(weir) == []
    assert [(i, d["c"], d["d"]) for i, d in stored(db).items() if "c" in d] == [(1, "$b", {"e": "$b"})]


def test_braces_from_the_environment_are_text(weir, db):
    """What ${env:} puts in is no placeholder, also in the documents of a sink."""
    db.events.insert_many([{"_id": 1, "a": "{{ k }}"}, {"_id": 2, "a": "no"}])
    feed(weir, {"k": "no", "v": "{"})
    weir.run(pipeline(db, """\
    mode: update
    filter: {a: "${env:BRACES}"}
    update: {$set: {b: "{${env:BRACES}{{ v }}{", c: "{{ k }}"}}
"""), env={"BRACES": "{{ k }}"})
    assert dead(weir) == []
    assert stored(db)[1] == {"_id": 1, "a": "{{ k }}", "b": "{{{ k }}{{", "c": "no"}
    assert stored(db)[2] == {"_id": 2, "a": "no"}


def test_update_keeps_the_newest_version(weir, db):
    """A guard in the filter: an event that is late changes nothing."""
    db.events.insert_one({"_id": "d", "version": 5, "v": "five"})
    feed(weir, {"id": "d", "version": 4, "v": "four"}, {"id": "d", "version": 6, "v": "six"},
         {"id": "d", "version": 5, "v": "five again"})
    weir.run(pipeline(db, """\
    mode: update
    filter: {_id: "{{ id }}", version: {$lt: "{{ version }}"}}
    update: {$set: {v: "{{ v }}", version: "{{ version }}"}}
"""))
    assert stored(db)["d"] == {"_id": "d", "version": 6, "v": "six"}


@pytest.mark.parametrize("key", ["_id", "user"])
def test_a_guard_and_an_upsert(weir, db, key):
    """Where the document is there and the guard does not hold nothing is changed, and nothing is wrong;
    nor when the events come again."""
    if key == "user":
        db.events.create_index("user", unique=True)
    db.events.insert_one({key: "d", "version": 5})
    feed(weir, *({"id": i, "version": v, "k": f"{i}{v}"} for i, v in (
        ("d", 4), ("e", 1), ("d", 6), ("e", 1), ("d", 5), ("f", 9), ("f", 8))))
    for _ in range(2):
        weir.run(pipeline(db, f"""\
    mode: update
    upsert: true
    filter: {{{key}: "{{{{ id }}}}", version: {{$lt: "{{{{ version }}}}"}}}}
    update: {{$set: {{version: "{{{{ version }}}}", k: "{{{{ k }}}}"}}}}
"""))
        assert sorted((d[key], d["version"], d["k"]) for d in db.events.find()) == [
            ("d", 6, "d6"), ("e", 1, "e1"), ("f", 9, "f9")]
    assert dead(weir) == []


def test_an_upsert_that_takes_the_key_of_another(weir, db):
    """The index's field is in the filter, but it is another value that is taken: that event is wrong."""
    db.events.create_index("user", unique=True)
    db.events.insert_many([{"_id": 1, "user": "a"}, {"_id": 2, "user": "b", "n": 5}])
    feed(weir, {"user": "a", "to": "b", "k": "taken"})
    weir.run(pipeline(db, """\
    mode: update
    upsert: true
    filter: {user: "{{ user }}", gone: {$exists: false}}
    update: {$set: {user: "{{ to }}", k: "{{ k }}"}}
"""))
    assert codes(weir) == [("upsert_race", "taken")]
    assert sorted(d["user"] for d in db.events.find()) == ["a", "b"]


@pytest.mark.parametrize("also", ["", ", version: {$lt: 9}"], ids=["alone", "beside-a-guard"])
@pytest.mark.parametrize("key", ["_id", "device"])
def test_an_upsert_whose_key_belongs_to_another(weir, db, key, also):
    """A value in the filter is no guard: the document with the key is not the one that is meant, and what
    was not written is told."""
    if key == "device":
        db.events.create_index("device", unique=True)
    db.events.insert_one({key: "d", "user": "a", "version": 1})
    feed(weir, {"user": "b", "device": "d", "k": "taken"}, {"user": "a", "device": "d", "k": "own"})
    weir.run(pipeline(db, f"""\
    mode: update
    upsert: true
    filter: {{user: "{{{{ user }}}}", {key}: "{{{{ device }}}}"{also}}}
    update: {{$set: {{k: "{{{{ k }}}}"}}}}
"""))
    assert codes(weir) == [("upsert_race", "taken")]
    assert [(d["user"], d["k"]) for d in db.events.find()] == [("a", "own")]


@pytest.mark.parametrize("guard", [
    "$or: [{version: {$lt: 1}}, {version: {$exists: false}}]", '$expr: {$lt: ["$version", 1]}',
    "user: {$eq: b}, version: {$gt: 0}"], ids=["or", "expr", "eq"])
def test_guards_of_other_forms(weir, db, guard):
    """Whatever is written with operators is one."""
    db.events.insert_one({"_id": "d", "user": "a", "version": 1})
    feed(weir, {"k": "late"})
    weir.run(pipeline(db, f"""\
    mode: update
    upsert: true
    filter: {{_id: d, {guard}}}
    update: {{$set: {{k: "{{{{ k }}}}"}}}}
"""))
    assert dead(weir) == [] and stored(db) == {"d": {"_id": "d", "user": "a", "version": 1}}


def test_filters_by_types_that_json_lacks(weir, db):
    u = uuid.uuid4()
    db.events.insert_one({"_id": ObjectId(OID), "u": Binary.from_uuid(u)})
    feed(weir, {"ref": OID, "u": str(u), "k": "hit"}, {"ref": "zz", "u": str(u), "k": "bad"},
         {"ref": 5, "u": str(u), "k": "number"})
    weir.run(pipeline(db, """\
    mode: update
    filter: {_id: {$oid: "{{ ref }}"}, u: {$uuid: "{{ u }}"}}
    update: {$set: {k: "{{ k }}"}}
"""))
    assert stored(db)[ObjectId(OID)]["k"] == "hit"
    assert codes(weir) == [("bad_object_id", "bad"), ("bad_object_id", "number")]
    assert dead(weir)[0]["reason"] == ('_id: expected 24 hex digits as a string such as '
                                       '"65f0c0ffee0123456789abcd", found "zz"')


HOSTILE = [
    ("ne", {"user": {"$ne": None}}, "operator"),
    ("where", {"user": {"$where": "sleep(1000)"}}, "operator"),
    ("nested", {"user": {"a": [{"$gt": ""}]}}, "operator"),
    ("each", {"user": "u", "v": {"$each": [1, 2]}}, "operator"),
    ("dotted", {"user": "u", "v": 1, "type": "a.b"}, "bad_key"),
    ("dollar", {"user": "u", "v": 1, "type": "$x"}, "bad_key"),
    ("nothing", {"user": "u", "v": 1, "type": ""}, "bad_key"),
    ("nul", {"user": "u", "v": 1, "type": "a\0b"}, "bad_key"),
    ("missing", {"v": 1, "type": "a"}, "no_field"),
    ("null", {"user": None, "v": 1, "type": "a"}, "no_field"),
    ("deep", {"user": json.loads("[" * 60 + "]" * 60), "v": json.loads("[" * 60 + "1" + "]" * 60)}, None),
    ("number", {"user": "u", "v": 12345678901234567890123456789012345678901}, "bad_number"),
    ("key", {"user": {"a\0": 1}, "v": 1}, "bad_key"),
]


def test_hostile_events_choose_no_operators_and_no_fields(weir, db):
    """Each is refused by itself; the events round it are applied."""
    db.events.insert_many([{"_id": "u", "user": "u", "seen": {}}, {"_id": "other", "user": "x"}])
    good = {"k": "good", "user": "u", "v": 1, "type": "ok"}
    rows = []
    for k, event, _ in HOSTILE:
        rows += [{"type": "t", **event, "k": k}, good]
    feed(weir, *rows)
    weir.run(pipeline(db, """\
    mode: update
    many: true
    filter: {user: "{{ user }}"}
    update: {$push: {all: "{{ v }}"}, $inc: {"seen.t_{{ type }}": 1, "type.{{ type }}": 1}, $set: {n: "{{ n | 0 }}"}}
"""))
    assert codes(weir) == [(code, k) for k, _, code in HOSTILE if code]
    docs = stored(db)
    assert docs["other"] == {"_id": "other", "user": "x"}
    assert docs["u"]["seen"] == {"t_ok": len(HOSTILE)} and docs["u"]["all"] == [1] * len(HOSTILE)


def test_an_update_that_the_server_refuses(weir, db):
    """$inc of a text: the server says no to that document, and to no other."""
    db.events.insert_many([{"_id": i, "n": 0 if i != 5 else "text"} for i in range(10)])
    feed(weir, *({"id": i, "k": i} for i in range(10)))
    weir.run(pipeline(db, '    mode: update\n    filter: {_id: "{{ id }}"}\n    update: {$inc: {n: 1}}'))
    assert codes(weir) == [("type_mismatch", 5)]
    assert [d["n"] for i, d in sorted(stored(db).items())] == [1, 1, 1, 1, 1, "text", 1, 1, 1, 1]


def test_upserts_of_one_document_by_many(weir, db):
    """Shards race to make the same documents: each is made once, no event is lost."""
    db.events.create_index("user", unique=True)
    feed(weir, *({"user": i % 20, "n": i} for i in range(2000)))
    weir.run(pipeline(db, """\
    mode: update
    upsert: true
    concurrency: 4
    shard_by: "{{ n }}"
    retry: {attempts: 50, initial: 1ms, max: 20ms}
    filter: {user: "{{ user }}"}
    update: {$inc: {count: 1}}
""".replace("    retry", "    # retry", 1)))
    assert dead(weir) == []
    assert sorted((d["user"], d["count"]) for d in db.events.find()) == [(u, 100) for u in range(20)]


def test_a_hint(weir, db):
    db.events.create_index("user", name="by_user")
    db.events.insert_one({"_id": 1, "user": "a"})
    feed(weir, {"user": "a", "k": 1})
    options = '    mode: update\n    filter: {user: "{{ user }}"}\n    update: {$set: {k: 1}}\n    hint: '
    weir.run(pipeline(db, options + "by_user"))
    weir.run(pipeline(db, options + "{user: 1}"))
    assert dead(weir) == [] and stored(db)[1]["k"] == 1
    weir.run(pipeline(db, options + "no_such_index"))
    assert [d["code"] for d in dead(weir)] == ["bad_value"] and "hint" in dead(weir)[0]["reason"]


# ---- delete -----------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_delete_by_id(weir, db):
    db.events.insert_many([{"_id": i} for i in range(10)] + [{"_id": "x"}])
    feed(weir, {"_id": 1}, {"_id": 3}, {"_id": 3}, {"_id": 99}, {"_id": "x"}, {"_id": 1.5, "k": "real"})
    weir.run(pipeline(db, "    mode: delete"))
    assert sorted(stored(db)) == [0, 2, 4, 5, 6, 7, 8, 9]
    assert codes(weir) == [("bad_id", "real")]


def test_delete_one_and_many(weir, db):
    db.events.insert_many([{"_id": i, "team": i % 2} for i in range(10)])
    feed(weir, {"team": 1}, {"team": 1}, {"team": {"$gte": 0}, "k": "operator"})
    options = '    mode: delete\n    filter: {team: "{{ team }}"}\n'
    weir.run(pipeline(db, options))
    assert sorted(i for i in stored(db) if i % 2) == [5, 7, 9]
    weir.run(pipeline(db, options + "    many: true"))
    assert sorted(stored(db)) == [0, 2, 4, 6, 8]
    assert codes(weir) == [("operator", "operator")] * 2


@pytest.mark.parametrize("found_by", ['filter: {_id: "{{ @key }}"}', 'id: "{{ @key }}"'], ids=["filter", "id"])
def test_delete_by_the_key_of_tombstones(weir, kafka, db, found_by):
    topic = kafka.topic(partitions=1)
    db.events.insert_many([{"_id": f"k{i}"} for i in range(5)])
    kafka.produce(topic, [None, None], key=lambda i, _: f"k{i}")
    running = weir.start(pipeline(
        db, f"    mode: delete\n    {found_by}", type_="kafka",
        source=f'brokers: "{kafka.brokers}", topics: [{topic}], group: g-{topic}'))
    wait_until(lambda: db.events.count_documents({}) == 3, 60)
    running.stop()
    assert sorted(stored(db)) == ["k2", "k3", "k4"] and dead(weir) == []


# ---- types ------------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_types_that_json_lacks(weir, db):
    u = uuid.uuid4()
    feed(weir, {
        "_id": OID, "ref": OID.upper(), "refs": [OID, None], "price": "12.50", "int": 7, "real": 0.1,
        "big": 123456789012345678901234567890, "blob": "AAEC/w==", "url": "-_8", "empty": "",
        "u": str(u), "hex": u.hex, "ms": 1769860800123, "s": 1769860800, "frac": -0.5,
        "items": [{"p": "1E+3"}, {"p": None}, {}], "at": "2026-01-31T12:00:00.123Z"})
    weir.run(pipeline(db, """\
    dates: [at]
    types:
      _id: object_id
      ref: object_id
      refs: object_id
      price: decimal128
      int: decimal128
      real: decimal128
      big: decimal128
      blob: binary
      url: binary
      empty: binary
      u: uuid
      hex: uuid
      ms: date_ms
      s: date_s
      frac: date_s
      items.p: decimal128
      absent: uuid
"""))
    assert dead(weir) == []
    assert stored(db)[ObjectId(OID)] == {
        "_id": ObjectId(OID), "ref": ObjectId(OID), "refs": [ObjectId(OID), None],
        "price": Decimal128("12.50"), "int": Decimal128("7"), "real": Decimal128("0.1"),
        "big": Decimal128("123456789012345678901234567890"), "blob": b"\0\1\2\xff", "url": b"\xfb\xff",
        "empty": b"", "u": Binary.from_uuid(u), "hex": Binary.from_uuid(u),
        "ms": datetime.datetime(2026, 1, 31, 12, 0, 0, 123000),
        "s": datetime.datetime(2026, 1, 31, 12), "frac": datetime.datetime(1969, 12, 31, 23, 59, 59, 500000),
        "items": [{"p": Decimal128("1E+3")}, {"p": None}, {}],
        "at": datetime.datetime(2026, 1, 31, 12, 0, 0, 123000)}


BAD_TYPES = [
    ("oid", "zz", "bad_object_id"), ("oid", OID + "0", "bad_object_id"), ("oid", 5, "bad_object_id"),
    ("oid", {"$oid": OID}, "bad_object_id"), ("dec", "12,5", "bad_number"), ("dec", "", "bad_number"),
    ("dec", "1e", "bad_number"), ("dec", "0x10", "bad_number"), ("dec", True, "bad_number"),
    ("dec", "1" * 35, "bad_number"), ("dec", "NaN", "bad_number"), ("bin", "a", "bad_binary"),
    ("bin", "=AAA", "bad_binary"), ("bin", "AA A", "bad_binary"), ("bin", 5, "bad_binary"),
    ("bin", "A===", "bad_binary"), ("uuid", "6ba7b810", "bad_uuid"),
    ("uuid", "6ba7b8109dad-11d1-80b4-00c04fd430c8", "bad_uuid"), ("ms", "5", "bad_date"),
    ("ms", 1.5, "bad_date"), ("ms", 18446744073709551615, "bad_date"), ("s", 1e300, "bad_date"),
    ("s", 9223372036854775807, "bad_date"), ("s", [[{}]], "bad_date"),
]


def test_values_that_are_not_of_their_type(weir, db):
    rows = []
    for i, (field, value, _) in enumerate(BAD_TYPES):
        rows += [{"_id": f"bad{i}", "k": i, field: value}, {"_id": i}]
    feed(weir, *rows)
    weir.run(pipeline(db, "    types: {oid: object_id, dec: decimal128, bin: binary, uuid: uuid, "
                          "ms: date_ms, s: date_s}"))
    assert codes(weir) == [(code, i) for i, (_, _, code) in enumerate(BAD_TYPES)]
    assert sorted(stored(db)) == list(range(len(BAD_TYPES)))
    assert all("expected " in d["reason"] and "found " in d["reason"] for d in dead(weir))


def test_object_ids_are_found_again(weir, db):
    """An _id that is converted makes redelivery as harmless as one that is not."""
    db.events.create_index("n", unique=True)
    feed(weir, *({"_id": f"{i:024x}", "n": i} for i in range(100)))
    for mode in ("insert", "insert", "replace"):
        weir.run(pipeline(db, f"    mode: {mode}\n    types: {{_id: object_id}}"))
    assert dead(weir) == []
    assert sorted(stored(db)) == [ObjectId(f"{i:024x}") for i in range(100)]


# ---- size, keys, depth ------------------------------------------------------------------------

def test_documents_at_the_limit(weir, db):
    """16 MiB go in, more do not, and neither disturbs what is beside them in the batch."""
    limit = 16 * 1024 * 1024
    base = 4 + 1 + len(b"_id\0") + 4 + 2 + 1 + len(b"s\0") + 4 + 1 + 1  # of {_id: "x", s: ""}
    rows = [{"_id": "a", "s": "x" * (limit - base)}, {"_id": "b", "s": "x" * (limit - base + 1)},
            {"_id": "c"}, {"_id": "d", "s": "x" * (limit - base)}]
    feed(weir, *rows)
    for mode in ("insert", "replace"):
        weir.run(pipeline(db, f"    mode: {mode}\n    batch: {{bytes: 64MiB}}\n    timeout: 60s",
                          source="path: in.ndjson, max_line: 32MiB"))
    assert [d["code"] for d in dead(weir)] == ["too_large", "too_large"]
    assert sorted(d["_id"] for d in db.events.find({}, {"_id": 1})) == ["a", "c", "d"]


def test_a_filter_too_large(weir, db):
    feed(weir, {"k": "big", "u": "x" * (17 << 20)}, {"k": "ok", "u": "a"})
    weir.run(pipeline(db, '    mode: update\n    upsert: true\n    batch: {bytes: 64MiB}\n'
                          '    filter: {u: "{{ u }}"}\n    update: {$set: {k: "{{ k }}"}}',
                      source="path: in.ndjson, max_line: 32MiB"))
    assert codes(weir) == [("too_large", "big")]
    assert [d["k"] for d in db.events.find()] == ["ok"]


# ---- indexes, time series ---------------------------------------------------------------------

INDEXES = """\
    dates: [ts]
    indexes:
      - {keys: {ts: 1}, expire_after: 30d}
      - {keys: {email: 1}, unique: true, sparse: true, name: one_email}
      - {keys: {user: 1, ts: -1}, partial: {user: {$exists: true}}}
"""


@pytest.mark.sanitize
def test_indexes_are_made(weir, db):
    feed(weir, {"_id": 1, "email": "a", "ts": "2026-01-31T12:00:00Z"}, {"_id": 2, "email": "a", "k": 2},
         {"_id": 3})
    for _ in range(2):
        weir.run(pipeline(db, INDEXES))
    found = db.events.index_information()
    assert set(found) == {"_id_", "ts_1", "one_email", "user_1_ts_-1"}
    assert found["ts_1"]["expireAfterSeconds"] == 30 * 86400
    assert found["one_email"]["unique"] and found["one_email"]["sparse"]
    assert found["user_1_ts_-1"]["key"] == [("user", 1), ("ts", -1)]
    assert codes(weir) == [("duplicate_key", 2)] * 2 and sorted(stored(db)) == [1, 3]


def test_indexes_of_many_collections(weir, db):
    feed(weir, *({"_id": i, "type": f"t{i % 3}"} for i in range(30)))
    weir.run(pipeline(db, "    indexes: [{keys: {type: 1}}]\n    batch: {events: 5}",
                      collection='"e_{{ type }}"'))
    assert all("type_1" in db[f"e_t{i}"].index_information() for i in range(3))


def test_an_index_that_cannot_be_made(weir, db):
    """There are two of what should be unique: the events wait, none is a dead letter, and when the
    index can be made they are stored."""
    db.events.insert_many([{"_id": "a", "email": "x"}, {"_id": "b", "email": "x"}])
    feed(weir, {"_id": 1, "email": "y"})
    running = weir.start(pipeline(db, "    indexes: [{keys: {email: 1}, unique: true}]"), ready=False)
    found = running.wait_log("cannot make the indexes of events", component="store")
    assert found[0]["code"] == "prepare_failed"
    assert dead(weir) == [] and len(stored(db)) == 2
    db.events.delete_one({"_id": "b"})
    running.wait(timeout=60)
    assert sorted(map(str, stored(db))) == ["1", "a"]


def test_time_series(weir, db):
    """The test server keeps the options of a time series, but stores it as any collection."""
    feed(weir, *({"_id": i, "ts": f"2026-01-31T12:00:{i:02}Z", "sensor": "s", "v": i} for i in range(60)),
         {"_id": "none", "ts": "yesterday", "k": "bad"})
    for _ in range(2):
        weir.run(pipeline(db, """\
    dates: [ts]
    time_series: {time_field: ts, meta_field: sensor, granularity: seconds, expire_after: 30d}
"""))
    assert codes(weir) == [("bad_date", "bad")] * 2
    options = next(c for c in db.list_collections() if c["name"] == "events")["options"]
    assert options["timeseries"] == {"timeField": "ts", "metaField": "sensor", "granularity": "seconds"}
    assert options["expireAfterSeconds"] == 30 * 86400
    assert db.events.find_one({"v": 7})["ts"] == datetime.datetime(2026, 1, 31, 12, 0, 7)


def test_a_collection_that_is_no_time_series(weir, db):
    db.events.insert_one({"_id": 1})
    feed(weir, {"_id": 2, "ts": "2026-01-31T12:00:00Z"})
    running = weir.start(pipeline(db, "    dates: [ts]\n    time_series: {time_field: ts}"), ready=False)
    running.wait_log("is there already and is none of time series", component="store")
    running.stop(expect=None)
    assert dead(weir) == [] and sorted(stored(db)) == [1]


# ---- whose database ---------------------------------------------------------------------------

def test_databases_by_template(weir, mongodb, mongo_db):
    """An event chooses among those that begin as the file says, and makes no odd names."""
    tenants = ["a", "b", "", "x.y", "a/b", "..", "x" * 64, "a b", "$x", "a\0b", 5, None]
    feed(weir, *({"_id": i, "k": i, "tenant": t} for i, t in enumerate(tenants)))
    text = pipeline(mongo_db, "", uri=mongodb.uri).replace(
        f"database: {mongo_db.name}", f'database: "{mongo_db.name[:40]}_{{{{ tenant }}}}"')
    client = mongo_db.client
    names = [f"{mongo_db.name[:40]}_{t}" for t in ("a", "b", "", 5)]
    try:
        weir.run(text)
        assert [client[n].events.count_documents({}) for n in names] == [1, 1, 1, 1]
        assert codes(weir) == [("bad_namespace", i) for i in range(3, 10)] + [("no_field", 11)]
    finally:
        for name in names:
            client.drop_database(name)


# ---- write concern ----------------------------------------------------------------------------

@pytest.mark.parametrize("concern", ["{journal: true}", "{w: majority, journal: true, timeout: 5s}", "{w: 1}"])
def test_write_concerns_that_are_met(weir, db, concern):
    feed(weir, *({"_id": i} for i in range(100)))
    weir.run(pipeline(db, f"    write_concern: {concern}"))
    assert len(stored(db)) == 100 and dead(weir) == []
