# SPDX-License-Identifier: Apache-2.0
"""Transform lua: what becomes of the mistakes of scripts, and what they cannot do."""
import json

import pytest

from lua_rig import checks, hook, pipeline


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
    ("weir.metric('m', 0.5)", "by whole numbers"),
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


def test_the_most_fields_of_one_object(hook):
    """What the README says of the default: 17500 go, 18000 are too many."""
    h = hook("""
        function process(event)
          local t = {}
          for i = 1, event.n do t["k" .. i] = i end
          event.t = t
          return event
        end""", [{"n": 17500}, {"n": 18000}])
    assert [len(e["t"]) for e in h.out] == [17500]
    assert [dead["code"] for dead in h.dead] == ["lua_timeout"]


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
    "out of the cache": "weir.cache.set('k', ('x'):rep(1 << 16)) while true do weir.cache.get('k') end",
    "tables out of the cache": "weir.cache.set('k', {('x'):rep(1 << 16)}) while true do weir.cache.get('k') end",
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
