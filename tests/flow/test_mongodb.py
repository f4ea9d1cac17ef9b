# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb against a real server of its protocol."""
import datetime
import json
import struct

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from mongodb_rig import dead, lines, pipeline, stored
from weirtest import events

INT64, DECIMAL, DOUBLE, STRING = 0x12, 0x13, 0x01, 0x02


def element_types(raw):
    """{key: BSON type} of the top level."""
    data, at, types = raw, 4, {}
    size = {0x01: 8, 0x08: 1, 0x09: 8, 0x0A: 0, 0x12: 8, 0x13: 16}
    while data[at] != 0:
        kind = data[at]
        end = data.index(0, at + 1)
        types[data[at + 1:end].decode()] = kind
        at = end + 1
        if kind in (0x03, 0x04):
            at += struct.unpack_from("<i", data, at)[0]
        elif kind == 0x02:
            at += 4 + struct.unpack_from("<i", data, at)[0]
        else:
            at += size[kind]
    return types


# ---- what is stored ---------------------------------------------------------------------------

@pytest.mark.sanitize
def test_types_are_exact(weir, mongodb, mongo_db):
    big = "x" * (1 << 20)
    weir.write(lines(
        '{"_id":"n","i":1,"min":-9223372036854775808,"max":9223372036854775807,'
        '"u":18446744073709551615,"b":123456789012345678901234567890,"h":1e400,'
        '"d":0.1,"one":1.0,"zero":-0.0}',
        '{"_id":"c","null":null,"t":true,"f":false,"a":[],"o":{},'
        '"n":{"a":[[],{},[{"x":[null]}]],"o":{"o":{}}}}',
        '{"_id":"s","uni":"äöü 鞋 🥾","nul":"a\\u0000b","empty":"","esc":"\\u0041\\n\\""}',
        {"_id": "l", "pad": big},
        '{"_id":"k","":1,"a.b":2,"$c":3,"d":{"e.f":4,"$g":5}}',
        '{"_id":"dup","x":1,"x":2,"y":{"z":1,"z":{"w":2}}}',
    ), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name))
    assert dead(weir) == []
    docs = stored(mongo_db)
    assert len(docs) == 6
    n = docs["n"]
    assert (n["i"], n["min"], n["max"]) == (1, -2**63, 2**63 - 1)
    assert n["u"] == Decimal128("18446744073709551615")
    assert n["b"] == Decimal128("123456789012345678901234567890")
    assert n["h"].to_decimal() == Decimal128("1E400").to_decimal()
    assert (n["d"], n["one"]) == (0.1, 1.0) and str(n["zero"]) == "-0.0"
    raw = next(mongo_db["events"].with_options(
        codec_options=mongo_db.codec_options.with_options(document_class=RawBSONDocument))
        .find({"_id": "n"})).raw
    assert element_types(raw) == {
        "_id": STRING, "i": INT64, "min": INT64, "max": INT64, "u": DECIMAL, "b": DECIMAL,
        "h": DECIMAL, "d": DOUBLE, "one": DOUBLE, "zero": DOUBLE}
    c = docs["c"]
    assert c == {"_id": "c", "null": None, "t": True, "f": False, "a": [], "o": {},
                 "n": {"a": [[], {}, [{"x": [None]}]], "o": {"o": {}}}}
    assert type(c["a"]) is list and type(c["o"]) is dict
    assert docs["s"] == {"_id": "s", "uni": "äöü 鞋 🥾", "nul": "a\0b", "empty": "", "esc": "A\n\""}
    assert docs["l"]["pad"] == big
    assert docs["k"] == {"_id": "k", "": 1, "a.b": 2, "$c": 3, "d": {"e.f": 4, "$g": 5}}
    assert docs["dup"] == {"_id": "dup", "x": 1, "y": {"z": 1}}


