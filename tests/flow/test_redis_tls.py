# SPDX-License-Identifier: Apache-2.0
"""Plugin redis: TLS, ACL users and Sentinel, with real servers."""
import ssl
import subprocess
import time

import pytest
import redis as redis_client

from redis_parts import Cluster, Impostor, dead, generated, lines, lookup, output, pipeline  # noqa: F401
from weirtest import events, free_port, wait_until


# ---- TLS --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's certificate for localhost and 127.0.0.1, one that is over, one of
    another host, a client's, and one of another authority."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    def authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "30", "-subj", f"/CN={name}")

    def leaf(name, ca, alternative, days="30"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-out", f"{name}.crt", "-days", days, "-extfile", f"{name}.ext")

    authority("ca")
    authority("other")
    leaf("server", "ca", "DNS:localhost,IP:127.0.0.1")
    leaf("stranger", "ca", "DNS:redis.internal")
    leaf("over", "ca", "DNS:localhost,IP:127.0.0.1", "-1")
    leaf("client", "ca", "DNS:client")
    openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    return folder


@pytest.fixture
def tls_redis(own_redis, certificates):
    def start(name="server", clients="no", *args):
        port = free_port()
        server = own_redis("--tls-port", str(port), "--tls-cert-file", str(certificates / f"{name}.crt"),
                           "--tls-key-file", str(certificates / f"{name}.key"),
                           "--tls-ca-cert-file", str(certificates / "ca.crt"),
                           "--tls-auth-clients", clients, *args)
        server.tls_url = f"rediss://127.0.0.1:{port}"
        server.tls_port_number = port
        return server
    return start


SET = 'set: {key: "k:{{ id }}"}'


@pytest.mark.sanitize
def test_tls(weir, tls_redis, certificates):
    server = tls_redis()
    n = 20_000
    r = weir.run(generated(server.tls_url, f'{SET}, tls: {{ca: "{certificates}/ca.crt"}}',
                           f"count: {n}, size: 2000"))
    assert server.client().dbsize() == n and dead(weir) == []
    weir.run(generated(server.tls_url.replace("127.0.0.1", "localhost"),
                       f'command: [INCR, "c:a"], tls: {{ca: "{certificates}/ca.crt"}}', "count: 500"))
    assert server.client().get("c:a") == "500"
    assert "tls_failed" not in r.stderr


@pytest.mark.sanitize
def test_tls_with_large_replies_and_broken_connections(weir, tls_redis, certificates):
    server, n = tls_redis(), 400
    r = weir.start(generated(server.tls_url, 'command: [EVAL, "redis.call(\'SET\', KEYS[1], 1) return '
                             f'ARGV[1]", "1", "k:{{{{ id }}}}", "{{{{ fill }}}}"], '
                             f'tls: {{ca: "{certificates}/ca.crt"}}', f"count: {n}, rate: 200, size: 200000"))
    while r.alive:
        server.client().client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.2)
    r.wait()
    assert server.client().dbsize() == n and dead(weir) == []


def test_tls_client_certificate(weir, tls_redis, certificates):
    server = tls_redis("server", "yes")
    weir.write(lines(events(20)), "in.ndjson")
    c = certificates
    weir.run(pipeline(server.tls_url,
                      f'{SET}, tls: {{ca: "{c}/ca.crt", cert: "{c}/client.crt", key: "{c}/client.key"}}'))
    assert server.client().dbsize() == 20
    r = weir.start(pipeline(server.tls_url, f'{SET}, tls: {{ca: "{c}/ca.crt"}}',
                            more="shutdown_timeout: 1s"))
    wait_until(lambda: "certificate required" in r.stderr or "connection_lost" in r.stderr
               or "handshake failure" in r.stderr, 15, lambda: r.report())
    r.stop(expect=None)


