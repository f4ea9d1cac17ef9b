# SPDX-License-Identifier: Apache-2.0
"""The transform map, from file to file."""
import json

import pytest


def pipeline(steps, name="map", on_error=""):
    return f"""\
name: {name}
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  m:
    type: map
    inputs: [in]
{on_error}
{steps}
sinks:
  out: {{type: file, path: out.ndjson, inputs: [m], on_reject: drop}}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
"""


class Mapped:
    def __init__(self, weir):
        def read(name):
            path = weir.folder / name
            return path.read_text().splitlines() if path.exists() else []
        self.lines = read("out.ndjson")
        self.failed = [json.loads(line) for line in read("failed.ndjson")]

    @property
    def json(self):
        return [json.loads(line) for line in self.lines]


def mapped(weir, steps, *events, on_error=""):
    """Runs events through the steps; both as YAML and JSON texts or values."""
    weir.write("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in events),
               "in.ndjson")
    for name in ("out.ndjson", "failed.ndjson"):
        (weir.folder / name).unlink(missing_ok=True)
    if not isinstance(steps, str):
        steps = "\n".join(f"    {key}: {json.dumps(value)}" for key, value in steps.items())
    weir.run(pipeline(steps, on_error=on_error))
    return Mapped(weir)


def one(weir, steps, event):
    m = mapped(weir, steps, event)
    assert m.failed == [], m.failed
    assert len(m.lines) == 1
    return m.lines[0]


def refused(weir, steps, event):
    """(code, reason) of an event that fails, and comes out as it went in."""
    m = mapped(weir, steps, event)
    assert m.lines == [] and len(m.failed) == 1, (m.lines, m.failed)
    assert m.failed[0]["payload"] == (event if isinstance(event, str) else json.dumps(event))
    return m.failed[0]["code"], m.failed[0]["reason"]


# ---- step by step -----------------------------------------------------------------------------

@pytest.mark.parametrize("rename, event, expected", [
    ({"a": "b"}, '{"x":1,"a":2,"y":3}', '{"x":1,"b":2,"y":3}'),
    ({"a": "b"}, '{"b":1,"a":2}', '{"b":2}'),
    ({"a": "b", "b": "c"}, '{"a":1}', '{"c":1}'),
    ({"a.b": "a.c"}, '{"a":{"b":1,"z":2}}', '{"a":{"c":1,"z":2}}'),
    ({"a.b": "c.d.e"}, '{"a":{"b":[1,{"x":null}]}}', '{"a":{},"c":{"d":{"e":[1,{"x":null}]}}}'),
    ({"a": "a.b"}, '{"a":1}', '{"a":{"b":1}}'),
    ({"a.b": "a"}, '{"a":{"b":1}}', '{"a":1}'),
    ({"l[0]": "first"}, '{"l":[1,2]}', '{"l":[2],"first":1}'),
    ({"a": "l[1]"}, '{"a":9,"l":[1,2]}', '{"l":[1,9]}'),
    ({'["a.b"]': "c"}, '{"a.b":1,"a":{"b":2}}', '{"c":1,"a":{"b":2}}'),
    ({"a": "a"}, '{"a":1}', '{"a":1}'),
    ({"n": "m"}, '{"n":null}', '{"m":null}'),
    ({"l[*].a": "l[*].b"}, '{"l":[{"a":1,"z":0},2,{"b":3},{"b":4,"a":5},[]]}', '{"l":[{"b":1,"z":0},2,{"b":3},{"b":5},[]]}'),
    ({"l[*].a.x": "l[*].b[0]"}, '{"l":[{"a":{"x":[1]}},{"a":{}}]}', '{"l":[{"a":{},"b":[[1]]},{"a":{}}]}'),
    ({"l[*][*].a": "l[*][*].b"}, '{"l":[[{"a":1}],[],[{"a":2},{"a":3}]]}', '{"l":[[{"b":1}],[],[{"b":2},{"b":3}]]}'),
    ({"l[*].a": "l[*].b"}, '{"l": {"a":1}}', '{"l": {"a":1}}'),
])
def test_rename(weir, rename, event, expected):
    assert one(weir, {"rename": rename}, event) == expected


@pytest.mark.parametrize("default, event, expected", [
    ({"a": 1}, '{}', '{"a":1}'),
    ({"a": 1}, '{"a":null}', '{"a":null}'),
    ({"a.b[0].c": {"x": [1.5, None, "t"]}}, '{"z":0}',
     '{"z":0,"a":{"b":[{"c":{"x":[1.5,null,"t"]}}]}}'),
    ({"a.b": True}, '{"a":null}', '{"a":{"b":true}}'),
])
def test_default(weir, default, event, expected):
    assert one(weir, {"default": default}, event) == expected


