# SPDX-License-Identifier: Apache-2.0
"""The program itself: help, exit codes, plugin files, signals."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
import requests

from weirtest import free_port, wait_until
from weirtest.tools import ROOT

COMMANDS = ["run", "check", "plugins"]
PLUGIN_SOURCES = ROOT / "tests/unit/engine/plugins"

ENDS = """\
name: ends
sources: {in: {type: generate, count: 500}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""
RUNS = """\
name: runs
sources: {in: {type: generate, rate: 200}}
sinks: {out: {type: blackhole, on_reject: drop}}
"""


def compile_plugin(path, *flags, source="plugin.c"):
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-std=gnu11", "-shared", "-fPIC", f"-I{ROOT}/core/include", *flags,
                    "-o", str(path), str(PLUGIN_SOURCES / source)], check=True)
    return path


@pytest.fixture(scope="session")
def faulty(tmp_path_factory):
    """The folder of a plugin with sinks that fail: refuse, away, hang, closed."""
    return compile_plugin(tmp_path_factory.mktemp("plugins") / "faulty.so", source="faulty.c").parent


# ---- words ------------------------------------------------------------------------------------

def test_version(weir):
    shown = weir.command("--version")
    assert shown.code == 0 and shown.err == ""
    lines = dict(line.split(" ", 1) for line in shown.out.splitlines() if "plugin" not in line)
    assert re.fullmatch(r"\d+\.\d+\.\d+", lines["weir"])
    assert re.search(r"^plugin ABI \d+\.\d+$", shown.out, re.M)
    assert {"compiler", "glibc", "libmicrohttpd"} <= set(lines)
    assert weir.command("-V").out == shown.out


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_overview(weir, args):
    shown = weir.command(*args)
    assert shown.code == 0 and shown.err == ""
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown.out, re.M), name
    assert "Examples:" in shown.out and "Exit codes:" in shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(weir, name):
    shown = weir.command(name, "--help")
    assert shown.code == 0 and shown.err == ""
    assert shown.out.startswith(f"Usage: weir {name} ")
    for part in ("Options:\n", "Examples:\n", "Exit codes:\n", "\n  2  wrong usage", "--help"):
        assert part in shown.out
    assert f"\n  weir {name}" in shown.out.split("Examples:")[1]
    assert max(map(len, shown.out.splitlines())) <= 110
    # The same from wherever it is asked.
    assert weir.command("help", name).out == shown.out
    assert weir.command(name, "-h").out == shown.out
    assert weir.command(name, "some.yaml", "--help").out == shown.out


def test_every_option_of_help_is_taken(weir):
    """Each option that --help names is understood, with and without "="."""
    values = {"ADDR": "127.0.0.1:0", "DIR": str(weir.folder), "DURATION": "1s", "SIZE": "256MiB"}
    path = weir.write(ENDS)
    for name in COMMANDS:
        text = weir.command(name, "--help").out
        for option, value in re.findall(r"^  --([a-z-]+)(?: (\S+))?", text, re.M):
            if option == "help":
                continue
            given = values.get(value, value.split("|")[0]) if value else None
            operands = [] if name == "plugins" else [path]
            forms = [[f"--{option}"]] if given is None else [[f"--{option}", given],
                                                             [f"--{option}={given}"]]
            for form in forms:
                done = weir.command(name, *operands, *form)
                assert done.code == 0, done


@pytest.mark.parametrize("args, said", [
    ([], "Usage: weir COMMAND"),
    (["rnu"], 'unknown command "rnu" (did you mean "run"?)'),
    (["xyzzy"], 'unknown command "xyzzy"\n'),
    (["--frobnicate"], 'weir: unknown option "--frobnicate"'),
    (["help", "chek"], 'unknown command "chek" (did you mean "check"?)'),
    (["run"], "weir run: FILE... is missing"),
    (["check"], "weir check: FILE... is missing"),
    (["plugins", "a", "b"], 'weir plugins: one argument too many: "b"'),
    (["run", "f", "--metrcs", "x"], 'unknown option "--metrcs" (did you mean "--metrics"?)'),
    (["run", "f", "-m"], 'weir run: unknown option "-m"'),
    (["run", "f", "--metrics"], "--metrics needs a value: --metrics ADDR"),
    (["run", "f", "--metrics="], "--metrics: ADDR must not be empty"),
    (["run", "f", "--exit-on-stop=yes"], '--exit-on-stop takes no value, found "yes"'),
    (["run", "f", "--log-level", "inof"],
     '--log-level: unknown value "inof", expected one of error, warn, info, debug, trace '
     '(did you mean "info"?)'),
    (["run", "f", "--shutdown-timeout", "soon"], '--shutdown-timeout: "soon" is no duration'),
    (["run", "f", "--shutdown-timeout=1s", "--shutdown-timeout", "2s"],
     "--shutdown-timeout is given twice"),
    (["check", "f", "--format", "xml"], 'unknown value "xml", expected one of text, json'),
    (["check", "f", "--plugin-dir", "/nowhere/at/all"],
     '--plugin-dir "/nowhere/at/all": No such file or directory'),
    (["check", "f", "--plugin-dir", "/etc/passwd"], '--plugin-dir "/etc/passwd": Not a directory'),
])
def test_wrong_usage(weir, args, said):
    done = weir.command(*args)
    assert done.code == 2 and done.out == "", done
    assert said in done.err
    assert "--help" in done.err