@pytest.mark.parametrize("name, tls, message", [
    ("server", "", "self-signed certificate in certificate chain"),
    ("server", 'ca: "{c}/other.crt"', "self-signed certificate in certificate chain"),
    ("stranger", 'ca: "{c}/ca.crt"', "IP address mismatch"),
    ("over", 'ca: "{c}/ca.crt"', "certificate has expired"),
    ("server", 'ca: "{c}/ca.crt", server_name: redis.internal', "ostname mismatch"),
])
def test_tls_verifies(weir, tls_redis, certificates, name, tls, message):
    server = tls_redis(name)
    weir.write(lines(events(20)), "in.ndjson")
    r = weir.start(pipeline(server.tls_url, f"{SET}, tls: {{{tls.format(c=certificates)}}}",
                            more="shutdown_timeout: 1s"))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type="tls_failed")
    wait_until(lambda: message in r.stderr, 10, lambda: r.report())
    r.stop(expect=None)
    assert server.client().dbsize() == 0 and dead(weir) == []


def test_tls_names(weir, tls_redis, certificates):
    server = tls_redis("stranger")
    weir.write(lines(events(20)), "in.ndjson")
    weir.run(pipeline(server.tls_url, f'{SET}, tls: {{ca: "{certificates}/ca.crt", '
                                      "server_name: redis.internal}"))
    assert server.client().dbsize() == 20
    checked = weir.check(pipeline(server.tls_url, f"{SET}, tls: {{insecure_skip_verify: true}}"))
    assert "not verified" in checked.text
    weir.run(pipeline(server.tls_url, 'set: {key: "v:{{ id }}"}, tls: {insecure_skip_verify: true}'))
    assert server.client().dbsize() == 40


def test_tls_where_there_is_none_and_none_where_there_is(weir, own_redis, tls_redis, certificates):
    plain, server = own_redis(), tls_redis()
    weir.write(lines(events(5)), "in.ndjson")
    for url, codes in ((plain.url.replace("redis:", "rediss:"), ("tls_failed", "connect_timeout")),
                       (server.tls_url.replace("rediss:", "redis:"), ("protocol", "connection_lost"))):
        tls = f'tls: {{ca: "{certificates}/ca.crt"}}, ' if url.startswith("rediss") else ""
        r = weir.start(pipeline(url, f"{SET}, {tls}connect_timeout: 1s", more="shutdown_timeout: 1s"))
        wait_until(lambda: any(f'"code":"{code}"' in r.stderr for code in codes), 15, lambda: r.report())
        r.stop(expect=None)


def test_tls_lookup_with_an_acl_user(weir, tls_redis, certificates):
    server = tls_redis()
    server.client().acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["%R~user:*"],
                                commands=["+get", "+auth"], reset=True)
    server.client().set("user:a", "1")
    weir.write(lines([{"u": "a"}, {"u": "b"}]), "in.ndjson")
    weir.run(lookup(server.tls_url, f'key: "user:{{{{ u }}}}", target: t, user: reader, password: pw, '
                                    f'tls: {{ca: "{certificates}/ca.crt"}}'))
    assert output(weir) == [{"u": "a", "t": "1"}, {"u": "b"}]


