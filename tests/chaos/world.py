# SPDX-License-Identifier: Apache-2.0
"""What a run stands on: the servers, the links to them, a small disk. They live through all its rounds.

Every server keeps what it has acknowledged through kill -9: Kafka and Redis have it in the page cache at
least, and SecantusDB is told to write its log at each commit (without that it loses some by itself).
"""
import os
import subprocess
from pathlib import Path

from confluent_kafka.admin import AdminClient

from weirtest.servers import Kafka, MongoDB, Redis
from weirtest.tools import free_port

from links import Links

DISK_MIB = 192


class QuietKafka(Kafka):
    """Its own client says nothing of outages, which are the point here."""

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        return self._admin


class World:
    """kafka, redis, mongodb (None where no flow needs it), links, disk (a Path, None without it)."""

    def __init__(self, folder, build, with_mongodb=True):
        self.folder, self.build = Path(folder), Path(build)
        self.links = Links(self.build / "chaos/chaos_proxy")
        self.disk, self._mounted = None, False
        self.redis = Redis(self.folder / "redis", ["--appendfsync", "always"])
        self.mongodb = MongoDB(self.folder / "mongodb", ["--sync-on-commit"]) if with_mongodb else None
        self.kafka = self._kafka()

    def _kafka(self):
        """Clients are told the address of the link; the harness itself has a listener beside it."""
        plain, controller, behind = free_port(), free_port(), free_port()
        link = self.links.add("kafka", behind)
        home = self.folder / "kafka/kafka"
        home.mkdir(parents=True)
        (home / "port").write_text(str(plain))
        (home / "controller-port").write_text(str(controller))
        return QuietKafka(self.folder / "kafka", [
            f"listeners=PLAINTEXT://127.0.0.1:{plain},LINK://127.0.0.1:{behind},"
            f"CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{plain},LINK://127.0.0.1:{link}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT"])

    @property
    def servers(self):
        return [server for server in (self.kafka, self.redis, self.mongodb) if server is not None]

    def start(self):
        for server in self.servers:
            server.start()
        self._mount()
        return self

    def _mount(self):
        """A tmpfs, which only root may have: without it the fault "disk" is left out."""
        path = self.folder / "disk"
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path)],
                              capture_output=True)
        self._mounted = done.returncode == 0
        self.disk = path if self._mounted else None

    def fill_disk(self):
        """Until not a byte more fits."""
        size = 1 << 20
        with (self.disk / "filler").open("ab", buffering=0) as file:
            while size > 0:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2

    def empty_disk(self):
        (self.disk / "filler").unlink(missing_ok=True)

    def link_to(self, who, server):
        """The address that `who` reaches the server by."""
        return f"127.0.0.1:{self.links.add(f'{who}.{server.name}', server.port)}"

    @property
    def brokers(self):
        """Of the weirs: by the link."""
        return self.links.address("kafka")

    def close(self):
        for server in self.servers:
            try:
                server.resume()
            except OSError:
                pass  # it is not there, which stop() takes as well
            server.stop()
        self.links.close()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)


def clock_file(path):
    """What clock_step.so reads: no step yet."""
    path.write_bytes((0).to_bytes(8, "little"))
    return path


def step_clock(path, seconds):
    """In place: the file is mapped."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, int(seconds * 1_000_000_000).to_bytes(8, "little", signed=True), 0)
    os.close(fd)
