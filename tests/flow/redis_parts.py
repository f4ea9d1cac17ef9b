# SPDX-License-Identifier: Apache-2.0
"""What the tests of the plugin redis share: pipelines, fixtures, servers that are none."""
import json
import socket
import threading
import time

import pytest
import redis as redis_client

from weirtest import free_port, wait_until


def lines(items):
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n"
                    for item in items)


def pipeline(url, sink, source="{type: file, path: in.ndjson}", more=""):
    if "retry:" not in sink:
        sink += ", retry: {initial: 20ms, max: 200ms}"
    if "shutdown_timeout" not in more:
        more += "\nshutdown_timeout: 5s"
    return f"""\
name: redis
sources: {{in: {source}}}
sinks:
  out: {{type: redis, url: "{url}", {sink}}}
  dead: {{type: file, path: dead.ndjson, mode: truncate}}
dead_letter: dead
{more}
"""


def generated(url, sink, source="", **kwargs):
    return pipeline(url, sink, f"{{type: generate, {source}}}", **kwargs)


def dead(weir):
    path = weir.folder / "dead.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()]


def made(weir):
    return [json.loads(line) for line in (weir.folder / "copy.ndjson").read_bytes().splitlines()]


def copied(text):
    """The pipeline, with a copy of all events in copy.ndjson."""
    return text.replace("  dead:", "  copy: {type: file, path: copy.ndjson, inputs: [in]}\n  dead:") \
        .replace("type: redis,", "type: redis, inputs: [in],")


def ignore_errors(function):
    try:
        function()
    except redis_client.RedisError:
        pass


def lookup(url, options, source="{type: file, path: in.ndjson}", more=""):
    return f"""\
name: lookup
sources: {{in: {source}}}
transforms: {{find: {{type: redis, url: "{url}", {options}}}}}
sinks:
  out: {{type: file, path: out.ndjson, mode: truncate, inputs: [find]}}
  dead: {{type: file, path: dead.ndjson, mode: truncate}}
dead_letter: dead
{more}
"""


def output(weir):
    return [json.loads(line) for line in (weir.folder / "out.ndjson").read_bytes().splitlines()]


@pytest.fixture
def db(redis):
    """The shared server, and a client of a database that this test empties."""
    client = redis.client(db=7)
    client.flushdb()
    client.url = redis.url + "/7"
    client.raw = redis.client(db=7, decode_responses=False)
    return client


@pytest.fixture
def guarded(own_redis):
    server = own_redis("--requirepass", "s3cr:t/p@ss")
    server.admin = server.client(password="s3cr:t/p@ss")
    server.admin.acl_setuser("weir", enabled=True, passwords=["+w31r"], keys=["ok:*"],
                             categories=["+@all"], reset=True)
    return server


class Impostor(threading.Thread):
    """Listens, and answers every connection with the same bytes, whatever is sent: at once, or where
    there is a `login` with that first. `tls`: a context for the server's side."""

    def __init__(self, answer, close=False, every=0.0, login=b"", tls=None):
        super().__init__(daemon=True)
        self.tls = tls
        self.answer, self.close_after, self.every, self.login = answer, close, every, login
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = ("rediss" if tls else "redis") + "://127.0.0.1:%d" % self.socket.getsockname()[1]
        self.connections = 0
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            connection.recv(65536)
            if self.login:
                connection.sendall(self.login)
                connection.recv(65536)
            if self.every:
                for i in range(len(self.answer)):
                    connection.sendall(self.answer[i:i + 1])
                    time.sleep(self.every)
            else:
                connection.sendall(self.answer)
            while not self.close_after and connection.recv(65536):
                pass
            connection.close()
        except OSError:
            pass


