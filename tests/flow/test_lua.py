# SPDX-License-Identifier: Apache-2.0
"""Transform lua: what hooks can do, what they cannot, and what becomes of their mistakes."""
import hashlib
import json
import re
import textwrap

import pytest

from weirtest import wait_until

from weirtest.tools import ROOT


class Hooked:
    """One run of a script over lines: out (parsed), raw (lines as bytes), dead (envelopes), run."""

    def __init__(self, weir, script, lines, options="", more_sinks="", expect=0, timeout=60,
                 inputs="[hook]", source=""):
        data = lines if isinstance(lines, bytes) else b"".join(
            (line if isinstance(line, bytes)
             else line.encode() if isinstance(line, str)
             else json.dumps(line).encode()) + b"\n" for line in lines)
        weir.write(data, "in.ndjson")
        weir.write(textwrap.dedent(script), "hook.lua")
        self.folder = weir.folder
        self.run = weir.run(f"""\
name: hooked
sources:
  in: {{type: file, path: in.ndjson{source}}}
transforms:
  hook:
    type: lua
    inputs: [in]
    script: hook.lua
{textwrap.indent(textwrap.dedent(options), "    ")}
sinks:
  out: {{type: file, inputs: {inputs}, path: out.ndjson}}
{textwrap.indent(textwrap.dedent(more_sinks), "  ")}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
""", expect=expect, timeout=timeout)

    def lines(self, name):
        path = self.folder / name
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    @property
    def raw(self):
        return self.lines("out.ndjson")

    @property
    def out(self):
        return [json.loads(line) for line in self.raw]

    @property
    def dead(self):
        return [json.loads(line) for line in self.lines("dead.ndjson")]

    @property
    def reasons(self):
        return [d["reason"] for d in self.dead]

    @property
    def codes(self):
        return [d["code"] for d in self.dead]


@pytest.fixture
def hook(weir):
    return lambda script, lines, *args, **kwargs: Hooked(weir, script, lines, *args, **kwargs)


def value_of(hook, expression, event='{"x":1}', options=""):
    """What the expression gives, as JSON: the way in and out is the plugin's own."""
    h = hook(f"function process(event, meta) return {{v = {expression}}} end", [event], options)
    assert h.dead == []
    return h.out[-1].get("v")


def checks(hook, body, event='{"x":1}', options=""):
    """Lua assertions over one event."""
    h = hook(f"function process(event, meta)\n{textwrap.dedent(body)}\nreturn event end", [event],
             options)
    assert h.dead == [] and len(h.raw) == 1
    return h


# ---- fields ------------------------------------------------------------------------------------

def test_add_rename_remove(hook):
    h = hook("""
        function process(event)
          event.added = "yes"
          event.renamed = event.old
          event.old = nil
          event.deep.list[2].x = 5
          return event
        end""", ['{"a":1,"old":"v","deep":{"list":[1,{"x":2,"y":3}]},"z":0}'])
    assert h.raw == [b'{"a":1,"deep":{"list":[1,{"x":5,"y":3}]},"z":0,"added":"yes","renamed":"v"}']


def test_untouched_events_pass_byte_for_byte(hook):
    lines = [b'{ "a" :1.0, "b":\t[ ] }', b'{"u":18446744073709551615,"e":1E+2,"d":1,"d":2}', b'"text"']
    h = hook("""
        function process(event)
          local _ = event.a, event.b, event.missing, weir.type(event)
          return event
        end""", lines)
    assert h.raw == lines


def test_rename_keeps_place_and_exact_value(hook):
    h = hook("""
        function process(event)
          assert(weir.rename(event, "a", "b") and not weir.rename(event, "none", "x"))
          assert(weir.rename(event.o, "k", "l"))
          return event
        end""", ['{"z":0,"a":123456789012345678901234567890,"o":{"k":18446744073709551615},"b":7}'])
    assert h.raw == [b'{"z":0,"b":123456789012345678901234567890,"o":{"l":18446744073709551615}}']


TYPES = ('{"i":9223372036854775807,"n":-9223372036854775808,"u":18446744073709551615,'
         '"big":123456789012345678901234567890,"f":1.5,"whole":2.0,"small":-0.0,"null":null,"t":true,'
         '"no":false,"a":[],"o":{},"nest":{"a":[[],{},null]},"uni":"äöü 鞋 \\u0000 🥾","":"empty key"}')


def test_types_survive_an_edit_beside_them(hook):
    h = hook("function process(e) e.new = 1 return e end", [TYPES])
    line = h.raw[0].decode()
    assert json.loads(line) == {**json.loads(TYPES), "new": 1}
    for exact in ('"u":18446744073709551615', '"big":123456789012345678901234567890', '"whole":2.0',
                  '"i":9223372036854775807', '"n":-9223372036854775808', '"a":[]', '"o":{}'):
        assert exact in line


def test_types_survive_lua_tables(hook):
    h = hook("function process(e) e.u = nil e.big = nil return weir.copy(e) end", [TYPES])
    expected = {k: v for k, v in json.loads(TYPES).items() if k not in ("u", "big")}
    assert h.out == [expected]
    assert b'"whole":2.0' in h.raw[0] and b'"i":9223372036854775807' in h.raw[0]
    assert b'"a":[]' in h.raw[0] and b'"o":{}' in h.raw[0] and b"\\u0000" in h.raw[0]


def test_what_a_field_is_in_lua(hook):
    checks(hook, """
        assert(math.type(event.i) == "integer" and event.i == math.maxinteger)
        assert(math.type(event.n) == "integer" and event.n == math.mininteger)
        assert(math.type(event.u) == "float" and event.u == 18446744073709551616.0)
        assert(math.type(event.big) == "float" and event.big > 1e29)
        assert(math.type(event.whole) == "float")
        assert(event.null == weir.null and event.null ~= nil and weir.type(event.null) == "null")
        assert(event.t == true and event.no == false and event.missing == nil)
        assert(#event.uni == #"äöü 鞋 \\0 🥾" and event[""] == "empty key")
        assert(#event.a == 0 and #event.nest.a == 3 and #event.o == 0)
        assert(weir.type(event.a) == "array" and weir.type(event.o) == "object")
        assert(weir.type(event) == "object" and type(event) == "userdata" and weir.type(1) == "number")
        assert(event.a[1] == nil and event.nest.a[0] == nil and event.nest.a[4] == nil)
        assert(event.nest.a[3] == weir.null and event[1] == nil and event.a.x == nil)
        assert(tostring(event.nest) == '{"a":[[],{},null]}' and tostring(weir.null) == "null")
        assert(event.nest == event.nest and event.nest ~= event.o)
    """, TYPES)


def test_arrays(hook):
    h = checks(hook, """
        local seen = {}
        for i, v in ipairs(event.l) do seen[i] = v end
        assert(table.concat(seen, ",") == "1,2,3")
        seen = 0
        for i, v in pairs(event.l) do assert(i == v) seen = seen + 1 end
        assert(seen == 3)
        event.l[#event.l + 1] = 4
        table.insert(event.l, 5)
        table.insert(event.l, 1, 0)
        assert(table.remove(event.l) == 5)
        assert(table.remove(event.l, 2) == 1)
        event.l[1] = {x = event.l[2]}
        assert(table.concat({table.unpack(event.l, 2)}, "-") == "2-3-4")
        assert(#event.l == 4)
        event.l[9] = nil
        assert(not pcall(function() event.l[2] = nil end))
        assert(not pcall(function() event.l[6] = 1 end))
        assert(not pcall(function() event.l.name = 1 end))
        assert(not pcall(function() event.l[0] = 1 end))
        assert(not pcall(function() event.o[1] = 1 end))
        table.sort(event.s)
        assert(table.concat(event.s) == "abc")
        local objects = event.list
        for i = 1, #objects do objects[i].n = i end
    """, '{"l":[1,2,3],"o":{},"s":["c","a","b"],"list":[{"a":1},{"a":2},{}]}')
    assert h.raw == [b'{"l":[{"x":2},2,3,4],"o":{},"s":["a","b","c"],'
                     b'"list":[{"a":1,"n":1},{"a":2,"n":2},{"n":3}]}']


