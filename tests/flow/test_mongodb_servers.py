# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb and servers that fail, hang, go away, or ask who it is."""
import json
import shutil
import signal
import socket
import tempfile

import pymongo
import pytest

from mongodb_rig import dead, lines, pipeline, stored
from mongodb_standin import PASSING_CODES, REJECTED, REJECTED_ALONE
from weirtest import MongoDB, events, wait_until


# ---- servers that fail ------------------------------------------------------------------------

@pytest.fixture(scope="module")
def failing_server():
    folder = tempfile.mkdtemp(prefix="weir-own-mongodb-")
    server = MongoDB(folder, ["--enable-test-commands"])
    yield server.start()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def failing(failing_server):
    """A server whose next inserts and updates fail as told: failing.fail(times, errorCode=91)."""
    server = failing_server

    def fail(times, **data):
        data.setdefault("failCommands", ["insert", "update"])
        server.client.admin.command("configureFailPoint", "failCommand",
                                    mode={"times": times} if times else "off", data=data)
    server.fail = fail
    # Errors of "no primary" make the driver wait for its monitor, which this server never wakes.
    server.failing_uri = server.uri + "?heartbeatFrequencyMS=500"
    server.client.drop_database("flow")
    yield server
    fail(0)


def slow(n, sink="", rate="2000"):
    """n generated events at a rate, so that something can happen meanwhile."""
    return f"""\
name: store
sources: {{in: {{type: generate, rate: {rate}, count: {n}}}}}
sinks:
  store:
    type: mongodb
    inputs: [in]
    uri: "${{env:URI}}"
    database: flow
    collection: events
    retry: {{initial: 50ms, max: 500ms}}
    batch: {{events: 100}}
{sink}
  failed: {{type: file, path: failed.ndjson}}
dead_letter: failed
"""


