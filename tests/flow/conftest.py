# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the flow tests.

    weir          starts weirs in tmp_path: weir.start(yaml), weir.run(yaml), weir.check(yaml),
                  weir.command("plugins"); see weirtest/process.py
    kafka, mongodb
                  one server of each for all tests, which run side by side: use topics, groups and
                  databases of your own (kafka.topic(), unique, mongo_db); see weirtest/servers.py
    redis         one server a process of tests: no other test runs on it meanwhile, but earlier
                  ones left their keys
    own_kafka, own_redis, own_mongodb
                  functions that start a server for this test alone, to pause, kill, restart:
                  own_redis("--requirepass", "secret")
    mongo_db      a pymongo database of this test, removed after it
    unique        unique("stem"): a name that nobody else has

Run: scripts/test flow -- -k NAME, or build/venv/bin/pytest tests/flow/test_NAME.py
With -n N tests run in N processes (scripts/test: -n auto, 2 a core; -n 0: in one). Tests that share
a fixture of their module, such as a server, stay in one process; to keep others together mark them
@pytest.mark.xdist_group("name"). What takes long starts first: tests with servers of their own, and
those marked @pytest.mark.long(SECONDS).
With $WEIR_TEST_SERVERS=DIR the shared servers are those that `scripts/servers up --dir DIR`
started: they stay up, and a run of tests begins at once.

Example:
    def test_pass(weir, kafka):
        topic = kafka.topic(partitions=4)
        r = weir.run(f'''
    sources: {{in: {{type: file, path: {weir.write("{}\\n", "in.ndjson")}}}}}
    sinks: {{out: {{type: kafka, brokers: "{kafka.brokers}", topic: {topic}}}}}
    ''')
        assert [m.value for m in kafka.consume(topic, 1)] == [b"{}"]
"""
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from weirtest import Kafka, MongoDB, Redis, WeirBinary, session, unique_name  # noqa: E402

KINDS = {"kafka": Kafka, "redis": Redis, "mongodb": MongoDB}

# About how many seconds a test takes that uses the fixture, to start the longest first.
SECONDS = {"own_kafka": 20, "platform_servers": 15, "own_mongodb": 8, "failing_server": 5,
           "own_redis": 3, "kafka": 3, "mongodb": 2}


# ---- one process or several ------------------------------------------------------------------

def pytest_configure(config):
    # pytest-xdist 3.8 marks groups in this member, which pytest 9.2 no longer has.
    if not hasattr(pytest.Item, "_nodeid"):
        raise pytest.UsageError(f"pytest {pytest.__version__} hides the groups of tests from pytest-xdist, so "
                                "each process would start servers of its own: run scripts/setup --test")
    # An end by SIGTERM goes the way of Ctrl-C, so that servers and weirs are stopped. The signal of
    # Ctrl-C itself may be ignored: shells start background jobs so.
    signal.signal(signal.SIGTERM, _interrupt)
    if not session.is_worker():
        # A broker of a test lives for seconds: what Java spends on getting fast never comes back.
        os.environ.setdefault("WEIR_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        session.begin()


def _interrupt(*_):
    raise KeyboardInterrupt


def pytest_unconfigure(config):
    if not session.is_worker():
        session.end()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    # Most of a test's time is waiting.
    return min(2 * len(os.sched_getaffinity(0)), 12)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadgroup":
        return None
    from weirtest.scheduling import Scheduling
    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    if error:
        session.end_worker(node.gateway.id)


def pytest_make_parametrize_id(val, argname):
    # Names have to be the same in every process: compressed bytes and tokens hold the time they were
    # made at.
    if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()):
        return f"{argname}-{len(val)}-bytes"
    if isinstance(val, str) and len(val) > 80:
        return f"{val[:40]}...{len(val)}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    if not session.is_worker():
        return
    for item in items:
        for name in _shared_in_module(item):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}.{name}"))
    weights = {}
    for item in items:
        weights[_group(item)] = weights.get(_group(item), 0) + _seconds(item)
    items.sort(key=lambda item: -weights[_group(item)])


def _shared_in_module(item):
    """Fixtures of the test's own module that live longer than one test."""
    return sorted(name for name, found in item._fixtureinfo.name2fixturedefs.items()
                  if found[-1].scope != "function" and found[-1].baseid == item.parent.nodeid)


def _group(item):
    names = {str(mark.args[0]) for mark in item.iter_markers("xdist_group")}
    return "_".join(sorted(names)) if names else item.nodeid


def _seconds(item):
    marked = item.get_closest_marker("long")
    if marked:
        return marked.args[0]
    return max((SECONDS.get(name, 0.2) for name in item.fixturenames), default=0.2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


# ---- weir ------------------------------------------------------------------------------------

@pytest.fixture
def weir(request, tmp_path):
    binary = WeirBinary(tmp_path)
    yield binary
    problems = binary.close()
    result = getattr(request.node, "report_call", None)
    if problems or (result is not None and result.failed):
        for running in binary.started:
            print(running.report())
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)


# ---- servers ---------------------------------------------------------------------------------

def _given(name):
    """The server that $WEIR_TEST_SERVERS names, or None."""
    given = os.environ.get("WEIR_TEST_SERVERS")
    if not given:
        return None
    assert (Path(given) / name / "pid").exists(), \
        f"WEIR_TEST_SERVERS={given}: no {name} there; run scripts/servers up --dir {given}"
    return KINDS[name](given)


def _shared(name):
    """A server of the whole run: started by the first process that asks, stopped with the run."""
    server = _given(name)
    if server is None:
        # Not marked as a worker's: it stays when that worker crashes.
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
        server = KINDS[name](session.folder() / f"shared-{name}", until=session.controller(), env=env)
        with session.lock(name):
            if not (server.folder / "up").exists():
                server.start()
                (server.folder / "up").touch()
    yield server
    server.forget()


@pytest.fixture(scope="session")
def kafka():
    yield from _shared("kafka")


@pytest.fixture(scope="session")
def mongodb():
    yield from _shared("mongodb")


@pytest.fixture(scope="session")
def redis():
    server = _given("redis")
    if server is not None:
        assert not session.is_worker(), "WEIR_TEST_SERVERS has one redis: run with -n 0"
        yield server
        return
    server = KINDS["redis"](session.folder() / session.worker_name())
    yield server.start()
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


def _own(name, request):
    started = []

    def start(*args):
        folder = tempfile.mkdtemp(prefix=f"own-{name}-", dir=session.folder())
        server = KINDS[name](folder, args)
        started.append(server)
        return server.start()

    yield start
    # Whichever fixture was asked for first: weirs drain while their servers are still there.
    if "weir" in request.fixturenames:
        request.getfixturevalue("weir").close()
    for server in started:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def own_kafka(request):
    yield from _own("kafka", request)


@pytest.fixture
def own_redis(request):
    yield from _own("redis", request)


@pytest.fixture
def own_mongodb(request):
    yield from _own("mongodb", request)


# ---- names -----------------------------------------------------------------------------------

@pytest.fixture
def unique(request):
    return lambda stem="": unique_name(f"{request.node.name}-{stem}" if stem else request.node.name)


@pytest.fixture
def mongo_db(mongodb):
    name = unique_name("db")
    yield mongodb.client[name]
    mongodb.client.drop_database(name)
