# SPDX-License-Identifier: Apache-2.0
"""The plugin `kafka` against brokers that want encryption, certificates, logins and tokens."""
import base64
import json
import os
import shutil
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType,
                                   ResourcePatternType, ResourceType)

from kafka_rig import Cluster, certificates, python_library, system_library, token
from weirtest import unique_name, wait_until

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"


def stores(certs, who="broker"):
    return [f"ssl.keystore.location={certs}/{who}.p12", "ssl.keystore.type=PKCS12",
            "ssl.keystore.password=changeit", f"ssl.truststore.location={certs}/trust.p12",
            "ssl.truststore.type=PKCS12", "ssl.truststore.password=changeit"]


PASSWORDS = ["sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
             f'plain.sasl.jaas.config={PLAIN} required user_weir="s3cret" user_umlaut="p\\u00e4ssw\\u00f6rd ,;";',
             f"scram-sha-256.sasl.jaas.config={SCRAM} required;",
             f"scram-sha-512.sasl.jaas.config={SCRAM} required;"]


@pytest.fixture(scope="module")
def certs():
    folder = tempfile.mkdtemp(prefix="weir-certs-")
    yield certificates(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(certs):
    folder = tempfile.mkdtemp(prefix="weir-secured-")
    made = Cluster(folder, listeners={
        "LOGIN": ("SASL_PLAINTEXT", PASSWORDS),
        "LOGINTLS": ("SASL_SSL", PASSWORDS + stores(certs)),
        "TLS": ("SSL", stores(certs)),
        "MUTUAL": ("SSL", stores(certs) + ["ssl.client.auth=required"]),
        "ELSEWHERE": ("SSL", stores(certs, "elsewhere")),
        "TOKEN": ("SASL_PLAINTEXT", [
            "sasl.enabled.mechanisms=OAUTHBEARER", "connections.max.reauth.ms=3000",
            f'oauthbearer.sasl.jaas.config={OAUTH} required unsecuredLoginStringClaim_sub="broker";']),
    }, scram=["SCRAM-SHA-256=[name=weir,password=s3cret]", "SCRAM-SHA-512=[name=weir,password=s3cret]"],
        more=["authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
              "super.users=User:ANONYMOUS;User:broker", "allow.everyone.if.no.acl.found=true"])
    try:
        yield made.start()
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def text(brokers, source, target, group, options, more=""):
    return f"""
name: secured
sources:
  in:
    type: kafka
    brokers: "{brokers}"
    topics: [{source}]
    group: {group}
    {options}
sinks:
  out:
    type: kafka
    brokers: "{brokers}"
    topic: {target}
    on_reject: drop
    {options}
{more}
"""


def old_library():
    """Whether the system's librdkafka cannot log in by SCRAM at Kafka 4 (librdkafka#4895)."""
    return system_library() < 0x020601ff


@pytest.fixture
def copies(weir, cluster, unique):
    """Runs one event through source and sink at that listener; gives the ended weir."""
    def copy(listener, options, env=None):
        source, target = cluster.topic(), cluster.topic()
        cluster.produce(source, [{"n": 1}])
        running = weir.start(text(cluster.at(listener), source, target, unique("g"), options), env=env)
        assert [m.json for m in cluster.consume(target, 1, timeout=60)] == [{"n": 1}]
        running.stop()
        assert "s3cret" not in running.stderr
        return running
    return copy


@pytest.fixture
def refused(weir, cluster, unique):
    """Starts a weir at that listener with a wrong option: the line that source and sink log."""
    def start(listener, options, message, sink=True):
        source, target = cluster.topic(), cluster.topic()
        cluster.produce(source, [{"n": 1}])
        running = weir.start(text(cluster.at(listener), source, target, unique("g"), options,
                                  more="shutdown_timeout: 1s"), ready=False)
        # The sink says so before there is anything to write.
        lines = [running.wait_log(message, component=who, timeout=40)[0]
                 for who in (("in", "out") if sink else ("in",))]
        assert all(line["level"] == "error" for line in lines)
        assert "s3cret" not in running.stderr
        assert running.alive
        kind = "authentication" if "login" in message else "connection"
        assert running.metric("weir_kafka_errors_total", component="in", error=kind) >= 1
        if kind == "authentication":
            answer = running.get("/readyz")
            assert answer.status_code == 503 and message in answer.json()["pipelines"][0]["reason"]
            assert running.get("/livez").status_code == 200
        running.stop(expect=None)
        return lines[0]
    return start


# ---- Passwords ---------------------------------------------------------------------------------

@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["LOGIN", "LOGINTLS"])
def test_login_by(copies, certs, mechanism, listener):
    tls = f"tls: {{ca: {certs}/ca.pem}}" if listener == "LOGINTLS" else ""
    copies(listener, f"sasl: {{mechanism: {mechanism}, user: weir, password: s3cret}}\n    {tls}",
           env=python_library() if "SCRAM" in mechanism and old_library() else None)