@pytest.mark.parametrize("url, tls, path, message", [
    ("redis://h", 'ca: "{c}/ca.crt"', "tls", "begins with rediss://"),
    ("redis://h", "insecure_skip_verify: true", "tls", "begins with rediss://"),
    ("rediss://h", 'ca: "{c}/none.crt"', "tls.ca", "No such file"),
    ("rediss://h", 'ca: "{c}/ca.key"', "tls.ca", "certificates to trust"),
    ("rediss://h", 'cert: "{c}/client.crt"', "tls.cert", "`key` is missing"),
    ("rediss://h", 'key: "{c}/client.key"', "tls.key", "`cert` is missing"),
    ("rediss://h", 'cert: "{c}/client.crt", key: "{c}/server.key"', "tls.key", "mismatch"),
    ("rediss://h", 'cert: "{c}/client.crt", key: "{c}/locked.key"', "tls.key", "cannot use"),
    ("rediss://h", 'cert: "{c}/client.key", key: "{c}/client.key"', "tls.cert", "cannot use"),
    ("rediss://h", 'ca: "{c}/ca.crt", insecure_skip_verify: true', "tls.ca", "no use"),
    ("rediss://h", "insecure_skip_verify: perhaps", "tls.insecure_skip_verify", "true"),
    ("rediss://h", "certificate: x", "tls.certificate", "cert"),
])
def test_wrong_tls_options(weir, certificates, url, tls, path, message):
    checked = weir.check(pipeline(url, f"{SET}, tls: {{{tls.format(c=certificates)}}}"), expect=1)
    assert f"at sinks.out.{path}\n" in checked.text and message in checked.text, checked
    checked = weir.check(lookup(url, f'key: k, target: t, tls: {{{tls.format(c=certificates)}}}'),
                         expect=1)
    assert f"at transforms.find.{path}\n" in checked.text and message in checked.text, checked


# ---- Sentinel ---------------------------------------------------------------------------------

class Sentinels:
    """A master, a replica, and three Sentinels that fail over within seconds."""

    def __init__(self, own_redis, folder):
        self.servers = [own_redis(), own_redis()]
        self.servers[1].client().replicaof("127.0.0.1", self.servers[0].port)
        wait_until(lambda: self.servers[1].client().info("replication")["master_link_status"] == "up", 20)
        self.sentinels = []
        for i in range(3):
            port = free_port()
            config = folder / f"sentinel-{i}.conf"
            config.write_text(f"""\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor mymaster 127.0.0.1 {self.servers[0].port} 2
sentinel down-after-milliseconds mymaster 800
sentinel failover-timeout mymaster 3000
""")
            process = subprocess.Popen(["redis-server", str(config), "--sentinel"],
                                       stdout=subprocess.DEVNULL)
            self.sentinels.append((port, process))
        for port, _ in self.sentinels:
            wait_until(lambda: self.others(port) == 2, 30)

    @staticmethod
    def client(port, **options):
        return redis_client.Redis(port=port, decode_responses=True, **options)

    def others(self, port):
        try:
            return int(self.client(port).sentinel_master("mymaster")["num-other-sentinels"])
        except Exception:  # noqa: BLE001
            return -1

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.sentinels[0][0]}"

    @property
    def nodes(self):
        return "[" + ", ".join(f"127.0.0.1:{port}" for port, _ in self.sentinels[1:]) + "]"

    def stop(self):
        for _, process in self.sentinels:
            process.kill()
            process.wait()


@pytest.fixture
def sentinels(own_redis, tmp_path):
    group = Sentinels(own_redis, tmp_path)
    yield group
    group.stop()


SENTINEL = "sentinel: {master: mymaster}"


@pytest.mark.long(25)
@pytest.mark.sanitize
def test_sentinel_failover(weir, sentinels):
    master, replica = sentinels.servers
    options = f"{SENTINEL}, nodes: {sentinels.nodes}"
    r = weir.start(generated(sentinels.url, f'set: {{key: "e:{{{{ id }}}}", value: "{{{{ seq }}}}"}}, '
                                            f"timeout: 1s, {options}", "count: 30000, rate: 3000"))
    r.wait_metric("weir_component_sent_events_total", 3000, component="out")
    # Nothing is lost that the replica has not yet: what is written from here on waits.
    master.client().config_set("min-replicas-to-write", 2)
    r.wait_metric("weir_component_errors_total", 1, component="out", error_type="noreplicas")
    wait_until(lambda: replica.client().dbsize() == master.client().dbsize(), 10)
    sentinels.sentinels[0][1].kill()  # the one that is asked first
    master.kill()
    wait_until(lambda: replica.client().info("replication")["role"] == "master", 60)
    r.wait(timeout=90)
    assert replica.client().dbsize() == 30_000 and dead(weir) == []


