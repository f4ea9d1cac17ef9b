# SPDX-License-Identifier: Apache-2.0
"""Kafka clusters of one's own: several brokers, listeners with encryption and logins, SCRAM users,
access rules. For one plain broker use the fixtures `kafka` and `own_kafka`.

Every node has the listener PLAINTEXT, by which the test itself and the brokers among each other
speak, and those that the test names.
"""
import base64
import ctypes
import glob
import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from weirtest import Kafka, free_port, unique_name, wait_until
from weirtest.tools import ROOT


def _jars():
    script = '. "$0/scripts/lib/common.sh" && [[ -e $kafka_jars/.complete ]] || "$0/scripts/setup" --servers >&2; ' \
             'echo "$kafka_jars"'
    return subprocess.run(["bash", "-c", script, str(ROOT)], check=True, capture_output=True,
                          text=True).stdout.strip()


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Node:
    def __init__(self, cluster, number):
        self.cluster, self.number = cluster, number
        self.home = cluster.folder / f"node-{number}"
        self.home.mkdir(parents=True)
        self.ports = {name: free_port() for name in ["PLAINTEXT", "CONTROLLER", *cluster.listeners]}
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.ports['PLAINTEXT']}"

    def settings(self):
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT",
                     **{name: protocol for name, (protocol, _) in self.cluster.listeners.items()}}
        names = [n for n in self.ports if n != "CONTROLLER"]
        replicas = min(3, len(self.cluster.nodes))
        yield "process.roles=broker,controller"
        yield f"node.id={self.number}"
        yield "controller.quorum.voters=" + ",".join(
            f"{n.number}@127.0.0.1:{n.ports['CONTROLLER']}" for n in self.cluster.nodes)
        yield "listeners=" + ",".join(f"{n}://127.0.0.1:{p}" for n, p in self.ports.items())
        yield "advertised.listeners=" + ",".join(f"{n}://127.0.0.1:{self.ports[n]}" for n in names)
        yield "listener.security.protocol.map=" + ",".join(f"{n}:{p}" for n, p in protocols.items())
        yield "controller.listener.names=CONTROLLER"
        yield "inter.broker.listener.name=PLAINTEXT"
        yield f"log.dirs={self.home}/data"
        for name in ("offsets.topic", "transaction.state.log"):
            yield f"{name}.num.partitions=3"
            yield f"{name}.replication.factor={replicas}"
        yield "transaction.state.log.min.isr=1"
        yield "group.initial.rebalance.delay.ms=0"
        yield "group.min.session.timeout.ms=1000"
        yield "log.retention.ms=-1"
        for name, (_, more) in self.cluster.listeners.items():
            for setting in more:
                yield f"listener.name.{name.lower()}.{setting}"
        yield from self.cluster.more

    def java(self, *args):
        return ["java", "-Xmx320m", f"-Dlog4j2.configurationFile={self.home}/log4j2.properties",
                "-cp", f"{self.cluster.jars}/*", *args]

    def format(self):
        (self.home / "server.properties").write_text("\n".join(self.settings()) + "\n")
        (self.home / "log4j2.properties").write_text(
            "rootLogger.level = WARN\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\n"
            "appender.out.name = out\nappender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = %d %p %c{1}: %m%n\n")
        done = subprocess.run(self.java(
            "kafka.tools.StorageTool", "format", "-t", self.cluster.id, "-c",
            str(self.home / "server.properties"),
            *(a for user in self.cluster.scram for a in ("--add-scram", user))),
            capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        log = open(self.home / "log", "ab")
        self.process = subprocess.Popen(
            self.java("kafka.Kafka", str(self.home / "server.properties")), stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)
        log.close()

    def kill(self):
        """kill -9"""
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


class Cluster(Kafka):
    """Up after start(). `listeners`: {NAME: (protocol, [settings of that listener])}; `scram`: users
    as StorageTool takes them; `more`: settings of the brokers."""

    def __init__(self, folder, n_nodes=1, listeners=None, scram=(), more=()):
        super().__init__(folder)
        self.jars = _jars()
        self.listeners, self.scram, self.more = listeners or {}, scram, more
        self.id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        self.nodes = []
        self.nodes += [Node(self, number) for number in range(1, n_nodes + 1)]

    def start(self):
        for node in self.nodes:
            node.format()
        for node in self.nodes:
            node.start()
        wait_until(self.running, 120, lambda: "the cluster answers\n" + self.logs())
        return self

    def logs(self):
        return "\n".join((n.home / "log").read_text(errors="replace")[-1500:] for n in self.nodes)

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        return self._admin

    def running(self):
        """Like answers(); RuntimeError where a node has given up."""
        try:
            return self.answers()
        except AssertionError as error:
            raise RuntimeError(str(error)) from None

    def answers(self):
        for node in self.nodes:
            assert "Exiting Kafka due to" not in (node.home / "log").read_text(errors="replace"), self.logs()
            assert node.process.poll() is None, self.logs()
        try:
            return len(self.admin.list_topics(timeout=2).brokers) == len(self.nodes)
        except Exception:
            return False

    def stop(self):
        self.forget()
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.terminate()
        for node in self.nodes:
            node.stop()

    @property
    def brokers(self):
        return ",".join(n.address for n in self.nodes)

    def at(self, listener):
        """Addresses of a listener."""
        return ",".join(f"127.0.0.1:{n.ports[listener]}" for n in self.nodes)

    def topic(self, partitions=1, name=None, **config):
        name = name or unique_name("topic")
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        replicas = min(3, len(self.nodes))
        self.admin.create_topics([NewTopic(name, partitions, replicas, config=settings)])[name].result(60)
        wait_until(lambda: self._leaders(name) == partitions, 60, f"topic {name} has leaders")
        return name


def system_library():
    """The version of the librdkafka that weir is linked with, as rd_kafka_version() gives it."""
    return ctypes.CDLL("librdkafka.so.1").rd_kafka_version()


def python_library():
    """The environment in which weir has the librdkafka that Python's client brings along: a newer one,
    with OIDC."""
    found = glob.glob(str(Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs/librdkafka-*.so*"))
    assert len(found) == 1, found
    return {"LD_PRELOAD": found[0]}


def token(lifetime, subject="weir", **claims):
    """An unsecured JWT (RFC 7515 A.5), which a broker takes that validates nothing but the times."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now = time.time()
    body = {"sub": subject, "iat": int(now), "exp": now + lifetime, **claims}
    return f"{part({'alg': 'none'})}.{part({k: v for k, v in body.items() if v is not None})}."


def openssl(folder, *args):
    subprocess.run(["openssl", *map(str, args)], cwd=folder, check=True, capture_output=True)


def certificates(folder):
    """ca, and by it broker, client (also client-locked.key with the password s3cret) and elsewhere
    (for another host); stranger, another CA. Stores for Java: broker.p12, trust.p12 (changeit)."""
    folder = Path(folder)
    for ca in ("ca", "stranger"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{ca}.key", "-out",
                f"{ca}.pem", "-days", "2", "-subj", f"/CN={ca}")
    for who, name in (("broker", "IP:127.0.0.1"), ("client", "DNS:client"), ("elsewhere", "DNS:elsewhere.example")):
        openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{who}.key", "-out", f"{who}.csr",
                "-subj", f"/CN={who}")
        (folder / "names").write_text(f"subjectAltName={name}\n")
        openssl(folder, "x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-out", f"{who}.pem", "-extfile", "names")
    openssl(folder, "rsa", "-aes256", "-in", "client.key", "-out", "client-locked.key", "-passout",
            "pass:s3cret")
    for who in ("broker", "elsewhere"):
        openssl(folder, "pkcs12", "-export", "-in", f"{who}.pem", "-inkey", f"{who}.key", "-out", f"{who}.p12",
                "-passout", "pass:changeit")
    subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore",
                    "trust.p12", "-storetype", "PKCS12", "-storepass", "changeit"],
                   cwd=folder, check=True, capture_output=True)
    return folder