@pytest.mark.skipif("not old_library()", reason="librdkafka 2.6.1 and later logs in by SCRAM at Kafka 4")
def test_scram_with_an_old_library_is_told(weir, refused):
    options = "sasl: {mechanism: SCRAM-SHA-256, user: weir, password: s3cret}"
    refused("LOGIN", options, "at Kafka 4 SCRAM needs librdkafka 2.6.1 and later")
    assert "logs in by SCRAM at brokers before Kafka 4 only" in weir.check(text("a:1", "s", "t", "g", options)).text


def test_a_password_with_signs_in_it(copies, weir):
    weir.write("pässwörd ,;", "password")
    copies("LOGIN", 'sasl: {mechanism: PLAIN, user: umlaut, password: "${file:password}"}')


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told(refused, mechanism):
    line = refused("LOGIN", f"sasl: {{mechanism: {mechanism}, user: weir, password: wr0ng}}",
                   "Kafka refuses the login: check `sasl`")
    assert "uthentication" in line["reason"] and "wr0ng" not in json.dumps(line)
    assert mechanism != "PLAIN" or "Invalid username or password" in line["reason"]


def test_a_mechanism_that_the_broker_does_not_have_is_told(refused):
    line = refused("TOKEN", "sasl: {mechanism: PLAIN, user: weir, password: s3cret}",
                   "Kafka refuses the login: check `sasl`")
    assert "OAUTHBEARER" in line["reason"]


# ---- Certificates ------------------------------------------------------------------------------

@pytest.mark.sanitize
def test_encrypted(copies, certs):
    copies("TLS", f"tls: {{ca: {certs}/ca.pem}}")


def test_a_client_certificate(copies, certs):
    copies("MUTUAL", f"tls: {{ca: {certs}/ca.pem, certificate: {certs}/client.pem, key: {certs}/client.key}}")


def test_a_client_key_with_a_password(copies, certs):
    copies("MUTUAL", f"tls: {{ca: {certs}/ca.pem, certificate: {certs}/client.pem, "
                     f"key: {certs}/client-locked.key, key_password: s3cret}}")


def test_a_broker_with_another_name_only_without_verification(copies, refused, certs):
    refused("ELSEWHERE", f"tls: {{ca: {certs}/ca.pem}}", "TLS with a Kafka broker failed")
    copies("ELSEWHERE", f"tls: {{ca: {certs}/ca.pem, insecure_skip_verify: true}}")


def test_a_strange_authority_is_told(refused, certs):
    line = refused("TLS", f"tls: {{ca: {certs}/stranger.pem}}", "TLS with a Kafka broker failed")
    assert "verif" in line["reason"]


def test_a_missing_client_certificate_is_told(refused, certs):
    refused("MUTUAL", f"tls: {{ca: {certs}/ca.pem}}", "no Kafka broker can be reached", sink=False)


def test_plain_text_to_a_listener_with_tls_is_told(refused):
    refused("TLS", "client_id: plain", "no Kafka broker can be reached", sink=False)


