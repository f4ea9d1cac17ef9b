# SPDX-License-Identifier: Apache-2.0
"""Transforms filter and route, and the conditions that they and every other type are given."""
import json
import re

import pytest

EVENT = ('{"type":"purchase","n":5,"f":2.5,"zero":0,"text":"abc","empty":"","null":null,"yes":true,'
         '"no":false,"props":{"amount":7,"tags":["a","b"],"none":{}},"list":[],"big":'
         '18446744073709551615}')


def quoted(text):
    return json.dumps(text)


def filtered(weir, conditions, lines, on_error="dead_letter"):
    """For each condition the lines that pass it, and the reasons of those that fail."""
    weir.write("".join(line + "\n" for line in lines), "in.ndjson")
    text = "name: filtered\nsources: {in: {type: file, path: in.ndjson}}\ntransforms:\n"
    for i, condition in enumerate(conditions):
        text += (f"  f{i}: {{type: filter, inputs: [in], on_error: {on_error}, "
                 f"condition: {quoted(condition)}}}\n")
    text += "sinks:\n"
    for i in range(len(conditions)):
        text += f"  out{i}: {{type: file, inputs: [f{i}], path: out{i}.ndjson, on_reject: drop}}\n"
    text += "  dead: {type: file, path: dead.ndjson}\ndead_letter: dead\n"
    weir.run(text)

    def read(name):
        path = weir.folder / name
        return path.read_text().splitlines() if path.exists() else []
    dead = [json.loads(line) for line in read("dead.ndjson")]
    return ([read(f"out{i}.ndjson") for i in range(len(conditions))],
            {int(d["component"][1:]): d for d in dead})


TRUE = [
    'event.type == "purchase"', "event.n == 5", "event.n > 4 and event.f < 3", "event.yes", "not event.no",
    "event.zero", 'event.empty == ""', "event.missing == nil", "event.null == weir.null",
    "event.null ~= nil", "event.props.amount * 2 == 14", 'event.props.tags[1] == "a"',
    "#event.props.tags == 2", "#event.list == 0", "event.list ~= nil", 'event.text:upper() == "ABC"',
    'event.text:find("b", 1, true)', "event.n // 2 == 2", "event.big > 1e19", "type(event.n) == 'number'",
    "weir.type(event.list) == 'array'", "math.max(event.n, 9) == 9", "event.text .. '!' == 'abc!'",
    "not (event.missing > 3)", "event.missing ~= 5", "event.a.b.c.d == nil", "(event.n)",
    "event.missing == event.other", "not event.missing", "event.text < 'abd'", "tostring(event.n) == '5'",
    "({purchase = true, refund = true})[event.type]", "event.n -- a comment\n == 5",
    "(function() local x = event.n return x == 5 end)()", "[[abc]] == event.text",
    "meta.topic:find('in.ndjson', 1, true)", "meta.offset == 0", "meta.key == nil", "#meta.id > 5",
    "meta.headers.none == nil", "select('#', event.n, event.f) == 2", "event.n ~= 6 and event.n or false",
    "tostring(event.props.none) == '{}'", "event.n.x.y == nil", "event.yes.x == nil",
    "event.text.x.y == nil", "event.null.x == nil", "event.props.none.a.b == nil",
]

FALSE = [
    "event.missing", "event.missing > 1", "event.missing < 1", "event.missing >= 1", "event.missing <= 1",
    "1 < event.missing", "1 > event.missing", "event.a.b.c == 1", "event.a.b.c > 1", "event.a.b.c < 'x'",
    "event.a.b.c + 1 > 0", "1 + event.a.b.c > 0", "-event.a.b > 0", "event.a .. 'x' == 'x'",
    "#event.missing > 0", "event.missing:lower() == 'x'", "event.missing:find('x'):lower()",
    "event.null", "event.null > 1", "event.null < 1", "event.null + 1 > 0", "event.null.x.y > 3",
    "#event.null > 0", "event.null == nil", "event.list[1] == 1", "event.list[1].x > 2", "event[1] > 0",
    "event.missing & 1 == 1", "~event.missing == 0", "event.missing // 2 == 0", "event.missing ^ 2 > 0",
    "nil", "false", "event.no", "meta.key == 'x'", "meta.headers.none > 'x'", "meta.partition > 1",
    "event.missing(1, 2) == 3", "event.n.x > 1", "event.yes.x < 1", "event.n > 10 or event.a.b > 1",
    "string.rep(event.type, 2) == 'purchase'",
]


@pytest.mark.sanitize
def test_conditions(weir):
    outs, dead = filtered(weir, TRUE + FALSE, [EVENT])
    wrong = {c: dead.get(i, {}).get("reason", "false") for i, c in enumerate(TRUE) if outs[i] != [EVENT]}
    assert wrong == {}
    wrong = {c: dead.get(i + len(TRUE), {}).get("reason", "true") for i, c in enumerate(FALSE)
             if outs[i + len(TRUE)] != [] or i + len(TRUE) in dead}
    assert wrong == {}