# To the login, and to a command behind a good one.
HOSTILE = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n<html>",
    "noise": bytes(range(256)) * 50,
    "negative": b"$-5\r\n",
    "no number": b":12x\r\n",
    "huge string": b"$99999999999999999999\r\n",
    "string of 2^63": b"$9223372036854775807\r\nabc",
    "string of 512 MiB and more": b"$536870913\r\n",
    "string that never comes": b"$536870912\r\nabc",
    "array of 2^40": b"*1099511627776\r\n",
    "array of 2^31 nils": b"*2147483647\r\n" + b"$-1\r\n" * 1000,
    "array of -2": b"*-2\r\n",
    "nested": b"*1\r\n" * 100_000,
    "endless line": b"+" + b"x" * 200_000,
    "no cr": b"+OK\n",
    "unasked": b"+OK\r\n" * 100_000,
    "bad string end": b"$3\r\nabcde",
    "resp3": b"%1\r\n+a\r\n:1\r\n",
    "empty": b"",
}


HOSTILE_EVENTS = [
    b'{"k":"ok1"}', b"{bad", b"[1]", b'"text"', b"17", b'{"k":null}', b"{}", b'{"k":"\\u0000\\r\\n$1"}',
    b'{"k":"' + b"x" * 70000 + b'"}', b'{"k":{"a":[1]}}', b"\xff\xfe", b'{"k":"\xff"}',
    b'{"k":"*3\\r\\n$3\\r\\nDEL\\r\\n"}', b'{"k":"{}"}', b"[" * 200 + b"]" * 200, b'{"k":"ok2"}']


class Cluster:
    """Nodes of a real Redis Cluster: masters with even shares of the slots, then replicas. `args`
    makes more arguments for each."""

    def __init__(self, own_redis, n_masters=3, n_replicas=0, args=tuple):
        self.nodes = [own_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                                "--cluster-node-timeout", "2000", *args())
                      for _ in range(n_masters + n_replicas)]
        self.masters = self.nodes[:n_masters]
        first = self.nodes[0].client()
        for i, node in enumerate(self.masters):
            share = 16384 // n_masters
            last = 16383 if i == n_masters - 1 else (i + 1) * share - 1
            node.client().execute_command("CLUSTER", "ADDSLOTSRANGE", i * share, last)
            node.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            bus = int(node.client().config_get("cluster-port")["cluster-port"])
            first.execute_command("CLUSTER", "MEET", node.host, node.port, bus)
        for node in self.nodes:
            wait_until(lambda: self.known(node) == len(self.nodes), 30)
        for i, node in enumerate(self.nodes[n_masters:]):
            node.client().execute_command("CLUSTER", "REPLICATE", self.id(self.masters[i % n_masters]))
        for node in self.nodes:
            wait_until(lambda: node.client().cluster("info")["cluster_state"] == "ok", 30)
        for node in self.nodes[n_masters:]:
            wait_until(lambda: node.client().info("replication")["master_link_status"] == "up", 30)
        self.url = self.nodes[0].url

    @staticmethod
    def known(node):
        return int(node.client().cluster("info")["cluster_known_nodes"])

    @staticmethod
    def id(node):
        return node.client().execute_command("CLUSTER", "MYID")

    def owner(self, slot):
        """The node that had the slot at first, and one of the others."""
        i = min(slot // (16384 // len(self.masters)), len(self.masters) - 1)
        return self.masters[i], self.masters[i - 1]

    def client(self):
        return redis_client.RedisCluster(host=self.nodes[0].host, port=self.nodes[0].port,
                                         decode_responses=True)

    def size(self):
        return sum(node.client().dbsize() for node in self.masters)

    @staticmethod
    def begin_move(slot, source, target):
        target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", Cluster.id(source))
        source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", Cluster.id(target))

    @staticmethod
    def move_keys(slot, source, target, n=100):
        """Moves up to n keys; returns how many that were."""
        keys = source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, n)
        if keys:
            source.client().execute_command("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS",
                                            *keys)
        return len(keys)

    @staticmethod
    def end_move(slot, source, target):
        while Cluster.move_keys(slot, source, target):
            pass
        for node in (target, source):
            node.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", Cluster.id(target))

    def move(self, slot, source, target):
        self.begin_move(slot, source, target)
        self.end_move(slot, source, target)


@pytest.fixture
def cluster(own_redis):
    return Cluster(own_redis)