def test_tls_to_a_listener_without_is_told(refused, certs):
    refused("PLAINTEXT", f"tls: {{ca: {certs}/ca.pem}}", "TLS with a Kafka broker failed")


@pytest.mark.parametrize("wrong, message", [
    ("certificate: {c}/client.pem, key: {c}/broker.key", "key"),
    ("certificate: {c}/client.pem, key: {c}/client-locked.key, key_password: wrong", "key"),
    ("certificate: {c}/client.key, key: {c}/client.pem", "ssl."),
    ("ca: {c}/client.key", "ssl.ca.location"),
])
def test_files_that_do_not_fit_are_found_by_check(weir, certs, wrong, message):
    checked = weir.check(text("a:1", "s", "t", "g", f"tls: {{{wrong.format(c=certs)}}}"), expect=1)
    assert "librdkafka refuses this configuration" in checked.text and message in checked.text


# ---- Tokens ------------------------------------------------------------------------------------

def renew(path, text):
    """As Kubernetes does: a new file in the place of the old one."""
    Path(f"{path}.new").write_text(text)
    os.rename(f"{path}.new", path)


@pytest.mark.sanitize
def test_a_token_from_a_file_is_renewed_ahead_of_time(weir, cluster, unique):
    source, target = cluster.topic(), cluster.topic()
    path = weir.write(token(8) + "\n", "token")
    running = weir.start(text(cluster.at("TOKEN"), source, target, unique("g"),
                              "sasl: {mechanism: OAUTHBEARER, oauth: {file: token, extensions: {traceId: x1}}}"))
    cluster.produce(source, [{"n": 0}])
    cluster.consume(target, 1, timeout=60)
    # The broker ends each connection with its token's time; only renewed tokens go on.
    began, sent = time.monotonic(), 1
    while time.monotonic() - began < 20:
        renew(path, token(8) + "\n")
        cluster.produce(source, [{"n": sent}])
        sent += 1
        time.sleep(1)
    got = [m.json["n"] for m in cluster.consume(target, sent, timeout=60)]
    assert got == list(range(sent))
    assert not running.find_log("token file") and not running.find_log("Kafka refuses the login")
    running.stop()


def test_a_token_that_nobody_renews_is_told_and_taken_once_it_is(weir, cluster, unique):
    source, target = cluster.topic(), cluster.topic()
    path = weir.write("", "token")
    running = weir.start(text(cluster.at("TOKEN"), source, target, unique("g"),
                              "sasl: {mechanism: OAUTHBEARER, oauth: {file: token}}"), ready=False)
    cluster.produce(source, [{"n": 1}])
    for who in ("in", "out"):
        assert "is empty" in running.wait_log("Kafka refuses the login", component=who)[0]["reason"]
    assert running.get("/readyz").status_code == 503
    renew(path, token(3600))
    cluster.consume(target, 1, timeout=60)
    running.wait_ready()
    running.stop()


def test_handing_over_a_token_with_debug_logs_on(weir):
    """The library logs while a token is handed to it, on the thread that does so."""
    weir.write(token(3600), "token")
    running = weir.start("""
sources:
  in: {type: kafka, brokers: "127.0.0.1:9", topics: [t], group: g, rdkafka: {debug: security},
       sasl: {mechanism: OAUTHBEARER, oauth: {file: token}}}
sinks: {out: {type: blackhole}}
""", args=["--log-level", "debug"])
    running.wait_log("Waking up waiting broker threads after setting OAUTHBEARER token")
    running.wait_log("Kafka connection failed")
    running.stop()


