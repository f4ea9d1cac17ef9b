# SPDX-License-Identifier: Apache-2.0
"""Transform lua: scripts that mean harm. Whatever one does in a call is an error of that event, which is kept as
it entered; the state, the other hooks and the events behind it go on."""
import json
import re

import pytest

from lua_rig import hook, pipeline  # noqa: F401

ANY = "lua_error|lua_timeout|lua_memory"
PASSES = None

# name: (body, the code that the dead letter has, a part of its reason). PASSES: the script caught it all, and what
# counts is that nothing broke.
SLOW = {
    "comparing long texts": "local a = big .. 'a' local b = big .. 'b' while a ~= b do end",
    "ordering long texts": "local b = big .. '' while big <= b do end",
    "ordering them in a coroutine": "local b = big .. '' coroutine.wrap(function() while big <= b do end end)()",
    "long numbers in arithmetic": "while true do local x = digits + 1 end",
    "long numbers as arguments": "while true do math.abs(digits) end",
    "tonumber with a base": "while true do tonumber(digits, 10) end",
    "long keys": "local t = {[big] = 1} local u = big:sub(1, -2) .. 'x' while true do local v = t[u] end",
    "next over emptied tables": """
        local t = {} for i = 1, 1 << 16 do t[i .. ''] = 1 end
        for k in pairs(t) do t[k] = nil end
        while true do next(t) end""",
    "many values from call to call": """
        local t = {} for i = 1, 100000 do t[i] = i end
        local function g(...) return select('#', ...) end
        local function f(...) while true do g(...) end end
        f(table.unpack(t))""",
    "sorting one long text": "local t = {} for i = 1, 50000 do t[i] = big end table.sort(t)",
    "compiling blanks": "local s = (' '):rep(1 << 22) while true do load(s) end",
    "compiling gotos": """
        local t = {}
        for i = 1, 9000 do t[#t + 1] = 'goto l' .. i .. ' ' end
        for i = 1, 9000 do t[#t + 1] = '::l' .. i .. '::' end
        local s = table.concat(t)
        while true do load(s) end""",
    "finding what is nearly there": "local p = ('a'):rep(4096) .. 'b' local s = ('a'):rep(1 << 22) "
                                    "while true do s:find(p, 1, true) end",
    "dates": "local s = ('%c'):rep(1 << 16) while true do os.date(s) end",
    "an array from its end": "while true do for i = #event.list, 1, -1 do local n = event.list[i] end end",
    "long lines": "while true do print(big) weir.log.info(big, {k = big}) end",
    "errors with long texts": "while true do pcall(error, big) end",
    "times": "while true do weir.time.parse(digits) end",
}

STACKS = {
    "recursion": ("local function f() return 1 + f() end f()", ""),
    "recursion by gsub": ("local function f(s) return (s:gsub('.', f)) end f('x')", "stack overflow"),
    "recursion by sort": ("local function f() table.sort({3, 2, 1}, f) end f()", "stack overflow"),
    "recursion by __index": ("local t = setmetatable({}, {__index = function(t, k) return t[k .. 'x'] end}) "
                             "return t.x", "stack overflow"),
    "recursion by __tostring": ("local m = {} m.__tostring = function(t) return tostring(t) end "
                                "tostring(setmetatable({}, m))", "stack overflow"),
    "recursion by __close": ("local function f() local x <close> = setmetatable({}, {__close = f}) error('x') end f()",
                             ""),
    "recursion by load": ("local function f() return load(function() f() return nil end) end f()", None),
    "a table that is its own __call": ("local m = {} local t = setmetatable({}, m) m.__call = t t()", ""),
    "a table that is its own __index": ("local m = {} m.__index = setmetatable({}, m) m.__index.x()", "loop"),
    "pcall in pcall": ("local function f() return pcall(f) end f()", None),
    "xpcall in its handler": ("local function f() return xpcall(error, f) end f()", None),
    "coroutines in coroutines": ("local function f() return coroutine.wrap(f)() end f()", ""),
    "parentheses": ("assert(load(('('):rep(100000)))", "overflow"),
    "a deep table": ("local t = {} for i = 1, 100000 do t = {t} end event.t = t", "deep"),
    "a table in itself": ("local t = {} t.t = t event.t = t", "deep"),
    "deep JSON": ("local v, why = weir.json.decode(('['):rep(100000)) error(why)", "bad JSON"),
    "too many arguments": ("return (''):rep(1, table.unpack({}, 1, 1 << 30))", ""),
    "values of a million bytes": ("return (('x'):rep(1 << 20)):byte(1, -1)", ""),
}