def test_values(weir):
    steps = {"values": {"v": 2, "o": {"a": [], "o": {}}, "l[1]": "two", "n": None, "f": 1.0,
                        "big": 18446744073709551615}}
    assert one(weir, steps, '{"v":{"x":1},"l":["one"]}') == \
        '{"v":2,"l":["one","two"],"o":{"a":[],"o":{}},"n":null,"f":1.0,"big":18446744073709551615}'


@pytest.mark.parametrize("text, event, expected", [
    ("{{ a }}", '{"a":[1,2.0,{"x":null}]}', '[1,2.0,{"x":null}]'),
    ("{{ a }}", '{"a":18446744073709551615}', "18446744073709551615"),
    ("{{ a }}", '{"a":123456789012345678901234567890}', "123456789012345678901234567890"),
    ("{{ a }}", '{"a":"t"}', '"t"'),
    ("{{ a }}", '{"a":true}', "true"),
    ("<{{ a }}>", '{"a":1}', '"<1>"'),
    ("{{ a }}{{ b.c[1] }}", '{"a":"x","b":{"c":[0,false]}}', '"xfalse"'),
    ("{{ a | none }}", '{}', '"none"'),
    ("fixed", '{}', '"fixed"'),
    ("{{ a }}", '{"a":"nul \\u0000 \\u00e4"}', '"nul \\u0000 \u00e4"'),
])
def test_set(weir, text, event, expected):
    made = one(weir, {"set": {"s": text}, "keep": ["s"]}, event)
    assert made == '{"s":%s}' % expected


def test_set_sees_what_was_set_before(weir):
    steps = {"rename": {"f": "first"}, "default": {"last": "B"}, "values": {"n": 7},
             "set": {"name": "{{ first }} {{ last }}", "copy": "{{ name }}/{{ n }}"}}
    assert json.loads(one(weir, steps, '{"f":"A"}')) == {
        "first": "A", "last": "B", "n": 7, "name": "A B", "copy": "A B/7"}


CASTS = [
    ("string", "1", '"1"'), ("string", "1.0", '"1.0"'), ("string", "true", '"true"'),
    ("string", '"x"', '"x"'), ("string", "18446744073709551615", '"18446744073709551615"'),
    ("string", "123456789012345678901234567890", '"123456789012345678901234567890"'),
    ("string", "null", "null"), ("string", "[1]", None), ("string", "{}", None),
    ("int", "5", "5"), ("int", '"5"', "5"), ("int", '"-9223372036854775808"', "-9223372036854775808"),
    ("int", '"18446744073709551615"', "18446744073709551615"), ("int", "5.0", "5"),
    ("int", "1e18", "1000000000000000000"), ("int", "1.8e19", "18000000000000000000"),
    ("int", "true", "1"), ("int", "false", "0"), ("int", '"5.0"', "5"), ("int", "null", "null"),
    ("int", "5.5", None), ("int", "1e20", None), ("int", '"5x"', None), ("int", '""', None),
    ("int", '" 5"', None), ("int", '"5 "', None), ("int", '"0x10"', None), ("int", "[]", None),
    ("int", '"18446744073709551616"', None), ("int", '"[1]"', None), ("int", '"1\\u0000"', None),
    ("float", "1", "1.0"), ("float", '"1.5"', "1.5"), ("float", '"1e2"', "100.0"),
    ("float", "9007199254740993", "9007199254740992.0"), ("float", "0.1", "0.1"),
    ("float", "18446744073709551615", "18446744073709552000.0"),
    ("float", "1e400", None), ("float", "true", None), ("float", '"nan"', None), ("float", '"."', None),
    ("bool", "true", "true"), ("bool", "0", "false"), ("bool", "1", "true"), ("bool", '"true"', "true"),
    ("bool", '"false"', "false"), ("bool", '"0"', "false"), ("bool", '"1"', "true"),
    ("bool", "2", None), ("bool", '"yes"', None), ("bool", "1.0", None), ("bool", '""', None),
    ("json", "[1,{\"a\":null}]", '"[1,{\\"a\\":null}]"'), ("json", '"x"', '"\\"x\\""'),
    ("json", "1", '"1"'), ("json", "null", "null"),
    ("time", '"2026-01-31T13:00:00.5+01:00"', '"2026-01-31T12:00:00.500Z"'),
    ("time", '"2026-01-31T12:00:00Z"', '"2026-01-31T12:00:00Z"'), ("time", '"2026-01-31"', None),
    ("time", "1769860800", None),
    ("time_from_s", "1769860800", '"2026-01-31T12:00:00Z"'),
    ("time_from_s", "1769860800.25", '"2026-01-31T12:00:00.250Z"'),
    ("time_from_s", '"-1"', '"1969-12-31T23:59:59Z"'), ("time_from_s", "1e300", None),
    ("time_from_s", '"2026-01-31T12:00:00Z"', None),
    ("time_from_ms", "1769860800123", '"2026-01-31T12:00:00.123Z"'),
    ("time_from_ms", "-1", '"1969-12-31T23:59:59.999Z"'),
    ("time_from_ms", "9223372036854775807", None), ("time_from_ms", "true", None),
    ("epoch_s", '"2026-01-31T12:00:00.999Z"', "1769860800"), ("epoch_s", "5", None),
    ("epoch_ms", '"2026-01-31T12:00:00.1239Z"', "1769860800123"),
    ("epoch_ms", '"1969-12-31T23:59:59.999Z"', "-1"), ("epoch_ms", '"x"', None),
]