class Endpoint(HTTPServer):
    """A token endpoint. `asked`: what clients sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/token"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.server.asked.append((self.path, self.headers["Authorization"], parse_qs(form)))
            answer = json.dumps({"access_token": token(3600), "token_type": "Bearer", "expires_in": 3600})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass


def test_a_token_from_an_endpoint(copies):
    endpoint = Endpoint()
    try:
        copies("TOKEN", f"sasl: {{mechanism: OAUTHBEARER, oauth: {{url: '{endpoint.url}', client_id: weir, "
                        "client_secret: s3cret, scope: kafka, extensions: {traceId: x1}}}", env=python_library())
    finally:
        endpoint.shutdown()
        endpoint.server_close()
    assert len(endpoint.asked) >= 2  # source and sink
    for path, login, form in endpoint.asked:
        assert path == "/token" and form["grant_type"] == ["client_credentials"] and form["scope"] == ["kafka"]
        assert base64.b64decode(login.removeprefix("Basic ")) == b"weir:s3cret"


@pytest.mark.parametrize("content, message", [
    ("not a token", "holds no JWT"),
    ("a.b.c", "holds no JWT"),
    ("e30.e30.", "without the claim exp"),
    ("x" * 70000, "is too large"),
    ({"exp": "expired"}, "has expired"),
    ({"exp": "soon"}, "without the claim exp"),
    ({"exp": 1e300}, "without the claim exp"),
    ({"exp": -1}, "without the claim exp"),
], ids=["text", "no parts", "no claims", "too large", "expired", "exp a string", "exp huge", "exp negative"])
def test_wrong_tokens_are_told(weir, content, message):
    if isinstance(content, dict):
        content = token(-10) if content["exp"] == "expired" else token(5, **content)
    weir.write(content, "token")
    running = weir.start(f"""
sources:
  in: {{type: kafka, brokers: "127.0.0.1:9", topics: [t], group: g,
        sasl: {{mechanism: OAUTHBEARER, oauth: {{file: token}}}}}}