def test_pairs_and_changes_under_it(hook):
    h = checks(hook, """
        local keys = {}
        for k, v in pairs(event) do
          keys[#keys + 1] = k
          if type(v) == "number" then event[k] = v + 1 end
          if k == "drop" then event[k] = nil end
        end
        assert(table.concat(keys, ",") == "a,drop,b,o,c", table.concat(keys, ","))
        for k in pairs(event.o) do event.o[k] = nil end
        for _ in pairs(event.o) do error("empty now") end
        for k, v in pairs(weir.copy(event)) do assert(event[k] == v or weir.type(event[k]) == "object") end
    """, '{"a":1,"drop":"x","b":2,"o":{"p":1,"q":2,"r":3},"c":3}')
    assert h.raw == [b'{"a":2,"b":3,"o":{},"c":4}']


def test_a_handle_taken_before_the_first_write_is_right_after_it(hook):
    h = checks(hook, """
        local deep, list = event.a.b, event.l
        local second = list[2]
        event.first = "write"
        assert(deep.c == 1 and second.x == 2 and event.a.b == deep)
        deep.c = "seen"
        second.x = "also"
        assert(event.a.b.c == "seen" and event.l[2].x == "also")
        local gone = event.a
        event.a = nil
        assert(gone.b.c == "seen" and event.a == nil)
        gone.b.c = "nobody sees this"
    """, '{"a":{"b":{"c":1}},"l":[0,{"x":2}]}')
    assert h.out == [{"l": [0, {"x": "also"}], "first": "write"}]


def test_assignment_copies(hook):
    h = checks(hook, """
        event.copy = event.o
        event.copy.x = 2
        event.o = event.o
        event.l = {event.o, event.o}
        local t = {k = 1}
        event.t = t
        t.k = 2
    """, '{"o":{"x":1}}')
    assert h.out == [{"o": {"x": 1}, "copy": {"x": 2}, "l": [{"x": 1}, {"x": 1}], "t": {"k": 1}}]


def test_tables_become_json(hook):
    script = """function process(event) return {
        a = {1, 2.5, "x", true, weir.null}, e = {}, ea = weir.array(), eo = weir.object(),
        wa = weir.array({}), nested = {{}, {{}}}, z = {y = {x = 1}, a = 2}} end"""
    h = hook(script, ["{}"] * 3)
    assert h.raw == [b'{"a":[1,2.5,"x",true,null],"e":{},"ea":[],"eo":{},"nested":[{},[{}]],"wa":[],'
                     b'"z":{"a":2,"y":{"x":1}}}'] * 3


@pytest.mark.parametrize("value, message", [
    ("print", "event.v: a function has no JSON form"),
    ("{a = {b = {1, coroutine.create(print)}}}", "event.v.a.b[2]: a thread has no JSON form"),
    ("0/0", "NaN and infinity have no JSON form"),
    ("{1, 2, nil, 4}", "use weir.null for an empty place"),
    ("{1, x = 2}", "neither all strings nor 1, 2, 3"),
    ("{[1.5] = 1}", "neither all strings nor 1, 2, 3"),
    ("{[true] = 1}", "neither all strings nor 1, 2, 3"),
    ("{[7] = 1}", "neither all strings nor 1, 2, 3"),
    ('"\\xff"', "not UTF-8"),
    ('{["\\xff"] = 1}', "not UTF-8"),
    ("(function() local t = {} t.t = t return t end)()", "a table that holds itself"),
    ("weir.array({x = 1})", "1, 2, 3"),
    ("weir.object({1})", "neither all strings"),
    ("meta", "metadata has no JSON form"),
])
def test_what_has_no_json_form(hook, value, message):
    h = hook(f"function process(event, meta) event.before = 1 event.v = {value} return event end",
             ['{"as":"it was"}'])
    assert h.raw == [] and h.codes == ["lua_error"]
    assert message.replace("event.v", "v") in h.reasons[0] and "hook.lua:1:" in h.reasons[0]
    assert h.dead[0]["payload"] == '{"as":"it was"}'


def test_depth_of_tables_is_bounded(hook):
    h = hook("""
        function process(event)
          local t = {}
          for i = 1, event.n do t = {t} end
          return {v = t}
        end""", ['{"n":120}', '{"n":200}', '{"n":100000}'])
    assert len(h.raw) == 1 and h.codes == ["lua_error"] * 2
    assert "128 levels" in h.reasons[0]


# ---- what a hook returns -----------------------------------------------------------------------

def test_drop_and_replace(hook):
    h = hook("""
        function process(event)
          if event.n == 1 then return nil end
          if event.n == 2 then return false end
          if event.n == 3 then return {new = true} end
          if event.n == 4 then return {} end
          if event.n == 5 then return weir.array({1, 2}) end
          if event.n == 6 then return event.inner end
          if event.n == 7 then return weir.object() end
          if event.n == 8 then return end
          return event
        end""", [{"n": n} for n in range(1, 6)] + [{"n": 6, "inner": {"x": [1]}}]
             + [{"n": n} for n in range(7, 10)])
    assert h.raw == [b'{"new":true}', b"[1,2]", b'{"x":[1]}', b"{}", b'{"n": 9}']
    assert h.dead == []


def test_split(hook):
    h = hook("""
        function process(event, meta)
          if event.n == 1 then return {event, {x = 1}, {x = 2}} end
          if event.n == 2 then return {{x = 3}, {x = 4}} end
          if event.n == 3 then return {event, event} end
          if event.n == 4 then event.edited = true return {event, weir.derive(event),
                                                           weir.derive(event, {own = 1})} end
          return event
        end""", [{"n": n} for n in range(1, 6)])
    assert h.out == [{"n": 1}, {"x": 1}, {"x": 2}, {"x": 3}, {"x": 4}, {"n": 3}, {"n": 3},
                     {"n": 4, "edited": True}, {"n": 4, "edited": True}, {"own": 1}, {"n": 5}]


def test_children_have_ids_of_their_parent(weir):
    weir.write('{"id":"p","l":[1,2]}\n', "in.ndjson")
    weir.run("""\
name: ids
sources: {in: {type: file, path: in.ndjson}}
transforms:
  split:
    type: lua
    on_error: drop
    code: |
      function process(event) return {event, {v = 1}, {v = 2}} end
  show:
    type: lua
    on_error: drop
    code: |
      function process(event, meta) return {id = meta.id} end
sinks: {out: {type: file, path: out.ndjson, on_reject: drop}}
""")
    ids = [json.loads(l)["id"] for l in (weir.folder / "out.ndjson").read_text().splitlines()]
    assert ids[0] == f"{weir.folder}/in.ndjson-0" and ids == [ids[0], ids[0] + "/1", ids[0] + "/2"]


def test_ports(hook):
    h = hook("""
        function process(event)
          if event.n == 1 then return event, "a" end
          if event.n == 2 then return {event, {n = 20}}, "b" end
          if event.n == 3 then return {{event, "a"}, {{n = 30}, "b"}, {n = 31}} end
          if event.n == 4 then return {n = 40}, "a" end
          if event.n == 5 then return event, "nowhere" end
          if event.n == 6 then return {event, "a"} end
          return event
        end""", [{"n": n} for n in range(1, 8)], "ports: [a, b]",
             """\
             on_a: {type: file, inputs: [hook.a], path: a.ndjson}
             on_b: {type: file, inputs: [hook.b], path: b.ndjson}
             """)
    assert h.out == [{"n": 31}, {"n": 7}]
    assert [json.loads(l)["n"] for l in h.lines("a.ndjson")] == [1, 3, 40]
    assert [json.loads(l)["n"] for l in h.lines("b.ndjson")] == [2, 20, 30]
    assert h.codes == ["lua_error"] * 2
    assert "no port 'nowhere'" in h.reasons[0] and 'event, "port"' in h.reasons[1]


@pytest.mark.parametrize("result, message", [
    ("1", "not a number value"),
    ("'text'", "not a string value"),
    ("true", "not a boolean value"),
    ("print", "not a function value"),
    ("{1, 2}", "element 1 of the returned list is a number value"),
    ("{event, 7}", "element 2 of the returned list is a number value"),
    ("{event, {event}}", "an element of a returned list is"),
    ("{event, {event, event}}", "an element of a returned list is"),
    ("weir.null", "not JSON null"),
    ("meta", "not metadata"),
    ("event, 5", "a port is a string"),
    ("event, 'x'", "option 'ports' names none"),
    ("{weir.copy}", "element 1"),
    ("coroutine.create(print)", "not a thread value"),
])
def test_what_cannot_be_returned(hook, result, message):
    h = hook(f"function process(event, meta) event.x = 2 return {result} end", ['{"x":1}'])
    assert h.raw == [] and h.codes == ["lua_error"]
    assert message in h.reasons[0] and h.dead[0]["payload"] == '{"x":1}'