def test_two_dashes_end_the_options(weir):
    path = weir.write(ENDS, "--format.yaml")
    done = weir.command("check", "--", path.name)
    assert done.code == 0 and "--format.yaml: ok" in done.out


def test_output_that_cannot_be_written(weir):
    with open("/dev/full", "w") as full:
        done = subprocess.run([weir.bin, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "standard output cannot be written" in done.stderr


# ---- check and plugins ------------------------------------------------------------------------

def test_check_says_ok(weir):
    done = weir.check(ENDS, expect=0)
    assert 'ok: pipeline "ends", 1 source, 0 transforms, 1 sink\n' in done.out
    assert weir.check(ENDS, format="json", expect=0).json == []


def test_check_finds_the_errors_of_all_files(weir):
    bad = "sources: {in: {type: generate, cuont: 1}}\nsinks: {out: {type: blackhole}}\n"
    done = weir.check(bad, ENDS, bad, "/nowhere.yaml", expect=1)
    assert done.out.count("error[unknown-option]") == 2
    assert 'did you mean "count"?' in done.out and "/nowhere.yaml" in done.out
    assert "ok: pipeline" in done.out
    assert re.search(r"^3 errors, 2 warnings$", done.out, re.M)
    found = weir.check(bad, ENDS, format="json", expect=1).json
    assert [d["code"] for d in found if d["severity"] == "error"] == ["unknown-option"]


def test_check_has_no_color_in_a_pipe(weir):
    assert "\033" not in weir.check("sources: 1\n", expect=1).out


def test_an_unknown_type_tells_where_was_looked(weir, tmp_path):
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/broken.so").write_text("no library")
    path = weir.write("sources: {in: {type: generate}}\nsinks: {out: {type: nothere}}\n")
    done = weir.command("check", path, "--plugin-dir", tmp_path / "extra")
    assert done.code == 1
    assert f"{tmp_path}/extra/broken.so: a text file, expected a shared object" in done.out
    looked = next(line for line in done.out.splitlines() if "looked for in" in line)
    assert looked.startswith(f"plugins were looked for in: {tmp_path}/extra, {weir.plugin_path}")


def test_plugins_lists_and_describes(weir):
    done = weir.command("plugins")
    assert done.code == 0 and done.err == ""
    for name in ("generate", "blackhole", "stdout"):
        assert re.search(rf"^  {name} ", done.out, re.M)
    one = weir.command("plugins", "generate")
    assert one.code == 0 and one.out.startswith("generate (source)\n") and "  count " in one.out
    both = weir.command("plugins", "file", "--format", "markdown")
    assert both.code == 0
    assert "## `file` (source)" in both.out and "## `file` (sink)" in both.out
    top = weir.command("plugins", "pipeline")
    assert top.code == 0 and "shutdown_timeout" in top.out


def test_the_reference_has_every_type(weir):
    names = re.findall(r"^  (\S+)  ", weir.command("plugins").out, re.M)
    reference = weir.command("plugins", "--format=markdown")
    assert reference.code == 0
    heads = re.findall(r"^## `(\S+)` \((?:source|transform|sink)\)$", reference.out, re.M)
    assert sorted(heads) == sorted(names)


def test_plugins_of_an_unknown_name(weir):
    done = weir.command("plugins", "genrate")
    assert done.code == 1 and done.out == ""
    assert '"genrate" was found (did you mean "generate"?)' in done.err


# ---- plugin files -----------------------------------------------------------------------------

def plugin_errors(weir, folder):
    """What `weir plugins` says about the files of a folder: {name: reason}."""
    done = weir.command("plugins", "--plugin-dir", folder)
    found = {}
    for line in done.err.splitlines():
        match = re.fullmatch(rf"plugin file cannot be used: {re.escape(str(folder))}/([^:]+): (.*)", line)
        assert match, line
        found[match[1]] = match[2]
    assert done.code == (1 if found else 0)
    return found


def test_bad_plugin_files_are_one_line_each(weir, tmp_path):
    folder = tmp_path / "bad"
    good = compile_plugin(folder / "good.so")
    library = good.read_bytes()
    machine = bytearray(library)
    machine[18:20] = (22).to_bytes(2, "little")  # e_machine: s390x
    files = {
        "text.so": b"#!/bin/sh\necho no library\n",
        "empty.so": b"",
        "noise.so": b"\x00\x01\x02\x03 something",
        "machine.so": bytes(machine),
        "cut.so": library[:len(library) // 4],
        "head.so": library[:32],
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "folder.so").mkdir()
    os.mkfifo(folder / "pipe.so")
    (folder / "link.so").symlink_to("/nowhere")
    compile_plugin(folder / "major.so", "-DMAJOR=9")
    compile_plugin(folder / "minor.so", "-DMINOR=99")
    compile_plugin(folder / "old.so", "-DMAJOR=0")
    compile_plugin(folder / "size.so", "-DSIZE=7")
    compile_plugin(folder / "symbol.so", "-DCALL=no_such_function")
    compile_plugin(folder / "name.so", '-DNAME="Not A Name"')
    compile_plugin(folder / "twice.so", "-DSERVICE=\"x\"")
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / "other.so"],
                   input="int other;", text=True, check=True)
    expected = {
        "text.so": "a text file, expected a shared object (ELF)",
        "empty.so": "the file is empty",
        "noise.so": "not a shared object: it does not begin with an ELF header",
        "machine.so": r"built for another machine: s390x \(64-bit, little-endian\), this one is .*",
        "cut.so": r"the file is cut off: it has \d+ bytes and its ELF header speaks of more",
        "head.so": "the file is cut off: it ends inside its ELF header",
        "folder.so": "a folder, expected a regular file",
        "pipe.so": "a named pipe, expected a regular file",
        "link.so": "cannot be read: No such file or directory",
        "major.so": r"built for plugin ABI 9.0, this weir has \S+: the plugin is newer, so update weir",
        "minor.so": r"built for plugin ABI 1.99, this weir has \S+: the plugin is newer, so update weir",
        "old.so": "built for plugin ABI 0.0, this weir has .* the plugin is older, so build it again.*",
        "size.so": r"struct weir_plugin says that it has 7 bytes, expected \d+",
        "symbol.so": 'needs the symbol "no_such_function", .*',
        "name.so": "type 0: its name is empty or no word .*",
        "twice.so": f'sink "tiny" is also in this folder\'s {re.escape(str(good))}',
        "other.so": "no weir plugin: it does not export the object weir_plugin",
    }
    found = plugin_errors(weir, folder)
    assert set(found) == set(expected)
    for name, pattern in expected.items():
        pattern = pattern if "\\" in pattern or ".*" in pattern else re.escape(pattern)
        assert re.fullmatch(pattern, found[name]), f"{name}: {found[name]}"


def test_bad_plugin_files_stop_nobody(weir, tmp_path):
    compile_plugin(tmp_path / "own/major.so", "-DMAJOR=9")
    compile_plugin(tmp_path / "own/tiny.so")
    run = weir.run("sources: {in: {type: generate, count: 3}}\n"
                   "sinks: {out: {type: tiny, on_reject: drop}}\n",
                   args=["--plugin-dir", tmp_path / "own"])
    lines = run.find_log("plugin file cannot be used", level="warn")
    assert len(lines) == 1 and "ABI 9.0" in lines[0]["error"]


def test_plugin_path_and_its_order(weir, tmp_path):
    first = compile_plugin(tmp_path / "first/a.so").parent
    second = compile_plugin(tmp_path / "second/b.so").parent
    env = {"WEIR_PLUGIN_PATH": f"{first}:{second}:{weir.plugin_path}"}
    shown = weir.command("plugins", env=env)
    assert shown.code == 0 and f"{first}/a.so" in shown.out and "/b.so" not in shown.out
    shown = weir.command("plugins", "--plugin-dir", second, env=env)
    assert f"{second}/b.so" in shown.out and "/a.so" not in shown.out
    # A folder of WEIR_PLUGIN_PATH that is not there shows.
    shown = weir.command("plugins", env={"WEIR_PLUGIN_PATH": f"/nowhere/x:{weir.plugin_path}"})
    assert shown.code == 1
    assert "/nowhere/x: the plugin folder cannot be read: No such file or directory" in shown.err
    run = weir.run(ENDS, args=["--plugin-dir", first, "--log-level", "debug"],
                   env={"WEIR_PLUGIN_PATH": f"{second}:{weir.plugin_path}"})
    assert run.find_log("plugin type is shadowed")


def test_a_build_finds_its_own_plugins(weir):
    if weir.bin.parents[1] / "plugins" != type(weir.bin)(weir.plugin_path):
        pytest.skip("the plugins are not beside this binary's folder")
    shown = weir.command("plugins", env={"WEIR_PLUGIN_PATH": None}, cwd="/")
    assert shown.code == 0 and "blackhole" in shown.out


# ---- run: files -------------------------------------------------------------------------------

def test_errors_of_all_files_before_anything_starts(weir):
    bad = "sources: {in: {type: generate, count: many}}\nsinks: {out: {type: blackhole}}\n"
    done = weir.command("run", weir.write(bad), weir.write(ENDS), weir.write(bad))
    assert done.code == 1 and done.out == ""
    assert done.err.count("error[") == 2 and "pipeline started" not in done.err


def test_two_pipelines_of_one_name(weir):
    first, second = weir.write(ENDS, "a.yaml"), weir.write(ENDS, "b.yaml")
    done = weir.command("run", first, second)
    assert done.code == 1
    assert f'{first} and {second} both define the pipeline "ends"' in done.err


def test_a_run_that_ends_by_itself(weir):
    run = weir.run(ENDS)
    started, ended = run.find_log("pipeline started"), run.find_log("pipeline ended")
    assert [line["pipeline"] for line in started] == ["ends"]
    assert started[0]["sources"] == 1 and started[0]["transforms"] == 0 and started[0]["sinks"] == 1
    assert ended[0]["events_left"] == 0 and ended[0]["timed_out"] is False
    assert run.find_log("weir starts")[0]["version"]
    assert run.find_log("metrics listening")[0]["addr"] == run.address
    assert run.logs[-1]["msg"] == "weir ends" and run.logs[-1]["exit_code"] == 0
    assert len(run.logs) == len(run.stderr.splitlines())  # nothing but JSON lines
    stamps = [line["ts"] for line in run.logs]
    assert stamps == sorted(stamps)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", s) for s in stamps)


def test_every_warning_is_logged(weir):
    sinks = ", ".join(f"s{i}: {{type: blackhole, inputs: [in]}}" for i in range(12))
    run = weir.run(f"sources: {{in: {{type: generate, count: 1}}}}\nsinks: {{{sinks}}}\n"
                   .replace("s3: {type: blackhole,", "s3: {type: blackhole, on_reject: stop,"))
    warnings = run.find_log("warning about a pipeline file")
    assert warnings and all(w["code"] and w["file"] and w["line"] >= 1 for w in warnings)
    listed = weir.check(*[p for p in weir.folder.glob("pipeline-*.yaml")], format="json").json
    assert len(warnings) == len(listed)


def test_log_options(weir):
    run = weir.run(ENDS, args=["--log-format", "logfmt", "--log-level", "warn"])
    assert run.stderr == ""
    run = weir.run(ENDS, args=["--log-format", "logfmt"])
    assert re.search(r'^ts=\S+ level=info msg="pipeline started" pipeline=ends ', run.stderr, re.M)
    assert "\033" not in run.stderr


def test_a_component_that_cannot_be_opened(weir, faulty):
    done = weir.run(RUNS, "name: shut\nsources: {in: {type: generate}}\n"
                    "sinks: {out: {type: closed, on_reject: drop}}\n",
                    args=["--plugin-dir", faulty], expect=1)
    line = done.find_log("pipeline cannot start", level="error")[0]
    assert line["pipeline"] == "shut" and "it is closed today" in line["error"] and "out" in line["error"]
    assert not done.find_log("pipeline started")


# ---- run: ends --------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(weir, number):
    run = weir.start(RUNS)
    run.wait_metric("weir_component_sent_events_total", 20, component="out")
    run.signal(number)
    run.wait(0, timeout=10)
    assert run.find_log("shutting down")[0]["signal"] == number.name
    assert run.find_log("pipeline ended")[0]["events_left"] == 0


def test_the_drain_delay_turns_readiness_off_first(weir):
    run = weir.start(RUNS + "drain_delay: 2s\n")
    run.signal(signal.SIGTERM)
    wait_until(lambda: run.get("/readyz").status_code == 503, 5)
    answer = run.get("/readyz").json()
    assert answer["ready"] is False and answer["reason"] == "shutting down"
    assert run.get("/livez").status_code == 200
    before = run.metric("weir_component_received_events_total", component="in")
    run.wait_metric("weir_component_received_events_total", before + 20, timeout=5, component="in")
    assert run.metric("weir_pipeline_ready", pipeline="runs") == 0
    run.wait(0, timeout=10)


AWAY = """\
name: away
sources: {in: {type: generate, rate: 50}}
sinks: {out: {type: away, on_reject: drop}}
"""


def test_the_deadline_says_what_was_left(weir, faulty):
    run = weir.start(AWAY, args=["--plugin-dir", faulty, "--shutdown-timeout", "1s"])
    run.wait_metric("weir_component_received_events_total", 10, component="in")
    before = time.monotonic()
    run.stop(expect=1, timeout=15)
    assert 0.9 < time.monotonic() - before < 6
    ended = run.find_log("pipeline ended", level="warn")[0]
    assert ended["timed_out"] is True and ended["events_left"] >= 10


def test_a_second_signal_ends_it_at_once(weir, faulty):
    run = weir.start(AWAY, args=["--plugin-dir", faulty, "--shutdown-timeout", "60s"])
    run.wait_metric("weir_component_received_events_total", 10, component="in")
    run.signal(signal.SIGTERM)
    run.wait_log("shutting down", signal="SIGTERM")
    time.sleep(0.3)
    assert run.alive
    run.signal(signal.SIGINT)
    run.wait(1, timeout=6)
    assert run.find_log("shutting down at once")[0]["signal"] == "SIGINT"
    assert run.find_log("pipeline ended")[0]["events_left"] >= 10


HANG = """\
name: hang
sources: {in: {type: generate, rate: 50}}
sinks: {out: {type: hang, on_reject: drop}}
"""


def test_a_sink_that_hangs_cannot_hold_the_process(weir, faulty):
    run = weir.start(HANG, ENDS, args=["--plugin-dir", faulty, "--shutdown-timeout", "500ms"])
    run.wait_metric("weir_component_received_events_total", 10, component="in", pipeline="hang")
    before = time.monotonic()
    run.stop(expect=1, timeout=20)
    assert 5 < time.monotonic() - before < 12  # the deadline and 5 s more
    assert [line["pipeline"] for line in run.find_log("pipeline did not end in time")] == ["hang"]


def test_a_third_signal_ends_even_a_hanging_sink(weir, faulty):
    run = weir.start(HANG, args=["--plugin-dir", faulty])
    run.wait_metric("weir_component_received_events_total", 10, component="in")
    for said in ("shutting down", "shutting down at once"):
        run.signal(signal.SIGTERM)
        run.wait_log(said, timeout=5)
    run.signal(signal.SIGTERM)
    run.wait(1, timeout=3)


REFUSE = """\
name: refuse
sources: {in: {type: generate, rate: 50}}
sinks: {out: {type: refuse, on_reject: stop}}
"""


def test_a_pipeline_that_stops_leaves_the_others_running(weir, faulty):
    run = weir.start(RUNS, REFUSE, args=["--plugin-dir", faulty], ready=False)
    wait_until(lambda: run.find_log("pipeline ended", pipeline="refuse"), 10)
    answer = run.get("/readyz")
    assert answer.status_code == 503
    states = {p["pipeline"]: p for p in answer.json()["pipelines"]}
    assert states["runs"]["ready"] is True and states["runs"]["state"] == "running"
    assert states["refuse"]["ready"] is False and states["refuse"]["state"] == "stopped"
    assert "as the test wants it" in states["refuse"]["reason"]
    assert run.get("/livez").status_code == 200
    metrics = run.metrics()
    assert metrics.get("weir_pipeline_state", pipeline="refuse", state="stopped") == 1
    assert metrics.get("weir_pipeline_state", pipeline="refuse", state="running") == 0
    assert metrics.get("weir_pipeline_ready", pipeline="refuse") == 0
    assert metrics.get("weir_pipeline_ready", pipeline="runs") == 1
    before = metrics.get("weir_component_sent_events_total", pipeline="runs", component="out")
    run.wait_metric("weir_component_sent_events_total", before + 20, pipeline="runs", component="out")
    run.stop(expect=1)


def test_a_stopped_pipeline_alone_keeps_the_process_up(weir, faulty):
    run = weir.start(REFUSE, args=["--plugin-dir", faulty], ready=False)
    wait_until(lambda: run.find_log("pipeline ended", pipeline="refuse"), 10)
    time.sleep(0.5)
    assert run.alive and run.get("/livez").status_code == 200
    run.stop(expect=1, timeout=5)


def test_exit_on_stop(weir, faulty):
    run = weir.start(RUNS, REFUSE, args=["--plugin-dir", faulty, "--exit-on-stop"], ready=False)
    run.wait(1, timeout=10)
    ended = {line["pipeline"]: line for line in run.find_log("pipeline ended")}
    assert ended["refuse"]["stopped_by_itself"] is True
    assert ended["runs"]["stopped_by_itself"] is False and ended["runs"]["events_left"] == 0


def test_a_closed_standard_error_harms_nobody(weir):
    """A log that nobody reads (SIGPIPE) does not end the process."""
    read, write = os.pipe()
    port = free_port()
    process = subprocess.Popen([weir.bin, "run", weir.write(RUNS), "--metrics", f"127.0.0.1:{port}"],
                               stderr=write, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path))
    os.close(write)
    os.close(read)
    try:
        def up():
            try:
                return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).ok
            except requests.RequestException:
                return False
        wait_until(up, 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


KEEPS = """\
name: keeps
sources: {in: {type: %s}}
sinks:
  kept: {type: file, inputs: [in], path: kept.ndjson, on_reject: drop}
%s"""
SHOWN = "  shown: {type: stdout, inputs: [in], on_reject: drop}\n"


def start_closed(weir, text, closed):
    """`weir run` with standard descriptors closed by the shell, as in `<&-`."""
    return subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", weir.bin, "run", weir.write(text),
                             "--core-dumps"],  # its descriptors are looked at
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=dict(os.environ, WEIR_PLUGIN_PATH=weir.plugin_path))


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_nothing_gets_the_number_of_a_closed_standard_descriptor(weir, closed):
    """Or the log, or events, would be written into whatever is opened next: a file, a socket."""
    signs = {0: "<&-", 1: ">&-", 2: "2>&-"}
    run = start_closed(weir, KEEPS % ("generate, rate: 1000", "" if 1 in closed else SHOWN),
                       " ".join(signs[fd] for fd in closed))
    try:
        file = weir.folder / "kept.ndjson"
        wait_until(lambda: file.exists() and file.stat().st_size > 10000, 20)
        for fd in closed:
            assert os.readlink(f"/proc/{run.pid}/fd/{fd}") == "/dev/null"
        run.terminate()
        out, err = run.communicate(timeout=20)
        assert run.returncode == 0, err
    finally:
        run.kill()
        run.wait()
    kept = file.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in kept] == list(range(len(kept)))
    assert out.splitlines() == ([] if 1 in closed else kept)
    assert ("pipeline ended" in err) == (2 not in closed)