def test_cast(weir):
    """All casts in one run each: what can be, and what fails with the path and the value's type."""
    for to in dict.fromkeys(c[0] for c in CASTS):
        rows = [c for c in CASTS if c[0] == to]
        m = mapped(weir, {"cast": {"a.v": to}},
                   *('{"i":%d,"a":{"v":%s}}' % (i, row[1]) for i, row in enumerate(rows)))
        made = {json.loads(line)["i"]: line for line in m.lines}
        failed = {json.loads(f["payload"])["i"]: f for f in m.failed}
        for i, (_, value, expected) in enumerate(rows):
            if expected is None:
                assert i in failed, f"{to} of {value}: {made.get(i)}"
                assert failed[i]["code"] == "bad_cast"
                assert failed[i]["reason"].startswith(f"a.v: cannot become {to}: expected ")
                assert ", found a" in failed[i]["reason"]
            else:
                assert made.get(i) == '{"i":%d,"a":{"v":%s}}' % (i, expected), f"{to} of {value}"


def test_cast_of_what_is_missing(weir):
    assert one(weir, {"cast": {"a.b": "int", "l[3]": "string", "s.x": "time"}},
               ' {"a":{}, "l":[1], "s":"t"}') == ' {"a":{}, "l":[1], "s":"t"}'


@pytest.mark.parametrize("remove, event, expected", [
    (["a"], '{"a":1,"b":2}', '{"b":2}'),
    (["a.b", "l[0]", "l[0]"], '{"a":{"b":1,"c":2},"l":[1,2,3]}', '{"a":{"c":2},"l":[3]}'),
    (["a"], '{"a":1,"a":2,"b":3}', '{"b":3}'),
    (["x.y", "l[9]", "a.b.c"], ' { "a" : 1 , "l":[]}', ' { "a" : 1 , "l":[]}'),
])
def test_remove(weir, remove, event, expected):
    assert one(weir, {"remove": remove}, event) == expected


@pytest.mark.parametrize("keep, event, expected", [
    (["b", "a"], '{"a":1,"x":2,"b":{"c":3}}', '{"a":1,"b":{"c":3}}'),
    (["a.b", "a.c.d"], '{"a":{"b":1,"x":2,"c":{"d":3,"e":4}},"z":5}', '{"a":{"b":1,"c":{"d":3}}}'),
    (["a.b"], '{"a":1}', "{}"),
    (["a.b"], '{"a":{"x":1}}', '{"a":{}}'),
    (["a", "a.b"], '{"a":{"x":1}}', '{"a":{"x":1}}'),
    (["a"], '{"a":1,"a":2,"b":3}', '{"a":1}'),
    (["a"], ' {"a" : 1} ', ' {"a" : 1} '),
    (["l[*].p", "l[*].q.r"], '{"l":[{"p":1,"x":2},7,{"q":{"r":3,"s":4}},{},null],"z":0}', '{"l":[{"p":1},{"q":{"r":3}},{}]}'),
    (["l[*]"], '{"l":[1,{"a":2}],"z":0}', '{"l":[1,{"a":2}]}'),
    (["l[*]"], '{"l":{"a":2},"z":0}', "{}"),
    (["l[*][*].a"], '{"l":[[{"a":1,"b":2}],{"a":3}]}', '{"l":[[{"a":1}]]}'),
    (["l[*].a", "l.b"], '{"l":{"b":1,"c":2}}', '{"l":{"b":1}}'),
    (["l[*].a"], '{"l": [{"a": 1}]}', '{"l": [{"a": 1}]}'),
    (["a.b"], '{"a":5,"a":{"b":1},"x":0}', "{}"),
    (["a.b", "c"], '{"c":1,"a":{"b":1,"b":2,"x":0},"c":2,"a":{"b":3}}', '{"c":1,"a":{"b":1}}'),
    (["l[*].a", "l[*].b"], '{"l":[{"a":1,"a":2},{"b":3,"a":4,"x":0},{"a":5}]}', '{"l":[{"a":1},{"b":3,"a":4},{"a":5}]}'),
])
def test_keep(weir, keep, event, expected):
    assert one(weir, {"keep": keep}, event) == expected


def test_keep_takes_linear_time(weir):
    n = 200000
    event = "{" + ",".join(f'"k{i}":0' for i in range(n)) + "".join(f',"a":{i}' for i in range(n)) + "}"
    assert mapped(weir, {"keep": ["a"]}, *[event] * 4).lines == ['{"a":0}'] * 4


