# SPDX-License-Identifier: Apache-2.0
"""Canaries in every secret option, and servers that repeat whatever they are told."""
import base64
import itertools
import re
import socket
import subprocess
import threading
import urllib.parse

from http_sink_rig import Server
from mongodb_standin import Members


# ---- canaries ----------------------------------------------------------------------------------

class Canaries:
    """Texts that are to be found nowhere: secret("name") makes one. Their forms are looked for too: as they
    stand in URLs, in base64 and alone or with a user in front."""

    def __init__(self):
        self.made, self.serial = {}, itertools.count(1)

    def __call__(self, name):
        text = f"c4n/ry{next(self.serial)}x{name.replace('.', '').replace('_', '')[:12]}@Z9"
        self.made[name] = text
        return text

    def url(self, name):
        return urllib.parse.quote(self(name), safe="")

    def forms(self, text):
        quoted = urllib.parse.quote(text, safe="")
        yield from (text, quoted, quoted.lower(), text[:-3], quoted[:-5])
        for user in ("", "me:", "\0me\0"):
            # Wherever it begins among the groups of three bytes.
            plain = base64.b64encode((user + text).encode()).decode().rstrip("=")
            yield plain[:-2]

    def found_in(self, text):
        return sorted({f"{name}: ...{text[max(0, text.index(form) - 100):text.index(form) + 60]}..."
                       for name, canary in self.made.items() for form in self.forms(canary) if form in text})


# ---- servers that repeat -----------------------------------------------------------------------

def shown(data):
    return "".join(chr(b) if 32 < b < 127 else " " for b in data)


class Listener:
    """Calls serve(connection) for each client, in a thread of its own."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Echo(Listener):
    """Repeats what it is sent: to Redis's clients as an error a command, to others as it came."""

    def __init__(self, redis=False):
        self.redis = redis
        super().__init__()

    def serve(self, connection):
        try:
            while data := connection.recv(65536):
                if self.redis:
                    commands = len(re.findall(rb"(?:^|\n)\*\d", data))
                    data = f"-WRONGPASS you said {shown(data)}\r\n".encode() * commands
                connection.sendall(data)
        except OSError:
            pass
        finally:
            connection.close()