RAISES = {
    "event.text > 5": "attempt to compare number with string",
    "event.n < 'x'": "attempt to compare number with string",
    "event.text + 1 > 0": "attempt to add a 'string' with a 'number'",
    "event.props > 1": "attempt to compare an event's object or array with a number value",
    "event.props + 1 > 0": "attempt to compute with",
    "event.n:lower() == 'x' or event.n()": "attempt to call a number value",
    "event.text:nonsense(1) == nil and event.yes()": "attempt to call a boolean value",
    "(function() while true do end end)()": "budget of 10000000 instructions",
    "('x'):rep(1 << 30) == event.text": "memory limit of 67108864 bytes",
    "event.text:find('%')": "malformed pattern",
    "(function() event.x = 1 return true end)()": "a condition cannot change the event",
    "(function() event.list[1] = 1 return true end)()": "a condition cannot change the event",
    "(function() meta.key = 'x' return true end)()": "a condition cannot change the event",
    "(function() return unknown end)()": "unknown name 'unknown'",
    "(function() return require('x') end)()": "unknown name 'require'",
    "meta.nonsense": "unknown metadata 'nonsense'",
    "(function() local function f() return 1 + f() end return f() end)()": "memory limit",
}


@pytest.mark.sanitize
def test_what_fails_an_event(weir):
    _, dead = filtered(weir, list(RAISES), [EVENT, "nope"])
    assert len(dead) == len(RAISES)
    # Both lines are dead letters of each; the dict holds the second, so read the first ones.
    lines = [json.loads(l) for l in (weir.folder / "dead.ndjson").read_text().splitlines()]
    for i, (condition, message) in enumerate(RAISES.items()):
        first, second = sorted((d for d in lines if d["component"] == f"f{i}"),
                               key=lambda d: d["payload"] == "nope")
        assert message in first["reason"], (condition, first)
        assert first["reason"].startswith('condition "' + condition[:20]) and first["payload"] == EVENT
        assert first["code"] in ("lua_error", "lua_timeout", "lua_memory")
        if "event." in condition and "function" not in condition and "('x')" not in condition:
            assert second["code"] == "bad_json"


def test_untouched_events_are_not_parsed(weir):
    lines = ["nope", '{"a" : 1.0 }']
    outs, dead = filtered(weir, ["meta.offset ~= nil", "true", "event ~= nil"], lines)
    assert outs == [lines] * 3 and dead == {}


def test_each_event_has_its_own_verdict(weir):
    outs, dead = filtered(weir, ["event.n % 2 == 0"],
                          [json.dumps({"n": n if n % 10 else str(n) + "x"}) for n in range(100)])
    assert [json.loads(l)["n"] for l in outs[0]] == [n for n in range(100) if n % 2 == 0 and n % 10]
    assert dead[0]["code"] == "lua_error"


# ---- route -------------------------------------------------------------------------------------

def routed(weir, routes, lines, more="", ports=(), drop="[]"):
    weir.write("".join(json.dumps(line) + "\n" if not isinstance(line, str) else line + "\n"
                       for line in lines), "in.ndjson")
    sinks = "".join(f"  s_{p}: {{type: file, inputs: [r.{p}], path: {p}.ndjson}}\n" for p in ports)
    weir.run(f"""\
name: routed
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  r:
    type: route
    inputs: [in]
    drop: {drop}
    {more}
    routes: {json.dumps(routes)}
sinks:
{sinks}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
""")
    return {p: [json.loads(l) for l in (weir.folder / f"{p}.ndjson").read_text().splitlines()]
            if (weir.folder / f"{p}.ndjson").exists() else [] for p in [*ports, "dead"]}


def test_route_first(weir):
    out = routed(weir, {"low": "event.n < 3", "mid": "event.n < 6", "text": "event.n:len() > 0"},
                 [{"n": n} for n in range(8)] + [{"n": "x"}, {}, "nope"],
                 ports=["low", "mid", "text", "other"])
    assert [e["n"] for e in out["low"]] == [0, 1, 2]
    assert [e["n"] for e in out["mid"]] == [3, 4, 5]
    assert out["text"] == [] and out["other"] == [{"n": 6}, {"n": 7}, {}]
    # "x" is no number: the first route raises.
    assert sorted(d["code"] for d in out["dead"]) == ["bad_json", "lua_error"]


def test_a_route_that_is_not_asked_cannot_fail_an_event(weir):
    out = routed(weir, {"words": "weir.type(event.v) == 'string'", "high": "event.v > 3"},
                 [{"v": "text"}, {"v": 4}, {"v": 1}], ports=["words", "high", "other"])
    assert out == {"words": [{"v": "text"}], "high": [{"v": 4}], "other": [{"v": 1}], "dead": []}