def test_dates(weir, mongodb, mongo_db):
    weir.write(lines(
        {"_id": 1, "ts": "2026-01-31T12:00:00.1239+01:00", "items": [{"at": "1969-12-31T23:59:59Z"}, 5]},
        {"_id": 2, "ts": None, "items": {"at": "2000-02-29T00:00:00z"}, "at": "2026-01-31T12:00:00Z"},
        {"_id": 3},
        {"_id": 4, "ts": "yesterday"},
        {"_id": 5, "ts": 1769860800},
        {"_id": 6, "items": [{}, {"at": "2026-13-01T00:00:00Z"}]},
    ), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    dates: [ts, items.at]"))
    docs = stored(mongo_db)
    assert sorted(docs) == [1, 2, 3]
    assert docs[1]["ts"] == datetime.datetime(2026, 1, 31, 11, 0, 0, 123000)
    assert docs[1]["items"] == [{"at": datetime.datetime(1969, 12, 31, 23, 59, 59)}, 5]
    assert docs[2] == {"_id": 2, "ts": None, "items": {"at": datetime.datetime(2000, 2, 29)},
                       "at": "2026-01-31T12:00:00Z"}
    found = {json.loads(d["payload"])["_id"]: d for d in dead(weir)}
    assert {d["code"] for d in found.values()} == {"bad_date"}
    assert found[4]["reason"] == ('ts: expected an RFC 3339 date-time such as '
                                  '"2026-01-31T12:00:00Z", found "yesterday"')
    assert found[6]["reason"].startswith("items.1.at: ")


def test_ids(weir, mongodb, mongo_db):
    """The template, a bare field with its type; else the event's _id; else the event's own id."""
    weir.write(lines({"k": "a", "n": 7}, {"k": "b", "n": 18446744073709551615},
                     {"k": "c", "n": {"x": 1, "y": "z"}}, {"k": "d", "n": "text", "_id": "lost"},
                     {"k": "e", "n": 1.5}, {"k": "f", "n": [1]}, {"k": "g", "n": None}, {"k": "h"},
                     {"k": "i", "n": ""}, {"k": "j", "n": True}), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, '    id: "{{ n }}"'))
    docs = stored(mongo_db, by="k")
    assert {k: d["_id"] for k, d in docs.items()} == {
        "a": 7, "b": Decimal128("18446744073709551615"), "c": {"x": 1, "y": "z"}, "d": "text"}
    assert [(json.loads(d["payload"])["k"], d["code"]) for d in dead(weir)] == [
        ("e", "bad_id"), ("f", "bad_id"), ("g", "no_id"), ("h", "no_id"), ("i", "bad_id"),
        ("j", "bad_id")]

    weir.run(pipeline(mongodb.uri, mongo_db.name, '    id: "x:{{ k }}:{{ n | none }}"',
                      collection="two"))
    assert "x:a:7" in stored(mongo_db, "two") and "x:h:none" in stored(mongo_db, "two")

    weir.run(pipeline(mongodb.uri, mongo_db.name, collection="three"))
    three = stored(mongo_db, "three", by="k")
    assert three["d"]["_id"] == "lost"
    assert three["a"]["_id"].endswith("in.ndjson-0") and len(three) == 10


def test_object_ids(weir, mongodb, mongo_db):
    weir.write(lines({"k": 1}, {"k": 2, "_id": "own"}, {"k": 3, "_id": None}), "in.ndjson")
    for _ in range(2):
        weir.run(pipeline(mongodb.uri, mongo_db.name, "    object_ids: true"))
    docs = list(mongo_db.events.find())
    assert sorted(d["k"] for d in docs) == [1, 1, 2, 3, 3]
    assert all(isinstance(d["_id"], ObjectId) == (d["k"] != 2) for d in docs)


def test_collections_by_template(weir, mongodb, mongo_db):
    weir.write(lines(*({"_id": i, "type": t} for i, t in enumerate(
        ["a", "b", "a", "ü", "c$", "", "a\0b", "x" * 300, "."])), {"_id": "none"}), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, collection='"e_{{ type }}"'))
    assert sorted(stored(mongo_db, "e_a")) == [0, 2]
    assert sorted(stored(mongo_db, "e_b")) == [1] and sorted(stored(mongo_db, "e_ü")) == [3]
    assert sorted(stored(mongo_db, "e_")) == [5]
    assert [(d["code"], json.loads(d["payload"])["_id"]) for d in dead(weir)] == [
        ("bad_namespace", 4), ("bad_namespace", 6), ("bad_namespace", 7), ("bad_namespace", 8),
        ("no_field", "none")]


# ---- again and again --------------------------------------------------------------------------

def test_redelivery_makes_no_duplicates(weir, mongodb, mongo_db):
    """Also where another unique index sees the redelivered event first."""
    mongo_db.events.create_index("id", unique=True)
    weir.write(lines(*events(3000)), "in.ndjson")
    for _ in range(3):
        weir.run(pipeline(mongodb.uri, mongo_db.name))
    assert mongo_db.events.count_documents({}) == 3000
    assert dead(weir) == []


def test_insert_keeps_the_first_of_an_id(weir, mongodb, mongo_db):
    weir.write(lines(*({"_id": i % 5, "n": i} for i in range(1000))), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    batch: {events: 100}"))
    assert {i: d["n"] for i, d in stored(mongo_db).items()} == {i: i for i in range(5)}
    assert dead(weir) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_replace_keeps_the_last_of_an_id(weir, mongodb, mongo_db, size):
    weir.write(lines(*({"_id": i % 5, "n": i, f"f{i}": 1} for i in range(1000))), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, f"    mode: replace\n    batch: {{events: {size}}}"))
    assert stored(mongo_db) == {i: {"_id": i, "n": 995 + i, f"f{995 + i}": 1} for i in range(5)}