class Echoes:
    """One of each: ports by protocol. `nobody`: ports where nobody listens."""

    def __init__(self, nobody=False):
        self.made = [] if nobody else [Echo(redis=True), Echo()]
        self.members = Members()
        self.members.answer = lambda command: {
            "ok": 0, "code": 18, "codeName": "AuthenticationFailed",
            "errmsg": "you said " + shown(b" ".join(v if isinstance(v, bytes) else str(v).encode()
                                                   for v in command.values()))}
        if nobody:
            probe = socket.create_server(("127.0.0.1", 0))
            self.redis = self.http = self.kafka = self.mongodb = probe.getsockname()[1]
            probe.close()
            return
        def repeat(request):
            text = f"you said {request.headers} {shown(request.body)}"
            return 401, {"Content-Type": "application/json"}, text.encode()
        self.made.append(Server(repeat))
        self.redis, self.kafka, self.http = (made.port for made in self.made)
        self.mongodb = int(self.members[0].address.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for made in self.made:
            made.close()
        self.members.__exit__()


# ---- components --------------------------------------------------------------------------------

def locked_key(folder, name, password):
    """A certificate, and its key under a password."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=me",
                    "-passout", f"pass:{password}", "-keyout", f"{folder}/{name}.key", "-out",
                    f"{folder}/{name}.pem"], check=True, capture_output=True)
    return f"certificate: {folder}/{name}.pem, key: {folder}/{name}.key, ca: {folder}/{name}.pem"


class Part:
    """A component with canaries: `options` as YAML in one line, `covers` the secret options that it fills."""

    def __init__(self, kind, type, covers, options):
        self.kind, self.type, self.covers, self.options = kind, type, covers.split(), options


def redis_parts(kind, type, rest, ports, secret):
    address = f"127.0.0.1:{ports.redis}"
    yield Part(kind, type, "url", f'url: "redis://me:{secret.url("redis.url")}@{address}", {rest}')
    yield Part(kind, type, "password", f'url: "redis://{address}", user: me, '
                                       f'password: "{secret("redis.password")}", {rest}')
    yield Part(kind, type, "sentinel.password",
               f'url: "redis://{address}", sentinel: {{master: m, user: me, '
               f'password: "{secret("sentinel.password")}"}}, {rest}')


def kafka_parts(kind, rest, ports, secret, folder):
    common = f'brokers: "127.0.0.1:{ports.kafka}", rdkafka: {{debug: all}}, {rest}'
    yield Part(kind, "kafka", "sasl.password", f'sasl: {{mechanism: PLAIN, user: me, '
                                               f'password: "{secret(kind + "sasl.password")}"}}, {common}')
    yield Part(kind, "kafka", "sasl.oauth.client_secret",
               f'sasl: {{mechanism: OAUTHBEARER, oauth: {{url: "http://127.0.0.1:{ports.http}/", client_id: me, '
               f'client_secret: "{secret(kind + "client_secret")}"}}}}, {common}')
    password = secret(kind + "key_password")
    yield Part(kind, "kafka", "tls.key_password",
               f'tls: {{{locked_key(folder, kind, password)}, key_password: "{password}"}}, {common}')


def http_sink_parts(ports, secret):
    url = f"http://127.0.0.1:{ports.http}/"
    yield Part("sink", "http", "token", f'url: "{url}", token: "{secret("token")}"')
    yield Part("sink", "http", "password", f'url: "{url}", user: me, password: "{secret("password")}"')
    yield Part("sink", "http", "headers", f'url: "{url}", headers: {{x-api-key: "{secret("headers")}", '
                                          f'x-auth: "Digest {secret("word")}"}}')
    yield Part("sink", "http", "proxy", f'url: "http://nowhere.invalid/", '
                                        f'proxy: "http://me:{secret.url("proxy")}@127.0.0.1:{ports.http}"')


def parts(ports, secret, folder, source_port):
    """All components with a secret option, each option in some of them."""
    yield Part("source", "http", "tokens basic hmac.secrets",
               f'address: "127.0.0.1:{source_port}", tokens: ["{secret("tokens")}"], '
               f'basic: {{me: "{secret("basic")}"}}, hmac: {{secrets: ["{secret("hmac")}"]}}')
    yield from kafka_parts("source", "topics: [t], group: g", ports, secret, folder)
    yield Part("transform", "map", "hash.key", f'hash: {{fields: [user_id], key: "{secret("hash.key")}"}}')
    yield from redis_parts("transform", "redis", 'key: "k:{{ id }}", target: t, on_unavailable: error',
                           ports, secret)
    yield from redis_parts("transform", "redis_dedupe", 'key: "k:{{ id }}"', ports, secret)
    yield from redis_parts("sink", "redis", 'set: {key: "k:{{ id }}"}', ports, secret)
    yield from http_sink_parts(ports, secret)
    yield from kafka_parts("sink", "topic: t", ports, secret, folder)
    yield Part("sink", "mongodb", "uri",
               f'uri: "mongodb://me:{secret.url("uri")}@127.0.0.1:{ports.mongodb}/?authMechanism=PLAIN", '
               'database: d, collection: c')


def pipelines(made):
    """A pipeline for each part, so that none of them holds another up."""
    for i, part in enumerate(made):
        source = "{type: generate, rate: 20}"
        transforms, sink = "", "{type: blackhole, inputs: [%s], on_reject: drop}"
        if part.kind == "source":
            source, sink = f"{{type: {part.type}, {part.options}}}", sink % "in"
        elif part.kind == "transform":
            transforms = f"transforms: {{it: {{type: {part.type}, inputs: [in], {part.options}}}}}\n"
            sink = sink % "it"
        else:
            sink = f"{{type: {part.type}, inputs: [in], timeout: 2s, {part.options}}}"
        yield (f"name: p{i}\nshutdown_timeout: 500ms\nsources: {{in: {source}}}\n{transforms}sinks:\n"
               f"  out: {sink}\n  dead: {{type: file, path: dead-{i}.ndjson}}\ndead_letter: dead\n")