def test_route_all(weir):
    out = routed(weir, {"even": "event.n % 2 == 0", "third": "event.n % 3 == 0", "any": "true"},
                 [{"n": n} for n in range(7)], "match: all", ["even", "third", "any"], "[other]")
    assert [e["n"] for e in out["even"]] == [0, 2, 4, 6]
    assert [e["n"] for e in out["third"]] == [0, 3, 6]
    assert [e["n"] for e in out["any"]] == list(range(7))
    out = routed(weir, {"none": "event.n > 100"}, [{"n": 1}], "match: all", ["none", "other"])
    assert out["other"] == [{"n": 1}]


def test_ids_of_copies(weir):
    weir.write("{}\n", "in.ndjson")
    weir.run("""\
name: ids
sources: {in: {type: file, path: in.ndjson}}
transforms:
  r: {type: route, on_error: drop, match: all, routes: {a: "true", b: "true"}, drop: [other]}
  show_a: {type: lua, inputs: [r.a], on_error: drop, code: "function process(e, m) return {id = m.id} end"}
  show_b: {type: lua, inputs: [r.b], on_error: drop, code: "function process(e, m) return {id = m.id} end"}
sinks:
  a: {type: file, inputs: [show_a], path: a.ndjson, on_reject: drop}
  b: {type: file, inputs: [show_b], path: b.ndjson, on_reject: drop}
""")
    a = json.loads((weir.folder / "a.ndjson").read_text())["id"]
    assert json.loads((weir.folder / "b.ndjson").read_text())["id"] == a + "/1"


# ---- check -------------------------------------------------------------------------------------

WRONG = {
    'event.type = "x"': ("to compare, write ==", 11),
    "event.n != 5": ("Lua writes ~=", 8),
    "event.n && event.f": ("Lua writes `and`", 8),
    "event.n || event.f": ("Lua writes `or`", 8),
    "event.n >": ("the expression is not complete", 9),
    "event.n == (5": ("')' expected", None),
    "event.a event.b": ("unexpected 'event' behind the expression", 8),
    "evnt.type == 'x'": ("unknown name 'evnt'", 0),
    "event.n > 0 and typ == 1": ("unknown name 'typ'", 16),
    "event.x == null": ("JSON null is weir.null", 11),
    "return event.n": ("unexpected symbol near 'return'", 0),
    "'unfinished": ("unfinished string", None),
    "event.n == 5 and\n  event.f == == 2": ("unexpected symbol near '=='", 30),
    "   ": ("the condition is empty", None),
    "event.": ("the expression is not complete", 6),
    "os.execute('x')": ("unknown name 'os'", 0),
}


@pytest.mark.parametrize("condition", WRONG)
def test_wrong_conditions(weir, condition):
    message, offset = WRONG[condition]
    text = ("name: wrong\nsources: {in: {type: generate}}\ntransforms:\n  f:\n    type: filter\n"
            f"    on_error: drop\n    condition: {quoted(condition)}\n"
            "sinks: {out: {type: blackhole, on_reject: drop}}\n")
    checked = weir.check(text, expect=1)
    assert message in checked.text, checked
    line, column = re.search(r"\.yaml:(\d+):(\d+)", checked.text).groups()
    assert line == "7"
    if offset is not None and "\n" not in condition:
        # Quotes inside a double-quoted scalar take a backslash each.
        raw = len(json.dumps(condition[:offset])) - 2
        assert int(column) == len('    condition: "') + 1 + raw, checked


@pytest.mark.parametrize("options, message", [
    ("condition: ''", "condition"),
    ("", "condition"),
    ("condition: 'true'\n    conditions: 'x'", "conditions"),
])
def test_wrong_filters(weir, options, message):
    checked = weir.check("name: wrong\nsources: {in: {type: generate}}\ntransforms:\n  f:\n"
                         f"    type: filter\n    on_error: drop\n    {options}\n"
                         "sinks: {out: {type: blackhole, on_reject: drop}}\n", expect=1)
    assert message in checked.text


@pytest.mark.parametrize("options, inputs, message", [
    ("routes: {other: 'true'}", "r.other", "'other' is the port of the events that match no route"),
    ("routes: {}", "r.other", "routes"),
    ("match: first", "r.other", "routes"),
    ("routes: {a: 'true'}\n    match: last", "r.a", "last"),
    ("routes: {a: 'true', b: 'event.x = 1'}", "r.a", "write =="),
    ("routes: {a: 'true'}", "r.a", "other"),
    ("routes: {a: 'true'}\n    drop: [other]", "r.b", "b"),
    ("routes: {a: 'true'}\n    drop: [other]", "r", "port"),
    ("routes: {'a b': 'true'}\n    drop: [other]", "r.a", "port"),
    ("routes: [a, b]", "r.a", "routes"),
])
def test_wrong_routes(weir, options, inputs, message):
    checked = weir.check("name: wrong\nsources: {in: {type: generate}}\ntransforms:\n  r:\n"
                         f"    type: route\n    on_error: drop\n    {options}\n"
                         f"sinks: {{out: {{type: blackhole, inputs: [{inputs}], on_reject: drop}}}}\n",
                         expect=1)
    assert message in checked.text
