# SPDX-License-Identifier: Apache-2.0
"""Transform lua: what hooks read, change and return."""
import json

import pytest

from lua_rig import checks, hook


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