ERRORS = {
    "nil": ("error(nil)", "nil value"),
    "a table whose text is an error": ("error(setmetatable({}, {__tostring = function() error('again') end}))", "table"),
    "a table whose text is none": ("error(setmetatable({}, {__tostring = function() return {} end}))", "table"),
    "a table with a long name": ("error(setmetatable({}, {__name = big}))", "table"),
    "a name for messages": ("return setmetatable({}, {__name = big}) + 1", "arithmetic"),
    "a function": ("error(print)", "function"),
    "a coroutine": ("error(coroutine.create(print))", "thread"),
    "the event": ("error(event)", ""),
    "an error in the handler": ("error(select(2, xpcall(error, function() error('in it') end)))", ""),
    "a handler that is none": ("xpcall(error, 5)", "bad argument"),
    "an error in __close": ("local x <close> = setmetatable({}, {__close = function() error('closing') end})",
                            "closing"),
    "errors in __close, one behind the other": ("""
        for i = 1, 100 do
          pcall(function()
            local a <close> = setmetatable({}, {__close = function() error('a') end})
            local b <close> = setmetatable({}, {__close = function() error('b') end})
            error('c')
          end)
        end
        error('survived')""", "survived"),
    "a text that is no UTF-8": ("event.x = '\\xff\\xfe'", "UTF-8"),
    "a character that is none": ("event.x = utf8.char(0x7fffffff)", "UTF-8"),
    "not a number": ("event.x = 0/0", ""),
    "infinity": ("event.x = math.huge", ""),
    "a key that is a table": ("event[{}] = 1", ""),
    "a function in the event": ("event.x = {y = {print}}", "no JSON form"),
    "__pairs on what is returned": ("event.x = setmetatable({x = print}, {__pairs = function() return next, {}, nil end})",
                                    "no JSON form"),
    "yield in the hook": ("coroutine.yield(1)", "outside a coroutine"),
    "yield in sort": ("coroutine.wrap(function() table.sort({2, 1}, coroutine.yield) end)()", "C-call"),
    "yield in gsub": ("coroutine.wrap(function() return ('x'):gsub('x', coroutine.yield) end)()", "C-call"),
    "yield in load": ("coroutine.wrap(function() assert(load(coroutine.yield)) end)()", "C-call"),
    "closing oneself": ("coroutine.wrap(function() coroutine.close(coroutine.running()) end)()", "running"),
    "closing the main one": ("coroutine.close(coroutine.running())", "running"),
    "resuming oneself": ("assert(coroutine.resume(coroutine.running()))", "non-suspended"),
    "a dead one": ("local f = coroutine.wrap(error) pcall(f) f()", "dead"),
    "bytecode": ("assert(load('\\27Lua', 'x', 'b'))", "binary chunk"),
    "bytecode in pieces": ("local n = 0 assert(load(function() n = n + 1 return ('\\27Lua'):sub(n, n) end, 'x', 'b'))",
                           "binary chunk"),
    "bytecode from a file": ("require('bytes')", "binary chunk"),
    "a module that requires itself": ("require('selfish')", "cycle"),
    "stopping the collector": ("collectgarbage('stop')", "invalid option"),
    "a finalizer": ("setmetatable({}, {__gc = print})", "__gc"),
    "the metatable of events": ("getmetatable(event).__index = print", ""),
    "unprotecting it": ("setmetatable(event, nil)", ""),
    "formats": ("string.format('%1000d', 1)", "invalid"),
    "pointers": ("string.format('%99999999p', {})", "invalid"),
    "packing": ("string.pack('!17i4', 1)", "17"),
    "unpacking": ("string.unpack('s8', ('\\xff'):rep(8))", "too short"),
    "far dates": ("os.date('*t', 1e300)", ""),
    "wrong dates": ("os.date('%Ez')", "invalid conversion"),
    "years": ("os.time({year = 1 << 40, month = 1, day = 1})", ""),
    "exit": ("os.exit(0)", "nil value"),
}