# ---- metadata ----------------------------------------------------------------------------------

def test_meta(weir):
    weir.write('{"n":1}\n{"n":2}\n', "in.ndjson")
    weir.run("""\
name: meta
sources: {in: {type: file, path: in.ndjson}}
transforms:
  write:
    type: lua
    on_error: drop
    code: |
      function process(event, meta)
        assert(meta.key == nil and meta.headers.none == nil)
        meta.key = "k" .. event.n
        assert(meta.key == "k" .. event.n)
        meta.headers.a, meta.headers.b, meta.headers.num = "1", "two", 3
        meta.headers.a = nil
        assert(meta.headers.a == nil and meta.headers.b == "two")
        local names = {}
        for name, value in pairs(meta.headers) do names[#names + 1] = name .. "=" .. value end
        assert(table.concat(names, ",") == "b=two,num=3")
        for _, bad in ipairs({"id", "time", "topic", "nonsense", 5}) do
          assert(not pcall(function() meta[bad] = 1 end))
        end
        assert(not pcall(function() return meta.nonsense end))
        assert(not pcall(function() meta.key = {} end))
        assert(weir.meta(event).key == meta.key)
        return event
      end
  read:
    type: lua
    on_error: drop
    code: |
      function process(event, meta)
        event.meta = {key = meta.key, b = meta.headers.b, num = meta.headers.num, id = meta.id,
                      topic = meta.topic, partition = meta.partition or "none",
                      offset = meta.offset, time = meta.time, ns = meta.time_ns,
                      payload = meta.payload}
        return event
      end
sinks: {out: {type: file, path: out.ndjson, on_reject: drop}}
""")
    events = [json.loads(l) for l in (weir.folder / "out.ndjson").read_text().splitlines()]
    path = str(weir.folder / "in.ndjson")
    for i, e in enumerate(events):
        m = e["meta"]
        assert (m["key"], m["b"], m["num"]) == (f"k{i + 1}", "two", "3")
        assert m["topic"] == path and m["offset"] == 8 * i and m["id"] == f"{path}-{8 * i}"
        assert m["partition"] == "none" and m["payload"] == '{"n":%d}' % (i + 1)
        assert abs(m["time"] - m["ns"] / 1e9) < 1e-6 and isinstance(m["ns"], int)


def test_meta_of_a_failed_hook_is_as_it_entered(hook):
    h = hook("""
        function process(event, meta)
          meta.key = "changed"
          meta.headers.h = "changed"
          error("no")
        end""", ['{"n":1}'])
    assert h.codes == ["lua_error"]
    assert "changed" not in json.dumps(h.dead[0])


def test_raw_payloads(weir):
    weir.write(b"a,1\n\xff\xfe\nb,2\n", "in.csv")
    weir.run("""\
name: csv
sources: {in: {type: file, path: in.csv, codec: raw}}
transforms:
  csv:
    type: lua
    code: |
      function process(event, meta)
        local name, n = meta.payload:match("^(%a+),(%d+)$")
        if name == nil then return event.field end
        return {name = name, n = math.tointeger(n)}
      end
sinks:
  out: {type: file, inputs: [csv], path: out.ndjson}
  dead: {type: file, path: dead.ndjson}
dead_letter: dead
""")
    assert (weir.folder / "out.ndjson").read_text() == '{"n":1,"name":"a"}\n{"n":2,"name":"b"}\n'
    assert json.loads((weir.folder / "dead.ndjson").read_text())["code"] == "not_json"


# ---- failures ----------------------------------------------------------------------------------

def test_an_error_keeps_the_event_as_it_entered(hook):
    lines = ['{"n":%d,  "spaces":  [1.0, 2e0]}' % n for n in range(6)]
    h = hook("""
        local function helper(event)
          error("boom " .. event.n)
        end
        function process(event)
          event.n = event.n + 100
          event.spaces[1] = "changed"
          if event.n % 2 == 1 then helper(event) end
          return event
        end""", lines)
    assert [e["n"] for e in h.out] == [100, 102, 104]
    assert [d["payload"] for d in h.dead] == lines[1::2]
    assert h.reasons == [f"hook.lua:3: boom {n} (called from hook.lua:8)" for n in (101, 103, 105)]
    assert h.codes == ["lua_error"] * 3


@pytest.mark.parametrize("body, message", [
    ("error({code = 5})", "the error object is a table value"),
    ("error()", "the error object is a nil value"),
    ("error(setmetatable({}, {__tostring = function() error('again') end}))", "a table value"),
    ("error(42)", "42"),
    ("error('x', 0)", "x"),
    ("error(('long '):rep(10000))", "long long"),
    ("error(('é'):rep(500))", "ééé"),
    ("error('a\\0b \\xff\\n')", "a b"),
    ("local x = nil + 1", "arithmetic on a nil value"),
    ("return event.a.b.c", "attempt to index a nil value (field 'a')"),
    ("return event.null.x", "attempt to index JSON null (field 'x')"),
    ("return event.null > 1", "attempt to compare JSON null with a number value"),
    ("return event < 1", "attempt to compare an event's object or array"),
    ("local t <close> = setmetatable({}, {__close = function() error('in close') end}) error('first')",
     "in close"),
    ("xpcall(error, function() error('in handler') end) error('after')", "after"),
    ("coroutine.yield(event)", "attempt to yield from outside a coroutine"),
    ("string.rep('x', -1):bad()", "attempt to call a nil value (method 'bad')"),
    ("setmetatable({}, {__gc = function() end})", "__gc is not available in hooks"),
    ("assert(load('\\27Lua', 'x', 'b'))", "binary chunk"),
    ("require('string.x')", "not found"),
    ("undefined_function()", "attempt to call a nil value (global 'undefined_function')"),
    ("event:method()", "attempt to call a nil value (method 'method')"),
    ("weir.hash(nil)", "bad argument #1"),
    ("for k in pairs(meta) do end", "pairs works on"),
    ("for k in pairs(weir.null) do end", "JSON null"),
    ("weir.log.info({})", "bad argument #1"),
    ("weir.metric('Bad Name')", "a metric's name is"),
    ("weir.metric('m', -1)", "a counter only goes up"),
    ("weir.metric('m', 1, 'counter', {a=1,b=2,c=3,d=4,e=5})", "at most 4 labels"),
    ("weir.drop(event, 'spaces are bad')", "a reason is 1 to 40"),
    ("weir.cache.set('k', print)", "no JSON form"),
    ("weir.time.format(1e300)", "years 0000 to 9999"),
    ("weir.join({event}, print)", "no JSON form"),
    ("weir.join({1}, {})", "expected an event"),
    ("weir.derive(event, {}, {nonsense = 1})", "unknown 'nonsense'"),
    ("weir.hold(event) return event", "held or dropped cannot be returned"),
    ("weir.drop(event) return {event}", "held or dropped cannot be returned"),
])
def test_errors(hook, body, message):
    h = hook(f"function process(event, meta) event.x = 5 do {body} end end",
             ['{"null":null}', '{"null":null}'])
    assert h.raw == [] and len(h.dead) == 2
    for dead in h.dead:
        assert message in dead["reason"], dead["reason"]
        assert dead["code"] == "lua_error" and dead["payload"] == '{"null":null}'
        assert len(dead["reason"]) <= 330


def test_caught_errors_are_the_scripts_business(hook):
    checks(hook, """
        local ok, message = pcall(error, "mine")
        assert(not ok and message == "mine")
        ok, message = xpcall(function() error({1}) end, function(e) return e[1] end)
        assert(not ok and message == 1)
        local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) error("co " .. b) end)
        assert(co(1) == 2)
        ok, message = pcall(co, "dead")
        assert(not ok and message:find("co dead"))
        local inside = coroutine.create(function()
          local ok, v = pcall(function() return coroutine.yield(1) + 1 end)
          return ok, v
        end)
        assert(select(2, coroutine.resume(inside)) == 1)
        local _, ok2, v = coroutine.resume(inside, 41)
        assert(ok2 and v == 42)
    """)