@pytest.mark.long(15)
def test_sentinel_lookup_over_a_failover(weir, sentinels):
    master, replica = sentinels.servers
    master.client().mset({f"user:u{i:08}": f"plan-{i}" for i in range(50)})
    wait_until(lambda: replica.client().dbsize() == 50, 10)
    r = weir.start(lookup(sentinels.url, f'key: "user:{{{{ user_id }}}}", target: t, timeout: 500ms, '
                          f"cache: {{entries: 0}}, {SENTINEL}, nodes: {sentinels.nodes}",
                          "{type: generate, count: 6000, rate: 1500, users: 50}"))
    r.wait_metric("weir_component_sent_events_total", 1000, component="out")
    master.kill()
    r.wait(timeout=90)
    assert len(output(weir)) == 6000 and dead(weir) == []
    assert all(event["t"] == f"plan-{int(event['user_id'][1:])}" for event in output(weir))


def test_sentinels_that_know_no_such_master(weir, sentinels):
    weir.write(lines(events(5)), "in.ndjson")
    r = weir.start(pipeline(sentinels.url, f"{SET}, sentinel: {{master: other}}",
                            more="shutdown_timeout: 1s"))
    wait_until(lambda: 'knows no master' in r.stderr, 10, lambda: r.report())
    r.stop(expect=None)


def test_a_server_that_is_no_sentinel(weir, own_redis):
    weir.write(lines(events(5)), "in.ndjson")
    r = weir.start(pipeline(own_redis().url, f"{SET}, {SENTINEL}", more="shutdown_timeout: 1s"))
    wait_until(lambda: "does not say where the servers are" in r.stderr, 10, lambda: r.report())
    r.stop(expect=None)


# What Sentinels and nodes of a cluster may say instead of addresses.
HOSTILE_ADDRESSES = {
    "status": b"+OK\r\n",
    "empty": b"*0\r\n",
    "numbers": b"*2\r\n:1\r\n:2\r\n",
    "port 0": b"*2\r\n$1\r\nh\r\n$1\r\n0\r\n",
    "port 99999": b"*2\r\n$1\r\nh\r\n$5\r\n99999\r\n",
    "long host": b"*2\r\n$300\r\n" + b"h" * 300 + b"\r\n$1\r\n1\r\n",
    "nul in the host": b"*2\r\n$3\r\na\0b\r\n$1\r\n1\r\n",
    "nested": b"*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n",
    "slot -1": b"*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$1\r\nh\r\n:1\r\n",
    "slot 16384": b"*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
    "backwards": b"*1\r\n*3\r\n:9\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n",
    "no node": b"*1\r\n*2\r\n:0\r\n:16383\r\n",
    "half a node": b"*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n$1\r\nh\r\n",
    "error": b"-ERR no\r\n",
    "silence": b"",
}


@pytest.mark.parametrize("how", ["cluster: true", SENTINEL], ids=["cluster", "sentinel"])
@pytest.mark.parametrize("name", HOSTILE_ADDRESSES)
def test_hostile_addresses(weir, name, how):
    impostor = Impostor(HOSTILE_ADDRESSES[name], login=b"+OK\r\n")
    options = f"connect_timeout: 300ms, {how}"
    weir.run(lookup(impostor.url, f'key: "k:{{{{ user_id }}}}", target: t, timeout: 300ms, '
                    f"on_unavailable: pass, {options}", "{type: generate, count: 50}"))
    assert len(output(weir)) == 50
    text = generated(impostor.url, f"{SET}, timeout: 500ms, {options}, inputs: [in]", "count: 50",
                     more="shutdown_timeout: 1s")
    r = weir.start(text.replace("  dead:", "  copy: {type: file, path: copy.ndjson, inputs: [in]}\n"
                                           "  dead:"))
    r.wait_metric("weir_component_errors_total", 1, component="out")
    wait_until(lambda: (weir.folder / "copy.ndjson").read_bytes().count(b"\n") == 50, 10)
    r.stop(expect=None, timeout=20)
    assert dead(weir) == []