sinks: {{out: {{type: blackhole}}}}
""", ready=False)
    assert message in running.wait_log("Kafka refuses the login: check `sasl`")[0]["reason"]
    running.stop(expect=None)


def test_a_token_that_is_not_there_yet_is_a_warning(weir):
    pipeline = text("127.0.0.1:9", "s", "t", "g", "sasl: {mechanism: OAUTHBEARER, oauth: {file: nowhere}}")
    checked = weir.check(pipeline, expect=0)
    assert "nowhere' cannot be read now: No such file" in checked.text
    running = weir.start(pipeline, ready=False)
    assert "cannot be opened" in running.wait_log("Kafka refuses the login", component="out")[0]["reason"]
    running.stop()


# ---- Access rules ------------------------------------------------------------------------------

def test_denied_topics_wait_for_access(weir, cluster, unique):
    source, target = cluster.topic(), cluster.topic()

    def rule(topic, operation):
        return AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:weir", "*",
                          operation, AclPermissionType.DENY)

    rules = [rule(target, AclOperation.WRITE)]
    for made in cluster.admin.create_acls(rules).values():
        made.result(20)
    cluster.produce(source, [{"n": n} for n in range(100)])
    running = weir.start(text(cluster.at("LOGIN"), source, target, unique("g"),
                              "sasl: {mechanism: PLAIN, user: weir, password: s3cret}"))
    line = running.wait_log("sink unavailable", component="out", timeout=40)[0]
    assert line["code"] == "denied" and target in line["reason"]
    assert f"Kafka denies writing to the topic '{target}'" in running.get("/readyz").json()["pipelines"][0]["reason"]
    for gone in cluster.admin.delete_acls([AclBindingFilter(
            ResourceType.TOPIC, target, ResourcePatternType.LITERAL, None, None, AclOperation.ANY,
            AclPermissionType.ANY)]).values():
        gone.result(20)
    got = [m.json["n"] for m in cluster.consume(target, 100, timeout=60)]
    assert sorted(got) == list(range(100))
    running.wait_ready()
    running.stop()


@pytest.mark.parametrize("operation", ["READ", "DESCRIBE"])
def test_a_denied_source_is_not_ready_until_it_may_read(weir, cluster, unique, operation):
    source, target, group = cluster.topic(), cluster.topic(), unique("g")
    rule = AclBinding(ResourceType.TOPIC, source, ResourcePatternType.LITERAL, "User:weir", "*",
                      getattr(AclOperation, operation), AclPermissionType.DENY)
    for made in cluster.admin.create_acls([rule]).values():
        made.result(20)
    cluster.produce(source, [{"n": n} for n in range(100)])
    running = weir.start(text(cluster.at("LOGIN"), source, target, group,
                              "sasl: {mechanism: PLAIN, user: weir, password: s3cret}"), ready=False)
    line = running.wait_log("Kafka denies access to the topic", component="in", timeout=40)[0]
    assert line["topic"] == source and line["user"] == "weir"
    answer = wait_until(lambda: running.get("/readyz").json()["pipelines"][0].get("reason"), 20)
    assert answer == f"source 'in': Kafka denies access to the topic '{source}'"
    for gone in cluster.admin.delete_acls([AclBindingFilter(
            ResourceType.TOPIC, source, ResourcePatternType.LITERAL, None, None, AclOperation.ANY,
            AclPermissionType.ANY)]).values():
        gone.result(20)
    assert sorted(m.json["n"] for m in cluster.consume(target, 100, timeout=90)) == list(range(100))
    running.wait_ready(40)
    running.stop()


# ---- Wrong configurations ----------------------------------------------------------------------

@pytest.mark.parametrize("sasl, message", [
    ("{mechanism: OAUTHBEARER}", "needs one of sasl.oauth.file and sasl.oauth.url"),
    ("{mechanism: OAUTHBEARER, oauth: {file: p, url: 'https://a/b', client_id: a, client_secret: b}}",
     "needs one of sasl.oauth.file and sasl.oauth.url"),
    ("{mechanism: OAUTHBEARER, user: me, password: x, oauth: {file: p}}", "takes no user and password"),
    ("{mechanism: PLAIN, user: me, password: x, oauth: {file: p}}", "set sasl.mechanism to OAUTHBEARER"),
    ("{mechanism: PLAIN, user: me, password: x, oauth: {scope: s}}", "set sasl.mechanism to OAUTHBEARER"),
    ("{mechanism: PLAIN, user: me, password: x, oauth: {extensions: {a: b}}}", "set sasl.mechanism to OAUTHBEARER"),
    ("{mechanism: OAUTHBEARER, oauth: {url: 'ftp://a', client_id: a, client_secret: b}}", "is no URL"),
    ("{mechanism: OAUTHBEARER, oauth: {url: 'https://a/b'}}", "needs client_id and client_secret"),
    ("{mechanism: OAUTHBEARER, oauth: {file: p, scope: x}}", "go with url, not with file"),
    ("{mechanism: OAUTHBEARER, oauth: {file: p, extensions: {'1x': y}}}", "is no SASL extension"),
    ("{mechanism: OAUTHBEARER, oauth: {file: p, extensions: {a: 'b,c'}}}", "is no SASL extension"),
    ("{mechanism: oauthbearer, oauth: {file: p}}", "OAUTHBEARER"),
    ("{mechanism: OAUTHBEARER, oauth: {file: p, secret: x}}", "client_secret"),
])
def test_check_finds(weir, sasl, message):
    weir.write(token(60), "p")
    checked = weir.check(text("a:1", "s", "t", "g", f"sasl: {sasl}"), expect=1)
    assert message in checked.text and "sources.in" in checked.text and "sinks.out" in checked.text


def test_check_of_a_token_endpoint(weir):
    """Fine where librdkafka has a client for it, else told so."""
    checked = weir.check(text("a:1", "s", "t", "g", "sasl: {mechanism: OAUTHBEARER, oauth: "
                              "{url: 'https://login.example.com/t', client_id: me, client_secret: s3cret}}"))
    if checked.code != 0:
        assert "was built without OIDC: use sasl.oauth.file" in checked.text
    assert "s3cret" not in checked.text


def test_check_warns_of_tokens_without_tls(weir):
    weir.write(token(60), "p")
    checked = weir.check(text("a:1", "s", "t", "g", "sasl: {mechanism: OAUTHBEARER, oauth: {file: p}}"))
    assert checked.code == 0 and "sends the token readable over the network" in checked.text
