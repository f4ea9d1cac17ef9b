# SPDX-License-Identifier: Apache-2.0
"""The transform validate, from file to file. The keywords themselves have unit tests."""
import json
import os

import pytest

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A user event",
    "type": "object",
    "required": ["id", "type", "ts"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 64},
        "type": {"enum": ["page_view", "click", "login", "logout", "purchase"]},
        "ts": {"format": "date-time"},
        "user_id": {"type": "string", "pattern": "^u[0-9]+$"},
        "props": {"$ref": "#/$defs/props"},
    },
    "if": {"properties": {"type": {"const": "purchase"}}},
    "then": {"required": ["props"], "properties": {"props": {"required": ["amount"]}}},
    "additionalProperties": False,
    "$defs": {"props": {"type": "object", "properties": {
        "amount": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.01},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}}},
}

GOOD = {"id": "1", "type": "click", "ts": "2026-01-31T12:00:00Z", "user_id": "u7",
        "props": {"amount": 19.99, "tags": ["a", "ä"]}}


def pipeline(option, more=""):
    return f"""\
name: validate
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  v:
    type: validate
    inputs: [in]
    {option}
{more}
sinks:
  out: {{type: file, path: out.ndjson, inputs: [v], on_reject: drop}}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
"""


def run(weir, option, *events, more=""):
    weir.write("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in events),
               "in.ndjson")
    for name in ("out.ndjson", "failed.ndjson"):
        (weir.folder / name).unlink(missing_ok=True)
    weir.run(pipeline(option, more))
    failed = weir.folder / "failed.ndjson"
    return ((weir.folder / "out.ndjson").read_text().splitlines(),
            [json.loads(line) for line in failed.read_text().splitlines()] if failed.exists() else [])


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "file"])
def test_good_and_bad(weir, inline):
    weir.write(json.dumps(SCHEMA), "schemas/event.json")
    option = f"schema: {json.dumps(SCHEMA)}" if inline else "file: schemas/event.json"
    bad = {
        "/type: expected one of": {**GOOD, "type": "hover"},
        "the event: expected property \"ts\"": {k: v for k, v in GOOD.items() if k != "ts"},
        "/ts: expected a string of format date-time": {**GOOD, "ts": "yesterday"},
        "/user_id: expected a string that matches ^u[0-9]+$": {**GOOD, "user_id": "7"},
        "/props/amount: expected a multiple of 0.01": {**GOOD, "props": {"amount": 1.001}},
        "/props/amount: expected a number > 0": {**GOOD, "props": {"amount": 0}},
        "/props: expected property \"amount\"": {**GOOD, "type": "purchase", "props": {}},
        "/props/tags: expected items that differ": {**GOOD, "props": {"tags": ["a", "a"]}},
        "the event: expected no property \"extra\"": {**GOOD, "extra": 1},
        "the event: expected object, found 5": 5,
        "/id: expected string, found null": {**GOOD, "id": None},
    }
    good = '  {"id":"\\u0041","ts":"2026-01-31T12:00:00+01:00" , "type":"login"}'
    out, failed = run(weir, option, good, *bad.values(), GOOD)
    assert out == [good, json.dumps(GOOD)]
    assert [json.loads(f["payload"]) for f in failed] == list(bad.values())
    assert {f["code"] for f in failed} == {"invalid"}
    for start, f in zip(bad, failed):
        assert f["reason"].startswith(start), f["reason"]
        assert "(#/" in f["reason"]


@pytest.mark.sanitize
def test_one_of_ten_is_refused(weir):
    schema = '{type: object, required: [n], properties: {n: {type: integer, minimum: 0}}}'
    out, failed = run(weir, f"schema: {schema}",
                      *({"i": i, "n": -1 if i % 10 == 0 else i} for i in range(2000)))
    assert [json.loads(line)["i"] for line in out] == [i for i in range(2000) if i % 10]
    assert [json.loads(f["payload"])["i"] for f in failed] == list(range(0, 2000, 10))
    assert failed[0]["reason"] == "/n: expected a number >= 0, found -1 (#/properties/n/minimum)"


