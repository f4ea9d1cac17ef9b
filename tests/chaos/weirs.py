# SPDX-License-Identifier: Apache-2.0
"""The weirs under test, by name: started, killed, stopped, and watched for ends that nobody caused."""
import signal
import threading

from weirtest.process import WeirBinary

import power
from world import clock_file, step_clock


class Part:
    """One weir process that a round needs: how it is started, again and again.

    name    "copy-1"; `group` is "copy": those of a group share work, and another may be added
    text    its pipeline file, or a path; env: its environment
    sinks   links to its sinks, by which it can be cut off from them
    on_disk it writes to the small disk, which can be full
    durable files and folders of which it promises that a power cut takes nothing that it acknowledged
    changes pairs of texts, either of which can stand in its file: a component is made anew for it
    """

    def __init__(self, name, text, env=None, sinks=(), reads_kafka=False, on_disk=False, durable=(), changes=()):
        self.name, self.text, self.env = name, text, env or {}
        self.group = name.rsplit("-", 1)[0] if name[-1].isdigit() else name
        self.sinks, self.reads_kafka, self.on_disk = list(sinks), reads_kafka, on_disk
        self.durable, self.changes = list(durable), list(changes)


class Fleet:
    """All parts of a round. Every way to end one goes through here, so that any other end is a finding."""

    def __init__(self, folder, binary, plugins, shims):
        self._weir = WeirBinary(folder)
        self._weir.bin, self._weir.plugin_path = binary, str(plugins)
        self._shims = ":".join(map(str, shims))
        self._clocks = {}
        self._running = {}
        self._lock = threading.RLock()
        self.parts = {}
        self.ends = []  # (name, text) of ends that nobody caused

    # ---- starting and ending

    def add(self, part):
        self.parts[part.name] = part
        self.start(part.name)

    def start(self, name):
        part = self.parts[name]
        clock = self._clocks.get(name)
        if clock is None:
            clock = self._clocks[name] = clock_file(self._weir.folder / f"{name}.clock")
        env = {**part.env, "CHAOS_CLOCK": str(clock), "LD_PRELOAD": self._shims}
        if part.durable:
            env["CHAOS_SYNCS"] = str(self._syncs(name))
        with self._lock:
            self._running[name] = self._weir.start(part.text, env=env, ready=False)

    def _syncs(self, name):
        return self._weir.folder / f"{name}.syncs"

    def wait_ready(self, timeout=60):
        for running in list(self._running.values()):
            running.wait_ready(timeout)

    def names(self):
        return sorted(self.parts)

    def kill(self, name):
        with self._lock:
            running = self._running.pop(name, None)
            if running is not None and not self._note_end(name, running):
                running.kill()

    def cut_power(self, name):
        """Of one that was killed. Gives the bytes that it had not synced."""
        return power.cut(self.parts[name].durable, self._syncs(name))

    def hang_up(self, name):
        self._running[name].signal(signal.SIGHUP)

    def stop(self, name, timeout=60):
        """SIGTERM; gives its exit code, None where it had to be killed."""
        with self._lock:
            running = self._running.pop(name, None)
        if running is None or self._note_end(name, running):
            return 0
        running.signal(signal.SIGCONT)
        running.signal(signal.SIGTERM)
        try:
            code = running.process.wait(timeout)
        except Exception:
            running.kill()
            self.ends.append((name, f"did not end within {timeout} s of SIGTERM\n{running.report(20)}"))
            return None
        if code < 0:
            self.ends.append((name, f"was ended by {signal.Signals(-code).name} after SIGTERM\n"
                                    f"{running.report(20)}"))
        return code

    def remove(self, name):
        code = self.stop(name)
        self.parts.pop(name, None)
        return code

    def freeze(self, name):
        self._running[name].signal(signal.SIGSTOP)

    def thaw(self, name):
        with self._lock:
            if name in self._running:
                self._running[name].signal(signal.SIGCONT)

    def step_clock(self, name, seconds):
        step_clock(self._clocks[name], seconds)

    # ---- looking

    def _note_end(self, name, running):
        if running.alive:
            return False
        self.ends.append((name, f"ended by itself with {running.process.returncode}\n{running.report(30)}"))
        return True

    def check(self):
        """Notes ends that nobody caused, and starts those parts again, so that the round goes on."""
        with self._lock:
            for name, running in list(self._running.items()):
                if self._note_end(name, running):
                    self._running.pop(name)
                    self.start(name)

    def _metrics(self, name):
        """(its pid, its metrics); (None, None) where it does not say."""
        running = self._running.get(name)
        try:
            return running.pid, running.metrics()
        except (AttributeError, OSError, AssertionError):
            return None, None

    def reloads(self, name):
        """(which process, reloads so far, whether it runs by its file); None where it does not say."""
        pid, metrics = self._metrics(name)
        return metrics and (pid, metrics.get("weir_config_reloads_total"),
                            metrics.get("weir_config_last_reload_successful") == 1)

    def in_buffer(self, name):
        """Events that its buffers hold; None where it does not say."""
        _, metrics = self._metrics(name)
        return metrics and metrics.get("weir_buffer_events")

    def log(self, name, lines=40):
        running = self._running.get(name)
        return running.report(lines) if running is not None else f"{name} is down"

    def stop_all(self, order):
        """In that order, what is not named last. Gives {name: exit code}."""
        names = [n for n in order if n in self._running] + [n for n in list(self._running) if n not in order]
        return {name: self.stop(name) for name in names}

    def close(self):
        for running in self._weir.started:
            if running.alive:
                running.signal(signal.SIGCONT)
                running.kill()

    def sanitizer_reports(self):
        return [problem for running in self._weir.started if not running.alive
                for problem in running.close() if "Sanitizer" in problem or "runtime error" in problem]


def available(build):
    """The binary, its plugins and what is loaded in front of libc, of a build folder."""
    shims = (build / "chaos/clock_step.so", build / "chaos/power_cut.so")
    missing = [str(path) for path in (build / "bin/weir", build / "plugins", *shims) if not path.exists()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)}: build with scripts/test unit, or set WEIR_BUILD")
    return build / "bin/weir", build / "plugins", shims