BOMBS = {
    "leaked coroutines": "local t = {} for i = 1, 1e7 do t[i] = coroutine.wrap(function() coroutine.yield() end) t[i]() end",
    "doubling": "local s = 'x' while true do s = s .. s end",
    "doubling under pcall": "local s = 'x' while true do pcall(function() s = s .. s end) end",
    "repeating": "return ('x'):rep(1e10)",
    "repeating with separators": "return ('x'):rep(1e8, 'yyyyyyyyyy')",
    "joining": "local t = {} for i = 1, 1e5 do t[i] = big end return table.concat(t)",
    "closures": "local t = {} while true do t[#t + 1] = function() return t end end",
    "replacing": "return (('a'):rep(1 << 20)):gsub('a', ('b'):rep(1000))",
    "quoting": "local s = ('\\0'):rep(1 << 20) while true do s = string.format('%q', s) end",
    "an event full of it": "for i = 1, 1e6 do event['k' .. i] = big end",
    "headers": "for i = 1, 1e6 do meta.headers['h' .. i] = big end",
    "copies": "local t = {} while true do t[#t + 1] = weir.copy(event) end",
}

SABOTAGE = {
    "the global table": "setmetatable(_G, {__index = error, __newindex = error})",
    "the text's methods": "getmetatable('').__index = nil getmetatable('').__name = 5",
    "the text's arithmetic": "getmetatable('').__add = function() while true do end end",
    "libraries": "string, table, math, weir, coroutine, pcall, error, tostring = nil",
    "parts of them": "for k in pairs(weir) do weir[k] = error end for k in pairs(string) do string[k] = error end",
    "hooks": "process, process_batch, init, tick, shutdown = error, error, error, error, error",
    "all of it": "local g = _G for k in pairs(g) do g[k] = nil end",
    "what was loaded": "for k in pairs(package.loaded) do package.loaded[k] = nil end package.loaded = nil",
}


def hooks(bodies):
    functions = ",\n".join(f"  function(event, meta) {body} end" for body in bodies)
    return f"""
big = ('y'):rep(1 << 20)
digits = ('1'):rep(1 << 20)
local hostile = {{
{functions}
}}
function process(event, meta)
  if event.h then event.broken = true hostile[event.h](event, meta) end
  event.ok = true
  return event
end"""


def run_all(hook, weir, cases, options):  # noqa: F811
    """One weir for all of them: a hostile event each, a good one behind it, and then all once more."""
    weir.write(b"\x1bLua\x54\x00", "bytes.lua")
    weir.write("return require('selfish')", "selfish.lua")
    lines = []
    for n, _ in list(enumerate(cases, 1)) * 2:
        lines += [{"h": n, "list": list(range(2000))}, {"good": len(lines)}]
    h = hook(hooks(cases.values()), lines, options, timeout=240)
    good = [e["good"] for e in h.out if "good" in e]
    assert good == [line["good"] for line in lines if "good" in line] and all(e["ok"] for e in h.out)
    payloads = {json.dumps({"h": n, "list": list(range(2000))}): name for n, name in enumerate(cases, 1)}
    dead = {}
    for letter in h.dead:
        dead.setdefault(payloads[letter["payload"]], []).append(letter)  # byte for byte as it entered
    passed = [list(cases)[e["h"] - 1] for e in h.out if "h" in e]
    return dead, passed


def check(dead, passed, name, code, reason):
    if reason is PASSES:  # it caught its errors
        assert len(dead.get(name, [])) + passed.count(name) == 2
        return
    assert len(dead.get(name, [])) == 2, f"{name}: {dead.get(name)} {passed.count(name)}"
    for letter in dead[name]:
        assert re.fullmatch(code, letter["code"]) and reason in letter["reason"], f"{name}: {letter['reason']}"
        assert len(letter["reason"]) <= 330


@pytest.mark.long(40)
def test_work_that_no_instruction_shows(hook, weir):  # noqa: F811
    dead, passed = run_all(hook, weir, SLOW, "instructions: 1000000\nmemory: 32MiB")
    for name in SLOW:
        check(dead, passed, name, "lua_timeout", "budget of 1000000 instructions")


@pytest.mark.long(20)
@pytest.mark.sanitize
@pytest.mark.parametrize("cases", [STACKS, ERRORS], ids=["stacks", "errors"])
def test_errors_of_all_sorts(hook, weir, cases):  # noqa: F811
    dead, passed = run_all(hook, weir, {name: body for name, (body, _) in cases.items()}, "memory: 32MiB")
    for name, (_, reason) in cases.items():
        check(dead, passed, name, ANY, reason)


