# SPDX-License-Identifier: Apache-2.0
"""Free ports, waiting, unique names, test events."""
import fcntl
import itertools
import os
import random
import re
import socket
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_given_out = set()
_claims = None
_serial = itertools.count(1)

# scripts/servers takes its ports above these; outgoing connections have theirs from 32768 on.
PORTS = range(10240, 28000)


def _claim(port):
    """Whether this process now has the port among all tests of this machine: a lock on a byte of
    a file, which ends with the process."""
    global _claims
    if _claims is None:
        path = os.path.join(tempfile.gettempdir(), f"weir-test-ports-{os.getuid()}")
        _claims = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def free_port():
    """A loopback port that nobody listens on and that no other test was given, nor will be."""
    for _ in range(500):
        port = random.SystemRandom().choice(PORTS)
        if port in _given_out or not _claim(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_out.add(port)
        return port
    raise RuntimeError(f"found no free port between {PORTS.start} and {PORTS.stop - 1}")


def unique_name(stem="t"):
    """A name for a topic, database or key prefix that no other test or session has."""
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", stem).strip("-")[:40]
    return f"{stem}-{os.getpid()}-{next(_serial)}-{random.SystemRandom().randrange(16**6):06x}"


def wait_until(condition, timeout=20.0, what=None, interval=0.05):
    """Calls condition() until it gives something true, and returns that. After `timeout` seconds
    the test fails with `what` (a string, or a callable that makes one). An assertion that
    condition() raises counts as "not yet" and is the failure shown at the end."""
    deadline = time.monotonic() + timeout
    while True:
        assertion = None
        try:
            value = condition()
            if value:
                return value
        except AssertionError as error:
            assertion = error
        if time.monotonic() >= deadline:
            break
        time.sleep(interval)
    if assertion is not None:
        raise assertion
    text = what() if callable(what) else what
    raise AssertionError(f"not within {timeout:g} s: {text or getattr(condition, '__name__', '?')}")


def events(n, start=0, **fields):
    """n user events as dicts with ids "e0", "e1", ...; fields are added to each one."""
    kinds = ("page_view", "click", "login", "logout", "purchase")
    made = []
    for i in range(start, start + n):
        event = {
            "id": f"e{i}",
            "type": kinds[i % len(kinds)],
            "user_id": f"u{i % 100}",
            "ts": "2025-05-20T12:00:%02d.%03dZ" % (i // 1000 % 60, i % 1000),
            "props": {"n": i, "page": f"/p/{i % 17}", "amount": i % 50 + 0.5},
        }
        event.update(fields)
        made.append(event)
    return made


def each_closed(make):
    """The body of a fixture: gives a function that makes one, and closes what it made after the test."""
    made = []

    def start(*args, **kwargs):
        made.append(make(*args, **kwargs))
        return made[-1]

    yield start
    for one in made:
        one.close()
