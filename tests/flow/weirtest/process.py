# SPDX-License-Identifier: Apache-2.0
"""Weir as a process: starts the binary, reads its logs and metrics, stops it."""
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import requests

from .metrics import Metrics
from .tools import ROOT, free_port, wait_until

SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error: ",
                     "WARNING: ThreadSanitizer")


class Checked:
    """What a command of weir that ends by itself gave: code, out, err."""

    def __init__(self, done):
        self.args = done.args
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def text(self):
        return self.out + self.err

    def __repr__(self):
        return f"{self.args} ended with {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class WeirBinary:
    """The fixture `weir`: starts weirs in the test's tmp_path and ends them after the test.

    The binary is $WEIR_BIN, default build/release/bin/weir; its plugins are those of
    $WEIR_PLUGIN_PATH, default the folder `plugins` beside the binary's `bin`. $WEIR_WRAPPER is put
    in front of every call (for example "setarch -R").
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.bin = Path(os.environ.get("WEIR_BIN", ROOT / "build/release/bin/weir")).absolute()
        self.plugin_path = os.environ.get("WEIR_PLUGIN_PATH", str(self.bin.parents[1] / "plugins"))
        self.started = []

    # ---- pipeline files

    def write(self, text, name=None):
        """Writes a pipeline file (or any other: name="hook.lua") into the test's folder."""
        if name is None:
            name = f"pipeline-{len(list(self.folder.glob('pipeline-*.yaml'))) + 1}.yaml"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def _files(self, pipelines):
        # A string with a line end is a pipeline's text, anything else is a path.
        return [str(self.write(p) if isinstance(p, bytes) or "\n" in str(p) else p)
                for p in pipelines]

    def _environment(self, env):
        full = dict(os.environ, WEIR_PLUGIN_PATH=self.plugin_path)
        full.setdefault("TSAN_OPTIONS", "exitcode=66:halt_on_error=0")
        full.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        for name, value in (env or {}).items():
            if value is None:
                full.pop(name, None)
            else:
                full[name] = str(value)
        return full

    def _command(self, args):
        assert self.bin.exists(), f"{self.bin} is not there: run scripts/test, or set WEIR_BIN"
        return shlex.split(os.environ.get("WEIR_WRAPPER", "")) + [str(self.bin), *map(str, args)]

    # ---- commands that end by themselves

    def command(self, *args, env=None, stdin=None, timeout=60, cwd=None):
        """Any command line, such as command("plugins", "http"). Gives a Checked."""
        done = subprocess.run(self._command(args), env=self._environment(env), cwd=cwd or self.folder,
                              capture_output=True, timeout=timeout,
                              input=stdin.encode() if isinstance(stdin, str) else stdin)
        done.stdout = done.stdout.decode(errors="replace")
        done.stderr = done.stderr.decode(errors="replace")
        fail_on_sanitizer_report(done.stderr)
        return Checked(done)

    def start_command(self, *args, env=None):
        """The same without waiting: a Popen, for commands that are to be ended."""
        return subprocess.Popen(self._command(args), env=self._environment(env), cwd=self.folder,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def check(self, *pipelines, format=None, env=None, expect=None):
        """`weir check`. Pipelines are texts (with a line end) or paths. `expect`: the exit code."""
        args = ["check", *(["--format", format] if format else []), *self._files(pipelines)]
        checked = self.command(*args, env=env)
        if expect is not None:
            assert checked.code == expect, f"expected {expect}: {checked!r}"
        return checked

    # ---- running

    def start(self, *pipelines, args=(), env=None, ready=True, stdin=None, timeout=30):
        """`weir run` with a metrics address. Waits for /readyz unless ready=False. Gives Running."""
        port = free_port()
        files = self._files(pipelines)
        command = self._command(["run", *files, "--metrics", f"127.0.0.1:{port}", *args])
        running = Running(self, command, port, self._environment(env), stdin)
        self.started.append(running)
        if ready:
            running.wait_ready(timeout)
        return running

    def run(self, *pipelines, args=(), env=None, stdin=None, expect=0, timeout=60):
        """As start(), for pipelines that end by themselves: waits for the end, asserts the code.
        `stdin`: bytes or text."""
        if stdin is not None:
            data = stdin.encode() if isinstance(stdin, str) else stdin
            source = self.folder / f"stdin-{len(self.started) + 1}"
            source.write_bytes(data)
            with source.open("rb") as file:
                running = self.start(*pipelines, args=args, env=env, ready=False, stdin=file)
        else:
            running = self.start(*pipelines, args=args, env=env, ready=False)
        running.wait(expect=expect, timeout=timeout)
        return running

    def close(self):
        """Ends what still runs; complains about crashes and sanitizer reports."""
        problems = []
        for running in self.started:
            problems += running.close()
        return problems


class Running:
    """One `weir run`.

    r.metrics()              Metrics of now
    r.metric(name, **labels) one sum of them
    r.logs                   log lines so far, parsed (JSON lines), oldest first
    r.find_log(text)         those whose message holds the text
    r.stdout, r.stderr       as text, so far
    r.stop()                 SIGTERM, waits, asserts exit code 0
    r.wait(), r.kill(), r.signal(n), r.pid
    """

    def __init__(self, weir, command, port, env, stdin):
        number = len(weir.started) + 1
        self.command = command
        self.problems = None
        self.address = f"127.0.0.1:{port}"
        self.stdout_path = weir.folder / f"weir-{number}.stdout"
        self.stderr_path = weir.folder / f"weir-{number}.stderr"
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process = subprocess.Popen(command, env=env, cwd=weir.folder, stdout=out, stderr=err,
                                            stdin=stdin if stdin is not None else subprocess.DEVNULL)

    # ---- looking

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process.poll() is None

    @property
    def stdout(self):
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    @property
    def logs(self):
        lines = []
        for line in self.stderr.splitlines():
            if line.startswith("{"):
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    pass  # the last line may be half written
        return lines

    def find_log(self, text, **fields):
        """Log lines with `text` in any of their values and with these fields."""
        return [line for line in self.logs
                if any(text in str(value) for value in line.values())
                and all(line.get(k) == v for k, v in fields.items())]

    def get(self, path, **kwargs):
        """GET on the metrics listener."""
        return requests.get(f"http://{self.address}{path}", timeout=10, **kwargs)

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status_code == 200, f"/metrics: {answer.status_code} {answer.text}"
        return Metrics(answer.text)

    def metric(self, name, **labels):
        return self.metrics().get(name, **labels)

    def ready(self):
        try:
            return self.get("/readyz").status_code == 200
        except requests.RequestException:
            return False

    # ---- waiting

    def wait_ready(self, timeout=30):
        def answered():
            if not self.alive:
                raise RuntimeError(f"weir ended with {self.process.returncode} before it was ready")
            return self.ready()
        try:
            wait_until(answered, timeout, "weir is ready (/readyz)")
        except (AssertionError, RuntimeError) as error:
            raise AssertionError(f"{error}\n{self.report()}") from None

    def wait_metric(self, name, value, timeout=30, **labels):
        """Until the metric's sum is `value` or more."""
        return wait_until(lambda: self.metric(name, **labels) >= value, timeout,
                          lambda: f"{name} {labels} >= {value}; it is "
                                  f"{self.metric(name, **labels):g}\n{self.report()}")

    def wait_log(self, text, timeout=20, **fields):
        """Until a log line holds the text; gives those lines."""
        return wait_until(lambda: self.find_log(text, **fields), timeout,
                          lambda: f"{text!r} {fields} in the log\n{self.report()}")

    def wait(self, expect=0, timeout=60):
        """Until the process ends; asserts its exit code (None: any) and gives it."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"weir still runs after {timeout} s\n{self.report()}") from None
        if expect is not None and code != expect:
            raise AssertionError(f"weir ended with {code}, expected {expect}\n{self.report()}")
        return code

    # ---- ending

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, expect=0, timeout=60):
        self.signal(signal.SIGTERM)
        return self.wait(expect, timeout)

    def kill(self):
        self.process.kill()
        return self.process.wait()

    def close(self):
        """After the test: ends the process if it still runs. Gives a list of problems."""
        if self.problems is None:
            self.problems = self._close()
        return self.problems

    def _close(self):
        problems = []
        if self.alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                problems.append("weir did not end within 20 s of SIGTERM after the test")
                self.kill()
        code = self.process.returncode
        if code < 0 and code not in (-signal.SIGKILL, -signal.SIGTERM):
            problems.append(f"weir was ended by {signal.Signals(-code).name}")
        problems += sanitizer_reports(self.stderr)
        return problems

    def report(self, lines=60):
        """The command and the ends of its logs, for a failure's text."""
        parts = ["$ " + shlex.join(self.command)]
        for name, text in (("stderr", self.stderr), ("stdout", self.stdout)):
            kept = text.splitlines()
            if len(kept) > lines:
                kept = [f"... {len(kept) - lines} lines before ...", *kept[-lines:]]
            parts += [f"--- {name}", *(line[:2000] for line in kept)]
        return "\n".join(parts)


def sanitizer_reports(stderr):
    return [f"{mark}\n{stderr[stderr.index(mark):][:6000]}"
            for mark in SANITIZER_REPORTS if mark in stderr]


def fail_on_sanitizer_report(stderr):
    reports = sanitizer_reports(stderr)
    assert not reports, reports[0]
