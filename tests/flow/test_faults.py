# SPDX-License-Identifier: Apache-2.0
"""The n-th allocation, write, sync, send or receive fails, for one n after the other: the process neither
crashes nor hangs, loses nothing that it acknowledged, and says what happened. Some values of n here, all of
them by `scripts/test fault`."""
import json

import pytest

from fault_rig import ALL, Faulty, expect_end, kept, serve, sweep
from weirtest import wait_until

LUA = """
  it:
    type: lua
    inputs: [in]
    code: |
      local seen = {}
      function process(event, meta)
        seen[#seen + 1] = {n = event.n, text = ("x"):rep(event.n)}
        event.tags = {"a", "b", {deep = event.n}}
        meta.headers.h = "v" .. event.n
        if event.n == 5 then error("five") end
        return event
      end"""

FILES = f"""
name: p
shutdown_timeout: 10s
sources: {{in: {{type: file, path: in.ndjson, state: state}}}}
transforms:{LUA}
sinks:
  out: {{type: file, inputs: [it], path: out.ndjson, fsync: batch, batch: {{events: 7, timeout: 5ms}},
        retry: {{initial: 5ms, max: 20ms}}}}
  dead: {{type: file, path: dead.ndjson, fsync: batch, batch: {{timeout: 5ms}}, retry: {{initial: 5ms, max: 20ms}}}}
dead_letter: dead
"""

KINDS = [("start", ""), ("alloc", ""), ("write", "ENOSPC"), ("write", "short"), ("write", "EIO"), ("sync", ""),
         ("read", ""), ("rename", "")]
NET = [("alloc", ""), ("send", ""), ("send", "short"), ("recv", ""), ("recv", "end"), ("accept", "")]

pytestmark = [pytest.mark.long(300 if ALL else 20)]


def ids(pairs):
    return [" ".join(filter(None, pair)) for pair in pairs]


def fresh(weir):
    """A folder for each run."""
    made = []

    def make():
        made.append(weir.folder / f"run-{len(made)}")
        return made[-1]
    return make


# ---- from files to files -----------------------------------------------------------------------

@pytest.mark.parametrize("kind, how", KINDS, ids=ids(KINDS))
@pytest.mark.sanitize
def test_files(weir, kind, how):
    folder_of = fresh(weir)
    lines = "".join(json.dumps({"n": n, "fill": "y" * 50 * n}) + "\n" for n in range(30))

    def run_one(fault):
        folder = folder_of()
        folder.mkdir()
        (folder / "in.ndjson").write_text(lines)
        run = Faulty(weir, folder, FILES, fault)
        code = run.wait()
        expect_end(run, code)
        if code != 0 or "cannot be read" in run.stderr or "cannot read" in run.stderr:
            # What it had not acknowledged comes again.
            again = Faulty(weir, folder, FILES, None)
            assert again.wait() == 0, f"{run}\n--- again\n{again}"
        assert sorted(set(kept(folder))) == list(range(30)), str(run)
        return run

    assert sweep(run_one, kind, how, few=15) > 0


# ---- from HTTP ---------------------------------------------------------------------------------

def edge(sink, more=""):
    return f"""
name: p
shutdown_timeout: 10s
sources: {{in: {{type: http, address: "127.0.0.1:PORT", lanes: 1}}}}
transforms:{LUA}
sinks:
  out: {{inputs: [it], batch: {{timeout: 2ms}}, retry: {{initial: 5ms, max: 20ms}}, {sink}}}
  dead: {{type: file, path: dead.ndjson, batch: {{timeout: 2ms}}, retry: {{initial: 5ms, max: 20ms}}}}
dead_letter: dead
{more}
"""


@pytest.mark.parametrize("kind, how", NET + [("start", ""), ("write", "ENOSPC"), ("write", "short"), ("sync", "")],
                         ids=ids(NET + [("start", ""), ("write", "ENOSPC"), ("write", "short"), ("sync", "")]))
@pytest.mark.sanitize
def test_http_to_file(weir, kind, how):
    folder_of = fresh(weir)

    def run_one(fault):
        folder = folder_of()
        run, acked = serve(weir, folder, edge("type: file, path: out.ndjson, fsync: batch"), fault)
        assert set(acked) <= set(kept(folder)), str(run)
        return run

    assert sweep(run_one, kind, how) > 0


def run_server(weir, sink, read, kind, how, few):
    """read(k) gives the numbers that the server has of the k-th run."""
    folder_of, serial = fresh(weir), iter(range(1_000_000))

    def run_one(fault):
        folder, k = folder_of(), next(serial)
        run, acked = serve(weir, folder, edge(sink.replace("RUN", str(k))), fault)
        assert set(acked) <= set(kept(folder)) | set(read(k)), str(run)
        return run

    assert sweep(run_one, kind, how, few) > 0


SERVER = [("alloc", ""), ("send", ""), ("recv", ""), ("recv", "end"), ("connect", "")]


@pytest.mark.parametrize("kind, how", SERVER, ids=ids(SERVER))
@pytest.mark.sanitize
def test_http_to_redis(weir, redis, unique, kind, how):
    key = unique("faults")
    run_server(weir, f'type: redis, url: "{redis.url}", list: {{key: "{key}-RUN"}}',
               lambda k: [json.loads(e)["n"] for e in redis.client().lrange(f"{key}-{k}", 0, -1)], kind, how, 6)


@pytest.mark.parametrize("kind, how", SERVER, ids=ids(SERVER))
def test_http_to_mongodb(weir, mongodb, mongo_db, kind, how):
    run_server(weir, f'type: mongodb, uri: "{mongodb.uri}", database: {mongo_db.name}, collection: cRUN',
               lambda k: [d["n"] for d in mongo_db[f"c{k}"].find()], kind, how, 5)


@pytest.mark.parametrize("kind, how", SERVER[:-1], ids=ids(SERVER[:-1]))  # it connects as it opens
def test_http_to_kafka(weir, kafka, kind, how):
    topic = kafka.topic()
    run_server(weir, f'type: kafka, brokers: "{kafka.brokers}", topic: {topic}, headers: {{run: "RUN"}}',
               lambda k: [m.json["n"] for m in kafka.consume(topic) if m.headers.get("run") == str(k).encode()],
               kind, how, 4)


# ---- from Kafka --------------------------------------------------------------------------------

KAFKA = [("alloc", ""), ("write", "ENOSPC"), ("recv", ""), ("send", "")]


@pytest.mark.parametrize("kind, how", KAFKA, ids=ids(KAFKA))
def test_kafka_to_file(weir, kafka, unique, kind, how):
    folder_of, topic = fresh(weir), kafka.topic()
    kafka.produce(topic, [{"n": n, "k": n} for n in range(20)])

    def run_one(fault):
        folder = folder_of()
        text = edge("type: file, path: out.ndjson").replace(
            'type: http, address: "127.0.0.1:PORT"',
            f'type: kafka, brokers: "{kafka.brokers}", topics: [{topic}], group: {unique("g")}, start: earliest')
        run = Faulty(weir, folder, text, fault)

        def all_there():
            return set(range(20)) <= set(kept(folder))
        wait_until(lambda: not run.alive or all_there(), 40, lambda: f"all came\n{run}", 0.02)
        code = run.stop() if run.alive else run.wait()
        expect_end(run, code)
        if not all_there():
            again = Faulty(weir, folder, text, None)
            wait_until(all_there, 40, lambda: f"all came again\n{run}\n--- again\n{again}", 0.02)
            again.stop()
        return run

    assert sweep(run_one, kind, how, few=4) > 0