@pytest.mark.long(20)
@pytest.mark.sanitize
def test_memory(hook, weir):  # noqa: F811
    dead, passed = run_all(hook, weir, BOMBS, "memory: 16MiB")
    for name in BOMBS:
        check(dead, passed, name, ANY if name.startswith("repeating") else "lua_memory|lua_timeout", "")


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_script_breaks_only_itself(weir, name):
    """The event passes, later ones of that script do (or are errors), and another component's are untouched."""
    weir.write('{"n":1}\n{"n":2}\n{"n":3}\n', "in.ndjson")
    weir.run(f"""
name: p
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms:
  bad:
    type: lua
    inputs: [in]
    code: |
      function process(event)
        if event.n == 1 then {SABOTAGE[name]} end
        event.text = "t"
        return event
      end
  good:
    type: lua
    inputs: [bad]
    code: |
      function process(event)
        event.seen = ("%s-%d"):format(event.text:upper(), event.n + 0)
        event.id = #weir.uuid()
        return event
      end
  more: {{type: filter, inputs: [good], condition: event.seen:lower() ~= "x"}}
sinks:
  out: {{type: file, inputs: [more], path: out.ndjson}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
""")
    found = [json.loads(line) for line in (weir.folder / "out.ndjson").read_text().splitlines()]
    assert found == [{"n": n, "text": "t", "seen": f"T-{n}", "id": 36} for n in (1, 2, 3)]


# ---- other hooks -------------------------------------------------------------------------------

ENDLESS = {
    "loop": "while true do end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "coroutine": "coroutine.wrap(function() while true do end end)()",
    "memory": "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    "long texts": "local a = ('x'):rep(1 << 20) local b = a .. '' while a <= b do end",
    "error": "error(setmetatable({}, {__tostring = error}))",
}
LIMITS = "instructions: 1000000\nmemory: 8MiB\n"


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("where", ["init", "top level"])
def test_a_hostile_start(weir, name, where):
    """The pipeline does not start, and the process says why."""
    weir.write("{}\n", "in.ndjson")
    body = ENDLESS[name]
    start = f"function init() {body} end" if where == "init" else body
    weir.write(f"function process(e) return e end\n{start}\n", "hook.lua")
    r = weir.run(pipeline(LIMITS + "script: hook.lua"), expect=1)
    assert re.search("budget of 1000000|memory limit of 8388608|error object is a table", r.stderr), r.report()


@pytest.mark.parametrize("name", ENDLESS)
def test_a_hostile_tick(weir, name):
    weir.write(f"function tick() {ENDLESS[name]} end\nfunction process(e) return e end\n", "hook.lua")
    r = weir.start(pipeline(LIMITS + "script: hook.lua\ninterval: 50ms", source="{type: generate, rate: 200}"))
    r.wait_log("tick failed")
    before = r.metric("weir_component_sent_events_total", component="out")
    r.wait_metric("weir_component_sent_events_total", before + 200, component="out")
    r.stop()


@pytest.mark.parametrize("name", ENDLESS)
def test_a_hostile_shutdown(weir, name):
    weir.write("{}\n", "in.ndjson")
    weir.write(f"function process(e) return e end\nfunction shutdown() {ENDLESS[name]} end\n", "hook.lua")
    r = weir.run(pipeline(LIMITS + "script: hook.lua"))
    assert r.find_log("shutdown() failed") and (weir.folder / "out.ndjson").read_text() == "{}\n"


CONDITIONS = {
    "loop": "(function() while true do end end)()",
    "recursion": "(function(f) return f(f) end)(function(f) return 1 + f(f) end)",
    "memory": "#('x'):rep(1 << 30) > 1",
    "pattern": "('a'):rep(40):find(('a?'):rep(40) .. ('a'):rep(40) .. 'b')",
    "long texts": "(function(a, b) while a <= b do end end)(('x'):rep(1 << 22), ('x'):rep(1 << 22))",
    "changing the event": "(function() event.n = 5 end)()",
}


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("type", ["filter", "route"])
def test_a_hostile_condition(weir, name, type):
    weir.write('{"n":1}\n{"n":2}\n', "in.ndjson")
    condition = json.dumps(f"event.n == 2 or {CONDITIONS[name]}")
    options = f"condition: {condition}" if type == "filter" else f"routes: {{yes: {condition}}}, drop: [other]"
    port = "it" if type == "filter" else "it.yes"
    weir.run(f"""
name: p
sources: {{in: {{type: file, path: in.ndjson}}}}
transforms: {{it: {{type: {type}, inputs: [in], {options}}}}}
sinks:
  out: {{type: file, inputs: [{port}], path: out.ndjson}}
  dead: {{type: file, path: dead.ndjson}}
dead_letter: dead
""", timeout=120)
    assert (weir.folder / "out.ndjson").read_text() == '{"n":2}\n'
    dead = [json.loads(line) for line in (weir.folder / "dead.ndjson").read_text().splitlines()]
    assert [d["payload"] for d in dead] == ['{"n":1}'] and re.fullmatch(ANY, dead[0]["code"])
