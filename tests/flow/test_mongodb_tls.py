# SPDX-License-Identifier: Apache-2.0
"""The sink mongodb over TLS."""
import subprocess

import pymongo
import pytest

from mongodb_rig import dead, feed
from mongodb_rig import write_pipeline as pipeline


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """ca.pem, server.pem (of 127.0.0.1 and localhost) and client.pem; other.pem is of nobody."""
    d = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}",
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    for name, san in (("server", "IP:127.0.0.1,DNS:localhost"), ("client", "DNS:client")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")
        (d / "ext").write_text(f"subjectAltName={san}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", f"{name}.crt")
        (d / f"{name}.pem").write_text((d / f"{name}.crt").read_text() + (d / f"{name}.key").read_text())
    return d


@pytest.fixture
def tls_server(own_mongodb, certificates):
    """A function: a server with TLS, and with SCRAM."""
    def start(*args):
        server = own_mongodb()
        server.add_user("weir", "s3cr3t")
        server.args = ["--auth", "--tls-cert-file", str(certificates / "server.crt"),
                       "--tls-key-file", str(certificates / "server.key"), *args]
        server.forget()
        server.stop()
        server.start()
        return server
    return start


def tls_client(server, certificates, **more):
    return pymongo.MongoClient(f"mongodb://weir:s3cr3t@{server.address}/?authSource=admin", tls=True,
                               tlsCAFile=str(certificates / "ca.pem"), **more)


@pytest.mark.sanitize
def test_tls_and_scram(weir, tls_server, certificates):
    server = tls_server()
    feed(weir, *({"_id": i, "pad": "x" * 1000} for i in range(3000)))
    uri = f"mongodb://weir:s3cr3t@{server.address}/?authSource=admin&tls=true&tlsCAFile={certificates}/ca.pem"
    with tls_client(server, certificates) as client:
        weir.run(pipeline(client.flow, "    concurrency: 2", uri=uri))
        assert client.flow.events.count_documents({}) == 3000
    assert dead(weir) == []


@pytest.mark.parametrize("query, text", [
    ("tlsCAFile={d}/other.pem", "certificate"), ("", "certificate")], ids=["other-ca", "system-ca"])
def test_tls_that_does_not_trust_the_server(weir, tls_server, certificates, query, text):
    server = tls_server()
    feed(weir, {"_id": 1})
    query = query.format(d=certificates)
    running = weir.start(pipeline(
        type("Db", (), {"name": "flow"}), "",
        uri=f"mongodb://weir:s3cr3t@{server.address}/?authSource=admin&tls=true&{query}"), ready=False)
    found = running.wait_log(text, component="store")
    assert found[0]["code"] == "no_server"
    running.stop(expect=None)
    assert dead(weir) == [] and "s3cr3t" not in running.stderr


def test_tls_with_a_client_certificate(weir, tls_server, certificates):
    server = tls_server("--tls-ca-file", str(certificates / "ca.pem"), "--tls-require-client-cert")
    feed(weir, {"_id": 1})
    uri = f"mongodb://weir:s3cr3t@{server.address}/?authSource=admin&tls=true&tlsCAFile={certificates}/ca.pem"
    name = type("Db", (), {"name": "flow"})
    running = weir.start(pipeline(name, "", uri=uri), ready=False)
    running.wait_log("", component="store", level="warn")
    running.stop(expect=None)
    assert dead(weir) == []
    weir.run(pipeline(name, "", uri=f"{uri}&tlsCertificateKeyFile={certificates}/client.pem"))
    with tls_client(server, certificates, tlsCertificateKeyFile=str(certificates / "client.pem")) as client:
        assert client.flow.events.count_documents({}) == 1


def test_no_tls_where_the_server_wants_it(weir, tls_server):
    server = tls_server()
    feed(weir, {"_id": 1})
    running = weir.start(pipeline(type("Db", (), {"name": "flow"}), "",
                                  uri=f"mongodb://weir:s3cr3t@{server.address}/?authSource=admin"), ready=False)
    running.wait_log("", component="store", level="warn")
    running.stop(expect=None)
    assert dead(weir) == []