def test_an_event_used_after_its_call(hook):
    h = hook("""
        local kept, kept_inner, kept_meta, iterate
        function process(event, meta)
          if event.n == 1 then
            kept, kept_inner, kept_meta = event, event.inner, meta
            iterate = {pairs(event)}
            return event
          end
          if event.n == 2 then return {x = kept.n} end
          if event.n == 3 then kept_inner.x = 1 end
          if event.n == 4 then return {k = kept_meta.key} end
          if event.n == 5 then return kept end
          if event.n == 6 then return {x = #kept_inner} end
          if event.n == 7 then return {x = iterate[1](iterate[2], nil)} end
          if event.n == 8 then event.x = kept end
          return event
        end""", [{"n": n, "inner": {}} for n in range(1, 10)])
    assert [e["n"] for e in h.out] == [1, 9]
    assert h.codes == ["lua_error"] * 7
    assert all("event used after its call ended" in r for r in h.reasons)


def test_bad_json_fails_at_first_touch_only(hook):
    h = hook("""
        function process(event, meta)
          if #meta.payload == 3 then return event end
          pcall(function() return event.x end)
          return {x = "never seen"}
        end""", ["xxx", "nope", '{"deep":' + "[" * 200 + "]" * 200 + "}", b'{"bad":"\xff"}'])
    assert h.raw == [b"xxx"]
    assert h.codes == ["bad_json"] * 3 and "bad JSON at byte 0" in h.reasons[0]


def test_on_error_drop(hook):
    h = hook("function process(e) if e.n == 1 then error('no') end return e end",
             [{"n": n} for n in range(3)], "on_error: drop")
    assert h.dead == [] and [e["n"] for e in h.out] == [0, 2]


def test_on_error_stop(weir):
    weir.write("{}\n", "in.ndjson")
    r = weir.start(pipeline("on_error: stop\ncode: 'function process(e) error(5) end'"), ready=False)
    r.wait_log("transform 'hook' could not handle an event: lua_error: 5")
    r.stop(expect=1)


# ---- limits ------------------------------------------------------------------------------------

