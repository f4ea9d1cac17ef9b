# SPDX-License-Identifier: Apache-2.0
"""Transform lua: what weir check says of scripts, and the scripts of the README."""
import json
import re

import pytest

from lua_rig import Hooked, pipeline
from weirtest.tools import ROOT


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
