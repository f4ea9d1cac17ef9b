# SPDX-License-Identifier: Apache-2.0
"""What is put under faults: the platform as it ships, and small pipelines that make other promises visible.

    platform   clients ──▶ api ──▶ producer ──▶ Kafka ──▶ consumer ×2 ──▶ MongoDB, Redis
    chain      clients ──▶ edge ──▶ Kafka ──▶ copy ×2 ──▶ Kafka ──┬──▶ count ×2 ──▶ Redis, each once
                                            clients ──▶ Kafka ────┘└──▶ archive ──▶ file
    follow     a file that grows and is rotated ──▶ follow ──▶ Kafka
    buffered   clients ──▶ buffered ──▶ disk buffer ──▶ Redis

A round has topics, groups, a database and a folder of its own: a broker that is killed may have records again
that were purged.
"""
import shutil
from dataclasses import dataclass, field

from weirtest.tools import ROOT, free_port

from weirs import Part

STREAMS = ("activity", "commerce", "sessions")
TOKEN = "let-me-in-5d41402abc4b2a76"
PARTITIONS = 4
# A consumer that is killed is missed soon, and what it gives up is not waited for long.
KAFKA_OPTIONS = ("rdkafka: {session.timeout.ms: 6000, heartbeat.interval.ms: 1000}", "commit_interval: 200ms",
                 "drain_deadline: 2s")
KAFKA_SOURCE = ", ".join(KAFKA_OPTIONS)
COMMITS = ("commit_interval: 200ms", "commit_interval: 250ms")
SHUTDOWN = "shutdown_timeout: 5s\n"
HARMLESS = ("shutdown_timeout: 5s", "shutdown_timeout: 6s")
LINGER = ("linger: 1ms", "linger: 2ms")
BUFFER = 4 << 20
SEGMENT = BUFFER // 16
LEAST_RECORD = 120  # bytes that an event of this flow takes on the disk at the least

EDGE = """\
name: edge
sources:
  web: {{type: http, address: "{address}", path: /events, id_field: id, key: user_id}}
sinks:
  out: {{type: kafka, brokers: "{brokers}", topic: {to}, linger: 1ms}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""
COPY = """\
name: copy
sources:
  in: {{type: kafka, brokers: "{brokers}", topics: [{of}], group: {group}, {kafka}}}
