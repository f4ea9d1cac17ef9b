# SPDX-License-Identifier: Apache-2.0
"""The source `http` and the HTTP clients that people use: curl, Python's requests, httpx and aiohttp, Go's net/http,
Node's fetch, Java's java.net.http. Each sends the same things, plain and over TLS."""
import asyncio
import concurrent.futures
import gzip
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from http_edge import Edge
from test_http_source_tls import authority, certificate

CLIENTS = Path(__file__).parent / "clients"
TOKEN = "token-token-token-1"
JSON = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
LARGE = json.dumps("x" * (3 << 20)).encode()

# What a client sends: its name, the body, headers, the status.
SENDS = [
    ("object", b'{"from":"object"}', {}, 200),
    ("array", b'[{"from":"array"},{"from":"array"}]', {}, 200),
    ("gzip", gzip.compress(b'[{"from":"gzip"}]'), {"Content-Encoding": "gzip"}, 200),
    ("bad", b'{"from":', {}, 400),
    ("token", b"{}", {"Authorization": "Bearer nobody"}, 401),
    ("large", LARGE, {}, 413),
]
STATUSES = {"object": 200, "array": 200, "stream": 200, "gzip": 200, "bad": 400, "token": 401, "large": 413}
KEPT = {"object": 1, "array": 2, "stream": 100, "gzip": 1, "row": 20, "many": 40}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority(folder, "ca")
    certificate(folder, "ca", "server")
    return folder


@pytest.fixture(params=["plain", "tls"])
def edge(request, weir, certificates):
    tls = f"\n    tls: {{cert: {certificates}/server.pem, key: {certificates}/server.key}}"
    e = Edge(weir, f"tokens: [{TOKEN}]\n    max_body: 1MiB{tls if request.param == 'tls' else ''}")
    e.ca = str(certificates / "ca.pem") if request.param == "tls" else None
    e.url = f"{'https' if e.ca else 'http'}://localhost:{e.port}/events"
    return e


def check(e, found, more=()):
    expected = {**STATUSES, **{name: 200 for name in more}}
    assert {name: status for name, status in found.items() if name in expected} == expected
    assert set(found) == set(expected), "every row and every one of many is answered 200"
    kept = [payload["from"] for payload in e.payloads()]
    assert {name: kept.count(name) for name in set(kept)} == {**KEPT, **{name: 1 for name in more}}


def stream():
    for n in range(100):
        yield b'{"from":"stream","n":%d}\n' % n


def numbered(name, n):
    return json.dumps({"from": name, "n": n}).encode()


# ---- Python ----------------------------------------------------------------------------------------

def test_requests(edge):
    with requests.Session() as session:
        def send(body, headers=None):
            return session.post(edge.url, body, headers={**JSON, **(headers or {})}, timeout=30,
                                verify=edge.ca or True).status_code

        found = {name: send(body, headers) for name, body, headers, _ in SENDS}
        found["stream"] = send(stream(), {"Content-Type": "application/x-ndjson"})
        for n in range(20):
            assert send(numbered("row", n)) == 200
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda n: send(numbered("many", n)), range(40))) == {200}
    check(edge, found)


def test_httpx(edge):
    verify = ssl.create_default_context(cafile=edge.ca) if edge.ca else True
    with httpx.Client(verify=verify, timeout=30) as client:

        def send(body, headers=None):
            return client.post(edge.url, content=body, headers={**JSON, **(headers or {})}).status_code

        found = {name: send(body, headers) for name, body, headers, _ in SENDS}
        found["stream"] = send(stream(), {"Content-Type": "application/x-ndjson"})
        for n in range(20):
            assert send(numbered("row", n)) == 200
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda n: send(numbered("many", n)), range(40))) == {200}
    check(edge, found)