@pytest.mark.sanitize
def test_the_order_of_the_steps(weir):
    steps = """\
    keep: [b, c, d, e, s]
    remove: [c]
    cast: {s: int, d: string}
    set: {s: "{{ b }}{{ d }}", e: "{{ c }}"}
    values: {d: 4}
    default: {c: 3}
    rename: {a: b}"""
    assert json.loads(one(weir, steps, '{"a":1,"z":9}')) == {"b": 1, "d": "4", "s": 14, "e": 3}


def test_what_nothing_changes_passes_byte_for_byte(weir):
    event = ' { "a" : 1.50 , "b":"\\u0041", "t":"2026-01-31T12:00:00Z", "dup":1, "dup":2 } '
    steps = {"rename": {"x": "y"}, "default": {"a": 2}, "cast": {"a": "float", "t": "time"},
             "remove": ["q"], "keep": ["a", "b", "t", "dup"]}
    assert one(weir, steps, event) == event


# ---- what fails -------------------------------------------------------------------------------

@pytest.mark.parametrize("steps, event, code, text", [
    ({"set": {"a.b": "x"}}, {"a": 1}, "bad_path", "a.b: step 2 of the path needs an object, found an integer"),
    ({"values": {"a.b": 1}}, {"a": "t"}, "bad_path", "found a string"),
    ({"default": {"a[0]": 1}}, {"a": {}}, "bad_path", "needs an array, found an object"),
    ({"values": {"a[2]": 1}}, {"a": [1]}, "bad_path", "[2] is beyond the end of an array of 1"),
    ({"rename": {"x": "a.b"}}, {"x": 1, "a": []}, "bad_path", "a.b: "),
    ({"set": {"s": "{{ gone }}"}}, {"a": 1}, "no_field", "s: the event has no field gone"),
    ({"set": {"s": "x{{ a.b }}"}}, {"a": 1}, "no_field", "a.b"),
    ({"remove": ["a"]}, [1, 2], "not_object", "expected an object, found an array"),
    ({"remove": ["a"]}, "42", "not_object", "found an integer"),
    ({"cast": {"a": "int"}}, {"a": "twelve"}, "bad_cast", 'found a string "twelve"'),
    ({"values": {"x": 1}, "cast": {"a": "int"}}, {"a": []}, "bad_cast", "found an array"),
])
def test_failures(weir, steps, event, code, text):
    found = refused(weir, steps, event)
    assert found[0] == code and text in found[1]


def test_a_failed_event_disturbs_no_other(weir):
    m = mapped(weir, {"cast": {"n": "int"}, "values": {"v": 1}},
               *({"i": i, "n": "x" if i % 10 == 0 else str(i)} for i in range(1000)))
    assert m.json == [{"i": i, "n": i, "v": 1} for i in range(1000) if i % 10]
    assert [json.loads(f["payload"])["i"] for f in m.failed] == list(range(0, 1000, 10))


def test_on_error_drop(weir):
    m = mapped(weir, {"cast": {"n": "int"}}, {"n": "x"}, {"n": "1"}, on_error="    on_error: drop")
    assert m.json == [{"n": 1}] and m.failed == []


@pytest.mark.sanitize
def test_hostile_events(weir):
    deep = '{"a":' * 120 + "{}" + "}" * 120
    wide = "{" + ",".join(f'"k{i}":{i}' for i in range(100000)) + "}"
    long = json.dumps({"s": "ä" * 300000, "n": "x" * 100000})
    m = mapped(weir, {"rename": {"a.a.a": "z", "k5": "k50000"}, "remove": ["k7"],
                      "cast": {"n": "int"}, "default": {"d.e[0].f": 1}}, deep, wide, long,
               '{"n":"1","":{"":1},"a":{"a":{"a":"\\u0000"}}}')
    assert len(m.lines) == 3
    found = m.json[1]
    assert found["k50000"] == 5 and "k5" not in found and "k7" not in found and len(found) == 99999
    assert m.json[2] == {"n": 1, "": {"": 1}, "a": {"a": {}}, "z": "\0", "d": {"e": [{"f": 1}]}}
    assert len(m.failed) == 1 and len(m.failed[0]["reason"]) < 300


# ---- weir check -------------------------------------------------------------------------------

