# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the flow tests.

    weir          starts weirs in tmp_path: weir.start(yaml), weir.run(yaml), weir.check(yaml),
                  weir.command("plugins"); see weirtest/process.py
    kafka, redis, mongodb
                  one server of each a session, shared: use topics, key prefixes and databases of
                  your own (kafka.topic(), unique, mongo_db); see weirtest/servers.py
    own_kafka, own_redis, own_mongodb
                  functions that start a server for this test alone, to pause, kill, restart:
                  own_redis("--requirepass", "secret")
    mongo_db      a pymongo database of this test, removed after it
    unique        unique("stem"): a name that nobody else has

Run: scripts/test flow -- -k NAME, or build/venv/bin/pytest tests/flow/test_NAME.py
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

from weirtest import Kafka, MongoDB, Redis, WeirBinary, unique_name  # noqa: E402

KINDS = {"kafka": Kafka, "redis": Redis, "mongodb": MongoDB}


def pytest_configure(config):
    # An end by SIGTERM goes the way of Ctrl-C, so that servers and weirs are stopped.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


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

@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory):
    folder = Path(tempfile.mkdtemp(prefix="weir-servers-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _shared(name, folder):
    given = os.environ.get("WEIR_TEST_SERVERS")
    if given:
        server = KINDS[name](given)
        assert (Path(given) / name / "pid").exists(), \
            f"WEIR_TEST_SERVERS={given}: no {name} there; run scripts/servers up --dir {given}"
        yield server
        server.forget()
        return
    server = KINDS[name](folder)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def kafka(servers_folder):
    yield from _shared("kafka", servers_folder)


@pytest.fixture(scope="session")
def redis(servers_folder):
    yield from _shared("redis", servers_folder)


@pytest.fixture(scope="session")
def mongodb(servers_folder):
    yield from _shared("mongodb", servers_folder)


def _own(name, request):
    started = []

    def start(*args):
        folder = tempfile.mkdtemp(prefix=f"weir-own-{name}-")
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