class Liar(Impostor):
    """Calls itself a Sentinel, and always names the same master."""

    def __init__(self, port, tls=None):
        text = b"%d" % port
        super().__init__(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(text), text),
                         login=b"+OK\r\n", tls=tls)
        self.address = self.url.partition("//")[2]


def server_side(certificates, name="server"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    return context


def test_tls_with_a_sentinel_and_the_master_that_it_names(weir, tls_redis, certificates):
    server, stranger = tls_redis(), tls_redis("stranger")
    options = f'{SET}, {SENTINEL}, tls: {{ca: "{certificates}/ca.crt"}}'
    weir.write(lines(events(20)), "in.ndjson")
    weir.run(pipeline(Liar(server.tls_port_number, server_side(certificates)).url, options))
    assert server.client().dbsize() == 20 and dead(weir) == []
    # Each of the two has to show a certificate of its own.
    for url in (Liar(stranger.tls_port_number, server_side(certificates)).url,
                Liar(server.tls_port_number, server_side(certificates, "stranger")).url):
        r = weir.start(pipeline(url, options, more="shutdown_timeout: 1s"))
        r.wait_metric("weir_component_errors_total", 2, component="out", error_type="tls_failed")
        wait_until(lambda: "IP address mismatch" in r.stderr, 10, lambda: r.report())
        r.stop(expect=None)
    assert stranger.client().dbsize() == 0


def test_tls_in_a_cluster(weir, own_redis, certificates):
    c = certificates
    cluster = Cluster(own_redis, args=lambda: (
        "--tls-cluster", "yes", "--tls-port", str(free_port()), "--tls-cert-file", f"{c}/server.crt",
        "--tls-key-file", f"{c}/server.key", "--tls-ca-cert-file", f"{c}/ca.crt",
        "--tls-auth-clients", "no"))
    port = cluster.nodes[1].client().config_get("tls-port")["tls-port"]
    tls = f'cluster: true, tls: {{ca: "{c}/ca.crt"}}'
    made = events(300)
    weir.write(lines(made), "in.ndjson")
    weir.run(pipeline(f"rediss://127.0.0.1:{port}", f"{SET}, {tls}"))
    assert dead(weir) == [] and cluster.size() == 300
    assert all(node.client().dbsize() > 0 for node in cluster.masters)
    weir.run(lookup(f"rediss://127.0.0.1:{port}", f'key: "k:{{{{ id }}}}", target: t, parse: json, {tls}'))
    assert [event.pop("t") for event in output(weir)] == made


@pytest.mark.parametrize("what", ["dead", "replica"])
def test_a_sentinel_that_is_wrong_is_not_the_last_word(weir, own_redis, what):
    master = own_redis()
    if what == "dead":
        wrong = free_port()
    else:
        replica = own_redis()
        replica.client().replicaof("127.0.0.1", master.port)
        wrong = replica.port
    options = f"{SENTINEL}, nodes: [{Liar(master.port).address}]"
    url = Liar(wrong).url
    weir.write(lines(events(50)), "in.ndjson")
    r = weir.run(pipeline(url, f"{SET}, {options}"))
    assert master.client().dbsize() == 50 and dead(weir) == []
    assert "connect_failed" in r.stderr if what == "dead" else 'it says it is \\"slave\\"' in r.stderr
    master.client().set("user:a", "1")
    weir.write(lines([{"u": "a"}]), "in.ndjson")
    weir.run(lookup(url, f'key: "user:{{{{ u }}}}", target: t, {options}'))
    assert output(weir) == [{"u": "a", "t": "1"}]


def test_dead_sentinels_are_passed_over_at_once(weir, own_redis):
    """However long connecting may take: nobody listens there, or there is no way there."""
    server = own_redis()
    server.client().set("user:a", "1")
    away = f"255.255.255.255:1, 255.255.255.255:2, 127.0.0.1:{free_port()}"
    options = f"{SENTINEL}, nodes: [{away}, {Liar(server.port).address}], connect_timeout: 10m"
    weir.write(lines([{"u": "a"}]), "in.ndjson")
    weir.run(lookup(f"redis://127.0.0.1:{free_port()}", f'key: "user:{{{{ u }}}}", target: t, {options}'))
    assert output(weir) == [{"u": "a", "t": "1"}]


@pytest.mark.parametrize("how", ["cluster: true", SENTINEL], ids=["cluster", "sentinel"])
def test_lookups_pass_while_nobody_says_where_the_servers_are(weir, how):
    """`timeout` holds for that as well, not `connect_timeout` alone."""
    silent = Impostor(b"")
    weir.run(lookup(silent.url, f'key: "k:{{{{ user_id }}}}", target: t, timeout: 100ms, {how}, '
                    "on_unavailable: pass, connect_timeout: 10m", "{type: generate, count: 50}"))
    assert len(output(weir)) == 50


@pytest.fixture
def locked_sentinel(own_redis, tmp_path):
    """One Sentinel with a password and an ACL user, over a master with another password."""
    master = own_redis("--requirepass", "mast3r")
    master.admin = master.client(password="mast3r")
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"""\
port {port}
bind 127.0.0.1
dir {tmp_path}
requirepass s3ntinel
user watcher on >w4tch +@all
sentinel monitor mymaster 127.0.0.1 {master.port} 1
sentinel auth-pass mymaster mast3r
""")
    process = subprocess.Popen(["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL)

    def answers():
        try:
            return Sentinels.client(port, password="s3ntinel").ping()
        except redis_client.ConnectionError:
            return False

    wait_until(answers, 20)
    yield f"redis://127.0.0.1:{port}", master
    process.kill()
    process.wait()


@pytest.mark.parametrize("login", ["password: s3ntinel", "user: watcher, password: w4tch"])
def test_a_sentinel_has_a_login_of_its_own(weir, locked_sentinel, login):
    url, master = locked_sentinel
    weir.write(lines(events(20)), "in.ndjson")
    weir.run(pipeline(url, f"{SET}, password: mast3r, sentinel: {{master: mymaster, {login}}}"))
    assert master.admin.dbsize() == 20 and dead(weir) == []


@pytest.mark.parametrize("login, code", [("", "noauth"), (", password: wr0ngpw", "wrongpass")])
def test_a_sentinel_that_refuses_the_login(weir, locked_sentinel, login, code):
    url, master = locked_sentinel
    weir.write(lines(events(5)), "in.ndjson")
    r = weir.start(pipeline(url, f"{SET}, password: mast3r, sentinel: {{master: mymaster{login}}}",
                            more="shutdown_timeout: 1s"))
    r.wait_metric("weir_component_errors_total", 2, component="out", error_type=code)
    assert "wr0ngpw" not in r.stderr
    r.stop(expect=None)
    assert master.admin.dbsize() == 0


@pytest.mark.parametrize("options, path, message", [
    ("sentinel: {}", "sentinel.master", "missing"),
    ('sentinel: {master: ""}', "sentinel.master", ""),
    ("sentinel: mymaster", "sentinel", ""),
    ("sentinel: {master: m, user: u}", "sentinel.user", "needs a `password`"),
    ("sentinel: {master: m}, cluster: true", "sentinel", "leave `sentinel` or `cluster` out"),
    ("sentinel: {master: m, pasword: x}", "sentinel.pasword", "did you mean"),
])
def test_wrong_sentinel_options(weir, options, path, message):
    checked = weir.check(pipeline("redis://h", f"{SET}, {options}"), expect=1)
    assert f"at sinks.out.{path}\n" in checked.text and message in checked.text, checked