WRONG = [
    ({}, "", "nothing to do"),
    ({"rename": {}}, "rename", "empty"),
    ({"rename": {"a": 1.5, "b": {"c": 1}}}, "rename", "text"),
    ({"rename": {"a..b": "c"}}, "rename.a..b", "expected the name of a field behind the dot"),
    ({"rename": {"a": "b["}}, "rename.a", "expected [0] or"),
    ({"rename": {"a": ""}}, "rename.a", "must not be empty"),
    ({"set": {"a": "{{ x"}}, "set", "}}"),
    ({"set": {"a b": "x"}}, "set.a b", "odd name"),
    ({"set": {"a": "x"}, "values": {"a": 1}}, "set.a", "values sets this field as well"),
    ({"values": {"a['x": 1}}, "values.a['x", "no end"),
    ({"values": {"a[99999999]": 1}}, "values.a[99999999]", "too large"),
    ({"default": {".a": 1}}, "default..a", "name of a field"),
    ({"cast": {"a": "integer"}}, "cast", "string, int, float"),
    ({"cast": {"a[x]": "int"}}, "cast.a[x]", "expected [0] or"),
    ({"remove": ["a", "b."]}, "remove[1]", "behind the dot"),
    ({"remove": [".".join("a" * 33)]}, "remove[0]", "more than 32 steps"),
    ({"keep": ["a[0]"]}, "keep[0]", "items of arrays cannot be kept"),
    ({"keep": ["a[*].b[1]"]}, "keep[0]", "name them all, [*]"),
    ({"rename": {"a[*].b": "c"}}, "rename.a[*].b", "the same up to their last [*]"),
    ({"rename": {"a.b": "c[*].b"}}, "rename.a.b", "the same up to their last [*]"),
    ({"rename": {"a[*].b": "c[*].b"}}, "rename.a[*].b", "the same up to their last [*]"),
    ({"rename": {"a[*]": "a[*].b"}}, "rename.a[*]", "an item has no name"),
    ({"set": {"a[*]": "x"}}, "set.a[*]", "may stand in rename, cast, time"),
    ({"time": {"a": {"from": "yyyy-mm-dd"}}}, "time.a.from", "directives such as %Y-%m-%d"),
    ({"time": {"a": {"from": "%Y-%m"}}}, "time.a.from", "year, month and day at least"),
    ({"time": {"a": {"from": "%F %m"}}}, "time.a.from", "twice"),
    ({"time": {"a": {"from": "%F %I:%M"}}}, "time.a.from", "%I and %p need each other"),
    ({"time": {"a": {"from": "%s %Y"}}}, "time.a.from", "whole time"),
    ({"time": {"a": {"to": "%Y-%Q"}}}, "time.a.to", "at byte 3: no such directive"),
    ({"time": {"a": {"to": "100%"}}}, "time.a.to", "at byte 3: no such directive"),
    ({"time": {"a": {"to": "%d." * 40}}}, "time.a.to", "more than 64 parts"),
    ({"time": {"a b": {}}}, "time.a b", "odd name"),
    ({"time": {"a": {"form": "%Y"}}}, "time", "from"),
    ({"remove": ["a[*]"]}, "remove[0]", "remove the array itself"),
    ({"remove": ["a[*"]}, "remove[0]", "expected [0] or"),
    ({"hash": {"key": "k"}}, "hash", "fields"),
    ({"hash": {"fields": ["a", "b["]}}, "hash.fields[1]", "expected [0] or"),
    ({"hash": {"fields": ["a"], "salt": "x"}}, "hash", "salt"),
    ({"hash": {"fields": ["a"], "key": ""}}, "hash.key", "empty"),
    ({"hash": {"fields": ["a", "b", "a"]}}, "hash.fields[2]", "there twice"),
    ({"hash": {"fields": ["a"]}, "mask": {"a": "last4"}}, "hash.fields[0]", "mask has this field as well"),
    ({"mask": {"a": "first4"}}, "mask", "last4"),
    ({"mask": {"a b": "all"}}, "mask.a b", "odd name"),
    ({"keep": []}, "keep", "empty"),
    ({"drop": ["a"]}, "drop", "unknown"),
    ({"renam": {"a": "b"}}, "renam", "rename"),
]


@pytest.mark.parametrize("change, path, text", WRONG, ids=[f"{w[1]}-{i}" for i, w in enumerate(WRONG)])
def test_wrong_configurations(weir, change, path, text):
    config = {"sources": {"in": {"type": "file", "path": "in.ndjson"}},
              "transforms": {"m": {"type": "map", "inputs": ["in"], **change}},
              "sinks": {"out": {"type": "blackhole", "inputs": ["m"], "on_reject": "drop"},
                        "failed": {"type": "file", "path": "f"}},
              "dead_letter": "failed"}
    checked = weir.check(json.dumps(config, indent=1) + "\n", format="json", expect=1)
    found = [d for d in checked.json if d["path"].startswith(f"transforms.m.{path}".rstrip("."))]
    assert found, checked
    assert text.lower() in json.dumps(found, ensure_ascii=False).lower(), checked


# ---- times ------------------------------------------------------------------------------------