LOOPS = {
    "plain": "while true do end",
    "goto": "::top:: goto top",
    "recursion by tail call": "local function f() return f() end f()",
    "pcall": "while true do pcall(function() while true do end end) end",
    "pcall of error": "while true do pcall(error, 'x') end",
    "xpcall with a looping handler":
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "coroutine": "coroutine.wrap(function() while true do end end)()",
    "coroutines in coroutines": """
        local function nest(n)
          while true do
            coroutine.resume(coroutine.create(function()
              if n > 0 then nest(n - 1) end
              while true do end
            end))
          end
        end
        nest(20)""",
    "coroutine made by an earlier call": "while true do coroutine.resume(old or coroutine.create(f)) end",
    "close": "local t <close> = setmetatable({}, {__close = function() while true do end end}) "
             "while true do end",
    "metamethods": "local t = setmetatable({}, {__index = function(t, k) while true do end end}) "
                   "return t.x",
    "sort": "table.sort({3, 2, 1}, function() while true do end end)",
    "gsub": "string.gsub('aaa', 'a', function() while true do end end)",
    "load": "load(function() while true do end end)",
    "endless load": "load(function() return ' ' end)",
    "pattern": "(('a'):rep(30000)):find('.-.-.-.-b')",
    "exponential pattern": "(('a'):rep(40)):find(('a?'):rep(40) .. ('a'):rep(40) .. 'b')",
    "pattern over the event": "event.text:match('^.*.*.*.*x$')",
    "empty rep": "while true do (''):rep(1 << 60) end",
    "move": "table.move({}, 1, 1 << 60, 2)",
    "garbage": "while true do collectgarbage() end",
    "json": "local s = ('[1]'):rep(1) while true do weir.json.decode(s) end",
    "event writes": "while true do event.x = 1 end",
    "require of a loop": "require('loop')",
    "close of a coroutine that the budget ended": """
        coroutine.wrap(function()
          local t <close> = setmetatable({}, {__close = function() while true do end end})
          while true do end
        end)()""",
    "close of it by a later call": """
        if old then coroutine.close(old) end
        old = coroutine.create(function()
          local t <close> = setmetatable({}, {__close = function() while true do end end})
          while true do end
        end)
        coroutine.resume(old)
        while true do end""",
    "insert into a list that claims to be long": "table.insert(endless, 1, 1)",
    "remove from it": "table.remove(endless, 1)",
    "insert where the length changes": """
        local n = 0
        table.insert(setmetatable({}, {__len = function() n = n + 1 return n > 1 and 1 << 60 or 0 end}),
                     1, 1)
        table.remove(endless, 1)""",
    "concat of it": "table.concat(setmetatable({}, {__len = huge, __index = tostring}))",
    "unpack of much": "local t = table.move(endless, 1, 9, 1, {}) for i = 1, 2e5 do t[i] = i end "
                      "while true do select('#', table.unpack(t)) end",
    "bytes of much": "local s = ('x'):rep(1 << 19) while true do select('#', s:byte(1, -1)) end",
    "utf8.len of much": "local s = ('x'):rep(1 << 22) while true do utf8.len(s) end",
    "utf8.offset over much": "local s = ('x'):rep(1 << 22) while true do utf8.offset(s, -#s) end",
    "tonumber of much": "local s = ('1'):rep(1 << 22) while true do tonumber(s) end",
    "object of many fields": "local t = {} for i = 1, 60000 do t['k' .. i] = i end event.t = t",
    "packsize of much": "local s = ('b'):rep(1 << 22) while true do string.packsize(s) end",
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.sanitize
def test_an_endless_loop_is_an_error(hook, weir, name):
    weir.write("while true do end", "loop.lua")
    h = hook(f"""
        function f() while true do end end
        function huge() return math.maxinteger - 1 end
        endless = setmetatable({{}}, {{__len = huge}})
        function process(event)
          if event.n == 1 then
            {LOOPS[name]}
          end
          event.ok = true
          return event
        end""", [{"n": n, "text": "y" * 3000} for n in (1, 2, 1, 3)], "instructions: 1000000",
             timeout=120)
    assert [e["n"] for e in h.out] == [2, 3] and all(e["ok"] for e in h.out)
    assert len(h.dead) == 2
    for dead in h.dead:
        assert dead["code"] == "lua_timeout", dead
        assert "budget of 1000000 instructions" in dead["reason"] and "instructions" in dead["reason"]
        assert json.loads(dead["payload"])["n"] == 1


BOMBS = {
    "rep": "return ('x'):rep(1 << 30)",
    "doubling": "local s = 'x' while true do s = s .. s end",
    "table": "local t = {} while true do t[#t + 1] = {} end",
    "one string too many": "local s = ('x'):rep(1 << 22) return s .. 'a', s .. 'b', s .. 'c'",
    "concat": "local t = {} for i = 1, 1e6 do t[i] = 'some text' end return table.concat(t, ('y'):rep(99))",
    "pcall around it": "while true do pcall(string.rep, 'x', 1 << 30) "
                       "local ok = pcall(function() local s = 'x' while true do s = s .. s end end) "
                       "if not ok then error('out of memory as expected') end end",
    "into the event": "local s = ('x'):rep(1 << 18) while true do event.s = s end",
    "into headers": "local s = ('x'):rep(1 << 18) while true do meta.headers.h = s end",
    "json text": "local s = ('x'):rep(1 << 18) while true do weir.json.encode(s) end",
    "copies of the event": "local l = {} while true do l[#l + 1] = weir.copy(event) end",
    "handles": "local t = {} for i = 1, 1e6 do t[i] = 0 end event.l = t",
    "recursion": "local function f() return 1 + f() end f()",
    "closures": "local t = {} while true do t[#t + 1] = function() return t end end",
    "coroutines": "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "an event in itself": "for i = 1, 60 do event['k' .. i] = event end",
    "an event many times over": "local s = {} event.s = ('x'):rep(1 << 16) "
                                "for i = 1, 1000 do s[i] = event end event.t = s",
    "buffer": "return (('a'):rep(1 << 22)):gsub('a', ('b'):rep(1000))",
    "format": "local s = ('%99d'):rep(1000) while true do "
              "t = (t or '') .. s:gsub('%%99d', ('z'):rep(99)) end",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.sanitize
def test_a_memory_bomb_is_an_error(hook, name):
    h = hook(f"""
        function process(event, meta)
          if event.n == 1 then
            {BOMBS[name]}
          end
          event.ok = true
          return event
        end""", [{"n": n} for n in (1, 2, 1, 3)], "{memory: 8MiB, instructions: 1000000000}"[1:-1]
             .replace(", ", "\n"), timeout=120)
    assert [e["n"] for e in h.out] == [2, 3]
    assert len(h.dead) == 2
    for dead in h.dead:
        if name == "pcall around it":
            assert "as expected" in dead["reason"]
            continue
        assert dead["code"] == "lua_memory", dead
        assert "8388608 bytes" in dead["reason"]
        assert dead["payload"] == '{"n": 1}'


def test_finalizers_are_not_to_be_had(hook):
    """They would run outside the limits."""
    checks(hook, """
        local loop = function() while true do end end
        assert(not pcall(setmetatable, {}, {__gc = loop}))
        for _, v in ipairs({weir.array(), weir.object(), event, weir.hold(event)}) do
          assert(not pcall(function() getmetatable(v).__gc = loop end))
          assert(not pcall(setmetatable, v, {}))
        end
        local late = {}
        setmetatable({}, late)
        late.__gc = loop
        collectgarbage()
        weir.array({}) weir.object({})
        collectgarbage()
    """.replace(", weir.hold(event)}", "}"))


def test_long_lists_are_no_endless_loops(hook):
    """Work at the end of a list costs what it does, not the length of the list."""
    h = hook("""
        function process(event)
          local t = {}
          for i = 1, 200000 do table.insert(t, i) end
          event.sum = 0
          while #t > 0 do event.sum = event.sum + table.remove(t) end
          return event
        end""", ["{}"])
    assert h.out == [{"sum": 200000 * 200001 // 2}]


def test_coroutines_are_luas(hook):
    checks(hook, """
        local gen = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2, "end" end)
        assert(gen(1) == 2)
        local x, word = gen(21)
        assert(x == 42 and word == "end")
        local ok, message = pcall(gen)
        assert(not ok and message:find("cannot resume dead coroutine"), message)
        local closed
        local bad = coroutine.wrap(function()
          local t <close> = setmetatable({}, {__close = function() closed = true end})
          error("in it")
        end)
        ok, message = pcall(bad)
        assert(not ok and message:find("hook.lua:%d+: .*in it") and closed, message)
        ok, message = pcall(coroutine.wrap(function() error({code = 7}) end))
        assert(not ok and message.code == 7)
        assert(not pcall(coroutine.wrap, 1))
        local self
        self = coroutine.wrap(function() self() end)
        ok, message = pcall(self)
        assert(not ok and message:find("non%-suspended"), message)
        local co = coroutine.create(function() error("x") end)
        coroutine.resume(co)
        local done, why = coroutine.close(co)
        assert(done == false and why:find("x") and coroutine.close(coroutine.create(print)))
    """)


def test_list_functions_are_luas(hook):
    checks(hook, """
        local t = {1, 2, 3}
        table.insert(t, 1, 0) table.insert(t, 5, 4) table.insert(t, 5)
        assert(table.concat(t, ",") == "0,1,2,3,4,5")
        assert(table.remove(t, 1) == 0 and table.remove(t) == 5 and table.remove(t, #t + 1) == nil)
        assert(table.concat(t, ",") == "1,2,3,4" and table.remove({}) == nil)
        assert(table.concat(t, "-", 2, 3) == "2-3" and table.concat({}) == "" and table.concat(t) == "1234")
        assert(select("#", table.unpack({1, nil, 3}, 1, 3)) == 3 and table.unpack(t, 4) == 4)
        assert(select("#", table.unpack({})) == 0 and table.pack(table.unpack(t, -1, 1)).n == 3)
        for _, call in ipairs({
          {table.insert, t}, {table.insert, t, 6, 1}, {table.insert, t, 0, 1}, {table.insert, t, 1, 2, 3},
          {table.insert, nil, 1}, {table.insert, "x", 1, 1}, {table.insert, t, "x", 1},
          {table.remove, t, 7}, {table.remove, t, -1}, {table.remove}, {table.concat, {{}}},
          {table.concat}, {table.unpack}, {table.sort}, {table.move, t, 1}}) do
          local ok, message = pcall(table.unpack(call))
          assert(not ok and message:find("bad argument") or message:find("wrong number")
                 or message:find("invalid value") or message:find("nil value"), message)
        end
        event.list = {3, 1, 2}
        table.insert(event.list, 1, 9) table.insert(event.list, 5)
        assert(table.remove(event.list, 2) == 3 and table.concat(event.list, ",") == "9,1,2,5")
        assert(("abc"):byte(1, -1) == 97 and select("#", ("abc"):byte(1, -1)) == 3)
        assert(("abc"):byte(-1) == 99 and ("abc"):byte(9) == nil and ("abc"):byte() == 97)
        assert(utf8.codepoint("äö", 1, -1) == 228 and utf8.len("äö") == 2 and utf8.offset("äö", 2) == 3)
        assert(tonumber("0x10") == 16 and tonumber(" 5 ") == 5 and tonumber("5x") == nil
               and tonumber("z", 36) == 35 and tonumber(7) == 7 and tonumber({}) == nil
               and tonumber("1\0") == nil and math.type(tonumber("1e1")) == "float")
        assert(not pcall(tonumber) and string.packsize("i4i4") == 8)
    """)


def test_a_state_that_stays_full_is_made_anew(hook):
    h = hook("""
        local kept, calls = {}, 0
        function init() generation = (generation or 0) + 1 end
        function process(event)
          calls = calls + 1
          if event.grow then
            while true do kept[#kept + 1] = ("x"):rep(100000) .. #kept end
          end
          return {calls = calls}
        end""", ['{}', '{"grow":true}', '{}', '{}'], "memory: 4MiB")
    assert h.out == [{"calls": 1}, {"calls": 1}, {"calls": 2}]
    assert h.codes == ["lua_memory"]
    assert h.run.find_log("made anew")


def test_what_is_not_there(hook):
    checks(hook, """
        for _, name in ipairs({"io", "debug", "dofile", "loadfile", "os.execute", "os.getenv", "os.exit",
                               "os.remove", "os.rename", "os.tmpname", "os.setlocale", "string.dump",
                               "package.loadlib", "package.cpath", "package.searchers", "warn"}) do
          local at = _G
          for part in name:gmatch("[^.]+") do at = at and at[part] end
          assert(at == nil, name)
        end
        assert(getmetatable(event) == "weir.event")
        assert(not pcall(setmetatable, event, {}))
        assert(load("return 1 + 1")() == 2 and load("return x", "n", "bt", {x = 3})() == 3)
        local f, why = load("return +")
        assert(f == nil and why:find("unexpected symbol"))
        assert(math.type(os.time()) == "integer" and os.time({year=2020, month=1, day=1, hour=12}) > 1e9)
        assert(os.date("!%Y-%m-%d", 0) == "1970-01-01" and #os.date("!%Y") == 4 and os.clock() >= 0)
        assert(collectgarbage("count") > 1 and collectgarbage() == 0)
        local r = math.random()
        assert(r >= 0 and r < 1)
        for i = 1, 100 do local n = math.random(-3, 3) assert(n >= -3 and n <= 3) end
        for i = 1, 100 do local n = math.random(5) assert(n >= 1 and n <= 5) end
        assert(math.type(math.random(0)) == "integer")
        assert(math.random(math.mininteger, math.maxinteger) ~= nil)
        assert(not pcall(math.random, 2, 1))
        math.randomseed(1)
    """)


def test_allow(hook, weir):
    weir.write("from a file", "data.txt")
    h = checks(hook, f"""
        local f = assert(io.open("{weir.folder}/data.txt"))
        event.text = f:read("a")
        f:close()
        assert(os.getenv("PATH") and os.execute and not os.exit)
        assert(debug.traceback and not debug.sethook and not debug.debug)
        assert(package.loadlib)
    """, options="allow: [io, os, debug, loadlib]")
    assert h.out[0]["text"] == "from a file"


def test_string_functions_are_luas(hook):
    checks(hook, r"""
        assert(("hello world"):find("o w") == 5 and ("a.b"):find(".", 1, true) == 2)
        assert(("key = value"):match("^(%w+)%s*=%s*(%w+)$") == "key")
        local k, v = ("key = value"):match("^(%w+)%s*=%s*(%w+)$")
        assert(k == "key" and v == "value")
        assert(("abc"):gsub("%w", "%0%0") == "aabbcc" and ("hello"):gsub("l", {l = "L"}) == "heLLo")
        assert(select(2, ("hello"):gsub("", "-")) == 6 and ("hello"):gsub("", "-") == "-h-e-l-l-o-")
        assert(("x(a(b)c)y"):match("%b()") == "(a(b)c)" and ("THE (quick) fox"):find("%((%a+)%)") == 5)
        assert(("THE (quick) fox"):gsub("%f[%a]%a+", string.lower) == "the (quick) fox")
        local words = {}
        for w in ("one two  three"):gmatch("%S+") do words[#words + 1] = w end
        assert(table.concat(words, "|") == "one|two|three")
        assert(("  trim  "):match("^%s*(.-)%s*$") == "trim" and ("äö"):len() == 4)
        assert(("a\0b"):find("\0") == 2 and ("abab"):match("^(ab)%1$") == "ab")
        assert(("abc"):match("()b()") == 2 and ("x"):rep(3, ",") == "x,x,x")
        for _, bad in ipairs({"%", "[a", "(", ".)", "%b", "%f", "%9"}) do
          assert(not pcall(string.find, "aaa", bad), bad)
        end
    """)


# ---- require -----------------------------------------------------------------------------------

def test_require(hook, weir):
    weir.write("local m = {} function m.double(n) return 2 * n end loads = (loads or 0) + 1 return m",
               "lib.lua")
    weir.write("return {name = ..., lib = require('lib')}", "sub/init.lua")
    weir.write("return require('sub.deep').x", "sub/other.lua")
    weir.write("return {x = 7}", "sub/deep.lua")
    weir.write("side_effect = true", "nothing.lua")
    h = checks(hook, """
        local lib = require("lib")
        assert(lib == require("lib") and lib.double(4) == 8 and loads == 1)
        assert(require("sub").lib == lib and require("sub").name == "sub")
        assert(require("sub.other") == 7 and require("nothing") == true and side_effect)
        assert(require("string") == string and require("math") == math)
        for _, name in ipairs({"", ".", "..", "../secret", "/etc/passwd", "a..b", "lib.", ".lib", "a/b",
                               "lib\\0", "C:\\\\x", "none", ("x"):rep(500)}) do
          local ok, why = pcall(require, name)
          assert(not ok, name)
        end
    """)
    assert h.dead == []


def test_require_cycle(hook, weir):
    weir.write("return require('two')", "one.lua")
    weir.write("return require('three')", "two.lua")
    weir.write("return require('one')", "three.lua")
    weir.write("syntax error here", "bad.lua")
    weir.write("error('while loading')", "raises.lua")
    h = hook("""
        function process(event) return {x = require(event.m)} end
        """, [{"m": m} for m in ("one", "one", "bad", "raises", "missing")])
    assert "modules require each other in a cycle: one -> two -> three -> one" in h.reasons[0]
    assert h.reasons[0] == h.reasons[1]
    assert "bad.lua:1: syntax error near 'error'" in h.reasons[2]
    assert "raises.lua:1: while loading" in h.reasons[3]
    assert "there is no '" in h.reasons[4] and "missing.lua" in h.reasons[4]


# ---- weir.* ------------------------------------------------------------------------------------

def test_init_gets_its_config(hook):
    h = hook("""
        local config
        function init(c) config = c end
        function process(event) return config end
        """, ["{}"], "config: {n: 5, list: [1, two, null, 1.5], deep: {t: true}, text: '007'}")
    assert h.out == [{"n": 5, "list": [1, "two", None, 1.5], "deep": {"t": True}, "text": "007"}]


def test_init_without_config_and_its_failure(hook, weir):
    h = hook("function init(c) assert(next(c) == nil) end function process(e) return e end", ["{}"])
    assert h.raw == [b"{}"]
    weir.write("function init(c) error('not today') end function process(e) return e end", "hook.lua")
    r = weir.run(pipeline("script: hook.lua"), expect=1)
    assert "init(config) failed: hook.lua:1: not today" in r.stderr


def test_hash(hook):
    for text in ("", "abc", "a" * 55, "a" * 56, "a" * 63, "a" * 64, "ü" * 1000):
        got = value_of(hook, "{weir.hash(event.t), weir.hash(event.t, 'fnv1a64')}", {"t": text})
        fnv = 0xcbf29ce484222325
        for byte in text.encode():
            fnv = (fnv ^ byte) * 0x100000001b3 % 2**64
        assert got == [hashlib.sha256(text.encode()).hexdigest(), f"{fnv:016x}"]


def test_time_and_uuid(hook):
    h = checks(hook, """
        local s, ms, us, ns = weir.now(), weir.now("ms"), weir.now("us"), weir.now("ns")
        assert(math.type(s) == "float" and math.type(ms) == "integer")
        assert(math.abs(s - ms / 1000) < 1 and us // 1000 - ms < 1000 and ns // 1000 >= us)
        assert(weir.time.format(0) == "1970-01-01T00:00:00Z")
        assert(weir.time.format(1700000000.123) == "2023-11-14T22:13:20.123Z")
        assert(weir.time.format(1700000000123, "ms") == "2023-11-14T22:13:20.123Z")
        assert(weir.time.format(-1, "ns") == "1969-12-31T23:59:59.999999999Z")
        assert(weir.time.format(-1500, "ms") == "1969-12-31T23:59:58.500Z")
        local t, exact = weir.time.parse("2023-11-14T23:13:20.123456789+01:00")
        assert(math.abs(t - 1700000000.123457) < 1e-5 and exact == 1700000000123456789)
        local none, why = weir.time.parse("yesterday")
        assert(none == nil and why:find("RFC 3339"))
        local a, b = weir.uuid(), weir.uuid()
        assert(a ~= b and a:match("^%x+%-%x+%-7%x%x%x%-[89ab]%x%x%x%-%x+$") and #a == 36)
        event.uuid = a
    """)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
                        h.out[0]["uuid"])


def test_json(hook):
    checks(hook, """
        local text = weir.json.encode({b = {1, 2.0, weir.null, "ä\\0"}, a = weir.array(), o = {}})
        assert(text == '{"a":[],"b":[1,2.0,null,"ä\\\\u0000"],"o":{}}', text)
        assert(weir.json.encode(event) == '{"x":{"y":[]}}' and weir.json.encode("s") == '"s"')
        assert(weir.json.encode(weir.json.decode(text)) == text)
        assert(weir.json.decode("null") == weir.null and weir.json.decode("7") == 7)
        assert(weir.json.decode('{"d":1,"d":2}').d == 1)
        local nothing, why = weir.json.decode("{x}")
        assert(nothing == nil and why:find("byte 1"))
        local fine, message = pcall(weir.json.encode, {print})
        assert(not fine and message:find("%[1%]: a function has no JSON form"))
    """, '{"x":{"y":[]}}')


def test_log_and_print(hook):
    h = checks(hook, """
        weir.log.info("a message", {n = 1, f = 0.5, t = true, s = "text", e = event.o})
        weir.log.warn("warned")
        weir.log.error("an error", {})
        weir.log.debug("not shown")
        print("printed", 1, nil)
    """, '{"o":{"k":[1]}}')
    line = h.run.find_log("a message")[0]
    assert (line["n"], line["f"], line["t"], line["s"], line["e"]) == (1, 0.5, True, "text", '{"k":[1]}')
    assert line["component"] == "hook" and line["level"] == "info"
    assert h.run.find_log("warned")[0]["level"] == "warn"
    assert h.run.find_log("an error")[0]["level"] == "error"
    assert h.run.find_log("script prints")[0]["text"] == "printed\t1\tnil"
    assert not h.run.find_log("not shown") and h.run.stdout == ""


def pipeline(options, source="{type: file, path: in.ndjson}", sink="{type: file, path: out.ndjson}"):
    return (f"name: p\nsources: {{in: {source}}}\ntransforms:\n  hook:\n    type: lua\n    inputs: [in]\n"
            + textwrap.indent(textwrap.dedent(options), "    ")
            + f"\nsinks:\n  out: {sink[:-1]}, inputs: [hook], on_reject: drop}}\n  dead: {{type: file, "
              "path: dead.ndjson}\ndead_letter: dead\n")


def test_metrics(weir):
    r = weir.start(pipeline("""\
        code: |
          function process(event)
            weir.metric("seen")
            weir.metric("by_type", 2, "counter", {type = event.type, lane = 0})
            weir.metric("level", 1.5, "gauge")
            weir.metric("took", 0.01, "histogram")
            if event.type == "click" then weir.drop(event, "clicks") return nil end
            if event.type == "login" then return nil end
            return event
          end
        """, "{type: generate, count: 200, seed: 1}", "{type: blackhole}"), """\
name: beside
sources: {in: {type: generate, rate: 1}}
sinks: {out: {type: blackhole, on_reject: drop}}
""")
    r.wait_metric("weir_lua_seen_total", 200, component="hook")
    m = r.metrics()
    assert m.get("weir_lua_by_type_total") == 400
    clicks = m.get("weir_lua_by_type_total", type="lua", component="hook")
    assert clicks in (0, 400)  # `type` is the component's own label first
    assert m.get("weir_lua_level", component="hook") == 1.5
    assert m.get("weir_lua_took_seconds_count", component="hook") == 200
    assert m.get("weir_component_discarded_events_total", reason="clicks") > 0
    assert m.get("weir_lua_seconds_count", component="hook") >= 1
    assert m.get("weir_lua_memory_bytes", component="hook", lane="0") > 10000
    r.stop()


def test_cache(hook):
    checks(hook, """
        local c = weir.cache
        assert(c.get("none") == nil and c.delete("none") == false)
        for key, value in pairs({s = "text\\0x", i = math.maxinteger, f = 0.1, t = true, n = false}) do
          assert(c.set(key, value))
          assert(c.get(key) == value and math.type(c.get(key)) == math.type(value), key)
        end
        assert(c.set("table", {a = {1, 2}, e = weir.array()}))
        assert(weir.json.encode(c.get("table")) == '{"a":[1,2],"e":[]}')
        assert(c.set("event", event) and c.get("event").x == 1)
        assert(c.set("null", weir.null) and c.get("null") == weir.null)
        assert(c.set("s", nil) and c.get("s") == nil)
        assert(c.add("count") == 1 and c.add("count", 5) == 6 and c.add("count", -2) == 4)
        assert(c.add("t") == nil and c.get("t") == true)
        assert(c.set("short", 1, 0.02) and c.get("short") == 1)
        local until_ = os.clock() + 0.05
        while os.clock() < until_ do end
        assert(c.get("short") == nil and c.add("short", 1) == 1)
        assert(c.set("large", ("x"):rep(70000)) == false and c.get("large") == nil)
        for i = 1, 5000 do c.set("k" .. i, ("y"):rep(50)) end
        assert(c.get("k5000") and c.get("k1") == nil, "the oldest have gone")
        assert(not pcall(c.set, "k", 1, -1))
    """, options="cache: 64KiB\ninstructions: 1000000000")


def test_the_cache_is_shared_by_lanes_and_kept_by_none(weir):
    weir.write("".join('{"n":%d}\n' % n for n in range(20000)), "in.ndjson")
    r = weir.run(pipeline("""\
        code: |
          local last
          function process(event) return {sum = weir.cache.add("n", 1)} end
        """, "{type: file, path: in.ndjson, lanes: 2}"))
    sums = [json.loads(l)["sum"] for l in (weir.folder / "out.ndjson").read_text().splitlines()]
    assert sorted(sums) == list(range(1, 20001)), r.report()


# ---- batches, tick, hold, join ------------------------------------------------------------------

def test_process_batch(hook):
    h = hook("""
        function process_batch(events)
          local out, sum = {}, 0
          for i, event in ipairs(events) do
            sum = sum + event.n
            if event.n % 3 == 0 then
              event.third = true
              weir.meta(event).key = "k"
              out[#out + 1] = event
            elseif event.n == 4 then
              out[#out + 1] = weir.derive(event, {child_of = 4})
              out[#out + 1] = {event, "odd"}
            elseif event.n == 5 then
              weir.drop(event, "five")
            end
          end
          out[#out + 1] = {sum = sum, of = #events}
          out[#out + 1] = {weir.join({events[1], events[2]}, {joined = 2}), "odd"}
          return out
        end""", [{"n": n} for n in range(1, 8)] + ["nope"], "ports: [odd]",
             "odd: {type: file, inputs: [hook.odd], path: odd.ndjson}")
    assert h.out == [{"n": 3, "third": True}, {"child_of": 4}, {"n": 6, "third": True},
                     {"sum": 28, "of": 7}]
    assert [json.loads(l) for l in h.lines("odd.ndjson")] == [{"n": 4}, {"joined": 2}]
    assert h.codes == ["bad_json"]


@pytest.mark.parametrize("result, out", [("events", 3), ("nil", 0), ("{}", 0), ("events[2]", 1)])
def test_process_batch_results(hook, result, out):
    h = hook(f"function process_batch(events) return {result} end", ['{"n":1}'] * 3)
    assert len(h.raw) == out and h.dead == []


def test_process_batch_failure_fails_its_events(hook):
    h = hook("function process_batch(events) for _, e in ipairs(events) do e.x = 1 end error('all') end",
             ['{"n":1}', '{"n":2}', "bad"])
    assert h.raw == [] and sorted(h.codes) == ["bad_json", "lua_error", "lua_error"]
    assert {d["payload"] for d in h.dead} == {'{"n":1}', '{"n":2}', "bad"}


AGGREGATE = """
    local groups, order = {}, {}
    function process(event, meta)
      local group = groups[event.user]
      if not group then
        group = {sum = 0}
        groups[event.user] = group
        order[#order + 1] = event.user
      end
      group.sum = group.sum + event.n
      group[#group + 1] = weir.hold(event)
    end
    function tick(final)
      local out = {}
      for _, user in ipairs(order) do
        local group = groups[user]
        local first = group[1]
        assert(first.user == user and weir.meta(first).id and #first.list == 2)
        out[#out + 1] = weir.join({table.unpack(group)},
                                  {user = user, sum = group.sum, n = #group, first = first.n},
                                  {key = user, headers = {kind = "sum"}})
      end
      groups, order = {}, {}
      return out
    end
"""


def test_hold_and_join(hook):
    h = hook(AGGREGATE, [{"user": u, "n": n, "list": [1, 2]} for n, u in enumerate("ababac")])
    assert h.out == [{"user": "a", "sum": 6, "n": 3, "first": 0}, {"user": "b", "sum": 4, "n": 2, "first": 1},
                     {"user": "c", "sum": 5, "n": 1, "first": 5}]
    assert h.dead == []


def test_acks_wait_for_what_was_made_of_held_events(weir):
    """The file's position moves only when the joined event has ended."""
    weir.write(textwrap.dedent(AGGREGATE), "hook.lua")
    weir.write("".join('{"user":"u%d","n":1,"list":[0,0]}\n' % (n % 7) for n in range(5000)), "in.ndjson")
    weir.run(pipeline("script: hook.lua\ninterval: 5ms"))
    events = [json.loads(l) for l in (weir.folder / "out.ndjson").read_text().splitlines()]
    assert sum(e["sum"] for e in events) == 5000 == sum(e["n"] for e in events)


def test_held_events_go_out_as_they_are(hook):
    h = hook("""
        local held = {}
        function process(event)
          event.edited = true
          held[#held + 1] = weir.hold(event)
        end
        function tick()
          local out = held
          held = {}
          return out
        end""", ['{"n":1}', '{"n":2}'])
    assert h.out == [{"n": 1, "edited": True}, {"n": 2, "edited": True}]


def test_held_events_can_be_dropped(hook):
    h = hook("""
        local held = {}
        function process(event) held[#held + 1] = weir.hold(event) end
        function tick()
          for i = 1, 3 do weir.drop(held[i]) end
          local last = held[4]
          held = {}
          return last
        end""", [{"n": n} for n in range(4)])
    assert [e["n"] for e in h.out] == [3] and h.dead == []


def test_what_is_still_held_at_the_end_is_not_lost(hook):
    h = hook("""
        local held = {}
        function process(event) held[#held + 1] = weir.hold(event) end
        """, ['{"n":1}', '{"n":2}'])
    assert h.raw == [] and h.codes == ["lua_held"] * 2
    assert sorted(d["payload"] for d in h.dead) == ['{"n":1}', '{"n":2}']
    assert "still held this event after its last tick" in h.reasons[0]


def test_a_held_event_that_the_script_forgot_is_not_lost(hook):
    h = hook("""
        function process(event)
          if event.n < 3 then weir.hold(event) return end
          return event
        end
        function tick() collectgarbage() end
        """, [{"n": n} for n in range(5)])
    assert [e["n"] for e in h.out] == [3, 4] and h.codes == ["lua_held"] * 3


def test_mistakes_with_held_events(hook):
    h = hook("""
        local held, failed = nil, nil
        function process(event, meta)
          local ok, why
          if event.n == 1 then held = weir.hold(event) assert(held.n == 1) return end
          if event.n == 2 then failed = weir.hold(event) error("after hold") end
          if event.n == 3 then held.x = 1 end
          if event.n == 4 then return {x = failed.n} end
          if event.n == 5 then weir.drop(held, "why") end
          if event.n == 6 then return {held, held} end
          if event.n == 7 then return {held, weir.join({held}, {})} end
          if event.n == 8 then return {weir.join({event, held, failed}, {n = held.n, m = event.n})} end
          if event.n == 9 then return {x = held.n} end
          if event.n == 10 then weir.hold(event) weir.hold(event) end
          if event.n == 11 then held = weir.join({event}, {}) return event end
          if event.n == 12 then return held end
          return event
        end""", [{"n": n} for n in range(1, 14)])
    assert h.out == [{"n": 11}, {"n": 13}, {"n": 1, "m": 8}]  # joined ones leave behind the batch
    expected = ["after hold", "a held event cannot be changed", "this held event is over",
                "without a reason", "given out twice", "given out twice", "this held event is over",
                "held or dropped already", "kept past its call"]
    assert len(h.reasons) == len(expected), h.reasons
    for reason, words in zip(h.reasons, expected):
        assert words in reason


def test_tick_makes_events_of_its_own(weir):
    r = weir.start(pipeline("""\
        interval: 20ms
        ports: [side]
        drop: [side]
        code: |
          local n = 0
          function process(event) end
          function tick(final)
            n = n + 1
            if n == 2 then error("once") end
            return {{tick = n, final = final}, {{side = n}, "side"}}
          end
          function shutdown() weir.log.info("shut down", {n = n}) end
        """, "{type: generate, rate: 10}"))
    out = weir.folder / "out.ndjson"
    wait_until(lambda: out.exists() and out.read_text().count("\n") >= 3, 20, "three ticks")
    r.stop()
    ticks = [json.loads(l) for l in out.read_text().splitlines()]
    assert [t["tick"] for t in ticks] == [1, *range(3, len(ticks) + 2)]
    assert [t["final"] for t in ticks] == [False] * (len(ticks) - 1) + [True]
    assert r.find_log("yaml:15: once") and r.find_log("shut down", n=len(ticks) + 1)


# ---- check -------------------------------------------------------------------------------------

WRONG = {
    "neither": ("config: {}", "neither 'script' nor 'code' is given"),
    "both": ("script: fine.lua\ncode: 'function process() end'", "'script' and 'code' are both given"),
    "no file": ("script: nowhere.lua", "nowhere.lua"),
    "a folder": ("script: .", "not a regular file"),
    "syntax in file": ("script: bad.lua", "bad.lua:2: syntax error near 'is'"),
    "syntax in code": ("code: |\n  function process(event)\n    return event +\n  end",
                       "unexpected symbol near 'end'"),
    "no hook": ("code: 'x = 1'", "the script defines no hook"),
    "two hooks": ("code: 'function process() end function process_batch() end'",
                  "both process and process_batch"),
    "no function": ("code: 'process = 5'", "the global 'process' is a number value"),
    "top level raises": ("code: |\n  local x = 1\n  error('at load')", "at load"),
    "top level loops": ("code: 'while true do end'\ninstructions: 100000", "budget of 100000 instructions"),
    "bytecode": ("script: bytecode.lua", "attempt to load a binary chunk"),
    "interval without tick": ("code: 'function process() end'\ninterval: 1s", "no tick()"),
    "bad allow": ("code: 'function process() end'\nallow: [network]", "network"),
    "memory too small": ("code: 'function process() end'\nmemory: 10KiB", "memory"),
    "bad port": ("code: 'function process() end'\nports: ['a b']", "port"),
    "port twice": ("code: 'function process() end'\nports: [a, a]", "twice"),
    "unknown option": ("code: 'function process() end'\nscripts: x.lua", "scripts"),
    "require of nothing": ("script: requires.lua", "module 'none' not found"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_configurations(weir, name):
    options, message = WRONG[name]
    weir.write("{}\n", "in.ndjson")
    weir.write("function process(e) return e end", "fine.lua")
    weir.write("function process(e)\n  this is wrong\nend", "bad.lua")
    weir.write("local x = require('none')", "requires.lua")
    weir.write(b"\x1bLua\x54\x00", "bytecode.lua")
    checked = weir.check(pipeline(options), expect=1)
    assert message in checked.text, checked
    assert re.search(r"pipeline-\d+\.yaml:\d+:\d+", checked.text)


def test_an_error_in_code_points_at_its_line(weir):
    weir.write("{}\n", "in.ndjson")
    text = pipeline("code: |\n  function process(event)\n    local x = = 1\n    return event\n  end")
    checked = weir.check(text, expect=1)
    line = [i for i, l in enumerate(text.splitlines(), 1) if "= =" in l][0]
    column = text.splitlines()[line - 1].index("= =") + 3
    assert f":{line}:{column}" in checked.text, checked


CODES = {
    "block": ("""code: |

          -- a comment
          local function deep(x)
              return x.y.z
          end

          function process(event)
              return deep(event)
          end""", "x.y.z"),
    "block, stripped, indented": ("""code: |2-
            local t = nil
            function process(event)
              t.x = 1
            end""", "t.x"),
    "one line": ('code: "function process(event) error(\'no\') end"', "code:"),
    "flow": ("code: 'function process(event)\n\n      error(1 .. nil) end'", "code:"),
    "folded": ("""code: >
          function process(event)

          error("no")

          end""", "function"),
    "hash": ("""code: |
          #!/usr/bin/lua
          function process(event) error("no") end""", "code:"),
}


@pytest.mark.parametrize("name", CODES)
def test_a_failure_of_code_names_the_pipeline_file_and_its_line(weir, name):
    code, wanted = CODES[name]
    weir.write("{}\n", "in.ndjson")
    text = pipeline(code)
    path = weir.write(text, "hooked.yaml")
    run = weir.run(path)
    dead = json.loads((weir.folder / "dead.ndjson").read_bytes())
    line = [i for i, l in enumerate(text.splitlines(), 1) if wanted in l][0]
    if name in ("flow", "folded", "hash"):  # its lines are not the file's
        assert re.match(r"hooked\.yaml:\d+ code:\d+: ", dead["reason"]), dead
    else:
        assert dead["reason"].startswith(f"hooked.yaml:{line}: "), dead
    assert "hooked.yaml" in run.find_log("event failed")[0]["reason"]


def test_init_of_code_that_fails_names_its_line(weir):
    weir.write("{}\n", "in.ndjson")
    text = pipeline("code: |\n  function init(config)\n    error('no')\n  end\n"
                    "  function process(e) end")
    path = weir.write(text, "hooked.yaml")
    line = [i for i, l in enumerate(text.splitlines(), 1) if "error(" in l][0]
    assert f"hooked.yaml:{line}: no" in weir.run(path, expect=1).report()


def test_tick_without_interval_is_a_warning(weir):
    weir.write("{}\n", "in.ndjson")
    checked = weir.check(pipeline("code: 'function tick() end'"), expect=0)
    assert "tick() is called only once" in checked.text


# ---- README ------------------------------------------------------------------------------------

README = (ROOT / "plugins/lua/README.md").read_text()
SCRIPTS = re.findall(r"```lua\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_readme_scripts_run(weir, number):
    """Each block is a whole script; `-- in:` and `-- out:` lines in it say what goes in and comes out."""
    script = SCRIPTS[number]
    events = re.findall(r"^-- in: (.*)$", script, re.MULTILINE)
    expected = [json.loads(l) for l in re.findall(r"^-- out: (.*)$", script, re.MULTILINE)]
    options = "\n".join(re.findall(r"^-- option: (.*)$", script, re.MULTILINE))
    assert events, "a script without '-- in:' shows nothing"
    h = Hooked(weir, script, events, options)
    assert h.dead == [], h.reasons
    assert h.out == expected


def test_readme_names_everything(weir):
    for option in re.findall(r'\.name = "(\w+)"', (ROOT / "plugins/lua/transform.c").read_text()):
        assert f"`{option}`" in README, option
    names = "now uuid hash array object null copy type meta rename drop hold join derive metric".split()
    for name in names + ["time.format", "time.parse", "json.encode", "json.decode", "log.info",
                         "cache.get", "cache.set", "cache.add", "cache.delete"]:
        assert f"weir.{name}" in README, name