def test_where_the_last_is_refused_the_one_before_it_counts(weir, mongodb, mongo_db):
    """replace: of one batch's events for an _id the last good one; insert: the first good one."""
    mongo_db.events.create_index("u", unique=True)
    mongo_db.events.insert_one({"_id": "other", "u": "taken"})
    rows = [{"_id": 1, "u": "taken"}, {"_id": 1, "u": "a"}, {"_id": 1, "u": "b"},
            {"_id": 1, "u": "taken"}]
    weir.write(lines(*rows), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    mode: replace"))
    assert mongo_db.events.find_one({"_id": 1})["u"] == "b"
    assert [d["code"] for d in dead(weir)] == ["duplicate_key"]
    mongo_db.events.delete_one({"_id": 1})
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    mode: insert"))
    assert mongo_db.events.find_one({"_id": 1})["u"] == "a"
    assert [d["code"] for d in dead(weir)] == ["duplicate_key"] * 2


# ---- one of ten is refused --------------------------------------------------------------------

def test_one_of_ten_is_refused(weir, mongodb, mongo_db):
    rows = [f'"text {i}"' if i % 10 == 3 else {"_id": i} for i in range(2000)]
    weir.write(lines(*rows), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    batch: {events: 64}"))
    assert sorted(stored(mongo_db)) == [i for i in range(2000) if i % 10 != 3]
    found = dead(weir)
    assert sorted(d["payload"] for d in found) == sorted(f'"text {i}"' for i in range(3, 2000, 10))
    assert {(d["code"], d["component"]) for d in found} == {("not_object", "store")}
    assert found[0]["reason"] == "a document must be a JSON object, found a string"


@pytest.mark.sanitize
def test_one_of_ten_breaks_a_unique_index(weir, mongodb, mongo_db):
    mongo_db.events.create_index("email", unique=True)
    mongo_db.events.insert_one({"_id": "first", "email": "taken"})
    rows = [{"_id": i, "email": "taken" if i % 10 == 0 else f"e{i}"} for i in range(1000)]
    weir.write(lines(*rows), "in.ndjson")
    for _ in range(2):
        weir.run(pipeline(mongodb.uri, mongo_db.name))
    assert mongo_db.events.count_documents({}) == 901
    found = dead(weir)
    assert len(found) == 200 and {d["code"] for d in found} == {"duplicate_key"}
    assert "email_1" in found[0]["reason"]


def test_a_schema_in_the_server(weir, mongodb, mongo_db):
    mongo_db.create_collection("events", validator={"$jsonSchema": {"required": ["type"]}})
    weir.write(lines({"_id": 1, "type": "a"}, {"_id": 2}, {"_id": 3, "type": "b"}), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name))
    assert sorted(stored(mongo_db)) == [1, 3]
    assert [d["code"] for d in dead(weir)] == ["validation"]


def test_hostile_documents(weir, mongodb, mongo_db):
    """Each is refused by itself; those around it are stored."""
    deep = "[" * 126 + "]" * 126
    ones = "[" + ",".join(["1"] * 1_300_000) + "]"
    bad = {
        "bad_key": '{"_id":"a","x":{"k\\u0000":1}}',
        "bad_number": '{"_id":"b","n":1.2345678901234567890123456789012345678901e500}',
        "not_object": "[1]",
        "too_large": f'{{"_id":"c","a":{ones}}}',
        "bad_json": '{"_id":"d","a":' + "[" * 128 + "]" * 128 + "}",
    }
    good = [f'{{"_id":"deep","d":{deep}}}', '{"_id":{"a":1}}', '{"_id":"many",' + ",".join(
        f'"k{i}":{i},"k{i}":-1' for i in range(20000)) + "}"]
    rows = []
    for row in bad.values():
        rows += [row, *good]
    weir.write(lines(*rows, {"_id": "end"}), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name, "    batch: {bytes: 64MiB}"))
    assert sorted(d["code"] for d in dead(weir)) == sorted(bad)
    docs = list(mongo_db.events.find())
    assert len(docs) == 4
    many = next(d for d in docs if d["_id"] == "many")
    assert len(many) == 20001 and many["k19999"] == 19999
    depth, at = 0, next(d for d in docs if d["_id"] == "deep")["d"]
    while at:
        depth, at = depth + 1, at[0]
    assert depth == 125


def test_ids_that_the_server_refuses(weir, mongodb, mongo_db):
    weir.write(lines({"_id": {"$x": 1}}, {"_id": 1}), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name))
    assert sorted(stored(mongo_db)) == [1]
    assert len(dead(weir)) == 1