TIMES = [
    ("rfc3339", "%d.%m.%Y %H:%M:%S", "2026-01-31T13:05:09+01:00", "31.01.2026 12:05:09"),
    ("%d/%b/%Y:%H:%M:%S %z", "rfc3339", "09/Feb/2024:23:30:00 -0130", "2024-02-10T01:00:00Z"),
    ("%d/%m/%y", "%F", "29/02/00", "2000-02-29"), ("%d/%m/%y", "%F", "29/02/01", None),
    ("%d/%m/%y", "%F", "01/01/69", "1969-01-01"), ("%d/%m/%y", "%F", "01/01/68", "2068-01-01"),
    ("%Y%j", "%F", "2024366", "2024-12-31"), ("%Y%j", "%F", "2023366", None), ("%Y%j", "%F", "2023000", None),
    ("%A, %e %B %Y", "%F", "Thursday,  1 January 1970", "1970-01-01"),
    ("%a %e %b %Y", "%F", "thu 31 MAY 2001", "2001-05-31"), ("%a %e %b %Y", "%F", "Thu 1 Foo 2001", None),
    ("rfc3339", "%A %a %B %b %e|%j|%y", "1969-07-20T00:00:00Z", "Sunday Sun July Jul 20|201|69"),
    ("rfc3339", "%e", "2026-03-01T00:00:00Z", " 1"), ("rfc3339", "%a", "1967-12-31T23:59:59Z", "Sun"),
    ("%m/%d/%Y %I:%M %p", "%R", "12/31/1999 12:05 am", "00:05"), ("%m/%d/%Y %I:%M %p", "%R", "12/31/1999 12:05 PM", "12:05"),
    ("%m/%d/%Y %I:%M %p", "%R", "12/31/1999 13:05 PM", None), ("rfc3339", "%I %p", "2026-01-01T00:00:00Z", "12 AM"),
    ("rfc3339", "%I %p", "2026-01-01T13:00:00Z", "01 PM"), ("rfc3339", "%L %f %N", "2026-01-01T00:00:00.0123456789Z",
                                                            "012 012345 012345678"),
    ("%F %T.%f", "rfc3339", "2026-01-31 12:00:00.5", "2026-01-31T12:00:00.500Z"), ("%F %T.%f", "rfc3339", "2026-01-31 12:00:00.", None),
    ("%s.%L", "rfc3339", "1769860800.123", "2026-01-31T12:00:00.123Z"), ("%s", "rfc3339", "-1", "1969-12-31T23:59:59Z"),
    ("%s.%L", "rfc3339", "-1.500", "1969-12-31T23:59:58.500Z"), ("%s.%N", "rfc3339", "-0.25", "1969-12-31T23:59:59.750Z"),
    ("%s.%L", "epoch_ms", "-1.0", -1000), ("%N %s", "epoch_us", "000001000 -1", -1000001),
    ("%s.%L", "rfc3339", "-62167219200.5", None), ("%s.%L", "rfc3339", "-62167219200.0", "0000-01-01T00:00:00Z"),
    ("rfc3339", "%s.%L", "1969-12-31T23:59:58.5Z", "-1.500"), ("rfc3339", "%s.%f", "1969-12-31T23:59:59.75Z", "-0.250000"),
    ("rfc3339", "%s.%L", "1969-12-31T23:59:58Z", "-2.000"), ("rfc3339", "%s.%L", "1970-01-01T00:00:01.5Z", "1.500"),
    ("rfc3339", "%T.%L %s", "1969-12-31T23:59:58.5Z", "23:59:58.500 -2"),
    ("%s", "rfc3339", "999999999999999", None), ("rfc3339", "%s", "1969-12-31T23:59:58.5Z", "-2"),
    ("epoch_ms", "%F %T.%L", 1769860800123, "2026-01-31 12:00:00.123"), ("epoch_ms", "%F", "1769860800123", "2026-01-31"),
    ("epoch_s", "rfc3339", 1e300, None), ("epoch_s", "epoch_ms", 5, 5000), ("%F", "epoch_us", "1970-01-02", 86400000000),
    ("%F", "epoch_s", "0000-01-01", -62167219200),
    ("%F %R%z", "%F", "9999-12-31 23:59-00:01", None), ("%F", "%F", "2026-02-30", None), ("%F", "%F", "2026-2-03", None),
    ("%F", "%F", "2026-02-03 ", None), ("%F", "%F", "", None), ("%F", "%F", 20260203, None), ("%F", "%F", None, None),
    ("%F %T", "%F", "2026-02-03 24:00:00", None), ("%F %T", "%F %T", "2026-02-03 23:59:60", "2026-02-04 00:00:00"),
    ("%F %T%z", "rfc3339", "2016-12-31 18:59:60.5-0500", None), ("%F %T%z", "rfc3339", "2016-12-31 18:59:60-0500", "2017-01-01T00:00:00Z"),
    ("%F %T%z", "rfc3339", "2016-12-31 23:59:60-0500", None), ("%F %T", "%F", "2026-02-03 12:00:60", None),
    ("%F %T", "%F", "2026-02-03 23:59:61", None), ("%F %I:%M:%S %p", "%F", "2026-02-03 11:59:60 pm", "2026-02-04"),
    ("%F", "100%% of %Y \u00e4", "2026-02-03", "100% of 2026 \u00e4"), ("%F", "%F", "2026-02-03\0", None),
]