def test_what_no_schema_looked_at(weir):
    schema = {"$ref": "#base", "anyOf": [{"properties": {"b": {"type": "integer"}}}, True], "unevaluatedProperties": False,
              "$defs": {"base": {"$anchor": "base", "properties": {"a": {"type": "integer"},
                                                                   "l": {"prefixItems": [True], "unevaluatedItems": False}}}}}
    good = [{}, {"a": 1}, {"b": 1}, {"a": 1, "b": 2, "l": [1]}]
    bad = [{"c": 1}, {"b": "x"}, {"l": [1, 2]}]
    out, failed = run(weir, f"schema: {json.dumps(schema)}", *good, *bad)
    assert [json.loads(line) for line in out] == good
    assert [f["reason"] for f in failed] == [
        'the event: expected no property "c" (#/unevaluatedProperties)',
        'the event: expected no property "b" (#/unevaluatedProperties)',
        "/l: expected no item 1 (#/$defs/base/properties/l/unevaluatedItems)"]


def test_after_an_edit(weir):
    """The value as the transform before it made it; a failed event goes on as it entered here."""
    weir.write(json.dumps({"a": "1"}) + "\n" + json.dumps({"a": "2", "x": 1}) + "\n", "in.ndjson")
    weir.run("""\
name: two
sources: {in: {type: file, path: in.ndjson}}
transforms:
  m: {type: map, inputs: [in], cast: {a: int}}
  v: {type: validate, inputs: [m], schema: {properties: {a: {type: integer}, x: false}}}
sinks:
  out: {type: file, path: out.ndjson, inputs: [v], on_reject: drop}
  failed: {type: file, path: failed.ndjson}
dead_letter: failed
""")
    assert (weir.folder / "out.ndjson").read_text() == '{"a":1}\n'
    failed = json.loads((weir.folder / "failed.ndjson").read_text())
    assert failed["component"] == "v" and json.loads(failed["payload"])["x"] == 1


def test_on_error_stop(weir):
    weir.write('{"a":1}\n{"a":"x"}\n{"a":2}\n', "in.ndjson")
    running = weir.start(pipeline("schema: {properties: {a: {type: integer}}}", "    on_error: stop"),
                         ready=False, args=["--exit-on-stop"])
    running.wait(expect=1)
    assert "invalid" in running.stderr


def test_not_json(weir):
    out, failed = run(weir, "schema: {type: object}", "{bad", '{"a":1}', '{"a":"\xff"}', "")
    assert out[0] == '{"a":1}'
    assert failed[0]["code"] == "bad_json" and failed[0]["component"] == "v"


@pytest.mark.sanitize
def test_hostile_events(weir):
    schema = {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}},
              "properties": {"s": {"pattern": "^(x+x+)+y$"}, "u": {"uniqueItems": True},
                             "d": {"$ref": "#/$defs/tree"}},
              "$defs": {"tree": {"anyOf": [{"items": {"$ref": "#/$defs/tree"}, "type": "array"},
                                           {"items": {"$ref": "#/$defs/tree"}, "type": "array"}]}}}
    rows = [{"s": "x" * 300000}, {"u": [[i] for i in range(100000)] + [[5]]}, {"a" * 100000 + "b": "x"},
            {"k" * 100000: 1, "aaa": "x"}, '{"d":' + "[" * 100 + "1" + "]" * 100 + "}",
            '{"d":' + "[" * 20 + "]" * 20 + "}", '{"s":"\\u0000","u":[{"":1},{"":1.0}]}']
    out, failed = run(weir, f"schema: {json.dumps(schema)}", *rows)
    assert out == [rows[5]]
    assert [f["code"] for f in failed] == ["invalid", "invalid", "too_complex", "invalid", "too_complex",
                                           "invalid"]
    assert all(len(f["reason"].encode()) < 520 for f in failed)


