# SPDX-License-Identifier: Apache-2.0
"""The proxy's links: every connection of the system under test that a fault may touch goes over one."""
import subprocess
import threading

from weirtest.tools import free_port


class Links:
    """One chaos_proxy. A link has a name ("api.producer": who connects, to what) and a port.

    links.add("api.redis", redis.port)   its port; asked again it is the same one
    links.tell("api.redis", "stall")     see proxy.c for the verbs
    links.names(prefix)
    """

    def __init__(self, program):
        self._process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ports = {}
        self._lock = threading.Lock()

    def _say(self, line):
        with self._lock:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        if not answer.startswith("ok"):
            raise RuntimeError(f"chaos_proxy: {line!r}: {answer or 'it is gone'}")
        return answer

    def add(self, name, target):
        if name not in self._ports:
            port = free_port()
            self._say(f"link {port} {target}")
            self._ports[name] = port
        return self._ports[name]

    def address(self, name):
        return f"127.0.0.1:{self._ports[name]}"

    def names(self, prefix=""):
        return sorted(name for name in self._ports if name.startswith(prefix))

    def tell(self, name, verb, number=None):
        self._say(f"{verb} {self._ports[name]}" + (f" {number}" if number is not None else ""))

    def seen(self, name):
        """(connections now, bytes that have passed)"""
        _, conns, passed = self._say(f"seen {self._ports[name]}").split()
        return int(conns), int(passed)

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