def test_aiohttp(edge):
    async def pieces():
        for piece in stream():
            yield piece

    async def run():
        context = ssl.create_default_context(cafile=edge.ca) if edge.ca else None
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context or True)) as session:

            async def send(body, headers=None, **more):
                async with session.post(edge.url, data=body, headers={**JSON, **(headers or {})}, **more) as answer:
                    await answer.read()
                    return answer.status

            found = {name: await send(body, headers) for name, body, headers, _ in SENDS}
            found["stream"] = await send(pieces(), {"Content-Type": "application/x-ndjson"})
            found["expect"] = await send(b'{"from":"expect"}', expect100=True)
            for n in range(20):
                assert await send(numbered("row", n)) == 200
            assert set(await asyncio.gather(*(send(numbered("many", n)) for n in range(40)))) == {200}
            return found

    check(edge, asyncio.run(asyncio.wait_for(run(), 60)), ["expect"])


# ---- curl --------------------------------------------------------------------------------------------

def test_curl(edge, tmp_path):
    def send(body, headers=None, *more):
        (tmp_path / "body").write_bytes(body)
        options = [x for k, v in {**JSON, **(headers or {})}.items() for x in ("-H", f"{k}: {v}")]
        done = subprocess.run(["curl", "-sS", "-o", tmp_path / "answer", "-w", "%{http_code}\n", *options,
                               *(["--cacert", edge.ca] if edge.ca else []), "--data-binary",
                               f"@{tmp_path}/body", *more, *([] if "--next" in more else [edge.url])],
                              capture_output=True, text=True, timeout=60)
        return {int(line) for line in done.stdout.split()}

    found = {name: send(body, headers).pop() for name, body, headers, _ in SENDS}
    found["stream"] = send(b"".join(stream()), {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
                           ).pop()
    found["expect"] = send(b'{"from":"expect"}', {"Expect": "100-continue"}).pop()
    for n in range(20):
        assert send(numbered("row", n), {}, *["--http1.0"] * (n % 2)) == {200}
    (tmp_path / "many").write_text("".join(
        f'url = "{edge.url}"\ndata = "{{\\"from\\":\\"many\\",\\"n\\":{n}}}"\n'
        f'header = "Content-Type: application/json"\nheader = "Authorization: Bearer {TOKEN}"\n'
        f'output = "{tmp_path}/answer"\nwrite-out = "%{{http_code}}\\n"\n' + (f'cacert = "{edge.ca}"\n' if edge.ca else "") +
        ("next\n" if n < 39 else "") for n in range(40)))
    done = subprocess.run(["curl", "-sS", "--parallel", "-K", tmp_path / "many"], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout.split() == ["200"] * 40, done
    check(edge, found, ["expect"])


# ---- Other languages -------------------------------------------------------------------------------

def run(*command, cwd=None, **environment):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, cwd=cwd,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def needs(program, package):
    if shutil.which(program) is None:
        pytest.skip(f"no {program}: apt-get install {package} (scripts/setup --test does)")


@pytest.fixture(scope="module")
def go_client(tmp_path_factory):
    needs("go", "golang-go")
    folder = tmp_path_factory.mktemp("go")
    subprocess.run(["go", "build", "-o", folder / "client", CLIENTS / "client.go"], check=True, timeout=300,
                   env={**os.environ, "GO111MODULE": "off", "GOFLAGS": ""})
    return folder / "client"


@pytest.mark.long(30)
def test_go(edge, go_client):
    check(edge, run(go_client, edge.url, TOKEN, *([edge.ca] if edge.ca else [])), ["expect"])


def test_node(edge):
    needs("node", "nodejs")
    more = {"NODE_EXTRA_CA_CERTS": edge.ca} if edge.ca else {}
    check(edge, run("node", "--no-warnings", CLIENTS / "client.mjs", edge.url, TOKEN, **more), ["expect"])


@pytest.mark.long(15)
def test_java(edge, tmp_path):
    needs("javac", "default-jdk-headless")
    subprocess.run(["javac", "-d", tmp_path, CLIENTS / "Client.java"], check=True, timeout=120)
    check(edge, run("java", "-cp", tmp_path, "Client", edge.url, TOKEN, *([edge.ca] if edge.ca else [])), ["expect"])
