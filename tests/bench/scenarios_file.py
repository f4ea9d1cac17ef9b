# SPDX-License-Identifier: Apache-2.0
"""Scenarios that read a file to its end."""
from measure import Peer, Run, Weir, run_limit
from scenario import FIELDS, HOOK, Scenario, must


class Files(Scenario):
    """From a file; ends at its end."""

    base = 4_000_000
    mode = "parse"
    transforms = ""
    sink = "{type: blackhole, needs: value}"

    def __init__(self, bench):
        super().__init__(bench)
        self.path = bench.input_file(self.n)
        self.out = bench.folder / "out.ndjson"
        self.limit_out = bench.folder / "limit.ndjson"

    def limits(self):
        args = [self.mode, self.path] + ([] if self.mode == "parse" else [self.limit_out])
        return {self.limit_name: ("limit", lambda: self.counted(run_limit("limit_json", *args)))}

    def counted(self, run):
        must(run.parsed, self.n, "events parsed by yyjson")
        return run

    def pipeline(self):
        return f"""\
sources: {{in: {{type: file, path: {self.path}}}}}
{self.transforms}
sinks: {{out: {self.sink}}}
"""

    def weir(self):
        weir = Weir(self.bench.folder, self.pipeline())
        weir.wait_end()
        run = Run(self.n, weir.since(), weir.cpu, weir.peak_mib, self.parsed_by(weir))
        must(weir.count("in", "sent"), self.n, "events read")
        must(run.parsed, self.n, "events parsed")
        self.check(weir.count("out", "sent"))
        weir.stop()
        return run

    def parsed_by(self, weir):
        return int(weir.metrics().get("weir_blackhole_fields_total")) // FIELDS

    def check(self, sent):
        must(sent, self.n, "events delivered")

    def peer(self, command):
        self.out.unlink(missing_ok=True)
        peer = Peer(command, {"BENCH_SCENARIO": self.name, "BENCH_INPUT": str(self.path),
                              "BENCH_OUTPUT": str(self.out), "BENCH_EVENTS": str(self.n)},
                    self.bench.scratch())
        used = peer.wait()
        if used is None:
            return None
        self.check_peer()
        return Run(self.n, *used, peer.peak)

    def check_peer(self):
        pass


class FileParseBlackhole(Files):
    name = "file-parse-blackhole"
    summary = "file -> parse -> blackhole; limit: yyjson on one core"
    limit_name = "yyjson read"


class FileParseFile(Files):
    name = "file-parse-file"
    summary = "file -> parse -> file; limit: yyjson and stdio on one core"
    limit_name = "yyjson read, line written"
    mode = "pass"
    transforms = ("transforms: {parse: {type: validate, inputs: [in], "
                  "schema: {type: object, required: [user_id]}}}")

    @property
    def sink(self):
        return f"{{type: file, inputs: [parse], path: {self.out}, mode: truncate, on_reject: stop}}"

    def pipeline(self):
        return super().pipeline() + "dead_letter: out\n"

    def parsed_by(self, weir):
        # What lacks the field, or is no JSON, does not pass.
        return weir.count("parse", "sent")

    def check(self, sent):
        super().check(sent)
        must(self.out.stat().st_size, self.path.stat().st_size, "bytes in the file")

    def check_peer(self):
        must(lines_of(self.out), self.n, "lines that the peer wrote")


class FileLuaFile(Files):
    name = "file-lua-file"
    summary = "file -> Lua (rename, add, drop one type) -> file; limit: yyjson doing the same, no Lua"
    limit_name = "yyjson read, edit, write"
    base = 2_000_000
    mode = "edit"
    transforms = "transforms: {hook: {type: lua, inputs: [in], script: hook.lua}}"

    def __init__(self, bench):
        super().__init__(bench)
        (bench.folder / "hook.lua").write_text(HOOK)
        self.kept = self.n - bench.heartbeats(self.path)

    @property
    def sink(self):
        return f"{{type: file, inputs: [hook], path: {self.out}, mode: truncate, on_reject: stop}}"

    def pipeline(self):
        return super().pipeline() + "dead_letter: out\n"

    def parsed_by(self, weir):
        # The hook reads a field of every event: what it dropped and what it passed.
        dropped = weir.metrics().get("weir_component_discarded_events_total", component="hook")
        return weir.count("hook", "sent") + int(dropped)

    def check(self, sent):
        must(sent, self.kept, "events delivered")
        must(lines_of(self.out), self.kept, "lines in the file")
        with self.out.open() as file:
            first = file.readline()
        if '"user":"' not in first or '"seen":1' not in first or '"user_id"' in first:
            raise SystemExit(f"bench: the hook changed nothing: {first}")

    def check_peer(self):
        must(lines_of(self.out), self.kept, "lines that the peer wrote")


class FileDedupeBlackhole(Files):
    """Every key is a new one, which is what costs most."""

    name = "file-dedupe-blackhole"
    summary = "file -> dedupe by a field, keys all new -> blackhole; limit: yyjson on one core"
    limit_name = "yyjson read"
    base = 1_000_000
    transforms = ("transforms: {once: {type: dedupe, inputs: [in], key: '{{ id }}', on_error: stop}}")
    sink = "{type: blackhole, inputs: [once], on_reject: stop}"

    def parsed_by(self, weir):
        # An event without the field would have failed.
        return weir.count("once", "sent")


class FileSampleThrottleBlackhole(Files):
    """Half of the users, none of them above the rate."""

    name = "file-sample-throttle-blackhole"
    summary = "file -> sample by a field -> throttle by it -> blackhole; limit: yyjson on one core"
    limit_name = "yyjson read"
    base = 2_000_000
    transforms = """\
transforms:
  half: {type: sample, inputs: [in], rate: 1/2, by: '{{ user_id }}', on_error: stop}
  rate: {type: throttle, inputs: [half], rate: 1000000, key: '{{ user_id }}', mode: error, on_error: stop}
"""
    sink = "{type: blackhole, inputs: [rate], on_reject: stop}"

    def parsed_by(self, weir):
        self.kept = weir.count("rate", "sent")
        return self.kept + int(weir.metrics().get("weir_component_discarded_events_total", component="half"))

    def check(self, sent):
        must(sent, self.kept, "events delivered")
        if not 0.4 * self.n < sent < 0.6 * self.n:
            raise SystemExit(f"bench: {sent:,} of {self.n:,} events were kept, half of them expected")


class FileDiskBlackhole(Files):
    """Every event is durable before its source hears that it is delivered."""

    name = "file-disk-blackhole"
    summary = "file -> disk buffer -> blackhole; limit: the lines appended to a log, fdatasync every 10 ms"
    base = 2_000_000
    sink = ("{type: blackhole, needs: payload, on_reject: stop, "
            "buffer: {type: disk, path: buffer, size: 8GiB, drain_on_stop: true}}")

    def limits(self):
        return {"append, fdatasync": ("limit", self.limit)}

    def limit(self):
        run = run_limit("limit_disk", self.path, self.limit_out)
        must(self.limit_out.stat().st_size, self.path.stat().st_size, "bytes in the log")
        self.limit_out.unlink()
        return run

    def parsed_by(self, weir):
        must(int(weir.metrics().get("weir_blackhole_bytes_total")), self.path.stat().st_size - self.n,
             "bytes delivered")
        return self.n

    def weir(self):
        run = super().weir()
        return Run(run.events, run.seconds, run.cpu, run.peak_mib)

    def peer(self, command):
        return None


def lines_of(path):
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
