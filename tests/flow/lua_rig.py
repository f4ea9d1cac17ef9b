# SPDX-License-Identifier: Apache-2.0
"""Scripts over events: what the tests of the transform lua share."""
import json
import textwrap

import pytest


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


def pipeline(options, source="{type: file, path: in.ndjson}", sink="{type: file, path: out.ndjson}"):
    return (f"name: p\nsources: {{in: {source}}}\ntransforms:\n  hook:\n    type: lua\n    inputs: [in]\n"
            + textwrap.indent(textwrap.dedent(options), "    ")
            + f"\nsinks:\n  out: {sink[:-1]}, inputs: [hook], on_reject: drop}}\n  dead: {{type: file, "
              "path: dead.ndjson}\ndead_letter: dead\n")
