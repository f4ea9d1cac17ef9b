# SPDX-License-Identifier: Apache-2.0
"""Transform lua: the functions of weir.*, whole batches, ticks, held events."""
import hashlib
import json
import re
import textwrap

import pytest

from lua_rig import checks, hook, pipeline, value_of
from weirtest import wait_until


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


# ---- failing on purpose

def test_a_hook_fails_events_on_purpose(hook):
    """As it entered, with the reason and code that the script gives; the others of the batch go on."""
    h = hook("""
        function process(event, meta)
          event.seen = true
          meta.key = "changed"
          if event.n == 1 then return weir.fail(event, "no user in it", "no_user") end
          if event.n == 2 then weir.fail(event, "short") return nil end
          if event.n == 3 then return weir.fail(event, "ä" .. ("x"):rep(5000), "long") end
          return event
        end""", [{"n": n} for n in range(5)])
    assert [e["n"] for e in h.out] == [0, 4]
    assert [(d["code"], d["payload"], "entered" in d, "key" in d) for d in h.dead] == [
        ("no_user", '{"n": 1}', False, False), ("lua_fail", '{"n": 2}', False, False), ("long", '{"n": 3}', False, False)]
    assert h.reasons[:2] == ["no user in it", "short"] and h.reasons[2] == "ä" + "x" * 998


def test_a_batch_fails_one_event_alone(hook):
    h = hook("""
        function process_batch(events)
          local out = {}
          for _, event in ipairs(events) do
            if event.n == 3 then weir.fail(event, "three", "t.h-r_3") else out[#out + 1] = event end
          end
          return out
        end""", [{"n": n} for n in range(5)])
    assert [e["n"] for e in h.out] == [0, 1, 2, 4] and h.codes == ["t.h-r_3"]


def test_children_of_a_failed_event_go_on(hook):
    h = hook("""
        function process(event)
          weir.fail(event, "split it", "split")
          return {{part = 1}, {part = 2}}
        end""", [{"n": 1}])
    assert h.out == [{"part": 1}, {"part": 2}] and h.codes == ["split"]


def test_held_events_can_be_failed(hook):
    h = hook("""
        local held = {}
        function process(event) held[#held + 1] = weir.hold(event) end
        function tick()
          weir.fail(held[1], "first", "first")
          weir.drop(held[2])
          local last = held[3]
          held = {}
          return last
        end""", [{"n": n} for n in range(3)])
    assert [e["n"] for e in h.out] == [2] and h.codes == ["first"]
    assert h.dead[0]["payload"] == '{"n": 0}'


@pytest.mark.sanitize
def test_process_ends_held_events_and_gives_its_own(hook):
    """Not one of them is forgotten because the hook's answer is a plain one."""
    h = hook("""
        local held = {}
        function process(event)
          if event.n < 4 then held[#held + 1] = weir.hold(event) return end
          if event.n == 4 then weir.drop(held[1]) held[1] = false return event end
          if event.n == 5 then weir.fail(held[2], "the second", "second") held[2] = false return event end
          if event.n == 6 then weir.drop(held[3]) held[3] = false return nil end
          collectgarbage()
          return event
        end""", [{"n": n} for n in range(1, 9)])
    assert [e["n"] for e in h.out] == [4, 5, 7, 8]
    assert [(d["code"], d["payload"]) for d in h.dead] == [("second", '{"n": 2}')]


@pytest.mark.sanitize
def test_a_held_event_ends_once_by_whatever_it_is_named(hook):
    """What is in it and its metadata stand for the held event, too."""
    h = hook("""
        local held = {}
        function process(event)
          if event.n < 4 then held[event.n] = weir.hold(event) return end
          if event.n == 4 then weir.drop(held[1].sub) return held[1] end
          if event.n == 5 then weir.drop(weir.meta(held[1])) weir.fail(held[1], "x") end
          if event.n == 6 then weir.fail(held[1].sub, "x") return weir.join({held[1]}, {}) end
          if event.n == 7 then weir.drop(held[1].sub, "why") end
          if event.n == 8 then weir.drop(held[1].sub) return end
          if event.n == 9 then weir.fail(weir.meta(held[2]), "x", "two") return end
          return held[3]
        end""", [{"n": n, "sub": {}} for n in range(1, 11)])
    assert [e["n"] for e in h.out] == [3]
    assert h.codes == ["lua_error"] * 4 + ["two"]
    for reason, words in zip(h.reasons, ["given out twice"] * 3 + ["without a reason"]):
        assert words in reason


def test_many_codes_are_not_many_metrics(hook):
    h = hook("""
        function process(event) weir.fail(event, "n", "code" .. event.n) end
        """, [{"n": n} for n in range(400)])
    assert len(h.dead) == 400 and len(set(h.codes)) <= 257 and h.codes[0] == "code0" and h.codes[399] == "lua_fail"


@pytest.mark.parametrize("call, why", [
    ("weir.fail(event)", "string expected"),
    ("weir.fail(event, {})", "string expected"),
    ("weir.fail(event, 'x', 'no spaces')", "a code is 1 to 40"),
    ("weir.fail(event, 'x', '')", "a code is 1 to 40"),
    ("weir.fail(event, 'x', ('c'):rep(41))", "a code is 1 to 40"),
    ("weir.fail({}, 'x')", "expected"),
    ("weir.fail(nil, 'x')", "expected"),
    ("weir.fail(event, 'x') return event", "was failed cannot be returned"),
    ("weir.fail(event, 'x') return {event}", "was failed cannot be returned"),
    ("weir.fail(event, 'x') return {a = 1}", "was failed cannot be returned"),
    ("weir.fail(event, 'x') weir.hold(event)", "was failed already"),
    ("weir.hold(event) weir.fail(event, 'x')", "is held already"),
])
def test_mistakes_with_fail(hook, call, why):
    h = hook(f"function process(event) {call} end", [{"n": 1}])
    assert h.codes == ["lua_error"] and why in h.reasons[0], h.dead


def test_a_condition_fails_nothing(weir):
    weir.run("""\
sources: {in: {type: generate, count: 3}}
transforms: {f: {type: filter, inputs: [in], on_error: stop, condition: "weir.fail == nil"}}
sinks: {out: {type: file, inputs: [f], path: out.ndjson, on_reject: stop}}
""")
    assert len((weir.folder / "out.ndjson").read_text().splitlines()) == 3