@pytest.mark.sanitize
def test_times(weir):
    """One run for all: each event has one of the fields."""
    m = mapped(weir, {"time": {f"v{i}": {"from": r[0], "to": r[1]} for i, r in enumerate(TIMES)}},
               *({f"v{i}": r[2]} for i, r in enumerate(TIMES)))
    made = {k: v for line in m.json for k, v in line.items()}
    failed = {k: f for f in m.failed for k in json.loads(f["payload"])}
    for i, (to_read, to_write, value, expected) in enumerate(TIMES):
        row = (to_read, to_write, value)
        if expected is None and value is not None:
            assert f"v{i}" in failed, (row, made.get(f"v{i}"))
            assert failed[f"v{i}"]["code"] == "bad_time" and f"v{i}: cannot be written anew" in failed[f"v{i}"]["reason"]
        else:
            assert made.get(f"v{i}", failed.get(f"v{i}")) == expected, row


def test_times_of_items(weir):
    steps = {"time": {"l[*].at": {"from": "%d.%m.%Y", "to": "%F"}, "same": {"from": "%F", "to": "%F"}}}
    assert one(weir, steps, '{"l":[{"at":"03.02.2026"},{},{"at":null}]}') == '{"l":[{"at":"2026-02-03"},{},{"at":null}]}'
    assert one(weir, steps, ' {"same": "2026-02-03"}') == ' {"same": "2026-02-03"}'


# ---- personal data, each item -----------------------------------------------------------------

def sha(text, key=None):
    import hashlib
    import hmac
    data = text.encode()
    return hmac.new(key.encode(), data, "sha256").hexdigest() if key else hashlib.sha256(data).hexdigest()


@pytest.mark.sanitize
@pytest.mark.parametrize("key", [None, "a key that is longer than one block of the hash function: " * 3])
def test_hash(weir, key):
    steps = {"hash": {"fields": ["s", "u.n", "l[*]", "o", "none", "nil", "empty"], **({"key": key} if key else {})}}
    event = {"s": "J\u00f6rg\0", "u": {"n": 18446744073709551615}, "l": ["a", 1.5, None, True], "o": {"x": [1]},
             "nil": None, "empty": "", "z": 1}
    made = json.loads(one(weir, steps, json.dumps(event, separators=(",", ":"))))
    assert made == {"s": sha("J\u00f6rg\0", key), "u": {"n": sha("18446744073709551615", key)},
                    "l": [sha("a", key), sha("1.5", key), None, sha("true", key)], "o": sha('{"x":[1]}', key),
                    "nil": None, "empty": sha("", key), "z": 1}


