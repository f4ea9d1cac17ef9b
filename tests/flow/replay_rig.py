# SPDX-License-Identifier: Apache-2.0
"""What the tests of `weir replay` share."""
import json


class Replays:
    """A pipeline whose dead letters are replayed: files in the test's folder."""

    def __init__(self, weir):
        self.weir = weir
        self.folder = weir.folder

    def write(self, name, *values):
        """One line a value: bytes and text as they are, others as JSON."""
        lines = [v if isinstance(v, bytes) else v.encode() if isinstance(v, str) else json.dumps(v).encode()
                 for v in values]
        return self.weir.write(b"".join(line + b"\n" for line in lines), name)

    def lines(self, name):
        path = self.folder / name
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def json(self, name):
        return [json.loads(line) for line in self.lines(name)]

    @property
    def dead(self):
        return self.json("dead.ndjson")

    @property
    def out(self):
        return self.json("out.ndjson")

    def replay(self, *args, pipeline="p.yaml", expect=0, env=None, stdin=None, timeout=60):
        """The report as JSON; its `text` is what else was said."""
        done = self.weir.command("replay", self.folder / pipeline, *args, "--format", "json", env=env, stdin=stdin,
                                 timeout=timeout)
        assert done.code == expect, f"expected {expect}: {done!r}"
        report = json.loads(done.out.splitlines()[-1])
        report["text"] = done.err
        return report


def kinds(report):
    """What became of each (component, code), without zeroes."""
    hidden = ("component", "code", "at", "found", "reason", "places")
    return {(k["component"], k["code"]): {n: v for n, v in k.items() if n not in hidden and v} for k in report["kinds"]}


def letter(n=1, **members):
    """An envelope as weir writes it; members=None leaves one out."""
    made = {"version": 1, "payload": json.dumps({"n": n}), "reason": "no good", "code": "rejected", "attempts": 1,
            "first_time": "2026-01-31T12:00:00.000Z", "last_time": "2026-01-31T12:00:00.000Z", "pipeline": "orders",
            "component": "out", "type": "file", "source": "in", "id": f"id-{n}", "time": "2026-01-31T11:00:00.000Z"}
    made.update(members)
    return {name: value for name, value in made.items() if value is not None}