sinks:
  out: {{type: kafka, brokers: "{brokers}", topic: {to}, linger: 1ms}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""
# Each event is split in two, whose ways part: where one sink is away, the other must not stand for both.
# `list` and `half` hold each event once; `history` all that was ever written, in its order; `last` overwrites.
COUNT = """\
name: count
sources:
  in: {{type: kafka, brokers: "{brokers}", topics: [{of}], group: {group}, {kafka}}}
transforms:
  halves:
    type: lua
    code: |
      function process(event)
        return {{event, {{user_id = event.user_id, seq = event.seq, half = true}}}}
      end
  kinds:
    type: route
    routes: {{half: event.half == true}}
sinks:
  list: {{type: redis, inputs: [kinds.other], url: "redis://{a}", once: {{ttl: 24h}}, connect_timeout: 5s,
          list: {{key: "list:{{{{ user_id }}}}", value: "{{{{ seq }}}}"}}}}
  last: {{type: redis, inputs: [kinds.other], url: "redis://{a}",
          hash: {{key: "last:{{{{ user_id }}}}", fields: {{seq: "{{{{ seq }}}}"}}}}}}
  history: {{type: redis, inputs: [kinds.other], url: "redis://{a}",
             list: {{key: "history:{{{{ user_id }}}}", value: "{{{{ seq }}}}"}}}}
  half: {{type: redis, inputs: [kinds.half], url: "redis://{b}", once: {{ttl: 24h}},
          list: {{key: "half:{{{{ user_id }}}}", value: "{{{{ seq }}}}"}}}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""
ARCHIVE = """\
name: archive
sources:
  in: {{type: kafka, brokers: "{brokers}", topics: [{of}], group: {group}, {kafka}}}
sinks:
  out: {{type: file, path: "{out}", fsync: batch, permissions: "0640"}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""
FOLLOW = """\
name: follow
sources:
  in: {{type: file, path: "{path}/app*.ndjson", follow: true, state: "{state}", poll_interval: 100ms}}
sinks:
  out: {{type: kafka, brokers: "{brokers}", topic: {to}, key: "{{{{ user_id }}}}", linger: 1ms}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""
# One list of all, in the order in which the buffer gave them.
BUFFERED = """\
name: buffered
sources:
  web: {{type: http, address: "{address}", path: /events, id_field: id, key: user_id}}
sinks:
  list:
    type: redis
    url: "redis://{redis}"
    connect_timeout: 5s
    list: {{key: buffered, value: "{{{{ id }}}} {{{{ user_id }}}} {{{{ seq }}}}"}}
    buffer: {{type: disk, path: "{buffer}", size: {size}}}
  failed: {{type: file, path: "{dead}"}}
dead_letter: failed
"""


@dataclass
class Setup:
    """What a round runs and where its data goes. `groups`: {flow: (consumer group, topics)};
    `topics`: those to be made and deleted again; `urls`: {flow: address for the oracle}."""

    round: int
    flows: tuple
    parts: list = field(default_factory=list)
    groups: dict = field(default_factory=dict)
    topics: list = field(default_factory=list)
    urls: dict = field(default_factory=dict)
    dead_files: list = field(default_factory=list)
    database: str = ""
    platform: list = field(default_factory=list)
    platform_dead: str = ""
    issued: str = ""
    edge: str = ""
    copied: str = ""
    followed: str = ""
    buffered: str = ""
    folder: object = None
    archive: object = None
    buffer: object = None
    logs: object = None

    def has(self, flow):
        return flow in self.flows


class Ports:
    """Addresses of the weirs' own listeners: the same in every round, because the links lead there."""

    def __init__(self):
        self._ports = {}

    def get(self, name):
        if name not in self._ports:
            self._ports[name] = free_port()
        return self._ports[name]


def replace(text, old, new, path):
    if text.count(old) != 1:
        raise RuntimeError(f"{path}: {old!r} was expected once: tests/chaos/flows.py puts its settings there")
    return text.replace(old, new)


def shipped(name, setup, *changes):
    """A pipeline of pipelines/ with test settings and the topics of this round: all else is as it ships."""
    path = ROOT / "pipelines" / f"{name}.yaml"
    text = path.read_text().replace("../scripts/lua/", f"{ROOT}/scripts/lua/")
    text = text.replace("user-events.", f"user-events-{setup.round}.")
    for old, new in changes:
        text = replace(text, old, new, path)
    return text + SHUTDOWN


def platform(setup, world, ports, folder):
    api, producer = ports.get("api"), ports.get("producer")
    setup.urls["platform"] = f"127.0.0.1:{world.links.add('clients.api', api)}"
    to_producer = f"127.0.0.1:{world.links.add('api.producer', producer)}"
    group, setup.database = f"consumer-{setup.round}", f"platform-{setup.round}"
    setup.platform = [f"user-events-{setup.round}.{stream}" for stream in STREAMS]
    setup.platform_dead = f"user-events-{setup.round}.dead"
    setup.topics += [*setup.platform, setup.platform_dead]
    setup.groups["platform"] = (group, setup.platform)
    dead = folder / "api-dead.ndjson"
    setup.dead_files.append(dead)
    setup.parts += [
        Part("api", shipped("api", setup), {
            "API_ADDRESS": f"127.0.0.1:{api}", "API_TOKEN": TOKEN, "API_DEAD_LETTERS": dead,
            "REDIS_URL": f"redis://{world.link_to('api', world.redis)}",
            "PRODUCER_URL": f"http://{to_producer}/events"}, sinks=["api.redis", "api.producer"],
            changes=[("expire: 30m", "expire: 31m")]),
        Part("producer", shipped("producer", setup, ('    key: "{{ user_id }}"\n',
                                                     '    key: "{{ user_id }}"\n    linger: 1ms\n')), {
            "PRODUCER_ADDRESS": f"127.0.0.1:{producer}", "KAFKA_BROKERS": world.brokers}, changes=[LINGER])]
    for i in (1, 2):
        setup.parts.append(consumer(setup, world, f"consumer-{i}"))


def consumer(setup, world, name):
    text = shipped("consumer", setup,
                   ("    group: ${env:KAFKA_GROUP:-consumer}\n",
                    "".join(f"    {line}\n" for line in ("group: ${env:KAFKA_GROUP:-consumer}", *KAFKA_OPTIONS))),
                   ('        last_day: "{{ day }}"\n',
                    '        last_day: "{{ day }}"\n        last_seq: "{{ props.seq }}"\n'),
                   ('"{{ type }}", "1"]\n', '"{{ type }}", "1"]\n    once: {ttl: 24h}\n'))
    return Part(name, text, {
        "KAFKA_BROKERS": world.brokers, "KAFKA_GROUP": setup.groups["platform"][0],
        "REDIS_URL": f"redis://{world.link_to(name, world.redis)}",
        "MONGO_URI": f"mongodb://{world.link_to(name, world.mongodb)}", "MONGO_DATABASE": setup.database},
        sinks=[f"{name}.redis", f"{name}.mongodb"], reads_kafka=True,
        changes=[("expire: 30d", "expire: 31d"), COMMITS])


def count(setup, world, name):
    folder = setup.folder
    group, topics = setup.groups["count"]
    a, b = (f"127.0.0.1:{world.links.add(f'{name}.{link}', world.redis.port)}" for link in ("redis-a", "redis-b"))
    dead = folder / f"{name}-dead.ndjson"
    setup.dead_files.append(dead)
    return Part(name, COUNT.format(brokers=world.brokers, of=", ".join(topics), group=group, kafka=KAFKA_SOURCE,
                                   a=a, b=b, dead=dead) + SHUTDOWN,
                sinks=[f"{name}.redis-a", f"{name}.redis-b"], reads_kafka=True,
                changes=[("connect_timeout: 5s", "connect_timeout: 6s"),
                         ("function process(event)", "function process( event )"), COMMITS])


def copy(setup, world, name):
    dead = setup.folder / f"{name}-dead.ndjson"
    setup.dead_files.append(dead)
    return Part(name, COPY.format(brokers=world.brokers, of=setup.edge, group=setup.groups["copy"][0],
                                  kafka=KAFKA_SOURCE, to=setup.copied, dead=dead) + SHUTDOWN, reads_kafka=True,
                changes=[LINGER, COMMITS])


MAKERS = {"consumer": consumer, "count": count, "copy": copy}


def write(part, folder):
    path = folder / f"{part.name}.yaml"
    path.write_text(part.text)
    part.text = path
    return part


def another(group, name, setup, world):
    """One more part of a group."""
    return write(MAKERS[group](setup, world, name), setup.folder)


def counted(setup, world):
    """Two of `count` and the topic that the oracle writes to: part of the chain, and enough for a self-test."""
    setup.issued = f"issued-{setup.round}"
    setup.topics.append(setup.issued)
    topics = ([setup.copied] if setup.copied else []) + [setup.issued]
    setup.groups["count"] = (f"count-{setup.round}", topics)
    setup.parts += [count(setup, world, f"count-{i}") for i in (1, 2)]


def chain(setup, world, ports, folder):
    port = ports.get("edge")
    setup.urls["edge"] = f"127.0.0.1:{world.links.add('clients.edge', port)}"
    setup.edge, setup.copied = f"edge-{setup.round}", f"copied-{setup.round}"
    setup.topics += [setup.edge, setup.copied]
    setup.groups["copy"] = (f"copy-{setup.round}", [setup.edge])
    setup.groups["archive"] = (f"archive-{setup.round}", [setup.copied])
    setup.archive = (world.disk or folder) / f"archive-{setup.round}.ndjson"
    dead = {name: folder / f"{name}-dead.ndjson" for name in ("edge", "archive")}
    setup.dead_files += dead.values()
    setup.parts.append(Part("edge", EDGE.format(address=f"127.0.0.1:{port}", brokers=world.brokers, to=setup.edge,
                                                dead=dead["edge"]) + SHUTDOWN, changes=[LINGER]))
    setup.parts += [copy(setup, world, f"copy-{i}") for i in (1, 2)]
    setup.parts.append(Part("archive", ARCHIVE.format(
        brokers=world.brokers, of=setup.copied, group=setup.groups["archive"][0], kafka=KAFKA_SOURCE,
        out=setup.archive, dead=dead["archive"]) + SHUTDOWN, reads_kafka=True, on_disk=world.disk is not None,
        durable=[setup.archive], changes=[('permissions: "0640"', 'permissions: "0600"'), COMMITS]))
    counted(setup, world)


def follow(setup, world, folder):
    setup.followed = f"followed-{setup.round}"
    setup.topics.append(setup.followed)
    setup.logs = folder / "logs"
    setup.logs.mkdir()
    dead = folder / "follow-dead.ndjson"
    setup.dead_files.append(dead)
    setup.parts.append(Part("follow", FOLLOW.format(path=setup.logs, state=folder / "follow.state",
                                                    brokers=world.brokers, to=setup.followed, dead=dead) + SHUTDOWN,
                            changes=[LINGER, ("poll_interval: 100ms", "poll_interval: 120ms")]))


def buffered(setup, world, ports, folder):
    port, setup.buffered = ports.get("buffered"), "buffered"
    setup.urls["buffered"] = f"127.0.0.1:{world.links.add('clients.buffered', port)}"
    setup.buffer = (world.disk or folder) / f"buffer-{setup.round}"
    dead = folder / "buffered-dead.ndjson"
    setup.dead_files.append(dead)
    setup.parts.append(Part("buffered", BUFFERED.format(
        address=f"127.0.0.1:{port}", redis=world.link_to("buffered", world.redis), buffer=setup.buffer, size=BUFFER,
        dead=dead) + SHUTDOWN, sinks=["buffered.redis"], on_disk=world.disk is not None, durable=[setup.buffer],
        changes=[("connect_timeout: 5s", "connect_timeout: 6s"), (f"size: {BUFFER}", f"size: {BUFFER + 4096}")]))


FLOWS = ("platform", "chain", "follow", "buffered", "count")


def prepare(number, flows, world, ports, folder):
    """The Setup of a round, its topics made, its databases empty."""
    setup = Setup(number, tuple(flows), folder=folder)
    if setup.has("platform"):
        platform(setup, world, ports, folder)
    if setup.has("chain"):
        chain(setup, world, ports, folder)
    elif setup.has("count"):
        counted(setup, world)
    if setup.has("follow"):
        follow(setup, world, folder)
    if setup.has("buffered"):
        buffered(setup, world, ports, folder)
    for part in setup.parts:
        write(part, folder)
    for topic in setup.topics:
        world.kafka.topic(PARTITIONS, topic)
    world.kafka.forget()  # its clients would tell of each outage
    world.redis.client().flushall()
    return setup


def clean_up(setup, world):
    """What a round leaves in the servers."""
    for done in (world.kafka.admin.delete_topics(setup.topics) if setup.topics else {}).values():
        done.result(60)
    world.kafka.forget()
    if setup.archive is not None:
        setup.archive.unlink(missing_ok=True)
    if setup.buffer is not None:
        shutil.rmtree(setup.buffer, ignore_errors=True)