MASKS = [
    ("all", "x", "***"), ("all", 5, "***"), ("all", {"a": 1}, "***"), ("all", None, None), ("all", "", "***"),
    ("last4", "4111111111111111", "***1111"), ("last4", 4111111111111111, "***1111"), ("last4", "1234567", "***"),
    ("last4", "12345678", "***5678"), ("last4", "\u00e4" * 8, "***" + "\u00e4" * 4), ("last4", "\U0001f600" * 7, "***"),
    ("last4", ["x"], "***"), ("last4", True, "***"), ("last4", 1.23456789, "***"),
    ("email", "john.doe@example.com", "j***@example.com"), ("email", "\u00fcber@x.y", "\u00fc***@x.y"),
    ("email", "j@x", "***@x"), ("email", "@x", "***"), ("email", "j@", "***"), ("email", "a@b@c", "***"), ("email", "john", "***"),
    ("email", 7, "***"), ("email", "a\0b@c", "a***@c"),
    ("ip", "192.168.7.9", "192.168.7.0"), ("ip", "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
    ("ip", "::ffff:10.1.2.3", "::ffff:10.1.2.0"), ("ip", "10.1.2", "***"), ("ip", "10.1.2.3\0", "***"), ("ip", "x" * 90, "***"),
    ("ip", 167772161, "***"),
]


@pytest.mark.sanitize
def test_mask(weir):
    for mask in ("all", "last4", "email", "ip"):
        rows = [(value, expected) for kind, value, expected in MASKS if kind == mask]
        m = mapped(weir, {"mask": {"v": mask, "l[*].v": mask}}, *({"v": v, "l": [{"v": v}, 1]} for v, _ in rows))
        assert m.json == [{"v": e, "l": [{"v": e}, 1]} for _, e in rows]


@pytest.mark.parametrize("steps, event, expected", [
    ({"cast": {"l[*]": "int"}}, '{"l":["1",2,null,"3"]}', '{"l":[1,2,null,3]}'),
    ({"cast": {"l[*].n": "string"}}, '{"l":[{"n":1},{},7,{"n":"x"}]}', '{"l":[{"n":"1"},{},7,{"n":"x"}]}'),
    ({"cast": {"l[*][*]": "int"}}, '{"l":[["1"],[],"2",["3","4"]]}', '{"l":[[1],[],"2",[3,4]]}'),
    ({"cast": {"l[*][1]": "int"}}, '{"l":[["1","2"],["3"]]}', '{"l":[["1",2],["3"]]}'),
    ({"cast": {"l[*]": "int"}}, '{"l": [1, 2]}', '{"l": [1, 2]}'),
    ({"cast": {"l[*]": "int"}}, '{"l": {"a": "1"}}', '{"l": {"a": "1"}}'),
    ({"remove": ["l[*].x"]}, '{"l":[{"x":1,"y":2},3,{"x":4},{"z":5}]}', '{"l":[{"y":2},3,{},{"z":5}]}'),
    ({"remove": ["l[*].x"]}, '{"l": [{"y": 1}]}', '{"l": [{"y": 1}]}'),
    ({"remove": ["l[*][0]"]}, '{"l":[[1,2],[],[3]]}', '{"l":[[2],[],[]]}'),
    ({"cast": {"t": "time_from_us"}}, '{"t":1700000000123456}', '{"t":"2023-11-14T22:13:20.123456Z"}'),
    ({"cast": {"t": "epoch_us"}}, '{"t":"2023-11-14T22:13:20.1234567Z"}', '{"t":1700000000123456}'),
])
def test_each_item(weir, steps, event, expected):
    assert one(weir, steps, event) == expected


def test_one_bad_item_fails_its_event(weir):
    code, reason = refused(weir, {"cast": {"l[*].n": "int"}}, '{"l":[{"n":"1"},{"n":"x"}]}')
    assert code == "bad_cast" and reason.startswith('l[*].n: cannot become int') and '"x"' in reason


def test_many_items_take_linear_time(weir):
    n = 200000
    event = json.dumps({"l": [str(i) for i in range(n)]}, separators=(",", ":"))
    m = mapped(weir, {"cast": {"l[*]": "int"}, "mask": {"m[*].a": "ip"}}, event)
    assert m.json == [{"l": list(range(n))}]


def test_the_key_is_not_told(weir):
    shown = weir.check(pipeline("    hash: {fields: ['a['], key: s3cr3t-of-ours}"), expect=1)
    assert "s3cr3t-of-ours" not in shown.text


@pytest.mark.sanitize
@pytest.mark.parametrize("event, expected", [
    ('{"u":{"e":"hid1"},"u":{"e":"hid2","pw":"hid3"}}', '{"u":{"e":"***"}}'),
    ('{"u":5,"u":{"e":"hid1"}}', '{"u":5}'), ('{"u":{"e":null,"e":"hid1"}}', '{"u":{"e":null}}'),
    ('{"u":{"pw":"hid1","pw":"hid2","x":1},"u":{"pw":"hid3"}}', '{"u":{"x":1}}'),
    ('{"h":null,"h":"hid1"}', '{"h":null}'), ('{"h":"hid1","h":"hid2"}', '{"h":"%s"}' % sha("hid1")),
    ('{"l":[{"c":"hid1","c":"hid2"}],"l":[{"c":"hid3"}]}', '{"l":[{"c":"***"}]}'),
    ('{"l":[[],{"d":{"x":1},"d":{"x":"hid1"}}]}', '{"l":[[],{"d":{}}]}'), ('{"l":7,"l":[{"c":"hid1"}]}', '{"l":7}'),
    ('{"u": {"x":1,"x":2}, "z":1, "z":2}', '{"u": {"x":1,"x":2}, "z":1, "z":2}'),
])
def test_what_is_hidden_does_not_come_back_by_a_duplicate_key(weir, event, expected):
    """Many readers take the last of duplicate keys, weir the first."""
    steps = {"mask": {"u.e": "all", "l[*].c": "all"}, "hash": {"fields": ["h"]}, "remove": ["u.pw", "l[*].d.x"]}
    assert one(weir, steps, event) == expected


@pytest.mark.parametrize("event, expected", [
    ('{"user":{"email":"a"},"user":{"email":"b"}}', '{"user":{},"mail":"***"}'),
    ('{"user":{"email":"a","email":"b"}}', '{"user":{},"mail":"***"}'),
    ('{"user":5,"user":{"email":"b"}}', '{"user":5}'), ('{"user":{"x":1},"user":{"email":"b"}}', '{"user":{"x":1}}'),
    ('{"l":[{"a":{"b":"x"},"a":{"b":"y"}},{"a":null,"a":{"b":"z"}}]}', '{"l":[{"a":{},"c":"***"},{"a":null}]}'),
    ('{"p":{"a":1,"z":1},"p":{"a":2}}', '{"p":{"b":"***","z":1}}'), ('{"x": 1,"x": 2}', '{"x": 1,"x": 2}'),
])
def test_what_is_hidden_under_a_new_name_has_no_twin_under_the_old(weir, event, expected):
    steps = {"rename": {"user.email": "mail", "l[*].a.b": "l[*].c", "p.a": "p.b"},
             "mask": {"mail": "all", "l[*].c": "all", "p.b": "all"}}
    assert one(weir, steps, event) == expected