def test_a_closed_standard_descriptor_that_is_wanted(weir):
    run = start_closed(weir, KEEPS % ("generate, count: 3", SHOWN), ">&-")
    err = run.communicate(timeout=20)[1]
    assert run.returncode == 1
    assert "standard output is closed: nothing can be written there" in err
    assert (weir.folder / "kept.ndjson").read_text() == ""
    run = start_closed(weir, KEEPS % ("file, path: '-'", ""), "<&-")
    err = run.communicate(timeout=20)[1]
    assert run.returncode == 1
    assert "standard input is closed" in err


def test_the_deadline_holds_where_a_source_breaks(weir, faulty):
    weir.write('{"n":1}\n' + "x" * 5000 + "\n", "in.ndjson")
    run = weir.start("""\
name: breaks
shutdown_timeout: 1h
sources: {in: {type: file, path: in.ndjson, max_line: 1KiB, on_long: error}}
sinks: {out: {type: away, on_reject: drop}}
""", args=["--plugin-dir", faulty, "--shutdown-timeout", "1s"], ready=False)
    assert "line" in run.wait_log("pipeline stops")[0]["reason"]
    assert run.wait_log("pipeline ended", timeout=30)[0]["events_left"] == 1
    run.stop(expect=1)


def test_a_shutdown_may_take_as_long_as_it_can_be_said(weir):
    run = weir.start(RUNS, args=["--shutdown-timeout", "9223372036854775807ns"])
    run.stop()
    assert run.find_log("pipeline ended")[0]["timed_out"] is False
