# SPDX-License-Identifier: Apache-2.0
"""Whoever speaks TLS verifies: a server that signed its own certificate is sent nothing, unless an option with a
name to be afraid of says so, which is logged."""
import ssl
import subprocess
import threading

import pytest

from secret_rig import Listener
from weirtest import wait_until


class SelfSigned(Listener):
    """Takes TLS connections; `refusals` counts those that the client ended, `data` is what others sent."""

    def __init__(self, folder):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/own.key", "-out",
                        f"{folder}/own.pem"], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(f"{folder}/own.pem", f"{folder}/own.key")
        self.refusals, self.data, self.lock = 0, b"", threading.Lock()
        super().__init__()

    def serve(self, connection):
        try:
            data = self.context.wrap_socket(connection, server_side=True).recv(65536)
            with self.lock:
                self.data += data
        except OSError:
            with self.lock:
                self.refusals += 1


# (kind, what to write with TLS, what to add so that nothing is verified)
KAFKA = 'type: kafka, brokers: "127.0.0.1:PORT", '
CLIENTS = {
    "http sink": ("sink", 'type: http, url: "https://127.0.0.1:PORT/"', ", tls: {insecure_skip_verify: true}"),
    "redis sink": ("sink", 'type: redis, url: "rediss://127.0.0.1:PORT", set: {key: k}',
                   ", tls: {insecure_skip_verify: true}"),
    "redis transform": ("transform", 'type: redis, url: "rediss://127.0.0.1:PORT", key: "k:{{ id }}", target: t',
                        ", tls: {insecure_skip_verify: true}"),
    "kafka sink": ("sink", KAFKA + "topic: t, tls: {enabled: true", ", insecure_skip_verify: true"),
    "kafka source": ("source", KAFKA + "topics: [t], group: g, tls: {enabled: true", ", insecure_skip_verify: true"),
    "mongodb sink": ("sink", 'type: mongodb, database: d, collection: c, uri: "mongodb://127.0.0.1:PORT/?tls=true',
                     "&tlsInsecure=true"),
}
ENDS = {"kafka": "}", "mongodb": '"'}


def pipeline(kind, options):
    source = f"{{{options}}}" if kind == "source" else "{type: generate, rate: 50}"
    transforms = f"transforms: {{it: {{inputs: [in], {options}}}}}\n" if kind == "transform" else ""
    sink = f"{{inputs: [in], on_reject: drop, {options}}}" if kind == "sink" else \
        f"{{type: blackhole, inputs: [{'it' if transforms else 'in'}], on_reject: drop}}"
    return (f"name: p\nshutdown_timeout: 500ms\nsources: {{in: {source}}}\n{transforms}sinks:\n  out: {sink}\n"
            "  dead: {type: file, path: dead.ndjson}\ndead_letter: dead\n")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_certificate_that_nobody_vouches_for_is_refused(weir, name):
    kind, options, insecure = CLIENTS[name]
    end = ENDS.get(name.split()[0], "")
    server = SelfSigned(weir.folder)
    try:
        options = options.replace("PORT", str(server.port))
        r = weir.start(pipeline(kind, options + end), ready=False)
        wait_until(lambda: server.refusals >= 2, 30, lambda: r.report())
        assert server.data == b"" and not r.find_log("not verified")
        r.stop(expect=None)
        r = weir.start(pipeline(kind, options + insecure + end), ready=False)
        wait_until(lambda: server.data, 30, lambda: r.report())
        assert len(r.find_log("certificate")) >= 1
        assert sum("not verified" in line.get("message", "") for line in r.logs) == 1
        r.stop(expect=None)
    finally:
        server.close()