WRONG = [
    ("", "schema", "a schema is missing"),
    ("schema: {type: object}\n    file: x.json", "file", "use one of the two"),
    ("schema: 5", "schema", "a schema must be an object, true or false, found 5"),
    ("schema: {type: strin}", "schema.type", "expected null, boolean"),
    ("schema: {propertys: {}}", "schema.propertys", "properties"),
    ("schema: {properties: {a: {$dynamicRef: '#a'}}}", "schema.properties.a.$dynamicRef", "not supported"),
    ("schema: {$ref: '#a', $defs: {b: {$anchor: b}}}", "schema.$ref", "no schema here has this $anchor"),
    ("schema: {$defs: {a: {$id: other}}}", "schema.$defs.a.$id", "supported at the top only"),
    ("schema: {unevaluatedItems: 5}", "schema.unevaluatedItems", "a schema must be"),
    ("schema: {properties: {age: {minimum: x}}}", "schema.properties.age.minimum", "expected a number"),
    ("schema: {allOf: [{}, {pattern: '['}]}", "schema.allOf[1].pattern", "never closed"),
    ("schema: {pattern: 'a(?i)b'}", "schema.pattern", "at byte 1: no such kind of group"),
    ("schema: {pattern: '(*LIMIT_MATCH=9)a'}", "schema.pattern", "at byte 1: there is nothing to repeat"),
    ("schema: {pattern: '(?C1)a'}", "schema.pattern", "at byte 0: no such kind of group"),
    ("schema: {pattern: 'ab\\C'}", "schema.pattern", "at byte 2: no such escape"),
    ("schema: {patternProperties: {'(': {}}}", "schema.patternProperties.(", "never closed"),
    ("schema: {$ref: '#/$defs/nothing'}", "schema.$ref", "leads nowhere"),
    ("schema: {$ref: '#'}", "schema", "refers to itself"),
    ("schema: {$ref: 'http://x/y'}", "schema.$ref", "inside this schema"),
    ("schema: {format: uuid4}", "schema.format", "uuid"),
    ("schema: {$schema: 'http://json-schema.org/draft-07/schema#'}", "schema.$schema", "2020-12"),
    ("schema: {minLength: 3, maxLength: 2}", "schema", "exclude every value"),
    ("schema: {items: [{}]}", "schema.items", "prefixItems"),
    ("file: nowhere.json", "file", "No such file"),
    ("file: .", "file", "no regular file"),
    ("file: pipe", "file", "no regular file"),
    ("file: large.json", "file", "larger than 4 MiB"),
    ("file: deep.json", "file", "nested deeper than 128 levels"),
    ("file: bad.json", "file", "bad JSON"),
    ("file: wrong.json", "file", "/properties/a/type"),
    ("schemas: {}", "schemas", "schema"),
]


@pytest.mark.parametrize("option, path, text", WRONG, ids=[f"{w[1]}-{i}" for i, w in enumerate(WRONG)])
def test_wrong_configurations(weir, option, path, text):
    os.mkfifo(weir.folder / "pipe")
    weir.write(" " * (4 << 20) + "{}", "large.json")
    weir.write('{"not":' * 200 + "{}" + "}" * 200, "deep.json")
    weir.write('{"type": ', "bad.json")
    weir.write('{"properties": {"a": {"type": "x"}}}', "wrong.json")
    checked = weir.check(pipeline(option), format="json", expect=1)
    found = [d for d in checked.json if d["path"] == f"transforms.v.{path}"]
    assert found, checked
    assert text in json.dumps(found, ensure_ascii=False), checked


def test_mistakes_point_into_the_file(weir):
    checked = weir.check("""\
name: located
sources: {in: {type: file, path: in.ndjson}}
transforms:
  v:
    type: validate
    inputs: [in]
    schema:
      type: object
      properties:
        age:
          type: integer
          minimun: 0
        name: {type: text}
sinks:
  out: {type: blackhole, inputs: [v], on_reject: drop}
  failed: {type: file, path: f}
dead_letter: failed
""", format="json", expect=1)
    found = {(d["line"], d["path"]) for d in checked.json}
    assert found == {(12, "transforms.v.schema.properties.age.minimun"),
                     (13, "transforms.v.schema.properties.name.type")}, checked