PASSING = [
    {"closeConnection": True},
    {"errorCode": 189}, {"errorCode": 91}, {"errorCode": 10107}, {"errorCode": 11600},
    {"errorCode": 98765, "errorLabels": ["RetryableWriteError"]},
    {"errorCode": 16500}, {"errorCode": 112}, {"errorCode": 13}, {"errorCode": 12345},
    {"writeConcernError": {"code": 91, "errmsg": "shutting down"}},
    {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
]


@pytest.mark.parametrize("mode, data", [("insert", data) for data in PASSING]
                         + [("replace", PASSING[i]) for i in (0, 2, 10)], ids=str)
def test_passing_failures_lose_nothing(weir, failing, mode, data):
    failing.fail(4, **data)
    weir.run(slow(3000, f"    mode: {mode}", rate="20000"), env={"URI": failing.failing_uri})
    assert failing.client.flow.events.count_documents({}) == 3000
    assert dead(weir) == []


@pytest.mark.long(40)
def test_each_code_of_a_command(weir, failing):
    """An event a code; each insert fails once. What a document is to blame for is rejected, all else is
    stored by the next try. Three codes need more than a failpoint can give."""
    codes = [c for c in (*REJECTED, *REJECTED_ALONE, *PASSING_CODES) if c not in (121, 249, 13388)]
    for i, code in enumerate(codes):
        weir.write(lines({"_id": i}), "in.ndjson")
        failing.fail(1, errorCode=code, failCommands=["insert"])
        weir.run(pipeline(failing.failing_uri, "flow"))
    assert {codes[json.loads(d["payload"])["_id"]]: d["code"] for d in dead(weir)} == {
        c: name for c, name in REJECTED.items() if c in codes}
    assert sorted(codes[i] for i in stored(failing.client.flow)) == sorted(
        c for c in codes if c not in REJECTED)


def test_a_command_that_one_document_breaks(weir, failing):
    """The whole command fails; halves find out that it is each document: all are rejected."""
    failing.fail(1000, errorCode=22)
    weir.write(lines(*({"_id": i} for i in range(20))), "in.ndjson")
    weir.run(pipeline(failing.failing_uri, "flow"))
    assert sorted(json.loads(d["payload"])["_id"] for d in dead(weir)) == list(range(20))
    assert {d["code"] for d in dead(weir)} == {"bad_document"}


def test_server_away_and_back(weir, own_mongodb):
    server = own_mongodb("--sync-on-commit")
    running = weir.start(slow(10000), env={"URI": server.uri})
    wait_until(lambda: server.client.flow.events.estimated_document_count() > 2000, 30)
    server.stop()
    running.wait_log("sink unavailable", component="store")
    assert running.alive
    server.start()
    running.wait(timeout=120)
    assert server.client.flow.events.count_documents({}) == 10000
    assert dead(weir) == []
    assert running.find_log("sink takes events again", component="store")


def test_server_killed_and_back(weir, own_mongodb):
    server = own_mongodb("--sync-on-commit")
    running = weir.start(slow(6000, "    mode: replace"), env={"URI": server.uri})
    wait_until(lambda: server.client.flow.events.estimated_document_count() > 1000, 30)
    server.forget()
    server.kill()
    running.wait_log("sink unavailable", component="store")
    server.start()
    running.wait(timeout=120)
    assert server.client.flow.events.count_documents({}) == 6000
    assert dead(weir) == []


@pytest.mark.sanitize
def test_server_that_hangs(weir, own_mongodb):
    """No answer for longer than `timeout`: the write ends, and is repeated when the server is back."""
    server = own_mongodb()
    running = weir.start(slow(6000, "    timeout: 2s"), env={"URI": server.uri})
    wait_until(lambda: server.client.flow.events.estimated_document_count() > 1000, 30)
    server.pause()
    try:
        running.wait_metric("weir_component_errors_total", 1, component="store", timeout=15)
    finally:
        server.resume()
    running.wait(timeout=120)
    assert server.client.flow.events.count_documents({}) == 6000
    assert dead(weir) == []


@pytest.mark.sanitize
def test_sigterm_while_the_server_hangs(weir, own_mongodb):
    """The deadline of the shutdown ends a write that waits for an answer; nothing is a dead letter,
    and what was not known is written by the next run."""
    server = own_mongodb()
    weir.write(lines(*events(20000)), "in.ndjson")
    text = pipeline("${env:URI}", "flow", "    timeout: 600s\n    batch: {events: 20}",
                    more="shutdown_timeout: 2s")
    running = weir.start(text, env={"URI": server.uri})
    wait_until(lambda: server.client.flow.events.estimated_document_count() > 500, 30)
    server.pause()
    try:
        running.signal(signal.SIGTERM)
        running.wait(expect=None, timeout=60)
    finally:
        server.resume()
    assert running.find_log("pipeline ended")[0]["timed_out"] is True
    assert dead(weir) == []
    weir.run(text.replace("{events: 20}", "{events: 1000}"), env={"URI": server.uri})
    assert server.client.flow.events.count_documents({}) == 20000


@pytest.fixture(params=["", "&tls=true&tlsInsecure=true"], ids=["plain", "tls"])
def mute(request):
    """Takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        yield f"mongodb://127.0.0.1:{listener.getsockname()[1]}/?connectTimeoutMS=300000" + request.param


@pytest.mark.sanitize
def test_no_write_outlives_its_deadline(weir, mute):
    """Each of three writes gives up within its second, not after the 300 of connecting."""
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(mute, "flow", "    timeout: 1s", more="shutdown_timeout: 1s"),
                         ready=False)
    running.wait_log("timed out" if "tls" in mute else "timeout", component="store", timeout=60)
    running.wait_metric("weir_component_errors_total", 30, component="store", timeout=60)
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=60)
    assert dead(weir) == []


@pytest.mark.sanitize
def test_sigterm_while_connecting(weir, mute):
    """A server that was never reached holds up the shutdown no longer than its deadline."""
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(mute, "flow", "    timeout: 600s\n    concurrency: 3",
                                  more="shutdown_timeout: 1s"), ready=False)
    running.wait_log("pipeline started")
    running.wait_metric("weir_component_received_events_total", 10, component="store")
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=60)
    assert running.find_log("pipeline ended")[0]["timed_out"] is True
    assert dead(weir) == []


@pytest.mark.sanitize
def test_a_name_is_resolved(weir, mongodb, mongo_db):
    """localhost has more than one address; the server listens on one of them."""
    weir.write(lines(*events(100)), "in.ndjson")
    weir.run(pipeline(mongodb.uri.replace("127.0.0.1", "localhost") + "?directConnection=true",
                      mongo_db.name))
    assert mongo_db.events.count_documents({}) == 100


@pytest.mark.sanitize
@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
def test_a_name_that_nobody_has(weir, scheme):
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(f"{scheme}://store.nobody.invalid/", "flow", "    timeout: 3s",
                                  more="shutdown_timeout: 1s"), ready=False)
    running.wait_log("nobody.invalid", component="store", timeout=60)
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=60)
    assert dead(weir) == []


def test_the_connection_breaks_while_nothing_is_written(weir, own_mongodb):
    """The server is restarted between two events: the second is stored as well."""
    server = own_mongodb("--sync-on-commit")
    running = weir.start(slow(2, rate="0.1"), env={"URI": server.uri})
    wait_until(lambda: server.client.flow.events.estimated_document_count() == 1, 30)
    server.restart()
    running.wait(timeout=60)
    assert server.client.flow.events.count_documents({}) == 2
    assert dead(weir) == []


def test_started_before_the_server(weir, own_mongodb):
    server = own_mongodb()
    uri = server.uri
    server.stop()
    running = weir.start(slow(500), env={"URI": uri}, ready=False)
    running.wait_log("", component="store", level="warn")
    server.start()
    running.wait(timeout=60)
    assert server.client.flow.events.count_documents({}) == 500


def test_write_concern_that_cannot_be_met(weir, mongodb, mongo_db):
    """Its events wait; they are no dead letters, and a SIGTERM ends it."""
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(
        mongodb.uri, mongo_db.name, "    write_concern: {w: 3, timeout: 100ms}",
        more="shutdown_timeout: 2s"), ready=False)
    found = running.wait_log("write_concern", component="store")
    assert "data-bearing" in str(found) or "write concern" in str(found)
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=30)
    assert dead(weir) == []


@pytest.mark.sanitize
def test_sigterm_drains(weir, mongodb, mongo_db):
    running = weir.start(slow(10_000_000, rate="5000").replace("database: flow",
                                                               f"database: {mongo_db.name}"),
                         env={"URI": mongodb.uri})
    running.wait_metric("weir_component_sent_events_total", 3000, component="store")
    running.signal(signal.SIGTERM)
    running.wait(timeout=60)
    assert running.find_log("pipeline ended")[0]["events_left"] == 0
    numbers = sorted(doc["seq"] for doc in mongo_db.events.find())
    assert len(numbers) >= 3000 and numbers == list(range(len(numbers)))


@pytest.mark.sanitize
def test_many_connections(weir, mongodb, mongo_db):
    weir.write(lines(*events(5000)), "in.ndjson")
    weir.run(pipeline(mongodb.uri, mongo_db.name,
                      '    concurrency: 8\n    shard_by: "{{ user_id }}"\n    id: "{{ id }}"'))
    assert sorted(stored(mongo_db)) == sorted(f"e{i}" for i in range(5000))


def test_from_kafka(weir, kafka, mongodb, mongo_db):
    """Read twice under two groups: topic-partition-offset is the _id, so nothing is there twice."""
    topic = kafka.topic(partitions=3)
    kafka.produce(topic, [{"n": i} if i % 10 else f'"{i}"' for i in range(2000)],
                  key=lambda i, _: str(i))
    for group in ("one", "two"):
        running = weir.start(f"""\
name: store
sources:
  in: {{type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {topic}-{group}}}
sinks:
  store: {{type: mongodb, inputs: [in], uri: "{mongodb.uri}", database: {mongo_db.name},
           collection: events, concurrency: 2}}
  failed: {{type: file, path: failed-{group}.ndjson}}
dead_letter: failed
""")
        running.wait_metric("weir_component_sent_events_total", 1800, component="store")
        wait_until(lambda: (weir.folder / f"failed-{group}.ndjson").read_text().count("\n") == 200)
        running.stop()
    docs = stored(mongo_db)
    assert sorted(d["n"] for d in docs.values()) == [i for i in range(2000) if i % 10]
    assert all(key.startswith(f"{topic}-") for key in docs)


# ---- who may ----------------------------------------------------------------------------------

@pytest.fixture
def guarded(own_mongodb):
    server = own_mongodb()
    server.add_user("weir", "s3cr3tpass")
    server.args = ["--auth"]
    server.restart()
    return server


def guarded_uri(server, password, user="weir"):
    return f"mongodb://{user}:{password}@{server.address}/?authSource=admin"


def test_user_and_password(weir, guarded):
    (weir.folder / "uri").write_text(guarded_uri(guarded, "s3cr3tpass") + "\n")
    weir.write(lines(*events(500)), "in.ndjson")
    running = weir.run(pipeline("${file:uri}", "flow"))
    client = pymongo.MongoClient(guarded_uri(guarded, "s3cr3tpass"))
    assert client.flow.events.count_documents({}) == 500
    client.close()
    assert "s3cr3tpass" not in running.stderr


@pytest.mark.parametrize("user, password", [("weir", "wr0ngpass"), ("nob0dy", "s3cr3tpass")],
                         ids=["password", "user"])
def test_wrong_password(weir, guarded, user, password):
    """A clear error, no dead letters, and the events wait."""
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(guarded_uri(guarded, password, user), "flow",
                                  more="shutdown_timeout: 1s"), ready=False)
    found = running.wait_log("auth_failed", component="store")[0]
    assert "the server refused the user or password of the uri" in str(found)
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=30)
    assert dead(weir) == []
    assert password not in running.stderr and user not in running.stderr.replace("weir", "")


def test_no_password(weir, guarded):
    weir.write(lines(*events(10)), "in.ndjson")
    running = weir.start(pipeline(f"mongodb://{guarded.address}/", "flow",
                                  more="shutdown_timeout: 1s"), ready=False)
    running.wait_log("not_authorized", component="store")
    running.signal(signal.SIGTERM)
    running.wait(expect=None, timeout=30)
    assert dead(weir) == []
